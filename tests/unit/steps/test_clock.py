"""From where a clock goes on that nobody has set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeagent.host.facts import Facts
from nodeagent.steps import clock
from tests.support.machine import Machine, put

CERTAIN = 1_796_000_000  # seconds since the epoch; in the history
HISTORY = f'{{"version": 1, "history": [{{"time": {CERTAIN}, "event": "agent started"}}]}}'
OLD, NEW = "0000000000000000-0000000000000000.wal", "0000000000000001-000000000000f3c2.wal"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ({}, 0),
        # What a worker got, or anybody wrote, is in the last one; the others are not written again,
        # and may be of a time when the clock was ahead.
        ({f"{clock.WRITE_AHEAD}/{NEW}": 500, f"{clock.WRITE_AHEAD}/{OLD}": 9000}, 500),
        ({f"{clock.WRITE_AHEAD}/{NEW}": -500}, 0),
        ({f"{clock.WRITE_AHEAD}/0.tmp": 700}, 0),
        ({"/var/lib/systemd/random-seed": 300}, 300),
        ({"/var/lib/systemd/timesync/clock": 200, "/var/lib/systemd/random-seed": 100}, 200),
        ({"/var/lib/systemd/random-seed": clock.OUTLIVED.timestamp()}, 0),
    ],
)
def test_a_clock_is_never_behind_what_the_cluster_has_recorded(
    written: dict[str, float], seconds: int, tmp_path: Path
) -> None:
    put(tmp_path, {"/var/lib/nodeagent/state.json": HISTORY, **dict.fromkeys(written, "x")})
    for path, later in written.items():
        moment = CERTAIN + later
        os.utime(tmp_path / path[1:], (moment, moment))
    assert clock.last_known(Facts(Machine(tmp_path))) == CERTAIN + seconds
