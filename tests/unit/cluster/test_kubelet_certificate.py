"""The kubelet's first certificate: asked for by the agent, whatever is lost on the way."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nodeagent import paths
from nodeagent.cluster import kubeadm_state, kubelet_certificate, rest
from nodeagent.cluster.rest import Answer
from nodeagent.errors import CommandFailed
from tests.support import authority
from tests.support.machine import Machine
from tests.support.powercut import WAYS, Disk, PowerCut

TOKEN = "abcdef.0123456789abcdef"
PLACE = ("10.0.0.7:6443", authority.CA_CERT, TOKEN, "pi-2")


class Server:
    """A double of the API server: what is stored is approved when it has been looked at twice.

    ``mishaps``: instead of the next answers; a question that one is for has been heard all the
    same where ``heard``.
    """

    def __init__(self, *mishaps: Any, heard: bool = True) -> None:
        self.mishaps, self.heard = list(mishaps), heard
        self.stored: dict[str, bytes] = {}
        self.looks = 0
        self.conditions: list[Any] = []
        self.issued: Any = None  # instead of the key that was asked for

    def __call__(
        self, where: Any, ca_cert: str, token: str, method: str, path: str, body: Any = None
    ) -> Answer:
        assert (where, ca_cert.encode(), token) == (("10.0.0.7", 6443), authority.CA_CERT, TOKEN)
        mishap = self.mishaps.pop(0) if self.mishaps else None
        if method == "POST" and (mishap is None or self.heard):
            assert body["spec"]["signerName"].endswith("kube-apiserver-client-kubelet")
            name = f"{body['metadata']['generateName']}{len(self.stored)}"
            self.stored[name] = base64.b64decode(body["spec"]["request"])
        if isinstance(mishap, Exception):
            raise mishap
        if isinstance(mishap, Answer):
            return mishap
        name = list(self.stored)[-1] if method == "POST" else path.rpartition("/")[2]
        self.looks += method == "GET"
        return Answer(201 if method == "POST" else 200, "", json.dumps(self._item(name)).encode())

    def _item(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = {"conditions": self.conditions}
        if self.looks >= 2:
            asked = x509.load_pem_x509_csr(self.stored[name])
            common = str(list(asked.subject)[-1].value).removeprefix("system:node:")
            issued: Any = self.issued or _Public(asked.public_key())
            status["certificate"] = base64.b64encode(authority.kubelet(common, issued)).decode()
        return {"metadata": {"name": name}, "status": status}


class _Public:
    """A key of which only the public half is known."""

    def __init__(self, public: Any) -> None:
        self.public_key = lambda: public


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A node."""
    return Machine(tmp_path / "node")


def serve(monkeypatch: pytest.MonkeyPatch, server: Server) -> Server:
    """Let it answer."""
    monkeypatch.setattr(rest, "request_with_token", server)
    return server


def whole(machine: Machine) -> bool:
    """True where a kubelet finds what it needs: a link to certificate and key that fit."""
    data = machine.read(paths.KUBELET_CLIENT) or b""
    key = kubeadm_state.KEY.search(data)
    if key is None or not machine.path(paths.KUBELET_CLIENT, follow=False).is_symlink():
        return False
    public = x509.load_pem_x509_certificate(data).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    own = serialization.load_pem_private_key(key[0], None)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    return public.public_numbers() == own.public_key().public_numbers()


MISHAPS: dict[str, Server] = {
    "none": Server(),
    "stored, and the answer lost": Server(TimeoutError("etcd"), ConnectionResetError()),
    "the connection refused": Server(ConnectionRefusedError(), heard=False),
    "the token not known yet": Server(Answer(401, "Unauthorized", b"{}"), heard=False),
    "busy": Server(Answer(503, "Busy", b"x"), Answer(429, "Too Many Requests", b""), heard=False),
    "collected": Server(None, None, Answer(404, "Not Found", b"{}")),
}


@pytest.mark.parametrize("what", MISHAPS)
def test_it_comes_whatever_is_lost_on_the_way(
    what: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(monkeypatch, MISHAPS[what])
    kubelet_certificate.place(machine, *PLACE)
    assert whole(machine) and kubeadm_state._client_name(machine) == "system:node:pi-2"
    keys = {x509.load_pem_x509_csr(csr).public_key().public_bytes(
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    ) for csr in server.stored.values()}  # fmt: skip
    assert len(keys) == 1, "all requests are for the key that the join request named"
    assert machine.mode(kubelet_certificate.PEM) == 0o600
    assert machine.mode("/var/lib/nodeagent/kubeadm") == 0o700
    kubelet_certificate.forget(machine)
    assert not machine.exists(kubelet_certificate.KEY) and whole(machine)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Server(*[ConnectionRefusedError("refused")] * 1000, heard=False), "refused"),
        (Server(*[Answer(403, "Forbidden", b"{}")] * 1000, heard=False), "status 403 Forbidden"),
        (Server(Answer(201, "", b"[]")), "not understood"),
        (Server(Answer(201, "", b'{"metadata": {"name": "../../secrets"}}')), "not understood"),
        (Server(Answer(201, "", b'{"metadata": {"name": 7}}')), "not understood"),
        (Server(Answer(201, "", b"\xff")), "not understood"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_where_none_comes_it_is_said_and_nothing_laid(
    server: Server, said: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, server)
    with pytest.raises(CommandFailed, match="gave no certificate") as raised:
        kubelet_certificate.place(machine, *PLACE)
    assert said in raised.value.reason and TOKEN not in str(raised.value)
    assert not machine.exists(paths.KUBELET_CLIENT)


@pytest.mark.parametrize("kind", ["Denied", "Failed"])
def test_a_refusal_is_said_at_once(
    kind: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(monkeypatch, Server())
    server.conditions = [{"type": kind, "message": "not granted"}]
    with pytest.raises(CommandFailed, match=f"{kind.lower()}: not granted"):
        kubelet_certificate.place(machine, *PLACE)


def test_a_certificate_of_another_key_is_not_taken(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, Server()).issued = kubelet_certificate.new_key()
    with pytest.raises(CommandFailed, match="not understood"):
        kubelet_certificate.place(machine, *PLACE)
    assert not machine.exists(paths.KUBELET_CLIENT)


@pytest.mark.parametrize("torn", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\0" * 200, b"x"])
def test_a_torn_key_is_made_anew(torn: bytes, machine: Machine) -> None:
    machine.write(kubelet_certificate.KEY, torn, 0o600)
    made = kubelet_certificate.key(machine).private_numbers()
    assert kubelet_certificate.key(machine).private_numbers() == made


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_anywhere_leaves_a_kubelet_whole_or_none(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_at, done = 0, False
    while not done:
        cut_at += 1
        machine = Machine(tmp_path / f"{way}{cut_at}")
        machine.make_folder("/var/lib/kubelet")
        serve(monkeypatch, Server())
        disk = Disk(machine.root)
        disk.cut_at = cut_at
        try:
            with disk.watched():
                kubelet_certificate.key(machine)
                kubelet_certificate.place(machine, *PLACE)
                done = True
        except PowerCut:
            disk.cut(way)
        assert whole(machine) or not machine.exists(paths.KUBELET_CLIENT)
        serve(monkeypatch, Server())
        kubelet_certificate.place(machine, *PLACE)
        assert whole(machine)
    assert cut_at > 10
