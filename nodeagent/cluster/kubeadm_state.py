"""What kubeadm left on this node, read from the world: the answer to "init or join again?".

Two small files tell what the world itself cannot: ``begun`` is durable before kubeadm is started,
``formed`` after it has succeeded and everything it wrote has reached the disk (kubeadm syncs
nothing). So a power cut at any instant leaves one of the states below, and what the agent did not
begin is never taken away.
"""

from __future__ import annotations

import enum
import re

from nodeagent import paths
from nodeagent.host.host import Host

FOLDER = "/var/lib/nodeagent/kubeadm"
BEGUN, FORMED = f"{FOLDER}/begun", paths.FORMED
BOOTSTRAP_CONF = "/etc/kubernetes/bootstrap-kubelet.conf"
ETCD_DATA = "/var/lib/etcd/member"
# In the order in which kubeadm writes them (kubeadm docs, "Implementation details"); its reset
# leaves empty folders, so only files count.
LEFT_BEHIND = (
    paths.KUBERNETES_CA_KEY,
    paths.KUBERNETES_CA,
    paths.ADMIN_CONF,
    paths.KUBELET_CONF,
    BOOTSTRAP_CONF,
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    paths.KUBELET_CONFIG,
    ETCD_DATA,
)
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.S)
# A kubelet writes its file in place and syncs nothing; with this, its last line (client-go writes
# the keys in order), it is whole. The certificate says nothing of that: the agent laid it there.
WHOLE_CONF = re.compile(rb"\bclient-key: \S+\.pem\s*\Z")
# Without these a kubelet does not start again after a reboot.
KUBELET_FILES = (paths.KUBELET_CONFIG, paths.KUBELET_FLAGS)


class State(enum.Enum):
    """Where a node stands with kubeadm. FOREIGN: somebody else has set Kubernetes up here."""

    NOTHING = "nothing"
    HALF_INIT = "half-init"
    CONTROL_PLANE = "control-plane"
    HALF_JOIN = "half-join"
    WORKER = "worker"
    FOREIGN = "foreign"


def read(host: Host) -> State:
    """The state of this node. Raises OSError."""
    if not any(host.exists(path) for path in LEFT_BEHIND):
        return State.NOTHING
    formed, begun = _word(host, FORMED), _word(host, BEGUN)
    # Whoever has formed may hold data of a cluster, so this comes first. The CA's key is enough: to
    # bring etcd back from a copy, people move its folder away.
    leads = host.exists(ETCD_DATA) or host.exists(paths.KUBERNETES_CA_KEY)
    if formed == "control-plane" and leads:
        return State.CONTROL_PLANE
    if formed == "worker" and host.exists(paths.KUBELET_CONF):
        return State.WORKER
    if begun == "init":
        return State.HALF_INIT
    if begun == "join":
        return State.HALF_JOIN
    return State.FOREIGN


def mark(host: Host, path: str, word: str) -> None:
    """Write BEGUN or FORMED durably. Raises OSError."""
    host.make_folder(FOLDER, 0o700)
    if path == BEGUN:
        host.remove(FORMED)  # first: what is begun anew is not formed
    host.write(path, f"{word}\n".encode(), 0o600)


def has_joined(host: Host, name: str, ca_cert: bytes) -> bool:
    """True where a join that was cut off has done its work all the same: the kubelet holds its
    own certificate as ``name`` in the cluster of ``ca_cert`` (PEM), and all it needs to start.

    A second join would be refused while the cluster calls the node Ready. Raises OSError.
    """
    ours = (host.read(paths.KUBERNETES_CA) or b"").strip() == ca_cert.strip()
    whole = all(host.read(path) for path in KUBELET_FILES)
    configured = WHOLE_CONF.search(host.read(paths.KUBELET_CONF) or b"") is not None
    return ours and whole and configured and _client_name(host) == f"system:node:{name}"


def _client_name(host: Host) -> str | None:
    """Whom the kubelet's client certificate is made out to; None without certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import NameOID

    data = host.read(paths.KUBELET_CLIENT) or b""
    key = KEY.search(data)
    if key is None:
        return None
    try:
        load_pem_private_key(key[0], None)
        names = x509.load_pem_x509_certificate(data).subject
        return str(names.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    except (ValueError, IndexError):
        return None


def _word(host: Host, path: str) -> str:
    return (host.text(path) or "").strip()
