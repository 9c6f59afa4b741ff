"""Requests, grants and certificate requests, changed in every way: what gets through?

The real broker, ledger and checks; only the cluster's API is a double. What an attacker may have is
said in each row: nothing, a card of the fleet, a token.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.broker import ledger, operators
from nodeagent.broker.boards import Overloaded
from nodeagent.broker.broker import Revoked, Stale, Unadmitted
from nodeagent.broker.kube_api_protocol import SigningRequest
from nodeagent.broker.places import PLACES
from nodeagent.errors import NodeAgentError
from nodeagent.join import approval, messages
from nodeagent.trust import fleet_file, jws, pki, store
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.hostile.section import Section
from tests.support.admission import (
    BROKER,
    KUBELET_HASH,
    READER,
    Setup,
    claims,
    granted,
    proved,
    signing_request,
)

REFUSED = (NodeAgentError, Stale, Overloaded, Revoked, Unadmitted)
FLIPS, EDITS = 4000, 1500
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    1.5,
    "",
    "a" * 200,
    "n-" + "a" * 16,
    "f-" + "a" * 16,
    "pi-1",
    "system:masters",
    "a\n",
    "\x00",
    "é",
    [],
    [[]],
    {},
    {"a": {}},
    ["10.0.0.1:6443"],
]


def run(seed: int) -> Section:
    """All of it with one seed."""
    dice = random.Random(seed)
    home = store.from_card(fleet_file.parse(fleet_file.make("home")[1]))
    other = store.from_card(fleet_file.parse(fleet_file.make("home")[1]))
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for name, attack in {
            "one byte of a request changed in transit": _flipped_requests,
            "claims of a request changed, signed by the attacker's own key": _edited_requests,
            "a request under another fleet's issuer, or a made-up one": _strangers,
            "old requests replayed": _replays,
            "one byte of a grant changed in transit": _flipped_grants,
            "claims of a grant changed, signed with a card's issuers": _forged_grants,
            "a stolen token asks for another certificate": _stolen_tokens,
            "a card of the fleet asks for every token and name": _greedy,
            "a revoked node, and keys a sealed fleet does not know": _outcasts,
        }.items():
            setup = Setup(path / str(len(rows)), home)
            tried, through = attack(setup, other, dice)
            rows.append((name, str(tried), str(through)))
    rate, years = _grinding()
    faults = tuple(f"{row[0]}: {row[2]} of {row[1]} got through" for row in rows if row[2] != "0")
    text = f"""
Requests, grants and certificate requests against the shipped checks and the real broker. Nothing
may get through. A key whose code begins like another's is found by making keys: plain Python makes
{rate:.0f} a second here, so all 16 characters would take {years:.0e} years, and 4 of them
{2**20 / rate:.0f} seconds: the reason why `approve` takes no prefix."""
    return Section(
        "Joining: forged, replayed, stolen, greedy",
        text,
        ("what the attacker does", "tried", "got through"),
        tuple(rows),
        faults,
    )


def _accepted(setup: Setup, data: bytes) -> bool:
    before = {*setup.cluster.tokens}
    with contextlib.suppress(*REFUSED):
        setup.broker.grant(data, "10.77.0.66")
    return {*setup.cluster.tokens} != before


def _flips(data: bytes, dice: random.Random) -> Iterator[bytes]:
    for _ in range(FLIPS):
        changed = bytearray(data)
        changed[dice.randrange(len(data))] ^= dice.randrange(1, 256)
        yield bytes(changed)


def _edits(good: dict[str, Any], dice: random.Random) -> Iterator[dict[str, Any]]:
    for _ in range(EDITS):
        name = dice.choice([*good, "extra"])
        edited = {**good, name: dice.choice(ODD)}
        if dice.random() < 0.2:
            edited.pop(dice.choice([*edited]))
        if edited != good:
            yield edited


def _flipped_requests(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    data = setup.request(NodeKey(pki.new_key()), "pi-2")
    return FLIPS, sum(_accepted(setup, changed) for changed in _flips(data, dice))


def _edited_requests(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    victim, thief = NodeKey(pki.new_key()), NodeKey(pki.new_key())
    good = claims(setup.request(victim, "pi-2"))
    tried = through = 0
    for edited in [good, *_edits(good, dice)]:
        tried += 1
        # The victim's certificate stays in it: without a card the thief has no other.
        through += _accepted(setup, jws.sign(edited, thief.private, messages.REQUEST_TYPE))
    return tried, through


def _strangers(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    fleet, through, tried = setup.trust.fleet_id, 0, 0
    made_up = pki.new_key()
    for _ in range(200):
        key = NodeKey(pki.new_key())
        issuer = pki.common_name(setup.trust.enrol.cert)
        names: dict[str, Any] = {
            "usages": (pki.CLIENT,),
            "dns": (f"{key.node_id}.{fleet}.internal",),
        }
        fake = pki.issue(
            issuer,
            made_up.public_key(),
            f"nodeagent root {fleet}",
            made_up,
            usages=(pki.CLIENT,),
            path_length=0,
        )
        leaf = pki.issue(key.node_id, key.public, issuer, made_up, **names)
        own = pki.issue(key.node_id, key.public, key.node_id, key.private, **names)
        enrol = setup.trust.enrol.cert
        for chain in (
            other.leaf("client", key.public),
            [leaf, fake],
            [leaf, enrol],
            [own, own],
            [own, enrol],
            [enrol, enrol],
        ):
            asked = messages.build_request(
                fleet,
                key,
                chain,
                "pi-2",
                setup.broker.nonce(),
                {},
                KUBELET_HASH,
                READER.public_key(),
            )
            tried, through = tried + 1, through + _accepted(setup, asked)
    return tried, through


def _replays(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    key, tried, through = NodeKey(pki.new_key()), 0, 0
    heard = []
    for _ in range(20):  # each one replaces the token before
        heard.append(setup.request(key, "pi-2"))
        setup.broker.grant(heard[-1])
    setup.now += ledger.NONCE_LIFE + 1
    for data in heard * 20:
        tried, through = tried + 1, through + _accepted(setup, data)
    return tried, through


def _believed(setup: Setup, data: bytes, key: NodeKey, nonce: str) -> bool:
    try:
        proved(setup.trust, data, key.node_id, nonce, setup.now)
    except NodeAgentError:
        return False
    return True


def _flipped_grants(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    key, nonce = NodeKey(pki.new_key()), setup.broker.nonce()
    data = setup.broker.grant(setup.request(key, "pi-2", nonce))
    assert _believed(setup, data, key, nonce)
    return FLIPS, sum(_believed(setup, changed, key, nonce) for changed in _flips(data, dice))


def _forged_grants(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    """By a worker's card (client certificates only), by another fleet's broker, and grants of the
    true broker that were made for others."""
    key, nonce = NodeKey(pki.new_key()), "A" * 43
    good = claims(granted(setup.trust, key))
    worker = setup.trust.leaf("client", BROKER.public_key())[0]
    stranger = other.leaf("broker", BROKER.public_key())[0]
    tried = through = 0
    for cert in (worker, stranger):
        named = {**good, "cert": base64.b64encode(pki.cert_der(cert)).decode()}
        for edited in [named, *_edits(named, dice)]:
            tried += 1
            forged = jws.sign(edited, BROKER, messages.GRANT_TYPE)
            through += _believed(setup, forged, key, nonce)
    for edited in _edits(good, dice):  # for others: the audience, nonce or fleet is not ours
        if all(edited.get(name) == good[name] for name in ("aud", "nonce", "fleet")):
            continue
        tried += 1
        through += _believed(setup, jws.sign(edited, BROKER, messages.GRANT_TYPE), key, nonce)
    return tried, through


def _stolen_tokens(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    token = setup.ask(NodeKey(pki.new_key()), "pi-2").token.reveal().partition(".")[0]
    names = [
        "system:node:pi-1",
        "system:node:",
        "system:node:pi-2 ",
        "system:node:PI-2",
        "pi-2",
        "kubernetes-admin",
        "system:node:pi-2/x",
        "system:kube-controller-manager",
    ]
    groups = [["system:masters"], ["system:nodes", "system:masters"], [], ["system:nodes"] * 2]
    csrs: list[SigningRequest] = []
    for number in range(400):
        name, group = "system:node:pi-2", ["system:nodes"]
        changes: dict[str, Any] = {}
        match number % 5:
            case 0:
                name = dice.choice(names)
            case 1:
                group = dice.choice(groups)
            case 2:
                changes["usages"] = tuple(
                    dice.sample(
                        [
                            "digital signature",
                            "client auth",
                            "server auth",
                            "cert sign",
                            "any",
                            "signing",
                        ],
                        2,
                    )
                )
                if {*changes["usages"]} == {"digital signature", "client auth"}:
                    changes["usages"] = ("any",)
            case 3:
                changes["signer"] = dice.choice(
                    [
                        "kubernetes.io/kube-apiserver-client",
                        "kubernetes.io/kubelet-serving",
                        "kubernetes.io/legacy-unknown",
                        "",
                    ]
                )
            case 4:
                changes["username"] = dice.choice(
                    [
                        "system:bootstrap:zzzzzz",
                        "kubernetes-admin",
                        f"system:bootstrap:{token} ",
                        "system:bootstrap:",
                    ]
                )
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name(
                [
                    *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, entry) for entry in group),
                    x509.NameAttribute(NameOID.COMMON_NAME, name),
                ]
            )
        )
        pem = builder.sign(pki.new_key(), hashes.SHA256())
        asked = signing_request(
            f"csr-{number}",
            f"system:bootstrap:{token}",
            pem.public_bytes(serialization.Encoding.PEM),
        )
        csrs.append(replace(asked, **changes))
    setup.cluster.csrs = csrs
    setup.broker.tick()
    return len(csrs), len(setup.cluster.approved)


def _greedy(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    """Through counts what is beyond the bounds."""
    one = NodeKey(pki.new_key())
    for number in range(100):
        setup.join(one, f"name-{number}")
    through = max(0, len(setup.broker.ledger.certificates) - ledger.MAX_NAMES_EACH)
    for number in range(PLACES + 20):
        _accepted(setup, setup.request(NodeKey(pki.new_key()), f"pi-{number}"))
    through += max(0, len(setup.cluster.tokens) - PLACES)
    return 100 + PLACES + 20, through


def _outcasts(setup: Setup, other: Trust, dice: random.Random) -> tuple[int, int]:
    member, thief = NodeKey(pki.new_key()), NodeKey(pki.new_key())
    heard = setup.request(thief, "pi-2")
    setup.broker.grant(heard)
    setup.join(member, "pi-3")
    operators.revoke(setup.broker, "pi-2")
    asks: list[Callable[[], bytes]] = [
        lambda: heard,
        lambda: setup.request(thief, "pi-2"),
        lambda: setup.request(thief, "pi-3"),
        lambda: setup.request(NodeKey(pki.new_key()), "pi-2"),
        lambda: setup.request(NodeKey(pki.new_key()), "pi-9"),
    ]
    through = sum(_accepted(setup, ask()) for _ in range(40) for ask in asks)
    assert len(operators.overview(setup.broker)["waiting"]) == approval.MAX_WAITING
    assert setup.ask(member, "pi-3").node_name == "pi-3", "members may always ask again"
    state = json.loads(setup.host.read(paths.LEDGER) or b"")
    assert [one["name"] for one in state["certificates"]] == ["pi-3"]
    return 200, through


def _grinding() -> tuple[float, float]:
    """(keys a second with this library, years until one fits 80 bits at that rate)."""
    began, count = time.monotonic(), 2000
    for _ in range(count):
        pki.short_hash(pki.new_key().public_key())
    rate = count / (time.monotonic() - began)
    return rate, 2**80 / rate / (365 * 86400)
