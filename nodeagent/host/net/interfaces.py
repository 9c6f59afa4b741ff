"""Which interfaces lead to the LAN, and the addresses on them: read from the kernel's files.

Containers, tunnels and virtual machines fill a node with interfaces that lead nowhere else.
What tells them apart is in sysfs (kernel docs, ABI/testing/sysfs-class-net), not their names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Protocol

from nodeagent import paths
from nodeagent.host import parse

ETHERNET = "1"  # ARPHRD_ETHER, linux/if_arp.h: wired and wireless cards, not tunnels
# What a person may make of real cards; other kinds (vxlan, macvlan) carry the pods' traffic.
STACKED = ("bridge", "bond", "vlan")
# Names as the CNI plugins, Docker, libvirt and the kernel give them. They decide only where sysfs
# tells too little: in a container, where no interface has a card behind it.
NOT_LAN = re.compile(
    r"lo|(veth|cni|flannel|docker|br-|virbr|kube-|cali|cilium|weave|tun|tap|wg|dummy).*"
)


class Machine(Protocol):
    """What is asked of ``Facts``."""

    def text(self, path: str) -> str | None:
        """A file's text."""

    def exists(self, path: str) -> bool:
        """True for what is there."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder."""

    def addresses_of(self, interface: str) -> tuple[str, ...]:
        """IPv4 addresses as the kernel lists them, the main one first."""


def lan(machine: Machine) -> tuple[str, ...]:
    """The interfaces that lead to the LAN, wired ones first.

    A real card, unless it is a port of a bridge or bond, which then has the addresses; a bridge,
    bond or VLAN on a real card. Where there is no card at all, as in a container, an Ethernet
    interface that is none of these and has no name of a container's.
    """
    names = machine.names(paths.INTERFACES)
    single = [name for name in names if _is_ethernet(machine, name)]
    found = [name for name in single if _has_card(machine, name)]
    if not found:
        found = [n for n in single if not _kind(machine, n) and not NOT_LAN.fullmatch(n)]
    return tuple(sorted(found, key=lambda name: _order(machine, name)))


def _order(machine: Machine, name: str) -> tuple[bool, bool, str]:
    return _is_gadget(machine, name), not is_wired(machine, name), name


def _is_gadget(machine: Machine, name: str) -> bool:
    """A board that is another computer's network card over USB (g_ether, usb0): behind that is one
    computer, and the fleet's other nodes are not (Linux, drivers/usb/gadget/function/u_ether.c)."""
    return _kind(machine, name) == "gadget"


def _is_ethernet(machine: Machine, name: str) -> bool:
    folder = f"{paths.INTERFACES}/{name}"
    if machine.exists(f"{folder}/master") or machine.exists(f"{folder}/tun_flags"):
        return False
    return (machine.text(f"{folder}/type") or "").strip() == ETHERNET


def _has_card(machine: Machine, name: str, depth: int = 4) -> bool:
    """True for a card, and for what is stacked on one; a card with ``master`` counts here."""
    if machine.exists(f"{paths.INTERFACES}/{name}/device"):
        return True
    below = (
        machine.names(f"{paths.INTERFACES}/{name}")
        if _kind(machine, name) in STACKED and depth
        else []
    )
    lower = [entry.removeprefix("lower_") for entry in below if entry.startswith("lower_")]
    return any(_has_card(machine, one, depth - 1) for one in lower)


def _kind(machine: Machine, name: str) -> str:
    """``bridge``, ``vxlan``, ``wlan`` …: DEVTYPE of the device; empty for plain cards and veth."""
    text = machine.text(f"{paths.INTERFACES}/{name}/uevent") or ""
    found = re.search(r"^DEVTYPE=(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def is_wired(machine: Machine, name: str) -> bool:
    """True unless cfg80211 (phy80211) or the wireless extensions (wireless) drive it."""
    return not any(
        machine.exists(f"{paths.INTERFACES}/{name}/{sign}") for sign in ("phy80211", "wireless")
    )


def main_interface(machine: Machine) -> str | None:
    """The LAN interface of the best default route: a USB gadget last, IPv4 before IPv6, then the
    smaller metric, then wired. None where there is no such route."""
    default = [route for route in routes(machine) if route.network.prefixlen == 0]
    best = min(
        (route for route in default if _is_lan(machine, route.interface)),
        key=lambda r: (
            _is_gadget(machine, r.interface),
            r.network.version,
            r.metric,
            not is_wired(machine, r.interface),
        ),
        default=None,
    )
    return best.interface if best else None


def _is_lan(machine: Machine, name: str) -> bool:
    """As ``lan``, without a look at all the others in the usual case: there may be many pods."""
    if not machine.exists(f"{paths.INTERFACES}/{name}"):  # no sysfs, as in some containers
        return not NOT_LAN.fullmatch(name)
    return (_is_ethernet(machine, name) and _has_card(machine, name)) or name in lan(machine)


def routes(machine: Machine) -> tuple[parse.Route, ...]:
    """All routes of the main table, of IPv4 and IPv6."""
    return parse.routes(machine.text("/proc/net/route") or "") + parse.routes6(
        machine.text("/proc/net/ipv6_route") or ""
    )


def address(machine: Machine, name: str, version: int) -> str | None:
    """An address of this interface that a cluster can use, of IP ``version`` where there is one,
    else of the other.

    Link-local ones are none: the kubelet refuses them (Kubernetes, validateNodeIP).
    """
    for wanted in (version, 10 - version):
        found = next((_four if wanted == 4 else _six)(machine, name), None)
        if found is not None:
            return found
    return None


def _four(machine: Machine, name: str) -> Iterator[str]:
    """Without asking for them in the usual case, since this is looked at every few seconds: the
    one local address inside the interface's own networks."""
    networks = [
        route.network
        for route in routes(machine)
        if route.interface == name and route.network.prefixlen > 0 and not route.gateway
    ]
    own = [
        str(address)
        for address in parse.local_addresses(machine.text("/proc/net/fib_trie") or "")
        if any(address in network for network in networks)
    ]
    for text in own if len(own) == 1 else machine.addresses_of(name):
        if not ipaddress.ip_address(text).is_link_local:
            yield text


def _six(machine: Machine, name: str) -> Iterator[str]:
    """Lasting addresses, unique local ones (RFC 4193) first: those from a provider's prefix
    change when it does."""
    found = [
        entry.address
        for entry in parse.inet6(machine.text("/proc/net/if_inet6") or "")
        if entry.interface == name and entry.lasting and not entry.address.is_link_local
    ]
    for best in sorted(found, key=lambda a: (a not in UNIQUE_LOCAL, int(a))):
        yield str(best)


UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")
