"""What this node trusts and may issue; imported from the card file, which is then scrubbed.

Kept in ``/var/lib/nodeagent/trust/`` (root, 0700): ``fleet.json`` and, apart from it so that a
worker can drop it, ``control-plane.key``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Literal

from cryptography import x509

from nodeagent import paths
from nodeagent.errors import FleetError, OtherVersion
from nodeagent.host import mounts
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file, node_key, pki, voucher, wire
from nodeagent.trust.anchors import Anchors, agent_name, broker_name, server_name

LOG = logging.getLogger("nodeagent")

FLEET_FILE = f"{node_key.FOLDER}/fleet.json"
LEAD_KEY_FILE = paths.LEAD_KEY
VOUCHER_FILE = f"{node_key.FOLDER}/voucher"  # nothing secret
CARD_FILES = (f"/boot/firmware/{fleet_file.NAME}", f"/boot/{fleet_file.NAME}")


@dataclass(frozen=True)
class Issuer:
    """An issuing certificate, with its key where this node may issue."""

    cert: x509.Certificate
    key: pki.PrivateKey | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Trust:
    """The fleet as this node holds it."""

    fleet_id: str
    name: str
    root_cert: x509.Certificate
    control_plane: Issuer
    enrol: Issuer
    beacon_key: bytes = field(repr=False)
    lead_cards: int | None = None  # how many cards of the fleet may lead, where its files say so

    @classmethod
    def load(cls, host: Host) -> Trust:
        """What was imported. Raises FleetError where it is missing or damaged, OtherVersion,
        OSError."""
        data = host.read(FLEET_FILE)
        if data is None:
            raise FleetError(
                "This node belongs to no fleet yet.",
                f"Copy the fleet's card file, {fleet_file.NAME}, to the boot partition.",
            )
        try:
            card = fleet_file.parse(data, FLEET_FILE)
            key = host.read(LEAD_KEY_FILE)
            # With a NUL in it, it is being forgotten: the power went while it was overwritten.
            if key is not None and b"\0" not in key:
                card = replace(card, control_plane_key=key.decode("ascii", "replace"))
            return from_card(card)
        except (wire.Malformed, pki.BadCertificate) as error:
            raise FleetError(
                f"The fleet's keys in {node_key.FOLDER} are damaged: {error}.",
                "Check the card for faults, or write this node's card again.",
            ) from error

    @property
    def may_lead(self) -> bool:
        """True where this node carries the control-plane issuer's key."""
        return self.control_plane.key is not None

    @property
    def anchors(self) -> Anchors:
        """The public half: what checks others."""
        return Anchors(self.fleet_id, self.root_cert, self.control_plane.cert, self.enrol.cert)

    def leaf(
        self, kind: Literal["client", "server", "broker", "agent"], public: pki.PublicKey
    ) -> list[x509.Certificate]:
        """A certificate for ``public`` and the issuer's, in the order TLS sends them.

        Raises FleetError where this node does not carry the issuer that is needed.
        """
        issuer, usage = self.control_plane, pki.SERVER
        node = node_key.node_id(public)
        names = {"server": server_name, "broker": broker_name, "agent": agent_name}
        dns = names[kind](self.fleet_id) if kind in names else f"{node}.{self.fleet_id}.internal"
        if kind == "client":
            issuer = self.enrol if self.enrol.key is not None else self.control_plane
            usage = pki.CLIENT
        if issuer.key is None:
            raise FleetError(
                f"This node has no key to issue a {kind} certificate: it is a worker's card.",
                "Let a card that carries the control-plane issuer lead.",
            )
        leaf = pki.issue(
            node, public, pki.common_name(issuer.cert), issuer.key, usages=(usage,), dns=(dns,)
        )
        return [leaf, issuer.cert]

    @property
    def issuer_point(self) -> bytes:
        """The control-plane issuer's public key, as vouchers are checked with it."""
        return voucher.to_point(pki.public_key(self.control_plane.cert))

    def voucher(self, host: Host, public: pki.PublicKey) -> bytes:
        """This node's voucher, b"" where it has none: made where the card may lead, and kept, so
        that a node votes also when it has dropped the issuer. Raises OSError."""
        kept, point = host.read(VOUCHER_FILE) or b"", voucher.to_point(public)
        if voucher.is_vouched(self.issuer_point, point, kept):
            return kept
        if self.control_plane.key is None:
            return b""
        fresh = voucher.vouch(self.control_plane.key, public)
        host.write(VOUCHER_FILE, fresh, 0o600)
        return fresh

    def drop_issuer(self, host: Host) -> Trust:
        """Forget the control-plane issuer's key, on disk too; for workers that joined.

        A client certificate must stay possible, so a card without the enrol issuer's key keeps
        what it has. Repeatable; raises OSError.
        """
        if self.enrol.key is None:
            return self
        host.shred(LEAD_KEY_FILE)
        return replace(self, control_plane=Issuer(self.control_plane.cert))


def from_card(card: fleet_file.CardFile) -> Trust:
    """A card's content as certificates and keys that fit together. Raises BadCertificate."""
    root = pki.read_cert(card.root_cert)
    lead, enrol = pki.read_cert(card.control_plane_cert), pki.read_cert(card.enrol_cert)
    if card.fleet_id != f"f-{pki.short_hash(pki.public_key(root))}":
        raise pki.BadCertificate("the fleet id is not the root's")
    issuers = []
    for cert, key_pem in ((lead, card.control_plane_key), (enrol, card.enrol_key)):
        pki.check_issued(cert, root)
        key = pki.read_key(key_pem) if key_pem is not None else None
        if key is not None and pki.spki(key.public_key()) != pki.spki(pki.public_key(cert)):
            raise pki.BadCertificate("an issuer's key is not that of its certificate")
        issuers.append(Issuer(cert, key))
    if all(issuer.key is None for issuer in issuers):
        raise pki.BadCertificate("there is no issuer's key in it")
    return Trust(card.fleet_id, card.name, root, issuers[0], issuers[1], card.beacon_key,
                 card.lead_cards)  # fmt: skip


def import_card(host: Host, state_file: StateFile) -> Trust:
    """Take the keys over from the boot partition, then scrub them there (design, 7).

    Each line below is durable before the next begins, and the whole can be repeated from any
    point. Raises FleetError where the card file is missing or damaged, Blocked where what is taken
    over would be forgotten, OtherVersion, OSError.
    """
    path = next((path for path in CARD_FILES if host.exists(path)), None)
    data = host.read(path) if path is not None else None
    spent = data is None or fleet_file.is_scrubbed(data)
    if not state_file.values["imported"]:
        if not spent:
            mounts.check_lasting(Facts(host), paths.STATE)
            _keep(host, _parse(path or "", data or b""))
        elif data is not None and not host.exists(FLEET_FILE):
            raise FleetError(
                f"The fleet's keys were taken over from {path} before, and are not on this system"
                " any more.",
                f"Copy {fleet_file.NAME} to the boot partition again. If this comes again, the"
                " system forgets what is written to it: see `sudo nodeagent doctor`.",
            )
        Trust.load(host)  # raises while there is neither a card nor an earlier import
        state_file.set(imported=True)
    trust = Trust.load(host)
    if path is not None and data is not None and not spent:
        _scrub(host, path, data, trust)
    return trust


def _parse(path: str, data: bytes) -> fleet_file.CardFile:
    try:
        card = fleet_file.parse(data, f"The card file {path}")
        from_card(card)
        return card
    except (wire.Malformed, pki.BadCertificate) as error:
        raise FleetError(
            f"The card file {path} is damaged or of another kind: {error}.",
            f"Copy {fleet_file.NAME}, as `nodeagent fleet new` wrote it, to the boot partition"
            " again.",
        ) from error


def _keep(host: Host, card: fleet_file.CardFile) -> None:
    host.make_folder(node_key.FOLDER, 0o700)
    # What an attempt that lost power kept is not just replaced: its blocks would be freed with
    # the keys in them. The card still has them all.
    for path in (LEAD_KEY_FILE, FLEET_FILE):
        host.shred(path)
    if card.control_plane_key is not None:
        host.write(LEAD_KEY_FILE, card.control_plane_key.encode(), 0o600)
    host.write(FLEET_FILE, fleet_file.dump(card), 0o600)


def _scrub(host: Host, path: str, data: bytes, trust: Trust) -> None:
    """Overwrite an imported card file. One of another fleet, or of a later version, is left alone:
    its keys are not here."""
    try:
        other = fleet_file.parse(data, path).fleet_id != trust.fleet_id
    except OtherVersion as error:
        LOG.warning("%s", error)
        return
    except wire.Malformed:
        other = False  # the torn rest of a scrub that lost power
    if other:
        LOG.warning(
            "%s is of another fleet and was left as it is: this node is in fleet %s already. "
            "To move the node, write its card again.",
            path,
            trust.name,
        )
        return
    host.overwrite(path, fleet_file.scrub_text(trust.name, len(data), host.clock.now()))
