"""The steps of kubeadm tutorials, each with what becomes of it on a node (``recipe.yaml``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from textwrap import wrap

import yaml

from nodeagent.config.settings import Settings
from nodeagent.doctor import checkup
from nodeagent.doctor.finding import Finding, Node
from nodeagent.host.host import Host

LANGUAGES = ("en", "pt")
WIDTH = 80
# What stands before each line, by language.
LABELS = {
    "en": ("nodeagent", "here", "look", "do"),
    "pt": ("nodeagent", "aqui", "veja", "faça"),
}
NO_NODE = {
    "en": "This machine is no node of a fleet, so nothing is said of it below.",
    "pt": "Esta máquina não é um nó de uma frota; nada se diz dela abaixo.",
}
LEVELS = {"pass": "ok", "warning": "warn", "failure": "FAIL", "unknown": "?"}


@dataclass(frozen=True)
class Instruction:
    """One step of a tutorial: what it has people type, or asks for (``command`` False), and what
    the agent does instead, or answers. ``checks`` of the doctor say how it is on a node; ``look``
    is a command that shows it."""

    part: str
    text: str
    command: bool
    agent: str
    checks: tuple[str, ...]
    look: str


def read(language: str, network: str = Settings().network.cni) -> list[Instruction]:
    """All of them, in the tutorials' order. ``language``: one of ``LANGUAGES``; ``network``: the
    pod network's name."""
    text = resources.files("nodeagent.doctor").joinpath("recipe.yaml").read_text("utf-8")
    text = text.replace(" NETWORK ", f" {network} ")
    return [
        Instruction(
            part["part"][language],
            step["typed"] if "typed" in step else step["what"][language],
            "typed" in step,
            step["agent"][language],
            tuple(step.get("checks", ())),
            step.get("look", ""),
        )
        for part in yaml.safe_load(text)
        for step in part["steps"]
    ]


def lines(host: Host, language: str) -> Iterator[str]:
    """The whole for this very node, as lines for people; changes nothing and raises nothing."""
    node = checkup.look(host)
    is_node = node.status is not None
    found = _findings(node) if is_node else {}
    done, here, look, do = LABELS[language]
    part = ""
    if not is_node:
        yield NO_NODE[language]
    for one in read(language, node.settings.network.cni):
        if one.part != part:
            part = one.part
            yield from ("", f"== {part} ==")
        yield ""
        yield from _wrapped(f"$ {one.text}" if one.command else one.text, "", "  ")
        yield from _labelled(done, one.agent)
        for finding in (found[name] for name in one.checks if name in found):
            yield from _labelled(here, f"{LEVELS[finding.level]}: {finding.name}: {finding.value}")
            if finding.remedy and finding.level != "pass":
                yield from _labelled(do, finding.remedy)
        if one.look:
            yield from _labelled(look, one.look)


def _labelled(label: str, text: str) -> list[str]:
    return _wrapped(text, f"  {label + ':':<11} ", " " * 14)


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=others,
                break_on_hyphens=False, break_long_words=False)  # fmt: skip


def _findings(node: Node) -> dict[str, Finding]:
    names = {name for one in read("en") for name in one.checks}
    wanted = (check for check in checkup.checks() if check.name in names)
    found = (checkup.finding(check, node) for check in wanted)
    return {one.name: one for one in found if one is not None}
