"""apt-get and dpkg as actions, whose failures are told in plain words.

apt says what went wrong in its own words and ends with status 100 for nearly everything, so its
messages are read, in the fixed language that ``host.ENVIRONMENT`` sets. They are the same in apt
2.6 (Debian 12) and 3.0 (Debian 13), except about signatures, where 3.0 asks sqv, not gpgv. The
tests have recordings of both. What apt said goes to the log line by line.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

from nodeagent.errors import AGENT_TRIES, Blocked, CommandFailed, FetchFailed, NodeAgentError
from nodeagent.host.apt import locks
from nodeagent.host.apt.messages import RULES
from nodeagent.host.host import Host, Result

LOG = logging.getLogger("nodeagent")

# A mirror that answers nothing is given up (apt-transport-http(1), apt.conf(5)); one that sends
# a byte now and then is not, which is why every command has a bound as well.
BOUNDS = ("-o", "Acquire::http::Timeout=30", "-o", "Acquire::Retries=3")
UPDATE = ("apt-get", "update", "-q", "--error-on=any", "-o", "Acquire::Languages=none", *BOUNDS)
UPDATE_SECONDS = 1800.0
# An old card needs half an hour for what a fast one does in a minute.
SLOW = 3600.0
# One source file and nothing else; the lists of the others stay (apt.conf(5), apt-get(8)).
ONLY = ("-o", "Dir::Etc::sourceparts=/dev/null", "-o", "APT::Get::List-Cleanup=0")
# --fix-broken: after a power cut half of the packages may lack the other half. --no-remove: not
# even for Kubernetes is a package taken away that somebody has chosen (apt-get(8)). The lock was
# free when this was planned; the wait is for who took it since.
INSTALL = (
    "apt-get", "install", "-q", "-y", "--no-install-recommends", "--fix-broken", "--no-remove",
    "--allow-change-held-packages", "--allow-downgrades", "-o", "DPkg::Lock::Timeout=60",
    *BOUNDS, "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
    "-o", "APT::Status-Fd=3",
)  # fmt: skip
# Where apt-get says how far an installation is (apt's doc/progress-reporting.md). A file and no
# pipe: apt must not notice that nobody reads any more.
PROGRESS = "/run/nodeagent/apt"
REPORTING = ("sh", "-c", 'exec "$@" 3>>"$0"', PROGRESS)
# Then the lists are not what they should be, and why, update says.
LISTS_LACK = re.compile(
    r"^E: (Unable to locate package|Version '.*' for|Package '?\S+ has no installation candidate"
    r"|Unable to correct problems)",
    re.MULTILINE,
)
_HELD_BY = re.compile(
    r"held by process (\d+)|lock was locked by (?:another|\S+) process with pid (\d+)"
)
_HELD = re.compile(r"[Cc]ould not get lock|Unable to (?:acquire the dpkg frontend|lock )")


@dataclass(frozen=True)
class Apt:
    """Run apt-get or dpkg. ``timeout`` in seconds; ``accept``: the statuses that are well."""

    argv: tuple[str, ...]
    timeout: float = SLOW
    accept: tuple[int, ...] = (0,)
    stdin: str | None = field(default=None, repr=False)

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return f"run {' '.join(self.argv)}"

    def do(self, host: Host) -> None:
        """Raises Blocked where another program holds a lock, FetchFailed, CommandFailed."""
        result = host.run(*self.argv, timeout=self.timeout, stdin=self.stdin)
        if result.status not in self.accept:
            raise failure(host, self.argv, result)


@dataclass(frozen=True)
class AptUpdate:
    """Fetch the package lists. ``own`` are the source files that must be read for it to be well.

    Whether the others are needed is not known beforehand: the distribution's are, an old one
    that somebody forgot is not. So their faults are for the log; where one was needed,
    ``AptInstall`` finds its packages missing and says why.
    """

    own: tuple[str, ...] = ()

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return "run apt-get update"

    def do(self, host: Host) -> None:
        """Raises Blocked where another program holds a lock, FetchFailed, CommandFailed."""
        result = host.run(*UPDATE, timeout=UPDATE_SECONDS)
        if result.status == 0:
            return
        error = failure(host, UPDATE, result)
        if isinstance(error, Blocked) or result.status != 100:
            raise error
        for file in self.own:
            argv = (*UPDATE, "-o", f"Dir::Etc::sourcelist={file}", *ONLY)
            Apt(argv, UPDATE_SECONDS).do(host)
        LOG.warning("Going on without some of the package lists. %s", error)


@dataclass(frozen=True)
class AptInstall:
    """Install ``packages``, each as apt-get(8) takes it: ``kubelet=1.36.4-*``."""

    packages: tuple[str, ...]

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return f"run apt-get install {' '.join(self.packages)}"

    def do(self, host: Host) -> None:
        """Raises Blocked where another program holds a lock, FetchFailed, CommandFailed, OSError
        where PROGRESS cannot be written."""
        argv = (*INSTALL, *self.packages)
        host.write(PROGRESS, b"")
        result = host.run(*REPORTING, *argv, timeout=SLOW)
        if result.status == 0:
            return
        error = failure(host, argv, result)
        if LISTS_LACK.search(result.err):
            Apt(UPDATE, UPDATE_SECONDS).do(host)
        raise error


def failure(host: Host, argv: tuple[str, ...], result: Result) -> NodeAgentError:
    """Why a command of apt or dpkg failed, for people; what it said goes to the log."""
    said = f"{result.err}\n{result.out}"
    for line in _complaints(said):
        LOG.info("%s: %s", argv[0], line)
    held = _HELD_BY.search(said)
    if held is not None or _HELD.search(said):
        pid = int(held[1] or held[2]) if held is not None else 0
        return locks.describe(host, pid).blocked()
    for rule in RULES:
        found = re.search(rule.pattern, said, re.MULTILINE)
        if found is not None:
            words = {name: word.rstrip(":,.") for name, word in found.groupdict("").items()}
            kind = FetchFailed if rule.network else CommandFailed
            return kind(rule.reason.format(**words), rule.remedy.format(**words))
    if result.status == 124:
        return CommandFailed(
            f"`{' '.join(argv[:2])}` did not come to an end; it was stopped.",
            "Is the network very slow, or the card worn out? The agent tries again by itself.",
        )
    last = _complaints(said)[-3:] or (said.split("\n\n")[0].strip() or "it said nothing",)
    return CommandFailed(
        f"`{' '.join(argv[:2])}` ended with status {result.status}: {' / '.join(last)}.",
        AGENT_TRIES,
    )


def _complaints(said: str) -> tuple[str, ...]:
    """The lines that say what went wrong; the indented ones after ``Err:`` name the cause."""
    found = re.findall(r"^(?:[EW]: |Err:|dpkg: |  \w)[^\n]*", said, re.MULTILINE)
    return tuple(line.strip() for line in found[:40])
