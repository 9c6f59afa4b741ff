"""`nodeagent role` on real folders: what it finds out, what it writes, and that it asks first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent import paths
from nodeagent.agent import change_role
from nodeagent.agent.role_table import Leave, Nothing
from nodeagent.cli.main import main
from nodeagent.config import settings as config
from nodeagent.errors import CommandFailed, Refused
from nodeagent.fleet import handoff
from nodeagent.statefile import State, StateFile
from nodeagent.trust import fleet_file, store
from tests.support.machine import Machine, put
from tests.support.speakers import unsigned
from tests.unit.agent.test_conflict import OTHER, RIVAL_BEACON, Old
from tests.unit.cluster.test_workloads import GET, answers

CA = "a certificate"
OURS = hashlib.sha256(CA.encode()).hexdigest()
STOP = "systemctl stop nodeagent.service"
START = "systemctl start --no-block nodeagent.service nodeagent-serve.service"


@pytest.fixture
def card() -> bytes:
    """The fleet's card file."""
    return fleet_file.make("home")[1]


@pytest.fixture
def old(tmp_path: Path, card: bytes) -> Iterator[Old]:
    """The control plane of the fleet."""
    made = Old(tmp_path / "old", card)
    made.tell(replace(OTHER, cluster=OURS))
    yield made
    made.endpoint.close()


def node(root: Path, card: bytes, files: dict[str, str], role: str | None) -> Machine:
    """A node of the fleet with these files and this role in its journal."""
    put(root, {store.CARD_FILES[0]: card, "/proc/sys/kernel/hostname": "pi-2\n", **files})
    host = Machine(root, {STOP: "", START: ""})
    state_file = StateFile(host)
    store.import_card(host, state_file)
    state_file.set(role=role)
    return host


@pytest.fixture
def worker(tmp_path: Path, card: bytes) -> Machine:
    """A member whose last known control plane does not answer (RFC 5737 192.0.2.0/24)."""
    host = node(tmp_path / "worker", card, {
        "/etc/kubernetes/kubelet.conf": "server: https://127.0.0.1:6443",
        "/etc/kubernetes/pki/ca.crt": CA,
        "/var/lib/nodeagent/kubeadm/formed": "worker\n",
    }, "worker")  # fmt: skip
    store.Trust.load(host).drop_issuer(host)
    return host


def hears(host: Machine, old: Old) -> None:
    """A double of the network process: it heard the control plane's beacon."""
    said = replace(RIVAL_BEACON, address=old.where[0], port=old.where[1])
    host.make_folder(paths.SERVE)
    sealed = unsigned(said, store.Trust.load(host).beacon_key)
    handoff.write_heard(host, 1, [handoff.Candidate(*old.where, sealed, 1, 1)])


@pytest.fixture
def leader(tmp_path: Path, card: bytes) -> Machine:
    """A control plane with one worker."""
    host = node(tmp_path / "leader", card, {
        "/etc/kubernetes/admin.conf": "x",
        "/var/lib/nodeagent/kubeadm/formed": "control-plane\n",
        "/var/lib/etcd/member/wal": "x",
    }, "control-plane")  # fmt: skip
    host.answers |= answers()
    items = [
        {"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": "v1.37.2"}}}
        for name in ("pi-2", "pi-3")
    ]
    host.answers[GET.format("nodes")] = json.dumps({"items": items})
    return host


@pytest.mark.parametrize("wish", ["control-plane", "worker", "auto"])
def test_before_it_is_decided_the_wish_is_written(tmp_path: Path, wish: str) -> None:
    host = Machine(tmp_path)
    plan = change_role.foresee(host, wish, False)
    assert not plan.leaves
    assert "takes it up now" in change_role.begin(host, plan)
    assert config.load(host).settings.role == wish and host.ran == []


@pytest.mark.network
def test_a_worker_of_the_fleets_leader_stays(worker: Machine, old: Old) -> None:
    hears(worker, old)
    plan = change_role.foresee(worker, "worker", False)
    assert isinstance(plan.way, Nothing)
    assert change_role.begin(worker, plan) == "This node is a worker already."
    with pytest.raises(Refused, match="pi-a leads this fleet"):
        change_role.foresee(worker, "control-plane", True)
    assert worker.ran == [] and StateFile(worker).values["stepping_down"] is None
    assert not worker.exists(config.ROLE_FILE)


@pytest.mark.network
def test_it_moves_to_the_leader_of_another_cluster(worker: Machine, old: Old) -> None:
    old.tell(OTHER)
    hears(worker, old)
    plan = change_role.foresee(worker, "auto", False)
    assert plan.leaves and "joins pi-a" in " ".join(plan.lines)
    assert worker.ran == [], "looking changes nothing"
    change_role.begin(worker, plan)
    assert worker.ran == [STOP, START]
    assert StateFile(worker).values["stepping_down"] == {"role": "auto"}
    assert StateFile(worker).values["role"] == "worker", "until it has left"


@pytest.mark.network
def test_what_anybody_announces_is_no_leader(worker: Machine, old: Old) -> None:
    hears(worker, old)
    old.endpoint.close()
    with pytest.raises(Refused, match="does not answer"):
        change_role.foresee(worker, "control-plane", False)


@pytest.mark.network
def test_to_lead_it_takes_the_key_from_the_card_anew(worker: Machine, card: bytes) -> None:
    with pytest.raises(Refused, match="no key to lead"):
        change_role.foresee(worker, "control-plane", True)
    put(worker.root, {store.CARD_FILES[0]: fleet_file.make("other")[1]})
    with pytest.raises(Refused, match="no key to lead"):
        change_role.foresee(worker, "control-plane", True)
    put(worker.root, {store.CARD_FILES[0]: card})
    plan = change_role.foresee(worker, "control-plane", True)
    assert isinstance(plan.way, Leave) and plan.way.anew
    change_role.begin(worker, plan)
    assert worker.ran == [STOP, "sync", START]
    state_file = StateFile(worker)
    assert state_file.values["stepping_down"] == {"role": "control-plane"}
    assert store.import_card(worker, state_file).may_lead, "as at the agent's next start"
    assert fleet_file.is_scrubbed(worker.read(store.CARD_FILES[0]) or b"")


def test_the_only_control_plane_is_not_lost_unasked(leader: Machine) -> None:
    with pytest.raises(Refused, match=r"only control plane, and it has another node \(pi-3\)"):
        change_role.foresee(leader, "worker", False)
    assert len(leader.ran) == 1, "one look is enough"
    nodes = leader.answers[GET.format("nodes")]
    leader.answers[GET.format("nodes")] = {"status": 1, "err": "refused"}
    with pytest.raises(Refused, match="cannot be looked up"):
        change_role.foresee(leader, "worker", False)
    leader.answers[GET.format("nodes")] = nodes
    plan = change_role.foresee(leader, "worker", True)
    assert plan.leaves and "The cluster that this node leads ends" in plan.lines[0]


@pytest.mark.parametrize(
    ("remembered", "shown"),
    [
        ({}, "auto (not decided yet)"),
        ({"role": "worker"}, "worker (decided)"),
        (
            {"role": "worker", "stepping_down": {"role": "control-plane"}},
            "worker, on its way out; then control-plane",
        ),
        (
            {"role": "control-plane", "stepping_down": {"node": "n-a", "name": "pi-a"}},
            "control-plane, on its way out; then auto",
        ),
        ({"role": "worker", "resetting": {"identity": True}}, "none: this node is being reset"),
    ],
)
def test_the_role_that_is_shown(remembered: State, shown: str, tmp_path: Path) -> None:
    host = Machine(tmp_path)
    StateFile(host).set(**remembered)
    assert change_role.show(host) == shown


def test_a_reset_that_was_begun_ends_first(leader: Machine) -> None:
    StateFile(leader).set(resetting={"identity": False})
    with pytest.raises(Refused, match="reset of this node was begun"):
        change_role.foresee(leader, "worker", True)


def test_an_agent_that_does_not_stop_keeps_the_journal(leader: Machine) -> None:
    plan = change_role.foresee(leader, "worker", True)
    leader.answers[STOP] = {"status": 1, "err": "Job timed out"}
    with pytest.raises(CommandFailed, match="timed out"):
        change_role.begin(leader, plan)
    assert StateFile(leader).values["stepping_down"] is None


@pytest.mark.parametrize(
    ("words", "typed", "begun"),
    [
        (("--end-cluster",), "n\n", False), (("--end-cluster",), "y\n", True),
        (("--end-cluster", "--yes"), "", True), (("--yes",), "", False),
    ],
)  # fmt: skip
def test_it_says_what_happens_and_asks(
    leader: Machine,
    words: tuple[str, ...],
    typed: str,
    begun: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: leader)
    asked = CliRunner().invoke(main, ["role", "--worker", *words], input=typed)
    assert (STOP in leader.ran) is begun is (asked.exit_code == 0)
    assert bool(StateFile(leader).values["stepping_down"]) is begun
    if "--end-cluster" in words:
        assert "The cluster that this node leads ends" in asked.output
    else:
        assert asked.exit_code == 1
