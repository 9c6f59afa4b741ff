"""Runs the programs that work on images: mtools, e2fsprogs and others of the user's computer.

Those that read or write what a stranger made have a sandbox, see ``sandbox.native_tool``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from nodeagent.errors import CommandFailed, ToolMissing
from nodeagent.imaging import sandbox

# All of the user's own programs that are given a stranger's bytes: ``start`` alone runs them
# (tests/unit/imaging/test_confined.py looks for others).
ON_STRANGERS_BYTES = frozenset({
    "mcopy", "mdir", "mmd", "mtype", "mke2fs", "debugfs", "e2fsck", "fuse2fs", "sfdisk", "tar",
})  # fmt: skip

PACKAGES = {
    **dict.fromkeys(("mcopy", "mdir", "mmd", "mtype"), "mtools"),
    **dict.fromkeys(("mke2fs", "debugfs", "e2fsck"), "e2fsprogs"),
    "sfdisk": "fdisk",
    **dict.fromkeys(("unshare", "prlimit"), "util-linux"),
    "bwrap": "bubblewrap",
}
SECONDS = 600  # for one command; a slow card takes its time
MOST = 256 * 1024**2  # bytes that a command may answer: more than any kernel has
BEYOND = 128 + signal.SIGXFSZ  # status of one that wrote more, as a shell and bwrap(1) say it
# Where Debian keeps programs that are not only for root (sfdisk, mke2fs).
MORE = ":/usr/sbin:/sbin"
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# mtools refuses disks whose size is no multiple of a track (mtools(1), mtools_skip_check), which
# partitions of today are not; a configuration of the user's own must not change what it does.
ENVIRONMENT = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(*argv: str, seconds: float = SECONDS) -> bytes:
    """What a command of the user's own answers that looks into nothing of a stranger's.

    Raises ToolMissing, and CommandFailed where it ends with another status than 0.
    """
    assert argv[0] not in ON_STRANGERS_BYTES, argv
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, env=environment(),
            timeout=seconds, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise failed(argv, -signal.SIGKILL, _late(seconds)) from error
    if done.returncode:
        raise failed(argv, done.returncode, done.stderr)
    return done.stdout


def confined(
    *argv: str,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    rights: Sequence[str] = (),
    stdin: bytes = b"",
    first: int | None = None,
    largest: int = MOST,
    seconds: float = SECONDS,
) -> bytes:
    """What a program answers that works on a stranger's bytes: it sees these files and folders and
    no others of the user's. Paths are absolute, without links.

    With ``first``, that many bytes of its answer at most. ``largest`` is for files it writes;
    ``rights``, ``reads`` and ``writes`` are those of ``sandbox.native_tool``. Raises ToolMissing,
    and CommandFailed where it ends with another status than 0, not in time, or says too much.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        process = start(
            argv, stdin=given, stdout=out, stderr=err, reads=reads, writes=writes, rights=rights,
            largest=largest if first is None else first, seconds=seconds,
        )  # fmt: skip
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise failed(argv, -signal.SIGKILL, _late(seconds)) from error
        out.seek(0)
        if first is not None and status in (0, BEYOND):
            return out.read(first)
        if status:
            err.seek(0)
            raise failed(argv, status, err.read(MOST))
        return out.read()


def start(
    argv: Sequence[str],
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    rights: Sequence[str] = (),
    largest: int = MOST,
    seconds: float = SECONDS,
    mounts: bool = False,
    more: Sequence[str] = (),
    open_files: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Begin what ``confined`` does. ``mounts``: it may mount what it sees there. ``more`` are
    options of bwrap's, ``open_files`` the files that they name by number. Raises ToolMissing.
    """
    program = shutil.which(argv[0], path=environment()["PATH"])
    if program is None:
        raise missing(argv[0])
    line, held = [program, *argv[1:]], list(open_files)
    if without_sandbox() is None:
        seccomp = sandbox.filter_file("any" if mounts else "none")
        if seccomp is not None:
            held.append(seccomp)
        line = sandbox.native_tool(
            line, reads, writes, rights, largest, int(seconds), seccomp, more
        )  # fmt: skip
    try:
        return subprocess.Popen(
            line, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=held,
            env=environment() if without_sandbox() else {**ENVIRONMENT, "PATH": SYSTEM_PATH},
        )  # fmt: skip
    finally:
        for descriptor in held[len(open_files) :]:
            os.close(descriptor)


def pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Both ends of a pipe(2), to read and to write, without buffers; closed with the stack."""
    reader, writer = os.pipe()
    return (
        stack.enter_context(os.fdopen(reader, "rb", buffering=0)),
        stack.enter_context(os.fdopen(writer, "wb", buffering=0)),
    )


@functools.cache
def without_sandbox() -> str | None:
    """Why this computer gives the programs no sandbox; None where it does.

    Raises ToolMissing where that can be mended by installing a package.
    """
    if not sys.platform.startswith("linux"):
        return "bubblewrap, which would be it, is for Linux only"
    need("bwrap", "prlimit")
    tried = subprocess.run(
        sandbox.native_tool(["/bin/true"], (), (), (), 0, 10, None),
        stdin=subprocess.DEVNULL, capture_output=True, env={"PATH": SYSTEM_PATH}, check=False,
    )  # fmt: skip
    return (
        tried.stderr.decode(errors="replace").strip() or "it failed" if tried.returncode else None
    )


def _late(seconds: float) -> bytes:
    return f"no end within {seconds:.0f} s".encode()


def environment() -> dict[str, str]:
    """In which commands run."""
    return {**os.environ, **ENVIRONMENT, "PATH": os.environ.get("PATH", "") + MORE}


def need(*programs: str) -> None:
    """Raises ToolMissing for the first program that is not there."""
    for program in programs:
        if shutil.which(program, path=environment()["PATH"]) is None:
            raise missing(program)


def need_sandbox() -> None:
    """Raises ToolMissing where there is none, for what is not done without."""
    reason = without_sandbox()
    if reason:
        raise ToolMissing(
            f"This computer does not let bubblewrap keep strangers' bytes apart: {reason}.",
            "Run the command with sudo; in a container, outside of it.",
        )


def notes() -> list[str]:
    """For people, after work that was done without a sandbox."""
    reason = without_sandbox()
    if reason is None:
        return []
    note = (
        f"Note: the programs that read the image had no sandbox ({reason}). Without one, seed only"
        " images whose publisher you trust, or a mounted card; docs/images.md tells more."
    )
    return [note]


def missing(program: str) -> ToolMissing:
    """The error for a program that is not there."""
    package = PACKAGES.get(program, program)
    brew = f" (on macOS: brew install {package})" if package == "mtools" else ""
    return ToolMissing(
        f"{program} is not installed on this computer.",
        f"Install it with: sudo apt-get install {package}{brew}",
    )


def failed(argv: Sequence[str], status: int, said: bytes) -> CommandFailed:
    """The error of a command, with the last of what it said."""
    lines = said.decode(errors="replace").strip().splitlines()
    return CommandFailed(
        f"`{' '.join(argv)}` ended with status {status}: {' / '.join(lines[-3:]) or 'no word'}.",
        "The image was left as it was. If it is damaged, download it again.",
    )
