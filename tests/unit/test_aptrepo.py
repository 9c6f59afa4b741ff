"""The apt repository of releases, as apt itself reads it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "apt-repo"
CONTROL = """Package: nodeagent
Version: {version}
Architecture: all
Maintainer: Test <test@example.invalid>
Description: for a test
"""
pytestmark = pytest.mark.processes


def call(*argv: object, **environment: str) -> str:
    """A command that must end well."""
    done = subprocess.run(
        list(map(str, argv)), env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package(where: Path, version: str, more: str = "") -> Path:
    """A small package of that version."""
    tree = where / f"tree-{version}{more}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL.format(version=version) + more)
    path = where / f"made{more.strip().replace(' ', '')}" / f"nodeagent_{version}_all.deb"
    path.parent.mkdir(exist_ok=True)
    call("dpkg-deb", "--root-owner-group", "--build", tree, path, SOURCE_DATE_EPOCH="1700000000")
    return path


@pytest.fixture
def gnupg(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a gpg with one key, older than every release."""
    home = Path("/tmp", f"na-gpg-{os.getpid()}")  # a socket's path must be short
    home.mkdir(mode=0o700)
    environment = {"GNUPGHOME": str(home), "SOURCE_DATE_EPOCH": "1763740000"}
    call(
        "gpg", "--batch", "--quiet", "--passphrase", "", "--faked-system-time", "1700000000!",
        "--quick-generate-key", "release@example.invalid", "ed25519", "sign", "never",
        **environment,
    )  # fmt: skip
    yield environment
    call("gpgconf", "--kill", "all", **environment)
    call("rm", "-rf", home)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_apt_reads_it_and_it_grows(tmp_path: Path, gnupg: dict[str, str]) -> None:
    repo, key = tmp_path / "repo", "release@example.invalid"
    call(SCRIPT, repo, key, package(tmp_path, "0.1.0"), **gnupg)
    call(SCRIPT, tmp_path / "again", key, tmp_path / "made/nodeagent_0.1.0_all.deb", **gnupg)
    assert content(repo) == content(tmp_path / "again")
    call(SCRIPT, repo, key, package(tmp_path, "0.2.0"), **gnupg)
    # An apt of its own: no other source, no other key, nothing of this machine's state.
    for name in ("lists/partial", "cache/archives/partial", "parts", "trusted"):
        (tmp_path / "apt" / name).mkdir(parents=True)
    (tmp_path / "apt/status").touch()
    source = tmp_path / "apt/one.list"
    source.write_text(f"deb [arch=arm64 signed-by={repo}/nodeagent.gpg] file:{repo} stable main\n")
    options = [
        "-o", f"Dir::State={tmp_path}/apt", "-o", f"Dir::State::status={tmp_path}/apt/status",
        "-o", f"Dir::Cache={tmp_path}/apt/cache", "-o", f"Dir::Etc::sourcelist={source}",
        "-o", f"Dir::Etc::sourceparts={tmp_path}/apt/parts", "-o", "APT::Architecture=arm64",
        "-o", "APT::Architectures=arm64", "-o", "APT::Sandbox::User=root",
        "-o", f"Dir::Etc::trusted={tmp_path}/none",
        "-o", f"Dir::Etc::trustedparts={tmp_path}/apt/trusted",
    ]  # fmt: skip
    call("apt-get", "update", "--error-on=any", *options)
    versions = call("apt-cache", *options, "madison", "nodeagent")
    assert [line.split("|")[1].strip() for line in versions.splitlines()] == ["0.2.0", "0.1.0"]
    # Whoever changes a package or a list is noticed.
    lists = repo / "dists/stable/main/binary-arm64/Packages"
    lists.write_text(lists.read_text().replace("0.2.0", "0.3.0"))
    lists.with_suffix(".gz").unlink()
    for known in (tmp_path / "apt/lists").glob("*_*"):
        known.unlink()
    done = subprocess.run(["apt-get", "update", "--error-on=any", *options], capture_output=True)
    assert done.returncode == 100


@pytest.mark.parametrize(("key", "changed", "said"), [
    ("nobody@example.invalid", False, "has no secret key nobody@example.invalid"),
    ("release@example.invalid", True, "is published already, and with other content"),
])  # fmt: skip
def test_refusals_change_nothing(
    tmp_path: Path, gnupg: dict[str, str], key: str, changed: bool, said: str
) -> None:
    repo = tmp_path / "repo"
    one = package(tmp_path, "0.1.0")
    call(SCRIPT, repo, "release@example.invalid", one, **gnupg)
    before = content(repo)
    other = package(tmp_path, "0.1.0", "Section: odd\n") if changed else one
    done = subprocess.run(
        [str(SCRIPT), str(repo), key, str(other)],
        env={**os.environ, **gnupg}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and said in done.stderr
    assert content(repo) == before and not (tmp_path / "repo.new").exists()
