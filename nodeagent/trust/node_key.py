"""The node's own key: made on the node at first boot, never leaves it. Its hash is the node id."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from nodeagent import paths
from nodeagent.errors import FleetError
from nodeagent.host.host import Host
from nodeagent.trust import pki, voucher

FOLDER = "/var/lib/nodeagent/trust"
PATH = paths.NODE_KEY


def node_id(key: pki.PublicKey) -> str:
    """``n-`` and 80 bits of the key's SHA-256 in base32: an id nobody else can take."""
    return voucher.node_id(key)


class NodeKey:
    """A node's private key. ``private`` is for issuing and TLS; it is never printed."""

    def __init__(self, private: pki.PrivateKey) -> None:
        self.private = private
        self.public = private.public_key()
        self.node_id = node_id(self.public)

    @classmethod
    def load_or_create(cls, host: Host) -> NodeKey:
        """The key of this node; made and kept durably when there is none.

        Raises FleetError where the file is damaged: a new key would be a new node, and that is
        for a person to decide. Raises OSError.
        """
        data = host.read(PATH)
        if data is None:
            host.make_folder(FOLDER, 0o700)
            host.write(PATH, pki.key_pem(pki.new_key()).encode(), 0o600)
            data = host.read(PATH) or b""
        try:
            return cls(pki.read_key(data))
        except pki.BadCertificate as error:
            raise FleetError(
                f"This node's key in {PATH} is damaged: {error}.",
                "Check the card for faults. Removing the file makes this a new node of the fleet.",
            ) from error

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature with SHA-256 over ``data``, DER-encoded (RFC 3279 2.2.3)."""
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def __repr__(self) -> str:
        return f"NodeKey({self.node_id})"
