"""What all tests share: nothing in the unit tier touches the machine by accident.

The guard is an audit hook (PEP 578), so it sees what every library does too. It raises a
BaseException, which no ``except Exception`` of the code under test can swallow. The mark
``processes`` or ``network`` on a test says that it means it; net, cluster and lab tiers are free.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.untouched import (  # noqa: F401  (hooks of pytest)
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)

CHECKOUT = Path(__file__).parent.parent
FREE_TIERS = tuple(CHECKOUT / "tests" / name for name in ("net", "cluster", "lab"))
# Where tests and the tools that run them may write.
WRITABLE = (tempfile.gettempdir(), "/dev/", str(CHECKOUT / ".hypothesis"))
LONGEST_SLEEP = 0.05  # seconds: for looking again and again whether a process or thread is ready
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# event -> the mark that allows it
MARKS = {
    "subprocess.Popen": "processes",
    "os.system": "processes",
    "os.exec": "processes",
    "os.posix_spawn": "processes",
    "os.fork": "processes",
    "socket.bind": "network",
    "socket.connect": "network",
    "socket.sendto": "network",
    "socket.getaddrinfo": "network",
}
# event -> places of the paths it changes, and place of the folder descriptor they are relative to
CHANGES = {
    "os.mkdir": ((0,), 2),
    "os.remove": ((0,), 1),
    "os.rmdir": ((0,), 1),
    "os.rename": ((0, 1), 2),
    "os.chmod": ((0,), 2),
    "os.chown": ((0,), 3),
    "os.symlink": ((1,), 2),
    "os.link": ((1,), 3),
}

# Slow machines take their time, and that is no defect.
settings.register_profile("nodeagent", deadline=None)
settings.load_profile("nodeagent")


def _memory() -> str:
    """Where pytest makes the folders of tests, by the thousand: in memory, if that has room, runs
    programs, and keeps attributes of files as a disk does (tmpfs of Linux 6.6 and newer)."""
    shared = "/dev/shm"
    try:
        with tempfile.NamedTemporaryFile(dir=shared) as file:
            os.setxattr(file.name, "user.test", b"")
        found = os.statvfs(shared)
    except OSError:
        return tempfile.gettempdir()
    fit = found.f_bavail * found.f_frsize > 2 << 30 and not found.f_flag & os.ST_NOEXEC
    return shared if fit else tempfile.gettempdir()


os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _memory())


class TouchedTheMachine(BaseException):
    """A test of the unit tier used the real machine, or real time."""


class Guard:
    """Off, or on with the marks of the running test."""

    def __init__(self) -> None:
        self.on = False
        self.marks: frozenset[str] = frozenset()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """The audit hook: raises for what the running test may not do."""
        if not self.on:
            return
        if event in MARKS:
            if MARKS[event] not in self.marks:
                _refuse(f"{event} {args[:2]!r}", f"mark the test {MARKS[event]!r}")
        elif event == "open":
            path, _, flags = args
            # A bare name with O_NOFOLLOW is relative to an open folder, as host/untrusted.py has
            # it: the event does not say to which.
            bare = flags & os.O_NOFOLLOW and "/" not in os.fsdecode(path)
            if (
                isinstance(path, str | bytes)
                and flags & WRITES
                and not bare
                and not _writable(path)
            ):
                _refuse(f"writing {path!r}", "write below tmp_path")
        elif event in CHANGES:
            places, folder = CHANGES[event]
            for path in (args[place] for place in places if args[folder] == -1):
                if isinstance(path, str | bytes) and not _writable(path):
                    _refuse(f"{event} {path!r}", "write below tmp_path")


def _writable(path: str | bytes) -> bool:
    absolute = os.path.abspath(os.fsdecode(path))
    # The last is a process of the test's own that waits in a new namespace of users.
    return (
        absolute.startswith(WRITABLE)
        or "/__pycache__" in absolute
        or re.fullmatch(r"/proc/\d+/[ug]id_map", absolute) is not None
    )


def _refuse(what: str, remedy: str) -> None:
    raise TouchedTheMachine(f"{what}: a unit test must not. Use a double of Host, or {remedy}.")


GUARD = Guard()
sys.addaudithook(GUARD)


def _short_sleep(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    if GUARD.on and seconds > LONGEST_SLEEP:
        _refuse(f"time.sleep({seconds})", "wait for what is to happen, by an event or a lock")
    sleep(seconds)


# Only Python 3.13 has an audit event for it. Whoever names it later, as Clock does, gets this one.
time.sleep = _short_sleep  # type: ignore[assignment]


def _no_fsync(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
    if GUARD.on:
        os.fstat(descriptor)  # raises for what is no descriptor, as the true one would
    else:
        fsync(descriptor)


# No test of the unit tier loses power: tests/support/lossy_disk.py is a model of what fsync does.
# The true one took most of the time of some.
os.fsync = _no_fsync  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """On for every test of the unit tier, while it runs."""
    if any(request.node.path.is_relative_to(tier) for tier in FREE_TIERS):
        yield
        return
    GUARD.marks = frozenset(mark.name for mark in request.node.iter_markers())
    GUARD.on = True
    try:
        yield
    finally:
        GUARD.on = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that put many processes on a LAN run one after the other: they look at what is heard
    in time."""
    for item in items:
        if item.path.is_relative_to(CHECKOUT / "tests" / "net"):
            item.add_marker(pytest.mark.net)
            if "lan" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group("lan"))
