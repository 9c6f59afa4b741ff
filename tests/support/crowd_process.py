"""Nodes that ask one control plane, as a crowd that never joins or as boards that do: ``python -m
tests.support.crowd_process MODE CARD FOLDER COUNT SECONDS ADDRESS SOURCE...``.

MODE ``attack`` has COUNT threads, from all SOURCE addresses in turn, that ask with a new key as
soon as they are answered, whatever they are told about waiting, for SECONDS. Their names are as in
``apiserver_process.py``, which makes kubelets of them that never come, or ask without end
(``attack-flood``). MODE ``boards`` has COUNT that ask with the agent's own pauses until each has a
grant, at most SECONDS. Prints "ready" at the beginning, and as JSON at the end how often it asked,
how many grants it got, and the seconds that each took.
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

from nodeagent.agent import main as agent
from nodeagent.errors import NoControlPlane, NotAdmitted
from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.trust import fleet_file, store
from nodeagent.trust.node_key import NodeKey
from tests.support.joiners_process import KUBELET_HASH

PAUSE = 0.3  # seconds of an attacker's thread between two asks; here both share two cores
_connect = socket.create_connection


class Crowd:
    """All threads of one process."""

    def __init__(self, card: str, folder: str, address: str, until: float) -> None:
        self.fleet = store.from_card(fleet_file.parse(Path(card).read_bytes()))
        self.folder, self.address, self.until = folder, address, until
        self.numbers = itertools.count()
        self.asked = self.granted = 0

    def attack(self, wish: str) -> None:
        """Ask with one new key after the other."""
        while time.monotonic() < self.until:
            self._ask(f"{wish}-{next(self.numbers)}")
            time.sleep(PAUSE)

    def board(self, number: int) -> float | None:
        """Ask until there is a grant; the seconds that took."""
        host = Host(Path(self.folder, f"board-{number}"))
        key, begin, tries = NodeKey.load_or_create(host), time.monotonic(), 0
        while time.monotonic() < self.until:
            tries += 1
            error = self._ask(f"pi-{number}", host, key)
            if error is None:
                return time.monotonic() - begin
            time.sleep(agent.pause(error, tries))
        return None

    def _ask(
        self, wish: str, host: Host | None = None, key: NodeKey | None = None
    ) -> NoControlPlane | None:
        host = host or Host(Path(self.folder, wish))
        key = key or NodeKey.load_or_create(host)
        self.asked += 1
        try:
            client.ask(
                self.fleet,
                key,
                [(self.address, 6444)],
                wish,
                {},
                time.time(),
                kubelet=KUBELET_HASH,
                host=host,
            )
        except NoControlPlane as error:
            return error
        except (NotAdmitted, OSError):
            return NoControlPlane("It did not answer.", "Ask again.")
        self.granted += 1
        return None


def main(
    mode: str, card: str, folder: str, count: str, seconds: str, address: str, *sources: str
) -> None:
    """All at once."""
    turn = itertools.cycle(sources)

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        return _connect(place, timeout, (next(turn), 0))

    socket.create_connection = connect  # type: ignore[assignment]
    threading.stack_size(512 * 1024)
    crowd = Crowd(card, folder, address, time.monotonic() + float(seconds))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    took = list[float | None]()
    with ThreadPoolExecutor(int(count)) as pool:
        if mode == "boards":
            took = list(pool.map(crowd.board, range(int(count))))
        else:
            wish = mode.partition("-")[2] or "idle"
            for _ in range(int(count)):
                pool.submit(crowd.attack, wish)
    said = {"asked": crowd.asked, "granted": crowd.granted, "took": took}
    json.dump(said, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
