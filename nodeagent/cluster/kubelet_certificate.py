"""The kubelet's first certificate, which the agent asks for itself.

A kubelet that bootstraps makes a key of its own that nobody knows beforehand, so whoever held its
token could have had another key approved (kubernetes.io, "TLS bootstrapping"). Here the key is
made first and its hash named in the signed join request; the broker approves only that key. The
certificate is laid where a kubelet looks before it asks for one: client-go's certificate store
takes ``kubelet-client-current.pem``, which must be a link, with certificate and key in one file
(client-go, util/certificate/certificate_store.go, ``Current`` and ``updateSymlink``); what is
there and valid is used and nothing is asked for (util/certificate/certificate_manager.go,
``getCurrentCertificateOrBootstrap``).
"""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.cluster import rest
from nodeagent.cluster.health import api_server
from nodeagent.cluster.kubeadm_state import FOLDER
from nodeagent.cluster.rest import SIGNER
from nodeagent.errors import CommandFailed
from nodeagent.host.host import Host

KEY = f"{FOLDER}/kubelet.key"  # root only, until the kubelet has it
PEM = f"{paths.KUBELET}/pki/kubelet-client-nodeagent.pem"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
USAGES = ["digital signature", "client auth"]  # what a kubelet with an ECDSA key asks for
BOUND = 600.0  # seconds; a granted token lives as long
LOOK = 2.0  # seconds between looks, each a TLS connection to a busy board


def key(host: Host) -> ec.EllipticCurvePrivateKey:
    """The key that the kubelet is to have; made and kept durably where there is none. A damaged
    one is made anew: nobody has approved it yet. Raises OSError."""
    try:
        found = serialization.load_pem_private_key(host.read(KEY) or b"", None)
        if isinstance(found, ec.EllipticCurvePrivateKey):
            return found
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass  # none, or torn
    host.make_folder(FOLDER, 0o700)
    made = new_key()
    host.write(KEY, _pem(made), 0o600)
    return made


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key, as a kubelet makes one."""
    return ec.generate_private_key(ec.SECP256R1())


def _pem(own: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, which Go's tls.LoadX509KeyPair takes."""
    return own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def place(host: Host, endpoint: str, ca_cert: bytes, token: str, name: str) -> None:
    """Ask the API server at ``endpoint`` (ADDRESS:PORT), proved by ``ca_cert`` (PEM), for a
    certificate as the kubelet of node ``name``, wait until it is approved, and lay it where that
    kubelet finds it. Repeatable from any point: several requests for one key are one to the broker.

    Raises CommandFailed where none is to be had, OSError.
    """
    own = key(host)
    certificate = obtain(host, endpoint, ca_cert.decode("ascii", "replace"), token, name, own)
    host.make_folder(f"{paths.KUBELET}/pki", 0o700)
    host.write(PEM, certificate + _pem(own), 0o600)
    host.link(paths.KUBELET_CLIENT, PEM.rpartition("/")[2])


def forget(host: Host) -> None:
    """The kubelet has its key: overwrite the copy here. Raises OSError."""
    host.shred(KEY)


def obtain(
    host: Host, endpoint: str, ca_cert: str, token: str, name: str, own: ec.EllipticCurvePrivateKey
) -> bytes:
    """The certificate, PEM. Raises CommandFailed where it is refused or does not come in time."""
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        # Not a name of ours: somebody else could have taken it.
        "metadata": {"generateName": "node-csr-"},
        "spec": {
            "request": base64.b64encode(_csr(name, own)).decode(),
            "signerName": SIGNER,
            "usages": USAGES,
        },
    }
    where = api_server(f"server: https://{endpoint}")
    if where is None:
        raise _none(endpoint, "its address was not understood")
    end = host.clock.monotonic() + BOUND
    made, said = "", ""
    while host.clock.monotonic() < end:
        try:
            if made:
                answer = rest.request_with_token(where, ca_cert, token, "GET", f"{REQUESTS}/{made}")
            else:
                answer = rest.request_with_token(where, ca_cert, token, "POST", REQUESTS, body)
            said = f"status {answer.status} {answer.reason}"
            if answer.status in (200, 201):
                item = json.loads(answer.body)
                made = rest.safe_name(item["metadata"]["name"])
                found = _certificate(item, endpoint, own)
                if found is not None:
                    return found
                said = "nobody has approved it yet"
            elif answer.status == 404:
                made = ""  # it was collected: ask anew
        except (OSError, http.client.HTTPException) as error:
            said = str(error) or type(error).__name__
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _none(endpoint, "its answer was not understood") from error
        host.clock.sleep(LOOK)
    raise _none(endpoint, said)


def _certificate(item: Any, endpoint: str, own: ec.EllipticCurvePrivateKey) -> bytes | None:
    """What was issued, None where nobody has decided yet. Raises CommandFailed, and ValueError for
    a certificate of another key."""
    status = item.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] in ("Denied", "Failed"):
            raise _none(endpoint, f"it was {condition['type'].lower()}: {condition.get('message')}")
    if not status.get("certificate"):
        return None
    data = base64.b64decode(status["certificate"])
    issued = x509.load_pem_x509_certificate(data).public_key()
    numbers = issued.public_numbers() if isinstance(issued, ec.EllipticCurvePublicKey) else None
    if numbers != own.public_key().public_numbers():
        raise ValueError("a certificate of another key")
    return data


def _none(endpoint: str, why: str) -> CommandFailed:
    return CommandFailed(
        f"The API server at {endpoint} gave no certificate for the kubelet: {why}.",
        "The agent asks for a new grant by itself; if it stays, see `journalctl -u"
        " nodeagent-broker` on the control plane.",
    )


def _csr(name: str, own: ec.EllipticCurvePrivateKey) -> bytes:
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
    ])  # fmt: skip
    signed = (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(own, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)
