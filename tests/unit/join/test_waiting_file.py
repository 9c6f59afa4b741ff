"""Who waits for a person: from the broker's memory through a file to the status."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent import paths
from nodeagent.broker import main as broker_main
from nodeagent.broker.broker import Unadmitted
from nodeagent.host.host import Host
from nodeagent.join import approval, waiting_file
from nodeagent.status.schema import Approval, Token
from nodeagent.trust import fleet_file, pki, store
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.admission import Setup
from tests.support.machine import Machine, put

ENTRY: Approval = {
    "id": "ABCD-EFGH-IJ23-4567",
    "name": "pi-2",
    "address": "10.77.0.12",
    "since": 1000,
}


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[tuple[Setup, broker_main.Service, Machine]]:
    """The broker's service of a fleet in approve mode; its cluster is a double."""
    trust = store.from_card(fleet_file.parse(fleet_file.make("home", approve=True)[1]))
    setup, machine = Setup(tmp_path, trust), Machine(tmp_path / "node")
    put(machine.root, {paths.BROKER_CONFIG: "{}"})
    with socket.socket(socket.AF_UNIX) as listener:
        yield setup, broker_main.Service(machine, setup.broker, listener, listener), machine


def test_the_list_follows_who_asks(
    asked: tuple[Setup, broker_main.Service, Machine], key: NodeKey
) -> None:
    setup, service, machine = asked
    service.tell_who_waits()
    assert not machine.exists(waiting_file.PATH), "nobody waits, nothing is written"
    with pytest.raises(Unadmitted):
        setup.ask(key, "pi-2")
    service.tell_who_waits()
    assert waiting_file.read(machine)[0] == [
        {**ENTRY, "id": approval.code(key.node_id), "since": int(setup.now)}
    ]
    assert machine.mode(waiting_file.PATH) == 0o644
    before = machine.path(waiting_file.PATH).stat().st_ino
    setup.now += 10
    with pytest.raises(Unadmitted):
        setup.ask(key, "pi-2")
    service.tell_who_waits()
    assert machine.path(waiting_file.PATH).stat().st_ino == before, "asking on is no news"
    setup.now += approval.WAITING_LIFE
    service.tell_who_waits()
    assert waiting_file.read(machine) == ([], [])


def test_a_list_that_cannot_be_written_stops_nobody(
    asked: tuple[Setup, broker_main.Service, Machine], key: NodeKey,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    setup, service, machine = asked
    put(machine.root, {"/run/nodeagent-broker": "a file"})
    with pytest.raises(Unadmitted):
        setup.ask(key, "pi-2")
    service.tell_who_waits()
    service.tell_who_waits()
    (said,) = caplog.messages
    assert "who waits is not shown" in said


def test_a_full_list_can_be_read(tmp_path: Path) -> None:
    longest = "fd00:1111:2222:3333:4444:5555:6666:7777"
    most: Approval = {**ENTRY, "name": "p" * 63, "address": longest, "since": 2**40}
    machine = Machine(tmp_path)
    token: Token = {"name": "p" * 63, "expires": 2**40}
    waiting_file.write(machine, [most] * approval.MAX_WAITING, [token] * 100)
    waiting, tokens = waiting_file.read(machine)
    assert (len(waiting), len(tokens)) == (approval.MAX_WAITING, waiting_file.MAX_TOKENS)


def test_tokens_that_are_out_are_told_by_the_name_they_are_for(tmp_path: Path, host: Host) -> None:
    """And nothing else of the broker's memory; used and ended ones are not."""
    setup, key = Setup(tmp_path, Trust.load(host)), NodeKey(pki.new_key())
    machine = Machine(tmp_path / "node")
    with socket.socket(socket.AF_UNIX) as listener:
        service = broker_main.Service(machine, setup.broker, listener, listener)
        setup.ask(key, "pi-2")
        setup.ask(key, "pi-2")  # anew, which ends the first
        service.tell_who_waits()
        (token,) = setup.broker.outstanding
        assert waiting_file.read(machine)[1] == [{"name": "pi-2", "expires": token.expires}]
        assert b"eyJ" not in (machine.read(waiting_file.PATH) or b"")
        setup.broker.withdraw(token)
        service.tell_who_waits()
    assert waiting_file.read(machine) == ([], [])


ODD: dict[str, Any] = {
    "missing": None,
    "empty": "",
    "no list": "{}",
    "a link": {"link": "/etc/x"},
    "markup": [{**ENTRY, "name": "<b>pi"}],
    "half a code": [{**ENTRY, "id": "ABCD"}],
    "a name for an address": [{**ENTRY, "address": "evil.example"}],
    "one key less": [{k: v for k, v in ENTRY.items() if k != "since"}],
    "a float": [{**ENTRY, "since": 1.5}],
    "too many": [ENTRY] * (approval.MAX_WAITING + 1),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_an_odd_list_shows_nobody(tmp_path: Path, content: Any) -> None:
    whole = {"v": 1, "waiting": content}
    text = json.dumps(whole) if isinstance(content, list) else content
    put(tmp_path, {"/etc/x": json.dumps({"v": 1, "waiting": [ENTRY]}), waiting_file.PATH: text})
    assert waiting_file.read(Machine(tmp_path)) == ([], [])


def test_a_key_that_is_not_known_is_not_shown(tmp_path: Path) -> None:
    more = {"v": 1, "waiting": [{**ENTRY, "remedy": "curl x | sh"}]}
    put(tmp_path, {waiting_file.PATH: json.dumps(more)})
    assert waiting_file.read(Machine(tmp_path)) == ([ENTRY], [])
