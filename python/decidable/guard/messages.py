"""Messages in pieces: the events that Anthropic's client streams with ``stream=True``.

An event comes out for each that goes in. What is held of a block comes out in an event before the one that ends it.

Clients join text blocks that follow one another, so they are one text: where one ends while something is held, its end
waits for the next event, and what is held goes on in the next block, or comes out before that end.
"""

from __future__ import annotations

from typing import Any, Final

from decidable.guard.channels import Channel, Channels
from decidable.guard.faults import NAMES_A_MATCH, of_a_helper, unknown_chunk, unknown_kind, wrong_kind
from decidable.guard.fields import changed, fields, is_empty, kept, made
from decidable.guard.parts import ByPlace, fields_of, kind_of, number_of, refuse_many
from decidable.guard.services import OF_BEDROCK, is_of_the_service

__all__ = ["EVENTS", "MessageReader"]

EVENTS: Final = frozenset(
    {
        "message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta",
        "content_block_stop", "ping",
    }
)  # fmt: skip

# The kinds of delta that hold text: the field, and the name of the channel.
TEXTS: Final = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "reasoning"),
    "input_json_delta": ("partial_json", "tool_arguments"),
    "compaction_delta": ("content", "compaction"),
}

# What the client's helper tells between them, and what to take instead.
OF_THE_HELPER: Final = frozenset({"text", "thinking", "citation", "signature", "input_json", "compaction"})
INSTEAD: Final = "messages.create(stream=True), or of the helper its text_stream,"

# What a block may begin with of a text that deltas go on with.
BEGINNINGS: Final = {
    ("text", "text"): "text",
    ("thinking", "thinking"): "reasoning",
    ("compaction", "content"): "compaction",
}


class MessageReader:
    """Reads the events of one message. Its content blocks are its choices."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self.is_waiting = False
        self._lists = ByPlace()
        # The blocks that are not at their end, with their kind.
        self._open: dict[int, str] = {}
        self._next_block = 0
        self._deltas: dict[Channel, Any] = {}
        self._last: Any = None
        self._usage: Any = None
        self._citations = 0
        # The text that each open block of text is a part of, and what came out of the block.
        self._texts: dict[int, Channel] = {}
        self._said: dict[int, list[str]] = {}
        # The text that may go on in another block, with the last of its blocks, and that one's end if it waits.
        self._before: tuple[Channel, int] | None = None
        self._waiting: Any = None

    def take(self, chunk: Any) -> list[Any]:
        """What comes out for an event."""
        inside = fields(chunk)
        kind = inside.get("type") if inside is not None else None
        if inside is None or not isinstance(kind, str):
            raise wrong_kind("an event of a message, as before", chunk)
        self._last, self.is_waiting = chunk, False
        if kind == "content_block_delta":
            return [self._delta(chunk, inside)]
        if kind == "content_block_start":
            self._only(chunk, inside, "index", "content_block")
            index = self._index(inside)
            block = inside.get("content_block")
            refuse_many(len(self._open))
            if index < self._next_block:
                raise unknown_chunk("index", "is of a block before the last")
            # The client has it behind those before, and finds it where its number says.
            self._lists.append(None, "index", index)
            kind_of_block = kind_of("content_block", block)
            if kind_of_block == "text" and self._is_in_text:
                raise unknown_chunk("index", "is of a text that begins before another is at its end")
            before = self._begin_text(index) if kind_of_block == "text" else self._end_text(chunk)
            if self._channels.stopped is not None:
                return before
            self._open[index] = kind_of_block
            self._next_block = max(self._next_block, index + 1)
            return [*before, self._replaced(chunk, inside, "content_block", self._block(index, block))]
        if kind == "content_block_stop":
            index = self._index(inside)
            text = self._texts.get(index)
            rest = self._end_text(chunk) if text is not None else []
            rest += self._rests(index, chunk, but=text)
            if self._channels.stopped is not None:
                return rest
            if text is not None and self._channels.held_in(text) is not None:
                self._before = text, index
                if self._channels.held_in(text):
                    self._waiting, self.is_waiting = kept(chunk), not rest
                    return rest
            return rest + self._close_block(index, chunk)
        if kind == "message_delta":
            self._only(chunk, inside, "delta", "usage", "context_management", "input_transformations")
            rest = self._all_rests(chunk)
            if self._channels.stopped is not None:
                return rest
            changes = {}
            for name in ("delta", "usage", "context_management", "input_transformations"):
                value = inside.get(name)
                new = self._channels.read_all(None, name, value, _keep_stop_sequence)
                if new is not value:
                    changes[name] = new
            # What says why the message is at its end does not come out where it is stopped in it.
            return rest if self._channels.stopped is not None else [*rest, changed(chunk, changes)]
        if kind == "message_start":
            self._only(chunk, inside, "message")
            message = inside.get("message")
            if (fields(message) or {}).get("content"):
                # Deltas go on with it, and it is at its end here.
                raise unknown_chunk("message.content", "is there before its blocks")
            new = self._channels.read_all(None, "message", message, _keep_stop_sequence)
            self._usage = (fields(new) or {}).get("usage")
            return [self._replaced(chunk, inside, "message", new)]
        if kind == "message_stop":
            rest = self._all_rests(chunk)
            if inside.get("message"):
                raise of_a_helper("message", INSTEAD)
            # Bedrock says here what was used, and what its own filter did.
            self._only(chunk, inside, *OF_BEDROCK)
            changes = {}
            for name in filter(OF_BEDROCK.__contains__, inside):
                new = self._channels.read_all(None, name, inside[name])
                if new is not inside[name]:
                    changes[name] = new
            return rest if self._channels.stopped is not None else [*rest, changed(chunk, changes)]
        if kind == "ping":
            self._only(chunk, inside)
            return [chunk]
        if kind == "error":
            # Clients read no further.
            rest = self._all_rests(chunk)
            if self._channels.stopped is not None:
                return rest
            told = {name: value for name, value in inside.items() if name != "type"}
            if not all(self._channels.knows(chunk, name) for name in told):
                raise unknown_chunk("error", NAMES_A_MATCH)
            new = {name: self._channels.read_error(None, name, value) for name, value in told.items()}
            return [*rest, changed(chunk, {name: value for name, value in new.items() if value is not told[name]})]
        if kind in OF_THE_HELPER:
            raise of_a_helper("type", INSTEAD)
        raise unknown_kind("type", kind)

    def finish(self) -> list[Any]:
        """The stream came to its end without saying so: what is pending is decided, and events have the rest."""
        return self._all_rests(self._last)

    def end(self, notice: str) -> list[Any]:
        """What tells a client that the stream was stopped: blocks end, and the message does, with ``refusal``."""
        like = self._last
        out = []
        where = self._channels.stopped_in
        place = self._block_of(where) if where is not None and where.name == "text" else None
        told = bool(notice) and place in self._open
        for index in self._open:
            if told and place == index:
                out.append(_text_delta(like, index, notice))
            out.append(made(like, "RawContentBlockStopEvent", {"type": "content_block_stop", "index": index}))
        if notice and not told:
            index = self._next_block
            block = {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
            out.append(made(like, "RawContentBlockStartEvent", block))
            out.append(_text_delta(like, index, notice))
            out.append(made(like, "RawContentBlockStopEvent", {"type": "content_block_stop", "index": index}))
        # A client counts on a number here; it is the last that was told.
        tokens = (fields(self._usage) or {}).get("output_tokens") if self._usage is not None else 0
        delta = {
            "type": "message_delta",
            "delta": {"stop_reason": "refusal", "stop_sequence": None},
            "usage": {"output_tokens": tokens if isinstance(tokens, int) else 0},
        }
        out.append(made(like, "RawMessageDeltaEvent", delta))
        out.append(made(like, "RawMessageStopEvent", {"type": "message_stop"}))
        return out

    def _only(self, of: Any, inside: Any, *names: str) -> None:
        """Refuses an event that has more than these."""
        for name, value in inside.items():
            if name not in names and name != "type" and not self._channels.says_nothing(of, name, value):
                raise unknown_chunk(name)

    @staticmethod
    def _index(inside: Any) -> int:
        return number_of("index", inside.get("index"))

    @staticmethod
    def _replaced(chunk: Any, inside: Any, name: str, new: Any) -> Any:
        return chunk if new is inside.get(name) else changed(chunk, {name: new})

    def _block(self, index: int, block: Any, *, whole: bool = False) -> Any:
        def leaf(kind: str, name: str, place: str, text: Any) -> Any:
            if (kind, name, place) == ("redacted_thinking", "data", "block.data"):
                return text
            channel = BEGINNINGS.get((kind, name)) if place.count(".") == 1 else None
            if channel is None:
                return None
            if whole:
                read = self._channels.read(Channel(index, channel), text)
                # Of a text that may go on, what came out is what comes out.
                return "".join(self._said.get(index, ())) if channel == "text" else read
            return self._push(index, channel, text)

        return self._channels.read_all(index, "block", block, leaf)

    def _delta(self, chunk: Any, inside: Any) -> Any:
        self._only(chunk, inside, "index", "delta")
        index = self._index(inside)
        delta = inside.get("delta")
        own = fields_of("delta", delta)
        kind = kind_of("delta", delta)
        if kind == "citations_delta":
            self._citations += 1
            new = self._channels.read_all(index, f"citation[{self._citations}]", delta)
            return self._replaced(chunk, inside, "delta", new)
        if kind == "signature_delta":
            self._only(delta, own, "signature")
            if not is_of_the_service("signature", own.get("signature")):
                raise unknown_chunk("delta.signature")
            return chunk
        if kind not in TEXTS:
            raise unknown_kind("delta.type", kind)
        name, channel_name = TEXTS[kind]
        self._only(delta, own, name, "encrypted_content", "estimated_tokens")
        if not is_of_the_service("estimated_tokens", own.get("estimated_tokens") or 0):
            raise unknown_chunk("delta.estimated_tokens", "is no number of tokens")
        if not is_of_the_service("encrypted_content", own.get("encrypted_content")):
            raise unknown_chunk("delta.encrypted_content")
        if channel_name == "text" and self._open.get(index) != "text":
            # Nobody knows which text it goes on with.
            raise unknown_chunk("index", "is of no block of text that began")
        self._lists.find(None, "index", index)
        if index not in self._open:
            refuse_many(len(self._open))
            self._open[index] = ""
        channel = self._channel(index, channel_name)
        self._deltas[channel] = chunk
        text = own.get(name)
        if text is None:
            return chunk
        released = self._push(index, channel_name, text)
        return chunk if released is text else changed(chunk, {"delta": changed(delta, {name: released})})

    def _channel(self, index: int, name: str) -> Channel:
        return self._texts.setdefault(index, Channel(index, name)) if name == "text" else Channel(index, name)

    def _push(self, index: int, name: str, text: Any) -> str:
        released = self._channels.push(self._channel(index, name), text)
        if name == "text":
            self._said.setdefault(index, []).append(released)
        return released

    @property
    def _is_in_text(self) -> bool:
        """Whether a block of text is open that is not at its end: which of two goes on first nobody would know."""
        ended = self._before[1] if self._before is not None else None
        return any(kind == "text" and index != ended for index, kind in self._open.items())

    def _begin_text(self, index: int) -> list[Any]:
        """A block of text begins, which the text before it goes on in: what ended that one's block comes out."""
        if self._before is None:
            return []
        text, before = self._before
        ended = self._close_block(before, self._waiting)
        self._texts[index] = text
        self._before = self._waiting = None
        return ended

    def _end_text(self, like: Any) -> list[Any]:
        """The text before does not go on: its rest, and the end of its block."""
        if self._before is None:
            return []
        text, before = self._before
        rest = self._rest(text, self._channels.close(text), like)
        if self._channels.stopped is None:
            rest += self._close_block(before, self._waiting)
            self._before = self._waiting = None
        return rest

    def _close_block(self, index: int, stop: Any) -> list[Any]:
        """A block is at its end, which comes out if it has not."""
        changes = {}
        for name, value in (fields(stop) or {}).items():
            # A client's own kind of event repeats the block here.
            if not self._channels.knows(stop, name):
                raise unknown_chunk("content_block_stop", NAMES_A_MATCH)
            if name not in ("type", "index") and not is_empty(value):
                new = self._block(index, value, whole=True)
                if new is not value:
                    changes[name] = new
        self._said.pop(index, None)
        self._texts.pop(index, None)
        self._open.pop(index, None)
        return [] if stop is None else [changed(stop, changes)]

    def _block_of(self, channel: Channel) -> int | None:
        """The block that has what comes next of a text."""
        return next((index for index, text in self._texts.items() if text == channel), channel.choice)

    def _rest(self, channel: Channel, rest: str, like: Any) -> list[Any]:
        if not rest:
            return []
        index = self._block_of(channel)
        if index is not None and index in self._said and channel.name == "text":
            self._said[index].append(rest)
        last = self._deltas.get(channel)
        if last is not None:
            inside = fields(last) or {}
            delta = inside["delta"]
            name = TEXTS[(fields(delta) or {})["type"]][0]
            moved = {"index": index} if inside.get("index") != index else {}
            return [changed(last, {"delta": changed(delta, {name: rest}), **moved})]
        kind, name = next((kind, name) for kind, (name, own) in TEXTS.items() if own == channel.name)
        contents = {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: rest}}
        return [made(like, "RawContentBlockDeltaEvent", contents)]

    def _rests(self, index: int | None, like: Any, but: Channel | None = None) -> list[Any]:
        channels = [channel for channel in self._channels.of(index) if channel != but]
        return [event for each in channels for event in self._rest(each, self._channels.close(each), like)]

    def _all_rests(self, like: Any) -> list[Any]:
        rests = self._end_text(like)
        return rests + [event for index in self._channels.choices for event in self._rests(index, like)]


def _text_delta(like: Any, index: int, text: str) -> Any:
    contents = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
    return made(like, "RawContentBlockDeltaEvent", contents)


def _keep_stop_sequence(kind: str, name: str, place: str, text: Any) -> Any:
    """It is one of those that the caller gave, and not part of the text."""
    return text if place in ("delta.stop_sequence", "message.stop_sequence") else None
