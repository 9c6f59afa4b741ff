"""A stranger with many addresses opens thousands of connections; a node joins meanwhile."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from pathlib import Path

from nodeagent.serve import status_page
from nodeagent.trust import fleet_file
from tests.hostile.flood import LIMIT
from tests.hostile.section import Section
from tests.support import connect_process
from tests.support.joining import answers, ask, control_plane
from tests.support.virtual_lan import PORT, Node, eventually, ip, plugged, processor, status

COUNT, RATE = 2000, 150  # connections of each kind, and a second
SOURCES = 100  # addresses they come from
WARM = 3.0  # seconds the attack is on before the node is switched on
BOUND = 40.0  # seconds after which a node counts as kept out
PAUSE = 2.0  # seconds between tries of the node
TASKS = 128  # TasksMax= of the unit


def run(seed: int) -> Section:
    """Each kind of connection in turn, and none."""
    rows, faults = [], []
    card = fleet_file.make("home")[1]
    with tempfile.TemporaryDirectory() as folder, plugged("naconn", Path(folder), card) as lan:
        leader, attacker, worker = control_plane(lan), lan.add(), lan.add()
        leader.announce(endpoint=True, status_page=True)
        assert eventually(lambda: answers(leader, status_page.PORT)), leader.logs()
        sources = [f"10.77.0.{100 + number}" for number in range(SOURCES)]
        for source in sources:
            ip("-n", attacker.space, "addr", "add", f"{source}/24", "dev", "eth0")
        bare = 0.0
        for kind in ("", *connect_process.KINDS):
            row, wrong, took = _one(leader, attacker, worker, kind, sources, bare)
            bare = bare or took
            rows.append(row)
            faults += wrong
        total = COUNT * len(connect_process.KINDS)
    return Section(
        "Connections",
        f"{total} connections to the endpoint and the status page of a control plane, {RATE} a "
        f"second from {SOURCES} addresses, each kept open until the server ends it. A node "
        f"asks for a grant {WARM:.0f} s after they begin, and again every {PAUSE:.0f} s until it "
        "has one; the time is that of `none` times a factor. Threads and memory are the most that "
        f"the network process had; its unit allows {TASKS} and {LIMIT // 1024} MiB.",
        ("connections", "open at once", "grant after", "tries", "threads", "memory", "processor"),
        tuple(rows),
        tuple(faults),
    )


class _Watch:
    """The most threads that a process had, looked at twenty times a second."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.most, self._process, self._over = 0, process, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, status(self._process, "Threads"))

    def stop(self) -> int:
        """What it was."""
        self._over.set()
        self._thread.join(5)
        return self.most


def _one(
    leader: Node, attacker: Node, worker: Node, kind: str, sources: list[str], bare: float
) -> tuple[tuple[str, ...], list[str], float]:
    what = connect_process.KINDS[kind][0] if kind else "none"
    serving = leader.processes[-1]
    attack = None
    watch, used, began = _Watch(serving), processor(serving), time.monotonic()
    if kind:
        port = status_page.PORT if kind == "page" else PORT
        what = f"{what}, to the status page" if kind == "page" else what
        attack = attacker.start(
            "tests.support.connect_process", leader.address, str(port), kind, str(COUNT), str(RATE),
            str(attacker.host.root), *sources,
        )  # fmt: skip
        assert attack.stdout is not None
        assert attack.stdout.readline() == b"at it\n", attacker.logs()
        time.sleep(WARM)
    tries, begin = 1, time.monotonic()
    while "name" not in (said := ask(worker, "pi", leader.address)):
        if time.monotonic() - begin > BOUND:
            break
        time.sleep(PAUSE)
        tries += 1
    took = time.monotonic() - begin
    on = attack is None or attack.poll() is None
    most = "-"
    if attack is not None:
        opened, most = attack.communicate(timeout=180)[0].decode().split()
        what = f"{opened}: {what}"
    share = (processor(serving) - used) / (time.monotonic() - began)
    threads, size = watch.stop(), status(serving, "VmHWM")
    faults = []
    if "name" not in said:
        faults.append(f"connections, {what}: no grant: {said}")
    if not on:
        faults.append(f"connections, {what}: the attack was over before the grant")
    if size > LIMIT or threads > TASKS:
        faults.append(f"connections, {what}: {threads} threads, {size} KiB")
    if serving.poll() is not None:
        faults.append(f"connections, {what}: the network process ended")
    row = (
        what, most, f"{took:.1f} s" + (f" ({took / bare:.1f} times)" if bare else ""), str(tries),
        str(threads), f"{size / 1024:.0f} MiB", f"{share:.0%} of a core",
    )  # fmt: skip
    return row, faults, took
