"""What a change of role leads to, in each state a node can be in. Pure: a table of cases.

A fleet has one leader. So nothing here makes a second one, and nothing that people may have put
into a cluster is lost but where they said so with ``--end-cluster``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodeagent.cluster.kubeadm_state import State
from nodeagent.errors import Refused

CONTROL_PLANE, WORKER = "control-plane", "worker"
MOVES = (
    "This node leaves its cluster. Its pods are moved to other nodes, for two minutes at most; then"
    " what still runs here ends, and its local data are lost."
)
AFTERWARDS = (
    "kubelet, pod network and packet filter are cleared; packages, settings and name stay. A power"
    " cut in the middle does no harm: the next start goes on."
)


@dataclass(frozen=True)
class Situation:
    """A node as it stands.

    ``decided`` is the role in its journal, "" before one is. ``leaving``: it is on its way out of
    its cluster. ``may_lead``: it carries the control-plane issuer's key; None before its card was
    imported. ``card_leads``: a card file of the same fleet with that key is on its boot partition.
    ``leader``: name of another control plane of the fleet that proved itself, "" for none;
    ``own_cluster``: that one's cluster is this node's. ``others``: the other nodes of the cluster
    that this node leads; ``empty``: nobody's workloads are in it; None where that is not known.
    ``expected``: how many nodes the fleet is to have, 0 where that is not set.
    """

    state: State = State.NOTHING
    decided: str = ""
    leaving: bool = False
    may_lead: bool | None = True
    card_leads: bool = False
    leader: str = ""
    own_cluster: bool = False
    others: Sequence[str] | None = ()
    empty: bool | None = True
    expected: int = 0


@dataclass(frozen=True)
class Nothing:
    """It is so already; ``why`` for people."""

    why: str


@dataclass(frozen=True)
class Choose:
    """Nothing is lost: the wish is written, and the agent takes it up."""


@dataclass(frozen=True)
class Leave:
    """Out of the cluster, then take up the wish; ``lines`` say what will happen. ``anew``: take the
    keys from the card file on the boot partition."""

    lines: tuple[str, ...]
    anew: bool = False


Way = Nothing | Choose | Leave


def way(at: Situation, wish: str, end_cluster: bool) -> Way:
    """What comes of the wish ``control-plane``, ``worker`` or ``auto``. Raises Refused."""
    if at.state is State.FOREIGN:
        raise not_ours()
    if at.leaving:
        return _on_its_way_out(at, wish)
    member = at.decided or _role_of(at.state)
    if not member:
        return _undecided(at, wish)
    if member == CONTROL_PLANE:
        return _of_a_control_plane(at, wish, end_cluster)
    return _of_a_worker(at, wish, end_cluster)


def not_ours() -> Refused:
    """What to say of ``State.FOREIGN``."""
    return Refused(
        "This node is part of a Kubernetes that the agent did not set up.",
        "Take it out with that cluster's own means first; nothing was changed.",
    )


def _role_of(state: State) -> str:
    """What kubeadm has made, or was about to make, of this node."""
    if state in (State.CONTROL_PLANE, State.HALF_INIT):
        return CONTROL_PLANE
    return WORKER if state in (State.WORKER, State.HALF_JOIN) else ""


def _undecided(at: Situation, wish: str) -> Way:
    if wish == CONTROL_PLANE and at.may_lead is False:
        if at.card_leads:
            return Leave(
                ("The keys on the boot partition are taken over; it may lead then.",), True
            )
        raise Refused(
            "This card carries no control-plane issuer, so it can only be a worker.",
            "Use a card made to lead, or make a fleet of identical cards.",
        )
    return Choose()


def _on_its_way_out(at: Situation, wish: str) -> Way:
    if wish == CONTROL_PLANE:
        _may_take_the_lead(at)
    told = f"This node is leaving its cluster already; afterwards its role is {wish}."
    return Leave((told,), anew=wish == CONTROL_PLANE and not at.may_lead)


def _of_a_control_plane(at: Situation, wish: str, end_cluster: bool) -> Way:
    gone = at.state is State.NOTHING  # somebody has run kubeadm reset by hand
    if wish != WORKER and not gone:
        return Nothing("This node is a control-plane already.") if at.decided else Choose()
    if at.state is State.HALF_INIT or gone:
        return Leave(("What is left of a control plane here is taken away.", AFTERWARDS))
    holds = _holds(at)
    if holds and not end_cluster:
        raise Refused(
            f"This is the cluster's only control plane, and {holds}. All of it would be lost.",
            "Move what is needed to another cluster first. To end this one all the same:"
            " sudo nodeagent role --worker --end-cluster",
        )
    lines = ["The cluster that this node leads ends, with all that is in it."]
    if at.others:
        lines.append(
            f"Its other nodes ({', '.join(at.others)}) lose it: choose the one that should lead,"
            " and run `sudo nodeagent role --control-plane --end-cluster` there, then `sudo"
            " nodeagent role --auto` on each other one."
        )
    else:
        lines.append("This node then waits until another board of the fleet leads, and joins it.")
    return Leave((*lines, AFTERWARDS))


def _holds(at: Situation) -> str:
    """What would be lost, in words; empty where nothing would."""
    if at.others is None or (at.empty is None and not at.others):
        return "what is in it cannot be looked up now"
    told = []
    if at.others:
        nodes = "another node" if len(at.others) == 1 else f"{len(at.others)} other nodes"
        told.append(f"it has {nodes} ({', '.join(at.others)})")
    if at.empty is False:
        told.append("somebody's workloads or data are in it")
    return " and ".join(told)


def _of_a_worker(at: Situation, wish: str, end_cluster: bool) -> Way:
    if wish != CONTROL_PLANE:
        return _stays_a_worker(at)
    _alone_in_the_lead(at)
    if not end_cluster:
        raise Refused(
            "This node's control plane does not answer. It may only be switched off, and would come"
            " back to a fleet with two clusters.",
            "Switch it on. If it is gone for good, or has given up leading: sudo nodeagent role"
            " --control-plane --end-cluster",
        )
    _may_take_the_lead(at)
    lines = [MOVES, "Its cluster is given up for good: this node makes a new one."]
    if at.expected > 1:
        lines.append(
            f"It leads once more than half of the {at.expected} expected nodes have voted for it."
        )
    return Leave((*lines, AFTERWARDS), anew=not at.may_lead)


def _alone_in_the_lead(at: Situation) -> None:
    if at.leader:
        raise Refused(
            f"{at.leader} leads this fleet, and a fleet has one leader.",
            f"To move the lead here, first end that cluster: on {at.leader} run `sudo nodeagent"
            " role --worker --end-cluster`. Nothing was changed.",
        )


def _may_take_the_lead(at: Situation) -> None:
    _alone_in_the_lead(at)
    if not at.may_lead and not at.card_leads:
        raise Refused(
            "This node has no key to lead with: a worker gives it up when it joins, or its card"
            " never had it.",
            "Copy nodeagent.fleet, as `nodeagent fleet new` wrote it for boards that may lead, to"
            " /boot/firmware, then run this again.",
        )


def _stays_a_worker(at: Situation) -> Way:
    if not at.decided and at.state is State.HALF_JOIN:
        return Choose()
    if at.own_cluster:
        return Nothing("This node is a worker already.")
    if at.state in (State.HALF_JOIN, State.NOTHING):
        return Leave(("What is left of a worker here is taken away.", AFTERWARDS))
    if not at.leader:
        return Nothing(
            "This node is a worker already. Its control plane does not answer, and no other leads"
            " this fleet; when another does, run this again and it moves there."
        )
    moves = f"It then joins {at.leader}, which leads this fleet now with another cluster."
    return Leave((MOVES, moves, AFTERWARDS))
