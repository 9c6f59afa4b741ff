"""Takes secrets out of text that leaves the node.

Two nets: the very secrets of this node, wherever they turn up, and whatever looks like one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

GONE = "[removed]"
LEAST = 8  # characters; shorter ones would take half of the text away

# What looks like a secret: PEM keys and certificates' keys, their base64 as in a kubeconfig,
# bootstrap tokens (kubernetes.io, "Authenticating with Bootstrap Tokens"), JWTs (RFC 7519),
# passwords in an address (RFC 3986 3.2.1), password hashes (crypt(5)), values after a telling name.
SHAPES = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
               re.DOTALL),
    re.compile(r"LS0tLS1CRUdJT[A-Za-z0-9+/=\s]{20,}"),
    re.compile(r"(?<![A-Za-z0-9-])(?<![A-Za-z0-9]\.)[a-z0-9]{6}\.[a-z0-9]{16}(?![A-Za-z0-9-]|\.[A-Za-z0-9])"),
    re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(r"\$(?:y|gy|7|2[abxy]|6|5|1)\$[./A-Za-z0-9$,=]{8,}"),
)  # fmt: skip
# The name begins anywhere in a longer one, and is not looked for from each letter before it: that
# took minutes for a long line.
NAMED = re.compile(
    r"(?i)((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|psk"
    r"|authorization|client-key-data)[\w.-]{0,40}[\"']?\s{0,9}[:=]\s{0,9})"
    r"(\"[^\"\n]*\"|'[^'\n]*'|(?:bearer |basic )?[^\s,;\"']+)"
)
WHOLE_LINE = re.compile(
    r"(?im)^\s*[\"']?(?:psk|password|passphrase|wep-key\d|wep_key\d)[\"']?\s*[=:]\s*(.+?)\s*$"
)
# Words, and the ids of nodes and fleets, stand in secret files too and are none.
PLAIN = re.compile(r"[a-z.-]+|[nf]-[a-z2-7]{16}|[A-Za-z_]+|[0-9.:-]+")


def values(secret: bytes) -> set[str]:
    """The parts of a secret file that must not turn up anywhere: keys, tokens, passwords, and
    their base64. Certificates in it are no secrets, and stay."""
    said = secret.decode("utf-8", "replace").replace("\\n", "\n")
    said = re.sub(
        r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", "", said, flags=re.DOTALL
    )
    found = {one for one in re.findall(r"[A-Za-z0-9+/=_.$-]{16,}", said) if one[:5] != "-----"}
    found |= {one.strip("\"'") for one in WHOLE_LINE.findall(said)}
    found |= set(re.findall(r"://[^/\s:@]*:([^/\s@]+)@", said))
    for part in list(found):
        found |= _in_base64(part.encode())
        found |= _inside(part)
    return {one for one in found if len(one) >= LEAST and not PLAIN.fullmatch(one)}


def _in_base64(part: bytes) -> set[str]:
    """How it stands in a longer base64 text: by what is before it, one of three ways (RFC 4648 4).
    Characters that it shares with its neighbours are left out."""
    found = {base64.b64encode(part).decode().rstrip("=")}
    for before in range(3):
        text = base64.b64encode(bytes(before) + part).decode().rstrip("=")
        shared_last = (before + len(part)) % 3 > 0
        found.add(text[before + (before > 0) : len(text) - shared_last])
    return found


def _inside(part: str) -> set[str]:
    """What a base64 text holds, where that is text: the PEM in a kubeconfig."""
    try:
        text = base64.b64decode(part + "=" * (-len(part) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return set()
    if "CERTIFICATE" in text:
        return set()
    return set(re.findall(r"[A-Za-z0-9+/=_-]{16,}", text))


def text(said: str, secrets: Iterable[str] = ()) -> str:
    """``said`` without secrets. ``secrets`` are known ones, as ``values`` gives them."""
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, GONE)
    for shape in SHAPES:
        said = shape.sub(GONE, said)
    return NAMED.sub(lambda found: f"{found[1]}{GONE}", said)
