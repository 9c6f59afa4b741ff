"""The API as this node's own kubelet may use it: its node, and the pods on it.

No rights are needed that a worker has not anyway: its certificate may change its own Node and evict
exactly the pods bound to it (kubernetes.io, "Using Node Authorization", and NodeRestriction in
"Admission Controllers"). So a node moves its own pods away, and nobody else can be asked to.
"""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Callable
from typing import Any

from nodeagent import paths
from nodeagent.cluster import rest
from nodeagent.cluster.health import api_server
from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

DRAIN_BOUND = 120.0  # seconds until pods that will not go are left to be stopped
DRAIN_LOOK = 3.0  # seconds between looks
MIRROR = "kubernetes.io/config.mirror"  # kubernetes.io, "Well-Known Labels, Annotations and Taints"

Answer = tuple[int, Any]  # HTTP status, JSON


def ask(host: Host, method: str, path: str, body: Any = None) -> Answer | None:
    """One request with the kubelet's certificate; None where nothing is answered that is JSON, or
    this node has no certificate. Never fails."""
    answer = _ask(host, method, path, body)
    try:
        return None if answer is None else (answer.status, json.loads(answer.body))
    except ValueError:
        return None


def time(host: Host) -> float | None:
    """What the clock of the API server says, in seconds since the epoch; None where it does not
    answer. Never fails."""
    answer = _ask(host, "GET", "/version")
    return answer and answer.time


def _ask(host: Host, method: str, path: str, body: Any = None) -> rest.Answer | None:
    where = api_server(host.text(paths.KUBELET_CONF) or "")
    if where is None:
        return None
    files = [str(host.path(name)) for name in (paths.KUBERNETES_CA, paths.KUBELET_CLIENT)]
    try:
        return rest.request(where, files, method, path, body)
    except (OSError, http.client.HTTPException):
        return None


def uid(host: Host, name: str) -> str | None:
    """Of this node's Node object; empty where there is none, None where that is not known."""
    answer = ask(host, "GET", f"/api/v1/nodes/{name}")
    if answer is None or answer[0] not in (200, 404):
        return None
    try:
        return str(answer[1]["metadata"]["uid"]) if answer[0] == 200 else ""
    except (KeyError, TypeError):
        return None


def drain(host: Host, name: str, say: Callable[[str], None]) -> None:
    """No new pods here, and evict those that are (kubernetes.io, "API-initiated Eviction"), as far
    as their budgets let them go within two minutes. What is left is stopped with the node: somebody
    has said that it leaves. Never fails."""
    cordoned = ask(host, "PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
    if cordoned is None or cordoned[0] != 200:
        say("the cluster does not answer; the pods here are stopped where they are")
        return
    deadline = host.clock.monotonic() + DRAIN_BOUND
    asked: set[str] = set()
    while (pods := _movable(host, name)) and host.clock.monotonic() < deadline:
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"]:
                asked |= _evict(host, pod)
        host.clock.sleep(DRAIN_LOOK)
    gone = len(asked - {_uid(pod) for pod in pods})
    left = f"; {len(pods)} do not go and are stopped here" if pods else ""
    say(f"{gone} pods moved away{left}")


def _evict(host: Host, pod: dict[str, Any]) -> set[str]:
    meta = pod["metadata"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
    }
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
    answer = ask(host, "POST", path, body)
    if answer is not None and answer[0] in (200, 201, 404):
        return {_uid(pod)}
    LOG.info("%s/%s is not evicted yet: %s", meta["namespace"], meta["name"], answer and answer[0])
    return set()


def _movable(host: Host, name: str) -> list[dict[str, Any]]:
    """The pods here that somebody would miss: not a DaemonSet's, which belong to the node, not
    static ones, and not those that have ended."""
    answer = ask(host, "GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}")
    try:
        pods = answer[1]["items"] if answer and answer[0] == 200 else []
        return [pod for pod in pods if _is_movable(pod)]
    except (KeyError, TypeError, AttributeError):
        return []


def _is_movable(pod: dict[str, Any]) -> bool:
    meta = pod["metadata"]
    owners = {owner["kind"] for owner in meta.get("ownerReferences", [])}
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not (ended or "DaemonSet" in owners or MIRROR in meta.get("annotations", {}))


def _uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])
