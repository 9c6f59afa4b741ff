"""kubeadm: its configuration files, and init and join as repeatable calls.

Configuration is kubeadm.k8s.io/v1beta4 (kubernetes.io, "kubeadm Configuration (v1beta4)"). Files
that hold a token have mode 0600 and are removed afterwards: no secret in argv or environment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import yaml

from nodeagent import paths
from nodeagent.cluster import (
    addresses,
    cni,
    given_up,
    kubeadm_state,
    kubelet_certificate,
    resolver,
)
from nodeagent.cluster.kubeadm_state import FOLDER, State
from nodeagent.cluster.versions import Tested
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked, CommandFailed, Refused
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host, accepted

LOG = logging.getLogger("nodeagent")

INIT_FILE, JOIN_FILE = f"{FOLDER}/init.yaml", f"{FOLDER}/join.yaml"
DISCOVERY_FILE = f"{FOLDER}/discovery.conf"
API = "kubeadm.k8s.io/v1beta4"
SOCKET = "unix:///run/containerd/containerd.sock"
INIT_BOUND, JOIN_BOUND, PULL_BOUND, RESET_BOUND, SYNC_BOUND = 2400, 1800, 1800, 600, 600  # seconds
REMAINS = (paths.ETCD, paths.CNI_STATE)
JOINED_PERHAPS = (State.HALF_JOIN, State.WORKER, State.FOREIGN)
# kubeadm's defaults suit fast machines; a Pi with a slow card needs several times as long.
TIMEOUTS = {
    "controlPlaneComponentHealthCheck": "15m0s",
    "kubeletHealthCheck": "10m0s",
    "kubernetesAPICall": "15m0s",
    "etcdAPICall": "5m0s",
    "tlsBootstrap": "10m0s",
    "discovery": "10m0s",
}
# A busy small board answers late, and a control plane that is killed for that only gets busier:
# ten minutes of silence instead of kubeadm's 80 s (kubeadm docs, "Customizing with patches").
PATIENT: dict[str, object] = {"livenessProbe": {"timeoutSeconds": 30, "failureThreshold": 60}}
# kubeadm's manifests have the kubelet ask each second whether these are ready, with a new TLS
# connection each time (but etcd); a small board has better things to do.
CALM: dict[str, object] = {**PATIENT, "readinessProbe": {"periodSeconds": 10}}
# The API server calls itself unwell where etcd takes longer than this, by default 2 s for either
# (kube-apiserver reference). A busy small board takes longer again and again: the Service would
# lose its only endpoint each time, and the server be killed in the end. Less than the probes wait.
ETCD_CHECKS = {"etcd_healthcheck_timeout": "20s", "etcd_readycheck_timeout": "10s"}
PATCHES = f"{FOLDER}/patches"
# What kubeadm requests (250m, 200m and 100m of a processor, 100m for etcd) is the weight by which
# they share it. While a cluster begins on a busy board, those that wait for the API server must
# not slow it: it ends itself where its first look at the Services takes more than a minute, and
# all begins again. On an idle board nobody gets less.
PATCHED: dict[str, dict[str, object]] = {
    "kube-apiserver": CALM,
    "kube-controller-manager": {**PATIENT, "resources": {"requests": {"cpu": "50m"}}},
    "kube-scheduler": {**CALM, "resources": {"requests": {"cpu": "25m"}}},
    "etcd": CALM,
}
# bootstrap-token would make a standing token and approve whoever holds one; what nodes need of
# that phase is in policy.yaml. show-join-command would print a token into the log.
SKIPPED = ["bootstrap-token", "show-join-command"]


def arguments(**values: str) -> list[dict[str, str]]:
    """Flags of a component as v1beta4 writes them; ``_`` stands for ``-``."""
    return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]


def registration(
    name: str, address: str, taints: list[object] | None, resolv_conf: str
) -> dict[str, object]:
    """``nodeRegistration``: node name, container runtime and the address the kubelet tells;
    ``resolv_conf``: where pods' name servers stand, empty for the usual file."""
    # A flag, since the kubelet's configuration is one for all nodes.
    more = {"resolv_conf": resolv_conf} if resolv_conf else {}
    entry: dict[str, object] = {
        "name": name,
        "criSocket": SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "imagePullSerial": False,
        "kubeletExtraArgs": arguments(node_ip=address, **more),
    }
    if taints is not None:
        entry["taints"] = taints
    return entry


def init_configuration(
    settings: Settings, tested: Tested, name: str, address: str, slow: bool, resolv_conf: str = ""
) -> bytes:
    """All documents of ``kubeadm init``. ``slow`` relaxes etcd's timings (etcd docs, "Tuning":
    heartbeat about the round trip, election ten times that; a slow disk delays both)."""
    # Only one control plane runs these, so they need no lease to find a leader; renewing it is
    # a tenth of an idle board's writes, and losing it restarts them (kube-scheduler reference).
    alone = arguments(leader_elect="false")
    etcd = arguments(heartbeat_interval="500", election_timeout="5000") if slow else []
    documents: list[dict[str, object]] = [
        {
            "apiVersion": API,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": address, "bindPort": paths.API_PORT},
            "nodeRegistration": registration(
                name, address, [] if settings.expected_nodes == 1 else None, resolv_conf
            ),
            "skipPhases": SKIPPED,
            "patches": {"directory": PATCHES},
            "timeouts": TIMEOUTS,
        },
        {
            "apiVersion": API,
            "kind": "ClusterConfiguration",
            "kubernetesVersion": f"v{tested.kubernetes}",
            "imageRepository": settings.kubernetes.image_repository,
            # Every TLS handshake signs with it; RSA costs a small board ten times as much, and
            # its keys some seconds each to make.
            "encryptionAlgorithm": "ECDSA-P256",
            "controlPlaneEndpoint": addresses.endpoint(address),
            "networking": {
                "podSubnet": settings.network.pod_cidr,
                "serviceSubnet": settings.network.service_cidr,
            },
            "apiServer": {"certSANs": [address, name], "extraArgs": arguments(**ETCD_CHECKS)},
            "controllerManager": {"extraArgs": alone},
            "scheduler": {"extraArgs": alone},
            "etcd": {"local": {"dataDir": paths.ETCD, "extraArgs": etcd}},
        },
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "systemd",
            "serializeImagePulls": False,
            "maxParallelImagePulls": 2,
        },
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            # The kernels and pod networks of today are proved with it; the default is to change.
            "mode": "iptables",
        },
    ]
    return yaml.safe_dump_all(documents, sort_keys=False).encode()


def patches() -> dict[str, bytes]:
    """File names and contents of the patches to the control plane's static pods."""
    return {
        f"{name}+strategic.yaml": yaml.safe_dump(
            {"spec": {"containers": [{"name": name, **probes}]}}
        ).encode()
        for name, probes in PATCHED.items()
    }


def join_configuration(name: str, address: str, token: str, resolv_conf: str = "") -> bytes:
    """``kubeadm join`` with file discovery: the file holds what the grant proved, so that
    nothing is asked of a server that is not proved yet."""
    document = {
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "nodeRegistration": registration(name, address, None, resolv_conf),
        "discovery": {
            "file": {"kubeConfigPath": DISCOVERY_FILE},
            "tlsBootstrapToken": token,
        },
        "timeouts": TIMEOUTS,
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


def discovery_configuration(endpoint: str, ca_cert: bytes) -> bytes:
    """A kubeconfig with the cluster's address (``ip:port``) and CA, and no credentials."""
    from base64 import b64encode

    cluster = {
        "server": f"https://{endpoint}",
        "certificate-authority-data": b64encode(ca_cert).decode(),
    }
    document: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": cluster}],
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


def initialise(
    host: Host, settings: Settings, tested: Tested, name: str, address: str, slow: bool
) -> None:
    """kubeadm init, from whatever an earlier try left; nothing where the control plane is formed.

    Raises Blocked, CommandFailed, OSError, and Refused where undoing would lose a cluster.
    """
    alone(host)
    found = kubeadm_state.read(host)
    if found is State.CONTROL_PLANE:
        return
    make_room(host, found)
    host.make_folder(FOLDER, 0o700)
    for file, patch in patches().items():
        host.write(f"{PATCHES}/{file}", patch)
    text = init_configuration(
        settings, tested, name, address, slow, resolver.other_file(Facts(host))
    )
    host.write(INIT_FILE, text, 0o600)
    pull_images(host, settings, tested, "control-plane")
    kubeadm_state.mark(host, kubeadm_state.BEGUN, "init")
    said = _kubeadm(host, "init", "--config", INIT_FILE, timeout=INIT_BOUND)
    LOG.info("kubeadm init:\n%s", said)
    formed(host, "control-plane")


def join(
    host: Host, *, node_name: str, address: str, endpoint: str, ca_cert: bytes, token: str
) -> None:
    """kubeadm join, from whatever an earlier try left; nothing where that try has joined.

    The files with secrets are gone afterwards, whatever happened. Raises Blocked, CommandFailed,
    OSError, and Refused where undoing would lose a cluster.
    """
    alone(host)
    found = kubeadm_state.read(host)
    try:
        host.shred(JOIN_FILE)
        if found in JOINED_PERHAPS and kubeadm_state.has_joined(host, node_name, ca_cert):
            host.call("systemctl", "enable", "--now", "kubelet", timeout=180)
        else:
            make_room(host, found)
            kubeadm_state.mark(host, kubeadm_state.BEGUN, "join")
            # Before kubeadm, whose kubelet then finds it and asks for none with a key of its own.
            kubelet_certificate.place(host, endpoint, ca_cert, token, node_name)
            host.write(DISCOVERY_FILE, discovery_configuration(endpoint, ca_cert), 0o600)
            text = join_configuration(node_name, address, token, resolver.other_file(Facts(host)))
            host.write(JOIN_FILE, text, 0o600)
            said = _kubeadm(host, "join", "--config", JOIN_FILE, timeout=JOIN_BOUND)
            LOG.info("kubeadm join:\n%s", said)
    finally:
        host.shred(JOIN_FILE)
        host.remove(DISCOVERY_FILE)
    # It holds the token; kubeadm removes it unless cut off.
    host.shred(kubeadm_state.BOOTSTRAP_CONF)
    formed(host, "worker")
    kubelet_certificate.forget(host)


def _kubeadm(host: Host, *arguments: str, timeout: float) -> str:
    """What kubeadm says. Where its preflight checks failed, the error names each of them.

    kubeadm lists them as lines of "[ERROR Port-6443]: Port 6443 is in use", and ends with advice
    that names none (cmd/kubeadm/app/preflight/checks.go, app/util/error.go).

    Raises CommandFailed.
    """
    result = host.run("kubeadm", *arguments, timeout=timeout)
    failed = [line for line in map(str.strip, result.err.splitlines()) if line[:7] == "[ERROR "]
    if result.status and failed:
        result = replace(result, err="\n".join(failed))
    return accepted(("kubeadm", *arguments), result)


def alone(host: Host) -> None:
    """Raises Blocked while a kubeadm is at work that this agent did not start: a person's, or one
    that outlived a restart of the agent. Two at once would spoil each other's files."""
    if host.run("pidof", "kubeadm").status == 0:
        raise Blocked(
            "Another kubeadm is at work on this node.",
            "The agent goes on when that has ended; `pidof kubeadm` shows it.",
        )


def formed(host: Host, role: str) -> None:
    """Put what kubeadm wrote on the disk, then say so. Without the first, a power cut within half
    a minute leaves a member with empty files (ext4(5), ``delalloc``)."""
    host.run("sync", timeout=SYNC_BOUND)
    kubeadm_state.mark(host, kubeadm_state.FORMED, role)


def make_room(host: Host, found: State) -> None:
    """Undo what an init or join that was cut off left; nothing left: nothing done.

    Raises Refused where it is not the agent's own half-done work, CommandFailed.
    """
    if found is State.NOTHING:
        return
    if found not in (State.HALF_INIT, State.HALF_JOIN):
        whose = "was set up by someone else" if found is State.FOREIGN else f"is a {found.value}"
        raise Refused(
            f"This node {whose} already, and starting anew would lose that cluster.",
            "If it may be lost, run `sudo kubeadm reset` and `sudo rm -rf /var/lib/etcd`;"
            " the agent then goes on by itself.",
        )
    LOG.info("an earlier try was cut off; kubeadm reset")
    given_up.overwrite(host)
    # etcd's member is not asked to leave: the cluster it belonged to never was.
    host.call(
        "kubeadm", "reset", "--force", "--cri-socket", SOCKET,
        "--skip-phases", "remove-etcd-member", timeout=RESET_BOUND,
    )  # fmt: skip
    # The pod network's would keep the addresses of the cluster that never was.
    configuration: list[str] = []
    for network in cni.NETWORKS.values():
        configuration += network.configuration
        for device in network.devices:
            host.run("ip", "link", "delete", device)
    host.call("rm", "-rf", *REMAINS, *configuration)


def pull_images(
    host: Host,
    settings: Settings,
    tested: Tested,
    role: str,
    told: Callable[[int, int, str], None] = lambda done, total, image: None,
) -> None:
    """Pull what the role needs, two at a time; what is there already is left. ``told`` is given
    how many of how many are there, and the one that came last, "" at the beginning.

    Raises CommandFailed with the reason of the last image that could not be had.
    """
    base = settings.kubernetes.image_repository
    if role == "control-plane":
        listed = host.call("kubeadm", "config", "images", "list", "--config", INIT_FILE)
        images = listed.split()
    else:
        images = [f"{base}/kube-proxy:v{tested.kubernetes}", f"{base}/pause:{tested.pause}"]
        images += cni.chosen(settings).images_for(settings)
    failures = []
    told(0, len(images), "")
    with ThreadPoolExecutor(2) as pool:
        pulls = zip(images, pool.map(lambda image: _pull(host, image), images), strict=True)
        for done, (image, failure) in enumerate(pulls, start=1):
            if failure:
                failures.append(failure)
            told(done - len(failures), len(images), image)
    if failures:
        raise failures[-1]


def _pull(host: Host, image: str) -> CommandFailed | None:
    if host.run("crictl", "inspecti", "-q", image).status == 0:
        return None
    try:
        host.call("crictl", "pull", image, timeout=PULL_BOUND)
    except CommandFailed as error:
        return error
    return None
