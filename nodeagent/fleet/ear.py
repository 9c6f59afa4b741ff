"""Hears whether this node's own announcement comes back by multicast.

zeroconf does not tell (it drops what it knows), so a second socket joins the mDNS group (RFC 6762
3) and looks for the beacon's text in the packets. It is open only for some seconds after each
announcement, so that an idle node does nothing. The kernel loops packets back even on a dead
cable, hence the look at the carrier.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from pathlib import Path

import ifaddr

GROUP, PORT = "224.0.0.251", 5353
PATIENCE = 8.0  # seconds an announcement may take to come back
IP_MULTICAST_ALL = 49  # ip(7): 0 means only groups joined on this socket


class Ear:
    """``heard`` is when the own text last came back (unix time), or None."""

    def __init__(self) -> None:
        self.heard: int | None = None
        self._needle = b""
        self._socket: socket.socket | None = None
        self._end: asyncio.TimerHandle | None = None

    def listen_for(self, text: str, address: str) -> None:
        """Begin to listen on the interface that has ``address``. Raises OSError."""
        self.close()
        self._needle = text.encode("ascii")
        if not has_carrier(address):
            return
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            ear.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            ear.bind((GROUP, PORT))
            member = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(address))
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            ear.setblocking(False)
        except OSError:
            ear.close()
            raise
        self._socket = ear
        loop = asyncio.get_running_loop()
        loop.add_reader(ear, self._packet)
        self._end = loop.call_later(PATIENCE, self.close)

    def _packet(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(BlockingIOError):
            # A TXT string stands in a packet as it is (RFC 1035 3.3.14).
            if self._needle in self._socket.recv(9000):
                self.heard = int(time.time())
                self.close()

    def close(self) -> None:
        """Stop listening; may be called at any time."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None


def has_carrier(address: str) -> bool:
    """True where the interface with this address has a link; also where that cannot be known."""
    for adapter in ifaddr.get_adapters():
        if any(ip.ip == address for ip in adapter.ips):
            try:
                return Path(f"/sys/class/net/{adapter.name}/carrier").read_text().strip() != "0"
            except OSError:
                return True
    return False
