"""The proof that two never lead, what breaks it, and that the shipped code takes only its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.fleet import candidacy, election
from nodeagent.fleet.election import Claim, Decision, decide
from nodeagent.fleet.sight import View
from nodeagent.fleet.votes import ballot
from tests.model import proof
from tests.model.protocol import BY_NAME, TRANSITIONS, Transition
from tests.model.trace import Watcher
from tests.simulate.election_defects import DEFECTS
from tests.simulate.plans import Plan, draw, draw_attacked


def test_two_never_lead_whatever_the_number_of_nodes() -> None:
    assert proof.faults() == []
    assert proof.majorities_share_a_node(lambda votes, of: 2 * votes > of)


def test_every_step_can_be_taken() -> None:
    """A step that never can be taken keeps everything."""
    assert [step.name for step in TRANSITIONS if proof.never(step)] == []


def _instead(name: str, guard: Callable[..., Any]) -> list[Transition]:
    """The table with another guard of one step."""
    return [replace(one, guard=guard) if one.name == name else one for one in TRANSITIONS]


def _votes_of_anybody(s: Any, n: Any, e: Any, _: Any) -> Any:
    return s.vouched(n) & (e > 0) & (s.claim(n) == e) & s.elected(n, e)


# Seeded defect of the code -> the same in the model, as what the proof then says.
BROKEN: dict[str, Callable[[], bool]] = {
    "majority-off-by-one": lambda: not proof.majorities_share_a_node(
        lambda votes, of: 2 * votes >= of
    ),
    "claim-told-first": lambda: bool(
        proof.faults(_instead("tell", lambda s, n, e, claims: s.vouched(n) & (e > s.epoch(n))))
    ),
    "vote-told-first": lambda: bool(
        proof.faults(_instead("tell vote", lambda s, v, n, e: s.vouched(v) & (s.claim(n) == e)))
    ),
    "vote-taken-from-the-silent": lambda: bool(
        proof.faults(_instead("free", lambda s, v, n, e, later, claims: s.vote(v, n, e)))
    ),
    "vote-freed-by-anybody": lambda: bool(
        proof.faults(
            _instead("free", lambda s, v, n, e, later, claims: s.vote(v, n, e) & (later >= e))
        )
    ),
    "signature-not-checked": lambda: bool(
        proof.faults(_instead("forge", lambda s, n, e, claims: e > 0))
    ),
    "id-not-the-keys": lambda: bool(
        proof.faults(_instead("forge vote", lambda s, v, n, e: s.claim(v) != 0))
    ),
    "anybody-vouched-for": lambda: bool(proof.faults(electing=False)),
    "votes-of-anybody": lambda: bool(proof.faults(_instead("lead", _votes_of_anybody),
                                                  electing=False)),
    "unsigned-displaces-signed": lambda: bool(
        proof.faults(_instead("forge", lambda s, n, e, claims: ~claims))
    ),
    "epochs-without-steps": lambda: bool(
        proof.faults(
            _instead("claim", lambda s, n, e: s.vouched(n) & (s.claim(n) == 0) & s.no_vote(n)
                     & (e > s.epoch(n)))
        )
    ),
}  # fmt: skip
# Those about time, rivals, shares and what 0.2.0 left, which are no part of the model.
ELSEWHERE = {
    "hold-down-removed", "objection-dropped", "both-step-down", "epochs-of-anybody",
    "one-source-fills-the-list", "rivals-asked-in-line", "poisoned-epoch-kept",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_seeded_defect_breaks_the_proof(name: str) -> None:
    assert BROKEN[name]()


def test_each_seeded_defect_has_its_counterpart_or_is_about_something_else() -> None:
    assert {one.name for one in DEFECTS} == BROKEN.keys() | ELSEWHERE


def test_without_what_majorities_share_there_is_no_proof() -> None:
    assert "two may lead" in proof.faults(sharing=False)


def test_a_vote_taken_back_by_hand_may_let_two_lead() -> None:
    """`nodeagent role` asks a person to be sure that the node voted for is gone for good."""
    by_hand = Transition(
        "by hand", "nne", lambda s, v, n, e: s.vote(v, n, e),
        lambda v, n, e: [("vote", (v, n, e), False)],
    )  # fmt: skip
    assert proof.faults([*TRANSITIONS, by_hand])


def _watched(plan: Plan) -> Watcher:
    watcher = Watcher(plan)
    watcher.live()
    return watcher


@pytest.mark.parametrize("kind", [draw, draw_attacked])
@pytest.mark.parametrize("block", range(3))
def test_what_the_code_does_is_a_step_of_the_model(kind: Callable[[int], Plan], block: int) -> None:
    taken = set()
    for seed in range(block * 25, block * 25 + 25):
        plan = kind(seed)
        if plan.expected is not None:
            watcher = _watched(plan)
            assert not watcher.faults, f"seed {seed}: {watcher.faults[:3]}"
            taken |= set(watcher.model.steps)
    assert {"claim", "vote", "tell", "tell vote", "lead"} <= taken <= BY_NAME.keys()


def _seen_to_fail() -> bool:
    return any(
        _watched(draw_attacked(seed)).faults
        for seed in range(60)
        if draw_attacked(seed).expected is not None
    )


def test_code_that_votes_twice_is_seen_to_leave_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        candidacy, "ballot", lambda view, now: ballot(replace(view, vote=None), now)
    )
    assert _seen_to_fail()


def test_code_that_counts_half_for_more_is_seen_to_leave_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(election, "electors", lambda view, peers: 1)
    assert _seen_to_fail()


def test_code_that_claims_an_epoch_twice_is_seen_to_leave_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def again(view: View, now: float) -> Decision:
        decision = decide(view, now)
        return Claim(1, decision.why) if isinstance(decision, Claim) else decision

    monkeypatch.setattr(candidacy, "decide", again)
    assert any(_watched(draw(seed)).faults for seed in range(120) if draw(seed).expected)
