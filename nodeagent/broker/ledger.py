"""The broker's durable memory.

Three records tell who may do what, each with a life of its own. A *claim* is an open token:
minutes, and no right but to the name it asks under. A *membership* begins where the admission is
seen: its key may always ask again. A *certificate* of a kubelet is remembered until it has surely
ended, whatever else is forgotten: until then its name is nobody else's, but another card's of the
same board. Beside them: who was approved or revoked, whether enrolment is sealed, the nonce secret.

One file, ``/var/lib/nodeagent-broker/state.json`` (0600), replaced whole and durably before any
answer leaves the broker: a power cut never frees a name or forgets a token. What a later version of
nodeagent added to it is kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from nodeagent import formats, paths
from nodeagent.broker import ledger_file
from nodeagent.broker.kube_api_protocol import Seen
from nodeagent.broker.ledger_file import (
    MAX_ADMISSIONS,
    MAX_PEOPLES,
    MAX_RESERVED,
    SHARE_OF_NAMES,
    Admission,
    Certificate,
    Member,
    Revocation,
    Token,
)
from nodeagent.errors import FleetError
from nodeagent.host.host import Host
from nodeagent.join.approval import Seal, second_name
from nodeagent.trust import wire

MAX_NAMES_EACH = 4
MAX_TOKENS = 1000  # also those that are deleted and may be asked for again
NONCE_LIFE = 120  # seconds
# A kubelet's certificate lives a year (kube-controller-manager, --cluster-signing-duration), and
# whoever holds one renews it by itself while its name is not barred.
CERTIFICATE_LIFE = 366 * 86400
KEPT = 600  # seconds that the greatest time may be ahead of the file's


class Ledger:
    """Read whole at start; each change is durable when the method returns, but in ``together``.

    Two times are kept. ``now`` is the greatest ever seen, and goes on from there with the machine's
    own: whatever ends a right ends once. ``lived`` counts the seconds that surely passed while this
    machine was on: whatever keeps a name away ends by it, since a clock may be wrong by years.
    """

    def __init__(self, host: Host) -> None:
        """Raises FleetError where the file is damaged, OtherVersion, OSError."""
        self._host = host
        self.members: dict[str, Member] = {}  # by name
        self.certificates: dict[str, Certificate] = {}  # by name
        self.tokens: tuple[Token, ...] = ()
        self.admissions: tuple[Admission, ...] = ()
        self.approved: dict[str, int] = {}  # node id -> until when it may come
        self.revoked: tuple[Revocation, ...] = ()
        self.reserved: tuple[str, ...] = ()  # names of control planes
        self.seal = Seal()
        self._secret = os.urandom(32)
        self._seen, self._lived, self._up = 0.0, 0.0, host.clock.monotonic()
        self._kept = 0.0  # the time in the file
        self._held = self._changed = False
        self._more: dict[str, object] = {}  # of a later version, kept as it is
        data = host.read(paths.LEDGER)
        if data is None:
            self._save()
            return
        try:
            content = wire.loads(data, ledger_file.MAX_BYTES)
            value = ledger_file.read(content, CERTIFICATE_LIFE)
        except wire.Malformed as error:
            raise FleetError(
                f"The broker's memory in {paths.LEDGER} is damaged: {error}.",
                "Check the card for faults. Removing the file frees every name that was given.",
            ) from error
        self._more = {k: v for k, v in content.items() if k not in (*value, formats.KEY, "names")}
        self._secret = value["secret"]
        self.members = {one.name: one for one in value["members"]}
        self.certificates = {one.name: one for one in value["certificates"]}
        self.tokens, self.admissions = value["tokens"], value["admissions"]
        self.approved, self.revoked = value["approved"], value["revoked"]
        self.reserved, self.seal = value["reserved"], value["seal"]
        self._seen, self._lived = value["seen"], value["lived"]
        self._kept = self._seen
        if value["up"] is not None:  # 0.2.0 did not note it
            self._up = value["up"]
        # At once: later on this boot may have lasted longer than the one that was noted.
        self._advance()

    def _advance(self) -> None:
        up = self._host.clock.monotonic()
        # It begins anew with each boot; the time that the machine was off is not counted.
        passed = up - self._up if up >= self._up else up
        self._up = up
        self._lived += passed
        self._seen = max(self._seen + passed, self._host.clock.now())

    def now(self) -> float:
        """Seconds since the epoch, never less than before, whatever becomes of the clock."""
        self._advance()
        return self._seen

    def lived(self) -> float:
        """Seconds that surely passed since the ledger was begun."""
        self._advance()
        return self._lived

    def ahead(self) -> int:
        """Seconds that a clock of before was ahead of this one."""
        return max(0, int(self.now() - self._host.clock.now()))

    def nonce(self) -> str:
        """A fresh nonce: the time and random bits, authenticated (HMAC, RFC 2104), so that none
        has to be remembered and nobody can fill a memory."""
        body = struct.pack(">Q", int(self.now())) + os.urandom(8)
        return wire.base64url(body + self._mark(body))

    def made(self, nonce: str) -> int | None:
        """When a nonce of this broker was made, that is not too old; else None."""
        try:
            data = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
        except ValueError:
            return None
        body, mark = data[:16], data[16:]
        if len(body) != 16 or not hmac.compare_digest(mark, self._mark(body)):
            return None
        made = int(struct.unpack(">Q", body[:8])[0])
        return made if 0 <= int(self.now()) - made <= NONCE_LIFE else None

    def is_fresh(self, nonce: str) -> bool:
        """True for a nonce of this broker that is not too old."""
        return self.made(nonce) is not None

    def _mark(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, hashlib.sha256)[:16]

    def open_tokens(self) -> list[Token]:
        """Tokens that may still be in the cluster: the claims."""
        return [token for token in self.tokens if not token.deleted]

    def holder(self, name: str) -> str:
        """The key whose name this is: by its certificate, or as long as its claim is open. Empty:
        nobody's."""
        if name in self.certificates:
            return self.certificates[name].node_id
        return next((t.node_id for t in self.open_tokens() if t.name == name), "")

    def names_of(self, node_id: str) -> list[str]:
        """The names that this key has, or had, a certificate for."""
        return [one.name for one in self.certificates.values() if one.node_id == node_id]

    def unbarred(self, node_id: str) -> list[str]:
        """Those of them that it may renew its certificate for."""
        return [name for name in self.names_of(node_id) if not self.certificates[name].end]

    def cards_of(self, node_id: str) -> set[str]:
        """This key, and those of former cards of the boards that have its names."""
        former = (self.certificates[name].former for name in self.names_of(node_id))
        return {node_id, *chain.from_iterable(former)}

    def is_member(self, node_id: str) -> bool:
        """True for a key that was admitted, and neither left for good nor was thrown out."""
        return any(member.node_id == node_id for member in self.members.values())

    def share_of(self, node_id: str, kind: str) -> tuple[str, bool]:
        """Whose share of the names a new one of this key is of, and whether there is room in it:
        further names count as the first one does, else where an asker of this ``kind`` does."""
        names = self.names_of(node_id)
        by = self.certificates[names[0]].by if names else kind
        used = sum(one.by == by for one in self.certificates.values())
        return by, used < SHARE_OF_NAMES

    def name_for(self, wish: str, node_id: str, nodes: Mapping[str, Seen], room: bool) -> str:
        """The name for this key: the wish, or the wish and characters of its node id.

        A key that wishes for ever more of them keeps the newest it has, and so does one without
        ``room`` for another. One that is barred comes back only by a person's word. Raises
        FleetError where no name is left.
        """
        own = self.unbarred(node_id)
        full = not room or len(self.names_of(node_id)) >= MAX_NAMES_EACH
        if wish not in own and full:
            wishes = own[-1:]
        else:
            wishes = [wish, second_name(wish, node_id), f"{wish[:46]}-{node_id[2:]}"]
        for name in wishes:
            free = not self.holder(name) and name not in nodes
            if (free or name in own) and name not in self.reserved:
                return name
        raise FleetError(f"No name is left for {node_id}.", "Give it another `node_name`.")

    def reserve(self, names: Iterable[str]) -> None:
        """Control planes' names, which no key ever gets; durable with the next change."""
        new = [name for name in names if name not in self.reserved]
        self.reserved = (*self.reserved, *new)[-MAX_RESERVED:]

    def put(self, token: Token) -> None:
        """Remember a token, or its new state. Beyond what is kept the oldest deleted are
        forgotten."""
        others = [t for t in self.tokens if t.token_id != token.token_id]
        spare = len(others) + 1 - MAX_TOKENS
        dropped = {t.token_id for t in [t for t in others if t.deleted][: max(spare, 0)]}
        self.tokens = (*(t for t in others if t.token_id not in dropped), token)
        self._save()

    def drop(self, *tokens: Token) -> None:
        """Forget tokens that are deleted and cannot be asked for again."""
        over = {token.token_id for token in tokens}
        if over:
            self.tokens = tuple(t for t in self.tokens if t.token_id not in over)
            self._save()

    def certify(self, name: str, node_id: str, by: str, board: str = "") -> None:
        """This key is about to get a certificate for this name."""
        had = self.certificates.get(name)
        now = Certificate(name, node_id, by, board=board)
        if had is not None and had.node_id == node_id:
            now = replace(now, board=board or had.board, former=had.former, end=had.end)
        self.certificates = {**self.certificates, name: now}
        self._save()

    def pass_on(self, name: str, node_id: str) -> None:
        """The name is this key's, which another card of the same board has had, and may have a
        certificate for still."""
        had = self.certificates[name]
        former = [key for key in dict.fromkeys((*had.former, had.node_id)) if key != node_id]
        now = replace(had, node_id=node_id, former=tuple(former))
        self.certificates = {**self.certificates, name: now}
        self.part(name)

    def admit(self, admission: Admission) -> None:
        """Record an admission, with which its key is a member, and its approval used; of old
        admissions beyond 500 only the membership stays."""
        member = Member(admission.name, admission.node_id, admission.time)
        self.admissions = (*self.admissions, admission)[-MAX_ADMISSIONS:]
        self.members = {**self.members, member.name: member}
        self.approved = {n: end for n, end in self.approved.items() if n != member.node_id}
        self._save()

    def seen(self, name: str, uid: str) -> None:
        """The member's Node is in the cluster."""
        member = self.members.get(name)
        if member is not None and member.uid != uid:
            self.members = {**self.members, name: replace(member, uid=uid)}
            self._save()

    def part(self, *names: str) -> None:
        """End the memberships under these names; the certificates live on."""
        self.members = {name: one for name, one in self.members.items() if name not in names}
        self._save()

    def bar(self, *names: str) -> None:
        """From now on nobody renews a certificate for these names, which somebody is about to bar.
        One may have been renewed just before."""
        end = int(self.lived()) + CERTIFICATE_LIFE
        barred = {name: replace(self.certificates[name], end=end) for name in names}
        self.certificates = {**self.certificates, **barred}
        self.part(*names)

    def days(self, name: str) -> int:
        """For how many days at most a certificate for a barred name lives."""
        return max(0, math.ceil((self.certificates[name].end - self.lived()) / 86400))

    def free(self, name: str) -> None:
        """Forget a certificate that has ended."""
        self.certificates = {n: one for n, one in self.certificates.items() if n != name}
        self._save()

    def left(self) -> list[Certificate]:
        """Certificates whose holder is no member any more."""
        return [one for name, one in self.certificates.items() if name not in self.members]

    def revocation(self, node_id: str) -> Revocation | None:
        """The revocation of this key, where there is one."""
        return next((entry for entry in self.revoked if entry.node_id == node_id), None)

    def approve(self, node_id: str, until: int) -> None:
        """Let this key in until then, also one that was revoked; whoever has a certificate still
        is a member again. Raises FleetError where too many approvals wait to be used."""
        if len(self.approved) >= MAX_PEOPLES and node_id not in self.approved:
            raise FleetError(f"{MAX_PEOPLES} approved nodes have not joined yet.", "Wait a day.")
        self.revoked = tuple(entry for entry in self.revoked if entry.node_id != node_id)
        now = int(self._host.clock.now())
        again = {
            name: Member(name, node_id, now)
            for name in self.names_of(node_id)
            # Barred, the certificate of a former card is, too, and stays so.
            if not (self.certificates[name].former and self.certificates[name].end)
        }
        self.members = {**self.members, **again}
        renewed = {name: replace(self.certificates[name], end=0) for name in again}
        self.certificates = {**self.certificates, **renewed}
        if not again:
            self.approved = {**self.approved, node_id: until}
        self._save()

    def revoke(self, revocation: Revocation) -> None:
        """Deny this key from now on. Raises FleetError where too many are denied."""
        others = tuple(e for e in self.revoked if e.node_id != revocation.node_id)
        if len(others) >= MAX_PEOPLES:
            raise FleetError(
                f"{MAX_PEOPLES} nodes are revoked already.",
                "Make a new fleet: these cards' keys are in too many hands.",
            )
        with self.together():
            self.revoked = (*others, revocation)
            self.approved = {n: end for n, end in self.approved.items() if n != revocation.node_id}
            self.bar(*self.names_of(revocation.node_id))

    def set_seal(self, seal: Seal) -> None:
        """Remember what a person said of enrolment, or that its time is over."""
        self.seal = seal
        self._save()

    def end(self, seals_at: int) -> bool:
        """Write down what has ended by now, so that no clock opens it again; true where enrolment
        is among it. ``seals_at``: when it ends by itself, 0 never does."""
        now, said = self.now(), self.seal
        ended = Seal(
            sealed=said.sealed or 0 < seals_at <= now,
            open_until=said.open_until if now < said.open_until else 0,
        )
        approved = {node: until for node, until in self.approved.items() if now < until}
        changed = (ended, approved) != (said, self.approved)
        if changed or now > self._kept + KEPT:
            self.seal, self.approved = ended, approved
            self._save()
        return ended != said

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is changed within is durable when it ends, however it ends, with one write: on a
        card each takes tens of milliseconds."""
        if self._held:
            yield
            return
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._changed:
                self._save()

    def _save(self) -> None:
        self._changed = self._held
        if self._held:
            return
        self._advance()
        self._kept = self._seen
        content = self._more | {
            "secret": base64.b64encode(self._secret).decode(),
            "seen": int(self._seen),
            "lived": int(self._lived),
            "up": int(self._up),
            # Not asdict, which copies every text: with a thousand nodes joining it took most of
            # the broker's time.
            "members": [vars(one) for one in self.members.values()],
            "certificates": [vars(one) for one in self.certificates.values()],
            "tokens": [vars(token) for token in self.tokens],
            "admissions": [vars(entry) for entry in self.admissions],
            "approved": self.approved,
            "revoked": [vars(entry) for entry in self.revoked],
            "reserved": self.reserved,
            "seal": vars(self.seal),
        }
        self._host.write(paths.LEDGER, json.dumps(ledger_file.stamp(content)).encode(), 0o600)
