"""kubeadm's configuration files: kubeadm.k8s.io/v1beta4 (kubernetes.io, "kubeadm Configuration
(v1beta4)")."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from nodeagent import paths
from nodeagent.cluster import addresses, names
from nodeagent.cluster.kubeadm_state import FOLDER
from nodeagent.cluster.names import Names
from nodeagent.cluster.versions import Tested
from nodeagent.config.settings import Settings

API = "kubeadm.k8s.io/v1beta4"
SOCKET = "unix:///run/containerd/containerd.sock"
DISCOVERY_FILE = f"{FOLDER}/discovery.conf"
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
Probes = dict[str, dict[str, object]]
PATIENT: Probes = {"livenessProbe": {"timeoutSeconds": 30, "failureThreshold": 60}}
# kubeadm's manifests have the kubelet ask each second whether these are ready, with a new TLS
# connection each time (but etcd); a small board has better things to do.
CALM: Probes = {**PATIENT, "readinessProbe": {"periodSeconds": 10}}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
# The API server calls itself unwell where etcd takes longer than this, by default 2 s for either
# (kube-apiserver reference). A busy small board takes longer again and again: the Service would
# lose its only endpoint each time, and the server be killed in the end. Less than the probes wait.
ETCD_CHECKS = {"etcd_healthcheck_timeout": "20s", "etcd_readycheck_timeout": "10s"}
PATCHES = f"{FOLDER}/patches"
# What kubeadm requests (250m, 200m and 100m of a processor, 100m for etcd) is the weight by which
# they share it. While a cluster begins on a busy board, those that wait for the API server must
# not slow it: it ends itself where its first look at the Services takes more than a minute, and
# all begins again. On an idle board nobody gets less.
PATCHED: dict[str, Mapping[str, object]] = {
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


def registration(name: str, address: str, resolv_conf: str) -> dict[str, object]:
    """``nodeRegistration``: node name, container runtime and the address the kubelet tells;
    ``resolv_conf``: where pods' name servers stand, empty for the usual file."""
    # A flag, since the kubelet's configuration is one for all nodes.
    more = {"resolv_conf": resolv_conf} if resolv_conf else {}
    return {
        "name": name,
        "criSocket": SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "imagePullSerial": False,
        "kubeletExtraArgs": arguments(node_ip=address, **more),
    }


def init_configuration(
    settings: Settings,
    tested: Tested,
    name: str,
    address: str,
    own: Names,
    slow: bool,
    resolv_conf: str = "",
) -> bytes:
    """All documents of ``kubeadm init``. ``slow`` relaxes etcd's timings (etcd docs, "Tuning":
    heartbeat about the round trip, election ten times that; a slow disk delays both)."""
    # Only one control plane runs these, so they need no lease to find a leader; renewing it is
    # a tenth of an idle board's writes, and losing it restarts them (kube-scheduler reference).
    # By the name: kubeadm has given them this node's address, which may change.
    alone = arguments(leader_elect="false", master=f"https://{own.api}:{paths.API_PORT}")
    etcd = arguments(**_etcd_urls(name, own.node, address))
    if slow:
        etcd += arguments(heartbeat_interval="500", election_timeout="5000")
    documents: list[dict[str, object]] = [
        {
            "apiVersion": API,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": address, "bindPort": paths.API_PORT},
            "nodeRegistration": registration(name, address, resolv_conf),
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
            "controlPlaneEndpoint": f"{own.api}:{paths.API_PORT}",
            "networking": {
                "podSubnet": settings.network.pod_cidr,
                "serviceSubnet": settings.network.service_cidr,
            },
            # kubeadm adds the address of now, and the endpoint's name.
            "apiServer": {"certSANs": [name], "extraArgs": arguments(**ETCD_CHECKS)},
            "controllerManager": {"extraArgs": alone},
            "scheduler": {"extraArgs": alone},
            "etcd": {
                "local": {
                    "dataDir": paths.ETCD,
                    "extraArgs": etcd,
                    "serverCertSANs": [own.node],
                    "peerCertSANs": [own.node],
                }
            },
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


def _etcd_urls(name: str, node: str, address: str) -> dict[str, str]:
    """etcd under the node's name. It listens on all addresses, as API server and kubelet do, so
    that it starts whatever the address is; who has no certificate of its CA is refused (etcd docs,
    "Transport security model")."""
    any_address = "[::]" if addresses.version(address) == 6 else "0.0.0.0"  # noqa: S104
    return {
        "listen_client_urls": f"https://{any_address}:2379",
        "advertise_client_urls": f"https://{node}:2379",
        "listen_peer_urls": f"https://{any_address}:2380",
        "initial_advertise_peer_urls": f"https://{node}:2380",
        "initial_cluster": f"{name}=https://{node}:2380",
    }


def of_now(init_file: str, manifest: str, address: str) -> bytes:
    """What ``init_configuration`` gave, for the release that runs and the address of now.

    kubeadm refuses to renew certificates by a configuration of two minors ago ("only supports
    deploying clusters with the control plane version"). ``manifest`` is the API server's. Raises
    yaml.YAMLError, LookupError, TypeError for what is not one of ours.
    """
    documents = list(yaml.safe_load_all(init_file))
    release = release_of(manifest)
    for document in documents:
        if document["kind"] == "InitConfiguration":
            document["localAPIEndpoint"]["advertiseAddress"] = address
            for argument in document["nodeRegistration"]["kubeletExtraArgs"]:
                if argument["name"] == "node-ip":
                    argument["value"] = address
        if document["kind"] == "ClusterConfiguration" and release:
            document["kubernetesVersion"] = f"v{release}"
    return yaml.safe_dump_all(documents, sort_keys=False).encode()


def release_of(manifest: str) -> str:
    """The Kubernetes of the API server's manifest, such as 1.36.4; empty where it names none."""
    found = re.search(r"image: \S+/kube-apiserver:v([0-9.]+)$", manifest, re.MULTILINE)
    return found[1] if found else ""


def patches(address: str) -> dict[str, bytes]:
    """File names and contents of the patches to the control plane's static pods. The API server is
    asked by loopback whether it is well: kubeadm has its probes ask at ``address``."""
    asked = {"httpGet": {"host": names.loopback(address)}}
    server = {probe: {**CALM.get(probe, {}), **asked} for probe in PROBES}
    return {
        f"{name}+strategic.yaml": yaml.safe_dump(
            {"spec": {"containers": [{"name": name, **probes}]}}
        ).encode()
        for name, probes in {**PATCHED, "kube-apiserver": server}.items()
    }


def join_configuration(name: str, address: str, token: str, resolv_conf: str = "") -> bytes:
    """``kubeadm join`` with file discovery: the file holds what the grant proved, so that
    nothing is asked of a server that is not proved yet."""
    document = {
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "nodeRegistration": registration(name, address, resolv_conf),
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
