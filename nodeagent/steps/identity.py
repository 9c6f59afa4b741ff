"""Step: a host name of the node's own. Cards flashed from one image all call themselves alike,
and Kubernetes knows nodes by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.config import checks
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host import identity
from nodeagent.host.actions import Action, Remove, Run, Write
from nodeagent.host.facts import Facts
from nodeagent.statefile import FOLDER, PATH, remembered
from nodeagent.steps.owned_files import HEADER, holds, removed
from nodeagent.steps.step import Step

# What systems are called that nobody gave a name; behind it may be a domain (localhost.localdomain,
# raspberrypi.local).
UNNAMED = frozenset({"", "raspberrypi", "ubuntu", "localhost", "debian", "dietpi", "(none)"})
CLOUD_FILE = f"{paths.CLOUD_CONFIG}/99-nodeagent.cfg"
# cloud-init's update_hostname would set the seed's name again at each boot (cloud-init docs,
# module cc_update_hostname, preserve_hostname).
CLOUD_TEXT = HEADER + "preserve_hostname: true\n"
FORMER = f"{FOLDER}/former-name"  # what the board was called before the agent named it
LOOPBACK = "127.0.1.1"  # Debian reference 5.1.1: the host's own name when it has no fixed address


@dataclass(frozen=True)
class Identity(Step):
    """The name of the settings, else the one a person chose, else one made from the board."""

    name = "identity"
    title = "Give the node a name of its own"
    why = "Kubernetes knows nodes by their names."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for images: a name on an image would be a name for every card made from it."""
        if not facts.live:
            return
        chosen = facts.static_hostname or facts.hostname
        made = identity.made_name(facts)
        named = chosen.split(".")[0].lower() not in UNNAMED
        wanted = settings.node_name or (chosen if named else made)
        member = member_name(facts)
        if member and facts.node_name != member:
            wanted = member  # cloud-init, or somebody, has renamed what the cluster knows
        elif named and facts.exists(paths.KUBELET_CONF):
            wanted = chosen  # the cluster knows the node by this name; another would be a stranger
        elif not settings.node_name and named:
            _check(chosen)
        if not wanted:
            raise Blocked(
                "The board has no serial number and no network card to make a name from.",
                "Write `node_name: NAME` into nodeagent.yaml.",
            )
        ours = wanted in (settings.node_name, made) or (wanted == member != facts.node_name)
        if ours:
            if facts.static_hostname != wanted and not facts.exists(FORMER):
                yield Write(FORMER, f"{facts.static_hostname}\n".encode())
            yield from holds(facts, paths.HOSTNAME, f"{wanted}\n")
            if facts.exists(paths.CLOUD_CONFIG):
                yield from holds(facts, CLOUD_FILE, CLOUD_TEXT)
        # Where the user data says manage_etc_hosts, cloud-init writes this file anew at each boot
        # with the seed's name; then the line is put right after each boot.
        hosts = facts.text(paths.HOSTS) or ""
        yield from holds(facts, paths.HOSTS, with_name(hosts, wanted))
        if ours and facts.hostname != wanted:
            yield Run(("hostnamectl", "set-hostname", wanted))

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return facts.hostname

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """cloud-init is in charge of the name again. The name itself stays: people know the board
        by it, and the fleet gives it back to the same node key only."""
        yield from removed(facts, CLOUD_FILE)


@dataclass(frozen=True)
class FormerName(Step):
    """The way back of the name, for a board that shall forget who it was (``reset --identity``)."""

    name = "identity"
    title = "Give the former name back"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Nothing: it is only undone."""
        yield from ()

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The record goes last, so that after a power cut all of it is done again."""
        text = facts.text(FORMER)
        if text is None:
            return
        former, ours = text.strip(), facts.static_hostname
        hosts = facts.text(paths.HOSTS) or ""
        if former:
            yield from holds(facts, paths.HOSTS, with_name(hosts, former))
            yield from holds(facts, paths.HOSTNAME, f"{former}\n")
        else:
            lines = hosts.splitlines(keepends=True)
            rest = "".join(line for line in lines if line.split() != [LOOPBACK, ours])
            yield from holds(facts, paths.HOSTS, rest)
            yield Remove(paths.HOSTNAME)
        if former and facts.hostname != former:
            yield Run(("hostnamectl", "set-hostname", former))
        yield Remove(FORMER)


def member_name(facts: Facts) -> str:
    """The name under which the cluster knows this node; empty where it is no member, or where
    nothing here tells. Of kubeadm init the kubelet's file has it, of a join the journal."""
    text = facts.text(paths.KUBELET_CONF)
    if text is None:
        return ""
    user = re.search(r"system:node:([a-z0-9.-]+)", text)
    return user[1] if user else str(remembered(facts.read(PATH))["node_name"] or "")


def _check(name: str) -> None:
    """A name that a person chose has to be one for Kubernetes too. Raises Blocked."""
    label = name.split(".")[0].lower()
    try:
        checks.node_name(label)
    except checks.Wrong as error:
        raise Blocked(
            f"The host name {name} cannot be a node's name in Kubernetes, which takes letters,"
            " digits and dashes, at most 63 and no dash at an end.",
            "Write `node_name: NAME` into nodeagent.yaml, or give the board another name with"
            " `hostnamectl set-hostname NAME`.",
        ) from error


def with_name(hosts: str, name: str) -> str:
    """/etc/hosts (hosts(5)) with a line for ``name``; unchanged where it is named already."""
    lines = hosts.splitlines()
    if any(name in line.split("#")[0].split()[1:] for line in lines):
        return hosts
    line = f"{LOOPBACK}\t{name}"
    places = [at for at, text in enumerate(lines) if text.split()[:1] == [LOOPBACK]]
    kept = [text for at, text in enumerate(lines) if at not in places]
    kept.insert(places[0] if places else len(kept), line)
    return "\n".join(kept) + "\n"
