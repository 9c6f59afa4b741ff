"""What the agent (root) hands to the broker and to the network process of a control plane.

``/run/nodeagent/broker/``, group nodeagent-broker:
  config.json    anchors (certificates of the fleet), server, seals_at, and what the agent vouches
                 for to those who join (``join/statement.py``), which the broker only passes on
  side.jws       the same to other control planes (``join/which_cluster.py``)
  ca.crt         the cluster's CA certificate
  client.crt, client.key   the broker's Kubernetes user
  broker.crt, broker.key   what signs grants
``/run/nodeagent/endpoint/``, group nodeagent: server.crt (with its issuer), server.key, root.crt.

Both folders are root's and read by one group, so that nobody but root can put a link there; and in
memory only, since each start of the agent makes what is in them anew.
"""

from __future__ import annotations

import json
from typing import Literal

from nodeagent import formats, paths
from nodeagent.errors import FleetError
from nodeagent.host import untrusted
from nodeagent.host.actions import Enable
from nodeagent.host.host import Host
from nodeagent.join import statement
from nodeagent.trust import pki
from nodeagent.trust.store import Trust

Owner = tuple[int, int] | None
# Where 0.2.0 kept them: in the broker's own folder, on the card.
FORMER = ("config.json", "ca.crt", "client.crt", "client.key", "broker.crt", "broker.key")
MODE = 0o640
# Root's first: the other one may be knocked at as soon as it is there.
SOCKETS = ("nodeagent-broker-root.socket", "nodeagent-broker.socket")


def install(
    host: Host,
    trust: Trust,
    credentials: tuple[bytes, bytes],
    endpoint: str,
    kubernetes_version: str,
    seals_at: int = 0,
    networks: tuple[str, ...] = (),
    *,
    node_id: str,
    epoch: int,
    api: str = "",
    cni: str = "",
) -> None:
    """Write all of it; what fits already stays. Then enable the broker's sockets.

    ``credentials`` are certificate and key (PEM) of the broker's Kubernetes user, ``endpoint`` is
    the API server's ADDRESS:PORT, ``api`` its name where it has one, ``seals_at`` when enrolment
    ends by itself (seconds since the epoch, 0: never), ``networks`` the cluster's own, of pods and
    of Services, ``cni`` its pod network; ``node_id`` this node's, ``epoch`` of the claim that its
    cluster was made with. Raises FleetError where this node may not lead or the package's users are
    missing, OSError, CommandFailed.
    """
    ca = host.read(paths.KUBERNETES_CA)
    if ca is None:
        raise FleetError(
            f"There is no {paths.KUBERNETES_CA}: this node has no cluster to let nodes into.",
            "Wait until the control plane is made; the agent does that by itself.",
        )
    owner = _folder(host, paths.BROKER_INPUT, "nodeagent-broker")
    cluster = statement.Cluster(
        node_id, epoch, (endpoint,), ca.decode("ascii", "replace"), kubernetes_version, networks,
        api, cni,
    )  # fmt: skip
    config = {
        formats.KEY: formats.BROKER_CONFIG,
        "anchors": trust.anchors.to_json(),
        "server": f"https://{api}:{paths.API_PORT}" if api else f"https://{endpoint}",
        "seals_at": seals_at,
        "cluster": statement.build(trust, cluster, host.clock.now()).decode(),
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
    untrusted.shred(host, paths.BROKER, *FORMER)
    if host.live:
        for unit in SOCKETS:
            Enable(unit).do(host)


def tell(host: Host, side: bytes) -> None:
    """Give the broker what the agent vouches for to other control planes. Raises FleetError,
    OSError."""
    owner = _folder(host, paths.BROKER_INPUT, "nodeagent-broker")
    _keep(host, paths.BROKER_SIDE, side, owner)


def _folder(host: Host, folder: str, user: str) -> Owner:
    """Make a folder of root's that the user's group reads. Who is to own what is in it: root and
    that group; None on a mounted image."""
    ids = host.user_ids(user) if host.live else None
    if host.live and ids is None:
        raise FleetError(
            f"The system user {user} does not exist.", "Install the nodeagent package again."
        )
    host.make_readable_folder(folder, ids and ids[1])
    return ids and (-1, ids[1])


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
    host.write(key, pki.key_pem(private).encode(), MODE, owner)
    host.write(cert, "".join(map(pki.cert_pem, chain)).encode(), MODE, owner)


def _keep(host: Host, path: str, data: bytes, owner: Owner) -> None:
    if host.read(path) != data:
        host.write(path, data, MODE, owner)
