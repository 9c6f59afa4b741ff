"""``python -m tests.formats``: record, by the program as it is, what is not recorded yet.

What is there stays as it is, keys included; delete nothing here (README.md beside this file).
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from unittest.mock import patch

from nodeagent import paths, statefile
from nodeagent.agent import inventory, keeper, provision, rival_watch
from nodeagent.agent.reporter import Reporter
from nodeagent.agent.rival_watch import RivalWatch
from nodeagent.broker import ledger, ledger_file
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet import handoff, rivals
from nodeagent.fleet.beacon import Proof
from nodeagent.fleet.sight import Heard
from nodeagent.host.host import Host
from nodeagent.join import (
    broker_protocol,
    leave,
    messages,
    statement,
    waiting_file,
    which_cluster,
)
from nodeagent.join.approval import Seal, code
from nodeagent.statefile import StateFile
from nodeagent.status import schema
from nodeagent.trust import fleet_file, pki, store
from tests.formats.forms import FOLDER, FORMS, NONCE, NOW, UID, Fleet, plain
from tests.support.machine import Became, Machine, fast_folder

WARNING = "TEST KEYS of the recordings in tests/formats; they are in no fleet and worth nothing"


class Sent:
    """A double of a socket that keeps what is sent."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        """Keep it."""
        self.data += data


def framed(message: dict[str, object]) -> bytes:
    """A message as it goes to the broker's socket."""
    sent = Sent()
    broker_protocol.send(sent, message)  # type: ignore[arg-type]
    return sent.data


def new_fleet(folder: Path) -> Fleet:
    """The keys of a version's recordings, made once."""
    if not (folder / "keys.json").exists():
        folder.mkdir(exist_ok=True)
        kept, card = fleet_file.make("test-data")
        (folder / "card.fleet").write_bytes(card)
        if folder.name == "v1":
            (folder / "kept.fleet").write_bytes(kept)
        ca_key = pki.new_key()
        ca = pki.issue("kubernetes", ca_key.public_key(), "kubernetes", ca_key, path_length=0)
        keys = {"warning": WARNING, "ca": pki.cert_pem(ca)}
        keys |= {name: pki.key_pem(pki.new_key()) for name in ("node", "broker")}
        (folder / "keys.json").write_text(json.dumps(keys, indent=1) + "\n")
    return Fleet(folder)


def recordings(fleet: Fleet, host: Machine) -> dict[str, bytes]:
    """File -> what the program writes."""
    trust, node = fleet.trust, fleet.node
    beacon = beacons.Beacon(
        node_id=node.node_id, boot="0000000312345678", name="pi-2", phase="ready",
        role="control-plane", fitness=(1, 2, 8, 1), epoch=1, claim=True, ready=True, expected=3,
        address="10.77.0.12", port=6444, seq=41, uptime=900, leader=node.node_id,
        vote=node.node_id, vote_epoch=1,
    )  # fmt: skip
    vouched = trust.voucher(host, node.public)
    sealed = beacons.seal(trust.beacon_key, beacon, node.private, vouched)
    chain = trust.leaf("client", node.public)
    cert = trust.leaf("broker", fleet.broker.public_key())[0]
    request = messages.build_request(
        trust.fleet_id, node, chain, "pi-2", NONCE, {"model": "Pi 5"}, "ab" * 32, node.public
    )
    ca = fleet.keys["ca"]
    cluster = statement.Cluster(
        node.node_id, 1, ("10.77.0.11:6443",), ca, "1.36.4", ("10.244.0.0/16", "10.96.0.0/12")
    )
    said = statement.build(trust, cluster, NOW)
    grant = messages.build_grant(
        trust.fleet_id, fleet.broker, cert, messages.verify_request(trust.anchors, request),
        "pi-2", messages.Secret("abcdef.0123456789abcdef"), said, NOW, NOW + 600,
    )  # fmt: skip
    side = rivals.Side(node.node_id, "pi-2", "ab" * 32, 1, NOW, True)
    told = which_cluster.build(trust, side, NOW)
    found: dict[str, bytes] = {
        "beacon.txt": sealed.encode(),
        "request.jws": request,
        "grant.jws": grant,
        "statement.jws": said,
        "side.jws": told,
        "answer.jws": which_cluster.answer(trust.fleet_id, fleet.broker, cert, told, NONCE),
        "farewell.jws": leave.build(trust.fleet_id, node, chain, "pi-2", UID, False, NONCE),
        "cluster.json": side.to_json(),
        "broker-question.bin": framed(
            {"op": "grant", "request": request.decode(), "source": "10.77.0.12"}
        ),
        "broker-answer.bin": framed({"grant": grant.decode()}),
        "worker.fleet": fleet_file.for_workers(fleet.card),
    }
    announcement = handoff.Announcement(
        "10.77.0.12", node.node_id, sealed, 6444, True, True, "ready", ("eth0",)
    )
    handoff.write_announcement(host, announcement)
    candidate = handoff.Candidate("10.77.0.12", 6444, sealed, NOW, NOW + 20)
    handoff.write_heard(host, NOW, [candidate])
    waits: schema.Approval = {
        "id": code(node.node_id), "name": "pi-3", "address": "10.77.0.13", "since": NOW,
    }  # fmt: skip
    waiting_file.write(host, [waits], [{"name": "pi-2", "expires": NOW + 600}])
    Reporter(host).enter("ready", "Part of the cluster")
    with contextlib.suppress(Became):
        voice = keeper.Voice(trust.beacon_key, trust.issuer_point, vouched)
        keeper.hand_over(host, beacon, voice, "auto", True)
    host.answers[f"{rival_watch.AGENT} meet 10.77.0.12 6444"] = "step-down\n"
    RivalWatch(host).round([Heard(beacon, 1.0, 1.0, Proof.ISSUER)], 1.0)
    kept = StateFile(host)
    kept.set(role="control-plane", epoch=1, starts=3, imported=True, born=NOW, fsync_ms=4.2)
    kept.note("initialised", address="10.77.0.12")
    memory = ledger.Ledger(host)
    name = memory.name_for("pi-2", node.node_id, {}, room=True)
    memory.put(ledger_file.Token("abcdef", node.node_id, NONCE, name, "10.77.0.12", NOW + 600))
    memory.certify(name, node.node_id, ledger_file.ENROL)
    memory.admit(ledger_file.Admission(name, node.node_id, NOW, "10.77.0.12", "abcdef"))
    memory.certify("pi-9", f"n-{'a' * 16}", ledger_file.ENROL)
    memory.approve(f"n-{'b' * 16}", NOW + 86400)
    memory.revoke(ledger_file.Revocation(f"n-{'a' * 16}", "pi-9", NOW))
    memory.reserve(["pi-1"])
    memory.set_seal(Seal(sealed=True, open_until=NOW + 3600))
    host.write(paths.KUBERNETES_CA, ca.encode())
    with patch.object(Machine, "live", False):
        provision.install(
            host, trust, (b"cert", b"key"), "10.77.0.11:6443", "1.36.4", NOW + 86400,
            node_id=node.node_id, epoch=1,
        )  # fmt: skip
    host.write(store.CARD_FILES[0], fleet.card)
    store.import_card(host, StateFile(Host(host.root / "other")))
    for file, path in {
        "announce.json": paths.ANNOUNCE, "heard.json": handoff.HEARD,
        "waiting.json": waiting_file.PATH, "waiting-tokens.json": waiting_file.PATH,
        "status.json": paths.STATUS, "keep.json": paths.HANDOVER,
        "rival.json": rival_watch.RIVAL, "state.json": statefile.PATH,
        "broker-state.json": paths.LEDGER, "broker-config.json": paths.BROKER_CONFIG,
        "fleet.json": store.FLEET_FILE,
    }.items():  # fmt: skip
        found[file] = host.read(path) or b""
    found["inventory.json"] = inventory.printed(host).encode()
    return found


def main() -> None:
    """Record what is missing of this version, and what is read of it."""
    for version in sorted({form.version for form in FORMS.values()}):
        _record(version)


def _record(version: int) -> None:
    folder = FOLDER / f"v{version}"
    fleet = new_fleet(folder)
    files = {form.file for form in FORMS.values() if form.version == version}
    with fast_folder() as place:
        for file, data in recordings(fleet, Machine(place / "node")).items():
            if file in files and not (folder / file).exists():
                (folder / file).write_bytes(data)
                sys.stdout.write(f"recorded {file}\n")
    told = folder / "expected.json"
    expected = json.loads(told.read_text()) if told.exists() else {}
    for form in FORMS.values():
        if form.version == version and form.name not in expected:
            with fast_folder() as place:
                read = form.read(fleet, Machine(place), (folder / form.file).read_bytes())
            expected[form.name] = plain(read)
    told.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
