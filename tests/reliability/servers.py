"""Two small servers for `kills.py`: the API server's word on the node, and the repository's key."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import authority
from tests.support.firstboot import Fleet
from tests.support.programs import ADDRESS, Commands

Handler = type[http.server.BaseHTTPRequestHandler]


def server_certificate(folder: Path) -> Path:
    """Certificate and key (PEM) of the API server, made with the cluster's CA."""
    path = folder / "server.pem"
    path.write_bytes(authority.server(ADDRESS))
    return path


@contextmanager
def _serving(port: int, handler: Handler, certificate: Path | None) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer((ADDRESS, port), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _answering(answer: object) -> Handler:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert callable(answer)
            data: bytes = answer()
            self.send_response(200 if data else 503)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    return Answer


@contextmanager
def api_server(root: Path, fleet: Fleet) -> Iterator[None]:
    """Says whether the node is Ready, as the doubles of the commands left it."""
    commands = Commands(root, fleet.folder, lambda seconds: None)

    def answer() -> bytes:
        status = "True" if commands.ready() else "False"
        return json.dumps(
            {"status": {"conditions": [{"type": "Ready", "status": status}]}}
        ).encode()

    with _serving(6443, _answering(answer), server_certificate(fleet.folder)):
        yield


@contextmanager
def key_server(key: bytes) -> Iterator[None]:
    """The key of the package repositories, at every path."""
    with _serving(80, _answering(lambda: key), None):
        yield
