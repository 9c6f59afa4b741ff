"""Who may enrol: the code that people type, when enrolment is open, requests pending approval.

Approve mode is no setting and no file that could be missing: the fleet's root signed an enrol
issuer of another name (``card.make``), and every request under it waits for a person. A sealed
fleet treats keys it does not know the same way.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nodeagent.errors import NotAdmitted, Usage

MAX_WAITING = 32
WAITING_LIFE = 900  # seconds since it last asked
APPROVAL_LIFE = 86400  # seconds within which an approved node has to come

# What a control plane answers with HTTP status 202 (RFC 9110 15.3.3) instead of a grant.
APPROVAL, SEALED = "approval", "sealed"


def code(node_id: str) -> str:
    """The node id as people read and type it: 16 characters of base32 (RFC 4648 6), 80 bits of
    the key's hash, in four groups. Fewer could be met by making keys until one fits."""
    text = node_id.removeprefix("n-").upper()
    return "-".join(text[i : i + 4] for i in range(0, 16, 4))


def second_name(wish: str, node_id: str) -> str:
    """The name of a node whose wish is taken: with four characters of its node id."""
    return f"{wish[:58]}-{node_id[2:6]}"


def read_code(text: str) -> str:
    """The node id that a typed code means; case, dashes and spaces do not matter. Raises Refused
    for anything but all 16 characters."""
    typed = re.sub(r"[\s-]", "", text.strip().lower().removeprefix("n-"))
    if re.search(r"[0189]", typed):
        raise Usage(
            "There is no 0, 1, 8 or 9 in a node's code.",
            "What looks like one is an O, an I or L, a B or a G. Type it as the node shows it.",
        )
    if not re.fullmatch(r"[a-z2-7]{16}", typed):
        raise Usage(
            f"A node's code has 16 letters and digits, and this has {len(typed)} characters."
            if len(typed) != 16
            else "This is not a node's code.",
            "Type all of it, as the node shows it: XXXX-XXXX-XXXX-XXXX.",
        )
    return f"n-{typed}"


def not_admitted(why: str, node_id: str, where: str) -> NotAdmitted:
    """What the node tells people that a control plane let wait, ``why`` as it answered."""
    shown = code(node_id)
    approve = f"sudo nodeagent approve {shown}"
    if why == SEALED:
        return NotAdmitted(
            f"The cluster takes no new nodes by itself any more: enrolment is sealed ({where}).",
            f"On the control plane run `{approve}`, or `sudo nodeagent seal --open 1h` to let in"
            " all of the fleet's boards for an hour; this node then joins by itself.",
            shown,
        )
    return NotAdmitted(
        f"A person has to approve this node; its code is {shown} ({where}).",
        f"On the control plane run `{approve}`; this node then joins by itself.",
        shown,
    )


@dataclass(frozen=True)
class Seal:
    """What a person said of enrolment: ``sealed`` for good, apart from the time until
    ``open_until`` (seconds since the epoch)."""

    sealed: bool = False
    open_until: int = 0

    def is_open(self, now: float, seals_at: int) -> bool:
        """True while unknown keys may enrol; ``seals_at`` ends it by itself, 0 never does."""
        if now < self.open_until:
            return True
        return not self.sealed and (seals_at == 0 or now < seals_at)


@dataclass(frozen=True)
class Waiting:
    """A node that asked and waits for a person. Times in seconds since the epoch."""

    node_id: str
    name: str
    source: str
    why: str
    first: int
    last: int


class WaitingRoom:
    """Who waits, bounded and in memory only: what strangers ask is never written to the card.

    It is for people to look at; approving does not need it, so that filling it keeps nobody out.
    """

    def __init__(self) -> None:
        self._all: dict[str, Waiting] = {}

    def note(self, asking: Waiting) -> bool:
        """Note who asks; True where it is new here.

        The list full, the address with most of it gives way; where each has the same, the lot
        decides, so that whoever goes on asking is to be seen for a share of the time.
        """
        self._expire(asking.last)
        known = self._all.get(asking.node_id)
        if known is None and len(self._all) >= MAX_WAITING:
            held = Counter(one.source for one in self._all.values())
            most = max(held.values())
            if 1 < most == held[asking.source]:
                return False
            rivals = [node for node, one in self._all.items() if held[one.source] == most]
            del self._all[secrets.choice(rivals)]
        first = known.first if known else asking.first
        self._all[asking.node_id] = replace(asking, first=first)
        return known is None

    def leave(self, node_id: str) -> Waiting | None:
        """Take a node off the list; what was known of it."""
        return self._all.pop(node_id, None)

    def present(self, now: float) -> Sequence[Waiting]:
        """Who asked lately."""
        self._expire(now)
        return tuple(self._all.values())

    def _expire(self, now: float) -> None:
        self._all = {k: v for k, v in self._all.items() if now - v.last < WAITING_LIFE}
