"""What a status says besides the node's own story: versions, certificates, hardware, tokens.

``take`` loads much, so the keeper has it done by a process of its own (``nodeagent inventory``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nodeagent import __version__, formats, paths
from nodeagent.errors import OtherVersion
from nodeagent.host.host import Host

if TYPE_CHECKING:
    from nodeagent.status.schema import Certificate, Status, Warned

PKI = (paths.KUBERNETES_PKI, paths.ETCD_PKI)
OTHERS = (
    paths.KUBELET_CLIENT,
    paths.BROKER_CLIENT_CERT,
    paths.BROKER_CERT,
    paths.SERVER_CERT,
)
MAX_TEXT = 300
FORMAT = 1  # of what is printed


def take(host: Host) -> Status:
    """``versions``, ``certificates`` and ``hardware`` as in the status. What cannot be read is
    left out."""
    return {
        "versions": versions(host),
        "certificates": certificates(host),
        "hardware": hardware(host),
    }


def printed(host: Host) -> str:
    """The same as ``nodeagent inventory`` prints it."""
    return json.dumps({formats.KEY: FORMAT, **take(host)})


def parse(text: str) -> Status:
    """What ``nodeagent inventory`` printed; empty where it failed, or is of a later version than
    the keeper that asked."""
    try:
        value = json.loads(text)
        formats.check(value[formats.KEY], "nodeagent inventory", FORMAT)
        return {
            "versions": value["versions"],
            "certificates": value["certificates"],
            "hardware": value["hardware"],
        }
    except (ValueError, KeyError, TypeError, OtherVersion):
        return {}


def versions(host: Host) -> dict[str, str]:
    """What is installed, as the packages' upstream versions."""
    from nodeagent.host.facts import Facts

    facts = Facts(host)
    try:
        packages = facts.packages
    except OSError:
        return {"nodeagent": __version__}  # the steps need them too, and complain
    containerd = packages.version("containerd.io") or packages.version("containerd") or ""
    return {
        "nodeagent": __version__,
        "kubernetes": packages.version("kubelet") or "",
        "containerd": containerd,
        "kernel": facts.kernel,
        "system": f"{facts.os_id} {facts.codename}".strip(),
    }


def certificates(host: Host) -> list[Certificate]:
    """Each with its end and who renews it. The kubelet renews its own (kubernetes.io,
    "Certificate Rotation"), the agent kubeadm's and its own (``cluster/renewal.py``)."""
    from nodeagent.cluster import credentials

    paths = [
        f"{folder}/{name}" for folder in PKI for name in host.names(folder) if name.endswith(".crt")
    ]
    found: list[Certificate] = []
    for path in (*paths, *OTHERS):
        try:
            end = credentials.ends(host.read(path) or b"")
        except (OSError, ValueError):
            continue  # the doctor and its owner complain
        if end is not None:
            renewal = "never" if path.endswith("ca.crt") else "automatic"
            found.append({"name": path, "expires": end, "renewal": renewal})
    return found


def hardware(host: Host) -> list[Warned]:
    """The doctor's findings about board and disk that are not well."""
    from nodeagent.doctor import checkup
    from nodeagent.doctor import hardware as checks

    node = checkup.look(host)
    findings = [checkup.finding(check, node) for check in checks.CHECKS]
    return [
        {"name": one.name, "level": one.level, "text": one.value, "remedy": one.remedy}
        for one in findings
        if one is not None and one.level in ("warning", "failure")
    ]
