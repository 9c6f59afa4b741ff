"""Requests, grants and certificate requests, and a broker on a double of the Kubernetes API."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from nodeagent.broker.broker import TOKEN_LIFE, Broker
from nodeagent.broker.kube_api_protocol import Seen, SigningRequest
from nodeagent.broker.ledger import Ledger
from nodeagent.errors import CommandFailed
from nodeagent.host.host import Clock, Host
from nodeagent.join import messages, statement
from nodeagent.join.messages import Grant, Request, Secret
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.authority import KUBELET

NONCE = "A" * 43
NOW = 1_795_000_000
BROKER, READER = pki.new_key(), pki.new_key()
KUBELET_HASH = pki.spki_hash(KUBELET.public_key())
CA_KEY = pki.new_key()
CA = pki.cert_pem(pki.issue("kubernetes", CA_KEY.public_key(), "kubernetes", CA_KEY, path_length=0))


def request(trust: Trust, key: NodeKey, name: str = "pi-2") -> bytes:
    chain = trust.leaf("client", key.public)
    return messages.build_request(
        trust.fleet_id, key, chain, name, NONCE, {"model": "Pi 5"}, KUBELET_HASH,
        READER.public_key(),
    )  # fmt: skip


def cluster(**changes: Any) -> statement.Cluster:
    """What the agent vouches for."""
    usual = statement.Cluster("n-" + "a" * 16, 1, ("10.77.0.11:6443",), CA, "1.37.2")
    return replace(usual, **changes)


def offer(**changes: Any) -> Grant:
    """A grant as it is proved, with changes of the broker's part."""
    vouched = cluster(issued=NOW, expires=NOW + statement.LIFE)
    usual = Grant("pi-2", Secret("abcdef.0123456789abcdef"), vouched, NOW, NOW + 600)
    return replace(usual, **changes)


def granted(trust: Trust, key: NodeKey, vouched: bytes | None = None, **changes: Any) -> bytes:
    """A grant as the broker sends it."""
    (cert, _) = trust.leaf("broker", BROKER.public_key())
    asked = Request(key.node_id, "pi-2", NONCE, {}, KUBELET_HASH, READER.public_key())
    said = offer(**changes)
    return messages.build_grant(
        trust.fleet_id, BROKER, cert, asked, said.node_name, said.token,
        vouched or statement.build(trust, said.cluster, NOW), said.issued, said.expires,
    )  # fmt: skip


def proved(
    trust: Trust, data: bytes, node_id: str, nonce: str = NONCE, now: float | None = NOW,
    epochs: Mapping[str, int] = {},
) -> Grant:  # fmt: skip
    """The grant, as the node reads it."""
    return messages.verify_grant(trust.anchors, data, node_id, nonce, now, READER, epochs)


def claims(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(data.split(b".")[1] + b"=="))
    return value


def signing_request(name: str, username: str, csr_pem: bytes, **more: Any) -> SigningRequest:
    """A certificate signing request as the API shows it; the uid is as good as its own: of one
    content."""
    usual: dict[str, Any] = {
        "groups": ("system:bootstrappers:nodeagent", "system:authenticated"),
        "signer": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ("digital signature", "client auth"),
        "pending": True,
        "created": "2026-11-21T12:00:00Z",
        "uid": hashlib.sha256(csr_pem).hexdigest(),
    }
    return SigningRequest(name=name, username=username, csr_pem=csr_pem, **(usual | more))


@dataclass
class Cluster:
    """A double of the Kubernetes API."""

    tokens: dict[str, str] = field(default_factory=dict)
    csrs: list[SigningRequest] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)
    nodes: dict[str, bool] = field(default_factory=lambda: {"pi-1": True})
    uids: dict[str, str] = field(default_factory=dict)
    down: bool = False
    leaders: set[str] = field(default_factory=lambda: {"pi-1"})
    denied: list[str] = field(default_factory=list)
    now: Callable[[], float] = lambda: NOW
    since: dict[str, float] = field(default_factory=dict)

    def create_token(self, token_id: str, secret: str, node_name: str, expires: datetime) -> None:
        if self.down:
            raise CommandFailed("The API server is away.", "Wait.")
        assert expires.timestamp() == self.now() + TOKEN_LIFE
        self.tokens[token_id] = secret

    def delete_token(self, token_id: str) -> None:
        self.tokens.pop(token_id, None)

    def requests(self) -> list[SigningRequest]:
        decided = {*self.approved, *self.denied}
        return [
            replace(one, pending=one.name not in decided, approved=one.name in self.approved)
            for one in self.csrs
        ]

    def approve(self, name: str, uid: str, reason: str) -> None:
        assert uid == next(csr.uid for csr in self.csrs if csr.name == name)
        self.approved.append(name)

    def deny(self, name: str, uid: str, reason: str) -> None:
        assert uid == next(csr.uid for csr in self.csrs if csr.name == name)
        self.denied.append(name)

    def all_nodes(self) -> dict[str, Seen]:
        return {
            name: Seen(
                ready, self.uids.get(name, ""), name in self.leaders, self.since.get(name, 0.0)
            )
            for name, ready in self.nodes.items()
        }

    def delete_node(self, name: str, uid: str = "") -> None:
        if self.down:
            raise CommandFailed("The API server is away.", "Wait.")
        if uid in ("", self.uids.get(name, "")):
            self.nodes.pop(name, None)


class Setup:
    """A broker with its doubles, and nodes that ask it."""

    def __init__(self, folder: Path, trust: Trust, seals_at: int = 0) -> None:
        self.now: float = NOW
        self.seals_at, self.up = seals_at, 1000.0
        self.trust, self.vouches = trust, True
        clock = Clock(now=lambda: self.now, monotonic=lambda: self.up)
        self.host = Host(folder / "broker", clock=clock)
        self.cluster = Cluster(now=lambda: self.now)
        self.key = pki.new_key()
        self.start()

    def start(self) -> None:
        """The process begins; the disk is what it was."""
        vouched = statement.build(self.trust, cluster(), self.now)
        (cert, _) = self.trust.leaf("broker", self.key.public_key())
        self.broker = Broker(
            self.trust.anchors, self.key, cert, vouched, self.cluster, Ledger(self.host),
            lambda: self.now, self.seals_at,
        )  # fmt: skip

    def live(self, seconds: float) -> None:
        """Time passes; to set ``now`` alone is what a wrong clock does."""
        self.now += seconds
        self.up += seconds

    def join(self, key: NodeKey, wish: str, board: str = "") -> str:
        """A node joins, to the end; its name."""
        grant = self.ask(key, wish, board=board)
        name = grant.node_name
        token = grant.token.reveal()
        self.cluster.csrs.append(csr(f"csr-{name}-{token[:6]}", token, f"system:node:{name}"))
        self.broker.tick()
        self.cluster.nodes[name] = True
        self.cluster.uids[name] = f"uid-of-{name}"
        self.broker.tick()
        return name

    def request(self, key: NodeKey, wish: str, nonce: str | None = None, board: str = "") -> bytes:
        if self.vouches:  # as the keeper has the agent do, whatever the clock does
            self.broker.cluster = statement.build(self.trust, cluster(), self.now)
            self.broker._holds_until = int(self.now) + statement.LIFE
        nonce = nonce or self.broker.nonce()
        chain = self.trust.leaf("client", key.public)
        return messages.build_request(
            self.trust.fleet_id, key, chain, wish, nonce, {"board": board}, KUBELET_HASH,
            READER.public_key(),
        )  # fmt: skip

    def ask(
        self, key: NodeKey, wish: str, source: str = "10.77.0.12", board: str = ""
    ) -> messages.Grant:
        nonce = self.broker.nonce()
        data = self.broker.grant(self.request(key, wish, nonce, board), source)
        return proved(self.trust, data, key.node_id, nonce, self.now)


def csr(
    name: str, token: str, cn: str = "system:node:pi-2", o: str = "system:nodes", **more: Any
) -> SigningRequest:
    """What a kubelet asks for with a token."""
    extra = more.pop("extra", None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, o),
            x509.NameAttribute(NameOID.COMMON_NAME, cn),
            *(more.pop("subject", [])),
        ])
    )  # fmt: skip
    if extra:
        builder = builder.add_extension(extra, False)
    key = more.pop("key", None) or KUBELET
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    user = f"system:bootstrap:{token.partition('.')[0]}"
    return signing_request(**{"name": name, "username": user, "csr_pem": pem, **more})
