"""What is read out of nftables rules, held to what the kernel does with real packets, and the
remedy for closed ports tried on a real ruleset. Only inside network namespaces of the test."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.net import nft
from nodeagent.host.net.nft import Packet, Verdict
from nodeagent.steps.firewall import Firewall, judged, rules_to_add
from tests.net.lan import Lan, Node
from tests.support import namespaces
from tests.unit.machine import Machine, put

RULES = """
table inet filter {
  set allowed { type inet_service; flags interval; elements = { 80, 30000-32767 } }
  chain early { type filter hook input priority -10; policy accept; tcp dport 31999 drop; }
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state vmap { established : accept, related : accept, invalid : drop }
    meta l4proto icmp accept
    tcp dport { 22, 6443, 10000-10100 } accept
    tcp dport @allowed counter accept
    iifname "wlan*" tcp dport 5000 accept
    ip saddr 10.77.0.0/24 tcp dport 10250 accept
    ip saddr 10.78.0.0/24 tcp dport 10251 accept
    tcp dport vmap { 7000 : accept, 7001 : drop, 7002 : jump more }
    jump more
  }
  chain more {
    tcp dport 6444 accept
    tcp dport 7002 return
    ct state new tcp dport != 6480 return
    reject with icmpx type admin-prohibited
  }
}
"""
PORTS = (
    22, 23, 80, 5000, 6443, 6444, 6480, 7000, 7001, 7002, 9999, 10000, 10100, 10101, 10250, 10251,
    29999, 30000, 31999, 32767, 32768,
)  # fmt: skip
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
    ruleset = nft.parse(json.loads(inside(node, "nft", "-j", "list", "ruleset")))
    read = {
        port: nft.verdict(ruleset, Packet(
            "input", "eth0", "tcp", port, source=other.address, destination=node.address))
        for port in PORTS
    }  # fmt: skip
    assert Verdict.UNCLEAR not in read.values()
    assert {port for port, said in read.items() if said is Verdict.OPEN} == let_in(
        node, other, PORTS
    )


def machine(node: Node) -> Host:
    """A double of the node's system around its real nftables rules."""
    ruleset = inside(node, "nft", "-j", "list", "ruleset")
    host = Machine(node.host.root, {"nft -j list ruleset": ruleset})
    put(host.root, {"/usr/sbin/nft": ""})
    return host


def test_the_rules_that_are_named_open_the_ports(lan: Lan) -> None:
    node, other = lan.add(), lan.add()
    inside(node, "nft", "-f", "-", text=RULES.replace("22, 6443, 10000-10100", "22"))
    needed = (6443, 6444, 6480, 10250)
    with pytest.raises(Blocked, match="6443/tcp, 6480/tcp"):
        list(Firewall().plan(Facts(machine(node)), Settings()))
    assert let_in(node, other, needed) == {6444, 10250}
    closed = judged(Facts(machine(node)), Settings(), Verdict.CLOSED)
    for rule in rules_to_add(closed, Settings()):
        inside(node, *rule.split())
    assert let_in(node, other, needed) == set(needed)
    assert list(Firewall().plan(Facts(machine(node)), Settings())) == []
