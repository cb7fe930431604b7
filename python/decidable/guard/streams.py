"""The streams that come out of a guard: what may come out of an iterable, and why it ended.

They know no rule: a cursor says what may be released, and they see to it that a source is closed and nothing that was
held comes out after a fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Generic, Self, TypeVar

from decidable._native import Cursor, Match, StopReason
from decidable.errors import GuardStopped

__all__ = ["AsyncGuardedStream", "GuardedStream"]

Chunk = TypeVar("Chunk", str, bytes)


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
