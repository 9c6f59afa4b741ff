"""A network process and a broker that were taken over put all they can where root reads of them:
the agent starts, keeps and shows as before, and touches no file of root's for them (attacks a01,
a02, a40, and others). They run as users of their own beside the real agent."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.agent import provision
from nodeagent.fleet import handoff
from nodeagent.join import waiting_file
from tests.support.boards import boards_of
from tests.support.planter_process import KINDS
from tests.support.users_boards import PROCESS, UsersBoard, UsersBoards
from tests.support.users_process import FOLDERS, USERS
from tests.support.virtual_lan import status

pytestmark = pytest.mark.xdist_group("lan")

PLANTER = "tests.support.planter_process"
PLACES = {"nodeagent": handoff.HEARD, "nodeagent-broker": waiting_file.PATH}
# Root's, and it would be taken as what the broker tells, if it were read.
SECRET = "/var/lib/nodeagent/secret.json"
MARK = "marker-of-root"
MOST = 200 * 1024  # KiB that the agent may have held


@pytest.fixture(scope="module")
def leader() -> Iterator[UsersBoard]:
    """A control plane whose network process and broker are the attacker's."""
    with boards_of(UsersBoards) as fleet:
        UsersBoard.agent = "tests.support.quick_pi_process"
        board = fleet.add(None, role="control-plane", name="pi-1")
        assert isinstance(board, UsersBoard)
        board.power_on()
        outcome = fleet.form(180)
        assert not outcome.faults, outcome.story
        told = {"v": 1, "waiting": [], "tokens": [{"name": MARK, "expires": 1}]}
        board.host.write(SECRET, json.dumps(told).encode(), 0o600)
        board.take_over()
        for user, folders in FOLDERS.items():
            for name, mode in folders.items():
                board.host.make_folder(name, mode)
                os.chown(board.host.path(name), USERS[user], USERS[user])
        yield board


def starts_and_keeps(board: UsersBoard, seconds: float = 90) -> dict[str, object]:
    """The status of the agent after a start, once its keeper has told the fleet something new."""
    board.host.remove(paths.STATUS)
    board.start_agent()
    end, said = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        board.tend()
        if board.status["phase"] == "ready":
            said = said or board.host.changed(paths.ANNOUNCE)
            if board.host.changed(paths.ANNOUNCE) > said:
                break
        time.sleep(0.2)
    else:
        raise AssertionError(f"the agent hangs: {board.node.logs()[-3000:]}")
    assert status(board.node.processes[0], "VmHWM") < MOST
    return dict(board.status)


def clear(folder: Path) -> None:
    """Nothing is in it any more."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def facts(path: Path) -> tuple[bytes, int, int, int]:
    """What must not change of a file."""
    found = path.stat()
    return path.read_bytes(), found.st_mode, found.st_uid, found.st_ino


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_lies_where_root_reads(leader: UsersBoard, kind: str) -> None:
    secret = leader.host.path(SECRET)
    before, processes = facts(secret), []
    for user, name in PLACES.items():
        clear(leader.host.path(posixpath.dirname(name)))
        planter = leader.node.start(
            PROCESS, user, PLANTER, str(leader.host.root), kind, name, SECRET
        )
        processes.append(planter)
        assert planter.stdout is not None
        assert planter.stdout.readline() == b"there\n", leader.node.logs()[-3000:]
    shown = starts_and_keeps(leader)
    for planter in processes:
        assert planter.poll() is None
        leader.end(planter)
        leader.node.processes.remove(planter)
    assert MARK not in json.dumps(shown)
    assert (shown["tokens"], shown["approvals"]) == ([], [])
    assert facts(secret) == before


def test_no_key_is_written_where_a_link_of_the_brokers_leads(leader: UsersBoard) -> None:
    """a01: any file of root's was replaced, and given to the broker."""
    secret, folder = leader.host.path(SECRET), leader.host.path(paths.BROKER)
    before = facts(secret)
    clear(folder)
    for name in provision.FORMER:
        (folder / name).symlink_to(secret)
        os.chown(folder / name, *[USERS["nodeagent-broker"]] * 2, follow_symlinks=False)
    starts_and_keeps(leader)
    assert facts(secret) == before
    assert not [*folder.iterdir()], "of 0.2.0's keys nothing stays"
