"""What people ask of the broker: who is in, who waits; approve, revoke, forget, seal.

Each answer is data for the command line, which tells the cluster with root's rights
(``cluster/revoked.py``): the broker may bar nobody and let nobody back. Where that did not come
about, the same words again finish it.
"""

from __future__ import annotations

import math
import re

from nodeagent.broker.broker import Broker, audit
from nodeagent.broker.ledger import Revocation
from nodeagent.errors import Refused
from nodeagent.join import broker_protocol
from nodeagent.join.approval import APPROVAL_LIFE, Seal

SHOWN = 300  # admissions in one answer
# A kubelet's certificate lives a year, and Kubernetes cannot take one back (kube-controller-
# manager, --cluster-signing-duration): until then a revoked node's name must not be given again.
CERTIFICATE_LIFE = 366 * 86400


def overview(broker: Broker) -> broker_protocol.Overview:
    """All there is to list."""
    now = broker.clock()
    ledger, said = broker.ledger, broker.ledger.seal
    newest = {entry.name: entry for entry in ledger.admissions}
    return {
        "admissions": [
            {"name": one.name, "node_id": one.node_id, "time": one.time, "source": one.source,
             "token_id": one.token_id} for one in [*newest.values()][-SHOWN:]
        ],
        "waiting": [
            {"node_id": one.node_id, "name": one.name, "source": one.source, "why": one.why,
             "first": one.first, "last": one.last} for one in broker.waiting.present(now)
        ],
        "approved": [node for node, until in ledger.approved.items() if now < until],
        "revoked": [
            {"node_id": one.node_id, "name": one.name, "time": one.time}
            for one in ledger.revoked[-SHOWN:]
        ],
        "by_approval": broker.anchors.by_approval,
        "open": said.is_open(now, broker.seals_at),
        "until": said.open_until if said.sealed else broker.seals_at,
    }  # fmt: skip


def approve(broker: Broker, node_id: str) -> broker_protocol.Approved:
    """Let a node in, asked or not, revoked or not: the person typed its whole id. Raises
    FleetError, and what the API raises."""
    ledger = broker.ledger
    if ledger.names_of(node_id) and ledger.revocation(node_id) is None:
        names = ledger.names_of(node_id)
        return {"name": names[-1], "source": "", "state": "admitted", "let_back": names}
    now = broker.clock()
    ledger.approve(node_id, now, int(now) + APPROVAL_LIFE)
    audit("approved", node=node_id)
    asking = broker.waiting.leave(node_id)
    state = "waiting" if asking else "unheard"
    return {
        "name": asking.name if asking else "",
        "source": asking.source if asking else "",
        "state": state,
        "let_back": ledger.names_of(node_id),
    }


def revoke(broker: Broker, who: str) -> broker_protocol.Revoked:
    """Take a node's right to be here, and end enrolment: its card could make another key.

    ``who`` is a name or a node id. Raises Refused where nobody of that name was let in, FleetError,
    and what the API raises.
    """
    ledger = broker.ledger
    node_id = who if re.fullmatch(r"n-[a-z2-7]{16}", who) else ledger.names.get(who, "")
    if not node_id:
        raise Refused(
            f"No node called {who} was let in here.",
            "`sudo nodeagent nodes` lists them; a node that never joined is revoked by its code.",
        )
    names = ledger.names_of(node_id)
    if ledger.revocation(node_id) is None:
        name = who if who in names else names[-1] if names else ""
        ledger.revoke(Revocation(node_id, name, int(broker.clock())))
        audit("revoked", node=node_id, names=" ".join(names))
    was_open = ledger.seal.is_open(broker.clock(), broker.seals_at)
    if was_open:
        seal(broker, 0)
    broker.waiting.leave(node_id)
    for token in broker.outstanding:
        if token.node_id == node_id:
            broker.withdraw(token)
    return {"node_id": node_id, "names": names, "sealed": was_open}


def forget(broker: Broker, name: str) -> broker_protocol.Forgotten:
    """Free a name, and let its key ask anew as a stranger. Raises Refused while a revoked node's
    certificate for that name may still be valid, and what the API raises."""
    ledger = broker.ledger
    holder = ledger.names.get(name, "")
    revoked = ledger.revocation(holder)
    if revoked and broker.clock() < revoked.time + CERTIFICATE_LIFE:
        days = math.ceil((revoked.time + CERTIFICATE_LIFE - broker.clock()) / 86400)
        raise Refused(
            f"The revoked node still holds a certificate as {name}, for {days} days at most, and"
            " Kubernetes cannot take one back.",
            "Give the new board another name, under `node_name` in nodeagent.yaml.",
        )
    now = broker.clock()
    alive = any(r.name == name and now < r.time + CERTIFICATE_LIFE for r in ledger.revoked)
    forgotten = ledger.forget(name)
    if forgotten:
        audit("forgotten", node=holder, name=name)
    return {"forgotten": forgotten, "let_back": [] if alive else [name]}


def seal(broker: Broker, seconds: int) -> broker_protocol.Sealed:
    """End enrolment, or open it for so many seconds; afterwards it is sealed again."""
    until = int(broker.clock()) + seconds if seconds else 0
    broker.ledger.set_seal(Seal(sealed=True, open_until=until))
    audit("opened" if seconds else "sealed", until=str(until))
    return {"until": until}
