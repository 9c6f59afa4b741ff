"""The releases that belong together: what the agent installs by default and the lab proves.

Sources: etcd, CoreDNS and pause are what kubeadm of that release asks for
(``DefaultEtcdVersion``, ``CoreDNSVersion``, ``PauseVersion`` in its
``cmd/kubeadm/app/constants/constants.go``); containerd is of a line that its RELEASES.md
("Kubernetes Support") lists for that Kubernetes minor, and ``containerd_minimum`` the oldest
line listed there; runc comes with containerd's package, and the lab builds the one that
containerd names in its ``script/setup/runc-version``. The pod networks' are in ``cni``.

A Kubernetes release enters this table when the lab has formed a cluster of it; the newest is the
default. The lab builds from Go modules, each verified against the Go checksum database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Tested:
    """One set of releases that was run together.

    ``kubernetes`` and ``containerd`` are plain versions, the others are image tags, written
    exactly as kubeadm writes them.
    """

    kubernetes: str
    containerd: str
    containerd_minimum: tuple[int, int]
    runc: str
    cri_tools: str
    pause: str
    etcd: str
    coredns: str

    @property
    def minor(self) -> str:
        """The Kubernetes minor, ``1.36``: one apt repository upstream holds one minor."""
        return ".".join(self.kubernetes.split(".")[:2])

    @property
    def deb(self) -> str:
        """Version pattern for apt of this release's packages, any packaging revision."""
        return DEB_REVISION.format(version=self.kubernetes)


# The Kubernetes project numbers its packages VERSION-REVISION (1.36.4-1.1); the revision says
# only that the same release was packed again, so any is right. apt takes the pattern as it is.
DEB_REVISION: Final = "{version}-*"

TESTED: Final[tuple[Tested, ...]] = (
    Tested(
        kubernetes="1.37.2",
        containerd="2.3.7",
        containerd_minimum=(2, 3),
        runc="1.5.2",
        cri_tools="1.37.0",
        pause="3.10.2",
        etcd="3.7.0-0",
        coredns="v1.14.6",
    ),
    Tested(
        kubernetes="1.36.4",
        containerd="2.3.7",
        # The kubelet itself would run with 1.7, by a fallback that 1.38 drops (KEP-4033); that
        # line is out of support since September 2026 and unlisted for this minor.
        containerd_minimum=(2, 2),
        runc="1.5.2",
        cri_tools="1.36.0",
        pause="3.10.2",
        etcd="3.6.8-0",
        coredns="v1.14.2",
    ),
)

DEFAULT: Final = TESTED[0]


def tested(minor: str) -> Tested | None:
    """The tested set of a Kubernetes minor (``"1.36"``), or None when there is none."""
    return next((one for one in TESTED if one.minor == minor), None)
