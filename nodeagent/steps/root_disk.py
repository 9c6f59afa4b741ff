"""Step: what is written on this system is still there tomorrow, and containers can live on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.cluster import kubeadm_state
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host import mounts
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts
from nodeagent.steps.step import Step

# The node's keys, what kubeadm and the kubelet write, and the cluster's data.
KEPT = (paths.STATE, paths.KUBERNETES, paths.KUBELET, paths.ETCD)
# File systems on which overlayfs, and with it containerd, has no upper layer: without the extended
# attributes or file types it needs (kernel docs, overlayfs, "Upper and lower"; Linux,
# fs/overlayfs/super.c), or in memory, where images do not fit.
UNFIT = frozenset({
    "nfs", "nfs4", "9p", "cifs", "smb3", "afs", "overlay", "overlayfs", "aufs", "tmpfs", "ramfs",
    "vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk", "fuse", "ecryptfs",
})  # fmt: skip


def check(facts: Facts) -> None:
    """Raises Blocked, for the agent and the doctor alike."""
    for path in KEPT:
        mounts.check_lasting(facts, path)
    mount = mounts.of(facts, paths.CONTAINERD)
    if mount and (mount.kind in UNFIT or mount.kind.startswith("fuse.")):
        raise Blocked(
            f"Containers cannot run from {paths.CONTAINERD}: it lies on {mount}, where overlayfs,"
            " which containerd needs, does not work.",
            f"Mount a disk with ext4 at {paths.CONTAINERD}, or start the board from a card or disk"
            " of its own.",
        )


@dataclass(frozen=True)
class RootDisk(Step):
    """First of all: keys that are taken over onto a disk that forgets are lost with the card file
    they came from."""

    name = "root-disk"
    title = "Check that the disk keeps what is written"
    group = "Disk"
    why = "The node keeps its keys and the cluster's data there."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only looks, and stops no node that kubeadm has been at. Raises Blocked."""
        yield from ()
        if facts.live and kubeadm_state.read(facts.host) is kubeadm_state.State.NOTHING:
            check(facts)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        mount = mounts.of(facts, "/")
        return f"{mount.kind}, writable" if mount else "not known"
