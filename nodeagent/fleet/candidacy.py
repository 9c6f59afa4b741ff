"""A node's own part in the election: its claim and its vote, each durable before it is told.

The pure election says what to do; here it is remembered. No thread, no file, no clock: it is
driven by the announcer with the state file, by the simulator with one that loses power.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypedDict, Unpack

from nodeagent.fleet.beacon import EPOCH_MAX, Beacon
from nodeagent.fleet.election import Claim, Decision, Join, Lead, Wait, decide
from nodeagent.fleet.sight import CONTROL_PLANE, WORKER, View
from nodeagent.fleet.votes import EPOCH_END, ballot
from nodeagent.statefile import State

# Seconds after which an unchanged beacon is sealed anew. A beacon is lost now and then, and 60 s
# make it stale.
RENEW, SLOWEST_RENEW = 5.0, 20.0
TICK = 1.0  # seconds between looks while the fleet forms
CALM_TICK = 3.0  # before the election and after it, while kubeadm needs the processor
LONG = 60.0  # seconds after which an election without an own claim waits for another board's work
HEALED_EPOCH = 2**20  # beyond all that were ever used in earnest
CROWD = 64  # nodes; more than that renew less often, so that the air carries as much as of these


class Memory(Protocol):
    """What is left of a journal here; ``set`` is durable when it returns, None removes."""

    @property
    def values(self) -> State: ...
    def set(self, **values: Unpack[State]) -> None: ...
    def note(self, event: str, **details: object) -> None: ...


def renewal(nodes: int, formed: bool, claims: bool) -> float:
    """Seconds between two announcements of the same, in a fleet of so many nodes in sight.

    A claim makes all others speak at once, and so is itself lost on many of them: it is renewed
    as often as in a small fleet.
    """
    if formed:
        return SLOWEST_RENEW
    if claims:
        return RENEW
    return min(max(RENEW, RENEW * nodes / CROWD), SLOWEST_RENEW)


def said_at_once(mine: Beacon) -> tuple[object, ...]:
    """What of a beacon does not wait for the next renewal."""
    return (
        mine.name, mine.phase, mine.role, mine.claim, mine.epoch, mine.ready, mine.address,
        mine.leader, mine.vote, mine.vote_epoch,
    )  # fmt: skip


class Standing(TypedDict):
    """The fields of a beacon that the journal has its word in."""

    role: str
    epoch: int
    claim: bool
    vote: str
    vote_epoch: int


class Candidacy:
    """Read ``decision``; ``since`` is when this node began to take part, None before."""

    def __init__(self, state_file: Memory) -> None:
        """Raises OSError."""
        self.decision: Decision = Wait(0.0, "The node is being prepared.")
        self.since: float | None = None
        self._journal = state_file
        self._claimed_at = 0.0
        changes = healed(state_file.values)
        if changes:
            state_file.set(**changes)
            state_file.note("epoch out of step", why="a forged announcement drove it up")

    def elect(self, now: float) -> None:
        """From ``now`` on this node takes part; a claim of an earlier boot counts from now."""
        self.since = self._claimed_at = now

    def tick(self, now: float) -> float:
        """Seconds until the next look: seconds count while nodes claim and object, later none do,
        and each look takes from a small board what its work needs."""
        if self.since is None or isinstance(self.decision, Lead | Join):
            return CALM_TICK
        return CALM_TICK if self.claim is None and now - self.since > LONG else TICK

    @property
    def claim(self) -> tuple[int, float] | None:
        """For ``View.claimed``."""
        claim = self._journal.values["claim"]
        return (claim["epoch"], self._claimed_at) if claim else None

    @property
    def vote(self) -> tuple[str, int] | None:
        """For ``View.vote``."""
        vote = self._journal.values["vote"]
        return (vote["node"], vote["epoch"]) if vote else None

    def standing(self, wish: str, may_lead: bool) -> Standing:
        """For ``Beacon``, where the settings wish for the role ``wish``."""
        claim, vote = self.claim, self.vote
        role = self._journal.values["role"] or wish
        if isinstance(self.decision, Lead):
            role = CONTROL_PLANE
        if not may_lead:
            role = WORKER  # others must not wait for it as the better one
        return {
            "role": role,
            "epoch": min(claim[0] if claim else self._journal.values["epoch"] or 0, EPOCH_MAX),
            "claim": claim is not None,
            "vote": vote[0] if vote else "",
            "vote_epoch": min(vote[1], EPOCH_MAX) if vote else 0,
        }

    def consider(self, view: View, now: float) -> None:
        """Decide anew, and record what follows from it. Raises OSError; nothing is told then.

        ``view`` has this candidacy's ``claim`` and ``vote``.
        """
        if self.since is not None:
            self._decide(view, now)
        claim = self.claim
        vote = ballot(view if claim == view.claimed else replace(view, claimed=claim), now)
        if vote != view.vote:
            self._journal.set(vote={"node": vote[0], "epoch": vote[1]} if vote else None)

    def free_vote(self) -> None:
        """Take the vote back because a person said so. Raises OSError."""
        if self._journal.values["vote"]:
            self._journal.set(vote=None)
            self._journal.note("vote taken back")

    def _decide(self, view: View, now: float) -> None:
        decision = decide(view, now)
        if isinstance(decision, Claim):
            self._claimed_at = now
            self._journal.set(claim={"epoch": decision.epoch}, epoch=decision.epoch)
            self._journal.note("claim", epoch=decision.epoch, why=decision.why)
        elif view.claimed is not None and _withdraws(decision):
            self._journal.set(claim=None)
            self._journal.note("withdrawn", why=decision.why)
        self.decision = decision


def healed(values: State) -> State:
    """What is to change in a state file whose epoch was driven up: nodes of 0.2.0 followed any
    beacon, and one beyond the format's end made each lead alone, since nobody read its claim.

    A claim with such an epoch is given up before this version signs anything, so whoever voted for
    it may take the vote back (``election.ballot``). The new epoch is one that this node never used:
    only forged numbers are greater. Of a node that leads a cluster nothing is changed.
    """
    if values["role"] == CONTROL_PLANE or (values["epoch"] or 0) < EPOCH_END:
        return {}
    return {"epoch": HEALED_EPOCH, "claim": None}


def _withdraws(decision: Decision) -> bool:
    return isinstance(decision, Join) or (isinstance(decision, Wait) and decision.withdraw)
