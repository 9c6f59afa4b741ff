"""The broker's part when a node leaves: its Node object goes from the cluster."""

from __future__ import annotations

from nodeagent.broker.broker import Broker, Revoked, Stale, audit
from nodeagent.errors import Untrusted
from nodeagent.join import leave


def hear(broker: Broker, data: bytes) -> str:
    """Delete the Node, and end the membership where it is final; the name.

    Repeatable. Raises Untrusted where the name is not this key's, OtherVersion, Revoked, Stale,
    and what the API raises.
    """
    said = leave.verify(broker.anchors, data)
    if broker.ledger.revocation(said.node_id):
        raise Revoked("this node was revoked by a person")
    if not broker.ledger.is_fresh(said.nonce):
        raise Stale("the nonce is not, or no longer, one of this broker's")
    if broker.ledger.holder(said.name) != said.node_id:
        raise Untrusted(f"A farewell of {said.name} is not its node's.", "Nothing to do.")
    for token in broker.outstanding:
        if token.node_id == said.node_id:
            broker.withdraw(token)
    if said.final:
        # Its certificate outlives it, so the name stays its own until a person forgets it.
        broker.ledger.part(said.name)
    broker.api.delete_node(said.name, said.uid)
    audit("left", node=said.node_id, name=said.name, final=str(said.final))
    return said.name
