"""Each format of nodeagent: its recording, how its JSON is taken out and put back, who reads it."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nodeagent import paths, statefile
from nodeagent.agent import conflict, inventory, keeper, rival_watch
from nodeagent.broker import ledger
from nodeagent.broker import main as broker_main
from nodeagent.fleet import beacon, handoff, rivals
from nodeagent.host.host import Host
from nodeagent.join import (
    broker_protocol,
    leave,
    messages,
    statement,
    waiting_file,
    which_cluster,
)
from nodeagent.status import model
from nodeagent.trust import fleet_file, jws, pki, store, wire
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.fuzz.targets import Wire

FOLDER = Path(__file__).parent
NOW, NONCE = 1_795_000_000, "A" * 43
UID = "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11"


class Fleet:
    """The test fleet of a recorded version: its card, and the keys that sign; the first one's
    where what was raised needs no other."""

    def __init__(self, folder: Path) -> None:
        folder = folder if (folder / "keys.json").exists() else FOLDER / "v1"
        self.card = (folder / "card.fleet").read_bytes()
        self.trust: Trust = store.from_card(fleet_file.parse(self.card))
        self.keys: dict[str, str] = json.loads((folder / "keys.json").read_text())
        self.node = NodeKey(pki.read_key(self.keys["node"]))
        self.broker = pki.read_key(self.keys["broker"])


@dataclass(frozen=True)
class Form:
    """``read`` gives what the product makes of the bytes, or raises; ``where`` is the file that it
    looks for on a node. ``version`` is written, ``oldest`` the first that is read still.
    ``optional``: keys that may be missing. ``quiet``: what is not understood
    counts as nothing, and a later version is told in the log."""

    name: str
    file: str
    read: Callable[[Fleet, Host, bytes], Any]
    where: str = ""
    key: str = "v"
    optional: tuple[str, ...] = ()
    quiet: bool = False
    version: int = 1
    oldest: int = 1
    open: Callable[[Fleet, bytes], Any] = lambda fleet, data: json.loads(data)
    close: Callable[[Fleet, Any], bytes] = lambda fleet, value: json.dumps(value).encode()


def plain(value: Any) -> Any:
    """What was read, as JSON."""
    if isinstance(value, messages.Secret):
        return value.reveal()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _signed(typ: str, key: Callable[[Fleet], pki.PrivateKey]) -> dict[str, Any]:
    def unpack(fleet: Fleet, data: bytes) -> Any:
        return json.loads(base64.urlsafe_b64decode(data.split(b".")[1] + b"=="))

    return {"open": unpack, "close": lambda fleet, value: jws.sign(value, key(fleet), typ)}


def _open_beacon(fleet: Fleet, data: bytes) -> Any:
    whole = base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    key = ChaCha20Poly1305(fleet.trust.beacon_key)
    return json.loads(key.decrypt(whole[:12], whole[12:], beacon._ASSOCIATED))


def seal(fleet: Fleet, value: Any) -> bytes:
    """Anything, sealed as a beacon."""
    nonce, key = os.urandom(12), ChaCha20Poly1305(fleet.trust.beacon_key)
    text = json.dumps(value, separators=(",", ":")).encode()
    box = nonce + key.encrypt(nonce, text, beacon._ASSOCIATED)
    return base64.urlsafe_b64encode(box).rstrip(b"=")


def _grant(fleet: Fleet, host: Host, data: bytes) -> Any:
    return messages.verify_grant(
        fleet.trust.anchors, data, fleet.node.node_id, NONCE, NOW + 5, fleet.node.private
    )


def _request(fleet: Fleet, host: Host, data: bytes) -> Any:
    asked = messages.verify_request(fleet.trust.anchors, data)
    return {**vars(asked), "reader": pki.spki(asked.reader)}


def _by_the_agent(typ: str) -> dict[str, Any]:
    """Signed anew with a leaf of its own, as the agent does it."""

    def close(fleet: Fleet, value: Any) -> bytes:
        key = pki.new_key()
        leaf = fleet.trust.leaf("agent", key.public_key())[0]
        if "cert" in value:
            value = {**value, "cert": base64.b64encode(pki.cert_der(leaf)).decode()}
        return jws.sign(value, key, typ)

    return {**_signed(typ, lambda fleet: fleet.broker), "close": close}


def _framed(value: Any) -> bytes:
    data = json.dumps(value).encode()
    return struct.pack(">I", len(data)) + data


_FRAME: dict[str, Any] = {
    "open": lambda fleet, data: json.loads(data[4:]),
    "close": lambda fleet, value: _framed(value),
}


def _asked(fleet: Fleet, host: Host, data: bytes) -> Any:
    message = broker_protocol.receive(Wire(data))  # type: ignore[arg-type]
    op = wire.record(message, {"op": wire.text("[a-z]+", 16)})["op"]
    return {"op": op, **wire.record(message, broker_main._ASKS[op])}


def _answered(fleet: Fleet, host: Host, data: bytes) -> Any:
    message = broker_protocol.receive(Wire(data))  # type: ignore[arg-type]
    return wire.record(message, {"grant": wire.text(".+", 16 * 1024)})


def _file(path: str, read: Callable[[Host], Any]) -> Callable[[Fleet, Host, bytes], Any]:
    def whole(fleet: Fleet, host: Host, data: bytes) -> Any:
        host.write(path, data)
        return read(host)

    return whole


def _kept(host: Host) -> Any:
    host.write(paths.NODE_KEY, pki.key_pem(pki.new_key()).encode())
    host.write(paths.STATUS, model.dump(model.empty()).encode())
    found = keeper.Keeper(host)
    return {
        "beacon": asdict(found.beacon), "key": found.key, "interface": found.interface,
        "page": found.page,
    }  # fmt: skip


def _journal(host: Host) -> Any:
    values = statefile.StateFile(host).values
    return {name: value for name, value in values.items() if value is not None}


def _ledger(host: Host) -> Any:
    found = ledger.Ledger(host)
    return {
        "secret": found._secret, "members": found.members, "certificates": found.certificates,
        "tokens": found.tokens, "admissions": found.admissions, "approved": found.approved,
        "revoked": found.revoked, "reserved": found.reserved, "seal": found.seal,
    }  # fmt: skip


def _config(fleet: Fleet, host: Host, data: bytes) -> Any:
    cert = fleet.trust.leaf("broker", fleet.broker.public_key())[0]
    for path, content in {
        paths.BROKER_KEY: fleet.keys["broker"], paths.BROKER_CERT: pki.cert_pem(cert),
        paths.BROKER_CA: fleet.keys["ca"], paths.BROKER_CONFIG: data.decode(),
    }.items():  # fmt: skip
        host.write(path, content.encode())
    found = broker_main.load(host)
    return {
        "fleet_id": found.anchors.fleet_id, "cluster": found.cluster, "seals_at": found.seals_at,
    }  # fmt: skip


def _card(fleet: Fleet, host: Host, data: bytes) -> Any:
    return fleet_file.parse(data)


def _lines(data: bytes) -> bytes:
    return b"\n".join(line for line in data.splitlines() if not line.startswith(b"#"))


def _from_kept(fleet: Fleet, host: Host, data: bytes) -> Any:
    return fleet_file.parse(fleet_file.from_kept(data))


_COMMENTED: dict[str, Any] = {"key": "format", "open": lambda fleet, data: json.loads(_lines(data))}

FORMS = {
    form.name: form
    for form in (
        Form("beacon", "beacon.txt",
             lambda fleet, host, data: beacon.open_(fleet.trust.beacon_key, data.decode()).beacon,
             open=_open_beacon, close=seal),
        Form("join request", "request.jws", _request, version=2, oldest=2,
             **_signed(messages.REQUEST_TYPE, lambda fleet: fleet.node.private)),
        Form("grant", "grant.jws", _grant, version=2, oldest=2,
             **_signed(messages.GRANT_TYPE, lambda f: f.broker)),
        Form("statement about a cluster", "statement.jws",
             lambda fleet, host, data: statement.verify(fleet.trust.anchors, data, NOW + 5),
             optional=("networks",), **_by_the_agent(statement.CLUSTER_TYPE)),
        Form("answer about a cluster", "answer.jws",
             lambda fleet, host, data: which_cluster.verify(fleet.trust.anchors, data, NONCE),
             **_signed(which_cluster.ANSWER_TYPE, lambda f: f.broker)),
        Form("side of an answer", "side.jws",
             lambda fleet, host, data: statement.read(
                 fleet.trust.anchors, data, which_cluster._SIDE, which_cluster.SIDE_TYPE)["epoch"],
             **_by_the_agent(which_cluster.SIDE_TYPE)),
        Form("farewell", "farewell.jws",
             lambda fleet, host, data: leave.verify(fleet.trust.anchors, data),
             **_signed(leave.LEAVE_TYPE, lambda fleet: fleet.node.private)),
        Form("cluster", "cluster.json", lambda fleet, host, data: rivals.Side(
            **rivals._SIDE.read(wire.loads(data, 2048)))),
        Form("question to the broker", "broker-question.bin", _asked, **_FRAME),
        Form("answer of the broker", "broker-answer.bin", _answered, **_FRAME),
        Form("announcement", "announce.json", _file(paths.ANNOUNCE, handoff.read_announcement),
             paths.ANNOUNCE, optional=("phase", "interfaces")),
        Form("heard", "heard.json", _file(handoff.HEARD, handoff.read_heard), handoff.HEARD,
             quiet=True),
        Form("waiting", "waiting.json",
             _file(waiting_file.PATH, lambda host: waiting_file.read(host)[0]), waiting_file.PATH,
             quiet=True),
        Form("waiting and tokens", "waiting-tokens.json",
             _file(waiting_file.PATH, waiting_file.read), waiting_file.PATH, quiet=True,
             optional=("tokens",)),
        Form("status", "status.json", lambda fleet, host, data: model.parse(data),
             key="version", optional=tuple(set(model.empty()) - {"version"})),
        Form("handover", "keep.json", _file(paths.HANDOVER, _kept), paths.HANDOVER),
        Form("rival", "rival.json", _file(rival_watch.RIVAL, conflict._rival), quiet=True),
        Form("inventory", "inventory.json",
             lambda fleet, host, data: inventory.parse(data.decode()), quiet=True),
        Form("journal", "state.json", _file(statefile.PATH, _journal), statefile.PATH),
        Form("broker's memory", "broker-state.json", _file(paths.LEDGER, _ledger), paths.LEDGER,
             version=2),
        Form("broker's configuration", "broker-config.json", _config, paths.BROKER_CONFIG,
             optional=("seals_at",), version=2, oldest=2),
        Form("card file", "card.fleet", _card, **_COMMENTED),
        Form("worker's card file", "worker.fleet", _card, **_COMMENTED),
        Form("file to keep", "kept.fleet", _from_kept, **_COMMENTED),
        Form("fleet on the node", "fleet.json",
             _file(store.FLEET_FILE, lambda host: store.Trust.load(host).fleet_id),
             store.FLEET_FILE, **_COMMENTED),
    )
}  # fmt: skip
