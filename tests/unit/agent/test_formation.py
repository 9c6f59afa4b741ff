"""A member whose certificates have ended: what the agent does, and what a wrong clock must not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from nodeagent import paths
from nodeagent.agent import follow, formation, provision
from nodeagent.agent.formation import Formation
from nodeagent.agent.moved import STEADY, noted
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import control_plane as node
from nodeagent.cluster import kubeadm_state, kubectl, kubelet_certificate, renewal, workloads
from nodeagent.cluster.cni import given
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked, CommandFailed, Refused
from nodeagent.host.facts import Facts
from nodeagent.host.timesync import SYNCHRONISED
from nodeagent.join import client
from nodeagent.join.messages import Secret
from nodeagent.join.statement import Cluster
from nodeagent.statefile import StateFile
from tests.support import authority
from tests.support.machine import NOW, Machine, put
from tests.unit.cluster.test_addresses import HEAD, TRIE, WIRE, WIRE_NET, sysfs
from tests.unit.cluster.test_renewal import DAY, RENEW, RESTART, YEAR, control_plane, made

POWEROFF = "systemctl poweroff"


def former(machine: Machine, role: str, synced: bool) -> Formation:
    """The part of the agent, with no radio and no keys."""
    if synced:
        put(machine.root, {SYNCHRONISED: ""})
    state_file = StateFile(machine)
    state_file.set(role=role, last_known=["10.0.0.7:6443"])
    radio: Any = SimpleNamespace(heard=(), settings=Settings(), serves_grants=False)
    nobody: Any = None
    trust: Any = SimpleNamespace(beacon_key=b"k", drop_issuer=lambda _: None)
    return Formation(machine, Reporter(machine), state_file, radio, trust, nobody)


def worker(root: Path, age: int) -> Machine:
    """A worker whose kubelet's certificate was made so many seconds ago."""
    put(root, {paths.KUBELET_CLIENT: made(age), paths.KUBERNETES_CA: "CA\n"})
    return Machine(root, {RESTART: ""})


def granting(monkeypatch: pytest.MonkeyPatch, name: str, ca_cert: str = "CA") -> list[Any]:
    """A double of the control plane: gives every node this name. What was asked is noted."""
    asked: list[Any] = []

    def ask(trust: Any, key: Any, candidates: Any, wish: str, *rest: Any, **more: Any) -> Any:
        asked.append((wish, candidates))
        cluster = Cluster("n-" + "a" * 16, 1, ("10.0.0.7:6443",), ca_cert, "1.37.2")
        return SimpleNamespace(
            node_name=name, cluster=cluster, token=Secret("abcdef.0123456789abcdef")
        )

    def obtain(*asked: Any) -> bytes:
        return authority.kubelet(asked[-2], asked[-1])

    monkeypatch.setattr(client, "ask", ask)
    monkeypatch.setattr(kubelet_certificate, "obtain", obtain)
    return asked


def test_a_worker_from_the_drawer_asks_for_a_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, machine = granting(monkeypatch, "pi-2"), worker(tmp_path, YEAR + DAY)
    forming = former(machine, "worker", synced=True)
    for _ in range(3):  # while the kubelet is at it, nothing is taken from under it
        forming.renew("pi-2")
    assert asked == [("pi-2", [("10.0.0.7", 6444)])]
    assert not renewal.expired(machine, machine.clock.now())
    assert machine.ran.count(RESTART) == 1


def test_a_member_from_the_drawer_joins_no_other_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    granting(monkeypatch, "pi-2", "another CA")
    machine = worker(tmp_path, YEAR + DAY)
    with pytest.raises(Refused, match="leads another cluster"):
        former(machine, "worker", synced=True).renew("pi-2")
    assert RESTART not in machine.ran


def test_what_was_proved_of_a_control_plane_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an earlier cluster of the same one is not taken for it later."""
    granting(monkeypatch, "pi-2")
    forming = former(worker(tmp_path, YEAR + DAY), "worker", synced=True)
    forming.renew("pi-2")
    assert forming._epochs == {"n-" + "a" * 16: 1}


@pytest.mark.parametrize(("age", "synced"), [(YEAR + DAY, False), (YEAR - DAY, True)])
def test_a_wrong_clock_and_a_valid_certificate_change_nothing(
    age: int, synced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, machine = granting(monkeypatch, "pi-2"), worker(tmp_path, age)
    former(machine, "worker", synced).renew("pi-2")
    assert asked == [] and RESTART not in machine.ran


def test_a_name_that_was_given_away_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    granting(monkeypatch, "pi-2-abcd")
    machine = worker(tmp_path, YEAR + DAY)
    with pytest.raises(Refused, match="belongs to another node now"):
        former(machine, "worker", synced=True).renew("pi-2")
    assert not machine.exists(kubeadm_state.BOOTSTRAP_CONF) and RESTART not in machine.ran


@pytest.mark.parametrize("server", ["10.0.0.7", "api.f-aaaaaaaaaaaaaaaa.internal"])
def test_a_worker_that_is_not_ready_yet_turns_itself_off_with_its_cluster(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {paths.KUBELET_CONF: f"    server: https://{server}:6443\n"})
    machine = Machine(tmp_path, {POWEROFF: ""})
    monkeypatch.setattr(formation, "answers", lambda *_: False)
    monkeypatch.setattr(follow, "look", lambda *_: follow.Found(None, off=True))
    forming = former(machine, "worker", synced=True)
    monkeypatch.setattr(forming, "settle", lambda _: None)
    forming.seek()
    assert POWEROFF in machine.ran


def files_say(root: Path, address: str) -> None:
    """That this is the node's own."""
    put(root, {paths.KUBELET_FLAGS: f'KUBELET_KUBEADM_ARGS="--node-ip={address}"'})


def moved_leader(root: Path, monkeypatch: pytest.MonkeyPatch) -> Formation:
    """A control plane at 10.0.0.9, whose files say 10.0.0.7."""
    files_say(root, "10.0.0.7")
    monkeypatch.setattr(Facts, "address", lambda *_: "10.0.0.9")
    return former(Machine(root), "control-plane", synced=True)


@pytest.mark.parametrize("waits_for", ["Ready", "the API server"])
def test_files_follow_another_address_while_the_agent_waits(
    waits_for: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the former one it may wait for ever: etcd cannot listen there after its next start."""
    forming = moved_leader(tmp_path, monkeypatch)
    machine = forming.host
    began, settled = machine.clock.monotonic(), list[float]()
    monkeypatch.setattr(forming, "settle", lambda _: settled.append(machine.clock.monotonic()))
    monkeypatch.setattr(forming, "renew", lambda _: None)
    monkeypatch.setattr(follow, "follow_clock", lambda _: None)

    def ready(*_: object) -> bool:
        assert machine.clock.monotonic() < began + 600, "it waits for ever"
        return bool(settled)

    monkeypatch.setattr(node, "ready", ready)

    def refused() -> None:
        if not settled:
            raise CommandFailed("kubectl: connection refused", "")

    if waits_for == "Ready":
        forming.until_ready("pi-1")
    else:
        forming.patiently(refused)
    assert len(settled) == 1


def test_those_who_join_are_told_the_address_that_the_files_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the former, which the agent began with, until it starts again or for three days."""
    forming, told = moved_leader(tmp_path, monkeypatch), list[str]()
    forming.announcer.serves_grants = True
    monkeypatch.setattr(forming, "open_for_joins", lambda _, address: told.append(address))

    monkeypatch.setattr(forming, "settle", lambda _: files_say(tmp_path, "10.0.0.9"))
    for _ in range(3):
        forming.keep_up()
        forming.host.clock.sleep(STEADY[0])
    assert told == ["10.0.0.9"]


def test_a_move_that_was_followed_by_half_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet's flags fit then, and the kubelet may run with the former address still."""
    forming, tries = moved_leader(tmp_path, monkeypatch), list[int]()
    monkeypatch.setattr(forming, "open_for_joins", lambda *_: None)

    def settle(_: Settings) -> None:
        tries.append(1)
        files_say(tmp_path, "10.0.0.9")
        if len(tries) == 1:
            raise CommandFailed("systemctl restart kubelet: timed out", "")

    monkeypatch.setattr(forming, "settle", settle)
    forming.keep_up()
    forming.host.clock.sleep(STEADY[0])
    with pytest.raises(CommandFailed):
        forming.keep_up()
    forming.keep_up()
    forming.keep_up()
    assert len(tries) == 2


def test_a_worker_that_tries_again_settles_what_the_last_try_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it calls itself ready: pods in the node's network had the former address for ever."""
    done = list[str]()
    forming = former(Machine(tmp_path), "worker", synced=True)
    for name in ("settle", "until_ready"):
        monkeypatch.setattr(forming, name, lambda _, name=name: done.append(name))
    monkeypatch.setattr(forming.trust, "drop_issuer", lambda _: None, raising=False)
    forming.follow(Settings())
    assert done == ["settle", "until_ready"]
    # Another address has to stay for a while first.
    files_say(tmp_path, "10.0.0.7")
    monkeypatch.setattr(Facts, "address", lambda *_: "10.0.0.9")
    forming.follow(Settings())
    assert done[2:] == ["until_ready"]


def test_where_the_settings_say_now_a_waiting_worker_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person writes `control_plane` while it waits, as the status says."""
    put(tmp_path, {paths.KUBELET_CONF: "    server: https://10.0.0.7:6443\n"})
    machine, asked = Machine(tmp_path), list[tuple[str, ...]]()
    monkeypatch.setattr(formation, "answers", lambda *_: False)

    def look(*given: Any) -> follow.Found:
        asked.append(given[-1].control_plane)
        return follow.Found(None, off=False)

    monkeypatch.setattr(follow, "look", look)
    forming = former(machine, "worker", synced=True)
    monkeypatch.setattr(forming, "settle", lambda _: None)
    forming.seek()
    put(tmp_path, {"/etc/nodeagent/config.d/a.yaml": "control_plane: [10.9.9.9]\n"})
    forming.seek()
    assert asked == [(), ("10.9.9.9",)]


def test_a_move_is_told_also_where_what_follows_it_fails(tmp_path: Path) -> None:
    files_say(tmp_path, "10.0.0.7")
    forming = former(Machine(tmp_path), "worker", synced=True)
    with pytest.raises(CommandFailed), noted(forming.host, forming.reporter, forming.state_file):
        files_say(tmp_path, "10.0.0.9")
        raise CommandFailed("systemctl restart kubelet: timed out", "")
    event = (forming.state_file.values["history"] or [{}])[-1]
    assert (event["before"], event["now"]) == ("10.0.0.7", "10.0.0.9")


@pytest.mark.parametrize("role", ["worker", "control-plane"])
def test_a_kubelet_that_a_killed_fleet_off_left_is_started(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    forming = former(machine, role, synced=True)
    began = list[list[str]]()
    for part in ("lead", "follow"):
        monkeypatch.setattr(forming, part, lambda *_: began.append(list(machine.ran)))
    forming.form()
    assert began == [["systemctl start kubelet"]]


@pytest.mark.parametrize("synced", [True, False])
def test_a_control_plane_renews_only_by_a_right_clock(synced: bool, tmp_path: Path) -> None:
    machine = control_plane(tmp_path, YEAR + DAY)
    former(machine, "control-plane", synced).renew("pi-1")
    assert (RENEW in machine.ran) is synced
    assert renewal.expired(machine, machine.clock.now()) is not synced


@pytest.mark.parametrize(
    ("born", "seals_at"),
    [(None, NOW + 86400), (NOW - 50, NOW - 50 + 86400), (NOW + 9, NOW + 86400)],
)
def test_enrolment_ends_a_day_after_the_cluster_was_made(
    born: int | None, seals_at: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, given = Machine(tmp_path), list[Any]()
    monkeypatch.setattr("nodeagent.agent.formation.conflict.publish", lambda *_, **__: None)
    monkeypatch.setattr(provision, "install", lambda *arguments, **_: given.append(arguments[5]))
    monkeypatch.setattr(node, "broker_credentials", lambda host: (b"", b""))
    forming = former(machine, "control-plane", synced=True)
    forming.key = SimpleNamespace(node_id="n-" + "a" * 16)  # type: ignore[assignment]
    forming.state_file.set(born=born)
    forming.open_for_joins(Settings(), "10.0.0.7")
    forming.open_for_joins(Settings(seal_after="off"), "10.0.0.7")
    assert given == [int(seals_at), 0]
    assert forming.state_file.values["born"] == int(seals_at) - 86400, "remembered, not begun anew"


def test_a_cluster_whose_networks_clash_is_not_asked_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"/proc/net/route": HEAD + WIRE + WIRE_NET, "/proc/net/fib_trie": TRIE,
                   **sysfs("eth0")})  # fmt: skip
    machine, asked = Machine(tmp_path), list[Any]()

    def ask(*_: Any, **__: Any) -> Any:
        asked.append(1)
        networks = ("192.168.0.0/16", "10.96.0.0/12")
        return SimpleNamespace(cluster=Cluster("n-" + "a" * 16, 1, (), "CA", "1.37.2", networks))

    monkeypatch.setattr(client, "ask", ask)
    forming = former(machine, "worker", synced=True)
    for wait, times in ((2, 1), (2, 1), (600, 1), (2, 2)):
        with pytest.raises(Blocked, match=r"192.168.0.0/16 holds this node's address"):
            forming.join(Settings(), "It was heard.")
        assert len(asked) == times
        machine.time.sleep(wait)
    assert not any("kubeadm" in line for line in machine.ran)


def leading(
    machine: Machine, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Formation, list[str]]:
    """A control plane that is made and not equipped yet; what it does with the cluster is noted."""
    put(machine.root, {"/proc/net/route": HEAD + WIRE + WIRE_NET, "/proc/net/fib_trie": TRIE,
                       "/var/lib/dpkg/status": "", paths.KUBELET_CONF: "x", paths.LEAD_KEY: "k",
                       "/etc/nodeagent/config.d/a.yaml": yaml.safe_dump(settings),
                       **sysfs("eth0")})  # fmt: skip
    forming, done = former(machine, "control-plane", synced=True), list[str]()
    forming.state_file.set(initialised=True)
    for name in ("settle", "renew", "prefetch", "open_for_joins"):
        monkeypatch.setattr(forming, name, lambda *_: None)
    monkeypatch.setattr(forming, "until_ready", lambda *_: done.append("ready"))
    for name in ("install_user_kubeconfig", "close_doors"):
        monkeypatch.setattr(node, name, lambda *_: None)
    monkeypatch.setattr(workloads, "take_list", lambda *_: done.append("list"))
    monkeypatch.setattr(kubectl, "apply_text", lambda host, text: done.append(text))
    return forming, done


def test_a_manifest_that_a_person_has_corrected_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kubeadm init too, where the first one was refused by the API server."""
    digest = hashlib.sha256(b"kind: Right\n").hexdigest()
    put(tmp_path, {"/n.yaml": "kind: Right\n", given.KEPT: "kind: Wrong\n"})
    network = {"manifest": "/n.yaml", "manifest_sha256": digest}
    forming, done = leading(Machine(tmp_path), {"network": network}, monkeypatch)
    forming.lead(config.load(forming.host).settings, "")
    assert done[0].startswith("kind: Right\n---\n") and done[1:] == ["ready", "list"]


def test_what_a_person_applies_while_the_node_waits_for_a_network_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forming, done = leading(Machine(tmp_path), {"network": {"cni": "none"}}, monkeypatch)
    forming.lead(config.load(forming.host).settings, "")
    assert done[1:] == ["list", "ready", "list"]
