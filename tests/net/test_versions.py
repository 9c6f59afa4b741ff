"""Other versions of nodeagent beside this one, process by process: released ones, and a made-up
next one (next_process.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.boards import AGENT, BROKER, SERVE, Board, Boards, boards
from tests.support.joining import ask, control_plane
from tests.support.released import RELEASES
from tests.support.virtual_lan import Lan, eventually

GROWN, RAISED = (("tests.net.next_process", how) for how in ("grown", "raised"))
SAID = "was written by another version of nodeagent (format 2; this one reads 1)"
JOINING = "was written by another version of nodeagent (format 3; this one reads 2)"
# What 0.2.0 says in a request, or is told of one: it names no key for its kubelet, and believes
# whatever its broker says (SECURITY.md).
TOO_OLD = ("(format 1; this one reads 2)", "(format 2; this one reads 1)")
NEVER = ("not sealed by this fleet", "damaged", "not understood", "not believed", "Traceback")
WHOLE = (AGENT, SERVE, BROKER)

# What of each board is of the other version; the first leads. Agent and broker of one board go
# together: 0.2.0's broker finds its keys in its own folder, where root puts none any more.
FLEETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "the control plane is of the other version": (WHOLE, (), (AGENT,)),
    "the workers are of the other version": ((), WHOLE, (SERVE,)),
    "on the control plane only the network process is": ((SERVE,), (), (AGENT, BROKER)),
    "on the control plane only the network process is not": ((AGENT, BROKER), WHOLE, ()),
}


def run_other(board: Board, modules: tuple[str, ...], version: str) -> None:
    """From the next boot on these processes are of the other version, the others of this one."""
    board.runs = dict.fromkeys(modules, version)


def nothing_wrong(fleet: Boards, never: tuple[str, ...] = NEVER) -> None:
    """Nobody met anything that it took for damage or for a stranger's."""
    for board in fleet.all:
        logs = board.node.logs()
        assert not [words for words in never if words in logs], logs[-3000:]
        assert not board.status["notes"]


@pytest.mark.parametrize("version", ["grown"])
@pytest.mark.parametrize("which", FLEETS)
def test_a_fleet_of_mixed_versions_forms_one_cluster(which: str, version: str) -> None:
    with boards() as fleet:
        for number, modules in enumerate(FLEETS[which]):
            board = fleet.add(3, role="" if number else "control-plane")
            run_other(board, modules, version)
            board.power_on()
        outcome = fleet.form()
        assert not outcome.faults, outcome.story
        nothing_wrong(fleet)
        # Updates and downgrades: each goes on with the state that the other wrote.
        for board, modules in zip(fleet.all, FLEETS[which], strict=True):
            board.power_off()
            run_other(board, tuple(one for one in WHOLE if one not in modules), version)
        for board in fleet.all:
            board.power_on()
        outcome = fleet.form()
        assert not outcome.faults, outcome.story
        nothing_wrong(fleet)


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("old", ["the control plane", "the worker"])
def test_a_released_version_joins_once_it_is_updated(old: str, version: str) -> None:
    """Between 0.2.0 and this one nobody joins, in either direction: it is said, nothing is begun,
    and both go on by themselves once the older one is updated."""
    with boards() as fleet:
        # No votes are needed: between these versions none counts.
        leader, worker = fleet.add(1, role="control-plane"), fleet.add(1, role="worker")
        run_other(leader if old == "the control plane" else worker, WHOLE, version)
        for board in fleet.all:
            board.power_on()

        def told() -> bool:
            error = str(worker.status["error"])
            return "another version of nodeagent" in error and any(w in error for w in TOO_OLD)

        assert fleet.until(told, 240), fleet.story()
        assert not worker.events, "nothing was begun"
        if old == "the control plane":
            assert "on the control plane first" in str(worker.status["error"])
        for board in fleet.all:
            board.power_off()
            run_other(board, (), "")
        for board in fleet.all:
            board.power_on()
        outcome = fleet.form()
        assert not outcome.faults, outcome.story
        nothing_wrong(fleet)


@pytest.mark.parametrize("version", RELEASES)
def test_a_cluster_of_a_released_version_lives_on_when_it_is_updated(version: str) -> None:
    """A member keeps its place on either side of the update, in any order."""
    with boards() as fleet:
        boards_ = [fleet.add(3, role="" if number else "control-plane") for number in range(3)]
        for board in boards_:
            run_other(board, WHOLE, version)
            board.power_on()
        outcome = fleet.form()
        assert not outcome.faults, outcome.story
        for updated in (boards_[1:2], boards_, []):  # one worker first, then all, and back again
            for board in boards_:
                board.power_off()
                run_other(board, () if board in updated else WHOLE, version)
            for board in boards_:
                board.power_on()
            outcome = fleet.form()
            assert not outcome.faults, outcome.story
            # Going back, 0.2.0's broker gives no grants: it finds no keys in its own folder, and
            # refuses a memory of whose ends and bars it knows nothing. Who is in stays in.
            said = ("Traceback", "damaged") if not updated else ()
            nothing_wrong(fleet, tuple(one for one in NEVER if one not in said))


def test_a_version_that_must_be_refused_is_called_so_and_leaves_the_others_alone() -> None:
    with boards() as fleet:
        leader, worker = fleet.add(2, role="control-plane", name="leads"), fleet.add(2)
        later = fleet.add(2, name="later")
        later.runs = {AGENT: "raised"}
        for board in fleet.all:
            board.power_on()
        assert fleet.until(
            lambda: all(board.status["phase"] == "ready" for board in (leader, worker)), 240
        ), fleet.story()

        def told() -> bool:
            shown, error = str(leader.status["notes"]), str(later.status["error"])
            return "A beacon of later (n-" in shown and SAID in shown and JOINING in error

        assert fleet.until(told, 120), f"{leader.status['notes']} {fleet.story()}"
        assert "Install the same version of nodeagent on all nodes" in str(later.status["error"])
        assert leader.events.count("kubeadm init done") == 1 and not later.events
        logs = "".join(board.node.logs() for board in fleet.all)
        assert not [words for words in NEVER if words in logs], logs[-3000:]


def test_each_message_of_a_later_version_has_its_sentence(lan: Lan) -> None:
    leader, worker = control_plane(lan), lan.add()
    said = ask(worker, "pi-2", leader.address, by=RAISED)
    assert f"A join request {JOINING}" in said["reason"]
    assert ask(worker, "pi-2", leader.address, by=GROWN)["name"] == "pi-2"
    gone = worker.start(
        *RAISED, "tests.support.leave_process", str(worker.host.root), "pi-2",
        "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11", "final", leader.address,
    ).communicate(timeout=200)[0].decode()  # fmt: skip
    assert f"A farewell {SAID}" in gone
    cluster = Path(leader.host.root, "cluster")
    assert len(list((cluster / "tokens").iterdir())) == 1
    assert eventually(lambda: SAID in leader.logs())


def test_a_grant_of_a_later_version_has_its_sentence(lan: Lan) -> None:
    leader, worker = control_plane(lan, broker=RAISED), lan.add()
    said = ask(worker, "pi-2", leader.address)
    assert f"A grant {JOINING}" in said["reason"], said
