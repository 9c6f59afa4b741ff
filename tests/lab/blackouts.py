"""The power of all boards fails at once, again and again. They come back in a drawn order, one of
them late at times; after one blackout in five there is no time server, and clocks start in 1970.

After another scenario it goes on with that one's cluster. What counts is that all is Ready again,
in the same cluster, by itself.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import asdict, dataclass

from . import checks, lan, results
from .carried import uid_of
from .cluster import Cluster
from .guest import wait
from .place import say

BLACKOUTS = 10
IN_1970 = (2, 7)  # of these
APART = 20.0  # seconds between two boards' power, at most
LATE = 120.0  # seconds, in one blackout of three, of the last board
# systemd-timesyncd keeps the time in it (systemd-timesyncd.service(8)).
KEPT_TIME = "/var/lib/systemd/timesync/clock"
SETTLED = 300.0  # seconds for what the agents still have to do once all is Ready


@dataclass
class Blackout:
    """One of them. Seconds count from the first board's power to all Ready."""

    number: int
    order: str
    clocks: str
    seconds: float


def blackouts(cluster: Cluster) -> checks.Outcome:
    """Form a cluster where there is none; then ten times off and on."""
    seed = cluster.asked.seed
    say(f"SEED={seed} plays these blackouts again")
    chance = random.Random(seed)
    if not cluster.formed:
        cluster.power_on()
    checks.until_up(cluster)
    cluster.formed = True
    uid = uid_of(cluster)
    made = [_blackout(cluster, number, chance) for number in range(1, BLACKOUTS + 1)]

    def same(cluster: Cluster) -> str:
        found = uid_of(cluster)
        checks.need(found == uid, f"kube-system has the uid {found}, and had {uid}")
        return f"kube-system has the uid {uid} as before"

    outcome = checks.perform(
        cluster,
        {"the same cluster": same},
        checks.NODE,
        checks.AGENT,
        {"nothing left to do": _nothing_to_do},
        checks.WEB,
    )
    times = sorted(one.seconds for one in made)
    measured = {
        "blackouts": str(len(made)),
        "of these with clocks that start in 1970": str(sum(one.clocks != "go on" for one in made)),
        "seed": str(seed),
        "power-on to all Ready, seconds, median": f"{statistics.median(times):.0f}",
        "power-on to all Ready, seconds, the longest": f"{times[-1]:.0f}",
    }
    rows = [asdict(one) for one in made]
    results.write(cluster, "blackouts", {"measured": measured, "checks": outcome, "table": rows})
    return outcome


def _blackout(cluster: Cluster, number: int, chance: random.Random) -> Blackout:
    order = chance.sample(cluster.guests, len(cluster.guests))
    pauses = [chance.uniform(0, APART) for _ in order[1:]] + [0.0]
    if len(order) > 1 and chance.random() < 1 / 3:
        pauses[-2] += LATE
    past = number in IN_1970
    for guest in cluster.guests:
        guest.board.dark.touch()
        if past:
            guest.board.in_1970.touch()
            guest.sudo("rm", "-f", KEPT_TIME)
    if past:
        lan.time_server(False)
    for guest in cluster.guests:
        guest.cut_power()
        guest.status = {}
    off = lambda: all(guest.last_event == "cut" for guest in cluster.guests)  # noqa: E731
    wait("the boards still have power", off, 60, 0.2)
    begin = time.time()
    for guest, pause in zip(order, pauses, strict=True):
        guest.board.dark.unlink()
        time.sleep(pause)
    checks.until_up(cluster, f"the nodes did not become Ready after blackout {number}")
    took = time.time() - begin
    if past:
        _clocks_go_on(cluster)
        for guest in cluster.guests:
            guest.board.in_1970.unlink()
        lan.time_server(True)
    names = " ".join(guest.name for guest in order)
    say(f"blackout {number} of {BLACKOUTS}: {names} back, all Ready after {took:.0f} s")
    return Blackout(number, names, "start in 1970" if past else "go on", round(took, 1))


def _clocks_go_on(cluster: Cluster) -> None:
    """No board's clock is behind the begin of its own certificate."""
    for guest in cluster.guests:
        guest.sudo(
            "sh", "-c",
            "openssl x509 -noout -startdate -in /var/lib/kubelet/pki/kubelet-client-current.pem"
            " | cut -d= -f2 | date -f - +%s | { read begin; test $(date +%s) -ge $begin; }",
        )  # fmt: skip


def _nothing_to_do(cluster: Cluster) -> str:
    def nothing() -> bool:
        checks.nothing_to_do(cluster)
        return True

    wait("nodeagent plan still has something to do", nothing, SETTLED, 5)
    return "nodeagent plan exits 0 on every node"
