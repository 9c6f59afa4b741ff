"""Which releases a node has: as wished, as installed, as its kubeadm says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.cluster import packages, versions
from nodeagent.config import settings as config
from nodeagent.config.settings import Kubernetes, Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from tests.support.machine import Machine, dpkg_status, put

NEWEST = versions.TESTED[0]
# A table of two minors, the older one without its own line in the real table.
OLDER = replace(
    NEWEST, kubernetes="1.30.2", pause="3.9", etcd="3.5.12-0", coredns="v1.11.1"
)  # fmt: skip
LISTED = """\
registry.k8s.io/kube-apiserver:{0}
registry.k8s.io/kube-proxy:{0}
registry.k8s.io/coredns/coredns:v1.99.1
registry.k8s.io/pause:3.99
registry.k8s.io/etcd:3.99.8-0
"""


def asked(release: str) -> dict[str, str]:
    line = f"kubeadm config images list --kubernetes-version v{release}"
    return {line: LISTED.format(f"v{release}")}


@pytest.mark.parametrize(
    ("wish", "installed", "member", "kubernetes", "pause"),
    [
        (NEWEST.minor, None, False, NEWEST.kubernetes, NEWEST.pause),
        (NEWEST.minor, NEWEST.kubernetes, False, NEWEST.kubernetes, NEWEST.pause),
        ("1.30", NEWEST.kubernetes, False, "1.30.2", "3.9"),
        # A release that the table does not name: what belongs to it is asked of its kubeadm.
        ("1.30", "1.30.7", False, "1.30.7", "3.99"),
        ("1.30.7", None, False, "1.30.7", "3.9"),
        ("1.30.7", "1.30.2", False, "1.30.7", "3.9"),
        ("1.30.7", "1.30.7", False, "1.30.7", "3.99"),
        # A member has what it has, whatever the settings or the table say.
        ("1.30", NEWEST.kubernetes, True, NEWEST.kubernetes, NEWEST.pause),
        (NEWEST.minor, "1.30.2", True, "1.30.2", "3.9"),
        (NEWEST.minor, "1.29.3", True, "1.29.3", "3.99"),
        ("1.29", "1.29.3", True, "1.29.3", "3.99"),
    ],
)
def test_what_a_node_has(
    wish: str, installed: str | None, member: bool, kubernetes: str, pause: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(versions, "TESTED", (NEWEST, OLDER))
    there = {name: f"{installed}-1.1" for name in packages.KUBERNETES if installed}
    put(tmp_path, {"/var/lib/dpkg/status": dpkg_status(there)})
    put(tmp_path, {paths.KUBELET_CONF: "x"} if member else {})
    facts = Facts(Machine(tmp_path, asked(installed or wish)))
    found = packages.release(facts, Settings(kubernetes=Kubernetes(version=wish)))
    assert (found.kubernetes, found.pause) == (kubernetes, pause)
    if pause == "3.99":
        assert (found.etcd, found.coredns) == ("3.99.8-0", "v1.99.1")


def test_a_member_whose_kubeadm_does_not_answer_is_looked_after(tmp_path: Path) -> None:
    there = dict.fromkeys(packages.KUBERNETES, "1.29.3-1.1")
    put(tmp_path, {"/var/lib/dpkg/status": dpkg_status(there), paths.KUBELET_CONF: "x"})
    found = packages.release(Facts(Machine(tmp_path)), Settings())
    assert (found.kubernetes, found.pause) == ("1.29.3", versions.DEFAULT.pause)


def test_a_release_of_an_earlier_table_makes_no_new_cluster(tmp_path: Path) -> None:
    put(tmp_path, {"/var/lib/dpkg/status": ""})
    with pytest.raises(Blocked, match=r"does not make clusters of Kubernetes 1\.29\."):
        packages.release(Facts(Machine(tmp_path)), Settings(kubernetes=Kubernetes("1.29")))


@pytest.mark.parametrize(
    ("least", "package"),
    [((2, 1), "containerd"), ((2, 2), "containerd"), ((2, 3), "containerd.io")],
)
def test_ubuntu_takes_dockers_where_its_own_is_too_old(
    least: tuple[int, int], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "TESTED", (replace(NEWEST, containerd_minimum=least),))
    put(tmp_path, {"/etc/os-release": "ID=ubuntu\nVERSION_CODENAME=noble\n",
                   "/var/lib/dpkg/status": ""})  # fmt: skip
    assert packages.containerd_package(Facts(Machine(tmp_path)), Settings()) == package
    assert packages.missing(Facts(Machine(tmp_path)), Settings())[0] == f"{package}=2.*"


def test_the_settings_know_the_table() -> None:
    """Newest first; an earlier table's minors stay behind it, since members' settings name them."""
    table = [one.minor for one in versions.TESTED]
    assert list(config.MINORS[: len(table)]) == table
    assert table == sorted(table, key=lambda minor: int(minor[2:]), reverse=True)
    assert versions.TESTED[0] == versions.DEFAULT
    assert Settings().kubernetes.version == versions.DEFAULT.minor
