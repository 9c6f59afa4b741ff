"""The settings as data: keys, defaults and limits out of config.py, words out of the commented
example for the boot partition."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodeagent.config import checks
from nodeagent.config import settings as config

EXAMPLE = Path(__file__).parents[2] / "firmware" / "nodeagent.yaml"


@dataclass(frozen=True)
class Key:
    """``name``: dotted; ``right``: what may be written."""

    name: str
    default: str
    right: str


@dataclass(frozen=True)
class Group:
    """Keys that the example explains together."""

    keys: tuple[Key, ...]
    words: str


def groups() -> list[Group]:
    """In the order of the example. Fails where it and config.py know other keys."""
    table = dict(_keys(config.Settings, ""))
    found = list(_groups(EXAMPLE.read_text().splitlines(), table))
    told = [key.name for group in found for key in group.keys]
    assert sorted(told) == sorted(table), set(told) ^ set(table)
    return found


def _groups(lines: list[str], table: dict[str, Key]) -> Iterator[Group]:
    section, words, names = "", list[str](), list[str]()
    for line in [*lines, ""]:
        key = re.fullmatch(r"#(|  )([a-z0-9_]+):(.*)", line)
        word = re.fullmatch(r" *# (.*)", line)
        if names and (not key or not key[3].strip()):
            yield Group(tuple(table[name] for name in names), " ".join(words))
            words, names = [], []
        if key and not key[3].strip():
            section = f"{key[2]}."
        elif key:
            names.append((section if key[1] else "") + key[2])
        elif word:
            words.append(word[1])
        elif not names:
            words = []


def _keys(kind: Any, prefix: str) -> Iterator[tuple[str, Key]]:
    for entry in dataclasses.fields(kind):
        name = prefix + entry.name
        if dataclasses.is_dataclass(entry.default):
            yield from _keys(type(entry.default), f"{name}.")
        else:
            default = _shown(entry.default)
            yield name, Key(name, default, _right(entry.metadata["check"]))


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return "[]" if value == () else str(value)


def _right(check: checks.Check) -> str:
    """What the check itself says would be right, of a value that never is."""
    try:
        check(object())
    except checks.Wrong as wrong:
        return wrong.remedy
    raise AssertionError("a check that lets everything pass")
