"""The command line about fleets, for a person's own computer; `fleet off` is in members.py."""

from __future__ import annotations

from pathlib import Path

import click

from nodeagent.cli.help import OwnComputer


@click.group(cls=OwnComputer)
def fleet() -> None:
    """Make the files that say which cards belong together; switch all boards off."""


@fleet.command("new")
@click.argument("name")
@click.option(
    "--out",
    default=".",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder for the files; the current one by default.",
)
@click.option(
    "--split", is_flag=True, help="Two card files: one for the board that leads, one for workers."
)
@click.option(
    "--approve", is_flag=True, help="Split too, and a person approves each worker by its code."
)
@click.option(
    "--lead-cards",
    default=1,
    metavar="NUMBER",
    type=click.IntRange(1, 1000),
    help="How many boards get the first of the two; with expected_nodes they vote. 1 by default.",
)
def fleet_new(name: str, out: Path, split: bool, approve: bool, lead_cards: int) -> None:
    """Make a fleet called NAME: NAME.fleet to keep, nodeagent.fleet for every card."""
    from nodeagent.imaging import fleet_new as fleetfile

    for line in fleetfile.create(name, out, split, approve, lead_cards):
        click.echo(line)


@fleet.command("show")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def fleet_show(file: Path) -> None:
    """Say which fleet FILE is of and what it holds; never a key."""
    from nodeagent.imaging import fleet_files

    for line in fleet_files.show(file):
        click.echo(line)
