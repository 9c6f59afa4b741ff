"""What firewalls' tools said (recorded with nft 1.0.6, iptables 1.8.9, ufw 0.36.2, firewalld
1.3.3), and what is made of it. The steps' own cases are in ``steps/firewall``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.net import nft
from nodeagent.host.net.firewalls import UfwRule, kept_ports, ufw_rules, zones
from nodeagent.steps.firewall import Firewall
from tests.support.machine import laid_out
from tests.unit.steps.test_steps import short

RECORDED = Path(__file__).parent / "nft"
CASES = Path(__file__).parents[1] / "steps" / "firewall"
OPEN, CLOSED, UNCLEAR = set[bool](), {True}, {False}


def judged(document: Any, hook: str, packet: nft.Packet) -> set[bool]:
    return set(nft.closing(document, hook, packet).values())


def packet(protocol: str = "tcp", port: int | None = None, **known: str) -> nft.Packet:
    new = {"meta l4proto": protocol, "ip protocol": protocol, "ct state": "new"}
    return {**new, f"{protocol} dport": port, "meta iifname": "eth0", "meta iif": "eth0", **known}


# The rules are in the file; each line here is about one of them.
TABLE: dict[str, tuple[str, str, nft.Packet, set[bool]]] = {
    "in a set": ("many", "input", packet("tcp", 6443), OPEN),
    "in a range": ("many", "input", packet("tcp", 10100), OPEN),
    "in a chain that is jumped to": ("many", "input", packet("tcp", 6444), OPEN),
    "after a range; a return is not followed": ("many", "input", packet("tcp", 10101), UNCLEAR),
    "in a named set, which is not read": ("many", "input", packet("tcp", 80), UNCLEAR),
    "from a network": ("many", "input", packet("tcp", 10250), UNCLEAR),
    "behind a limit": ("many", "input", packet("udp", 8472), UNCLEAR),
    "pods, by an interface": ("many", "forward", {"meta l4proto": "tcp"}, UNCLEAR),
    "a last rule that drops": ("workstation", "input", packet("tcp", 6443), CLOSED),
    "nothing is said of forwarding": ("workstation", "forward", packet("tcp"), OPEN),
    "iptables, a port that is open": ("iptables", "input", packet("tcp", 22), OPEN),
    "iptables, a match that nft cannot tell": ("iptables", "input", packet("tcp", 6443), UNCLEAR),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLE)
def test_recorded(what: str) -> None:
    name, hook, came, expected = TABLE[what]
    document = json.loads((RECORDED / f"{name}.json").read_text())
    assert judged(document, hook, came) == expected


def rules(*rules: Any, policy: str = "drop") -> dict[str, Any]:
    """One input chain of these rules, and a chain ``other`` that accepts."""
    place = {"family": "inet", "table": "t"}
    chain = {**place, "name": "in", "type": "filter", "hook": "input", "policy": policy}
    entries: list[Any] = [{"chain": chain}, {"chain": {**place, "name": "other"}}]
    entries.append({"rule": {**place, "chain": "other", "expr": [{"accept": None}]}})
    entries += [{"rule": {**place, "chain": "in", "expr": list(rule)}} for rule in rules]
    return {"nftables": entries}


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


ACCEPT, DROP = {"accept": None}, {"drop": None}
DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
STATE = {"ct": {"key": "state"}}
INTERFACE = {"meta": {"key": "iifname"}}


def vmap(key: Any, *entries: Any) -> dict[str, Any]:
    return {"vmap": {"key": key, "data": {"set": [list(entry) for entry in entries]}}}


@pytest.mark.parametrize(("rule", "expected"), [
    ([ACCEPT], OPEN),
    ([match(DPORT, 6443), {"log": None}, {"counter": None}, ACCEPT], OPEN),
    ([match(INTERFACE, "eth0"), ACCEPT], OPEN),
    ([match(STATE, "new", "in"), ACCEPT], OPEN),
    ([{"jump": {"target": "other"}}], OPEN),
    ([{"jump": {"target": "gone"}}], CLOSED),
    ([match(DPORT, {"set": [22, {"range": [7000, 7100]}]}), ACCEPT], CLOSED),
    ([match({"payload": {"protocol": "udp", "field": "sport"}}, 67), ACCEPT], CLOSED),
    ([match({"payload": {"protocol": "icmp", "field": "type"}}, "echo-request"), ACCEPT], CLOSED),
    ([match({"payload": {"protocol": "ip", "field": "protocol"}}, "icmp"), ACCEPT], CLOSED),
    ([match(INTERFACE, "lo"), ACCEPT], CLOSED),
    ([match(STATE, ["established", "related"], "in"), ACCEPT], CLOSED),
    ([match(STATE, "established", "in"), {"jump": {"target": "other"}}], CLOSED),
    ([vmap(STATE, ("established", ACCEPT), ("invalid", DROP))], CLOSED),
    ([{"counter": {}}, {"xt": {"type": "target", "name": "REJECT"}}], CLOSED),
    ([match(INTERFACE, "@lan"), ACCEPT], UNCLEAR),
    ([match(INTERFACE, "eth*"), ACCEPT], UNCLEAR),
    ([match(DPORT, 22, "!="), ACCEPT], UNCLEAR),
    ([match(DPORT, "@allowed"), ACCEPT], UNCLEAR),
    ([match(DPORT, 6443), {"limit": {"rate": 3, "per": "minute"}}, ACCEPT], UNCLEAR),
    ([match({"meta": {"key": "protocol"}}, "ip"), ACCEPT], UNCLEAR),
    ([match({"&": [DPORT, 1]}, 1), {"jump": {"target": "other"}}], UNCLEAR),
    ([vmap(STATE, ("new", {"jump": {"target": "gone"}}))], UNCLEAR),
    ([{"vmap": {"key": DPORT, "data": "@named"}}], UNCLEAR),
    ([{"goto": {"target": "gone"}}], UNCLEAR),
    ([{"return": None}], UNCLEAR),
    ([{"queue": {"num": 1}}], UNCLEAR),
    ([{"xt": None}], UNCLEAR),
    ([{"new statement": 1}, ACCEPT], UNCLEAR),
], ids=str)  # fmt: skip
def test_a_rule_before_a_drop(rule: list[Any], expected: set[bool]) -> None:
    assert judged(rules(rule), "input", packet("tcp", 6443)) == expected
    assert judged(rules(rule, [DROP], policy="accept"), "input", packet("tcp", 6443)) == expected


def test_drops_of_other_packets_close_nothing() -> None:
    banned = match({"payload": {"protocol": "ip", "field": "saddr"}}, "@banned")
    for rule in ([banned, DROP], [match(DPORT, 22), DROP]):
        assert judged(rules(rule, policy="accept"), "input", packet("tcp", 6443)) == OPEN


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["@x", "eth0", "dport"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["match", "op", "left", "right", "payload", "protocol", "field", "meta",
                         "key", "set", "range", "vmap", "data", "jump", "target", "accept",
                         "drop"]), inner, max_size=4),
)  # fmt: skip


@given(st.lists(values, max_size=4))
def test_any_rule_can_be_read(rule: list[Any]) -> None:
    assert judged(rules(rule), "input", packet("tcp", 6443)) <= {True, False}


def test_ufw_rules_of_others_are_not_ours() -> None:
    status = yaml.safe_load((CASES / "ufw-ours-are-there.yaml").read_text())["commands"][
        "ufw status"
    ]
    assert ufw_rules(status) == (
        UfwRule(frozenset({6443, 6444, 6480, 10250}), "tcp", "", "Anywhere", False),
        UfwRule(frozenset({5353, 8472}), "udp", "", "Anywhere", False),
        UfwRule(frozenset(), "", "Anywhere", "10.244.0.0/16", False),
        UfwRule(frozenset(), "", "Anywhere", "10.244.0.0/16", True),
        UfwRule(frozenset(), "", "10.244.0.0/16", "Anywhere", True),
    )


@given(st.text(st.sampled_from(list("ALOW FD#\n 0123,/tcpnodeagent(v6)")), max_size=200))
def test_parsers_take_any_text(text: str) -> None:
    assert isinstance(ufw_rules(text), tuple)
    assert isinstance(zones(text), dict)
    assert isinstance(kept_ports(f'<port {text}/><port port="1{text}'), frozenset)


FIREWALLD = {
    "public": ["port=6443/tcp", "port=6444/tcp", "port=6480/tcp", "port=10250/tcp",
               "port=5353/udp", "port=8472/udp"],
    "trusted": ["source=10.244.0.0/16"],
}  # fmt: skip


@pytest.mark.parametrize(("case", "expected"), [
    ("ufw-ours-are-there", [
        "run ufw delete allow proto tcp to any port 6443,6444,6480,10250 comment nodeagent",
        "run ufw delete allow proto udp to any port 5353,8472 comment nodeagent",
        "run ufw delete allow from 10.244.0.0/16 comment nodeagent",
        "run ufw route delete allow from 10.244.0.0/16 comment nodeagent",
        "run ufw route delete allow to 10.244.0.0/16 comment nodeagent",
    ]),
    ("firewalld-ours-are-there", [
        f"run firewall-cmd {kept}--zone={zone}" + "".join(f" --remove-{item}" for item in items)
        for zone, items in FIREWALLD.items() for kept in ("--permanent ", "")
    ]),
    ("ufw-on", []),
    ("firewalld-fresh", []),
    ("none", []),
    ("image", []),
])  # fmt: skip
def test_undo_takes_back_what_is_ours(case: str, expected: list[str], tmp_path: Path) -> None:
    host = laid_out(yaml.safe_load((CASES / f"{case}.yaml").read_text()), tmp_path)
    assert [short(a) for a in Firewall().undo(Facts(host), Settings())] == expected


@pytest.mark.parametrize(("case", "rules"), [
    ("nftables-workstation", [
        "nft insert rule inet filter input tcp dport { 6443, 6444, 6480, 10250 } accept",
        "nft insert rule inet filter input udp dport { 5353, 8472 } accept",
    ]),
    ("nftables-forward", [
        "nft insert rule inet filter forward ip saddr 10.244.0.0/16 accept",
        "nft insert rule inet filter forward ip daddr 10.244.0.0/16 accept",
    ]),
])  # fmt: skip
def test_the_remedy_names_the_rules_to_add(case: str, rules: list[str], tmp_path: Path) -> None:
    host = laid_out(yaml.safe_load((CASES / f"{case}.yaml").read_text()), tmp_path)
    with pytest.raises(Blocked) as blocked:
        list(Firewall().plan(Facts(host), Settings()))
    assert re.findall("`(.*?)`", blocked.value.remedy) == rules


def test_one_command_where_a_tool_is_there_and_none_where_none_is(tmp_path: Path) -> None:
    for case, ran in (("none", []), ("ufw-off", []), ("ufw-on", ["ufw status"]),
                      ("firewalld-fresh", ["firewall-cmd --list-all-zones"]),
                      ("nftables-empty", ["nft -j list ruleset"])):  # fmt: skip
        host = laid_out(yaml.safe_load((CASES / f"{case}.yaml").read_text()), tmp_path / case)
        list(Firewall().plan(Facts(host), Settings()))
        assert host.ran == ran, case
