"""Checks of the system and the network that no step looks after."""

from __future__ import annotations

import re
import sys

from nodeagent import paths
from nodeagent.cluster import closed_ports, cni, health, resolver
from nodeagent.cluster import ports as portlist
from nodeagent.doctor.finding import Check, Node, Seen, fail, unknown, warn, well
from nodeagent.errors import Blocked
from nodeagent.host import hardware
from nodeagent.host.boot import device, files
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
    value = ", ".join((found.cmdline, *found.others))
    try:
        cgroup.check_disk(node.facts, found.cmdline)
    except Blocked as blocked:
        return warn(blocked.reason, blocked.remedy)
    started = node.facts.live and node.facts.model and node.facts.read(paths.CMDLINE)
    if started and not files.was_read(node.facts, found.cmdline, cgroup.WANTED):
        here = device.disk_of(node.facts, found.cmdline)
        others = " or ".join(device.others(node.facts, found.cmdline))
        return warn(
            f"{value}{f' on {here}' if here else ''}: the kernel was not started with it",
            "Nothing to do if the file was changed since the last boot. If not, the board starts"
            f" from another disk{f', {others}' if others else ''}; take that out, or"
            " change BOOT_ORDER with `sudo rpi-eeprom-config --edit`.",
        )
    return well(value)


def machine_id(node: Node) -> Seen:
    """Cards cloned after a first boot share one, and get one address from DHCP."""
    found = node.facts.machine_id
    if re.fullmatch(r"[0-9a-f]{32}", found):
        return well("there")
    return warn(found or "empty", "systemd makes one at boot: reboot, or systemd-machine-id-setup.")


def dns(node: Node) -> Seen:
    """Somebody is there to ask for names; whether they answer is for --online."""
    found = resolver.servers(node.facts, paths.RESOLV_CONF)
    other = resolver.other_file(node.facts)
    if other:
        return well(f"{', '.join(found)}; pods ask those in {other}")
    if node.facts.exists(paths.KUBELET_CONF):  # before that, the step `network` says it
        try:
            resolver.check(node.facts)
        except Blocked as blocked:
            return warn(blocked.reason, blocked.remedy)
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


def network_files(node: Node) -> Seen | None:
    """Of other pod networks; before a node is a member, those that win are the step's."""
    before, after = cni.of_others(node.facts, node.settings)
    name = node.settings.network.cni
    if not node.facts.exists(paths.KUBELET_CONF):
        if not after:
            return None
        return warn(
            f"{', '.join(after)}: pods that start before {name} get that network",
            "Move it aside, or remove the program that brought it, before the node joins.",
        )
    if not before:
        return None
    return warn(
        f"{', '.join(before)}: stands before {name}'s own, so new pods get that network",
        f"If {name} is the network you want, move the file out of {paths.CNI_CONFIG} and restart"
        " the pods with wrong addresses.",
    )


def other_network(node: Node) -> Seen | None:
    """Settings that want another pod network than the cluster has."""
    wanted = node.overruled
    if wanted is None:
        return None
    return warn(
        f"{wanted.where} wants {wanted.value}, and the cluster has"
        f" {node.settings.network.cni}: a running one keeps its pod network",
        "Take that line out; or to change it, run `sudo nodeagent reset` on all boards, which ends"
        " the cluster, and power them on with the new settings.",
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
        *sorted(
            {
                registry
                for image in cni.images(node.facts.host, wanted)
                if "." in (registry := image.partition("/")[0]) or ":" in registry
            }
        ),
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
    Check("cni-files", "Network",
          "containerd takes the first file by name in /etc/cni/net.d for the pods' network.",
          network_files),
    Check("cluster-network", "Network", "All nodes of a cluster have one pod network.",
          other_network),
    Check("listening", "Network", "Each of these ports belongs to one part of the cluster.",
          listening),
    Check("online", "Network", "Packages and images come from there.", online),
)  # fmt: skip
