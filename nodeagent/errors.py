"""Errors that people see: each has a code, a sentence, a remedy and an exit code.

``nodeagent status`` and the documentation use the same codes. Exit codes follow
sysexits.h (man 3head sysexits) where one fits.
"""

from __future__ import annotations

from typing import ClassVar


class NodeAgentError(Exception):
    """Base of every error a user can cause or cure.

    ``reason`` says what happened and why, ``remedy`` what to do, each in one or two sentences.
    """

    code: ClassVar[str] = "E000"
    exit_code: ClassVar[int] = 1

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


class Blocked(NodeAgentError):
    """A step cannot go on until something outside the agent changes."""

    code = "E100"
    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, reason: str, remedy: str, within: float | None = None) -> None:
        """``within``: seconds after which the wait ends by itself, where it has a bound."""
        super().__init__(reason, remedy)
        self.within = within


class CommandFailed(NodeAgentError):
    """An external command ended with a status other than 0, or ran out of time."""

    code = "E101"
    exit_code = 71  # EX_OSERR


class NotConverged(NodeAgentError):
    """A step did its actions and its plan is still not empty."""

    code = "E102"
    exit_code = 70  # EX_SOFTWARE


class FetchFailed(NodeAgentError):
    """Something on the network could not be had, or was not what it should be; tried again."""

    code = "E105"
    exit_code = 69  # EX_UNAVAILABLE


class ConfigError(NodeAgentError):
    """A settings file is unreadable or wrong; the reason names file, line and key."""

    code = "E200"
    exit_code = 78  # EX_CONFIG


class FleetError(NodeAgentError):
    """Fleet material is missing or damaged."""

    code = "E300"
    exit_code = 78  # EX_CONFIG


class Untrusted(NodeAgentError):
    """A peer, request or grant failed proof. Nothing it said was used."""

    code = "E301"
    exit_code = 77  # EX_NOPERM


class NoControlPlane(NodeAgentError):
    """No control plane answered; the agent keeps trying. ``wait``: seconds that one asked it to
    wait, 0 where none did."""

    code = "E400"
    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, reason: str, remedy: str, wait: int = 0) -> None:
        super().__init__(reason, remedy)
        self.wait = wait


class TwoControlPlanes(NodeAgentError):
    """Another control plane of this fleet has a cluster of its own."""

    code = "E401"
    exit_code = 1


class NotAdmitted(Blocked):
    """A control plane answered, and a person has to let this node in; the agent keeps asking.

    ``shown``: what that person types.
    """

    code = "E402"

    def __init__(self, reason: str, remedy: str, shown: str = "") -> None:
        super().__init__(reason, remedy)
        self.shown = shown


class Refused(NodeAgentError):
    """What was asked would lose something, or needs another state first."""

    code = "E500"
    exit_code = 77  # EX_NOPERM


class ImageError(NodeAgentError):
    """An image or card is not what it should be; it was left as it is."""

    code = "E600"
    exit_code = 65  # EX_DATAERR


class ToolMissing(NodeAgentError):
    """A program that works on images is not installed on this computer."""

    code = "E601"
    exit_code = 69  # EX_UNAVAILABLE
