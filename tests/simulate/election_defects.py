"""Seeded defects of the election: each a small patch, and a named test that it must turn red."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.support.seeded import Defect

HERE = Path(__file__).parent / "defects"
DECISIONS = "tests/unit/fleet/test_election.py::test_decisions"
BALLOTS = "tests/unit/fleet/test_election.py::test_ballots"
AGENT = "tests/unit/agent/test_agent.py"
FORGED = "tests/unit/fleet/test_forged_beacons.py"
DELAYS = f"{FORGED}::test_a_worker_card_delays_and_does_not_decide"
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
    _defect(
        "signature-not-checked", "whoever knows a node's key speaks for it",
        f"{FORGED}::test_a_forged_signature_is_refused_with_the_name",
    ),
    _defect(
        "id-not-the-keys", "whoever signs speaks for any node",
        f"{FORGED}::test_a_forged_signature_is_refused_with_the_name",
    ),
    _defect(
        "anybody-vouched-for", "a voucher of another key or fleet counts",
        f"{FORGED}::test_a_voucher_is_for_one_key_and_of_one_fleet",
    ),
    _defect(
        "votes-of-anybody", "votes of nodes that nobody vouches for count",
        f"{DELAYS}[a thousand votes]",
    ),
    _defect(
        "vote-freed-by-anybody", "an unsigned word in the claimant's name frees a vote",
        f"{FORGED}::test_nobody_but_the_claimant_frees_a_vote",
    ),
    _defect(
        "epochs-of-anybody", "epochs of nodes that nobody vouches for are followed",
        f"{FORGED}::test_numbers_go_by_steps",
    ),
    _defect(
        "epochs-without-steps", "any epoch of another node is followed, however far ahead",
        f"{FORGED}::test_numbers_go_by_steps",
    ),
    _defect(
        "unsigned-displaces-signed", "an unsigned word takes the place of a signed one",
        f"{FORGED}::test_an_unsigned_word_in_the_name_of_a_node_that_signs_is_not_heard",
    ),
    _defect(
        "one-source-fills-the-list", "made-up nodes of one address have no share",
        f"{FORGED}::test_one_source_has_its_share",
    ),
    _defect(
        "rivals-asked-in-line", "a control plane announces nothing while it asks a rival",
        f"{FORGED}::test_made_up_rivals_neither_stop_the_announcing_nor_come_before_a_true_one",
    ),
    _defect(
        "poisoned-epoch-kept", "an epoch that was driven up under 0.2.0 stays",
        f"{FORGED}::test_a_poisoned_state_file_heals",
    ),
)  # fmt: skip
