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
MARK_PATH = f"/metadata/annotations/{MARK.replace('/', '~1')}"  # JSON Pointer (RFC 6901)
TAINTS_PATH = "/spec/taints"


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
    if change:
        kubectl.call(host, "patch", "node", name, "--type=json", "-p", json.dumps(change))


def _change(nodes: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The JSON patch (RFC 6902) of this Node; empty where nothing is to change."""
    own = next((one for one in nodes if one["metadata"]["name"] == name), None)
    if own is None:
        return []
    taints, marks = own["spec"].get("taints"), own["metadata"].get("annotations")
    others = [one for one in taints or () if (one["key"], one["effect"]) != tuple(TAINT.values())]
    marked = MARK in (marks or ())
    if len(nodes) == 1 and len(others) < len(taints or ()) and not marked:
        mark: list[dict[str, Any]] = [{"op": "add", "path": MARK_PATH, "value": "true"}]
        if marks is None:
            mark[:0] = [
                {"op": "test", "path": "/metadata/annotations", "value": None},
                {"op": "add", "path": "/metadata/annotations", "value": {}},
            ]
    elif len(nodes) > 1 and marked:
        others, mark = [*others, TAINT], [{"op": "remove", "path": MARK_PATH}]
    else:
        return []
    # Another's change of the taints in between is not undone. The version of the whole Node would
    # hold that as well, but its kubelet changes that by each word that it tells.
    return [
        {"op": "test", "path": TAINTS_PATH, "value": taints},
        {"op": "add", "path": TAINTS_PATH, "value": others},
        *mark,
    ]
