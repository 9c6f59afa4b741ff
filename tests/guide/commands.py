"""The commands as data, read out of click: what man page and reference page are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from nodeagent.cli import help_text
from nodeagent.cli.main import main


@dataclass(frozen=True)
class Command:
    """``path``: the words after `nodeagent`; ``usage``: what follows them; ``options``: each with
    its help."""

    path: str
    usage: str
    about: str
    options: tuple[tuple[str, str], ...]
    is_group: bool
    lesson: help_text.Lesson


def visible(group: click.Group = main, above: str = "nodeagent") -> Iterator[Command]:
    """All that are not hidden, in the order of `--help`, groups before what is below them."""
    parent = click.Context(group, info_name=above)
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        if command.hidden:
            continue
        path = f"{above} {name}".removeprefix("nodeagent ")
        is_group = isinstance(command, click.Group)
        context = click.Context(command, info_name=name, parent=parent)
        options = [
            one.get_help_record(context) for one in command.params if isinstance(one, click.Option)
        ]
        yield Command(
            path,
            "COMMAND [ARGS]..." if is_group else " ".join(pieces(command, context)),
            " ".join((command.help or "").split()),
            tuple(record for record in options if record),
            is_group,
            help_text.LESSONS[path],
        )
        if isinstance(command, click.Group):
            yield from visible(command, f"{above} {name}")


def pieces(command: click.Command, context: click.Context) -> list[str]:
    """The usage line; [OPTIONS] only where there are any."""
    own = any(isinstance(one, click.Option) for one in command.params)
    return [one for one in command.collect_usage_pieces(context) if own or one != "[OPTIONS]"]
