"""The command line: parse, call one function, print. No logic; heavy imports only where used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from nodeagent import __version__
from nodeagent.cli.cards import TaughtGroup, explain, fleet, image
from nodeagent.errors import NodeAgentError


class Commands(TaughtGroup):
    """Shows errors a user can cause as one sentence and one remedy, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; NodeAgentError ends with its own exit code."""
        try:
            return super().invoke(ctx)
        except NodeAgentError as error:
            _fail(error.code, error.reason, error.remedy, error.exit_code)
        except BrokenPipeError:
            raise  # `nodeagent doctor | head`: click ends it without a word
        except PermissionError as error:
            _fail(
                "E001",
                f"{error.filename or 'A file'} may not be used by this user.",
                "Run the command again with sudo.",
                77,
            )
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(
                "E002",
                f"{where}{error.strerror or error}.",
                "Check that the path exists, is writable and has room.",
                74,
            )


def _fail(code: str, reason: str, remedy: str, status: int) -> NoReturn:
    click.echo(f"nodeagent: {reason} ({code})\n{remedy}", err=True)
    sys.exit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nodeagent")
def main() -> None:
    """Turns freshly flashed boards into a Ready Kubernetes cluster, by itself.

    Most people need two commands: `nodeagent status` and `nodeagent role --control-plane`.
    `nodeagent COMMAND --help` says of each when to use it, with examples.
    """


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the status for scripts.")
@click.option("--watch", is_flag=True, help="Go on showing it, live, until Ctrl-C.")
def status(as_json: bool, watch: bool) -> None:
    """What this node is doing. Exit: 0 ready, 1 on its way or ready with a problem, 2 needs help,
    3 not running."""
    import os
    import time

    from nodeagent.status import model
    from nodeagent.status import text as statustext

    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR")  # no-color.org
    if watch:
        for piece in statustext.watch(model.read, terminal, colour, time.sleep):
            click.echo(piece, nl=False, color=colour)
    try:
        current = model.read()
    except FileNotFoundError:
        click.echo("nodeagent is not running. Start it with: sudo systemctl start nodeagent")
        sys.exit(model.NOT_RUNNING)
    except ValueError:
        _fail("E003", f"{model.PATH} is damaged, or of another nodeagent.",
              "Restart the agent: sudo systemctl restart nodeagent", model.NOT_RUNNING)  # fmt: skip
    alive = model.running(current)
    if not alive:
        click.echo("nodeagent is not running; this is what it said last.", err=True)
    text = model.dump(current) if as_json else statustext.render(current, colour=colour)
    click.echo(text, nl=as_json, color=colour)
    sys.exit(model.exit_code(current) if alive else model.NOT_RUNNING)


COLOURS = {"warning": "yellow", "failure": "red"}  # click leaves them out where no terminal is


@main.command()
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
        name = (host.text("/proc/sys/kernel/hostname") or "").strip()
        click.echo(checkup.as_json(findings, name, host.clock.now()))
    else:
        for level, line in checkup.as_text(findings, verbose):
            click.secho(line, fg=COLOURS.get(level))
    sys.exit(checkup.exit_code(findings))


@main.command()
@click.option("--control-plane", "wish", flag_value="control-plane", help="Lead the cluster.")
@click.option("--worker", "wish", flag_value="worker", help="Join and run workloads only.")
@click.option("--auto", "wish", flag_value="auto", help="Let the fleet decide (the default).")
@click.option("--end-cluster", is_flag=True, help="Even where its cluster is lost by that.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def role(wish: str | None, end_cluster: bool, yes: bool) -> None:
    """Show this node's role, or choose it, also afterwards: it leaves its cluster then."""
    from nodeagent.agent import change_role as rerole
    from nodeagent.cli import node_commands as steer
    from nodeagent.host.host import Host

    if not wish:
        click.echo(steer.show_role(Host()))
        return
    foreseen = rerole.foresee(Host(), wish, end_cluster)
    for line in foreseen.lines:
        click.echo(line)
    if foreseen.leaves and not yes:
        click.confirm("Go on?", abort=True)
    click.echo(rerole.begin(Host(), foreseen))


@main.command()
def plan() -> None:
    """Print what the agent would do now; changes nothing. Exit: 0 nothing to do, 1 something."""
    from nodeagent.cli import node_commands as steer
    from nodeagent.host.host import Host

    lines, pending = steer.show_plan(Host())
    click.echo("\n".join(lines))
    sys.exit(1 if pending else 0)


@main.command()
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A mounted or unpacked image; its boot partition at DIR/boot/firmware.",
)
@click.option("--step", "name", help="Only this step.")
def prepare(root: Path, name: str | None) -> None:
    """Do the file actions of the steps on an image. Exit 0 when the steps now hold."""
    from nodeagent.cli import node_commands as steer

    for line in steer.prepare(root, name):
        click.echo(line)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events(as_json: bool) -> None:
    """The milestones of this node. Over all boots that the system's journal keeps."""
    import json

    from nodeagent.host.host import Host
    from nodeagent.status import eventlog, model

    found = eventlog.read(Host())
    if not found:
        try:
            found = eventlog.of_this_boot(model.read())
        except (FileNotFoundError, ValueError):
            found = []
        click.echo("The journal shows no events to this user; with sudo it may.", err=True)
    for line in map(json.dumps, found) if as_json else eventlog.as_text(found):
        click.echo(line)


@main.command()
@click.option(
    "--out",
    default=".",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder for the file; the current one by default.",
)
def report(out: Path) -> None:
    """Make one file for somebody who helps you. Secrets are taken out of it."""
    from nodeagent.cli import report as bundle
    from nodeagent.host.host import Host

    path = bundle.make(Host(), str(out.resolve()), lambda part: click.echo(f"  {part}", err=True))
    click.echo(path)


@main.command()
def config() -> None:
    """Show each setting, its value and where it came from."""
    from nodeagent.cli import node_commands as steer
    from nodeagent.host.host import Host

    for line in steer.show_config(Host()):
        click.echo(line)


@main.command()
def nodes() -> None:
    """List who is in and who waits. Also who was revoked, and whether enrolment is open."""
    from nodeagent.cli import members
    from nodeagent.host.host import Host

    for line in members.show_nodes(Host()):
        click.echo(line)


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, exists=False, dir_okay=False),
    help="File to write, readable by you only; printed otherwise.",
)
def kubeconfig(out: Path | None) -> None:
    """Print a kubeconfig for your laptop. On the control plane; administrator for a year."""
    from nodeagent.cli import node_commands as steer
    from nodeagent.host.host import Host

    text = steer.kubeconfig(Host(), str(out.resolve()) if out else None)
    click.echo(text, nl=out is not None)


@main.command()
@click.option("--image", help="An agnhost image, where registry.k8s.io cannot be reached.")
def verify(image: str | None) -> None:
    """Try the cluster with a small web Deployment. On the control plane; it is removed again."""
    from nodeagent.cli import node_commands as steer
    from nodeagent.host.host import Host

    for line in steer.verify(Host(), image):
        click.echo(f"  {line}")
    click.echo("The cluster works.")


@main.command()
@click.argument("code", nargs=-1, required=True)
def approve(code: tuple[str, ...]) -> None:
    """Let in the node that shows CODE. All 16 characters count; on the control plane."""
    from nodeagent.cli import members
    from nodeagent.host.host import Host

    click.echo(members.approve(Host(), " ".join(code)))


@main.command()
@click.argument("node")
def revoke(node: str) -> None:
    """Throw out NODE, a name, node id or code. It seals enrolment; on the control plane."""
    from nodeagent.cli import members
    from nodeagent.host.host import Host

    for line in members.revoke(Host(), node):
        click.echo(line)


@main.command()
@click.argument("name")
def forget(name: str) -> None:
    """Free the node name NAME for another board. On the control plane."""
    from nodeagent.cli import members
    from nodeagent.host.host import Host

    click.echo(members.forget(Host(), name))


@main.command()
@click.option("--open", "span", help="Let the fleet's boards in for so long, such as 1h or 30m.")
def seal(span: str | None) -> None:
    """End enrolment, or open it for a while. Sealed, a person approves each new board."""
    from nodeagent.cli import members
    from nodeagent.host.host import Host

    click.echo(members.seal(Host(), span))


@main.command("join-command")
def join_command() -> None:
    """Print what joins a machine without nodeagent. Valid for 10 minutes."""
    from nodeagent.cli import node_commands as steer
    from nodeagent.host.host import Host

    click.echo(steer.join_command(Host()))


@main.command()
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


main.add_command(explain)
main.add_command(fleet)
main.add_command(image)


@main.command()
def run() -> None:
    """The agent itself; systemd starts it."""
    from nodeagent.agent import main as agent

    agent.main()


@main.command()
def serve() -> None:
    """The unprivileged network process; systemd starts it."""
    from nodeagent.serve import main as process

    process.main()


@main.command("renew-keys", hidden=True)
def renew_keys() -> None:
    """Fetch repository keys that run out; the agent calls it once a day. Exit: 3 where the
    cluster's certificates end soon too, which the whole agent renews."""
    from nodeagent.agent import keeper
    from nodeagent.cli import node_commands as steer
    from nodeagent.host.host import Host

    due = steer.renewal_due(Host())
    try:
        steer.renew_keys(Host())
    finally:
        if due:
            sys.exit(keeper.RENEWAL_DUE)


@main.command("inventory", hidden=True)
def take_inventory() -> None:
    """Versions, certificates and hardware as JSON; the keeper calls it once an hour."""
    import json

    from nodeagent.agent import inventory
    from nodeagent.host.host import Host

    click.echo(json.dumps(inventory.take(Host())))


@main.command(hidden=True)
@click.argument("address")
@click.argument("port", type=int)
def meet(address: str, port: int) -> None:
    """Ask another control plane of the fleet about its cluster; the keeper calls it."""
    from nodeagent.agent import conflict as healing
    from nodeagent.host.host import Host

    click.echo(healing.meet(Host(), address, port))


@main.command(hidden=True)
def broker() -> None:
    """The process that signs grants; systemd starts it on control planes."""
    from nodeagent.broker import main as broker_main

    broker_main.main()
