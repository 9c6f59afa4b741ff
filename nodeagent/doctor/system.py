"""Checks of the system and the network that no step looks after."""

from __future__ import annotations

import re
import sys

from nodeagent import paths
from nodeagent.cluster import closed_ports, cni, health
from nodeagent.cluster import ports as portlist
from nodeagent.doctor.finding import Check, Node, Seen, fail, unknown, warn, well
from nodeagent.host import hardware
from nodeagent.host.boot import files
from nodeagent.host.net import sockets
from nodeagent.steps import cgroup

# kubeadm's SystemVerification (k8s.io/system-validators 1.12, types_unix.go), with those for
# cgroup v2.
KERNEL_OPTIONS = frozenset({
    "NAMESPACES", "NET_NS", "PID_NS", "IPC_NS", "UTS_NS", "CGROUPS", "CPUSETS", "MEMCG", "INET",
    "EXT4_FS", "PROC_FS", "NETFILTER_XT_TARGET_REDIRECT", "NETFILTER_XT_MATCH_COMMENT",
    "FAIR_GROUP_SCHED", "CGROUP_BPF", "CGROUP_PIDS", "CGROUP_SCHED",
})  # fmt: skip
IFF_MULTICAST = 0x1000  # linux/if.h


def operating_system(node: Node) -> Seen:
    """Debian, Raspberry Pi OS or Ubuntu."""
    found = f"{node.facts.os_id} {node.facts.codename}".strip()
    if node.facts.os_id in ("debian", "ubuntu", "raspbian") and node.facts.codename:
        return well(f"{found}, kernel {node.facts.kernel}, Python {sys.version.split()[0]}")
    return warn(found or "unknown", "Use Raspberry Pi OS (64-bit), Debian or Ubuntu Server.")


def kernel_options(node: Node) -> Seen:
    """What kubeadm asks of the kernel's configuration."""
    found = hardware.kernel_options(node.facts)
    if found is None:
        return unknown(
            "the kernel does not tell",
            "`sudo modprobe configs` makes /proc/config.gz, where the kernel has it; kubeadm does"
            " that by itself.",
        )
    missing = sorted(KERNEL_OPTIONS - found)
    if missing:
        return fail(f"without {', '.join(missing)}", "Use the distribution's own kernel.")
    return well("all that kubeadm asks for")


def settings(node: Node) -> Seen:
    """Files that are read are right."""
    if node.trouble is not None:
        if isinstance(node.trouble.__cause__, PermissionError):
            raise node.trouble.__cause__
        return fail(f"{node.trouble.reason} ({node.trouble.code})", node.trouble.remedy)
    return well(f"role {node.settings.role}, Kubernetes {node.settings.kubernetes.version}")


def boot_files(node: Node) -> Seen | None:
    """Found, where there is firmware that reads them."""
    try:
        found = files.find(node.facts, cgroup.WANTED)
    except LookupError as error:
        if not node.facts.model:
            return None
        return fail(str(error), "Check that the boot partition is mounted: findmnt /boot/firmware")
    return well(", ".join((found.cmdline, *found.others)))


def machine_id(node: Node) -> Seen:
    """Cards cloned after a first boot share one, and get one address from DHCP."""
    found = node.facts.machine_id
    if re.fullmatch(r"[0-9a-f]{32}", found):
        return well("there")
    return warn(found or "empty", "systemd makes one at boot: reboot, or systemd-machine-id-setup.")


def dns(node: Node) -> Seen:
    """Somebody is there to ask for names; whether they answer is for --online."""
    text = node.facts.text(paths.RESOLV_CONF) or ""
    found = re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)
    if found:
        return well(", ".join(found))
    return fail("no name server", "Check what the router's DHCP gives, or /etc/resolv.conf.")


def multicast(node: Node) -> Seen:
    """The interface carries it."""
    name = node.facts.interface(node.settings.network.interface)
    if name is None:
        return unknown("no network yet")
    flags = (node.facts.text(f"/sys/class/net/{name}/flags") or "").strip()
    if re.fullmatch(r"0x[0-9a-f]+", flags) and not int(flags, 16) & IFF_MULTICAST:
        return fail(
            f"off on {name}", f"sudo ip link set {name} multicast on; or list `control_plane:`."
        )
    peers = len(node.status["peers"]) if node.status else 0
    return well(f"{name}{f', {peers} other nodes heard' if peers else ''}")


def listening(node: Node) -> Seen:
    """Which of the cluster's ports are in use now."""
    held = {(one.protocol, one.port) for one in sockets.listeners(node.facts)}
    ports = portlist.known(node.settings)
    found = [f"{p.number} {p.what}" for p in ports if (p.protocol, p.number) in held]
    return well(", ".join(found) or "none of the cluster's ports is in use")


def unclear_rules(node: Node) -> Seen | None:
    """Rules that may close a port; those that surely do are the step's."""
    unread = closed_ports.unread_tables(node.facts)
    if unread:
        return warn(
            f"iptables' legacy tables are in use too ({unread}), and could not be read",
            "Look with `sudo iptables-legacy-save` whether they close the cluster's ports; or move"
            " the rules to nftables: sudo update-alternatives --config iptables.",
        )
    unclear = closed_ports.closing(node.facts, node.settings, surely=False)
    if not unclear:
        return None
    return warn(
        f"may close {closed_ports.in_words(unclear)}",
        "Check that the rules let this through, or run"
        f" {closed_ports.rules_to_add(unclear, node.settings)}.",
    )


def online(node: Node) -> Seen | None:
    """The repositories and registries take connections; asked only where that is wished."""
    if not node.online:
        return None
    wanted = node.settings
    places = (
        wanted.kubernetes.repository,
        wanted.containerd.repository,
        wanted.kubernetes.image_repository,
        *sorted({image.partition("/")[0] for image in cni.chosen(wanted).images_for(wanted)}),
    )
    silent = []
    for place in places:
        found = re.match(r"(?:(https?)://)?([^/:]+)(?::(\d+))?", place)
        if found is None:
            continue
        port = int(found[3] or (80 if found[1] == "http" else 443))
        if not health.answers(found[2], port):
            silent.append(f"{found[2]}:{port}")
    if silent:
        return fail(
            f"no answer from {', '.join(dict.fromkeys(silent))}",
            "Check the way to the internet, its firewall and the addresses in the settings.",
        )
    return well("repositories and registries answer")


CHECKS = (
    Check("system", "System", "The packages and units differ from system to system.",
          operating_system),
    Check("kernel-options", "System", "kubeadm refuses a kernel without them.", kernel_options),
    Check("settings", "System", "With a wrong line the agent changes nothing at all.", settings),
    Check("boot-files", "System", "The memory cgroup is turned on there.", boot_files),
    Check("machine-id", "System", "Routers and the pod network tell nodes apart by it.",
          machine_id),
    Check("name-servers", "Network", "Packages and images are found by name.", dns),
    Check("multicast", "Network", "The nodes find each other by multicast DNS.", multicast),
    Check("nftables", "Network",
          "A rule that drops packets is final: no rule of another table can let them in again.",
          unclear_rules),
    Check("listening", "Network", "Each of these ports belongs to one part of the cluster.",
          listening),
    Check("online", "Network", "Packages and images come from there.", online),
)  # fmt: skip
