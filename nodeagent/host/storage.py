"""How fast the card makes things durable: measured, so never part of a plan."""

from __future__ import annotations

import os
import statistics

from nodeagent.host import durable
from nodeagent.host.host import Host

ROUNDS = 5
BLOCK = b"\0" * 4096


def fsync_latency_ms(host: Host, folder: str) -> float:
    """Median time in milliseconds that a 4 KiB write and its fsync take in ``folder``.

    etcd waits for this at each write and wants less than 10 ms (etcd docs, "Hardware
    recommendations"). The median, since a card now and then pauses for housekeeping.
    Raises OSError.
    """
    host.make_folder(folder)
    path = host.path(f"{folder}/.nodeagent-fsync")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    taken = []
    try:
        for _ in range(ROUNDS):
            begun = host.clock.monotonic()
            os.write(descriptor, BLOCK)
            os.fsync(descriptor)
            taken.append(host.clock.monotonic() - begun)
    finally:
        os.close(descriptor)
        durable.remove(path)
    return statistics.median(taken) * 1000
