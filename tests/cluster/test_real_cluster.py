"""A control plane and a worker that the agents make with the real kubeadm, etcd and API server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.cluster.only_node import TAINT
from tests.cluster import renumbering
from tests.cluster.kubelet_process import RENEW
from tests.cluster.real_boards import RealBoard, RealBoards, Story, fleet
from tests.support.boards import POWEROFF

pytestmark = pytest.mark.cluster
Formed = tuple[Path, Story]
BEFORE = {"leads": "10.77.0.11", "works": "10.77.0.12"}
A_WHILE = 2 * RENEW  # seconds that something stays as it is


@pytest.fixture
def boards(formed: Formed) -> Iterator[RealBoards]:
    """The formed cluster, without power."""
    with fleet(formed[0]) as made:
        yield made


def power_on(boards: RealBoards) -> None:
    """All of them."""
    for board in boards.all:
        board.power_on()


def test_agents_form_a_cluster_from_power_on(formed: Formed) -> None:
    story = formed[1]
    assert story.ready == BEFORE
    assert story.events == [["kubeadm init done"], ["kubeadm join done"]]
    # The grant's road: the broker approved what the kubelet asked for with the token, and no more.
    assert "nodeagent granted works to n-" in story.approved
    assert not story.tokens, "a bootstrap token outlived the join"


def test_a_cluster_outlives_the_loss_of_all_power(boards: RealBoards, formed: Formed) -> None:
    power_on(boards)
    assert boards.until(lambda: boards.ready == BEFORE and boards.formed, 90), boards.story()
    assert boards.uid == formed[1].uid
    assert formed[1].objects <= boards.objects
    assert [board.events for board in boards.all] == formed[1].events, "nothing was done again"


def everywhere_ready(boards: RealBoards, expected: dict[str, str], seconds: float = 180) -> bool:
    """All nodes Ready at these addresses, and all agents at rest, for as long as a kubelet needs to
    tell otherwise."""
    return boards.until(
        lambda: boards.ready == expected and boards.formed, seconds
    ) and not boards.until(lambda: boards.ready != expected, A_WHILE)


def same_cluster(boards: RealBoards, formed: Formed) -> None:
    """Nothing was lost, nothing was done again, and no address of before is left."""
    assert not (found := renumbering.wrong(boards, formed[1])), found


def has_begun(board: RealBoard) -> bool:
    """A leader is Ready without its worker; a worker waits for its leader."""
    waits = board.status["detail"].startswith("Waiting until Kubernetes")
    return bool(board.status["phase"] == "ready") if board.role == "control-plane" else waits


@pytest.mark.parametrize("powered", [True, False], ids=["while it runs", "while it is off"])
def test_f1_a_leader_with_another_address(
    powered: bool, boards: RealBoards, formed: Formed
) -> None:
    if powered:
        power_on(boards)
        assert boards.until(lambda: boards.ready == BEFORE and boards.formed, 90), boards.story()
    boards.renumber(boards.all[0], "10.77.0.57")
    if not powered:
        power_on(boards)
    after = {**BEFORE, "leads": "10.77.0.57"}
    assert everywhere_ready(boards, after), boards.story()
    same_cluster(boards, formed)
    assert "10.77.0.57" in str(boards.leader.objects("endpointslices", "-n", "default"))


def test_f3_a_worker_with_another_address(boards: RealBoards, formed: Formed) -> None:
    power_on(boards)
    assert boards.until(lambda: boards.ready == BEFORE and boards.formed, 90), boards.story()
    boards.renumber(boards.all[1], "10.77.0.58")
    assert everywhere_ready(boards, {**BEFORE, "works": "10.77.0.58"}), boards.story()
    same_cluster(boards, formed)


@pytest.mark.parametrize("first", [0, 1], ids=["leader first", "worker first"])
def test_f2_a_cupboard_is_carried_to_another_house(
    first: int, boards: RealBoards, formed: Formed
) -> None:
    after = {"leads": "192.168.9.21", "works": "192.168.9.22"}
    for board, address in zip(boards.all, after.values(), strict=True):
        boards.renumber(board, address)
    boards.all[first].power_on()
    assert boards.until(lambda: has_begun(boards.all[first]), 90), boards.story()
    boards.all[1 - first].power_on()
    assert everywhere_ready(boards, after), boards.story()
    same_cluster(boards, formed)


@pytest.mark.parametrize("moving", [0, 1], ids=["leader", "worker"])
def test_another_address_while_the_agent_waits_for_ready(
    moving: int, boards: RealBoards, formed: Formed
) -> None:
    """As where a router is slower than a board and gives it its lease late."""
    leader, board = boards.all[0], boards.all[moving]
    begun = leader.logs
    power_on(boards)
    end = time.monotonic() + 60
    while any(leader.logs.get(name) == said for name, said in begun.items()):
        assert time.monotonic() < end, boards.story()
        time.sleep(0.02)
    # The API server has begun; this node's kubelet has not told of this boot yet, and will not.
    os.kill(board.kubelet.pid, signal.SIGSTOP)
    waits = lambda: board.status["detail"].startswith("Waiting until Kubernetes")  # noqa: E731
    assert boards.until(waits, 60), boards.story()
    boards.renumber(board, "10.77.0.59")
    os.kill(board.kubelet.pid, signal.SIGCONT)
    assert everywhere_ready(boards, {**BEFORE, list(BEFORE)[moving]: "10.77.0.59"}), boards.story()
    same_cluster(boards, formed)


def test_a_cluster_is_switched_off_and_comes_back(boards: RealBoards, formed: Formed) -> None:
    power_on(boards)
    assert boards.until(lambda: boards.ready == BEFORE and boards.formed, 90), boards.story()
    leads, works = boards.all
    command = leads.switch_off()
    assert boards.until(lambda: command.poll() is not None, 200), boards.story()
    assert command.returncode == POWEROFF and not works.powered, boards.story()
    leads.power_off()
    power_on(boards)
    assert everywhere_ready(boards, BEFORE), boards.story()
    same_cluster(boards, formed)


def test_a_leader_takes_workloads_while_it_is_the_only_node(
    boards: RealBoards, formed: Formed
) -> None:
    leads, works = boards.all
    power_on(boards)
    assert boards.until(lambda: boards.ready == BEFORE and boards.formed, 90), boards.story()

    def tainted() -> bool:
        (own,) = [one for one in leads.objects("nodes") if one["metadata"]["name"] == "leads"]
        return any(one == TAINT for one in own["spec"].get("taints", []))

    assert tainted()
    works.power_off()
    leads.run("kubectl", "--kubeconfig", paths.ADMIN_CONF, "delete", "node", "works")
    # It counts again once the other has been silent for ten minutes of a board's.
    assert boards.until(lambda: not tainted(), 200), boards.story()
    works.power_on()
    assert boards.until(lambda: boards.ready == BEFORE and tainted(), 120), boards.story()


def test_a_board_with_another_card_comes_back_under_its_name(
    boards: RealBoards, formed: Formed
) -> None:
    """As a new key, by its serial number, and its Node is the one it was."""
    leads, works = boards.all
    power_on(boards)
    assert boards.until(lambda: boards.ready == BEFORE and boards.formed, 90), boards.story()
    before = uids(leads)
    works.power_off()
    boards.write_card(works.host.root, 2, role="worker", name="works")
    works.power_on()
    assert everywhere_ready(boards, BEFORE, 300), boards.story()
    assert uids(leads) == before
    assert formed[1].objects <= boards.objects and boards.uid == formed[1].uid


def uids(leads: RealBoard) -> dict[str, str]:
    """Of the Nodes."""
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in leads.objects("nodes")}


@pytest.mark.parametrize("seed", [3, 11])
def test_a_drawn_story_of_moves_and_cuts_ends_well(
    seed: int, boards: RealBoards, formed: Formed
) -> None:
    told = renumbering.events(seed, len(boards.all))
    fault, _ = renumbering.run(told, boards, formed[1])
    assert not fault, fault
