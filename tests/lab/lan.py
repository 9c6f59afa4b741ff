"""The LAN of the virtual boards: a network namespace with a bridge, DHCP, DNS, NTP, the mirror.

The namespace stands for a home network behind a router at 10.77.0.1. In mode ``built`` the router
has no way out (packets for elsewhere are answered "unreachable" at once); in mode ``upstream`` it
does NAT to this machine's network. Every process of the lab that runs with the boards is inside
the namespace, so ``down`` finds them all there, whoever started them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support import namespaces

from . import toolbox
from .place import ADDRESS, NAMESPACE, PIS_ADDRESS, REPOSITORY, LabError, logs, run_folder

PREFIX = 24
WAY_OUT = ("lab-out", "10.77.1.1", "10.77.1.2")  # veth on this machine, its ends' addresses
NAT = "nodeagent_lab"
OFFLINE = "nodeagent_lab_offline"
NO_TIME = "nodeagent_lab_no_time"
PIS_MACS = "40:*:*:*:*:*"  # board.Board.mac

CHRONY = """local stratum 8
allow {network}
cmdport 0
bindcmdaddress /
pidfile {run}/chronyd.pid
"""


def ip(*argv: str) -> None:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"ip {' '.join(argv)} failed: {done.stderr.strip()}")


def inside(*argv: str) -> list[str]:
    """The command line that runs ``argv`` in the namespace."""
    return namespaces.inside(NAMESPACE, *argv)


def exists() -> bool:
    return Path("/run/netns", NAMESPACE).exists()


def mirror_address(arch: str, archs: Sequence[str]) -> str:
    """Where the mirror for these boards is: the first architecture's at the router, one for Pis
    beside it."""
    return ADDRESS if arch == archs[0] else PIS_ADDRESS


def up(boards: int, mirror: str, archs: Sequence[str], serve_mirror: bool = True) -> None:
    """Make the LAN and start its services."""
    try:
        namespaces.add(NAMESPACE)
    except subprocess.CalledProcessError as error:
        raise LabError(f"ip netns add failed: {error.stderr.decode().strip()}") from error
    there = ("-n", NAMESPACE)
    ip(*there, "link", "set", "lo", "up")
    # The kernel answers for it on the bridge too (kernel docs, ip-sysctl, arp_ignore).
    ip(*there, "addr", "add", f"{PIS_ADDRESS}/32", "dev", "lo")
    # A plain switch: no spanning tree to wait for, multicast flooded to every port.
    bridge = ["type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"]
    ip(*there, "link", "add", "lan0", *bridge)
    ip(*there, "addr", "add", f"{ADDRESS}/{PREFIX}", "dev", "lan0")
    ip(*there, "link", "set", "lan0", "up")
    for index in range(1, boards + 1):
        ip(*there, "tuntap", "add", "dev", f"tap{index}", "mode", "tap")
        ip(*there, "link", "set", f"tap{index}", "master", "lan0", "up")
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    subprocess.run(inside("sh", "-c", forward), check=True)
    if mirror == "upstream":
        _way_out()
    _services(mirror, pis=len(archs) > 1)
    if mirror == "built" and serve_mirror:
        for arch in archs:
            _mirror(arch, mirror_address(arch, archs))


def part(boards: int, parted: bool) -> None:
    """Let no board hear another (ip-link(8), ``isolated``), or all again. Router and mirror answer
    them all the same, as behind a Wi-Fi that isolates its clients."""
    for index in range(1, boards + 1):
        slave = ("type", "bridge_slave", "isolated", "on" if parted else "off")
        ip("-n", NAMESPACE, "link", "set", "dev", f"tap{index}", *slave)


def keep_from_archives(macs: list[str]) -> None:
    """Boards with these hardware addresses reach no package archive and no registry: as on a LAN
    without a way out, that still has a name server and a time server."""
    rules = "".join(
        f"ether saddr {mac} tcp dport {{ 80, 443, 5000 }} counter reject with tcp reset; "
        for mac in macs
    )
    chains = "".join(
        f"chain {hook} {{ type filter hook {hook} priority 0; {rules} }}; "
        for hook in ("input", "forward")
    )
    _nft(f"table ip {OFFLINE} {{ {chains} }}")


def give_archives_back() -> int:
    """Undo it; how many packets for an archive there were meanwhile. Raises LabError."""
    command = toolbox.command("nft", f"list table ip {OFFLINE}", network=True)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _nft(f"delete table ip {OFFLINE}")
    return sum(int(one) for one in re.findall(r"counter packets (\d+)", said))


def time_server(answers: bool) -> None:
    """Whether the LAN's time server answers. Raises LabError."""
    chain = "chain input { type filter hook input priority 0; udp dport 123 drop; };"
    _nft(f"delete table ip {NO_TIME}" if answers else f"table ip {NO_TIME} {{ {chain} }}")


def _nft(rules: str) -> None:
    done = subprocess.run(
        toolbox.command("nft", rules, network=True), capture_output=True, text=True
    )
    if done.returncode:
        raise LabError(f"nft failed: {done.stderr.strip()}")


def _way_out() -> None:
    name, here, there = WAY_OUT
    ip("link", "add", name, "type", "veth", "peer", "name", "out0", "netns", NAMESPACE)
    ip("addr", "add", f"{here}/30", "dev", name)
    ip("link", "set", name, "up")
    ip("-n", NAMESPACE, "addr", "add", f"{there}/30", "dev", "out0")
    ip("-n", NAMESPACE, "link", "set", "out0", "up")
    ip("-n", NAMESPACE, "route", "add", "default", "via", here)
    # The machine's own forwarding setting is changed and stays: it is shared with others.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    masquerade = "chain c { type nat hook postrouting priority 100; oifname != lo masquerade; }"
    for inner in (False, True):
        rule = masquerade.replace("!= lo", "out0" if inner else f'!= "{name}" ip saddr {there}')
        nft = toolbox.command("nft", f"table ip {NAT} {{ {rule} }}", network=inner)
        subprocess.run(nft, check=True)


def _resolvers() -> list[str]:
    """Name servers of this machine that the namespace can reach."""
    for path in ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"):
        if Path(path).exists():
            lines = [line.split() for line in Path(path).read_text().splitlines()]
            found = [w[1] for w in lines if len(w) > 1 and w[0] == "nameserver"]
            usable = [one for one in found if not one.startswith("127.")]
            if usable:
                return usable
    raise LabError("No name server that the boards could use: MIRROR=upstream needs one.")


def _start(name: str, argv: list[str]) -> subprocess.Popen[bytes]:
    with (logs() / f"{name}.log").open("ab") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=REPOSITORY,
            start_new_session=True,
        )


def carry(address: str, mirror: str) -> None:
    """From now on this is another network: its router has ``address`` and gives out others. No
    board may be on. There is no package mirror and no registry in it. Raises LabError."""
    for pid in map(int, subprocess.run(
        ["ip", "netns", "pids", NAMESPACE], capture_output=True, text=True, check=True
    ).stdout.split()):  # fmt: skip
        name = Path(f"/proc/{pid}/comm")
        if name.exists() and name.read_text().strip() in ("dnsmasq", "chronyd"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    leases_file().unlink(missing_ok=True)
    ip("-n", NAMESPACE, "addr", "flush", "dev", "lan0", "scope", "global")
    ip("-n", NAMESPACE, "addr", "add", f"{address}/{PREFIX}", "dev", "lan0")
    _services(mirror, address)


def _services(mirror: str, address: str = ADDRESS, pis: bool = False) -> None:
    first, last = (f"{address.rsplit('.', 1)[0]}.{host}" for host in (100, 199))
    dnsmasq = [
        "dnsmasq", "--keep-in-foreground", "--user=root", "--conf-file=/dev/null", "--no-hosts",
        "--no-resolv", "--pid-file=", "--log-dhcp", "--log-facility=-", "--interface=lan0",
        "--bind-interfaces", "--except-interface=lo", "--dhcp-authoritative",
        f"--dhcp-range={first},{last},10m", f"--dhcp-leasefile={leases_file()}",
        f"--dhcp-option=option:ntp-server,{address}", "--dhcp-ignore-names",
    ]  # fmt: skip
    if mirror == "upstream":
        dnsmasq += [f"--server={one}" for one in _resolvers()]
    else:
        dnsmasq += [f"--host-record=mirror.lab,{address}", "--local=/#/"]
        # To a Pi beside boards of another architecture the same name is another mirror.
        if pis:
            dnsmasq += [f"--dhcp-mac=set:pi,{PIS_MACS}",
                        f"--dhcp-option=tag:pi,option:dns-server,{PIS_ADDRESS}"]  # fmt: skip
            names = [
                "dnsmasq", "--keep-in-foreground", "--user=root", "--conf-file=/dev/null",
                "--no-hosts", "--no-resolv", "--pid-file=", "--log-facility=-",
                "--bind-interfaces", f"--listen-address={PIS_ADDRESS}",
                f"--host-record=mirror.lab,{PIS_ADDRESS}", "--local=/#/",
            ]  # fmt: skip
            _start("dnsmasq", toolbox.command(*names, network=True))
    _start("dnsmasq", toolbox.command(*dnsmasq, network=True))
    conf = run_folder() / "chrony.conf"
    network = f"{address.rsplit('.', 1)[0]}.0/{PREFIX}"
    conf.write_text(CHRONY.format(run=run_folder(), network=network))
    # -x: it serves this machine's clock and never touches it.
    chronyd = ["chronyd", "-x", "-d", "-u", "root", "-f", str(conf)]
    _start("chronyd", toolbox.command(*chronyd, network=True))


def _mirror(arch: str, address: str) -> None:
    argv = [sys.executable, "-m", "tests.lab.mirror", "serve", "--arch", arch]
    process = _start("mirror", inside(*argv, "--address", address))
    log, said = logs() / "mirror.log", f"serving http://{address}/"
    for _ in range(120):
        if process.poll() is not None:
            break
        if said in log.read_text():
            return
        time.sleep(0.25)
    raise LabError(f"The mirror does not serve; its last words: {log.read_text()[-400:]}")


def leases_file() -> Path:
    return run_folder() / "leases"


def address_of(mac: str) -> str | None:
    """The address that DHCP gave to a board last."""
    try:
        lines = leases_file().read_text().splitlines()
    except FileNotFoundError:
        return None
    found = [line.split()[2] for line in lines if line.split()[1:2] == [mac]]
    return found[-1] if found else None


def down() -> None:
    """End every process in the namespace and remove it. Does nothing where there is none."""
    if exists():
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            pids = subprocess.run(["ip", "netns", "pids", NAMESPACE], capture_output=True).stdout
            for pid in map(int, pids.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if not pids.split():
                break
            time.sleep(1)
        with contextlib.suppress(subprocess.CalledProcessError):
            namespaces.remove(NAMESPACE)
    if Path("/sys/class/net", WAY_OUT[0]).exists():
        subprocess.run(["ip", "link", "del", WAY_OUT[0]], capture_output=True)
        nft = toolbox.command("nft", f"delete table ip {NAT}")
        subprocess.run(nft, capture_output=True)
