"""What messages of apt-get and dpkg mean, and what to do: data, for ``apt.failure``.

The first rule whose pattern is found wins, so the cause stands before what follows from it: a
repository with an expired key is also "not signed". ``{what}`` is the URL, file or package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FETCH = r"^E: Failed to fetch (?P<what>\S+) .*"
# With lists there from before, apt says first that it goes on with those (apt-pkg/acquire-item.cc).
SIGNED = r"^W: .*?(?:GPG error|OpenPGP signature verification failed): (?P<what>\S+) .*"
# Files that dpkg keeps; most have a copy beside them, and /var/backups has others, made daily
# (dpkg-db-backup.timer).
DATABASE = r"(?:[Pp]arsing file|parse package file|fgets gave an empty string from) '?"
ITSELF = "the agent tries again by itself."
CLOCK = (
    "Look at `timedatectl`; allow NTP (UDP port 123), or name a time server in"
    " /etc/systemd/timesyncd.conf."
)


@dataclass(frozen=True)
class Rule:
    """A regular expression, what it means, what to do; ``network`` where a mirror is at fault."""

    pattern: str
    reason: str
    remedy: str
    network: bool = True


RULES: Final[tuple[Rule, ...]] = (
    # The card: a download fails for it as well. The boot partition is another file system, and on
    # Debian 13 so is /tmp; what is full there is not the card.
    Rule(
        r"'(?P<what>/boot/firmware)/[^'\n]*': No space left on device",
        "The boot partition is full: no space is left at {what}.",
        "`ls -lS {what}` shows what is large there; delete what belongs to a kernel that is"
        " installed no more. The agent then goes on by itself.",
        network=False,
    ),
    Rule(
        r"'(?P<what>/(?:boot|run|tmp|var/tmp)\b)[^'\n]*': No space left on device",
        "No space is left at {what}.",
        "`df -h {what}` shows which file system that is; free some space there. The agent then goes"
        " on by itself.",
        network=False,
    ),
    # mkinitramfs names the file only after what compresses it has failed.
    Rule(
        r"(?s:No space left on device\n.*)^update-initramfs: failed for (?P<what>/boot)/",
        "No space is left at {what}.",
        "`df -h {what}` shows which file system that is; free some space there. The agent then goes"
        " on by itself.",
        network=False,
    ),
    Rule(
        r"No space left on device|You don't have enough free space in |Wrote only \d+ of \d+ bytes",
        "The card is full: no space is left on it for packages.",
        "Free some space, or use a larger card; the agent then goes on by itself.",
        network=False,
    ),
    Rule(
        r"'(?P<what>/boot/firmware)/[^'\n]*': Read-only file system",
        "The boot partition at {what} can only be read: it is mounted so, or was found damaged.",
        "Look at `dmesg` and at {what} in /etc/fstab. Check it with `sudo umount {what}`, `sudo"
        " fsck.fat -a` and its device, and mount it again.",
        network=False,
    ),
    Rule(
        r"Read-only file system",
        "The card can only be read: it is worn out, or was found damaged.",
        "Look at `dmesg`, and write a new card.",
        network=False,
    ),
    Rule(
        r"missing (?P<what>/boot/firmware), did you forget to mount it",
        "The boot partition is not mounted at {what}, where a package has to write.",
        "Run `sudo mount {what}`; if that fails, compare /etc/fstab with `lsblk -f`. The agent then"
        " goes on by itself.",
        network=False,
    ),
    # What a power cut leaves of dpkg's and apt's own files: empty, zeros, or half.
    Rule(
        DATABASE + r"(?P<what>/var/lib/dpkg/status)\b",
        "dpkg's database is damaged: it cannot read {what}, as after a power cut.",
        "Put back its copy, {what}-old, or where that is damaged too /var/backups/dpkg.status.0:"
        " `sudo cp {what}-old {what}`. The agent then goes on by itself.",
        network=False,
    ),
    Rule(
        DATABASE + r"(?P<what>/var/lib/dpkg/updates/\d+)",
        "What dpkg noted last, {what}, is damaged, as after a power cut.",
        "Delete it with `sudo rm {what}`; the agent then repairs the package that it was about.",
        network=False,
    ),
    Rule(
        DATABASE + r"(?P<what>/var/lib/dpkg/available)",
        "dpkg's list of available packages, {what}, is damaged, as after a power cut.",
        "Nothing here needs it: empty it with `sudo dpkg --clear-avail`. The agent then goes on by"
        " itself.",
        network=False,
    ),
    Rule(
        DATABASE + r"(?P<what>/var/lib/dpkg/triggers/\w+)",
        "dpkg's list of work to be done later, {what}, is damaged, as after a power cut.",
        "Delete it with `sudo rm {what}`; the agent then goes on by itself.",
        network=False,
    ),
    Rule(
        DATABASE + r"(?P<what>/var/lib/dpkg/(?P<file>\w+))'",
        "dpkg's database is damaged: it cannot read {what}, as after a power cut.",
        "Put back its copy, {what}-old or /var/backups/dpkg.{file}.0. Without one, delete it with"
        " `sudo rm {what}`. The agent then goes on by itself.",
        network=False,
    ),
    Rule(
        r"files list file for package '(?P<what>[^']+)' (?:is missing|contains empty)",
        "dpkg's list of the files of {what} is damaged, as after a power cut.",
        "Delete it with `sudo rm /var/lib/dpkg/info/{what}.list`, then run `sudo apt-get install"
        " --reinstall {what}`.",
        network=False,
    ),
    Rule(
        r"^E: Unable to parse package file (?P<what>/var/lib/apt/lists)/",
        "apt's lists of packages are damaged, as after a power cut.",
        "Delete them with `sudo rm -r {what}`; the agent then fetches them anew.",
        network=False,
    ),
    # The sources as such: apt does nothing at all before this is put right.
    Rule(
        r"^E: Conflicting values set for option \S+ regarding source (?P<what>\S+)",
        "Two source files name {what} with different keys, and apt refuses to work until only one"
        " does.",
        "Look with `grep -rF {what} /etc/apt/sources.list*` and remove one of them.",
        network=False,
    ),
    Rule(
        r"^E: (?:Malformed|Type) .* file (?P<what>/\S+)",
        "apt cannot read {what} and refuses to work until it can.",
        "Correct that file, or remove it.",
        network=False,
    ),
    # What the clock decides.
    Rule(
        r"^E: Release file for (?P<what>\S+) is not valid yet",
        "{what} is from the future by this board's clock, so the clock is slow.",
        CLOCK,
    ),
    Rule(
        r"^E: Release file for (?P<what>\S+) is expired",
        "{what} has run out: its mirror is not renewed any more, or this board's clock is fast.",
        "Look at `timedatectl`. If the clock is right, choose another mirror, or wait until this"
        " one is renewed; " + ITSELF,
    ),
    Rule(
        SIGNED + r"Not live until",
        "{what} was signed in the future by this board's clock, so the clock is slow.",
        CLOCK,
    ),
    # Signatures: gpgv's words, then sqv's (apt 3.0). Before all that looks at E: lines, which with
    # lists there repeat them, certificates and all.
    Rule(
        SIGNED + r"(?:EXPKEYSIG|KEYEXPIRED|[Ee]xpired)",
        "The key that signs {what} has expired on this board.",
        "The agent fetches it anew where the repository is its own; for another one, fetch its key"
        " again as its publisher says.",
    ),
    Rule(
        SIGNED + r"(?:is not bound|SHA1 is not considered secure)",
        "The key for {what} on this board is too old for its apt, which trusts no SHA-1 any more.",
        "Fetch the key again as its publisher says; Raspberry Pi's own comes with the package"
        " raspberrypi-archive-keyring of 2025 or later.",
    ),
    Rule(
        SIGNED + r"(?:Failed to parse|Malformed certificate in) keyring \"(?P<file>[^\"]+)\"",
        "The file with the key for {what}, {file}, is missing or damaged.",
        "The agent fetches it anew where the repository is its own; for another one, fetch its key"
        " again as its publisher says.",
    ),
    Rule(
        SIGNED + r"ERRSIG",
        "The file with the key for {what} is damaged, or of a kind that this system's apt does not"
        " know.",
        "The agent fetches it anew where the repository is its own; for another one, fetch its key"
        " again as its publisher says.",
    ),
    Rule(
        SIGNED + r"(?:NO_PUBKEY|Missing key)",
        "{what} is signed with a key that is not on this board: the repository has another one now,"
        " or the file with the key is missing or empty.",
        "If the repository is one of the settings, write the fingerprint of its key there; for"
        " another one, fetch its key as its publisher says.",
    ),
    Rule(
        r"(?:^E: Splitting up (?P<file>\S+) into|"
        + FETCH
        + r"(?:Clearsigned file isn't valid|NOSPLIT|NODATA))",
        "Something between this board and the mirror answers with a page of its own instead of"
        " {what}{file}: a login page or a proxy.",
        "Log in there, or let this board through; " + ITSELF,
    ),
    Rule(
        SIGNED,
        "The signature of {what} is wrong.",
        "A mirror being renewed is right again within the hour; if not, something changes the"
        " files on their way: check proxies.",
    ),
    Rule(
        FETCH + r"certificate.*(?:expired|not (?:yet )?(?:valid|activated))",
        "The TLS certificate of {what} is not valid at this board's time.",
        "Look at `timedatectl`; if the clock is right, the mirror has to renew its certificate.",
    ),
    # What came is not what was announced.
    Rule(
        FETCH + r"(?:Hash Sum mismatch|unexpected size)",
        "{what} is not the file that its repository announces.",
        "A mirror being renewed is right again within the hour; if not, a proxy on the way keeps"
        " old files or changes them. " + ITSELF.capitalize(),
    ),
    Rule(
        r"^E: Repository '(?P<what>\S+).*' changed its",
        "{what} calls itself something else than before, for example because of a new release of"
        " the system.",
        "If that is right, run `apt-get update --allow-releaseinfo-change` once.",
        network=False,
    ),
    # Mirrors and the way to them.
    Rule(
        r"^E: The repository '(?P<what>\S+) .*' (?:does not have|no longer has) a Release file",
        "There is no package repository at {what}.",
        "Check that address, in the settings or below /etc/apt: a mirror may be half built, or"
        " have dropped an old release of the system.",
    ),
    Rule(
        FETCH + r"40[14] ",
        "{what} is not there (404): the mirror is being renewed, or lacks it.",
        "Nothing to do for an hour; " + ITSELF,
    ),
    Rule(
        FETCH + r"407 ",
        "A proxy refuses to fetch {what} without a password.",
        "Give apt the proxy's password in /etc/apt/apt.conf.d (apt-transport-http(1)).",
    ),
    Rule(
        FETCH + r"403 ",
        "{what} is refused (403): by the mirror, or by a filter on the way.",
        "Check the address in the settings, and filters and proxies of this network.",
    ),
    Rule(
        FETCH + r"(?:429|5\d\d) ",
        "The mirror cannot serve {what} now: it is overloaded or being repaired.",
        "Nothing to do; " + ITSELF,
    ),
    Rule(
        FETCH + r"(?:Could not resolve|resolving)",
        "The name server does not know the host of {what}, or does not answer.",
        "Check the network's DNS, and that address for a typing mistake; " + ITSELF,
    ),
    Rule(
        FETCH + r"(?:SSL|handshake|[Cc]ertificate)",
        "No TLS connection to {what}: the mirror or something on the way does not speak it as it"
        " should.",
        "Check the address (http or https), and proxies that look into TLS.",
    ),
    Rule(
        r"^E: The repository '(?P<what>\S+) .*' is (?:not|no longer) signed",
        "{what} is not signed, or its signature could not be had.",
        "Check that address, and proxies of this network. Nothing unsigned is installed.",
    ),
    Rule(
        FETCH,
        "{what} could not be fetched: no connection, or it broke off.",
        "Check the network and the mirror; " + ITSELF,
    ),
    # What is to be installed.
    Rule(
        r"^E: Version '(?P<version>\S+)' for '(?P<what>\S+)' was not found",
        "No package repository of this board has {what} in a version {version}.",
        "Another version can be asked for in the settings; for containerd, `containerd:"
        " {{source: docker}}` takes Docker's.",
        network=False,
    ),
    Rule(
        r"^E: (?:Unable to locate package|Package '?)\s*(?P<what>[^\s']+)",
        "No package repository of this board has the package {what}.",
        "Look below /etc/apt whether the distribution's own repositories are there.",
        network=False,
    ),
    Rule(
        r"^E: Packages need to be removed but remove is disabled",
        "What is to be installed cannot stand beside packages that are there, and the agent"
        " removes none that somebody chose.",
        "`apt-get install -s containerd.io kubelet` names them; remove them by hand.",
        network=False,
    ),
    Rule(
        r"^E: Unable to correct problems",
        "The packages to install do not fit those that are there.",
        "Run `apt-get install -f`, which says what is in the way.",
        network=False,
    ),
    Rule(
        r"^dpkg: error processing (?:package|archive) (?P<what>\S+) ",
        "The package {what} could not be set up.",
        "`journalctl -u nodeagent` and /var/log/apt/term.log say why; " + ITSELF,
        network=False,
    ),
)
