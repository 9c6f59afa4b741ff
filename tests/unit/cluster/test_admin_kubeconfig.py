"""The kubeconfig for a laptop."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from nodeagent.cluster import admin_kubeconfig, control_plane, names
from nodeagent.errors import Refused
from nodeagent.host.host import Result
from tests.support.authority import CA_CERT, CA_KEY
from tests.support.machine import NOW, Machine, put

ADMIN = """\
clusters:
- cluster: {certificate-authority-data: QQ==, server: 'https://192.168.1.40:6443'}
  name: kubernetes
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A control plane."""
    put(tmp_path, {"/etc/kubernetes/admin.conf": ADMIN, "/etc/kubernetes/pki/ca.crt": CA_CERT,
                   "/etc/kubernetes/pki/ca.key": CA_KEY})  # fmt: skip
    return Machine(tmp_path)


def test_it_leads_to_the_cluster_as_a_user_of_its_own(machine: Machine) -> None:
    text = admin_kubeconfig.kubeconfig(machine, "home")
    config = yaml.safe_load(text)
    assert text.startswith("# Whoever has this file is administrator")
    assert config["clusters"][0]["cluster"]["server"] == "https://192.168.1.40:6443"
    assert config["current-context"] == config["contexts"][0]["name"] == "home"
    user = config["users"][0]["user"]
    cert = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    assert cert.subject.rfc4514_string() == f"CN={admin_kubeconfig.USER},O={admin_kubeconfig.GROUP}"
    authority = x509.load_pem_x509_certificate(CA_CERT)
    assert cert.issuer == authority.subject
    assert b"PRIVATE KEY" in base64.b64decode(user["client-key-data"])
    assert base64.b64encode(CA_KEY).decode()[:60] not in text


def test_a_computer_that_knows_no_names_gets_the_address_and_what_it_proves(
    machine: Machine,
) -> None:
    name = "api.f-aaaaaaaaaaaaaaaa.internal"
    put(machine.root, {"/etc/kubernetes/admin.conf": ADMIN.replace("192.168.1.40", name),
                       names.API_SERVER: "    - --advertise-address=192.168.1.41\n"})  # fmt: skip
    text = admin_kubeconfig.kubeconfig(machine, "home")
    cluster = yaml.safe_load(text)["clusters"][0]["cluster"]
    assert cluster["server"] == "https://192.168.1.41:6443"
    assert cluster["tls-server-name"] == name
    assert "write the new address" in text


@pytest.mark.parametrize(
    "content",
    ["", "admin\n", "[]\n", "clusters: []\n", "clusters:\n- cluster: 4\n", "a: {\n", ADMIN[:40]],
)
def test_a_damaged_file_is_named_with_what_to_do(content: str, machine: Machine) -> None:
    put(machine.root, {"/etc/kubernetes/admin.conf": content})
    for command in (control_plane.join_command, lambda host: admin_kubeconfig.kubeconfig(host, "")):
        with pytest.raises(Refused, match="is damaged") as caught:
            command(machine)
        assert "kubeadm init phase kubeconfig admin" in caught.value.remedy
    assert machine.ran == [], "no token was made for nothing"


def test_a_machine_without_nodeagent_is_told_the_name_and_the_address(machine: Machine) -> None:
    name = "api.f-aaaaaaaaaaaaaaaa.internal"
    put(machine.root, {"/etc/kubernetes/admin.conf": ADMIN.replace("192.168.1.40", name),
                       names.API_SERVER: "    - --advertise-address=192.168.1.41\n"})  # fmt: skip
    machine.otherwise = lambda argv, timeout, stdin: Result(0, "abcdef.0123456789abcdef\n")
    text = control_plane.join_command(machine)
    assert f"echo '192.168.1.41 {name}' >> /etc/hosts\n" in text
    assert "abcdef" not in text, "the token is in a file only"


def test_a_worker_has_none(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        admin_kubeconfig.kubeconfig(Machine(tmp_path, now=NOW), "home")


def test_a_file_that_is_there_is_kept(machine: Machine) -> None:
    put(machine.root, {"/home/pi/config": "mine"})
    with pytest.raises(Refused):
        admin_kubeconfig.give(machine, lambda: "home", "/home/pi/config")
    assert machine.text("/home/pi/config") == "mine"
