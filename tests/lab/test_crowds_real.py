"""Crowds and old certificates on a real API server (lab tier): lists of many pages, requests
without end, nodes that left and kept what they had."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nodeagent.broker import operators
from nodeagent.broker.broker import MAX_REQUESTS
from nodeagent.cluster import revoked
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from tests.lab.test_policy import Cluster, Fleet, bootstrap, cluster, csr, kubelet

pytestmark = pytest.mark.lab
__all__ = ["cluster"]

MANY = 560
LEADS = {"node-role.kubernetes.io/control-plane": ""}


def node(name: str, labels: dict[str, str] | None = None) -> dict[str, object]:
    """A Node object."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}}


def created(cluster: Cluster, *items: object) -> None:
    """By the administrator, in one call."""
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(whole))


def test_hundreds_of_nodes_hide_no_control_plane(cluster: Cluster, tmp_path: Path) -> None:
    """a38, a43: 500 that come earlier by name, and the control plane's name was granted."""
    created(cluster, *(node(f"a-{n}") for n in range(MANY)), node("z-leads", LEADS))
    fleet, key = Fleet(cluster, tmp_path), NodeKey(pki.new_key())
    assert len(fleet.api.all_nodes()) > MANY
    assert fleet.grant("z-leads", key).node_name == f"z-leads-{key.node_id[2:6]}"
    cluster.kubectl("delete", "node", "z-leads")
    key = NodeKey(pki.new_key())
    assert fleet.grant("z-leads", key).node_name == f"z-leads-{key.node_id[2:6]}", "reserved"


def test_large_nodes_are_read_too(cluster: Cluster, tmp_path: Path) -> None:
    """Whoever holds a kubelet's certificate may write 256 KiB of annotations; here with the same
    place in ``continue`` and fewer objects a page."""
    note = {"a": "x" * 200_000}
    fat = [node(f"fat-{n}") for n in range(24)]
    for item in fat:
        item["metadata"] |= {"annotations": note}  # type: ignore[operator]
    created(cluster, *fat)
    fleet = Fleet(cluster, tmp_path)
    assert {f"fat-{n}" for n in range(24)} <= fleet.api.all_nodes().keys()
    cluster.kubectl("delete", "node", *(f"fat-{n}" for n in range(24)))


def test_hundreds_of_requests_keep_nobody_out(cluster: Cluster, tmp_path: Path) -> None:
    """a09, a43: one token made 560, and for a day the next kubelet's was on no first page."""
    fleet, thief = Fleet(cluster, tmp_path), NodeKey(pki.new_key())
    token = fleet.grant("pi-60", thief).token.reveal()
    asked = json.loads(csr(tmp_path, "pi-60"))
    items = [{**asked, "metadata": {"name": f"a-{n}"}} for n in range(MANY)]
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    status, said = bootstrap(cluster, token, "create", "-f", "-", stdin=json.dumps(whole))
    assert status == 0, said[-500:]
    assert sum(r.name.startswith("a-") for r in fleet.api.requests()) == MANY > MAX_REQUESTS
    honest = NodeKey(pki.new_key())
    assert fleet.join(cluster, tmp_path, "pi-61", honest) == "pi-61"
    assert fleet.broker.ledger.is_member(honest.node_id)
    assert not fleet.broker.ledger.is_member(thief.node_id)
    assert token.partition(".")[0] not in {t.token_id for t in fleet.broker.outstanding}
    strays = [r for r in fleet.api.requests() if r.name.startswith("a-")]
    assert not any(r.approved for r in strays) and not all(r.pending for r in strays)


def test_who_left_for_good_and_kept_its_certificate_is_revoked_by_name(
    cluster: Cluster, tmp_path: Path
) -> None:
    """a31, a49: it registered anew under its name, which another board had meanwhile."""
    fleet, key = Fleet(cluster, tmp_path), NodeKey(pki.new_key())
    fleet.join(cluster, tmp_path, "pi-70", key)
    me = json.dumps(node("pi-70"))
    assert kubelet(cluster, "pi-70", "create", "-f", "-", stdin=me)[0] == 0
    fleet.broker.tick()
    fleet.broker.ledger.part("pi-70")  # a final farewell
    cluster.kubectl("delete", "node", "pi-70")
    assert fleet.grant("pi-70", NodeKey(pki.new_key())).node_name != "pi-70"
    assert kubelet(cluster, "pi-70", "create", "-f", "-", stdin=me)[0] == 0, "it still may"
    said = operators.revoke(fleet.broker, "pi-70")
    assert said["names"] == ["pi-70"]
    revoked.bar(cluster.host(), said["names"])
    for _ in range(40):
        status, told = kubelet(cluster, "pi-70", "create", "-f", "-", stdin=me)
        if status != 0 and "revoked" in told:
            break
        time.sleep(0.5)
    else:
        raise AssertionError(told)
    assert "pi-70" not in cluster.kubectl("get", "nodes", "-o", "name").split("/")
