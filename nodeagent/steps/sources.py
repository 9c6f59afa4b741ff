"""The package repositories of Kubernetes and Docker, as apt sources: shared by the steps on
repositories and packages. A helper, not a step."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    wish, key = settings.kubernetes, settings.kubernetes.key_fingerprint
    base = f"{wish.repository}/core:/stable:/v{packages.minor(wish.version)}/deb/"
    return Repository("kubernetes", base, "/", "", f"{base}Release.key", key)


def docker(facts: Facts, settings: Settings) -> Repository:
    """Docker's repository; the address for Debian serves Raspberry Pi OS (64-bit) too."""
    base = settings.containerd.repository
    if facts.os_id == "ubuntu" and base == type(settings.containerd)().repository:
        base = base.replace("/debian", "/ubuntu")
    key = settings.containerd.key_fingerprint
    return Repository("docker", base, facts.codename, "stable", f"{base}/gpg", key)


@dataclass(frozen=True)
class Entry:
    """One source of packages in somebody's file, as sources.list(5) has them; no
    ``architectures``: all of this system."""

    path: str
    uri: str
    suite: str
    components: tuple[str, ...]
    architectures: tuple[str, ...]

    def is_at(self, repository: Repository) -> bool:
        """The same repository and release: apt refuses it with two keys, whatever is taken."""
        same = self.uri.rstrip("/") == repository.uri.rstrip("/")
        return same and self.suite == repository.suite

    def serves(self, repository: Repository, architecture: str) -> bool:
        """The packages that ``repository`` has for this architecture come from it too."""
        fits = not (architecture and self.architectures) or architecture in self.architectures
        wanted = not repository.component or repository.component in self.components
        return self.is_at(repository) and fits and wanted


def of_user(facts: Facts, repository: Repository) -> list[Entry]:
    """Others' entries for the same repository and release. Those that are switched off, or are
    of another release, are not apt's business and not ours."""
    paths = [f"{SOURCES}/{name}" for name in facts.names(SOURCES)] + ["/etc/apt/sources.list"]
    found = []
    for path in paths:
        parser = _one_line if path.endswith(".list") else _deb822
        if path != repository.file and path.endswith((".list", ".sources")):
            found += [one for one in parser(path, facts.text(path) or "") if one.is_at(repository)]
    return found


def _one_line(path: str, text: str) -> Iterator[Entry]:
    """``deb [arch=arm64 signed-by=FILE] URI SUITE COMPONENT…``, a line each."""
    for line in text.splitlines():
        form = r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)(.*)"
        found = re.match(form, line.partition("#")[0])
        if found:
            options = dict(word.split("=", 1) for word in (found[1] or "").split() if "=" in word)
            architectures = tuple(filter(None, options.get("arch", "").split(",")))
            yield Entry(path, found[2], found[3], tuple(found[4].split()), architectures)


# What apt takes for no (apt-pkg/contrib/strutl.cc, StringToBool).
NO = frozenset({"no", "false", "without", "off", "disable", "0"})


def _deb822(path: str, text: str) -> Iterator[Entry]:
    """Stanzas of fields, parted by blank lines; each may name several URIs and suites."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n[ \t]*\n", kept):
        fields = {
            name.lower(): value.split()
            for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        off = " ".join(fields.get("enabled", [])).lower() in NO
        if off or "deb" not in fields.get("types", []):
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield Entry(
                    path, uri, suite, tuple(fields.get("components", ())),
                    tuple(fields.get("architectures", ())),
                )  # fmt: skip
