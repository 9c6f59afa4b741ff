"""A real kubelet whose certificate has ended asks for a new one with what the agent writes (lab
tier; API server, controller manager and kubelet of the lab's mirror, on loopback; no pods run)."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from nodeagent import paths
from nodeagent.cluster import credentials, kubeadm_state, kubelet_certificate, renewal
from nodeagent.host.host import Host, Result
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from tests.lab.test_policy import KUBERNETES, Cluster, Fleet, cluster

pytestmark = [pytest.mark.lab, pytest.mark.processes, pytest.mark.network]
__all__ = ["cluster"]

NAME = "pi-50"
PEM = "/var/lib/kubelet/pki/kubelet-client-2025-01-01-00-00-00.pem"


@contextlib.contextmanager
def running(folder: Path, *words: object) -> Iterator[Path]:
    """A process of the cluster; gives its log."""
    path = folder / f"{Path(str(words[0])).name}.log"
    with path.open("wb") as log:
        child = subprocess.Popen([*map(str, words)], stdout=log, stderr=log)
    try:
        yield path
    finally:
        child.terminate()
        child.wait(60)


def kubelet(host: Host, folder: Path, server: str, ca: Path) -> list[object]:
    """The kubelet's command line, its files as kubeadm writes them, below the host's root. The
    container runtime is a socket that never answers: certificates come before it."""
    pem = str(host.path(paths.KUBELET_CLIENT, follow=False))
    conf = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {
            "server": server, "certificate-authority": str(ca)}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"client-certificate": pem, "client-key": pem}}],
    }  # fmt: skip
    host.write(paths.KUBELET_CONF, yaml.safe_dump(conf).encode(), 0o600)
    config = folder / "config.yaml"
    config.write_text(json.dumps({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "rotateCertificates": True, "failSwapOn": False, "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": f"unix://{folder}/cri.sock", "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False},
                           "x509": {"clientCAFile": str(ca)}},
        "authorization": {"mode": "AlwaysAllow"},
    }))  # fmt: skip
    return [
        KUBERNETES / "kubelet", "--config", config, "--root-dir", folder / "kubelet",
        "--cert-dir", host.path("/var/lib/kubelet/pki"), "--hostname-override", NAME,
        "--kubeconfig", host.path(paths.KUBELET_CONF),
        "--bootstrap-kubeconfig", host.path(kubeadm_state.BOOTSTRAP_CONF),
    ]  # fmt: skip


def test_a_kubelet_from_the_drawer_gets_a_new_certificate(cluster: Cluster, tmp_path: Path) -> None:
    server, ca = f"https://127.0.0.1:{cluster.port}", cluster.pki / "ca.crt"
    host = Host(tmp_path / "r", lambda argv, timeout, stdin: Result(0, ""))
    cert, key = credentials.client(
        f"system:node:{NAME}", ca.read_bytes(), (cluster.pki / "ca.key").read_bytes(),
        time.time() - 500 * 86400, group="system:nodes",
    )  # fmt: skip
    host.write(PEM, cert + key, 0o600)
    host.link(paths.KUBELET_CLIENT, Path(PEM).name)
    assert renewal.expired(host, time.time())
    fleet = Fleet(cluster, tmp_path)
    own = pki.spki_hash(kubelet_certificate.key(host).public_key())
    grant = fleet.grant(NAME, NodeKey(pki.new_key()), own)

    signer = (
        KUBERNETES / "kube-controller-manager", "--kubeconfig", cluster.admin,
        "--controllers", "certificatesigningrequest-signing-controller", "--leader-elect=false",
        "--secure-port", "0", "--cluster-signing-cert-file", ca,
        "--cluster-signing-key-file", cluster.pki / "ca.key",
    )  # fmt: skip
    with running(tmp_path, *signer), ThreadPoolExecutor(1) as pool:
        token = grant.token.reveal()
        where = server.removeprefix("https://")
        done = pool.submit(renewal.rejoin, host, where, ca.read_bytes(), token, NAME)
        while not done.done():
            fleet.broker.tick()
            time.sleep(0.5)
        done.result()
    # A real kubelet takes it, and asks for none of its own.
    current = host.path(paths.KUBELET_CLIENT, follow=False)
    placed = current.read_bytes()
    with (
        socket.socket(socket.AF_UNIX) as runtime,
        running(tmp_path, *kubelet(host, tmp_path, server, ca)) as log,
    ):
        runtime.bind(str(tmp_path / "cri.sock"))
        runtime.listen(8)
        deadline = time.monotonic() + 60
        while "Loading cert/key pair from" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(1)
        time.sleep(3)
    assert "Loading cert/key pair from" in log.read_text(), log.read_text()[-3000:]
    assert current.read_bytes() == placed
    asked = [one for one in fleet.api.requests() if one.username == f"system:node:{NAME}"]
    assert not asked, "the kubelet asked for another one"
    assert (renewal.end(current.read_bytes()) or 0) > time.time(), log.read_text()[-3000:]
    names = x509.load_pem_x509_certificate(current.read_bytes()).subject
    assert {str(name.value) for name in names} == {"system:nodes", f"system:node:{NAME}"}
    assert len(fleet.broker.ledger.admissions) == 1
