"""Is the kubelet of this machine well, and does another machine answer? Apart from ``cluster``,
which costs much more to load."""

from __future__ import annotations

import errno
import re
import socket

PORT = 10248  # kubelet reference, --healthz-port; on loopback only
BOUND = 5.0  # seconds
ASK = b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"


def kubelet_healthy() -> bool:
    """True when the kubelet answers its health check with 200. By hand, since http.client takes
    four megabytes of a small board for the same (RFC 9112, 4: the status line)."""
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=BOUND) as connection:
            connection.sendall(ASK)
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def api_server(kubeconfig: str) -> tuple[str, int] | None:
    """Address and port of the cluster's API server, out of a kubelet's kubeconfig."""
    found = re.search(r"^ *server: https://\[?([0-9A-Za-z.:-]+?)\]?:(\d+)/?$", kubeconfig, re.M)
    return (found[1], int(found[2])) if found else None


def answers(address: str, port: int, bound: float = BOUND) -> bool:
    """True where somebody takes a TCP connection there. ``bound`` in seconds, name lookup apart."""
    return knock(address, port, bound) == 0


def knock(address: str, port: int, bound: float) -> int:
    """0 where somebody takes a TCP connection there, else the error's number (errno(3))."""
    try:
        socket.create_connection((address, port), timeout=bound).close()
    except TimeoutError:
        return errno.ETIMEDOUT
    except OSError as error:
        return error.errno or errno.EIO
    return 0
