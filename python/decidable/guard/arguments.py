"""What is to be a document in JSON, as it comes, such as the arguments of a call; or what a model wrote for it."""

from __future__ import annotations

import json
from typing import Any, Protocol, TypeVar

from decidable._native import MOST_MATCHES, Cursor, Match, StopReason

__all__ = ["Arguments", "Cursors", "is_document"]

Piece = TypeVar("Piece", str, bytes)


class Cursors(Protocol):
    """What a guard opens its cursors with, one for each text."""

    def __call__(self, *, json: bool = False) -> Cursor:
        """A cursor of its own; ``json`` where the text is to be a document in JSON."""


class Arguments:
    """A cursor that reads escapes, and behind it one that reads what it lets out as it is written.

    The second is there where the text does not begin like a document: there a backslash may be one. Behind what the
    first replaced, its places are those of what came out of it.
    """

    def __init__(self, cursor: Cursors) -> None:
        self._document = cursor(json=True)
        self._written: Cursor | None = cursor()
        self._begun = False
        # What one of them found, and not yet the other.
        self._told: dict[Match, None] = {}

    def push(self, text: Piece) -> Piece:
        """What may come out for the next piece."""
        if not isinstance(text, (str, bytes)):
            # It is refused as any cursor does.
            return self._document.push(text)
        nothing = text[:0]
        released = [nothing]
        # White space of JSON.
        if not self._begun and (begin := text.lstrip(" \t\n\r") if isinstance(text, str) else text.lstrip(b" \t\n\r")):
            self._begun = True
            if begin[:1] in ("{", "[", '"', b"{", b"[", b'"') and self._written is not None:
                # Nothing but white space was there.
                released.append(self._written.finish() or nothing)
                self._written = None
        if self._written is None:
            released.append(self._document.push(text))
            return nothing.join(released)
        # One by one, so that it is the same however it is cut: which of the two stops first, and what was noted before.
        for place in range(len(text)):
            released.append(self._pass(self._document.push(text[place : place + 1])))
            if self.stopped is not None:
                break
        return nothing.join(released)

    def finish(self) -> Any:
        """The rest, with what was pending decided."""
        return self._pass(self._document.finish(), ends=True)

    def _pass(self, released: Any, *, ends: bool = False) -> Any:
        if self._written is None:
            return released
        released = self._written.push(released)
        # Before what the document was stopped at, the text is at its end, too.
        return released + self._written.finish() if ends or self._document.stopped is not None else released

    def _copy(self) -> Arguments:
        """One that goes on from here by itself."""
        other = Arguments.__new__(Arguments)
        other._document = self._document._copy()
        other._written = self._written._copy() if self._written is not None else None
        other._begun = self._begun
        other._told = dict(self._told)
        return other

    def fail(self) -> None:
        """Stops both."""
        for each in self._both:
            each.fail()

    @property
    def stopped(self) -> StopReason | None:
        """Why one of them was stopped."""
        # The second reads what the first let out, so that its match stands before what the first was stopped at.
        return next((why for each in reversed(self._both) if (why := each.stopped) is not None), None)

    @property
    def held(self) -> int:
        """How many bytes are held back in both."""
        return sum(each.held for each in self._both)

    def matches(self) -> list[Match]:
        """Those of both since the last call, by where they begin. What both find is told once."""
        found = []
        for match in (match for each in self._both for match in each.matches()):
            if match in self._told:
                del self._told[match]
                continue
            found.append(match)
            if self._written is not None:
                self._told[match] = None
        # The other reading finds it soon, or never.
        while len(self._told) > MOST_MATCHES:
            del self._told[next(iter(self._told))]
        return sorted(found, key=lambda match: (match.start, match.end))

    @property
    def matches_dropped(self) -> int:
        """How many were not kept, of the one that kept fewer."""
        return max(each.matches_dropped for each in self._both)

    @property
    def _both(self) -> tuple[Cursor, ...]:
        return (self._document,) if self._written is None else (self._document, self._written)


def is_document(text: str) -> bool:
    """Whether a whole text is a document in JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
