"""Which name servers the pods get.

CoreDNS asks those of its node. One on a loopback address is CoreDNS itself there, and it ends with
"Loop detected" (CoreDNS docs, plugin loop, "Troubleshooting").
"""

from __future__ import annotations

import ipaddress
import re

from nodeagent import paths
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts

# kubeadm takes this one where systemd-resolved runs (kubeadm, componentconfigs/kubelet.go).
RESOLVED = "/run/systemd/resolve/resolv.conf"
# Where others keep the name servers that they ask themselves: NetworkManager with a resolver of its
# own (NetworkManager.conf(5), dns), Debian's dnsmasq with resolvconf.
UPSTREAM = (
    paths.RESOLV_CONF,
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/dnsmasq/resolv.conf",
)


def servers(facts: Facts, path: str) -> list[str]:
    """The name servers in a file, as they stand there (resolv.conf(5))."""
    text = facts.text(path) or ""
    return re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)


def usual(facts: Facts) -> str:
    """The file that the kubelet gets where nobody says anything else."""
    return RESOLVED if facts.exists(RESOLVED) else paths.RESOLV_CONF


def loops(facts: Facts, path: str | None = None) -> bool:
    """One of the name servers that the pods would get is this node's own loopback."""
    return any(_is_own(one) for one in servers(facts, path or usual(facts)))


def other_file(facts: Facts) -> str:
    """A file with the right name servers for the kubelet; empty where the usual one is right, and
    where there is no better one."""
    if not loops(facts):
        return ""
    good = (one for one in UPSTREAM if servers(facts, one) and not loops(facts, one))
    return next(good, "")


def check(facts: Facts) -> None:
    """Raises Blocked where the pods would get a name server that is themselves."""
    own = [one for one in servers(facts, usual(facts)) if _is_own(one)]
    if not own or other_file(facts):
        return
    raise Blocked(
        f"The name server {', '.join(own)} in {usual(facts)} is on this node's own loopback,"
        " which in a pod is the pod: the cluster's DNS would end with `Loop detected`.",
        "Let that file name the router, or this node's resolver by its address on the network.",
    )


def _is_own(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
