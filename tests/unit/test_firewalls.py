"""What firewalls' tools said (recorded with nft 1.0.6, iptables 1.8.9, ufw 0.36.2, firewalld
1.3.3), and what is made of it. The steps' own cases are in ``steps/firewall``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.settings import Settings
from nodeagent.host.facts import Facts
from nodeagent.host.net import nft
from nodeagent.host.net.firewalls import UfwRule, ufw_rules, zones
from nodeagent.host.net.nft import Packet, Ruleset, Verdict
from nodeagent.steps.firewall import Firewall
from tests.unit.test_steps import machine, short

RECORDED = Path(__file__).parent / "nft"
CASES = Path(__file__).parent / "steps" / "firewall"
OPEN, CLOSED, UNCLEAR = Verdict.OPEN, Verdict.CLOSED, Verdict.UNCLEAR


def ruleset(name: str) -> Ruleset:
    """A recorded ruleset."""
    return nft.parse(json.loads((RECORDED / f"{name}.json").read_text()))


def came_in(protocol: str, port: int, **known: str) -> Packet:
    return Packet("input", known.pop("interface", "eth0"), protocol, port, **known)


# The rules are in the file; each line here is about one of them.
TABLE: dict[str, tuple[str, Packet, Verdict]] = {
    "in a set": ("many", came_in("tcp", 6443), OPEN),
    "in a range": ("many", came_in("tcp", 10100), OPEN),
    "after a range": ("many", came_in("tcp", 10101), CLOSED),
    "in a named set": ("many", came_in("tcp", 80), OPEN),
    "in a range of a named set": ("many", came_in("tcp", 31000), OPEN),
    "the other protocol": ("many", came_in("udp", 6443), CLOSED),
    "from another interface": ("many", came_in("udp", 5353), CLOSED),
    "from the right interface": ("many", came_in("udp", 5353, interface="wlan0"), OPEN),
    "from the right network": ("many", came_in("tcp", 10250, source="192.168.7.9"), OPEN),
    "from the wrong network": ("many", came_in("tcp", 10250, source="10.0.0.1"), CLOSED),
    "from who knows where": ("many", came_in("tcp", 10250), UNCLEAR),
    "behind a limit": ("many", came_in("udp", 8472), UNCLEAR),
    "in a chain that is jumped to": ("many", came_in("tcp", 6444), OPEN),
    "rejected in a chain that is jumped to": ("many", came_in("tcp", 6480), CLOSED),
    "pods are let out": ("many", Packet("forward", "cni0", "tcp", 443, "eth0"), OPEN),
    "pods are not let in": ("many", Packet("forward", "eth0", "tcp", 80, "cni0"), CLOSED),
    "a last rule that drops": ("workstation", came_in("tcp", 6443), CLOSED),
    "nothing is said of forwarding": (
        "workstation", Packet("forward", "cni0", "tcp", 443, "eth0"), OPEN,
    ),
    "iptables, a port that is open": ("iptables", came_in("tcp", 22), OPEN),
    "iptables, behind a match that cannot be read": ("iptables", came_in("tcp", 6443), UNCLEAR),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLE)
def test_verdict(what: str) -> None:
    name, packet, expected = TABLE[what]
    assert nft.verdict(ruleset(name), packet) is expected


def rules(*rules: Any, policy: str = "drop") -> Ruleset:
    """One input chain of these rules, and a chain ``other`` that accepts."""
    place = {"family": "inet", "table": "t"}
    chain = {**place, "name": "in", "type": "filter", "hook": "input", "policy": policy}
    entries: list[Any] = [{"chain": chain}, {"chain": {**place, "name": "other"}}]
    entries.append({"rule": {**place, "chain": "other", "expr": [{"accept": None}]}})
    entries += [{"rule": {**place, "chain": "in", "expr": list(rule)}} for rule in rules]
    return nft.parse({"nftables": entries})


@pytest.mark.parametrize(("rule", "expected"), [
    ([{"accept": None}], OPEN),
    ([{"goto": {"target": "other"}}], OPEN),
    ([{"goto": {"target": "gone"}}], CLOSED),
    ([{"jump": {"target": "other"}}], OPEN),
    ([{"return": None}], CLOSED),
    ([{"new statement": 1}, {"accept": None}], UNCLEAR),
    ([{"xt": None}, {"accept": None}], UNCLEAR),
    ([{"xt": {"type": "target", "name": "LOG"}}], CLOSED),
    ([{"counter": {}}, {"xt": {"type": "target", "name": "REJECT"}}], CLOSED),
    ([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["new", {"accept": None}]]}}}],
     OPEN),
    ([{"vmap": {"key": {"meta": {"key": "mark"}}, "data": {"set": [[1, {"accept": None}]]}}}],
     UNCLEAR),
], ids=str)  # fmt: skip
def test_statements(rule: list[Any], expected: Verdict) -> None:
    assert nft.verdict(rules(rule), came_in("tcp", 6443)) is expected


def test_a_ban_of_somebody_does_not_make_it_unclear() -> None:
    ban = [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                      "right": "@banned"}}, {"drop": None}]  # fmt: skip
    assert nft.verdict(rules(ban, policy="accept"), came_in("tcp", 6443)) is OPEN


def test_a_circle_of_jumps_ends() -> None:
    circle = nft.parse({"nftables": [
        {"chain": {"family": "inet", "table": "t", "name": "in", "type": "filter",
                   "hook": "input", "policy": "drop"}},
        {"rule": {"family": "inet", "table": "t", "chain": "in",
                  "expr": [{"jump": {"target": "in"}}]}},
    ]})  # fmt: skip
    assert nft.verdict(circle, came_in("tcp", 1)) is CLOSED


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["@x", "eth0", "dport"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["match", "op", "left", "right", "payload", "protocol", "field", "meta",
                         "key", "set", "range", "prefix", "addr", "len", "vmap", "data", "elem",
                         "val", "jump", "target", "accept", "drop"]), inner, max_size=4),
)  # fmt: skip


@given(st.lists(values, max_size=4))
def test_any_rule_has_a_verdict(rule: list[Any]) -> None:
    assert nft.verdict(rules(rule), came_in("tcp", 6443, source="10.0.0.1")) in Verdict


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
    host = machine(yaml.safe_load((CASES / f"{case}.yaml").read_text()), tmp_path)
    assert [short(a) for a in Firewall().undo(Facts(host), Settings())] == expected


def test_the_remedy_names_rules_that_open(tmp_path: Path) -> None:
    """What a person is told to add makes the same ruleset open."""
    from nodeagent.steps.firewall import judged, rules_to_add

    host = machine(yaml.safe_load((CASES / "nftables-workstation.yaml").read_text()), tmp_path)
    closed = judged(Facts(host), Settings(), CLOSED)
    assert rules_to_add(closed, Settings()) == [
        "nft insert rule inet filter input tcp dport { 6443, 6444, 6480, 10250 } accept",
        "nft insert rule inet filter input udp dport { 5353, 8472 } accept",
    ]


def test_one_command_where_a_tool_is_there_and_none_where_none_is(tmp_path: Path) -> None:
    for case, ran in (("none", []), ("ufw-off", []), ("ufw-on", ["ufw status"]),
                      ("firewalld-fresh", ["firewall-cmd --list-all-zones"]),
                      ("nftables-empty", ["nft -j list ruleset"])):  # fmt: skip
        host = machine(yaml.safe_load((CASES / f"{case}.yaml").read_text()), tmp_path / case)
        list(Firewall().plan(Facts(host), Settings()))
        assert host.ran == ran, case
