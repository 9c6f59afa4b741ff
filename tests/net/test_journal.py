"""The milestones in a real journald, which sees a /run of its own; the catalogue as journalctl
compiles it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nodeagent.host.host import Host, Result
from nodeagent.status import eventlog, events, model, schema
from tests.support import namespaces
from tests.support.tools import tool

CHECKOUT = Path(__file__).parents[2]
SEND = """
from nodeagent.status import events
from nodeagent.host.host import Host
host = Host()
for name in events.EVENTS:
    said = f"{name} happened.\\nTwice: \\u00e9"
    events.record(host, name, said, code="E101", node="pi-1", empty="")
"""
# journald reads the kernel's messages too, and asks for nothing of systemd's. Its own namespaces
# keep it off the machine's /run and let its end be the end of all.
SCRIPT = r"""
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p "/run/log/journal/$(cat /etc/machine-id)" /run/systemd/journal
/lib/systemd/systemd-journald >/dev/null 2>&1 &
until [ -S /run/systemd/journal/socket ]; do sleep 0.1; done
JOURNAL_STREAM=1:2 "$1" -c "$2"
journalctl --sync >/dev/null 2>&1 || sleep 1
shift 2
journalctl "$@"
kill $!
"""


def journal(*words: str, send: str = SEND) -> str:
    """What journalctl says after ``send`` was run."""
    done = subprocess.run(
        namespaces.apart("sh", "-c", SCRIPT, "sh", sys.executable, send, *words,
                         kinds=("mnt", "pid")),
        capture_output=True, text=True, timeout=120, check=False, cwd=CHECKOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_milestone_is_a_record_with_its_fields() -> None:
    def run(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        # No systemd gave this process a unit, so the journal cannot know one.
        return Result(0, journal(*(w for w in argv[1:] if not w.startswith("_SYSTEMD_UNIT"))))

    found = eventlog.read(Host(run=run))
    assert [one["event"] for one in found] == list(events.EVENTS)
    assert found[0]["message"] == "preparing happened.\nTwice: é"
    assert found[0]["fields"] == {"event": "preparing", "code": "E101", "node": "pi-1"}
    lines = list(eventlog.as_text(found))
    assert max(map(len, lines)) <= 80 and "preparing happened. Twice: ?" in lines[1]


def test_the_catalogue_is_what_journalctl_shows(tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "lib" / "systemd" / "catalog"
    folder.mkdir(parents=True)
    shipped = CHECKOUT / "debian" / "nodeagent.catalog"
    assert shipped.read_text() == events.catalogue(), (
        "write it anew: see nodeagent/status/events.py"
    )
    (folder / "nodeagent.catalog").write_bytes(shipped.read_bytes())
    (tmp_path / "var" / "lib" / "systemd" / "catalog").mkdir(parents=True)
    command = tool("journalctl", "Install it with: apt-get install systemd")
    for words in (["--update-catalog"], ["--list-catalog"]):
        done = subprocess.run(
            [command, f"--root={tmp_path}", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    titles = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {titles[e.message_id] for e in events.EVENTS.values()} == {
        f"nodeagent: {e.title}" for e in events.EVENTS.values()
    }


def test_every_phase_is_an_event_and_every_id_its_own() -> None:
    assert set(model.PHASES) <= set(events.EVENTS)
    ids = [event.message_id for event in events.EVENTS.values()]
    assert len(set(ids)) == len(ids) and all(len(bytes.fromhex(one)) == 16 for one in ids)


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"MESSAGE_ID": 3}', '{"MESSAGE_ID": "x"}'])
def test_odd_entries_are_left_out(line: str) -> None:
    assert list(eventlog.parse(line)) == []


def test_without_the_journal_it_is_what_the_status_knows() -> None:
    assert eventlog.read(Host(run=lambda argv, timeout, stdin: Result(1))) == []
    shown: schema.Status = {**model.empty(), "phases": [{"phase": "joining", "at": 5.0}]}
    assert [one["event"] for one in eventlog.of_this_boot(shown)] == ["joining"]
