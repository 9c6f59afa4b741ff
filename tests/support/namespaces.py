"""Kernel namespaces for tests (namespaces(7)): nothing meant for one may reach the machine itself.

Every test that makes or enters a namespace does so here. Each command line ends in a check that
runs inside, immediately before the command: where a namespace is still the caller's own, which its
inode tells, the command is not run and the status is 125.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What unshare(1) and nsenter(1) call each kind; the keys are the names in /proc/PID/ns.
OPTIONS = {"mnt": "--mount", "net": "--net", "pid": "--pid", "uts": "--uts"}
REFUSED = 125  # status of a command that would have run in the caller's own namespace
# Arguments: the caller's namespaces ("net:[4026531840]"), "--", the command. /proc/self is that of
# readlink, which is in the same namespaces as the shell that starts it.
CHECK = """\
while [ "$1" != -- ]; do
    there=$(readlink "/proc/self/ns/${1%%:*}")
    if [ -z "$there" ] || [ "$there" = "$1" ]; then
        echo "tests: this is the caller's own namespace $1; the command was not run" >&2
        exit 125
    fi
    shift
done
shift
exec "$@"
"""


class OwnNamespace(RuntimeError):
    """A namespace that should be a new one is the caller's own."""


def apart(*argv: str, kinds: tuple[str, ...] = ("mnt",), uid: int = 0) -> list[str]:
    """The command line that runs ``argv`` in new namespaces of these kinds (unshare(1)).

    Mounts in a new ``mnt`` do not reach the machine; all that runs in a new ``pid`` ends with it.
    Who is not root is root in a user namespace; ``uid`` is for root to be such a user.
    """
    options = [OPTIONS[kind] for kind in kinds]
    if "pid" in kinds:
        options += ["--fork", "--kill-child=SIGKILL"]
        options += ["--mount-proc"] if "mnt" in kinds else []
    if os.geteuid() != 0 or uid:
        options += ["--user", "--map-root-user"]
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    return [*user, "unshare", *options, *_checked(kinds, argv)]


def inside(name: str, *argv: str) -> list[str]:
    """The command line that runs ``argv`` in a network namespace that ``add`` made. Each command
    gets a mount namespace too, whose mounts do not reach the machine (ip-netns(8))."""
    return ["ip", "netns", "exec", name, *_checked(("net", "mnt"), argv)]


def add(name: str) -> None:
    """Make a network namespace that lasts until ``remove``. Raises CalledProcessError."""
    _netns("add", name)
    if os.path.samefile(Path("/run/netns", name), "/proc/self/ns/net"):
        remove(name)
        raise OwnNamespace(f"the network namespace {name} is that of this process")


def remove(name: str) -> None:
    """Undo ``add``. Raises CalledProcessError."""
    _netns("del", name)


def entering(pid: int, *argv: str, kinds: tuple[str, ...] = ("net",)) -> list[str]:
    """The command line that runs ``argv`` in another process's namespaces (nsenter(1))."""
    options = (OPTIONS[kind] for kind in kinds)
    return ["nsenter", "--target", str(pid), *options, *_checked(kinds, argv)]


def sandboxed(hostname: str, *options: str) -> list[str]:
    """The command line of bwrap(1), which ends in a command: mounts, processes and host name are
    its own, and its environment is empty. The network is the caller's. It ends with its parent."""
    apart = ("--unshare-pid", "--unshare-uts", "--hostname", hostname)
    return ["bwrap", "--die-with-parent", *apart, "--clearenv", *options]


@contextmanager
def network() -> Iterator[Callable[..., list[str]]]:
    """A network namespace that ends with the block; gives what makes the command line that runs a
    command inside. Raises OwnNamespace."""
    hold = apart("sh", "-c", "echo made; exec cat", kinds=("net",))
    # It ends when its standard input is closed, so also where the test process is killed.
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        # unshare(1) has a process number before it has the namespace; this line comes after both.
        if holder.stdout.readline() != b"made\n":
            raise OwnNamespace("no network namespace could be made; the reason stands above")
        yield lambda *argv: entering(holder.pid, *argv)


def _checked(kinds: tuple[str, ...], argv: tuple[str, ...]) -> list[str]:
    own = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    return ["sh", "-c", CHECK, "check", *own, "--", *argv]


def _netns(verb: str, name: str) -> None:
    command = ["ip", "netns", verb, name]
    subprocess.run(command, check=True, capture_output=True, timeout=10)
