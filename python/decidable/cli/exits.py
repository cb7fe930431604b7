"""Exit codes (docs/cli.md), and the one exception that a command raises on its own account.

What a signal ends has its code from `decidable.cli.signals`.
"""

from __future__ import annotations

from typing import Final

from decidable.errors import InvalidInput

__all__ = [
    "FAILED",
    "FINE",
    "INTERNAL",
    "PIPE_CLOSED",
    "UNFINISHED",
    "USAGE",
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


class Usage(InvalidInput):
    """The command line asks for something that cannot be; the codes start with ``cli.``."""
