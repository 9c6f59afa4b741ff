"""The broker's view of the Kubernetes API, against a double of its requests.

A real API server answers in test_policy_real.py and tests/lab.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from nodeagent.broker import kube_api
from nodeagent.broker.kube_api import Api
from nodeagent.broker.kube_api_protocol import Seen, SigningRequest
from nodeagent.cluster import rest
from nodeagent.cluster.rest import LEADS, Answer
from nodeagent.errors import CommandFailed

SECRET = "0123456789abcdef"
METADATA = {"name": "csr-1", "uid": "u-1", "creationTimestamp": "2026-11-21T23:14:04Z"}
EXPIRES = datetime(2026, 11, 21, 13, 30, tzinfo=timezone(timedelta(hours=2)))


class Session:
    """A double of rest.request: notes what is asked, gives recorded answers in turn."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str, Any]]()

    def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        self.asked.append((method, path, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        said = answer[1] if isinstance(answer[1], str) else json.dumps(answer[1])
        return Answer(answer[0], "Reason", said.encode())


def api(*answers: tuple[int, Any] | Exception) -> tuple[Api, Session]:
    session = Session(*answers)
    made = Api("https://10.0.0.7:6443", "ca.crt", "client.crt", "client.key")
    files = ("ca.crt", "client.crt", "client.key")
    assert made._request.args == (("10.0.0.7", 6443), files)
    made._request = session  # type: ignore[assignment]
    return made, session


def test_a_token_only_authenticates_and_expires_in_utc() -> None:
    made, session = api((201, {}))
    made.create_token("abc123", SECRET, "pi-2", EXPIRES)
    ((method, path, body),) = session.asked
    assert (method, path) == ("POST", "/api/v1/namespaces/kube-system/secrets")
    assert body["type"] == "bootstrap.kubernetes.io/token"
    assert body["metadata"] == {"name": "bootstrap-token-abc123", "namespace": "kube-system"}
    assert {k: base64.b64decode(v).decode() for k, v in body["data"].items()} == {
        "token-id": "abc123",
        "token-secret": SECRET,
        "expiration": "2026-11-21T11:30:00Z",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:nodeagent",
        "description": "nodeagent grant for pi-2",
    }


@pytest.mark.parametrize(
    "answer",
    [
        (403, {"message": SECRET}),
        (201, "<html>"),
        (503, "busy"),
        TimeoutError(),
        ssl.SSLCertVerificationError(SECRET),
        http.client.RemoteDisconnected(SECRET),
        http.client.BadStatusLine(SECRET),
    ],
    ids=str,
)
def test_an_error_tells_what_failed_and_no_secret(answer: Any) -> None:
    made, _ = api(answer)
    with pytest.raises(CommandFailed, match=r"POST .*secrets") as caught:
        made.create_token("abc123", SECRET, "pi-2", EXPIRES)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["../../pods", "a/b", "", "a?x=1", "A", "é", "-a", "a" * 300])
def test_no_name_leaves_its_place_in_a_path(name: str) -> None:
    made, session = api()
    for act in (made.delete_token, made.delete_node, lambda n: made.approve(n, "u", "why")):
        with pytest.raises(ValueError, match="not a valid name for a Kubernetes object"):
            act(name)
    assert session.asked == []


def test_what_is_gone_is_deleted() -> None:
    made, session = api((404, {}), (404, {}))
    made.delete_token("abc123")
    made.delete_node("pi-2")
    assert [path for _, path, _ in session.asked] == [
        "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abc123",
        "/api/v1/nodes/pi-2",
    ]


@pytest.mark.parametrize(
    ("status", "pending"),
    [({}, True), ({"conditions": []}, True), ({"conditions": [{"type": "Denied"}]}, False)],
)
def test_signing_requests(status: Any, pending: bool) -> None:
    spec = {
        "username": "system:bootstrap:abc123", "groups": ["system:bootstrappers:nodeagent"],
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["client auth"],
        "request": base64.b64encode(b"CSR").decode(),
    }  # fmt: skip
    made, _ = api((200, {"items": [{"metadata": METADATA, "spec": spec, "status": status}]}))
    assert made.requests() == [
        SigningRequest(
            "csr-1", "u-1", "system:bootstrap:abc123", ("system:bootstrappers:nodeagent",),
            "kubernetes.io/kube-apiserver-client-kubelet", ("client auth",), b"CSR", pending,
            "2026-11-21T23:14:04Z",
        )
    ]  # fmt: skip


def test_approval_adds_one_condition_to_what_stands_there() -> None:
    item = {"metadata": METADATA, "spec": {"request": "eA=="}}
    made, session = api((200, item), (200, {}))
    made.approve("csr-1", "u-1", "granted to pi-2")
    (_, (method, path, body)) = session.asked
    assert method == "PUT" and path.endswith("/certificatesigningrequests/csr-1/approval")
    (condition,) = body["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Approved", "True")
    assert body["spec"] == item["spec"]


def test_a_request_that_was_exchanged_is_not_approved() -> None:
    made, session = api((200, {"metadata": METADATA, "spec": {"request": "eA=="}}))
    with pytest.raises(CommandFailed, match="not the one that was looked at"):
        made.approve("csr-1", "u-0", "granted to pi-2")
    assert [method for method, _, _ in session.asked] == ["GET"]


def test_all_nodes() -> None:
    def item(name: str, *conditions: tuple[str, str]) -> dict[str, Any]:
        listed = [{"type": kind, "status": status} for kind, status in conditions]
        return {"metadata": {"name": name}, "status": {"conditions": listed}}

    new = {"metadata": {"name": "new"}, "status": {}}
    nodes = [
        item("a", ("MemoryPressure", "True"), ("Ready", "True")),
        item("b", ("Ready", "Unknown")),
    ]
    made, _ = api((200, {"items": [*nodes, new]}))
    assert made.all_nodes() == {"a": Seen(True), "b": Seen(False), "new": Seen(False)}


def page(names: list[str], more: str = "", **extra: Any) -> tuple[int, Any]:
    """A page of nodes, and where the next one begins."""
    items = [{"metadata": {"name": name, **extra}, "status": {}} for name in names]
    return 200, {"metadata": {"continue": more} if more else {}, "items": items}


def test_a_list_is_read_to_its_end() -> None:
    """a38: 500 nodes of an attacker's came before the control plane, on a page that was the
    only one looked at."""
    made, session = api(page(["a-1"], "x/y+="), page(["a-2"], "z"), page(["pi-1"]))
    assert [*made.all_nodes()] == ["a-1", "a-2", "pi-1"]
    assert [path.partition("limit=200")[2] for _, path, _ in session.asked] == [
        "", "&continue=x%2Fy%2B%3D", "&continue=z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "second",
    [(410, {}), (500, {}), (200, {"metadata": {}}), (200, {"items": None}), TimeoutError()],
    ids=str,
)
def test_a_list_that_breaks_off_is_no_list(second: Any) -> None:
    made, _ = api(page(["a-1"], "x"), second)
    with pytest.raises(CommandFailed):
        made.all_nodes()


def test_a_list_without_end_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_api, "MOST_PAGES", 3)
    made, _ = api(*[page([f"a-{n}"], "x") for n in range(9)])
    with pytest.raises(CommandFailed, match="too long"):
        made.all_nodes()


def test_large_objects_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a kubelet's certificate may make its own Node as large as etcd takes."""
    monkeypatch.setattr(kube_api, "PAGE_BYTES", 1000)
    monkeypatch.setattr(rest, "MAX_BYTES", 2500)
    fat, one = {"annotations": {"a": "x" * 1100}}, {"annotations": {"a": "x" * 1500}}
    two = page(["a-1", "a-2"], "x", **fat)
    made, session = api(two, two, two, two, page(["a-1"], "y", **one), page(["a-2"]))
    assert [*made.all_nodes()] == ["a-1", "a-2"]
    asked = [path.partition("limit=")[2] for _, path, _ in session.asked]
    assert asked == ["200", "50", "12", "3", "1", "200&continue=y"]
    made, _ = api(*[page(["a-1"], annotations={"a": "x" * 3000})] * 5)
    with pytest.raises(CommandFailed, match="too long"):
        made.all_nodes()


def test_a_control_plane_is_known_by_its_label() -> None:
    made, _ = api(page(["pi-1"], labels={LEADS: ""}, uid="u-1"))
    assert made.all_nodes() == {"pi-1": Seen(False, "u-1", True)}


def test_a_request_of_a_megabyte_is_not_kept() -> None:
    spec = {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "request": "QUFB" * 90000}
    made, _ = api((200, {"items": [{"metadata": METADATA, "spec": spec}]}))
    assert made.requests()[0].csr_pem == b""


def test_a_stray_is_denied() -> None:
    made, session = api((200, {"metadata": METADATA, "spec": {}}), (200, {}))
    made.deny("csr-1", "u-1", "no grant")
    (condition,) = session.asked[1][2]["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("Denied", "NodeAgentStray")
