"""The reference pages: one function each, out of the same tables that the program uses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from nodeagent.cluster import ports as cluster_ports
from nodeagent.config.settings import Settings
from nodeagent.doctor import recipe as tutorial
from nodeagent.errors import TABLE
from nodeagent.status import events, model
from nodeagent.status import metrics as openmetrics
from tests.guide import settings as table
from tests.guide.commands import visible
from tests.support.statuses import FULL

MADE = "<!-- Made of the program itself by `make guide`; a test compares the two. -->\n"
SCHEMA = Path(model.__file__).with_name("status.schema.json")


def _page(title: str, lines: Iterable[str]) -> str:
    return f"# {title}\n\n{MADE}\n" + "\n".join(lines).rstrip() + "\n"


def words(text: str) -> str:
    """A paragraph in lines; `code` stays in one piece."""
    return fill(text, 110, break_long_words=False, break_on_hyphens=False)


def commands() -> str:
    """Every command with its options and examples."""
    return _page("Commands", _commands())


def _commands() -> Iterator[str]:
    yield "`nodeagent COMMAND --help` says the same in a terminal, and `man nodeagent` too."
    for one in visible():
        yield f"\n## nodeagent {one.path}\n"
        yield f"{words(one.about)}\n\n{words(one.lesson.when)}\n"
        if not one.is_group:
            yield f"```\nnodeagent {one.path} {one.usage}".rstrip() + "\n```\n"
        if one.options:
            yield "| option | what it does |\n|---|---|"
            yield from (f"| `{_cell(names)}` | {_cell(text)} |" for names, text in one.options)
            yield ""
        yield "```"
        yield from (f"# {what}\n{command}" for command, what in one.lesson.examples)
        yield "```"


def settings() -> str:
    """Every setting."""
    return _page("Settings", _settings())


def _settings() -> Iterator[str]:
    yield words(
        "`nodeagent.yaml` on the boot partition, then `/etc/nodeagent/config.d/*.yaml` by name, "
        "then the environment (`NODEAGENT_ROLE`); later wins. `nodeagent config` shows each value "
        "and its origin. A dot stands for a section: `network.pod_cidr` is `pod_cidr:`, indented, "
        "below `network:`."
    )
    for group in table.groups():
        yield "\n## " + ", ".join(f"`{key.name}`" for key in group.keys) + "\n"
        yield f"{words(group.words)}\n"
        yield "| key | default | what may be written |\n|---|---|---|"
        for key in group.keys:
            yield f"| `{key.name}` | `{key.default}` | {_cell(key.right.removeprefix('Write '))} |"


def ports() -> str:
    """Every port of a node."""
    return _page("Ports", _ports())


def _ports() -> Iterator[str]:
    every = sorted(cluster_ports.known(Settings()), key=lambda one: (not one.lan, one.number))
    yield words(
        "What listens on a node with the default settings. ufw and firewalld are opened by the "
        "agent where a port must be reached from the LAN; of nftables rules that close one it "
        "names those to add. A worker (`role: worker`) has none of the control plane's. NodePorts "
        "are not among them: they lead to pods, never to a program of the node."
    )
    for title, lan in (("From the LAN", True), ("On the node only", False)):
        yield f"\n## {title}\n"
        yield "| port | what listens | where | others may hold it |\n|---|---|---|---|"
        for one in (one for one in every if one.lan is lan):
            where = "control plane" if one.leads else "every node"
            held = "no" if one.exclusive else "yes"
            yield f"| {one.number}/{one.protocol} | {one.what} | {where} | {held} |"
    yield "\n## What a node itself asks for\n"
    yield words(
        "Its address (DHCP, 67/udp), names (DNS, 53), the time (NTP, 123/udp), and until "
        "Kubernetes is installed packages and container images (443/tcp, and 80/tcp for the "
        "distribution's own mirrors). A [baked image](../images.md) needs no packages."
    )


def errors() -> str:
    """Every error code."""
    return _page("Errors", _errors())


def _errors() -> Iterator[str]:
    yield words(
        "Each error has a code, a sentence that says what happened and why, and one that says "
        "what to do. The same code stands in `nodeagent status`, on the status page, on the "
        "console, in `nodeagent-status.txt` and in the system's journal (`NODEAGENT_CODE`). On "
        "the node `nodeagent explain E100` says what stands here. The agent tries again by itself "
        "unless something else is said."
    )
    yield "\n| code | what it is |\n|---|---|"
    for code, known in TABLE.items():
        yield f"| [{code}](#{code.lower()}) | {_cell(known.title)} |"
    for code, known in TABLE.items():
        yield f"\n## {code}\n\n" + words(f"**{known.title}.** {known.explanation}")


RECIPE = {
    "en": (
        "Coming from kubeadm",
        (
            "What kubeadm tutorials have you do on each machine, and what becomes of it here. On a "
            "node `sudo nodeagent explain --recipe` says the same, and how it is there. "
            "[Em português](vindo-do-kubeadm.md)."
        ),
        "| in the tutorial | what nodeagent does | where to see it on a node |",
    ),
    "pt": (
        "Vindo do kubeadm",
        (
            "O que os tutoriais de kubeadm mandam fazer em cada máquina, e o que acontece aqui. Em "
            "um nó, `sudo nodeagent explain --recipe=pt` diz o mesmo, e como está ali. "
            "[In English](coming-from-kubeadm.md)."
        ),
        "| no tutorial | o que o nodeagent faz | onde ver em um nó |",
    ),
}


def recipe(language: str) -> str:
    """The steps of kubeadm tutorials beside what the agent does."""
    return _page(RECIPE[language][0], _recipe(language))


def _recipe(language: str) -> Iterator[str]:
    _, about, head = RECIPE[language]
    yield words(about)
    part = ""
    for one in tutorial.read(language):
        if one.part != part:
            part = one.part
            yield f"\n## {part}\n\n{head}\n|---|---|---|"
        typed = f"`{_cell(one.text)}`" if one.command else _cell(one.text)
        look = f"`{_cell(one.look)}`" if one.look else "`sudo nodeagent doctor`"
        yield f"| {typed} | {_cell(one.agent)} | {look} |"


def milestones() -> str:
    """Every record that the agent writes into the journal."""
    return _page("Events", _milestones())


def _milestones() -> Iterator[str]:
    yield words(
        "`nodeagent events` lists them. Each is a record of the system's journal with a fixed "
        "`MESSAGE_ID` and the fields `NODEAGENT_EVENT`, `NODEAGENT_NODE`, `NODEAGENT_PHASE`, "
        "`NODEAGENT_ROLE`; an error also has `NODEAGENT_CODE` and `NODEAGENT_REMEDY`."
    )
    for name, event in events.EVENTS.items():
        yield f"\n## {name}\n\n" + words(f"**{event.title}.** {event.text}") + "\n"
        yield f"`MESSAGE_ID={event.message_id}`, priority {event.priority}"


def metrics() -> str:
    """Every metric, as Prometheus' own parser reads it."""
    return _page("Metrics", _metrics())


def _metrics() -> Iterator[str]:
    yield "OpenMetrics at `http://ADDRESS:6480/metrics`, where `status_page` is not `off`.\n"
    yield "| metric | type | labels | what it is |\n|---|---|---|---|"
    versions = ("nodeagent", "kubernetes", "containerd", "kernel", "system")
    shown = {
        **FULL,
        "phases": [{"phase": "ready", "at": 9.0}],
        "steps": [{"name": "swap", "title": "Turn swap off", "state": "done", "seconds": 1.0}],
        "versions": dict.fromkeys(versions, ""),
    }
    text = openmetrics.render(json.dumps(shown).encode(), 1061.0).decode()
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        labels = ", ".join(f"`{label}`" for label in sorted(family.samples[0].labels))
        yield f"| `{family.name}` | {family.type} | {labels} | {_cell(family.documentation)} |"


def status() -> str:
    """Every key of the status."""
    return _page("Status", _status())


def _status() -> Iterator[str]:
    schema = json.loads(SCHEMA.read_text())
    yield words(
        "`nodeagent status --json`, `http://ADDRESS:6480/status.json` and "
        "`/run/nodeagent/status.json` are one object of these keys. Times are seconds since the "
        "epoch. Version 1: keys are added, never taken away or given another meaning. The JSON "
        "schema is in the package: `nodeagent/status/status.schema.json`."
    )
    yield ""
    yield "| key | what it is | value |\n|---|---|---|"
    yield from _keys(schema["properties"], "")


def _keys(properties: dict[str, Any], above: str) -> Iterator[str]:
    for name, one in properties.items():
        yield f"| `{above}{name}` | {_cell(one.get('description', ''))} | {_kind(one)} |"
        inside = one.get("items", {})
        for other in one.get("anyOf", ()):
            inside = other if "properties" in other else inside
        end = "[]." if one.get("type") == "array" else "."
        yield from _keys(inside.get("properties", {}), f"{above}{name}{end}")


def _kind(one: dict[str, Any]) -> str:
    if "enum" in one:
        return ", ".join(f"`{word}`" for word in one["enum"])
    if "const" in one:
        return f"`{one['const']}`"
    if "anyOf" in one:
        return "object or null"
    kind = one["type"]
    if isinstance(kind, list):
        return " or ".join(kind)
    return f"list, at most {one['maxItems']}" if kind == "array" else str(kind)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
