"""A key for SSH and Wi-Fi, written into the root file systems of the systems there are."""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.errors import Refused
from nodeagent.imaging import customise
from tests.support.machine import Machine, put

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtleQ me@laptop"
CLOUD = {"/etc/cloud/cloud.cfg.d": {"folder": True}, "/usr/sbin/netplan": ""}
MANAGER = {
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\npi:x:1000:1000::/home/pi:/bin/bash\n",
    "/etc/NetworkManager/system-connections": {"folder": True},
    "/var/lib/systemd/rfkill/platform-3f300000.mmcnr:wlan": "1\n",
    "/var/lib/systemd/rfkill/platform-3f300000.mmcnr:bluetooth": "1\n",
}
ANSWERS = {
    "systemctl enable ssh.service": "",
    "install -d -m 700 -o 1000 -g 1000 /home/pi/.ssh": "",
}


def system(tmp_path: Path, files: dict[str, Any]) -> Machine:
    put(tmp_path, files)
    return Machine(tmp_path, ANSWERS, live=False, programs=True)


def test_a_passphrase_becomes_the_key_of_the_standard() -> None:
    # IEEE 802.11-2012, M.4.3, the first test vector.
    made = customise.custom(None, "IEEE", "password", "DE")
    assert made.psk == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
    assert "password" not in repr(made)


@pytest.mark.parametrize("key", ["f0" * 32, "0F" * 32])
def test_64_hexadecimal_digits_are_the_key_itself(key: str) -> None:
    made = customise.custom(None, "IEEE", key, "DE")
    assert made.psk == key.lower() and not made.hidden


def test_63_hexadecimal_digits_are_a_passphrase() -> None:
    assert customise.custom(None, "IEEE", "f" * 63, "DE").psk != "f" * 63


def test_a_hidden_network(tmp_path: Path) -> None:
    wish = customise.custom(None, "home", "password1", "DE", hidden=True)
    one, other = system(tmp_path / "1", CLOUD), system(tmp_path / "2", MANAGER)
    for host in (one, other):
        customise.apply(host, wish)
    netplan = yaml.safe_load(one.text("/etc/netplan/90-nodeagent-wifi.yaml") or "")
    (point,) = netplan["network"]["wifis"]["wlan0"]["access-points"].values()
    assert point == {"password": wish.psk, "hidden": True}
    connection = configparser.ConfigParser()
    connection.read_string(
        other.text("/etc/NetworkManager/system-connections/nodeagent-wifi.nmconnection") or ""
    )
    assert connection["wifi"]["hidden"] == "true"


def test_with_cloud_init_and_netplan(tmp_path: Path) -> None:
    host = system(tmp_path, CLOUD)
    customise.apply(host, customise.custom(KEY, 'My "Wi-Fi"', "password1", "DE"))
    cloud = yaml.safe_load(host.text("/etc/cloud/cloud.cfg.d/90-nodeagent-ssh.cfg") or "")
    assert cloud == {"ssh_authorized_keys": [KEY]}
    netplan = yaml.safe_load(host.text("/etc/netplan/90-nodeagent-wifi.yaml") or "")
    wlan = netplan["network"]["wifis"]["wlan0"]
    assert list(wlan["access-points"]) == ['My "Wi-Fi"'] and wlan["regulatory-domain"] == "DE"
    assert host.mode("/etc/netplan/90-nodeagent-wifi.yaml") == 0o600
    assert "regdom=DE" in (host.text("/etc/modprobe.d/nodeagent-wifi.conf") or "")
    assert host.ran == ["systemctl enable ssh.service"]


def test_where_a_socket_starts_ssh_already(tmp_path: Path) -> None:
    host = system(tmp_path, CLOUD | {"/etc/systemd/system/sockets.target.wants/ssh.socket": ""})
    customise.apply(host, customise.custom(KEY, None, "", None))
    assert host.ran == [] and not host.exists("/etc/netplan")


def test_with_network_manager_and_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[Any] = []
    monkeypatch.setattr("os.fchown", lambda descriptor, *owner: owners.append(owner))
    host = system(tmp_path, MANAGER | {"/home/pi/.ssh/authorized_keys": "ssh-rsa AAAA old\n"})
    customise.apply(host, customise.custom(KEY, "Ö", "password1", "FR"))
    keys = host.text("/home/pi/.ssh/authorized_keys") or ""
    assert keys == f"ssh-rsa AAAA old\n{KEY}\n" and owners == [(1000, 1000)]
    connection = host.text("/etc/NetworkManager/system-connections/nodeagent-wifi.nmconnection")
    assert connection is not None and "\nssid=195;150;\n" in connection
    assert "password1" not in connection
    assert host.text("/var/lib/systemd/rfkill/platform-3f300000.mmcnr:wlan") == "0\n"
    assert host.text("/var/lib/systemd/rfkill/platform-3f300000.mmcnr:bluetooth") == "1\n"


def test_nothing_wished_nothing_done(tmp_path: Path) -> None:
    host = system(tmp_path, MANAGER)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    customise.apply(host, customise.NOTHING)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before and not host.ran


@pytest.mark.parametrize(("words", "reason"), [
    (("-----BEGIN OPENSSH PRIVATE KEY-----", None, "", None), "no public key"),
    ((f"{KEY}\n{KEY}", None, "", None), "no public key"),
    ((None, "home", "password1", None), "needs the country"),
    ((None, "home", "password1", "Germany"), "needs the country"),
    ((None, "home", "short", "DE"), "8 to 63 characters"),
    ((None, "home", "g0" * 32, "DE"), "64 hexadecimal digits"),
    ((None, "home", "f0" * 33, "DE"), "64 hexadecimal digits"),
    ((None, None, "", None, True), "no name of a hidden Wi-Fi"),
    ((None, "Ö" * 17, "password1", "DE"), "1 to 32 bytes"),
])  # fmt: skip
def test_wishes_that_cannot_be(words: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        customise.custom(*words)
    assert reason in caught.value.reason and "PRIVATE" not in json.dumps(str(caught.value))


@pytest.mark.parametrize("wish", [(KEY, None, "", None), (None, "home", "password1", "DE")])
def test_systems_that_cannot_have_it(tmp_path: Path, wish: tuple[Any, ...]) -> None:
    with pytest.raises(Refused):
        customise.apply(system(tmp_path, {"/etc/passwd": "root:x:0:0::/root:/bin/sh\n"}),
                        customise.custom(*wish))  # fmt: skip
