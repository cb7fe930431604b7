"""What says that a stream of a client, or a choice of it, is at its end: what waits for it, and what follows it."""

from __future__ import annotations

import copy
import functools
import json
import operator
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from decidable import Guard, Rule
from decidable.guard.parts import MOST_CHANNELS
from test_guard import Source, refused

GUARD = Guard([Rule.literal("DROP TABLE", name="drop"), Rule.regex(r"\bSSN 1\b", action="redact", name="ssn")])
ENDS = Guard([Rule.regex(r"drop\b", name="drop")])


def chunk(content: str | None = None, finish: str | None = None, index: int = 0, /, **about: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **about}


USAGE = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 2}}


def said(chunks: list[Any], index: int = 0) -> list[tuple[str, str | None]]:
    """Each piece of a choice, with the reason of an end that comes with it."""
    choices = [choice for each in chunks for choice in each.get("choices", ()) if choice["index"] == index]
    return [(choice["delta"].get("content") or "", choice["finish_reason"]) for choice in choices]


def event_of(chunk: Any) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def events(chunks: list[Any]) -> list[str]:
    return [*map(event_of, chunks), "data: [DONE]\n\n"]


# --- chat ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sse", [False, True])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        # What is held comes with the chunk that ends the choice, and before what was used.
        ([chunk("a DR"), chunk(None, "stop"), USAGE], [("a ", None), ("DR", "stop")]),
        ([chunk("a DR", "stop"), USAGE], [("a ", None), ("DR", "stop")]),
        ([chunk("a DR", "stop")], [("a ", None), ("DR", "stop")]),
        ([chunk("DR", "stop")], [("DR", "stop")]),
        # Servers say so in each chunk, or before the last: the text goes on, and is one.
        ([chunk("a DR", "stop"), chunk("um", "stop")], [("a ", None), ("", "stop"), ("DRum", "stop")]),
        ([chunk("a "), chunk(None, "stop"), chunk("b")], [("a ", None), ("", "stop"), ("b", None)]),
        # What says no more is the last that is said of it, whatever it repeats.
        ([chunk("DR"), chunk(None, "stop"), chunk(None, "stop")], [("", None), ("DR", "stop"), ("", "stop")]),
        ([chunk("DR"), chunk(None, "stop"), chunk("", None)], [("", None), ("DR", "stop"), ("", None)]),
        ([chunk("DR"), chunk(None, "stop"), chunk(), USAGE], [("", None), ("DR", "stop"), ("", None)]),
        ([chunk("DR"), chunk(None, "stop"), chunk("um")], [("", None), ("", "stop"), ("DRum", None)]),
        ([chunk("SSN "), chunk("1", "stop"), USAGE], [("", None), ("[redacted]", "stop")]),
        ([chunk("SSN "), chunk("1", "stop"), chunk("2", "stop")], [("", None), ("", "stop"), ("SSN 12", "stop")]),
    ],
)
def test_a_choice_that_says_that_it_ends_may_go_on(given: list[Any], wanted: list[Any], sse: bool) -> None:
    stream = GUARD.stream(events(given), sse=True) if sse else GUARD.stream(given)
    out = list(stream)
    if sse:
        lines = "".join(out).split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        out = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert said(out) == wanted
    assert [each for each in out if not each["choices"]] == [each for each in given if not each["choices"]]
    assert out[-1] == given[-1] or given[-1]["choices"]
    assert stream.stopped is None


@pytest.mark.parametrize("later", [chunk("OP TABLE"), chunk("OP TABLE", "stop")])
@pytest.mark.parametrize("first", [[chunk("a DR", "stop")], [chunk("a "), chunk("DR", "stop")]])
def test_nothing_of_a_match_over_an_end_comes_out(first: list[Any], later: Any) -> None:
    """And the choice ends once more, as one that was stopped."""
    stream = GUARD.stream([*first, later, chunk("more")])
    out = list(stream)
    assert "".join(text for text, _ in said(out)) == "a "
    assert [reason for _, reason in said(out)][-1] == "content_filter"
    assert stream.stopped is not None
    assert stream.stopped.start == 2


def test_a_match_that_the_end_decides_has_no_other_end() -> None:
    for given in ([chunk("a drop", "stop")], [chunk("a drop"), chunk(None, "stop"), USAGE]):
        out = list(ENDS.stream(given))
        assert [reason for _, reason in said(out) if reason] == ["content_filter"]
        assert "".join(text for text, _ in said(out)) == "a "
        assert USAGE not in out


@pytest.mark.parametrize("tail", [chunk("", None), chunk(None, "stop"), USAGE, chunk()])
def test_a_stop_at_an_end_is_the_only_reason(tail: dict[str, Any]) -> None:
    """Whatever the service says behind it, and whatever else it calls a reason."""
    for first in (
        [chunk("a drop"), chunk(None, "stop")],
        [chunk("a drop", "stop")],
        [chunk("a "), chunk("drop", "stop")],
    ):
        given = copy.deepcopy([*first, tail])
        for each in given:
            for choice in each["choices"]:
                choice |= {"native_finish_reason": choice["finish_reason"], "stop_reason": "</s>", "matched_stop": 7}
        out = list(ENDS.stream(given))
        assert [reason for _, reason in said(out) if reason] == ["content_filter"]
        assert "".join(text for text, _ in said(out)) == "a "
        reasons = [out[-1]["choices"][0][name] for name in ("native_finish_reason", "stop_reason", "matched_stop")]
        assert reasons == [None, None, None]


def test_what_is_not_held_comes_out_before_a_source_that_breaks() -> None:
    def source(*chunks: Any) -> Iterator[Any]:
        yield from chunks
        raise ConnectionError

    for given in (
        chunk("hello the DR", "stop"),
        of_langchain("hello the DR", response_metadata={"finish_reason": "stop"}),
    ):
        stream = GUARD.stream(source(given))
        out = [next(stream)]
        with pytest.raises(ConnectionError):
            next(stream)
        assert "hello the " in str(out)
        assert "DR" not in str(out)


def test_one_choice_that_ends_does_not_keep_another() -> None:
    """What ends a choice waits for what comes next of it, and nothing waits for that."""
    given = [chunk("a DR", None, 0), chunk("b DR", "stop", 1), chunk("um", None, 0), chunk(None, "stop", 0)]
    out, stream = [], GUARD.stream(iter(given))
    out.append(next(stream))
    out.append(next(stream))
    assert said(out, 1) == [("b ", None)]
    out += list(stream)
    assert said(out) == [("a ", None), ("DRum", None), ("", "stop")]
    assert said(out, 1) == [("b ", None), ("DR", "stop")]
    # It goes on, or what was used comes behind all of them.
    more = list(GUARD.stream([*given, chunk("um", "stop", 1)]))
    assert said(more, 1) == [("b ", None), ("", "stop"), ("DRum", "stop")]
    assert "goes on after its end" in str(
        refused("guard.unknown_chunk", lambda: list(GUARD.stream([*given, USAGE, chunk("um", None, 1)])))
    )
    each = [chunk(f"{text} DR", "stop", index) for text in "ab" for index in (0, 1)]
    out = list(GUARD.stream([*each, chunk("OP TABLE", "stop", 1), chunk("c", "stop", 0)]))
    assert "".join(text for text, _ in said(out, 1)) == "a DRb "
    assert said(out, 1)[-1][1] == said(out)[-1][1] == "content_filter"
    both = {**chunk(), "choices": [chunk("a DR", "stop")["choices"][0], chunk("DROP TABLE", None, 1)["choices"][0]]}
    out = list(GUARD.stream([both]))
    assert said(out) == [("a ", None), ("", "content_filter")]
    assert said(out, 1) == [("", None), ("", "content_filter")]


def test_a_chunk_of_what_was_used_may_have_no_choices() -> None:
    """As of Mistral on Vertex AI; and what is no such chunk is refused as ever."""
    used = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": {"total_tokens": 2}}
    for given in ([chunk("a"), chunk(None, "stop"), used], [used, chunk("a")], [chunk("a"), {"usage": {}}]):
        assert list(GUARD.stream(given)) == given
    for other in ({"usage": {}, "delta": {"content": "DROP TABLE"}}, {"object": "x"}, {"type": "ping", "text": "a"}):
        assert refused("input.wrong_type", lambda other=other: list(GUARD.stream([chunk("a"), other])))  # type: ignore[misc]


@pytest.mark.parametrize("reason", [{"end_turn": True}, {"content_filter_result": {"error": {"code": "c"}}}])
def test_what_azure_says_of_an_end_passes_and_is_read(reason: dict[str, Any]) -> None:
    last = chunk(None, "stop")
    last["choices"][0].update(reason)
    assert list(GUARD.stream([chunk("a"), last])) == [chunk("a"), last]
    last["choices"][0].update(end_turn="DROP TABLE")
    assert GUARD.check("DROP TABLE")[1] is not None
    assert "DROP" not in str(list(GUARD.stream([chunk("a"), last])))


def test_a_choice_may_have_no_number() -> None:
    """Then it is the first, as for clients."""
    given = [chunk("a DR"), chunk("OP TABLE")]
    for each in given:
        each["choices"][0]["index"] = None
    out = list(GUARD.stream(given))
    assert [each["choices"][0]["delta"].get("content") for each in out] == ["a ", "", None]


def test_an_end_that_was_told_is_told_once() -> None:
    """Where another choice is stopped, and what says no more of the first does not begin it again."""
    first = [chunk("a"), chunk(None, "stop"), chunk("", None)]
    out = list(GUARD.stream([*first, chunk("DROP TABLE", None, 1)]))
    assert said(out) == [("a", None), ("", "stop"), ("", None)]
    assert said(out, 1)[-1] == ("", "content_filter")
    out = list(GUARD.stream([chunk("DR"), chunk(None, "stop"), USAGE, chunk("DROP TABLE", None, 1)]))
    assert [reason for _, reason in said(out) if reason] == ["stop"]


def test_a_choice_that_went_on_is_ended_where_another_is_stopped() -> None:
    out = list(GUARD.stream([chunk("a", "stop"), chunk("b"), chunk("DROP TABLE", None, 1)]))
    assert said(out) == [("a", "stop"), ("b", None), ("", "content_filter")]


def test_of_two_ends_that_wait_the_first_may_stop_both() -> None:
    guard = Guard([Rule.regex(r"drop\b"), Rule.literal("DROP TABLE")])
    given = [chunk("a drop"), chunk("b DR", None, 1), chunk(None, "stop"), chunk(None, "stop", 1), USAGE]
    out = list(guard.stream(given))
    for index, text in enumerate(("a ", "b ")):
        assert "".join(piece for piece, _ in said(out, index)) == text
        assert [reason for _, reason in said(out, index) if reason] == ["content_filter"]


def test_of_two_choices_whose_end_stops_one_the_other_has_no_end_before_it() -> None:
    """Though the chunk that ends the first has more of the other, which said before that it was at its end."""
    guard = Guard([Rule.regex(r"drop\b"), Rule.literal("DROP TABLE")])
    both = {**chunk(), "choices": [chunk("")["choices"][0], chunk("UM", None, 1)["choices"][0]]}
    given = [chunk("a drop"), chunk("b DR", None, 1), chunk(None, "stop"), chunk(None, "stop", 1), both]
    out = list(guard.stream(given))
    assert said(out) == [("a ", None), ("", None), ("", "content_filter")]
    assert said(out, 1) == [("b ", None), ("", "content_filter")]


@pytest.mark.parametrize("texts", [(None, None), ("O", None), (None, "O"), ("O", "O")])
@pytest.mark.parametrize("tail", [[], [USAGE]])
def test_two_choices_may_end_in_one_chunk(texts: tuple[str | None, str | None], tail: list[Any]) -> None:
    """Each with what was held of it."""
    ends = [chunk(text, "stop", index)["choices"][0] for index, text in enumerate(texts)]
    given = [chunk("a DR"), chunk("b DR", None, 1), {**chunk(), "choices": ends}, *tail]
    for stream in (GUARD.stream(given), GUARD.stream(events(given), sse=True)):
        out = list(stream)
        if isinstance(out[0], str):
            lines = "".join(out).split("\n\n")
            out = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        for index, text in enumerate(texts):
            whole = "".join(piece for piece, _ in said(out, index))
            assert whole == f"{'ab'[index]} DR{text or ''}"
            assert [reason for _, reason in said(out, index) if reason] == ["stop"]
            assert said(out, index)[-1] == (whole[2:], "stop")
        assert out[-1] == USAGE or not tail
        assert stream.stopped is None


def test_what_waits_keeps_its_place_among_events() -> None:
    """The id of an event stays with it or before it, and an error comes behind what came before it."""
    given = [
        f"id: {number}\ndata: {json.dumps(each)}\n\n"
        for number, each in enumerate([chunk("a DR"), chunk(None, "stop"), USAGE], 1)
    ]
    body = "".join(GUARD.stream([*given, "data: [DONE]\n\n"], sse=True))
    lines = [line.partition(": ") for line in body.splitlines() if line]
    told = [value if name == "id" else json.loads(value) for name, _, value in lines[:-1]]
    assert told == ["1", chunk("a "), "2", chunk("DR", "stop"), "3", USAGE]
    error = {"error": {"message": "gone", "type": "server_error"}}
    for broken in (error, {"error": {"message": "DROP TABLE"}}):
        out = "".join(GUARD.stream([*given[:2], f"data: {json.dumps(broken)}\n\n"], sse=True))
        chunks = [json.loads(line[6:]) for line in out.splitlines() if line.startswith("data: {")]
        assert chunks[:2] == [chunk("a "), chunk("DR", "stop")]
        assert "DROP" not in out
    dropped = list(ENDS.stream([event_of(chunk("a drop")), event_of(chunk(None, "stop")), event_of(error)], sse=True))
    assert "gone" not in str(dropped)
    assert "content_filter" in str(dropped)


def test_what_has_parts_is_read_and_numbers_of_tokens_are_not() -> None:
    """Where a service has a word, counts, or the tokens of a prompt."""
    for name in ("usage", "id", "model", "timings", "prompt_token_ids", "system_fingerprint"):
        for parts in ({"note": "DROP TABLE"}, ["DROP TABLE"], [{"note": "DROP TABLE"}]):
            out = list(GUARD.stream([{**chunk("a"), name: parts}]))
            assert "DROP" not in str(out)
            assert out[-1]["choices"][0]["finish_reason"] == "content_filter"
    tokens = Guard([Rule.literal("4111")])
    given = [{**chunk("a"), "prompt_token_ids": [4111, 7], "created_at": 4111, "request_id": "4111"}]
    assert list(tokens.stream(given)) == given


# --- messages, responses ---------------------------------------------------------------------------------------------


def test_a_message_that_is_stopped_at_its_end_has_no_other_reason() -> None:
    """And a signature is no text."""
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "note": "DROP TABLE"}, "usage": {}}
    out = list(GUARD.stream([end]))
    assert [each["delta"]["stop_reason"] for each in out if each["type"] == "message_delta"] == ["refusal"]
    for more in ({"signature": "x", "text": "DROP TABLE"}, {"signature": {"text": "DROP TABLE"}}):
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", **more}}
        assert refused("guard.unknown_chunk", lambda delta=delta: list(GUARD.stream([delta])))  # type: ignore[misc]
    sealed = {"type": "compaction_delta", "content": "a", "encrypted_content": {"text": "DROP TABLE"}}
    chunks = [{"type": "content_block_delta", "index": 0, "delta": sealed}]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(chunks))).field == "delta.encrypted_content"
    assert "DROP" not in str(list(GUARD.stream([{**end, "delta": {}, "usage": {"note": "DROP TABLE"}}])))


def test_what_bedrock_says_at_the_end_of_a_message_is_read() -> None:
    """Its counts pass, and the trace of its own filter is a text like any other."""
    metrics = {"inputTokenCount": 9, "outputTokenCount": 9, "invocationLatency": 9, "firstByteLatency": 9}
    stop = {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}
    for given in (stop, {**stop, "amazon-bedrock-guardrailAction": "NONE"}):
        assert list(GUARD.stream([given])) == [given]
        assert next(GUARD.stream([SimpleNamespace(**given)])).type == "message_stop"
    out = list(GUARD.stream([{**stop, "amazon-bedrock-trace": {"guardrail": {"match": "DROP TABLE"}}}]))
    assert "DROP" not in str(out)
    assert [each["type"] for each in out] == ["message_delta", "message_stop"]
    other = {"type": "message_stop", "amazon-bedrock-other": "DROP TABLE"}
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([other]))).field == "amazon-bedrock-other"


# --- vLLM -------------------------------------------------------------------------------------------------------------


def an_output(text: str, finish: str | None = None, stop: str | int | None = None, index: int = 0) -> dict[str, Any]:
    about = {"finish_reason": finish, "stop_reason": stop}
    return {"index": index, "text": text, "token_ids": [len(text)], **about}


def of_vllm(*outputs: dict[str, Any], finished: bool = False) -> dict[str, Any]:
    return {"request_id": "r", "outputs": list(outputs), "finished": finished}


def test_an_output_that_is_stopped_at_its_end_has_no_other_reason() -> None:
    """Whether the match is in its last piece, or the end decides it."""
    for given in (
        [of_vllm(an_output("a drop", "stop", "</s>"), finished=True)],
        [of_vllm(an_output("a drop")), of_vllm(an_output("", "stop", 7), finished=True)],
        [of_vllm(an_output("a drop. b", "length"), finished=True)],
    ):
        stream = ENDS.stream(given)
        out = list(stream)
        assert stream.stopped is not None
        ends = [(each["finish_reason"], each["stop_reason"]) for chunk_ in out for each in chunk_["outputs"]]
        assert ends == [(None, None)] * len(given) + [("abort", None)]
        assert [each["finished"] for each in out] == [False] * len(given) + [True]
        assert "".join(each["text"] for chunk_ in out for each in chunk_["outputs"]) == "a "
    # One that was at its end before has its own.
    first = of_vllm(an_output("a", "stop", 7), an_output("b", index=1))
    out = list(ENDS.stream([first, of_vllm(an_output("drop", "stop", 7, 1), finished=True)]))
    assert out[0] == {**first, "outputs": [{**each, "token_ids": []} for each in first["outputs"]]}
    ends = [(each["index"], each["finish_reason"]) for chunk_ in out[1:] for each in chunk_["outputs"]]
    assert ends == [(1, None), (1, "abort")]


# --- LangChain -------------------------------------------------------------------------------------------------------


def of_langchain(content: Any = "", **about: Any) -> AIMessageChunk:
    return AIMessageChunk(content=content, **about)


def ending(**reason: str) -> AIMessageChunk:
    return of_langchain(response_metadata={**reason, "model_name": "m"})


LAST = of_langchain(chunk_position="last")


@pytest.mark.parametrize("name", ["finish_reason", "stop_reason", "done_reason", "stopReason", "status"])
def test_a_stop_at_the_end_of_a_message_is_its_only_reason(name: str) -> None:
    """LangChain adds the reasons of all chunks together."""
    told = {"finish_reason": "content_filter", "model_name": "m"}
    for given in (
        [of_langchain("a drop"), ending(**{name: "stop"}), LAST],
        [of_langchain("a drop"), ending(**{name: "stop"})],
        [of_langchain("a drop", response_metadata={name: "stop", "model_name": "m"}), LAST],
        # What says no more is no more of the message.
        [of_langchain("a drop"), ending(**{name: "stop"}), of_langchain(additional_kwargs={"refusal": ""}), LAST],
        [of_langchain("a drop"), ending(**{name: "stop"}), of_langchain(additional_kwargs={"citations": ["b"]}), LAST],
        [of_langchain("a drop", response_metadata={name: "stop", "model_name": "m"}, chunk_position="last")],
    ):
        stream = ENDS.stream(given)
        out = list(stream)
        whole = functools.reduce(operator.add, out)
        assert (whole.content, whole.response_metadata) == ("a ", told)
        assert [each.chunk_position for each in out].count("last") == 1
        assert stream.stopped is not None


def test_the_id_of_a_message_is_no_text() -> None:
    guard = Guard([Rule.regex("[0-9a-f]{8}-[0-9a-f]{4}")])
    for kind in (AIMessage, AIMessageChunk):
        given = kind(content="so. ", id="run--0123abcd-89ab")
        assert list(guard.stream([given])) == [given]


def test_a_whole_message_that_is_stopped_has_no_other_reason() -> None:
    said_ = {"stop_reason": "end_turn", "status": "completed"}
    (out,) = ENDS.stream([AIMessage(content="a drop", response_metadata=said_)])
    assert out.response_metadata == {"finish_reason": "content_filter"}


def test_what_a_message_holds_comes_with_the_reason_of_its_end() -> None:
    given = [of_langchain("a DR"), ending(finish_reason="stop"), of_langchain(usage_metadata=None), LAST]
    out = list(GUARD.stream(given))
    assert [each.content for each in out] == ["a ", "DR", "", ""]
    assert out[1].response_metadata == {"finish_reason": "stop", "model_name": "m"}
    # It goes on where the next chunk has more.
    for more in ("um", "OP TABLE"):
        stream = GUARD.stream([of_langchain("a DR", response_metadata={"finish_reason": "stop"}), of_langchain(more)])
        whole = functools.reduce(operator.add, stream)
        assert whole.content == ("a DRum" if more == "um" else "a ")
        assert (stream.stopped is None) == (more == "um")


def test_what_says_why_a_message_ends_waits_for_nothing_where_nothing_is_held() -> None:
    """A client has it before the service says anything more."""
    text, end, more = of_langchain("a. "), ending(finish_reason="stop"), of_langchain("b. ")
    for given in ([text, end, LAST], [text, end, more, end, LAST], [end], [ending(status="completed"), text, LAST]):
        source = Source(*given)
        stream = GUARD.stream(source)
        for number, each in enumerate(given, 1):
            assert next(stream) == each
            assert source.read == number
        assert list(stream) == []


CALLED = {"name": "f", "args": '{"n": 1', "id": "a", "index": 0, "type": "tool_call_chunk"}
PARTS_OF_BLOCKS = [
    [{"type": "text", "text": "so DR", "index": 0}],
    [{"type": "reasoning", "reasoning": "so DR", "index": 0}],
    [{"type": "thinking", "thinking": "so DR", "index": 0}, {"type": "text", "text": "a DR", "index": 1}],
    [{"type": "reasoning_content", "reasoning_content": {"text": "so DR"}, "index": 0}],
    [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "so DR", "index": 0}], "index": 0}],
    [{"type": "tool_use", "name": "f", "id": "t", "input": '{"a": "DR', "index": 0}],
]


@pytest.mark.parametrize("blocks", PARTS_OF_BLOCKS)
def test_what_a_last_chunk_holds_is_what_it_would_be_without_a_guard(blocks: list[Any]) -> None:
    """LangChain puts nothing together within the first list, so a rest goes on with the item that is there."""
    for given in (
        [of_langchain(blocks, chunk_position="last")],
        [of_langchain([]), of_langchain(blocks, chunk_position="last")],
    ):
        assert functools.reduce(operator.add, GUARD.stream(given)) == functools.reduce(operator.add, given)
    # And it is what another guard takes.
    once = list(GUARD.stream(copy.deepcopy(given)))
    assert list(GUARD.stream(copy.deepcopy(once))) == once


@pytest.mark.parametrize("others", [[], [{**CALLED, "id": "b", "index": 1}], [{**CALLED, "id": "b"}]])
def test_a_call_in_one_last_chunk_has_all_of_its_arguments(others: list[Any]) -> None:
    guard = Guard([Rule.regex(r'"n": 1\}\d')])
    whole = of_langchain(
        "", chunk_position="last", tool_call_chunks=[{**each, "args": '{"n": 1}'} for each in [CALLED, *others]]
    )
    (out,) = guard.stream([whole])
    assert out.tool_calls == whole.tool_calls
    assert [call["args"] for call in out.tool_calls] == [{"n": 1}] * (1 + len(others))
    assert out.invalid_tool_calls == []
    # A part that breaks off is there in one piece as well.
    broken = of_langchain("", chunk_position="last", tool_call_chunks=[{**CALLED, "args": '{"a": "SSN 1'}])
    (out,) = GUARD.stream([broken])
    assert [each["args"] for each in out.tool_call_chunks] == ['{"a": "[redacted]']


USED = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("tail", [[], [LAST], [of_langchain("um"), LAST], [of_langchain("um")]])
@pytest.mark.parametrize("reason", [{}, {"finish_reason": "stop"}])
def test_what_a_message_used_is_told_once(reason: dict[str, str], tail: list[AIMessageChunk]) -> None:
    """LangChain adds it up, also that of the chunks that the guard makes for what it held."""
    for text in ("a DR", "DR", "a"):
        given = [of_langchain(text, usage_metadata=USED, response_metadata=reason), *tail]
        whole, before = functools.reduce(operator.add, GUARD.stream(given)), functools.reduce(operator.add, given)
        assert before.usage_metadata == USED
        assert whole.usage_metadata == USED
        assert (whole.content, whole.response_metadata) == (before.content, before.response_metadata)
    stopped = functools.reduce(operator.add, GUARD.stream([of_langchain("a DROP TABLE", usage_metadata=USED)]))
    assert (stopped.content, stopped.usage_metadata) == ("a ", USED)


def test_calls_of_two_tools_that_gemini_has_in_two_chunks_pass() -> None:
    """They stand among the chunks of calls, and beside them, where LangChain makes one of both."""

    def call(number: str, name: str, args: str) -> AIMessageChunk:
        own = {"name": name, "args": args, "id": number, "index": None, "type": "tool_call_chunk"}
        beside = {"function_call": {"name": name, "arguments": args}}
        return of_langchain(tool_call_chunks=[own], additional_kwargs=beside)

    given = [call("1", "weather", '{"a": 1}'), call("2", "time", '{"b": 2}')]
    assert list(GUARD.stream(given)) == given
    stream = GUARD.stream([call("1", "DROP ", "{}"), call("2", "TABLE", "{}")])
    assert "TABLE" not in str(list(stream))
    assert stream.stopped is not None


def test_what_databricks_and_cohere_have_beside_a_text_passes() -> None:
    def part(text: str, signature: str) -> dict[str, Any]:
        return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text, "signature": signature}]}

    found = {"type": "url_citation", "title": "t", "url": "https://example.com"}
    about = {"documents": None, "generation_id": "c1f2", "token_count": {"input_tokens": 1.0}, "citations": None}
    given = [
        of_langchain([part("hm", "")]),
        of_langchain([part("", "CAIS6w==")]),
        of_langchain([{"type": "text", "text": "so"}]),
        of_langchain([{"annotations": [found]}]),
        of_langchain([], additional_kwargs=about),
    ]
    assert list(GUARD.stream(given)) == given
    for block in ({"annotations": [{**found, "title": "DROP TABLE"}]}, part("DROP TABLE", "")):
        assert "DROP" not in str(list(GUARD.stream([of_langchain([block])])))
    for block in ({"annotations": [found], "text": "DROP TABLE"}, part("a", "DROP TABLE ") | {"x": "DROP TABLE"}):
        assert refused("guard.unknown_chunk", lambda block=block: list(GUARD.stream([of_langchain([block])])))  # type: ignore[misc]
    stream = GUARD.stream([of_langchain("", additional_kwargs={"documents": [{"text": "DROP TABLE"}]})])
    assert "DROP" not in str(list(stream))


# --- what waits, and what it waits for ---------------------------------------------------------------------------


def test_what_waits_is_not_the_source_s_own() -> None:
    """A source may take one object for all of its chunks: what was read is what comes out."""

    def of_chat() -> Iterator[Any]:
        one = chunk("a DR")
        yield one
        for following in (chunk(None, "stop"), chunk("OP TABLE")):
            one["choices"] = following["choices"]
            yield one

    def of_messages() -> Iterator[Any]:
        one = AIMessageChunk(content="a DR")
        yield one
        one.content, one.response_metadata = "", {"finish_reason": "stop"}
        yield one
        one.content, one.response_metadata = "OP TABLE", {}
        yield one

    def of_events() -> Iterator[Any]:
        yield {"type": "message_start", "message": {"content": [], "usage": None}}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a DR"}}
        one: dict[str, Any] = {"type": "content_block_stop", "index": 0}
        yield one
        one |= {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "OP TABLE"}}
        yield one

    for source in (of_chat, of_messages, of_events):
        stream = GUARD.stream(source())
        out = [copy.deepcopy(each) for each in stream]
        assert "a " in str(out)
        assert "OP TABLE" not in str(out)
        assert stream.stopped is not None


def test_what_waits_comes_out_as_it_was() -> None:
    """What its source makes of it later is not what came."""

    def of_two_choices() -> Iterator[Any]:
        for index in (0, 1):
            yield chunk("a DR", None, index)
        delta: dict[str, Any] = {"annotations": [{"index": 0, "url": "u"}]}
        two = {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": "stop"} for index in (0, 1)]}
        yield two
        two["id"] = two["choices"] = delta["annotations"] = "later"  # type: ignore[assignment]
        yield USAGE

    def of_one_choice() -> Iterator[Any]:
        yield chunk("a DR")
        last = chunk(None, "stop", note=["so"])
        yield last
        last["note"][0] = last["choices"][0]["finish_reason"] = "later"
        yield USAGE

    def of_a_block() -> Iterator[Any]:
        yield {"type": "message_start", "message": {"content": [], "usage": None}}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a DR"}}
        # Of a client's own kind, which repeats the block.
        stop: dict[str, Any] = {"type": "content_block_stop", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield stop
        stop["content_block"]["type"] = stop["index"] = "later"
        yield {"type": "message_stop"}

    def of_langchain_s() -> Iterator[Any]:
        reasons = {"finish_reason": "stop", "model_name": "m"}
        for text in ("", "so DR"):
            yield AIMessageChunk(content="a DR")
            last = AIMessageChunk(content=text, response_metadata={**reasons, "status": ["done"]})
            yield last
            last.response_metadata["finish_reason"] = last.response_metadata["model_name"] = "later"
            last.response_metadata["status"][0] = "later"
            yield AIMessageChunk(content="um")

    for source in (of_two_choices, of_one_choice, of_a_block, of_langchain_s):
        stream = GUARD.stream(source())
        out = [copy.deepcopy(each) for each in stream]
        assert "later" not in str(out), source
        assert "DR" in str(out)
        assert stream.stopped is None


def test_what_cannot_be_copied_does_not_wait() -> None:
    class Single(dict[str, Any]):
        def __deepcopy__(self, _: Any) -> Any:
            return chunk("DROP TABLE")

    given = [Single(chunk("a DR")), Single(chunk(None, "stop"))]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(given))).field == "copy"


@pytest.mark.parametrize("alive", [{"type": "ping"}, {"id": "c", "object": "chat.completion.chunk", "choices": []}])
@pytest.mark.parametrize("again", [[], [chunk("", "stop")], [chunk(None, "stop"), chunk("", "stop")]])
def test_a_sign_of_life_ends_no_choice(alive: dict[str, Any], again: list[Any]) -> None:
    """Nor does one more chunk that says that it is at its end: the text goes on, whatever is held."""
    for text in ("a DR", "a "):
        given = [chunk(text, "stop"), *again, alive, chunk("um", "stop")]
        out = list(GUARD.stream(given))
        assert "".join(said for said, _ in said(out)) == f"{text}um"
        assert [reason for _, reason in said(out) if reason] == ["stop"] * (2 + len(again))
        assert alive in out


def test_choices_begin_in_their_order() -> None:
    """OpenAI's helper for streams puts each where its number says, behind those before it."""
    given = [
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
        for choices in (
            [{"index": 0, "delta": {"role": "assistant", "content": "DR"}, "finish_reason": "stop"}],
            [{"index": 1, "delta": {"role": "assistant", "content": "It is "}, "finish_reason": None}],
            [{"index": 1, "delta": {"content": "DROP"}, "finish_reason": "stop"}],
        )
    ]
    state: Any = ChatCompletionStreamState()
    out = list(GUARD.stream(given))
    for each in out:
        state.handle_chunk(ChatCompletionChunk.model_validate(each))
    answers = [choice.message.content for choice in state.current_completion_snapshot.choices]
    assert answers == ["DR", "It is DROP"]
    assert [reason for index in (0, 1) for _, reason in said(out, index) if reason] == ["stop", "stop"]


def test_choices_that_wait_begin_once() -> None:
    """However many begin behind them, and where they went on."""
    first = chunk("DR", "stop")
    first["choices"][0]["delta"]["role"] = "assistant"
    others = [chunk("x", None, 1), chunk("y", None, 2), chunk("z", None, 3)]
    for between in ([], [chunk("DR"), chunk(None, "stop")]):
        given = [first, *between, *others, USAGE]
        out = list(GUARD.stream(given))
        assert "".join(text for text, _ in said(out)) == "DR" * (1 + bool(between))
        # That which begins a choice comes out without its end, which comes later.
        assert len(out) == len(given) + (not between)
        assert out[-1] == USAGE


# --- errors of a service -----------------------------------------------------------------------------------------

BLOCK: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"content": [], "usage": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a DR"}},
]
OF_A_RESPONSE = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "i"}
BEFORE: dict[str, list[dict[str, Any]]] = {
    "chat": [chunk("a DR")],
    "chat at its end": [chunk("a DR"), chunk(None, "stop")],
    "messages": BLOCK,
    "messages at the end of a block": [*BLOCK, {"type": "content_block_stop", "index": 0}],
    "a response": [{**OF_A_RESPONSE, "delta": "a DR", "logprobs": [], "sequence_number": 0}],
}
ERRORS: dict[str, str] = {
    "an error": event_of({"error": {"message": "busy"}}),
    "an error of vLLM": event_of({"object": "error", "message": "busy", "type": "x", "code": 503}),
    "an event": f"event: error\n{event_of({'message': 'busy'})}",
    "an event with a type": f"event: error\n{event_of({'type': 'error', 'error': {'message': 'busy'}})}",
    "words": "event: error\ndata: busy\n\n",
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("shape", BEFORE)
def test_what_is_held_comes_out_before_an_error(shape: str, error: str) -> None:
    """Because clients read no further; and where its end stops the stream, no error comes out."""
    named = [f"event: {each['type']}\n{event_of(each)}" if "type" in each else event_of(each) for each in BEFORE[shape]]
    body = "".join(GUARD.stream(["".join(named) + ERRORS[error]], sse=True))
    assert body.count("DR") == body.count("busy") == 1
    assert body.index("DR") < body.index("busy")
    ends = Guard([Rule.regex(r"DR\b", name="drop")])
    stream = ends.stream(["".join(named) + ERRORS[error]], sse=True)
    body = "".join(stream)
    assert stream.stopped is not None
    assert "DR" not in body
    assert "busy" not in body


def test_what_is_held_comes_out_before_an_error_that_is_an_object() -> None:
    for shape, given in BEFORE.items():
        error = {"error": {"message": "busy"}} if shape.startswith("chat") else {"type": "error", "message": "busy"}
        error |= {"error": {"message": "busy"}} if shape.startswith("messages") else {}
        out = [str(each) for each in GUARD.stream([*given, error])]
        assert "busy" in out[-1]
        assert "DR" in "".join(out[:-1])


def test_what_is_held_comes_out_with_an_error_that_has_choices() -> None:
    """As OpenRouter's: behind what the chunk has of the text itself, and before it of other choices."""
    error = {"error": {"code": 502, "message": "busy"}}
    for content, index in (("", 0), ("um", 0), ("so", 1)):
        out = list(GUARD.stream([chunk("a DR"), chunk(content, "error", index, **error)]))
        assert "".join(text for text, _ in said(out)) == "a DR" + (content if index == 0 else "")
        assert "busy" in str(out[-1])
        assert "busy" not in str(out[:-1])
    (*before, last) = GUARD.stream([chunk("a DR"), error | {"id": "c", "choices": []}])
    assert "DR" in str(before)
    assert last["error"] == error["error"]
    stream = Guard([Rule.regex(r"DR\b", name="drop")]).stream([chunk("a DR"), chunk("", "error", **error)])
    assert [reason for _, reason in said(list(stream)) if reason] == ["content_filter"]


@pytest.mark.parametrize("name", ["type", "message", "code", "param", "status", "status_code", "detail", "details"])
def test_the_last_chunk_behind_an_error_says_nothing_of_it(name: str) -> None:
    for error in ({"object": "error", name: "DROP TABLE"}, {"error": {"message": "x"}, name: "DROP TABLE"}):
        for given in (error, SimpleNamespace(**error)):
            stream = GUARD.stream([given])
            *_, last = [str(each) for each in stream]
            assert "DROP TABLE" not in last
            assert "content_filter" in last
            assert stream.stopped is not None


def test_what_waits_comes_out_before_an_error_that_has_choices() -> None:
    found = {"index": 0, "delta": {"annotations": [{"index": 0, "url": "u"}]}, "finish_reason": "stop"}
    given = [chunk("a DR"), {"id": "c", "choices": [found]}, chunk(None, "error", error={"message": "busy"})]
    first, second, last = GUARD.stream(given)
    assert said([first]) == [("a ", None)]
    assert second["choices"][0]["delta"] == found["delta"]
    assert (said([last]), last["error"]) == ([("DR", "error")], {"message": "busy"})


def test_what_waits_of_a_choice_comes_out_before_what_it_has_later() -> None:
    """Clients put together what comes whole, and in the order in which it came."""

    def both(more: dict[str, Any], finish: str | None, other: str) -> dict[str, Any]:
        choices = [
            {"index": 0, "delta": more, "finish_reason": finish},
            {"index": 1, "delta": {"content": other}, "finish_reason": None},
        ]
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}

    def put_together(contexts: list[str], guard: Guard = GUARD) -> tuple[Any, Any]:
        given = [both({"role": "assistant", "content": ""}, None, "x"), both({"content": "a DR"}, None, "y")]
        first, *others, last = contexts
        for each in (first, *others):
            one = chunk(None, "stop")
            one["choices"][0]["delta"] = {"context": each}
            given.append({**one, "created": 1, "model": "m"})
        given.append(both({"context": last}, "stop", "z"))
        given.append({**chunk(None, "stop", 1), "created": 1, "model": "m"})
        state: Any = ChatCompletionStreamState()
        stream = guard.stream(given)
        for each in stream:
            state.handle_chunk(ChatCompletionChunk.model_validate(each))
        return [choice.message.to_dict() for choice in state.current_completion_snapshot.choices], stream.stopped

    for contexts in (["one ", "two"], ["one ", "two ", "three"]):
        (answer, other), stopped = put_together(contexts)
        assert (answer["content"], answer["context"], other["content"]) == ("a DR", "".join(contexts), "xyz")
        assert stopped is None
    answers, stopped = put_together(["DROP", " TABLE"])
    assert "DROP TABLE" not in str(answers)
    assert stopped is not None


def test_so_many_chunks_wait_at_most() -> None:
    given = [chunk("a DR"), *(chunk(None, "stop", note="so") for _ in range(MOST_CHANNELS + 1))]
    refused("guard.too_large", lambda: list(GUARD.stream(given)))


def test_messages_of_langchain_as_dictionaries_keep_what_they_are() -> None:
    """What LangChain makes of the pieces of calls is made anew by whoever makes messages of them."""
    piece = {"name": "f", "args": '{"a": 1}', "id": "a", "index": 0, "type": "tool_call_chunk"}
    about: dict[str, Any] = {"additional_kwargs": {}, "response_metadata": {}, "type": "AIMessageChunk", "id": "i"}
    call = {"name": "f", "args": {"a": 1}, "id": "a", "type": "tool_call"}
    given = [
        {"content": "b DR", "tool_call_chunks": [], "tool_calls": [], "invalid_tool_calls": [], **about},
        {"content": "", "tool_call_chunks": [piece], "tool_calls": [call], "invalid_tool_calls": [], **about},
    ]
    out = list(GUARD.stream(copy.deepcopy(given)))
    assert [each["content"] for each in out] == ["b ", "", "DR"]
    assert out[:2] == [{**given[0], "content": "b "}, {**given[1], "tool_calls": []}]
    assert all(each["type"] == "AIMessageChunk" for each in out)
    whole = functools.reduce(operator.add, (AIMessageChunk(**each) for each in out))
    assert (whole.content, whole.tool_calls) == ("b DR", [call])
    # Over the wire they are no events with a name, and their end has no form of chat.
    over_the_wire = list(GUARD.stream(map(event_of, given), sse=True))
    assert [each.partition(":")[0] for each in over_the_wire] == ["data"] * 3
    assert [json.loads(each.removeprefix("data:")) for each in over_the_wire] == out
    assert "DONE" not in str(list(GUARD.stream([event_of({**given[0], "content": "DROP TABLE"})], sse=True)))
