"""kubectl as the agent calls it: with the cluster administrator's file, input by stdin."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from nodeagent import paths
from nodeagent.errors import CommandFailed
from nodeagent.host.host import Host

T = TypeVar("T")

BOUND = 120  # seconds
# What a busy API server has begun it goes on with: to ask again too soon only makes it busier.
ANSWER_BOUND = 60


def apply_text(host: Host, text: str) -> None:
    """``kubectl apply`` of a manifest. Raises CommandFailed."""
    # Server-side: one request an object and no last-applied copy (kubernetes.io, "Server-Side
    # Apply"); conflicts are ours to win, since these objects are ours.
    call(host, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def get(host: Host, *words: str, kubeconfig: str = paths.ADMIN_CONF) -> Any:
    """``kubectl get … -o json`` as Python values. Raises CommandFailed."""
    return json.loads(
        host.call(
            "kubectl", "--kubeconfig", kubeconfig, "get", *words, "-o", "json",
            f"--request-timeout={ANSWER_BOUND}s", timeout=BOUND,
        )
    )  # fmt: skip


def call(host: Host, *words: str, stdin: str | None = None) -> None:
    """One command of kubectl, as the administrator. Raises CommandFailed."""
    host.call("kubectl", "--kubeconfig", paths.ADMIN_CONF, *words, timeout=BOUND, stdin=stdin)


def repeated(host: Host, work: Callable[[], T], tries: int, pause: float) -> T:
    """What ``work`` gives at the first of so many tries that succeeds, with so many seconds between
    them. Raises CommandFailed where the last one does."""
    for _ in range(tries - 1):
        try:
            return work()
        except CommandFailed:
            host.clock.sleep(pause)
    return work()


def delete_text(host: Host, text: str) -> None:
    """``kubectl delete`` of a manifest; a missing object is no error. Raises CommandFailed."""
    call(host, "delete", "--ignore-not-found", "-f", "-", stdin=text)
