"""Attacks on what lasts and what ends: claims, memberships, certificates, seals, tokens, clocks.

Numbers as a31 are of the review whose attacks these repeat.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodeagent import paths
from nodeagent.broker import ledger, operators
from nodeagent.broker.boards import MAX_WAITS, PATIENCE, Overloaded
from nodeagent.broker.broker import TOKEN_LIFE, Revoked, Stale, Unadmitted
from nodeagent.broker.ledger import CERTIFICATE_LIFE, MAX_NAMES_EACH, Ledger
from nodeagent.broker.ledger_file import (
    MAX_ADMISSIONS,
    MAX_FORMER,
    MAX_NAMES,
    MAX_PEOPLES,
    Admission,
    Certificate,
    Member,
    Revocation,
    Token,
)
from nodeagent.broker.places import PLACES
from nodeagent.errors import CommandFailed, FleetError, NodeAgentError, Refused
from nodeagent.join import approval
from nodeagent.join.approval import SEALED
from nodeagent.trust import fleet_file, pki, store
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.formats.forms import FOLDER
from tests.support.admission import NOW, Setup, csr
from tests.support.machine import fast_folder

DAY, YEAR = 86400, 366 * 86400


@pytest.fixture
def setup(tmp_path: Path, trust: Trust) -> Setup:
    """A broker whose enrolment ends a day from now."""
    return Setup(tmp_path, trust, seals_at=int(NOW) + DAY)


def new() -> NodeKey:
    """Whoever has a card makes as many as it likes."""
    return NodeKey(pki.new_key())


def told(setup: Setup, key: NodeKey, wish: str) -> str:
    """The name that the node is granted, or why none."""
    try:
        return setup.ask(key, wish).node_name
    except Unadmitted as error:
        return str(error)


# Claims.


def test_who_only_asked_before_the_seal_is_a_stranger(setup: Setup) -> None:
    """a35: twenty keys asked once; half a year later each got a grant, and nobody saw them."""
    keys = [new() for _ in range(20)]
    for number, key in enumerate(keys):
        setup.ask(key, f"pi-{number + 10}", f"10.77.0.{number + 10}")
    assert len(operators.overview(setup.broker)["claims"]) == 20
    setup.live(180 * DAY)
    setup.start()
    assert {told(setup, key, "pi-9") for key in keys} == {SEALED}
    setup.broker.tick()
    assert setup.cluster.tokens == {} and operators.overview(setup.broker)["claims"] == []


def test_a_claim_gives_no_right_even_while_it_lasts(setup: Setup, key: NodeKey) -> None:
    setup.ask(key, "pi-2")
    operators.seal(setup.broker, 0)
    assert told(setup, key, "pi-2") == SEALED


def test_a_claim_is_kept_alive_by_nothing(setup: Setup, key: NodeKey) -> None:
    """It asks again and again until the seal, and after it."""
    for _ in range(DAY // 500 - 1):
        setup.ask(key, "pi-2")
        setup.live(500)
    setup.live(1000)
    assert told(setup, key, "pi-2") == SEALED


def test_a_name_that_was_only_asked_for_is_free_again(setup: Setup, key: NodeKey) -> None:
    setup.ask(new(), "pi-2", "10.77.0.66")
    assert setup.ask(key, "pi-2").node_name != "pi-2"
    setup.live(TOKEN_LIFE)
    setup.broker.tick()
    assert setup.ask(key, "pi-2").node_name == "pi-2"


def test_a_request_that_was_never_approved_makes_no_member(setup: Setup, key: NodeKey) -> None:
    token = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs = [csr("wrong", token, cn="system:node:pi-3")]
    setup.broker.tick()
    operators.seal(setup.broker, 0)
    assert told(setup, key, "pi-2") == SEALED
    assert not setup.broker.ledger.certificates


def test_a_power_cut_between_approval_and_record_loses_no_member(
    setup: Setup, key: NodeKey
) -> None:
    token = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs = [csr("right", token)]
    approve = setup.cluster.approve

    def cut(name: str, uid: str, reason: str) -> None:
        approve(name, uid, reason)
        raise KeyboardInterrupt

    setup.cluster.approve = cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        setup.broker.tick()
    assert setup.broker.ledger.holder("pi-2") == key.node_id
    setup.start()
    assert [*setup.broker.ledger.certificates] == ["pi-2"], "known before anybody could have it"
    setup.broker.tick()
    assert setup.broker.ledger.is_member(key.node_id)


def test_what_a_person_approved_by_hand_is_remembered_too(setup: Setup, key: NodeKey) -> None:
    """kubectl certificate approve, while the broker was away: nobody else may get that name."""
    token = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs, setup.cluster.approved = [csr("by-hand", token)], ["by-hand"]
    setup.broker.tick()
    assert setup.broker.ledger.is_member(key.node_id)
    assert operators.revoke(setup.broker, "pi-2")["names"] == ["pi-2"]


# Names and certificates.


def _left(setup: Setup, key: NodeKey) -> None:
    setup.broker.ledger.part("pi-2")  # as leave.hear does for a final farewell


def _forgotten(setup: Setup, key: NodeKey) -> None:
    operators.forget(setup.broker, "pi-2")


def _revoked(setup: Setup, key: NodeKey) -> None:
    operators.revoke(setup.broker, "pi-2")
    operators.seal(setup.broker, 7 * DAY)


@pytest.mark.parametrize("end", [_left, _forgotten, _revoked])
@pytest.mark.parametrize("clock", [0, 3 * YEAR, -3 * YEAR])
def test_a_name_outlives_its_holder(
    end: Callable[[Setup, NodeKey], None], clock: int, setup: Setup, key: NodeKey
) -> None:
    """a31, a49: the name went to another board while the certificate of the first one lived."""
    setup.join(key, "pi-2")
    end(setup, key)
    setup.now += clock
    setup.start()
    operators.seal(setup.broker, 7 * DAY)
    del setup.cluster.nodes["pi-2"]
    assert setup.ask(new(), "pi-2").node_name != "pi-2"
    assert operators.revoke(setup.broker, "pi-2")["names"] == ["pi-2"], "nor is it out of reach"
    assert operators.forget(setup.broker, "pi-2")["days"] == 366
    setup.live(YEAR)
    assert operators.forget(setup.broker, "pi-2")["let_back"] == ["pi-2"]
    operators.seal(setup.broker, 7 * DAY)
    assert setup.ask(new(), "pi-2").node_name == "pi-2"


def test_who_left_renews_its_certificate_until_somebody_bars_it(setup: Setup, key: NodeKey) -> None:
    """Its year begins when its name is barred: a kubelet renews its certificate by itself."""
    setup.join(key, "pi-2")
    _left(setup, key)
    setup.live(3 * YEAR)
    assert operators.overview(setup.broker)["left"] == [
        {"name": "pi-2", "node_id": key.node_id, "days": 0}
    ]
    said = operators.forget(setup.broker, "pi-2")
    assert (said["days"], said["bar"]) == (366, ["pi-2"])


def test_all_names_that_a_key_had_a_certificate_for_are_barred(setup: Setup, key: NodeKey) -> None:
    """It takes another name, gives the first one up, and is revoked under the second."""
    for name in ("pi-2", "pi-3", "pi-4"):
        setup.join(key, name)
    setup.broker.ledger.part("pi-2")
    operators.forget(setup.broker, "pi-3")
    said = operators.revoke(setup.broker, "pi-4")
    assert sorted(said["names"]) == ["pi-2", "pi-3", "pi-4"]
    (row,) = {row["node_id"] for row in operators.overview(setup.broker)["left"]}
    assert row == key.node_id


def test_off_time_frees_no_name(setup: Setup, key: NodeKey) -> None:
    """Two years in a drawer: how long that was only a clock could say."""
    setup.join(key, "pi-2")
    operators.revoke(setup.broker, "pi-2")
    setup.now += 2 * YEAR
    setup.up = 30.0  # a boot
    setup.start()
    assert operators.forget(setup.broker, "pi-2")["days"] == 366
    setup.live(YEAR - DAY)
    for _ in range(3):  # starts count none of it twice
        setup.broker.ledger.set_seal(setup.broker.ledger.seal)
        setup.start()
    assert operators.forget(setup.broker, "pi-2")["days"] in (1, 2)


BOARD = "0123456789abcdef" * 2


def gone(setup: Setup, name: str = "pi-2") -> None:
    """Its card has died, or is being written."""
    setup.cluster.nodes[name] = False
    setup.cluster.since[name] = setup.now
    setup.live(300)


@pytest.mark.parametrize("deleted", [True, False], ids=["Node deleted", "Node away"])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_board_with_another_card_gets_its_name_back(
    sealed: bool, deleted: bool, setup: Setup, key: NodeKey
) -> None:
    """Its Node stays, for the new kubelet."""
    setup.join(key, "pi-2", BOARD)
    gone(setup)
    if deleted:
        del setup.cluster.nodes["pi-2"], setup.cluster.uids["pi-2"]
    again = new()
    if sealed:
        operators.seal(setup.broker, 0)
        with pytest.raises(Unadmitted):
            setup.ask(again, "pi-2", board=BOARD)
        operators.approve(setup.broker, again.node_id)
    assert setup.join(again, "pi-2", BOARD) == "pi-2"
    ledger = setup.broker.ledger
    assert ledger.holder("pi-2") == again.node_id
    assert ledger.is_member(again.node_id) and not ledger.is_member(key.node_id)
    setup.start()  # and so it is in the file
    assert setup.broker.ledger.holder("pi-2") == again.node_id
    assert setup.ask(again, "pi-2", board=BOARD).node_name == "pi-2"


def _another_board(setup: Setup, key: NodeKey) -> str:
    return BOARD[::-1]


def _no_serial(setup: Setup, key: NodeKey) -> str:
    return ""


def _barred(setup: Setup, key: NodeKey) -> str:
    operators.revoke(setup.broker, "pi-2")
    operators.seal(setup.broker, 7 * DAY)
    setup.cluster.nodes["pi-2"] = False
    return BOARD


def _leads(setup: Setup, key: NodeKey) -> str:
    setup.cluster.leaders.add("pi-2")
    return BOARD


def _reserved(setup: Setup, key: NodeKey) -> str:
    """It led once, and its Node is gone for a moment."""
    setup.broker.ledger.reserve(["pi-2"])
    return BOARD


@pytest.mark.parametrize(
    "but",
    [_another_board, _no_serial, _barred, _leads, _reserved],
    ids=lambda f: f.__name__,
)
def test_but_nobody_else_gets_it(
    but: Callable[[Setup, NodeKey], str], setup: Setup, key: NodeKey
) -> None:
    setup.join(key, "pi-2", BOARD)
    gone(setup)
    board, again = but(setup, key), new()
    assert setup.ask(again, "pi-2", board=board).node_name == f"pi-2-{again.node_id[2:6]}"
    assert setup.broker.ledger.holder("pi-2") == key.node_id and "pi-2" in setup.cluster.nodes


def test_a_board_without_a_serial_has_none_to_get_a_name_back_with(
    setup: Setup, key: NodeKey
) -> None:
    setup.join(key, "pi-2", "")
    gone(setup)
    assert setup.ask(new(), "pi-2", board="").node_name != "pi-2"


@pytest.mark.parametrize("board", ["x" * 128, "A" * 32, "0" * 31, f"{BOARD} "])
def test_what_is_no_mark_of_a_board_is_not_remembered(
    board: str, setup: Setup, key: NodeKey
) -> None:
    """Else a node's word could make the broker's memory unreadable."""
    setup.join(key, "pi-2", board)
    setup.start()
    assert setup.broker.ledger.certificates["pi-2"].board == ""
    gone(setup)
    assert setup.ask(new(), "pi-2", board=board).node_name != "pi-2"


def _restarted(setup: Setup, key: NodeKey) -> None:
    setup.cluster.nodes["pi-2"] = False
    setup.cluster.since["pi-2"] = setup.now


def _stale(setup: Setup, key: NodeKey) -> None:
    setup.cluster.nodes["pi-2"] = True  # as for most of a minute after a power cut


def _joining(setup: Setup, key: NodeKey) -> None:
    gone(setup)
    setup.ask(key, "pi-2", "10.77.0.66", board=BOARD)


@pytest.mark.parametrize("yet", [_restarted, _stale, _joining], ids=lambda f: f.__name__[1:])
def test_a_name_that_may_be_free_in_a_moment_is_waited_for(
    yet: Callable[[Setup, NodeKey], None], setup: Setup, key: NodeKey
) -> None:
    """With another one the board would stay under that. Nobody loses a place by it."""
    setup.join(key, "pi-2", BOARD)
    yet(setup, key)
    again, before = new(), [*setup.cluster.tokens]
    with pytest.raises(Overloaded):
        setup.ask(again, "pi-2", board=BOARD)
    assert [*setup.cluster.tokens] == before and "pi-2" in setup.cluster.nodes
    assert setup.broker.ledger.is_member(key.node_id)
    setup.cluster.nodes["pi-2"], setup.cluster.since["pi-2"] = False, setup.now
    setup.live(TOKEN_LIFE)
    setup.broker.tick()
    assert setup.ask(again, "pi-2", board=BOARD).node_name == "pi-2"


def test_a_clock_that_was_ahead_keeps_no_name_away(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2", BOARD)
    setup.cluster.nodes["pi-2"], setup.cluster.since["pi-2"] = False, setup.now + 9 * YEAR
    assert setup.ask(new(), "pi-2", board=BOARD).node_name == "pi-2"


def taken_over(setup: Setup, key: NodeKey) -> NodeKey:
    """The key of another card of the board, which has joined under its name."""
    setup.join(key, "pi-2", BOARD)
    gone(setup)
    again = new()
    assert setup.join(again, "pi-2", BOARD) == "pi-2"
    return again


def test_the_former_card_is_nobody(setup: Setup, key: NodeKey) -> None:
    again = taken_over(setup, key)
    assert setup.ask(key, "pi-2").node_name == f"pi-2-{key.node_id[2:6]}"
    assert setup.broker.ledger.holder("pi-2") == again.node_id


def test_a_found_card_is_barred_with_the_name_for_good(setup: Setup, key: NodeKey) -> None:
    """Whoever is let in again afterwards gets another name: the card's certificate lives on."""
    again = taken_over(setup, key)
    assert operators.revoke(setup.broker, "pi-2")["names"] == ["pi-2"]
    for one in (key, again):
        with pytest.raises(Revoked):
            setup.ask(one, "pi-2", board=BOARD)
        assert operators.approve(setup.broker, one.node_id)["let_back"] == []
        assert setup.broker.ledger.certificates["pi-2"].end, "still barred"
        assert setup.ask(one, "pi-2", board=BOARD).node_name == f"pi-2-{one.node_id[2:6]}"


def test_all_names_of_both_cards_are_barred_with_one(setup: Setup, key: NodeKey) -> None:
    """The former card has joined anew meanwhile, as a board of its own."""
    taken_over(setup, key)
    other = setup.join(key, "pi-2")
    assert sorted(operators.revoke(setup.broker, "pi-2")["names"]) == ["pi-2", other]
    assert all(one.end for one in setup.broker.ledger.certificates.values())


def test_the_former_cards_code_bars_the_name_too(setup: Setup, key: NodeKey) -> None:
    """Its certificate is for that name; the board's card of now is not revoked, but out."""
    again = taken_over(setup, key)
    assert operators.revoke(setup.broker, key.node_id)["names"] == ["pi-2"]
    ledger = setup.broker.ledger
    assert ledger.certificates["pi-2"].end and not ledger.is_member(again.node_id)
    assert ledger.revocation(again.node_id) is None


def test_a_name_that_stays_in_use_is_waited_for_no_longer_than_a_while(
    setup: Setup, key: NodeKey
) -> None:
    """Its card was moved to another board, where it goes on; this board has a new one."""
    setup.join(key, "pi-2", BOARD)
    again = new()
    operators.approve(setup.broker, again.node_id)
    for _ in range(PATIENCE // 60):
        with pytest.raises(Overloaded):
            setup.ask(again, "pi-2", board=BOARD)
        setup.live(60)
    assert setup.ask(again, "pi-2", board=BOARD).node_name == f"pi-2-{again.node_id[2:6]}"


def test_a_crowd_that_waits_is_soon_told_another_name(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2", BOARD)
    for _ in range(MAX_WAITS):
        with pytest.raises(Overloaded):
            setup.ask(new(), "pi-2", board=BOARD)
    assert setup.ask(new(), "pi-2", board=BOARD).node_name != "pi-2"


def test_a_board_comes_back_under_the_name_that_it_got_for_its_wish(
    setup: Setup, key: NodeKey
) -> None:
    """With each further card, however often it has to ask."""
    setup.join(key, "pi-2")
    second = new()
    name = setup.join(second, "pi-2", BOARD)
    assert name == f"pi-2-{second.node_id[2:6]}"
    for _ in range(3):
        gone(setup, name)
        again = new()
        assert setup.ask(again, "pi-2", board=BOARD).node_name == name
        assert setup.join(again, "pi-2", BOARD) == name


def test_a_card_that_was_just_granted_a_barred_name_does_not_get_it(
    setup: Setup, key: NodeKey
) -> None:
    setup.join(key, "pi-2", BOARD)
    gone(setup)
    again = new()
    operators.approve(setup.broker, again.node_id)
    token = setup.ask(again, "pi-2", board=BOARD).token.reveal()
    operators.revoke(setup.broker, key.node_id)
    setup.cluster.csrs.append(csr("late", token))
    setup.broker.tick()
    assert "late" not in setup.cluster.approved
    assert setup.broker.ledger.certificates["pi-2"].end
    assert operators.approve(setup.broker, again.node_id)["let_back"] == []


def test_a_revocation_is_whole_where_the_api_is_away(setup: Setup, key: NodeKey) -> None:
    """Enrolment is sealed before the cluster is asked, and the name does not come back later."""
    setup.join(key, "pi-2", BOARD)
    gone(setup)
    again = new()
    operators.approve(setup.broker, again.node_id)
    token = setup.ask(again, "pi-2", board=BOARD).token.reveal()
    setup.cluster.csrs.append(csr("late", token))
    setup.cluster.down = True
    with contextlib.suppress(CommandFailed, OSError):
        operators.revoke(setup.broker, key.node_id)
    assert not setup.broker.is_open()
    setup.cluster.down = False
    setup.broker.tick()
    assert "late" not in setup.cluster.approved
    assert setup.broker.ledger.certificates["pi-2"].end


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_revocation_is_whole_where_the_list_is_nearly_full(
    room: int, setup: Setup, key: NodeKey
) -> None:
    again = taken_over(setup, key)
    held = setup.broker.ledger
    others = [f"n-{number:0>16}".translate(str.maketrans("0189", "abcd")) for number in range(999)]
    held.revoked = tuple(Revocation(one, "", int(NOW)) for one in others[: MAX_PEOPLES - room])
    if not room:
        with pytest.raises(FleetError, match="revoked already"):
            operators.revoke(setup.broker, "pi-2")
        assert not held.certificates["pi-2"].end
        return
    for _ in range(2):  # and once more
        said = operators.revoke(setup.broker, "pi-2")
        assert said["names"] == ["pi-2"] and held.certificates["pi-2"].end
    assert held.revocation(again.node_id) and not setup.broker.is_open()
    assert bool(held.revocation(key.node_id)) == (room == 2)


def test_who_waits_for_a_name_takes_nobodys_place(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2", BOARD)
    for number in range(PLACES):
        setup.ask(new(), f"pi-{number + 3}", "10.77.0.66")
    setup.live(120)
    before = [*setup.cluster.tokens]
    with pytest.raises(Overloaded):
        setup.ask(new(), "pi-2", board=BOARD)
    assert [*setup.cluster.tokens] == before


def test_no_name_is_passed_on_without_a_place(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2", BOARD)
    gone(setup)
    for _ in range(PLACES):
        setup.ask(new(), "pi-9", "10.77.0.66")
    places = setup.broker.places
    with patch.object(places, "gives_way", lambda *_: None), pytest.raises(Overloaded):
        setup.ask(new(), "pi-2", board=BOARD)
    assert setup.broker.ledger.holder("pi-2") == key.node_id


def test_one_key_collects_no_names(setup: Setup) -> None:
    """Not more of them than it could wish for."""
    for number in range(MAX_NAMES_EACH + 1):
        setup.join(new(), f"pi-{number + 2}", BOARD)
        gone(setup, f"pi-{number + 2}")
    thief = new()
    got = {setup.ask(thief, f"pi-{number + 2}", board=BOARD).node_name for number in range(5)}
    assert len(setup.broker.ledger.names_of(thief.node_id)) == MAX_NAMES_EACH == len(got)


def test_a_board_that_had_many_cards_gets_another_name(setup: Setup, key: NodeKey) -> None:
    """Since each of its former keys has to be remembered, to be revoked with the name."""
    keys = [key, *(new() for _ in range(MAX_FORMER))]
    for one in keys:
        assert setup.join(one, "pi-2", BOARD) == "pi-2"
        gone(setup)
    assert setup.join(new(), "pi-2", BOARD) != "pi-2"
    assert setup.join(key, "pi-2", BOARD) == "pi-2", "one of them again"
    assert set(setup.broker.ledger.certificates["pi-2"].former) == {one.node_id for one in keys[1:]}
    operators.revoke(setup.broker, "pi-2")
    assert all(setup.broker.ledger.revocation(one.node_id) for one in keys)


def test_the_fullest_memory_can_be_read(setup: Setup) -> None:
    held, names = setup.broker.ledger, [f"{'x' * 58}{number:05}" for number in range(MAX_NAMES)]
    ids = [f"n-{number:0>16}".translate(str.maketrans("0189", "abcd")) for number in range(9999)]
    former = (*ids[:MAX_FORMER],)
    held.certificates = {
        name: Certificate(name, ids[number], board=BOARD, former=former)
        for number, name in enumerate(names)
    }
    held.members = {
        name: Member(name, ids[number], int(NOW), str(uuid.UUID(int=number)))
        for number, name in enumerate(names)
    }
    held.revoked = tuple(Revocation(one, names[0], int(NOW)) for one in ids[5000:5500])
    held.approved = dict.fromkeys(ids[6000:6500], 2**40)
    grant, mark = "g" * 6000, "0" * 64
    held.tokens = tuple(
        Token("abc123", ids[number], "A" * 43, name, "f" * 39, 2**40, grant if number < 32 else "",
              known=True, csr=mark, deleted=True, since=2**40, key=mark, board=BOARD)
        for number, name in enumerate(names[:ledger.MAX_TOKENS])
    )  # fmt: skip
    held.admissions = tuple(
        Admission(name, ids[0], int(NOW), "f" * 39, "abc123") for name in names[:MAX_ADMISSIONS]
    )
    held.set_seal(approval.Seal())
    setup.start()
    assert len(setup.broker.ledger.certificates) == MAX_NAMES


def test_forget_ends_every_open_token_of_the_name(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2", BOARD)
    gone(setup)
    token = setup.ask(new(), "pi-2", board=BOARD).token.reveal()
    setup.cluster.csrs.append(csr("late", token))
    assert operators.forget(setup.broker, "pi-2")["bar"] == ["pi-2"]
    setup.broker.tick()
    assert "late" not in setup.cluster.approved
    assert setup.broker.ledger.certificates["pi-2"].end
    setup.start()


@pytest.mark.parametrize("ready", [True, False])
def test_a_control_planes_name_is_never_given(ready: bool, setup: Setup, key: NodeKey) -> None:
    """a38; also where its Node is gone for a moment, as while it is made again."""
    setup.ask(new(), "pi-2", "10.77.0.66")
    setup.cluster.nodes["pi-1"] = ready
    if not ready:
        del setup.cluster.nodes["pi-1"]
        setup.start()
    assert setup.ask(key, "pi-1").node_name == f"pi-1-{key.node_id[2:6]}"


@pytest.mark.parametrize("wish", ["n-abcdefghij234567", "n-aaaaaaaaaaaaaaaa"])
def test_names_that_look_like_ids_are_refused(wish: str, setup: Setup, key: NodeKey) -> None:
    """`revoke n-...` would hit the wrong one of two."""
    with pytest.raises(Refused, match="looks like the id of a node"):
        setup.ask(key, wish)
    assert not setup.cluster.tokens
    with pytest.raises(Refused):
        setup.ask(key, key.node_id)
    assert setup.ask(key, "n-abcdefghij23456").node_name == "n-abcdefghij23456"


# Seals, approvals, tokens and clocks.


def test_sealing_withdraws_what_nobody_approved(setup: Setup, key: NodeKey) -> None:
    member, approved = new(), new()
    setup.join(member, "pi-3")
    setup.ask(member, "pi-3")
    operators.approve(setup.broker, approved.node_id)
    setup.ask(approved, "pi-4")
    thief = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs.append(csr("late", thief))
    operators.seal(setup.broker, 0)
    assert len(setup.cluster.tokens) == 2 and thief.partition(".")[0] not in setup.cluster.tokens
    setup.broker.tick()
    assert "late" not in setup.cluster.approved


def test_the_seal_that_comes_by_itself_withdraws_them_too(setup: Setup, key: NodeKey) -> None:
    setup.live(DAY - 60)
    setup.ask(key, "pi-2")
    setup.live(60)
    setup.cluster.csrs = [csr("late", setup.broker.outstanding[0].token_id)]
    setup.broker.tick()
    assert not setup.cluster.tokens and not setup.cluster.approved


def test_where_the_api_is_away_sealing_is_finished_later(setup: Setup, key: NodeKey) -> None:
    setup.ask(key, "pi-2")
    delete = setup.cluster.delete_token

    def away(token_id: str) -> None:
        raise CommandFailed("The API server is away.", "Wait.")

    setup.cluster.delete_token = away  # type: ignore[method-assign]
    with pytest.raises(CommandFailed):
        operators.seal(setup.broker, 0)
    setup.start()
    assert told(setup, new(), "pi-3") == SEALED
    setup.cluster.delete_token = delete  # type: ignore[method-assign]
    setup.broker.tick()
    assert not setup.cluster.tokens


BACK = [-3600, -DAY, -400 * DAY, -int(NOW)]


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("restart", [True, False])
def test_no_clock_opens_anything_again(
    back: int, restart: bool, setup: Setup, key: NodeKey
) -> None:
    """a05, a47: a clock that is set back made seal, opening and approval valid again."""
    other, opened = new(), new()
    operators.approve(setup.broker, other.node_id)
    setup.live(DAY)
    setup.broker.tick()  # the seal is seen, and the approval's end
    operators.seal(setup.broker, 3600)
    assert told(setup, opened, "pi-8") == "pi-8"
    setup.live(3600)
    setup.broker.tick()
    setup.now += back
    if restart:
        setup.up = 20.0
        setup.start()
    for one in (key, other, opened):
        assert told(setup, one, "pi-2") == SEALED
    assert not operators.overview(setup.broker)["approved"]
    setup.now = NOW + 30 * DAY
    assert told(setup, key, "pi-2") == SEALED


def test_a_clock_ahead_and_back_opens_nothing(setup: Setup, key: NodeKey) -> None:
    setup.now += 2 * DAY  # one look is enough
    assert told(setup, key, "pi-2") == SEALED
    setup.now -= 2 * DAY
    setup.start()
    assert told(setup, key, "pi-2") == SEALED


def test_a_token_made_while_the_clock_was_ahead_lives_ten_minutes(
    setup: Setup, key: NodeKey
) -> None:
    """a47: 23 hours, by what Kubernetes reads in it."""
    setup.seals_at = 0
    setup.start()
    setup.now += DAY
    setup.ask(key, "pi-2")
    setup.now -= DAY
    setup.up += TOKEN_LIFE
    setup.broker.tick()
    assert not setup.cluster.tokens


def test_a_nonce_of_the_future_does_not_last(setup: Setup, key: NodeKey) -> None:
    setup.seals_at = 0
    setup.start()
    setup.now += DAY
    late = setup.request(key, "pi-2")
    setup.now -= DAY
    setup.up += ledger.NONCE_LIFE + 1
    with pytest.raises(Stale):
        setup.broker.grant(late)


def test_a_clock_that_was_years_ahead_once_locks_nothing_for_ever(
    setup: Setup, key: NodeKey
) -> None:
    """A Pi without a clock of its own is told a wrong year, once. What ended stays ended, but all
    that is opened afterwards lasts as long as it was said to."""
    setup.join(new(), "pi-3")
    setup.now += 4 * YEAR
    setup.broker.tick()
    setup.now -= 4 * YEAR
    setup.up = 20.0
    setup.start()
    said = operators.overview(setup.broker)
    assert abs(said["ahead"] - 4 * YEAR) < 60 and not said["open"]
    until = operators.seal(setup.broker, 3600)["until"]
    assert abs(until - setup.now - 3600) < 60, "as people's clocks say it"
    assert told(setup, key, "pi-2") == "pi-2"
    setup.live(3600)
    assert told(setup, new(), "pi-9") == SEALED
    operators.approve(setup.broker, key.node_id)
    setup.live(approval.APPROVAL_LIFE - 60)
    assert setup.join(key, "pi-2") == "pi-2"
    other = new()
    operators.approve(setup.broker, other.node_id)
    setup.live(approval.APPROVAL_LIFE)
    assert told(setup, other, "pi-4") == SEALED
    setup.now += 5 * YEAR  # and when the true time comes, nothing happens
    assert told(setup, key, "pi-2") == "pi-2"


def test_the_greatest_time_is_kept_though_nothing_else_happens(setup: Setup) -> None:
    setup.now += DAY - 60
    setup.broker.tick()
    setup.now -= DAY
    setup.start()
    setup.live(120)
    assert told(setup, new(), "pi-2") == SEALED


def test_raising_seal_after_opens_nothing(setup: Setup, key: NodeKey) -> None:
    """A card's settings, edited on a laptop, are no person at the control plane."""
    setup.live(DAY)
    setup.broker.tick()
    for seals_at in (int(NOW) + 100 * DAY, 0):
        setup.seals_at = seals_at
        setup.start()
        assert told(setup, key, "pi-2") == SEALED


def test_revoking_ends_what_is_under_way(setup: Setup, key: NodeKey) -> None:
    """Also for a key that has no name yet, and again when the same words are said again."""
    setup.ask(key, "pi-2")
    assert operators.revoke(setup.broker, "pi-2")["names"] == []
    assert not setup.cluster.tokens
    assert operators.revoke(setup.broker, "pi-2")["node_id"] == key.node_id
    with pytest.raises(Revoked):
        setup.ask(key, "pi-2")
    operators.seal(setup.broker, 3600)
    assert setup.ask(new(), "pi-2").node_name == "pi-2", "it never had a certificate"


def test_all_that_hold_a_right_are_listed_to_the_last(setup: Setup) -> None:
    """Whoever is beyond the end of a list is not there for people."""
    setup.seals_at = 0
    setup.start()
    for number in range(700):
        node = f"n-{number:016d}".translate(str.maketrans("0189", "abcd"))
        setup.broker.ledger.certificates[f"pi-{number + 2}"] = Certificate(f"pi-{number + 2}", node)
        setup.broker.ledger.members[f"pi-{number + 2}"] = Member(f"pi-{number + 2}", node, int(NOW))
    rows = operators.overview(setup.broker)["admissions"]
    assert len({row["node_id"] for row in rows}) == len(rows) == 700


# What 0.2.0 wrote.

V1 = json.loads((FOLDER / "v1" / "broker-state.json").read_text())
A, B, C, D = (f"n-{letter * 16}" for letter in "abcd")


def from_v1(tmp_path: Path, trust: Trust, **changes: Any) -> Setup:
    """A broker that finds 0.2.0's memory."""
    setup = Setup(tmp_path, trust, seals_at=int(NOW) - 1)
    empty = {"names": {}, "tokens": [], "admissions": [], "approved": {}, "revoked": [],
             "seal": {"sealed": False, "open_until": 0}}  # fmt: skip
    setup.host.write(paths.LEDGER, json.dumps(V1 | empty | changes).encode(), 0o600)
    setup.start()
    return setup


def admission(name: str, node: str) -> dict[str, Any]:
    """As 0.2.0 wrote it."""
    return {"name": name, "node_id": node, "time": int(NOW) - DAY, "source": "10.77.0.12",
            "token_id": "abcdef"}  # fmt: skip


def test_nobody_loses_a_right_with_the_update(tmp_path: Path, trust: Trust, key: NodeKey) -> None:
    setup = from_v1(
        tmp_path, trust, names={"pi-2": key.node_id, "pi-3": A, "pi-4": B},
        admissions=[admission("pi-2", key.node_id), admission("pi-4", B)], approved={C: 2**39},
    )  # fmt: skip
    held = setup.broker.ledger
    assert told(setup, key, "pi-2") == "pi-2"
    assert [*held.members] == ["pi-2", "pi-4"] and held.approved == {C: 2**39}
    assert operators.revoke(setup.broker, "pi-4")["names"] == ["pi-4"]


def test_who_only_asked_0_2_0_is_a_stranger(tmp_path: Path, trust: Trust) -> None:
    """a35's keys are in the file."""
    key = new()
    setup = from_v1(tmp_path, trust, names={"pi-2": key.node_id})
    assert told(setup, key, "pi-2") == SEALED
    operators.seal(setup.broker, 3600)
    assert told(setup, new(), "pi-2") == "pi-2"


def test_who_was_let_in_and_fell_out_of_0_2_0s_list_is_no_stranger(
    tmp_path: Path, trust: Trust, key: NodeKey
) -> None:
    """It kept 500 admissions: where it is full, a name without one may be of an older one."""
    many = [admission(f"pi-{number}", A) for number in range(500)]
    setup = from_v1(tmp_path, trust, names={"pi-900": key.node_id}, admissions=many)
    assert told(setup, key, "pi-900") == "pi-900"


def test_a_kubelet_that_was_approved_as_the_power_went_is_no_stranger(
    tmp_path: Path, trust: Trust, key: NodeKey
) -> None:
    token = V1["tokens"][0] | {"node_id": key.node_id, "csr": "0" * 64, "deleted": True}
    setup = from_v1(tmp_path, trust, names={"pi-2": key.node_id}, tokens=[token])
    assert told(setup, key, "pi-2") == "pi-2"


def test_no_bar_is_lost_with_the_update(tmp_path: Path, trust: Trust) -> None:
    """Not even where the revocation is old, since how old only a clock knows."""
    gone = {"node_id": A, "name": "pi-3", "time": int(NOW) - 2 * YEAR}
    setup = from_v1(tmp_path, trust, names={"pi-2": A, "pi-3": A}, revoked=[gone],
                    seal={"sealed": True, "open_until": int(NOW) + 3600})  # fmt: skip
    for name in ("pi-2", "pi-3"):
        assert told(setup, new(), name).startswith(f"{name}-")
        assert operators.forget(setup.broker, name)["days"] == 366
    assert operators.revoke(setup.broker, A)["names"] == ["pi-2", "pi-3"]
    assert not setup.broker.ledger.members


def test_what_had_ended_for_0_2_0_stays_ended_though_the_clock_is_behind(
    tmp_path: Path, trust: Trust
) -> None:
    """The newest thing it wrote says how late it was at least."""
    late = admission("pi-2", A) | {"time": int(NOW)}
    setup = from_v1(tmp_path, trust, names={"pi-2": A}, admissions=[late])
    setup.now = NOW - 300 * DAY
    setup.start()
    assert told(setup, new(), "pi-3") == SEALED


def test_the_update_does_not_count_the_uptime_twice(tmp_path: Path, trust: Trust) -> None:
    setup = Setup(tmp_path, trust)
    setup.up = 300.0 * DAY
    late = admission("pi-2", A) | {"time": int(NOW)}
    data = V1 | {"names": {"pi-2": A}, "admissions": [late], "tokens": [], "revoked": []}
    setup.host.write(paths.LEDGER, json.dumps(data).encode(), 0o600)
    setup.start()
    assert setup.broker.ledger.ahead() == 0 and setup.broker.ledger.lived() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"members": [{"name": "pi-8", "node_id": A, "since": 0, "uid": ""}]},
        {"members": [{"name": "pi-2", "node_id": B, "since": 0, "uid": ""}]},
        {"certificates": [{"name": "pi-2", "node_id": A, "by": "x", "end": 0}] * 2},
        {"certificates": None}, {"seen": -1}, {"lived": "1"}, {"reserved": ["../x"]},
    ],
    ids=str,
)  # fmt: skip
def test_a_memory_that_contradicts_itself_is_damaged(
    change: dict[str, Any], tmp_path: Path, trust: Trust
) -> None:
    setup = Setup(tmp_path, trust)
    data = json.loads((FOLDER / "v2" / "broker-state.json").read_text()) | change
    setup.host.write(paths.LEDGER, json.dumps(data).encode(), 0o600)
    with pytest.raises(FleetError, match="damaged"):
        setup.start()


# Any order of all of it.

KEYS = [NodeKey(pki.new_key()) for _ in range(4)]
NAMES = ["pi-2", "pi-3"]
CARD = store.from_card(fleet_file.parse(fleet_file.make("home")[1]))


def test_a_boot_that_lasts_longer_than_the_one_before_counts_whole(setup: Setup) -> None:
    """The clock is behind, and nobody asks the broker for a day."""
    setup.now -= YEAR
    setup.up = 15.0
    setup.start()
    setup.live(DAY)
    assert not setup.broker.is_open()


BOARDS = ["", BOARD, BOARD[::-1]]


class Anything(RuleBasedStateMachine):
    """People, nodes, clocks and power cuts, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = fast_folder()
        self.setup = Setup(Path(self._folder.__enter__()), CARD, seals_at=int(NOW) + DAY)
        self.certified: dict[str, str] = {}  # name -> the key that ever got a certificate last
        self.boards: dict[str, str] = {}  # name -> what that said of its board
        self.living: dict[str, set[str]] = {}  # name -> keys whose certificate may live
        self.barred_at: dict[str, float] = {}  # name -> lived, when its last year began
        self.sealed = False
        self.passed = 0.0

    def teardown(self) -> None:
        self._folder.__exit__(None, None, None)

    @rule(key=st.sampled_from(KEYS), name=st.sampled_from(NAMES), board=st.sampled_from(BOARDS))
    def join(self, key: NodeKey, name: str, board: str) -> None:
        ledger_ = self.setup.broker.ledger
        member = ledger_.is_member(key.node_id)
        approved = key.node_id in ledger_.approved
        try:
            given = self.setup.join(key, name, board)
        except (Unadmitted, Revoked, Overloaded, NodeAgentError):
            return
        assert member or approved or not self.sealed
        if self.certified.get(given, key.node_id) != key.node_id:
            since = self.barred_at.get(given)
            over = since is not None and self.passed - since >= CERTIFICATE_LIFE
            of_its_board = since is None and board and self.boards.get(given) == board
            assert over or of_its_board, "two living certificates for one name"
            if over:
                self.living.pop(given, None)
        self.certified[given] = key.node_id
        self.boards[given] = board or (self.boards.get(given, "") if member else "")
        self.living.setdefault(given, set()).add(key.node_id)
        self.barred_at.pop(given, None)

    @rule(key=st.sampled_from(KEYS), name=st.sampled_from(NAMES))
    def ask(self, key: NodeKey, name: str) -> None:
        with contextlib.suppress(Unadmitted, Revoked, NodeAgentError):
            self.setup.ask(key, name)

    @rule(key=st.sampled_from(KEYS), name=st.sampled_from(NAMES), approved=st.booleans())
    def another_card(self, key: NodeKey, name: str, approved: bool) -> None:
        """Of the board that has this name, while all are off."""
        for one in {*self.setup.cluster.nodes} - self.setup.cluster.leaders:
            self.setup.cluster.nodes[one] = False
        self.live(700)
        if approved:
            self.approve(key)
        self.join(key, name, self.boards.get(name) or BOARD)

    @rule(name=st.sampled_from(NAMES))
    def revoke(self, name: str) -> None:
        try:
            said = operators.revoke(self.setup.broker, name)
        except Refused:
            return
        self.sealed = True
        for one in said["names"]:
            self.barred_at.setdefault(one, self.passed)

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        said = operators.forget(self.setup.broker, name)
        for one in said["bar"]:
            self.barred_at.setdefault(one, self.passed)

    def approve(self, key: NodeKey) -> None:
        """Let it in."""
        for name in operators.approve(self.setup.broker, key.node_id)["let_back"]:
            if self.barred_at.pop(name, None) is not None:
                assert self.living[name] <= {key.node_id}, "another card's certificate is let back"

    @rule(key=st.sampled_from(KEYS))
    def person(self, key: NodeKey) -> None:
        self.approve(key)

    @rule()
    def leave(self) -> None:
        for name in [*self.setup.broker.ledger.members][:1]:
            self.setup.broker.ledger.part(name)

    @rule(seconds=st.sampled_from([0, 3600]))
    def seal(self, seconds: int) -> None:
        operators.seal(self.setup.broker, seconds)
        self.sealed = not seconds

    @rule(seconds=st.sampled_from([60, 700, DAY, YEAR]))
    def live(self, seconds: int) -> None:
        self.setup.live(seconds)
        self.passed += seconds
        self.sealed = self.sealed or seconds >= DAY
        self.setup.broker.tick()
        if not self.setup.broker.is_open():
            self.sealed = True

    @rule(by=st.sampled_from([-YEAR, -DAY, DAY, YEAR, 20 * YEAR]))
    def wrong_clock(self, by: int) -> None:
        self.setup.now = max(0, self.setup.now + by)
        self.setup.broker.tick()
        self.sealed = self.sealed or not self.setup.broker.is_open()

    @rule()
    def power_cut(self) -> None:
        self.setup.up = 15.0
        self.setup.start()

    @invariant()
    def members_hold_certificates(self) -> None:
        held = self.setup.broker.ledger
        for member in held.members.values():
            assert held.certificates[member.name].node_id == member.node_id
            assert not held.revocation(member.node_id)

    @invariant()
    def what_a_revoked_key_was_certified_for_is_barred(self) -> None:
        for name, keys in self.living.items():
            if any(self.setup.broker.ledger.revocation(key) for key in keys):
                assert name in self.barred_at

    @invariant()
    @precondition(lambda self: self.sealed)
    def sealed_stays_sealed(self) -> None:
        assert not self.setup.broker.is_open()


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@given(st.lists(st.tuples(st.integers(-(2**31), 2**31), st.integers(0, 10**6), st.booleans())))
@settings(max_examples=50, deadline=None)
def test_the_ledgers_times_only_move_forward(moves: list[tuple[int, int, bool]]) -> None:
    with fast_folder() as folder:
        setup = Setup(Path(folder), CARD)
        now = lived = passed = 0.0
        for clock, seconds, boots in moves:
            setup.now = max(0, min(setup.now + clock, 2**39))
            setup.up = seconds if boots else setup.up + seconds
            passed += seconds
            if boots:
                setup.broker.ledger.set_seal(setup.broker.ledger.seal)
                setup.start()
            held = setup.broker.ledger
            assert held.now() >= max(now, setup.now) - 1 and held.lived() >= lived - 1
            now, lived = held.now(), held.lived()
            assert lived <= passed + 1000 + len(moves)


def test_the_ledger_is_written_by_nobody_else(setup: Setup) -> None:
    assert os.stat(setup.host.path(paths.LEDGER)).st_mode & 0o777 == 0o600
    assert Ledger(setup.host).members == {}
