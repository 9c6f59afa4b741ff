"""Fleets by lot: everything about one follows from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.simulate.air import Partition
from tests.simulate.attack import Attack, draw_attack
from tests.simulate.pi import Make

NEVER = 1e9
# How many of a hundred fleets have how many nodes: small ones are what people have, and cost less.
SIZES = ((8, 1, 1), (24, 2, 2), (28, 3, 3), (18, 4, 4), (10, 5, 5), (8.5, 6, 8), (2.7, 9, 16),
         (0.6, 17, 32), (0.2, 33, 64))  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A fleet and what happens to it. ``quiet``: true seconds after which nothing more does."""

    seed: int
    makes: tuple[Make, ...]
    expected: int | None
    loss: float
    delay: float
    partitions: tuple[Partition, ...]
    deaf: frozenset[tuple[int, int]]
    deaf_end: float
    replays: bool
    quiet: float
    sealed: bool
    attack: Attack | None = None

    @property
    def able(self) -> bool:
        """True where some board may lead and is fit to, or pinned to it all the same."""
        return any(
            make.may_lead
            and (make.pinned == "control-plane" or (make.pinned == "auto" and make.fitness[0]))
            for make in self.makes
        )

    @property
    def enough(self) -> bool:
        """True where more than half of the expected nodes exist."""
        return self.expected is None or 2 * len(self.makes) > self.expected

    @property
    def split(self) -> bool:
        """True where some cards may not lead."""
        return not all(make.may_lead for make in self.makes)

    @property
    def pins(self) -> int:
        """How many boards are pinned to control-plane."""
        return sum(make.pinned == "control-plane" for make in self.makes)


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    chance = random.Random(seed)
    low, high = chance.choices([s[1:] for s in SIZES], [s[0] for s in SIZES])[0]
    size = chance.randint(low, high)
    expected = None
    if chance.random() < 0.6:
        expected = size + (chance.randint(1, 2) if chance.random() < 0.1 else 0)
    spread = chance.choice((0.0, 5.0, 30.0, 120.0, 400.0))
    late, unstable = chance.random() < 0.15, chance.random() < 0.4
    pins, weak = chance.random(), chance.random() < 0.2
    skew = 0.02 if chance.random() < 0.1 else 0.0002
    makes = []
    for number in range(size):
        on = chance.uniform(0, spread)
        if late and chance.random() < 0.3:
            on += chance.uniform(60, 900)
        role = "auto"
        if (pins < 0.1 and number == 0) or (pins < 0.03 and number == 1):
            role = "control-plane"
        elif pins < 0.2 and chance.random() < 0.4:
            role = "worker"
        fit = 0 if weak and chance.random() < 0.4 else 1
        fuse = None
        if unstable and chance.random() < 0.3:
            fuse = (chance.randrange(6), chance.random() < 0.5)
        makes.append(Make(
            number, _powers(chance, on, unstable),
            fitness=(fit, chance.randrange(3), chance.choice((4, 8, 16)), chance.randrange(2)),
            pinned=role, may_lead=not (weak and chance.random() < 0.2), expected=expected,
            prepares=chance.choice((0.0, 3.0, 60.0)) * chance.random(),
            rate=chance.uniform(1 - skew, 1 + skew),
            init=chance.uniform(30, 300), init_fails=2 if chance.random() < 0.03 else 0,
            join=chance.uniform(20, 120),
            deploys=chance.uniform(60, 900) if chance.random() < 0.1 else None, fuse=fuse,
        ))  # fmt: skip
    leaders = sum(make.may_lead for make in makes)
    if 0 < leaders < size:  # split cards: theirs say how many may lead
        makes = [replace(make, electors=leaders) for make in makes]
    partitions, deaf = _trouble(chance, size)
    deaf_end = chance.uniform(60, 400) if deaf else 0.0
    off = [moment for make in makes for span in make.powers for moment in span if moment < NEVER]
    return Plan(
        seed, tuple(makes), expected,
        loss=0.0 if chance.random() < 0.25 else chance.uniform(0, 0.4),
        delay=chance.choice((0.05, 0.5, 2.0, 5.0)),
        partitions=partitions, deaf=deaf, deaf_end=deaf_end, replays=chance.random() < 0.15,
        quiet=max([deaf_end, *off, *(p.end for p in partitions)]), sealed=seed % 500 == 0,
    )  # fmt: skip


def draw_attacked(seed: int, identical: bool = False) -> Plan:
    """The same fleet with split cards, and an attacker who holds a worker's; ``identical``: all
    cards may lead, and so may the attacker's."""
    plan, chance = draw(seed), random.Random(seed ^ 0xA77AC)
    size = len(plan.makes)
    leaders = size if identical else min(size, chance.choice((1, 2, 3, size)))
    which = frozenset(chance.sample(range(size), leaders))
    makes = tuple(
        replace(
            make, may_lead=make.number in which, electors=None if identical else leaders,
            pinned="auto" if make.pinned == "control-plane" and make.number not in which
            else make.pinned,
        )
        for make in plan.makes
    )  # fmt: skip
    attack = draw_attack(chance, vouched=identical)
    return replace(plan, makes=makes, attack=attack, quiet=max(plan.quiet, attack.end))


def _powers(chance: random.Random, on: float, unstable: bool) -> tuple[tuple[float, float], ...]:
    if not unstable or chance.random() < 0.6:
        return ((on, NEVER),)
    spans = []
    for _ in range(chance.randint(1, 2)):
        off = on + chance.uniform(2, 300)
        spans.append((on, off))
        on = off + (chance.uniform(300, 1200) if chance.random() < 0.1 else chance.uniform(5, 90))
    return (*spans, (on, NEVER))


def _trouble(
    chance: random.Random, size: int
) -> tuple[tuple[Partition, ...], frozenset[tuple[int, int]]]:
    partitions = []
    if size > 1 and chance.random() < 0.25:
        for _ in range(chance.randint(1, 2)):
            begin = chance.uniform(0, 200) if chance.random() < 0.7 else 0.0
            length = chance.uniform(10, 400) if chance.random() < 0.9 else chance.uniform(400, 1500)
            one = frozenset(n for n in range(size) if chance.random() < 0.5)
            partitions.append(Partition(begin, begin + length, one))
    deaf: frozenset[tuple[int, int]] = frozenset()
    if chance.random() < 0.15:
        deaf = frozenset(
            (a, b) for a in range(size) for b in range(size) if a != b and chance.random() < 0.15
        )
    return tuple(partitions), deaf
