"""Votes: for whom a node votes, and how many a claimant needs. Pure.

Only the votes of nodes that the control-plane issuer vouches for count: with a worker's card
anybody makes as many nodes as he likes.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.fleet.beacon import EPOCH_MAX, Proof
from nodeagent.fleet.sight import Heard, View, fresh, rank

EPOCH_STEP = 64  # how far ahead of its own a node follows the epochs of others
EPOCH_END = EPOCH_MAX // 2  # no claim beyond it; by steps nobody ever comes there


def ballot(view: View, now: float) -> tuple[str, int] | None:
    """The claim that has this node's vote from now on, as (node id, epoch); None for no vote.

    To be recorded durably before it is told. A vote is never moved away from a claim that may
    still win: only its claimant, by an announcement that it signed and that is newer than the
    claim, sets it free.
    """
    vouched = [h for h in view.heard if h.proof is Proof.ISSUER]
    if view.vote is not None:
        node_id, epoch = view.vote
        voted = next((h.beacon for h in vouched if h.beacon.node_id == node_id), None)
        if voted is None or (voted.claim and voted.epoch == epoch):
            return view.vote
        # An epoch beyond all is of a claim under 0.2.0, and its node has given that up before it
        # signed anything: ``candidacy.healed``.
        if voted.epoch < epoch < EPOCH_END:
            return view.vote
        if voted.claim:
            return (node_id, voted.epoch)  # it claims anew, so the earlier claim is over
    if view.claimed is not None or not any(h.beacon.claim for h in vouched):
        return None
    peers = fresh(view, now)
    if expected_nodes(view, peers) is None:
        return None
    claimants = [h.beacon for h in peers if h.beacon.claim and h.proof is Proof.ISSUER]
    best = max(claimants, key=rank, default=None)
    return (best.node_id, best.epoch) if best else None


def given(view: View, epoch: int) -> int:
    """The votes for this node's claim with ``epoch``, its own among them."""
    mine = (view.me.node_id, epoch)
    return 1 + sum(
        h.proof is Proof.ISSUER and (h.beacon.vote, h.beacon.vote_epoch) == mine for h in view.heard
    )


def expected_nodes(view: View, peers: Iterable[Heard]) -> int | None:
    """How many nodes the fleet is to have: this node's setting, else the most others say."""
    if view.expected_nodes is not None:
        return view.expected_nodes
    said = (h.beacon.expected for h in peers if h.proof is Proof.ISSUER)
    return max(said, default=0) or None


def electors(view: View, peers: Iterable[Heard]) -> int | None:
    """How many nodes vote, None where time decides: as many as may lead by what the card says, but
    no fewer than are in sight; else all that are expected."""
    expected = expected_nodes(view, peers)
    if expected is None or view.electors is None:
        return expected
    return max(view.electors, 1 + sum(h.proof is Proof.ISSUER for h in peers))
