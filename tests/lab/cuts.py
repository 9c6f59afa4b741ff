"""Power cuts at random instants of a whole first boot, on every node, until the cluster is Ready.

A cut kills the machine: what the guest's kernel had not sent to the card is lost, what it had is
on it. Each node has its own row of cuts. A cut waits for its stage of the road and then a random
time within it, so that the short stages are met as well as the long ones; where the node is past
the stage already, it is cut all the same.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from . import checks, disk, results
from .cluster import Cluster
from .guest import Guest, SshFailed, wait
from .place import LabError, logs, say

# A stage, and the seconds within which its cut falls: about as long as the stage takes here.
PLAN = (
    ("booting", 45), ("preparing", 10), ("preparing", 10), ("rebooting", 4),
    ("booting", 45), ("preparing", 70), ("preparing", 70), ("preparing", 70), ("preparing", 70),
    ("electing", 20), ("forming", 50), ("forming", 90), ("forming", 120), ("forming", 150),
)  # fmt: skip
STAGES = {
    "booting": 0, "preparing": 1, "rebooting": 2, "discovering": 3, "electing": 3,
    "initialising": 4, "joining": 4, "forming": 4, "ready": 5,
}  # fmt: skip
# What a cut leaves on any mounted FAT: the mark that it was not unmounted (in the boot sector, so
# that it differs from its backup, which never has it), and a count of free clusters that Linux
# writes late. systemd-fsck puts both right at the next boot (fsck.fat(8)).
EXPECTED = (
    "Dirty bit is set", "Automatically removing dirty bit", "There are differences between boot",
    "This is mostly harmless", "65:01/00", "Not automatically fixing this", "Free cluster summary",
    "Auto-correcting", "1) Remove dirty bit", "2) No action",
)  # fmt: skip


@dataclass
class Cut:
    """One power cut. ``second`` counts from that power-on; ``found`` is fsck.fat's of then."""

    node: str
    number: int
    stage: str
    phase: str
    second: float
    total: float
    detail: str
    found: str = ""


@dataclass
class Cutter:
    """Cuts one node's power as planned."""

    guest: Guest
    seed: int
    ended: threading.Event
    cuts: list[Cut] = field(default_factory=list)
    why: str = ""

    def work(self) -> None:
        """Until the plan is through."""
        chance = random.Random(f"{self.seed} {self.guest.name}")
        try:
            for number, (stage, span) in enumerate(PLAN, 1):
                self._cut(number, stage, chance.uniform(0, span))
        except (LabError, SshFailed, OSError) as why:
            self.why = str(why)

    def _cut(self, number: int, stage: str, delay: float) -> None:
        guest = self.guest
        while not self._reached(stage):
            self._pause(0.2)
        begin = time.time()
        while time.time() - begin < delay:
            self._pause(0.2)
        # A board that is just rebooting by itself has no power to cut.
        while guest.last_event != "running":
            self._pause(0.1)
        boots = guest.power_ons()
        status = dict(guest.status)
        now = time.time()
        one = Cut(
            guest.name, number, stage, status.get("phase") or "booting",
            round(now - boots[-1]["at"], 1), round(now - boots[0]["at"], 1),
            str(status.get("detail", ""))[:60],
        )  # fmt: skip
        guest.cut_power()
        self.cuts.append(one)
        say(f"cut {number} of {len(PLAN)}: {one.phase}, {one.second} s after power-on", guest.name)
        while len(guest.power_ons()) == len(boots):
            self._pause(0.2)
        guest.status = {}

    def _reached(self, stage: str) -> bool:
        if self.guest.last_event != "running":
            return False
        return STAGES.get(self.guest.phase or "booting", 0) >= STAGES[stage]

    def _pause(self, seconds: float) -> None:
        if self.ended.wait(seconds):
            raise LabError("the lab ended before its last cut")


def cuts(cluster: Cluster) -> checks.Outcome:
    """All nodes are cut again and again on their road; then all must be Ready by themselves."""
    seed = cluster.asked.seed
    say(f"SEED={seed} plays these cuts again")
    cluster.power_on()
    ended = threading.Event()
    cutters = [Cutter(guest, seed, ended) for guest in cluster.guests]
    threads = [threading.Thread(target=cutter.work, daemon=True) for cutter in cutters]
    for thread in threads:
        thread.start()
    bound = cluster.asked.minutes * 60

    def through() -> bool:
        troubles = [f"{cutter.guest.name}: {cutter.why}" for cutter in cutters if cutter.why]
        if troubles:
            raise LabError("; ".join(troubles))
        done = all(len(cutter.cuts) == len(PLAN) for cutter in cutters)
        ready = [guest.ready for guest in cluster.guests]
        return done and all(ready)

    try:
        wait("the nodes did not become Ready after the power cuts", through, bound, 1)
    finally:
        ended.set()
        made = sorted((cut for cutter in cutters for cut in cutter.cuts), key=lambda cut: cut.total)
    took = max(time.time() - float(guest.power_ons()[0]["at"]) for guest in cluster.guests)
    say(f"all nodes Ready {took:.0f} s after power-on, in spite of {len(made)} power cuts")
    checks.until_ready(cluster)
    outcome = checks.perform(
        cluster, checks.NODE, {"nothing left to do": checks.nothing_to_do}, checks.WEB
    )
    outcome |= checks.perform(cluster, {"boot partitions": lambda c: _partitions(c, made)})
    measured = {
        "power cuts": str(len(made)),
        "seed": str(seed),
        "power-on to all Ready, seconds": f"{took:.0f}",
    }
    for phase, count in Counter(cut.phase for cut in made).most_common():
        measured[f"cut while {phase}"] = str(count)
    rows = [asdict(cut) for cut in made]
    results.write(cluster, "cuts", {"measured": measured, "checks": outcome, "table": rows})
    return outcome


def _partitions(cluster: Cluster, made: list[Cut]) -> str:
    """fsck.fat of every copy made at a cut, and of every card after an orderly shutdown."""
    for cut in made:
        found = disk.check_boot(logs() / f"{cut.node}.boot-{cut.number:02}.img")
        rest = [line for line in found if not line.startswith(EXPECTED)]
        cut.found = " / ".join(rest) or "sound"
    for guest in cluster.guests:
        guest.ssh("sudo systemctl poweroff", check=False)
    off = lambda: all(guest.last_event == "off" for guest in cluster.guests)  # noqa: E731
    wait("the boards did not turn themselves off", off, 300)
    for guest in cluster.guests:
        copy = logs() / f"{guest.name}.boot-last.img"
        disk.copy_boot(guest.board.card, copy)
        found = disk.check_boot(copy)
        checks.need(not found, f"{guest.name}, after its shutdown: {' / '.join(found)}")
        lines = [event["arguments"] for event in guest.power_ons()]
        whole = all("root=" in line and "rootwait" in line for line in lines)
        checks.need(whole, f"{guest.name} was started with a command line that is not whole")
    sound = sum(cut.found == "sound" for cut in made)
    return f"{sound} of {len(made)} sound at the instant of the cut, all after the shutdown"
