"""What clients put together of what comes whole in several chunks: no match leaves in pieces of it."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from langchain_core.messages import AIMessageChunk
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

import decidable as dc
from decidable import Guard, Rule
from decidable.guard import rule_set
from decidable.guard.channels import MOST_CHANNELS

SETS = ("ssn", "cards", "secrets", "email", "iban")
DROP = Rule.literal("DROP TABLE", name="drop")
GUARDS = {
    "redact": Guard([*(rule for each in SETS for rule in rule_set(each)), DROP]),
    "stop": Guard([*(rule for each in SETS for rule in rule_set(each, action="stop")), DROP]),
}
PIECES = [
    ("DROP ", "TABLE"),
    ("078-05", "-1120"),
    ("4111 1111 ", "1111 1111"),
    ("ada@exam", "ple.com"),
    ("gh", "p_0123456789abcdefghijABCDEFGHIJ012345"),
    ("DE89 3704 0044 ", "0532 0130 00"),
]


def langchain(**about: Any) -> AIMessageChunk:
    return AIMessageChunk(**{"content": "", **about})


def block(**contents: Any) -> AIMessageChunk:
    return langchain(content=[{"index": 0, **contents}])


LANGCHAIN: dict[str, Callable[[str], Any]] = {
    "response_metadata.x": lambda piece: langchain(response_metadata={"x": piece}),
    "response_metadata.args": lambda piece: langchain(response_metadata={"args": piece}),
    "response_metadata.input.q": lambda piece: langchain(response_metadata={"input": {"q": piece}}),
    "response_metadata.model_provider": lambda piece: langchain(response_metadata={"model_provider": piece}),
    "additional_kwargs.error": lambda piece: langchain(additional_kwargs={"error": piece}),
    "additional_kwargs.parsed": lambda piece: langchain(additional_kwargs={"parsed": {"arguments": piece}}),
    "tool_use.input.q": lambda piece: block(type="tool_use", id="t", input={"q": piece}),
    "server_tool_call.args": lambda piece: block(type="server_tool_call", id="t", args=piece),
    "mcp_call.arguments": lambda piece: block(type="mcp_call", id="t", arguments=piece),
    "custom_tool_call.input": lambda piece: block(type="custom_tool_call", id="t", input=piece),
    "web_search_call.results": lambda piece: block(type="web_search_call", results=[{"index": 1, "title": piece}]),
    "citations": lambda piece: block(type="text", text="", citations=[{"index": 3, "cited_text": piece}]),
    "citations of one": lambda piece: block(type="text", text="", citations=[{"index": True, "cited_text": piece}]),
}


def delta(**contents: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": contents, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


OPENAI: dict[str, Callable[[str], Any]] = {
    "context": lambda piece: delta(context=piece),
    "context.x": lambda piece: delta(context={"x": piece}),
    "annotations": lambda piece: delta(annotations=[{"index": 0, "type": "a", "text": piece}]),
    "search_results": lambda piece: delta(search_results=[{"index": 0, "snippet": piece}]),
    "extra_content": lambda piece: delta(extra_content={"google": {"thought": piece}}),
    "of a call": lambda piece: delta(
        tool_calls=[{"index": 0, "function": {"name": None, "arguments": ""}, "extra_content": {"x": piece}}]
    ),
}


def out_of(guard: Guard, chunks: list[Any]) -> list[Any]:
    """What came out before the end, whatever ended it."""
    out: list[Any] = []
    with contextlib.suppress(dc.InvalidInput):
        out.extend(iter(guard.stream(chunks)))
    return out


@pytest.mark.parametrize("action", GUARDS)
@pytest.mark.parametrize("place", LANGCHAIN)
def test_what_langchain_adds_up_has_no_match(place: str, action: str) -> None:
    for first, second in PIECES:
        # The second of two items has another place in the list, and is the same to LangChain.
        chunks = [LANGCHAIN[place](first), LANGCHAIN[place](second)]
        assert first + second in str(functools.reduce(operator.add, chunks))
        guarded = out_of(GUARDS[action], chunks)
        assert not guarded or first + second not in str(functools.reduce(operator.add, guarded)), first


@pytest.mark.parametrize("action", GUARDS)
@pytest.mark.parametrize("place", OPENAI)
def test_what_openai_s_client_adds_up_has_no_match(place: str, action: str) -> None:
    def together(chunks: list[Any]) -> str:
        state: Any = ChatCompletionStreamState()
        for each in chunks:
            state.handle_chunk(ChatCompletionChunk.model_validate(each))
        return str(state.current_completion_snapshot)

    for first, second in PIECES:
        chunks = [delta(role="assistant", content=""), OPENAI[place](first), OPENAI[place](second)]
        assert first + second in together(chunks)
        guarded = out_of(GUARDS[action], chunks)
        assert not guarded or first + second not in together(guarded), first


def test_items_are_put_together_by_their_numbers_and_not_by_their_places() -> None:
    """In one chunk the second item, in the next the first: it is the same one."""
    first = block(type="text", text="", annotations=[{"index": 0, "text": "a"}, {"index": 1, "text": "DROP "}])
    second = block(type="text", text="", annotations=[{"index": 1, "text": "TABLE"}])
    assert "DROP TABLE" in str(first + second)
    stream = GUARDS["redact"].stream([first, second])
    assert "TABLE" not in str(list(stream))
    assert stream.stopped is not None
    assert stream.stopped.rule == "drop"
    # Those without a number are others, however often they come.
    others = [delta(annotations=[{"type": "a", "text": piece}]) for piece in ("DROP ", "TABLE", "TABLE")]
    assert list(GUARDS["redact"].stream(others)) == others


def test_texts_that_come_again_and_again_are_refused_before_they_take_long() -> None:
    """Each is read with those before it, so many would take the square of the time."""
    many = (delta(context="so " * 1_000) for _ in range(100_000))
    stream = GUARDS["redact"].stream(many)
    with pytest.raises(dc.InvalidInput) as caught:
        for _ in stream:
            pass
    assert caught.value.code == "guard.too_large"
    assert stream.stopped is not None


EVENTS: Any = TypeAdapter(RawMessageStreamEvent)


def test_documents_in_pieces_are_read_as_one() -> None:
    """With their escapes; what is redacted in a piece is out of what it is put together with."""
    given = [langchain(response_metadata={"args": piece}) for piece in ('{"q": "\\u0044ROP ', 'TABLE"}')]
    stream = GUARDS["redact"].stream(given)
    assert "TABLE" not in str(list(stream))
    assert stream.stopped is not None
    # What is no document is also read as it stands, though its beginning could be one.
    given = [langchain(response_metadata={"args": piece}) for piece in ("1", r"\t2")]
    assert len(list(Guard([Rule.literal(r"1\t2")]).stream(given))) == 3
    given = [langchain(response_metadata={"x": piece}) for piece in ("a ", "078-05-1120 b", " c")]
    out = [each.response_metadata["x"] for each in GUARDS["redact"].stream(given)]
    assert out == ["a ", "[redacted] b", " c"]


def test_many_pieces_are_read_as_one() -> None:
    stream = GUARDS["redact"].stream([delta(context=piece) for piece in ("DRO", "P", " TAB", "LE")])
    assert "LE" not in str(list(stream))
    assert stream.stopped is not None


def test_what_langchain_has_once_is_read_once() -> None:
    """Where it is the same again it is not put together."""
    guard = Guard([Rule.literal("aa"), Rule.literal("v1v1")])
    about = {"model_provider": "aba", "output_version": "v1"}
    given = [langchain(response_metadata=about) for _ in range(3)]
    assert functools.reduce(operator.add, given).response_metadata == about
    assert list(guard.stream(given)) == given
    # Once it was another, it is put together whatever it is.
    given = [langchain(response_metadata={"model_provider": piece}) for piece in "abb"]
    assert functools.reduce(operator.add, given).response_metadata == {"model_provider": "abb"}
    stream = Guard([Rule.literal("abb")]).stream(given)
    assert len(list(stream)) == 4
    assert stream.stopped is not None


def test_texts_that_may_come_again_are_so_many_at_most() -> None:
    """Each is kept, however short it is."""
    most = 16 * MOST_CHANNELS
    found = [{"index": number, "title": "a"} for number in range(most + 1)]
    assert list(GUARDS["redact"].stream([delta(annotations=found[:most])])) == [delta(annotations=found[:most])]
    with pytest.raises(dc.InvalidInput) as caught:
        list(GUARDS["redact"].stream([delta(annotations=found)]))
    assert caught.value.code == "guard.too_large"


def anthropic(events: list[dict[str, Any]]) -> Any:
    snapshot = None
    for each in events:
        snapshot = accumulate_event(event=EVENTS.validate_python(each), current_snapshot=snapshot, json_bufs={})
    return snapshot


def begins(*content: Any) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    about = {"id": "m", "type": "message", "role": "assistant", "model": "m", "usage": usage}
    return {"type": "message_start", "message": {**about, "content": list(content), "stop_reason": None}}


def started(index: int, text: str = "") -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": text}}


def said(index: int, text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def test_a_message_begins_without_content() -> None:
    """Deltas would go on with it."""
    events = [begins({"type": "text", "text": "DROP "}), said(0, "TABLE users")]
    assert anthropic(events).content[0].text == "DROP TABLE users"
    with pytest.raises(dc.InvalidInput) as caught:
        list(GUARDS["redact"].stream(events))
    assert (caught.value.code, caught.value.field) == ("guard.unknown_chunk", "message.content")


def test_a_block_of_text_does_not_begin_in_another() -> None:
    """Whose text goes on first nobody knows, and clients read them one behind the other."""
    events = [begins(), started(0), started(1), said(0, "DROP "), said(1, "TABLE")]
    assert "".join(each.text for each in anthropic(events).content) == "DROP TABLE"
    out: list[Any] = []
    with pytest.raises(dc.InvalidInput) as caught:
        out.extend(iter(GUARDS["redact"].stream(events)))
    assert caught.value.field == "index"
    assert out == events[:2] or out == []


@pytest.mark.parametrize("kind", ["response.created", "response.in_progress", "response.queued"])
def test_a_response_begins_without_output(kind: str) -> None:
    """Events would go on with it."""
    content = [{"type": "output_text", "text": "DROP ", "annotations": []}]
    item = {"type": "message", "id": "i", "role": "assistant", "status": "in_progress", "content": content}
    response = {"id": "r", "object": "response", "output": [item]}
    with pytest.raises(dc.InvalidInput) as caught:
        list(GUARDS["redact"].stream([{"type": kind, "sequence_number": 0, "response": response}]))
    assert (caught.value.code, caught.value.field) == ("guard.unknown_chunk", "response.output")
    # One that has none yet comes out as it is.
    events = [{"type": kind, "sequence_number": 0, "response": response | {"output": []}}]
    assert list(GUARDS["redact"].stream(events))[:1] == events
