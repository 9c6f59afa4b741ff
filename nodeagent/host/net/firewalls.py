"""What ufw and firewalld say about themselves, as values, and which of them is on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodeagent.host.facts import Facts

COMMENT = "nodeagent"
UFW_CONF = "/etc/ufw/ufw.conf"  # ENABLED=yes from `ufw enable` until `ufw disable` (ufw(8))
FIREWALL_CMD = "/usr/bin/firewall-cmd"
SLOW = 120.0  # seconds; both tools are Python, and a busy small board is slow


def active(facts: Facts) -> str:
    """``ufw``, ``firewalld``, or empty where neither is on."""
    enabled = "ENABLED=yes" in (facts.text(UFW_CONF) or "").split()
    if enabled and "Status: active" in ufw_status(facts).splitlines():
        return "ufw"
    if facts.exists(FIREWALL_CMD) and zones_in_force(facts):
        return "firewalld"
    return ""


def ufw_status(facts: Facts) -> str:
    """What ``ufw status`` says."""
    return facts.ask("ufw", "status", timeout=SLOW).out


def zones_in_force(facts: Facts) -> dict[str, Zone]:
    """firewalld's zones by name; none where it does not run."""
    answer = facts.ask("firewall-cmd", "--list-all-zones", timeout=SLOW)
    return zones(answer.out) if answer.status == 0 else {}  # 252: not running


@dataclass(frozen=True)
class UfwRule:
    """One IPv4 rule of ours. ``ports``: empty for a rule about addresses."""

    ports: frozenset[int]
    protocol: str
    to: str
    source: str
    routed: bool

    def words(self, verb: str = "") -> list[str]:
        """Its words after ``ufw``, to add it or, with the verb ``delete``, to take it back."""
        words = ["route"] if self.routed else []
        words += [verb, "allow"] if verb else ["allow"]
        if self.ports:
            ports = ",".join(str(port) for port in sorted(self.ports))
            words += ["proto", self.protocol, "to", "any", "port", ports]
        elif self.source != "Anywhere":
            words += ["from", self.source]
        else:
            words += ["to", self.to]
        return [*words, "comment", COMMENT]


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


def kept_ports(xml: str) -> frozenset[str]:
    """The ports (``6443/tcp``) in a zone's own file, firewalld.zone(5)."""
    tags = [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in re.findall(r"<port [^>]*>", xml)]
    return frozenset(f"{tag.get('port')}/{tag.get('protocol')}" for tag in tags)
