"""The public half of a fleet: the certificates that leaf certificates are held against.

No paths are built here: a leaf counts only when one known issuer signed it directly. Chains on
connections are the TLS stack's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from nodeagent.errors import Untrusted
from nodeagent.trust import fleet_file, pki, wire
from nodeagent.trust import node_key as keys


def server_name(fleet_id: str) -> str:
    """The name that makes a TLS server a control plane of the fleet."""
    return f"control-plane.{fleet_id}.internal"


def broker_name(fleet_id: str) -> str:
    """The name that makes a signature a broker's."""
    return f"broker.{fleet_id}.internal"


def agent_name(fleet_id: str) -> str:
    """The name that makes a signature the agent's of a control plane: root's, that is."""
    return f"agent.{fleet_id}.internal"


def untrusted(what: str, error: object) -> Untrusted:
    """An Untrusted with the remedy that fits all of them."""
    return Untrusted(
        f"{what} was not believed: {error}.",
        "If the node should belong to this fleet, write its card with this fleet's card file.",
    )


@dataclass(frozen=True)
class Anchors:
    """Root and issuers of one fleet, without keys."""

    fleet_id: str
    root_cert: x509.Certificate
    control_plane_cert: x509.Certificate
    enrol_cert: x509.Certificate

    @property
    def by_approval(self) -> bool:
        """True where a person approves each node under the enrol issuer."""
        return pki.common_name(self.enrol_cert) == fleet_file.approval_issuer(self.fleet_id)

    def may_lead(self, chain: Sequence[bytes]) -> bool:
        """True where a proved chain's issuer is the one of control planes."""
        return chain[1] == pki.cert_der(self.control_plane_cert)

    def node_key(self, chain: Sequence[bytes]) -> pki.PublicKey:
        """The key of a node's client leaf, given as DER leaf and issuer. Raises Untrusted."""
        try:
            if len(chain) != 2:
                raise pki.BadCertificate("a leaf and its issuer expected")
            leaf, issuer = (pki.read_cert(entry) for entry in chain)
            if issuer not in (self.enrol_cert, self.control_plane_cert):
                raise pki.BadCertificate("the issuer is not the fleet's")
            pki.check_issued(leaf, issuer)
            key = pki.public_key(leaf)
            node = keys.node_id(key)
            if pki.common_name(leaf) != node:
                raise pki.BadCertificate("the name is not the hash of the key")
            pki.check_leaf(leaf, pki.CLIENT, f"{node}.{self.fleet_id}.internal")
            return key
        except pki.BadCertificate as error:
            raise untrusted("A node's certificate", error) from error

    def broker_key(self, leaf_der: bytes) -> pki.PublicKey:
        """The key of a broker's leaf, which only the control-plane issuer makes. Raises
        Untrusted."""
        return self._signer(leaf_der, broker_name(self.fleet_id), "A broker's certificate")

    def agent_key(self, leaf_der: bytes) -> pki.PublicKey:
        """As ``broker_key``, of the leaf that an agent made for one signature. Raises Untrusted."""
        return self._signer(leaf_der, agent_name(self.fleet_id), "An agent's certificate")

    def _signer(self, leaf_der: bytes, name: str, what: str) -> pki.PublicKey:
        try:
            leaf = pki.read_cert(leaf_der)
            pki.check_issued(leaf, self.control_plane_cert)
            pki.check_leaf(leaf, pki.SERVER, name)
            return pki.public_key(leaf)
        except pki.BadCertificate as error:
            raise untrusted(what, error) from error

    def to_json(self) -> dict[str, str]:
        """For the broker's configuration."""
        return {
            "fleet_id": self.fleet_id,
            "root": pki.cert_pem(self.root_cert),
            "control_plane": pki.cert_pem(self.control_plane_cert),
            "enrol": pki.cert_pem(self.enrol_cert),
        }

    @classmethod
    def from_json(cls, value: Any) -> Anchors:
        """Raises wire.Malformed, BadCertificate."""
        pem = wire.text(r"[\x20-\x7e\n]+", 4096)
        checked = wire.record(
            value,
            {"fleet_id": wire.fleet_id, "root": pem, "control_plane": pem, "enrol": pem},
        )
        certs = [pki.read_cert(checked[name]) for name in ("root", "control_plane", "enrol")]
        return cls(checked["fleet_id"], *certs)
