"""Step: a firewall that is on lets the cluster's ports through.

ufw and firewalld get a rule of the agent's own. A plain nftables ruleset belongs to nobody who
could be asked, and a drop there is final (nft(8), "Verdict statement"): it is seen, and the
person is told what to add.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import cni
from nodeagent.cluster.ports import reachable
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, Run
from nodeagent.host.facts import Facts
from nodeagent.host.net import firewalls, nft
from nodeagent.host.net.firewalls import COMMENT
from nodeagent.steps.step import Step

UFW_CONF = "/etc/ufw/ufw.conf"  # ENABLED=yes from `ufw enable` until `ufw disable` (ufw(8))
FIREWALL_CMD, NFT = "/usr/bin/firewall-cmd", "/usr/sbin/nft"
TRUSTED = "trusted"  # the zone in which firewalld accepts everything (firewalld.zones(5))
# What ufw and firewalld make in nftables; they are asked themselves.
OTHERS = {"ufw": (("ip", "filter"),), "firewalld": (("inet", "firewalld"),), "": ()}
SLOW = 120.0  # seconds; both tools are Python, and a busy small board is slow


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
        owner = active(facts)
        if owner == "ufw":
            yield from _ufw(facts, settings)
        elif owner == "firewalld":
            yield from _firewalld(facts, settings)
        closed = judged(facts, settings, nft.Verdict.CLOSED)
        if closed:
            rules = "; ".join(f"`{rule}`" for rule in rules_to_add(closed, settings))
            raise Blocked(
                f"The firewall's nftables rules close what the cluster needs: {', '.join(closed)}.",
                f"Add {rules}, and the same in the file that they come from, for example"
                " /etc/nftables.conf. The agent then goes on by itself.",
            )

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        owner = active(facts)
        return f"{owner} lets the cluster through" if owner else "nothing is closed"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Take the agent's own rules back; nothing where there are none."""
        owner = active(facts) if facts.live else ""
        if owner == "ufw":
            for rule in firewalls.ufw_rules(_ufw_status(facts)):
                yield Run(("ufw", *_ufw_words(rule, "delete")), timeout=SLOW)
        elif owner == "firewalld":
            zone = _lan_zone(facts, settings)
            ours = [port for port in _wanted(settings) if port in zone.ports]
            if ours:
                yield from _twice(zone.name, [f"--remove-port={port}" for port in ours])
            if settings.network.pod_cidr in _zones(facts)[TRUSTED].sources:
                yield from _twice(TRUSTED, [f"--remove-source={settings.network.pod_cidr}"])


def active(facts: Facts) -> str:
    """``ufw``, ``firewalld``, or empty where neither is on."""
    enabled = "ENABLED=yes" in (facts.text(UFW_CONF) or "").split()
    if enabled and "Status: active" in _ufw_status(facts).splitlines():
        return "ufw"
    if facts.exists(FIREWALL_CMD) and _zones(facts):
        return "firewalld"
    return ""


# ufw


def _ufw_status(facts: Facts) -> str:
    return facts.ask("ufw", "status", timeout=SLOW).out


def _ufw(facts: Facts, settings: Settings) -> Iterator[Action]:
    rules = firewalls.ufw_rules(_ufw_status(facts))
    for protocol in ("tcp", "udp"):
        there = {port for rule in rules if rule.protocol == protocol for port in rule.ports}
        missing = [port for port in reachable(settings, protocol) if port not in there]
        if missing:
            rule = firewalls.UfwRule(frozenset(missing), protocol, "", "Anywhere", False)
            yield Run(("ufw", *_ufw_words(rule)), timeout=SLOW)
    pods = settings.network.pod_cidr
    for rule in (
        firewalls.UfwRule(frozenset(), "", "Anywhere", pods, False),
        firewalls.UfwRule(frozenset(), "", "Anywhere", pods, True),
        firewalls.UfwRule(frozenset(), "", pods, "Anywhere", True),
    ):
        if rule not in rules:
            yield Run(("ufw", *_ufw_words(rule)), timeout=SLOW)


def _ufw_words(rule: firewalls.UfwRule, verb: str = "") -> list[str]:
    """A rule as ufw(8) wants to hear it."""
    words = ["route"] if rule.routed else []
    words += [verb, "allow"] if verb else ["allow"]
    if rule.ports:
        ports = ",".join(str(port) for port in sorted(rule.ports))
        words += ["proto", rule.protocol, "to", "any", "port", ports]
    elif rule.source != "Anywhere":
        words += ["from", rule.source]
    else:
        words += ["to", rule.to]
    return [*words, "comment", COMMENT]


# firewalld


def _zones(facts: Facts) -> dict[str, firewalls.Zone]:
    answer = facts.ask("firewall-cmd", "--list-all-zones", timeout=SLOW)
    return firewalls.zones(answer.out) if answer.status == 0 else {}  # 252: not running


def _lan_zone(facts: Facts, settings: Settings) -> firewalls.Zone:
    zones = _zones(facts)
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
    kept = facts.text(f"/etc/firewalld/zones/{zone.name}.xml") or ""
    if zone.target != "ACCEPT":
        missing = [
            port
            for port in _wanted(settings)
            if port not in zone.ports or not _kept_port(kept, *port.split("/"))
        ]
        if missing:
            yield from _twice(zone.name, [f"--add-port={port}" for port in missing])
    trusted = facts.text(f"/etc/firewalld/zones/{TRUSTED}.xml") or ""
    if pods not in _zones(facts)[TRUSTED].sources or f'address="{pods}"' not in trusted:
        yield from _twice(TRUSTED, [f"--add-source={pods}"])


def _kept_port(xml: str, port: str, protocol: str) -> bool:
    wanted = {f'port="{port}"', f'protocol="{protocol}"'}
    return any(wanted <= set(tag.split()) for tag in re.findall(r"<port ([^>/]*)/?>", xml))


def _twice(zone: str, options: list[str]) -> Iterator[Action]:
    yield Run(("firewall-cmd", "--permanent", f"--zone={zone}", *options), timeout=SLOW)
    yield Run(("firewall-cmd", f"--zone={zone}", *options), timeout=SLOW)


# nftables


def judged(facts: Facts, settings: Settings, how: nft.Verdict) -> dict[str, list[nft.Place]]:
    """The needed ports (``6443/tcp``), ``from pods`` and ``to pods``, for which a ruleset that no
    tool owns answers ``how``, with the base chains that do. Rules for IPv6 are not judged."""
    if not facts.exists(NFT) or ":" in (facts.address(settings.network.interface) or ""):
        return {}
    answer = facts.ask("nft", "-j", "list", "ruleset")
    try:
        document = json.loads(answer.out) if answer.status == 0 else {}
    except ValueError:
        return {}
    owner = OTHERS[active(facts)]
    found = {}
    for name, packet in _packets(facts, settings).items():
        # Where iptables forwards, kube-proxy and the pod network put their rules before the end.
        beside = (*owner, ("ip", "filter")) if packet.hook == "forward" else owner
        answers = nft.answers(nft.parse(document, beside), packet)
        places = [place for place, answer in answers.items() if answer is how]
        if places:
            found[name] = places
    return found


def _packets(facts: Facts, settings: Settings) -> dict[str, nft.Packet]:
    """What must come through. A neighbour's address is taken to be like the node's own."""
    wanted = settings.network.interface
    lan, own = facts.interface(wanted) or "eth0", facts.address(wanted) or ""
    packets = {
        f"{port}/{protocol}": nft.Packet("input", lan, protocol, port, source=own, destination=own)
        for protocol in ("tcp", "udp")
        for port in reachable(settings, protocol)
    }
    pod = str(ipaddress.ip_network(settings.network.pod_cidr)[2])
    bridge = cni.chosen(settings).pod_interface
    packets["from pods"] = nft.Packet("forward", bridge, "tcp", 443, out=lan, source=pod)
    packets["to pods"] = nft.Packet("forward", lan, "tcp", 80, out=bridge, destination=pod)
    return packets


def rules_to_add(closed: dict[str, list[nft.Place]], settings: Settings) -> list[str]:
    """The commands that open what is closed, for a person to run."""
    rules = []
    for place in dict.fromkeys(place for places in closed.values() for place in places):
        here = [name for name, places in closed.items() if place in places]
        begin = f"nft insert rule {' '.join(place)}"
        for protocol in ("tcp", "udp"):
            ports = [name.split("/")[0] for name in here if name.endswith(f"/{protocol}")]
            if ports:
                listed = ports[0] if len(ports) == 1 else f"{{ {', '.join(ports)} }}"
                rules.append(f"{begin} {protocol} dport {listed} accept")
        for direction, word in (("from pods", "saddr"), ("to pods", "daddr")):
            if direction in here:
                rules.append(f"{begin} ip {word} {settings.network.pod_cidr} accept")
    return rules
