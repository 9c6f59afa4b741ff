"""Where this node's cluster is now: a worker whose control plane is silent looks for it.

Beacons, the settings and what was known last are hints only. Taken is the address at which
somebody proves two things: over the fleet's TLS that it is a control plane of this fleet, and over
the API server's port that it holds the name of this node's own cluster under that cluster's CA. So
neither a false or repeated beacon nor another cluster of the same fleet draws a member away.

A control plane that is being switched off with its whole cluster is silent too, and says so to who
asks (``all_off.py``).
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from nodeagent import paths
from nodeagent.agent import conflict, keeper, leave
from nodeagent.cluster import addresses, credentials, kubelet_api, names
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import CommandFailed, NoControlPlane, Untrusted
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.reboot import boot_id
from nodeagent.host.timesync import synchronised
from nodeagent.join import which_cluster
from nodeagent.statefile import StateFile
from nodeagent.steps.clock import OUTLIVED, set_to
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

LOG = logging.getLogger("nodeagent")

AT_ONCE = 16  # candidates asked in one look, by lot where there are more
TOLD = 3  # of those that are not followed, in a status
BOUND = 5.0  # seconds for the API server's handshake
LEEWAY = 2.0  # seconds that a clock may be behind; the API server tells whole ones


class Found(NamedTuple):
    """``address``: of this worker's control plane, proved just now; None where nobody proved it.
    ``off``: it says that this boot shall end. ``not_followed``: why somebody else was not, for
    people, empty where nobody else answered."""

    address: str | None
    off: bool
    not_followed: str = ""


def api_name(host: Host) -> str:
    """The name of this worker's cluster; empty where it has an address only, or none."""
    name = names.server(host.text(paths.KUBELET_CONF) or "")
    return name if names.API_NAME.fullmatch(name) else ""


def look(
    host: Host, trust: Trust, key: NodeKey, state_file: StateFile, settings: Settings
) -> Found:
    """Ask whoever may be this worker's control plane. In a cluster of nodeagent 0.2.0, which has an
    address for its endpoint and no name, the address is not looked for. Raises OSError."""
    name = api_name(host)
    typed = [(address, paths.ENDPOINT_PORT) for address in settings.control_plane]
    places = list(dict.fromkeys([*typed, *leave.places(host, state_file, trust)]))
    chosen = random.sample(places, min(AT_ONCE, len(places)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda place: _proved(host, trust, key, place, name), chosen))
    address = next((one.address for one in found if one.address), None)
    others = sorted({one.not_followed for one in found} - {""})
    return Found(address, any(one.off for one in found), " ".join(others[:TOLD]))


def seek(host: Host) -> tuple[int, str]:
    """What has become of the control plane: ``keeper.ELSEWHERE`` where it is proved at an address
    that this worker does not know, ``keeper.OFF`` where it wants this boot to end, 0 otherwise; and
    ``Found.not_followed``. Raises FleetError, ConfigError, StateFileDamaged, OSError."""
    settings = config.load(host).settings
    found = look(host, Trust.load(host), NodeKey.load_or_create(host), StateFile(host), settings)
    known = names.addresses_of(host.text(paths.HOSTS) or "", api_name(host))
    if found.off:
        return keeper.OFF, ""
    return 0 if found.address in (None, *known) else keeper.ELSEWHERE, found.not_followed


def take(host: Host, state_file: StateFile, address: str) -> bool:
    """Remember that the control plane is there; True where that is news. Raises OSError."""
    known = [addresses.endpoint(address)]
    if state_file.values["last_known"] == known:
        return False
    state_file.set(last_known=known)
    state_file.note("control plane found", address=address)
    return True


def follow_clock(host: Host) -> None:
    """A worker whose clock no time server has set goes by its control plane's, which proves itself
    by its certificate as to every kubelet. Forwards only: what has ended stays so; and not beyond
    the end of the API server's certificate or of this node's own, where they could not talk any
    more. Never fails."""
    if host.exists(paths.ADMIN_CONF) or synchronised(Facts(host)):
        return
    there, here = kubelet_api.time(host), host.clock.now()
    try:
        end = credentials.ends(host.read(paths.KUBELET_CLIENT) or b"") or 0.0
    except (ValueError, OSError):
        return  # others say what is wrong with it
    if there is not None and here + LEEWAY < there < min(end, OUTLIVED.timestamp()):
        LOG.info(
            "no time server answers: the clock goes by the control plane's, %+.0f s", there - here
        )
        try:
            set_to(there).do(host)
        except CommandFailed as error:
            LOG.warning("%s", error)


def _proved(host: Host, trust: Trust, key: NodeKey, place: tuple[str, int], name: str) -> Found:
    off, why = False, ""
    try:
        side = which_cluster.ask(trust, key, host, place)
        ours = side.cluster == conflict.cluster_id(host)
        if ours:
            why = f"{place[0]} does not prove that it leads this cluster."
        else:
            why = f"{place[0]} leads another cluster of this fleet, not this cluster."
        # A boot's id is no secret; whose cluster this is has been signed.
        off = ours and boot_id(host) in side.off
        return Found(_api_server(host, place[0], name) if name else None, off)
    except (NoControlPlane, OSError) as error:
        LOG.info("%s is not this cluster's control plane: %s", place[0], error)
        if isinstance(error.__cause__, Untrusted):
            why = f"{place[0]} does not prove that it is of this fleet."
        return Found(None, off, why)


def _api_server(host: Host, where: str, name: str) -> str:
    """The address that answered. Raises OSError where nobody there holds the name."""
    context = ssl.create_default_context(cafile=str(host.path(paths.KUBERNETES_CA)))
    with socket.create_connection((where, paths.API_PORT), timeout=BOUND) as connection:
        address = str(connection.getpeername()[0])  # afterwards it may have hung up already
        with context.wrap_socket(connection, server_hostname=name):
            return address
