"""Runs the programs that work on images: mtools, e2fsprogs and others of the user's computer."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from nodeagent.errors import CommandFailed, ToolMissing

PACKAGES = {
    **dict.fromkeys(("mcopy", "mdir", "mmd", "mtype"), "mtools"),
    **dict.fromkeys(("mke2fs", "debugfs", "e2fsck"), "e2fsprogs"),
    "sfdisk": "fdisk",
    "unshare": "util-linux",
    "bwrap": "bubblewrap",
}
SECONDS = 600  # for one command; a slow card takes its time
# Where Debian keeps programs that are not only for root (sfdisk, mke2fs).
MORE = ":/usr/sbin:/sbin"

# mtools refuses disks whose size is no multiple of a track (mtools(1), mtools_skip_check), which
# partitions of today are not; a configuration of the user's own must not change what it does.
ENVIRONMENT = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(
    *argv: str, stdin: bytes = b"", first: int | None = None, seconds: float = SECONDS
) -> bytes:
    """What a command answers; with ``first``, that many bytes of it at most.

    Raises ToolMissing, and CommandFailed where it ends with another status than 0.
    """
    try:
        # Not run(): of a long answer only the beginning may be wanted.
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    with process:
        if first is not None and process.stdout is not None:
            answer = process.stdout.read(first)
            process.kill()
            return answer
        try:
            answer, said = process.communicate(stdin, seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            answer, said = b"", f"no end within {seconds:.0f} s".encode()
    if process.returncode:
        raise failed(argv, process.returncode, said)
    return answer


def environment() -> dict[str, str]:
    """In which commands run."""
    return {**os.environ, **ENVIRONMENT, "PATH": os.environ.get("PATH", "") + MORE}


def need(*programs: str) -> None:
    """Raises ToolMissing for the first program that is not there."""
    for program in programs:
        if shutil.which(program, path=environment()["PATH"]) is None:
            raise missing(program)


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
