"""Hears the mDNS group with a socket of its own, beside zeroconf's (RFC 6762 3).

zeroconf tells neither whether the own announcement came back, nor from which address a record
came; the first is what an election rests on, the second is what keeps one flooding stranger from
crowding everybody else out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import ifaddr

GROUP, PORT = "224.0.0.251", 5353
MAX_PACKET = 9000  # RFC 6762 17
MAX_AT_ONCE = 64  # packets taken before others on the event loop get their turn
IP_MULTICAST_ALL = 49  # ip(7): 0 means only groups joined on this socket

OnPacket = Callable[[bytes, str], None]


class Ear:
    """Open from construction to ``close``; gives each packet with the address it came from."""

    def __init__(self, address: str, on_packet: OnPacket) -> None:
        """Listen on the interface that has ``address``. Raises OSError."""
        self._on_packet = on_packet
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            self._socket.bind((GROUP, PORT))
            member = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(address))
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._packets)

    def _packets(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(MAX_AT_ONCE):
                data, source = self._socket.recvfrom(MAX_PACKET)
                self._on_packet(data, source[0])

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._socket)
        self._socket.close()


def has_carrier(address: str) -> bool:
    """True where the interface with this address has a link; also where that cannot be known.

    The kernel loops multicast back on a dead cable too, so an echo alone shows nothing.
    """
    for adapter in ifaddr.get_adapters():
        if any(ip.ip == address for ip in adapter.ips):
            try:
                return Path(f"/sys/class/net/{adapter.name}/carrier").read_text().strip() != "0"
            except OSError:
                return True
    return False
