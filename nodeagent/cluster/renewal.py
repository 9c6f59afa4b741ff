"""Certificates of the cluster that end, and what renews them.

kubeadm's live a year and are renewed by nobody but `kubeadm upgrade` (kubernetes.io, "Certificate
Management with kubeadm"); a kubelet renews its own while it runs, and cannot once it has expired.
So a control plane renews a month ahead, and a board that lay in a drawer for a year comes back by
itself: the CA, which lives ten years, is on the control plane, and a worker asks for a new grant.
Fleet certificates do not end (``trust/pki.py``).
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from nodeagent import paths
from nodeagent.cluster import credentials, kubeadm, kubelet_certificate
from nodeagent.cluster.kubeadm_state import FOLDER
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.timesync import synchronised

LOG = logging.getLogger("nodeagent")

SOON = 30 * 86400  # seconds; a month of power cuts and wrong clocks to find a good moment in
MARK, BEFORE = f"{FOLDER}/renewing", f"{FOLDER}/before-renewal"
PKI = f"{paths.KUBERNETES}/pki"
# kubernetes.io, "PKI certificates and requirements"; the CAs are not among them.
KUBEADMS = (
    *(f"{PKI}/{name}.crt" for name in ("apiserver", "apiserver-etcd-client",
                                       "apiserver-kubelet-client", "front-proxy-client",
                                       "etcd/server", "etcd/peer", "etcd/healthcheck-client")),
    *(f"{paths.KUBERNETES}/{name}.conf" for name in ("admin", "super-admin", "controller-manager",
                                               "scheduler")),
)  # fmt: skip
# Made anew at each start of the agent on a control plane.
OURS = (paths.BROKER_CLIENT_CERT,)
STATIC_PODS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
RENEW_BOUND, STOP_BOUND = 300, 120  # seconds


def end(data: bytes | None) -> float | None:
    """When the certificate in a PEM file or a kubeconfig ends, in seconds since the epoch; None
    where there is none that can be read."""
    embedded = re.search(rb"client-certificate-data: *([A-Za-z0-9+/=]+)", data or b"")
    try:
        return credentials.ends(base64.b64decode(embedded[1]) if embedded else data or b"")
    except (ValueError, binascii.Error):
        return None


def ends(host: Host, *paths: str) -> dict[str, float]:
    """When each of these ends, where it is there. Raises OSError."""
    found = {path: end(host.read(path)) for path in paths}
    return {path: moment for path, moment in found.items() if moment is not None}


def due(moments: Mapping[str, float], now: float, ahead: float = SOON) -> list[str]:
    """Which of them end within ``ahead`` seconds, or have ended."""
    return [path for path, moment in moments.items() if moment - now < ahead]


def is_due(host: Host, now: float) -> bool:
    """True where the whole agent has something to renew on this control plane. Raises OSError."""
    return host.exists(MARK) or bool(due(ends(host, *KUBEADMS, *OURS), now))


def agent_has_to(host: Host) -> bool:
    """The same, or ``born_ahead``, where the clock is known to be right. Raises OSError."""
    leads, now = host.exists(f"{paths.KUBERNETES}/admin.conf"), host.clock.now()
    has_to = born_ahead(host, now) is not None or (leads and is_due(host, now))
    return has_to and synchronised(Facts(host))


def born_ahead(host: Host, now: float) -> Blocked | None:
    """What to say where the cluster's CA is not valid yet: nobody in it can prove anything, and no
    renewal helps. Raises OSError."""
    try:
        begin = credentials.begins(host.read(paths.KUBERNETES_CA) or b"")
    except ValueError:
        return None
    if begin is None or begin <= now:
        return None
    return Blocked(
        f"The cluster's certificates are valid only from {_shown(begin)} UTC on, and it is"
        f" {_shown(now)}: the clock was ahead when the cluster was made, or is behind now.",
        "Look at `timedatectl`. If the clock is right now, make the cluster anew: `sudo nodeagent"
        " reset` on each of its nodes, then `sudo systemctl enable --now nodeagent"
        " nodeagent-serve`.",
    )


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def expired(host: Host, now: float) -> bool:
    """True where the kubelet's own certificate has ended, so that it cannot renew it itself."""
    return bool(due(ends(host, paths.KUBELET_CLIENT), now, ahead=0))


def renew(host: Host, name: str, now: float) -> bool:
    """Renew what is due on the control plane ``name``; True where anything was.

    ``now`` must come from a clock that is known to be right. Repeatable from any point: kubeadm
    syncs nothing, so a power cut may leave a torn file or a key beside another's certificate; the
    next try begins from the copy that was made before. Raises CommandFailed, OSError.
    """
    late = due(ends(host, *KUBEADMS), now)
    kubelet, broken_off = expired(host, now), host.exists(MARK)
    if not late and not kubelet and not broken_off:
        return False
    LOG.info("renewing certificates: %s", ", ".join(late) or paths.KUBELET_CLIENT)
    if broken_off:
        host.call("cp", "-a", f"{BEFORE}/.", paths.KUBERNETES)
    else:
        _keep(host)
    host.write(MARK, b"", 0o600)
    if late or broken_off:
        # With the file, since the API server cannot be asked once its certificates have ended.
        host.call(
            "kubeadm", "certs", "renew", "all", "--config", kubeadm.INIT_FILE, timeout=RENEW_BOUND
        )
    if kubelet:
        _renew_kubelet(host, name, now)
    host.run("sync", timeout=kubeadm.SYNC_BOUND)
    for component in STATIC_PODS:
        listed = host.run("crictl", "ps", "-q", "--name", f"^{component}$")
        if listed.out.split():
            host.run("crictl", "stop", *listed.out.split(), timeout=STOP_BOUND)
    host.remove(MARK)
    _drop_copy(host)
    return True


def _drop_copy(host: Host) -> None:
    """The CA's key is in it."""
    host.scrub(BEFORE)
    host.call("rm", "-rf", BEFORE)


def _keep(host: Host) -> None:
    """A copy of all that kubeadm renews, on the disk before it begins."""
    _drop_copy(host)
    host.make_folder(BEFORE, 0o700)
    files = [path for path in KUBEADMS if path.endswith(".conf") and host.exists(path)]
    host.call("cp", "-a", PKI, *files, BEFORE)
    host.run("sync", timeout=kubeadm.SYNC_BOUND)


def _renew_kubelet(host: Host, name: str, now: float) -> None:
    """What a grant would do for a worker; here the CA itself is at hand."""
    cert, key = credentials.client(
        f"system:node:{name}",
        host.read(f"{PKI}/ca.crt") or b"",
        host.read(f"{PKI}/ca.key") or b"",
        now,
        group="system:nodes",
    )
    # Into the file that the kubelet's link points to: it wants a link there, not a file.
    host.replace_secret(paths.KUBELET_CLIENT, cert + key)
    host.call("systemctl", "restart", "kubelet", timeout=STOP_BOUND)


def rejoin(host: Host, endpoint: str, ca_cert: bytes, token: str, name: str) -> None:
    """Get the kubelet of worker ``name`` a new certificate with a fresh token, as at its first
    start; nothing else of the node changes. Raises CommandFailed, OSError."""
    kubelet_certificate.place(host, endpoint, ca_cert, token, name)
    host.call("systemctl", "restart", "kubelet", timeout=STOP_BOUND)
    kubelet_certificate.forget(host)
