"""A node asks a real endpoint and broker for a grant over the LAN; only the cluster is a double."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from nodeagent import paths
from nodeagent.serve import status_page
from nodeagent.status import model, schema
from nodeagent.trust import fleet_file
from tests.support import namespaces
from tests.support.joining import answers, ask, certificate_request, control_plane
from tests.support.virtual_lan import Lan, eventually


def test_a_node_joins_and_its_token_ends(lan: Lan) -> None:
    leader, worker = control_plane(lan), lan.add()
    worker.announce()
    worker.serve()
    assert eventually(lambda: leader.key.node_id in worker.heard()), worker.logs()

    grant = ask(worker, "pi-2", leader.address)
    assert grant["name"] == "pi-2", grant
    assert grant["endpoints"] == [f"{leader.address}:6443"]
    cluster = Path(leader.host.root, "cluster")
    token_id = grant["token"].partition(".")[0]
    assert (cluster / "tokens" / token_id).exists()

    wrong = certificate_request(grant["token"], "pi-1")
    right = certificate_request(grant["token"], "pi-2")
    (cluster / "csr" / "wrong.json").write_text(json.dumps(wrong))
    (cluster / "csr" / "right.json").write_text(json.dumps(right))
    assert eventually(lambda: (cluster / "approved" / "right").exists()), leader.logs()
    assert not (cluster / "approved" / "wrong").exists()
    assert (cluster / "tokens" / token_id).exists(), "the kubelet still needs it"
    (cluster / "nodes" / "pi-2").touch()
    assert eventually(lambda: not (cluster / "tokens" / token_id).exists()), leader.logs()
    assert grant["token"].partition(".")[2] not in leader.logs() + worker.logs()


def test_a_node_joins_over_ipv6_and_without_multicast(lan: Lan) -> None:
    leader, worker = control_plane(lan, four=False), lan.add(four=False)
    said = ask(worker, "pi-2", "fd77::fafa", leader.address)
    assert said["name"] == "pi-2", said
    assert said["endpoints"] == [f"[{leader.address}]:6443"]


def test_a_name_belongs_to_the_first_key(lan: Lan) -> None:
    leader, first, second = control_plane(lan), lan.add(), lan.add()
    assert ask(first, "raspberrypi", leader.address)["name"] == "raspberrypi"
    name = ask(second, "raspberrypi", leader.address)["name"]
    assert name == f"raspberrypi-{second.key.node_id[2:6]}"
    assert ask(first, "raspberrypi", leader.address)["name"] == "raspberrypi"


def test_a_stranger_gets_nothing(lan: Lan) -> None:
    leader = control_plane(lan)
    stranger = lan.add(card=fleet_file.make("other")[1])
    said = ask(stranger, "pi-9", leader.address)
    assert said["error"] == "NoControlPlane"
    assert "not a control plane of this fleet" in said["reason"]
    assert not list(Path(leader.host.root, "cluster", "tokens").iterdir())


def test_silent_and_dead_candidates_only_cost_time(lan: Lan) -> None:
    leader, worker, tarpit = control_plane(lan), lan.add(), lan.add()
    hold = "import socket, time; s = socket.create_server(('', 6444)); time.sleep(60)"
    tarpit.processes.append(
        subprocess.Popen(
            namespaces.inside(tarpit.space, sys.executable, "-c", hold),
            start_new_session=True,
        )
    )
    assert eventually(lambda: answers(tarpit))
    grant = ask(worker, "pi-2", tarpit.address, "10.77.0.250", leader.address)
    assert grant["name"] == "pi-2", grant


def test_idle_connections_do_not_keep_others_out(lan: Lan) -> None:
    leader, worker, idler = control_plane(lan), lan.add(), lan.add()
    hold = (
        "import socket, time\n"
        f"all = [socket.create_connection(({leader.address!r}, 6444)) for _ in range(100)]\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        namespaces.inside(idler.space, sys.executable, "-c", hold),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    idler.processes.append(process)
    assert process.stdout is not None
    threading.Timer(20, process.kill).start()
    assert process.stdout.readline() == b"held\n"
    assert ask(worker, "pi-2", leader.address)["name"] == "pi-2"


def test_no_broker_is_a_plain_refusal(lan: Lan) -> None:
    leader, worker = control_plane(lan), lan.add()
    leader.processes[0].kill()
    leader.processes[0].wait(10)
    said = ask(worker, "pi-2", leader.address)
    assert said["error"] == "NoControlPlane"
    assert "503" in said["reason"]


def test_the_status_page_shows_the_status(lan: Lan) -> None:
    node = lan.add()
    current: schema.Status = {**model.empty(), "node_name": "pi-<1>", "detail": "Electing"}
    node.host.write(paths.STATUS, model.dump(current).encode())
    node.announce()
    node.serve()
    assert eventually(node.own_heard), node.logs()
    assert not answers(node, status_page.PORT), "it is off unless asked for"
    node.announce(status_page=True)
    assert eventually(lambda: answers(node, status_page.PORT)), node.logs()
    fetch = f"import urllib.request as u; print(u.urlopen('http://{node.address}:6480/').read())"
    command = namespaces.inside(node.space, sys.executable, "-c", fetch)
    page = subprocess.run(command, capture_output=True, timeout=10, text=True).stdout
    assert "pi-&lt;1&gt;: preparing" in page
    assert "Electing" in page
