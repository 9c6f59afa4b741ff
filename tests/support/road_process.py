"""A process as `image bake` has them, with the network that an image's programs have; prints what
it reached, a JSON object: address -> how far it came.

argv: "outside", then what "inside" takes; or "inside", an address that is to be reached, a port at
it, one at 127.0.0.1, the name of an abstract socket.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nodeagent.imaging import bake, road

# Whatever may stand for the computer itself: the gateway, its name server, both kinds of address.
HOSTS = ("127.0.0.1", "127.0.0.53", "0.0.0.0", "::1", "::ffff:127.0.0.1", "localhost", "198.18.7.2",
         "fd00::2", *road.RESOLVERS)  # fmt: skip


def outside(*argv: str) -> None:
    line = (sys.executable, "-P", "-m", "tests.support.road_process", "inside", *argv)
    with bake._apart(line, Path("/nonexistent")) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"go\n")
        process.stdin.close()
        sys.stdout.write(process.stdout.read().decode())


def inside(reached: str, port: str, own_port: str, abstract: str) -> None:
    os.write(1, b"there\n")
    sys.stdin.readline()
    asked = [(host, int(number)) for host in (*HOSTS, reached) for number in (port, own_port)]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = pool.map(connected, asked)
        found = {
            f"{host} {number}": far for (host, number), far in zip(asked, answers, strict=True)
        }
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect("\0" + abstract)
            found["abstract"] = True
        except OSError:
            found["abstract"] = False
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    found["devices"] = sorted(line.split()[0] for line in links.splitlines()) != ["lo", "road"]
    sys.stdout.write(json.dumps(found))


def connected(address: tuple[str, int]) -> bool:
    """Whether somebody answers, not only whether a connection is taken."""
    try:
        with socket.create_connection(address, 5) as sock:
            sock.settimeout(5)
            return sock.recv(5) == b"hello"
    except OSError:
        return False


if __name__ == "__main__":
    if sys.argv[1] == "outside":
        outside(*sys.argv[2:])
    else:
        inside(*sys.argv[2:])
