"""Each clash of a machine with the settings: the doctor names it, once, and the agent stops before
it changes anything, with the same sentence; or it does by itself what makes it none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nodeagent import paths, steps
from nodeagent.agent.formation import Formation
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import health, resolver
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.doctor.checkup import examine
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.timesync import SYNCHRONISED
from nodeagent.statefile import StateFile
from nodeagent.steps.networks import Networks
from nodeagent.trust import pki
from tests.support.machine import NOW, Machine, laid_out, put
from tests.unit.cluster.test_addresses import HEAD, TRIE, WIRE, WIRE_NET, sysfs
from tests.unit.cluster.test_renewal import CA

# A board at 192.168.1.23, its router at 192.168.1.1.
LAN: dict[str, Any] = {
    "/proc/net/route": HEAD + WIRE + WIRE_NET, "/proc/net/fib_trie": TRIE, SYNCHRONISED: "",
    **sysfs("eth0"),
}  # fmt: skip
GADGET = {"/sys/class/net/usb0/type": "1\n", "/sys/class/net/usb0/device/x": "",
          "/sys/class/net/usb0/uevent": "DEVTYPE=gadget\n"}  # fmt: skip
OWN = "nameserver 127.0.0.1\n"
Case = dict[str, Any]

# What is there besides, and what somebody typed; the check that names it, and some of its words.
CLASHES: dict[str, tuple[Case, str, str]] = {
    "pods hold this node": (
        {"settings": {"network": {"pod_cidr": "192.168.0.0/16"}}},
        "networks", "`network.pod_cidr` 192.168.0.0/16 holds this node's address 192.168.1.23",
    ),
    "Services hold the router": (
        {"settings": {"network": {"service_cidr": "192.168.1.0/28"}}},
        "networks", "`network.service_cidr` 192.168.1.0/28 holds the router 192.168.1.1",
    ),
    "pods hold the name server": (
        {"files": {"/etc/resolv.conf": "nameserver 10.42.7.7\n"},
         "settings": {"network": {"pod_cidr": "10.42.0.0/16"}}},
        "networks", "holds the name server 10.42.7.7",
    ),
    "pods hold a name server of systemd-resolved": (
        {"files": {resolver.RESOLVED: "nameserver 10.43.7.7\n", "/etc/resolv.conf": OWN},
         "settings": {"network": {"service_cidr": "10.43.0.0/16"}}},
        "networks", "holds the name server 10.43.7.7",
    ),
    "a node network with room for one": (
        {"settings": {"network": {"pod_cidr": "10.9.9.0/24"}}},
        "networks", "10.9.9.0/24 has room for 1 node",
    ),
    "a name server on loopback": (
        {"files": {"/etc/resolv.conf": OWN}},
        "network", "The name server 127.0.0.1 in /etc/resolv.conf is on this node's own loopback",
    ),
    "one of two name servers on loopback": (
        {"files": {"/etc/resolv.conf": "nameserver 192.168.1.1\nnameserver ::1\n"}},
        "network", "The name server ::1 in",
    ),
    "systemd-resolved asks this node": (
        {"files": {"/etc/resolv.conf": "nameserver 127.0.0.53\n", resolver.RESOLVED: OWN}},
        "network", f"The name server 127.0.0.1 in {resolver.RESOLVED} is on",
    ),
    "an interface that is not there": (
        {"settings": {"network": {"interface": "eth1"}}, "uptime": 500},
        "network", "No network: eth1 does not exist",
    ),
    "an interface without an address": (
        {"settings": {"network": {"interface": "wlan0"}}, "uptime": 500, "files": sysfs("wlan0")},
        "network", "wlan0 has no address that reaches beyond its own link",
    ),
    "a clock years ahead": (
        {"files": {SYNCHRONISED: None}, "uptime": 500, "now": NOW + 11 * 365 * 86400},
        "clock", "which cannot be",
    ),
}  # fmt: skip

# What the agent does by itself, and which step.
CHOSEN: dict[str, tuple[Case, str, str]] = {
    "the default for pods is the LAN's": (
        {"files": {"/proc/net/route": HEAD + WIRE + WIRE_NET + WIRE_NET.replace("eth0", "eth1")
                   .replace("0001A8C0", "0000F40A")}},
        "networks", "write /etc/nodeagent/networks.yaml",
    ),
    "a former cluster's pod network": (
        {"files": {"/etc/cni/net.d/05-weave.conflist": "{}"}},
        "pod-network", "write /etc/cni/net.d/05-weave.conflist.nodeagent-backup",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the network."""
    monkeypatch.setattr(health, "kubelet_healthy", lambda: False)
    monkeypatch.setattr(health, "answers", lambda *_: False)


def board(case: Case, root: Path) -> Machine:
    """The board with what the case has besides."""
    return laid_out({**case, "files": {**LAN, **case.get("files", {})}}, root)


def said(machine: Machine, words: str) -> list[tuple[str, str, str]]:
    """Which findings that are not well say so."""
    found = examine(machine)
    return [(one.name, one.level, one.value) for one in found
            if one.level in ("warning", "failure") and words in one.value]  # fmt: skip


@pytest.mark.parametrize("name", CLASHES)
def test_a_clash_is_named_once_and_nothing_is_changed_before(name: str, tmp_path: Path) -> None:
    case, check, words = CLASHES[name]
    machine = board(case, tmp_path)
    ((found, level, told),) = said(machine, words)
    assert (found, level) == (check, "failure")
    settings = config.load(machine).settings
    with pytest.raises(Blocked) as caught:
        for step in steps.SOFTWARE:
            assert not list(step.plan(Facts(machine), settings)), step.name
    assert caught.value.reason == told


@pytest.mark.parametrize("name", CHOSEN)
def test_what_nobody_typed_is_made_to_fit(name: str, tmp_path: Path) -> None:
    case, check, words = CHOSEN[name]
    ((found, level, _),) = said(board(case, tmp_path), words)
    assert (found, level) == (check, "warning")


def test_a_usb_gadget_is_no_way_out_where_there_is_another(tmp_path: Path) -> None:
    routes = LAN["/proc/net/route"] + WIRE.replace("eth0", "usb0").replace("100", "5")
    machine = board({"files": {**GADGET, "/proc/net/route": routes}}, tmp_path)
    (found,) = (one for one in examine(machine) if one.name == "network")
    assert (found.level, found.value) == ("pass", "192.168.1.23 on eth0")


def test_a_member_is_told_of_its_name_server_and_not_stopped(tmp_path: Path) -> None:
    files = {"/etc/resolv.conf": OWN, paths.KUBELET_CONF: "x",
             "/var/lib/nodeagent/kubeadm/formed": "worker\n"}  # fmt: skip
    machine = board({"files": files}, tmp_path)
    assert [one[:2] for one in said(machine, "loopback")] == [("name-servers", "warning")]


@pytest.mark.parametrize("role", ["control-plane", "worker"])
def test_a_clock_that_was_ahead_at_the_cluster_s_birth(role: str, tmp_path: Path) -> None:
    """Nothing in such a cluster can prove itself before its first day comes."""
    before = pki.NOT_BEFORE.timestamp() - 86400
    files = {paths.KUBELET_CONF: "x", paths.KUBERNETES_CA: pki.cert_pem(CA),
             "/var/lib/nodeagent/kubeadm/formed": f"{role}\n"}  # fmt: skip
    machine = board({"files": files, "now": before}, tmp_path)
    ((check, level, told),) = said(machine, "valid only from")
    assert (check, level) == ("certificates", "failure")
    state_file, nobody = StateFile(machine), cast(Any, None)
    state_file.set(role=role)
    radio: Any = SimpleNamespace(settings=Settings())
    forming = Formation(machine, Reporter(machine), state_file, radio, nobody, nobody)
    with pytest.raises(Blocked) as caught:
        forming.renew("pi-1")
    assert caught.value.reason == told and "sudo nodeagent reset" in caught.value.remedy
    put(tmp_path, {SYNCHRONISED: None})
    forming.renew("pi-1")  # who knows which of the two clocks is right


def test_the_networks_are_looked_at_by_one_step(tmp_path: Path) -> None:
    """Late addresses too: it stands behind the step that waits for one."""
    names = [step.name for step in steps.SOFTWARE]
    assert names.index("network") < names.index(Networks.name)
