"""The simulated network passes on no more than the network process does."""

from __future__ import annotations

import random

import pytest

from nodeagent.serve.mdns.candidates import Pool
from tests.simulate.air import Air


@pytest.mark.parametrize("rate", [20, 50, 100, 300])
def test_of_a_crowd_as_much_is_heard_as_the_pool_has_places_for(rate: int) -> None:
    """So many beacons a second from as many addresses; both are looked at once a second."""
    chance, pool = random.Random(rate), Pool()
    air = Air(chance, 1, delay=0.0)
    said = real = modelled = 0
    for second in range(20):
        beacons = [f"{second}.{number}" for number in range(rate)]
        for number, beacon in enumerate(beacons):
            now = second + number / rate
            pool.add(f"a{number}", f"n-{number}", "10.0.0.1", 6444, beacon, now)
            air.inboxes[0].append((now, 1 + number, beacon))
        there = {candidate.beacon for candidate in pool.all()}
        heard = len(air.heard(0, second + 0.9999))
        if second >= 5:
            said += rate
            real += len(there.intersection(beacons))
            modelled += heard
    # Never kinder than the pool, and not much harsher; the lots move either by about 0.02.
    assert real / said - 0.15 < modelled / said < real / said + 0.05


def test_a_nodes_own_echo_needs_no_place() -> None:
    air = Air(random.Random(1), 500, delay=0.0)
    for sender in range(500):
        air.say(sender, sender, 0.0)
    for receiver in range(500):
        assert receiver in dict(air.heard(receiver, 1.0))
