"""What a check says, and what the checks are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nodeagent.config.settings import Origin, Settings
from nodeagent.errors import NodeAgentError
from nodeagent.host.facts import Facts

if TYPE_CHECKING:
    from nodeagent.status.schema import Status

Level = Literal["pass", "warning", "failure", "unknown"]
EXIT: dict[Level, int] = {"pass": 0, "unknown": 0, "warning": 1, "failure": 2}


@dataclass(frozen=True)
class Node:
    """What is seen of one node. ``settings`` are the defaults where the files are wrong
    (``trouble``); ``status`` is the running agent's, or None; ``online``: the network may be
    asked; ``overruled`` as in ``Loaded``."""

    facts: Facts
    settings: Settings
    trouble: NodeAgentError | None
    status: Status | None
    online: bool = False
    overruled: Origin | None = None


@dataclass(frozen=True)
class Seen:
    """A check's verdict: the level, what was found in a few words, and what to do."""

    level: Level
    value: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """``look`` may raise anything; see ``examine``."""

    name: str
    group: str
    why: str
    look: Callable[[Node], Seen | None]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    group: str
    level: Level
    value: str
    why: str
    remedy: str = ""


def well(value: str) -> Seen:
    """As it should be."""
    return Seen("pass", value)


def warn(value: str, remedy: str) -> Seen:
    """It works, or will, but somebody should know."""
    return Seen("warning", value, remedy)


def fail(value: str, remedy: str) -> Seen:
    """The node cannot do its work, or is about to lose it."""
    return Seen("failure", value, remedy)


def unknown(value: str, remedy: str = "") -> Seen:
    """It could not be seen."""
    return Seen("unknown", value, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 all pass, 1 warnings, 2 failures."""
    return max((EXIT[finding.level] for finding in findings), default=0)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level, unknown ones apart."""
    found = {finding.level for finding in findings}
    order: tuple[Level, ...] = ("failure", "warning")
    return next((level for level in order if level in found), "pass")
