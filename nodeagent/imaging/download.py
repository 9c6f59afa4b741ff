"""``nodeagent image fetch``: an image from its publisher, resumed after an interruption, and
kept under its name only when its SHA-256 is the one that was expected.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import unquote, urljoin, urlsplit

import requests

from nodeagent.errors import AlreadyExists, FetchFailed, NoRoom, Usage
from nodeagent.host.actions import cause
from nodeagent.imaging.progress import Progress, Tell
from nodeagent.imaging.rootfs import MIB

PART = ".part"  # what is there so far of a file, beside where it will be
TRIES = 5  # in a row without a byte more
TIMES = (10, 60)  # seconds to connect, and without a byte
SLOWEST = 600.0  # seconds for a MiB
MAX_SUMS = MIB
# Whole bytes of the file itself, not packed once more on the way (RFC 9110, 8.4 and 14.2).
PLAIN = {"Accept-Encoding": "identity"}
_HASH = re.compile(r"[0-9a-f]{64}")
_GO_ON = "Run the same command again: it goes on where it ended."


def fetch(url: str, out: Path | None, sha256: str | None, tell: Tell) -> list[str]:
    """Fetch ``url`` into the file or folder ``out`` (the current folder by default); lines for
    people. ``sha256`` is the hash in hex; without, the publisher's own list is asked for it.

    Raises Refused, FetchFailed, OSError. Where it raises there is no file under the name; what
    had come stays beside it, unless it was wrong.
    """
    target = _target(url, out)
    with _session() as session:
        expected = _given(sha256) if sha256 else _published(session, url)
        if target.exists():
            if _hash(target, tell) != expected:
                raise AlreadyExists(
                    f"{target} is already there, and is another file.",
                    "Move it away, or name another with --out.",
                )
            return [f"{target} is there already, whole"]
        part = target.with_name(target.name + PART)
        _complete(session, url, part, tell)
    found = _hash(part, tell)
    if found != expected:
        part.unlink()
        raise FetchFailed(
            f"{url} gave a file with the SHA-256 {found}, and {expected} was expected. It was not"
            " kept.",
            "Run the command again. If that repeats, look at the address, the hash, and what stands"
            " between.",
        )
    part.rename(target)
    return [f"{target} ({target.stat().st_size // MIB} MiB), SHA-256 {expected}"]


def _target(url: str, out: Path | None) -> Path:
    """Where the file goes. Raises Refused."""
    split = urlsplit(url)
    name = PurePosixPath(unquote(split.path)).name
    if split.scheme != "https" or not split.hostname or not name or "\0" in name:
        raise Usage(f"{url} is no https address of a file.", "Copy it from the publisher's page.")
    if out is None:
        return Path(name)
    return out / name if out.is_dir() else out


def _session() -> requests.Session:
    """HTTPS and nothing else, also where an answer leads elsewhere."""
    session = requests.Session()
    del session.adapters["http://"]
    session.headers.update(PLAIN)
    return session


def _given(sha256: str) -> str:
    """Raises Refused."""
    if not _HASH.fullmatch(sha256.lower()):
        raise Usage(f"{sha256} is no SHA-256.", "It has 64 digits from 0 to 9 and a to f.")
    return sha256.lower()


def _published(session: requests.Session, url: str) -> str:
    """The hash as sha256sum(1) writes it, where publishers put it: Raspberry Pi OS beside the
    image, Ubuntu in one list for its folder. Raises Refused, FetchFailed."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    for place in (urljoin(url, urlsplit(url).path + ".sha256"), urljoin(url, "SHA256SUMS")):
        for line in _text(session, place).splitlines():
            found, _, of = line.strip().partition(" ")
            if _HASH.fullmatch(found) and of.lstrip(" *").rpartition("/")[2] in (name, ""):
                return found
    raise Usage(
        f"The publisher of {url} has no list of hashes beside it.",
        "Name the file's SHA-256 with --sha256.",
    )


def _text(session: requests.Session, url: str) -> str:
    """A small file; empty where there is none. Raises FetchFailed."""
    try:
        with session.get(url, timeout=TIMES, stream=True) as answer:
            if answer.status_code in (403, 404):  # some stores answer 403 for what is not there
                return ""
            answer.raise_for_status()
            pieces = answer.iter_content(MAX_SUMS)
            data = _in_time(lambda: next(pieces, b""))
            return data.decode("ascii", "replace")
    except requests.RequestException as error:
        raise _failed(url, error) from error


def _complete(session: requests.Session, url: str, part: Path, tell: Tell) -> None:
    """Fetch what ``part`` lacks. Raises FetchFailed, Refused, OSError."""
    vain = 0
    while True:
        before = _size(part)
        try:
            _more(session, url, part, tell)
            return
        except requests.RequestException as error:
            vain = 0 if _size(part) > before else vain + 1
            answer = error.response
            gone = answer is not None and 400 <= answer.status_code < 500
            if gone or vain == TRIES or isinstance(error, requests.exceptions.InvalidSchema):
                raise _failed(url, error) from error


def _more(session: requests.Session, url: str, part: Path, tell: Tell) -> None:
    """One request, for the rest only where there is a part (RFC 9110, 14). Raises
    requests.RequestException where it ends early, Refused, OSError."""
    there = _size(part)
    asked = {"Range": f"bytes={there}-"} if there else {}
    with session.get(url, headers=asked, timeout=TIMES, stream=True) as answer:
        if answer.status_code == 416:  # nothing after what is there; the hash tells if it is whole
            return
        answer.raise_for_status()
        goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {there}-"
        )
        if not goes_on:
            there = 0
        length = _length(url, answer)
        if length > shutil.disk_usage(part.parent).free:
            raise NoRoom(
                f"{part.parent} has no room: {length // MIB} MiB are still to come.",
                "Make room, or name a place with more by --out.",
            )
        with part.open("ab" if goes_on else "wb") as file:
            stage, got = f"fetching {part.name.removesuffix(PART)}", 0
            tell(Progress(stage, there, there + length))
            pieces = answer.iter_content(MIB)
            while piece := _in_time(lambda: next(pieces, b"")):
                file.write(piece)
                got += len(piece)
                tell(Progress(stage, there + got, there + length))
        if got < length:  # requests does not mind before its version 2.32
            raise requests.exceptions.ChunkedEncodingError(f"{length - got} bytes are missing")


def _length(url: str, answer: requests.Response) -> int:
    """How many bytes are to come. Raises FetchFailed where that is not said: nobody could tell
    whether there is room, and such an answer need never end."""
    said = answer.headers.get("Content-Length", "")
    if not re.fullmatch("[0-9]{1,15}", said):
        raise FetchFailed(
            f"{url} does not say how long the file is.", "Take it from the publisher's own address."
        )
    return int(said)


def _in_time(work: Callable[[], bytes]) -> bytes:
    """The piece that ``work`` waits for. Raises requests.RequestException where it takes longer
    than any network that is of use: a byte now and then would never end."""

    def late(*_: object) -> NoReturn:
        raise requests.exceptions.ReadTimeout(f"not a MiB came in {SLOWEST:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _hash(path: Path, tell: Tell) -> str:
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while piece := file.read(MIB):
            digest.update(piece)
            done += len(piece)
            tell(Progress("comparing the hash", done, size))
    return digest.hexdigest()


def _failed(url: str, error: requests.RequestException) -> FetchFailed:
    answer = error.response
    if answer is not None:
        why = f"the answer was {answer.status_code} {answer.reason}"
    elif isinstance(error, requests.exceptions.InvalidSchema):
        why = "it leads to an address without https"
    else:
        why = cause(error)
    remedy = f"Check the address and the network. {_GO_ON}"
    return FetchFailed(f"{url} could not be fetched: {why}.", remedy)
