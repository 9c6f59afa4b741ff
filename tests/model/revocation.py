"""Revocation as a transition system: keys, names, and certificates that outlive a membership.

What is to hold: no two keys have a living certificate of one name, and a name of which a revoked
key has one is barred, whatever was forgotten or left meanwhile. Keys and names are uninterpreted
sorts, so it is for any number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import z3  # type: ignore[import-untyped]

from tests.model.proof import holds

KEY, NAME, FLAG = z3.DeclareSort("Key"), z3.DeclareSort("Name"), z3.BoolSort()
CERTIFIED = z3.Function("certified", KEY, NAME, FLAG)  # a certificate of it still lives
KNOWN = z3.Function("known", KEY, NAME, FLAG)  # and the ledger knows of it
REVOKED = z3.Function("revoked", KEY, FLAG)
BARRED = z3.Function("barred", NAME, FLAG)

State = tuple[Any, Any, Any, Any]  # the four, before or after a step
FIRST: State = (CERTIFIED, KNOWN, REVOKED, BARRED)


@dataclass(frozen=True)
class Step:
    """What a broker does for a key and a name: when it may, and the state after it."""

    name: str
    guard: Callable[[Any, Any], Any]
    after: Callable[[Any, Any], State]


def _is(k: Any, n: Any) -> Callable[[Any, Any], Any]:
    return lambda key, name: z3.And(key == k, name == n)


def _nobody_elses(k: Any, n: Any) -> Any:
    """Nobody else has, or is known to have, a certificate of this name."""
    other = z3.Const("other", KEY)
    return z3.ForAll([other], z3.Implies(KNOWN(other, n), other == k))


def _issue(k: Any, n: Any) -> State:
    this = _is(k, n)
    return (
        lambda key, name: z3.Or(CERTIFIED(key, name), this(key, name)),
        lambda key, name: z3.Or(KNOWN(key, name), this(key, name)), REVOKED, BARRED,
    )  # fmt: skip


def _end(k: Any, n: Any) -> State:
    """The certificate has ended by time."""
    this = _is(k, n)
    return (
        lambda key, name: z3.And(CERTIFIED(key, name), z3.Not(this(key, name))),
        KNOWN, REVOKED, BARRED,
    )  # fmt: skip


def _free(k: Any, n: Any) -> State:
    """It is forgotten, and the name given back."""
    this = _is(k, n)
    return (
        CERTIFIED, lambda key, name: z3.And(KNOWN(key, name), z3.Not(this(key, name))),
        REVOKED, lambda name: z3.And(BARRED(name), name != n),
    )  # fmt: skip


def _bar(_: Any, n: Any) -> State:
    """A person has the name forgotten: nobody renews a certificate of it."""
    return CERTIFIED, KNOWN, REVOKED, lambda name: z3.Or(BARRED(name), name == n)


def _approve(k: Any, _: Any) -> State:
    """A person lets the key back, with all the names that it has."""
    return (
        CERTIFIED, KNOWN, lambda key: z3.And(REVOKED(key), key != k),
        lambda name: z3.And(BARRED(name), z3.Not(KNOWN(k, name))),
    )  # fmt: skip


def _revoke(k: Any, _: Any) -> State:
    return (
        CERTIFIED, KNOWN, lambda key: z3.Or(REVOKED(key), key == k),
        lambda name: z3.Or(BARRED(name), KNOWN(k, name)),
    )  # fmt: skip


STEPS = (
    Step(
        "certify", lambda k, n: z3.And(_nobody_elses(k, n), z3.Not(REVOKED(k)), z3.Not(BARRED(n))),
        _issue,
    ),
    Step("leave or be forgotten", lambda k, n: z3.BoolVal(True), lambda k, n: FIRST),
    Step("revoke", lambda k, n: z3.BoolVal(True), _revoke),
    Step("approve", lambda k, n: z3.BoolVal(True), _approve),
    Step("bar", lambda k, n: z3.BoolVal(True), _bar),
    Step("end", lambda k, n: z3.BoolVal(True), _end),
    Step("free", lambda k, n: z3.And(KNOWN(k, n), z3.Not(CERTIFIED(k, n))), _free),
)  # fmt: skip
# As where a name is given back by a clock that is ahead: its certificate lives on.
FREED_TOO_EARLY = Step("free", lambda k, n: KNOWN(k, n), _free)
# As it was: whoever left gave up the name and what the ledger knew, while the certificate lived.
LEFT_MEANS_FORGOTTEN = Step(
    "leave or be forgotten", lambda k, n: z3.BoolVal(True),
    lambda k, n: (
        CERTIFIED, lambda key, name: z3.And(KNOWN(key, name), z3.Not(_is(k, n)(key, name))),
        REVOKED, BARRED,
    ),
)  # fmt: skip


def _invariant(state: State) -> Any:
    certified, known, revoked, barred = state
    k, m = z3.Consts("k m", KEY)
    n = z3.Const("n", NAME)
    return z3.ForAll([k, m, n], z3.And(
        z3.Implies(certified(k, n), known(k, n)),
        z3.Implies(z3.And(known(k, n), known(m, n)), k == m),
        z3.Implies(z3.And(revoked(k), certified(k, n)), barred(n)),
    ))  # fmt: skip


def faults(steps: tuple[Step, ...] = STEPS) -> list[str]:
    """Steps that do not keep it; empty where it is proved."""
    k, n = z3.Const("a_key", KEY), z3.Const("a_name", NAME)
    return [
        step.name
        for step in steps
        if not holds([_invariant(FIRST), step.guard(k, n)], _invariant(step.after(k, n)))
    ]
