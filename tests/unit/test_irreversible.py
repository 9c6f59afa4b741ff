"""The page of acts that cannot be undone has every one of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs/reference/irreversible.md"
PRODUCT = CHECKOUT / "nodeagent"
# What acts by these is looked for among their callers.
TOOLS = ("host/durable.py", "host/host.py", "cluster/kubectl.py")
CALLS = frozenset({
    "shred", "scrub", "overwrite", "rmtree", "remove_trees", "drop_issuer", "delete_node",
    "delete_text", "drain", "NewHostKeys", "reboot", "power_off",
})  # fmt: skip
# Commands by their words, in what is given to one of these.
RUNNERS = frozenset({"run", "call", "_call", "Run", "Apt", "Popen", "confined", "start"})
COMMANDS = re.compile(
    r"(kubeadm reset|rm -r?f|ip link delete|nft delete|kubectl .*\bdelete|unshare rm|mke2fs|mkfs"
    r"|delete node|replace --force|sfdisk -|dd |wipefs|growpart|DELETE |piboot-try --reboot"
    r"|systemctl (reboot|poweroff|halt|kexec)|(reboot|poweroff|halt|shutdown)\b"
    r"|(apt-get|apt|dpkg) .*(remove|purge|autoremove))"
)
SHELL = re.compile(
    r"^\s*[^#\n]*(\brm -r|\bmk(e2)?fs|growpart|sfdisk|dd of=|wipefs|poweroff|shutdown|halt\b)", re.M
)
READS = ("sfdisk --json",)


def acts() -> Iterator[str]:
    """``FILE: FUNCTION`` of each act, or the file of a script."""
    for path in sorted(PRODUCT.rglob("*.py")):
        name = path.relative_to(PRODUCT).as_posix()
        if name not in TOOLS:
            yield from (f"{name}: {where}" for where in _of(ast.parse(path.read_text()), ""))
    scripts = [*PRODUCT.rglob("*.sh"), *(CHECKOUT / "debian").glob("nodeagent.p*"),
               *(CHECKOUT / "image").rglob("*")]  # fmt: skip
    for path in scripts:
        if path.is_file() and path.suffix != ".md" and SHELL.search(path.read_text()):
            below = PRODUCT if path.is_relative_to(PRODUCT) else CHECKOUT
            yield path.relative_to(below).as_posix()


def _of(node: ast.AST, function: str) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        function = node.name
    if isinstance(node, ast.Call) and function and _is_act(node):
        yield function
    for child in ast.iter_child_nodes(node):
        yield from _of(child, function)


def _is_act(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = " ".join(
        one.value
        for argument in call.args
        for one in ast.walk(argument)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    )
    runs = name in RUNNERS and not words.startswith(READS)
    return name in CALLS or bool(runs and COMMANDS.match(words))


def rows() -> list[list[str]]:
    """The cells of the table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    return [line.strip("| ").split(" | ") for line in lines]


def test_what_cannot_be_undone_is_listed() -> None:
    listed = [where for row in rows() for where in re.findall("`([^`]+)`", row[3])]
    assert sorted(set(acts())) == sorted(listed)


def test_what_is_looked_at_first_is_tested() -> None:
    """That the named tests exist is looked at with all pages."""
    for what, first, tests, _ in rows():
        assert first.strip() and tests.startswith("`test_"), what
