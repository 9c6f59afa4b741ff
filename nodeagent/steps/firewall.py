"""Step: a firewall that is on lets the cluster's ports through.

ufw and firewalld get a rule of the agent's own. Plain nftables rules are only read: where they
surely close what is needed, a person is told what to add.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import closed_ports, cni, networks
from nodeagent.cluster.ports import reachable
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, Run
from nodeagent.host.facts import Facts
from nodeagent.host.net import firewalls
from nodeagent.steps.step import Step

TRUSTED = "trusted"  # the zone in which firewalld accepts everything (firewalld.zones(5))


@dataclass(frozen=True)
class Firewall(Step):
    """One command where a firewall's tool is installed, none where there is none."""

    name = "firewall"
    title = "Open the cluster's ports in the firewall"
    group = "Network"
    why = "The nodes talk to each other through these ports."
    needs_root = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for images. Raises Blocked."""
        if not facts.live:
            return
        settings = networks.chosen(facts, settings)
        owner = firewalls.active(facts)
        if owner == "ufw":
            yield from _ufw(facts, settings)
        elif owner == "firewalld":
            yield from _firewalld(facts, settings)
        closed = closed_ports.closing(facts, settings, surely=True)
        if closed:
            raise Blocked(
                "Packet filter rules close what the cluster needs:"
                f" {closed_ports.in_words(closed)}.",
                f"Run {closed_ports.rules_to_add(closed, settings)}, and add the same to the file"
                " that the rules come from, for example /etc/nftables.conf or"
                " /etc/iptables/rules.v4. The agent then goes on by itself.",
            )

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        owner = firewalls.active(facts)
        return f"{owner} lets the cluster through" if owner else "nothing is closed"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Take the agent's own rules back; nothing where there are none."""
        owner = firewalls.active(facts) if facts.live else ""
        if owner == "ufw":
            for rule in firewalls.ufw_rules(firewalls.ufw_status(facts)):
                yield Run(("ufw", *rule.words("delete")), timeout=firewalls.SLOW)
        elif owner == "firewalld":
            zone = _lan_zone(facts, settings)
            # By any of the settings since then, such as of a reset that was cut off.
            others = (port for one in cni.NETWORKS.values() for port in one.ports)
            opened = dict.fromkeys([*_wanted(settings), *others])
            ours = [port for port in opened if port in zone.ports]
            if ours:
                yield from _twice(zone.name, [f"--remove-port={port}" for port in ours])
            if settings.network.pod_cidr in firewalls.zones_in_force(facts)[TRUSTED].sources:
                yield from _twice(TRUSTED, [f"--remove-source={settings.network.pod_cidr}"])


# ufw


def _ufw(facts: Facts, settings: Settings) -> Iterator[Action]:
    rules = firewalls.ufw_rules(firewalls.ufw_status(facts))
    for protocol in ("tcp", "udp"):
        there = {port for rule in rules if rule.protocol == protocol for port in rule.ports}
        missing = [port for port in reachable(settings, protocol) if port not in there]
        if missing:
            rule = firewalls.UfwRule(frozenset(missing), protocol, "", "Anywhere", False)
            yield Run(("ufw", *rule.words()), timeout=firewalls.SLOW)
    pods = settings.network.pod_cidr
    for rule in (
        firewalls.UfwRule(frozenset(), "", "Anywhere", pods, False),
        firewalls.UfwRule(frozenset(), "", "Anywhere", pods, True),
        firewalls.UfwRule(frozenset(), "", pods, "Anywhere", True),
    ):
        if rule not in rules:
            yield Run(("ufw", *rule.words()), timeout=firewalls.SLOW)


# firewalld


def _lan_zone(facts: Facts, settings: Settings) -> firewalls.Zone:
    zones = firewalls.zones_in_force(facts)
    interface = facts.interface(settings.network.interface)
    for zone in zones.values():
        if interface in zone.interfaces:
            return zone
    # Before version 2 the list does not say which one is the default (firewalld.conf(5)).
    conf = facts.text("/etc/firewalld/firewalld.conf") or ""
    found = re.search(r"^DefaultZone=(\S+)", conf, re.MULTILINE)
    name = next((z.name for z in zones.values() if z.default), found[1] if found else "public")
    return zones.get(name) or next(iter(zones.values()))


def _wanted(settings: Settings) -> list[str]:
    return [f"{port}/{p}" for p in ("tcp", "udp") for port in reachable(settings, p)]


def _firewalld(facts: Facts, settings: Settings) -> Iterator[Action]:
    """In force and for the next boot. Not by a reload, which would throw away what Docker and
    others have only in force (firewall-cmd(1), --reload)."""
    zone, pods = _lan_zone(facts, settings), settings.network.pod_cidr
    kept = firewalls.kept_ports(facts.text(f"/etc/firewalld/zones/{zone.name}.xml") or "")
    if zone.target != "ACCEPT":
        missing = [port for port in _wanted(settings) if port not in zone.ports & kept]
        if missing:
            yield from _twice(zone.name, [f"--add-port={port}" for port in missing])
    trusted = facts.text(f"/etc/firewalld/zones/{TRUSTED}.xml") or ""
    sources = firewalls.zones_in_force(facts)[TRUSTED].sources
    if pods not in sources or f'address="{pods}"' not in trusted:
        yield from _twice(TRUSTED, [f"--add-source={pods}"])


def _twice(zone: str, options: list[str]) -> Iterator[Action]:
    yield Run(("firewall-cmd", "--permanent", f"--zone={zone}", *options), timeout=firewalls.SLOW)
    yield Run(("firewall-cmd", f"--zone={zone}", *options), timeout=firewalls.SLOW)
