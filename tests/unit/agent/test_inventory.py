"""Versions, certificates and hardware, as the status tells them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodeagent import __version__
from nodeagent.agent import inventory
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import credentials
from tests.support.authority import CA_CERT, CA_KEY
from tests.support.machine import NOW, Machine, dpkg_status, put
from tests.support.statuses import CHECK


def node(root: Path) -> Machine:
    """A double of a control plane with one certificate that ends in a year."""
    cert, _ = credentials.client("x", CA_CERT, CA_KEY, NOW)
    put(root, {
        "/var/lib/dpkg/status": dpkg_status({"kubelet": "1.37.2-1.1", "containerd.io": "2.3.7-1"}),
        "/etc/os-release": "ID=debian\nVERSION_CODENAME=trixie\n",
        "/etc/kubernetes/pki/ca.crt": CA_CERT,
        "/etc/kubernetes/pki/apiserver.crt": cert,
        "/etc/kubernetes/pki/broken.crt": b"-----BEGIN CERTIFICATE-----\nx\n",
        "/etc/kubernetes/pki/apiserver.key": "no certificate",
        "/var/lib/kubelet/pki/kubelet-client-current.pem": b"# text before\n" + cert,
        "/proc/device-tree/model": "Raspberry Pi 4 Model B\0",
        "/sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    })  # fmt: skip
    return Machine(root)


def test_what_a_control_plane_has(tmp_path: Path) -> None:
    found = inventory.take(node(tmp_path))
    assert found["versions"]["nodeagent"] == __version__
    assert found["versions"]["kubernetes"] == "1.37.2"
    assert found["versions"]["containerd"] == "2.3.7"
    ends = {one["name"].rsplit("/", 1)[1]: one for one in found["certificates"]}
    assert {name: one["renewal"] for name, one in ends.items()} == {
        "ca.crt": "never", "apiserver.crt": "automatic",
        "kubelet-client-current.pem": "automatic",
    }  # fmt: skip
    assert abs(ends["apiserver.crt"]["expires"] - NOW - 365 * 86400) < 7200
    (power,) = [one for one in found["hardware"] if one["name"] == "power"]
    assert power["level"] == "failure" and "under-voltage" in power["text"]
    assert inventory.parse(json.dumps({"v": 1, **found})) == found


def test_it_fits_the_schema_and_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = node(tmp_path)
    board = Reporter(machine)
    board.take_stock(inventory.take(machine))
    board.take_stock(inventory.take(machine))
    CHECK.validate(json.loads(machine.read("/run/nodeagent/status.json") or b""))
    (told,) = [one for one in caplog.messages if one.startswith("power:")]
    assert told.startswith("power: under-voltage")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"v": 1, "versions": {}}', '{"v": 2}', "null"]
)
def test_an_inventory_that_failed_changes_nothing(text: str) -> None:
    assert inventory.parse(text) == {}
