"""iptables-legacy's rules, in the form that ``nft`` here reads: the kernel keeps them in tables of
their own, of which ``nft list ruleset`` knows nothing (iptables-legacy-save(8), iptables(8))."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from nodeagent.host.facts import Facts

TABLES = "/proc/net/ip_tables_names"  # the legacy tables in use, one a line; root reads it
SAVE = "iptables-legacy-save"
TABLE = "iptables-legacy"  # what stands for the table's name
HOOKS = {"INPUT": "input", "FORWARD": "forward"}
# Options that only announce others, or change nothing of what matches.
SILENT = {"-m", "--match", "--comment", "--reject-with", "--log-prefix", "--log-level"}
LONG = {"--protocol": "-p", "--in-interface": "-i", "--source": "-s", "--destination": "-d",
        "--destination-port": "--dport", "--destination-ports": "--dports", "--jump": "-j",
        "--state": "--ctstate"}  # fmt: skip
VERDICTS = {name: name.lower() for name in ("ACCEPT", "DROP", "REJECT", "LOG", "RETURN")}
UNCLEAR: dict[str, Any] = {"match": {}}


def in_use(facts: Facts) -> list[str]:
    """The legacy tables that the kernel has; an old iptables, or Docker with it, made them.

    Raises PermissionError."""
    return (facts.text(TABLES) or "").split()


def ruleset(facts: Facts) -> list[Any] | None:
    """Chains and rules of the legacy table ``filter``, as entries of nft's JSON; None where they
    are in use and cannot be read."""
    if "filter" not in in_use(facts):
        return []
    answer = facts.ask(SAVE, "-t", "filter")
    return list(entries(answer.out)) if answer.status == 0 else None


def entries(saved: str) -> Iterator[Any]:
    """The text of iptables-save as nft's JSON."""
    for line in saved.splitlines():
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        place = {"family": "ip", "table": TABLE}
        if line.startswith(":") and len(words) > 1:
            name = words[0][1:]
            chain = {**place, "name": name, "policy": words[1].lower()}
            if name in HOOKS:
                chain |= {"type": "filter", "hook": HOOKS[name]}
            yield {"chain": chain}
        elif words[:1] == ["-A"] and len(words) > 1:
            yield {"rule": {**place, "chain": words[1], "expr": list(_statements(words[2:]))}}


def _statements(words: list[str]) -> Iterator[Any]:
    """What is not known makes the rule unclear, as in ``nft``."""
    protocol, unclear = "", False
    while words:
        name = LONG.get(words[0], words[0])
        value = words[1] if len(words) > 1 else ""
        if name == "!":
            unclear, words = True, words[1:]
            continue
        known = True
        if name == "-j":
            verdict = VERDICTS.get(value)
            yield {verdict: None} if verdict else {"jump": {"target": value}}
        elif unclear:
            yield UNCLEAR
            unclear = False
        elif name == "-p":
            protocol = value
            yield _equal({"meta": {"key": "l4proto"}}, value)
        elif name == "-i" and not value.endswith("+"):
            yield _equal({"meta": {"key": "iifname"}}, value)
        elif name in ("--dport", "--dports"):
            port = {"payload": {"protocol": protocol, "field": "dport"}}
            yield _equal(port, {"set": [_ports(part) for part in value.split(",")]})
        elif name == "--ctstate":
            yield _equal({"ct": {"key": "state"}}, {"set": value.lower().split(",")})
        elif name in ("-s", "-d"):
            field = "saddr" if name == "-s" else "daddr"
            address, _, length = value.partition("/")
            prefix = {"prefix": {"addr": address, "len": int(length) if length.isdecimal() else 32}}
            yield _equal({"payload": {"protocol": "ip", "field": field}}, prefix)
        elif name not in SILENT:
            known = False
            yield UNCLEAR
        # An option that is not known may have no value: what follows is looked at as the next one.
        words = words[2:] if known else words[1:]


def _ports(text: str) -> Any:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and (last or first).isdecimal()):
        return text
    return {"range": [int(first), int(last)]} if last else int(first)


def _equal(left: Any, right: Any) -> Any:
    return {"match": {"op": "==", "left": left, "right": right}}
