"""A user's own settings in a root file system: SSH key and Wi-Fi.

Raspberry Pi Imager does the same through cloud-init or its script; this is for images that are
written without it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from nodeagent import paths
from nodeagent.errors import Refused, Usage
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host

HEADER = "# Made by `nodeagent image bake`.\n"
NETPLAN = "/usr/sbin/netplan"
CONNECTIONS = "/etc/NetworkManager/system-connections"
RFKILL = "/var/lib/systemd/rfkill"  # of systemd-rfkill(8): which radios were off
MAX_TEXT = 64 * 1024  # bytes
FIRST_USER = 1000  # adduser.conf(5), FIRST_UID
_PSK = re.compile("[0-9A-Fa-f]{64}")  # no passphrase: those end with 63 characters
_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n]*)?")


@dataclass(frozen=True)
class Custom:
    """``ssh_key`` is a line as of authorized_keys(5); ``psk`` 64 hexadecimal digits; ``country``
    two letters (ISO 3166); ``hidden``: the network does not say its name."""

    ssh_key: str = ""
    ssid: str = ""
    psk: str = field(default="", repr=False)
    country: str = ""
    hidden: bool = False


NOTHING = Custom()


def custom(
    ssh_key: str | None,
    ssid: str | None,
    secret: str,
    country: str | None,
    hidden: bool = False,
) -> Custom:
    """From what a person says. Raises Usage.

    The passphrase itself is put nowhere: WPA2 needs only what is derived from it and the name
    (IEEE 802.11, "Passphrase to PSK mapping": PBKDF2 with SHA-1, 4096 rounds, 256 bits). Who has
    that, from wpa_passphrase(8) or Raspberry Pi Imager, may say it instead: 64 hexadecimal digits.
    """
    if ssh_key is not None and not _KEY.fullmatch(ssh_key):
        raise Usage(
            "That is no public key for SSH.", "Give the file that ends in .pub, for example"
            " ~/.ssh/id_ed25519.pub.",
        )  # fmt: skip
    psk = ""
    if hidden and ssid is None:
        raise Usage("There is no name of a hidden Wi-Fi.", "Say --wifi and its name as well.")
    if ssid is not None:
        if not re.fullmatch("[A-Z]{2}", country or ""):
            raise Usage(
                "Wi-Fi needs the country, whose rules the radio must keep.",
                "Say --wifi-country and two letters, for example DE.",
            )
        if not 1 <= len(ssid.encode()) <= 32:
            raise Usage("A Wi-Fi name has 1 to 32 bytes.", "Look at it again.")
        if _PSK.fullmatch(secret):
            psk = secret.lower()
        elif 8 <= len(secret) <= 63:
            psk = hashlib.pbkdf2_hmac("sha1", secret.encode(), ssid.encode(), 4096, 32).hex()
        else:
            raise Usage(
                "A Wi-Fi password has 8 to 63 characters, a key made of one 64 hexadecimal digits.",
                "Look at it again.",
            )
    return Custom(ssh_key or "", ssid or "", psk, country or "", hidden)


def read(path: Path) -> str:
    """The text of a small file that a person names, without blanks around it. Raises Usage for
    what is not text, OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_TEXT)
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise Usage(
            f"{path} is not a text file.", "Name the right file; it is saved as UTF-8."
        ) from error


def apply(host: Host, wish: Custom) -> None:
    """Write it below ``host``'s root, whose programs can be run. Raises Refused, CommandFailed."""
    if wish.ssh_key:
        _ssh(host, wish.ssh_key)
    if wish.ssid:
        _wifi(host, wish)


def _ssh(host: Host, key: str) -> None:
    """For the user that cloud-init makes, or the one that is there."""
    if host.exists(paths.CLOUD_CONFIG):
        text = f"{HEADER}ssh_authorized_keys: [{json.dumps(key)}]\n"
        host.write(f"{paths.CLOUD_CONFIG}/90-nodeagent-ssh.cfg", text.encode())
    else:
        users = [line.split(":") for line in (host.text(paths.PASSWD) or "").splitlines()]
        found = [user for user in users if user[2:3] == [str(FIRST_USER)]]
        if not found:
            raise Refused(
                "This image has no user yet whom the key for SSH could be for.",
                "Leave --ssh-key out, and set user and key in Raspberry Pi Imager.",
            )
        uid, gid, home = int(found[0][2]), int(found[0][3]), found[0][5]
        host.call("install", "-d", "-m", "700", "-o", str(uid), "-g", str(gid), f"{home}/.ssh")
        before = host.read(f"{home}/.ssh/authorized_keys") or b""
        data = before + f"{key}\n".encode()
        host.write(f"{home}/.ssh/authorized_keys", data, 0o600, (uid, gid))
    if not host.exists("/etc/systemd/system/sockets.target.wants/ssh.socket"):
        host.call("systemctl", "enable", "ssh.service")


def _wifi(host: Host, wish: Custom) -> None:
    """As netplan(5) or nm-settings-keyfile(5) has it, whichever this system uses."""
    if Facts(host).exists(NETPLAN):
        point: dict[str, object] = {"password": wish.psk}
        if wish.hidden:
            point["hidden"] = True
        network = {
            "version": 2,
            "wifis": {
                "wlan0": {
                    "dhcp4": True,
                    "optional": True,
                    "regulatory-domain": wish.country,
                    "access-points": {wish.ssid: point},
                }
            },
        }
        text = HEADER + json.dumps({"network": network}, indent=1) + "\n"  # JSON is YAML
        host.write("/etc/netplan/90-nodeagent-wifi.yaml", text.encode(), 0o600)
    elif host.exists(CONNECTIONS):
        name = ";".join(str(byte) for byte in wish.ssid.encode())
        hidden = "hidden=true\n" if wish.hidden else ""
        text = (
            f"{HEADER}[connection]\nid=nodeagent-wifi\ntype=wifi\n\n[wifi]\nmode=infrastructure\n"
            f"ssid={name};\n{hidden}\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={wish.psk}\n\n"
            "[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
        )
        host.write(f"{CONNECTIONS}/nodeagent-wifi.nmconnection", text.encode(), 0o600)
    else:
        raise Refused(
            "This image has neither netplan nor NetworkManager to set up Wi-Fi with.",
            "Leave --wifi out, and set it in Raspberry Pi Imager.",
        )
    text = f"{HEADER}options cfg80211 ieee80211_regdom={wish.country}\n"
    host.write("/etc/modprobe.d/nodeagent-wifi.conf", text.encode())
    for radio in host.names(RFKILL):
        if radio.endswith(":wlan"):
            host.write(f"{RFKILL}/{radio}", b"0\n")
