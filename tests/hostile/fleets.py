"""Fleets of twelve real agents on one bridge, through what happens to fleets: one init each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from nodeagent.fleet import handoff
from tests.hostile.section import Section
from tests.support.boards import Board, Boards, Outcome, boards
from tests.support.virtual_lan import ip

NODES = 12
TEXT = """Each row is a fleet of real agents (`nodeagent run`), network processes and the broker, in
network namespaces on one bridge, from a new card to Ready: real multicast DNS, election, TLS and
grants. Doubles: the commands that the agent runs, kubeadm among them, and the Kubernetes API. A
fleet passes where `kubeadm init` was done once, everybody else joined with a grant of that
cluster's broker, and all names differ. Seconds are from the first power-on, on a machine that
may be busy with other work."""

Play = Callable[[Boards, random.Random], Outcome]


def fill(fleet: Boards, count: int = NODES, **options: object) -> list[Board]:
    """So many machines, without power."""
    return [fleet.add(NODES, **options) for _ in range(count)]  # type: ignore[arg-type]


def start(fleet: Boards, order: list[Board], pause: Callable[[], float] = lambda: 0.0) -> None:
    """Power on in this order, with pauses in seconds."""
    for board in order:
        board.power_on()
        end = time.monotonic() + pause()
        fleet.until(lambda end=end: time.monotonic() >= end, 60)  # type: ignore[misc]


def at_once(fleet: Boards, rng: random.Random) -> Outcome:
    """Everybody at the same moment."""
    start(fleet, fill(fleet))
    return fleet.form()


def in_some_order(fleet: Boards, rng: random.Random) -> Outcome:
    """One after the other, in a drawn order with drawn pauses."""
    order = fill(fleet)
    rng.shuffle(order)
    start(fleet, order, lambda: rng.expovariate(1))
    return fleet.form()


def one_name(fleet: Boards, rng: random.Random) -> Outcome:
    """All cards carry the same host name."""
    start(fleet, fill(fleet, name="raspberry"))
    return fleet.form()


def leader_last(fleet: Boards, rng: random.Random) -> Outcome:
    """The one that is pinned to lead gets power when the others have waited long."""
    workers = fill(fleet, NODES - 1, role="worker")
    leader = fleet.add(NODES, role="control-plane")
    start(fleet, workers)
    fleet.until(lambda: all(board.status["phase"] == "discovering" for board in workers), 120)
    leader.power_on()
    return fleet.form()


def rebooted(fleet: Boards, rng: random.Random) -> Outcome:
    """All lose power at a drawn moment of the formation, and once more when it is formed."""
    everybody = fill(fleet)
    start(fleet, everybody)
    moment = time.monotonic() + rng.uniform(8, 30)
    fleet.until(lambda: time.monotonic() >= moment, 60)
    again(everybody)
    fleet.form()
    again(everybody)
    return fleet.form()


def again(everybody: list[Board]) -> None:
    """Power off and on, all at once."""
    for board in everybody:
        board.power_off()
    for board in everybody:
        board.power_on()


def losing(percent: int) -> Play:
    """Every machine loses so many of all packets, TLS too."""

    def play(fleet: Boards, rng: random.Random) -> Outcome:
        everybody = fill(fleet)
        fleet.lose(percent)
        start(fleet, everybody)
        return fleet.form(900)  # ends as soon as it is formed; TLS at 40 % loss takes patience

    return play


def two_interfaces(fleet: Boards, rng: random.Random) -> Outcome:
    """Half of them on a second network too, which comes up late, as wireless does."""
    everybody = fill(fleet)
    start(fleet, everybody)
    for board in everybody[::2]:
        fleet.lan.plug(board.node, "wlan0", "br1", f"10.78.0.{10 + board.number}")
    return fleet.form()


def ipv6_alone(fleet: Boards, rng: random.Random) -> Outcome:
    """No IPv4 anywhere."""
    start(fleet, fill(fleet, four=False))
    return fleet.form()


def new_addresses(fleet: Boards, rng: random.Random) -> Outcome:
    """All workers get new addresses once they have joined; one more node joins then."""
    start(fleet, fill(fleet, NODES - 1))
    fleet.form()
    moved = [board for board in fleet.all if board.role == "worker"]
    for board in moved:
        ip("-n", board.node.space, "addr", "flush", "dev", "eth0", "scope", "global")
        board.node.address = f"10.77.0.{100 + board.number}"
        fleet.lan.give(board.node, "eth0", board.node.address)
        fleet.route(board)
    fleet.until(lambda: all(board.status["address"] == board.node.address for board in moved), 60)
    fleet.add(NODES).power_on()
    outcome = fleet.form()
    leader = next(board for board in fleet.all if board.role == "control-plane")
    heard = {candidate.address for candidate in handoff.read_heard(leader.host)[1]}
    assert {board.node.address for board in moved} <= heard, "the new addresses are not heard"
    return outcome


def no_multicast(fleet: Boards, rng: random.Random) -> Outcome:
    """The switch carries no mDNS; the leader is pinned, without ``expected_nodes`` since no vote
    could reach it, and the others are told its address."""
    fleet.add(None, role="control-plane")
    told = f"control_plane: [{fleet.all[0].node.address}]\n"
    fill(fleet, NODES - 1, role="worker", more=told)
    fleet.filter('iifname "eth0" udp dport 5353 drop')
    start(fleet, fleet.all)
    return fleet.form()


PLAYS: tuple[tuple[str, Play], ...] = (
    ("all at once", at_once),
    ("in a drawn order", in_some_order),
    ("in a drawn order", in_some_order),
    ("in a drawn order", in_some_order),
    ("one host name", one_name),
    ("control plane last", leader_last),
    ("all rebooted, twice", rebooted),
    ("5 % loss", losing(5)),
    ("20 % loss", losing(20)),
    ("40 % loss", losing(40)),
    ("wired, and late wireless", two_interfaces),
    ("IPv6 alone", ipv6_alone),
    ("new addresses", new_addresses),
    ("multicast filtered", no_multicast),
)


def run(seed: int) -> Section:
    """Play all of them, one after the other."""
    rows: list[tuple[str, ...]] = []
    faults: list[str] = []
    for number, (title, play) in enumerate(PLAYS):
        drawn = seed * 100 + number
        try:
            with boards() as fleet:
                outcome = play(fleet, random.Random(drawn))
        except AssertionError as error:
            faults.append(f"{title} (seed {drawn}): {error}")
            continue
        faults += [f"{title} (seed {drawn}): {fault}" for fault in outcome.faults]
        rows.append(
            (title, str(drawn), str(outcome.nodes), str(outcome.inits), str(outcome.joined),
             f"{outcome.seconds:.0f}")
        )  # fmt: skip
    head = ("scenario", "seed", "nodes", "inits", "joined", "seconds")
    return Section("Fleets on one bridge", TEXT, head, tuple(rows), tuple(faults))
