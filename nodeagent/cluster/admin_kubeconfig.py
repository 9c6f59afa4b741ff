"""A kubeconfig for the administrator's own computer (kubernetes.io, "Organizing Cluster Access
Using kubeconfig Files").

With a certificate of its own, so that the API server's log tells it from the node's; it cannot be
taken back before it ends, which is why it is good for a year only.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import yaml

from nodeagent import paths
from nodeagent.cluster import addresses, credentials, names
from nodeagent.cluster.kubeadm import INIT_FILE
from nodeagent.cluster.privilege import need_control_plane
from nodeagent.errors import AlreadyExists, Refused
from nodeagent.host.host import Host

USER = "nodeagent:laptop"
# kubeadm binds it to cluster-admin, since 1.29 (kubeadm docs, "Implementation details").
GROUP = "kubeadm:cluster-admins"
HEAD = "# Whoever has this file is administrator of the cluster, for a year. Made by nodeagent.\n"
ADDRESS = """\
# It has the control plane's address of now: only nodes of the cluster know its name. When that has
# changed, write the new address, which `nodeagent status` shows, after `server:`; no more.
"""


def give(host: Host, name: Callable[[], str], out: str | None) -> str:
    """The text of a kubeconfig of the cluster that ``name`` gives, or, with ``out``, where it was
    written. Raises Refused, OSError, and what ``name`` raises."""
    need_control_plane(host)
    if out is not None and host.exists(out):
        raise AlreadyExists(
            f"{out} is already there.", "Choose another name, or move the file away."
        )
    text = kubeconfig(host, name())
    if out is None:
        return text
    host.create(out, text.encode(), host.sudo_user)
    return f"{out}: copy it to your laptop as ~/.kube/config, or name it in KUBECONFIG."


def kubeconfig(host: Host, name: str) -> str:
    """The file's text; cluster and context are called ``name``, so that it can be merged with
    others. Raises Refused, OSError."""
    ca_cert, ca_key = (host.read(f"/etc/kubernetes/pki/ca.{end}") for end in ("crt", "key"))
    if ca_cert is None or ca_key is None:
        raise Refused(
            "The cluster's CA is not on this node.", "Run `nodeagent status` to see its role."
        )
    server = own_cluster(host)["server"]
    cert, key = credentials.client(USER, ca_cert, ca_key, host.clock.now(), GROUP)
    cluster = {"server": server, "certificate-authority-data": _base64(ca_cert)}
    head, own = HEAD, names.server(f"server: {server}")
    address = names.advertised(host.text(names.API_SERVER) or "")
    if names.API_NAME.fullmatch(own) and address:
        # The name is known on the cluster's nodes only; it is what the server proves all the same.
        cluster |= {"server": f"https://{addresses.endpoint(address)}", "tls-server-name": own}
        head += ADDRESS
    user = {"client-certificate-data": _base64(cert), "client-key-data": _base64(key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": f"{name}-laptop", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-laptop"}}],
        "current-context": name,
    }
    return head + yaml.safe_dump(content, sort_keys=False)


def own_cluster(host: Host) -> dict[str, str]:
    """``server`` and ``certificate-authority-data`` as the control plane's own kubeconfig has them.
    Raises Refused where that is damaged."""
    try:
        cluster = yaml.safe_load(host.text(paths.ADMIN_CONF) or "")["clusters"][0]["cluster"]
        return {name: str(cluster[name]) for name in ("server", "certificate-authority-data")}
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise Refused(
            f"{paths.ADMIN_CONF} is damaged: it names no cluster.",
            f"Make it again: `sudo mv {paths.ADMIN_CONF} {paths.ADMIN_CONF}.damaged`, then"
            f" `sudo kubeadm init phase kubeconfig admin --config {INIT_FILE}`.",
        ) from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
