"""Real network processes on one LAN find each other by real multicast DNS."""

from __future__ import annotations

import time

from tests.support.virtual_lan import Lan, Node, eventually


def test_nodes_hear_each_other_and_themselves(lan: Lan) -> None:
    nodes = [lan.add() for _ in range(3)]
    for node in nodes:
        node.announce()
        node.serve()
    for node in nodes:
        others = [other for other in nodes if other is not node]
        assert hears(node, *others), node.logs()
        assert eventually(node.own_heard), node.logs()
        for other in others:
            assert (other.address, 6444) in {(c.address, c.port) for c in node.candidates()}


def hears(node: Node, *others: Node) -> bool:
    """True as soon as the node has heard exactly these."""
    return eventually(lambda: node.heard().keys() == {other.key.node_id for other in others})


def test_a_changed_beacon_reaches_the_others(lan: Lan) -> None:
    first, second = lan.add(), lan.add()
    for node in (first, second):
        node.announce()
        node.serve()
    assert eventually(lambda: second.key.node_id in first.heard()), first.logs()
    sealed = second.announce(claim=True)
    assert eventually(lambda: first.heard()[second.key.node_id].beacon == sealed), first.logs()


def test_a_dead_cable_is_no_proof_of_being_heard(lan: Lan) -> None:
    node = lan.add()
    lan.unplug(node)
    node.announce()
    node.serve()
    time.sleep(4)
    assert node.own_heard() is None
