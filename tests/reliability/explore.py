"""Cuts the power of the whole first boot at every instant, and again during each recovery.

A run is looked at before and after every effect. Of the first boot every state that a cut there
may leave is followed (`Disk.states`), of each recovery the three extremes (`Disk.extremes`); the
recovery after the second cut must reach the same end. Cuts that leave the same disk are followed
once: what the agent does next depends on the disk alone, apart from what `same` takes out.
"""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from nodeagent import paths
from nodeagent.agent import surfaces
from nodeagent.cluster import kubeadm_state
from nodeagent.host import durable
from nodeagent.statefile import PATH as JOURNAL
from nodeagent.trust import fleet_file, pki
from nodeagent.trust import node_key as keys
from nodeagent.trust.store import FLEET_FILE, LEAD_KEY_FILE
from tests.support.firstboot import CARD, CMDLINE, NEW, OLD, Fleet, Outcome, VirtualPi
from tests.support.lossy_disk import Tree
from tests.support.machine import fast_folder

HALF_DONE = (durable.TEMPORARY, ".dpkg-new", "/config.nodeagent")  # the next write replaces these
MEMBER = ("etc/kubernetes/", "var/lib/kubelet/")  # what kubeadm writes and nothing else
CACHES = ("var/lib/apt/lists", "var/lib/containerd")
PAIRS = ((paths.BROKER_KEY, paths.BROKER_CERT),
         (paths.BROKER_CLIENT_KEY, paths.BROKER_CLIENT_CERT))  # fmt: skip
NOTE = f"boot/firmware/{surfaces.NAME}"
BOOT_ID = re.compile(r"boot-\d+")


@dataclass
class Found:
    """What one run, or many, showed."""

    instants: int = 0  # moments at which a cut was looked at
    states: int = 0  # disks that cuts at these moments may leave
    phases: Counter[str] = field(default_factory=Counter)  # instants, by what the agent did
    problems: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)  # commands without a double
    new: dict[str, tuple[Tree, int]] = field(default_factory=dict)  # disks, how many cuts each


@lru_cache(maxsize=1 << 16)
def _journal(data: bytes) -> Any:
    """The journal without what nothing ever reads or what only names boots that are over."""
    try:
        values = json.loads(data)
    except ValueError:
        return data
    values.pop("history", None)
    values.pop("starts", None)  # only others compare it with what they heard before
    return BOOT_ID.sub("earlier", json.dumps(values, sort_keys=True))


def same(tree: Tree, second: bool = False) -> str:
    """The name of a disk; two with the same name lead to the same run. Of a ``second`` cut the
    half-done files do not count: that they harm nobody is shown by following the first."""
    entries = dict(tree)
    if second:
        entries = {name: entry for name, entry in tree.items() if not name.endswith(HALF_DONE)}
    name = JOURNAL.lstrip("/")
    if name in entries:
        entries[name] = "file", _journal(entries[name][1])
    return f"{hash(frozenset(entries.items())):x}"


def settled(tree: Tree) -> Tree:
    """A disk at the end, without the declared differences between two good ends: keys are
    random, but must fit their certificates; history, epoch and starts tell how often it was
    begun; the latency of the disk is measured; enrolment ends a time after the cluster's birth;
    what a cut write left beside its target is replaced by the next write and harms nobody; apt's
    lists and pulled images are fetched where they are missing; a scrubbed card, the note on the
    boot partition, and what the control plane vouches for say when."""
    left: Tree = {
        name: entry for name, entry in tree.items()
        if not name.endswith(HALF_DONE) and not name.startswith(CACHES)
    }  # fmt: skip
    name = JOURNAL.lstrip("/")
    born = 0
    if name in left:
        values = json.loads(left[name][1])
        born = values.pop("born", None) or 0
        for key in ("history", "epoch", "claim", "starts", "fsync_ms"):
            values.pop(key, None)
        if "stated" in values:
            values["stated"] = "at some time"
        if not values.get("reboots"):  # none, or one that took
            values.pop("reboots", None)
        left[name] = "file", json.dumps(values, sort_keys=True)
    if left.pop(NOTE, None):
        left[NOTE] = "note", None
    broker = paths.BROKER_CONFIG.lstrip("/")
    if broker in left:
        values = json.loads(left[broker][1])
        values["seals_at"] = values.get("seals_at", 0) - born
        left[broker] = "file", json.dumps(values, sort_keys=True)
    card = left.get(CARD, ("", b""))[1]
    if fleet_file.is_scrubbed(card):
        left[CARD] = "scrubbed", len(card)
    for key_path, cert_path in PAIRS:
        pair = [left.pop(path.lstrip("/"), None) for path in (key_path, cert_path)]
        left[f"pair {key_path}"] = "pair", _fit(*(entry and entry[1] for entry in pair))
    return left


def _fit(key: bytes | None, cert: bytes | None) -> str:
    if key is None or cert is None:
        return f"key {key is not None}, certificate {cert is not None}"
    try:
        public = pki.spki(serialization.load_pem_private_key(key, None).public_key())
        return str(pki.spki(x509.load_pem_x509_certificate(cert).public_key()) == public)
    except ValueError:
        return "damaged"


class Judge:
    """What must hold on every disk that a cut leaves, and after every recovery."""

    def __init__(self, fleet: Fleet, wanted: Tree) -> None:
        card = fleet_file.parse(fleet.card)
        self._card = fleet.card
        self._fleet_file, self._lead_key = (
            fleet_file.dump(card),
            (card.control_plane_key or "").encode(),
        )
        self._wanted = settled(wanted)
        self._scrubbed = wanted[CARD]
        self._member = {n: e for n, e in wanted.items() if n.startswith(MEMBER) and e[0] == "file"}
        self._keys = {pki.key_pem(key).encode() for key in fleet.keys}

    def disk(self, tree: Tree, imported: bool) -> Iterator[str]:
        """Faults of a disk; ``imported``: the agent had said that the card is scrubbed."""
        if tree.get(CMDLINE, ("", b""))[1] not in (OLD.encode(), NEW.encode()):
            yield "cmdline.txt is neither the old line nor the new"
        state_file = _values(tree)
        on_card = tree.get(CARD, ("", b""))[1] == self._card
        worker = state_file.get("role") == "worker"
        kept = tree.get(FLEET_FILE[1:], ("", b""))[1] == self._fleet_file and (
            worker or tree.get(LEAD_KEY_FILE[1:], ("", b""))[1] == self._lead_key
        )
        if not (on_card or kept):
            yield "the fleet's keys are neither on the card nor in safety"
        if imported and tree.get(CARD) != self._scrubbed:
            yield "the card holds keys although the agent said that they are scrubbed"
        if tree.get(kubeadm_state.FORMED[1:], ("", b""))[1]:
            torn = [name for name in self._member if tree.get(name) != self._member[name]]
            if torn:
                yield f"marked as formed before it was: {torn[0]}"

    def end(self, begun: Tree, ended: Tree, outcome: Outcome) -> Iterator[str]:
        """Faults of a recovery from the disk ``begun``."""
        if outcome.ended != "ready":
            yield outcome.ended
            return
        for name in sorted(self._wanted.keys() | settled(ended).keys()):
            if self._wanted.get(name) != settled(ended).get(name):
                yield f"{name} differs from that of the run without a cut"
        if outcome.boots > 2:
            yield f"{outcome.boots} boots"
        node_key = begun.get(keys.PATH[1:])
        if node_key is not None and node_key[1] in self._keys and ended[keys.PATH[1:]] != node_key:
            yield "the node became another node"
        done = [line for line in outcome.ledger if line.startswith("kubeadm")]
        if kubeadm_state.FORMED[1:] in begun and done:
            yield f"a formed node was formed again: {done}"
        for line in done:
            if line.endswith(("refused", "of a formed node")):
                yield line
        for first, second in itertools.pairwise(done):
            if first == second == "kubeadm init done":
                yield "a second kubeadm init without a reset"


def _values(tree: Tree) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(tree.get(JOURNAL[1:], ("", b"{}"))[1])
    except ValueError:
        return {}
    return values


class Explorer:
    """One virtual Pi, run from one disk after the other."""

    def __init__(self, fleet: Fleet, role: str, folder: Path, seed: int) -> None:
        self.pi = VirtualPi(folder, fleet, role, seed)
        self.fresh = self.pi.disk.tree()
        outcome = self.pi.run_from(self.fresh)
        assert outcome.ended == "ready", outcome
        self.wanted = self.pi.disk.tree()
        self.judge = Judge(fleet, self.wanted)
        self._known: set[str] = set()  # disks that this explorer has told of

    def follow(self, tree: Tree, cuts: str = "") -> Found:
        """Run from this disk and judge the end. ``cuts``: ``first`` to collect all that a cut on
        the way may leave, ``second`` to collect the extremes."""
        found, disk, seen = Found(), self.pi.disk, [-1]
        now: dict[str, tuple[Tree, int]] = {}

        def cut_here(effect: str) -> None:
            found.instants += 1
            found.phases[self.pi.phase] += 1
            if disk.changes == seen[0]:
                return
            seen[0] = disk.changes
            imported = self.pi.radio is not None
            for left in disk.states() if cuts == "first" else disk.extremes():
                found.states += 1
                name = same(left, cuts == "second")
                known, count = now.get(name, (left, 0))
                now[name] = known, count + 1
                if not count:
                    faults = self.judge.disk(left, imported)
                    found.problems += [f"before {effect!r} ({self.pi.phase}): {f}" for f in faults]

        outcome = self.pi.run_from(tree, cut_here if cuts else None)
        found.problems += self.judge.end(tree, disk.tree(), outcome)
        found.unknown |= outcome.unknown
        found.new = {name: entry for name, entry in now.items() if name not in self._known}
        self._known |= found.new.keys()
        return found


@dataclass
class Explored:
    """The figures of one role."""

    role: str
    seed: int
    instants: int = 0  # of the first boot
    sampled: int = 0  # of these, with more legal states than are followed
    single: int = 0  # states that one cut may leave
    single_disks: int = 0  # different ones; a recovery was run from each
    pairs: int = 0  # a cut, and a second one during the recovery from it
    pair_disks: int = 0  # different ones; a recovery was run from each
    seconds: float = 0.0
    phases: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)

    def take(self, cut: str, found: Found) -> None:
        """Take up what is wrong."""
        self.problems.update(f"{cut}: {problem}" for problem in found.problems)
        self.unknown |= found.unknown


_EXPLORER: list[Explorer] = []  # of a worker process


def _begin(fleet: Fleet, role: str, base: str, seed: int) -> None:
    logging.disable(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(dir=base), "card")
    _EXPLORER[:] = [Explorer(fleet, role, folder, seed)]


def _work(task: tuple[str, Tree, str]) -> tuple[str, Found]:
    name, tree, cuts = task
    return name, _EXPLORER[0].follow(tree, cuts)


def explore(role: str, seed: int, workers: int) -> Explored:
    """All single cuts, and all pairs."""
    result, begun = Explored(role, seed), time.monotonic()
    with fast_folder() as base:
        fleet = Fleet(base / "store")
        first = Explorer(fleet, role, base / "card", seed)
        found = first.follow(first.fresh, "first")
        result.instants, result.single, result.phases = found.instants, found.states, found.phases
        result.sampled, result.single_disks = first.pi.disk.sampled, len(found.new)
        result.take("first boot", found)
        pairs: dict[str, Tree] = {}
        kept: dict[Any, Any] = {}  # one copy of what many disks have in common
        context = multiprocessing.get_context("fork")
        with context.Pool(workers, _begin, (fleet, role, str(base), seed)) as pool:
            singles = [(name, tree, "second") for name, (tree, _) in found.new.items()]
            for name, one in pool.imap_unordered(_work, singles, chunksize=4):
                result.take("after a cut", one)
                result.pairs += found.new[name][1] * one.states
                for other, (tree, _) in one.new.items():
                    if other not in pairs:
                        pairs[other] = {
                            kept.setdefault(k, k): kept.setdefault(v, v) for k, v in tree.items()
                        }
            result.pair_disks = len(pairs)
            doubles = ((name, tree, "") for name, tree in pairs.items())
            for _, one in pool.imap_unordered(_work, doubles, chunksize=16):
                result.take("after two cuts", one)
        result.seconds = time.monotonic() - begun
    return result


def quick(role: str, seed: int, runs: int, fleet: Fleet, folder: Path) -> tuple[Found, int]:
    """Single cuts only, and recovery from some of the disks by chance: for every `make test`."""
    explorer = Explorer(fleet, role, folder, seed)
    found = explorer.follow(explorer.fresh, "first")
    names = random.Random(seed).sample(list(found.new), min(runs, len(found.new)))
    for name in names:
        found.problems += explorer.follow(found.new[name][0]).problems
    return found, len(names)
