"""`docs/reliability.md`, out of one run's figures; nobody writes it by hand."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import provenance
from tests.reliability import blockdev
from tests.reliability.blocks import OPTIONS, Replayed
from tests.reliability.explore import Explored
from tests.reliability.kills import Killed
from tests.support import lossy_disk
from tests.support.seeded import Verdict

CHECKOUT = Path(__file__).resolve().parents[2]
REPORT = CHECKOUT / "docs" / "reliability.md"
LAB = CHECKOUT / "tests" / "lab" / "results" / "cuts.json"


@dataclass
class Figures:
    """What a run found."""

    seed: int
    explored: list[Explored] = field(default_factory=list)
    left: list[tuple[str, int, int, int, int]] = field(default_factory=list)  # of `roads.py`
    replayed: list[Replayed] = field(default_factory=list)
    killed: Killed = field(default_factory=Killed)
    verdicts: list[Verdict] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # what must not be; empty in a good run
    seconds: float = 0.0


def machine() -> str:
    """Where it ran."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    cpus = f"{len(os.sched_getaffinity(0))} x {names[0] if names else platform.machine()}"
    return f"{cpus}, Linux {platform.release()}, Python {platform.python_version()}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table; numbers to the right."""
    rows = [list(row) for row in rows]
    right = [all(isinstance(row[n], int | float) for row in rows) for n in range(len(heads))]
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join('---:' if r else '---' for r in right)}|"]
    return lines + [f"| {' | '.join(f'{c:,}' if isinstance(c, int) else str(c) for c in row)} |"
                    for row in rows]  # fmt: skip


def render(figures: Figures) -> str:
    """The whole page."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    good = not figures.faults
    lines = [
        "# Reliability: what interruption does to a node",
        "",
        (f"Written by `make reliability` on {today} at commit {provenance.named()}, in"
        f" {figures.seconds / 60:.0f} minutes on {machine()}. Seed {figures.seed}."),
        "",
        "**Nothing was lost, torn or left half-done, and every seeded defect was caught.**"
        if good else f"**{len(figures.faults)} faults were found; they are at the end.**",
        "",
        *_first_boot(figures.explored),
        *_roads(figures.left),
        *_blocks(figures.replayed),
        *_kills(figures.killed),
        *_lab(),
        *_defects(figures.verdicts),
    ]  # fmt: skip
    if not good:
        lines += ["## Faults", "", *(f"* {fault}" for fault in figures.faults[:200]), ""]
    return "\n".join(lines)


FIRST_BOOT = """\
The real agent goes from a new card to a Ready node in one process; commands, time and disk are
doubles. The disk loses what was not synced: each name and each content by itself, contents also
torn, and on the boot partition as FAT does. The power is cut before and after every effect (each
file call, each command); from every different disk that is left the node starts again, is cut
again before and after every effect (all unsynced lost, names without contents, nothing lost), and
starts again. Each of these starts must end Ready with the tree of the run without a cut.

Allowed to differ are: fresh keys (which must fit their certificates); history, epoch, starts and
the disk's latency in the journal; when the cluster was made, from which enrolment is counted, when
the notes on the boot partition were written, and when the control plane last vouched for its
cluster; temporary files that the next write replaces; apt's lists and pulled images. On every disk:
cmdline.txt is the old line or the new one; the fleet's keys are on the card or in safety, and
nowhere on the card once the agent goes on; `formed` is not said of files that are not there. In
every run: at most one reboot, no second `kubeadm init` without a reset, nothing formed is reset, no
file with a token is left, and the node stays the same node.
"""
SAMPLED = """\
A recovery was run from every different disk: cuts that leave the same disk are one. At {sampled}
instants more than {limit} states were legal; of these a choice by seed was followed: all lost,
nothing lost, each single thing alone lost or kept, and {chance} by chance. Threads are followed in
one order, and the real file systems are in the next sections.
"""
ROADS = """\
The same for a node that is Ready and has the intent to take another role, or to be reset, in its
journal: one cut at every instant, and a recovery from every different disk. A changed role ends
Ready again; a reset ends off, with cmdline.txt and fstab as they were before the first boot, and
the name where it forgets who it was. Nothing is forgotten in the journal before all is gone.
"""
BLOCKS = """\
The real durable write, journal, import and scrub on ext4; QEMU's `blklogwrites` notes every
request. Each prefix of the requests, and of each span between two flushes {subsets} subsets by
seed, is mounted, which replays ext4's journal, and looked at. Lost: came back, and is not there;
torn: neither the old nor the new; exposed: the fleet's keys in neither place, or any of their
bytes on the boot partition after the scrub came back. The writers below the line of the durable
ones are seeded defects. FAT is not here (`make lab-fat` has it).
"""
KILLS = """\
The real agent process, as root of a machine of its own (namespaces), gets SIGKILL when a command
begins, before it has done anything, and when it has done all of it. It is started again, as
systemd does, and must end Ready with the same tree and modes. The commands, the API server and the
key server are doubles; the node leads (joining is in the first section).
"""
DEFECTS = """\
Each patch of `tests/reliability/defects/` is applied to a copy; the named test must fail there, and
passes on a copy of the true tree.
"""


def _first_boot(explored: list[Explored]) -> list[str]:
    lines = ["## The power cut at every instant of a first boot", "", FIRST_BOOT]
    rows = [
        (e.role, e.instants, e.single, e.single_disks, e.pairs, e.pair_disks,
         sum(e.problems.values()))
        for e in explored
    ]  # fmt: skip
    lines += table(
        ("node", "instants", "states after one cut", "different disks", "pairs of cuts",
         "different disks", "divergences"), rows,
    )  # fmt: skip
    sampled = ", ".join(f"{e.sampled} ({e.role})" for e in explored)
    lines += [
        "",
        SAMPLED.format(sampled=sampled, limit=lossy_disk.LIMIT, chance=lossy_disk.LIMIT // 3),
    ]
    lines += ["Instants by what the agent was doing:", ""]
    phases = dict.fromkeys(phase for e in explored for phase in e.phases)
    lines += table(
        ("doing", *(e.role for e in explored)),
        ((phase, *(e.phases.get(phase, 0) for e in explored)) for phase in phases),
    )
    return [*lines, ""]


def _roads(left: list[tuple[str, int, int, int, int]]) -> list[str]:
    heads = ("road", "instants", "states after one cut", "recoveries", "divergences")
    title = "## The power cut at every instant of leaving a cluster"
    return [title, "", ROADS, *table(heads, left), ""]


def _blocks(replayed: list[Replayed]) -> list[str]:
    lines = ["## The power cut at every request to the disk", ""]
    lines.append(BLOCKS.format(subsets=blockdev.SUBSETS))
    for options in OPTIONS:
        rows = [
            (r.writer, r.requests, r.flushes, r.states, r.unmountable, r.torn, r.lost, r.exposed)
            for r in sorted(replayed, key=lambda r: not _good(r)) if r.options == options
        ]  # fmt: skip
        lines += [f"Mounted with `{options or 'defaults'}`:", ""]
        lines += table(
            ("writer", "requests", "flushes", "states", "not mountable", "torn", "lost",
             "exposed"), rows,
        )  # fmt: skip
        lines.append("")
    return lines


def _good(replayed: Replayed) -> bool:
    return replayed.writer.startswith(("durable", "calls"))


def _kills(killed: Killed) -> list[str]:
    heads = ("commands of the run", "kill points", "reached", "starts of the agent", "divergences")
    row = (killed.commands, killed.points, killed.reached, killed.starts, len(killed.problems))
    title = "## The agent killed before and after each command"
    return [title, "", KILLS, *table(heads, [row]), ""]


def _lab() -> list[str]:
    head = ["## Power cuts of virtual machines", ""]
    if not LAB.exists():
        return [*head, "Not run: `make lab-cuts` has left no tests/lab/results/cuts.json.", ""]
    data: dict[str, Any] = json.loads(LAB.read_text())
    measured = [f"{name}: {value}" for name, value in data["measured"].items()]
    failed = [name for name, (ok, _) in data["checks"].items() if not ok]
    heads = ("node", "number", "phase", "second", "total", "found")
    rows = [[row.get(name, "") for name in heads] for row in data["table"]]
    return [
        *head,
        f"`make lab-cuts` on {data['date']} at commit {data['commit']}, {data['machine']}:"
        " real systemd, apt, containerd and kubeadm; the machine is killed. "
        + (f"Failed checks: {', '.join(failed)}." if failed else "Every node ended Ready by"
           " itself and every check passed."),
        "",
        *(f"* {line}" for line in measured),
        "",
        *table(("node", "cut", "phase", "seconds after this power-on", "after the first",
                "fsck of the boot partition"), rows),
        "",
    ]  # fmt: skip


def _defects(verdicts: list[Verdict]) -> list[str]:
    rows = [
        (f"`{v.defect.name}`", v.defect.what, f"`{v.defect.test.removeprefix('tests/')}`",
         "red" if v.caught else "NOT CAUGHT")
        for v in verdicts
    ]  # fmt: skip
    heads = ("defect", "what", "test", "turned")
    return ["## Seeded defects", "", DEFECTS, *table(heads, rows), ""]
