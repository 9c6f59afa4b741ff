"""What the control plane's agent does after init, on doubles; the user's file with a real shell."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from nodeagent import paths
from nodeagent.cluster import control_plane, credentials, kubectl, kubelet_api, revoked
from nodeagent.errors import CommandFailed, Refused
from nodeagent.host.host import Host, Result
from tests.support.authority import CA_CERT, CA_KEY
from tests.support.kubectl import Kubectl
from tests.support.machine import NOW, Machine, put

GET = "kubectl --kubeconfig {} get {} -o json --request-timeout=60s"
OURS = f"{control_plane.MARK}\n"


def item(name: str, leads: bool, ready: str, address: str = "10.0.0.7") -> dict[str, Any]:
    """A Node as the API writes it."""
    labels = {"node-role.kubernetes.io/control-plane": ""} if leads else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "Hostname", "address": name},
                          {"type": "InternalIP", "address": address}],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
        },
    }  # fmt: skip


def test_nodes(tmp_path: Path) -> None:
    answer = {"items": [item("pi-1", True, "True"), item("pi-2", False, "Unknown", "10.0.0.8")]}
    machine = Machine(tmp_path, {GET.format(paths.ADMIN_CONF, "nodes"): json.dumps(answer)})
    assert control_plane.nodes(machine) == [
        control_plane.NodeInfo("pi-1", True, "control-plane", "v1.37.2", "10.0.0.7"),
        control_plane.NodeInfo("pi-2", False, "worker", "v1.37.2", "10.0.0.8"),
    ]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {paths.KUBELET_CONF: "server: https://10.0.0.7:6443"},
        {paths.KUBELET_CONF: "server: elsewhere"},
        {
            paths.KUBELET_CONF: "server: https://10.0.0.7:6443",
            "/etc/kubernetes/pki/ca.crt": "no certificate",
        },
    ],
)
def test_a_node_without_what_it_needs_to_ask_is_not_ready(
    tmp_path: Path, files: dict[str, str]
) -> None:
    put(tmp_path, files)
    assert control_plane.ready(Machine(tmp_path), "pi-2") is False


@pytest.mark.parametrize(
    ("server", "address"), [("10.0.0.7:6443", "10.0.0.7"), ("[fd00::7]:6443", "fd00::7")]
)
def test_it_asks_the_api_server_of_the_kubelet_also_when_ready_over_ipv6(
    server: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def connect(host: str, port: int, **_: object) -> None:
        asked.append((host, port))
        raise ConnectionRefusedError

    monkeypatch.setattr("http.client.HTTPSConnection", connect)
    cert, key = credentials.client("system:node:pi-2", CA_CERT, CA_KEY, NOW)
    put(tmp_path, {
        paths.KUBELET_CLIENT: cert + key,
        paths.KUBELET_CONF: f"    server: https://{server}\n  name: default-cluster\n",
        "/etc/kubernetes/pki/ca.crt": CA_CERT,
    })  # fmt: skip
    assert control_plane.ready(Machine(tmp_path), "pi-2") is False
    assert asked == [(address, 6443)]


@pytest.mark.parametrize(
    ("boot", "addresses", "ready"),
    [
        ("now", ["10.0.0.9"], True),
        ("now", ["10.0.0.9", "fd00::9"], True),
        ("before", ["10.0.0.9"], False),
        ("now", ["10.0.0.8"], False),
        ("now", [], False),
    ],
)
def test_what_was_so_before_the_power_came_is_not_ready(
    boot: str, addresses: list[str], ready: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"bootID": boot},
        "addresses": [{"type": "InternalIP", "address": one} for one in addresses],
    }
    monkeypatch.setattr(kubelet_api, "ask", lambda *_: (200, {"status": status}))
    flags = 'KUBELET_KUBEADM_ARGS="--node-ip=10.0.0.9 --v=2"\n'
    put(tmp_path, {"/proc/sys/kernel/random/boot_id": "now\n", paths.KUBELET_FLAGS: flags})
    assert control_plane.ready(Machine(tmp_path), "pi-2") is ready


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({"data": {"pi-2": "revoked"}}, None),
        ({}, None),
        ({"data": {"pi-1": "x", "pi-2": "revoked"}}, {"pi-2"}),
        ({"data": {"pi-2": "revoked"}, "immutable": True}, {"pi-2"}),
        ({"immutable": True}, set()),
        ({"metadata": {"finalizers": ["a/b"]}}, set()),
        ({"metadata": {"ownerReferences": [{}]}, "data": {"pi-3": "revoked"}}, {"pi-3"}),
    ],
)
def test_what_a_broker_of_0_2_0_could_do_with_the_list_is_put_right(
    found: dict[str, Any], left: set[str] | None, tmp_path: Path
) -> None:
    double = Kubectl("pi-1")
    double.list = {"metadata": {}, **found}
    revoked.mend(Host(tmp_path, double))
    if left is None:
        assert double.list == {"metadata": {}, **found}, "nothing is made anew that was in order"
    else:
        assert double.list["data"].keys() == left
        assert not double.list.get("immutable") and double.list["metadata"].keys() == {
            "name", "namespace",
        }  # fmt: skip


def test_a_control_plane_is_not_barred(tmp_path: Path) -> None:
    double = Kubectl("pi-1")
    with pytest.raises(Refused, match="pi-1 is a control plane"):
        revoked.bar(Host(tmp_path, double), ["pi-2", "pi-1"])
    assert (double.barred, double.deleted) == ([], [])


def test_manifests_go_by_stdin_and_open_doors_are_closed(tmp_path: Path) -> None:
    said: list[tuple[str, str | None]] = []

    def run(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        said.append((" ".join(argv), stdin))
        return Result(0)

    host = Host(tmp_path, run)
    kubectl.apply_text(host, control_plane.policy())
    control_plane.close_doors(host)
    (apply, text), (delete, doors) = said
    assert apply.endswith("apply --server-side --force-conflicts -f -")
    assert text is not None and "nodeagent-broker-secrets" in text
    assert delete.endswith("delete --ignore-not-found -f -")
    names = [document["metadata"]["name"] for document in yaml.safe_load_all(doors or "")]
    assert names == ["kubeadm:node-autoapprove-bootstrap", "kubeadm:bootstrap-signer-clusterinfo"]


def test_the_brokers_certificate(tmp_path: Path) -> None:
    put(tmp_path, {"/etc/kubernetes/pki/ca.crt": CA_CERT, "/etc/kubernetes/pki/ca.key": CA_KEY})
    machine = Machine(tmp_path)
    cert_pem, key_pem = control_plane.broker_credentials(machine)
    cert = x509.load_pem_x509_certificate(cert_pem)
    assert cert.subject.rfc4514_string() == "CN=nodeagent:broker"  # and no group
    authority = x509.load_pem_x509_certificate(CA_CERT).public_key()
    assert isinstance(authority, ec.EllipticCurvePublicKey)
    authority.verify(cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    # The first name is of cryptography 42 and newer.
    end = getattr(cert, "not_valid_after_utc", None) or cert.not_valid_after.replace(tzinfo=UTC)
    assert 364 <= (end.timestamp() - NOW) / 86400 <= 366
    assert b"PRIVATE KEY" in key_pem and machine.ran == []


def test_a_worker_has_no_broker(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        control_plane.broker_credentials(Machine(tmp_path))


class Home:
    """A control plane with a first user whose home is real; `runuser` is left out."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home" / "pi"
        self.home.mkdir(parents=True)
        passwd = f"root:x:0:0::/root:/bin/sh\npi:x:1000:1000:,,,:{self.home}:/bin/bash\n"
        put(root, {"/etc/passwd": passwd, paths.ADMIN_CONF: "admin\n"})
        self.host = Host(root, self._run)
        self.config = self.home / ".kube" / "config"

    def _run(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        assert list(argv[:4]) == ["runuser", "-u", "pi", "--"]
        done = subprocess.run(
            argv[4:], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.processes
def test_the_users_file_is_made_and_renewed(tmp_path: Path) -> None:
    place = Home(tmp_path)
    assert control_plane.install_user_kubeconfig(place.host)
    assert place.config.read_text() == f"{OURS}admin\n"
    assert place.config.stat().st_mode & 0o777 == 0o600
    assert place.config.parent.stat().st_mode & 0o777 == 0o700
    put(tmp_path, {paths.ADMIN_CONF: "new\n"})
    assert control_plane.install_user_kubeconfig(place.host)
    assert place.config.read_text() == f"{OURS}new\n"
    assert [path.name for path in place.config.parent.iterdir()] == ["config"]


@pytest.mark.processes
@pytest.mark.parametrize("own", ["apiVersion: v1\n", f"# mine\n{OURS}"])
def test_the_users_own_file_is_kept(tmp_path: Path, own: str) -> None:
    place = Home(tmp_path)
    place.config.parent.mkdir()
    place.config.write_text(own)
    assert not control_plane.install_user_kubeconfig(place.host)
    assert place.config.read_text() == own


@pytest.mark.processes
@pytest.mark.parametrize("planted", ["config", "config.nodeagent"])
@pytest.mark.parametrize("content", ["", OURS])
def test_planted_links_are_not_followed(tmp_path: Path, planted: str, content: str) -> None:
    place = Home(tmp_path)
    target = tmp_path / "target"
    target.write_text(content)
    place.config.parent.mkdir()
    (place.config.parent / planted).symlink_to(target)
    assert control_plane.install_user_kubeconfig(place.host)
    assert target.read_text() == content
    assert not place.config.is_symlink()


@pytest.mark.processes
def test_a_strange_home_does_not_stop_the_cluster(tmp_path: Path) -> None:
    place = Home(tmp_path)
    (place.home / ".kube").write_text("a file, no folder")
    assert not control_plane.install_user_kubeconfig(place.host)
    (place.home / ".kube").unlink()
    place.home.rmdir()
    assert not control_plane.install_user_kubeconfig(place.host)


@pytest.mark.parametrize("missing", ["/etc/passwd", paths.ADMIN_CONF])
def test_without_a_user_or_a_cluster_nothing_is_run(tmp_path: Path, missing: str) -> None:
    put(tmp_path, {"/etc/passwd": "pi:x:1000:1000::/home/pi:/bin/sh\n", paths.ADMIN_CONF: "x"})
    put(tmp_path, {missing: None})
    machine = Machine(tmp_path)
    assert not control_plane.install_user_kubeconfig(machine)
    assert machine.ran == []


def test_a_failing_kubectl_names_itself(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="kubectl"):
        control_plane.nodes(Machine(tmp_path))
