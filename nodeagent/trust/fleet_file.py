"""The two files of a fleet: what the user keeps, and what every card carries. Pure: no I/O.

Both are lines of ``#`` for people, then one JSON object. The user's file holds the root key; the
card's file holds the two issuers' keys and the beacon key, and no root key.
"""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

from nodeagent import formats
from nodeagent.trust import pki, wire

NAME = "nodeagent.fleet"  # on the boot partition
MAX_BYTES = 32 * 1024
FORMAT = 1
BEACON_KEY_BYTES = 32  # ChaCha20-Poly1305, RFC 8439 2.3

_SCRUBBED = "# nodeagent: the keys of fleet {name} stood here.\n"
_SCRUBBED_MARK = b"# nodeagent: the keys of fleet "
_SCRUBBED_END = b"# Nothing is left to do with this file.\n"


@dataclass(frozen=True)
class CardFile:
    """The content of a card file. An issuer's key is None where the card does not carry it."""

    fleet_id: str
    name: str
    root_cert: str
    control_plane_cert: str
    enrol_cert: str
    beacon_key: bytes = field(repr=False)
    control_plane_key: str | None = field(default=None, repr=False)
    enrol_key: str | None = field(default=None, repr=False)
    lead_cards: int | None = None  # cards that may lead; None: all of them, or nobody said


def approval_issuer(fleet_id: str) -> str:
    """The enrol issuer's name in a fleet whose nodes wait for approval. A name and no field of the
    card: the root's signature is on it, so no file that is missing or changed takes it away."""
    return f"nodeagent approval issuer {fleet_id}"


def make(name: str, approve: bool = False, lead_cards: int | None = None) -> tuple[bytes, bytes]:
    """A new fleet: (the file to keep, the file for the cards). The fleet id is the root's hash.
    With ``approve`` a person has to let in each node that has only the enrol issuer.
    ``lead_cards``: how many of split cards are to be control planes' cards."""
    root_key, lead_key, enrol_key = pki.new_key(), pki.new_key(), pki.new_key()
    fleet_id = f"f-{pki.short_hash(root_key.public_key())}"
    root_name = f"nodeagent root {fleet_id}"
    root = pki.issue(
        root_name,
        root_key.public_key(),
        root_name,
        root_key,
        path_length=1,
        within=f"{fleet_id}.internal",
    )
    lead = pki.issue(
        f"nodeagent control-plane issuer {fleet_id}",
        lead_key.public_key(),
        root_name,
        root_key,
        usages=(pki.SERVER, pki.CLIENT),
        path_length=0,
    )
    enrol = pki.issue(
        approval_issuer(fleet_id) if approve else f"nodeagent enrol issuer {fleet_id}",
        enrol_key.public_key(),
        root_name,
        root_key,
        usages=(pki.CLIENT,),
        path_length=0,
    )
    content = {
        "format": FORMAT,
        "kind": "card",
        "fleet_id": fleet_id,
        "name": name,
        "root": {"cert": pki.cert_pem(root)},
        "control_plane": {"cert": pki.cert_pem(lead), "key": pki.key_pem(lead_key)},
        "enrol": {"cert": pki.cert_pem(enrol), "key": pki.key_pem(enrol_key)},
        "beacon_key": base64.b64encode(os.urandom(BEACON_KEY_BYTES)).decode(),
    }
    if lead_cards is not None:
        content["lead_cards"] = lead_cards
    kept = {
        **content,
        "kind": "fleet",
        "root": {"cert": pki.cert_pem(root), "key": pki.key_pem(root_key)},
    }
    return _text(_KEPT_HEADER.format(name=name), kept), _text(
        _CARD_HEADER.format(name=name), content
    )


_KEPT_HEADER = """\
# The fleet "{name}" of nodeagent. Keep this file, and keep it to yourself:
# it holds the only copy of the fleet's root key. Do not put it on any card.
"""
_CARD_HEADER = """\
# The card file of the nodeagent fleet "{name}". Copy it to the boot partition of each card,
# as nodeagent.fleet. Whoever has it can add nodes to the fleet: treat it like a house key.
# The node takes the keys over at first boot and overwrites this file.
"""


_WORKER_HEADER = """\
# The card file for workers of the nodeagent fleet "{name}". Copy it to the boot partition of each
# worker's card, as nodeagent.fleet. Whoever has it can ask to join, and cannot lead the fleet:
# the control-plane issuer's key never was in it.
# The node takes the keys over at first boot and overwrites this file.
"""


def for_workers(card: bytes) -> bytes:
    """A worker's card file, made from the full one that ``make`` gives: with split cards, only
    boards that shall lead get the full one. Raises wire.Malformed, OtherVersion.

    It has no control-plane issuer's key, so nothing made from it alone is believed as a control
    plane.
    """
    full = parse(card)
    return _dump(_WORKER_HEADER.format(name=full.name), full)


def _text(header: str, content: dict[str, object]) -> bytes:
    return (header + json.dumps(content, indent=1) + "\n").encode()


def _pem(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096 or not value.isascii():
        raise wire.Malformed("PEM text expected")
    return value


def _issuer(value: Any) -> dict[str, str]:
    checked: dict[str, str] = wire.record(value, {"cert": _pem}, {"key": _pem})
    return checked


_FIELDS: dict[str, wire.Check] = {
    "kind": wire.text("card", 4),
    "fleet_id": wire.fleet_id,
    "name": wire.text(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", 32),
    "root": lambda value: wire.record(value, {"cert": _pem}),
    "control_plane": _issuer,
    "enrol": _issuer,
    "beacon_key": wire.binary(BEACON_KEY_BYTES),
}
_KEPT_FIELDS: dict[str, wire.Check] = {
    **_FIELDS,
    "kind": wire.text("fleet", 5),
    "root": lambda value: wire.record(value, {"cert": _pem, "key": _pem}),
    "beacon_key": wire.text("[A-Za-z0-9+/=]+", 64),  # stays as it is written
}


_MORE: dict[str, wire.Check] = {"lead_cards": wire.integer(1, 1000)}
_CARD = wire.Form("The card file", FORMAT, _FIELDS, _MORE, remedy=formats.HERE, key="format")
_KEPT = wire.Form("The fleet file", FORMAT, _KEPT_FIELDS, _MORE, remedy=formats.HERE, key="format")


def _content(data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise wire.Malformed(f"longer than {MAX_BYTES} bytes")
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    body = b"\n".join(line for line in lines if not line.startswith(b"#"))
    return wire.loads(body, MAX_BYTES)


def is_kept(data: bytes) -> bool:
    """True for the file that the user keeps, of whatever version. Raises wire.Malformed."""
    content = _content(data)
    return isinstance(content, dict) and content.get("kind") == "fleet"


def from_kept(data: bytes, what: str = "") -> bytes:
    """The full card file of a fleet, made again from the file to keep: the same as ``make`` gave.
    ``what`` names the file. Raises wire.Malformed, OtherVersion."""
    kept = _KEPT.read(_content(data), what)
    content = {"format": FORMAT, **kept, "kind": "card", "root": {"cert": kept["root"]["cert"]}}
    card = _text(_CARD_HEADER.format(name=kept["name"]), content)
    parse(card)
    return card


def parse(data: bytes, what: str = "") -> CardFile:
    """A card file's content. A byte order mark and CRLF are borne. ``what`` names the file. Raises
    wire.Malformed, OtherVersion."""
    content = _content(data)
    if isinstance(content, dict) and content.get("kind") == "fleet":
        raise wire.Malformed("it is the file to keep, with the fleet's root key, not the card's")
    value = _CARD.read(content, what)
    if len(value["beacon_key"]) != BEACON_KEY_BYTES:
        raise wire.Malformed("`beacon_key`: 32 bytes expected")
    return CardFile(
        fleet_id=value["fleet_id"],
        name=value["name"],
        root_cert=value["root"]["cert"],
        control_plane_cert=value["control_plane"]["cert"],
        enrol_cert=value["enrol"]["cert"],
        beacon_key=value["beacon_key"],
        control_plane_key=value["control_plane"].get("key"),
        enrol_key=value["enrol"].get("key"),
        lead_cards=value.get("lead_cards"),
    )


def dump(card: CardFile) -> bytes:
    """The content as a card file, without the control-plane issuer's key, which is kept apart."""
    return _dump("# Written by nodeagent; secret.\n", card)


def _dump(header: str, card: CardFile) -> bytes:
    enrol = {"cert": card.enrol_cert}
    if card.enrol_key is not None:
        enrol["key"] = card.enrol_key
    content: dict[str, object] = {
        "format": FORMAT,
        "kind": "card",
        "fleet_id": card.fleet_id,
        "name": card.name,
        "root": {"cert": card.root_cert},
        "control_plane": {"cert": card.control_plane_cert},
        "enrol": enrol,
        "beacon_key": base64.b64encode(card.beacon_key).decode(),
    }
    if card.lead_cards is not None:
        content["lead_cards"] = card.lead_cards
    return _text(header, content)


def scrub_text(name: str, length: int, now: float) -> bytes:
    """What replaces an imported card file: a note for people, padded to ``length`` bytes."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    note = (
        _SCRUBBED.format(name=name)
        + f"# The node took them over on {when} (by its own clock) and overwrote this file.\n"
    ).encode() + _SCRUBBED_END
    return note[:length].ljust(length - 1)[: max(length - 1, 0)] + b"\n" * (length > 0)


def is_scrubbed(data: bytes) -> bool:
    """True where nothing but the note is left; False also for a half overwritten file."""
    head, end, tail = data.partition(_SCRUBBED_END)
    return data.startswith(_SCRUBBED_MARK) and len(head) < 400 and bool(end) and not tail.strip()
