"""What is fuzzed: for each parser, how bytes reach it and what must hold of whatever comes.

A target takes any bytes. It lets through no exception but the documented one, which it catches; it
asserts that nothing forged is accepted. So whatever it raises is a finding.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nodeagent import paths
from nodeagent.broker import kube_api
from nodeagent.broker.broker import fits
from nodeagent.broker.ledger_file import Token
from nodeagent.cluster.rest import GROUP, SIGNER, Answer
from nodeagent.errors import CommandFailed, OtherVersion, Untrusted
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet import handoff
from nodeagent.fleet.handoff import Announcement
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol, client, messages, statement, which_cluster
from nodeagent.join import leave as farewell
from nodeagent.serve import http1, status_page
from nodeagent.serve.mdns.discovery import Discovery
from nodeagent.serve.mdns.link import Link
from nodeagent.serve.mdns.message import MARK, QUESTION, from_txt
from nodeagent.trust import fleet_file, jwe, jws, pki, store, wire
from tests.fuzz import messages as real
from tests.support import speakers


class Wire:
    """A double of a connected socket: gives what a peer sent, in pieces, then its end."""

    def __init__(self, data: bytes, piece: int = 1000) -> None:
        self._data, self._piece = data, piece

    def recv(self, count: int) -> bytes:
        """At most ``count`` bytes."""
        count = min(count, self._piece)
        given, self._data = self._data[:count], self._data[count:]
        return given

    def settimeout(self, seconds: float) -> None:
        """Nothing here takes time."""

    def sendall(self, data: bytes) -> None:
        """The peer said all it has to say before it was asked."""

    def makefile(self, mode: str) -> io.BytesIO:
        """The rest as a file; the standard library's client reads from one."""
        return io.BytesIO(self._data)

    def close(self) -> None:
        """Nothing here is open."""


class Answers:
    """A double of an API server: every answer has this body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __call__(self, *_: Any) -> Answer:
        """An answer with status 200."""
        return Answer(200, "OK", self._body)


def beacon(data: bytes) -> None:
    """A sealed beacon; whatever opens must have been sealed by the fleet."""
    with contextlib.suppress(Untrusted, OtherVersion):
        opened = beacons.open_(real.BEACON_KEY, data.decode("latin-1"))
        assert opened.beacon == replace(real.BEACON, node_id=SPEAKER.node_id), (
            "a beacon was opened that nobody sealed"
        )


def sealed(data: bytes) -> None:
    """What a holder of the beacon key seals, instead of a beacon."""
    nonce = bytes(12)
    box = ChaCha20Poly1305(real.BEACON_KEY).encrypt(nonce, data, beacons._ASSOCIATED)
    text = base64.urlsafe_b64encode(nonce + box).rstrip(b"=").decode()
    with contextlib.suppress(Untrusted, OtherVersion):
        opened = beacons.open_(real.BEACON_KEY, text)
        with contextlib.suppress(Untrusted):
            beacons.prove(opened, speakers.POINT)
        again = beacons.open_(real.BEACON_KEY, SPEAKER.seal(opened.beacon, real.BEACON_KEY))
        assert again.beacon == replace(opened.beacon, node_id=SPEAKER.node_id)


def strict_json(data: bytes) -> None:
    """Any JSON; what is taken means the same to every reader."""
    with contextlib.suppress(wire.Malformed):
        value = wire.loads(data, 4096)
        assert json.loads(data) == value
        assert len(data) <= 4096


def request(data: bytes) -> None:
    """A request; only what the node said is believed."""
    with contextlib.suppress(Untrusted, OtherVersion):
        proved = messages.verify_request(real.ANCHORS, data)
        told = (proved.node_id, proved.name, proved.nonce, proved.facts, proved.kubelet)
        assert told == (real.NODE.node_id, "pi-2", real.NONCE, {"model": "Pi 5"}, real.KUBELET)


def signed_request(data: bytes) -> None:
    """What a node of the fleet signs: it cannot speak for another."""
    message = real.signed(data, real.NODE.private, messages.REQUEST_TYPE)
    with contextlib.suppress(Untrusted, OtherVersion):
        assert messages.verify_request(real.ANCHORS, message).node_id == real.NODE.node_id


def leave(data: bytes) -> None:
    """A farewell; only what the node said is believed."""
    with contextlib.suppress(Untrusted, OtherVersion):
        proved = farewell.verify(real.ANCHORS, data)
        assert proved == farewell.Leave(real.NODE.node_id, "pi-2", real.UID, False, real.NONCE)


def signed_leave(data: bytes) -> None:
    """What a node of the fleet signs: it cannot speak for another."""
    message = real.signed(data, real.NODE.private, farewell.LEAVE_TYPE)
    with contextlib.suppress(Untrusted, OtherVersion):
        assert farewell.verify(real.ANCHORS, message).node_id == real.NODE.node_id


def grant(data: bytes) -> None:
    """A grant; only what the broker said is believed."""
    with contextlib.suppress(Untrusted, OtherVersion):
        proved = messages.verify_grant(
            real.ANCHORS, data, real.NODE.node_id, real.NONCE, real.NOW + 1, real.NODE.private
        )
        told = (proved.node_name, proved.token, proved.cluster.ca_cert)
        assert told == ("pi-2", real.TOKEN, real.CA), "a grant that the broker did not make"


def signed_grant(data: bytes) -> None:
    """What a broker signs: it must be whole, for this node and this request."""
    message = real.signed(data, real.BROKER, messages.GRANT_TYPE)
    with contextlib.suppress(Untrusted, OtherVersion):
        proved = messages.verify_grant(
            real.ANCHORS, message, real.NODE.node_id, real.NONCE, real.NOW + 1, real.NODE.private
        )
        claims = json.loads(data)
        assert (claims["aud"], claims["nonce"]) == (real.NODE.node_id, real.NONCE)
        assert proved.cluster.ca_cert == real.CA, "a broker says which cluster is joined"


def cluster_statement(data: bytes) -> None:
    """What a control plane's agent vouches for; only what it said is believed."""
    with contextlib.suppress(Untrusted, OtherVersion):
        told = statement.verify(real.ANCHORS, data, real.NOW)
        assert (told.ca_cert, told.endpoints) == (real.CA, real.CLUSTER.endpoints)


def encrypted(data: bytes) -> None:
    """A token for one reader."""
    with contextlib.suppress(wire.Malformed):
        opened = jwe.decrypt(data.decode("latin-1"), real.NODE.private)
        assert opened == real.TOKEN.reveal().encode()


def signed_message(data: bytes) -> None:
    """A signed message's three parts: header first."""
    with contextlib.suppress(wire.Malformed):
        jws.verify(data, real.NODE.public, messages.REQUEST_TYPE)
        assert data.split(b".")[1] == real.REQUEST.split(b".")[1]


def node_chain(data: bytes) -> None:
    """A leaf that says to be a node's."""
    with contextlib.suppress(Untrusted, OtherVersion):
        key = real.ANCHORS.node_key([data, pki.cert_der(real.CLIENT[1])])
        assert pki.spki(key) == pki.spki(real.NODE.public), "a certificate nobody issued"


def broker_leaf(data: bytes) -> None:
    """A leaf that says to be the broker's."""
    with contextlib.suppress(Untrusted, OtherVersion):
        key = real.ANCHORS.broker_key(data)
        assert pki.spki(key) == pki.spki(real.BROKER.public_key()), "a certificate nobody issued"


def http_request(data: bytes) -> None:
    """A request at the endpoint or the status page."""
    with contextlib.suppress(http1.Refusal, OSError):
        understood = http1.read_request(Wire(data))  # type: ignore[arg-type]
        if understood is not None:
            assert len(understood[2]) <= http1.MAX_BODY
            assert len(understood[0] + understood[1] + understood[3]) <= http1.MAX_HEAD + 1000


def http_answer(data: bytes) -> None:
    """What a control plane answers to a node that wants to join."""
    connection = http.client.HTTPConnection("control-plane")
    connection.sock = Wire(data)
    with contextlib.suppress(OSError, http.client.HTTPException, OtherVersion):
        assert len(client.call(connection, "GET", "/v1/nonce", None, 128)) <= 128


def cluster_side(data: bytes) -> None:
    """What another control plane tells of its cluster."""
    with contextlib.suppress(Untrusted, OtherVersion):
        assert which_cluster.verify(real.ANCHORS, data, real.NONCE) == real.SIDE


def broker_frame(data: bytes) -> None:
    """A message at the broker's socket."""
    with contextlib.suppress(wire.Malformed, OtherVersion, OSError):
        broker_protocol.receive(Wire(data))  # type: ignore[arg-type]


def mdns_packet(data: bytes) -> None:
    """A packet of the mDNS group."""
    discovery = Discovery()
    discovery._said = Announcement("10.77.0.11", real.NODE.node_id, "abc", 6444, False, False)
    # Without the name of the service a packet is not looked at.
    discovery._packet(
        data if MARK in data else data + MARK, "10.77.0.66", Link("eth0", "10.77.0.2")
    )
    assert len(discovery.candidates) <= handoff.MAX_CANDIDATES
    for candidate in discovery.candidates:
        assert len(candidate.beacon) <= beacons.MAX_TEXT


def txt_record(data: bytes) -> None:
    """The text of a TXT record."""
    found = from_txt(data)
    assert found is None or len(found) <= beacons.MAX_TEXT


_ROOT = Path(tempfile.mkdtemp(prefix="nodeagent-fuzz-", dir=os.environ.get("FUZZ_FOLDER")))
for _name in (handoff.HEARD, paths.ANNOUNCE):
    (_ROOT / _name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)


def heard_file(data: bytes) -> None:
    """heard.json, as a taken-over network process may write it."""
    (_ROOT / handoff.HEARD.lstrip("/")).write_bytes(data)
    _, candidates = handoff.read_heard(Host(_ROOT))
    assert len(candidates) <= handoff.MAX_CANDIDATES


def announce_file(data: bytes) -> None:
    """announce.json."""
    (_ROOT / paths.ANNOUNCE.lstrip("/")).write_bytes(data)
    with contextlib.suppress(wire.Malformed, OtherVersion):
        handoff.read_announcement(Host(_ROOT))


class _Tags(HTMLParser):
    """What a browser would take for markup."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs if name.startswith("on"))]


def status_file(data: bytes) -> None:
    """status.json on its way to a browser or to Prometheus: nothing in it becomes a program."""
    for path in status_page.KINDS:
        status_page.render(path, data)
    tags = _Tags()
    tags.feed(status_page.render("/", data).decode())
    assert tags.found.count("script") == 1, "the page has one script, and it is its own"
    assert not [tag for tag in tags.found if tag.startswith(("on", "iframe", "img", "object"))]


def signing_request(data: bytes) -> None:
    """A certificate request that a kubelet sends; base64 of DER is what the API server stores."""
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%s\n-----END CERTIFICATE REQUEST-----\n"
    token = Token("abcdef", real.NODE.node_id, real.NONCE, "pi-2", "", real.NOW)
    token = replace(token, key=pki.spki_hash(real.CA_KEY.public_key()))
    for text in (data, pem % base64.b64encode(data)):
        spec = {
            "username": "system:bootstrap:abcdef", "groups": [GROUP], "signerName": SIGNER,
            "usages": ["digital signature", "client auth"],
            "request": base64.b64encode(text).decode(),
        }  # fmt: skip
        asked = kube_api._request({"metadata": {"name": "csr-1", "uid": "1"}, "spec": spec})
        fits(asked, token)
        assert not fits(asked, replace(token, key="")), "a key that nobody named"


def card_file(data: bytes) -> None:
    """A card file; what is taken fits together and survives being kept."""
    fleet_file.is_scrubbed(data)
    with contextlib.suppress(wire.Malformed, OtherVersion, pki.BadCertificate):
        card = fleet_file.parse(data)
        store.from_card(card)
        kept = fleet_file.parse(fleet_file.dump(card))
        assert (kept.fleet_id, kept.enrol_key) == (card.fleet_id, card.enrol_key)


def api_answer(data: bytes) -> None:
    """What an API server answers, whatever is behind its address."""
    server = kube_api.Api("https://10.77.0.11:6443", "", "", "")
    server._request = Answers(data)  # type: ignore[assignment]
    for ask in (server.requests, server.all_nodes):
        with contextlib.suppress(CommandFailed):
            ask()


@dataclass(frozen=True)
class Target:
    """A parser with real messages to begin with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


SPEAKER = speakers.Speaker(1)
_SEALED = SPEAKER.seal(real.BEACON, real.BEACON_KEY)
_PLAIN = ChaCha20Poly1305(real.BEACON_KEY).decrypt(
    base64.urlsafe_b64decode(_SEALED + "==")[:12],
    base64.urlsafe_b64decode(_SEALED + "==")[12:],
    beacons._ASSOCIATED,
)
_ITEMS = {
    "items": [
        {
            "metadata": {"name": "csr-1"},
            "spec": {"signerName": SIGNER, "request": base64.b64encode(b"x").decode()},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
    ]
}
_POST = b"POST /v1/grant HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nlater",
)
TARGETS: dict[str, Target] = {
    "beacon": Target(beacon, (_SEALED.encode(),)),
    "sealed": Target(sealed, (_PLAIN,)),
    "strict_json": Target(strict_json, (_PLAIN, real.heard(), b'{"a": [1, true, null, "x"]}')),
    "request": Target(request, (real.REQUEST,)),
    "signed_request": Target(signed_request, (real.payload(real.REQUEST),)),
    "leave": Target(leave, (real.LEAVE,)),
    "signed_leave": Target(signed_leave, (real.payload(real.LEAVE),)),
    "grant": Target(grant, (real.GRANT,)),
    "signed_grant": Target(signed_grant, (real.payload(real.GRANT),)),
    "signed_message": Target(signed_message, (real.REQUEST, real.GRANT)),
    "node_chain": Target(node_chain, (pki.cert_der(real.CLIENT[0]),)),
    "broker_leaf": Target(broker_leaf, (pki.cert_der(real.BROKER_CERT),)),
    "http_request": Target(http_request, (_POST, b"GET / HTTP/1.1\r\n\r\n")),
    "http_answer": Target(http_answer, _ANSWERS),
    "cluster_side": Target(cluster_side, (real.ANSWER,)),
    "cluster_statement": Target(cluster_statement, (real.STATEMENT,)),
    "encrypted": Target(encrypted, (json.loads(real.payload(real.GRANT))["token"].encode(),)),
    "broker_frame": Target(broker_frame, (b'\0\0\0\x18{"v": 1, "op": "nonce"} ',)),
    "mdns_packet": Target(mdns_packet, (real.packet(_SEALED), QUESTION)),
    "txt_record": Target(txt_record, (b"\x06b0=abc\x06b1=def",)),
    "heard_file": Target(heard_file, (real.heard(),)),
    "announce_file": Target(announce_file, (real.announced(),)),
    "status_file": Target(status_file, (b'{"version": 1, "phase": "ready"}',)),
    "signing_request": Target(signing_request, (real.CSR_DER,)),
    "card_file": Target(card_file, (real.CARD, fleet_file.for_workers(real.CARD))),
    "api_answer": Target(api_answer, (json.dumps(_ITEMS).encode(),)),
}
