"""Does an nftables ruleset let a new connection in? Read from ``nft -j list ruleset``
(libnftables-json(5)); rules that are not understood make the answer unclear, never wrong.

A drop in any base chain is final: nothing in another table can take it back (nft(8), "Verdict
statement"). So no rule of ours could open what such a chain closes; it can only be seen.
"""

from __future__ import annotations

import enum
import fnmatch
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Statements that let the packet go on, and verdicts.
PASSING = frozenset({
    "counter", "log", "mangle", "notrack", "ct helper", "ct timeout",
    "accept", "drop", "reject", "return", "queue", "jump", "goto",
})  # fmt: skip
MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE, linux/netfilter/nf_tables.h


class Verdict(enum.Enum):
    """What becomes of a packet."""

    OPEN = "open"
    CLOSED = "closed"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Packet:
    """The first packet of a new IPv4 connection. ``hook``: ``input`` or ``forward``. Empty:
    not known."""

    hook: str
    interface: str
    protocol: str
    port: int
    out: str = ""
    source: str = ""
    destination: str = ""


# Family, table and name of a chain or set.
Place = tuple[str, str, str]


@dataclass(frozen=True)
class Ruleset:
    """Chains, rules and named sets, by place."""

    chains: dict[Place, dict[str, Any]]
    rules: dict[Place, list[list[Any]]]
    sets: dict[Place, list[Any]]


def parse(document: Any, without: Iterable[tuple[str, str]] = ()) -> Ruleset:
    """The ruleset of a decoded JSON document. ``without``: (family, table) that others look
    after."""
    found = Ruleset({}, {}, {})
    passed = set(without)
    for entry in document.get("nftables", []) if isinstance(document, dict) else []:
        match entry:
            case {"chain": {"family": f, "table": t, "name": n} as chain} if (f, t) not in passed:
                found.chains[f, t, n] = chain
            case {"rule": {"family": f, "table": t, "chain": n, "expr": list(expr)}}:
                found.rules.setdefault((f, t, n), []).append(expr)
            case {"set": {"family": f, "table": t, "name": n} as named}:
                found.sets[f, t, n] = named.get("elem", [])
    return found


def answers(ruleset: Ruleset, packet: Packet) -> dict[Place, Verdict]:
    """What each base chain on the packet's way does with it."""
    return {
        place: _Walk(ruleset, packet).base(place, chain.get("policy", "accept"))
        for place, chain in ruleset.chains.items()
        if chain.get("hook") == packet.hook
        and chain.get("type") == "filter"
        and place[0] in ("ip", "inet")
    }


def verdict(ruleset: Ruleset, packet: Packet) -> Verdict:
    """What the ruleset does with the packet: the worst that one of its base chains does."""
    said = answers(ruleset, packet).values()
    worst = (one for one in (Verdict.CLOSED, Verdict.UNCLEAR) if one in said)
    return next(worst, Verdict.OPEN)


class _Walk:
    """One packet on its way through one base chain. ``doubt``: a rule that may have accepted."""

    def __init__(self, ruleset: Ruleset, packet: Packet) -> None:
        self.ruleset, self.packet = ruleset, packet
        self.doubt = False

    def base(self, place: Place, policy: str) -> Verdict:
        """The verdict of a base chain with its policy."""
        end = self.chain(place, 0) or policy
        if end != "drop":
            return Verdict.OPEN
        return Verdict.UNCLEAR if self.doubt else Verdict.CLOSED

    def chain(self, place: Place, depth: int) -> str | None:
        """``accept``, ``drop``, or None where the chain comes to its end."""
        if depth > MAX_DEPTH:
            return None
        for rule in self.ruleset.rules.get(place, []):
            end = self.rule(rule, place, depth)
            if end == "return":
                return None
            if end is not None:
                return end
        return None

    def rule(self, rule: list[Any], place: Place, depth: int) -> str | None:
        """What one rule decides, None where it does not."""
        sure = True
        for statement in rule:
            holds = self.holds(statement, place)
            if holds is False:
                return None
            sure = sure and holds is True
            for end in self.decisions(statement, place):
                decided = self.decide(end, place, depth)
                if sure or decided is None:
                    return decided
                # Drops that may match are for others than this node's peers: bans, limits.
                self.doubt = self.doubt or decided == "accept"
                return None
        return None

    def decide(self, end: Any, place: Place, depth: int) -> str | None:
        """A verdict statement as a word."""
        match end:
            case {"accept": _} | {"queue": _}:
                return "accept"
            case {"drop": _} | {"reject": _} | {"xt": {"type": "target", "name": "REJECT"}}:
                return "drop"
            case {"return": _}:
                return "return"
            case {"jump": {"target": str(name)}}:
                return self.chain((place[0], place[1], name), depth + 1)
            case {"goto": {"target": str(name)}}:
                return self.chain((place[0], place[1], name), depth + 1) or "return"
        return None

    def decisions(self, statement: Any, place: Place) -> Iterator[Any]:
        """The verdict in a statement, or in the verdict map that it looks up."""
        match statement:
            case {"vmap": {"key": key, "data": {"set": list(pairs)}}}:
                value = self.value(key)
                known = [pair for pair in pairs if isinstance(pair, list) and len(pair) == 2]
                yield from (end for key, end in known if _within(value, key) is not False)
            case {"accept": _} | {"drop": _} | {"reject": _} | {"return": _} | {"queue": _}:
                yield statement
            case {"jump": _} | {"goto": _} | {"xt": {"type": "target", "name": "REJECT"}}:
                yield statement

    def holds(self, statement: Any, place: Place) -> bool | None:
        """Whether the packet goes on past this statement; None where that is not known."""
        match statement:
            case {"match": {"op": op, "left": left, "right": right}}:
                if isinstance(right, str) and right.startswith("@"):
                    right = self.ruleset.sets.get((place[0], place[1], right[1:]))
                value = self.value(left)
                return False if value is False else _compare(op, value, right)
            case {"vmap": {"key": key}}:
                return None if self.value(key) is None else True
            case {"xt": {"type": "target", "name": "LOG" | "REJECT"}}:
                return True
            case dict() if len(statement) == 1:
                return True if next(iter(statement)) in PASSING else None
        return None

    def value(self, left: Any) -> Any:
        """What the packet has there; None where not known, False where it has no such thing."""
        packet = self.packet
        match left:
            case {"payload": {"protocol": "tcp" | "udp" as protocol, "field": field}}:
                if protocol != packet.protocol:
                    return False
                return packet.port if field == "dport" else None
            case {"payload": {"protocol": "th", "field": "dport"}}:
                return packet.port
            case {"payload": {"protocol": "ip", "field": "protocol"}} | {
                "meta": {"key": "l4proto"}
            }:
                return packet.protocol
            case {"payload": {"protocol": "ip", "field": "saddr"}}:
                return packet.source or None
            case {"payload": {"protocol": "ip", "field": "daddr"}}:
                return packet.destination or None
            case {"payload": {"protocol": "ip6" | "icmp" | "icmpv6"}}:
                return False
            case {"meta": {"key": "iif" | "iifname"}}:
                return packet.interface
            case {"meta": {"key": "oif" | "oifname"}}:
                return packet.out
            case {"meta": {"key": "nfproto"}}:
                return "ipv4"
            case {"ct": {"key": "state"}}:
                return "new"
        return None


def _compare(op: Any, value: Any, right: Any) -> bool | None:
    within = _within(value, right)
    if op in ("==", "in"):
        return within
    if op == "!=" and within is not None:
        return not within
    return None


def _within(value: Any, right: Any) -> bool | None:
    """Whether ``right`` (a value, list, set or range) holds the value; None where not known."""
    if value is None or right is None:
        return None
    match right:
        case {"set": list(members)} | list(members):
            answers = [_within(value, member) for member in members]
            return True if True in answers else None if None in answers else False
        case {"range": [first, last]} if isinstance(value, int):
            return bool(first <= value <= last) if isinstance(first, int) else None
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            try:
                network = ipaddress.ip_network(f"{address}/{length}", strict=False)
                return ipaddress.ip_address(value) in network
            except ValueError:
                return None
        case {"elem": {"val": member}}:
            return _within(value, member)
        case str(pattern) if isinstance(value, str):
            return fnmatch.fnmatchcase(value, pattern)
        case str() | int():
            return bool(value == right)
    return None
