"""Another address than the cluster's files have: since when, and when they should follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nodeagent import paths, statefile
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import names
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile

# Seconds for which another address has to stay until the files follow: where they have followed
# none within the last hour, one, or more; the last also where one was seen that did not stay. A
# lease that comes and goes must not restart things for ever.
STEADY, LATELY = (20.0, 80.0, 300.0), 3600.0


class Moved:
    """Compares in each look, and remembers since when it has been the same."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._seen: tuple[str, float] | None = None  # the other address, and since when
        self._left: float | None = None  # when one was last seen that did not stay

    def look(self, address: str) -> Blocked | None:
        """What to say while the cluster's files have another address than ``address``, this node's
        of now, or its names are gone."""
        before = known(self.host)
        api = names.server(self.host.text(paths.KUBELET_CONF) or "")
        if before and before != address and (":" in before) == (":" in address):
            said = Blocked(
                f"This board's address changed from {before} to {address}.",
                "Nothing to do: once it has stayed for a while the cluster is told.",
            )
        elif names.API_NAME.fullmatch(api) and not names.addresses_of(
            self.host.text(paths.HOSTS) or "", api
        ):
            said = Blocked(
                f"{paths.HOSTS} does not say any more where the cluster is.",
                "Nothing to do: nodeagent writes its lines there again.",
            )
        else:
            if self._seen and self._seen[0] != address:  # else it was followed
                self._left = self.host.clock.monotonic()
            self._seen = None
            return None
        if self._seen is None or self._seen[0] != address:
            self._seen = address, self.host.clock.monotonic()
        return said

    def elsewhere(self, interface: str) -> bool:
        """Look, and say whether this node has had another address for long enough; ``interface`` as
        in the settings."""
        return self.is_away(interface) and self.steady

    def is_away(self, interface: str) -> bool:
        """Look, and say whether this node has another address, however long."""
        address = Facts(self.host).address(interface, 6 if ":" in known(self.host) else 4)
        return bool(address and self.look(address))

    @property
    def steady(self) -> bool:
        """True where what the last look saw has stayed for long enough to be followed."""
        if self._seen is None:
            return False
        history = statefile.remembered(self.host.read(statefile.PATH))["history"] or []
        wall, now = self.host.clock.now(), self.host.clock.monotonic()
        moves = [line.get("time") for line in history if line.get("event") == names.MOVED]
        lately = sum(isinstance(t, float | int) and abs(wall - t) < LATELY for t in moves)
        if self._left is not None and now - self._left < LATELY:
            lately = len(STEADY)
        return now - self._seen[1] >= STEADY[min(lately, len(STEADY) - 1)]


def known(host: Host) -> str:
    """The address that the node's kubelet is told to have; empty for none."""
    return names.node_ip(host.text(paths.KUBELET_FLAGS) or "")


@contextmanager
def noted(host: Host, reporter: Reporter, state_file: StateFile) -> Iterator[None]:
    """Note and tell that the files follow another address, where what is done inside has them do
    it, also where a later part of that fails. Raises OSError."""
    before = known(host)
    try:
        yield
    finally:
        now = known(host)
        if before and now != before:
            state_file.note(names.MOVED, before=before, now=now)
            reporter.milestone("moved", f"This node's address changed from {before} to {now}")
