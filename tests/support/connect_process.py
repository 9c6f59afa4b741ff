"""A stranger who connects: ``python -m tests.support.connect_process ADDRESS PORT KIND COUNT RATE
ROOT SOURCE...``.

Opens COUNT connections, RATE a second, from all SOURCE addresses in turn, and keeps each open
until the server ends it. ROOT is the folder of a node of the fleet, for those that are a member's.
Prints how many were opened and the most that were open at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.trust.anchors import server_name
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

Act = Callable[[asyncio.StreamWriter], Awaitable[None]]


def client_hello() -> bytes:
    """The first message of a TLS handshake (RFC 8446 4.1.2)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(
        incoming, outgoing, server_hostname="x.internal"
    )
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


HELLO = client_hello()


async def idle(writer: asyncio.StreamWriter) -> None:
    """Says nothing."""


async def drip(writer: asyncio.StreamWriter, data: bytes = HELLO) -> None:
    """One byte a second."""
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(1)


async def half(writer: asyncio.StreamWriter) -> None:
    """Half a handshake, which costs the server a signature."""
    writer.write(HELLO)


async def garbage(writer: asyncio.StreamWriter) -> None:
    """Random bytes."""
    writer.write(os.urandom(2000))


async def slow_header(writer: asyncio.StreamWriter) -> None:
    """A header that does not end."""
    await drip(writer, b"GET /v1/nonce HTTP/1.1\r\n" + b"X-Y: z\r\n" * 100)


async def long_header(writer: asyncio.StreamWriter) -> None:
    """As much header as is taken."""
    while True:
        writer.write(b"X-Y: " + b"z" * 1000 + b"\r\n")
        await writer.drain()


KINDS: dict[str, tuple[str, Act, bool]] = {
    "idle": ("idle", idle, False),
    "drip": ("a handshake, one byte a second", drip, False),
    "half": ("half a handshake, then nothing", half, False),
    "garbage": ("random bytes", garbage, False),
    "member": ("with a member's certificate, a header of one byte a second", slow_header, True),
    "header": ("without TLS, an endless header", long_header, False),
    "page": ("a header of one byte a second", slow_header, False),
}


class Attack:
    """Counts what is open."""

    def __init__(self, address: str, port: int, act: Act, tls: ssl.SSLContext | None) -> None:
        self.address, self.port, self.act, self.tls = address, port, act, tls
        self.opened = self.now = self.most = 0

    async def one(self, source: str, name: str) -> None:
        """One connection, until the server ends it."""
        try:
            reader, writer = await asyncio.open_connection(
                self.address, self.port, local_addr=(source, 0), ssl=self.tls,
                server_hostname=name if self.tls is not None else None,
            )  # fmt: skip
        except OSError:
            return
        self.opened += 1
        self.now += 1
        self.most = max(self.most, self.now)
        acting = asyncio.ensure_future(self.act(writer))
        with contextlib.suppress(OSError):
            while await reader.read(4096):
                pass
        acting.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await acting
        writer.transport.abort()
        self.now -= 1


async def main(
    address: str, port: str, kind: str, count: str, rate: str, root: str, *sources: str
) -> None:
    """Attack until all were opened."""
    _, act, member = KINDS[kind]
    host = Host(Path(root))
    trust = Trust.load(host)
    key = NodeKey.load_or_create(host)
    context = client.client_context(trust, key, host, check_time=False) if member else None
    attack = Attack(address, int(port), act, context)
    sys.stdout.write("at it\n")
    sys.stdout.flush()
    tasks = set()
    for number, source in zip(range(int(count)), itertools.cycle(sources), strict=False):
        tasks.add(asyncio.ensure_future(attack.one(source, server_name(trust.fleet_id))))
        if number % 10 == 9:
            await asyncio.sleep(10 / float(rate))
            tasks = {task for task in tasks if not task.done()}
    sys.stdout.write(f"{attack.opened} {attack.most}\n")
    sys.stdout.flush()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
