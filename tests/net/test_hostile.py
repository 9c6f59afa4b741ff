"""An attacker on the LAN may cost time, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

from nodeagent.fleet import exchange
from nodeagent.fleet.hearing import Hearing
from tests.net.lan import Lan, Node, eventually
from tests.net.test_join import ask, control_plane

SERVE_LIMIT_KIB = 64 * 1024  # MemoryMax= of the unit


def resident(node: Node) -> int:
    """Memory of the node's network process in KiB."""
    children = Path(f"/proc/{node.processes[0].pid}/task/{node.processes[0].pid}/children")
    pid = (children.read_text().split() or [str(node.processes[0].pid)])[0]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_a_spoofer_and_a_flood_do_not_hide_the_control_plane(lan: Lan) -> None:
    leader, worker, attacker = control_plane(lan), lan.add(), lan.add()
    process = attacker.start(
        "tests.net.attacker_process", attacker.address, leader.key.node_id, "25"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"at it\n"
    worker.announce()
    worker.serve()
    hearing = Hearing(worker.trust.beacon_key, worker.key.node_id)
    last_said = 0.0

    def found() -> str | None:
        """One round of the agents on both sides."""
        nonlocal last_said
        if time.monotonic() - last_said > 5:
            last_said = time.monotonic()
            leader.announce(endpoint=True)
        mark, candidates = exchange.read_heard(worker.host)
        heard = hearing.update(mark, [c.beacon for c in candidates], time.monotonic())[1]
        return next((h.beacon.address for h in heard if h.beacon.ready), None)

    assert eventually(found, 24), worker.logs()
    assert len(exchange.read_heard(worker.host)[1]) <= exchange.MAX_CANDIDATES
    assert process.poll() is None, "the attack was still on"
    addresses = (attacker.address, found() or "")
    assert ask(worker, "pi-2", *addresses)["name"] == "pi-2"
    assert resident(worker) < SERVE_LIMIT_KIB


def test_a_worker_card_cannot_pose_as_control_plane(lan: Lan) -> None:
    """Even a full endpoint is not believed without the control-plane issuer's signature."""
    rogue, worker = control_plane(lan), lan.add()
    for path in ("server.crt", "server.key"):
        rogue.host.remove(f"/run/nodeagent/endpoint/{path}")
    own = rogue.trust.leaf("client", rogue.key.public)
    from nodeagent.fleet import install, pki

    rogue.host.write(install.SERVER_KEY, pki.key_pem(rogue.key.private).encode(), 0o600)
    rogue.host.write(install.SERVER_CERT, "".join(map(pki.cert_pem, own)).encode(), 0o600)
    time.sleep(3)  # the network process takes the new files up
    said = ask(worker, "pi-2", rogue.address)
    assert said["error"] == "NoControlPlane"
    assert "no control plane of this fleet" in said["reason"], said
