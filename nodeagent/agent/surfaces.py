"""What a node shows without being asked: the console, the activity LED, the boot partition.

All of it is a convenience: a board without screen or LED, or with a full boot partition, loses
nothing. Nothing here is a secret, and what a program said is shown without its control bytes.
"""

from __future__ import annotations

import logging
import posixpath
import time
from typing import TYPE_CHECKING

from nodeagent import paths
from nodeagent.host import led
from nodeagent.host.host import Host
from nodeagent.status.model import wrap

if TYPE_CHECKING:
    from nodeagent.status.schema import Status

LOG = logging.getLogger("nodeagent")

# agetty shows what is in /etc/issue.d after /etc/issue, at once when told to (agetty(8), "ISSUE
# FILES", --reload). A link into /run: nothing wears the card, and it ends with the boot.
# (It reads /run/issue.d too, but in Debian 12 only where there is no /etc/issue.)
ISSUE = "/run/nodeagent/console"
LINK = "/etc/issue.d/60-nodeagent.issue"
AGETTY = "/usr/sbin/agetty"

NAME = "nodeagent-status.txt"
BOOT_FOLDERS = (paths.BOOT, "/boot")  # as host/boot/files.py, which is too much for the keeper
# A folder with one of them is the boot partition, and it is mounted.
BOOT_FILES = ("config.txt", "cmdline.txt")
# The boot partition is written to seldom: when a person with the card in a laptop would want to
# know. The others pass within minutes.
WRITTEN = frozenset({"rebooting", "discovering", "initialising", "joining", "ready", "failed"})


class Surfaces:
    """Shows a status where it differs from what was shown before."""

    def __init__(self, host: Host, shown: Status | None = None) -> None:
        """``shown``: the status that the process before this one has shown already."""
        self._host = host
        self._lit = shown["phase"] if shown else ""
        self._told = _essence(shown) if shown else ()

    def show(self, status: Status) -> None:
        """Show it. Never fails."""
        try:
            if status["phase"] != self._lit:
                self._lit = status["phase"]
                led.show(self._host, self._lit)
            essence = _essence(status)
            if essence != self._told:
                self._told = essence
                self._console(status)
                if status["phase"] in WRITTEN or status["approval"]:
                    self._boot_partition(status)
        except OSError as error:
            LOG.debug("not shown: %s", error)

    def _console(self, status: Status) -> None:
        if not self._host.exists(AGETTY):
            return
        # A backslash begins an escape code there (agetty(8)).
        text = "\n".join(lines(status)).replace("\\", "\\\\")
        if self._host.target(LINK) is None:
            self._host.link(LINK, ISSUE)
        self._host.write(ISSUE, f"{text}\n\n".encode(), 0o644)
        self._host.run(AGETTY, "--reload", timeout=10)

    def _boot_partition(self, status: Status) -> None:
        path = place(self._host)
        if path is None:
            return
        text = "\n".join(lines(status))
        if _same(self._host.text(path) or "", text):
            return
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(status["updated"]))
        # Line ends as Windows wants them; every other system takes them too.
        page = f"{text}\n\nWritten {at}, by the board's own clock.\n".replace("\n", "\r\n")
        self._host.write(path, page.encode(), 0o644)


def place(host: Host) -> str | None:
    """Where the file on the boot partition is, or would be; None where there is no such
    partition. Raises OSError."""
    for folder in BOOT_FOLDERS:
        if any(host.exists(posixpath.join(folder, name)) for name in BOOT_FILES):
            return posixpath.join(folder, NAME)
    return None


def lines(status: Status) -> list[str]:
    """The status in a few lines of plain text: what does not change by the second."""
    role = f", {status['role']}" if status["role"] != "auto" else ""
    told = [f"nodeagent on {status['node_name'] or 'this node'}: {status['phase']}{role}"]
    if status["error"]:
        error = status["error"]
        told += [f"Problem ({error['code']}): {error['reason']}", f"Do: {error['remedy']}"]
    if status["approval"]:
        told += [f"Let it in, on the control plane: sudo nodeagent approve {status['approval']}"]
    more = f"{status['page']} or " if status["page"] else ""
    told += [f"More: {more}`nodeagent status`"]
    return [line for text in told for line in wrap(text)]


def withdraw(host: Host) -> None:
    """Take all of it back, for ``nodeagent reset``. Raises OSError."""
    led.give_back(host)
    host.remove(ISSUE)
    if host.target(LINK) is not None:
        host.remove(LINK)
        host.remove_empty(posixpath.dirname(LINK))
    for folder in BOOT_FOLDERS:
        path = posixpath.join(folder, NAME)
        if host.exists(path):
            host.remove(path)


def _essence(status: Status) -> tuple[str, ...]:
    return (status["phase"], *lines(status))


def _same(before: str, text: str) -> bool:
    """True where the file says this already; the time in it does not count."""
    return before.replace("\r\n", "\n").split("\n\nWritten ")[0] == text
