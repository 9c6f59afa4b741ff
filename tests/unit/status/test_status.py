"""The status model and what people see of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import jsonschema
import pytest

from nodeagent import paths, steps
from nodeagent.agent.reporter import Reporter
from nodeagent.errors import Blocked, CommandFailed
from nodeagent.fleet.beacon import Beacon
from nodeagent.fleet.peers import Roster
from nodeagent.fleet.sight import Heard
from nodeagent.host.host import Clock, Host
from nodeagent.status import model, schema
from nodeagent.status import text as statustext
from tests.support.statuses import CHECK, FULL, SCHEMA

NO_SLEEP = Clock(sleep=lambda seconds: None)


@pytest.fixture
def board(tmp_path: Path) -> Reporter:
    """A board on a folder."""
    ticks = iter(float(n) for n in range(1000, 9999))
    return Reporter(Host(tmp_path, clock=Clock(now=lambda: next(ticks))))


def published(board: Reporter) -> Any:
    """What the file says."""
    return model.parse((board._host.root / "run/nodeagent/status.json").read_bytes())


def test_a_phase_is_written_once_with_its_time(board: Reporter) -> None:
    board.enter("electing", "Listening")
    board.enter("electing", "Holding down")
    shown = published(board)
    assert (shown["phase"], shown["detail"]) == ("electing", "Holding down")
    assert [entry["phase"] for entry in shown["phases"]] == ["preparing", "electing"]


def test_trouble_shows_code_reason_and_remedy_and_goes_with_the_next_phase(board: Reporter) -> None:
    board.trouble(Blocked("The clock is not set.", "Wait."), failed=True)
    shown = published(board)
    assert shown["phase"] == "failed"
    assert shown["error"] == {"code": "E100", "reason": "The clock is not set.", "remedy": "Wait."}
    assert "do: Wait." in statustext.render(shown, 1061.0)
    board.enter("preparing", "Going on")
    assert published(board)["error"] is None


def test_status_is_world_readable(board: Reporter) -> None:
    board.enter("ready")
    assert board._host.mode(paths.STATUS) == 0o644


@pytest.mark.parametrize(
    ("phase", "code"), [("ready", 0), ("joining", 1), ("failed", 2), ("unheard-of", 2)]
)
def test_exit_codes(phase: str, code: int) -> None:
    assert model.exit_code({**model.empty(), "phase": phase}) == code


def test_rendering_fits_80_columns() -> None:
    shown: schema.Status = {
        **model.empty(),
        "phase": "preparing",
        "node_name": "pi-0a1b2c",
        "since": 1000.0,
        "steps": [{"name": "cgroup", "title": "x" * 58, "state": "done", "seconds": 1234.5}],
        "peers": [
            {
                "node_id": "n-a",
                "since": 1000.0,
                "name": "pi-99ffee",
                "phase": "initialising",
                "role": "control-plane",
                "address": "255.255.255.255",
                "heard": 1000.0,
            }
        ],
    }
    text = statustext.render(shown, now=1061.0)
    assert text.startswith("pi-0a1b2c: preparing for 1 min 1 s\n")
    assert max(len(line) for line in text.splitlines()) <= 80


def test_no_title_of_a_step_is_cut_short() -> None:
    for step in steps.SEQUENCE:
        shown: schema.Status = {**model.empty(), "steps": [
            {"name": step.name, "title": step.title, "state": "done", "seconds": 1.0}]}  # fmt: skip
        assert step.title in statustext.render(shown, 1061.0)


def test_an_error_names_the_command_that_explains_it() -> None:
    error: schema.Error = {"code": "E105", "reason": "No mirror.", "remedy": "Look."}
    text = statustext.render({**model.empty(), "error": error}, 1061.0)
    assert "  more: nodeagent explain E105\n" in text


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"version":'])
def test_a_damaged_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        model.parse(data)


def test_json_round_trip() -> None:
    assert model.parse(json.dumps(model.empty()).encode()) == model.empty()


PEER = Beacon(
    node_id="n-aaaaaaaaaaaaaaaa", boot="00112233", name="pi-2", phase="joining", role="worker",
    fitness=(1,), epoch=0, claim=False, ready=False, expected=0, address="10.0.0.8", port=6444,
    seq=1,
)  # fmt: skip


def test_what_the_agent_writes_fits_the_schema(board: Reporter) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    CHECK.validate(model.empty())
    board.enter("discovering", "It waits.", until=5000.4)
    board.trouble(Blocked("The clock is not set.", "Wait.", within=30.0), failed=False)
    CHECK.validate(published(board))
    board.meet(Roster(), [Heard(PEER, time.monotonic(), time.monotonic())])
    board.pulled(1, 4, "registry.k8s.io/pause:3.10")
    board.take_stock({
        "versions": {"nodeagent": "1"},
        "certificates": [{"name": "/a.crt", "expires": 5.0, "renewal": "never"}],
        "hardware": [{"name": "power", "level": "warning", "text": "low", "remedy": "Cable."}],
    })  # fmt: skip
    board.trouble(CommandFailed("apt-get ended.", "Wait."), failed=True)
    CHECK.validate(published(board))
    assert published(board)["peers"][0]["name"] == "pi-2"


JSON = {str: "string", int: "integer", float: "number", bool: "boolean"}


def of_type(kind: Any) -> Any:
    """The form of a type of the model: keys, lists, what may be null, and what JSON calls it."""
    if is_typeddict(kind):
        return {name: of_type(inside) for name, inside in get_type_hints(kind).items()}
    inside = get_args(kind)
    if type(None) in inside:
        return [of_type(inside[0]), None]
    if get_origin(kind) is list:
        return [of_type(inside[0])]
    return {str: of_type(inside[1])} if get_origin(kind) is dict else JSON[kind]


def of_schema(schema: dict[str, Any]) -> Any:
    """The same of a schema."""
    if "anyOf" in schema:
        return [of_schema(schema["anyOf"][1]), of_schema(schema["anyOf"][0])]
    if isinstance(schema.get("type"), list):
        return [schema["type"][0], None]
    if "items" in schema:
        return [of_schema(schema["items"])]
    if "additionalProperties" in schema:
        return {str: of_schema(schema["additionalProperties"])}
    if "properties" in schema:
        return {name: of_schema(inside) for name, inside in schema["properties"].items()}
    given = schema.get("enum", [schema.get("const")])[0]
    kind = schema["type"] if given is None else JSON[type(given)]
    return None if kind == "null" else kind


def test_the_types_are_those_of_the_schema() -> None:
    assert of_type(schema.Status) == of_schema(SCHEMA)


def test_the_schema_knows_every_key_and_phase() -> None:
    assert set(SCHEMA["properties"]) == set(SCHEMA["required"]) == set(model.empty())
    assert set(SCHEMA["properties"]["phase"]["enum"]) == set(model.PHASES)
    CHECK.validate(FULL)


def test_status_is_one_line_of_json(board: Reporter) -> None:
    """Scripts on a node read it with the shell's `read`."""
    board.trouble(Blocked("Two\nlines.", "Wait."), failed=True)
    raw = (board._host.root / "run/nodeagent/status.json").read_text()
    assert "\n" not in raw.rstrip("\n")


@pytest.mark.parametrize("colour", [False, True])
def test_everything_at_once_fits_80_columns(colour: bool) -> None:
    text = statustext.render(FULL, now=1061.0, colour=colour)
    assert ("\x1b[" in text) is colour
    plain = re.sub(r"\x1b\[\d*m", "", text)
    assert "\x1b" not in plain and max(len(line) for line in plain.splitlines()) <= 80
    for words in ("E105", "3 of 12 packages", "39 s at most", "nodeagent approve ABCD", "silent",
                  "valid until 1970-01-01"):  # fmt: skip
        assert words in plain


def test_an_error_stays_known_when_it_is_over(board: Reporter) -> None:
    board.enter("preparing", "Looking")
    board.trouble(CommandFailed("apt-get ended.", "Wait."), failed=True)
    board.enter("preparing", "Looking")
    assert published(board)["last_error"]["over"] is False, "a new try may meet it again"
    board.enter("discovering", "Listening")
    last = published(board)["last_error"]
    assert (last["code"], last["over"]) == ("E101", True)
    assert "last problem (E101" in statustext.render(published(board), 1061.0)


def test_a_wait_with_a_bound_says_until_when(board: Reporter) -> None:
    board.trouble(Blocked("Waiting for the time.", "Wait.", within=90.0), failed=False)
    shown = published(board)
    assert 1000 < shown["waiting"]["until"] < 1200
    board.enter("preparing", "Going on")
    assert published(board)["waiting"] is None


def test_watching_without_a_terminal_says_each_change_once() -> None:
    states: list[schema.Status]
    states = [{**model.empty(), "detail": text} for text in ("one", "one", "two")]
    pieces = statustext.watch(lambda: states.pop(0), False, False, NO_SLEEP)
    said = [next(pieces) for _ in range(2)]
    assert [line.split(" ", 1)[1] for line in said] == ["preparing: one\n", "preparing: two\n"]


def test_watching_outlives_an_agent_that_is_away() -> None:
    def away() -> schema.Status:
        raise FileNotFoundError

    pieces = statustext.watch(away, True, False, NO_SLEEP)
    assert next(pieces).startswith(statustext.CLEAR + "nodeagent is not running.")


def test_a_dead_agent_is_told_by_its_pid() -> None:
    assert model.running({**model.empty(), "pid": 1})
    assert not model.running({**model.empty(), "pid": 2**22 + 1}), "above every pid_max"


def test_the_fleet_goes_from_phase_to_phase() -> None:
    roster = Roster()
    assert roster.update([Heard(PEER, 5.0, 5.0)], 7.0, 1007.0)
    assert not roster.update([Heard(PEER, 5.0, 9.0)], 9.0, 1009.0)
    assert roster.peers[0]["heard"] == 1005.0, "heard moves by half minutes"
    roster.update([Heard(PEER, 5.0, 40.0)], 40.0, 1040.0)
    assert (roster.peers[0]["heard"], roster.peers[0]["since"]) == (1040.0, 1005.0)
    ready = [Heard(Beacon(**{**vars(PEER), "phase": "ready"}), 5.0, 41.0)]
    assert [peer["phase"] for peer in roster.update(ready, 41.0, 1041.0)] == ["ready"]
    assert [moment["phase"] for moment in roster.timeline] == ["joining", "ready"]
    again = Roster(roster.peers, roster.timeline)
    assert not again.update(ready, 42.0, 1042.0), "the keeper goes on where the agent was"
