"""What is taken from elsewhere to build and test is pinned; nothing of it is in the package."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LOCKS = sorted((CHECKOUT / ".ci").glob("requirements-*.txt"))
OF_THE_SYSTEM = {"netifaces", "systemd-python"}
PLACES = (".ci/", "debian/", "image/", "tests/", "nodeagent/", "Makefile")
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][^ ;\\]*)", re.M)


def tracked() -> list[str]:
    """Every file of the repository."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    return listed.stdout.splitlines()


def pip_calls() -> Iterator[tuple[str, str]]:
    """(file, line) of whatever runs `pip install`, or the like."""
    own = Path(__file__).relative_to(CHECKOUT).as_posix()
    runs = re.compile(
        r"\bpip3?[\"', ]+(?:install|download|wheel)\b|\bpipx |\beasy_install\b|ensurepip"
        r"|\buv[\"', ]+(?:pip i|sync|run|tool)"
    )
    for name in tracked():
        if name == own or not (CHECKOUT / name).is_file() or name.endswith((".md", ".patch")):
            continue
        if name.startswith(PLACES):
            text = (CHECKOUT / name).read_text(errors="replace")
            yield from ((name, line) for line in text.splitlines() if runs.search(line))


@pytest.mark.processes
def test_nothing_from_pypi_is_taken_without_a_hash() -> None:
    """Who publishes a package there today would else run as whoever builds here tomorrow."""
    calls = list(pip_calls())
    assert len(calls) == 2, "the two of the Makefile, and no other"
    for name, line in calls:
        assert name == "Makefile"
        pinned = "--require-hashes" in line and "--only-binary :all:" in line
        # Ours needs nothing: what builds it is in the lock too.
        own = all(f"--{word}" in line for word in ("no-deps", "no-index", "no-build-isolation"))
        assert pinned or own, line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_line_of_a_lock_has_hashes_and_names_no_place(lock: Path) -> None:
    text = lock.read_text()
    blocks = [one for one in re.sub(r"\\\n", " ", text).splitlines() if one and one[0] != "#"]
    assert blocks
    for block in blocks:
        assert PIN.match(block) and "--hash=sha256:" in block, block
        assert re.fullmatch(r"(--hash=sha256:[0-9a-f]{64} *)+", block[block.index("--hash") :])
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def names(requirements: list[str]) -> set[str]:
    """Of the packages, as PyPI spells them (PEP 503)."""
    found = {re.split(r"[<>=;\[ ]", one)[0] for one in requirements}
    return {plain(one) for one in found} - OF_THE_SYSTEM


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> dict[str, str]:
    """Package -> version."""
    text = (CHECKOUT / f".ci/requirements-{name}.txt").read_text()
    return {plain(key): version for key, version in PIN.findall(text)}


def test_the_locks_are_those_of_the_project() -> None:
    """Else: make lock."""
    content = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    project = content["project"]
    extras, direct = project["optional-dependencies"], project["dependencies"]
    built = content["build-system"]["requires"]
    for part in ("dev", "oldest"):
        assert names([*built, *direct, *extras["dev"]]) <= set(locked(part))
    assert names(extras["fuzz"]) == set(locked("fuzz"))
    oldest = locked("oldest")
    for name, floor in re.findall(r"([\w-]+)>=([\d.]+)", "\n".join(direct)):
        assert plain(name) in OF_THE_SYSTEM or oldest[plain(name)] == floor


def test_the_package_is_built_before_and_without_anything_from_pypi() -> None:
    """In a copy of what is committed or new, by the distribution's Python, told to look at nothing
    of this computer's users; CI builds it first."""
    makefile = (CHECKOUT / "Makefile").read_text()
    rule = makefile[makefile.index("$(DEB): ") :].partition("\n\n")[0]
    assert "$(VENV)" not in rule and "venv" not in rule.splitlines()[0]
    assert "env -i" in rule and "PATH=/usr/sbin:/usr/bin:/sbin:/bin" in rule
    assert "PYTHONNOUSERSITE=1" in rule and "PYTHONSAFEPATH" not in rule
    stages = re.findall(r'^stage \d+ "([^"]+)"', (CHECKOUT / ".ci/run").read_text(), re.M)
    assert stages[0] == "Debian package"
