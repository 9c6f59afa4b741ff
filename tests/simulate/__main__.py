"""`make simulate`: many fleets, then docs/election.md. Ends with status 1 where one went wrong."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from tests.simulate import attacked_report, election_defects, election_report
from tests.simulate.growth import NODES, SEEDS, Growth, grow
from tests.simulate.plans import draw, draw_attacked
from tests.simulate.run import live
from tests.support.seeded import Verdict, green, verdict

FLEETS = 100_000
BATCH = 250
WORKERS = 2


def batch(first: int) -> list[election_report.Row]:
    """The fleets of some seeds."""
    return [election_report.row(live(draw(seed))) for seed in range(first, first + BATCH)]


def attacked_batch(first: int) -> list[attacked_report.Row]:
    """The same under attack."""
    play, seeds = attacked_report.play, range(first, first + BATCH)
    rows = [play(seed, identical=False) for seed in seeds]
    return rows + [play(s, identical=True) for s in seeds if s % attacked_report.IDENTICAL == 0]


def replay(seed: int, attacked: bool) -> int:
    """Print the life of one fleet."""
    plan = draw_attacked(seed) if attacked else draw(seed)
    out = live(plan)
    write = sys.stdout.write
    write(f"expected_nodes {plan.expected}, loss {plan.loss:.2f}, delay {plan.delay} s,"
          f" {len(plan.deaf)} deaf links, replays {plan.replays}\n"
          f"{plan.attack or 'no attack'}\n")  # fmt: skip
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
    parser.add_argument("--attacked", action="store_true", help="docs/election-attacked.md")
    args = parser.parse_args()
    if args.replay is not None:
        return replay(args.replay, args.attacked)
    began = time.monotonic()

    def tell(what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:7.0f} s  {what}\n")
        sys.stdout.flush()

    with ProcessPoolExecutor(min(WORKERS, len(os.sched_getaffinity(0)))) as pool:
        if args.attacked:
            return _attacked(pool, args.seed, args.fleets, tell)
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


def _attacked(pool: ProcessPoolExecutor, seed: int, count: int, tell: Callable[[str], None]) -> int:
    began, first = time.monotonic(), seed * 1_000_000
    rows: list[attacked_report.Row] = []
    for number, found in enumerate(pool.map(attacked_batch, range(first, first + count, BATCH))):
        rows += found
        if number % 20 == 0 or (number + 1) * BATCH >= count:
            wrong = len(attacked_report.wrong(rows))
            tell(f"{(number + 1) * BATCH} of {count} attacked fleets, {wrong} faults")
    text = attacked_report.render(rows, seed, (time.monotonic() - began) / 60)
    if count >= FLEETS:
        attacked_report.REPORT.write_text(text)
        tell(f"wrote {attacked_report.REPORT}")
    else:
        sys.stdout.write(text)
    return 1 if attacked_report.wrong(rows) else 0


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
