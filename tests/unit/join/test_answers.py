"""What root takes from the broker and from network processes: one table of all places, and each of
them a strict, bounded record, whatever was put there."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nodeagent.broker import ledger_file
from nodeagent.errors import OtherVersion
from nodeagent.fleet import handoff
from nodeagent.fleet.rivals import Side
from nodeagent.join import approval, broker_protocol, waiting_file
from nodeagent.join.search import No, plain
from nodeagent.trust import wire
from tests.support.machine import Machine, put

PRODUCT = Path(__file__).parents[3] / "nodeagent"
# These read another process's word: a socket's answer, a file in another user's folder, an answer
# from the network. Serve and broker themselves are not root.
DOORS = {
    "broker_protocol.call", "client.call", "call", "client.look_up", "client.look_up_all",
    "Search", "untrusted.read", "untrusted.opened", "read",
}  # fmt: skip
# Every function of root's that goes through one of them, and what bounds and checks the answer.
PLACES = {
    "cli.admissions.ask": "broker_protocol.heard, tested here",
    "fleet.handoff.read_heard": "a Form, tested here; each beacon in it is sealed and proved",
    "join.waiting_file.read": "a Form, tested here",
    "agent.leader_look._look": "rivals.Side, tested here",
    "join.client.ask": "messages.verify_grant; what was refused, through search.plain",
    "join.client._fetch": "no more bytes than a grant; a nonce is ASCII and only given back",
    "join.client.look_up": "which_cluster.verify; what was refused, through search.plain",
    "join.client.look_up_all": "rivals.Side, tested here",
    "join.which_cluster.ask": "which_cluster.verify, signed over the nonce",
    "join.leave.tell": "whether it was heard; what was refused, through search.plain",
    "doctor.report.known": "looked for in what is shown, never shown; 1 file is bounded",
    "doctor.report._beginning": "allow-lists of doctor/harmless.py; bounded",
    "host.untrusted.read": "the door itself",
}
NODE = "n-abcdefghij234567"
ROW = {"name": "pi-2", "node_id": NODE, "source": "10.77.0.12"}
OVERVIEW: dict[str, Any] = {
    "admissions": [{**ROW, "time": 1, "token_id": "abc123"}],
    "claims": [{**ROW, "until": 2}], "left": [{"name": "pi-3", "node_id": NODE, "days": 3}],
    "ahead": 0, "waiting": [{**ROW, "why": "sealed", "first": -5, "last": 4}],
    "approved": [NODE], "revoked": [{"node_id": NODE, "name": "", "time": 5}],
    "by_approval": False, "open": True, "until": 0,
}  # fmt: skip
GOOD: dict[str, Any] = {
    "nodes": OVERVIEW,
    "approve": {"name": "", "source": "", "state": "unheard", "let_back": ["pi-2"]},
    "revoke": {"node_id": NODE, "names": ["pi-2"], "sealed": True},
    "forget": {"forgotten": True, "days": 366, "bar": ["pi-2"], "let_back": []},
    "seal": {"until": 0},
    "refusal": {"status": 409, "error": "No.", "remedy": "Wait."},
    "heard": {
        "v": 1, "own_heard": 5,
        "candidates": [{"address": "10.0.0.1", "port": 1, "beacon": "ab", "first": 1, "last": 2}],
    },
    "waiting": {
        "v": 1, "tokens": [{"name": "pi-2", "expires": 5}],
        "waiting": [{"id": "AAAA-BBBB-CCCC-DDDD", "name": "pi-2", "address": "10.0.0.1",
                     "since": 5}],
    },
    "side": {
        "v": 1, "node_id": NODE, "name": "pi-1", "cluster": "aa" * 32, "epoch": 1, "born": 2,
        "alone": None,
    },
}  # fmt: skip
HOSTILE: tuple[Any, ...] = (
    "\x1b[2J", "a\nb", "a\rb", "a\0", "\u202eabc", "x" * 5000, "../../etc/shadow", "--all x",
    "pi 2", -(2**60), 2**50, 1.5, [], {}, ["\x1b"], {"x": 1}, [[]] * 5000, [None],
)  # fmt: skip
OPTIONAL = {"claims", "left", "ahead", "remedy", "tokens"}


def _function(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call):
                    yield node.name, inner


def test_every_place_is_in_the_table() -> None:
    found = set()
    for path in PRODUCT.rglob("*.py"):
        module = ".".join(path.relative_to(PRODUCT).with_suffix("").parts)
        if module.startswith(("serve.", "broker.")):
            continue
        text = path.read_text()
        for function, call in _function(ast.parse(text)):
            name = ast.unparse(call.func)
            alone = name in {"call", "read"} and module not in {"join.client", "host.untrusted"}
            opens = name == "opened" and module == "host.untrusted"
            if (name in DOORS and not alone) or opens:
                found.add(f"{module}.{function}")
    found -= {"join.client.call", "join.client.one", "join.leave.exchange", "join.client.exchange"}
    assert found == PLACES.keys()


def _take(kind: str, folder: Path, said: Any) -> bool:
    """Whether root takes it."""
    data = json.dumps(said).encode()
    machine = Machine(folder)
    try:
        if kind == "heard":
            put(folder, {handoff.HEARD: data})
            return handoff.read_heard(machine) != (None, ())
        if kind == "waiting":
            put(folder, {waiting_file.PATH: data})
            return waiting_file.read(machine) != ([], [])
        if kind == "side":
            Side.from_json(data)
        else:
            op = "seal" if kind == "refusal" else kind
            broker_protocol.heard(op, wire.loads(data, broker_protocol.MAX_LISTED))
    except (wire.Malformed, OtherVersion):
        return False
    return True


def _changes(value: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Each value inside, by where it is, and what puts another in its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, partial(_with, key)
            for name, change in _changes(inner):
                yield f"{key}.{name}", partial(_inside, key, change)
    elif isinstance(value, list) and value:
        for name, change in _changes(value[0]):
            yield f"0.{name}", partial(_inside, 0, change)
        yield "0", partial(_with, 0)


def _with(key: Any, new: Any) -> Callable[[Any], None]:
    def change(whole: Any) -> None:
        whole[key] = new

    return change


def _inside(key: Any, change: Callable[[Any], Any], new: Any) -> Callable[[Any], None]:
    return lambda whole: change(new)(whole[key])


@pytest.mark.parametrize("kind", GOOD)
def test_each_is_a_strict_and_bounded_record(kind: str, tmp_path: Path) -> None:
    assert _take(kind, tmp_path, GOOD[kind])
    taken = []
    for name, change in _changes(GOOD[kind]):
        for new in HOSTILE:
            said = copy.deepcopy(GOOD[kind])
            change(new)(said)
            empty = new == [] and isinstance(_at(GOOD[kind], name), list)
            if _take(kind, tmp_path, said) and not empty:
                taken.append((name, str(new)[:20]))
    # A sentence may say anything that is one printable line.
    assert [one for one in taken if one[0] not in ("error", "remedy")] == []
    words = {new for name, new in taken}
    assert words <= {"../../etc/shadow", "--all x", "pi 2"}
    for key in GOOD[kind].keys() - OPTIONAL - {"v"}:
        assert not _take(kind, tmp_path, {k: v for k, v in GOOD[kind].items() if k != key}), key
    for other in ([], "x", 1, None, [GOOD[kind]]):
        assert not _take(kind, tmp_path, other)


def _at(value: Any, name: str) -> Any:
    for part in name.split("."):
        value = value[int(part) if part.isdecimal() else part]
    return value


def test_a_full_ledger_can_be_told() -> None:
    assert ledger_file.MAX_NAMES <= broker_protocol.MAX_ROWS
    assert ledger_file.MAX_PEOPLES <= broker_protocol.MAX_ROWS
    assert approval.MAX_WAITING <= broker_protocol.MAX_ROWS
    full = OVERVIEW | {"admissions": OVERVIEW["admissions"] * ledger_file.MAX_NAMES}
    assert len(json.dumps(full)) < broker_protocol.MAX_LISTED
    assert len(broker_protocol.heard("nodes", full)["admissions"]) == ledger_file.MAX_NAMES


def test_an_honest_refusal_is_always_in_the_form_that_is_taken() -> None:
    """The API server words some of them."""
    said = broker_protocol.refusal(503, "kubectl said:\n\x1b[31mno\x1b[0m " + "x" * 9000)
    assert broker_protocol.heard("seal", said) == said
    assert said["error"].startswith("kubectl said: ?[31mno?[0m xxx")


@pytest.mark.parametrize(
    "error", [No("it refused (403): \x1b[2J\r\nroot: all is well"), OSError("a\nb" * 9000)]
)
def test_a_refusal_from_the_network_forges_no_line_of_the_log(error: Exception) -> None:
    told = plain(error)
    assert told.isprintable() and len(told) <= 300
