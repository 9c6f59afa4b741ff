"""Tells the status how far apt is with an installation, as apt says itself (``apt.PROGRESS``)."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from nodeagent.agent.reporter import Reporter
from nodeagent.host.apt.actions import PROGRESS, AptInstall
from nodeagent.host.host import Host

if TYPE_CHECKING:
    from nodeagent.status.schema import Progress

LOG = logging.getLogger("nodeagent")

PERIOD = 2.0  # seconds between looks while packages are installed
IDLE = 5.0
# dlstatus:NUMBER:PERCENT:TEXT while it fetches, pmstatus:PACKAGE:PERCENT:TEXT while dpkg works.
_LINE = re.compile(r"^(?:dlstatus:(\d+)|pmstatus:([^:\n]+)):[\d.]+:((\w+).*)\n", re.MULTILINE)


def watch(host: Host, reporter: Reporter) -> None:
    """Until the process ends; a thread of the agent."""
    while True:
        acting = reporter.acting
        if isinstance(acting, AptInstall):
            try:
                reporter.installing(acting, parse(host.text(PROGRESS) or ""))
            except OSError as error:
                LOG.debug("packages: %s", error)
        host.clock.sleep(PERIOD if isinstance(acting, AptInstall) else IDLE)


def parse(text: str) -> Progress:
    """``progress`` as in the status, out of apt's lines; the last one may be half written."""
    begun: set[str] = set()
    installed: set[str] = set()
    fetched, now = 0, "asking the mirrors"
    for number, package, now, verb in _LINE.findall(text):  # noqa: B007  the last one counts
        fetched = int(number or fetched)
        # A package that only has its triggers run is neither.
        if verb in ("Unpacking", "Configuring"):
            begun.add(package)
        elif verb == "Installed":
            installed.add(package)
    # Before dpkg begins, the text says how many there are; of packages here already it does not.
    total = max(len(begun), fetched) if begun else 0
    return {"kind": "packages", "text": now, "done": len(begun & installed), "total": total}
