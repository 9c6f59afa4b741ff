"""Requests and grants: only what the right key signed, for the right node, in exact form."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import Untrusted
from nodeagent.join import messages
from nodeagent.join.messages import GRANT_TYPE, REQUEST_TYPE, Request
from nodeagent.trust import jws, pki, wire
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.admission import BROKER, CA_KEY, NONCE, NOW, claims, granted, offer, request

# An end certificate in the CA's place.
CA_OF_NOBODY = pki.cert_pem(pki.issue("kubernetes", CA_KEY.public_key(), "kubernetes", CA_KEY))


def test_a_request_is_believed(trust: Trust, key: NodeKey) -> None:
    proved = messages.verify_request(trust.anchors, request(trust, key, "PI-2"))
    assert proved == Request(key.node_id, "pi-2", NONCE, {"model": "Pi 5"})


def test_a_grant_is_believed(trust: Trust, key: NodeKey) -> None:
    data = granted(trust, key)
    proved = messages.verify_grant(trust.anchors, data, key.node_id, NONCE, NOW + 5)
    assert proved == offer()
    assert "0123456789abcdef" not in repr(proved)
    assert "0123456789abcdef" not in str(proved)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {**v, "fleet": "f-" + "a" * 16},
        lambda v: {**v, "node": "n-" + "a" * 16},
        lambda v: {**v, "name": "Pi 2"},
        lambda v: {**v, "name": "pi;reboot"},
        lambda v: {**v, "chain": v["chain"][:1]},
        lambda v: {**v, "chain": v["chain"][::-1]},
        lambda v: {**v, "chain": [v["chain"][0], base64.b64encode(b"x").decode()]},
        lambda v: {**v, "facts": {"A": "b"}},
        lambda v: {**v, "facts": {"a": "b\n"}},
        lambda v: {**v, "facts": {chr(97 + i): "" for i in range(9)}},
        lambda v: {**v, "chain": v["chain"] * 2},
        lambda v: {**v, "chain": [v["chain"][0].rstrip("=") + "===", v["chain"][1]]},
        lambda v: {**v, "chain": [base64.b64encode(bytes(2049)).decode(), v["chain"][1]]},
        lambda v: {**v, "facts": {"a": "b" * 129}},
        lambda v: {**v, "facts": {"a": 1}},
        lambda v: {**v, "facts": {"a" * 25: "b"}},
        lambda v: {**v, "facts": None},
        lambda v: {**v, "nonce": "A" * 15},
        lambda v: {**v, "nonce": "A" * 129},
        lambda v: {**v, "nonce": "A" * 42 + "="},
        lambda v: {**v, "name": "a" * 64},
        lambda v: {**v, "name": None},
        lambda v: {**v, "node": v["node"].upper()},
        lambda v: {k: v[k] for k in v if k != "nonce"},
        lambda v: [v],
    ],
)  # fmt: skip
def test_a_request_of_another_form_is_refused(
    change: Callable[[Any], Any], trust: Trust, key: NodeKey
) -> None:
    forged = jws.sign(change(claims(request(trust, key))), key.private, REQUEST_TYPE)
    with pytest.raises(Untrusted):
        messages.verify_request(trust.anchors, forged)


def test_a_request_needs_a_certificate_of_its_own_key(
    trust: Trust, stranger: Trust, key: NodeKey
) -> None:
    thief = NodeKey(pki.new_key())
    chains = [
        trust.leaf("client", key.public),  # somebody else's certificate
        stranger.leaf("client", thief.public),  # another fleet's
        trust.leaf("server", thief.public),  # not for clients
    ]
    for chain in chains:
        data = messages.build_request(trust.fleet_id, thief, chain, "pi-2", NONCE, {})
        with pytest.raises(Untrusted):
            messages.verify_request(trust.anchors, data)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {**v, "aud": "n-" + "a" * 16},
        lambda v: {**v, "nonce": "B" * 43},
        lambda v: {**v, "exp": NOW - 100},
        lambda v: {**v, "iat": NOW + 1000},
        lambda v: {**v, "iat": True},
        lambda v: {**v, "exp": 2**41},
        lambda v: {**v, "exp": -1},
        lambda v: {**v, "exp": str(NOW + 600)},
        lambda v: {**v, "fleet": "f-" + "a" * 16},
        lambda v: {**v, "aud": [v["aud"]],},
        lambda v: {**v, "cert": v["cert"] + "\n"},
        lambda v: {**v, "endpoints": ["10.0.0.1:6443"] * 9},
        lambda v: {**v, "endpoints": ["10.0.0.1:6443\n"]},
        lambda v: {**v, "ca_cert": "x" * 8193},
        lambda v: {**v, "ca_cert": CA_OF_NOBODY},
        lambda v: {**v, "token": "ABCDEF.0123456789abcdef"},
        lambda v: {k: v[k] for k in v if k != "aud"},
        lambda v: {k: v[k] for k in v if k != "exp"},
        lambda v: {**v, "endpoints": []},
        lambda v: {**v, "endpoints": ["evil.example:6443"]},
        lambda v: {**v, "ca_hash": "sha256:" + "0" * 64},
        lambda v: {**v, "ca_cert": v["ca_cert"].replace("MII", "MIJ", 1)},
        lambda v: {**v, "token": "abcdef.0123456789abcdef\n"},
        lambda v: {**v, "kubernetes": "1.36.4 --insecure"},
        lambda v: {**v, "name": "../pi"},
        lambda v: {**v, "networks": ["10.244.0.0/16"]},
        lambda v: {**v, "networks": ["10.244.0.0/16", "10.96.0.1/12"]},
        lambda v: {**v, "networks": ["10.244.0.0/16", "10.96.0.0/12\npod"]},
    ],
)  # fmt: skip
def test_a_grant_of_another_form_is_refused(
    change: Callable[[Any], Any], trust: Trust, key: NodeKey
) -> None:
    forged = jws.sign(change(claims(granted(trust, key))), BROKER, GRANT_TYPE)
    with pytest.raises(Untrusted):
        messages.verify_grant(trust.anchors, forged, key.node_id, NONCE, NOW)


def test_a_grant_tells_the_clusters_networks(trust: Trust, key: NodeKey) -> None:
    """Those that the leader chose; none from a leader of before, which is no fault."""
    cert = trust.leaf("broker", BROKER.public_key())[0]
    for told in ((), ("10.118.0.0/16", "fd00:10:96::/112")):
        given = dataclasses.replace(offer(), networks=told)
        asked = Request(key.node_id, "pi-2", NONCE, {})
        data = messages.build_grant(trust.fleet_id, BROKER, cert, asked, given)
        assert ("networks" in claims(data)) is bool(told)
        proved = messages.verify_grant(trust.anchors, data, key.node_id, NONCE, NOW)
        assert proved.networks == told


def test_only_the_brokers_certificate_signs_grants(trust: Trust, key: NodeKey) -> None:
    for kind in ("client", "server"):
        (cert, _) = trust.leaf(kind, BROKER.public_key())
        asked = Request(key.node_id, "pi-2", NONCE, {})
        data = messages.build_grant(trust.fleet_id, BROKER, cert, asked, offer())
        with pytest.raises(Untrusted):
            messages.verify_grant(trust.anchors, data, key.node_id, NONCE, NOW)


def test_an_unknown_clock_leaves_only_the_dates_out(trust: Trust, key: NodeKey) -> None:
    data = granted(trust, key)
    assert messages.verify_grant(trust.anchors, data, key.node_id, NONCE, None) == offer()
    with pytest.raises(Untrusted):
        messages.verify_grant(trust.anchors, data, key.node_id, "B" * 43, None)


HEADERS: list[dict[str, Any]] = [
    {"typ": REQUEST_TYPE}, {"typ": "JWT"}, {"jku": "https://evil.example"}, {"x5u": "https://e"},
    {"jwk": {"kty": "EC"}}, {"x5c": ["MIIB"]}, {"x5t": "AA"}, {"x5t#S256": "AA"}, {"cty": "JWT"},
    {"alg": "es256"}, {"alg": ["ES256"]}, {"typ": GRANT_TYPE.upper()},
    {"crit": ["exp"]}, {"b64": False}, {"kid": "1"}, {"zip": "DEF"},
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_other_headers_are_refused(header: dict[str, Any], trust: Trust, key: NodeKey) -> None:
    whole = json.dumps({"alg": "ES256", "typ": GRANT_TYPE, **header}).encode()
    signing = _b64(whole) + b"." + granted(trust, key).split(b".")[1]
    raw = jwt.get_algorithm_by_name("ES256").sign(signing, BROKER)
    with pytest.raises(Untrusted):
        messages.verify_grant(trust.anchors, signing + b"." + _b64(raw), key.node_id, NONCE, NOW)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384"])
def test_other_algorithms_are_refused(algorithm: str, trust: Trust, key: NodeKey) -> None:
    head = _b64(json.dumps({"alg": algorithm, "typ": GRANT_TYPE}).encode())
    data = b".".join([head, *granted(trust, key).split(b".")[1:]])
    with pytest.raises(Untrusted):
        messages.verify_grant(trust.anchors, data, key.node_id, NONCE, NOW)


def test_a_right_signature_by_another_algorithm_is_refused(trust: Trust, key: NodeKey) -> None:
    head = _b64(json.dumps({"alg": "ES384", "typ": GRANT_TYPE}).encode())
    signing = head + b"." + granted(trust, key).split(b".")[1]
    r, s = decode_dss_signature(BROKER.sign(signing, ec.ECDSA(hashes.SHA384())))
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    with pytest.raises(Untrusted):
        messages.verify_grant(trust.anchors, signing + b"." + _b64(raw), key.node_id, NONCE, NOW)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1.5}', b'{"a":1e999}',
        b'{"a":' + b"[" * 7 + b"]" * 7 + b"}", b'{"a":"\xff"}', b"\xef\xbb\xbf{}", b"",
        b'{"a":9007199254740993}', b'{"a":"' + b"x" * jws.MAX_BYTES + b'"}',
    ],
    ids=lambda payload: repr(payload[:24]),
)  # fmt: skip
def test_odd_payloads_are_refused_though_signed(payload: bytes, key: NodeKey) -> None:
    text = jwt.PyJWS().encode(payload, key.private, "ES256", {"typ": GRANT_TYPE})
    with pytest.raises(wire.Malformed):
        jws.verify(text.encode(), key.public, GRANT_TYPE)


def test_a_header_that_says_something_twice_is_refused(key: NodeKey) -> None:
    head = _b64(b'{"alg":"ES256","typ":"%s","alg":"ES256"}' % GRANT_TYPE.encode())
    data = b".".join([head, *SIGNED.split(b".")[1:]])
    with pytest.raises(wire.Malformed, match="twice"):
        jws.peek(data, GRANT_TYPE)


def test_a_request_says_which_issuer_its_card_has(trust: Trust, key: NodeKey) -> None:
    leader = replace(trust, enrol=replace(trust.enrol, key=None))
    assert not messages.verify_request(trust.anchors, request(trust, key)).may_lead
    assert messages.verify_request(trust.anchors, request(leader, key)).may_lead


@given(st.integers(0, 5000), st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, change: int) -> None:
    data = bytearray(SIGNED)
    data[place % len(data)] ^= change
    with pytest.raises(wire.Malformed):
        jws.verify(bytes(data), BROKER.public_key(), GRANT_TYPE)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(wire.Malformed):
        jws.verify(data, BROKER.public_key(), GRANT_TYPE)


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


SIGNED = jws.sign({"hello": "world", "list": [1, 2]}, BROKER, GRANT_TYPE)
