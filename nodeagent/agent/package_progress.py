"""Watches apt and dpkg at work, so that the status can say how far an installation is.

Only looks: at what apt has fetched so far, and at dpkg's own log (dpkg(1), --log), whose lines say
which package was unpacked and which is installed.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from nodeagent.agent.reporter import Board
from nodeagent.host.apt.actions import AptInstall
from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

DPKG_LOG = "/var/log/dpkg.log"
ARCHIVES = "/var/cache/apt/archives"
PERIOD = 2.0  # seconds between looks while packages are installed
IDLE = 5.0
MAX_LOG = 1024 * 1024  # bytes of one installation's log; a whole system's first one is 600 kB
_LINE = re.compile(r"^\S+ \S+ (install|upgrade|configure|status installed) ([^ :]+)", re.MULTILINE)


def watch(host: Host, board: Board) -> None:
    """Until the process ends; a thread of the agent."""
    action, before, begun = None, 0, 0.0
    while True:
        acting = board.acting
        if isinstance(acting, AptInstall):
            try:
                if acting is not action:
                    action, before, begun = acting, log_size(host), host.clock.now()
                board.installing(acting, look(host, before, begun))
            except OSError as error:
                LOG.debug("packages: %s", error)
        host.clock.sleep(PERIOD if isinstance(acting, AptInstall) else IDLE)


def log_size(host: Host) -> int:
    """Bytes in dpkg's log. Raises OSError."""
    return host.path(DPKG_LOG).stat().st_size if host.exists(DPKG_LOG) else 0


def look(host: Host, before: int, begun: float) -> dict[str, Any]:
    """``progress`` as in the status. ``before``: bytes of the log that are older; ``begun`` in
    seconds since the epoch. Raises OSError."""
    fetched, number = _fetched(host, begun)
    if log_size(host) > before:
        with host.path(DPKG_LOG).open("rb") as file:
            file.seek(before)
            found = parse(file.read(MAX_LOG).decode("utf-8", "replace"), number)
        if found is not None:
            return found
    text = f"{fetched / 1e6:.0f} MB fetched" if fetched else "asking the mirrors"
    return {"kind": "packages", "text": text, "done": 0, "total": 0}


def parse(text: str, fetched: int = 0) -> dict[str, Any] | None:
    """The progress in lines of dpkg's log; None before dpkg has begun. ``fetched``: how many
    packages apt has fetched for it."""
    begun: set[str] = set()
    done: set[str] = set()
    now = ""
    for verb, package in _LINE.findall(text):
        if verb == "status installed":
            done.add(package)
            continue
        begun.add(package)
        now = f"{'configuring' if verb == 'configure' else 'unpacking'} {package}"
    if not begun:
        return None
    # Packages that only had their triggers run are installed again, and were before.
    total = max(len(begun), fetched)
    return {"kind": "packages", "text": now, "done": len(done & begun), "total": total}


def _fetched(host: Host, begun: float) -> tuple[int, int]:
    """Bytes that apt has fetched since ``begun``, and how many whole packages that is."""
    size = number = 0
    for folder in (ARCHIVES, f"{ARCHIVES}/partial"):
        for name in host.names(folder):
            try:
                found = host.path(f"{folder}/{name}").stat()
            except FileNotFoundError:  # apt has just moved it
                continue
            # apt gives a fetched file the time that the server told, so its change counts.
            if name.endswith(".deb") and found.st_ctime >= begun:
                size += found.st_size
                number += folder == ARCHIVES
    return size, number
