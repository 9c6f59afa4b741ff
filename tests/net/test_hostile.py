"""An attacker on the LAN may cost time, and nothing else."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.fleet import beacon, handoff
from nodeagent.fleet.neighbours import Neighbours
from nodeagent.fleet.sight import Heard
from nodeagent.join import broker_protocol, messages
from nodeagent.serve import status_page
from nodeagent.trust import fleet_file, pki
from tests.hostile import load
from tests.support.joining import answers, ask, certificate_request, control_plane
from tests.support.virtual_lan import PORT, Lan, Node, eventually, ip, status

SERVE_LIMIT_KIB = 64 * 1024  # MemoryMax= of the unit
SERVE_TASKS = 128  # TasksMax= of the unit


def rounds(leader: Node, worker: Node) -> Callable[[], tuple[Heard, ...]]:
    """One round of the agents on both sides with each call: the leader says where it stands every
    five seconds, the worker tells whom it has heard."""
    neighbours = Neighbours(worker.trust.beacon_key, worker.key.node_id, worker.trust.issuer_point)
    said = 0.0

    def heard() -> tuple[Heard, ...]:
        nonlocal said
        if time.monotonic() - said > 5:
            said = time.monotonic()
            leader.announce(endpoint=True)
        mark, candidates = handoff.read_heard(worker.host)
        return neighbours.update(mark, candidates, time.monotonic())[1]

    return heard


def test_a_spoofer_and_a_flood_do_not_hide_the_control_plane(lan: Lan) -> None:
    leader, worker, attacker = control_plane(lan), lan.add(), lan.add()
    process = attacker.start(
        "tests.support.attacker_process", attacker.address, leader.key.node_id, "25"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"at it\n"
    worker.announce()
    worker.serve()
    heard = rounds(leader, worker)

    def found() -> str | None:
        return next((h.beacon.address for h in heard() if h.beacon.ready), None)

    assert eventually(found, 24), worker.logs()
    assert len(handoff.read_heard(worker.host)[1]) <= handoff.MAX_CANDIDATES
    assert process.poll() is None, "the attack was still on"
    addresses = (attacker.address, found() or "")
    assert ask(worker, "pi-2", *addresses)["name"] == "pi-2"
    assert status(worker.processes[0], "VmHWM") < SERVE_LIMIT_KIB


@pytest.mark.parametrize("kind", ["questions", "sources", "victim"])
def test_no_flood_fills_the_memory_or_hides_a_node(lan: Lan, kind: str) -> None:
    """More kinds in `make hostile`, with figures. In the victim's own address nobody can be told
    from it but by lot: there the attacker is slower."""
    leader, worker, attacker = control_plane(lan), lan.add(), lan.add()
    rate = "20" if kind == "victim" else "870"
    process = attacker.start(
        "tests.support.flood_process", attacker.address, kind, rate, "60",
        leader.address, leader.key.node_id,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"at it\n"
    worker.announce()
    worker.serve()
    heard = rounds(leader, worker)

    def found() -> bool:
        return any(h.beacon.node_id == leader.key.node_id for h in heard())

    assert eventually(found, 50), worker.logs()
    assert process.poll() is None, "the attack was still on"
    for serving in (worker.processes[0], leader.processes[-1]):
        assert status(serving, "VmHWM") < SERVE_LIMIT_KIB


@pytest.mark.parametrize("kind", ["half", "member", "page"])
def test_connections_from_many_addresses_keep_nobody_out(lan: Lan, kind: str) -> None:
    leader, worker, attacker = control_plane(lan), lan.add(), lan.add()
    leader.announce(endpoint=True, status_page=True)
    assert eventually(lambda: answers(leader, status_page.PORT)), leader.logs()
    sources = [f"10.77.0.{100 + number}" for number in range(100)]
    for source in sources:
        ip("-n", attacker.space, "addr", "add", f"{source}/24", "dev", "eth0")
    port = status_page.PORT if kind == "page" else PORT
    process = attacker.start(
        "tests.support.connect_process", leader.address, str(port), kind, "3000", "100",
        str(attacker.host.root), *sources,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"at it\n"
    time.sleep(3)
    assert eventually(lambda: "name" in ask(worker, "pi-2", leader.address)), leader.logs()
    assert process.poll() is None, "the attack was still on"
    serving = leader.processes[-1]
    assert status(serving, "Threads") < SERVE_TASKS
    assert status(serving, "VmHWM") < SERVE_LIMIT_KIB


@pytest.mark.parametrize("kind", ["silent", "stranger", "worker"])
def test_impostors_only_cost_time(lan: Lan, kind: str) -> None:
    leader, worker = control_plane(lan), lan.add()
    attacker = lan.add(fleet_file.make("other")[1] if kind == "stranger" else None)
    addresses = [f"10.77.0.{100 + number}" for number in range(20)]
    for address in addresses:
        ip("-n", attacker.space, "addr", "add", f"{address}/24", "dev", "eth0")
    process = attacker.start("tests.support.impostor_process", kind, str(attacker.host.root))
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"listening"), attacker.logs()
    assert ask(worker, "pi-2", *addresses, leader.address)["name"] == "pi-2"
    said = ask(worker, "pi-2", *addresses)
    assert said["error"] == "NoControlPlane"
    process.kill()
    assert b"BELIEVED" not in process.stdout.read()


def test_an_old_beacon_that_is_replayed_hides_nothing(lan: Lan) -> None:
    """One of the leader's own, from before, with an address that the attacker has now."""
    leader, worker, attacker = control_plane(lan), lan.add(), lan.add()
    old = beacon.Beacon(
        node_id=leader.key.node_id, boot=f"{leader.number:08x}", name="pi-1", phase="ready",
        role="control-plane", fitness=(1, 2, 8, 1), epoch=0, claim=False, ready=True, expected=0,
        address=attacker.address, port=PORT, seq=0,
    )  # fmt: skip
    sealed = leader.seal(old)
    handoff.write_announcement(
        attacker.host,
        handoff.Announcement(attacker.address, leader.key.node_id, sealed, PORT, False, False),
    )
    attacker.serve()
    worker.announce()
    worker.serve()
    neighbours = Neighbours(worker.trust.beacon_key, worker.key.node_id, worker.trust.issuer_point)

    def heard() -> list[str]:
        mark, candidates = handoff.read_heard(worker.host)
        nodes = neighbours.update(mark, candidates, time.monotonic())[1]
        return [node.beacon.address for node in nodes]

    assert eventually(lambda: sealed in [c.beacon for c in handoff.read_heard(worker.host)[1]])
    assert eventually(lambda: leader.announce(endpoint=True) and heard() == [leader.address])


def test_a_crowd_is_let_in(lan: Lan, tmp_path: Path) -> None:
    """Twice as many as there may be tokens, all at once; 1,000 in `make hostile`."""
    leader = control_plane(lan, joining=0.2)
    said = load.join(lan, leader, tmp_path, 64, 64)
    assert len({one.get("name") for one in said["joiners"]}) == 64, said
    assert all(one["seconds"] is not None for one in said["joiners"])


def test_a_taken_over_broker_leads_nobody_to_another_cluster(lan: Lan) -> None:
    """Real server and client, the broker's true key and leaf, and a grant for the attacker's API
    server and CA (attack a03)."""
    leader = control_plane(lan, broker=("tests.support.taken_over_process",))
    worker = lan.add()
    said = ask(worker, "pi-2", leader.address)
    assert said["error"] == "NoControlPlane", said
    assert "An agent's certificate was not believed" in said["reason"]
    assert leader.address in said["reason"], "the log says who it was"
    honest = control_plane(lan)
    told = ask(worker, "pi-2", leader.address, honest.address)
    assert told["name"] == "pi-2", "and it keeps nobody from another control plane"
    assert told["endpoints"] == [f"{honest.address}:6443"]


def test_a_network_process_cannot_use_what_it_carries(lan: Lan) -> None:
    """It hears each grant. Here it asks the broker itself, with the request that it heard, and has
    the grant before the node; there is no token in it (attack a04)."""
    leader, worker = control_plane(lan), lan.add()
    reader = pki.new_key()
    socket_ = str(leader.host.path(broker_protocol.SOCKET))
    nonce = broker_protocol.call(socket_, {"op": "nonce"})["nonce"]
    request = messages.build_request(
        worker.trust.fleet_id, worker.key, worker.trust.leaf("client", worker.key.public), "pi-2",
        nonce, {}, "ab" * 32, reader.public_key(),
    ).decode()  # fmt: skip
    asked = {"op": "grant", "request": request, "source": worker.address}
    heard = broker_protocol.call(socket_, asked)["grant"]
    (token,) = Path(leader.host.root, "cluster", "tokens").iterdir()
    secret = token.read_text().partition(" ")[0].encode()
    assert secret not in base64.urlsafe_b64decode(heard.split(".")[1] + "==")
    # Nor does a key of its own come through, though it had the token from elsewhere.
    thief = certificate_request(f"{token.name}.{secret.decode()}", "pi-2", pki.new_key())
    cluster = Path(leader.host.root, "cluster")
    (cluster / "csr" / "thief.json").write_text(json.dumps(thief))
    friend = lan.add()
    told = ask(friend, "pi-3", leader.address)
    right = certificate_request(told["token"], "pi-3")
    (cluster / "csr" / "right.json").write_text(json.dumps(right))
    assert eventually(lambda: (cluster / "approved" / "right").exists()), leader.logs()
    assert not (cluster / "approved" / "thief").exists()


def test_a_worker_card_cannot_pose_as_control_plane(lan: Lan) -> None:
    """Even a full endpoint is not believed without the control-plane issuer's signature."""
    rogue, worker = control_plane(lan), lan.add()
    for path in ("server.crt", "server.key"):
        rogue.host.remove(f"/run/nodeagent/endpoint/{path}")
    own = rogue.trust.leaf("client", rogue.key.public)
    from nodeagent.trust import pki

    rogue.host.write(paths.SERVER_KEY, pki.key_pem(rogue.key.private).encode(), 0o600)
    rogue.host.write(paths.SERVER_CERT, "".join(map(pki.cert_pem, own)).encode(), 0o600)
    time.sleep(3)  # the network process takes the new files up
    said = ask(worker, "pi-2", rogue.address)
    assert said["error"] == "NoControlPlane"
    assert "not a control plane of this fleet" in said["reason"], said
