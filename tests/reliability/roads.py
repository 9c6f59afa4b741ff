"""The roads out of a cluster, cut at every instant: a changed role, and a reset.

As `explore.py`, from the disk of a Ready node with the intent in its journal, which is all that
`nodeagent role` and the first line of `nodeagent reset` leave. A node that shall have another role
must end Ready again, one that is reset must end off, and as it was before the agent came.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nodeagent.agent.reset import UNITS
from nodeagent.cluster import kubelet_api
from nodeagent.cluster.kubeadm_state import LEFT_BEHIND
from nodeagent.statefile import PATH as JOURNAL
from nodeagent.trust import node_key
from nodeagent.trust.store import FLEET_FILE
from tests.reliability.explore import Found, same, settled
from tests.support.firstboot import CMDLINE, NEW, OLD, Fleet, Outcome, VirtualPi
from tests.support.lossy_disk import Tree

WANTS = "etc/systemd/system/multi-user.target.wants"
AGENT = f"{WANTS}/{UNITS[0]}"
UID = "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11"
# Name of the road: the role the node has, the intent in its journal.
ROADS: dict[str, tuple[str, dict[str, Any]]] = {
    "a worker leaves and joins again": ("worker", {"stepping_down": {"role": "worker"}}),
    "a control plane leaves and leads again": (
        "control-plane", {"stepping_down": {"role": "auto"}},
    ),
    "a worker is reset": ("worker", {"resetting": {"identity": False}}),
    "a control plane forgets who it was": ("control-plane", {"resetting": {"identity": True}}),
}  # fmt: skip
# What a reset gives back, and what else the first boot left is not asked for.
GIVEN_BACK = (CMDLINE, "etc/fstab", "etc/hostname")


class Off(BaseException):
    """`systemctl stop` of the agent by itself, which is disabled."""


class LeavingPi(VirtualPi):
    """A VirtualPi whose agent can be disabled; its cluster answers a node that leaves."""

    def _command(self, argv: Any, timeout: float, stdin: str | None) -> Any:
        result = super()._command(argv, timeout, stdin)
        if tuple(argv[:3]) == ("systemctl", "stop", "--no-block"):
            raise Off
        return result

    def _power_on(self) -> None:
        if not (self.root / AGENT).is_symlink():
            raise Off
        super()._power_on()

    def run_from(self, tree: Tree, look: Callable[[str], None] | None = None) -> Outcome:
        """As before; also until the agent is off."""
        try:
            with answering(self):
                return super().run_from(tree, look)
        except Off:
            self.disk.flush()  # orderly
            unknown = frozenset(self.commands.unknown)
            return Outcome("off", self.boots, tuple(self.commands.ledger), unknown)


@contextmanager
def answering(pi: LeavingPi) -> Iterator[None]:
    """Doubles of the cluster that a worker takes its leave of."""

    def ask(host: object, method: str, path: str, body: object = None) -> kubelet_api.Answer:
        if "pods" in path:
            return 200, {"items": []}
        return 200, {"metadata": {"uid": UID}}

    with ExitStack() as stack:
        stack.enter_context(patch("nodeagent.cluster.kubelet_api.ask", ask))
        stack.enter_context(patch("nodeagent.agent.leave.farewell.tell", lambda *_: ""))
        yield


class Road:
    """One road, from one virtual Pi."""

    def __init__(self, name: str, fleet: Fleet, folder: Path, seed: int) -> None:
        role, intent = ROADS[name]
        self.name, self.pi = name, LeavingPi(folder, fleet, role, seed)
        fresh = self.pi.disk.tree() | {AGENT: ("link", f"/usr/lib/systemd/system/{UNITS[0]}")}
        for place in ("etc/systemd", "etc/systemd/system", WANTS, "usr/bin"):
            fresh[place] = "folder", None
        fresh["usr/bin/kubeadm"] = "file", b""  # dpkg's double unpacks nothing
        assert self.pi.run_from(fresh).ended == "ready"
        ready = self.pi.disk.tree()
        state_file = json.loads(ready[JOURNAL[1:]][1]) | intent
        data = json.dumps(state_file, indent=1, sort_keys=True).encode()
        self.begun = ready | {JOURNAL[1:]: ("file", data)}
        self._key = ready.get(node_key.PATH[1:])
        self._ends = "off" if "resetting" in intent else "ready"
        self._forgets = bool(intent.get("resetting", {}).get("identity"))
        self._given_back = {name: fresh.get(name) for name in GIVEN_BACK}
        outcome = self.pi.run_from(self.begun)
        assert outcome.ended == self._ends, outcome
        self._wanted = settled(self.pi.disk.tree())

    def disk(self, tree: Tree) -> Iterator[str]:
        """What must hold on every disk that a cut leaves."""
        if tree.get(CMDLINE, ("", b""))[1] not in (OLD.encode(), NEW.encode()):
            yield "cmdline.txt is neither the old line nor the new"
        values = json.loads(tree.get(JOURNAL[1:], ("", b"{}"))[1])
        begun = "stepping_down" in values or "resetting" in values
        left = [name for name in LEFT_BEHIND if name[1:] in tree]
        if not begun and "role" not in values and self._ends == "off" and left:
            yield f"the intent is forgotten before all is gone: {left[0]}"
        if not begun and self._ends == "off" and AGENT in tree:
            yield "the intent is forgotten while the agent is on: it would form again"
        if FLEET_FILE[1:] not in tree and not self._forgets:
            yield "the fleet's keys are gone"

    def end(self, tree: Tree, outcome: Outcome) -> Iterator[str]:
        """What must hold in the end."""
        if outcome.ended != self._ends:
            yield outcome.ended
            return
        ended = self.pi.disk.tree()
        for name in sorted(self._wanted.keys() | settled(ended).keys()):
            # Off, with the last line of the journal unwritten: whoever enables it has it cleared.
            if self._wanted.get(name) != settled(ended).get(name) and not self._off(tree, name):
                yield f"{name} differs from that of the run without a cut"
        if self._ends == "off":
            for name, entry in self._given_back.items():
                if name != "etc/hostname" and ended.get(name) != entry:
                    yield f"{name} was not given back"
            if self._forgets and ended.get("etc/hostname") != self._given_back["etc/hostname"]:
                yield "the name was not given back"
        if not self._forgets and ended.get(node_key.PATH[1:]) != self._key:
            yield "the node became another node"

    def _off(self, tree: Tree, name: str) -> bool:
        return self._ends == "off" and AGENT not in tree and name == JOURNAL[1:]

    def follow(self, tree: Tree, cuts: str = "") -> Found:
        """Run from this disk and judge. ``cuts``: ``first`` collects what a cut may leave."""
        found, disk, seen = Found(), self.pi.disk, [-1]

        def cut_here(effect: str) -> None:
            found.instants += 1
            if disk.changes == seen[0]:
                return
            seen[0] = disk.changes
            for left in disk.states() if cuts == "first" else disk.extremes():
                found.states += 1
                name = same(left)
                known, count = found.new.get(name, (left, 0))
                found.new[name] = known, count + 1
                if not count:
                    found.problems += [f"before {effect!r}: {fault}" for fault in self.disk(left)]

        outcome = self.pi.run_from(tree, cut_here if cuts else None)
        found.problems += self.end(tree, outcome)
        found.unknown |= outcome.unknown
        return found


def quick(name: str, seed: int, runs: int, fleet: Fleet, folder: Path) -> tuple[Found, int]:
    """Single cuts, and recovery from some of the disks by chance; all where ``runs`` is 0."""
    road = Road(name, fleet, folder, seed)
    found = road.follow(road.begun, "first")
    names = list(found.new)
    if runs:
        names = random.Random(seed).sample(names, min(runs, len(names)))
    for one in names:
        after = road.follow(found.new[one][0])
        found.problems += [f"after a cut: {problem}" for problem in after.problems]
        found.unknown |= after.unknown
    return found, len(names)
