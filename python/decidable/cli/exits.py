"""Exit codes, and the one exception that a command raises on its own account (docs/cli.md)."""

from __future__ import annotations

from typing import Final

from decidable._start import INTERRUPTED
from decidable.errors import InvalidInput

__all__ = [
    "FAILED",
    "FINE",
    "INTERNAL",
    "INTERRUPTED",
    "PIPE_CLOSED",
    "TERMINATED",
    "UNFINISHED",
    "USAGE",
    "Terminated",
    "Usage",
]

FINE: Final = 0
FAILED: Final = 1
"""Verification failed: the evidence does not hold."""
USAGE: Final = 2
"""The command cannot be carried out as given: usage, a missing or unreadable file, a wrong key."""
UNFINISHED: Final = 3
"""What is complete holds, but the log ends in an unfinished tail, or a report cannot conclude for another reason."""
INTERNAL: Final = 70
PIPE_CLOSED: Final = 141
TERMINATED: Final = 143


class Usage(InvalidInput):
    """The command line asks for something that cannot be; the codes start with ``cli.``."""


class Terminated(BaseException):
    """Somebody asked the command to end (SIGTERM), as an exception so that it tidies up."""
