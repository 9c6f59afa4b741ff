"""The road out of a cluster: in order, from any point again, and never held up by others."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.agent import leave
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import kubelet_api
from nodeagent.config import settings as config
from nodeagent.errors import Blocked, CommandFailed
from nodeagent.join import leave as farewell
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file, store
from nodeagent.trust.node_key import NodeKey
from tests.support.machine import Machine, put

RESET = "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock"
UID = "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11"


class Leaver:
    """A worker with an intent in its journal; its cluster answers as told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(root, {
            store.CARD_FILES[0]: fleet_file.make("home")[1],
            "/usr/bin/kubeadm": "", "/proc/sys/kernel/hostname": "pi-2\n",
            paths.KUBELET_CONF: "server: https://10.0.0.2:6443",
            "/var/lib/nodeagent/kubeadm/formed": "worker\n",
            "/etc/cni/net.d/10-flannel.conflist": "", "/etc/cni/net.d/87-podman.conflist": "",
            "/sys/class/net/cni0/address": "",
        })  # fmt: skip
        self.host = Machine(root, {
            RESET: "", "ip link delete cni0": "", "sync": "", "systemctl stop kubelet": "",
            "rm -rf -- /etc/cni/net.d/10-flannel.conflist /var/lib/nodeagent/kubeadm": "",
        })  # fmt: skip
        self.state_file = StateFile(self.host)
        self.trust = store.import_card(self.host, self.state_file)
        self.key = NodeKey.load_or_create(self.host)
        self.state_file.set(
            role="worker", node_name="pi-2", last_known=["10.0.0.9:6443"], epoch=4,
            vote={"node": "n-" + "a" * 16, "epoch": 4}, stepping_down={"role": "control-plane"},
        )  # fmt: skip
        self.uid: str | None = UID
        self.why = ""
        monkeypatch.setattr(kubelet_api, "drain", lambda host, name, say: host.ran.append("drain"))
        monkeypatch.setattr(kubelet_api, "uid", lambda host, name: self.uid)
        monkeypatch.setattr(farewell, "tell", self.tell)

    def tell(self, *asked: object) -> str:
        """A double of the control planes that are asked."""
        candidates, *said = asked[3:]
        self.host.ran.append(f"tell {candidates} {said}")
        return self.why

    def goes(self) -> None:
        """The agent's start."""
        leave.step_down(self.host, Reporter(self.host), self.state_file, self.trust, self.key)


@pytest.fixture
def leaver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leaver:
    """It."""
    return Leaver(tmp_path, monkeypatch)


def test_the_order_of_a_workers_leaving(leaver: Leaver) -> None:
    leaver.goes()
    told = f"tell [('10.0.0.2', 6444), ('10.0.0.9', 6444)] ['pi-2', '{UID}', False]"
    quiet = ("pidof", "iptables-save", "ip6tables-save", "nft")
    assert [line for line in leaver.host.ran if line.split()[0] not in quiet] == [
        "systemctl stop nodeagent-broker-root.socket", "systemctl stop nodeagent-broker.socket",
        "systemctl stop nodeagent-broker.service",
        "drain", "systemctl stop kubelet", told, RESET, "ip link delete cni0",
        "rm -rf -- /etc/cni/net.d/10-flannel.conflist /var/lib/nodeagent/kubeadm", "sync",
    ]  # fmt: skip
    assert config.load(leaver.host).settings.role == "control-plane"
    kept = set(leaver.state_file.names())
    assert kept == {"imported", "last_known", "epoch", "history"}, "no vote, no role, no intent"
    assert (leaver.state_file.values["history"] or [])[-1]["event"] == "stepped down"


@pytest.mark.parametrize(
    ("uid", "why", "left"),
    [
        (UID, "", False), ("", "", False), (None, "", True),
        (UID, "10.0.0.2: it refused (403): This node was revoked.", True),
    ],
)  # fmt: skip
def test_a_control_plane_that_is_not_told_holds_nobody(
    uid: str | None, why: str, left: bool, leaver: Leaver
) -> None:
    leaver.uid, leaver.why = uid, why
    leaver.goes()
    assert RESET in leaver.host.ran and leaver.state_file.values["role"] is None
    noted = (leaver.state_file.values["history"] or [])[-1]
    assert (noted.get("left", "") == "On the control plane run: kubectl delete node pi-2") is left


def test_a_failure_keeps_the_intent(leaver: Leaver) -> None:
    leaver.host.answers[RESET] = {"status": 1, "err": "the power went"}
    with pytest.raises(CommandFailed, match="the power went"):
        leaver.goes()
    again = StateFile(leaver.host)
    assert again.values["stepping_down"] == {"role": "control-plane"}
    assert again.values["role"] == "worker"
    assert not leaver.host.exists(config.ROLE_FILE)
    leaver.host.answers[RESET] = ""
    leaver.state_file = again
    leaver.goes()
    assert not set(StateFile(leaver.host).names()) & {"stepping_down", "role"}


def test_a_kubeadm_at_work_is_waited_for_before_anything_is_said(leaver: Leaver) -> None:
    leaver.host.answers["pidof kubeadm"] = "321\n"
    with pytest.raises(Blocked, match="Another kubeadm"):
        leaver.goes()
    assert "drain" not in leaver.host.ran


@pytest.mark.parametrize("half", ["admin.conf", "journal"])
def test_a_control_plane_takes_leave_of_nobody(half: str, leaver: Leaver) -> None:
    if half == "admin.conf":
        put(leaver.host.root, {paths.ADMIN_CONF: "x"})
    else:  # kubeadm reset was cut off in its middle
        leaver.state_file.set(role="control-plane")
    leaver.goes()
    assert "drain" not in leaver.host.ran and RESET in leaver.host.ran


def test_without_an_intent_nothing_is_done(leaver: Leaver) -> None:
    leaver.state_file.set(stepping_down=None)
    leaver.goes()
    assert leaver.host.ran == [] and leaver.state_file.values["role"] == "worker"
