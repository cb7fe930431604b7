"""The channels of one stream: a cursor for each text in it, so that no text is matched with another's pieces.

A channel is one text of one choice: its text, its reasoning, its refusal, the arguments of one call. A text that comes
in pieces is pushed; one that comes whole, or once more at its end, is read as a stream of its own.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from decidable._native import MOST_MATCHES, Cursor, Match, StopReason
from decidable.guard.arguments import Arguments, Cursors, is_document
from decidable.guard.faults import no_text, unknown_chunk
from decidable.guard.fields import changed, declared, is_empty, is_readable
from decidable.guard.parts import MOST_ADDED, MOST_CHANNELS, NAMED, Lists, fields_of, refuse_many
from decidable.guard.services import (
    COMMANDS,
    KNOWN,
    LARGEST_COUNT,
    NAMES,
    READ_AS_JSON,
    WITHHELD,
    is_of_the_service,
    withheld,
)

__all__ = ["Channel", "Channels"]


# What parts of a place are told apart by, where it stands in a name.
APART: Final = str.maketrans({mark: f"%{ord(mark):02X}" for mark in "%.[]"})


class Channel(NamedTuple):
    """Which text of a stream: ``number`` which of a choice's calls or parts, ``field`` apart what has one name in two.

    ``document``: it is one in JSON, whatever its name. The arguments of a call are.
    """

    choice: int | None
    name: str
    number: int | str | None = None
    field: str = ""
    document: bool = False

    @property
    def is_json(self) -> bool:
        """Whether it is a document in JSON."""
        return self.document or self.name in ("tool_arguments", "function_arguments")

    @property
    def label(self) -> str:
        """What it is called in a match and in the reason of a stop."""
        return self.name if self.number is None else f"{self.name}[{self.number}]"


class _Together(NamedTuple):
    """What a client makes of texts that came whole: what is read goes on at the next, and none of it is out twice.

    ``ends``: how many bytes each of them ends behind, of the last ones.
    """

    cursor: Cursor | Arguments
    held: str
    ends: deque[int]


class Channels:
    """The cursors of one stream's channels, and why it was stopped."""

    def __init__(self, cursor: Cursors, *, json: bool = False) -> None:
        self._new = cursor
        self._json = json
        self._open: dict[Channel, Cursor | Arguments] = {}
        self._closed: set[Channel] = set()
        self._matches: dict[Match, None] = {}
        # Of each channel as many as one reading of it had; under None of those that were too many to tell apart.
        self._dropped: dict[Channel | None, int] = {}
        # What a client may put together though each chunk has all of it: the first text, and what came out of it.
        self._added: dict[Channel, tuple[str, str]] = {}
        # Those that went on.
        self._together: dict[Channel, _Together] = {}
        # Of numbers that a client may add up, by the place, their sum so far; how many of the places began with what a
        # service counts, and the sum of all of those that were more.
        self._sums: dict[Channel, float] = {}
        self._counted = 0
        self._forgotten = 0.0
        # Names of fields in which nothing is looked for.
        self._names: set[str] = set()
        self.stopped: StopReason | None = None
        self.stopped_in: Channel | None = None

    @property
    def held(self) -> int:
        """How many bytes are held back in all of them."""
        return sum(cursor.held for cursor in self._open.values())

    def held_in(self, channel: Channel) -> int | None:
        """How many bytes of a text are held back; ``None`` where it has not begun, or is at its end."""
        cursor = self._open.get(channel)
        return cursor.held if cursor is not None else None

    @property
    def matches(self) -> tuple[Match, ...]:
        """What was noted or replaced so far; a text that is repeated tells nothing twice."""
        return tuple(self._matches)

    @property
    def matches_dropped(self) -> int:
        """How many were not kept beside those; a text that is repeated counts once."""
        return sum(self._dropped.values()) + sum(cursor.matches_dropped for cursor in self._open.values())

    def push(self, channel: Channel, text: object) -> str:
        """The next piece of a text, and what may come out of it. Nothing does once any channel was stopped."""
        if self.stopped is not None:
            return ""
        if not isinstance(text, str):
            raise no_text(channel.label, text)
        cursor = self._open.get(channel)
        if cursor is None:
            if not text:
                return text
            if channel in self._closed:
                raise unknown_chunk(channel.label, "goes on after its end")
            refuse_many(len(self._open) + len(self._closed))
            cursor = self._open[channel] = self._cursor(channel)
        try:
            released = cursor.push(text)
        finally:
            self._look(channel, cursor)
            # At each piece, so that not each text keeps as many as all may, and looking at them takes nothing away.
            self._drop(channel, self._note(channel, cursor), more=True)
        return released

    def _cursor(self, channel: Channel) -> Cursor | Arguments:
        is_json = channel.is_json or (self._json and channel.name == "text")
        return Arguments(self._new) if is_json else self._new()

    def close(self, channel: Channel, *, again: bool = False) -> str:
        """The text is at its end: the rest of it, with what was pending decided. ``again``: others of its name come."""
        cursor = self._open.pop(channel, None)
        if cursor is None or self.stopped is not None:
            return ""
        if not again:
            self._closed.add(channel)
        released: str = cursor.finish()
        self._look(channel, cursor)
        self._drop(channel, self._note(channel, cursor) + cursor.matches_dropped, more=True)
        return released

    def close_all(self, choice: int | None) -> Iterable[tuple[Channel, str]]:
        """The rests of a choice's texts that have one. After a stop there are none."""
        for channel in self.of(choice):
            rest = self.close(channel)
            if rest:
                yield channel, rest

    def of(self, choice: int | None) -> list[Channel]:
        """The channels of a choice that are not at their end."""
        return [each for each in self._open if each.choice == choice]

    @property
    def choices(self) -> list[int | None]:
        """Those with a text that is not at its end."""
        return list(dict.fromkeys(channel.choice for channel in self._open))

    def read(self, channel: Channel, text: object, *, again: bool = False) -> str:
        """A text that comes whole: what may come out of it.

        ``again``: its pieces came before, so what came out of them comes out also where their end stopped the stream.
        """
        if self.stopped is not None and not (again and self.stopped_in == channel):
            return ""
        if not isinstance(text, str):
            raise no_text(channel.label, text)
        if not text:
            return text
        cursor = self._cursor(channel)
        released = self._whole(channel, cursor, text)
        self._drop(channel, self._note(channel, cursor) + cursor.matches_dropped)
        return text if released == text else released

    def _whole(self, channel: Channel, cursor: Cursor | Arguments, text: str) -> str:
        released: str = cursor.push(text)
        released += cursor.finish()
        self._look(channel, cursor)
        return released

    def read_all(
        self,
        choice: int | None,
        place: str,
        value: Any,
        leaf: Callable[[str, str, str, Any], Any] | None = None,
        *,
        added: Lists | None = None,
    ) -> Any:
        """Every text inside a value that comes whole, each as one of its own; a copy where one was not released whole.

        ``leaf(kind, name, place, text)`` reads a text in its own way, or returns ``None``; ``kind`` is the ``type`` of
        what has the field. ``added``: a client may put each text together with those of other chunks at its place, and
        lists so. What stands at the place of an ``error`` is read as :meth:`read_error` does.
        """
        whole = "error" if place.rsplit(".", 1)[-1] == "error" else None
        return self._read_inside(choice, place, value, leaf, whole, added)

    def read_error(self, choice: int | None, place: str, value: Any, *, added: Lists | None = None) -> Any:
        """What a service says went wrong, which may repeat anything: every text in it, whatever its field."""
        return self._read_inside(choice, place, value, None, "error", added)

    def read_name(self, channel: Channel, name: Any) -> str:
        """A name that comes whole. Where it comes again some put it together, and others do not."""
        known = self._added.get(channel)
        if known is not None and name and known[0] != name:
            raise unknown_chunk(channel.label, "comes in pieces")
        return self.read_added(channel, name)

    def read_added(self, channel: Channel, text: Any) -> str:
        """A text that comes whole in a chunk and that a client may put together with those of others.

        Those before it are out, so a match that begins in one of them can only be stopped at, or refused.
        """
        released = self.read(channel, text)
        if self.stopped is not None or not text:
            return released
        known = self._added.get(channel)
        if known is None:
            refuse_many(len(self._added), MOST_ADDED)
            self._added[channel] = (text, released)
            return released
        if channel not in self._together:
            refuse_many(len(self._together))
            cursor = self._cursor(channel)
            before, out = known[1], cursor.push(known[1])
            if not before.startswith(out):
                raise unknown_chunk(channel.label, "has what is to be redacted, in pieces")
            ends = deque([len(before.encode())], maxlen=MOST_CHANNELS)
            self._together[channel] = _Together(cursor, before[len(out) :], ends)
        cursor, held, ends = self._together[channel]
        out = cursor.push(released)
        self._look(channel, cursor)
        # Those within one text are known of it alone.
        self._note(channel, cursor, over=ends)
        ends.append(ends[-1] + len(released.encode()))
        # As if it were at its end, because it may be.
        at_the_end = cursor._copy()
        together = out + at_the_end.finish()
        self._look(channel, at_the_end)
        if self.stopped is not None:
            return ""
        if together != held + released:
            raise unknown_chunk(channel.label, "has what is to be redacted, in pieces")
        self._together[channel] = _Together(cursor, together[len(out) :], ends)
        return released

    def read_document(self, choice: int | None, place: str, text: str, *, added: bool = False) -> str:
        """A text that comes whole and is what a model wrote as JSON: its escapes are read."""
        read = self.read_added if added else self.read
        released = read(Channel(choice, place, document=True), text)
        # What is none is also read as it stands: there a backslash may be one. What goes on may yet be none.
        as_written = released == text and (added or not is_document(text))
        return read(Channel(choice, place), text) if as_written else released

    def says_nothing(self, of: Any, name: str, value: Any) -> bool:
        """Whether a field that no reader knows may come out: it is empty, and nothing is looked for in its name."""
        return is_empty(value) and self.knows(of, name)

    def knows(self, of: Any, name: str) -> bool:
        """Whether the name of a field is one that services have, or the class of what it is of, or would come out."""
        if name in KNOWN or name in self._names or name in declared(of):
            return True
        cursor = self._new()
        if cursor.push(name) + cursor.finish() != name or cursor.stopped is not None:
            return False
        if len(self._names) < MOST_CHANNELS:
            self._names.add(name)
        return True

    def _read_inside(
        self, choice: int | None, place: str, value: Any, leaf: Any, whole: str | None, added: Lists | None
    ) -> Any:
        """``whole``: that every field is read, as one of parsed ``"arguments"`` or of an ``"error"``."""
        if not is_readable(value):
            raise unknown_chunk(place)
        if value is None:
            return value
        if isinstance(value, (int, float)):
            is_text = not isinstance(value, bool) and _is_text(value, whole)
            read = self._read_number(choice, place, value) if is_text else value
            return read if added is None or self._is_sum_released(choice, place, value, whole, added) else None
        if isinstance(value, str):
            channel = Channel(choice, place)
            first, _ = self._added.get(channel) or ("", "")
            # LangChain has names for what is numbered, and adds nothing to them.
            is_number = place.endswith(".index") and NAMED.fullmatch(first) is not None
            read = self.read_added if added and not is_number else self.read
            return read(channel, value)
        if isinstance(value, (list, tuple)):
            if not self._is_command_released(choice, place, value, added is not None):
                return []
            items = []
            numbers = added.numbers(choice, place, value) if added else [None] * len(value)
            for position, (number, item) in enumerate(zip(numbers, value, strict=True)):
                # Clients find an item of another chunk by its number; without one it is another item.
                inner_added = added if number is not None else None
                at = f"{place}[{position if number is None else number}]"
                items.append(self._read_inside(choice, at, item, leaf, whole, inner_added))
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        inside = fields_of(place, value)
        changes: dict[str, Any] = {}
        # What JSON calls a type may be several, such as of a tool's arguments.
        kind = inside["type"] if isinstance(inside.get("type"), str) else ""
        own = declared(value)
        for name, inner in inside.items():
            # What stands in no field is an event of a service itself.
            is_known = name in own or (whole != "arguments" and (name in NAMES or not place))
            if not is_known and not self._is_name_released(choice, place, name):
                # Neither the name nor what stands behind it.
                return {name: changes.get(name, inside[name]) for name in list(inside)[: list(inside).index(name)]}
            if whole != "arguments" and name in WITHHELD:
                if not is_empty(inner):
                    changes[name] = withheld(inner)
                continue
            at = f"{place}.{_step(name)}" if place else _step(name)
            if whole is None and is_of_the_service(name, inner):
                if added is not None and isinstance(inner, (int, float)):
                    # Of many the sum may be none any more.
                    released = self._is_sum_released(choice, at, inner, whole, added)
                    changes |= {} if released else {name: None}
                continue
            # Inside of what the model wrote as JSON, a kind is what the model says it is.
            is_leaf = isinstance(inner, str) and whole != "arguments"
            new = leaf(kind, name, at, inner) if leaf is not None and is_leaf else None
            if new is None and is_leaf and name in READ_AS_JSON:
                new = self.read_document(choice, at, inner, added=added is not None)
            if new is None:
                inner_whole = "arguments" if name in READ_AS_JSON else "error" if name == "error" else None
                new = self._read_inside(choice, at, inner, leaf, whole or inner_whole, added)
            if new is not inner:
                changes[name] = new
        return changed(value, changes)

    def _read_number(self, choice: int | None, place: str, value: float) -> Any:
        """As the text that JSON writes for it. What would redact it stops, as it does in a document."""
        try:
            text = json.dumps(value)
        except ValueError:
            raise unknown_chunk(place, "is a number that is too long") from None
        return value if self.read(Channel(choice, place, document=True), text) == text else None

    def _is_sum_released(self, choice: int | None, place: str, value: float, whole: str | None, added: Lists) -> bool:
        """Numbers that come again at their place clients add up; so the sum is read, too, but for that of an item."""
        if place.endswith(".index"):
            return True
        channel, name = Channel(choice, place), place.rsplit(".", 1)[-1]
        before = self._sums.get(channel)
        if before is None:
            is_count = whole is None and is_of_the_service(name, value)
            if is_count and self._counted >= MOST_ADDED and self._forgotten + abs(value) < LARGEST_COUNT:
                # Whatever of it is of one place, the sum is what a service counts.
                self._forgotten += abs(value)
                return True
            may_be_forgotten = self._forgotten > 0 and whole is None and is_of_the_service(name, 0)
            others = self._counted if is_count else len(self._sums) - self._counted
            refuse_many(MOST_ADDED if may_be_forgotten else others, MOST_ADDED)
            self._counted += is_count
            self._sums[channel] = value
            return True
        total = self._sums[channel] = added.added(place, before, value)
        is_known = total in (before, value) or (whole is None and is_of_the_service(name, total))
        return is_known or not _is_text(total, whole) or self._read_number(choice, place, total) is not None

    def _is_command_released(self, choice: int | None, place: str, value: Any, added: bool) -> bool:
        """Whether a command that is a list of its words may come out as they are joined; a list of others may.

        ``added``: clients put the words behind those of other chunks.
        """
        words = len(value) > (0 if added else 1) and all(isinstance(word, str) for word in value)
        if not words or place.rsplit(".", 1)[-1] not in COMMANDS:
            return True
        channel = Channel(choice, place)
        joined = " ".join(value)
        if added:
            joined = f" {joined}" if channel in self._added else joined
        read = self.read_added if added else self.read
        if read(channel, joined) != joined and self.stopped is None:
            apart = [self.read(Channel(choice, f"{place}[{number}]"), word) for number, word in enumerate(value)]
            if apart == list(value):
                # Nobody could say which of its words a replacement stands for.
                raise unknown_chunk(place, "is a command of which more than a word is to be redacted")
        return self.stopped is None

    def _is_name_released(self, choice: int | None, place: str, name: str) -> bool:
        if self.read(Channel(choice, f"{place}.name"), name) == name:
            return True
        if self.stopped is None:
            # A name is not replaced: what reads the arguments would not know it.
            raise unknown_chunk(place, "has a name that is to be redacted")
        return False

    def fail(self) -> None:
        """Stops everything, because the source cannot be followed any more."""
        if self.stopped is None:
            for cursor in self._open.values():
                cursor.fail()
            self.stopped = StopReason("failed", None, 0, None)

    def _look(self, channel: Channel, cursor: Cursor | Arguments) -> None:
        why = cursor.stopped
        if why is not None and self.stopped is None:
            self.stopped = StopReason(why.kind, why.rule, why.start, why.end, channel.choice, channel.label)
            self.stopped_in = channel

    def _note(self, channel: Channel, cursor: Cursor | Arguments, over: Iterable[int] | None = None) -> int:
        """Keeps the matches that a cursor has, as far as there is room: for how many more there was none.

        ``over``: only those that go over one of these places, which ascend.
        """
        dropped = 0
        places = list(over) if over is not None else None
        for match in cursor.matches():
            if places is not None:
                after = bisect_right(places, match.start)
                if after == len(places) or places[after] >= match.end:
                    continue
            where = Match(match.rule, match.action, match.start, match.end, channel.choice, channel.label)
            if len(self._matches) < MOST_MATCHES:
                self._matches[where] = None
            elif where not in self._matches:
                dropped += 1
        return dropped

    def _drop(self, channel: Channel, count: int, *, more: bool = False) -> None:
        """Counts matches that were not kept: of a text that goes on they are ``more``, of a whole one maybe not."""
        if count:
            known = channel if channel in self._dropped or len(self._dropped) < MOST_CHANNELS else None
            before = self._dropped.get(known, 0)
            self._dropped[known] = before + count if more or known is None else max(before, count)


def _is_text(number: float, whole: str | None) -> bool:
    """Whether a number is one that could be looked for: outside of what a model wrote a fraction is a score."""
    return whole is not None or isinstance(number, int) or number.is_integer()


def _step(name: str) -> str:
    """A name as a part of a place, of which nothing in it makes another."""
    return name.translate(APART) if "." in name or "[" in name or "%" in name else name
