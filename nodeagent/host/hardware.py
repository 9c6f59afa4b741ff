"""What the board says about itself: pages, power, heat, the root disk and the kernel's options.

Parsers and readers like those of ``facts``; what cannot be read gives the empty answer.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from nodeagent.host.facts import Facts

AT_PAGESZ = 6  # getauxval(3); the auxiliary vector is pairs of machine words
# Bits of the firmware's throttled word; the same shifted left by 16: since boot (raspberrypi.com
# documentation, "vcgencmd", get_throttled).
UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 1, 2, 4, 8
SINCE_BOOT = 16
VCGENCMD = "/usr/bin/vcgencmd"


@dataclass(frozen=True)
class Power:
    """What the firmware noticed: names of troubles now, and of those since boot."""

    now: tuple[str, ...]
    since_boot: tuple[str, ...]


NAMES = {
    UNDER_VOLTAGE: "under-voltage",
    CAPPED: "frequency capped",
    THROTTLED: "throttled",
    SOFT_LIMIT: "soft temperature limit",
}


def page_size(facts: Facts) -> int:
    """Bytes in a page of memory, from the auxiliary vector of this process; 0 where unknown."""
    data = facts.read("/proc/self/auxv") or b""
    for kind, value in struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]):
        if kind == AT_PAGESZ:
            return int(value)
    return 0


def power(facts: Facts) -> Power | None:
    """What the firmware says about power and heat; None on boards that do not tell.

    The firmware driver's own file first, since it costs no process; it has moved within
    /sys/devices/platform/soc* between kernels. Mainline kernels have only the voltage alarm
    (kernel docs, hwmon/raspberrypi-hwmon).
    """
    platform = "/sys/devices/platform"
    for soc in facts.names(platform):
        if not soc.startswith("soc"):
            continue
        for name in facts.names(f"{platform}/{soc}"):
            text = facts.text(f"{platform}/{soc}/{name}/get_throttled") if "firm" in name else None
            if text is not None:
                return decode(text)
    if facts.exists(VCGENCMD):
        answer = facts.ask("vcgencmd", "get_throttled")
        if answer.status == 0:
            return decode(answer.out)
    for name in facts.names("/sys/class/hwmon"):
        folder = f"/sys/class/hwmon/{name}"
        if (facts.text(f"{folder}/name") or "").strip() == "rpi_volt":
            alarm = (facts.text(f"{folder}/in0_lcrit_alarm") or "").strip() == "1"
            return Power((NAMES[UNDER_VOLTAGE],) if alarm else (), ())
    return None


def decode(text: str) -> Power | None:
    """``throttled=0x50005`` or ``50005``, hexadecimal, as names; None where it is neither."""
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    if found is None:
        return None
    word = int(found[1], 16)
    return Power(
        tuple(name for bit, name in NAMES.items() if word & bit),
        tuple(name for bit, name in NAMES.items() if word & bit << SINCE_BOOT),
    )


def temperature(facts: Facts) -> float | None:
    """Degrees Celsius of the processor, or None (kernel docs, thermal sysfs API: milli-degrees)."""
    text = (facts.text("/sys/class/thermal/thermal_zone0/temp") or "").strip()
    return int(text) / 1000 if re.fullmatch(r"-?[0-9]{1,7}", text) else None


def kernel_options(facts: Facts) -> frozenset[str] | None:
    """Options that the running kernel was built with, ``y`` or ``m``, without ``CONFIG_``; None
    where the kernel does not tell. The places in which kubeadm looks (k8s.io/system-validators,
    kernel_validator.go)."""
    packed = facts.read("/proc/config.gz")
    if packed is not None:
        try:
            text = zlib.decompress(packed, wbits=zlib.MAX_WBITS | 16).decode("ascii", "replace")
        except zlib.error:
            return None
    else:
        found = facts.text(f"/boot/config-{facts.kernel}")
        if found is None:
            found = facts.text(f"/lib/modules/{facts.kernel}/build/.config")
        if found is None:
            return None
        text = found
    return frozenset(re.findall(r"^CONFIG_(\w+)=[ym]$", text, re.MULTILINE))
