"""A node asks a real endpoint and broker for a grant over the LAN; only the cluster is a double."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.agent import provision
from nodeagent.cluster import addresses as networks
from nodeagent.cluster import credentials
from nodeagent.join import broker_protocol
from nodeagent.serve import status_page
from nodeagent.status import model, schema
from nodeagent.trust import fleet_file, pki
from tests.net.lan import PORT, Lan, Node, eventually
from tests.support import namespaces


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
    provision.install(node.host, node.trust, user, endpoint, "1.36.4")
    if joining is not None:
        node.host.write("/cluster-ca.key", pki.key_pem(key).encode(), 0o600)
        server = node.start(
            "tests.net.apiserver_process", str(node.host.root), node.address, str(joining)
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"listening\n", node.logs()
    command = (*broker, "tests.net.broker_process", str(node.host.root))
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
    command = (*by, "tests.net.ask_process", str(node.host.root), wish, *addresses)
    process = node.start(*command)
    out, _ = process.communicate(timeout=200)
    said: dict[str, Any] = json.loads(out or b'{"error": "crashed"}')
    assert said.get("error") != "crashed", node.logs()
    return said


def certificate_request(token: str, name: str) -> dict[str, Any]:
    """What a kubelet with this token asks for."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
        ]
    )
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = csr.sign(pki.new_key(), hashes.SHA256())
    return {
        "username": f"system:bootstrap:{token.partition('.')[0]}",
        "groups": ["system:bootstrappers:nodeagent", "system:authenticated"],
        "signer": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"],
        "csr": signed.public_bytes(serialization.Encoding.PEM).decode(),
    }


def test_a_node_joins_and_its_token_ends(lan: Lan) -> None:
    leader, worker = control_plane(lan), lan.add()
    worker.announce()
    worker.serve()
    assert eventually(lambda: leader.key.node_id in worker.heard()), worker.logs()

    grant = ask(worker, "pi-2", leader.address)
    assert grant["name"] == "pi-2", grant
    assert grant["endpoints"] == [f"{leader.address}:6443"]
    cluster = Path(leader.host.root, "cluster")
    token_id = grant["token"].partition(".")[0]
    assert (cluster / "tokens" / token_id).exists()

    wrong = certificate_request(grant["token"], "pi-1")
    right = certificate_request(grant["token"], "pi-2")
    (cluster / "csr" / "wrong.json").write_text(json.dumps(wrong))
    (cluster / "csr" / "right.json").write_text(json.dumps(right))
    assert eventually(lambda: (cluster / "approved" / "right").exists()), leader.logs()
    assert not (cluster / "approved" / "wrong").exists()
    assert (cluster / "tokens" / token_id).exists(), "the kubelet still needs it"
    (cluster / "nodes" / "pi-2").touch()
    assert eventually(lambda: not (cluster / "tokens" / token_id).exists()), leader.logs()
    assert grant["token"].partition(".")[2] not in leader.logs() + worker.logs()


def test_a_node_joins_over_ipv6_and_without_multicast(lan: Lan) -> None:
    leader, worker = control_plane(lan, four=False), lan.add(four=False)
    said = ask(worker, "pi-2", "fd77::fafa", leader.address)
    assert said["name"] == "pi-2", said
    assert said["endpoints"] == [f"[{leader.address}]:6443"]


def test_a_name_belongs_to_the_first_key(lan: Lan) -> None:
    leader, first, second = control_plane(lan), lan.add(), lan.add()
    assert ask(first, "raspberrypi", leader.address)["name"] == "raspberrypi"
    name = ask(second, "raspberrypi", leader.address)["name"]
    assert name == f"raspberrypi-{second.key.node_id[2:6]}"
    assert ask(first, "raspberrypi", leader.address)["name"] == "raspberrypi"


def test_a_stranger_gets_nothing(lan: Lan) -> None:
    leader = control_plane(lan)
    stranger = lan.add(card=fleet_file.make("other")[1])
    said = ask(stranger, "pi-9", leader.address)
    assert said["error"] == "NoControlPlane"
    assert "no control plane of this fleet" in said["reason"]
    assert not list(Path(leader.host.root, "cluster", "tokens").iterdir())


def test_silent_and_dead_candidates_only_cost_time(lan: Lan) -> None:
    leader, worker, tarpit = control_plane(lan), lan.add(), lan.add()
    hold = "import socket, time; s = socket.create_server(('', 6444)); time.sleep(60)"
    tarpit.processes.append(
        subprocess.Popen(
            namespaces.inside(tarpit.space, sys.executable, "-c", hold),
            start_new_session=True,
        )
    )
    assert eventually(lambda: answers(tarpit))
    grant = ask(worker, "pi-2", tarpit.address, "10.77.0.250", leader.address)
    assert grant["name"] == "pi-2", grant


def test_idle_connections_do_not_keep_others_out(lan: Lan) -> None:
    leader, worker, idler = control_plane(lan), lan.add(), lan.add()
    hold = (
        "import socket, time\n"
        f"all = [socket.create_connection(({leader.address!r}, 6444)) for _ in range(100)]\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        namespaces.inside(idler.space, sys.executable, "-c", hold),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    idler.processes.append(process)
    assert process.stdout is not None
    threading.Timer(20, process.kill).start()
    assert process.stdout.readline() == b"held\n"
    assert ask(worker, "pi-2", leader.address)["name"] == "pi-2"


def test_no_broker_is_a_plain_refusal(lan: Lan) -> None:
    leader, worker = control_plane(lan), lan.add()
    leader.processes[0].kill()
    leader.processes[0].wait(10)
    said = ask(worker, "pi-2", leader.address)
    assert said["error"] == "NoControlPlane"
    assert "503" in said["reason"]


def test_the_status_page_shows_the_status(lan: Lan) -> None:
    node = lan.add()
    current: schema.Status = {**model.empty(), "node_name": "pi-<1>", "detail": "Electing"}
    node.host.write(paths.STATUS, model.dump(current).encode())
    node.announce()
    node.serve()
    assert eventually(node.own_heard), node.logs()
    assert not answers(node, status_page.PORT), "it is off unless asked for"
    node.announce(status_page=True)
    assert eventually(lambda: answers(node, status_page.PORT)), node.logs()
    fetch = f"import urllib.request as u; print(u.urlopen('http://{node.address}:6480/').read())"
    command = namespaces.inside(node.space, sys.executable, "-c", fetch)
    page = subprocess.run(command, capture_output=True, timeout=10, text=True).stdout
    assert "pi-&lt;1&gt;: preparing" in page
    assert "Electing" in page
