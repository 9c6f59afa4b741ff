"""The status page and the metrics: nothing unescaped, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from nodeagent import paths
from nodeagent.serve import status_page
from nodeagent.status import html, metrics, model
from tests.support.machine import Machine, put
from tests.support.statuses import FULL

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def spoiled(value: Any) -> Any:
    """The same, with every text replaced by an attack."""
    if isinstance(value, dict):
        return {
            name: one if name in ("phase", "level", "kind", "code") else spoiled(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [spoiled(one) for one in value]
    return EVIL if value and isinstance(value, str) else value


class Tags(HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def parsed(text: bytes) -> list[Any]:
    """The families, as Prometheus' own parser reads them."""
    return list(text_string_to_metric_families(text.decode()))  # type: ignore[no-untyped-call]


def dumped(shown: Any) -> bytes:
    return json.dumps(shown).encode()


def test_whatever_a_text_says_no_element_comes_of_it() -> None:
    plain = Tags(html.render(dumped(FULL), 1061.0).decode())
    evil = Tags(html.render(dumped(spoiled(FULL)), 1061.0).decode())
    assert [tag for tag, _ in evil.found if tag != "a"] == [
        tag for tag, _ in plain.found if tag != "a"
    ]
    assert not any(name.startswith("on") for _, attributes in evil.found for name in attributes)
    assert not [a for tag, a in evil.found if tag == "a"], "no link to what is no address"


def test_an_error_is_explained_and_a_code_that_nobody_knows_is_text() -> None:
    text = html.render(dumped(FULL), 1061.0).decode()
    assert "<summary>What E105 means: Something could not be fetched</summary>" in text
    unknown = {**FULL, "error": {"code": EVIL, "reason": "", "remedy": ""}}
    text = html.render(dumped(unknown), 1061.0).decode()
    assert "What E" not in text and "<img" not in text and "&lt;img" in text


def test_it_loads_nothing_and_may_not() -> None:
    text = html.render(dumped(FULL), 1061.0).decode()
    for tag, attributes in Tags(text).found:
        assert tag not in ("link", "img", "iframe", "object", "form", "base")
        assert not {"src", "style", "action"} & set(attributes)
    (policy,) = re.findall(r"Content-Security-Policy: (.*)\r\n", html.HEADERS)
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("phase", [*model.PHASES, "unheard-of"])
def test_every_phase_has_a_page(phase: str) -> None:
    shown = {**model.empty(), "phase": phase, "node_name": "pi-1", "since": 1000.0}
    assert f"pi-1: {phase}".encode() in html.render(dumped(shown), 1061.0)


def test_the_fleet_shows_who_is_silent() -> None:
    peers = [
        {
            "node_id": "n-b",
            "name": "pi-2",
            "phase": "ready",
            "role": "worker",
            "address": "10.0.0.2",
            "since": 5.0,
            "heard": heard,
        }
        for heard in (1000.0, 800.0)
    ]
    shown = {**model.empty(), "phase": "ready", "role": "control-plane", "peers": peers}
    text = html.render(dumped(shown), 1060.0).decode()
    assert "Fleet: 2 of 3 ready" in text and "silent for 4 min 20 s" in text
    assert 'href="http://10.0.0.2:6480/"' in text


def test_a_worker_names_where_the_whole_fleet_is() -> None:
    shown = {**model.empty(), "role": "worker", "control_plane": "10.0.0.1:6443"}
    assert b'href="http://10.0.0.1:6480/"' in html.render(dumped(shown), 1060.0)


BROKEN = (None, b"", b"{}", b"[]", b'{"version": 1, "since": ""}', b'{"version": 1, "peers": 3}',
          b'{"version": 1, "error": []}', b'{"version": 1, "versions": []}')  # fmt: skip


@pytest.mark.parametrize("data", BROKEN)
def test_a_damaged_status_breaks_nothing(data: bytes | None) -> None:
    assert b"</html>" in html.render(data)
    assert metrics.render(data, 0.0).endswith(b"# EOF\n")


def test_a_status_of_a_later_version_is_called_so() -> None:
    later = b'{"version": 2, "phases": "<b>"}'
    text = html.render(later).decode()
    assert "written by another version of nodeagent (format 2; this one reads 1)" in text
    assert "systemctl restart nodeagent" in text
    assert b"nodeagent_up 0" in metrics.render(later, 0.0)


@given(st.text(max_size=60))
def test_metrics_bear_any_name(name: str) -> None:
    shown = {**FULL, "node_name": name, "phases": [{"phase": "ready", "at": 9.0}]}
    families = parsed(metrics.render(dumped(shown), 1061.0))
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert samples["nodeagent_info"].labels["node"] == name
    assert samples["nodeagent_phase_duration_seconds"].value == 1052.0
    assert samples["nodeagent_error"].labels == {"code": "E105"}


def test_metrics_say_one_phase() -> None:
    families = parsed(metrics.render(dumped(FULL), 1061.0))
    (phases,) = [family for family in families if family.name == "nodeagent_phase"]
    on = [s.labels["nodeagent_phase"] for s in phases.samples if s.value]
    assert (phases.type, on) == ("stateset", ["failed"])


def asked(root: Path, request: str) -> tuple[str, bytes]:
    """Head and body of what a node whose files are below ``root`` answers at 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = status_page.StatusPage(Machine(root), "127.0.0.1", port)
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(f"{request}\r\n\r\n".encode("latin-1"))
            head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
    finally:
        served.close()
    return head.decode(), body


@pytest.mark.network
@pytest.mark.parametrize(
    ("request_line", "answer", "kind"),
    [
        ("GET / HTTP/1.1", "200", "text/html"),
        ("GET /status.json HTTP/1.1", "200", "application/json"),
        ("GET /metrics HTTP/1.1", "200", "application/openmetrics-text"),
        ("GET /etc/passwd HTTP/1.1", "404", "text/plain"),
        ("POST / HTTP/1.1", "404", "text/plain"),
        ("GET http://localhost/ HTTP/1.1", "404", "text/plain"),
    ],
)
def test_what_is_served(tmp_path: Path, request_line: str, answer: str, kind: str) -> None:
    put(tmp_path, {paths.STATUS: json.dumps(FULL)})
    text, body = asked(tmp_path, f"{request_line}\r\nHost: 127.0.0.1")
    assert text.split()[1] == answer and f"Content-Type: {kind}" in text and body
    assert ("Content-Security-Policy" in text) is (answer == "200")


OWN = ("127.0.0.1", "127.0.0.1:6480", "localhost:8080", "pi-1", "PI-1:6480", "pi-1.local",
       "pi-1.local.", "pi-1.lan", "pi-1.home.example", "n-k4q7w2mz5x3c6v8b.local",
       "kitchen.local")  # fmt: skip
# What a page of the Internet could have in its address, and what could be mistaken for ours.
FOREIGN = ("evil.example", "evil.example:6480", "", "pi-1.evil.example", "pi-1.local.evil.example",
           "127.0.0.1.evil.example", "192.168.1.40", "0.0.0.0", "2130706433", "127.1", "pi-1..",
           "evil.example@pi-1", "pi-1/evil.example", "pi-1, evil.example", "pi-1 evil.example",
           "pi-1:", "pi-1:x", "[::1]", "lan", "local", ".local", "p\xed-1",
           "x" * 300)  # fmt: skip


@pytest.mark.network
@pytest.mark.parametrize("path", status_page.KINDS)
@pytest.mark.parametrize("host", [*OWN, *FOREIGN])
def test_only_requests_for_this_node_are_answered(tmp_path: Path, host: str, path: str) -> None:
    """A name that somebody on the Internet has point here would let their page read ours."""
    shown = {**model.empty(), "node_name": "pi-1", "node_id": "n-k4q7w2mz5x3c6v8b"}
    domains = "nameserver 192.168.1.1\nsearch lan home.example.\n"
    put(tmp_path, {paths.HOSTNAME: "kitchen\n", paths.RESOLV_CONF: domains,
                   paths.STATUS: json.dumps(shown)})  # fmt: skip
    text, body = asked(tmp_path, f"GET {path} HTTP/1.1\r\nHost: {host}")
    if host in OWN:
        assert text.split()[1] == "200"
    else:
        assert text.split()[1] == "421" and b"Use its IP address" in body and b"pi-1" not in body


@pytest.mark.network
@pytest.mark.parametrize("header", ["X: y", "Host: pi-1\r\nHost: evil.example"])
def test_a_request_without_one_host_is_refused(tmp_path: Path, header: str) -> None:
    text, _ = asked(tmp_path, f"GET / HTTP/1.1\r\n{header}")
    assert text.split()[1] in ("400", "421")


@pytest.mark.network
def test_the_log_names_who_asked_for_another_and_is_not_filled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, {paths.STATUS: "half"})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = status_page.StatusPage(Machine(tmp_path), "127.0.0.1", port)
    try:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 421 ")
    finally:
        served.close()
    assert caplog.messages == [
        "status page: 127.0.0.1 asked for 'evil.example', not for this node"
    ]  # fmt: skip


def test_one_rendering_serves_everybody_for_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    reads: list[str] = []

    def read(name: str) -> bytes:
        reads.append(name)
        return dumped(FULL)

    monkeypatch.setattr(machine, "read", read)
    monkeypatch.setattr(status_page, "BoundedServer", lambda *_, **__: None)
    served = status_page.StatusPage(machine, "127.0.0.1", 0)
    monkeypatch.setattr(status_page, "FRESH", 1000.0)
    assert len({served._body("/") for _ in range(50)}) == 1
    assert len(reads) == 1
