"""Wired and wireless, IPv4 and IPv6, late and changing: the network process finds its way."""

from __future__ import annotations

import time

from nodeagent.fleet.handoff import read_heard
from tests.support.virtual_lan import Lan, Node, eventually, ip


def talk(*nodes: Node) -> None:
    """All announce and listen."""
    for node in nodes:
        node.announce()
        node.serve()


def hear_each_other(*nodes: Node) -> bool:
    """True as soon as each has heard all others, and itself."""
    ids = {node.key.node_id for node in nodes}
    # They ask after 0, 1, 4, 13 and 40 seconds; real agents renew their beacons meanwhile.
    return eventually(
        lambda: all(
            node.own_heard() and ids <= {*node.heard(), node.key.node_id} for node in nodes
        ),
        40,
    )


def test_nodes_with_ipv6_alone_hear_each_other(lan: Lan) -> None:
    nodes = [lan.add(four=False) for _ in range(3)]
    talk(*nodes)
    assert hear_each_other(*nodes), nodes[0].logs()


def test_a_node_on_wire_and_wireless_hears_both_sides(lan: Lan) -> None:
    wired, both, wireless = lan.add(), lan.add(), lan.add()
    ip("-n", wireless.space, "addr", "flush", "dev", "eth0")
    ip("-n", lan.name, "link", "set", f"port{wireless.number}", "master", "br1")
    wireless.address = "10.78.0.13"
    lan.give(wireless, "eth0", wireless.address)
    lan.plug(both, "wlan0", "br1", "10.78.0.12")
    both.interfaces = ("eth0", "wlan0")
    talk(wired, both, wireless)
    assert hear_each_other(wired, both), both.logs()
    assert hear_each_other(wireless, both), both.logs()
    assert wireless.key.node_id not in wired.heard(), "two networks, and nobody carries between"


def test_one_dead_interface_does_not_silence_the_other(lan: Lan) -> None:
    first, second = lan.add(), lan.add()
    lan.plug(first, "wlan0", "br1", "10.78.0.11")
    first.interfaces = ("wlan0", "eth0", "gone0")
    ip("-n", first.space, "link", "set", "wlan0", "multicast", "off")
    ip("-n", lan.name, "link", "set", f"wlan0-{first.number}", "down")
    talk(first, second)
    assert hear_each_other(first, second), first.logs()


def test_wireless_that_comes_late_is_taken_up(lan: Lan) -> None:
    late, there = lan.add(), lan.add()
    ip("-n", late.space, "link", "del", "eth0")
    late.interfaces = ("eth0", "wlan0")
    talk(late, there)
    assert eventually(there.own_heard), there.logs()
    time.sleep(2)
    assert late.own_heard() is None
    lan.plug(late, "wlan0", "br0", late.address)
    assert hear_each_other(late, there), late.logs()


def test_a_new_address_needs_no_word_of_the_agent(lan: Lan) -> None:
    moved, there = lan.add(), lan.add()
    moved.interfaces = ("eth0",)
    talk(moved, there)
    assert hear_each_other(moved, there), moved.logs()
    ip("-n", moved.space, "addr", "flush", "dev", "eth0", "scope", "global")
    lan.give(moved, "eth0", "10.77.0.200")
    seen = there.heard()[moved.key.node_id].last

    def from_there() -> bool:
        candidates = read_heard(there.host)[1]
        return any(c.address == "10.77.0.200" and c.last >= seen for c in candidates)

    moved.address = "10.77.0.200"
    moved.announce()
    assert eventually(from_there), moved.logs()


def test_a_link_that_was_lost_comes_back(lan: Lan) -> None:
    lost, there = lan.add(), lan.add()
    talk(lost, there)
    assert hear_each_other(lost, there), lost.logs()
    lan.unplug(lost)
    sealed = lost.announce()
    time.sleep(3)
    assert there.heard()[lost.key.node_id].beacon != sealed
    ip("-n", lan.name, "link", "set", f"port{lost.number}", "up")
    sealed = lost.announce(claim=True)
    assert eventually(lambda: there.heard()[lost.key.node_id].beacon == sealed), there.logs()
