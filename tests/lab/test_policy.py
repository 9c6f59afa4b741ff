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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from nodeagent import paths
from nodeagent.broker import operators
from nodeagent.broker.broker import Broker
from nodeagent.broker.kube_api import Api
from nodeagent.broker.ledger import Ledger
from nodeagent.cluster import control_plane as node
from nodeagent.cluster import credentials, kubeadm_state, kubelet_certificate, rest, revoked
from nodeagent.errors import CommandFailed, Refused
from nodeagent.host.host import Host, Result
from nodeagent.join import messages, statement
from nodeagent.trust import fleet_file, pki, store
from nodeagent.trust.node_key import NodeKey
from tests.support.admission import KUBELET_HASH, READER, proved
from tests.support.authority import KUBELET

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

    def host(self) -> Host:
        """A control plane of this cluster: the real kubectl and kubeadm, with the cluster's
        file."""
        root = self.folder / "root"
        admin = root / paths.ADMIN_CONF[1:]
        admin.parent.mkdir(parents=True, exist_ok=True)
        admin.write_bytes(self.admin.read_bytes())

        def run(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
            words = [str(admin) if word == paths.ADMIN_CONF else word for word in argv]
            words[0] = str(KUBERNETES / words[0])
            done = subprocess.run(
                words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
            )
            return Result(done.returncode, done.stdout, done.stderr)

        return Host(root, run)

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
        "metadata": {
            "name": changes.get("name", "bootstrap-token-abcdef"),
            "finalizers": changes.get("finalizers", []),
        },
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
        {"type": "kubernetes.io/service-account-token"},
        {"name": "kubeadm-certs"},
        {"namespace": "default"},
        {"namespace": "kube-public"},
        {"finalizers": ["example.org/stays"]},
        {"data": {"expiration": None}},
        {"data": {"expiration": "2099-01-01T00:00:00Z"}},
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
    body = secret(**changes)
    path = f"/api/v1/namespaces/{changes.get('namespace', 'kube-system')}/secrets"
    with pytest.raises(CommandFailed, match=r"status (403|422)"):
        broker._call("POST", path, body, (201,))


TOKENS = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
LIST = "/api/v1/namespaces/kube-system/configmaps/nodeagent-revoked"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
# What a thief of the broker's certificate would like to do: method, path, body.
FORBIDDEN: dict[str, tuple[str, str, Any]] = {
    "read a secret": ("GET", f"{TOKENS}admins", None),
    "list secrets": ("GET", "/api/v1/namespaces/kube-system/secrets", None),
    "list all secrets": ("GET", "/api/v1/secrets", None),
    "delete a plain secret": ("DELETE", "/api/v1/namespaces/kube-system/secrets/precious", None),
    "delete an administrator's token": ("DELETE", f"{TOKENS}admins", None),
    "delete a secret that is called like a token": ("DELETE", f"{TOKENS}opaque", None),
    "delete all secrets": ("DELETE", "/api/v1/namespaces/kube-system/secrets", None),
    "change a token": ("PUT", f"{TOKENS}admins", None),
    "ask for a certificate": ("POST", CSRS, None),
    "approve for a server": ("PUT", f"{CSRS}/serving/approval", None),
    "approve for an API client": ("PUT", f"{CSRS}/client/approval", None),
    "sign by itself": ("PUT", f"{CSRS}/client/status", None),
    "delete the control plane's node": ("DELETE", "/api/v1/nodes/leader", None),
    "change another ConfigMap": (
        "PUT", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication", None,
    ),
    "read the list of revoked nodes": ("GET", LIST, None),
    "bar the control plane": ("PATCH", LIST, {"data": {"leader": "revoked"}}),
    "let a revoked node back": ("PATCH", LIST, {"data": {"pi-9": None}}),
    "seal the list of revoked nodes": ("PATCH", LIST, {"immutable": True}),
    "hang the list up": ("PATCH", LIST, {"metadata": {"finalizers": ["example.org/stays"]}}),
    "delete the list": ("DELETE", LIST, None),
    "replace the list": ("PUT", LIST, None),
    "make a ConfigMap": ("POST", "/api/v1/namespaces/kube-system/configmaps", None),
    "bind itself to the administrator's role": (
        "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
         "metadata": {"name": "mine"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                     "name": "cluster-admin"},
         "subjects": [{"kind": "User", "name": "nodeagent:broker",
                       "apiGroup": "rbac.authorization.k8s.io"}]},
    ),
    "take the policy away": (
        "DELETE", f"{POLICIES}/nodeagent-broker-secrets", None,
    ),
    "be a service account": (
        "POST", "/api/v1/namespaces/kube-system/serviceaccounts/default/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    ),
    "see pods": ("GET", "/api/v1/pods", None),
}  # fmt: skip


@pytest.fixture(scope="module")
def treasures(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What such a thief finds in the cluster."""
    folder = tmp_path_factory.mktemp("csr")
    admins = secret(name="bootstrap-token-admins", data={
        "token-id": "admins",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    })  # fmt: skip
    opaque = secret(name="bootstrap-token-opaque", type="Opaque")
    for item in (admins, opaque):
        cluster.kubectl("-n", "kube-system", "apply", "-f", "-", stdin=json.dumps(item))
    cluster.kubectl("-n", "kube-system", "create", "secret", "generic", "precious")
    leader = {"apiVersion": "v1", "kind": "Node", "metadata": {
        "name": "leader", "labels": {"node-role.kubernetes.io/control-plane": ""}}}  # fmt: skip
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(leader))
    for name, signer, usage in (
        ("serving", "kubernetes.io/kubelet-serving", "server auth"),
        ("client", "kubernetes.io/kube-apiserver-client", "client auth"),
    ):
        item = json.loads(csr(folder, "pi-8"))
        item["metadata"] = {"name": name}
        item["spec"] |= {"signerName": signer, "usages": ["digital signature", usage]}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(item))


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.usefixtures("treasures")
def test_a_taken_over_broker_can_do_no_more_than_its_work(
    what: str, cluster: Cluster, broker: Api, tmp_path: Path
) -> None:
    method, path, body = FORBIDDEN[what]
    if method == "PUT":
        body = json.loads(cluster.kubectl("get", "--raw", path.removesuffix("/approval")
                                          .removesuffix("/status")))  # fmt: skip
        if path.endswith("/approval"):
            body["status"] = {"conditions": [
                {"type": "Approved", "status": "True", "reason": "x", "message": "x"}]}  # fmt: skip
    elif what == "ask for a certificate":
        body = json.loads(csr(tmp_path, "pi-9"))
    elif what == "make a ConfigMap":
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}
    with pytest.raises(CommandFailed, match=r"status (403|422)"):
        broker._call(method, path, body, (200, 201, 202))


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


def csr(folder: Path, node: str, key: pki.PrivateKey = KUBELET) -> str:
    """A CertificateSigningRequest for a node's client certificate."""
    path, request = folder / "n.key", folder / "n.csr"
    path.write_text(pki.key_pem(key))
    subprocess.run(
        ["openssl", "req", "-new", "-key", str(path), "-out", str(request),
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
    broker.approve(request.name, request.uid, "granted to pi-7")
    (request,) = [r for r in broker.requests() if r.username == "system:bootstrap:askask"]
    assert not request.pending
    broker.delete_token("askask")
    # The API server hears of the deletion through a watch.
    for _ in range(20):
        if bootstrap(cluster, token, "get", "csr", request.name)[0] != 0:
            return
        time.sleep(0.5)
    raise AssertionError("a deleted token still opens the door after 10 s")


class Fleet:
    """A real broker on this cluster, and nodes that ask it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        card = fleet_file.parse(fleet_file.make("home")[1])
        self.trust, key = store.from_card(card), pki.new_key()
        (cert, _) = self.trust.leaf("broker", key.public_key())
        ca = (cluster.pki / "ca.crt").read_text()
        where = (f"127.0.0.1:{cluster.port}",)
        said = statement.Cluster("n-" + "a" * 16, 1, where, ca, "1.36.4")
        vouched = statement.build(self.trust, said, time.time())
        self.api = cluster.user("nodeagent:broker")
        ledger = Ledger(Host(folder / "broker"))
        self.broker = Broker(self.trust.anchors, key, cert, vouched, self.api, ledger, time.time)

    def grant(self, wish: str, key: NodeKey, kubelet: str = KUBELET_HASH) -> messages.Grant:
        """A proved grant for a node that names this hash of its kubelet's key."""
        nonce, chain = self.broker.nonce(), self.trust.leaf("client", key.public)
        asked = messages.build_request(
            self.trust.fleet_id, key, chain, wish, nonce, {}, kubelet, READER.public_key()
        )
        data = self.broker.grant(asked, "192.0.2.2")
        return proved(self.trust, data, key.node_id, nonce, time.time())

    def pending(self, name: str) -> bool:
        """True where the request was not approved; as a stray it is denied."""
        return not next(r.approved for r in self.api.requests() if r.name == name)

    def join(self, cluster: Cluster, folder: Path, wish: str, key: NodeKey) -> str:
        """Be granted a name and a certificate for it; the name."""
        grant = self.grant(wish, key)
        asked = csr(folder, grant.node_name)
        status, said = bootstrap(cluster, grant.token.reveal(), "create", "-f", "-", stdin=asked)
        assert status == 0, said
        self.broker.tick()
        assert self.broker.ledger.holder(grant.node_name) == key.node_id
        return grant.node_name


def test_a_stolen_token_cannot_become_another_node(cluster: Cluster, tmp_path: Path) -> None:
    fleet = Fleet(cluster, tmp_path)
    token = fleet.grant("pi-20", NodeKey(pki.new_key())).token.reveal()
    other = fleet.grant("pi-21", NodeKey(pki.new_key())).token.reveal()

    def asks(name: str, node: str, token: str, key: pki.PrivateKey = KUBELET, **spec: Any) -> None:
        item = json.loads(csr(tmp_path, node, key))
        item["metadata"], item["spec"] = {"name": name}, {**item["spec"], **spec}
        status, said = bootstrap(cluster, token, "create", "-f", "-", stdin=json.dumps(item))
        assert status == 0, said

    asks("another-node", "pi-21", token)
    asks("the-leader", "leader", token)
    more = ["digital signature", "client auth", "key encipherment", "server auth"]
    asks("more-usages", "pi-20", token, usages=more)
    fleet.broker.tick()
    for name in ("another-node", "the-leader", "more-usages"):
        assert fleet.pending(name), name
    # Nor can it approve, read, or make itself a longer life.
    for words in (
        ("certificate", "approve", "another-node"),
        ("-n", "kube-system", "get", "secrets"),
        ("-n", "kube-system", "get", "configmap", "nodeagent-revoked"),
        ("get", "pods", "-A"),
        ("delete", "csr", "another-node"),
        ("create", "serviceaccount", "mine"),
        ("-n", "kube-system", "create", "token", "default"),
        ("delete", "node", "leader"),
    ):
        status, said = bootstrap(cluster, token, *words)
        assert status != 0 and ("orbidden" in said or "already Denied" in said), (words, said)
    # Its own request is the only one, and the key that the node named the only key.
    thief = pki.new_key()
    asks("earlier-key", "pi-20", token, thief)
    asks("right", "pi-20", token)
    asks("other-token", "pi-20", other)
    asks("later-key", "pi-20", token, thief)
    fleet.broker.tick()
    assert not fleet.pending("right")
    fleet.broker.tick()
    for name in ("earlier-key", "later-key", "other-token"):
        assert fleet.pending(name), name


def test_the_agent_gets_its_kubelets_certificate(cluster: Cluster, tmp_path: Path) -> None:
    """As a node that joins does it, on a real API server; a real controller manager signs."""
    fleet, node_key = Fleet(cluster, tmp_path), NodeKey(pki.new_key())
    host = Host(tmp_path / "r")
    own = kubelet_certificate.key(host)
    hashed = pki.spki_hash(own.public_key())
    grant = fleet.grant("pi-60", node_key, hashed)
    signer = subprocess.Popen([
        str(KUBERNETES / "kube-controller-manager"), "--kubeconfig", str(cluster.admin),
        "--controllers", "certificatesigningrequest-signing-controller", "--leader-elect=false",
        "--secure-port", "0", "--cluster-signing-cert-file", str(cluster.pki / "ca.crt"),
        "--cluster-signing-key-file", str(cluster.pki / "ca.key"),
    ], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

    def place(token: str) -> None:
        kubelet_certificate.place(
            host, grant.cluster.endpoints[0], grant.cluster.ca_cert.encode(), token, "pi-60"
        )

    try:
        with ThreadPoolExecutor(1) as pool:
            for _ in range(2):  # an answer may be lost: the same again
                placed = pool.submit(place, grant.token.reveal())
                while not placed.done():
                    fleet.broker.tick()
                    time.sleep(0.5)
                placed.result()
    finally:
        signer.terminate()
        signer.wait(60)
    data = host.read(paths.KUBELET_CLIENT) or b""
    found = x509.load_pem_x509_certificate(data)
    assert pki.spki_hash(found.public_key()) == hashed
    assert kubeadm_state._client_name(host) == "system:node:pi-60"
    assert len(fleet.broker.ledger.admissions) == 2


def kubelet(cluster: Cluster, name: str, *words: str, stdin: str = "") -> tuple[int, str]:
    """kubectl with a kubelet's certificate for ``name``."""
    folder = cluster.folder
    for command in (
        ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", f"{folder}/k.key", "-out", f"{folder}/k.csr",
         "-subj", f"/O=system:nodes/CN=system:node:{name}"),
        ("x509", "-req", "-in", f"{folder}/k.csr", "-CA", f"{cluster.pki}/ca.crt",
         "-CAkey", f"{cluster.pki}/ca.key", "-CAcreateserial", "-out", f"{folder}/k.crt"),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)
    done = subprocess.run(
        [str(KUBERNETES / "kubectl"), "--kubeconfig", "/dev/null",
         "--server", f"https://127.0.0.1:{cluster.port}",
         "--certificate-authority", f"{cluster.pki}/ca.crt",
         "--client-certificate", f"{folder}/k.crt", "--client-key", f"{folder}/k.key", *words],
        input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_revoked_kubelet_can_change_nothing(cluster: Cluster, tmp_path: Path) -> None:
    fleet, key = Fleet(cluster, tmp_path), NodeKey(pki.new_key())
    fleet.join(cluster, tmp_path, "pi-30", key)
    me = json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pi-30"}})
    renewal = csr(tmp_path, "pi-30")
    lease = json.dumps({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {},
        "metadata": {"name": "pi-30", "namespace": "kube-node-lease"},
    })  # fmt: skip
    for item in (me, renewal, lease):
        status, said = kubelet(cluster, "pi-30", "create", "-f", "-", stdin=item)
        assert status == 0, said
    revoked.bar(cluster.host(), operators.revoke(fleet.broker, "pi-30")["names"])
    assert "pi-30" not in cluster.kubectl("get", "nodes", "-o", "name")
    for _ in range(40):  # the policy's list is watched, not read
        status, said = kubelet(cluster, "pi-30", "create", "-f", "-", stdin=renewal)
        if status != 0:
            break
        time.sleep(0.5)
    for words, item in (
        (("create", "-f", "-"), me),
        (("create", "-f", "-"), renewal),
        (("delete", "-f", "-"), lease),
        (("-n", "kube-system", "create", "token", "default"), ""),
    ):
        status, said = kubelet(cluster, "pi-30", *words, stdin=item)
        assert status != 0 and ("revoked" in said or "orbidden" in said), (words, said)
    # Others go on, and a person can take it back.
    other = me.replace("pi-30", "pi-31")
    assert kubelet(cluster, "pi-31", "create", "-f", "-", stdin=other)[0] == 0
    revoked.let_back(cluster.host(), operators.approve(fleet.broker, key.node_id)["let_back"])
    for _ in range(40):
        if kubelet(cluster, "pi-30", "create", "-f", "-", stdin=me)[0] == 0:
            return
        time.sleep(0.5)
    raise AssertionError("a node that was approved again is still refused")


def test_what_a_revoked_kubelet_may_still_read(cluster: Cluster, tmp_path: Path) -> None:
    """SECURITY.md says it; where this changes, that must too."""
    fleet = Fleet(cluster, tmp_path)
    fleet.join(cluster, tmp_path, "pi-40", NodeKey(pki.new_key()))
    revoked.bar(cluster.host(), operators.revoke(fleet.broker, "pi-40")["names"])
    assert kubelet(cluster, "pi-40", "get", "services", "-A")[0] == 0
    for words in (("get", "secrets", "-A"), ("get", "pods", "-A"), ("get", "configmaps", "-A")):
        status, said = kubelet(cluster, "pi-40", *words)
        assert status != 0 and "orbidden" in said, (words, said)


def test_what_a_broker_of_0_2_0_could_do_with_the_list_is_put_right(cluster: Cluster) -> None:
    """Its account might write the list (attack a21): a control plane on it, sealed for good."""
    host, leader = cluster.host(), {"name": "leads", "labels": {rest.LEADS: ""}}
    item = json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": leader})
    cluster.kubectl("create", "-f", "-", stdin=item)
    words = ("-n", "kube-system", "patch", "configmap", revoked.NAME, "--type=merge", "-p")
    bad = {"data": {"leads": "x", "pi-50": "revoked"}, "immutable": True,
           "metadata": {"finalizers": ["example.org/stays"]}}  # fmt: skip
    cluster.kubectl(*words, json.dumps(bad))
    for _ in range(2):
        node.renew_policy(host)
        found = json.loads(cluster.kubectl("get", "--raw", LIST))
        assert "pi-50" in found["data"] and "leads" not in found["data"]
        assert not found.get("immutable") and not found["metadata"].get("finalizers")
    revoked.let_back(host, ["pi-50"])
    with pytest.raises(Refused, match="leads is a control plane"):
        revoked.bar(host, ["pi-51", "leads"])
    cluster.kubectl("delete", "node", "leads")
