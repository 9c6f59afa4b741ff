"""The types of a status, as ``status.schema.json`` describes it; a test holds the two together.

Times are seconds since the epoch. For the type checker only (``TYPE_CHECKING``): to make these
classes takes a small board longer than to show a status.
"""

from __future__ import annotations

from typing import TypedDict


class Error(TypedDict):
    """What went wrong: ``code`` as E101, why, and what to do."""

    code: str
    reason: str
    remedy: str


class LastError(Error):
    """The newest error; ``at`` when it came up, ``over`` once it is gone."""

    at: float
    over: bool


# ``for`` in a sentence; ``until`` None where the wait has no bound.
Waiting = TypedDict("Waiting", {"for": str, "until": "float | None"})


class Progress(TypedDict):
    """How far an action is: ``kind`` is packages or images, ``total`` 0 while it is not known."""

    kind: str
    text: str
    done: int
    total: int


class StepState(TypedDict):
    """A step of the preparation; ``state`` is planning, acting or done."""

    name: str
    title: str
    state: str
    seconds: float


class PhaseEntry(TypedDict):
    """``at``: when the phase began."""

    phase: str
    at: float


class Peer(TypedDict):
    """Another node; in its phase ``since``, last ``heard``."""

    node_id: str
    name: str
    phase: str
    role: str
    address: str
    since: float
    heard: float


class Moment(TypedDict):
    """What another node went through, as far as it was heard."""

    at: float
    name: str
    phase: str
    role: str


class Approval(TypedDict):
    """A node that waits to be approved ``since`` then; ``id`` is the code that it shows."""

    id: str
    name: str
    address: str
    since: float


class Certificate(TypedDict):
    """``name`` is its file; ``renewal`` automatic or never."""

    name: str
    expires: float
    renewal: str


class Token(TypedDict):
    """A join token that was given out; ``name`` is the node it is for."""

    name: str
    expires: float


class Warned(TypedDict):
    """A finding of the doctor's about the hardware; ``level`` is warning or failure."""

    name: str
    level: str
    text: str
    remedy: str


class Status(TypedDict, total=False):
    """A status has every key (``empty``), a change of one some. What each means is said in
    ``status.schema.json``."""

    version: int
    phase: str
    since: float
    updated: float
    detail: str
    waiting: Waiting | None
    progress: Progress | None
    node_name: str
    node_id: str
    address: str
    page: str
    fleet: str
    role: str
    role_why: str
    control_plane: str
    kubernetes: str
    versions: dict[str, str]
    steps: list[StepState]
    phases: list[PhaseEntry]
    peers: list[Peer]
    timeline: list[Moment]
    approval: str
    approvals: list[Approval]
    certificates: list[Certificate]
    tokens: list[Token]
    hardware: list[Warned]
    error: Error | None
    last_error: LastError | None
    notes: list[str]
    pid: int
