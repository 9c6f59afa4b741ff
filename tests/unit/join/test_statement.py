"""What a control plane's agent vouches for: nobody else can, and an old word is known as one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.errors import FleetError, OtherVersion, Untrusted
from nodeagent.fleet.rivals import Side
from nodeagent.join import statement, which_cluster
from nodeagent.trust import fleet_file, jwe, jws, pki, store, wire
from nodeagent.trust.store import Issuer, Trust
from tests.support.admission import BROKER, CA, CA_KEY, NONCE, NOW, claims, cluster

# An end certificate in the CA's place.
CA_OF_NOBODY = pki.cert_pem(pki.issue("kubernetes", CA_KEY.public_key(), "kubernetes", CA_KEY))
EVIL_KEY = pki.new_key()
EVIL = pki.cert_pem(
    pki.issue("kubernetes", EVIL_KEY.public_key(), "kubernetes", EVIL_KEY, path_length=0)
)
OURS = Side("n-" + "a" * 16, "pi-1", "ab" * 32, 3, NOW, True)


def signed(trust: Trust, kind: Any, value: Any, typ: str) -> bytes:
    """The claims signed with a leaf of this kind."""
    key = pki.new_key()
    cert = base64.b64encode(pki.cert_der(trust.leaf(kind, key.public_key())[0])).decode()
    return jws.sign({**value, "cert": cert}, key, typ)


def test_it_is_believed_until_it_ends(trust: Trust) -> None:
    data = statement.build(trust, cluster(networks=("10.118.0.0/16", "10.96.0.0/12")), NOW)
    told = statement.verify(trust.anchors, data, NOW + statement.LIFE)
    assert (told.ca_cert, told.endpoints) == (CA, ("10.77.0.11:6443",))
    assert told.networks == ("10.118.0.0/16", "10.96.0.0/12")
    for moment in (NOW + statement.LIFE + 61, NOW - 61):
        with pytest.raises(Untrusted, match="expired, or from the future"):
            statement.verify(trust.anchors, data, moment)
    assert statement.verify(trust.anchors, data, None) == told, "a board without a clock"


def test_who_carries_it_cannot_make_it(trust: Trust, stranger: Trust) -> None:
    """The keys and leaves of broker, network process and nodes sign none, whatever they say."""
    said = claims(statement.build(trust, cluster(), NOW))
    evil = {**said, "ca_cert": EVIL, "ca_hash": statement.ca_hash(EVIL)}
    for kind in ("broker", "server", "client"):
        with pytest.raises(Untrusted, match="agent's certificate"):
            forged = signed(trust, kind, evil, statement.CLUSTER_TYPE)
            statement.verify(trust.anchors, forged, NOW)
    with pytest.raises(Untrusted):
        forged = signed(stranger, "agent", evil, statement.CLUSTER_TYPE)
        statement.verify(trust.anchors, forged, NOW)
    # With the agent's true leaf beside, but another key.
    with pytest.raises(Untrusted, match="signature is wrong"):
        forged = jws.sign(evil, BROKER, statement.CLUSTER_TYPE)
        statement.verify(trust.anchors, forged, NOW)


def test_a_workers_card_cannot_make_it(trust: Trust) -> None:
    worker = store.from_card(fleet_file.parse(fleet_file.for_workers(fleet_file.make("home")[1])))
    with pytest.raises(FleetError, match="worker's card"):
        statement.build(worker, cluster(), NOW)
    bare = replace(trust, control_plane=Issuer(trust.control_plane.cert))
    with pytest.raises(FleetError, match="worker's card"):
        statement.build(bare, cluster(), NOW)
    # A leaf below the enrol issuer with the agent's name is of no use.
    key, issuer = pki.new_key(), trust.enrol
    assert issuer.key is not None
    leaf = pki.issue(
        "x", key.public_key(), pki.common_name(issuer.cert), issuer.key, usages=(pki.SERVER,),
        dns=(f"agent.{trust.fleet_id}.internal",),
    )  # fmt: skip
    said = claims(statement.build(trust, cluster(), NOW))
    said["cert"] = base64.b64encode(pki.cert_der(leaf)).decode()
    with pytest.raises(Untrusted, match="another issuer"):
        statement.verify(trust.anchors, jws.sign(said, key, statement.CLUSTER_TYPE), NOW)


FORMS: dict[str, Callable[[Any], Any]] = {
    "nine endpoints": lambda v: {**v, "endpoints": ["10.0.0.1:6443"] * 9},
    "no endpoint": lambda v: {**v, "endpoints": []},
    "a line more": lambda v: {**v, "endpoints": ["10.0.0.1:6443\n"]},
    "a name": lambda v: {**v, "endpoints": ["evil.example:6443"]},
    "a long CA": lambda v: {**v, "ca_cert": "x" * 8193},
    "no CA": lambda v: {**v, "ca_cert": CA_OF_NOBODY},
    "another hash": lambda v: {**v, "ca_hash": "sha256:" + "0" * 64},
    "another CA": lambda v: {**v, "ca_cert": EVIL},
    "a torn CA": lambda v: {**v, "ca_cert": v["ca_cert"].replace("MII", "MIJ", 1)},
    "an option": lambda v: {**v, "kubernetes": "1.37.2 --insecure"},
    "one network": lambda v: {**v, "networks": ["10.244.0.0/16"]},
    "no network": lambda v: {**v, "networks": ["10.244.0.0/16", "10.96.0.1/12"]},
    "a line in a network": lambda v: {**v, "networks": ["10.244.0.0/16", "10.96.0.0/12\npod"]},
    "another fleet": lambda v: {**v, "fleet": "f-" + "a" * 16},
    "an epoch out of range": lambda v: {**v, "epoch": 2**31 + 1},
    "a true epoch": lambda v: {**v, "epoch": True},
    "no end": lambda v: {k: v[k] for k in v if k != "exp"},
    "no node": lambda v: {k: v[k] for k in v if k != "node"},
}


@pytest.mark.parametrize("what", FORMS)
def test_another_form_is_refused_though_the_agent_signed_it(what: str, trust: Trust) -> None:
    said = FORMS[what](claims(statement.build(trust, cluster(), NOW)))
    with pytest.raises(Untrusted):
        data = signed(trust, "agent", said, statement.CLUSTER_TYPE)
        statement.verify(trust.anchors, data, NOW)


def test_an_earlier_cluster_of_the_same_control_plane_is_not_joined(trust: Trust) -> None:
    old = statement.build(trust, cluster(epoch=2), NOW)
    node = cluster().node
    assert statement.verify(trust.anchors, old, NOW, {node: 2, "n-" + "b" * 16: 9}).epoch == 2
    with pytest.raises(Untrusted, match="given up since"):
        statement.verify(trust.anchors, old, NOW, {node: 3})


def answer(trust: Trust, side: bytes, nonce: str = NONCE, kind: Any = "broker") -> bytes:
    """As the broker answers, or another with its own leaf."""
    key = pki.new_key()
    cert = trust.leaf(kind, key.public_key())[0]
    return which_cluster.answer(trust.fleet_id, key, cert, side, nonce)


def test_which_cluster_it_is_comes_from_agent_and_broker(trust: Trust, stranger: Trust) -> None:
    side = which_cluster.build(trust, OURS, NOW)
    assert which_cluster.verify(trust.anchors, answer(trust, side), NONCE) == OURS
    lie = json.loads(OURS.to_json()) | {"fleet": trust.fleet_id, "iat": NOW, "epoch": 9}
    forged = {
        "an earlier answer": answer(trust, side, "B" * 43),
        "signed by the network process": answer(trust, side, kind="server"),
        "signed by a node": answer(trust, side, kind="client"),
        "of another fleet": answer(stranger, which_cluster.build(stranger, OURS, NOW)),
        "facts of the broker's": answer(
            trust, signed(trust, "broker", lie, which_cluster.SIDE_TYPE)
        ),
        "facts of the network process": answer(
            trust, signed(trust, "server", lie, which_cluster.SIDE_TYPE)
        ),
        "another statement": answer(trust, statement.build(trust, cluster(), NOW)),
        "the bare facts": side,
        "nothing": b"",
    }
    for what, data in forged.items():
        with pytest.raises(Untrusted):
            which_cluster.verify(trust.anchors, data, NONCE)
            raise AssertionError(what)


def test_a_later_version_is_called_so(trust: Trust) -> None:
    said = claims(statement.build(trust, cluster(), NOW))
    with pytest.raises(OtherVersion, match="A statement about a cluster was written by another"):
        data = signed(trust, "agent", {**said, "v": 2}, statement.CLUSTER_TYPE)
        statement.verify(trust.anchors, data, NOW)


class TestEncryption:
    """JWE for one reader."""

    def test_the_key_derivation_is_the_standards(self) -> None:
        """RFC 7518, appendix C: Alice and Bob, A128GCM."""
        z = [158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49,
             110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196]  # fmt: skip
        info = b"".join(
            len(part).to_bytes(4, "big") + part for part in (b"A128GCM", b"Alice", b"Bob")
        )
        derived = jwe.derive(bytes(z), info + (128).to_bytes(4, "big"), 16)
        assert base64.urlsafe_b64encode(derived) == b"VqqN6vgjbSBcIijNcacQGg=="

    def test_only_the_reader_reads(self) -> None:
        key = pki.new_key()
        text = jwe.encrypt(b"secret", key.public_key())
        assert jwe.decrypt(text, key) == b"secret" and "secret" not in text
        with pytest.raises(wire.Malformed):
            jwe.decrypt(text, pki.new_key())
        assert jwe.encrypt(b"secret", key.public_key()) != text, "never twice the same"

    @pytest.mark.parametrize("part", [0, 2, 3, 4])
    def test_a_change_anywhere_is_seen(self, part: int) -> None:
        key = pki.new_key()
        parts = jwe.encrypt(b"secret", key.public_key()).split(".")
        parts[part] = ("B" if parts[part][0] == "A" else "A") + parts[part][1:]
        with pytest.raises(wire.Malformed):
            jwe.decrypt(".".join(parts), key)

    @pytest.mark.parametrize(
        "change",
        [{"enc": "A128GCM"}, {"alg": "dir"}, {"zip": "DEF"}, {"crit": ["exp"]}, {"apu": "QQ"},
         {"epk": {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}},
         {"epk": {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43, "d": "A" * 43}},
         {"epk": "x"}],
        ids=str,
    )  # fmt: skip
    def test_another_header_is_refused(self, change: dict[str, Any]) -> None:
        key = pki.new_key()
        head, *rest = jwe.encrypt(b"secret", key.public_key()).split(".")
        header = json.loads(base64.urlsafe_b64decode(head + "==")) | change
        changed = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        with pytest.raises(wire.Malformed):
            jwe.decrypt(".".join([changed, *rest]), key)

    @pytest.mark.parametrize("text", ["", "....", "a.b.c.d.e", "x" * 2000, "a..b.c"])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(wire.Malformed):
            jwe.decrypt(text, pki.new_key())
