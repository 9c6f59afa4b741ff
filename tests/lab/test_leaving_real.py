"""A worker takes its leave of a real API server (lab tier; API server of the lab's mirror, on
loopback): its kubelet's certificate moves its own pods away and no other's, the broker deletes
its Node and no other."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.broker import leave
from nodeagent.broker.ledger_file import ENROL
from nodeagent.cluster import credentials, kubelet_api
from nodeagent.host.host import Host
from nodeagent.join import leave as farewell
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from tests.lab.test_policy import Cluster, Fleet, cluster
from tests.lab.test_policy import kubelet as as_kubelet

pytestmark = [pytest.mark.lab, pytest.mark.processes, pytest.mark.network]
__all__ = ["cluster"]

NAME, OTHER = "pi-60", "pi-61"


def pod(name: str, node: str) -> str:
    """A pod that is bound to a node; no kubelet runs it."""
    return json.dumps({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0,
                 "automountServiceAccountToken": False,
                 "containers": [{"name": "c", "image": "none"}]},
    })  # fmt: skip


def as_node(name: str, cluster: Cluster, root: Path) -> Host:
    """What a worker has on its disk: address of the API server, CA, and its certificate."""
    host = Host(root)
    ca, ca_key = ((cluster.pki / f"ca.{end}").read_bytes() for end in ("crt", "key"))
    cert, key = credentials.client(
        f"system:node:{name}", ca, ca_key, time.time(), group="system:nodes"
    )
    host.write("/etc/kubernetes/pki/ca.crt", ca)
    host.write(paths.KUBELET_CLIENT, cert + key, 0o600)
    server = f"server: https://127.0.0.1:{cluster.port}\n"
    host.write(paths.KUBELET_CONF, server.encode(), 0o600)
    return host


def test_a_worker_takes_its_leave(cluster: Cluster, tmp_path: Path) -> None:
    fleet, key = Fleet(cluster, tmp_path), NodeKey(pki.new_key())
    fleet.grant(NAME, key)
    # As where the broker approved its kubelet's request; here the cluster's CA signs as it is.
    fleet.broker.ledger.certify(NAME, key.node_id, ENROL)
    cluster.kubectl("create", "serviceaccount", "default", status=0)
    for name in (NAME, OTHER):
        me = json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        assert as_kubelet(cluster, name, "create", "-f", "-", stdin=me)[0] == 0
        cluster.kubectl("create", "-f", "-", stdin=pod(f"web-{name}", name))
    host = as_node(NAME, cluster, tmp_path / NAME)
    host.clock = replace(host.clock, sleep=lambda _: time.sleep(0.2))

    # The neighbour's pods are not its to move.
    path = f"/api/v1/namespaces/default/pods/web-{OTHER}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": f"web-{OTHER}", "namespace": "default"}}  # fmt: skip
    refused = kubelet_api.ask(host, "POST", path, eviction)
    assert refused is not None and refused[0] == 403
    unschedulable = {"spec": {"unschedulable": True}}
    refused = kubelet_api.ask(host, "PATCH", f"/api/v1/nodes/{OTHER}", unschedulable)
    assert refused is not None and refused[0] == 403
    refused = kubelet_api.ask(host, "DELETE", f"/api/v1/nodes/{NAME}")
    assert refused is not None and refused[0] == 403, "so the broker has to be told"

    said: list[str] = []
    kubelet_api.drain(host, NAME, said.append)
    assert said == ["1 pods moved away"]
    assert json.loads(cluster.kubectl("get", "node", NAME, "-o", "json"))["spec"]["unschedulable"]
    pods = cluster.kubectl("get", "pods", "-o", "name")
    assert f"web-{NAME}" not in pods and f"web-{OTHER}" in pods

    uid = kubelet_api.uid(host, NAME)
    assert uid
    chain = fleet.trust.leaf("client", key.public)

    def tell(uid: str) -> None:
        nonce = fleet.broker.nonce()
        message = farewell.build(
            fleet.trust.fleet_id, key, chain, NAME, uid, final=False, nonce=nonce
        )
        leave.hear(fleet.broker, message)

    tell("11111111-2222-4333-8444-555555555555")
    assert f"node/{NAME}" in cluster.kubectl("get", "nodes", "-o", "name"), "another object"
    tell(uid)
    tell(uid)
    left = cluster.kubectl("get", "nodes", "-o", "name")
    assert f"node/{NAME}" not in left and f"node/{OTHER}" in left
    assert kubelet_api.uid(host, NAME) == ""
