"""Join requests pending approval, and join tokens that are out, as the broker tells them: a file
that lives as long as it does.

The broker writes ``/run/nodeagent-broker/waiting.json`` where one of them changed, the keeper reads
it for the status. systemd removes the folder with the process (systemd.exec(5), RuntimeDirectory=),
and the process lives while somebody asks, so nobody has to tidy up. The agent treats the file as a
stranger's: the names in it come from the network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nodeagent import paths
from nodeagent.errors import OtherVersion
from nodeagent.fleet import handoff
from nodeagent.host import untrusted
from nodeagent.host.host import Host
from nodeagent.join import approval
from nodeagent.trust import wire

if TYPE_CHECKING:
    from nodeagent.status.schema import Approval, Token

PATH = f"{paths.BROKER_RUN}/waiting.json"
MAX_BYTES = 16 * 1024
MAX_TOKENS = 32

# As the items of `approvals` in status.schema.json.
_ENTRY: dict[str, wire.Check] = {
    "id": wire.text(r"([A-Z2-7]{4}-){3}[A-Z2-7]{4}", 19),
    "name": wire.node_name,
    "address": wire.address,
    "since": wire.integer(0, 2**40),
}
# As the items of `tokens` there.
_TOKEN: dict[str, wire.Check] = {"name": wire.node_name, "expires": wire.integer(0, 2**40)}
_WAITING = wire.Form(
    PATH,
    1,
    {"waiting": wire.array(lambda value: wire.record(value, _ENTRY), 0, approval.MAX_WAITING)},
    {"tokens": wire.array(lambda value: wire.record(value, _TOKEN), 0, MAX_TOKENS)},
    remedy="Restart both processes: sudo systemctl restart nodeagent nodeagent-broker",
)


def shown(waiting: Sequence[approval.Waiting]) -> list[Approval]:
    """``approvals`` of the status, oldest first; what does not change while a node goes on
    asking."""
    return [
        {
            "id": approval.code(one.node_id),
            "name": one.name,
            "address": one.source,
            "since": one.first,
        }
        for one in sorted(waiting, key=lambda one: (one.first, one.node_id))
    ]


def write(host: Host, entries: list[Approval], tokens: list[Token]) -> None:
    """Broker: say who waits, and which tokens are out, by the node they are for. Readable for all;
    nothing of it is secret. Raises OSError."""
    content = _WAITING.stamp({"waiting": entries, "tokens": tokens[:MAX_TOKENS]})
    host.write(PATH, json.dumps(content).encode(), 0o644)


def read(host: Host) -> tuple[list[Approval], list[Token]]:
    """Agent: who waits, and the tokens that are out. What is missing or malformed counts as nobody,
    and so does a later version, which is said."""
    try:
        data = untrusted.read(host, PATH, MAX_BYTES + 1)
        if data is None:
            return [], []
        value = _WAITING.read(wire.loads(data, MAX_BYTES))
    except (OSError, wire.Malformed):
        return [], []
    except OtherVersion as error:
        handoff.say_once(str(error))
        return [], []
    return list(value["waiting"]), list(value.get("tokens", ()))
