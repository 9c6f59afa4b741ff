"""Unpacks an .xz whose maker nobody knows: how much comes out is read first, and no more is
believed (The .xz File Format 1.2.1, sections 2.1.2, 4 and 5; xz(1) lists the same with --list).
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nodeagent.errors import ImageError
from nodeagent.imaging import partition

MAGIC, FOOTER = b"\xfd7zXZ\0", b"YZ"
HEAD = 12  # bytes of a stream's header, and of its footer
MIB = 1024 * 1024
MEMORY = 256 * MIB  # xz -9 needs 65 MiB to unpack (xz(1))
MOST_INDEX = 16 * MIB  # bytes: some million blocks


def is_packed(path: Path) -> bool:
    """True for an .xz. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def size(path: Path) -> int:
    """How many bytes its own lists say that it holds; only these are read. Raises ImageError."""
    with path.open("rb") as file:
        try:
            return sum(_streams(file))
        except (ValueError, IndexError, lzma.LZMAError) as error:
            raise _damaged(path, str(error) or "its list of blocks ends early") from error


def pieces(path: Path, expected: int) -> Iterator[tuple[bytes, int]]:
    """What it holds, piece by piece, and how far each has come in the file. Raises ImageError where
    that is cut short, or is not ``expected`` bytes."""
    done = 0
    with path.open("rb") as file:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
        rest = b""
        try:
            while True:
                if decoder.eof:  # another stream, padding of zeros, or the end
                    rest = (decoder.unused_data + rest).lstrip(b"\0") or file.read(MIB)
                    if not rest:
                        break
                    if not rest.strip(b"\0"):
                        rest = b""
                        continue
                    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
                elif decoder.needs_input and not rest:
                    rest = file.read(MIB)
                    if not rest:
                        raise EOFError("it ends in the middle")
                data, rest = decoder.decompress(rest, MIB), b""
                done += len(data)
                if done > expected:
                    raise ValueError(f"more comes out than the {expected} bytes that it lists")
                if data:
                    yield data, file.tell()
        except (lzma.LZMAError, EOFError, ValueError) as error:
            raise _damaged(path, str(error)) from error
    if done != expected:
        raise _damaged(path, f"{done} bytes come out of the {expected} that it lists")


def _streams(file: BinaryIO) -> Iterator[int]:
    """The size of each stream's content, from the last one to the first."""
    end = file.seek(0, os.SEEK_END)
    while end:
        if end < 2 * HEAD:
            raise ValueError("it is cut short")
        file.seek(end - HEAD)
        footer = file.read(HEAD)
        if footer == bytes(HEAD) or footer[-4:] == bytes(4):  # stream padding
            end -= 4
            continue
        if footer[-2:] != FOOTER:
            raise ValueError("it is cut short")
        length = (int.from_bytes(footer[4:8], "little") + 1) * 4
        if length > min(MOST_INDEX, end - HEAD):
            raise ValueError("its list of blocks is larger than any")
        file.seek(end - HEAD - length)
        index = file.read(length)
        count, at = _number(index, 1)
        packed = content = 0
        for _ in range(count):
            unpadded, at = _number(index, at)
            plain, at = _number(index, at)
            packed, content = packed + -(-unpadded // 4) * 4, content + plain
        end -= 2 * HEAD + length + packed
        if end < 0:
            raise ValueError("its list of blocks is not that of this file")
        yield content


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A multibyte integer, and where the next one begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 62:
            raise ValueError("a length in it is larger than any")


def _damaged(path: Path, why: str) -> ImageError:
    return ImageError(f"{path} is damaged or cut short: {why}.", partition.AGAIN)
