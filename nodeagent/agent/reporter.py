"""The one place where the running agent says what it does.

Keeps the status model, writes it to ``/run/nodeagent/status.json`` when it changed, tells systemd
(STATUS=, WATCHDOG=, sd_notify(3)), the journal, and whoever stands before the board. Thread-safe.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from nodeagent import paths
from nodeagent.agent.surfaces import Surfaces
from nodeagent.errors import Blocked, NodeAgentError, NotAdmitted
from nodeagent.host.host import Host
from nodeagent.status import events, model

if TYPE_CHECKING:  # the keeper has a board and no engine
    from nodeagent.fleet.peers import Roster
    from nodeagent.fleet.sight import Heard
    from nodeagent.host.actions import Action
    from nodeagent.status import schema
    from nodeagent.steps.engine import Progress

LOG = logging.getLogger("nodeagent")

OTHER_VERSION = "A beacon of "  # begins a note on a node of another version (fleet/beacon.py)


class Reporter:
    """What this node is doing, for everyone who looks."""

    def __init__(self, host: Host, goes_on: schema.Status | None = None) -> None:
        """``goes_on``: the status to go on from; a new one otherwise."""
        self._host = host
        self._lock = threading.RLock()
        self._status = goes_on or model.empty()
        if goes_on is None:
            now = host.clock.now()
            self._status |= {"since": now, "phases": [_entry("preparing", now)]}
        self._status["pid"] = os.getpid()
        self._surfaces = Surfaces(host, goes_on)
        self.acting: Action | None = None  # what the engine does just now
        self._trouble_in = ""  # the phase in which the newest error came up

    @property
    def phase(self) -> str:
        """The current phase."""
        return str(self._status["phase"])

    @property
    def values(self) -> schema.Status:
        """The status, to be read; ``set`` changes it."""
        return self._status

    def set(self, **values: Unpack[schema.Status]) -> None:
        """Change values of the model and publish them where anything changed."""
        with self._lock:
            if all(self._status.get(name) == value for name, value in values.items()):
                return
            self._status.update(values)
            self._publish()

    def enter(self, phase: str, detail: str = "", until: float | None = None) -> None:
        """Enter a phase; ``detail`` says in a sentence what is being done. Clears the error.

        ``until``: ``detail`` is a wait that ends by itself then (seconds since the epoch).
        """
        with self._lock:
            last = self._status["last_error"]
            # A new try in the same phase may meet it again.
            if last and not last["over"] and (phase == "ready" or phase != self._trouble_in):
                self._status["last_error"] = {**last, "over": True}
                self.milestone("over", f"Over: {last['reason']}", code=last["code"])
            waiting: schema.Waiting | None
            waiting = None if until is None else {"for": detail, "until": round(until)}
            values = self._entered(phase, detail)
            self.set(**(values | {"error": None, "waiting": waiting, "progress": None}))

    def _entered(self, phase: str, detail: str) -> schema.Status:
        """What changes with a phase; tells the journal."""
        if phase == self._status["phase"]:
            if detail != self._status["detail"]:
                LOG.info("%s: %s", phase, detail or "begun")
            return {"detail": detail}
        now = self._host.clock.now()
        self.milestone(phase, f"{phase}: {detail or 'begun'}")
        phases = [*self._status["phases"], _entry(phase, now)][-100:]
        return {"phase": phase, "detail": detail, "since": now, "phases": phases}

    def milestone(self, name: str, message: str, **fields: object) -> None:
        """Write a record of ``events.EVENTS`` into the system's journal."""
        told: dict[str, object] = {
            "phase": self._status["phase"] if name not in model.PHASES else name,
            "node": self._status["node_name"],
            "role": self._status["role"],
        }
        events.record(self._host, name, message, **(told | fields))

    def trouble(self, error: NodeAgentError, failed: bool) -> None:
        """Show an error with its remedy; ``failed`` where it needs a person's help."""
        with self._lock:
            shown: schema.Error = {
                "code": error.code,
                "reason": error.reason,
                "remedy": error.remedy,
            }
            now = self._host.clock.now()
            self.acting = None
            values: schema.Status = {"error": shown, "waiting": None, "progress": None}
            if isinstance(error, NotAdmitted):
                values["approval"] = error.shown
            if isinstance(error, Blocked):
                until = None if error.within is None else round(now + error.within)
                values["waiting"] = {"for": error.reason, "until": until}
            last = self._status["last_error"] or {"over": True}
            if last["over"] or {**last, **shown} != last:
                self.milestone("trouble", f"{error.reason} {error.remedy} ({error.code})", **shown)
                values["last_error"] = {**shown, "at": round(now, 2), "over": False}
            if self._status["phase"] != "failed":
                self._trouble_in = self._status["phase"]
            if failed:
                values |= self._entered("failed", self._status["detail"])
            self.set(**values)

    def meet(self, roster: Roster, heard: Iterable[Heard], others: Iterable[str] = ()) -> None:
        """Show what was heard of the fleet; ``roster`` is the caller's memory of it, ``others``
        tells of nodes that run another version (``Neighbours.other_versions``)."""
        clock = self._host.clock
        for peer in roster.update(heard, clock.monotonic(), clock.now()):
            words = f"{peer['name']} ({peer['address'] or 'no address'}): {peer['phase']}"
            self.milestone("peer", words, peer=peer["name"], peer_phase=peer["phase"])
        before = self._status["notes"]
        notes = [one for one in before if not one.startswith(OTHER_VERSION)] + list(others)
        for one in notes:
            if one not in before:
                LOG.warning("%s", one)
        self.set(peers=roster.peers, timeline=roster.timeline, notes=notes)

    def take_stock(self, found: schema.Status) -> None:
        """Show versions, certificates and hardware as ``inventory.take`` found them."""
        with self._lock:
            known = [one["name"] for one in self._status["hardware"]]
            for one in found.get("hardware") or []:
                if one["name"] not in known:
                    self.milestone("hardware", f"{one['name']}: {one['text']}. {one['remedy']}")
            self.set(**found)

    def installing(self, action: Action, shown: schema.Progress) -> None:
        """How far an installation is, unless it has ended meanwhile."""
        with self._lock:
            if self.acting is action:
                self.set(progress=shown)

    def pulled(self, done: int, total: int, image: str) -> None:
        """How far the images are; nothing once all are there."""
        with self._lock:
            text = image.rsplit("/", 1)[-1] or "asking the registry"
            shown: schema.Progress = {"kind": "images", "text": text, "done": done, "total": total}
            self.set(progress=shown if done < total else None)

    def progress(self, progress: Progress) -> None:
        """The engine's report: which step, which action, how long it took."""
        with self._lock:
            steps = [s for s in self._status["steps"] if s["name"] != progress.step.name]
            before = next(
                (s for s in self._status["steps"] if s["name"] == progress.step.name), None
            )
            # The longest run is what the step cost; the look of a later pass costs nothing.
            seconds = max(progress.seconds, before["seconds"] if before else 0.0)
            entry: schema.StepState = {
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
            acted = before is not None and before["state"] == "acting"
            if progress.state == "done" and acted:
                self.milestone(
                    "step",
                    f"{progress.step.title}: done in {progress.seconds:.1f} s",
                    step=progress.step.name,
                    seconds=round(progress.seconds, 1),
                )
            self.acting = progress.action if progress.state == "acting" else None
            self.set(steps=steps, detail=detail, progress=None)

    def _publish(self) -> None:
        self._status["updated"] = self._host.clock.now()
        data = json.dumps(self._status, sort_keys=True).encode()
        self._host.write(paths.STATUS, data, 0o644)
        said = f"STATUS={self._status['phase']}: {self._status['detail']}"
        self._host.notify(said.replace("\n", " "))
        self._surfaces.show(self._status)


def _entry(phase: str, now: float) -> schema.PhaseEntry:
    return {"phase": phase, "at": round(now, 2)}
