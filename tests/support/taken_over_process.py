"""A broker that was taken over: ``python -m tests.support.taken_over_process MODULE ROOT``.

It has what the real one has: its key and leaf, the fleet's certificates. It gives every node a
grant for the attacker's cluster, vouched for as well as it can: by itself.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from unittest.mock import patch

from nodeagent import paths
from nodeagent.broker import main as broker_main
from nodeagent.broker.broker import Broker
from nodeagent.host.host import Host
from nodeagent.join import statement
from nodeagent.trust import jws, pki
from tests.support import broker_process
from tests.support.authority import OTHER_CA_CERT

ENDPOINT = "10.77.0.66:6443"


def forged(host: Host, true: bytes) -> bytes:
    """The agent's words with the attacker's cluster in them, signed with the broker's key."""
    key = pki.read_key(host.read(paths.BROKER_KEY) or b"")
    leaf = pki.read_cert((host.read(paths.BROKER_CERT) or b"").decode())
    evil = OTHER_CA_CERT.decode()
    said = jws.peek(true, statement.CLUSTER_TYPE) | {
        "endpoints": [ENDPOINT], "ca_cert": evil, "ca_hash": statement.ca_hash(evil),
        "cert": base64.b64encode(pki.cert_der(leaf)).decode(),
    }  # fmt: skip
    return jws.sign(said, key, statement.CLUSTER_TYPE)


def main(module: str, root: str, cluster: str = "files") -> None:
    """As the real one, which ``module`` is, but for its words."""
    load = broker_main.load

    def taken_over(host: Host) -> Broker:
        broker = load(host)
        broker.cluster = forged(host, broker.cluster)
        return broker

    assert module == broker_process.__name__
    with patch.object(broker_main, "load", taken_over):
        broker_process.main(str(Path(root)), cluster)


if __name__ == "__main__":
    main(*sys.argv[1:])
