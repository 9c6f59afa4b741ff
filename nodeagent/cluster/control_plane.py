"""What the control plane's agent does after init, and small looks at nodes; all repeatable."""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import dataclass
from importlib import resources
from typing import Any

from nodeagent import paths
from nodeagent.cluster import kubeadm_config, kubectl, kubelet_api, names, revoked
from nodeagent.cluster.admin_kubeconfig import own_cluster
from nodeagent.cluster.rest import GROUP, LEADS, condition, is_ready
from nodeagent.errors import Refused
from nodeagent.host.host import Host
from nodeagent.host.reboot import boot_id

LOG = logging.getLogger("nodeagent")

FIRST_USER = 1000  # the first human user of Debian and its descendants (adduser.conf(5))
MARK = "# Written by nodeagent; a file that you have changed is kept."
KEPT = 3
# Run as the user, so that links which the user planted lead only where the user may write. A file
# without our first line is the user's own: kubectl drops comments when it changes a file.
KEEP_KUBECONFIG = f"""
umask 077
cd "$1" && mkdir -p .kube && chmod 700 .kube || exit 1
if test -s .kube/config && test "$(head -n 1 .kube/config)" != '{MARK}'; then exit {KEPT}; fi
rm -f .kube/config.nodeagent &&
cat > .kube/config.nodeagent && chmod 600 .kube/config.nodeagent && sync .kube/config.nodeagent &&
mv -T .kube/config.nodeagent .kube/config
"""
DROP_KUBECONFIG = f"""
cd "$1" && test "$(head -n 1 .kube/config 2>/dev/null)" = '{MARK}' || exit 0
shred --iterations=0 --zero --remove .kube/config
"""
JOIN_COMMAND = """\
# Paste as root on the machine that should join; valid for 10 minutes.
umask 077
{name}base64 -d > /root/nodeagent-discovery.conf <<'END'
{discovery}
END
base64 -d > /root/nodeagent-join.conf <<'END'
{config}
END
kubeadm join --config /root/nodeagent-join.conf
rm -f /root/nodeagent-join.conf /root/nodeagent-discovery.conf
# Then approve it here: kubectl get csr; kubectl certificate approve NAME"""


@dataclass(frozen=True)
class NodeInfo:
    """One node as Kubernetes knows it."""

    name: str
    ready: bool
    role: str
    version: str
    address: str


# What kubeadm's bootstrap-token phase leaves open: the first approves whoever holds a token of
# kubeadm's group, the second shows everybody a kubeconfig signed with each token.
OPEN_DOORS = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:node-autoapprove-bootstrap"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}
"""


def policy() -> str:
    """The manifest of who may join and what the broker may do."""
    return resources.files("nodeagent.cluster").joinpath("policy.yaml").read_text()


def policy_mark() -> str:
    """What the state file remembers of the policy that was applied: its SHA-256."""
    return hashlib.sha256(policy().encode()).hexdigest()


def renew_policy(host: Host) -> None:
    """Give a cluster that another version of nodeagent made this one's policy, and put right what
    that one's let a broker do. Repeatable. Raises CommandFailed."""
    kubectl.apply_text(host, policy())
    revoked.mend(host)


def close_doors(host: Host) -> None:
    """Remove what `kubeadm upgrade apply` makes again; init here leaves it out. Raises
    CommandFailed."""
    kubectl.delete_text(host, OPEN_DOORS)


def install_user_kubeconfig(host: Host) -> bool:
    """The administrator's file for the first human user, 0600 and their own. True where it is
    there now; False where there is no such user or home, or where the user has their own.

    A convenience, so it never fails: a full or strange home must not stop the cluster.
    """
    user = _user(host.text(paths.PASSWD) or "")
    admin = host.text(paths.ADMIN_CONF)
    if user is None or not admin:
        return False
    result = host.run(
        "runuser", "-u", user[0], "--", "/bin/sh", "-c", KEEP_KUBECONFIG, "sh", user[1],
        stdin=f"{MARK}\n{admin}",
    )  # fmt: skip
    if result.status not in (0, KEPT):
        LOG.warning("no kubeconfig for %s: %s", user[0], result.err.strip() or result.status)
    return result.status == 0


def remove_user_kubeconfig(host: Host) -> None:
    """The way back of ``install_user_kubeconfig``; a file of the user's own stays. Never fails."""
    user = _user(host.text(paths.PASSWD) or "")
    if user is not None:
        host.run("runuser", "-u", user[0], "--", "/bin/sh", "-c", DROP_KUBECONFIG, "sh", user[1])


def _user(passwd: str) -> tuple[str, str] | None:
    """Name and home of the first human user (passwd(5))."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2] == str(FIRST_USER):
            return fields[0], fields[5]
    return None


def nodes(host: Host) -> list[NodeInfo]:
    """All nodes of the cluster. Raises CommandFailed."""
    return [_info(item) for item in kubectl.get(host, "nodes")["items"]]


def tokens_by_hand(host: Host) -> list[str]:
    """The ids of bootstrap tokens that `kubeadm token create` made: their group may do nothing
    here. Raises CommandFailed."""
    kind = "type=bootstrap.kubernetes.io/token"
    found = kubectl.get(host, "secrets", "-n", "kube-system", "--field-selector", kind)["items"]
    groups = {
        item["metadata"]["name"].removeprefix("bootstrap-token-"): base64.b64decode(
            item.get("data", {}).get("auth-extra-groups", "")
        )
        for item in found
    }
    return sorted(name for name, of in groups.items() if GROUP.encode() not in of)


def _info(item: dict[str, Any]) -> NodeInfo:
    labels, status = item["metadata"].get("labels", {}), item["status"]
    leads = LEADS in labels
    addresses = {a["type"]: a["address"] for a in status.get("addresses", [])}
    return NodeInfo(
        name=item["metadata"]["name"],
        ready=is_ready(item),
        role="control-plane" if leads else "worker",
        version=status["nodeInfo"]["kubeletVersion"],
        address=addresses.get("InternalIP", ""),
    )


def ready(host: Host, name: str) -> bool:
    """True when Kubernetes calls the node Ready and its pod network there (kubernetes.io, "Node
    Status", conditions). A cluster that does not answer: False.

    Only what this boot's kubelet has told counts, at the address that it has now: after a power
    cut the Node is Ready as it was before, until somebody says otherwise.

    Asks as the kubelet, which may read its own node, and in this process: on a small board each
    kubectl costs seconds, and this is asked often while a node comes up.
    """
    answer = kubelet_api.ask(host, "GET", f"/api/v1/nodes/{name}")
    try:
        if answer is None or answer[0] != 200:
            return False
        node, own = answer[1], names.node_ip(host.text(paths.KUBELET_FLAGS) or "")
        if node["status"]["nodeInfo"]["bootID"] != boot_id(host):
            return False
        if own and {"type": "InternalIP", "address": own} not in node["status"]["addresses"]:
            return False
        return is_ready(node) and not condition(node, "NetworkUnavailable")
    except (KeyError, TypeError, AttributeError):
        return False


def broker_credentials(host: Host) -> tuple[bytes, bytes]:
    """Certificate and key (PEM) of the Kubernetes user ``nodeagent:broker``, made with the
    cluster's CA; a year long, made anew at each call. Raises Refused, OSError."""
    from nodeagent.cluster import credentials

    ca_cert = host.read(paths.KUBERNETES_CA)
    ca_key = host.read(paths.KUBERNETES_CA_KEY)
    if ca_cert is None or ca_key is None:
        raise Refused(
            "The cluster's CA is not on this node.", "Run `nodeagent status` to see its role."
        )
    return credentials.client("nodeagent:broker", ca_cert, ca_key, host.clock.now())


def join_command(host: Host) -> str:
    """Shell lines that join a machine without nodeagent. Raises CommandFailed.

    The token is in a file made by the lines, never in an argument; like every token here it
    cannot approve itself.
    """
    import yaml

    cluster = own_cluster(host)
    token = host.call(
        "kubeadm", "token", "create", "--kubeconfig", paths.ADMIN_CONF, "--ttl", "10m",
        "--usages", "authentication", "--groups", GROUP,
    ).strip()  # fmt: skip
    clusters = [{"name": "", "cluster": cluster}]
    lines = yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": clusters})
    config = {
        "apiVersion": kubeadm_config.API,
        "kind": "JoinConfiguration",
        "discovery": {"file": {"kubeConfigPath": "/root/nodeagent-discovery.conf"},
                      "tlsBootstrapToken": token},
    }  # fmt: skip
    api = names.server(f"server: {cluster['server']}")
    address = names.advertised(host.text(names.API_SERVER) or "")
    named = names.API_NAME.fullmatch(api) is not None
    return JOIN_COMMAND.format(
        name=f"echo '{address} {api}' >> /etc/hosts\n" if named else "",
        config=base64.encodebytes(yaml.safe_dump(config).encode()).decode().strip(),
        discovery=base64.encodebytes(lines.encode()).decode().strip(),
    )
