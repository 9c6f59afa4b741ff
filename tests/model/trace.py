"""The link from the model to the shipped code: what nodes did in a simulated fleet, step by step.

``Watcher`` looks on while a fleet of ``tests/simulate`` lives, which drives the shipped election.
Each write to a state file, each beacon and each beginning to lead becomes a step of the model; one
that the model does not allow there is a fault. So the code does nothing but what is proved.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from nodeagent.fleet.beacon import Beacon
from nodeagent.statefile import State
from tests.model.protocol import BY_NAME
from tests.simulate.pi import Pi
from tests.simulate.plans import Plan
from tests.simulate.run import Life


class Concrete:
    """A state of the model, as sets."""

    def __init__(self, vouched: frozenset[str], electors: int) -> None:
        self._vouched, self._electors = vouched, electors
        self._of: dict[tuple[str, tuple[Any, ...]], Any] = {}
        self.steps: Counter[str] = Counter()

    def take(self, name: str, *arguments: Any) -> bool:
        """Take a step; False where the model does not allow it here."""
        step = BY_NAME[name]
        if not step.guard(self, *arguments):
            return False
        for what, of, value in step.updates(*arguments):
            self._of[what, of] = value
        self.steps[name] += 1
        return True

    def vouched(self, n: str) -> bool:
        """Its card may lead."""
        return n in self._vouched

    def claim(self, n: str) -> int:
        """0: none."""
        return int(self._of.get(("claim", (n,)), 0))

    def epoch(self, n: str) -> int:
        """The highest that it has claimed."""
        return int(self._of.get(("epoch", (n,)), 0))

    def leads(self, n: str) -> bool:
        """It makes a cluster or has one."""
        return bool(self._of.get(("leads", (n,)), False))

    def vote(self, v: str, n: str, e: int) -> bool:
        """It has given it."""
        return bool(self._of.get(("vote", (v, n, e)), False))

    def said(self, n: str, e: int, claims: bool) -> bool:
        """It was signed at some time."""
        return bool(self._of.get(("said", (n, e, claims)), False))

    def said_vote(self, v: str, n: str, e: int) -> bool:
        """It was signed at some time."""
        return bool(self._of.get(("said_vote", (v, n, e)), False))

    def no(self, flag: bool) -> bool:
        """It is false."""
        return not flag

    def same(self, one: bool, other: bool) -> bool:
        """Both are true, or neither."""
        return one == other

    def votes(self, v: str) -> list[tuple[str, int]]:
        """Those that it has given."""
        return [of[1:] for (what, of), there in self._of.items()
                if what == "vote" and there and of[0] == v]  # fmt: skip

    def no_vote(self, v: str) -> bool:
        """It has given none."""
        return not self.votes(v)

    def elected(self, n: str, e: int) -> bool:
        """More than half told of their vote, its own counted."""
        told = {v for v in self._vouched if v == n or self.said_vote(v, n, e)}
        return 2 * len(told) > self._electors


class Watcher:
    """``faults`` are what the model does not allow."""

    def __init__(self, plan: Plan) -> None:
        self.faults: list[str] = []
        self.life = Life(plan)
        vouched = frozenset(pi.node_id for pi in self.life.pis if pi.make.may_lead)
        expected = plan.expected or 0
        self.model = Concrete(vouched, plan.makes[0].electors or expected)
        for pi in self.life.pis:
            self._watch(pi)
        self.life.air.taps.append(self._said)
        self._leads: set[str] = set()

    def live(self) -> None:
        """The whole life."""
        self.life.on_step = self._led
        self.life.live()

    def _take(self, name: str, *arguments: Any) -> None:
        if not self.model.take(name, *arguments):
            self.faults.append(f"{name}{arguments}")

    def _watch(self, pi: Pi) -> None:
        memory, node, write = pi.memory, pi.node_id, pi.memory.set

        def set_(**values: Any) -> None:
            before: State = memory.values
            try:
                write(**values)
            finally:  # the power may go just after it was written
                self._wrote(node, before, memory.values)

        memory.set = set_  # type: ignore[method-assign]

    def _wrote(self, node: str, before: State, now: State) -> None:
        if before["claim"] != now["claim"]:
            if now["claim"] is None:
                self._leads.discard(node)
                self._take("withdraw", node)
            else:
                self._take("claim", node, now["claim"]["epoch"])
        was, is_ = before["vote"], now["vote"]
        if was != is_:
            if was is not None:
                self._freed(node, was["node"], was["epoch"])
            if is_ is not None:
                self._take("vote", node, is_["node"], is_["epoch"])

    def _freed(self, node: str, of: str, epoch: int) -> None:
        """By any word of its claimant."""
        newest = self.model.epoch(of)
        if not any(
            self.model.take("free", node, of, epoch, later, claims)
            for later in range(epoch, newest + 1)
            for claims in (True, False)
        ):
            self.faults.append(f"free{(node, of, epoch)}")

    def _said(self, beacon: Beacon, _: Any) -> None:
        if self.model.vouched(beacon.node_id):
            self._take("tell", beacon.node_id, beacon.epoch, beacon.claim)
            if beacon.vote:
                self._take("tell vote", beacon.node_id, beacon.vote, beacon.vote_epoch)

    def _led(self) -> None:
        for pi in self.life.pis:
            node = pi.node_id
            if pi.leads and node not in self._leads:
                self._leads.add(node)
                self._take("lead", node, self.model.claim(node), None)
            elif not pi.leads and node in self._leads:
                self._leads.discard(node)
                self._take("stop", node)
