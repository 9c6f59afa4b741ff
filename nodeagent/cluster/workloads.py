"""Whether anything of anybody's is in the cluster of this control plane: what is lost with it.

Empty means that nothing is there which was not there when the cluster was born: of every kind that
the API server lists, custom ones too, in every namespace, compared by uid with a list taken then. A
cluster without such a list is not known to be empty.

Not compared are what comes and goes by itself (``PASSING``), what belongs to an object that is
judged itself (``OWNED``), and what the cluster's own parts write at any time (``OF_THE_PARTS``).
"""

from __future__ import annotations

import json
import logging
from typing import Any

from nodeagent import formats, paths
from nodeagent.cluster import kubeadm_state, kubectl
from nodeagent.errors import CommandFailed
from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

# Goes with kubeadm's own files when the cluster does. No uids in it: the list is still to be taken.
BIRTH = f"{kubeadm_state.FOLDER}/birth.json"
TRIES, PAUSE = 3, 5.0  # times, seconds
FORMAT = 1

# Names as `kubectl api-resources -o name` prints them. Nodes are asked for apart; nodes write the
# others, which hold nothing that anybody made.
PASSING = frozenset({
    "nodes", "events", "events.events.k8s.io", "componentstatuses", "leases.coordination.k8s.io",
    "csinodes.storage.k8s.io", "certificatesigningrequests.certificates.k8s.io",
})  # fmt: skip
# Kinds that are made of others, and removed with them (kubernetes.io, "Owners and Dependents").
OWNED = frozenset({"Pod", "ReplicaSet", "ControllerRevision", "EndpointSlice", "Job"})
# Who writes by itself, as metadata.managedFields says, and what of it holds nobody's data: not the
# PersistentVolumeClaim that is made for a StatefulSet and outlives it.
PARTS = frozenset({"kube-apiserver", "kube-controller-manager"})
OF_THE_PARTS = frozenset({
    "ConfigMap", "ServiceAccount", "Endpoints", "EndpointSlice", "FlowSchema", "IPAddress",
    "PriorityLevelConfiguration", "PriorityClass", "Role", "RoleBinding", "ClusterRole",
    "ClusterRoleBinding", "APIService", "ServiceCIDR",
})  # fmt: skip
# In each namespace from its first minute on, and again where somebody deletes it.
EVERYWHERE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
TOKEN = "bootstrap.kubernetes.io/token"  # noqa: S105  a type of Secret: what the broker gives


def alone(host: Host, name: str) -> bool:
    """True where the cluster is node ``name`` and nothing of anybody's. Raises CommandFailed:
    a cluster that cannot be asked is not known to be empty."""
    nodes = kubectl.get(host, "nodes")["items"]
    others = {item["metadata"]["name"] for item in nodes} - {name}
    return not others and idle(host, nodes) is True


def idle(host: Host, nodes: list[dict[str, Any]] | None = None) -> bool | None:
    """True where nothing of anybody's is in the cluster of this control plane, however many nodes
    it has (``nodes``, where they were asked for just now); None where that is not known, since no
    list was taken. Raises CommandFailed."""
    born = _born(host)
    if born is None:
        return None
    found = _everything(host)
    there = found + (kubectl.get(host, "nodes")["items"] if nodes is None else nodes)
    uids = {_uid(item) for item in there}
    added = [one for one in found if _uid(one) not in born and not _follows(one, uids)]
    for one in added[:5]:
        about = one["metadata"]
        LOG.info("not from the cluster's birth: %s %s", one["kind"], about["name"])
    return not added


def expect(host: Host) -> None:
    """A cluster is about to be made, whose list is to be taken. Raises OSError."""
    _write(host, None)


def take_list(host: Host) -> None:
    """Once, when the cluster is formed: what is in it now is its own. Nothing where it was not made
    by ``expect``, or is done. Where the cluster does not answer, no list is ever taken: later,
    somebody's things may be in it. Raises OSError."""
    if _read(host) != {formats.KEY: FORMAT, "uids": None}:
        return
    try:
        found = kubectl.repeated(host, lambda: _everything(host), TRIES, PAUSE)
    except (CommandFailed, ValueError, KeyError, TypeError) as error:
        LOG.warning("This cluster will never count as empty: what is in it is not known: %s", error)
        host.remove(BIRTH)
        return
    _write(host, sorted(_uid(item) for item in found))


def _write(host: Host, uids: list[str] | None) -> None:
    host.make_folder(kubeadm_state.FOLDER, 0o700)
    host.write(BIRTH, json.dumps({formats.KEY: FORMAT, "uids": uids}).encode(), 0o600)


def _read(host: Host) -> Any:
    try:
        return json.loads(host.read(BIRTH) or b"null")
    except ValueError:
        return None


def _born(host: Host) -> frozenset[str] | None:
    content = _read(host)
    known = isinstance(content, dict) and content.get(formats.KEY) == FORMAT
    uids = content.get("uids") if known else None
    return frozenset(map(str, uids)) if isinstance(uids, list) else None


def _everything(host: Host) -> list[dict[str, Any]]:
    """Every object of every kind. Raises CommandFailed, also where one kind cannot be listed."""
    listed = host.call(
        "kubectl", "--kubeconfig", paths.ADMIN_CONF, "api-resources", "--verbs=list", "-o", "name",
        timeout=kubectl.BOUND,
    ).split()  # fmt: skip
    kinds = ",".join(sorted({*listed} - PASSING))
    items: list[dict[str, Any]] = kubectl.get(
        host, kinds, "--all-namespaces", "--show-managed-fields"
    )["items"]
    return items


def _uid(item: dict[str, Any]) -> str:
    return str(item["metadata"]["uid"])


def _follows(item: dict[str, Any], there: set[str]) -> bool:
    """True for what others answer for: see the beginning of this module."""
    kind, about = item["kind"], item["metadata"]
    if kind == "Secret" and item.get("type") == TOKEN:
        return True
    owners = {str(owner.get("uid")) for owner in about.get("ownerReferences", [])}
    if kind in OWNED and owners & there:
        return True
    if (kind, about["name"]) in EVERYWHERE:
        return True
    writers = {entry.get("manager") for entry in about.get("managedFields", [])}
    return kind in OF_THE_PARTS and bool(writers) and writers <= PARTS
