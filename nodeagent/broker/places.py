"""Whose open token gives way where all places are taken: a share for each kind of asker, and for
each address among them.

Keys cost whoever has a card nothing, so they count for nothing here. A place is for whoever uses
it: one that was held for a while without a certificate request may be taken, and an address that
left such places counts as holding them still.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nodeagent.broker.ledger_file import Token

PLACES = 32  # open tokens
# Of them each kind has so many where others want more: members, those whom a person approved, and
# newcomers by their card's issuer.
MEMBER, APPROVED, LEAD = "member", "approved", "lead"
SHARE = PLACES // 4
GRACE = 60  # seconds from a grant to the kubelet's request; a slow board takes 40
REMEMBERED = 3600  # seconds that an unused place counts against its address
ADDRESSES = 1000  # that are remembered


class Places:
    """Remembers, in memory only, which addresses left places unused."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[int, float]] = {}  # address -> how many, the last one when

    def left(self, token: Token, now: float) -> None:
        """This token was withdrawn; it counts where nothing was asked for with it in time."""
        if not token.csr and now - token.since >= GRACE:
            count = self._count(token.source, now) + 1
            self._left.pop(token.source, None)
            self._left[token.source] = count, now
            while len(self._left) > ADDRESSES:
                del self._left[next(iter(self._left))]

    def _count(self, source: str, now: float) -> int:
        count, last = self._left.get(source, (0, 0.0))
        return count if now - last < REMEMBERED else 0

    def gives_way(self, held: Sequence[Token], kind: str, source: str, now: float) -> Token | None:
        """Whose place a newcomer gets; None where all are in use. ``held``: the others' open
        tokens, as many as there are places."""
        kinds = Counter(token.kind for token in held)
        poor = kinds[kind] < SHARE
        most = max(kinds.values())
        rivals = [
            token
            for token in held
            if (kinds[token.kind] == most if poor else token.kind == kind)
            # Just approved: its kubelet is fetching the certificate.
            and (not token.csr or now - token.since >= GRACE)
        ]
        weights = Counter(token.source for token in rivals)
        weights.update({address: self._count(address, now) for address in weights})
        mine = weights[source] if source in weights else self._count(source, now)
        oldest = sorted(rivals, key=lambda token: token.since)
        heaviest = max(weights.values(), default=0)
        if poor or heaviest > mine + 1:
            return next((t for t in oldest if weights[t.source] == heaviest), None)
        return next((token for token in oldest if now - token.since >= GRACE), None)
