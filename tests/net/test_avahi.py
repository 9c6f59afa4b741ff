"""A real avahi-daemon has the mDNS port, as on Raspberry Pi OS; ours goes on beside it."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

from tests.net.test_discovery import hears
from tests.support import namespaces
from tests.support.virtual_lan import PROJECT, Lan, Node, eventually

UNPACKED = PROJECT / "build" / "avahi"
PORT = "14E9"  # 5353 in /proc/net/udp
SETTINGS = "[server]\nenable-dbus=no\nuse-ipv4=yes\nuse-ipv6=yes\n"
# It has its process number in a fixed place, and wants a user that its package would make.
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/avahi-daemon
for file in passwd group; do
    { cat /etc/$file; echo avahi:x:65533:65533::/:; } > /run/$file
    mount --bind /run/$file /etc/$file
done
exec "$0" --file "$1" --no-drop-root --no-chroot --no-proc-title
"""


def avahi(node: Node) -> None:
    """Start the daemon and wait until it has the port over both versions of IP."""
    daemon = UNPACKED / "usr/sbin/avahi-daemon"
    assert daemon.exists(), "make test fetches and unpacks it; alone: make build/avahi"
    node.host.write("/avahi.conf", f"{SETTINGS}host-name=pi-{node.number}\n".encode())
    libraries = ":".join(str(path.parent) for path in UNPACKED.rglob("libavahi-core.so.7"))
    libraries += ":" + ":".join(str(path.parent) for path in UNPACKED.rglob("libcap.so.2"))
    with node.host.path("/avahi.log").open("ab") as log:
        node.processes.append(
            subprocess.Popen(
                namespaces.inside(node.space, "sh", "-c", SCRIPT,
                                  str(daemon), str(node.host.path("/avahi.conf"))),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": libraries},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        )  # fmt: skip
    assert eventually(lambda: holds_port(node, "udp") and holds_port(node, "udp6")), node.logs()


def resolve(node: Node, name: str) -> str:
    """What the daemon finds for a host name, by its protocol for programs without D-Bus."""
    run = f"/proc/{node.processes[-1].pid}/root/run/avahi-daemon/socket"
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(20)
        asking.connect(run)
        asking.sendall(f"RESOLVE-HOSTNAME {name}\n".encode())
        return asking.recv(1000).decode()


def holds_port(node: Node, table: str) -> bool:
    """True where somebody has the mDNS port there."""
    command = namespaces.inside(node.space, "cat", f"/proc/net/{table}")
    return f":{PORT} " in subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.parametrize("four", [True, False], ids=["ipv4", "ipv6"])
def test_avahi_finds_a_node_until_it_says_goodbye(four: bool, lan: Lan) -> None:
    """It came after the announcements, so it has to ask."""
    node, asking = lan.add(four=four), lan.add(four=four)
    node.announce()
    serving = node.serve()
    assert eventually(node.own_heard), node.logs()
    time.sleep(5)  # so that it has answered its own question, too; the next comes after 13 s
    avahi(asking)
    name = f"{node.key.node_id}.local"
    assert node.address in resolve(asking, name), asking.logs()
    serving.terminate()
    assert serving.wait(10) == 0, node.logs()
    assert eventually(lambda: resolve(asking, name).startswith("-"), 30), asking.logs()


@pytest.mark.parametrize("first", ["avahi", "nodeagent"])
@pytest.mark.parametrize("four", [True, False], ids=["ipv4", "ipv6"])
def test_nodes_hear_each_other_beside_avahi(first: str, four: bool, lan: Lan) -> None:
    nodes = [lan.add(four=four) for _ in range(2)]
    if first == "avahi":
        for node in nodes:
            avahi(node)
    for node in nodes:
        node.announce()
        node.serve()
        if first == "nodeagent":
            assert eventually(node.own_heard), node.logs()
            avahi(node)
    for node, other in (nodes, reversed(nodes)):
        assert eventually(node.own_heard), node.logs()
        assert hears(node, other), node.logs()
    sealed = nodes[0].announce(claim=True)
    assert eventually(lambda: nodes[1].heard()[nodes[0].key.node_id].beacon == sealed), nodes[
        1
    ].logs()
    assert all(node.processes[-1].poll() is None for node in nodes), "both go on"
    assert "exiting" not in "".join(node.logs() for node in nodes)
