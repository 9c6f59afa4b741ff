"""Candidates by mDNS (RFC 6762, RFC 6763): announce the own beacon, collect those of others.

What is heard is a hint, never a proof: nothing here opens a seal, and a record that displaces
another does not displace the candidate made of it. Runs in the network process, on one event
loop, on the one LAN interface that the agent names.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from nodeagent.fleet import exchange, wire
from nodeagent.fleet.ear import Ear
from nodeagent.fleet.exchange import Announcement, Candidate

TYPE = "_nodeagent._tcp.local."
CHUNK = 250  # a TXT string has at most 255 bytes with its key (RFC 6763 6.1)
MAX_ASKING = 8  # incomplete records asked for at a time
MAX_ADDRESSES = 4  # of one instance


def to_txt(beacon: str) -> dict[str, str]:
    """A sealed beacon as TXT strings b0, b1, ..."""
    pieces = [beacon[start : start + CHUNK] for start in range(0, len(beacon), CHUNK)]
    return {f"b{number}": piece for number, piece in enumerate(pieces)}


def from_txt(properties: dict[bytes, bytes | None]) -> str | None:
    """The sealed beacon in TXT strings, or None where there is none of the right form."""
    pieces = []
    for number in range(4):
        piece = properties.get(f"b{number}".encode())
        if piece is None:
            break
        pieces.append(piece)
    try:
        return str(wire.text(r"[A-Za-z0-9_-]+", 900)(b"".join(pieces).decode("ascii")))
    except (wire.Malformed, UnicodeDecodeError):
        return None


class Discovery:
    """Announces one beacon and keeps every candidate heard, at most 64."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.changed = False  # set when there is something new to tell the agent
        self._candidates: dict[tuple[str, str, int], Candidate] = {}
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._said: Announcement | None = None
        self._asking: set[asyncio.Task[None]] = set()

    @property
    def candidates(self) -> list[Candidate]:
        """All that were heard, newest last."""
        return sorted(self._candidates.values(), key=lambda entry: entry.last)

    async def announce(self, announcement: Announcement) -> None:
        """Make the network say this; does nothing where it says so already. Raises OSError."""
        before, self._said = self._said, announcement
        if before is None or before.interface_address != announcement.interface_address:
            await self.close()
            self._said = announcement
            await self._open(announcement)
        elif (before.beacon, before.port) != (announcement.beacon, announcement.port):
            assert self._zeroconf is not None
            self.ear.listen_for(to_txt(announcement.beacon)["b0"], announcement.interface_address)
            await self._zeroconf.async_update_service(_info(announcement))

    async def _open(self, announcement: Announcement) -> None:
        try:
            self._zeroconf = AsyncZeroconf(
                interfaces=[announcement.interface_address], ip_version=IPVersion.V4Only
            )
            await self._zeroconf.zeroconf.async_wait_for_start()
            self.ear.listen_for(to_txt(announcement.beacon)["b0"], announcement.interface_address)
            # Cooperating: without it anybody could keep this node silent by taking its name.
            await self._zeroconf.async_register_service(
                _info(announcement), cooperating_responders=True
            )
            self._browser = AsyncServiceBrowser(
                self._zeroconf.zeroconf, TYPE, handlers=[self._on_change]
            )
        except Exception:
            await self.close()  # the next attempt begins anew
            raise

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        instance = name.removesuffix(f".{TYPE}")
        try:
            wire.node_id(instance)
        except wire.Malformed:
            return
        own = self._said is not None and instance == self._said.instance
        if own or state_change is ServiceStateChange.Removed:
            return
        # At once, while the cache still holds what the packet said.
        info = AsyncServiceInfo(TYPE, name)
        if info.load_from_cache(zeroconf):
            self._note(instance, info)
        elif len(self._asking) < MAX_ASKING:
            task = asyncio.get_running_loop().create_task(self._ask(zeroconf, instance, info))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, zeroconf: Zeroconf, instance: str, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, 3000):
            self._note(instance, info)

    def _note(self, instance: str, info: AsyncServiceInfo) -> None:
        beacon = from_txt(info.properties)
        if beacon is None or not info.port:
            return
        now = int(time.time())
        for address in info.parsed_addresses(IPVersion.V4Only)[:MAX_ADDRESSES]:
            key = (instance, address, info.port)
            known = self._candidates.get(key)
            if known is not None and known.beacon == beacon:
                continue
            if known is None and len(self._candidates) >= exchange.MAX_CANDIDATES:
                # By lot: whoever floods the network cannot choose who is forgotten.
                del self._candidates[random.choice(list(self._candidates))]  # noqa: S311  no secret
            fresh = Candidate(address, info.port, beacon, now, now)
            self._candidates[key] = replace(fresh, first=known.first) if known else fresh
            self.changed = True

    async def close(self) -> None:
        """Leave the network, with a goodbye where possible. Candidates are kept."""
        self._said = None
        self.ear.close()
        for task in list(self._asking):
            task.cancel()
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf is not None:
            await self._zeroconf.async_close()
            self._zeroconf = None


def _info(announcement: Announcement) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        TYPE,
        f"{announcement.instance}.{TYPE}",
        parsed_addresses=[announcement.interface_address],
        port=announcement.port,
        properties=to_txt(announcement.beacon),
        server=f"{announcement.instance}.local.",
    )
