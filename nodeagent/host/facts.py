"""Facts: what is true of the machine now, read when asked for and kept for one pass."""

from __future__ import annotations

from typing import Any

from nodeagent.host.host import Host, Result


class Facts:
    """A view of one host for one pass of the engine; files and command outputs are read once."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._kept: dict[Any, Any] = {}

    @property
    def live(self) -> bool:
        """True on the running system; False on a mounted image (no commands, no kernel)."""
        return self.host.live

    def read(self, path: str) -> bytes | None:
        """A file's bytes, or None."""
        return self._keep(("read", path), lambda: self.host.read(path))  # type: ignore[no-any-return]

    def text(self, path: str) -> str | None:
        """A file's text, or None."""
        data = self.read(path)
        return None if data is None else data.decode("utf-8", "replace")

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder."""
        return self._keep(("names", folder), lambda: self.host.names(folder))  # type: ignore[no-any-return]

    def ask(self, *argv: str, timeout: float = 30) -> Result:
        """What a command that changes nothing answers."""
        return self._keep(argv, lambda: self.host.run(*argv, timeout=timeout))  # type: ignore[no-any-return]

    def _keep(self, name: Any, make: Any) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]
