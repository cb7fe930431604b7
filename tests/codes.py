"""The errors that the tests have seen raised, each once: conftest.py notes those of this process."""

from __future__ import annotations

from typing import Any

from decidable.errors import DecidableError

RAISED: set[tuple[str, str | None]] = set()
"""Each with its code and its class; without the class where only the code of another process was seen."""


def note(code: str, name: str | None = None) -> None:
    """What another process was seen to raise, with the name of its class where that was seen."""
    RAISED.add((code, name))


def watch() -> None:
    """Notes the code and the class of every exception of the tree that is made from now on."""
    made = DecidableError.__init__

    def noting(self: DecidableError, code: str, message: str, **details: Any) -> None:
        # The command has a class of its own below one of the tree.
        name = next(each.__name__ for each in type(self).__mro__ if each.__module__ == DecidableError.__module__)
        note(code, name)
        made(self, code, message, **details)

    DecidableError.__init__ = noting  # type: ignore[method-assign]
