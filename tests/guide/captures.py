"""What people see in a terminal, made by the code that shows it, of a fleet that is a double: the
board tells its story as the agent would, at times that never change."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from nodeagent import doctor, paths, steps
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import health
from nodeagent.errors import FetchFailed
from nodeagent.fleet.beacon import Beacon
from nodeagent.fleet.peers import Roster
from nodeagent.fleet.sight import Heard
from nodeagent.host.host import Clock
from nodeagent.join.approval import APPROVAL, code, not_admitted
from nodeagent.status import eventlog, events, model, schema
from nodeagent.status import text as statustext
from nodeagent.steps.engine import Progress
from tests.guide.pages import MADE, words
from tests.support.machine import NOW, Machine, laid_out

CASE = Path(__file__).parents[1] / "unit" / "doctor" / "troubled.yaml"
FOLDER = "pictures"  # below docs/
# Made by tests/net/test_browser.py.
PICTURES = {
    "leading-phone.png": "The control plane's page on a phone",
    "leading-laptop.png": "The same on a laptop",
    "failed-phone.png": "A board that is stuck, on a phone",
}
WAITING = "n-k4q7w2mz5x3c6v7b"


class Node:
    """A double of a board, its clock, and the journal that its milestones go to."""

    def __init__(self, folder: Path, name: str) -> None:
        self.machine = Machine(folder)
        self.machine.clock = Clock(now=lambda: self.now, monotonic=lambda: self.now - NOW)
        self.now = NOW
        self.reporter = Reporter(self.machine)
        self.reporter.set(node_name=name, fleet="home", address="192.168.1.40")
        self.journal: list[dict[str, Any]] = []

    def after(self, seconds: float) -> Reporter:
        """The board, so many seconds later."""
        self.now += seconds
        return self.reporter

    def record(self, host: Machine, name: str, message: str, /, **fields: object) -> None:
        """Stands for journald."""
        self.journal.append({
            "MESSAGE_ID": events.EVENTS[name].message_id, "MESSAGE": message,
            "__REALTIME_TIMESTAMP": str(int(self.now * 1e6)),
        })  # fmt: skip

    def shown(self) -> str:
        """`nodeagent status`, ten seconds later."""
        current = model.parse(self.machine.read(paths.STATUS) or b"")
        return statustext.render(current, self.now + 10)


@contextmanager
def node(name: str) -> Iterator[Node]:
    """One that writes to a folder for a while, and has no systemd."""
    with tempfile.TemporaryDirectory() as folder:
        found = Node(Path(folder), name)
        with mock.patch.object(events, "record", found.record):
            yield found


def peer(number: int, phase: str) -> Heard:
    """What another node says."""
    said = Beacon(
        node_id=f"n-{'a' * 15}{number}", boot="00112233", name=f"pi-4f2a1{number}", phase=phase,
        role="worker", fitness=(1,), epoch=0, claim=False, ready=False, expected=4,
        address=f"192.168.1.{40 + number}", port=6444, seq=1,
    )  # fmt: skip
    return Heard(said, 0.0, 0.0)


def prepared(one: Node, until: str) -> None:
    """Steps up to the named one, as the engine reports them."""
    for step in steps.SEQUENCE:
        done = step.name != until
        one.reporter.progress(Progress(step, None, "done" if done else "acting", 0.4))
        if not done:
            return


def preparing() -> str:
    """While packages are installed."""
    with node("pi-0a1b2c") as one:
        prepared(one, "packages")
        shown: schema.Progress = {
            "kind": "packages",
            "text": "unpacking kubelet",
            "done": 5,
            "total": 12,
        }
        one.after(75).set(progress=shown)
        return one.shown()


def stuck() -> str:
    """Where a mirror cannot be reached."""
    with node("pi-0a1b2c") as one:
        error = FetchFailed(
            "https://pkgs.k8s.io cannot be reached: no route to host.",
            "Check the cable or Wi-Fi and the router; it is tried again by itself.",
        )
        one.after(40).trouble(error, failed=True)
        return one.shown()


def waits() -> str:
    """A board that waits for a person."""
    with node("pi-4f2a13") as one:
        one.reporter.set(node_id=WAITING, address="192.168.1.43")
        one.after(60).enter("joining", "Asking for a grant")
        one.after(5).trouble(not_admitted(APPROVAL, WAITING, "192.168.1.40"), failed=False)
        return one.shown()


def lead(one: Node) -> None:
    """The life of a control plane up to Ready, with another board that waits."""
    board, fleet = one.reporter, Roster()
    one.after(70).enter("rebooting", "The kernel's memory cgroup is enabled at the next boot")
    one.after(30).enter("discovering", "Listening for the others")
    board.meet(fleet, [peer(1, "preparing"), peer(2, "discovering")])
    one.after(10).enter("electing", "Waiting whether another node objects")
    one.after(5).enter("initialising", "kubeadm init")
    board.set(role="control-plane", role_why="It is the best board, and nobody objected.")
    one.after(150).milestone("initialised", "The control plane is made")
    one.after(10).enter("ready", "Part of the cluster")
    board.set(control_plane="192.168.1.40", kubernetes="1.37.2", peers=fleet.peers)
    for number, phase, seconds in ((1, "joining", 5), (1, "ready", 40), (2, "joining", 5)):
        one.now += seconds
        now = one.machine.clock.monotonic()
        board.meet(fleet, [Heard(peer(number, phase).beacon, now, now)])
    board.set(approvals=[{
        "id": code(WAITING), "name": "pi-4f2a13", "address": "192.168.1.43",
        "since": int(one.now) - 30,
    }])  # fmt: skip


def leading() -> str:
    """The control plane of a fleet in approve mode."""
    with node("pi-0a1b2c") as one:
        lead(one)
        return one.shown()


def milestones() -> str:
    """`nodeagent events` there."""
    with node("pi-0a1b2c") as one:
        lead(one)
        text = "\n".join(json.dumps(entry) for entry in one.journal)
        return "\n".join(eventlog.as_text(list(eventlog.parse(text))))


def examined() -> str:
    """`nodeagent doctor` on a board with several faults."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(health, "kubelet_healthy", lambda: False),
        mock.patch.object(health, "answers", lambda *_: False),
        mock.patch.object(Machine, "space", lambda *_: (20_000_000_000, 28_000_000_000)),
    ):
        findings = doctor.examine(laid_out(yaml.safe_load(CASE.read_text()), Path(folder)), False)
        return "\n".join(line for _, line in doctor.as_text(findings))


def page() -> str:
    """All of them."""
    with utc():
        parts = [
            ("A board that is being prepared", "nodeagent status", preparing()),
            ("A board that is stuck", "nodeagent status", stuck()),
            ("A board that waits for a person", "nodeagent status", waits()),
            ("The control plane, while the fleet forms", "nodeagent status", leading()),
            ("How it came there", "sudo nodeagent events", milestones()),
            ("A board with several faults", "sudo nodeagent doctor", examined()),
        ]
    head = words(
        "What the commands print, made by the same code as on a node; the boards are doubles in "
        "the tests, with times that never change. The pictures are of the status page in a real "
        "browser: `make test` takes them, and `make guide` puts the newest here."
    )
    seen = "".join(
        f"\n## {title}\n\n![{title}](../{FOLDER}/{n})\n" for n, title in PICTURES.items()
    )
    shown = (f"\n## {title}\n\n```\n$ {line}\n{text.rstrip()}\n```" for title, line, text in parts)
    return f"# What it looks like\n\n{MADE}\n{head}\n" + "\n".join(shown) + f"\n{seen}"


@contextmanager
def utc() -> Iterator[None]:
    """Local time is UTC for a while (tzset(3))."""
    with mock.patch.dict(os.environ, {"TZ": "UTC"}):
        time.tzset()
        yield
    time.tzset()
