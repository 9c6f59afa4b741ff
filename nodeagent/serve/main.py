"""The unprivileged network process (``nodeagent serve``): everything strangers send packets to.

Watches what the agent wants announced, and carries it out: mDNS, and on a control plane the
endpoint, and the status page. It holds no secret but the endpoint's TLS key, knows neither beacon
key nor cluster, and may be restarted at any time. Files:

* reads ``/run/nodeagent/announce.json``, ``/run/nodeagent/status.json``;
* writes ``/run/nodeagent-serve/heard.json``;
* reads ``/run/nodeagent/endpoint/{server.crt,server.key,root.crt}``.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from pathlib import Path

from nodeagent import paths
from nodeagent.errors import OtherVersion
from nodeagent.fleet import handoff
from nodeagent.fleet.handoff import Announcement
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol
from nodeagent.paths import ENDPOINT
from nodeagent.serve.endpoint import Endpoint, Files
from nodeagent.serve.mdns.discovery import Discovery
from nodeagent.serve.status_page import StatusPage
from nodeagent.trust import wire

LOG = logging.getLogger("nodeagent")

TICK = 1.0  # seconds between looks at the agent's file; heard.json changes no oftener
CERT, KEY, ROOT = f"{ENDPOINT}/server.crt", f"{ENDPOINT}/server.key", f"{ENDPOINT}/root.crt"


def main(root: str = "/") -> None:
    """Serve until stopped. ``root`` stands before every path; tests use it."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # for the goodbye
    with contextlib.suppress(KeyboardInterrupt):
        Server(Host(Path(root))).run()


class Server:
    """Holds what is open, and makes it fit what the agent wants, once a second."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.discovery = Discovery()
        self._endpoint: Endpoint | None = None
        self._page: StatusPage | None = None
        self._stamp = 0
        self._latest: Announcement | None = None
        self._open_for: dict[str, object] = {}
        self._trouble: dict[str, str] = {}

    def run(self) -> None:
        """Until interrupted. What fails is said once and tried again."""
        self.host.notify("READY=1")
        try:
            while True:
                self.look()
                self.host.notify("WATCHDOG=1")
                self.discovery.run(TICK)
        finally:
            self.discovery.close()

    def look(self) -> None:
        """One round: take up the agent's wishes, tell what was heard."""
        wish = self._wish()
        if wish is not None:
            try:
                self.discovery.announce(wish)
                self._well("announcement")
            except OSError as error:
                self._failed("announcement", error)
            self._fit_endpoint(wish)
            self._fit_page(wish)
        if self.discovery.changed:
            self.discovery.changed = False
            try:
                handoff.write_heard(self.host, self.discovery.own_heard, self.discovery.candidates)
                self._well("note of what was heard")
            except OSError as error:
                self.discovery.changed = True
                self._failed("note of what was heard", error)

    def _wish(self) -> Announcement | None:
        stamp = self.host.changed(paths.ANNOUNCE)
        if stamp != self._stamp:
            try:
                self._latest = handoff.read_announcement(self.host)
                self._stamp = stamp
            except (OSError, wire.Malformed, OtherVersion) as error:
                self._failed("agent's file", error)
        return self._latest

    def _fit_endpoint(self, wish: Announcement) -> None:
        wanted = None
        if wish.endpoint:
            wanted = (wish.interface_address, wish.port, self.host.changed(CERT))
        if self._open_for.get("endpoint") == wanted:
            return
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
        self._open_for["endpoint"] = None
        if wanted is not None:
            files = Files(*(str(self.host.path(name)) for name in (CERT, KEY, ROOT)))
            try:
                self._endpoint = Endpoint(
                    wish.interface_address,
                    wish.port,
                    files,
                    str(self.host.path(broker_protocol.SOCKET)),
                )
                self._open_for["endpoint"] = wanted
                self._well("endpoint")
            except OSError as error:  # ssl.SSLError is one
                self._failed("endpoint", error)

    def _fit_page(self, wish: Announcement) -> None:
        wanted = wish.interface_address if wish.status_page else None
        if self._open_for.get("page") == wanted:
            return
        if self._page is not None:
            self._page.close()
            self._page = None
        self._open_for["page"] = None
        if wanted is not None:
            try:
                self._page = StatusPage(self.host, wanted)
                self._open_for["page"] = wanted
                self._well("status page")
            except OSError as error:
                self._failed("status page", error)

    def _failed(self, what: str, error: Exception) -> None:
        said = f"{type(error).__name__}: {error}"
        if self._trouble.get(what) != said:
            self._trouble[what] = said
            LOG.warning("%s: %s; it is tried again every second", what, said)

    def _well(self, what: str) -> None:
        if self._trouble.pop(what, None) is not None:
            LOG.info("%s: works again", what)


if __name__ == "__main__":
    main(*sys.argv[1:2])
