"""A fleet of real agents and network processes on one bridge, and what became of it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nodeagent import paths
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol
from nodeagent.statefile import StateFile
from nodeagent.status import model as status
from tests.support import namespaces, released, virtual_lan
from tests.support.firstboot import CARD, CMDLINE, FINGERPRINT, FRESH, NEW, Fleet
from tests.support.machine import fast_folder, put
from tests.support.pi_process import EVENTS
from tests.support.programs import Commands
from tests.support.virtual_lan import ip

REBOOT, POWEROFF = 75, 76  # how an agent ends that has asked systemd for it
VOLATILE = ("run", "proc", "sys", "dev", "tmp")
AGENT, SERVE = "tests.support.pi_process", "nodeagent.serve.main"
BROKER = "tests.support.broker_process"
BROKER_WANTED = "/etc/systemd/system/sockets.target.wants/nodeagent-broker.socket"
SETTINGS = """\
{role}{expected}timing: {{listen: 3, hold_down: 2, solo_wait: 600, network_wait: 1}}
kubernetes: {{key_fingerprint: {key}}}
containerd: {{key_fingerprint: {key}}}
"""
LOSS = """
table inet loss {{
    chain in {{
        type filter hook input priority 0
        {rule}
    }}
}}
"""


class Board:
    """One machine: a namespace on the bridge, a card that outlives the power, its processes.

    ``runs``: of which version a process of it is, by its module: a released one (``0.2.0``), or how
    it is of a made-up next one (``next_process``).
    """

    agent = AGENT  # the module of its agent
    broker: tuple[str, ...] = ()  # what its broker is told besides the root folder

    def __init__(self, plugged: virtual_lan.Lan, root: Path, fleet: Path, number: int) -> None:
        self.lan, self.host, self.fleet, self.number = plugged, Host(root), fleet, number
        self.node: virtual_lan.Node
        self.powered = False
        self.runs: dict[str, str] = {}
        self.boots = 0
        self._broker: subprocess.Popen[bytes] | None = None

    def power_on(self) -> None:
        """Firmware, kernel and systemd do their part, then the units start."""
        root = self.host.root
        for name in VOLATILE:
            shutil.rmtree(root / name, ignore_errors=True)
        self.boots += 1
        self.commands().boot(self.boots)
        put(root, {"/proc/device-tree/serial-number": f"10000000{0xAB0000 + self.number:08x}\0"})
        self.host.make_folder(paths.SERVE)
        self._start(self.agent, str(root), str(self.fleet))
        self._start(SERVE, str(root))
        self.powered, self._broker = True, None

    def commands(self) -> Commands:
        """Of the machine, as its own processes have them."""
        return Commands(self.host.root, self.fleet / "store", lambda seconds: None)

    def power_off(self) -> None:
        """All its processes are gone at once."""
        while self.node.processes:
            self.end(self.node.processes.pop())
        self.powered = False

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End one process with its children, whether it still runs or not."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()

    def start_agent(self) -> None:
        """Anew, whether it runs or not."""
        self.end(self.node.processes[0])
        self._start(self.agent, str(self.host.root), str(self.fleet))
        self.node.processes[0] = self.node.processes.pop()

    def tend(self) -> None:
        """What systemd does: a service starts again, an enabled socket starts its service."""
        ended = self.node.processes[0].poll()
        if ended == REBOOT:
            self.power_off()
            self.power_on()
        elif ended == POWEROFF:
            self.power_off()
            return
        elif ended is not None:
            self.start_agent()
        # Nobody knocks before the agent has handed its files over; 0.2.0 kept them on the card.
        ready = self.runs.get(BROKER) in released.RELEASES or self.host.exists(paths.BROKER_CONFIG)
        wanted = self.host.path(BROKER_WANTED, follow=False).is_symlink()
        over = self._broker is None or self._broker.poll() is not None
        if over and wanted and ready:
            for name in (broker_protocol.SOCKET, broker_protocol.ROOT_SOCKET):
                self.host.remove(name)
            self._broker = self._start(BROKER, str(self.host.root), *self.broker)

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        how = self.runs.get(module, "")
        if how in released.RELEASES:
            return self.node.start(module, *arguments, checkout=released.checkout(how))
        if how:
            return self.node.start("tests.net.next_process", how, module, *arguments)
        return self.node.start(module, *arguments)

    @property
    def events(self) -> list[str]:
        """What its kubeadm did."""
        return (self.host.text(EVENTS) or "").splitlines()

    @property
    def status(self) -> Any:
        """As `nodeagent status` would show it."""
        try:
            return status.parse(self.host.read(paths.STATUS) or b"")
        except ValueError:
            return status.empty()

    @property
    def role(self) -> str:
        """As decided, or empty."""
        return str(StateFile(self.host).values["role"] or "")


@dataclass(frozen=True)
class Outcome:
    """What became of a fleet."""

    nodes: int
    inits: int
    joined: int
    ready: int
    names: tuple[str, ...]
    seconds: float
    story: str

    @property
    def faults(self) -> list[str]:
        """Sentences, one for each broken promise."""
        found = []
        if self.inits != 1:
            found.append(f"kubeadm init was done {self.inits} times")
        if self.joined != self.nodes - 1 or self.ready != self.nodes:
            found.append(f"{self.joined} of {self.nodes - 1} joined, {self.ready} are Ready")
        if len(set(self.names)) != len(self.names):
            found.append(f"names are not distinct: {', '.join(sorted(self.names))}")
        return found


B = TypeVar("B", bound="Boards")


class Boards:
    """All machines of a fleet on one bridge."""

    board: type[Board] = Board

    def __init__(self, folder: Path, plugged: virtual_lan.Lan) -> None:
        self.folder, self.lan = folder, plugged
        self.material = Fleet(folder / "store")
        (folder / "apis").mkdir()
        self.all: list[Board] = []
        self._began = time.monotonic()

    def add(
        self,
        nodes: int | None,
        *,
        role: str = "",
        name: str = "",
        four: bool = True,
        more: str = "",
    ) -> Board:
        """One more machine with a new card, still without power. ``nodes``: how many it is told to
        expect; ``more``: settings lines."""
        root = self.folder / f"{len(self.all) + 1}"
        self.write_card(root, nodes, role=role, name=name, more=more)
        return self.plug(root, four)

    def write_card(
        self, root: Path, nodes: int | None, *, role: str = "", name: str = "", more: str = ""
    ) -> None:
        """A new card, in the place of one that may be there; as ``add``."""
        shutil.rmtree(root, ignore_errors=True)
        pinned = f"role: {role}\n" if role else ""
        expected = "" if nodes is None else f"expected_nodes: {nodes}\n"
        settings = SETTINGS.format(role=pinned, expected=expected, key=FINGERPRINT) + more
        card = {f"/{CARD}": self.material.card, "/boot/firmware/nodeagent.yaml": settings}
        put(root, FRESH | card | {f"/{CMDLINE}": NEW})
        if name:
            put(root, {"/etc/hostname": f"{name}\n", "/etc/hosts": f"127.0.1.1 {name}\n"})

    def plug(self, root: Path, four: bool = True) -> Board:
        """A machine with this card, which need not be a new one."""
        number = len(self.all) + 1
        board = self.board(self.lan, root, self.folder, number)
        board.node = self.lan.attach(virtual_lan.Node(self.lan.name, number, root), four=four)
        self.route(board)
        self.all.append(board)
        return board

    def route(self, board: Board) -> None:
        """Its router, and where its API server is to be found."""
        address = board.node.address
        gateway = "fd77::1" if ":" in address else f"{address.rpartition('.')[0]}.1"
        ip("-n", board.node.space, "route", "replace", "default", "via", gateway, "dev", "eth0")
        (self.folder / "apis" / address).write_text(str(board.host.root))

    def lose(self, percent: int) -> None:
        """Every machine loses so many of the packets that come in."""
        self.filter(f'iifname "eth0" numgen random mod 100 < {percent} drop')

    def filter(self, rule: str) -> None:
        """An nftables rule on what comes in from the bridge."""
        for board in self.all:
            subprocess.run(
                namespaces.inside(board.node.space, "nft", "-f", "-"),
                input=LOSS.format(rule=rule).encode(), check=True, capture_output=True,
            )  # fmt: skip

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look after the machines until the condition holds or time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for board in self.all:
                if board.powered:
                    board.tend()
            if condition():
                return True
            time.sleep(0.3)
        return False

    @property
    def formed(self) -> bool:
        """True where every machine shows itself as Ready."""
        return all(board.powered and board.status["phase"] == "ready" for board in self.all)

    def form(self, seconds: float = 240) -> Outcome:
        """Wait until the fleet is formed, and say what came of it."""
        self.until(lambda: self.formed, seconds)
        return self.outcome()

    def outcome(self) -> Outcome:
        """As it stands now."""
        events = [event for board in self.all for event in board.events]
        nodes = [path for board in self.all for path in board.host.root.glob("cluster/nodes/*")]
        workers = [path for path in nodes if path.read_text() != "leads"]
        return Outcome(
            nodes=len(self.all),
            inits=events.count("kubeadm init done"),
            joined=len(workers),
            ready=sum(board.status["phase"] == "ready" for board in self.all),
            names=tuple(path.name for path in nodes),
            seconds=time.monotonic() - self._began,
            story=self.story(),
        )

    def story(self) -> str:
        """Where each machine stands, for a person who looks for the cause."""
        return "\n".join(
            json.dumps(
                {key: board.status[key] for key in ("node_name", "phase", "detail", "error")}
            )
            + f" {board.events} {board.node.logs()[-1500:]}"
            for board in self.all
            if board.status["phase"] != "ready"
        )


@contextmanager
def boards() -> Iterator[Boards]:
    """An empty fleet, which leaves nothing behind."""
    with boards_of(Boards) as made:
        yield made


@contextmanager
def boards_of(kind: type[B]) -> Iterator[B]:
    """The same, of boards of another kind."""
    with (
        fast_folder() as folder,
        virtual_lan.plugged(f"nf{secrets.token_hex(3)}", folder, b"") as plugged,
    ):
        yield kind(folder, plugged)
