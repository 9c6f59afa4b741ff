"""What several steps say about files. A helper, not a step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from nodeagent.host.actions import Action, Remove, Write
from nodeagent.host.facts import Facts

HEADER = "# Made by nodeagent, which writes this file again when it differs.\n"
MASK = "/dev/null"
UNITS = "/etc/systemd/system"  # the administrator's: systemd.unit(5), unit load path


def holds(facts: Facts, path: str, text: str, mode: int = 0o644) -> Iterator[Action]:
    """The file has exactly this text."""
    if facts.read(path) != text.encode():
        yield Write(path, text.encode(), mode)


def removed(facts: Facts, path: str, folder: bool = False) -> Iterator[Action]:
    """The file is gone, if it was made by nodeagent: others' files begin with something else.

    ``folder``: so is its folder if nothing else is in it, for those no system comes with; also
    where a power cut came between the two.
    """
    parent = str(PurePosixPath(path).parent)
    emptied = folder and facts.exists(parent) and not facts.names(parent)
    if emptied or (facts.read(path) or b"").startswith(HEADER.encode()):
        yield Remove(path, folder)


def is_masked(facts: Facts, unit: str) -> bool:
    """The systemd unit is masked: a link to /dev/null hides it (systemctl(1), ``mask``)."""
    return facts.host.target(f"{UNITS}/{unit}") == MASK


def unit_exists(facts: Facts, unit: str) -> bool:
    """A package ships the unit (systemd.unit(5), unit load path)."""
    return facts.any_of(f"/usr/lib/systemd/system/{unit}", f"/lib/systemd/system/{unit}")
