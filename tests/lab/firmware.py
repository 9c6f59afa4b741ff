"""The double of a Raspberry Pi's firmware: what it makes of the boot partition at power-on.

Double 1, the boot files: config.txt's ``os_prefix`` and ``cmdline`` (sections ``[all]`` and none)
say which file holds the kernel's arguments; only its first line counts. As on a Pi the arguments
of the device tree (``/chosen/bootargs``: ``cgroup_disable=memory numa_policy=interleave``) stand
before it. Sources: raspberrypi.com/documentation "config.txt"; raspberrypi/linux pull request 6439.

Double 2, the kernel: ``cgroup_enable=memory`` exists in Raspberry Pi's kernel only
(kernel/cgroup/cgroup.c of its branches 6.12 and later; issue raspberrypi/linux#6980). Debian's
kernel knows ``cgroup_disable=`` alone, so ``resolve`` does that patch's work: the last word about
a controller wins, and a ``cgroup_disable`` that was overruled is not handed on. ``cgroup_memory=1``
has no effect, as on those kernels.
"""

from __future__ import annotations

from collections.abc import Callable

DEVICE_TREE = "cgroup_disable=memory numa_policy=interleave"
LIMIT = 2047  # COMMAND_LINE_SIZE less the NUL; the kernel cuts what is beyond

Reader = Callable[[str], str | None]


def settings(config: str) -> dict[str, str]:
    """The plain ``name=value`` lines of config.txt that hold for every board."""
    found: dict[str, str] = {}
    applies = True
    for raw in config.splitlines():
        line = raw.strip()
        if line.startswith("["):
            applies = line == "[all]"
        elif applies and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
    return found


def command_line(read: Reader) -> str:
    """The kernel's arguments for this power-on. ``read`` gives a file of the boot partition."""
    chosen = settings(read("config.txt") or "")
    prefix, name = chosen.get("os_prefix", ""), chosen.get("cmdline", "cmdline.txt")
    # The firmware drops a prefix below which there is no kernel; here: no command line.
    text = read(prefix + name)
    if text is None and prefix:
        text = read(name)
    lines = (text or "").lstrip("\ufeff").splitlines()
    first = lines[0].strip() if lines else ""
    return resolve(f"{DEVICE_TREE} {first}")[:LIMIT]


def for_pi(line: str) -> str:
    """``line`` for QEMU's Raspberry Pi 3 with Debian's kernel: the firmware would put the serial
    port's name there; systemd keeps off the watchdog, since QEMU takes its arming for a reset
    (hw/misc/bcm2835_powermgt.c: WRCFG_FULL_RESET); and QEMU's network device is not taken for one
    of the gadgets that cdc_subset drives too, where that module is there first: no packet passes
    then. It is eth0, as Raspberry Pi OS calls the one on board."""
    own = "systemd.watchdog_sec=off modprobe.blacklist=cdc_subset net.ifnames=0"
    return f"{line} console=ttyS1,115200 {own}"


def resolve(line: str) -> str:
    """``line`` as Raspberry Pi's kernel understands its cgroup words (double 2)."""
    words = line.split()
    disabled: dict[str, bool] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in ("cgroup_disable", "cgroup_enable"):
            for controller in value.split(","):
                disabled[controller] = name == "cgroup_disable"
    kept = []
    for word in words:
        name, _, value = word.partition("=")
        if name == "cgroup_disable":
            still = [one for one in value.split(",") if disabled[one]]
            if not still:
                continue
            word = f"{name}={','.join(still)}"
        kept.append(word)
    return " ".join(kept)
