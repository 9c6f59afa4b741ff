"""Errors that people see, and the one table of them: each class is a row with its code, exit
status, title and explanation.

``nodeagent explain``, the status page, the man page and docs/errors.md are made of it. A code is as
stable as a MESSAGE_ID: its meaning never changes. Exit statuses follow sysexits.h (man 3head
sysexits) where one fits.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class NodeAgentError(Exception):
    """Base of every error a user can cause or cure.

    ``reason`` says what happened and why, ``remedy`` what to do, each in one or two sentences.
    ``title`` is a few words and ``explanation`` sentences about the kind of error, plain apart from
    `backticks`.
    """

    code: ClassVar[str] = "E000"
    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "An error without a code of its own"
    explanation: ClassVar[str] = (
        "It should not occur. Please report it with the file that `sudo nodeagent report` makes."
    )

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


class NotPermitted(NodeAgentError):
    """The user may not use a file that a command needs."""

    code = "E001"
    exit_code = 77  # EX_NOPERM
    title = "A file may not be used by this user"
    explanation = (
        "A command may not use a file as this user. On a node run it again with `sudo`. On your "
        "own computer choose a folder of yours, or take the write protection off."
    )


class FileFailed(NodeAgentError):
    """A command could not read or write a file."""

    code = "E002"
    exit_code = 74  # EX_IOERR
    title = "A file could not be read or written"
    explanation = (
        "A command could not read or write a file. Check that the path exists and is writable."
    )


class StatusUnreadable(NodeAgentError):
    """The status file is damaged."""

    code = "E003"
    exit_code = 3  # as where the agent is not running
    title = "The status cannot be read"
    explanation = (
        "`/run/nodeagent/status.json` cannot be read: it is damaged. Restart the agent: `sudo "
        "systemctl restart nodeagent`."
    )


class Blocked(NodeAgentError):
    """A step cannot go on until something outside the agent changes."""

    code = "E100"
    exit_code = 75  # EX_TEMPFAIL
    title = "Something outside of the agent is waited for"
    explanation = (
        "A step waits for something outside of the agent: an address, the time, a package lock, "
        "a port that another program holds, a firewall. The status names it. What is checked is "
        "looked at every two seconds, so once the cause is gone, the node goes on at once. "
        "`sudo nodeagent doctor` shows everything that is not as it should be."
    )

    def __init__(self, reason: str, remedy: str, within: float | None = None) -> None:
        """``within``: seconds after which the wait ends by itself, where it has a bound."""
        super().__init__(reason, remedy)
        self.within = within


# What the agent does about a command that failed; a person who typed one has to type it again.
AGENT_TRIES = "The agent tries again by itself; `journalctl -u nodeagent` has the whole story."


class CommandFailed(NodeAgentError):
    """An external command ended with a status other than 0, or ran out of time."""

    code = "E101"
    exit_code = 71  # EX_OSERR
    title = "A command failed"
    explanation = (
        "A command that the agent ran has failed. The reason says which one and what it said; "
        "`journalctl -u nodeagent` has every line. After three failures in a row the phase is "
        "`failed`."
    )


class NotConverged(NodeAgentError):
    """A step did its actions and its plan is still not empty."""

    code = "E102"
    exit_code = 70  # EX_SOFTWARE
    title = "What was done did not hold"
    explanation = (
        "A step did all it had to, and the system still is not as it should be: something else "
        "changes it back, or a change of the boot files did not count after the reboot. The "
        "reason names the file or the setting."
    )


class StateFileDamaged(NodeAgentError):
    """The journal exists and cannot be read: the card is failing, or someone edited it."""

    code = "E103"
    exit_code = 74  # EX_IOERR
    title = "The agent's memory cannot be read"
    explanation = (
        "The agent's memory, `/var/lib/nodeagent/state.json`, cannot be read. The card is "
        "failing, or somebody edited the file. Without the file the node starts anew."
    )


class DiskTrouble(NodeAgentError):
    """The agent could not write or read a file."""

    code = "E104"
    exit_code = 74  # EX_IOERR
    title = "The disk is full, read-only or failing"
    explanation = (
        "A file could not be written or read: the disk is full, mounted read-only, or failing. "
        "The reason names the file. A card that the kernel made read-only after errors "
        "(`dmesg`) should be replaced."
    )


class FetchFailed(NodeAgentError):
    """Something on the network could not be had, or was not what it should be; tried again."""

    code = "E105"
    exit_code = 69  # EX_UNAVAILABLE
    title = "Something could not be fetched"
    explanation = (
        "Something on the network could not be had, or was not what it should be: a package "
        "mirror, a registry, a repository's key. The reason names the address."
    )


class OtherVersion(NodeAgentError):
    """A file or message is in a format of another version of nodeagent, which this one does not
    read. It was left as it is, and nothing of it was used."""

    code = "E106"
    exit_code = 78  # EX_CONFIG
    title = "Another version of nodeagent wrote it"
    explanation = (
        "A file or message was written by another version of nodeagent, in a format that this one "
        "does not read. It is neither damaged nor of another fleet: it was left as it is. The "
        "reason names it. Update nodeagent on this node or install the version again that wrote "
        "it, and use the same version on all nodes."
    )


class Internal(NodeAgentError):
    """A fault of the agent itself."""

    code = "E199"
    exit_code = 70  # EX_SOFTWARE
    title = "A fault of the agent itself"
    explanation = (
        "A fault of the agent itself. Please report it with the file that `sudo nodeagent "
        "report` makes."
    )


class ConfigError(NodeAgentError):
    """A settings file is unreadable or wrong; the reason names file, line and key."""

    code = "E200"
    exit_code = 78  # EX_CONFIG
    title = "A settings file is wrong"
    explanation = (
        "A settings file is wrong. The reason names file, line and key, and what would be "
        "right. Nothing of the settings is used until then. `nodeagent config` shows every "
        "value and where it came from."
    )


class FleetError(NodeAgentError):
    """Fleet material is missing or damaged."""

    code = "E300"
    exit_code = 78  # EX_CONFIG
    title = "The fleet's card file is missing or damaged"
    explanation = (
        "There is no `nodeagent.fleet` on the boot partition, or it is damaged. Copy the "
        "fleet's card file there again."
    )


class Untrusted(NodeAgentError):
    """A peer, request or grant failed proof. Nothing it said was used."""

    code = "E301"
    exit_code = 77  # EX_NOPERM
    title = "Somebody did not prove that they belong here"
    explanation = (
        "Another node, a request or a grant did not prove that it belongs to this fleet. "
        "Nothing it said was used. If a node of yours is refused, its card is of another fleet."
    )


class NoControlPlane(NodeAgentError):
    """No control plane answered; the agent keeps trying. ``wait``: seconds that one asked it to
    wait, 0 where none did."""

    code = "E400"
    exit_code = 75  # EX_TEMPFAIL
    title = "No control plane answered"
    explanation = (
        "No control plane answered. Is one ready (`nodeagent status` there), and on the same "
        "network? mDNS needs multicast, which some access points keep from wireless devices; "
        "name the address in the settings then, `control_plane: [192.168.1.40]`."
    )

    def __init__(self, reason: str, remedy: str, wait: int = 0) -> None:
        super().__init__(reason, remedy)
        self.wait = wait


class TwoControlPlanes(NodeAgentError):
    """Another control plane of this fleet has a cluster of its own."""

    code = "E401"
    exit_code = 1
    title = "Two control planes"
    explanation = (
        "Another control plane of this fleet has a cluster of its own; it happens where the "
        "network was in two parts while the fleet formed, without `expected_nodes`. The younger "
        "one gives way by itself while it has no other nodes and no workloads; here it has, so "
        "nothing is changed. Move what is needed to one of the two. Then run `sudo nodeagent "
        "role --worker --end-cluster` on the other, and when that is done `sudo nodeagent role "
        "--auto` on its workers: all of them join the one that stays."
    )


class NotAdmitted(Blocked):
    """A control plane answered, and a person has to let this node in; the agent keeps asking.

    ``shown``: what that person types.
    """

    code = "E402"
    title = "A person has to let this node in"
    explanation = (
        "A control plane of this fleet was found, and lets new boards in only when a person "
        "says so: the fleet was made so (`fleet new --approve`), or its enrolment has ended "
        "(`seal_after`, `nodeagent seal`). Type the command that the status of the board shows "
        "on the control plane; the board asks every ten seconds and then joins by itself."
    )

    def __init__(self, reason: str, remedy: str, shown: str = "") -> None:
        super().__init__(reason, remedy)
        self.shown = shown


class VerifyFailed(NodeAgentError):
    """The cluster's own test went wrong; the reason says in which part."""

    code = "E410"
    exit_code = 1
    title = "The cluster does not work as it should"
    explanation = (
        "`nodeagent verify` found that the cluster does not work as it should. The reason says "
        "which way between which nodes is shut. Everything that was deployed for the test is "
        "removed all the same."
    )


class Refused(NodeAgentError):
    """What was asked would lose something, or needs another state first."""

    code = "E500"
    exit_code = 1
    title = "What was asked would lose something"
    explanation = (
        "What was asked would lose something, or needs another state of the node, card or image "
        "first. Nothing was changed."
    )


class Usage(Refused):
    """What was typed cannot be understood, or its parts do not go together."""

    code = "E501"
    exit_code = 64  # EX_USAGE
    title = "What was typed is not right"
    explanation = (
        "A name, a value or an option of the command is not a valid one, or two options do not go "
        "together. The reason says which. `--help` after the command shows what it takes. Nothing "
        "was changed."
    )


class AlreadyExists(Refused):
    """A file to be made is already there."""

    code = "E502"
    exit_code = 73  # EX_CANTCREAT
    title = "The file is already there"
    explanation = (
        "The file that the command would make is already there. It was left as it is. Choose "
        "another name or folder, or move the file away."
    )


class NoRoom(Refused):
    """There is not enough room for what is to be written."""

    code = "E503"
    exit_code = 74  # EX_IOERR
    title = "There is not enough room"
    explanation = (
        "The disk, card or image does not have enough room for what is to be written. Free some "
        "space there, or choose another place."
    )


class NeedsRoot(Refused):
    """Only root may do that."""

    code = "E504"
    exit_code = 77  # EX_NOPERM
    title = "The command needs root"
    explanation = "Only root may do that on a node. Run the command again with `sudo`."


class ImageError(NodeAgentError):
    """An image or card is not what it should be; it was left as it is."""

    code = "E600"
    exit_code = 65  # EX_DATAERR
    title = "The image or card cannot be used"
    explanation = (
        "The image or card is not one that `nodeagent image` knows, is damaged, or belongs to "
        "another fleet already. It was left as it is. The reason says which; a download that was "
        "cut short is the usual one."
    )


class ToolMissing(NodeAgentError):
    """A program that works on images is not installed on this computer."""

    code = "E601"
    exit_code = 69  # EX_UNAVAILABLE
    title = "A program is missing on this computer"
    explanation = (
        "A program that works on images is missing on this computer, for example mtools. The "
        "remedy names the package: `sudo apt install mtools`, or `brew install mtools` on "
        "macOS."
    )


def _table() -> dict[str, type[NodeAgentError]]:
    rows = (kind for kind in globals().values() if isinstance(kind, type))
    return {kind.code: kind for kind in rows if issubclass(kind, NodeAgentError)}


TABLE = _table()  # by code, in the order above


def of_command(error: OSError, on_node: bool = True) -> NodeAgentError:
    """What a command tells of a file that it could not use. ``on_node``: the files are the
    system's, so that root may help; otherwise they are the user's own."""
    if isinstance(error, PermissionError):
        return NotPermitted(
            f"{error.filename or 'A file'} may not be used by this user.",
            "Run the command again with sudo."
            if on_node
            else "Choose a folder or file of yours, or take the write protection off.",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(_reason(error), "Free some space there, or choose another place.")
    if error.errno == errno.EROFS:
        return FileFailed(
            _reason(error), "Mount it writable, or take the card's write protection off."
        )
    return FileFailed(_reason(error), "Check that the path exists and is writable.")


def of_agent(error: OSError) -> NodeAgentError:
    """What the agent, which tries again, tells of a file that it could not use."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "Free some space there, or use a larger card; the agent goes on by itself."
    elif error.errno == errno.EROFS:
        remedy = (
            "Mount it writable again. If the kernel made it read-only after errors (see"
            " `dmesg`), repair it with fsck first; the agent goes on by itself."
        )
    else:
        remedy = "Check the card for faults; the agent tries again by itself."
    return DiskTrouble(_reason(error), remedy)


def _reason(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."
