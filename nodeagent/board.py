"""The board: the one place where the running agent says what it does.

Keeps the status model, writes it to ``/run/nodeagent/status.json`` when it changed, tells systemd
(STATUS=, WATCHDOG=, sd_notify(3)) and the journal. Thread-safe.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from nodeagent import status
from nodeagent.errors import NodeAgentError
from nodeagent.host.host import Host

if TYPE_CHECKING:  # the keeper has a board and no engine
    from nodeagent.engine import Progress

LOG = logging.getLogger("nodeagent")


class Board:
    """What this node is doing, for everyone who looks."""

    def __init__(self, host: Host, goes_on: dict[str, Any] | None = None) -> None:
        """``goes_on``: the status to go on from; a new one otherwise."""
        self._host = host
        self._lock = threading.RLock()
        self._status = goes_on or status.empty()
        if goes_on is None:
            now = host.clock.now()
            self._status.update(since=now, phases=[_entry("preparing", now)])
        self._status["pid"] = os.getpid()

    @property
    def phase(self) -> str:
        """The current phase."""
        return str(self._status["phase"])

    def get(self, name: str) -> Any:
        """One value of the status."""
        return self._status[name]

    def set(self, **values: Any) -> None:
        """Change values of the model and publish them where anything changed."""
        with self._lock:
            if all(self._status.get(name) == value for name, value in values.items()):
                return
            self._status.update(values)
            self._publish()

    def enter(self, phase: str, detail: str = "") -> None:
        """Enter a phase; ``detail`` says in a sentence what is being done. Clears the error."""
        with self._lock:
            changed = phase != self._status["phase"]
            if changed:
                now = self._host.clock.now()
                self._status["since"] = now
                self._status["phases"] = [*self._status["phases"], _entry(phase, now)][-100:]
            if changed or detail != self._status["detail"]:
                LOG.info("%s: %s", phase, detail or "begun")
            self.set(phase=phase, detail=detail, error=None)

    def trouble(self, error: NodeAgentError, failed: bool) -> None:
        """Show an error with its remedy; ``failed`` where it needs a person's help."""
        with self._lock:
            shown = {"code": error.code, "reason": error.reason, "remedy": error.remedy}
            if shown != self._status["error"]:
                LOG.warning("%s %s (%s)", error.reason, error.remedy, error.code)
            if failed:
                self.enter("failed", self._status["detail"])
            self.set(error=shown)

    def progress(self, progress: Progress) -> None:
        """The engine's report: which step, which action, how long it took."""
        with self._lock:
            steps = [dict(s) for s in self._status["steps"] if s["name"] != progress.step.name]
            before = next(
                (s for s in self._status["steps"] if s["name"] == progress.step.name), None
            )
            # The longest run is what the step cost; the look of a later pass costs nothing.
            seconds = max(progress.seconds, before["seconds"] if before else 0.0)
            entry = {
                "name": progress.step.name,
                "title": progress.step.title,
                "state": progress.state,
                "seconds": round(seconds, 2),
            }
            place = self._status["steps"].index(before) if before else len(steps)
            steps.insert(place, entry)
            detail = progress.step.title
            if progress.action is not None:
                detail = f"{detail}: {progress.action.show()}"
                LOG.info("%s: %s", progress.step.name, progress.action.show())
            self.set(steps=steps, detail=detail)

    def _publish(self) -> None:
        self._status["updated"] = self._host.clock.now()
        data = json.dumps(self._status, sort_keys=True).encode()
        self._host.write(status.PATH, data, 0o644)
        notify(f"STATUS={self._status['phase']}: {self._status['detail']}")


def _entry(phase: str, now: float) -> dict[str, Any]:
    return {"phase": phase, "at": round(now, 2)}


def notify(message: str) -> None:
    """Tell systemd, where it listens (sd_notify(3)); the library does nothing otherwise."""
    import systemd.daemon as daemon

    daemon.notify(message.replace("\n", " ") if message.startswith("STATUS=") else message)
