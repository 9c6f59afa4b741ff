"""Facts: what is true of the machine now, read when asked for and kept for one pass.

The parsers are in ``parse.py``, what an interface is in ``network.py``; here is only where each
fact is found.
"""

from __future__ import annotations

import re
from typing import Any

from nodeagent import paths
from nodeagent.host import parse
from nodeagent.host.apt import dpkg
from nodeagent.host.host import Host, Result
from nodeagent.host.net import interfaces


class Facts:
    """A view of one host for one pass of the engine; files and command outputs are read once."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._kept: dict[Any, Any] = {}

    @property
    def live(self) -> bool:
        """True on the running system; False on a mounted image (no commands, no kernel)."""
        return self.host.live

    @property
    def has_programs(self) -> bool:
        """True on the running system and in an image that is being baked; see ``Host``."""
        return self.host.has_programs

    @property
    def now(self) -> float:
        """Seconds since the epoch, as the host's clock says."""
        return self.host.clock.now()

    def read(self, path: str) -> bytes | None:
        """A file's bytes, or None. Raises OSError."""
        return self._keep(("read", path), lambda: self.host.read(path))  # type: ignore[no-any-return]

    def text(self, path: str) -> str | None:
        """A file's text, or None. Raises OSError."""
        data = self.read(path)
        return None if data is None else data.decode("utf-8", "replace")

    def exists(self, path: str) -> bool:
        """True for an existing file or folder."""
        return self._keep(("exists", path), lambda: self.host.exists(path))  # type: ignore[no-any-return]

    def any_of(self, *paths: str) -> bool:
        """True where one of the paths exists."""
        return any(self.exists(path) for path in paths)

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder."""
        return self._keep(("names", folder), lambda: self.host.names(folder))  # type: ignore[no-any-return]

    def size(self, path: str) -> int:
        """A file's size in bytes; 0 where there is none."""

        def measure() -> int:
            where = self.host.path(path)
            return where.stat().st_size if where.is_file() else 0

        return self._keep(("size", path), measure)  # type: ignore[no-any-return]

    def ask(self, *argv: str, timeout: float = 30) -> Result:
        """What a command that changes nothing answers."""
        return self._keep(argv, lambda: self.host.run(*argv, timeout=timeout))  # type: ignore[no-any-return]

    def _keep(self, name: Any, make: Any) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    # The board

    @property
    def memory_mib(self) -> int:
        """Memory that the kernel has, in MiB (a little less than the board's)."""
        return parse.memory_mib(self.text(paths.MEMINFO) or "")

    @property
    def cpus(self) -> int:
        """CPUs that are online, at least 1."""
        return parse.cpus(self.text("/sys/devices/system/cpu/online") or "") or 1

    @property
    def model(self) -> str:
        """Board model such as ``Raspberry Pi 5 Model B Rev 1.0``; empty where there is none."""
        return parse.device_text(self.read(paths.MODEL) or b"")

    @property
    def serial(self) -> str:
        """The board's serial number in lower case; empty where it has none."""
        return parse.device_text(self.read("/proc/device-tree/serial-number") or b"").lower()

    # The system

    @property
    def os_id(self) -> str:
        """``debian`` (Raspberry Pi OS 64-bit too), ``raspbian``, ``ubuntu`` (os-release(5), ID)."""
        return self._os_release.get("ID", "")

    @property
    def codename(self) -> str:
        """``trixie``, ``noble`` … (os-release(5), VERSION_CODENAME); empty where unknown."""
        return self._os_release.get("VERSION_CODENAME", "")

    @property
    def is_debian(self) -> bool:
        """Debian or made of it, as the system itself says (os-release(5), ID and ID_LIKE)."""
        like = self._os_release.get("ID_LIKE", "").split()
        return "debian" in (self.os_id, *like)

    @property
    def _os_release(self) -> dict[str, str]:
        text = self.text(paths.OS_RELEASE) or self.text("/usr/lib/os-release") or ""
        return parse.os_release(text)

    @property
    def packages(self) -> dpkg.Packages:
        """The packages that dpkg knows. Raises OSError."""

        def make() -> dpkg.Packages:
            return dpkg.Packages(self.text(dpkg.STATUS) or "", self.names(dpkg.UPDATES))

        return self._keep(dpkg.STATUS, make)  # type: ignore[no-any-return]

    @property
    def architecture(self) -> str:
        """Of the system, not of the kernel, in dpkg's words: ``arm64``, ``amd64``, ``armhf``."""
        return self.packages.architecture

    @property
    def kernel(self) -> str:
        """Release of the running kernel, as ``uname -r`` prints it."""
        return (self.text("/proc/sys/kernel/osrelease") or "").strip()

    @property
    def uptime(self) -> float:
        """Seconds since boot; does not jump when the clock is set."""
        return parse.seconds_up(self.text(paths.UPTIME) or "")

    @property
    def machine_id(self) -> str:
        """32 hexadecimal digits (machine-id(5)); empty or ``uninitialized`` before first boot."""
        return (self.text(paths.MACHINE_ID) or "").strip()

    @property
    def hostname(self) -> str:
        """The kernel's host name; on an image what /etc/hostname says (hostname(5))."""
        if self.live:
            return (self.text(paths.KERNEL_HOSTNAME) or "").strip()
        return self.static_hostname

    @property
    def node_name(self) -> str:
        """The host name as Kubernetes uses it: its first label, in lower case as kubeadm and the
        kubelet make it (GetHostname in both)."""
        return self.hostname.split(".")[0].lower()

    @property
    def static_hostname(self) -> str:
        """The name in /etc/hostname: its first line that is no comment (hostname(5))."""
        lines = (line.strip() for line in (self.text(paths.HOSTNAME) or "").splitlines())
        return next((line for line in lines if line and not line.startswith("#")), "")

    @property
    def controllers(self) -> frozenset[str] | None:
        """The cgroup v2 controllers that the kernel offers; None where cgroup v2 is not in use
        (kernel docs, admin-guide/cgroup-v2, cgroup.controllers)."""
        text = self.text(paths.CGROUP_CONTROLLERS)
        return None if text is None else frozenset(text.split())

    @property
    def swaps(self) -> tuple[str, ...]:
        """The swap files and devices in use."""
        return parse.swaps(self.text(paths.SWAPS) or "")

    # The network

    def interface(self, wanted: str = "auto") -> str | None:
        """The node's own interface: the one named in the settings, or that of the best default
        route that leads to the LAN."""
        return wanted if wanted != "auto" else interfaces.main_interface(self)

    def lan(self, wanted: str = "auto") -> tuple[str, ...]:
        """All interfaces to announce on and to listen on, wired ones first; only the one that is
        named in the settings."""
        return (wanted,) if wanted != "auto" else interfaces.lan(self)

    def address(self, wanted: str = "auto", version: int = 4) -> str | None:
        """The address of the node's own interface that the cluster is to use, of IP ``version``
        where it has one; never a link-local one. None where there is none yet."""
        name = self.interface(wanted)
        return None if name is None else interfaces.address(self, name, version)

    def addresses_of(self, interface: str) -> tuple[str, ...]:
        """IPv4 addresses of an interface as the kernel lists them, the main one first."""
        return self._keep(("addresses", interface), lambda: self.host.addresses(interface))  # type: ignore[no-any-return]

    def wired(self, wanted: str = "auto") -> bool:
        """True where the LAN interface is not a wireless one."""
        name = self.interface(wanted)
        return name is not None and interfaces.is_wired(self, name)

    @property
    def wired_mac(self) -> str:
        """Hardware address of the first real wired interface, or of any real one; else empty."""
        real = [
            name
            for name in self.names(paths.INTERFACES)
            if not interfaces.NOT_LAN.fullmatch(name)
            and self.exists(f"/sys/class/net/{name}/device")
        ]
        for name in sorted(real, key=lambda n: (not interfaces.is_wired(self, n), n)):
            mac = (self.text(f"/sys/class/net/{name}/address") or "").strip().lower()
            if re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", mac) and mac != "00:00:00:00:00:00":
                return mac
        return ""
