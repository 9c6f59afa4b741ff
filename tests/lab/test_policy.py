"""The join policy on a real API server (lab tier): etcd and kube-apiserver of the lab's mirror, on
loopback. What the broker may do, what it may not even when taken over, and what a token can do.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from nodeagent.cluster import credentials
from nodeagent.cluster.api import Api
from nodeagent.errors import CommandFailed

pytestmark = pytest.mark.lab

CACHE = Path(os.environ.get("NODEAGENT_LAB_CACHE", "~/.cache/nodeagent-lab")).expanduser()
KUBERNETES = CACHE / "mirror/amd64/bin-kubernetes"
ETCD = CACHE / "mirror/amd64/bin-etcd/etcd"
# kubeadm refuses loopback as an address to tell others; this one is never used (RFC 5737).
ADVERTISED = ("--apiserver-advertise-address", "192.0.2.1")
STARTING = 120.0  # seconds an API server may take on a busy machine


class Cluster:
    """An API server with RBAC, bootstrap tokens and admission policies, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pki = folder, folder / "pki"
        self.port, *etcd = _free_ports(3)
        self._run(KUBERNETES / "kubeadm", "init", "phase", "certs", "all", "--cert-dir", self.pki,
                  "--apiserver-cert-extra-sans", "127.0.0.1", *ADVERTISED)  # fmt: skip
        client, peer = (f"http://127.0.0.1:{port}" for port in etcd)
        self._children = [
            self._start(
                ETCD, "--data-dir", folder / "etcd", "--listen-client-urls", client,
                "--advertise-client-urls", client, "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                "--unsafe-no-fsync",
            ),
            self._start(
                KUBERNETES / "kube-apiserver", "--etcd-servers", client,
                "--secure-port", self.port, "--bind-address", "127.0.0.1",
                "--client-ca-file", self.pki / "ca.crt",
                "--tls-cert-file", self.pki / "apiserver.crt",
                "--tls-private-key-file", self.pki / "apiserver.key",
                "--service-account-issuer", "https://kubernetes.default.svc",
                "--service-account-key-file", self.pki / "sa.pub",
                "--service-account-signing-key-file", self.pki / "sa.key",
                "--authorization-mode", "Node,RBAC", "--enable-bootstrap-token-auth=true",
                "--enable-admission-plugins", "NodeRestriction",
                "--service-cluster-ip-range", "10.96.0.0/16",
            ),
        ]  # fmt: skip
        self.admin = self._kubeconfig()
        self._until_ready()

    def user(self, name: str) -> Api:
        """The API as a user with a client certificate, as the broker is one."""
        cert, key = credentials.client(
            name, (self.pki / "ca.crt").read_bytes(), (self.pki / "ca.key").read_bytes(),
            time.time(),
        )  # fmt: skip
        files = self.folder / "user.crt", self.folder / "user.key"
        for path, data in zip(files, (cert, key), strict=True):
            path.write_bytes(data)
        return Api(f"https://127.0.0.1:{self.port}", str(self.pki / "ca.crt"), *map(str, files))

    def kubectl(self, *words: str, stdin: str = "", status: int = 0) -> str:
        """kubectl as the administrator."""
        done = subprocess.run(
            [str(KUBERNETES / "kubectl"), "--kubeconfig", str(self.admin), *words],
            input=stdin, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def stop(self) -> None:
        """End both processes."""
        for child in reversed(self._children):
            child.terminate()
            child.wait(60)

    def _run(self, *words: object) -> None:
        subprocess.run([*map(str, words)], check=True, capture_output=True, timeout=300)

    def _start(self, *words: object) -> subprocess.Popen[bytes]:
        with (self.folder / f"{Path(str(words[0])).name}.log").open("wb") as log:
            return subprocess.Popen([*map(str, words)], stdout=log, stderr=log)

    def _kubeconfig(self) -> Path:
        self._run(KUBERNETES / "kubeadm", "init", "phase", "kubeconfig", "super-admin",
                  "--cert-dir", self.pki, "--kubeconfig-dir", self.folder, *ADVERTISED)  # fmt: skip
        path = self.folder / "super-admin.conf"
        text = path.read_text().replace(f"{ADVERTISED[1]}:6443", f"127.0.0.1:{self.port}")
        path.write_text(text)
        return path

    def _until_ready(self) -> None:
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline:
            done = subprocess.run(
                [str(KUBERNETES / "kubectl"), "--kubeconfig", str(self.admin), "get", "--raw",
                 "/readyz"], capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            if done.stdout == "ok":
                return
            time.sleep(1)
        raise AssertionError(f"the API server did not start; see {self.folder}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One API server with the policy applied, for all tests here."""
    assert (KUBERNETES / "kube-apiserver").exists(), (
        "The lab's mirror is not built. Build it with: make lab"
    )
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        policy = resources.files("nodeagent.cluster").joinpath("policy.yaml").read_text()
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=policy)
        time.sleep(5)  # admission policies are watched, not read: the API server needs a moment
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def broker(cluster: Cluster) -> Api:
    """The API as the broker's user."""
    return cluster.user("nodeagent:broker")


def soon() -> datetime:
    """When a grant's token expires."""
    return datetime.now(UTC) + timedelta(minutes=10)


def secret(**changes: Any) -> dict[str, Any]:
    """A token's Secret as the broker makes it, with changes; None removes a key of the data."""
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "expiration": soon().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:nodeagent",
    } | changes.pop("data", {})
    encoded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items() if v is not None}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": changes.get("type", "bootstrap.kubernetes.io/token"),
        "metadata": {"name": changes.get("name", "bootstrap-token-abcdef")},
        "data": encoded,
    }


def test_the_broker_makes_and_deletes_its_tokens(cluster: Cluster, broker: Api) -> None:
    broker.create_token("abc123", "0123456789abcdef", "pi-1", soon())
    shown = json.loads(
        cluster.kubectl(
            "-n", "kube-system", "get", "secret", "bootstrap-token-abc123", "-o", "json"
        )
    )
    assert "usage-bootstrap-signing" not in shown["data"]
    broker.delete_token("abc123")
    broker.delete_token("abc123")  # a second time is no error


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Opaque", "name": "bootstrap-token-abcdef", "data": {}},
        {"type": "Opaque", "name": "other"},
        {"data": {"expiration": None}},
        {"data": {"auth-extra-groups": None}},
        {"data": {"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}},
        {"data": {"auth-extra-groups": "system:bootstrappers:nodeagent,system:bootstrappers:x"}},
        {"data": {"usage-bootstrap-signing": "true"}},
        {"data": {"something-else": "x"}},
    ],
    ids=lambda changes: json.dumps(changes),
)
def test_a_taken_over_broker_can_make_no_other_secret(
    cluster: Cluster, broker: Api, changes: dict[str, Any]
) -> None:
    with pytest.raises(CommandFailed, match=r"status (403|422)"):
        broker._call("POST", "/api/v1/namespaces/kube-system/secrets", secret(**changes), (201,))


def test_the_broker_reads_no_secret_and_deletes_no_other(cluster: Cluster, broker: Api) -> None:
    cluster.kubectl("-n", "kube-system", "create", "secret", "generic", "precious")
    for method in ("GET", "DELETE"):
        with pytest.raises(CommandFailed, match=r"status (403|422)"):
            broker._call(method, "/api/v1/namespaces/kube-system/secrets/precious")


def bootstrap(cluster: Cluster, token: str, *words: str, stdin: str = "") -> tuple[int, str]:
    """kubectl with a bootstrap token, from a file."""
    config = cluster.folder / "token.conf"
    config.write_text(
        json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": f"https://127.0.0.1:{cluster.port}",
                "certificate-authority": str(cluster.pki / "ca.crt")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": token}}],
        })
    )  # fmt: skip
    done = subprocess.run(
        [str(KUBERNETES / "kubectl"), "--kubeconfig", str(config), *words],
        input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def csr(folder: Path, node: str) -> str:
    """A CertificateSigningRequest for a node's client certificate."""
    key, request = folder / "n.key", folder / "n.csr"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", str(key), "-out", str(request),
         "-subj", f"/O=system:nodes/CN=system:node:{node}"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return json.dumps({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "node-csr-"},
        "spec": {"request": base64.b64encode(request.read_bytes()).decode(),
                 "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                 "usages": ["digital signature", "client auth"]},
    })  # fmt: skip


def test_a_token_asks_and_the_broker_sees_who_asked(
    cluster: Cluster, broker: Api, tmp_path: Path
) -> None:
    broker.create_token("askask", "0123456789abcdef", "pi-7", soon())
    token = "askask.0123456789abcdef"
    status, said = bootstrap(cluster, token, "create", "-f", "-", stdin=csr(tmp_path, "pi-7"))
    assert status == 0, said
    (request,) = [r for r in broker.requests() if r.username == "system:bootstrap:askask"]
    assert request.pending
    assert "system:bootstrappers:nodeagent" in request.groups
    # What a token must not do.
    for words in (
        ("-n", "kube-system", "get", "secrets"),
        ("certificate", "approve", request.name),
        ("get", "pods", "-A"),
    ):
        status, said = bootstrap(cluster, token, *words)
        assert status != 0 and "orbidden" in said, (words, said)
    broker.approve(request.name, "granted to pi-7")
    (request,) = [r for r in broker.requests() if r.username == "system:bootstrap:askask"]
    assert not request.pending
    broker.delete_token("askask")
    # The API server hears of the deletion through a watch.
    for _ in range(20):
        if bootstrap(cluster, token, "get", "csr", request.name)[0] != 0:
            return
        time.sleep(0.5)
    raise AssertionError("a deleted token still opens the door after 10 s")
