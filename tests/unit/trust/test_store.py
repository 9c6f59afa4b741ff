"""Import and scrub: a power cut anywhere neither loses the keys nor leaves them on the card."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nodeagent.errors import Blocked, FleetError
from nodeagent.host import durable
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file, node_key, pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import CARD_FILES, FLEET_FILE, LEAD_KEY_FILE, Trust, import_card
from tests.support.machine import put
from tests.support.powercut import WAYS, Disk, PowerCut

CARD = CARD_FILES[0]


def node(tmp_path: Path, card: bytes | None) -> Host:
    host = Host(tmp_path / "root")
    if card is not None:
        host.write(CARD, card, 0o600)
    return host


def test_import_takes_the_keys_over_and_scrubs(tmp_path: Path, card: bytes) -> None:
    host = node(tmp_path, card)
    taken = import_card(host, StateFile(host))
    left = host.read(CARD)
    assert left is not None
    assert len(left) == len(card)
    assert b"PRIVATE" not in left
    assert b"fleet home" in left
    assert (host.mode(FLEET_FILE), host.mode(LEAD_KEY_FILE)) == (0o600, 0o600)
    assert host.mode(node_key.FOLDER) == 0o700
    assert taken.may_lead
    again = import_card(host, StateFile(host))
    assert again.fleet_id == taken.fleet_id
    assert host.read(CARD) == left, "a second start changes nothing"


def test_a_root_that_forgets_gets_no_keys(tmp_path: Path, card: bytes) -> None:
    host = node(tmp_path, card)
    overlay = "root / overlay rw,lowerdir=/ro,upperdir=/rw/up,workdir=/rw/w 0 0\n"
    put(host.root, {"/proc/mounts": overlay + "tmpfs /rw tmpfs rw 0 0\n"})
    with pytest.raises(Blocked, match="forgets everything at the next boot"):
        import_card(host, StateFile(host))
    assert host.read(CARD) == card, "nothing is scrubbed"
    assert not host.exists(node_key.FOLDER)
    put(host.root, {"/proc/mounts": overlay + "/dev/sda2 /rw ext4 rw 0 0\n"})
    import_card(host, StateFile(host))


def test_keys_that_were_taken_over_and_lost_are_told_as_that(tmp_path: Path, card: bytes) -> None:
    host = node(tmp_path, card)
    import_card(host, StateFile(host))
    for path in (FLEET_FILE, LEAD_KEY_FILE, "/var/lib/nodeagent/state.json"):
        host.remove(path)
    with pytest.raises(FleetError, match="not on this system any more"):
        import_card(host, StateFile(host))


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_at_every_write(way: str, tmp_path: Path, card: bytes) -> None:
    host = node(tmp_path, card)
    disk = Disk(host.root)
    new = disk.tree()
    cut_at = 0
    while True:
        cut_at += 1
        disk.become(new)
        disk.calls, disk.cut_at = 0, cut_at
        try:
            with disk.watched():
                import_card(host, StateFile(host))
        except PowerCut:
            disk.cut(way)
            disk.cut_at = None
            assert import_card(host, StateFile(host)).may_lead, f"cut before call {cut_at}"
            assert fleet_file.is_scrubbed(host.read(CARD) or b""), f"cut before call {cut_at}"
        else:
            break
    assert cut_at > 25, "the model sees what is done"


def test_what_a_cut_import_left_is_overwritten_and_not_just_freed(
    tmp_path: Path, card: bytes
) -> None:
    host = node(tmp_path, card)
    import_card(host, StateFile(host))
    host.write(CARD, card, 0o600)
    StateFile(host).set(imported=None)  # the power went before it was noted
    beside = host.path(LEAD_KEY_FILE).with_name(f".control-plane.key{durable.TEMPORARY}")
    beside.write_bytes(card[:200])
    held = []  # a second name shows what the first one's blocks hold
    for number, left in enumerate((host.path(LEAD_KEY_FILE), host.path(FLEET_FILE), beside)):
        held.append(tmp_path / f"held-{number}")
        os.link(left, held[-1])
    assert import_card(host, StateFile(host)).may_lead
    for block in held:
        assert not block.read_bytes().strip(b"\0")


def test_a_forgotten_issuer_is_overwritten_and_not_just_freed(host: Host, tmp_path: Path) -> None:
    os.link(host.path(LEAD_KEY_FILE), tmp_path / "held")
    Trust.load(host).drop_issuer(host)
    assert not (tmp_path / "held").read_bytes().strip(b"\0")


@pytest.mark.parametrize("share", [1, 40, 400, 3000])
def test_a_half_done_scrub_is_finished(share: int, tmp_path: Path, card: bytes) -> None:
    host = node(tmp_path, card)
    import_card(host, StateFile(host))
    note = host.read(CARD) or b""
    host.write(CARD, note[:share] + card[share:], 0o600)
    import_card(host, StateFile(host))
    assert fleet_file.is_scrubbed(host.read(CARD) or b"")


@pytest.mark.parametrize("length", [0, 1, 60, 200, 230, 5000])
def test_the_note_has_the_files_length(length: int) -> None:
    assert len(fleet_file.scrub_text("home", length, 0.0)) == length


def _without(*path: str) -> object:
    def change(card: bytes) -> bytes:
        content = inner = json.loads(b"\n".join(card.splitlines()[3:]))
        for name in path[:-1]:
            inner = inner[name]
        del inner[path[-1]]
        return json.dumps(content).encode()

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda card: b"", lambda card: card[:900], lambda card: card + b"x",
        lambda card: card.replace(b'"format": 1', b'"format": 0'),
        lambda card: card.replace(b'"name"', b'"Name"'),
        lambda card: card.replace(b"MII", b"MIJ", 1),
        lambda card: fleet_file.make("home")[0],
        lambda card: bytes(len(card)),
        lambda card: card + b" " * 40_000,
        _without("beacon_key"), _without("root"), _without("control_plane", "cert"),
    ],
)  # fmt: skip
def test_a_damaged_card_is_refused_and_kept(change: object, tmp_path: Path, card: bytes) -> None:
    assert callable(change)
    damaged = change(card)
    host = node(tmp_path, damaged)
    with pytest.raises(FleetError) as raised:
        import_card(host, StateFile(host))
    assert raised.value.remedy
    assert host.read(CARD) == damaged
    assert not host.exists(FLEET_FILE)
    host.write(CARD, card, 0o600)  # a person mends it; no restart is needed
    assert import_card(host, StateFile(host)).may_lead


def test_a_card_with_mixed_keys_is_refused(tmp_path: Path, card: bytes) -> None:
    mine, other = (
        json.loads(b"\n".join(c.splitlines()[3:])) for c in (card, fleet_file.make("x")[1])
    )
    for part in ("root", "control_plane", "enrol", "fleet_id"):
        host = node(tmp_path, json.dumps({**mine, part: other[part]}).encode())
        with pytest.raises(FleetError):
            import_card(host, StateFile(host))


def test_no_card_says_what_to_do(tmp_path: Path) -> None:
    host = node(tmp_path, None)
    with pytest.raises(FleetError, match=r"Copy the fleet's card file, nodeagent\.fleet"):
        import_card(host, StateFile(host))


def test_windows_line_ends_and_a_byte_order_mark_are_borne(tmp_path: Path, card: bytes) -> None:
    host = node(tmp_path, b"\xef\xbb\xbf" + card.replace(b"\n", b"\r\n"))
    assert import_card(host, StateFile(host)).name == "home"
    assert b"PRIVATE" not in (host.read(CARD) or b"")


def test_another_fleets_card_is_left_alone(host: Host) -> None:
    other = fleet_file.make("other")[1]
    host.write(CARD, other, 0o600)
    assert import_card(host, StateFile(host)).name == "home"
    assert host.read(CARD) == other


def test_a_worker_forgets_the_control_plane_issuer(host: Host) -> None:
    dropped = Trust.load(host).drop_issuer(host)
    assert not dropped.may_lead
    assert not host.exists(LEAD_KEY_FILE)
    loaded = Trust.load(host)
    assert not loaded.may_lead
    assert loaded.drop_issuer(host) == loaded
    assert loaded.leaf("client", NodeKey.load_or_create(host).public)
    with pytest.raises(FleetError):
        loaded.leaf("server", NodeKey.load_or_create(host).public)
    assert not import_card(host, StateFile(host)).may_lead


def test_a_cut_while_forgetting_counts_as_forgotten(host: Host) -> None:
    host.overwrite(LEAD_KEY_FILE, b"\0" * len(host.read(LEAD_KEY_FILE) or b""))
    assert not Trust.load(host).may_lead


@pytest.mark.parametrize("share", [1, 100, 200])
def test_a_cut_in_the_middle_of_forgetting_counts_as_forgotten(share: int, host: Host) -> None:
    key = host.read(LEAD_KEY_FILE) or b""
    for torn in (bytes(share) + key[share:], key[:share] + bytes(len(key) - share)):
        host.write(LEAD_KEY_FILE, torn, 0o600)
        assert not Trust.load(host).may_lead
    Trust.load(host).drop_issuer(host)
    assert not host.exists(LEAD_KEY_FILE)


def test_a_split_card_leads_or_joins(tmp_path: Path, card: bytes) -> None:
    hosts = [node(tmp_path / "1", card), node(tmp_path / "2", fleet_file.for_workers(card))]
    leader, worker = (import_card(host, StateFile(host)) for host in hosts)
    assert (leader.may_lead, worker.may_lead) == (True, False)
    with pytest.raises(FleetError, match="worker's card"):
        worker.leaf("server", pki.new_key().public_key())


def test_the_node_key_is_made_once(host: Host) -> None:
    first = NodeKey.load_or_create(host)
    assert NodeKey.load_or_create(host).node_id == first.node_id
    assert host.mode(node_key.PATH) == 0o600
    assert "PRIVATE" not in repr(first)
    host.write(node_key.PATH, b"", 0o600)
    with pytest.raises(FleetError, match="damaged"):
        NodeKey.load_or_create(host)


def test_secrets_are_not_in_reprs(trust: Trust) -> None:
    assert repr(trust.beacon_key) not in repr(trust)
    assert "PrivateKey" not in repr(trust)


def test_the_kept_file_has_the_root_key_and_the_card_has_not() -> None:
    kept, card = fleet_file.make("home")
    assert kept.count(b"BEGIN PRIVATE KEY") == 3
    assert card.count(b"BEGIN PRIVATE KEY") == 2
    assert b"root key" in kept.splitlines()[1]
