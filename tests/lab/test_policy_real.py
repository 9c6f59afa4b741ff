"""Our manifests and files before a real API server and a real kubeadm (lab tier): how long a token
may live, what kubeadm's own phase would have granted and must or must not be there, whether the
configuration files are understood. The rest of the policy is in tests/lab/test_policy.py.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.broker.kube_api import SECRETS, Api
from nodeagent.cluster import cni, kubeadm_config, kubectl, names, versions
from nodeagent.cluster import control_plane as node
from nodeagent.config.settings import Settings
from nodeagent.errors import CommandFailed
from tests.lab.test_policy import KUBERNETES, Cluster, secret

NAMES = names.of("f-" + "a" * 16, "n-" + "b" * 16)

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

    try:
        cluster.kubectl("apply", "-f", "-", stdin=LEFTOVERS)
        host = cluster.host()
        for _ in range(2):  # repeatable
            kubectl.apply_text(host, node.policy())
            node.close_doors(host)
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


def test_flannel_is_taken_as_it_is_and_again(cluster: Cluster) -> None:
    host = cluster.host()
    for _ in range(2):
        kubectl.apply_text(host, cni.chosen(Settings()).manifest(Settings()))
    sets = cluster.kubectl("-n", "kube-flannel", "get", "daemonsets", "-o", "name")
    assert sets.split() == ["daemonset.apps/kube-flannel-ds"]


def understood(path: Path) -> None:
    """kubeadm takes the file, and says nothing about it."""
    done = subprocess.run(
        [str(KUBERNETES / "kubeadm"), "config", "validate", "--config", str(path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@pytest.mark.parametrize("slow", [True, False])
def test_kubeadm_understands_the_init_configuration(tmp_path: Path, slow: bool) -> None:
    path = tmp_path / "init.yaml"
    path.write_bytes(
        kubeadm_config.init_configuration(
            Settings(), versions.DEFAULT, "pi-1", "192.0.2.10", NAMES, slow
        )
    )
    understood(path)


def test_kubeadm_understands_the_join_configuration(tmp_path: Path) -> None:
    discovery, path = tmp_path / "discovery.conf", tmp_path / "join.yaml"
    discovery.write_bytes(kubeadm_config.discovery_configuration("192.0.2.10:6443", b"CA"))
    text = kubeadm_config.join_configuration(
        "pi-2", "192.0.2.11", "abcdef.0123456789abcdef"
    ).decode()
    path.write_text(text.replace(kubeadm_config.DISCOVERY_FILE, str(discovery)))
    understood(path)


def test_the_join_command_for_machines_without_the_agent(cluster: Cluster, tmp_path: Path) -> None:
    script = node.join_command(cluster.host())
    files, command = script.split("kubeadm join", 1)
    assert command.startswith(" --config /root/nodeagent-join.conf\n")
    subprocess.run(
        ["sh", "-e", "-c", files.replace("/root", str(tmp_path))], check=True, timeout=60
    )
    path = tmp_path / "nodeagent-join.conf"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text().replace("/root", str(tmp_path)))
    understood(path)
    token = yaml.safe_load(path.read_text())["discovery"]["tlsBootstrapToken"]
    assert token not in script
    name = f"bootstrap-token-{token.split('.')[0]}"
    found = json.loads(cluster.kubectl("-n", "kube-system", "get", "secret", name, "-o", "json"))
    assert "usage-bootstrap-signing" not in found["data"]
    groups = base64.b64decode(found["data"]["auth-extra-groups"]).decode()
    assert groups == "system:bootstrappers:nodeagent"
