"""Others answer in the control plane's place, and more of them than there are true ones."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from nodeagent.fleet import beacon, handoff
from nodeagent.fleet.handoff import Announcement
from nodeagent.trust import fleet_file
from tests.hostile.listening import until_heard
from tests.hostile.section import Section
from tests.support import impostor_process
from tests.support.joining import ask, control_plane
from tests.support.virtual_lan import PORT, Lan, Node, ip, plugged

FEW, HUNDREDS = 24, 300  # addresses beside the true one
BOUND = 240.0  # seconds after which a node counts as kept out
# Only with the control plane's key can one come so far that these matter. One each: no share of
# addresses protects from who may lead, the bound on each answer does.
STOLEN = ("headers", "interim", "body")


class Case:
    """An attacker of one kind with some addresses, and a node that asks among them."""

    def __init__(self, lan: Lan, kind: str, count: int, number: int, other: bytes) -> None:
        self.kind, self.count = kind, count
        self.attacker = lan.add(other if kind == "stranger" else None)
        self.worker = lan.add()
        self.said: dict[str, Any] = {}
        self.took = 0.0
        self.addresses = [f"10.77.{10 * number + n // 200}.{1 + n % 200}" for n in range(count)]
        for node in (self.attacker, self.worker):
            ip("-n", node.space, "route", "add", "10.77.0.0/16", "dev", "eth0")
        commands = "".join(f"addr add {a}/32 dev eth0\n" for a in self.addresses)
        batch = self.attacker.host.path("/addresses")
        batch.write_text(commands)
        ip("-n", self.attacker.space, "-batch", str(batch))
        self.process = self.attacker.start(
            "tests.support.impostor_process", kind, str(self.attacker.host.root)
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith(b"listening"), self.attacker.logs()

    def join(self, leader: Node) -> None:
        """Ask until there is a grant."""
        name = f"pi-{self.worker.number}"
        while self.took < BOUND and "name" not in self.said:
            self.said = ask(self.worker, name, leader.address, *self.addresses)
            self.took += float(self.said["took"])

    def row(self, bare: float) -> tuple[str, ...]:
        """For the table."""
        what = impostor_process.KINDS[self.kind][0]
        return what, str(self.count), f"{self.took:.1f} s", f"{self.took / bare:.0f}"

    def faults(self) -> list[str]:
        """What must not be."""
        what = impostor_process.KINDS[self.kind][0]
        self.process.kill()
        assert self.process.stdout is not None
        if b"BELIEVED" in self.process.stdout.read():
            return [f"impostors, {what}: a node believed it"]
        return [] if "name" in self.said else [f"impostors, {what}: no grant: {self.said}"]


def run(seed: int) -> Section:
    """Each kind; those that only cost time run beside each other."""
    other = fleet_file.make("other")[1]
    card = fleet_file.make("home")[1]
    with tempfile.TemporaryDirectory() as folder, plugged("naimp", Path(folder), card) as lan:
        leader = control_plane(lan)
        first = lan.add()
        bare = float(ask(first, "pi-2", leader.address)["took"])
        kinds = [(kind, 1 if kind in STOLEN else FEW) for kind in impostor_process.KINDS]
        cases = [
            Case(lan, kind, count, number, other)
            for number, (kind, count) in enumerate([*kinds, ("silent", HUNDREDS)], 1)
        ]
        for node in (leader, first):
            ip("-n", node.space, "route", "replace", "10.77.0.0/16", "dev", "eth0")
        alone = [case for case in cases if case.kind not in STOLEN]
        for case in alone:
            case.join(leader)
        together = [
            threading.Thread(target=case.join, args=(leader,))
            for case in cases if case.kind in STOLEN
        ]  # fmt: skip
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        rows = [("none", "0", f"{bare:.1f} s", "1"), *(case.row(bare) for case in cases)]
        faults = [fault for case in cases for fault in case.faults()]
        row, wrong = _replayed(lan, leader, bare)
    return Section(
        "Impostors",
        "What a node is told of control planes is the true address and those of an attacker, in "
        "random order. The time is that of asking until there is a grant, and as a multiple of "
        "that without an attack. Nobody but the true one may be believed.",
        ("who answers", "of them", "grant after", "times"),
        (*rows, row),
        (*faults, *wrong),
    )


def _replayed(lan: Lan, leader: Node, bare: float) -> tuple[tuple[str, ...], list[str]]:
    """The leader's records are overridden all the time, and a beacon of its boot before the last,
    with an address that the attacker has now, is announced by a real network process."""
    replayer, spoofer, worker = lan.add(), lan.add(), lan.add()
    old = beacon.Beacon(
        node_id=leader.key.node_id, boot="00000000", name="pi-1", phase="ready",
        role="control-plane", fitness=(1, 2, 8, 1), epoch=0, claim=False, ready=True, expected=0,
        address=replayer.address, port=PORT, seq=10**6,
    )  # fmt: skip
    sealed = leader.seal(old)
    handoff.write_announcement(
        replayer.host,
        Announcement(replayer.address, leader.key.node_id, sealed, PORT, False, False),
    )
    replayer.serve()
    replayer.start("tests.support.impostor_process", "silent", os.fspath(replayer.host.root))
    spoofer.start("tests.support.attacker_process", spoofer.address, leader.key.node_id, "200")
    time.sleep(3)
    worker.announce()
    worker.serve()
    begin = time.monotonic()
    heard = until_heard(worker, leader, 90)
    said = ask(worker, "pi-99", replayer.address, spoofer.address, leader.address)
    took = time.monotonic() - begin
    faults = [] if heard is not None else ["replay and override: the control plane was not heard"]
    if "name" not in said:
        faults.append(f"replay and override: no grant: {said}")
    what = "an old beacon replayed, the true records overridden (with the time to hear it)"
    return (what, "2", f"{took:.1f} s", f"{took / bare:.0f}"), faults
