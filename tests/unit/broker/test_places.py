"""Crowds that want all places: who gets one, and when. A virtual clock, the real broker."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.broker import operators, places
from nodeagent.broker.boards import Overloaded
from nodeagent.broker.broker import MAX_REQUESTS, TOKEN_LIFE, Stale, Unadmitted
from nodeagent.broker.ledger_file import ENROL, SHARE_OF_NAMES, Certificate, Token
from nodeagent.broker.places import APPROVED, GRACE, LEAD, MEMBER, PLACES, SHARE, Places
from nodeagent.errors import CommandFailed
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Issuer, Trust
from tests.support.admission import NOW, Setup, csr


@pytest.fixture
def setup(tmp_path: Path, trust: Trust) -> Setup:
    """A broker whose enrolment is open for good."""
    return Setup(tmp_path, trust)


def new() -> NodeKey:
    """Another key of the same card."""
    return NodeKey(pki.new_key())


def fill(setup: Setup, sources: int = PLACES) -> None:
    """All places, held from so many addresses."""
    for number in range(PLACES):
        setup.ask(new(), f"a-{number}", f"10.77.1.{number % sources}")


def turned_away(setup: Setup, key: NodeKey, source: str, wish: str = "pi-2") -> bool:
    """Whether it gets no grant now."""
    try:
        setup.ask(key, wish, source)
    except Overloaded:
        return True
    return False


def test_one_address_with_many_keys_keeps_nobody_out(setup: Setup, key: NodeKey) -> None:
    """a07, from one address: 60 of 60 times the honest board was turned away."""
    crowd = [new() for _ in range(40)]
    for minute in range(10):
        for one in crowd:
            turned_away(setup, one, "10.77.0.66", "a-1")
        if minute:
            assert not turned_away(setup, key, "10.77.0.12"), minute
        setup.live(60)
        setup.broker.tick()


@pytest.mark.parametrize("sources", [40, 100])
def test_many_addresses_keep_a_board_out_for_minutes_only(
    sources: int, setup: Setup, key: NodeKey
) -> None:
    """a07, from as many addresses as keys: they hold places and never join. Once each has left one
    unused, a board that did not goes before them."""
    crowd = [(new(), f"10.77.1.{number}") for number in range(sources)]
    dice, tries = random.Random(1), 0
    for _ in range(20):
        asking = [*crowd, (key, "10.77.0.12")]
        dice.shuffle(asking)
        for one, source in asking:
            away = turned_away(setup, one, source, "a-1")
            if one is key and not away:
                return
            tries += one is key
        setup.live(60)
        setup.broker.tick()
    pytest.fail(f"turned away {tries} times")


def test_a_board_that_is_joining_is_not_displaced(setup: Setup, key: NodeKey) -> None:
    """Whatever comes within a minute of its grant, from any addresses."""
    setup.ask(key, "pi-2", "10.77.0.12")
    (mine,) = setup.cluster.tokens
    for second, number in itertools.product(range(0, GRACE, 10), range(20)):
        turned_away(setup, new(), f"10.78.{second}.{number}", "a-1")
        assert mine in setup.cluster.tokens
        if number == 19:
            setup.live(10)
            setup.broker.tick()


def test_asking_again_makes_no_place_younger(setup: Setup) -> None:
    """Else whoever has one keeps it by asking each minute."""
    crowd = [(new(), f"10.77.1.{number}") for number in range(PLACES)]
    for _ in range(GRACE // 30 + 1):
        for one, source in crowd:
            setup.ask(one, "a-1", source)
        setup.live(30)
    assert not turned_away(setup, new(), "10.77.0.12")


KINDS: dict[str, Callable[[Setup, NodeKey], object]] = {
    "a member": lambda setup, key: setup.join(key, "pi-7"),
    "one that a person approved": lambda setup, key: operators.approve(setup.broker, key.node_id),
}


@pytest.mark.parametrize("who", KINDS)
def test_members_and_approved_ones_get_a_place_at_once(
    who: str, setup: Setup, key: NodeKey
) -> None:
    KINDS[who](setup, key)
    fill(setup)
    assert turned_away(setup, new(), "10.77.0.12")
    assert not turned_away(setup, key, "10.77.0.12")


def test_a_card_that_may_lead_gets_a_place_beside_a_crowd_that_may_not(
    setup: Setup, trust: Trust, key: NodeKey
) -> None:
    fill(setup)
    setup.trust = replace(trust, enrol=Issuer(trust.enrol.cert))
    assert not turned_away(setup, key, "10.77.0.12")


def test_members_do_not_take_the_places_of_newcomers(setup: Setup, key: NodeKey) -> None:
    """A crowd that has joined, to be of the better kind."""
    members = [new() for _ in range(PLACES + 4)]
    for number, one in enumerate(members):
        setup.join(one, f"a-{number}")
    for number, one in enumerate(members):
        turned_away(setup, one, f"10.77.1.{number}", f"a-{number}")
    assert len(setup.cluster.tokens) == PLACES
    for number in range(SHARE):
        assert not turned_away(setup, new(), f"10.77.0.{number}", f"pi-{number}")
    kinds = Counter(token.kind for token in setup.broker.outstanding)
    assert kinds == {MEMBER: PLACES - SHARE, ENROL: SHARE}


def token(kind: str = ENROL, source: str = "a", since: int = 0, csr: str = "") -> Token:
    """One that is held."""
    number = next(_numbers)
    return Token(f"t{number}", f"n-{'a' * 16}", "", "x", source, 600, since=since, kind=kind,
                 csr=csr)  # fmt: skip


_numbers = itertools.count()


@pytest.mark.parametrize(
    ("held", "kind", "source", "expected"),
    [
        # Of the kind with most, where one's own has less than its share.
        ([token(since=5), token(since=4)] + [token(MEMBER)] * 1, APPROVED, "b", 1),
        # Among equals the address with most, its oldest.
        ([token(source="a", since=9), token(source="a", since=8), token(source="c")] * 1
         + [token(source=f"x{n}") for n in range(SHARE)], ENROL, "b", 1),
        # None: all are in use, each by another address.
        ([token(source=f"x{n}", since=960) for n in range(PLACES)], ENROL, "b", None),
        # The one that was unused for longest.
        ([token(source=f"x{n}", since=900 - n * GRACE) for n in range(SHARE)], ENROL, "b", 7),
        # Not one whose kubelet fetches its certificate just now.
        ([token(source="a", since=950, csr="k")] * 9 + [token(source="c", since=999)], ENROL, "b",
         None),
    ],
)  # fmt: skip
def test_whose_place_it_is(held: list[Token], kind: str, source: str, expected: int | None) -> None:
    found = Places().gives_way(held, kind, source, 1000.0)
    assert found is (None if expected is None else held[expected])


def test_what_is_remembered_of_addresses_is_bounded_and_lapses() -> None:
    found = Places()
    for number in range(3 * places.ADDRESSES):
        found.left(token(source=f"s{number}"), GRACE)
    assert len(found._left) == places.ADDRESSES
    assert found._count(f"s{number}", GRACE) == 1
    assert found._count(f"s{number}", GRACE + places.REMEMBERED) == 0
    found.left(token(source="quick", since=GRACE - 1), GRACE)
    found.left(token(source="joined", csr="k"), GRACE)
    assert not found._count("quick", GRACE) and not found._count("joined", GRACE)


# Names.


def test_keys_that_never_join_take_no_names(setup: Setup, key: NodeKey) -> None:
    """a06: 256 keys claimed a thousand names in 70 minutes, and nobody joined afterwards."""
    for number in range(1000):
        turned_away(setup, new(), f"10.77.{number % 9}.{number % 200}", f"pi-{number}")
        if number % 16 == 15:
            setup.live(60)
            setup.broker.tick()
    setup.live(TOKEN_LIFE)
    setup.broker.tick()
    assert setup.join(key, "pi-2") == "pi-2"
    assert [*setup.broker.ledger.certificates] == ["pi-2"]


def test_names_of_one_issuer_used_up_leave_those_of_the_other_and_of_people(
    setup: Setup, trust: Trust, key: NodeKey
) -> None:
    """A card whose finder joined a thousand times, and left each time."""
    node = f"n-{'a' * 16}"
    used = {f"a-{n}": Certificate(f"a-{n}", node, ENROL) for n in range(SHARE_OF_NAMES)}
    setup.broker.ledger.certificates = used
    with pytest.raises(Unadmitted):
        setup.ask(key, "pi-2")
    operators.approve(setup.broker, key.node_id)
    assert setup.join(key, "pi-2") == "pi-2"
    setup.trust = replace(trust, enrol=Issuer(trust.enrol.cert))
    other = new()
    assert setup.join(other, "pi-3") == "pi-3"
    assert setup.broker.ledger.certificates["pi-3"].by == LEAD
    setup.start()  # what was written is read


def test_further_names_of_a_member_are_of_its_first_ones_share(setup: Setup, key: NodeKey) -> None:
    """Else each key could take four for one."""
    setup.join(key, "pi-2")
    node = f"n-{'a' * 16}"
    used = {f"a-{n}": Certificate(f"a-{n}", node, ENROL) for n in range(SHARE_OF_NAMES - 1)}
    setup.broker.ledger.certificates |= used
    assert setup.join(key, "pi-3") == "pi-2", "it stays who it is"


# Certificate requests.


def test_a_token_that_makes_many_requests_is_taken_away(setup: Setup, key: NodeKey) -> None:
    """a09: 560 requests of one token hid the next kubelet's, and nobody joined for a day."""
    thief, honest = new(), key
    flood = setup.ask(thief, "a-1", "10.77.0.66").token.reveal()
    good = setup.ask(honest, "pi-2").token.reveal()
    setup.cluster.csrs = [
        csr(f"a-{number}", flood, cn="system:node:a-1") for number in range(MAX_REQUESTS + 1)
    ] + [csr("z-right", good)]
    setup.broker.tick()
    assert setup.cluster.approved == ["z-right"]
    assert [*setup.cluster.tokens] == [good.partition(".")[0]]
    assert len(setup.cluster.denied) == MAX_REQUESTS + 1, "they are gone in an hour"
    assert not setup.broker.ledger.is_member(thief.node_id)


def test_strays_are_denied_a_few_at_a_time_and_other_peoples_are_left_alone(
    setup: Setup, key: NodeKey
) -> None:
    good = setup.ask(key, "pi-2").token.reveal()
    theirs = csr("theirs", "abcdef.x", groups=("system:bootstrappers:kubeadm:default-node-token",))
    setup.cluster.csrs = [csr(f"s-{n}", "zzzzzz.x") for n in range(50)] + [theirs]
    for looks in (1, 2, 3):
        setup.broker.tick()
        assert len(setup.cluster.denied) == min(20 * looks, 50)
    assert "theirs" not in setup.cluster.denied
    setup.cluster.csrs.append(csr("right", good))
    setup.broker.tick()
    assert setup.cluster.approved == ["right"]


def test_a_stray_that_cannot_be_denied_holds_nothing_up(setup: Setup, key: NodeKey) -> None:
    good = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs = [csr("stray", "zzzzzz.x"), csr("right", good)]

    def gone(name: str, uid: str, reason: str) -> None:
        raise CommandFailed("It is gone.", "Nothing.")

    setup.cluster.deny = gone  # type: ignore[method-assign]
    setup.broker.tick()
    assert setup.cluster.approved == ["right"]


def test_one_key_that_asks_without_end_fills_nothing(setup: Setup, key: NodeKey) -> None:
    """Nine asks a second filled the thousand tokens that are kept for repeats."""
    thief = new()
    for number in range(1100):
        setup.ask(thief, "a-1", "10.77.0.66")
        setup.live(number % 9 == 8)
    assert len(setup.broker.ledger.tokens) <= 12
    assert setup.join(key, "pi-2") == "pi-2"


def test_an_older_request_of_a_key_that_asked_again_is_stale(setup: Setup, key: NodeKey) -> None:
    """Whoever heard it says it again, to take away the token that the node just got."""
    old = setup.request(key, "pi-2")
    setup.broker.grant(old)
    for _ in range(2):
        setup.live(2)
        setup.ask(key, "pi-2")
    with pytest.raises(Stale):
        setup.broker.grant(old)
    assert len(setup.cluster.tokens) == 1
    assert setup.now < NOW + 60
