"""``nodeagent fleet off``: all boards of a cluster turn themselves off, workers first.

Nobody sends workers an order, since none of them listens for one. The control plane says in its
signed answer which boots are to end (``join/which_cluster.py``), and stops its API server; a worker
whose control plane is silent asks who knows more (``follow.py``), and finds its own boot there.
What is changed is in memory only: after a power cut, or when the boards get power again, the
cluster comes back as after any other loss of power.
"""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from nodeagent.agent import conflict
from nodeagent.cluster import health, kubectl, rest
from nodeagent.cluster.privilege import need_control_plane
from nodeagent.errors import CommandFailed, Refused
from nodeagent.fleet.rivals import BOOT_ID, OFF_MOST
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.reboot import power_off
from nodeagent.statefile import StateFile
from nodeagent.trust import wire
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

PORT = 10250  # kubelet reference, --port; control planes have to reach it
LOOK, BOUND = 5.0, 3.0  # seconds between looks whether the boards are off; for one look at them
SURE = 75.0  # seconds for which all of them have to be: one that reboots comes back
# Seconds: a worker notices in a minute and stops its pods in a minute and a half at most (systemd's
# DefaultTimeoutStopSec). With SURE it is under the five minutes (``keeper.PATIENCE``) after which
# the agent here starts the kubelet again.
PATIENCE = 200.0
SILENT = (errno.ETIMEDOUT, errno.EHOSTUNREACH)
STOP_BOUND = 120  # seconds


@dataclass(frozen=True)
class Board:
    """Another node of the cluster. ``boot``: the kernel's id of its boot, as its kubelet told;
    ``away``: neither Kubernetes nor this board hears of it any more, so nobody waits for it."""

    name: str
    address: str
    boot: str
    away: bool = False


def others(host: Host) -> list[Board]:
    """Who will turn itself off before this board does. Raises NeedsRoot, Refused where this node
    leads no cluster or that does not answer, or where nobody here could see a board go off."""
    need_control_plane(host)
    try:
        items = kubectl.get(host, "nodes")["items"]
    except CommandFailed as error:
        raise Refused(
            "The cluster does not say which boards it has.",
            "Wait until its API server answers, or type `sudo poweroff` on each board, on this one"
            " last.",
        ) from error
    own = Facts(host).node_name
    items = [item for item in items if item["metadata"]["name"] != own]
    if len(items) > OFF_MOST:
        raise Refused(
            f"This cluster has more than {OFF_MOST} other boards.",
            "Type `sudo poweroff` on each board, on this one last.",
        )
    with ThreadPoolExecutor(OFF_MOST) as pool:
        return sorted(pool.map(_board, items), key=lambda board: board.name)


def _board(item: dict[str, Any]) -> Board:
    name, status = str(item["metadata"]["name"]), item.get("status", {})
    listed = status.get("addresses") or []
    address = next((one["address"] for one in listed if one["type"] == "InternalIP"), "")
    try:
        address, boot = wire.address(address), BOOT_ID(status["nodeInfo"]["bootID"])
    except (KeyError, wire.Malformed) as error:
        raise Refused(
            f"The cluster does not know where {name} is, or since when it runs.",
            f"Switch {name} off yourself, type `sudo kubectl delete node {name}`, and then this"
            " command again.",
        ) from error
    ready, answer = rest.is_ready(item), _knock(address)
    if ready and answer not in (0, errno.ECONNREFUSED):
        raise Refused(
            f"{name} is Ready and does not answer this board at {address}, port {PORT}, so nobody"
            " here would see it go off.",
            "If it was switched off just now, try again in a minute; else let this board reach it"
            " there.",
        )
    return Board(name, address, boot, away=not ready and answer != 0)


def off(host: Host, agreed: list[Board], say: Callable[[str], None]) -> None:
    """Have the other boards turn themselves off, then this one; ``say`` gets a line for each.
    ``agreed``: what ``others`` said when a person was asked. Raises as ``others``, and Refused
    where that is over, or where a board stays on: the cluster goes on then without those that are
    off; CommandFailed, FleetError, OSError."""
    boards = others(host)  # it may be an hour ago
    if {board.name for board in boards} != {board.name for board in agreed}:
        raise Refused(
            "The cluster has other boards than when you were asked.", "Type the command again."
        )
    # The network, and with it the terminal that this was typed in, may go away on the way.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # undone as with Ctrl-C
    trust, node = Trust.load(host), NodeKey.load_or_create(host)

    def ends(*boots: str) -> None:
        conflict.publish(host, StateFile(host), trust, node.node_id, alone=None, off=boots)

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):
            say(line)

    try:
        # Again with each look: the agent here writes what it knows when it starts.
        there = [board for board in boards if not board.away]
        _stop(host, there, lambda: ends(*(board.boot for board in boards)), tell)
        tell("this board turns itself off")
        power_off(host)
    except BaseException as error:
        try:
            ends()
        finally:
            host.run("systemctl", "start", "kubelet", timeout=STOP_BOUND)
        if isinstance(error, CommandFailed):
            remedy = "The API server starts again. Type the command again in some minutes."
            raise CommandFailed(error.reason, remedy) from error
        raise


def _stop(
    host: Host, boards: list[Board], order: Callable[[], None], tell: Callable[[str], None]
) -> None:
    order()
    end = host.clock.monotonic() + PATIENCE
    host.call("systemctl", "stop", "kubelet", timeout=STOP_BOUND)  # it starts what is stopped
    server = host.call("crictl", "ps", "-q", "--name", "^kube-apiserver$").split()
    if server:
        host.call("crictl", "stop", *server, timeout=STOP_BOUND)
    on, since = set(boards), None  # since when nobody is on
    with ThreadPoolExecutor(OFF_MOST) as pool:
        while boards:
            order()
            answers = pool.map(lambda board: _knock(board.address), boards)
            there = {board for board, one in zip(boards, answers, strict=True) if one not in SILENT}
            now = host.clock.monotonic()
            for board in boards:
                if (board in there) != (board in on):
                    tell(f"{board.name} is {'on again' if board in there else 'off'}")
            on = there
            if on:
                since = None
            elif since is None:
                since = now
            elif now - since >= SURE:
                return
            if on and now >= end:
                named = ", ".join(board.name for board in boards if board in on)
                raise Refused(
                    f"{named} did not turn off within {PATIENCE:.0f} seconds, so this board stays"
                    " on.",
                    f"Type `sudo poweroff` there ({named}), then this command again in a minute.",
                )
            host.clock.sleep(LOOK)


def _knock(address: str) -> int:
    """What the kubelet's port there answers, as ``health.knock``. A board that refuses a connection
    has ended its kubelet, and still runs; one that is off is SILENT."""
    return health.knock(address, PORT, BOUND)
