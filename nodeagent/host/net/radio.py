"""Is the Wi-Fi switched off? (kernel docs, ABI/stable/sysfs-class-rfkill)"""

from __future__ import annotations

from typing import Literal

from nodeagent.host.facts import Facts

FOLDER = "/sys/class/rfkill"


def blocked(facts: Facts) -> Literal["", "soft", "hard"]:
    """``soft``: every Wi-Fi radio is switched off by software, as Raspberry Pi OS leaves it until
    a country is set; ``hard``: by a switch of the device. Empty where one may send, or none is
    there."""
    radios = [
        f"{FOLDER}/{name}"
        for name in facts.names(FOLDER)
        if (facts.text(f"{FOLDER}/{name}/type") or "").strip() == "wlan"
    ]
    hard = [one for one in radios if (facts.text(f"{one}/hard") or "").strip() == "1"]
    soft = [one for one in radios if (facts.text(f"{one}/soft") or "").strip() == "1"]
    if not radios or {*hard, *soft} != {*radios}:
        return ""
    return "hard" if len(hard) == len(radios) else "soft"
