"""Approve mode, sealing and revoking over the LAN: real TLS, real network process, real broker
process; what a person types is typed by the test. Only the cluster is a double."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodeagent.cli import admissions
from nodeagent.errors import Refused
from nodeagent.host.host import Host
from nodeagent.join import waiting_file
from nodeagent.join.approval import code
from nodeagent.trust import fleet_file
from tests.support.joining import ask, certificate_request, control_plane, join
from tests.support.kubectl import Kubectl
from tests.support.virtual_lan import Lan, Node, eventually


@pytest.fixture(scope="module")
def approving() -> tuple[bytes, bytes]:
    """The two cards of a fleet in approve mode: who leads, who waits."""
    lead = fleet_file.make("home", approve=True)[1]
    return lead, fleet_file.for_workers(lead)


def person_at(node: Node) -> Any:
    """A control plane where a person may type; kubectl is a double."""
    node.host.write("/etc/kubernetes/admin.conf", b"x")
    return Host(node.host.root, Kubectl("pi-1"))


def told(node: Node, wish: str, *addresses: str) -> dict[str, Any]:
    """What the node is told; a busy machine loses packets, so once more where nobody answered."""
    for _ in range(5):
        said = ask(node, wish, *addresses)
        if not any(text in said.get("reason", "") for text in ("No route", "no answer in time")):
            break
    return said


def tokens(leader: Node) -> list[Path]:
    """Tokens in the cluster."""
    return [*Path(leader.host.root, "cluster", "tokens").iterdir()]


def test_a_node_shows_its_code_waits_and_is_let_in(
    lan: Lan, approving: tuple[bytes, bytes]
) -> None:
    leader, worker = control_plane(lan, approving[0]), lan.add(card=approving[1])
    other = lan.add(card=approving[1])
    for _ in range(2):
        said = told(worker, "pi-2", leader.address)
        assert said["error"] == "NotAdmitted", said
        assert code(worker.key.node_id) in said["reason"]
    assert told(other, "pi-2", leader.address)["error"] == "NotAdmitted"
    assert not tokens(leader)

    def waiting() -> set[str]:  # what the keeper reads for status and status page
        return {one["id"] for one in waiting_file.read(leader.host)[0]}

    assert eventually(lambda: waiting() == {code(worker.key.node_id), code(other.key.node_id)})
    host = person_at(leader)
    shown = "\n".join(admissions.show_nodes(host))
    assert code(worker.key.node_id) in shown and worker.address in shown
    for wrong in (code(worker.key.node_id)[:-1], "1", code(worker.key.node_id)[:4]):
        with pytest.raises(Refused):
            admissions.approve(host, wrong)
    assert told(worker, "pi-2", leader.address)["error"] == "NotAdmitted"
    assert "joins by itself" in admissions.approve(host, code(worker.key.node_id).lower())
    grant = told(worker, "pi-2", leader.address)
    assert grant.get("name") == "pi-2", grant
    assert told(other, "pi-3", leader.address)["error"] == "NotAdmitted", "only that one"
    assert eventually(lambda: waiting() == {code(other.key.node_id)})
    assert told(worker, "pi-2", leader.address)["name"] == "pi-2", "a lost answer needs nobody"


def test_a_worker_of_such_a_fleet_leads_nobody(lan: Lan, approving: tuple[bytes, bytes]) -> None:
    leader, worker = control_plane(lan, approving[0]), lan.add(card=approving[1])
    rogue = control_plane(lan, fleet_file.make("home", approve=True)[1])
    admissions.approve(person_at(leader), code(worker.key.node_id))
    admissions.approve(person_at(rogue), code(worker.key.node_id))
    said = told(worker, "pi-2", rogue.address)
    assert "not a control plane of this fleet" in said["reason"], "another root is another fleet"
    assert told(worker, "pi-2", rogue.address, leader.address)["name"] == "pi-2"
    assert not tokens(rogue)


def test_sealed_opened_and_sealed_again(lan: Lan) -> None:
    leader, first, second, asker = control_plane(lan), lan.add(), lan.add(), lan.add()
    told(first, "pi-2", leader.address)
    assert join(leader, first, "pi-2") == "pi-2"
    assert told(asker, "pi-9", leader.address)["name"] == "pi-9"
    host = person_at(leader)
    admissions.seal(host, None)
    assert not tokens(leader)
    assert told(asker, "pi-9", leader.address)["error"] == "NotAdmitted", "it only asked"
    said = told(second, "pi-3", leader.address)
    assert said["error"] == "NotAdmitted" and "enrolment is sealed" in said["reason"]
    assert told(first, "pi-2", leader.address)["name"] == "pi-2", "who is in may ask again"
    admissions.seal(host, "1h")
    assert told(second, "pi-3", leader.address)["name"] == "pi-3"
    admissions.seal(host, None)
    third = lan.add()
    assert told(third, "pi-4", leader.address)["error"] == "NotAdmitted"
    admissions.approve(host, code(third.key.node_id))
    assert told(third, "pi-4", leader.address)["name"] == "pi-4"


def test_a_revoked_node_is_out(lan: Lan) -> None:
    leader, worker = control_plane(lan), lan.add()
    told(worker, "pi-2", leader.address)
    assert join(leader, worker, "pi-2") == "pi-2"
    grant = told(worker, "pi-2", leader.address)
    cluster, host = Path(leader.host.root, "cluster"), person_at(leader)
    kubectl = host._run
    assert admissions.revoke(host, "pi-2")[0].startswith("Revoked pi-2")
    assert not tokens(leader)
    assert (kubectl.barred, kubectl.deleted) == (["pi-2"], ["pi-2"])
    late = certificate_request(grant["token"], "pi-2")
    (cluster / "csr" / "late.json").write_text(json.dumps(late))
    said = told(worker, "pi-2", leader.address)
    assert said["error"] == "NoControlPlane" and "was revoked" in said["reason"]
    # The broker still works, and looks at the cluster for the next node.
    friend = lan.add()
    admissions.approve(host, code(friend.key.node_id))
    right = certificate_request(told(friend, "pi-3", leader.address)["token"], "pi-3")
    (cluster / "csr" / "right.json").write_text(json.dumps(right))
    assert eventually(lambda: (cluster / "approved" / "right").exists()), leader.logs()
    assert not (cluster / "approved" / "late").exists()
