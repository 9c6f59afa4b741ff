"""How many packets a second are looked into, of each source and of all; how often we speak.

Looking into a packet costs far more than receiving it. What one stranger sends beyond its share is
passed over unread; whoever was not heard yet in this second is heard even when all is spent.
"""

from __future__ import annotations

import random
from collections import Counter

EACH, ALL = 50, 200  # packets a second; a fleet of 200 nodes sends about 100
MAX_SOURCES = 1024  # counted in one second
ANNOUNCEMENTS = 2  # of something new, RFC 6762 8.3
APART = 1.0  # seconds between two times that records are said, RFC 6762 6
JITTER = 0.02, 0.12  # seconds before an answer that others may give too, RFC 6762 6


class Budget:
    """Begins anew each second."""

    def __init__(self) -> None:
        self._second = -1
        self._spent: Counter[str] = Counter()
        self._left = ALL

    def allows(self, source: str, now: float) -> bool:
        """True where a packet from ``source`` may be looked into; it counts as spent then.
        ``now`` in seconds of any clock."""
        if int(now) != self._second:
            self._second, self._left = int(now), ALL
            self._spent.clear()
        spent = self._spent.get(source, 0)
        room = self._left > 0 if spent else len(self._spent) < MAX_SOURCES
        if spent >= EACH or not room:
            return False
        self._spent[source] = spent + 1
        self._left -= 1
        return True


class Pace:
    """When to say the own records on one link: once a second, however often somebody asks. Times
    are of one clock, in seconds; ``due`` is None while there is nothing to say."""

    def __init__(self) -> None:
        self.due: float | None = None
        self._left = 0
        self._free_at = 0.0

    def news(self, now: float) -> None:
        """They are new: at once, and once more."""
        self.due, self._left = now, ANNOUNCEMENTS

    def asked(self, now: float) -> None:
        """Somebody wants them."""
        if self.due is None:
            self.due = max(now + random.uniform(*JITTER), self._free_at)  # noqa: S311  no secret

    def is_due(self, now: float) -> bool:
        """True where they are to be said now; counts as said then."""
        if self.due is None or now < self.due:
            return False
        self._left -= 1
        self._free_at = now + APART
        self.due = self._free_at if self._left > 0 else None
        return True
