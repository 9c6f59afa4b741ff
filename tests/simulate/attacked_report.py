"""`docs/election-attacked.md`: the same fleets under an attacker who holds a card of theirs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests import provenance
from tests.simulate.attack import MOVES
from tests.simulate.election_report import CHECKOUT, percentile, table, wilson
from tests.simulate.plans import draw_attacked
from tests.simulate.run import live

REPORT = CHECKOUT / "docs" / "election-attacked.md"
IDENTICAL = 10  # of so many seeds one is played with identical cards too


@dataclass(frozen=True)
class Row:
    """What is kept of one fleet. ``calm``: the same without the attacker, None where that was not
    played: (two control planes at some moment, seconds until a node led)."""

    seed: int
    identical: bool
    expected: bool
    two: bool  # led at one moment, with ``expected_nodes``
    split: bool
    stuck: bool
    elected: float | None
    calm: tuple[bool, float | None] | None
    faults: tuple[str, ...]


def play(seed: int, identical: bool) -> Row:
    """One fleet; without ``expected_nodes`` it lives without the attacker too."""
    plan = draw_attacked(seed, identical)
    out, calm = live(plan), None
    if plan.expected is None:
        other = live(replace(plan, attack=None))
        calm = other.split, other.elected
    two = any("beside" in fault for fault in out.faults)
    stuck = plan.able and plan.enough and out.decided is None
    faults = tuple(fault for fault in out.faults if "beside" not in fault)
    return Row(seed, identical, plan.expected is not None, two, out.split, stuck, out.elected,
               calm, faults)  # fmt: skip


INTRODUCTION = """\
The fleets are those of [The election, simulated](election.md), with split cards: one, two, three or
all of their boards have a card that may lead. An attacker with a worker's card hears all, reaches
all, also where the network is in parts, and signs for up to 1,000 nodes of its own; it speaks
unsigned in anybody's name, and repeats what it heard. Its moves, one to three kinds a fleet, for 10
to 300 s: {moves}. What they are: `tests/simulate/attack.py`. Every 500th fleet uses real seals and
signatures. A fleet follows from its seed: `python -m tests.simulate --attacked --replay SEED`.
"""
AFTER = """\
Without `expected_nodes` time decides, and whoever is cut off for long leads alone, with the
attacker as without him. With identical cards his has the control-plane issuer: he makes nodes that
are vouched for, and nothing is promised (SECURITY.md, "Identical cards").
"""


def wrong(rows: Sequence[Row]) -> list[str]:
    """What must not be."""
    split = [r for r in rows if not r.identical]
    found = [f"seed {r.seed}: two lead" for r in split if r.two]
    found += [f"seed {r.seed}: no cluster" for r in split if r.stuck]
    found += [f"seed {r.seed}: {fault}" for r in split for fault in r.faults]
    with_, without = _shares(split)
    if wilson(*with_)[0] > wilson(*without)[1]:
        found.append("the attacker makes more splits than there are without him")
    return found


def _shares(rows: Sequence[Row]) -> tuple[tuple[int, int], tuple[int, int]]:
    free = [r for r in rows if r.calm is not None]
    calm = sum(r.calm[0] for r in free if r.calm)
    return (sum(r.split for r in free), len(free)), (calm, len(free))


def _share(hits: int, total: int) -> str:
    low, high = wilson(hits, total)
    return f"{hits} ({low:.3%} to {high:.3%})"


def render(rows: Sequence[Row], seed: int, minutes: float) -> str:
    """The whole page."""
    lines = []
    for identical, cards in ((False, "split, his is a worker's"), (True, "identical, his too")):
        of = [r for r in rows if r.identical == identical]
        known = [r for r in of if r.expected]
        with_, without = _shares(of)
        lines.append((cards, "set", f"{len(known)}", _share(sum(r.two for r in known), len(known)),
                      "never, `make simulate`"))  # fmt: skip
        lines.append((cards, "not set", f"{with_[1]}", _share(*with_), _share(*without)))
    free = [r for r in rows if r.calm is not None and not r.identical]
    attacked = [r.elected for r in free if r.elected is not None]
    calm = [r.calm[1] for r in free if r.calm is not None and r.calm[1] is not None]
    cores, python = len(os.sched_getaffinity(0)), platform.python_version()
    bad = wrong(rows)
    sections = [
        "# The election under attack, simulated",
        (f"Written by `make simulate-attacked SEED={seed}` at commit {provenance.named()}, in"
         f" {minutes:.0f} minutes on {cores} cores, Python {python}."),
        INTRODUCTION.format(moves=", ".join(sorted(MOVES))),
        "## How often two lead",
        table(("cards", "`expected_nodes`", "fleets", "two control planes (95 %)",
               "without the attacker"), lines),
        AFTER,
        "## How long he delays it",
        ("Seconds from the first power-on until a node leads, split cards, `expected_nodes` not"
         f" set: p50 {percentile(attacked, 0.5):.0f}, p99 {percentile(attacked, 0.99):.0f};"
         f" without him p50 {percentile(calm, 0.5):.0f}, p99 {percentile(calm, 0.99):.0f}. Split"
         " fleets that could form a cluster and did not, once he had ended:"
         f" {sum(r.stuck for r in rows if not r.identical)}."),
        "## Faults",
        "\n".join(f"* {one}" for one in bad[:50]) or "None.",
    ]  # fmt: skip
    return "\n\n".join(section.strip() for section in sections) + "\n"
