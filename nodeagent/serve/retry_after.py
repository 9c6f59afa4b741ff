"""Retry-After (RFC 9110 10.2.3) for rejected clients: the more addresses there were, the later.

A small board does a few dozen TLS handshakes a second. Were all who wait to come back as soon as
they like, they would keep it busy with turning them away.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

WINDOW = 30.0  # seconds looked back
RETURNS = 20  # a second; what a Raspberry Pi bears beside its work
LEAST, MOST = 3, 60  # seconds
ADDRESSES = MOST * RETURNS  # that are counted


class Crowd:
    """Counts which addresses were turned away lately; for many threads. How often one of them
    comes makes none of the others wait."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def turn_away(self, address: str, now: float | None = None) -> int:
        """One more; in how many seconds it shall come again. ``now``: a monotonic clock's, None
        for this moment."""
        now = time.monotonic() if now is None else now
        with self._lock:
            self._last[address] = now
            self._last.move_to_end(address)
            while now - next(iter(self._last.values())) > WINDOW or len(self._last) > ADDRESSES:
                self._last.popitem(last=False)
            return max(LEAST, min(MOST, len(self._last) // RETURNS))
