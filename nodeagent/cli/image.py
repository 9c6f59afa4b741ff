"""The command line about images and cards, typed on a person's own computer."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from nodeagent.cli.help import OwnComputer


@click.group(cls=OwnComputer)
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
    from nodeagent.cli.progress import Shown
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
@click.option("--wifi-hidden", is_flag=True, help="The Wi-Fi does not announce its name.")
@click.option("--wifi-country", help="Two letters, for example DE.")
@click.option("--wifi-password-file", type=FILE, help="Instead of asking.")
@click.option("--log", "log_file", type=NEW, help="What was done, a JSON object a line.")
def image_bake(
    source: Path,
    out: Path,
    log_file: Path | None,
    ssh_key: Path | None,
    ssid: str | None,
    wifi_hidden: bool,
    wifi_country: str | None,
    wifi_password_file: Path | None,
    **options: Any,
) -> None:
    """Make an image with everything inside from a stock IMAGE (.img or .img.xz)."""
    from nodeagent.cli.progress import Shown
    from nodeagent.imaging import bake, customise

    key, secret = customise.read(ssh_key) if ssh_key else None, ""
    if wifi_password_file:
        secret = customise.read(wifi_password_file)
    elif ssid:
        secret = click.prompt(f"Password of {ssid}", hide_input=True)
    custom = customise.custom(key, ssid, secret, wifi_country, wifi_hidden)
    # Ended in an orderly way too, it takes away what it made meanwhile.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Shown(log_file) as shown:
        for line in bake.bake(source, out, bake.wish(custom=custom, **options), shown.tell):
            click.echo(line)


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
@click.option(
    "--init-format",
    type=click.Choice(["none", "systemd", "cloudinit", "cloudinit-rpi", "rpi-preseed"]),
    help="How Imager shall customise an image that does not tell it by itself.",
)
def image_manifest(
    images: tuple[Path, ...], out: Path, base: str | None, icon: str | None, init_format: str | None
) -> None:
    """Write the list of IMAGES that Raspberry Pi Imager 2 opens and customises."""
    from nodeagent.imaging import manifest

    for line in manifest.write(images, out, base, icon, init_format):
        click.echo(line)
