"""What kind of system a boot partition belongs to, and how its first boot can be made to run a
script: by positive signs alone, since a wrong guess is a board on which nothing ever happens.

Sources: pi-gen (stage1/00-boot-files, stage2/04-cloud-init, export-image/05-finalise), Debian's
raspi-firmware (z50-raspi-firmware), canonical/pi-gadget, cloud-init's documentation ("NoCloud",
"Vendor data", "How to disable cloud-init"), systemd's kernel-command-line(7).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.errors import ImageError
from nodeagent.host.boot import cmdline, files
from nodeagent.host.facts import Facts
from nodeagent.imaging.inspect import KNOWN

CLOUD_INIT_SINCE = "2025-11"  # pi-gen has stage2/04-cloud-init since then
OLDEST_KERNEL = (6, 1)  # Debian bookworm's

CLOUD_INIT, SYSTEMD = "cloud-init", "systemd.run="
SEED_FILES = frozenset({"user-data", "meta-data"})  # NoCloud wants both
FIRSTBOOT = (
    b"init=/usr/lib/raspberrypi-sys-mods/firstboot"  # pi-gen until bookworm; resizes the root
)
RESIZE = b"resize"  # pi-gen since trixie; the first boot takes it out
INITS = (b"/sbin/init", b"/usr/sbin/init", b"/lib/systemd/systemd", b"/usr/lib/systemd/systemd",
         FIRSTBOOT.removeprefix(b"init="))  # fmt: skip
TARGETS = (
    b"multi-user.target",
    b"graphical.target",
    b"default.target",
    b"kernel-command-line.target",
)
RESCUE = (b"single", b"s", b"S", b"1", b"-s", b"rescue", b"emergency", b"-b")


@dataclass(frozen=True)
class System:
    """``ways``: how its first boot is made to run a script, CLOUD_INIT, SYSTEMD, or both where it
    cannot be told whether cloud-init will look; ``why`` says it as a part of a sentence, and is
    empty where the usual way of the system is taken."""

    name: str
    ways: tuple[str, ...]
    why: str = ""


def words_of_line(facts: Facts) -> list[bytes]:
    """The words of the line that the firmware of an image's board reads. Raises ImageError where
    they can start nothing."""
    try:
        path = files.find(facts).cmdline
    except LookupError as error:
        raise ImageError(f"The image cannot be started: {error}.", "Take a fresh image.") from error
    words = cmdline.words(facts.read(path) or b"")
    if words and not any(word.startswith(b"root=") for word in words):
        comment = ", which is a comment" if words[0].startswith(b"#") else ""
        raise ImageError(
            f"{path} has no root= in its first line{comment}, and the firmware reads no other: the"
            " board would not start.",
            "Put all words of the kernel command line into the first line.",
        )
    return words


def recognise(facts: Facts, names: Collection[str], words: list[bytes]) -> System:
    """What system the boot partition is of, staged below ``paths.BOOT``, with the ``words`` of its
    command line. Raises ImageError where no sign of a supported one is there, or where something
    keeps every way of running a script from working."""
    system = (
        _raspberry_pi_os(facts, names, words)
        or _ubuntu(facts, names, words)
        or _debian(facts, names, words)
    )
    if system is None:
        raise ImageError(
            "There is no sign on it of a system that nodeagent can be installed on, such as the"
            " issue.txt of Raspberry Pi OS.",
            f"{KNOWN} If this image has nodeagent already, say --no-install. On a board that runs"
            " another system of Debian's family, install nodeagent's package by hand.",
        )
    _check_words(words)
    return system


def _raspberry_pi_os(facts: Facts, names: Collection[str], words: list[bytes]) -> System | None:
    issue = _read(facts, "issue.txt")
    if not (issue.startswith(b"Raspberry Pi reference") or b"pi-gen" in issue):
        return None
    # By the date alone an image that somebody built of bullseye today would pass.
    new = {"kernel_2712.img", "initramfs8", "initramfs_2712"} & set(names)
    by_itself = re.search(rb"^auto_initramfs=1\s*$", _read(facts, "config.txt"), re.M)
    if not (new or by_itself) or any(word.endswith(b"/init_resize.sh") for word in words):
        raise ImageError(
            "This is Raspberry Pi OS bullseye or older, which mounts its boot partition at /boot"
            " and has too old a Python.",
            KNOWN,
        )
    name = "Raspberry Pi OS"
    if not set(names) >= SEED_FILES:
        return System(name, (SYSTEMD,))
    made = re.search(rb"\b20\d\d-\d\d-\d\d\b", issue)
    if FIRSTBOOT in words or (made and made[0].decode() < CLOUD_INIT_SINCE):
        return System(name, (SYSTEMD,), "it came without cloud-init")
    meta = _read(facts, "meta-data")
    sure = made and (RESIZE in words or b"rpios-image" in meta or b"rpi-imager-" in meta)
    return System(name, *_by_cloud_init(facts, words, bool(sure)))


def _ubuntu(facts: Facts, names: Collection[str], words: list[bytes]) -> System | None:
    config = _read(facts, "config.txt")
    boots = {posixpath.basename(name) for name in names} >= {"vmlinuz", "initrd.img"}
    if not (
        boots
        and (b"root=LABEL=writable" in words or re.search(rb"^kernel=vmlinuz\s*$", config, re.M))
    ):
        return None
    if not set(names) >= SEED_FILES:
        return System("Ubuntu", (SYSTEMD,))
    # Its desktop has cloud-init only in some releases.
    return System("Ubuntu", *_by_cloud_init(facts, words, b"splash" not in words))


def _debian(facts: Facts, names: Collection[str], words: list[bytes]) -> System | None:
    found = [re.fullmatch(r"vmlinuz-(\d+)\.(\d+)\..*", name) for name in names]
    versions = [(int(match[1]), int(match[2])) for match in found if match]
    sign = "sysconf.txt" in names or b"root=LABEL=RASPIROOT" in words
    sign = sign or b"upstream_kernel=1" in _read(facts, "config.txt")
    if not (versions and sign):
        return None
    if max(versions) < OLDEST_KERNEL:
        raise ImageError("This Debian is older than bookworm (12).", KNOWN)
    return System("Debian", (SYSTEMD,))


def _by_cloud_init(facts: Facts, words: list[bytes], sure: bool) -> tuple[tuple[str, ...], str]:
    """The ways, and why, where the files of NoCloud are there; ``sure``: and cloud-init too."""
    off = _cloud_init_is_off(words, _read(facts, "user-data"), _read(facts, "meta-data"))
    if off:
        return (SYSTEMD,), off
    # Then cloud-init takes its data from the cache of the last boot (DataSourceNoCloud,
    # check_instance_id). Before the first boot there is none.
    if RESIZE not in words and any(re.match(rb'"?ds=.*;(i|instance-id)=', word) for word in words):
        return (
            CLOUD_INIT,
            SYSTEMD,
        ), "an instance of cloud-init that has booted already reads no new data"
    if not sure:
        return (CLOUD_INIT, SYSTEMD), "it cannot be told whether cloud-init is there"
    kinds = (
        b"\x1f\x8b",
        b"#include",
        b"#cloud-config-",
        b"#part-handler",
        b"Content-Type",
        b"MIME-",
    )
    if _read(facts, "user-data").lstrip().startswith(kinds):
        return (CLOUD_INIT, SYSTEMD), "user-data may turn vendor data off where it cannot be seen"
    return (CLOUD_INIT,), ""


def _cloud_init_is_off(words: list[bytes], user: bytes, meta: bytes) -> str:
    """Why cloud-init will not read the vendor data on the boot partition; empty where it will."""
    for word in (word.replace(b'"', b"") for word in words):
        if word in (b"cloud-init=disabled", b"systemd.mask=cloud-init.service"):
            return "the kernel command line disables cloud-init"
        name, _, value = word.partition(b"=")
        source, *options = value.split(b";")
        places = [
            option.split(b"=", 1)[-1] for option in options if re.match(rb"(s|seedfrom)=", option)
        ]
        here = all(re.fullmatch(rb"(file://)?/boot/firmware/?", place) for place in places)
        if name in (b"ds", b"ci.ds", b"ci.datasource") and (
            source.lower() != b"nocloud" or not here
        ):
            return "the kernel command line has cloud-init take its data from elsewhere"
    if re.search(rb"^[^#\n]*\bvendor_data\b", user, re.M):
        return "user-data has settings for vendor data, which may turn it off"
    if re.search(rb"^[^#\n]*\bmanual_cache_clean\b", user, re.M):
        return "user-data has cloud-init keep what it read at an earlier boot"
    if re.search(rb"^[^#\n]*\b(seedfrom|dsmode[\"']?\s*:\s*[\"']?disabled)\b", meta, re.M):
        return "meta-data has cloud-init take its data from elsewhere"
    return ""


def _check_words(words: list[bytes]) -> None:
    """Raises ImageError where the kernel command line lets no installation begin, or last."""
    for word in (word.replace(b'"', b"") for word in words):
        said = word.decode(errors="replace")
        name, _, value = word.partition(b"=")
        forgets = (name == b"overlayroot" and value not in (b"", b"disabled")) or (
            name == b"systemd.volatile" and value not in (b"no", b"0", b"false")
        ) or word in (b"boot=overlay", b"boot=live")  # fmt: skip
        if forgets:
            raise ImageError(
                f"`{said}` on its kernel command line has the system forget at each start what was"
                " installed.",
                "Turn the overlay file system off (`sudo raspi-config`, Performance Options), then"
                " seed again.",
            )
        other = name == b"init" and value not in INITS
        if other or word in RESCUE or (name == b"systemd.unit" and value not in TARGETS):
            raise ImageError(
                f"`{said}` on its kernel command line starts something else than the usual system,"
                " and nothing would be installed.",
                "Remove that word, then seed again.",
            )


def _read(facts: Facts, name: str) -> bytes:
    return facts.read(f"{paths.BOOT}/{name}") or b""
