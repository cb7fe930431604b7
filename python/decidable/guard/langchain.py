"""LangChain: its message chunks, and a guard as a part of a chain. Only what is made here imports LangChain."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Final, get_args

from decidable.guard.channels import Channel, Channels
from decidable.guard.faults import unknown_chunk, unknown_kind, wrong_kind
from decidable.guard.fields import changed, fields, is_empty, kept
from decidable.guard.parts import MOST_ADDED, NAMED, ByNumber, Constants, fields_of, kind_of, number_of, refuse_many
from decidable.guard.services import READ_WHOLE, REASONS, REPEATS, SEALS, is_of_the_service, withheld

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableGenerator

    from decidable.guard import Guard

__all__ = ["MessageChunkReader", "as_runnable"]

# The kinds of block that a message's content may have pieces of: the field, and the channel.
BLOCKS: Final = {
    "text": ("text", "text"),
    "thinking": ("thinking", "reasoning"),
    "reasoning": ("reasoning", "reasoning"),
    "reasoning_content": ("reasoning_content", "reasoning"),
    "compaction": ("content", "compaction"),
    "input_json_delta": ("partial_json", "tool_arguments"),
    "tool_call_chunk": ("args", "tool_arguments"),
    "server_tool_call_chunk": ("args", "tool_arguments"),
    "function_call": ("arguments", "tool_arguments"),
    # With a number and a text: langchain-aws has the pieces of a call there, too.
    "tool_use": ("input", "tool_arguments"),
}
# Those that come whole: what was called, searched and found.
WHOLE_BLOCKS: Final = frozenset(
    {
        "advisor_tool_result", "apply_patch_call", "apply_patch_call_output", "bash_code_execution_tool_result",
        "code_execution_result", "code_execution_tool_result", "code_interpreter_call", "computer_call",
        "custom_tool_call", "executable_code", "file_search_call", "invalid_tool_call", "mcp_approval_request",
        "mcp_call", "mcp_list_tools", "mcp_tool_result", "mcp_tool_use", "redacted_thinking", "reference", "refusal",
        "server_tool_call", "server_tool_result", "server_tool_use", "text_editor_code_execution_tool_result",
        "tool_call", "tool_search_call", "tool_search_output", "tool_search_tool_result", "tool_use",
        "web_fetch_tool_result", "web_search_call", "web_search_tool_result",
    }
)  # fmt: skip
# Those of a whole message that are no calls.
SAYS: Final = ("text", "thinking", "reasoning", "refusal")
# What says of a block without a number that what it has is a service's own, word for word.
SIGNED: Final = ("signature", "extras")
TEXT: Final = Channel(None, "text")
# What a block of reasoning has a list of parts in, by its kind: the field, and their kind. A channel's field says of
# which part a text is.
IN_PARTS: Final = {"reasoning": ("summary", "summary_text"), "thinking": ("thinking", "text")}
# The summary that stands in a block of no content.
OF_KWARGS: Final = "reasoning_summary"
# Of a text that stands beside the content, as its channel says it: blocks have kinds of the same names.
IN_KWARGS: Final = "additional_kwargs."
# What langchain-google-genai keeps of calls: by their ids what a service signed them with.
SIGNED_CALLS: Final = "__gemini_function_call_thought_signatures__"
# What LangChain makes of the pieces of calls.
PARSED_CALLS: Final = ("tool_calls", "invalid_tool_calls")
# The texts that stand beside the content.
TEXTS_BESIDE: Final = ("reasoning_content", "refusal", "reasoning")
A_TYPE: Final = re.compile("(AI|Chat|Function|Human|System|Tool)MessageChunk|ai|chat|function|human|system|tool")
AN_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
A_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
# What stands in `additional_kwargs` besides, and comes whole: of OpenAI's responses, and of Cohere.
OF_INTEGRATIONS: Final = frozenset(
    {
        "__openai_function_call_ids__", "parsed", "tool_outputs", "documents", "generation_id", "is_search_required",
        "search_queries", "token_count",
    }
)  # fmt: skip


class MessageChunkReader:
    """Reads LangChain's ``AIMessageChunk``, and the ``AIMessage`` that comes where nothing is streamed."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._lists = ByNumber()
        # Of each block which kind a field of it is of, and of each number of a call the ids.
        self._kinds: dict[tuple[int | str, str], str] = {}
        self._ids: dict[int | str, list[str]] = {}
        self._last: Any = None
        self._is_first = True
        # Whether all that LangChain has of the content is an empty list.
        self._is_empty_list = False
        # The same of what came out; nothing has yet.
        self._is_out_empty: bool | None = None
        self._is_whole = False
        # Of each number the place that its block has among all of them, and the kind, which are those of its first.
        self._places: dict[int | str, tuple[int, str]] = {}
        self._next_place = 0
        # Where the last text stood: its place, whether in a block, and the number of that.
        self._text_at: tuple[int, bool, int | str | None] = (0, False, None)
        # The signatures of blocks without a number whose text is not yet out: how many bytes are before the end of it,
        # how it ends, and what the block has besides.
        self._signed: list[tuple[int, bytes, dict[str, Any]]] = []
        self._constants = Constants(always_one=False)
        # The last chunk, which says why the message is at its end, until the next one shows whether it is.
        self._waiting: tuple[Any, Any, dict[str, Any]] | None = None
        self.is_waiting = False
        self._stopped: Any = None

    def take(self, chunk: Any) -> list[Any]:
        """What comes out for a chunk."""
        inside = fields(chunk)
        if inside is None or "content" not in inside or "additional_kwargs" not in inside:
            raise wrong_kind("a message chunk, as before", chunk)
        for name in ("additional_kwargs", "response_metadata"):
            if not is_empty(inside.get(name)) and not isinstance(inside[name], dict):
                raise unknown_chunk(name, "is no object")
        self.is_waiting = False
        before = self._settled(inside)
        if self._channels.stopped is not None:
            return before
        self._is_first, self._last = self._last is None, chunk
        self._is_whole = "tool_call_chunks" not in inside
        changes = self._message(inside) if self._is_whole else self._chunk(inside)
        is_last = inside.get("chunk_position") == "last"
        if is_last and self._channels.stopped is None:
            changes |= self._with_rests(inside, changes)
        if self._channels.stopped is not None and self._is_whole:
            # It comes out with what a client is told.
            self._stopped = _without_calls(changed(chunk, changes))
            return before
        if self._channels.stopped is not None:
            changes |= _without_end(inside, changes)
        elif self._channels.held and _says_why(inside) and not is_last:
            now, self._waiting = self._parted(chunk, inside, changes)
            self.is_waiting = not now
            return before + now
        return [*before, self._out(chunk, inside, changes)]

    def _parted(self, chunk: Any, inside: Any, changes: dict[str, Any]) -> tuple[list[Any], Any]:
        """What comes out of a chunk now, and what waits for the next: the reason of an end, and no text."""
        later = kept(chunk)
        own = fields(later) or {}
        if not _has_text(inside):
            return [], (later, own, kept(changes))
        reasons, rest = _reasons(inside, changes)
        only = kept(_nothing(inside) | {"response_metadata": reasons})
        now = self._out(chunk, inside, changes | {"response_metadata": rest})
        return [now], (later, {**own, **only}, only)

    def _out(self, chunk: Any, inside: Any, changes: dict[str, Any]) -> Any:
        """A chunk that comes out; where only empty lists did, with a text as one of a list, or LangChain drops it."""
        content = changes.get("content", inside.get("content"))
        if self._is_out_empty and content and isinstance(content, str):
            changes = {**changes, "content": [content]}
        self._is_out_empty = not content and (
            isinstance(content, list) if self._is_out_empty is None else self._is_out_empty
        )
        return _rebuilt(chunk, inside, changes)

    def _settled(self, following: Any) -> list[Any]:
        """The chunk that waits. The message is at its end with it, if the one that follows has no more of it."""
        if self._waiting is None:
            return []
        (chunk, inside, changes), self._waiting = self._waiting, None
        if not _has_text(following):
            changes |= self._with_rests(inside, changes)
            if self._channels.stopped is not None:
                changes |= _without_end(inside, changes)
        return [self._out(chunk, inside, changes)]

    def finish(self) -> list[Any]:
        """The stream came to its end: what is pending is decided, and the last chunk, or one more, has the rest."""
        return [*self._settled({}), *self._rest()]

    def _rest(self) -> list[Any]:
        inside = fields(self._last) or {}
        none = _nothing(inside)
        changes = self._with_rests(none, {})
        return [self._out(self._last, inside, none | changes)] if changes else []

    def end(self, notice: str) -> list[Any]:
        """What tells a client that the stream was stopped: a last chunk that says that a filter did it."""
        inside = fields(self._last) or {}
        if self._is_whole:
            own = fields(self._stopped) or {}
            content = own["content"]
            if notice:
                content = content + notice if isinstance(content, str) else [*content, {"type": "text", "text": notice}]
            metadata = {**_reasons(own, {})[1], "finish_reason": "content_filter"}
            return [changed(self._stopped, {"content": content, "response_metadata": metadata})]
        told: dict[str, Any] = {"content": notice, "tool_call_chunks": [], "additional_kwargs": {}, "name": None}
        if isinstance(inside.get("content"), list):
            # A text by itself is dropped behind lists that are empty.
            told["content"] = [{"type": "text", "text": notice}] if notice else []
        told |= {"response_metadata": {"finish_reason": "content_filter"}, "usage_metadata": None}
        if "chunk_position" in inside:
            told["chunk_position"] = "last"
        return [self._out(self._last, inside, told)]

    def _chunk(self, inside: Any) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        calls = [fields(call) or {} for call in inside["tool_call_chunks"] or ()]
        whole_calls = [call.get("name") for call in calls if call.get("index") is None]
        for name, value in inside.items():
            if self._is_langchain_s_own(name, value):
                continue
            if name == "chunk_position" and value in (None, "last"):
                continue
            if name in PARSED_CALLS:
                # They follow from the chunks of the calls.
                if value and not inside["tool_call_chunks"]:
                    raise unknown_chunk(name)
                continue
            new: Any = value
            if name == "content":
                new = self._content(value)
            elif name == "tool_call_chunks":
                new = self._calls(value)
            elif name == "additional_kwargs":
                if value.get("tool_calls") and not inside["tool_call_chunks"]:
                    raise unknown_chunk("additional_kwargs.tool_calls")
                # The chunks of the calls say it again.
                kept = {key: inner for key, inner in value.items() if key != "tool_calls"}
                new = {key: self._additional(key, inner, whole_calls) for key, inner in kept.items()}
            elif name in ("response_metadata", "usage_metadata"):
                new = self._whole(name, value)
                if name == "usage_metadata" and new != value:
                    new = _used(new)
            elif name == "name" and value:
                new = self._channels.read(Channel(None, name), value)
            elif not self._channels.says_nothing(self._last, name, value):
                raise unknown_chunk(name)
            if new != value:
                changes[name] = new
        return changes

    def _is_langchain_s_own(self, name: str, value: Any) -> bool:
        """Whether it is what LangChain says of a message, and no text."""
        if name == "type":
            own = getattr(type(self._last), "model_fields", {}).get("type")
            # A class may have one of its own, or several.
            is_of_the_class = own is not None and value in (own.default, *get_args(own.annotation))
            return isinstance(value, str) and (is_of_the_class or A_TYPE.fullmatch(value) is not None)
        return isinstance(value, bool) if name == "example" else name == "id" and is_of_the_service(name, value)

    def _message(self, inside: Any) -> dict[str, Any]:
        changes = {}
        for name, value in inside.items():
            if self._is_langchain_s_own(name, value):
                continue
            new = self._whole_content(value) if name == "content" else None
            if new is None:
                new = self._channels.read_all(None, "text" if name == "content" else name, value, self._leaf)
            if new is not value:
                changes[name] = new
        return changes

    def _whole_content(self, content: Any) -> Any:
        """Of several blocks the texts are one text: a client reads them so."""
        if not isinstance(content, list):
            return None
        channel = Channel(None, "text", field="blocks")

        def leaf(kind: str, name: str, place: str, text: str) -> Any:
            if (kind, name) == ("text", "text") and place.count(".") == 1:
                return self._channels.push(channel, text)
            return self._leaf(kind, name, place, text)

        out, last = [], None
        for number, block in enumerate(content):
            if isinstance(block, str):
                out.append(self._channels.push(channel, block))
            else:
                out.append(self._channels.read_all(None, f"text[{number}]", block, leaf))
            if isinstance(block, str) or (fields(block) or {}).get("type") == "text":
                last = number
        rest = self._channels.close(channel, again=True)
        if rest and last is not None:
            own = out[last]
            text = (fields(own) or {}).get("text") if not isinstance(own, str) else own
            out[last] = text + rest if isinstance(own, str) else changed(own, {"text": (text or "") + rest})
        return content if all(new is old for new, old in zip(out, content, strict=True)) else out

    def _leaf(self, kind: str, name: str, place: str, text: str) -> Any:
        """Why arguments could not be read: it repeats them as they were written. What signs a call is as it is."""
        if place.startswith(f"additional_kwargs.{SIGNED_CALLS}.") and _is_a_signature(text):
            return text
        of_a_call = kind == "invalid_tool_call" or place.startswith("invalid_tool_calls[")
        return self._channels.read_document(None, place, text) if name == "error" and of_a_call else None

    def _whole(self, place: str, value: Any) -> Any:
        """What comes whole in a chunk, and what LangChain puts together with that of other chunks at its place."""
        return self._channels.read_all(None, place, value, self._once, added=self._lists)

    def _once(self, kind: str, name: str, place: str, text: str) -> Any:
        """What LangChain has once, where it is the same again."""
        if name not in ("model_provider", "output_version"):
            return None
        is_one = self._constants.is_one(None, place, text)
        read = self._channels.read if is_one else self._channels.read_added
        return read(Channel(None, place), text)

    def _place(self, kind: str, number: int | str | None) -> int:
        """Where a block stands among all of them, also one that begins empty: behind those that came before it."""
        if number is not None and number in self._places:
            return self._places[number][0]
        place = self._next_place
        self._next_place += 1
        if number is not None:
            refuse_many(len(self._places), MOST_ADDED)
            self._places[number] = place, kind
        return place

    def _text(self, text: Any, place: int, of_a_block: bool = False, number: int | str | None = None) -> str:
        """A piece of the text, which is one in whatever blocks it comes: LangChain joins them as they stand."""
        if text:
            if number is not None and self._places[number][1] != "text":
                # It stays of the kind that it began as, and what it has is no text of the message.
                raise unknown_chunk("content[].type", "is another than that of the block before it")
            if place < self._text_at[0]:
                # By the blocks it would stand elsewhere than by the chunks.
                raise unknown_chunk("content[].index", "is of a text before the last")
            self._text_at = place, of_a_block, number
        return self._channels.push(TEXT, text)

    def _with_signatures(self, released: str) -> tuple[list[Any], str]:
        """What comes out of the text: first that of blocks which are signed, with their signatures, then the rest."""
        blocks = []
        data = released.encode()
        while self._signed and self._channels.stopped is None:
            length, end, about = self._signed[0]
            if len(data) < length and self._channels.held_in(TEXT):
                break
            # Where something was replaced nobody can say where its text ends.
            own = data[:length] if data[:length].endswith(end) else data
            blocks.append({"type": "text", "text": own.decode(), **about})
            data = data[len(own) :]
            self._signed = [(each - len(own), end, about) for each, end, about in self._signed[1:]]
        left = [(each - len(data), end, about) for each, end, about in self._signed]
        # Of the end of a text that which is still to come.
        self._signed = [(each, end[max(len(end) - each, 0) :], about) for each, end, about in left]
        return blocks, data.decode()

    def _without_signature(self, block: Any, text: Any, released: str) -> list[Any]:
        """A block of text as far as its text is out. Its signature waits for the rest."""
        signed = {name: value for name, value in (fields(block) or {}).items() if name in SIGNED and value}
        holds = self._channels.held_in(TEXT)
        if not text or not holds or not _is_signed(signed):
            return [block]
        refuse_many(len(self._signed))
        self._signed.append((holds, text.encode()[-holds:], signed))
        left = {name: value for name, value in block.items() if name not in signed}
        return [left] if released or any(left[name] for name in left.keys() - {"type", "text"}) else []

    def _content(self, content: Any) -> Any:
        if self._is_empty_list and content and isinstance(content, str):
            raise unknown_chunk("content", "is a text behind an empty list, which LangChain drops")
        self._is_empty_list = not content and (isinstance(content, list) if self._is_first else self._is_empty_list)
        if isinstance(content, str):
            signed, text = self._with_signatures(self._text(content, self._place("text", None)))
            return [*signed, *([text] if text else [])] if signed else text if text != content else content
        if not isinstance(content, list):
            raise unknown_chunk("content", "is no text and no list")
        numbers = self._lists.numbers(None, "content", content)
        out: list[Any] = []
        for number, block in zip(numbers, content, strict=True):
            if isinstance(block, str):
                signed, text = self._with_signatures(self._text(block, self._place("text", None)))
                out += [*signed, text] if text or not signed else signed
                continue
            inside = fields(block) or {}
            kind = kind_of("content[]", block)
            index = _number("content[].index", inside.get("index"))
            place = self._place(kind, index)
            if number is not None:
                self._only_of(kind, number, inside)
            in_pieces = kind == "tool_use" and index is not None and isinstance(inside.get("input"), str)
            if kind in WHOLE_BLOCKS and not in_pieces:
                # Without a number it is a block of its own, whatever comes later.
                out.append(
                    self._whole(f"content[{index}]", block) if index is not None else self._alone("content", block)
                )
                continue
            if inside and not inside.keys() - {"index", "id"} and is_of_the_service("id", inside.get("id")):
                out.append(block)
                continue
            # What stands behind a text may have no kind.
            is_about = not kind and "annotations" in inside and inside.keys() <= {"annotations", "id", "index"}
            if kind not in BLOCKS and not is_about:
                raise unknown_kind("content[].type", kind)
            field, name = BLOCKS["text" if is_about else kind]
            changes: dict[str, Any] = {}
            for key, value in inside.items():
                if key == field:
                    if value is None:
                        continue
                    if kind == "text":
                        text = self._text(value, place, True, index)
                        if index is None:
                            signed, text = self._with_signatures(text)
                            out += signed
                        elif value:
                            # What is held comes out here, and may not stand behind it.
                            out += [{"type": "text", "text": "", **about} for _, _, about in self._signed]
                            self._signed = []
                        changes[key] = text
                    elif kind == "thinking" and isinstance(value, list):
                        changes[key] = self._parts(name, index, kind, value)
                    elif kind == "reasoning_content":
                        changes[key] = self._nested(Channel(None, name, index, kind), value)
                    else:
                        changes[key] = self._channels.push(Channel(None, name, index, kind), value)
                elif key == "summary" and kind == "reasoning":
                    changes[key] = self._parts(name, index, kind, value)
                elif key == "name" and value:
                    read = self._channels.read if index is None else self._channels.read_name
                    changes[key] = read(Channel(None, "tool_name", index, kind), value)
                elif key in ("annotations", "citations", "extras", "namespace"):
                    own = f"content.{key}" if index is None else f"content[{index}].{key}"
                    changes[key] = self._alone(own, value) if index is None else self._whole(own, value)
                elif (
                    key != "index"
                    and not self._channels.says_nothing(block, key, value)
                    and not (isinstance(value, bool) and self._channels.knows(block, key))
                    and not is_of_the_service(key, value)
                ):
                    raise unknown_chunk(f"content[].{key}")
            if index is None and isinstance(inside.get(field) or "", str) and kind != "text" and _is_signed(inside):
                # A block that is signed is at its end.
                rest = self._channels.close(Channel(None, name, None, kind), again=True)
                if rest:
                    changes[field] = changes.get(field, "") + rest
            new_block = changed(block, {key: new for key, new in changes.items() if new is not inside.get(key)})
            if index is None and kind == "text":
                out += self._without_signature(new_block, inside.get(field), changes.get(field, ""))
            else:
                out.append(new_block)
        return out

    def _parts(self, name: str, block: int | str | None, kind: str, parts: Any) -> Any:
        """What a service says of the reasoning, or all of that, in parts that come in pieces."""
        field, kind_of_part = IN_PARTS[kind]
        if not isinstance(parts, list):
            raise unknown_chunk(f"content[].{field}", "is no list")
        out = []
        at = name if block is None else f"{name}[{block}]"
        self._lists.numbers(None, f"{at}.{field}", parts)
        for part in parts:
            inside = fields(part) or {}
            about = {key: inner for key, inner in inside.items() if key not in ("type", "text", "index")}
            sealed = all(key in SEALS and is_of_the_service(key, inner) for key, inner in about.items())
            if inside.get("type") != kind_of_part or not sealed:
                raise unknown_chunk(f"content[].{field}[]")
            number = inside.get("index")
            which = "" if number is None else number_of(f"content[].{field}[].index", number)
            text = self._channels.push(Channel(None, name, block, f"{kind} {which}"), inside.get("text") or "")
            out.append(changed(part, {"text": text}))
        return out

    def _nested(self, channel: Channel, value: Any) -> Any:
        """The reasoning as langchain-aws has it, an object in the block: a piece of its text, or what signs it."""
        inside = fields(value)
        if inside is None:
            raise unknown_chunk("content[].reasoning_content", "is no object")
        changes = {}
        for name, inner in inside.items():
            if name == "text" and inner is not None:
                changes[name] = self._channels.push(channel, inner)
            elif name == "type" and inner in ("text", "signature", "redacted_content"):
                continue
            elif not (name in ("signature", "redacted_content") and isinstance(inner, str)) and (
                not self._channels.says_nothing(value, name, inner)
            ):
                raise unknown_chunk(f"content[].reasoning_content.{name}")
        return changed(value, {name: new for name, new in changes.items() if new is not inside[name]})

    def _only_of(self, kind: str, number: int | str, inside: Any) -> None:
        """Refuses a block with a field that another kind has under its number: LangChain makes one text of both."""
        for name, value in inside.items():
            if not is_empty(value) and name not in ("type", "index") and not is_of_the_service(name, value):
                refuse_many(len(self._kinds), MOST_ADDED)
                if self._kinds.setdefault((number, name), kind) != kind:
                    raise unknown_chunk("content[].type", "is another than that of the block before it")

    def _alone(self, place: str, value: Any) -> Any:
        """What comes whole in a part without a number, which is another part in each chunk."""
        return self._channels.read_all(None, place, value, self._leaf)

    def _calls(self, calls: Any) -> Any:
        if not isinstance(calls, (list, tuple)):
            raise unknown_chunk("tool_call_chunks", "is no list")
        out = [self._call(call) for call in calls]
        if self._is_first:
            # LangChain takes the first list as it is, and each later one together with the first of its number.
            numbered = [own for call in calls if (own := fields(call) or {}).get("index") is not None]
            ids: dict[int | str, list[str]] = {}
            for own in numbered:
                ids.setdefault(own["index"], []).append(own.get("id") or "")
            if any(len(own) > 1 and ("" in own or len(set(own)) < len(own)) for own in ids.values()):
                raise unknown_chunk("tool_call_chunks[].index", "is of two calls")
        return out

    def _which(self, number: int | str, own: Any) -> str:
        """Which call of those with one number it is: to LangChain one with another id is another."""
        if own is not None and not isinstance(own, str):
            raise unknown_chunk("tool_call_chunks[].id", "is no text")
        own = own or ""
        known = self._ids.setdefault(number, [])
        if not own and len(known) > 1:
            raise unknown_chunk("tool_call_chunks[].id", "does not say which call of its number goes on")
        for place, other in enumerate(known):
            if not own or not other or own == other:
                known[place] = other or own
                return str(place or "")
        refuse_many(sum(map(len, self._ids.values())))
        known.append(own)
        return str(len(known) - 1 or "")

    def _call(self, call: Any) -> Any:
        inside = fields_of("tool_call_chunks[]", call)
        index = _number("tool_call_chunks[].index", inside.get("index"))
        which = "" if index is None else self._which(index, inside.get("id"))
        changes: dict[str, Any] = {}
        if inside.get("args"):
            # Without a number it is a whole call: nothing is put together with it.
            read = self._channels.read if index is None else self._channels.push
            changes["args"] = read(Channel(None, "tool_arguments", index, which), inside["args"])
        if inside.get("name"):
            read_name = self._channels.read if index is None else self._channels.read_name
            changes["name"] = read_name(Channel(None, "tool_name", index, which), inside["name"])
        for key, value in inside.items():
            if key in ("args", "name", "id", "index") or is_of_the_service(key, value):
                continue
            if not self._channels.says_nothing(call, key, value):
                raise unknown_chunk(f"tool_call_chunks[].{key}")
        return changed(call, changes)

    def _additional(self, name: str, value: Any, whole_calls: list[Any]) -> Any:
        if name in ("reasoning_content", "refusal") and value is not None:
            channel = Channel(None, name.removesuffix("_content"), field=f"{IN_KWARGS}{name}")
            return self._channels.push(channel, value)
        if name == "function_call" and value:
            inside = fields(value)
            if inside is None or inside.keys() - {"name", "arguments"}:
                raise unknown_chunk("additional_kwargs.function_call")
            changes = {}
            if inside.get("name"):
                # Of whole calls, which stand among the chunks of calls as well, LangChain makes one with one name.
                is_whole = inside["name"] in whole_calls
                read_name = self._channels.read_added if is_whole else self._channels.read_name
                changes["name"] = read_name(Channel(None, "function_name"), inside["name"])
            if inside.get("arguments"):
                channel = Channel(None, "function_arguments")
                changes["arguments"] = self._channels.push(channel, inside["arguments"])
            return changed(value, changes)
        # What a server of chat completions has beside its texts stands here.
        if name in REPEATS and not is_empty(value):
            return withheld(value)
        if name == "reasoning" and isinstance(value, dict):
            about = {key: inner for key, inner in value.items() if key != "summary"}
            _number("additional_kwargs.reasoning.index", about.pop("index", None))
            if any(inner and not is_of_the_service(key, inner) for key, inner in about.items()):
                raise unknown_chunk("additional_kwargs.reasoning")
            own = {"summary": self._parts(OF_KWARGS, None, name, value["summary"])} if "summary" in value else {}
            return {**value, **own}
        if name == SIGNED_CALLS and value:
            for call, signature in (fields(value) or {"": None}).items():
                if AN_ID.fullmatch(call) is None or not _is_a_signature(signature):
                    raise unknown_chunk(f"additional_kwargs.{name}", "has something that is no signature of a call")
            return value
        if name in READ_WHOLE or name in OF_INTEGRATIONS:
            return self._whole(name, value)
        if not self._channels.says_nothing(None, name, value):
            raise unknown_chunk(f"additional_kwargs.{name}")
        return value

    def _with_rests(self, inside: Any, changes: dict[str, Any]) -> dict[str, Any]:
        """The rests of all texts, behind what a chunk has of them."""
        out: dict[str, Any] = {}

        def now(name: str) -> Any:
            return out.get(name, changes.get(name, inside.get(name)))

        for channel, rest in list(self._channels.close_all(None)):
            name, index = channel.name, channel.number
            numbered = {} if index is None else {"index": index}
            kind, of_a_part, which = channel.field.partition(" ")
            if of_a_part:
                in_field, kind_of_part = IN_PARTS[kind]
                part = {"type": kind_of_part, "text": rest, **({"index": int(which)} if which else {})}
                if channel.name == OF_KWARGS:
                    own_reasoning = now("additional_kwargs").get("reasoning") or {}
                    parts = _with_more(own_reasoning.get("summary"), part, "text")
                    own_reasoning = {**own_reasoning, "summary": parts}
                    out["additional_kwargs"] = {**now("additional_kwargs"), "reasoning": own_reasoning}
                else:
                    out["content"] = _with_more(now("content"), {"type": kind, in_field: [part], **numbered}, in_field)
            elif channel.field in BLOCKS:
                said = {"text": rest} if channel.field == "reasoning_content" else rest
                field = BLOCKS[channel.field][0]
                out["content"] = _with_more(now("content"), {"type": channel.field, field: said, **numbered}, field)
            elif name == "text":
                _, of_a_block, at = self._text_at
                signed, rest = self._with_signatures(rest)
                for block in signed:
                    out["content"] = _and(now("content"), block)
                before = now("content")
                if not rest:
                    continue
                if of_a_block:
                    block = {"type": "text", "text": rest}
                    out["content"] = _with_more(before, block if at is None else {**block, "index": at}, "text")
                else:
                    out["content"] = before + rest if isinstance(before, str) else [*before, rest]
            elif name == "tool_arguments":
                ids = self._ids[index] if index is not None else []
                own_id = ids[int(channel.field or 0)] if len(ids) > 1 else None
                piece = {"name": None, "args": rest, "id": own_id, "index": index, "type": "tool_call_chunk"}
                # Of several pieces of a call in a later chunk nobody needs to know the last.
                add = _with_more if self._is_first else lambda items, more, _: _and(items, more)
                out["tool_call_chunks"] = add(now("tool_call_chunks"), piece, "args")
            elif name == "function_arguments":
                own = dict(now("additional_kwargs").get("function_call") or {})
                own["arguments"] = (own.get("arguments") or "") + rest
                out["additional_kwargs"] = {**now("additional_kwargs"), "function_call": own}
            else:
                kwarg = channel.field.removeprefix(IN_KWARGS)
                own_text = now("additional_kwargs").get(kwarg) or ""
                out["additional_kwargs"] = {**now("additional_kwargs"), kwarg: own_text + rest}
        for block in self._with_signatures("")[0]:
            out["content"] = _and(now("content"), block)
        return out


def _says_why(inside: Any) -> bool:
    """Whether a chunk says why the message is at its end."""
    return any((inside.get("response_metadata") or {}).get(name) for name in REASONS)


def _without_end(inside: Any, changes: Any) -> dict[str, Any]:
    """What a chunk says of the end of a message, which is another: LangChain would add the one to the other."""
    out: dict[str, Any] = {"chunk_position": None} if inside.get("chunk_position") is not None else {}
    return out | ({"response_metadata": _reasons(inside, changes)[1]} if _says_why(inside) else {})


def _reasons(inside: Any, changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said of a message: why it is at its end, and the rest."""
    metadata = changes.get("response_metadata", inside.get("response_metadata")) or {}
    reasons = {name: value for name, value in metadata.items() if name in REASONS}
    return reasons, {name: value for name, value in metadata.items() if name not in REASONS}


def _has_text(inside: Any) -> bool:
    """Whether a chunk has more of a text or of a call."""
    content = inside.get("content")
    if isinstance(content, list):
        blocks = [fields(block) or {} if not isinstance(block, str) else {"text": block} for block in content]
        content = any(value for block in blocks for name, value in block.items() if name not in ("type", "index", "id"))
    about = inside.get("additional_kwargs") or {}
    calls = inside.get("tool_call_chunks")
    return bool(content or calls) or any(about.get(name) for name in ("function_call", *TEXTS_BESIDE))


def _nothing(inside: Any) -> dict[str, Any]:
    """What a chunk has that says no more, as a change of one that does."""
    content: Any = "" if isinstance(inside.get("content"), str) else []
    none: dict[str, Any] = {"additional_kwargs": {}, "name": None, "response_metadata": {}, "usage_metadata": None}
    return {"content": content, "tool_call_chunks": [], **none}


def _without_calls(message: Any) -> Any:
    """A whole message without its calls, which are none any more: what is left of their arguments is something else."""
    inside = fields(message) or {}
    about = inside.get("additional_kwargs") or {}
    changes: dict[str, Any] = {name: [] for name in PARSED_CALLS if inside.get(name)}
    if {"tool_calls", "function_call"} & about.keys():
        left = {name: value for name, value in about.items() if name not in ("tool_calls", "function_call")}
        changes["additional_kwargs"] = left
    if isinstance(inside["content"], list):
        changes["content"] = [
            each for each in inside["content"] if isinstance(each, str) or (fields(each) or {}).get("type") in SAYS
        ]
    return changed(message, changes)


def _is_signed(block: Any) -> bool:
    """Whether a service signed what a block has."""
    return bool(block.get("signature") or (fields(block.get("extras")) or {}).get("signature"))


def _is_a_signature(value: Any) -> bool:
    return isinstance(value, str) and A_SIGNATURE.fullmatch(value) is not None


def _number(place: str, index: Any) -> int | str | None:
    """Which block or call it is."""
    if index is None or (isinstance(index, str) and NAMED.fullmatch(index)):
        return index
    return number_of(place, index)


def _and(content: Any, block: Any) -> list[Any]:
    """A message's content with one block more."""
    return [*([content] if content and isinstance(content, str) else content or []), block]


def _used(usage: Any) -> dict[str, Any] | None:
    """What was used, of which not all comes out: LangChain adds up numbers, and takes none that lacks one of these."""
    numbers = {name: number for name, number in (fields(usage) or {}).items() if isinstance(number, int)}
    return numbers if numbers.keys() >= {"input_tokens", "output_tokens", "total_tokens"} else None


def _with_more(items: Any, more: dict[str, Any], field: str) -> list[Any]:
    """Items with one more; where one of them has its number, and no other id, that one's field goes on with it.

    LangChain takes the first list of all as it is, and puts together nothing within it.
    """
    number, own_id = more.get("index"), more.get("id")
    for place, item in enumerate([] if number is None or not isinstance(items, list) else items):
        inside = fields(item) or {}
        if inside.get("index") == number and own_id in (None, inside.get("id")):
            return [
                *items[:place],
                changed(item, {field: _joined(inside.get(field), more[field])}),
                *items[place + 1 :],
            ]
    return _and(items, more)


def _joined(before: Any, more: Any) -> Any:
    """What is held behind what it goes on with: a text, or an object or a list that has it."""
    if not before:
        return more
    if isinstance(more, str):
        return before + more
    if isinstance(more, dict):
        return changed(before, {"text": _joined((fields(before) or {}).get("text"), more["text"])})
    (part,) = more
    return _with_more(before, part, "text")


def _rebuilt(chunk: Any, inside: Any, changes: dict[str, Any]) -> Any:
    """A copy whose tool calls are those of its own chunks of calls, also where nothing else of it is new."""
    if "tool_call_chunks" not in inside:
        return changed(chunk, changes)
    if isinstance(chunk, dict):
        # Nobody puts its calls together anew, and nobody read them.
        return changed(chunk, {**changes, **{name: [] for name in PARSED_CALLS if inside.get(name)}})
    if not changes and not any(map(inside.get, PARSED_CALLS)):
        return chunk
    rest = {name: value for name, value in inside.items() if name not in (*PARSED_CALLS, "type")}
    return type(chunk)(**(rest | changes))


def as_runnable(guard: Guard, **options: Any) -> RunnableGenerator[Any, Any]:
    """What passes through it is guarded: texts, and messages in pieces or whole. Each run is a stream of its own."""
    from langchain_core.runnables import RunnableGenerator

    of_runs = _Runs(guard, options)
    return RunnableGenerator(of_runs.transform, of_runs.atransform, name="guard")


class _Runs:
    """What passes through in each run. A text of which nothing comes out is an empty one: the next counts on it."""

    def __init__(self, guard: Guard, options: dict[str, Any]) -> None:
        self._guard = guard
        self._options = options

    def transform(self, chunks: Iterator[Any]) -> Iterator[Any]:
        kinds: list[type] = []
        came_out = False
        with closing(self._guard.stream(_noted(chunks, kinds), **self._options)) as stream:
            for chunk in stream:
                came_out = True
                yield chunk
        if not came_out:
            yield from _nothing_of(kinds)

    async def atransform(self, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        kinds: list[type] = []
        came_out = False
        async with aclosing(self._guard.astream(_anoted(chunks, kinds), **self._options)) as stream:
            async for chunk in stream:
                came_out = True
                yield chunk
        for chunk in [] if came_out else _nothing_of(kinds):
            yield chunk


def _noted(chunks: Iterator[Any], kinds: list[type]) -> Iterator[Any]:
    """The chunks, with the kind of the first noted, and their source closed with them."""
    try:
        for chunk in chunks:
            if not kinds:
                kinds.append(type(chunk))
            yield chunk
    finally:
        if hasattr(chunks, "close"):
            chunks.close()


async def _anoted(chunks: AsyncIterator[Any], kinds: list[type]) -> AsyncIterator[Any]:
    try:
        async for chunk in chunks:
            if not kinds:
                kinds.append(type(chunk))
            yield chunk
    finally:
        if hasattr(chunks, "aclose"):
            await chunks.aclose()


def _nothing_of(kinds: list[type]) -> list[Any]:
    return [kind() for kind in (str, bytes) if kinds and issubclass(kinds[0], kind)]
