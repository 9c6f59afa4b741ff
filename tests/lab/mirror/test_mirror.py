"""The mirror's own logic, without building anything: seconds."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.cluster.versions import DEFAULT

from . import aptrepo, httpd, images, recipes
from .oci import CAP_NET_BIND_SERVICE, Image, Layer, Layout
from .store import MirrorError, Store


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, None),
        ("bytes=2-4", 10, (2, 4)),
        ("bytes=2-", 10, (2, 9)),
        ("bytes=-3", 10, (7, 9)),
        ("bytes=-30", 10, (0, 9)),
        ("bytes=2-400", 10, (2, 9)),
        ("bytes=10-", 10, (10, 9)),
        ("bytes=4-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("lines=1-2", 10, None),
    ],
)
def test_span(header: str | None, size: int, expected: tuple[int, int] | None) -> None:
    assert httpd.span(header, size) == expected


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    root = tmp_path / "www"
    (root / "core:" / "deb").mkdir(parents=True)
    (root / "core:" / "deb" / "file").write_bytes(b"0123456789")
    (root / ".key").write_text("secret")
    (tmp_path / "outside").write_text("secret")
    server = httpd.Server(("127.0.0.1", 0), root, io.StringIO())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "headers", "status", "body"),
    [
        ("/core%3a/deb//file", {}, 200, b"0123456789"),
        ("/core:/deb/file", {"Range": "bytes=8-"}, 206, b"89"),
        ("/core:/deb/file", {"Range": "bytes=10-"}, 416, b""),
        ("/core:/deb/file", {"Range": "bytes=8-", "If-Range": "another day"}, 200, b"0123456789"),
        ("/core:/deb/file", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304, b""),
        ("/core:/deb/file", {"If-Modified-Since": "soon"}, 200, b"0123456789"),
        ("/core:/deb", {}, 404, None),
        ("/.key", {}, 404, None),
        ("/../outside", {}, 404, None),
        ("/%2e%2e/outside", {}, 404, None),
    ],
)
def test_http(
    port: int, path: str, headers: dict[str, str], status: int, body: bytes | None
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert (answer.status, data) == (status, data if body is None else body)


def test_part_is_whole_or_absent_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODEAGENT_LAB_CACHE", str(tmp_path))
    store, calls = Store("amd64"), []

    def make(target: Path) -> None:
        calls.append(target)
        (target / "half").touch()
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.part("thing", "1", make)
    assert not (store.root / "thing").exists()
    for _ in range(2):
        assert (store.part("thing", "1", make) / "half").exists()
    assert len(calls) == 2
    store.part("thing", "2", make)
    assert len(calls) == 3


def test_layer_carries_file_capability_and_is_reproducible(tmp_path: Path) -> None:
    def layer() -> bytes:
        made = Layer()
        made.file("/coredns", b"program", 0o755, CAP_NET_BIND_SERVICE)
        return made.close()

    raw = layer()
    assert raw == layer()
    entry = tarfile.open(fileobj=io.BytesIO(raw)).getmember("coredns")
    value = entry.pax_headers["SCHILY.xattr.security.capability"].encode()
    assert value == bytes.fromhex("0100000200040000" + "00" * 12)
    layout = Layout(tmp_path / "oci", "arm64")
    layout.add(Image("coredns", "v1", (raw,), ("/coredns",), user="65532:65532"))
    layout.close()
    blobs = tmp_path / "oci" / "blobs" / "sha256"
    (listed,) = json.loads((tmp_path / "oci" / "index.json").read_text())["manifests"]
    manifest = json.loads((blobs / listed["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    assert config["architecture"] == "arm64"
    assert config["config"]["User"] == "65532:65532"


def test_names() -> None:
    assert aptrepo._plain("conntrack_1%3a1.4.8-2_amd64.deb") == "conntrack_1.4.8-2_amd64.deb"
    assert aptrepo.kubernetes_path("1.36") == "kubernetes/core:/stable:/v1.36/deb"
    components = (*recipes.own(DEFAULT), *recipes.COMPONENTS)
    programs = [name for one in components for name in one.programs]
    assert len(programs) == len(set(programs))


def test_the_releases_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default's components have the names that a mirror of it alone has."""
    monkeypatch.delenv("KUBERNETES", raising=False)
    assert recipes.releases() == (DEFAULT,)
    monkeypatch.setenv("KUBERNETES", f"{DEFAULT.minor} {DEFAULT.minor}.99")
    default, other = recipes.releases()
    assert [one.name for one in recipes.own(default)] == [
        "kubernetes", "etcd", "coredns", "cri-tools"
    ]  # fmt: skip
    assert [one.name for one in recipes.own(other)] == [
        f"kubernetes-{DEFAULT.minor}.99", "etcd", "coredns", "cri-tools"
    ]  # fmt: skip
    monkeypatch.setenv("KUBERNETES", "1.20")
    with pytest.raises(MirrorError, match=r"KUBERNETES=1\.20 is not in"):
        recipes.releases()


def test_an_image_with_another_tag_is_another_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program may be the same file."""
    keys: list[str] = []
    monkeypatch.setattr(Store, "part", lambda _, __, key, ___: keys.append(key))
    for tag in ("2.63.0", "2.66.1", "2.66.1"):
        monkeypatch.setattr(images, "AGNHOST", tag)
        images.layout(Store("amd64"), {})
    assert keys[0] != keys[1] == keys[2]
