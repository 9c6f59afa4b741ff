"""The command line: parse, call one function, print. No logic; heavy imports only where used.

The commands stand by subject in the files beside this one.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from nodeagent import __version__
from nodeagent.cli import members, node
from nodeagent.cli.explain import explain
from nodeagent.cli.fleet import fleet
from nodeagent.cli.help import TaughtGroup
from nodeagent.cli.image import image
from nodeagent.errors import AGENT_TRIES, NodeAgentError, of_command

AGAIN = "When the cause is gone, run the command again."


class Commands(TaughtGroup):
    """Shows errors a user can cause as one sentence and one remedy, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error ends with the exit status of its kind."""
        try:
            return super().invoke(ctx)
        except NodeAgentError as error:
            _fail(error)
        except BrokenPipeError:
            raise  # `nodeagent doctor | head`: click ends it without a word
        except OSError as error:
            _fail(of_command(error))


def _fail(error: NodeAgentError) -> NoReturn:
    remedy = AGAIN if error.remedy == AGENT_TRIES else error.remedy
    click.echo(f"nodeagent: {error.reason} ({error.code})\n{remedy}", err=True)
    sys.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nodeagent")
def main() -> None:
    """Turns freshly flashed boards into a Ready Kubernetes cluster, by itself.

    Most people need two commands: `nodeagent status` and `nodeagent role --control-plane`.
    `nodeagent COMMAND --help` says of each when to use it, with examples.
    """


for command in (
    node.status, node.doctor, node.role, node.plan, node.prepare, node.events, node.report,
    node.config, members.nodes, members.kubeconfig, members.verify, members.approve,
    members.revoke, members.forget, members.seal, members.join_command, node.reset,
    explain, fleet, image,
):  # fmt: skip
    main.add_command(command)
fleet.add_command(members.fleet_off)  # typed on a board, so not beside the others


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
def keys() -> None:
    """Fetch repository keys that run out, and look at the clock; the agent calls it once a day.
    Exit: 3 where the cluster's certificates end soon too, which the whole agent renews."""
    from nodeagent.agent import follow, keeper
    from nodeagent.cluster import renewal
    from nodeagent.host.host import Host
    from nodeagent.steps.show import renew_keys

    due = renewal.agent_has_to(Host())
    try:
        follow.follow_clock(Host())
        renew_keys(Host())
    finally:
        if due:
            sys.exit(keeper.RENEWAL_DUE)


@main.command("inventory", hidden=True)
def take_inventory() -> None:
    """Versions, certificates and hardware as JSON; the keeper calls it once an hour."""

    from nodeagent.agent import inventory
    from nodeagent.host.host import Host

    click.echo(inventory.printed(Host()))


@main.command("only-node", hidden=True)
def count_nodes() -> None:
    """Let this control plane take workloads or not, as the number of nodes wants it; the keeper
    calls it when others come or go. Exit: 1 where that could not be done."""
    from nodeagent.cluster import only_node
    from nodeagent.host.facts import Facts
    from nodeagent.host.host import Host

    sys.exit(not only_node.fit(Host(), Facts(Host()).node_name))


@main.command(hidden=True)
def seek() -> None:
    """Look for this worker's control plane; the keeper calls it. Exit: 4 where it is elsewhere, 5
    where it wants this board off. Prints who answered and was not followed."""
    from nodeagent.agent import follow
    from nodeagent.host.host import Host

    status, not_followed = follow.seek(Host())
    click.echo(not_followed)
    sys.exit(status)


@main.command(hidden=True)
@click.argument("address")
@click.argument("port", type=int)
def meet(address: str, port: int) -> None:
    """Ask another control plane of the fleet about its cluster; the keeper calls it."""
    from nodeagent.agent import conflict
    from nodeagent.host.host import Host

    click.echo(conflict.meet(Host(), address, port))


@main.command(hidden=True)
def broker() -> None:
    """The process that signs grants; systemd starts it on control planes."""
    from nodeagent.broker import main as broker_main

    broker_main.main()
