"""kubeadm's configuration, the secrets of a join, and flannel's manifest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent import paths
from nodeagent.cluster import (
    control_plane,
    kubeadm,
    kubeadm_config,
    kubelet_certificate,
    names,
    versions,
)
from nodeagent.cluster.cni import flannel
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked, CommandFailed
from tests.support import authority
from tests.support.machine import Machine, put

NAMES = names.of("f-" + "a" * 16, "n-" + "b" * 16)
ADDRESS = "10.0.0.7"
PATCHES = kubeadm_config.patches(ADDRESS)

TOKEN = "abcdef.0123456789abcdef"
JOIN = f"kubeadm join --config {kubeadm.JOIN_FILE}"


@pytest.fixture(autouse=True)
def approving(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server and a broker that say yes."""

    def obtain(*asked: Any) -> bytes:
        return authority.kubelet(asked[-2], asked[-1])

    monkeypatch.setattr(kubelet_certificate, "obtain", obtain)


def documents(slow: bool = False, **changes: Any) -> dict[str, dict[str, Any]]:
    """What kubeadm init gets, by kind."""
    settings = dataclasses.replace(Settings(), **changes)
    text = kubeadm_config.init_configuration(
        settings, versions.DEFAULT, "pi-1", ADDRESS, NAMES, slow
    )
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def join(machine: Machine) -> None:
    """Join as a worker would."""
    kubeadm.join(
        machine, node_name="pi-2", address="10.0.0.8", endpoint="10.0.0.7:6443",
        ca_cert=b"CA", token=TOKEN,
    )  # fmt: skip


def test_init_names_node_address_networks_and_release() -> None:
    found = documents()
    cluster, init = found["ClusterConfiguration"], found["InitConfiguration"]
    assert cluster["kubernetesVersion"] == f"v{versions.DEFAULT.kubernetes}"
    assert cluster["controlPlaneEndpoint"] == f"{NAMES.api}:6443"
    assert cluster["networking"] == {
        "podSubnet": "10.244.0.0/16",
        "serviceSubnet": "10.96.0.0/12",
    }
    assert init["nodeRegistration"]["name"] == "pi-1"
    assert init["nodeRegistration"]["kubeletExtraArgs"] == [{"name": "node-ip", "value": ADDRESS}]
    assert found["KubeletConfiguration"]["cgroupDriver"] == "systemd"


def test_init_leaves_no_standing_token() -> None:
    assert {"bootstrap-token", "show-join-command"} <= set(
        documents()["InitConfiguration"]["skipPhases"]
    )


@pytest.mark.parametrize("slow", [True, False])
def test_a_slow_disk_relaxes_etcd(slow: bool) -> None:
    arguments = documents(slow)["ClusterConfiguration"]["etcd"]["local"]["extraArgs"]
    assert ("election-timeout" in {one["name"] for one in arguments}) is slow


def test_only_what_is_renewed_names_the_address() -> None:
    """docs/reference/addresses.md lists what does; steps/own_address.py keeps it."""
    told = documents()
    naming = {kind for kind, document in told.items() if ADDRESS in str(document)}
    assert naming == {"InitConfiguration"}
    etcd = told["ClusterConfiguration"]["etcd"]["local"]
    said = {one["name"]: one["value"] for one in etcd["extraArgs"]}
    assert said["initial-cluster"] == f"pi-1={said['initial-advertise-peer-urls']}"
    assert etcd["serverCertSANs"] == etcd["peerCertSANs"] == [NAMES.node]


def test_the_api_server_is_asked_by_loopback_whether_it_is_well() -> None:
    container = yaml.safe_load(PATCHES["kube-apiserver+strategic.yaml"])["spec"]["containers"][0]
    for probe in kubeadm_config.PROBES:
        assert container[probe]["httpGet"] == {"host": "127.0.0.1"}


def test_the_api_server_waits_longer_for_etcd_and_less_than_its_probes() -> None:
    """kubeadm's readiness probes have 15 s (k8s.io/kubernetes/cmd/kubeadm/app/util/staticpod)."""
    server = documents()["ClusterConfiguration"]["apiServer"]
    waits = {one["name"]: int(one["value"].removesuffix("s")) for one in server["extraArgs"]}
    patch = yaml.safe_load(PATCHES["kube-apiserver+strategic.yaml"])
    probe = patch["spec"]["containers"][0]["livenessProbe"]["timeoutSeconds"]
    assert 2 < waits["etcd-healthcheck-timeout"] < probe
    assert 2 < waits["etcd-readycheck-timeout"] < 15


@pytest.mark.parametrize("name", ["kube-apiserver", "kube-scheduler", "etcd"])
def test_readiness_is_asked_less_than_each_second(name: str) -> None:
    patch = yaml.safe_load(PATCHES[f"{name}+strategic.yaml"])
    assert patch["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] == 10


def test_no_readiness_probe_is_made_up() -> None:
    """One without a handler is refused by the kubelet; the controller manager has none."""
    patch = yaml.safe_load(PATCHES["kube-controller-manager+strategic.yaml"])
    assert "readinessProbe" not in patch["spec"]["containers"][0]


def test_those_that_wait_for_the_api_server_do_not_slow_it() -> None:
    """kubeadm requests 250m for the API server and 100m for etcd (cmd/kubeadm/app/phases)."""
    requests = {}
    for name in kubeadm_config.PATCHED:
        container = yaml.safe_load(PATCHES[f"{name}+strategic.yaml"])["spec"]["containers"][0]
        requests[name] = container.get("resources", {}).get("requests", {}).get("cpu")
    assert requests["kube-apiserver"] is requests["etcd"] is None
    waiting = ("kube-controller-manager", "kube-scheduler")
    assert sum(int(str(requests[name]).removesuffix("m")) for name in waiting) < 100


@pytest.mark.parametrize("status", [0, 1])
def test_no_token_in_arguments_and_none_left_on_disk(tmp_path: Path, status: int) -> None:
    machine = Machine(tmp_path, {JOIN: {"status": status, "err": "no"}})
    if status:
        with pytest.raises(CommandFailed):
            join(machine)
    else:
        join(machine)
    assert not any(TOKEN.split(".")[1] in line for line in machine.ran)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if TOKEN.split(".")[1] in path.read_text()]
    kept = {"begun", "formed", "kubelet.key", "kubelet-client-nodeagent.pem",
            "kubelet-client-current.pem"}  # fmt: skip
    assert {path.name for path in left} <= kept
    assert machine.exists(kubelet_certificate.KEY) is bool(status), "the kubelet has it then"
    assert machine.mode(kubelet_certificate.PEM) == 0o600
    # A kubelet wants a link there, not a file (client-go, certificate_store.go).
    assert machine.path(paths.KUBELET_CLIENT, follow=False).is_symlink()


def test_a_failed_preflight_check_is_named(tmp_path: Path) -> None:
    """What kubeadm prints then ends with advice that names no check."""
    said = (
        "error execution phase preflight: [preflight] Some fatal errors occurred:\n"
        "\t[ERROR Port-10250]: Port 10250 is in use\n"
        "\t[ERROR FileContent--proc-sys-net-ipv4-ip_forward]: its content is not set to 1\n"
        "[preflight] If you know what you are doing, you can make a check non-fatal with "
        "`--ignore-preflight-errors=...`\n"
        "error: check the messages above\n"
        "To see the stack trace of this error execute with --v=5 or higher\n"
    )
    with pytest.raises(CommandFailed) as caught:
        join(Machine(tmp_path, {JOIN: {"status": 1, "err": said}}))
    assert "status 1: [ERROR Port-10250]: Port 10250 is in use / [ERROR File" in caught.value.reason
    assert "If you know" not in caught.value.reason


def test_files_with_a_token_are_private(tmp_path: Path) -> None:
    modes: list[int | None] = []

    class Looking(Machine):
        """A double that looks at the files while kubeadm would run."""

        def _answer(self, argv: Any, timeout: float, stdin: str | None) -> Any:
            if argv[0] == "kubeadm":
                modes.append(self.mode(kubeadm.JOIN_FILE))
            return super()._answer(argv, timeout, stdin)

    join(Looking(tmp_path, {JOIN: ""}))
    assert modes[0] == 0o600


def test_init_writes_its_patches_and_keeps_the_nodes_name(tmp_path: Path) -> None:
    listed = f"kubeadm config images list --config {kubeadm.INIT_FILE}"
    machine = Machine(
        tmp_path, {listed: "", f"kubeadm init --config {kubeadm.INIT_FILE}": "", "sync": ""}
    )
    kubeadm.initialise(machine, Settings(), versions.DEFAULT, "pi-1", ADDRESS, NAMES, False)
    assert len(machine.names(kubeadm_config.PATCHES)) == len(kubeadm_config.PATCHED)
    text = (machine.text(kubeadm.INIT_FILE) or "").split("---")[0]
    assert yaml.safe_load(text)["nodeRegistration"]["name"] == "pi-1"


@pytest.mark.parametrize("verb", ["init", "join"])
def test_no_name_server_of_the_node_itself_goes_to_its_pods(tmp_path: Path, verb: str) -> None:
    """The kubelet gets the file with those that the node's own resolver asks."""
    listed = f"kubeadm config images list --config {kubeadm.INIT_FILE}"
    better = "/run/NetworkManager/no-stub-resolv.conf"
    told: list[Any] = []

    class Looking(Machine):
        """A double that looks at the file while kubeadm would run."""

        def _answer(self, argv: Any, timeout: float, stdin: str | None) -> Any:
            if argv[:2] == ("kubeadm", verb):
                text = (self.text(argv[-1]) or "").split("---")[0]
                told.append(yaml.safe_load(text)["nodeRegistration"]["kubeletExtraArgs"])
            return super()._answer(argv, timeout, stdin)

    init = f"kubeadm init --config {kubeadm.INIT_FILE}"
    machine = Looking(tmp_path, {listed: "", init: "", "sync": "", JOIN: ""})
    put(tmp_path, {"/etc/resolv.conf": "nameserver 127.0.0.1\n", better: "nameserver 10.0.0.1\n"})
    if verb == "join":
        join(machine)
    else:
        kubeadm.initialise(machine, Settings(), versions.DEFAULT, "pi-1", ADDRESS, NAMES, False)
    assert {"name": "resolv-conf", "value": better} in told[0]
    assert "resolv-conf" not in str(kubeadm_config.registration("n", ADDRESS, ""))


@pytest.mark.parametrize("verb", ["init", "join"])
def test_never_beside_another_kubeadm(tmp_path: Path, verb: str) -> None:
    """One that outlived a restart of the agent, or a person's."""
    machine = Machine(tmp_path, {"pidof kubeadm": "4711\n", JOIN: ""})
    with pytest.raises(Blocked, match="Another kubeadm"):
        if verb == "join":
            join(machine)
        else:
            kubeadm.initialise(machine, Settings(), versions.DEFAULT, "pi-1", ADDRESS, NAMES, False)
    assert machine.ran == ["pidof kubeadm"]
    assert not list(tmp_path.iterdir())


def test_join_uses_file_discovery_and_no_insecure_way() -> None:
    document = yaml.safe_load(kubeadm_config.join_configuration("pi-2", "10.0.0.8", TOKEN))
    assert document["discovery"] == {
        "file": {"kubeConfigPath": kubeadm_config.DISCOVERY_FILE},
        "tlsBootstrapToken": TOKEN,
    }


def test_flannel_gets_images_and_pod_network() -> None:
    settings = dataclasses.replace(
        Settings(),
        network=dataclasses.replace(
            Settings().network, pod_cidr="10.10.0.0/16", image_repository="mirror.example:5000"
        ),
    )
    text = flannel.manifest(settings)
    assert "@" not in text.replace("@FLANNEL@, @PLUGIN@ and @NETWORK@", "")
    found = {d["kind"]: d for d in yaml.safe_load_all(text)}
    assert '"Network": "10.10.0.0/16"' in found["ConfigMap"]["data"]["net-conf.json"]
    containers = found["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == f"mirror.example:5000/flannel:{flannel.VERSION}"


@pytest.mark.parametrize(
    ("passwd", "user"),
    [
        ("root:x:0:0::/root:/bin/bash\npi:x:1000:1000::/home/pi:/bin/bash\n", ("pi", "/home/pi")),
        ("root:x:0:0::/root:/bin/bash\n", None),
        ("", None),
        ("broken\n:::\n", None),
    ],
)
def test_the_first_human_user(passwd: str, user: tuple[str, str] | None) -> None:
    assert control_plane._user(passwd) == user


def test_a_node_asked_of_a_silent_cluster_is_not_ready(tmp_path: Path) -> None:
    assert control_plane.ready(Machine(tmp_path), "pi-1") is False
