"""Paths and ports that more than one module shares; nothing here imports anything.

A path that only one module knows stands there. `tests/unit/test_layout.py` says which one has to
move here.
"""

from __future__ import annotations

# The agent's own, made by it or by systemd (RuntimeDirectory=, StateDirectory=).
STATE = "/var/lib/nodeagent"
NODE_KEY = f"{STATE}/trust/node.key"  # made on the node, never leaves it
LEAD_KEY = f"{STATE}/trust/control-plane.key"  # of a card that may lead
RUN = "/run/nodeagent"
STATUS = f"{RUN}/status.json"  # for everybody who looks
ANNOUNCE = f"{RUN}/announce.json"  # for serve: what to announce
HANDOVER = f"{RUN}/keep.json"  # from the agent to its keeper; root only
SERVE = "/run/nodeagent-serve"  # serve's: what it heard

# What the agent hands to the broker: root's folder, which the group nodeagent-broker reads; in
# memory only.
BROKER_INPUT = f"{RUN}/broker"
BROKER_CONFIG = f"{BROKER_INPUT}/config.json"
BROKER_SIDE = f"{BROKER_INPUT}/side.jws"
BROKER_CA = f"{BROKER_INPUT}/ca.crt"
BROKER_CLIENT_CERT, BROKER_CLIENT_KEY = f"{BROKER_INPUT}/client.crt", f"{BROKER_INPUT}/client.key"
BROKER_CERT, BROKER_KEY = f"{BROKER_INPUT}/broker.crt", f"{BROKER_INPUT}/broker.key"
# The broker's own: its memory, and what it tells while it runs. Root opens nothing in the first
# and reads the second as a stranger's (host/untrusted.py).
BROKER = "/var/lib/nodeagent-broker"
LEDGER = f"{BROKER}/state.json"
BROKER_RUN = "/run/nodeagent-broker"

# What the agent hands to the endpoint: root's folder too, which the group nodeagent reads.
ENDPOINT = f"{RUN}/endpoint"
SERVER_CERT, SERVER_KEY = f"{ENDPOINT}/server.crt", f"{ENDPOINT}/server.key"
ROOT_CERT = f"{ENDPOINT}/root.crt"

# Settings that people write (nodeagent.yaml(5)), and the boot partition they lie on: /boot before
# Raspberry Pi OS bookworm.
BOOT = "/boot/firmware"
SETTINGS, OLD_SETTINGS = f"{BOOT}/nodeagent.yaml", "/boot/nodeagent.yaml"

# kubeadm's and the kubelet's (kubernetes.io, kubeadm "Implementation details").
KUBERNETES = "/etc/kubernetes"
ADMIN_CONF = f"{KUBERNETES}/admin.conf"
KUBELET_CONF = f"{KUBERNETES}/kubelet.conf"  # its own credentials: there, the node is a member
FORMED = "/var/lib/nodeagent/kubeadm/formed"  # see ``kubeadm_state``
KUBERNETES_PKI = f"{KUBERNETES}/pki"
KUBERNETES_CA, KUBERNETES_CA_KEY = f"{KUBERNETES_PKI}/ca.crt", f"{KUBERNETES_PKI}/ca.key"
ETCD_PKI = f"{KUBERNETES_PKI}/etcd"
KUBELET = "/var/lib/kubelet"
KUBELET_CONFIG = f"{KUBELET}/config.yaml"
KUBELET_FLAGS = f"{KUBELET}/kubeadm-flags.env"  # its command line
KUBELET_CLIENT = f"{KUBELET}/pki/kubelet-client-current.pem"
ETCD = "/var/lib/etcd"

# Container runtime and pod network.
CONTAINERD = "/var/lib/containerd"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
CNI_CONFIG, CNI_STATE = "/etc/cni/net.d", "/var/lib/cni"

# The system's.
APT_LISTS = "/var/lib/apt/lists"
CLOUD_CONFIG = "/etc/cloud/cloud.cfg.d"
CLOUD_INIT_RESULT = "/run/cloud-init/result.json"
FSTAB = "/etc/fstab"
HOSTNAME = "/etc/hostname"
HOSTS = "/etc/hosts"
MACHINE_ID = "/etc/machine-id"
OS_RELEASE = "/etc/os-release"
PASSWD = "/etc/passwd"  # noqa: S105  a file's name
RESOLV_CONF = "/etc/resolv.conf"

# The kernel's (proc(5), sysfs(5)).
CGROUP_CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"
CMDLINE = "/proc/cmdline"
INTERFACES = "/sys/class/net"
KERNEL_HOSTNAME = "/proc/sys/kernel/hostname"
MEMINFO = "/proc/meminfo"
MODEL = "/proc/device-tree/model"
MOUNTS = "/proc/mounts"  # a link to self/mounts
SWAPS = "/proc/swaps"
UPTIME = "/proc/uptime"

# Ports that others have to know too (TCP).
API_PORT = 6443  # kubeadm's default for the API server
ENDPOINT_PORT = 6444  # where grants are asked for
PAGE_PORT = 6480  # the status page
