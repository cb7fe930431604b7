"""Server-sent events as they come over the wire, text or bytes: the same chunks, written as JSON.

What comes out is written anew, so that nothing passes but what was read: no field that JSON has twice, no comment, and
no line that the format does not know.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from decidable.errors import InvalidInput
from decidable.guard.arguments import is_document
from decidable.guard.channels import Channel, Channels
from decidable.guard.chat import ChatReader
from decidable.guard.faults import unknown_chunk, wrong_kind
from decidable.guard.fields import fields
from decidable.guard.services import OF_AN_ERROR, is_an_error

if TYPE_CHECKING:
    from decidable.guard.readers import Shaped

__all__ = ["MOST_EVENT_CHARACTERS", "EventReader", "Prelude", "is_a_ping"]

MOST_EVENT_CHARACTERS: Final = 16 << 20
"""How long one event may be."""

LINE_END: Final = re.compile(r"\r\n|\r|\n")


SAY_SO: Final = ("data:", "event:")
BEFORE: Final = ("id:", "retry:", ":")
FIELDS: Final = SAY_SO + BEFORE


class Prelude:
    """The beginning of a text, while it may be that of server-sent events.

    They begin with fields, and before the first that says so there may be others, comments and empty lines.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line = ""
        self.is_over = False

    def is_of_events(self, piece: str | bytes) -> bool:
        """Whether the text, with one more piece of it, begins as events do, and hardly anything else."""
        text = self._decode.decode(piece) if isinstance(piece, bytes) else piece
        *lines, self._line = LINE_END.split(self._line + text.replace("\ufeff", ""))
        for line in map(str.lstrip, lines):
            if line.startswith(SAY_SO):
                return True
            if line and not line.startswith(BEFORE):
                self.is_over = True
                return False
        # What tells one from the other stands at its beginning.
        self._line = self._line.lstrip()[: len("event:")]
        if not any(each.startswith(self._line) or self._line.startswith(each) for each in FIELDS):
            self.is_over = True
        return self._line.startswith(SAY_SO)


def is_a_ping(inside: Mapping[str, Any] | None) -> bool:
    """Whether a chunk is a sign of life and nothing else. Servers of any shape send it, also before anything else."""
    return inside == {"type": "ping"}


class EventReader:
    """Reads pieces of a body of server-sent events, wherever they are cut."""

    def __init__(self, channels: Channels, shaped: Callable[[Any], Shaped]) -> None:
        self._channels = channels
        self._shaped = shaped
        self._reader: Shaped | None = None
        self._kind: type | None = None
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("strict")
        # The beginning of a line, in pieces, and the lines of an event.
        self._line: list[str] = []
        self._skip_newline = False
        self._length = self._length_of_line = 0
        self._data: list[str] = []
        self._event: str | None = None
        self._kept: list[str] = []
        # The line with the name of the last event, where its data have no type. What waits comes out under it, too.
        self._named = ""
        self._names_events = self._names_pings = False
        self._has_begun = self._has_event = self._has_line_end = False
        self._beginning = ""
        self._broken_off = False
        self._fault: Exception | None = None

    def take(self, chunk: Any) -> list[Any]:
        """What comes out for a piece: one piece of the same kind, or none."""
        self._raise_fault()
        if self._kind is None and isinstance(chunk, (str, bytes)):
            self._kind = bytes if isinstance(chunk, bytes) else str
        if self._kind is None or not isinstance(chunk, self._kind):
            raise wrong_kind("text or bytes of server-sent events, as before", chunk)
        text, fault = self._decoded(chunk) if isinstance(chunk, bytes) else (str(chunk), None)
        self._has_line_end = self._has_line_end or "\n" in text or "\r" in text
        if not self._has_line_end and text.startswith(SAY_SO) and len(self._line) == 1 and self._is_line(self._line[0]):
            # They would wait for their ends until the body is at its own.
            raise unknown_chunk("body", f"has no end of a line{self._hint()}")
        self._beginning = (self._beginning + text[:8])[:8]
        if text and not self._has_begun:
            self._has_begun = True
            if self._kind is str:
                # The mark of the byte order is no text; of bytes the decoder takes it off.
                text = text.removeprefix("\ufeff")
        out = self._read(text)
        if fault is not None and self._fault is None and self._channels.stopped is None:
            self._keep(fault, out)
        return self._written(out)

    def finish(self) -> list[Any]:
        """The end of the body ends its last event, and the texts that are not at their end."""
        self._raise_fault()
        text, fault = self._decoded(b"", True) if self._kind is bytes else ("", None)
        if fault is not None:
            # What stands before it is the beginning of an event.
            raise fault
        out = self._read(text)
        self._raise_fault()
        if "".join(self._line) or self._data:
            self._broken_off = True
            out += self._read("\n\n")
            self._raise_fault()
        if self._has_begun and not self._has_event:
            # Such as the page of an error: what it says would be gone without a word.
            message = f"the body has no server-sent event in it{self._hint()}"
            raise InvalidInput("guard.unknown_chunk", message, field="body")
        if self._channels.stopped is None:
            out += self._rests()
        return self._written(out)

    def end(self, notice: str) -> list[Any]:
        """What tells a client that the stream was stopped, and for chat that the body is at its end."""
        if self._reader is None:
            # It was stopped in the error of a service, and of what nobody knows.
            error = {"type": "content_filter", "message": notice or "the stream was stopped"}
            return self._written([f"event: error\ndata: {_json({'error': error})}\n\n"])
        out = [self._event_of(each) for each in self._reader.end(notice)]
        if isinstance(self._reader, ChatReader):
            out.append("data: [DONE]\n\n")
        return self._written(out)

    def _raise_fault(self) -> None:
        """What is wrong with an event behind others that were in the same piece."""
        if self._fault is not None:
            raise self._fault

    def _keep(self, fault: Exception, out: list[str]) -> None:
        """What stands before a fault comes out first, wherever the body is cut."""
        if not out:
            raise fault
        self._fault = fault.with_traceback(None)

    def _decoded(self, chunk: bytes, final: bool = False) -> tuple[str, Exception | None]:
        """The text of a piece; where it is none, up to there, and the fault."""
        try:
            return self._decode.decode(chunk, final), None
        except UnicodeDecodeError as error:
            return error.object[: error.start].decode(), unknown_chunk("bytes", "are no UTF-8")

    def _written(self, out: list[str]) -> list[Any]:
        text = "".join(out)
        if not text:
            return []
        return [text.encode() if self._kind is bytes else text]

    def _read(self, text: str) -> list[str]:
        if self._skip_newline and text:
            # The \r before it ended the line already.
            text = text.removeprefix("\n")
            self._skip_newline = False
        out: list[str] = []
        place = 0
        for found in LINE_END.finditer(text):
            self._line.append(text[place : found.start()])
            place = found.end()
            line, self._line = "".join(self._line), []
            self._length += len(line)
            try:
                self._refuse_too_long(self._length)
                out += self._take_line(line)
            except Exception as fault:
                self._keep(fault, out)
                return out
            if self._channels.stopped is not None:
                return out
        if text:
            self._skip_newline = text.endswith("\r")
            self._line.append(text[place:])
        self._length_of_line = self._length_of_line + len(text) - place if place == 0 else len(text) - place
        try:
            self._refuse_too_long(self._length + self._length_of_line)
        except InvalidInput as fault:
            self._keep(fault, out)
        return out

    @staticmethod
    def _refuse_too_long(length: int) -> None:
        if length > MOST_EVENT_CHARACTERS:
            raise InvalidInput("guard.too_large", f"an event is longer than {MOST_EVENT_CHARACTERS} characters")

    def _take_line(self, line: str) -> list[str]:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            # A sign of life, without what it says.
            return [":\n"]
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and re.fullmatch(r"[0-9A-Za-z_.:-]{0,128}", value):
            self._kept.append(f"id: {value}\n")
        elif name == "retry" and re.fullmatch(r"[0-9]{1,9}", value):
            self._kept.append(f"retry: {value}\n")
        return []

    def _dispatch(self) -> list[str]:
        data, event, kept = "\n".join(self._data), self._event, "".join(self._kept)
        self._data, self._event, self._kept, self._length = [], None, [], 0
        if not data:
            return [kept + "\n"] if kept else []
        self._has_event = True
        if data.strip() == "[DONE]":
            rests = self._rests()
            return rests if self._channels.stopped is not None else [*rests, kept + "data: [DONE]\n\n"]
        try:
            chunk = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
        except ValueError:
            if event == "error" and _is_words(data):
                rests = self._rests()
                if self._channels.stopped is not None:
                    return rests
                # And no line of its own to another reader: some end lines at more than the format does.
                words = self._channels.read(Channel(None, "error"), "\n".join(data.splitlines()))
                if words != data and any(map(is_document, (words, *words.splitlines()))):
                    raise unknown_chunk("data", "is JSON where something is redacted") from None
                lines = "".join(f"data: {line}\n" for line in words.splitlines())
                return rests if self._channels.stopped is not None else [*rests, f"{kept}event: error\n{lines}\n"]
            if self._broken_off:
                message = "the body broke off in the middle of an event"
                # Before the end of a line it may be a source of lines, too.
                message += self._hint().replace("; ", "; or, ", 1)
                raise InvalidInput("guard.unknown_chunk", message, field="body") from None
            raise unknown_chunk("data", f"is no JSON{self._hint()}") from None
        inside = fields(chunk)
        if inside is None:
            raise unknown_chunk("data", "is no JSON object")
        kind = inside.get("type")
        if self._is_error(event, kind, inside):
            # A service says what went wrong in the same way whatever it was streaming, and the caller must hear of it.
            named = "event: error\n" if event == "error" else ""
            rests = self._rests()
            if self._channels.stopped is not None:
                return rests
            return [*rests, f"{kept}{named}data: {_json(self._channels.read_error(None, '', chunk))}\n\n"]
        self._named = ""
        if event and event != _one_line(event):
            raise unknown_chunk("event", "has more than a line")
        if event and isinstance(kind, str):
            if event not in (kind, "message"):
                raise unknown_chunk("event", "is another than the type that its data says")
            if is_a_ping(inside):
                # It says nothing of the others.
                self._names_pings = self._names_pings or event == kind
            else:
                self._names_events = self._names_events or event == kind
        elif event and event != "message":
            # Where data have no type the name is a text like any other.
            event = self._channels.read(Channel(None, "event"), event)
            if self._channels.stopped is not None:
                return []
            self._named = f"event: {_one_line(event)}\n"
        if self._reader is None:
            if is_a_ping(inside):
                return [kept + self._event_of(chunk)]
            self._reader = self._shaped(chunk)
            # A type that stands beside the text itself, as LangChain's, is the name of no event.
            is_an_event = isinstance(kind, str) and not {"choices", "content"} & inside.keys()
            self._names_events = self._names_events or is_an_event
        out = [self._event_of(each) for each in self._reader.take(chunk)]
        if self._reader.is_waiting:
            # Where it is in the stream is known, though it comes out later.
            return [*out, kept + "\n"] if kept else out
        return [*out[:-1], kept + out[-1]] if out else out

    def _rests(self) -> list[str]:
        """What is held, where the texts are at their end: behind the error of a service clients read no further."""
        return [self._event_of(each) for each in self._reader.finish()] if self._reader is not None else []

    def _event_of(self, chunk: Any) -> str:
        kind = chunk.get("type")
        is_named = isinstance(kind, str) and (self._names_events or (self._names_pings and kind == "ping"))
        named = f"event: {_one_line(kind)}\n" if is_named else self._named
        return f"{named}data: {_json(chunk)}\n\n"

    def _is_error(self, event: str | None, kind: Any, inside: Mapping[str, Any]) -> bool:
        """Whether it is an error of whoever streams, and not one that the events of this stream have themselves."""
        own = kind == "error" and (self._reader is None or self._names_events)
        return not own and (is_an_error(inside) or (event == "error" and inside.keys() <= OF_AN_ERROR))

    @staticmethod
    def _is_line(text: str) -> bool:
        """Whether it is a line of an event, and not the beginning of one."""
        return text.startswith("event:") or (text.startswith("data:") and is_document(text[5:]))

    def _hint(self) -> str:
        if self._has_line_end or not self._beginning.lstrip("\ufeff").startswith(FIELDS):
            return ""
        return "; lines that came without their ends need them back: (line + '\\n' for line in lines)"


def _is_words(data: str) -> bool:
    """Whether it has nothing that a reader could take for JSON."""
    return not any(line.lstrip().startswith(("{", "[", '"')) for line in data.splitlines())


def _one_line(name: str) -> str:
    return " ".join(name.splitlines())


def _json(chunk: Any) -> str:
    return json.dumps(chunk, separators=(",", ":"), allow_nan=False)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        # It could not be written anew.
        raise unknown_chunk("data", "has a number that is too large")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
