"""Step: a host name of the node's own. Cards flashed from one image all call themselves alike,
and Kubernetes knows nodes by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, Run
from nodeagent.host.facts import Facts
from nodeagent.steps.files import HEADER, holds

# What systems are called that nobody gave a name.
UNNAMED = frozenset({"", "raspberrypi", "ubuntu", "localhost", "debian", "(none)"})
CLOUD_FOLDER = "/etc/cloud/cloud.cfg.d"
CLOUD_FILE = f"{CLOUD_FOLDER}/99-nodeagent.cfg"
# cloud-init's update_hostname would set the seed's name again at each boot (cloud-init docs,
# module cc_update_hostname, preserve_hostname).
CLOUD_TEXT = HEADER + "preserve_hostname: true\n"
# The kubelet's credentials, made out to the node's name (kubeadm docs, "Implementation details").
MEMBER = "/etc/kubernetes/kubelet.conf"
LOOPBACK = "127.0.1.1"  # Debian reference 5.1.1: the host's own name when it has no fixed address


@dataclass(frozen=True)
class Identity:
    """The name of the settings, else the one a person chose, else one made from the board."""

    name: str = "identity"
    title: str = "Give the node a name of its own"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for images: a name on an image would be a name for every card made from it."""
        if not facts.live:
            return
        chosen = facts.static_hostname or facts.hostname
        made = made_name(facts)
        named = chosen.lower() not in UNNAMED
        wanted = settings.node_name or (chosen if named else made)
        if named and facts.exists(MEMBER):
            wanted = chosen  # the cluster knows the node by this name; another would be a stranger
        if not wanted:
            raise Blocked(
                "The board has no serial number and no network card to make a name from.",
                "Write `node_name: NAME` into nodeagent.yaml.",
            )
        ours = wanted in (settings.node_name, made)
        if ours:
            yield from holds(facts, "/etc/hostname", f"{wanted}\n")
            if facts.exists(CLOUD_FOLDER):
                yield from holds(facts, CLOUD_FILE, CLOUD_TEXT)
        # Where the user data says manage_etc_hosts, cloud-init writes this file anew at each boot
        # with the seed's name; then the line is put right after each boot.
        hosts = facts.text("/etc/hosts") or ""
        yield from holds(facts, "/etc/hosts", with_name(hosts, wanted))
        if ours and facts.hostname != wanted:
            yield Run(("hostnamectl", "set-hostname", wanted))


def made_name(facts: Facts) -> str:
    """``pi-`` and six characters of what is the board's own: serial number, hardware address,
    or, for want of both, the machine id (cloned cards share that one)."""
    serial = re.sub(r"[^0-9a-z]", "", facts.serial)
    if len(serial) >= 6 and serial.strip("0"):
        return f"pi-{serial[-6:]}"
    mac = facts.wired_mac.replace(":", "")
    if mac:
        return f"pi-{mac[-6:]}"
    if re.fullmatch(r"[0-9a-f]{32}", facts.machine_id):
        # machine-id(5) asks not to show the id itself.
        return f"pi-{hashlib.sha256(b'nodeagent' + facts.machine_id.encode()).hexdigest()[:6]}"
    return ""


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
