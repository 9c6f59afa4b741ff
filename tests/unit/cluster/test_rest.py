"""Requests to an API server over real TLS on loopback."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nodeagent.cluster import credentials, rest
from tests.support import authority
from tests.support.machine import NOW

pytestmark = pytest.mark.network


class ApiServer(ThreadingHTTPServer):
    """A double that says what it was asked; it believes the cluster's CA only."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.connections = 0
        self.at = ("127.0.0.1", self.server_port)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (folder / "server.pem").write_bytes(authority.server("127.0.0.1"))
        context.load_cert_chain(folder / "server.pem")
        context.load_verify_locations(cadata=authority.CA_CERT.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: object) -> None:
        """Clients that give up are the point of some tests."""


class _Answer(BaseHTTPRequestHandler):
    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, ApiServer)
        self.server.connections += 1

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/odd":
            self.wfile.write(b"nothing of HTTP\r\n\r\n")
            return
        said = [self.command, self.path, self.headers["Content-Type"], sent.decode()]
        data = json.dumps(said).encode()
        self.send_response(307 if self.path == "/elsewhere" else 200)
        self.send_header("Location", "/here")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """At work while the test runs."""
    with ApiServer(tmp_path) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def files(folder: Path, ca: bytes = authority.CA_CERT) -> tuple[str, str]:
    """As a kubelet has them: key and certificate in one."""
    cert, key = credentials.client("pi-2", authority.CA_CERT, authority.CA_KEY, NOW)
    (folder / "client.pem").write_bytes(cert + key)
    (folder / "ca.crt").write_bytes(ca)
    return str(folder / "ca.crt"), str(folder / "client.pem")


@pytest.mark.parametrize(
    ("method", "body", "kind"),
    [
        ("GET", None, None),
        ("POST", {"a": 1}, "application/json"),
        ("PATCH", {"a": 1}, "application/strategic-merge-patch+json"),
    ],
)
def test_what_is_asked(
    method: str, body: Any, kind: str | None, server: ApiServer, tmp_path: Path
) -> None:
    answer = rest.request(server.at, files(tmp_path), method, "/x?y", body)
    assert (answer.status, answer.reason) == (200, "OK")
    sent = "" if body is None else json.dumps(body)
    assert json.loads(answer.body) == [method, "/x?y", kind, sent]


def test_no_redirection_is_followed(server: ApiServer, tmp_path: Path) -> None:
    answer = rest.request(server.at, files(tmp_path), "POST", "/elsewhere", {"token": "x"})
    assert answer.status == 307 and server.connections == 1


def test_what_is_no_http_is_an_error(server: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(http.client.HTTPException):
        rest.request(server.at, files(tmp_path), "GET", "/odd")


def test_a_server_of_another_cluster_is_told_nothing(server: ApiServer, tmp_path: Path) -> None:
    others = files(tmp_path, authority.OTHER_CA_CERT)
    with pytest.raises(ssl.SSLCertVerificationError):
        rest.request(server.at, others, "POST", "/x", {"token": "x"})
    assert server.connections == 0


@pytest.mark.parametrize(
    ("conditions", "since"),
    [
        ([{"type": "Ready", "lastTransitionTime": "2026-11-29T12:00:00Z"}], 1795953600.0),
        ([{"type": "DiskPressure", "lastTransitionTime": "2026-11-29T12:00:00Z"}], 0.0),
        ([{"type": "Ready"}], 0.0),
        ([{"type": "Ready", "lastTransitionTime": "soon"}], 0.0),
        ([{"type": "Ready", "lastTransitionTime": 7}], 0.0),
        ([], 0.0),
    ],
)
def test_since_when_a_node_is_ready_or_not(conditions: list[Any], since: float) -> None:
    assert rest.ready_since({"status": {"conditions": conditions}}) == since
