"""Asks the control planes in sight for a grant, until one gives it.

Candidates are hints from anywhere; only a TLS server that proves the name of the fleet's control
plane is told anything, and only a grant that the fleet's broker signed for this node counts.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from nodeagent.errors import NoControlPlane, OtherVersion
from nodeagent.formats import ON_ALL_NODES
from nodeagent.host.host import Host
from nodeagent.join.approval import not_admitted
from nodeagent.join.broker_protocol import OTHER_VERSION
from nodeagent.join.messages import Grant, build_request, verify_grant
from nodeagent.join.search import PARALLEL, No, Search, plain
from nodeagent.trust import pki, tls
from nodeagent.trust.anchors import server_name
from nodeagent.trust.jws import MAX_BYTES
from nodeagent.trust.node_key import PATH, NodeKey
from nodeagent.trust.store import Trust

MAX_TOLD = 6  # refusals named in an error
MAX_REASON = 300  # bytes of a refusal
MAX_WAIT = 120  # seconds a control plane may let us wait


class _Wait(No):
    """It is a control plane of ours, and a person has to act there; the text is its word."""


def ask(
    trust: Trust,
    key: NodeKey,
    candidates: Sequence[tuple[str, int]],
    wish: str,
    facts: Mapping[str, str],
    now: float,
    *,
    kubelet: str,
    epochs: Mapping[str, int] = {},
    clock_synced: bool = False,
    host: Host | None = None,
) -> Grant:
    """A proved grant for this node under the name ``wish`` or a longer one. ``kubelet``: SHA-256
    of the public key that its kubelet will have; ``epochs`` as in ``statement.verify``.

    Where the clock is not known to be right, nothing is checked against it: names, purposes and
    signatures are checked all the same, and the nonce shows freshness. ``now`` in seconds since
    the epoch. Raises, when all were tried, NotAdmitted where one wants a person to let this node
    in, else NoControlPlane; OSError.
    """
    host = host or Host()
    context = client_context(trust, key, host, check_time=clock_synced)
    moment = now if clock_synced else None

    def exchange(session: http.client.HTTPConnection) -> Grant:
        # Made for this one answer and kept nowhere: what was seen of it is of no use afterwards.
        reader = pki.new_key()
        data, nonce = _fetch(session, trust, key, wish, facts, kubelet, reader.public_key())
        return verify_grant(trust.anchors, data, key.node_id, nonce, moment, reader, epochs)

    search = Search(context, server_name(trust.fleet_id), candidates, exchange)
    grant = search.run()
    if grant is not None:
        return grant
    for place, error in search.failures:
        if isinstance(error, _Wait):
            where = place.rpartition(":")[0]
            raise not_admitted(str(error), key.node_id, where)
    refusals = [f"{place}: {plain(error)}" for place, error in search.failures]
    told = "; ".join(refusals[:MAX_TOLD])
    more = f"; and {len(refusals) - MAX_TOLD} more" if len(refusals) > MAX_TOLD else ""
    other = any(isinstance(error, OtherVersion) for _, error in search.failures)
    raise NoControlPlane(
        f"No control plane gave a grant ({told}{more})."
        if candidates
        else "There is no control plane to ask: none is in sight.",
        f"The agent keeps trying. {ON_ALL_NODES}"
        if other
        else "The agent keeps trying. See that the control plane is on and on the same network, or "
        "name its address under `control_plane` in nodeagent.yaml.",
        wait=max((getattr(error, "wait", 0) for _, error in search.failures), default=0),
    )


def look_up(
    trust: Trust, key: NodeKey, host: Host, where: tuple[str, int], path: str, body: bytes,
    limit: int,
) -> bytes:  # fmt: skip
    """What the control plane at ``where`` answers to ``body`` at ``path``, at most ``limit`` bytes.

    The server is proved as for a grant; who vouches for the answer is for the caller to check.
    Raises NoControlPlane.
    """
    try:
        context = client_context(trust, key, host, check_time=False)
        search = Search(
            context,
            server_name(trust.fleet_id),
            [where],
            lambda session: call(session, "POST", path, body, limit),
        )
        told = search.run()
    except OSError as error:
        raise _no_answer(where[0], str(error)) from error
    if told is None:
        raise _no_answer(where[0], "; ".join(plain(error) for _, error in search.failures))
    return told


def look_up_all(
    trust: Trust,
    key: NodeKey,
    host: Host,
    places: Sequence[tuple[str, int]],
    path: str,
    limit: int,
) -> list[bytes | None]:
    """What each of these answers to GET ``path``, all asked at a time; None of those that do not
    prove to be control planes of the fleet. Raises OSError."""
    context = client_context(trust, key, host, check_time=False)
    name = server_name(trust.fleet_id)

    def one(place: tuple[str, int]) -> bytes | None:
        said = Search(context, name, [place], lambda at: call(at, "GET", path, None, limit))
        return said.run()

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(one, places))


def _no_answer(address: str, why: str) -> NoControlPlane:
    return NoControlPlane(
        f"{address} did not answer as a control plane of this fleet: {why}.",
        "Nothing to do: what announced it may be an echo.",
    )


def client_context(trust: Trust, key: NodeKey, host: Host, *, check_time: bool) -> ssl.SSLContext:
    """The TLS side of this node, with a fresh client certificate. Raises OSError."""
    chain = "".join(pki.cert_pem(cert) for cert in trust.leaf("client", key.public))
    root = pki.cert_pem(trust.root_cert)
    # OpenSSL reads it by a name only; in memory, so that each of many askers has its own.
    memory = os.memfd_create("client.crt")
    try:
        os.write(memory, chain.encode())
        return tls.client(f"/proc/self/fd/{memory}", str(host.path(PATH)), root, check_time)
    finally:
        os.close(memory)


def _fetch(
    session: http.client.HTTPConnection,
    trust: Trust,
    key: NodeKey,
    wish: str,
    facts: Mapping[str, str],
    kubelet: str,
    reader: pki.PublicKey,
) -> tuple[bytes, str]:
    """The unproved answer of one candidate and the nonce it gave. Raises No, OSError."""
    try:
        nonce = call(session, "GET", "/v1/nonce", None, 128).decode("ascii")
    except UnicodeDecodeError as error:
        raise No("its nonce was not understood") from error
    chain = trust.leaf("client", key.public)
    request = build_request(trust.fleet_id, key, chain, wish, nonce, facts, kubelet, reader)
    return call(session, "POST", "/v1/grant", request, MAX_BYTES), nonce


def call(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, limit: int
) -> bytes:
    """The body of a 200 to one request on a proved session. Raises No, OtherVersion, OSError."""
    connection.request(method, path, body)
    answer = connection.getresponse()
    data = answer.read(max(limit, MAX_REASON) + 1)
    if answer.status == 202:
        raise _Wait(data[:16].decode("ascii", "replace"))
    if answer.status == 404:
        raise OtherVersion(
            "It does not know this question: it is of another version of nodeagent.", ON_ALL_NODES
        )
    if answer.status == OTHER_VERSION:
        raise OtherVersion(data[:MAX_REASON].decode("ascii", "replace").strip(), ON_ALL_NODES)
    if answer.status != 200:
        text = answer.headers.get("Retry-After", "")  # RFC 9110 10.2.3
        wait = min(int(text), MAX_WAIT) if re.fullmatch(r"[0-9]{1,9}", text) else 0
        raise No(f"it refused ({answer.status}): {data[:200].decode('ascii', 'replace')}", wait)
    if len(data) > limit:
        raise No("its answer was too long")
    return data
