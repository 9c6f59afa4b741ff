"""Lets one fleet live, watches that nothing happens that must not, and says how it ended."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from nodeagent.fleet.sight import PATIENCE_WITH_ANY
from tests.simulate.air import Air
from tests.simulate.attack import Attacker
from tests.simulate.memory import PowerCut
from tests.simulate.pi import Pi
from tests.simulate.plans import NEVER, Plan

# True seconds after the last disturbance, until a run is over in any case; after an attack so much
# longer as what somebody said holds a node up.
PATIENCE = 1500.0
CUT = 20.0  # seconds without power after a cut at a write


@dataclass
class Outcome:
    """How a fleet's life ended."""

    plan: Plan
    faults: list[str] = field(default_factory=list)
    split: bool = False  # two control planes at some moment
    healed: bool = False
    reported: bool = False
    decided: float | None = None  # true seconds until the first cluster is there
    elected: float | None = None  # from the first power-on until the first node leads
    messages: int = 0
    left_out: int = 0  # nodes that are on and in no cluster at the end
    seconds: float = 0.0
    events: list[tuple[float, str]] = field(default_factory=list)


class Life:
    """The events of one fleet, in order."""

    def __init__(self, plan: Plan) -> None:
        self.chance = random.Random(plan.seed ^ 0x5EED)
        self.plan = plan
        self.air = Air(
            self.chance, len(plan.makes), plan.loss, plan.delay, plan.partitions, plan.deaf,
            plan.deaf_end, plan.replays,
        )  # fmt: skip
        self.pis: list[Pi] = []
        self.pis += [Pi(make, self.air, self.pis, plan.sealed) for make in plan.makes]
        self.outcome = Outcome(plan)
        self.queue: list[tuple[float, int, str, int]] = []
        self.lives = [0] * len(self.pis)  # looks of an earlier boot do not count
        self.count = 0
        self.on_step: Callable[[], None] | None = None  # who looks on
        self.attacker = None
        if plan.attack is not None:
            dice = random.Random(plan.seed ^ 0xBAD)
            self.attacker = Attacker(plan.attack, self.air, dice, plan.sealed)
            self._at(plan.attack.begin, "attack", 0)
        for pi in self.pis:
            for on, off in pi.make.powers:
                self._at(on, "on", pi.make.number)
                if off < NEVER:
                    self._at(off, "off", pi.make.number)

    def _at(self, moment: float, what: str, number: int) -> None:
        self.count += 1
        heapq.heappush(self.queue, (moment, self.count, what, number))

    def live(self) -> Outcome:
        """Until it is settled or nothing more is to be expected."""
        held_up = PATIENCE_WITH_ANY if self.plan.attack else 0.0
        end, now = self.plan.quiet + PATIENCE + held_up, 0.0
        check = 0.0
        while self.queue:
            now, _, what, number = heapq.heappop(self.queue)
            if now > end:
                break
            self._do(now, what, number)
            if self.on_step is not None:
                self.on_step()
            if now >= check and now > self.plan.quiet:
                check = now + 10
                if self._is_settled():
                    break
        return self._end(now)

    def until_led(self, limit: float) -> None:
        """Live until a node leads, or so many true seconds."""
        now = 0.0
        while self.outcome.elected is None and now < limit:
            now, _, what, number = heapq.heappop(self.queue)
            self._do(now, what, number)

    def _do(self, now: float, what: str, number: int) -> None:
        if what == "attack":
            assert self.attacker is not None
            pause = self.attacker.act(now)
            if pause is not None:
                self._at(now + pause, "attack", 0)
            return
        pi = self.pis[number]
        if what == "off":
            pi.power_off()
            return
        if what == "on":
            if pi.on:
                return
            self.lives[number] += 1
            what = f"look {self.lives[number]}"
            try:
                pi.power_on(now)
            except PowerCut:
                self._cut(pi, now)
                return
        if not pi.on or what != f"look {self.lives[number]}":
            return
        led = pi.leads  # it does not, where kubeadm init was cut: that begins again
        try:
            rest = pi.look(now)
        except PowerCut:
            self._cut(pi, now)
        else:
            # Loops are late by what else the processor has to do.
            self._at(now + rest * (1 + 0.1 * self.chance.random()), what, number)
        if pi.leads and not led:
            self._leads(pi, now)
        if self.outcome.decided is None and pi.memory.values["role"] == "control-plane":
            self.outcome.decided = now

    def _cut(self, pi: Pi, now: float) -> None:
        pi.power_off()
        self._at(now + CUT, "on", pi.make.number)

    def _leads(self, pi: Pi, now: float) -> None:
        out = self.outcome
        if out.elected is None:
            out.elected = now - min(make.powers[0][0] for make in self.plan.makes)
        others = [other for other in self.pis if other is not pi and other.leads]
        if others and self.plan.expected is not None:
            out.faults.append(
                f"{pi.make.number} leads at {now:.0f} s beside {others[0].make.number}"
            )

    def _control_planes(self) -> list[Pi]:
        return [
            pi for pi in self.pis
            if pi.memory.values["role"] == "control-plane" and not pi.memory.values["stepping_down"]
        ]  # fmt: skip

    def _is_settled(self) -> bool:
        there = self._control_planes()
        if len(there) > 1:
            self.outcome.split = True
            return all(pi.reported for pi in there)
        return bool(there) and all(pi.formed for pi in self.pis if pi.on)

    def _end(self, now: float) -> Outcome:
        out, there = self.outcome, self._control_planes()
        out.messages, out.seconds = self.air.sent, now
        out.events = sorted(event for pi in self.pis for event in pi.events)
        out.left_out = sum(pi.on and not pi.formed for pi in self.pis)
        gave_way = [pi for pi in self.pis if pi.stepped_down_for]
        out.split = out.split or bool(gave_way) or len(there) > 1
        out.healed = out.split and len(there) == 1
        out.reported = len(there) > 1 and all(pi.reported for pi in there)
        if out.split and not out.healed and not out.reported:
            out.faults.append("a split was neither healed nor reported")
        for pi in gave_way:
            lost = [p.make.number for p in self.pis if p.joined_to == pi.node_id]
            if lost and pi not in there:
                out.faults.append(f"{pi.make.number} stepped down, and {lost} lost their cluster")
        if gave_way and not there:
            out.faults.append("all control planes stepped down")
        return out


def live(plan: Plan) -> Outcome:
    """One fleet's life, the same each time."""
    return Life(plan).live()
