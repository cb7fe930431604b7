"""The parts of chunks, and which of them clients put together: by what they are numbered, or by where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from decidable.errors import InvalidInput
from decidable.guard.faults import unknown_chunk
from decidable.guard.fields import fields, unreadable

__all__ = [
    "LARGEST_NUMBER",
    "MOST_ADDED",
    "MOST_CHANNELS",
    "ByNumber",
    "ByPlace",
    "Constants",
    "Lists",
    "fields_of",
    "kind_of",
    "number_of",
    "refuse_many",
]

MOST_CHANNELS: Final = 1_024
"""How many texts one stream may consist of."""

MOST_ADDED: Final = 16_384
"""How many texts and items that come whole a client may go on with: one message may have many that never do."""

LARGEST_NUMBER: Final = 1_000_000
"""Of an item. No stream has so many, and a longer one could be what is to be found."""

LAST_ONES: Final = (".created", ".timestamp")
"""Numbers of which LangChain has the last, and adds up none."""

NAMED: Final = re.compile(r"lc_[A-Za-z0-9_]{1,64}")
"""LangChain's own names of blocks and items, in place of numbers."""


def fields_of(place: str, value: Any) -> Mapping[str, Any]:
    """The fields of a part of a chunk by name."""
    found = fields(value)
    if found is None:
        raise unknown_chunk(".".join(filter(None, (place, unreadable(value)))))
    return found


def kind_of(place: str, value: Any) -> str:
    """What a part of a chunk says that it is; nothing where it says none."""
    kind = (fields(value) or {}).get("type")
    if kind is not None and not isinstance(kind, str):
        raise unknown_chunk(f"{place}.type", "is no text")
    return kind or ""


def number_of(place: str, value: Any) -> int:
    """The number of an item, by which clients find it again in what comes later."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        raise unknown_chunk(place, "is no number of an item")
    return value


def refuse_many(count: int, most: int = MOST_CHANNELS) -> None:
    """Refuses one more of what a stream may have so many of."""
    if count >= most:
        raise InvalidInput("guard.too_large", f"a stream has more than {most} texts or choices")


class Constants:
    """What a service says in each chunk anew: as long as it is the same nobody puts it together.

    ``always_one``: nobody does it with what repeats the last one, either; else all is put together that comes behind
    another.
    """

    def __init__(self, *, always_one: bool) -> None:
        self._always_one = always_one
        self._said: dict[tuple[int | None, str], Any] = {}
        self._differ: set[tuple[int | None, str]] = set()

    def is_one(self, choice: int | None, place: str, value: Any) -> bool:
        """Whether it repeats what stood at its place."""
        at = choice, place
        if at not in self._said:
            refuse_many(len(self._said), MOST_ADDED)
            self._said[at] = value
            return False
        is_same = self._said[at] == value
        self._said[at] = value
        if not is_same and not self._always_one:
            self._differ.add(at)
        return is_same and at not in self._differ


class Lists(Protocol):
    """How a client puts the lists together that stand at one place in several chunks."""

    def numbers(self, choice: int | None, place: str, items: Iterable[Any]) -> list[int | str | None]:
        """What each item is numbered; those without a number are items of their own, whatever comes later."""

    def added(self, place: str, before: float, value: float) -> float:
        """What it makes of a number that comes again at its place, be it ``true``."""


class ByPlace:
    """As OpenAI's client does: an item goes on with what stands where its number says.

    That is another one where a number was left out or came too early. Nobody could say whose text it is then.
    """

    def __init__(self) -> None:
        # Of each list how many items it has, and the numbers of those that have one, by where they stand.
        self._lists: dict[tuple[int | None, str], tuple[int, dict[int, int]]] = {}
        self._count = 0

    def numbers(self, choice: int | None, place: str, items: Iterable[Any]) -> list[int | str | None]:
        """What each item is numbered."""
        found: list[int | str | None] = []
        numbers = set()
        where = f"{place}[].index"
        for item in items:
            number = (fields(item) or {}).get("index")
            if number is None:
                length, known = self._list(choice, where)
                self._lists[choice, where] = length + 1, known
            else:
                self.find(choice, where, number_of(where, number))
                if number in numbers:
                    # The first list is taken as it is, each later one is put together.
                    raise unknown_chunk(where, "is of two items")
                numbers.add(number)
            found.append(number)
        return found

    def added(self, place: str, before: float, value: float) -> float:
        """Their sum."""
        return before + value

    def find(self, choice: int | None, where: str, number: int) -> None:
        """Refuses an item that would go on with another. ``where`` its number stands says which list it is of."""
        length, known = self._list(choice, where)
        if number >= length:
            self.append(choice, where, number)
        elif known.get(number) != number:
            raise unknown_chunk(where, "says where another item stands")

    def append(self, choice: int | None, where: str, number: int) -> None:
        """One more item, behind those before it."""
        length, known = self._list(choice, where)
        refuse_many(self._count, MOST_ADDED)
        self._count += 1
        known[length] = number
        self._lists[choice, where] = length + 1, known

    def _list(self, choice: int | None, where: str) -> tuple[int, dict[int, int]]:
        found = self._lists.get((choice, where))
        if found is None:
            refuse_many(len(self._lists), MOST_ADDED)
        return found or (0, {})


class ByNumber:
    """As LangChain does: an item goes on with the one of its number, if they do not have two ids."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int | None, str, int | str], int | str] = {}

    def added(self, place: str, before: float, value: float) -> float:
        """Their sum, but for what is the same again; of what was used it is always that, and of times the last."""
        if not place.startswith("usage_metadata."):
            if place.endswith(LAST_ONES):
                return value
            if before == value:
                return before
        return before + value

    def numbers(self, choice: int | None, place: str, items: Iterable[Any]) -> list[int | str | None]:
        """What each item is numbered."""
        found: list[int | str | None] = []
        numbers = set()
        for item in items:
            inside = fields(item) or {}
            number = inside.get("index")
            if isinstance(number, str) and number.startswith("lc_"):
                if NAMED.fullmatch(number) is None:
                    raise unknown_chunk(f"{place}[].index", "is no name of an item")
            elif isinstance(number, int):
                number = number_of(f"{place}[].index", number)
            else:
                found.append(None)
                continue
            if number in numbers:
                # The first list of all is taken as it is, each later one is put together.
                raise unknown_chunk(f"{place}[].index", "is of two items")
            if inside.get("type") == "non_standard":
                # What it has goes on with something that stands elsewhere.
                raise unknown_chunk(f"{place}[].type")
            at, own = (choice, place, number), inside.get("id")
            if not (own is None or isinstance(own, (str, int))):
                raise unknown_chunk(f"{place}[].id", "is no text and no number")
            # An empty text is none to LangChain, and 0 is one.
            own = "" if own is None else own
            if at not in self._ids:
                refuse_many(len(self._ids), MOST_ADDED)
            known = self._ids.get(at, "")
            if "" not in (known, own) and known != own:
                raise unknown_chunk(f"{place}[].index", "is of two items")
            self._ids[at] = own if known == "" else known
            found.append(number)
            numbers.add(number)
        return found
