"""Asks the control planes in sight for a grant, until one gives it.

Candidates are hints from anywhere; only a TLS server that proves the name of the fleet's control
plane is told anything, and only a grant that the fleet's broker signed for this node counts.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from nodeagent.errors import NoControlPlane, NotAdmitted, Untrusted
from nodeagent.fleet import pki, tls
from nodeagent.fleet.anchors import server_name
from nodeagent.fleet.enrolment import not_admitted
from nodeagent.fleet.grant import Grant, build_request, verify_grant
from nodeagent.fleet.jws import MAX_BYTES
from nodeagent.fleet.keys import FOLDER, PATH, NodeKey
from nodeagent.fleet.trust import Trust
from nodeagent.host.host import Host

CERT = f"{FOLDER}/client.crt"
CONNECT, HANDSHAKE, ANSWER = 3.0, 5.0, 60.0  # seconds
MAX_TOLD = 6  # refusals named in an error


class _No(Exception):
    """This candidate gave no grant; the text says why."""


class _Wait(Exception):
    """It is a control plane of ours, and a person has to act there; the text is its word."""


def ask(
    trust: Trust,
    key: NodeKey,
    candidates: Sequence[tuple[str, int]],
    wish: str,
    facts: Mapping[str, str],
    now: float,
    *,
    clock_synced: bool = False,
    host: Host | None = None,
) -> Grant:
    """A proved grant for this node under the name ``wish`` or a longer one.

    Where the clock is not known to be right, nothing is checked against it: names, purposes and
    signatures are checked all the same, and the nonce shows freshness. ``now`` in seconds since
    the epoch. Raises, when all were tried, NotAdmitted where one wants a person to let this node
    in, else NoControlPlane; OSError.
    """
    host = host or Host()
    context = client_context(trust, key, host, check_time=clock_synced)
    refusals: list[str] = []
    waits: NotAdmitted | None = None
    for address, port in random.sample(list(dict.fromkeys(candidates)), len(set(candidates))):
        try:
            data, nonce = _fetch(context, trust, key, address, port, wish, facts)
            moment = now if clock_synced else None
            return verify_grant(trust.anchors, data, key.node_id, nonce, moment)
        except _Wait as word:
            waits = not_admitted(str(word), key.node_id, address)
        except (OSError, http.client.HTTPException, _No, Untrusted) as error:
            refusals.append(f"{address}:{port}: {_plain(error)}")
    if waits is not None:
        raise waits
    told = "; ".join(refusals[:MAX_TOLD])
    more = f"; and {len(refusals) - MAX_TOLD} more" if len(refusals) > MAX_TOLD else ""
    raise NoControlPlane(
        f"No control plane gave a grant ({told}{more})."
        if refusals
        else "There is no control plane to ask: none is in sight.",
        "The agent keeps trying. See that the control plane is on and on the same network, or "
        "name its address under `control_plane` in nodeagent.yaml.",
    )


def look_up(
    trust: Trust, key: NodeKey, host: Host, where: tuple[str, int], path: str, limit: int
) -> bytes:
    """What the control plane at ``where`` answers to GET ``path``, at most ``limit`` bytes.

    Proved as for a grant; an answer over a live connection is fresh. Raises NoControlPlane.
    """
    try:
        context = client_context(trust, key, host, check_time=False)
        with _session(context, *where, server_name(trust.fleet_id)) as session:
            return _call(session, "GET", path, None, limit)
    except (OSError, http.client.HTTPException, _No) as error:
        raise NoControlPlane(
            f"{where[0]} did not answer as a control plane of this fleet: {_plain(error)}.",
            "Nothing to do: what announced it may be an echo.",
        ) from error


def client_context(trust: Trust, key: NodeKey, host: Host, *, check_time: bool) -> ssl.SSLContext:
    """The TLS side of this node, with a fresh client certificate. Raises OSError."""
    chain = "".join(pki.cert_pem(cert) for cert in trust.leaf("client", key.public))
    host.write(CERT, chain.encode(), 0o600)
    root = pki.cert_pem(trust.root_cert)
    return tls.client(str(host.path(CERT)), str(host.path(PATH)), root, check_time)


def _fetch(
    context: ssl.SSLContext,
    trust: Trust,
    key: NodeKey,
    address: str,
    port: int,
    wish: str,
    facts: Mapping[str, str],
) -> tuple[bytes, str]:
    """The unproved answer of one candidate and the nonce it gave. Raises _No, OSError."""
    with _session(context, address, port, server_name(trust.fleet_id)) as http_session:
        nonce_text = _call(http_session, "GET", "/v1/nonce", None, 128)
        try:
            nonce = nonce_text.decode("ascii")
        except UnicodeDecodeError as error:
            raise _No("its nonce was not understood") from error
        chain = trust.leaf("client", key.public)
        request = build_request(trust.fleet_id, key, chain, wish, nonce, facts)
        return _call(http_session, "POST", "/v1/grant", request, MAX_BYTES), nonce


@contextmanager
def _session(
    context: ssl.SSLContext, address: str, port: int, name: str
) -> Iterator[http.client.HTTPConnection]:
    with socket.create_connection((address, port), timeout=CONNECT) as plain:
        plain.settimeout(HANDSHAKE)
        with context.wrap_socket(plain, server_hostname=name) as session:
            session.settimeout(ANSWER)
            connection = http.client.HTTPConnection(name)
            connection.sock = session
            yield connection


def _call(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, limit: int
) -> bytes:
    connection.request(method, path, body)
    answer = connection.getresponse()
    data = answer.read(limit + 1)
    if answer.status == 202:
        raise _Wait(data[:16].decode("ascii", "replace"))
    if answer.status != 200:
        raise _No(f"it refused ({answer.status}): {data[:200].decode('ascii', 'replace')}")
    if len(data) > limit:
        raise _No("its answer was too long")
    return data


def _plain(error: Exception) -> str:
    """Why, in a few words for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"it is no control plane of this fleet ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, Untrusted):
        return error.reason
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")[:300]
