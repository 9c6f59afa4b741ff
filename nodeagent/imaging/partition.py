"""Where the boot partition of an image begins and ends.

Raspberry Pi OS and Ubuntu images have an MBR (Wikipedia, "Master boot record": four entries of 16
bytes from byte 446, signature 55 AA); others have a GPT (UEFI specification 2.10, 5.3). Only what
is needed to find the first FAT partition is read here; nothing is written.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from nodeagent.errors import ImageError

SECTOR = 512
FAT_TYPES = (0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E, 0xEF)
GPT_TYPE = 0xEE
EXTENDED = (0x05, 0x0F)
# "Basic data", and the EFI system partition, which is FAT by definition (UEFI 2.10, 13.3).
FAT_GUIDS = (
    UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),
    UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
)
MOST_ENTRIES = 128  # of a GPT, as partition tools make it

# The first bytes of files that hold an image and are none (file(1), its magic).
PACKED = {
    b"\xfd7zXZ\0": ("xz", "xz --decompress --keep"),
    b"\x1f\x8b": ("gzip", "gunzip --keep"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd --decompress"),
    b"BZh": ("bzip2", "bunzip2 --keep"),
}
AGAIN = "Download it again, and compare its size and SHA-256 with what the publisher says."


@dataclass(frozen=True)
class Partition:
    """Both in bytes."""

    offset: int
    size: int


def end_of_boot(image: Path) -> int:
    """Where the boot partition of an image ends of which only the beginning is there, in bytes.
    Raises ImageError, OSError."""
    part = find(image, whole=False)
    return part.offset + part.size


def find(image: Path, whole: bool = True) -> Partition:
    """The first FAT partition. Raises ImageError for a file that is packed, cut short or no image
    of a card; OSError."""
    size = image.stat().st_size
    with image.open("rb") as file:
        first = file.read(SECTOR)
        _not_packed(image, first)
        if len(first) < SECTOR or first[510:] != b"\x55\xaa":
            raise _unknown(image)
        entries = list(_mbr(first))
        if any(kind == GPT_TYPE for kind, _ in entries):
            found = list(_gpt(file, image))
        else:
            found = [(kind in FAT_TYPES, part) for kind, part in entries if kind not in EXTENDED]
        if whole and any(part.offset + part.size > size for _, part in found):
            end = max(part.offset + part.size for _, part in found)
            raise ImageError(
                f"{image} is cut short: its partitions end at {end} bytes, the file at {size}.",
                AGAIN,
            )
        for is_fat, part in found:
            if is_fat and (_has_fat(file, part) or not whole):
                return part
    raise _unknown(image)


def _not_packed(image: Path, first: bytes) -> None:
    for magic, (name, command) in PACKED.items():
        if first.startswith(magic):
            raise ImageError(
                f"{image} is compressed ({name}), and only an unpacked image can be changed.",
                f"Unpack it first: {command} {image.name}",
            )


def _unknown(image: Path) -> ImageError:
    return ImageError(
        f"{image} is no image of a card with a FAT boot partition.",
        "Use an image of Raspberry Pi OS (64-bit) or Ubuntu for Raspberry Pi.",
    )


def _mbr(sector: bytes) -> list[tuple[int, Partition]]:
    entries = []
    for at in range(446, 510, 16):
        kind = sector[at + 4]
        start, sectors = struct.unpack_from("<II", sector, at + 8)
        if kind and sectors:
            entries.append((kind, Partition(start * SECTOR, sectors * SECTOR)))
    return entries


def _gpt(file: BinaryIO, image: Path) -> list[tuple[bool, Partition]]:
    file.seek(SECTOR)
    header = file.read(SECTOR)
    if len(header) < SECTOR or not header.startswith(b"EFI PART"):
        raise _unknown(image)
    where, count, length = struct.unpack_from("<QII", header, 72)
    if not 128 <= length <= 4096 or where * SECTOR > image.stat().st_size:
        raise _unknown(image)
    file.seek(where * SECTOR)
    table = file.read(min(count, MOST_ENTRIES) * length)
    entries = []
    for at in range(0, len(table) - 47, length):
        first, last = struct.unpack_from("<QQ", table, at + 32)
        if any(table[at : at + 16]) and last >= first:
            part = Partition(first * SECTOR, (last - first + 1) * SECTOR)
            entries.append((UUID(bytes_le=table[at : at + 16]) in FAT_GUIDS, part))
    return entries


def _has_fat(file: BinaryIO, part: Partition) -> bool:
    """A FAT boot sector: jump, sector size, signature, and the name of the type (Microsoft, FAT
    specification, section 3.1 to 3.3)."""
    file.seek(part.offset)
    boot = file.read(SECTOR)
    return (
        len(boot) == SECTOR
        and boot[510:] == b"\x55\xaa"
        and boot[0] in (0xEB, 0xE9)
        and struct.unpack_from("<H", boot, 11)[0] in (512, 1024, 2048, 4096)
        and (boot[82:85] == b"FAT" or boot[54:57] == b"FAT")
    )
