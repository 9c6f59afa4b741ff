"""All statements that cross from one process to another, and who vouches for each: as data.

Whoever only carries a statement must not be able to make, change or use it. The first test finds a
signed message that is not in the table; the others forge each with every key that is not its
signer's: those of broker, network process, nodes and of another fleet.
"""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodeagent.broker import main as broker_main
from nodeagent.errors import Untrusted
from nodeagent.fleet.rivals import Side
from nodeagent.join import leave, messages, statement, which_cluster
from nodeagent.trust import jws, pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.admission import BROKER, NONCE, NOW, claims, cluster, granted, proved, request

PRODUCT = Path(__file__).parents[3] / "nodeagent"
KINDS = ("agent", "broker", "server", "client")
NODE = NodeKey(pki.new_key())
SIDE = Side(NODE.node_id, "pi-1", "ab" * 32, 3, NOW, True)
UID = "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11"


def _broker_cert(trust: Trust) -> Any:
    return trust.leaf("broker", BROKER.public_key())[0]


def _answer(trust: Trust, side: bytes) -> bytes:
    return which_cluster.answer(trust.fleet_id, BROKER, _broker_cert(trust), side, NONCE)


@dataclass(frozen=True)
class Statement:
    """``signer``: whose leaf vouches (``client``: a node's); ``carriers``: through whose hands it
    goes; ``proof``: the claim that shows the signer's certificate. ``make`` gives a true one,
    ``read`` is what the receiver does."""

    what: str
    signer: str
    carriers: str
    make: Callable[[Trust], bytes]
    read: Callable[[Trust, bytes], Any]
    proof: str = "cert"


STATEMENTS: dict[str, Statement] = {
    messages.REQUEST_TYPE: Statement(
        "who wants to join, with which kubelet key", "client", "network process",
        lambda trust: request(trust, NODE),
        lambda trust, data: messages.verify_request(trust.anchors, data), "chain",
    ),
    messages.GRANT_TYPE: Statement(
        "under which name, with which token", "broker", "network process",
        lambda trust: granted(trust, NODE),
        lambda trust, data: proved(trust, data, NODE.node_id),
    ),
    statement.CLUSTER_TYPE: Statement(
        "where the cluster is, and which CA it has", "agent", "broker, network process",
        lambda trust: statement.build(trust, cluster(), NOW),
        lambda trust, data: statement.verify(trust.anchors, data, NOW),
    ),
    which_cluster.SIDE_TYPE: Statement(
        "which cluster a control plane has", "agent", "broker, network process",
        lambda trust: which_cluster.build(trust, SIDE, NOW),
        lambda trust, data: which_cluster.verify(trust.anchors, _answer(trust, data), NONCE),
    ),
    which_cluster.ANSWER_TYPE: Statement(
        "that it is so now", "broker", "network process",
        lambda trust: _answer(trust, which_cluster.build(trust, SIDE, NOW)),
        lambda trust, data: which_cluster.verify(trust.anchors, data, NONCE),
    ),
    leave.LEAVE_TYPE: Statement(
        "which node leaves", "client", "network process",
        lambda trust: leave.build(
            trust.fleet_id, NODE, trust.leaf("client", NODE.public), "pi-2", UID, False, NONCE
        ),
        lambda trust, data: leave.verify(trust.anchors, data), "chain",
    ),
}  # fmt: skip

# What is asked of the broker over its socket, and what makes it do it.
ASKED = {
    "nonce": "nobody: it gives no right",
    "grant": "the node, by its signature",
    "leave": "the node, by its signature",
    "cluster": "nobody: the answer is signed",
    "nodes": "root, by the kernel's word (SO_PEERCRED)",
    "approve": "root, by the kernel's word (SO_PEERCRED)",
    "revoke": "root, by the kernel's word (SO_PEERCRED)",
    "forget": "root, by the kernel's word (SO_PEERCRED)",
    "seal": "root, by the kernel's word (SO_PEERCRED)",
}


def test_all_are_in_the_table() -> None:
    found = set()
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"\bnodeagent-[a-z]+\+jws\b", node.value))
    assert found == set(STATEMENTS)
    assert set(broker_main._ASKS) == set(ASKED)
    for op, who in ASKED.items():
        assert (op in broker_main.FOR_THE_NETWORK) is not who.startswith("root"), op


@pytest.mark.parametrize("typ", STATEMENTS)
@pytest.mark.parametrize("kind", [*KINDS, "another fleet's"])
def test_what_crosses_a_process_is_vouched_for_by_another(
    typ: str, kind: Any, trust: Trust, stranger: Trust
) -> None:
    """With a leaf of each kind, of a key of the forger's own, and all claims as they should be."""
    one = STATEMENTS[typ]
    true = one.make(trust)
    assert one.read(trust, true)
    fleet, kind = (stranger, one.signer) if kind not in KINDS else (trust, kind)
    key = NodeKey(pki.new_key())
    chain = [base64.b64encode(pki.cert_der(c)).decode() for c in fleet.leaf(kind, key.public)]
    forged = {**claims(true), one.proof: chain if one.proof == "chain" else chain[0]}
    if kind == one.signer == "client":
        assert fleet is stranger or forged["node"] != key.node_id, "its own name is not another's"
    elif kind == one.signer and fleet is trust:
        return  # the right signer with any key of its own
    with pytest.raises(Untrusted):
        one.read(trust, jws.sign(forged, key.private, typ))


@pytest.mark.parametrize("typ", STATEMENTS)
def test_no_statement_is_taken_for_another(typ: str, trust: Trust) -> None:
    """Also not where the same signer makes both."""
    true = STATEMENTS[typ].make(trust)
    for other, one in STATEMENTS.items():
        if other != typ:
            with pytest.raises(Untrusted):
                one.read(trust, true)


@pytest.mark.parametrize("typ", STATEMENTS)
def test_no_claim_is_changed_on_the_way(typ: str, trust: Trust) -> None:
    one = STATEMENTS[typ]
    head, body, mark = one.make(trust).split(b".")
    value = claims(b".".join([head, body, mark]))
    for name in value:
        changed = {k: v for k, v in value.items() if k != name}
        if isinstance(value[name], int) and not isinstance(value[name], bool):
            changed[name] = value[name] + 1
        payload = base64.urlsafe_b64encode(repr(changed).replace("'", '"').encode()).rstrip(b"=")
        with pytest.raises(Exception, match=r"not believed|another version"):
            one.read(trust, b".".join([head, payload, mark]))


def test_nothing_that_is_carried_can_be_used(trust: Trust) -> None:
    """A grant in passing: no token in it for who carries it, nor for who gets the node's keys."""
    said = granted(trust, NODE)
    assert b"0123456789abcdef" not in base64.urlsafe_b64decode(said.split(b".")[1] + b"==")
    for key in (NODE.private, BROKER):
        with pytest.raises(Untrusted):
            messages.verify_grant(trust.anchors, said, NODE.node_id, NONCE, NOW, key)


def test_the_token_of_one_grant_is_not_put_into_another(trust: Trust) -> None:
    """Who carries both cannot exchange parts, and a broker's token for one is nobody else's."""
    other = NodeKey(pki.new_key())
    mine, theirs = claims(granted(trust, NODE)), claims(granted(trust, other))
    head, _, mark = granted(trust, NODE).split(b".")
    mixed = {**mine, "token": theirs["token"]}
    payload = base64.urlsafe_b64encode(repr(mixed).replace("'", '"').encode()).rstrip(b"=")
    with pytest.raises(Untrusted):
        proved(trust, b".".join([head, payload, mark]), NODE.node_id)


def test_a_request_with_another_reader_is_not_the_nodes(trust: Trust) -> None:
    """The network process would like the token encrypted to a key of its own."""
    thief = base64.b64encode(pki.spki(pki.new_key().public_key())).decode()
    head, _, mark = request(trust, NODE).split(b".")
    changed = {**claims(request(trust, NODE)), "reader": thief}
    payload = base64.urlsafe_b64encode(repr(changed).replace("'", '"').encode()).rstrip(b"=")
    with pytest.raises(Untrusted):
        messages.verify_request(trust.anchors, b".".join([head, payload, mark]))
