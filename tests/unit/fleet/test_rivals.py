"""Two control planes of one fleet: who gives way, and that never both do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.fleet.beacon import Beacon, Proof
from nodeagent.fleet.rivals import Side, Verdict, judge, rivals
from nodeagent.fleet.sight import Heard

A, B = "n-" + "a" * 16, "n-" + "b" * 16
OLD = Side(A, "pi-a", "aa" * 32, 1, 1_790_000_000, True)
YOUNG = Side(B, "pi-b", "bb" * 32, 2, 1_780_000_000, True)

# what: (mine, theirs, verdict)
TABLE: dict[str, tuple[Side, Side, Verdict]] = {
    "the younger and empty gives way": (YOUNG, OLD, Verdict.STEP_DOWN),
    "the older stays": (OLD, YOUNG, Verdict.STAY),
    "the younger has nodes": (replace(YOUNG, alone=False), OLD, Verdict.BOTH_STAY),
    "the older sees that it has": (OLD, replace(YOUNG, alone=False), Verdict.BOTH_STAY),
    "the other has not looked yet": (OLD, replace(YOUNG, alone=None), Verdict.STAY),
    "not known to be empty": (replace(YOUNG, alone=None), OLD, Verdict.BOTH_STAY),
    "the older has nodes": (YOUNG, replace(OLD, alone=False), Verdict.STEP_DOWN),
    "the older is empty and the younger is not": (
        replace(OLD, alone=True), replace(YOUNG, alone=False), Verdict.BOTH_STAY,
    ),
    "the same epoch: the later one is younger": (
        replace(YOUNG, epoch=1), OLD, Verdict.STAY,
    ),
    "the same epoch and time: by id": (
        replace(YOUNG, epoch=1, born=OLD.born), OLD, Verdict.STEP_DOWN,
    ),
    "ourselves at another address": (YOUNG, replace(YOUNG, cluster="cc" * 32), Verdict.NOTHING),
    "the same cluster": (YOUNG, replace(OLD, cluster=YOUNG.cluster), Verdict.NOTHING),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLE)
def test_verdicts(what: str) -> None:
    mine, theirs, verdict = TABLE[what]
    assert judge(mine, theirs) is verdict


def sides(letter: str) -> st.SearchStrategy[Side]:
    """Any side of this node."""
    return st.builds(
        Side,
        node_id=st.just("n-" + letter * 16), name=st.just("pi"), cluster=st.just(letter * 64),
        epoch=st.integers(0, 3), born=st.integers(0, 3), alone=st.sampled_from([True, False, None]),
    )  # fmt: skip


@given(sides("a"), sides("b"))
def test_never_both_step_down(one: Side, other: Side) -> None:
    verdicts = [judge(one, other), judge(other, one)]
    assert verdicts.count(Verdict.STEP_DOWN) <= 1
    if Verdict.STEP_DOWN not in verdicts:
        # Whoever is the younger stays: that must not go unsaid on its side.
        assert Verdict.BOTH_STAY in verdicts


@given(st.lists(st.sampled_from("abcde"), min_size=2, unique=True).flatmap(
    lambda letters: st.tuples(*(sides(letter) for letter in letters))
))  # fmt: skip
def test_among_many_one_always_stays(met: tuple[Side, ...]) -> None:
    staying = [
        one
        for one in met
        if all(judge(one, other) is not Verdict.STEP_DOWN for other in met if other is not one)
    ]
    assert staying


def test_rivals_are_control_planes_heard_lately() -> None:
    def heard(last: float, **changes: Any) -> Heard:
        values: dict[str, Any] = {
            "node_id": A, "boot": "00000000", "name": "pi", "phase": "ready",
            "role": "control-plane", "fitness": (1,), "epoch": 1, "claim": True, "ready": True,
            "expected": 0, "address": "10.0.0.1", "port": 6444, "seq": 1,
        }  # fmt: skip
        proof = changes.pop("proof", Proof.ISSUER)
        return Heard(Beacon(**{**values, **changes}), last, last, proof)

    seen = heard(100.0)
    others = [heard(10.0), heard(100.0, ready=False), heard(100.0, role="worker")]
    made_up = heard(100.0, proof=Proof.KEY, node_id=B)
    assert rivals([seen, *others, made_up], 120.0) == [seen.beacon]
    of_0_2_0 = heard(100.0, proof=Proof.NONE, node_id=B)
    assert rivals([of_0_2_0, seen], 120.0) == [seen.beacon, of_0_2_0.beacon]
