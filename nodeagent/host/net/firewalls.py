"""What ufw and firewalld say about themselves, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass

COMMENT = "nodeagent"


@dataclass(frozen=True)
class UfwRule:
    """One IPv4 rule of ours. ``ports``: empty for a rule about addresses."""

    ports: frozenset[int]
    protocol: str
    to: str
    source: str
    routed: bool


def ufw_rules(status: str) -> tuple[UfwRule, ...]:
    """The rules with our comment in the answer of ``ufw status`` (ufw(8)). Its columns are at
    least two spaces apart; the rules for IPv6 come with those for IPv4."""
    found = []
    for line in status.splitlines():
        text, hash_, comment = line.partition(" # ")
        words = re.match(r"(\S+(?: \S+)*?)\s+ALLOW(?: IN)?( FWD)?\s+(\S.*)", text)
        if not hash_ or comment.strip() != COMMENT or words is None or "(v6)" in text:
            continue
        ports, _, protocol = words[1].partition("/")
        listed = protocol in ("tcp", "udp") and re.fullmatch(r"[0-9,]+", ports)
        numbers = frozenset(map(int, ports.split(","))) if listed else frozenset()
        found.append(
            UfwRule(
                numbers,
                protocol if numbers else "",
                "" if numbers else words[1],
                words[3].strip(),
                bool(words[2]),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Zone:
    """One zone of firewalld as it is in force. ``target`` ACCEPT lets everything in."""

    name: str
    default: bool
    target: str
    interfaces: frozenset[str]
    sources: frozenset[str]
    ports: frozenset[str]


def zones(text: str) -> dict[str, Zone]:
    """The zones in the answer of ``firewall-cmd --list-all-zones`` (firewall-cmd(1)).

    A zone's name may be followed by ``(active)`` or ``(default, active)``.
    """
    found = {}
    for block in re.split(r"\n(?=\S)", text):
        head, _, body = block.partition("\n")
        name = head.split(" ")[0]
        values = dict(re.findall(r"^  ([a-z-]+):[ \t]*(.*)$", body, re.MULTILINE))
        if name and "target" in values:
            found[name] = Zone(
                name,
                "default" in head.split("(")[-1],
                values["target"],
                *(frozenset(values.get(k, "").split()) for k in ("interfaces", "sources", "ports")),
            )
    return found
