"""What the broker needs of the Kubernetes API, no more; ``broker/kube_api.py`` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol


@dataclass(frozen=True)
class SigningRequest:
    """A CertificateSigningRequest (certificates.k8s.io/v1). ``pending``: neither ``approved`` nor
    denied; ``csr_pem`` is PKCS #10 in PEM; ``uid`` is never used twice, a name may be; ``created``
    is in RFC 3339, UTC, to the second."""

    name: str
    uid: str
    username: str
    groups: tuple[str, ...]
    signer: str
    usages: tuple[str, ...]
    csr_pem: bytes
    pending: bool
    created: str
    approved: bool = False


class Seen(NamedTuple):
    """A Node of the cluster. ``uid`` is never used twice; ``leads``: it is a control plane;
    ``since``: when it became Ready, or ceased to be (seconds since the epoch; 0 where that is not
    told)."""

    ready: bool
    uid: str = ""
    leads: bool = False
    since: float = 0.0


class ClusterApi(Protocol):
    """Each method raises OSError or a NodeAgentError where the API server does not do it."""

    def create_token(self, token_id: str, secret: str, node_name: str, expires: datetime) -> None:
        """Make a bootstrap token: authentication only, group system:bootstrappers:nodeagent."""

    def delete_token(self, token_id: str) -> None:
        """Delete a bootstrap token; a missing one is no error."""

    def requests(self) -> Sequence[SigningRequest]:
        """All certificate signing requests of node clients, to the last."""
        ...

    def approve(self, name: str, uid: str, reason: str) -> None:
        """Approve the signing request that has this name and uid; ``reason`` is for people."""

    def deny(self, name: str, uid: str, reason: str) -> None:
        """Deny the signing request that has this name and uid."""

    def all_nodes(self) -> dict[str, Seen]:
        """Every node of the cluster by name, to the last."""
        ...

    def delete_node(self, name: str, uid: str = "") -> None:
        """Delete a node object, where ``uid`` is given only the one that has it; a missing one is
        no error."""
