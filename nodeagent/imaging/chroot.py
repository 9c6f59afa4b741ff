"""The system of an image in a folder, with its programs running but none of its services.

Everything here happens in a mount and process namespace of its own (unshare(1)), so nothing stays
mounted or running however it ends. The image's programs, which are a stranger's, run in a sandbox
inside of that, see ``sandbox``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from nodeagent import paths
from nodeagent.errors import CommandFailed, ImageError, ToolMissing
from nodeagent.host.host import ENVIRONMENT, Host, Result, run_process
from nodeagent.imaging import road, sandbox, tools

# Package scripts start no service then (invoke-rc.d(8); Debian policy 9.3.3.2).
POLICY, REFUSE = "/usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n"
CHOWN = ": >/run/owned && chown 1:1 /run/owned; rm -f /run/owned"
SOCKET = "/run/containerd/containerd.sock"
START_SECONDS = 120.0  # for containerd; emulated, it takes half a minute


def is_root() -> bool:
    """True for the computer's own root, False for a user who is root in a namespace of one's own
    (user_namespaces(7): the first line maps user 0 to itself)."""
    return Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]


@contextlib.contextmanager
def entered(root: Path) -> Iterator[Host]:
    """The system below ``root`` as a Host that runs its programs. Afterwards nothing of it is
    mounted, and what was there only for them is gone.

    Raises ToolMissing where this computer cannot run its programs, ImageError, CommandFailed,
    OSError.
    """

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nodeagent-")))
        seccomp = _seccomp(folder, "none")

        def run(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
            return run_process(sandbox.image_program(root, seccomp, argv), timeout, stdin)

        host = Host(root, run, programs=True)

        def mount(where: Path, *argv: str) -> None:
            tools.run("mount", *argv, str(where))
            stack.callback(tools.run, "umount", "--recursive", "--lazy", str(where))

        for name in ("proc", "dev", "run", "tmp"):  # the sandbox mounts the first two
            if (root / name).is_symlink():
                raise ImageError(f"/{name} of the image is a link.", "Take a fresh image.")
            host.make_folder(f"/{name}")
        for name, mode in {"run": "755", "tmp": "1777"}.items():
            mount(host.path(f"/{name}"), "-t", "tmpfs", "-o", f"mode={mode},nosuid,nodev", "tmpfs")
        for name in (paths.RESOLV_CONF, paths.HOSTS):
            copy, there = _copy(name, folder), host.path(name)
            if there.is_relative_to(root / "run"):
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(copy.read_bytes())
                continue
            if not there.exists():
                there.touch()
                stack.callback(there.unlink)
            mount(there, "--bind", str(copy))
        if not host.exists(POLICY):
            host.write(POLICY, REFUSE, 0o755)
            stack.callback(host.remove, POLICY)
        _try(host)
        yield host


def _seccomp(folder: Path, mounts: Literal["none", "bind", "any"]) -> Path:
    """The filter for this computer's kind of processor, as a file in ``folder``."""
    path = folder / "seccomp"
    path.write_bytes(sandbox.filter_for(os.uname().machine, mounts))
    return path


def _copy(name: str, folder: Path) -> Path:
    """A file of this computer's as the image may have it: root in there could write to it."""
    copy, text = folder / Path(name).name, Path(name).read_text()
    copy.write_text(road.resolver(text) if name == paths.RESOLV_CONF else text)
    copy.chmod(0o644)
    return copy


def _try(host: Host) -> None:
    result = host.run("true")
    if result.err.startswith("bwrap:"):
        raise ToolMissing(
            f"This computer does not let bubblewrap keep the image's programs apart:"
            f" {result.err.strip()}.",
            "Run the command with sudo; in a container, outside of it.",
        )
    if "Exec format error" in result.err:
        raise ToolMissing(
            f"This computer ({os.uname().machine}) cannot run the programs of the image.",
            "Install the emulator with: sudo apt-get install qemu-user-static binfmt-support",
        )
    if result.status:
        raise CommandFailed(
            f"The image's programs cannot be run: {result.err.strip()}.", "Take a fresh image."
        )
    # AppArmor's profile for bubblewrap takes capabilities from what that runs, from root's too.
    if "Operation not permitted" in host.run("sh", "-c", CHOWN).err:
        raise ToolMissing(
            "The image's programs may not give files to their users: this computer takes that right"
            " from what bubblewrap runs, as AppArmor's profile bwrap-userns-restrict does.",
            "With that, unload it meanwhile:"
            " sudo apparmor_parser -R /etc/apparmor.d/bwrap-userns-restrict (and -r afterwards).",
        )


@contextlib.contextmanager
def containerd(host: Host, log: Path) -> Iterator[None]:
    """The image's containerd at work, to fill its store. Raises CommandFailed."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nodeagent-")))
        # As this computer's root it only shows a folder in another place to unpack a layer
        # (containerd, core/diff/apply); in a namespace of users what it mounts is its own.
        seccomp = _seccomp(folder, "bind" if is_root() else "any")
        alive, held = os.pipe()
        stack.callback(os.close, alive)
        more = ("--sync-fd", str(held))
        out = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            sandbox.image_program(host.root, seccomp, ("containerd",), *more, admin=True),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=ENVIRONMENT, pass_fds=[held],
        )  # fmt: skip
        os.close(held)
        stack.callback(os.read, alive, 1)  # returns once the last of it has ended
        stack.callback(_end, process)
        end = time.monotonic() + START_SECONDS
        while not host.exists(SOCKET):
            if process.poll() is not None or time.monotonic() > end:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise CommandFailed(
                    f"The image's containerd did not start: {' '.join(last)}",
                    "Bake it without --with-images; its nodes then fetch them.",
                )
            time.sleep(0.2)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
