"""The status page in a real browser: what it draws, that it lives, that it runs nothing else.

Screenshots are kept in build/screenshots/ for people to look at.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodeagent.host.host import Host
from nodeagent.serve import status_page
from nodeagent.status import model
from tests.support.tools import tool

KEPT = Path(__file__).parents[2] / "build" / "screenshots"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--enable-logging=stderr")  # fmt: skip
WIDTHS = {"phone": (500, 1400), "laptop": (1280, 1100)}  # headless Chromium is never narrower
NOW = time.time()


def peer(number: int, phase: str, age: float = 20.0, heard: float = 5.0) -> dict[str, Any]:
    """A node of the fleet."""
    return {"node_id": f"n-{number:016d}", "name": f"pi-4f2a1{number}", "phase": phase,
            "role": "worker", "address": f"192.168.1.{40 + number}", "since": NOW - age,
            "heard": NOW - heard}  # fmt: skip


def moment(name: str, phase: str, ago: float) -> dict[str, Any]:
    """An entry of the timeline."""
    return {"at": NOW - ago, "name": name, "phase": phase, "role": "worker"}


BASE = {
    **model.empty(), "node_name": "pi-0a1b2c", "node_id": "n-k4q7w2mz5x3c6v8b", "fleet": "home",
    "address": "192.168.1.40", "since": NOW - 75, "kubernetes": "1.37.2",
    "versions": {"nodeagent": "0.1.0"},
    "phases": [{"phase": "preparing", "at": NOW - 300}, {"phase": "rebooting", "at": NOW - 240}],
    "steps": [{"name": "cgroup", "title": "Enable the memory cgroup", "state": "done",
               "seconds": 0.4},
              {"name": "packages", "title": "Install the packages", "state": "acting",
               "seconds": 41.7}],
}  # fmt: skip
STATES: dict[str, dict[str, Any]] = {
    "preparing": {
        **BASE, "phase": "preparing",
        "detail": "Install the packages: run apt-get install containerd.io=2.* kubelet=1.37.2-*",
        "progress": {"kind": "packages", "text": "unpacking kubelet", "done": 5, "total": 12},
    },
    "leading": {
        **BASE, "phase": "ready", "role": "control-plane", "control_plane": "192.168.1.40",
        "role_why": "It is the best board, and nobody objected.", "detail": "Part of the cluster",
        "peers": [peer(1, "ready"), peer(2, "joining"), peer(3, "preparing", 200, 300),
                  peer(4, "failed")],
        "timeline": [moment("pi-4f2a11", "joining", 60), moment("pi-4f2a11", "ready", 20),
                     moment("pi-4f2a12", "joining", 20), moment("pi-4f2a14", "failed", 18)],
        "approvals": [{"id": "K4Q7-W2MZ-5X3C-6V7B", "name": "pi-4f2a15",
                       "address": "192.168.1.45", "since": NOW - 30}],
        "certificates": [{"name": "/x.crt", "expires": NOW + 3e7, "renewal": "automatic"}],
        "tokens": [{"name": "pi-4f2a12", "expires": NOW + 500}],
    },
    "failed": {
        **BASE, "phase": "failed",
        "error": {"code": "E105", "reason": "https://pkgs.k8s.io cannot be reached: no route.",
                  "remedy": "Check the network cable or Wi-Fi and the router."},
        "hardware": [{"name": "power", "level": "failure", "text": "under-voltage now",
                      "remedy": "Use the board's own power supply and a short cable."}],
        "notes": ["The card was on another board before."],
        "approval": "K4Q7-W2MZ-5X3C-6V7B",
    },
}  # fmt: skip


class Changing(Host):
    """A double of a node whose status is another one at each look; the last one stays."""

    def __init__(self, root: Path, states: Sequence[dict[str, Any]]) -> None:
        super().__init__(root)
        self.states = list(states)
        self.lock = threading.Lock()

    def read(self, name: str) -> bytes | None:
        with self.lock:
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return json.dumps(state).encode()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serves states on loopback; gives the address."""
    monkeypatch.setattr(status_page, "FRESH", 0.0)
    opened = []

    def serve(*states: dict[str, Any]) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        opened.append(status_page.StatusPage(Changing(tmp_path, states), "127.0.0.1", port))
        return f"http://127.0.0.1:{port}/"

    yield serve
    for one in opened:
        one.close()


def browse(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the browser once, with a profile of its own; complaints about the page are failures."""
    command = tool("chromium", "Install it with: apt-get install chromium")
    profile = folder / "profile"
    done = subprocess.run(
        [command, *FLAGS, f"--user-data-dir={profile}", *words],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, re.findall(r".*CONSOLE.*", done.stderr)
    return done


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("state", STATES)
def test_it_is_drawn(tmp_path: Path, served: Any, state: str, width: str) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    picture = KEPT / f"{state}-{width}.png"
    picture.unlink(missing_ok=True)
    size = ",".join(map(str, WIDTHS[width]))
    browse(tmp_path, f"--screenshot={picture}", f"--window-size={size}", served(STATES[state]))
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 10_000, "an empty page is smaller"
    assert int.from_bytes(data[16:20], "big") == WIDTHS[width][0]


def test_it_follows_the_node_without_a_reload(tmp_path: Path, served: Any) -> None:
    for attempt in range(6):
        address = served(STATES["preparing"], STATES["leading"])
        folder = tmp_path / str(attempt)
        dom = browse(folder, "--dump-dom", "--virtual-time-budget=60000", address).stdout
        if 'class="stale"' not in dom and "Fleet: 2 of 5 ready" in dom:
            break
        # The browser's virtual minute was over before a busy machine had answered.
    assert "Fleet: 2 of 5 ready" in dom and "<title>pi-0a1b2c: ready</title>" in dom
    assert "unpacking kubelet" not in dom


def test_who_waits_comes_and_goes(tmp_path: Path, served: Any) -> None:
    """The page tells of each node that waits, by the beginning of its code; the rest is to come
    from the node itself."""
    wanted, nobody = "<b>pi-4f2a15</b> at 192.168.1.45 wants to join", {**STATES["leading"]}
    nobody["approvals"] = []
    dom = browse(tmp_path / "one", "--dump-dom", served(STATES["leading"])).stdout
    assert wanted in dom and "nodeagent approve K4Q7…" in dom and "W2MZ" not in dom
    for attempt in range(6):
        address = served(nobody, STATES["leading"])
        folder = tmp_path / str(attempt)
        dom = browse(folder, "--dump-dom", "--virtual-time-budget=60000", address).stdout
        if 'class="stale"' not in dom and wanted in dom:
            break
        # As above: the virtual minute can be over too early.
    assert wanted in dom


def test_what_a_node_says_cannot_run(tmp_path: Path, served: Any) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    state = {**STATES["leading"], "detail": evil, "notes": [evil], "role_why": evil}
    state["peers"] = [{**peer(1, "ready"), "name": evil, "address": evil}]
    state["approvals"] = [{"id": evil, "name": evil, "address": evil, "since": NOW}]
    dom = browse(tmp_path, "--dump-dom", "--virtual-time-budget=60000", served(state)).stdout
    assert "<title>pi-0a1b2c: ready</title>" in dom
    assert "&lt;img src=x" in dom and "<img" not in dom


def test_nobody_can_frame_it(tmp_path: Path, served: Any) -> None:
    """So that no other page can lay itself over it."""
    (tmp_path / "frame.html").write_text(
        f"<iframe id=f width=360 height=3000 src='{served(STATES['leading'])}'></iframe>"
    )
    dom = subprocess.run(
        [tool("chromium", "Install it with: apt-get install chromium"), *FLAGS,
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", "--virtual-time-budget=3000",
         (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert "frame-ancestors" in dom.stderr


def test_a_name_that_somebody_else_has_point_here_shows_nothing(
    tmp_path: Path, served: Any
) -> None:
    """DNS rebinding: the browser takes the page for one of evil.example, whose scripts read it."""
    address = served(STATES["leading"])
    rule = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    dom = browse(tmp_path, rule, "--dump-dom", address.replace("127.0.0.1", "evil.example")).stdout
    assert "does not go by the name" in dom
    assert "pi-4f2a11" not in dom and "K4Q7" not in dom and str(BASE["node_id"]) not in dom
