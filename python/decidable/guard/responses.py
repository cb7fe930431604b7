"""Responses in pieces: the events that OpenAI's client streams from its responses interface.

An event comes out for each that goes in. What is held of a text comes out in an event before the one that ends it; the
events behind that one are counted on. An event that repeats a text is read once more, so it says what came out. Where
it says more than the pieces did, the rest of them is decided by the whole; where it says something else, the rest does
not come out.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from decidable.guard.channels import Channel, Channels
from decidable.guard.faults import NAMES_A_MATCH, of_a_helper, unknown_chunk, unknown_kind, wrong_kind
from decidable.guard.fields import changed, fields, is_empty, is_plain, made, without
from decidable.guard.parts import ByPlace, fields_of, kind_of, number_of, refuse_many
from decidable.guard.services import is_a_word

__all__ = ["ResponseReader"]

# The events with a piece of a text: its channel, and the field that numbers it where an item has several.
DELTAS: Final = {
    "response.output_text.delta": ("text", "content_index"),
    "response.refusal.delta": ("refusal", "content_index"),
    "response.reasoning_text.delta": ("reasoning", "content_index"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index"),
    "response.function_call_arguments.delta": ("tool_arguments", None),
    "response.mcp_call_arguments.delta": ("tool_arguments", None),
    "response.custom_tool_call_input.delta": ("tool_input", None),
    "response.code_interpreter_call_code.delta": ("code", None),
    "response.shell_call_command.delta": ("command", "command_index"),
    "response.audio.transcript.delta": ("transcript", None),
}
# The events that end one, and the field that has all of it.
ENDS: Final = {
    "response.output_text.done": ("text", "content_index", "text"),
    "response.refusal.done": ("refusal", "content_index", "refusal"),
    "response.reasoning_text.done": ("reasoning", "content_index", "text"),
    "response.reasoning_summary_text.done": ("summary", "summary_index", "text"),
    "response.function_call_arguments.done": ("tool_arguments", None, "arguments"),
    "response.mcp_call_arguments.done": ("tool_arguments", None, "arguments"),
    "response.custom_tool_call_input.done": ("tool_input", None, "input"),
    "response.code_interpreter_call_code.done": ("code", None, "code"),
    "response.shell_call_command.done": ("command", "command_index", "command"),
    "response.audio.transcript.done": ("transcript", None, None),
}
# The events with a part of the answer, whole or at its beginning: the field, and whether the texts in it end.
PARTS: Final = {
    "response.content_part.added": ("part", False),
    "response.content_part.done": ("part", True),
    "response.reasoning_part.added": ("part", False),
    "response.reasoning_part.done": ("part", True),
    "response.reasoning_summary_part.added": ("part", False),
    "response.reasoning_summary_part.done": ("part", True),
    "response.output_item.added": ("item", False),
    "response.output_item.done": ("item", True),
    "response.output_text.annotation.added": ("annotation", None),
    "response.shell_call_output_content.done": ("output", None),
    "response.shell_call_command.added": ("command", None),
}
RESPONSES: Final = {
    "response.created": False,
    "response.queued": False,
    "response.in_progress": False,
    "response.completed": True,
    "response.incomplete": True,
    "response.failed": True,
}
# The events that have no text. Pictures are none, and nobody looks at them.
WITHOUT_TEXT: Final = frozenset(
    {
        "response.audio.done",
        "response.code_interpreter_call.completed",
        "response.code_interpreter_call.in_progress",
        "response.code_interpreter_call.interpreting",
        "response.compaction.compacting",
        "response.file_search_call.completed",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.image_generation_call.completed",
        "response.image_generation_call.generating",
        "response.image_generation_call.in_progress",
        "response.image_generation_call.partial_image",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "response.mcp_call.in_progress",
        "response.mcp_list_tools.completed",
        "response.mcp_list_tools.failed",
        "response.mcp_list_tools.in_progress",
        "response.web_search_call.completed",
        "response.web_search_call.in_progress",
        "response.web_search_call.searching",
    }
)
ABOUT_AN_EVENT: Final = frozenset(
    {
        "type", "sequence_number", "item_id", "output_index", "content_index", "summary_index", "command_index",
        "annotation_index", "partial_image_index", "partial_image_b64", "background", "output_format", "quality",
        "size", "obfuscation", "status", "response_id",
    }
)  # fmt: skip
# What llama.cpp says beside an event of how it runs.
OF_A_RUN: Final = frozenset({"timings", "prompt_progress"})
# What a response repeats of the request.
OF_THE_REQUEST: Final = frozenset(
    {
        "instructions", "tools", "tool_choice", "metadata", "prompt", "text", "user", "reasoning", "truncation",
        "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
        "conversation", "include", "input", "background", "context_management", "stream_options",
    }
)  # fmt: skip
# What it says besides that has names which no other part has.
OF_A_RESPONSE: Final = frozenset(
    {
        "billing", "completed_at", "frequency_penalty", "incomplete_details", "max_output_tokens", "max_tool_calls",
        "output_text", "parallel_tool_calls", "presence_penalty", "previous_response_id", "prompt_cache_retention",
        "store", "temperature", "top_logprobs", "top_p",
    }
)  # fmt: skip

# Where a part or an item has a text that events stream: its kind and field, and the channel.
STREAMED: Final = {
    ("output_text", "text"): "text",
    ("refusal", "refusal"): "refusal",
    ("reasoning_text", "text"): "reasoning",
    ("summary_text", "text"): "summary",
    ("function_call", "arguments"): "tool_arguments",
    ("mcp_call", "arguments"): "tool_arguments",
    ("mcp_approval_request", "arguments"): "tool_arguments",
    ("tool_search_call", "arguments"): "tool_arguments",
    ("custom_tool_call", "input"): "tool_input",
    ("code_interpreter_call", "code"): "code",
}
OF_A_PART: Final = ("text", "refusal", "reasoning", "summary")
NUMBERED: Final = {*OF_A_PART, "command", "stdout", "stderr"}


class ResponseReader:
    """Reads the events of one response. Its output items are its choices."""

    is_waiting = False

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._lists = ByPlace()
        self._deltas: dict[Channel, Any] = {}
        # The pieces of each text that is not at its end: how long they are, and their digest.
        self._pieces: dict[Channel, tuple[int, Any]] = {}
        # The rests that an event which repeats texts brings to light.
        self._ended: list[Any] = []
        self._response: Any = None
        # The items that are at their end, as they came out.
        self._items: dict[int, Any] = {}
        self._last: Any = None
        self._number = 0
        # How many events were put in, and whether they are numbered at all.
        self._more = 0
        self._is_numbered = False

    def take(self, chunk: Any) -> list[Any]:
        """What comes out for an event."""
        inside = fields(chunk)
        kind = inside.get("type") if inside is not None else None
        if inside is None or not isinstance(kind, str):
            raise wrong_kind("an event of a response, as before", chunk)
        told = {name: inside[name] for name in sorted(OF_A_RUN) if not is_empty(inside.get(name))}
        # Events that are made like it say nothing of that.
        self._last = bare = without(chunk, told)
        if inside.get("sequence_number") is not None:
            self._number = number_of("sequence_number", inside["sequence_number"])
            self._is_numbered = True
        new = {name: self._channels.read_all(None, name, value) for name, value in told.items()}
        *rests, event = self._read(bare, fields(bare) or {}, kind)
        if event is bare and all(new[name] is value for name, value in told.items()):
            event = chunk
        elif event is not None and self._channels.stopped is None:
            event = changed(event, new)
        # What is put in takes the numbers from here on.
        put_in = []
        for rest in rests:
            put_in.append(self._with_number(rest))
            self._more += 1
        if event is None:
            # What is put in next takes its number.
            self._more -= 1
            return put_in
        return [*put_in, self._with_number(event) if self._more else event]

    def _with_number(self, event: Any) -> Any:
        """An event with the next number, if the service has numbers."""
        return changed(event, {"sequence_number": self._number + self._more}) if self._is_numbered else event

    def finish(self) -> list[Any]:
        """The stream came to its end without saying so: what is pending is decided, and events have the rest."""
        return [self._appended(rest) for rest in self._all_rests()]

    def end(self, notice: str) -> list[Any]:
        """What tells a client that the stream was stopped: the response is incomplete, because of a filter."""
        out = []
        where = self._channels.stopped_in
        last = self._deltas.get(where) if where is not None and where.name == "text" else None
        if notice and last is not None:
            out.append(self._appended(changed(last, {"delta": notice})))
        items = [self._items[number] for number in sorted(self._items)]
        response = self._response if self._response is not None else {} if isinstance(self._last, dict) else None
        told: dict[str, Any] = {"status": "incomplete", "output": items}
        if (fields(response) or {}).get("completed_at") is not None:
            told["completed_at"] = None
        if response is None:
            reason = {"incomplete_details": {"reason": "content_filter"}}
            event = {"type": "response.incomplete", "response": told | reason, "sequence_number": self._number}
            out.append(self._appended(made(self._last, "ResponseIncompleteEvent", event)))
            return out
        details = made(response, "IncompleteDetails", {"reason": "content_filter"})
        event = {
            "type": "response.incomplete",
            "response": changed(response, told | {"incomplete_details": details}),
            "sequence_number": self._number,
        }
        out.append(self._appended(made(self._last, "ResponseIncompleteEvent", event)))
        return out

    def _read(self, chunk: Any, inside: Any, kind: str) -> list[Any]:
        """The rests that an event brings to light, and what comes out for itself, at last; nothing where it is the end
        of a response that is stopped in it: :meth:`end` has that.
        """
        if kind in DELTAS:
            return [self._delta(chunk, inside, *DELTAS[kind])]
        item = self._item(inside)
        if kind in ENDS:
            name, numbered, field = ENDS[kind]
            self._only(chunk, inside, field, "logprobs", "name" if name in ("tool_arguments", "tool_input") else None)
            channel = self._channel(inside, item, name, numbered)
            changes: dict[str, Any] = {"logprobs": []} if inside.get("logprobs") else {}
            if inside.get("name"):
                changes["name"] = self._channels.read(Channel(item, "tool_name"), inside["name"])
            if field is not None:
                text = self._repeated(channel, inside.get(field) or "")
                if text != (inside.get(field) or ""):
                    changes[field] = text
            return [*self._take_ended(), *self._rest(channel), changed(chunk, changes)]
        if kind in PARTS:
            field, ends = PARTS[kind]
            self._only(chunk, inside, field)
            value = inside.get(field)
            part = inside.get("content_index", inside.get("summary_index")) if field == "part" else None
            if ends is False:
                self._begins(inside if field == "part" else {}, item, value)
            new = self._whole(item, part, field, value, begins=ends is False)
            if field == "output":
                self._end_of_output(inside, item, value)
            out = self._take_ended()
            if ends and field == "item":
                out += self._rests(item)
            elif ends:
                out += [rest for name in OF_A_PART for rest in self._rest(Channel(item, name, part))]
            if kind == "response.output_item.done" and item is not None:
                new = self._cut(new)
                refuse_many(len(self._items))
                self._items[item] = new
            return [*out, chunk if new is value else changed(chunk, {field: new})]
        if kind in RESPONSES:
            self._only(chunk, inside, "response")
            response = inside.get("response")
            if not RESPONSES[kind] and (fields(response) or {}).get("output"):
                # Events go on with it, and it is at its end here.
                raise unknown_chunk("response.output", "is there before its items")
            self._response = new = self._whole_response(response)
            out = self._take_ended()
            if RESPONSES[kind]:
                out += self._all_rests()
                if self._channels.stopped is not None:
                    # Those behind it that were done before are as they came out.
                    self._items |= dict(enumerate((fields(new) or {}).get("output") or ()))
                    return [*out, None]
            return [*out, chunk if new is response else changed(chunk, {"response": new})]
        if kind == "response.shell_call_output_content.delta":
            return [self._shell_output(chunk, inside, item)]
        if kind == "error":
            # Clients read no further.
            rests = self._all_rests()
            if self._channels.stopped is not None:
                return [*rests, None]
            told = {name: value for name, value in inside.items() if name not in ("type", "sequence_number")}
            if not all(self._channels.knows(chunk, name) for name in told):
                raise unknown_chunk("error", NAMES_A_MATCH)
            new = {name: self._channels.read_error(None, name, value) for name, value in told.items()}
            return [*rests, changed(chunk, {name: value for name, value in new.items() if value is not told[name]})]
        if kind == "keepalive":
            # A sign of life, which the client's types do not have.
            if inside.keys() - {"type", "sequence_number"}:
                raise unknown_chunk("keepalive", "has more than its number")
        elif kind not in WITHOUT_TEXT:
            raise unknown_kind("type", kind)
        self._only(chunk, inside)
        return [chunk]

    def _only(self, of: Any, inside: Any, *names: str | None) -> None:
        """Refuses an event that has more than these."""
        for name, value in inside.items():
            is_known = name in names or (name in ABOUT_AN_EVENT and (is_empty(value) or is_a_word(value)))
            if not is_known and not self._channels.says_nothing(of, name, value):
                raise unknown_chunk(name)
            if name.endswith(("_index", "_number")) and value is not None:
                number_of(name, value)

    @staticmethod
    def _item(inside: Any) -> int | None:
        item = inside.get("output_index")
        return None if item is None else number_of("output_index", item)

    @staticmethod
    def _channel(inside: Any, item: int | None, name: str, numbered: str | None) -> Channel:
        if numbered is None:
            return Channel(item, name)
        # A client's own object has nothing where the event had no number.
        number = inside.get(numbered)
        return Channel(item, name, number_of(numbered, 0 if number is None else number))

    def _delta(self, chunk: Any, inside: Any, name: str, numbered: str | None) -> Any:
        if inside.get("snapshot"):
            raise of_a_helper("snapshot", "responses.create(stream=True)")
        self._only(chunk, inside, "delta", "logprobs")
        channel = self._channel(inside, self._item(inside), name, numbered)
        if numbered is not None and channel.number is not None:
            self._lists.find(channel.choice, numbered, int(channel.number))
        changes: dict[str, Any] = {"logprobs": []} if inside.get("logprobs") else {}
        text = inside.get("delta")
        released = self._push(channel, text)
        if released is not text:
            changes["delta"] = released
        new = changed(chunk, changes)
        self._keep(channel, new)
        return new

    def _push(self, channel: Channel, text: Any) -> str:
        """The next piece of a text."""
        released = self._channels.push(channel, text)
        length, digest = self._pieces.get(channel) or (0, hashlib.sha256())
        digest.update(_bytes(text))
        self._pieces[channel] = length + len(text), digest
        return released

    def _repeated(self, channel: Channel, text: str) -> str:
        """Reads a text whose pieces came before, and decides their rest by what it says."""
        channel = next((each for each in (channel, channel._replace(choice=None)) if self._is_open(each)), channel)
        if not text or not isinstance(text, str) or not self._is_open(channel):
            return self._channels.read(channel, text, again=True)
        length, digest = self._pieces[channel]
        own = hashlib.sha256(_bytes(text[:length]))
        if len(text) < length or own.digest() != digest.digest():
            # Another text than that of the pieces: of what they hold nobody knows what belongs to it.
            released = self._channels.read(channel, text, again=True)
            self._channels.close(channel)
            return released
        holds = self._channels.held_in(channel)
        rest = self._channels.push(channel, text[length:]) + self._channels.close(channel)
        # What nothing was held before comes out with the whole alone.
        self._ended += self._event_with(channel, rest if holds else "")
        return self._channels.read(channel, text, again=True)

    def _is_open(self, channel: Channel) -> bool:
        return self._channels.held_in(channel) is not None

    def _take_ended(self) -> list[Any]:
        ended, self._ended = self._ended, []
        return ended

    def _begins(self, inside: Any, item: int | None, value: Any) -> None:
        """The client puts a part behind those before it, and finds it where its number says."""
        for name in ("content", "summary"):
            number = inside.get(f"{name}_index")
            if number is not None:
                self._lists.append(item, f"{name}_index", number)
            parts = (fields(value) or {}).get(name)
            for number in range(len(parts) if isinstance(parts, (list, tuple)) else 0):
                self._lists.append(item, f"{name}_index", number)

    def _end_of_output(self, inside: Any, item: int | None, output: Any) -> None:
        """The output of a command is at its end, and was told whole: that decides the rests of its pieces."""
        parts = [fields(part) or {} for part in output or []]
        for name in ("stdout", "stderr"):
            whole = "".join(text for part in parts if isinstance(text := part.get(name), str))
            self._repeated(self._channel(inside, item, name, "command_index"), whole)

    def _keep(self, channel: Channel, event: Any) -> None:
        """As a pattern for what comes behind it."""
        if channel not in self._deltas:
            refuse_many(len(self._deltas))
        self._deltas[channel] = event

    def _shell_output(self, chunk: Any, inside: Any, item: int | None) -> Any:
        self._only(chunk, inside, "delta")
        delta = inside.get("delta")
        own = fields_of("delta", delta)
        changes = {}
        for name, text in own.items():
            if not self._channels.knows(delta, name):
                raise unknown_chunk("delta", NAMES_A_MATCH)
            channel = self._channel(inside, item, name, "command_index")
            if text is not None:
                released = self._push(channel, text)
                if released is not text:
                    changes[name] = released
            self._keep(channel, chunk)
        return changed(chunk, {"delta": changed(delta, changes)}) if changes else chunk

    def _whole(self, item: int | None, part: int | None, place: str, value: Any, *, begins: bool) -> Any:
        """Reads what comes whole; or, where it ``begins``, what events go on with."""

        def leaf(kind: str, name: str, at: str, text: Any) -> Any:
            streamed = STREAMED.get((kind, name))
            numbers = re.findall(r"\[(\d+)\]", at)
            if streamed is None:
                if (kind, at) == ("image_generation_call", "item.result"):
                    return text
                if re.fullmatch(r"item\.action\.commands\[\d+\]", at):
                    streamed = "command"
                else:
                    own = re.fullmatch(r"item\.output\[\d+\]\.(stdout|stderr)", at)
                    if own is None:
                        return None
                    streamed = own[1]
            number = part if part is not None else int(numbers[-1]) if numbers else 0
            channel = Channel(item, streamed, number if streamed in NUMBERED else None)
            return self._push(channel, text) if begins else self._repeated(channel, text)

        kind_of(place, value)
        return self._channels.read_all(item, place, value, leaf)

    def _whole_response(self, response: Any) -> Any:
        inside = fields_of("response", response)
        changes: dict[str, Any] = {}
        # The output at last: where it is stopped in, what was used is still told.
        for name in sorted(inside, key="output".__eq__):
            value = inside[name]
            if not (name in OF_THE_REQUEST or name in OF_A_RESPONSE or self._channels.knows(response, name)):
                raise unknown_chunk("response", NAMES_A_MATCH)
            if name == "output":
                if value is not None and not isinstance(value, (list, tuple)):
                    raise unknown_chunk("response.output", "is no list")
                new: list[Any] = []
                for number, item in enumerate(value or []):
                    if self._channels.stopped is None:
                        new.append(self._cut(self._whole(number, None, "item", item, begins=False)))
                if len(new) < len(value or []) or any(a is not b for a, b in zip(new, value or [], strict=True)):
                    changes[name] = new
            elif name not in OF_THE_REQUEST:
                one = self._channels.read_all(None, "", {name: value})[name]
                if one is not value:
                    changes[name] = one
        return changed(response, changes)

    def _cut(self, item: Any) -> Any:
        """An item in which the stream was stopped is not complete: a client would run a call that is."""
        inside = fields(item) or {}
        has_one = inside.get("status") is not None or (is_plain(item) and str(inside.get("type")).endswith("_call"))
        if self._channels.stopped is None or not has_one:
            return item
        return changed(item, {"status": "incomplete"})

    def _rest(self, channel: Channel) -> list[Any]:
        return self._event_with(channel, self._channels.close(channel))

    def _event_with(self, channel: Channel, rest: str) -> list[Any]:
        self._pieces.pop(channel, None)
        last = self._deltas.get(channel)
        # Without a piece before, the event that has all of it is the first to have any.
        if not rest or last is None:
            return []
        delta = (fields(last) or {})["delta"]
        if isinstance(delta, str):
            return [changed(last, {"delta": rest})]
        inside = fields(delta) or {}
        one = {name: rest if name == channel.name else None for name in inside}
        return [changed(last, {"delta": changed(delta, one)})]

    def _rests(self, item: int | None) -> list[Any]:
        return [event for channel in self._channels.of(item) for event in self._rest(channel)]

    def _all_rests(self) -> list[Any]:
        return [event for item in self._channels.choices for event in self._rests(item)]

    def _appended(self, event: Any) -> Any:
        self._more += 1
        return self._with_number(event)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
