"""A power cut at every point of the whole first boot, and of leaving: the part that takes seconds.

`make reliability` follows every state and cuts again during each recovery. ``NODEAGENT_CUTS`` says
from how many disks a recovery is run here.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from nodeagent import steps
from nodeagent.config.settings import load
from nodeagent.statefile import PATH as JOURNAL
from nodeagent.steps import engine
from tests.reliability import roads
from tests.reliability.explore import quick
from tests.support.firstboot import CMDLINE, NEW, ROLES, Fleet, VirtualPi

SEED = 1
CUTS = int(os.environ.get("NODEAGENT_CUTS", "25"))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A first boot tells a long story."""
    caplog.set_level(logging.CRITICAL)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Keys take time to make."""
    return Fleet(tmp_path_factory.mktemp("fleet"))


@pytest.mark.parametrize("role", ROLES)
def test_a_cut_anywhere_of_the_first_boot(role: str, fleet: Fleet, tmp_path: Path) -> None:
    found, runs = quick(role, SEED, CUTS, fleet, tmp_path / "card")
    assert found.instants > 400 and len(found.new) > 800, "the model sees what is done"
    assert runs == min(CUTS, len(found.new))
    assert not found.unknown, "a command without a double: tests/support/programs.py"
    assert found.problems == []


@pytest.mark.parametrize("role", ROLES)
def test_the_uncut_run_holds_and_remembers(role: str, fleet: Fleet, tmp_path: Path) -> None:
    pi = VirtualPi(tmp_path / "card", fleet, role)
    outcome = pi.run_from(pi.disk.tree())
    assert (outcome.ended, outcome.boots) == ("ready", 2)
    assert (pi.root / CMDLINE).read_text() == NEW
    planned = engine.plan(steps.SEQUENCE, pi, load(pi).settings)
    assert [(step.name, actions) for step, actions, _ in planned if actions] == []
    state_file = json.loads((pi.root / JOURNAL.lstrip("/")).read_text())
    events = [line["event"] for line in state_file["history"]]
    assert events == ["reboot", *(["claim", "initialised"] if role == ROLES[0] else ["joined"])]


@pytest.mark.parametrize("name", roads.ROADS)
def test_a_cut_anywhere_of_the_way_out(name: str, fleet: Fleet, tmp_path: Path) -> None:
    found, runs = roads.quick(name, SEED, CUTS // 4, fleet, tmp_path / "card")
    assert found.instants > 100 and len(found.new) > 150, "the model sees what is done"
    assert runs == CUTS // 4
    assert not found.unknown, "a command without a double: tests/support/programs.py"
    assert found.problems == []


def test_a_kernel_that_does_not_listen_is_rebooted_once(fleet: Fleet, tmp_path: Path) -> None:
    pi = VirtualPi(tmp_path / "card", fleet, ROLES[0])
    boot = pi.commands.boot

    def deaf(number: int) -> None:
        boot(number)
        (pi.root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu\n")

    pi.commands.boot = deaf  # type: ignore[method-assign]
    outcome = pi.run_from(pi.disk.tree())
    assert outcome.boots == 2
    assert outcome.ended.startswith("stuck") and "still off" in outcome.ended
