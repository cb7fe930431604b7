"""What chunks could hide: numbers, names, errors, objects that cannot be listed, texts that are put together."""

from __future__ import annotations

import collections
import contextlib
import enum
import functools
import itertools
import operator
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessageChunk, ToolMessage
from openai._models import construct_type
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, PrivateAttr, computed_field

from decidable import Guard, InvalidInput, Rule
from decidable.guard import rule_set
from decidable.guard.parts import MOST_CHANNELS
from test_guard import refused

GUARD = Guard(
    [
        Rule.literal("DROP TABLE", ignore_case=True, name="drop"),
        Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", action="redact", name="ssn"),
        *rule_set("cards"),
    ]
)
SAID = "DROP TABLE"
CARD = 4111111111111111


def chunk(delta: Any, **about: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}], **about}


def block(**contents: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": contents}


def result(**contents: Any) -> dict[str, Any]:
    item = {"type": "file_search_call", "id": "i", "queries": ["q"], "results": [contents]}
    return {"type": "response.output_item.done", "output_index": 0, "sequence_number": 1, "item": item}


def output(text: str, **contents: Any) -> dict[str, Any]:
    return {"request_id": "r", "finished": False, "outputs": [{"index": 0, "text": text, "token_ids": [1], **contents}]}


def stopped_by(chunks: list[Any], **options: Any) -> Any:
    """The rule; and what was looked for is in nothing that came out."""
    stream = GUARD.stream(chunks, **options)
    out = str(list(stream))
    assert SAID not in out
    assert str(CARD) not in out
    return stream.stopped.rule if stream.stopped is not None else None


@pytest.mark.parametrize(
    "given",
    [
        AIMessage(content="", tool_calls=[{"name": "pay", "args": {"card": CARD}, "id": "c"}]),
        AIMessage(content="", tool_calls=[{"name": "pay", "args": {"cards": [1, float(CARD)]}, "id": "c"}]),
        block(type="tool_use", id="t", name="pay", input={"card": CARD}),
        chunk({"content": "a", "annotations": [{"type": "a", "n": CARD}]}),
        chunk({"content": "a", "annotations": [{"type": "a", "start_index": CARD}]}),
        chunk({"content": "a", "annotations": [{"type": "a", "start_index": -CARD}]}),
        {"choices": [], "error": {"message": "a", "metadata": {"n": CARD}}},
        {"choices": [], "error": {"message": "a", "metadata": {"n": 1.4222222222222}}},
        result(attributes={"n": CARD}),
    ],
)
def test_numbers_are_read_as_json_writes_them(given: Any) -> None:
    """A number cannot be redacted, so it stops."""
    assert stopped_by([given]) == "payment-card"


def test_what_a_service_counts_and_times_is_no_text() -> None:
    guard = Guard([Rule.regex(r"\b\d{10}\b", action="redact"), Rule.regex(r"0\.\d{6}")])
    chunks = [
        chunk({"content": "a", "annotations": [{"type": "a", "start_index": 1234567890, "score": 0.123456}]}),
        chunk({}, created=1234567890, x_groq={"created_at": 1234567890}),
    ]
    stream = guard.stream(chunks)
    assert (list(stream), stream.stopped) == (chunks, None)
    # Whoever writes arguments may call a number what he likes.
    stream = guard.stream([block(type="tool_use", id="t", name="f", input={"created_at": 1234567890})])
    list(stream)
    assert stream.stopped is not None


def test_a_number_that_is_too_long_to_write_is_refused() -> None:
    long = {"choices": [], "error": {"n": 10**5_000}}
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([long]))).field == "error.n"


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"choices": [], "error": {"message": "a", "detail": SAID}}, {}),
        ({"choices": [], "error": {"message": "a", "type": SAID}}, {}),
        ({"choices": [{"index": 0, "delta": {}, "error": {"status": SAID}}]}, {}),
        ('event: error\ndata: {"detail": "DROP TABLE"}\n\n', {"sse": True}),
        ('data: {"error": {"message": "a", "phase": "DROP TABLE", "request_id": "r"}}\n\n', {"sse": True}),
        ({"type": "error", "error": {"type": SAID, "message": "a"}}, {}),
        ({"type": "error", "code": "c", "message": "a", "param": None, "detail": SAID, "sequence_number": 1}, {}),
        (result(status=SAID), {}),
        (result(detail=SAID), {}),
    ],
)
def test_every_text_of_an_error_is_read(given: Any, options: dict[str, Any]) -> None:
    assert stopped_by([given], **options) == "drop"


@pytest.mark.parametrize(
    "given",
    [
        ToolMessage(content="a", tool_call_id="c", artifact={SAID: 1}),
        {"choices": [], "error": {"failed_generation": {"a": {SAID: "b"}}}},
        chunk({"content": "a", "annotations": [{"type": "a", SAID: 1}]}),
        result(attributes={SAID: "a"}),
        block(type="mcp_tool_result", tool_use_id="t", content=[], structured={SAID: None}),
    ],
)
def test_names_are_read(given: Any) -> None:
    assert stopped_by([given]) == "drop"


def test_a_name_that_is_to_be_redacted_is_refused() -> None:
    given = ToolMessage(content="a", tool_call_id="c", artifact={"078-05-1120": 1})
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([given]))).field == "artifact"


@pytest.mark.parametrize("nothing", [None, "", 0, False, [], {}])
@pytest.mark.parametrize(
    "given",
    [
        lambda own: chunk({"content": "a"}, **own),
        lambda own: {"choices": [{"index": 0, "delta": {"content": "a"}, **own}]},
        lambda own: chunk({"content": "a", **own}),
        lambda own: chunk({"content": [{"type": "text", "text": "a", **own}]}),
        lambda own: chunk({"tool_calls": [{"index": 0, **own}]}),
        lambda own: chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}", **own}}]}),
        lambda own: {"type": "ping", **own},
        lambda own: {"type": "message_start", "message": {}, **own},
        lambda own: {"type": "content_block_stop", "index": 0, **own},
        lambda own: {"type": "error", "error": {"type": "a", "message": "b"}, **own},
        lambda own: {"type": "response.created", "response": {"id": "r"}, "sequence_number": 0, **own},
        lambda own: {"type": "response.created", "response": {"id": "r", **own}, "sequence_number": 0},
        lambda own: {"type": "response.shell_call_output_content.delta", "delta": dict.fromkeys(own)},
        lambda own: output("a", **own),
        lambda own: {**output("a"), **own},
        lambda own: AIMessageChunk(content="a", additional_kwargs=own),
        lambda own: AIMessageChunk(content=[{"type": "text", "text": "a", **own}]),
        lambda own: AIMessageChunk(content=[{"type": "reasoning_content", "reasoning_content": {"text": "a", **own}}]),
    ],
)
def test_a_name_of_what_says_nothing_is_read(given: Any, nothing: Any) -> None:
    """It would come out with its field. One in which nothing is found does."""
    refused("guard.unknown_chunk", lambda: list(GUARD.stream([given({SAID: nothing})])))
    # What a class wrote has no other names.
    assert stopped_by([given({"dropped": nothing})]) is None


def test_names_that_a_client_s_class_has_are_no_texts() -> None:
    """Its objects have all of them, also those that were not sent, and a version more of them than the last."""
    created = {
        "type": "response.created",
        "sequence_number": 0,
        "response": {"id": "r", "object": "response", "output": [], "created_at": 1, "model": "m"},
    }
    event = construct_type(type_=ResponseStreamEvent, value=created)
    names = set(type(event.response).model_fields) | set(type(event).model_fields)
    words = {word for name in names for word in name.split("_")}
    assert {"prompt", "tool", "usage", "created"} <= words
    guard = Guard([Rule.literal(word) for word in sorted(words)])
    assert list(guard.stream([event])) == [event]
    first = construct_type(type_=ChatCompletionChunk, value=chunk({"content": "0"}))
    words = {
        word
        for each in (first, first.choices[0], first.choices[0].delta)
        for name in type(each).model_fields
        for word in name.split("_")
    }
    assert list(Guard([Rule.literal(word) for word in sorted(words)]).stream([first])) == [first]


def test_the_type_of_a_message_is_that_of_its_class() -> None:
    class Own(AIMessageChunk):
        type: str = "Own"  # type: ignore[assignment]

    class OneOfTwo(AIMessageChunk):
        type: Literal["AIMessageChunk", "Own"] = "AIMessageChunk"  # type: ignore[assignment]

    guard = Guard([Rule.literal("DROP_TABLE", name="drop")])
    refused("guard.unknown_chunk", lambda: list(guard.stream([Own(content="a", type="DROP_TABLE")])))
    for said in ("DROP_TABLE", "aiDROP_TABLE"):
        stream = guard.stream([BaseMessageChunk(content="a", type=said)])
        assert "DROP_TABLE" not in str(list(stream))
        assert stream.stopped is not None
    for own in (Own(content="a"), OneOfTwo(content="a"), OneOfTwo(content="a", type="Own")):
        assert list(guard.stream([own])) == [own]


@pytest.mark.parametrize("place", ["delta", "call"])
def test_every_text_of_an_error_in_a_delta_is_read(place: str) -> None:
    error = {"error": {"model": SAID, "id": "i"}}
    given = chunk(error if place == "delta" else {"tool_calls": [{"index": 0, **error}]})
    assert stopped_by([given]) == "drop"


def test_what_is_withheld_is_withheld_in_an_error_too() -> None:
    """The tokens of a text, which nobody reads together."""
    tokens = {"logprobs": [{"token": "DROP"}, {"token": " TABLE"}], "message": "so"}
    for given in (chunk({"error": tokens}), {"choices": [], "error": tokens}):
        (out,) = GUARD.stream([given])
        told = (out["choices"][0]["delta"] if out["choices"] else out)["error"]
        assert (told["message"], bool(told.get("logprobs"))) == ("so", False)


def test_names_of_fields_are_no_texts() -> None:
    """Those that services have, and those of a class."""
    guard = Guard([Rule.literal(name) for name in ("title", "url", "type", "name", "parallel")])
    cited = {"type": "a", "title": "b", "url": "c"}
    response = {"id": "r", "object": "response", "status": "completed", "output": [], "parallel_tool_calls": True}
    for given in (chunk({"content": "x", "annotations": [cited]}), {"type": "response.created", "response": response}):
        stream = guard.stream([given])
        assert (list(stream), stream.stopped) == ([given], None)


class OfTheClass:
    content = SAID


class Hidden:
    __slots__ = ("__text", "role")

    def __init__(self) -> None:
        self.role, self.__text = "assistant", SAID


class Made(Hidden):
    __slots__ = ()

    @property
    def content(self) -> str:
        return SAID


class Asked:
    def __getattr__(self, name: str) -> str:
        if name == "content":
            return SAID
        raise AttributeError(name)


class Answers:
    def __getattribute__(self, name: str) -> Any:
        return SAID if name == "content" else object.__getattribute__(self, name)


class Computed(BaseModel):
    role: str = "assistant"
    _text: str = PrivateAttr(SAID)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def told(self) -> str:
        return self._text


class Failure(ValueError):
    pass


class Repeats(itertools.repeat):  # type: ignore[type-arg]
    """What it says is in C, of no more than two words."""


OF_C = (functools.partial(Failure, SAID), functools.partial(Repeats, SAID))


@pytest.mark.parametrize("kind", [OfTheClass, Hidden, Made, Asked, Answers, Computed, *OF_C])
def test_an_object_that_cannot_be_listed_is_refused(kind: Any) -> None:
    for given in (
        SimpleNamespace(choices=[SimpleNamespace(index=0, delta=kind(), finish_reason=None)]),
        {"choices": [], "error": {"message": "a", "cause": kind()}},
    ):
        stream = GUARD.stream([given])
        if kind is Hidden and isinstance(given, dict):
            # Its slot is one of its fields: it is read.
            told, last = stream
            assert told["error"]["message"] == "a"  # type: ignore[index]
            assert last["choices"][0]["finish_reason"] == "content_filter"  # type: ignore[index]
            assert stream.stopped is not None
        else:
            refused("guard.unknown_chunk", lambda stream=stream: list(stream))  # type: ignore[misc]
    refused("guard.unknown_chunk", lambda: list(GUARD.stream([{"choices": [], "error": ValueError(SAID)}])))


def call(text: str, index: int | None = None, of: str | None = None, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": text} | ({"name": name} if name is not None else {})
    given = {"index": index, "id": of, "function": function}
    return {key: value for key, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("deltas", "place"),
    [
        # Another id and a name under the number of a call, which a client puts together by its number.
        ([[call('{"q": "DROP ', 0, "a", "f")], [call('TABLE"}', 0, "b", "f")]], "choices[].delta.tool_calls[].index"),
        # Without numbers an id from before the last.
        (
            [[call('{"q": "DROP ', of="a", name="f")], [call("{}", of="b", name="g")], [call('TABLE"}', of="a")]],
            "choices[].delta.tool_calls[].id",
        ),
        (
            [
                [call('{"q": "DROP ', of="a", name="f"), call('{"q": "x', of="b", name="f")],
                [call('TABLE"}', of="a"), call('"}', of="b")],
            ],
            "choices[].delta.tool_calls[].id",
        ),
        ([[call("", 0, "a", "DROP ")], [call("", 0, None, "TABLE")]], "tool_name[0]"),
    ],
)
def test_calls_that_clients_put_together_in_other_ways_are_refused(deltas: list[Any], place: str) -> None:
    chunks = [chunk({"tool_calls": calls}) for calls in deltas]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(chunks))).field == place


def test_names_that_come_again() -> None:
    """Of a call, and of the one that there was before there were several: some clients put them together."""
    in_pieces = [chunk({"function_call": {"name": "DROP "}}), chunk({"function_call": {"name": "TABLE"}})]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(in_pieces))).field == "function_name"
    again = [chunk({"tool_calls": [call("{", 0, "a", "dodo")]}), chunk({"tool_calls": [call("}", 0, None, "dodo")]})]
    stream = GUARD.stream(again)
    assert (list(stream), stream.stopped) == (again, None)
    # Some servers say in the other pieces that there is none.
    again[1] = chunk({"tool_calls": [call("}", 0, None, "")]})
    assert list(GUARD.stream(again)) == again
    again[1] = chunk({"tool_calls": [call("}", 0, None, "dodo")]})
    stream = Guard([Rule.literal("dododo", name="d")]).stream(again)
    assert "dodo" not in str(list(stream)[1:])
    assert stream.stopped is not None
    redacts = Guard([Rule.literal("dododo", action="redact")])
    assert refused("guard.unknown_chunk", lambda: list(redacts.stream(again))).field == "tool_name[0]"


def test_a_text_of_a_server_that_comes_again() -> None:
    chunks = [chunk({"content": "a", "search_info": each}) for each in ("DROP ", "TABLE")]
    assert stopped_by(chunks) == "drop"


def test_choices_of_one_number_in_a_chunk_are_refused() -> None:
    first = {"choices": [{"delta": {"content": "DROP "}}, {"delta": {"content": "x"}}]}
    for given in (first, {"choices": [{"index": 1, **each} for each in first["choices"]]}):
        assert (
            refused("guard.unknown_chunk", lambda given=given: list(GUARD.stream([given]))).field == "choices[].index"
        )  # type: ignore[misc]
    most = {"choices": [{"index": index, "delta": {}} for index in range(MOST_CHANNELS)]}
    assert list(GUARD.stream([most])) == [most]
    many = {"choices": [{"index": index, "delta": {}} for index in range(MOST_CHANNELS + 1)]}
    refused("guard.too_large", lambda: list(GUARD.stream([many])))


def said(*contents: Any, **about: Any) -> list[AIMessageChunk]:
    return [AIMessageChunk(content=each, **about) for each in contents]


def whole(chunks: list[Any]) -> Any:
    return functools.reduce(operator.add, chunks)


def text(piece: str, index: Any = None) -> dict[str, Any]:
    return {"type": "text", "text": piece} | ({} if index is None else {"index": index})


IN_BLOCKS: list[list[Any]] = [
    [[text("DROP ", 0)], [text("TABLE", 1)]],
    [[text("a DROP "), text("TABLE")]],
    [["DROP "], [text("TABLE")]],
    ["DROP ", [text("TABLE")]],
    [[text("DROP ", 0)], "TABLE"],
    [[text("DROP ", "lc_txt_0")], [text("TABLE", "lc_txt_0")]],
]


@pytest.mark.parametrize("contents", IN_BLOCKS)
def test_texts_of_a_message_that_langchain_joins_are_one(contents: list[Any]) -> None:
    """They come out in the order in which it joins them."""
    stream = GUARD.stream(said(*contents))
    assert whole(list(stream)).text == ("a " if str(contents).count("a ") else "")
    assert stream.stopped is not None
    for given in (
        said(*contents),
        [*said(*contents), AIMessageChunk(content="", chunk_position="last")],
    ):
        stream = Guard([Rule.literal("drop tablet", ignore_case=True)]).stream(given)
        assert whole(list(stream)).text == whole(given).text
        assert stream.stopped is None
    blocks = [block for content in contents for block in ([content] if isinstance(content, str) else content)]
    stream = GUARD.stream([AIMessage(content=blocks)])
    (message,) = stream
    assert "DROP" not in message.text
    assert stream.stopped is not None
    (message,) = Guard([Rule.literal("TABLET")]).stream([AIMessage(content=blocks)])
    assert message.text == AIMessage(content=blocks).text


def test_a_text_that_goes_back_is_refused() -> None:
    """By its blocks it is another than by its chunks."""
    given = said([text("DROP ", 0)], [text("x", 1)], [text("TABLE", 0)])
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(given))).field == "content[].index"
    given = said([text("a", 0)], [{"type": "thinking", "thinking": "b", "index": 1}], [text("c", 0)])
    assert whole(list(GUARD.stream(given))).content == whole(given).content


@pytest.mark.parametrize(
    "chunks",
    [
        [AIMessageChunk(content="", additional_kwargs={"search_info": each}) for each in ("DROP ", "TABLE")],
        [AIMessageChunk(content="", additional_kwargs={"search_info": {"a": each}}) for each in ("DROP ", "TABLE")],
        [AIMessageChunk(content="", response_metadata={"x": each}) for each in ("DROP ", "TABLE")],
        said(*([text("", 0) | {"extras": {"x": each}}] for each in ("DROP ", "TABLE"))),
        said(*([{"type": "web_search_call", "index": 0, "query": each}] for each in ("DROP ", "TABLE"))),
        [AIMessageChunk(content="", name="DROP TABLE")],
    ],
)
def test_texts_that_langchain_adds_are_read_as_one(chunks: list[Any]) -> None:
    """The first is out when the second comes, so the rest of a match does not."""
    assert stopped_by(chunks) == "drop"
    assert "TABLE" not in str(list(GUARD.stream(chunks)))


def test_names_of_calls_that_langchain_adds_do_not_come_in_pieces() -> None:
    def named(name: str) -> list[AIMessageChunk]:
        of_a_call = {"name": name, "args": "", "id": None, "index": 0}
        function = {"function_call": {"name": name, "arguments": ""}}
        return [
            AIMessageChunk(content="", tool_call_chunks=[of_a_call]),
            AIMessageChunk(content="", additional_kwargs=function),
            AIMessageChunk(content=[{"type": "function_call", "name": name, "arguments": "", "index": 0}]),
        ]

    for first, second in zip(named("DROP "), named("TABLE"), strict=True):
        place = refused("guard.unknown_chunk", lambda first=first, second=second: list(GUARD.stream([first, second])))  # type: ignore[misc]
        assert place.field in ("tool_name[0]", "function_name")


def of_a_call(args: str, name: str | None = None, of: str | None = None, index: Any = 1) -> dict[str, Any]:
    return {"name": name, "args": args, "id": of, "index": index, "type": "tool_call_chunk"}


def with_calls(arguments: list[str]) -> dict[str, list[AIMessageChunk]]:
    """A call as the models of several vendors stream it."""
    first = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": each}} for each in arguments]
    return {
        "anthropic": [
            AIMessageChunk(
                content=[{"type": "tool_use", "id": "c", "name": "f", "input": {}, "index": 1}],
                tool_call_chunks=[of_a_call("", "f", "c")],
            ),
            *(
                AIMessageChunk(
                    content=[{"type": "input_json_delta", "partial_json": each, "index": 1}],
                    tool_call_chunks=[of_a_call(each)],
                )
                for each in arguments
            ),
        ],
        "groq and mistral": [
            AIMessageChunk(
                content="",
                additional_kwargs={"tool_calls": [given]},
                tool_call_chunks=[
                    of_a_call(given["function"]["arguments"], given["function"].get("name"), given.get("id"))
                ],  # type: ignore[attr-defined]
            )
            for given in (first, *pieces)
        ],
        "responses": [
            AIMessageChunk(
                content=[
                    {"type": "function_call", "name": "f", "arguments": "", "call_id": "c", "id": "i", "index": 1}
                ],
                tool_call_chunks=[of_a_call("", "f", "c")],
            ),
            *(
                AIMessageChunk(
                    content=[{"type": "function_call", "arguments": each, "index": 1}],
                    tool_call_chunks=[of_a_call(each)],
                )
                for each in arguments
            ),
        ],
        "responses, version 0": [
            AIMessageChunk(
                content=[],
                additional_kwargs={"__openai_function_call_ids__": {"c": "i"}},
                tool_call_chunks=[of_a_call("", "f", "c")],
            ),
            *(AIMessageChunk(content=[], tool_call_chunks=[of_a_call(each)]) for each in arguments),
        ],
        "blocks of langchain": [
            AIMessageChunk(content=[of_a_call("", "f", "c", "lc_tc_1")], tool_call_chunks=[of_a_call("", "f", "c")]),
            *(
                AIMessageChunk(content=[of_a_call(each, index="lc_tc_1")], tool_call_chunks=[of_a_call(each)])
                for each in arguments
            ),
        ],
    }


@pytest.mark.parametrize("name", with_calls([]))
def test_calls_of_every_vendor(name: str) -> None:
    """What a model streams for them passes, guarded, in each place where it stands."""
    last = AIMessageChunk(content=[], chunk_position="last")
    given = [*with_calls(['{"q": "078-05-', "1120 dro", 'p"}'])[name], last]
    stream = GUARD.stream(given)
    out = whole(list(stream))
    assert stream.stopped is None
    assert [(each["name"], each["args"]) for each in out.tool_calls] == [("f", {"q": "[redacted] drop"})]
    assert "078" not in str(out)
    stream = GUARD.stream([*with_calls(['{"q": "a \\u0044RO', 'P TABLE"}'])[name], last])
    assert "ROP" not in str(list(stream))
    assert stream.stopped is not None
    assert stream.stopped.rule == "drop"


def test_a_summary_of_the_reasoning_comes_in_pieces() -> None:
    def summary(piece: str, number: int = 0) -> dict[str, Any]:
        return {"summary": [{"index": number, "type": "summary_text", "text": piece}]}

    in_content = [said([{"type": "reasoning", "index": 0, **summary(each)}])[0] for each in ("a DROP ", "TABLE")]
    beside = [
        AIMessageChunk(content="", additional_kwargs={"reasoning": summary(each)}) for each in ("a DROP ", "TABLE")
    ]
    for given in (in_content, beside):
        stream = GUARD.stream(given)
        assert "DROP" not in str(list(stream))
        assert stream.stopped is not None
        stream = GUARD.stream(given[:1])
        out = whole(list(stream))
        assert (out.content, out.additional_kwargs) == (given[0].content, given[0].additional_kwargs)
    given = said([{"index": 0, "id": "i"}], [text("a", 1)])
    assert whole(list(GUARD.stream(given))).content == whole(given).content


class Struct:
    """As those of msgspec are."""

    __slots__ = ("content",)
    __struct_fields__ = __slots__

    def __init__(self, content: str) -> None:
        object.__setattr__(self, "content", content)

    def __setattr__(self, *_: object) -> None:
        raise AttributeError("immutable type")

    def __replace__(self, **changes: Any) -> Struct:
        return Struct(**changes)


class Choice:
    """As a struct of a choice that knows no reason for its end."""

    __slots__ = ("delta", "index")
    __struct_fields__ = __slots__

    def __init__(self, delta: Any, index: int) -> None:
        self.delta, self.index = delta, index

    def __replace__(self, **changes: Any) -> Choice:
        return Choice(**({"delta": self.delta, "index": self.index} | changes))


class OfANamespace(SimpleNamespace):
    """Has its dictionary and its weak references each in a place of its own."""


@pytest.mark.parametrize("kind", [Struct, OfANamespace])
def test_objects_with_slots_and_fields_of_structs_are_read(kind: Any) -> None:
    stream = GUARD.stream([chunk(kind(content="a DROP ")), chunk(kind(content="TABLE"))])
    out = list(stream)
    assert [each["choices"][0]["delta"].content for each in out] == ["a ", "", None]
    assert stream.stopped is not None


def test_a_copy_that_cannot_be_made_is_refused() -> None:
    """A chunk that is stopped in needs a field that the class of its delta does not have."""
    stream = GUARD.stream([{"choices": [Choice({"content": text}, 0)]} for text in ("a DROP ", "TABLE")])
    (out,) = next(stream)["choices"]
    assert (type(out), out.delta) == (Choice, {"content": "a "})
    error = refused("guard.unknown_chunk", lambda: list(stream))
    assert (error.field, stream.stopped is not None) == ("copy", True)


def test_ids_are_those_that_services_make() -> None:
    """What somebody else calls an id, and what has parts, is read."""
    guard = Guard(rule_set("cards", "ssn", "email", action="stop"))
    for found in (
        {"national_id": "078-05-1120"},
        {"card_id": "4111 1111 1111 1111"},
        {"model": {"text": "mail ada@example.com"}},
        {"usage": {"text": "078-05-1120"}},
        {"id": ["078-05-1120"]},
    ):
        stream = guard.stream([chunk({"content": "a"}, search_results=[found])])
        assert not {"078-05-1120", "4111 1111 1111 1111", "ada@example.com"} & set(str(list(stream)).split("'"))
        assert stream.stopped is not None, found
    # The number of a call may look like one of a card.
    ours = chunk({"content": ". "}, search_results=[{"file_id": "4111111111111111", "usage": {"total_tokens": 5}}])
    assert list(guard.stream([ours])) == [ours]


@pytest.mark.parametrize("name", [SAID, "a" * 65, "aB" * 21, "néon", "a\nb"])
def test_a_fault_does_not_repeat_a_name_that_a_model_could_have_chosen(name: str) -> None:
    for given in (
        chunk({name: "a"}),
        chunk({"content": "a"}, **{name: "a"}),
        {"choices": [{"index": 0, "delta": {}, name: "a"}]},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a", name: "a"}},
        {name: "a"},
    ):
        error = refused("guard.unknown_chunk", lambda given=given: list(GUARD.stream([given])))  # type: ignore[misc]
        assert name not in error.message
        assert "…" in error.message


# --- objects that are read in other ways than they look ------------------------------------------------------------


def other(kind: type, **ways: Any) -> type:
    return type("Other", (kind,), ways)


class Silent:
    """Says that it is nothing, and has a text."""

    text = SAID

    def __bool__(self) -> bool:
        return False


class Posing:
    """Says that it is a number, and has a text."""

    text = SAID

    def __init__(self, kind: type) -> None:
        self.kind = kind

    @property
    def __class__(self) -> Any:
        return self.kind


class Spoken(str):
    """Has a text beside the one that it is."""

    def __init__(self, *_: Any) -> None:
        self.text = SAID


class Hiding(BaseModel):
    """Keeps a text to itself, and gives it out when it is asked."""

    content: str = "a"
    _raw: Any = PrivateAttr(default=SAID)

    @property
    def shown(self) -> Any:
        return self._raw


class Itself(BaseModel):
    """Gives itself out as a copy."""

    content: str

    def model_copy(self, **_: Any) -> Any:  # type: ignore[override]
        return self


class Older(BaseModel):
    """Gives out a copy as it was."""

    content: str

    def model_copy(self, **_: Any) -> Any:  # type: ignore[override]
        return super().model_copy()


class Shadowed:
    """What it has in its dictionary is not what it says."""

    content = property(lambda _: SAID, lambda _, __: None)

    def __init__(self) -> None:
        self.__dict__["content"] = "a"


class Replaced:
    """Gives another out as a copy, which says what it is told to and more."""

    def __init__(self, content: str = SAID, **more: Any) -> None:
        self.content = content
        self.__dict__.update(more)

    def __copy__(self) -> Any:
        return Replaced(self.content, refusal=SAID)


class Foreign:
    """Gives one of another class out as a copy."""

    def __init__(self) -> None:
        self.content = "so DROP"

    def __copy__(self) -> Any:
        return Shadowed()


class Same:
    """Gives itself out as a copy, so that what the guard changes would be changed in the caller's own."""

    def __init__(self) -> None:
        self.content = "so DROP"

    def __copy__(self) -> Any:
        return self


class Alike:
    """Gives an object of another class out as a copy, with the same fields."""

    def __init__(self) -> None:
        self.content = "so DROP"

    def __copy__(self) -> Any:
        return SimpleNamespace(**vars(self))


class Joined(BaseModel):
    """Its copy says more than was asked for."""

    content: str
    refusal: str | None = None

    def model_copy(self, *, update: Any = None, **_: Any) -> Any:  # type: ignore[override]
        return Joined(**{**self.__dict__, **update, "refusal": SAID})


SAYS_LESS = [
    Replaced("so DROP"),
    Foreign(),
    Same(),
    Alike(),
    Joined(content="so DROP"),
    other(dict, __copy__=lambda self: {**self, "refusal": SAID})(content="so DROP"),
    other(dict, __copy__=lambda self: type(self)({**self, "refusal": SAID}))(content="so DROP"),
    other(dict, items=lambda _: {}.items())(content=SAID),
    other(dict, __iter__=lambda _: iter(()))(content=SAID),
    other(dict, get=lambda *_: None)(content=SAID),
    other(dict, __missing__=lambda *_: SAID)(role="assistant"),
    other(dict, __getattr__=lambda *_: SAID)(role="assistant"),
    other(dict, content=property(lambda _: SAID))(role="assistant"),
    other(dict, __bool__=lambda _: False)(content=SAID),
    {"content": other(str, __bool__=lambda _: False)(SAID)},
    {"content": other(str, __len__=lambda _: 0)(SAID)},
    {"content": other(str, __eq__=lambda *_: True, __hash__=str.__hash__)(SAID)},
    {"content": other(str, __str__=lambda _: SAID)("a")},
    {"content": Spoken("a")},
    {"content": "a", "unknown": Silent()},
    {"content": "a", "unknown": other(list, __bool__=lambda _: False)([SAID])},
    {"content": "a", "annotations": other(list, __iter__=lambda _: iter(()))([SAID])},
    {"content": "a", "annotations": [Posing(bool)]},
    {"content": "a", "annotations": [Posing(float)]},
    {"content": "a", "annotations": [{"n": other(float, text=SAID, is_integer=lambda _: False)(1.5)}]},
    {"content": "a", "citations": [Spoken("a")]},
    Hiding(),
    {Spoken("content"): "a"},
    Itself(content="so DROP TABLE"),
    Older(content="so DROP TABLE"),
    Shadowed(),
]


@pytest.mark.parametrize("delta", SAYS_LESS, ids=range(len(SAYS_LESS)))
@pytest.mark.parametrize("of_a_class", [False, True])
def test_what_is_read_in_another_way_than_it_looks_is_refused(delta: Any, of_a_class: bool) -> None:
    """Or what is matched is not what comes out."""
    choice: Any = {"index": 0, "delta": delta, "finish_reason": None}
    given: Any = {"choices": [choice]}
    if of_a_class:
        given = SimpleNamespace(choices=[SimpleNamespace(**choice)])
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([given])))


class OfAClient(BaseModel):
    """As LiteLLM's client has its chunks: what it keeps of a call is private."""

    id: str = "c"
    choices: list[Any]
    _hidden_params: dict[str, Any] = PrivateAttr(default_factory=dict)


def test_what_a_client_keeps_of_a_call_is_read() -> None:
    def given(*texts: str, **kept: Any) -> list[OfAClient]:
        out = [OfAClient(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in texts]
        for each in out:
            each._hidden_params = {"custom_llm_provider": "openai", "response_cost": None, **kept}
        return out

    (out,) = GUARD.stream(given("a"))
    assert (out.choices[0]["delta"], out._hidden_params["custom_llm_provider"]) == ({"content": "a"}, "openai")
    stream = GUARD.stream(given("so DR", "OP TABLE"))
    assert [each.choices[0]["delta"].get("content") for each in stream] == ["so ", "", None]
    assert stream.stopped is not None
    source = given("a", said="an 078-05-1120")
    (out,) = GUARD.stream(source)
    assert out._hidden_params["said"] == "an [redacted]"
    assert source[0]._hidden_params["said"] == "an 078-05-1120"
    assert stopped_by(given("a", said=SAID)) == "drop"


def test_a_chunk_that_is_read_in_another_way_than_it_looks_is_refused() -> None:
    given = other(dict, get=lambda *_: SAID)(chunk({"content": "a"}))
    refused("input.wrong_type", lambda: list(GUARD.stream([given])))


def test_values_that_a_library_writes_are_read() -> None:
    """Members of enumerations, numbers of NumPy, dictionaries in order, tuples with names."""

    class Reason(enum.StrEnum):
        STOP = "stop"

        def __str__(self) -> str:
            return self.value

    class Where(NamedTuple):
        start_index: int
        title: str

    delta = collections.OrderedDict(content="a", annotations=[{"score": np.float64(0.5), "where": Where(1, "b")}])
    given = {"choices": [{"index": 0, "delta": delta, "finish_reason": Reason.STOP}]}
    assert list(GUARD.stream([given])) == [given]
    found = collections.defaultdict(list, content="DROP TABLE users")
    assert stopped_by([chunk(found)]) == "drop"


@pytest.mark.parametrize(
    "given",
    [
        AIMessageChunk(content="a", example=SAID),  # type: ignore[call-arg]
        AIMessageChunk(content="a", example={"x": SAID}),  # type: ignore[call-arg]
        AIMessage(content="a", example={"x": SAID}),
        {"content": "a", "additional_kwargs": {}, "tool_call_chunks": [], "type": {"x": SAID}},
        {"content": "a", "additional_kwargs": {}, "tool_call_chunks": [], "type": SAID},
        *(
            {"content": "a", "additional_kwargs": {}, "tool_call_chunks": [{"name": "f", "args": "x"}], name: [SAID]}
            for name in ("tool_calls", "invalid_tool_calls")
        ),
        *({**output("a"), name: {"x": SAID}} for name in ("metrics", "kv_transfer_params", "ec_transfer_params")),
        {**output("a"), "prompt_logprobs": [{"1": {"decoded_token": SAID}}]},
        {**output("a"), "prompt": [SAID]},
        *(output("a", **{name: [SAID]}) for name in ("routed_experts", "weight_versions", "spec_decode_metrics")),
    ],
)
def test_what_stands_beside_a_text_is_read_or_does_not_come_out(given: Any) -> None:
    out: list[Any] = []
    with contextlib.suppress(InvalidInput):
        out.extend(GUARD.stream([given]))
    assert SAID not in str(out)


def test_what_an_engine_counts_comes_out() -> None:
    """And what it was asked, which is the caller's own."""
    told = {"metrics": {"arrival_time": 0.25, "num_generation_tokens": 7}, "prompt": SAID, "prompt_token_ids": [1, 2]}
    given = {**output("a"), **told}
    assert list(GUARD.stream([given])) == [given | {"outputs": [{"index": 0, "text": "a", "token_ids": []}]}]


@pytest.mark.parametrize("place", ["chunk", "choice", "delta", "output"])
def test_what_cannot_be_asked_whether_it_is_empty_is_refused(place: str) -> None:
    """As an array of several numbers cannot."""
    several = np.zeros(3)
    given = {
        "chunk": {"choices": [], "odd": several},
        "choice": {"choices": [{"index": 0, "delta": {}, "odd": several}]},
        "delta": {"choices": [{"index": 0, "delta": {"odd": several}}]},
        "output": output("a", odd=several),
    }[place]
    assert str(refused("guard.unknown_chunk", lambda: list(GUARD.stream([given]))).field).endswith("odd")
