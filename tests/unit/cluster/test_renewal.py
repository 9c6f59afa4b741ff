"""Certificates that end: which are due, and a board that was in a drawer for a year. kubeadm,
kubelet and crictl are doubles here; the real kubeadm renews in tests/lab/test_renewal_real.py."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.cluster import credentials, kubeadm, kubeadm_state, kubelet_certificate, renewal
from nodeagent.errors import CommandFailed
from nodeagent.trust import pki
from tests.support import authority
from tests.support.machine import NOW, Machine, put

DAY = 86400
YEAR = 365 * DAY
CA_KEY = pki.new_key()
CA = pki.issue("kubernetes", CA_KEY.public_key(), "kubernetes", CA_KEY, path_length=0)
RENEW = f"kubeadm certs renew all --config {kubeadm.INIT_FILE}"
RESTART = "systemctl restart kubelet"
CONFS = [path for path in renewal.KUBEADMS if path.endswith(".conf")]
KEEP = " ".join(["cp -a", renewal.PKI, *CONFS, renewal.BEFORE])
RESTORE = f"cp -a {renewal.BEFORE}/. /etc/kubernetes"
CLEAR = f"rm -rf {renewal.BEFORE}"


def made(age: int) -> bytes:
    """A certificate and key of a year, made ``age`` seconds ago."""
    cert, key = credentials.client(
        "x", pki.cert_pem(CA).encode(), pki.key_pem(CA_KEY).encode(), NOW - age
    )
    return cert + key


def control_plane(root: Path, age: int, **answers: Any) -> Machine:
    """A control plane whose certificates are that old."""
    pem = made(age)
    embedded = {"users": [{"user": {"client-certificate-data": base64.b64encode(pem).decode()}}]}
    conf = yaml.safe_dump(embedded)
    put(root, {path: conf if path.endswith(".conf") else pem for path in renewal.KUBEADMS})
    put(root, {
        "/etc/kubernetes/pki/ca.crt": pki.cert_pem(CA), "/etc/kubernetes/pki/ca.key":
        pki.key_pem(CA_KEY), "/var/lib/kubelet/pki/kubelet-client-2026.pem": pem,
        paths.KUBELET_CLIENT: {"link": "/var/lib/kubelet/pki/kubelet-client-2026.pem"},
    })  # fmt: skip
    lists = {f"crictl ps -q --name ^{name}$": f"id-{name}\n" for name in renewal.STATIC_PODS}
    stops = {f"crictl stop id-{name}": "" for name in renewal.STATIC_PODS}
    copies = {KEEP: "", RESTORE: "", CLEAR: ""}
    commands = {RENEW: "", RESTART: "", "sync": "", **copies, **lists, **stops}
    return Machine(root, {**commands, **answers})


@pytest.mark.parametrize(
    ("left", "is_due"), [(-1, True), (0, True), (29 * DAY, True), (30 * DAY, False), (YEAR, False)]
)
def test_what_is_due(left: int, is_due: bool) -> None:
    assert renewal.due({"a": NOW + left, "b": NOW + YEAR}, NOW) == (["a"] if is_due else [])


@pytest.mark.parametrize(
    "data",
    [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA", b"\xff" * 99,
     b"client-certificate-data: AAAA", b"client-certificate-data: A"],
)  # fmt: skip
def test_what_is_no_certificate_has_no_end(data: bytes | None) -> None:
    assert renewal.end(data) is None


def test_nothing_is_done_before_it_is_due(tmp_path: Path) -> None:
    machine = control_plane(tmp_path, DAY)
    assert not renewal.is_due(machine, NOW)
    assert not renewal.renew(machine, "pi-1", NOW)
    assert machine.ran == []


def test_a_month_ahead_kubeadm_renews_and_the_pods_start_again(tmp_path: Path) -> None:
    machine = control_plane(tmp_path, YEAR - 20 * DAY)
    assert renewal.is_due(machine, NOW)
    assert renewal.renew(machine, "pi-1", NOW)
    assert machine.ran[:5] == [CLEAR, KEEP, "sync", RENEW, "sync"], "a copy first"
    stopped = [line for line in machine.ran if line.startswith("crictl stop")]
    assert stopped == [f"crictl stop id-{name}" for name in renewal.STATIC_PODS]
    assert RESTART not in machine.ran, "the kubelet renews its own while it is valid"
    assert not machine.exists(renewal.MARK)


def test_after_a_year_in_a_drawer_the_kubelet_too(tmp_path: Path) -> None:
    machine = control_plane(tmp_path, YEAR + 40 * DAY)
    assert renewal.renew(machine, "pi-1", NOW)
    assert machine.ran.index(RENEW) < machine.ran.index(RESTART)
    link = machine.path(paths.KUBELET_CLIENT, follow=False)
    assert link.is_symlink(), "the kubelet refuses a plain file there"
    data = machine.read(paths.KUBELET_CLIENT) or b""
    assert renewal.end(data) == NOW - 3600 + YEAR
    certificate = x509.load_pem_x509_certificate(data)
    subject = {e.oid: e.value for e in certificate.subject}
    assert subject == {NameOID.ORGANIZATION_NAME: "system:nodes",
                       NameOID.COMMON_NAME: "system:node:pi-1"}  # fmt: skip
    key = kubeadm_state.KEY.search(data)
    assert key is not None
    private = serialization.load_pem_private_key(key[0], None)
    assert pki.spki(private.public_key()) == pki.spki(certificate.public_key())
    assert machine.mode(paths.KUBELET_CLIENT) == 0o600
    assert not renewal.expired(machine, NOW)


@pytest.mark.parametrize("torn", [b"", b"\0" * 900, None, made(DAY)])
def test_a_renewal_that_was_cut_off_begins_from_the_copy(
    torn: bytes | None, tmp_path: Path
) -> None:
    machine = control_plane(tmp_path, DAY)
    put(tmp_path, {renewal.MARK: "", renewal.KUBEADMS[0]: torn})
    assert renewal.is_due(machine, NOW)
    assert renewal.renew(machine, "pi-1", NOW)
    assert machine.ran[:2] == [RESTORE, RENEW] and KEEP not in machine.ran
    assert "crictl stop id-etcd" in machine.ran and machine.ran[-1] == CLEAR
    assert not renewal.renew(machine, "pi-1", NOW)


def test_without_a_copy_nothing_is_begun(tmp_path: Path) -> None:
    machine = control_plane(tmp_path, YEAR, **{KEEP: {"status": 1, "err": "No space left"}})
    with pytest.raises(CommandFailed):
        renewal.renew(machine, "pi-1", NOW)
    assert RENEW not in machine.ran and not machine.exists(renewal.MARK)


def test_a_renewal_that_fails_is_tried_again(tmp_path: Path) -> None:
    machine = control_plane(tmp_path, YEAR)
    machine.answers[RENEW] = {"status": 1, "err": "no"}
    with pytest.raises(CommandFailed):
        renewal.renew(machine, "pi-1", NOW)
    assert renewal.is_due(machine, NOW)
    machine.answers[RENEW] = ""
    assert renewal.renew(machine, "pi-1", NOW)


def test_the_brokers_own_certificate_calls_the_agent(tmp_path: Path) -> None:
    machine = control_plane(tmp_path, DAY)
    put(tmp_path, {renewal.OURS[0]: made(YEAR - DAY)})
    assert renewal.is_due(machine, NOW)
    assert not renewal.renew(machine, "pi-1", NOW), "each start of the agent makes it anew"


def test_a_worker_asks_with_a_token_as_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def obtain(host: Any, endpoint: str, ca: str, token: str, *rest: Any) -> bytes:
        assert (endpoint, ca, token) == ("10.0.0.7:6443", "CA", "abcdef.0123456789abcdef")
        return authority.kubelet(*rest)

    monkeypatch.setattr(kubelet_certificate, "obtain", obtain)
    machine = Machine(tmp_path, {RESTART: ""})
    put(tmp_path, {"/var/lib/kubelet/pki/kubelet-client-2025.pem": made(YEAR + DAY),
                   paths.KUBELET_CLIENT: {"link": "kubelet-client-2025.pem"}})  # fmt: skip
    renewal.rejoin(machine, "10.0.0.7:6443", b"CA", "abcdef.0123456789abcdef", "pi-2")
    assert not renewal.expired(machine, NOW) and machine.ran == [RESTART]
    assert not machine.exists(kubelet_certificate.KEY)
