"""Do nftables rules that no firewall tool owns close what the cluster needs?

Such rules belong to nobody who could be asked, and no rule of the agent's own could open what they
close: so they are only read, and a person is told what to add.
"""

from __future__ import annotations

import json

from nodeagent.cluster.ports import reachable
from nodeagent.config.settings import Settings
from nodeagent.host.facts import Facts
from nodeagent.host.net import firewalls, nft

NFT = "/usr/sbin/nft"
# What ufw and firewalld make in nftables; they are asked themselves.
OWNED = {"ufw": ("ip", "filter"), "firewalld": ("inet", "firewalld"), "": None}
PODS = {"traffic from pods": "saddr", "traffic to pods": "daddr"}


def closing(facts: Facts, settings: Settings, *, surely: bool) -> dict[nft.Place, list[str]]:
    """The chains that surely drop (or else: that may drop) what the cluster needs: its ports, as
    ``6443/tcp``, and the traffic of pods. Rules for IPv6 are not looked at."""
    if not facts.exists(NFT) or ":" in (facts.address(settings.network.interface) or ""):
        return {}
    answer = facts.ask("nft", "-j", "list", "ruleset")
    try:
        document = json.loads(answer.out) if answer.status == 0 else {}
    except ValueError:
        return {}
    owned = OWNED[firewalls.active(facts)]
    found: dict[nft.Place, list[str]] = {}
    for name, (hook, packet) in _needed(facts, settings).items():
        for chain, sure in nft.closing(document, hook, packet).items():
            # Where iptables forwards, the rules of kube-proxy and the pod network come first.
            others = (owned, ("ip", "filter")) if hook == "forward" else (owned,)
            if sure == surely and chain[:2] not in others:
                found.setdefault(chain, []).append(name)
    return found


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
        begin = f"nft insert rule {' '.join(chain)}"
        for protocol in ("tcp", "udp"):
            ports = [name.split("/")[0] for name in needed if name.endswith(f"/{protocol}")]
            if ports:
                rules.append(f"`{begin} {protocol} dport {{ {', '.join(ports)} }} accept`")
        for name, word in PODS.items():
            if name in needed:
                rules.append(f"`{begin} ip {word} {settings.network.pod_cidr} accept`")
    return "; ".join(rules)
