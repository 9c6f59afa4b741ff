"""Does an nftables ruleset close a port? Read from ``nft -j list ruleset`` (libnftables-json(5)).

What is read: ports, protocols, interfaces and a connection's state, compared by "equal". A rule
that may accept for any other reason makes the answer unclear, never closed. A drop in a base chain
is final: no other table can take it back (nft(8), "Verdict statement").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Place = tuple[str, str, str]  # family, table and name of a chain
Rules = dict[Place, list[list[Any]]]
# What is known of the first packet of an IPv4 connection, in nft's words: "tcp dport", "ct state".
# "meta l4proto", tcp or udp, is always known.
Packet = Mapping[str, Any]
OTHER = ("tcp", "udp", "icmp", "icmpv6", "ip6")


def closing(document: Any, hook: str, packet: Packet) -> dict[Place, bool]:
    """The base chains of a hook (``input``, ``forward``) that surely drop the packet (True), or
    may drop it (False). ``document``: the decoded JSON."""
    bases: dict[Place, str] = {}
    rules: Rules = {}
    for entry in document.get("nftables", []) if isinstance(document, dict) else []:
        match entry:
            case {"chain": {"family": "ip" | "inet" as f, "table": t, "name": n} as chain}:
                if chain.get("hook") == hook and chain.get("type") == "filter":
                    bases[f, t, n] = chain.get("policy", "accept")
            case {"rule": {"family": f, "table": t, "chain": n, "expr": list(rule)}}:
                rules.setdefault((f, t, n), []).append(rule)
    found = {}
    for place, policy in bases.items():
        met = set(_verdicts(rules, place, packet))
        # The order is not looked at: a rule that surely accepts was put in for this packet.
        if (policy == "drop" or ("drop", True) in met) and ("accept", True) not in met:
            found[place] = ("accept", False) not in met
    return found


def _verdicts(rules: Rules, place: Place, packet: Packet) -> Iterator[tuple[str, bool]]:
    """``accept`` or ``drop`` for each verdict in a chain that the packet may meet; True where the
    rule surely matches. A statement that is not understood may accept."""
    for rule in rules.get(place, []):
        sure = True
        for statement in rule:
            match statement:
                case {"match": {"op": "==" | "in", "left": left, "right": right}}:
                    holds = _holds(left, right, packet)
                    if holds is False:
                        break
                    sure = sure and holds is True
                case {"vmap": {"key": left, "data": right}}:
                    if _holds(left, right, packet) is False:
                        break
                    yield "accept", False
                    sure = False
                case {"match": _} | {"limit": _}:
                    sure = False
                case {"accept": _}:
                    yield "accept", sure
                case {"drop": _} | {"reject": _} | {"xt": {"type": "target", "name": "REJECT"}}:
                    yield "drop", sure
                case {"jump": {"target": str(name)}}:  # the kernel refuses circles
                    inner = _verdicts(rules, (place[0], place[1], name), packet)
                    yield from ((verdict, sure and surely) for verdict, surely in inner)
                case {"counter": _} | {"log": _} | {"mangle": _}:
                    pass
                case _:
                    yield "accept", False
                    sure = False


def _holds(left: Any, right: Any, packet: Packet) -> bool | None:
    """Whether the packet has one of the values on the right; None where that is not known."""
    match left:
        case {"payload": {"protocol": word, "field": what}}:
            if word in OTHER and word != packet["meta l4proto"]:
                return False  # the packet has no such header
        case {"meta": {"key": what}} | {"ct": {"key": what}}:
            word = next(iter(left))
        case _:
            return None
    return _among(packet.get(f"{word} {what}"), right)


def _among(value: Any, right: Any) -> bool | None:
    match right:
        case [one, dict()]:  # an entry of a verdict map
            return _among(value, one)
        case {"set": [*members]} | [*members]:
            answers = {_among(value, member) for member in members}
            return True if True in answers else None if None in answers else False
        case {"range": [int(first), int(last)]} if isinstance(value, int):
            return first <= value <= last
        case int() | str() if type(right) is type(value) and not set("@*") & set(str(right)):
            return bool(right == value)
    return True if value is not None and right == value else None
