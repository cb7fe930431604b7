"""What clients put together of what comes whole in several chunks: no match leaves in pieces of it."""

from __future__ import annotations

import functools
import json
import operator
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from langchain_core.messages import AIMessageChunk
from openai.lib.streaming._deltas import accumulate_delta
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

import decidable as dc
from decidable import Guard, Rule
from decidable.guard import rule_set
from decidable.guard.channels import Channels
from decidable.guard.parts import MOST_ADDED, MOST_CHANNELS
from test_guard import refused

SETS = ("ssn", "cards", "secrets", "email", "iban")
DROP = Rule.literal("DROP TABLE", name="drop")
GUARDS = {
    "redact": Guard([*(rule for each in SETS for rule in rule_set(each)), DROP]),
    "stop": Guard([*(rule for each in SETS for rule in rule_set(each, action="stop")), DROP]),
}
ONE = Guard([DROP])
SHELL = Guard(rule_set("shell"))
PIECES = [
    ("DROP ", "TABLE", "drop"),
    ("078-05", "-1120", "us-ssn"),
    ("4111 1111 ", "1111 1111", "payment-card-in-groups"),
    ("ada@exam", "ple.com", "email"),
    ("gh", "p_0123456789abcdefghijABCDEFGHIJ012345", "github-token"),
    ("DE89 3704 0044 ", "0532 0130 00", "iban"),
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
# What each is called where it is not as above.
CHANNELS = {
    "additional_kwargs.error": "error",
    "additional_kwargs.parsed": "parsed.arguments",
    "tool_use.input.q": "content[0].input.q",
    "server_tool_call.args": "content[0].args",
    "mcp_call.arguments": "content[0].arguments",
    "custom_tool_call.input": "content[0].input",
    "web_search_call.results": "content[0].results[1].title",
    "citations": "content[0].citations[3].cited_text",
    "annotations": "annotations[0].text",
    "search_results": "search_results[0].snippet",
    "extra_content": "extra_content.google.thought",
    "of a call": "tool_calls[0].extra_content.x",
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


def out_of(guard: Guard, chunks: list[Any]) -> tuple[list[Any], str | None]:
    """What came out, and what ended it before its end."""
    stream = guard.stream(chunks)
    out: list[Any] = []
    try:
        out.extend(iter(stream))
    except dc.InvalidInput as fault:
        told = "refused" if fault.code == "guard.unknown_chunk" else fault.code
        return out, f"{told} at {fault.field}"
    why = stream.stopped
    return out, None if why is None else f"stopped by {why.rule} in {why.channel}"


def ends_before_the_second(action: str, place: str, rule: str, chunks: list[Any]) -> list[Any]:
    """What comes out where the last chunk has the second half: all before it, and what says that it was stopped.

    Nothing can be redacted of what is out; in what is a document a number of signs cannot.
    """
    channel = CHANNELS.get(place, place)
    out, ending = out_of(GUARDS[action], chunks)
    is_stopped = action == "stop" or rule == "drop" or channel.endswith((".args", ".input", ".arguments"))
    assert ending == (f"stopped by {rule} in {channel}" if is_stopped else f"refused at {channel}")
    assert out[: len(chunks) - 1] == chunks[:-1]
    # A stop has the chunk that it is in, without the text, and a last one.
    assert len(out) == len(chunks) + (1 if is_stopped else -1)
    return out


@pytest.mark.parametrize("action", GUARDS)
@pytest.mark.parametrize("place", LANGCHAIN)
def test_what_langchain_adds_up_has_no_match(place: str, action: str) -> None:
    for first, second, rule in PIECES:
        # The second of two items has another place in the list, and is the same to LangChain.
        chunks = [LANGCHAIN[place](first), LANGCHAIN[place](second)]
        assert first + second in str(functools.reduce(operator.add, chunks))
        if place == "citations of one":
            # It says nothing of which it is.
            assert out_of(GUARDS[action], chunks) == ([], "refused at content[0].citations[].index")
            continue
        guarded = ends_before_the_second(action, place, rule, chunks)
        assert first + second not in str(functools.reduce(operator.add, guarded)), first
    passes = [LANGCHAIN[place]("so "), LANGCHAIN[place]("far")]
    assert place == "citations of one" or out_of(GUARDS[action], passes) == (passes, None)


@pytest.mark.parametrize("action", GUARDS)
@pytest.mark.parametrize("place", OPENAI)
def test_what_openai_s_client_adds_up_has_no_match(place: str, action: str) -> None:
    def together(chunks: list[Any]) -> str:
        state: Any = ChatCompletionStreamState()
        for each in chunks:
            state.handle_chunk(ChatCompletionChunk.model_validate(each))
        return str(state.current_completion_snapshot)

    begin = delta(role="assistant", content="")
    for first, second, rule in PIECES:
        chunks = [begin, OPENAI[place](first), OPENAI[place](second)]
        assert first + second in together(chunks)
        guarded = ends_before_the_second(action, place, rule, chunks)
        assert first + second not in together(guarded), first
    passes = [begin, OPENAI[place]("so "), OPENAI[place]("far")]
    assert out_of(GUARDS[action], passes) == (passes, None)


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


def test_texts_that_come_again_and_again_take_no_longer_than_one() -> None:
    """Each is read on from where those before ended, so a server may repeat what it says of a stream in each chunk."""
    for chunks in (
        (langchain(content="a ", response_metadata={"model_name": "a-model-2024-08-06"}) for _ in range(5_000)),
        (delta(content="a ", context="abc", end_turn="no") for _ in range(9_000)),
        (delta(context="so " * 100) for _ in range(2_000)),
    ):
        given = list(chunks)
        assert list(ONE.stream(given)) == given


def test_a_match_in_many_texts_is_found_wherever_they_are_cut() -> None:
    """Also behind thousands before it, and where it ends with the last of them."""
    for secret, rule in (("DROP TABLE", "drop"), ("gh" + "p_0123456789abcdefghijABCDEFGHIJ012345", "github-token")):
        for size in (1, 2, 3, 7):
            pieces = ["so "] * 3_000 + [secret[at : at + size] for at in range(0, len(secret), size)]
            given = [langchain(response_metadata={"x": piece}) for piece in pieces]
            out, ending = out_of(GUARDS["stop"], given)
            assert ending == f"stopped by {rule} in response_metadata.x"
            # All but the last.
            assert out[:-2] == given[:-1]
            assert secret not in functools.reduce(operator.add, out[-100:]).response_metadata["x"]


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


def test_what_is_said_of_a_choice_is_one_in_each_chunk() -> None:
    """OpenAI's client adds up deltas alone."""
    given = [delta(content="a") for _ in range(30)]
    for each in given:
        each["choices"][0]["content_filter_results"] = {"hate": {"filtered": False, "severity": "safe"}}
    guard = Guard([Rule.literal("safesafe"), Rule.regex("[a-z]{40,}", action="redact")])
    for each in given:
        each["choices"][0]["delta"] = {"content": ". "}
    assert list(guard.stream(given)) == given
    given[1]["choices"][0]["content_filter_results"]["hate"]["severity"] = "DROP TABLE"
    assert "DROP" not in str(list(ONE.stream(given)))


def test_pieces_of_calls_go_on_by_their_ids() -> None:
    """A piece without an id is of the call that is the only one of its number; two ids are two calls."""

    def call(of: str | None, args: str) -> AIMessageChunk:
        piece = {"name": None, "args": args, "id": of, "index": 0, "type": "tool_call_chunk"}
        return langchain(tool_call_chunks=[piece])

    given = [call(None, "x "), call("a", "DR"), call("b", "OP TABLE")]
    assert [each["args"] for each in functools.reduce(operator.add, given).tool_call_chunks] == ["x DR", "OP TABLE"]
    stream = ONE.stream(given)
    out = functools.reduce(operator.add, [*stream])
    assert [each["args"] for each in out.tool_call_chunks] == ["x DR", "OP TABLE"]
    assert stream.stopped is None
    stream = ONE.stream([call(None, "x "), call("a", "DR"), call("a", "OP TABLE")])
    assert "OP" not in str(list(stream))
    assert stream.stopped is not None


def test_of_two_parts_of_one_number_in_a_block_nobody_knows_which_goes_on() -> None:
    part = {"type": "summary_text", "text": "a", "index": 0}
    given = langchain(content=[{"type": "reasoning", "summary": [part, part], "index": 0}])
    assert refused("guard.unknown_chunk", lambda: list(ONE.stream([given]))).field == "reasoning[0].summary[].index"


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
    of_openai = [delta(channel=piece) for piece in ("aba", "aba")]
    assert list(guard.stream(of_openai)) == of_openai
    # One that is another is put together with those before it, and of it again each is one.
    stream = Guard([Rule.literal("analysisfinal")]).stream([delta(channel=each) for each in ("analysis", "final")])
    assert len(list(stream)) == 3
    assert stream.stopped is not None
    several = [delta(channel=each) for each in ("analysis", "final", "final", "final")]
    assert list(Guard([Rule.literal("finalfinal")]).stream(several)) == several
    # In LangChain, once it was another, it is put together whatever it is.
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


# --- what is found by its number -----------------------------------------------------------------------------------


def of_openai_s_client(chunks: list[Any]) -> Any:
    state: Any = ChatCompletionStreamState()
    for each in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(each))
    return state.current_completion_snapshot


def adds_up(chunks: list[Any]) -> Any:
    together: dict[Any, Any] = {}
    for each in chunks:
        together = accumulate_delta(together, json.loads(json.dumps(each["choices"][0]["delta"])))
    return together


BEGIN = delta(role="assistant", content="")
APART = [
    ({"text": "DROP "}, {"index": 0, "text": "TABLE"}),
    ({"index": 5, "text": "DROP "}, {"index": 0, "text": "TABLE"}),
    ({"index": 0, "text": "DROP "}, {"index": -1, "text": "TABLE"}),
    ({"index": 0, "text": "DROP "}, {"index": False, "text": "TABLE"}),
]


@pytest.mark.parametrize(("first", "second"), APART)
def test_openai_s_client_finds_items_by_their_places(first: dict[str, Any], second: dict[str, Any]) -> None:
    """So one that has another number, or none, may be the same."""
    chunks = [BEGIN, delta(annotations=[first]), delta(annotations=[second])]
    assert "DROP TABLE" in str(of_openai_s_client(chunks))
    out: list[Any] = []
    with pytest.raises(dc.InvalidInput) as caught:
        out.extend(iter(ONE.stream(chunks)))
    assert (caught.value.code, caught.value.field) == ("guard.unknown_chunk", "annotations[].index")


@pytest.mark.parametrize("place", ["extra_content", "annotations"])
def test_what_goes_on_with_the_first_of_two_is_refused_of_openai_s_client_too(place: str) -> None:
    """It takes the first list within an object as it is, and puts together only what comes later."""
    first = [{"index": 0, "text": "DROP "}, {"index": 0, "text": "so "}]

    def at(items: Any) -> Any:
        return {"l": items} if place == "extra_content" else [{"index": 0, "l": items}]

    chunks = [BEGIN, delta(**{place: at(first)}), delta(**{place: at([{"index": 0, "text": "TABLE"}])})]
    assert "DROP TABLE" in str(adds_up(chunks))
    out, why = out_of(ONE, chunks)
    assert (out, why) == ([BEGIN], f"refused at {place}{'.' if place == 'extra_content' else '[0].'}l[].index")


def test_items_in_the_order_of_their_numbers_pass() -> None:
    """Whether the first is numbered 0 or not, and whatever has no number."""
    for numbers in ([0, 1, 0, 1], [3, 3, 3, 4], [None, None]):
        chunks = [delta(annotations=[{"index": each, "type": "a"}]) for each in numbers]
        assert list(ONE.stream(chunks)) == chunks


def a_call(index: Any, arguments: str, **about: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": about.pop("name")} if "name" in about else {})}
    return delta(tool_calls=[{"index": index, **about, "function": function}])


def test_openai_s_client_finds_calls_by_their_places() -> None:
    """What a number says of them that is of another call, below nothing or no number, is refused."""
    named = [a_call(1, "", name="DROP ", id="b", type="function"), a_call(True, "", name="TABLE")]
    chunks = [BEGIN, a_call(0, "", name="g", id="a", type="function"), *named]
    together = of_openai_s_client([json.loads(json.dumps(each)) for each in chunks])
    assert together.choices[0].message.tool_calls[1].function.name == "DROP TABLE"
    sparse = [BEGIN, a_call(1, "x DROP ", name="g", id="a", type="function"), a_call(0, "TABLE")]
    assert adds_up(sparse)["tool_calls"][0]["function"]["arguments"] == "x DROP TABLE"
    for each in (chunks, sparse, [BEGIN, a_call(-1, "x", name="g")], [BEGIN, a_call(1 << 70, "x", name="g")]):
        wire = [f"data: {json.dumps(one)}\n\n" for one in each]
        for source, sse in ((each, False), (wire, True)):
            with pytest.raises(dc.InvalidInput) as caught:
                list(ONE.stream(source, sse=sse))
            assert caught.value.field == "choices[].delta.tool_calls[].index"


def test_the_rest_of_a_call_does_not_go_on_with_another() -> None:
    """The first has the place of none, so the second is where the client looks for it."""
    first, second = a_call(1, "{} DR", name="f", id="a"), a_call(2, "OP TABLE", name="g", id="b")
    assert [*ONE.stream([first])][-1]["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] == "DR"
    with pytest.raises(dc.InvalidInput) as caught:
        list(ONE.stream([first, second]))
    assert caught.value.field == "choices[].delta.tool_calls[].index"


NO_NUMBERS: list[Any] = [True, False, -1, "DROP TABLE", 4111111111111111, {"x": "DROP TABLE"}, [1], 1.5]
NUMBERED: dict[str, Callable[[Any], Any]] = {
    "choice": lambda index: {"choices": [{"index": index, "delta": {"content": "a"}}]},
    "call": lambda index: a_call(index, "a"),
    "output": lambda index: {"request_id": "r", "outputs": [{"index": index, "text": "a", "token_ids": [1]}]},
    "block": lambda index: {"type": "content_block_start", "index": index, "content_block": {"type": "text"}},
    "item": lambda index: of_a_response("output_text.delta", output_index=index, content_index=0, delta="a"),
    "part": lambda index: of_a_response("output_text.delta", output_index=0, content_index=index, delta="a"),
    "ended part": lambda index: of_a_response("output_text.done", output_index=0, content_index=index, text="a"),
    "event": lambda index: {"type": "keepalive", "sequence_number": index},
    "event before": lambda index: {"type": "error", "message": "m", "sequence_number": index},
    "block of langchain": lambda index: langchain(content=[{"type": "text", "text": "a", "index": index}]),
    "empty block": lambda index: langchain(content=[{"type": "text", "text": "", "index": index}]),
    "block without text": lambda index: langchain(content=[{"type": "thinking", "thinking": None, "index": index}]),
    "block of a number": lambda index: langchain(content=[{"index": index}]),
    "whole block": lambda index: langchain(content=[{"type": "tool_use", "input": {}, "index": index}]),
    "summary": lambda index: langchain(content=[{"type": "reasoning", "summary": [summed(index)], "index": 0}]),
    "reasoning": lambda index: langchain(additional_kwargs={"reasoning": {"summary": [], "index": index}}),
    "call of langchain": lambda index: a_dict(tool_call_chunks=[{"index": index, "args": "a", "name": None}]),
    "empty call": lambda index: a_dict(tool_call_chunks=[{"index": index, "args": "", "name": None}]),
}


def of_a_response(kind: str, **about: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 0, **about}


def summed(index: Any) -> dict[str, Any]:
    return {"type": "summary_text", "text": "a", "index": index}


def a_dict(**about: Any) -> dict[str, Any]:
    return {"content": "", "additional_kwargs": {}, "tool_call_chunks": [], **about}


@pytest.mark.parametrize("number", NO_NUMBERS, ids=str)
@pytest.mark.parametrize("place", NUMBERED)
def test_what_is_no_number_of_an_item_is_refused(place: str, number: Any) -> None:
    """Nobody reads it, and `true` is 1 to some clients."""
    chunk = NUMBERED[place](number)
    with pytest.raises(dc.InvalidInput) as caught:
        list(ONE.stream([chunk]))
    assert caught.value.code == "guard.unknown_chunk"
    assert (caught.value.field or "").endswith(("index", "_number")), caught.value
    assert list(ONE.stream([NUMBERED[place](0)]))


def test_blocks_of_a_message_are_found_by_their_places() -> None:
    """The client has them in the order in which they began."""
    events = [begins(), started(5, "DROP "), started(0), said(0, "TABLE")]
    assert anthropic(events).content[0].text == "DROP TABLE"
    with pytest.raises(dc.InvalidInput) as caught:
        list(ONE.stream(events))
    assert caught.value.field == "index"

    def thought(kind: str, index: int, text: str) -> dict[str, Any]:
        if kind == "start":
            about = {"type": "thinking", "thinking": text, "signature": ""}
            return {"type": "content_block_start", "index": index, "content_block": about}
        about = {"type": "thinking_delta", "thinking": text}
        return {"type": "content_block_delta", "index": index, "delta": about}

    left_out = [begins(), thought("start", 1, ""), thought("start", 2, "DROP "), thought("delta", 1, "TABLE")]
    assert anthropic(left_out).content[1].thinking == "DROP TABLE"
    for events in (left_out, [thought("start", 1, ""), thought("start", 0, "")], [thought("start", 0, "")] * 2):
        with pytest.raises(dc.InvalidInput) as caught:
            list(ONE.stream(events))
        assert caught.value.field == "index"


def test_parts_of_an_item_are_found_by_their_places() -> None:
    """The client has them in the order in which they were added."""

    def part(number: int, text: str) -> dict[str, Any]:
        value = {"type": "output_text", "text": text, "annotations": []}
        return of_a_response("content_part.added", output_index=0, content_index=number, part=value)

    def added(*texts: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
        return of_a_response("output_item.added", output_index=0, item={"type": "message", "content": content})

    def goes_on(number: int, text: str) -> dict[str, Any]:
        return of_a_response("output_text.delta", output_index=0, content_index=number, delta=text)

    for events in (
        [part(1, "DROP "), goes_on(0, "TABLE")],
        [part(0, "a"), part(0, "DROP "), goes_on(1, "TABLE")],
        [added("a"), part(0, "DROP "), goes_on(1, "TABLE")],
    ):
        with pytest.raises(dc.InvalidInput) as caught:
            list(ONE.stream(events))
        assert caught.value.field == "content_index"
    for passes in ([part(0, "a"), goes_on(0, "b"), part(1, "c"), goes_on(1, "d")], [added("a"), goes_on(0, "b")]):
        assert list(ONE.stream(passes)) == passes


def test_text_goes_on_in_a_block_that_began() -> None:
    """In which text it goes on otherwise, and behind which, nobody knows."""
    stop = {"type": "content_block_stop", "index": 0}
    for events in (
        [said(0, "DROP "), said(1, "TABLE")],
        [started(0), said(0, "DROP "), said(1, "TABLE")],
        [started(0), said(0, "DROP "), stop, said(1, "TABLE")],
    ):
        out: list[Any] = []
        with pytest.raises(dc.InvalidInput) as caught:
            out.extend(iter(ONE.stream(events)))
        assert caught.value.field == "index"
        assert "TABLE" not in str(out)
        assert "DROP" not in str(out)


# --- LangChain -----------------------------------------------------------------------------------------------------

TOGETHER: dict[str, Callable[[str], Any]] = {
    "additional_kwargs": lambda piece: langchain(additional_kwargs={"tool_outputs": [{"index": "lc_1", "x": piece}]}),
    "results": lambda piece: block(type="web_search_call", results=[{"index": "lc_1", "title": piece}]),
    "block": lambda piece: langchain(content=[{"type": "thinking", "thinking": piece, "index": "lc_1"}]),
}
NAMED = {
    "additional_kwargs": "tool_outputs[lc_1].x",
    "results": "content[0].results[lc_1].title",
    "block": "reasoning[lc_1]",
}


@pytest.mark.parametrize("place", TOGETHER)
def test_langchain_s_own_names_are_numbers(place: str) -> None:
    chunks = [TOGETHER[place]("DROP "), TOGETHER[place]("TABLE")]
    assert "DROP TABLE" in str(functools.reduce(operator.add, chunks))
    out, ending = out_of(ONE, chunks)
    assert ending == f"stopped by drop in {NAMED[place]}"
    assert "TABLE" not in str(out)
    # What comes in pieces is held, and what comes whole is not.
    assert (out[0] == chunks[0]) == (place != "block")
    assert len(out) == 3
    passes = [TOGETHER[place]("so "), TOGETHER[place]("far")]
    assert out_of(ONE, passes) == (passes, None)


KINDS = [
    ({"type": "refusal", "text": "DROP "}, {"type": "text", "text": "TABLE"}),
    ({"type": "server_tool_call", "args": "x DROP "}, {"type": "server_tool_call_chunk", "args": "TABLE"}),
    ({"type": "mcp_call", "arguments": "x DROP "}, {"type": "function_call", "arguments": "TABLE"}),
    ({"type": "thinking", "thinking": "DROP ", "id": "a"}, {"type": "tool_use", "thinking": "TABLE"}),
]


@pytest.mark.parametrize(("first", "second"), KINDS)
def test_blocks_of_two_kinds_are_one_to_langchain(first: dict[str, Any], second: dict[str, Any]) -> None:
    """By their number alone, so what they share is one text."""
    chunks = [block(**first), block(**second)]
    assert "DROP TABLE" in str(functools.reduce(operator.add, chunks))
    out, ending = out_of(ONE, chunks)
    assert ending == "refused at content[].type"
    # The first came out; where it is a piece nothing of it did that was held.
    assert len(out) == 1
    assert (out == chunks[:1], "DROP" in str(out)) == ((False, False) if first["type"] == "thinking" else (True, True))
    # What goes on with what another kind began is known.
    passes = [block(type="tool_use", id="t", name="f", input={}), block(type="input_json_delta", partial_json="{}")]
    assert list(ONE.stream(passes)) == passes


def test_what_goes_on_with_the_first_of_two_is_refused() -> None:
    """LangChain takes the first list as it is, and each later one together with the first of its number."""
    same = [{"index": 1, "x": "DROP "}, {"index": 1, "x": "so "}]
    first = langchain(additional_kwargs={"tool_outputs": same})
    second = langchain(additional_kwargs={"tool_outputs": [{"index": 1, "x": "TABLE"}]})
    assert "DROP TABLE" in str(first + second)
    assert out_of(ONE, [first, second]) == ([], "refused at tool_outputs[].index")
    two = [{"name": None, "args": args, "id": None, "index": 0} for args in ("DROP ", "so ")]
    first = langchain(tool_call_chunks=two)
    second = langchain(tool_call_chunks=[{**two[0], "args": "TABLE"}])
    assert "DROP TABLE" in str(first + second)
    assert out_of(ONE, [first, second]) == ([], "refused at tool_call_chunks[].index")
    # One without an id goes on with any of its number.
    for ids in (("a", None), (None, "a"), ("a", "")):
        named = [{**two[0], "args": f"DROP {own_id}", "id": own_id} for own_id in ids]
        assert out_of(ONE, [langchain(tool_call_chunks=named)]) == ([], "refused at tool_call_chunks[].index")
    # Behind another chunk it puts them together as they come.
    both = [langchain(), langchain(tool_call_chunks=two)]
    assert functools.reduce(operator.add, both).tool_call_chunks[0]["args"] == "DROP so "
    assert list(ONE.stream(both))[:1] == both[:1]
    ids = [{"index": 1, "x": "so ", "id": "a"}, {"index": 1, "x": "DROP ", "id": "b"}]
    parts = [langchain(additional_kwargs={"tool_outputs": [each]}) for each in ids]
    parts.append(langchain(additional_kwargs={"tool_outputs": [{"index": 1, "x": "TABLE", "id": "b"}]}))
    assert "DROP TABLE" in str(functools.reduce(operator.add, parts))
    assert out_of(ONE, parts) == (parts[:1], "refused at tool_outputs[].index")


def test_calls_of_one_number_with_two_ids_are_two() -> None:
    """As where a service numbers the calls of each chunk anew: each is a text of its own."""

    def called(text: str | None, own_id: str | None, name: str | None = None, index: int = 0) -> Any:
        return langchain(tool_call_chunks=[{"name": name, "args": text, "id": own_id, "index": index}])

    chunks = [called('{"q": "DROP ', "a", "f"), called('TABLE"}', "b", "g")]
    assert [each["args"] for each in (chunks[0] + chunks[1]).tool_call_chunks] == ['{"q": "DROP ', 'TABLE"}']
    stream = ONE.stream(chunks)
    together = functools.reduce(operator.add, stream)
    assert [(each["id"], each["args"]) for each in together.tool_call_chunks] == [
        ("a", '{"q": "DROP '),
        ("b", 'TABLE"}'),
    ]
    assert stream.stopped is None
    # What is held of the second comes out as its own.
    held = functools.reduce(operator.add, ONE.stream([called("{}", "a", "f"), called('{"q": "DR', "b", "g")]))
    assert [(each["id"], each["args"]) for each in held.tool_call_chunks] == [("a", "{}"), ("b", '{"q": "DR')]
    # And so does what is held of both.
    for last in ([], [langchain(chunk_position="last")]):
        given = [called('{"q": "DR', "a", "f"), called('{"q": "DROP', "b", "g"), *last]
        held = functools.reduce(operator.add, ONE.stream(given))
        assert [(each["id"], each["args"]) for each in held.tool_call_chunks] == [
            ("a", '{"q": "DR'),
            ("b", '{"q": "DROP'),
        ]
    # In a chunk with several pieces it comes behind the last of them.
    for own_id in ("a", None):
        last = langchain(
            tool_call_chunks=[{"name": None, "args": args, "id": own_id, "index": 0} for args in ("1234", " and 5678")],
            chunk_position="last",
        )
        digits = Guard([Rule.regex("[0-9]{8}", name="digits")])
        held = functools.reduce(operator.add, digits.stream([called("{}", "a", "f"), last]))
        assert [each["args"] for each in held.tool_call_chunks] == ["{}1234 and 5678"]
    # One that does not say which of them it is of goes on with the first, or with what a client has of them.
    with pytest.raises(dc.InvalidInput) as caught:
        list(ONE.stream([*chunks, called("x", None)]))
    assert caught.value.field == "tool_call_chunks[].id"


def test_a_command_in_pieces_is_read_as_it_is_joined() -> None:
    """Clients put the words of each chunk behind those before."""

    for words in (["rm", "-rf", "/"], ["sudo", "rm", "-rf", "/"]):
        for cut in range(1, len(words)):
            parts = (words[:cut], words[cut:])
            chunks: list[Any] = [delta(extra_content={"command": part}) for part in parts]
            assert adds_up(chunks)["extra_content"]["command"] == words
            stream = SHELL.stream(chunks)
            out = list(stream)
            assert stream.stopped is not None
            assert "-rf" not in str(out) or "/'" not in str(out)
            of_langchain = [block(type="server_tool_call", args={"command": part}) for part in parts]
            assert functools.reduce(operator.add, of_langchain).content[0]["args"]["command"] == words
            own = SHELL.stream(of_langchain)
            out = list(own)
            assert own.stopped is not None
            assert "-rf" not in str(out) or "/'" not in str(out)
    # Those of items without a number are others.
    each_whole = [delta(annotations=[{"command": [word]}]) for word in ("rm", "-rf", "/")]
    assert list(SHELL.stream(each_whole)) == each_whole


def written(contents: list[Any]) -> list[AIMessageChunk]:
    return [langchain(content=each) for each in contents]


def of_text(piece: str, index: Any = None, **about: Any) -> dict[str, Any]:
    return {"type": "text", "text": piece, **about} | ({} if index is None else {"index": index})


BACK: dict[str, list[Any]] = {
    "to a block that began empty": [[of_text("", 0)], [of_text("OP TABLE", 1)], [of_text("DR", 0)]],
    "to one before a plain text": [[of_text("", 0)], "OP TABLE", [of_text("DR", 0)]],
    "to one before a block without a number": [[of_text("", 0)], [of_text("OP TABLE")], [of_text("DR", 0)]],
    "in one list": [[of_text("", 0), of_text("OP TABLE", 1)], [of_text("DR", 0)]],
}
OF_ANOTHER_KIND: dict[str, list[Any]] = {
    "reasoning": [
        [of_text("DROP")],
        [of_text("x"), {"type": "reasoning", "reasoning": "hm", "index": 0}],
        [of_text("y", 0), of_text(" TABLE", 1)],
    ],
    "none": [[of_text("DROP")], [{"index": 0}], [of_text("x", 0), of_text(" TABLE", 1)]],
}


@pytest.mark.parametrize("case", BACK)
def test_a_text_before_the_last_is_refused_however_its_block_began(case: str) -> None:
    """LangChain joins texts as their blocks stand, and a block stands where it first came."""
    assert functools.reduce(operator.add, written(BACK[case])).text == "DROP TABLE"
    with pytest.raises(dc.InvalidInput) as caught:
        list(ONE.stream(written(BACK[case])))
    assert caught.value.field == "content[].index"


@pytest.mark.parametrize("case", OF_ANOTHER_KIND)
def test_a_text_under_the_number_of_another_kind_is_refused(case: str) -> None:
    """The text of the message leaves it out, and what was held before it would stand there."""
    with pytest.raises(dc.InvalidInput) as caught:
        list(ONE.stream(written(OF_ANOTHER_KIND[case])))
    assert caught.value.field == "content[].type"


def test_blocks_that_begin_empty_are_texts_like_others() -> None:
    given = written([[of_text("", 0)], [of_text("a ", 0)], [of_text("", 1)], [of_text("b", 1)], [of_text("", 0)], "c"])
    assert functools.reduce(operator.add, ONE.stream(given)).text == "a bc"


OTHERS: list[dict[str, Any]] = [
    {"type": "text"},
    {"type": "thinking", "thinking": ""},
    {"type": "thinking", "thinking": "", "signature": "s"},
    {"type": "reasoning", "reasoning": ""},
    {"type": "reasoning_content", "reasoning_content": {"text": ""}},
    {"type": "thinking", "thinking": [{"type": "text", "text": "", "index": 0}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "", "index": 0}]},
    {"type": "tool_use", "id": "t", "name": "f"},
    {"type": "input_json_delta", "partial_json": ""},
    {},
]


def any_block(drawn: random.Random) -> Any:
    """A block or a string, most of them of text."""
    piece, number = drawn.choice(["", "", "DR", "OP TABLE"]), drawn.choice([None, 0, 0, 1])
    about = drawn.choice([of_text(""), of_text(""), of_text("", extras={"signature": "s"}), drawn.choice(OTHERS)])
    made = json.loads(json.dumps(about).replace('""', json.dumps(piece)))
    if number is None:
        return made if made and drawn.random() < 0.5 else piece
    return {**made, "index": number}


@pytest.mark.parametrize("seed", range(4))
def test_no_text_of_what_langchain_adds_up_has_a_match(seed: int) -> None:
    """Whatever blocks it came in, and wherever what was held came out: all of it does where nothing ends it before."""
    drawn = random.Random(seed)
    endings: Counter[str | None] = Counter()
    for _ in range(1_000):
        contents = [[any_block(drawn) for _ in range(drawn.choice([1, 1, 2]))] for _ in range(drawn.randint(2, 4))]
        flat = [each[0] if len(each) == 1 and isinstance(each[0], str) else each for each in contents]
        endings[has_no_match(written(flat) + [langchain(chunk_position="last")] * drawn.randint(0, 1))] += 1
    # Half of them pass, and most of the others are those that nobody can put together.
    assert endings.keys() == {None, "stopped", "refused at content[].index", "refused at content[].type"}
    assert endings[None] > 400
    assert endings["stopped"] > 50


def whole_of(chunks: list[Any]) -> Any:
    """What LangChain makes of them; nothing where it cannot."""
    try:
        return functools.reduce(operator.add, chunks)
    except TypeError:
        return None


def has_no_match(given: list[Any]) -> str | None:
    """How it ended. Neither the text nor a block has a match; without an end before its own all of the text is out."""
    out, ending = out_of(ONE, given)
    whole, before = whole_of(out) if out else None, whole_of(given)
    blocks = [] if whole is None else [whole.content] if isinstance(whole.content, str) else whole.content
    texts = [each for block in blocks for each in ([block] if isinstance(block, str) else map(str, block.values()))]
    assert not [each for each in ("" if whole is None else whole.text, *texts) if "DROP TABLE" in each], given
    if before is not None and ending is None:
        assert whole is not None, given
        assert whole.text == before.text, given
    elif before is not None and ending is not None and ending.startswith("stopped"):
        assert "DROP TABLE" in before.text or "DROP TABLE" in str(before.content), given
        assert whole is None or before.text.startswith(whole.text), given
    return ending.partition(" by ")[0] if ending else None


SIGNATURE = {"extras": {"signature": "s"}}
SIGNED: list[tuple[list[Any], list[Any]]] = [
    (
        [[{"type": "thinking", "thinking": "a D"}], [{"type": "thinking", "thinking": "RO", "signature": "s"}], "b"],
        [{"type": "thinking", "thinking": "a "}, {"type": "thinking", "thinking": "DRO", "signature": "s"}, "b"],
    ),
    (
        [[{"type": "reasoning", "reasoning": "DR", **SIGNATURE}, {"type": "reasoning", "reasoning": "b"}]],
        [{"type": "reasoning", "reasoning": "DR", **SIGNATURE}, {"type": "reasoning", "reasoning": "b"}],
    ),
    ([[of_text("DR", **SIGNATURE)]], [of_text("DR", **SIGNATURE)]),
    ([[of_text("a DR", **SIGNATURE)], "b"], [of_text("a "), of_text("DR", **SIGNATURE), "b"]),
    ([["D"], [of_text("R", **SIGNATURE)], [of_text("b")]], ["", of_text("DR", **SIGNATURE), of_text("b")]),
    (
        [[of_text("D", **SIGNATURE)], [of_text("R", extras={"signature": "t"})], "OP "],
        [of_text("D", **SIGNATURE), of_text("R", extras={"signature": "t"}), "OP "],
    ),
    ([[of_text("DR"), of_text("", **SIGNATURE)]], [of_text(""), of_text("", **SIGNATURE), of_text("DR")]),
    ([[{"type": "thinking", "signature": "s"}], "b"], [{"type": "thinking", "signature": "s"}, "b"]),
    ([[of_text("DR", id="i", **SIGNATURE)], "b"], [of_text("", id="i"), of_text("DR", **SIGNATURE), "b"]),
    ([[of_text("DR", **SIGNATURE)], [of_text("b", 0)]], [of_text("", **SIGNATURE), of_text("DRb", 0)]),
    # What comes out of it in two parts, and nothing of it is replaced.
    ([[of_text("AAA", **SIGNATURE)], "A", "C"], ["A", of_text("AA", **SIGNATURE), "AC"]),
    ([[of_text("AAA", **SIGNATURE)], "A", "A", "C"], ["AA", of_text("A", **SIGNATURE), "AAC"]),
    ([[of_text("078-05-1120", **SIGNATURE)], "-"], [of_text("078-05-1120", **SIGNATURE), "-"]),
    ([[of_text("078-05-1120", **SIGNATURE)], " b"], [of_text("[redacted] b", **SIGNATURE)]),
]


@pytest.mark.parametrize(("contents", "wanted"), SIGNED)
@pytest.mark.parametrize("ends", [True, False])
def test_a_signature_comes_out_with_the_text_that_it_is_of(contents: list[Any], wanted: list[Any], ends: bool) -> None:
    ssn = Rule.regex(r"\b\d{3}-\d{2}-\d{4}(?![-\d])", action="redact", name="ssn")
    guard = Guard([DROP, ssn, Rule.literal("AAAB")])
    stream = guard.stream(written(contents) + [langchain(content="", chunk_position="last")] * ends)
    whole = functools.reduce(operator.add, [langchain(content=[]), *stream])
    said = [block for block in whole.content if block not in ("", of_text(""))]
    assert said == [block for block in wanted if block not in ("", of_text(""))]
    assert stream.stopped is None


def test_what_is_signed_and_what_comes_behind_it_are_one_text() -> None:
    stream = ONE.stream(written([[of_text("a DR", **SIGNATURE)], [of_text("OP ", **SIGNATURE)], "TABLE"]))
    whole = functools.reduce(operator.add, stream)
    assert whole.text == "a "
    assert stream.stopped is not None
    assert "signature" not in str(whole)


def test_arguments_that_are_no_document_go_on() -> None:
    """Each is read as it is written, too, and by a cursor of its own."""
    channels = Channels(Guard([Rule.literal("DROP")]).cursor)
    for text in ("not json ", "b ", "c ", "DR"):
        assert channels.read_document(0, "args", text, added=True) == text
    assert channels.read_document(0, "args", "OP", added=True) == ""
    assert channels.stopped is not None


def test_a_text_behind_a_block_that_is_held_is_not_lost() -> None:
    """LangChain drops texts behind empty lists, and a block of which nothing comes out yet leaves one."""
    guard = Guard([Rule.literal("AAAB")])
    for contents in ([[of_text("AA")], "A", "A"], [[of_text("AAA")], "AC"], [[of_text("A", 0)], [], "b"]):
        given = [langchain(content=each) for each in contents]
        whole = functools.reduce(operator.add, guard.stream([*given, langchain(content="", chunk_position="last")]))
        assert whole.text == functools.reduce(operator.add, given).text
    stream = guard.stream([langchain(content=[of_text("AAA")]), langchain(content="B")], notice="ended")
    assert functools.reduce(operator.add, stream).text == "ended"


@pytest.mark.parametrize("between", [[], [""], [[], ""]])
def test_a_text_that_langchain_drops_is_refused(between: list[Any]) -> None:
    """Behind contents that are empty lists it drops texts until a block comes, so they would stand before nothing."""
    guard = Guard([Rule.regex(r"\bDROP TABLE", name="drop")])
    block = [{"type": "text", "text": "DROP TABLE x"}]
    chunks = [AIMessageChunk(content=each) for each in ([], *between, "a", block)]
    assert "aDROP" not in str(functools.reduce(operator.add, chunks).text)
    with pytest.raises(dc.InvalidInput) as error:
        list(guard.stream(chunks))
    assert error.value.details["field"] == "content"
    # Behind a block it is none.
    chunks = [AIMessageChunk(content=each) for each in ([], [{"type": "text", "text": "a "}], "b", "", "c")]
    assert functools.reduce(operator.add, guard.stream(chunks)).text == "a bc"


def test_what_a_client_is_told_behind_empty_lists_is_there() -> None:
    guard = Guard([Rule.literal("DROP TABLE")])
    call = {"name": "f", "args": '{"a": "DROP TABLE', "index": 0, "id": "x"}
    chunks = [AIMessageChunk(content=[]), AIMessageChunk(content=[], tool_call_chunks=[call])]
    assert functools.reduce(operator.add, guard.stream(chunks, notice="[ended]")).text == "[ended]"


def test_the_pieces_of_a_call_that_stand_in_the_content_too_are_pieces() -> None:
    """As langchain-aws has them."""
    guard = Guard([*rule_set("email"), Rule.literal("DROP TABLE")])

    def piece(args: str) -> AIMessageChunk:
        call = {"name": None, "args": args, "index": 1, "id": None, "type": "tool_call_chunk"}
        return AIMessageChunk(content=[{"type": "tool_use", "input": args, "index": 1}], tool_call_chunks=[call])

    head = {"name": "send", "args": None, "index": 1, "id": "t", "type": "tool_call_chunk"}
    block = {"type": "tool_use", "id": "t", "name": "send", "index": 1}
    first = AIMessageChunk(content=[block], tool_call_chunks=[head])
    last = AIMessageChunk(content=[], chunk_position="last")
    chunks = [first, piece('{"to": "ada'), piece('@example.com"}'), last]
    whole = functools.reduce(operator.add, guard.stream(chunks))
    assert [call["args"] for call in whole.tool_calls] == [{"to": "[redacted]"}]
    assert [each["input"] for each in whole.content] == ['{"to": "[redacted]"}']
    stream = guard.stream([first, piece('{"to": "DROP'), piece(' TABLE"}'), last])
    assert "TABLE" not in str(functools.reduce(operator.add, stream))
    assert stream.stopped is not None


# --- what one client makes of all chunks --------------------------------------------------------------------------


def of_openai_s_helper(chunks: Iterable[Any]) -> Any:
    state: Any = ChatCompletionStreamState()
    for each in chunks:
        state.handle_chunk(each if isinstance(each, ChatCompletionChunk) else ChatCompletionChunk.model_validate(each))
    return state.current_completion_snapshot.choices[0].message


def test_a_call_whose_rest_comes_last_is_one_to_openai_s_helper() -> None:
    """With dictionaries and with objects, where the call came in one piece."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"q": "DR"} DR'}}
    ends = delta()
    ends["choices"][0]["finish_reason"] = "tool_calls"
    given = [delta(role="assistant", tool_calls=[call]), ends]
    for each in (given, [ChatCompletionChunk.model_validate(chunk) for chunk in given]):
        (made,) = of_openai_s_helper(ONE.stream(each)).tool_calls
        assert (made.id, made.type, made.function.name) == ("c", "function", "f")
        assert made.function.arguments == '{"q": "DR"} DR'


def test_a_name_in_pieces_has_no_match() -> None:
    """Also where two of them are alike; what is a name in each chunk anew is one."""
    guard = Guard(rule_set("cards", action="stop"))
    stream = guard.stream(
        [delta(role="assistant"), *(delta(name=each) for each in ("4111 ", "1111 ", "1111 ", "1111"))]
    )
    assert "4111 1111 1111 1111" not in str(of_openai_s_helper(stream))
    assert stream.stopped is not None
    same = [delta(content="a", name="Some AI", channel="final")] * 3
    assert list(guard.stream(same)) == same


def test_numbers_that_clients_add_up_have_no_match() -> None:
    guard = Guard(rule_set("cards", action="stop"))
    parts = [delta(annotations=[{"index": 0, "type": "a", "n": each}]) for each in (4 * 10**15, 111111111111111)]
    stream = guard.stream([delta(role="assistant"), *parts])
    assert "4111111111111111" not in str(of_openai_s_helper(stream))
    assert stream.stopped is not None
    counted = [delta(annotations=[{"index": 0, "type": "a", "n": each}]) for each in (1, 0, 4)]
    assert list(guard.stream(counted)) == counted
    # It adds up what is true, too, and fractions.
    lot = Guard([Rule.literal("12345")])
    for numbers in ([True, 12344], [0.5, 12344.5], [0.25, 0.75, 12344]):
        stream = lot.stream([delta(role="assistant"), *(delta(context={"lot": each}) for each in numbers)])
        assert "12345" not in str(of_openai_s_helper(stream))
        assert stream.stopped is not None


def test_numbers_and_texts_of_a_call_are_what_langchain_makes_of_them() -> None:
    """What is the same again it has once, and what a model calls an index is a text like any other."""

    def tool(**given: Any) -> AIMessageChunk:
        return block(type="server_tool_use", input=given)

    for chunks in (
        [tool(n=5), tool(n=5), tool(n=12340)],
        [block(type="text", text="", citations=[{"index": 0, "page": each}]) for each in (5, 5, 12340)],
        [tool(index="12"), tool(index="345")],
        [langchain(response_metadata={"index": each}) for each in ("12", "345")],
    ):
        assert "12345" in str(functools.reduce(operator.add, chunks))
        stream = Guard([Rule.literal("12345")]).stream(chunks)
        assert "12345" not in str(functools.reduce(operator.add, stream))
        assert stream.stopped is not None
    same = [tool(n=5), tool(n=5)]
    assert list(Guard([Rule.literal("10")]).stream(same)) == same


@pytest.mark.parametrize(
    "chunk",
    [lambda piece: delta(context=piece), lambda piece: langchain(response_metadata={"x": piece})],
    ids=["chat", "langchain"],
)
def test_what_is_recorded_over_texts_that_come_whole_is_told(chunk: Any) -> None:
    guard = Guard([Rule.literal("DROP TABLE", action="record", name="drop"), Rule.literal("so", action="record")])
    stream = guard.stream(list(map(chunk, ("so DR", "OP TA", "BLE so"))))
    assert len(list(stream)) == 3
    told = sorted((match.start, match.end, match.rule) for match in stream.matches)
    assert told == [(0, 2, "so"), (3, 13, "drop"), (4, 6, "so")]


def test_places_of_names_with_dots_are_their_own() -> None:
    """A model chooses names: what clients put together at one place is not read with what they have at another."""

    def at(value: Any) -> Any:
        return delta(context=value)

    texts = [{"a.b": "DROP "}, {"a": {"b": "so "}}, {"a.b": "TABLE"}]
    in_lists = [{"a": [{"index": 0, "t": "DROP "}]}, {"a[0]": {"t": "so "}}, {"a": [{"index": 0, "t": "TABLE"}]}]
    escaped = [{"a%2Eb": "DROP "}, {"a.b": "so "}, {"a%2Eb": "TABLE"}]
    for values in (texts, in_lists, escaped):
        for make in (at, lambda value: langchain(response_metadata=value)):
            chunks = [BEGIN, *map(at, values)] if make is at else [make(value) for value in values]
            out, why = out_of(ONE, chunks)
            assert why is not None
            assert why.startswith("stopped by drop"), (values, why)
            assert "TABLE" not in str(out)
    numbers = Guard([Rule.regex(r"\b12345\b", name="pin")])
    stream = numbers.stream([at({"a.b": 12340}), at({"a": {"b": 1}}), at({"a.b": 5})])
    assert "5}" not in str(list(stream))
    assert stream.stopped is not None


def test_what_langchain_puts_elsewhere_is_refused() -> None:
    """An item of no standard goes on with what another has beside its text."""

    def at(**item: Any) -> Any:
        return langchain(response_metadata={"c": [{"index": 0, **item}]})

    chunks = [at(type="t", extras={"x": "DROP "}), at(type="non_standard", value={"x": "TABLE"})]
    assert "DROP TABLE" in str(chunks[0] + chunks[1])
    assert out_of(ONE, chunks) == (chunks[:1], "refused at response_metadata.c[].type")
    # To it an id that is no text is another.
    chunks = [at(id=0, x="DROP "), at(id="a", x="so "), at(id=0, x="TABLE")]
    assert "DROP TABLE" in str(functools.reduce(operator.add, chunks))
    assert out_of(ONE, chunks) == (chunks[:1], "refused at response_metadata.c[].index")
    assert out_of(ONE, [at(id=1.5, x="so")]) == ([], "refused at response_metadata.c[].id")
    assert list(ONE.stream([at(id=5, x="so")])) == [at(id=5, x="so")]
    # Of which 0 is one.
    chunks = [at(id=0, x="so "), at(x="DROP "), at(id="b", x="TABLE")]
    assert out_of(ONE, chunks) == (chunks[:2], "refused at response_metadata.c[].index")
    behind = Guard([Rule.regex(r"\bDROP TABLE", name="drop")])
    chunks = [at(id=5, x="so"), at(id="5", x="DROP "), at(id="5", x="TABLE")]
    assert "DROP TABLE" in str(functools.reduce(operator.add, chunks))
    assert out_of(behind, chunks) == (chunks[:1], "refused at response_metadata.c[].index")
    # What an item has no id of its own in is of the one before.
    chunks = [at(id="a", x="so "), at(x="DROP "), at(id="b", x="TABLE")]
    assert out_of(ONE, chunks) == (chunks[:2], "refused at response_metadata.c[].index")
    # A name of its own is added to what was none.
    names = Guard([Rule.regex(r"k-\w{10}", name="key")])
    chunks = [langchain(response_metadata={"c": {"index": index}}) for index in ("k-", "lc_secretva")]
    assert "k-lc_secretva" in str(chunks[0] + chunks[1])
    assert out_of(names, chunks)[1] == "stopped by key in response_metadata.c.index"


@pytest.mark.parametrize("details", [{"cache_read": 0}, {"audio": 3}, {}])
def test_what_langchain_adds_up_of_what_was_used_is_read(details: dict[str, int]) -> None:
    """Equal numbers, too; and behind a stop it takes what is left."""
    used = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "input_token_details": details}
    half = 2_000_000_000_000_000 + 28_000_000_000_001
    cards = Guard(rule_set("cards", action="stop"))
    chunks = [langchain(content="a ", usage_metadata={**used, "input_token_details": {"x": half}})] * 2
    total = str(2 * half)
    assert total in str((chunks[0] + chunks[1]).usage_metadata)
    found = Guard([Rule.literal(total, name="found")])
    out = list(found.stream(chunks))
    assert total not in str(functools.reduce(operator.add, out))
    assert out[-1].response_metadata == {"finish_reason": "content_filter"}
    # However many it takes.
    many = [langchain(usage_metadata={**used, "input_tokens": 1_999_999_999_999})] * 2_055
    rest = 4_111_111_111_111_111 - 2_055 * 1_999_999_999_999
    many.append(langchain(usage_metadata={**used, "input_tokens": rest}))
    assert str(functools.reduce(operator.add, many).usage_metadata["input_tokens"]) == "4111111111111111"
    assert out_of(cards, many)[1] == "stopped by payment-card in usage_metadata.input_tokens"
    # What is said before a match comes out, with what it took.
    stopped = [langchain(content=text, usage_metadata=used) for text in ("hello ", "more DROP TABLE")]
    whole = functools.reduce(operator.add, ONE.stream(stopped))
    assert whole.content == "hello more "
    assert whole.usage_metadata["total_tokens"] == 10


def test_times_are_no_sums_to_langchain() -> None:
    chunks = [langchain(response_metadata={"timestamp": time, "created": time}) for time in (1764439200, 1764439201)]
    assert (chunks[0] + chunks[1]).response_metadata == {"timestamp": 1764439201, "created": 1764439201}
    guard = Guard([Rule.literal(str(1764439200 + 1764439201))])
    assert list(guard.stream(chunks)) == chunks
    # To OpenAI's client they are.
    chunks = [delta(context={"timestamp": time}) for time in (1764439200, 1764439201)]
    assert out_of(guard, chunks)[1] is not None


def test_what_a_model_or_an_error_counts_is_a_number_like_any_other() -> None:
    """Nothing there is a service's, whatever its name."""
    guard = Guard([Rule.literal("4242", name="found")])
    for name in ("user_index", "retry_ms", "created", "id"):
        for make in (
            lambda value, name=name: block(type="tool_use", id="t", input={name: value}),
            lambda value, name=name: langchain(additional_kwargs={"error": {name: value}}),
            lambda value, name=name: delta(context={"input": {name: value}}),
            lambda value, name=name: delta(error={name: value}),
            lambda value, name=name: delta(tool_calls=[{"index": 0, "error": {name: value}}]),
        ):
            chunks = [make(4000), make(242)]
            if name == "created" and isinstance(chunks[0], AIMessageChunk):
                # LangChain has the last.
                continue
            assert (out_of(guard, chunks)[1] or "").startswith("stopped by found"), (name, chunks)


def test_a_sum_is_known_whatever_it_began_with() -> None:
    """A count that goes on with what is none, and one of which there are too many to know all."""

    def at(value: int) -> Any:
        return langchain(response_metadata={"a": {"x_ms": value}})

    guard = Guard([Rule.literal("4111111111111111", name="found")])
    for numbers in ((4111111111111000, 111), (111, 4111111111111000)):
        assert out_of(guard, list(map(at, numbers)))[1] == "stopped by found in response_metadata.a.x_ms"
    items = [{"index": number, "a_index": 1, "b_index": 2} for number in range(9_000)]
    many = langchain(response_metadata={"c": items})
    guard = Guard([Rule.literal("4000000000242", name="found")])
    refused("guard.too_large", lambda: list(guard.stream([many, at(242), at(4 * 10**12)])))
    # What is not known of any is together less than what is no count.
    full = langchain(response_metadata={"c": items[: MOST_ADDED // 2]})
    known = [full, at(10**12), at(1 - 10**12), at(0)]
    assert list(guard.stream(known)) == known
    for one in (1, -1):
        refused("guard.too_large", lambda one=one: list(guard.stream([*known, at(one)])))


def test_so_many_numbers_that_are_no_counts_are_known() -> None:
    """Beside as many counts: the sum of each is read."""

    def numbers(many: int, **more: float) -> Any:
        items = [{"index": number, "score": 0.5, "rank": 0.25} for number in range(many // 2)]
        return langchain(response_metadata={"c": items, **more})

    items = [{"index": number, "a_ms": 1, "b_ms": 2} for number in range(MOST_ADDED // 2 - 1)]
    counts = langchain(response_metadata={"d": items})
    most = [numbers(MOST_ADDED), counts]
    assert list(ONE.stream(most)) == most
    refused("guard.too_large", lambda: list(ONE.stream([numbers(MOST_ADDED), langchain(response_metadata={"x": 0.5})])))
    guard = Guard([Rule.literal("4242", name="found")])
    chunks = [counts, numbers(MOST_ADDED - 2, x=4000), langchain(response_metadata={"x": 242})]
    assert out_of(guard, chunks)[1] == "stopped by found in response_metadata.x"


def test_so_many_counts_as_there_are_take_no_room_of_texts() -> None:
    """As where each of many results says where it stands."""
    found = [
        {"index": number, "type": "a", "start_index": number, "end_index": number + 5, "page_index": 3}
        for number in range(9_000)
    ]
    chunks = [langchain(content=[{"type": "text", "text": "a", "index": 0, "citations": found}])]
    assert list(ONE.stream(chunks)) == chunks


def test_sums_of_fractions_that_a_model_wrote_are_read() -> None:
    guard = Guard([Rule.literal("3.14", name="pi")])
    chunks = [BEGIN, *(delta(context={"arguments": {"x": 1.57}}) for _ in range(2))]
    assert adds_up(chunks)["context"] == {"arguments": {"x": 3.14}}
    assert out_of(guard, chunks)[1] == "stopped by pi in context.arguments.x"


def test_a_piece_of_a_block_that_never_began_does_not_go_on_with_another() -> None:
    pin = Guard([Rule.regex(r"(?<=pin )\d{4}", name="pin")])
    begun = {
        "type": "content_block_start",
        "content_block": {"type": "thinking", "thinking": "my pin ", "signature": ""},
    }
    events = [
        {"type": "message_start", "message": {"content": [], "usage": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_stop", "index": 0},
        {**begun, "index": 2},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "1234"}},
    ]
    assert out_of(pin, events) == (events[:4], "refused at index")


def test_lists_of_clients_are_so_many_at_most() -> None:
    chunks = (delta(context={f"k{number}": ["x"]}) for number in range(MOST_ADDED + 1))
    refused("guard.too_large", lambda: list(ONE.stream(chunks)))


def test_a_match_over_many_texts_is_told_once_wherever_it_begins() -> None:
    """Among so many texts that more lie before it than are known."""
    guard = Guard([Rule.literal("ab", action="record", name="ab")])
    pieces = ["x"] * (MOST_CHANNELS + 50) + ["aba", "bab", "b", "x"]
    stream = guard.stream([BEGIN, *(delta(context=piece) for piece in pieces)])
    list(stream)
    text = "".join(pieces)
    # In each text, and over the end of one.
    assert len(stream.matches) == text.count("ab")
