"""The cluster's list of nodes whose kubelets may change nothing any more (see policy.yaml).

Only root writes it, with the administrator's rights: the broker, which could be taken over, has
none on it. A control plane is never on it, whoever asks: its kubelet would be lost with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nodeagent.cluster import kubectl
from nodeagent.cluster.rest import LEADS
from nodeagent.errors import Refused
from nodeagent.host.host import Host

NAME, NAMESPACE = "nodeagent-revoked", "kube-system"


def bar(host: Host, names: Sequence[str]) -> None:
    """Put names on the list, then delete their Node objects: first barred, since a kubelet that
    starts again makes its Node anew. Repeatable. Raises Refused for a control plane's name,
    CommandFailed."""
    leading = sorted(_leading(host).intersection(names))
    if leading:
        raise Refused(
            f"{leading[0]} is a control plane of this cluster, and is not thrown out.",
            "See who holds which name: sudo nodeagent nodes",
        )
    _change(host, dict.fromkeys(names, "revoked"))
    kubectl.call(host, "delete", "node", "--ignore-not-found", *names)


def let_back(host: Host, names: Sequence[str]) -> None:
    """Take names off the list; one that is not on it is no error. Raises CommandFailed."""
    _change(host, dict.fromkeys(names))


def mend(host: Host) -> None:
    """Undo what a broker of nodeagent 0.2.0, which might write the list, could have done with it:
    seal it against changes, hang it up with finalizers, or put a control plane on it. Raises
    CommandFailed."""
    found = kubectl.get(host, "configmap", NAME, "-n", NAMESPACE)
    leading = _leading(host)
    kept = {name: "revoked" for name in found.get("data") or {} if name not in leading}
    meta = found["metadata"]
    odd = found.get("immutable") or meta.get("finalizers") or meta.get("ownerReferences")
    if not odd and kept.keys() == (found.get("data") or {}).keys():
        return
    if meta.get("finalizers"):
        gone = json.dumps({"metadata": {"finalizers": None}})
        kubectl.call(host, "patch", "configmap", NAME, "-n", NAMESPACE, "--type=merge", "-p", gone)
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": kept,
    }
    kubectl.call(host, "replace", "--force", "-f", "-", stdin=json.dumps(wanted))


def _change(host: Host, data: dict[str, Any]) -> None:
    """A JSON merge patch (RFC 7396): None removes a key."""
    patch = json.dumps({"data": data}, sort_keys=True)
    kubectl.call(host, "patch", "configmap", NAME, "-n", NAMESPACE, "--type=merge", "-p", patch)


def _leading(host: Host) -> set[str]:
    """The names of the cluster's control planes."""
    return {item["metadata"]["name"] for item in kubectl.get(host, "nodes", "-l", LEADS)["items"]}
