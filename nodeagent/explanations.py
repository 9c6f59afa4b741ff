"""What each error code means: ``nodeagent explain``, the status page and docs/errors.md say it
from here. A code is as stable as a MESSAGE_ID: its meaning never changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nodeagent.errors import Refused


class Explanation(NamedTuple):
    """``title``: a few words; ``text``: sentences for people, plain apart from `backticks`."""

    title: str
    text: str


EXPLANATIONS: dict[str, Explanation] = {
    "E000": Explanation(
        "An error without a code of its own",
        "It should not occur. Please report it with the file that `sudo nodeagent report` makes.",
    ),
    "E001": Explanation(
        "A file may not be used by this user",
        "A command may not use a file as this user. Run it again with `sudo`.",
    ),
    "E002": Explanation(
        "A file could not be read or written",
        "A command could not read or write a file. Check that the path exists, is writable and "
        "has room.",
    ),
    "E003": Explanation(
        "The status cannot be read",
        "`/run/nodeagent/status.json` cannot be read: it is damaged, or of another release of "
        "nodeagent. Restart the agent: `sudo systemctl restart nodeagent`.",
    ),
    "E100": Explanation(
        "Something outside of the agent is waited for",
        "A step waits for something outside of the agent: an address, the time, a package lock, "
        "a port that another program holds, a firewall. The status names it. What is checked is "
        "looked at every two seconds, so once the cause is gone, the node goes on at once. "
        "`sudo nodeagent doctor` shows everything that is not as it should be.",
    ),
    "E101": Explanation(
        "A command failed",
        "A command that the agent ran has failed. The reason says which one and what it said; "
        "`journalctl -u nodeagent` has every line. After three failures in a row the phase is "
        "`failed`.",
    ),
    "E102": Explanation(
        "What was done did not hold",
        "A step did all it had to, and the system still is not as it should be: something else "
        "changes it back, or a change of the boot files did not count after the reboot. The "
        "reason names the file or the setting.",
    ),
    "E103": Explanation(
        "The agent's memory cannot be read",
        "The agent's memory, `/var/lib/nodeagent/journal.json`, cannot be read. The card is "
        "failing, or somebody edited the file. Without the file the node starts anew.",
    ),
    "E104": Explanation(
        "The disk is full, read-only or failing",
        "A file could not be written or read: the disk is full, mounted read-only, or failing. "
        "The reason names the file. A card that the kernel made read-only after errors "
        "(`dmesg`) should be replaced.",
    ),
    "E105": Explanation(
        "Something could not be fetched",
        "Something on the network could not be had, or was not what it should be: a package "
        "mirror, a registry, a repository's key. The reason names the address.",
    ),
    "E199": Explanation(
        "A fault of the agent itself",
        "A fault of the agent itself. Please report it with the file that `sudo nodeagent "
        "report` makes.",
    ),
    "E200": Explanation(
        "A settings file is wrong",
        "A settings file is wrong. The reason names file, line and key, and what would be "
        "right. Nothing of the settings is used until then. `nodeagent config` shows every "
        "value and where it came from.",
    ),
    "E300": Explanation(
        "The fleet's card file is missing or damaged",
        "There is no `nodeagent.fleet` on the boot partition, or it is damaged. Copy the "
        "fleet's card file there again.",
    ),
    "E301": Explanation(
        "Somebody did not prove to belong here",
        "Another node, a request or a grant did not prove that it belongs to this fleet. "
        "Nothing it said was used. If a node of yours is refused, its card is of another fleet.",
    ),
    "E400": Explanation(
        "No control plane answered",
        "No control plane answered. Is one ready (`nodeagent status` there), and on the same "
        "network? mDNS needs multicast, which some access points keep from wireless devices; "
        "name the address in the settings then, `control_plane: [192.168.1.40]`.",
    ),
    "E401": Explanation(
        "Two control planes",
        "Another control plane of this fleet has a cluster of its own; it happens where the "
        "network was in two parts while the fleet formed, without `expected_nodes`. The younger "
        "one gives way by itself while it has no other nodes and no workloads; here it has, so "
        "nothing is changed. Move what is needed to one of the two. Then run `sudo nodeagent "
        "role --worker --end-cluster` on the other, and when that is done `sudo nodeagent role "
        "--auto` on its workers: all of them join the one that stays.",
    ),
    "E402": Explanation(
        "A person has to let this node in",
        "A control plane of this fleet was found, and lets new boards in only when a person "
        "says so: the fleet was made so (`fleet new --approve`), or its enrolment has ended "
        "(`seal_after`, `nodeagent seal`). Type the command that the status of the board shows "
        "on the control plane; the board asks every ten seconds and then joins by itself.",
    ),
    "E410": Explanation(
        "The cluster does not work as it should",
        "`nodeagent verify` found that the cluster does not work as it should. The reason says "
        "which way between which nodes is shut. Everything that was deployed for the test is "
        "removed all the same.",
    ),
    "E500": Explanation(
        "What was asked would lose something",
        "What was asked would lose something, or needs another state of the node first. Nothing "
        "was changed.",
    ),
    "E600": Explanation(
        "The image or card cannot be used",
        "The image or card is not one that `nodeagent image` knows, is damaged, has no room, or "
        "belongs to another fleet already. It was left as it is. The reason says which; a "
        "download that was cut short is the usual one.",
    ),
    "E601": Explanation(
        "A program is missing on this computer",
        "A program that works on images is missing on this computer, for example mtools. The "
        "remedy names the package: `sudo apt install mtools`, or `brew install mtools` on "
        "macOS.",
    ),
}


def lines(asked: str | None = None) -> Iterator[str]:
    """What to print of a code; without one, all of them by their titles. Raises Refused for what
    is no code."""
    from textwrap import wrap  # the network process, which shows the table too, needs none of it

    if asked is None:
        yield from (f"{code}  {known.title}" for code, known in EXPLANATIONS.items())
        return
    code = f"E{asked.strip().upper().removeprefix('E')}"
    if code not in EXPLANATIONS:
        raise Refused(f"There is no error code {asked!r}.", "`nodeagent explain` lists them all.")
    known = EXPLANATIONS[code]
    yield f"{code}: {known.title}"
    yield from (f"  {line}" for line in wrap(known.text, 76, break_on_hyphens=False))
