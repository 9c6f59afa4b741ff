"""What was played in this tier, and docs/moves.md, which shows it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests import provenance

KEPT = Path(__file__).with_name("played.json")
PAGE = Path(__file__).parents[2] / "docs" / "moves.md"
TITLES = {
    "moves": "Other addresses, in any order, with the power cut in between",
    "blackouts": "All boards lose their power at once, and come back in any order",
}
HEAD = """\
# Moves and blackouts

<!-- Made of tests/cluster/played.json; a test compares the two. -->

A fleet of a control plane and a worker is formed by the agents, with the real kubeadm, etcd, API server,
controller manager and scheduler, in network namespaces; the kubelet is a double that runs static pods. Then each
run follows from its seed alone:

* **moves**: one to three times all boards, or one of them, get another address, all of them in another subnet;
  the power of any board is cut at any instant in between; at last all come back, in any order, in a third of the
  runs one of them 30 to 90 seconds late, and in a quarter one gets yet another address while it starts.
* **blackouts**: all boards have lost their power and come back in any order; in a quarter of the runs they lose it
  again while they start, and in a fifth the agents' clocks begin in 1970, without a time server.

In the end all nodes must be Ready at their last addresses and stay so, in the same cluster (the same kube-system and
CA), with every object that was in it; kubeadm must not have been at work again; no file and no ConfigMap may name an
address of before, nor may those who join be told one; every agent must be at rest, `nodeagent plan` empty, and no
clock behind (on boards whose clock began in 1970 the plan is not asked for). Anything else is a failed run.
Seconds count from the last event until all is Ready; the agents' own waits go five times as fast as on a board.

`make moves RUNS=100 SEED=1 WHAT=moves` plays more and adds a row here.
"""  # noqa: E501  Markdown


@dataclass(frozen=True)
class Row:
    """So many runs in a row; ``failed``: what was wrong, by seed. Times in seconds."""

    what: str
    date: str
    commit: str
    first: int
    runs: int
    median: float
    p99: float
    longest: float
    minutes: float
    failed: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(
        what: str, seeds: range, times: Sequence[float], faults: Mapping[int, str], took: float
    ) -> Row:
        """Of runs that are over. Raises ValueError for none."""
        ordered = sorted(times)
        return Row(
            what, datetime.now(UTC).strftime("%Y-%m-%d"), provenance.named(), seeds.start,
            len(ordered), round(statistics.median(ordered), 1),
            round(ordered[int(0.99 * (len(ordered) - 1))], 1), round(ordered[-1], 1),
            round(took / 60, 1), {str(seed): fault for seed, fault in faults.items()},
        )  # fmt: skip


def load() -> list[Row]:
    """All that was played, oldest first."""
    return [Row(**row) for row in json.loads(KEPT.read_text())] if KEPT.exists() else []


def add(row: Row) -> None:
    """Keep it, and show it."""
    rows = [*load(), row]
    KEPT.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")
    PAGE.write_text(page(rows))


def page(rows: Sequence[Row]) -> str:
    """docs/moves.md."""
    return "\n".join(_page(rows)).rstrip() + "\n"


def _page(rows: Sequence[Row]) -> Iterator[str]:
    yield HEAD
    for what, title in TITLES.items():
        played = [row for row in rows if row.what == what]
        if not played:
            continue
        runs, failed = sum(row.runs for row in played), sum(len(row.failed) for row in played)
        yield f"## {title}\n\n{runs:,} runs, {failed} failed.\n"
        yield "| date | commit | seeds | runs | failed | median | p99 | longest | minutes |"
        yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
        for row in played:
            yield (
                f"| {row.date} | {row.commit} | {row.first} to {row.first + row.runs - 1} |"
                f" {row.runs:,} | {len(row.failed)} | {row.median:g} s | {row.p99:g} s |"
                f" {row.longest:g} s | {row.minutes:.0f} |"
            )
        yield ""
        for row in played:
            yield from (f"* Seed {seed}: {_line(why)}" for seed, why in row.failed.items())
        if failed:
            yield ""


def _line(text: str) -> str:
    return " ".join(text.split())[:300].replace("<", "&lt;").replace("|", "\\|")
