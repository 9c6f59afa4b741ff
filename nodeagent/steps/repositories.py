"""Step: the package repositories of Kubernetes and, where wanted, of Docker, each bound to its
own key (Kubernetes docs, "Installing kubeadm"; Docker docs, "Install on Debian")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import packages
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, FetchKey, Remove
from nodeagent.host.apt import openpgp
from nodeagent.host.facts import Facts
from nodeagent.steps import sources
from nodeagent.steps.owned_files import holds
from nodeagent.steps.step import Step

DAY = 86400.0  # seconds
# How long before a key expires a prolonged copy is looked for, once a day.
SOON = 30 * DAY
# On a tmpfs: when, in seconds since boot, a copy was last looked for.
NOTED = "/run/nodeagent/{name}-key-asked"
PREFIX = "nodeagent-"  # of our files in both folders


@dataclass(frozen=True)
class Repositories(Step):
    """Set up until everything is installed. After that a mirror that is gone is no reason to
    call a healthy node unwell, so keys are renewed as a best effort only: without one, the next
    ``apt-get update`` that somebody runs would fail."""

    name = "repositories"
    title = "Set up the signed package repositories"
    group = "Software"
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for mounted images: keys come over the network. Raises Blocked."""
        if not facts.has_programs:
            return
        installed = not packages.missing(facts, settings)
        for repository in sources.needed(facts, settings):
            others = sources.of_user(facts, repository)
            if any(one.serves(repository, facts.architecture) for one in others):
                # Added beside ours, perhaps later: apt would refuse to work at all.
                if facts.exists(repository.file):
                    yield Remove(repository.file)
            elif installed:
                yield from _renewed(facts, repository)
            elif not repository.suite:
                raise Blocked(
                    "/etc/os-release names no release (VERSION_CODENAME), so Docker's repository"
                    " cannot be chosen.",
                    "Write `containerd: {source: distro}` into nodeagent.yaml.",
                )
            elif others:
                raise Blocked(
                    f"{others[0].path} has {repository.uri} for {repository.suite}, but not what is"
                    f" needed of it, and apt refuses one repository with two keys.",
                    f"Remove that entry, or give it `{repository.component or '/'}` for"
                    f" {facts.architecture}; the agent then goes on by itself.",
                )
            else:
                if not _key_lasts(facts, repository, 0):
                    yield FetchKey(repository.key_url, repository.keyring, repository.fingerprint)
                yield from holds(facts, repository.file, repository.text)

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The sources first: apt refuses one whose key is missing."""
        for folder in (sources.SOURCES, sources.KEYRINGS):
            for name in facts.names(folder):
                if name.startswith(PREFIX):
                    yield Remove(f"{folder}/{name}")


def _renewed(facts: Facts, repository: sources.Repository) -> Iterator[Action]:
    """A publisher prolongs a key before it expires; the copy on the card has the old date."""
    noted = NOTED.format(name=repository.name)
    asked = (facts.text(noted) or "").strip()
    recently = asked.isdecimal() and facts.uptime - int(asked) < DAY
    if facts.exists(repository.file) and not recently and not _key_lasts(facts, repository, SOON):
        yield FetchKey(repository.key_url, repository.keyring, repository.fingerprint, noted)


def _key_lasts(facts: Facts, repository: sources.Repository, seconds: float) -> bool:
    """The pinned key is there, and does not expire for so long."""
    data = facts.read(repository.keyring)
    try:
        key = openpgp.read_key(data or b"")
    except openpgp.BadKey:
        return False
    return key.fingerprint == repository.fingerprint and not key.expired(facts.now + seconds)
