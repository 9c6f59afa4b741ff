"""``nodeagent report``: all that somebody who helps needs to see of a node, without its secrets.

Only what is listed here is taken, each bounded, and of each only what is known to be harmless
(``harmless``), by its name or place; how much is left out is said. All of it then goes through
``redact`` too, which knows the secrets of this very node. What cannot be had is noted instead: a
report never fails for one part.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import os
import posixpath
import tarfile
import time
from collections.abc import Callable, Iterator

from nodeagent import __version__, doctor, paths
from nodeagent.cluster import kubeadm_state
from nodeagent.config.show import show_config
from nodeagent.doctor import harmless, redact
from nodeagent.doctor.harmless import Filter
from nodeagent.errors import NodeAgentError
from nodeagent.host import untrusted
from nodeagent.host.host import Host
from nodeagent.host.privilege import need_root
from nodeagent.status import eventlog
from nodeagent.steps.show import show_plan

MAX_PART = 512 * 1024  # characters; of logs the end, of other things the beginning
MAX_ALL = 8 * 1024 * 1024  # characters before packing
BOUND = 20.0  # seconds for a command
KUBECTL = ("kubectl", "--kubeconfig", paths.ADMIN_CONF, "--request-timeout=15s")

# Each with what may be told of it. What is not here is not taken: settings files (config.txt of the
# bundle says each value), anything of users', pods, Wi-Fi and cloud-init's data.
FILES: dict[str, Filter] = {
    paths.STATUS: harmless.fields,
    paths.ANNOUNCE: harmless.fields,
    "/run/nodeagent-serve/heard.json": harmless.fields,
    "/var/lib/nodeagent/state.json": harmless.fields,
    paths.CMDLINE: harmless.parameters,
    "/boot/firmware/cmdline.txt": harmless.parameters,
    "/boot/cmdline.txt": harmless.parameters,
    "/boot/firmware/config.txt": harmless.assigned(harmless.FIRMWARE, "="),
    "/boot/config.txt": harmless.assigned(harmless.FIRMWARE, "="),
    paths.MEMINFO: harmless.lines(r"[A-Za-z0-9_()]+: +\d+( kB)?"),
    paths.SWAPS: harmless.lines(r"(/dev/\S+|/\S*swap\S*|Filename)[\sA-Za-z0-9-]*"),
    paths.MOUNTS: harmless.mounts,
    paths.FSTAB: harmless.mounts,
    paths.UPTIME: harmless.lines(r"[\d. ]+"),
    paths.MODEL: harmless.lines(r"[A-Za-z0-9 .-]{1,80}"),
    paths.CGROUP_CONTROLLERS: harmless.lines(r"[a-z_ ]+"),
    paths.OS_RELEASE: harmless.assigned(harmless.SYSTEM, "="),
    paths.HOSTNAME: harmless.lines(harmless.NAME),
    paths.HOSTS: harmless.lines(rf"[0-9a-fA-F:.]+(\s+{harmless.NAME})+"),
    paths.RESOLV_CONF: harmless.lines(r"(nameserver|search|domain|options)( [A-Za-z0-9.:_%-]+)+"),
    paths.CONTAINERD_CONFIG: harmless.assigned(harmless.CONTAINERD, "="),
    paths.KUBELET_CONFIG: harmless.assigned(harmless.KUBELET, ":"),
    paths.CLOUD_INIT_RESULT: harmless.cloud_init,
    "/run/cloud-init/status.json": harmless.cloud_init,
    "/var/log/apt/history.log": harmless.lines(
        r"(Start-Date|End-Date|Install|Upgrade|Remove|Purge|Reinstall): [A-Za-z0-9 .,:()+~-]*"
    ),
    "/var/log/dpkg.log": harmless.lines(r"[\d-]{10} [\d:]{8} [a-z-]+ [A-Za-z0-9 .:+~<>-]{1,200}"),
}
JOURNAL = ("journalctl", "--no-pager", "-o", "short-precise", "-n")
UNIT = ("Id,ActiveState,SubState,Result,UnitFileState,NRestarts,ExecMainStatus,MemoryCurrent,"
        "ActiveEnterTimestamp")  # fmt: skip
COMMANDS: dict[str, tuple[tuple[str, ...], Filter]] = {
    "journal-nodeagent.log": ((*JOURNAL, "3000", "-u", "nodeagent", "-u", "nodeagent-serve", "-u",
                               "nodeagent-broker"), harmless.journal),
    "journal-kubelet.log": ((*JOURNAL, "3000", "-u", "kubelet"), harmless.logged),
    "journal-containerd.log": ((*JOURNAL, "500", "-u", "containerd"), harmless.logged),
    "journal-kernel.log": ((*JOURNAL, "1000", "-k"), harmless.kernel),
    "units.txt": (("systemctl", "show", "-p", UNIT, "nodeagent", "nodeagent-serve",
                   "nodeagent-broker.socket", "nodeagent-broker-root.socket", "nodeagent-broker",
                   "kubelet", "containerd"),
                  harmless.lines(r"[A-Za-z]*=?[A-Za-z0-9 .:@-]*")),
    "units-failed.txt": (("systemctl", "list-units", "--failed", "--plain", "--no-legend"),
                         harmless.first(4)),
    "time.txt": (("timedatectl", "show"), harmless.lines(
        r"(Timezone|LocalRTC|CanNTP|NTP|NTPSynchronized|TimeUSec|RTCTimeUSec)=[A-Za-z0-9/_:+ -]*")),
    "addresses.txt": (("ip", "-br", "address"), harmless.table),
    "routes.txt": (("ip", "route"), harmless.table),
    "ports.txt": (("ss", "-ltnu"), harmless.table),
    "firewall.txt": (("nft", "list", "ruleset"), harmless.rules),
    "space.txt": (("df", "-hl"), harmless.table),
    "disks.txt": (("lsblk", "-o", "NAME,SIZE,TYPE,FSTYPE,MODEL"), harmless.table),
    "packages.txt": (("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\\n",
                      "kube*", "containerd*", "cri-tools", "kubernetes-cni", "nodeagent",
                      "cloud-init"), harmless.table),
    "containers.txt": (("crictl", "ps", "-a"), harmless.table),
    "images.txt": (("crictl", "images"), harmless.table),
}  # fmt: skip
NODES = ("NAME:.metadata.name,VERSION:.status.nodeInfo.kubeletVersion,ADDRESSES:.status.addresses"
         "[*].address,CONDITIONS:.status.conditions[*].type,STATUS:.status.conditions[*].status,"
         "CPU:.status.allocatable.cpu,MEMORY:.status.allocatable.memory,"
         "POD_CIDR:.spec.podCIDR,TAINTS:.spec.taints[*].key")  # fmt: skip
EVENTS = ("jsonpath={range .items[*]}{.lastTimestamp}{\"\\t\"}{.type}{\"\\t\"}{.reason}{\"\\t\"}"
          "{.involvedObject.kind}{\"\\t\"}{.involvedObject.namespace}{\"\\t\"}"
          "{.involvedObject.name}{\"\\t\"}{.message}{\"\\n\"}{end}")  # fmt: skip
ON_CONTROL_PLANE: dict[str, tuple[tuple[str, ...], Filter]] = {
    "nodes.txt": ((*KUBECTL, "get", "nodes", "-o", f"custom-columns={NODES}"), harmless.table),
    "pods.txt": ((*KUBECTL, "get", "pods", "-A", "-o", "wide"), harmless.table),
    "requests.txt": ((*KUBECTL, "get", "csr"), harmless.table),
    "cluster-events.txt": ((*KUBECTL, "get", "events", "-A", "--sort-by=.lastTimestamp", "-o",
                            EVENTS), harmless.events),
}  # fmt: skip

# Whose content must not leave the node. A name that ends with / stands for what is in the folder.
SECRETS = (
    "/var/lib/nodeagent/trust/", "/var/lib/nodeagent-broker/",
    paths.HANDOVER, f"{paths.ENDPOINT}/", f"{paths.BROKER_INPUT}/",
    "/boot/firmware/nodeagent.fleet", "/boot/nodeagent.fleet",
    "/etc/kubernetes/", "/etc/kubernetes/pki/", "/etc/kubernetes/pki/etcd/",
    f"{kubeadm_state.FOLDER}/", "/var/lib/kubelet/pki/", "/root/.kube/",
    paths.SETTINGS, paths.OLD_SETTINGS,
    "/boot/firmware/user-data", "/boot/firmware/network-config", "/boot/user-data",
    "/boot/network-config", "/boot/wpa_supplicant.conf", "/etc/wpa_supplicant/",
    "/etc/NetworkManager/system-connections/", "/etc/netplan/",
    "/etc/ssh/", "/etc/shadow", "/etc/nodeagent/config.d/",
)  # fmt: skip
NO_SECRETS = (".crt", ".pub", "sshd_config", "ssh_config", "moduli", ".d")
MAX_SECRET = 256 * 1024  # bytes

Say = Callable[[str], None]


def make(host: Host, folder: str, say: Say) -> str:
    """Write the bundle into ``folder``, 0600, and give its path; ``say`` gets a line a part.

    It belongs to the user who called sudo, so that it can be copied away.
    Raises NeedsRoot for an ordinary user, Refused where it cannot be made there, OSError.
    """
    need_root(host)
    now = host.clock.now()
    node = (host.text(paths.HOSTNAME) or "").strip() or "node"
    safe = "".join(c for c in node if c.isascii() and (c.isalnum() or c == "-"))[:64] or "node"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    name = f"nodeagent-report-{safe}-{stamp}"
    path = posixpath.join(folder, f"{name}.tar.gz")
    host.create(path, pack(name, dict(parts(host, say)), now), host.sudo_user)
    return path


def parts(host: Host, say: Say) -> Iterator[tuple[str, str]]:
    """(name, text without secrets) of every part; ends where the bundle would be too large."""
    secrets = known(host)
    left = MAX_ALL
    listed = []
    for name, text in _collected(host):
        clean = redact.text(text, secrets)
        clean = clean[-MAX_PART:] if name.endswith(".log") else clean[:MAX_PART]
        if len(clean) > left:
            clean = "left out: the report would be too large\n"
        left -= len(clean)
        listed.append(f"{len(clean):>9}  {name}")
        say(name)
        yield name, clean
    yield "CONTENTS.txt", "\n".join([
        f"nodeagent {__version__}. Read it before you pass it on: names and addresses of your",
        "network are in it. Taken is only what is known to be harmless: lines, values and keys of",
        f"which that is not known are replaced by {harmless.GONE}, secrets of this node wherever",
        f"they stand by {redact.GONE}. Not taken at all: settings files, Wi-Fi, users' files,",
        "cloud-init's data, registries' credentials, the text of others' log lines.", "",
        *listed, "",
    ])  # fmt: skip


def known(host: Host) -> set[str]:
    """Every secret of this node, in the parts that ``redact.values`` makes."""
    found: set[str] = set()
    homes = [f"/home/{name}/.kube/" for name in host.names("/home")]
    for place in (*SECRETS, *homes):
        inside = untrusted.names(host, place) if place.endswith("/") else [""]
        for path in (place + name for name in inside):
            if not path.endswith(NO_SECRETS):
                with contextlib.suppress(OSError):
                    found |= redact.values(untrusted.read(host, path, MAX_SECRET) or b"")
    return found


def pack(folder: str, content: dict[str, str], now: float) -> bytes:
    """A tar.gz of text files below ``folder``."""
    raw = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=int(now)) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, text in content.items():
            data = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(now), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return raw.getvalue()


def _collected(host: Host) -> Iterator[tuple[str, str]]:
    """(name, text) of every part, with nothing in it but what is known to be harmless."""
    yield "doctor.json", _tried(lambda: harmless.fields(_doctor(host)))
    yield "config.txt", _tried(lambda: harmless.own("\n".join(show_config(host))))
    yield "plan.txt", _tried(lambda: harmless.own("\n".join(show_plan(host)[0])))
    yield "events.jsonl", _tried(lambda: "\n".join(
        json.dumps(json.loads(harmless.fields(json.dumps(one)))) for one in eventlog.read(host)
    ))  # fmt: skip
    for path, kept in FILES.items():
        text = _tried(functools.partial(_kept, host, path, kept))
        if text:
            suffix = "" if posixpath.splitext(path)[1] else ".txt"
            yield f"files{path}{suffix}", text
    for name, (argv, told) in (
        COMMANDS | (ON_CONTROL_PLANE if host.exists(paths.ADMIN_CONF) else {})
    ).items():
        yield f"commands/{name}", f"$ {' '.join(argv)}\n{_said(host, argv, told)}"


def _said(host: Host, argv: tuple[str, ...], kept: Filter) -> str:
    result = host.run(*argv, timeout=BOUND)
    phrases = [phrase for phrase in harmless.PHRASES if result.status and phrase in result.err]
    status = f"\n(status {result.status}{''.join(f'; {one}' for one in phrases)})\n"
    return kept(result.out) + (status if result.status else "")


def _kept(host: Host, path: str, kept: Filter) -> str:
    return kept(_beginning(host, path))


def _beginning(host: Host, path: str) -> str:
    """The last part of a log, the first of other files; nothing where there is none."""
    with untrusted.opened(host, path) as file:
        if path.endswith(".log") and file.seek(0, os.SEEK_END) > MAX_PART:
            file.seek(-MAX_PART, os.SEEK_END)
            file.readline()  # half a line could be half a secret, which nobody recognises
        elif path.endswith(".log"):
            file.seek(0)
        return file.read(MAX_PART).decode("utf-8", "replace").replace("\0", "")


def _doctor(host: Host) -> str:
    name = (host.text(paths.KERNEL_HOSTNAME) or "").strip()
    return doctor.as_json(doctor.examine(host), name, host.clock.now())


def _tried(work: Callable[[], str]) -> str:
    try:
        return work()
    except FileNotFoundError:
        return ""
    except NodeAgentError as error:
        return f"could not be had: {error.reason} ({error.code})\n"
    except Exception as error:  # noqa: BLE001  the other parts matter all the more then
        return f"could not be had: {type(error).__name__}: {error}\n"
