"""A node moves its own pods away, with its kubelet's rights: recorded answers of an API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nodeagent.cluster import kubelet_api
from tests.support.machine import NOW, Machine

LIST = "/api/v1/pods?fieldSelector=spec.nodeName%3Dpi-2"


def pod(name: str, **meta: Any) -> dict[str, Any]:
    status = {"phase": meta.pop("phase", "Running")}
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"u-{name}", **meta},
            "status": status}  # fmt: skip


class Server:
    """A double of the API server: its pods go a while after they were evicted."""

    def __init__(self, *pods: dict[str, Any], refuses: frozenset[str] = frozenset()) -> None:
        self.pods, self.refuses = list(pods), refuses
        self.patched: list[Any] = []
        self.evicted: list[str] = []
        self.slow = 1  # looks until an evicted pod is gone

    def __call__(
        self, host: Machine, method: str, path: str, body: Any = None
    ) -> tuple[int, Any] | None:
        if method == "PATCH":
            self.patched.append((path, body))
            return 200, {}
        if method == "POST":
            name = path.split("/")[-2]
            assert body["metadata"] == {"name": name, "namespace": "shop"}
            if name in self.refuses:
                return 429, {"reason": "TooManyRequests"}
            self.evicted.append(name)
            found = next(one for one in self.pods if one["metadata"]["name"] == name)
            found["metadata"]["deletionTimestamp"] = "2026-11-21T20:00:00Z"
            return 201, {}
        assert (method, path) == ("GET", LIST)
        shown = list(self.pods)
        self.slow -= 1
        if self.slow < 0:
            self.pods = [p for p in self.pods if "deletionTimestamp" not in p["metadata"]]
            shown = list(self.pods)
        return 200, {"items": shown}


def drained(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What it says at the end."""
    monkeypatch.setattr(kubelet_api, "ask", server)
    host = Machine(tmp_path)
    said: list[str] = []
    kubelet_api.drain(host, "pi-2", said.append)
    assert host.time.now - NOW <= kubelet_api.DRAIN_BOUND + kubelet_api.DRAIN_LOOK
    return " ".join(said)


def test_it_evicts_what_somebody_would_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(
        pod("web-1"), pod("web-2"), pod("done", phase="Succeeded"),
        pod("proxy", ownerReferences=[{"kind": "DaemonSet"}]),
        pod("static", annotations={kubelet_api.MIRROR: "x"}),
    )  # fmt: skip
    assert drained(server, tmp_path, monkeypatch) == "2 pods moved away"
    assert server.patched == [("/api/v1/nodes/pi-2", {"spec": {"unschedulable": True}})]
    assert server.evicted == ["web-1", "web-2"], "each once"


def test_a_budget_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(pod("web-1"), pod("only"), refuses=frozenset({"only"}))
    said = drained(server, tmp_path, monkeypatch)
    assert said == "1 pods moved away; 1 do not go and are stopped here"


@pytest.mark.parametrize("answer", [None, (403, {}), (500, "x")])
def test_a_cluster_that_does_not_answer_holds_nobody(
    answer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = drained(lambda *_: answer, tmp_path, monkeypatch)
    assert "does not answer" in said


def test_answers_that_are_not_understood_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[Any] = [{}, {"items": None}, {"items": [{}]}, []]
    for items in shapes:
        answers = iter([(200, {}), (200, items)])
        said = drained(lambda *_, a=answers: next(a), tmp_path, monkeypatch)
        assert said == "0 pods moved away"


@pytest.mark.parametrize(
    ("answer", "uid"),
    [
        ((200, {"metadata": {"uid": "u-1"}}), "u-1"), ((404, {}), ""), ((403, {}), None),
        (None, None), ((200, []), None), ((200, {"metadata": {}}), None),
    ],
)  # fmt: skip
def test_the_uid(
    answer: object, uid: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet_api, "ask", lambda *_: answer)
    assert kubelet_api.uid(Machine(tmp_path), "pi-2") == uid


def test_without_a_certificate_nobody_is_asked(tmp_path: Path) -> None:
    assert kubelet_api.ask(Machine(tmp_path), "GET", "/") is None
