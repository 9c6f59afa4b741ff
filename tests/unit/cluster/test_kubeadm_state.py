"""What a power cut leaves of kubeadm init and join, and what the next call makes of it.

kubeadm is a double: it leaves the files that the real one leaves (kubeadm docs, "Implementation
details"; `tests/lab` runs the real one) up to the instant of the cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodeagent import paths
from nodeagent.cluster import (
    credentials,
    kubeadm,
    kubeadm_config,
    kubeadm_state,
    kubelet_certificate,
    names,
    versions,
)
from nodeagent.cluster.kubeadm_state import BEGUN, ETCD_DATA, FORMED, State
from nodeagent.config.settings import Settings
from nodeagent.errors import CommandFailed, Refused
from nodeagent.host.host import Result
from tests.support import authority
from tests.support.authority import CA_CERT, CA_KEY, OTHER_CA_CERT
from tests.support.machine import NOW, Machine, put

NAMES = names.of("f-" + "a" * 16, "n-" + "b" * 16)

TOKEN = "abcdef.0123456789abcdef"
PLACE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
KUBELET_CONF = f"""\
users:
- name: default-auth
  user:
    client-certificate: {PLACE}
    client-key: {PLACE}
"""
KUBELET = {"/var/lib/kubelet/config.yaml": "x", "/var/lib/kubelet/kubeadm-flags.env": "x"}

# In the order in which the real ones write.
INIT_WRITES: tuple[Mapping[str, str], ...] = (
    {"/etc/kubernetes/pki/ca.key": ""},  # cut before its content was on the disk
    {"/etc/kubernetes/pki/ca.crt": "x"},
    {"/etc/kubernetes/admin.conf": "x"},
    {"/var/lib/kubelet/config.yaml": "x", paths.KUBELET_CONF: "x"},
    {"/etc/kubernetes/manifests/kube-apiserver.yaml": "x"},
    {"/etc/kubernetes/manifests/etcd.yaml": "x"},
    {"/var/lib/etcd/member/wal": "x"},
)


@pytest.fixture(autouse=True)
def approving(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server and a broker that say yes."""

    def obtain(*asked: Any) -> bytes:
        return authority.kubelet(asked[-2], asked[-1])

    monkeypatch.setattr(kubelet_certificate, "obtain", obtain)


class Board(Machine):
    """A double of a node with kubeadm, whose power fails after ``writes`` writes; None: never.

    ``sync`` and removal of folders count: what was written before is then on the disk, or gone.
    """

    def __init__(self, root: Path, writes: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(root)
        self.writes, self.cut = writes, False

    def _answer(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        if argv[0] == "pidof":  # only looks: no other kubeadm runs
            return Result(1)
        line = " ".join(argv)
        self.ran.append(line)
        if line.startswith(("kubeadm init", "kubeadm join")):
            assert kubeadm_state.read(self) in (State.NOTHING, State.HALF_INIT, State.HALF_JOIN)
            for files in self.writes:
                put(self.root, files)
            if self.cut:
                raise PowerCut
        elif line.startswith("kubeadm reset"):
            for path in kubeadm_state.LEFT_BEHIND:
                if path != ETCD_DATA:
                    self.remove(path)
        elif argv[0] == "rm":
            assert set(kubeadm.REMAINS) < set(argv[2:])
            for file in self.path("/var/lib/etcd").rglob("*"):
                if file.is_file():
                    file.unlink()
            if self.exists(ETCD_DATA):
                self.path(ETCD_DATA).rmdir()
        return Result(0)

    def did(self, words: str) -> int:
        """How often a command was run."""
        return sum(line.startswith(words) for line in self.ran)


class PowerCut(BaseException):
    """No ``except Exception`` can go on after it."""


def initialise(machine: Machine) -> None:
    kubeadm.initialise(machine, Settings(), versions.DEFAULT, "pi-1", "10.0.0.7", NAMES, False)


def join(machine: Machine, name: str = "pi-2", ca_cert: bytes = CA_CERT) -> None:
    kubeadm.join(
        machine, node_name=name, address="10.0.0.8", endpoint="10.0.0.7:6443", ca_cert=ca_cert,
        token=TOKEN,
    )  # fmt: skip


def joined(name: str = "pi-2") -> dict[str, Any]:
    """What is there when the kubelet has its certificate."""
    cert, key = credentials.client(f"system:node:{name}", CA_CERT, CA_KEY, NOW)
    return KUBELET | {
        "/etc/kubernetes/pki/ca.crt": CA_CERT,
        paths.KUBELET_CONF: KUBELET_CONF,
        "/var/lib/kubelet/pki/kubelet-client-2026.pem": cert + key,
        paths.KUBELET_CLIENT: {"link": "/var/lib/kubelet/pki/kubelet-client-2026.pem"},
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, State.NOTHING),
        # kubeadm reset leaves its folders, and our two files may be older than a reset by hand
        ({"/etc/kubernetes/pki": {"folder": True}, BEGUN: "init\n"}, State.NOTHING),
        ({FORMED: "control-plane\n", BEGUN: "init\n"}, State.NOTHING),
        ({BEGUN: "init\n", "/etc/kubernetes/pki/ca.key": ""}, State.HALF_INIT),
        ({BEGUN: "init\n", "/var/lib/etcd/member/wal": "x"}, State.HALF_INIT),
        ({BEGUN: "init\n", FORMED: "control-plane\n", "/var/lib/etcd/member/wal": "x"},
         State.CONTROL_PLANE),
        # an empty file of the world is damage, and no reason to take a cluster away
        ({FORMED: "control-plane\n", "/var/lib/etcd/member/wal": "", paths.KUBELET_CONF: ""},
         State.CONTROL_PLANE),
        # somebody brings etcd back from a copy, and has moved the folder away
        ({BEGUN: "init\n", FORMED: "control-plane\n", "/etc/kubernetes/pki/ca.key": "x"},
         State.CONTROL_PLANE),
        # names reach the disk in any order
        ({BEGUN: "init\n", "/etc/kubernetes/manifests/kube-scheduler.yaml": "x"},
         State.HALF_INIT),
        ({BEGUN: "init\n", "/etc/kubernetes/manifests/kube-controller-manager.yaml": ""},
         State.HALF_INIT),
        ({BEGUN: "join\n", "/etc/kubernetes/bootstrap-kubelet.conf": "x"}, State.HALF_JOIN),
        ({BEGUN: "join\n", FORMED: "worker\n", paths.KUBELET_CONF: "x"}, State.WORKER),
        # reset by hand, then joined half again
        ({BEGUN: "join\n", FORMED: "worker\n", "/etc/kubernetes/pki/ca.crt": "x"}, State.HALF_JOIN),
        ({"/etc/kubernetes/admin.conf": "x"}, State.FOREIGN),
        ({paths.KUBELET_CONF: "x"}, State.FOREIGN),
        ({BEGUN: "", paths.KUBELET_CONF: "x"}, State.FOREIGN),
    ],
)  # fmt: skip
def test_state_table(tmp_path: Path, files: dict[str, Any], expected: State) -> None:
    put(tmp_path, files)
    assert kubeadm_state.read(Machine(tmp_path)) is expected


@pytest.mark.parametrize("done", range(len(INIT_WRITES) + 1))
def test_an_init_cut_off_anywhere_is_done_again_from_the_start(tmp_path: Path, done: int) -> None:
    board = Board(tmp_path, INIT_WRITES[:done])
    board.cut = True
    with pytest.raises(PowerCut):
        initialise(board)
    board.cut, board.writes = False, INIT_WRITES
    initialise(board)
    assert board.did("kubeadm init") == 2
    assert board.did("kubeadm reset") == (1 if done else 0)
    assert kubeadm_state.read(board) is State.CONTROL_PLANE
    assert board.ran.index("sync") > board.ran.index(f"kubeadm init --config {kubeadm.INIT_FILE}")


def test_a_formed_control_plane_is_left_alone(tmp_path: Path) -> None:
    board = Board(tmp_path, INIT_WRITES)
    initialise(board)
    board.ran.clear()
    initialise(board)  # as with a lost journal
    assert board.ran == []
    with pytest.raises(Refused, match="is a control-plane already"):
        join(board)
    assert not board.did("kubeadm") and kubeadm_state.read(board) is State.CONTROL_PLANE


@pytest.mark.parametrize("act", [initialise, join])
def test_what_someone_else_set_up_is_never_taken_away(tmp_path: Path, act: Any) -> None:
    board = Board(tmp_path)
    put(tmp_path, INIT_WRITES[2])
    with pytest.raises(Refused, match="set up by someone else"):
        act(board)
    assert board.ran == [] and board.exists("/etc/kubernetes/admin.conf")


def test_a_worker_does_not_become_a_control_plane(tmp_path: Path) -> None:
    board = Board(tmp_path, [joined()])
    join(board)
    with pytest.raises(Refused, match="is a worker already"):
        initialise(board)


@pytest.mark.parametrize(
    "left",
    [
        {"/etc/kubernetes/bootstrap-kubelet.conf": "x"},
        {"/etc/kubernetes/bootstrap-kubelet.conf": "x", "/etc/kubernetes/pki/ca.crt": CA_CERT},
        joined() | {paths.KUBELET_CONF: ""},
        joined() | {paths.KUBELET_CONF: KUBELET_CONF[:-3]},
        joined() | {paths.KUBELET_CONF: KUBELET_CONF.partition("    client-key")[0]},
        joined() | {"/var/lib/kubelet/config.yaml": ""},
        joined() | {"/var/lib/kubelet/kubeadm-flags.env": None},
        joined() | {"/var/lib/kubelet/pki/kubelet-client-2026.pem": b""},
        joined() | {"/var/lib/kubelet/pki/kubelet-client-2026.pem": CA_CERT},
        joined("pi-other"),
        joined() | {"/etc/kubernetes/pki/ca.crt": OTHER_CA_CERT},
    ],
    ids=range(11),
)
def test_a_join_cut_off_is_done_again(tmp_path: Path, left: Mapping[str, Any]) -> None:
    board = Board(tmp_path, [left])
    board.cut = True
    with pytest.raises(PowerCut):
        join(board)
    board.cut, board.writes = False, [joined()]
    join(board)
    assert (board.did("kubeadm reset"), board.did("kubeadm join")) == (1, 2)
    assert kubeadm_state.read(board) is State.WORKER


def test_a_join_that_lacks_only_our_word_is_not_repeated(tmp_path: Path) -> None:
    """The cluster calls the node Ready by then and would refuse a second one of its name."""
    board = Board(tmp_path, [joined(), {"/etc/kubernetes/bootstrap-kubelet.conf": TOKEN}])
    board.cut = True
    with pytest.raises(PowerCut):
        join(board)
    board.ran.clear()
    put(
        tmp_path, {kubeadm.JOIN_FILE: TOKEN, kubeadm_config.DISCOVERY_FILE: "x"}
    )  # a cut removes nothing
    join(board)
    assert board.ran == ["systemctl enable --now kubelet", "sync"]
    assert kubeadm_state.read(board) is State.WORKER
    for path in (kubeadm_state.BOOTSTRAP_CONF, kubeadm.JOIN_FILE, kubeadm_config.DISCOVERY_FILE):
        assert not board.exists(path)


def test_a_reset_that_fails_is_tried_again_before_anything_else(tmp_path: Path) -> None:
    class Stubborn(Board):
        def _answer(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
            if argv[1] == "reset":
                return Result(1, "", "device or resource busy")
            return super()._answer(argv, timeout, stdin)

    board = Stubborn(tmp_path)
    put(tmp_path, {BEGUN: "join\n", "/etc/kubernetes/bootstrap-kubelet.conf": "x"})
    with pytest.raises(CommandFailed, match="busy"):
        join(board)
    assert kubeadm_state.read(board) is State.HALF_JOIN and not board.did("kubeadm join")
