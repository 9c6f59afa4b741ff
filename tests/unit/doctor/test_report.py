"""The support bundle: no secret of the node is in it, whatever was said where."""

from __future__ import annotations

import base64
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import pytest

from nodeagent import paths
from nodeagent.cluster import credentials, kubeadm_state
from nodeagent.doctor import redact, report
from nodeagent.errors import Refused
from nodeagent.host.host import Result
from nodeagent.statefile import StateFile
from nodeagent.status import model
from nodeagent.trust import fleet_file, store
from nodeagent.trust import node_key as keys
from nodeagent.trust.node_key import NodeKey
from tests.support.authority import CA_CERT, CA_KEY
from tests.support.machine import NOW, Machine, put

TOKEN = "q7w2mz.5x3c6v7b8n9m0a1s"
LEFTOVER = "z9y8x7.0123456789abcdef"  # of a cluster before, in no file any more
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJ0b2tlbiI6InNlY3JldCJ9.c2lnbmF0dXJlLW9mLWEtZ3JhbnQ"
WIFI, HASH = "correct horse battery", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o"
URL_PASSWORD, BARE = "hunter2hunter2", "n0tInAnyF1le"


def planted(machine: Machine) -> dict[str, str]:
    """Lay out every kind of secret that a node has; name -> what must not leave."""
    _, card = fleet_file.make("home")
    NodeKey.load_or_create(machine)
    _, user_key = credentials.client("x", CA_CERT, CA_KEY, NOW)
    kubeconfig = f"users:\n- user:\n    client-key-data: {base64.b64encode(user_key).decode()}\n"
    beacon = base64.b64encode(bytes(range(32))).decode()
    put(machine.root, {
        "/boot/firmware/nodeagent.fleet": card,
        store.FLEET_FILE: json.dumps({"enrol": {"key": user_key.decode()}, "beacon_key": beacon}),
        "/run/nodeagent/keep.json": json.dumps({"key": beacon, "beacon": {"node_id": NODE}}),
        "/var/lib/nodeagent-broker/state.json": json.dumps({"tokens": [{"grant": JWT}]}),
        "/etc/kubernetes/admin.conf": kubeconfig,
        "/home/pi/.kube/config": kubeconfig,
        "/etc/kubernetes/pki/ca.key": CA_KEY,
        f"{kubeadm_state.FOLDER}/join.yaml": f"tlsBootstrapToken: {TOKEN}\n",
        "/etc/NetworkManager/system-connections/home.nmconnection": f"[wifi]\npsk={WIFI}\n",
        "/etc/shadow": f"pi:{HASH}:20000:0:99999:7:::\n",
        "/boot/firmware/nodeagent.yaml":
            f"kubernetes: {{repository: 'https://me:{URL_PASSWORD}@mirror.example'}}\n",
    })  # fmt: skip
    node_key = machine.text(keys.PATH) or ""
    return {
        "token": TOKEN, "leftover": LEFTOVER, "jwt": JWT, "wifi": WIFI, "hash": HASH,
        "url": URL_PASSWORD, "beacon key": beacon, "node key": node_key,
        "client key": user_key.decode(), "cluster ca": CA_KEY.decode(),
        "kubeconfig": base64.b64encode(user_key).decode(),
        "card": card.decode(), "named": BARE,
    }  # fmt: skip


NODE = "n-k4q7w2mz5x3c6v7b"


def pieces(secret: str) -> set[str]:
    """Parts of a secret that would be enough to be worth something: key lines and whole words."""
    body = re.sub(r"-----BEGIN CERT.*?END CERT[^-]*-----", "", secret, flags=re.DOTALL)
    found = set(re.findall(r"[A-Za-z0-9+/=]{40,}", body.replace("\\n", "\n")))
    return found or {secret}


class Talkative(Machine):
    """A double of a node where every command repeats every secret, in every disguise."""

    secrets: dict[str, str]

    def _answer(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        said = [f"{argv[0]} was run", f"password: {BARE}", f"node {NODE} 192.168.1.40"]
        said.append('E1128 01:00:00.123456  1 pod_workers.go:1301] "Error" err="no such host"')
        for name, secret in self.secrets.items():
            if name == "leftover":  # known by its shape only
                said.append(f"used {secret}.")
            elif name != "named":
                said += [secret, json.dumps({"text": secret}), f"x{secret}y"]
                said.append(base64.b64encode(secret.encode()).decode())
        return Result(0, "\n".join(said), "")


@pytest.fixture
def machine(tmp_path: Path) -> Talkative:
    """A formed control plane with all its secrets; the test is root on it."""
    machine = Talkative(tmp_path)
    machine.secrets = {}
    machine.secrets = planted(machine)
    StateFile(machine).note("joined", name="pi-1")
    bare = [secret for name, secret in machine.secrets.items() if name != "named"]
    everything = " ".join([*bare, f"password={BARE}"])
    put(tmp_path, {
        "/etc/hostname": "pi-1\n",
        paths.STATUS: json.dumps({**model.empty(), "node_id": NODE, "detail": everything}),
        "/var/log/dpkg.log": f"{everything}\n" * 3,
        "/etc/hosts": everything,
    })  # fmt: skip
    return machine


def opened(machine: Machine, path: str) -> dict[str, str]:
    """The bundle's members."""
    with tarfile.open(machine.path(path)) as archive:
        members = archive.getmembers()
        assert all(m.isfile() and m.mode == 0o600 for m in members)
        return {
            m.name.split("/", 1)[1]: cast(IO[bytes], archive.extractfile(m)).read().decode()
            for m in members
        }


def test_census_of_secrets(machine: Talkative) -> None:
    said: list[str] = []
    path = report.make(machine, "/home", said.append)
    content = opened(machine, path)
    everything = "\n".join(content.values())
    for name, secret in machine.secrets.items():
        for piece in pieces(secret):
            assert piece not in everything, f"{name} is in the report"
            disguised = base64.b64encode(piece.encode()).decode().rstrip("=")[2:-2]
            assert disguised not in everything, f"{name} is in the report, as base64"
    assert LEFTOVER in Talkative._answer(machine, ["x"], 1, None).out, "the double does say it"
    assert redact.GONE in content["files/run/nodeagent/status.json"]


def test_what_is_no_secret_stays(machine: Talkative) -> None:
    content = opened(machine, report.make(machine, "/home", lambda part: None))
    log = content["commands/journal-kubelet.log"]
    assert "E1128 01:00:00 pod_workers.go:1301 (no such host)" in log and "lines" in log
    assert f"node {NODE} 192.168.1.40" in content["commands/routes.txt"]
    assert '"event": "joined"' in content["files/var/lib/nodeagent/state.json"]
    assert "doctor.json" in content and json.loads(content["doctor.json"])["findings"]
    assert "files/run/nodeagent/status.json" in content["CONTENTS.txt"]
    assert "commands/pods.txt" in content, "this is a control plane"


def test_it_is_private_and_named_after_the_node(machine: Talkative) -> None:
    path = report.make(machine, "/home", lambda part: None)
    assert re.fullmatch(r"/home/nodeagent-report-pi-1-\d{8}-\d{6}\.tar\.gz", path)
    assert machine.mode(path) == 0o600


def test_it_is_bounded(machine: Talkative, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_PART", 2000)
    monkeypatch.setattr(report, "MAX_ALL", 5000)
    content = opened(machine, report.make(machine, "/home", lambda part: None))
    content.pop("CONTENTS.txt")
    assert all(len(text) <= 2000 for text in content.values())
    assert sum(map(len, content.values())) < 5000 + 60 * len(content)
    assert "left out: the report would be too large\n" in content.values()


def test_a_part_that_fails_leaves_the_others(
    machine: Talkative, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(host: Any) -> list[str]:
        raise ZeroDivisionError("x")

    monkeypatch.setattr("nodeagent.doctor.report.show_config", broken)
    content = opened(machine, report.make(machine, "/home", lambda part: None))
    assert content["config.txt"] == "could not be had: ZeroDivisionError: x\n"
    assert "doctor.json" in content


def test_an_ordinary_user_is_told(machine: Talkative) -> None:
    machine.is_root = False
    with pytest.raises(Refused):
        report.make(machine, "/home", lambda part: None)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("sha256:0123456789abcdef is fine", "sha256:0123456789abcdef is fine"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("token abcdef.0123456789abcdef used", f"token {redact.GONE} used"),
        ("Authorization: Bearer abc.def", f"Authorization: {redact.GONE}"),
        ("http://u:p4ss@host/x", f"http://{redact.GONE}@host/x"),
        ('{"password": "two words", "a": 1}', f'{{"password": {redact.GONE}, "a": 1}}'),
        ("-----BEGIN EC PRIVATE KEY-----\nMHc\n", redact.GONE),
    ],
)
def test_what_looks_like_a_secret(said: str, left: str) -> None:
    assert redact.text(said) == left


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("after", range(3))
def test_a_secret_inside_a_longer_base64_text(before: int, after: int) -> None:
    """A whole card in base64: where in it a key stands is another place with each card."""
    key = "Qv3x0Zr1uT8yKq2mWbN7dLsEoHfGjA5c"
    said = base64.b64encode(b"a" * before + key.encode() + b"z" * after).decode()
    left = redact.text(f"was: {said}", redact.values(f'key: "{key}"\n'.encode()))
    assert redact.GONE in left and len(left.replace(redact.GONE, "")) <= len("was: ") + 10
