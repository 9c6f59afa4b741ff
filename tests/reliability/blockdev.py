"""A disk whose every write is noted, and what a power cut would leave of it.

qemu-storage-daemon stands between a loop device and an image and logs each request in the format
of the kernel's dm-log-writes (kernel docs, admin-guide/device-mapper/log-writes; QEMU's driver
``blklogwrites``). What was not followed by a flush may have reached the disk or not, each write by
itself. One disk with a boot and a root partition, so that one log tells the order of both.
"""

from __future__ import annotations

import random
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
MAGIC = 0x6A736677736872  # linux/dm-log-writes: WRITE_LOG_MAGIC
FLUSH, FUA, DISCARD = 1, 2, 4
SUPER = struct.Struct("<QQQI")  # magic, version, entries, sector size
ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, length of the data
SUBSETS = 6  # seeded choices for each span between two flushes
PATIENCE = 10.0  # seconds for the daemon to start
PARTITIONS = {"boot": (0, 8 * MIB), "root": (8 * MIB, 16 * MIB)}  # begin and size in bytes
SIZE = 24 * MIB


def run(*argv: str) -> str:
    """The output of a command that must succeed. Raises CalledProcessError."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Entry:
    """One request: place and content in bytes; flags as above."""

    at: int
    data: bytes
    flags: int

    @property
    def flushes(self) -> bool:
        """All before it is on the disk."""
        return bool(self.flags & FLUSH)


@dataclass(frozen=True)
class State:
    """What a cut after ``requests`` requests may leave: these of them, by number."""

    requests: int
    kept: tuple[int, ...]


def make(image: Path) -> None:
    """An image with an empty ext4 in each partition."""
    with image.open("wb") as file:
        file.truncate(SIZE)
    for begin, size in PARTITIONS.values():
        run(
            "mkfs.ext4", "-q", "-F", "-b", "1024", "-E",
            f"offset={begin},lazy_itable_init=0,lazy_journal_init=0,nodiscard",
            str(image), f"{size // 1024}k",
        )  # fmt: skip


@contextmanager
def mounted(image: Path, folder: Path, options: str = "") -> Iterator[Path]:
    """The root partition at ``folder``, the boot partition below it at boot/firmware.

    Raises CalledProcessError where one cannot be mounted."""
    with ExitStack() as stack:
        for name, place in (("root", folder), ("boot", folder / "boot" / "firmware")):
            begin, size = PARTITIONS[name]
            place.mkdir(parents=True, exist_ok=True)
            words = f"loop,offset={begin},sizelimit={size}{',' if options else ''}{options}"
            run("mount", "-t", "ext4", "-o", words, str(image), str(place))
            stack.callback(run, "umount", str(place))
        yield folder


class Log:
    """The requests that reached a disk so far."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        with self._path.open("rb") as file:
            magic, _, entries, _ = SUPER.unpack(file.read(SUPER.size))
        return int(entries) if magic == MAGIC else 0

    def read(self) -> list[Entry]:
        """All of them."""
        found = []
        with self._path.open("rb") as file:
            magic, _, entries, sector = SUPER.unpack(file.read(SUPER.size))
            assert magic == MAGIC, f"{self._path} is no log of writes"
            at = sector
            for _ in range(entries):
                file.seek(at)
                first, count, flags, _ = ENTRY.unpack(file.read(ENTRY.size))
                at += sector
                data = bytes(count * sector) if flags & DISCARD else b""
                if count and not flags & DISCARD:
                    file.seek(at)
                    data = file.read(count * sector)
                    at += count * sector
                found.append(Entry(first * sector, data, flags))
        return found


@contextmanager
def logged(image: Path, folder: Path) -> Iterator[tuple[Path, Log]]:
    """A file that stands for the image while every write to it is noted."""
    export, log = folder / "export", folder / "log"
    export.touch()
    with log.open("wb") as file:
        file.truncate(512 * MIB)
    daemon = subprocess.Popen(
        [
            "qemu-storage-daemon",
            "--blockdev", f"driver=file,node-name=disk,filename={image}",
            "--blockdev", f"driver=file,node-name=log,filename={log}",
            "--blockdev",
            "driver=blklogwrites,node-name=noted,file=disk,log=log,log-super-update-interval=1",
            "--export", f"type=fuse,id=e,node-name=noted,mountpoint={export},writable=on",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE
        while export.stat().st_size == 0:
            if daemon.poll() is not None or time.monotonic() > end:
                said = daemon.stderr.read() if daemon.poll() is not None and daemon.stderr else b""
                raise RuntimeError(f"qemu-storage-daemon does not start: {said.decode()}")
            time.sleep(0.05)
        yield export, Log(log)
    finally:
        subprocess.run(["umount", str(export)], capture_output=True, check=False)
        daemon.terminate()
        daemon.wait(PATIENCE)
        if daemon.stderr is not None:
            daemon.stderr.close()


def states(entries: list[Entry], seed: int) -> Iterator[State]:
    """Every prefix, and of each span between two flushes some subsets by chance."""
    chance = random.Random(seed)
    yield from (State(n, tuple(range(n))) for n in range(len(entries) + 1))
    flushed = 0
    for number, entry in enumerate([*entries, Entry(0, b"", FLUSH)]):
        if not entry.flushes:
            continue
        span = range(flushed, number)
        for _ in range(SUBSETS if len(span) > 1 else 0):
            kept = [n for n in span if entries[n].flags & FUA or chance.random() < 0.5]
            yield State(number, (*range(flushed), *kept))
        flushed = number + 1


def rebuilt(base: bytes, entries: list[Entry], state: State) -> bytes:
    """The image that the cut left."""
    content = bytearray(base)
    for number in state.kept:
        entry = entries[number]
        content[entry.at : entry.at + len(entry.data)] = entry.data
    return bytes(content)
