"""Whether a new key is another card of a board that was let in before, whose name it then gets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from nodeagent.broker.kube_api_protocol import Seen
from nodeagent.broker.ledger import MAX_NAMES_EACH, Ledger
from nodeagent.broker.ledger_file import MAX_FORMER
from nodeagent.join import messages
from nodeagent.join.approval import second_name

AWAY = 60  # seconds that a Node is not Ready until its name may go to another card of its board
# Seconds for which a board is told to wait for its name, since one that stays in use is another
# board's; seconds until it may be told so again; how many at a time.
PATIENCE, FORGOTTEN, MAX_WAITS = 720, 6 * 3600, 64


class Overloaded(Exception):
    """Too many tokens are outstanding: ask later."""


class Boards:
    """Remembers, in memory only, which of them wait."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self.ledger, self.clock = ledger, clock
        self._waits: dict[str, float] = {}  # node id -> when it was first told to, in lived seconds

    def name_of(self, request: messages.Request, nodes: Mapping[str, Seen]) -> str:
        """The name that its board had with another card, where that is the one it wishes for, or
        the one it got for that; empty for none.

        What it says of its board is no secret, so the asker must be one who may join anyhow, and
        the name in nobody's use. Raises Overloaded where that may be so in a moment: once it has
        another name, it keeps that.
        """
        ledger, board = self.ledger, board_of(request)
        own = ledger.names_of(request.node_id)
        if not board or request.name in own:
            return ""
        for had in sorted(ledger.certificates.values(), key=lambda one: one.name != request.name):
            name, cards = had.name, dict.fromkeys((*had.former, had.node_id))
            if had.board != board or had.end or name in ledger.reserved:
                continue
            if name not in (request.name, *(second_name(request.name, one) for one in cards)):
                continue
            if had.node_id == request.node_id and had.former:
                return name  # it was passed on when it asked before
            # A key that went unremembered could not be revoked with the name.
            others = cards.keys() - {request.node_id}
            if name in own or len(own) >= MAX_NAMES_EACH or len(others) > MAX_FORMER:
                continue
            node = nodes.get(name, Seen(ready=False))
            if node.leads:
                continue
            joining = any(token.name == name for token in ledger.open_tokens())
            if not (joining or node.ready or 0 <= self.clock() - node.since < AWAY):
                return name
            if self._may_wait(request.node_id):
                raise Overloaded(f"{name} is in use, or was a moment ago; ask again later")
        return ""

    def _may_wait(self, node_id: str) -> bool:
        now = self.ledger.lived()
        self._waits = {one: at for one, at in self._waits.items() if now - at < FORGOTTEN}
        if node_id not in self._waits and len(self._waits) < MAX_WAITS:
            self._waits[node_id] = now
        return now - self._waits.get(node_id, -PATIENCE) < PATIENCE


def board_of(request: messages.Request) -> str:
    """What the node says of its board (``identity.board_mark``); empty for what cannot be that."""
    board = request.facts.get("board", "")
    return board if re.fullmatch(r"[0-9a-f]{32}", board) else ""
