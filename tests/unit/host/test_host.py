"""The door to the machine: paths, facts and their parsers, the package database, keys."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import FetchFailed
from nodeagent.host import parse
from nodeagent.host.actions import FetchFile, FetchKey
from nodeagent.host.apt import dpkg, openpgp
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host, run_process
from nodeagent.host.storage import fsync_latency_ms
from tests.support.machine import KEYS, NOW, Machine, dpkg_status, put

LASTING = "DA802A6C250A4E635956AA65EFFABA7524165FA9"  # as gpg --show-keys prints them
EXPIRING = "AE26EC676BCF1144EEE511FA3CA62DD192BFDEE1"


def key(name: str) -> bytes:
    return (KEYS / name).read_bytes()


# Paths


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "/../etc/passwd"])
def test_no_link_leads_out_of_the_root(target: str, tmp_path: Path) -> None:
    put(tmp_path, {"/a/link": {"link": target}, "/etc/passwd": "inside\n"})
    assert Host(tmp_path).text("/a/link") == "inside\n"


def test_a_linked_folder_stays_inside(tmp_path: Path) -> None:
    put(tmp_path, {"/a": {"link": "/"}, "/x": "inside"})
    host = Host(tmp_path)
    host.write("/a/a/../x", b"changed")
    assert (tmp_path / "x").read_bytes() == b"changed"


def test_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, {"/a": {"link": "/b"}, "/b": {"link": "/a"}})
    with pytest.raises(OSError, match="symbolic links"):
        Host(tmp_path).read("/a")


def test_link_and_remove_act_on_the_link_itself(tmp_path: Path) -> None:
    put(tmp_path, {"/unit": "text"})
    host = Host(tmp_path)
    host.link("/masked", "/unit")
    host.link("/masked", "/dev/null")
    assert (tmp_path / "masked").readlink() == Path("/dev/null")
    host.remove("/masked")
    assert host.text("/unit") == "text" and not (tmp_path / "masked").is_symlink()


@pytest.mark.processes
def test_commands_have_a_fixed_environment_and_an_end() -> None:
    assert run_process(["printenv", "LC_ALL"], 5, None).out == "C.UTF-8\n"
    assert run_process(["no-such-command-here"], 5, None).status == 127
    assert run_process(["sleep", "5"], 0.05, None).status == 124
    assert run_process(["cat"], 5, "in").out == "in"


@pytest.mark.processes
def test_a_command_outlives_the_agent_that_began_it(tmp_path: Path) -> None:
    """As dpkg has to, which SIGPIPE would end while it configures packages."""
    go, end = tmp_path / "go", tmp_path / "end"
    os.mkfifo(go)
    os.mkfifo(end)
    script = f"exec 9>{end}; read _ <{go}; echo said; echo it >&2; echo done >&9"
    run = "import sys; from nodeagent.host import host; host.run_process(sys.argv[1:], 60, None)"
    command = [sys.executable, "-c", run, "sh", "-c", script]
    agent = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    with end.open() as told:
        agent.kill()
        agent.wait()
        go.write_text("\n")
        assert told.read() == "done\n"


def test_latency_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    assert 0 <= fsync_latency_ms(Host(tmp_path), "/var/lib/nodeagent") < 10_000
    assert Host(tmp_path).names("/var/lib/nodeagent") == []


# Facts


def test_facts_are_read_once_a_pass(tmp_path: Path) -> None:
    put(tmp_path, {"/x": "1"})
    host = Machine(tmp_path, {"ask me": "answer"})
    facts = Facts(host)
    assert facts.text("/x") == "1" and facts.ask("ask", "me").out == "answer"
    put(tmp_path, {"/x": "2"})
    assert facts.text("/x") == "1" and facts.ask("ask", "me").out == "answer"
    assert host.ran == ["ask me"] and Facts(host).text("/x") == "2"


def test_the_board(tmp_path: Path) -> None:
    put(tmp_path, {
        "/proc/meminfo": "MemTotal:        3883104 kB\nMemFree: 1 kB\n",
        "/sys/devices/system/cpu/online": "0-3\n",
        "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
        "/proc/device-tree/serial-number": "10000000ABCDEF12\0",
        "/etc/os-release": 'PRETTY_NAME="x y"\nID=debian\nVERSION_CODENAME=trixie\n',
        "/proc/uptime": "61.27 200.00\n", "/etc/machine-id": "ab\n",
        "/proc/swaps": "Filename Type\n/dev/zram0 partition 1 2 3\n",
        "/var/lib/dpkg/status": dpkg_status({}), "/etc/hostname": "# comment\n\nkitchen\n",
    })  # fmt: skip
    facts = Facts(Machine(tmp_path))
    assert (facts.memory_mib, facts.cpus, facts.uptime) == (3792, 4, 61.27)
    assert (facts.model, facts.serial) == ("Raspberry Pi 4 Model B Rev 1.5", "10000000abcdef12")
    assert (facts.os_id, facts.codename, facts.architecture) == ("debian", "trixie", "arm64")
    assert (facts.swaps, facts.static_hostname) == (("/dev/zram0",), "kitchen")


def test_an_empty_machine_has_empty_facts(tmp_path: Path) -> None:
    facts = Facts(Machine(tmp_path))
    assert (facts.memory_mib, facts.cpus, facts.uptime, facts.model) == (0, 1, 0.0, "")
    assert (facts.interface(), facts.address(), facts.controllers) == (None, None, None)
    assert not facts.wired() and facts.wired_mac == "" and facts.architecture == ""


HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


@given(st.text())
def test_parsers_never_raise(text: str) -> None:
    parse.memory_mib(text), parse.cpus(text), parse.os_release(text), parse.seconds_up(text)
    parse.swaps(text), parse.routes(HEAD + text), parse.local_addresses(text)
    parse.routes6(text), parse.inet6(text)
    parse.device_text(text.encode())
    list(dpkg.parse(text))


# The package database


def test_packages() -> None:
    known = dpkg.Packages(dpkg_status({
        "kubelet": "1.37.2-1.1 hold", "containerd.io": "2.3.7-1~debian.13~trixie",
        "runc": "1.1.5+ds1-1+b1 deinstall config-files", "man-db": "2:2.11.2-2 install unpacked",
    }))  # fmt: skip
    assert known.version("kubelet") == "1.37.2" and known.version("containerd.io") == "2.3.7"
    assert [known.version(name) for name in ("runc", "man-db", "none")] == [None] * 3
    found = known.get("kubelet")
    assert found is not None and found.selection == "hold"
    assert known.interrupted and not known.journal_left
    assert not dpkg.Packages(dpkg_status({"kubelet": "1-1"}), ["tmp.i"]).interrupted
    assert dpkg.Packages("", ["0003"]).interrupted


# Keys


def test_a_key_is_read_as_gpg_reads_it() -> None:
    lasting = openpgp.read_key(key("lasting.asc"))
    assert lasting.fingerprint == LASTING and lasting.expires is None
    expiring = openpgp.read_key(key("expired-2024-12-31.asc"))
    assert expiring.fingerprint == EXPIRING and expiring.expires == 1735603200  # 2024-12-31
    assert expiring.expired(NOW) and not expiring.expired(1735603199) and not lasting.expired(NOW)
    assert openpgp.read_key(lasting.packets) == lasting, "binary form"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "neither"),
        (b"<html>login here</html>", "neither"),
        (key("two.asc"), "more than one key"),
        (key("lasting.asc") + key("expired-2024-12-31.asc"), "neither"),
        (openpgp.read_key(key("lasting.asc")).packets[:-3], "cut off"),
        (openpgp.read_key(key("lasting.asc")).packets[57:], "public key|header"),
        (b"\xc6\x01\x04", "version 4"),
        (b"\xc6\xe1x", "parts"),
    ],
)
def test_anything_but_one_whole_key_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(openpgp.BadKey, match=problem):
        openpgp.read_key(data)


@given(st.binary(max_size=300), st.integers(0, 250))
def test_damaged_keys_never_crash_nor_pass_as_the_key(noise: bytes, at: int) -> None:
    whole = openpgp.read_key(key("lasting.asc")).packets
    for data in (noise, b"\xc6" + noise, whole[:at] + noise + whole[at:]):
        try:
            found = openpgp.read_key(data)
        except openpgp.BadKey:
            continue
        assert found.fingerprint != LASTING or data.startswith(whole[:57])


@pytest.fixture
def server() -> Iterator[str]:
    """A double of a key server: answers with what the path names."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            body = b"x" * 200_000 if name == "huge" else b""
            if (KEYS / name).is_file():
                body = key(name)
            if name == "dripping":
                body = b"x" * 500
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may have seen enough
                while name == "dripping" and body:
                    self.wfile.write(body[:1])
                    body = body[1:]
                    time.sleep(0.01)
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.mark.network
def test_a_key_is_fetched_and_kept_in_binary(server: str, tmp_path: Path) -> None:
    host = Machine(tmp_path)
    action = FetchKey(f"{server}/lasting.asc", "/etc/apt/keyrings/a.gpg", LASTING)
    action.do(host)
    action.do(host)
    assert openpgp.read_key(host.read(action.path) or b"").fingerprint == LASTING
    assert host.mode(action.path) == 0o644 and host.ran == []


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "fingerprint", "reason"),
    [
        ("expired-2024-12-31.asc", LASTING, "answered with the key AE26EC67"),
        ("expired-2024-12-31.asc", EXPIRING, "has expired by this board's clock"),
        ("two.asc", LASTING, "more than one key"),
        ("huge", LASTING, "sent more than 65536 bytes"),
        ("missing", LASTING, "could not be fetched: 404"),
    ],
)
def test_a_wrong_key_is_not_written(
    name: str, fingerprint: str, reason: str, server: str, tmp_path: Path
) -> None:
    host = Machine(tmp_path)
    with pytest.raises(FetchFailed, match=reason):
        FetchKey(f"{server}/{name}", "/etc/apt/keyrings/a.gpg", fingerprint).do(host)
    assert host.names("/") == []


@pytest.mark.network
def test_a_key_server_that_sends_a_byte_now_and_then_is_given_up(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.host.actions.MAX_KEY_SECONDS", 0.2)
    with pytest.raises(FetchFailed, match="sent only"):
        FetchKey(f"{server}/dripping", "/etc/apt/keyrings/a.gpg", LASTING).do(Machine(tmp_path))


@pytest.mark.network
@pytest.mark.parametrize("name", ["lasting.asc", "missing", "expired-2024-12-31.asc"])
def test_a_best_effort_is_noted_and_never_fails(
    name: str, server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Machine(tmp_path)
    put(tmp_path, {"/proc/uptime": "4711.50 1.00\n", "/k": "old"})
    FetchKey(f"{server}/{name}", "/k", LASTING, "/run/nodeagent/k-key-asked").do(host)
    assert host.read("/run/nodeagent/k-key-asked") == b"4712\n"
    assert (host.read("/k") == b"old") == (name != "lasting.asc") == bool(caplog.messages)


@pytest.mark.network
def test_a_file_is_fetched_where_its_hash_is_right(server: str, tmp_path: Path) -> None:
    host, data = Machine(tmp_path), key("lasting.asc")
    right = hashlib.sha256(data).hexdigest()
    with pytest.raises(FetchFailed, match=f"has the SHA-256 {right}, and the settings want 0000"):
        FetchFile(f"{server}/lasting.asc", "/n.yaml", "0" * 64).do(host)
    assert not host.exists("/n.yaml")
    FetchFile(f"{server}/lasting.asc", "/n.yaml", right).do(host)
    assert host.read("/n.yaml") == data and host.mode("/n.yaml") == 0o644


@pytest.mark.network
def test_an_unreachable_mirror_is_a_plain_reason(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match=r"could not be fetched: .*Connection refused"):
        FetchKey("http://127.0.0.1:9/key", "/k", LASTING).do(Machine(tmp_path))
