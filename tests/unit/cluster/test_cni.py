"""The pod networks: one file each, and everything else takes what it needs from there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.agent import leave
from nodeagent.cluster import (
    cni,
    control_plane,
    kubeadm,
    kubeadm_config,
    kubelet_api,
    packet_filter,
    ports,
    versions,
)
from nodeagent.cluster.acceptance import _advice
from nodeagent.cluster.cni import given
from nodeagent.cluster.cni.network import PodNetwork
from nodeagent.cluster.kubeadm_state import State
from nodeagent.config import settings as config
from nodeagent.config.settings import Network, Settings
from nodeagent.errors import CommandFailed, ConfigError
from nodeagent.host.facts import Facts
from nodeagent.steps.modules import FILE as MODULES_FILE
from nodeagent.steps.modules import Modules
from nodeagent.steps.sysctls import FILE as SYSCTLS_FILE
from nodeagent.steps.sysctls import Sysctls
from tests.support import namespaces
from tests.support.machine import Machine, put

PACKAGE = Path(__file__).parents[3] / "nodeagent"
# What belongs to one network alone, and who else may name it.
A_NETWORKS_OWN = re.compile(r"flannel|cni0|8472|vxlan|kube-?router|kube-bridge", re.IGNORECASE)
MAY_NAME_IT = {
    "config/settings.py": "the default of network.cni, and the names to choose from",
    "host/net/interfaces.py": "tells real interfaces from virtual ones, whoever made these",
}


def manifest(settings: Settings) -> str:
    """A manifest of the images alone."""
    return f"images: {list(OTHER.images_for(settings))}\n"


OTHER = PodNetwork(
    name="other",
    images=("quay.example/other/agent:v2", "docker.example/library/helper:v3"),
    manifest=manifest,
    modules=("ipip", "overlay"),
    sysctls={"net.ipv4.conf.all.rp_filter": "0"},
    ports=("179/tcp", "4789/udp"),
    namespaces=("other-system", "other-api"),
    pod_interface="other0",
    configuration=("/etc/cni/net.d/05-other.conf",),
    devices=("other0",),
    folders=("/var/lib/other",),
    chains=("other-",),
    tables=(("inet", "other"),),
)
CHOSEN = Settings(network=Network(cni="other"))


NETWORKS = tuple(cni.NETWORKS.values())  # the real ones


@pytest.fixture(autouse=True)
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second network, beside the real ones."""
    monkeypatch.setitem(cni.NETWORKS, OTHER.name, OTHER)


# The real ones.


def test_no_file_outside_cni_knows_a_network() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    naming = {
        str(path.relative_to(PACKAGE)) for path in files if A_NETWORKS_OWN.search(path.read_text())
    }
    assert {name for name in naming if not name.startswith("cluster/cni/")} == {*MAY_NAME_IT}


def test_the_settings_know_the_same_networks() -> None:
    names = tuple(network.name for network in NETWORKS)
    assert names == config.POD_NETWORKS, "write the same into POD_NETWORKS in config/settings.py"
    assert Settings().network.cni in config.POD_NETWORKS


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
class TestEach:
    """What nodeagent relies on, of each network."""

    def test_what_it_brings_is_what_its_manifest_makes(self, network: PodNetwork) -> None:
        settings = Settings(network=Network(cni=network.name))
        documents = list(yaml.safe_load_all(network.manifest(settings)))
        spaces = {d["metadata"]["name"] for d in documents if d["kind"] == "Namespace"}
        assert spaces == {*network.namespaces}
        used = {d["metadata"].get("namespace") for d in documents} - {None, "kube-system"}
        assert used <= spaces
        assert set(_images(documents)) == {*network.images}

    def test_a_mirror_takes_the_place_of_all_its_registries(self, network: PodNetwork) -> None:
        settings = Settings(network=Network(cni=network.name, image_repository="m.example:5000/x"))
        found = set(_images(list(yaml.safe_load_all(network.manifest(settings)))))
        assert found == {*network.images_for(settings)}
        assert all(image.startswith("m.example:5000/x/") for image in found)

    def test_what_it_says_is_spelled_right(self, network: PodNetwork) -> None:
        assert all(re.fullmatch(r"[0-9]{1,5}/(tcp|udp)", port) for port in network.ports)
        assert all(path.startswith("/etc/cni/net.d/") for path in network.configuration)
        assert all(re.fullmatch(r"(/[a-z0-9.-]+){2,}", path) for path in network.folders)
        # A shorter one could begin the name of somebody else's chain.
        assert all(len(chain) >= 4 for chain in network.chains)
        assert all(re.fullmatch(r"[A-Za-z0-9._{}[\]-]{1,24}", device) for device in network.devices)
        assert not {*network.ports} & {*network.own_ports}
        assert all(re.fullmatch(r".+/.+:[^/]+", image) for image in network.images)


def _images(found: Any) -> list[str]:
    """All values of ``image`` in a document."""
    if isinstance(found, list):
        return [image for one in found for image in _images(one)]
    if not isinstance(found, dict):
        return []
    own = [found["image"]] if isinstance(found.get("image"), str) else []
    return own + [image for one in found.values() for image in _images(one)]


def _documents(name: str) -> dict[str, Any]:
    """The manifest's documents by their kind, of those that it has once."""
    settings = Settings(network=Network(cni=name))
    return {d["kind"]: d for d in yaml.safe_load_all(cni.chosen(settings).manifest(settings))}


def test_the_pod_network_takes_the_address_that_the_kubelet_tells() -> None:
    """network.interface would count for the one and not for the other."""
    spec = _documents("flannel")["DaemonSet"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert "--iface=$(NODE_IP)" in container["args"]
    told = {one["name"]: one.get("valueFrom") for one in container["env"]}
    assert told["NODE_IP"] == {"fieldRef": {"fieldPath": "status.hostIP"}}


def _after_start(
    name: str, places: Mapping[str, object], seconds: float, enter: Sequence[str] = ()
) -> None:
    """What the network's container does once it has started, for so long, with these in the place
    of the node's own, in the network namespace that ``enter`` leads to. Nothing has written its
    configuration before."""
    spec = _documents(name)["DaemonSet"]["spec"]["template"]["spec"]
    before = [mount["name"] for one in spec["initContainers"] for mount in one["volumeMounts"]]
    assert "cni" not in before
    command = spec["containers"][0]["lifecycle"]["postStart"]["exec"]["command"]
    for place, here in places.items():
        command = [word.replace(place, str(here)) for word in command]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run([*enter, *command], check=True, timeout=seconds)


@pytest.mark.processes
@pytest.mark.parametrize("has_subnet", [True, False])
def test_pods_start_once_flannel_has_the_nodes_subnet(has_subnet: bool, tmp_path: Path) -> None:
    """The kubelet takes the file for a network that works: CoreDNS was set up and torn down again
    without end, and the API server that flannel waited for had no time left."""
    (tmp_path / "subnet.env").write_text("FLANNEL_SUBNET=10.244.0.1/24\n" if has_subnet else "")
    (tmp_path / "cni-conf.json").write_text("{}")
    places = {
        "/run/flannel": tmp_path, "/etc/kube-flannel": tmp_path, "/etc/cni/net.d": tmp_path,
        "/opt/bin/install-conf": "cp",
    }  # fmt: skip
    _after_start("flannel", places, 20 if has_subnet else 0.3)
    assert (tmp_path / "10-flannel.conflist").exists() is has_subnet


@pytest.mark.processes
@pytest.mark.parametrize("has_subnet", [True, False])
def test_pods_start_once_kube_router_has_the_nodes_subnet(has_subnet: bool, tmp_path: Path) -> None:
    """As with flannel: kube-router writes the subnet into a copy of its own first."""
    conf = _documents("kube-router")["ConfigMap"]["data"]["cni-conf.json"]
    if has_subnet:
        conf = conf.replace("host-local", 'host-local", "subnet": "10.244.1.0/24')
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "10-kuberouter.conflist").write_text(conf)
    places = {
        "/run/kube-router": tmp_path / "own", "/etc/cni/net.d": tmp_path,
        "/sys/class/net/kube-bridge": tmp_path,
    }  # fmt: skip
    with namespaces.network() as enter:
        subprocess.run(enter("ip", "link", "set", "lo", "up"), check=True)  # it has IPv6 too
        for _ in range(2):  # the container may be started again
            _after_start("kube-router", places, 20 if has_subnet else 1, enter())
        for tool in ("iptables-save", "ip6tables-save"):
            saved = subprocess.check_output(enter(tool), text=True).splitlines()
            closed = [line for line in saved if "--dports 20244,50051" in line]
            assert len(closed) == 1 and f"-D{closed[0][2:]}" in packet_filter.removal(saved)
    there = tmp_path / "10-kuberouter.conflist"
    assert there.exists() is has_subnet
    assert not has_subnet or json.loads(there.read_text())["name"] == "kube-router"


# A second one, by the interface alone.


def test_its_modules_and_sysctls_are_set(tmp_path: Path) -> None:
    image = Machine(tmp_path, live=False)
    for action in (*Modules().plan(Facts(image), CHOSEN), *Sysctls().plan(Facts(image), CHOSEN)):
        action.do(image)
    loaded = (image.text(MODULES_FILE) or "").splitlines()
    assert loaded[-3:] == ["overlay", "br_netfilter", "ipip"]
    assert "net.ipv4.conf.all.rp_filter = 0\n" in (image.text(SYSCTLS_FILE) or "")


def test_its_ports_take_the_place_of_the_others() -> None:
    numbers = {(port.protocol, port.number) for port in ports.needed(CHOSEN)}
    assert {("tcp", 179), ("udp", 4789)} <= numbers
    assert ("udp", 8472) not in numbers
    assert 179 in ports.reachable(CHOSEN, "tcp") and 4789 in ports.reachable(CHOSEN, "udp")
    assert ports.reachable(Settings(), "udp") == (5353, 8472)


def test_ports_of_a_network_that_this_node_alone_asks_stay_closed_to_others() -> None:
    settings = Settings(network=Network(cni="kube-router"))
    free = {port.number for port in ports.needed(settings) if port.exclusive}
    assert {179, 20244, 50051} <= free
    assert ports.reachable(settings, "tcp").count(179) == 1
    assert not {20244, 50051} & {*ports.reachable(settings, "tcp")}


def test_its_images_are_pulled_before_the_join(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {f"crictl pull {image}": "" for image in OTHER.images})
    settings = dataclasses.replace(CHOSEN, role="worker")
    with pytest.raises(CommandFailed):  # kube-proxy's: for that there is no answer
        kubeadm.pull_images(machine, settings, versions.DEFAULT, "worker")
    assert [line for line in machine.ran if "flannel" in line] == []
    assert {f"crictl pull {image}" for image in OTHER.images} <= {*machine.ran}


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ({"Ready": "True"}, True),
        ({"Ready": "True", "NetworkUnavailable": "False"}, True),
        ({"Ready": "True", "NetworkUnavailable": "True"}, False),
        ({"Ready": "False", "NetworkUnavailable": "False"}, False),
        ({"Ready": "Unknown"}, False),
        ({}, False),
    ],
)
def test_ready_is_what_kubernetes_says_with_no_file_of_any_network(
    conditions: dict[str, str], ready: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [{"type": kind, "status": status} for kind, status in conditions.items()]
    info = {"bootID": "none"}  # of a machine that says nothing of it
    answer = (200, {"status": {"conditions": listed, "nodeInfo": info}})
    monkeypatch.setattr(kubelet_api, "ask", lambda host, method, path: answer)
    assert control_plane.ready(Machine(tmp_path), "pi-2") is ready


def test_the_images_of_a_persons_manifest(tmp_path: Path) -> None:
    """Only what is one: a CRD has a property of that name, a template a placeholder."""
    put(tmp_path, {given.KEPT: """
      - image: quay.io/calico/node:v3.31.3
        image: "docker.io/library/busybox"  # small
      - image: quay.io/calico/node:v3.31.3
        image:
          description: which one
        image: {{ .Values.image }}
        image: registry.k8s.io/pause@sha256:0123
"""})  # fmt: skip
    assert given.images(Machine(tmp_path)) == (
        "quay.io/calico/node:v3.31.3", "docker.io/library/busybox",
        "registry.k8s.io/pause@sha256:0123",
    )  # fmt: skip


SAVED = """\
*filter
:FORWARD ACCEPT [0:0]
:other-fw - [0:0]
:others - [0:0]
-A FORWARD -j other-fw
-A FORWARD -j others
COMMIT
"""
REMOVAL = "*filter\n-D FORWARD -j other-fw\n-F other-fw\n-X other-fw\nCOMMIT\n"


@pytest.mark.parametrize("settings", ["", "network: {cni: flannel}\n"])
def test_a_reset_takes_all_of_it_away_whatever_the_settings_say_now(
    settings: str, tmp_path: Path
) -> None:
    put(tmp_path, {
        "/boot/firmware/nodeagent.yaml": settings, leave.KUBEADM: "",
        "/sys/class/net/other0/address": "", "/etc/cni/net.d/05-other.conf": "",
        "/var/lib/other/x": "",
    })  # fmt: skip
    said = {
        f"kubeadm reset --force --cri-socket {kubeadm_config.SOCKET}": "",
        "ip link delete other0": "", "iptables-save": SAVED, "ip6tables-save": "",
        "iptables-restore --noflush --wait 60": "",
        "nft list tables": "table inet other\ntable inet others\n",
        "nft delete table inet other": "",
        "rm -rf -- /etc/cni/net.d/05-other.conf /var/lib/other": "",
    }  # fmt: skip
    machine = Machine(tmp_path, said)
    leave.leave_cluster(machine, lambda _: None)
    assert {*said} <= {*machine.ran}
    assert packet_filter.removal(SAVED.splitlines()) == REMOVAL


def test_a_half_made_cluster_leaves_nothing_of_it(tmp_path: Path) -> None:
    class Anything(Machine):
        """A double where each command succeeds."""

        def _answer(self, argv: Any, timeout: float, stdin: str | None) -> Any:
            self.answers[" ".join(argv)] = ""
            return super()._answer(argv, timeout, stdin)

    devices = ("other0", "tun-0123456789a", "tun-mine", "wlan0")
    put(tmp_path, {f"/sys/class/net/{name}/address": "" for name in devices})
    machine = Anything(tmp_path)
    kubeadm.make_room(machine, State.HALF_JOIN)
    gone = [line for line in machine.ran if line.startswith("ip link delete")]
    assert gone == [f"ip link delete {name}" for name in devices[:2]]
    assert machine.ran[-1].endswith(f" /etc/cni/net.d/05-other.conf {config.POD_NETWORK_FILE}")


def test_the_verdict_of_verify_names_it() -> None:
    advice = _advice(OTHER)
    assert "kubectl -n other-system get pods" in advice and "(179/tcp, 4789/udp)" in advice
    bare = dataclasses.replace(OTHER, namespaces=(), ports=())
    assert "kubectl -n kube-system get pods" in _advice(bare) and "()" not in _advice(bare)


def test_only_a_network_of_the_table_may_be_chosen(tmp_path: Path) -> None:
    put(tmp_path, {"/boot/firmware/nodeagent.yaml": "network:\n  cni: antrea\n"})
    with pytest.raises(ConfigError) as caught:
        config.load(Machine(tmp_path))
    assert "line 2" in str(caught.value) and ", ".join(config.POD_NETWORKS) in str(caught.value)
