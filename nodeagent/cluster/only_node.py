"""A control plane takes workloads while it is the only node of its cluster.

kubeadm keeps them off it by a taint (kubernetes.io, "Taints and Tolerations"; kubeadm docs,
"Control plane node isolation"), and a person's pods would stay Pending for ever where there is no
other node. The taint comes back with the first other node; what runs here by then stays. A taint
that a person has added or removed is left as it is.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from nodeagent.cluster import kubectl
from nodeagent.cluster.rest import LEADS
from nodeagent.errors import CommandFailed
from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

TAINT = {"key": LEADS, "effect": "NoSchedule"}
TRIES, PAUSE = 3, 1.0  # times, seconds: the Node may have changed in between
MARK = "nodeagent/only-node"  # annotation: the taint is off by this module, and comes back by it


def fit(host: Host, name: str) -> bool:
    """Have this control plane take workloads, or not any more, as the number of nodes wants it.
    False where that could not be seen or done; never fails."""
    try:
        kubectl.repeated(host, lambda: _fit(host, name), TRIES, PAUSE)
    except (CommandFailed, KeyError, TypeError, ValueError) as error:
        LOG.info("whether this node takes workloads is looked at later: %s", error)
        return False
    return True


def _fit(host: Host, name: str) -> None:
    change = _change(kubectl.get(host, "nodes")["items"], name)
    if change is not None:
        kubectl.call(host, "patch", "node", name, "--type=merge", "-p", json.dumps(change))


def _change(nodes: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The merge patch (RFC 7396) of this Node; None where nothing is to change."""
    own = next((one for one in nodes if one["metadata"]["name"] == name), None)
    if own is None:
        return None
    taints = own["spec"].get("taints", [])
    others = [one for one in taints if (one["key"], one["effect"]) != tuple(TAINT.values())]
    marked = MARK in own["metadata"].get("annotations", {})
    if len(nodes) == 1 and len(others) < len(taints) and not marked:
        mark: str | None = "true"
    elif len(nodes) > 1 and marked:
        others, mark = [*others, TAINT], None
    else:
        return None
    # With the version that was seen: another's change in between is not undone.
    version = own["metadata"]["resourceVersion"]
    return {
        "metadata": {"resourceVersion": version, "annotations": {MARK: mark}},
        "spec": {"taints": others},
    }
