"""The two files through which agent (root) and network process (serve) talk.

``/run/nodeagent/announce.json``: the agent says what to announce. ``/run/nodeagent-serve/
heard.json``: serve says what came in. The agent treats the second as a stranger's: the process
that writes it reads what anybody sends.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nodeagent import paths
from nodeagent.errors import OtherVersion
from nodeagent.host import untrusted
from nodeagent.host.host import Host
from nodeagent.trust import wire

LOG = logging.getLogger("nodeagent")

HEARD = f"{paths.SERVE}/heard.json"
MAX_BYTES = 256 * 1024
MAX_CANDIDATES = 128  # of at most 1100 bytes each in heard.json
MAX_INTERFACES = 16

_BEACON = wire.text(r"[A-Za-z0-9_-]+", 900)
_TIME = wire.integer(0, 2**40)


@dataclass(frozen=True)
class Announcement:
    """What serve is to do: announce ``beacon`` as ``instance`` and ``interface_address`` on the
    named ``interfaces`` (none named: on the one that has the address); there offer the endpoint
    on ``port`` and show the status page."""

    interface_address: str
    instance: str
    beacon: str
    port: int
    endpoint: bool
    status_page: bool
    phase: str = ""  # for people who look at mDNS; in the clear, so only where the page is open
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """Where somebody announced a beacon, unproved; ``first`` and ``last`` heard (unix time)."""

    address: str
    port: int
    beacon: str
    first: int
    last: int


# Of local processes of ours: one of them may still run from before an update.
_RESTART = "Restart both processes: sudo systemctl restart nodeagent nodeagent-serve"
_ANNOUNCEMENT = wire.Form(
    paths.ANNOUNCE,
    1,
    {
        "interface_address": wire.address,
        "instance": wire.node_id,
        "beacon": _BEACON,
        "port": wire.port,
        "endpoint": wire.flag,
        "status_page": wire.flag,
    },
    {
        "phase": wire.text(r"[a-z-]*", 16),
        # IFNAMSIZ, linux/if.h.
        "interfaces": wire.array(wire.text(r"[^/\s]+", 15), 0, MAX_INTERFACES),
    },
    _RESTART,
)
_CANDIDATE: dict[str, wire.Check] = {
    "address": wire.address,
    "port": wire.port,
    "beacon": _BEACON,
    "first": _TIME,
    "last": _TIME,
}
_HEARD = wire.Form(
    HEARD,
    1,
    {
        "own_heard": lambda value: None if value is None else _TIME(value),
        "candidates": wire.array(lambda value: wire.record(value, _CANDIDATE), 0, MAX_CANDIDATES),
    },
    remedy=_RESTART,
)


def write_announcement(host: Host, announcement: Announcement) -> None:
    """Agent: say what to announce; readable for all, nothing in it is secret. Raises OSError."""
    content = _ANNOUNCEMENT.stamp(asdict(announcement))
    host.write(paths.ANNOUNCE, json.dumps(content).encode(), 0o644)


def read_announcement(host: Host) -> Announcement | None:
    """Serve: what to announce, or None while the agent has not said. Raises wire.Malformed,
    OtherVersion."""
    data = host.read(paths.ANNOUNCE)
    if data is None:
        return None
    return Announcement(**_ANNOUNCEMENT.read(wire.loads(data, MAX_BYTES)))


def write_heard(host: Host, own_heard: int | None, candidates: Sequence[Candidate]) -> None:
    """Serve: say what was heard. Raises OSError."""
    content = {"own_heard": own_heard, "candidates": [asdict(entry) for entry in candidates]}
    host.write(HEARD, json.dumps(_HEARD.stamp(content)).encode(), 0o644)


def read_heard(host: Host) -> tuple[int | None, tuple[Candidate, ...]]:
    """Agent: (when the own beacon last came back, candidates). What is missing or malformed counts
    as nothing heard, and so does a later version, which is said."""
    try:
        data = untrusted.read(host, HEARD, MAX_BYTES + 1)
        if data is None:
            return None, ()
        value = _HEARD.read(wire.loads(data, MAX_BYTES))
    except (OSError, wire.Malformed):
        return None, ()
    except OtherVersion as error:
        say_once(str(error))
        return None, ()
    return value["own_heard"], tuple(Candidate(**entry) for entry in value["candidates"])


@functools.cache
def say_once(sentence: str) -> None:
    """Into the log: what is looked at every second must not be told as often."""
    LOG.warning("%s", sentence)
