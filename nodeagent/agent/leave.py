"""Leaves the cluster (drain, delete the Node, kubeadm reset, clean up), for every reason to.

Whoever sends a node on it has written that to the journal first. Each part can be repeated from any
point, so after a power cut the next start walks it again from the beginning, and ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from nodeagent import paths
from nodeagent.agent import provision
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import (
    addresses,
    cni,
    control_plane,
    given_up,
    kubeadm,
    kubeadm_config,
    kubeadm_state,
    kubelet_api,
    names,
    packet_filter,
)
from nodeagent.cluster.health import api_server
from nodeagent.config import settings as config
from nodeagent.errors import FleetError, Refused
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet import handoff
from nodeagent.fleet.neighbours import Neighbours
from nodeagent.host import untrusted
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.join import leave as farewell
from nodeagent.paths import BROKER, BROKER_INPUT, ENDPOINT
from nodeagent.statefile import State, StateFile
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

LOG = logging.getLogger("nodeagent")

Say = Callable[[str], None]

BROKER_UNITS = (*provision.SOCKETS, "nodeagent-broker.service")
# What kubeadm leaves to others (kubernetes.io, "kubeadm reset", cleanup of CNI configuration), and
# the data of etcd where its member could not be asked any more. Of the CNI configuration only what
# is the cluster's own: other programs have theirs there too.
REMAINS = (paths.CNI_STATE, paths.ETCD, kubeadm_state.FOLDER)
# What the journal remembers of a cluster. Counters stay: the fleet's others remember them.
OF_THE_CLUSTER: State = {
    "role": None, "initialised": None, "equipped": None, "policy": None, "claim": None,
    "born": None, "node_name": None, "stated": None, "stepping_down": None,
}  # fmt: skip
KUBEADM = "/usr/bin/kubeadm"


def step_down(
    host: Host, reporter: Reporter, state_file: StateFile, trust: Trust, key: NodeKey
) -> None:
    """End what the journal's ``stepping_down`` says was begun; nothing where it says nothing.

    Raises Blocked, CommandFailed, Refused, OSError; the same call again then goes on.
    """
    intent = state_file.values["stepping_down"]
    if intent is None:
        return
    wish = intent.get("role")
    why = f"to be {wish}" if wish else f"which is empty: {intent['name']} leads this fleet"
    reporter.enter("preparing", f"Leaving its own cluster, {why}")

    def say(text: str) -> None:
        LOG.info("leaving: %s", text)
        reporter.set(detail=f"Leaving the cluster: {text}")

    left = leave(host, state_file, say, trust, key)
    forgotten = OF_THE_CLUSTER
    if wish:
        host.make_folder(config.DROP_INS)
        host.write(config.ROLE_FILE, f"role: {wish}\n".encode())
        forgotten = {**forgotten, "vote": None}  # a person has said that this node is to begin anew
    state_file.set(**forgotten)
    more = {"role": wish} if wish else {"control_plane": intent["name"]}
    state_file.note("stepped down", **more, **({"left": left} if left else {}))
    reporter.set(role=wish or "auto", role_why="", control_plane="")


def leave(
    host: Host,
    state_file: StateFile,
    say: Say,
    trust: Trust | None,
    key: NodeKey | None,
    final: bool = False,
) -> str:
    """Out of the cluster, with all that kubeadm, kubelet and the pod network left; what people
    still have to do, empty where nothing is.

    ``final``: it gives its name up too. Raises Blocked while another kubeadm is at work, Refused,
    CommandFailed, OSError; the same call again then goes on.
    """
    # Nobody may move in any more.
    for unit in BROKER_UNITS:
        host.run("systemctl", "stop", unit, timeout=60)
    kubeadm.alone(host)
    todo = ""
    leads = host.exists(paths.ADMIN_CONF) or state_file.values["role"] == "control-plane"
    member = host.exists(paths.KUBELET_CONF) and not given_up.is_given_up(host)
    if member and not leads:
        todo = _take_leave(host, state_file, say, trust, key, final)
    leave_cluster(host, say)
    untrusted.shred(host, BROKER, *provision.FORMER)
    remove_trees(host, BROKER, BROKER_INPUT, ENDPOINT)
    host.run("sync", timeout=kubeadm.SYNC_BOUND)
    return todo


def _take_leave(
    host: Host,
    state_file: StateFile,
    say: Say,
    trust: Trust | None,
    key: NodeKey | None,
    final: bool,
) -> str:
    """A worker moves its pods away and has its Node deleted. Where the control plane is away both
    are left out: leaving must not wait for it."""
    name = state_file.values["node_name"] or Facts(host).node_name
    say("moving its pods to other nodes")
    kubelet_api.drain(host, name, say)
    uid = kubelet_api.uid(host, name)
    # A kubelet that starts again would make its node anew.
    host.run("systemctl", "stop", "kubelet", timeout=120)
    if uid == "":
        return ""
    why = "the cluster does not answer"
    if uid and trust and key:
        say("telling the control plane that this node is gone")
        try:
            why = farewell.tell(trust, key, host, places(host, state_file, trust), name, uid, final)
        except FleetError as error:
            why = error.reason
    if not why:
        return ""
    say(f"the control plane was not told: {why}")
    return f"On the control plane run: kubectl delete node {name}"


def places(host: Host, state_file: StateFile, trust: Trust) -> list[tuple[str, int]]:
    """Where control planes of the fleet may be: this node's own, the last known, and those heard
    by the network process. Hints: only TLS tells."""
    server = api_server(host.text(paths.KUBELET_CONF) or "")
    known = [server[0]] if server else []
    known += [addresses.host_of(one) for one in state_file.values["last_known"] or []]
    _, candidates = handoff.read_heard(host)
    neighbours = Neighbours(trust.beacon_key, "", trust.issuer_point)
    _, heard = neighbours.update(None, candidates, 0.0)
    said = [(h.beacon.address, h.beacon.port) for h in heard if _may_lead(h.beacon)]
    return list(dict.fromkeys([*((address, paths.ENDPOINT_PORT) for address in known), *said]))


def _may_lead(beacon: beacons.Beacon) -> bool:
    return beacon.ready and bool(beacon.address)


def leave_cluster(host: Host, say: Say) -> None:
    """kubeadm reset, and what it leaves. Raises Refused, CommandFailed."""
    control_plane.remove_user_kubeconfig(host)  # first: it is recognised by the mark in it
    if host.exists(KUBEADM):
        say("overwriting its keys")
        given_up.overwrite(host)
        say("kubeadm reset")
        host.call(
            "kubeadm", "reset", "--force", "--cri-socket", kubeadm_config.SOCKET,
            timeout=kubeadm.RESET_BOUND,
        )  # fmt: skip
    elif kubeadm_state.read(host) is not kubeadm_state.State.NOTHING:
        raise Refused(
            "This node is part of a cluster, and kubeadm, which takes it out, is not installed.",
            "Run `sudo apt-get install kubeadm`, then the same again.",
        )
    configuration: list[str] = []
    folders: list[str] = []
    for network in cni.NETWORKS.values():
        configuration += network.configuration
        folders += network.folders
    for device in filter(cni.made, host.names(paths.INTERFACES)):
        host.call("ip", "link", "delete", device)
    packet_filter.clear(host)
    names.tell(host, ())
    host.remove(config.RELEASE_FILE)  # the next cluster may be of another release,
    host.remove(config.POD_NETWORK_FILE)  # and have another pod network
    for path in configuration:  # some hold a token
        host.scrub(path)
    remove_trees(host, *configuration, *REMAINS, *folders)


def remove_trees(host: Host, *paths: str) -> None:
    """Remove folders with all that is in them; missing ones are no error. Raises CommandFailed."""
    there = [path for path in paths if host.exists(path)]
    if there:
        host.call("rm", "-rf", "--", *there, timeout=kubeadm.RESET_BOUND)
