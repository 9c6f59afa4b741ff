"""The election as a transition system: claim, vote and epoch, for any number of nodes.

One table, ``TRANSITIONS``, for two readers. ``proof`` reads it with z3's formulas and proves that
an invariant survives every step; ``trace`` reads it with sets, and checks that what the shipped
code did in whole simulated fleets are such steps. So a guard is written with ``&``, ``|`` and ``~``
alone, which both understand.

What is durable is the state; what was ever said stays said, since anybody may repeat it at any
time. So loss, delay, order, replay and restarts are in it, and time is not. An attacker with a
worker's card says whatever it likes for nodes that nobody vouches for (``forge``).

Taken for granted, as docs/election.md says: no more nodes are vouched for than ``electors`` says,
state files are not lost, and nobody takes a vote back by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nodeagent.fleet.beacon import EPOCH_MAX
from nodeagent.fleet.votes import EPOCH_END, EPOCH_STEP

Update = tuple[str, tuple[Any, ...], Any]  # what, of whom, to what


@dataclass(frozen=True)
class Transition:
    """A step: when it may be taken, and what changes. ``takes``: the kinds of its arguments."""

    name: str
    takes: str  # n: a node, e: an epoch, f: true or false
    guard: Callable[..., Any]
    updates: Callable[..., list[Update]]


def _claim(s: Any, n: Any, e: Any) -> Any:
    """It has neither claim nor vote; the epoch is new, and not far ahead."""
    return (
        s.vouched(n) & (s.claim(n) == 0) & s.no_vote(n)
        & (e > s.epoch(n)) & (e <= s.epoch(n) + EPOCH_STEP + 1) & (s.epoch(n) < EPOCH_END)
    )  # fmt: skip


def _vote(s: Any, v: Any, n: Any, e: Any) -> Any:
    """It has no vote and no claim; a node that is vouched for signed that it claims."""
    return s.no_vote(v) & (s.claim(v) == 0) & s.vouched(n) & s.said(n, e, True) & (v != n)


def _free(s: Any, v: Any, n: Any, e: Any, later: Any, claims: Any) -> Any:
    """Its claimant signed something newer than that claim."""
    over = (later > e) | ((later == e) & s.no(claims))
    return s.vote(v, n, e) & s.vouched(n) & s.said(n, later, claims) & over


def _lead(s: Any, n: Any, e: Any, _: Any) -> Any:
    """More than half of the electors signed that it has their vote for the claim that it has."""
    return s.vouched(n) & (e > 0) & (s.claim(n) == e) & s.elected(n, e)


def _tell(s: Any, n: Any, e: Any, claims: Any) -> Any:
    """A node says what it has on disk, no other word."""
    return s.vouched(n) & (s.epoch(n) == e) & s.same(claims, s.claim(n) != 0)


TRANSITIONS = (
    Transition(
        "claim", "ne", _claim, lambda n, e: [("claim", (n,), e), ("epoch", (n,), e)],
    ),
    Transition(
        "withdraw", "n", lambda s, n: s.claim(n) != 0,
        lambda n: [("claim", (n,), 0), ("leads", (n,), False)],
    ),
    Transition(  # power, or kubeadm's fault: its claim stands
        "stop", "n", lambda s, n: s.leads(n), lambda n: [("leads", (n,), False)],
    ),
    Transition("vote", "nne", _vote, lambda v, n, e: [("vote", (v, n, e), True)]),
    Transition(
        "free", "nneef", _free, lambda v, n, e, later, claims: [("vote", (v, n, e), False)],
    ),
    Transition("tell", "nef", _tell, lambda n, e, claims: [("said", (n, e, claims), True)]),
    Transition(
        "tell vote", "nne", lambda s, v, n, e: s.vouched(v) & s.vote(v, n, e),
        lambda v, n, e: [("said_vote", (v, n, e), True)],
    ),
    Transition(
        "lead", "neq", _lead, lambda n, e, q: [("leads", (n,), True), ("quorum", (n,), q)],
    ),
    Transition(
        "forge", "nef", lambda s, n, e, claims: ~s.vouched(n),
        lambda n, e, claims: [("said", (n, e, claims), True)],
    ),
    Transition(
        "forge vote", "nne", lambda s, v, n, e: ~s.vouched(v),
        lambda v, n, e: [("said_vote", (v, n, e), True)],
    ),
)  # fmt: skip
BY_NAME = {one.name: one for one in TRANSITIONS}

# What holds in every state that can be reached. Arguments are any nodes and epochs.
INVARIANTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "a claim is of the newest epoch": (
        "n", lambda s, n: (s.claim(n) == 0) | (s.claim(n) == s.epoch(n)),
    ),
    "epochs can be written and read": (
        "n", lambda s, n: (s.epoch(n) >= 0) & (s.epoch(n) <= EPOCH_MAX),
    ),
    "nothing is said of epochs to come": (
        "nef",
        lambda s, n, e, f: ~s.vouched(n) | ~s.said(n, e, f) | ((e >= 0) & (e <= s.epoch(n))),
    ),
    "what was said to be over is over": (
        "ne", lambda s, n, e: ~s.vouched(n) | ~s.said(n, e, False) | (s.claim(n) != e)
        | (s.claim(n) == 0),
    ),
    "one vote at a time": (
        "nnene", lambda s, v, n, e, m, d: ~s.vote(v, n, e) | ~s.vote(v, m, d)
        | ((n == m) & (e == d)),
    ),
    "no vote beside a claim": ("nne", lambda s, v, n, e: ~s.vote(v, n, e) | (s.claim(v) == 0)),
    "votes are for claims that were made": (
        "nne", lambda s, v, n, e: ~s.vote(v, n, e) | (s.vouched(n) & (e <= s.epoch(n))),
    ),
    "told votes are for claims that were made": (
        "nne", lambda s, v, n, e: ~s.vouched(v) | ~s.said_vote(v, n, e) | (e <= s.epoch(n)),
    ),
    "who told of a vote has it while the claim stands": (
        "nne", lambda s, v, n, e: ~s.vouched(v) | ~s.said_vote(v, n, e) | (s.claim(n) != e)
        | (e == 0) | s.vote(v, n, e),
    ),
    "a vote is for an epoch": ("nne", lambda s, v, n, e: ~s.vote(v, n, e) | (e >= 0)),
    "a leader claims": ("n", lambda s, n: ~s.leads(n) | (s.vouched(n) & (s.claim(n) > 0))),
    "a leader has the votes of more than half": (
        "nn", lambda s, n, m: ~s.leads(n) | ~s.counted(m, n) | (m == n)
        | s.vote(m, n, s.claim(n)),
    ),
}  # fmt: skip
SAFETY: tuple[str, Callable[..., Any]] = (
    "nn",
    lambda s, n, m: ~s.leads(n) | ~s.leads(m) | (n == m),
)
