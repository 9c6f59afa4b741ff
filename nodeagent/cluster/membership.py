"""Whether this node is a member of a cluster, and whether its card is where it became one."""

from __future__ import annotations

from nodeagent import paths
from nodeagent.host import identity
from nodeagent.host.facts import Facts
from nodeagent.statefile import FOLDER, PATH, remembered

BOARD_FILE = f"{FOLDER}/board"  # the serial number of the board that this card's identity is of


def known_board(facts: Facts) -> str:
    """The serial number of the board that this card's identity is of; empty before it is known."""
    return (facts.text(BOARD_FILE) or "").strip()


def is_member(facts: Facts) -> bool:
    """True where the node belongs to a cluster or has decided its role."""
    return facts.exists(paths.KUBELET_CONF) or bool(remembered(facts.read(PATH))["role"])


def moved_note(facts: Facts) -> str:
    """What to tell people where a member's card is in another board; empty otherwise."""
    here, known = identity.usable_serial(facts.serial), known_board(facts)
    if not here or not known or here == known or not is_member(facts):
        return ""
    return (
        f"This card became part of the cluster on the board {known} and is now on the board {here}."
        " If it was moved, all is well. If it is a copy and both are running, run `sudo nodeagent"
        " reset` on one of the two."
    )
