"""A double of the Kubernetes API server and of joining kubelets, held to recorded answers:
``python -m tests.support.apiserver_process ROOT ADDRESS SECONDS``.

What it answers, and how long it takes, was recorded from a real API server
(``tests/hostile/record.py``). For each token a kubelet asks for its certificate at once, and its
node is there and Ready SECONDS after the approval. ROOT is the folder of the control plane, whose
cluster CA issues the server's certificate; prints a line once it listens.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.broker.kube_api import REQUESTS, SECRETS
from nodeagent.cluster import names
from nodeagent.cluster.rest import GROUP
from nodeagent.host.host import Host
from nodeagent.trust.store import Trust
from tests.support import authority
from tests.support.authority import KUBELET

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "hostile" / "recorded" / "apiserver.json").read_text()
)


class Cluster:
    """Tokens, requests and nodes."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.lock = threading.Lock()
        self.tokens: dict[str, str] = {}  # id -> the granted name
        self.requests: dict[str, dict[str, Any]] = {}
        self.approved: dict[str, float] = {}  # request -> when
        self.most = 0  # tokens at a time

    def create(self, secret: dict[str, Any]) -> None:
        """A token, and the certificate request of the kubelet that got it."""
        data = {k: base64.b64decode(v).decode() for k, v in secret["data"].items()}
        assert data["auth-extra-groups"] == GROUP
        token, name = data["token-id"], data["description"].rpartition(" ")[2]
        item = copy.deepcopy(RECORDED["GET requests"]["body"]["items"][0])
        item["spec"]["username"] = f"system:bootstrap:{token}"
        item["spec"]["request"] = base64.b64encode(_csr(name)).decode()
        item["status"] = {}
        kind = name.partition("-")[0]
        count = {"idle": 0, "flood": 40}.get(kind, 1)
        # A flood's come first in every list, and are no right ones.
        made = [f"node-csr-{token}"] if count == 1 else [f"a-{token}-{n}" for n in range(count)]
        with self.lock:
            self.tokens[token] = name
            self.most = max(self.most, len(self.tokens))
            for csr in made:
                one = copy.deepcopy(item)
                one["metadata"] |= {"name": csr, "uid": csr}
                self.requests[csr] = one

    def delete(self, token: str) -> bool:
        """True where it was there. Its request is done then; a real one stays for an hour."""
        with self.lock:
            return self.tokens.pop(token, None) is not None

    def approve(self, name: str, item: dict[str, Any]) -> None:
        """As the approval of the API server does it: only the conditions are taken."""
        with self.lock:
            self.requests[name]["status"] = item["status"]
            if item["status"]["conditions"][0]["type"] == "Approved":
                self.approved[name] = time.monotonic()

    def nodes(self) -> list[dict[str, Any]]:
        """The recorded node under the name of each whose kubelet has come so far."""
        now, template = time.monotonic(), RECORDED["GET nodes"]["body"]["items"][0]
        with self.lock:
            joined = [name for name, when in self.approved.items() if now - when >= self.delay]
            names = [self.requests[name]["spec"]["request"] for name in joined]
        found = []
        for request in names:
            subject = x509.load_pem_x509_csr(base64.b64decode(request)).subject
            common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
            name = str(common).removeprefix("system:node:")
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            found.append({
                **template, "metadata": {**template["metadata"], "name": name},
                "status": {**template["status"], **ready},
            })  # fmt: skip
        return found


def _csr(name: str) -> bytes:
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
    ])  # fmt: skip
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return made.sign(KUBELET, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Answers(BaseHTTPRequestHandler):
    """The questions that the broker asks, and no other."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet, else the kernel waits between them (Nagle)
    cluster: Cluster

    def _say(self, which: str, body: Any = None, status: int = 0) -> None:
        recorded = RECORDED[which]
        time.sleep(recorded["milliseconds"] / 1000)
        data = json.dumps(recorded["body"] if body is None else body).encode()
        self.send_response(status or recorded["status"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _page(self, which: str, items: list[Any]) -> None:
        """As many as were asked for, from where the page before ended; an API server takes the
        place from ``continue`` and nothing else."""
        asked = dict(parse_qsl(urlsplit(self.path).query))
        begin, size = int(asked.get("continue", "0")), int(asked["limit"])
        end = begin + size
        body = RECORDED[which]["body"]
        more = {"continue": str(end)} if end < len(items) else {}
        self._say(which, {**body, "metadata": {**body["metadata"], **more},
                          "items": items[begin:end]})  # fmt: skip

    def _sent(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def do_POST(self) -> None:
        assert self.path == SECRETS
        self.cluster.create(self._sent())
        self._say("POST secret")

    def do_DELETE(self) -> None:
        token = self.path.removeprefix(f"{SECRETS}/bootstrap-token-")
        assert re.fullmatch("[a-z0-9]{6}", token)
        self._say("DELETE secret", status=200 if self.cluster.delete(token) else 404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == REQUESTS:
            with self.cluster.lock:
                # Those of joins that are over are left out: the API server forgets approved ones
                # after an hour (kubernetes.io, "Certificate Signing Requests"). Those of a flood
                # stay, since they were not approved.
                items = [
                    item for name, item in sorted(self.cluster.requests.items())
                    if name.startswith("a-")
                    or item["spec"]["username"].rpartition(":")[2] in self.cluster.tokens
                ]  # fmt: skip
            self._page("GET requests", items)
        elif path.startswith(f"{REQUESTS}/"):
            with self.cluster.lock:
                item = self.cluster.requests[path.removeprefix(f"{REQUESTS}/")]
            self._say("GET request", item)
        else:
            assert path == "/api/v1/nodes"
            self._page("GET nodes", self.cluster.nodes())

    def do_PUT(self) -> None:
        name = self.path.removeprefix(f"{REQUESTS}/").removesuffix("/approval")
        item = self._sent()
        self.cluster.approve(name, item)
        self._say("PUT approval", item)

    def log_message(self, *_: object) -> None:
        return


def certificate(root: Path, address: str) -> Path:
    """The API server's certificate and key, made with the cluster's CA in ROOT."""
    ca_cert = root.joinpath(paths.KUBERNETES_CA[1:]).read_bytes()
    path = root / "apiserver.pem"
    ca_key = root.joinpath("cluster-ca.key").read_bytes()
    name = names.api(Trust.load(Host(root)).fleet_id)
    path.write_bytes(authority.server(address, ca_cert, ca_key, name))
    return path


def main(root: str, address: str, delay: str) -> None:
    """Answer until killed."""
    Answers.cluster = Cluster(float(delay))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(Path(root), address))
    context.load_verify_locations(Path(root, paths.KUBERNETES_CA[1:]))
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer((address, 6443), Answers)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
