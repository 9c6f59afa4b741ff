"""`docs/election.md`, out of one run's figures; nobody writes it by hand."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeagent.fleet.handoff import MAX_CANDIDATES
from nodeagent.serve.mdns.candidates import HOLD
from tests import provenance
from tests.simulate.growth import Growth
from tests.simulate.plans import SIZES
from tests.simulate.run import Outcome
from tests.support.seeded import Verdict

CHECKOUT = Path(__file__).resolve().parents[2]
REPORT = CHECKOUT / "docs" / "election.md"
Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Row:
    """What is kept of one fleet."""

    seed: int
    size: int
    expected: bool
    shut: bool  # a partition, or links that are deaf
    loss: float
    spread_out: bool  # some board was switched on more than a minute after the first
    unstable: bool
    replays: bool
    skewed: bool
    pinned: bool
    unfit: bool
    sealed: bool
    able: bool
    split: bool
    healed: bool
    reported: bool
    elected: float | None
    decided: float | None
    messages: int
    faults: tuple[str, ...]


def row(out: Outcome) -> Row:
    """The row of a fleet."""
    plan, makes = out.plan, out.plan.makes
    starts = [make.powers[0][0] for make in makes]
    return Row(
        plan.seed, len(makes), plan.expected is not None, bool(plan.partitions or plan.deaf),
        plan.loss, max(starts) - min(starts) > 60,
        any(len(make.powers) > 1 or make.fuse for make in makes), plan.replays,
        any(abs(make.rate - 1) > 0.001 for make in makes),
        any(make.pinned != "auto" for make in makes), any(not make.fitness[0] for make in makes),
        plan.sealed, plan.able and plan.enough, out.split, out.healed, out.reported, out.elected,
        out.decided, out.messages, tuple(out.faults),
    )  # fmt: skip


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson, 1927)."""
    if not total:
        return 0.0, 1.0
    share, square = hits / total, Z * Z
    middle = share + square / (2 * total)
    half = Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    below = (middle - half) / (1 + square / total) if hits else 0.0
    return below, (middle + half) / (1 + square / total)


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


SIMULATOR = """\
The simulator drives the shipped code: `fleet/election.py`, `fleet/candidacy.py` (claim and vote,
recorded in the state file), `fleet/neighbours.py` and `fleet/rivals.py`. Doubles are the network,
time, the state file's card (power is cut at its writes too), the threads and kubeadm. Two
shortcuts, both left out in every 500th fleet: beacons are handed over without their seals, and a
look is skipped where only counters moved before the date that the election asked for.

A fleet follows from its seed alone: `python -m tests.simulate --replay SEED` tells its life.
"""
PROOF = """\
None seen means at most {upper:.1e} of such fleets, at 95 %. It is an invariant, and here is why. A
node leads only with the votes of more than half of the nodes that may lead for its present claim,
its own counted. So of two leaders one node voted for both. It records a vote durably before it
tells it, and has one at a time; it gives the first up only on hearing its claimant say, with an
epoch at least as great, that it claims no more, or claims anew. The claimant recorded that before
it said so, never uses an epoch twice, and leads only while its claim stands: it does not lead with
the claim that had the vote. Time, loss, order, replay and restarts appear nowhere in this, so they
cannot break it. `tests/model` has it as a transition system, proved with z3 for any number of
nodes, and holds the code in simulated fleets to its steps.

It rests on this: no more cards may lead than `fleet new --lead-cards` says, or, where it says
nothing, than `expected_nodes`; journals are not lost while the fleet forms (a card written anew is
a new node); nobody takes a vote back by hand (`nodeagent role`) while the node voted for is alive.
It costs this: where a claimant dies for good between its
claim and its cluster, the others wait for it, and say so with the remedy.
"""
RENEWALS = """\
Each beacon is renewed every 5 s in fleets of up to 64 nodes, above that less often, up to every
20 s: 64 nodes already send 13 a second, and multicast goes over Wi-Fi at its lowest rate. The
network process has {places} places for what came in the last {hold} s, given by lot, so of more
than {rate:.0f} a second some are not heard; the simulated network does the same. A claim makes all
who hear it speak at once. For those who miss it in that it is renewed every 5 s in all fleets. A
beacon is taken for stale after 60 s. Formed nodes renew every 20 s. The processor's time is that
of the election alone on the simulating machine, without seals and mDNS.
"""


def render(
    rows: Sequence[Row],
    growth: Sequence[Growth],
    seeded: tuple[str, Sequence[Verdict]],
    seed: int,
    minutes: float,
) -> str:
    """The whole page."""
    known = [r for r in rows if r.expected]
    free = [r for r in rows if not r.expected]
    faults = [(r.seed, fault) for r in rows for fault in r.faults]
    stuck = [r.seed for r in rows if r.able and r.decided is None]
    cores, python = len(os.sched_getaffinity(0)), platform.python_version()
    sections = [
        "# The election, simulated",
        (f"Written by `make simulate SEED={seed}` at commit {provenance.named()}, in {minutes:.0f}"
        f" minutes on {cores} cores, Python {python}."),
        SIMULATOR,
        _dimensions(rows),
        "## With `expected_nodes`: never two control planes",
        table(
            ("", "fleets"),
            [
                ("fleets", f"{len(known)}"),
                ("of these with a partition or deaf links", f"{sum(r.shut for r in known)}"),
                ("of these that lose beacons", f"{sum(r.loss > 0 for r in known)}"),
                ("of these with power cuts", f"{sum(r.unstable for r in known)}"),
                ("two leading at any moment", f"{sum('beside' in f for _, f in faults)}"),
            ],
        ),
        PROOF.format(upper=wilson(0, len(known))[1]),
        "## Without: how often two, and what then",
        table(
            ("network", "power", "fleets", "splits", "share (95 %)", "healed", "both report"),
            [
                _splits(name, power, [r for r in free if pick(r) and r.unstable == cut])
                for name, pick in _NETWORKS
                for cut, power in ((False, "steady"), (True, "cuts"))
            ],
        ),
        ("Both report: the younger has nodes or workloads, so nothing is changed and both say so."
        f" Splits neither healed nor reported: {sum('neither' in f for _, f in faults)}; nodes or"
        f" workloads that lost their cluster: {sum('lost' in f for _, f in faults)}."),
        "## Whether and when it decides",
        (f"Fleets that could form a cluster and did not: {', '.join(map(str, stuck)) or 'none'}."
        " Seconds"
        " from the first power-on, in fleets that start within a minute, without power cuts,"
        " partitions or pinned roles:"),
        table(
            ("nodes", "expected_nodes", "fleets", "a node leads: p50", "p99", "beacons a node"),
            [_times(rows, span, is_set) for span in SIZES for is_set in (True, False)],
        ),
        "## As the fleet grows",
        ("Fleets that start within 30 s, lose 5 % and hear each other within 2 s; from the first"
        " power-on up to the moment a node leads. Seeds:"
        f" {', '.join(map(str, sorted({g.seed for g in growth})))}."),
        _growth(growth),
        RENEWALS.format(places=MAX_CANDIDATES, hold=HOLD, rate=MAX_CANDIDATES / HOLD),
        "## Seeded defects",
        f"On the true tree all the named tests {'FAIL: ' + seeded[0] if seeded[0] else 'pass'}.",
        table(
            ("defect", "what", "test", ""),
            [
                (v.defect.name, v.defect.what, f"`{v.defect.test.rpartition('/')[2]}`",
                 "red" if v.caught else f"NOT CAUGHT: {v.why}")
                for v in seeded[1]
            ],
        ),
        "## Faults",
        "\n".join(f"* seed {which}: {fault}" for which, fault in faults[:50]) or "None.",
    ]  # fmt: skip
    return "\n\n".join(section.strip() for section in sections) + "\n"


_NETWORKS: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("whole, loses at most 10 %", lambda r: not r.shut and r.loss <= 0.1),
    ("whole, loses 10 to 40 %", lambda r: not r.shut and r.loss > 0.1),
    ("in two parts for a while, or deaf links", lambda r: r.shut),
)


def _dimensions(rows: Sequence[Row]) -> str:
    count: Counter[str] = Counter()
    for r in rows:
        count.update(
            name
            for name in ("shut", "spread_out", "unstable", "replays", "skewed", "pinned", "unfit",
                         "sealed")
            if getattr(r, name)
        )  # fmt: skip
    sizes = ", ".join(
        f"{share:g} % have {low if low == high else f'{low} to {high}'}"
        for share, low, high in SIZES
    )
    return (
        f"{len(rows)} fleets were drawn. Nodes: {sizes}; the largest {max(r.size for r in rows)}."
        f" Of the fleets {count['shut']} have partitions or deaf links for a while,"
        f" {sum(r.loss > 0 for r in rows)} lose up to 40 % of all beacons, {count['unstable']} have"
        f" power cuts (at random instants and at the journal's writes), {count['spread_out']}"
        f" start over more than a minute, {count['replays']} have an attacker who replays what it"
        f" heard, {count['skewed']} have clocks that drift by up to 2 %, {count['pinned']} pinned"
        f" roles, {count['unfit']} boards that are too small; {count['sealed']} use real seals."
    )


def _splits(name: str, when: str, rows: Sequence[Row]) -> tuple[str, ...]:
    hits = sum(r.split for r in rows)
    low, high = wilson(hits, len(rows))
    return (
        name, when, f"{len(rows)}", f"{hits}", f"{low:.3%} to {high:.3%}",
        f"{sum(r.healed for r in rows)}", f"{sum(r.reported for r in rows)}",
    )  # fmt: skip


def _times(rows: Sequence[Row], span: tuple[float, int, int], known: bool) -> tuple[str, ...]:
    _, low, high = span
    found = [
        r for r in rows
        if low <= r.size <= high and r.expected == known and r.elected is not None
        and not (r.shut or r.spread_out or r.unstable or r.pinned)
    ]  # fmt: skip
    times = [r.elected for r in found if r.elected is not None]
    return (
        f"{low}" if low == high else f"{low} to {high}", "set" if known else "not set",
        f"{len(found)}", f"{percentile(times, 0.5):.0f}", f"{percentile(times, 0.99):.0f}",
        f"{percentile([r.messages / r.size for r in found], 0.5):.0f}",
    )  # fmt: skip


def _growth(growth: Sequence[Growth]) -> str:
    head = ("nodes", "expected_nodes", "fleets", "a node leads after", "beacons a second",
            "most in a second", "kbit/s", "CPU of one node, ms a second")  # fmt: skip
    kinds = dict.fromkeys((g.nodes, g.expected) for g in growth)
    return table(
        head,
        [_grown([g for g in growth if (g.nodes, g.expected) == kind]) for kind in kinds],
    )


def _grown(alike: Sequence[Growth]) -> tuple[str, ...]:
    """The line of the fleets of one size."""
    one, seconds = alike[0], sum(g.seconds for g in alike)
    late = sum(not g.led for g in alike)
    return (
        f"{one.nodes}", "set" if one.expected else "not set", f"{len(alike)}",
        f"{min(g.seconds for g in alike):.0f} to {max(g.seconds for g in alike):.0f} s"
        + (f"; {late} NOT UNTIL THEN" if late else ""),
        f"{sum(g.messages for g in alike) / seconds:.1f}", f"{max(g.peak for g in alike)}",
        f"{sum(g.messages * g.bytes for g in alike) / seconds * 8 / 1000:.1f}",
        f"{sum(g.cpu_ms * g.seconds for g in alike) / seconds:.2f}",
    )  # fmt: skip


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """In Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
