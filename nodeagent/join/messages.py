"""The two messages of joining: a node's request and the broker's grant.

The request is signed with the node's own key, the grant with the broker's; the network processes
in between can lose either but forge neither.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from nodeagent.trust import jws, node_key, pki, wire
from nodeagent.trust.anchors import Anchors, untrusted

REQUEST_TYPE = "nodeagent-request+jws"
GRANT_TYPE = "nodeagent-grant+jws"
LEEWAY = 60  # seconds a synchronised clock may be off
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
    """A proved request: who asks (by key), under which name it wishes to be known. ``may_lead``:
    its card carries the control-plane issuer."""

    node_id: str
    name: str
    nonce: str
    facts: Mapping[str, str]
    may_lead: bool = False


@dataclass(frozen=True)
class Grant:
    """A proved grant: all that ``kubeadm join`` needs. Times in seconds since the epoch.

    ``networks``: the cluster's own, of pods and of Services; none from a control plane of before.
    """

    node_name: str
    endpoints: tuple[str, ...]
    ca_cert: str
    ca_hash: str
    token: Secret
    kubernetes_version: str
    issued: int
    expires: int
    networks: tuple[str, ...] = ()


_NONCE = wire.text(r"[A-Za-z0-9_-]{16,128}", 128)
_FACT = wire.text(r"[\x20-\x7e]*", 128)
_CA_HASH = wire.text(r"sha256:[0-9a-f]{64}", 71)
_TOKEN = wire.text(r"[a-z0-9]{6}\.[a-z0-9]{16}", 23)  # kubeadm's bootstrap token
_VERSION = wire.text(r"1\.[0-9]{1,3}\.[0-9]{1,3}", 16)
_DER = wire.binary(2048)


def _facts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_FACTS:
        raise wire.Malformed("a few facts expected")
    if not all(re.fullmatch(r"[a-z_]{1,24}", name) for name in value):
        raise wire.Malformed("a fact's name of another form")
    return {name: _FACT(item) for name, item in value.items()}


_REQUEST = wire.Form(
    "A join request",
    1,
    {
        "fleet": wire.fleet_id,
        "node": wire.node_id,
        "name": wire.node_name,
        "nonce": _NONCE,
        "chain": wire.array(_DER, 2, 2),
        "facts": _facts,
    },
)
_TIME = wire.integer(0, 2**40)
_GRANT = wire.Form(
    "A grant",
    1,
    {
        "fleet": wire.fleet_id,
        "aud": wire.node_id,
        "nonce": _NONCE,
        "iat": _TIME,
        "exp": _TIME,
        "name": wire.node_name,
        "endpoints": wire.array(wire.endpoint, 1, 8),
        "ca_cert": wire.text(r"[\x20-\x7e\n]+", 8192),
        "ca_hash": _CA_HASH,
        "token": _TOKEN,
        "kubernetes": _VERSION,
        "cert": _DER,
    },
    {"networks": wire.array(wire.network, 2, 2)},
)


def build_request(
    fleet_id: str,
    key: node_key.NodeKey,
    chain: Sequence[x509.Certificate],
    name: str,
    nonce: str,
    facts: Mapping[str, str],
) -> bytes:
    """A node's request: ``chain`` is its client leaf and the issuer's certificate."""
    claims = {
        "fleet": fleet_id,
        "node": key.node_id,
        "name": name.lower(),
        "nonce": nonce,
        "chain": [base64.b64encode(pki.cert_der(cert)).decode() for cert in chain],
        "facts": dict(facts),
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
        anchors.may_lead(proved["chain"]),
    )


def ca_hash(ca_cert: str) -> str:
    """``sha256:`` and the hash of the CA's public key, as kubeadm's discovery-token-ca-cert-hash
    (RFC 7469 2.4). Raises Malformed where it is no CA certificate."""
    try:
        cert = pki.read_cert(ca_cert)
        if not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise wire.Malformed("`ca_cert`: no certificate authority")
        der = pki.spki(cert.public_key())
    except (pki.BadCertificate, x509.ExtensionNotFound, ValueError) as error:
        raise wire.Malformed("`ca_cert`: no certificate authority") from error
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def build_grant(
    fleet_id: str,
    signer: pki.PrivateKey,
    cert: x509.Certificate,
    request: Request,
    grant: Grant,
) -> bytes:
    """The broker's answer to ``request``; ``cert`` is the leaf of ``signer``."""
    claims = {
        "fleet": fleet_id,
        "aud": request.node_id,
        "nonce": request.nonce,
        "iat": grant.issued,
        "exp": grant.expires,
        "name": grant.node_name,
        "endpoints": list(grant.endpoints),
        "ca_cert": grant.ca_cert,
        "ca_hash": grant.ca_hash,
        "token": grant.token.reveal(),
        "kubernetes": grant.kubernetes_version,
        **({"networks": list(grant.networks)} if grant.networks else {}),
        "cert": base64.b64encode(pki.cert_der(cert)).decode(),
    }
    return jws.sign(_GRANT.stamp(claims), signer, GRANT_TYPE)


def verify_grant(
    anchors: Anchors, data: bytes, node_id: str, nonce: str, now: float | None
) -> Grant:
    """The grant, if the fleet's broker made it for this node and this nonce. Raises Untrusted,
    OtherVersion.

    ``now`` (seconds since the epoch) is None where the clock is not synchronised: the nonce
    shows freshness then.
    """
    try:
        claimed = _GRANT.read(jws.peek(data, GRANT_TYPE))
        key = anchors.broker_key(claimed["cert"])
        proved = _GRANT.read(jws.verify(data, key, GRANT_TYPE))
        if (proved["fleet"], proved["aud"]) != (anchors.fleet_id, node_id):
            raise wire.Malformed("made for another node")
        if proved["nonce"] != nonce:
            raise wire.Malformed("an answer to another request")
        if now is not None and not proved["iat"] - LEEWAY <= now <= proved["exp"] + LEEWAY:
            raise wire.Malformed("expired, or from the future")
        if ca_hash(proved["ca_cert"]) != proved["ca_hash"]:
            raise wire.Malformed("the CA certificate is not the one that was hashed")
    except wire.Malformed as error:
        raise untrusted("A grant", error) from error
    return Grant(
        node_name=proved["name"],
        endpoints=proved["endpoints"],
        ca_cert=proved["ca_cert"],
        ca_hash=proved["ca_hash"],
        token=Secret(proved["token"]),
        kubernetes_version=proved["kubernetes"],
        issued=proved["iat"],
        expires=proved["exp"],
        networks=proved.get("networks", ()),
    )
