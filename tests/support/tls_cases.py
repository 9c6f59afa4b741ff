"""Who gets through TLS with which certificate: real handshakes, judged by both sides.

Needs no more than Python and cryptography, so that every Python can run it by itself:
``python -m tests.support.tls_cases`` prints what came of each case as JSON. The cases are those an
attacker can make: with the material of another fleet, of a worker's card, of a joined node.
"""

from __future__ import annotations

import json
import platform
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from nodeagent.trust import fleet_file, pki, store, tls
from nodeagent.trust.anchors import server_name
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

Chain = list[x509.Certificate]
PATIENCE = 20  # seconds that one side waits for the other


@dataclass(frozen=True)
class Case:
    """A handshake: what each side shows; ``client`` None: a client without certificate."""

    server: Chain
    server_key: pki.PrivateKey
    client: Chain | None
    client_key: pki.PrivateKey
    name: str
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3  # that the client speaks


@dataclass(frozen=True)
class Verdict:
    """``who`` refused: client, server, or ok for nobody; ``why`` in OpenSSL's words."""

    who: str
    why: str = ""


def good(trust: Trust) -> Case:
    """A control plane and a node of one fleet."""
    server, node = pki.new_key(), NodeKey(pki.new_key())
    return Case(
        trust.leaf("server", server.public_key()),
        server,
        trust.leaf("client", node.public),
        node.private,
        server_name(trust.fleet_id),
    )


def shake(case: Case, root: x509.Certificate, folder: Path, check_time: bool = True) -> Verdict:
    """Let the two shipped contexts meet, and say which refused."""

    def files(name: str, chain: Chain, key: pki.PrivateKey) -> tuple[str, str]:
        cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
        cert_path.write_text("".join(map(pki.cert_pem, chain)))
        key_path.write_text(pki.key_pem(key))
        return str(cert_path), str(key_path)

    (folder / "root").write_text(pki.cert_pem(root))
    server = tls.server(*files("s", case.server, case.server_key), str(folder / "root"))
    if case.client is not None and case.newest == ssl.TLSVersion.TLSv1_3:
        shown = files("c", case.client, case.client_key)
        client = tls.client(*shown, pki.cert_pem(root), check_time)
    else:  # what a node never does
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cadata=pki.cert_pem(root))
        client.maximum_version = case.newest
    here, there = socket.socketpair()
    refused: list[str] = []

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as session:
                session.sendall(b"hello")
        except (ssl.SSLError, OSError) as error:
            refused.append(_why(error))

    for end in (here, there):
        end.settimeout(PATIENCE)
    thread = threading.Thread(target=serve)
    thread.start()
    verdict = Verdict("ok")
    try:
        with client.wrap_socket(here, server_hostname=case.name) as session:
            # TLS 1.3: the client is done before the server has judged it; the first read tells.
            if session.recv(5) != b"hello":
                verdict = Verdict("server")
    except ssl.SSLCertVerificationError as error:
        verdict = Verdict("client", _why(error))
    except (ssl.SSLError, OSError):
        verdict = Verdict("server")
    finally:
        here.close()
        thread.join(PATIENCE)
        there.close()
    if verdict.who == "server":
        return Verdict("server", refused[0] if refused else "")
    return verdict


def _why(error: Exception) -> str:
    text = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
    return str(text).replace("_", " ").lower()


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


def by_node(trust: Trust, key: pki.PrivateKey) -> Chain:
    """A server certificate that a joined node signed with its own client certificate's key."""
    node = NodeKey(pki.new_key())
    chain = trust.leaf("client", node.public)
    name = server_name(trust.fleet_id)
    forged = pki.issue(
        "x", key.public_key(), pki.common_name(chain[0]), node.private,
        usages=(pki.SERVER,), dns=(name,),
    )  # fmt: skip
    return [forged, *chain]


def impostor(trust: Trust, key: pki.PrivateKey) -> Chain:
    """A chain with every name right and every key the attacker's own."""
    fake = pki.new_key()
    issuer = pki.common_name(trust.control_plane.cert)
    made = pki.issue(
        issuer, fake.public_key(), pki.common_name(trust.root_cert), fake,
        usages=(pki.SERVER, pki.CLIENT), path_length=0,
    )  # fmt: skip
    name = server_name(trust.fleet_id)
    last = pki.issue("x", key.public_key(), issuer, fake, usages=(pki.SERVER,), dns=(name,))
    return [last, made]


def bare(trust: Trust, key: pki.PrivateKey) -> Chain:
    """A right server certificate, but without key identifiers (RFC 5280 4.2.1.1)."""
    assert trust.control_plane.key is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .issuer_name(trust.control_plane.cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.NOT_BEFORE)
        .not_valid_after(pki.NOT_AFTER)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([pki.SERVER]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(server_name(trust.fleet_id))]), critical=False
        )
    )
    return [builder.sign(trust.control_plane.key, hashes.SHA256()), trust.control_plane.cert]


Change = Callable[[Case, Trust, Trust], Case]  # the good case, the fleet, another fleet


def _server(make: Callable[[Trust, pki.PrivateKey], Chain]) -> Change:
    return lambda c, t, o: replace(c, server=make(t, c.server_key))


BOTH = (pki.SERVER, pki.CLIENT)
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
    "the same, asked for by its own name": (
        lambda c, t, o: replace(
            c, server=o.leaf("server", c.server_key.public_key()), name=server_name(o.fleet_id)
        ),
        "client",
    ),
    "all names right, all keys the attacker's": (_server(impostor), "client"),
    "client of another fleet": (
        lambda c, t, o: replace(c, client=o.leaf("client", c.client_key.public_key())),
        "server",
    ),
    "a client without certificate": (lambda c, t, o: replace(c, client=None), "server"),
    "a client of TLS 1.2": (
        lambda c, t, o: replace(c, newest=ssl.TLSVersion.TLSv1_2),
        "server",
    ),
    "a client certificate as server": (
        _server(lambda t, key: t.leaf("client", key.public_key())), "client",
    ),
    "a server certificate as client": (
        lambda c, t, o: replace(c, client=t.leaf("server", c.client_key.public_key())),
        "server",
    ),
    "the broker's certificate as control plane": (
        _server(lambda t, key: t.leaf("broker", key.public_key())), "client",
    ),
    "a control plane's certificate, asked for another name": (
        lambda c, t, o: replace(c, name=f"n-{'a' * 16}.{t.fleet_id}.internal"),
        "client",
    ),
    "a server certificate by the enrol issuer": (
        lambda c, t, o: replace(
            c, server=leaf(t, "enrol", c.server_key, usages=BOTH, dns=(c.name,))
        ),
        "client",
    ),
    "the same without any purpose": (
        lambda c, t, o: replace(c, server=leaf(t, "enrol", c.server_key, dns=(c.name,))),
        "client",
    ),
    "the same below an issuer of its own": (_server(below), "client"),
    "a server certificate signed with a node's key": (_server(by_node), "client"),
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
    "a right server certificate without key identifiers": (_server(bare), "client"),
    "a self-signed server": (
        lambda c, t, o: replace(
            c,
            server=[pki.issue("x", c.server_key.public_key(), "x", c.server_key, dns=(c.name,))],
        ),
        "client",
    ),
}  # fmt: skip


def late(trust: Trust) -> Case:
    """A control plane whose certificate begins in the future, as seen by a board whose clock is
    behind."""
    begin = pki.NOT_BEFORE
    try:
        pki.NOT_BEFORE = pki.NOT_AFTER - timedelta(days=1)
        return good(trust)
    finally:
        pki.NOT_BEFORE = begin


def every(trust: Trust, other: Trust) -> Iterator[tuple[str, str, Case, bool]]:
    """Each case: what it is, the verdict that is right, the case, whether the clock is known."""
    base = good(trust)
    for what, (change, expected) in TABLE.items():
        case = change(base, trust, other)
        yield what, expected, case, True
        yield f"{what}; clock unknown", expected, case, False
    future = late(trust)
    node = replace(future, client=base.client, client_key=base.client_key)
    yield "a server certificate from the future", "client", node, True
    yield "a server certificate from the future; clock unknown", "ok", node, False


def main() -> None:
    """All cases, on this Python."""
    trust, other = (
        store.from_card(fleet_file.parse(fleet_file.make(name)[1])) for name in ("a", "b")
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for what, expected, case, check_time in every(trust, other):
            verdict = shake(case, trust.root_cert, Path(folder), check_time)
            rows.append((what, expected, verdict.who, verdict.why))
    found = {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION, "rows": rows}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
