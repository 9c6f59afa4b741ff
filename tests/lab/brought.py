"""A pod network that a person brings: its manifest is on the cards, and the settings have its hash.

It is flannel's, as the agent would write it, under that name for want of another that is built
here: what is tried is the road of a manifest, not the network. Then what `nodeagent explain
--recipe` says on each node.
"""

from __future__ import annotations

import hashlib
import time

import yaml

from nodeagent.cluster import cni
from nodeagent.cluster.cni import given
from nodeagent.config.settings import Network, Settings

from . import checks, disk, results
from .board import Board
from .cluster import Cluster
from .place import run_folder

NAME = "network.yaml"
PREPARED = ("swap", "modules", "sysctls", "packages", "containerd", "kubelet", "firewall")


def brought(cluster: Cluster) -> checks.Outcome:
    """Cards with the manifest, power on, Ready, pods reach each other."""
    images = "mirror.lab:5000" if cluster.asked.mirror == "built" else None
    usual = Settings(network=Network(image_repository=images))
    text = cni.chosen(usual).manifest(usual)
    digest = hashlib.sha256(text.encode()).hexdigest()

    def prepare(board: Board) -> None:
        manifest, settings = run_folder() / NAME, run_folder() / f"{board.name}.yaml"
        manifest.write_text(text)
        said = yaml.safe_load(cluster.settings(board.index))
        said["network"] = {"manifest": f"/boot/firmware/{NAME}", "manifest_sha256": digest}
        settings.write_text(yaml.safe_dump(said))
        disk.put(board.card, "nodeagent.yaml", settings)
        disk.put(board.card, NAME, manifest)

    cluster.power_on(card=prepare)
    began = time.time()
    checks.until_up(cluster)
    took = time.time() - began
    cluster.formed = cluster.brought = True

    def kept(cluster: Cluster) -> str:
        leader = checks.control_plane(cluster)
        found = leader.sudo("sha256sum", given.KEPT).split()[0]
        checks.need(found == digest, f"{given.KEPT} has {found}, expected {digest}")
        return f"{given.KEPT} on {leader.name} has the hash of the settings"

    def recipe(cluster: Cluster) -> str:
        for guest in cluster.guests:
            said = guest.sudo("nodeagent", "explain", "--recipe")
            checks.need("FAIL" not in said, said[said.find("FAIL") - 400 :][:800])
            for name in PREPARED:
                checks.need(f"here:       ok: {name}: " in said, f"{guest.name}: {name}")
        return f"says of {', '.join(PREPARED)} that they are as they should be, on each node"

    outcome = checks.perform(
        cluster,
        {"the manifest of the card": kept, "nodeagent explain --recipe": recipe},
        checks.NODE,
        checks.AGENT,
        checks.VERIFIED,
    )
    measured = {"until all Ready, seconds": f"{took:.0f}"}
    results.write(cluster, "brought", {"measured": measured, "checks": outcome})
    return outcome
