"""Being interrupted (Ctrl-C, SIGINT) and being terminated (SIGTERM), while a command runs."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from decidable._start import ENDINGS, end

__all__ = ["ENDED", "Terminated", "ending", "signals"]


class Terminated(BaseException):
    """Somebody asked the command to end (SIGTERM), as an exception so that it tidies up."""


ENDED: Final = (KeyboardInterrupt, Terminated)
"""What a signal raises in a command."""

# How long the interpreter is given to leave a callback, in seconds, before the signal is handled again.
_AGAIN: Final = 0.01


@contextmanager
def signals() -> Iterator[None]:
    """While a command runs, a signal is an exception that it cannot miss.

    A handler runs wherever the interpreter is. In the callback of a weak reference or a finalizer its exception would
    be shown as ignored and be lost, so there the signal is handled once more when the callback has returned.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, shown = {}, sys.unraisablehook

    def ignored(about: sys.UnraisableHookArgs) -> None:
        if isinstance(about.exc_value, ENDED):
            _again(about.exc_value)
        else:
            shown(about)

    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, _terminate)):
        if signal.getsignal(number) in (end, signal.SIG_DFL):
            before[number] = signal.signal(number, handler)
    sys.unraisablehook = ignored
    try:
        yield
    finally:
        for number, chosen in before.items():
            signal.signal(number, chosen)
        sys.unraisablehook = shown


def ending(error: BaseException) -> tuple[str, int]:
    """How a command that a signal ended says so, and its exit code."""
    # Where the signal came between making a coroutine and awaiting it, Python says so. Nothing is awaited any more.
    warnings.simplefilter("ignore", RuntimeWarning)
    number = _number(error)
    return ENDINGS[number], 128 + number


def _number(error: BaseException) -> signal.Signals:
    return signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _again(error: BaseException) -> None:
    """Has a signal handled that would have been lost."""
    # No `Thread`: it would wait for its beginning, in which the signal could come again.
    _thread.start_new_thread(_later, (_number(error),))


def _later(number: signal.Signals) -> None:
    time.sleep(_AGAIN)
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:
        # A signal of the system, which wakes the main thread where it waits.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
