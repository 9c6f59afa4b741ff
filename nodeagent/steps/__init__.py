"""The sequence that turns a fresh system into a prepared node, in order, on one screen."""

from __future__ import annotations

from nodeagent.steps.architecture import Architecture
from nodeagent.steps.card_in_board import CardInBoard
from nodeagent.steps.cgroup import Cgroup
from nodeagent.steps.clock import Clock, LastKnownTime
from nodeagent.steps.containerd import Containerd, ContainerdConfig
from nodeagent.steps.firewall import Firewall
from nodeagent.steps.identity import Identity
from nodeagent.steps.ipv6 import Ipv6
from nodeagent.steps.kubelet import Kubelet
from nodeagent.steps.memory import Memory
from nodeagent.steps.modules import Modules
from nodeagent.steps.network import Network
from nodeagent.steps.networks import Networks
from nodeagent.steps.own_address import OwnAddress
from nodeagent.steps.packages import InstalledPackages
from nodeagent.steps.pod_network import PodNetwork
from nodeagent.steps.ports import Ports
from nodeagent.steps.repositories import Repositories
from nodeagent.steps.root_disk import RootDisk
from nodeagent.steps.step import Step, Undoable
from nodeagent.steps.swap import Swap
from nodeagent.steps.sysctls import Sysctls
from nodeagent.steps.watchdog import Watchdog

__all__ = ["CARD", "KERNEL", "SEQUENCE", "SOFTWARE", "Step", "Undoable"]

# Before the fleet's keys are taken over, and before anything speaks for the node: its key may have
# to be another one.
CARD: tuple[Step, ...] = (RootDisk(), CardInBoard())

# What may ask for the one reboot comes first, so that nothing after it is done twice.
KERNEL: tuple[Step, ...] = (
    Architecture(),
    LastKnownTime(),
    Memory(),
    Identity(),
    Cgroup(),
    Swap(),
    Modules(),
    Sysctls(),
    Watchdog(),
    Ports(),
    Networks(),
    Firewall(),
)

# The two that depend on the node's address stand in both, since that may come late.
SOFTWARE: tuple[Step, ...] = (
    Network(),
    OwnAddress(),
    Networks(),
    Firewall(),
    Ipv6(),
    Clock(),
    Repositories(),
    ContainerdConfig(),
    InstalledPackages(),
    PodNetwork(),
    Containerd(),
    Kubelet(),
)

SEQUENCE: tuple[Step, ...] = tuple(dict.fromkeys(CARD + KERNEL + SOFTWARE))
