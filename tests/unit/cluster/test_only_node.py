"""The taint of a control plane: off while there is no other node, and a person's word counts."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodeagent.cluster import only_node
from nodeagent.cluster.only_node import MARK, TAINT
from nodeagent.host.host import Result
from tests.support.machine import Machine

OTHER = {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}


def node(name: str, *taints: dict[str, str], marked: bool = False) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "resourceVersion": "41",
            "annotations": {"volumes": "x", **({MARK: "true"} if marked else {})},
        },
        "spec": {"taints": list(taints)} if taints else {},
    }


class Cluster:
    """A double of kubectl that keeps nodes, and takes the JSON patches (RFC 6902) of this module.
    As the API server, it takes a test for null where there is no such field."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = list(nodes)
        self.patched = 0
        self.down = False
        self.meanwhile: Callable[[dict[str, Any]], object] = (
            dict  # what another does before a patch
        )

    def __call__(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        words = argv[3:]
        if self.down:
            return Result(1, "", "The API server is away.")
        if words[:2] == ("get", "nodes"):
            return Result(0, json.dumps({"items": self.nodes}))
        assert words[:2] == ("patch", "node") and words[3:5] == ("--type=json", "-p")
        own = next(one for one in self.nodes if one["metadata"]["name"] == words[2])
        self.meanwhile(own)
        changed = copy.deepcopy(own)
        for change in json.loads(words[5]):
            *way, last = (part.replace("~1", "/") for part in change["path"].split("/")[1:])
            place = changed
            for part in way:
                place = place[part]
            if change["op"] == "test" and place.get(last) != change["value"]:
                return Result(1, "", "the server rejected our request")
            if change["op"] == "add":
                place[last] = change["value"]
            if change["op"] == "remove":
                del place[last]
        self.nodes[self.nodes.index(own)] = changed
        self.patched += 1
        return Result(0, "")


def fit(root: Path, cluster: Cluster) -> dict[str, Any]:
    machine = Machine(root)
    machine.otherwise = cluster
    only_node.fit(machine, "pi-1")
    return cluster.nodes[0]


@pytest.mark.parametrize(
    ("own", "others", "taints", "marked"),
    [
        (node("pi-1", TAINT), 0, [], True),
        (node("pi-1", OTHER, TAINT), 0, [OTHER], True),
        (node("pi-1", marked=True), 1, [TAINT], False),
        (node("pi-1", OTHER, marked=True), 2, [OTHER, TAINT], False),
        # Nothing to do.
        (node("pi-1", TAINT), 1, [TAINT], False),
        (node("pi-1", marked=True), 0, [], True),
        # A person has removed it, or put it back.
        (node("pi-1"), 0, [], False),
        (node("pi-1"), 1, [], False),
        (node("pi-1", TAINT, marked=True), 0, [TAINT], True),
        (node("pi-1", TAINT, marked=True), 1, [TAINT], False),
    ],
)
def test_what_follows(
    own: dict[str, Any], others: int, taints: list[Any], marked: bool, tmp_path: Path
) -> None:
    cluster = Cluster(own, *(node(f"pi-{number + 2}") for number in range(others)))
    for _ in range(2):  # a second time changes nothing
        found = fit(tmp_path, cluster)
        assert found["spec"].get("taints", []) == taints
        assert (MARK in found["metadata"]["annotations"]) == marked
        assert found["metadata"]["annotations"]["volumes"] == "x"
    assert cluster.patched <= 1


def test_a_board_comes_and_goes(tmp_path: Path) -> None:
    cluster = Cluster(node("pi-1", TAINT))
    for others, taints in (([], []), ([node("pi-2")], [TAINT]), ([], []), ([node("x")], [TAINT])):
        cluster.nodes[1:] = others
        assert fit(tmp_path, cluster)["spec"]["taints"] == taints


def test_a_cluster_that_does_not_answer_is_asked_later(tmp_path: Path) -> None:
    cluster = Cluster(node("pi-1", TAINT))
    cluster.down = True
    assert fit(tmp_path, cluster)["spec"]["taints"] == [TAINT]
    strange = Cluster({"metadata": {"name": "pi-1"}})
    assert fit(tmp_path, strange) == {"metadata": {"name": "pi-1"}}


def test_what_a_kubelet_tells_meanwhile_is_in_nobodys_way(tmp_path: Path) -> None:
    cluster = Cluster(node("pi-1", TAINT))
    cluster.meanwhile = lambda own: own["metadata"].update(resourceVersion="42")
    assert fit(tmp_path, cluster)["spec"]["taints"] == []


def test_what_a_person_does_meanwhile_stays(tmp_path: Path) -> None:
    cluster = Cluster(node("pi-1", TAINT))
    cluster.meanwhile = lambda own: own["spec"].update(taints=[OTHER, TAINT])
    # The second try has seen it.
    assert fit(tmp_path, cluster)["spec"]["taints"] == [OTHER]
    cluster = Cluster(node("pi-1", marked=True), node("pi-2"))
    cluster.meanwhile = lambda own: own["spec"].update(taints=[OTHER])
    assert fit(tmp_path, cluster)["spec"]["taints"] == [OTHER, TAINT]


def test_a_node_without_annotations(tmp_path: Path) -> None:
    own = node("pi-1", TAINT)
    del own["metadata"]["annotations"]
    assert fit(tmp_path, Cluster(own))["metadata"]["annotations"] == {MARK: "true"}
