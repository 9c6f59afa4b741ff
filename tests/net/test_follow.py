"""A worker looks for its control plane on a network where others call themselves so."""

from __future__ import annotations

import pytest

from nodeagent import paths
from nodeagent.agent import conflict
from nodeagent.cluster import names
from nodeagent.fleet import handoff
from nodeagent.statefile import StateFile
from tests.support.joining import control_plane
from tests.support.machine import put
from tests.support.virtual_lan import Lan, Node, eventually

BOOT = "8f6e2b1c-0000-4000-8000-00000000000"
CONF = "clusters:\n- cluster:\n    server: https://{}:6443\n"


def member(lan: Lan, leader: Node) -> Node:
    """A worker of that leader's cluster, which knew it at an address that nobody has now."""
    node = lan.add()
    ca_cert = leader.host.read(paths.KUBERNETES_CA)
    assert ca_cert is not None
    node.host.write(paths.KUBERNETES_CA, ca_cert)
    name = names.api(node.trust.fleet_id)
    node.host.write(paths.KUBELET_CONF, CONF.format(name).encode())
    names.tell(node.host, names.of_worker(name, ["10.77.0.99"]))
    StateFile(node.host).set(role="worker", last_known=["10.77.0.99:6443"])
    return node


def look(node: Node, *typed: str) -> str:
    """The address that was proved, empty for none."""
    process = node.start("tests.support.follow_process", str(node.host.root), *typed)
    out, _ = process.communicate(timeout=60)
    return str(out.decode())


def hears(node: Node, *others: Node) -> None:
    """It hears these, and knows no more of them than what they say."""
    node.announce()
    node.serve()
    wanted = {other.key.node_id for other in others}
    assert eventually(lambda: wanted <= set(node.heard())), node.logs()


def test_it_follows_a_beacon_that_is_proved(lan: Lan) -> None:
    leader = control_plane(lan, joining=0.1)
    node = member(lan, leader)
    hears(node, leader)
    assert look(node) == leader.address, node.logs()


def test_without_multicast_it_asks_where_the_settings_say(lan: Lan) -> None:
    leader = control_plane(lan, joining=0.1)
    node = member(lan, leader)
    assert look(node) == ""
    assert look(node, leader.address) == leader.address, node.logs()


def test_another_cluster_of_the_fleet_is_not_followed(lan: Lan) -> None:
    """It proves the fleet's root, and not this node's own cluster."""
    gone, other = control_plane(lan, joining=0.1), control_plane(lan, joining=0.1)
    node = member(lan, gone)
    for process in gone.processes:
        process.kill()
    hears(node, other)
    said = f"{other.address} leads another cluster of this fleet, not this cluster."
    assert look(node, other.address) == "" and said in node.logs()


@pytest.mark.parametrize("whose", ["its own address", "the leader's old address"])
def test_a_false_beacon_draws_nobody_away(lan: Lan, whose: str) -> None:
    """Whoever has a worker's card says that it leads, from wherever; and repeats what it heard."""
    leader = control_plane(lan, joining=0.1)
    node, liar = member(lan, leader), lan.add()
    if whose == "the leader's old address":
        liar.address = "10.77.0.98"
    said = liar.announce(endpoint=True, claim=True)
    echo = leader.announce(endpoint=True)
    handoff.write_heard(
        node.host,
        1,
        [handoff.Candidate(liar.address, 6444, beacon, 1, 2) for beacon in (said, echo)],
    )
    for process in leader.processes:
        process.kill()
    assert look(node) == ""


def test_a_worker_is_told_that_its_boot_shall_end(lan: Lan) -> None:
    """Only the boots that are named, and only by who proves that it leads this fleet."""
    leader = control_plane(lan, joining=0.1)
    node, other = member(lan, leader), member(lan, leader)
    for number, one in enumerate((node, other)):
        put(one.host.root, {"/proc/sys/kernel/random/boot_id": f"{BOOT}{number}\n"})
    state_file, about = StateFile(leader.host), (leader.trust, leader.key.node_id)
    conflict.publish(leader.host, state_file, *about, alone=None, off=(f"{BOOT}0",))
    assert look(node, leader.address) == "off", node.logs()
    assert look(other, leader.address) == leader.address, other.logs()
    conflict.publish(leader.host, state_file, *about, alone=None)
    assert look(node, leader.address) == leader.address, node.logs()


def test_a_worker_that_has_no_name_for_its_cluster_is_told_too(lan: Lan) -> None:
    """As nodeagent 0.2.0 made it: there is nobody to follow, but somebody to ask."""
    leader = control_plane(lan, joining=0.1)
    node = member(lan, leader)
    node.host.write(paths.KUBELET_CONF, CONF.format(leader.address).encode())
    put(node.host.root, {"/proc/sys/kernel/random/boot_id": f"{BOOT}0\n"})
    assert look(node, leader.address) == "", node.logs()
    state_file, about = StateFile(leader.host), (leader.trust, leader.key.node_id)
    conflict.publish(leader.host, state_file, *about, alone=None, off=(f"{BOOT}0",))
    assert look(node, leader.address) == "off", node.logs()


def test_another_clusters_word_ends_no_boot(lan: Lan) -> None:
    """It leads a cluster of this fleet, and has seen the boot's id, which is no secret."""
    gone, other = control_plane(lan, joining=0.1), control_plane(lan, joining=0.1)
    node = member(lan, gone)
    put(node.host.root, {"/proc/sys/kernel/random/boot_id": f"{BOOT}0\n"})
    for process in gone.processes:
        process.kill()
    about = (StateFile(other.host), other.trust, other.key.node_id)
    conflict.publish(other.host, *about, alone=None, off=(f"{BOOT}0",))
    assert look(node, other.address) == "", node.logs()
