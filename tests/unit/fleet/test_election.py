"""The election as a table: what a node sees, and what it decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nodeagent.fleet.beacon import Beacon, Proof
from nodeagent.fleet.election import Claim, Join, Lead, Wait, decide
from nodeagent.fleet.sight import STALE, Heard, Timing, View
from nodeagent.fleet.votes import ballot

TIMING = Timing(listen=10, hold_down=5, solo_wait=180)
START = 1000.0


def beacon(letter: str, **changes: Any) -> Beacon:
    values: dict[str, Any] = {
        "node_id": "n-" + letter * 16, "boot": "00000000", "name": f"pi-{letter}",
        "phase": "electing", "role": "auto", "fitness": (1, 2, 8, 1), "epoch": 0, "claim": False,
        "ready": False, "expected": 0, "address": "10.77.0.11", "port": 6444, "seq": 1,
    }  # fmt: skip
    return Beacon(**{**values, **changes})


def heard(letter: str, first: float = START, last: float | None = None, **changes: Any) -> Heard:
    proof = changes.pop("proof", Proof.ISSUER)
    return Heard(beacon(letter, **changes), first, first if last is None else last, proof)


def view(*others: Heard, **changes: Any) -> View:
    values: dict[str, Any] = {
        "me": beacon("m"), "pinned": "auto", "may_lead": True, "since": START,
        "own_heard": START + 1, "heard": others, "expected_nodes": None, "timing": TIMING,
    }  # fmt: skip
    return View(**{**values, **changes})


WORSE, BETTER = "a", "z"  # by node id, all else being equal
CLAIMED: dict[str, Any] = {"claimed": (1, START + 15), "own_heard": START + 16}
VOTED: dict[str, Any] = {"vote": "n-" + "m" * 16, "vote_epoch": 1}  # for the claim above
READY: dict[str, Any] = {"role": "control-plane", "claim": True, "ready": True, "epoch": 3}

# what: (view, seconds after its start, decision, word in its reason)
TABLE: dict[str, tuple[View, float, type, str]] = {
    "alone, it waits long": (view(own_heard=START + 99), 100, Wait, "alone"),
    "alone for long enough, it claims": (view(own_heard=START + 179), 181, Claim, "alone"),
    "alone and deaf, it waits for ever": (view(own_heard=None), 10_000, Wait, "multicast"),
    "it heard itself, but long ago": (view(own_heard=START), 200, Wait, "multicast"),
    "the best, still listening": (view(heard(WORSE)), 9, Wait, "best in sight"),
    "the best, after the window": (view(heard(WORSE)), 11, Claim, "best in sight"),
    "a better one is there": (view(heard(BETTER)), 30, Wait, "better placed"),
    "a better one that says nothing is passed over": (
        view(heard(BETTER, last=START + 200), own_heard=START + 190), 200, Claim, "best",
    ),
    "a better one that failed is passed over": (
        view(heard(BETTER, phase="failed"), own_heard=START + 10), 11, Claim, "best",
    ),
    "a better one that is a worker is no candidate": (
        view(heard(BETTER, role="worker")), 11, Claim, "best",
    ),
    "a better one went away, hold-down": (
        view(heard(BETTER), own_heard=START + 61), STALE + 4, Wait, "alone",
    ),
    "fitness counts before the id": (
        view(heard(WORSE, fitness=(1, 2, 9, 0))), 30, Wait, "better placed",
    ),
    "explicit intent counts before fitness": (
        view(heard(WORSE, role="control-plane", fitness=(0, 0, 0, 0))), 30, Wait, "better placed",
    ),
    "somebody claims": (view(heard(WORSE, claim=True)), 30, Wait, "claims to lead"),
    "somebody claimed and is in trouble": (
        view(heard(WORSE, claim=True, phase="failed")), 30, Wait, "in trouble",
    ),
    "a stale claim is over": (
        view(heard(WORSE, claim=True), own_heard=START + 300), 300, Claim, "alone",
    ),
    "a control plane in sight": (view(heard(WORSE, **READY)), 1, Join, "is the control plane"),
    "a control plane in sight ends a claim": (
        view(heard(WORSE, **READY), **CLAIMED), 16, Join, "is the control plane",
    ),
    "a control plane that is gone": (view(heard(WORSE, **READY)), 61, Wait, "led this fleet"),
    "a control plane that is gone for long": (
        view(heard(WORSE, **READY), own_heard=START + 600), 610, Claim, "alone",
    ),
    "a worker of a cluster whose control plane is away": (
        view(heard(WORSE, role="worker", phase="ready")), 30, Wait, "in a cluster already",
    ),
    "somebody knows a leader that is not heard here": (
        view(heard(WORSE, leader="n-" + "q" * 16)), 30, Wait, "not in sight from here",
    ),
    "somebody speaks of a claim that was withdrawn": (
        view(heard(WORSE, leader="n-" + "b" * 16), heard("b")), 30, Claim, "best",
    ),
    "pinned worker": (view(heard(WORSE), pinned="worker"), 500, Wait, "worker"),
    "pinned worker joins": (view(heard(WORSE, **READY), pinned="worker"), 0, Join, "pi-a"),
    "a card that may not lead": (view(may_lead=False), 500, Wait, "card may not lead"),
    "a board too small to lead, though all the others are smaller": (
        view(heard(WORSE, fitness=(0, 0, 0, 0)), me=beacon("m", fitness=(0, 2, 3, 1))),
        500, Wait, "too small to lead",
    ),
    "a board too small to lead takes its claim back": (
        view(heard(WORSE), me=beacon("m", fitness=(0, 2, 3, 1)), **CLAIMED), 30, Wait, "too small",
    ),
    "a board too small to lead joins": (
        view(heard(WORSE, **READY), me=beacon("m", fitness=(0, 2, 3, 1))), 0, Join, "pi-a",
    ),
    "pinned control plane, hold-down only": (
        view(pinned="control-plane", own_heard=None), 4, Wait, "pinned",
    ),
    "pinned control plane, claims alone and deaf": (
        view(pinned="control-plane", own_heard=None), 5, Claim, "pinned",
    ),
    "pinned control plane, leads": (
        view(pinned="control-plane", own_heard=None, claimed=(1, START + 5)), 10, Lead, "Nobody",
    ),
    "pinned control plane, another leads": (
        view(heard(WORSE, **READY), pinned="control-plane"), 50, Wait, "already leads",
    ),
    "no majority of the expected": (
        view(heard(WORSE), expected_nodes=4), 50, Wait, "2 of 4 expected",
    ),
    "a majority of the expected": (
        view(heard(WORSE), heard("b"), expected_nodes=4), 11, Claim, "best",
    ),
    "all expected are there: no need to listen on": (
        view(heard(WORSE, first=START + 1), expected_nodes=2), 5, Claim, "best",
    ),
    "all expected are there, hold-down stays": (
        view(heard(WORSE, first=START + 1), expected_nodes=2), 4, Wait, "speak up",
    ),
    "one expected: itself": (view(expected_nodes=1), 5, Claim, "alone"),
    "others expect more": (
        view(heard(WORSE, expected=6), heard("b")), 50, Wait, "3 of 6",
    ),
    "its claim waits for objections": (view(heard(WORSE), **CLAIMED), 17, Wait, "object"),
    "nobody objected": (view(heard(WORSE), **CLAIMED), 20, Lead, "Nobody objected"),
    "its claim was not heard": (
        view(heard(WORSE), claimed=(1, START + 15), own_heard=START + 14), 30, Wait, "come back",
    ),
    "a claim from before a reboot listens again": (
        view(heard(WORSE), claimed=(1, START), own_heard=START + 1), 9, Wait, "object",
    ),
    "a worse one claims too: it will withdraw": (
        view(heard(WORSE, claim=True), **CLAIMED), 25, Wait, "as well",
    ),
    "the votes of a majority": (
        view(heard(WORSE, **VOTED), heard("b"), expected_nodes=3, **CLAIMED), 20, Lead, "Nobody",
    ),
    "half of the votes is no majority": (
        view(heard(WORSE, **VOTED), heard("b"), expected_nodes=4, **CLAIMED), 20, Wait, "2 of 4",
    ),
    "votes for an earlier claim are none": (
        view(heard(WORSE, **{**VOTED, "vote_epoch": 2}), expected_nodes=2, **CLAIMED),
        20, Wait, "1 of 2 nodes that may lead gave",
    ),
    "who voted and went silent has voted": (
        view(heard(WORSE, last=START - 500, **VOTED), heard("b"), expected_nodes=3, **CLAIMED),
        20, Lead, "Nobody",
    ),
    "pinned control plane, of a known number, needs votes too": (
        view(pinned="control-plane", own_heard=None, expected_nodes=3, claimed=(1, START + 5)),
        60, Wait, "1 of 3",
    ),
    "pinned where no vote can be heard: what to do is said": (
        view(pinned="control-plane", own_heard=None, expected_nodes=3, claimed=(1, START + 5)),
        60, Wait, "take `expected_nodes` out",
    ),
    "its vote is another's, who is silent": (
        view(heard(WORSE), heard("c", last=START - 700, claim=True, epoch=1), expected_nodes=3,
             vote=("n-" + "c" * 16, 1), own_heard=START + 50),
        60, Wait, "has this node's vote",
    ),
    "its vote is another's, who is silent, and somebody else claims": (
        view(heard(WORSE, claim=True, epoch=2), heard("c", last=START - 700, claim=True, epoch=1),
             expected_nodes=3, vote=("n-" + "c" * 16, 1)),
        30, Wait, "nodeagent role --auto",
    ),
    "its vote is another's, who knows nothing of it any more": (
        view(heard("c", epoch=0), expected_nodes=3, vote=("n-" + "c" * 16, 1)),
        30, Wait, "nodeagent role --auto",
    ),
    "its vote is with the one who claims": (
        view(heard("c", claim=True, epoch=1), expected_nodes=3, vote=("n-" + "c" * 16, 1)),
        30, Wait, "claims to lead",
    ),
    "a majority was lost after the claim": (
        view(heard(WORSE, last=START), expected_nodes=2, **{**CLAIMED, "own_heard": START + 70}),
        75, Wait, "1 of 2 expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLE)
def test_decisions(what: str) -> None:
    seen, after, kind, word = TABLE[what]
    decision = decide(seen, START + after)
    assert type(decision) is kind, decision
    assert word in decision.why
    if isinstance(decision, Wait):
        assert decision.until > START + after


@pytest.mark.parametrize(
    "objection",
    [
        heard(BETTER), heard(BETTER, claim=True), heard(WORSE, role="control-plane"),
        heard(BETTER, claim=True, phase="failed"),
    ],
)  # fmt: skip
def test_a_claim_is_withdrawn_for_a_better_node(objection: Heard) -> None:
    decision = decide(view(objection, **CLAIMED), START + 18)
    assert isinstance(decision, Wait)
    if objection.beacon.phase != "failed":
        assert decision.withdraw


def test_epochs_grow_past_everything_heard() -> None:
    seen = view(heard(WORSE, epoch=6, last=START - 500), heard("b"))
    decision = decide(replace(seen, me=beacon("m", epoch=2)), START + 11)
    assert isinstance(decision, Claim)
    assert decision.epoch == 7


def test_the_newest_control_plane_is_named() -> None:
    others = (heard("b", **READY), heard("c", **{**READY, "epoch": 4}))
    decision = decide(view(*others), START)
    assert isinstance(decision, Join)
    assert decision.why.startswith("pi-c ")


C_ID, D_ID = "n-" + "c" * 16, "n-" + "d" * 16
CLAIMS: dict[str, Any] = {"claim": True, "epoch": 4}
KNOWN: dict[str, Any] = {"expected_nodes": 5}
# what: (view, the claim that has the vote afterwards); all is looked at 30 s after the start
BALLOTS: dict[str, tuple[View, tuple[str, int] | None]] = {
    "nobody claims": (view(heard("c", last=START + 29), **KNOWN), None),
    "the best of those who claim": (
        view(heard("c", last=START + 29, **CLAIMS), heard("d", last=START + 29, **CLAIMS), **KNOWN),
        (D_ID, 4),
    ),
    "without a known number there is no vote": (view(heard("c", last=START + 29, **CLAIMS)), None),
    "the number is known from another": (
        view(heard("c", last=START + 29, expected=5, **CLAIMS)), (C_ID, 4),
    ),
    "who claims votes for itself": (
        view(heard("c", last=START + 29, **CLAIMS), **KNOWN, **CLAIMED), None,
    ),
    "a stale claim gets no vote": (view(heard("c", last=START - 31, **CLAIMS), **KNOWN), None),
    "once given it stays, though a better one claims": (
        view(heard("c", last=START + 29, **CLAIMS), heard("d", last=START + 29, **CLAIMS), **KNOWN,
             vote=(C_ID, 4)), (C_ID, 4),
    ),
    "it stays with one that fell silent": (
        view(heard("c", last=START - 900, **CLAIMS), heard("d", last=START + 29, **CLAIMS), **KNOWN,
             vote=(C_ID, 4)), (C_ID, 4),
    ),
    "it stays with one that was not heard since this boot": (
        view(heard("d", last=START + 29, **CLAIMS), **KNOWN, vote=(C_ID, 4)), (C_ID, 4),
    ),
    "it stays where an echo from before the claim comes": (
        view(heard("c", last=START + 29, epoch=3), **KNOWN, vote=(C_ID, 4)), (C_ID, 4),
    ),
    "who withdrew sets it free": (
        view(heard("c", last=START + 29, epoch=4), heard("d", last=START + 29, **CLAIMS), **KNOWN,
             vote=(C_ID, 4)), (D_ID, 4),
    ),
    "who claims anew keeps it": (
        view(heard("c", last=START + 29, claim=True, epoch=6), **KNOWN, vote=(C_ID, 4)), (C_ID, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BALLOTS)
def test_ballots(what: str) -> None:
    seen, vote = BALLOTS[what]
    assert ballot(seen, START + 30) == vote


def test_epochs_grow_past_those_that_were_voted_for() -> None:
    seen = view(heard(WORSE, vote=C_ID, vote_epoch=8), heard("b"))
    decision = decide(seen, START + 11)
    assert isinstance(decision, Claim)
    assert decision.epoch == 9


def test_an_old_address_of_a_node_is_not_a_second_node() -> None:
    seen = view(heard(WORSE, address="10.0.0.5"), heard(WORSE, first=START + 2), expected_nodes=4)
    assert "2 of 4" in decide(seen, START + 30).why
