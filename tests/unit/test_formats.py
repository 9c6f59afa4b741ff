"""Recordings of every format are played against this version (tests/formats)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent import formats, paths, statefile
from nodeagent.broker import ledger
from nodeagent.errors import FleetError, NodeAgentError, OtherVersion, Untrusted
from nodeagent.fleet import handoff
from nodeagent.fleet.neighbours import Neighbours
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file, store, wire
from tests.formats.forms import FOLDER, FORMS, Fleet, Form, plain, seal
from tests.support.machine import Machine
from tests.support.speakers import came

OTHER = r"written by another version of nodeagent \(format {}; this one reads {}\)"
LATER = OTHER.format(2, 1)
NOT_SO = ("damaged", "another fleet", "not sealed by this fleet", "Check the card for faults")
# Objects whose keys are names of something, not of fields.
TABLES = ("facts", "names", "approved", "versions")


def number(folder: Path) -> int:
    """The version that was recorded there."""
    return int(folder.name.removeprefix("v"))


def recorded() -> Iterator[tuple[Path, Form]]:
    """Each recording with its form."""
    for folder in sorted(FOLDER.glob("v*")):
        for form in FORMS.values():
            if (folder / form.file).exists() and number(folder) <= form.version:
                yield folder, form


RECORDED = list(recorded())
FLEETS = {folder: Fleet(folder) for folder, _ in RECORDED}


def parametrized(chosen: list[tuple[Path, Form]]) -> pytest.MarkDecorator:
    """A test of each of these."""
    return pytest.mark.parametrize(
        ("folder", "form"), chosen, ids=lambda one: getattr(one, "name", "")
    )


each = parametrized([one for one in RECORDED if number(one[0]) >= one[1].oldest])
too_old = parametrized([one for one in RECORDED if number(one[0]) < one[1].oldest])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A node."""
    handoff.say_once.cache_clear()
    return Machine(tmp_path / "node")


def play(folder: Path, form: Form, machine: Machine, data: bytes) -> Any:
    """What this version makes of the bytes."""
    return plain(form.read(FLEETS[folder], machine, data))


def content(folder: Path, form: Form) -> Any:
    """What was recorded, as JSON."""
    return form.open(FLEETS[folder], (folder / form.file).read_bytes())


def covers(found: Any, expected: Any) -> bool:
    """True where all that was recorded was read; a later version may read more, by defaults."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and covers(found[name], item) for name, item in expected.items()
        )
    if isinstance(expected, list):
        pairs = zip(found, expected, strict=True)
        return isinstance(found, list) and all(covers(one, other) for one, other in pairs)
    return bool(found == expected)


def more(value: Any) -> Any:
    """The same with a key more in each object, as a later version may write it."""
    if isinstance(value, list):
        return [more(item) for item in value]
    if not isinstance(value, dict):
        return value
    grown = {name: item if name in TABLES else more(item) for name, item in value.items()}
    return {"next": {"a": [1, "x", None]}, **grown, "later": True}


def refused(folder: Path, form: Form, machine: Machine, data: bytes) -> str:
    """The sentence with which the bytes are refused; empty where they count as nothing."""
    try:
        read = play(folder, form, machine, data)
    except NodeAgentError as error:
        return str(error)
    except ValueError as error:
        return str(error)
    assert form.quiet and not any(read or [])
    return ""


def test_there_is_a_recording_of_each() -> None:
    assert {form.name for _, form in RECORDED} == set(FORMS)
    for folder in FLEETS:
        known = {form.file for where, form in RECORDED if where == folder}
        known |= {"keys.json", "expected.json", "card.fleet"}
        assert {path.name for path in folder.iterdir()} == known


@each
def test_as_recorded(folder: Path, form: Form, machine: Machine) -> None:
    expected = json.loads((folder / "expected.json").read_text())[form.name]
    data = (folder / form.file).read_bytes()
    assert covers(play(folder, form, machine, data), expected)
    value = content(folder, form)
    version = value[0] if isinstance(value, list) else value[form.key]
    assert version == number(folder)


@too_old
def test_what_is_not_read_any_more_is_called_so(folder: Path, form: Form, machine: Machine) -> None:
    data = (folder / form.file).read_bytes()
    with pytest.raises(OtherVersion, match=OTHER.format(number(folder), form.version)) as raised:
        play(folder, form, machine, data)
    assert not any(words in str(raised.value) for words in NOT_SO) and raised.value.remedy
    if form.where:
        assert machine.read(form.where) == data, "nothing is lost"


@each
def test_with_keys_more_it_means_the_same(folder: Path, form: Form, machine: Machine) -> None:
    value = content(folder, form)
    grown = [*value, "next", 7] if isinstance(value, list) else more(value)
    read = play(folder, form, machine, form.close(FLEETS[folder], grown))
    expected = json.loads((folder / "expected.json").read_text())[form.name]
    assert covers(read, expected)


@each
def test_with_a_key_less(folder: Path, form: Form, machine: Machine) -> None:
    value = content(folder, form)
    if isinstance(value, list):
        less = form.close(FLEETS[folder], value[:-4])
        assert play(folder, form, machine, less)["vote"] == "", (
            "those that came later have a default"
        )
        less = form.close(FLEETS[folder], value[:-5])
        assert "was not understood" in refused(folder, form, machine, less)
        return
    for name in value:
        less = form.close(FLEETS[folder], {k: v for k, v in value.items() if k != name})
        if name in form.optional or form.name == "journal":
            play(folder, form, machine, less)
            continue
        try:
            said = refused(folder, form, machine, less)
        except (KeyError, TypeError):  # the handover, which a process gives to itself
            assert form.name == "handover"
            continue
        assert "another version" not in said and "another fleet" not in said
        assert said or form.quiet


@each
def test_a_later_version_is_called_so(
    folder: Path, form: Form, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    value = content(folder, form)
    for name in [None] if isinstance(value, list) else [None, *value]:
        later = (
            [form.version + 1, *value[1:]]
            if isinstance(value, list)
            else {**{k: v for k, v in value.items() if k != name}, form.key: form.version + 1}
        )
        data = form.close(FLEETS[folder], later)
        if form.quiet:
            assert refused(folder, form, machine, data) == ""
            continue
        with pytest.raises(
            OtherVersion, match=OTHER.format(form.version + 1, form.version)
        ) as raised:
            play(folder, form, machine, data)
        assert not any(words in str(raised.value) for words in NOT_SO)
        assert raised.value.remedy
        if form.where:
            assert machine.read(form.where) == data, "nothing is lost"
    if form.quiet and form.where:
        assert "another version of nodeagent" in caplog.text


@each
def test_cut_short(folder: Path, form: Form, machine: Machine) -> None:
    data = (folder / form.file).read_bytes().rstrip()
    for length in sorted({0, 1, 30, *range(40, len(data) - 1, max(1, len(data) // 9))}):
        try:
            said = refused(folder, form, machine, data[:length])
        except OSError:
            assert form.name.endswith("the broker")  # the connection ended
            continue
        assert "another version" not in said and "another fleet" not in said
        if form.where and not form.quiet and form.name not in ("handover", "status"):
            assert "cut short" in said
            assert machine.read(form.where) == data[:length], "nothing is overwritten"


@pytest.mark.parametrize("name", ["beacon", "join request", "grant", "farewell"])
def test_of_another_fleet(name: str, machine: Machine, tmp_path: Path) -> None:
    folder, form = [one for one in RECORDED if one[1].name == name][-1]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "card.fleet").write_bytes(fleet_file.make("other")[1])
    (tmp_path / "other" / "keys.json").write_bytes((folder / "keys.json").read_bytes())
    other = Fleet(tmp_path / "other")
    with pytest.raises(Untrusted, match=r"not sealed by this fleet|was not believed"):
        form.read(other, machine, (folder / form.file).read_bytes())


def test_a_node_of_another_version_is_told_of_and_not_taken_for_a_stranger() -> None:
    folder, form = RECORDED[0]
    fleet, value = FLEETS[folder], content(folder, form)
    neighbours = Neighbours(fleet.trust.beacon_key, "", fleet.trust.issuer_point)
    later, foreign = seal(fleet, [2, *value[1:4], {"all": "else"}]).decode(), "A" * 200
    for _ in range(2):
        assert neighbours.update(None, came([later, foreign]), 1.0)[1] == ()
        (told,) = neighbours.other_versions
        assert told.startswith(
            f"A beacon of {value[3]} ({value[1]}) was written by another version"
        )
    now = (folder / form.file).read_text()
    assert neighbours.update(None, came([now]), 2.0)[1] and not neighbours.other_versions
    neighbours.update(None, came([seal(fleet, [3]).decode()]), 3.0)
    assert neighbours.other_versions[0].startswith("A beacon of a node of this fleet was written")


def test_what_a_later_version_added_to_the_state_is_kept(machine: Machine) -> None:
    machine.write(statefile.PATH, b'{"v": 1, "role": "worker", "next": {"a": [1.5]}}')
    StateFile(machine).set(epoch=3)
    assert json.loads(machine.read(statefile.PATH) or b"") == {
        "v": 1, "role": "worker", "epoch": 3, "next": {"a": [1.5]}
    }  # fmt: skip
    ledger.Ledger(machine)
    said = json.loads(machine.read(paths.LEDGER) or b"")
    machine.write(paths.LEDGER, json.dumps({**said, "next": {"a": [1]}}).encode())
    again = ledger.Ledger(machine)
    again.set_seal(again.seal)
    assert json.loads(machine.read(paths.LEDGER) or b"")["next"] == {"a": [1]}


def test_a_journal_without_a_version_is_of_the_first(machine: Machine) -> None:
    machine.write(statefile.PATH, b'{"role": "worker"}')
    assert StateFile(machine).values["role"] == "worker"


def test_a_card_of_a_later_version_stays_on_the_card(machine: Machine, tmp_path: Path) -> None:
    folder, form = next(one for one in RECORDED if one[1].name == "card file")
    data = (folder / form.file).read_bytes()
    later = data.replace(b'"format": 1', b'"format": 2')
    machine.write(store.CARD_FILES[0], later)
    with pytest.raises(OtherVersion, match=f"{store.CARD_FILES[0]} was {LATER.format(2, 1)}"):
        store.import_card(machine, StateFile(machine))
    assert machine.read(store.CARD_FILES[0]) == later
    machine.write(store.CARD_FILES[0], data)
    store.import_card(machine, StateFile(machine))
    machine.write(store.CARD_FILES[0], later)  # a newer card for a node that is in already
    store.import_card(machine, StateFile(machine))
    assert machine.read(store.CARD_FILES[0]) == later
    machine.write(store.CARD_FILES[0], data[:900])
    again = Machine(tmp_path / "again")
    again.write(store.CARD_FILES[0], data[:900])
    with pytest.raises(FleetError, match="cut short"):
        store.import_card(again, StateFile(again))


def test_a_later_reader_reads_this_version() -> None:
    later = wire.Form("A grant", 2, {"a": wire.flag}, {"b": wire.flag})
    assert later.read({"v": 1, "a": True}) == {"a": True}
    assert later.read(later.stamp({"a": True, "b": False})) == {"a": True, "b": False}
    with pytest.raises(wire.Malformed, match="version of its format"):
        later.read({"a": True})


@pytest.mark.parametrize("version", [None, "1", 0, -1, True, 1.0])
def test_what_is_no_version(version: object) -> None:
    with pytest.raises(ValueError, match="does not say the version"):
        formats.check(version, "It")
