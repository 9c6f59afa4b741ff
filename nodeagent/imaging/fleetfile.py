"""``nodeagent fleet new``: writes the two files of a fleet on the user's computer."""

from __future__ import annotations

import re
from pathlib import Path

from nodeagent.errors import Refused
from nodeagent.fleet import trust
from nodeagent.host import durable

CARD_FILE = "nodeagent.fleet"


def create(name: str, folder: Path) -> list[str]:
    """Make NAME.fleet (kept by the user, 0600) and nodeagent.fleet (for the cards).

    Gives lines for people. Raises Refused where the name is bad or a file is already there:
    a fleet file is the only copy of its root key and is never overwritten.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise Refused(
            f"{name!r} is no name for a fleet.",
            "Use small letters, digits and dashes, at most 32, for example home.",
        )
    kept, card = folder / f"{name}.fleet", folder / CARD_FILE
    for path in (kept, card):
        if path.exists():
            raise Refused(
                f"{path} is already there, and a fleet's keys exist only once.",
                "Choose another name or folder, or move the file away.",
            )
    kept_data, card_data = trust.new_fleet(name)
    durable.write(kept, kept_data, 0o600)
    durable.write(card, card_data, 0o600)
    return [
        f"{kept}: keep this file safe; it is the only copy of the fleet's root key.",
        f"{card}: copy this file to the boot partition of every card of the fleet.",
    ]
