"""Candidates by mDNS (RFC 6762, RFC 6763): announce the own beacon, collect those of others.

What is heard is a hint, never a proof: nothing here opens a seal, and a record that displaces
another does not displace the candidate made of it. Runs in the network process, over IPv4 and IPv6
on the LAN interfaces that the agent names.

Two departures from RFC 6762. A name is not probed for (8.1): it is the hash of the node's own key,
and yielding to whoever says it too (9) would let anybody keep a node silent. Whoever asks is
answered to the group with all records, also where an answer to it alone is wanted (5.4, 6.7): so
others hear it too, and no packet goes where a forged source address leads.
"""

from __future__ import annotations

import logging
import random
import select
import time
from itertools import islice

from nodeagent.fleet.handoff import Announcement, Candidate
from nodeagent.serve.mdns import message
from nodeagent.serve.mdns.candidates import Pool
from nodeagent.serve.mdns.link import GroupSocket, Link, links
from nodeagent.serve.mdns.rate_limit import JITTER, Budget

LOG = logging.getLogger("nodeagent")

MAX_BEACONS = 4  # taken of one packet; a node sends one
# Seconds until the question is asked again, by what this grows, and how far. RFC 6762 5.2.
AGAIN, SLOWER, SELDOM = 1.0, 3, 3600.0


class Discovery:
    """Announces one beacon, answers for it, and keeps the candidates heard.

    ``own_heard`` is when the own announcement last came back (unix time), ``changed`` is set
    when there is something new to tell the agent.
    """

    def __init__(self) -> None:
        self.own_heard: int | None = None
        self.changed = False
        self._pool = Pool()
        self._budget = Budget()
        self._said: Announcement | None = None
        self._records: list[bytes] = []
        self._echo = b""
        self._links: tuple[Link, ...] = ()
        self._sockets: list[GroupSocket] = []
        self._ask_at, self._pause = 0.0, AGAIN

    @property
    def candidates(self) -> list[Candidate]:
        """All that are remembered, newest last."""
        return self._pool.all()

    def announce(self, wanted: Announcement) -> None:
        """Make the network say this, wherever that is possible now; does nothing where it says so
        already. Raises OSError."""
        here = links(wanted.interfaces, wanted.interface_address)
        if here != self._links:
            self.close()
            self._open(here)
            self._ask_at, self._pause = time.monotonic() + random.uniform(*JITTER), AGAIN  # noqa: S311
        if wanted == self._said:
            return
        if self._said is not None and self._said.instance != wanted.instance:
            self._send(message.records(self._said, 0))
        self._said, self._records = wanted, message.records(wanted)
        # A TXT string stands in a packet as it is.
        self._echo = message.to_txt(wanted.beacon)["b0"].encode()
        for sock in self._sockets:
            sock.pace.news(time.monotonic())

    def _open(self, here: tuple[Link, ...]) -> None:
        """One interface that fails must not silence the others. Raises OSError where all do."""
        for link in here:
            try:
                self._sockets.append(GroupSocket(link))
            except OSError as error:
                LOG.warning("no mDNS on %s from %s: %s", link.interface, link.address, error)
                if link == here[-1] and not self._sockets:
                    raise
        self._links = here

    def _send(self, packets: list[bytes]) -> None:
        for sock in self._sockets:
            sock.send(packets)

    def run(self, seconds: float) -> None:
        """Hear, answer and ask for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now >= self._ask_at:
                self._send([message.QUESTION])
                self._ask_at, self._pause = now + self._pause, min(self._pause * SLOWER, SELDOM)
            for sock in self._sockets:
                if sock.pace.is_due(now):
                    sock.send(self._records)
            until = min([end, self._ask_at, *(sock.pace.due or end for sock in self._sockets)])
            heard = select.select(self._sockets, [], [], max(0.0, until - time.monotonic()))[0]
            for sock in heard:
                for data, source in sock.packets():
                    if self._packet(data, source, sock.link):
                        sock.pace.asked(time.monotonic())

    def _packet(self, data: bytes, source: str, link: Link) -> bool:
        """A packet of the group: the own echo, beacons, or a question; True where it is to be
        answered."""
        said, lower = self._said, data.lower()
        if said is None or (message.MARK not in lower and said.instance.encode() not in lower):
            return False
        if self._echo and self._echo in data and link.has_carrier:
            self._echo = b""
            self.own_heard, self.changed = int(time.time()), True
        if not self._budget.allows(source, time.monotonic()):
            return False
        if not any(source == own.address for own in self._links):
            for instance, beacon in islice(message.beacons(data), MAX_BEACONS):
                # Most nodes say all over both versions of IP; once is enough, and leaves room.
                again = link.version == 6 and self._pool.holds(instance, beacon)
                if instance != said.instance and not again:
                    self.changed |= self._pool.add(source, instance, source, said.port, beacon)
        return message.asks(data, said.instance)

    def close(self) -> None:
        """Leave the network, with a goodbye. Candidates are kept."""
        if self._said is not None:
            self._send(message.records(self._said, 0))
        self._said, self._echo, self._links = None, b"", ()
        while self._sockets:
            self._sockets.pop().close()
