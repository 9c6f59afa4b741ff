"""Writes a changed partition back into its image: all of it, or nothing.

The old blocks are kept in a file beside the image, durably, before the first new one is written.
Where writing fails they come back at once; where this computer lost power they come back with the
next command on that image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from nodeagent.errors import Refused
from nodeagent.host import durable

SUFFIX = ".nodeagent-undo"
BLOCK = 64 * 1024
_MAGIC = b"nodeagent undo 1\n"
_HEAD = struct.Struct("<QQ32s")  # inode and size of the image, SHA-256 of what follows
_ENTRY = struct.Struct("<QI")  # offset and length of a block; the block follows


def write_back(image: Path, offset: int, changed: Path) -> int:
    """Write the blocks of ``changed`` that differ into ``image`` from ``offset`` on.

    Gives how many bytes were written. Raises OSError; the image is then as before, or comes back
    with ``recover``.
    """
    old = dict(_differing(image, offset, changed))
    if not old:
        return 0
    undo = _undo(image)
    body = b"".join(_ENTRY.pack(offset + at, len(data)) + data for at, data in old.items())
    found = image.stat()
    head = _HEAD.pack(found.st_ino, found.st_size, hashlib.sha256(body).digest())
    with changed.open("rb") as new, image.open("r+b", buffering=0) as file:
        durable.write(undo, _MAGIC + head + body, 0o600)
        try:
            for at, data in old.items():
                new.seek(at)
                file.seek(offset + at)
                _write(file.fileno(), new.read(len(data)))
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                recover(image)
            raise
    durable.remove(undo)
    return sum(map(len, old.values()))


def recover(image: Path) -> bool:
    """Bring back what an interrupted ``write_back`` left; True where there was something.

    Raises Refused where the file of old blocks is of another image with this name; OSError.
    """
    undo = _undo(image)
    if not undo.exists():
        return False
    data = undo.read_bytes()
    start = len(_MAGIC) + _HEAD.size
    body = data[start:]
    if data.startswith(_MAGIC) and len(data) > start:
        inode, size, digest = _HEAD.unpack_from(data, len(_MAGIC))
        found = image.stat()
        if (inode, size) != (found.st_ino, found.st_size):
            raise Refused(
                f"{undo} holds parts of another image that had the name {image.name}.",
                f"If that image is gone, remove {undo}.",
            )
        if hashlib.sha256(body).digest() == digest:
            with image.open("r+b", buffering=0) as file:
                for at, block in _entries(body):
                    file.seek(at)
                    _write(file.fileno(), block)
                os.fsync(file.fileno())
    # Else it was cut short itself, and the image was not yet touched.
    durable.remove(undo)
    return True


def _undo(image: Path) -> Path:
    return image.with_name(image.name + SUFFIX)


def _differing(image: Path, offset: int, changed: Path) -> Iterator[tuple[int, bytes]]:
    with image.open("rb") as old, changed.open("rb") as new:
        old.seek(offset)
        at = 0
        while mine := new.read(BLOCK):
            theirs = old.read(len(mine))
            if theirs != mine:
                yield at, theirs
            at += len(mine)


def _entries(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        where, length = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        yield where, body[at : at + length]
        at += length


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
