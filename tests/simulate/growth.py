"""What an election costs as the fleet grows, from one node to a thousand."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from tests.simulate.air import Air
from tests.simulate.pi import Make
from tests.simulate.plans import NEVER, Plan
from tests.simulate.run import Life

NODES = (1, 4, 16, 64, 256, 1000)
SEEDS = 3  # fleets of each size
LIMIT = 240.0  # true seconds


@dataclass(frozen=True)
class Growth:
    """One fleet. ``led``: a node leads after ``seconds``; else none does yet. ``bytes`` of a
    sealed beacon, ``cpu_ms`` of one node in a second of its life."""

    seed: int
    nodes: int
    expected: bool
    led: bool
    seconds: float
    messages: int
    peak: int
    bytes: int
    cpu_ms: float


def grow(nodes: int, expected: bool, seed: int) -> Growth:
    """Let one fleet live until a node leads."""
    chance = random.Random(seed * 1000 + nodes)
    makes = tuple(
        Make(
            number, ((chance.uniform(0, 30), NEVER),),
            fitness=(1, chance.randrange(3), chance.choice((4, 8, 16)), 1),
            expected=nodes if expected else None,
        )
        for number in range(nodes)
    )  # fmt: skip
    # Up to 2 s: the network processes at both ends look once a second.
    plan = Plan(seed, makes, nodes if expected else None, 0.05, 2.0, (), frozenset(), 0.0, False,
                quiet=0.0, sealed=False)  # fmt: skip
    life = Life(plan)
    rate = _counted(life.air)
    began = time.process_time()
    life.until_led(LIMIT)
    led = life.outcome.elected
    seconds = led or LIMIT
    cpu = time.process_time() - began
    one = next(pi for pi in life.pis if pi.on)
    mine, speaker = one.beacon_now(), one.speaker
    return Growth(
        seed, nodes, expected, led is not None, seconds, life.air.sent, max(rate.values()),
        len(speaker.seal(mine)), 1000 * cpu / nodes / seconds,
    )  # fmt: skip


def _counted(air: Air) -> Counter[int]:
    """How many beacons in each second."""
    rate: Counter[int] = Counter()
    say = air.say

    def counting(sender: int, message: object, now: float) -> None:
        rate[int(now)] += 1
        say(sender, message, now)

    air.say = counting  # type: ignore[method-assign]
    return rate
