"""Many nodes that ask for a grant at once: ``python -m tests.support.joiners_process CARD FOLDER
COUNT AT_ONCE ADDRESS SOURCE...``.

Each is a thread with a key and a folder of its own, and asks as the agent does: the real client,
the agent's own pauses. At most AT_ONCE at a time, from all SOURCE addresses in turn.
Prints "ready" when they begin, then as JSON what became of each: seconds to its grant, and how
often it asked.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nodeagent.agent import main as agent
from nodeagent.errors import NoControlPlane
from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.trust import fleet_file, pki, store
from nodeagent.trust.node_key import NodeKey
from tests.support.authority import KUBELET

# A real node never gives up. Here one does where no node at all got a grant for so many seconds:
# how long a thousand take together is the machine's affair.
STANDSTILL = 120.0
KUBELET_HASH = pki.spki_hash(KUBELET.public_key())
_connect = socket.create_connection


class Joiner:
    """One node, made before the clock starts."""

    last_grant = 0.0  # of any of them

    def __init__(self, number: int, folder: str, fleet: store.Trust) -> None:
        self.number, self.trust = number, fleet
        self.host = Host(Path(folder, f"joiner-{number}"))
        self.key = NodeKey.load_or_create(self.host)

    def join(self, address: str, begin: float) -> dict[str, Any]:
        """Ask until there is a grant."""
        tries = 0
        while True:
            tries += 1
            try:
                grant = self._ask(address)
            except NoControlPlane as error:
                if time.monotonic() - max(begin, Joiner.last_grant) > STANDSTILL:
                    return {"seconds": None, "tries": tries, "why": error.reason}
                time.sleep(agent.pause(error, tries))
                continue
            Joiner.last_grant = time.monotonic()
            seconds = Joiner.last_grant - begin
            return {"seconds": seconds, "tries": tries, "name": grant.node_name}

    def _ask(self, address: str) -> Any:
        return client.ask(
            self.trust, self.key, [(address, 6444)], f"pi-{self.number}", {"model": "virtual"},
            time.time(), kubelet=KUBELET_HASH, host=self.host,
        )  # fmt: skip


def main(card: str, folder: str, count: str, at_once: str, address: str, *sources: str) -> None:
    """All at once."""
    turn = itertools.cycle(sources)

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        return _connect(place, timeout, (next(turn), 0))

    socket.create_connection = connect  # type: ignore[assignment]
    threading.stack_size(512 * 1024)
    fleet = store.from_card(fleet_file.parse(Path(card).read_bytes()))
    joiners = [Joiner(number, folder, fleet) for number in range(int(count))]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with ThreadPoolExecutor(int(at_once)) as pool:
        begin = time.monotonic()
        said = list(pool.map(lambda joiner: joiner.join(address, begin), joiners))
    json.dump({"joiners": said, "seconds": time.monotonic() - begin}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
