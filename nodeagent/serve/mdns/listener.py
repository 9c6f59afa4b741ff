"""Hears the mDNS groups with sockets of its own, beside zeroconf's (RFC 6762 3).

zeroconf tells neither whether the own announcement came back, nor from which address a record
came; the first is what an election rests on, the second is what keeps one flooding stranger from
crowding everybody else out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import netifaces

GROUP, GROUP6, PORT = "224.0.0.251", "ff02::fb", 5353
MAX_PACKET = 9000  # RFC 6762 17
MAX_AT_ONCE = 64  # packets taken before others on the event loop get their turn
# ip(7), ipv6(7): 0 means only groups joined on this socket. Python names neither.
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29

OnPacket = Callable[[bytes, str, "Place"], None]


@dataclass(frozen=True)
class Place:
    """One group on one interface. ``address`` is the interface's own there: IPv4, or link-local
    IPv6 without zone."""

    interface: str
    address: str

    @property
    def version(self) -> int:
        """The IP version."""
        return 6 if ":" in self.address else 4

    @property
    def has_carrier(self) -> bool:
        """True where the interface has a link; also where that cannot be known.

        The kernel loops multicast back on a dead cable too, so an echo alone shows nothing.
        """
        try:
            carrier = Path(f"/sys/class/net/{self.interface}/carrier").read_text().strip()
        except OSError:
            return True
        return carrier != "0"


def places(interfaces: Iterable[str], address: str) -> tuple[Place, ...]:
    """Where mDNS can be spoken now: on each interface over IPv4 and over link-local IPv6, as far
    as it has such addresses. No interfaces: the one that has ``address``."""
    found = []
    for name in interfaces or _having(address):
        try:
            all_of_it = netifaces.ifaddresses(name)
        except ValueError:  # it is not there, or not any more
            continue
        fours = [str(entry["addr"]) for entry in all_of_it.get(netifaces.AF_INET, [])]
        sixes = [str(entry["addr"]) for entry in all_of_it.get(netifaces.AF_INET6, [])]
        # The main address, or the announced one where the interface has several.
        found += [Place(name, address if address in fours else four) for four in fours[:1]]
        local = [six.partition("%")[0] for six in sixes if six.startswith("fe80:")]
        found += [Place(name, six) for six in local[:1] if _settled(six, name)]
    return tuple(found)


def _settled(six: str, name: str) -> bool:
    """False while the address is tentative, the first second or two (RFC 4862 5.4): nothing can
    be sent from it then."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind((six, 0, 0, socket.if_nametoindex(name)))
        return True
    return False


def _having(address: str) -> list[str]:
    return [
        name
        for name in netifaces.interfaces()
        for family in (netifaces.AF_INET, netifaces.AF_INET6)
        if any(e["addr"] == address for e in netifaces.ifaddresses(name).get(family, []))
    ]


class Ear:
    """Open from construction to ``close``; gives each packet with the address it came from and
    the place where it was heard."""

    def __init__(self, place: Place, on_packet: OnPacket) -> None:
        """Listen in this place. Raises OSError."""
        self.place = place
        self._on_packet = on_packet
        four = place.version == 4
        self._socket = socket.socket(socket.AF_INET if four else socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._join_four() if four else self._join_six()
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._packets)

    def _join_four(self) -> None:
        self._socket.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        self._socket.bind((GROUP, PORT))
        index = socket.if_nametoindex(self.place.interface)
        # struct ip_mreqn, ip(7): the index decides, since an address can be on two interfaces.
        member = struct.pack("=4s4si", socket.inet_aton(GROUP), bytes(4), index)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)

    def _join_six(self) -> None:
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        index = socket.if_nametoindex(self.place.interface)
        self._socket.bind((GROUP6, PORT, 0, index))
        member = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("=I", index)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)

    def _packets(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(MAX_AT_ONCE):
                data, source = self._socket.recvfrom(MAX_PACKET)
                self._on_packet(data, source[0], self.place)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
