"""A LAN of network namespaces on one bridge, as ip-netns(8) makes it. Needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nodeagent import paths
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet import handoff
from nodeagent.fleet.handoff import Announcement
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust import store as trust
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support import namespaces

PROJECT = Path(__file__).parents[2]
PORT = 6444


def ip(*arguments: str) -> None:
    """Run ip(8); it must succeed."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


class Node:
    """One machine: a namespace with an address, a root folder, and the processes started in it."""

    trust: Trust
    key: NodeKey

    def __init__(self, lan: str, number: int, root: Path) -> None:
        self.space, self.number = f"{lan}-{number}", number
        self.address = f"10.77.0.{10 + number}"
        self.host = Host(root)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.interfaces: tuple[str, ...] = ()
        self._sequence = 0
        self.host.make_folder(paths.SERVE)
        self.host.make_folder("/run/nodeagent")

    def take(self, card: bytes) -> None:
        """Do what the agent would with a new card."""
        self.host.write(trust.CARD_FILES[0], card, 0o600)
        self.trust = trust.import_card(self.host, StateFile(self.host))
        self.key = NodeKey.load_or_create(self.host)

    def start(
        self, module: str, *arguments: str, checkout: Path = PROJECT, under: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start ``python -m module`` of ``checkout`` here; its errors go to a file in the root
        folder. ``under``: what stands before it, such as strace(1)."""
        log = self.host.path(f"/{module}.log").open("ab")
        process = subprocess.Popen(
            namespaces.inside(self.space, *under, sys.executable, "-m", module, *arguments),
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the real network process."""
        return self.start("nodeagent.serve.main", str(self.host.root))

    def announce(
        self, *, endpoint: bool = False, claim: bool = False, status_page: bool = False
    ) -> str:
        """Write what the agent would; gives the sealed beacon."""
        self._sequence += 1
        beacon = beacons.Beacon(
            node_id=self.key.node_id,
            boot=f"{self.number:08x}",
            name=f"pi-{self.number}",
            phase="discovering",
            role="auto",
            fitness=(1, 2, 8, 1),
            epoch=0,
            claim=claim,
            ready=endpoint,
            expected=0,
            address=self.address,
            port=PORT,
            seq=self._sequence,
        )
        sealed = self.seal(beacon)
        handoff.write_announcement(
            self.host,
            Announcement(self.address, self.key.node_id, sealed, PORT, endpoint, status_page,
                         interfaces=self.interfaces),
        )  # fmt: skip
        return sealed

    def seal(self, beacon: beacons.Beacon) -> str:
        """A beacon signed by this node."""
        vouched = self.trust.voucher(self.host, self.key.public)
        return beacons.seal(self.trust.beacon_key, beacon, self.key.private, vouched)

    def candidates(self) -> tuple[handoff.Candidate, ...]:
        """All that the network process tells of."""
        return handoff.read_heard(self.host)[1]

    def heard(self) -> dict[str, handoff.Candidate]:
        """What the network process tells, by the id in the sealed beacon; forged ones left out."""
        found = {}
        for candidate in self.candidates():
            try:
                opened = beacons.open_(self.trust.beacon_key, candidate.beacon)
            except Exception:
                continue
            found[opened.beacon.node_id] = candidate
        return found

    def own_heard(self) -> int | None:
        """When the node's own announcement last came back."""
        return handoff.read_heard(self.host)[0]

    def logs(self) -> str:
        """What the processes said."""
        return "".join(path.read_text() for path in sorted(self.host.root.glob("*.log")))


def status(process: subprocess.Popen[bytes], name: str) -> int:
    """A number of a process from proc_pid_status(5): ``VmRSS``, ``VmHWM`` (KiB), ``Threads``."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pid = (children.read_text().split() or [str(process.pid)])[0]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def processor(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time that a process has used (proc_pid_stat(5))."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Lan:
    """The bridge and its nodes."""

    def __init__(self, name: str, folder: Path, card: bytes) -> None:
        self.name, self._folder, self.card = name, folder, card
        self.nodes: list[Node] = []

    def add(self, card: bytes | None = None, *, four: bool = True) -> Node:
        """Plug in one more machine; ``four=False``: with IPv6 alone."""
        number = len(self.nodes) + 1
        node = Node(self.name, number, self._folder / f"node-{number}")
        node.take(card or self.card)
        return self.attach(node, four=four)

    def attach(self, node: Node, *, four: bool = True) -> Node:
        """Give a machine its namespace and its cable."""
        namespaces.add(node.space)
        self.nodes.append(node)
        if not four:
            node.address = f"fd77::{10 + node.number:x}"
        ip("-n", node.space, "link", "set", "lo", "up")
        self.plug(node, "eth0", "br0")
        return node

    def plug(self, node: Node, interface: str, bridge: str, address: str = "") -> None:
        """One more cable, from the machine to a bridge."""
        address = address or node.address
        port = f"port{node.number}" if interface == "eth0" else f"{interface}-{node.number}"
        ends = ["link", "add", interface, "netns", node.space, "type", "veth", "peer", "name", port]
        ip(*ends, "netns", self.name)
        ip("-n", self.name, "link", "set", port, "master", bridge, "up")
        ip("-n", node.space, "link", "set", interface, "up")
        self.give(node, interface, address)

    def give(self, node: Node, interface: str, address: str) -> None:
        """An address, as DHCP or a router would."""
        length = ["64", "nodad"] if ":" in address else ["24"]
        given = [f"{address}/{length[0]}", "dev", interface, *length[1:]]
        ip("-n", node.space, "addr", "add", *given)

    def unplug(self, node: Node) -> None:
        """Pull the cable."""
        ip("-n", self.name, "link", "set", f"port{node.number}", "down")


@contextmanager
def plugged(name: str, folder: Path, card: bytes) -> Iterator[Lan]:
    """A LAN that leaves nothing behind."""
    namespaces.add(name)
    lan = Lan(name, folder, card)
    try:
        for bridge in ("br0", "br1"):
            ip("-n", name, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            ip("-n", name, "link", "set", bridge, "up")
        yield lan
    finally:
        for node in lan.nodes:
            for process in node.processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
                if process.stdout is not None:
                    process.stdout.close()
            namespaces.remove(node.space)
        namespaces.remove(name)


def eventually(condition: Callable[[], object], seconds: float = 15) -> bool:
    """True as soon as the condition holds; False when time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())
