"""Approve, seal, revoke, forget: who the broker lets in when people have a say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import paths
from nodeagent.broker import ledger, operators
from nodeagent.broker.broker import Revoked, Stale, Unadmitted
from nodeagent.errors import CommandFailed, FleetError, Refused
from nodeagent.join import approval
from nodeagent.join.approval import APPROVAL, SEALED, Seal, code, read_code
from nodeagent.trust import fleet_file, pki, store
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Issuer, Trust
from tests.support.admission import NOW, Setup, csr

DAY = 86400


@pytest.fixture(scope="session")
def approving() -> Trust:
    """A fleet whose nodes wait for approval, as a control plane's card holds it."""
    return store.from_card(fleet_file.parse(fleet_file.make("home", approve=True)[1]))


@pytest.fixture
def setup(tmp_path: Path, trust: Trust) -> Setup:
    """A fresh broker, enrolment open for good."""
    return Setup(tmp_path, trust)


@pytest.fixture
def approve_setup(tmp_path: Path, approving: Trust) -> Setup:
    """Its broker."""
    return Setup(tmp_path, approving)


@pytest.fixture
def sealed(tmp_path: Path, trust: Trust) -> Setup:
    """A broker whose enrolment has ended by itself."""
    return Setup(tmp_path, trust, seals_at=int(NOW) - 1)


def may_live(setup: Setup) -> None:
    """A kubelet's certificate ends, as far as anybody knows."""
    setup.live(ledger.CERTIFICATE_LIFE)


def why(setup: Setup, key: NodeKey, wish: str = "pi-2") -> str:
    """ "" where the node gets a grant, else what it waits for."""
    try:
        setup.ask(key, wish)
    except Unadmitted as error:
        assert not setup.cluster.tokens
        return str(error)
    return ""


NODE = "n-abcdefghij234567"


def test_a_code_is_all_of_the_id() -> None:
    assert code(NODE) == "ABCD-EFGH-IJ23-4567"


@pytest.mark.parametrize(
    "typed",
    ["ABCD-EFGH-IJ23-4567", "abcd efgh ij23 4567", " abcdefghij234567\n", NODE,
     "ABCD-EFGHIJ-23-4567"],
)  # fmt: skip
def test_a_code_is_read_as_people_type_it(typed: str) -> None:
    assert read_code(typed) == NODE


@pytest.mark.parametrize(
    "typed",
    ["", "ABCD", "ABCD-EFGH-IJ23", "ABCD-EFGH-IJ23-456", "ABCD-EFGH-IJ23-45670", "1", "1)",
     "ABCD-EFGH-IJ23-4561", "ABCD-EFGH-IJ23-45é7", "ABCD-EFGH-IJ23-456*", "all", "*"],
)  # fmt: skip
def test_no_prefix_and_no_number_is_a_code(typed: str) -> None:
    with pytest.raises(Refused):
        read_code(typed)


@given(st.text(max_size=40))
def test_any_text_is_a_whole_code_or_none(typed: str) -> None:
    try:
        node_id = read_code(typed)
    except Refused:
        return
    assert read_code(code(node_id)) == node_id


@pytest.mark.parametrize(
    ("seal", "now", "seals_at", "is_open"),
    [
        (Seal(), 100, 0, True),
        (Seal(), 100, 101, True),
        (Seal(), 101, 101, False),
        (Seal(sealed=True), 0, 0, False),
        (Seal(sealed=True), 0, 101, False),
        (Seal(sealed=True, open_until=50), 49, 0, True),
        (Seal(sealed=True, open_until=50), 50, 101, False),
    ],
)
def test_when_enrolment_is_open(seal: Seal, now: float, seals_at: int, is_open: bool) -> None:
    assert seal.is_open(now, seals_at) is is_open


def test_the_mode_is_signed_and_no_field_of_a_file(approving: Trust, trust: Trust) -> None:
    assert approving.anchors.by_approval and not trust.anchors.by_approval
    # Another enrol issuer than the root signed is no card.
    data = fleet_file.dump(fleet_file.parse(fleet_file.make("home")[1]))
    mixed = replace(fleet_file.parse(data), enrol_cert=pki.cert_pem(approving.enrol.cert))
    with pytest.raises(pki.BadCertificate):
        store.from_card(mixed)


def test_a_node_waits_until_it_is_approved(approve_setup: Setup, key: NodeKey) -> None:
    setup = approve_setup
    assert why(setup, key) == APPROVAL
    (asking,) = operators.overview(setup.broker)["waiting"]
    assert (asking["node_id"], asking["name"]) == (key.node_id, "pi-2")
    assert asking["source"] == "10.77.0.12"
    assert operators.approve(setup.broker, key.node_id)["state"] == "waiting"
    setup.start()
    assert why(setup, key) == "" and why(setup, key) == "", "a lost answer needs no person"
    assert setup.join(key, "pi-2") == "pi-2"
    assert setup.broker.ledger.approved == {}, "it is used once"
    setup.start()
    assert why(setup, key, "pi-3") == "", "who is in may ask again"
    assert operators.approve(setup.broker, key.node_id)["state"] == "admitted"


def test_another_node_is_not_let_in_with_it(approve_setup: Setup, key: NodeKey) -> None:
    operators.approve(approve_setup.broker, key.node_id)
    assert why(approve_setup, NodeKey(pki.new_key())) == APPROVAL


def test_an_approval_ends_by_itself(approve_setup: Setup, key: NodeKey) -> None:
    assert operators.approve(approve_setup.broker, key.node_id)["state"] == "unheard"
    approve_setup.now += approval.APPROVAL_LIFE
    assert why(approve_setup, key) == APPROVAL


def test_a_card_that_may_lead_needs_no_approval(
    approve_setup: Setup, approving: Trust, key: NodeKey
) -> None:
    approve_setup.trust = replace(approving, enrol=Issuer(approving.enrol.cert))
    assert why(approve_setup, key) == ""


def test_the_waiting_list_is_bounded_and_keeps_nobody_out(approve_setup: Setup) -> None:
    setup = approve_setup
    crowd = [NodeKey(pki.new_key()) for _ in range(approval.MAX_WAITING + 5)]
    assert {why(setup, key) for key in crowd} == {APPROVAL}
    assert len(operators.overview(setup.broker)["waiting"]) == approval.MAX_WAITING
    operators.approve(setup.broker, crowd[-1].node_id)
    assert why(setup, crowd[-1]) == ""
    setup.live(approval.WAITING_LIFE)
    assert operators.overview(setup.broker)["waiting"] == []
    assert not setup.host.read(paths.LEDGER) or crowd[0].node_id.encode() not in (
        setup.host.read(paths.LEDGER) or b""
    ), "what strangers ask is not written to the card"


def test_a_sealed_fleet_takes_no_new_keys_and_keeps_its_own(
    tmp_path: Path, trust: Trust, key: NodeKey
) -> None:
    setup = Setup(tmp_path, trust, seals_at=int(NOW) + DAY)
    setup.join(key, "pi-2")
    setup.live(DAY)
    setup.broker.tick()
    assert why(setup, NodeKey(pki.new_key()), "pi-9") == SEALED
    assert why(setup, key) == "", "a lost answer or a new card image needs no human"


def test_seal_opens_for_a_while_and_closes_again(sealed: Setup) -> None:
    assert why(sealed, NodeKey(pki.new_key())) == SEALED
    assert operators.seal(sealed.broker, 3600)["until"] == int(NOW) + 3600
    sealed.start()
    assert operators.overview(sealed.broker)["open"]
    assert why(sealed, NodeKey(pki.new_key())) == ""
    sealed.now += 3600
    sealed.broker.tick()
    assert why(sealed, NodeKey(pki.new_key()), "pi-9") == SEALED


def test_sealing_by_hand_holds_over_a_restart(setup: Setup, key: NodeKey) -> None:
    operators.seal(setup.broker, 0)
    setup.start()
    assert why(setup, key) == SEALED
    assert operators.approve(setup.broker, key.node_id)["state"] == "waiting"
    assert why(setup, key) == ""


def test_revoking_ends_all_of_it(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2")
    request = setup.request(key, "pi-2")
    token = setup.broker.grant(request)
    setup.cluster.approved.clear()
    granted = setup.broker.outstanding[0].token_id
    setup.cluster.csrs = [csr("late", granted)]
    said = operators.revoke(setup.broker, "pi-2")
    assert token and said == {"node_id": key.node_id, "names": ["pi-2"], "sealed": True}
    assert not setup.cluster.tokens
    setup.start()
    setup.broker.tick()
    assert not setup.cluster.approved
    for again in (request, setup.request(key, "pi-3")):
        with pytest.raises(Revoked):
            setup.broker.grant(again)
    assert why(setup, NodeKey(pki.new_key()), "pi-9") == SEALED, "its card could make another key"
    assert operators.revoke(setup.broker, key.node_id)["names"] == ["pi-2"], "once more is no error"
    assert len(setup.broker.ledger.revoked) == 1


def test_a_token_of_a_revoked_node_goes_when_the_api_answers_again(
    setup: Setup, key: NodeKey
) -> None:
    setup.join(key, "pi-2")
    setup.ask(key, "pi-2")
    setup.cluster.approved.clear()
    setup.cluster.down = True
    setup.cluster.delete_token = _away  # type: ignore[method-assign]
    with pytest.raises(CommandFailed):
        operators.revoke(setup.broker, "pi-2")
    assert setup.broker.ledger.revocation(key.node_id), "the denial is durable first"
    del setup.cluster.delete_token
    setup.cluster.down = False
    setup.start()
    setup.cluster.csrs = [csr("late", setup.broker.outstanding[0].token_id)]
    setup.broker.tick()
    assert not setup.cluster.tokens and not setup.cluster.approved
    assert operators.revoke(setup.broker, "pi-2")["names"] == ["pi-2"], "who asks bars it"


def _away(token_id: str) -> None:
    raise CommandFailed("The API server is away.", "Wait.")


def test_an_approval_takes_a_revocation_back(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2")
    operators.revoke(setup.broker, "pi-2")
    assert operators.approve(setup.broker, key.node_id)["let_back"] == ["pi-2"]
    # The power went before the cluster was told: the same words say it again.
    setup.start()
    assert operators.approve(setup.broker, key.node_id)["let_back"] == ["pi-2"]
    assert why(setup, key) == "" and setup.ask(key, "pi-2").node_name == "pi-2"


def test_a_key_that_never_came_can_be_revoked_by_its_code(setup: Setup, key: NodeKey) -> None:
    assert operators.revoke(setup.broker, key.node_id)["names"] == []
    with pytest.raises(Revoked):
        setup.ask(key, "pi-2")


@pytest.mark.parametrize("who", ["pi-1", "nobody"])
def test_only_who_was_let_in_is_revoked_by_name(who: str, setup: Setup) -> None:
    with pytest.raises(Refused, match="was let in here"):
        operators.revoke(setup.broker, who)
    assert setup.cluster.nodes == {"pi-1": True} and why(setup, NodeKey(pki.new_key())) == ""


def test_who_is_forgotten_is_a_stranger_and_barred(sealed: Setup, key: NodeKey) -> None:
    """Its kubelet would renew its certificate for ever, where nobody bars it."""
    operators.approve(sealed.broker, key.node_id)
    sealed.join(key, "pi-2")
    said = operators.forget(sealed.broker, "pi-2")
    assert said == {"forgotten": True, "days": 366, "bar": ["pi-2"], "let_back": []}
    sealed.start()
    said = operators.forget(sealed.broker, "pi-2")
    assert said == {"forgotten": False, "days": 366, "bar": ["pi-2"], "let_back": []}
    assert why(sealed, key) == SEALED, "its key is a stranger's now"
    operators.seal(sealed.broker, 3600)
    assert sealed.ask(key, "pi-2").node_name != "pi-2", "which is barred for it too"


def test_a_claim_is_forgotten_at_once(setup: Setup, key: NodeKey) -> None:
    setup.ask(key, "pi-2")
    said = operators.forget(setup.broker, "pi-2")
    assert said["forgotten"] and not said["days"] and not setup.cluster.tokens
    assert not operators.forget(setup.broker, "pi-2")["forgotten"]
    assert setup.ask(NodeKey(pki.new_key()), "pi-2").node_name == "pi-2"


def test_a_revoked_nodes_name_stays_taken_while_its_certificate_lives(
    setup: Setup, key: NodeKey
) -> None:
    setup.join(key, "pi-2")
    operators.revoke(setup.broker, "pi-2")
    assert operators.forget(setup.broker, "pi-2")["days"] == 366
    setup.now += 20 * 366 * DAY  # a clock that is wrong frees nothing
    setup.start()
    assert operators.forget(setup.broker, "pi-2")["days"] == 366
    may_live(setup)
    for forgotten in (True, False):  # again where root could not tell the cluster
        said = operators.forget(setup.broker, "pi-2")
        assert said == {"forgotten": forgotten, "days": 0, "bar": [], "let_back": ["pi-2"]}
    setup.cluster.nodes.pop("pi-2", None)
    operators.seal(setup.broker, 3600)
    assert setup.join(NodeKey(pki.new_key()), "pi-2") == "pi-2"


FULL: dict[str, Callable[[Setup, NodeKey], Any]] = {
    "approve": lambda setup, key: operators.approve(setup.broker, key.node_id),
    "revoke": lambda setup, key: operators.revoke(setup.broker, key.node_id),
}


@pytest.mark.parametrize("what", FULL)
def test_what_people_say_is_bounded(
    what: str, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_PEOPLES", 3)
    for _ in range(3):
        FULL[what](setup, NodeKey(pki.new_key()))
    with pytest.raises(FleetError):
        FULL[what](setup, NodeKey(pki.new_key()))


def test_a_replayed_request_never_lists_anybody(approve_setup: Setup, key: NodeKey) -> None:
    old = approve_setup.request(key, "pi-2")
    approve_setup.now += ledger.NONCE_LIFE + 1
    with pytest.raises(Stale):
        approve_setup.broker.grant(old)
    assert operators.overview(approve_setup.broker)["waiting"] == []


def test_all_of_it_is_audited(
    sealed: Setup, key: NodeKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(3):
        why(sealed, key)
    operators.approve(sealed.broker, key.node_id)
    sealed.join(key, "pi-2")
    operators.seal(sealed.broker, 60)
    operators.revoke(sealed.broker, "pi-2")
    may_live(sealed)
    operators.forget(sealed.broker, "pi-2")
    events = [line.split('"')[3] for line in caplog.messages]
    assert events == [
        "enrolment ended", "waits", "approved", "granted", "admitted", "token deleted", "opened",
        "revoked", "sealed", "freed",
    ]  # fmt: skip
