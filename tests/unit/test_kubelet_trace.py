"""How words of kubelets are cut down, and when those of the double are other ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab import traced
from tests.support.kubelet_trace import (
    HOSTS_HEAD,
    State,
    Told,
    differences,
    left,
    left_otherwise,
    reduced,
    told,
)

WORDS = {"pi-1": "leader", "10.77.0.11": "leader-before", "192.168.9.21": "leader-after"}


def node(address: str, boot: str, ready: str = "True KubeletReady") -> dict[str, Any]:
    status, reason = ready.split()
    return {
        "kind": "Node",
        "metadata": {
            "name": "pi-1", "annotations": {"flannel.alpha.coreos.com/public-ip": address}
        },
        "status": {
            "conditions": [{"type": "Ready", "status": status, "reason": reason}],
            "addresses": [{"type": "InternalIP", "address": address}],
            "nodeInfo": {"bootID": boot},
        },
    }  # fmt: skip


def pod(name: str, owner: str, **more: Any) -> dict[str, Any]:
    notes = {f"kubernetes.io/config.{kind}": "4f" for kind in ("hash", "mirror")}
    return {
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "kube-system", "uid": "u-1", "annotations": notes,
            "ownerReferences": [{"kind": owner, "name": "kube-proxy"}],
        },
        "spec": {"nodeName": "pi-1", "hostNetwork": True} | more,
        "status": {
            "podIP": "10.77.0.11", "podIPs": [{"ip": "10.77.0.11"}], "phase": "Running",
            "containerStatuses": [{"ready": True, "restartCount": 2}],
        },
    }  # fmt: skip


def recorded(*things: dict[str, Any]) -> Told:
    return told([json.dumps(reduced(thing)) for thing in things], WORDS)


def test_addresses_become_words_and_boots_ordinals() -> None:
    unknown = node("10.77.0.11", "b", "Unknown NodeStatusUnknown")
    things = node("10.77.0.11", "a"), unknown, node("10.77.0.11", "a"), node("192.168.9.21", "c")
    first: State = {"ready": "True KubeletReady", "addresses": "InternalIP leader-before",
                    "boot": "1", "public-ip": "leader-before"}  # fmt: skip
    last = {"addresses": "InternalIP leader-after", "boot": "2", "public-ip": "leader-after"}
    assert recorded(*things) == {"node leader": [first, first | last]}


def test_a_pod_is_named_by_what_it_is_and_where() -> None:
    found = recorded(pod("etcd-pi-1", "Node"), pod("kube-proxy-x7k2p", "DaemonSet"))
    assert list(found) == ["etcd on leader", "kube-proxy on leader"]
    assert found["etcd on leader"] == [{
        "uid": "1", "hash": "1", "mirror": "1", "source": "", "podIP": "leader-before",
        "podIPs": "leader-before", "phase": "Running", "ready": "True", "restarts": "2",
    }]  # fmt: skip


@pytest.mark.parametrize(
    "other", [pod("coredns", "ReplicaSet", hostNetwork=False), pod("new", "", nodeName=None)]
)
def test_other_pods_are_not_told(other: dict[str, Any]) -> None:
    assert reduced(other) is None


A, B, C = {"ready": "True"}, {"ready": "False"}, {"ready": "True", "restarts": "3"}


@pytest.mark.parametrize(
    ("real", "double", "found"),
    [
        ([B, A, B, A], [B, A], ""),
        ([A], [C], ""),
        ([A, B], [A], "in the end"),
        ([A], [B, A], "never told {'ready': 'False'}"),
    ],
)
def test_what_differs(real: list[State], double: list[State], found: str) -> None:
    said = differences({"x": real}, {"x": double})
    assert (len(said), found in "".join(said)) == (bool(found), True)


def test_an_object_of_only_one_of_both_differs() -> None:
    assert differences({"x": [A]}, {}) == ["only one of both tells of x"]


def test_what_is_left_on_a_board(tmp_path: Path) -> None:
    name = "f-aaaaaaaaaaaaaaaa.internal"
    files = {
        "var/lib/kubelet/pods/1/etc-hosts":
            f"{HOSTS_HEAD}\n127.0.0.1 localhost\n192.168.9.21 api.{name}\n10.77.0.11 n-a7.{name}\n",
        "var/lib/kubelet/pods/2/etc-hosts": f"# of a pod network\n10.0.0.1 api.{name}",
        "proc/7/cmdline": "/usr/bin/kubelet\0--node-ip=192.168.9.21\0--config=x\0",
        "proc/8/cmdline": "",
    }  # fmt: skip
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    found = left(tmp_path, WORDS)
    assert found == {
        "node-ip": ["leader-after"], "containers": [],
        "hosts": [f"{HOSTS_HEAD} leader-after api leader-before n"],
    }  # fmt: skip
    assert not left_otherwise(found | {"containers": ["etcd 2 CONTAINER_RUNNING"]}, found)
    assert left_otherwise(found | {"node-ip": []}, found)


def test_a_recording_has_a_state_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "FOLDER", tmp_path)
    data: dict[str, Any] = {"clean": True, "told": {"x": [A, C]}, "left": {"leader": {"a": ["b"]}}}
    traced.write("carried", data)
    text = (tmp_path / "carried.json").read_text()
    assert json.loads(text) == data
    assert '   { "ready": "True", "restarts": "3" }\n' in text
