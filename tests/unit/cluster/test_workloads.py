"""Whether anybody lives in a cluster: recorded answers of kubectl, and the list of its birth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodeagent import formats
from nodeagent.cluster import workloads
from nodeagent.errors import CommandFailed
from tests.support.machine import Machine, put

GET = "kubectl --kubeconfig /etc/kubernetes/admin.conf get {} -o json --request-timeout=60s"
RESOURCES = "kubectl --kubeconfig /etc/kubernetes/admin.conf api-resources --verbs=list -o name"
LISTED = ["configmaps", "events", "nodes", "pods", "deployments.apps", "widgets.example.org"]
EVERYTHING = GET.format(
    "configmaps,deployments.apps,pods,widgets.example.org --all-namespaces --show-managed-fields"
)
Item = dict[str, Any]


def item(kind: str, space: str, name: str, *, owner: str = "", by: str = "x", **more: Any) -> Item:
    """An object; its uid is made of what names it."""
    about: Item = {"namespace": space, "name": name, "uid": f"{kind}/{space}/{name}",
                   "managedFields": [{"manager": by}]}  # fmt: skip
    if owner:
        about["ownerReferences"] = [{"uid": owner}]
    return {"kind": kind, "metadata": about, **more}


BORN = [
    item("Namespace", "", "default"), item("Deployment", "kube-system", "coredns"),
    item("DaemonSet", "kube-system", "kube-proxy"), item("Service", "default", "kubernetes"),
    item("Role", "kube-system", "kubeadm:kubelet-config"),
]  # fmt: skip
# What comes later without anybody.
LATER = [
    item("Pod", "kube-system", "etcd-pi-1", owner="Node//pi-1"),
    item("ReplicaSet", "kube-system", "coredns-7", owner="Deployment/kube-system/coredns"),
    item("Pod", "kube-system", "coredns-7-x", owner="ReplicaSet/kube-system/coredns-7"),
    item("Secret", "kube-system", "bootstrap-token-abcdef", type="bootstrap.kubernetes.io/token"),
    item("ConfigMap", "kube-public", "kube-root-ca.crt"),
    item("FlowSchema", "", "probes", by="kube-apiserver"),
    item("Endpoints", "kube-system", "kube-dns", by="kube-controller-manager"),
]  # fmt: skip


def born(*more: Item) -> dict[str, str]:
    """The list of the cluster's birth, as a file."""
    uids = sorted(one["metadata"]["uid"] for one in (*BORN, *more))
    return {workloads.BIRTH: json.dumps({formats.KEY: 1, "uids": uids})}


def answers(nodes: tuple[str, ...] = ("pi-1",), more: tuple[Item, ...] = ()) -> dict[str, str]:
    """What kubectl says of a fresh cluster, with changes."""
    return {
        RESOURCES: "\n".join(LISTED),
        GET.format("nodes"): json.dumps({"items": [item("Node", "", name) for name in nodes]}),
        EVERYTHING: json.dumps({"items": [*BORN, *LATER, *more]}),
    }


@pytest.mark.parametrize(
    ("nodes", "more", "alone"),
    [
        (["pi-1"], [], True),
        (["pi-1", "pi-2"], [], False),
        (["pi-1"], [item("Deployment", "kube-system", "shop")], False),
        (["pi-1"], [item("Secret", "kube-system", "password", type="Opaque")], False),
        (["pi-1"], [item("PersistentVolumeClaim", "kube-system", "data")], False),
        (["pi-1"], [item("PersistentVolumeClaim", "x", "d", by="kube-controller-manager")], False),
        (["pi-1"], [item("Ingress", "default", "web")], False),
        (["pi-1"], [item("Role", "default", "reader")], False),
        (["pi-1"], [item("Widget", "default", "one")], False),
        (["pi-1"], [item("Namespace", "", "shop")], False),
        (["pi-1"], [item("ConfigMap", "default", "mine")], False),
        (["pi-1"], [item("Pod", "default", "left", owner="ReplicaSet/default/gone")], False),
        (["pi-1"], [item("Secret", "default", "s", owner="DaemonSet/kube-system/kube-proxy")],
         False),
    ],
)  # fmt: skip
def test_who_lives_there(tmp_path: Path, nodes: list[str], more: list[Item], alone: bool) -> None:
    put(tmp_path, born())
    machine = Machine(tmp_path, answers(tuple(nodes), tuple(more)))
    assert workloads.alone(machine, "pi-1") is alone
    assert machine.ran.count(GET.format("nodes")) == 1, "a small board needs seconds for each"


@pytest.mark.parametrize("silent", [RESOURCES, EVERYTHING, GET.format("nodes")])
def test_a_cluster_that_does_not_answer_is_not_called_empty(tmp_path: Path, silent: str) -> None:
    put(tmp_path, born())
    said = answers()
    del said[silent]
    with pytest.raises(CommandFailed):
        workloads.alone(Machine(tmp_path, said), "pi-1")


@pytest.mark.parametrize("content", [
    None, "", "{", "[1]", '{"uids": []}', json.dumps({formats.KEY: 1, "uids": None}),
    json.dumps({formats.KEY: 2, "uids": []}),
])  # fmt: skip
def test_a_cluster_without_its_list_is_not_called_empty(
    tmp_path: Path, content: str | None
) -> None:
    put(tmp_path, {workloads.BIRTH: content})
    machine = Machine(tmp_path, answers())
    assert workloads.idle(machine) is None
    assert not workloads.alone(machine, "pi-1")


def test_a_cluster_that_did_not_answer_when_it_was_made_is_never_empty(tmp_path: Path) -> None:
    machine = Machine(tmp_path, answers())
    workloads.expect(machine)
    workloads.take_list(Machine(tmp_path))
    workloads.take_list(machine)  # the next start: somebody may have used it meanwhile
    assert workloads.idle(machine) is None


def test_the_list_is_taken_once_and_only_of_a_cluster_that_was_expected(tmp_path: Path) -> None:
    machine = Machine(tmp_path, answers())
    workloads.take_list(machine)
    assert not machine.exists(workloads.BIRTH), "one that was there before: who knows what is in it"
    workloads.expect(machine)
    workloads.take_list(machine)
    assert workloads.idle(machine) is True
    guest = item("Deployment", "kube-system", "guest")
    later = Machine(tmp_path, answers(more=(guest,)))
    workloads.take_list(later)
    assert workloads.idle(later) is False
