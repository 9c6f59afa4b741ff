"""The state file: what the agent must remember because the system itself cannot tell it.

Kept in ``/var/lib/nodeagent/state.json``, replaced whole and durably at each change: role and
epoch, reboots asked for, when each step first held, and a bounded history for people. What a later
version of nodeagent added to it is kept.
"""

from __future__ import annotations

import json
import threading
from typing import TypedDict, Unpack, cast

from nodeagent import formats, paths
from nodeagent.errors import StateFileDamaged
from nodeagent.host.host import Host

FOLDER = paths.STATE
PATH = f"{FOLDER}/state.json"
MAX_HISTORY = 500
FORMAT = 1


class Claim(TypedDict):
    """A claim to lead the fleet."""

    epoch: int


class Vote(TypedDict):
    """A vote for another node's claim."""

    node: str  # its id
    epoch: int


class SteppingDown(TypedDict, total=False):
    """Why a node leaves its cluster: a person has said that it shall have another ``role``, or the
    fleet is led by another control plane, with the id ``node`` and the name ``name``."""

    role: str
    node: str
    name: str


class Resetting(TypedDict, total=False):
    """A reset that was begun; ``identity``: of the node's keys too."""

    identity: bool


class State(TypedDict, total=False):
    """What a node remembers, None for what it does not. A change has only some of the keys, and
    None removes; so the file has none."""

    board: str | None  # serial number of the board that the claim and fsync_ms are of
    born: int | None  # when its cluster was made (seconds since the epoch)
    claim: Claim | None
    epoch: int | None  # the highest that it has claimed
    equipped: bool | None  # pod network and join policy are installed
    fsync_ms: float | None  # milliseconds until a write is durable
    history: list[dict[str, object]] | None  # each with ``time`` and ``event``; oldest first
    imported: bool | None  # the card file is taken over
    initialised: bool | None  # kubeadm init is done
    last_known: list[str] | None  # endpoints of control planes, as ADDRESS:PORT
    node_name: str | None  # in the cluster that it has joined
    policy: str | None  # SHA-256 of the join policy that the cluster has
    reboots: dict[str, str] | None  # token of a reboot -> id of the boot that asked for it
    resetting: Resetting | None
    role: str | None  # as decided: control-plane or worker
    starts: int | None  # of the agent
    stated: int | None  # when it last vouched for its cluster (seconds since the epoch)
    stepping_down: SteppingDown | None
    vote: Vote | None


def empty() -> State:
    """A state with every key, and nothing remembered."""
    return cast("State", dict.fromkeys(State.__annotations__))


def remembered(data: bytes | None) -> State:
    """What a state file's bytes say, for those who only look; empty where they cannot be read."""
    try:
        values = json.loads(data or b"{}")
    except ValueError:
        values = None  # the agent itself stops at a damaged one, and says so
    return _filled(values) if isinstance(values, dict) else empty()


def _filled(values: dict[str, object]) -> State:
    return cast("State", {**empty(), **values})


def _known(values: State) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


class StateFile:
    """A small dictionary on disk. Read ``values``; ``set`` is durable when it returns."""

    def __init__(self, host: Host) -> None:
        """Raises StateFileDamaged, OtherVersion; a missing file means nothing is remembered."""
        self._host = host
        self._lock = threading.RLock()
        data = host.read(PATH)
        try:
            values = json.loads(data) if data is not None else {}
            if not isinstance(values, dict):
                raise ValueError("not an object")
            formats.check(values.pop(formats.KEY, FORMAT), PATH, FORMAT)
            self.values = _filled(values)
        except ValueError as error:
            short = formats.cut_short(data or b"")
            raise StateFileDamaged(
                f"{PATH} is cut short: it ends in its middle."
                if short
                else f"{PATH} cannot be read: {error}.",
                "Check the card for faults; remove the file to let the node start anew.",
            ) from error

    def names(self) -> list[str]:
        """The names of all values, also of those that a later version added."""
        return sorted(_known(self.values))

    def set(self, **values: Unpack[State]) -> None:
        """Change values; None removes. Durable when it returns. Raises OSError."""
        with self._lock:
            changed: State = {**self.values, **values}
            if changed == self.values:
                return
            self._host.make_folder(FOLDER, 0o755)
            content = {**_known(changed), formats.KEY: FORMAT}
            data = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
            self._host.write(PATH, data, 0o600)
            self.values = changed

    def note(self, event: str, **details: object) -> None:
        """Add one line to the history: what happened, when (seconds since the epoch)."""
        line = {"time": round(self._host.clock.now(), 1), "event": event, **details}
        with self._lock:
            self.set(history=[*(self.values["history"] or []), line][-MAX_HISTORY:])
