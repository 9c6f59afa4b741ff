"""The files of a fleet on the user's computer: what is in which, and that none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.errors import Refused
from nodeagent.imaging import fleet_files, fleet_new
from nodeagent.trust import fleet_file, pki, store, wire
from nodeagent.trust.node_key import NodeKey, node_id
from tests.support import keytraces


def files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ((), {"home.fleet", "nodeagent.fleet"}),
        (("--split",),
         {"home.fleet", "control-plane/nodeagent.fleet", "worker/nodeagent.fleet"}),
    ],
    ids=["identical", "split"],
)  # fmt: skip
def test_the_command_writes_files_for_their_owner_only(
    split: tuple[str, ...], names: set[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, ["fleet", "new", "home", "--out", str(tmp_path), *split])
    assert done.exit_code == 0, done.output
    made = files(tmp_path)
    assert set(made) == names
    assert {path.stat().st_mode & 0o777 for path in made.values()} == {0o600}
    for name in names:
        assert str(tmp_path / name) in done.output
    before = {name: path.read_bytes() for name, path in made.items()}
    again = CliRunner().invoke(main, ["fleet", "new", "home", "--out", str(tmp_path), *split])
    assert again.exit_code != 0
    assert {name: path.read_bytes() for name, path in files(tmp_path).items()} == before


def test_one_file_in_the_way_and_none_is_written(tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / fleet_file.NAME).write_bytes(b"of another fleet")
    with pytest.raises(Refused, match="already there"):
        fleet_new.create("home", tmp_path, split=True)
    assert set(files(tmp_path)) == {f"worker/{fleet_file.NAME}"}


@pytest.mark.parametrize("name", ["", "Home", "a b", "../home", "-home", "h" * 33, "nodeagent"])
def test_bad_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        fleet_new.create(name, tmp_path)
    assert not files(tmp_path)


def test_the_card_of_a_leader_leads_and_a_worker_s_only_asks() -> None:
    made = fleet_new.card_files(fleet_file.make("home")[1], split=True)
    leader, worker = (store.from_card(fleet_file.parse(data)) for data in made.values())
    assert (leader.may_lead, worker.may_lead) == (True, False)
    assert leader.anchors == worker.anchors
    assert leader.beacon_key == worker.beacon_key
    key = NodeKey(pki.new_key())
    shown = [pki.cert_der(cert) for cert in worker.leaf("client", key.public)]
    assert node_id(leader.anchors.node_key(shown)) == key.node_id


@pytest.mark.parametrize(("split", "said", "kept"), [(False, 3, None), (True, 1, 1), (True, 3, 3)])
def test_split_cards_say_how_many_may_lead(
    split: bool, said: int, kept: int | None, tmp_path: Path
) -> None:
    """Without it a board that may lead could not tell how many votes are more than half."""
    fleet_new.create("home", tmp_path, split, lead_cards=said)
    whole = fleet_files.read(tmp_path / "home.fleet")
    assert whole.card.lead_cards == kept
    card = fleet_file.parse(whole.card_file("control-plane"))
    assert card.lead_cards == store.from_card(card).lead_cards == kept
    imported = fleet_file.parse(fleet_file.dump(card))
    assert imported.lead_cards == kept


def test_a_workers_card_never_held_the_control_plane_issuer() -> None:
    kept, full = fleet_file.make("home")
    keys = keytraces.secrets(kept)
    assert set(keys) == {"root", "control_plane", "enrol", "beacon_key"}
    found = {trace.key for trace in keytraces.search(fleet_file.for_workers(full), keys)}
    assert found == {"enrol", "beacon_key"}
    # The control: in the full card the tool finds it, and the root's key nowhere but in the kept.
    assert {t.key for t in keytraces.search(full, keys)} == {*found, "control_plane"}
    assert {t.key for t in keytraces.search(kept, keys)} == set(keys)


def test_only_a_whole_card_can_be_made_a_workers() -> None:
    kept, full = fleet_file.make("home")
    for wrong in (kept, full[:500], b""):
        with pytest.raises(wire.Malformed):
            fleet_file.for_workers(wrong)
    once = fleet_file.for_workers(full)
    assert fleet_file.for_workers(once) == once
