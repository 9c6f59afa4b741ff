"""What a wish for another role leads to: the whole table, one row a case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeagent.agent import role_table
from nodeagent.agent.role_table import Choose, Leave, Nothing, Situation
from nodeagent.cluster.kubeadm_state import State
from nodeagent.errors import Refused

FRESH = Situation()
SPLIT = replace(FRESH, may_lead=False)  # a worker's card of split ones
MAKING = Situation(State.HALF_INIT)
JOINING = Situation(State.HALF_JOIN, leader="pi-a", own_cluster=True)
LEADS = Situation(State.CONTROL_PLANE, "control-plane")
FULL = replace(LEADS, others=("pi-b", "pi-c"), empty=False)
UNKNOWN = replace(LEADS, others=None, empty=None)
# A worker gave the issuer's key up when it joined.
WORKS = Situation(State.WORKER, "worker", may_lead=False, leader="pi-a", own_cluster=True)
AWAY = replace(WORKS, leader="", own_cluster=False)
MOVED = replace(WORKS, own_cluster=False)  # the fleet's leader has another cluster
GIVEN = replace(AWAY, card_leads=True)  # nodeagent.fleet is on the boot partition again
OUT = Situation(leaving=True, decided="worker", may_lead=False)

CP, WORKER, AUTO = "control-plane", "worker", "auto"
END = True  # --end-cluster

# Situation, wish, with --end-cluster, what it is, a word that people must read.
TABLE: dict[str, tuple[Situation, str, bool, object, str]] = {
    "undecided leads": (FRESH, CP, False, Choose, ""),
    "undecided works": (FRESH, WORKER, False, Choose, ""),
    "undecided, let the fleet decide": (FRESH, AUTO, False, Choose, ""),
    "undecided before the card was read": (replace(FRESH, may_lead=None), CP, False, Choose, ""),
    "undecided with a worker's card": (SPLIT, CP, False, Refused, "no control-plane issuer"),
    "undecided with a worker's card, but the right one lies there": (
        replace(SPLIT, card_leads=True), CP, False, Leave, "key",
    ),
    "claimed, works": (FRESH, WORKER, False, Choose, ""),  # the election takes the claim back
    "making its cluster, leads": (MAKING, CP, False, Choose, ""),
    "making its cluster, works": (MAKING, WORKER, False, Leave, "taken away"),
    "joining, works": (JOINING, WORKER, False, Choose, ""),
    "joining, leads": (JOINING, CP, END, Refused, "pi-a leads"),
    "leads, leads": (LEADS, CP, False, Nothing, "already"),
    "leads, auto": (LEADS, AUTO, False, Nothing, "already"),
    "leads an empty cluster, works": (LEADS, WORKER, False, Leave, "cluster that this node leads"),
    "leads others, works": (FULL, WORKER, False, Refused, "2 other nodes (pi-b, pi-c)"),
    "leads one other, works": (replace(LEADS, others=("pi-b",)), WORKER, False, Refused, "pi-b"),
    "leads alone with data, works": (
        replace(LEADS, empty=False), WORKER, False, Refused, "workloads or data",
    ),
    "leads others, works, told so": (FULL, WORKER, END, Leave, "pi-b, pi-c"),
    "leads and cannot be asked, works": (UNKNOWN, WORKER, False, Refused, "cannot be looked up"),
    "leads and cannot be asked, works, told so": (UNKNOWN, WORKER, END, Leave, "ends"),
    "led, reset by hand, works": (replace(FRESH, decided=CP), WORKER, False, Leave, "taken away"),
    "led, reset by hand, auto": (replace(FRESH, decided=CP), AUTO, False, Leave, "taken away"),
    "works, works": (WORKS, WORKER, False, Nothing, "already"),
    "works, auto": (WORKS, AUTO, False, Nothing, "already"),
    # Revoked, too: its cluster tells it nothing of that, and a fleet has one leader all the same.
    "works, leads": (WORKS, CP, False, Refused, "one leader"),
    "works, leads, told so": (WORKS, CP, END, Refused, "one leader"),
    "its control plane is away, works": (AWAY, WORKER, False, Nothing, "does not answer"),
    "its control plane is away, leads": (AWAY, CP, False, Refused, "does not answer"),
    "its control plane is gone, leads, no key": (AWAY, CP, END, Refused, "no key to lead"),
    "its control plane is gone, leads": (GIVEN, CP, END, Leave, "given up for good"),
    "its control plane is gone, leads, not told so": (GIVEN, CP, False, Refused, "switched off"),
    "its control plane is gone, leads three": (
        replace(GIVEN, expected=3), CP, END, Leave, "more than half of the 3",
    ),
    "another leads, works": (MOVED, WORKER, False, Leave, "joins pi-a"),
    "another leads, auto": (MOVED, AUTO, False, Leave, "joins pi-a"),
    "another leads, leads": (MOVED, CP, END, Refused, "one leader"),
    "worked, reset by hand, works": (
        replace(AWAY, state=State.NOTHING), WORKER, False, Leave, "taken away",
    ),
    "joined, and the journal missed it": (replace(WORKS, decided=""), WORKER, False, Nothing, ""),
    "on its way out, works": (OUT, WORKER, False, Leave, "already"),
    "on its way out, leads, no key": (OUT, CP, False, Refused, "no key to lead"),
    "on its way out, leads": (replace(OUT, card_leads=True), CP, False, Leave, "control-plane"),
    "on its way out to another, leads": (replace(OUT, leader="pi-a"), CP, END, Refused, "pi-a"),
    "somebody else's Kubernetes": (Situation(State.FOREIGN), WORKER, END, Refused, "not set up"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_the_table(case: str) -> None:
    at, wish, end_cluster, wanted, word = TABLE[case]
    if wanted is Refused:
        with pytest.raises(Refused) as caught:
            role_table.way(at, wish, end_cluster)
        assert word in caught.value.reason and caught.value.remedy.count(".") <= 3
        return
    way = role_table.way(at, wish, end_cluster)
    assert type(way) is wanted
    told = way.lines if isinstance(way, Leave) else (way.why,) if isinstance(way, Nothing) else ()
    assert word in " ".join(told)


def test_keys_are_taken_from_the_card_where_they_are_missing() -> None:
    for at, anew in ((GIVEN, True), (replace(GIVEN, may_lead=True), False)):
        way = role_table.way(at, CP, END)
        assert isinstance(way, Leave) and way.anew is anew


STATES = [FRESH, SPLIT, MAKING, JOINING, LEADS, FULL, UNKNOWN, WORKS, AWAY, MOVED, GIVEN, OUT]


@pytest.mark.parametrize("at", STATES)
@pytest.mark.parametrize("wish", [CP, WORKER, AUTO])
def test_never_a_second_leader_and_nothing_lost_unasked(at: Situation, wish: str) -> None:
    try:
        way = role_table.way(at, wish, False)
    except Refused:
        return
    if isinstance(way, Leave):
        assert not (wish == CP and at.leader), "a second leader"
        held = at.state is State.CONTROL_PLANE and (at.others or not at.empty)
        assert not held, "somebody's data"
