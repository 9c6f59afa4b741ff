"""Doubles of the commands that the agent runs, acting on a folder that stands for the machine.

Each leaves the files that the real one is recorded to leave (`tests/lab` runs the real ones), in
the same order, and syncs what the real one syncs: dpkg its database, etcd its log, containerd its
images; kubeadm, systemctl and apt's lists nothing. Each refuses what the real one refuses. Used in
one process by `firstboot.py`, and as programs of their own by `kills.py`; so only what starts
fast is imported.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

SYSCTLS = (
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
)
MODULES = ("overlay", "br_netfilter", "vxlan")
ADDRESS = "10.0.0.7"
NAME = "pi-cdef12"  # what the agent makes of the serial number below
STATUS = "/var/lib/dpkg/status"
DPKG_JOURNAL = "/var/lib/dpkg/updates/0001"
LISTS = "/var/lib/apt/lists"
INDEX = "Package: kubeadm\n" * 9
RELEASE = f"""-----BEGIN PGP SIGNED MESSAGE-----
SHA256:
 {"0" * 64} {len(INDEX)} Packages
-----BEGIN PGP SIGNATURE-----
-----END PGP SIGNATURE-----
"""
VERSIONS = {"containerd.io": "2.3.7-1", "containerd": "2.2.1-1", "iptables": "1.8.11-2",
            "kubernetes-cni": "1.8.0-1.1", "cri-tools": "1.37.0-1.1"}  # fmt: skip
UNITS = {"containerd.io": "containerd.service", "containerd": "containerd.service",
         "kubelet": "kubelet.service"}  # fmt: skip
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
BOOTSTRAP_CONF = "/etc/kubernetes/bootstrap-kubelet.conf"
MANIFESTS = tuple(
    f"/etc/kubernetes/manifests/{name}.yaml"
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
)
CLIENT_PEM = "/var/lib/kubelet/pki/kubelet-client-2026.pem"
PLACED_PEM = "/var/lib/kubelet/pki/kubelet-client-nodeagent.pem"  # the agent's own
CLIENT_LINK = "/var/lib/kubelet/pki/kubelet-client-current.pem"
KUBELET_FILES = ("/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env")
CNI = "/etc/cni/net.d/10-flannel.conflist"
WAL = "/var/lib/etcd/member/wal"
RESET = (
    "/etc/kubernetes/pki/ca.key", "/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/admin.conf",
    KUBELET_CONF, BOOTSTRAP_CONF, *MANIFESTS, *KUBELET_FILES, CLIENT_LINK, CLIENT_PEM,
    PLACED_PEM,
)  # fmt: skip
FORMED = "/var/lib/nodeagent/kubeadm/formed"
KUBELET_RUNS, CLUSTER_RUNS = "/run/double-kubelet", "/run/double-cluster"

Answer = tuple[int, str, str]  # exit status, standard output, standard error


class Commands:
    """The commands of one machine. ``store`` holds the cluster's certificates, ready-made."""

    def __init__(self, root: Path, store: Path, pause: Callable[[float], None]) -> None:
        self.root, self.store, self.pause = root, store, pause
        self.ledger: list[str] = []  # what cannot be told from the files afterwards
        self.unknown: set[str] = set()  # commands that no double is made for

    # Files, as a program writes them that does not think of power cuts.

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """The content of a file, empty where there is none."""
        path = self.path(name)
        return path.read_text(errors="replace") if path.is_file() else ""

    def write(self, name: str, data: str | bytes, durable: bool = False) -> None:
        """Write a file; ``durable``: beside it, synced, renamed, the folder synced."""
        path = self.path(name)
        if not path.parent.is_dir():
            os.makedirs(path.parent)
        target = path.with_name(f"{path.name}.dpkg-new") if durable else path
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, data.encode() if isinstance(data, str) else data)
        if durable:
            os.fsync(descriptor)
        os.close(descriptor)
        if durable:
            os.replace(target, path)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)

    def link(self, name: str, target: str) -> None:
        """Make a symlink, as systemctl and the kubelet do."""
        path = self.path(name)
        if not path.parent.is_dir():
            os.makedirs(path.parent)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it."""
        path = self.path(name)
        if path.is_dir() and not path.is_symlink():
            for entry in sorted(os.listdir(path)):
                self.remove(f"{name}/{entry}")
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)

    # The kernel and what runs.

    def boot(self, number: int) -> None:
        """Power on: firmware, kernel and systemd read their files."""
        arguments = f"cgroup_disable=memory {self.text('/boot/firmware/cmdline.txt').strip()}"
        on = "cgroup_enable=memory" in arguments
        swap = "Mechanism=none" not in self.text("/etc/rpi/swap.conf.d/90-nodeagent.conf")
        for name, content in {
            "/proc/cmdline": f"{arguments}\n",
            "/proc/sys/kernel/random/boot_id": f"boot-{number}\n",
            "/proc/sys/kernel/hostname": self.text("/etc/hostname"),
            "/proc/sys/kernel/osrelease": "6.12\n",
            "/proc/device-tree/serial-number": "10000000abcdef12\0",
            "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "/proc/meminfo": "MemTotal: 4000000 kB\n",
            "/proc/uptime": "30.00 40.00\n",
            "/proc/swaps": "Filename\n" + ("/dev/zram0 partition 1 0 100\n" if swap else ""),
            "/proc/modules": "",
            "/proc/net/route": (
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
                "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\n"
                "eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\n"
            ),
            "/proc/net/fib_trie": f"   |-- {ADDRESS}\n      /32 host LOCAL\n",
            "/sys/fs/cgroup/cgroup.controllers": "cpu memory\n" if on else "cpu\n",
            "/sys/devices/system/cpu/online": "0-3\n",
            "/dev/watchdog0": "",
            "/run/systemd/timesync/synchronized": "",
            **dict.fromkeys(SYSCTLS, "0\n"),
        }.items():
            self.write(name, content)
        if self.text("/etc/modules-load.d/nodeagent.conf"):
            self._modprobe()
        if self.text("/etc/sysctl.d/99-nodeagent.conf"):
            self._sysctl()
        if self._wanted("containerd.service"):
            self._start_containerd()
        if self._wanted("kubelet.service"):
            self._start_kubelet()

    def _wanted(self, unit: str) -> bool:
        link = self.path(f"/etc/systemd/system/multi-user.target.wants/{unit}")
        return link.is_symlink() and self._installed(unit.removesuffix(".service"))

    def _modprobe(self) -> None:
        self.write("/proc/modules", "".join(f"{name} 1 0 - Live 0x0\n" for name in MODULES))

    def _sysctl(self) -> None:
        for name in SYSCTLS:
            self.write(name, "1\n")

    def _start_containerd(self) -> None:
        drop_in = self.text("/etc/systemd/system/containerd.service.d/10-nodeagent.conf")
        found = re.search(r'Environment="(.*)"', drop_in)
        self.write("/proc/1001/environ", f"{found[1] if found else ''}\0")

    def _start_kubelet(self) -> None:
        """It ends at once without its files; with them it starts what stands in manifests."""
        if not all(self.text(name) for name in (KUBELET_CONF, *KUBELET_FILES)):
            return
        if "PRIVATE KEY" not in self._current() or not self.path(CLIENT_LINK).is_symlink():
            return
        self.write(KUBELET_RUNS, "")
        if all(self.text(name) for name in MANIFESTS) and self.text(WAL):
            self.write(CLUSTER_RUNS, "")
            if "flannel" in self.text(WAL):
                self._flannel()
        elif not self.path(MANIFESTS[0]).exists():
            self._flannel()  # a worker: the cluster is elsewhere

    def _flannel(self) -> None:
        self.write(CNI, "{}\n")  # it copies it anew at each start

    def ready(self) -> bool:
        """What the API server says of this node."""
        leads = self.path(MANIFESTS[0]).exists()
        running = (KUBELET_RUNS, CLUSTER_RUNS) if leads else (KUBELET_RUNS,)
        return all(self.path(name).exists() for name in running) and bool(self.text(CNI))

    # The commands.

    def run(self, argv: Sequence[str], stdin: str | None) -> Answer:
        """Do what the command does."""
        words = tuple(argv)
        for begin, act in (
            (("hostnamectl", "set-hostname"), self._hostname),
            (("swapoff",), lambda w: self._volatile("/proc/swaps", "Filename\n")),
            (("modprobe",), lambda w: self._well(self._modprobe)),
            (("sysctl",), lambda w: self._well(self._sysctl)),
            (("systemctl", "show"), self._show),
            (("systemctl", "enable"), self._enable),
            (("systemctl", "restart", "containerd.service"), self._restart),
            (("systemctl", "disable"), self._disable),
            (("systemctl", "start", "kubelet"), self._start),
            (("systemctl", "stop"), lambda w: (0, "", "")),
            (("systemctl", "daemon-reload"), lambda w: (0, "", "")),
            (("systemctl", "daemon-reexec"), lambda w: (0, "", "")),
            (("sh", "-c"), lambda w: self.run(w[4:], stdin)),  # which has the rest's output
            (("apt-get", "update"), self._update),
            (("apt-get", "install"), self._install),
            (("dpkg", "--configure"), self._configure),
            (("dpkg", "--set-selections"), lambda w: self._select(stdin or "")),
            (("crictl", "rmp"), lambda w: (0, "", "")),
            (("crictl", "inspecti"), self._inspect),
            (("crictl", "pull"), self._pull),
            (("kubeadm", "config", "images", "list"), self._images),
            (("kubeadm", "init"), self._init),
            (("kubeadm", "join"), self._join),
            (("kubeadm", "reset"), self._reset),
            (("rm", "-rf"), self._rm),
            (("piboot-try",), lambda w: (127, "", "")),  # Ubuntu's
            (("pidof",), lambda w: (1, "", "")),
            (("iptables-save",), lambda w: (0, "", "")),
            (("ip6tables-save",), lambda w: (0, "", "")),
            (("nft", "list", "tables"), lambda w: (0, "", "")),
            (("ip", "link", "delete"), lambda w: (1, "", "Cannot find device")),
            (("kubectl",), lambda w: self._kubectl(w, stdin or "")),
            (("runuser",), lambda w: self._kubeconfig(stdin or "")),
        ):
            if words[: len(begin)] == begin:
                return act(words)
        self.unknown.add(" ".join(words[:2]))
        return 0, "", ""

    def _well(self, act: Callable[[], None]) -> Answer:
        act()
        return 0, "", ""

    def _volatile(self, name: str, content: str) -> Answer:
        self.write(name, content)
        return 0, "", ""

    def _hostname(self, words: Sequence[str]) -> Answer:
        self.write("/proc/sys/kernel/hostname", f"{words[2]}\n")
        return 0, "", ""

    def _show(self, words: Sequence[str]) -> Answer:
        if "MainPID" in words:
            return 0, "1001\n" if self.path("/proc/1001/environ").exists() else "0\n", ""
        return 0, "0\n", ""

    def _enable(self, words: Sequence[str]) -> Answer:
        unit = words[-1] if "." in words[-1] else f"{words[-1]}.service"
        if not unit.startswith("nodeagent") and not self._installed(unit.removesuffix(".service")):
            return 1, "", f"Failed to enable unit: Unit file {unit} does not exist."
        target = "sockets" if unit.endswith(".socket") else "multi-user"
        self.link(
            f"/etc/systemd/system/{target}.target.wants/{unit}", f"/usr/lib/systemd/system/{unit}"
        )
        if "--now" in words and unit == "kubelet.service":
            self._start_kubelet()
        return 0, "", ""

    def _disable(self, words: Sequence[str]) -> Answer:
        for unit in words[2:]:
            target = "sockets" if unit.endswith(".socket") else "multi-user"
            self.remove(f"/etc/systemd/system/{target}.target.wants/{unit}")
        return 0, "", ""

    def _start(self, words: Sequence[str]) -> Answer:
        self._start_kubelet()
        return 0, "", ""

    def _restart(self, words: Sequence[str]) -> Answer:
        if not self._installed("containerd"):
            return 5, "", "Unit containerd.service not found."
        self._start_containerd()
        return 0, "", ""

    # Packages.

    def _packages(self) -> dict[str, tuple[str, str, str]]:
        """Name -> (selection, state, version)."""
        found = {}
        for stanza in self.text(STATUS).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
            if "Package" in fields:
                selection, _, state = fields["Status"].split()
                found[fields["Package"]] = selection, state, fields["Version"]
        return found

    def _installed(self, unit: str) -> bool:
        names = ("containerd.io", "containerd") if unit == "containerd" else (unit,)
        packages = self._packages()
        return any(packages.get(name, ("", "", ""))[1] == "installed" for name in names)

    def _database(self, packages: dict[str, tuple[str, str, str]]) -> None:
        self.write(STATUS, dpkg_status(packages), durable=True)

    def _update(self, words: Sequence[str]) -> Answer:
        folder = self.path("/etc/apt/sources.list.d")
        for source in sorted(folder.iterdir()) if folder.is_dir() else []:
            key = re.search(r"Signed-By: (.*)", source.read_text())
            if key is None or not self.text(key[1]):
                return 100, "", f"E: The repository of {source.name} is not signed."
            name = source.stem
            release, index = f"{LISTS}/{name}_InRelease", f"{LISTS}/{name}_Packages"
            # apt asks only whether the Release has changed, and then takes the lists for current.
            if self.text(release) not in ("", RELEASE):
                return 100, "", "E: Clearsigned file isn't valid, got 'NOSPLIT'"
            if not self.path(release).exists() or not self.path(index).exists():
                self.write(index, INDEX)
                self.pause(10)
            self.write(release, RELEASE)
        return 0, "", ""

    def _install(self, words: Sequence[str]) -> Answer:
        if self.path(DPKG_JOURNAL).exists():
            return 100, "", "E: dpkg was interrupted, you must manually run 'dpkg --configure -a'"
        wanted = {}
        for before, word in itertools.pairwise(words[1:]):
            name, _, pattern = word.partition("=")
            if before == "-o" or word.startswith("-"):
                continue
            if pattern or name in VERSIONS:
                wanted[name] = VERSIONS.get(name, pattern.replace("*", "1.1"))
        lists = self.path(LISTS)
        known = [
            path for path in lists.iterdir()
            if path.name.endswith("_Packages") and path.read_text() == INDEX
        ]  # fmt: skip
        if len(known) < 2:
            return 100, "", "E: Unable to locate package kubeadm"
        packages = self._packages()
        self.write(DPKG_JOURNAL, "", durable=True)
        for name, version in wanted.items():
            selection = packages.get(name, ("install",))[0]
            packages[name] = selection, "unpacked", version
            if name in UNITS:
                self.write(f"/usr/lib/systemd/system/{UNITS[name]}", "unit\n", durable=True)
            self._database(packages)
        self.pause(60)
        return self._configured(packages)

    def _configure(self, words: Sequence[str]) -> Answer:
        return self._configured(self._packages())

    def _configured(self, packages: dict[str, tuple[str, str, str]]) -> Answer:
        for name, (selection, state, version) in packages.items():
            if state in ("unpacked", "half-configured"):
                for after in ("half-configured", "installed"):
                    packages[name] = selection, after, version
                    self._database(packages)
        self.pause(30)
        self.remove(DPKG_JOURNAL)
        if self._installed("containerd") and not self.path("/proc/1001").exists():
            self._start_containerd()  # as its package's script does
        return 0, "", ""

    def _select(self, text: str) -> Answer:
        packages = self._packages()
        for line in text.splitlines():
            name, selection = line.split()
            if name in packages:
                packages[name] = selection, *packages[name][1:]
        self._database(packages)
        return 0, "", ""

    # Images.

    def _image(self, words: Sequence[str]) -> str:
        return f"/var/lib/containerd/{words[-1].replace('/', '_')}"

    def _inspect(self, words: Sequence[str]) -> Answer:
        return (0 if self.text(self._image(words)) else 1), "", ""

    def _pull(self, words: Sequence[str]) -> Answer:
        self.pause(20)
        self.write(self._image(words), "image\n", durable=True)
        return 0, "", ""

    def _images(self, words: Sequence[str]) -> Answer:
        names = ("kube-apiserver", "etcd")
        return 0, "".join(f"registry.k8s.io/{name}:v1\n" for name in names), ""

    # kubeadm.

    def _stored(self, name: str) -> bytes:
        return (self.store / name).read_bytes()

    def _kubelet(self, server: str) -> None:
        self.write(CLIENT_PEM, self._stored("client.pem"))
        self.link(CLIENT_LINK, CLIENT_PEM)
        self.write(KUBELET_CONF, f"server: https://{server}\nclient-key: {CLIENT_LINK}\n")

    def _current(self) -> str:
        """What the kubelet's link leads to."""
        try:
            target = os.readlink(self.path(CLIENT_LINK))
        except OSError:
            return ""
        return self.text(os.path.join(os.path.dirname(CLIENT_LINK), target))

    def _init(self, words: Sequence[str]) -> Answer:
        there = [name for name in (*MANIFESTS, WAL) if self.path(name).exists()]
        if self.text(FORMED) or there or self.path(CLUSTER_RUNS).exists():
            self.ledger.append("kubeadm init refused")
            return 1, "", f"[ERROR] {there} is there already"
        if self.path("/etc/kubernetes/pki/ca.key").exists():
            return 1, "", "failure loading ca key: not a private key"
        if "kind: InitConfiguration" not in self.text(words[-1]):
            return 1, "", "couldn't read the configuration"
        for name in ("ca.key", "ca.crt"):
            self.write(f"/etc/kubernetes/pki/{name}", self._stored(name))
        self.write("/etc/kubernetes/admin.conf", "admin\n")
        self._kubelet(f"{ADDRESS}:6443")
        for name in MANIFESTS[1:]:
            self.write(name, "manifest\n")
        self.write(MANIFESTS[0], "manifest\n")
        for name in KUBELET_FILES:
            self.write(name, "kubelet\n")
        self.link("/etc/systemd/system/multi-user.target.wants/kubelet.service",
                  "/usr/lib/systemd/system/kubelet.service")  # fmt: skip
        self.pause(4)
        self.write(WAL, "cluster\n")
        self._start_kubelet()
        self.ledger.append("kubeadm init done")
        return 0, "Your Kubernetes control-plane has initialized successfully!\n", ""

    def _join(self, words: Sequence[str]) -> Answer:
        refused = (KUBELET_CONF, BOOTSTRAP_CONF, "/etc/kubernetes/pki/ca.crt", *MANIFESTS)
        there = [name for name in refused if self.path(name).exists()]
        if there:
            return 1, "", f"[ERROR FileAvailable] {there} is there already"
        configuration = self.text(words[-1])
        token = re.search(r"tlsBootstrapToken: (\S+)", configuration)
        discovery = re.search(r"kubeConfigPath: (\S+)", configuration)
        if token is None or discovery is None or "certificate-authority-data" not in self.text(
            discovery[1]
        ):  # fmt: skip
            return 1, "", "couldn't read the configuration"
        self.write("/etc/kubernetes/pki/ca.crt", self._stored("ca.crt"))
        self.write(BOOTSTRAP_CONF, f"token: {token[1]}\n")
        for name in KUBELET_FILES:
            self.write(name, "kubelet\n")
        self.pause(4)
        # The kubelet takes what was laid there for it; without, it would ask with a key of its own,
        # which nobody approves.
        placed = self._current()
        if "PRIVATE KEY" not in placed or "CERTIFICATE" not in placed:
            return 1, "", "timed out waiting for the kubelet to perform the TLS Bootstrap"
        self.write(KUBELET_CONF, f"server: https://10.0.0.2:6443\nclient-key: {CLIENT_LINK}\n")
        self.link("/etc/systemd/system/multi-user.target.wants/kubelet.service",
                  "/usr/lib/systemd/system/kubelet.service")  # fmt: skip
        self.remove(BOOTSTRAP_CONF)
        self._start_kubelet()
        self.ledger.append("kubeadm join done")
        return 0, "This node has joined the cluster\n", ""

    def _reset(self, words: Sequence[str]) -> Answer:
        if self.text(FORMED):
            self.ledger.append("kubeadm reset of a formed node")
        for name in (KUBELET_RUNS, CLUSTER_RUNS, *RESET):
            self.remove(name)
        self.ledger.append("kubeadm reset done")
        return 0, "", ""

    def _rm(self, words: Sequence[str]) -> Answer:
        for name in words[2:]:
            self.remove(name)
        return 0, "", ""

    def _kubectl(self, words: Sequence[str], stdin: str) -> Answer:
        if not self.path(CLUSTER_RUNS).exists():
            return 1, "", "The connection to the server was refused"
        if "get" in words:
            return 0, '{"items": [], "metadata": {}}', ""
        self.pause(2)
        if "apply" in words:
            # etcd's log is synced before the API server answers.
            self.write(WAL, f"cluster\n{'flannel' if 'flannel' in stdin else ''}\n", durable=True)
            self._flannel()
        return 0, "", ""

    def _kubeconfig(self, stdin: str) -> Answer:
        """The shell lines of cluster/control_plane.py, which `tests/unit` runs for real."""
        there = self.text("/home/pi/.kube/config")
        if not stdin:  # the way back
            if "nodeagent" in there.partition("\n")[0]:
                self.remove("/home/pi/.kube/config")
            return 0, "", ""
        if there and there.splitlines()[0] != stdin.splitlines()[0]:
            return 3, "", ""
        self.write("/home/pi/.kube/config.nodeagent", stdin)
        path = self.path("/home/pi/.kube/config.nodeagent")
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        os.replace(path, path.with_name("config"))
        return 0, "", ""


def dpkg_status(packages: dict[str, tuple[str, str, str]]) -> str:
    """dpkg's database: name -> (selection, state, version)."""
    return "\n".join(
        f"Package: {name}\nStatus: {selection} ok {state}\nArchitecture: arm64\n"
        f"Version: {version}\n"
        for name, (selection, state, version) in packages.items()
    )
