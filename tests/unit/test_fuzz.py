"""Every parser of bytes from the network, with real messages spoilt at random, and what fuzzing
found before. `make fuzz` searches further, guided by coverage; tests/fuzz says what must hold."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeagent.trust import pki
from tests.fuzz import messages as real
from tests.fuzz.targets import TARGETS

WORDS = (
    b"", b"\0", b"\n", b"\r\n\r\n", b'"', b"{", b"}", b"[", b"]", b"[" * 99, b",", b":", b".", b"=",
    b"-", b"1e999", b"NaN", b"9" * 5000, b"null", b"true", b'"\\ud800"', b"\xff", b"\xc0\x0c",
    b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"Content-Length: 1\r\n", b"none",
    b"<script>", b"%00",
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A real message with a few places cut out and other bytes put in."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 0, 1, 1, 2, 7, 40]))
        new = draw(st.one_of(st.sampled_from(WORDS), st.binary(max_size=6)))
        data = data[:place] + new + data[place + cut :]
    return data


@pytest.fixture(autouse=True)
def _odd_certificates_are_no_news() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_refused_or_understood(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)

    @settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(spoilt(target.seeds), st.binary(max_size=300)))
    def any_bytes(data: bytes) -> None:
        target.run(data)

    any_bytes()


def unknown(der: bytes, oid: bytes) -> bytes:
    """The same DER with an object identifier that nobody knows in all its places."""
    assert der.count(oid)
    return der.replace(oid, oid[:-1] + b"\x7f")


def odd_text(der: bytes) -> bytes:
    """The same with names in an unknown kind of text: the tag of UTF8String (X.680 8.4) changed."""
    assert b"\x0c\x12" in der
    return der.replace(b"\x0c\x12", b"\xb7\x12")


ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")  # RFC 5758 3.2
P256 = bytes.fromhex("06082a8648ce3d030107")  # RFC 5480 2.1.1.1
# Found by libFuzzer: OpenSSL 3.0 cannot take in again what cryptography 38 took.
ODD_CSR = bytes.fromhex(
    "3081ed3081940201003032311530130603550c0a040c73797374656d3a6e6f646573311930170603"
    "5504030c1073797374656d3a6e6f64653a70692d323059301306072a8648ce3d020106082a8648ce"
    "3d03010703420004c135640926b5ada801257fd45c0479ec09a59b9011a7b1ca63516f87ea5cf797"
    "ddeae776fc9ec3e2baff3aa7afdee8aa66fb1cd17ea108a74628deb05094bee0a000300a06082a86"
    "48ce3d04030203480030450220148f209440b14ddfe7b9a5a60610686a45c2ab9e52c022f5f6a6d4"
    "5b463bbc77022100ed60992707194f62443a95afad28084398816df4160dcff0af54295efcd168cd"
)
LEAF = pki.cert_der(real.CLIENT[0])


def request_with(leaf: bytes) -> bytes:
    """The content of a request whose leaf is this."""
    claims = json.loads(real.payload(real.REQUEST))
    claims["chain"][0] = base64.b64encode(leaf).decode()
    return json.dumps(claims).encode()


# What a parser once answered with something else than its documented exception.
FOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a leaf signed in an unknown way": ("node_chain", lambda: unknown(LEAF, ECDSA_SHA256)),
    "a leaf with a key on an unknown curve": ("node_chain", lambda: unknown(LEAF, P256)),
    "a broker's leaf signed in an unknown way": (
        "broker_leaf", lambda: unknown(pki.cert_der(real.BROKER_CERT), ECDSA_SHA256),
    ),
    "a request with such a leaf": (
        "signed_request", lambda: request_with(unknown(LEAF, ECDSA_SHA256)),
    ),
    "a leaf named in an unknown kind of text": ("node_chain", lambda: odd_text(LEAF)),
    "a certificate request named so": (
        "signing_request", lambda: real.CSR_DER.replace(b"\x0c\x0csystem:", b"\xf0\x0csystem:"),
    ),
    "a certificate request that OpenSSL cannot take in": ("signing_request", lambda: ODD_CSR),
    "a certificate request with a key on an unknown curve": (
        "signing_request", lambda: unknown(real.CSR_DER, P256),
    ),
    "a certificate request signed in an unknown way": (
        "signing_request", lambda: unknown(real.CSR_DER, ECDSA_SHA256),
    ),
    "an answer without items": ("api_answer", lambda: b'{"kind": "Status"}'),
    "an answer that is a list": ("api_answer", lambda: b"[]"),
    "an answer whose items are words": ("api_answer", lambda: b'{"items": ["a"]}'),
    "an answer that asks to wait a number of seconds too long to read": (
        "http_answer",
        lambda: b"HTTP/1.1 503 Busy\r\nRetry-After: " + b"9" * 5000 + b"\r\n\r\n",
    ),
    "an answer of another version": (
        "http_answer", lambda: b"HTTP/1.1\x1e\x1e 404",
    ),
    "an answer nested without end": ("api_answer", lambda: b"[" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_what_fuzzing_found(what: str) -> None:
    name, make = FOUND[what]
    TARGETS[name].run(make())
