"""`make simulate`: many fleets, then docs/election.md. Ends with status 1 where one went wrong."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulate import defects, report
from tests.simulate.fleets import draw
from tests.simulate.growth import NODES, grow
from tests.simulate.run import live

FLEETS = 100_000
BATCH = 250
WORKERS = 2


def batch(first: int) -> list[report.Row]:
    """The fleets of some seeds."""
    return [report.row(live(draw(seed))) for seed in range(first, first + BATCH)]


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
    parser.add_argument("--replay", type=int, metavar="SEED", help="one fleet, told whole")
    args = parser.parse_args()
    if args.replay is not None:
        return replay(args.replay)
    began, rows = time.monotonic(), []
    first = args.seed * 1_000_000
    with ProcessPoolExecutor(min(WORKERS, len(os.sched_getaffinity(0)))) as pool:
        for found in pool.map(batch, range(first, first + args.fleets, BATCH)):
            rows += found
            if len(rows) % 5000 < BATCH:
                sys.stdout.write(f"{time.monotonic() - began:7.0f} s  {len(rows)} fleets,"
                                 f" {sum(len(r.faults) for r in rows)} faults\n")  # fmt: skip
                sys.stdout.flush()
        pairs = [(nodes, known) for nodes in NODES for known in (True, False)]
        growth = list(pool.map(grow, *zip(*pairs, strict=True), [args.seed] * len(pairs)))
    seeded = defects.verdicts()
    missed = [v.defect.name for v in seeded[1] if not v.caught]
    minutes = (time.monotonic() - began) / 60
    text = report.render(rows, growth, seeded, args.seed, minutes)
    if args.fleets >= FLEETS:
        report.REPORT.parent.mkdir(exist_ok=True)
        report.REPORT.write_text(text)
    else:
        sys.stdout.write(text)
    stuck = [r.seed for r in rows if r.able and r.decided is None]
    return 1 if stuck or missed or seeded[0] or any(r.faults for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
