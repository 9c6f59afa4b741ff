"""Real agents form one cluster by themselves; `make hostile` has the whole list (fleets)."""

from __future__ import annotations

from tests.net.fleet import boards


def test_a_fleet_with_one_name_forms_one_cluster() -> None:
    with boards() as fleet:
        for _ in range(4):
            fleet.add(4, name="kitchen")
        for board in fleet.all:
            board.power_on()
        outcome = fleet.form()
    assert not outcome.faults, outcome.story
