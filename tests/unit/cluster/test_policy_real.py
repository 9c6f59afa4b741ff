"""The join policy on a real API server (lab tier): how long a token may live, what kubeadm's own
phase would have granted and must or must not be there. The rest is in tests/lab/test_policy.py.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeagent.cluster import kubectl, node
from nodeagent.cluster.api import SECRETS, Api
from nodeagent.errors import CommandFailed
from nodeagent.host.host import Host, Result
from tests.lab.test_policy import KUBERNETES, Cluster, secret

pytestmark = [pytest.mark.lab, pytest.mark.processes, pytest.mark.network]

# What `kubeadm init phase bootstrap-token` and `kubeadm upgrade apply` make, and we take away.
LEFTOVERS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:node-autoapprove-bootstrap"}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
subjects:
  - apiGroup: rbac.authorization.k8s.io
    kind: Group
    name: "system:bootstrappers:kubeadm:default-node-token"
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: "kubeadm:bootstrap-signer-clusterinfo"
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One API server with kubeadm's leftovers, then the policy as the agent applies it."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))

    def run(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        """The real kubectl, on this cluster instead of the machine's own."""
        words = [str(cluster.admin) if word == kubectl.ADMIN else word for word in argv]
        words[0] = str(KUBERNETES / words[0])
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    try:
        cluster.kubectl("apply", "-f", "-", stdin=LEFTOVERS)
        node.apply_policy(Host(run=run))
        node.apply_policy(Host(run=run))  # repeatable
        time.sleep(5)  # admission policies are watched, not read
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def broker(cluster: Cluster) -> Api:
    """The API as the broker's user."""
    return cluster.user("nodeagent:broker")


def lifetime(**length: float) -> dict[str, Any]:
    """A Secret like the broker's that expires so long from now."""
    expires = datetime.now(UTC) + timedelta(**length)
    return secret(data={"expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})


@pytest.mark.parametrize("minutes", [-1, 1, 10, 14])
def test_short_lives_pass(broker: Api, minutes: int) -> None:
    broker._call("POST", SECRETS, lifetime(minutes=minutes), (201,))
    broker.delete_token("abcdef")


@pytest.mark.parametrize(
    "expiration",
    [
        "2099-01-01T00:00:00Z",
        "2026-11-21T11:30:00+00:00",  # right, and not the one form that is read
        "not a time at all...",
        "~~~~-~~-~~T~~:~~:~~Z",
        "",
    ],
)
def test_other_expirations_are_refused(broker: Api, expiration: str) -> None:
    with pytest.raises(CommandFailed, match=r"status (403|422)"):
        broker._call("POST", SECRETS, secret(data={"expiration": expiration}), (201,))


@pytest.mark.parametrize("length", [{"minutes": 16}, {"hours": 24}, {"days": 3650}])
def test_long_lives_are_refused(broker: Api, length: dict[str, float]) -> None:
    with pytest.raises(CommandFailed, match=r"status (403|422)"):
        broker._call("POST", SECRETS, lifetime(**length), (201,))


def test_what_kubeadm_would_leave_open_is_closed(cluster: Cluster) -> None:
    left = json.loads(cluster.kubectl("get", "clusterrolebindings", "-o", "json"))["items"]
    names = {item["metadata"]["name"] for item in left}
    assert "kubeadm:node-autoapprove-bootstrap" not in names
    assert "kubeadm:node-autoapprove-certificate-rotation" in names
    public = cluster.kubectl("-n", "kube-public", "get", "rolebindings", "-o", "name")
    assert "kubeadm:" not in public


def test_the_api_server_may_reach_kubelets(cluster: Cluster) -> None:
    for verb, part in (("create", "proxy"), ("get", "proxy"), ("get", "log")):
        said = cluster.kubectl(
            "auth", "can-i", verb, "nodes", f"--subresource={part}",
            "--as", "kube-apiserver-kubelet-client",
        )  # fmt: skip
        assert said.startswith("yes"), (verb, part)
