"""What a node knows of the others, and whose word counts for what. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.fleet.beacon import Beacon, Proof

STALE = 60.0  # seconds; a beacon not renewed for so long speaks for nobody
# Seconds for which a silent leader still counts: it may only have lost power, and comes back with
# its cluster. After that its board is taken for dead, and others may lead.
GONE = 600.0
# Seconds from the start for which a word that nothing proves is heeded: as long as a control plane
# of 0.2.0, which signs nothing, takes until it can be asked over TLS.
PATIENCE_WITH_ANY = 600.0
CONTROL_PLANE, WORKER = "control-plane", "worker"


@dataclass(frozen=True)
class Heard:
    """A node's newest beacon, when the node was first heard and when this beacon came; what proves
    it, and the address that it came from."""

    beacon: Beacon
    first: float
    last: float
    proof: Proof = Proof.NONE
    source: str = ""


@dataclass(frozen=True)
class Timing:
    """Bounds in seconds: ``settings.timing``."""

    listen: float
    hold_down: float
    solo_wait: float


@dataclass(frozen=True)
class View:
    """What a node knows. All times are seconds of one clock that never jumps.

    ``pinned`` is the role in the settings, ``since`` when this node began to take part,
    ``own_heard`` when its own beacon last came back, ``claimed`` (epoch, when) its claim,
    ``vote`` (node id, epoch) the claim of another that has its vote. ``electors``: how many
    boards of the fleet may lead, and so vote; None where no more is known than
    ``expected_nodes``.
    """

    me: Beacon
    pinned: str
    may_lead: bool
    since: float
    own_heard: float | None
    heard: tuple[Heard, ...]
    expected_nodes: int | None
    timing: Timing
    claimed: tuple[int, float] | None = None
    vote: tuple[str, int] | None = None
    electors: int | None = None


def fresh(view: View, now: float) -> list[Heard]:
    """The other nodes that were heard lately, each once, by its newest beacon; by one that is
    proved, where another one is not."""
    newest: dict[str, Heard] = {}
    for heard in view.heard:
        if now - heard.last < STALE:
            other = newest.setdefault(heard.beacon.node_id, heard)
            if _weight(other) <= _weight(heard):
                newest[heard.beacon.node_id] = heard
    newest.pop(view.me.node_id, None)
    return [newest[node_id] for node_id in sorted(newest)]


def rank(beacon: Beacon) -> tuple[object, ...]:
    """Greater is better: explicit intent, then fitness, then the node id. Never an address."""
    return (beacon.role == CONTROL_PLANE, beacon.fitness, beacon.node_id)


def fit(beacon: Beacon) -> bool:
    """True for a board that kubeadm lets be a control plane: the first part of the fitness."""
    return beacon.fitness[:1] != (0,)


def _weight(heard: Heard) -> tuple[Proof, float, int]:
    return heard.proof, heard.last, heard.beacon.seq


def is_heeded(view: View, heard: Heard, now: float) -> bool:
    """True where the word of this node may hold this one up."""
    if heard.proof >= Proof.TLS:
        return True
    return view.pinned != CONTROL_PLANE and now - view.since < PATIENCE_WITH_ANY


def known_leader(heard: Iterable[Heard], now: float) -> str:
    """For ``Beacon.leader``: whom this node itself heard lead or claim, "" for nobody.

    So a leader that only some hear, or that lost power a moment ago, is not unknown to the rest.
    """
    known = [
        h
        for h in heard
        if h.beacon.claim
        and h.proof >= Proof.TLS
        and now - h.last < (GONE if leads(h.beacon) else STALE)
    ]
    best = max(known, key=lambda h: (leads(h.beacon), rank(h.beacon)), default=None)
    return best.beacon.node_id if best else ""


def gives_grants(beacon: Beacon) -> bool:
    """True for a control plane that says that others may join."""
    return beacon.ready and beacon.role == CONTROL_PLANE


def leads(beacon: Beacon) -> bool:
    """True for a node that has decided to lead, whether its cluster is ready or not."""
    return beacon.role == CONTROL_PLANE and beacon.claim
