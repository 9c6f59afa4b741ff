"""Step: the card knows the board it is in. Nodes must not share their identity: two with one
machine id get one address from DHCP, two with one node key are one node for the fleet.

What can be told, and what not. A card remembers the serial number of the board that the agent first
ran on. In another board, before it has joined a cluster, it is a clone or was moved, which look the
same; both times it gets a new machine id, new SSH host keys, a new node key, and a new host name
where the old one was made by us. A member of a cluster stays what it is: a moved card shall go on
working, and of a copied one nobody can tell here which of the two is the copy; the status says so.
Cards flashed from an image that already held a machine id, on which no agent ever ran, cannot be
told apart from cards that were always alone: that is why an image is prepared without one. A board
that shows no serial number, such as most virtual machines, makes no claim at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.cluster.membership import BOARD_FILE, is_member, known_board
from nodeagent.config.settings import Settings
from nodeagent.host import hostkeys, identity
from nodeagent.host.actions import Action, Reboot, Remove, Run, Write
from nodeagent.host.facts import Facts
from nodeagent.statefile import FOLDER
from nodeagent.steps.step import Step

NODE_KEY = f"{FOLDER}/trust/node.key"
# Gone with the next boot: until then systemd, DHCP and others still use the old machine id.
REBOOT_MARK = "/run/nodeagent/new-identity"
MACHINE_ID, DBUS_ID = paths.MACHINE_ID, "/var/lib/dbus/machine-id"


@dataclass(frozen=True)
class CardInBoard(Step):
    """Done before the node key is read. The memory is written last, so that after a power cut all
    of it is done again."""

    name = "board"
    title = "Recognise the board this card is in"
    on_image = True
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On an image: no machine id, so that each card makes its own."""
        if not facts.live:
            yield from _image(facts)
            return
        here, known = identity.usable_serial(facts.serial), known_board(facts)
        other = bool(here and known and here != known) and not is_member(facts)
        if other:
            yield from _new_identity(facts, known, here)
        if other or (here and not known):
            yield Write(BOARD_FILE, f"{here}\n".encode())
        if other or facts.exists(REBOOT_MARK):
            yield Reboot(
                "board",
                "the card is in another board and has a new machine id",
                "The board was rebooted for a new machine id, but /run was not emptied.",
                "Check that /run is a tmpfs, then reboot again.",
            )


def _image(facts: Facts) -> Iterator[Action]:
    """An empty file, not ``uninitialized``: that would make the next boot a first boot, which
    sets all units to their presets again (machine-id(5), "First boot semantics").

    Also on a card that has booted already; all it loses is its DHCP lease. A member's stays.

    The SSH host keys stay too. Fresh images have none or replace them at first boot themselves
    (Raspberry Pi OS: regenerate_ssh_host_keys.service, cloud-init: ``ssh_deletekeys``), and on a
    card that has booted nothing would make new ones: Debian's package does when it is installed.
    """
    if identity.is_machine_id(facts.machine_id) and not facts.exists(paths.KUBELET_CONF):
        yield from _forget_machine_id(facts)


def _forget_machine_id(facts: Facts) -> Iterator[Action]:
    # The first place where systemd looks for an id when its own file is empty. A link to that
    # file may stay; tmpfiles makes it again where it is missing.
    if facts.exists(DBUS_ID) and facts.host.target(DBUS_ID) is None:
        yield Remove(DBUS_ID)
    yield Write(MACHINE_ID, b"", 0o444)


def _new_identity(facts: Facts, known: str, here: str) -> Iterator[Action]:
    yield Write(REBOOT_MARK, b"")
    yield from _forget_machine_id(facts)
    # Power lost before this: systemd does the same at boot (machine-id(5), "Initialization").
    yield Run(("systemd-machine-id-setup",))
    if any(hostkeys.is_host_key(name) for name in facts.names(hostkeys.FOLDER)):
        yield hostkeys.NewHostKeys()
    if facts.exists(NODE_KEY):
        yield Remove(NODE_KEY, secret=True)
    if facts.static_hostname == identity.name_of(known):
        yield Write(paths.HOSTNAME, f"{identity.name_of(here)}\n".encode())
