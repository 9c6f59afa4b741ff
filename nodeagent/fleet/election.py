"""Election: the pure function from beacons and time to a decision. No I/O, no clock of its own.

Hearing nobody is no proof of being alone, and two leaders are worse than none: a node claims
only after it heard itself and listened, then waits for objections, looks again, and only then
leads. A claim stands in everyone's way until it is withdrawn or goes stale; of two claimants the
worse one withdraws. What stays open is bounded by ``patience``, so that no silent better node
holds the fleet up for ever.

Where the number of nodes is known, time decides nothing: a claimant leads only with the votes of
more than half of them (``ballot``). A node votes for one claim at a time, remembers that durably
before it says so, and takes the vote back only when the claimant itself has withdrawn that claim
for good. Two majorities share a node, so there are never two leaders, whatever is lost, late or
cut off: the argument of Paxos ("The Part-Time Parliament", L. Lamport 1998) for a single decree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.fleet.beacon import Beacon

STALE = 60.0  # seconds; a beacon not renewed for so long speaks for nobody
# Seconds for which a silent leader still counts: it may only have lost power, and comes back with
# its cluster. After that its board is taken for dead, and others may lead.
GONE = 600.0
CONTROL_PLANE, WORKER = "control-plane", "worker"


@dataclass(frozen=True)
class Heard:
    """A node's newest beacon, when the node was first heard and when this beacon came."""

    beacon: Beacon
    first: float
    last: float


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
    ``vote`` (node id, epoch) the claim of another that has its vote.
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


@dataclass(frozen=True)
class Wait:
    """Not yet; look again at ``until`` even if nothing is heard. ``withdraw``: take the claim
    back."""

    until: float
    why: str
    withdraw: bool = False


@dataclass(frozen=True)
class Claim:
    """Record the claim durably, then announce it."""

    epoch: int
    why: str


@dataclass(frozen=True)
class Lead:
    """Nobody objected: make the control plane."""

    why: str


@dataclass(frozen=True)
class Join:
    """A control plane is ready to be joined; a claim of one's own is taken back."""

    why: str


Decision = Wait | Claim | Lead | Join


def decide(view: View, now: float) -> Decision:
    """What to be, as far as can be said now."""
    peers = fresh(view, now)
    leaders = [h for h in peers if h.beacon.ready and h.beacon.role == CONTROL_PLANE]
    if leaders and view.pinned != CONTROL_PLANE:
        newest = max(leaders, key=lambda h: (h.beacon.epoch, rank(h.beacon)))
        return Join(f"{_name(newest)} is the control plane.")
    if leaders:
        return _wait(
            view,
            now,
            f"This node is pinned to control-plane, but {_name(leaders[0])} already "
            "leads this fleet; `nodeagent role --auto` lets this node join it.",
        )
    if view.pinned == WORKER:
        return _wait(view, now, "This node is a worker; no control plane is in sight yet.")
    if not view.may_lead:
        return _wait(view, now, "This card may not lead; no control plane is in sight yet.")
    if not fit(view.me) and view.pinned != CONTROL_PLANE:
        return _wait(
            view,
            now,
            "This board is too small to lead (2 CPUs and 1700 MiB of memory are needed); no"
            " control plane is in sight yet.",
        )
    silent = [h for h in view.heard if STALE <= now - h.last < GONE and _leads(h.beacon)]
    if silent:
        return _wait(
            view,
            now,
            f"{_name(silent[0])} led this fleet and has been silent for"
            f" {now - silent[0].last:.0f} s; it has {GONE:.0f} s to come back.",
        )
    told = _told(view, peers)
    if told is not None:
        return _wait(
            view,
            now,
            f"{_name(told)} knows {told.beacon.leader} to lead, which is not in sight from here.",
        )
    members = [h for h in peers if h.beacon.role == WORKER and h.beacon.phase == "ready"]
    if members and view.pinned != CONTROL_PLANE:
        return _wait(
            view,
            now,
            f"{_name(members[0])} is in a cluster already, whose control plane is not in sight.",
        )
    better = _in_the_way(view, peers, now)
    if better is not None:
        return _wait(view, now, f"{_name(better)} is better placed to lead; it has the first say.")
    claimants = [h for h in peers if h.beacon.claim]
    if view.claimed is not None:
        return _claimed(view, view.claimed, peers, claimants, now)
    voted = view.vote and view.vote not in [(h.beacon.node_id, h.beacon.epoch) for h in claimants]
    if voted and _expected(view, peers) is not None:
        return _wait(
            view,
            now,
            f"{_voted_name(view)} has this node's vote, and its claim is not heard. Switch it on;"
            " if it is gone for good, `sudo nodeagent role --auto` on this node takes the vote"
            " back.",
        )
    if claimants:
        failed = claimants[0].beacon.phase == "failed"
        trouble = ", but is in trouble; see its status" if failed else ""
        return _wait(view, now, f"{_name(claimants[0])} claims to lead{trouble}.")
    return _unclaimed(view, peers, now)


def ballot(view: View, now: float) -> tuple[str, int] | None:
    """The claim that has this node's vote from now on, as (node id, epoch); None for no vote.

    To be recorded durably before it is told. A vote is never moved away from a claim that may
    still win: only its claimant, by an announcement that is newer than the claim, sets it free.
    """
    if view.vote is not None:
        node_id, epoch = view.vote
        voted = next((h.beacon for h in view.heard if h.beacon.node_id == node_id), None)
        if voted is None or voted.epoch < epoch or (voted.claim and voted.epoch == epoch):
            return view.vote
        if voted.claim:
            return (node_id, voted.epoch)  # it claims anew, so the earlier claim is over
    if view.claimed is not None or not any(h.beacon.claim for h in view.heard):
        return None
    peers = fresh(view, now)
    if _expected(view, peers) is None:
        return None
    claimants = [h.beacon for h in peers if h.beacon.claim]
    best = max(claimants, key=rank, default=None)
    return (best.node_id, best.epoch) if best else None


def fresh(view: View, now: float) -> list[Heard]:
    """The other nodes that were heard lately, each once, by its newest beacon."""
    newest: dict[str, Heard] = {}
    for heard in view.heard:
        if now - heard.last < STALE:
            other = newest.setdefault(heard.beacon.node_id, heard)
            if (other.last, other.beacon.seq) <= (heard.last, heard.beacon.seq):
                newest[heard.beacon.node_id] = heard
    newest.pop(view.me.node_id, None)
    return [newest[node_id] for node_id in sorted(newest)]


def rank(beacon: Beacon) -> tuple[object, ...]:
    """Greater is better: explicit intent, then fitness, then the node id. Never an address."""
    return (beacon.role == CONTROL_PLANE, beacon.fitness, beacon.node_id)


def fit(beacon: Beacon) -> bool:
    """True for a board that kubeadm lets be a control plane: the first part of the fitness."""
    return beacon.fitness[:1] != (0,)


def known_leader(heard: Iterable[Heard], now: float) -> str:
    """For ``Beacon.leader``: whom this node itself heard lead or claim, "" for nobody.

    So a leader that only some hear, or that lost power a moment ago, is not unknown to the rest.
    """
    known = [
        h for h in heard if h.beacon.claim and now - h.last < (GONE if _leads(h.beacon) else STALE)
    ]
    best = max(known, key=lambda h: (_leads(h.beacon), rank(h.beacon)), default=None)
    return best.beacon.node_id if best else ""


def _told(view: View, peers: list[Heard]) -> Heard | None:
    """A node that knows a leader which this node does not hear."""
    leaders = {h.beacon.leader for h in peers} - {view.me.node_id, ""}
    if not leaders:
        return None
    leaders -= {h.beacon.node_id for h in peers}
    return next((h for h in peers if h.beacon.leader in leaders), None)


def _leads(beacon: Beacon) -> bool:
    """True for a node that has decided to lead, whether its cluster is ready or not."""
    return beacon.role == CONTROL_PLANE and beacon.claim


def _in_the_way(view: View, peers: Iterable[Heard], now: float) -> Heard | None:
    """The best node that ranks above this one and may still speak up."""
    patience = view.timing.listen + view.timing.hold_down + view.timing.solo_wait
    best, highest = None, rank(view.me)
    for h in peers:
        if h.beacon.role == WORKER or h.beacon.phase == "failed":
            continue
        if h.beacon.claim or now - max(h.first, view.since) < patience:
            its = rank(h.beacon)
            if its > highest:
                best, highest = h, its
    return best


def _unclaimed(view: View, peers: list[Heard], now: float) -> Decision:
    timing, pinned = view.timing, view.pinned == CONTROL_PLANE
    expected = _expected(view, peers)
    seen = len(peers) + 1
    free = _free_since(view, now)
    if pinned:
        due, reason = free + timing.hold_down, "This node is pinned to control-plane"
    else:
        if view.own_heard is None or now - view.own_heard >= STALE:
            return _wait(
                view,
                now,
                "This node has not heard its own announcement come back: multicast "
                "does not work on its network, or there is none.",
            )
        if expected is not None and 2 * seen <= expected:
            return _wait(
                view,
                now,
                f"{seen} of {expected} expected nodes are in sight; more than half are needed.",
            )
        listened = _listened(view, peers, expected)
        if expected is None and not peers:
            listened = max(listened, view.since + timing.solo_wait)
        due = max(listened, free + timing.hold_down)
        reason = "This node is the best in sight" if peers else "This node is alone"
    if now < due:
        return Wait(due, f"{reason}; it waits {due - now:.0f} s more for others to speak up.")
    epoch = 1 + max(
        view.me.epoch, *(max(h.beacon.epoch, h.beacon.vote_epoch) for h in view.heard), 0
    )
    return Claim(epoch, f"{reason} and claims to lead (epoch {epoch}).")


def _claimed(
    view: View, claimed: tuple[int, float], peers: list[Heard], rivals: list[Heard], now: float
) -> Decision:
    epoch, since = claimed
    if rivals:
        # All of them rank lower (a better one is in the way before), so they will withdraw, or
        # they lead already, and are then joined once they are ready.
        return Wait(now + view.timing.hold_down, f"{_name(rivals[0])} claims to lead as well.")
    expected = _expected(view, peers)
    if view.pinned != CONTROL_PLANE:
        if view.own_heard is None or view.own_heard < since:
            return Wait(
                now + view.timing.hold_down, "This node's claim has not come back to it yet."
            )
        if expected is not None and 2 * (len(peers) + 1) <= expected:
            return _wait(
                view,
                now,
                f"{len(peers) + 1} of {expected} expected nodes are in sight; more "
                "than half are needed.",
            )
    due = max(since, _free_since(view, now)) + view.timing.hold_down
    if view.pinned != CONTROL_PLANE:
        due = max(due, _listened(view, peers, expected))  # a claim may be older than this boot
    if now < due:
        return Wait(due, f"This node claims to lead; {due - now:.0f} s are left to object.")
    votes = 1 + sum(
        (h.beacon.vote, h.beacon.vote_epoch) == (view.me.node_id, epoch) for h in view.heard
    )
    if expected is not None and 2 * votes <= expected:
        why = f"{votes} of {expected} expected nodes gave this node their vote; more than half are"
        why += " needed."
        if view.own_heard is None or now - view.own_heard >= STALE:
            # Only a pinned node claims without it, and votes do not reach it either.
            why += (
                " Its own announcement does not come back, so multicast does not work here: to let"
                " it lead without votes, take `expected_nodes` out of this board's settings."
            )
        return Wait(now + view.timing.hold_down, why)
    return Lead(f"Nobody objected to this node's claim (epoch {epoch}).")


def _listened(view: View, peers: list[Heard], expected: int | None) -> float:
    """When this node will have listened for long enough."""
    listened = view.since + view.timing.listen
    if expected is not None and len(peers) + 1 >= expected:
        # Safe to shorten: the window is there for nodes not heard yet, and all were heard.
        listened = min(listened, max([view.since, *(h.first for h in peers)]))
    return listened


def _free_since(view: View, now: float) -> float:
    """Since when no better node or claimant was in sight: when the last one went stale."""
    mine = rank(view.me)
    gone = [
        h.last + STALE
        for h in view.heard
        if h.last + STALE <= now
        and h.beacon.node_id != view.me.node_id
        and h.beacon.role != WORKER
        and (h.beacon.claim or rank(h.beacon) > mine)
    ]
    return max([view.since, *gone])


def _expected(view: View, peers: Iterable[Heard]) -> int | None:
    """How many nodes the fleet is to have: this node's setting, else the most others say."""
    if view.expected_nodes is not None:
        return view.expected_nodes
    return max((h.beacon.expected for h in peers), default=0) or None


def _wait(view: View, now: float, why: str) -> Wait:
    """Wait without a date; a claim already made is taken back."""
    return Wait(now + view.timing.hold_down, why, withdraw=view.claimed is not None)


def _voted_name(view: View) -> str:
    assert view.vote is not None
    named = [_name(h) for h in view.heard if h.beacon.node_id == view.vote[0]]
    return named[0] if named else view.vote[0]


def _name(heard: Heard) -> str:
    return f"{heard.beacon.name} ({heard.beacon.node_id})"
