"""The two messages of joining: a node's request and the broker's grant.

The request is signed with the node's own key and names the key that its kubelet will have. The
grant is signed with the broker's; where the cluster is and which CA it has the agent of the control
plane says in it (``join/statement.py``), and the token in it only the node can read. So what
carries them can lose either, but forge neither, nor use what it sees.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from nodeagent.join import statement
from nodeagent.trust import jwe, jws, node_key, pki, wire
from nodeagent.trust.anchors import Anchors, untrusted

REQUEST_TYPE = "nodeagent-request+jws"
GRANT_TYPE = "nodeagent-grant+jws"
MAX_FACTS = 8


class Secret:
    """Text that is never printed by accident; ``reveal`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True)
class Request:
    """A proved request: who asks (by key), under which name it wishes to be known. ``kubelet``:
    the SHA-256 of the public key (SubjectPublicKeyInfo) that its kubelet will have, in hex;
    ``reader``: the key that the token is encrypted to; ``may_lead``: its card carries the
    control-plane issuer."""

    node_id: str
    name: str
    nonce: str
    facts: Mapping[str, str]
    kubelet: str
    reader: pki.PublicKey
    may_lead: bool = False


@dataclass(frozen=True)
class Grant:
    """A proved grant: a name and a token from the broker, the rest from the control plane's agent.
    Times in seconds since the epoch."""

    node_name: str
    token: Secret
    cluster: statement.Cluster
    issued: int
    expires: int


NONCE = wire.text(r"[A-Za-z0-9_-]{16,128}", 128)
_FACT = wire.text(r"[\x20-\x7e]*", 128)
_TOKEN = wire.text(r"[a-z0-9]{6}\.[a-z0-9]{16}", 23)  # kubeadm's bootstrap token
_DER = wire.binary(2048)


def _facts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_FACTS:
        raise wire.Malformed("a few facts expected")
    if not all(re.fullmatch(r"[a-z_]{1,24}", name) for name in value):
        raise wire.Malformed("a fact's name of another form")
    return {name: _FACT(item) for name, item in value.items()}


def _public(value: Any) -> pki.PublicKey:
    """A P-256 key as SubjectPublicKeyInfo in base64."""
    try:
        return pki.read_public(wire.binary(128)(value))
    except pki.BadCertificate as error:
        raise wire.Malformed(str(error)) from error


# Version 1, until nodeagent 0.2.0, named no key of a kubelet and none to encrypt to, and its grant
# was believed in all that it said.
_REQUEST = wire.Form(
    "A join request",
    2,
    {
        "fleet": wire.fleet_id,
        "node": wire.node_id,
        "name": wire.node_name,
        "nonce": NONCE,
        "chain": wire.array(_DER, 2, 2),
        "facts": _facts,
        "kubelet": wire.text(r"[0-9a-f]{64}", 64),
        "reader": _public,
    },
    oldest=2,
)
_GRANT = wire.Form(
    "A grant",
    2,
    {
        "fleet": wire.fleet_id,
        "aud": wire.node_id,
        "nonce": NONCE,
        "iat": statement.TIME,
        "exp": statement.TIME,
        "name": wire.node_name,
        "token": wire.text(wire.COMPACT, jwe.MAX_BYTES),
        "cluster": wire.text(wire.COMPACT, statement.MAX_BYTES),
        "cert": _DER,
    },
    oldest=2,
)


def build_request(
    fleet_id: str,
    key: node_key.NodeKey,
    chain: Sequence[x509.Certificate],
    name: str,
    nonce: str,
    facts: Mapping[str, str],
    kubelet: str,
    reader: pki.PublicKey,
) -> bytes:
    """A node's request: ``chain`` is its client leaf and the issuer's certificate; ``kubelet`` and
    ``reader`` as in Request."""
    claims = {
        "fleet": fleet_id,
        "node": key.node_id,
        "name": name.lower(),
        "nonce": nonce,
        "chain": [base64.b64encode(pki.cert_der(cert)).decode() for cert in chain],
        "facts": dict(facts),
        "kubelet": kubelet,
        "reader": base64.b64encode(pki.spki(reader)).decode(),
    }
    return jws.sign(_REQUEST.stamp(claims), key.private, REQUEST_TYPE)


def signed_by_node(
    anchors: Anchors, data: bytes, kind: str, form: wire.Form, what: str
) -> dict[str, Any]:
    """The claims of a message that a node of the fleet signed: its ``chain`` proves the key, whose
    hash is the ``node`` it names. ``what`` begins the sentence of a refusal. Raises Untrusted,
    OtherVersion."""
    try:
        claimed = form.read(jws.peek(data, kind))
        key = anchors.node_key(claimed["chain"])
        proved: dict[str, Any] = form.read(jws.verify(data, key, kind))
        if proved["fleet"] != anchors.fleet_id or proved["node"] != node_key.node_id(key):
            raise wire.Malformed("made for another fleet or by another node")
    except wire.Malformed as error:
        raise untrusted(what, error) from error
    return proved


def verify_request(anchors: Anchors, data: bytes) -> Request:
    """The request, if a node of this fleet signed it. Raises Untrusted, OtherVersion.

    Whether the nonce is one of ours is the broker's to say.
    """
    proved = signed_by_node(anchors, data, REQUEST_TYPE, _REQUEST, "A join request")
    return Request(
        proved["node"],
        proved["name"],
        proved["nonce"],
        proved["facts"],
        proved["kubelet"],
        proved["reader"],
        anchors.may_lead(proved["chain"]),
    )


def build_grant(
    fleet_id: str,
    signer: pki.PrivateKey,
    cert: x509.Certificate,
    request: Request,
    name: str,
    token: Secret,
    cluster: bytes,
    issued: int,
    expires: int,
) -> bytes:
    """The broker's answer to ``request``; ``cert`` is the leaf of ``signer``, ``cluster`` what the
    agent vouches for."""
    claims = {
        "fleet": fleet_id,
        "aud": request.node_id,
        "nonce": request.nonce,
        "iat": issued,
        "exp": expires,
        "name": name,
        "token": jwe.encrypt(token.reveal().encode(), request.reader),
        "cluster": cluster.decode(),
        "cert": base64.b64encode(pki.cert_der(cert)).decode(),
    }
    return jws.sign(_GRANT.stamp(claims), signer, GRANT_TYPE)


def verify_grant(
    anchors: Anchors,
    data: bytes,
    node_id: str,
    nonce: str,
    now: float | None,
    reader: pki.PrivateKey,
    epochs: Mapping[str, int] = {},
) -> Grant:
    """The grant, if the fleet's broker made it for this node and this nonce, and the agent of a
    control plane vouches for the cluster. Raises Untrusted, OtherVersion.

    ``now`` (seconds since the epoch) is None where the clock is not synchronised: the nonce
    shows freshness then. ``reader``: the key that the request named; ``epochs`` as in
    ``statement.verify``.
    """
    try:
        claimed = _GRANT.read(jws.peek(data, GRANT_TYPE))
        key = anchors.broker_key(claimed["cert"])
        proved = _GRANT.read(jws.verify(data, key, GRANT_TYPE))
        if (proved["fleet"], proved["aud"]) != (anchors.fleet_id, node_id):
            raise wire.Malformed("made for another node")
        if proved["nonce"] != nonce:
            raise wire.Malformed("an answer to another request")
        leeway = statement.LEEWAY
        if now is not None and not proved["iat"] - leeway <= now <= proved["exp"] + leeway:
            raise wire.Malformed("expired, or from the future")
        token = _TOKEN(jwe.decrypt(proved["token"], reader).decode("ascii", "replace"))
    except wire.Malformed as error:
        raise untrusted("A grant", error) from error
    cluster = statement.verify(anchors, proved["cluster"].encode(), now, epochs)
    return Grant(proved["name"], Secret(token), cluster, proved["iat"], proved["exp"])
