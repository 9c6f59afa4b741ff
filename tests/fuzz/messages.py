"""Real messages of a fleet, which fuzzing begins with. Keys are the same in every run, so that an
input that was found once means the same again."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeagent.fleet import rivals
from nodeagent.fleet.beacon import Beacon
from nodeagent.join import leave, messages, statement, which_cluster
from nodeagent.trust import fleet_file, jws, pki, store
from nodeagent.trust.node_key import NodeKey

NOW, NONCE = 1_795_000_000, "A" * 43
BEACON_KEY = bytes(range(32))


@contextmanager
def known_keys() -> Iterator[None]:
    """Keys by counting instead of by chance."""
    numbers = itertools.count(1000)
    with patch.object(pki, "new_key", lambda: ec.derive_private_key(next(numbers), ec.SECP256R1())):
        yield


with known_keys():
    CARD = fleet_file.make("home")[1]
    NODE = NodeKey(pki.new_key())
    BROKER = pki.new_key()
    CA_KEY = pki.new_key()
TRUST = store.from_card(fleet_file.parse(CARD))
ANCHORS = TRUST.anchors
CA = pki.cert_pem(pki.issue("kubernetes", CA_KEY.public_key(), "kubernetes", CA_KEY, path_length=0))
CLIENT = TRUST.leaf("client", NODE.public)
BROKER_CERT = TRUST.leaf("broker", BROKER.public_key())[0]
BEACON = Beacon(
    node_id=NODE.node_id, boot="0123abcd", name="raspberrypi", phase="electing", role="auto",
    fitness=(1, 2, 8, 1), epoch=1, claim=True, ready=False, expected=4, address="10.77.0.11",
    port=6444, seq=1,
)  # fmt: skip
KUBELET = "ab" * 32
REQUEST = messages.build_request(
    TRUST.fleet_id, NODE, CLIENT, "pi-2", NONCE, {"model": "Pi 5"}, KUBELET, NODE.public
)
UID = "0f3b1a52-7a55-4d0e-9a47-7c5f4a9e2b11"
LEAVE = leave.build(TRUST.fleet_id, NODE, CLIENT, "pi-2", UID, False, NONCE)
CLUSTER = statement.Cluster(NODE.node_id, 1, ("10.77.0.11:6443",), CA, "1.36.4")
STATEMENT = statement.build(TRUST, CLUSTER, NOW)
TOKEN = messages.Secret("abcdef.0123456789abcdef")
GRANT = messages.build_grant(
    TRUST.fleet_id, BROKER, BROKER_CERT,
    messages.Request(NODE.node_id, "pi-2", NONCE, {}, KUBELET, NODE.public), "pi-2", TOKEN,
    STATEMENT, NOW, NOW + 600,
)  # fmt: skip
SIDE = rivals.Side(NODE.node_id, "pi-2", "0" * 64, 3, NOW, True)
ANSWER = which_cluster.answer(
    TRUST.fleet_id, BROKER, BROKER_CERT, which_cluster.build(TRUST, SIDE, NOW), NONCE
)
CSR = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(
        x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, "system:node:pi-2"),
        ])
    )
    .sign(CA_KEY, hashes.SHA256())
)  # fmt: skip
CSR_DER = CSR.public_bytes(serialization.Encoding.DER)


def payload(message: bytes) -> bytes:
    """What is signed in a message."""
    return base64.urlsafe_b64decode(message.split(b".")[1] + b"==")


def signed(content: bytes, key: pki.PrivateKey, typ: str) -> bytes:
    """Any bytes, signed as a message: what holders of a key can send."""
    text: str | bytes = jwt.PyJWS().encode(content, key, jws.ALGORITHM, {"typ": typ})
    return text.encode() if isinstance(text, str) else text


def heard() -> bytes:
    """A heard.json."""
    one = {"address": "10.77.0.12", "port": 6444, "beacon": "abc", "first": NOW, "last": NOW}
    return json.dumps({"v": 1, "own_heard": NOW, "candidates": [one, one]}).encode()


def announced() -> bytes:
    """An announce.json."""
    value = {
        "v": 1, "interface_address": "10.77.0.11", "instance": NODE.node_id, "beacon": "abc",
        "port": 6444, "endpoint": True, "status_page": True,
    }  # fmt: skip
    return json.dumps(value).encode()


def packet(beacon: str) -> bytes:
    """An mDNS answer with a TXT record of a node (RFC 1035 4.1)."""
    from nodeagent.serve.mdns.message import TYPE, to_txt

    def name(text: str) -> bytes:
        labels = text.rstrip(".").split(".")
        return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"

    strings = [f"{key}={text}".encode() for key, text in to_txt(beacon).items()]
    text = b"".join(bytes([len(string)]) + string for string in strings)
    record = name(f"n-{'b' * 16}.{TYPE}") + b"\0\x10\x80\x01\0\0\x11\x94"
    return b"\0\0\x84\0\0\0\0\1\0\0\0\0" + record + len(text).to_bytes(2, "big") + text
