"""What of a cluster's secrets is in the raw bytes of a disk after a node has left the cluster?"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

from nodeagent import paths
from nodeagent.agent import provision
from nodeagent.cluster import given_up
from nodeagent.host import untrusted
from nodeagent.host.host import Host, Result
from tests.hostile.raw_partitions import MIB, run_tool
from tests.hostile.section import Section
from tests.support import keytraces

# What a control plane has of secrets, each in a file as long as such ones are: those that kubeadm
# removes, and what 0.2.0 kept for its broker.
OF_A_CLUSTER = {
    **{path: 2_000 for path in given_up.SECRETS if "." in path.rpartition("/")[2]},
    "/var/lib/kubelet/pki/kubelet-client-current.pem": 2_000,
    f"{paths.KUBERNETES}/pki/ca.key": 1_700,
    f"{paths.KUBERNETES}/pki/sa.key": 1_700,
    f"{paths.KUBERNETES}/pki/etcd/ca.key": 1_700,
    f"{paths.ETCD}/member/wal/0000000000000000-0000000000000000.wal": 3 * MIB,
    f"{paths.ETCD}/member/snap/db": MIB,
    **{f"{paths.BROKER}/{name}": 250 for name in provision.FORMER if name.endswith(".key")},
}


def left_of_a_cluster(seed: int, overwrites: bool) -> set[str]:
    """A control plane leaves its cluster; the files of which any piece is in the raw bytes of its
    disk. Not ``overwrites``: they are removed only."""
    draw = random.Random(seed)
    keys = {path: draw.randbytes(32) for path in OF_A_CLUSTER}
    with tempfile.TemporaryDirectory() as folder:
        image, place = Path(folder, "root"), Path(folder, "mount")
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(32 * MIB)
        run_tool("mke2fs", "-q", "-F", "-t", "ext4", image)
        run_tool("mount", "-t", "ext4", "-o", "loop", image, place)
        try:
            host = Host(place, lambda argv, timeout, stdin: Result(0))
            for path, size in OF_A_CLUSTER.items():
                before = draw.randrange(size - 32)
                host.path(path).parent.mkdir(parents=True, exist_ok=True)
                text = b"k" * before + keys[path] + b"k" * (size - 32 - before)
                host.path(path).write_bytes(text)
            os.sync()
            if overwrites:
                given_up.overwrite(host)
                untrusted.shred(host, paths.BROKER, *provision.FORMER)
            for name in ("etc", "var"):
                shutil.rmtree(place / name)
        finally:
            run_tool("umount", place)
        return {trace.key for trace in keytraces.search_file(image, keys)}


def run(seed: int) -> Section:
    """What is left where a node leaves its cluster; anything is a fault."""
    found, plain = left_of_a_cluster(seed, True), left_of_a_cluster(seed, False)
    faults = [f"left on the disk: {path}" for path in sorted(found)]
    if plain != OF_A_CLUSTER.keys():
        faults.append(f"the search finds {len(plain)} of {len(OF_A_CLUSTER)} removed files only")
    return Section(
        "What a node gives up",
        "A control plane leaves its cluster on a real ext4. Every file with a secret of the "
        "cluster is overwritten before it is removed; the raw bytes of the disk are searched for "
        "each. The second row shows that the search finds what deletion leaves behind.",
        ("how", "files with a secret", "left in the raw bytes"),
        (
            ("as shipped", str(len(OF_A_CLUSTER)), str(len(found))),
            ("for comparison: files only removed", str(len(OF_A_CLUSTER)), str(len(plain))),
        ),
        tuple(faults),
    )
