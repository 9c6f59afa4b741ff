"""Whether anybody lives in a cluster: recorded answers of kubectl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodeagent.cluster import workloads
from nodeagent.errors import CommandFailed
from tests.support.machine import Machine

GET = "kubectl --kubeconfig /etc/kubernetes/admin.conf get {} -o json --request-timeout=20s"
SYSTEM = [
    ("Pod", "kube-system", "etcd-pi-1"), ("Pod", "kube-flannel", "kube-flannel-ds-x"),
    ("DaemonSet", "kube-system", "kube-proxy"), ("Service", "kube-system", "kube-dns"),
    ("Secret", "kube-system", "bootstrap-token-abcdef"), ("ConfigMap", "kube-public", "x"),
    ("Service", "default", "kubernetes"), ("ConfigMap", "default", "kube-root-ca.crt"),
]  # fmt: skip
NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease", "kube-flannel"]


def answers(**changes: Any) -> dict[str, str]:
    """What kubectl says of a fresh cluster, with changes."""
    named = {"nodes": ["pi-1"], "namespaces": NAMESPACES, "persistentvolumes": []}
    objects = [*SYSTEM, *changes.pop("more", [])]
    said = {
        kind: [{"metadata": {"name": name}} for name in names]
        for kind, names in {**named, **changes}.items()
    }
    said[f"{workloads.KINDS} --all-namespaces"] = [
        {"kind": kind, "metadata": {"namespace": space, "name": name}}
        for kind, space, name in objects
    ]
    return {GET.format(what): json.dumps({"items": items}) for what, items in said.items()}


@pytest.mark.parametrize(
    ("changes", "alone"),
    [
        ({}, True),
        ({"nodes": ["pi-1", "pi-2"]}, False),
        ({"nodes": []}, True),
        ({"namespaces": [*NAMESPACES, "shop"]}, False),
        ({"persistentvolumes": ["disk"]}, False),
        ({"more": [("Pod", "default", "web")]}, False),
        ({"more": [("Secret", "default", "password")]}, False),
        ({"more": [("Service", "default", "web")]}, False),
        ({"more": [("ConfigMap", "default", "kubernetes")]}, False),
    ],
)
def test_who_lives_there(tmp_path: Path, changes: dict[str, Any], alone: bool) -> None:
    assert workloads.alone(Machine(tmp_path, answers(**changes)), "pi-1") is alone


def test_a_cluster_that_does_not_answer_is_not_called_empty(tmp_path: Path) -> None:
    said = answers()
    del said[GET.format("persistentvolumes")]
    with pytest.raises(CommandFailed):
        workloads.alone(Machine(tmp_path, said), "pi-1")
