"""What several steps say about files. A helper, not a step."""

from __future__ import annotations

from collections.abc import Iterator

from nodeagent.host.actions import Action, Link, Write
from nodeagent.host.facts import Facts

HEADER = "# Made by nodeagent, which writes this file again when it differs.\n"
MASK = "/dev/null"


def holds(facts: Facts, path: str, text: str, mode: int = 0o644) -> Iterator[Action]:
    """The file has exactly this text."""
    if facts.read(path) != text.encode():
        yield Write(path, text.encode(), mode)


def masked(facts: Facts, unit: str) -> Iterator[Action]:
    """The systemd unit is masked: a link to /dev/null hides it (systemctl(1), ``mask``)."""
    path = f"/etc/systemd/system/{unit}"
    where = facts.host.path(path, follow=False)
    if not (where.is_symlink() and str(where.readlink()) == MASK):
        yield Link(path, MASK)


def unit_exists(facts: Facts, unit: str) -> bool:
    """A package ships the unit (systemd.unit(5), unit load path)."""
    return facts.any_of(f"/usr/lib/systemd/system/{unit}", f"/lib/systemd/system/{unit}")
