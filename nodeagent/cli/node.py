"""The command line on a node, about that node."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nodeagent import paths
from nodeagent.cli.help import Taught
from nodeagent.errors import StatusUnreadable

COLOURS = {"warning": "yellow", "failure": "red"}  # click leaves them out where no terminal is


@click.command(cls=Taught)
@click.option("--json", "as_json", is_flag=True, help="Print the status for scripts.")
@click.option("--watch", is_flag=True, help="Go on showing it, live, until Ctrl-C.")
def status(as_json: bool, watch: bool) -> None:
    """What this node is doing. Exit: 0 ready, 1 on its way or ready with a problem, 2 needs help,
    3 not running."""
    import json

    from nodeagent.host.host import Host
    from nodeagent.status import model
    from nodeagent.status import text as statustext

    terminal = sys.stdout.isatty()
    host = Host()
    colour = terminal and not host.environ.get("NO_COLOR")  # no-color.org
    if watch:
        for piece in statustext.watch(model.read, terminal, colour, host.clock):
            click.echo(piece, nl=False, color=colour)
    try:
        current = model.read()
    except FileNotFoundError:
        if as_json:
            click.echo(json.dumps({"phase": "not-running"}))
        start = "nodeagent is not running. Start it with: sudo systemctl start nodeagent"
        click.echo(start, err=as_json)
        sys.exit(model.NOT_RUNNING)
    except ValueError as error:
        raise StatusUnreadable(f"{paths.STATUS} is damaged.", model.RESTART) from error
    alive = model.running(current)
    if not alive:
        click.echo("nodeagent is not running; this is what it said last.", err=True)
    text = model.dump(current) if as_json else statustext.render(current, host.clock.now(), colour)
    click.echo(text, nl=as_json, color=colour)
    sys.exit(model.exit_code(current) if alive else model.NOT_RUNNING)


@click.command(cls=Taught)
@click.option("--json", "as_json", is_flag=True, help="Print the findings for scripts.")
@click.option("--online", is_flag=True, help="Ask the repositories and registries too.")
@click.option("-v", "--verbose", is_flag=True, help="Say of everything why it matters.")
def doctor(as_json: bool, online: bool, verbose: bool) -> None:
    """Check all that the agent relies on. Exit: 0 all is well, 1 warnings, 2 failures."""
    from nodeagent import doctor as checkup
    from nodeagent.host.host import Host

    host = Host()
    findings = checkup.examine(host, online)
    if as_json:
        name = (host.text(paths.KERNEL_HOSTNAME) or "").strip()
        click.echo(checkup.as_json(findings, name, host.clock.now()))
    else:
        for level, line in checkup.as_text(findings, verbose):
            click.secho(line, fg=COLOURS.get(level))
    sys.exit(checkup.exit_code(findings))


@click.command(cls=Taught)
@click.option("--control-plane", "wish", flag_value="control-plane", help="Lead the cluster.")
@click.option("--worker", "wish", flag_value="worker", help="Join and run workloads only.")
@click.option("--auto", "wish", flag_value="auto", help="Let the fleet decide (the default).")
@click.option("--end-cluster", is_flag=True, help="Even where its cluster is lost by that.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def role(wish: str | None, end_cluster: bool, yes: bool) -> None:
    """Show this node's role, or choose it, also afterwards: it leaves its cluster then."""
    from nodeagent.agent import change_role
    from nodeagent.host.host import Host

    if not wish:
        click.echo(change_role.show(Host()))
        return
    foreseen = change_role.foresee(Host(), wish, end_cluster)
    for line in foreseen.lines:
        click.echo(line)
    if foreseen.leaves and not yes:
        click.confirm("Go on?", abort=True)
    click.echo(change_role.begin(Host(), foreseen))


@click.command(cls=Taught)
def plan() -> None:
    """Print what the agent would do now; changes nothing. Exit: 0 nothing to do, 1 something."""
    from nodeagent.host.host import Host
    from nodeagent.steps.show import show_plan

    lines, pending = show_plan(Host())
    click.echo("\n".join(lines))
    sys.exit(1 if pending else 0)


@click.command(cls=Taught)
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A mounted or unpacked image; its boot partition at DIR/boot/firmware.",
)
@click.option("--step", "name", help="Only this step.")
def prepare(root: Path, name: str | None) -> None:
    """Do the file actions of the steps on an image. Exit 0 when the steps now hold."""
    from nodeagent.steps import show

    for line in show.prepare(root, name):
        click.echo(line)


@click.command(cls=Taught)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events(as_json: bool) -> None:
    """The milestones of this node. Over all boots that the system's journal keeps."""
    import json

    from nodeagent.host.host import Host
    from nodeagent.status import eventlog, model

    host = Host()
    found = eventlog.read(host)
    if not found:
        try:
            found = eventlog.of_this_boot(model.read())
        except (FileNotFoundError, ValueError):
            found = []
        hint = "" if host.is_root else " to this user; with sudo it may"
        click.echo(f"The system's journal shows no events of this node{hint}.", err=True)
    for line in map(json.dumps, found) if as_json else eventlog.as_text(found):
        click.echo(line)


@click.command(cls=Taught)
@click.option(
    "--out",
    default=".",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder for the file; the current one by default.",
)
def report(out: Path) -> None:
    """Make one file for somebody who helps you. Secrets are taken out of it."""
    from nodeagent.doctor import report as bundle
    from nodeagent.host.host import Host

    path = bundle.make(Host(), str(out.resolve()), lambda part: click.echo(f"  {part}", err=True))
    click.echo(path)


@click.command(cls=Taught)
def config() -> None:
    """Show each setting, its value and where it came from."""
    from nodeagent.config.show import show_config
    from nodeagent.host.host import Host

    for line in show_config(Host()):
        click.echo(line)


@click.command(cls=Taught)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--identity", "--forget-fleet", "identity", is_flag=True,
    help="Forget who the board was too: the fleet's keys, its own, its name.",
)  # fmt: skip
def reset(yes: bool, identity: bool) -> None:
    """Leave the cluster and undo the preparation; the agent stays off until it is enabled."""
    from nodeagent.agent import reset as procedure
    from nodeagent.host.host import Host

    for line in procedure.what_is_lost(Host(), identity):
        click.echo(line)
    if not yes:
        click.confirm("Go on?", abort=True)
    for line in procedure.reset(Host(), identity, click.echo):
        click.echo(line)
