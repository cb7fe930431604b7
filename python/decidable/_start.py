"""The first thing that is imported: until the command has come far enough, an interrupt ends it in one line.

Importing takes some tenths of a second, in which nothing of ours could catch an exception. Only the command's own
process is touched, and only where nobody has chosen another way to be interrupted.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType

__all__ = ["INTERRUPTED", "interrupted"]

INTERRUPTED = 130


def interrupted(number: int, frame: FrameType | None) -> None:
    """A handler that does not return."""
    os.write(2, b"decidable: interrupted\n")
    os._exit(INTERRUPTED)


def _is_the_command() -> bool:
    """Whether this process was started as ``decidable`` or ``python -m decidable``."""
    if sys.argv[:1] == ["-m"]:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
        return module[:1] in (["decidable"], ["decidable.cli"])
    return os.path.basename(sys.argv[0] if sys.argv else "") in {"decidable", "decidable.exe"}  # noqa: PTH119 - light


if _is_the_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, interrupted)
    # While the interpreter comes down nothing is left to interrupt, and the command keeps its exit code.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
