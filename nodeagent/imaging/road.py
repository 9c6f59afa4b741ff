"""The one road of an image's programs to archives and registries: out of this computer, not in.

They are in a network of their own, where 127.0.0.1 and abstract sockets are their own too, and
slirp4netns(1) makes their connections for them, with its own sandbox and as containers of ordinary
users have it (podman(1)). What they reach is what this computer reaches, but for itself by its
loopback addresses.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator

from nodeagent.errors import ToolMissing
from nodeagent.imaging import tools

PROGRAM = "slirp4netns"
# Nobody's LAN has it: for measurements between devices (RFC 2544, RFC 6890).
NETWORK = "198.18.7.0/24"
# Where it answers for the name servers of this computer, which may be at a loopback address.
RESOLVERS = ("198.18.7.3", "fd00::3")
OPTIONS = ("--configure", "--mtu=65520", f"--cidr={NETWORK}", "--enable-ipv6",
           "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp")  # fmt: skip
# Its sandbox takes away all mounts but some, and where ours are shared (mount_namespaces(7)), which
# those of ip-netns(8) are, that reaches this computer: unshare(1) makes them private first.
APART = ("unshare", "--mount") if os.geteuid() == 0 else ()


@contextlib.contextmanager
def opened(pid: int) -> Iterator[None]:
    """Gives the network namespace of a process the road, for as long as the block lasts or this
    process lives. Raises ToolMissing where this computer does not let it."""
    with contextlib.ExitStack() as stack:
        (ready, told), (ending, held) = tools.pipe(stack), tools.pipe(stack)
        said = stack.enter_context(tempfile.TemporaryFile())
        # It ends when ``held`` is closed, which only this process has, also where that is killed.
        process = subprocess.Popen(
            [*APART, PROGRAM, *OPTIONS, f"--ready-fd={told.fileno()}",
             f"--exit-fd={ending.fileno()}", str(pid), "road"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=tools.environment(),
            pass_fds=[told.fileno(), ending.fileno()],
        )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(held.close)
        told.close()
        if not ready.read(1):
            process.wait()
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-2:]
            raise ToolMissing(
                "This computer does not let slirp4netns give the image's programs a network of"
                f" their own: {' / '.join(last)}.",
                "Look whether /dev/net/tun is there (sudo modprobe tun), or run it with sudo.",
            )
        yield


def resolver(ours: str) -> str:
    """An image's resolv.conf(5), from that of this computer: where to search, and whom to ask."""
    kept = [line for line in ours.splitlines() if line.startswith(("search", "domain", "options"))]
    return "".join(f"{line}\n" for line in (*kept, *(f"nameserver {one}" for one in RESOLVERS)))
