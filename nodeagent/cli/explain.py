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
def explain(code: str | None) -> None:
    """Say what an error code means. Without one, list all codes."""
    for line in lines(code):
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
