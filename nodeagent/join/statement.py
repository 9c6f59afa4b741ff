"""What the agent of a control plane, which is root there, vouches for in its cluster's name.

Broker and network process carry these statements to whoever asks, and vouch for nothing in them:
each is signed under the name ``agent.<fleet id>.internal``, whose certificate the agent issues for
a key that lives as long as the signing takes. So neither of the two can say where the API server
is, which CA it has, or which cluster this is.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from nodeagent.cluster import names
from nodeagent.fleet.beacon import EPOCH_MAX
from nodeagent.trust import jws, pki, wire
from nodeagent.trust.anchors import Anchors, untrusted

if TYPE_CHECKING:
    from nodeagent.trust.store import Trust

CLUSTER_TYPE = "nodeagent-cluster+jws"
# Seconds; made anew at each start of the agent, and every three days by the keeper.
LIFE = 7 * 86400
LEEWAY = 60  # seconds a synchronised clock may be off
MAX_BYTES = 10 * 1024

TIME = wire.integer(0, 2**40)
SIGNED: dict[str, wire.Check] = {"fleet": wire.fleet_id, "iat": TIME, "cert": wire.binary(2048)}
_CLUSTER = wire.Form(
    "A statement about a cluster",
    1,
    {
        **SIGNED,
        "exp": TIME,
        "node": wire.node_id,
        "epoch": wire.integer(0, EPOCH_MAX),
        "endpoints": wire.array(wire.endpoint, 1, 8),
        "ca_cert": wire.text(r"[\x20-\x7e\n]+", 8192),
        "ca_hash": wire.text(r"sha256:[0-9a-f]{64}", 71),
        "kubernetes": wire.text(r"1\.[0-9]{1,3}\.[0-9]{1,3}", 16),
    },
    {
        "networks": wire.array(wire.network, 2, 2),
        "api": wire.text(names.API_NAME.pattern, 48),
        "cni": wire.text(r"[a-z][a-z0-9-]{0,31}", 32),
    },
)


@dataclass(frozen=True)
class Cluster:
    """What all who join must know of a cluster. ``node``: the id of the control plane's node,
    ``epoch``: of the claim that the cluster was made with; ``networks``: of pods and of Services;
    ``api``: the name that its API servers prove, empty where they have an address only
    (``cluster/names.py``); ``cni``: its pod network, empty where that is not told; times
    in seconds since the epoch."""

    node: str
    epoch: int
    endpoints: tuple[str, ...]
    ca_cert: str
    kubernetes: str
    networks: tuple[str, ...] = ()
    api: str = ""
    cni: str = ""
    issued: int = 0
    expires: int = 0


def sign(trust: Trust, form: wire.Form, typ: str, claims: Mapping[str, object], now: int) -> bytes:
    """A statement by this node's agent. Raises FleetError where this node may not lead."""
    key = pki.new_key()
    cert = trust.leaf("agent", key.public_key())[0]
    signed = {
        "fleet": trust.fleet_id,
        "iat": now,
        "cert": base64.b64encode(pki.cert_der(cert)).decode(),
    }
    return jws.sign(form.stamp({**claims, **signed}), key, typ)


def read(anchors: Anchors, data: bytes, form: wire.Form, typ: str) -> dict[str, Any]:
    """The claims of a statement, if the agent of a control plane of this fleet made it. Raises
    Untrusted, OtherVersion."""
    try:
        key = anchors.agent_key(form.read(jws.peek(data, typ))["cert"])
        proved: dict[str, Any] = form.read(jws.verify(data, key, typ))
        if proved["fleet"] != anchors.fleet_id:
            raise wire.Malformed("made for another fleet")
    except wire.Malformed as error:
        raise untrusted(form.what, error) from error
    return proved


def build(trust: Trust, cluster: Cluster, now: float) -> bytes:
    """The statement that every grant of this cluster carries; it begins now. Raises FleetError."""
    claims: dict[str, object] = {
        "exp": int(now) + LIFE,
        "node": cluster.node,
        "epoch": cluster.epoch,
        "endpoints": list(cluster.endpoints),
        "ca_cert": cluster.ca_cert,
        "ca_hash": ca_hash(cluster.ca_cert),
        "kubernetes": cluster.kubernetes,
    }
    if cluster.networks:
        claims["networks"] = list(cluster.networks)
    if cluster.api:
        claims["api"] = cluster.api
    if cluster.cni:
        claims["cni"] = cluster.cni
    return sign(trust, _CLUSTER, CLUSTER_TYPE, claims, int(now))


def verify(
    anchors: Anchors, data: bytes, now: float | None, epochs: Mapping[str, int] = {}
) -> Cluster:
    """The cluster that a control plane's agent vouches for. Raises Untrusted, OtherVersion.

    ``now`` is None where the clock is not synchronised. ``epochs``: by node id, those that were
    proved before; an earlier one of the same node is a cluster that it has given up since.
    """
    proved = read(anchors, data, _CLUSTER, CLUSTER_TYPE)
    try:
        if now is not None and not proved["iat"] - LEEWAY <= now <= proved["exp"] + LEEWAY:
            raise wire.Malformed("expired, or from the future")
        if proved["epoch"] < epochs.get(proved["node"], 0):
            raise wire.Malformed("of a cluster that its control plane has given up since")
        if proved.get("api", "") not in ("", names.api(anchors.fleet_id)):
            raise wire.Malformed("`api`: another fleet's name")
        if ca_hash(proved["ca_cert"]) != proved["ca_hash"]:
            raise wire.Malformed("the CA certificate is not the one that was hashed")
    except wire.Malformed as error:
        raise untrusted(_CLUSTER.what, error) from error
    return Cluster(
        proved["node"], proved["epoch"], proved["endpoints"], proved["ca_cert"],
        proved["kubernetes"], proved.get("networks", ()), proved.get("api", ""),
        proved.get("cni", ""), proved["iat"], proved["exp"],
    )  # fmt: skip


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
