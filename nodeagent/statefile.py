"""Durable memory: what the world itself cannot tell. Not a list of what is done.

Kept in ``/var/lib/nodeagent/journal.json``, replaced whole and durably at each change: role and
epoch, reboots asked for, when each step first held, and a bounded history for people. What a later
version of nodeagent added to it is kept.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from nodeagent import formats
from nodeagent.errors import JournalDamaged
from nodeagent.host.host import Host

FOLDER = "/var/lib/nodeagent"
PATH = f"{FOLDER}/journal.json"
MAX_HISTORY = 500
FORMAT = 1


def remembered(data: bytes | None, name: str) -> Any:
    """One value out of a journal's bytes, for those who only look; None where there is none."""
    try:
        values = json.loads(data or b"{}")
    except ValueError:
        return None  # the agent itself stops at a damaged journal, and says so
    return values.get(name) if isinstance(values, dict) else None


class Journal:
    """A small dictionary on disk. ``get`` reads memory, ``set`` is durable when it returns."""

    def __init__(self, host: Host) -> None:
        """Raises JournalDamaged, OtherVersion; a missing file is an empty journal."""
        self._host = host
        self._lock = threading.RLock()
        data = host.read(PATH)
        try:
            self._values: dict[str, Any] = json.loads(data) if data is not None else {}
            if not isinstance(self._values, dict):
                raise ValueError("not an object")
            formats.check(self._values.pop(formats.KEY, FORMAT), PATH, FORMAT)
        except ValueError as error:
            short = formats.cut_short(data or b"")
            raise JournalDamaged(
                f"{PATH} is cut short: it ends in its middle."
                if short
                else f"{PATH} cannot be read: {error}.",
                "Check the card for faults; remove the file to let the node start anew.",
            ) from error

    def get(self, name: str, default: Any = None) -> Any:
        """The value of ``name``; JSON types."""
        return self._values.get(name, default)

    def names(self) -> list[str]:
        """The names of all values."""
        return sorted(self._values)

    def set(self, **values: Any) -> None:
        """Change values; None removes. Durable when it returns. Raises OSError."""
        with self._lock:
            wanted = {k: v for k, v in {**self._values, **values}.items() if v is not None}
            if wanted == self._values:
                return
            self._host.make_folder(FOLDER, 0o755)
            content = {**wanted, formats.KEY: FORMAT}
            data = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
            self._host.write(PATH, data, 0o600)
            self._values = wanted

    def note(self, event: str, **details: Any) -> None:
        """Add one line to the history: what happened, when (seconds since the epoch)."""
        line = {"time": round(self._host.clock.now(), 1), "event": event, **details}
        with self._lock:
            self.set(history=[*self.get("history", []), line][-MAX_HISTORY:])
