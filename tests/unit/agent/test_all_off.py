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
from nodeagent.errors import CommandFailed, Refused
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


def node(name: str, number: int, ready: str = "True") -> dict[str, Any]:
    """As the API server tells of it."""
    addresses = [{"type": "InternalIP", "address": f"10.0.0.{number}"}]
    conditions = [{"type": "Ready", "status": ready}]
    info = {"bootID": BOOT.format(number)}
    status = {"addresses": addresses, "conditions": conditions, "nodeInfo": info}
    return {"metadata": {"name": name}, "status": status}


def listed(*nodes: dict[str, Any]) -> dict[str, str]:
    """The answer to the question for nodes."""
    return {NODES: json.dumps({"items": nodes})}


@pytest.fixture
def leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Young:
    """A control plane, whose other boards are pi-2 and pi-3, and on."""
    monkeypatch.setattr(signal, "signal", Mock())
    monkeypatch.setattr(all_off, "_knock", lambda _: 0)
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

    def knock(address: str) -> int:
        now = host.clock.monotonic() - began
        name = f"pi_{address.rpartition('.')[2]}"
        silent = any(begin <= now < end for begin, end in spans[name])
        return errno.EHOSTUNREACH if silent else errno.ECONNREFUSED

    monkeypatch.setattr(all_off, "_knock", knock)


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
    assert host.ran == [NODES, STOP, PS, STOPPED]


def test_a_board_that_stays_on_is_named_and_all_is_as_before(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(monkeypatch, leader.host, pi_2=[(10, EVER)], pi_3=[])
    with pytest.raises(Refused, match=r"pi-3 did not turn off within 200 seconds"):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert told(leader) == ()
    assert leader.host.ran == [NODES, STOP, PS, STOPPED, START]


def test_a_board_that_only_reboots_is_waited_for(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is silent for a while, and so long the others' silence says nothing."""
    silence(monkeypatch, leader.host, pi_2=[(20, 90), (120, EVER)], pi_3=[(30, EVER)])
    said, began = list[str](), leader.host.clock.monotonic()
    all_off.off(leader.host, OTHERS, said.append)
    assert said[:-1] == ["pi-2 is off", "pi-3 is off", "pi-2 is on again", "pi-2 is off"]
    assert leader.host.clock.monotonic() - began >= 120 + all_off.SURE


def test_who_is_off_just_in_time_is_made_sure_of(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the agent here does not start the kubelet again."""
    silence(monkeypatch, leader.host, pi_2=[(1, EVER)], pi_3=[(all_off.PATIENCE - 6, EVER)])
    all_off.off(leader.host, OTHERS, lambda _: None)
    assert leader.host.ran[-1] == OFF
    longest = all_off.PATIENCE + all_off.SURE + all_off.LOOK + all_off.BOUND
    assert longest < (keeper.PATIENCE - 1) * keeper.ROUND


def test_what_the_agent_says_meanwhile_takes_nothing_back(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes what it tells of its cluster when it starts, and when another one is met."""
    silence(monkeypatch, leader.host, pi_2=[(90, EVER)], pi_3=[(50, EVER)])
    asked, sleep = list[tuple[str, ...]](), leader.host.time.sleep

    def look(address: str, inner: Callable[[str], int] = all_off._knock) -> int:
        if leader.host.ran != [NODES]:
            asked.append(told(leader))
        return inner(address)

    def agent_writes(seconds: float) -> None:
        conflict.publish(
            leader.host, leader.state_file, leader.trust, leader.key.node_id, alone=None
        )
        sleep(seconds)

    monkeypatch.setattr(all_off, "_knock", look)
    monkeypatch.setattr(leader.host.time, "sleep", agent_writes)
    leader.host.clock = leader.host.time.clock()
    all_off.off(leader.host, OTHERS, lambda _: None)
    assert set(asked) == {(BOOT.format(2), BOOT.format(3))}


def test_boards_are_looked_at_side_by_side(leader: Young, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is off costs seconds; a hundred of them, one after the other, minutes."""
    together = threading.Barrier(len(OTHERS), timeout=30)

    def knock(_: str) -> int:
        together.wait()
        return 0 if leader.host.ran == [NODES] else errno.ETIMEDOUT

    monkeypatch.setattr(all_off, "_knock", knock)
    all_off.off(leader.host, OTHERS, lambda _: None)
    assert leader.host.ran[-1] == OFF


def test_a_terminal_that_went_away_stops_nothing(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network goes off with the boards, and ssh with it."""
    silence(monkeypatch, leader.host, pi_2=[(1, EVER)], pi_3=[(1, EVER)])
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
    publish = conflict.publish

    def impatient(*about: Any, **more: Any) -> Any:
        result = publish(*about, **more)
        if not more["off"] or STOPPED in leader.host.ran:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(conflict, "publish", impatient)
    with pytest.raises(KeyboardInterrupt):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert told(leader) == () and leader.host.ran == [NODES, STOP, PS, STOPPED, START]


@pytest.mark.parametrize("fails", [STOP, PS, STOPPED, OFF])
def test_what_fails_on_the_way_is_undone(
    leader: Young, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    silence(monkeypatch, leader.host, pi_2=[(1, EVER)], pi_3=[(1, EVER)])
    leader.host.answers[fails] = {"status": 1, "err": "no"}
    with pytest.raises(CommandFailed, match=fails.split()[0]) as failure:
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert failure.value.remedy.startswith("The API server starts again.")
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
    monkeypatch.setattr(
        all_off, "_knock", lambda _: errno.ETIMEDOUT if STOPPED in leader.host.ran else 0
    )
    all_off.off(leader.host, boards, lambda _: None)
    cert = leader.trust.leaf("broker", leader.key.private.public_key())[0]
    side = leader.host.read(paths.BROKER_SIDE) or b""
    nonce = "A" * 43
    answer = which_cluster.answer(leader.trust.fleet_id, leader.key.private, cert, side, nonce)
    assert len(answer) < which_cluster.MAX_BYTES
    assert len(which_cluster.verify(leader.trust.anchors, answer, nonce).off) == OFF_MOST
    leader.host.answers |= listed(*many, node("one-more", 250))
    monkeypatch.setattr(all_off, "_knock", lambda _: 0)
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


def test_a_reader_that_went_away_is_no_trouble_with_files(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nodeagent fleet off | head`: click ends it without a word."""
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: leader.host)
    monkeypatch.setattr(all_off, "others", Mock(side_effect=BrokenPipeError))
    assert isinstance(CliRunner().invoke(main, ["fleet", "off"]).exception, BrokenPipeError)


def test_a_board_that_is_gone_is_not_waited_for(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address may be somebody else's by now, or in another network."""
    three = [node("pi-2", 2), node("pi-3", 3, "Unknown"), node("pi-4", 4, "Unknown")]
    leader.host.answers |= listed(*three)
    answers = {"10.0.0.2": 0, "10.0.0.3": errno.ECONNREFUSED, "10.0.0.4": 0}

    def knock(address: str) -> int:
        off = STOPPED in leader.host.ran and address != "10.0.0.3"
        return errno.ETIMEDOUT if off else answers[address]

    monkeypatch.setattr(all_off, "_knock", knock)
    boards, said = all_off.others(leader.host), list[str]()
    assert [board.name for board in boards if board.away] == ["pi-3"]
    all_off.off(leader.host, boards, said.append)
    assert said == ["pi-2 is off", "pi-4 is off", "this board turns itself off"]
    assert told(leader) == tuple(BOOT.format(number) for number in (2, 3, 4))


@pytest.mark.parametrize("answer", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_who_could_not_be_seen_to_go_off_is_named_before(
    leader: Young, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    """A packet filter drops what comes, or the way back is another one."""
    monkeypatch.setattr(all_off, "_knock", lambda address: answer if "0.3" in address else 0)
    with pytest.raises(Refused, match=r"pi-3 is Ready and does not answer .* at 10.0.0.3, port"):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert leader.host.ran == [NODES] and not leader.host.exists(paths.BROKER_SIDE)


def test_a_board_that_came_while_a_person_thought_is_said(leader: Young) -> None:
    agreed = all_off.others(leader.host)
    leader.host.answers |= listed(*[node(f"pi-{number}", number) for number in (1, 2, 3, 4)])
    with pytest.raises(Refused, match="other boards than when you were asked"):
        all_off.off(leader.host, agreed, lambda _: None)
    assert leader.host.ran == [NODES, NODES]


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (None, 0),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), errno.ECONNREFUSED),
        (TimeoutError(), errno.ETIMEDOUT),  # of ours
        (TimeoutError(errno.ETIMEDOUT, "timed out"), errno.ETIMEDOUT),  # of the kernel's
        (OSError(errno.EHOSTUNREACH, "no route to host"), errno.EHOSTUNREACH),
        (OSError(errno.ENETUNREACH, "network is unreachable"), errno.ENETUNREACH),
    ],
)
def test_what_a_board_answers(
    monkeypatch: pytest.MonkeyPatch, answer: OSError | None, number: int
) -> None:
    connection = Mock(side_effect=answer)
    monkeypatch.setattr("socket.create_connection", connection)
    assert all_off._knock("10.0.0.2") == number
    assert connection.call_args.args == (("10.0.0.2", 10250),)


@pytest.mark.parametrize("answer", [0, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EMFILE])
def test_a_board_is_off_when_nobody_is_there(
    leader: Young, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    """Whoever refuses a connection still ends; the rest is this board's own trouble."""
    monkeypatch.setattr(all_off, "_knock", lambda _: answer if STOPPED in leader.host.ran else 0)
    with pytest.raises(Refused, match="did not turn off"):
        all_off.off(leader.host, OTHERS, lambda _: None)
