"""Timelines of a run, from the nodes' journals and power supplies, into tests/lab/results/.

A span begins with the agent's line ``<phase>: ...`` in the journal and ends with the next one;
before the first line of a boot the machine is ``booting``. Power events have this machine's
clock; so have the guests by NTP at the end of a boot, but a Pi 3 has no clock of its own and is
late until then. So a line's time is the boot's end less the monotonic time between them.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
from pathlib import Path
from typing import Any

from nodeagent.config.settings import Network
from nodeagent.status.model import PHASES

from .checks import control_planes
from .cluster import Cluster
from .guest import Guest, SshFailed
from .place import REPOSITORY

FOLDER = REPOSITORY / "tests" / "lab" / "results"
FIELDS = "MESSAGE,_SOURCE_REALTIME_TIMESTAMP"
Span = tuple[str, float]  # phase, when it began


def _journal(guest: Guest) -> list[Span]:
    command = f"sudo journalctl -u nodeagent -o json --output-fields={FIELDS} --no-pager"
    entries = [json.loads(line) for line in guest.ssh(command, timeout=180).splitlines()]
    began = {entry["_BOOT_ID"]: _real(entry) - _monotonic(entry) for entry in entries}
    phases = ((_phase(entry.get("MESSAGE")), entry) for entry in entries)
    return [(p, began[one["_BOOT_ID"]] + _monotonic(one)) for p, one in phases if p in PHASES]


def _real(entry: dict[str, Any]) -> float:
    return int(entry["__REALTIME_TIMESTAMP"]) / 1e6


def _monotonic(entry: dict[str, Any]) -> float:
    return int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6


def _phase(message: Any) -> str:
    """The word before the colon; journald gives what is not text as a list of bytes."""
    return message.partition(":")[0] if isinstance(message, str) else ""


def timeline(guest: Guest) -> list[Span]:
    """Begin of each span, from the first power-on to the first time the node was ready."""
    power = [("booting", event["at"]) for event in guest.power_ons()]
    merged: list[Span] = []
    for phase, at in sorted([*power, *_journal(guest)], key=lambda span: span[1]):
        if not merged or merged[-1][0] != phase or phase == "booting":
            merged.append((phase, at))
        if phase == "ready":
            break
    return merged


def seconds(spans: list[Span]) -> dict[str, float]:
    """Seconds in each phase, in order of first appearance."""
    total: dict[str, float] = {}
    for (phase, begin), (_, end) in itertools.pairwise(spans):
        total[phase] = round(total.get(phase, 0.0) + end - begin, 1)
    return total


def machine(cluster: Cluster) -> str:
    """The machine of these numbers, in a line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    board = cluster.guests[0].board
    pis = "".join(f", {guest.name} {guest.board.machine}" for guest in cluster.pis)
    return (
        f"{model}, {os.cpu_count()} cores, {pages / 2**30:.0f} GiB; guests {board.arch} with "
        f"{board.processors} CPUs and {board.memory} MiB{pis}, QEMU 10 {board.accelerator}"
    )


def collect(cluster: Cluster) -> dict[str, Any]:
    """Everything measured of nodes that run the agent."""
    leaders = {guest.name for guest in control_planes(cluster)}
    found: dict[str, Any] = {}
    for guest in cluster.guests:
        spans = timeline(guest)
        found[guest.name] = {
            "role": "control-plane" if guest.name in leaders else "worker",
            "total": round(spans[-1][1] - spans[0][1], 1),
            "phases": seconds(spans),
            "timeline": [[phase, round(at - spans[0][1], 1)] for phase, at in spans],
            "steps": {step["title"]: step["seconds"] for step in guest.status.get("steps", [])},
        }
    return found


def of_network(cluster: Cluster, scenario: str) -> str:
    """The scenario's name, with that of the pod network where it is not the default."""
    return scenario if cluster.asked.cni == Network.cni else f"{scenario}-{cluster.asked.cni}"


def write(cluster: Cluster, scenario: str, data: dict[str, Any]) -> None:
    """``<scenario>.json``; `make guide` makes docs/results.md of all of them."""
    FOLDER.mkdir(exist_ok=True)
    whole = {
        "scenario": scenario,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(cluster),
        "mirror": cluster.asked.mirror,
        "start": cluster.asked.start,
        "commit": cluster.commit,
        "clean": cluster.clean,
        **data,
    }
    (FOLDER / f"{scenario}.json").write_text(json.dumps(whole, indent=1) + "\n")


def baseline_ratio(total: float) -> str | None:
    """This run's time as a part of the plain script's, where that was measured."""
    path = FOLDER / "baseline.json"
    if not path.exists():
        return None
    script = json.loads(path.read_text())["measured"]["power-on to all Ready, seconds"]
    return f"{total / float(script):.2f} of the plain script's {script} s"


def gather_logs(cluster: Cluster, folder: Path) -> None:
    """Journals of all nodes that still answer, beside consoles and service logs."""
    for guest in cluster.guests:
        try:
            text = guest.ssh("sudo journalctl --no-pager -o short-precise", timeout=120)
        except SshFailed as why:
            text = f"{why}\n"
        (folder / f"{guest.name}.journal").write_text(text)
