"""The cluster's own networks beside the machine's: pods and Services must not be given addresses
that the LAN has.

Once a node has its part of a pod network that holds the LAN, its way to the router is the bridge of
its pods, and it has lost the LAN. Where somebody typed a value, a clash is told before anything is
changed; where nobody did, one that fits is chosen, alike on nodes of one LAN. After the cluster is
formed its networks are what they are.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from nodeagent.cluster import addresses, cni, kubeadm_state, resolver
from nodeagent.cluster.addresses import PODS, SERVICES
from nodeagent.cluster.kubeadm_state import State
from nodeagent.config.settings import CHOSEN_FILE, POD_NETWORK_FILE, POD_NETWORKS, Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.net import interfaces

CidrNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

NODE_PREFIX = {4: 24, 6: 64}  # what kube-controller-manager gives each node of the pod network
HEADER = (
    "# Chosen by nodeagent, or learned from the cluster; what you write elsewhere counts more.\n"
)
POD_NETWORK_HEADER = (
    "# Of the cluster, which keeps it: it counts more than what you write elsewhere.\n"
)


@dataclass(frozen=True)
class Taken:
    """Addresses that are in use outside of the cluster. ``vital``: a clash loses the LAN or the
    names; of others only some hosts would be out of reach."""

    what: str
    network: CidrNetwork
    vital: bool


def taken(facts: Facts, settings: Settings) -> list[Taken]:
    """What the machine has now; the interfaces of pod networks aside."""
    lan = set(facts.lan(settings.network.interface))
    found: list[Taken] = []
    for version in (4, 6):
        address = facts.address(settings.network.interface, version)
        if address and addresses.version(address) == version:
            found.append(_one("this node's address", address))
    for route in interfaces.routes(facts):
        if route.interface == "lo" or cni.made(route.interface):
            continue
        if route.router and not route.network.prefixlen and route.interface in lan:
            found.append(_one("the router", str(route.router)))
        if route.network.prefixlen and not route.network.is_multicast:
            found.append(Taken(f"the network of {route.interface},", route.network, False))
    for server in resolver.servers(facts, resolver.usual(facts)):
        try:
            one = _one("the name server", server)
        except ValueError:  # with a scope, as fe80::1%eth0
            continue
        if not one.network.is_loopback:
            found.append(one)
    return found


def _one(what: str, address: str) -> Taken:
    return Taken(what, ipaddress.ip_network(address), True)


def fitted(facts: Facts, settings: Settings) -> Settings:
    """As ``chosen``. Raises Blocked where somebody chose a network that does not fit."""
    return (
        _checked(chosen(facts, settings), taken(facts, settings)) if _is_open(facts) else settings
    )


def chosen(facts: Facts, settings: Settings) -> Settings:
    """The settings with networks that fit this machine, where nobody typed them; unchanged once
    kubeadm has been at work."""
    if not _is_open(facts):
        return settings
    network, found = settings.network, taken(facts, settings)
    pods, services = network.pod_cidr, network.service_cidr
    typed_pods, typed_services = pods not in _any(PODS), services not in _any(SERVICES)
    version = addresses.version(services if typed_services and not typed_pods else pods)
    kept = (facts.text(CHOSEN_FILE) or "").split()
    if not typed_services:
        now = services if services in kept else ""
        services = _first(now, SERVICES[version], found, pods if typed_pods else "")
    if not typed_pods:
        pods = _first(pods if pods in kept else "", PODS[version], found, services)
    return replace(settings, network=replace(network, pod_cidr=pods, service_cidr=services))


def _is_open(facts: Facts) -> bool:
    return facts.live and kubeadm_state.read(facts.host) in (State.NOTHING, State.HALF_INIT)


def _any(choices: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    return choices[4] + choices[6]


def _first(kept: str, choices: tuple[str, ...], found: list[Taken], other: str) -> str:
    """The first that shares nothing; where none does, the default. What was chosen before, or
    learned of a cluster, is kept unless it would lose the LAN."""
    beside = [ipaddress.ip_network(other)] if other else []
    places = [one.network for one in found]
    vital = [one.network for one in found if one.vital]
    for choice in (kept, *choices) if kept in choices else choices:
        network = ipaddress.ip_network(choice)
        if not any(
            _overlap(network, one) for one in beside + (vital if choice == kept else places)
        ):
            return choice
    return choices[0]


def _overlap(one: CidrNetwork, other: CidrNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _checked(settings: Settings, found: list[Taken]) -> Settings:
    network = settings.network
    for name, cidr, choices in (
        ("pod_cidr", network.pod_cidr, PODS),
        ("service_cidr", network.service_cidr, SERVICES),
    ):
        clash = _clash(cidr, found)
        if clash:
            other = network.service_cidr if name == "pod_cidr" else network.pod_cidr
            free = _first("", choices[addresses.version(cidr)], found, other)
            raise Blocked(
                f"`network.{name}` {cidr} holds {clash.what} {clash.network.network_address}: the"
                " node would lose its network as soon as pods run.",
                f"Write another one that is free here, such as `{name}: {free}`, into"
                " nodeagent.yaml on all nodes; nothing has been changed.",
            )
    room = _room(network.pod_cidr)
    if room < (settings.expected_nodes or 2):
        raise Blocked(
            f"`network.pod_cidr` {network.pod_cidr} has room for {room} node"
            f"{'s' if room > 1 else ''}, and the fleet is to have"
            f" {settings.expected_nodes or 'more'}: each takes a"
            f" /{NODE_PREFIX[network.version]} of it.",
            "Write a larger network, such as `pod_cidr: 10.244.0.0/16`, or the number of boards as"
            " `expected_nodes`.",
        )
    return settings


def _clash(cidr: str, found: list[Taken]) -> Taken | None:
    network = ipaddress.ip_network(cidr)
    return next((one for one in found if one.vital and _overlap(network, one.network)), None)


def _room(pod_cidr: str) -> int:
    network = ipaddress.ip_network(pod_cidr)
    return int(2 ** (NODE_PREFIX[network.version] - network.prefixlen))


def check_joining(facts: Facts, settings: Settings, networks: tuple[str, ...]) -> None:
    """Raises Blocked where the networks of the cluster that lets this node in hold its LAN."""
    for cidr in networks:
        clash = _clash(cidr, taken(facts, settings))
        if clash:
            raise Blocked(
                f"The cluster's network {cidr} holds {clash.what} {clash.network.network_address}:"
                " this node would lose its network as soon as pods run on it.",
                "Give this LAN other addresses, or form the cluster anew with `pod_cidr` and"
                " `service_cidr` that are free at every node. Nothing has been changed here.",
            )


def text(settings: Settings) -> str:
    """What is kept of the choice, as a settings file."""
    network = settings.network
    return (
        f"{HEADER}network:\n  pod_cidr: {network.pod_cidr}\n"
        f"  service_cidr: {network.service_cidr}\n"
    )


def with_those_of(settings: Settings, networks: tuple[str, ...], name: str) -> Settings:
    """The settings with a cluster's networks, of pods and of Services, and the name of its pod
    network, which an older or newer nodeagent may not know or tell."""
    pods, services = networks
    network = replace(settings.network, pod_cidr=pods, service_cidr=services)
    if name in POD_NETWORKS:
        network = replace(network, cni=name)
        if name != "none":  # as a manifest that somebody brought is called
            network = replace(network, manifest=None, manifest_sha256=None)
    return replace(settings, network=network)


def learn(facts: Facts, settings: Settings) -> None:
    """Keep what was chosen, or what the cluster has, so that each start of the agent knows it,
    whatever the defaults are then. Raises OSError."""
    _keep(facts.host, CHOSEN_FILE, text(settings))


def learn_pod_network(host: Host, name: str = "") -> None:
    """Keep the name of the cluster's pod network, which counts until the node leaves the cluster.
    Without a name nothing is changed but where nobody has kept one, as with a member of an earlier
    nodeagent's: the network that has configured itself here is the one. Raises OSError."""
    if not name and not host.exists(POD_NETWORK_FILE):
        name = next((one.name for one in cni.NETWORKS.values() if one.is_configured(host)), "")
    if name in POD_NETWORKS:
        _keep(host, POD_NETWORK_FILE, f"{POD_NETWORK_HEADER}network:\n  cni: {name}\n")


def _keep(host: Host, path: str, content: str) -> None:
    if host.text(path) != content:
        host.make_folder(path.rpartition("/")[0])
        host.write(path, content.encode())
