"""A node says that it leaves: who is heard, and what of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nodeagent.broker import leave, ledger, operators
from nodeagent.broker.broker import Revoked, Stale
from nodeagent.errors import CommandFailed, Untrusted
from nodeagent.join import leave as farewell
from nodeagent.trust import jws, pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.admission import Setup

UID = "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11"
OTHER = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def setup(tmp_path: Path, trust: Trust, key: NodeKey) -> Setup:
    """A broker whose cluster has the node pi-2 of ``key``."""
    made = Setup(tmp_path, trust)
    made.join(key, "pi-2")
    made.cluster.uids["pi-2"] = UID
    return made


def said(setup: Setup, key: NodeKey, trust: Trust | None = None, **more: Any) -> bytes:
    """The message of ``key``, with changes."""
    whose = trust or setup.trust
    fields: dict[str, Any] = {
        "name": "pi-2",
        "uid": UID,
        "final": False,
        "nonce": setup.broker.nonce(),
    } | more
    chain = whose.leaf("client", key.public)
    return farewell.build(whose.fleet_id, key, chain, **fields)


def test_its_node_goes_and_its_name_stays(setup: Setup, key: NodeKey) -> None:
    assert leave.hear(setup.broker, said(setup, key)) == "pi-2"
    assert "pi-2" not in setup.cluster.nodes
    assert not setup.broker.outstanding, "a token it had asked for is of no use to anybody"
    stranger = NodeKey(pki.new_key())
    assert setup.ask(stranger, "pi-2").node_name != "pi-2"
    assert setup.ask(key, "pi-2").node_name == "pi-2", "it comes back under its name"


def test_for_good_it_is_a_stranger_and_its_name_is_nobodys(setup: Setup, key: NodeKey) -> None:
    """a31: whoever kept its certificate was that node still, the name went to another board, and
    nobody could revoke it."""
    leave.hear(setup.broker, said(setup, key, final=True))
    assert not setup.broker.ledger.is_member(key.node_id)
    assert setup.ask(NodeKey(pki.new_key()), "pi-2").node_name != "pi-2"
    (left,) = operators.overview(setup.broker)["left"]
    assert (left["name"], left["node_id"], left["days"]) == ("pi-2", key.node_id, 0)
    revoked = operators.revoke(setup.broker, "pi-2")
    assert (revoked["node_id"], revoked["names"]) == (key.node_id, ["pi-2"])
    assert operators.forget(setup.broker, "pi-2")["days"] == 366


def test_said_again_it_does_no_harm(setup: Setup, key: NodeKey) -> None:
    message = said(setup, key)
    leave.hear(setup.broker, message)
    leave.hear(setup.broker, message)
    setup.cluster.nodes["pi-2"] = True  # it has come back meanwhile
    setup.cluster.uids["pi-2"] = OTHER
    leave.hear(setup.broker, message)
    assert "pi-2" in setup.cluster.nodes


def test_nobody_speaks_for_another(setup: Setup, key: NodeKey, stranger: Trust) -> None:
    other = NodeKey(pki.new_key())
    setup.ask(other, "pi-3")
    before = dict(setup.cluster.nodes)
    for message in (
        said(setup, other), said(setup, key, name="pi-1"), said(setup, key, name="pi-3"),
        said(setup, key, trust=stranger), setup.request(key, "pi-2"), b"", b"x.y.z",
    ):  # fmt: skip
        with pytest.raises(Untrusted):
            leave.hear(setup.broker, message)
    assert setup.cluster.nodes == before


@pytest.mark.parametrize(
    "change",
    [
        {"uid": ""}, {"uid": "../../nodes/pi-1"}, {"uid": UID.upper()}, {"final": 1},
        {"name": "PI-2"}, {"name": "pi-1/../pi-2"}, {"nonce": ""},
    ],
)  # fmt: skip
def test_another_form_is_refused(setup: Setup, key: NodeKey, change: dict[str, Any]) -> None:
    with pytest.raises(Untrusted):
        leave.hear(setup.broker, said(setup, key, **change))
    assert "pi-2" in setup.cluster.nodes


def test_a_signature_of_another_kind_is_refused(setup: Setup, key: NodeKey) -> None:
    message = said(setup, key)
    claims = jws.peek(message, farewell.LEAVE_TYPE)
    for kind in ("nodeagent-request+jws", "JWT"):
        with pytest.raises(Untrusted):
            leave.hear(setup.broker, jws.sign(claims, key.private, kind))
    with pytest.raises(Untrusted):
        setup.broker.grant(message)


def test_an_old_nonce_is_refused(setup: Setup, key: NodeKey) -> None:
    late = said(setup, key)
    setup.now += ledger.NONCE_LIFE + 1
    with pytest.raises(Stale):
        leave.hear(setup.broker, late)
    with pytest.raises(Stale):
        leave.hear(setup.broker, said(setup, key, nonce="A" * 43))


def test_a_revoked_node_frees_no_name(setup: Setup, key: NodeKey) -> None:
    operators.revoke(setup.broker, "pi-2")
    with pytest.raises(Revoked):
        leave.hear(setup.broker, said(setup, key, final=True))
    assert setup.broker.ledger.holder("pi-2") == key.node_id


def test_where_the_cluster_is_down_it_is_said_again(setup: Setup, key: NodeKey) -> None:
    setup.cluster.down = True
    with pytest.raises(CommandFailed):
        leave.hear(setup.broker, said(setup, key, final=True))
    assert not setup.broker.ledger.is_member(key.node_id)
    setup.cluster.down = False
    leave.hear(setup.broker, said(setup, key, final=True))
    assert "pi-2" not in setup.cluster.nodes


def test_the_message_is_as_it_was_said(setup: Setup, key: NodeKey) -> None:
    nonce = setup.broker.nonce()
    proved = farewell.verify(setup.trust.anchors, said(setup, key, nonce=nonce, final=True))
    assert proved == farewell.Leave(key.node_id, "pi-2", UID, True, nonce)
