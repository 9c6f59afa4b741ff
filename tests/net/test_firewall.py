"""What is read out of nftables rules, held to what the kernel does with real packets, and the
remedy for closed ports tried on a real ruleset. Only inside network namespaces of the test."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from nodeagent.cluster import closed_ports
from nodeagent.config.settings import Network, Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.net import nft
from nodeagent.steps.firewall import Firewall
from tests.support import namespaces
from tests.support.machine import Machine, put
from tests.support.virtual_lan import Lan, Node

RULES = """
table inet filter {
  chain early { type filter hook input priority -10; policy accept; tcp dport 31999 drop; }
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state vmap { established : accept, related : accept, invalid : drop }
    ct state { established, related } counter accept
    meta l4proto { icmp, ipv6-icmp } accept
    icmp type echo-request limit rate 4/second accept
    ip6 nexthdr ipv6-icmp accept
    udp sport 67 udp dport 68 accept
    tcp dport { 22, 6443, 10000-10100, 31998-32000 } accept
    iifname "eth0" tcp dport 5000 accept
    iifname "wlan0" accept
    ip saddr 10.77.0.0/24 tcp dport 10250 accept
    ip saddr 10.78.0.0/24 tcp dport 10251 accept
    tcp dport vmap { 7000 : accept, 7001 : drop, 7002 : jump more }
    limit rate 3/minute log prefix "input: "
    jump more
  }
  chain more {
    ct state new tcp dport 6444 accept
    reject with icmpx type admin-prohibited
  }
}
"""
PORTS = (
    22, 23, 5000, 6443, 6444, 6480, 7000, 7001, 7002, 9999, 10000, 10100, 10101, 10250, 10251,
    31998, 31999, 32000, 32001,
)  # fmt: skip
SETTINGS = Settings(network=Network(interface="eth0"))
UNCLEAR = {7000, 7001, 7002, 10250, 10251}  # the map's entries and the senders' are not read
# Nobody listens: a port that is let through answers at once that it is closed.
KNOCK = """
import socket, sys
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection((sys.argv[1], port), timeout=0.7)
    except ConnectionRefusedError:
        print(port)
    except OSError:
        pass
"""


def inside(node: Node, *command: str, text: str | None = None) -> str:
    """Run a command in the node's namespace; it must succeed."""
    done = subprocess.run(
        namespaces.inside(node.space, *command),
        input=text, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout


def let_in(to: Node, by: Node, ports: tuple[int, ...]) -> set[int]:
    """The TCP ports of one node that the packets of another come to."""
    said = inside(by, sys.executable, "-c", KNOCK, to.address, *map(str, ports))
    return {int(port) for port in said.split()}


def test_the_kernel_does_what_was_read(lan: Lan) -> None:
    node, other = lan.add(), lan.add()
    inside(node, "nft", "-f", "-", text=RULES)
    document = json.loads(inside(node, "nft", "-j", "list", "ruleset"))
    new = {"meta iif": "eth0", "meta iifname": "eth0", "meta l4proto": "tcp", "ct state": "new"}
    read = {
        port: nft.closing(document, "input", {**new, "ip protocol": "tcp", "tcp dport": port})
        for port in PORTS
    }
    assert {port for port, said in read.items() if False in said.values()} == UNCLEAR
    come = let_in(node, other, PORTS)
    assert {port for port, said in read.items() if not said} == come - UNCLEAR


def machine(node: Node) -> Host:
    """A double of the node's system around its real nftables rules."""
    ruleset = inside(node, "nft", "-j", "list", "ruleset")
    host = Machine(node.host.root, {"nft -j list ruleset": ruleset})
    put(host.root, {"/usr/sbin/nft": ""})
    return host


def test_the_rules_that_are_named_open_the_ports(lan: Lan) -> None:
    node, other = lan.add(), lan.add()
    more = "chain forward { type filter hook forward priority 0; policy drop; }"
    text = RULES.replace("22, 6443,", "22,").replace("chain input", f"{more}\n  chain input")
    inside(node, "nft", "-f", "-", text=text)
    needed = (6443, 6444, 6480, 10250)
    with pytest.raises(Blocked, match="6443/tcp, 6480/tcp") as blocked:
        list(Firewall().plan(Facts(machine(node)), SETTINGS))
    assert let_in(node, other, needed) == {6444, 10250}
    unclear = closed_ports.closing(Facts(machine(node)), SETTINGS, surely=False)
    assert unclear == {("inet", "filter", "input"): ["10250/tcp"]}
    for text in (blocked.value.remedy, closed_ports.rules_to_add(unclear, SETTINGS)):
        for rule in re.findall("`(.*?)`", text):
            inside(node, *rule.split())
    assert let_in(node, other, needed) == set(needed)
    assert list(Firewall().plan(Facts(machine(node)), SETTINGS)) == []
    assert not closed_ports.closing(Facts(machine(node)), SETTINGS, surely=False)
