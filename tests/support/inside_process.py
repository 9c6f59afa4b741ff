"""A process of its own in namespaces: enters the system in a folder as `image bake` does, and runs
one of its programs; with ``containerd`` instead, as its containerd. Prints what it answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

from nodeagent.imaging import chroot, sandbox


def main(root: str, as_containerd: str, *argv: str) -> None:
    """``as_containerd``: "yes" for the rights that the image's containerd has."""
    with chroot.entered(Path(root)) as host:
        if as_containerd == "yes":
            seccomp = Path(root).parent / "seccomp"
            mounts: Literal["bind", "any"] = "bind" if chroot.is_root() else "any"
            seccomp.write_bytes(sandbox.filter_for(os.uname().machine, mounts))
            line = sandbox.image_program(host.root, seccomp, argv, admin=True)
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            result = host.run(*argv)
            status, out, err = result.status, result.out, result.err
    sys.stdout.write(json.dumps([status, out, err]))


if __name__ == "__main__":
    main(*sys.argv[1:])
