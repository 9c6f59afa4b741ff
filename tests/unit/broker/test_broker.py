"""The broker: who gets a token, under which name, and which signing request it approves."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.agent import provision
from nodeagent.broker import ledger
from nodeagent.broker.boards import Overloaded
from nodeagent.broker.broker import TOKEN_LIFE, Stale
from nodeagent.broker.ledger import Ledger
from nodeagent.broker.ledger_file import Token
from nodeagent.broker.main import _CONFIG as broker_config
from nodeagent.broker.places import PLACES
from nodeagent.errors import CommandFailed, FleetError, Untrusted
from nodeagent.host.host import Host
from nodeagent.join import messages, statement
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.admission import CA, KUBELET_HASH, NOW, READER, Setup, cluster, csr
from tests.support.powercut import WAYS, Disk, PowerCut

NODE = cluster().node


@pytest.fixture
def setup(tmp_path: Path, trust: Trust) -> Setup:
    """A fresh broker."""
    return Setup(tmp_path, trust)


def test_a_grant_carries_a_token_of_its_own(setup: Setup, key: NodeKey) -> None:
    grant = setup.ask(key, "pi-2")
    token_id, _, secret = grant.token.reveal().partition(".")
    assert setup.cluster.tokens == {token_id: secret}
    assert (grant.node_name, grant.expires - grant.issued) == ("pi-2", 600)


def test_asking_twice_gives_the_same_answer(setup: Setup, key: NodeKey) -> None:
    request = setup.request(key, "pi-2")
    first = setup.broker.grant(request)
    setup.start()
    assert setup.broker.grant(request) == first
    assert len(setup.cluster.tokens) == 1


def test_asking_anew_replaces_the_token(setup: Setup, key: NodeKey) -> None:
    old = setup.request(key, "pi-2")
    setup.broker.grant(old)
    grant = setup.ask(key, "pi-2")
    assert list(setup.cluster.tokens) == [grant.token.reveal().partition(".")[0]]
    with pytest.raises(Stale):
        setup.broker.grant(old)


def test_nonces_are_ours_and_fresh(setup: Setup, key: NodeKey, tmp_path: Path) -> None:
    elsewhere = Ledger(Host(tmp_path / "other", clock=setup.host.clock)).nonce()
    late = setup.request(key, "pi-2")
    for request in (setup.request(key, "pi-2", elsewhere), setup.request(key, "pi-2", "A" * 43)):
        with pytest.raises(Stale):
            setup.broker.grant(request)
    setup.now += ledger.NONCE_LIFE + 1
    with pytest.raises(Stale):
        setup.broker.grant(late)


def test_strangers_are_refused(setup: Setup, stranger: Trust, key: NodeKey) -> None:
    chain = stranger.leaf("client", key.public)
    request = messages.build_request(
        stranger.fleet_id, key, chain, "pi-2", setup.broker.nonce(), {}, KUBELET_HASH,
        READER.public_key(),
    )  # fmt: skip
    with pytest.raises(Untrusted):
        setup.broker.grant(request)
    assert not setup.cluster.tokens


def test_names_belong_to_the_first_key(setup: Setup, key: NodeKey) -> None:
    other = NodeKey(pki.new_key())
    assert setup.ask(key, "pi-2").node_name == "pi-2"
    assert setup.ask(other, "pi-2").node_name == f"pi-2-{other.node_id[2:6]}"
    setup.start()
    assert setup.ask(other, "pi-2").node_name == f"pi-2-{other.node_id[2:6]}"
    assert setup.ask(key, "pi-2").node_name == "pi-2"
    setup.live(TOKEN_LIFE)
    setup.broker.tick()
    assert setup.ask(other, "pi-2").node_name == "pi-2", "a claim that was not used lapses"


def test_the_control_planes_own_name_is_taken(setup: Setup, key: NodeKey) -> None:
    assert setup.ask(key, "pi-1").node_name == f"pi-1-{key.node_id[2:6]}"


def test_long_names_stay_labels(setup: Setup, key: NodeKey) -> None:
    setup.ask(key, "a" * 63)
    other = NodeKey(pki.new_key())
    assert len(setup.ask(other, "a" * 63).node_name) <= 63


def test_outstanding_tokens_are_bounded(setup: Setup) -> None:
    for number in range(PLACES):
        setup.ask(NodeKey(pki.new_key()), f"pi-{number + 2}", f"10.77.0.{number + 100}")
    with pytest.raises(Overloaded):
        setup.ask(NodeKey(pki.new_key()), "one-more")
    setup.live(TOKEN_LIFE)
    setup.broker.tick()
    assert not setup.cluster.tokens
    assert setup.ask(NodeKey(pki.new_key()), "one-more").node_name == "one-more"


def test_a_failed_mint_is_not_repeated(setup: Setup, key: NodeKey) -> None:
    request = setup.request(key, "pi-2")
    setup.cluster.down = True
    with pytest.raises(CommandFailed):
        setup.broker.grant(request)
    setup.cluster.down = False
    setup.broker.grant(request)
    assert len(setup.cluster.tokens) == 1


def test_the_granted_request_is_approved_and_recorded(setup: Setup, key: NodeKey) -> None:
    token = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs = [csr("right", token)]
    setup.broker.tick()
    assert setup.cluster.approved == ["right"]
    assert setup.cluster.tokens, "the kubelet fetches its certificate with it"
    setup.cluster.nodes["pi-2"] = False
    setup.broker.tick()
    assert not setup.cluster.tokens
    assert not setup.broker.outstanding
    (admission,) = setup.broker.ledger.admissions
    assert (admission.name, admission.node_id) == ("pi-2", key.node_id)
    assert admission.source == "10.77.0.12"


def test_a_known_node_keeps_its_token_until_it_is_ready(setup: Setup, key: NodeKey) -> None:
    setup.join(key, "pi-2")
    setup.cluster.nodes["pi-2"] = False
    token = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs = [csr("right", token)]
    setup.broker.tick()
    assert setup.cluster.tokens
    setup.cluster.nodes["pi-2"] = True
    setup.broker.tick()
    assert not setup.cluster.tokens


def test_many_joins_cost_few_writes(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write takes tens of milliseconds on a card, and the broker does one after the other."""
    writes = []
    write = Host.write

    def counted(host: Host, *more: Any) -> None:
        writes.append(more[0])
        write(host, *more)

    monkeypatch.setattr(Host, "write", counted)
    tokens = [setup.ask(NodeKey(pki.new_key()), f"pi-{n}").token.reveal() for n in range(10, 18)]
    assert len(writes) == 2 * len(tokens), "before the token is made, and before it is told"
    setup.cluster.csrs = [
        csr(f"csr-{n}", token, cn=f"system:node:pi-{n}") for n, token in enumerate(tokens, 10)
    ]
    del writes[:]
    setup.broker.tick()
    assert len(setup.cluster.approved) == 8
    assert len(writes) == 2, "before the approvals, and after them"
    setup.cluster.nodes |= {f"pi-{n}": True for n in range(10, 18)}
    setup.broker.tick()
    assert not setup.broker.outstanding
    assert len(writes) == 3


def test_approvals_before_a_failure_are_recorded(setup: Setup, key: NodeKey) -> None:
    tokens = [setup.ask(NodeKey(pki.new_key()), f"pi-{n}").token.reveal() for n in (2, 3)]
    setup.cluster.csrs = [
        csr(f"csr-{n}", token, cn=f"system:node:pi-{n}") for n, token in enumerate(tokens, 2)
    ]
    approve = setup.cluster.approve

    def once(name: str, uid: str, reason: str) -> None:
        setup.cluster.approve = refuse  # type: ignore[method-assign]
        approve(name, uid, reason)

    def refuse(name: str, uid: str, reason: str) -> None:
        raise CommandFailed("The API server is away.", "Wait.")

    setup.cluster.approve = once  # type: ignore[method-assign]
    with pytest.raises(CommandFailed):
        setup.broker.tick()
    setup.start()  # reads what was written
    assert [entry.name for entry in setup.broker.ledger.admissions] == ["pi-2"]
    setup.cluster.approve = approve  # type: ignore[method-assign]
    setup.broker.tick()
    assert [entry.name for entry in setup.broker.ledger.admissions] == ["pi-2", "pi-3"]


SERIAL = x509.NameAttribute(NameOID.SERIAL_NUMBER, "1")
WRONG: dict[str, dict[str, Any]] = {
    "another name": {"cn": "system:node:pi-1"},
    "the control plane": {"cn": "system:masters"},
    "another organisation": {"o": "system:masters"},
    "a second organisation": {
        "subject": [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")]
    },
    "more in the subject": {"subject": [SERIAL]},
    "a serving name": {"extra": x509.SubjectAlternativeName([x509.DNSName("pi-1")])},
    "another signer": {"signer": "kubernetes.io/kubelet-serving"},
    "another user": {"username": "system:bootstrap:zzzzzz"},
    "an administrator": {"username": "kubernetes-admin"},
    "another group": {"groups": ("system:bootstrappers:kubeadm:default-node-token",)},
    "server usage": {"usages": ("digital signature", "server auth")},
    "more usages": {"usages": ("digital signature", "client auth", "cert sign")},
    "no request": {"csr_pem": b"hello"},
    "denied already": {"pending": False},
}


@pytest.mark.parametrize("what", WRONG)
def test_no_other_request_is_approved(what: str, setup: Setup, key: NodeKey) -> None:
    token = setup.ask(key, "pi-2").token.reveal()
    wrong = csr("wrong", token, **WRONG[what])
    if not wrong.pending:
        setup.cluster.denied = ["wrong"]
    setup.cluster.csrs = [wrong]
    setup.broker.tick()
    assert setup.cluster.approved == []
    assert not setup.broker.ledger.admissions


def test_only_the_key_that_the_node_named_is_approved(setup: Setup, key: NodeKey) -> None:
    """Whoever has the token makes a request too, earlier, later or with the name of the first."""
    token = setup.ask(key, "pi-2").token.reveal()
    thief = pki.new_key()
    setup.cluster.csrs = [csr("before", token, key=thief, created="2026-11-21T11:59:59Z")]
    setup.broker.tick()
    setup.cluster.csrs += [
        csr("right", token),
        csr("after", token, key=thief, created="2026-11-21T12:00:01Z"),
    ]
    setup.broker.tick()
    setup.start()
    setup.cluster.csrs += [csr("again", token), csr("later", token, key=pki.new_key())]
    setup.broker.tick()
    assert setup.cluster.approved == ["right", "again"]


def test_a_token_from_before_an_update_serves_no_key(setup: Setup, key: NodeKey) -> None:
    """0.2.0 wrote none into its ledger: the node asks anew, and nobody else is approved."""
    token = setup.ask(key, "pi-2").token.reveal()
    memory = setup.broker.ledger
    (kept,) = memory.tokens
    memory.put(replace(kept, key=""))
    setup.start()
    setup.cluster.csrs = [csr("right", token), csr("any", token, key=pki.new_key())]
    setup.broker.tick()
    assert setup.cluster.approved == []
    again = setup.ask(key, "pi-2").token.reveal()
    setup.cluster.csrs = [csr("again", again)]
    setup.broker.tick()
    assert setup.cluster.approved == ["again"]


def test_a_word_that_has_ended_is_passed_on_to_nobody(setup: Setup, key: NodeKey) -> None:
    setup.vouches = False
    setup.now += statement.LIFE + 1
    with pytest.raises(FleetError, match="has ended"):
        setup.broker.grant(setup.request(key, "pi-2"))
    assert not setup.cluster.tokens
    setup.start()  # the agent has said it anew
    assert setup.ask(key, "pi-2").node_name == "pi-2"


ODD_KEYS: dict[str, Any] = {
    "brainpool": ec.generate_private_key(ec.BrainpoolP256R1()),
    "K-256": ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("what", [*ODD_KEYS, "key of no curve", "extension twice", "torn"])
def test_no_request_ends_the_broker(what: str, setup: Setup, key: NodeKey) -> None:
    """Whoever holds a token chooses the bytes of the request."""
    token = setup.ask(key, "pi-2").token.reveal()
    good = csr("odd", token)
    der = x509.load_pem_x509_csr(good.csr_pem).public_bytes(serialization.Encoding.DER)
    if what in ODD_KEYS:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        algorithm = None if what == "Ed25519" else hashes.SHA256()
        odd = builder.sign(ODD_KEYS[what], algorithm).public_bytes(serialization.Encoding.DER)
    elif what == "torn":
        odd = der[:-40]
    elif what == "key of no curve":
        # 1.2.840.10045.3.1.7 (P-256, RFC 5480 2.1.1.1) becomes ...3.1.119, which is no curve.
        odd = der.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex(
            "06082a8648ce3d030177"))  # fmt: skip
        assert odd != der
    else:
        name = x509.SubjectAlternativeName([x509.DNSName("a")])
        once = csr("odd", token, extra=name)
        whole = x509.load_pem_x509_csr(once.csr_pem).public_bytes(serialization.Encoding.DER)
        start = whole.index(bytes.fromhex("0603551d11")) - 2
        one = whole[start : start + 2 + whole[start + 1]]
        odd = whole.replace(one, one[:2] + one[2:-1] + b"\x81")  # a name of no kind
        assert odd != whole
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n"
    setup.cluster.csrs = [replace(good, csr_pem=pem % base64.encodebytes(odd)), csr("right", token)]
    setup.broker.tick()
    assert setup.cluster.approved == ["right"]


def test_one_key_cannot_take_all_names(setup: Setup, key: NodeKey) -> None:
    given = {setup.join(key, f"name-{number}") for number in range(20)}
    assert len(given) == len(setup.broker.ledger.certificates) == ledger.MAX_NAMES_EACH
    assert setup.ask(key, "name-0").node_name == "name-0"


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_anywhere_leaves_no_forgotten_token(
    way: str, tmp_path: Path, trust: Trust, key: NodeKey
) -> None:
    cut_at, done = 0, False
    while not done:
        cut_at += 1
        setup = Setup(tmp_path / f"{way}{cut_at}", trust)
        disk = Disk(setup.host.root)
        disk.cut_at = cut_at
        request = setup.request(key, "pi-2")
        try:
            with disk.watched():
                first = setup.broker.grant(request)
                done = True
        except PowerCut:
            disk.cut(way)
        setup.start()
        known = {token.token_id for token in setup.broker.outstanding}
        assert setup.cluster.tokens.keys() <= known, "a token that nobody would delete"
        answer = setup.broker.grant(request)
        assert not done or answer == first
        assert len(setup.cluster.tokens) == 1
    assert cut_at > 10


def test_a_damaged_memory_is_said(setup: Setup) -> None:
    setup.host.write(paths.LEDGER, b"{}", 0o600)
    with pytest.raises(FleetError, match="damaged"):
        setup.start()


def test_no_secret_is_logged(setup: Setup, key: NodeKey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = setup.ask(key, "pi-2").token.reveal().partition(".")[2]
    assert json.loads(caplog.messages[0])["event"] == "granted"
    assert secret not in caplog.text


def test_install_is_repeatable(host: Host) -> None:
    host.write(paths.KUBERNETES_CA, CA.encode())
    own = Trust.load(host)
    arguments = (host, own, (b"cert", b"key"), "10.77.0.11:6443", "1.37.2")
    vouched = {"node_id": cluster().node, "epoch": 1}
    provision.install(*arguments, **vouched)  # type: ignore[arg-type]
    files = [paths.BROKER_KEY, paths.BROKER_CERT, paths.SERVER_CERT,
             paths.SERVER_KEY, paths.ROOT_CERT, paths.BROKER_CLIENT_KEY,
             paths.BROKER_CA]  # fmt: skip
    before = {name: host.read(name) for name in files}
    assert None not in before.values()
    assert {host.mode(name) for name in files} == {0o640}
    provision.install(*arguments, **vouched)  # type: ignore[arg-type]
    assert {name: host.read(name) for name in files} == before


def test_keys_of_0_2_0_are_overwritten_where_they_lay(host: Host) -> None:
    """In the broker's own folder, on the card; whatever the broker has put there meanwhile."""
    host.write(paths.KUBERNETES_CA, CA.encode())
    host.write("/etc/shadow", b"root's own")
    for name in provision.FORMER[:-1]:
        host.write(f"{paths.BROKER}/{name}", b"a key")
    host.link(f"{paths.BROKER}/broker.key", "/etc/shadow")
    host.write(paths.LEDGER, b"its memory")
    with host.path(f"{paths.BROKER}/client.key").open("rb") as held:
        arguments = (b"cert", b"key"), "10.77.0.11:6443", "1.37.2"
        provision.install(host, Trust.load(host), *arguments, node_id=NODE, epoch=1)
        assert held.read() == bytes(5)
    assert host.names(paths.BROKER) == ["state.json"]
    assert host.read("/etc/shadow") == b"root's own"
    assert b"PRIVATE KEY" in (host.read(paths.BROKER_KEY) or b"")


def test_what_the_agent_vouches_for_reaches_the_broker(host: Host, key: NodeKey) -> None:
    host.write(paths.KUBERNETES_CA, CA.encode())
    own, told = Trust.load(host), ("10.118.0.0/16", "10.119.0.0/16")
    user = (host.read(paths.KUBERNETES_CA) or b"", b"key")
    provision.install(
        host, own, user, "10.77.0.11:6443", "1.37.2", 0, told, node_id=key.node_id, epoch=4
    )
    config = json.loads(host.read(paths.BROKER_CONFIG) or b"")
    data = broker_config.read(config)["cluster"].encode()
    vouched = statement.verify(own.anchors, data, host.clock.now())
    assert (vouched.networks, vouched.endpoints) == (told, ("10.77.0.11:6443",))
    assert (vouched.node, vouched.epoch, vouched.ca_cert) == (key.node_id, 4, CA)


def test_only_a_card_that_may_lead_is_installed(host: Host) -> None:
    host.write(paths.KUBERNETES_CA, CA.encode())
    worker = Trust.load(host).drop_issuer(host)
    with pytest.raises(FleetError, match="worker's card"):
        provision.install(
            host, worker, (b"", b""), "10.77.0.11:6443", "1.37.2", node_id=NODE, epoch=1
        )


def test_install_needs_a_cluster(host: Host) -> None:
    with pytest.raises(FleetError, match="no cluster"):
        provision.install(
            host, Trust.load(host), (b"", b""), "10.77.0.11:6443", "1.37.2", node_id=NODE, epoch=1
        )


def test_a_used_token_is_forgotten_once_its_request_cannot_come_again(
    setup: Setup, key: NodeKey
) -> None:
    nonce = setup.broker.nonce()
    request = setup.request(key, "pi-2", nonce)
    setup.broker.grant(request)
    setup.ask(key, "pi-2")  # anew, which ends the first token
    setup.broker.tick()
    with pytest.raises(Stale):
        setup.broker.grant(request)
    setup.live(ledger.NONCE_LIFE + 1)
    setup.broker.tick()
    assert len(setup.broker.ledger.tokens) == 1
    with pytest.raises(Stale):
        setup.broker.grant(request)


def test_a_thousand_joins_in_a_row_do_not_damage_the_ledger(setup: Setup, key: NodeKey) -> None:
    """Nor keep the next one out: tokens that are over are forgotten, the oldest first."""
    used = Token("used00", key.node_id, "x" * 43, "pi-2", "", int(NOW) + 600, deleted=True)
    memory = setup.broker.ledger
    memory.tokens = tuple(
        replace(used, token_id=f"u{number:05d}") for number in range(ledger.MAX_TOKENS)
    )
    setup.ask(NodeKey(pki.new_key()), "pi-3")
    assert len(memory.tokens) == ledger.MAX_TOKENS
    setup.start()  # reads what was written
    setup.broker.tick()
    assert setup.ask(key, "pi-2").node_name == "pi-2"
