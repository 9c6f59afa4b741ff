"""After import and scrub: where on the raw card are bytes of the fleet's keys?

A real FAT and a real ext4, each an image. The shipped import writes on the mounted ext4 and
overwrites the card file in place. This kernel need not know FAT: a FUSE export shows the file's
clusters inside the image as a file, so that what is overwritten is the raw partition. (The lab's
census, `make lab-census`, has a real kernel and whole boards.)
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from nodeagent.host import durable
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file, store
from nodeagent.trust.store import FLEET_FILE, LEAD_KEY_FILE, Trust
from tests.hostile.section import Section
from tests.support import keytraces

MIB = 1 << 20
SECTOR = 512
CARD = store.CARD_FILES[0]
BOOT, ROOT = "boot partition (FAT32)", "root partition (ext4)"
PATIENCE = 10.0  # seconds for the FUSE export to appear


class PowerCut(BaseException):
    """The plug is pulled."""


def run_tool(*argv: str | Path) -> str:
    """The output of a command that must succeed. Raises CalledProcessError."""
    done = subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True)
    return done.stdout


class Board:
    """A virtual card: two partitions as images of their own."""

    def __init__(self, folder: Path, card: bytes, full: bytes) -> None:
        """``card`` is put on it; the keys of ``full`` are looked for."""
        self.boot, self.root, self.place = folder / "boot", folder / "root", folder / "mount"
        self.keys = keytraces.secrets(full)
        # A whole number of sectors, which the FUSE export wants; empty lines are no harm.
        self.card = card + b"\n" * (-len(card) % SECTOR)
        self.place.mkdir()
        for image, size in ((self.boot, 40), (self.root, 32)):
            with image.open("wb") as file:
                file.truncate(size * MIB)
        run_tool("mkfs.vfat", "-F", "32", "-n", "bootfs", self.boot)
        run_tool("mke2fs", "-q", "-F", "-t", "ext4", self.root)
        (folder / fleet_file.NAME).write_bytes(self.card)
        run_tool("mcopy", "-i", self.boot, folder / fleet_file.NAME, f"::{fleet_file.NAME}")

    @contextmanager
    def powered(self) -> Iterator[Host]:
        """The mounted root partition, the card's file in its place."""
        run_tool("mount", "-t", "ext4", "-o", "loop", self.root, self.place)
        try:
            file = self.place / CARD.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            with self._exported(file):
                yield Host(self.place)
        finally:
            run_tool("umount", self.place)

    @contextmanager
    def _exported(self, file: Path) -> Iterator[None]:
        """``file`` is the card file's clusters, as they lie in the FAT image."""
        # A fresh FAT gives a file clusters in a row; looked for by what nobody overwrites.
        if not hasattr(self, "_begin"):
            self._begin = self.boot.read_bytes().find(self.card)
            assert self._begin > 0 and self._begin % SECTOR == 0
        daemon = subprocess.Popen(
            [
                "qemu-storage-daemon",
                "--blockdev", f"driver=file,node-name=fat,filename={self.boot}",
                "--blockdev",
                f"driver=raw,node-name=clusters,file=fat,offset={self._begin},size={len(self.card)}",
                "--export", f"type=fuse,id=e,node-name=clusters,mountpoint={file},writable=on",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            end = time.monotonic() + PATIENCE
            while file.stat().st_size != len(self.card):
                assert daemon.poll() is None, "qemu-storage-daemon ended"
                assert time.monotonic() < end, "the FUSE export did not come up"
                time.sleep(0.05)
            yield
        finally:
            subprocess.run(["umount", str(file)], capture_output=True, check=False)
            daemon.terminate()
            daemon.wait(PATIENCE)

    def found(self) -> dict[str, set[str]]:
        """The keys of which any piece is in the raw bytes of each partition."""
        return {
            name: {trace.key for trace in keytraces.search_file(image, self.keys)}
            for name, image in ((BOOT, self.boot), (ROOT, self.root))
        }


def imported(board: Board) -> None:
    """A first boot."""
    with board.powered() as host:
        store.import_card(host, StateFile(host))


def cut(board: Board) -> None:
    """The power goes after the keys are kept and before the journal says so; then a boot."""

    def pull(*_: object, **__: object) -> None:
        raise PowerCut

    with board.powered() as host, patch.object(StateFile, "set", pull):
        try:
            store.import_card(host, StateFile(host))
        except PowerCut:
            os.sync()
    imported(board)


def forgotten(board: Board) -> None:
    """A worker that has joined."""
    imported(board)
    with board.powered() as host:
        Trust.load(host).drop_issuer(host)


def cut_and_forgotten(board: Board) -> None:
    """The same after such a power cut."""
    cut(board)
    with board.powered() as host:
        Trust.load(host).drop_issuer(host)


def all_forgotten(board: Board) -> None:
    """``nodeagent reset --identity``."""
    imported(board)
    with board.powered() as host:
        for path in (FLEET_FILE, LEAD_KEY_FILE):
            host.shred(path)


def untouched(board: Board) -> None:
    """Nothing happens: the card as it was written."""


def only_removed(board: Board) -> None:
    """Instead of all this, both files are removed the plain way."""
    with board.powered() as host, patch.object(durable, "overwrite", lambda *_: None):
        store.import_card(host, StateFile(host))
        host.path(LEAD_KEY_FILE).unlink()
    run_tool("mdel", "-i", board.boot, f"::{fleet_file.NAME}")


@dataclass(frozen=True)
class Case:
    """What is done with a card, and where which keys must be, and nowhere else."""

    what: str
    act: Callable[[Board], None]
    boot: frozenset[str]
    root: frozenset[str]
    split: bool = False


ALL = frozenset({"control_plane", "enrol", "beacon_key"})
WORKER = ALL - {"control_plane"}
NONE: frozenset[str] = frozenset()
CASES = (
    Case("written, not yet booted", untouched, ALL, NONE),
    Case("imported and scrubbed", imported, NONE, ALL),
    Case("the power went during the import, booted again", cut, NONE, ALL),
    Case("joined as a worker", forgotten, NONE, WORKER),
    Case("the same after such a power cut", cut_and_forgotten, NONE, WORKER),
    Case("reset with --identity", all_forgotten, NONE, NONE),
    Case("a worker's card (--split), not yet booted", untouched, WORKER, NONE, split=True),
    Case("a worker's card, imported and scrubbed", imported, NONE, WORKER, split=True),
    Case("for comparison: files only removed", only_removed, ALL, ALL),
)


def run(seed: int) -> Section:
    """Each case on a card of its own; any key elsewhere than expected is a fault."""
    rows, faults = [], []
    for case in CASES:
        full = fleet_file.make("home")[1]
        with tempfile.TemporaryDirectory() as folder:
            board = Board(Path(folder), fleet_file.for_workers(full) if case.split else full, full)
            case.act(board)
            found = board.found()
        rows.append((case.what, _names(found[BOOT]), _names(found[ROOT])))
        for place, expected in ((BOOT, case.boot), (ROOT, case.root)):
            if found[place] != expected:
                faults.append(
                    f"{case.what}: on the {place} {_names(found[place])}, not {_names(expected)}"
                )
    return Section(
        "Census of keys",
        "The raw bytes of both partitions are searched for every key of the card: as they are, in "
        "base64 at each alignment, in hexadecimal, in pieces of 8 bytes, in files and in free "
        "space. The last row shows that the search finds what deletion leaves behind. What the "
        "flash memory itself keeps of overwritten blocks no program can see.",
        ("card", BOOT, ROOT),
        tuple(rows),
        tuple(faults),
    )


def _names(keys: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(keys)).replace("_", "-") or "none"
