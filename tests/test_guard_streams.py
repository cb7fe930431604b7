"""The guard over what clients and runtimes stream, on their own types: each text by itself, held, released, ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pickle
import subprocess
import sys
import traceback
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import anthropic.types
import anthropic.types.beta
import numpy as np
import openai
import openai.types.chat
import openai.types.responses
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from openai.types.responses.response_stream_event import ResponseStreamEvent
from pydantic import TypeAdapter

from decidable import Guard, GuardStopped, InvalidInput, Match, Rule, StopReason
from decidable.guard import messages, responses, sse
from decidable.guard.parts import MOST_CHANNELS
from test_guard import Source, refused

DROP = Rule.literal("DROP TABLE", ignore_case=True, name="drop")
SSN = Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", action="redact", name="ssn")
NOTE = Rule.literal("confidential", action="record")
GUARD = Guard([DROP, SSN, NOTE])
RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)

# --- the shapes: pieces of texts to chunks, and chunks to texts ----------------------------------------------------

Pieces = list[tuple[int, str, str]]
"""Of which choice, of which channel, what."""
Texts = dict[tuple[int, str], str]


def collected(pieces: Any) -> Texts:
    texts: Texts = {}
    for choice, channel, text in pieces:
        texts[choice, channel] = texts.get((choice, channel), "") + (text or "")
    return {place: text for place, text in texts.items() if text}


def checked(guard: Guard, channel: str, text: str) -> tuple[str, StopReason | None, list[Match]]:
    """What comes out of a whole text of a channel: arguments are documents in JSON, and what begins like none is read
    as it is written, too.
    """
    is_json = channel.startswith(("tool_arguments", "function_arguments"))
    cursor = guard.cursor(json=is_json)
    released = cursor.push(text)
    released += cursor.finish()
    stopped, matches = cursor.stopped, cursor.matches()
    if is_json and text.strip()[:1] not in ("{", "[", '"', ""):
        written = guard.check(released)
        released, stopped = written[0], stopped or written[1]
        matches = list(dict.fromkeys([*matches, *written[2]]))
    return released, stopped, matches


def drained(stream: Any) -> tuple[list[Any], Exception | None]:
    """What comes out of a stream, and what it raises."""
    out = []
    while True:
        try:
            piece = next(stream)
        except StopIteration:
            return out, None
        except Exception as error:
            return out, error
        out.append(piece)
        # The source is closed before the last of it comes out.
        assert stream.stopped is None or stream._chunks.closed == 1


class Chat:
    """Chunks of OpenAI's client."""

    channels = ("text", "refusal", "reasoning", "tool_arguments[0]", "tool_arguments[1]", "function_arguments")
    fields: ClassVar = {"text": "content", "refusal": "refusal", "reasoning": "reasoning_content"}

    def delta(self, channel: str, text: str) -> dict[str, Any]:
        if channel in self.fields:
            return {self.fields[channel]: text}
        if channel == "function_arguments":
            return {"function_call": {"arguments": text}}
        return {"tool_calls": [{"index": int(channel[-2]), "function": {"arguments": text}}]}

    def chunk(self, index: int, delta: dict[str, Any], finish: str | None = None) -> Any:
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return self.typed(
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        )

    def typed(self, value: dict[str, Any]) -> Any:
        return openai.types.chat.ChatCompletionChunk.model_validate(value)

    def chunks(self, pieces: Pieces, *, ends: bool = True) -> list[Any]:
        out = [self.chunk(choice, self.delta(channel, text)) for choice, channel, text in pieces]
        last = [self.chunk(choice, {}, "stop") for choice in dict.fromkeys(piece[0] for piece in pieces)]
        return out + last if ends else out

    def plain(self, chunk: Any) -> dict[str, Any]:
        assert type(chunk) is openai.types.chat.ChatCompletionChunk
        return chunk.model_dump()

    def texts(self, chunks: list[Any]) -> Texts:
        found = []
        for chunk in map(self.plain, chunks):
            for choice in chunk["choices"]:
                delta = choice["delta"]
                found += [(choice["index"], name, delta.get(field)) for name, field in self.fields.items()]
                found.append(
                    (choice["index"], "function_arguments", (delta.get("function_call") or {}).get("arguments"))
                )
                for call in delta.get("tool_calls") or []:
                    arguments = call["function"]["arguments"]
                    found.append((choice["index"], f"tool_arguments[{call['index']}]", arguments))
        return collected(found)

    def is_stopped(self, chunks: list[Any]) -> bool:
        return self.plain(chunks[-1])["choices"][0]["finish_reason"] == "content_filter"


class ChatDicts(Chat):
    """The same as dictionaries, as llama-cpp-python gives them."""

    def typed(self, value: dict[str, Any]) -> Any:
        return value

    def plain(self, chunk: Any) -> dict[str, Any]:
        assert type(chunk) is dict
        return chunk


class Responses:
    """Events of OpenAI's responses interface, with everything that repeats a text."""

    channels = (
        "text[0]",
        "text[1]",
        "refusal[0]",
        "reasoning[0]",
        "summary[0]",
        "tool_arguments",
        "tool_input",
        "code",
    )
    events: ClassVar = {
        "text": ("output_text", "text", "content_index"),
        "refusal": ("refusal", "refusal", "content_index"),
        "reasoning": ("reasoning_text", "text", "content_index"),
        "summary": ("reasoning_summary_text", "text", "summary_index"),
        "tool_arguments": ("function_call_arguments", "arguments", None),
        "tool_input": ("custom_tool_call_input", "input", None),
        "code": ("code_interpreter_call_code", "code", None),
    }

    def typed(self, value: dict[str, Any]) -> Any:
        # A client's own reader: it keeps what it does not know, and validates nothing.
        return openai._models.construct_type(value=value, type_=ResponseStreamEvent)

    def response(self, output: list[Any]) -> dict[str, Any]:
        about = {"id": "r", "created_at": 1.0, "model": "m", "object": "response", "status": "in_progress"}
        return about | {"output": output, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
                        "instructions": "Never say drop table."}  # fmt: skip

    def item(self, channel: str, text: str) -> dict[str, Any]:
        name = channel.split("[")[0]
        if name in ("text", "refusal"):
            part = {"type": self.events[name][0], self.events[name][1]: text}
            if name == "text":
                part |= {"annotations": []}  # type: ignore[dict-item]
            empty = {"type": "output_text", "text": "", "annotations": []}
            content = [part] if channel.endswith("[0]") else [empty, part]
            return {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": content}
        if name == "reasoning":
            return {
                "type": "reasoning",
                "id": "i",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": text}],
            }
        if name == "summary":
            return {"type": "reasoning", "id": "i", "summary": [{"type": "summary_text", "text": text}]}
        if name == "tool_arguments":
            return {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": text}
        if name == "tool_input":
            return {"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "f", "input": text}
        return {"type": "code_interpreter_call", "id": "i", "container_id": "k", "code": text, "status": "completed"}

    def chunks(self, pieces: Pieces, *, ends: bool = True) -> list[Any]:
        # Each channel of a choice is an item of its own, so that items may be of any kind.
        places = list(dict.fromkeys((choice, channel) for choice, channel, _ in pieces))
        out: list[dict[str, Any]] = [{"type": "response.created", "response": self.response([])}]
        whole = collected(pieces)
        out += [
            {"type": "response.output_item.added", "item": self.item(place[1], "")} | self.about(places, place)
            for place in places
        ]
        for choice, channel, text in pieces:
            name, _, _ = self.events[channel.split("[")[0]]
            about = self.about(places, (choice, channel)) | {"item_id": "i", "delta": text}
            out.append({"type": f"response.{name}.delta"} | about)
        if ends:
            items = []
            for place in places:
                name, field, _ = self.events[place[1].split("[")[0]]
                text = whole.get(place, "")
                about = self.about(places, place)
                item = self.item(place[1], text)
                items.append(item)
                out.append({"type": f"response.{name}.done", field: text, "item_id": "i"} | about)
                if place[1].startswith(("text", "refusal")):
                    part = item["content"][-1]
                    out.append({"type": "response.content_part.done", "part": part, "item_id": "i"} | about)
                out.append({"type": "response.output_item.done", "item": item} | about)
            out.append({"type": "response.completed", "response": self.response(items) | {"status": "completed"}})
        return [self.typed(event | {"sequence_number": number}) for number, event in enumerate(out)]

    def about(self, places: list[Any], place: tuple[int, str]) -> dict[str, int]:
        numbered = self.events[place[1].split("[")[0]][2]
        about = {"output_index": places.index(place)}
        return about | {numbered: int(place[1][-2])} if numbered else about

    def plain(self, chunk: Any) -> dict[str, Any]:
        assert type(chunk).__module__.startswith("openai.types.responses.")
        return chunk.model_dump()

    def texts(self, chunks: list[Any]) -> Texts:
        plain = list(map(self.plain, chunks))
        assert [event["sequence_number"] for event in plain] == list(range(len(plain)))
        found = []
        names = {f"response.{name}.delta": channel for channel, (name, _, _) in self.events.items()}
        dones = {f"response.{name}.done": (channel, field) for channel, (name, field, _) in self.events.items()}
        for event in plain:
            if event["type"] in names:
                channel = names[event["type"]]
                numbered = self.events[channel][2]
                full = f"{channel}[{event[numbered]}]" if numbered else channel
                found.append((event["output_index"], full, event["delta"]))
        texts = collected(found)
        for event in plain:
            if event["type"] in dones:
                channel, field = dones[event["type"]]
                numbered = self.events[channel][2]
                full = f"{channel}[{event[numbered]}]" if numbered else channel
                assert event[field] == texts.get((event["output_index"], full), "")
        return texts

    def is_stopped(self, chunks: list[Any]) -> bool:
        last = self.plain(chunks[-1])
        reason = last["response"]["incomplete_details"]["reason"]
        return (last["type"], last["response"]["status"], reason) == (
            "response.incomplete",
            "incomplete",
            "content_filter",
        )


class ResponsesDicts(Responses):
    """The same as dictionaries."""

    def typed(self, value: dict[str, Any]) -> Any:
        return value

    def plain(self, chunk: Any) -> dict[str, Any]:
        assert type(chunk) is dict
        return chunk


class Messages:
    """Events of Anthropic's client. A block has one text."""

    channels = ("text", "reasoning", "tool_arguments")
    blocks: ClassVar = {
        "text": ("text", "text", "text_delta", "text"),
        "reasoning": ("thinking", "thinking", "thinking_delta", "thinking"),
        "tool_arguments": ("tool_use", "input", "input_json_delta", "partial_json"),
    }

    def typed(self, value: dict[str, Any]) -> Any:
        return MESSAGE_EVENT.validate_python(value)

    def chunks(self, pieces: Pieces, *, ends: bool = True) -> list[Any]:
        places = list(dict.fromkeys((choice, channel) for choice, channel, _ in pieces))
        message = {"id": "m", "content": [], "model": "m", "role": "assistant", "type": "message", "stop_reason": None}
        message |= {"stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 2}}
        out: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
        for number, (_, channel) in enumerate(places):
            kind, _, delta, field = self.blocks[channel]
            block: dict[str, Any] = {"type": kind, "text": "", "citations": None}
            if kind == "thinking":
                block = {"type": kind, "thinking": "", "signature": ""}
            elif kind == "tool_use":
                block = {"type": kind, "id": "t", "name": "f", "input": {}}
            out.append({"type": "content_block_start", "index": number, "content_block": block})
        for choice, channel, text in pieces:
            kind, _, delta, field = self.blocks[channel]
            index = places.index((choice, channel))
            out.append({"type": "content_block_delta", "index": index, "delta": {"type": delta, field: text}})
        if ends:
            out += [{"type": "content_block_stop", "index": number} for number in range(len(places))]
            delta_of = {"stop_reason": "end_turn", "stop_sequence": None}
            out.append({"type": "message_delta", "delta": delta_of, "usage": {"output_tokens": 9}})
            out.append({"type": "message_stop"})
        return [self.typed(event) for event in out]

    def plain(self, chunk: Any) -> dict[str, Any]:
        assert type(chunk).__module__.startswith("anthropic.types.")
        return chunk.model_dump()

    def texts(self, chunks: list[Any]) -> Texts:
        found, ended = [], set()
        names = {delta: (channel, field) for channel, (_, _, delta, field) in self.blocks.items()}
        for event in map(self.plain, chunks):
            if event["type"] == "content_block_delta":
                assert event["index"] not in ended
                channel, field = names[event["delta"]["type"]]
                found.append((event["index"], channel, event["delta"][field]))
            if event["type"] == "content_block_stop":
                ended.add(event["index"])
        return collected(found)

    def is_stopped(self, chunks: list[Any]) -> bool:
        *_, ends, stops = map(self.plain, chunks)
        assert stops["type"] == "message_stop"
        return bool(ends["delta"]["stop_reason"] == "refusal")


class MessageDicts(Messages):
    """The same as dictionaries."""

    def typed(self, value: dict[str, Any]) -> Any:
        return value

    def plain(self, chunk: Any) -> dict[str, Any]:
        assert type(chunk) is dict
        return chunk


class Wire:
    """Server-sent events of one of the above, cut anywhere."""

    def __init__(self, shape: Any, *, names: bool, cut: int, text: bool = False) -> None:
        self.shape, self.names, self.cut, self.text = shape, names, cut, text
        self.channels = shape.channels

    def chunks(self, pieces: Pieces, *, ends: bool = True) -> list[Any]:
        out = ""
        for event in self.shape.chunks(pieces, ends=ends):
            out += f"event: {event['type']}\n" if self.names else ": hello\n"
            out += f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
        if ends and not self.names:
            out += "data: [DONE]\n\n"
        whole: Any = out if self.text else out.encode()
        return [whole[place : place + self.cut] for place in range(0, len(whole), self.cut)]

    def events(self, chunks: list[Any]) -> list[Any]:
        assert all(type(chunk) is (str if self.text else bytes) for chunk in chunks)
        whole = "".join(chunks) if self.text else b"".join(chunks).decode()
        found = []
        for event in whole.split("\n\n"):
            lines = [line for line in event.split("\n") if line and line != ":"]
            if not lines:
                continue
            assert [line.split(":")[0] for line in lines] == (["event", "data"] if self.names else ["data"])
            data = lines[-1].removeprefix("data: ")
            if data != "[DONE]":
                found.append(json.loads(data))
                assert not self.names or lines[0] == f"event: {found[-1]['type']}"
        return found

    def texts(self, chunks: list[Any]) -> Texts:
        return self.shape.texts(self.events(chunks))

    def is_stopped(self, chunks: list[Any]) -> bool:
        whole = "".join(chunks) if self.text else b"".join(chunks).decode()
        return self.shape.is_stopped(self.events(chunks)) and (self.names or whole.endswith("data: [DONE]\n\n"))


@dataclasses.dataclass
class CompletionOutput:
    """As vLLM has it."""

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: Any = None
    routed_experts: Any = None
    finish_reason: str | None = None
    stop_reason: Any = None
    lora_request: Any = None
    sampling_mask: Any = None
    spec_decode_metrics: Any = None
    weight_versions: Any = None


class RequestOutput:
    """As vLLM has it, a class without declared fields."""

    def __init__(self, outputs: list[CompletionOutput], finished: bool) -> None:
        self.request_id = "r"
        self.prompt = "Never say drop table."
        self.prompt_token_ids = [1, 2]
        self.outputs = outputs
        self.finished = finished
        self.metrics = None
        self.num_cache_creation_tokens = 7


class Outputs:
    """vLLM's outputs, by stand-ins of the same shape."""

    channels = ("text",)

    def chunks(self, pieces: Pieces, *, ends: bool = True) -> list[Any]:
        out = [
            RequestOutput([CompletionOutput(choice, text, [number + 7])], False)
            for number, (choice, _, text) in enumerate(pieces)
        ]
        choices = list(dict.fromkeys(piece[0] for piece in pieces))
        last = [RequestOutput([CompletionOutput(choice, "", [], finish_reason="stop")], True) for choice in choices]
        return out + last if ends else out

    def texts(self, chunks: list[Any]) -> Texts:
        outputs = [output for chunk in chunks for output in chunk.outputs]
        assert all(type(chunk) is RequestOutput for chunk in chunks)
        assert not any(output.token_ids for output in outputs)
        return collected((output.index, "text", output.text) for output in outputs)

    def is_stopped(self, chunks: list[Any]) -> bool:
        return chunks[-1].finished is True and chunks[-1].outputs[0].finish_reason == "abort"


class MessageChunks:
    """LangChain's message chunks: one message, whose texts all are of one choice."""

    channels = ("text", "reasoning", "tool_arguments[0]", "tool_arguments[1]")

    def chunks(self, pieces: Pieces, *, ends: bool = True) -> list[Any]:
        out = []
        for _, channel, text in pieces:
            if channel == "text":
                out.append(AIMessageChunk(content=text))
            elif channel == "reasoning":
                out.append(AIMessageChunk(content="", additional_kwargs={"reasoning_content": text}))
            else:
                call = {"name": None, "args": text, "id": None, "index": int(channel[-2])}
                out.append(AIMessageChunk(content="", tool_call_chunks=[call]))
        last = AIMessageChunk(content="", response_metadata={"finish_reason": "stop"}, chunk_position="last")
        return [*out, last] if ends else out

    def texts(self, chunks: list[Any]) -> Texts:
        found = []
        for chunk in chunks:
            assert type(chunk) is AIMessageChunk
            found += [(0, "text", chunk.content), (0, "reasoning", chunk.additional_kwargs.get("reasoning_content"))]
            found += [(0, f"tool_arguments[{call['index']}]", call["args"]) for call in chunk.tool_call_chunks]
        return collected(found)

    def is_stopped(self, chunks: list[Any]) -> bool:
        last = chunks[-1]
        return (last.chunk_position, last.response_metadata["finish_reason"]) == ("last", "content_filter")


SHAPES: dict[str, Any] = {
    "chat": Chat(),
    "chat dicts": ChatDicts(),
    "responses": Responses(),
    "responses dicts": ResponsesDicts(),
    "messages": Messages(),
    "message dicts": MessageDicts(),
    "chat wire": Wire(ChatDicts(), names=False, cut=3),
    "chat wire text": Wire(ChatDicts(), names=False, cut=70, text=True),
    "responses wire": Wire(ResponsesDicts(), names=True, cut=61),
    "messages wire": Wire(MessageDicts(), names=True, cut=7),
    "outputs": Outputs(),
    "message chunks": MessageChunks(),
}
WITH_CHOICES = {"chat", "chat dicts", "chat wire", "chat wire text", "outputs"}
each_shape = pytest.mark.parametrize("name", SHAPES)


def renamed(name: str, pieces: Pieces, texts: Texts) -> Texts:
    """With numbers as the pieces have them: in some shapes each channel is an item, in others there is one choice."""
    if name in WITH_CHOICES:
        return texts
    places = list(dict.fromkeys((choice, channel) for choice, channel, _ in pieces))
    if name == "message chunks":
        return {(0, channel): text for (_, channel), text in texts.items()}
    return {(places[index][0], channel): text for (index, channel), text in texts.items()}


# --- what comes out ------------------------------------------------------------------------------------------------

WORDS = (
    "dr",
    '"',
    "\\u0064",
    "drop",
    " ",
    "table",
    "078-05",
    "-1120",
    "é",
    "confidential",
    "x",
    ".",
    "1",
    "DROP TABLE",
    "078-05-1120",
)


@st.composite
def pieces_of(draw: st.DrawFn, shape: Any, choices: int) -> Pieces:
    places = st.tuples(st.integers(0, choices - 1), st.sampled_from(shape.channels))
    pieces = [(*draw(places), text) for text in draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=24))]
    # Calls begin in the order of their numbers, or a client would put one where another stands.
    calls = list(dict.fromkeys((choice, channel) for choice, channel, _ in pieces if channel.startswith("tool_arg")))
    numbered = {call: [each for each in calls if each[0] == call[0]].index(call) for call in calls if "[" in call[1]}
    return [
        (choice, f"tool_arguments[{numbered[choice, channel]}]" if (choice, channel) in numbered else channel, text)
        for choice, channel, text in pieces
    ]


@each_shape
@settings(max_examples=60)
@given(data=st.data())
def test_each_text_comes_out_as_a_check_of_the_whole_gives_it(name: str, data: st.DataObject) -> None:
    """However the pieces of the texts alternate; at a stop, nothing of what others hold."""
    pieces = data.draw(pieces_of(SHAPES[name], 2 if name in WITH_CHOICES else 1))
    rules = [DROP, SSN, NOTE] if data.draw(st.booleans()) else [SSN, NOTE]
    hold_to_checks(name, pieces, rules, ends=data.draw(st.booleans()))


@each_shape
def test_a_stop_at_the_end_of_a_text_lets_out_what_came_before(name: str) -> None:
    """What cannot be replaced in arguments is certain only where they end; the event of the end tells what came out."""
    for channel in SHAPES[name].channels:
        for ends in (False, True):
            hold_to_checks(name, [(0, channel, " 078-05-1120")], [SSN, NOTE], ends=ends)


def hold_to_checks(name: str, pieces: Pieces, rules: list[Rule], *, ends: bool) -> None:
    shape = SHAPES[name]
    guard = Guard(rules)
    chunks = shape.chunks(pieces, ends=ends)
    before = pickle.dumps(chunks)
    stream = guard.stream(chunks, sse=isinstance(shape, Wire))
    out = list(stream)
    assert pickle.dumps(chunks) == before, "what a caller holds was changed"
    texts = renamed(name, pieces, shape.texts(out))
    expected = {place: checked(guard, place[1], text) for place, text in collected(pieces).items()}
    if stream.stopped is None:
        assert all(stopped is None for _, stopped, _ in expected.values())
        assert texts == {place: released for place, (released, _, _) in expected.items() if released}
        assert sum(len(matches) for _, _, matches in expected.values()) == len(stream.matches)
        return
    assert shape.is_stopped(out)
    stopped_at = [place for place in expected if place[1] == stream.stopped.channel]
    assert any(
        texts.get(place, "") == expected[place][0]
        and expected[place][1] is not None
        and (expected[place][1].start, expected[place][1].end) == (stream.stopped.start, stream.stopped.end)
        for place in stopped_at
    )
    for place, text in texts.items():
        assert expected[place][0].startswith(text)


@each_shape
def test_every_way_to_cut_a_text_gives_the_same(name: str) -> None:
    """In every channel, with a stop and with what is replaced."""
    shape = SHAPES[name]
    for said in ("é: 078-05-1120, drop Table users", "é: confidential 078-05-1120"):
        for channel in shape.channels:
            text = json.dumps({"q": said}) if "arguments" in channel else said
            released, stopped, _ = checked(GUARD, channel, text)
            assert "[redacted]" in released
            for size in (1, 2, 3, 5, 8, 13, 40):
                pieces = [(0, channel, text[place : place + size]) for place in range(0, len(text), size)]
                stream = GUARD.stream(shape.chunks(pieces), sse=isinstance(shape, Wire))
                out = list(stream)
                assert shape.texts(out) == {(0, channel): released}
                shown = b"".join(out) if isinstance(out[0], bytes) else repr(out).encode()
                for never in (b"078-05", b"1120", b"rop table"):
                    assert never not in shown.lower().replace(b"never say drop table.", b"")
                if stopped is None:
                    assert stream.stopped is None
                    assert [match.rule for match in stream.matches] == ["confidential", "ssn"]
                else:
                    assert stream.stopped is not None
                    assert (stream.stopped.rule, stream.stopped.start) == ("drop", stopped.start)
                    assert stream.stopped.channel == channel
                    assert shape.is_stopped(out)


@each_shape
def test_a_stop_closes_the_source_and_ends_the_stream(name: str) -> None:
    """Before the last of it comes out; a client is told what the caller wants, and nothing else."""
    shape = SHAPES[name]
    channel = shape.channels[0]
    chunks = shape.chunks([(0, channel, "and dro"), (0, channel, "p table"), (0, channel, " never read")])
    source = Source(*chunks)
    stream = GUARD.stream(source, sse=isinstance(shape, Wire), raise_on_stop=True)
    out, error = drained(stream)
    assert isinstance(error, GuardStopped)
    assert error.stopped == stream.stopped
    assert source.closed == 1
    assert source.read < len(chunks)
    assert shape.texts(out) == {(0, channel): "and "}
    assert list(stream) == []

    def told(why: StopReason) -> str:
        assert (why.kind, why.rule, why.channel) == ("matched", "drop", channel)
        return "[ended]"

    stream = GUARD.stream(shape.chunks([(0, channel, "and drop table")]), sse=isinstance(shape, Wire), notice=told)
    assert shape.texts(list(stream)) == {(0, channel): "and [ended]"}


@each_shape
def test_streams_for_asyncio(name: str) -> None:
    """The same chunks, and the source is closed once: at a stop, when it is left early, and when it is cancelled."""
    shape = SHAPES[name]
    channel = shape.channels[0]
    chunks = shape.chunks([(0, channel, "a 078-05-"), (0, channel, "1120. "), (0, channel, "drop table")])
    sse = isinstance(shape, Wire)

    async def run() -> None:
        source = Source(*chunks)
        stream = GUARD.astream(source, sse=sse)
        assert shape.texts([piece async for piece in stream]) == {(0, channel): "a [redacted]. "}
        assert (source.closed, stream.stopped is not None) == (1, True)
        for begin in (True, False):
            source = Source(*chunks)
            stream = GUARD.astream(source, sse=sse)
            if begin:
                await anext(stream)
            await stream.aclose()
            await stream.aclose()
            assert source.closed == 1
            assert [piece async for piece in stream] == []

        class Waiting(Source):
            async def __anext__(self) -> Any:
                await asyncio.sleep(3600)

        waiting = Waiting()
        task = asyncio.ensure_future(anext(GUARD.astream(waiting, sse=sse)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiting.closed == 1

    asyncio.run(run())


@each_shape
def test_a_fault_ends_the_stream_and_nothing_that_was_held_comes_out(name: str) -> None:
    """An exception of the source, another kind of chunk, bytes among objects, an unknown shape.

    What was not held is out before it, in every channel.
    """
    shape = SHAPES[name]
    sse = isinstance(shape, Wire)
    other = "text" if not sse or not shape.text else b"bytes"
    # An event of a name that is new has the form of those of its service.
    unknown = name in ("responses", "responses dicts", "messages", "message dicts")
    for channel in shape.channels:
        chunks = shape.chunks([(0, channel, "a dro"), (0, channel, "p in")], ends=False)
        for broken, code in (
            (OSError("gone"), None),
            (other, "input.wrong_type"),
            (b"data: {}" if not sse else 7, "input.wrong_type"),
            (None, "input.wrong_type"),
            ({"type": "new"}, "guard.unknown_chunk" if unknown else "input.wrong_type"),
            (SimpleNamespace(a=1), "input.wrong_type"),
            ([1], "input.wrong_type"),
        ):
            source = Source(*chunks[:-1], broken, chunks[-1])
            stream = GUARD.stream(source, sse=sse)
            out, error = drained(stream)
            assert type(error) is (OSError if code is None else InvalidInput)
            assert getattr(error, "code", None) == code
            assert shape.texts(out) == {(0, channel): "a "}
            assert stream.stopped is not None
            assert stream.stopped.kind == "failed"
            assert (list(stream), source.closed) == ([], 1)


class Unclosable(Source):
    """One whose connection is lost before it is closed."""

    fault: BaseException = OSError("gone")

    def close(self) -> None:
        super().close()
        raise self.fault

    async def aclose(self) -> None:
        self.close()


async def drained_async(stream: Any) -> tuple[list[Any], Exception | None]:
    out = []
    try:
        async for piece in stream:
            out.append(piece)  # noqa: PERF401 (what came before an exception counts)
    except Exception as error:
        return out, error
    return out, None


@each_shape
def test_a_source_that_cannot_be_closed_does_not_take_the_end_with_it(name: str) -> None:
    """What stands before the match and what says that the stream was stopped come out, and its error behind them."""
    shape = SHAPES[name]
    channel = shape.channels[0]
    sse = isinstance(shape, Wire)
    chunks = shape.chunks([(0, channel, "and dro"), (0, channel, "p table"), (0, channel, " never read")])
    whole = shape.chunks([(0, channel, "and so")])
    want = drained(GUARD.stream(Source(*chunks), sse=sse))[0]
    assert shape.is_stopped(want)
    for end in (drained, lambda stream: asyncio.run(drained_async(stream))):
        open_stream: Any = GUARD.stream if end is drained else GUARD.astream
        source = Unclosable(*chunks)
        stream = open_stream(source, sse=sse)
        out, error = end(stream)
        assert (shape.texts(out), len(out), error) == (shape.texts(want), len(want), source.fault)
        assert shape.is_stopped(out)
        assert (source.closed, stream.stopped.kind) == (1, "matched")
        assert end(stream) == ([], None)
        out, error = end(open_stream(Unclosable(*chunks), sse=sse, raise_on_stop=True))
        assert shape.is_stopped(out)
        assert isinstance(error, GuardStopped)
        assert error.__cause__ is source.fault
        # A source at its end, and one that fails itself.
        out, error = end(open_stream(Unclosable(*whole), sse=sse))
        assert (shape.texts(out), error) == ({(0, channel): "and so"}, source.fault)
        stream = open_stream(Unclosable(*chunks[:1], ConnectionError("lost"), *chunks[1:]), sse=sse)
        assert end(stream)[1] is source.fault
        assert stream.stopped.kind == "failed"


def test_a_source_that_cannot_be_closed_is_told_to_whoever_leaves_the_stream() -> None:
    """Before the last piece was taken; and what interrupts a program does not wait for it."""
    source = Unclosable("a ", "b drop table")
    stream = GUARD.stream(source, notice="[ended]", raise_on_stop=True)
    assert [next(stream), next(stream)] == ["a ", "b "]
    with pytest.raises(OSError, match="gone"):
        stream.close()
    assert (list(stream), source.closed) == ([], 1)

    async def run() -> None:
        source = Unclosable("a ", "b drop table")
        stream = GUARD.astream(source, notice="[ended]", raise_on_stop=True)
        assert [await anext(stream), await anext(stream)] == ["a ", "b "]
        with pytest.raises(OSError, match="gone"):
            await stream.aclose()
        assert ([each async for each in stream], source.closed) == ([], 1)

    asyncio.run(run())
    interrupted = Unclosable("a ", "b drop table")
    interrupted.fault = KeyboardInterrupt()
    stream = GUARD.stream(interrupted)
    assert next(stream) == "a "
    with pytest.raises(KeyboardInterrupt):
        next(stream)


def test_arguments_that_cannot_be() -> None:
    """Told when the stream is made, or, of what a function gives, where it would come out."""
    for field, value in (("notice", 7), ("sse", "lines"), ("raise_on_stop", 1)):
        arguments: dict[str, Any] = {field: value}
        for make in (GUARD.stream, GUARD.astream):
            error = refused("input.wrong_type", lambda make=make, arguments=arguments: make([], **arguments))  # type: ignore[misc]
            assert error.field == field
    stream = GUARD.stream(["a drop table"], notice=lambda _: None)  # type: ignore[arg-type, return-value]
    assert refused("input.wrong_type", lambda: list(stream)).field == "notice"


def test_a_notice_that_is_none_tells_nothing() -> None:
    """As an empty one, in text and in chunks."""
    for given_ in (["a drop table"], [{"choices": [{"index": 0, "delta": {"content": "a drop table"}}]}]):
        given: Any = given_
        assert list(GUARD.stream(given, notice=None)) == list(GUARD.stream(given))


def test_a_notice_that_fails_takes_nothing_with_it() -> None:
    """What stands before the stop comes out, and what tells the client of it; then the fault does."""
    given_ = {"choices": [{"index": 0, "delta": {"content": "a drop table"}, "finish_reason": None}]}
    out: list[Any] = []
    with pytest.raises(ZeroDivisionError) as caught:
        out.extend(iter(GUARD.stream([given_], notice=lambda stopped: f"{1 / 0}{stopped}")))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in out] == ["a ", None]
    assert out[-1]["choices"][0]["finish_reason"] == "content_filter"
    # Of the guard's own frames those that read the chunk are not told.
    assert {frame.name for frame in traceback.extract_tb(caught.tb)} <= {
        "test_a_notice_that_fails_takes_nothing_with_it", "__next__", "_run", "raise_what_is_due", "<lambda>",
    }  # fmt: skip
    stream = GUARD.stream(["a drop table"], notice=lambda _: "" + 1, raise_on_stop=True)  # type: ignore[operator]
    with pytest.raises(GuardStopped) as stopped:
        list(stream)
    assert isinstance(stopped.value.__cause__, TypeError)
    assert list(stream) == []


def test_many_streams_side_by_side() -> None:
    """Thousands of them, none of which sees another's text."""

    async def one(number: int) -> str:
        async def chunks() -> AsyncIterator[Any]:
            for text in ("a 078-", f"05-1120 {number} dr", "op ", "table" if number % 2 else "box"):
                await asyncio.sleep(0)
                yield Chat().chunk(0, {"content": text})

        stream = GUARD.astream(chunks())
        out = [chunk async for chunk in stream]
        assert (stream.stopped is not None) == bool(number % 2)
        return Chat().texts(out)[0, "text"]

    async def run() -> None:
        got = await asyncio.gather(*(one(number) for number in range(2_000)))
        for number, text in enumerate(got):
            assert text == f"a [redacted] {number} " + ("" if number % 2 else "drop box")

    asyncio.run(run())


HIDDEN = "a drop table b"
# The names under which text is a service's own, or the caller's (docs/guard-streams.md, "What passes unread").
UNREAD = {
    "type", "id", "object", "model", "role", "status", "phase", "caller", "created_by", "signature", "usage", "detail",
    "encrypted_content", "encrypted_index", "fingerprint", "server_label", "execution", "finish_reason", "stop_reason",
    "stop_sequence", "file_type", "obfuscation", "instructions", "tools", "tool_choice", "metadata", "prompt", "user",
    "provider", "timings", "prompt_filter_results", "created", "service_tier", "system_fingerprint",
    "content_filter_results", "content_filter_offsets", "native_finish_reason", "sequence_number", "created_at",
}  # fmt: skip


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a chunk that has something."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*place, key)
        if isinstance(inner, (dict, list)):
            yield from places_in(inner, (*place, key))


@pytest.mark.parametrize("name", ["chat dicts", "responses dicts", "message dicts"])
@settings(max_examples=400)
@given(data=st.data())
def test_nothing_is_said_where_nobody_reads(name: str, data: st.DataObject) -> None:
    """Whatever a chunk has in whatever place, of whatever kind: it is read, or the chunk is refused."""
    shape = SHAPES[name]
    pieces = [(0, channel, "{}" if "arguments" in channel else "x") for channel in shape.channels]
    chunks = json.loads(json.dumps(shape.chunks(pieces)))
    chunk = data.draw(st.sampled_from(chunks))
    *above, last = data.draw(st.sampled_from(list(places_in(chunk))))
    hidden = data.draw(
        st.sampled_from([HIDDEN, [HIDDEN], {"text": HIDDEN}, {"input": {HIDDEN: 1}}, {"content": [HIDDEN]}])
    )
    inside = chunk
    for key in above:
        inside = inside[key]
    new = data.draw(st.sampled_from(["text", "content", "new", "delta", "arguments", "thinking", "parts", "name"]))
    key = new if isinstance(inside, dict) and data.draw(st.booleans()) else last
    inside[key] = hidden
    out, _ = drained(GUARD.stream(Source(*chunks)))
    # A response repeats the text format and the input of its request.
    of_the_request = (above, key) == (["response"], "text") or (
        (above, key) == ([], "response") and isinstance(hidden, dict)
    )
    if of_the_request or any(part in UNREAD or str(part).endswith("_id") for part in (*above, key)):
        return
    assert "drop table" not in json.dumps(out).replace("Never say drop table.", ""), (above, key)


# --- chat completions ----------------------------------------------------------------------------------------------


def test_a_chunk_that_nothing_is_taken_from_is_the_same_object() -> None:
    """Text, roles, usage; and nothing is held of it."""
    chat = Chat()
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    first = chat.chunk(0, {"role": "assistant", "content": ""})
    last = chat.typed(chat.chunk(0, {}).model_dump() | {"choices": [], "usage": usage})
    chunks = [first, chat.chunk(0, {"content": "Hello. "}), chat.chunk(0, {}, "stop"), last]
    stream = GUARD.stream(iter(chunks))
    for chunk in chunks:
        assert next(stream) is chunk
        assert stream.held == 0
    assert list(stream) == []


def test_the_rest_comes_with_the_chunk_that_finishes() -> None:
    """Behind what that chunk has itself; and where no chunk finishes, in one more."""
    chat = Chat()
    out = list(GUARD.stream([chat.chunk(0, {"content": "a dr"}), chat.chunk(0, {"content": "op"}, "length")]))
    assert [chunk.choices[0].delta.content for chunk in out] == ["a ", "drop"]
    assert out[-1].choices[0].finish_reason == "length"
    out = list(GUARD.stream([chat.chunk(0, {"content": "a dr"})]))
    assert [(chunk.choices[0].delta.content, chunk.choices[0].finish_reason) for chunk in out] == [
        ("a ", None),
        ("dr", None),
    ]


def test_tool_calls_keep_their_ids_and_names() -> None:
    """Each has a text of its own; a rest comes without id and name, which a client would put together."""
    chat = Chat()

    def call(index: int, text: str, **about: Any) -> Any:
        function = {"arguments": text} | ({"name": about.pop("name")} if "name" in about else {})
        return chat.chunk(0, {"tool_calls": [{"index": index, "function": function, **about}]})

    chunks = [
        call(0, "", id="a", name="look", type="function"),
        call(0, '{"q": "dr'),
        call(1, "op ta", id="b", name="find", type="function"),
        call(1, "ble dr"),
        chat.chunk(0, {}, "tool_calls"),
    ]
    out = list(GUARD.stream(chunks))
    calls = [each.model_dump(exclude_none=True) for chunk in out for each in chunk.choices[0].delta.tool_calls or []]
    assert calls == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"q": "'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "find", "arguments": "op ta"}},
        {"index": 1, "function": {"arguments": "ble "}},
        {"index": 0, "function": {"arguments": "dr"}},
        {"index": 1, "function": {"arguments": "dr"}},
    ]
    # A name is read whole, and so is a text in one that is no piece of it.
    stream = GUARD.stream([call(0, "{}", id="a", name="drop table", type="function")])
    assert Chat().is_stopped(list(stream))
    assert stream.stopped == StopReason("matched", "drop", 0, 10, 0, "tool_name[0]")
    pieces = [call(0, "", id="a", name="drop "), call(0, "", name="table")]
    assert "comes in pieces" in str(refused("guard.unknown_chunk", lambda: list(GUARD.stream(pieces))))
    # Another call under the same number, which is another by its id; and another id in each piece of one call.
    calls_in_one = [call(0, "{} dr", id="a", name="look"), call(0, "op table", id="b", name="look")]
    assert "is that of another call" in str(refused("guard.unknown_chunk", lambda: list(GUARD.stream(calls_in_one))))
    stream = GUARD.stream([call(0, "{} dr", id="a", name="look"), call(0, "op table", id="b")])
    assert Chat().texts(list(stream)) == {(0, "tool_arguments[0]"): "{} "}


def test_in_arguments_too_the_next_byte_may_say_which_stop_counts() -> None:
    """Of two that end at one byte; it may come with a later chunk, or the arguments may end."""
    guard = Guard([Rule.literal("-", name="minus"), Rule.regex(r"key-\b", name="key")])
    chat = Chat()
    call = {"name": "look", "arguments": ""}
    begin = chat.chunk(0, {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": call}]})
    for rest, released, stopped in [
        (["1"], '"', ("key", 1, 5)),
        (['"'], '"key', ("minus", 4, 5)),
        (["\\", "u003", "1"], '"', ("key", 1, 5)),
        ([], '"key', ("minus", 4, 5)),
    ]:
        pieces = ['"ke', "y-", *rest]
        chunks = [chat.chunk(0, {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}) for text in pieces]
        stream = guard.stream([begin, *chunks, chat.chunk(0, {}, "tool_calls")])
        assert Chat().texts(list(stream)) == {(0, "tool_arguments[0]"): released}
        assert stream.stopped == StopReason("matched", *stopped, 0, "tool_arguments[0]")


def test_a_stop_ends_every_choice() -> None:
    """With what others hold left out, and those that were finished left alone."""
    chat = Chat()
    chunks = [
        chat.chunk(0, {"content": "zero"}),
        chat.chunk(1, {"content": "one dr"}),
        chat.chunk(2, {"content": "two dr"}),
        chat.chunk(0, {}, "stop"),
        chat.chunk(1, {"content": "op table", "tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, "stop"),
    ]
    stream = GUARD.stream(chunks)
    out = list(stream)
    assert chat.texts(out) == {(0, "text"): "zero", (1, "text"): "one ", (2, "text"): "two "}
    ended = [(choice.index, choice.finish_reason) for choice in out[-1].choices]
    assert ended == [(1, "content_filter"), (2, "content_filter")]
    assert [choice.finish_reason for chunk in out[:-1] for choice in chunk.choices] == [None, None, None, "stop", None]
    assert stream.stopped == StopReason("matched", "drop", 4, 14, 1, "text")
    # Choices of one chunk: what stands behind the one that was stopped does not come out.
    both = chat.chunk(0, {"content": "drop table"})
    both.choices.append(chat.chunk(1, {"content": "unread"}).choices[0])
    out = list(GUARD.stream([both]))
    assert [len(chunk.choices) for chunk in out] == [1, 1]


def test_what_repeats_the_text_is_withheld() -> None:
    """Probabilities of tokens, their numbers, and details of reasoning."""
    chat = ChatDicts()
    chunk = chat.chunk(
        0, {"content": "dr", "reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}
    )
    chunk["choices"][0] |= {"logprobs": {"content": [{"token": "dr", "top_logprobs": []}]}, "token_ids": [7]}
    (out, _) = GUARD.stream([chunk, chat.chunk(0, {}, "stop")])
    assert (out["choices"][0]["logprobs"], out["choices"][0]["token_ids"]) == (None, [])
    assert out["choices"][0]["delta"] == {"content": "", "reasoning": "r", "reasoning_details": []}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"choices": [{"index": 0, "delta": {"audio": {"transcript": "drop"}}}]}, "choices[].delta.audio"),
        ({"choices": [{"index": 0, "delta": {"content": [{"text": "drop"}]}}]}, "choices[].delta.content[].type"),
        ({"choices": [{"index": 0, "delta": {"content": b"drop"}}]}, "text"),
        ({"choices": [{"index": 0, "message": {"content": "drop"}}]}, "choices[].message"),
        ({"choices": [{"index": "0", "delta": {}}]}, "choices[].index"),
        ({"choices": [7]}, "choices[]"),
        ({"choices": "drop"}, "choices"),
        ({"choices": [{"index": 0, "delta": "drop"}]}, "choices[].delta"),
        ({"choices": [{"index": 0, "delta": {"tool_calls": {}}}]}, "choices[].delta.tool_calls"),
        ({"choices": [{"index": 0, "delta": {"tool_calls": [7]}}]}, "choices[].delta.tool_calls[]"),
        ({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": -1}]}}]}, "choices[].delta.tool_calls[].index"),
        ({"choices": [{"index": 0, "delta": {"tool_calls": [{"text": "a"}]}}]}, "choices[].delta.tool_calls[].text"),
        ({"choices": [{"index": 0, "delta": {"function_call": {"text": "a"}}}]}, "function_arguments.text"),
        ({"extra": "drop"}, "extra"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, Any], place: str) -> None:
    """With its place and not with its text: it could carry text that nobody reads."""
    chat = ChatDicts()
    stream = GUARD.stream([chat.chunk(0, {"content": "a "}), chat.chunk(0, {}) | change])
    assert next(stream)["choices"][0]["delta"] == {"content": "a "}
    error = refused("guard.unknown_chunk", lambda: next(stream))
    assert error.field == place
    assert "drop" not in str(error)
    assert stream.stopped == StopReason("failed", None, 0, None)


def test_subclasses_are_read_as_what_they_are() -> None:
    """A field that one has in addition is refused, a dictionary of another class stays one."""

    class Larger(openai.types.chat.ChatCompletionChunk):
        said: str

    chunk = Larger.model_validate(Chat().chunk(0, {"content": "a"}).model_dump() | {"said": "drop table"})
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([chunk]))).field == "said"

    class Named(dict[str, Any]):
        pass

    (out,) = GUARD.stream([Named(ChatDicts().chunk(0, {"content": "a 078-05-1120 "}, "stop"))])
    assert type(out) is Named
    assert out["choices"][0]["delta"]["content"] == "a [redacted] "

    @dataclasses.dataclass(frozen=True, slots=True)
    class Delta:
        content: str | None

    @dataclasses.dataclass(frozen=True, slots=True)
    class Choice:
        index: int
        delta: Delta
        finish_reason: str | None = None

    @dataclasses.dataclass(frozen=True, slots=True)
    class Chunk:
        choices: list[Choice]

    (made, ended) = GUARD.stream([Chunk([Choice(0, Delta("a drop table"))])])
    assert made == Chunk([Choice(0, Delta("a "))])
    assert ended == Chunk([Choice(0, Delta(None), "content_filter")])


def test_plain_completions() -> None:
    """As llama-cpp-python streams them: the text is the choice's own."""

    def chunk(text: str, finish: str | None = None) -> Any:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}

    out = list(GUARD.stream([chunk("a dr"), chunk("op"), chunk("", "stop")]))
    assert [each["choices"][0]["text"] for each in out] == ["a ", "", "drop"]
    out = list(GUARD.stream([chunk("a dr"), chunk("op table"), chunk("", "stop")], notice="(ended)"))
    assert [each["choices"][0]["text"] for each in out] == ["a ", "", "(ended)"]
    assert out[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert [each["choices"][0]["text"] for each in GUARD.stream([chunk("dr")])] == ["", "dr"]


def test_a_stream_has_so_many_texts_at_most() -> None:
    """Memory has a bound, whoever makes the numbers up."""
    chunks = (ChatDicts().chunk(index, {"content": "a"}) for index in range(MOST_CHANNELS + 1))
    refused("guard.too_large", lambda: list(GUARD.stream(chunks)))
    # Also where they say nothing.
    many = range(MOST_CHANNELS + 1)
    calls = [{"index": number, "function": {"arguments": ""}} for number in many]
    about: list[dict[str, Any]] = [
        {"choices": [{"index": number, "delta": {}} for number in many]},
        {"choices": [{"index": 0, "delta": {"tool_calls": calls}}]},
    ]
    for chunk in about:
        refused("guard.too_large", lambda chunk=chunk: list(GUARD.stream([chunk])))  # type: ignore[misc]
    for events in (
        [block("start", number, type="thinking", thinking="") for number in many],
        [block("delta", number, type="thinking_delta", thinking="") for number in many],
        [event("refusal.delta", output_index=number, content_index=0, delta="") for number in many],
        [event("output_item.done", output_index=number, item={"type": "message", "content": []}) for number in many],
        [RequestOutput([CompletionOutput(number, "", [])], False) for number in many],
    ):
        refused("guard.too_large", lambda events=events: list(GUARD.stream(events)))  # type: ignore[misc]


# --- responses -----------------------------------------------------------------------------------------------------


def kinds_of(union: Any) -> Iterator[type[Any]]:
    for kind in typing.get_args(union):
        if typing.get_origin(kind) is None and hasattr(kind, "model_fields"):
            yield kind
        else:
            yield from kinds_of(kind)


def test_every_event_of_a_response_is_known() -> None:
    """By what the client's own types have; sound alone is refused, because it says what nobody can read."""
    there = {typing.get_args(kind.model_fields["type"].annotation)[0] for kind in kinds_of(ResponseStreamEvent)}
    listed = {"error", "response.shell_call_output_content.delta", *responses.WITHOUT_TEXT, *responses.RESPONSES}
    listed |= responses.DELTAS.keys() | responses.ENDS.keys() | responses.PARTS.keys()
    assert there - listed == {"response.audio.delta"}
    # Those that vLLM has besides.
    assert listed - there == {"response.reasoning_part.added", "response.reasoning_part.done"}
    sound = {"type": "response.audio.delta", "delta": "UklGRg==", "sequence_number": 1}
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([sound]))).field == "type"


def event(kind: str, **about: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 0, **about}


def block(kind: str, index: int = 0, **contents: Any) -> dict[str, Any]:
    name = {"start": "content_block", "delta": "delta"}.get(kind)
    return {"type": f"content_block_{kind}", "index": index} | ({name: contents} if name else {})


ASKED = r'{"q": "\u0064rop \u0074able users"}'
NUMBERED = r'{"q": "\u0030\u00378-05-\u0031120"}'


def of_a_response(item: dict[str, Any], *, typed: bool = False, kind: str = "output_item.done") -> Any:
    chunk = event(kind, output_index=0, item=item)
    return Responses().typed(chunk) if typed else chunk


def arguments_that_come_whole(text: str) -> dict[str, Any]:
    """A chunk for each place in which a client has a call's arguments as one text."""
    asks = {"type": "mcp_approval_request", "id": "i", "arguments": text, "name": "f", "server_label": "s"}
    searches = {"type": "tool_search_call", "id": "i", "arguments": text}
    call = {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": text}
    failed = {"type": "invalid_tool_call", "name": "f", "id": "c"}
    raw: dict[str, Any] = {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": text}}]}
    parsed = [{"name": "f", "args": json.loads(text), "id": "c"}]

    def message(**about: Any) -> AIMessage:
        return AIMessage(**({"content": ""} | about))

    return {
        "approval": of_a_response(asks, typed=True),
        "approval, added": of_a_response(asks, kind="output_item.added"),
        "approval, dict": of_a_response(asks),
        "search": of_a_response(searches, typed=True),
        "search, dict": of_a_response(searches),
        "both, completed": event("completed", response=Responses().response([asks, searches])),
        "search, completed": event("completed", response=Responses().response([searches])),
        "a call inside an item": of_a_response({"type": "new", "calls": [call]}),
        "invalid call": message(invalid_tool_calls=[failed | {"args": text, "error": None}]),
        "why it is invalid": message(invalid_tool_calls=[failed | {"args": None, "error": f"{text} is not valid"}]),
        "raw calls": message(additional_kwargs=raw),
        "raw calls, parsed ones beside": message(additional_kwargs=raw, tool_calls=parsed),
        "raw function": message(additional_kwargs={"function_call": raw["tool_calls"][0]["function"]}),
        "input of a block": message(content=[{"type": "tool_use", "id": "c", "name": "f", "input": text}]),
        "piece of a block": message(content=[{"type": "input_json_delta", "partial_json": text, "index": 0}]),
        "why a block is invalid": message(content=[failed | {"args": None, "error": text}]),
        "input of a block, message": block("start", type="tool_use", id="c", name="f", input=text),
        "piece of a block, message": block("start", type="new", id="c", name="f", partial_json=text),
    }


@pytest.mark.parametrize("place", arguments_that_come_whole("{}"))
def test_arguments_that_come_whole_are_documents_in_json(place: str) -> None:
    """Their escapes are read, wherever a client has them: of neither a stop nor a redaction the raw copy comes out."""
    stream = GUARD.stream([arguments_that_come_whole(ASKED)[place]])
    said = repr(list(stream)).replace("Never say drop table.", "")
    assert stream.stopped is not None
    assert stream.stopped.rule == "drop"
    for part in ("u0064", "able", "users"):
        assert part not in said
    stream = GUARD.stream([arguments_that_come_whole(NUMBERED)[place]])
    said = repr(list(stream))
    assert stream.stopped is None
    assert {match.rule for match in stream.matches} == {"ssn"}
    assert "[redacted]" in said or place == "approval, added"
    for part in ("u0030", "8-05", "1120"):
        assert part not in said


def test_arguments_that_are_no_json_are_read_as_both() -> None:
    """What cannot be redacted so that a document stays one stops; a backslash may be one, too."""

    def message(args: str) -> AIMessage:
        call = {"type": "invalid_tool_call", "name": "f", "id": "c", "args": args, "error": None}
        return AIMessage(content="", invalid_tool_calls=[call])

    stream = GUARD.stream([message("call 078-05-1120 ")])
    assert "078" not in repr(list(stream))
    assert stream.stopped is not None
    stream = GUARD.stream([message(r"\u0064rop table")])
    assert "able" not in repr(list(stream))
    assert stream.stopped is not None
    for rule in (Rule.literal(r"C:\temp"), Rule.literal(r"C:\temp", action="redact")):
        stream = Guard([rule]).stream([message(r"dir C:\temp")])
        assert "temp" not in repr(list(stream))
        assert (stream.stopped is None) == (rule.action == "redact")
    # A document is read as one only: there it is an escape.
    stream = Guard([Rule.literal(r"C:\temp")]).stream([message(r'"C:\temp"')])
    assert next(stream).invalid_tool_calls[0]["args"] == r'"C:\temp"'
    assert stream.stopped is None
    # What was parsed is a text, and a redaction is one in it.
    (parsed,) = GUARD.stream(
        [AIMessage(content="", tool_calls=[{"name": "f", "args": {"input": "078-05-1120 "}, "id": "c"}])]
    )
    assert parsed.tool_calls[0]["args"] == {"input": "[redacted] "}


def test_what_comes_whole_is_read_whole() -> None:
    """Calls without deltas, notes at a text, what a search asked, what a shell printed; pictures are not."""
    for item in (
        {"type": "mcp_approval_request", "id": "i", "arguments": ASKED, "name": "f", "server_label": "s"},
        {"type": "web_search_call", "id": "i", "action": {"type": "search", "query": "drop table"}},
        {"type": "tool_search_call", "id": "i", "arguments": {"drop table": 1}},
        {"type": "function_call", "id": "i", "call_id": "c", "name": "drop table", "arguments": ""},
        {"type": "shell_call", "id": "i", "action": {"commands": ["ls", "drop table"]}},
        {"type": "new_call", "something": [{"else": "drop table"}]},
    ):
        for kind in ("output_item.added", "output_item.done"):
            stream = GUARD.stream([event(kind, output_index=0, item=item)])
            out = list(stream)
            assert Responses.is_stopped(ResponsesDicts(), out)
            assert "table" not in repr(out)
    note = {"type": "url_citation", "title": "drop table", "url": "u", "start_index": 0, "end_index": 1}
    stream = GUARD.stream([event("output_text.annotation.added", output_index=0, content_index=0, annotation=note)])
    assert (next(stream)["annotation"]["title"], stream.stopped is not None) == ("", True)
    # What the model wrote as JSON is read, whatever it says that it is.
    says = {"type": "image_generation_call", "result": "drop table", "id": "drop table"}
    for item in (
        {"type": "tool_search_call", "id": "i", "arguments": says},
        {
            "type": "local_shell_call",
            "id": "i",
            "action": {"type": "exec", "command": ["ls"], "env": {"drop table": "1"}},
        },
    ):
        stream = GUARD.stream([event("output_item.done", output_index=0, item=item)])
        assert "table" not in repr(list(stream))
        assert stream.stopped is not None
    picture = {"type": "image_generation_call", "id": "i", "result": "drop table", "status": "completed"}
    shown = [event("output_item.done", output_index=0, item=picture)]
    assert list(GUARD.stream(shown)) == shown
    arguments = {"type": "tool_search_call", "id": "i", "arguments": {"078-05-1120": 1}}
    shown = [event("output_item.done", output_index=0, item=arguments)]
    assert "to be redacted" in str(refused("guard.unknown_chunk", lambda: list(GUARD.stream(shown))))


def test_an_end_that_says_something_else_is_read_too() -> None:
    """Whatever the deltas said; and an item that begins with a text holds what its deltas go on with."""
    about = {"output_index": 0, "content_index": 0, "item_id": "i"}
    stream = GUARD.stream(
        [event("output_text.delta", delta="a", **about), event("output_text.done", text="a drop table", **about)]
    )
    out = list(stream)
    assert out[1]["text"] == "a "
    assert stream.stopped == StopReason("matched", "drop", 2, 12, 0, "text[0]")
    call = {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": "a dr"}
    begin = event("output_item.added", output_index=0, item=call)
    piece = event("function_call_arguments.delta", output_index=0, item_id="i", delta="op table")
    out = list(GUARD.stream([begin, piece]))
    assert out[0]["item"]["arguments"] == "a "
    assert out[1]["delta"] == ""
    assert out[2]["type"] == "response.incomplete"
    again = [event("output_text.delta", delta="a", **about), event("output_text.done", text="a", **about)]
    again.append(event("output_text.delta", delta="b", **about))
    assert "after its end" in str(refused("guard.unknown_chunk", lambda: list(GUARD.stream(again))))


def blocks(*texts: str) -> list[dict[str, Any]]:
    """A block for each, with its text in one piece."""
    out = []
    for number, text in enumerate(texts):
        out.append(block("start", number, type="text", text=""))
        out.append(block("delta", number, type="text_delta", text=text))
        out.append(block("stop", number))
    return out


def texts_of(out: list[Any]) -> list[str]:
    """What each block of text says; and every block begins, says what it says and ends before the next one begins."""
    found: list[str] = []
    is_open = False
    for each in out:
        if each["type"] == "content_block_start":
            assert not is_open
            is_open = True
            found.append(each["content_block"].get("text", "")) if each["content_block"]["type"] == "text" else None
        elif each["type"] == "content_block_delta":
            assert is_open
            found[-1] += each["delta"].get("text", "")
        elif each["type"] == "content_block_stop":
            assert is_open
            is_open = False
    assert not is_open
    return found


@pytest.mark.parametrize(
    ("given", "said", "stopped"),
    [
        (["please drop ", "table users"], ["please ", ""], (7, 17)),
        (["please dr", "", "op ", "table users"], ["please ", "", "", ""], (7, 17)),
        (["no 078-05-", "1120, no"], ["no ", "[redacted], no"], None),
        # What is no match after all stands in the block that shows it, or before the end of the last one.
        (["a dr", "ama"], ["a ", "drama"], None),
        (["a", "b drop "], ["a", "b drop "], None),
        (["see 078-05-1120", ", and on"], ["see ", "[redacted], and on"], None),
    ],
)
def test_blocks_of_text_that_follow_one_another_are_one_text(
    given: list[str], said: list[str], stopped: tuple[int, int] | None
) -> None:
    """Clients join them. What is held at the end of one goes on in the next."""
    begin = {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}}
    ends = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}]
    ends.append({"type": "message_stop"})
    for more in (ends, []):
        stream = GUARD.stream([begin, *blocks(*given), {"type": "ping"}, *more])
        out = list(stream)
        assert texts_of(out) == said
        assert stream.stopped == (StopReason("matched", "drop", *stopped, 0, "text") if stopped else None)
        assert [each["index"] for each in out if each["type"] == "content_block_stop"] == list(range(len(said)))
        assert out[-1]["type"] == "message_stop" or not (more or stopped)
    told = list(GUARD.stream([begin, *blocks(*given)], notice="[ended]"))
    assert texts_of(told) == ([*said[:-1], said[-1] + "[ended]"] if stopped else said)


def test_arguments_that_are_no_document_are_read_as_they_are_written_too() -> None:
    """In pieces and as one, with escapes as well; what begins like a document is one."""
    windows = Guard([Rule.literal(r"C:\temp", name="temp"), Rule.literal("DROP", name="drop"), NOTE])

    def stream(*arguments: str) -> Any:
        return windows.stream(
            [chunk(0, {"tool_calls": [{"index": 0, "function": {"arguments": each}}]}) for each in arguments]
        )

    chunk = ChatDicts().chunk
    for pieces in (["open(r'C:\\temp')"], ["open(r'C:\\te", "mp')"], list("open(r'C:\\temp')")):
        guarded = stream(*pieces)
        assert "".join(_arguments(list(guarded))) == "open(r'"
        assert guarded.stopped == StopReason("matched", "temp", 7, 14, 0, "tool_arguments[0]")
    for text in (r"\u0044ROP", r"x = '\u0044ROP'", r' {"a": "\u0044ROP"}', r'["\u0044ROP"]', r'"\u0044ROP"'):
        guarded = stream(*text)
        list(guarded)
        assert guarded.stopped is not None, text
        assert guarded.stopped.rule == "drop"
    for text in (r'{"a": "C:\temp"}', r' ["C:\temp"]', r'"C:\temp"', "  ", " x"):
        guarded = stream(*text)
        assert "".join(_arguments(list(guarded))) == text
        assert guarded.stopped is None
    # What both find is one.
    guarded = stream(" so it is confi", "dential")
    list(guarded)
    assert guarded.matches == (Match("confidential", "record", 10, 22, 0, "tool_arguments[0]"),)


def _arguments(out: list[Any]) -> Iterator[str]:
    for each in out:
        for call in each["choices"][0]["delta"].get("tool_calls") or ():
            yield call["function"]["arguments"]


def test_a_command_that_is_a_list_is_read_as_its_words_are_joined() -> None:
    """Where a client has parsed it; what redacts more than a word cannot be written."""

    def out_of(guard: Guard, **action: Any) -> Any:
        item = {"type": "local_shell_call", "id": "i", "call_id": "c", "action": {"type": "exec", **action}}
        stream = guard.stream([event("output_item.done", output_index=0, item=item)])
        ended, *_ = stream
        return ended["item"]["action"], stream.stopped

    said, stopped = out_of(GUARD, command=["please", "drop", "table", "x"])
    assert said["command"] == []
    assert stopped == StopReason("matched", "drop", 7, 17, 0, "item.action.command")
    for words in (["drop", "tables"][:1], ["drop", "-", "table"], ["a"], []):
        assert out_of(GUARD, command=words) == ({"type": "exec", "command": words}, None)
    assert out_of(GUARD, command=["a", "078-05-1120"])[0]["command"] == ["a", "[redacted]"]
    # Another list is none.
    assert out_of(GUARD, paths=["drop", "table"])[1] is None
    both = Guard([Rule.literal("a b", action="redact")])
    assert "more than a word" in str(refused("guard.unknown_chunk", lambda: out_of(both, command=["a", "b"])))


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_no_line_comes_out_that_nobody_read(end: str) -> None:
    """Also for whoever ends lines at what the format does not: in the words of an error, and in names of events."""
    hidden = json.dumps(ChatDicts().chunk(0, {"content": "drop table"})).replace("drop", "\\u0064rop")
    (out,) = GUARD.stream([f"event: error\ndata: boom{end}data: {hidden}\n\n"], sse=True)
    assert [line for line in out.splitlines() if line] == ["event: error", "data: boom", f"data: data: {hidden}"]
    refused(
        "guard.unknown_chunk",
        lambda: list(GUARD.stream([f"event: error\ndata: boom{end}{hidden}\n\n"], sse=True)),
    )
    harmless = json.dumps(ChatDicts().chunk(0, {"content": "a"}))
    for name in (f"x{end}data: {hidden}", f"drop{end}table"):
        refused(
            "guard.unknown_chunk",
            lambda name=name: list(GUARD.stream([f"event: {name}\ndata: {harmless}\n\n"], sse=True)),  # type: ignore[misc]
        )
    # What is written in two lines is read so.
    spaced = Guard([Rule.regex(r"drop\stable", name="spaced")])
    stream = spaced.stream([f"event: error\ndata: drop{end}table users\n\n"], sse=True)
    assert "table" not in "".join(stream)
    assert stream.stopped is not None


@pytest.mark.parametrize("cut", ['data: {"choi', 'event: x\ndata: {"choices": [\n', b'data: {"choi'])
def test_a_body_that_breaks_off_in_an_event_says_so(cut: Any) -> None:
    whole = wire(ChatDicts().chunk(0, {"content": "a"}))
    pieces = [whole if isinstance(cut, bytes) else whole.decode(), cut]
    out, error = drained(GUARD.stream(Source(*pieces), sse=True))
    assert len(out) == 1
    assert isinstance(error, InvalidInput)
    assert (error.code, str(error)) == ("guard.unknown_chunk", "the body broke off in the middle of an event")


def test_whole_texts_of_vllm_are_refused_without_tokens_too() -> None:
    def output(text: str) -> Any:
        return SimpleNamespace(request_id="r", outputs=[SimpleNamespace(index=0, text=text, finish_reason=None)])

    refused("guard.unknown_chunk", lambda: list(GUARD.stream([output("a"), output("a b"), output("a b c")])))
    assert len(list(GUARD.stream([output("a"), output(" b")]))) == 2
    assert len(list(GUARD.stream([output(""), output("a"), output("b")]))) == 3


@pytest.mark.parametrize("reads", ["visible", "folded", "exact"])
def test_bytes_that_are_no_text_are_seen(reads: Any) -> None:
    """They stand in a match that a lenient decoder would put together, as documented; what decodes refuses them."""
    guard = Guard([Rule.literal("secret", reads=reads)])
    for data in (b"a se\xffcret", b"a se\xc3cret", b"a se\xe2\x80cret"):
        assert b"".join(guard.stream([data])) == data
        with pytest.raises(InvalidInput, match="are no UTF-8"):
            list(guard.stream([b"data: " + data + b"\n\n"], sse=True))


def test_another_block_ends_a_text() -> None:
    """What was held of it comes out before, in its own block."""
    call = [block("start", 1, type="tool_use", id="t", name="f", input={}), block("stop", 1)]
    after = [{**each, "index": 2} for each in blocks("op table")]
    stream = GUARD.stream([*blocks("a dr"), *call, *after])
    out = list(stream)
    assert [(each["type"], each["index"]) for each in out[:5]] == [
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
    ]
    assert texts_of([each for each in out if each not in call]) == ["a dr", "op table"]
    assert stream.stopped is None
    # A match that the end of the text decides stops there, and the block ends.
    at_its_end = Guard([Rule.regex(r"\bkey$", name="key")])
    stream = at_its_end.stream([*blocks("a key"), *call])
    out = list(stream)
    assert texts_of(out) == ["a "]
    assert [each["type"] for each in out[-3:]] == ["content_block_stop", "message_delta", "message_stop"]


def test_the_end_of_a_block_repeats_what_came_out_of_it() -> None:
    """Also where a part of it went on in the next, and where it repeats what would stop."""
    first, second = blocks("a dr"), [{**each, "index": 1} for each in blocks("ama")]
    first[-1]["content_block"] = {"type": "text", "text": "a dr"}
    second[-1]["content_block"] = {"type": "text", "text": "ama"}
    for events, said in ((first + second, ["a ", "drama"]), (first, ["a dr"])):
        out = list(GUARD.stream(events))
        assert texts_of(out) == said
        assert [each["content_block"]["text"] for each in out if each["type"] == "content_block_stop"] == said


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize(
    ("held", "whole", "said", "shown"),
    [
        ("078-05-", "SSN 078-05-1120", "SSN [redacted]", "SSN [redacted]"),
        ("dr", "SSN drama", "SSN drama", "SSN drama"),
        ("dr", "SSN dr", "SSN dr", "SSN dr"),
        ("drop", "SSN drop table", "SSN ", "SSN "),
        # Other texts, a shorter one among them: what is held may be a part of what they say.
        ("078-05-", "ssn 078-05-1120", "ssn [redacted]", "SSN "),
        ("dr", "SSN d", "SSN d", "SSN "),
    ],
)
def test_the_whole_text_decides_what_the_pieces_hold(
    held: str, whole: str, said: str, shown: str, numbered: bool
) -> None:
    """Whichever event has it, and of arguments alike."""
    place = {"output_index": 0} if numbered else {}
    about = {**place, "content_index": 0, "item_id": "i"}
    part = {"type": "output_text", "text": whole, "annotations": []}
    item = {"type": "message", "id": "i", "content": [part]}
    call = {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": f'"{whole}'}
    text, arguments = "output_text.delta", "function_call_arguments.delta"
    cases: list[tuple[str, dict[str, Any], Callable[[Any], Any]]] = [
        (text, event("output_text.done", text=whole, **about), lambda end: end["text"]),
        (text, event("content_part.done", part=part, **about), lambda end: end["part"]["text"]),
        (
            text,
            event("completed", response={"output": [item]}),
            lambda end: end["response"]["output"][0]["content"][0]["text"],
        ),
        (
            arguments,
            event("function_call_arguments.done", name="f", arguments=f'"{whole}', item_id="i", **place),
            lambda end: end["arguments"],
        ),
        (
            arguments,
            event("completed", response={"output": [call]}),
            lambda end: end["response"]["output"][0]["arguments"],
        ),
    ]
    if numbered:
        cases.append(
            (text, event("output_item.done", output_index=0, item=item), lambda end: end["item"]["content"][0]["text"])
        )
    for kind, end, text_of in cases:
        quote = '"' if kind is arguments else ""
        stream = GUARD.stream([event(kind, delta=f"{quote}SSN {held}", **about), end])
        out = list(stream)
        assert "".join(each["delta"] for each in out if each["type"].endswith(".delta")) == quote + shown, end
        assert (stream.stopped is not None) == (held == "drop")
        # What says that a response is complete does not come out where it is stopped in it.
        kinds = {"response.completed": "response.incomplete"} if held == "drop" else {}
        (ended,) = (each for each in out if each["type"] == kinds.get(end["type"], end["type"]))
        assert text_of(ended) == quote + said, end


def test_a_response_that_is_stopped_at_its_end_is_not_complete() -> None:
    """Neither it, nor the item that it was stopped in; what stands before that is as it was."""
    guard = Guard([Rule.regex(r"drop\b", name="drop")])
    about = {"output_index": 1, "content_index": 0, "item_id": "m"}
    call = {"type": "function_call", "id": "c", "status": "completed", "name": "f", "arguments": "{}"}
    said = {"type": "message", "id": "m", "status": "completed", "content": [{"type": "output_text", "text": "a drop"}]}
    whole = {"status": "completed", "completed_at": 123, "output": [call, said, call], "usage": {"total_tokens": 1}}
    end = event("completed", response=whole)
    piece = event("output_text.delta", delta="a drop", **about) | {"sequence_number": 3}
    out = list(guard.stream([piece, end | {"sequence_number": 4}]))
    assert [each["type"] for each in out] == ["response.output_text.delta", "response.incomplete"]
    assert [each["sequence_number"] for each in out] == [3, 4]
    response = out[-1]["response"]
    cut = {**said, "status": "incomplete", "content": [{"type": "output_text", "text": "a "}]}
    assert (response["status"], response["output"], response["usage"]) == (
        "incomplete",
        [call, cut],
        {"total_tokens": 1},
    )
    assert response["completed_at"] is None
    # What was done before comes again, also where it stands behind.
    done = event("output_item.done", output_index=2, item=call)
    assert list(guard.stream([done, end]))[-1]["response"]["output"] == [call, cut, call]
    # What says more than that is read before its output.
    failed = event("failed", response={"status": "failed", "output": [], "error": {"message": "a drop"}})
    assert list(guard.stream([done, failed]))[-1]["response"]["output"] == [call]
    whole["usage"] = {"note": "words"}
    assert list(guard.stream([event("completed", response=whole)]))[-1]["response"]["usage"] == {"note": "words"}
    # An item that has no status is not done, either.
    input_ = {"type": "custom_tool_call", "id": "c", "name": "f", "input": "a drop"}
    out = list(guard.stream([event("output_item.done", output_index=0, item=input_)]))
    assert out[0]["item"] == {**input_, "input": "a ", "status": "incomplete"}
    # An item that is stopped in its own end.
    guard = Guard([Rule.literal("rm -rf /")])
    call["arguments"] = '{"cmd":"rm -rf /"}'
    done = event("output_item.done", output_index=0, item=call)
    out = list(guard.stream([done]))
    assert [out[0]["item"]["status"], out[0]["item"]["arguments"]] == ["incomplete", '{"cmd":"']
    assert out[-1]["response"]["output"] == [out[0]["item"]]


def test_the_name_of_a_call_comes_with_the_end_of_its_arguments() -> None:
    """As OpenAI's description of the events has it, and it is a text like any other."""
    piece = event("function_call_arguments.delta", output_index=0, item_id="i", delta="{}")
    end = event("function_call_arguments.done", output_index=0, item_id="i", arguments="{}", name="f")
    assert list(GUARD.stream([piece, end])) == [piece, end]
    stream = GUARD.stream([piece, {**end, "name": "drop table"}])
    assert [each.get("name") for each in stream] == [None, "", None]
    assert stream.stopped == StopReason("matched", "drop", 0, 10, 0, "tool_name")


def test_what_a_shell_prints_is_decided_by_the_whole_of_it() -> None:
    about = {"output_index": 0, "command_index": 0, "item_id": "i"}
    piece = event("shell_call_output_content.delta", delta={"stdout": "078-05-", "stderr": None}, **about)
    output = [{"stdout": "078-05-1120", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
    for end in (
        event("shell_call_output_content.done", output=output, **about),
        event("output_item.done", output_index=0, item={"type": "shell_call_output", "id": "i", "output": output}),
    ):
        out = list(GUARD.stream([piece, end]))
        assert [each["delta"]["stdout"] for each in out[:-1]] == ["", "[redacted]"]
        assert "078" not in str(out)


def test_what_a_shell_prints_is_two_texts() -> None:
    """Each with its rest at the item's end."""
    about = {"output_index": 0, "command_index": 0, "item_id": "i"}
    deltas = [{"stdout": "a dr", "stderr": None}, {"stdout": None, "stderr": "op table"}, {"stdout": "op"}]
    pieces = [event("shell_call_output_content.delta", delta=delta, **about) for delta in deltas]
    item = {"type": "shell_call_output", "id": "i", "output": [{"stdout": "a drop", "stderr": "op table"}]}
    out = list(GUARD.stream([*pieces, event("output_item.done", output_index=0, item=item)]))
    assert [each["delta"].get("stdout") for each in out[:-1]] == ["a ", None, "", "drop"]
    assert [each["delta"].get("stderr") for each in out[:-1]] == [None, "op table", None, None]
    assert [each["sequence_number"] for each in out] == [0, 0, 0, 0, 1]


def test_a_stopped_response_has_the_items_that_came_out() -> None:
    """As objects of the client, with the reason that it knows."""
    shape = Responses()
    chunks = shape.chunks([(0, "text[0]", "078-05-1120 first")])[:-1]
    second = {
        "type": "response.output_text.delta",
        "output_index": 1,
        "content_index": 0,
        "item_id": "j",
        "delta": "drop table",
    }
    stream = GUARD.stream([*chunks, shape.typed(second | {"sequence_number": len(chunks)})])
    last = list(stream)[-1]
    assert type(last) is openai.types.responses.ResponseIncompleteEvent
    assert type(last.response) is openai.types.responses.Response
    assert last.response.output_text == "[redacted] first"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "content_filter"
    # A stream that is gone on with has no response at its beginning.
    stream = GUARD.stream([shape.typed(second | {"sequence_number": 5})])
    (_, last) = stream
    assert type(last) is openai.types.responses.ResponseIncompleteEvent
    assert (last.response.status, last.sequence_number) == ("incomplete", 6)


# --- messages ------------------------------------------------------------------------------------------------------


def test_every_delta_of_a_message_is_known() -> None:
    """By what the client's own types have, beta among them."""
    import anthropic.types.beta.beta_raw_content_block_delta as beta

    for union in (anthropic.types.RawContentBlockDelta, beta.BetaRawContentBlockDelta):
        there = {typing.get_args(kind.model_fields["type"].annotation)[0] for kind in kinds_of(union)}
        assert there <= {*messages.TEXTS, "signature_delta", "citations_delta"}
    events: ClassVar = {
        typing.get_args(kind.model_fields["type"].annotation)[0]
        for kind in kinds_of(anthropic.types.RawMessageStreamEvent)
    }
    assert events == messages.EVENTS - {"ping"}
    new = block("delta", type="new_delta", text="a")
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([new]))).field == "delta.type"
    helper = [block("start", type="text", text=""), {"type": "text", "text": "drop table", "snapshot": "drop table"}]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(helper))).field == "type"


def test_a_block_that_begins_with_a_text_and_one_that_comes_whole() -> None:
    """The first goes on with its deltas; results of tools, citations and inputs are read whole."""
    chunks = [block("start", type="text", text="a dr"), block("delta", type="text_delta", text="op table")]
    out = list(GUARD.stream(chunks))
    assert [out[0]["content_block"]["text"], out[1]["delta"]["text"]] == ["a ", ""]
    assert [each["type"] for each in out[2:]] == ["content_block_stop", "message_delta", "message_stop"]
    out = list(GUARD.stream([block("start", type="text", text="a dr"), block("stop")]))
    assert out[1:] == [block("delta", type="text_delta", text="dr"), block("stop")]
    for whole in (
        block("start", type="web_search_tool_result", tool_use_id="t", content=[{"type": "x", "title": "drop table"}]),
        block("start", type="mcp_tool_use", id="t", name="f", server_name="s", input={"q": ["drop table"]}),
        block("start", type="tool_use", id="t", name="drop table", input={}),
        block("delta", type="citations_delta", citation={"cited_text": "drop table", "document_index": 0}),
    ):
        stream = GUARD.stream([whole])
        out = list(stream)
        assert stream.stopped is not None
        assert "table" not in repr(out)
        assert Messages.is_stopped(MessageDicts(), out)
    passes = [
        {"type": "ping"},
        block("start", type="redacted_thinking", data="drop table"),
        block("delta", type="signature_delta", signature="drop table"),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "stop_sequence", "stop_sequence": "drop table"},
            "usage": {},
        },
    ]
    assert list(GUARD.stream(passes)) == passes
    failed = [{"type": "error", "error": {"type": "overloaded_error", "message": "no drop table"}}]
    assert next(GUARD.stream(failed))["error"]["message"] == "no "


def test_the_end_of_a_message_is_of_the_clients_own_types() -> None:
    """Those of beta where the events are; a notice has a block of its own where the stop was not in a text."""
    beta: TypeAdapter[Any] = TypeAdapter(anthropic.types.beta.BetaRawMessageStreamEvent)
    for adapter, module in ((MESSAGE_EVENT, anthropic.types), (beta, anthropic.types.beta)):
        chunks = [
            adapter.validate_python(block("start", type="thinking", thinking="", signature="")),
            adapter.validate_python(block("delta", type="thinking_delta", thinking="a drop table")),
        ]
        out = list(GUARD.stream(chunks, notice="Ended."))
        names = [type(each).__name__.removeprefix("Beta") for each in out]
        assert all(type(each) is getattr(module, type(each).__name__) for each in out)
        assert names == [
            "RawContentBlockStartEvent", "RawContentBlockDeltaEvent", "RawContentBlockStopEvent",
            "RawContentBlockStartEvent", "RawContentBlockDeltaEvent", "RawContentBlockStopEvent",
            "RawMessageDeltaEvent", "RawMessageStopEvent",
        ]  # fmt: skip
        assert (out[3].content_block.text, out[4].delta.text, out[4].index) == ("", "Ended.", 1)
        assert (out[6].delta.stop_reason, out[6].usage.output_tokens) == ("refusal", 0)
        for each in out:
            type(each).model_validate(each.model_dump(warnings=False))


def test_the_end_of_a_message_says_how_many_tokens_were_told_last() -> None:
    """And a number where none was."""
    begun = {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"output_tokens": 3}}}
    unknown = {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"output_tokens": None}}}
    stopped = [block("start", type="text", text=""), block("delta", type="text_delta", text="drop table")]
    for before, tokens in (([begun], 3), ([unknown], 0), ([], 0)):
        out = list(GUARD.stream([*before, *stopped]))
        assert out[-2]["usage"] == {"output_tokens": tokens}


def test_what_was_held_of_a_text_comes_in_the_block_that_goes_on_with_it() -> None:
    """Also where that has no delta of its own: no client looks for more of a block that is at its end."""
    begins = [block("start", number, type="text", text="") for number in (0, 1)]
    ends = [{"type": "content_block_stop", "index": number} for number in (0, 1)]
    said = block("delta", type="text_delta", text="a drop ")
    out = list(GUARD.stream([begins[0], said, ends[0], begins[1], ends[1], {"type": "message_stop"}]))
    kinds = [(each["type"].removeprefix("content_block_"), each.get("index")) for each in out]
    assert kinds == [
        ("start", 0), ("delta", 0), ("stop", 0), ("start", 1), ("delta", 1), ("stop", 1), ("message_stop", None),
    ]  # fmt: skip
    assert [out[place]["delta"]["text"] for place in (1, 4)] == ["a ", "drop "]


def test_nothing_is_held_any_more_of_chunks_that_cannot_be_followed() -> None:
    stream = GUARD.stream([block("start", type="text", text=""), block("delta", type="text_delta", text="a dro"), {}])
    assert (next(stream), next(stream)["delta"]["text"], stream.held) == (block("start", type="text", text=""), "a ", 3)
    refused("input.wrong_type", lambda: next(stream))
    assert (stream.stopped, stream.held) == (StopReason("failed", None, 0, None), 0)


# --- server-sent events --------------------------------------------------------------------------------------------


def wire(*data: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in data)


def test_events_end_and_are_cut_as_the_format_says() -> None:
    """Any line end, a mark at the beginning, several lines of data, and an end without an empty line."""
    chat = ChatDicts()
    said = json.dumps(chat.chunk(0, {"content": "é 078-05-1120 "}), ensure_ascii=False).replace(
        ', "model"', ',\ndata: "model"'
    )
    whole = f"\ufeff: hi\ndata:{said}\n\nid: 7\nretry: 10\nnew: 1\ndata: [DONE]"
    for end in ("\n", "\r\n", "\r"):
        body = whole.replace("\n", end).encode()
        for size in (1, 2, 3, 1000):
            out = b"".join(GUARD.stream([body[at : at + size] for at in range(0, len(body), size)], sse=True))
            head, done = out.split(b"id: 7")
            assert head.startswith(b":\ndata: ")
            assert json.loads(head.split(b"data: ")[1])["choices"][0]["delta"]["content"] == "é [redacted] "
            assert done == b"\nretry: 10\ndata: [DONE]\n\n"


def test_a_body_that_is_stopped_at_its_end_has_one() -> None:
    """What is told of the stop comes before it: clients read no further."""
    guard = Guard([Rule.regex(r"drop table\b", name="drop")])
    body = wire(ChatDicts().chunk(0, {"content": "a drop table"})) + b"data: [DONE]\n\n"
    out = b"".join(guard.stream([body], sse=True)).split(b"\n\n")
    assert [each == b"data: [DONE]" for each in out] == [False, False, True, False]
    assert json.loads(out[1].removeprefix(b"data: "))["choices"][0]["finish_reason"] == "content_filter"


def test_nothing_passes_unread() -> None:
    """A field that JSON has twice, a comment, a name of an event, a number of one."""
    hidden = b'data: {"choices":[{"index":0,"delta":{"content":"drop table","content":"a"}}]}\n\n'
    extra = b": drop table\nid: drop table\nnew: drop table\nretry: drop table\n"
    out = b"".join(GUARD.stream([extra + hidden], sse=True))
    assert out == b':\ndata: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    for body, place in (
        (b"data: drop table\n\n", "data"),
        (b"data: [1]\n\n", "data"),
        (b"data: NaN\n\n", "data"),
        (b"event: drop table\n" + wire({"type": "ping"}), "event"),
        (b"event: error\n" + wire({"type": "ping", "delta": {"text": "drop table"}}), "event"),
        (wire({"type": "drop table"}), "type"),
    ):
        error = refused("guard.unknown_chunk", lambda body=body: list(GUARD.stream([body], sse=True)))  # type: ignore[misc]
        assert error.field == place
        assert "table" not in str(error)
    for body in (b"data: \xff", b"data: \xc3"):
        error = refused("guard.unknown_chunk", lambda body=body: list(GUARD.stream([body], sse=True)))  # type: ignore[misc]
        assert (str(error), error.field) == ("bytes of a chunk are no UTF-8", "bytes")
    failed = list(GUARD.stream([wire({"error": {"message": "no drop table"}})], sse=True))
    assert b"table" not in b"".join(failed)


def test_the_name_of_an_event_is_a_text_where_its_data_have_no_type() -> None:
    """It is matched and passed on; an empty one and the default are as none."""
    said = wire(ChatDicts().chunk(0, {"content": "ok"}))
    for name, out in ((b"completion", b"event: completion\n"), (b"message", b""), (b"", b"")):
        released = b"".join(GUARD.stream([b"event: " + name + b"\n" + said], sse=True))
        assert released.startswith(out + b"data: {")
        assert b'"ok"' in released
    assert b"event: a [redacted]\n" in b"".join(GUARD.stream([b"event: a 078-05-1120\n" + said], sse=True))
    stream = GUARD.stream([said, b"event: drop table\n" + said], sse=True)
    assert b"table" not in b"".join(stream)
    assert stream.stopped == StopReason("matched", "drop", 0, 10, None, "event")


@pytest.mark.parametrize("said", ["chat", "messages", "responses", "nothing"])
@pytest.mark.parametrize("of", ["error", "message"])
@pytest.mark.parametrize("named", [True, False])
def test_an_error_of_the_service_comes_out_whatever_was_streamed(said: str, of: str, named: bool) -> None:
    """Named or not, and with a type that no event has; it is matched like everything else."""
    before = {
        "chat": wire(ChatDicts().chunk(0, {"content": "ok"})),
        "messages": b"event: ping\n" + wire({"type": "ping"}),
        "responses": wire({"type": "response.image_generation_call.generating", "output_index": 0}),
        "nothing": b"",
    }[said]
    if of == "message" and not named:
        # It could be anything.
        refuse = {"type": "overloaded", "message": "busy"}
        with pytest.raises(InvalidInput):
            list(GUARD.stream([before + wire(refuse)], sse=True))
        return
    told = {"error": {"message": "busy", "code": 1}} if of == "error" else {"type": "overloaded", "message": "busy"}
    name = b"event: error\n" if named else b""
    stream = GUARD.stream([before + name + wire(told)], sse=True)
    end = b"".join(stream).split(b"\n\n")[-2]
    assert end == name + b"data: " + json.dumps(told, separators=(",", ":")).encode()
    assert stream.stopped is None
    stopped = GUARD.stream([before + name + wire({"error": {"message": "no drop table"}})], sse=True)
    assert b"table" not in b"".join(stopped)
    assert stopped.stopped is not None
    # What a text could be put together of is no error.
    pieces = {"choices": [], "delta": "busy"} | told
    refused("guard.unknown_chunk", lambda: list(GUARD.stream([name + wire(pieces)], sse=True)))


def test_an_error_in_words_comes_out() -> None:
    """What another reader could take for JSON does not."""
    told = b"event: error\ndata: busy,\ndata: 078-05-1120\n\n"
    assert list(GUARD.stream([told], sse=True)) == [told.replace(b"078-05-1120", b"[redacted]")]
    stream = GUARD.stream([b"event: error\ndata: no drop\ndata: table\n\nevent: error\ndata: drop table\n\n"], sse=True)
    assert b"drop table" not in b"".join(stream)
    assert stream.stopped == StopReason("matched", "drop", 0, 10, None, "error")
    for data in (b'{"error": NaN}', b" [", b'"'):
        body = b"event: error\ndata: " + data + b"\n\n"
        refused("guard.unknown_chunk", lambda body=body: list(GUARD.stream([body], sse=True)))  # type: ignore[misc]


def test_lines_without_their_ends_are_told_of() -> None:
    """As a client's `iter_lines` gives them; what is no line of an event is not."""
    line = wire(ChatDicts().chunk(0, {"content": "ok"})).decode().strip()
    hint = "lines that came without their ends need them back: (line + '\\n' for line in lines)"
    for lines in ([line, "", line], [line.encode(), b"", line.encode()], ["event: ping", line]):
        assert hint in str(refused("guard.unknown_chunk", lambda lines=lines: list(GUARD.stream(lines, sse=True))))  # type: ignore[misc]
    for body in ("data: no\n\n", "<html>"):
        error = refused("guard.unknown_chunk", lambda body=body: list(GUARD.stream([body], sse=True)))  # type: ignore[misc]
        assert "lines" not in str(error)


def test_a_shape_that_is_not_known_is_told_with_its_fields() -> None:
    """And with what is known; a name that could be a text is not repeated."""
    chunk = {"id": 1, "drop table": 2, **{f"more{number}": number for number in range(9)}}
    error = refused("guard.unknown_chunk", lambda: list(GUARD.stream([chunk])))
    assert error.field == "type"
    assert "it has id, …, more0, more1, more2, more3, more4, more5, …; what is known are chunks of chat" in str(error)
    assert "no fields" in str(refused("guard.unknown_chunk", lambda: list(GUARD.stream([{}]))))


@pytest.mark.parametrize("said", ["", None])
def test_a_choice_goes_on_where_its_end_is_empty(said: str | None) -> None:
    """Some servers say it so in every chunk: what is held comes with a later one."""

    def chunk(content: str, ends: str | None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": ends}]}

    source = [chunk("the dr", said), chunk("op tab", said), chunk("s", said), chunk("", "stop")]
    assert list(GUARD.stream(source)) == [
        chunk("the ", said), chunk("", said), chunk("drop tabs", said), chunk("", "stop"),
    ]  # fmt: skip
    last = list(GUARD.stream([chunk("drop", said), chunk(" table", said)]))[-1]
    assert last["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_mark_of_the_byte_order_is_no_text(kind: type) -> None:
    """At the beginning alone, and wherever the body is cut; the first event behind it is read."""
    body = wire(ChatDicts().chunk(0, {"content": "ok"})).decode()
    for size in (1, 3, 1000):
        for marked in (body, f"\ufeff{body}"):
            cut = ["", *(marked[at : at + size] for at in range(0, len(marked), size))]
            pieces: list[Any] = cut if kind is str else [piece.encode() for piece in cut]
            out = b"".join(piece if kind is bytes else piece.encode() for piece in GUARD.stream(pieces, sse=True))
            assert json.loads(out.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == "ok"
    twice: Any = f"\ufeff\ufeff{body}" if kind is str else f"\ufeff\ufeff{body}".encode()
    refused("guard.unknown_chunk", lambda: list(GUARD.stream([twice], sse=True)))


def test_a_body_without_an_event_is_refused() -> None:
    """It is another document, or broke off before there was any; nothing of it would come out."""
    for body in ('{"error": "x"}', b'{"error": "x"}', "<html>\n<p>502</p>\n\n</html>\n", ": hi\n\n", "event: ping\n\n"):
        stream: Any = GUARD.stream([body], sse=True)
        assert refused("guard.unknown_chunk", lambda stream=stream: list(stream)).field == "body"  # type: ignore[misc]
        assert stream.stopped == StopReason("failed", None, 0, None)
    for pieces in ([], [""], [b""], ["data: [DONE]\n\n"]):
        stream = GUARD.stream(pieces, sse=True)
        list(stream)
        assert stream.stopped is None


def test_what_is_nested_too_deeply_is_refused() -> None:
    """By JSON's reader or by ours, in an event or in a client's chunk."""
    said = '{"choices":[{"index":0,"delta":{"content":"ok"}}],"zz":'
    body = f"data: {said}{'[' * 100_000}1{']' * 100_000}}}"
    deep: Any = "1"
    for _ in range(5_000):
        deep = [deep]
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {"a": deep}}}
    for pieces in ([f"{body}\n\n"], [body], [body.encode()], [begun]):
        stream: Any = GUARD.stream(pieces, sse=pieces != [begun])
        assert refused("guard.unknown_chunk", lambda stream=stream: list(stream)).field == "nesting"  # type: ignore[misc]
        assert stream.stopped.kind == "failed"


def test_an_event_is_no_longer_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short ones in one piece may be."""
    monkeypatch.setattr(sse, "MOST_EVENT_CHARACTERS", 200)
    event = wire(ChatDicts().chunk(0, {"content": "a"}))
    assert 100 < len(event) < 200
    assert len(b"".join(GUARD.stream([event * 9 + event[:50], event[50:]], sse=True)).split(b"data")) == 11
    for pieces in ([b"data: " + b"x" * 200], [b"data: x\n"] * 300, [b"x"] * 201):
        refused("guard.too_large", lambda pieces=pieces: list(GUARD.stream(pieces, sse=True)))  # type: ignore[misc]


# --- clients and runtimes ------------------------------------------------------------------------------------------


class Body:
    """A body that says how often it was closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.closed, self.read = pieces, 0, 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.read += 1
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.read += 1
            yield piece

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Response:
    """An iterable whose iterator is another object, as a client's response: it says in which order what was closed."""

    def __init__(self, *pieces: Any, fault: BaseException | None = None) -> None:
        self.closed: list[str] = []
        self.source = Source(*pieces)
        self.fault = fault

    def closes(self, name: str) -> None:
        self.closed.append(name)
        if self.fault is not None:
            raise self.fault

    def __iter__(self) -> Any:
        self.source.close = lambda: self.closed.append("iterator")  # type: ignore[method-assign]
        return self.source

    def __aiter__(self) -> Any:
        async def aclose() -> None:
            self.closed.append("iterator")

        self.source.aclose = aclose  # type: ignore[method-assign]
        self.source.close = lambda: self.closed.append("iterator, not asynchronously")  # type: ignore[method-assign]
        return self.source

    def close(self) -> None:
        self.closes("response")

    async def aclose(self) -> None:
        self.closes("response, asynchronously")


@pytest.mark.parametrize("pieces", [("a",), ("a drop table", "b"), ("a", OSError("gone"))])
def test_what_an_iterable_gives_is_closed_before_it_and_each_once(pieces: Any) -> None:
    response = Response(*pieces)
    with contextlib.suppress(OSError):
        assert list(GUARD.stream(response))
    assert response.closed == ["iterator", "response"]

    async def run() -> list[str]:
        response = Response(*pieces)
        with contextlib.suppress(OSError):
            assert [piece async for piece in GUARD.astream(response)]
        return response.closed

    assert asyncio.run(run()) == ["iterator", "response, asynchronously"]


def test_a_stream_that_has_not_begun_closes_its_source_once() -> None:
    source = Source("a")
    stream = GUARD.stream(source)
    for _ in range(2):
        stream.close()
        assert source.closed == 1
    assert (list(stream), stream.stopped) == ([], StopReason("failed", None, 0, None))

    async def run() -> None:
        source = Source("a")
        stream = GUARD.astream(source)
        for _ in range(2):
            await stream.aclose()
            assert source.closed == 1

    asyncio.run(run())


def test_an_interrupt_while_a_source_is_closed_waits_for_nothing() -> None:
    """Where it is a fault it is told behind what is left, and so is an error of a source that looks like ours."""
    for interrupt in (asyncio.CancelledError(), KeyboardInterrupt()):
        stream = GUARD.stream(Response("a drop table", fault=interrupt), notice="ended")
        with pytest.raises(type(interrupt)):
            next(stream)

        async def run(interrupt: BaseException = interrupt) -> None:
            await anext(GUARD.astream(Response("a drop table", fault=interrupt), notice="ended"))

        with pytest.raises(type(interrupt)):
            asyncio.run(run())

    async def fault() -> None:
        stream = GUARD.astream(Response("a drop table", fault=RuntimeError("of the source")))
        assert await anext(stream) == "a "
        with pytest.raises(RuntimeError, match="of the source"):
            await anext(stream)

    asyncio.run(fault())


def test_what_is_said_to_be_events_is_no_object() -> None:
    """And a text among objects is not taken for them."""
    given_ = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    assert refused("input.wrong_type", lambda: list(GUARD.stream([given_], sse=True)))
    assert refused("input.wrong_type", lambda: list(GUARD.stream([given_, "data: {}"])))


def test_a_clients_response_is_closed() -> None:
    """OpenAI's and Anthropic's, of both kinds, over a connection that is made here."""
    chat, message = ChatDicts(), MessageDicts()
    chats = [chat.chunk(0, {"content": text}) for text in ("a 078-05-", "1120 dr", "op table", "never", "never")]
    events = message.chunks([(0, "text", text) for text in ("a 078-05-", "1120 dr", "op table", "never", "never")])

    def transport(module: Any, body: Body) -> Any:
        class Stream(Body, module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc, name-defined]
            pass

        body.__class__ = Stream
        head = {"content-type": "text/event-stream"}
        return module.MockTransport(lambda _: module.Response(200, headers=head, stream=body))

    def http(client: Any, body: Body) -> Any:
        # Each brings the library that it speaks over.
        module = sys.modules[client.DefaultHttpxClient.__mro__[1].__module__.split(".")[0]]
        return module.Client(transport=transport(module, body))

    def ahttp(client: Any, body: Body) -> Any:
        module = sys.modules[client.DefaultHttpxClient.__mro__[1].__module__.split(".")[0]]
        return module.AsyncClient(transport=transport(module, body))

    def bodies() -> tuple[Body, Body]:
        pieces = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events]
        return Body(*(wire(each) for each in chats)), Body(*pieces)

    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "q"}], "stream": True}
    first, second = bodies()
    with openai.OpenAI(api_key="k", http_client=http(openai, first)) as client:
        guarded = GUARD.stream(client.chat.completions.create(**asked))
        assert Chat().texts(list(guarded)) == {(0, "text"): "a [redacted] "}
    with anthropic.Anthropic(api_key="k", http_client=http(anthropic, second)) as other:
        stream = GUARD.stream(other.messages.create(**asked, max_tokens=9))
        assert Messages().texts(list(stream)) == {(0, "text"): "a [redacted] "}
    assert (first.closed, first.read) == (1, 3)
    assert second.closed == 1
    assert second.read < len(second.pieces)

    async def run() -> None:
        first, second = bodies()
        async with openai.AsyncOpenAI(api_key="k", http_client=ahttp(openai, first)) as client:
            stream = GUARD.astream(await client.chat.completions.create(**asked))
            assert Chat().texts([chunk async for chunk in stream]) == {(0, "text"): "a [redacted] "}
        async with anthropic.AsyncAnthropic(api_key="k", http_client=ahttp(anthropic, second)) as other:
            guarded = GUARD.astream(await other.messages.create(**asked, max_tokens=9))
            assert Messages().texts([chunk async for chunk in guarded]) == {(0, "text"): "a [redacted] "}
        assert (first.closed, second.closed) == (1, 1)

    asyncio.run(run())


def test_what_an_engine_says_of_an_output_passes_and_what_tells_its_tokens_does_not() -> None:
    """Weights and counts come with the last output; which tokens there could have been is another form of the text."""
    # Where vLLM is told to say which experts had a token, it is an array.
    experts = np.zeros((2, 3), dtype=np.int16)
    last = CompletionOutput(0, "op it", [2], finish_reason="stop", sampling_mask=[[2, 5]], routed_experts=experts)
    last.weight_versions, last.spec_decode_metrics = [("w", 0, 2)], object()
    out = list(GUARD.stream([RequestOutput([CompletionOutput(0, "a dr", [1])], False), RequestOutput([last], True)]))
    assert [each.outputs[0].text for each in out] == ["a ", "drop it"]
    told = out[-1].outputs[0]
    assert (told.weight_versions, told.sampling_mask, told.spec_decode_metrics is None) == ([("w", 0, 2)], [], False)
    assert told.routed_experts is experts
    assert last.sampling_mask == [[2, 5]]


def test_an_engine_that_is_closed_aborts_its_request() -> None:
    """As vLLM's own generator does; and outputs that repeat their text are refused."""
    aborted = []

    async def generate(*pieces: RequestOutput) -> AsyncIterator[RequestOutput]:
        try:
            for piece in pieces:
                yield piece
        except GeneratorExit:
            aborted.append("r")
            raise

    def output(text: str, *tokens: int) -> RequestOutput:
        return RequestOutput([CompletionOutput(0, text, list(tokens))], False)

    async def run() -> None:
        stream = GUARD.astream(generate(output("a dr", 1), output("op table", 2), output("never", 3)))
        out = [piece async for piece in stream]
        assert Outputs().texts(out) == {(0, "text"): "a "}
        assert aborted == ["r"]

    asyncio.run(run())


@pytest.mark.parametrize("has_tokens", [True, False])
def test_outputs_that_repeat_their_text_are_refused(has_tokens: bool) -> None:
    """vLLM's own setting. Two may be alike by chance, so the third decides, and the second is read in both ways."""

    def outputs(*texts: str) -> list[RequestOutput]:
        each = [CompletionOutput(0, text, [ord(letter) for letter in text] if has_tokens else []) for text in texts]
        return [RequestOutput([one], False) for one in each]

    def guarded(*texts: str, guard: Guard = GUARD) -> Any:
        return guard.stream(outputs(*texts))

    stream = guarded("a", "a drop ta", "a drop taxes")
    assert Outputs().texts([next(stream), next(stream)]) == {(0, "text"): "aa "}
    with pytest.raises(InvalidInput, match=r"RequestOutputKind\.DELTA"):
        next(stream)
    # A token that comes again, and two at once where they wait for their reader.
    assert Outputs().texts(list(guarded("ha", "haha", " and so on"))) == {(0, "text"): "hahaha and so on"}
    assert Outputs().texts(list(guarded("ha", "ho", "hoha"))) == {(0, "text"): "hahohoha"}
    # What only one of the two ways shows.
    stream = guarded("p", "pass it", guard=Guard([Rule.regex(r"\bpass\b", name="word")]))
    assert Outputs().texts(list(stream)) == {}
    assert stream.stopped == StopReason("matched", "word", 0, 4, 0, "text")
    with pytest.raises(InvalidInput, match=r"RequestOutputKind\.DELTA"):
        list(guarded("0", "078-05-1120"))
    # Both show it, and nothing of what the first held comes out before it was read as all of the text.
    number = Guard([Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", name="number")])
    stream = guarded("x 078-05-1120", "x 078-05-1120.", guard=number)
    assert (Outputs().texts(list(stream)), stream.stopped.start) == ({(0, "text"): "x "}, 2)


def test_a_part_of_a_chain() -> None:
    """Streamed and whole, of messages and of texts, in both kinds; each run is a stream of its own."""

    def model(text: str) -> GenericFakeChatModel:
        return GenericFakeChatModel(messages=iter([AIMessage(content=text)]))

    said, released = "ask 078-05-1120 confidential drop table users", "ask [redacted] confidential "
    chain = model(said) | GUARD.as_runnable(notice="Ended.")
    chunks = list(chain.stream("q"))
    assert "".join(chunk.content for chunk in chunks) == released + "Ended."
    assert chunks[-1].response_metadata == {"finish_reason": "content_filter"}
    assert (model(said) | StrOutputParser() | GUARD.as_runnable()).invoke("q") == released
    whole = (model(said) | GUARD.as_runnable()).invoke("q")
    assert (whole.content, whole.response_metadata["finish_reason"]) == (released, "content_filter")
    # What follows in the chain counts on a text, also where nothing of it came out.
    shouts = RunnableLambda(str.upper)
    for text in ("drop table users", ""):
        assert (RunnableLambda(lambda _, text=text: text) | GUARD.as_runnable() | shouts).invoke("q") == ""
        assert asyncio.run(GUARD.as_runnable().ainvoke(text.encode())) == b""
    assert list(GUARD.as_runnable().stream("a drop")) == ["a ", "drop"]
    guarded = pickle.loads(pickle.dumps(GUARD.as_runnable()))
    assert [(model("a confidential dr") | guarded).invoke("q").content for _ in range(2)] == ["a confidential dr"] * 2
    with pytest.raises(GuardStopped):
        list((model(said) | GUARD.as_runnable(raise_on_stop=True)).stream("q"))

    async def run() -> None:
        out = [chunk async for chunk in (model(said) | GUARD.as_runnable()).astream("q")]
        assert "".join(chunk.content for chunk in out) == released
        assert (await (model(said) | GUARD.as_runnable()).ainvoke("q")).content == released

    asyncio.run(run())


def test_message_chunks_of_several_blocks() -> None:
    """Reasoning, texts and calls inside one message; its calls are put together from what came out."""
    chunks = [
        AIMessageChunk(content=[{"type": "thinking", "thinking": "a dr", "index": 0}]),
        AIMessageChunk(content=[{"type": "text", "text": "op table dr", "index": 1}]),
        AIMessageChunk(content="", tool_call_chunks=[{"name": "f", "args": '{"q": "a 078-05-', "id": "c", "index": 2}]),
        AIMessageChunk(content="", tool_call_chunks=[{"name": None, "args": '1120 "}', "id": None, "index": 2}]),
        AIMessageChunk(content="", chunk_position="last"),
    ]
    stream = GUARD.stream(chunks)
    out = list(stream)
    whole = out[0]
    for chunk in out[1:]:
        whole += chunk
    assert stream.stopped is None
    assert whole.content == [
        {"type": "thinking", "thinking": "a dr", "index": 0},
        {"type": "text", "text": "op table dr", "index": 1},
    ]
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("f", {"q": "a [redacted] "})]
    assert stream.matches == (Match("ssn", "redact", 9, 20, None, "tool_arguments[2]"),)
    for broken, place in (
        (AIMessageChunk(content=[{"type": "audio", "data": "x"}]), "content[].type"),
        (AIMessageChunk(content=[{"type": "text", "text": "a", "more": "x"}]), "content[].more"),
        (AIMessageChunk(content="", additional_kwargs={"audio": {"data": "x"}}), "additional_kwargs.audio"),
    ):
        assert refused("guard.unknown_chunk", lambda broken=broken: list(GUARD.stream([broken]))).field == place  # type: ignore[misc]
    message = AIMessage(content="", tool_calls=[{"name": "f", "args": {"q": "drop table"}, "id": "c"}])
    (out_message,) = GUARD.stream([message])
    assert out_message.tool_calls == []
    called = AIMessageChunk(content="", additional_kwargs={"function_call": {"name": "f", "arguments": "a dr"}})
    out = list(GUARD.stream([called]))
    assert [chunk.additional_kwargs["function_call"]["arguments"] for chunk in out] == ["a ", "dr"]


def test_no_client_is_imported() -> None:
    """Not even to read its chunks, or to make one."""
    code = """
import sys
from decidable import Guard, Rule
guard = Guard([Rule.literal("drop")])
for chunk in ({"choices": [{"index": 0, "delta": {"content": "drop"}}]}, {"type": "content_block_stop", "index": 0}):
    list(guard.stream([chunk]))
assert not {"openai", "anthropic", "langchain_core", "pydantic", "vllm"} & sys.modules.keys(), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- a dict with attributes, helpers of clients, context managers -------------------------------------------------


class Both(dict[str, Any]):
    """A chunk whose fields are items and attributes at once, as some clients have them."""

    def __init__(self, **both: Any) -> None:
        super().__init__(both)
        vars(self).update(both)


class Attributes(dict[str, Any]):
    """One whose fields are attributes alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        vars(self).update(attributes)


@pytest.mark.parametrize("kind", [Both, Attributes])
def test_a_dict_with_attributes_is_read_by_both(kind: Any) -> None:
    """Neither says what was not let out; where the two disagree it is refused."""

    def chunk(content: str) -> Any:
        return kind(choices=[kind(index=0, delta=kind(content=content), finish_reason=None)])

    out: Any = list(GUARD.stream([chunk("a 078-05-1120 "), chunk("b DROP TABLE c")]))
    texts = [each.choices[0].delta.content for each in out[:2]]
    assert texts == ["a [redacted] ", "b "]
    assert out[2].choices[0].finish_reason == "content_filter"
    assert all(type(each) is kind and "DROP" not in repr((each, vars(each))) for each in out)
    if kind is Both:
        assert [each["choices"][0]["delta"]["content"] for each in out[:2]] == texts
    apart = chunk("a")
    apart.choices[0].delta["content"] = "b"
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([apart]))).field == "choices[].delta"
    refused("guard.unknown_chunk", lambda: list(GUARD.stream([kind(said="DROP TABLE")])))


def test_what_a_helper_of_a_client_makes_is_refused_with_what_to_take() -> None:
    """On their own types: chat, messages, responses."""
    from anthropic.lib.streaming import TextEvent
    from openai.lib.streaming.chat import ContentDeltaEvent
    from openai.lib.streaming.responses import ResponseTextDeltaEvent

    chat = ContentDeltaEvent(type="content.delta", delta="a", snapshot="a")
    message = TextEvent(type="text", text="a", snapshot="a")
    response = ResponseTextDeltaEvent.model_construct(type="response.output_text.delta", delta="a", snapshot="a")
    begin = {"type": "message_start", "message": {"content": []}}
    chunks: Any
    for chunks, instead in (
        ([chat], "chat.completions.create(stream=True)"),
        ([begin, message], "messages.create(stream=True)"),
        ([response], "responses.create(stream=True)"),
    ):
        error = refused("guard.unknown_chunk", lambda chunks=chunks: list(GUARD.stream(chunks)))  # type: ignore[misc]
        assert instead in str(error)


def test_a_stream_is_a_context_manager() -> None:
    """However its block is left, the source is closed, once."""
    source = Source("a ", "b ", "c")
    with GUARD.stream(source) as stream:
        assert next(stream) == "a "
    assert (source.closed, list(stream)) == (1, [])
    assert stream.stopped is not None
    assert stream.stopped.kind == "failed"
    source = Source("a ", "b")
    with GUARD.stream(source) as stream:
        assert "".join(stream) == "a b"
    assert (source.closed, stream.stopped) == (1, None)

    async def run() -> tuple[bool, Any]:
        over = False

        async def pieces() -> AsyncIterator[str]:
            nonlocal over
            try:
                yield "a "
                yield "b"
            finally:
                over = True

        async with GUARD.astream(pieces()) as stream:
            assert await anext(stream) == "a "
        return over, stream.stopped

    over, stopped = asyncio.run(run())
    assert over
    assert stopped.kind == "failed"


def test_matches_that_were_not_kept_are_counted_once_however_often_their_text_is_repeated() -> None:
    """Responses tell a text in pieces, at its end, with its part, with its item and with the response."""
    most, more = 65_536, 50
    guard = Guard([Rule.literal("a", action="record")])
    text = "ab" * (most + more)
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    size = 60_000
    events = [
        *(
            {"type": "response.output_text.delta", **place, "delta": text[at : at + size], "logprobs": []}
            for at in range(0, len(text), size)
        ),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "r", "object": "response", "output": [item]}},
    ]
    stream = guard.stream([{**event, "sequence_number": number} for number, event in enumerate(events)])
    told = [(each["type"], len(stream.matches), stream.matches_dropped) for each in stream]
    assert told[-1] == ("response.completed", most, more)
    assert {dropped for kind, _, dropped in told if kind != "response.output_text.delta"} == {more}


def test_an_id_that_a_model_wrote_is_no_way_around_a_name() -> None:
    """Where the id of a call has the name in it, what stops or is replaced in the name does not come out in the id."""
    guard = Guard([Rule.literal("evil_tool"), Rule.regex(r"\d{3}-\d{2}-\d{4}", action="redact")])

    def call(own_id: str, name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": "{}"}
        delta = {"tool_calls": [{"index": 0, "id": own_id, "function": function}]}
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    stream = guard.stream([call("functions.evil_tool:0", "evil_tool")])
    assert "evil" not in str(list(stream))
    assert stream.stopped is not None
    with pytest.raises(InvalidInput, match="repeats a name that does not come out"):
        list(guard.stream([call("functions.f078-05-1120:0", "f078-05-1120")]))
    harmless = [call("functions.fine:0", "fine"), call("078-05-1120", "fine")]
    for chunk in harmless:
        assert list(guard.stream([chunk])) == [chunk]


def test_what_is_no_iterable_is_refused_with_what_to_do() -> None:
    """Before anything is read: the commonest slips are the other kind of stream, and an ``await`` that is not there."""

    async def source() -> AsyncIterator[str]:
        yield "a"

    async def create() -> AsyncIterator[str]:
        return source()

    waiting = create()
    guarded: Any = GUARD
    for call, told in (
        (lambda: guarded.stream(source()), "astream takes it"),
        (lambda: guarded.astream(["a"]), "stream takes it"),
        (lambda: guarded.astream(waiting), "await it first"),
        (lambda: guarded.stream(waiting), "await it first"),
        (lambda: guarded.stream(5), "is int"),
        (lambda: guarded.stream(None), "is NoneType"),
    ):
        error = refused("input.wrong_type", call)
        assert error.field == "chunks"
        assert str(error).endswith(told)
    waiting.close()

    async def notice(_: StopReason) -> str:
        return "told"

    assert refused("input.wrong_type", lambda: guarded.stream(["a"], notice=notice)).field == "notice"
