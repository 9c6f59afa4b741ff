"""What of a node may leave it: fields that are known to be harmless, line by line.

A list of what a secret looks like is never complete: a password of letters looks like a word. So
here is listed what may stay, by its name or its place; each function gives that of a text, and in
the place of the rest ``GONE``, or nothing for whole lines. How much is gone can be counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

GONE = "[left out]"
Filter = Callable[[str], str]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NAME = r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,252}"
URL = re.compile(r"\b([a-z][a-z0-9+.-]{1,15})://[^\s\"'<>]+")
# Of a kernel command line (kernel docs, kernel-parameters; systemd's kernel-command-line(7)).
PARAMETERS = _words(
    "root rootfstype rootwait rootdelay ro rw quiet splash console cgroup_enable "
    "cgroup_memory cgroup_disable fsck.repair fsck.mode init video net.ifnames "
    "swapaccount dwc_otg.lpm_enable modules-load cfg80211.ieee80211_regdom coherent_pool "
    "isolcpus panic fixrtc resize overlayroot boot systemd.unified_cgroup_hierarchy "
    "systemd.run_success_action psi maxcpus mem nr_cpus reboot vc_mem.mem_base "
    "vc_mem.mem_size snd_bcm2835.enable_hdmi plymouth.ignore-serial-consoles consoleblank "
    "usb-storage.quirks pcie_aspm ipv6.disable loglevel"
)
# Of config.txt (Raspberry Pi documentation, "config.txt").
FIRMWARE = _words(
    "arm_64bit arm_boost auto_initramfs initramfs kernel cmdline os_prefix overlay_prefix "
    "include dtparam dtoverlay enable_uart camera_auto_detect display_auto_detect "
    "disable_overscan disable_fw_kms_setup max_framebuffers gpu_mem arm_freq over_voltage "
    "otg_mode usb_max_current_enable hdmi_force_hotplug upstream_kernel device_tree "
    "total_mem disable_splash boot_delay"
)
LOCAL = _words(
    "ext2 ext3 ext4 vfat exfat xfs btrfs f2fs tmpfs devtmpfs overlay squashfs proc sysfs "
    "cgroup2 cgroup devpts securityfs debugfs tracefs mqueue hugetlbfs configfs fusectl "
    "bpf pstore ramfs autofs swap none binfmt_misc nsfs rpc_pipefs"
)
OPTIONS = _words(
    "defaults rw ro noatime relatime nodiratime nosuid nodev noexec nofail noauto auto "
    "user users sync async discard _netdev bind rbind private shared errors commit pri "
    "size mode uid gid fmask dmask data barrier nr_inodes sw flush utf8 shortname "
    "iocharset codepage"
)
SYSTEM = _words(
    "PRETTY_NAME NAME VERSION VERSION_ID VERSION_CODENAME DEBIAN_VERSION_FULL ID ID_LIKE "
    "IMAGE_ID IMAGE_VERSION VARIANT VARIANT_ID BUILD_ID UBUNTU_CODENAME"
)
OPTION = re.compile(r"[a-z_]+(=([0-9]+[kMG%]?|remount-ro|ordered|utf8|ascii|mixed))?")
# Of containerd's config.toml: nothing of registries, whose credentials are there.
CONTAINERD = _words(
    "version root state imports disabled_plugins required_plugins SystemdCgroup "
    "snapshotter default_runtime_name runtime_type sandbox_image sandbox config_path "
    "bin_dir conf_dir bin_dirs stats_collect_period enable_selinux oom_score"
)
# Of the kubelet's config.yaml (kubernetes.io, "Kubelet Configuration (v1beta1)").
KUBELET = _words(
    "kind apiVersion address port readOnlyPort cgroupDriver clusterDNS clusterDomain "
    "containerRuntimeEndpoint failSwapOn healthzBindAddress healthzPort resolvConf "
    "rotateCertificates serverTLSBootstrap staticPodPath maxPods "
    "nodeStatusUpdateFrequency nodeStatusReportFrequency memorySwap swapBehavior "
    "evictionHard imageGCHighThresholdPercent imageGCLowThresholdPercent "
    "shutdownGracePeriod volumeStatsAggPeriod syncFrequency fileCheckFrequency"
)
# What a node's own JSON may say, at any depth.
OWN_FIELDS = _words(
    "version v phase since updated waiting for until progress kind text done total "
    "node_name node_id address page fleet role role_why control_plane kubernetes versions "
    "nodeagent kubelet containerd steps name title state seconds phases at peers heard "
    "timeline approvals certificates expires renewal tokens hardware level value remedy "
    "error code reason last_error over notes detail interface_address instance port "
    "endpoint status_page interfaces first last candidates own_heard board born claim "
    "epoch equipped fsync_ms history imported initialised last_known policy reboots "
    "resetting identity starts stepping_down vote node event time wish left findings "
    "summary group why step boot peer findings id checked"
)
# What logs of others say of errors, in the words of the Go standard library and Kubernetes.
PHRASES = (
    "connection refused", "connection reset", "no such host", "i/o timeout", "no route to host",
    "network is unreachable", "context deadline exceeded", "context canceled",
    "TLS handshake timeout", "certificate has expired", "certificate is not yet valid",
    "certificate signed by unknown authority", "not found", "already exists", "permission denied",
    "no space left on device", "read-only file system", "input/output error",
    "device or resource busy", "unauthorized", "Unauthorized", "forbidden", "too many requests",
    "500 Internal", "503 Service", "EOF", "ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff",
    "back-off", "OOMKilled", "out of memory", "cni plugin not initialized", "NetworkReady=false",
    "NetworkPluginNotReady", "PLEG is not healthy", "node not found", "nodes is forbidden",
    "failed to get node info", "Loop ", "cgroup", "swap", "x509", "etcdserver: request timed out",
    "leader changed", "apply request took too long", "failed to pull",
    "failed to reserve container name", "failed to create containerd task",
    "no such file or directory", "exit status", "signal: killed", "database space exceeded",
    "evict", "deadline", "unhealthy", "probe failed", "Failed to ensure lease exists", "NotReady",
)  # fmt: skip
KLOG = re.compile(r"([IWEF])(\d{4} \d\d:\d\d:\d\d)\.\d+ +\d+ ([a-z0-9_./-]+\.go:\d+)\]")
LOGRUS = re.compile(r"\btime=\"?([0-9TZ:.+-]{10,40})\"? level=([a-z]+)")
STAMP = re.compile(
    r"^(\w{3} [ \d]\d \d\d:\d\d:\d\d)(?:\.\d+)? \S+ ([A-Za-z0-9_.-]+?)(?:\[\d+\])?: (.*)$"
)
KERNEL = re.compile(
    r"(mmc\d|mmcblk\d|EXT4-fs|FAT-fs|usb \d|hwmon|[Uu]nder-?[Vv]oltage|Voltage normalised|thermal"
    r"|Out of memory|oom-kill|oom_reaper|Killed process|Memory cgroup|I/O error|blk_update"
    r"|Buffer I/O|eth\d|end\d|wlan\d|brcmfmac|bcmgenet|macb|cgroup|Memory:|Linux version"
    r"|br_netfilter|overlayfs|zram|watchdog|rcu|INFO: task|bridge|nvme"
    r"|sd \d|xhci|Machine model)"
)


def nothing(text: str) -> str:
    """Of what is never taken: how long it was."""
    return f"{GONE}: {len(text)} characters\n"


def own(text: str) -> str:
    """What this program itself says: of addresses in it only the host."""

    def host(found: re.Match[str]) -> str:
        rest = found[0].partition("://")[2]
        named = re.match(rf"(?:[^/@]*@)?({NAME})", rest)
        whole = re.fullmatch(rf"{NAME}/?", rest)
        return found[0] if whole else f"{found[1]}://{named[1] if named else ''}/{GONE}"

    return URL.sub(host, text)


def fields(text: str) -> str:
    """JSON of our own, with the keys that are known."""
    try:
        return json.dumps(_known(json.loads(text)), indent=1)
    except ValueError:
        return nothing(text)


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _known(one) for key, one in value.items() if key in OWN_FIELDS}
        return {**kept, GONE: len(value) - len(kept)} if len(kept) < len(value) else kept
    if isinstance(value, list):
        return [_known(one) for one in value]
    return own(value) if isinstance(value, str) else value


def lines(pattern: str) -> Filter:
    """The lines that are wholly of this form."""
    form = re.compile(pattern)

    def kept(text: str) -> str:
        return _joined(line if form.fullmatch(line) else None for line in text.splitlines())

    return kept


def _joined(kept: Iterator[str | None]) -> str:
    """Lines, and how many are left out (None)."""
    found, gone = [], 0
    for line in kept:
        if line is None:
            gone += 1
        else:
            found.append(line)
    return "".join(f"{line}\n" for line in found) + (f"{GONE}: {gone} lines\n" if gone else "")


def parameters(text: str) -> str:
    """A kernel command line."""

    def one(word: str) -> str:
        name, _, value = word.partition("=")
        if name in PARAMETERS and re.fullmatch(r"[A-Za-z0-9.,:=/_-]{0,80}", value):
            return word
        return f"{name}={GONE}" if name in PARAMETERS else GONE

    return " ".join(map(one, text.split())) + "\n"


def mounts(text: str) -> str:
    """fstab(5), or /proc/mounts: options by name, and no server's address."""

    def one(line: str) -> str | None:
        words = line.split()
        if line.lstrip().startswith("#") or len(words) < 4:
            return None
        local = words[2] in LOCAL
        options = ",".join(
            option if OPTION.fullmatch(option) and option.partition("=")[0] in OPTIONS else GONE
            for option in words[3].split(",")
        )
        kind = words[2] if re.fullmatch(r"[a-z0-9_.]{1,20}", words[2]) else GONE
        return f"{words[0] if local else GONE} {words[1] if local else GONE} {kind} {options}"

    return _joined(map(one, text.splitlines()))


def assigned(names: frozenset[str], between: str) -> Filter:
    """Lines ``name BETWEEN value`` with a known name, and headings in brackets."""
    form = re.compile(
        rf"\s*(?:- )?([A-Za-z_]+)\s*{between}\s*([\"'\[\]A-Za-z0-9 .,=/:_()+-]*)(?:\s+#.*)?"
    )

    def one(line: str) -> str | None:
        if re.fullmatch(r"\s*\[[a-z0-9=]{1,20}\]\s*", line):
            return line
        found = form.fullmatch(line)
        return line.partition(" #")[0] if found and found[1] in names else None

    return lambda text: _joined(map(one, text.splitlines()))


def cloud_init(text: str) -> str:
    """How far it came, from which kind of source, and how many errors there were."""
    try:
        said = json.loads(text)["v1"]
        told: dict[str, Any] = {"errors": len(said.get("errors", []))}
        for name, value in said.items():
            if name in ("datasource", "stage"):
                told[name] = re.match(r"[A-Za-z-]*", str(value))[0]  # type: ignore[index]
            elif isinstance(value, dict):
                told[name] = {key: value[key] for key in ("start", "finished")
                              if isinstance(value.get(key), int | float)}  # fmt: skip
                told["errors"] += len(value.get("errors", []))
        return json.dumps(told, indent=1)
    except (ValueError, KeyError, AttributeError, TypeError):
        return nothing(text)


def journal(text: str) -> str:
    """What this program and systemd said."""

    def one(line: str) -> str | None:
        found = STAMP.match(line)
        if found is None or found[2] not in ("nodeagent", "systemd", "python3"):
            return None
        return f"{found[1]} {found[2]}: {own(found[3])}"

    return _joined(map(one, text.splitlines()))


def kernel(text: str) -> str:
    """What the kernel said of power, card, memory, network and containers."""

    def one(line: str) -> str | None:
        found = STAMP.match(line)
        if found is None or found[2] != "kernel":
            return None
        message = re.sub(r"^\[ *[\d.]+\] ", "", found[3])
        return f"{found[1]} {message}" if KERNEL.match(message) else None

    return _joined(map(one, text.splitlines()))


def logged(text: str) -> str:
    """A log of others: when, how bad, where in its source, and which known errors it names."""

    def one(line: str) -> str | None:
        stamp = STAMP.match(line)
        message = stamp[3] if stamp else line
        where = KLOG.search(message)
        level = LOGRUS.search(message)
        said = [phrase for phrase in PHRASES if phrase in message]
        if where:
            head = f"{where[1]}{where[2]} {where[3]}"
        elif level:
            head = f"{level[1][:19]} {level[2]}"
        elif stamp and said:
            head = stamp[2]
        else:
            return None
        return " ".join(
            [stamp[1] if stamp else "", head, *([f"({'; '.join(said)})"] if said else [])]
        )

    return _joined(map(one, text.splitlines()))


def events(text: str) -> str:
    """Of the cluster's events, as ``report`` asks for them, all but the message."""

    def one(line: str) -> str:
        *known, message = line.split("\t", 6)
        said = "; ".join(phrase for phrase in PHRASES if phrase in message)
        plain = [one if re.fullmatch(r"[A-Za-z0-9.:-]*", one) else GONE for one in known]
        return "\t".join([*plain, said])

    return _joined(map(one, text.splitlines()))


def table(text: str) -> str:
    """Rows of names, numbers and addresses, as tools print them: no quotes, no signs of others."""
    return lines(r"[A-Za-z0-9 .:/_<>(),%*@+\[\]~|-]{0,400}")(text)


def first(count: int) -> Filter:
    """The first words of each line."""
    return lambda text: table("\n".join(" ".join(one.split()[:count]) for one in text.splitlines()))


def rules(text: str) -> str:
    """nft(8)'s rules without comments and names in quotes but interfaces'."""

    def quoted(found: re.Match[str]) -> str:
        return found[0] if re.fullmatch(r'(iifname|oifname|iif|oif) "[A-Za-z0-9.*_-]{1,16}"',
                                        found[0]) else f'{found[1]} "{GONE}"'  # fmt: skip

    return re.sub(r"(\S+) \"[^\"]*\"", quoted, text)
