"""A pod network that a person brings: none, put in by hand later, or a manifest by its SHA-256.

The manifest is kept on the card before anything of the cluster is made, so that a wrong one, or one
that cannot be had, is named while nothing is lost. What such a network needs of a node besides is
its person's: modules and ports are not known here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from nodeagent import paths
from nodeagent.cluster.cni.network import PodNetwork
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, FetchFile, Write
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host

KEPT = "/var/lib/nodeagent/network.yaml"
_IMAGE = re.compile(
    r"""^[ \t-]*image:[ \t]*["']?(\w[\w./:@-]*)["']?[ \t]*(?:#.*)?$""", re.MULTILINE
)

NONE = PodNetwork(name="none", images=(), manifest=lambda settings: "", policies=None)
GIVEN = PodNetwork(
    name="that of the manifest", images=(), manifest=lambda settings: "", policies=None
)


def needed(facts: Facts, settings: Settings) -> Iterator[Action]:
    """Keep the manifest of these settings; nothing where it is kept, or this board never applies
    it. Raises Blocked where a file is missing or another one, OSError."""
    source, wanted = _lacks(facts, settings)
    if not source:
        return
    if not source.startswith("/"):
        yield FetchFile(source, KEPT, wanted)
    elif facts.live:  # in an image the boot partition is not mounted
        yield Write(KEPT, _read(facts, source, wanted))


def check(facts: Facts, settings: Settings) -> None:
    """Raises Blocked where the file that these settings name is missing or another one."""
    source, wanted = _lacks(facts, settings)
    if source.startswith("/"):
        _read(facts, source, wanted)


def _lacks(facts: Facts, settings: Settings) -> tuple[str, str]:
    """Where the manifest is to be had and its hash; empty where it is kept or never needed here:
    only who may lead applies it, and of an image that is not known yet."""
    source, wanted = settings.network.manifest or "", settings.network.manifest_sha256 or ""
    leads = settings.role != "worker" and (not facts.live or facts.exists(paths.LEAD_KEY))
    return ("", "") if not leads or _is(facts.read(KEPT), wanted) else (source, wanted)


def _read(facts: Facts, source: str, wanted: str) -> bytes:
    content = facts.read(source)
    if content is None:
        raise Blocked(
            f"{source} is not there, which `network.manifest` names.",
            "Copy the manifest to the card, or correct the settings; the agent then goes on by"
            " itself.",
        )
    if not _is(content, wanted):
        raise Blocked(
            f"{source} is another file than the settings want: its SHA-256 is"
            f" {hashlib.sha256(content).hexdigest()}.",
            "If it is the right one, write that as `network.manifest_sha256`; nothing has been"
            " changed.",
        )
    return content


def text(host: Host, settings: Settings) -> str:
    """The manifest that is kept. Raises Blocked where it is not the one of the settings."""
    content = host.read(KEPT)
    if content is None or not _is(content, settings.network.manifest_sha256 or ""):
        raise Blocked(
            f"{KEPT} is not the manifest that `network.manifest` names.",
            "The agent fetches it again; `nodeagent config` shows the settings it goes by.",
        )
    return content.decode("utf-8", "replace").rstrip() + "\n"


def images(host: Host) -> tuple[str, ...]:
    """The images that the kept manifest names; none where there is none."""
    return tuple(dict.fromkeys(_IMAGE.findall(host.text(KEPT) or "")))


def _is(content: bytes | None, wanted: str) -> bool:
    return content is not None and hashlib.sha256(content).hexdigest() == wanted
