"""A native tool that an image has taken over: what it tries, with nothing but Python's own library;
prints a JSON object, attack -> what it reached. It is put in the place of mdir(1).

Lines before it say what to look for: SECRET (a path), CONTENT, PORT, ABSTRACT (a name), SOCKET (a
path), OUTSIDE (a process), IMAGE (the file that it was given).
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
from typing import Any

from tests.support.attacks import LIBC, X86, attack, try_all

SETTINGS: dict[str, Any] = json.loads("@SETTINGS@")
BESIDE = os.path.dirname(SETTINGS["image"])


def opened() -> list[str]:
    """What it began with, but for the three that each program has."""
    found = []
    for number in range(3, 256):
        try:
            os.fstat(number)
            found.append(str(number))
        except OSError:
            continue
    return found


LEFT_OPEN = opened()


def connects(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(3)
        sock.connect(address)
        return True


@attack
def the_secret() -> bool:
    with open(SETTINGS["secret"]) as file:
        return bool(file.read() == SETTINGS["content"])


@attack
def any_home() -> str:
    return " ".join(name for name in ("/root", "/home") if os.path.exists(name))


@attack
def what_lies_beside_the_image() -> str:
    return " ".join(set(os.listdir(BESIDE)) - {os.path.basename(SETTINGS["image"]), "bin"})


@attack
def settings_of_the_computer() -> str:
    return " ".join(set(os.listdir("/etc")) - {"alternatives", "ld.so.cache"})


@attack
def writing_beside_the_image() -> bool:
    with open(f"{BESIDE}/planted", "w") as file:
        return file.write("x") == 1


@attack
def writing_to_an_image_that_is_only_read() -> bool:
    with open(SETTINGS["image"], "r+b") as file:
        file.write(b"x")
        return True


@attack
def writing_anywhere() -> str:
    for folder, folders, _ in os.walk("/"):
        if folder.count("/") > 3 or folder.startswith(("/dev", "/proc", "/sys")):
            folders.clear()
            continue
        try:
            with open(f"{folder}/planted", "w"):
                return folder
        except OSError:
            continue
    return ""


@attack
def localhost() -> bool:
    return connects(socket.AF_INET, ("127.0.0.1", SETTINGS["port"]))


@attack
def an_abstract_socket() -> bool:
    return connects(socket.AF_UNIX, "\0" + SETTINGS["abstract"])


@attack
def a_socket_in_a_folder() -> bool:
    return connects(socket.AF_UNIX, SETTINGS["socket"])


@attack
def an_interface() -> str:
    return " ".join(name for _, name in socket.if_nameindex() if name != "lo")


@attack
def a_process_of_the_computer() -> bool:
    os.kill(SETTINGS["outside"], 0)
    return True


@attack
def the_processes() -> str:
    return " ".join(filter(str.isdigit, os.listdir("/proc")))


@attack
def the_environment() -> str:
    return " ".join(name for name in os.environ if "SECRET" in name)


@attack
def what_is_left_open() -> str:
    return " ".join(LEFT_OPEN)


@attack
def a_device() -> str:
    """A disk by a device file, which root may make."""
    os.mknod("/tmp-disk", 0o60600, os.makedev(8, 0))
    return "made"


@attack
def mounting() -> bool:
    return bool(LIBC.mount(b"proc", b"/usr", b"proc", 0, None) == 0)


@attack
def a_namespace_where_it_is_root() -> bool:
    return bool(LIBC.unshare(0x10000000) == 0)


@attack
def becoming_another_user() -> bool:
    os.setgroups([])
    os.setresuid(4243, 4243, 4243)
    return True


@attack
def shared_memory_of_the_computer() -> bool:
    return bool(LIBC.shmget(SETTINGS["outside"], 0, 0) >= 0)


@attack
def the_terminal() -> bool:
    held = os.open("/dev/tty", os.O_RDWR)
    fcntl.ioctl(held, 0x5412, b"x")
    return True


@attack
def the_keyring() -> bool:
    return bool(LIBC.syscall(250 if X86 else 219, 0, -3, 1) > 0)


@attack
def no_end_of_processor_time() -> str:
    soft, _ = resource.getrlimit(resource.RLIMIT_CPU)
    return "no limit" if soft == resource.RLIM_INFINITY else ""


@attack
def a_file_without_end() -> str:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return "no limit" if soft == resource.RLIM_INFINITY else ""


@attack
def living_on() -> str:
    """The test looks for it afterwards."""
    if os.fork() == 0:
        os.setsid()
        for number in range(3):
            os.close(number)
        os.execv("/usr/bin/sleep", [SETTINGS["alive"], "300"])
    return ""


try_all()
