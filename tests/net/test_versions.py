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


@pytest.mark.parametrize("version", ["grown", *RELEASES])
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
        if version in RELEASES and BROKER not in FLEETS[which][0]:
            # Going back, 0.2.0's broker gives no grants: it finds no keys in its own folder, and
            # refuses a memory of whose ends and bars it knows nothing. Who is in stays in.
            nothing_wrong(fleet, tuple(one for one in NEVER if one not in ("Traceback", "damaged")))
        else:
            nothing_wrong(fleet)


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
            return "A beacon of later (n-" in shown and SAID in shown and SAID in error

        assert fleet.until(told, 120), f"{leader.status['notes']} {fleet.story()}"
        assert "Install the same version of nodeagent on all nodes." in str(later.status["error"])
        assert leader.events.count("kubeadm init done") == 1 and not later.events
        logs = "".join(board.node.logs() for board in fleet.all)
        assert not [words for words in NEVER if words in logs], logs[-3000:]


def test_each_message_of_a_later_version_has_its_sentence(lan: Lan) -> None:
    leader, worker = control_plane(lan), lan.add()
    said = ask(worker, "pi-2", leader.address, by=RAISED)
    assert f"A join request {SAID}" in said["reason"]
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
    assert f"A grant {SAID}" in said["reason"], said
