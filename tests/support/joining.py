"""A control plane that gives grants, on a virtual LAN, and who asks it; the cluster is a double."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.agent import conflict, provision
from nodeagent.cluster import addresses as networks
from nodeagent.cluster import credentials
from nodeagent.join import broker_protocol
from nodeagent.statefile import StateFile
from nodeagent.trust import pki
from tests.support import namespaces
from tests.support.authority import KUBELET
from tests.support.virtual_lan import PORT, Lan, Node, eventually


def control_plane(
    lan: Lan, card: bytes | None = None, joining: float | None = None, *, four: bool = True,
    broker: tuple[str, ...] = (),
) -> Node:  # fmt: skip
    """A node that gives grants; with a double of the API server where ``joining`` says how many
    seconds a kubelet takes, else with one that is files. ``broker``: what starts the broker.
    Processes: [API server,] broker, serve."""
    node = lan.add(card=card, four=four)
    key = pki.new_key()
    ca = pki.issue("kubernetes", key.public_key(), "kubernetes", key, path_length=0)
    node.host.write(paths.KUBERNETES_CA, pki.cert_pem(ca).encode())
    endpoint = networks.endpoint(node.address)
    user = credentials.client(
        "nodeagent:broker", pki.cert_pem(ca).encode(), pki.key_pem(key).encode(), time.time()
    )
    provision.install(
        node.host, node.trust, user, endpoint, "1.37.2", node_id=node.key.node_id, epoch=1
    )
    conflict.publish(node.host, StateFile(node.host), node.trust, node.key.node_id, alone=None)
    if joining is not None:
        node.host.write("/cluster-ca.key", pki.key_pem(key).encode(), 0o600)
        server = node.start(
            "tests.support.apiserver_process", str(node.host.root), node.address, str(joining)
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"listening\n", node.logs()
    command = (*broker, "tests.support.broker_process", str(node.host.root))
    node.start(*command, "files" if joining is None else "api")
    node.announce(endpoint=True)
    node.serve()
    assert eventually(lambda: answers(node) and node.host.exists(broker_protocol.SOCKET)), (
        node.logs()
    )
    return node


def answers(node: Node, port: int = PORT) -> bool:
    """True when the port is open, as seen from the node itself."""
    probe = f"import socket; socket.create_connection(({node.address!r}, {port}), 1)"
    command = namespaces.inside(node.space, sys.executable, "-c", probe)
    return subprocess.run(command, capture_output=True, timeout=10).returncode == 0


def ask(node: Node, wish: str, *addresses: str, by: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the node is told; ``by``: what starts the process that asks."""
    command = (*by, "tests.support.ask_process", str(node.host.root), wish, *addresses)
    process = node.start(*command)
    out, _ = process.communicate(timeout=200)
    said: dict[str, Any] = json.loads(out or b'{"error": "crashed"}')
    assert said.get("error") != "crashed", node.logs()
    return said


def join(leader: Node, node: Node, wish: str) -> str:
    """The node joins the cluster that is files, to the end; its name."""
    said = ask(node, wish, leader.address)
    name: str = said["name"]
    cluster = Path(leader.host.root, "cluster")
    asked = certificate_request(said["token"], name)
    (cluster / "csr" / f"{name}.json").write_text(json.dumps(asked))
    assert eventually((cluster / "approved" / name).exists), leader.logs()
    (cluster / "nodes" / name).touch()
    token = cluster / "tokens" / said["token"].partition(".")[0]
    assert eventually(lambda: not token.exists()), leader.logs()
    return name


def certificate_request(token: str, name: str, key: Any = KUBELET) -> dict[str, Any]:
    """What the agent asks for with this token for its kubelet's key."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
        ]
    )
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = csr.sign(key, hashes.SHA256())
    return {
        "username": f"system:bootstrap:{token.partition('.')[0]}",
        "groups": ["system:bootstrappers:nodeagent", "system:authenticated"],
        "signer": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"],
        "csr": signed.public_bytes(serialization.Encoding.PEM).decode(),
    }
