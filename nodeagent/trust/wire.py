"""Strict JSON for everything that comes from another process or machine.

RFC 8259 leaves duplicate keys, huge numbers and depth to the reader; two readers that differ are
how forged messages pass. Here each of these is an error. Unknown keys are ignored, so that formats
can grow (``nodeagent/formats.py``), but in the header of a signed message: it is read before
anything is proved.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from nodeagent import formats

MAX_DEPTH = 6
COMPACT = r"[A-Za-z0-9_.-]+"  # a compact JWS or JWE (RFC 7515 7.1, RFC 7516 7.1)
MAX_INTEGER = 2**53  # RFC 8259 6: larger ones are not read alike everywhere

Check = Callable[[Any], Any]


class Malformed(ValueError):
    """The message is not of the agreed shape; the text says where, never what stood there."""


def base64url(data: bytes) -> str:
    """base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def loads(data: bytes | str, limit: int) -> Any:
    """Parse JSON of at most ``limit`` bytes. Raises Malformed."""
    if len(data) > limit:
        raise Malformed(f"longer than {limit} bytes")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse,
            parse_float=_refuse,
            parse_int=_integer,
        )
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        short = formats.cut_short(raw)
        raise Malformed("it is cut short" if short else "not JSON in UTF-8") from error
    _measure(value, MAX_DEPTH)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Malformed("a key stands twice")
    return value


def _refuse(text: str) -> NoReturn:
    raise Malformed("a number that is not a whole number")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise Malformed("a number out of range")
    return int(text)


def _measure(value: Any, left: int) -> None:
    if left < 0:
        raise Malformed("nested too deeply")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        _measure(item, left - 1)


def record(value: Any, required: Mapping[str, Check], optional: Mapping[str, Check] = {}) -> Any:
    """An object's known keys, each value checked; others are ignored. Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed("an object expected")
    missing = required.keys() - value.keys()
    if missing:
        raise Malformed(f"{len(missing)} keys missing")
    checked = {}
    for name, check in {**required, **optional}.items():
        if name in value:
            try:
                checked[name] = check(value[name])
            except Malformed as error:
                raise Malformed(f"`{name}`: {error}") from error
    return checked


def exact(value: Any, required: Mapping[str, Check]) -> Any:
    """As ``record``, but another key is an error too. Raises Malformed."""
    checked = record(value, required)
    if len(value) > len(checked):
        raise Malformed(f"{len(value) - len(checked)} keys unknown")
    return checked


@dataclass(frozen=True)
class Form:
    """A format of ours: its name at the beginning of a sentence, the version that is written and
    read, its keys. A key that is added later is optional, and whoever reads it has a default.
    ``oldest``: the first version that is still read."""

    what: str
    version: int
    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)
    remedy: str = formats.ON_ALL_NODES
    key: str = formats.KEY
    oldest: int = 1

    def read(self, value: Any, what: str = "") -> Any:
        """The known keys of an object in this format, checked. ``what``: a better name. Raises
        Malformed, OtherVersion."""
        if not isinstance(value, dict):
            raise Malformed("an object expected")
        try:
            formats.check(
                value.get(self.key), what or self.what, self.version, self.remedy, self.oldest
            )
        except ValueError as error:
            raise Malformed(str(error)) from error
        return record(value, self.required, self.optional)

    def stamp(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content with the version before it."""
        return {self.key: self.version, **content}


def text(pattern: str, longest: int) -> Check:
    """A string of at most ``longest`` characters that matches ``pattern`` from end to end."""
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not compiled.fullmatch(value):
            raise Malformed("text of another form expected")
        return value

    return check


def either(fixed: str, check: Check) -> Check:
    """That one text, or what passes the check."""
    return lambda value: fixed if value == fixed else check(value)


def sentence(longest: int) -> Check:
    """Words for people, of one line: nothing that steers a terminal or begins a line of a log
    (str.isprintable)."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not value.isprintable():
            raise Malformed("a printable sentence expected")
        return value

    return check


def printable(text: str) -> str:
    """The same with a question mark for each character that ``sentence`` does not take."""
    return "".join(c if c.isprintable() else "?" for c in text)


def integer(lowest: int, highest: int) -> Check:
    """A whole number in a range, both ends allowed."""

    def check(value: Any) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            raise Malformed(f"a whole number from {lowest} to {highest} expected")
        return value

    return check


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Malformed("true or false expected")
    return value


def array(item: Check, fewest: int, most: int) -> Check:
    """A list of ``fewest`` to ``most`` items, each checked; becomes a tuple."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not fewest <= len(value) <= most:
            raise Malformed(f"a list of {fewest} to {most} items expected")
        return tuple(item(entry) for entry in value)

    return check


def binary(longest: int) -> Check:
    """Standard base64 (RFC 4648 4) of at most ``longest`` bytes; becomes bytes."""

    def check(value: Any) -> bytes:
        if not isinstance(value, str) or len(value) > longest * 4 // 3 + 4:
            raise Malformed("base64 expected")
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Malformed("base64 expected") from error
        if base64.b64encode(data).decode() != value:  # spare bits set, or too long by padding
            raise Malformed("base64 in its one spelling expected")
        return data

    return check


def address(value: Any) -> str:
    """An IPv4 or IPv6 address without zone; becomes its canonical text."""
    if not isinstance(value, str) or len(value) > 45 or "%" in value:
        raise Malformed("an IP address expected")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise Malformed("an IP address expected") from error


def endpoint(value: Any) -> str:
    """``10.0.0.1:6443`` or ``[fd00::1]:6443`` (RFC 3986 3.2.2 host and port)."""
    if not isinstance(value, str):
        raise Malformed("ADDRESS:PORT expected")
    host, _, port_text = value.rpartition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port_text) or int(port_text) > 65535:
        raise Malformed("ADDRESS:PORT expected")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (":" in bare) != (bare != host):
        raise Malformed("ADDRESS:PORT expected")
    address(bare)
    return value


def network(value: Any) -> str:
    """``10.244.0.0/16`` or ``fd00:10:244::/56`` (CIDR notation, RFC 4632)."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f.:]{2,39}/[0-9]{1,3}", value):
        raise Malformed("ADDRESS/BITS expected")
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise Malformed("ADDRESS/BITS expected") from error


NODE_ID = r"n-[a-z2-7]{16}"
node_id = text(NODE_ID, 18)
fleet_id = text(r"f-[a-z2-7]{16}", 18)
# RFC 1123 2.1 label: what Kubernetes takes as a node name and DNS as a host name.
node_name = text(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", 63)
port = integer(1, 65535)
