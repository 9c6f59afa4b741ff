"""Names made from what is the board's own. A helper, not a step."""

from __future__ import annotations

import hashlib
import hmac
import re

from nodeagent.host.facts import Facts

# The kubelet's credentials, made out to the node's name (kubeadm docs, "Implementation details").


def usable_serial(serial: str) -> str:
    """Letters and digits of a serial number in lower case; empty where it tells nothing."""
    plain = re.sub(r"[^0-9a-z]", "", serial.lower())
    return plain if len(plain) >= 6 and plain.strip("0") else ""


def name_of(serial: str) -> str:
    """``pi-`` and the last six characters of a usable serial number."""
    return f"pi-{serial[-6:]}" if serial else ""


def board_mark(facts: Facts, key: bytes) -> str:
    """What tells this board from others to its fleet, whichever card it has, and shows nobody its
    serial number: an HMAC (RFC 2104) of that by a ``key`` of the fleet's, in hex; empty where there
    is no usable one."""
    serial = usable_serial(facts.serial)
    return hmac.digest(key, b"board " + serial.encode(), "sha256").hex()[:32] if serial else ""


def is_machine_id(text: str) -> bool:
    """True for an id (machine-id(5)); not for an empty file or ``uninitialized``."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def made_name(facts: Facts) -> str:
    """``pi-`` and six characters of what is the board's own: serial number, hardware address,
    or, for want of both, the machine id (cloned cards share that one)."""
    serial = usable_serial(facts.serial)
    if serial:
        return name_of(serial)
    mac = facts.wired_mac.replace(":", "")
    if mac:
        return f"pi-{mac[-6:]}"
    if is_machine_id(facts.machine_id):
        # machine-id(5) asks not to show the id itself.
        return f"pi-{hashlib.sha256(b'nodeagent' + facts.machine_id.encode()).hexdigest()[:6]}"
    return ""
