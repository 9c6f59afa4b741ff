"""What people ask of the broker: who is in, who waits; approve, revoke, forget, seal.

Each answer is data for the command line, which tells the cluster with root's rights
(``cluster/revoked.py``): the broker may bar nobody and let nobody back. Where that did not come
about, the same words again finish it.
"""

from __future__ import annotations

from nodeagent.broker.broker import Broker, audit, is_node_id
from nodeagent.broker.ledger_file import Revocation
from nodeagent.errors import FleetError, Refused
from nodeagent.join import broker_protocol
from nodeagent.join.approval import APPROVAL_LIFE, Seal


def overview(broker: Broker) -> broker_protocol.Overview:
    """All there is to list: whoever holds a right, and whoever held one whose end has not come."""
    is_open, ledger = broker.is_open(), broker.ledger
    said, ahead = ledger.seal, ledger.ahead()
    newest = {(entry.name, entry.node_id): entry for entry in ledger.admissions}
    rows: list[broker_protocol.Admitted] = []
    for one in ledger.members.values():
        entry = newest.get((one.name, one.node_id))
        rows.append({
            "name": one.name, "node_id": one.node_id, "time": entry.time if entry else one.since,
            "source": entry.source if entry else "", "token_id": entry.token_id if entry else "",
        })  # fmt: skip
    until = said.open_until if said.sealed else broker.seals_at
    return {
        "admissions": rows,
        "claims": [
            {"name": one.name, "node_id": one.node_id, "source": one.source,
             "until": one.expires - ahead}
            for one in broker.outstanding if one.name not in ledger.members
        ],
        "left": [
            {"name": one.name, "node_id": one.node_id, "days": ledger.days(one.name)}
            for one in ledger.left()
        ],
        "waiting": [
            {"node_id": one.node_id, "name": one.name, "source": one.source, "why": one.why,
             "first": one.first - ahead, "last": one.last - ahead}
            for one in broker.waiting.present(ledger.now())
        ],
        "approved": [*ledger.approved],
        "revoked": [
            {"node_id": one.node_id, "name": one.name, "time": one.time} for one in ledger.revoked
        ],
        "by_approval": broker.anchors.by_approval,
        "open": is_open,
        "until": until - ahead if is_open and until else 0,
        "ahead": ahead,
    }  # fmt: skip


def approve(broker: Broker, node_id: str) -> broker_protocol.Approved:
    """Let a node in, asked or not, revoked or not: the person typed its whole id. Raises
    FleetError."""
    ledger = broker.ledger
    broker.is_open()  # approvals whose time is over make room
    if ledger.is_member(node_id):
        name = next(one.name for one in ledger.members.values() if one.node_id == node_id)
        back = ledger.unbarred(node_id)
        return {"name": name, "source": "", "state": "admitted", "let_back": back}
    ledger.approve(node_id, int(ledger.now()) + APPROVAL_LIFE)
    audit("approved", node=node_id)
    asking = broker.waiting.leave(node_id)
    return {
        "name": asking.name if asking else "",
        "source": asking.source if asking else "",
        "state": "waiting" if asking else "unheard",
        "let_back": ledger.unbarred(node_id),
    }


def revoke(broker: Broker, who: str) -> broker_protocol.Revoked:
    """Take a node's right to be here, and end enrolment: its card could make another key.

    ``who`` is a name or a node id. Raises Refused where nobody of that name was let in, FleetError,
    and what the API raises.
    """
    ledger = broker.ledger
    node_id = ledger.holder(who) or (who if is_node_id(who) else "")
    if not node_id:  # a claim ends with the first try, which may not have come to its end
        node_id = next((one.node_id for one in ledger.revoked if one.name == who), "")
    if not node_id:
        raise Refused(
            f"No node called {who} was let in here.",
            "`sudo nodeagent nodes` lists them; a node that never joined is revoked by its code.",
        )
    # With the cards that its board had before, whose certificates are for the same name.
    keys = ledger.cards_of(node_id)
    names = [one.name for one in ledger.certificates.values() if {one.node_id, *one.former} & keys]
    for key in (node_id, *sorted(keys - {node_id})):
        if ledger.revocation(key) is None:
            name = who if ledger.holder(who) else names[-1] if names else ""
            try:
                ledger.revoke(Revocation(key, name, int(broker.clock())))
            except FleetError:
                if key == node_id:
                    raise
                # Its names are barred all the same, and what is asked for is done to its end.
                audit("not revoked, there is no room", node=key)
                continue
            audit("revoked", node=key, names=" ".join(names))
    ledger.bar(*(name for name in names if not ledger.certificates[name].end))
    was_open = broker.is_open()
    if was_open:
        seal(broker, 0)
    broker.waiting.leave(node_id)
    broker.withdraw_ended(broker.is_open())
    return {"node_id": node_id, "names": names, "sealed": was_open}


def forget(broker: Broker, name: str) -> broker_protocol.Forgotten:
    """End a membership, and let its key ask anew as a stranger; or free a name whose certificate
    has ended. Raises what the API raises."""
    ledger = broker.ledger
    holder = ledger.holder(name)
    for token in broker.outstanding:
        if name == token.name or (holder and token.node_id == holder):
            broker.withdraw(token)
    one = ledger.certificates.get(name)
    if one is None:
        return {"forgotten": bool(holder), "days": 0, "bar": [], "let_back": [name]}
    ends = not one.end
    if ends:
        ledger.bar(name)
    days = ledger.days(name)
    if not days:
        ledger.free(name)
    audit("forgotten" if days else "freed", node=holder, name=name)
    # Barred before, perhaps, but not told to the cluster: said again.
    return {
        "forgotten": ends or not days, "days": days,
        "bar": [name] if days else [], "let_back": [] if days else [name],
    }  # fmt: skip


def seal(broker: Broker, seconds: int) -> broker_protocol.Sealed:
    """End enrolment, which withdraws the tokens of whoever nobody approved; or open it for so many
    seconds; afterwards it is sealed again. Raises what the API raises."""
    until = int(broker.ledger.now()) + seconds if seconds else 0
    broker.ledger.set_seal(Seal(sealed=True, open_until=until))
    audit("opened" if seconds else "sealed", until=str(until))
    broker.withdraw_ended(broker.is_open())
    return {"until": until - broker.ledger.ahead() if until else 0}
