"""A node says over the LAN that it leaves: real TLS, real endpoint, real broker; the cluster is a
double."""

from __future__ import annotations

from pathlib import Path

from tests.support.joining import ask, control_plane, join
from tests.support.virtual_lan import Lan, Node

UID = "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11"


def says(node: Node, name: str, *addresses: str, final: bool = False) -> str:
    """Why it was not heard."""
    word = "final" if final else "for now"
    process = node.start(
        "tests.support.leave_process", str(node.host.root), name, UID, word, *addresses
    )
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, node.logs()
    return out.decode()


def test_a_node_takes_itself_away_and_nobody_else(lan: Lan) -> None:
    leader, first, second = control_plane(lan), lan.add(), lan.add()
    nodes = Path(leader.host.root, "cluster", "nodes")
    for node, name in ((first, "pi-2"), (second, "pi-3")):
        assert join(leader, node, name) == name
    said = says(second, "pi-2", leader.address)
    assert "refused (403)" in said and (nodes / "pi-2").exists()
    # An address where nobody is costs a time-out, and no more.
    assert says(first, "pi-2", "10.77.0.250", leader.address) == ""
    assert not (nodes / "pi-2").exists() and (nodes / "pi-3").exists()
    assert ask(first, "pi-2", leader.address)["name"] == "pi-2", "the name is its own still"
    assert says(first, "pi-2", leader.address, final=True) == ""
    assert ask(second, "pi-2", leader.address)["name"] != "pi-2", "its certificate may live on"
    assert says(first, "pi-2", "10.77.0.250") != "", "nobody was told"
