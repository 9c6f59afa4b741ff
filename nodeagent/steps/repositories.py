"""Step: the package repositories of Kubernetes and, where wanted, of Docker, each bound to its
own key (Kubernetes docs, "Installing kubeadm"; Docker docs, "Install on Debian")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config import Settings
from nodeagent.errors import Blocked
from nodeagent.host import openpgp
from nodeagent.host.actions import Action, FetchKey
from nodeagent.host.facts import Facts
from nodeagent.steps import runtime
from nodeagent.steps.files import HEADER, holds

SOURCES = "/etc/apt/sources.list.d"
KEYRINGS = "/etc/apt/keyrings"  # for keys of repositories that people add: apt-secure(8)


@dataclass(frozen=True)
class Repository:
    """An apt repository; ``suite`` and ``component`` as sources.list(5) has them."""

    name: str
    uri: str
    suite: str
    component: str
    key_url: str
    fingerprint: str

    @property
    def keyring(self) -> str:
        """Where its key is kept, in binary form."""
        return f"{KEYRINGS}/nodeagent-{self.name}.gpg"

    @property
    def file(self) -> str:
        """Its source file."""
        return f"{SOURCES}/nodeagent-{self.name}.sources"

    @property
    def text(self) -> str:
        """The deb822 source (sources.list(5))."""
        components = f"Components: {self.component}\n" if self.component else ""
        return (
            f"{HEADER}Types: deb\nURIs: {self.uri}\nSuites: {self.suite}\n{components}"
            f"Signed-By: {self.keyring}\n"
        )


@dataclass(frozen=True)
class Repositories:
    """Looked after until everything is installed. After that a mirror that is gone, or a key
    that has expired in a drawer, is no reason to call a healthy node unwell."""

    name: str = "repositories"
    title: str = "Set up the signed package repositories"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for images: keys come over the network. Raises Blocked."""
        if not facts.live or not runtime.missing(facts, settings):
            return
        wanted = [kubernetes(settings)]
        if runtime.containerd_package(facts, settings) == runtime.DOCKER_PACKAGE:
            wanted.append(docker(facts, settings))
        for repository in wanted:
            if not _set_up_by_user(facts, repository):
                if not _key_fits(facts, repository):
                    yield FetchKey(repository.key_url, repository.keyring, repository.fingerprint)
                yield from holds(facts, repository.file, repository.text)


def kubernetes(settings: Settings) -> Repository:
    """The community's repository: a flat one for each minor, one key for all."""
    base = f"{settings.kubernetes.repository}/core:/stable:/v{runtime.minor(settings)}/deb/"
    key = settings.kubernetes.key_fingerprint
    return Repository("kubernetes", base, "/", "", f"{base}Release.key", key)


def docker(facts: Facts, settings: Settings) -> Repository:
    """Docker's repository; the address for Debian serves Raspberry Pi OS (64-bit) too."""
    base = settings.containerd.repository
    if facts.os_id == "ubuntu" and base == type(settings.containerd)().repository:
        base = base.replace("/debian", "/ubuntu")
    if not facts.codename:
        raise Blocked(
            "/etc/os-release names no release (VERSION_CODENAME), so Docker's repository cannot"
            " be chosen.",
            "Write `containerd: {source: distro}` into nodeagent.yaml.",
        )
    key = settings.containerd.key_fingerprint
    return Repository("docker", base, facts.codename, "stable", f"{base}/gpg", key)


def _key_fits(facts: Facts, repository: Repository) -> bool:
    data = facts.read(repository.keyring)
    try:
        key = openpgp.read_key(data or b"")
    except openpgp.BadKey:
        return False
    return key.fingerprint == repository.fingerprint and not key.expired(facts.now)


def _set_up_by_user(facts: Facts, repository: Repository) -> bool:
    """Another source file has it already: apt refuses the same repository with two keys."""
    paths = [f"{SOURCES}/{name}" for name in facts.names(SOURCES)] + ["/etc/apt/sources.list"]
    for path in paths:
        if path == repository.file or not path.endswith((".list", ".sources")):
            continue
        lines = (facts.text(path) or "").splitlines()
        active = [line for line in lines if not line.lstrip().startswith("#")]
        words = [word.rstrip("/") for line in active for word in line.split()]
        if repository.uri.rstrip("/") in words and "Enabled: no" not in active:
            return True
    return False
