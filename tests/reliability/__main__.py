"""`make reliability`: all of it, then the report. Ends with status 1 where anything is wrong."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.reliability import (
    blocks,
    board_defects,
    durability_defects,
    explore,
    kills,
    report,
    roads,
)
from tests.support import seeded, untouched
from tests.support.firstboot import ROLES, Fleet
from tests.support.machine import fast_folder

BEGUN = time.monotonic()


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{time.monotonic() - BEGUN:7.1f}  {text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(prog="make reliability", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    if os.geteuid() != 0:
        sys.stderr.write("make reliability mounts file systems; run it as root.\n")
        return 2
    workers = len(os.sched_getaffinity(0))
    figures, machine = report.Figures(seed), untouched.look()
    _explore(figures, workers)
    _leave(figures)
    _replay(figures)
    _kill(figures, workers)
    _seed(figures)
    figures.faults += untouched.changed(machine, untouched.look())
    figures.seconds = time.monotonic() - BEGUN
    report.REPORT.parent.mkdir(exist_ok=True)
    report.REPORT.write_text(report.render(figures))
    for fault in figures.faults[:40]:
        say(f"FAULT: {fault}")
    say(f"{len(figures.faults)} faults; {report.REPORT.relative_to(report.CHECKOUT)} is written")
    return 1 if figures.faults else 0


def _explore(figures: report.Figures, workers: int) -> None:
    for role in ROLES:
        one = explore.explore(role, figures.seed, workers)
        say(f"{role}: {one.single} states after one cut, {one.pairs} pairs of cuts,"
            f" {sum(one.problems.values())} divergences, {one.seconds:.0f} s")  # fmt: skip
        figures.explored.append(one)
        figures.faults += [
            f"first boot, {role}, {times} times: {what}" for what, times in one.problems.items()
        ]
        figures.faults += [f"no double of `{command}`" for command in sorted(one.unknown)]


def _leave(figures: report.Figures) -> None:
    for name in roads.ROADS:
        with fast_folder() as base:
            fleet = Fleet(base / "store")
            found, runs = roads.quick(name, figures.seed, 0, fleet, base / "card")
        divergences = len(found.problems)
        say(f"{name}: {found.states} states after one cut, {divergences} divergences")
        figures.left.append((name, found.instants, found.states, runs, divergences))
        figures.faults += [f"{name}: {what}" for what in found.problems]
        figures.faults += [f"no double of `{command}`" for command in sorted(found.unknown)]


def _replay(figures: report.Figures) -> None:
    figures.replayed = blocks.replay_apart(figures.seed)
    for one in figures.replayed:
        where = f"{one.writer} on {one.options or 'defaults'}"
        say(f"{where}: {one.states} states, {one.torn} torn, {one.lost} lost, {one.seconds:.0f} s")
        seeded = blocks.WRITERS.get(one.writer) is not None
        if seeded and not one.faults:
            figures.faults.append(f"blocks: the seeded writer `{where}` was not caught")
        elif not seeded:
            figures.faults += [f"blocks, {where}: {problem}" for problem in one.problems]


def _kill(figures: report.Figures, workers: int) -> None:
    figures.killed = killed = kills.kill_everywhere(workers)
    say(f"kills: {killed.reached} of {killed.points} points reached,"
        f" {len(killed.problems)} divergences, {killed.seconds:.0f} s")  # fmt: skip
    figures.faults += [f"kills: {problem}" for problem in killed.problems]


def _seed(figures: report.Figures) -> None:
    defects = (*durability_defects.DEFECTS, *board_defects.DEFECTS)
    said = seeded.green(defects)
    if said:
        figures.faults.append(f"the named tests fail on the true tree: {said}")
    for defect in defects:
        verdict = seeded.verdict(defect)
        say(f"defect {defect.name}: {'red' if verdict.caught else 'NOT CAUGHT'}")
        figures.verdicts.append(verdict)
        if not verdict.caught:
            figures.faults.append(f"defect {defect.name} was not caught: {verdict.why}")


if __name__ == "__main__":
    sys.exit(main())
