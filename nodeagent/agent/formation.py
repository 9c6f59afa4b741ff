"""Forms the cluster: waits for the decision, then leads or joins, then looks after the node."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nodeagent import paths
from nodeagent.agent import conflict, follow, keeper, moved, provision, release
from nodeagent.agent.announcer import Announcer
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import (
    addresses,
    cni,
    control_plane,
    kubeadm,
    kubeadm_config,
    kubeadm_state,
    kubectl,
    kubelet_certificate,
    names,
    networks,
    packages,
    renewal,
    workloads,
)
from nodeagent.cluster.health import answers, api_server
from nodeagent.config import checks
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked, NodeAgentError, Refused
from nodeagent.fleet.beacon import EPOCH_MAX, Proof
from nodeagent.fleet.election import Join, Lead, Wait
from nodeagent.host import identity
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.timesync import synchronised
from nodeagent.join import client
from nodeagent.join.messages import Grant
from nodeagent.join.statement import Cluster
from nodeagent.statefile import StateFile
from nodeagent.steps import engine
from nodeagent.steps.own_address import OwnAddress
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

LOG = logging.getLogger("nodeagent")

PREFETCH_PAUSE = 20.0  # seconds until images that could not be had are asked for again
RENEWAL_LOOK = 60.0  # seconds between looks at certificates while a node is not Ready
REJOIN_PAUSE = 600.0  # seconds that a granted token lives
START_BOUND = 120  # seconds for systemd to start the kubelet
FOLLOW_LOOK = 15.0  # seconds between looks for a control plane that does not answer
READY_LOOK = 3.0  # seconds between looks at a node that is not Ready yet
SLOW_FSYNC_MS = 10.0  # etcd wants fsync under 10 ms (etcd docs, "Hardware recommendations")


class Formation:
    """What turns a prepared node into a member of the cluster."""

    def __init__(
        self,
        host: Host,
        reporter: Reporter,
        state_file: StateFile,
        announcer: Announcer,
        trust: Trust,
        key: NodeKey,
    ) -> None:
        self.host, self.reporter, self.state_file = host, reporter, state_file
        self.announcer, self.trust, self.key = announcer, trust, key
        self.moved = moved.Moved(host)
        self._behind = False  # the cluster's files, or what those who join are told
        self._prefetched = False
        self._rejoined: float | None = None
        self._cluster: tuple[float, Cluster] | None = None  # that let this node in, and when
        self._epochs: dict[str, int] = {}  # proved ones, by the control plane's node id

    def form(self) -> None:
        """Until this node is Ready in its role. Raises what the parts raise; repeatable."""
        settings = config.load(self.host).settings
        role = self.state_file.values["role"]
        if role is not None:
            # `nodeagent fleet off` that was killed has left it stopped.
            self.host.run("systemctl", "start", "kubelet", timeout=START_BOUND)
        if role == "control-plane":
            self.lead(settings, "It was decided before.")
        elif role == "worker":
            self.follow(settings)
        else:
            self.decide(settings)

    def decide(self, settings: Settings) -> None:
        """Wait for the election's decision and carry it out."""
        while True:
            decision = self.announcer.decision
            self.reporter.set(role_why=decision.why)
            if isinstance(decision, Lead):
                self.lead(settings, decision.why)
                return
            if isinstance(decision, Join) or settings.control_plane:
                self.join(settings, decision.why)
                return
            phase = "discovering" if isinstance(decision, Wait) else "electing"
            until = None
            if isinstance(decision, Wait):
                left = decision.until - self.host.clock.monotonic()
                until = self.host.clock.now() + left if left > 0 else None
            self.reporter.enter(phase, decision.why, until)
            self.prefetch(settings, "worker")
            self.host.clock.sleep(self.announcer.tick)

    def prefetch(self, settings: Settings, role: str) -> None:
        """Pull images beside the waiting, once; the join then finds them at hand."""
        if self._prefetched:
            return
        self._prefetched = True
        tested = packages.release(Facts(self.host), settings)

        def pull() -> None:
            try:
                kubeadm.pull_images(self.host, settings, tested, role, self.reporter.pulled)
            except (NodeAgentError, OSError) as error:
                LOG.info("images are pulled later: %s", error)
                self.host.clock.sleep(PREFETCH_PAUSE)
                self._prefetched = False

        self.host.background(pull)

    def lead(self, settings: Settings, why: str) -> None:
        """kubeadm init where it is not done, then all that stands on it; each part repeatable."""
        facts = Facts(self.host)
        name = facts.node_name
        address = facts.address(settings.network.interface, settings.network.version)
        if not address:
            raise Blocked("This node has no address on the network.", "Check cable or Wi-Fi.")
        settings = networks.fitted(facts, settings)
        settings = addresses.fitted(settings, address)
        tested = packages.release(facts, settings)
        self.reporter.set(role="control-plane", role_why=why, control_plane=address)
        slow = (self.state_file.values["fsync_ms"] or 0) > SLOW_FSYNC_MS
        self.prefetch(settings, "worker")  # every node runs the pod network and kube-proxy
        if not self.state_file.values["initialised"]:
            self.reporter.enter("initialising", "Making the control plane with kubeadm init")
            self.announcer.leading = True
            networks.learn(facts, settings)
            if kubeadm_state.read(self.host) is not kubeadm_state.State.CONTROL_PLANE:
                workloads.expect(self.host)
            try:
                own = names.of(self.trust.fleet_id, self.key.node_id)
                kubeadm.initialise(self.host, settings, tested, name, address, own, slow)
            except Exception:
                self.announcer.leading = False  # another may do better
                raise
            # Not before: a power cut during init leads through the election again.
            born = int(self.host.clock.now())
            self.state_file.set(role="control-plane", initialised=True, born=born)
            self.state_file.note("initialised", address=address)
            self.reporter.milestone("initialised", f"The control plane is made, at {address}")
        self.settle(settings)
        self.renew(name)
        self.reporter.set(kubernetes=tested.kubernetes)
        if not self.state_file.values["equipped"]:
            self.reporter.enter("initialising", "Installing the pod network and the join policy")
            for action in cni.given.needed(facts, settings):
                action.do(self.host)  # a person may have corrected it since
            # One call of kubectl for both: on a small board each costs seconds.
            manifest = f"{cni.manifest(self.host, settings)}---\n{control_plane.policy()}"
            self.patiently(lambda: kubectl.apply_text(self.host, manifest))
            networks.learn_pod_network(self.host, cni.name(settings))
            self.state_file.set(equipped=True, policy=control_plane.policy_mark())
        # It may have had another address for a while by now.
        self.open_for_joins(settings, moved.known(self.host) or address)
        control_plane.install_user_kubeconfig(self.host)
        self.patiently(lambda: control_plane.close_doors(self.host))
        if self.state_file.values["policy"] != control_plane.policy_mark():
            # The cluster is of another version of nodeagent, and so is its policy.
            self.patiently(lambda: control_plane.renew_policy(self.host))
            self.state_file.set(policy=control_plane.policy_mark())
        if cni.chosen(settings) is cni.given.NONE:
            workloads.take_list(self.host)  # what comes from now on is a person's
        self.until_ready(name)
        workloads.take_list(self.host)

    def open_for_joins(self, settings: Settings, address: str) -> None:
        """Give broker and network process their keys and say that grants are to be had, at
        ``address``."""
        self.reporter.set(control_plane=address)
        version = kubeadm_config.release_of(self.host.text(names.API_SERVER) or "")
        version = version or packages.release(Facts(self.host), settings).kubernetes
        seal_after = checks.seconds(settings.seal_after)
        # A clock that was ahead when the cluster was made must not keep it open for years.
        now = int(self.host.clock.now())
        born = self.state_file.values["born"]
        born = now if born is None else min(born, now)
        self.state_file.set(born=born)
        server = names.server(self.host.text(paths.ADMIN_CONF) or "")
        provision.install(
            self.host, self.trust, control_plane.broker_credentials(self.host),
            addresses.endpoint(address), version, born + seal_after if seal_after else 0,
            (settings.network.pod_cidr, settings.network.service_cidr),
            node_id=self.key.node_id, epoch=min(self.state_file.values["epoch"] or 0, EPOCH_MAX),
            api=server if names.API_NAME.fullmatch(server) else "",
            cni=cni.name(settings),
        )  # fmt: skip
        self.state_file.set(stated=now)
        conflict.publish(self.host, self.state_file, self.trust, self.key.node_id, alone=None)
        self.announcer.serves_grants = True

    def join(self, settings: Settings, why: str) -> None:
        """Ask for a grant and join with it."""
        self.reporter.set(role="worker", role_why=why)
        self.reporter.enter("joining", "Asking the control plane for a grant")
        facts = Facts(self.host)
        now = self.host.clock.monotonic()
        if self._cluster and now - self._cluster[0] < REJOIN_PAUSE:
            # While it does not fit no grant is asked for: each costs the control plane a token.
            self.take_networks(settings, self._cluster[1])
        grant = self._ask(settings, facts, facts.node_name, clock_synced=synchronised(facts))
        cluster = grant.cluster
        self._cluster = now, cluster
        networks.check_joining(facts, settings, cluster.networks)
        if release.fit(self.host, settings, self.state_file, self.reporter, cluster.kubernetes):
            # The download may have taken longer than a token lives.
            grant = self._ask(settings, facts, facts.node_name, clock_synced=synchronised(facts))
            cluster = grant.cluster
        self.take_networks(settings, cluster)
        self.reporter.enter("joining", f"Joining as {grant.node_name} with kubeadm join")
        self.reporter.set(
            approval="", control_plane=cluster.endpoints[0], kubernetes=cluster.kubernetes
        )
        hosts = map(addresses.host_of, cluster.endpoints)
        names.tell(self.host, names.of_worker(cluster.api, hosts) if cluster.api else ())
        kubeadm.join(
            self.host,
            node_name=grant.node_name,
            address=addresses.own_address(facts, settings, cluster.endpoints[0]),
            endpoint=_server(cluster),
            ca_cert=cluster.ca_cert.encode(),
            token=grant.token.reveal(),
        )
        self.state_file.set(
            role="worker", node_name=grant.node_name, last_known=list(cluster.endpoints)
        )
        self.state_file.note("joined", name=grant.node_name, control_plane=cluster.endpoints[0])
        self.reporter.milestone("joined", f"Let in as {grant.node_name} by {cluster.endpoints[0]}")
        self.follow(settings)

    def take_networks(self, settings: Settings, cluster: Cluster) -> None:
        """See ``release.take_networks``."""
        release.take_networks(self.host, settings, self.state_file, self.reporter, cluster)

    def candidates(self, settings: Settings) -> list[tuple[str, int]]:
        """Where to ask: heard, configured and last known addresses, each once."""
        heard = [
            (h.beacon.address, h.beacon.port)
            for h in self.announcer.heard
            if h.beacon.ready and h.proof >= Proof.TLS
        ]
        known = [*settings.control_plane]
        known += [addresses.host_of(one) for one in self.state_file.values["last_known"] or []]
        return list(dict.fromkeys([*heard, *((address, paths.ENDPOINT_PORT) for address in known)]))

    def follow(self, settings: Settings) -> None:
        """A worker that has joined: wait until it is Ready, drop what it needs no more."""
        tested = packages.release(Facts(self.host), settings)
        known = self.state_file.values["last_known"] or [""]
        self.reporter.set(role="worker", control_plane=known[0], kubernetes=tested.kubernetes)
        self.trust.drop_issuer(self.host)
        if not self.moved.is_away(settings.network.interface):
            self.settle(settings)  # the last try may have ended half-way
        self.until_ready(self.state_file.values["node_name"] or Facts(self.host).node_name)

    def until_ready(self, name: str) -> None:
        """Wait until Kubernetes calls this node Ready."""
        looked = sought = self.host.clock.monotonic()
        told = "Waiting until Kubernetes calls this node Ready"
        if cni.chosen(config.load(self.host).settings) is cni.given.NONE:
            told += "; for that the cluster needs the pod network that you apply (`network.cni`)"
        while not control_plane.ready(self.host, name):
            self.reporter.set(detail=told, waiting={"for": told, "until": None})
            self.host.clock.sleep(READY_LOOK)
            if self.host.clock.monotonic() - sought >= FOLLOW_LOOK:
                self.seek()
                self.keep_up()
                sought = self.host.clock.monotonic()
            if self.host.clock.monotonic() - looked >= RENEWAL_LOOK:
                self.renew(name)  # the clock may have been set since
                looked = self.host.clock.monotonic()
        follow.follow_clock(self.host)  # its API server answers for sure now
        networks.learn_pod_network(self.host)
        self.host.shred(kubeadm_state.BOOTSTRAP_CONF)  # it may hold the token of a renewal
        self.reporter.enter("ready", "Part of the cluster")
        self.announcer.formed = True

    def seek(self) -> None:
        """A worker whose control plane does not answer looks for it, and has the node's files say
        where it is; or is told there to turn itself off. Raises as ``engine.run``."""
        server = api_server(self.host.text(paths.KUBELET_CONF) or "")
        if self.state_file.values["role"] != "worker" or server is None or answers(*server):
            return
        settings = config.load(self.host).settings
        address, off, _ = follow.look(self.host, self.trust, self.key, self.state_file, settings)
        if off:
            keeper.switch_off(self.host, self.reporter)
        if address and follow.take(self.host, self.state_file, address):
            self.reporter.set(control_plane=addresses.endpoint(address))
            self.reporter.milestone("found", f"The control plane is at {address} now")
        self.settle(settings)

    def keep_up(self) -> None:
        """While the agent waits, which may be for ever at the former address: another one that has
        stayed is followed, and told to those who join. Raises as ``engine.run``, and OSError."""
        settings = config.load(self.host).settings
        if self.moved.elsewhere(settings.network.interface):
            self._behind = True
        if self._behind:  # also where a part of it has failed before
            self.settle(settings)
            if self.announcer.serves_grants:
                self.open_for_joins(settings, moved.known(self.host))
            self._behind = False

    def settle(self, settings: Settings) -> None:
        """The cluster's files say what is so. Raises as ``engine.run``."""
        with moved.noted(self.host, self.reporter, self.state_file):
            engine.run(
                (OwnAddress(),), self.host, settings, self.state_file, self.reporter.progress
            )

    def renew(self, name: str) -> None:
        """Renew what has ended while the board was off, or soon will; nothing while nobody has
        set the clock, since an expiry in the eyes of a wrong clock is none. Raises Blocked where
        no renewal helps."""
        follow.follow_clock(self.host)
        now, facts = self.host.clock.now(), Facts(self.host)
        ahead = renewal.born_ahead(self.host, now)
        if ahead is not None and synchronised(facts):
            raise ahead
        if self.state_file.values["role"] == "control-plane":
            if renewal.is_due(self.host, now) and synchronised(facts):
                self.reporter.set(detail="Renewing the cluster's certificates")
                renewal.renew(self.host, name, now)
        elif renewal.expired(self.host, now) and synchronised(facts):
            moment = self.host.clock.monotonic()
            # The kubelet of a slow board takes minutes; a new token would take its old one away.
            if self._rejoined is None or moment - self._rejoined >= REJOIN_PAUSE:
                self.reporter.set(detail="Asking for a new certificate: this node's has expired")
                self.rejoin(name)
                self._rejoined = moment

    def _ask(self, settings: Settings, facts: Facts, name: str, *, clock_synced: bool) -> Grant:
        network = settings.network
        told = {
            "address": facts.address(network.interface, network.version) or "",
            "board": identity.board_mark(facts, self.trust.beacon_key),
        }
        grant = client.ask(
            self.trust, self.key, self.candidates(settings), name, told, self.host.clock.now(),
            kubelet=pki.spki_hash(kubelet_certificate.key(self.host).public_key()),
            epochs=self._epochs, clock_synced=clock_synced, host=self.host,
        )  # fmt: skip
        self._epochs[grant.cluster.node] = grant.cluster.epoch
        return grant

    def rejoin(self, name: str) -> None:
        """A member whose certificate has expired gets a new one by a new grant."""
        settings, facts = config.load(self.host).settings, Facts(self.host)
        grant = self._ask(settings, facts, name, clock_synced=True)
        if grant.node_name != name:
            raise Refused(
                f"The name {name} belongs to another node now, and this one's certificate has"
                " expired.",
                "To let this board start anew, run `sudo nodeagent reset` on it.",
            )
        ca_cert = grant.cluster.ca_cert.encode()
        if (self.host.read(paths.KUBERNETES_CA) or b"").strip() != ca_cert.strip():
            raise Refused(
                "The control plane that answers leads another cluster than this node is in, and"
                " this node's certificate has expired.",
                "To let this board join that one, run `sudo nodeagent reset` on it.",
            )
        token = grant.token.reveal()
        renewal.rejoin(self.host, _server(grant.cluster), ca_cert, token, name)
        self.state_file.note("certificate renewed", name=name)

    def patiently(self, work: Callable[[], None]) -> None:
        """Repeat a call to a young API server, which refuses some at first. Raises CommandFailed,
        and as ``keep_up``."""

        def once() -> None:
            self.keep_up()
            work()

        kubectl.repeated(self.host, once, 20, READY_LOOK)


def _server(cluster: Cluster) -> str:
    """The API server as NAME:PORT, ADDRESS:PORT where it has no name."""
    return f"{cluster.api}:{paths.API_PORT}" if cluster.api else cluster.endpoints[0]
