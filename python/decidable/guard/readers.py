"""How the chunks of a stream are read: plain text, or by the shape of what a client gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from decidable._native import MOST_MATCHES, Cursor, Match, StopReason
from decidable.errors import DecidableError
from decidable.guard.arguments import Arguments, Cursors
from decidable.guard.channels import Channels
from decidable.guard.chat import ChatReader
from decidable.guard.faults import of_a_helper, shown, unknown_chunk, wrong_kind
from decidable.guard.fields import fields, unreadable
from decidable.guard.langchain import MessageChunkReader
from decidable.guard.messages import EVENTS as MESSAGE_EVENTS
from decidable.guard.messages import MessageReader
from decidable.guard.outputs import OutputReader
from decidable.guard.responses import ResponseReader
from decidable.guard.services import is_an_error
from decidable.guard.sse import EventReader, is_a_ping

__all__ = ["PlainReader", "Reader", "TypedReader"]

# The events of OpenAI's helper for chat: it begins with the first of them.
OF_A_CHAT_HELPER: Final = frozenset({"chunk", "content.delta", "refusal.delta", "tool_calls.function.arguments.delta"})

# What a reader stumbles with on a part of another form than it looks for.
STUMBLES: Final = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)

# How many names of a chunk that is not known a line has room for.
NAMES_TOLD: Final = 8

KNOWN: Final = (
    "chunks of chat (choices), events of responses and messages (type), vLLM's outputs (request_id, outputs) and "
    "LangChain's messages (content, additional_kwargs)"
)


class Shaped(Protocol):
    """Reads chunks of one shape."""

    is_waiting: bool
    """Whether nothing of what was taken last comes out yet."""

    def take(self, chunk: Any) -> list[Any]:
        """What comes out for a chunk."""

    def finish(self) -> list[Any]:
        """What comes out at the end of the source."""

    def end(self, notice: str) -> list[Any]:
        """What comes out behind a stop."""


class Reader(Protocol):
    """What a guarded stream asks: it knows no chunk."""

    @property
    def stopped(self) -> StopReason | None: ...
    @property
    def held(self) -> int: ...
    @property
    def matches(self) -> Iterable[Match]: ...
    @property
    def matches_dropped(self) -> int: ...
    def take(self, chunk: Any) -> list[Any]: ...
    def finish(self) -> list[Any]: ...
    def end(self, notice: str) -> list[Any]: ...
    def fail(self) -> None: ...


class PlainReader:
    """Reads pieces of one text, or of bytes."""

    def __init__(self, cursor: Cursors, *, json: bool) -> None:
        self._cursor: Cursor | Arguments = Arguments(cursor) if json else cursor()
        self._found: list[Match] = []
        self._dropped = 0
        self._bytes = False

    @property
    def stopped(self) -> StopReason | None:
        return self._cursor.stopped

    @property
    def held(self) -> int:
        return self._cursor.held

    @property
    def matches(self) -> Iterable[Match]:
        # Where there are two readings, one may find later what stands before what the other found.
        return sorted(self._found, key=lambda match: (match.start, match.end))

    @property
    def matches_dropped(self) -> int:
        return self._dropped + self._cursor.matches_dropped

    def take(self, chunk: Any) -> list[Any]:
        try:
            released = self._cursor.push(chunk)
        finally:
            self._note()
        self._bytes = isinstance(chunk, bytes)
        return [released] if released else []

    def finish(self) -> list[Any]:
        try:
            released = self._cursor.finish()
        finally:
            self._note()
        return [released] if released else []

    def _note(self) -> None:
        """At each chunk, whoever asks or does not: which are kept does not depend on when somebody looks."""
        found = self._cursor.matches()
        if found:
            room = MOST_MATCHES - len(self._found)
            self._found += found[:room]
            self._dropped += len(found[room:])

    def end(self, notice: str) -> list[Any]:
        return [notice.encode() if self._bytes else notice] if notice else []

    def fail(self) -> None:
        self._cursor.fail()


class TypedReader:
    """Reads what its first chunk is of that is no ping, and nothing else after it."""

    def __init__(self, cursor: Cursors, *, sse: bool, json: bool) -> None:
        self._channels = Channels(cursor, json=json)
        self._shaped: Shaped | EventReader | None = EventReader(self._channels, self._shape) if sse else None

    @property
    def stopped(self) -> StopReason | None:
        return self._channels.stopped

    @property
    def held(self) -> int:
        return self._channels.held

    @property
    def matches(self) -> Iterable[Match]:
        return self._channels.matches

    @property
    def matches_dropped(self) -> int:
        return self._channels.matches_dropped

    def take(self, chunk: Any) -> list[Any]:
        return _of_a_known_form(self._take, chunk)

    def _take(self, chunk: Any) -> list[Any]:
        if self._shaped is None:
            if is_a_ping(fields(chunk)):
                return [chunk]
            self._shaped = self._shape(chunk)
        return self._shaped.take(chunk)

    def finish(self) -> list[Any]:
        return _of_a_known_form(self._shaped.finish) if self._shaped is not None else []

    def end(self, notice: str) -> list[Any]:
        return _of_a_known_form(self._shaped.end, notice) if self._shaped is not None else []

    def fail(self) -> None:
        self._channels.fail()

    def _shape(self, chunk: Any) -> Shaped:
        """Who reads chunks of this shape."""
        inside = fields(chunk)
        if inside is None:
            name = unreadable(chunk)
            if name:
                raise unknown_chunk(name)
            raise wrong_kind("text, bytes, or a chunk whose fields can be listed", chunk)
        kind = inside.get("type")
        if "choices" in inside or inside.get("object") == "chat.completion.chunk":
            return ChatReader(self._channels)
        if "outputs" in inside and "request_id" in inside:
            return OutputReader(self._channels)
        if "content" in inside and "additional_kwargs" in inside:
            return MessageChunkReader(self._channels)
        if isinstance(kind, str) and (kind in MESSAGE_EVENTS or (kind == "error" and "error" in inside)):
            return MessageReader(self._channels)
        if isinstance(kind, str) and (kind.startswith("response.") or kind in ("error", "keepalive")):
            return ResponseReader(self._channels)
        if inside.get("error") or is_an_error(inside):
            return ChatReader(self._channels)
        if isinstance(kind, str) and kind in OF_A_CHAT_HELPER:
            raise of_a_helper("type", "chat.completions.create(stream=True)")
        # Names that a model could have chosen are not repeated.
        names = [shown(name) for name in inside]
        told = ", ".join(names[:NAMES_TOLD]) + (", …" if len(names) > NAMES_TOLD else "") if names else "no fields"
        why = f"is not known: it has {told}; what is known are {KNOWN}"
        raise unknown_chunk("type", why)


def _of_a_known_form(step: Callable[..., list[Any]], *given: Any) -> list[Any]:
    """What a step gives. A chunk of a form that it does not know is refused, whatever the step stumbled on."""
    try:
        return step(*given)
    except RecursionError:
        refused = unknown_chunk("nesting", "is too deep")
    except STUMBLES as error:
        if isinstance(error, DecidableError):
            raise
        refused = unknown_chunk("shape", f"is not known, so it cannot be read ({type(error).__name__})")
    # Not behind the other one, which knows what was read.
    raise refused
