"""Disk images shaped like a Pi's card: MBR, FAT32 ``bootfs``, ext4 ``rootfs``.

Everything works on plain files (mtools, mke2fs with an offset): no loop device, no kernel driver,
as containers and CI machines lack them. Layout as pi-gen's export-image makes it, with a smaller
boot partition.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from . import toolbox
from .place import LabError

MIB = 1024 * 1024
BOOT_START, BOOT_SIZE = 8 * MIB, 256 * MIB
ROOT_START, ROOT_SIZE = BOOT_START + BOOT_SIZE, 8192 * MIB
# The disk's signature in the MBR: PARTUUIDs are <it>-01 and <it>-02, as on every flashed card.
IDENTITY = "6e6f6465"
SECTOR = 512
# Clusters of 2 KiB, as pi-gen has them: with mkfs.vfat's own choice there are so few that by the
# specification it would be a FAT16, and some mtools find it empty.
MAKE_FAT = ("mkfs.vfat", "-F", "32", "-s", "4", "-n", "bootfs")


def _mbr() -> bytes:
    def entry(kind: int, start: int, size: int) -> bytes:
        nowhere = b"\xfe\xff\xff"  # cylinders end at 8 GB; LBA is what counts
        where = struct.pack("<II", start // SECTOR, size // SECTOR)
        return b"\0" + nowhere + bytes([kind]) + nowhere + where

    table = entry(0x0C, BOOT_START, BOOT_SIZE) + entry(0x83, ROOT_START, ROOT_SIZE)
    signature = struct.pack("<I", int(IDENTITY, 16))
    return bytes(440) + signature + bytes(2) + table + bytes(32) + b"\x55\xaa"


def make(image: Path, root: Path, boot: Path) -> None:
    """Make ``image`` with the trees ``root`` and ``boot`` in its partitions (all in the cache)."""
    with image.open("wb") as file:
        file.write(_mbr())
        file.truncate(ROOT_START + ROOT_SIZE)
    offset = str(BOOT_START // SECTOR)
    fat = [*MAKE_FAT, "-S", str(SECTOR), "--offset", offset]
    toolbox.run(*fat, image, str(BOOT_SIZE // 1024))
    for file_ in sorted(boot.iterdir()):
        put(image, file_.name, file_)
    # The file is new and sparse: zeroing inode tables, now or by the guest, would be for nothing.
    extended = f"offset={ROOT_START},assume_storage_prezeroed=1,lazy_itable_init=0"
    ext4 = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "rootfs", "-m", "1", "-i", "32768"]
    toolbox.run(*ext4, "-E", extended, "-d", root, image, f"{ROOT_SIZE // 1024}k")


def _fat(image: Path) -> str:
    return f"{image}@@{BOOT_START}"


def read(image: Path, name: str) -> str | None:
    """A text file of the boot partition as it lies on the card, or None."""
    command = toolbox.command("mtype", "-i", _fat(image), f"::{name}")
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        if b"not found" in done.stderr:
            return None
        raise LabError(f"The boot partition of {image} cannot be read: {done.stderr.decode()}")
    return done.stdout.decode(errors="replace")


def put(image: Path, name: str, source: Path) -> None:
    """Copy a file onto the boot partition, over one of that name."""
    toolbox.run("mcopy", "-o", "-i", _fat(image), source, f"::{name}")


def replace(image: Path, name: str, old: bytes, source: Path) -> None:
    """As ``put``, and no byte of ``old``, which that file held, stays on the boot partition."""
    remove(image, name)
    with image.open("r+b") as file:
        file.seek(BOOT_START)
        # A file on a fresh FAT is in one piece; its clusters are free now.
        at = file.read(BOOT_SIZE).find(old)
        if at < 0:
            raise LabError(f"{name} is not in one piece on the boot partition of {image}.")
        file.seek(BOOT_START + at)
        file.write(bytes(len(old)))
    put(image, name, source)


def remove(image: Path, name: str) -> None:
    """Remove a file from the boot partition."""
    toolbox.run("mdel", "-i", _fat(image), f"::{name}")


def copy_boot(image: Path, target: Path) -> None:
    """The boot partition as it lies on the card now, as an image of its own."""
    where = [f"skip={BOOT_START // MIB}", f"count={BOOT_SIZE // MIB}", "bs=1M", "conv=sparse"]
    subprocess.run(["dd", "status=none", f"if={image}", f"of={target}", *where], check=True)


def check_boot(partition: Path) -> list[str]:
    """What fsck.fat(8) finds wrong with a copied boot partition; nothing is repaired."""
    done = subprocess.run(toolbox.command("fsck.fat", "-n", partition), capture_output=True)
    lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines()]
    # Said of every partition: its own version, the closing count, that it changed nothing.
    chatter = ("fsck.fat ", f"{partition}: ", "Leaving filesystem unchanged")
    return [line for line in lines if line and not line.startswith(chatter)]


def round_up(card: Path) -> None:
    """Make the card as large as a real one: QEMU's SD controller wants a power of two."""
    os.truncate(card, 1 << (card.stat().st_size - 1).bit_length())


def copy(source: Path, target: Path) -> None:
    """A card of its own: only the blocks in use are copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    argv = ["cp", "--sparse=always", "--reflink=auto", str(source), str(fresh)]
    if subprocess.run(argv).returncode:
        room = shutil.disk_usage(target.parent).free // MIB
        raise LabError(f"{source} could not be copied to {target}; {room} MiB are free there.")
    fresh.rename(target)
