"""A thousand nodes ask at once for a grant of one control plane; nobody attacks."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nodeagent import paths
from nodeagent.broker import places
from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.trust import fleet_file, tls
from nodeagent.trust.anchors import server_name
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.hostile.flood import LIMIT
from tests.hostile.section import Section
from tests.support.joining import control_plane
from tests.support.virtual_lan import Lan, Node, ip, plugged, processor, status

JOINERS = 1000
JOINING = 1.5  # seconds that a kubelet takes here
IN_A_ROW, BESIDE = 200, 8  # for the throughput: so many, so many at a time
BROKER_LIMIT = 96 * 1024  # KiB: MemoryMax= of the broker's unit

Rows = list[tuple[str, ...]]


def run(seed: int) -> Section:
    """The crowd; then a few at a time without pauses, beside bare handshakes."""
    card = fleet_file.make("home")[1]
    with tempfile.TemporaryDirectory() as folder, plugged("naload", Path(folder), card) as lan:
        crowd, faults = _crowd(lan, Path(folder))
    with tempfile.TemporaryDirectory() as folder, plugged("naload", Path(folder), card) as lan:
        rows, wrong = _throughput(lan, Path(folder))
    return Section(
        "Load",
        f"{JOINERS} nodes with keys of their own, from as many addresses, ask at the same moment. "
        f"At most {places.PLACES} tokens are outstanding, and a kubelet takes "
        f"{JOINING:g} s here from its approval to its node object (in the lab a node took 89 s "
        "from asking to Ready, so this clock runs faster). Endpoint, broker and client are the "
        "real ones; the API server is a double that answers as a real one was recorded to, in "
        f"the same time. Below it {IN_A_ROW} nodes, {BESIDE} at a time, with a kubelet that takes "
        "no time, beside as many bare TLS 1.3 handshakes with client certificates against a "
        "server that does nothing else, in the same minute; the last column is the multiple of "
        "a bare handshake.",
        ("what", "figure", "of a bare handshake"),
        (*crowd, *rows),
        (*faults, *wrong),
    )


def join(lan: Lan, leader: Node, folder: Path, count: int, at_once: int) -> dict[str, Any]:
    """What became of ``count`` nodes, and what it cost."""
    crowd = lan.add()
    addresses = [f"10.77.{16 + n // 200}.{1 + n % 200}" for n in range(min(count, 1000))]
    batch = crowd.host.path("/addresses")
    batch.write_text("".join(f"addr add {address}/32 dev eth0\n" for address in addresses))
    ip("-n", crowd.space, "-batch", str(batch))
    ip("-n", leader.space, "route", "replace", "10.77.0.0/16", "dev", "eth0")
    card = folder / "card"
    card.write_bytes(lan.card)
    process = crowd.start(
        "tests.support.joiners_process", str(card), str(folder), str(count), str(at_once),
        leader.address, *addresses,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", crowd.logs()
    brokering, serving = leader.processes[1:3]
    used = processor(brokering), processor(serving)
    out = process.communicate(timeout=1800)[0]
    said: dict[str, Any] = json.loads(out or b"{}")
    assert said, crowd.logs()
    said["broker"] = processor(brokering) - used[0], status(brokering, "VmHWM")
    said["serve"] = processor(serving) - used[1], status(serving, "VmHWM")
    return said


def _crowd(lan: Lan, folder: Path) -> tuple[Rows, list[str]]:
    leader = control_plane(lan, joining=JOINING)
    said = join(lan, leader, folder, JOINERS, JOINERS)
    took = sorted(one["seconds"] for one in said["joiners"] if one["seconds"] is not None)
    tries = [one["tries"] for one in said["joiners"]]
    faults = []
    if len(took) != JOINERS:
        lost = next(one for one in said["joiners"] if one["seconds"] is None)
        faults.append(f"load: {JOINERS - len(took)} nodes were not admitted, such as {lost}")
    names = [one["name"] for one in said["joiners"] if one["seconds"] is not None]
    if len(set(names)) != len(names):
        faults.append("load: two nodes got the same name")
    for who, limit in (("serve", LIMIT), ("broker", BROKER_LIMIT)):
        if said[who][1] > limit:
            faults.append(f"load: {who} held {said[who][1]} KiB")
    at = statistics.quantiles(took, n=100)
    rows: Rows = [
        (f"{JOINERS} at once: admitted", str(len(took)), ""),
        ("time to grant: median, 99 of 100, last",
         f"{at[49]:.0f} s, {at[98]:.0f} s, {took[-1]:.0f} s", ""),
        ("asked, on average and at most",
         f"{statistics.mean(tries):.1f} and {max(tries)} times", ""),
        ("grants a second", f"{len(took) / took[-1]:.1f}", ""),
        *((f"{who}: processor time, memory at most",
           f"{said[who][0]:.1f} s, {said[who][1] / 1024:.0f} MiB", "")
          for who in ("serve", "broker")),
    ]  # fmt: skip
    return rows, faults


def _throughput(lan: Lan, folder: Path) -> tuple[Rows, list[str]]:
    leader = control_plane(lan, joining=0.0)
    bare_rate, bare_cost = _bare(leader)
    said = join(lan, leader, folder, IN_A_ROW, BESIDE)
    served = [one for one in said["joiners"] if one["seconds"] is not None]
    rate = len(served) / said["seconds"]
    costs = [said[who][0] / max(len(served), 1) for who in ("serve", "broker")]
    rows: Rows = [
        ("bare handshakes a second", f"{bare_rate:.0f}", "1"),
        (f"grants a second, {BESIDE} at a time", f"{rate:.1f}", f"{rate / bare_rate:.3f}"),
        ("processor time of a bare handshake, server's side", f"{bare_cost * 1000:.2f} ms", "1"),
        *((f"processor time of a grant, {who}", f"{cost * 1000:.2f} ms", f"{cost / bare_cost:.1f}")
          for who, cost in zip(("serve", "broker"), costs, strict=True)),
    ]  # fmt: skip
    faults = [] if len(served) == IN_A_ROW else [f"load: {IN_A_ROW - len(served)} got no grant"]
    return rows, faults


def _bare(node: Node) -> tuple[float, float]:
    """Handshakes a second, and seconds of the server's processor time for one."""
    server = node.start("tests.hostile.load", "server", str(node.host.root), node.address)
    assert server.stdout is not None
    assert server.stdout.readline() == b"listening\n", node.logs()
    used = processor(server)
    done = node.start("tests.hostile.load", "client", str(node.host.root), node.address)
    seconds = float(done.communicate(timeout=120)[0])
    cost = (processor(server) - used) / IN_A_ROW
    server.kill()
    server.wait(10)
    for process in (server, done):
        node.processes.remove(process)
    return IN_A_ROW / seconds, cost


def _server(root: str, address: str) -> None:
    """A thread for each handshake, as the endpoint does it, and nothing after it."""
    import socket

    host = Host(Path(root))
    names = paths.SERVER_CERT, paths.SERVER_KEY, paths.ROOT_CERT
    context = tls.server(*(str(host.path(name)) for name in names))
    listener = socket.create_server((address, 6999), backlog=128)
    sys.stdout.write("listening\n")
    sys.stdout.flush()

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as session:
            session.recv(1)

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def _client(root: str, address: str) -> None:
    import socket

    host = Host(Path(root))
    trust, key = Trust.load(host), NodeKey.load_or_create(host)
    context = client.client_context(trust, key, host, check_time=False)
    name = server_name(trust.fleet_id)

    def one(_: int) -> None:
        with (
            socket.create_connection((address, 6999), 10) as plain,
            context.wrap_socket(plain, server_hostname=name) as session,
        ):
            session.send(b"x")

    begin = time.monotonic()
    with ThreadPoolExecutor(BESIDE) as pool:
        list(pool.map(one, range(IN_A_ROW)))
    sys.stdout.write(str(time.monotonic() - begin))


if __name__ == "__main__":
    {"server": _server, "client": _client}[sys.argv[1]](*sys.argv[2:])
