"""Chunks of forms that no service has: each comes out, stops the stream or is refused, and nothing else happens."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import traceback
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from openai.types.chat import ChatCompletionChunk

import decidable as dc
from decidable import Guard, Rule
from decidable.guard import outputs, parts, rule_set
from decidable.guard.services import OPAQUE

DROP = Guard([Rule.literal("DROP TABLE", name="drop")])
CARDS = Guard(rule_set("cards", action="stop"))


def chunk(delta: Any, **about: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **about}


def event(kind: str, **about: Any) -> dict[str, Any]:
    places = {"output_index": 0, "content_index": 0, "item_id": "i"}
    return {"type": f"response.{kind}", "sequence_number": 1, **places, **about}


def block(kind: str, index: int, **about: Any) -> dict[str, Any]:
    return {"type": f"content_block_{kind}", "index": index, **about}


A_CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "DR"}}
A_TEXT = {"type": "output_text", "text": "DR"}
A_SUMMARY = {"type": "summary_text", "text": "DR", "index": 0}
AN_OUTPUT = {
    "index": 0,
    "text": "DR",
    "token_ids": [1],
    "cumulative_logprob": -0.5,
    "logprobs": [{"1": {"logprob": -0.5, "decoded_token": "DR"}}],
    "routed_experts": [1],
    "finish_reason": None,
    "stop_reason": None,
    "lora_request": {"lora_name": "l"},
    "sampling_mask": [1],
    "spec_decode_metrics": {"accepted": 1},
    "weight_versions": [1],
}
OF_VLLM = {
    "request_id": "r",
    "prompt": "x",
    "prompt_token_ids": [1],
    "prompt_logprobs": [{"decoded_token": "x"}],
    "prompt_token_id_logprobs": [-0.5],
    "finished": False,
    "metrics": {"arrival_time": 1.5},
    "lora_request": {"lora_name": "l"},
    "encoder_prompt": "x",
    "encoder_prompt_token_ids": [1],
    "num_cached_tokens": 1,
    "num_cache_creation_tokens": 7,
    "multi_modal_placeholders": {"image": [1]},
    "kv_transfer_params": {"remote_host": "h"},
    "ec_transfer_params": {"remote_host": "h"},
}


def of_langchain(kind: Any, content: Any, **about: Any) -> dict[str, Any]:
    """A message as a dictionary with every field that its class has, also those that follow from others.

    ``example`` is of versions before 1.0.
    """
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    own = kind(**{"content": content, "name": "n", "id": "i", "usage_metadata": usage, **about})
    return {"example": False} | copy.deepcopy({name: getattr(own, name) for name in kind.model_fields})


def call_of_langchain(index: int, args: str) -> dict[str, Any]:
    return {"index": index, "id": f"i{index}", "name": "n", "args": args, "type": "tool_call_chunk"}


SAMPLES: dict[str, list[Any]] = {
    "chat": [
        chunk(
            {
                "role": "assistant",
                "content": "DRO",
                "refusal": "x",
                "reasoning": "r",
                "function_call": {"name": "f", "arguments": "DR"},
                "tool_calls": [{**A_CALL, "extra_content": {"x": "y"}}],
                "annotations": [{"index": 0, "text": "a"}],
            },
            usage={"a": 1},
            citations=["a"],
            error=None,
            p="abc",
        ),
        chunk({"content": "P", "type": "text", "content_list": [{"type": "text", "text": "P"}], "text": "P"}),
        chunk({}, sglext={"routed_experts": "a"}, content_filter=[{"role": "r", "level": 1}]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "avg_decoded_tokens_per_iter": 1.5}]},
        {
            "choices": [{"index": 0, "message": {"content": "DROP"}, "finish_reason": "stop"}],
            "amazon-bedrock-guardrailAction": "NONE",
        },
    ],
    "completions": [{"choices": [{"index": 0, "text": "DRO", "logprobs": {}, "finish_reason": None}]}],
    "responses": [
        event("created", response={"id": "r", "output": [], "text": {}}),
        event("output_item.added", item={"type": "message", "id": "m", "content": [A_TEXT]}),
        event("output_text.delta", delta="DROP", logprobs=[]),
        event("output_text.done", text="DROP x"),
        event("shell_call_output_content.delta", command_index=0, delta={"stdout": "DR", "stderr": "x"}),
        event("shell_call_output_content.done", command_index=0, output=[{"stdout": "DR", "stderr": "x"}]),
        event("output_item.done", item={"type": "function_call", "arguments": "{}", "name": "n"}),
        event("output_text.annotation.added", annotation={"type": "x", "title": "y"}, annotation_index=0),
        event(
            "completed",
            response={"id": "r", "output": [{"type": "message", "content": [A_TEXT]}]},
            timings={"prompt_n": 1},
        ),
        {"type": "error", "message": "m", "code": "c", "sequence_number": 3},
        {"type": "keepalive", "sequence_number": 2},
    ],
    "messages": [
        {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"output_tokens": 1}}},
        block("start", 0, content_block={"type": "text", "text": "DR"}),
        block("delta", 0, delta={"type": "text_delta", "text": "DROP"}),
        block("delta", 0, delta={"type": "citations_delta", "citation": {"cited_text": "x"}}),
        block("stop", 0),
        block("start", 1, content_block={"type": "tool_use", "name": "n", "input": {}}),
        block("delta", 1, delta={"type": "input_json_delta", "partial_json": "{"}),
        block("stop", 1),
        {"type": "message_delta", "delta": {"stop_reason": "x", "stop_sequence": "y"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
        {"type": "error", "error": {"type": "x", "message": "y"}},
        {"type": "ping"},
    ],
    "vllm": [
        {**OF_VLLM, "outputs": [AN_OUTPUT]},
        {
            "request_id": "r",
            "outputs": [{"index": 0, "text": "DR", "token_ids": [1], "finish_reason": "stop"}],
            "finished": True,
        },
    ],
    "langchain": [
        # Nothing of it is held, so that it comes out as it is.
        of_langchain(
            AIMessageChunk, "x", tool_call_chunks=[call_of_langchain(1, '{"a": "b"}'), call_of_langchain(2, "x")]
        ),
        of_langchain(
            AIMessageChunk,
            "DR",
            additional_kwargs={
                "reasoning_content": "DR",
                "refusal": "x",
                "function_call": {"name": "n", "arguments": "DR"},
                "reasoning": {"summary": [A_SUMMARY], "index": 0},
                "tool_calls": [],
                "error": "e",
            },
            response_metadata={"x": "y"},
            tool_call_chunks=[call_of_langchain(0, "DR")],
        ),
        of_langchain(
            AIMessageChunk,
            [
                {"type": "text", "text": "DR", "index": 0},
                {"type": "reasoning", "reasoning": "DR", "summary": [{**A_SUMMARY, "index": None}], "index": 1},
                {"type": "tool_use", "name": "n", "input": {}, "index": 2},
                "x",
            ],
            chunk_position="last",
        ),
    ],
    "a message of langchain": [
        of_langchain(
            AIMessage,
            [{"type": "text", "text": "DR"}, "x", {"type": "tool_use", "name": "n", "input": {}}],
            additional_kwargs={"tool_calls": [{"function": {"arguments": "{}"}}]},
            response_metadata={"x": "y"},
            tool_calls=[{"name": "n", "args": {"a": "b"}, "id": "i"}],
            invalid_tool_calls=[{"name": "n", "args": "y", "id": "i", "error": "x"}],
        ),
    ],
}
MATCH = "DROP TABLE"


def within(text: str) -> list[Any]:
    """A text as it is, and within something else."""
    return [text, {"note": text}, [text], [{"text": text}], SimpleNamespace(content=text)]


# What a request asked for may stand in an answer, too.
NAMES_OF_SERVICES = OPAQUE | {"stop_sequence"}
OF_THE_REQUEST: list[tuple[str, tuple[Any, ...]]] = [
    ("responses", (0, "response", "text")),
    ("vllm", (0, "prompt")),
    ("vllm", (0, "prompt_token_ids")),
    ("vllm", (0, "encoder_prompt")),
    ("vllm", (0, "encoder_prompt_token_ids")),
    ("vllm", (0, "lora_request")),
    ("vllm", (0, "outputs", 0, "lora_request")),
    ("vllm", (0, "multi_modal_placeholders")),
]
ODD: list[Any] = [
    None, 5, -1, True, 1.5, 1 << 70, "x", "", "DROP TABLE", "\ud800", [], [5], [None], ["x"], {}, {"a": "b"}, [{}],
    [[]], ("x",), b"x", {"type": "x"}, SimpleNamespace(content="DROP TABLE"), object(), float("nan"),
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*at, name))


Place = tuple[str, tuple[Any, ...]]
PLACES: list[Place] = [(name, place) for name, sample in SAMPLES.items() for place in places(sample) if len(place) > 1]


def events_of(chunks: list[Any]) -> list[str] | None:
    try:
        return [f"data: {json.dumps(each)}\n\n" for each in chunks]
    except (TypeError, ValueError):
        return None


def check_form(changes: list[tuple[Place, Any]], sse: bool) -> str | None:
    """What stands in the place of parts of a chunk is read, stops, or is refused, and no fault tells of it.

    Which of these it was; nothing where JSON cannot say it.
    """
    (name, _), _ = changes[0]
    given_ = copy.deepcopy(SAMPLES[name])
    for (of, place), odd in changes:
        inside: Any = given_
        try:
            for part in place[:-1]:
                inside = inside[part]
            if of == name:
                inside[place[-1]] = odd
        except (TypeError, LookupError):
            # The first change took it away.
            continue
    wire = events_of(given_)
    if sse and wire is None:
        return None
    out: list[Any] = []
    stream = DROP.stream(wire if sse and wire is not None else given_, sse=sse)
    try:
        out.extend(iter(stream))
        error = None
    except dc.DecidableError as fault:
        error = fault
    names = [place[-1] for (_, place), odd in changes if odd == MATCH]
    is_asked = any((of, place[: len(at)]) == (which, at) for (of, place), _ in changes for which, at in OF_THE_REQUEST)
    is_told = not NAMES_OF_SERVICES.isdisjoint(names) or is_asked
    assert MATCH not in str(error)
    assert MATCH not in str(out) or is_told
    if error is not None:
        assert error.__cause__ is None
        assert error.__context__ is None
        assert {frame.name for frame in traceback.extract_tb(error.__traceback__)} <= {
            "__next__", "_run", "check_form",
        }  # fmt: skip
        return "refused"
    return "came out" if stream.stopped is None else "stopped"


@settings(max_examples=400)
@given(
    changes=st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(ODD)), min_size=1, max_size=2),
    sse=st.booleans(),
)
def test_a_part_of_another_form_is_read_stops_or_is_refused(changes: list[Any], sse: bool) -> None:
    """Whatever stands in the place of any part of a chunk; the fault tells nothing of what was read.

    A name that a service makes is one of a text, as it is.
    """
    check_form(changes, sse)


@pytest.mark.parametrize(
    "place", [pytest.param(each, id=f"{each[0]}: {'.'.join(map(str, each[1]))}") for each in PLACES]
)
def test_no_part_hides_a_match(place: Place) -> None:
    """In every place, as it is and within something else."""
    for odd in within(MATCH):
        for sse in (False, True):
            check_form([(place, odd)], sse)


REDACTS = Guard([Rule.literal("DROP TABLE", name="drop"), Rule.literal("SECRET", action="redact", name="secret")])
# What comes behind a chunk: the end of the source, a match, and a fault of the service.
TAILS: dict[str, list[list[Any]]] = {
    "chat": [[], [chunk({"content": "DROP TABLE"})], [{"error": {"message": "x"}}]],
    "completions": [[], [{"choices": [{"index": 0, "text": "DROP TABLE"}]}]],
    "responses": [[], [event("refusal.delta", delta="DROP TABLE")], [{"type": "error", "message": "m"}]],
    "messages": [
        [],
        [block("start", 7, content_block={"type": "thinking", "thinking": "DROP TABLE"})],
        [{"type": "error", "error": {"type": "x", "message": "y"}}],
    ],
    "vllm": [[], [{"request_id": "r", "outputs": [{"index": 0, "text": "DROP TABLE"}]}]],
    "langchain": [[], [of_langchain(AIMessageChunk, "DROP TABLE")]],
    "a message of langchain": [[]],
}


@pytest.mark.parametrize(
    "place", [pytest.param(each, id=f"{each[0]}: {'.'.join(map(str, each[1]))}") for each in PLACES]
)
def test_what_is_redacted_in_any_part_is_in_none_that_is_made_of_it(place: Place) -> None:
    """A last chunk, or one with a rest, is made like one before."""
    name, (number, *at) = place
    is_told = at[-1] in NAMES_OF_SERVICES or any(
        name == which and (number, *at)[: len(asked)] == asked for which, asked in OF_THE_REQUEST
    )
    for odd, tail in itertools.product(("SECRET", {"note": "SECRET"}, [{"text": "SECRET"}]), TAILS[name]):
        given_ = copy.deepcopy(SAMPLES[name][: number + 1])
        inside: Any = given_[number]
        for part in at[:-1]:
            inside = inside[part]
        inside[at[-1]] = odd
        out: list[Any] = []
        with contextlib.suppress(dc.InvalidInput):
            out.extend(iter(REDACTS.stream([*given_, *copy.deepcopy(tail)])))
        assert is_told or "SECRET" not in str(out), (odd, tail)


SHAPES = [
    pytest.param(name, sse, id=f"{name}, {'events' if sse else 'chunks'}") for name in SAMPLES for sse in (False, True)
]


@pytest.mark.parametrize(("name", "sse"), SHAPES)
def test_what_the_changes_are_made_to_comes_out(name: str, sse: bool) -> None:
    """Otherwise each would be refused for something else."""
    given_ = copy.deepcopy(SAMPLES[name])
    stream = DROP.stream(events_of(given_) or [] if sse else given_, sse=sse)
    out = str(list(stream))
    assert stream.stopped is None
    assert stream.held == 0
    # What is held comes out at the end.
    assert "DR" in out or "DR" not in str(given_)


# Of a hundred changes: how many stop the stream at least where they have a match, and how many come out without one.
NOT_REFUSED = {
    "chat": (33, 36),
    "completions": (18, 36),
    "responses": (26, 30),
    "messages": (33, 34),
    "vllm": (20, 50),
    "langchain": (19, 30),
    "a message of langchain": (90, 95),
}


@pytest.mark.parametrize(("name", "sse"), SHAPES)
def test_a_part_of_another_form_is_refused_only_where_nobody_could_read_it(name: str, sse: bool) -> None:
    """Many changes stop the stream by what they have, and those that have nothing come out."""
    own = [place for place in PLACES if place[0] == name]
    matched = Counter(check_form([(place, odd)], sse) for place in own for odd in within(MATCH))
    harmless = Counter(check_form([(place, odd)], sse) for place in own for odd in within("so"))
    del matched[None], harmless[None]
    assert set(matched) <= {"refused", "stopped", "came out"}
    assert matched["refused"] < matched.total(), matched
    assert harmless["refused"] < harmless.total(), harmless
    stopped, came_out = NOT_REFUSED[name]
    assert matched["stopped"] * 100 >= stopped * matched.total(), matched
    assert harmless["came out"] * 100 >= came_out * harmless.total(), harmless
    assert harmless["stopped"] == 0


def test_the_samples_have_every_field_of_what_they_are_of() -> None:
    """A field that no sample has is not tried."""
    for name, kind in (("langchain", AIMessageChunk), ("a message of langchain", AIMessage)):
        assert all(kind.model_fields.keys() <= sample.keys() for sample in SAMPLES[name])
        assert all(any(sample[field] for sample in SAMPLES[name]) for field in kind.model_fields)
    assert OF_VLLM.keys() == outputs.ABOUT_A_REQUEST
    assert AN_OUTPUT.keys() == outputs.ABOUT_AN_OUTPUT | {"text", "token_ids", "logprobs", "sampling_mask"}


def test_what_interrupts_a_program_goes_on() -> None:
    """And so does a fault of whoever wrote the rules."""
    for fault in (KeyboardInterrupt, MemoryError, RuntimeError, AssertionError):

        class Faulty(Guard):
            def cursor(self, *, json: bool = False, fault: type[BaseException] = fault) -> Any:
                raise fault

        with pytest.raises(fault):
            list(Faulty([Rule.literal("x")]).stream([chunk({"content": "a"})]))


# --- the rest where a part is absent -------------------------------------------------------------------------------


def deltas_of(chunks: list[Any]) -> list[Any]:
    return [each["choices"][0].get("delta") for each in chunks]


@pytest.mark.parametrize("last", [{"index": 0}, {"index": 0, "delta": None}])
@pytest.mark.parametrize("reason", ["stop", None])
def test_the_rest_comes_out_where_the_last_choice_has_no_delta(last: dict[str, Any], reason: str | None) -> None:
    """With one that is made for it, as a dictionary, an event or an object."""
    ends = {**last, "finish_reason": reason}
    chunks = [chunk({"content": "so DR"}), {"id": "c", "choices": [ends]}]
    assert "".join((each or {}).get("content") or "" for each in deltas_of(list(DROP.stream(chunks)))) == "so DR"
    wire = "".join(DROP.stream(events_of(chunks) or [], sse=True))
    out = [json.loads(line[6:]) for line in wire.splitlines() if line.startswith("data: {")]
    assert "".join((each or {}).get("content") or "" for each in deltas_of(out)) == "so DR"
    objects: list[Any] = [
        ChatCompletionChunk.model_validate({**each, "created": 1, "model": "m", "object": "chat.completion.chunk"})
        for each in (chunks[0], chunk({}))
    ]
    objects[1].choices[0].delta = None
    objects[1].choices[0].finish_reason = reason
    said = [each.choices[0].delta for each in DROP.stream(objects)]
    assert "".join((each.content or "") for each in said if each is not None) == "so DR"
    assert {type(each) for each in said if each is not None} == {type(objects[0].choices[0].delta)}


def test_the_rest_of_a_call_of_langchain_comes_out_where_the_last_has_no_arguments() -> None:
    def called(name: str | None, arguments: str | None, **about: Any) -> Any:
        return AIMessageChunk(
            content="", additional_kwargs={"function_call": {"name": name, "arguments": arguments}}, **about
        )

    out = list(DROP.stream([called("f", "a DR"), called(None, None, chunk_position="last")]))
    assert "".join(each.additional_kwargs["function_call"]["arguments"] or "" for each in out) == "a DR"


# --- what each reader looks at -------------------------------------------------------------------------------------


def refused(chunks: list[Any], guard: Guard = DROP) -> dc.InvalidInput:
    with pytest.raises(dc.InvalidInput) as caught:
        list(guard.stream(chunks))
    return caught.value


def stopped_in(chunks: list[Any], guard: Guard = DROP) -> tuple[list[Any], str | None]:
    stream = guard.stream(chunks)
    out = list(stream)
    assert stream.stopped is not None, out
    return out, stream.stopped.channel


def metadata(**about: Any) -> AIMessageChunk:
    return AIMessageChunk(content="", response_metadata=about)


def of_a_tool(arguments: Any) -> AIMessageChunk:
    return AIMessageChunk(content=[{"type": "server_tool_call", "args": arguments, "index": 0}])


def test_what_may_go_on_is_read_as_it_is_written_too() -> None:
    """Each piece is a document by itself, and what they are together is none."""
    guard = Guard([Rule.literal('4 " "\\rm', name="rm")])
    pieces = [of_a_tool('"4 "'), of_a_tool(' "\\rm"')]
    assert [json.loads(each.content[0]["args"]) for each in pieces] == ["4 ", "\rm"]  # type: ignore[index]
    assert (pieces[0] + pieces[1]).content[0]["args"] == '"4 " "\\rm"'
    out, _ = stopped_in(pieces, guard)
    assert "rm" not in str(out)


def test_a_stream_has_so_many_texts_that_may_go_on() -> None:
    """Memory has a bound, also where each comes once."""
    many = {f"k{number}": "a" for number in range(parts.MOST_ADDED)}
    assert list(DROP.stream([metadata(**many)]))
    assert refused([metadata(**many), metadata(one="a")]).code == "guard.too_large"
    # Those that go on are as many as texts in pieces.
    some = {f"k{number}": "a" for number in range(parts.MOST_CHANNELS + 1)}
    assert refused([metadata(**some), metadata(**some)]).code == "guard.too_large"
    # Also where they say nothing.
    items = [{"index": number} for number in range(parts.MOST_ADDED + 1)]
    assert refused([chunk({"annotations": items})]).code == "guard.too_large"
    assert refused([AIMessageChunk(content="", additional_kwargs={"tool_outputs": items})]).code == "guard.too_large"
    said = {f"k{number}": True for number in range(parts.MOST_ADDED + 1)}
    assert refused([AIMessageChunk(content=[{"type": "tool_use", "index": 0, **said}])]).code == "guard.too_large"


TOGETHER = Guard(
    [
        Rule.literal("drop table", name="drop"),
        Rule.regex(r"\b\d{3}-\d{2}\b", name="ssn", action="redact"),
        Rule.regex(r"key[a-c]+", name="key", action="redact"),
        Rule.regex(r"\bso\b", name="so"),
    ]
)


@settings(max_examples=300)
@given(
    pieces=st.lists(st.sampled_from(["drop", " ", "table", "123", "-45", "x", "key", "ab", "s", "o", "1"]), max_size=12)
)
def test_texts_that_go_on_are_held_to_a_check_of_all_of_them(pieces: list[str]) -> None:
    """At each as if it were the last: what is found in all of them stops the stream, or is refused."""
    together, expected, ends = "", 0, None
    for number, piece in enumerate(pieces):
        text, stop, _ = TOGETHER.check(piece)
        if stop is None and number:
            whole, stop, _ = TOGETHER.check(together + text)
            if stop is None and whole != together + text:
                ends = "refused"
                break
        if stop is not None:
            ends = "stopped"
            break
        together += text
        expected += 1
    stream = TOGETHER.stream(metadata(x=piece) for piece in pieces)
    out: list[Any] = []
    try:
        out.extend(iter(stream))
        came = "stopped" if stream.stopped is not None else None
    except dc.InvalidInput:
        came = "refused"
    assert came == ends
    # A stop has the chunk that it is in, without the text, and a last one.
    said = [each.response_metadata["x"] for each in out if "x" in each.response_metadata]
    assert "".join(said[:expected]) == together
    assert len([each for each in said if each]) <= len(pieces)


def test_what_is_found_once_it_was_replaced_does_not_go_on() -> None:
    """What a client makes of it is not what the rules make of it."""
    guard = Guard([Rule.literal("ab", name="ab", action="redact", replacement="ab!")])
    assert refused([metadata(x="ab"), metadata(x=" c")], guard).field == "response_metadata.x"


def test_the_name_of_an_item_is_not_added() -> None:
    guard = Guard([Rule.literal("1lc", name="name")])
    items = [AIMessageChunk(content="", additional_kwargs={"tool_outputs": [{"index": "lc_1", "x": "a"}]})] * 3
    assert list(guard.stream(items)) == items
    other = AIMessageChunk(content="", additional_kwargs={"tool_outputs": [{"index": "lc_ so", "x": "a"}]})
    assert refused([other]).field == "tool_outputs[].index"


def test_an_id_has_no_parts() -> None:
    for index in (0, None):
        parts = AIMessageChunk(content=[{"index": index, "id": {"x": "DROP TABLE"}}])
        assert refused([parts]).code == "guard.unknown_chunk"


def test_blocks_without_a_number_are_others_in_each_chunk() -> None:
    """LangChain puts them one behind the other, whatever they say."""

    def found(text: str) -> Any:
        cited = {"type": "text", "text": "", "citations": [{"cited_text": text}]}
        return AIMessageChunk(content=[{"type": "tool_use", "id": "t", "name": "f", "input": {"q": text}}, cited])

    blocks = [found("DROP "), found("TABLE")]
    assert len((blocks[0] + blocks[1]).content) == 4
    assert list(DROP.stream(blocks)) == blocks


class Once(dict[str, Any]):
    """One that can be copied so often."""

    left = 0

    def __copy__(self) -> Once:
        if not Once.left:
            raise TypeError("so DROP")
        Once.left -= 1
        return Once(self)


def test_the_end_of_a_stream_stumbles_over_nothing() -> None:
    """Where what is made like a chunk cannot be made, it is refused like the chunk."""
    for text in ("so DR", "so DROP TABLE"):
        Once.left = 1
        choice = Once(index=0, delta={"content": text}, finish_reason=None)
        fault = refused([{"id": "c", "choices": [choice]}])
        assert Once.left == 0
        assert (fault.code, fault.__context__) == ("guard.unknown_chunk", None)


def test_a_provider_s_name_is_added_once_it_is_another() -> None:
    """LangChain has it once only where it is what it has."""
    guard = Guard([Rule.literal("ABAB", name="twice")])
    pieces = [metadata(model_provider=each) for each in ("x", "AB", "AB")]
    assert (pieces[0] + pieces[1] + pieces[2]).response_metadata["model_provider"] == "xABAB"
    out, _ = stopped_in(pieces, guard)
    assert str(out).count("AB") == 1
    same = [metadata(model_provider="AB") for _ in range(3)]
    assert list(guard.stream(same)) == same


def test_of_what_cannot_be_read_the_field_is_told() -> None:
    """Its name, as far as a service could have it."""

    class Nothing:
        """It has a text, and says that it is nothing."""

        text = "DROP TABLE"

        def __bool__(self) -> bool:
            return False

    for given_, field in (
        (chunk({"content": "a", "extra": Nothing()}), "choices[].delta.extra"),
        (chunk({"content": "a", "DROP TABLE": Nothing()}), "choices[].delta.…"),
        (chunk({"content": "a"}, extra=Nothing()), "extra"),
        (SimpleNamespace(**chunk({"content": "a"}, extra=Nothing())), "extra"),
        (metadata(x={"y": Nothing()}), "response_metadata.x.y"),
        (chunk(object()), "choices[].delta"),
    ):
        assert refused([given_]).field == field


def test_what_stands_beside_a_summary_is_refused() -> None:
    for name, value in (("x", "DROP TABLE"), ("content", ["DROP TABLE"]), ("id", {"x": "DROP TABLE"})):
        about = AIMessageChunk(content="", additional_kwargs={"reasoning": {"summary": [], name: value}})
        assert refused([about]).field == "additional_kwargs.reasoning"


def test_vllm_s_last_output_is_ended_again_behind_its_end() -> None:
    """A client would not see otherwise that it was stopped."""

    def output(text: str, reason: str | None) -> dict[str, Any]:
        return {"request_id": "r", "outputs": [{"index": 0, "text": text, "finish_reason": reason}], "finished": False}

    out, _ = stopped_in([output("", "stop"), output("DROP TABLE", None)])
    assert out[-1]["finished"] is True
    assert [each["finish_reason"] for each in out[-1]["outputs"]] == ["abort"]


def test_what_a_message_says_is_left_behind_a_stop() -> None:
    """Its calls alone are none any more."""
    said = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "reasoning", "reasoning": "so"},
        {"type": "refusal", "refusal": "no"},
    ]
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    message = AIMessage(content=[*said, call, {"type": "text", "text": "DROP TABLE"}])
    out, _ = stopped_in([message])
    assert out[0].content == [*said, {"type": "text", "text": ""}]


@pytest.mark.parametrize("number", [4222222222222, 30569309025904, 378282246310005, 4111111111111111])
@pytest.mark.parametrize("name", ["created_at", "duration_ms", "start_index", "total_tokens"])
def test_a_count_is_no_card(name: str, number: int) -> None:
    """What a service counts and times passes up to a time in milliseconds; cards are longer."""
    out, _ = stopped_in([metadata(**{name: number})], CARDS)
    assert str(number) not in str(out)
    times = [metadata(**{name: 1_800_000_000_000})]
    assert list(CARDS.stream(times)) == times


def test_a_number_without_a_fraction_is_read_wherever_it_is() -> None:
    out, _ = stopped_in([metadata(x=4111111111111111.0)], CARDS)
    assert "4111" not in str(out)
    scores = [metadata(x=1.4222222222222)]
    assert list(CARDS.stream(scores)) == scores


def test_names_inside_of_arguments_are_the_model_s() -> None:
    """Also those that a service has elsewhere."""
    guard = Guard([Rule.literal("related_questions", name="named")])
    out, channel = stopped_in([of_a_tool({"related_questions": "x"})], guard)
    assert "related" not in str(out)
    assert channel == "content[0].args.name"
    passes = [metadata(related_questions="x")]
    assert list(guard.stream(passes)) == passes
