"""`nodeagent fleet off`: what the control plane does, and what it undoes where a board stays on."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from nodeagent import paths
from nodeagent.agent import all_off
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
def leader(tmp_path: Path) -> Young:
    """A control plane, whose other boards are pi-2 and pi-3."""
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


def silence(monkeypatch: pytest.MonkeyPatch, host: Machine, after: dict[str, float]) -> None:
    """Boards by their addresses, and after how many seconds each is off."""
    began = host.clock.monotonic()
    monkeypatch.setattr(
        all_off, "_is_off", lambda address: host.clock.monotonic() - began >= after[address]
    )


def test_the_other_boards_are_those_of_the_cluster(leader: Young) -> None:
    assert all_off.others(leader.host) == OTHERS


def test_this_board_goes_off_last(leader: Young, monkeypatch: pytest.MonkeyPatch) -> None:
    host, said = leader.host, list[str]()
    silence(monkeypatch, host, {"10.0.0.2": 100, "10.0.0.3": 40})
    monkeypatch.setattr(all_off, "power_off", lambda _: said.append(f"after {told(leader)}"))
    all_off.off(host, OTHERS, said.append)
    boots = (BOOT.format(2), BOOT.format(3))
    assert said == ["pi-3 is off", "pi-2 is off", "this board turns itself off", f"after {boots}"]
    assert host.ran == [STOP, PS, STOPPED]


def test_a_board_that_stays_on_is_named_and_all_is_as_before(
    leader: Young, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(monkeypatch, leader.host, {"10.0.0.2": 10, "10.0.0.3": 1e9})
    with pytest.raises(Refused, match=r"pi-3 did not turn off within 270 seconds"):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert told(leader) == ()
    assert leader.host.ran == [STOP, PS, STOPPED, START]


@pytest.mark.parametrize("fails", [STOP, PS, STOPPED])
def test_what_fails_on_the_way_is_undone(
    leader: Young, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    silence(monkeypatch, leader.host, {"10.0.0.2": 0, "10.0.0.3": 0})
    leader.host.answers[fails] = {"status": 1, "err": "no"}
    with pytest.raises(Exception, match=fails.split()[0]):
        all_off.off(leader.host, OTHERS, lambda _: None)
    assert told(leader) == () and leader.host.ran[-1] == START and OFF not in leader.host.ran


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
    leader.host.answers |= listed(*many, node("one-more", 999))
    with pytest.raises(Refused, match="more than 100"):
        all_off.others(leader.host)


@pytest.mark.parametrize("answer", [{"status": 1, "err": "no route to host"}])
def test_without_the_api_server_nothing_is_begun(leader: Young, answer: Any) -> None:
    leader.host.answers[NODES] = answer
    with pytest.raises(Refused, match="does not say which boards"):
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
    ],
)
def test_a_board_is_off_when_nobody_is_there(
    monkeypatch: pytest.MonkeyPatch, answer: OSError | None, off: bool
) -> None:
    connection = Mock(side_effect=answer)
    monkeypatch.setattr("socket.create_connection", connection)
    assert all_off._is_off("10.0.0.2") == off
    assert connection.call_args.args == (("10.0.0.2", 10250),)
