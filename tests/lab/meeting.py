"""Two control planes of one fleet meet: the younger one's empty cluster ends, and it joins.

Nobody said how many boards there are (``expected_nodes``), and at first none hears another, so
each makes a cluster of its own. Then the LAN is whole again.
"""

from __future__ import annotations

import json
import time

from nodeagent import statefile

from . import checks, disk, lan, results
from .board import Board
from .cluster import Cluster
from .guest import Guest, wait
from .place import run_folder, say


def meeting(cluster: Cluster) -> checks.Outcome:
    """Form as many clusters as boards, join their LANs, wait for one cluster."""

    def prepare(board: Board) -> None:
        settings = run_folder() / f"{board.name}.yaml"
        lines = cluster.settings(board.index).splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("expected_nodes")]
        settings.write_text("".join(kept))
        disk.put(board.card, "nodeagent.yaml", settings)

    cluster.power_on(card=prepare)  # a board takes longer to start than this line
    lan.part(cluster.asked.nodes, True)
    bound = cluster.asked.minutes * 60
    apart = "each board did not make a cluster of its own"
    took = wait(apart, lambda: cluster.ready, bound, 1)
    leaders = checks.control_planes(cluster)
    born = {guest.name: _born(guest) for guest in leaders}
    authorities = {guest.name: _authority(guest) for guest in leaders}
    say(f"{len(leaders)} clusters after {took:.0f} s; the boards hear each other from now on")
    begin = time.time()
    for guest in cluster.guests:
        guest.status = {}
    lan.part(cluster.asked.nodes, False)
    one = lambda: len(checks.nodes(cluster)) == cluster.asked.nodes  # noqa: E731
    wait("the clusters did not become one", lambda: _tried(one), bound, 5)
    checks.until_up(cluster, "the nodes did not become Ready in it")
    healed = time.time() - begin
    leader = checks.control_plane(cluster)
    outcome = {
        "there were as many clusters as boards": (
            len(set(authorities.values())) == cluster.asked.nodes,
            f"{len(set(authorities.values()))} authorities",
        ),
        "the older one was left": (
            born[leader.name] == min(born.values()),
            f"{leader.name}; seconds of birth {born}",
        ),
        "all trust its authority": (
            {_authority(guest) for guest in cluster.guests} == {authorities[leader.name]},
            authorities[leader.name][:16],
        ),
    }
    checks.show(outcome)
    outcome |= checks.perform(cluster, checks.NODE, checks.AGENT, checks.WEB)
    measured = {
        "power-on to a cluster on each board, seconds": f"{took:.0f}",
        "the LAN whole until one cluster is Ready, seconds": f"{healed:.0f}",
    }
    results.write(cluster, "meeting", {"measured": measured, "checks": outcome})
    return outcome


def _tried(test: object) -> bool:
    assert callable(test)
    try:
        return bool(test())
    except checks.CheckFailed:
        return False


def _born(guest: Guest) -> int:
    """When this board's cluster was made, seconds since the epoch."""
    return int(json.loads(guest.sudo("cat", statefile.PATH))["born"])


def _authority(guest: Guest) -> str:
    """The hash of the cluster's CA that this board has."""
    return guest.ssh("sudo sha256sum /etc/kubernetes/pki/ca.crt").split()[0]
