"""How often a beacon is renewed, and how often a node looks at the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.fleet.candidacy import (
    CALM_TICK,
    CROWD,
    LONG,
    RENEW,
    SLOWEST_RENEW,
    TICK,
    Candidacy,
    renewal,
)
from nodeagent.fleet.election import Decision, Join, Lead, Wait
from nodeagent.statefile import StateFile
from tests.support.machine import Machine


@pytest.mark.parametrize(
    ("nodes", "formed", "claims", "seconds"),
    [
        (1, False, False, RENEW),
        (CROWD, False, False, RENEW),
        (2 * CROWD, False, False, 2 * RENEW),
        (1000, False, False, SLOWEST_RENEW),
        pytest.param(1000, False, True, RENEW, id="a claim in a crowd does not wait"),
        (3, True, False, SLOWEST_RENEW),
        (3, True, True, SLOWEST_RENEW),
    ],
)
def test_renewal(nodes: int, formed: bool, claims: bool, seconds: float) -> None:
    assert renewal(nodes, formed, claims) == seconds


@pytest.mark.parametrize(
    ("after", "claims", "decision", "seconds"),
    [
        (None, False, Wait(0.0, "It is being prepared."), CALM_TICK),
        (5.0, False, Wait(9.0, "Others may speak up."), TICK),
        (LONG + 1, False, Wait(99.0, "Another one leads soon."), CALM_TICK),
        (LONG + 1, True, Wait(99.0, "This node claims to lead."), TICK),
        (5.0, True, Lead("Nobody objected."), CALM_TICK),
        (5.0, False, Join("Another one leads."), CALM_TICK),
    ],
)
def test_a_node_that_only_waits_looks_less_often(
    after: float | None, claims: bool, decision: Decision, seconds: float, tmp_path: Path
) -> None:
    state_file = StateFile(Machine(tmp_path))
    candidacy = Candidacy(state_file)
    if claims:
        state_file.set(claim={"epoch": 1})
    if after is not None:
        candidacy.elect(100.0)
    candidacy.decision = decision
    assert candidacy.tick(100.0 + (after or 0.0)) == seconds
