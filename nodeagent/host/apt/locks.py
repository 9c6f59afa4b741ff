"""Who holds the locks of apt and dpkg, in plain words.

The locks are fcntl(2) locks (apt-get(8); dpkg sources, lib/dpkg/dbmodify.c), which the kernel
lists in /proc/locks with process and inode (proc_locks(5)). Asking the kernel costs nothing, and
nothing is taken: what looks at a lock by taking it gets in the way of others.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.errors import Blocked
from nodeagent.host import parse
from nodeagent.host.host import Host

LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
# Longer than any of them should take on a slow card; from here on a person is asked to look.
LONG = 3600.0  # seconds

# A word of the process' control group (systemd.special(7), the units of each) -> who it is.
WHO = (
    ("apt-daily", "the automatic updates of the system"),
    ("unattended-upgrades", "the automatic updates of the system"),
    ("packagekit", "the automatic updates of the desktop"),
    ("cloud-", "cloud-init, which installs what the user-data asks for,"),
    ("nodeagent", "an installation that the agent began before it was restarted"),
    ("user.slice", "somebody who is logged in"),
)


@dataclass(frozen=True)
class Holder:
    """A process: ``who`` it belongs to, its ``command``, for how many ``seconds`` it runs."""

    pid: int
    who: str
    command: str
    seconds: float

    def blocked(self) -> Blocked:
        """What to say while it is waited for."""
        process = f"({self.command}, process {self.pid})" if self.pid else "(of unknown name)"
        if self.seconds < LONG:
            return Blocked(
                f"Waiting until {self.who} {process} has finished with the package system.",
                "Nothing to do; the agent then goes on by itself.",
            )
        return Blocked(
            f"For {self.seconds / 60:.0f} minutes {self.who} {process} has kept the package"
            " system for itself.",
            f"Look at it with `ps -fp {self.pid}`. If it hangs, end it with `kill {self.pid}`;"
            " the agent then repairs what it left and goes on.",
        )


def holder(host: Host) -> Holder | None:
    """Who holds one of the locks now; None where nobody does."""
    wanted = set()
    for path in LOCKS:
        where = host.path(path)
        if where.is_file():
            found = where.stat()
            device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
            wanted.add(f"{device}:{found.st_ino}")
    for pid, file in _held(host.text("/proc/locks") or ""):
        if file in wanted:
            return describe(host, pid)
    return None


def _held(locks: str) -> list[tuple[int, str]]:
    """Process and file of each write lock: ``1: POSIX  ADVISORY  WRITE 812 b3:02:1311 0 EOF``.
    Lines with ``->`` are of those that wait; a process outside our view is 0 or -1."""
    found = re.findall(r"^\d+: \w+ +\w+ +WRITE (-?\d+) (\w+:\w+:\d+) ", locks, re.MULTILINE)
    return [(max(0, int(pid)), file) for pid, file in found]


def describe(host: Host, pid: int) -> Holder:
    """A process by its number; one that is gone meanwhile is another program."""
    group = host.text(f"/proc/{pid}/cgroup") or ""
    who = next((who for word, who in WHO if word in group), "another program")
    command = (host.text(f"/proc/{pid}/comm") or "").strip() or "unknown"
    # proc_pid_stat(5): the 22nd field, the 20th after the name in brackets, is the start in
    # clock ticks since boot.
    fields = (host.text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    seconds = 0.0
    if len(fields) > 19 and fields[19].isdecimal():
        begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        seconds = max(0.0, parse.seconds_up(host.text(paths.UPTIME) or "") - begun)
    return Holder(pid, who, command, seconds)
