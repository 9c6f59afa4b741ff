"""The broker process (``nodeagent broker``), on control planes only; entry and socket.

systemd starts it when somebody knocks at one of its two sockets and hands both over
(sd_listen_fds(3)); it ends when there is nothing to do for a minute. Who may ask what is decided
by the socket and by the kernel's word on who asks (unix(7), SO_PEERCRED), not by what they say.
What root says comes first, and waits behind one message of the network process at most. What is
spoken is in ``join/broker_protocol.py``, the files it reads are in ``agent/provision.py``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nodeagent import formats, paths
from nodeagent.broker import leave, operators
from nodeagent.broker.boards import Overloaded
from nodeagent.broker.broker import Broker, Revoked, Stale, Unadmitted
from nodeagent.broker.kube_api import Api
from nodeagent.broker.ledger import Ledger
from nodeagent.errors import FleetError, NodeAgentError, OtherVersion, Refused, Untrusted
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol, messages, statement, waiting_file, which_cluster
from nodeagent.join.broker_protocol import refusal
from nodeagent.trust import anchors, pki, wire

if TYPE_CHECKING:
    from nodeagent.status.schema import Approval, Token

LOG = logging.getLogger("nodeagent")

IDLE = 60.0  # seconds without anything to do until the process ends
TICK = 1.0  # seconds between looks at the cluster while tokens are outstanding
PATIENCE = 5.0  # seconds a caller has to say all that it wants, and to take the answer
NETWORK_USER = "nodeagent"
FIRST_FD = 3  # SD_LISTEN_FDS_START
UNITS = "nodeagent-broker.socket nodeagent-broker-root.socket"

_ASKS: dict[str, dict[str, wire.Check]] = {
    "nonce": {},
    "grant": {
        "request": wire.text(wire.COMPACT, 16 * 1024),
        "source": wire.address,
    },
    "cluster": {"nonce": messages.NONCE},
    "leave": {"said": wire.text(wire.COMPACT, 16 * 1024)},
    "nodes": {},
    "approve": {"node": wire.node_id},
    "revoke": {"who": wire.node_name},  # or a node id, which is of that form too
    "forget": {"name": wire.node_name},
    "seal": {"open": wire.integer(0, 366 * 86400)},
}
# The agent makes it anew at each start, so nothing is lost with it.
_CONFIG = wire.Form(
    paths.BROKER_CONFIG,
    formats.BROKER_CONFIG,
    {
        "anchors": anchors.Anchors.from_json,
        "server": wire.text(r"https://[0-9a-z.:\[\]-]+", 80),
        "cluster": wire.text(wire.COMPACT, statement.MAX_BYTES),
    },
    {"seals_at": wire.integer(0, 2**40)},
    "Restart the agent, which writes it anew: sudo systemctl restart nodeagent",
    oldest=formats.BROKER_CONFIG,
)
FOR_THE_NETWORK = frozenset({"nonce", "grant", "leave", "cluster"})
FOR_ROOT = frozenset(_ASKS) - FOR_THE_NETWORK


def main() -> None:
    """Serve the socket that systemd hands over, until idle."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    host = Host()
    Service(host, load(host), *inherited_sockets(host)).run()


def inherited_sockets(host: Host) -> tuple[socket.socket, socket.socket]:
    """The listening sockets from systemd, the network process's and root's. Raises FleetError where
    one is missing."""
    ours = host.environ.get("LISTEN_PID") == str(os.getpid())
    count = host.environ.get("LISTEN_FDS", "") if ours else ""
    given = {}
    for number in range(int(count) if count.isdecimal() else 0):
        listener = socket.socket(fileno=FIRST_FD + number)
        given[listener.getsockname()] = listener
    try:
        return given[broker_protocol.SOCKET], given[broker_protocol.ROOT_SOCKET]
    except KeyError as error:
        raise FleetError(
            f"The broker was started without its socket {error.args[0]}.",
            f"Start it with: systemctl start {UNITS}",
        ) from error


def load(host: Host) -> Broker:
    """The broker as the agent set it up. Raises FleetError, OtherVersion, OSError."""
    written = host.read(paths.BROKER_CONFIG)
    if written is None:
        raise FleetError(
            "The agent has not handed the broker its files yet.",
            "It does so at each of its starts on a control plane; see: nodeagent status",
        )
    try:
        config = _CONFIG.read(wire.loads(written, 64 * 1024))
        key = pki.read_key(host.read(paths.BROKER_KEY) or b"")
        cert = pki.read_cert((host.read(paths.BROKER_CERT) or b"").decode("ascii", "replace"))
    except (wire.Malformed, pki.BadCertificate) as error:
        raise FleetError(
            f"The broker's files are missing or damaged: {error}.",
            "Restart the agent, which writes them: systemctl restart nodeagent",
        ) from error
    files = (
        str(host.path(n))
        for n in (paths.BROKER_CA, paths.BROKER_CLIENT_CERT, paths.BROKER_CLIENT_KEY)
    )
    return Broker(
        config["anchors"],
        key,
        cert,
        config["cluster"].encode(),
        Api(config["server"], *files),
        Ledger(host),
        host.clock.now,
        config.get("seals_at", 0),
    )


class Service:
    """One caller at a time; between callers a look at the cluster."""

    def __init__(
        self, host: Host, broker: Broker, for_network: socket.socket, for_root: socket.socket
    ) -> None:
        self._host = host
        self._broker = broker
        # Root's first: however many knock at the other one, what root says is next.
        self._doors = ((for_root, FOR_ROOT), (for_network, FOR_THE_NETWORK))
        self._changed = host.changed(paths.BROKER_CONFIG)
        self._trouble = ""
        self._told: tuple[list[Approval], list[Token]] = [], []

    def run(self) -> None:
        """Until idle, or until the agent changed the configuration; systemd starts it again when
        somebody knocks."""
        clock = self._host.clock
        for listener, _ in self._doors:
            listener.setblocking(False)
        busy = ticked = clock.monotonic()
        while clock.monotonic() - busy < IDLE:
            if self._host.changed(paths.BROKER_CONFIG) != self._changed:
                return
            if self._hear_one():
                busy = clock.monotonic()
            if self._broker.outstanding:
                busy = clock.monotonic()
            if clock.monotonic() - ticked >= TICK:
                self._tick()
                self.tell_who_waits()
                ticked = clock.monotonic()

    def _hear_one(self) -> bool:
        """Serve the next caller; False where nobody comes for a tick."""
        ready = select.select([listener for listener, _ in self._doors], [], [], TICK)[0]
        for listener, allowed in self._doors:
            if listener in ready:
                with contextlib.suppress(OSError):  # whoever knocked has gone
                    connection, _ = listener.accept()
                    with connection:
                        self._serve(connection, allowed)
                    return True
        return False

    def _tick(self) -> None:
        try:
            self._broker.tick()
            self._trouble = ""
        except (NodeAgentError, OSError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                LOG.warning("%s", error)

    def tell_who_waits(self) -> None:
        """Write the list for the status where it changed; people's convenience, so it never
        fails."""
        waiting = waiting_file.shown(self._broker.waiting.present(self._broker.ledger.now()))
        tokens: list[Token] = [
            {"name": one.name, "expires": one.expires} for one in self._broker.outstanding
        ]
        if (waiting, tokens) == self._told:
            return
        self._told = waiting, tokens
        try:
            waiting_file.write(self._host, waiting, tokens)
        except OSError as error:
            LOG.warning("who waits is not shown: %s", error)

    def _serve(self, connection: socket.socket, allowed: frozenset[str]) -> None:
        uid = peer_uid(connection)
        try:
            asked = broker_protocol.receive(connection, seconds=PATIENCE)
            answer = self.answer(asked, uid, allowed)
            connection.settimeout(PATIENCE)  # for the whole answer (socket.sendall)
            broker_protocol.send(connection, answer)
        except OtherVersion as error:
            LOG.warning("%s", error)
            with contextlib.suppress(OSError):
                broker_protocol.send(
                    connection, refusal(broker_protocol.OTHER_VERSION, error.reason)
                )
        except (OSError, wire.Malformed) as error:
            LOG.info("a caller of user id %d was not understood: %s", uid, error)

    def answer(self, asked: Any, uid: int, allowed: frozenset[str]) -> Mapping[str, object]:
        """The answer to one message from a process of user ``uid``; ``allowed`` at the socket it
        came to. Raises wire.Malformed."""
        op = asked.get("op") if isinstance(asked, dict) else None
        if not isinstance(op, str):
            raise wire.Malformed("no question")
        if op not in _ASKS:
            return refusal(
                broker_protocol.OTHER_VERSION, "The broker's version of nodeagent cannot do that."
            )
        ids = self._host.user_ids(NETWORK_USER)
        network = allowed is FOR_THE_NETWORK and ids is not None and uid == ids[0]
        if op not in allowed or not (uid == 0 or network):
            LOG.warning("user id %d may not ask the broker for %s", uid, op)
            return refusal(403, "This user may not ask that here.")
        checked = wire.record(asked, {"op": wire.text(op, 16), **_ASKS[op]})
        try:
            return self._answer(op, checked)
        except Untrusted as error:
            LOG.warning("%s", error.reason)
            return refusal(403, error.reason)
        except OtherVersion as error:
            LOG.warning("%s", error)
            return refusal(broker_protocol.OTHER_VERSION, error.reason)
        except Revoked:
            return refusal(403, "This node was revoked.")
        except Unadmitted as error:
            return refusal(202, str(error))
        except Stale as error:
            return refusal(409, f"Ask again: {error}.")
        except Overloaded as error:
            return refusal(503, f"{error}.")
        except Refused as error:
            return {**refusal(409, error.reason), "remedy": error.remedy}
        except (NodeAgentError, OSError) as error:
            LOG.warning("%s", error)
            if op not in FOR_THE_NETWORK:
                return refusal(503, str(error))
            return refusal(503, "The cluster could not be asked; see the journal there.")

    def _answer(self, op: str, asked: dict[str, Any]) -> Mapping[str, object]:
        broker = self._broker
        if op == "nonce":
            return {"nonce": broker.nonce()}
        if op == "grant":
            answer = broker.grant(asked["request"].encode(), asked["source"])
            return {"grant": answer.decode()}
        if op == "cluster":
            return {"cluster": self._which(asked["nonce"])}
        if op == "leave":
            return {"left": leave.hear(broker, asked["said"].encode())}
        if op == "approve":
            return operators.approve(broker, asked["node"])
        if op == "revoke":
            return operators.revoke(broker, asked["who"])
        if op == "forget":
            return operators.forget(broker, asked["name"])
        if op == "seal":
            return operators.seal(broker, asked["open"])
        return operators.overview(broker)

    def _which(self, nonce: str) -> str:
        """Which cluster this is, as its agent said last. Raises FleetError, OSError."""
        side = self._host.read(paths.BROKER_SIDE)
        if side is None or len(side) > which_cluster.MAX_BYTES:
            raise FleetError("The agent has not told of its cluster yet.", "Ask again later.")
        one = self._broker
        return which_cluster.answer(one.anchors.fleet_id, one.key, one.cert, side, nonce).decode()


def peer_uid(connection: socket.socket) -> int:
    """The user id of the process at the other end (struct ucred: pid, uid, gid)."""
    size = struct.calcsize("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", data)[1])
