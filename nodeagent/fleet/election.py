"""Election: the pure function from beacons and time to a decision. No I/O, no clock of its own.

Hearing nobody is no proof of being alone, and two leaders are worse than none: a node claims
only after it heard itself and listened, then waits for objections, looks again, and only then
leads. A claim stands in everyone's way until it is withdrawn or goes stale; of two claimants the
worse one withdraws. What stays open is bounded by ``patience``, so that no silent better node
holds the fleet up for ever.

Where the number of nodes is known, time decides nothing: a claimant leads only with the votes of
more than half of them (``votes.py``). A node votes for one claim at a time, remembers that durably
before it says so, and takes the vote back only when the claimant itself has withdrawn that claim
for good. Two majorities share a node, so there are never two leaders, whatever is lost, late or
cut off: the argument of Paxos ("The Part-Time Parliament", L. Lamport 1998) for a single decree.
``tests/model`` proves it.

A node counts for what its key is worth. Who leads, claims, votes or is to be waited for is heard
only of those that the control-plane issuer vouches for, and numbers go by node: whoever has a
worker's card can make any number of nodes, and say anything of anybody. The word of such nodes
holds a node up for ``PATIENCE_WITH_ANY`` seconds at most, and one that a person pinned not at all;
but where one of them says that it is in a cluster, that of a person is awaited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.fleet.beacon import Beacon, Proof
from nodeagent.fleet.sight import (
    CONTROL_PLANE,
    GONE,
    STALE,
    WORKER,
    Heard,
    View,
    fit,
    fresh,
    gives_grants,
    is_heeded,
    leads,
    rank,
)
from nodeagent.fleet.votes import EPOCH_END, EPOCH_STEP, electors, expected_nodes, given


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
    heeded = [h for h in peers if is_heeded(view, h, now)]
    leaders = [h for h in peers if h.proof >= Proof.TLS and gives_grants(h.beacon)]
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
    if view.me.epoch >= EPOCH_END:
        return _wait(
            view,
            now,
            "This node has claimed to lead too often for its counter. `sudo nodeagent reset"
            " --identity` makes it a new node.",
        )
    silent = [
        h
        for h in view.heard
        if STALE <= now - h.last < GONE and leads(h.beacon) and is_heeded(view, h, now)
    ]
    if silent:
        return _wait(
            view,
            now,
            f"{_name(silent[0])} led this fleet and has been silent for"
            f" {now - silent[0].last:.0f} s; it has {GONE:.0f} s to come back.",
        )
    told = _told(view, heeded)
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
            f"{_name(members[0])} says that it is in a cluster already, whose control plane is not"
            " in sight. If there is none any more, `sudo nodeagent role --control-plane` here makes"
            " a new one.",
        )
    better = _in_the_way(view, heeded, now)
    if better is not None:
        return _wait(view, now, f"{_name(better)} is better placed to lead; it has the first say.")
    claimants = [h for h in heeded if h.beacon.claim]
    if view.claimed is not None:
        return _claimed(view, view.claimed, peers, claimants, now)
    claims = [(h.beacon.node_id, h.beacon.epoch) for h in claimants]
    if view.vote and view.vote not in claims and expected_nodes(view, peers) is not None:
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


def _told(view: View, peers: list[Heard]) -> Heard | None:
    """A node that knows a leader which this node does not hear."""
    leaders = {h.beacon.leader for h in peers} - {view.me.node_id, ""}
    if not leaders:
        return None
    leaders -= {h.beacon.node_id for h in peers}
    return next((h for h in peers if h.beacon.leader in leaders), None)


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
    expected = expected_nodes(view, peers)
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
    epoch = 1 + max(view.me.epoch, *(_epoch_in_step(view.me, h) for h in view.heard), 0)
    return Claim(epoch, f"{reason} and claims to lead (epoch {epoch}).")


def _epoch_in_step(mine: Beacon, heard: Heard) -> int:
    """The epoch that another node knows, as far as this one follows it: so who claims later has
    the greater one (``rivals.judge``), and nobody drives the numbers of others up."""
    if heard.proof is not Proof.ISSUER:
        return 0
    known = max(heard.beacon.epoch, heard.beacon.vote_epoch)
    return known if known <= mine.epoch + EPOCH_STEP else 0


def _claimed(
    view: View, claimed: tuple[int, float], peers: list[Heard], rivals: list[Heard], now: float
) -> Decision:
    epoch, since = claimed
    if rivals:
        # All of them rank lower (a better one is in the way before), so they will withdraw, or
        # they lead already, and are then joined once they are ready.
        return Wait(now + view.timing.hold_down, f"{_name(rivals[0])} claims to lead as well.")
    expected = expected_nodes(view, peers)
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
    votes, of = given(view, epoch), electors(view, peers)
    if of is not None and 2 * votes <= of:
        why = f"{votes} of {of} nodes that may lead gave this node their vote; more than half"
        why += " are needed. A board whose card may not lead has none: where fewer may than are"
        why += " expected, take `expected_nodes` out of the settings of the one that shall lead."
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
        and is_heeded(view, h, now)
        and h.beacon.node_id != view.me.node_id
        and h.beacon.role != WORKER
        and (h.beacon.claim or rank(h.beacon) > mine)
    ]
    return max([view.since, *gone])


def _wait(view: View, now: float, why: str) -> Wait:
    """Wait without a date; a claim already made is taken back."""
    return Wait(now + view.timing.hold_down, why, withdraw=view.claimed is not None)


def _voted_name(view: View) -> str:
    assert view.vote is not None
    named = [_name(h) for h in view.heard if h.beacon.node_id == view.vote[0]]
    return named[0] if named else view.vote[0]


def _name(heard: Heard) -> str:
    return f"{heard.beacon.name} ({heard.beacon.node_id})"
