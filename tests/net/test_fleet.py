"""Real agents form one cluster by themselves; `make hostile` has the whole list (fleets)."""

from __future__ import annotations

import pytest

from tests.support.boards import boards

pytestmark = pytest.mark.xdist_group("lan")  # as tests/conftest.py has it for the fixture


def test_a_fleet_with_one_name_forms_one_cluster() -> None:
    with boards() as fleet:
        for _ in range(4):
            fleet.add(4, name="kitchen")
        for board in fleet.all:
            board.power_on()
        outcome = fleet.form()
    assert not outcome.faults, outcome.story


def test_a_fleet_on_ipv6_alone_outlives_a_reboot_of_all() -> None:
    with boards() as fleet:
        for _ in range(3):
            fleet.add(3, four=False).power_on()
        outcome = fleet.form()
        assert not outcome.faults, outcome.story
        for board in fleet.all:
            board.power_off()
        for board in fleet.all:
            board.power_on()
        outcome = fleet.form()
    assert not outcome.faults, outcome.story
