"""kubeadm: init and join as repeatable calls.

Files that hold a token have mode 0600 and are removed afterwards: no secret in argv or environment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from nodeagent import paths
from nodeagent.cluster import (
    cni,
    given_up,
    kubeadm_config,
    kubeadm_state,
    kubelet_certificate,
    names,
    resolver,
)
from nodeagent.cluster.kubeadm_state import FOLDER, State
from nodeagent.cluster.names import Names
from nodeagent.cluster.versions import Tested
from nodeagent.config.settings import POD_NETWORK_FILE, Settings
from nodeagent.errors import Blocked, CommandFailed, Refused
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host, accepted

LOG = logging.getLogger("nodeagent")

INIT_FILE, JOIN_FILE = f"{FOLDER}/init.yaml", f"{FOLDER}/join.yaml"
INIT_BOUND, JOIN_BOUND, PULL_BOUND, RESET_BOUND, SYNC_BOUND = 2400, 1800, 1800, 600, 600  # seconds
REMAINS = (paths.ETCD, paths.CNI_STATE)
JOINED_PERHAPS = (State.HALF_JOIN, State.WORKER, State.FOREIGN)


def initialise(
    host: Host,
    settings: Settings,
    tested: Tested,
    name: str,
    address: str,
    own: Names,
    slow: bool,
) -> None:
    """kubeadm init, from whatever an earlier try left; nothing where the control plane is formed.

    Raises Blocked, CommandFailed, OSError, and Refused where undoing would lose a cluster.
    """
    alone(host)
    found = kubeadm_state.read(host)
    if found is State.CONTROL_PLANE:
        return
    make_room(host, found)
    host.make_folder(FOLDER, 0o700)
    for file, patch in kubeadm_config.patches(address).items():
        host.write(f"{kubeadm_config.PATCHES}/{file}", patch)
    text = kubeadm_config.init_configuration(
        settings, tested, name, address, own, slow, resolver.other_file(Facts(host))
    )
    host.write(INIT_FILE, text, 0o600)
    pull_images(host, settings, tested, "control-plane")
    # Before kubeadm, whose pods get a copy of the file when they start.
    names.tell(host, names.of_control_plane(own, address))
    kubeadm_state.mark(host, kubeadm_state.BEGUN, "init")
    said = _kubeadm(host, "init", "--config", INIT_FILE, timeout=INIT_BOUND)
    LOG.info("kubeadm init:\n%s", said)
    formed(host, "control-plane")


def join(
    host: Host, *, node_name: str, address: str, endpoint: str, ca_cert: bytes, token: str
) -> None:
    """kubeadm join, from whatever an earlier try left; nothing where that try has joined.

    The files with secrets are gone afterwards, whatever happened. Raises Blocked, CommandFailed,
    OSError, and Refused where undoing would lose a cluster.
    """
    alone(host)
    found = kubeadm_state.read(host)
    try:
        host.shred(JOIN_FILE)
        if found in JOINED_PERHAPS and kubeadm_state.has_joined(host, node_name, ca_cert):
            host.call("systemctl", "enable", "--now", "kubelet", timeout=180)
        else:
            make_room(host, found)
            kubeadm_state.mark(host, kubeadm_state.BEGUN, "join")
            # Before kubeadm, whose kubelet then finds it and asks for none with a key of its own.
            kubelet_certificate.place(host, endpoint, ca_cert, token, node_name)
            host.write(
                kubeadm_config.DISCOVERY_FILE,
                kubeadm_config.discovery_configuration(endpoint, ca_cert),
                0o600,
            )
            text = kubeadm_config.join_configuration(
                node_name, address, token, resolver.other_file(Facts(host))
            )
            host.write(JOIN_FILE, text, 0o600)
            said = _kubeadm(host, "join", "--config", JOIN_FILE, timeout=JOIN_BOUND)
            LOG.info("kubeadm join:\n%s", said)
    finally:
        host.shred(JOIN_FILE)
        host.remove(kubeadm_config.DISCOVERY_FILE)
    # It holds the token; kubeadm removes it unless cut off.
    host.shred(kubeadm_state.BOOTSTRAP_CONF)
    formed(host, "worker")
    kubelet_certificate.forget(host)


def _kubeadm(host: Host, *arguments: str, timeout: float) -> str:
    """What kubeadm says. Where its preflight checks failed, the error names each of them.

    kubeadm lists them as lines of "[ERROR Port-6443]: Port 6443 is in use", and ends with advice
    that names none (cmd/kubeadm/app/preflight/checks.go, app/util/error.go).

    Raises CommandFailed.
    """
    result = host.run("kubeadm", *arguments, timeout=timeout)
    failed = [line for line in map(str.strip, result.err.splitlines()) if line[:7] == "[ERROR "]
    if result.status and failed:
        result = replace(result, err="\n".join(failed))
    return accepted(("kubeadm", *arguments), result)


def alone(host: Host) -> None:
    """Raises Blocked while a kubeadm is at work that this agent did not start: a person's, or one
    that outlived a restart of the agent. Two at once would spoil each other's files."""
    if host.run("pidof", "kubeadm").status == 0:
        raise Blocked(
            "Another kubeadm is at work on this node.",
            "The agent goes on when that has ended; `pidof kubeadm` shows it.",
        )


def formed(host: Host, role: str) -> None:
    """Put what kubeadm wrote on the disk, then say so. Without the first, a power cut within half
    a minute leaves a member with empty files (ext4(5), ``delalloc``)."""
    host.run("sync", timeout=SYNC_BOUND)
    kubeadm_state.mark(host, kubeadm_state.FORMED, role)


def make_room(host: Host, found: State) -> None:
    """Undo what an init or join that was cut off left; nothing left: nothing done.

    Raises Refused where it is not the agent's own half-done work, CommandFailed.
    """
    if found is State.NOTHING:
        return
    if found not in (State.HALF_INIT, State.HALF_JOIN):
        whose = "was set up by someone else" if found is State.FOREIGN else f"is a {found.value}"
        raise Refused(
            f"This node {whose} already, and starting anew would lose that cluster.",
            "If it may be lost, run `sudo kubeadm reset` and `sudo rm -rf /var/lib/etcd`;"
            " the agent then goes on by itself.",
        )
    LOG.info("an earlier try was cut off; kubeadm reset")
    given_up.overwrite(host)
    # etcd's member is not asked to leave: the cluster it belonged to never was.
    host.call(
        "kubeadm", "reset", "--force", "--cri-socket", kubeadm_config.SOCKET,
        "--skip-phases", "remove-etcd-member", timeout=RESET_BOUND,
    )  # fmt: skip
    # The pod network's would keep the addresses of the cluster that never was.
    configuration: list[str] = []
    for network in cni.NETWORKS.values():
        configuration += network.configuration
    for device in filter(cni.made, host.names(paths.INTERFACES)):
        host.run("ip", "link", "delete", device)
    host.call("rm", "-rf", *REMAINS, *configuration, POD_NETWORK_FILE)


def pull_images(
    host: Host,
    settings: Settings,
    tested: Tested,
    role: str,
    told: Callable[[int, int, str], None] = lambda done, total, image: None,
) -> None:
    """Pull what the role needs, two at a time; what is there already is left. ``told`` is given
    how many of how many are there, and the one that came last, "" at the beginning.

    Raises CommandFailed with the reason of the last image that could not be had.
    """
    base = settings.kubernetes.image_repository
    if role == "control-plane":
        listed = host.call("kubeadm", "config", "images", "list", "--config", INIT_FILE)
        images = listed.split()
    else:
        images = [f"{base}/kube-proxy:v{tested.kubernetes}", f"{base}/pause:{tested.pause}"]
        images += cni.images(host, settings)
    failures = []
    told(0, len(images), "")
    with ThreadPoolExecutor(2) as pool:
        pulls = zip(images, pool.map(lambda image: _pull(host, image), images), strict=True)
        for done, (image, failure) in enumerate(pulls, start=1):
            if failure:
                failures.append(failure)
            told(done - len(failures), len(images), image)
    if failures:
        raise failures[-1]


def _pull(host: Host, image: str) -> CommandFailed | None:
    if host.run("crictl", "inspecti", "-q", image).status == 0:
        return None
    try:
        host.call("crictl", "pull", image, timeout=PULL_BOUND)
    except CommandFailed as error:
        return error
    return None
