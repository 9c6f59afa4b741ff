"""The system of an image in a folder, with its programs running but none of its services.

Everything here happens in a mount and process namespace of its own (unshare(1)), so nothing stays
mounted or running however it ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nodeagent import paths
from nodeagent.errors import CommandFailed, ToolMissing
from nodeagent.host.host import ENVIRONMENT, Host, Result, run_process
from nodeagent.imaging import tools

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2",
         "ptmx": "pts/ptmx"}  # fmt: skip
# Package scripts start no service then (invoke-rc.d(8); Debian policy 9.3.3.2).
POLICY, REFUSE = "/usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n"
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

    Raises ToolMissing where this computer cannot run its programs, CommandFailed, OSError.
    """

    def run(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        return run_process(("chroot", str(root), *argv), timeout, stdin)

    host = Host(root, run, programs=True)
    with contextlib.ExitStack() as stack:

        def mount(where: Path, *argv: str) -> None:
            tools.run("mount", *argv, str(where))
            stack.callback(tools.run, "umount", "--recursive", "--lazy", str(where))

        for folder, kind in {
            "proc": "proc",
            "run": "tmpfs",
            "tmp": "tmpfs",
            "dev": "tmpfs",
        }.items():
            (root / folder).mkdir(exist_ok=True)
            options = {"tmp": ["-o", "mode=1777"], "proc": []}.get(folder, ["-o", "mode=755"])
            mount(root / folder, "-t", kind, *options, kind)
        _devices(root / "dev")
        names = host.path(paths.RESOLV_CONF)
        if names.is_relative_to(root / "run"):
            names.parent.mkdir(parents=True)
            names.write_bytes(Path(paths.RESOLV_CONF).read_bytes())
        else:
            if not names.exists():
                names.touch()
                stack.callback(names.unlink)
            mount(names, "--bind", paths.RESOLV_CONF)
        mount(host.path(paths.HOSTS), "--bind", paths.HOSTS)
        if not host.exists(POLICY):
            host.write(POLICY, REFUSE, 0o755)
            stack.callback(host.remove, POLICY)
        _try(host)
        yield host


def _devices(dev: Path) -> None:
    """Only harmless ones: scripts of packages must not reach this computer's disks."""
    for name in DEVICES:
        (dev / name).touch()
        tools.run("mount", "--bind", f"/dev/{name}", str(dev / name))
    for name, target in LINKS.items():
        (dev / name).symlink_to(target)
    (dev / "shm").mkdir(mode=0o1777)
    (dev / "pts").mkdir()
    options = "newinstance,ptmxmode=0666,mode=0620"
    tools.run("mount", "-t", "devpts", "-o", options, "devpts", str(dev / "pts"))


def _try(host: Host) -> None:
    result = host.run("true")
    if "Exec format error" in result.err:
        raise ToolMissing(
            f"This computer ({os.uname().machine}) cannot run the programs of the image.",
            "Install the emulator with: sudo apt-get install qemu-user-static binfmt-support",
        )
    if result.status:
        raise CommandFailed(
            f"The image's programs cannot be run: {result.err.strip()}.", "Take a fresh image."
        )


@contextlib.contextmanager
def containerd(host: Host, log: Path) -> Iterator[None]:
    """The image's containerd at work, to fill its store. Raises CommandFailed."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ("chroot", str(host.root), "containerd"),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=ENVIRONMENT,
        )  # fmt: skip
    try:
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
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
