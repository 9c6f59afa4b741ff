"""A node's address changes, and the power or the agent is cut after each thing it does about it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent import paths
from nodeagent.cluster import credentials, kubeadm, names
from nodeagent.config import settings as config
from nodeagent.errors import CommandFailed, NotConverged
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts
from nodeagent.host.host import Result
from nodeagent.steps.own_address import PODS, SERVER_CERT, SERVER_KEY, OwnAddress
from tests.support import authority
from tests.support.machine import Machine, put

CASES = Path(__file__).parent / "own-address"
API = "api.f-aaaaaaaaaaaaaaaa.internal"
NOW, BEFORE = "192.168.1.23", "192.168.7.7"
PROXY = "5c1c0c9e-0000-4000-8000-000000000001"
CMDLINE, TUNNEL = "/proc/1002/cmdline", "/run/double/tunnel"
HEAD = "# Kubernetes-managed hosts file (host network).\n"


class Board(Machine):
    """A member: its kubelet, kube-proxy, tunnel and kubeadm do what the real ones do."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.otherwise = self._do

    def boot(self) -> None:
        """All that runs begins with what the files say."""
        self._kubelet()
        self._proxy()
        self._flannel()

    def _kubelet(self) -> None:
        address = names.node_ip(self.text(paths.KUBELET_FLAGS) or "")
        put(self.root, {CMDLINE: f"kubelet\0--node-ip={address}\0"})

    def _proxy(self) -> None:
        put(self.root, {f"{PODS}/{PROXY}/etc-hosts": f"{HEAD}{self.text(paths.HOSTS)}"})

    def _flannel(self) -> None:
        running = names.node_ip((self.text(CMDLINE) or "").replace("\0", " "))
        put(self.root, {TUNNEL: running, f"{paths.INTERFACES}/flannel.1/type": "1\n"})

    def _do(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        line = " ".join(argv)
        if line == "pidof kubelet":
            return Result(0, "1002\n")
        if line == "systemctl restart kubelet":
            self._kubelet()
        elif line.startswith("ip -d -j link show"):
            data = {"linkinfo": {"info_data": {"local": self.text(TUNNEL)}}}
            return Result(0, json.dumps([data]))
        elif line.startswith("crictl ps"):
            return Result(0, "proxy\n" if "uid=" in line else f"{argv[-1].strip('^$')}\n")
        elif line == "crictl stop proxy":
            self._proxy()
        elif line == "crictl stop kube-flannel":
            self._flannel()
        elif line.startswith("kubeadm init phase certs apiserver"):
            there = [self.exists(path) for path in (SERVER_CERT, SERVER_KEY)]
            if any(there):  # it uses what is there, or refuses half of it
                return Result(0 if all(there) else 1)
            said = yaml.safe_load((self.text(kubeadm.INIT_FILE) or "").split("---")[0])
            self.certify(said["localAPIEndpoint"]["advertiseAddress"])
        else:
            assert line in ("sync", "crictl stop kube-apiserver"), line
        return Result(0)

    def certify(self, address: str) -> None:
        """A certificate of the API server at this address."""
        made = authority.server(address, authority.CA_CERT, authority.CA_KEY, API)
        cert, begin, key = made.partition(b"-----BEGIN PRIVATE KEY")
        put(self.root, {SERVER_CERT: cert, SERVER_KEY: begin + key})

    def left(self) -> list[Action]:
        """What is still to do."""
        return list(OwnAddress().plan(Facts(self), config.load(self).settings))

    def tree(self) -> dict[str, str]:
        """All that lasts or runs; a certificate is as good as another that fits."""
        cert, key = self.read(SERVER_CERT), self.read(SERVER_KEY)
        found = {
            str(path.relative_to(self.root)): path.read_bytes().decode("utf-8", "replace")
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not path.name.startswith("apiserver.")
        }
        # Of the copy only what the pods in the node's network look up.
        copy = str(names.addresses_of(found.pop(f"{PODS[1:]}/{PROXY}/etc-hosts"), API))
        return {**found, "copy": copy, "served": str(credentials.serves(cert, key, API, NOW))}


def board(root: Path, role: str) -> Board:
    """A member that has another address than when it was last on."""
    case = yaml.safe_load((CASES / f"{role}-moved.yaml").read_text())
    made = Board(root)
    put(root, case["files"])
    if role == "worker":  # and its control plane has one, too
        hosts = (made.text(paths.HOSTS) or "").replace("192.168.1.10", "192.168.7.10")
        put(root, {paths.HOSTS: hosts})
    else:
        made.certify(BEFORE)
    made.boot()
    return made


def settle(one: Board, cut: int = -1) -> int:
    """As the agent does it, again and again until nothing is left; how many actions it took.
    ``cut``: it ends after so many."""
    done = 0
    for _ in range(5):
        actions = one.left()
        for action in actions:
            if done == cut:
                return done
            action.do(one)
            done += 1
        if not actions:
            return done
    raise NotConverged(f"still to do: {one.left()}", "")


# Whatever is lost without them, data or half a minute, a tree of files in memory cannot show.
NEEDLESS = ("run sync", "run crictl stop kube-apiserver")


def cuts() -> Iterator[Any]:
    """Each instant of each role, with the power or only the agent gone."""
    for role, most in (("leader", 14), ("worker", 6)):
        for cut in range(most):
            for power in (True, False):
                yield pytest.param(
                    role, cut, power, id=f"{role}-{cut}-{'power' if power else 'agent'}"
                )


@pytest.mark.parametrize(("role", "cut", "power"), [*cuts()])
def test_a_cut_anywhere_ends_alike(role: str, cut: int, power: bool, tmp_path: Path) -> None:
    whole = board(tmp_path / "whole", role)
    steps = settle(whole)
    assert cut <= steps, "the loop above ends before the work does"
    assert not [line for line in whole.tree().values() if BEFORE in line or "192.168.7.10" in line]
    other = board(tmp_path / "cut", role)
    settle(other, cut)
    if power:
        other.boot()
    for again in range(cut, steps + 1):  # and once more, at each later instant
        third = tmp_path / f"{again}"
        shutil.copytree(other.root, third, symlinks=True)
        second = Board(third)
        settle(second, again - cut)
        if power:
            second.boot()
        settle(second)
        assert second.tree() == whole.tree()


DELETE, STOP = "run ip link delete tun-0123456789a", "run crictl stop router"


@pytest.mark.parametrize(
    ("listens_at", "tunnel_from", "asked"),
    [
        (BEFORE, NOW, [STOP]), (NOW, BEFORE, [DELETE, STOP]), (BEFORE, BEFORE, [DELETE, STOP]),
        (NOW, NOW, []), ("0.0.0.0", NOW, []),
    ],
)  # fmt: skip
def test_a_network_that_listens_at_the_former_address_is_started_anew(
    listens_at: str, tunnel_from: str, asked: list[str], tmp_path: Path
) -> None:
    """kube-router of a worker that alone has moved, which nothing else starts anew."""
    one = board(tmp_path, "worker")
    settle(one)
    where = bytes(map(int, listens_at.split(".")))[::-1].hex().upper()
    line = f" 0: {where}:00B3 00000000:0000 0A 0:0 0:0 0 0 0 11 1\n"
    put(tmp_path, {"/proc/net/tcp": f"  sl  local_address rem_address   st\n{line}",
                   f"{paths.INTERFACES}/tun-0123456789a/type": "768\n"})  # fmt: skip
    tunnel = json.dumps([{"linkinfo": {"info_data": {"local": tunnel_from}}}])
    shown = {"tun-0123456789a": tunnel, "^kube-router$": "router\n"}
    one.otherwise = lambda argv, *_: Result(0, shown.get(argv[-1], ""))
    assert [action.show() for action in one.left()] == asked


@pytest.mark.parametrize("role", ["leader", "worker"])
def test_each_action_is_missed_where_it_is_left_out(role: str, tmp_path: Path) -> None:
    """So that what is compared above would show each of them that went lost."""
    whole = board(tmp_path / "whole", role)
    settle(whole)
    asked = [action.show() for action in board(tmp_path / "first", role).left()]
    assert len(asked) >= 4
    for number, left_out in enumerate(asked):
        if left_out in NEEDLESS:
            continue
        other = board(tmp_path / str(number), role)
        for _ in range(5):
            for action in other.left():
                if action.show() != left_out:
                    with contextlib.suppress(CommandFailed):
                        action.do(other)
        assert other.tree() != whole.tree(), left_out


def test_a_certificate_without_its_key_is_made_again(tmp_path: Path) -> None:
    """kubeadm syncs nothing, so a power cut may leave one of the two."""
    one = board(tmp_path, "leader")
    settle(one)
    ours = one.read(SERVER_KEY)
    put(tmp_path, {SERVER_KEY: authority.server(NOW).partition(b"-----END CERTIFICATE-----\n")[2]})
    assert [action.show() for action in one.left()][:1] == [f"remove {SERVER_CERT}"]
    settle(one)
    assert one.read(SERVER_KEY) != ours and one.tree()["served"] == "True"


def test_the_table_of_addresses_has_all_that_is_compared() -> None:
    """docs/reference/addresses.md, against what the step reads and writes."""
    page = (Path(__file__).parents[3] / "docs/reference/addresses.md").read_text()
    written = {
        path.rpartition("/")[2]
        for case in CASES.glob("*.yaml")
        for expected in yaml.safe_load(case.read_text()).get("expect", [])
        for path in re.findall(
            r"/[\w./-]+", str(expected.get("write", "")) if isinstance(expected, dict) else expected
        )
    }
    missing = {name for name in written if name not in page}
    assert not missing - {"apiserver.key"}
