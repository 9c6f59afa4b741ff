"""A double of an apt mirror with faults to choose, and a machine whose apt and dpkg are the real
ones with folders of their own. Needs mount namespaces (unshare(1)), gpg and dpkg-deb."""

from __future__ import annotations

import functools
import hashlib
import http.server
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nodeagent.host.host import Host, Result, run_process
from tests.support import namespaces

# Of the machine under test, mounted over the real ones in a namespace of each command's own.
APART = ("etc/apt", "var/lib/apt", "var/cache/apt", "var/lib/dpkg", "var/log", "run")
EMPTY = (
    "etc/apt/sources.list.d", "etc/apt/keyrings", "etc/apt/apt.conf.d", "etc/apt/preferences.d",
    "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial",
    "var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/dpkg/triggers",
    "var/lib/dpkg/alternatives", "var/log/apt", "run/nodeagent",
)  # fmt: skip
DAY = 86400.0


class AptHost(Host):
    """A machine with the real apt and dpkg on folders below ``root``; the kernel is the real one.

    Only packages without files are installed, so the real system does not change.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, self._apart)
        self.full = ""  # a folder with no more than a page of space
        for name in EMPTY:
            (root / name).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        # apt's own user may not enter the folder of a test.
        (root / "etc/apt/apt.conf.d/test").write_text(
            'APT::Sandbox::User "root";\nDPkg::Options { "--force-unsafe-io"; };\n'
        )

    @property
    def live(self) -> bool:
        """Commands count."""
        return True

    def read(self, name: str) -> bytes | None:
        """As always, but the kernel's files are the real ones."""
        if not name.startswith("/proc/"):
            return super().read(name)
        try:
            return Path(name).read_bytes()
        except OSError:
            return None

    def _apart(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        mounts = " && ".join(f"mount --bind '{self.root}/{name}' /{name}" for name in APART)
        if self.full:
            mounts += f" && mount -t tmpfs -o size=4k none {self.full}"
        apart = namespaces.apart("sh", "-c", f'{mounts} && exec "$@"', "sh", *argv)
        return run_process(apart, timeout, stdin)


class Mirror:
    """Flat repositories below ``folder``, served on loopback. The first part of a path may be a
    status (``/503/``), ``mute`` (accepts and never answers) or ``cut`` (breaks off)."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self._home = folder.with_name("gnupg")
        self._home.mkdir(mode=0o700)

    def key(self, name: str, life: str = "0", at: float | None = None) -> bytes:
        """Make a signing key; its public half in binary form."""
        self.gpg("--quick-gen-key", name, "ed25519", "sign", life, at=at)
        return self.gpg("--export", name)

    def gpg(self, *words: str, stdin: bytes = b"", at: float | None = None) -> bytes:
        """Run gpg(1) in the mirror's own home, at another time where wanted."""
        when = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at or time.time()))
        return subprocess.run(
            ["gpg", "--batch", "--homedir", str(self._home), "--pinentry-mode", "loopback",
             "--passphrase", "", "--faked-system-time", when, *words],
            input=stdin, capture_output=True, check=True, timeout=60,
        ).stdout  # fmt: skip

    def repository(
        self,
        name: str,
        packages: Mapping[str, str],
        signer: str = "good",
        *,
        signed: float | None = None,
        date: float | None = None,
        valid_until: float | None = None,
        fields: str = "",
    ) -> Path:
        """A flat repository (deb(5) packages without files, ``name: version``)."""
        where = self.folder / name
        where.mkdir()
        index = ""
        for package, version in packages.items():
            control = (
                f"Package: {package}\nVersion: {version}\nArchitecture: all\n"
                f"Maintainer: test <test@example.org>\n{fields}Description: empty\n"
            )
            meta = self.folder.with_name("build") / name / package / "DEBIAN"
            meta.mkdir(parents=True)
            (meta / "control").write_text(control)
            file = where / f"{package}_{version}.deb"
            build = ["dpkg-deb", "--root-owner-group", "--build", str(meta.parent), str(file)]
            subprocess.run(build, check=True, capture_output=True, timeout=60)
            data = file.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            index += f"{control}Filename: ./{file.name}\nSize: {len(data)}\nSHA256: {digest}\n\n"
        (where / "Packages").write_text(index)
        digest = hashlib.sha256(index.encode()).hexdigest()
        release = f"Origin: test\nDate: {_date(date or time.time() - 3600)}\n"
        if valid_until:
            release += f"Valid-Until: {_date(valid_until)}\n"
        release += f"SHA256:\n {digest} {len(index)} Packages\n"
        inline = self.gpg("--clearsign", "-u", signer, stdin=release.encode(), at=signed)
        (where / "InRelease").write_bytes(inline)
        return where

    def source(self, name: str, key: str = "good") -> str:
        """The deb822 source of a repository by name, or by URL."""
        uri = name if "://" in name else f"{self.url}/{name}"
        return f"Types: deb\nURIs: {uri}\nSuites: ./\nSigned-By: /etc/apt/keyrings/{key}.gpg\n"


def _date(at: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(at))


class _Answer(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        first = self.path.split("/")[1]
        if first.isdecimal():
            self.send_error(int(first))
        elif first == "mute":
            self.rfile.read()  # until the other side gives up
        elif first == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"-----BEGIN")
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that give up are the point of some tests."""


@contextmanager
def mirror(folder: Path) -> Iterator[Mirror]:
    """A mirror that serves while the block runs."""
    www = folder / "www"
    www.mkdir()
    handler = functools.partial(_Answer, directory=str(www))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        made = Mirror(www, f"http://127.0.0.1:{server.server_port}")
        try:
            yield made
        finally:
            home = str(folder / "gnupg")
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True, timeout=60)
            server.shutdown()
            thread.join()
