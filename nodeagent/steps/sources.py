"""The package repositories of Kubernetes and Docker, as apt sources: shared by the steps on
repositories and packages. A helper, not a step."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.cluster import packages
from nodeagent.config.settings import Settings
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER

SOURCES = "/etc/apt/sources.list.d"
KEYRINGS = "/etc/apt/keyrings"  # for keys of repositories that people add: apt-secure(8)


@dataclass(frozen=True)
class Repository:
    """An apt repository; ``suite`` and ``component`` as sources.list(5) has them. No suite: the
    release of this system is not known."""

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


def needed(facts: Facts, settings: Settings) -> list[Repository]:
    """Where containerd and Kubernetes come from."""
    found = [kubernetes(settings)]
    if packages.containerd_package(facts, settings) == packages.DOCKER_PACKAGE:
        found.append(docker(facts, settings))
    return found


def own_files(facts: Facts) -> tuple[str, ...]:
    """The source files that the agent has made."""
    names = [name for name in facts.names(SOURCES) if name.startswith("nodeagent-")]
    return tuple(f"{SOURCES}/{name}" for name in names if name.endswith(".sources"))


def kubernetes(settings: Settings) -> Repository:
    """The community's repository: a flat one for each minor, one key for all."""
    base = f"{settings.kubernetes.repository}/core:/stable:/v{packages.minor(settings)}/deb/"
    key = settings.kubernetes.key_fingerprint
    return Repository("kubernetes", base, "/", "", f"{base}Release.key", key)


def docker(facts: Facts, settings: Settings) -> Repository:
    """Docker's repository; the address for Debian serves Raspberry Pi OS (64-bit) too."""
    base = settings.containerd.repository
    if facts.os_id == "ubuntu" and base == type(settings.containerd)().repository:
        base = base.replace("/debian", "/ubuntu")
    key = settings.containerd.key_fingerprint
    return Repository("docker", base, facts.codename, "stable", f"{base}/gpg", key)


def set_up_by_user(facts: Facts, repository: Repository) -> bool:
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
