"""``nodeagent fleet off``: all boards of a cluster turn themselves off, workers first.

Nobody sends workers an order, since none of them listens for one. The control plane says in its
signed answer which boots are to end (``join/which_cluster.py``), and stops its API server; a worker
whose control plane is silent asks who knows more (``follow.py``), and finds its own boot there.
What is changed is in memory only: after a power cut, or when the boards get power again, the
cluster comes back as after any other loss of power.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from nodeagent.agent import conflict
from nodeagent.cluster import kubectl
from nodeagent.cluster.privilege import need_control_plane
from nodeagent.errors import CommandFailed, Refused
from nodeagent.fleet.rivals import OFF_MOST
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.reboot import power_off
from nodeagent.statefile import StateFile
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

PORT = 10250  # kubelet reference, --port; control planes have to reach it
LOOK, BOUND = 5.0, 3.0  # seconds between looks whether a board is off; for one of them
TWICE = 2  # looks in a row that have to find it so
# Seconds: a worker notices in a minute and stops its pods in a minute and a half at most (systemd's
# DefaultTimeoutStopSec). Within five the agent here would start the kubelet again.
PATIENCE = 270.0
STOP_BOUND = 120  # seconds


@dataclass(frozen=True)
class Board:
    """Another node of the cluster. ``boot``: the kernel's id of its boot, as its kubelet told."""

    name: str
    address: str
    boot: str


def others(host: Host) -> list[Board]:
    """Who will turn itself off before this board does. Raises NeedsRoot, Refused where this node
    leads no cluster or that does not answer."""
    need_control_plane(host)
    try:
        items = kubectl.get(host, "nodes")["items"]
    except CommandFailed as error:
        raise Refused(
            "The cluster does not say which boards it has.",
            "Wait until its API server answers, or type `sudo poweroff` on each board, on this one"
            " last.",
        ) from error
    own, found = Facts(host).node_name, []
    for item in items:
        addresses = {one["type"]: one["address"] for one in item["status"].get("addresses", [])}
        boot = str(item["status"].get("nodeInfo", {}).get("bootID", ""))
        if item["metadata"]["name"] != own:
            name = str(item["metadata"]["name"])
            found.append(Board(name, addresses.get("InternalIP", ""), boot))
    if len(found) > OFF_MOST:
        raise Refused(
            f"This cluster has more than {OFF_MOST} other boards.",
            "Type `sudo poweroff` on each board, on this one last.",
        )
    return sorted(found, key=lambda board: board.name)


def off(host: Host, boards: list[Board], say: Callable[[str], None]) -> None:
    """Have these boards turn themselves off, then this one; ``say`` gets a line for each. Raises
    Refused where one stays on: the cluster goes on then without those that are off; CommandFailed,
    FleetError, OSError."""
    # The network, and with it the terminal that this was typed in, may go away on the way.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    trust, node, state_file = Trust.load(host), NodeKey.load_or_create(host), StateFile(host)
    on = [board for board in boards if board.address]
    boots = tuple(board.boot for board in on)
    conflict.publish(host, state_file, trust, node.node_id, alone=None, off=boots)
    try:
        host.call("systemctl", "stop", "kubelet", timeout=STOP_BOUND)  # it starts what is stopped
        server = host.call("crictl", "ps", "-q", "--name", "^kube-apiserver$").split()
        if server:
            host.call("crictl", "stop", *server, timeout=STOP_BOUND)
        on = _wait(host, on, say)
        if on:
            named = ", ".join(board.name for board in on)
            raise Refused(
                f"{named} did not turn off within {PATIENCE:.0f} seconds, so this board stays on.",
                f"Type `sudo poweroff` there ({named}), then this command again.",
            )
    except BaseException:
        conflict.publish(host, state_file, trust, node.node_id, alone=None)
        host.run("systemctl", "start", "kubelet", timeout=STOP_BOUND)
        raise
    say("this board turns itself off")
    power_off(host)


def _wait(host: Host, on: list[Board], say: Callable[[str], None]) -> list[Board]:
    """Those that are still on in the end."""
    end = host.clock.monotonic() + PATIENCE
    silent = dict.fromkeys(on, 0)
    while silent and host.clock.monotonic() < end:
        for board in list(silent):
            silent[board] = silent[board] + 1 if _is_off(board.address) else 0
            if silent[board] >= TWICE:
                del silent[board]
                say(f"{board.name} is off")
        if silent:
            host.clock.sleep(LOOK)
    return list(silent)


def _is_off(address: str) -> bool:
    """Nobody is there. A board that refuses a connection has ended its kubelet, and still runs."""
    try:
        socket.create_connection((address, PORT), timeout=BOUND).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return False
