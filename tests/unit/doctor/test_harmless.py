"""What leaves a node is known to be harmless: passwords of plain letters, which no shape betrays,
in the places where people really have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import paths
from nodeagent.doctor import report
from nodeagent.errors import Refused
from nodeagent.host import durable
from tests.support.machine import Machine, put

S = "correcthorse"  # a secret like any word
PRESIGNED = f"https://bucket.example/layer?X-Amz-Credential={S}&X-Amz-Signature={S}"
# Where it stands (a file or a command), what is there, what must stay; "" for nothing.
CASES = [
    (paths.FSTAB, f"//nas/media /m cifs username=me,password={S},uid=1000 0 0", "uid=1000"),
    (paths.FSTAB, f"//nas/media /m cifs user=me%{S} 0 0", "cifs"),
    (paths.FSTAB, f"//me:{S}@nas/media /m cifs ro 0 0", "ro"),
    (paths.FSTAB, f"# //nas pass={S}\n/dev/sda1 / ext4 defaults 0 1", "/dev/sda1 / ext4 defaults"),
    (paths.MOUNTS, f"{S}@host:/ /home/{S} fuse.sshfs rw,user_id=0 0 0", "rw"),
    (paths.CMDLINE, f"root=/dev/x ds=nocloud;s=https://h/{S} rootwait", "root=/dev/x"),
    (paths.CMDLINE, f"quiet {S} luks.key={S} console=tty1", "console=tty1"),
    (paths.CMDLINE, f"console=tty1;{S}%", "console=[left out]"),
    ("/boot/firmware/config.txt", f"# wifi {S}\ndtparam=audio=on\nwpa_psk={S}", "dtparam=audio=on"),
    (paths.CONTAINERD_CONFIG, f'version = 3\n  auth = "{S}"\n  password = "{S}"', "version = 3"),
    (paths.CONTAINERD_CONFIG, f'SystemdCgroup = true # {S}\nusername = "{S}"', "SystemdCgroup"),
    (paths.CONTAINERD_CONFIG, f'[plugins."x".registry.configs."{S}".auth]\nversion = 2', "= 2"),
    (paths.KUBELET_CONFIG, f"staticPodURLHeader:\n  Authorization: [{S}]\nkind: K", "kind: K"),
    (paths.HOSTS, f"127.0.0.1 localhost # {S}\n10.0.0.1 nas", "10.0.0.1 nas"),
    (paths.RESOLV_CONF, f"# {S}\nnameserver 10.0.0.1", "nameserver 10.0.0.1"),
    (paths.OS_RELEASE, f'ID=debian\nTOKEN="{S}"', "ID=debian"),
    (paths.CLOUD_INIT_RESULT,
     f'{{"v1": {{"datasource": "DataSourceNoCloud [seed=https://x/{S}]", "errors": ["{S}"]}}}}',
     '"errors": 1'),
    ("/var/log/apt/history.log",
     (f"Commandline: apt-get -o Acquire::http::Proxy=http://u:{S}@p install x\n"
     "Install: x:arm64 (1.0)"), "Install: x:arm64 (1.0)"),
    (paths.STATUS, f'{{"version": 1, "detail": "https://me:{S}@m/x", "{S}x": "{S}"}}', "https://m/"),
    ("/var/lib/nodeagent/state.json", f'{{"role": "worker", "{S}": 1, "later": "{S}"}}', "worker"),
    ("journal-nodeagent.log",
     (f"Nov 28 01:00:00.1 pi nodeagent[1]: {PRESIGNED} failed\n"
     f"Nov 28 01:00:00.1 pi sudo[2]: me : COMMAND=/bin/mount -o password={S}\n"
     f"    kubeadm join --token {S}"), "https://bucket.example/[left out] failed"),
    ("journal-kubelet.log",
     ('Nov 28 01:00:00.1 pi kubelet[1]: E1128 01:00:00.123456       1 kuberuntime.go:12] "Failed"'
     f' err="{PRESIGNED}: not found" env="PASSWORD={S}"'), "kuberuntime.go:12 (not found)"),
    ("journal-kubelet.log", f"Nov 28 01:00:00.1 pi kubelet[1]: --password={S}", ""),
    ("journal-containerd.log",
     (f'Nov 28 01:00:00.1 pi containerd[1]: time="2026-11-28T01:00:00Z" level=error msg="{S}"'
     ' error="no such host"'), "error (no such host)"),
    ("journal-kernel.log",
     (f"Nov 28 01:00:00.1 pi kernel: Kernel command line: psk={S}\n"
     f"Nov 28 01:00:00.1 pi {S}[3]: mmc0: x\nNov 28 01:00:00.1 pi kernel: mmc0: bad"), "mmc0: bad"),
    ("firewall.txt", f'iifname "eth0" tcp dport 22 accept comment "{S}"', 'iifname "eth0"'),
    ("units.txt", f"Id=kubelet.service\nEnvironment=PASSWORD={S}*\n", "Id=kubelet.service"),
    ("units-failed.txt", f"x.service loaded failed failed Has {S}", "x.service loaded failed"),
    ("cluster-events.txt",
     f"2026-11-28T00:00:00Z\tWarning\tFailed\tPod\tdefault\tweb-1\tpull {PRESIGNED}: unauthorized",
     "web-1\tunauthorized"),
    ("pods.txt", f'default web Running "{S}"\ndefault web2 Running', "web2 Running"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "text", "stays"), CASES, ids=[c[0] for c in CASES])
def test_a_password_of_letters_stays_on_the_node(place: str, text: str, stays: str) -> None:
    commands = {**report.COMMANDS, **report.ON_CONTROL_PLANE}
    kept = report.FILES[place] if place in report.FILES else commands[place][1]
    left = kept(text)
    assert S not in left and stays in left


def test_places_of_secrets_are_not_taken_at_all() -> None:
    taken = " ".join(report.FILES)
    for name in ("nodeagent.yaml", "user-data", "network-config", "vendor-data", "wpa_supplicant",
                 "NetworkManager", "netplan", "admin.conf", ".kube", "shadow", "environment",
                 "docker", "config.json"):  # fmt: skip
        assert name not in taken
    said = " ".join(" ".join(argv) for argv, _ in
                    {**report.COMMANDS, **report.ON_CONTROL_PLANE}.values())  # fmt: skip
    for word in ("describe", "secret", "configmap", "yaml", "env", "cmdline", "nmcli", "-o json "):
        assert word not in said.replace("systemd-", "")


def test_a_users_file_of_settings_is_not_in_the_bundle(tmp_path: Path) -> None:
    put(tmp_path, {paths.SETTINGS: f"# {S}\nexpected_nodes: 3\n", paths.HOSTNAME: "pi-1\n",
                   "/boot/firmware/user-data": f"password: {S}\n"})  # fmt: skip
    content = dict(report.parts(Machine(tmp_path), lambda _: None))
    assert S not in "".join(content.values()) and "expected_nodes = 3" in content["config.txt"]
    assert "Not taken at all" in content["CONTENTS.txt"]


@given(st.text(max_size=200))
def test_no_text_breaks_a_filter(text: str) -> None:
    for one in report.FILES.values():
        assert isinstance(one(text), str)
    for _, one in {**report.COMMANDS, **report.ON_CONTROL_PLANE}.values():
        assert isinstance(one(text), str)


def test_a_link_under_the_next_name_is_not_followed(tmp_path: Path) -> None:
    """In /tmp anybody may put one there."""
    (tmp_path / "shadow").write_text("root's")
    (tmp_path / "report").symlink_to(tmp_path / "shadow")
    for there in ("report", "shadow"):
        with pytest.raises(FileExistsError):
            durable.create(tmp_path / there, b"x")
    assert (tmp_path / "shadow").read_text() == "root's"
    with pytest.raises(Refused, match="is already there"):
        put(tmp_path, {"/etc/hostname": "pi\n"})
        Machine(tmp_path).create("/report", b"x", None)
