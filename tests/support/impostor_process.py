"""Who answers in a control plane's place: ``python -m tests.support.impostor_process KIND ROOT``.

Listens on port 6444 of all addresses. ROOT is the folder of the node whose keys it uses, where it
uses any. Prints a line once it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from nodeagent.host.host import Host
from nodeagent.trust import pki, tls
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

PORT = 6444
Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and says nothing."""
    await asyncio.sleep(600)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The beginning of a TLS record, one byte a second (RFC 8446 5.1)."""
    await _slowly(writer, b"", b"\x16\x03\x03\x40\x00" + b"\2" * 600)


async def headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header that does not end."""
    await _slowly(writer, b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 100)


async def interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """100 Continue for ever (RFC 9110 15.2.1)."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)
        await writer.drain()
        await asyncio.sleep(0.05)


async def body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer that does not end."""
    await _slowly(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"a" * 600)


async def _slowly(writer: asyncio.StreamWriter, at_once: bytes, slowly: bytes) -> None:
    writer.write(at_once)
    for byte in slowly:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def nothing_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Whoever gets this far believed a certificate that it must not believe."""
    sys.stdout.write("BELIEVED\n")
    sys.stdout.flush()


# Name: (for people, what it does, which certificate of the node it shows; "" for none).
KINDS: dict[str, tuple[str, Act, str]] = {
    "silent": ("accept and say nothing", silent, ""),
    "drip": ("one byte a second", drip, ""),
    "stranger": ("a control plane of another fleet", nothing_more, "server"),
    "worker": ("a certificate made with a worker card's issuer", nothing_more, "client"),
    "headers": ("a stolen control-plane card: endless header", headers, "server"),
    "interim": ("a stolen control-plane card: 100 Continue for ever", interim, "server"),
    "body": ("a stolen control-plane card: endless body", body, "server"),
}


def context(root: str, kind: str) -> ssl.SSLContext:
    """TLS as a control plane does it, with a certificate of this kind."""
    host = Host(Path(root))
    trust, key = Trust.load(host), NodeKey.load_or_create(host)
    leaf = trust.leaf("server" if kind == "server" else "client", key.public)
    names = "/shown.crt", "/shown.key", "/shown.root"
    chain = "".join(map(pki.cert_pem, leaf))
    for name, text in zip(
        names, (chain, pki.key_pem(key.private), pki.cert_pem(trust.root_cert)), strict=True
    ):
        host.write(name, text.encode(), 0o600)
    made = tls.server(*(str(host.path(name)) for name in names))
    made.verify_mode = ssl.CERT_NONE  # it takes whom it gets
    return made


async def main(kind: str, root: str) -> None:
    """Answer until killed."""
    _, act, shown = KINDS[kind]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await act(reader, writer)
        writer.close()

    server = await asyncio.start_server(
        serve, "0.0.0.0", PORT, backlog=512, ssl=context(root, shown) if shown else None
    )
    sys.stdout.write(f"listening {os.getpid()}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
