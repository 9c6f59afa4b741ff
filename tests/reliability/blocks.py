"""The durable writer, the journal, and import and scrub of the card, cut at every disk request.

The real code writes on a mounted ext4; after each call that came back, the number of requests so
far is noted. Then every state that a cut may leave is mounted, which replays the file system's own
journal, and looked at: no file is torn, what was acknowledged is there, the fleet's keys are in
one place or the other, and nowhere on the boot partition once the scrub was acknowledged.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unittest.mock import patch

from nodeagent.host import durable
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file, store
from nodeagent.trust.store import FLEET_FILE, LEAD_KEY_FILE
from tests.reliability import blockdev
from tests.reliability.blockdev import State
from tests.support import namespaces

OPTIONS = ("", "noauto_da_alloc,commit=1")  # of mount; the first is ext4's default
CARD = store.CARD_FILES[0]
IMPORT, FORGET = "import and scrub", "forget the issuer"
FILE, LINK, PAD = "/etc/state.json", "/etc/mask.service", "x" * 3000
GAP = 0.3  # seconds between calls, so that commits of the file system come in between
VERSIONS = 8
FIRST_BOOT = "calls of a first boot"
Files = dict[str, bytes | str]  # path -> content of a file, target of a link


@dataclass(frozen=True)
class Call:
    """One call of the code under test; it is acknowledged when it returns."""

    what: str
    act: Callable[[Host], object]
    in_place: tuple[str, ...] = ()  # files it overwrites; their old content is done with


@dataclass
class Replayed:
    """The figures of one writer on one kind of mount."""

    writer: str
    options: str
    seed: int
    requests: int = 0
    flushes: int = 0
    states: int = 0
    unmountable: int = 0
    torn: int = 0
    lost: int = 0
    exposed: int = 0  # keys in neither place, or on the boot partition after the scrub
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """Of all kinds."""
        return self.unmountable + self.torn + self.lost + self.exposed


def naive(path: Path, data: bytes, mode: int, owner: object = None) -> None:
    """Seeded defect: what most programs do. A temporary file and a rename, and nothing synced."""
    durable.make_folder(path.parent)
    beside = path.with_name(f".{path.name}{durable.TEMPORARY}")
    beside.write_bytes(data)
    os.replace(beside, path)


def in_place(path: Path, data: bytes, mode: int, owner: object = None) -> None:
    """Seeded defect: the file is emptied and written anew."""
    durable.make_folder(path.parent)
    path.write_bytes(data)


def folder_not_synced(path: Path, data: bytes, mode: int, owner: object = None) -> None:
    """Seeded defect: the content is synced, the rename is not."""
    durable.make_folder(path.parent)
    beside = path.with_name(f".{path.name}{durable.TEMPORARY}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(beside, path)


# name -> the writer in the place of durable.write; None: the real one
WRITERS: dict[str, Callable[..., None] | None] = {
    "durable": None, "naive": naive, "in place": in_place, "folder not synced": folder_not_synced,
}  # fmt: skip


def _version(number: int) -> bytes:
    return json.dumps({"version": number, "pad": PAD}).encode()


def rewriting() -> list[Call]:
    """One file, written again and again: the workload for comparing writers."""

    def write(number: int) -> Callable[[Host], object]:
        return lambda host: host.write(FILE, _version(number))

    return [Call(f"version {number}", write(number)) for number in range(1, VERSIONS + 1)]


def first_boot() -> list[Call]:
    """Every durable call that a first boot makes, with the real import and scrub."""
    return [
        Call(IMPORT, lambda host: store.import_card(host, StateFile(host)), (CARD,)),
        Call("journal", lambda host: StateFile(host).set(claim={"epoch": 1}, epoch=1)),
        Call("new file in new folders", lambda host: host.write("/etc/rpi/conf.d/90.conf", b"x\n")),
        Call("link", lambda host: host.link(LINK, "/dev/null")),
        Call("file", lambda host: host.write(FILE, _version(1))),
        Call("file again", lambda host: host.write(FILE, _version(2))),
        Call("journal again", lambda host: StateFile(host).set(role="control-plane")),
        Call("overwrite", lambda host: host.overwrite(FILE, bytes(len(_version(2)))), (FILE,)),
        Call("remove", lambda host: host.remove(FILE)),
        Call("link elsewhere", lambda host: host.link(LINK, "/dev/zero")),
        Call("boot file", lambda host: host.write("/boot/firmware/cmdline.txt", b"new words\n")),
        Call(FORGET, lambda host: store.Trust.load(host).drop_issuer(host), (LEAD_KEY_FILE,)),
    ]


def snapshot(root: Path) -> Files:
    """All files and links, without what a cut write left beside its target."""
    found: Files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "lost+found"]
        for name in [*names, *folders]:
            path = Path(folder, name)
            if path.is_symlink():
                found[f"/{path.relative_to(root)}"] = os.readlink(path)
            elif path.is_file() and not name.endswith(durable.TEMPORARY):
                found[f"/{path.relative_to(root)}"] = path.read_bytes()
    return found


class Replay:
    """One workload on one disk: done once, then judged at every cut."""

    def __init__(self, calls: list[Call], result: Replayed, folder: Path) -> None:
        self.calls, self.result, self.folder = calls, result, folder
        self.place = folder / "mount"
        self.card = fleet_file.make("home")[1]
        card = fleet_file.parse(self.card)
        keys = f"{card.control_plane_key}{card.enrol_key}".encode().splitlines()
        self.secrets = [line for line in keys if len(line) == 64]
        self.secrets.append(base64.b64encode(card.beacon_key))
        assert len(self.secrets) > 4 and all(secret in self.card for secret in self.secrets)
        self.in_force: list[tuple[int, Files]] = []  # acknowledged after requests: what is there
        self._seen: dict[tuple[int, ...], Files | None] = {}

    def act(self, write: Callable[..., None] | None) -> None:
        """Do the calls, and note each acknowledgement."""
        image = self.folder / "disk"
        blockdev.make(image)
        with blockdev.mounted(image, self.place):
            host = Host(self.place)
            host.write(CARD, self.card)
            host.write("/boot/firmware/cmdline.txt", b"old words\n")
            host.write(FILE, _version(0))
            before = snapshot(self.place)
        self.base = image.read_bytes()
        self.in_force = [(0, before)]
        with (
            blockdev.logged(image, self.folder) as (export, log),
            blockdev.mounted(export, self.place, self.result.options),
            patched(write),
        ):
            for call in self.calls:
                call.act(Host(self.place))
                self.in_force.append((len(log), snapshot(self.place)))
                time.sleep(GAP)
        self.entries = log.read()
        self.result.requests = len(self.entries)
        self.result.flushes = sum(entry.flushes for entry in self.entries)

    def judge(self) -> None:
        """Look at every state."""
        begun = time.monotonic()
        for state in blockdev.states(self.entries, self.result.seed):
            self.result.states += 1
            image = blockdev.rebuilt(self.base, self.entries, state)
            done = sum(requests <= state.requests for requests, _ in self.in_force)
            fault = self._fault(image, state, done)
            if fault is not None:
                kind, what = fault
                setattr(self.result, kind, getattr(self.result, kind) + 1)
                where = f"{state.requests} requests, {len(state.kept)} kept"
                self.result.problems.append(f"{kind}: {what}, {where}")
        self.result.seconds = time.monotonic() - begun

    def _fault(self, image: bytes, state: State, done: int) -> tuple[str, str] | None:
        """Kind and words of what is wrong; ``done`` counts what was in force at the cut."""
        found = self._mount(image, state)
        if found is None:
            return "unmountable", "the file system could not be mounted"
        call = self.calls[min(done, len(self.calls)) - 1]
        old, new = self.in_force[done - 1][1], self.in_force[min(done, len(self.calls))][1]
        for path in sorted(old.keys() | new.keys() | found.keys()):
            now, was = found.get(path), old.get(path)
            if now in (was, new.get(path)):
                continue
            if path in call.in_place and len(now or "") == len(was or ""):
                continue  # overwriting in place need not be atomic
            known = any(now == files.get(path) for _, files in self.in_force)
            return ("lost" if known else "torn"), path
        if self.calls[0].what != IMPORT:
            return None
        needed = [FLEET_FILE] if call.what == FORGET else [FLEET_FILE, LEAD_KEY_FILE]
        kept = all(found.get(path) == self.in_force[1][1][path] for path in needed)
        if found.get(CARD) != self.card and not kept:
            return "exposed", "the keys are neither on the card nor in safety"
        begin, size = blockdev.PARTITIONS["boot"]
        if done > 1 and any(secret in image[begin : begin + size] for secret in self.secrets):
            return "exposed", "keys are on the boot partition after the scrub"
        return None

    def _mount(self, content: bytes, state: State) -> Files | None:
        """What is there after the file system has replayed its journal; None: not mountable."""
        kept = tuple(n for n in state.kept if self.entries[n].data)
        if kept not in self._seen:
            image = self.folder / "state"
            image.unlink(missing_ok=True)  # whatever still looks at the one before keeps it
            image.write_bytes(content)
            try:
                with blockdev.mounted(image, self.place):
                    self._seen[kept] = snapshot(self.place)
            except subprocess.CalledProcessError:
                self._seen[kept] = None
        return self._seen[kept]


@contextmanager
def patched(write: Callable[..., None] | None) -> Iterator[None]:
    """Another writer in the place of durable.write; None: the real one."""
    if write is None:
        yield
        return
    with patch("nodeagent.host.durable.write", write):
        yield


def replay(writer: str, options: str, workload: list[Call], seed: int) -> Replayed:
    """Do a workload with this writer and judge it at every cut."""
    result = Replayed(writer, options, seed)
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        run = Replay(workload, result, Path(folder))
        run.act(WRITERS[writer])
        run.judge()
    return result


def replay_all(seed: int) -> list[Replayed]:
    """Every writer on every kind of mount; the real code's calls of a first boot as well."""
    done = []
    for options in OPTIONS:
        done += [replay(writer, options, rewriting(), seed) for writer in WRITERS]
        one = replay("durable", options, first_boot(), seed)
        one.writer = FIRST_BOOT
        done.append(one)
    return done


def replay_apart(seed: int) -> list[Replayed]:
    """The same in a mount namespace of its own: a file system that another process
    has taken along into its namespace lives on after it was unmounted here, and then writes into
    the next image. Raises CalledProcessError."""
    command = namespaces.apart(sys.executable, "-m", __spec__.name, str(seed))
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return [Replayed(**one) for one in json.loads(out)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(one) for one in replay_all(int(sys.argv[1]))]))
