"""A control plane and a worker that the agents make with the real kubeadm, etcd and API server.

The faults F1 and F3 are recorded as they are today, so that who mends them sees both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.real_boards import RealBoards, Story, fleet

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]
Formed = tuple[Path, Story]
BEFORE = {"leads": "10.77.0.11", "works": "10.77.0.12"}
A_WHILE = 20.0  # seconds that something stays as it is; a kubelet tells how it is every 10 s


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


def test_f1_a_leader_with_another_address_is_dead_today(boards: RealBoards) -> None:
    leader = boards.all[0]
    boards.renumber(leader, "10.77.0.57")
    power_on(boards)
    assert boards.until(lambda: "bind: cannot assign requested address" in leader.log, 60)
    assert not boards.until(lambda: bool(boards.ready), A_WHILE)


def test_f3_a_worker_with_another_address_is_not_told_apart_today(boards: RealBoards) -> None:
    power_on(boards)
    assert boards.until(lambda: boards.ready == BEFORE and boards.formed, 90), boards.story()
    boards.renumber(boards.all[1], "10.77.0.58")
    assert not boards.until(lambda: boards.ready != BEFORE, A_WHILE)
    assert boards.all[1].status["phase"] == "ready" and not boards.all[1].status["error"]
    assert "failed to validate nodeIP: 10.77.0.12" in boards.all[1].node.logs()
