"""``nodeagent explain``: the table of errors, for people."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

import click

from nodeagent.cli.help import Taught
from nodeagent.errors import TABLE, Usage


def error_codes(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """What a shell completes for an error code."""
    return [code for code in TABLE if code.startswith(typed.upper())]


@click.command(cls=Taught)
@click.argument("code", required=False, shell_complete=error_codes)
@click.option(
    "--recipe", is_flag=False, flag_value="en", metavar="[en|pt]", type=click.Choice(["en", "pt"]),
    help="Each step of a kubeadm tutorial, and what became of it on this node.",
)  # fmt: skip
def explain(code: str | None, recipe: str | None) -> None:
    """Say what an error code means, or what became of a kubeadm tutorial's steps."""
    if recipe is not None and code is not None:
        raise Usage("`explain` tells of a code or of the recipe.", "Leave one of the two out.")
    if recipe is not None:
        from nodeagent.doctor import recipe as tutorial
        from nodeagent.host.host import Host

        told = tutorial.lines(Host(), recipe)
    else:
        told = lines(code)
    for line in told:
        click.echo(line)


def lines(asked: str | None = None) -> Iterator[str]:
    """What to print of a code; without one, all of them by their titles. Raises Usage for what
    is not a code."""
    if asked is None:
        yield from (f"{code}  {known.title}" for code, known in TABLE.items())
        return
    code = f"E{asked.strip().upper().removeprefix('E')}"
    if code not in TABLE:
        raise Usage(f"There is no error code {asked!r}.", "`nodeagent explain` lists them all.")
    yield f"{code}: {TABLE[code].title}"
    text = wrap(TABLE[code].explanation, 76, break_on_hyphens=False)
    yield from (f"  {line}" for line in text)
