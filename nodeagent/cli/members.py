"""The command line on a control plane, about the cluster's members and its use."""

from __future__ import annotations

from pathlib import Path

import click

from nodeagent.cli.help import OnNode, Taught


@click.command(cls=Taught)
def nodes() -> None:
    """List who is in and who waits. Also who was revoked, and whether enrolment is open."""
    from nodeagent.cli import admissions
    from nodeagent.host.host import Host

    for line in admissions.show_nodes(Host()):
        click.echo(line)


@click.command(cls=Taught)
@click.option(
    "--out",
    type=click.Path(path_type=Path, exists=False, dir_okay=False),
    help="File to write, readable by you only; printed otherwise.",
)
def kubeconfig(out: Path | None) -> None:
    """Print a kubeconfig for your laptop. On the control plane; administrator for a year."""
    from nodeagent.cluster import admin_kubeconfig
    from nodeagent.host.host import Host
    from nodeagent.trust.store import Trust

    host = Host()
    place = str(out.resolve()) if out else None
    text = admin_kubeconfig.give(host, lambda: Trust.load(host).name, place)
    click.echo(text, nl=out is not None)


@click.command(cls=Taught)
@click.option("--image", help="An agnhost image, where registry.k8s.io cannot be reached.")
def verify(image: str | None) -> None:
    """Try the cluster with a small web Deployment. On the control plane; it is removed again."""
    from nodeagent.cluster import acceptance
    from nodeagent.host.host import Host

    for line in acceptance.verify_cluster(Host(), image):
        click.echo(f"  {line}")
    click.echo("The cluster works.")


@click.command(cls=Taught)
@click.argument("code", nargs=-1, required=True)
def approve(code: tuple[str, ...]) -> None:
    """Let in the node that shows CODE. All 16 characters count; on the control plane."""
    from nodeagent.cli import admissions
    from nodeagent.host.host import Host

    click.echo(admissions.approve(Host(), " ".join(code)))


@click.command(cls=Taught)
@click.argument("node")
def revoke(node: str) -> None:
    """Throw out NODE, a name, node id or code. It seals enrolment; on the control plane."""
    from nodeagent.cli import admissions
    from nodeagent.host.host import Host

    for line in admissions.revoke(Host(), node):
        click.echo(line)


@click.command(cls=Taught)
@click.argument("name")
def forget(name: str) -> None:
    """End what NAME may do, and free the name when that is safe. On the control plane."""
    from nodeagent.cli import admissions
    from nodeagent.host.host import Host

    click.echo(admissions.forget(Host(), name))


@click.command(cls=Taught)
@click.option("--open", "span", help="Let the fleet's boards in for so long, such as 1h or 30m.")
def seal(span: str | None) -> None:
    """End enrolment, or open it for a while. Sealed, a person approves each new board."""
    from nodeagent.cli import admissions
    from nodeagent.host.host import Host

    click.echo(admissions.seal(Host(), span))


@click.command("join-command", cls=Taught)
def join_command() -> None:
    """Print what joins a machine without nodeagent. Valid for 10 minutes."""
    from nodeagent.cluster import control_plane
    from nodeagent.cluster.privilege import need_control_plane
    from nodeagent.host.host import Host

    host = Host()
    need_control_plane(host)
    click.echo(control_plane.join_command(host))


@click.command("off", cls=OnNode)
@click.option("--yes", is_flag=True, help="Do not ask.")
def fleet_off(yes: bool) -> None:
    """Switch the whole cluster off, workers first. On the control plane; power brings it back."""
    from nodeagent.agent import all_off
    from nodeagent.host.host import Host

    host = Host()
    boards = all_off.others(host)
    for board in boards:
        click.echo(f"{board.name} {'is away already' if board.away else 'turns itself off'}")
    click.echo("Last this board turns itself off. All of it comes back once the boards get power.")
    if not yes:
        click.confirm("Go on?", abort=True)
    all_off.off(host, boards, click.echo)
