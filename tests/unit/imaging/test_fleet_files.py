"""What `nodeagent fleet show` tells of a fleet's files, and that no key is in it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.errors import FleetError, Refused
from nodeagent.imaging import fleet_files
from nodeagent.trust import fleet_file

KEPT, FULL = fleet_file.make("home")
FILES = {"kept": KEPT, "card": FULL, "worker": fleet_file.for_workers(FULL)}
HOLDS = {
    "kept": "root key, control-plane issuer, enrol issuer, beacon key",
    "card": "control-plane issuer, enrol issuer, beacon key",
    "worker": "enrol issuer, beacon key",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Each of a fleet's files, under its kind."""
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def show(path: Path) -> str:
    done = CliRunner().invoke(main, ["fleet", "show", str(path)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", FILES)
def test_it_says_what_the_file_is_and_holds(name: str, place: Path) -> None:
    said = show(place / name)
    card = fleet_file.parse(FULL)
    assert "home" in said and card.fleet_id in said
    assert f"holds:  {HOLDS[name]}\n" in said


@pytest.mark.parametrize("name", FILES)
def test_no_line_of_it_has_a_secret(name: str, place: Path) -> None:
    said = show(place / name)
    card = fleet_file.parse(FULL)
    assert base64.b64encode(card.beacon_key).decode() not in said
    for line in FILES[name].replace(b"\\n", b"\n").decode().splitlines():
        if len(line) >= 40 and not line.startswith("#"):
            assert line.strip() not in said


def test_a_file_that_others_may_read_is_told(place: Path) -> None:
    assert "chmod 600" not in show(place / "kept")
    (place / "kept").chmod(0o644)
    assert "chmod 600" in show(place / "kept")


def test_the_card_file_can_be_made_again_from_the_kept_file() -> None:
    assert fleet_file.from_kept(KEPT) == FULL


SPOILT = {
    "empty": b"",
    "cut": KEPT[:900],
    "text": b"# nothing\n",
    "scrubbed": fleet_file.scrub_text("home", len(FULL), 0),
    "another root": KEPT.replace(fleet_file.parse(FULL).fleet_id.encode(), b"f-aaaaaaaaaaaaaaaa"),
    "long": KEPT + b" " * fleet_file.MAX_BYTES,
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_no_fleet_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(SPOILT[name])
    done = CliRunner().invoke(main, ["fleet", "show", str(path)])
    assert done.exit_code == FleetError.exit_code
    assert "NAME.fleet" in done.output or "fleet new" in done.output


def test_each_role_gets_its_card(place: Path) -> None:
    for name in ("kept", "card"):
        fleet = fleet_files.read(place / name)
        assert fleet.card_file(None) == fleet.card_file("control-plane") == FULL
        assert fleet.card_file("worker") == FILES["worker"]
    worker = fleet_files.read(place / "worker")
    assert worker.card_file("worker") == worker.card_file(None) == FILES["worker"]
    with pytest.raises(Refused, match="cannot lead"):
        worker.card_file("control-plane")
