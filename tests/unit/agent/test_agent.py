"""The agent's patience and the radio's part in the election, on doubles of a machine."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeagent import paths
from nodeagent.agent.announcer import Announcer
from nodeagent.agent.main import Agent, as_trouble, needs_person
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import kubeadm_state
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import (
    Blocked,
    CommandFailed,
    ConfigError,
    Internal,
    NoControlPlane,
    NodeAgentError,
    NotAdmitted,
)
from nodeagent.fleet import beacon, handoff
from nodeagent.fleet.election import Claim, Join, Lead, Wait
from nodeagent.host.actions import Reboot
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.join.approval import APPROVAL, not_admitted
from nodeagent.statefile import StateFile, Vote
from nodeagent.status import model, text
from nodeagent.trust import fleet_file, store
from nodeagent.trust.node_key import NodeKey
from tests.support.machine import NOW, Machine, Time, put


def failing(*errors: Exception) -> Any:
    """Work that fails with each error in turn, then succeeds."""
    left = list(errors)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work


@pytest.mark.parametrize(
    ("errors", "phase"),
    [
        ([Blocked("The clock is off.", "Wait.")] * 9, "preparing"),
        ([CommandFailed("apt-get ended.", "Wait.")] * 2, "preparing"),
        ([CommandFailed("apt-get ended.", "Wait.")] * 3, "failed"),
        ([ConfigError("nodeagent.yaml, line 1.", "Correct it.")], "failed"),
        ([OSError(errno.ENOSPC, "No space left on device", "/etc/x")], "failed"),
        ([NoControlPlane("Nobody answered.", "Wait.")] * 9, "preparing"),
        ([NotAdmitted("A person has to approve this node.", "Approve it.")] * 9, "preparing"),
        ([ZeroDivisionError("a fault")] * 3, "failed"),
    ],
)
def test_what_fails_is_shown_and_tried_until_it_works(
    tmp_path: Path, errors: list[Exception], phase: str
) -> None:
    time = Time()
    agent = Agent(Host(tmp_path, clock=time.clock()))
    seen: list[str] = []
    trouble = agent.reporter.trouble

    def watch(error: NodeAgentError, failed: bool) -> None:
        trouble(error, failed)
        seen.append(agent.reporter.phase)

    agent.reporter.trouble = watch  # type: ignore[method-assign]
    assert agent.insist(failing(*errors)) == "done"
    assert seen[-1] == phase
    assert time.now - NOW < 61 * len(errors)


def test_the_code_that_people_type_stays_in_the_status_between_two_tries(tmp_path: Path) -> None:
    agent = Agent(Host(tmp_path, clock=Time().clock()))
    waits = not_admitted(APPROVAL, "n-abcdefghijklmnop", "10.0.0.2")
    agent.insist(failing(waits))
    agent.reporter.enter("joining", "Asking the control plane for a grant")
    assert agent.reporter.values["approval"] == "ABCD-EFGH-IJKL-MNOP"


def test_a_thousand_failures_are_no_failure_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.agent.reporter.Reporter._publish", lambda board: None)
    agent = Agent(Host(tmp_path, clock=Time().clock()))
    assert agent.insist(failing(*[CommandFailed("No mirror.", "Wait.")] * 1100)) == "done"


def test_a_full_disk_says_what_to_do() -> None:
    error = as_trouble(OSError(errno.ENOSPC, "No space left on device", "/etc/x"))
    assert error.reason == "/etc/x: No space left on device."
    assert "Free some space" in error.remedy
    assert needs_person(error, 1)


def test_a_fault_of_our_own_is_named_as_one() -> None:
    assert isinstance(as_trouble(KeyError("x")), Internal)


NEW = "/boot/firmware/new/state"
REBOOT = "systemctl reboot"
TEST, TRY = "piboot-try --test", "piboot-try --reboot"


class Down(BaseException):
    """The system went down."""


@pytest.mark.parametrize(
    ("answers", "files", "ran", "waited"),
    [
        ({}, {}, [TEST, REBOOT], 0),
        ({TEST: {"status": 1}}, {NEW: "bad\n"}, [TEST, REBOOT], 0),
        ({TEST: "", TRY: ""}, {NEW: "unknown\n"}, [TEST, TRY], 0),
        ({TEST: "", TRY: {"status": 1}}, {NEW: "unknown\n"}, [TEST, TRY, REBOOT], 0),
        ({TEST: {"status": 1}}, {NEW: "trying\n"}, [TEST, REBOOT], 300),
        ({}, {"/run/cloud-init/enabled": ""}, [TEST, REBOOT], 300),
        ({}, dict.fromkeys(["/run/cloud-init/enabled", "/run/cloud-init/result.json"], ""),
         [TEST, REBOOT], 0),
    ],
    ids=["plain", "failed update", "update waits", "trial refused", "on trial", "cloud-init",
         "cloud-init done"],
)  # fmt: skip
def test_a_reboot_spoils_no_update_and_no_first_boot(
    answers: dict[str, Any], files: dict[str, str], ran: list[str], waited: int, tmp_path: Path
) -> None:
    time = Time()
    put(tmp_path, {"/proc/sys/kernel/random/boot_id": "first\n", **files})
    machine = Machine(tmp_path, {REBOOT: "", **answers})
    asked = []

    def sleep(seconds: float) -> None:
        if {REBOOT, TRY} & set(machine.ran):
            asked.append(StateFile(machine).values["reboots"])
            raise Down
        time.sleep(seconds)

    machine.clock = replace(time.clock(), sleep=sleep)
    agent = Agent(machine)
    agent.state_file = StateFile(machine)
    with pytest.raises(Down):
        agent.reboot([Reboot("cgroup", "because", "Still off.", "Look.")])
    assert machine.ran == ran
    assert time.now - NOW == waited
    assert asked == [{"cgroup": "first"}], "recorded before it happens"


def test_a_reboot_waits_until_the_update_on_trial_is_found_good(tmp_path: Path) -> None:
    time = Time()
    put(tmp_path, {NEW: "trying\n"})
    machine = Machine(tmp_path, {REBOOT: ""})

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if REBOOT in machine.ran:
            raise Down
        if time.now == NOW + 40:  # piboot-try-validate: new/ becomes current/
            put(tmp_path, {NEW: None})

    machine.clock = replace(time.clock(), sleep=sleep)
    agent = Agent(machine)
    agent.state_file = StateFile(machine)
    with pytest.raises(Down):
        agent.reboot([Reboot("cgroup", "because", "Still off.", "Look.")])
    assert time.now - 60 == NOW + 40, "and the agent sleeps a minute until systemd ends it"


def node(root: Path, card: bytes, time: Time, settings: Settings) -> Announcer:
    """A radio on a machine of its own with an address on the LAN."""
    put(
        root,
        {
            f"/boot/firmware/{fleet_file.NAME}": card,
            "/proc/sys/kernel/hostname": f"{root.name}\n",
            "/proc/meminfo": "MemTotal: 4000000 kB\n",
            "/sys/devices/system/cpu/online": "0-3\n",
            "/proc/net/route": (
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
                "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\n"
                "eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\n"
            ),
            "/proc/net/fib_trie": "           |-- 10.0.0.7\n              /32 host LOCAL\n",
        },
    )
    machine = Machine(root)
    machine.clock = time.clock()
    state_file = StateFile(machine)
    radio = Announcer(
        machine,
        Reporter(machine),
        state_file,
        store.import_card(machine, state_file),
        NodeKey.load_or_create(machine),
        settings,
    )
    radio.elect()
    return radio


def test_a_cable_that_is_up_late_counts_as_a_cable(tmp_path: Path) -> None:
    time, card = Time(), fleet_file.make("home")[1]
    radio = node(tmp_path / "pi-a", card, time, Settings(expected_nodes=1))
    route = radio.host.read("/proc/net/route") or b""
    put(radio.host.root, {"/proc/net/route": None})
    radio.look()
    assert radio.fitness(Facts(radio.host))[-1] == 0
    put(radio.host.root, {"/proc/net/route": route})
    radio.look()
    assert radio.fitness(Facts(radio.host))[-1] == 1


def hear(*radios: Announcer) -> None:
    """A double of the network processes: everybody hears everybody, themselves too."""
    said = [handoff.read_announcement(radio.host) for radio in radios]
    now = int(radios[0].host.clock.now())
    candidates = [
        handoff.Candidate(a.interface_address, a.port, a.beacon, now, now) for a in said if a
    ]
    for radio in radios:
        radio.host.make_folder(paths.SERVE)
        handoff.write_heard(radio.host, now, candidates)


def test_two_nodes_agree_on_one_leader_and_the_other_joins_it(tmp_path: Path) -> None:
    time, card = Time(), fleet_file.make("home")[1]
    settings = Settings(expected_nodes=2)
    radios = [node(tmp_path / name, card, time, settings) for name in ("pi-a", "pi-b")]
    for _ in range(60):
        for radio in radios:
            radio.look()
        hear(*radios)
        time.sleep(1)
    leaders = [radio for radio in radios if isinstance(radio.decision, Lead)]
    assert len(leaders) == 1, [radio.decision for radio in radios]
    leader = leaders[0]
    leader.state_file.set(role="control-plane")
    leader.serves_grants = True
    for _ in range(10):
        for radio in radios:
            radio.look()
        hear(*radios)
        time.sleep(1)
    (other,) = [radio for radio in radios if radio is not leader]
    assert isinstance(other.decision, Join)
    assert leader.key.node_id in other.decision.why
    assert other.state_file.values["claim"] is None


def test_a_node_that_hears_nobody_of_the_expected_waits(tmp_path: Path) -> None:
    time, card = Time(), fleet_file.make("home")[1]
    radio = node(tmp_path / "pi-a", card, time, Settings(expected_nodes=3))
    for _ in range(400):
        radio.look()
        hear(radio)
        time.sleep(1)
    assert isinstance(radio.decision, Wait)
    assert "1 of 3" in radio.decision.why


def test_a_claim_is_in_the_journal_before_anyone_hears_it(tmp_path: Path) -> None:
    time, card = Time(), fleet_file.make("home")[1]
    radio = node(tmp_path / "pi-a", card, time, Settings(expected_nodes=1))
    while not isinstance(radio.decision, Claim):
        radio.look()
        hear(radio)
        time.sleep(1)
    assert StateFile(radio.host).values["claim"] == {"epoch": 1}


def test_a_vote_is_in_the_journal_before_anyone_hears_it(tmp_path: Path) -> None:
    time, card = Time(), fleet_file.make("home")[1]
    settings = Settings(expected_nodes=2)
    radios = [node(tmp_path / name, card, time, settings) for name in ("pi-a", "pi-b")]
    told: list[tuple[str, int]] = []
    for _ in range(40):
        for radio in radios:
            radio.look()
            said = handoff.read_announcement(radio.host)
            assert said is not None
            spoken = beacon.open_(radio.trust.beacon_key, said.beacon).beacon
            if spoken.vote:
                told.append((spoken.vote, spoken.vote_epoch))
                kept = StateFile(radio.host).values["vote"]
                assert kept == {"node": spoken.vote, "epoch": spoken.vote_epoch}
        hear(*radios)
        time.sleep(1)
    leader = next(radio for radio in radios if isinstance(radio.decision, Lead))
    assert (leader.key.node_id, 1) in told


def test_choosing_a_role_by_hand_takes_the_vote_back(tmp_path: Path) -> None:
    time, card = Time(), fleet_file.make("home")[1]
    radio = node(tmp_path / "pi-a", card, time, Settings(expected_nodes=3))
    gone: Vote = {"node": "n-" + "c" * 16, "epoch": 1}
    radio.state_file.set(vote=gone)
    radio.look()
    assert radio.state_file.values["vote"] == gone and "has this node's vote" in radio.decision.why
    put(tmp_path / "pi-a", {config.ROLE_FILE: "role: auto\n"})
    radio.look()
    assert radio.state_file.values["vote"] is None


def test_a_boot_counts_on_so_that_an_earlier_one_is_an_echo(tmp_path: Path) -> None:
    time, card = Time(), fleet_file.make("home")[1]
    boots = []
    for _ in range(3):
        radio = node(tmp_path / "pi-a", card, time, Settings())
        boots.append(radio.last_said().boot)
    assert boots == sorted(set(boots))


def test_a_cluster_that_the_journal_missed_ends_the_election(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            kubeadm_state.FORMED: "control-plane\n",
            "/etc/kubernetes/admin.conf": "x",
            f"{kubeadm_state.ETCD_DATA}/snap/db": "x",
        },
    )
    agent = agent_on(tmp_path, "b1234567", claim={"epoch": 1})
    agent.settle_in()
    assert (
        agent.state_file.values["role"] == "control-plane"
        and agent.state_file.values["initialised"]
    )


def agent_on(root: Path, serial: str, **values: Any) -> Agent:
    """An agent on a board, with a journal."""
    put(root, {"/proc/device-tree/serial-number": serial + "\0"})
    agent = Agent(Machine(root))
    agent.state_file = StateFile(agent.host)
    agent.state_file.set(**values)
    return agent


def test_what_was_claimed_on_another_board_does_not_count(tmp_path: Path) -> None:
    agent = agent_on(tmp_path, "b1234567", board="a1234567", claim={"epoch": 2}, fsync_ms=3.0)
    agent.settle_in()
    assert agent.state_file.values["claim"] is None and agent.state_file.values["fsync_ms"] is None
    assert agent.state_file.values["board"] == "b1234567"
    assert [line["event"] for line in agent.state_file.values["history"] or []] == ["another board"]
    agent.settle_in()
    assert (
        len(agent.state_file.values["history"] or []) == 1 and agent.reporter.values["notes"] == []
    )


def test_a_members_card_in_another_board_is_shown(tmp_path: Path) -> None:
    put(tmp_path, {"/var/lib/nodeagent/board": "a1234567\n"})
    agent = agent_on(tmp_path, "b1234567", role="worker", fsync_ms=3.0)
    agent.settle_in()
    (note,) = agent.reporter.values["notes"]
    assert "a1234567" in note and "nodeagent reset" in note
    assert agent.state_file.values["role"] == "worker"
    shown = text.render(model.parse(agent.host.read(paths.STATUS) or b""), NOW)
    assert note in " ".join(shown.split())


def test_a_board_without_a_serial_number_makes_no_claim(tmp_path: Path) -> None:
    agent = agent_on(tmp_path, "0000000000000000", board="a1234567", claim={"epoch": 2})
    agent.settle_in()
    assert agent.state_file.values["claim"] == {"epoch": 2}
    assert agent.state_file.values["board"] == "a1234567"
