"""``python -m tests.bench``: what the road into a cluster costs, before and after; docs/cost.md.

Two boards, one of which leads, as in the net tier: real agents, network processes, broker, mDNS and
TLS in network namespaces; packages, kubeadm and the Kubernetes API are doubles. A released version
and this one take turns, so what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nodeagent import paths
from tests import provenance
from tests.support.boards import AGENT, BROKER, SERVE, Board, boards
from tests.support.released import RELEASES
from tests.support.virtual_lan import processor

REPORT = Path(__file__).parents[2] / "docs" / "cost.md"
BOUND = 240.0  # seconds for a board to be Ready
IDLE = 60.0  # seconds that a formed pair is looked at
ROWS = {
    "join": "worker: power-on to Ready, seconds",
    "leader agent": "agent of the control plane, MiB",
    "leader serve": "network process of the control plane, MiB",
    "leader broker": "broker, MiB",
    "worker agent": "agent of the worker, MiB",
    "worker serve": "network process of the worker, MiB",
    "processor": "processor time of agents and network processes in a minute of rest, ms",
    "beacon": "a beacon, bytes",
    "packets": "packets that the worker sends in a minute of rest",
    "bytes": "bytes that the worker sends in a minute of rest",
}
HEAD = """# What the road into a cluster costs

Written by `make bench` at commit {commit}: medians of {runs} runs each of the released {version}
and of this version, in turns on one machine. Real: agents, network processes, broker, mDNS, TLS.
Doubles: packages, kubeadm, the Kubernetes API, so seconds are no board's; the ratio is what counts.

| what | {version} | this version | ratio |
|---|---|---|---|
"""


def sent(board: Board) -> tuple[int, int]:
    """Packets and bytes that a board has sent so far."""
    shown = subprocess.run(
        ["ip", "-n", board.node.space, "-s", "-j", "link", "show", "eth0"],
        check=True, capture_output=True, timeout=10,
    ).stdout  # fmt: skip
    counted = json.loads(shown)[0]["stats64"]["tx"]
    return counted["packets"], counted["bytes"]


def resident(pid: int) -> float:
    """The memory of a process and its children, MiB (VmRSS of proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    here = sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return here / 1024 + sum(resident(int(child)) for child in children)


def measure(version: str) -> dict[str, float]:
    """One run; ``version``: a released one, or empty for this one. Raises AssertionError where no
    cluster came of it."""
    with boards() as fleet:
        leader, worker = fleet.add(1, role="control-plane"), fleet.add(2, role="worker")
        for board in fleet.all:
            board.runs = dict.fromkeys((AGENT, SERVE, BROKER), version) if version else {}
        leader.power_on()
        ready = fleet.until(lambda: str(leader.status["phase"]) == "ready", BOUND)
        assert ready, fleet.story()
        began = time.monotonic()
        worker.power_on()
        broker = 0.0

        def formed() -> bool:
            nonlocal broker  # it ends when nobody has asked it for a while
            broker = max([broker, *(resident(one.pid) for one in leader.node.processes[2:])])
            return fleet.formed

        ready = fleet.until(formed, BOUND)
        assert ready, fleet.story()
        found: dict[str, float] = {"join": time.monotonic() - began, "leader broker": broker}
        time.sleep(3)  # the keeper takes over
        processes = {
            f"{who} {what}": process
            for who, board in (("leader", leader), ("worker", worker))
            for what, process in zip(("agent", "serve"), board.node.processes[:2], strict=True)
        }
        used, (packets, octets) = sum(map(processor, processes.values())), sent(worker)
        time.sleep(IDLE)
        found["processor"] = (sum(map(processor, processes.values())) - used) * 1000
        found["packets"], found["bytes"] = (
            after - before for after, before in zip(sent(worker), (packets, octets), strict=True)
        )
        for name, process in processes.items():
            found[name] = resident(process.pid)
        announced = json.loads(worker.host.read(paths.ANNOUNCE) or b"{}")
        found["beacon"] = len(announced["beacon"])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--version", choices=tuple(RELEASES), default=next(iter(RELEASES)))
    args = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("make bench makes network namespaces; run it as root.\n")
        return 2
    runs: dict[str, list[dict[str, float]]] = {args.version: [], "": []}
    for number in range(args.runs):
        for version, measured in runs.items():
            measured.append(measure(version))
            said = ", ".join(f"{name} {value:.1f}" for name, value in measured[-1].items())
            sys.stdout.write(f"{number + 1} {version or 'this version'}: {said}\n")
            sys.stdout.flush()
    text = HEAD.format(commit=provenance.named(), runs=args.runs, version=args.version)
    for name, words in ROWS.items():
        old, new = (statistics.median(run[name] for run in measured) for measured in runs.values())
        text += f"| {words} | {old:.1f} | {new:.1f} | {new / old:.2f} |\n"
    REPORT.write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
