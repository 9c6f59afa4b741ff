"""The broker's two sockets: who may ask what at which, and that nobody there keeps root waiting."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent.broker import main as broker_main
from nodeagent.errors import FleetError
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol
from nodeagent.trust.store import Trust
from tests.support.admission import Setup
from tests.support.broker_socket import drip
from tests.support.machine import Machine, put

pytestmark = pytest.mark.network  # Unix sockets in the test's own folder

STRANGER = 61234
PATIENCE = 0.3  # in place of the broker's


def pause(seconds: float) -> None:
    """Let the service go on meanwhile."""
    threading.Event().wait(seconds)


class Door:
    """A listening socket, and what is at the other end of it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)

    def ask(self, **message: object) -> Any:
        """One question and its answer."""
        return broker_protocol.call(self.path, message)

    def knock(self) -> socket.socket:
        """Come in and say nothing."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        return connection


class Running:
    """The real service in a thread, on a clock of its own that never makes it idle."""

    def __init__(self, folder: Path, host: Host, sockets: Path) -> None:
        self.setup = Setup(folder, Trust.load(host))
        self.machine = Machine(folder / "node")
        self.machine.user_ids = lambda user: (STRANGER, STRANGER)  # type: ignore[method-assign]
        put(self.machine.root, {"/run/x": ""})
        self.network, self.root = Door(sockets / "network"), Door(sockets / "root")
        self.service = broker_main.Service(
            self.machine, self.setup.broker, self.network.listener, self.root.listener
        )
        self.thread = threading.Thread(target=self.service.run, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """It takes an hour that passes for idleness, once it waits."""
        for _ in range(100):
            self.machine.time.now += 3600
            self.thread.join(0.1)
        assert not self.thread.is_alive()
        self.network.listener.close()
        self.root.listener.close()


@pytest.fixture
def running(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:  # fmt: skip
    """The service, with less patience."""
    monkeypatch.setattr(broker_main, "PATIENCE", PATIENCE)
    monkeypatch.setattr(broker_main, "TICK", 0.05)
    made = Running(tmp_path, host, tmp_path_factory.mktemp("s"))
    yield made
    made.end()


ROOTS: list[dict[str, object]] = [
    {"op": "nodes"},
    {"op": "seal", "open": 0},
    {"op": "revoke", "who": "n-aaaaaaaaaaaaaaaa"},
    {"op": "approve", "node": "n-aaaaaaaaaaaaaaaa"},
    {"op": "forget", "name": "pi-2"},
]
# Who asks what, at which socket; whether it is heard.
ASKED = {
    **{f"root {one['op']} at root's": ("root", 0, one, True) for one in ROOTS},
    **{f"root {one['op']} at the network's": ("network", 0, one, False) for one in ROOTS},
    **{f"network {one['op']} at its own": ("network", STRANGER, one, False) for one in ROOTS},
    **{f"network {one['op']} at root's": ("root", STRANGER, one, False) for one in ROOTS},
    "network nonce at its own": ("network", STRANGER, {"op": "nonce"}, True),
    "network nonce at root's": ("root", STRANGER, {"op": "nonce"}, False),
    "somebody nonce": ("network", STRANGER + 1, {"op": "nonce"}, False),
    "broker itself nodes": ("root", STRANGER + 1, {"op": "nodes"}, False),
}


@pytest.mark.parametrize(("door", "uid", "message", "heard"), ASKED.values(), ids=ASKED)
def test_who_may_ask_what_where(
    running: Running, door: str, uid: int, message: dict[str, object], heard: bool,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(broker_main, "peer_uid", lambda connection: uid)
    said = (running.root if door == "root" else running.network).ask(**message)
    assert (said.get("status") != 403) == heard, said
    refused = f"user id {uid} may not ask the broker for {message['op']}"
    assert (refused in caplog.text) != heard


def test_the_kernel_says_who_asks(running: Running) -> None:
    """Not the message (unix(7), SO_PEERCRED)."""
    with running.root.knock() as connection:
        assert broker_main.peer_uid(connection) == os.geteuid()


def slow(door: Door) -> None:
    """A length, and then a byte now and then, so that no wait for one is long."""
    with door.knock() as connection:
        drip(connection, 1000, lambda: pause(PATIENCE / 3))


def silent(door: Door) -> None:
    """Nothing at all."""
    with door.knock() as connection:
        connection.settimeout(20)
        connection.recv(1)


def deaf(door: Door) -> None:
    """Asks, and never takes the answer."""
    with door.knock() as connection:
        broker_protocol.send(connection, {"op": "nonce", "pad": "x" * 1000})
        pause(PATIENCE * 2)


def hasty(door: Door) -> None:
    """Is gone before it is its turn."""
    door.knock().close()


def endless(door: Door) -> None:
    """A message longer than any may be."""
    with door.knock() as connection:
        try:
            connection.sendall(struct.pack(">I", 2**31))
            while True:
                connection.sendall(bytes(4096))
        except OSError:
            return


@pytest.mark.parametrize(
    "way", [slow, silent, deaf, hasty, endless], ids=lambda way: str(way.__name__)
)
def test_nobody_at_the_networks_socket_keeps_root_waiting(
    running: Running, way: Callable[[Door], None]
) -> None:
    """However they come, twenty at once: root waits for one message of theirs at most."""
    callers = [
        threading.Thread(target=way, args=(running.network,), daemon=True) for _ in range(20)
    ]
    for caller in callers:
        caller.start()
    pause(PATIENCE / 2)
    for _ in range(3):
        began = time.monotonic()
        assert running.root.ask(op="seal", open=0) == {"v": 1, "until": 0}
        assert time.monotonic() - began < PATIENCE * 2 + 0.5
    for caller in callers:
        caller.join(20 * PATIENCE + 10)
        assert not caller.is_alive()


def test_a_full_queue_of_the_networks_is_not_roots(running: Running) -> None:
    waiting = [running.network.knock() for _ in range(12)]
    assert running.root.ask(op="nodes")["open"] is True
    for connection in waiting:
        connection.close()


def test_an_answer_that_comes_byte_by_byte_has_one_deadline(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that was taken over does not hold a person's command either."""
    given = (broker_protocol.MAX_BYTES, PATIENCE)
    monkeypatch.setattr(broker_protocol.receive, "__defaults__", given)
    door = Door(tmp_path_factory.mktemp("s") / "d")

    def answer_slowly() -> None:
        connection, _ = door.listener.accept()
        with connection:
            drip(connection, 100, lambda: pause(PATIENCE / 3))

    dripping = threading.Thread(target=answer_slowly, daemon=True)
    dripping.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        door.ask(op="nodes")
    assert time.monotonic() - began < PATIENCE + 1
    dripping.join(10)
    door.listener.close()


@pytest.mark.parametrize("given", ["", "0", "1", "none"])
def test_a_broker_without_both_sockets_says_which(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    machine.environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": given}

    class Inherited:
        def __init__(self, fileno: int) -> None:
            assert fileno == broker_main.FIRST_FD

        def getsockname(self) -> str:
            return broker_protocol.SOCKET

    monkeypatch.setattr(socket, "socket", Inherited)
    missing = broker_protocol.ROOT_SOCKET if given == "1" else broker_protocol.SOCKET
    with pytest.raises(FleetError, match=missing) as caught:
        broker_main.inherited_sockets(machine)
    assert "systemctl start nodeagent-broker.socket nodeagent-broker-root" in caught.value.remedy
