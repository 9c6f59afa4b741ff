"""The mDNS groups (RFC 6762 3) on the links of this machine: where they are, and their sockets."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import netifaces

from nodeagent.serve.mdns.rate_limit import Pace

LOG = logging.getLogger("nodeagent")

GROUP, GROUP6, PORT = "224.0.0.251", "ff02::fb", 5353
MAX_PACKET = 9000  # RFC 6762 17
HOPS = 255  # RFC 6762 11
MAX_AT_ONCE = 64  # packets taken before other links get their turn
# ip(7), ipv6(7): 0 means only groups joined on this socket. Python names neither.
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29


@dataclass(frozen=True)
class Link:
    """A group on an interface, whose own ``address`` is IPv4, or link-local IPv6 without zone."""

    interface: str
    address: str

    @property
    def version(self) -> int:
        """The IP version."""
        return 6 if ":" in self.address else 4

    @property
    def has_carrier(self) -> bool:
        """True where the interface has a link; also where that cannot be known.
        The kernel loops multicast back on a dead cable too, so an echo alone shows nothing."""
        try:
            carrier = Path(f"/sys/class/net/{self.interface}/carrier").read_text().strip()
        except OSError:
            return True
        return carrier != "0"


def links(interfaces: Collection[str], address: str) -> tuple[Link, ...]:
    """Where mDNS can be spoken now: on each interface over IPv4 and over link-local IPv6, as far
    as it has such addresses. No interfaces: the one that has ``address``."""
    found = []
    for name in interfaces or netifaces.interfaces():
        try:
            all_of_it = netifaces.ifaddresses(name)
        except ValueError:  # it is not there, or not any more
            continue
        fours = [str(entry["addr"]) for entry in all_of_it.get(netifaces.AF_INET, [])]
        sixes = [str(entry["addr"]) for entry in all_of_it.get(netifaces.AF_INET6, [])]
        if not interfaces and address not in (*fours, *sixes):
            continue
        # The main address, or the announced one where the interface has several.
        found += [Link(name, address if address in fours else four) for four in fours[:1]]
        local = [six.partition("%")[0] for six in sixes if six.startswith("fe80:")]
        found += [Link(name, six) for six in local[:1] if _settled(six, name)]
    return tuple(found)


def _settled(six: str, name: str) -> bool:
    """False while the address is tentative, the first second or two (RFC 4862 5.4): nothing can
    be sent from it then."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        # At the port that the unit lets this process have (SocketBindDeny=).
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((six, PORT, 0, socket.if_nametoindex(name)))
        return True
    return False


class GroupSocket:
    """Hears and speaks to the group on one link, open from construction to ``close``."""

    def __init__(self, link: Link) -> None:
        """Raises OSError."""
        self.link = link
        self.pace = Pace()
        self._ancillary: list[tuple[int, int, bytes]] = []
        index = socket.if_nametoindex(link.interface)
        if link.version == 4:
            family, own = socket.AF_INET, socket.inet_aton(link.address)
            self._target: tuple[str, int] | tuple[str, int, int, int] = (GROUP, PORT)
            # struct ip_mreqn, ip(7): the index decides, since an address can be on two interfaces.
            member = struct.pack("=4s4si", socket.inet_aton(GROUP), own, index)
            options: list[tuple[int, int, int | bytes]] = [
                (socket.IPPROTO_IP, IP_MULTICAST_ALL, 0),
                (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member),
                (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member),  # source address, too
                (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS),
            ]
        else:
            family, own = socket.AF_INET6, socket.inet_pton(socket.AF_INET6, link.address)
            self._target = (GROUP6, PORT, 0, index)
            where = struct.pack("=I", index)  # struct ipv6_mreq, in6_pktinfo, ipv6(7)
            self._ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, own + where)]
            member = socket.inet_pton(socket.AF_INET6, GROUP6) + where
            options = [
                (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1),
                (socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0),
                (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member),
                (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOPS),
            ]
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            for share in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                self._socket.setsockopt(socket.SOL_SOCKET, share, 1)
            for option in options:
                self._socket.setsockopt(*option)
            self._socket.bind(self._target)  # to the group: what is sent to others stays out
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For select(2)."""
        return self._socket.fileno()

    def packets(self) -> Iterator[tuple[bytes, str]]:
        """What came, (packet, source address), at most so much that others get their turn."""
        with contextlib.suppress(OSError):
            for _ in range(MAX_AT_ONCE):
                data, source = self._socket.recvfrom(MAX_PACKET)
                if source[1] == PORT:  # others are no responders, or want unicast, RFC 6762 6.7
                    yield data, source[0]

    def send(self, packets: Collection[bytes]) -> None:
        """Say this to the group. What the link does not carry now is said again later."""
        try:
            for packet in packets:
                self._socket.sendmsg([packet], self._ancillary, 0, self._target)
        except OSError as error:
            LOG.debug("mDNS on %s: %s", self.link.interface, error)

    def close(self) -> None:
        """Neither hear nor speak any more."""
        self._socket.close()
