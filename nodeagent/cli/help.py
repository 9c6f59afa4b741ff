"""How every command's ``--help`` ends: when to use it, with examples. And what a group of commands
for people's own computers tells of files."""

from __future__ import annotations

from typing import Any

import click

from nodeagent.errors import of_command


class Taught(click.Command):
    """Its ``--help`` ends with when to use it and examples, out of ``help_text.LESSONS``."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        teach(ctx, formatter)


class TaughtGroup(click.Group):
    """The same for a group, and for all that is below it."""

    command_class = Taught
    group_class = type  # groups below are of this class too

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them after the list of commands."""
        super().format_epilog(ctx, formatter)
        teach(ctx, formatter)


def teach(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the end of a command's ``--help``."""
    from nodeagent.cli import help_text

    known = help_text.LESSONS.get(ctx.command_path.partition(" ")[2])
    if known is None:
        return
    with formatter.section("When to use it"):
        formatter.write(click.wrap_text(known.when, formatter.width, "  ", "  ") + "\n")
    with formatter.section("Examples" if known.examples[1:] else "Example"):
        for command, what in known.examples:
            formatter.write(f"  # {what}\n  {command}\n")


class _OfFiles(click.Command):
    """Tells of files that cannot be used; ``on_node``: they are the system's."""

    on_node = True

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Raises NotPermitted, FileFailed, NoRoom for files that cannot be used."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise of_command(error, on_node=self.on_node) from error


class OnNode(_OfFiles, Taught):
    """A command that is typed on a node, in a group of commands that are not."""


class OwnComputer(_OfFiles, TaughtGroup):
    """Commands that work on a person's own files, where root is no help."""

    on_node = False
