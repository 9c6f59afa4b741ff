"""What of the documentation is made of the program itself: `make guide` writes it, a unit test says
what is stale. Man pages, reference pages, captures, and the lab's records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nodeagent.status import events
from tests.guide import captures, manpages, pages, records, seeding

CHECKOUT = Path(__file__).parents[2]

FILES: dict[str, Callable[[], str]] = {
    "debian/nodeagent.1": manpages.commands,
    "debian/nodeagent.yaml.5": manpages.settings,
    "debian/nodeagent.catalog": events.catalogue,
    "docs/coming-from-kubeadm.md": lambda: pages.recipe("en"),
    "docs/vindo-do-kubeadm.md": lambda: pages.recipe("pt"),
    "docs/errors.md": pages.errors,
    "docs/reference/captures.md": captures.page,
    "docs/reference/commands.md": pages.commands,
    "docs/reference/events.md": pages.milestones,
    "docs/reference/metrics.md": pages.metrics,
    "docs/reference/ports.md": pages.ports,
    "docs/reference/settings.md": pages.settings,
    "docs/reference/status.md": pages.status,
    "docs/reference/systems.md": seeding.page,
    "docs/results.md": records.page,
}
