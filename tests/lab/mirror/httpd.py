"""A small static web server for apt repositories: ranges, conditional requests, threads.

http.server of the standard library lacks Range, which apt uses to resume what a power cut
interrupted. Paths arrive as apt writes them: ``:`` may be ``%3a``, and a flat repository at
``/`` gives doubled slashes.
"""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

CHUNK = 256 * 1024


class Server(ThreadingHTTPServer):
    """Serves the files below ``root``; one line per request goes to ``log``."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path, log: TextIO) -> None:
        super().__init__(address, Handler)
        self.root, self.log = root.resolve(), log


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte asked for by a Range header (RFC 9110 14.2), one range only.

    None: the whole file, as the RFC allows for anything else than one plain range. A first
    byte behind the end (``first >= size``) cannot be satisfied.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not match or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size - 1
    end = min(int(last), size - 1) if last else size - 1
    return (int(first), end) if int(first) <= end or int(first) >= size else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        print(self.log_date_time_string(), self.address_string(), format % args,
              file=self.server.log, flush=True)  # fmt: skip

    def _file(self) -> Path | None:
        name = unquote(urlsplit(self.path).path)
        path = (self.server.root / re.sub(r"/+", "/", name).lstrip("/")).resolve()
        if not path.is_relative_to(self.server.root) or not path.is_file():
            return None
        hidden = any(part.startswith(".") for part in path.relative_to(self.server.root).parts)
        return None if hidden else path

    def _fresh(self, modified: float) -> bool:
        said = self.headers.get("If-Modified-Since")
        try:
            return said is not None and int(modified) <= parsedate_to_datetime(said).timestamp()
        except (TypeError, ValueError):
            return False

    def _answer(self, *, body: bool) -> None:
        path = self._file()
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            stat = path.stat()
            size, modified = stat.st_size, formatdate(stat.st_mtime, usegmt=True)
            if self._fresh(stat.st_mtime):
                self._head(HTTPStatus.NOT_MODIFIED, 0, modified)
                return
            # A file that changed since the first part was fetched must come whole.
            same = self.headers.get("If-Range", modified) == modified
            asked = span(self.headers.get("Range"), size) if same else None
            if asked and asked[0] >= size:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, last = asked or (0, size - 1)
            left = last - first + 1
            extra = {"Content-Range": f"bytes {first}-{last}/{size}"} if asked else {}
            status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
            self._head(status, left, modified, **extra)
            file.seek(first)
            while body and left > 0 and (data := file.read(min(CHUNK, left))):
                self.wfile.write(data)
                left -= len(data)

    def _head(self, status: HTTPStatus, length: int, modified: str, **extra: str) -> None:
        self.send_response(status)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(length))
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", modified)
        for name, value in extra.items():
            self.send_header(name, value)
        self.end_headers()
