"""Standard input, output and error, while a command runs: waited for where they would block, and written whole.

Where Python does not buffer (``-u``, ``PYTHONUNBUFFERED``), its own streams take a write that came short for a whole
one, and where a descriptor does not block, a read that has nothing yet for the end. Nothing of either is told.
"""

from __future__ import annotations

import contextlib
import io
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["pieces_of_standard_input", "standard_streams"]

# How long is waited, in seconds, where only sockets can be waited for.
_PAUSE: Final = 0.01


class _Waited(io.RawIOBase):
    """What there is to read, without its end before it is there. It is closed by whoever opened it."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def readinto(self, buffer: Any) -> int:
        while (read := self._raw.readinto(buffer)) is None:
            _wait(reading=self._raw)
        return read


class _Whole(io.BufferedIOBase):
    """Takes all of a write, or raises. It is closed by whoever opened it.

    It keeps nothing: what a signal interrupts is given up, so that nobody who does not read is waited for once more.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while rest:
            taken = self._raw.write(rest)
            if taken is None:
                _wait(writing=self._raw)
            elif isinstance(taken, bool) or not 0 < taken <= len(rest):
                # No file of the system says so, but what somebody has put in its place.
                raise OSError(f"a write of {len(rest)} bytes says that it took {taken}")
            else:
                rest = rest[taken:]
        return len(data)


def _wait(*, reading: io.RawIOBase | None = None, writing: io.RawIOBase | None = None) -> None:
    if sys.platform == "win32":
        time.sleep(_PAUSE)
    else:
        select.select([reading] if reading else [], [writing] if writing else [], [])


@contextmanager
def standard_streams() -> Iterator[None]:
    """While a command runs, the three streams wait and write whole; what is no file of the system stays as it is."""
    own = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = _waited(own[0]), _whole(own[1]), _whole(own[2])
    try:
        yield
    finally:
        for stream, before in ((sys.stdout, own[1]), (sys.stderr, own[2])):
            if stream is not before:
                with contextlib.suppress(OSError):
                    stream.flush()
        sys.stdin, sys.stdout, sys.stderr = own


def _waited(stream: Any) -> Any:
    raw = _raw(stream)
    if raw is None:
        return stream
    return io.TextIOWrapper(io.BufferedReader(_Waited(raw)), encoding=stream.encoding, errors=stream.errors)


def _whole(stream: Any) -> Any:
    raw = _raw(stream)
    if raw is None:
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        _Whole(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: Any) -> io.RawIOBase | None:
    """What a stream reads from or writes to, where that is a file of the system."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)
    return raw if isinstance(raw, io.RawIOBase) else None


def pieces_of_standard_input(most: int) -> Iterator[bytes]:
    """What standard input has, as it comes, in pieces of so many bytes at most."""
    buffer: Any = sys.stdin.buffer
    while piece := buffer.read1(most):
        yield piece
