"""Requests and grants: only what the right key signed, for the right node, in exact form."""

from __future__ import annotations

import base64
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

from nodeagent.errors import OtherVersion, Untrusted
from nodeagent.join import messages
from nodeagent.join.messages import GRANT_TYPE, REQUEST_TYPE
from nodeagent.trust import jwe, jws, pki, wire
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.admission import (
    BROKER,
    KUBELET_HASH,
    NONCE,
    NOW,
    READER,
    claims,
    cluster,
    granted,
    offer,
    proved,
    request,
)

P384 = pki.spki(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_a_request_is_believed(trust: Trust, key: NodeKey) -> None:
    asked = messages.verify_request(trust.anchors, request(trust, key, "PI-2"))
    assert (asked.node_id, asked.name, asked.nonce) == (key.node_id, "pi-2", NONCE)
    assert (asked.facts, asked.kubelet) == ({"model": "Pi 5"}, KUBELET_HASH)
    assert pki.spki(asked.reader) == pki.spki(READER.public_key())


def test_a_grant_is_believed(trust: Trust, key: NodeKey) -> None:
    data = granted(trust, key)
    grant = proved(trust, data, key.node_id, now=NOW + 5)
    assert grant == offer()
    assert "0123456789abcdef" not in repr(grant)
    assert "0123456789abcdef" not in str(grant)
    assert "0123456789abcdef" not in str(claims(data)), "nor can who carries it read it"


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
        lambda v: {k: v[k] for k in v if k != "kubelet"},
        lambda v: {**v, "kubelet": v["kubelet"].upper()},
        lambda v: {**v, "kubelet": ""},
        lambda v: {k: v[k] for k in v if k != "reader"},
        lambda v: {**v, "reader": ""},
        lambda v: {**v, "reader": base64.b64encode(P384).decode()},
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
        data = messages.build_request(
            trust.fleet_id, thief, chain, "pi-2", NONCE, {}, KUBELET_HASH, READER.public_key()
        )
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
        lambda v: {k: v[k] for k in v if k != "aud"},
        lambda v: {k: v[k] for k in v if k != "exp"},
        lambda v: {**v, "name": "../pi"},
        lambda v: {**v, "token": "abcdef.0123456789abcdef"},
        lambda v: {**v, "token": v["token"][:-2] + "AA"},
        lambda v: {**v, "token": jwe.encrypt(b"ABCDEF.0123456789abcdef", READER.public_key())},
        lambda v: {**v, "token": jwe.encrypt(b"abcdef.0123456789abcdef\n", READER.public_key())},
        lambda v: {**v, "token": jwe.encrypt(b"abcdef.0123456789abcdef", BROKER.public_key())},
        lambda v: {k: v[k] for k in v if k != "cluster"},
        lambda v: {**v, "cluster": v["cluster"][:-2] + "AA"},
    ],
)  # fmt: skip
def test_a_grant_of_another_form_is_refused(
    change: Callable[[Any], Any], trust: Trust, key: NodeKey
) -> None:
    forged = jws.sign(change(claims(granted(trust, key))), BROKER, GRANT_TYPE)
    with pytest.raises(Untrusted):
        proved(trust, forged, key.node_id)


def test_a_grant_tells_the_clusters_networks(trust: Trust, key: NodeKey) -> None:
    """Those that the leader chose; it may tell none, which is no fault."""
    for told in ((), ("10.118.0.0/16", "fd00:10:96::/112")):
        data = granted(trust, key, cluster=cluster(networks=told))
        assert proved(trust, data, key.node_id).cluster.networks == told


def test_only_the_brokers_certificate_signs_grants(trust: Trust, key: NodeKey) -> None:
    for kind in ("client", "server", "agent"):
        (cert, _) = trust.leaf(kind, BROKER.public_key())
        whole = claims(granted(trust, key))
        whole["cert"] = base64.b64encode(pki.cert_der(cert)).decode()
        with pytest.raises(Untrusted):
            proved(trust, jws.sign(whole, BROKER, GRANT_TYPE), key.node_id)


@pytest.mark.parametrize("typ", [REQUEST_TYPE, GRANT_TYPE])
def test_what_0_2_0_said_is_of_another_version(typ: str, trust: Trust, key: NodeKey) -> None:
    """Its requests name no key for the kubelet, its grants are vouched for by the broker alone."""
    said, signer = (
        (request(trust, key), key.private) if typ == REQUEST_TYPE else (granted(trust, key), BROKER)
    )
    old = jws.sign({**claims(said), "v": 1}, signer, typ)
    with pytest.raises(OtherVersion, match=r"format 1; this one reads 2"):
        if typ == REQUEST_TYPE:
            messages.verify_request(trust.anchors, old)
        else:
            proved(trust, old, key.node_id)


def test_an_unknown_clock_leaves_only_the_dates_out(trust: Trust, key: NodeKey) -> None:
    data = granted(trust, key)
    assert proved(trust, data, key.node_id, now=None) == offer()
    with pytest.raises(Untrusted):
        proved(trust, data, key.node_id, "B" * 43, None)


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
        proved(trust, signing + b"." + _b64(raw), key.node_id)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384"])
def test_other_algorithms_are_refused(algorithm: str, trust: Trust, key: NodeKey) -> None:
    head = _b64(json.dumps({"alg": algorithm, "typ": GRANT_TYPE}).encode())
    data = b".".join([head, *granted(trust, key).split(b".")[1:]])
    with pytest.raises(Untrusted):
        proved(trust, data, key.node_id)


def test_a_right_signature_by_another_algorithm_is_refused(trust: Trust, key: NodeKey) -> None:
    head = _b64(json.dumps({"alg": "ES384", "typ": GRANT_TYPE}).encode())
    signing = head + b"." + granted(trust, key).split(b".")[1]
    r, s = decode_dss_signature(BROKER.sign(signing, ec.ECDSA(hashes.SHA384())))
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    with pytest.raises(Untrusted):
        proved(trust, signing + b"." + _b64(raw), key.node_id)


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
