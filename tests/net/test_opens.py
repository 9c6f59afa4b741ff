"""Root opens nothing by name that another user may replace: the opens of root's real processes.

A control plane and a worker form a cluster, the network processes and the broker as users of their
own; then people type commands, a cluster is given up, a board is reset. strace(1) tells what root's
processes open, of each thread and child. Doubles are the programs (kubeadm, kubectl, rm, ...): what
they would open is not looked at.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.agent import provision
from tests.support import opens
from tests.support.boards import BROKER, SERVE, Board, Boards, boards_of
from tests.support.machine import put
from tests.support.opens import Open
from tests.support.pi_process import EVENTS
from tests.support.users_process import USERS
from tests.support.virtual_lan import PROJECT

pytestmark = pytest.mark.xdist_group("lan")

AS = {SERVE: "nodeagent", BROKER: "nodeagent-broker"}
PROCESS, COMMAND = "tests.support.users_process", "tests.support.typed_process"
LEFT = "kubeadm reset done"
ADMIN_CONF = """\
clusters:
- cluster: {certificate-authority-data: QQ==, server: "https://10.77.0.11:6443"}
"""

# Whose opens are traced, and when: both agents from power-on to the end, and the commands in this
# order, with exit status and what is said, so that one that failed early counts for nothing.
AGENTS = {
    "leader": "prepare, claim, kubeadm init, hand over, keep, admit, be told to leave, leave",
    "worker": "prepare, ask for a grant, kubeadm join, keep",
}
COMMANDS: tuple[tuple[str, str, int, str], ...] = (
    ("leader", "status", 0, "10.77.0.12"),
    ("leader", "nodes", 0, "Let in"),
    ("leader", "seal --open 1h", 0, "Enrolment is open until"),
    ("leader", "approve AAAA-BBBB-CCCC-DDDD", 0, "Approved AAAA-BBBB-CCCC-DDDD"),
    ("leader", "doctor", 2, "Cluster"),
    ("leader", "report --out /tmp", 0, "/tmp/nodeagent-"),
    ("leader", "kubeconfig --out /tmp/home.yaml", 0, "/tmp/home.yaml: copy it"),
    ("leader", "join-command", 0, "kubeadm join"),
    ("leader", "plan", 0, ""),
    ("leader", "config", 0, "expected_nodes"),
    ("leader", "events", 0, "electing"),
    ("leader", "inventory", 0, "certificates"),  # the keeper's, once an hour
    ("leader", "renew-keys", 0, ""),  # the keeper's, once a day
    ("worker", "role", 0, "worker (decided)"),
    ("worker", "seek", 0, ""),  # the keeper's, where the control plane is silent
    ("leader", "revoke worker", 0, "Revoked worker"),
    ("leader", "role --worker --end-cluster --yes", 0, "Begun"),
    ("worker", "reset --yes --identity", 0, "kubeadm reset"),
)
# Not judged, and why.
EXCEPTED = {
    "/proc": "the kernel's; what others may write there is about their own processes",
    "/sys": "the kernel's",
    "/dev": "the kernel's and udev's",
    "/cluster": "below a board: the double of the API server, which is elsewhere in truth",
    EVENTS: "below a board: what the doubles did",
}


@dataclass
class Traced:
    """What came of it: who opened what; which folders of the boards other users could write."""

    opened: dict[str, set[Open]] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    roots: tuple[str, ...] = ()

    def faults(self) -> list[str]:
        """A line for each name by which root could be led astray."""
        found = set()
        for who, those in self.opened.items():
            for one in those:
                where = "" if self._excepted(one) else opens.astray(one, self.others)
                if where:
                    found.add(f"{who}: {one.call} {one.path}: others may write {where}")
        return sorted(found)

    def _excepted(self, one: Open) -> bool:
        path = one.path if one.path.startswith("/") else f"{one.base}/{one.path}"
        beyond = tuple(f"{root}{name}" for root in ("", *self.roots) for name in EXCEPTED)
        # The test's own program may lie in somebody's home; a board lies in /dev/shm.
        own = (str(PROJECT), sys.prefix)
        return path.startswith((*own, *beyond)) and not (
            path.startswith(self.roots) and not path.startswith(beyond[len(EXCEPTED) :])
        )


class TracedBoard(Board):
    """Root's processes are traced, the others are other users'."""

    traces: Path

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        if module in AS:
            return self.node.start(PROCESS, AS[module], module, *arguments)
        return self._root(f"agent-{self.number}", module, *arguments)

    def _root(self, trace: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        under = opens.tracing(self.traces / trace)
        return self.node.start(PROCESS, "root", module, *arguments, under=under)

    def type(self, trace: str, words: str) -> tuple[int, str]:
        """A command of root's, traced: exit status and what it said."""
        if words.startswith("reset"):  # it stops the agent, by the same double
            os.killpg(self.node.processes[0].pid, signal.SIGKILL)
        arguments = str(self.host.root), str(self.fleet), *words.split()
        process = self._root(trace, COMMAND, *arguments)
        out, _ = process.communicate(timeout=60)
        if words.startswith("role --"):  # it starts the agent again, by a double of systemctl
            os.killpg(self.node.processes[0].pid, signal.SIGKILL)
        return process.returncode, out.decode()


class TracedBoards(Boards):
    """A fleet of them."""

    board = TracedBoard


def lay_out(board: Board) -> None:
    """What is on a board before its first boot: kubeadm, and what 0.2.0 kept in the broker's
    folder."""
    put(board.host.root, {"/usr/bin/kubeadm": ""})
    put(board.host.root, {f"{paths.BROKER}/{name}": "of 0.2.0" for name in provision.FORMER})
    for path in (board.host.path(paths.BROKER), *board.host.path(paths.BROKER).iterdir()):
        os.chown(path, *[USERS["nodeagent-broker"]] * 2)


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    """All that the two tables name, once."""
    with boards_of(TracedBoards) as fleet:
        TracedBoard.traces = fleet.folder / "traces"
        named: dict[str, Board] = {}
        for name, role in zip(AGENTS, ("control-plane", "worker"), strict=True):
            named[name] = fleet.add(None, role=role, name=name)
            lay_out(named[name])
            named[name].power_on()
            place = named[name].host.path("/tmp")
            place.mkdir()
            place.chmod(0o1777)
        outcome = fleet.form(180)
        assert not outcome.faults, outcome.story
        seen = Traced(roots=tuple(str(board.host.root) for board in fleet.all))

        def looked() -> bool:
            """The keeper looks every ten seconds, also for who waits at the broker."""
            those = opens.opens(TracedBoard.traces / f"agent-{named['leader'].number}")
            return any(one.path == "waiting.json" for one in those)

        assert fleet.until(looked, 60), named["leader"].node.logs()
        put(named["leader"].host.root, {paths.ADMIN_CONF: ADMIN_CONF})  # the double's says nothing
        for who, words, status, said in COMMANDS:
            for board in fleet.all:
                seen.others |= opens.others_folders(board.host.root)
            board = named[who]
            assert isinstance(board, TracedBoard)
            did = board.type(words, words)
            assert (did[0], said in did[1]) == (status, True), (words, did, board.node.logs())
            seen.opened[f"{who}: {words}"] = opens.opens(board.traces / words)
        leader = named["leader"]
        assert fleet.until(lambda: LEFT in leader.events, 30), leader.node.logs()
        for who, board in named.items():
            seen.opened[f"{who}'s agent"] = opens.opens(
                TracedBoard.traces / f"agent-{board.number}"
            )
        yield seen


def test_what_is_traced_is_there(traced: Traced) -> None:
    """Else the test below would be content with nothing."""
    careful = {one.path: who for who, those in traced.opened.items() for one in those
               if one.name_by_name and one.base in traced.others}  # fmt: skip
    assert careful.keys() >= {"heard.json", "waiting.json", *provision.FORMER}, careful
    for who, those in traced.opened.items():
        named = {one.path for one in those}
        assert any("nodeagent/__pycache__/errors" in path for path in named), who
    places = {folder.removeprefix(root) for folder in traced.others for root in traced.roots}
    assert places >= {paths.SERVE, paths.BROKER, paths.BROKER_RUN, "/tmp"}


def test_root_opens_nothing_by_name_where_another_user_may_put_something(traced: Traced) -> None:
    assert not traced.faults(), "\n".join(traced.faults())


# A call as strace(1) writes it, and whether another user might lead it astray. THEIRS is a folder
# of another user's, OPEN one that all may write, ROOTS root's.
CALLS = {
    'openat(AT_FDCWD</>, "ROOTS/a", O_RDONLY|O_CLOEXEC) = 3</a>': False,
    'openat(AT_FDCWD</>, "THEIRS/a", O_RDONLY|O_CLOEXEC) = 3</a>': True,
    'openat(AT_FDCWD</>, "THEIRS/a", O_RDONLY|O_NOFOLLOW|O_NONBLOCK) = 3</a>': True,
    'openat(AT_FDCWD<THEIRS>, "a", O_RDONLY) = 3</a>': True,
    'openat(AT_FDCWD</>, "THEIRS/gone/a", O_RDONLY) = -1 ENOENT (No such file or directory)': True,
    'openat(AT_FDCWD</>, "ROOTS/inside/a", O_RDONLY) = 3</a>': True,
    'openat(AT_FDCWD</>, "ROOTS/away", O_RDONLY) = 3</a>': True,
    'openat(AT_FDCWD</>, "ROOTS/away/../a", O_RDONLY) = 3</a>': True,
    'openat(AT_FDCWD</>, "ROOTS/theirlink", O_RDONLY) = 3</a>': True,
    'openat(AT_FDCWD</>, "OPEN/a", O_WRONLY|O_CREAT, 0600) = 3</a>': True,
    'openat(AT_FDCWD</>, "OPEN/a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</a>': False,
    'openat(AT_FDCWD</>, "OPEN/mine/a", O_RDONLY) = 3</a>': False,
    'openat(5<THEIRS>, "a", O_RDONLY|O_NOFOLLOW|O_NONBLOCK) = 3</a>': False,
    'openat(5<THEIRS>, "a", O_RDONLY|O_NOFOLLOW) = 3</a>': True,
    'openat(5<THEIRS>, "a", O_RDONLY|O_NONBLOCK) = 3</a>': True,
    'openat(5<THEIRS>, "b/a", O_RDONLY|O_NOFOLLOW|O_NONBLOCK) = 3</a>': True,
    'unlinkat(5<THEIRS>, "a", 0) = 0': False,
    'unlink("THEIRS/a") = 0': True,
    'rename("ROOTS/a", "THEIRS/a") = 0': True,
    'chown("THEIRS/a", 0, 0) = 0': True,
    'execve("THEIRS/a", ["a", "THEIRS"], 0x7ffd /* 3 vars */) = 0': True,
    'execve("ROOTS/a", ["a", "THEIRS/a"], 0x7ffd /* 3 vars */) = 0': False,
    'connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path="THEIRS/s"}, 110) = 0': True,
    'openat(AT_FDCWD</>, "THEIRS/\\303\\274", O_RDONLY <unfinished ...>': True,
}


@pytest.mark.parametrize(("line", "judged"), CALLS.items())
def test_how_a_call_is_judged(line: str, judged: bool, tmp_path: Path) -> None:
    theirs, roots, open_ = (tmp_path / name for name in ("theirs", "roots", "open"))
    for folder in (theirs, roots, open_, open_ / "mine", theirs / "inside"):
        folder.mkdir()
    open_.chmod(0o1777)
    (roots / "inside").symlink_to(theirs / "inside")
    (roots / "away").symlink_to("../theirs/b")
    (roots / "theirlink").symlink_to("a")
    os.chown(roots / "theirlink", 65_001, 65_001, follow_symlinks=False)
    for path in (theirs, theirs / "inside"):
        os.chown(path, 65_001, 65_001)
    for word, folder in (("THEIRS", theirs), ("ROOTS", roots), ("OPEN", open_)):
        line = line.replace(word, str(folder))
    found = list(opens.parse(line))
    assert found
    assert any(opens.astray(one, {str(theirs / "gone")}) for one in found) == judged
