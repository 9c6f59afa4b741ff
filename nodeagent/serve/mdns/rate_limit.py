"""How many packets a second are looked into: of each source, and of all.

Looking into a packet costs far more than receiving it. What one stranger sends beyond its share is
passed over unread; whoever was not heard yet in this second is heard even when all is spent.
"""

from __future__ import annotations

from collections import Counter

EACH, ALL = 50, 200  # packets a second; a fleet of 200 nodes sends about 100
MAX_SOURCES = 1024  # counted in one second


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
