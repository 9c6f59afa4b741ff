"""Checks of settings: each turns what a file said into a value, or says what would be right."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from nodeagent.errors import ConfigError

Check = Callable[[Any], Any]


class Wrong(ValueError):
    """The value does not fit; ``remedy`` says what would."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


def one_of(*allowed: str) -> Check:
    """One word of a list."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise Wrong(f"is {value!r}", f"Write one of: {', '.join(allowed)}.")
        return value

    return check


def integer(lowest: int, highest: int) -> Check:
    """A whole number in a range, both ends allowed."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise Wrong(f"is {value!r}", f"Write a whole number from {lowest} to {highest}.")
        return value

    return check


def _pattern(expression: str, right: str) -> Check:
    compiled = re.compile(expression)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise Wrong(f"is {value!r}", right)
        return value

    return check


# A minor like 1.36, or one release like 1.36.5, of Kubernetes 1.x (semver.org).
kubernetes_version = _pattern(
    r"1\.[0-9]{1,3}(\.[0-9]{1,3})?", 'Write a release in quotes, for example "1.36" or "1.36.5".'
)
_hex40 = _pattern(
    r"[0-9A-F]{40}", "Write the 40 hexadecimal digits that `gpg --show-keys` prints for the key."
)


def fingerprint(value: Any) -> Any:
    """An OpenPGP v4 fingerprint; spaces and lower case are accepted as gpg prints them."""
    return _hex40(value.replace(" ", "").upper() if isinstance(value, str) else value)


# DNS label of RFC 1123 section 2.1 as Kubernetes wants node names; no dots here, so that it is a
# hostname too.
node_name = _pattern(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    "Write small letters, digits and dashes, at most 63, for example kitchen-pi.",
)
# ifname of Linux: at most 15 characters, no slash or space (linux/if.h, IFNAMSIZ).
interface = _pattern(r"[A-Za-z0-9._-]{1,15}", "Write an interface name such as eth0, or auto.")
# Image names as in the distribution reference grammar: host[:port][/path].
image_repository = _pattern(
    r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*",
    "Write a registry such as registry.example:5000/kubernetes, without https://.",
)


def url(value: Any) -> str:
    """An http or https address without user, query or fragment (RFC 3986)."""
    right = "Write an address such as https://mirror.example/kubernetes."
    if not isinstance(value, str) or not re.fullmatch(r"https?://[!-~]+", value):
        raise Wrong(f"is {value!r}", right)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise Wrong(f"is {value!r}", right) from error
    if not parts.hostname or parts.username or parts.query or parts.fragment or port == 0:
        raise Wrong(f"is {value!r}", right)
    return value.rstrip("/")


def network(value: Any) -> str:
    """An IPv4 network in CIDR notation, its host bits zero."""
    try:
        return str(ipaddress.IPv4Network(value if isinstance(value, str) else ""))
    except ValueError as error:
        raise Wrong(f"is {value!r}", "Write a network such as 10.244.0.0/16.") from error


def networks_apart(first: str, second: str) -> None:
    """Raises ConfigError where the two networks overlap."""
    if ipaddress.ip_network(first).overlaps(ipaddress.ip_network(second)):
        raise ConfigError(
            f"`network.pod_cidr` {first} and `network.service_cidr` {second} overlap.",
            "Choose two networks that share no address.",
        )


def addresses(value: Any) -> tuple[str, ...]:
    """A list of IP addresses; names are refused because .local names do not resolve in time."""
    if not isinstance(value, list) or len(value) > 64:
        raise Wrong(f"is {value!r}", "Write a list such as [192.168.1.10].")
    try:
        return tuple(str(ipaddress.ip_address(item)) for item in map(_text, value))
    except ValueError as error:
        right = "Write a list such as [192.168.1.10]."
        raise Wrong(f"has a bad address: {error}", right) from error


def _text(item: Any) -> str:
    if not isinstance(item, str):
        raise ValueError(f"{item!r} is not an address")
    return item


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown key."""
    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"Known here: {', '.join(known)}."
