"""The first thing that is imported: until the command has come far enough, a signal ends it in one line.

Importing takes some tenths of a second, in which nothing of ours could catch an exception. Only the command's own
process is touched, and only where nobody has chosen another way to be interrupted or terminated.
"""

from __future__ import annotations

# What `signal` is made of, in the interpreter: importing that one takes as long as a hasty Ctrl-C.
import _signal  # type: ignore[import-not-found]
import atexit
import os
import sys

__all__ = ["ENDINGS", "end"]

# How a command that a signal ended says so; its exit code is 128 and the signal's number, as a shell tells it.
ENDINGS = {_signal.SIGINT: "interrupted", _signal.SIGTERM: "terminated"}


def end(number: int, frame: object) -> None:
    """A handler that does not return."""
    try:
        import select

        # Whoever does not read what is said must not keep the command from ending.
        if sys.platform == "win32" or select.select([], [2], [], 0)[1]:
            os.write(2, f"decidable: {ENDINGS[number]}\n".encode())
    finally:
        os._exit(128 + number)


def _is_the_command() -> bool:
    """Whether this process was started as ``decidable`` or ``python -m decidable``."""
    if sys.argv[:1] == ["-m"]:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
        return module[:1] in (["decidable"], ["decidable.cli"])
    return os.path.basename(sys.argv[0] if sys.argv else "") in {"decidable", "decidable.exe"}  # noqa: PTH119 - light


if _is_the_command():
    for _number in ENDINGS:
        if _signal.getsignal(_number) in (_signal.default_int_handler, _signal.SIG_DFL):
            _signal.signal(_number, end)
            # While the interpreter comes down nothing is left to end, and the command keeps its exit code.
            atexit.register(_signal.signal, _number, _signal.SIG_IGN)
