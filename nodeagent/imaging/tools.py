"""Runs the programs that work on images: mtools, which needs neither root nor a loop device."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from nodeagent.errors import CommandFailed, ToolMissing

PACKAGES = {"mcopy": "mtools", "mdir": "mtools", "mmd": "mtools", "mtype": "mtools"}
SECONDS = 600  # for one command; a slow card takes its time

# mtools refuses disks whose size is no multiple of a track (mtools(1), mtools_skip_check), which
# partitions of today are not; a configuration of the user's own must not change what it does.
ENVIRONMENT = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(*argv: str, stdin: bytes = b"", first: int | None = None) -> bytes:
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
            env={**os.environ, **ENVIRONMENT},
        )
    except FileNotFoundError as error:
        package = PACKAGES.get(argv[0], argv[0])
        raise ToolMissing(
            f"{argv[0]} is not installed on this computer.",
            f"Install it with: sudo apt-get install {package} (on macOS: brew install {package})",
        ) from error
    with process:
        if first is not None and process.stdout is not None:
            answer = process.stdout.read(first)
            process.kill()
            return answer
        try:
            answer, said = process.communicate(stdin, SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            answer, said = b"", f"no end within {SECONDS} s".encode()
    if process.returncode:
        raise failed(argv, process.returncode, said)
    return answer


def failed(argv: Sequence[str], status: int, said: bytes) -> CommandFailed:
    """The error of a command, with the last of what it said."""
    lines = said.decode(errors="replace").strip().splitlines()
    return CommandFailed(
        f"`{' '.join(argv)}` ended with status {status}: {' / '.join(lines[-3:]) or 'no word'}.",
        "The image was left as it was. If it is damaged, download it again.",
    )
