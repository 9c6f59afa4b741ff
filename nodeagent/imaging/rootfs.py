"""The root file system of an image: where it is, and how it is made anew from a folder.

Made anew by mke2fs(8), option ``-d``, with the identity (UUID, label) and the features that it had:
a system's own e2fsck refuses features that are newer than itself.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nodeagent.errors import ImageError
from nodeagent.imaging import tools
from nodeagent.imaging.partition import SECTOR

MIB = 1024 * 1024
BLOCK = 4096
MAGIC_AT, MAGIC = 1024 + 56, b"\x53\xef"  # kernel docs, filesystems/ext4/super.rst
# Of a file system in use, not of how it was made (mke2fs(8) takes no such name).
STATES = frozenset({"needs_recovery", "orphan_present"})
SLACK = 512 * MIB  # for the first boot: journal, logs, etcd; then the card is grown into
GPT_TAIL = MIB  # room for the second table at the end
FRESH = "Take a fresh image of Raspberry Pi OS (64-bit) or Ubuntu for Raspberry Pi."
# To see all attributes of files: overlayfs marks with "trusted." ones (xattr(7)).
TRUSTED = ("SYS_ADMIN",)
LONG = 3600.0  # seconds for what reads or writes all of an image


@dataclass(frozen=True)
class Root:
    """The last partition; ``offset`` and ``size`` in bytes. What follows is of its ext4."""

    number: int
    offset: int
    size: int
    gpt: bool
    uuid: str
    label: str
    features: tuple[str, ...]
    inode_size: int
    inodes: int
    used: int


def find(image: Path) -> Root:
    """Raises ImageError where it is no clean ext4 in the last partition, ToolMissing,
    CommandFailed."""
    file = image.resolve()
    said = tools.confined("sfdisk", "--json", str(file), reads=[file])
    table = json.loads(said)["partitiontable"]
    last = max(table["partitions"], key=lambda part: part["start"])
    offset, size = last["start"] * SECTOR, last["size"] * SECTOR
    with image.open("rb") as opened:
        opened.seek(offset + MAGIC_AT)
        if opened.read(2) != MAGIC:
            raise ImageError(f"The last partition of {image} is not ext4.", FRESH)
    # Not dumpe2fs: that of Debian 13 (1.47.2) takes a name with "=" for a tag such as LABEL=.
    argv = ("debugfs", "-R", "stats -h", f"{file}?offset={offset}")
    lines = tools.confined(*argv, reads=[file]).decode(errors="replace").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    found = {name: value.strip() for name, value in pairs}
    features = found["Filesystem features"].split()
    if found["Filesystem state"] != "clean" or STATES & set(features):
        raise ImageError(
            f"The root file system of {image} is in use, or was not shut down cleanly.",
            FRESH,
        )
    block = int(found["Block size"])
    return Root(
        number=table["partitions"].index(last) + 1,
        offset=offset,
        size=size,
        gpt=table["label"] == "gpt",
        uuid=found["Filesystem UUID"],
        label=found["Filesystem volume name"].removeprefix("<none>"),
        features=tuple(features),
        inode_size=int(found["Inode size"]),
        inodes=int(found["Inode count"]),
        used=(int(found["Block count"]) - int(found["Free blocks"])) * block,
    )


def size_for(root: Root, used: int, files: int) -> tuple[int, int]:
    """Bytes and inodes of the new file system for a tree of that many bytes and files: never
    smaller than it was, in whole MiB."""
    inodes = max(root.inodes, files * 5 // 4)
    wanted = used * 11 // 10 + inodes * root.inode_size + SLACK
    # Other tables and the journal grow with it.
    wanted = max(root.size, wanted * 33 // 32)
    size = -(-wanted // MIB) * MIB if wanted > root.size else root.size
    return size, inodes


def weigh(tree: Path) -> tuple[int, int]:
    """Bytes in whole blocks, and how many files, of a folder. Raises OSError."""
    used = files = 0
    for folder, folders, names in os.walk(tree):
        for name in [*names, *folders]:
            found = os.lstat(f"{folder}/{name}")
            files += 1
            used += -(-found.st_size // BLOCK) * BLOCK if found.st_nlink == 1 else found.st_size
    return used, files


def build(source: Path, root: Root, tree: Path, target: Path) -> int:
    """Make ``target``: ``source`` with the root file system made from ``tree``, its partition
    grown as needed. Gives the new size of the image. Raises CommandFailed, OSError."""
    size, inodes = size_for(root, *weigh(tree))
    end = root.offset + size + (GPT_TAIL if root.gpt else 0)
    with source.open("rb") as old, target.open("wb") as new:
        left = root.offset
        while left and (data := old.read(min(MIB, left))):
            left -= len(data)
            if any(data):
                new.write(data)
            else:
                new.seek(len(data), os.SEEK_CUR)
        new.truncate(end)
    options = ["--no-reread", "--no-tell-kernel", "--quiet", "--force"]
    line = f",{size // SECTOR}\n".encode()
    target, tree = target.resolve(), tree.resolve()
    grow = ("sfdisk", *options, "-N", str(root.number), str(target))
    tools.confined(*grow, stdin=line, writes=[target], largest=end)
    kept = [name for name in root.features if name not in STATES]
    tools.confined(
        "mke2fs", "-q", "-F", "-t", "ext4", "-O", ",".join(["none", *kept]),
        "-b", str(BLOCK), "-I", str(root.inode_size), "-N", str(inodes), "-U", root.uuid,
        "-L", root.label, "-E", f"offset={root.offset},assume_storage_prezeroed=1",
        "-d", str(tree), str(target), f"{size // 1024}k",
        reads=[tree], writes=[target], rights=TRUSTED, largest=end, seconds=LONG,
    )  # fmt: skip
    check = ("e2fsck", "-f", "-n", f"{target}?offset={root.offset}")
    tools.confined(*check, reads=[target], seconds=LONG)
    return end
