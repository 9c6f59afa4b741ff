"""The lab's own keys: one OpenPGP key per apt repository, one CA with the registry's certificate.

Made once and kept over builds and architectures, so that a guest's pinned fingerprint stays
right. They protect nothing but the lab.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .store import Store, key_of

HOST = "mirror.lab"
ADDRESS = "10.77.0.1"


@contextmanager
def _gnupg(store: Store) -> Iterator[dict[str, str]]:
    """A throw-away GNUPGHOME: gpg-agent's socket needs a short path, and no agent is left."""
    with tempfile.TemporaryDirectory(prefix="nalab") as home:
        environment = {"GNUPGHOME": home}
        try:
            yield environment
        finally:
            store.run("gpg", ["gpgconf", "--kill", "all"], env=environment)


GPG = ["gpg", "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]


@dataclass(frozen=True)
class SigningKey:
    """An OpenPGP key that signs one repository; its files lie in the mirror's ``keys/``."""

    store: Store
    name: str

    @property
    def _secret(self) -> Path:
        return self.store.shared / "keys" / f"{self.name}.secret.asc"

    @property
    def armored(self) -> Path:
        return self.store.shared / "keys" / f"{self.name}.asc"

    @property
    def binary(self) -> Path:
        return self.store.shared / "keys" / f"{self.name}.gpg"

    @property
    def fingerprint(self) -> str:
        self.ensure()
        return (self.store.shared / "keys" / f"{self.name}.fingerprint").read_text()

    def ensure(self) -> None:
        """Make the key unless it is there. The secret file comes last and marks it whole."""
        if self._secret.exists():
            return
        self._secret.parent.mkdir(parents=True, exist_ok=True)
        user = f"nodeagent lab {self.name} <{self.name}@nodeagent.invalid>"
        with _gnupg(self.store) as env:
            generate = ["--quick-generate-key", user, "rsa2048", "sign", "never"]
            self.store.run("gpg", [*GPG, *generate], env=env)
            listing = self.store.run("gpg", [*GPG, "--with-colons", "--fingerprint"], env=env)
            lines = (line.split(":") for line in listing.splitlines())
            print_ = next(fields[9] for fields in lines if fields[0] == "fpr")
            self.armored.with_suffix(".fingerprint").write_text(print_)
            for export, file in (
                (["--armor", "--export"], self.armored),
                (["--export"], self.binary),
                (["--armor", "--export-secret-keys"], self._secret),
            ):
                fresh = file.with_name(f".{file.name}.new")
                self.store.run("gpg", [*GPG, "--output", fresh, *export, print_], env=env)
                fresh.rename(file)

    def sign_release(self, release: Path) -> None:
        """Put ``InRelease`` and ``Release.gpg`` beside a Release file."""
        self.ensure()
        with _gnupg(self.store) as env:
            self.store.run("gpg", [*GPG, "--import", self._secret], env=env)
            sign = [*GPG, "--digest-algo", "SHA512", "--output"]
            inline, beside = release.with_name("InRelease"), release.with_name("Release.gpg")
            self.store.run("gpg", [*sign, inline, "--clearsign", release], env=env)
            self.store.run("gpg", [*sign, beside, "--armor", "--detach-sign", release], env=env)


def tls(store: Store) -> Path:
    """``tls/{ca.crt,server.crt,server.key}`` of this architecture, copies of the shared ones."""
    made = store.shared / "tls"
    if not made.exists():
        fresh = store.shared / ".tls.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        # P-256 and ten years: guests under emulation verify it on every pull.
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        request = ["openssl", "req", *key, "-days", "3650"]
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        ca = ["-x509", "-subj", "/CN=nodeagent lab CA", "-addext", usage]
        store.run("tls", [*request, *ca, "-keyout", "ca.key", "-out", "ca.crt"], cwd=fresh)
        names = f"subjectAltName=DNS:{HOST},IP:{ADDRESS},IP:127.0.0.1\n"
        (fresh / "ext").write_text(names + "extendedKeyUsage=serverAuth\n")
        server = ["-subj", f"/CN={HOST}", "-keyout", "server.key", "-out", "server.csr"]
        store.run("tls", [*request, *server], cwd=fresh)
        sign = ["-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
        out = ["-out", "server.crt", "-days", "3650", "-sha256", "-extfile", "ext"]
        store.run("tls", ["openssl", "x509", "-req", *sign, *out], cwd=fresh)
        os.rename(fresh, made)

    def copy(target: Path) -> None:
        for name in ("ca.crt", "server.crt", "server.key"):
            shutil.copy(made / name, target / name)

    return store.part("tls", key_of((made / "server.crt").read_text()), copy)
