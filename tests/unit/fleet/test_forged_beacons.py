"""What somebody with a worker's card can say, and what comes of it: nothing but a delay.

The attacker has the beacon key and the enrol issuer: it signs for nodes of its own, as many as it
likes, and speaks unsigned in anybody's name, as nodes of 0.2.0 do. Whole fleets under it are
simulated in ``tests/simulate/attack.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeagent.agent import conflict
from nodeagent.agent.rival_watch import AGENT, RivalWatch
from nodeagent.errors import Untrusted
from nodeagent.fleet.beacon import EPOCH_MAX, Proof, Said, open_, prove
from nodeagent.fleet.candidacy import HEALED_EPOCH, Candidacy
from nodeagent.fleet.election import Claim, Decision, Join, Lead, Wait, decide
from nodeagent.fleet.neighbours import (
    CHECKS_EACH,
    LAPSE,
    MAX_NODES,
    SHARE,
    Neighbours,
    proved,
)
from nodeagent.fleet.peers import MAX_PEERS, Roster
from nodeagent.fleet.rivals import Side
from nodeagent.fleet.sight import PATIENCE_WITH_ANY, Heard, known_leader
from nodeagent.fleet.votes import EPOCH_END, EPOCH_STEP, ballot
from nodeagent.statefile import StateFile
from nodeagent.trust import voucher
from nodeagent.trust.store import Trust
from tests.support.machine import Machine
from tests.support.speakers import (
    KEY,
    POINT,
    Speaker,
    came,
    inside,
    key,
    seal_values,
    unsigned,
)
from tests.unit.fleet.test_election import (
    BETTER,
    CLAIMED,
    READY,
    START,
    WORSE,
    beacon,
    heard,
    view,
)

VICTIM, MADE_UP = Speaker(1), Speaker(2, vouched=False)
TRUE = beacon("a", node_id=VICTIM.node_id, **READY, phase="ready", address="10.77.0.1")
LATER = 10**6  # seconds after the start


def hearing() -> Neighbours:
    return Neighbours(KEY, "n-" + "m" * 16, POINT)


# Who speaks.


def test_the_own_signature_and_the_issuers_voucher_are_told_apart() -> None:
    for sealed, proof in (
        (VICTIM.seal(TRUE), Proof.ISSUER),
        (MADE_UP.seal(TRUE), Proof.KEY),
        (unsigned(TRUE), Proof.NONE),
    ):
        assert prove(open_(KEY, sealed), POINT) is proof


def test_a_voucher_is_for_one_key_and_of_one_fleet() -> None:
    thief = Speaker(3, vouched=False)
    thief.voucher = VICTIM.voucher
    assert prove(open_(KEY, thief.seal(TRUE)), POINT) is Proof.KEY
    thief.voucher = voucher.vouch(key(998), thief.private.public_key())  # of another fleet
    assert prove(open_(KEY, thief.seal(TRUE)), POINT) is Proof.KEY


def _with(values: list[Any], **at: Any) -> str:
    for place, value in at.items():
        values[int(place[1:])] = value
    return seal_values(values)


FORGERIES: dict[str, Callable[[], str]] = {
    "its own signature under another's id": lambda: MADE_UP.sign(TRUE),
    "another's signature over other words": lambda: _with(inside(VICTIM.seal(TRUE)), _8=False),
    "another's signature over another epoch": lambda: _with(
        inside(VICTIM.seal(TRUE)), _7=EPOCH_MAX
    ),
    "another's key, its own signature": lambda: _with(
        inside(VICTIM.seal(TRUE)), _20=inside(MADE_UP.seal(TRUE))[-1]
    ),
    "no point of the curve": lambda: _with(inside(VICTIM.seal(TRUE)), _18="A" * 44),
    "a signature of zeros": lambda: _with(inside(VICTIM.seal(TRUE)), _20="A" * 86),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_signature_is_refused_with_the_name(what: str) -> None:
    with pytest.raises(Untrusted, match=VICTIM.node_id):
        prove(open_(KEY, FORGERIES[what]()), POINT)
    neighbours = hearing()
    assert neighbours.update(None, came([FORGERIES[what]()]), 1.0)[1] == ()


@pytest.mark.parametrize("more", [["x"], ["", ""], [1, 2, 3, 4]])
def test_what_is_added_behind_a_signature_spoils_it(more: list[Any]) -> None:
    with pytest.raises(Untrusted):
        prove(open_(KEY, seal_values([*inside(VICTIM.seal(TRUE)), *more])), POINT)


# In another's name (a22).

HIGHER = replace(TRUE, boot="f" * 16, seq=2**48, address="10.77.0.66")


def addresses(found: tuple[Heard, ...]) -> set[str]:
    return {one.beacon.address for one in found}


def test_an_unsigned_word_in_the_name_of_a_node_that_signs_is_not_heard() -> None:
    neighbours = hearing()
    neighbours.update(None, came([VICTIM.seal(TRUE)], "10.77.0.1"), 1.0)
    found = neighbours.update(None, came([unsigned(HIGHER)], "10.77.0.66"), 2.0)[1]
    assert addresses(found) == {"10.77.0.1"}
    again = VICTIM.seal(replace(TRUE, seq=2))
    (one,) = neighbours.update(None, came([again], "10.77.0.1"), 3.0)[1]
    assert (one.last, one.proof) == (3.0, Proof.ISSUER)


def test_a_node_that_signs_is_heard_whoever_spoke_in_its_name_before() -> None:
    neighbours = hearing()
    neighbours.update(None, came([unsigned(HIGHER)], "10.77.0.66"), 1.0)
    found = neighbours.update(None, came([VICTIM.seal(TRUE)], "10.77.0.1"), 2.0)[1]
    assert [(one.beacon.address, one.proof) for one in found] == [("10.77.0.1", Proof.ISSUER)]


def test_of_a_node_that_signs_nothing_each_word_stands_beside_the_others() -> None:
    """A control plane of 0.2.0: its true address is there, whatever is said in its name."""
    neighbours = hearing()
    neighbours.update(None, came([unsigned(HIGHER)], "10.77.0.66"), 1.0)
    found = neighbours.update(None, came([unsigned(TRUE)], "10.77.0.1"), 2.0)[1]
    assert addresses(found) == {"10.77.0.1", "10.77.0.66"}
    later = unsigned(replace(TRUE, seq=2))
    found = neighbours.update(None, came([later], "10.77.0.1"), 3.0)[1]
    assert [one.last for one in found if one.beacon.address == "10.77.0.1"] == [3.0]


def test_only_the_address_that_proved_itself_is_believed() -> None:
    hints = (Heard(TRUE, START, START), Heard(HIGHER, START, START + 1))
    assert isinstance(decide(view(*hints), START + 2), Wait)
    told = proved(hints, {(TRUE.node_id, "10.77.0.1")})
    assert [one.proof for one in told] == [Proof.TLS, Proof.NONE]
    assert isinstance(decide(view(*told), START + 2), Join)
    assert known_leader(hints, START + 2) == "" and known_leader(told, START + 2) == TRUE.node_id


# Made-up nodes.


def test_a_list_full_of_made_up_nodes_keeps_nobody_out() -> None:
    neighbours = hearing()
    for number in range(MAX_NODES + 100):
        made_up = replace(TRUE, node_id=f"n-{number:016d}".translate(str.maketrans("0189", "abcd")))
        neighbours.take(None, [(f"10.66.0.{number}", made_up, Proof.KEY)], 1.0)
    neighbours.update(None, came([VICTIM.seal(TRUE)], "10.77.0.1"), 2.0)
    honest = replace(TRUE, address="10.77.0.5", node_id="n-" + "w" * 16)
    found = neighbours.take(None, [("10.77.0.5", honest, Proof.KEY)], 3.0)[1]
    assert {"n-" + "w" * 16, VICTIM.node_id} <= {one.beacon.node_id for one in found}
    assert len(found) <= MAX_NODES + 1
    assert neighbours.take(None, [], 2.0 + LAPSE)[1] == tuple(one for one in found if one.last > 2)


def test_one_source_has_its_share() -> None:
    neighbours = hearing()
    for number in range(100):
        made_up = replace(TRUE, node_id=f"n-{number}")
        found = neighbours.take(None, [("10.66.0.1", made_up, Proof.KEY)], 1.0)[1]
    assert len(found) == SHARE


def test_a_flood_of_signatures_from_one_source_leaves_the_others_their_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []

    def looked(said: Said, issuer: bytes) -> Proof:
        looks.append(said.beacon.node_id)
        return prove(said, issuer)

    monkeypatch.setattr("nodeagent.fleet.beacon.prove", looked)
    flood = [Speaker(100 + number, vouched=False).seal(TRUE) for number in range(16)]
    found = hearing().update(
        None, [*came(flood, "10.66.0.1"), *came([VICTIM.seal(TRUE)], "10.77.0.1")], 1.0
    )[1]
    assert VICTIM.node_id in {one.beacon.node_id for one in found}
    assert len(looks) == CHECKS_EACH + 1


def test_what_was_not_looked_into_is_looked_into_next_time() -> None:
    neighbours = hearing()
    several = came([Speaker(100 + number).seal(TRUE) for number in range(CHECKS_EACH + 1)])
    assert len(neighbours.update(None, several, 1.0)[1]) == CHECKS_EACH
    assert len(neighbours.update(None, several, 2.0)[1]) == CHECKS_EACH + 1


def test_what_people_see_of_made_up_nodes_is_bounded() -> None:
    roster = Roster()
    for number in range(MAX_PEERS + 50):
        made_up = replace(TRUE, node_id=f"n-{number}")
        roster.update([Heard(made_up, float(number), float(number))], number, 1000.0 + number)
    assert len(roster.peers) == MAX_PEERS
    assert f"n-{MAX_PEERS + 49}" in {peer["node_id"] for peer in roster.peers}


# The election. What: (what is heard, changes of the view, seconds after the start, decision).
ANY: dict[str, Any] = {"proof": Proof.KEY}
BEST: dict[str, Any] = {"fitness": (1, 9, 2**31, 1), **ANY}
VOTES: dict[str, Any] = {"vote": "n-" + "m" * 16, "vote_epoch": 1}
FORGED: dict[str, tuple[list[Heard], dict[str, Any], float, type[Decision]]] = {
    "it says that it leads": ([heard(BETTER, **READY, **ANY)], {}, 30, Wait),
    "it says that it leads, to a pinned one": (
        [heard(BETTER, **READY, **ANY)], {"pinned": "control-plane"}, 30, Claim,
    ),
    "it claims and ranks better, for long": (
        [heard(BETTER, claim=True, last=START + 700, **BEST)],
        {"own_heard": START + 690}, 701, Claim,
    ),
    "it claims and ranks better, to a claimant, for long": (
        [heard(BETTER, claim=True, last=START + 700, **BEST)],
        {**CLAIMED, "own_heard": START + 690}, 701, Lead,
    ),
    "it claims, to a pinned claimant": (
        [heard(BETTER, claim=True, **BEST)], {"pinned": "control-plane", **CLAIMED}, 21, Lead,
    ),
    "it knows a leader, for long": (
        [heard(BETTER, leader="n-" + "q" * 16, role="worker", last=START + 700, **ANY)],
        {"own_heard": START + 690}, 701, Claim,
    ),
    "it led and is silent": (
        [heard(BETTER, **READY, last=START + 300, **ANY)], {"own_heard": START + 690}, 701, Claim,
    ),
    "it says that it is in a cluster": (
        [heard(BETTER, role="worker", phase="ready", last=START + 700, **ANY)],
        {"own_heard": START + 690}, 701, Wait,
    ),
    "it says that it is in a cluster, to a pinned one": (
        [heard(BETTER, role="worker", phase="ready", **ANY)],
        {"pinned": "control-plane"}, 30, Claim,
    ),
    "a thousand votes": (
        [heard("a", node_id=f"n-{number}", **VOTES, **ANY) for number in range(1000)],
        {"expected_nodes": 3, **CLAIMED}, 30, Wait,
    ),
    "unsigned votes in the names of all": (
        [heard(letter, **VOTES, proof=Proof.NONE) for letter in "abc"],
        {"expected_nodes": 4, **CLAIMED}, 30, Wait,
    ),
    "votes of one that proved to lead, 0.2.0": (
        [heard("a", **VOTES, proof=Proof.TLS)], {"expected_nodes": 2, **CLAIMED}, 30, Wait,
    ),
    "a thousand are expected, it says": (
        [heard(WORSE), heard(BETTER, role="worker", expected=1000, **ANY)], {}, 30, Claim,
    ),
    "one is expected, it says, and many are in sight": (
        [heard("a", node_id=f"n-{n}", expected=1, role="worker", **ANY) for n in range(9)],
        {"expected_nodes": 9, **CLAIMED}, 30, Wait,
    ),
    "where the card says that one may lead, its own vote is enough": (
        [heard("a", role="worker", **ANY), heard("b", role="worker", **ANY)],
        {"expected_nodes": 4, "electors": 1, **CLAIMED}, 30, Lead,
    ),
    "but not where another that may lead is in sight": (
        [heard("a"), heard("b", role="worker", **ANY), heard("c", role="worker", **ANY)],
        {"expected_nodes": 4, "electors": 1, **CLAIMED}, 30, Wait,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_worker_card_delays_and_does_not_decide(what: str) -> None:
    others, changes, after, expected = FORGED[what]
    decision = decide(view(*others, **changes), START + after)
    assert type(decision) is expected, decision.why


def test_a_word_that_nothing_proves_is_heeded_for_a_while() -> None:
    """A control plane of 0.2.0 is making its cluster: it cannot be asked yet."""
    making = heard(BETTER, role="control-plane", claim=True, phase="initialising",
                   last=START + 500, proof=Proof.NONE)  # fmt: skip
    seen = view(making, own_heard=START + 500)
    assert isinstance(decide(seen, START + 501), Wait)
    assert PATIENCE_WITH_ANY >= 600


# Votes and epochs.


def test_nobody_but_the_claimant_frees_a_vote() -> None:
    given = ("n-" + "z" * 16, 3)
    for proof in (Proof.NONE, Proof.KEY, Proof.TLS):
        withdrawn = heard("z", epoch=EPOCH_MAX, claim=False, proof=proof)
        seen = view(withdrawn, expected_nodes=3, vote=given)
        assert ballot(seen, START + 1) == given
    assert ballot(view(heard("z", epoch=3), expected_nodes=3, vote=given), START + 1) is None


def test_only_a_vouched_claim_gets_a_vote() -> None:
    claims = heard("z", claim=True, epoch=1, **BEST), heard("a", claim=True, epoch=1)
    assert ballot(view(*claims, expected_nodes=3), START + 1) == ("n-" + "a" * 16, 1)


@pytest.mark.parametrize(
    ("epoch", "proof", "next_one"),
    [
        (EPOCH_MAX, Proof.KEY, 1), (EPOCH_MAX, Proof.NONE, 1), (EPOCH_MAX, Proof.ISSUER, 1),
        (EPOCH_STEP + 1, Proof.ISSUER, 1), (EPOCH_STEP, Proof.ISSUER, EPOCH_STEP + 1),
        (3, Proof.ISSUER, 4), (3, Proof.KEY, 1),
    ],
)  # fmt: skip
def test_numbers_go_by_steps(epoch: int, proof: Proof, next_one: int) -> None:
    """a48: one beacon of epoch 2^31 made every board lead alone."""
    for says in ({"epoch": epoch}, {"vote_epoch": epoch}):
        seen = view(heard(WORSE, role="worker", proof=proof, **says))
        decision = decide(seen, START + 30)
        assert isinstance(decision, Claim) and decision.epoch == next_one


def test_at_the_end_of_its_counter_a_node_claims_no_more() -> None:
    seen = view(me=beacon("m", epoch=EPOCH_END), own_heard=START + 190)
    decision = decide(seen, START + 200)
    assert isinstance(decision, Wait) and "reset --identity" in decision.why


# The state file of a node that was attacked under 0.2.0.


@pytest.mark.parametrize("epoch", [EPOCH_END, EPOCH_MAX, EPOCH_MAX + 1, 2**53])
def test_a_poisoned_state_file_heals(epoch: int, tmp_path: Path) -> None:
    state_file = StateFile(Machine(tmp_path))
    state_file.set(epoch=epoch, claim={"epoch": epoch})
    said = Candidacy(state_file).standing("auto", may_lead=True)
    assert (said["epoch"], said["claim"]) == (HEALED_EPOCH, False)
    again = StateFile(Machine(tmp_path)).values
    assert (again["epoch"], again["claim"]) == (HEALED_EPOCH, None)
    history = again["history"] or []
    assert history[-1]["event"] == "epoch out of step"


def test_a_vote_for_a_poisoned_claim_is_free_once_its_node_signs() -> None:
    poisoned = ("n-" + "z" * 16, EPOCH_MAX)
    silent = heard("z", epoch=0, proof=Proof.NONE)
    assert ballot(view(silent, expected_nodes=3, vote=poisoned), START + 1) == poisoned
    healed = heard("z", epoch=HEALED_EPOCH)
    assert ballot(view(healed, expected_nodes=3, vote=poisoned), START + 1) is None


@pytest.mark.parametrize("epoch", [1, EPOCH_MAX, EPOCH_MAX + 1])
def test_what_a_leader_writes_can_be_read(epoch: int, trust: Trust, tmp_path: Path) -> None:
    """It led alone under 0.2.0, and its cluster stays."""
    machine = Machine(tmp_path, live=False)
    state_file = StateFile(machine)
    state_file.set(epoch=epoch, claim={"epoch": epoch}, role="control-plane", born=5)
    said = Candidacy(state_file).standing("auto", may_lead=True)
    assert said["claim"]
    sealed = VICTIM.seal(replace(TRUE, epoch=said["epoch"]))
    assert open_(KEY, sealed).beacon.epoch == min(epoch, EPOCH_MAX)
    side = conflict.publish(machine, state_file, trust, VICTIM.node_id, alone=True)
    assert Side.from_json(side.to_json()) == side


# Asking rivals (a23).


def test_made_up_rivals_neither_stop_the_announcing_nor_come_before_a_true_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, {f"{AGENT} meet 10.77.0.1 6444": "stay\n"})
    waiting: list[Callable[[], object]] = []
    monkeypatch.setattr(machine, "background", waiting.append)
    made_up = [
        Heard(replace(TRUE, node_id=f"n-{number}", address=f"10.66.{number}.1"), 5.0, 5.0)
        for number in range(200)
    ]
    watch = RivalWatch(machine)
    everybody = [*made_up, Heard(TRUE, 5.0, 5.0, Proof.ISSUER)]
    for second in range(50):
        assert watch.round(everybody, 5.0 + second)
    assert len(waiting) == 1 and machine.ran == []  # asked beside the rounds, one at a time
    waiting.pop()()
    assert machine.ran == [f"{AGENT} meet 10.77.0.1 6444"]


# What 0.2.0 reads.


def test_0_2_0_reads_what_this_version_signs() -> None:
    """It takes the fields it knows, in their order, and passes over the rest."""
    signed, plain = inside(VICTIM.seal(TRUE)), inside(unsigned(TRUE))
    assert signed[: len(plain)] == plain
    assert len(plain) == 18 and len(signed) == 21
