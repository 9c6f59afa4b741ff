"""Which interfaces lead to the LAN, and which address the node takes: sysfs and /proc as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeagent.cluster import addresses, cni, kubeadm_config, names, packages
from nodeagent.config.settings import Network, Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from tests.support.machine import Machine, put

NAMES = names.of("f-" + "a" * 16, "n-" + "b" * 16)

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
WIFI = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
WIRE = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
WIRE_NET = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
LINK_NET = "eth0\t0000FEA9\t00000000\t0001\t0\t0\t100\t0000FFFF\t0\t0\t0\n"
TRIE = "Local:\n |-- 192.168.1.23\n    /32 host LOCAL\n |-- 10.244.0.1\n    /32 host LOCAL\n"

# What stands below /sys/class/net/NAME, as a Raspberry Pi, Docker, flannel and libvirt leave it.
ETHER = {"type": "1\n", "uevent": "INTERFACE=x\n"}
CARD = {**ETHER, "device/vendor": ""}
WLAN = {**CARD, "uevent": "DEVTYPE=wlan\nINTERFACE=x\n", "phy80211/name": "phy0\n"}
LOOP = {"type": "772\n"}
PORT = {"master/type": "1\n"}
BRIDGE = {**ETHER, "uevent": "DEVTYPE=bridge\n", "bridge/stp_state": "0\n"}
VXLAN = {**ETHER, "uevent": "DEVTYPE=vxlan\n", "lower_eth0/type": "1\n"}
VLAN = {**ETHER, "uevent": "DEVTYPE=vlan\n", "lower_eth0/type": "1\n"}
MACVLAN = {**ETHER, "uevent": "DEVTYPE=macvlan\n", "lower_eth0/type": "1\n"}
TAP = {**ETHER, "tun_flags": "0x1002\n"}
WIREGUARD = {"type": "65534\n", "uevent": "DEVTYPE=wireguard\n"}
PODS = {
    "lo": LOOP, "cni0": BRIDGE, "veth12ab": {**ETHER, **PORT}, "flannel.1": VXLAN,
    "docker0": BRIDGE, "br-0a1b2c": BRIDGE, "virbr0": {**BRIDGE, "lower_vnet0/type": "1\n"},
    "vnet0": {**TAP, **PORT}, "tun0": {"type": "65534\n", "tun_flags": "0x1\n"}, "tap0": TAP,
    "wg0": WIREGUARD, "cali0123": ETHER, "dummy0": ETHER, "renamed": ETHER,
}  # fmt: skip


@pytest.mark.parametrize(
    ("interfaces", "lan"),
    [
        ({"lo": LOOP}, ()),
        ({"eth0": CARD, "wlan0": WLAN, **PODS}, ("eth0", "wlan0")),
        ({"wlan0": WLAN, "wlp1s0u1": WLAN, "zeth": CARD}, ("zeth", "wlan0", "wlp1s0u1")),
        ({"wlan0": WLAN, **PODS}, ("wlan0",)),
        ({"br0": {**BRIDGE, "lower_eth0/type": "1\n"}, "eth0": {**CARD, **PORT}}, ("br0",)),
        ({"eth0": CARD, "eth0.10": VLAN, "mac0": MACVLAN}, ("eth0", "eth0.10")),
        ({"eth0": {**CARD, **PORT}, "bond0": {**ETHER, "uevent": "DEVTYPE=bond\n",
          "lower_eth0/type": "1\n"}, "bond0.7": {**ETHER, "uevent": "DEVTYPE=vlan\n",
          "lower_bond0/type": "1\n"}}, ("bond0", "bond0.7")),
        ({"docker-lan": CARD, "eth9": ETHER}, ("docker-lan",)),
        ({"lo": LOOP, "host0": ETHER, "docker0": BRIDGE, "vethX": ETHER}, ("host0",)),
    ],
    ids=["none", "cards among pods", "wired first", "wireless alone", "bridge on a card", "vlan",
         "bond", "names do not decide", "in a container"],
)  # fmt: skip
def test_the_lan_is_told_by_what_the_kernel_says(
    interfaces: Mapping[str, Mapping[str, str]], lan: tuple[str, ...], tmp_path: Path
) -> None:
    for name, files in interfaces.items():
        put(tmp_path, {f"/sys/class/net/{name}/{file}": text for file, text in files.items()})
    facts = Facts(Machine(tmp_path))
    assert facts.lan() == lan
    assert facts.lan("tun0") == ("tun0",), "who names one means it"


def sysfs(*names: str) -> dict[str, str]:
    """Cards of these names."""
    kinds = {"w": WLAN, "e": CARD, "t": TAP}
    return {
        f"/sys/class/net/{name}/{file}": text
        for name in names
        for file, text in kinds[name[0]].items()
    }


def test_the_best_default_route_is_the_nodes_own(tmp_path: Path) -> None:
    routes = HEAD + WIFI + WIRE + WIRE_NET + WIRE.replace("eth0", "tun0").replace("100", "5")
    put(tmp_path, {"/proc/net/route": routes, "/proc/net/fib_trie": TRIE,
                   **sysfs("eth0", "wlan0", "tun0")})  # fmt: skip
    host = Machine(tmp_path)
    facts = Facts(host)
    assert (facts.interface(), facts.address(), facts.wired()) == ("eth0", "192.168.1.23", True)
    assert (facts.interface("wlan0"), facts.wired("wlan0")) == ("wlan0", False)
    assert host.ran == [], "asked every few seconds, so without a process"


def test_a_usb_gadget_comes_last(tmp_path: Path) -> None:
    """Behind usb0 is the computer that powers the board, and no other node."""
    gadget = {"/sys/class/net/usb0/type": "1\n", "/sys/class/net/usb0/device/x": "",
              "/sys/class/net/usb0/uevent": "DEVTYPE=gadget\nINTERFACE=usb0\n"}  # fmt: skip
    routes = HEAD + WIRE.replace("eth0", "usb0") + WIFI
    put(tmp_path, {"/proc/net/route": routes, **gadget, **sysfs("wlan0")})
    facts = Facts(Machine(tmp_path))
    assert facts.interface() == "wlan0"
    assert facts.lan() == ("wlan0", "usb0")
    put(tmp_path, {"/proc/net/route": HEAD + WIRE.replace("eth0", "usb0")})
    assert Facts(Machine(tmp_path)).interface() == "usb0", "the only way out is one"


def test_the_kernels_order_decides_among_several_addresses(tmp_path: Path) -> None:
    more = TRIE + " |-- 192.168.1.200\n    /32 host LOCAL\n"
    put(tmp_path, {"/proc/net/route": HEAD + WIRE + WIRE_NET, "/proc/net/fib_trie": more})
    machine = Machine(tmp_path)
    machine.listed["eth0"] = ("169.254.1.1", "192.168.1.200", "192.168.1.23")
    assert Facts(machine).address() == "192.168.1.200"
    assert Facts(Machine(tmp_path)).address() is None, "it went away meanwhile"


def test_a_link_local_address_is_none(tmp_path: Path) -> None:
    trie = "Local:\n |-- 169.254.7.7\n    /32 host LOCAL\n"
    put(tmp_path, {"/proc/net/route": HEAD + WIRE + LINK_NET, "/proc/net/fib_trie": trie,
                   "/proc/net/if_inet6": SIX["link"]})  # fmt: skip
    assert Facts(Machine(tmp_path)).address() is None


SIX = {
    "link": "fe80000000000000ba27ebfffe000001 02 40 20 80     eth0\n",
    "global": "20010db8000000000000000000000007 02 40 00 00     eth0\n",
    "temporary": "20010db8000000000000000000000001 02 40 00 01     eth0\n",
    "tentative": "fd000000000000000000000000000001 02 40 00 40     eth0\n",
    "deprecated": "fd000000000000000000000000000002 02 40 00 20     eth0\n",
    "unique": "fd000000000000000000000000000023 02 40 00 80     eth0\n",
    "pods": "fd000010024400000000000000000001 05 40 00 80     cni0\n",
}
DEFAULT6 = f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000400 1 0 {{flags}}     {{name}}\n"


@pytest.mark.parametrize(
    ("kinds", "address"),
    [
        (["pods", "temporary", "link", "global", "unique"], "fd00::23"),
        (["temporary", "link", "global"], "2001:db8::7"),
        (["tentative", "deprecated", "temporary", "link"], None),
    ],
)
def test_a_lasting_address_is_taken(kinds: list[str], address: str | None, tmp_path: Path) -> None:
    routes = DEFAULT6.format(flags="00200200", name="lo") + DEFAULT6.format(
        flags="00450003", name="eth0"
    )
    text = "".join(SIX[kind] for kind in kinds)
    put(tmp_path, {"/proc/net/ipv6_route": routes, "/proc/net/if_inet6": text, **sysfs("eth0")})
    facts = Facts(Machine(tmp_path))
    assert (facts.interface(), facts.address()) == ("eth0", address)


def test_ipv4_comes_first_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    put(tmp_path, {"/proc/net/route": HEAD + WIRE + WIRE_NET, "/proc/net/fib_trie": TRIE,
                   "/proc/net/if_inet6": SIX["unique"], **sysfs("eth0")})  # fmt: skip
    facts = Facts(Machine(tmp_path))
    assert facts.address() == "192.168.1.23"
    assert facts.address(version=6) == "fd00::23"


# What kubeadm and flannel are told of it.


def test_ipv6_alone_takes_networks_of_its_own() -> None:
    settings = addresses.fitted(Settings(), "fd00::23")
    assert settings.network.pod_cidr == addresses.POD_CIDR6
    assert addresses.fitted(Settings(), "10.0.0.7") == Settings()
    tested = packages.wished(settings)
    told = kubeadm_config.init_configuration(
        settings, tested, "pi", "fd00::23", NAMES, False
    ).decode()
    assert "advertiseAddress: fd00::23" in told and "10.244" not in told
    assert told.count("https://[::]:23") == 2  # where etcd listens
    assert '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56", ' in (
        cni.chosen(settings).manifest(settings)
    )
    assert '{"Network": "10.244.0.0/16", ' in cni.chosen(Settings()).manifest(Settings())


def test_networks_that_somebody_chose_are_not_overruled() -> None:
    chosen = Settings(network=Network(pod_cidr="10.42.0.0/16"))
    with pytest.raises(Blocked, match="only IPv6"):
        addresses.fitted(chosen, "fd00::23")


@pytest.mark.parametrize(
    ("address", "endpoint"), [("10.0.0.7", "10.0.0.7:6443"), ("fd00::7", "[fd00::7]:6443")]
)
def test_endpoints(address: str, endpoint: str) -> None:
    assert addresses.endpoint(address) == endpoint
    assert addresses.host_of(endpoint) == address
    assert addresses.version(endpoint) == addresses.version(address)


def test_a_node_joins_with_an_address_of_the_clusters_version(tmp_path: Path) -> None:
    put(tmp_path, {"/proc/net/route": HEAD + WIRE + WIRE_NET, "/proc/net/fib_trie": TRIE,
                   "/proc/net/if_inet6": SIX["unique"], **sysfs("eth0")})  # fmt: skip
    facts = Facts(Machine(tmp_path))
    assert addresses.own_address(facts, Settings(), "[fd00::1]:6443") == "fd00::23"
    assert addresses.own_address(facts, Settings(), "192.168.1.1:6443") == "192.168.1.23"
    put(tmp_path, {"/proc/net/if_inet6": None})
    with pytest.raises(Blocked, match="no IPv6 address, only 192"):
        addresses.own_address(Facts(Machine(tmp_path)), Settings(), "[fd00::1]:6443")
