"""Do nftables rules that no firewall tool owns close what the cluster needs?

Such rules belong to nobody who could be asked, and no rule of the agent's own could open what they
close: so they are only read, and a person is told what to add.
"""

from __future__ import annotations

import json
from typing import Any

from nodeagent.cluster.ports import reachable
from nodeagent.config.settings import Settings
from nodeagent.host.facts import Facts
from nodeagent.host.net import firewalls, iptables, nft

# update-alternatives(1): which of the two iptables this system uses, and so kube-proxy.
ALTERNATIVE, LEGACY = "/etc/alternatives/iptables", "/usr/sbin/iptables-legacy"
NFT = "/usr/sbin/nft"
# What ufw and firewalld make in nftables; they are asked themselves.
OWNED = {"ufw": ("ip", "filter"), "firewalld": ("inet", "firewalld"), "": None}
PODS = {"traffic from pods": "saddr", "traffic to pods": "daddr"}


def closing(facts: Facts, settings: Settings, *, surely: bool) -> dict[nft.Place, list[str]]:
    """The chains that surely drop (or else: that may drop) what the cluster needs: its ports, as
    ``6443/tcp``, and the traffic of pods. Rules for IPv6 are not looked at."""
    if ":" in (facts.address(settings.network.interface) or ""):
        return {}
    document = {"nftables": [*_nftables(facts), *(iptables.ruleset(facts) or ())]}
    if not document["nftables"]:
        return {}
    owned = OWNED[firewalls.active(facts)]
    # Where iptables forwards, the rules of kube-proxy and the pod network come first.
    legacy = facts.host.target(ALTERNATIVE) == LEGACY
    forwards = ("ip", iptables.TABLE if legacy else "filter")
    found: dict[nft.Place, list[str]] = {}
    for name, (hook, packet) in _needed(facts, settings).items():
        for chain, sure in nft.closing(document, hook, packet).items():
            others = (owned, forwards) if hook == "forward" else (owned,)
            if sure == surely and chain[:2] not in others:
                found.setdefault(chain, []).append(name)
    return found


def unread_tables(facts: Facts) -> str:
    """iptables' legacy tables that are in use and cannot be read, such as ``filter, nat``."""
    return ", ".join(iptables.in_use(facts)) if iptables.ruleset(facts) is None else ""


def _nftables(facts: Facts) -> list[Any]:
    if not facts.exists(NFT):
        return []
    answer = facts.ask("nft", "-j", "list", "ruleset")
    try:
        document = json.loads(answer.out) if answer.status == 0 else {}
    except ValueError:
        return []
    found = document.get("nftables") if isinstance(document, dict) else None
    return found if isinstance(found, list) else []


def _needed(facts: Facts, settings: Settings) -> dict[str, tuple[str, nft.Packet]]:
    """What must come through: the hook, and what is known of the first packet."""
    lan = facts.interface(settings.network.interface)
    needed: dict[str, tuple[str, nft.Packet]] = {}
    for protocol in ("tcp", "udp"):
        for port in reachable(settings, protocol):
            came = {"meta iif": lan, "meta iifname": lan, f"{protocol} dport": port}
            needed[f"{port}/{protocol}"] = "input", {**_new(protocol), **came, "th dport": port}
    network, length = settings.network.pod_cidr.split("/")
    cidr = {"prefix": {"addr": network, "len": int(length)}}
    for name, word in PODS.items():
        needed[name] = "forward", {**_new("tcp"), f"ip {word}": cidr}
    return needed


def _new(protocol: str) -> nft.Packet:
    ip = {"meta nfproto": "ipv4", "meta l4proto": protocol, "ip protocol": protocol}
    return {**ip, "ct state": "new"}


def in_words(chains: dict[nft.Place, list[str]]) -> str:
    """``6443/tcp, 10250/tcp in the chain inet filter input``, for each chain."""
    return "; ".join(f"{', '.join(what)} in the chain {' '.join(c)}" for c, what in chains.items())


def rules_to_add(chains: dict[nft.Place, list[str]], settings: Settings) -> str:
    """The commands, for a person, that let it through."""
    rules = []
    for chain, needed in chains.items():
        if chain[1] == iptables.TABLE:
            rules += _legacy_rules(chain[2], needed, settings)
            continue
        begin = f"nft insert rule {' '.join(chain)}"
        for protocol in ("tcp", "udp"):
            ports = [name.split("/")[0] for name in needed if name.endswith(f"/{protocol}")]
            if ports:
                rules.append(f"`{begin} {protocol} dport {{ {', '.join(ports)} }} accept`")
        for name, word in PODS.items():
            if name in needed:
                rules.append(f"`{begin} ip {word} {settings.network.pod_cidr} accept`")
    return "; ".join(rules)


def _legacy_rules(chain: str, needed: list[str], settings: Settings) -> list[str]:
    begin = f"iptables-legacy -I {chain}"
    rules = []
    for protocol in ("tcp", "udp"):
        ports = [name.split("/")[0] for name in needed if name.endswith(f"/{protocol}")]
        for at in range(0, len(ports), 15):  # as many as one rule takes, iptables-extensions(8)
            listed = ",".join(ports[at : at + 15])
            rules.append(f"`{begin} -p {protocol} -m multiport --dports {listed} -j ACCEPT`")
    for name, word in PODS.items():
        if name in needed:
            rules.append(f"`{begin} -{word[0]} {settings.network.pod_cidr} -j ACCEPT`")
    return rules
