"""The proof, with z3: the invariant holds at first, every step keeps it, and it leaves no room for
two leaders. Nodes are an uninterpreted sort, so it is for any number of them.

A majority is a set of an uninterpreted sort too, of which is known only that all in it are vouched
for and that two of them share a node: ``majorities_share_a_node`` proves that by counting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import z3  # type: ignore[import-untyped]

from tests.model.protocol import INVARIANTS, SAFETY, TRANSITIONS, Transition, Update

SECONDS = 20  # for one question
NODE, QUORUM = z3.DeclareSort("Node"), z3.DeclareSort("Quorum")
SORTS = {"n": NODE, "e": z3.IntSort(), "f": z3.BoolSort(), "q": QUORUM}
# What changes: name -> kinds of its arguments and of its value.
CHANGES = {
    "claim": "ne", "epoch": "ne", "leads": "nf", "quorum": "nq", "vote": "nnef", "said": "neff",
    "said_vote": "nnef",
}  # fmt: skip
VOUCHED = z3.Function("vouched", NODE, z3.BoolSort())
IN = z3.Function("in", NODE, QUORUM, z3.BoolSort())
SHARED = z3.Function("shared", QUORUM, QUORUM, NODE)


class State:
    """A state as formulas; ``updates`` lays point changes over another one."""

    def __init__(self, name: str = "", before: State | None = None,
                 updates: Sequence[Update] = ()) -> None:  # fmt: skip
        self._name, self._before, self._updates = name, before, updates

    def _of(self, what: str, *args: Any) -> Any:
        if self._before is None:
            kinds = CHANGES[what]
            symbol = z3.Function(f"{what}{self._name}", *(SORTS[kind] for kind in kinds))
            return symbol(*args)
        found = self._before._of(what, *args)
        for name, of, value in self._updates:
            if name == what:
                same = z3.And(*(a == b for a, b in zip(args, of, strict=True)))
                found = z3.If(same, value, found)
        return found

    def __getattr__(self, what: str) -> Callable[..., Any]:
        if what not in CHANGES:
            raise AttributeError(what)
        return lambda *args: self._of(what, *args)

    def vouched(self, n: Any) -> Any:
        """The control-plane issuer vouches for it."""
        return VOUCHED(n)

    def no(self, flag: Any) -> Any:
        """It is false."""
        return z3.Not(flag)

    def same(self, one: Any, other: Any) -> Any:
        """Both are true, or neither."""
        return one == other

    def no_vote(self, v: Any) -> Any:
        """It has given none."""
        n, e = z3.Const("any_n", NODE), z3.Int("any_e")
        return z3.ForAll([n, e], z3.Not(self._of("vote", v, n, e)))

    def elected(self, n: Any, e: Any) -> Any:
        """All of a majority told of their vote."""
        m, q = z3.Const("any_m", NODE), ELECTED_BY
        told = z3.Or(m == n, self._of("said_vote", m, n, e))
        return z3.ForAll([m], z3.Implies(IN(m, q), told))

    def counted(self, m: Any, n: Any) -> Any:
        """It is of the majority that elected ``n``."""
        return IN(m, self._of("quorum", n))


ELECTED_BY = z3.Const("elected_by", QUORUM)


def _any(kinds: str, tag: str) -> list[Any]:
    made = [z3.Const(f"{tag}{number}", SORTS[kind]) for number, kind in enumerate(kinds)]
    return [ELECTED_BY if kind == "q" else one for kind, one in zip(kinds, made, strict=True)]


def _all(state: State, without: Sequence[str] = ()) -> list[Any]:
    found = []
    for name, (kinds, holds) in INVARIANTS.items():
        if name not in without:
            bound = _any(kinds, "x")
            found.append(z3.ForAll(bound, holds(state, *bound)))
    return found


def majorities(electing: bool = True) -> list[Any]:
    """What is known of majorities. ``electing`` False: anybody may be in one."""
    one, other, n = z3.Const("q1", QUORUM), z3.Const("q2", QUORUM), z3.Const("n0", NODE)
    shared = SHARED(one, other)
    both = z3.And(IN(shared, one), IN(shared, other))
    known = [z3.ForAll([one, other], both)]
    if electing:
        known.append(z3.ForAll([n, one], z3.Implies(IN(n, one), VOUCHED(n))))
    return known


def holds(assumed: Sequence[Any], claimed: Any) -> bool:
    """True where z3 proves it; what it does not decide in time is not proved."""
    solver = z3.Solver()
    solver.set("timeout", SECONDS * 1000)
    solver.add(*assumed, z3.Not(claimed))
    return bool(solver.check() == z3.unsat)


def first_holds() -> list[str]:
    """Invariants that do not hold at first, where nobody has claimed, voted or said anything."""
    state, bad = State("0"), []
    n, m, e, f = z3.Const("n", NODE), z3.Const("m", NODE), z3.Int("e"), z3.Bool("f")
    at_first = [
        z3.ForAll([n], z3.And(state.claim(n) == 0, state.epoch(n) == 0, z3.Not(state.leads(n)))),
        z3.ForAll([n, m, e], z3.Not(z3.Or(state.vote(n, m, e), state.said_vote(n, m, e)))),
        z3.ForAll([n, e, f], z3.Not(state.said(n, e, f))),
    ]
    for name, (kinds, invariant) in INVARIANTS.items():
        if not holds(at_first, invariant(state, *_any(kinds, "x"))):
            bad.append(name)
    return bad


def broken_by(step: Transition, known: Sequence[Any]) -> list[str]:
    """The invariants that this step does not keep."""
    before = State()
    arguments = _any(step.takes, "a")
    after = State(before=before, updates=step.updates(*arguments))
    assumed = [*known, *_all(before), step.guard(before, *arguments)]
    return [
        name
        for name, (kinds, invariant) in INVARIANTS.items()
        if not holds(assumed, invariant(after, *_any(kinds, "y")))
    ]


def never(step: Transition) -> bool:
    """True where the guard can hold in no state."""
    return holds(majorities(), z3.Not(step.guard(State(), *_any(step.takes, "a"))))


def safe(known: Sequence[Any]) -> bool:
    """True where the invariant leaves no room for two leaders."""
    state, (kinds, one_leader) = State(), SAFETY
    return holds([*known, *_all(state)], one_leader(state, *_any(kinds, "y")))


def faults(steps: Sequence[Transition] = TRANSITIONS, electing: bool = True,
           sharing: bool = True) -> list[str]:  # fmt: skip
    """All that stands in the way of the proof; empty where it holds."""
    known = majorities(electing) if sharing else majorities(electing)[1:]
    found = [f"at first: {name}" for name in first_holds()]
    found += [f"{step.name}: {name}" for step in steps for name in broken_by(step, known)]
    return found if safe(known) else [*found, "two may lead"]


def majorities_share_a_node(enough: Callable[[Any, Any], Any]) -> bool:
    """Two sets of electors that are both enough have one in common, whatever their number: what is
    in one or the other is no more than all of them."""
    electors, one, other, both = z3.Ints("electors one other both")
    sizes = [electors >= 1, one >= 0, other >= 0, both >= 0, one + other - both <= electors]
    return holds([*sizes, enough(one, electors), enough(other, electors)], both >= 1)
