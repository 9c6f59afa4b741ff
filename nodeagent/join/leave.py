"""The message with which a leaving node asks for its Node object to be deleted.

A kubelet may not delete its Node, the broker may. It is signed by the node's own key, of a type of
its own so that nothing else is taken for it, and names the object's uid: said again, by whomever,
it means an object that is gone, never the one of a node that has come back.
"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.join.messages import signed_by_node
from nodeagent.join.search import Search, plain
from nodeagent.trust import jws, node_key, pki, wire
from nodeagent.trust.anchors import Anchors, server_name
from nodeagent.trust.store import Trust

LEAVE_TYPE = "nodeagent-leave+jws"
PATH = "/v1/leave"
MAX_ANSWER = 64

_NONCE = wire.text(r"[A-Za-z0-9_-]{16,128}", 128)
# What the API server makes; any of its form, since nothing but equality counts (RFC 9562 4).
_UID = wire.text(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", 36)
_LEAVE = wire.Form(
    "A farewell",
    1,
    {
        "fleet": wire.fleet_id,
        "node": wire.node_id,
        "name": wire.node_name,
        "uid": _UID,
        "final": wire.flag,
        "nonce": _NONCE,
        "chain": wire.array(wire.binary(2048), 2, 2),
    },
)


@dataclass(frozen=True)
class Leave:
    """A proved farewell. ``final``: the name is given up too; otherwise the key keeps it."""

    node_id: str
    name: str
    uid: str
    final: bool
    nonce: str


def build(
    fleet_id: str,
    key: node_key.NodeKey,
    chain: Sequence[x509.Certificate],
    name: str,
    uid: str,
    final: bool,
    nonce: str,
) -> bytes:
    """The message; ``chain`` is the node's client leaf and the issuer's certificate."""
    claims = {
        "fleet": fleet_id,
        "node": key.node_id,
        "name": name,
        "uid": uid,
        "final": final,
        "nonce": nonce,
        "chain": [base64.b64encode(pki.cert_der(cert)).decode() for cert in chain],
    }
    return jws.sign(_LEAVE.stamp(claims), key.private, LEAVE_TYPE)


def verify(anchors: Anchors, data: bytes) -> Leave:
    """The message, if a node of the fleet signed it. Raises Untrusted, OtherVersion."""
    proved = signed_by_node(anchors, data, LEAVE_TYPE, _LEAVE, "A farewell")
    return Leave(proved["node"], proved["name"], proved["uid"], proved["final"], proved["nonce"])


def tell(
    trust: Trust,
    key: node_key.NodeKey,
    host: Host,
    candidates: Sequence[tuple[str, int]],
    name: str,
    uid: str,
    final: bool,
) -> str:
    """The node's part: tell the control plane that knows this name. Why not, empty where it was
    heard. Raises FleetError where this card cannot prove itself, OSError."""

    def exchange(session: http.client.HTTPConnection) -> bytes:
        nonce = client.call(session, "GET", "/v1/nonce", None, 128).decode("ascii", "replace")
        chain = trust.leaf("client", key.public)
        said = build(trust.fleet_id, key, chain, name, uid, final, nonce)
        return client.call(session, "POST", PATH, said, MAX_ANSWER)

    context = client.client_context(trust, key, host, check_time=False)
    search = Search(context, server_name(trust.fleet_id), candidates, exchange)
    if search.run() is not None:
        return ""
    return "; ".join(plain(error) for _, error in search.failures[:3]) or "nobody is there to tell"
