"""What is not exactly as agreed is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.trust import wire


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff", b'{"a":1,"a":1}', b"NaN", b"[Infinity]", b"1.0", b"1e3",
        b"9007199254740993", b"9" * 5000, b"[" * 8 + b"]" * 8, b"[" * 100_000,
        b"[1]" + b" " * 200_000,
        b'{"a":{"b":{"c":{"d":{"e":{"f":{"g":1}}}}}}}', b"\xef\xbb\xbf{}",
    ],
    ids=lambda data: repr(data[:24]),
)  # fmt: skip
def test_odd_json_is_refused(data: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.loads(data, 128 * 1024)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = wire.loads(data, 1000)
    except wire.Malformed:
        return
    assert json.loads(data) == value


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (wire.endpoint, ["10.0.0.1:6443", "[fd00::1]:6443"],
         ["10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "fd00::1:6443", "a:1", "10.0.0.1:6443\n",
          "[10.0.0.1]:1", "10.0.0.1:06443", ":1", "1.2.3.4:٣", 5]),
        (wire.node_name, ["a", "pi-1", "a" * 63], ["", "-a", "a-", "A", "a.b", "a" * 64, "a\n", 1]),
        (wire.node_id, ["n-abcdefghij234567"], ["n-abcdefghij23456", "n-ABCDEFGHIJ234567", "x"]),
        (wire.address, ["10.0.0.1", "fe80::1"], ["fe80::1%eth0", "10.0.0.01", "", 1, "1" * 50]),
        (wire.flag, [True, False], [0, 1, "true", None]),
        (wire.integer(0, 5), [0, 5], [-1, 6, True, "1", None]),
        (wire.array(wire.flag, 1, 2), [[True], [True, False]], [[], [True] * 3, [1], True]),
        (wire.binary(4), ["", "AAAA"], ["A", "AA==AA", "A A=", "AB==", "AA===", "A" * 100, 3]),
    ],
)  # fmt: skip
def test_checks(check: wire.Check, good: list[object], bad: list[object]) -> None:
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(wire.Malformed):
            check(value)


@pytest.mark.parametrize("value", [{}, {"c": 1}, {"a": 1}, [], None, {"a": True, "b": 1}])
def test_records_have_their_keys(value: object) -> None:
    with pytest.raises(wire.Malformed):
        wire.record(value, {"a": wire.flag}, {"b": wire.flag})


def test_other_keys_are_ignored_but_where_nothing_is_proved_yet() -> None:
    assert wire.record({"a": True, "c": 1}, {"a": wire.flag}, {"b": wire.flag}) == {"a": True}
    with pytest.raises(wire.Malformed):
        wire.exact({"a": True, "c": 1}, {"a": wire.flag})


@pytest.mark.parametrize("length", range(70))
def test_what_is_cut_short_is_told_from_what_is_wrong(length: int) -> None:
    whole = json.dumps({"a": {'"': '\\ } " {'}, "b": [{"c": "}"}, {}], "d": "\\"}).encode()
    if length < len(whole):
        with pytest.raises(wire.Malformed, match="cut short"):
            wire.loads(whole[:length], 100)
    for wrong in (b"x" + whole, whole + b"x", whole.replace(b"a", b"\0")):
        with pytest.raises(wire.Malformed, match="not JSON"):
            wire.loads(wrong, 100)


def test_to_see_that_it_is_cut_short_takes_no_longer_with_more_quotes() -> None:
    with pytest.raises(wire.Malformed, match="cut short"):
        wire.loads(b'{"a": "' + b'\\"' * 1_000_000, 4_000_000)
