"""The keys of a cluster that this node leaves: overwritten, since removing alone frees their blocks
with the keys in them, for anyone who reads the raw card."""

from __future__ import annotations

from nodeagent import paths
from nodeagent.cluster import kubeadm_state
from nodeagent.host.host import Host

STOP_BOUND = 600  # seconds; as for kubeadm reset, which waits for the same containers
# All that `kubeadm reset` removes of keys, tokens and data with Secrets in them (kubeadm docs,
# "kubeadm reset", and its phase cleanup-node). The kubelet's own credentials first: they tell
# `is_given_up` how far it has come. Files of other people's in these folders go with kubeadm, too.
SECRETS = (
    paths.KUBELET_CONF,
    kubeadm_state.BOOTSTRAP_CONF,
    "/var/lib/kubelet/pki",
    paths.ADMIN_CONF,
    f"{paths.KUBERNETES}/super-admin.conf",
    f"{paths.KUBERNETES}/controller-manager.conf",
    f"{paths.KUBERNETES}/scheduler.conf",
    f"{paths.KUBERNETES}/pki",
    paths.ETCD,
    f"{kubeadm_state.FOLDER}/before-renewal",
    f"{kubeadm_state.FOLDER}/join.yaml",
)


def overwrite(host: Host) -> None:
    """Overwrite them all, right before `kubeadm reset` removes them; what wrote to them is stopped.

    The files keep their names and lengths, so until they are removed the node still looks like the
    member that it was, and after a power cut the same call goes on. Raises OSError.
    """
    if host.exists(kubeadm_state.ETCD_DATA):
        # Who still runs would write again. The kubelet first: it starts what was stopped.
        host.run("systemctl", "stop", "kubelet", timeout=STOP_BOUND)
        host.run("crictl", "rmp", "--all", "--force", timeout=STOP_BOUND)
    for path in SECRETS:
        host.scrub(path)


def is_given_up(host: Host) -> bool:
    """True where the node's own credentials are overwritten: it has taken its leave before."""
    return b"\0" in (host.read(paths.KUBELET_CONF) or b"")
