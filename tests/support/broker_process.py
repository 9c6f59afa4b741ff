"""The real broker service on a double of the cluster: ``python -m
tests.support.broker_process ROOT``, or with ``api`` behind it on what answers as API server
(``apiserver_process.py``).

The double keeps what it is told in files below ROOT/cluster: tokens/ID, csr/NAME.json (put there
by the test), approved/NAME, nodes/NAME.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import datetime
from pathlib import Path

from nodeagent.broker import main as broker_main
from nodeagent.broker.kube_api_protocol import Seen, SigningRequest
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol
from tests.support import resolver


class ClusterInFiles:
    """A double of the Kubernetes API."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("tokens", "csr", "approved", "nodes"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def create_token(self, token_id: str, secret: str, node_name: str, expires: datetime) -> None:
        (self._folder / "tokens" / token_id).write_text(f"{secret} {node_name}")

    def delete_token(self, token_id: str) -> None:
        (self._folder / "tokens" / token_id).unlink(missing_ok=True)

    def requests(self) -> list[SigningRequest]:
        return [self._request(path) for path in sorted((self._folder / "csr").glob("*.json"))]

    def _request(self, path: Path) -> SigningRequest:
        item = json.loads(path.read_text())
        approved = (self._folder / "approved" / path.stem).exists()
        return SigningRequest(
            name=path.stem,
            uid="",
            username=item["username"],
            groups=tuple(item["groups"]),
            signer=item["signer"],
            usages=tuple(item["usages"]),
            csr_pem=item["csr"].encode(),
            pending=not approved,
            created="",
            approved=approved,
        )

    def approve(self, name: str, uid: str, reason: str) -> None:
        (self._folder / "approved" / name).write_text(reason)

    def deny(self, name: str, uid: str, reason: str) -> None:
        (self._folder / "csr" / f"{name}.json").unlink()

    def all_nodes(self) -> dict[str, Seen]:
        return {path.name: Seen(True) for path in (self._folder / "nodes").iterdir()}

    def delete_node(self, name: str, uid: str = "") -> None:
        (self._folder / "nodes" / name).unlink(missing_ok=True)


def main(root: str, cluster: str = "files") -> None:
    """Load everything the real way, then put the double in the API's place."""
    resolver.install(Path(root))
    host = Host(Path(root))
    broker = broker_main.load(host)
    if cluster == "files":
        broker.api = ClusterInFiles(Path(root, "cluster"))
    given = os.environ.get("LISTENING", "").split()  # of users_process.py
    listeners = [socket.socket(fileno=int(one)) for one in given]
    for path in (broker_protocol.SOCKET, broker_protocol.ROOT_SOCKET)[len(given) :]:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(host.path(path)))
        listener.listen(16)
        listeners.append(listener)
    broker_main.Service(host, broker, *listeners).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
