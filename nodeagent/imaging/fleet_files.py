"""Reads a fleet file or a card file on the user's computer: what to put on a card, what to show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nodeagent.errors import FleetError, Usage
from nodeagent.trust import fleet_file, pki, store, wire
from nodeagent.trust.fleet_file import CardFile


@dataclass(frozen=True)
class Fleet:
    """``full`` is the card file with all that ``source`` can give; ``kept`` says that the source is
    the file to keep."""

    source: Path
    full: bytes
    card: CardFile
    kept: bool

    def card_file(self, role: str | None) -> bytes:
        """The card file for a board that shall have this role; without a role, the full one.

        A worker's never holds the control-plane issuer's key, in whatever way the fleet was made.
        Raises Refused where the source lacks what the role needs.
        """
        if role == "worker":
            return fleet_file.for_workers(self.full) if self.card.control_plane_key else self.full
        if role == "control-plane" and self.card.control_plane_key is None:
            raise Usage(
                f"{self.source} is a worker's card file, and a board cannot lead with it.",
                "Give the file to keep that `nodeagent fleet new` wrote, NAME.fleet.",
            )
        return self.full


def read(path: Path) -> Fleet:
    """Read ``NAME.fleet`` or a ``nodeagent.fleet``. Raises FleetError, OtherVersion, OSError."""
    with path.open("rb") as file:
        data = file.read(fleet_file.MAX_BYTES + 1)
    if fleet_file.is_scrubbed(data):
        raise FleetError(
            f"{path} is empty: a node took its keys over and overwrote it.",
            "Use the file to keep that `nodeagent fleet new` wrote, NAME.fleet.",
        )
    try:
        kept = fleet_file.is_kept(data)
        full = fleet_file.from_kept(data, str(path)) if kept else data
        card = fleet_file.parse(full, str(path))
        store.from_card(card)  # certificates and keys belong together
    except (wire.Malformed, pki.BadCertificate) as error:
        raise FleetError(
            f"{path} is not a fleet file, or it is damaged: {error}.",
            "Give a file that `nodeagent fleet new` wrote, or a copy of it.",
        ) from error
    return Fleet(path, full, card, kept)


def show(path: Path) -> list[str]:
    """What a fleet file is and holds, as lines for people, without anything secret.

    Raises FleetError, OtherVersion, OSError.
    """
    fleet = read(path)
    card = fleet.card
    if fleet.kept:
        kind = "the file to keep; do not put it on any card"
    elif card.control_plane_key:
        kind = "a card file, for any board of the fleet"
    else:
        kind = "a card file for workers; with it a board can only ask to join"
    held = {
        "root key": fleet.kept,
        "control-plane issuer": card.control_plane_key is not None,
        "enrol issuer": card.enrol_key is not None,
        "beacon key": True,
    }
    lines = [
        f"fleet:  {card.name}",
        f"id:     {card.fleet_id}",
        f"file:   {kind}",
        f"holds:  {', '.join(name for name, there in held.items() if there)}",
    ]
    if path.stat().st_mode & 0o077:
        lines.append(f"Others may read this file. Make it yours alone: chmod 600 {path}")
    return lines
