"""A node with another Kubernetes than the cluster's: it gets that, or says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeagent import paths
from nodeagent.agent import release
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import kubeadm, kubeadm_state, networks, packages, versions
from nodeagent.config import checks
from nodeagent.config import settings as config
from nodeagent.config.settings import Network, Settings
from nodeagent.errors import Blocked, CommandFailed
from nodeagent.host.facts import Facts
from nodeagent.join.statement import Cluster
from nodeagent.statefile import StateFile
from nodeagent.steps import engine
from nodeagent.steps.packages import InstalledPackages
from tests.support.machine import Machine, dpkg_status, put

NEWEST = versions.TESTED[0]
OLDER = replace(NEWEST, kubernetes="1.30.2")


def node(folder: Path, typed: dict[str, str]) -> Machine:
    """Prepared with the newest release."""
    there = dict.fromkeys(packages.KUBERNETES, f"{NEWEST.kubernetes}-1.1")
    put(folder, {"/var/lib/dpkg/status": dpkg_status(there), **typed})
    return Machine(folder)


def fit(machine: Machine, cluster: str) -> bool:
    loaded = config.load(machine).settings
    return release.fit(machine, loaded, StateFile(machine), Reporter(machine), cluster)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings of each run of the steps."""
    runs: list[Any] = []
    monkeypatch.setattr(versions, "TESTED", (NEWEST, OLDER))
    check = checks.kubernetes((NEWEST.minor, OLDER.minor))
    field = config._field("kubernetes.version")
    monkeypatch.setattr(field, "metadata", {**field.metadata, "check": check})
    monkeypatch.setattr(engine, "run", lambda steps, host, settings, *rest: runs.append(settings))
    return runs


def test_the_clusters_release_is_installed_and_kept(tmp_path: Path, installed: list[Any]) -> None:
    machine = node(tmp_path, {})
    assert fit(machine, "1.30.5")
    assert [one.kubernetes.version for one in installed] == ["1.30.5"]
    assert config.load(machine).settings.kubernetes.version == "1.30.5", "also at the next start"
    wanted = packages.missing(Facts(machine), config.load(machine).settings)
    assert {"kubelet=1.30.5-*", "kubeadm=1.30.5-*", "kubectl=1.30.5-*"} <= set(wanted)
    undo = list(InstalledPackages().undo(Facts(machine), config.load(machine).settings))
    for action in undo[:1]:
        action.do(machine)
    assert config.load(machine).settings.kubernetes.version == NEWEST.minor


def test_what_was_cut_off_goes_on(
    tmp_path: Path, installed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a join that was cut off, whose kubelet's files would keep the packages."""
    machine = node(tmp_path, {})
    made: list[kubeadm_state.State] = []
    monkeypatch.setattr(kubeadm, "make_room", lambda host, found: made.append(found))

    def cut(*_: Any) -> None:
        raise CommandFailed("no network", "wait")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "run", cut)
        for _ in range(2):
            with pytest.raises(CommandFailed):
                fit(machine, "1.30.5")
    assert fit(machine, "1.30.5"), "the installed kubelet is the old one still"
    there = dict.fromkeys(packages.KUBERNETES, "1.30.5-1.1")
    put(tmp_path, {"/var/lib/dpkg/status": dpkg_status(there)})
    assert not fit(machine, "1.30.5")
    assert len(made) == 3


def test_another_patch_release_stays(tmp_path: Path, installed: list[Any]) -> None:
    machine = node(tmp_path, {})
    assert not fit(machine, f"{NEWEST.minor}.99")
    assert not installed and not machine.exists(config.RELEASE_FILE)


@pytest.mark.parametrize(
    ("typed", "cluster", "reason", "remedy"),
    [
        ({"/etc/nodeagent/config.d/a.yaml": f'kubernetes: {{version: "{NEWEST.minor}"}}\n'},
         "1.30.5", "the settings of this node name", "or write 1.30"),
        ({}, "1.29.5", "which this nodeagent does not install", "join-command"),
    ],
    ids=["typed", "unknown"],
)  # fmt: skip
def test_what_does_not_fit_is_said_and_nothing_changed(
    typed: dict[str, str], cluster: str, reason: str, remedy: str,
    tmp_path: Path, installed: list[Any],
) -> None:  # fmt: skip
    machine = node(tmp_path, typed)
    with pytest.raises(Blocked) as caught:
        fit(machine, cluster)
    assert reason in caught.value.reason and remedy in caught.value.remedy
    assert not installed and not machine.exists(config.RELEASE_FILE)


@pytest.mark.parametrize("told", ["kube-router", ""])
def test_a_node_that_joins_is_prepared_for_the_clusters_networks(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the next try where the first was cut off; and so is the next start, by its files."""
    machine = node(tmp_path, {})
    pods = ("10.118.0.0/16", "10.119.0.0/16")
    cluster = Cluster("n-" + "a" * 16, 1, ("10.0.0.7:6443",), "CA", "1.37.2", pods, cni=told)
    runs = list[tuple[list[str], Network, Network]]()

    def take() -> None:
        loaded = config.load(machine).settings
        said = Reporter(machine)
        release.take_networks(machine, loaded, StateFile(machine), said, cluster)

    def run(steps: Any, host: Any, settings: Settings, *_: Any) -> None:
        opened = networks.chosen(Facts(machine), settings)  # what the firewall step opens
        runs.append(([step.name for step in steps], settings.network, opened.network))
        if len(runs) == 1:
            raise CommandFailed("modprobe: no such module", "")

    monkeypatch.setattr(engine, "run", run)
    with pytest.raises(CommandFailed):
        take()
    take()
    for steps, network, opened in runs:
        assert steps == ["ports", "modules", "sysctls", "firewall", "pod-network"]
        assert (network.pod_cidr, network.service_cidr) == pods
        assert network.cni == (told or "flannel") and opened == network
    assert len(runs) == 2 and machine.exists(config.POD_NETWORK_FILE) is bool(told)
    put(tmp_path, {paths.FORMED: "worker\n", paths.KUBELET_CONF: "server"})
    assert config.load(machine).settings.network == runs[1][1]
