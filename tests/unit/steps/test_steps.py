"""Every step against its cases: facts and settings in, expected actions out.

A case is a file ``steps/STEP/CASE.yaml``:

    why:       a sentence
    live:      false for a mounted image (default true); baked for one whose programs can be run
    model, packages, architecture, uptime, now: short forms of facts
    files:     path -> content, see machine.put
    commands:  command line -> what it answers
    settings:  as in nodeagent.yaml
    expect:    the actions, in order; {write: PATH, text: CONTENT} to look at the content,
               {update: [FILE]} at the source files that apt-get update must read
    blocked:   words of the reason, with remedy: words of the remedy; or
    then:      what the commands and the reboot change in ``files``; afterwards, as always when
               there are file actions only, the step must hold
    again:     what the second plan still wants, where it may want something
    undone:    of steps with an undo: what of /etc, /boot and /var a reset leaves instead of
               ``files``, where the step had been at work before the case begins
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nodeagent import steps
from nodeagent.config import settings as config
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, FetchKey, Reboot, Write
from nodeagent.host.apt.actions import AptUpdate
from nodeagent.host.facts import Facts
from tests.support.machine import Machine, laid_out, put

CASES = sorted(Path(__file__).parent.glob("*/*.yaml"))
STEPS = {step.name: step for step in steps.SEQUENCE}


def short(action: Action) -> str:
    """An action in the words of the cases."""
    if isinstance(action, Write):
        return f"write {action.path}"
    if isinstance(action, Reboot):
        return f"reboot {action.token}"
    if isinstance(action, FetchKey):
        return f"{'try to ' if action.noted else ''}fetch {action.path}"
    return action.show()


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_step(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    assert case["why"]
    host = laid_out(case, tmp_path)
    settings = config.load(host).settings
    step = STEPS[path.parent.name]

    def plan() -> list[Action]:
        return list(step.plan(Facts(host), settings))

    if "blocked" in case:
        with pytest.raises(Blocked) as caught:
            plan()
        assert case["blocked"] in caught.value.reason
        assert case.get("remedy", "") in caught.value.remedy
        assert caught.value.reason.endswith(".") and caught.value.remedy.endswith(".")
        return

    actions = plan()
    expected = case.get("expect", [])
    assert [short(a) for a in actions] == [
        e if isinstance(e, str) else f"write {e['write']}" if "write" in e else "run apt-get update"
        for e in expected
    ]
    for action, wish in zip(actions, expected, strict=True):
        if isinstance(wish, dict) and "update" in wish:
            assert isinstance(action, AptUpdate) and list(action.own) == wish["update"]
        elif isinstance(wish, dict):
            assert isinstance(action, Write)
            assert action.content.decode() == wish["text"]
    if not host.has_programs:
        assert all(a.file_only for a in actions), "an image has no kernel and runs no command"

    for action in actions:
        if action.file_only:
            action.do(host)
    put(tmp_path, case.get("then", {}))
    if "then" in case or "again" in case or all(a.file_only for a in actions):
        assert [short(a) for a in plan()] == case.get("again", [])


def test_every_step_has_cases() -> None:
    assert {path.parent.name for path in CASES} == set(STEPS)


def test_the_order_of_the_sequence() -> None:
    assert [step.name for step in steps.CARD] == ["root-disk", "board"]
    assert [step.name for step in steps.KERNEL] == [
        "architecture", "last-known-time", "memory", "identity", "cgroup", "swap", "modules",
        "sysctls", "watchdog", "ports", "networks", "firewall",
    ]  # fmt: skip
    assert [step.name for step in steps.SOFTWARE] == [
        "network", "own-address", "networks", "firewall", "ipv6", "clock", "repositories",
        "containerd-config", "packages", "pod-network", "containerd", "kubelet",
    ]  # fmt: skip


@pytest.mark.parametrize("step", steps.SEQUENCE, ids=lambda s: s.name)
def test_an_image_gets_file_actions_from_on_image_steps_only(
    step: steps.Step, tmp_path: Path
) -> None:
    host = laid_out({"live": False, "files": {
        "/boot/firmware/cmdline.txt": "console=tty1 root=LABEL=writable\n",
        "/etc/os-release": "ID=debian\nVERSION_CODENAME=trixie\n"}}, tmp_path)  # fmt: skip
    actions = list(step.plan(Facts(host), config.Settings()))
    assert all(action.file_only for action in actions)
    assert not actions or step.on_image
    assert host.ran == []


@pytest.mark.parametrize("step", steps.SEQUENCE, ids=lambda s: s.name)
def test_odd_bytes_everywhere_never_crash_a_step(step: steps.Step, tmp_path: Path) -> None:
    odd = b"\xff\xfe\0[\n=\r\n\0" * 40
    host = Machine(tmp_path)
    put(tmp_path, dict.fromkeys((
        "/var/lib/dpkg/status", "/proc/swaps", "/proc/modules", "/proc/uptime", "/proc/net/route",
        "/proc/net/fib_trie", "/etc/fstab", "/etc/hosts", "/etc/hostname", "/proc/cmdline",
        "/boot/firmware/config.txt", "/boot/firmware/cmdline.txt", "/etc/os-release",
        "/sys/fs/cgroup/cgroup.controllers", "/proc/device-tree/model", "/etc/rpi/swap.conf",
        "/proc/device-tree/serial-number", "/etc/machine-id", "/etc/apt/sources.list",
        "/etc/apt/keyrings/nodeagent-kubernetes.gpg", "/etc/systemd/zram-generator.conf",
    ), odd))  # fmt: skip
    try:
        list(step.plan(Facts(host), config.Settings()))
    except Blocked as blocked:
        assert blocked.reason and blocked.remedy


def disk(root: Path) -> dict[str, bytes | str]:
    """Each file's bytes and each link's target, of what a reboot does not empty."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for folder in ("etc", "boot", "var")
        for path in sorted((root / folder).rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def folders(root: Path) -> set[str]:
    """The folders below /etc that not every system comes with."""
    everywhere = {"modules-load.d", "sysctl.d", "systemd", "systemd/system", "rpi", "default"}
    etc = root / "etc"
    found = {str(path.relative_to(etc)) for path in etc.rglob("*") if path.is_dir()}
    return found - everywhere


# Of the others' cases, some begin where the step has been at work.
UNDOABLE = {"swap", "modules", "sysctls", "watchdog", "pod-network"}


def test_what_a_case_says_of_undoing_is_tried() -> None:
    said = {p.parent.name for p in CASES if "undone" in yaml.safe_load(p.read_text())}
    assert said <= UNDOABLE, f"name these in UNDOABLE: {said - UNDOABLE}"


@pytest.mark.parametrize(
    "path",
    [p for p in CASES if p.parent.name in UNDOABLE],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_undo_gives_back_every_byte(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    host = laid_out(case, tmp_path)
    step = STEPS[path.parent.name]
    assert isinstance(step, steps.Undoable)
    before, there_before = disk(tmp_path), folders(tmp_path)
    if "undone" in case:
        put(tmp_path / "wanted", case["undone"])
        gone = {name for name in case["files"] if name.startswith(("/etc", "/boot", "/var"))}
        kept = {name: data for name, data in before.items() if f"/{name}" not in gone}
        before = kept | disk(tmp_path / "wanted")
    if "blocked" not in case:
        for action in list(step.plan(Facts(host), config.load(host).settings)):
            if action.file_only:
                action.do(host)
    undo = list(step.undo(Facts(host), config.Settings()))
    for action in undo:
        if action.file_only:
            action.do(host)
    assert disk(tmp_path) == before, (
        "left: what the undo leaves; right: the files as they were, or where the case has"
        " `undone:`, those that it lists, which are all that stay"
    )
    assert folders(tmp_path) <= there_before
    assert not [a for a in step.undo(Facts(host), config.Settings()) if a.file_only], (
        "a second undo has nothing to do"
    )
