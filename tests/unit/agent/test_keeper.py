"""The keeper: goes on where the agent handed over, and calls the agent back when it must."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeagent import paths, statefile
from nodeagent.agent import keeper, moved, rival_watch
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import health, names
from nodeagent.fleet import handoff
from nodeagent.fleet.beacon import Beacon, open_
from nodeagent.host.facts import Facts
from nodeagent.join import waiting_file
from nodeagent.status import model, schema
from nodeagent.trust import pki
from tests.support.machine import Became, Machine
from tests.support.speakers import KEY, POINT, Speaker

ME = Speaker(1)
VOICE = keeper.Voice(KEY, POINT, ME.voucher)
BEACON = Beacon(
    node_id="n-aaaaaaaaaaaaaaaa", boot="0011223344556677", name="pi-1", phase="joining",
    role="worker", fitness=(1, 2, 3), epoch=1, claim=False, ready=False, expected=2,
    address="10.0.0.7", port=6444, seq=41,
)  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A formed node whose agent has just handed over."""
    machine = Machine(tmp_path)
    machine.write(paths.NODE_KEY, pki.key_pem(ME.private).encode())
    Reporter(machine).enter("ready", "Part of the cluster")
    with pytest.raises(Became):
        keeper.hand_over(machine, BEACON, VOICE, "auto", True)
    return machine


def healthy(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    """A double of the kubelet."""
    monkeypatch.setattr(keeper, "kubelet_healthy", lambda: answer)


def test_the_handover_is_private(machine: Machine) -> None:
    assert machine.mode(paths.HANDOVER) == 0o600


def test_it_goes_on_announcing_and_counts_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch, True)
    kept = keeper.Keeper(machine)
    assert kept.round()
    said = handoff.read_announcement(machine)
    assert said is not None
    beacon = open_(KEY, said.beacon).beacon
    assert (beacon.seq, beacon.phase, beacon.name) == (42, "ready", "pi-1")


def test_a_sick_kubelet_is_shown_and_calls_the_agent_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keeper.Keeper(machine)
    healthy(monkeypatch, False)
    rounds = [kept.round() for _ in range(keeper.PATIENCE)]
    assert rounds == [True] * (keeper.PATIENCE - 1) + [False]
    shown = model.parse(machine.read(paths.STATUS) or b"")
    assert shown["error"] and shown["error"]["reason"] == "The kubelet does not answer."
    healthy(monkeypatch, True)
    assert kept.round()
    assert model.parse(machine.read(paths.STATUS) or b"")["error"] is None


API = "api.f-aaaaaaaaaaaaaaaa.internal"
POWEROFF = "systemctl poweroff"
KUBECONFIG = """\
clusters:
- cluster:
    certificate-authority-data: AAAA
    server: https://10.0.0.1:6443
  name: kubernetes
"""


def test_a_worker_says_that_its_control_plane_is_away(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kubelet is well all the while."""
    machine.write(paths.KUBELET_CONF, KUBECONFIG.encode())
    healthy(monkeypatch, True)
    there, asked = [False], []

    def answers(address: str, port: int) -> bool:
        asked.append((address, port))
        return there[0]

    monkeypatch.setattr(keeper, "answers", answers)
    kept = keeper.Keeper(machine)

    def after(seconds: float) -> schema.Status:
        for _ in range(int(seconds / keeper.ROUND)):
            machine.clock.sleep(keeper.ROUND)
            assert kept.round()
        return model.parse(machine.read(paths.STATUS) or b"")

    shown = after(keeper.API_LOOK + (keeper.AWAY - 2) * keeper.ROUND)
    assert shown["error"] is None and model.exit_code(shown) == 0
    shown = after(keeper.ROUND)
    assert asked == [("10.0.0.1", 6443)] * keeper.AWAY
    assert shown["error"] is not None
    assert shown["error"]["reason"].startswith("The control plane at 10.0.0.1 does not answer.")
    assert shown["phase"] == "ready" and model.exit_code(shown) == 1
    there[0] = True
    shown = after(keeper.ROUND)
    assert shown["error"] is None and model.exit_code(shown) == 0


@pytest.mark.parametrize(("status", "ends"), [(keeper.ELSEWHERE, True), (0, False), (1, False)])
def test_a_worker_looks_for_a_silent_control_plane(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, status: int, ends: bool
) -> None:
    """More and more seldom, since it may only be switched off."""
    machine.write(paths.KUBELET_CONF, KUBECONFIG.replace("10.0.0.1", API).encode())
    other = "10.0.0.9 leads another cluster of this fleet, not this cluster."
    machine.answers[f"{rival_watch.AGENT} seek"] = {"status": status, "out": f"{other}\n"}
    healthy(monkeypatch, True)
    names.tell(machine, names.of_worker(API, ["10.0.0.1"]))
    monkeypatch.setattr(keeper, "answers", lambda *_: False)
    kept = keeper.Keeper(machine)
    rounds = []
    for _ in range(60):
        machine.clock.sleep(keeper.ROUND)
        rounds.append(kept.round())
        if not rounds[-1]:
            break
    looks = machine.ran.count(f"{rival_watch.AGENT} seek")
    assert (rounds[-1], looks) == ((False, 1) if ends else (True, 6))
    if not ends:
        error = model.parse(machine.read(paths.STATUS) or b"")["error"]
        assert error and error["reason"].endswith(f"Pods here go on as they are. {other}")
        assert "if the network carries no multicast, write the address as" in error["remedy"]


def test_a_worker_turns_itself_off_with_its_cluster(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(paths.KUBELET_CONF, KUBECONFIG.replace("10.0.0.1", API).encode())
    machine.answers |= {f"{rival_watch.AGENT} seek": {"status": keeper.OFF}, POWEROFF: ""}
    healthy(monkeypatch, True)
    names.tell(machine, names.of_worker(API, ["10.0.0.1"]))
    monkeypatch.setattr(keeper, "answers", lambda *_: False)
    kept = keeper.Keeper(machine)
    while POWEROFF not in machine.ran:
        machine.clock.sleep(keeper.ROUND)
        assert kept.round()
    assert machine.ran == [f"{rival_watch.AGENT} seek", POWEROFF]
    shown = model.parse(machine.read(paths.STATUS) or b"")
    assert shown["detail"] == "The cluster is being switched off: this board turns itself off"


def test_a_worker_whose_address_moves_meanwhile_turns_itself_off_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The boards are carried already, while the last of them ends."""
    machine.write(paths.KUBELET_CONF, KUBECONFIG.encode())
    machine.answers |= {f"{rival_watch.AGENT} seek": {"status": keeper.OFF}, POWEROFF: ""}
    monkeypatch.setattr(keeper, "answers", lambda *_: False)
    there_and_back = ["10.0.0.7", "10.0.0.9", "10.0.0.9"] * 2
    assert all(moving(machine, monkeypatch, there_and_back, []))
    assert POWEROFF in machine.ran


def test_nothing_else_is_said_while_a_board_turns_itself_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet ends then, which is no trouble; where the board stays on after all, it is."""
    machine.answers[POWEROFF] = ""
    reporter = Reporter(machine)
    reporter.enter("ready", "Part of the cluster")
    began = machine.clock.now()
    keeper.switch_off(machine, reporter)
    assert machine.clock.now() - began == keeper.OFF_BOUND
    machine.answers[POWEROFF] = {"status": 1, "err": "Access denied"}
    keeper.switch_off(machine, reporter)
    assert machine.clock.now() - began == keeper.OFF_BOUND
    assert reporter.values["error"] is not None


def test_a_leader_looks_for_nobody(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Became):
        keeper.hand_over(machine, replace(BEACON, role="control-plane"), VOICE, "auto", True)
    machine.write(paths.KUBELET_CONF, KUBECONFIG.replace("10.0.0.1", API).encode())
    healthy(monkeypatch, True)
    names.tell(machine, names.of_worker(API, ["10.0.0.1"]))
    monkeypatch.setattr(keeper, "answers", lambda *_: False)
    kept = keeper.Keeper(machine)
    for _ in range(20):
        machine.clock.sleep(keeper.ROUND)
        assert kept.round()
    assert f"{rival_watch.AGENT} seek" not in machine.ran


# Rounds after which the files follow.
STEADY, LONGER, LONG = (int(seconds / keeper.ROUND) + 1 for seconds in moved.STEADY)


def moving(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, addresses: list[str], moves: list[float]
) -> list[bool]:
    """Rounds in which the node has these addresses, one after the other; its cluster's files have
    10.0.0.7. ``moves``: how many seconds ago they followed another one."""
    past = [{"event": names.MOVED, "time": machine.clock.now() - ago} for ago in moves]
    machine.write(statefile.PATH, json.dumps({"version": 1, "history": past}).encode())
    flags = 'KUBELET_KUBEADM_ARGS="--node-ip=10.0.0.7"'
    machine.write(paths.KUBELET_FLAGS, flags.encode())
    healthy(monkeypatch, True)
    kept, rounds = keeper.Keeper(machine), []
    for address in addresses:
        monkeypatch.setattr(Facts, "address", lambda *_, now=address: now)
        machine.clock.sleep(keeper.ROUND)
        rounds.append(kept.round())
    return rounds


def test_another_address_that_stays_is_for_the_whole_agent(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = moving(machine, monkeypatch, ["10.0.0.9"] * STEADY, [])
    assert rounds == [True] * (STEADY - 1) + [False]
    shown = model.parse(machine.read(paths.STATUS) or b"")
    assert shown["error"] is not None
    assert shown["error"]["reason"] == "This board's address changed from 10.0.0.7 to 10.0.0.9."


def test_an_address_that_comes_and_goes_moves_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(moving(machine, monkeypatch, ["10.0.0.9", "10.0.0.9", "10.0.0.7"] * 20, []))


@pytest.mark.parametrize(
    ("ago", "needed"),
    [((60.0,), LONGER), ((9000.0, 60.0), LONGER), ((60.0, 600.0), LONG), ((4000.0,), STEADY)],
)
def test_after_a_move_the_next_has_to_stay_longer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, ago: tuple[float, ...], needed: int
) -> None:
    rounds = moving(machine, monkeypatch, ["10.0.0.9"] * needed, [*ago])
    assert rounds == [True] * (needed - 1) + [False]


def test_names_that_somebody_wrote_over_come_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cloud-init does so at each boot where the user data says so, people with an editor."""
    machine.write(paths.KUBELET_CONF, KUBECONFIG.replace("10.0.0.1", API).encode())
    monkeypatch.setattr(keeper, "answers", lambda *_: True)
    names.tell(machine, names.of_worker(API, ["10.0.0.1"]))
    assert all(moving(machine, monkeypatch, ["10.0.0.7"] * 3, []))
    machine.write(paths.HOSTS, b"127.0.0.1 localhost\n")
    rounds = moving(machine, monkeypatch, ["10.0.0.7"] * STEADY, [])
    assert rounds == [True] * (STEADY - 1) + [False]


def test_an_address_of_the_other_ip_version_is_no_move(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(moving(machine, monkeypatch, ["fd00::9"] * 9, []))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (KUBECONFIG, ("10.0.0.1", 6443)),
        ("    server: https://[fd00::1]:6443\n", ("fd00::1", 6443)),
        ("    server: https://pi-1.local:6443/\n", ("pi-1.local", 6443)),
        ("", None),
        ("    server: http://10.0.0.1:6443\n", None),
        ("    server: https://10.0.0.1\n", None),
    ],
)
def test_where_the_api_server_is(text: str, found: tuple[str, int] | None) -> None:
    assert health.api_server(text) == found


def test_once_a_day_it_has_the_repository_keys_looked_at(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch, True)
    kept = keeper.Keeper(machine)
    assert kept.round() and machine.ran == []
    kept.keys_seen -= keeper.DAY
    assert kept.round() and kept.round(), "it fails here, and the node stays well"
    assert machine.ran == [f"{rival_watch.AGENT} renew-keys"]


@pytest.mark.parametrize("role", ["control-plane", "worker"])
def test_only_a_leader_goes_on_hearing_the_fleet(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    healthy(monkeypatch, True)
    with pytest.raises(Became):
        keeper.hand_over(machine, replace(BEACON, role=role), VOICE, "auto", True)
    waits: schema.Approval = {
        "id": "ABCD-EFGH-IJ23-4567",
        "name": "pi-3",
        "address": "10.0.0.5",
        "since": 1000,
    }
    out: schema.Token = {"name": "pi-4", "expires": 2000}
    waiting_file.write(machine, [waits], [out])
    kept = keeper.Keeper(machine)
    other = replace(BEACON, node_id="n-bbbbbbbbbbbbbbbb", name="pi-2", role="worker")
    for seq, phase in enumerate(("joining", "ready")):
        sealed = Speaker(2).seal(replace(other, seq=seq, phase=phase))
        candidate = handoff.Candidate("10.0.0.8", 6444, sealed, 1, 2)
        junk = handoff.Candidate("10.0.0.9", 6444, "A" * 80, 1, 2)
        handoff.write_heard(machine, 1, [junk, candidate])
        assert kept.round()
    shown = model.parse(machine.read(paths.STATUS) or b"")
    heard = [("pi-2", "ready")] if role == "control-plane" else []
    assert [(peer["name"], peer["phase"]) for peer in shown["peers"]] == heard
    assert len(shown["timeline"]) == 2 * len(heard)
    assert shown["approvals"] == ([waits] if role == "control-plane" else [])
    assert shown["tokens"] == ([out] if role == "control-plane" else [])
    waiting_file.write(machine, [], [])
    assert kept.round()
    assert model.parse(machine.read(paths.STATUS) or b"")["approvals"] == []


def test_once_an_hour_it_has_certificates_and_hardware_looked_at(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch, True)
    found = {"v": 1, "versions": {"nodeagent": "9"}, "certificates": [], "hardware": []}
    machine.answers[f"{rival_watch.AGENT} inventory"] = json.dumps(found)
    kept = keeper.Keeper(machine)
    kept.looked -= keeper.HOUR
    assert kept.round() and kept.round()
    assert machine.ran == [f"{rival_watch.AGENT} inventory"]
    assert model.parse(machine.read(paths.STATUS) or b"")["versions"] == {"nodeagent": "9"}


@pytest.mark.parametrize("role", ["control-plane", "worker"])
def test_a_leader_has_the_nodes_counted_when_others_come_or_go_and_each_hour(
    role: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch, True)
    with pytest.raises(Became):
        keeper.hand_over(machine, replace(BEACON, role=role), VOICE, "auto", True)
    count = f"{rival_watch.AGENT} only-node"
    machine.answers[count] = ""
    kept = keeper.Keeper(machine)
    other = replace(BEACON, node_id="n-bbbbbbbbbbbbbbbb", name="pi-2", role="worker")
    counted = []

    def minute(phase: str, seq: int) -> None:
        sealed = Speaker(2).seal(replace(other, seq=seq, phase=phase))
        heard = [handoff.Candidate("10.0.0.8", 6444, sealed, 1, 2)] if phase else []
        handoff.write_heard(machine, seq, heard)
        for _ in range(2):
            machine.clock.sleep(keeper.COUNT / 2)
            assert kept.round()
        counted.append(machine.ran.count(count))
        machine.ran.clear()

    for seq, phase in enumerate(("", "joining", "ready", "ready")):
        minute(phase, seq)
    for seq in range(4, 24):  # until it counts as gone
        minute("", seq)
    minute("preparing", 24)
    for seq in range(25, 45):
        minute("", seq)
    assert sum(counted[25:]) == (role == "control-plane"), "it went before it was ready"
    machine.answers[count] = {"status": 1}  # the API server is away
    minute("ready", 50)
    minute("ready", 51)
    machine.answers[count] = ""
    minute("ready", 52)
    minute("ready", 53)
    assert counted[:4] == ([1, 1, 1, 0] if role == "control-plane" else [0] * 4)
    assert sum(counted[4:24]) == (role == "control-plane"), "it went"
    assert counted[-4:] == ([1, 1, 1, 0] if role == "control-plane" else [0] * 4)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"v": 1, "beacon": 1, "key": "", "page": 1}', b'{"v": 2}']
)
def test_a_damaged_handover_gives_the_node_back_to_the_agent(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    machine.write(paths.HANDOVER, content)
    monkeypatch.setattr(keeper, "Host", lambda: machine)
    with pytest.raises(Became) as caught:
        keeper.main()
    assert caught.value.args[0] == (rival_watch.AGENT, "run")


@pytest.mark.processes
def test_it_loads_none_of_what_forming_needs() -> None:
    script = "import sys, nodeagent.agent.keeper; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded: set[str] = set(done.stdout.split())
    heavy: set[Any] = {"yaml", "jwt", "requests", "cryptography.x509", "asyncio", "http.client"}
    assert not loaded & heavy


@pytest.mark.processes
def test_the_status_command_loads_little() -> None:
    """It is asked often, and answers at once on a slow board."""
    script = (
        "import sys; from nodeagent.cli.main import main\n"
        "try: main(['status'])\n"
        "except SystemExit: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded: set[str] = set(done.stdout.split())
    assert "nodeagent.status.text" in loaded
    assert not loaded & {"yaml", "cryptography", "asyncio", "subprocess", "http.client", "html"}
