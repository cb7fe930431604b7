"""Chat completions in pieces: what OpenAI's client, servers that speak like it and llama-cpp-python stream.

A chunk comes out for each that goes in, with what may come out of its texts. What is held comes with a later chunk of
the same choice, at the latest with the one that has its ``finish_reason``. While something is held that one waits for
what comes next of the choice; where it has a text, too, a chunk with that comes out before it, without the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Set
from typing import Any, Final

from decidable.guard.channels import Channel, Channels
from decidable.guard.faults import unknown_chunk, unknown_kind, wrong_kind
from decidable.guard.fields import changed, fields, is_empty, is_plain, kept, made, without
from decidable.guard.parts import ByPlace, Constants, fields_of, kind_of, number_of, refuse_many
from decidable.guard.services import (
    OF_BEDROCK,
    READ_WHOLE,
    REASONS,
    REPEATS,
    SEALS,
    are_numbers,
    is_a_word,
    is_an_error,
    is_of_the_service,
    withheld,
)

__all__ = ["ChatReader"]

# The fields that servers which speak like OpenAI have beside the texts, by what is done with them; a field that is in
# none of these is refused. What says nothing of the text comes out unread.
ABOUT_A_CHUNK: Final = frozenset(
    {
        "id", "object", "created", "model", "service_tier", "system_fingerprint", "usage", "obfuscation", "provider",
        "timings", "time_info", "prompt_filter_results", "prompt_progress", "prompt_token_ids",
    }
)  # fmt: skip
ABOUT_A_CHOICE: Final = frozenset(
    {
        "index", "finish_reason", "native_finish_reason", "stop_reason", "matched_stop", "content_filter_results",
        "content_filter_offsets", "usage", "seed",
    }
)  # fmt: skip
# What is read whole as well, which only chunks, choices or deltas have: how a server runs, warns and calls itself.
READ_IN_A_CHUNK: Final = OF_BEDROCK | {
    "content_filter", "created_at", "hook_results", "metadata", "model_id", "model_info", "model_version", "note",
    "nvext", "request_id", "runtime", "sglext", "stats", "status", "system", "type", "warnings",
}  # fmt: skip
READ_IN_A_CHOICE: Final = frozenset(
    {"avg_decoded_tokens_per_iter", "content_filter_result", "end_turn", "moderation_hit_type"}
)
READ_IN_A_DELTA: Final = frozenset({"channel", "name"})
# What servers call themselves and their channels.
A_NAME: Final = re.compile(r"[A-Za-z][A-Za-z _-]{0,63}")
# All that a chunk has beside choices.
KNOWN_IN_A_CHUNK: Final = ABOUT_A_CHUNK | READ_WHOLE | READ_IN_A_CHUNK
# What a chunk that is made here does not have of the one that it is made like.
ONCE: Final = READ_WHOLE | READ_IN_A_CHUNK | READ_IN_A_CHOICE | READ_IN_A_DELTA | REPEATS | {"usage", "message", "p"}
# Padding that hides how long a token is: the beginning of this, over and over.
PADDING: Final = "abcdefghijklmnopqrstuvwxyz0123456789"

NUMBER_OF_A_CALL: Final = "choices[].delta.tool_calls[].index"

# The fields of a delta that hold text, and the names of their channels.
TEXTS: Final = {
    "content": "text",
    "refusal": "refusal",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
}
# What of a delta goes on with a text or a call.
SAYS: Final = TEXTS.keys() | {"tool_calls", "function_call"}
# What a content may be a list of: the kind of part, its field, the kind of part in a list there, and the channel.
PARTS: Final = {
    "text": ("text", None, "text"),
    "thinking": ("thinking", "text", "reasoning"),
    "reasoning": ("summary", "summary_text", "reasoning"),
}
OF_A_PART: Final = "part "
# Parts that come whole: what a text refers to.
WHOLE_PARTS: Final = frozenset({"reference", "tool_reference"})


class ChatReader:
    """Reads chunks with ``choices``: those with a ``delta``, and those of plain completions with a ``text``."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        # How the client puts lists together, the calls among them.
        self._lists = ByPlace()
        # The last chunk and choice of each index, as a pattern for what is made here.
        self._last: dict[int, tuple[Any, Any]] = {}
        self._chunk_before: Any = None
        self._finished: set[int] = set()
        # Of each choice that had a delta, whether any had more of a text or of a call.
        self._had: dict[int, set[str]] = {}
        # The choices that the chunk which is read says are at their end while something of them is held.
        self._ends: set[int] = set()
        # The chunks that say so of each, until one of it shows whether it is: some servers say so in each chunk.
        self._waiting: dict[int, list[Any]] = {}
        # Those of which the first chunk waits.
        self._unbegun: set[int] = set()
        self.is_waiting = False
        """Whether nothing of what was taken last comes out yet."""
        # What each choice last said of itself, by the field.
        self._constants = Constants(always_one=True)
        # The last piece of each tool call's text, by choice, index and field.
        self._calls: dict[tuple[int, int, str], Any] = {}
        # The last piece of the one call that there was before there were several, by choice.
        self._functions: dict[int, Any] = {}
        # Its id, and those of the calls before it, where none has a number.
        self._ids: dict[tuple[int, int], tuple[str, tuple[str, ...]]] = {}

    def take(self, chunk: Any) -> list[Any]:
        """What comes out for a chunk."""
        inside = fields(chunk)
        if inside is None:
            raise wrong_kind("a chunk of a chat completion, as before", chunk)
        is_error = is_an_error(inside)
        if not ("choices" in inside or inside.get("error") or is_error or _has_no_choices(inside)):
            raise wrong_kind("a chunk of a chat completion, as before", chunk)
        if is_error:
            return self._error(chunk)
        choices = inside.get("choices") or []
        if not isinstance(choices, (list, tuple)):
            raise unknown_chunk("choices", "is no list")
        numbers = set(map(_number_of_choice, choices))
        if len(numbers) < len(choices):
            raise unknown_chunk("choices[].index", "is that of two choices")
        self.is_waiting = False
        new_ones = numbers - self._last.keys()
        # Behind an error clients read no further.
        is_last = not is_empty(inside.get("error"))
        before = []
        if self._waiting and is_last:
            before = self._settled(self._waiting.keys() & numbers, numbers)
        elif self._waiting:
            before = self._before(numbers, inside, choices)
        if is_last and self._channels.stopped is None:
            before += self.finish(but=numbers)
        if self._channels.stopped is not None:
            return before
        if new_ones:
            before += self._begun(self._unbegun)
        if len(choices) > 1:
            # What it has comes out now, and what waits of the same choices before that.
            before += self._begun(self._waiting.keys() & numbers)
        new_chunk = self._chunk_of(chunk, inside, choices)
        if is_last and self._channels.stopped is None:
            return [*before, self._with_all_rests(new_chunk)]
        if not self._ends or self._channels.stopped is not None:
            return [*before, new_chunk]
        now = self._parted(new_chunk, new_ones)
        self.is_waiting = not now
        return before + now

    def _before(self, numbers: Set[int], inside: Mapping[str, Any], choices: Any) -> list[Any]:
        """What waits and is told by a chunk whether it is the last of its choice."""
        # One that says what was used comes behind all of them, other signs of life between them.
        of_it = numbers if choices or not inside.get("usage") else self._waiting.keys()
        own = {_number_of_choice(each): fields_of("choices[]", each) for each in choices}
        go_on = {index for index, each in own.items() if _has_text(each)}
        return self._settled(of_it - ({index for index, each in own.items() if _says_end(each)} - go_on), go_on)

    def _error(self, chunk: Any) -> list[Any]:
        """What went wrong, behind what is held: clients read no further."""
        self.is_waiting = False
        rests = self.finish()
        if self._channels.stopped is not None:
            return rests
        if self._chunk_before is None:
            # What is made like it says nothing of that.
            self._chunk_before = without(chunk, fields(chunk) or ())
        return [*rests, self._channels.read_error(None, "", chunk)]

    def _with_all_rests(self, chunk: Any) -> Any:
        """A chunk whose choices are all at their end with it."""
        choices = (fields(chunk) or {}).get("choices") or []
        new = [
            self._with_rests(each, (at := _number_of_choice(each)), dict(self._channels.close_all(at)))
            for each in choices
        ]
        if self._channels.stopped is not None:
            return changed(chunk, {"choices": list(map(_without_end, new))})
        self._finished |= self._ends
        self._ends = set()
        return chunk if all(a is b for a, b in zip(new, choices, strict=True)) else changed(chunk, {"choices": new})

    def _parted(self, chunk: Any, new_ones: Set[int]) -> list[Any]:
        """What comes out of a chunk now. The ends of its choices wait for what comes next of each; no text does."""
        ends, self._ends = self._ends, set()
        choices = (fields(chunk) or {})["choices"]
        if len(choices) == 1 and not _has_text(fields(choices[0]) or {}):
            self._unbegun |= new_ones
            for index in ends:
                self._wait(index, kept(chunk))
            return []
        now = []
        for choice in choices:
            index = _number_of_choice(choice)
            if index in ends:
                choice, later = self._apart(chunk, choice)
                self._wait(index, later)
            now.append(choice)
        return [changed(chunk, {"choices": now})]

    def _wait(self, index: int, chunk: Any) -> None:
        refuse_many(sum(map(len, self._waiting.values())))
        self._waiting.setdefault(index, []).append(chunk)

    def _apart(self, chunk: Any, choice: Any) -> tuple[Any, Any]:
        """A choice without what ends it, and a chunk with that alone."""
        why = {name: each for name, each in (fields(choice) or {}).items() if name in REASONS}
        return _without_end(choice), self._chunk(chunk, [changed(_empty(choice), why)])

    def _begun(self, choices: Set[int]) -> list[Any]:
        """What waits of some choices, without their ends: clients count on the order of choices and of their chunks."""
        out = []
        for index in [index for index in self._waiting if index in choices]:
            waiting, self._waiting[index] = self._waiting[index], []
            for chunk in waiting:
                (choice,) = (fields(chunk) or {})["choices"]
                now, later = self._apart(chunk, choice)
                # An end that is alone goes on waiting as it is.
                if index in self._unbegun or now != _empty(now):
                    out.append(changed(chunk, {"choices": [now]}))
                    chunk = later
                self._unbegun.discard(index)
                self._waiting[index].append(chunk)
        return out

    def _chunk_of(self, chunk: Any, inside: Mapping[str, Any], choices: Any) -> Any:
        if "choices" in inside or self._chunk_before is None:
            self._chunk_before = chunk
        changes: dict[str, Any] = {}
        for name, value in inside.items():
            if name == "choices" or (name in ABOUT_A_CHUNK and (is_a_word(value) or are_numbers(value))):
                continue
            if name == "p" and _is_padding(value):
                continue
            if is_empty(value) and (name in KNOWN_IN_A_CHUNK or self._channels.knows(chunk, name)):
                continue
            if name in READ_IN_A_CHUNK and is_of_the_service(name, value):
                continue
            if name in REPEATS:
                changes[name] = withheld(value)
                continue
            if name not in KNOWN_IN_A_CHUNK:
                raise unknown_chunk(name)
            new = self._channels.read_all(None, name, value)
            if new is not value:
                changes[name] = new
        new_choices = [self._choice(chunk, choice) for choice in choices if self._channels.stopped is None]
        if self._channels.stopped is not None:
            # What is held of those before the one that is stopped in does not come out, and they are not at their end.
            new_choices = [
                _without_end(choice) if _number_of_choice(choice) in self._ends else choice for choice in new_choices
            ]
        if len(new_choices) != len(choices) or any(
            new is not old for new, old in zip(new_choices, choices, strict=False)
        ):
            changes["choices"] = new_choices
        return changed(chunk, changes)

    def _settled(self, choices: Collection[int], go_on: Set[int] = frozenset()) -> list[Any]:
        """The chunks that wait for some choices. These are at their end, but for those that go on."""
        out = []
        for index in [index for index in self._waiting if index in choices]:
            if self._channels.stopped is not None:
                # What others hold does not come out, and they are not at their end.
                break
            chunk, *others = self._waiting.pop(index)
            self._unbegun.discard(index)
            if index not in go_on:
                (choice,) = (fields(chunk) or {})["choices"]
                new = self._with_rests(choice, index, dict(self._channels.close_all(index)))
                if self._channels.stopped is not None:
                    return [*out, changed(chunk, {"choices": [_without_end(new)]})]
                chunk = changed(chunk, {"choices": [new]})
                self._finished.add(index)
            out += [chunk, *others]
        return out

    def finish(self, but: Set[int] = frozenset()) -> list[Any]:
        """The stream came to its end: what is pending is decided, and the last chunk, or one more, has the rest.

        ``but``: the choices that are not yet at their end.
        """
        # What waits for a next chunk that does not come was the last.
        out = self._settled(self._waiting.keys() - but)
        for index in [index for index in self._channels.choices if index not in but]:
            rests = dict(self._channels.close_all(index))
            if rests and index is not None:
                chunk, choice = self._last[index]
                out.append(self._chunk(chunk, [self._with_rests(_empty(choice), index, rests)]))
        return out

    def end(self, notice: str) -> list[Any]:
        """What tells a client that the stream was stopped: every choice that is not finished is, by a filter."""
        where = self._channels.stopped_in
        going_on = [index for index in self._last if index not in self._finished]
        # A choice that was at its end is ended again where none goes on, or a client would not see that it was stopped.
        ended = going_on or list(self._last)[-1:]
        if not ended:
            empty = made(self._chunk_before, "ChoiceDelta", {"content": notice or None})
            choice = {"index": 0, "delta": empty, "finish_reason": "content_filter"}
            return [self._chunk(self._chunk_before, [made(self._chunk_before, "Choice", choice)])]
        told_in = where.choice if where is not None and where.choice in ended else ended[0]
        out = [self._ended(self._last[index][1], notice if index == told_in else "") for index in ended]
        return [self._chunk(self._last[ended[-1]][0], out)]

    @staticmethod
    def _ended(choice: Any, told: str) -> Any:
        ended = _empty(choice)
        own = fields(ended) or {}
        if told and "text" in own:
            ended = changed(ended, {"text": told})
        elif told:
            ended = _with_delta(ended, {"content": told})
        return changed(ended, {"finish_reason": "content_filter"})

    def _chunk(self, like: Any, choices: list[Any]) -> Any:
        inside = fields(like) or {}
        # What the pattern says besides was said, or was not to come out.
        none = {name: None for name, value in inside.items() if value is not None and _is_said_once(name, value)}
        return changed(like, {"choices": choices, **none})

    def _choice(self, chunk: Any, choice: Any) -> Any:
        inside = fields_of("choices[]", choice)
        index = _number_in(inside)
        if index not in self._last:
            refuse_many(len(self._last))
        self._last[index] = (chunk, choice)
        has_text = _has_text(inside)
        if has_text:
            # One that was at its end goes on.
            self._finished.discard(index)
        if inside.get("delta") is not None:
            self._had.setdefault(index, set()).update(_texts_of(inside["delta"]))
        changes: dict[str, Any] = {}
        for name, value in inside.items():
            if name in ("delta", "text") or (name in ABOUT_A_CHOICE and is_a_word(value)):
                continue
            if name in REPEATS or (name == "message" and self._is_said_again(index, inside)):
                if not is_empty(value):
                    changes[name] = withheld(value)
            elif name == "error" or name in READ_IN_A_CHOICE or name in ABOUT_A_CHOICE:
                # Clients put deltas together, and nothing of a choice.
                new = self._channels.read_all(index, name, value)
                if new is not value:
                    changes[name] = new
            elif name == "message" and not is_empty(value):
                raise unknown_chunk(
                    "choices[].message", "is a whole answer, and no piece of one; check() reads its text"
                )
            elif not self._channels.says_nothing(choice, name, value):
                raise unknown_chunk(f"choices[].{name}")
        text = inside.get("text")
        if text is not None:
            released = self._channels.push(Channel(index, "text"), text)
            if released is not text:
                changes["text"] = released
        delta = inside.get("delta")
        if delta is not None:
            new = self._delta(index, delta)
            if new is not delta:
                changes["delta"] = new
        new_choice = changed(choice, changes)
        says_end = _says_end(inside)
        if self._channels.stopped is not None:
            return _without_end(new_choice)
        if says_end and any(map(self._channels.held_in, self._channels.of(index))):
            self._ends.add(index)
        elif says_end:
            self._finished.add(index)
        return new_choice

    def _is_said_again(self, index: int, choice: Mapping[str, Any]) -> bool:
        """Whether a message repeats what was before it: beside a delta, or where its choice ends behind some."""
        if choice.get("delta") is not None:
            return True
        # One that alone has something would be lost.
        return index in self._had and _says_end(choice) and _texts_of(choice["message"]) <= self._had[index]

    def _delta(self, index: int, delta: Any) -> Any:
        inside = fields_of("choices[].delta", delta)
        changes: dict[str, Any] = {}
        for name, value in inside.items():
            if name == "role" and is_a_word(value):
                continue
            if value is None and self._channels.knows(delta, name):
                continue
            new: Any = value
            if name == "content" and isinstance(value, (list, tuple)):
                new = self._parts(index, value)
            elif name in TEXTS:
                new = self._channels.push(Channel(index, TEXTS[name], field=name), value)
            elif name == "tool_calls":
                new = self._tool_calls(index, value)
            elif name == "function_call":
                arguments = Channel(index, "function_arguments")
                new = self._function(arguments, arguments._replace(name="function_name"), value, "arguments")
                self._functions[index] = value
            elif name in REPEATS:
                new = value if is_empty(value) else withheld(value)
            elif name == "content_list" or (name == "text" and isinstance(value, str)):
                # Snowflake says each piece of the content once more, and has nothing but that of calls.
                if not is_empty(value) and not _is_content(value, inside.get("content")):
                    raise unknown_chunk(f"choices[].delta.{name}", "has more than the content")
                new = value if is_empty(value) else withheld(value)
            elif name == "type":
                # Clients take the last.
                new = value if is_of_the_service(name, value) else self._channels.read_all(index, name, value)
            elif name in READ_IN_A_DELTA:
                # A name that a server says in each chunk anew is none in pieces.
                is_one = self._constants.is_one(index, name, value)
                is_a_name = isinstance(value, str) and A_NAME.fullmatch(value) is not None
                new = self._channels.read_all(index, name, value, added=None if is_one and is_a_name else self._lists)
            elif name in READ_WHOLE:
                # What comes whole is put together by some clients.
                new = self._channels.read_all(index, name, value, added=self._lists)
            elif not self._channels.says_nothing(delta, name, value):
                raise unknown_chunk(f"choices[].delta.{name}")
            if new is not value:
                changes[name] = new
        return changed(delta, changes)

    def _parts(self, choice: int, parts: Any) -> Any:
        """A content that is a list, as of Mistral's and Databricks' models that reason: its texts are pieces."""
        out = []
        for part in parts:
            kind = kind_of("choices[].delta.content[]", part)
            if kind in WHOLE_PARTS:
                out.append(self._channels.read_all(choice, "content", part))
            elif kind in PARTS:
                field, inner, name = PARTS[kind]
                out.append(self._part(Channel(choice, name, field=f"{OF_A_PART}{kind}"), part, field, inner))
            else:
                raise unknown_kind("choices[].delta.content[].type", kind)
        return parts if all(new is old for new, old in zip(out, parts, strict=True)) else out

    def _part(self, channel: Channel, part: Any, field: str, inner: str | None) -> Any:
        """A part with a text in its field, or with a list of parts of another kind there."""
        if channel.name == "text":
            # In whatever form it comes, it is one text.
            channel = channel._replace(field="content")
        changes: dict[str, Any] = {}
        for name, value in (fields(part) or {}).items():
            if name == field and inner is not None and isinstance(value, (list, tuple)):
                new: Any = [self._inner_part(channel, each, inner) for each in value]
                if any(a is not b for a, b in zip(new, value, strict=True)):
                    changes[name] = new
            elif name == "closed" and isinstance(value, bool):
                continue
            elif name == field and value is not None:
                new = self._channels.push(channel, value)
                if new is not value:
                    changes[name] = new
            elif name in SEALS and is_of_the_service(name, value):
                continue
            elif name != "type" and not (
                self._channels.says_nothing(part, name, value) and (name != "index" or value is None)
            ):
                # Nobody says whether one that is numbered goes on with another.
                raise unknown_chunk(f"choices[].delta.content[].{name}")
        return changed(part, changes)

    def _inner_part(self, channel: Channel, part: Any, inner: str) -> Any:
        kind = kind_of("choices[].delta.content[][]", part)
        if kind in WHOLE_PARTS:
            return self._channels.read_all(channel.choice, "content", part)
        if kind != inner:
            raise unknown_kind("choices[].delta.content[][].type", kind)
        return self._part(channel, part, "text", None)

    def _tool_calls(self, choice: int, calls: Any) -> Any:
        if not isinstance(calls, (list, tuple)):
            raise unknown_chunk("choices[].delta.tool_calls", "is no list")
        out: list[Any] = []
        for call in calls:
            inside = fields_of("choices[].delta.tool_calls[]", call)
            number = 0
            if inside.get("index") is not None:
                number = number_of(NUMBER_OF_A_CALL, inside["index"])
                self._lists.find(choice, NUMBER_OF_A_CALL, number)
            place = (choice, number)
            own_id = inside.get("id") or ""
            known_id, earlier = self._ids.get(place, ("", ()))
            called, shown_id = _name_of(inside), own_id
            if called and isinstance(own_id, str) and called in own_id:
                # Some models write the id themselves, and the name in it.
                shown_id = self._channels.read(Channel(choice, "tool_id", number), own_id)
                if shown_id != own_id and self._channels.stopped is None:
                    raise unknown_chunk("choices[].delta.tool_calls[].id", "repeats a name that does not come out")
            if own_id in earlier:
                raise unknown_chunk("choices[].delta.tool_calls[].id", "is of a call before the last")
            if known_id and own_id not in ("", known_id) and called:
                # Another call: the one before is at its end. An id alone says nothing, because some servers make one
                # for each piece.
                if inside.get("index") is not None:
                    # By its id it is another, by its number the same: clients differ.
                    raise unknown_chunk("choices[].delta.tool_calls[].index", "is that of another call")
                out += self._rest_of_call(choice, number, len(earlier))
                refuse_many(len(earlier))
                earlier = (*earlier, known_id)
            own_id = own_id or known_id
            before = len(earlier)
            changes: dict[str, Any] = {} if shown_id == (inside.get("id") or "") else {"id": shown_id}
            for name, value in inside.items():
                if name == "index" or (name in ("id", "type") and is_of_the_service(name, value)):
                    continue
                if value is None and self._channels.knows(call, name):
                    continue
                if name in ("function", "custom"):
                    text = "arguments" if name == "function" else "input"
                    self._calls[choice, number, text] = call
                    channel = _of_a_call(choice, number, text, before)
                    new = self._function(channel, channel._replace(name="tool_name"), value, text)
                elif name in REPEATS:
                    new = value if is_empty(value) else withheld(value)
                elif name in READ_WHOLE:
                    place_of_it = f"tool_calls[{number}].{name}"
                    new = self._channels.read_all(choice, place_of_it, value, added=self._lists)
                elif not self._channels.says_nothing(call, name, value):
                    raise unknown_chunk(f"choices[].delta.tool_calls[].{name}")
                else:
                    continue
                if new is not value:
                    changes[name] = new
            if place not in self._ids:
                refuse_many(len(self._ids))
            self._ids[place] = (own_id, earlier)
            out.append(changed(call, changes))
        return calls if len(out) == len(calls) and all(a is b for a, b in zip(out, calls, strict=True)) else out

    def _function(self, channel: Channel, name_channel: Channel, value: Any, text: str) -> Any:
        inside = fields_of(channel.label, value)
        changes: dict[str, Any] = {}
        for name, given in inside.items():
            if given is None and self._channels.knows(value, name):
                continue
            if name == text:
                new = self._channels.push(channel, given)
            elif name == "name":
                new = self._channels.read_name(name_channel, given)
            elif not self._channels.says_nothing(value, name, given):
                raise unknown_chunk(f"{channel.label}.{name}")
            else:
                continue
            if new is not given:
                changes[name] = new
        return changed(value, changes)

    def _rest_of_call(self, choice: int, number: int, before: int) -> list[Any]:
        out = []
        for text in ("arguments", "input"):
            rest = self._channels.close(_of_a_call(choice, number, text, before))
            if rest:
                out.append(self._call_with(choice, number, text, rest))
        return out

    def _call_with(self, choice: int, number: Any, text: str, rest: str) -> Any:
        """A piece of a tool call with nothing but a rest, and what says which call it is: the index, else the id."""
        call = self._calls[choice, number, text]
        inside = fields(call) or {}
        part = "function" if text == "arguments" else "custom"
        own_id = self._ids[choice, number][0]
        is_numbered = inside.get("index") is not None
        if is_numbered:
            # Where the rest of it would go on with another.
            self._lists.find(choice, NUMBER_OF_A_CALL, number)
        if is_plain(call):
            which = {"index": number} if is_numbered else {"id": own_id} if own_id else {}
            return {**which, part: {text: rest}}
        changes = {part: changed(_without_name(inside[part]), {text: rest})}
        if not is_numbered and own_id:
            changes["id"] = own_id
        said = {name for name in inside if name in {"id", "type"} | ONCE and inside[name] is not None}
        return changed(without(call, said), changes)

    def _with_rests(self, choice: Any, index: int, rests: Mapping[Channel, str]) -> Any:
        """A choice with the rests of its texts behind what it has of them."""
        if not rests:
            return choice
        inside = fields(choice) or {}
        delta = inside.get("delta")
        own = (fields(delta) or {}) if delta is not None else {}
        changes: dict[str, Any] = {}
        calls = list(own.get("tool_calls") or [])

        def now(name: str) -> Any:
            return changes.get(name, own.get(name))

        for channel, rest in rests.items():
            if channel.name == "text" and not channel.field:
                choice = changed(choice, {"text": (inside.get("text") or "") + rest})
            elif channel.field.startswith(OF_A_PART) or (channel.field == "content" and _is_list(now("content"))):
                kind = channel.field.removeprefix(OF_A_PART) if channel.field != "content" else "text"
                field, inner, _ = PARTS[kind]
                before = now("content")
                parts = [*before] if _is_list(before) else [{"type": "text", "text": before}] if before else []
                part = {"type": kind, field: rest if inner is None else [{"type": inner, "text": rest}]}
                changes["content"] = [*parts, part]
            elif channel.field in TEXTS:
                changes[channel.field] = (now(channel.field) or "") + rest
            elif channel.name == "function_arguments":
                before = own.get("function_call")
                given = (fields(before) or {}).get("arguments") or "" if before is not None else ""
                like = before if before is not None else _without_name(self._functions[index])
                changes["function_call"] = changed(like, {"arguments": given + rest})
            else:
                calls.append(self._call_with(index, channel.number, channel.name.removeprefix("tool_"), rest))
                changes["tool_calls"] = calls
        return _with_delta(choice, changes) if changes else choice


def _with_delta(choice: Any, changes: Mapping[str, Any]) -> Any:
    """A choice with other values in its delta, which it may not have."""
    delta = (fields(choice) or {}).get("delta")
    new = made(choice, "ChoiceDelta", dict(changes)) if delta is None else changed(delta, changes)
    return changed(choice, {"delta": new})


def _texts_of(delta: Any) -> set[str]:
    """Which texts a delta, or a message, has something of, and whether it has calls."""
    own = fields(delta) or {}
    return {TEXTS.get(name, name) for name, value in own.items() if name in SAYS and not is_empty(value)}


def _has_text(choice: Mapping[str, Any]) -> bool:
    """Whether a choice has more of a text or of a call."""
    return not is_empty(choice.get("text")) or bool(_texts_of(choice.get("delta")))


def _says_end(choice: Mapping[str, Any]) -> bool:
    """Whether a choice says that it is at its end. Some servers say that it goes on with an empty text."""
    return choice.get("finish_reason") not in (None, "")


def _without_end(choice: Any) -> Any:
    """A choice without what says why it is at its end."""
    inside = fields(choice) or {}
    return changed(choice, {name: None for name in REASONS if inside.get(name) is not None})


def _has_no_choices(inside: Mapping[str, Any]) -> bool:
    """Whether it is a chunk that leaves them out: a sign of life, or one that says what was used."""
    says_so = "usage" in inside or inside.get("object") == "chat.completion.chunk"
    return inside == {"type": "ping"} or (says_so and inside.keys() <= KNOWN_IN_A_CHUNK)


def _number_of_choice(choice: Any) -> int:
    return _number_in(fields_of("choices[]", choice))


def _number_in(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return 0 if index is None else number_of("choices[].index", index)


def _of_a_call(choice: int, number: int, text: str, before: int) -> Channel:
    """The arguments or the input of a call, ``before`` which others had its number."""
    return Channel(choice, f"tool_{text}", number, str(before or ""))


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_content(value: Any, content: Any) -> bool:
    """Whether it is the text of a content, or a list of parts with that text and no others."""
    if not _is_list(value):
        return isinstance(content, str) and value == content
    parts = [fields(part) or {} for part in value]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    said = [text for text in texts if isinstance(text, str)]
    return len(said) == len(parts) and "".join(said) == (content if isinstance(content, str) else "")


def _is_said_once(name: str, value: Any) -> bool:
    """Whether a chunk that is made like another does not say it again: what has parts could be of a text."""
    return name not in ("choices", "delta") and (name in ONCE or not is_a_word(value))


def _is_padding(value: Any) -> bool:
    return isinstance(value, str) and value == (PADDING * (len(value) // len(PADDING) + 1))[: len(value)]


def _name_of(call: Mapping[str, Any]) -> str:
    """The name that a piece of a tool call has, if it has one."""
    function = call.get("function") or call.get("custom")
    name = (fields(function) or {}).get("name")
    return name if isinstance(name, str) else ""


def _without_name(function: Any) -> Any:
    return changed(function, {"name": None}) if (fields(function) or {}).get("name") is not None else function


def _empty(choice: Any) -> Any:
    """A choice as a pattern, without text."""
    inside = fields(choice) or {}
    changes: dict[str, Any] = {
        name: None for name, value in inside.items() if value is not None and _is_said_once(name, value)
    }
    changes |= {name: None for name in REASONS if inside.get(name) is not None}
    if "text" in inside:
        changes["text"] = ""
    delta = inside.get("delta")
    if is_plain(delta):
        changes["delta"] = {}
    elif delta is not None:
        changes["delta"] = changed(delta, {name: None for name, value in (fields(delta) or {}).items() if value})
    return changed(choice, changes)
