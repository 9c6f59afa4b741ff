"""Whether the cluster of this control plane has other nodes or user workloads."""

from __future__ import annotations

from typing import Any

from nodeagent.cluster import cni, kubectl
from nodeagent.host.host import Host

# Kubernetes' own, beside ``default`` (kubernetes.io, "Namespaces", initial namespaces).
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
KINDS = (
    "pods,deployments,statefulsets,daemonsets,replicasets,jobs,cronjobs,services,configmaps,"
    "secrets,persistentvolumeclaims"
)
# In each cluster's default namespace from its first minute on.
MADE_THERE = {("Service", "kubernetes"), ("ConfigMap", "kube-root-ca.crt")}


def alone(host: Host, name: str) -> bool:
    """True where the cluster is node ``name`` and nothing of anybody's. Raises CommandFailed:
    a cluster that cannot be asked is not known to be empty."""
    nodes = {item["metadata"]["name"] for item in _items(host, "nodes")}
    return not nodes - {name} and idle(host)


def idle(host: Host) -> bool:
    """True where nothing of anybody's is in the cluster of this control plane, however many nodes
    it has. Raises CommandFailed."""
    namespaces = {item["metadata"]["name"] for item in _items(host, "namespaces")}
    own = SYSTEM_NAMESPACES.union(*(network.namespaces for network in cni.NETWORKS.values()))
    if namespaces - own - {"default"} or _items(host, "persistentvolumes"):
        return False
    found = _items(host, KINDS, "--all-namespaces")
    return all(
        item["metadata"]["namespace"] in own
        or (item["kind"], item["metadata"]["name"]) in MADE_THERE
        for item in found
    )


def _items(host: Host, *words: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = kubectl.get(host, *words)["items"]
    return items
