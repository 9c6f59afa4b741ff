"""Checks of settings: each turns what a file said into a value, or says what would be right."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from nodeagent.config.yaml_lines import show

Check = Callable[[Any], Any]
LONGEST = 255  # characters; of a DNS name (RFC 1035 section 2.3.4), ample for the rest


class Wrong(ValueError):
    """The value does not fit; ``remedy`` says what would."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


def one_of(*allowed: str, gone: Mapping[str, str] | None = None) -> Check:
    """One word of a list; ``gone``: words that people know from elsewhere, each with why it is not
    there and what to write."""

    def check(value: Any) -> str:
        if isinstance(value, str) and gone and value in gone:
            raise Wrong(f"is {show(value)}", gone[value])
        if not isinstance(value, str) or value not in allowed:
            raise Wrong(f"is {show(value)}", f"Write one of: {', '.join(allowed)}.")
        return value

    return check


def integer(lowest: int, highest: int) -> Check:
    """A whole number in a range, both ends allowed; files say it in decimal digits."""

    def check(value: Any) -> int:
        text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if not re.fullmatch(r"0|[1-9][0-9]{0,8}", text) or not lowest <= int(text) <= highest:
            raise Wrong(f"is {show(value)}", f"Write a whole number from {lowest} to {highest}.")
        return int(text)

    return check


def _pattern(expression: str, right: str) -> Check:
    compiled = re.compile(expression)

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > LONGEST or not compiled.fullmatch(value):
            raise Wrong(f"is {show(value)}", right)
        return value

    return check


def kubernetes(minors: Sequence[str]) -> Check:
    """One of these minors, such as 1.36, or one release of them, such as 1.36.5 (semver.org)."""
    known = "|".join(map(re.escape, minors))
    return _pattern(
        rf"({known})(\.[0-9]{{1,3}})?",
        f"Write one of {', '.join(minors)}, or one release of it, such as {minors[0]}.1.",
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


_UNITS = {"m": 60, "h": 3600, "d": 86400}
span = _pattern(r"[1-9][0-9]{0,3}[mhd]|off", "Write a time such as 30m, 24h or 7d, or off.")


def seconds(span_text: str) -> int:
    """The seconds in what ``span`` let pass; off is 0."""
    return 0 if span_text == "off" else int(span_text[:-1]) * _UNITS[span_text[-1]]


def url(value: Any) -> str:
    """An http or https address without user, query or fragment (RFC 3986)."""
    right = "Write an address such as https://mirror.example/kubernetes."
    if (
        not isinstance(value, str)
        or len(value) > LONGEST
        or not re.fullmatch(r"https?://[A-Za-z0-9._~:/\[\]%+-]+", value)
    ):
        raise Wrong(f"is {show(value)}", right)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            ipaddress.IPv6Address(host)
    except ValueError as error:
        raise Wrong(f"is {show(value)}", right) from error
    if port == 0 or not re.fullmatch(r"[a-z0-9:]([a-z0-9.:-]*[a-z0-9:])?", host) or ".." in host:
        raise Wrong(f"is {show(value)}", right)
    return value.rstrip("/")


def manifest(value: Any) -> str:
    """An absolute path, or an http or https address (``url``)."""
    if isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9._+-]{1,255}){1,16}", value):
        return value
    try:
        return url(value)
    except Wrong as wrong:
        raise Wrong(
            f"is {show(value)}",
            "Write a path such as /boot/firmware/network.yaml, or an address such as"
            " https://example.org/network.yaml.",
        ) from wrong


sha256 = _pattern(
    r"[0-9a-f]{64}", "Write the 64 hexadecimal digits that `sha256sum` prints for the file."
)


def network(four: tuple[int, int], six: tuple[int, int]) -> Check:
    """An IPv4 or IPv6 network in CIDR notation, its host bits zero, its prefix in a range.

    kubeadm refuses pod networks with fewer than 8 bits, or without room for a node's /24, and
    service networks with fewer than 12 bits or without room for ten addresses. Of IPv6 a node gets
    a /64 out of at most 65536, and Services have 20 bits at most
    (k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/validation, ValidateNetworking).
    """

    def check(value: Any) -> str:
        right = (
            f"Write a network such as 10.244.0.0/16, its prefix from {four[0]} to {four[1]}, or "
            f"such as fd00:10:244::/56, its prefix from {six[0]} to {six[1]}."
        )
        try:
            if not isinstance(value, str) or not re.fullmatch(
                r"([0-9.]{7,15}|[0-9A-Fa-f:]{3,39})/[0-9]{1,3}", value
            ):
                raise ValueError("not CIDR notation")
            result = ipaddress.ip_network(value)
        except ValueError as error:
            raise Wrong(f"is {show(value)}", right) from error
        shortest, longest = four if result.version == 4 else six
        if not shortest <= result.prefixlen <= longest or _odd(result.network_address):
            raise Wrong(f"is {show(value)}", right)
        return str(result)

    return check


def overlap(first: str, second: str) -> bool:
    """True where two networks in CIDR notation share addresses."""
    return ipaddress.ip_network(first).overlaps(ipaddress.ip_network(second))


def addresses(value: Any) -> tuple[str, ...]:
    """A list of IP addresses; names are refused because .local names do not resolve in time."""
    right = "Write a list of IP addresses such as [192.168.1.10]."
    if not isinstance(value, list) or len(value) > 64:
        raise Wrong(f"is {show(value)}", right)
    try:
        return tuple(_address(item) for item in value)
    except ValueError as error:
        raise Wrong(f"has a bad address: {error}", right) from error


def _address(item: Any) -> str:
    try:
        address = ipaddress.ip_address(item if isinstance(item, str) else "")
    except ValueError as error:
        raise ValueError(show(item)) from error
    if address.version == 6 and address.is_link_local:
        raise ValueError(f"{address} reaches no further than its link, and no cluster uses it")
    if _odd(address):
        raise ValueError(f"{address} is no machine's own")
    return str(address)


def _odd(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_multicast or address.is_loopback or address.is_unspecified


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown key."""
    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"Known here: {', '.join(known)}."
