"""Seeded defects of the election: each a small patch, and a named test that it must turn red."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.support.seeded import Defect

HERE = Path(__file__).parent / "defects"
DECISIONS = "tests/unit/fleet/test_election.py::test_decisions"
BALLOTS = "tests/unit/fleet/test_election.py::test_ballots"
AGENT = "tests/unit/agent/test_agent.py"
_defect = partial(Defect, folder=HERE)

DEFECTS = (
    _defect(
        "hold-down-removed", "a claimant leads at once, without waiting for objections",
        f"{DECISIONS}[its claim waits for objections]",
    ),
    _defect(
        "objection-dropped", "a better node that speaks up does not end a claim",
        "tests/unit/fleet/test_election.py::test_a_claim_is_withdrawn_for_a_better_node",
    ),
    _defect(
        "majority-off-by-one", "half of the votes counts as a majority",
        f"{DECISIONS}[half of the votes is no majority]",
    ),
    _defect(
        "claim-told-first", "the claim is announced before it is in the journal",
        f"{AGENT}::test_a_claim_is_in_the_journal_before_anyone_hears_it",
    ),
    _defect(
        "vote-told-first", "the vote is announced before it is in the journal",
        f"{AGENT}::test_a_vote_is_in_the_journal_before_anyone_hears_it",
    ),
    _defect(
        "vote-taken-from-the-silent", "a vote for a node that fell silent goes to another",
        f"{BALLOTS}[it stays with one that fell silent]",
    ),
    _defect(
        "both-step-down", "of two empty control planes each gives way to the other",
        "tests/unit/fleet/test_rivals.py::test_never_both_step_down",
    ),
)  # fmt: skip
