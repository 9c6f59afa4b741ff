"""`make simulate`: many fleets, then docs/election.md. Ends with status 1 where one went wrong."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from tests.simulate import election_defects, election_report
from tests.simulate.growth import NODES, SEEDS, Growth, grow
from tests.simulate.plans import draw
from tests.simulate.run import live
from tests.support.seeded import Verdict, green, verdict

FLEETS = 100_000
BATCH = 250
WORKERS = 2


def batch(first: int) -> list[election_report.Row]:
    """The fleets of some seeds."""
    return [election_report.row(live(draw(seed))) for seed in range(first, first + BATCH)]


def replay(seed: int) -> int:
    """Print the life of one fleet."""
    plan = draw(seed)
    out = live(plan)
    write = sys.stdout.write
    write(f"expected_nodes {plan.expected}, loss {plan.loss:.2f}, delay {plan.delay} s,"
          f" {len(plan.deaf)} deaf links, replays {plan.replays}\n")  # fmt: skip
    for partition in plan.partitions:
        write(f"apart from {partition.begin:.0f} to {partition.end:.0f} s: {set(partition.one)}\n")
    for make in plan.makes:
        write(f"{make}\n")
    for moment, event in out.events:
        write(f"{moment:8.1f}  {event}\n")
    write(f"split {out.split}, healed {out.healed}, reported {out.reported},"
          f" {out.left_out} in no cluster after {out.seconds:.0f} s\n")  # fmt: skip
    for fault in out.faults:
        write(f"FAULT: {fault}\n")
    return 1 if out.faults else 0


def main() -> int:
    """All of it."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="which fleets")
    parser.add_argument("--fleets", type=int, default=FLEETS, help="fewer write no report")
    parser.add_argument("--nodes", type=int, default=NODES[-1], help="as growth; the same holds")
    parser.add_argument("--replay", type=int, metavar="SEED", help="one fleet, told whole")
    args = parser.parse_args()
    if args.replay is not None:
        return replay(args.replay)
    began = time.monotonic()

    def tell(what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:7.0f} s  {what}\n")
        sys.stdout.flush()

    with ProcessPoolExecutor(min(WORKERS, len(os.sched_getaffinity(0)))) as pool:
        rows = _fleets(pool, args.seed * 1_000_000, args.fleets, tell)
        growth = _growth(pool, args.seed, args.nodes, tell)
        seeded = _seeded(pool, tell)
    minutes = (time.monotonic() - began) / 60
    text = election_report.render(rows, growth, seeded, args.seed, minutes)
    if args.fleets >= FLEETS and args.nodes >= NODES[-1]:
        election_report.REPORT.parent.mkdir(exist_ok=True)
        election_report.REPORT.write_text(text)
        tell(f"wrote {election_report.REPORT}")
    else:
        sys.stdout.write(text)
    missed = seeded[0] or any(not v.caught for v in seeded[1])
    stuck = any(r.able and r.decided is None for r in rows)
    late = any(not g.led for g in growth)
    return 1 if stuck or late or missed or any(r.faults for r in rows) else 0


def _fleets(
    pool: ProcessPoolExecutor, first: int, count: int, tell: Callable[[str], None]
) -> list[election_report.Row]:
    rows: list[election_report.Row] = []
    for found in pool.map(batch, range(first, first + count, BATCH)):
        rows += found
        if len(rows) % 5000 < BATCH or len(rows) >= count:
            faults = sum(len(r.faults) for r in rows)
            tell(f"{len(rows)} of {count} fleets, {faults} faults")
    return rows


def _growth(
    pool: ProcessPoolExecutor, seed: int, largest: int, tell: Callable[[str], None]
) -> list[Growth]:
    """The largest first, so that neither processor is left with one alone."""
    wanted = [
        (nodes, known, seed + more)
        for nodes in reversed(NODES) if nodes <= largest
        for more in range(SEEDS)
        for known in (True, False)
    ]  # fmt: skip
    found = []
    for one in pool.map(grow, *zip(*wanted, strict=True)):
        found.append(one)
        what = f"leads after {one.seconds:.0f} s" if one.led else "DOES NOT DECIDE"
        tell(f"growth, {len(found)} of {len(wanted)}: {one.nodes} nodes, {what}")
    return sorted(found, key=lambda one: (one.nodes, not one.expected, one.seed))


def _seeded(pool: ProcessPoolExecutor, tell: Callable[[str], None]) -> tuple[str, list[Verdict]]:
    """What the named tests say of the true tree ("" where all pass), and each defect's verdict."""
    true, verdicts = pool.submit(green, election_defects.DEFECTS), []
    for one in pool.map(verdict, election_defects.DEFECTS):
        verdicts.append(one)
        tell(f"defect {one.defect.name}: {'red' if one.caught else 'NOT CAUGHT'}")
    return true.result(), verdicts


if __name__ == "__main__":
    sys.exit(main())
