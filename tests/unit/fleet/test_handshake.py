"""Who gets through TLS with which certificate: real handshakes on loopback, both verdicts."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from nodeagent.fleet import pki, tls
from nodeagent.fleet.anchors import server_name
from nodeagent.fleet.keys import NodeKey
from nodeagent.fleet.trust import Trust

pytestmark = pytest.mark.network

Chain = list[x509.Certificate]


@dataclass(frozen=True)
class Case:
    """A handshake: what each side shows."""

    server: Chain
    server_key: pki.PrivateKey
    client: Chain
    client_key: pki.PrivateKey
    name: str


@pytest.fixture
def good(trust: Trust, key: NodeKey) -> Case:
    """A control plane and a node of one fleet."""
    server = pki.new_key()
    return Case(
        trust.leaf("server", server.public_key()),
        server,
        trust.leaf("client", key.public),
        key.private,
        server_name(trust.fleet_id),
    )


def shake(case: Case, root: x509.Certificate, folder: Path, check_time: bool = True) -> str:
    """``ok``, or which side refused: ``client`` or ``server``."""

    def files(name: str, chain: Chain, key: pki.PrivateKey) -> tuple[str, str]:
        cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
        cert_path.write_text("".join(map(pki.cert_pem, chain)))
        key_path.write_text(pki.key_pem(key))
        return str(cert_path), str(key_path)

    (folder / "root").write_text(pki.cert_pem(root))
    server = tls.server(*files("s", case.server, case.server_key), str(folder / "root"))
    client = tls.client(*files("c", case.client, case.client_key), pki.cert_pem(root), check_time)
    here, there = socket.socketpair()
    verdict: list[str] = []

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as session:
                session.sendall(b"hello")
        except (ssl.SSLError, OSError):
            verdict.append("server")

    for end in (here, there):
        end.settimeout(5)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=case.name) as session:
            # TLS 1.3: the client is done before the server has judged it; the first read tells.
            assert session.recv(5) == b"hello" or verdict
    except ssl.SSLCertVerificationError:
        verdict = ["client"]
    except (ssl.SSLError, OSError):
        verdict = verdict or ["server"]
    finally:
        here.close()
        thread.join(10)
        there.close()
    return verdict[0] if verdict else "ok"


def leaf(trust: Trust, issuer: str, key: pki.PrivateKey, **named: object) -> Chain:
    """What somebody makes with the key of an issuer."""
    made = {"enrol": trust.enrol, "control-plane": trust.control_plane}[issuer]
    assert made.key is not None
    certificate = pki.issue(
        "x",
        key.public_key(),
        pki.common_name(made.cert),
        made.key,
        **named,  # type: ignore[arg-type]
    )
    return [certificate, made.cert]


def below(trust: Trust, key: pki.PrivateKey) -> Chain:
    """A server certificate by way of an issuer that the enrol issuer made."""
    sub_key = pki.new_key()
    assert trust.enrol.key is not None
    sub = pki.issue(
        "sub", sub_key.public_key(), pki.common_name(trust.enrol.cert), trust.enrol.key,
        usages=(pki.SERVER,), path_length=0,
    )  # fmt: skip
    name = server_name(trust.fleet_id)
    last = pki.issue("x", key.public_key(), "sub", sub_key, usages=(pki.SERVER,), dns=(name,))
    return [last, sub, trust.enrol.cert]


Change = Callable[[Case, Trust, Trust], Case]

TABLE: dict[str, tuple[Change, str]] = {
    "a node of the fleet": (lambda c, t, o: c, "ok"),
    "a control plane as client": (
        lambda c, t, o: replace(
            c, client=leaf(t, "control-plane", c.client_key, usages=(pki.CLIENT,))
        ),
        "ok",
    ),
    "server of another fleet": (
        lambda c, t, o: replace(c, server=o.leaf("server", c.server_key.public_key())),
        "client",
    ),
    "client of another fleet": (
        lambda c, t, o: replace(c, client=o.leaf("client", c.client_key.public_key())),
        "server",
    ),
    "a client certificate as server": (
        lambda c, t, o: replace(c, server=t.leaf("client", c.server_key.public_key())),
        "client",
    ),
    "a server certificate as client": (
        lambda c, t, o: replace(c, client=t.leaf("server", c.client_key.public_key())),
        "server",
    ),
    "the broker's certificate as control plane": (
        lambda c, t, o: replace(c, server=t.leaf("broker", c.server_key.public_key())),
        "client",
    ),
    "a server certificate by the enrol issuer": (
        lambda c, t, o: replace(
            c,
            server=leaf(t, "enrol", c.server_key, usages=(pki.SERVER, pki.CLIENT), dns=(c.name,)),
        ),
        "client",
    ),
    "the same without any purpose": (
        lambda c, t, o: replace(c, server=leaf(t, "enrol", c.server_key, dns=(c.name,))),
        "client",
    ),
    "the same below an issuer of its own": (
        lambda c, t, o: replace(c, server=below(t, c.server_key)),
        "client",
    ),
    "a name outside the fleet's": (
        lambda c, t, o: replace(
            c,
            server=leaf(
                t, "control-plane", c.server_key, usages=(pki.SERVER,), dns=("example.com",)
            ),
            name="example.com",
        ),
        "client",
    ),
    "a self-signed server": (
        lambda c, t, o: replace(
            c,
            server=[pki.issue("x", c.server_key.public_key(), "x", c.server_key, dns=(c.name,))],
        ),
        "client",
    ),
}


@pytest.mark.parametrize("what", TABLE)
@pytest.mark.parametrize("check_time", [True, False], ids=["clock right", "clock unknown"])
def test_verdicts(
    what: str, check_time: bool, good: Case, trust: Trust, stranger: Trust, tmp_path: Path
) -> None:
    change, wanted = TABLE[what]
    case = change(good, trust, stranger)
    assert shake(case, trust.root_cert, tmp_path, check_time) == wanted


def test_dates_count_only_where_the_clock_is_known(
    good: Case, trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pki, "NOT_BEFORE", pki.NOT_AFTER - timedelta(days=1))
    future = replace(good, server=trust.leaf("server", good.server_key.public_key()))
    assert shake(future, trust.root_cert, tmp_path, check_time=True) == "client"
    assert shake(future, trust.root_cert, tmp_path, check_time=False) == "ok"


def test_nothing_below_tls_1_3_and_no_foreign_roots(good: Case, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_text(pki.cert_pem(good.server[1]))
    shake(good, good.server[1], tmp_path)  # writes the files
    names = [str(tmp_path / name) for name in ("s.crt", "s.key", "root")]
    for context in (
        tls.server(*names),
        tls.client(names[0], names[1], root.read_text(), check_time=True),
    ):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert len(context.get_ca_certs()) == 1
