"""nodeagent reset: everything is taken back, from whatever point, and nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent import paths, steps
from nodeagent.agent import reset
from nodeagent.agent.reporter import Reporter
from nodeagent.cli.main import main
from nodeagent.cluster import membership
from nodeagent.config.settings import ROLE_FILE, Settings
from nodeagent.errors import Blocked, CommandFailed, ConfigError, OtherVersion, Refused
from nodeagent.host import durable
from nodeagent.host.facts import Facts
from nodeagent.host.host import Result
from nodeagent.statefile import PATH, StateFile
from nodeagent.steps import card_in_board, containerd, engine, identity, packages, watchdog
from nodeagent.trust import node_key, store
from tests.support.machine import Machine, dpkg_status, put
from tests.support.powercut import FRESH, WAYS, Disk, PowerCut, VirtualPi, prepare

KEPT = ("etc/hostname", "etc/hosts", "var/lib/nodeagent/")

KUBERNETES = ("kubelet", "kubeadm", "kubectl")
MEMBER = {
    "/usr/bin/kubeadm": "",
    "/etc/kubernetes/kubelet.conf": "x",
    "/etc/cni/net.d/10-flannel.conflist": "{}",
    "/var/lib/cni/networks/cbr0/10.244.1.2": "x",
    "/var/lib/nodeagent/kubeadm/formed": "worker\n",
    "/sys/class/net/cni0/address": "",
    "/sys/class/net/flannel.1/address": "",
    "/etc/nodeagent/config.d/90-role.yaml": "role: worker\n",
    "/etc/nodeagent/config.d/50-mine.yaml": "expected_nodes: 2\n",
    "/var/lib/nodeagent-broker/config.json": "{}",
    store.FLEET_FILE: "fleet",
    node_key.PATH: "key",
    "/proc/sys/kernel/hostname": "kitchen\n",
    "/var/lib/dpkg/status": dpkg_status(dict.fromkeys(KUBERNETES, "1.37.2-1.1 hold")),
    PATH: json.dumps({"role": "worker", "imported": True, "node_name": "kitchen", "epoch": 3,
                      "board": "1234567", "reboots": {"cgroup": "x"}, "history": []}),
}  # fmt: skip
UNITS = " ".join(reset.UNITS)
ANSWERS = {
    f"systemctl stop {UNITS}": "",
    "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock": "",
    "ip link delete cni0": "",
    "ip link delete flannel.1": "",
    "rm -rf -- /etc/cni/net.d/10-flannel.conflist /var/lib/cni /var/lib/nodeagent/kubeadm": "",
    "rm -rf -- /var/lib/nodeagent-broker": "",
    "dpkg --set-selections": "",
    f"systemctl disable {' '.join(reset.UNITS[1:])}": "",
    f"systemctl disable {reset.UNITS[0]}": "",
}
# What a worker says and looks up on its way out; nothing of it answers here.
ASKED = ("sync", "pidof", "iptables-save", "ip6tables-save", "nft")


class Worker(Machine):
    """A double of a worker; `rm` has recorded answers and removes nothing."""

    def _answer(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        if argv[0] == "dpkg":
            status = dpkg_status(dict.fromkeys(KUBERNETES, "1.37.2-1.1 install"))
            put(self.root, {"/var/lib/dpkg/status": status})
        return super()._answer(argv, timeout, stdin)


@pytest.fixture
def member(tmp_path: Path) -> Machine:
    """A worker of a cluster."""
    put(tmp_path, MEMBER)
    return Worker(tmp_path, ANSWERS)


def test_the_order_of_a_workers_reset(member: Machine) -> None:
    said: list[str] = []
    todo = reset.reset(member, False, said.append)
    done = [line for line in member.ran if line.split()[0] not in ASKED]
    assert [line for line in done if not line.startswith("systemctl stop nodeagent-broker")] == [
        f"systemctl stop {UNITS}", "systemctl stop kubelet", *[*ANSWERS][1:],
        "systemctl daemon-reload",
    ]  # fmt: skip
    assert any("kubectl delete node kitchen" in line for line in todo)
    assert any("systemctl enable --now nodeagent" in line for line in todo)
    state_file = StateFile(member)
    assert set(state_file.names()) == {"imported", "board", "history", "epoch"}
    assert (state_file.values["history"] or [])[-1]["event"] == "reset"
    assert member.text(store.FLEET_FILE) == "fleet" and member.text(node_key.PATH) == "key"
    assert not member.exists(ROLE_FILE) and member.exists("/etc/nodeagent/config.d/50-mine.yaml")


def test_forget_fleet_forgets_the_keys_and_that_they_were_imported(member: Machine) -> None:
    todo = reset.reset(member, True, lambda _: None)
    assert not member.exists(store.FLEET_FILE) and not member.exists(node_key.PATH)
    assert StateFile(member).values["imported"] is None
    assert any("nodeagent.fleet" in line for line in todo)


def test_a_journal_of_a_later_version_stops_it_before_anything_is_changed(member: Machine) -> None:
    later = b'{"v": 2, "roles": ["worker"]}'
    member.write(PATH, later)
    with pytest.raises(OtherVersion, match="format 2"):
        reset.reset(member, True, lambda _: None)
    assert member.read(PATH) == later and member.ran == []
    assert member.exists(store.FLEET_FILE)


def test_a_damaged_journal_is_no_hindrance(member: Machine) -> None:
    put(member.root, {PATH: "{"})
    reset.reset(member, False, lambda _: None)
    assert StateFile(member).names() == ["history"]


def test_a_kubeadm_at_work_is_waited_for(member: Machine) -> None:
    member.answers["pidof kubeadm"] = "321\n"
    with pytest.raises(Blocked, match="Another kubeadm is at work"):
        reset.reset(member, False, lambda _: None)
    assert not [line for line in member.ran if line.startswith(("kubeadm", "rm"))]


def test_a_command_that_fails_says_what_to_do(member: Machine) -> None:
    member.answers["ip link delete cni0"] = {"status": 2, "err": "RTNETLINK answers: busy"}
    with pytest.raises(CommandFailed) as caught:
        reset.reset(member, False, lambda _: None)
    assert "busy" in caught.value.reason and "run the reset again" in caught.value.remedy
    assert StateFile(member).values["role"] == "worker"


def test_a_member_without_kubeadm_is_refused_before_anything_is_lost(member: Machine) -> None:
    put(member.root, {"/usr/bin/kubeadm": None})
    with pytest.raises(Refused, match="kubeadm"):
        reset.reset(member, False, lambda _: None)
    assert StateFile(member).values["role"] == "worker"


def test_what_is_lost_is_said(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    assert not any("cluster" in line for line in reset.what_is_lost(host, False))
    put(tmp_path, {"/etc/kubernetes/kubelet.conf": "x",
                   "/var/lib/nodeagent/kubeadm/formed": "worker\n"})  # fmt: skip
    assert "leaves its cluster" in reset.what_is_lost(host, False)[0]
    put(tmp_path, {"/var/lib/nodeagent/kubeadm/formed": "control-plane\n",
                   "/var/lib/etcd/member/snap/db": ""})  # fmt: skip
    assert "leads the cluster" in reset.what_is_lost(host, False)[0]
    assert "fleet's keys" in reset.what_is_lost(host, True)[-1]


def test_a_cluster_of_somebody_else_s_is_not_ours_to_end(member: Machine) -> None:
    """It would be lost with its data; half-way out of our own, what is left looks the same."""
    put(member.root, {"/var/lib/nodeagent/kubeadm/formed": None,
                      "/var/lib/etcd/member/snap/db": "x"})  # fmt: skip
    with pytest.raises(Refused, match="did not set up"):
        reset.what_is_lost(member, False)
    with pytest.raises(Refused, match="did not set up"):
        reset.reset(member, False, lambda _: None)
    assert member.ran == [] and member.exists(store.FLEET_FILE)
    StateFile(member).set(resetting={"identity": False})
    assert "leaves its cluster" in reset.what_is_lost(member, False)[0]


def test_no_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reset, "what_is_lost", lambda host, forget: ["All is lost."])
    monkeypatch.setattr(reset, "reset", lambda *_: pytest.fail("it went on"))
    result = CliRunner().invoke(main, ["reset"], input="n\n")
    assert result.exit_code == 1 and "All is lost." in result.output


def test_an_ordinary_user_is_refused(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    host.is_root = False
    with pytest.raises(Refused, match="root"):
        reset.reset(host, False, lambda _: None)


def test_an_image_is_refused_before_any_command(tmp_path: Path) -> None:
    host = Machine(tmp_path, live=False)
    with pytest.raises(Refused, match="image"):
        reset.reset(host, False, lambda _: None)
    assert host.ran == []


def test_the_name_stays_and_cloud_init_is_in_charge_again(tmp_path: Path) -> None:
    put(tmp_path, {"/etc/hostname": "ubuntu\n", "/proc/sys/kernel/hostname": "ubuntu\n",
                   "/etc/cloud/cloud.cfg.d": {"folder": True},
                   "/proc/device-tree/serial-number": "10000000abcdef12\0"})  # fmt: skip
    host = Machine(tmp_path)
    step = identity.Identity()
    for action in step.plan(Facts(host), Settings()):
        if action.file_only:
            action.do(host)
    assert host.exists(identity.CLOUD_FILE)
    for action in step.undo(Facts(host), Settings()):
        action.do(host)
    assert not host.exists(identity.CLOUD_FILE) and host.text("/etc/hostname") == "pi-cdef12\n"


def test_after_a_reset_a_copied_card_gets_an_identity_of_its_own(member: Machine) -> None:
    put(
        member.root,
        {membership.BOARD_FILE: "1234567\n", "/proc/device-tree/serial-number": "7654321\0"},
    )
    assert "copy" in membership.moved_note(Facts(member))
    assert list(card_in_board.CardInBoard().plan(Facts(member), Settings())) == []
    reset.reset(member, False, lambda _: None)
    put(member.root, {"/etc/kubernetes/kubelet.conf": None})  # as kubeadm does
    planned = [
        action.show() for action in card_in_board.CardInBoard().plan(Facts(member), Settings())
    ]
    assert f"remove {node_key.PATH}" in planned and "run systemd-machine-id-setup" in planned


@pytest.mark.parametrize("before", [None, 'disabled_plugins = ["cri"]\n'])
def test_containerd_gets_its_former_configuration_back(tmp_path: Path, before: str | None) -> None:
    put(tmp_path, {paths.CONTAINERD_CONFIG: before, "/var/lib/dpkg/status": dpkg_status({})})
    host = Machine(tmp_path, live=False)
    step = containerd.ContainerdConfig()
    for action in step.plan(Facts(host), Settings()):
        action.do(host)
    assert host.exists(containerd.DROP_IN)
    for action in step.undo(Facts(host), Settings()):
        action.do(host)
    assert host.text(paths.CONTAINERD_CONFIG) == before and not host.exists(containerd.DROP_IN)
    assert host.names("/etc/containerd") == (["config.toml"] if before else [])


def test_packages_are_held_no_more(member: Machine) -> None:
    engine.undo_step(packages.InstalledPackages(), member, Settings(), lambda _: None)
    assert member.ran == ["dpkg --set-selections"]


@pytest.mark.parametrize(
    "step", [s for s in steps.SEQUENCE if isinstance(s, steps.Undoable)], ids=lambda s: s.name
)
def test_where_nothing_was_done_nothing_is_undone(step: steps.Undoable, tmp_path: Path) -> None:
    put(tmp_path, FRESH)
    assert list(step.undo(Facts(Machine(tmp_path)), Settings())) == []


def test_an_empty_folder_that_a_cut_left_goes_too(tmp_path: Path) -> None:
    put(tmp_path, {"/etc/systemd/system.conf.d": {"folder": True}})
    host = Machine(tmp_path)
    for action in watchdog.Watchdog().undo(Facts(host), Settings()):
        action.do(host)
    assert not host.exists("/etc/systemd/system.conf.d")
    put(tmp_path, {"/etc/systemd/system.conf.d/mine.conf": "[Manager]\n"})
    assert list(watchdog.Watchdog().undo(Facts(host), Settings())) == []


def test_wrong_settings_stop_it_before_anything_is_changed(member: Machine) -> None:
    put(member.root, {"/etc/nodeagent/config.d/50-mine.yaml": "expected_nods: 2\n"})
    with pytest.raises(ConfigError, match="expected_nods"):
        reset.reset(member, False, lambda _: None)
    assert member.ran == [] and StateFile(member).values["role"] == "worker"


def test_the_steps_know_the_path_of_the_node_key() -> None:
    assert card_in_board.NODE_KEY == node_key.PATH


def test_every_step_that_writes_can_be_taken_back() -> None:
    assert {step.name for step in steps.SEQUENCE if isinstance(step, steps.Undoable)} == {
        "identity", "cgroup", "swap", "modules", "sysctls", "watchdog", "firewall", "ipv6",
        "repositories", "containerd-config", "packages", "kubelet", "pod-network", "networks",
        "own-address",
    }  # fmt: skip


def state(pi: VirtualPi) -> dict[str, object]:
    """Files and links on the disk, without what stays on purpose."""
    return {
        name: entry
        for name, entry in pi.disk.tree().items()
        if entry[0] != "folder"
        and not name.startswith(KEPT)
        and not name.endswith(durable.TEMPORARY)
        and name != LINK
    }


LINK = "etc/systemd/system/multi-user.target.wants/nodeagent.service"


class Off(BaseException):
    """systemd ends the agent."""


def go(pi: VirtualPi, work: Callable[[], object], cut_at: int | None, way: str) -> bool:
    """Do it, with a cut at one call; True where it was reached. Power is on again then."""
    pi.disk.calls, pi.disk.cut_at = 0, cut_at
    try:
        with pi.disk.watched():
            work()
    except PowerCut:
        pi.disk.cut(way)
        pi.boot()
        return True
    except Off:
        pi.disk.settle()  # orderly
    return False


def typed(pi: VirtualPi, identity: bool = False) -> Callable[[], object]:
    """What a person does."""
    return lambda: reset.reset(pi, identity, lambda _: None)


def agent(pi: VirtualPi) -> Callable[[], object]:
    """What the agent does first, where it is started."""

    def begin() -> None:
        if pi.disk.tree().get(LINK):
            reset.resume(pi, Reporter(pi), StateFile(pi))

    return begin


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[VirtualPi, object]:
    """A board that the agent has prepared, and what was on it before."""
    put(tmp_path, FRESH)
    pi = VirtualPi(tmp_path, Disk(tmp_path))
    before = state(pi)
    prepare(pi)
    assert state(pi) != before
    put(tmp_path, {"/var/lib/nodeagent-broker/config.json": "{}", "/var/lib/cni/x": "x",
                   LINK: {"link": "/usr/lib/systemd/system/nodeagent.service"},
                   node_key.PATH: "key"})  # fmt: skip
    StateFile(pi).set(role="worker", imported=True)

    def sleep(_: float) -> None:
        raise Off

    pi.clock = replace(pi.clock, sleep=sleep)
    pi.disk.settle()
    return pi, before


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_anywhere_in_a_reset(way: str, prepared: tuple[VirtualPi, object]) -> None:
    pi, before = prepared
    begun = pi.disk.tree()
    assert not go(pi, typed(pi, identity=True), None, way)
    assert state(pi) == before
    calls = pi.disk.calls
    assert calls > 30, "the model sees what is done"
    ended = 0
    # The two ways share the instants; tests/reliability/roads.py has them all.
    for cut_at in range(1 + WAYS.index(way), calls + 1, 2):
        pi.disk.become(begun)
        pi.boot()
        assert go(pi, typed(pi, identity=True), cut_at, way)
        intent = StateFile(pi).values["resetting"]
        assert not go(pi, agent(pi), None, way)
        if intent is None and LINK in pi.disk.tree():
            continue  # it was not begun, and the board goes on as it was
        ended += 1
        assert state(pi) == before, f"cut before call {cut_at}, {way}"
        assert StateFile(pi).values["role"] is None or intent, "off, with the journal to be cleared"
        assert not pi.exists(node_key.PATH)
        assert pi.text("/etc/hostname") == "raspberrypi\n"
    assert ended > calls / 2 - 10


def test_a_cut_while_the_agent_ends_it(prepared: tuple[VirtualPi, object]) -> None:
    pi, before = prepared
    way = WAYS[1]
    StateFile(pi).set(resetting={"identity": True})
    pi.disk.settle()
    begun = pi.disk.tree()
    assert not go(pi, agent(pi), None, way)
    calls = pi.disk.calls
    for cut_at in range(1, calls + 1, 3):
        pi.disk.become(begun)
        pi.boot()
        go(pi, agent(pi), cut_at, way)
        assert not go(pi, agent(pi), None, way)
        assert state(pi) == before, f"cut before call {cut_at}, {way}"
        assert LINK not in pi.disk.tree(), "it never forms again by itself"
        assert not pi.exists(node_key.PATH)


def test_enabled_after_the_last_instant_it_only_clears_the_journal(
    prepared: tuple[VirtualPi, object],
) -> None:
    pi, before = prepared
    assert not go(pi, typed(pi), None, WAYS[0])
    assert pi.exists(node_key.PATH) and pi.text("/etc/hostname") == "pi-cdef12\n"
    StateFile(pi).set(resetting={"identity": False}, role="worker")  # the cut came just before
    put(pi.root, {LINK: {"link": "/usr/lib/systemd/system/nodeagent.service"}})
    assert not go(pi, agent(pi), None, WAYS[0])
    assert StateFile(pi).values["resetting"] is None and StateFile(pi).values["role"] is None
    assert state(pi) == before
