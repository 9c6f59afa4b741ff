"""Programs that work on strangers' bytes, or are a stranger's, kept from this computer by bwrap(1).

Bubblewrap puts a new root in place of the computer's own (pivot_root(2)) and unmounts that one, in
namespaces of its own; what it runs has the capabilities named here and no others, cannot gain any
(set-user-id programs and device files do not work there), and a seccomp filter refuses the calls
that only somebody needs who wants out.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nodeagent.errors import ToolMissing

# What packages' scripts need to put files in place and to become another user of the image: those
# of a Docker container (its docs, "Linux kernel capabilities") without device files, raw packets.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
                "SETFCAP", "AUDIT_WRITE")  # fmt: skip
# What a program of the computer's own needs to be run at all, and nobody's files.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives",
          "/etc/ld.so.cache")  # fmt: skip
# (x86_64, aarch64) numbers of calls (the kernel's syscall_64.tbl and asm-generic/unistd.h; the same
# on both from 424 on). An emulated program makes the calls of the computer it runs on.
MOUNT, UNMOUNT = (165, 40), (166, 39)
MOUNTS = {
    "pivot_root": (155, 41), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "unshare": (272, 97), "setns": (308, 268),
}  # fmt: skip
REFUSED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "vhangup": (153, 58), "lookup_dcookie": (212, 18),
    "fanotify_init": (300, 262), "move_pages": (279, 239), "mbind": (237, 235),
}  # fmt: skip
CLONE, CLONE3 = (56, 220), (435, 435)
FLAGS, REMOUNT, BIND = 40, 0x20, 0x1000  # the fourth argument; MS_* (linux/mount.h)
NAMESPACES = 0x7E020080  # CLONE_NEW*, with time (linux/sched.h)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # linux/audit.h
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026  # SECCOMP_RET_ERRNO (seccomp(2))
X32 = 0x40000000
LOAD, EQUAL, SET, GREATER, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # linux/bpf_common.h


def filter_for(machine: str, mounts: Literal["none", "bind", "any"] = "none") -> bytes:
    """The seccomp filter as the kernel takes it (seccomp(2), struct sock_filter). ``mounts``:
    "bind" lets a program put what it sees in another place too, "any" is for one in a namespace of
    users of its own. Raises ToolMissing."""
    if machine not in ARCHITECTURES:
        raise ToolMissing(
            f"On a computer of the kind {machine} no image can be baked.",
            "Bake it on one with a 64-bit processor of Intel's, AMD's or ARM's kind.",
        )
    column, architecture = ARCHITECTURES[machine]
    program: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, ENOSYS),
        (LOAD, 0, 0, 0), (GREATER, 0, 1, X32), (RETURN, 0, 0, ENOSYS),
    ]  # fmt: skip
    refused = [*REFUSED.values()]
    if mounts != "any":
        refused += MOUNTS.values()
    if mounts == "none":
        refused += [MOUNT, UNMOUNT]
    for numbers in refused:
        program += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, EPERM)]
    if mounts == "bind":  # a new mount has the options of what it shows, read-only among them
        program += [(EQUAL, 0, 5, MOUNT[column]), (LOAD, 0, 0, FLAGS), (SET, 0, 1, REMOUNT),
                    (RETURN, 0, 0, EPERM), (SET, 1, 0, BIND), (RETURN, 0, 0, EPERM),
                    (LOAD, 0, 0, 0)]  # fmt: skip
    if mounts != "any":
        # Its flags are out of a filter's sight; without it the C library takes the older call.
        program += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ENOSYS)]
        program += [(EQUAL, 0, 3, CLONE[column]), (LOAD, 0, 0, 16), (SET, 0, 1, NAMESPACES),
                    (RETURN, 0, 0, EPERM)]  # fmt: skip
    program += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def image_program(
    root: Path, seccomp: Path, argv: Sequence[str], *more: str, admin: bool = False
) -> list[str]:
    """The command that runs a program of the image below ``root``, with what is mounted there.

    ``seccomp`` is a file with a filter, ``more`` are options of bwrap's. ``admin``: for one that
    makes layers of containers.
    """
    bwrap = [
        "--bind", str(root), "/", "--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev",
        "--chdir", "/", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        "--die-with-parent", "--new-session", "--cap-drop", "ALL", *more,
    ]  # fmt: skip
    for name in (*CAPABILITIES, *(["SYS_ADMIN"] if admin else [])):
        bwrap += ["--cap-add", f"CAP_{name}"]
    # bwrap reads the filter from a file that is open already.
    return ["sh", "-c", 'exec bwrap --seccomp 9 "$@" 9<"$0"', str(seccomp), *bwrap, *argv]


def filter_file(mounts: Literal["none", "any"]) -> int | None:
    """The filter as an open file, which is the caller's to close; None on a kind of computer that
    it does not know, or for programs of another kind than the kernel's (a 32-bit system)."""
    if os.uname().machine not in ARCHITECTURES or sys.maxsize < 2**32:
        return None
    descriptor = os.memfd_create("seccomp")
    os.write(descriptor, filter_for(os.uname().machine, mounts))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def native_tool(
    argv: Sequence[str],
    reads: Sequence[Path],
    writes: Sequence[Path],
    rights: Sequence[str],
    largest: int,
    seconds: int,
    seccomp: int | None,
    more: Sequence[str] = (),
) -> list[str]:
    """The command that runs a program of this computer's on a stranger's bytes: it finds the
    system, read-only, and these files and folders under their own names, no network, no process.

    ``rights`` are capabilities, for root in whatever namespace of users. ``largest``: bytes of a
    file that it writes; ``seconds`` of processor time. ``seccomp`` is an open file with a filter,
    ``more`` are options of bwrap's. Paths are absolute; the program's name is a path.
    """
    program = Path(argv[0])
    # The user may have it elsewhere, in a folder of the home for example.
    own = [] if any(program.is_relative_to(path) for path in SYSTEM) else [program]
    shown = [word for path in SYSTEM for word in ("--ro-bind-try", path, path)]
    shown += ["--dev", "/dev", "--chdir", "/"]
    for option, paths in (("--ro-bind", [*own, *reads]), ("--bind", writes)):
        for path in paths:
            shown += [option, str(path), str(path)]
    # Root may have to read files of whoever called sudo; in there are no others.
    held = {*rights, "DAC_OVERRIDE"} if os.geteuid() == 0 else set()
    return [
        "prlimit", f"--fsize={largest}", f"--cpu={seconds}", "--core=0", "--",
        "bwrap", *shown, *more, "--remount-ro", "/",
        "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        *(word for name in sorted(held) for word in ("--cap-add", f"CAP_{name}")),
        *(() if seccomp is None else ("--seccomp", str(seccomp))), *argv,
    ]  # fmt: skip
