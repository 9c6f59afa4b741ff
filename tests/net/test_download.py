"""``nodeagent image fetch`` against a real HTTPS server on loopback that ends early, begins anew,
leads astray or gives something else."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nodeagent.cli.main import main
from nodeagent.imaging import download
from tests.support import authority

IMAGE = bytes(range(256)) * 4096 * 3  # 3 MiB, no two of them alike in place
HASH = hashlib.sha256(IMAGE).hexdigest()


@dataclass
class Publisher:
    """A double of a publisher's server. ``ends_after``: bytes of each answer, one for each."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ends_after: list[int] = field(default_factory=list)
    ranges: bool = True
    leads_to: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    length: str | None = ""  # what is said instead of the true one; None: nothing
    waits: float = 0.0  # seconds after each 1,000 bytes


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    made = Publisher(files={"/os/pi.img.xz": IMAGE})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            made.asked.append((self.path, asked))
            if made.leads_to:
                self.send_response(302)
                self.send_header("Location", made.leads_to)
                self.end_headers()
                return
            data = made.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and made.ranges else 0
            if begin >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            if made.length is not None:
                self.send_header("Content-Length", made.length or str(len(data) - begin))
            self.end_headers()
            while made.waits and begin < len(data):
                self.wfile.write(data[begin : begin + 1000])
                begin += 1000
                time.sleep(made.waits)
            short = self.path.endswith(".xz") and made.ends_after
            end = begin + made.ends_after.pop(0) if short else len(data)
            self.wfile.write(data[begin:end])

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(http.server.ThreadingHTTPServer):
        """One whose clients may leave in the middle: that is no fault of theirs, or of its own."""

        def handle_error(self, *_: Any) -> None:
            """Nothing: its traceback would stand in what the command under test is taken to say."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem, trusted = tmp_path / "server.pem", tmp_path / "ca.pem"
    pem.write_bytes(authority.server("127.0.0.1"))
    trusted.write_bytes(authority.CA_CERT)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.address = f"https://127.0.0.1:{server.server_address[1]}/os/pi.img.xz"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


def run(*argv: object) -> Result:
    """The command line."""
    return CliRunner().invoke(main, ["image", "fetch", *map(str, argv)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("/os/pi.img.xz.sha256", f"{HASH}  pi.img.xz\n"),
        ("/os/SHA256SUMS", f"{'0' * 64} *other.img.xz\n{HASH} *pi.img.xz\n"),
    ],
)
def test_the_publishers_hash(publisher: Publisher, folder: Path, name: str, text: str) -> None:
    """As Raspberry Pi OS has it, and as Ubuntu."""
    publisher.files[name] = text.encode()
    done = run(publisher.address, "--out", folder)
    assert done.exit_code == 0, done.output
    assert (folder / "pi.img.xz").read_bytes() == IMAGE
    assert [path.name for path in folder.iterdir()] == ["pi.img.xz"]
    assert HASH in done.output


def test_it_goes_on_by_itself_where_it_was_cut(publisher: Publisher, folder: Path) -> None:
    publisher.ends_after = [1024 * 1024, 1024 * 1024]
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 0, done.output
    assert (folder / "pi.img.xz").read_bytes() == IMAGE
    assert [asked for _, asked in publisher.asked] == [None, "bytes=1048576-", "bytes=2097152-"]


def test_a_second_command_goes_on(publisher: Publisher, folder: Path) -> None:
    """What one had fetched when nothing came any more is not fetched again."""
    publisher.ends_after = [2 * 1024 * 1024, 0, 0, 0, 0, 0]
    first = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert first.exit_code == 69, first.output
    assert "it goes on where it ended" in first.output
    assert [path.name for path in folder.iterdir()] == ["pi.img.xz.part"]
    second = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert second.exit_code == 0, second.output
    assert publisher.asked[-1][1] == "bytes=2097152-"
    assert (folder / "pi.img.xz").read_bytes() == IMAGE
    third = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert third.exit_code == 0 and "already" in third.output


def test_a_server_without_ranges_begins_anew(publisher: Publisher, folder: Path) -> None:
    publisher.ranges = False
    (folder / "pi.img.xz.part").write_bytes(IMAGE[:1000])
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 0, done.output
    assert (folder / "pi.img.xz").read_bytes() == IMAGE


def test_a_part_that_was_whole_already(publisher: Publisher, folder: Path) -> None:
    """The power went between the last byte and the name."""
    (folder / "pi.img.xz.part").write_bytes(IMAGE)
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 0, done.output
    assert (folder / "pi.img.xz").read_bytes() == IMAGE


def test_another_file_is_not_kept(publisher: Publisher, folder: Path) -> None:
    """Also where the beginning was of another: the next time starts from nothing."""
    (folder / "pi.img.xz.part").write_bytes(b"x" * 1000)
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 69, done.output
    assert "SHA-256" in done.output
    assert not list(folder.iterdir())
    assert run(publisher.address, "--out", folder, "--sha256", HASH).exit_code == 0


def test_a_file_of_that_name_is_never_touched(publisher: Publisher, folder: Path) -> None:
    (folder / "pi.img.xz").write_bytes(b"mine")
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 73, done.output
    assert (folder / "pi.img.xz").read_bytes() == b"mine"


def test_nothing_without_a_hash(publisher: Publisher, folder: Path) -> None:
    done = run(publisher.address, "--out", folder)
    assert done.exit_code == 64, done.output
    assert "--sha256" in done.output
    assert not list(folder.iterdir())


def test_what_is_not_there(publisher: Publisher, folder: Path) -> None:
    gone = publisher.address.replace("pi.img", "no.img")
    done = run(gone, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 69, done.output
    assert "404" in done.output
    assert len(publisher.asked) == 1
    assert not list(folder.iterdir())


def test_https_only(publisher: Publisher, folder: Path) -> None:
    """Neither as asked nor by an answer that leads elsewhere."""
    plain = publisher.address.replace("https:", "http:")
    assert run(plain, "--out", folder, "--sha256", HASH).exit_code == 64
    publisher.leads_to = plain
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 69, done.output
    assert "without https" in done.output
    assert not list(folder.iterdir())


def test_a_stranger_at_the_address(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code == 69, done.output
    assert "certificate verify failed" in done.output
    assert not publisher.asked


@pytest.mark.parametrize("typed", ["12ab", "g" * 64])
def test_no_hash_at_all(publisher: Publisher, folder: Path, typed: str) -> None:
    assert run(publisher.address, "--out", folder, "--sha256", typed).exit_code == 64
    assert not publisher.asked


@pytest.mark.parametrize("length", [None, "abc", "-5", "1e9", "3_145_728", "\u0663", "9" * 30])
def test_a_length_that_is_none(publisher: Publisher, folder: Path, length: str | None) -> None:
    """A body without an end would fill the disk."""
    publisher.length = length.encode().decode("latin-1") if length else length
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code != 0 and "Traceback" not in done.output
    assert "does not say how long the file is" in done.output
    assert list(folder.iterdir()) == []


def test_a_length_for_which_there_is_no_room(publisher: Publisher, folder: Path) -> None:
    publisher.length = "9" * 15
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code != 0 and "has no room" in done.output
    assert list(folder.iterdir()) == []


def test_a_drip_ends(publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every timeout of a socket from ending it."""
    publisher.waits = 0.05
    monkeypatch.setattr(download, "SLOWEST", 0.4)
    began = time.monotonic()
    done = run(publisher.address, "--out", folder, "--sha256", HASH)
    assert done.exit_code != 0 and time.monotonic() - began < 20
    assert "could not be fetched" in done.output


def test_a_list_of_hashes_that_drips_ends(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.files["/os/pi.img.xz.sha256"] = bytes(100_000)
    publisher.waits = 0.05
    monkeypatch.setattr(download, "SLOWEST", 0.4)
    done = run(publisher.address, "--out", folder)
    assert done.exit_code != 0 and "could not be fetched" in done.output
