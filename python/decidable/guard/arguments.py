"""What is to be a document in JSON, as it comes, such as the arguments of a call; or what a model wrote for it."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from decidable._native import MOST_MATCHES, Cursor, Match, StopReason

__all__ = ["Arguments", "Cursors", "is_document"]

Piece = TypeVar("Piece", str, bytes)

BLOCK: Final = 1_024
"""So many characters are read at once: more are read twice where a match is among them, of fewer each costs more."""

MOST_REPLACED: Final = 1_024
"""So many replacements are remembered for the places of what stands behind them; a match hardly goes over more."""


class Cursors(Protocol):
    """What a guard opens its cursors with, one for each text."""

    def __call__(self, *, json: bool = False) -> Cursor:
        """A cursor of its own; ``json`` where the text is to be a document in JSON."""


class _Replaced(NamedTuple):
    """What the first reading replaced: where it stood, and where in what comes out its replacement stands."""

    start: int
    end: int
    out_start: int
    out_end: int


class Arguments:
    """A cursor that reads escapes, and behind it one that reads what it lets out as it is written.

    The second is there where the text does not begin like a document: there a backslash may be one.
    """

    def __init__(self, cursor: Cursors) -> None:
        self._document = cursor(json=True)
        self._written: Cursor | None = cursor()
        self._begun = False
        # What only the second reading holds before that.
        self._lead: Any = None
        self._found: list[Match] = []
        # What one of them found, and not yet the other.
        self._told: dict[Match, None] = {}
        # How many bytes were read, and how many the first let out.
        self._read = self._out = 0
        # What the first is to replace, and what it replaced.
        self._to_replace: list[Match] = []
        self._replaced: deque[_Replaced] = deque(maxlen=MOST_REPLACED)

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
                # Nothing but white space was there, which the first reading has decided.
                released.append(self._lead or nothing)
                self._written = None
        if self._written is None:
            released.append(self._document.push(text))
            return nothing.join(released)
        for place in range(0, len(text), BLOCK):
            released.append(self._block(text[place : place + BLOCK]))
            if self.stopped is not None:
                break
        return nothing.join(released)

    def _block(self, text: Piece) -> Piece:
        """As if its characters came one by one, so that it is the same however it is cut: which of the two stops
        first, and what was noted before. Where nothing is found they need not.
        """
        ahead = self._copy()
        released: Piece = ahead._push(text)
        if ahead.stopped is None and not ahead._found and not ahead._to_replace:
            self._document, self._written = ahead._document, ahead._written
            self._read, self._out, self._lead = ahead._read, ahead._out, ahead._lead
            return released
        one_by_one: list[Piece] = []
        for place in range(len(text)):
            one_by_one.append(self._push(text[place : place + 1]))
            if self.stopped is not None:
                break
        return text[:0].join(one_by_one)

    def _push(self, text: Any) -> Any:
        released = self._document.push(text)
        self._read += _length(text)
        return self._pass(released)

    def finish(self) -> Any:
        """The rest, with what was pending decided."""
        return self._pass(self._document.finish(), ends=True)

    def _pass(self, released: Any, *, ends: bool = False) -> Any:
        if self._written is None:
            return released
        self._follow(released)
        given = released
        released = self._written.push(released)
        if not self._begun:
            self._lead = ((self._lead or given[:0]) + given)[len(released) :]
        if ends or self._document.stopped is not None:
            # Before what the document was stopped at, the text is at its end, too.
            released += self._written.finish()
        for match in self._written.matches():
            self._tell(Match(match.rule, match.action, self._place(match.start), self._place(match.end, ends=True)))
        return released

    def _follow(self, released: str | bytes) -> None:
        """What the first found, and what of it is replaced in what it let out."""
        for match in self._document.matches():
            self._tell(match)
            if match.action == "redact":
                self._to_replace.append(match)
        why = self._document.stopped
        now, out = (self._read - self._document.held if why is None else why.start), self._out + _length(released)
        done = [match for match in self._to_replace if match.end <= now]
        if done:
            start, end = min(match.start for match in done), max(match.end for match in done)
            self._replaced.append(_Replaced(start, end, self._out_of(start), end - now + out))
            self._to_replace = [match for match in self._to_replace if match not in done]
        self._out = out

    def _out_of(self, place: int) -> int:
        """Where in what comes out a place is that stands behind everything that was replaced before."""
        return place - self._replaced[-1].end + self._replaced[-1].out_end if self._replaced else place

    def _place(self, out: int, *, ends: bool = False) -> int:
        """Which place of the text it is in what came out; of what was replaced its beginning, or where it ``ends``."""
        for each in reversed(self._replaced):
            if out > each.out_end or (out == each.out_end and not ends):
                return out - each.out_end + each.end
            if out > each.out_start:
                return each.end if ends else each.start
        return out - self._replaced[0].out_start + self._replaced[0].start if self._replaced else out

    def _tell(self, match: Match) -> None:
        """What both find is told once."""
        if match in self._told:
            del self._told[match]
            return
        self._found.append(match)
        self._told[match] = None
        if len(self._told) > MOST_MATCHES:
            # The other reading finds it soon, or never.
            del self._told[next(iter(self._told))]

    def _copy(self) -> Arguments:
        """One that goes on from here by itself, and knows nothing of what was found."""
        other = Arguments.__new__(Arguments)
        other._document = self._document._copy()
        other._written = self._written._copy() if self._written is not None else None
        other._begun, other._lead = self._begun, self._lead
        other._read, other._out = self._read, self._out
        other._found, other._told, other._to_replace = [], {}, []
        other._replaced = deque(self._replaced, MOST_REPLACED)
        return other

    def fail(self) -> None:
        """Stops both."""
        for each in self._both:
            each.fail()

    @property
    def stopped(self) -> StopReason | None:
        """Why one of them was stopped."""
        # The second reads what the first let out, so that its match stands before what the first was stopped at.
        if self._written is not None and (why := self._written.stopped) is not None:
            end = self._place(why.end, ends=True) if why.end is not None else None
            return StopReason(why.kind, why.rule, self._place(why.start), end)
        return self._document.stopped

    @property
    def held(self) -> int:
        """How many bytes are held back in both."""
        return sum(each.held for each in self._both)

    def matches(self) -> list[Match]:
        """Those of both since the last call, by where they begin."""
        found, self._found = self._found, []
        if self._written is None:
            found += self._document.matches()
        return sorted(found, key=lambda match: (match.start, match.end))

    @property
    def matches_dropped(self) -> int:
        """How many were not kept, of the one that kept fewer."""
        return max(each.matches_dropped for each in self._both)

    @property
    def _both(self) -> tuple[Cursor, ...]:
        return (self._document,) if self._written is None else (self._document, self._written)


def _length(text: str | bytes) -> int:
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())


def is_document(text: str) -> bool:
    """Whether a whole text is a document in JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
