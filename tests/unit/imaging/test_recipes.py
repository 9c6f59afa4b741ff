"""The recipes for those who build images from source: what can be checked without their tools.

What the builders' own functions did with them is recorded in builders.yaml. Sources besides:
pi-gen's README ("How the build process works"), rpi-image-gen's documentation ("Layers", "Config"),
ubuntu-image's "Image Definition" reference (its internal/imagedefinition/README.rst).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent import paths
from nodeagent.imaging import partition
from nodeagent.steps.identity import UNNAMED

RECORDED = yaml.safe_load((Path(__file__).parent / "builders.yaml").read_text())
CHECKOUT = Path(__file__).parents[3]
IMAGE = CHECKOUT / "image"
STAGE = IMAGE / "pi-gen" / "stage-nodeagent"
# The fields of an image definition, as far as ours has them: a value, or what is in it.
PART = {"label": str, "mountpoint": str, "filesystem-type": str, "mount-options": str,
        "dump": bool, "fsck-order": int}  # fmt: skip
DEFINITION: dict[str, Any] = {
    "name": str, "display-name": str, "revision": int, "architecture": str, "series": str,
    "class": str, "kernel": str,
    "gadget": {"url": str, "branch": str, "type": str},
    "rootfs": {
        "sources-list-deb822": bool,
        "archive": str, "components": [str], "mirror": str, "pocket": str,
        "seed": {"urls": [str], "branch": str, "names": [str]},
    },
    "customization": {
        "extra-packages": [{"name": str}], "fstab": [PART],
        "manual": {"copy-file": [{"source": str, "destination": str}], "execute": [{"path": str}]},
    },
    "artifacts": {"img": [{"name": str}], "manifest": {"name": str}},
}  # fmt: skip


def depends() -> set[str]:
    """What the agent's package needs beyond a system's own Python."""
    control = (CHECKOUT / "debian/control").read_text().split("Depends:")[2].split("Suggests")[0]
    return set(re.findall(r"python3-[a-z]+", control))


def fits(value: Any, wanted: Any, where: str = "") -> None:
    """Raises AssertionError with the place where a value is of another kind."""
    if isinstance(wanted, dict):
        assert isinstance(value, dict) and set(value) <= set(wanted), (where, value)
        for name, inner in value.items():
            fits(inner, wanted[name], f"{where}/{name}")
    elif isinstance(wanted, list):
        assert isinstance(value, list) and value, where
        for inner in value:
            fits(inner, wanted[0], where)
    else:
        assert type(value) is wanted, (where, value)


def test_ubuntu_image() -> None:
    definition = yaml.safe_load((IMAGE / "ubuntu-image/nodeagent.yaml").read_text())
    fits(definition, DEFINITION)
    packages = {one["name"] for one in definition["customization"]["extra-packages"]}
    assert packages == depends() | set(RECORDED["ubuntu-image"]["packages"])
    assert set(definition["rootfs"]["seed"]["names"]) == set(RECORDED["ubuntu-image"]["seeds"])
    assert definition["rootfs"]["sources-list-deb822"] is True  # else apt has two lists in noble
    manual = definition["customization"]["manual"]
    copied = {one["destination"] for one in manual["copy-file"]}
    assert {one["path"] for one in manual["execute"]} <= copied
    script = (IMAGE / "ubuntu-image/install.sh").read_text()
    assert all(path in script for path in copied)
    assert os.access(IMAGE / "ubuntu-image/install.sh", os.X_OK)


def test_rpi_image_gen() -> None:
    text = (IMAGE / "rpi-image-gen/layer/nodeagent.yaml").read_text()
    meta = re.search(r"^# METABEGIN\n(.*?)^# METAEND\n---\n", text, re.M | re.S)
    assert meta is not None
    fields = dict(re.findall(r"^# X-Env-([A-Za-z-]+): (.+)$", meta[1], re.M))
    assert {"Layer-Name", "Layer-Version", "Layer-Category", "Layer-Desc"} <= set(fields)
    layer = yaml.safe_load(text)
    assert set(layer) == {"mmdebstrap"}
    assert set(layer["mmdebstrap"]) == {"packages", "customize-hooks"}
    assert depends() <= set(layer["mmdebstrap"]["packages"])
    config = yaml.safe_load((IMAGE / "rpi-image-gen/config/nodeagent.yaml").read_text())
    assert config["layer"] == {"app": fields["Layer-Name"]}
    assert set(config) == {"include", "device", "image", "layer"}


def test_each_model_has_its_layer_told() -> None:
    """rpi-image-gen makes an image for one model."""
    config = yaml.safe_load((IMAGE / "rpi-image-gen/config/nodeagent.yaml").read_text())
    devices = RECORDED["rpi-image-gen"]["devices"]
    assert config["device"]["layer"] in devices
    readme = (IMAGE / "rpi-image-gen/README.md").read_text()
    for layer, made in devices.items():
        (row,) = (line for line in readme.splitlines() if f"| `{layer}` |" in line)
        assert f"| {made['kernel']} | {made['page_size'] // 1024} KiB" in row


def test_cards_of_one_image_have_no_name_in_common() -> None:
    config = yaml.safe_load((IMAGE / "rpi-image-gen/config/nodeagent.yaml").read_text())
    assert config["device"]["hostname"] in UNNAMED
    assert "urandom" in RECORDED["rpi-image-gen"]["hostname"]  # once, when the image is made


def test_how_to_log_in_is_told() -> None:
    assert RECORDED["rpi-image-gen"]["user1sudo"] == "none"
    readme = (IMAGE / "rpi-image-gen/README.md").read_text()
    assert "IGconf_ssh_pubkey_user1=" in readme and "IGconf_device_user1sudo=nopasswd" in readme


def shared() -> list[str]:
    """The folders that both slots of an A/B image have in common."""
    text = (IMAGE / "rpi-image-gen/files/slot-shared.conf").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "Version=1"
    return [line.removeprefix("Path=") for line in lines[1:]]


def test_a_node_stays_the_node_in_the_other_slot() -> None:
    kept = {paths.STATE, paths.BROKER, paths.KUBERNETES, paths.ETCD, paths.CNI_CONFIG,
            paths.CNI_STATE, str(Path(paths.KUBELET_CONFIG).parent)}  # fmt: skip
    assert set(shared()) == kept
    # systemd-escape --path, as far as these need it.
    units = {path[1:].replace("-", r"\x2d").replace("/", "-") + ".mount" for path in shared()}
    assert units == set(RECORDED["rpi-image-gen"]["mounts"])


@pytest.mark.processes
def test_the_hooks_of_rpi_image_gen(tmp_path: Path) -> None:
    layer = yaml.safe_load((IMAGE / "rpi-image-gen/layer/nodeagent.yaml").read_text())
    (tmp_path / "nodeagent.deb").write_bytes(b"deb")
    (tmp_path / "files").symlink_to(IMAGE / "rpi-image-gen/files")
    root = tmp_path / "root"
    (root / "var/lib").mkdir(parents=True)
    said = _run_hooks(layer["mmdebstrap"]["customize-hooks"], tmp_path)
    assert said == (
        f"{root} dpkg --install /var/lib/nodeagent.deb\n{root} systemctl enable grow-root.service\n"
    )
    assert not (root / "var/lib/nodeagent.deb").exists()
    unit = (root / "etc/systemd/system/grow-root.service").read_text()
    (program,) = re.findall(r"^ExecStart=(\S+)$", unit, re.M)
    assert os.access(root / program.lstrip("/"), os.X_OK)
    assert "growpart " in (root / program.lstrip("/")).read_text()
    assert "cloud-guest-utils" in layer["mmdebstrap"]["packages"]  # growpart's
    assert (root / "etc/rpi-image-gen/slot-shared.d/nodeagent.conf").exists()
    assert all((root / path.lstrip("/")).is_dir() for path in shared())


def _run_hooks(hooks: list[str], folder: Path) -> str:
    """As mmdebstrap(1) runs them, with a double of chroot that tells what it was given."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "chroot").write_text('#!/bin/sh\necho "$@"\n')
    (tools / "chroot").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    return "".join(
        subprocess.run(
            ["sh", "-ec", hook, "exec", str(folder / "root")],
            cwd=folder, env=environment, check=True, capture_output=True, text=True,
        ).stdout
        for hook in hooks
    )  # fmt: skip


# Doubles of the functions that pi-gen exports. As recorded, on_chroot hides some folders.
PI_GEN = """
copy_previous() { mkdir -p "$ROOTFS_DIR"/{etc,usr,var/lib,dev,proc,run,sys,tmp}; }
on_chroot() {
    cat > "$OUT/script"
    for folder in $HIDDEN; do mv "$ROOTFS_DIR/$folder" "$OUT/$folder"; done
    (cd "$ROOTFS_DIR" && find . -type f) > "$OUT/there"
    for folder in $HIDDEN; do mv "$OUT/$folder" "$ROOTFS_DIR/$folder"; done
}
export -f copy_previous on_chroot
"$STAGE/prerun.sh"
cd "$STAGE/00-install" && ./00-run.sh
"""


@pytest.mark.processes
def test_pi_gen(tmp_path: Path) -> None:
    """The stage's scripts: the package lies where apt-get finds it inside, and goes afterwards."""
    stage = tmp_path / "stage-nodeagent"
    shutil.copytree(STAGE, stage)
    (stage / "00-install/files").mkdir()
    (stage / "00-install/files/nodeagent_9.9_all.deb").write_bytes(b"deb")
    hidden = " ".join(RECORDED["pi-gen"]["hidden"])
    environment = {**os.environ, "ROOTFS_DIR": str(tmp_path / "rootfs"), "OUT": str(tmp_path),
                   "STAGE": str(stage), "HIDDEN": hidden}  # fmt: skip
    subprocess.run(["bash", "-ec", PI_GEN], env=environment, check=True, capture_output=True)
    (there,) = (tmp_path / "there").read_text().splitlines()
    install, remove = (tmp_path / "script").read_text().splitlines()
    assert install.startswith("apt-get install ") and install.endswith(f" {there[1:]}")
    assert remove == f"rm {there[1:]}"


def test_pi_gens_configuration() -> None:
    config = (IMAGE / "pi-gen/config").read_text()
    assert STAGE.name in config.split('STAGE_LIST="')[1].split('"')[0].split()
    assert (STAGE / "EXPORT_IMAGE").read_text().startswith("IMG_SUFFIX=")
    (chosen,) = re.findall(r"^DEPLOY_COMPRESSION=(\w+)$", config, re.M)
    packed = {name for name, _ in partition.PACKED.values()}
    compression = RECORDED["pi-gen"]["compression"]
    assert RECORDED["pi-gen"]["default"] in packed  # which `image seed` refuses
    assert compression[chosen] == ".img"


@pytest.mark.parametrize("name", ["pi-gen", "rpi-image-gen", "ubuntu-image"])
def test_each_says_what_was_not_run(name: str) -> None:
    assert "\nNot run yet" in (IMAGE / name / "README.md").read_text()
