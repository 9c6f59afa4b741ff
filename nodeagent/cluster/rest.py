"""Requests to the API server with a client certificate: the broker's, or the kubelet's; or with
a bootstrap token, of a node that joins.

With http.client: a kubectl costs 50 MB and a second on a small board, requests 4 MB. What needs the
administrator's rights goes through ``kubectl``.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

BOUND = 15.0  # seconds to connect, and to wait for each piece of an answer
MAX_BYTES = 8 * 1024 * 1024  # of an answer; 110 pods are some hundred KB
KINDS = {"PATCH": "application/strategic-merge-patch+json"}
# What kubelets' signing requests are for (kubernetes.io, "Certificate Signing Requests").
SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
LEADS = "node-role.kubernetes.io/control-plane"  # kubeadm's label of a control plane's node
GROUP = "system:bootstrappers:nodeagent"  # of whoever shows a bootstrap token of the broker's


def safe_name(name: str) -> str:
    """A name that cannot leave its place in a path (RFC 1123 names). Raises ValueError, and
    TypeError for what is no text."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", name):
        raise ValueError(f"{name!r} is not a valid name for a Kubernetes object")
    return name


class Answer(NamedTuple):
    """HTTP status with its reason phrase, and the body. ``time``: what the server's clock says
    (RFC 9110, 6.6.1), in seconds since the epoch; None where it does not say, or its certificate
    has ended then."""

    status: int
    reason: str
    body: bytes
    time: float | None = None


def request(
    server: tuple[str, int], files: Sequence[str], method: str, path: str, body: Any = None
) -> Answer:
    """One request to ``server`` (address, port), over a connection of its own; ``body`` is sent as
    JSON. No proxy is asked and no redirection followed.

    ``files`` are paths of PEM: the CA, the client's certificate, and its key unless that is in the
    certificate's file. Raises OSError, http.client.HTTPException.
    """
    context = ssl.create_default_context(cafile=files[0])
    context.load_cert_chain(*files[1:])
    return _exchange(server, context, {}, method, path, body)


def request_with_token(
    server: tuple[str, int], ca_cert: str, token: str, method: str, path: str, body: Any = None
) -> Answer:
    """As ``request``, with a bootstrap token in place of a certificate; ``ca_cert`` is PEM. Raises
    OSError, http.client.HTTPException."""
    context = ssl.create_default_context(cadata=ca_cert)
    return _exchange(server, context, {"Authorization": f"Bearer {token}"}, method, path, body)


def _exchange(
    server: tuple[str, int],
    context: ssl.SSLContext,
    headers: Mapping[str, str],
    method: str,
    path: str,
    body: Any,
) -> Answer:
    connection = http.client.HTTPSConnection(*server, timeout=BOUND, context=context)
    data = None if body is None else json.dumps(body)
    kind = {"Content-Type": KINDS.get(method, "application/json")} if data else {}
    with closing(connection):
        connection.request(method, path, data, {**headers, **kind})
        certificate = connection.sock.getpeercert() or {}  # before the answer ends the connection
        answer = connection.getresponse()
        body, said = answer.read(MAX_BYTES), answer.getheader("Date", "")
        return Answer(
            answer.status, answer.reason, body, _time(said, str(certificate.get("notAfter")))
        )


def _time(said: str, end: str) -> float | None:
    try:
        moment = parsedate_to_datetime(said).timestamp()
        return moment if moment < ssl.cert_time_to_seconds(end) else None
    except (ValueError, OverflowError):
        return None


def ready_since(node: Mapping[str, Any]) -> float:
    """When a Node became Ready, or ceased to be, by its conditions (kubernetes.io, "Node Status");
    seconds since the epoch, 0 where that is not told."""
    for one in node.get("status", {}).get("conditions", ()):
        if one.get("type") == "Ready" and one.get("lastTransitionTime"):
            try:  # a kubelet writes it
                return datetime.fromisoformat(one["lastTransitionTime"]).timestamp()
            except (ValueError, TypeError, OverflowError):
                return 0.0
    return 0.0


def is_ready(item: dict[str, Any]) -> bool:
    """True for a Node or Pod with the condition Ready. Raises as ``condition``."""
    return condition(item, "Ready")


def condition(item: dict[str, Any], kind: str) -> bool:
    """True where a Node's or Pod's condition of this type is true; one that nobody has set is not.
    Raises KeyError, TypeError, AttributeError for what is neither."""
    conditions = item["status"].get("conditions", [])
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)
