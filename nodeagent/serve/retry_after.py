"""Retry-After (RFC 9110 10.2.3) for rejected clients: the more there were, the later.

A small board does a few dozen TLS handshakes a second. Were all who wait to come back as soon as
they like, they would keep it busy with turning them away.
"""

from __future__ import annotations

import threading
import time
from collections import deque

WINDOW = 30.0  # seconds looked back
RETURNS = 20  # a second; what a Raspberry Pi bears beside its work
LEAST, MOST = 3, 60  # seconds


class Crowd:
    """Counts who was turned away lately; for many threads."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MOST * RETURNS)
        self._lock = threading.Lock()

    def turn_away(self, now: float | None = None) -> int:
        """One more; in how many seconds it shall come again. ``now``: a monotonic clock's, None
        for this moment."""
        now = time.monotonic() if now is None else now
        with self._lock:
            self._times.append(now)
            while now - self._times[0] > WINDOW:
                self._times.popleft()
            return max(LEAST, min(MOST, len(self._times) // RETURNS))
