"""What a run of tests must leave as it was on the machine: looked at before it and after it.

A machine has other users, and other runs of tests, which go on meanwhile. So only that is compared
which tests or the agent would leave: rules of the packet filter, but for those of Docker and of the
lab; names and addresses that the tests' own networks have; files in the system's folders that the
agent writes; and the checkout, where nobody has changes of his own in it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
Seen = Counter[str]  # lines, each of which says of what it is

FILTERS = (
    ("nft", "--stateless", "--terse", "list", "ruleset"),
    ("iptables-legacy-save",),
    ("ip6tables-legacy-save",),
)
OTHERS = re.compile(r"docker|nodeagent_lab|lab-out", re.IGNORECASE)
NETWORKS = (("-brief", "addr"), ("route", "show", "table", "all"))
OUR_NETWORKS = re.compile(
    r"^(br|lan|port|cni)\d|^flannel|^kube-|\bdev (br|lan|cni)\d|\b10\.(77|244)\.|\bfd77:"
)
FOLDERS = ("/etc", "/boot", "/opt/cni", "/var/lib/nodeagent", "/run/nodeagent")
OUR_FILES = re.compile(
    r"nodeagent|kube|containerd|crictl|/cni\b|swap|/boot/"
    r"|^/etc/(hostname|hosts|fstab|machine-id|modules|sysctl\.conf)$"
)


def look() -> Seen:
    """The machine as it is. What cannot be looked at, tests cannot change either."""
    seen = Counter(f"packet filter: {line}" for tool in FILTERS for line in _rules(_said(*tool)))
    for words in NETWORKS:
        for line in _said("ip", *words).splitlines():
            if OUR_NETWORKS.search(line) and not OTHERS.search(line):
                seen[f"network: {' '.join(line.split())}"] += 1
    for top in FOLDERS:
        for folder, folders, files in os.walk(top):
            for path in (os.path.join(folder, name) for name in (*folders, *files)):
                if OUR_FILES.search(path):
                    seen[f"file: {_file(path)}"] += 1
    seen[f"host name: {os.uname().nodename}"] += 1
    return seen


def changed(before: Seen, after: Seen) -> list[str]:
    """What is gone (-) and what came (+), in lines for people."""
    gone, came = before - after, after - before
    return [f"- {line}" for line in sorted(gone)] + [f"+ {line}" for line in sorted(came)]


def uncommitted() -> list[str]:
    """Files of the checkout that are new or changed."""
    return _said("git", "-C", str(CHECKOUT), "status", "--porcelain").splitlines()


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout
    except FileNotFoundError:
        return ""


def _rules(listed: str) -> Iterator[str]:
    """Each table, chain and rule, with where it is. Chains and policies that the kernel has by
    itself are none (":INPUT ACCEPT [0:0]"), nor are counters."""
    table = place = ""
    for line in listed.splitlines():
        line = re.sub(r" \[\d+:\d+\]$", "", line.strip())
        if line.startswith(("table ", "*")):
            table = place = line.rstrip(" {")
            rule = "" if line.startswith("*") else table
        elif line.startswith("chain "):
            place = rule = f"{table} {line.rstrip(' {')}"
        elif line in ("", "}", "COMMIT") or line[0] == "#" or re.match(r":\w+ [A-Z]+$", line):
            continue
        else:
            rule = f"{place}: {line}"
        if rule and not OTHERS.search(rule):
            yield rule


def _file(path: str) -> str:
    try:
        status = os.lstat(path)
        link = f" -> {os.readlink(path)}" if os.path.islink(path) else ""
    except FileNotFoundError:
        return f"{path} is gone"
    size = "" if os.path.isdir(path) else f" {status.st_size} bytes, {status.st_mtime_ns} ns"
    return f"{path}{link} {status.st_mode:o}{size}"


# Hooks of pytest, for tests/conftest.py. With pytest-xdist, the workers' parent has them.

BEFORE = pytest.StashKey[tuple[Seen, list[str]]]()
LEFT = pytest.StashKey[list[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Look at the machine before the first test."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[BEFORE] = look(), uncommitted()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look again after the last one; the run fails where anything was changed."""
    if BEFORE not in session.config.stash:
        return
    machine, checkout = session.config.stash[BEFORE]
    left = changed(machine, look())
    if not checkout:
        left += [f"checkout: {line}" for line in uncommitted()]
    if left:
        session.config.stash[LEFT] = left
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was changed."""
    if LEFT in config.stash:
        terminalreporter.section("this machine is not as it was", red=True, bold=True)
        for line in config.stash[LEFT]:
            terminalreporter.line(line)
        terminalreporter.line(
            "A test changed this, or somebody else did meanwhile: see tests/support/untouched.py."
            " Undo it by hand, then run the tests again."
        )
