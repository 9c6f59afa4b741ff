"""The package database, read without starting dpkg: starting it costs a second on a slow board.

Format: deb822(5) stanzas in /var/lib/dpkg/status; ``Status`` has three words, selection, error
flag and state (dpkg-query(1), ``db:Status-*``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

STATUS = "/var/lib/dpkg/status"
UPDATES = "/var/lib/dpkg/updates"
# Of the status file: what dpkg replaced last, and what the system keeps daily
# (dpkg-db-backup.timer, before Debian 12 cron's).
COPIES = (f"{STATUS}-old", "/var/backups/dpkg.status.0")
WHOLE_STATES = frozenset({"installed", "config-files", "not-installed"})


@dataclass(frozen=True)
class Package:
    """One package as dpkg knows it. ``state`` ``installed`` with ``flag`` ``ok`` is healthy."""

    name: str
    version: str
    architecture: str
    selection: str
    flag: str
    state: str

    @property
    def installed(self) -> bool:
        """Unpacked, configured and not damaged."""
        return self.state == "installed" and self.flag == "ok"

    @property
    def upstream(self) -> str:
        """The version without epoch and packaging revision (deb-version(7)): ``1.36.4``."""
        return self.version.split(":", 1)[-1].rsplit("-", 1)[0]


class Packages:
    """All packages of a host, by name. ``updates`` are the names in dpkg's journal folder."""

    def __init__(self, status: str, updates: Sequence[str] = ()) -> None:
        self._known = {found.name: found for found in parse(status)}
        # dpkg keeps its journal in numbered files here until it has written status anew
        # (dpkg sources, lib/dpkg/dbmodify.c); some left over mean that it was interrupted.
        self.journal_left = any(name.isdigit() for name in updates)

    def get(self, name: str) -> Package | None:
        """The package, if dpkg has heard of it."""
        return self._known.get(name)

    def version(self, name: str) -> str | None:
        """Upstream version of an installed, healthy package, or None."""
        found = self._known.get(name)
        return found.upstream if found is not None and found.installed else None

    @property
    def interrupted(self) -> bool:
        """True where dpkg was stopped in the middle of something."""
        return self.journal_left or any(
            found.state not in WHOLE_STATES or found.flag != "ok" for found in self._known.values()
        )

    @property
    def architecture(self) -> str:
        """Of the system: that of dpkg itself (``arm64``, ``armhf``); empty where unknown."""
        found = self._known.get("dpkg")
        return found.architecture if found is not None else ""


def parse(status: str) -> Iterator[Package]:
    """The stanzas of a status file; damaged ones are left out. Plain searches, since the file
    has a megabyte and regular expressions take seconds for it on a slow board."""
    for stanza in status.split("\n\n"):
        name, words = _field(stanza, "Package"), _field(stanza, "Status").split()
        if name and len(words) == 3:
            version, architecture = _field(stanza, "Version"), _field(stanza, "Architecture")
            yield Package(name, version, architecture, words[0], words[1], words[2])


def _field(stanza: str, name: str) -> str:
    begin = 0 if stanza.startswith(f"{name}:") else stanza.find(f"\n{name}:") + 1
    if begin == 0 and not stanza.startswith(f"{name}:"):
        return ""
    end = stanza.find("\n", begin)
    return stanza[begin + len(name) + 1 : end if end >= 0 else len(stanza)].strip()
