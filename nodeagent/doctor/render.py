"""Findings as text of at most 80 columns, in plain ASCII, and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from nodeagent.doctor.finding import Finding, Level, worst
from nodeagent.trust import wire

WIDTH = 80
MARKS: dict[Level, str] = {"pass": "ok", "warning": "warn", "failure": "FAIL", "unknown": "?"}
NAME = 19  # columns of a check's name
VERSION = 1


def as_text(findings: Sequence[Finding], verbose: bool = False) -> Iterator[tuple[Level, str]]:
    """Lines with the level that they belong to (``pass`` where none does). Why it matters and
    what to do stand below what is not well; ``verbose``: why below everything."""
    group = ""
    for one in findings:
        if one.group != group:
            if group:
                yield "pass", ""
            group = one.group
            yield "pass", group
        head = f"  {MARKS[one.level]:<4}  {one.name:<{NAME}} "
        for line in _wrapped(one.value or "-", head, " " * len(head)):
            yield one.level, line
        below = " " * 8
        if (one.level != "pass" or verbose) and one.why and one.value != "needs root":
            for line in _wrapped(one.why, below, below):
                yield "pass", line
        if one.remedy and one.value != "needs root":
            for line in _wrapped(f"do: {one.remedy}", below, below + "    "):
                yield "pass", line
    yield "pass", ""
    for line in _wrapped(summary(findings), "", ""):
        yield worst(findings), line


def summary(findings: Sequence[Finding]) -> str:
    """How many of each, in a sentence."""
    counts = {level: sum(one.level == level for one in findings) for level in MARKS}
    words = [f"{counts['pass']} well"]
    for level, word in (("warning", "warning"), ("failure", "failure")):
        words.append(f"{counts[level]} {word}{'s' if counts[level] != 1 else ''}")  # type: ignore[index]
    if counts["unknown"]:
        words.append(f"{counts['unknown']} unknown")
    hidden = any(one.value == "needs root" for one in findings)
    return ", ".join(words) + (". Run `sudo nodeagent doctor` to see all." if hidden else ".")


def _wrapped(text: str, first: str, others: str) -> list[str]:
    """Plain lines: what a file or a device said may hold anything."""
    plain = wire.printable(" ".join(text.split())).encode("ascii", "backslashreplace").decode()
    room = WIDTH - max(len(first), len(others))
    pieces = [word[at : at + room] for word in plain.split() for at in range(0, len(word), room)]
    lines = textwrap.wrap(
        " ".join(pieces),
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
    )
    return lines or [first.rstrip()]


def as_json(findings: Sequence[Finding], node: str, now: float) -> str:
    """The report for scripts; the schema is in the package's docstring."""
    report = {
        "version": VERSION,
        "node": node,
        "time": round(now, 1),
        "level": worst(findings),
        "findings": [asdict(one) for one in findings],
    }
    return json.dumps(report, indent=2)
