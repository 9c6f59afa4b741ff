"""What kubeadm asks of a board that leads."""

from __future__ import annotations

from nodeagent.host.facts import Facts

CPUS, MEMORY_MIB = 2, 1700  # kubeadm's preflight NumCPU and Mem for a control plane


def can_lead(facts: Facts) -> bool:
    """True where kubeadm would let this board be a control plane."""
    return facts.cpus >= CPUS and facts.memory_mib >= MEMORY_MIB
