"""The guard: rules over what a model streams out, stopped in the middle of a word before a byte of a match leaves.

    from decidable import Guard, Rule

    guard = Guard([
        Rule.literal("DROP TABLE", ignore_case=True),
        Rule.regex(r"\\b\\d{3}-\\d{2}-\\d{4}\\b", action="redact", name="ssn"),
    ])
    stream = guard.stream(chunks)                # chunks of text or of bytes
    for text in stream:
        print(text, end="")
    stream.stopped                               # None, or why

What comes in comes out as soon as it can no longer be part of a match that stops or redacts, and not before: ordinary
text is not held back. docs/guard.md says what a match is.
"""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

from decidable._native import MAX_HOLD_BYTES, Automaton, Cursor, Match, Rule, StopReason
from decidable.builders import suggestion
from decidable.errors import GuardStopped, InvalidInput

__all__ = ["AsyncGuardedStream", "Guard", "GuardedStream", "Match", "Rule", "StopReason"]

Chunk = TypeVar("Chunk", str, bytes)

_FIELDS: Final = {"name", "literal", "regex", "action", "replacement", "ignore_case"}


class Guard:
    """Rules, compiled once for any number of streams and threads.

    Args:
        rules: Their names must differ; a rule without one is called by its pattern.
        max_hold: How many bytes a stream holds back at most: where it would be more, it is stopped.

    Raises:
        InvalidInput: A rule cannot be used; the message and ``rule`` name it (docs/errors.md, ``guard.``).
    """

    __slots__ = ("_automaton", "_max_hold")

    def __init__(self, rules: Sequence[Rule], *, max_hold: int = MAX_HOLD_BYTES) -> None:
        self._automaton = Automaton(list(rules))
        self._max_hold = max_hold

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_hold: int = MAX_HOLD_BYTES) -> Self:
        """Reads a TOML file of ``[[rules]]``.

        Each has ``literal`` or ``regex``, and ``name``, ``action``, ``replacement``, ``ignore_case`` as :class:`Rule`.
        """
        file = Path(path)
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInput(
                "guard.unreadable", f"{file} cannot be read: {error.strerror}", path=str(file)
            ) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput("guard.unreadable", f"{file} is no TOML: {error}", path=str(file)) from error
        rules = document.pop("rules", None)
        if document or not isinstance(rules, list):
            raise InvalidInput("guard.unreadable", f"{file} must consist of [[rules]] and nothing else", path=str(file))
        return cls([_read(file, number, rule) for number, rule in enumerate(rules, 1)], max_hold=max_hold)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in their order."""
        return self._automaton.rules

    @property
    def size(self) -> tuple[int, int]:
        """How many states the automaton's tables have, and how many bytes they take."""
        return self._automaton.size

    def cursor(self) -> Cursor:
        """One stream, for whoever pushes chunks himself: ``push``, ``finish``, ``stopped``, ``matches``."""
        return self._automaton.cursor(self._max_hold)

    def check(self, text: Chunk) -> tuple[Chunk, StopReason | None, list[Match]]:
        """A whole text at once: what may come out of it, why it was stopped, and what was noted or replaced."""
        cursor = self.cursor()
        released: Chunk = cursor.push(text)
        rest: Chunk = cursor.finish()
        return released + rest, cursor.stopped, cursor.matches()

    def stream(self, chunks: Iterable[Chunk], *, raise_on_stop: bool = False) -> GuardedStream[Chunk]:
        """Guards an iterable of text or of bytes. Chunks that would be empty are left out.

        Where a rule stops it, the iterable is closed (``close()``, if it has that) and the stream ends; with
        ``raise_on_stop`` it raises :class:`~decidable.errors.GuardStopped` after everything before the match has come
        out. A chunk of another kind and an exception of the iterable end it too, and nothing that was held comes out.
        """
        return GuardedStream(self.cursor(), chunks, raise_on_stop)

    def astream(self, chunks: AsyncIterable[Chunk], *, raise_on_stop: bool = False) -> AsyncGuardedStream[Chunk]:
        """:meth:`stream` for an asynchronous iterable, which is closed with ``aclose()``."""
        return AsyncGuardedStream(self.cursor(), chunks, raise_on_stop)

    def __repr__(self) -> str:
        return f"<Guard of {len(self.rules)} rules>"


class _Guarded:
    """What both kinds of stream know."""

    def __init__(self, cursor: Cursor, raise_on_stop: bool) -> None:
        self._cursor = cursor
        self._raise_on_stop = raise_on_stop
        self._matches: list[Match] = []

    @property
    def stopped(self) -> StopReason | None:
        """Why the stream was stopped; ``None`` while it goes on, and where it came to its end."""
        return self._cursor.stopped

    @property
    def held(self) -> int:
        """How many bytes are held back now."""
        return self._cursor.held

    @property
    def matches(self) -> tuple[Match, ...]:
        """What was noted or replaced so far."""
        self._matches += self._cursor.matches()
        return tuple(self._matches)

    def _raise_if_asked(self) -> None:
        """Once everything before the match has come out."""
        if self._raise_on_stop and self.stopped is not None:
            # Which rule it was is for whoever guards the stream, not for whoever reads the message of an error.
            raise GuardStopped("guard.stopped", "the guard stopped the stream", stopped=self.stopped)


class GuardedStream(_Guarded, Generic[Chunk]):
    """An iterator over what may come out of a stream. Made by :meth:`Guard.stream`."""

    def __init__(self, cursor: Cursor, chunks: Iterable[Chunk], raise_on_stop: bool) -> None:
        super().__init__(cursor, raise_on_stop)
        self._released: Generator[Chunk, None, None] = self._run(chunks)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        return next(self._released)

    def close(self) -> None:
        """Ends the stream: its source is closed, and nothing more comes out."""
        self._released.close()

    def _run(self, chunks: Iterable[Chunk]) -> Generator[Chunk, None, None]:
        push, finish = self._cursor.push, self._cursor.finish
        source: object = chunks
        released: Chunk
        try:
            source = each = iter(chunks)
            for chunk in each:
                released = push(chunk)
                if self.stopped is not None:
                    break
                if released:
                    yield released
            else:
                released = finish()
        except Exception:
            self._cursor.fail()
            raise
        finally:
            # Before the last of it comes out, so that nobody waits for what will not be used.
            close = getattr(source, "close", None)
            if callable(close):
                close()
        if released:
            yield released
        self._raise_if_asked()


class AsyncGuardedStream(_Guarded, Generic[Chunk]):
    """An asynchronous iterator over what may come out of a stream. Made by :meth:`Guard.astream`."""

    def __init__(self, cursor: Cursor, chunks: AsyncIterable[Chunk], raise_on_stop: bool) -> None:
        super().__init__(cursor, raise_on_stop)
        self._released: AsyncGenerator[Chunk, None] = self._run(chunks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        return await anext(self._released)

    async def aclose(self) -> None:
        """Ends the stream: its source is closed, and nothing more comes out."""
        await self._released.aclose()

    async def _run(self, chunks: AsyncIterable[Chunk]) -> AsyncGenerator[Chunk, None]:
        push, finish = self._cursor.push, self._cursor.finish
        source: object = chunks
        released: Chunk
        try:
            source = each = aiter(chunks)
            async for chunk in each:
                released = push(chunk)
                if self.stopped is not None:
                    break
                if released:
                    yield released
            else:
                released = finish()
        except (Exception, asyncio.CancelledError):
            self._cursor.fail()
            raise
        finally:
            close = getattr(source, "aclose", None)
            if callable(close):
                await close()
        if released:
            yield released
        self._raise_if_asked()


def _read(file: Path, number: int, rule: Any) -> Rule:
    """A rule of a file."""

    def fault(why: str) -> InvalidInput:
        return InvalidInput("guard.unreadable", f"{file}, rule {number}: {why}", path=str(file), rule=number)

    if not isinstance(rule, dict):
        raise fault("it must be a table")
    unknown = sorted(rule.keys() - _FIELDS)
    if unknown:
        raise fault(f"{unknown[0]} is not a field of a rule{suggestion(unknown[0], _FIELDS)}")
    if ("literal" in rule) == ("regex" in rule):
        raise fault("it must have either literal or regex")
    rest = {name: value for name, value in rule.items() if name not in ("literal", "regex")}
    if "regex" in rule and "ignore_case" in rest:
        raise fault("ignore_case is for literals; a regex says (?i)")
    try:
        return Rule.literal(rule["literal"], **rest) if "literal" in rule else Rule.regex(rule["regex"], **rest)
    except InvalidInput as error:
        raise fault(error.message) from error


def _rule(kind: str, pattern: str, action: str, name: str, replacement: str, ignore_case: bool) -> Rule:
    """What a pickled rule is rebuilt with."""
    if kind == "regex":
        return Rule.regex(pattern, action=action, name=name, replacement=replacement)
    return Rule.literal(pattern, action=action, name=name, replacement=replacement, ignore_case=ignore_case)
