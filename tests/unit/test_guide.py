"""What teaches people: --help, completions, man pages, the documentation and its links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nodeagent.cli import help_text
from nodeagent.cli.main import main
from nodeagent.doctor import checkup
from tests import guide
from tests.guide import hook
from tests.guide.commands import visible
from tests.support.tools import tool

CHECKOUT = guide.CHECKOUT
DOCS = CHECKOUT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, *CHECKOUT.glob("*.md"), *(CHECKOUT / "cloud-init").glob("*.md"),
         *(CHECKOUT / "firmware").glob("*.md"), CHECKOUT / "tests" / "README.md"]  # fmt: skip


def commands(group: click.Group = main, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Path and command of all, hidden ones too."""
    for name, command in group.commands.items():
        path = f"{above} {name}".strip()
        yield path, command
        if isinstance(command, click.Group):
            yield from commands(command, path)


COMMANDS = dict(commands())
VISIBLE = {path: one for path, one in COMMANDS.items() if not one.hidden}


@pytest.mark.parametrize("name", guide.FILES)
def test_what_is_made_of_the_program_is_not_stale(name: str) -> None:
    path = CHECKOUT / name
    assert path.exists() and path.read_text() == guide.FILES[name](), f"{name}: run `make guide`"


def test_every_command_teaches() -> None:
    assert set(help_text.LESSONS) == set(VISIBLE), (
        "nodeagent/cli/help_text.py and the commands disagree"
    )
    for path in VISIBLE:
        done = CliRunner().invoke(main, [*path.split(), "--help"], terminal_width=80)
        text = " ".join(done.output.split())
        assert done.exit_code == 0 and help_text.LESSONS[path].when in text
        for command, what in help_text.LESSONS[path].examples:
            assert f"# {what} {command}" in text


EXAMPLES = [command for lesson in help_text.LESSONS.values() for command, _ in lesson.examples]


FIRST_BOARDS = (DOCS / "first-boards.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\n(.*?)^```", FIRST_BOARDS, re.DOTALL | re.MULTILINE))
TYPED = re.findall(r"^(?:sudo )?nodeagent .+$", BLOCKS, re.MULTILINE)


def test_the_first_boards_look_at_checks_that_there_are() -> None:
    rows = re.findall(r"^\| (?:Pi|any)[^|]*\| ([^|]*) \|", FIRST_BOARDS, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert len(named) > 4 and named <= {check.name for check in checkup.checks()}


@pytest.mark.parametrize("example", [*EXAMPLES, *TYPED])
def test_examples_are_commands_that_there_are(example: str) -> None:
    words = shlex.split(example.removeprefix("sudo "))
    if words[0] == "systemctl":
        assert (CHECKOUT / "systemd" / f"{words[2].removesuffix('.service')}.service").exists()
        return
    assert words.pop(0) == "nodeagent"
    command: click.Command = main
    context = click.Context(main, info_name="nodeagent")
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
        context = click.Context(command, parent=context, info_name=command.name)
    command.make_parser(context).parse_args(words)  # raises where there is no such option


def test_hidden_commands_stay_out_of_the_reference() -> None:
    assert {one.path for one in visible()} == set(VISIBLE)


@pytest.mark.processes
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str) -> None:
    """What the scripts in the package ask the program (click, "Shell Completion")."""
    for path in ("", "fleet", "image"):
        here = [one for one in VISIBLE if one.rpartition(" ")[0] == path]
        assert complete(shell, f"{path} " if path else "") == sorted(
            one.rpartition(" ")[2] for one in here
        )
    assert complete(shell, "explain E10") == [f"E10{n}" for n in range(7)]


def complete(shell: str, typed: str) -> list[str]:
    """What the program offers after `nodeagent` and what was typed."""
    line = f"nodeagent {typed}"
    words = line.split(" ")
    environ = {"_NODEAGENT_COMPLETE": f"{shell}_complete", "COMP_WORDS": line,
               "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1)}  # fmt: skip
    start = "from nodeagent.cli.main import main; main(prog_name='nodeagent')"
    done = subprocess.run(
        [sys.executable, "-c", start], env=environ, capture_output=True, text=True, check=True,
        cwd=CHECKOUT,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    if shell == "zsh":  # kind, value, help
        return sorted(lines[1::3])
    return sorted(re.split(r"[,\t]", line)[1] for line in lines)


@pytest.mark.processes
@pytest.mark.parametrize("name", ["nodeagent.1", "nodeagent.yaml.5"])
def test_man_pages_are_right(name: str) -> None:
    """groff warns of what it does not understand; lines that are too long are URLs and commands."""
    command = tool("groff", "Install it with: apt-get install groff-base")
    done = subprocess.run(
        [command, "-man", "-Tutf8", "-ww", "-z", str(CHECKOUT / "debian" / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


TESTS = {
    name
    for path in (CHECKOUT / "tests").rglob("*.py")
    for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_the_tests_that_are_named_exist(path: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", path.read_text()))
    assert named <= TESTS, f"{path.name} names {named - TESTS}"


def anchors(path: Path) -> set[str]:
    """Ids of a page's headings (Python-Markdown, toc, slugify; GitHub's are alike for these)."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", head).strip().lower() for head in heads)
    return {re.sub(r"[-\s]+", "-", head) for head in plain}


def test_every_page_is_in_the_menu_and_no_other() -> None:
    wanted = set(hook.listed(hook.there(hook.menu(), DOCS)))
    assert wanted == {str(path.relative_to(DOCS)) for path in PAGES}


def test_the_menu_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    for name in ("index.md", "security.md"):
        (tmp_path / name).touch()
    assert list(hook.listed(hook.there(hook.menu(), tmp_path))) == ["index.md", "security.md"]


@pytest.mark.parametrize(
    ("folder", "link", "shown"),
    [
        (".", "[README](../README.md)", "`README.md`"),
        ("how-to", "[SECURITY.md](../../SECURITY.md#promises)", "`SECURITY.md`"),
        (".", "[it](../nodeagent/status/events.py)", "it (`nodeagent/status/events.py`)"),
        ("how-to", "[E100](../errors.md#e100)", "[E100](../errors.md#e100)"),
        (".", "[a](b/../c.md), [d](https://e.example/../f)",
         "[a](b/../c.md), [d](https://e.example/../f)"),
    ],
)  # fmt: skip
def test_links_out_of_the_documentation_become_names(folder: str, link: str, shown: str) -> None:
    assert hook.inside(link, Path(folder)) == shown


@pytest.mark.processes
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=CHECKOUT,
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    elsewhere = re.compile(
        r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|"""
        r"""<link\b(?![^>]*\brel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//|"""
        r"""@import|url\(["']?(?:https?:)?//"""
    )
    read = 0
    for path in [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.css")]:
        read += 1
        assert not elsewhere.search(path.read_text()), path
    assert read > len(PAGES)


def test_the_tutorial_types_what_the_readme_has() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", (DOCS / "tutorial.md").read_text(), re.DOTALL | re.M)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert line.split("  ")[0] in readme, line
