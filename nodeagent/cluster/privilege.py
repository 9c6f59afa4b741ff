"""Whether a command for the control plane may run here."""

from __future__ import annotations

from nodeagent import paths
from nodeagent.errors import Refused
from nodeagent.host.host import Host
from nodeagent.host.privilege import need_root


def need_control_plane(host: Host) -> None:
    """Raises NeedsRoot for an ordinary user, Refused where this node leads no cluster."""
    need_root(host)
    if not host.exists(paths.ADMIN_CONF):
        raise Refused(
            "This node is not a control plane.",
            "Run the command on the control plane; `nodeagent status` names it.",
        )
