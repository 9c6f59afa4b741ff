"""What of a flood the mDNS library remembers: ``python -m tests.net.library_process ADDRESS``.

Announces as serve does, and after four seconds prints how many candidates there are, and how many
names in the library's cache.
"""

from __future__ import annotations

import asyncio
import sys

from nodeagent.fleet.handoff import Announcement
from nodeagent.serve.mdns.discovery import Discovery


async def main(address: str) -> None:
    """Announce, wait, tell."""
    discovery = Discovery()
    wanted = Announcement(address, "n-aaaaaaaaaaaaaaaa", "beacon", 6444, False, False)
    await discovery.announce(wanted)
    sys.stdout.write("announced\n")
    sys.stdout.flush()
    await asyncio.sleep(4)
    assert discovery._zeroconf is not None
    remembered = discovery._zeroconf.zeroconf.cache.names()
    sys.stdout.write(f"{len(discovery.candidates)} {len(remembered)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
