"""Somebody with a worker's card on the LAN of a fleet of real agents and network processes: what it
announces takes nothing from anybody (attacks a22, a23, a48, and others).

Elections under such an attacker are simulated in thousands (``tests/simulate/attack.py``); here are
the real processes, the real packets, and what is kept on the card.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from nodeagent import paths
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet import handoff
from nodeagent.fleet.votes import EPOCH_STEP
from nodeagent.statefile import StateFile
from tests.support import virtual_lan
from tests.support.boards import Board, Boards, boards_of
from tests.support.card_process import KINDS
from tests.support.virtual_lan import Node, ip

pytestmark = pytest.mark.xdist_group("lan")

INIT, JOIN = "kubeadm init done", "kubeadm join done"


class QuickBoard(Board):
    """Its keeper looks every half second."""

    agent = "tests.support.quick_pi_process"


class QuickBoards(Boards):
    """A fleet of them."""

    board = QuickBoard


@dataclass
class Place:
    """A fleet, and the attacker's machine on its LAN."""

    fleet: Boards
    attacker: Node
    addresses: tuple[str, ...]

    @property
    def key(self) -> bytes:
        """The fleet's beacon key."""
        return self.fleet.material.trust.beacon_key

    def said(self, board: Board) -> tuple[str, beacons.Beacon]:
        """What a board announces now."""
        told = handoff.read_announcement(board.host)
        assert told is not None
        return told.beacon, beacons.open_(self.key, told.beacon).beacon

    @contextmanager
    def attack(self, kind: str, victim: Board) -> Iterator[subprocess.Popen[bytes]]:
        """For as long as the block takes."""
        sealed, beacon = self.said(victim)
        process = self.attacker.start(
            "tests.support.card_process", kind, self.key.hex(), beacon.node_id, sealed,
            *self.addresses,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"at it\n", self.attacker.logs()
        yield process
        assert process.poll() is None, f"the attack was still on: {self.attacker.logs()}"
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def place_of() -> Iterator[Place]:
    """An empty fleet, and an attacker with 20 addresses."""
    with boards_of(QuickBoards) as fleet:
        attacker = fleet.lan.attach(virtual_lan.Node(fleet.lan.name, 90, fleet.folder / "attacker"))
        addresses = tuple(f"10.77.0.{120 + number}" for number in range(20))
        for address in addresses:
            ip("-n", attacker.space, "addr", "add", f"{address}/24", "dev", "eth0")
        yield Place(fleet, attacker, addresses)


@pytest.fixture(scope="module")
def formed() -> Iterator[Place]:
    """A control plane and a worker that are Ready."""
    with place_of() as place:
        for role, name in (("control-plane", "pi-1"), ("worker", "pi-2")):
            place.fleet.add(None, role=role, name=name).power_on()
        outcome = place.fleet.form(180)
        assert not outcome.faults, outcome.story
        yield place


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_plane_goes_on_whatever_a_card_announces(formed: Place, kind: str) -> None:
    leader, worker = formed.fleet.all[:2]
    before = formed.said(leader)[1]
    sources = set(formed.addresses)

    def heard() -> set[str]:
        # What is said in the control plane's own name only others take up.
        told = [one for board in (leader, worker) for one in handoff.read_heard(board.host)[1]]
        return sources.intersection(one.address for one in told)

    with formed.attack(kind, leader):
        assert formed.fleet.until(lambda: bool(heard()), 60), "nothing of it arrived"
        after = formed.said(leader)[1]
        assert formed.fleet.until(lambda: formed.said(leader)[1].seq >= after.seq + 2, 60), kind
        after = formed.said(leader)[1]
    assert len(handoff.read_heard(leader.host)[1]) <= handoff.MAX_CANDIDATES
    status = leader.status
    assert (status["phase"], status["role"], status["error"]) == ("ready", "control-plane", None)
    assert (after.epoch, after.address, after.ready) == (before.epoch, leader.node.address, True)
    assert leader.events.count(INIT) == 1 and leader.node.processes[0].poll() is None
    peers = {peer["name"]: peer for peer in status["peers"]}
    assert peers["pi-2"]["address"] == worker.node.address
    assert all(text.isprintable() for peer in peers.values() for text in map(str, peer.values()))


def test_a_newcomer_joins_and_a_leader_comes_back_under_all_of_it_at_once(formed: Place) -> None:
    leader, worker = formed.fleet.all[:2]
    with formed.attack("all", leader):
        newcomer = formed.fleet.add(None, role="worker", name="pi-3")
        newcomer.power_on()
        assert formed.fleet.until(lambda: JOIN in newcomer.events, 120), formed.fleet.story()
        leader.power_off()
        leader.power_on()
        assert formed.fleet.until(lambda: leader.status["phase"] == "ready", 120), (
            formed.fleet.story()
        )
    assert leader.role == "control-plane" and leader.events.count(INIT) == 1
    for board in (leader, worker, newcomer):
        assert (StateFile(board.host).values["epoch"] or 0) <= EPOCH_STEP


def test_one_beacon_of_the_greatest_epoch_makes_no_board_lead_alone() -> None:
    """a48: three boards led, each alone, for one beacon that was there for 30 s."""
    with place_of() as place:
        for _ in range(3):
            place.fleet.add(3).power_on()
        first = place.fleet.all[0]
        assert place.fleet.until(lambda: first.host.exists(paths.ANNOUNCE), 20)
        with place.attack("epochs", first):
            place.fleet.until(lambda: False, 8)
        place.fleet.until(lambda: False, 8)
        inits = sum(board.events.count(INIT) for board in place.fleet.all)
        assert inits <= 1, place.fleet.story()
        for board in place.fleet.all:
            assert (StateFile(board.host).values["epoch"] or 0) <= EPOCH_STEP
