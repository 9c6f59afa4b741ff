"""Whole fleets in simulated time: lost and late beacons, power cuts, late starters; one leader."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from nodeagent.fleet.beacon import Beacon
from nodeagent.fleet.election import (
    Claim,
    Decision,
    Heard,
    Join,
    Lead,
    Timing,
    View,
    decide,
    known_leader,
)

TIMING = Timing(listen=10, hold_down=5, solo_wait=180)
PERIOD = 5.0  # seconds between beacons
INIT = 120  # seconds until a leader gives grants
END = 2000


@dataclass
class Pi:
    """A double of the agent: the radio's part around the real election."""

    number: int
    start: float
    fitness: tuple[int, ...]
    expected: int | None
    down: tuple[float, float] = (0, 0)
    heard: dict[str, Heard] = field(default_factory=dict)
    own_heard: float | None = None
    since: float = 0
    claim: tuple[int, float] | None = None
    epoch: int = 0
    led: float | None = None
    joined: str = ""
    seq: int = 0
    spoke: float = -PERIOD
    said: object = None

    @property
    def node_id(self) -> str:
        return f"n-{self.number:016d}"

    def beacon(self, now: float) -> Beacon:
        return Beacon(
            node_id=self.node_id, boot="00000000", name=f"pi-{self.number}", phase="electing",
            role="auto" if self.led is None else "control-plane", fitness=self.fitness,
            epoch=self.epoch, claim=self.claim is not None,
            ready=self.led is not None and now - self.led > INIT, expected=self.expected or 0,
            address="", port=6444, seq=self.seq, leader=known_leader(self.heard.values(), now),
        )  # fmt: skip

    def boot(self, now: float) -> None:
        """Power on: what was journaled is there, what was heard is not."""
        self.heard, self.own_heard, self.since, self.spoke = {}, None, now, -PERIOD
        self.said = None
        if self.claim is not None:
            self.claim = (self.claim[0], now)

    def look(self, now: float) -> None:
        """One round of the radio."""
        if self.led is not None or self.joined:
            return
        view = View(
            self.beacon(now), "auto", True, self.since, self.own_heard,
            tuple(self.heard.values()), self.expected, TIMING, self.claim,
        )  # fmt: skip
        self.act(decide(view, now), now)

    def act(self, decision: Decision, now: float) -> None:
        if isinstance(decision, Claim):
            self.claim, self.epoch = (decision.epoch, now), decision.epoch
        elif isinstance(decision, Lead):
            self.led = now
        elif isinstance(decision, Join):
            self.claim, self.joined = None, decision.node_ids[0]
        elif decision.withdraw:
            self.claim = None


def live(fleet: list[Pi], chance: random.Random, loss: float, delay: float) -> None:
    """Let the fleet live for END seconds, in steps of one."""
    wire: list[tuple[float, Pi, Beacon]] = []
    for second in range(END):
        now = float(second)
        if all(pi.joined or (pi.led is not None and pi.down[1] < now) for pi in fleet):
            return
        for pi in fleet:
            if now in (pi.start, pi.down[1]):
                pi.boot(now)
            if now < pi.start or pi.down[0] <= now < pi.down[1]:
                continue
            pi.look(now)
            saying = replace(pi.beacon(now), seq=0)
            if saying != pi.said or now - pi.spoke >= PERIOD:
                pi.said, pi.spoke, pi.seq = saying, now, pi.seq + 1
                wire += [
                    (now + chance.uniform(0, delay), other, pi.beacon(now))
                    for other in fleet
                    if chance.random() >= loss
                ]
        arrived = [packet for packet in wire if packet[0] <= now]
        wire = [packet for packet in wire if packet[0] > now]
        for _, pi, beacon in arrived:
            if now < pi.start or pi.down[0] <= now < pi.down[1]:
                continue
            if beacon.node_id == pi.node_id:
                pi.own_heard = now
                continue
            before = pi.heard.get(beacon.node_id)
            if before is None or before.beacon.seq < beacon.seq:
                pi.heard[beacon.node_id] = Heard(beacon, before.first if before else now, now)


def make(chance: random.Random, size: int, expected: int | None, spread: int) -> list[Pi]:
    """A fleet whose boards start within ``spread`` seconds; some lose power for a while."""
    fleet = []
    for number in range(size):
        start = float(chance.randrange(spread + 1))
        cut = start + chance.randrange(5, 60)
        down = (cut, cut + chance.randrange(5, 90)) if chance.random() < 0.2 else (0.0, 0.0)
        fitness = (1, chance.randrange(3), chance.choice([4, 8, 16]), chance.randrange(2))
        fleet.append(Pi(number, start, fitness, expected, (float(down[0]), float(down[1]))))
    return fleet


@pytest.mark.parametrize("block", range(8))
def test_fleets_with_expected_nodes_get_one_leader(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        chance = random.Random(seed)
        size = chance.randrange(1, 13)
        fleet = make(chance, size, size, spread=chance.choice([0, 5, 60, 200]))
        live(fleet, chance, loss=chance.choice([0.0, 0.1, 0.3]), delay=chance.choice([0.1, 2.0]))
        leaders = [pi for pi in fleet if pi.led is not None]
        assert len(leaders) == 1, f"seed {seed}: {len(leaders)} leaders of {size}"
        joined = {pi.joined for pi in fleet if pi.led is None}
        assert joined <= {leaders[0].node_id}, f"seed {seed}"


@pytest.mark.parametrize("seed", range(40))
def test_fleets_without_expected_nodes_on_a_sound_network(seed: int) -> None:
    chance = random.Random(1000 + seed)
    fleet = make(chance, chance.randrange(1, 9), None, spread=chance.choice([0, 30, 150]))
    live(fleet, chance, loss=0.05, delay=0.5)
    assert len([pi for pi in fleet if pi.led is not None]) == 1, f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_halves_that_do_not_hear_each_other_never_make_two_leaders(seed: int) -> None:
    chance = random.Random(2000 + seed)
    size = chance.randrange(2, 12)
    fleet = make(chance, size, size, spread=20)
    cut = chance.randrange(1, size)
    for half in (fleet[:cut], fleet[cut:]):
        live(half, chance, loss=0.1, delay=0.5)
    assert len([pi for pi in fleet if pi.led is not None]) <= 1, f"seed {seed}"
