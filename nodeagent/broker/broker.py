"""The broker: decides on join requests, mints bootstrap tokens, signs grants, approves CSRs.

A bootstrap token by itself is a ticket to become any node. Here it is bound: exactly the signing
request with the granted name and the key that the node named, made with the token minted for it,
is approved.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from nodeagent.broker.boards import Boards, Overloaded, board_of
from nodeagent.broker.kube_api_protocol import ClusterApi, SigningRequest
from nodeagent.broker.ledger import Ledger
from nodeagent.broker.ledger_file import ENROL, Admission, Token
from nodeagent.broker.places import APPROVED, LEAD, MEMBER, PLACES, Places
from nodeagent.cluster.rest import GROUP, SIGNER
from nodeagent.errors import CommandFailed, FleetError, Refused
from nodeagent.join import messages, statement
from nodeagent.join.approval import APPROVAL, SEALED, Waiting, WaitingRoom, code
from nodeagent.trust import pki, wire
from nodeagent.trust.anchors import Anchors

LOG = logging.getLogger("nodeagent.audit")

TOKEN_LIFE = 600  # seconds
MAX_REQUESTS = 8  # certificate requests of one token
MAX_DENIED = 20  # strays in one look
# What kubelets ask for: with ECDSA keys the first set, with RSA keys the second (Kubernetes docs,
# "Certificate Signing Requests", Kubernetes signers).
USAGES = (
    frozenset({"digital signature", "client auth"}),
    frozenset({"digital signature", "client auth", "key encipherment"}),
)
_ALPHABET = string.ascii_lowercase + string.digits


class Stale(Exception):
    """The request's nonce is not, or no longer, one of this broker's: ask again."""


class Revoked(Exception):
    """A person has revoked this key."""


class Unadmitted(Exception):
    """A person has to let this node in first; the text is APPROVAL or SEALED."""


class Broker:
    """Not thread-safe: one request at a time."""

    def __init__(
        self,
        anchors: Anchors,
        key: pki.PrivateKey,
        cert: x509.Certificate,
        cluster: bytes,
        api: ClusterApi,
        ledger: Ledger,
        clock: Callable[[], float],
        seals_at: int = 0,
    ) -> None:
        """``cluster``: what the agent vouches for, passed on in each grant. ``clock``: the
        machine's, for what others read; what ends here ends by the ledger's time. ``seals_at``:
        when enrolment ends by itself, seconds since the epoch; 0 is never. Raises Untrusted,
        OtherVersion where ``cluster`` is of no use."""
        self.anchors, self.key, self.cert, self.cluster = anchors, key, cert, cluster
        self._holds_until = statement.verify(anchors, cluster, None).expires
        self.api, self.ledger, self.clock, self.seals_at = api, ledger, clock, seals_at
        self.waiting, self.places = WaitingRoom(), Places()
        self.boards = Boards(ledger, clock)

    @property
    def outstanding(self) -> list[Token]:
        """Tokens that may still be in the cluster."""
        return self.ledger.open_tokens()

    def nonce(self) -> str:
        """A nonce for one request."""
        return self.ledger.nonce()

    def is_open(self) -> bool:
        """True while unknown keys may enrol; what has ended is written down first."""
        if self.ledger.end(self.seals_at):
            audit("enrolment ended", at=str(int(self.ledger.now())))
        return self.ledger.seal.is_open(self.ledger.now(), self.seals_at)

    def grant(self, data: bytes, source: str = "") -> bytes:
        """Answer a join request; the same answer for the same node and nonce.

        ``source`` is the address it came from, for the record. Raises Untrusted, OtherVersion,
        Revoked, Stale, Unadmitted, Overloaded, Refused, FleetError, and what the cluster's API
        raises.
        """
        request = messages.verify_request(self.anchors, data)
        if self.ledger.revocation(request.node_id):
            raise Revoked("this node was revoked by a person")
        made = self.ledger.made(request.nonce)
        before = [token for token in self.ledger.tokens if token.node_id == request.node_id]
        for token in before:
            if token.nonce == request.nonce:
                if token.deleted:
                    raise Stale("its grant was used or replaced")
                if token.grant:
                    return token.grant.encode()
        if made is None:
            raise Stale("the nonce is not, or no longer, one of this broker's")
        if self.clock() > self._holds_until:
            raise FleetError(
                "What the agent of this control plane vouches for has ended.",
                "Restart it, which says it anew: sudo systemctl restart nodeagent",
            )
        if any(made < (self.ledger.made(token.nonce) or 0) for token in before):
            raise Stale("its key has asked with a newer one")
        kind = self._admit(request, source)
        if is_node_id(request.name) and request.name not in self.ledger.names_of(request.node_id):
            raise Refused(
                f"The name {request.name} looks like the id of a node.",
                "Give the board another one, under `node_name` in nodeagent.yaml.",
            )
        now = self.ledger.now()
        since = min((t.since for t in before if not t.deleted and not t.csr), default=int(now))
        for token in before:
            if not token.deleted:
                self.withdraw(token)  # it asks anew, so the one before did not serve
        # Older nonces of its key are refused, so that these need not be remembered.
        self.ledger.drop(*(t for t in before if (self.ledger.made(t.nonce) or 0) < made))
        nodes = self.api.all_nodes()
        self.ledger.reserve(name for name, node in nodes.items() if node.leads)
        name = "" if kind == MEMBER else self.boards.name_of(request, nodes)
        self._make_room(request, kind, source)
        if name and (former := self.ledger.holder(name)) != request.node_id:
            # The Node stays what it is, with its labels and pods; the new kubelet takes it up.
            self.ledger.pass_on(name, request.node_id)
            audit("name passed on", node=request.node_id, name=name, former=former)
        elif not name:
            _, room = self.ledger.share_of(request.node_id, kind)
            name = self.ledger.name_for(request.name, request.node_id, nodes, room)
        self.waiting.leave(request.node_id)
        return self._mint(request, name, source, kind, since, known=name in nodes)

    def _admit(self, request: messages.Request, source: str) -> str:
        """Whoever is a member may always ask again, a claim gives no right. The kind of asker, of
        whose places it gets one. Raises Unadmitted."""
        node_id, is_open = request.node_id, self.is_open()
        if self.ledger.is_member(node_id):
            return MEMBER
        if node_id in self.ledger.approved:
            return APPROVED
        issuer = LEAD if request.may_lead else ENROL
        if self.anchors.by_approval and not request.may_lead:
            why = APPROVAL
        elif not is_open:
            why = SEALED
        elif not self.ledger.share_of(node_id, issuer)[1]:
            why = SEALED
            audit("share of names used up", node=node_id, issuer=issuer, source=source)
        else:
            return issuer
        now = int(self.ledger.now())
        if self.waiting.note(Waiting(node_id, request.name, source, why, now, now)):
            audit("waits", node=node_id, code=code(node_id), wish=request.name, source=source)
        raise Unadmitted(why)

    def _make_room(self, request: messages.Request, kind: str, source: str) -> None:
        """A place for one more token. Raises Overloaded, and what the API raises."""
        held = self.outstanding
        if len(held) < PLACES:
            return
        other = self.places.gives_way(held, kind, source, self.ledger.now())
        if other is None:
            audit("turned away", node=request.node_id, kind=kind, source=source)
            raise Overloaded(f"{PLACES} nodes are joining; ask again later")
        _audit("gives way", other, to=request.node_id)
        self.withdraw(other)

    def _mint(
        self,
        request: messages.Request,
        name: str,
        source: str,
        kind: str,
        since: int,
        known: bool,
    ) -> bytes:
        token_id, secret, now = _random(6), _random(16), int(self.clock())
        expires = now + TOKEN_LIFE
        answer = messages.build_grant(
            self.anchors.fleet_id, self.key, self.cert, request, name,
            messages.Secret(f"{token_id}.{secret}"), self.cluster, now, expires,
        )  # fmt: skip
        token = Token(
            token_id, request.node_id, request.nonce, name, source,
            int(self.ledger.now()) + TOKEN_LIFE, known=known, since=since, kind=kind,
            key=request.kubelet, board=board_of(request),
        )  # fmt: skip
        # Before the token, so that none is ever forgotten; the answer only after it, so that
        # none is ever repeated that has no token.
        self.ledger.put(token)
        self.api.create_token(token_id, secret, name, datetime.fromtimestamp(expires, UTC))
        self.ledger.put(replace(token, grant=answer.decode()))
        _audit("granted", token)
        return answer

    def tick(self) -> None:
        """Approve what was granted, delete what is used or expired. Raises what the API raises."""
        is_open = self.is_open()
        if not self.ledger.tokens:
            return
        self.withdraw_ended(is_open)
        # A deleted one is only kept for whoever repeats its request, which its nonce ends.
        dead = (token for token in self.ledger.tokens if token.deleted)
        self.ledger.drop(*(token for token in dead if not self.ledger.is_fresh(token.nonce)))
        if not self.outstanding:
            return
        requests = [one for one in self.api.requests() if GROUP in one.groups]
        self._withdraw_flooding(requests)
        self._decide(requests)
        approved = [token for token in self.outstanding if token.csr]
        nodes = self.api.all_nodes() if approved else {}
        with self.ledger.together():
            for token in approved:
                # Not at the approval: the kubelet fetches its certificate with the token.
                node = nodes.get(token.name)
                if node and (not token.known or node.ready):
                    self.ledger.seen(token.name, node.uid)
                    self.withdraw(token)

    def withdraw_ended(self, is_open: bool) -> None:
        """Delete the tokens whose time is over, those for names that were barred meanwhile, and
        those of keys that may not come any more: they were revoked, or enrolment has ended and
        nobody approved them. Raises what the API raises."""
        now = self.ledger.now()
        barred = {one.name for one in self.ledger.certificates.values() if one.end}
        for token in self.outstanding:
            may_come = (
                is_open
                or self.ledger.is_member(token.node_id)
                or token.node_id in self.ledger.approved
            )
            if now >= token.expires:
                _audit("expired", token)
            elif token.name in barred:
                _audit("its name is barred", token)
            elif may_come and not self.ledger.revocation(token.node_id):
                continue
            self.withdraw(token)

    def _withdraw_flooding(self, requests: Sequence[SigningRequest]) -> None:
        """A kubelet makes one certificate request, or a few; each of many costs every join."""
        made = Counter(request.username for request in requests)
        for token in self.outstanding:
            if made[_user(token)] > MAX_REQUESTS:
                _audit("too many certificate requests", token, count=str(made[_user(token)]))
                self.withdraw(token)

    def _decide(self, requests: Sequence[SigningRequest]) -> None:
        """Approve the requests that were granted, and remember first what comes of it."""
        # Those that are approved already, by a person or before the power went, count too.
        asked = [one for one in requests if one.pending or one.approved]
        now, fitting = int(self.ledger.now()), []
        with self.ledger.together():
            for request in asked:
                for token in self.outstanding:
                    if not fits(request, token):
                        continue
                    if not token.csr:
                        # A certificate that nobody remembers could not be barred.
                        by, _ = self.ledger.share_of(token.node_id, token.kind)
                        self.ledger.certify(token.name, token.node_id, by, token.board)
                        self.ledger.put(replace(token, csr=token.key, since=now))
                    fitting.append((request, token))
        with self.ledger.together():
            for request, token in fitting:
                if request.pending:
                    reason = f"nodeagent granted {token.name} to {token.node_id}"
                    self.api.approve(request.name, request.uid, reason)
                elif token.name in self.ledger.members:
                    continue
                self._admitted(request, token)
        right = {request.name for request, _ in fitting}
        self._deny([one for one in asked if one.pending and one.name not in right])

    def _admitted(self, request: SigningRequest, token: Token) -> None:
        now = int(self.clock())
        self.ledger.admit(Admission(token.name, token.node_id, now, token.source, token.token_id))
        _audit("admitted", token, request=request.name)

    def _deny(self, strays: Sequence[SigningRequest]) -> None:
        """So that they are gone in an hour instead of a day; a few at a time, and only for order's
        sake."""
        for request in strays[:MAX_DENIED]:
            try:
                self.api.deny(request.name, request.uid, "It fits no grant of nodeagent.")
                audit("denied", request=request.name, user=request.username)
            except CommandFailed as error:
                LOG.info("%s", error)

    def withdraw(self, token: Token) -> None:
        """Delete a token from the cluster. Raises what the API raises."""
        self.api.delete_token(token.token_id)
        self.places.left(token, self.ledger.now())
        self.ledger.put(replace(token, deleted=True, grant=""))
        _audit("token deleted", token)


def fits(request: SigningRequest, token: Token) -> bool:
    """True where the request is exactly the one granted with the token: by it, for its name, and
    with the key that the node named when it asked for the grant. A token from before an update
    names no key, and fits nothing: its node asks anew."""
    if (
        request.signer != SIGNER
        or request.username != _user(token)
        or GROUP not in request.groups
        or frozenset(request.usages) not in USAGES
    ):
        return False
    try:
        csr = x509.load_pem_x509_csr(request.csr_pem)
        subject = {(entry.oid, entry.value) for entry in csr.subject}
        key = pki.spki_hash(csr.public_key())
        plain = csr.is_signature_valid and not list(csr.extensions)
    except pki.UNREADABLE:
        return False
    wanted = {
        (NameOID.COMMON_NAME, f"system:node:{token.name}"),
        (NameOID.ORGANIZATION_NAME, "system:nodes"),
    }
    named = plain and subject == wanted and len(list(csr.subject)) == len(wanted)
    return named and key == token.key


def is_node_id(text: str) -> bool:
    """True for what looks like a node's id, and would be taken for one."""
    return re.fullmatch(wire.NODE_ID, text) is not None


def _user(token: Token) -> str:
    """The user of whoever shows this token (kubernetes.io, "Authenticating with Bootstrap
    Tokens")."""
    return f"system:bootstrap:{token.token_id}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def audit(event: str, **more: str) -> None:
    """One line of JSON for the journal (journald keeps who and when); never a secret."""
    LOG.info("%s", json.dumps({"event": event, **more}))


def _audit(event: str, token: Token, **more: str) -> None:
    shown = {"node": token.node_id, "name": token.name, "from": token.source}
    audit(event, **shown, token=token.token_id, **more)
