"""The streams that come out of a guard: what may come out of an iterable, and why it ended.

They know no rule and no chunk: a reader says what comes out, and they see to it that a source is closed, once, and
nothing that was held comes out after a fault.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping
from types import NoneType
from typing import Any, Generic, Self, TypeVar

from decidable._native import Match, StopReason
from decidable.errors import Conflict, DecidableError, GuardStopped, InvalidInput
from decidable.guard.arguments import Cursors
from decidable.guard.faults import wrong_kind
from decidable.guard.readers import PlainReader, Reader, TypedReader
from decidable.guard.sse import Prelude

__all__ = ["AsyncGuardedStream", "GuardedStream", "Notice"]

Chunk = TypeVar("Chunk")

Notice = str | Callable[[StopReason], str] | None
"""What a client is told of a stop: a text, or what makes one of the reason; an empty text or None is no notice."""


class _Guarded:
    """What is guarded, and how far. It does not know the stream, so that a stream that is left is gone at once."""

    def __init__(
        self,
        cursor: Cursors,
        chunks: object,
        *,
        raise_on_stop: bool,
        notice: Notice,
        sse: bool | None,
        json: bool,
    ) -> None:
        if notice is None:
            notice = ""
        if not isinstance(notice, str) and (not callable(notice) or inspect.iscoroutinefunction(notice)):
            raise wrong_kind("a str, or a function that makes one of the reason", notice, "notice")
        for name, value in (("raise_on_stop", raise_on_stop), ("json", json)):
            if not isinstance(value, bool):
                raise wrong_kind("a bool", value, name)
        if not isinstance(sse, (bool, NoneType)):
            raise wrong_kind("a bool or None", sse, "sse")
        if isinstance(chunks, Mapping) or hasattr(type(chunks), "model_fields"):
            # Its names would be taken for the text.
            raise wrong_kind("an iterable of pieces; check() reads a whole text", chunks, "chunks")
        self._cursor = cursor
        self._raise_on_stop = raise_on_stop
        self._notice: str | Callable[[StopReason], str] = notice
        self._json = json
        self.reader: Reader = TypedReader(cursor, sse=True, json=json) if sse else PlainReader(cursor, json=json)
        self._prelude = Prelude() if sse is None else None
        self._chosen = sse is True
        self.begun = False
        self.closed = False
        self.over = False
        # What the caller's own notice raised, which is told behind everything else.
        self._fault: Exception | None = None

    def take(self, chunk: Any) -> list[Any]:
        if not self._chosen:
            self._chosen = True
            if not isinstance(chunk, (str, bytes)):
                self.reader = TypedReader(self._cursor, sse=False, json=self._json)
                self._prelude = None
        if self._prelude is not None:
            if isinstance(chunk, (str, bytes)) and self._prelude.is_of_events(chunk):
                told = "the text begins like server-sent events: say sse=True, or sse=False where it is a text"
                raise InvalidInput("guard.unknown_chunk", told, field="sse")
            if self._prelude.is_over:
                self._prelude = None
        out = self.reader.take(chunk)
        why = self.reader.stopped
        return out if why is None else self._ended(out, why)

    @staticmethod
    def without_traces(step: Callable[..., list[Any]], *given: Any) -> tuple[list[Any], DecidableError | None]:
        """What a step gives, or why it refuses, without the frames and the errors that know what did not come out."""
        try:
            return step(*given), None
        except DecidableError as error:
            error.__context__ = error.__cause__ = None
            return [], error.with_traceback(None)

    def finish(self) -> list[Any]:
        out = self.reader.finish()
        why = self.reader.stopped
        return out if why is None else self._ended(out, why)

    def _ended(self, out: list[Any], why: StopReason) -> list[Any]:
        """With what tells a client that the stream was stopped."""
        self.over = True
        notice: object = ""
        try:
            notice = self._notice if isinstance(self._notice, str) else self._notice(why)
            if not isinstance(notice, str):
                raise wrong_kind("a str", notice, "notice")
        except Exception as error:
            # What stands before the stop comes out, and a client sees that there was one.
            self._fault = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        return out + self.reader.end(notice if isinstance(notice, str) else "")

    def raise_what_is_due(self, fault: Exception | None) -> None:
        """Once everything before the match has come out; with the fault of a notice, or of a source's end."""
        fault = self._fault or fault
        why = self.reader.stopped
        if self._raise_on_stop and why is not None:
            # Which rule it was is for whoever guards the stream, not for whoever reads the message of an error.
            raise GuardStopped("guard.stopped", "the guard stopped the stream", stopped=why) from fault
        if fault is not None:
            raise fault

    def raise_if_broken_off(self) -> None:
        """For whoever reads on and did not close it: what came out of a stream that was broken off is not all of it."""
        why = self.reader.stopped
        if self._raise_on_stop and not self.closed and why is not None and why.kind == "failed":
            raise GuardStopped("guard.stopped", "the guard stopped the stream", stopped=why) from None


class _Stream:
    """What both kinds of stream have."""

    def __init__(self, cursor: Cursors, chunks: object, **options: Any) -> None:
        self._chunks = chunks
        self._guarded = _Guarded(cursor, chunks, **options)

    @property
    def stopped(self) -> StopReason | None:
        """Why the stream was stopped, and where; ``None`` while it goes on, and where it came to its end."""
        return self._guarded.reader.stopped

    @property
    def held(self) -> int:
        """How many bytes are held back now."""
        return self._guarded.reader.held

    @property
    def matches(self) -> tuple[Match, ...]:
        """What was noted or replaced so far, copied at each look: of very many the first (docs/limits.md)."""
        return tuple(self._guarded.reader.matches)

    @property
    def matches_dropped(self) -> int:
        """How many more there were."""
        return self._guarded.reader.matches_dropped


def _refuse_no_iterable(chunks: object, wanted: tuple[str, ...], other: str, instead: str) -> None:
    """Refuses what has nothing of what is ``wanted``, and says what to do with it."""
    kind = type(chunks)
    if any(hasattr(kind, name) for name in wanted):
        return
    hint = (
        "; await it first" if inspect.isawaitable(chunks) else f"; {instead} takes it" if hasattr(kind, other) else ""
    )
    which = "an asynchronous iterable" if "__aiter__" in wanted else "an iterable"
    message = f"chunks must be {which} of pieces, and is {kind.__name__}{hint}"
    raise InvalidInput("input.wrong_type", message, field="chunks", value=kind.__name__)


def _closable(source: object, chunks: object, *names: str) -> list[Callable[[], Any]]:
    """How to close an iterable: its iterator, and the iterable where that is another, such as a client's response."""
    found = []
    for each in (source,) if source is chunks else (source, chunks):
        close = next((close for name in names if callable(close := getattr(each, name, None))), None)
        if close is not None:
            found.append(close)
    return found


def _is_in_use(error: Exception) -> bool:
    """Whether Python refused to go into a generator of ours, and not into one of the source, where somebody is."""
    here = error.__traceback__
    return here is not None and here.tb_next is None and "generator" in str(error) and "already" in str(error)


def _in_use() -> Conflict:
    return Conflict("guard.in_use", "the stream is in use by another thread or task")


class GuardedStream(_Stream, Generic[Chunk]):
    """An iterator over what may come out of a stream. Made by :meth:`Guard.stream`.

    As a context manager it is closed, and its source with it, however its block is left.
    """

    def __init__(self, cursor: Cursors, chunks: Iterable[Chunk], **options: Any) -> None:
        super().__init__(cursor, chunks, **options)
        _refuse_no_iterable(chunks, ("__iter__", "__getitem__"), "__aiter__", "astream")
        self._released: Generator[Chunk, None, None] = _run(self._guarded, chunks)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        try:
            return next(self._released)
        except StopIteration:
            self._guarded.raise_if_broken_off()
            raise
        except ValueError as error:
            if _is_in_use(error):
                raise _in_use() from None
            raise

    def close(self) -> None:
        """Ends the stream: its source is closed, and nothing more comes out.

        Raises:
            Conflict: Another thread is in it (docs/guard.md, *When a stream is stopped*).
        """
        begun, self._guarded.begun = self._guarded.begun, True
        try:
            self._released.close()
        except ValueError as error:
            if _is_in_use(error):
                raise _in_use() from None
            raise
        self._guarded.closed = True
        if not begun:
            # A generator that has not begun has nothing to tidy up.
            self._guarded.reader.fail()
            _close(self._chunks, self._chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _run(guarded: _Guarded, chunks: Iterable[Chunk]) -> Generator[Chunk, None, None]:
    guarded.begun = True
    source: object = chunks
    try:
        source = each = iter(chunks)
        for chunk in each:
            released, refused = guarded.without_traces(guarded.take, chunk)
            # No error that comes from here on has it in its frames.
            del chunk
            if refused is not None:
                raise refused
            if guarded.over:
                break
            yield from released
        else:
            released, refused = guarded.without_traces(guarded.finish)
            if refused is not None:
                raise refused
    except BaseException:
        # Also what interrupts a program, and the end of a stream that is left.
        guarded.reader.fail()
        _close(source, chunks)
        raise
    # Before the last of it comes out, so that nobody waits for what will not be used. Where that fails it is told
    # behind the last of it, or a client would not see that the stream was stopped.
    fault: Exception | None = None
    try:
        _close(source, chunks)
    except Exception as error:
        fault = error
    try:
        yield from released
    except GeneratorExit:
        if fault is not None:
            raise fault from fault.__cause__
        raise
    guarded.raise_what_is_due(fault)


def _close(source: object, chunks: object) -> None:
    def closed(close: Callable[[], Any]) -> None:
        waiting = close()
        if inspect.iscoroutine(waiting):
            # That of an asynchronous client, which is no iterable here; nobody would wait for it.
            waiting.close()

    with contextlib.ExitStack() as all_of_them:
        for close in reversed(_closable(source, chunks, "close")):
            all_of_them.callback(closed, close)


class AsyncGuardedStream(_Stream, Generic[Chunk]):
    """An asynchronous iterator over what may come out of a stream. Made by :meth:`Guard.astream`.

    As an asynchronous context manager it is closed, and its source with it, however its block is left.
    """

    def __init__(self, cursor: Cursors, chunks: AsyncIterable[Chunk], **options: Any) -> None:
        super().__init__(cursor, chunks, **options)
        _refuse_no_iterable(chunks, ("__aiter__",), "__iter__", "stream")
        self._released: AsyncGenerator[Chunk, None] = _run_async(self._guarded, chunks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        try:
            return await anext(self._released)
        except StopAsyncIteration:
            self._guarded.raise_if_broken_off()
            raise
        except (RuntimeError, ValueError) as error:
            if _is_in_use(error):
                raise _in_use() from None
            raise

    async def aclose(self) -> None:
        """Ends the stream: its source is closed, and nothing more comes out.

        Raises:
            Conflict: Another task or thread is in it (docs/guard.md, *When a stream is stopped*).
        """
        begun, self._guarded.begun = self._guarded.begun, True
        try:
            await self._released.aclose()
        except (RuntimeError, ValueError) as error:
            if _is_in_use(error):
                raise _in_use() from None
            raise
        self._guarded.closed = True
        if not begun:
            self._guarded.reader.fail()
            await _aclose(self._chunks, self._chunks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _run_async(guarded: _Guarded, chunks: AsyncIterable[Chunk]) -> AsyncGenerator[Chunk, None]:
    guarded.begun = True
    source: object = chunks
    try:
        source = each = aiter(chunks)
        async for chunk in each:
            released, refused = guarded.without_traces(guarded.take, chunk)
            # No error that comes from here on has it in its frames.
            del chunk
            if refused is not None:
                raise refused
            if guarded.over:
                break
            for piece in released:
                yield piece
        else:
            released, refused = guarded.without_traces(guarded.finish)
            if refused is not None:
                raise refused
    except BaseException:
        guarded.reader.fail()
        await _aclose(source, chunks)
        raise
    fault: Exception | None = None
    try:
        await _aclose(source, chunks)
    except Exception as error:
        fault = error
    try:
        for piece in released:
            yield piece
    except GeneratorExit:
        if fault is not None:
            raise fault from fault.__cause__
        raise
    guarded.raise_what_is_due(fault)


async def _aclose(source: object, chunks: object) -> None:
    async def closed(close: Callable[[], Any]) -> None:
        waiting = close()
        try:
            if inspect.isawaitable(waiting):
                await waiting
        except RuntimeError as error:
            # Where nobody holds the streams any more the event loop closes both at once.
            if not _is_in_use(error):
                raise

    async with contextlib.AsyncExitStack() as all_of_them:
        for close in reversed(_closable(source, chunks, "aclose", "close")):
            all_of_them.push_async_callback(closed, close)
