"""docs/results.md, and what may be quoted of the lab's records (tests/lab/results/*.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from tests.guide.pages import words

FOLDER = Path(__file__).parents[1] / "lab" / "results"
MADE = "<!-- Made of tests/lab/results/*.json by `make guide`; a test compares the two. -->\n"

# What was played, by the beginning of a record's name.
PLAYED = {
    "baseline": "The same cards without the agent: a plain script types the commands in a row.",
    "blackouts": "The power of all boards fails at once, ten times in a row; after two of these no"
    " time server answers and the clocks start in 1970.",
    "brought": "The pod network's manifest on the cards, its hash in the settings.",
    "carried": "All boards turned off, carried to a network with other addresses, turned on in any"
    " order; before that, the same where they are.",
    "carried-plain": "The same with a cluster that a plain script made by kubeadm.",
    "census": "The raw cards of a formed cluster, searched for the fleet's keys.",
    "cloudinit": "Settings through user-data on one board and vendor-data on the other; a reboot,"
    " a worker without cloud-init, and `cloud-init clean`.",
    "cuts": "The power cut at random instants from the first boot to Ready.",
    "default": "Cards in, power on, wait.",
    "fat": "What is on a FAT partition when a write returns: the agent's write, and the usual one.",
    "meeting": "Two boards that cannot hear each other lead; then they can.",
    "people": "A person approves a worker, revokes it, and lets it in again.",
    "powercut": "The power cut once while dpkg works and once during `kubeadm init`.",
    "reboot": "All boards of a formed cluster restarted at once.",
    "rerole": "The lead moves to the other board, with a power cut in between; a worker forgets its"
    " fleet.",
    "reset": "`nodeagent reset` on a worker, which then joins again.",
    "start-baked": "Boards from baked images, without access to any archive.",
    "start-baked-arm64-raspi3b": "The same; the worker is QEMU's Raspberry Pi 3: its device tree,"
    " its SD controller, four processors, 926 MiB, Ethernet on USB.",
    "start-mixed": "One board from a baked image without access to any archive, one from a seeded"
    " stock image.",
    "trouble": "One board on which everything is wrong, one thing after the other.",
    "upgrade": "Newer packages of the agent in every phase; removed, installed again, purged.",
}
# What a reader of today has to know of an old record.
NOTES = {
    ("trouble", "9180e5e"): "Since then a mirror that does not answer has a code of its own,"
    " [E105](errors.md#e105); at this commit it was E100.",
}


@dataclass(frozen=True)
class Record:
    """One run of one scenario, as it was written down."""

    name: str
    data: dict[str, Any]

    @property
    def commit(self) -> str:
        """In hexadecimal; empty where none was written down."""
        return str(self.data.get("commit", "")).removesuffix("-dirty")

    @property
    def clean(self) -> bool:
        """The run was of exactly that commit."""
        marked = str(self.data.get("commit", "")).endswith("-dirty")  # records before the key
        return bool(self.commit) and self.data.get("clean", not marked) is True

    @property
    def failed(self) -> list[str]:
        """The checks that failed."""
        return [name for name, (passed, _) in self.data.get("checks", {}).items() if not passed]

    @property
    def figures(self) -> set[str]:
        """Every number that stands in it; fractions also rounded to whole ones."""
        return set(_figures(self.data))


def _figures(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _figures(inner)
    elif isinstance(value, float):
        yield from (f"{value:g}", f"{value:.0f}")
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield from numbers(str(value))


def numbers(text: str) -> list[str]:
    """The numbers in a text as they are written, without thousands separators."""
    return re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", text.replace(",", ""))


def load() -> dict[str, Record]:
    """All records by name."""
    return {
        p.stem: Record(p.stem, json.loads(p.read_text())) for p in sorted(FOLDER.glob("*.json"))
    }


def page() -> str:
    """docs/results.md."""
    return "\n".join(_page(list(load().values()))).rstrip() + "\n"


def _page(records: list[Record]) -> Iterator[str]:
    yield f"# Lab results\n\n{MADE}"
    yield words(
        "Virtual Raspberry Pis in QEMU: real systemd, cloud-init, apt, containerd, kubeadm, etcd"
        ' and API server. "tcg" in the line about the machine means emulation in software, so the'
        " seconds compare runs on one machine and say little about a physical Pi, which has not"
        " been measured yet. Each record is the newest run of its scenario, with its commit and"
        " every check that failed. A record of a checkout with changes that were not committed is"
        ' marked "changed" and must not be quoted elsewhere. `make lab` and `make lab-NAME` run'
        " the scenarios; [Tests](../tests/README.md) has more."
    )
    yield "\n| record | date | commit | checks passed | failed |\n|---|---|---|---:|---|"
    for record in records:
        passed = len(record.data["checks"]) - len(record.failed)
        failed = ", ".join(record.failed) or "none"
        at = f"{record.data['date']} | {_tree(record)}"
        yield f"| [{record.name}](#{record.name}) | {at} | {passed} | {failed} |"
    for record in records:
        yield from _section(record)


def _tree(record: Record) -> str:
    return f"`{record.commit}`" + ("" if record.clean else ", changed")


def _section(record: Record) -> Iterator[str]:
    data = record.data
    played = max((name for name in PLAYED if record.name.startswith(name)), key=len)
    yield f"\n## {record.name}\n\n" + words(PLAYED[played]) + "\n"
    yield words(
        f"{data['date']}, commit {_tree(record)}, {data['machine']}; mirror {data['mirror']}."
    )
    if note := NOTES.get((record.name, record.commit)):
        yield "\n" + words(note)
    if nodes := data.get("nodes"):
        yield "\n" + "\n".join(_nodes(nodes))
    if rows := data.get("table"):
        yield "\n" + "\n".join(_table([list(rows[0])] + [list(row.values()) for row in rows]))
    yield ""
    yield from (f"* {name}: {value}" for name, value in data.get("measured", {}).items())
    for name, (passed, seen) in data["checks"].items():
        verdict, longest = ("pass", 120) if passed else ("**FAIL**", 400)
        yield f"* {verdict}: {name}: {_short(seen, longest)}"


def _short(text: str, longest: int) -> str:
    return shorten(text, longest, placeholder=" …").replace("<", "&lt;")


def _nodes(nodes: dict[str, Any]) -> Iterator[str]:
    """Seconds in each phase, then in each step of the last boot that took a second or more."""
    heads = ["seconds", *(f"{name} ({node['role']})" for name, node in nodes.items())]
    phases = dict.fromkeys(phase for node in nodes.values() for phase in node["phases"])
    rows = [[p, *(f"{n['phases'].get(p, 0):.0f}" for n in nodes.values())] for p in phases]
    rows.append(["**power-on to Ready**", *(f"**{n['total']:.0f}**" for n in nodes.values())])
    steps = dict.fromkeys(
        step for n in nodes.values() for step, took in n["steps"].items() if took >= 1
    )
    rows += [
        [f"step: {step}", *(f"{n['steps'].get(step, 0):.1f}" for n in nodes.values())]
        for step in steps
    ]
    return _table([heads, *rows])


def _table(rows: list[list[Any]]) -> Iterator[str]:
    cells = [[str(cell).replace("_", " ").replace("|", "\\|") for cell in rows[0]]]
    cells += [
        [str(cell).replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows[1:]
    ]
    yield f"| {' | '.join(cells[0])} |"
    yield "|" + "---|" * len(cells[0])
    yield from (f"| {' | '.join(row)} |" for row in cells[1:])
