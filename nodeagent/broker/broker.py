"""The broker: decides on join requests, mints bootstrap tokens, signs grants, approves CSRs.

A bootstrap token by itself is a ticket to become any node. Here it is bound: exactly the signing
request with the granted name, made with the token minted for it, is approved, for one key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from nodeagent.broker.kube_api_protocol import GROUP, SIGNER, ClusterApi, SigningRequest
from nodeagent.broker.ledger import MAX_TOKENS, Admission, Ledger, Token
from nodeagent.join import messages
from nodeagent.join.approval import APPROVAL, SEALED, Waiting, WaitingRoom, code
from nodeagent.trust import pki
from nodeagent.trust.anchors import Anchors

LOG = logging.getLogger("nodeagent.audit")

TOKEN_LIFE = 600  # seconds
MAX_OUTSTANDING = 32
# What kubelets ask for: with ECDSA keys the first set, with RSA keys the second (Kubernetes docs,
# "Certificate Signing Requests", Kubernetes signers).
USAGES = (
    frozenset({"digital signature", "client auth"}),
    frozenset({"digital signature", "client auth", "key encipherment"}),
)
_ALPHABET = string.ascii_lowercase + string.digits


class Stale(Exception):
    """The request's nonce is not, or no longer, one of this broker's: ask again."""


class Overloaded(Exception):
    """Too many tokens are outstanding: ask later."""


class Revoked(Exception):
    """A person has revoked this key."""


class Unadmitted(Exception):
    """A person has to let this node in first; the text is APPROVAL or SEALED."""


@dataclass(frozen=True)
class Offer:
    """What every grant of this cluster says."""

    endpoints: tuple[str, ...]
    ca_cert: str
    kubernetes_version: str
    networks: tuple[str, ...] = ()


class Broker:
    """Not thread-safe: one request at a time."""

    def __init__(
        self,
        anchors: Anchors,
        key: pki.PrivateKey,
        cert: x509.Certificate,
        offer: Offer,
        api: ClusterApi,
        ledger: Ledger,
        clock: Callable[[], float],
        seals_at: int = 0,
    ) -> None:
        """``seals_at``: when enrolment ends by itself, seconds since the epoch; 0 is never."""
        self.anchors, self.key, self.cert, self.offer = anchors, key, cert, offer
        self.api, self.ledger, self.clock, self.seals_at = api, ledger, clock, seals_at
        self.waiting = WaitingRoom()

    @property
    def outstanding(self) -> list[Token]:
        """Tokens that may still be in the cluster."""
        return [token for token in self.ledger.tokens if not token.deleted]

    def nonce(self) -> str:
        """A nonce for one request."""
        return self.ledger.nonce(self.clock())

    def grant(self, data: bytes, source: str = "") -> bytes:
        """Answer a join request; the same answer for the same node and nonce.

        ``source`` is the address it came from, for the record. Raises Untrusted, OtherVersion,
        Revoked, Stale, Unadmitted, Overloaded, FleetError, and what the cluster's API raises.
        """
        request = messages.verify_request(self.anchors, data)
        if self.ledger.revocation(request.node_id):
            raise Revoked("this node was revoked by a person")
        for token in self.ledger.tokens:
            if (token.node_id, token.nonce) == (request.node_id, request.nonce):
                if token.deleted:
                    raise Stale("its grant was used or replaced")
                if token.grant:
                    return token.grant.encode()
        now = self.clock()
        if not self.ledger.is_fresh(request.nonce, now):
            raise Stale("the nonce is not, or no longer, one of this broker's")
        self._admit(request, source, int(now))
        for token in self.outstanding:
            if token.node_id == request.node_id:
                self.withdraw(token)  # it asks anew, so the one before did not serve
        if len(self.outstanding) >= MAX_OUTSTANDING or len(self.ledger.tokens) >= MAX_TOKENS:
            raise Overloaded(f"{MAX_OUTSTANDING} nodes are joining; ask again later")
        nodes = self.api.all_nodes()
        taken = frozenset(nodes) - self.ledger.names.keys()
        name = self.ledger.claim(request.name, request.node_id, taken)
        self.ledger.used(request.node_id)
        self.waiting.leave(request.node_id)
        return self._mint(request, name, source, int(now), known=name in nodes)

    def _admit(self, request: messages.Request, source: str, now: int) -> None:
        """Whoever has a name here may always ask again. Raises Unadmitted."""
        node_id = request.node_id
        if self.ledger.names_of(node_id) or now < self.ledger.approved.get(node_id, 0):
            return
        if self.anchors.by_approval and not request.may_lead:
            why = APPROVAL
        elif not self.ledger.seal.is_open(now, self.seals_at):
            why = SEALED
        else:
            return
        if self.waiting.note(Waiting(node_id, request.name, source, why, now, now)):
            audit("waits", node=node_id, code=code(node_id), wish=request.name, source=source)
        raise Unadmitted(why)

    def _mint(
        self, request: messages.Request, name: str, source: str, now: int, known: bool
    ) -> bytes:
        token_id, secret = _random(6), _random(16)
        granted = messages.Grant(
            node_name=name,
            endpoints=self.offer.endpoints,
            ca_cert=self.offer.ca_cert,
            ca_hash=messages.ca_hash(self.offer.ca_cert),
            token=messages.Secret(f"{token_id}.{secret}"),
            kubernetes_version=self.offer.kubernetes_version,
            issued=now,
            expires=now + TOKEN_LIFE,
            networks=self.offer.networks,
        )
        answer = messages.build_grant(self.anchors.fleet_id, self.key, self.cert, request, granted)
        token = Token(
            token_id, request.node_id, request.nonce, name, source, granted.expires, known=known
        )
        # Before the token, so that none is ever forgotten; the answer only after it, so that
        # none is ever repeated that has no token.
        self.ledger.put(token)
        expires = datetime.fromtimestamp(granted.expires, UTC)
        self.api.create_token(token_id, secret, name, expires)
        self.ledger.put(replace(token, grant=answer.decode()))
        _audit("granted", token)
        return answer

    def tick(self) -> None:
        """Approve what was granted, delete what is used or expired. Raises what the API raises."""
        if not self.ledger.tokens:
            return
        now = self.clock()
        for token in self.outstanding:
            if now >= token.expires:
                _audit("expired", token)
                self.withdraw(token)
            elif self.ledger.revocation(token.node_id):
                self.withdraw(token)
        # A deleted one is only kept for whoever repeats its request, which its nonce ends.
        over = [t for t in self.ledger.tokens if t.deleted and not self._may_repeat(t, now)]
        if over:
            self.ledger.drop(*over)
        if not self.outstanding:
            return
        requests = [request for request in self.api.requests() if request.pending]
        # The newest first: a kubelet whose request was stored, but not answered in time, makes
        # another with another key, and waits for that one only.
        requests.sort(key=lambda request: request.created, reverse=True)
        fitting = []
        with self.ledger.together():  # before the approval, so that no other key is ever approved
            for request in requests:
                for token in self.outstanding:
                    key = fitting_key(request, token)
                    if key is not None and token.csr in ("", key):
                        self.ledger.put(replace(token, csr=key))
                        fitting.append((request, token))
        with self.ledger.together():
            for request, token in fitting:
                self._approve(request, token, int(now))
        approved = [token for token in self.outstanding if token.csr]
        nodes = self.api.all_nodes() if approved else {}
        with self.ledger.together():
            for token in approved:
                # Not at the approval: the kubelet fetches its certificate with the token.
                if token.name in nodes and (not token.known or nodes[token.name].ready):
                    self.withdraw(token)

    def _may_repeat(self, token: Token, now: float) -> bool:
        return self.ledger.is_fresh(token.nonce, now)

    def _approve(self, request: SigningRequest, token: Token, now: int) -> None:
        reason = f"nodeagent granted {token.name} to {token.node_id}"
        self.api.approve(request.name, request.uid, reason)
        self.ledger.admit(Admission(token.name, token.node_id, now, token.source, token.token_id))
        _audit("admitted", token, request=request.name)

    def withdraw(self, token: Token) -> None:
        """Delete a token from the cluster. Raises what the API raises."""
        self.api.delete_token(token.token_id)
        self.ledger.put(replace(token, deleted=True, grant=""))
        _audit("token deleted", token)


def fitting_key(request: SigningRequest, token: Token) -> str | None:
    """The hash of the requested key where the request is exactly the one granted with the token,
    else None."""
    if (
        request.signer != SIGNER
        or request.username != f"system:bootstrap:{token.token_id}"
        or GROUP not in request.groups
        or frozenset(request.usages) not in USAGES
    ):
        return None
    try:
        csr = x509.load_pem_x509_csr(request.csr_pem)
        subject = {(entry.oid, entry.value) for entry in csr.subject}
        der = pki.spki(csr.public_key())
        plain = csr.is_signature_valid and not list(csr.extensions)
    except pki.UNREADABLE:
        return None
    wanted = {
        (NameOID.COMMON_NAME, f"system:node:{token.name}"),
        (NameOID.ORGANIZATION_NAME, "system:nodes"),
    }
    if not plain or subject != wanted or len(list(csr.subject)) != len(wanted):
        return None
    return hashlib.sha256(der).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def audit(event: str, **more: str) -> None:
    """One line of JSON for the journal (journald keeps who and when); never a secret."""
    LOG.info("%s", json.dumps({"event": event, **more}))


def _audit(event: str, token: Token, **more: str) -> None:
    shown = {"node": token.node_id, "name": token.name, "from": token.source}
    audit(event, **shown, token=token.token_id, **more)
