"""The command line, second part: what people also type on their own computer, about fleets, cards
and error codes; and how every command's ``--help`` ends."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from nodeagent.imaging.progress import Log, Progress


class Taught(click.Command):
    """Its ``--help`` ends with when to use it and examples, out of ``manual.LESSONS``."""

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
    from nodeagent.cli import help_text as manual

    known = manual.LESSONS.get(ctx.command_path.partition(" ")[2])
    if known is None:
        return
    with formatter.section("When to use it"):
        formatter.write(click.wrap_text(known.when, formatter.width, "  ", "  ") + "\n")
    with formatter.section("Examples" if known.examples[1:] else "Example"):
        for command, what in known.examples:
            formatter.write(f"  # {what}\n  {command}\n")


@click.group(cls=TaughtGroup)
def fleet() -> None:
    """Make the files that say which cards belong together."""


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
def fleet_new(name: str, out: Path, split: bool, approve: bool) -> None:
    """Make a fleet called NAME: NAME.fleet to keep, nodeagent.fleet for every card."""
    from nodeagent.imaging import fleet_new as fleetfile

    for line in fleetfile.create(name, out, split, approve):
        click.echo(line)


@fleet.command("show")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def fleet_show(file: Path) -> None:
    """Say which fleet FILE is of and what it holds; never a key."""
    from nodeagent.imaging import fleet_files as fleetread

    for line in fleetread.show(file):
        click.echo(line)


@click.group(cls=TaughtGroup)
def image() -> None:
    """Make images and cards of a fleet. They become its nodes by themselves."""


EXISTING = click.Path(path_type=Path, exists=True)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
NEW = click.Path(path_type=Path, dir_okay=False)


@image.command("fetch")
@click.argument("url")
@click.option("--out", type=click.Path(path_type=Path), help="File or folder for it; here else.")
@click.option("--sha256", help="The hash it must have; else the publisher's list is asked.")
@click.option("--log", "log_file", type=NEW, help="What was done, a JSON object a line.")
def image_fetch(url: str, out: Path | None, sha256: str | None, log_file: Path | None) -> None:
    """Download the image at URL, an https address; what was interrupted goes on."""
    from nodeagent.imaging import download

    with Shown(log_file) as shown:
        for line in download.fetch(url, out, sha256, shown.tell):
            click.echo(line)


@image.command("seed")
@click.argument("target", metavar="IMAGE-OR-CARD", type=EXISTING)
@click.option("--fleet", "fleet_file", required=True, type=FILE, help="NAME.fleet of `fleet new`.")
@click.option("--role", type=click.Choice(["control-plane", "worker"]), help="Fix the role.")
@click.option("--expected-nodes", type=int, help="How many nodes there will be.")
@click.option("--settings", type=FILE, help="A nodeagent.yaml for the card.")
@click.option("--deb", type=FILE, help="The package of nodeagent.")
@click.option("--packages", type=FOLDER, help="A folder of .deb files for boards without network.")
@click.option("--no-install", is_flag=True, help="The image has the agent already.")
def image_seed(target: Path, fleet_file: Path, no_install: bool, **options: Any) -> None:
    """Prepare a stock image file, or the folder of a mounted card: only its boot partition."""
    from nodeagent.imaging import seed

    wish = seed.Wish(fleet=fleet_file, install=not no_install, **options)
    for line in seed.seed(target, wish):
        click.echo(line)


@image.command("bake")
@click.argument("source", metavar="IMAGE", type=FILE)
@click.option("--out", required=True, type=NEW, help="The image to write.")
@click.option("--deb", required=True, type=FILE, help="The package of nodeagent.")
@click.option("--fleet", "fleet_file", type=FILE, help="NAME.fleet; without, seed it later.")
@click.option("--split", is_flag=True, help="Two images: one that may lead, one for workers.")
@click.option("--with-images", is_flag=True, help="Container images too: boots without internet.")
@click.option("--role", type=click.Choice(["control-plane", "worker"]), help="Fix the role.")
@click.option("--expected-nodes", type=int, help="How many nodes there will be.")
@click.option("--hostname", help="The node's name; for an image of one board.")
@click.option("--settings", type=FILE, help="A nodeagent.yaml, which says where packages are, too.")
@click.option("--ssh-key", type=FILE, help="Your public key, for the first user.")
@click.option("--wifi", "ssid", help="The name of a Wi-Fi; its password is asked for.")
@click.option("--wifi-country", help="Two letters, for example DE.")
@click.option("--wifi-password-file", type=FILE, help="Instead of asking.")
@click.option("--log", "log_file", type=NEW, help="What was done, a JSON object a line.")
def image_bake(
    source: Path,
    out: Path,
    log_file: Path | None,
    ssh_key: Path | None,
    ssid: str | None,
    wifi_country: str | None,
    wifi_password_file: Path | None,
    **options: Any,
) -> None:
    """Make an image with everything inside from a stock IMAGE (.img or .img.xz)."""
    from nodeagent.imaging import bake, customise

    key, secret = ssh_key.read_text().strip() if ssh_key else None, ""
    if wifi_password_file:
        secret = wifi_password_file.read_text().strip()
    elif ssid:
        secret = click.prompt(f"Password of {ssid}", hide_input=True)
    custom = customise.custom(key, ssid, secret, wifi_country)
    # Ended in an orderly way too, it takes away what it made meanwhile.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Shown(log_file) as shown:
        for line in bake.bake(source, out, bake.wish(custom=custom, **options), shown.tell):
            click.echo(line)


class Shown:
    """Progress as bars where somebody looks, as lines elsewhere, and in a log."""

    def __init__(self, log_file: Path | None) -> None:
        self._log = Log(log_file)
        self._bar: Any = None
        self._stage = ""

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end_bar()
        self._log.end(error)

    def tell(self, told: Progress) -> None:
        """Show it."""
        self._log.tell(told)
        if told.stage != self._stage:
            self._end_bar()
            self._stage = told.stage
            if told.of:
                self._bar = click.progressbar(length=told.of, label=told.stage)
                self._bar.__enter__()
            else:
                click.echo(told.stage)
        if self._bar is not None:
            self._bar.update(told.done - self._bar.pos)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


@image.command("manifest")
@click.argument("images", nargs=-1, required=True, type=FILE)
@click.option(
    "--out",
    required=True,
    type=NEW,
    help="The list to write, for example home.rpi-imager-manifest.",
)
@click.option("--url", "base", help="Address of the folder the images will be in; else this disk.")
@click.option("--icon", help="Address of a picture for the list.")
def image_manifest(images: tuple[Path, ...], out: Path, base: str | None, icon: str | None) -> None:
    """Write the list of IMAGES that Raspberry Pi Imager 2 opens and customises."""
    from nodeagent.imaging import manifest

    for line in manifest.write(images, out, base, icon):
        click.echo(line)


def error_codes(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """What a shell completes for an error code."""
    from nodeagent import explanations as table

    return [code for code in table.EXPLANATIONS if code.startswith(typed.upper())]


@click.command(cls=Taught)
@click.argument("code", required=False, shell_complete=error_codes)
def explain(code: str | None) -> None:
    """Say what an error code means. Without one, list all codes."""
    from nodeagent import explanations as table

    for line in table.lines(code):
        click.echo(line)
