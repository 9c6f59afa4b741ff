"""Which cluster a control plane has, as another one is told that meets it (``fleet/rivals.py``).

The agent there vouches for the facts, and its broker that they are the agent's of now: it signs
them with the asker's nonce. So the network process in between can neither make them up nor repeat
earlier ones, and the broker cannot make them up.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING

from cryptography import x509

from nodeagent.errors import NoControlPlane, OtherVersion, Untrusted
from nodeagent.fleet.rivals import SIDE, SIDE_SINCE, Side
from nodeagent.host.host import Host
from nodeagent.join import client, messages, statement
from nodeagent.trust import jws, pki, wire
from nodeagent.trust.anchors import Anchors, untrusted
from nodeagent.trust.node_key import NodeKey

if TYPE_CHECKING:
    from nodeagent.trust.store import Trust

SIDE_TYPE, ANSWER_TYPE = "nodeagent-side+jws", "nodeagent-answer+jws"
PATH = "/v1/cluster"
MAX_BYTES = 16 * 1024

_SIDE = wire.Form(
    "What a control plane says of its cluster", 1, {**statement.SIGNED, **SIDE}, SIDE_SINCE
)
_ANSWER = wire.Form(
    "An answer about a cluster",
    1,
    {
        "fleet": wire.fleet_id,
        "nonce": messages.NONCE,
        "side": wire.text(wire.COMPACT, MAX_BYTES),
        "cert": wire.binary(2048),
    },
)


def build(trust: Trust, side: Side, now: float) -> bytes:
    """The agent's part. Raises FleetError where this node may not lead."""
    return statement.sign(trust, _SIDE, SIDE_TYPE, asdict(side), int(now))


def answer(
    fleet_id: str, signer: pki.PrivateKey, cert: x509.Certificate, side: bytes, nonce: str
) -> bytes:
    """The broker's part; ``cert`` is the leaf of ``signer``."""
    claims = {
        "fleet": fleet_id,
        "nonce": nonce,
        "side": side.decode("ascii", "replace"),
        "cert": base64.b64encode(pki.cert_der(cert)).decode(),
    }
    return jws.sign(_ANSWER.stamp(claims), signer, ANSWER_TYPE)


def ask(trust: Trust, key: NodeKey, host: Host, where: tuple[str, int]) -> Side:
    """What the control plane at ``where`` proves to have. Raises NoControlPlane."""
    nonce = secrets.token_urlsafe(24)
    try:
        told = client.look_up(trust, key, host, where, PATH, nonce.encode(), MAX_BYTES)
        return verify(trust.anchors, told, nonce)
    except (OtherVersion, Untrusted) as error:
        raise NoControlPlane(f"{where[0]}: {error.reason}", error.remedy) from error


def verify(anchors: Anchors, data: bytes, nonce: str) -> Side:
    """What the control plane that was asked has. Raises Untrusted, OtherVersion."""
    try:
        key = anchors.broker_key(_ANSWER.read(jws.peek(data, ANSWER_TYPE))["cert"])
        proved = _ANSWER.read(jws.verify(data, key, ANSWER_TYPE))
        if proved["fleet"] != anchors.fleet_id or proved["nonce"] != nonce:
            raise wire.Malformed("an answer to another question")
    except wire.Malformed as error:
        raise untrusted(_ANSWER.what, error) from error
    said = statement.read(anchors, proved["side"].encode(), _SIDE, SIDE_TYPE)
    return Side(**{name: said[name] for name in (*SIDE, *SIDE_SINCE) if name in said})
