"""What the agent (root) hands to the broker and to the network process of a control plane.

``/var/lib/nodeagent-broker/``, owner nodeagent-broker, 0600:
  config.json    anchors (certificates of the fleet), endpoints, server, kubernetes, seals_at
  ca.crt         the cluster's CA certificate
  client.crt, client.key   the broker's Kubernetes user
  broker.crt, broker.key   what signs grants
``/run/nodeagent/endpoint/``, owner nodeagent, 0600: server.crt (with its issuer), server.key,
root.crt. In memory only, since each start of the agent makes them anew.
"""

from __future__ import annotations

import json
from typing import Literal

from nodeagent import formats, paths
from nodeagent.errors import FleetError
from nodeagent.host.actions import Enable
from nodeagent.host.host import Host
from nodeagent.trust import pki
from nodeagent.trust.store import Trust

Owner = tuple[int, int] | None


def install(
    host: Host,
    trust: Trust,
    credentials: tuple[bytes, bytes],
    endpoint: str,
    kubernetes_version: str,
    seals_at: int = 0,
    networks: tuple[str, ...] = (),
) -> None:
    """Write all of it; what fits already stays. Then enable the broker's socket.

    ``credentials`` are certificate and key (PEM) of the broker's Kubernetes user, ``endpoint`` is
    the API server's ADDRESS:PORT, ``seals_at`` when enrolment ends by itself (seconds since the
    epoch, 0: never), ``networks`` the cluster's own, of pods and of Services. Raises FleetError
    where this node may not lead or the package's users are missing, OSError, CommandFailed.
    """
    ca = host.read(paths.KUBERNETES_CA)
    if ca is None:
        raise FleetError(
            f"There is no {paths.KUBERNETES_CA}: this node has no cluster to let nodes into.",
            "Wait until the control plane is made; the agent does that by itself.",
        )
    owner = _folder(host, paths.BROKER, "nodeagent-broker")
    config = {
        formats.KEY: formats.BROKER_CONFIG,
        "anchors": trust.anchors.to_json(),
        "endpoints": [endpoint],
        "server": f"https://{endpoint}",
        "kubernetes": kubernetes_version,
        "seals_at": seals_at,
        **({"networks": list(networks)} if networks else {}),
    }
    _leaf(host, trust, "broker", paths.BROKER_CERT, paths.BROKER_KEY, owner)
    _keep(host, paths.BROKER_CLIENT_KEY, credentials[1], owner)
    _keep(host, paths.BROKER_CLIENT_CERT, credentials[0], owner)
    _keep(host, paths.BROKER_CA, ca, owner)
    # Last: a broker that runs takes its change as the sign to begin anew.
    _keep(host, paths.BROKER_CONFIG, json.dumps(config, indent=1).encode(), owner)

    owner = _folder(host, paths.ENDPOINT, "nodeagent")
    _keep(host, paths.ROOT_CERT, pki.cert_pem(trust.root_cert).encode(), owner)
    _leaf(host, trust, "server", paths.SERVER_CERT, paths.SERVER_KEY, owner)
    if host.live:
        Enable("nodeagent-broker.socket").do(host)


def _folder(host: Host, folder: str, user: str) -> Owner:
    """Make the user's folder, 0700. Its user and group ids; None on a mounted image."""
    host.make_folder(folder, 0o700)
    if not host.live:
        return None
    owner = host.user_ids(user)
    if owner is None:
        raise FleetError(
            f"The system user {user} does not exist.", "Install the nodeagent package again."
        )
    host.give(folder, owner)
    return owner


def _leaf(
    host: Host,
    trust: Trust,
    kind: Literal["server", "broker"],
    cert: str,
    key: str,
    owner: Owner,
) -> None:
    """A key and its certificate chain, unless there is one of this fleet already."""
    old_cert, old_key = host.read(cert), host.read(key)
    if old_cert is not None and old_key is not None:
        try:
            leaf = pki.read_cert(old_cert.decode("ascii", "replace"))
            pki.check_issued(leaf, trust.control_plane.cert)
            if pki.spki(leaf.public_key()) == pki.spki(pki.read_key(old_key).public_key()):
                return
        except pki.BadCertificate:
            pass  # make it anew
    private = pki.new_key()
    chain = trust.leaf(kind, private.public_key())
    host.write(key, pki.key_pem(private).encode(), 0o600, owner)
    host.write(cert, "".join(map(pki.cert_pem, chain)).encode(), 0o600, owner)


def _keep(host: Host, path: str, data: bytes, owner: Owner) -> None:
    if host.read(path) != data:
        host.write(path, data, 0o600, owner)
