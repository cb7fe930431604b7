"""The error codes that the tests have seen raised, each once: conftest.py notes those of this process."""

from __future__ import annotations

from typing import Any

from decidable.errors import DecidableError

RAISED: set[str] = set()


def note(*codes: str) -> None:
    """What another process was seen to raise."""
    RAISED.update(codes)


def watch() -> None:
    """Notes the code of every exception of the tree that is made from now on."""
    made = DecidableError.__init__

    def noting(self: DecidableError, code: str, message: str, **details: Any) -> None:
        note(code)
        made(self, code, message, **details)

    DecidableError.__init__ = noting  # type: ignore[method-assign]
