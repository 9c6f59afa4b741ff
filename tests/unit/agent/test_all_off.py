"""`nodeagent fleet off`: what the control plane does, and what it undoes where a board stays on."""

from __future__ import annotations

import errno
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from nodeagent import paths
from nodeagent.agent import all_off, conflict, keeper
from nodeagent.agent.all_off import Board
from nodeagent.cli.main import main
from nodeagent.errors import Refused
from nodeagent.fleet.rivals import OFF_MOST
from nodeagent.join import statement, which_cluster
from nodeagent.trust import fleet_file
from tests.support.machine import Machine
from tests.unit.agent.test_conflict import Young
from tests.unit.cluster.test_workloads import GET

NODES = GET.format("nodes")
BOOT = "8f6e2b1c-0000-4000-8000-{:012d}"
STOP, START = "systemctl stop kubelet", "systemctl start kubelet"
PS, STOPPED = "crictl ps -q --name ^kube-apiserver$", "crictl stop abc"
OFF = "systemctl poweroff"
WORK = {STOP: "", START: "", PS: "abc\n", STOPPED: "", OFF: ""}
OTHERS = [Board(f"pi-{number}", f"10.0.0.{number}", BOOT.format(number)) for number in (2, 3)]


def node(name: str, number: int) -> dict[str, Any]:
    """As the API server tells of it."""
    addresses = [{"type": "InternalIP", "address": f"10.0.0.{number}"}]
    status = {"addresses": addresses, "nodeInfo": {"bootID": BOOT.format(number)}}
    return {"metadata": {"name": name}, "status": status}


def listed(*nodes: dict[str, Any]) -> dict[str, str]:
    """The answer to the question for nodes."""
    return {NODES: json.dumps({"items": nodes})}


@pytest.fixture
def leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Young:
    """A control plane, whose other boards are pi-2 and pi-3."""
    monkeypatch.setattr(signal, "signal", Mock())
    made = Young(tmp_path, fleet_file.make("home")[1])
    three = [node(f"pi-{number}", number) for number in (3, 1, 2)]
    made.host.answers |= {**WORK, **listed(*three)}
    made.host.ran.clear()
    return made


def told(leader: Young) -> tuple[str, ...]:
    """The boots that are to end, as whoever asks is told."""
    side = leader.host.read(paths.BROKER_SIDE) or b""
    form, kind = which_cluster._SIDE, which_cluster.SIDE_TYPE
    return tuple(statement.read(leader.trust.anchors, side, form, kind)["off"])


def silence(
    monkeypatch: pytest.MonkeyPatch, host: Machine, **spans: list[tuple[float, float]]
) -> None:
    """Boards by their names, and from when to when (seconds) each is off."""
    began = host.clock.monotonic()

    def is_off(address: str) -> bool:
        now = host.clock.monotonic() - began
        name = f"pi_{address.rpartition('.')[2]}"
        return any(begin <= now < end for begin, end in spans[name])

    monkeypatch.setattr(all_off, "_is_off", is_off)


EVER = 1e9


def test_the_other_boards_are_those_of_the_cluster(leader: Young) -> None:
    assert all_off.others(leader.host) == OTHERS


def test_this_board_goes_off_last(leader: Young, monkeypatch: pytest.MonkeyPatch) -> None:
    host, said = leader.host, list[str]()
    silence(monkeypatch, host, pi_2=[(100, EVER)], pi_3=[(40, EVER)])
    monkeypatch.setattr(all_off, "power_off", lambda _: said.append(f"after {told(leader)}"))
    all_off.off(host, OTHERS, said.append)
    boots = (BOOT.format(2), BOOT.format(3))
    assert said == ["pi-3 is off", "pi-2 is off", "this board turns itself off", f"after {boots}"]
    assert host.ran == [STOP, PS, STOPPED]


def test_a_board_that_stays_on_is_named_and_all_is_as_before(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(monkeypatch, leader.host, pi_2=[(10, EVER)], pi_3=[])
    with pytest.raises(Refused, match=r"pi-3 did not turn off within 240 seconds"):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert told(leader) == ()
    assert leader.host.ran == [STOP, PS, STOPPED, START]


def test_a_board_that_only_reboots_is_waited_for(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is silent for a while, and so long the others' silence says nothing."""
    silence(monkeypatch, leader.host, pi_2=[(20, 55), (120, EVER)], pi_3=[(30, EVER)])
    said, began = list[str](), leader.host.clock.monotonic()
    all_off.off(leader.host, OTHERS, said.append)
    assert said[:-1] == ["pi-2 is off", "pi-3 is off", "pi-2 is on again", "pi-2 is off"]
    assert leader.host.clock.monotonic() - began >= 120 + all_off.SURE


def test_who_is_off_just_in_time_is_made_sure_of(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the agent here does not start the kubelet again."""
    silence(monkeypatch, leader.host, pi_2=[(0, EVER)], pi_3=[(all_off.PATIENCE - 6, EVER)])
    all_off.off(leader.host, OTHERS, lambda _: None)
    assert leader.host.ran[-1] == OFF
    longest = all_off.PATIENCE + all_off.SURE + 2 * (all_off.LOOK + all_off.BOUND)
    assert longest < keeper.PATIENCE * keeper.ROUND + all_off.LOOK


def test_what_the_agent_says_meanwhile_takes_nothing_back(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes what it tells of its cluster when it starts, and when another one is met."""
    silence(monkeypatch, leader.host, pi_2=[(90, EVER)], pi_3=[(50, EVER)])
    asked, sleep = list[tuple[str, ...]](), leader.host.time.sleep

    def look(address: str, inner: Callable[[str], bool] = all_off._is_off) -> bool:
        asked.append(told(leader))
        return inner(address)

    def agent_writes(seconds: float) -> None:
        conflict.publish(
            leader.host, leader.state_file, leader.trust, leader.key.node_id, alone=None
        )
        sleep(seconds)

    monkeypatch.setattr(all_off, "_is_off", look)
    monkeypatch.setattr(leader.host.time, "sleep", agent_writes)
    leader.host.clock = leader.host.time.clock()
    all_off.off(leader.host, OTHERS, lambda _: None)
    assert set(asked) == {(BOOT.format(2), BOOT.format(3))}


def test_boards_are_looked_at_side_by_side(leader: Young, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is off costs seconds; a hundred of them, one after the other, minutes."""
    together = threading.Barrier(len(OTHERS), timeout=30)
    monkeypatch.setattr(all_off, "_is_off", lambda _: together.wait() >= 0)
    all_off.off(leader.host, OTHERS, lambda _: None)
    assert leader.host.ran[-1] == OFF


def test_a_terminal_that_went_away_stops_nothing(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network goes off with the boards, and ssh with it."""
    silence(monkeypatch, leader.host, pi_2=[(0, EVER)], pi_3=[(0, EVER)])
    all_off.off(leader.host, OTHERS, Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    assert leader.host.ran[-1] == OFF
    signals = [call.args for call in signal.signal.call_args_list]  # type: ignore[attr-defined]
    assert signals == [
        (signal.SIGHUP, signal.SIG_IGN),
        (signal.SIGTERM, signal.default_int_handler),
    ]


def test_who_changes_their_mind_twice_is_obeyed(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_off, "_is_off", Mock(side_effect=KeyboardInterrupt))
    run = leader.host.run

    def impatient(*argv: str, **how: Any) -> Any:
        result = run(*argv, **how)
        if " ".join(argv) == START:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(leader.host, "run", impatient)
    with pytest.raises(KeyboardInterrupt):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert told(leader) == () and leader.host.ran == [STOP, PS, STOPPED, START]


@pytest.mark.parametrize("fails", [STOP, PS, STOPPED, OFF])
def test_what_fails_on_the_way_is_undone(
    leader: Young, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    silence(monkeypatch, leader.host, pi_2=[(0, EVER)], pi_3=[(0, EVER)])
    leader.host.answers[fails] = {"status": 1, "err": "no"}
    with pytest.raises(Exception, match=fails.split()[0]):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert told(leader) == () and leader.host.ran[-1] == START


def test_a_board_alone_goes_off_at_once(leader: Young) -> None:
    leader.host.answers |= listed(node("pi-1", 1))
    all_off.off(leader.host, all_off.others(leader.host), lambda _: None)
    assert leader.host.ran[-1] == OFF


def test_as_many_boards_as_are_allowed_fit_into_the_answer(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [node(f"pi-{number}", number) for number in range(1, OFF_MOST + 2)]
    leader.host.answers |= listed(*many)
    boards = all_off.others(leader.host)
    assert len(boards) == OFF_MOST
    monkeypatch.setattr(all_off, "_is_off", lambda _: True)
    all_off.off(leader.host, boards, lambda _: None)
    cert = leader.trust.leaf("broker", leader.key.private.public_key())[0]
    side = leader.host.read(paths.BROKER_SIDE) or b""
    nonce = "A" * 43
    answer = which_cluster.answer(leader.trust.fleet_id, leader.key.private, cert, side, nonce)
    assert len(answer) < which_cluster.MAX_BYTES
    assert len(which_cluster.verify(leader.trust.anchors, answer, nonce).off) == OFF_MOST
    leader.host.answers |= listed(*many, node("one-more", 250))
    with pytest.raises(Refused, match="more than 100"):
        all_off.others(leader.host)


@pytest.mark.parametrize("answer", [{"status": 1, "err": "no route to host"}])
def test_without_the_api_server_nothing_is_begun(leader: Young, answer: Any) -> None:
    leader.host.answers[NODES] = answer
    with pytest.raises(Refused, match="does not say which boards"):
        all_off.others(leader.host)


def test_the_first_of_several_addresses_is_taken(leader: Young) -> None:
    both = node("pi-2", 2)
    both["status"]["addresses"].append({"type": "InternalIP", "address": "fd00::2"})
    leader.host.answers |= listed(both)
    assert all_off.others(leader.host) == OTHERS[:1]


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"addresses": [], "nodeInfo": {"bootID": BOOT.format(9)}},
        {"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}], "nodeInfo": {}},
        {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}],
            "nodeInfo": {"bootID": "BOOT"},
        },
    ],
)
def test_a_node_that_told_nothing_is_named_before_anything_is_stopped(
    leader: Young, status: dict[str, Any]
) -> None:
    odd = {"metadata": {"name": "made-by-hand"}, "status": status}
    leader.host.answers |= listed(node("pi-2", 2), odd)
    with pytest.raises(Refused, match="where made-by-hand is"):
        all_off.others(leader.host)


def test_a_worker_is_told_where_to_type_it(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a control plane"):
        all_off.others(Machine(tmp_path))


def test_a_person_who_says_no_is_obeyed(leader: Young, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: leader.host)
    done = CliRunner().invoke(main, ["fleet", "off"], input="n\n")
    assert "pi-2 turns itself off\npi-3 turns itself off\nLast this board" in done.output
    assert done.exit_code == 1 and leader.host.ran == [NODES]


@pytest.mark.parametrize(
    ("answer", "off"),
    [
        (None, False),
        (ConnectionRefusedError(), False),  # its kubelet has ended, and the rest of it not yet
        (TimeoutError(), True),
        (OSError(errno.EHOSTUNREACH, "no route to host"), True),
        (OSError(errno.ENETUNREACH, "network is unreachable"), False),  # this board's own cable
        (OSError(errno.EMFILE, "too many open files"), False),
    ],
)
def test_a_board_is_off_when_nobody_is_there(
    monkeypatch: pytest.MonkeyPatch, answer: OSError | None, off: bool
) -> None:
    connection = Mock(side_effect=answer)
    monkeypatch.setattr("socket.create_connection", connection)
    assert all_off._is_off("10.0.0.2") == off
    assert connection.call_args.args == (("10.0.0.2", 10250),)
