"""Fleets of real agents whose Kubernetes is real: etcd, API server, controller manager, scheduler
and kubeadm at native speed; what is a double is said in kubeadm_pi.py and kubelet_process.py.

The agents' waits go five times as fast as on a board, what Kubernetes' own programs wait for does
not. All lies in memory, so an fsync costs nothing, and a board that is powered off loses no file:
that is proved by the reliability tier.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nodeagent import paths
from nodeagent.cluster.rest import is_ready
from tests.cluster import sandbox
from tests.cluster.kubeadm_pi import RealCommands
from tests.support import namespaces
from tests.support.boards import Board, Boards, boards_of
from tests.support.virtual_lan import ip

LASTING = "namespaces,configmaps,serviceaccounts,daemonsets,deployments,services,clusterroles"
KUBELET = "tests.cluster.kubelet_process"


class RealBoard(Board):
    """One machine with a kubelet."""

    agent = "tests.cluster.kubeadm_pi"
    broker = ("api",)
    since = datetime.now(UTC)  # when the power came
    kubelet: subprocess.Popen[bytes]  # of this boot
    used = 0.0  # seconds of processor time of earlier boots

    def power_on(self, year_1970: bool = False) -> None:
        """As the base; what the agent sets in the kernel, the real kernel has too. ``year_1970``:
        the agent's clock begins there, and no time server answers."""
        if year_1970:
            self.host.write(sandbox.CLOCK, str(-time.time()).encode())
        if self.boots:
            self.link("up")
        super().power_on()
        self.since = datetime.now(UTC)
        self.inside("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        self.kubelet = self._start(KUBELET, str(self.host.root))

    def commands(self) -> RealCommands:
        """Those that start a kubelet."""
        return RealCommands(self.host.root, self.fleet)

    def power_off(self) -> None:
        """As the base: the sandboxes die with who has started them."""
        self.used = self.processor
        super().power_off()
        self.link("down")

    def link(self, state: str) -> None:
        """``up`` or ``down``: nobody answers for a board without power."""
        ip("-n", self.node.space, "link", "set", "eth0", state)
        if state == "up":
            gateway = f"{self.node.address.rpartition('.')[0]}.1"
            way = ("default", "via", gateway, "dev", "eth0")
            ip("-n", self.node.space, "route", "replace", *way)

    def switch_off(self) -> subprocess.Popen[bytes]:
        """`nodeagent fleet off --yes` on this board; it ends with POWEROFF."""
        return self._start(self.agent, str(self.host.root), str(self.fleet), "off")

    def trace(self, file: Path) -> subprocess.Popen[bytes]:
        """Record there what all kubelets tell this board's API server, until the power goes."""
        return self._start("tests.support.kubelet_trace", "watch", str(self.host.root), str(file))

    @property
    def plan(self) -> str:
        """What `nodeagent plan` says on this board, or why it says nothing."""
        words = (sys.executable, "-m", self.agent, str(self.host.root), str(self.fleet), "plan")
        done = self.inside(*words, timeout=300)
        return done.stdout.strip() or done.stderr[-1000:]

    def inside(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in its network."""
        command = namespaces.inside(self.node.space, *argv)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    def run(self, *argv: str) -> str:
        """What a program answers on this board; empty where it fails."""
        done = self.inside(*sandbox.whole(self.host.root, *argv))
        return done.stdout if done.returncode == 0 else ""

    def objects(self, *words: str) -> list[Any]:
        """What ``kubectl get`` on a control plane says; none where the API server does not."""
        conf = ("--kubeconfig", paths.ADMIN_CONF, "--request-timeout=5s")
        said = self.run("kubectl", *conf, "get", *words, "-o", "json")
        return list(json.loads(said)["items"]) if said else []

    @property
    def logs(self) -> dict[str, str]:
        """What its static pods said, each."""
        logs = self.host.path(sandbox.LOGS).glob("*")
        return {path.name: path.read_text(errors="replace") for path in logs}

    @property
    def processor(self) -> float:
        """Seconds of processor time of all its processes since it was made (proc_pid_stat(5))."""
        sessions = {str(process.pid) for process in self.node.processes}
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if fields[3] in sessions:
                ticks += sum(map(int, fields[11:15]))  # its own, and of children that have ended
        return self.used + ticks / os.sysconf("SC_CLK_TCK")


class RealBoards(Boards):
    """All machines of a fleet on one bridge; ``all`` holds a RealBoard each."""

    board = RealBoard
    all: list[RealBoard]  # type: ignore[assignment]
    moved = datetime.now(UTC)  # when the last board got another address

    @property
    def leader(self) -> RealBoard:
        """The first board with power on which somebody leads. Raises LookupError."""
        led = (one for one in self.all if one.powered and one.host.exists(paths.ADMIN_CONF))
        if (found := next(led, None)) is None:
            raise LookupError("no board leads")
        return found

    @property
    def uid(self) -> str:
        """What tells this cluster from any other: the uid of kube-system."""
        spaces = {one["metadata"]["name"]: one for one in self.leader.objects("namespaces")}
        return str(spaces["kube-system"]["metadata"]["uid"])

    @property
    def ca(self) -> list[bytes]:
        """The cluster's CA as each board has it."""
        return [board.host.read(paths.KUBERNETES_CA) or b"" for board in self.all]

    @property
    def objects(self) -> set[str]:
        """Kind, name and uid of what must never be lost."""
        return {f"{one['kind']} {one['metadata']['name']} {one['metadata']['uid']}"
                for one in self.leader.objects(LASTING, "-A")}  # fmt: skip

    @property
    def ready(self) -> dict[str, str]:
        """Each Ready node's name and address; none where the API server does not answer. What a
        kubelet said before the power came, or before anybody moved, does not count: a node that has
        lost its control plane is called Ready for 50 s more (node-monitor-grace-period)."""
        since = max([self.moved, *(board.since for board in self.all if board.powered)])
        nodes = self.leader.objects("nodes")
        fresh = [one for one in nodes if is_ready(one) and _told(one) > since]
        return {one["metadata"]["name"]: _address(one) for one in fresh}

    def renumber(self, board: RealBoard, address: str) -> None:
        """Another address, as a DHCP server gives it; powered or not."""
        ip("-n", board.node.space, "addr", "flush", "dev", "eth0", "scope", "global")
        board.node.address = address
        self.lan.give(board.node, "eth0", address)
        board.link("up")  # without it there is no route
        self.route(board)
        if board.boots and not board.powered:
            board.link("down")
        self.moved = datetime.now(UTC)

    def save(self, place: Path) -> None:
        """Cut the power of all and keep their cards, with the fleet's folder and the addresses."""
        for board in self.all:
            board.power_off()
        copy(self.folder, place)
        (place / "card").write_bytes(self.material.card)
        known = [(board.node.address, board.boots) for board in self.all]
        (place / "boards.json").write_text(json.dumps(known))


def copy(source: Path, target: Path) -> None:
    """A folder with all that is in it; zeros become holes, of which etcd's log has 128 MB."""
    subprocess.run(["cp", "-a", "--sparse=always", f"{source}/.", target], check=True)


def _told(item: Any) -> datetime:
    return next(
        datetime.fromisoformat(one["lastHeartbeatTime"])
        for one in item["status"]["conditions"]
        if one["type"] == "Ready"
    )


def _address(item: Any) -> str:
    found = {one["type"]: one["address"] for one in item["status"].get("addresses", [])}
    return str(found.get("InternalIP", ""))


@contextmanager
def fleet(saved: Path | None = None) -> Iterator[RealBoards]:
    """A fleet that leaves nothing behind: without boards, or as it was saved, without power."""
    with boards_of(RealBoards) as made:
        if saved:
            copy(saved, made.folder)
            made.material.card = (saved / "card").read_bytes()
            known = json.loads((saved / "boards.json").read_text())
            for number, (address, boots) in enumerate(known, 1):
                made.plug(made.folder / f"{number}")
                board = made.all[-1]
                board.boots = boots
                made.renumber(board, address)
        yield made


@dataclass(frozen=True)
class Story:
    """How a fleet was formed."""

    seconds: float
    processor: float
    ready: dict[str, str]
    events: list[list[str]]
    uid: str
    ca: list[bytes]
    objects: set[str]
    approved: str
    tokens: list[str]


def form(made: RealBoards, bound: float = 180) -> Story:
    """Switch all boards on and wait until the cluster is formed. Raises AssertionError."""
    began = time.monotonic()
    for board in made.all:
        board.power_on()
    assert made.until(lambda: made.formed, bound), made.story()
    seconds, processor = time.monotonic() - began, sum(one.processor for one in made.all)
    leader = made.leader
    secrets = [one["metadata"]["name"] for one in leader.objects("secrets", "-n", "kube-system")]
    return Story(
        seconds, processor, made.ready, [board.events for board in made.all],
        made.uid, made.ca, made.objects, str(leader.objects("csr")),
        [name for name in secrets if name.startswith("bootstrap-token-")],
    )  # fmt: skip
