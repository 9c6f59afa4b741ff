"""The recipes for those who build images from source: what can be checked without their tools.

Sources: pi-gen's README ("How the build process works"), rpi-image-gen's documentation ("Layers",
"Config"), ubuntu-image's "Image Definition" reference (its internal/imagedefinition/README.rst).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    assert packages == depends()
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
    assert set(config) == {"include", "image", "layer"}


@pytest.mark.processes
def test_the_hooks_of_rpi_image_gen(tmp_path: Path) -> None:
    layer = yaml.safe_load((IMAGE / "rpi-image-gen/layer/nodeagent.yaml").read_text())
    (tmp_path / "nodeagent.deb").write_bytes(b"deb")
    (tmp_path / "root/tmp").mkdir(parents=True)
    said = _run_hooks(layer["mmdebstrap"]["customize-hooks"], tmp_path)
    assert said == f"{tmp_path}/root dpkg --install /tmp/nodeagent.deb\n"
    assert not list((tmp_path / "root/tmp").iterdir())


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


PI_GEN = """
copy_previous() { mkdir -p "$ROOTFS_DIR/tmp"; }
on_chroot() { cat > "$OUT/script"; ls "$ROOTFS_DIR/tmp" > "$OUT/there"; }
export -f copy_previous on_chroot
"$STAGE/prerun.sh"
cd "$STAGE/00-install" && ./00-run.sh
"""


@pytest.mark.processes
def test_pi_gen(tmp_path: Path) -> None:
    """The stage's scripts, with doubles of the two functions that pi-gen exports to them."""
    stage = tmp_path / "stage-nodeagent"
    for path in sorted(STAGE.rglob("*")):
        target = stage / path.relative_to(STAGE)
        if path.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            target.chmod(path.stat().st_mode)
    (stage / "00-install/files").mkdir()
    (stage / "00-install/files/nodeagent_9.9_all.deb").write_bytes(b"deb")
    environment = {**os.environ, "ROOTFS_DIR": str(tmp_path / "rootfs"), "OUT": str(tmp_path),
                   "STAGE": str(stage)}  # fmt: skip
    subprocess.run(["bash", "-ec", PI_GEN], env=environment, check=True, capture_output=True)
    assert (tmp_path / "there").read_text() == "nodeagent.deb\n"
    script = (tmp_path / "script").read_text()
    assert script.startswith("apt-get install ") and "/tmp/nodeagent.deb" in script
    config = (IMAGE / "pi-gen/config").read_text()
    assert STAGE.name in config.split('STAGE_LIST="')[1].split('"')[0].split()
    assert (STAGE / "EXPORT_IMAGE").read_text().startswith("IMG_SUFFIX=")


@pytest.mark.parametrize("name", ["pi-gen", "rpi-image-gen", "ubuntu-image"])
def test_each_says_what_was_not_run(name: str) -> None:
    assert "\nNot run yet" in (IMAGE / name / "README.md").read_text()
