"""Candidates by mDNS (RFC 6762, RFC 6763): announce the own beacon, collect those of others.

What is heard is a hint, never a proof: nothing here opens a seal, and a record that displaces
another does not displace the candidate made of it. The ears hear, zeroconf only announces and
asks: nothing a stranger can word reaches it. Runs in the network process, on one event loop, over
IPv4 and IPv6 on the LAN interfaces that the agent names.
"""

from __future__ import annotations

import logging
import time
from itertools import islice
from typing import Any

from zeroconf import DNSQuestionType, IPVersion, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from nodeagent.fleet.handoff import Announcement, Candidate
from nodeagent.serve.mdns import socket_filter as packetfilter
from nodeagent.serve.mdns import txt_records as mdnstext
from nodeagent.serve.mdns.candidates import Pool
from nodeagent.serve.mdns.listener import Ear, Place, places
from nodeagent.serve.mdns.rate_limit import Budget
from nodeagent.trust import wire

LOG = logging.getLogger("nodeagent")

TYPE = "_nodeagent._tcp.local."
MARK = b"\x0a_nodeagent\x04_tcp"  # in every packet that names the type (RFC 1035 3.1)
CHUNK = 250  # a TXT string has at most 255 bytes with its key (RFC 6763 6.1)
MAX_STRINGS = 4
MAX_TEXTS = 4  # records taken of one packet; a node sends one


def to_txt(beacon: str) -> dict[str, str]:
    """A sealed beacon as TXT strings b0, b1, ..."""
    pieces = [beacon[start : start + CHUNK] for start in range(0, len(beacon), CHUNK)]
    return {f"b{number}": piece for number, piece in enumerate(pieces)}


def from_txt(text: bytes) -> str | None:
    """The sealed beacon in the strings of a TXT record (RFC 1035 3.3.14), or None."""
    strings: dict[bytes, bytes] = {}
    while text and len(strings) < MAX_STRINGS:
        string, text = text[1 : 1 + text[0]], text[1 + text[0] :]
        name, _, value = string.partition(b"=")
        strings.setdefault(name, value)
    pieces = [strings.get(f"b{number}".encode(), b"") for number in range(MAX_STRINGS)]
    try:
        return str(wire.text(r"[A-Za-z0-9_-]+", 900)(b"".join(pieces).decode("ascii")))
    except (wire.Malformed, UnicodeDecodeError):
        return None


class Discovery:
    """Announces one beacon and keeps the candidates heard.

    ``own_heard`` is when the own announcement last came back (unix time), ``changed`` is set
    when there is something new to tell the agent.
    """

    def __init__(self) -> None:
        self.own_heard: int | None = None
        self.changed = False
        self._pool = Pool()
        self._budget = Budget()
        self._said: Announcement | None = None
        self._echo = b""
        self._places: tuple[Place, ...] = ()
        self._ears: list[Ear] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None

    @property
    def candidates(self) -> list[Candidate]:
        """All that are remembered, newest last."""
        return self._pool.all()

    async def announce(self, wanted: Announcement) -> None:
        """Make the network say this, wherever that is possible now; does nothing where it says so
        already. Raises OSError, and what zeroconf raises."""
        said, here = self._said, places(wanted.interfaces, wanted.interface_address)
        if said is not None and here == self._places:
            if said != wanted:
                self._say(wanted)
                assert self._zeroconf is not None
                await self._zeroconf.async_update_service(_info(wanted))
            return
        await self.close()
        if not here:
            return  # no link, no address: the next look may find some
        try:
            self._places = here
            for place in here:
                self._listen(place)
            heard = [ear.place for ear in self._ears]
            six = any(place.version == 6 for place in heard)
            self._zeroconf = AsyncZeroconf(
                interfaces=[_zoned(place) for place in heard],
                # A socket of both versions where IPv6 is there at all.
                ip_version=IPVersion.All if six else IPVersion.V4Only,
            )
            await self._zeroconf.zeroconf.async_wait_for_start()
            _deafen(self._zeroconf.zeroconf)
            self._say(wanted)
            # Cooperating: without it anybody could keep this node silent by taking its name.
            await self._zeroconf.async_register_service(_info(wanted), cooperating_responders=True)
            # It only asks; by multicast, so that the answers come to the ear.
            self._browser = AsyncServiceBrowser(
                self._zeroconf.zeroconf,
                TYPE,
                handlers=[_hears_nothing],
                question_type=DNSQuestionType.QM,
            )
        except BaseException:
            await self.close()  # the next attempt begins anew
            raise

    def _listen(self, place: Place) -> None:
        """One interface that fails must not silence the others. Raises OSError where all do."""
        try:
            self._ears.append(Ear(place, self._packet))
        except OSError as error:
            LOG.warning("no mDNS on %s from %s: %s", place.interface, place.address, error)
            if place == self._places[-1] and not self._ears:
                raise

    def _say(self, wanted: Announcement) -> None:
        self._said = wanted
        # A TXT string stands in a packet as it is.
        self._echo = to_txt(wanted.beacon)["b0"].encode()

    def _packet(self, data: bytes, source: str, place: Place) -> None:
        """A multicast packet: the own echo, or somebody's records."""
        if MARK not in data or self._said is None:
            return
        if self._echo and self._echo in data and place.has_carrier:
            self._echo = b""
            self.own_heard, self.changed = int(time.time()), True
        if any(source == own.address for own in self._places):
            return
        if self._budget.allows(source, time.monotonic()):
            for name, text in islice(mdnstext.texts(data), MAX_TEXTS):
                self._note(source, name, text, self._said.port, place)

    def _note(self, source: str, name: str, text: bytes, port: int, place: Place) -> None:
        instance, beacon = name.removesuffix(f".{TYPE[:-1]}"), from_txt(text)
        try:
            wire.node_id(instance)
            wire.port(port)
        except wire.Malformed:
            return
        own = self._said is not None and instance == self._said.instance
        if beacon is None or own:
            return
        # Most nodes say all over both versions of IP; once is enough, and leaves room for others.
        if place.version == 4 or not self._pool.holds(instance, beacon):
            self.changed |= self._pool.add(source, instance, source, port, beacon)

    async def close(self) -> None:
        """Leave the network, with a goodbye where possible. Candidates are kept."""
        self._said, self._echo, self._places = None, b"", ()
        while self._ears:
            self._ears.pop().close()
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf is not None:
            await self._zeroconf.async_close()
            self._zeroconf = None


def _deafen(zeroconf: Zeroconf) -> None:
    """Let the library have nothing but questions for our type. Raises OSError."""
    for reader in zeroconf.engine.readers:
        transport: Any = getattr(reader, "transport", reader)  # wrapped since 0.48
        packetfilter.attach(transport.get_extra_info("socket"), TYPE)


def _hears_nothing(**_: object) -> None:
    """A browser must have a handler; the ear hears instead."""


def _zoned(place: Place) -> str:
    """As zeroconf wants it."""
    return place.address if place.version == 4 else f"{place.address}%{place.interface}"


def _info(announcement: Announcement) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        TYPE,
        f"{announcement.instance}.{TYPE}",
        parsed_addresses=[announcement.interface_address],
        port=announcement.port,
        # After the beacon: others read no more strings than a beacon has.
        properties=to_txt(announcement.beacon)
        | ({"phase": announcement.phase} if announcement.phase else {}),
        server=f"{announcement.instance}.local.",
    )
