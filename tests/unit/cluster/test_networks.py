"""What a node that joins takes over of its cluster, and refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.cluster import cni, networks
from nodeagent.config import settings as config
from nodeagent.config.settings import Network, Settings
from nodeagent.doctor import system
from nodeagent.doctor.finding import Node
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from tests.support.machine import Machine, put
from tests.unit.cluster.test_addresses import HEAD, TRIE, WIRE, WIRE_NET, sysfs

MEMBER = {paths.KUBELET_CONF: "server", paths.FORMED: "worker\n"}
LEARNED = ("10.118.0.0/16", "10.119.0.0/16")


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """A node at 192.168.1.23, its router at 192.168.1.1."""
    put(tmp_path, {"/proc/net/route": HEAD + WIRE + WIRE_NET, "/proc/net/fib_trie": TRIE,
                   **sysfs("eth0")})  # fmt: skip
    return Facts(Machine(tmp_path))


def test_a_cluster_that_holds_the_lan_of_who_joins_is_refused(facts: Facts) -> None:
    with pytest.raises(Blocked, match=r"192.168.0.0/16 holds this node's address 192.168.1.23"):
        networks.check_joining(facts, Settings(), ("192.168.0.0/16", "10.96.0.0/12"))
    networks.check_joining(facts, Settings(), LEARNED)
    networks.check_joining(facts, Settings(), ())  # a control plane of an earlier release


def learned_of(name: str) -> Settings:
    return networks.with_those_of(Settings(), LEARNED, name)


def test_the_networks_of_the_cluster_are_kept(facts: Facts) -> None:
    learned = networks.with_those_of(Settings(), LEARNED, "kube-router")
    assert learned.network.cni == "kube-router"
    assert networks.with_those_of(Settings(), LEARNED, "of-a-later-release") == learned_of("")
    networks.learn(facts, learned)
    networks.learn_pod_network(facts.host, "kube-router")
    put(facts.host.root, MEMBER)
    kept = config.load(facts.host)
    assert kept.settings == learned
    assert kept.origins["network.pod_cidr"].where.startswith(config.CHOSEN_FILE)
    changed = facts.host.changed(config.CHOSEN_FILE)
    networks.learn(facts, learned)
    assert facts.host.changed(config.CHOSEN_FILE) == changed, "a second time changes nothing"


MANIFEST = f"manifest: /boot/firmware/n.yaml, manifest_sha256: '{'0' * 64}'"


@pytest.mark.parametrize(
    ("has", "typed", "overruled"),
    [
        ("kube-router", "cni: flannel", "flannel"),
        ("kube-router", "cni: kube-router", None),
        ("kube-router", "interface: eth0", None),
        ("kube-router", MANIFEST, "/boot/firmware/n.yaml"),
        ("flannel", "cni: none", "none"),
        ("none", "cni: flannel", "flannel"),
        ("none", MANIFEST, None),
    ],
)
def test_a_running_cluster_keeps_its_pod_network(
    has: str, typed: str, overruled: str | None, facts: Facts
) -> None:
    """Modules, sysctls and firewall would be set for one that is not there."""
    networks.learn_pod_network(facts.host, has)
    put(facts.host.root, MEMBER)
    put(facts.host.root, {"/boot/firmware/nodeagent.yaml": f"network: {{{typed}}}\n"})
    loaded = config.load(facts.host)
    assert cni.name(loaded.settings) == has
    assert (loaded.overruled and loaded.overruled.value) == overruled
    node = Node(facts, loaded.settings, None, None, overruled=loaded.overruled)
    seen = system.other_network(node)
    assert (seen is None) == (overruled is None)


@pytest.mark.parametrize("there", [{}, {paths.KUBELET_CONF: "server"}, {paths.FORMED: "worker"}])
@pytest.mark.parametrize("has", ["kube-router", "none"])
@pytest.mark.parametrize("typed", ["cni: flannel", MANIFEST])
def test_before_it_is_a_member_a_node_takes_another_pod_network(
    there: dict[str, str], has: str, typed: str, facts: Facts
) -> None:
    """As where a join was cut off, or a reset, or a person has run kubeadm reset."""
    networks.learn_pod_network(facts.host, has)
    put(facts.host.root, there)
    put(facts.host.root, {"/boot/firmware/nodeagent.yaml": f"network: {{{typed}}}\n"})
    loaded = config.load(facts.host)
    assert (loaded.settings.network.cni, loaded.overruled) == ("flannel", None)
    assert bool(loaded.settings.network.manifest) is (typed == MANIFEST)


@pytest.mark.parametrize(
    ("here", "told", "kept"),
    [
        ("/etc/cni/net.d/10-flannel.conflist", "", "flannel"),
        ("/etc/cni/net.d/10-flannel.conflist", "kube-router", "kube-router"),
        ("/etc/cni/net.d/05-another.conflist", "", None),
        ("/etc/cni/net.d/05-another.conflist", "of-a-later-release", None),
    ],
)
def test_a_member_keeps_the_name_of_the_pod_network_that_is_here(
    here: str, told: str, kept: str | None, facts: Facts
) -> None:
    """An earlier nodeagent kept none, and what its settings say may change at any time."""
    put(facts.host.root, {here: "{}", **MEMBER})
    networks.learn_pod_network(facts.host, told)
    networks.learn_pod_network(facts.host)
    put(facts.host.root, {"/boot/firmware/nodeagent.yaml": "network: {cni: none}\n"})
    assert config.load(facts.host).settings.network.cni == (kept or "none")


def test_the_defaults_of_a_cluster_are_kept_beside_a_tunnel_that_has_them(facts: Facts) -> None:
    routes = HEAD + WIRE + WIRE_NET + "wg0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
    put(facts.host.root, {"/proc/net/route": routes})
    assert networks.chosen(Facts(facts.host), Settings()) != Settings()
    networks.learn(facts, Settings())
    assert networks.chosen(Facts(facts.host), Settings()) == Settings()


def test_a_lan_of_ipv6_chooses_too(tmp_path: Path) -> None:
    address = "fd000010024400000000000000000005 02 40 00 80     eth0\n"
    put(tmp_path, {"/proc/net/if_inet6": address, **sysfs("eth0")})
    facts = Facts(Machine(tmp_path))
    asked = Settings(network=Network(interface="eth0", pod_cidr="fd00:10:244::/56"))
    assert networks.chosen(facts, asked).network == replace(
        asked.network, pod_cidr="fd00:10:118::/56", service_cidr="fd00:10:96::/112"
    )
