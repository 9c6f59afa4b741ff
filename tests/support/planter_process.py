"""Whoever has taken over the network process or the broker, and what it puts where root reads:
``python -m tests.support.planter_process ROOT KIND PATH TARGET`` as that user (``users_process``).
TARGET is a file of root's. Prints a line when it is there, and goes on until it is ended."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

HUGE = 2**40  # bytes, of which none is on the disk
Planted = Iterator[None] | None  # goes on at each turn


def pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


def endless_device(path: Path, target: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path, target: Path) -> None:
    path.symlink_to("/dev/ptmx")


def link_to_roots_file(path: Path, target: Path) -> None:
    path.symlink_to(target)


def second_name_of_roots_file(path: Path, target: Path) -> None:
    try:
        os.link(target, path)
    except OSError:  # fs.protected_hardlinks: it may not
        path.write_text("{}")


def infinity(path: Path, target: Path) -> None:
    path.write_text('{"v": 1, "own_heard": Infinity, "candidates": [], "waiting": []}')


def deep(path: Path, target: Path) -> None:
    path.write_text("[" * 200_000)


def huge(path: Path, target: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE)


def folder(path: Path, target: Path) -> None:
    path.mkdir()


def door(path: Path, target: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)
        listener.bind(path.name)
        listener.listen(1)
        yield


def lease(path: Path, target: Path) -> Iterator[None]:
    """Whoever opens it waits for the holder's leave (fcntl(2), F_SETLEASE)."""
    path.write_text("{}")
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody opens it; it is kept as long as may be
    with path.open("r+b") as file:
        with suppress(OSError):  # not every file system has it
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield


def growing(path: Path, target: Path) -> Iterator[None]:
    path.write_text('{"v": 1, "waiting": [')
    with path.open("a") as file:
        while True:
            file.write(" " * 100_000)
            file.flush()
            if file.tell() > 2**26:
                file.truncate(0)
            yield


def changing(path: Path, target: Path) -> Iterator[None]:
    """A file of its own and a link to root's, by turns."""
    other = path.with_name("other")
    while True:
        path.unlink(missing_ok=True)
        path.write_text("{}")
        other.unlink(missing_ok=True)
        other.symlink_to(target)
        os.replace(other, path)
        yield


KINDS: dict[str, Callable[[Path, Path], Planted]] = {
    one.__name__: one
    for one in (pipe, endless_device, terminal, link_to_roots_file, second_name_of_roots_file,
                infinity, deep, huge, folder, door, lease, growing, changing)
}  # fmt: skip


def main(root: str, kind: str, path: str, target: str) -> None:
    """Until it is ended."""
    place = Path(root + path)
    planted = KINDS[kind](place, Path(root + target))
    if planted is not None:
        next(planted)
    sys.stdout.write("there\n")
    sys.stdout.flush()
    while True:
        time.sleep(0.001 if kind in ("growing", "changing") else 1)
        if planted is not None and kind in ("growing", "changing"):
            next(planted)


if __name__ == "__main__":
    main(*sys.argv[1:])
