"""A control plane meets another: what it is told over real TLS, and how it gives way."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nodeagent import paths
from nodeagent.agent import conflict, keeper, leave
from nodeagent.agent.reporter import Reporter
from nodeagent.agent.rival_watch import AGENT, RIVAL, RivalWatch
from nodeagent.cli.main import main
from nodeagent.errors import NoControlPlane
from nodeagent.fleet import handoff
from nodeagent.fleet.beacon import Beacon, Proof
from nodeagent.fleet.rivals import Side
from nodeagent.fleet.sight import Heard
from nodeagent.join import which_cluster
from nodeagent.paths import ENDPOINT
from nodeagent.serve.endpoint import Endpoint, Files
from nodeagent.serve.http1 import Refusal
from nodeagent.statefile import StateFile
from nodeagent.status import model
from nodeagent.trust import fleet_file, pki, store
from nodeagent.trust.node_key import NodeKey
from tests.support.broker_socket import answer_all
from tests.support.machine import NOW, Became, Machine, put
from tests.support.speakers import KEY, POINT, Speaker
from tests.unit.cluster.test_workloads import answers, born, item

OTHER = Side("n-" + "a" * 16, "pi-a", "aa" * 32, 1, 1_790_000_000, True)
NONCE = "A" * 43
STOPPED = {f"systemctl stop {unit}": "" for unit in leave.BROKER_UNITS}
LEFT = {
    "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock": "",
    "rm -rf -- /var/lib/nodeagent/kubeadm": "",
    "rm -rf -- /run/nodeagent/broker /run/nodeagent/endpoint": "",
    "sync": "",
}


class Young:
    """A control plane with an empty cluster of its own."""

    def __init__(self, root: Path, card: bytes) -> None:
        put(
            root,
            {
                store.CARD_FILES[0]: card,
                "/proc/sys/kernel/hostname": "pi-1\n",
                "/usr/bin/kubeadm": "",
                "/etc/kubernetes/admin.conf": "x",
                "/etc/kubernetes/pki/ca.crt": "a certificate",
                "/var/lib/nodeagent/kubeadm/formed": "control-plane\n",
                **born(),
            },
        )
        self.host = Machine(root, {**answers(), **STOPPED, **LEFT})
        owner = os.getuid(), os.getgid()
        self.host.user_ids = lambda user: owner  # type: ignore[method-assign]
        self.host.make_folder(ENDPOINT)
        self.state_file = StateFile(self.host)
        self.trust = store.import_card(self.host, self.state_file)
        self.key = NodeKey.load_or_create(self.host)
        self.state_file.set(
            role="control-plane", initialised=True, equipped=True, epoch=2, claim={"epoch": 2},
            born=1_790_000_500,
        )  # fmt: skip
        self.reporter = Reporter(self.host)

    def gives_way(self, where: tuple[str, int] | None) -> bool:
        """Let it, after the keeper saw somebody at ``where``."""
        if where is not None:
            rival = json.dumps({"v": 1, "address": where[0], "port": where[1]})
            self.host.write(RIVAL, rival.encode())
        conflict.give_way(self.host, self.reporter, self.state_file, self.trust, self.key)
        return self.state_file.values["role"] is None


@pytest.fixture
def card() -> bytes:
    """The fleet's card file."""
    return fleet_file.make("home")[1]


@pytest.fixture
def young(tmp_path: Path, card: bytes) -> Young:
    """The one that is to give way."""
    return Young(tmp_path / "young", card)


class Old:
    """The endpoint of the other control plane, on loopback."""

    def __init__(self, folder: Path, card: bytes) -> None:
        folder.mkdir()
        made = store.from_card(fleet_file.parse(card))
        key = pki.new_key()
        names = Files(*(str(folder / name) for name in ("server.crt", "server.key", "root.crt")))
        chain = made.leaf("server", key.public_key())
        Path(names.cert).write_text("".join(map(pki.cert_pem, chain)))
        Path(names.key).write_text(pki.key_pem(key))
        Path(names.root).write_text(pki.cert_pem(made.root_cert))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.where: tuple[str, int] = probe.getsockname()
        address, port = self.where
        self.trust, self.key = made, pki.new_key()
        self.cert = made.leaf("broker", self.key.public_key())[0]
        self.side = b""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "broker.sock"))
        self.listener.listen(4)
        threading.Thread(target=self._broker, daemon=True).start()
        self.endpoint = Endpoint(address, port, names, str(folder / "broker.sock"))

    def _broker(self) -> None:
        answer_all(self.listener, lambda asked: {"cluster": self.answer(asked["nonce"]).decode()})

    def answer(self, nonce: str) -> bytes:
        """As the broker there signs it."""
        return which_cluster.answer(self.trust.fleet_id, self.key, self.cert, self.side, nonce)

    def tell(self, side: Side) -> None:
        """What the agent there writes."""
        self.side = which_cluster.build(self.trust, side, NOW)


@pytest.fixture
def old(tmp_path: Path, card: bytes) -> Iterator[Old]:
    """A control plane of the same fleet."""
    made = Old(tmp_path / "old", card)
    made.tell(OTHER)
    yield made
    made.endpoint.close()


@pytest.mark.network
def test_the_younger_asks_and_says_what_it_found(young: Young, old: Old) -> None:
    assert conflict.meet(young.host, *old.where) == "step-down"
    told = json.loads(young.host.read(conflict.SIDE) or b"")  # for 0.2.0
    assert (told["node_id"], told["epoch"], told["alone"]) == (young.key.node_id, 2, True)
    signed = young.host.read(paths.BROKER_SIDE) or b""
    own = which_cluster.answer(old.trust.fleet_id, old.key, old.cert, signed, NONCE)
    side = which_cluster.verify(young.trust.anchors, own, NONCE)
    assert (side.node_id, side.name, side.epoch, side.alone) == (young.key.node_id, "pi-1", 2, True)
    assert young.state_file.values["role"] == "control-plane", "meeting changes nothing"


@pytest.mark.network
def test_the_command_says_the_verdict_alone(
    young: Young, old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: young.host)
    asked = CliRunner().invoke(main, ["meet", old.where[0], str(old.where[1])])
    assert (asked.exit_code, asked.output) == (0, "step-down\n")
    old.endpoint.close()
    asked = CliRunner().invoke(main, ["meet", old.where[0], str(old.where[1])])
    assert asked.exit_code == 75 and "step-down" not in asked.output


@pytest.mark.network
def test_it_gives_way_in_order(young: Young, old: Old) -> None:
    assert young.gives_way(old.where)
    ran = [line for line in young.host.ran if not line.startswith("kubectl")]
    assert ran[:3] == list(STOPPED), "nobody moves in any more"
    assert "kubeadm reset --force" in ran[7]
    left = set(young.state_file.names()) & set(leave.OF_THE_CLUSTER)
    assert not left
    assert young.state_file.values["epoch"] == 2, "others remember it"
    events = [line["event"] for line in young.state_file.values["history"] or []]
    assert events[-2:] == ["steps down", "stepped down"]
    assert not young.host.exists(RIVAL)


@pytest.mark.network
def test_a_cut_in_the_middle_only_delays_it(young: Young, old: Old) -> None:
    reset = next(line for line in LEFT if "kubeadm" in line)
    young.host.answers[reset] = {"status": 1, "err": "the power went"}
    with pytest.raises(Exception, match="the power went"):
        young.gives_way(old.where)
    assert StateFile(young.host).values["stepping_down"] == {"node": OTHER.node_id, "name": "pi-a"}
    assert StateFile(young.host).values["role"] == "control-plane"
    old.endpoint.close()
    young.host.answers[reset] = ""
    again = StateFile(young.host)
    conflict.give_way(young.host, young.reporter, again, young.trust, young.key)
    assert again.values["role"] is None and again.values["stepping_down"] is None


@pytest.mark.network
@pytest.mark.parametrize("moved_in", [
    {"nodes": ("pi-1", "pi-2")}, {"more": (item("Namespace", "", "shop"),)},
    {"more": (item("PersistentVolumeClaim", "kube-system", "data"),)},
])  # fmt: skip
def test_a_cluster_somebody_lives_in_stays(
    young: Young, old: Old, moved_in: dict[str, Any]
) -> None:
    young.host.answers.update(answers(**moved_in))
    assert conflict.meet(young.host, *old.where) == "both-stay"
    assert not young.gives_way(old.where)
    assert not any("reset" in line for line in young.host.ran)


@pytest.mark.network
def test_a_cluster_that_cannot_be_asked_stays(young: Young, old: Old) -> None:
    young.host.answers = {}
    assert conflict.meet(young.host, *old.where) == "both-stay"
    assert not young.gives_way(old.where)


@pytest.mark.network
def test_the_older_stays(young: Young, old: Old) -> None:
    old.tell(replace(OTHER, epoch=3))
    assert conflict.meet(young.host, *old.where) == "stay"
    assert not young.gives_way(old.where)


@pytest.mark.network
def test_an_echo_of_itself_is_nothing(young: Young, old: Old) -> None:
    old.tell(replace(OTHER, node_id=young.key.node_id))
    assert conflict.meet(young.host, *old.where) == "nothing"
    assert not young.gives_way(old.where)


@pytest.mark.network
@pytest.mark.parametrize("told", [b"", b"{}", OTHER.to_json()])
def test_what_nobody_vouches_for_moves_nobody(young: Young, old: Old, told: bytes) -> None:
    """A taken-over broker or network process there that makes facts up."""
    old.side = told
    with pytest.raises(NoControlPlane, match="was not believed"):
        conflict.meet(young.host, *old.where)
    old.answer = lambda nonce: told or b"x"  # type: ignore[method-assign]
    with pytest.raises(NoControlPlane, match="was not believed"):
        conflict.meet(young.host, *old.where)
    assert not young.gives_way(old.where)


@pytest.mark.network
def test_an_answer_that_was_heard_before_moves_nobody(young: Young, old: Old) -> None:
    """A taken-over network process that kept what its broker once said."""
    kept = old.answer("B" * 43)
    old.answer = lambda nonce: kept  # type: ignore[method-assign]
    with pytest.raises(NoControlPlane, match="an answer to another question"):
        conflict.meet(young.host, *old.where)
    assert not young.gives_way(old.where)


@pytest.mark.network
def test_a_control_plane_of_0_2_0_moves_nobody_until_it_is_updated(
    young: Young, old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows no question but GET, which nobody signs."""
    answer = Endpoint._answer

    def earlier(self: Endpoint, method: str, path: str, *rest: Any) -> Any:
        if (method, path) == ("POST", "/v1/cluster"):
            raise Refusal(404, "There is GET /v1/nonce and /v1/cluster, POST /v1/grant.")
        return answer(self, method, path, *rest)

    monkeypatch.setattr(Endpoint, "_answer", earlier)
    with pytest.raises(NoControlPlane, match="it is of another version of nodeagent") as raised:
        conflict.meet(young.host, *old.where)
    assert "the control plane first" in str(raised.value.remedy) or raised.value.reason
    assert not young.gives_way(old.where)


@pytest.mark.network
def test_a_control_plane_of_another_fleet_moves_nobody(young: Young, tmp_path: Path) -> None:
    stranger = Old(tmp_path / "stranger", fleet_file.make("other")[1])
    stranger.tell(OTHER)
    try:
        with pytest.raises(NoControlPlane):
            conflict.meet(young.host, *stranger.where)
        assert not young.gives_way(stranger.where)
    finally:
        stranger.endpoint.close()


@pytest.mark.network
def test_where_nobody_answers_nothing_is_done(young: Young, old: Old) -> None:
    old.endpoint.close()
    assert not young.gives_way(old.where)
    assert not young.gives_way(None)


def test_a_hint_that_makes_no_sense_is_dropped(young: Young) -> None:
    for data in (b"", b"[]", b'{"v": 1, "address": "x; reboot", "port": 1}',
                 b'{"v": 1, "address": "10.0.0.1"}', b'{"v": 2}'):  # fmt: skip
        young.host.write(RIVAL, data)
        assert not young.gives_way(None)
        assert not young.host.exists(RIVAL)
    assert young.host.ran == []


RIVAL_BEACON = Beacon(
    node_id="n-" + "b" * 16, boot="00000001", name="pi-b", phase="ready", role="control-plane",
    fitness=(1,), epoch=1, claim=True, ready=True, expected=0, address="10.0.0.9", port=6444, seq=1,
)  # fmt: skip
ASK = f"{AGENT} meet 10.0.0.9 6444"


def hear(host: Machine, *said: Beacon) -> None:
    """A double of the network process."""
    sealed = [Speaker(2).seal(one) for one in said]
    host.make_folder(paths.SERVE)
    candidates = [handoff.Candidate("10.0.0.9", 6444, one, 1, 1) for one in sealed]
    handoff.write_heard(host, 1, candidates)


@pytest.mark.parametrize(
    ("answer", "goes_on", "trouble"),
    [
        ("nothing\n", True, False), ("stay\n", True, False), ("both-stay\n", True, True),
        ("step-down\n", False, False), ({"status": 75, "err": "It did not answer."}, True, False),
        ("dance\n", True, False), ({"status": 124}, True, False),
    ],
)  # fmt: skip
def test_the_keeper_looks_out(tmp_path: Path, answer: object, goes_on: bool, trouble: bool) -> None:
    host = Machine(tmp_path, {ASK: answer})
    lookout = RivalWatch(host)
    assert lookout.round([], 5.0) and host.ran == []
    worker = replace(RIVAL_BEACON, node_id="n-" + "d" * 16, role="worker")
    heard = [Heard(beacon, 5.0, 5.0, Proof.ISSUER) for beacon in (RIVAL_BEACON, worker)]
    assert lookout.round(heard, 15.0) is goes_on
    assert host.ran == [ASK]
    assert (lookout.trouble is not None) is trouble
    if trouble:
        assert lookout.trouble is not None and "pi-b (10.0.0.9)" in lookout.trouble.reason
    assert host.exists(RIVAL) is not goes_on
    lookout.round(heard, 25.0)
    assert host.ran == [ASK], "it is not asked again at once"


def handed_over(host: Machine, beacon: Beacon) -> keeper.Keeper:
    """The keeper of a node that announces ``beacon``."""
    with pytest.raises(Became):
        host.write(paths.NODE_KEY, pki.key_pem(Speaker(1).private).encode())
        keeper.hand_over(host, beacon, keeper.Voice(KEY, POINT, b""), "auto", True)
    return keeper.Keeper(host)


def test_both_stay_is_in_the_status_until_the_other_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "kubelet_healthy", lambda: True)
    host = Machine(tmp_path, {ASK: "both-stay\n"})
    Reporter(host).enter("ready", "Part of the cluster")
    mine = replace(RIVAL_BEACON, node_id="n-" + "c" * 16, address="10.0.0.7")
    kept = handed_over(host, mine)
    hear(host, RIVAL_BEACON)
    assert kept.round() and kept.round()
    shown = model.parse(host.read(paths.STATUS) or b"")["error"]
    assert shown and shown["code"] == "E401" and "pi-b" in shown["reason"]
    explained = " ".join(CliRunner().invoke(main, ["explain", "E401"]).output.split())
    for command in re.findall("`(sudo .*?)`", shown["remedy"]):
        assert command in explained, "one remedy, wherever it is read"
    later = host.clock.monotonic() + 1000
    host.clock = replace(host.clock, monotonic=lambda: later)
    assert kept.round()
    assert model.parse(host.read(paths.STATUS) or b"")["error"] is None


def test_a_worker_does_not_look_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "kubelet_healthy", lambda: True)
    host = Machine(tmp_path)
    Reporter(host).enter("ready", "Part of the cluster")
    worker = replace(RIVAL_BEACON, role="worker", ready=False)
    kept = handed_over(host, worker)
    hear(host, RIVAL_BEACON)
    assert kept.round()
    assert host.ran == []
