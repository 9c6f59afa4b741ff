"""Step: a member's files have the address that the node has now, and its cluster's names.

A router that was swapped, a lease that ran out, a cupboard that moved: kubeadm's answer to a new
address is a new cluster (kubernetes/kubeadm#338). Here each file that holds an address is compared
with what is so, so that a power cut anywhere leaves less to do, and nothing to undo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from nodeagent import paths
from nodeagent.cluster import (
    addresses,
    cni,
    credentials,
    kubeadm,
    kubeadm_config,
    kubeadm_state,
    names,
)
from nodeagent.cluster.kubeadm_state import State
from nodeagent.cluster.names import Line, Names
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, Remove, Run, Write
from nodeagent.host.facts import Facts
from nodeagent.host.net import sockets
from nodeagent.statefile import PATH, remembered
from nodeagent.steps.step import Step

SERVER_CERT = f"{paths.KUBERNETES_PKI}/apiserver.crt"
SERVER_KEY = f"{paths.KUBERNETES_PKI}/apiserver.key"
PODS = f"{paths.KUBELET}/pods"
# How the kubelet begins the copy of /etc/hosts that pods in the node's network get when a container
# of theirs starts (pkg/kubelet/kubelet_pods.go, managedHostsHeaderWithHostNetwork).
COPIED = "# Kubernetes-managed hosts file (host network)."
STOP_BOUND, CERT_BOUND = 120, 120  # seconds


@dataclass(frozen=True)
class OwnAddress(Step):
    """What kubeadm wrote of the node's address; what the kubelet runs with; who knows names."""

    name = "own-address"
    title = "Keep the cluster's files to this node's address"
    group = "Network"
    needs_root = True
    why = "Another network gives the node another address, and the cluster has to know it."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Nothing before the node is a member, and while it has no address."""
        if not facts.live:
            return
        state = kubeadm_state.read(facts.host)
        before = names.node_ip(facts.text(paths.KUBELET_FLAGS) or "")
        if state not in (State.CONTROL_PLANE, State.WORKER) or not before:
            return
        address = facts.address(settings.network.interface, addresses.version(before))
        if address is None or addresses.version(address) != addresses.version(before):
            return
        leads = state is State.CONTROL_PLANE
        api = names.server(facts.text(paths.ADMIN_CONF if leads else paths.KUBELET_CONF) or "")
        if not names.API_NAME.fullmatch(api):
            if before != address:
                raise _has_address(api, before, address)
            return
        lines = _lines(facts, api, address, leads)
        yield from _names(facts, lines, api)
        if leads:
            yield from _control_plane(facts, api, address)
        yield from _kubelet(facts, address)
        yield from _pods(facts, api, address, lines)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return names.node_ip(facts.text(paths.KUBELET_FLAGS) or "") or "in no cluster"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The names; the rest is the cluster's, and goes with it."""
        hosts = facts.text(paths.HOSTS) or ""
        if names.with_lines(hosts, ()) != hosts:
            yield Write(paths.HOSTS, names.with_lines(hosts, ()).encode())


def _has_address(api: str, before: str, address: str) -> Blocked:
    return Blocked(
        f"This node's address changed from {before} to {address}, and its cluster was made by an"
        f" earlier nodeagent, which knew it by addresses only ({api or before}).",
        f"Give the board {before} again, best by a fixed lease in the router.",
    )


def _lines(facts: Facts, api: str, address: str, leads: bool) -> tuple[Line, ...]:
    if leads:
        return names.of_control_plane(Names(api, names.peer(facts.text(names.ETCD) or "")), address)
    known = list(map(addresses.host_of, remembered(facts.read(PATH))["last_known"] or ()))
    # A state file that has lost it takes nothing from a node that works.
    return names.of_worker(api, known or names.addresses_of(facts.text(paths.HOSTS) or "", api))


def _names(facts: Facts, lines: Sequence[Line], api: str) -> Iterator[Action]:
    hosts = facts.text(paths.HOSTS) or ""
    without = names.with_lines(hosts, ())
    for name in dict.fromkeys((api, *(line.name for line in lines))):
        if others := names.addresses_of(without, name):
            raise Blocked(
                f"{paths.HOSTS} gives {name} the address {others[0]} in a line that is not"
                " nodeagent's.",
                "Take that line out; nodeagent writes its own.",
            )
    if names.with_lines(hosts, lines) != hosts:
        yield Write(paths.HOSTS, names.with_lines(hosts, lines).encode())


def _control_plane(facts: Facts, api: str, address: str) -> Iterator[Action]:
    for path in names.KUBECONFIGS:
        conf = facts.text(path) or ""
        if names.server(conf) not in ("", api):
            yield Write(path, names.with_server(conf, api).encode(), 0o600, secret=True)
    server = facts.text(names.API_SERVER) or ""
    try:
        wanted = kubeadm_config.of_now(facts.text(kubeadm.INIT_FILE) or "", server, address)
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise Blocked(
            f"{kubeadm.INIT_FILE} is not what nodeagent wrote: {error!r}.",
            "Bring it back from a copy; the cluster's certificates are renewed by it.",
        ) from error
    if facts.read(kubeadm.INIT_FILE) != wanted:
        yield Write(kubeadm.INIT_FILE, wanted, 0o600)
    # Before the API server starts anew, which the next change makes it do.
    if not credentials.serves(facts.read(SERVER_CERT), facts.read(SERVER_KEY), api, address):
        yield Remove(SERVER_CERT)
        yield Remove(SERVER_KEY, secret=True)
        words = ("kubeadm", "init", "phase", "certs", "apiserver", "--config", kubeadm.INIT_FILE)
        yield Run(words, CERT_BOUND)
        yield Run(("sync",), kubeadm.SYNC_BOUND)
    for path in (names.ETCD, names.API_SERVER):
        manifest = facts.text(path) or ""
        if names.with_address(manifest, address) != manifest:
            yield Write(path, names.with_address(manifest, address).encode(), 0o600)
    if names.with_address(server, address) != server:
        # One that is still starting stops listening when the kubelet ends it, but its start hooks
        # go on asking it until it is killed 30 s later (seen with 1.37). This kills it at once.
        yield from _stopped(facts, "--name", "^kube-apiserver$")


def _kubelet(facts: Facts, address: str) -> Iterator[Action]:
    flags = facts.text(paths.KUBELET_FLAGS) or ""
    stale = names.node_ip(flags) != address
    if stale:
        yield Write(paths.KUBELET_FLAGS, names.with_node_ip(flags, address).encode(), 0o644)
    for pid in facts.ask("pidof", "kubelet").out.split():
        running = (facts.text(f"/proc/{pid}/cmdline") or "").replace("\0", " ")
        stale = stale or names.node_ip(running) not in ("", address)
    if stale:
        yield Run(("systemctl", "restart", "kubelet"), STOP_BOUND)


def _pods(facts: Facts, api: str, address: str, lines: Sequence[Line]) -> Iterator[Action]:
    """Containers that run with what was so when they began are stopped; the kubelet starts them."""
    known = names.addresses_of(names.with_lines(facts.text(paths.HOSTS) or "", lines), api)
    for uid in facts.names(PODS):
        copy = facts.text(f"{PODS}/{uid}/etc-hosts") or ""
        had = names.addresses_of(copy, api)
        if copy.startswith(COPIED) and had != known:
            yield from _stopped(facts, "--label", f"io.kubernetes.pod.uid={uid}")
    for network in cni.NETWORKS.values():
        devices = filter(network.made, facts.names(paths.INTERFACES))
        former = [one for one in devices if _local(facts, one) not in ("", address)]
        # The network itself would go on with one that it finds.
        for device in former:
            if device not in network.tunnels:
                yield Run(("ip", "link", "delete", device))
        wanted = ("tcp", network.listener)
        at = {s.address for s in sockets.listeners(facts) if (s.protocol, s.port) == wanted}
        if former or at - {"0.0.0.0", "::", address}:  # noqa: S104  not bound here
            yield from _stopped(facts, "--name", f"^{network.container}$")


def _stopped(facts: Facts, *which: str) -> Iterator[Action]:
    running = facts.ask("crictl", "ps", "-q", *which).out.split()
    if running:
        yield Run(("crictl", "stop", *running), STOP_BOUND)


def _local(facts: Facts, device: str) -> str:
    """The node's address that a tunnel was made with (ip-link(8), local)."""
    if not facts.exists(f"{paths.INTERFACES}/{device}"):
        return ""
    try:
        shown = json.loads(facts.ask("ip", "-d", "-j", "link", "show", "dev", device).out)
        data = shown[0]["linkinfo"]["info_data"]
        return str(data.get("local") or data.get("local6") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
