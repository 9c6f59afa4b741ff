"""Checks of the board and its disk."""

from __future__ import annotations

from nodeagent import paths
from nodeagent.cluster import requirements
from nodeagent.doctor.finding import Check, Node, Seen, fail, unknown, warn, well
from nodeagent.errors import Blocked
from nodeagent.host import hardware
from nodeagent.statefile import StateFile
from nodeagent.steps import root_disk
from nodeagent.steps.memory import Memory

GIB = 1 << 30
NEEDED_FREE = 3 * GIB  # packages and images of a control plane take somewhat over 2 GiB
# The kubelet's defaults for eviction: nodefs.available < 10 %, imagefs.available < 15 %
# (Kubernetes docs, "Node-pressure eviction").
EVICTS, DELETES_IMAGES = 0.10, 0.15
HOT = 80.0  # degrees Celsius from which Pis slow down (raspberrypi.com, "Frequency management")
FAST_MS, SLOW_MS = 10.0, 50.0  # as the election counts disks; etcd wants less than the first


def model(node: Node) -> Seen:
    """Which board this is; other machines work too."""
    return well(node.facts.model or f"no Raspberry Pi, {node.facts.architecture or 'unknown'}")


def memory_size(node: Node) -> Seen:
    """Enough for a control plane, or only for a worker. The step speaks for a chosen role."""
    found = node.facts.memory_mib
    if not found:
        return unknown("/proc/meminfo cannot be read")
    try:
        list(Memory().plan(node.facts, node.settings))
    except Blocked as blocked:
        return fail(blocked.reason, blocked.remedy)
    value = f"{found} MiB, {node.facts.cpus} CPU{'s' if node.facts.cpus != 1 else ''}"
    if requirements.can_lead(node.facts):
        return well(value)
    if node.settings.role == "worker":
        return well(f"{value}, enough for a worker")
    return warn(
        f"{value}, enough for a worker only",
        f"Have one board with {requirements.MEMORY_MIB} MiB and {requirements.CPUS} CPUs in the"
        " fleet.",
    )


def page_size(node: Node) -> Seen:
    """The Raspberry Pi 5's kernel has 16 KiB pages."""
    size = hardware.page_size(node.facts)
    if not size:
        return unknown("/proc/self/auxv cannot be read")
    value = f"{size // 1024} KiB"
    if size == 4096:
        return well(value)
    return warn(
        value,
        "If a container ends with `Unsupported system page size`, add kernel=kernel8.img to"
        " /boot/firmware/config.txt and reboot: that kernel has 4 KiB pages.",
    )


def power(node: Node) -> Seen | None:
    """What the firmware noticed of the power supply and of heat."""
    found = hardware.power(node.facts)
    if found is None:
        return unknown("the firmware does not tell") if node.facts.model else None
    remedy = "Use the board's own power supply and a short cable; take off what draws power by USB."
    if not any("voltage" in one for one in (*found.now, *found.since_boot)):
        remedy = "Give the board a cooler, or more air."
    if any("voltage" in one for one in found.now):
        return fail(f"{', '.join(found.now)} now", remedy)
    if found.now:
        return warn(f"{', '.join(found.now)} now", remedy)
    if found.since_boot:
        return warn(f"well now; since boot: {', '.join(found.since_boot)}", remedy)
    return well("no under-voltage, not throttled")


def temperature(node: Node) -> Seen | None:
    """Of the processor."""
    found = hardware.temperature(node.facts)
    if found is None:
        return None
    value = f"{found:.0f} degrees Celsius"
    return warn(value, "Give the board a cooler, or more air.") if found >= HOT else well(value)


def root_file_system(node: Node) -> Seen:
    """Keeps what is written, and containers can live on it; of a member too, which the step lets
    be."""
    try:
        root_disk.check(node.facts)
    except Blocked as blocked:
        return fail(blocked.reason, blocked.remedy)
    found = root_disk.RootDisk().holds(node.facts, node.settings)
    return unknown("/proc/mounts cannot be read") if found == "not known" else well(found)


def disk_space(node: Node) -> Seen:
    """Room for packages, images and logs."""
    free, total = node.facts.host.space("/var")
    value = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    formed = node.facts.exists(paths.KUBELET_CONF)
    remedy = "Use a larger card, or remove what is not needed: sudo apt-get clean."
    if free < total * EVICTS or free < GIB // 2:
        return fail(value, remedy)
    if free < total * DELETES_IMAGES or (free < NEEDED_FREE and not formed):
        return warn(value, remedy)
    return well(value)


def fsync(node: Node) -> Seen:
    """The agent measures it once, and keeps it."""
    found = StateFile(node.facts.host).values["fsync_ms"]
    if not isinstance(found, int | float):
        return unknown("not measured yet", "The agent measures it at its first start.")
    value = f"{found:.1f} ms"
    if found < FAST_MS:
        return well(value)
    grade = "slow" if found < SLOW_MS else "very slow"
    return warn(f"{value}, {grade}", "Let a board with an SSD, or a better card (A2), lead.")


CHECKS = (
    Check("model", "Board", "Boot files and watchdog differ from board to board.", model),
    Check(
        "memory", "Board",
        "kubeadm makes no control plane on a smaller board.", memory_size,
    ),
    Check(
        "page-size", "Board",
        "Images that were built for 4 KiB pages, many of them with jemalloc, do not start on"
        " larger ones. Kubernetes itself does.", page_size,
    ),
    Check(
        "power", "Board",
        "With too little voltage a board resets or damages its card; a hot one slows down until"
        " the control plane misses its deadlines.", power,
    ),
    Check("temperature", "Board", "A hot board slows itself down.", temperature),
    Check(
        root_disk.RootDisk.name, "Disk", root_disk.RootDisk.why, root_file_system,
    ),
    Check(
        "disk-space", "Disk",
        "Installing needs about 3 GiB. Below 15 % the kubelet deletes images, below 10 % it sends"
        " pods away.", disk_space,
    ),
    Check(
        "fsync", "Disk",
        "etcd waits for the disk at each write and wants less than 10 ms; slower boards are"
        " passed over by the election.", fsync,
    ),
)  # fmt: skip
