"""What an image's programs reach while it is baked: archives, nothing of this computer's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.errors import ToolMissing
from nodeagent.imaging import road
from tests.support import namespaces

CHECKOUT = Path(__file__).parents[2]
ADDRESS = "203.0.113.1"  # for documentation (RFC 5737); an archive on this computer
PORT, OWN_PORT, ABSTRACT = 8123, 8124, "somebody's"
# A computer of its own: an archive at an address, a service at 127.0.0.1, an abstract socket.
SERVE = f"""\
import socket, threading
def serve(server):
    while True:
        sock, _ = server.accept()
        sock.sendall(b"hello")
        sock.close()
unix = socket.socket(socket.AF_UNIX)
unix.bind("\\0{ABSTRACT}")
unix.listen()
servers = [socket.create_server(one) for one in
           (("{ADDRESS}", {PORT}), ("127.0.0.1", {OWN_PORT}))]
servers.append(socket.create_server(("::1", {OWN_PORT}), family=socket.AF_INET6))
for one in (*servers, unix):
    threading.Thread(target=serve, args=(one,)).start()
print("serves", flush=True)
"""
# With mounts that are shared, as ip-netns(8) makes them: they are there afterwards. Also where /run
# is no file system of its own, as in a container.
KEPT = """
{run}
kept=/run/netns/kept-$$
mkdir -p $kept && mount --bind /run/netns /run/netns &&
    mount --make-shared /run/netns && mount -t tmpfs none $kept || exit 9
"$@" && mountpoint -q $kept || {{ echo "$kept is gone" >&2; exit 8; }}
umount $kept && umount /run/netns && rmdir $kept
"""
RUN = {"of its own": "mount -t tmpfs none /run", "a folder": ":"}
pytestmark = [pytest.mark.net]


@pytest.mark.parametrize("run", RUN)
def test_an_images_programs_have_one_road_out(run: str) -> None:
    argv = (ADDRESS, str(PORT), str(OWN_PORT), ABSTRACT)
    with namespaces.network() as inside:
        for line in (["link", "set", "lo", "up"], ["addr", "add", f"{ADDRESS}/32", "dev", "lo"]):
            subprocess.run(inside("ip", *line), check=True)
        with subprocess.Popen(
            inside(sys.executable, "-c", SERVE), stdout=subprocess.PIPE
        ) as server:
            assert server.stdout and server.stdout.readline() == b"serves\n"
            try:
                asks = (sys.executable, "-m", "tests.support.road_process", "outside", *argv)
                command = inside(
                    *namespaces.apart("sh", "-c", KEPT.format(run=RUN[run]), "sh", *asks)
                )
                ran = subprocess.run(command, capture_output=True, text=True, check=False,
                                     timeout=300,
                                     env={**os.environ, "PYTHONPATH": str(CHECKOUT)})  # fmt: skip
            finally:
                server.kill()
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert len(found) > 20
    assert {name for name, reached in found.items() if reached} == {f"{ADDRESS} {PORT}"}


def test_without_a_device_for_it_the_reason_is_told() -> None:
    """Here: of a process that is not there."""
    with pytest.raises(ToolMissing, match="a network of their own") as caught, road.opened(2**22):
        pass
    assert "/dev/net/tun" in caught.value.remedy


def test_the_resolver_is_the_roads() -> None:
    ours = "search home.lan\nnameserver 127.0.0.53\noptions edns0\n"
    assert road.resolver(ours).splitlines() == [
        "search home.lan", "options edns0", "nameserver 198.18.7.3", "nameserver fd00::3",
    ]  # fmt: skip
