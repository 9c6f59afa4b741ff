"""``nodeagent fleet new``: writes the files of a fleet on the user's computer."""

from __future__ import annotations

import re
from pathlib import Path

from nodeagent.errors import AlreadyExists, Usage
from nodeagent.host import durable
from nodeagent.trust import fleet_file

LEADERS, WORKERS = "control-plane", "worker"  # folders of split cards


def card_files(card: bytes, split: bool) -> dict[str, bytes]:
    """Card files by their paths, from the full card of ``cards.make``: one for every card of the
    fleet, or, split, one for boards that may lead and one for workers. Each is called as it must
    be called on the boot partition. Raises wire.Malformed."""
    if not split:
        return {fleet_file.NAME: card}
    return {
        f"{LEADERS}/{fleet_file.NAME}": card,
        f"{WORKERS}/{fleet_file.NAME}": fleet_file.for_workers(card),
    }


def create(
    name: str, folder: Path, split: bool = False, approve: bool = False, lead_cards: int = 1
) -> list[str]:
    """Make NAME.fleet (kept by the user) and nodeagent.fleet (for the cards), or, split, one such
    file in ``control-plane/`` and one in ``worker/``; all readable by their owner only. With
    ``approve``, which splits too, a person lets in each worker. ``lead_cards``: how many boards
    get the card file in ``control-plane/``, where they are split.

    Gives lines for people. Raises Refused where the name is bad or a file is already there:
    a fleet file is the only copy of its root key and is never overwritten.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise Usage(
            f"{name!r} is not a valid name for a fleet.",
            "Use small letters, digits and dashes, at most 32, for example home.",
        )
    kept = folder / f"{name}.fleet"
    if kept.name == fleet_file.NAME:
        raise Usage(
            f"A fleet called {name} would have the same file name twice.",
            "Choose another name, for example home.",
        )
    split = split or approve
    kept_data, card_data = fleet_file.make(name, approve, lead_cards if split else None)
    files = {folder / path: data for path, data in card_files(card_data, split).items()}
    for path in (kept, *files):
        if path.exists():
            raise AlreadyExists(
                f"{path} is already there, and a fleet's keys exist only once.",
                "Choose another name or folder, or move the file away.",
            )
    durable.write(kept, kept_data, 0o600)
    for path, data in files.items():
        durable.write(path, data, 0o600)
    lines = [f"{kept}: keep this file safe; it is the only copy of the fleet's root key."]
    if not split:
        (card,) = files
        return [*lines, f"{card}: copy this file to the boot partition of every card of the fleet."]
    leaders, workers = files
    return [
        *lines,
        f"{leaders}: for the boot partition of the board that should lead."
        if lead_cards == 1
        else f"{leaders}: for the boot partitions of the {lead_cards} boards that may lead.",
        f"{workers}: for all other boards; with it a board can only ask to join"
        + (", and waits until you approve it on the control plane." if approve else "."),
    ]
