"""What a cluster leaves of keys is overwritten before it is removed, and a cut there loses no
state."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.agent import leave
from nodeagent.cluster import given_up, kubeadm, kubeadm_state, renewal
from nodeagent.cluster.kubeadm_state import BEGUN, BOOTSTRAP_CONF, FORMED, State
from nodeagent.host import durable
from nodeagent.host.host import Host, Result
from nodeagent.statefile import StateFile
from tests.support.machine import put
from tests.support.powercut import WAYS, Disk, PowerCut, VirtualPi

SECRET = "-----BEGIN PRIVATE KEY-----\nMHcCAQEEIIrZ\n"
# Everything of a cluster that holds a key, a token or Secrets, on whichever node.
KEYS = (
    *(f"/etc/kubernetes/{name}.conf" for name in
      ("admin", "super-admin", "kubelet", "controller-manager", "scheduler")),
    BOOTSTRAP_CONF,
    *(f"/etc/kubernetes/pki/{name}.key" for name in
      ("ca", "sa", "front-proxy-ca", "apiserver", "etcd/ca", "etcd/server", "mine/other")),
    "/var/lib/kubelet/pki/kubelet-client-2026.pem", "/var/lib/kubelet/pki/kubelet.key",
    "/var/lib/etcd/member/snap/db", "/var/lib/etcd/member/wal/0.wal",
    f"{renewal.BEFORE}/pki/ca.key", kubeadm.JOIN_FILE,
)  # fmt: skip
BROKERS = ("/var/lib/nodeagent-broker/broker.key", "/var/lib/nodeagent-broker/client.key")
REMOVED = (
    "/etc/kubernetes/pki",
    "/etc/kubernetes/manifests",
    "/var/lib/kubelet/pki",
    "/var/lib/etcd/member",
)


class Leaving(VirtualPi):
    """A double that notes what is there when somebody begins to remove."""

    seen: dict[str, bytes]

    def _command(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        if argv[:2] == ("kubeadm", "reset"):
            self.note(*KEYS)
            for name in KEYS[:6]:
                self.remove(name)
            for name in REMOVED:
                shutil.rmtree(self.root / name.lstrip("/"), ignore_errors=True)
        elif argv[0] == "rm":
            argv = ("rm", "--", *(name for name in argv[2:] if self.exists(name)))
        elif argv[0] == "crictl" and not given_up.is_given_up(self):
            assert self.read("/var/lib/etcd/member/snap/db") == SECRET.encode(), "it still runs"
        return super()._command(argv, timeout, stdin)

    def note(self, *names: str) -> None:
        """What they hold now, where they are there for the first time."""
        self.seen |= {name: self.read(name) or b"" for name in names if self.exists(name)}


def member(root: Path, word: str = "control-plane", formed: bool = True) -> Leaving:
    """A node with every file that may hold a key."""
    there = KEYS if word != "worker" else [k for k in KEYS if "etcd" not in k and "admin" not in k]
    put(root, dict.fromkeys((*there, *BROKERS), SECRET))
    put(root, {"/usr/bin/kubeadm": "", "/etc/kubernetes/manifests/etcd.yaml": "kind: Pod\n",
               BEGUN: "join\n" if word == "worker" else "init\n",
               FORMED: f"{word}\n" if formed else None,
               paths.KUBELET_CLIENT: {"link": "kubelet-client-2026.pem"}})  # fmt: skip
    pi = Leaving(root, Disk(root))
    pi.seen = {}
    return pi


def left(pi: Leaving) -> None:
    leave.leave(pi, StateFile(pi), lambda _: None, None, None)


def made_room(pi: Leaving) -> None:
    kubeadm.make_room(pi, kubeadm_state.read(pi))


@pytest.mark.parametrize("word", ["control-plane", "worker"])
def test_all_keys_are_overwritten_when_they_are_removed(tmp_path: Path, word: str) -> None:
    pi = member(tmp_path, word)
    left(pi)
    assert paths.KUBELET_CONF in pi.seen
    assert set(pi.seen.values()) == {bytes(len(SECRET))}
    assert not any(pi.exists(name) for name in (*KEYS, *BROKERS))


@pytest.mark.parametrize("word", ["control-plane", "worker"])
def test_so_are_those_of_a_try_that_was_cut_off(tmp_path: Path, word: str) -> None:
    pi = member(tmp_path, word, formed=False)
    made_room(pi)
    assert len(pi.seen) > 10 and set(pi.seen.values()) == {bytes(len(SECRET))}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", ["control-plane", "worker"])
def test_a_cut_on_the_way_leaves_the_member_it_was(tmp_path: Path, word: str, way: str) -> None:
    """Not a node on which nothing was begun: that one would form or join at its next start."""
    pi = member(tmp_path, word)
    before, tree = kubeadm_state.read(pi), pi.disk.tree()
    assert before in (State.CONTROL_PLANE, State.WORKER)
    with pi.disk.watched():
        given_up.overwrite(pi)
    calls = pi.disk.calls
    assert calls > 20
    for cut_at in range(1, calls + 1):
        pi.disk.become(tree)
        pi.disk.calls, pi.disk.cut_at, pi.seen = 0, cut_at, {}
        with pytest.raises(PowerCut), pi.disk.watched():
            given_up.overwrite(pi)
        pi.disk.cut(way)
        pi.boot()
        pi.disk.cut_at = None
        assert kubeadm_state.read(pi) is before
        left(pi)
        assert set(pi.seen.values()) == {bytes(len(SECRET))}
        assert kubeadm_state.read(pi) is State.NOTHING


def test_who_has_taken_leave_does_not_do_so_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers without credentials, and a person would be told to delete what is gone."""
    pi = member(tmp_path, "worker")
    monkeypatch.setattr(leave, "_take_leave", lambda *_: pytest.fail("again"))
    pi.scrub(given_up.SECRETS[0])
    left(pi)
    assert given_up.SECRETS[0] == paths.KUBELET_CONF


def link_out(folder: Path, outside: Path) -> None:
    (folder / "x.key").symlink_to(outside)


def folder_out(folder: Path, outside: Path) -> None:
    (folder / "pki").symlink_to(outside.parent)


def pipe(folder: Path, outside: Path) -> None:
    os.mkfifo(folder / "x.key")


@pytest.mark.parametrize("planted", [link_out, folder_out, pipe])
def test_nothing_outside_is_overwritten(
    tmp_path: Path, planted: Callable[[Path, Path], None]
) -> None:
    """The broker's folder is another user's."""
    outside, folder = tmp_path / "outside/shadow", tmp_path / "broker"
    put(tmp_path, {"outside/shadow": "root's", "broker/broker.key": SECRET})
    planted(folder, outside)
    Host(tmp_path).scrub("/broker")
    assert outside.read_text() == "root's"
    assert (folder / "broker.key").read_bytes() == bytes(len(SECRET))


def test_a_file_that_is_swapped_meanwhile_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts a hard link to a file of others in its place."""
    put(tmp_path, {"other": "root's", "broker/broker.key": SECRET})
    listed = os.lstat(tmp_path / "broker/broker.key")
    (tmp_path / "broker/broker.key").unlink()
    os.link(tmp_path / "other", tmp_path / "broker/broker.key")
    with pytest.raises(OSError, match="somebody changes"):
        durable._scrub(tmp_path / "broker/broker.key", listed)
    assert (tmp_path / "other").read_text() == "root's"


def test_a_key_that_is_replaced_is_overwritten_too(tmp_path: Path) -> None:
    put(tmp_path, {"key": SECRET})
    os.link(tmp_path / "key", tmp_path / "same-blocks")
    Host(tmp_path).replace_secret("/key", b"new")
    assert (tmp_path / "key").read_bytes() == b"new"
    assert (tmp_path / "same-blocks").read_bytes() == bytes(len(SECRET))


def test_the_copy_of_the_keys_at_a_renewal_is_overwritten(tmp_path: Path) -> None:
    put(tmp_path, {f"{renewal.BEFORE}/pki/ca.key": SECRET})
    pi = Leaving(tmp_path, Disk(tmp_path))
    os.link(pi.path(f"{renewal.BEFORE}/pki/ca.key"), tmp_path / "same-blocks")
    pi.seen = {}
    renewal._drop_copy(pi)
    assert (tmp_path / "same-blocks").read_bytes() == bytes(len(SECRET))
