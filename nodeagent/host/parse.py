"""Parsers of what the kernel and the distribution say: text in, values out, nothing read here.

Odd or cut-off text gives the empty answer, never an exception: these files describe a machine
that may just have lost power.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass


def memory_mib(meminfo: str) -> int:
    """Memory in MiB from /proc/meminfo (proc_meminfo(5): MemTotal in kB of 1024 bytes)."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def cpus(online: str) -> int:
    """Number of CPUs in a list such as ``0-3,6`` (kernel docs, admin-guide/cputopology)."""
    total = 0
    for part in online.strip().split(","):
        first, _, last = part.partition("-")
        if (first + last).isascii() and first.isdecimal() and (last or first).isdecimal():
            total += int(last or first) - int(first) + 1
    return total


def os_release(text: str) -> dict[str, str]:
    """The assignments of /etc/os-release (os-release(5)); quotes are taken off."""
    found = re.findall(r"^([A-Z_0-9]+)=(.*)$", text, re.MULTILINE)
    return {name: value.strip().strip("\"'") for name, value in found}


def seconds_up(uptime: str) -> float:
    """Seconds since boot from /proc/uptime (proc_uptime(5)); 0 where unreadable."""
    found = re.match(r"\d+(\.\d+)?", uptime)
    return float(found[0]) if found else 0.0


def swaps(text: str) -> tuple[str, ...]:
    """The names in use in /proc/swaps; its first line is a header (swapon(8))."""
    return tuple(line.split()[0] for line in text.splitlines()[1:] if line.strip())


def device_text(data: bytes) -> str:
    """A device tree string: NUL-terminated (Devicetree Specification 2.2.4)."""
    return data.split(b"\0")[0].decode("ascii", "replace").strip()


@dataclass(frozen=True)
class Route:
    """One route: interface, destination network, metric (smaller wins), and the router where there
    is one (of IPv4)."""

    interface: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    metric: int
    gateway: bool
    router: ipaddress.IPv4Address | None = None


def routes(text: str) -> tuple[Route, ...]:
    """The routes of /proc/net/route that are up. Addresses there are hexadecimal numbers in the
    byte order of the machine (proc_pid_net(5)); all boards of ours are little-endian."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 8:
            continue
        try:
            flags, metric = int(words[3], 16), int(words[6])
            network = ipaddress.IPv4Network((_address(words[1]), str(_address(words[7]))))
            router = _address(words[2]) if flags & 0x2 else None
        except (ValueError, struct.error):
            continue
        if flags & 0x1:  # RTF_UP, linux/route.h; 0x2 is RTF_GATEWAY
            found.append(Route(words[0], network, metric, bool(flags & 0x2), router))
    return tuple(found)


def _address(text: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(struct.pack("<I", int(text, 16)))


def local_addresses(fib_trie: str) -> tuple[ipaddress.IPv4Address, ...]:
    """The machine's own addresses in /proc/net/fib_trie: each leaf ``|-- ADDRESS`` that is
    followed by ``/32 host LOCAL`` (Linux, net/ipv4/fib_trie.c, fib_trie_seq_show)."""
    found: dict[ipaddress.IPv4Address, None] = {}
    leaf = ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"] and len(words) > 1:
            leaf = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            try:
                found[ipaddress.IPv4Address(leaf)] = None
            except ValueError:
                continue
    return tuple(found)


def routes6(text: str) -> tuple[Route, ...]:
    """The routes of /proc/net/ipv6_route that are up (Linux, net/ipv6/route.c, rt6_info_route):
    destination and prefix length, source and its, next hop, metric, counters, flags, interface;
    all in hexadecimal. Those that refuse (RTF_REJECT, linux/ipv6_route.h) are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10:
            continue
        try:
            length, metric, flags = int(words[1], 16), int(words[5], 16), int(words[8], 16)
            network = ipaddress.IPv6Network((bytes.fromhex(words[0]), length))
        except ValueError:
            continue
        if flags & 0x1 and not flags & 0x200:
            found.append(Route(words[9], network, metric, bool(flags & 0x2)))
    return tuple(found)


@dataclass(frozen=True)
class Address6:
    """One IPv6 address. ``lasting``: neither temporary (RFC 8981) nor deprecated, and free of
    conflict (RFC 4862 5.4)."""

    interface: str
    address: ipaddress.IPv6Address
    lasting: bool


# IFA_F_TEMPORARY, _DADFAILED, _DEPRECATED, _TENTATIVE, linux/if_addr.h.
PASSING = 0x01 | 0x08 | 0x20 | 0x40


def inet6(text: str) -> tuple[Address6, ...]:
    """The addresses of /proc/net/if_inet6 (Linux, net/ipv6/addrconf.c, if6_seq_show): address,
    interface index, prefix length, scope and flags in hexadecimal, interface."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 6:
            continue
        try:
            address = ipaddress.IPv6Address(bytes.fromhex(words[0]))
            flags = int(words[4], 16)
        except ValueError:
            continue
        found.append(Address6(words[5], address, not flags & PASSING))
    return tuple(found)
