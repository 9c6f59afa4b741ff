"""The cluster's own test before a double of kubectl and of the replicas, held to what kubectl 1.36
prints (the parts that are read) and to agnhost's netexec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from nodeagent.cluster import acceptance
from nodeagent.cluster.cni import flannel, given, kube_router
from nodeagent.cluster.cni.network import PodNetwork
from nodeagent.errors import CommandFailed, VerifyFailed
from nodeagent.host.host import Clock, Host, Result
from tests.support.machine import put

SERVICE = "10.96.12.34"
NODE_PORT = 31234
WEB = f"web.{acceptance.NAMESPACE}.svc.cluster.local"


class Cluster(Host):
    """A double of a control plane with replicas on nodes."""

    def __init__(self, nodes: Sequence[str], root: Path) -> None:
        self.time = 0.0
        super().__init__(root, self._kubectl, Clock(monotonic=lambda: self.time, sleep=self._sleep))
        self.nodes = list(nodes)
        self.ran: list[str] = []
        self.applied: list[dict[str, Any]] = []
        self.pending = 1  # looks until the replicas are ready
        self.cut: set[tuple[str, str]] = set()  # (from node, to node) without a way
        self.waiting: dict[str, str] = {"reason": "ContainerCreating"}
        self.leads_to = len(nodes)  # replicas that the Service knows
        self.dns = True
        self.asked = 0
        self.silent = 0  # requests that the API server leaves unanswered
        self.late = 0  # answers of replicas that come too late
        self.away: set[str] = set()  # nodes that are not Ready
        self.enforces = True  # NetworkPolicy, if there is one
        self.stays = False  # as it was, whatever is deleted
        self.tried = self.closed = False  # whether a policy was applied, and counts
        self.mute = False  # once a policy is there, no replica answers this node
        self.deaf = ""  # the address of a node whose NodePort does not answer
        put(root, {"/etc/hostname": "pi-1\n"})

    def _sleep(self, seconds: float) -> None:
        self.time += seconds

    def _kubectl(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        words = [word for word in argv[1:] if not word.startswith("-")]
        self.ran.append(" ".join(words[1:3]))
        if self.silent and "delete" not in words:
            self.silent -= 1
            return Result(1, "", "error: unexpected error when reading response body.")
        if "apply" in words:
            said = list(yaml.safe_load_all(stdin or ""))
            self.tried |= said[0]["kind"] == "NetworkPolicy"
            self.closed |= self.enforces and said[0]["kind"] == "NetworkPolicy"
            self.applied = self.applied or said
        if "delete" in words and stdin:
            self.closed &= self.stays
        if "pods" in words:
            ready, self.pending = self.pending <= 0, self.pending - 1
            items = [self._pod(number, ready) for number in range(len(self.nodes))]
            return Result(0, json.dumps({"kind": "List", "items": items}))
        if "service" in words:
            ports = [{"port": 80, "nodePort": NODE_PORT}]
            return Result(0, json.dumps({"spec": {"clusterIP": SERVICE, "ports": ports}}))
        if "nodes" in words:
            items = [self._node(name) for name in sorted({*self.nodes, *self.away, "pi-1"})]
            return Result(0, json.dumps({"kind": "List", "items": items}))
        return Result(0)

    def _node(self, name: str) -> dict[str, Any]:
        """As the API server tells of a node, v1."""
        told = ("Hostname", name), ("InternalIP", f"10.77.0.{name[-1]}")
        addresses = [{"type": kind, "address": value} for kind, value in told]
        conditions = [{"type": "Ready", "status": str(name not in self.away)}]
        status = {"addresses": addresses, "conditions": conditions}
        return {"metadata": {"name": name}, "status": status}

    def _pod(self, number: int, ready: bool) -> dict[str, Any]:
        """As the API server tells of a pod, v1."""
        state = {"running": {}} if ready else {"waiting": self.waiting}
        return {
            "metadata": {"name": f"web-6d4b75cb6d-{number}", "namespace": acceptance.NAMESPACE},
            "spec": {"nodeName": self.nodes[number]},
            "status": {
                "phase": "Running" if ready else "Pending",
                "podIP": f"10.244.{number}.7",
                "conditions": [
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "Ready", "status": str(ready)},
                ],
                "containerStatuses": [{"name": "web", "ready": ready, "state": state}],
            },
        }

    def get(self, address: str, port: int, path: str) -> str:
        """The replicas' side."""
        if self.mute and self.tried:
            raise TimeoutError("timed out")
        if self.late:
            self.late -= 1
            return '{"errors":["reading from connection failed: i/o timeout"]}'
        asked = urlsplit(path)
        if address == SERVICE:
            self.asked += 1
            return f"web-6d4b75cb6d-{self.asked % self.leads_to}"
        if port == NODE_PORT:
            if address == self.deaf:
                raise TimeoutError("timed out")
            return "web-6d4b75cb6d-0"
        number = int(address.split(".")[2])
        assert (port, address) == (acceptance.PORT, f"10.244.{number}.7")
        if asked.path == "/hostname":
            if ("here", self.nodes[number]) in self.cut:
                raise TimeoutError("timed out")
            return f"web-6d4b75cb6d-{number}"
        words = {name: value[0] for name, value in parse_qs(asked.query).items()}
        assert asked.path == "/dial" and words["request"] == "hostname"
        if words["host"] == WEB:
            return '{"responses":["web-6d4b75cb6d-0"]}' if self.dns else '{"errors":["no host"]}'
        other = int(words["host"].split(".")[2])
        shut = self.closed and other == 0 and number
        if shut or (self.nodes[number], self.nodes[other]) in self.cut:
            return '{"errors":["reading from connection failed: i/o timeout"]}'
        return json.dumps({"responses": [f"web-6d4b75cb6d-{other}"]})


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(["pi-1", "pi-2", "pi-3"], tmp_path)


def run(cluster: Cluster) -> list[str]:
    return list(
        acceptance.verify(cluster, "registry.example/agnhost:1", flannel.NETWORK, cluster.get)
    )


def test_a_good_cluster(cluster: Cluster) -> None:
    lines = run(cluster)
    assert lines[0] == "3 replicas are ready after 3 s, on pi-1, pi-2, pi-3"
    assert "6 times across nodes" in lines[2]
    assert lines[-1].startswith("everything is removed")
    assert cluster.ran[0].startswith("apply") or "apply" in cluster.ran[0]
    assert "delete namespace" in cluster.ran[-1]


def test_what_is_deployed(cluster: Cluster) -> None:
    run(cluster)
    kinds = {one["kind"]: one for one in cluster.applied}
    assert set(kinds) == {"Namespace", "Deployment", "Service"}
    assert {one["metadata"].get("namespace", acceptance.NAMESPACE) for one in cluster.applied} == {
        acceptance.NAMESPACE
    }
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/agnhost:1"
    assert kinds["Deployment"]["spec"]["replicas"] == acceptance.REPLICAS
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_one_node_is_said_to_be_no_proof_across_nodes(tmp_path: Path) -> None:
    lines = run(Cluster(["pi-1"] * 3, tmp_path))
    assert any("note: there is one node only" in line for line in lines)


def test_a_worker_that_has_all_replicas_is_reached_from_here(tmp_path: Path) -> None:
    lines = run(Cluster(["pi-2"] * 3, tmp_path))
    assert lines[0].endswith("on pi-2") and not any("note:" in line for line in lines)
    assert f"the NodePort {NODE_PORT} answers on each of 2 nodes" in lines
    assert any(line.startswith("pi-2 alone takes workloads") for line in lines)


def test_a_node_that_is_away_is_said_and_not_asked(cluster: Cluster) -> None:
    cluster.away, cluster.deaf = {"pi-9"}, "10.77.0.9"
    lines = run(cluster)
    assert f"the NodePort {NODE_PORT} answers on each of 3 nodes" in lines
    assert "note: pi-9 is not Ready, so nothing was tried there" in lines


def test_a_persons_own_pod_would_be_treated_alike(cluster: Cluster) -> None:
    """Where every node has a taint, it stays Pending too."""
    run(cluster)
    (pod,) = [one["spec"]["template"]["spec"] for one in cluster.applied if "replicas" in
              one.get("spec", {})]  # fmt: skip
    assert "tolerations" not in pod


def test_a_network_without_policies_is_called_so(cluster: Cluster) -> None:
    assert "flannel enforces no NetworkPolicy, so none was tried" in run(cluster)


def tried(cluster: Cluster, network: PodNetwork) -> list[str]:
    return list(acceptance.verify(cluster, "x/agnhost:1", network, cluster.get))


@pytest.mark.parametrize("network", [kube_router.NETWORK, given.NONE], ids=lambda one: one.name)
def test_a_network_policy_is_tried(network: PodNetwork, cluster: Cluster) -> None:
    said = "a NetworkPolicy closes a replica to the others, and without it they reach it again"
    assert said in tried(cluster, network)
    assert "label pod" in cluster.ran


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"enforces": False}, "that closes web-6d4b75cb6d-0 on pi-1 does nothing"),
        ({"stays": True}, "web-6d4b75cb6d-0 on pi-1 stays closed"),
        # Of a replica that this node does not reach nothing is known.
        ({"mute": True}, "web-6d4b75cb6d-1 on pi-2 does not answer any more"),
    ],
)
def test_a_policy_that_is_promised_and_does_nothing_is_a_fault(
    cluster: Cluster, fault: dict[str, bool], words: str
) -> None:
    vars(cluster).update(fault)
    with pytest.raises(VerifyFailed) as caught:
        tried(cluster, kube_router.NETWORK)
    assert words in caught.value.reason and "-n kube-router" in caught.value.remedy


def test_of_a_persons_own_network_it_is_found_out(cluster: Cluster) -> None:
    cluster.enforces = False
    assert "the pod network enforces no NetworkPolicy" in tried(cluster, given.NONE)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"cut": {("here", "pi-2")}}, "web-6d4b75cb6d-1 on pi-2: no answer"),
        ({"cut": {("pi-1", "pi-3")}}, "pi-1 to pi-3"),
        ({"deaf": "10.77.0.2"}, "The NodePort 31234 of pi-2 at 10.77.0.2: no answer"),
        ({"leads_to": 2}, "Through the Service at 10.96.12.34 only"),
        ({"dns": False}, "On pi-1 the name web.nodeagent-verify.svc.cluster.local leads nowhere"),
        (
            {"pending": 10**6, "waiting": {
                "reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}},
            "0 of 3 replicas are ready after 600 s: ImagePullBackOff Back-off pulling",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_named_and_all_is_removed(
    cluster: Cluster, fault: dict[str, Any], words: str
) -> None:
    vars(cluster).update(fault)
    with pytest.raises(VerifyFailed) as caught:
        run(cluster)
    assert words in caught.value.reason and caught.value.remedy
    assert "delete namespace" in cluster.ran[-1]


@pytest.mark.parametrize("fault", [{"silent": 5}, {"late": 4}, {"silent": 3, "late": 2}])
def test_a_busy_control_plane_is_asked_anew(cluster: Cluster, fault: dict[str, int]) -> None:
    vars(cluster).update(fault)
    assert run(cluster)[-1].startswith("everything is removed")


def test_a_refused_manifest_is_removed_too(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        cluster.ran.append(" ".join(argv))
        return Result(1 if "apply" in argv else 0, "", "denied")

    monkeypatch.setattr(cluster, "_run", refused)
    monkeypatch.setattr(acceptance, "need_control_plane", lambda host: None)
    with pytest.raises(CommandFailed, match="denied") as caught:
        list(acceptance.verify_cluster(cluster, None))
    assert caught.value.remedy.endswith("run it again.")  # no agent does it instead
    assert "delete namespace" in cluster.ran[-1]
