"""Chunks as servers that speak like OpenAI stream them: what becomes of each field, in every form that they come in."""

from __future__ import annotations

import copy
import functools
import json
import operator
from typing import Any

import openai.types.chat
import openai.types.responses
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk

from decidable import Guard, Rule, StopReason
from test_guard import refused

GUARD = Guard(
    [
        Rule.literal("DROP TABLE", ignore_case=True, name="drop"),
        Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", action="redact", name="ssn"),
    ]
)
SSN = "078-05-1120"


def of(about: dict[str, Any], *choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return about | {"choices": list(choices)} | more


def delta(content: str, finish: str | None = None, /, **about: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": content, **about}, "finish_reason": finish}


def in_parts(*texts: str) -> list[Any]:
    return [{"type": "text", "text": each} for each in texts]


def snowflake(text: str) -> dict[str, Any]:
    """A delta that says what it has three times."""
    return {"type": "text", "content": text, "content_list": in_parts(text), "text": text}


OPENAI = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp_1"}
LINK = "https://example.com/a"
# Each says "a drop" and "box" in two chunks, with the fields that its server has beside them.
PROVIDERS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        of(OPENAI, delta("a drop", role="assistant", refusal=None), service_tier="default", obfuscation="q7Zk"),
        of(
            OPENAI,
            delta("box", "stop") | {"logprobs": {"content": [{"token": "box", "logprob": -0.1}]}},
            usage=None,
            obfuscation="x",
            moderation={"reason": "words"},
        ),
        of(OPENAI, usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, obfuscation=""),
    ],
    "openai search": [
        of(
            OPENAI,
            delta("a drop", annotations=[{"type": "url_citation", "url_citation": {"url": LINK, "title": "A title"}}]),
        ),
        of(OPENAI, delta("box") | {"logprobs": None}),
        of(OPENAI, {"index": 0, "delta": {}, "finish_reason": "stop"}),
    ],
    "azure": [
        of({"id": "", "object": "", "created": 0, "model": ""}, prompt_filter_results=[{"prompt_index": 0}]),
        of(
            OPENAI,
            delta(
                "a drop",
                context={"citations": [{"content": "a passage", "title": "t"}], "intent": '["q"]'},
                end_turn="words",
            )
            | {"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}},
        ),
        of(OPENAI, delta("box", "stop", end_turn=True) | {"content_filter_offsets": {"check_offset": 4}}),
    ],
    "mistral": [
        of(OPENAI, delta("a drop"), p="abcde"),
        of(OPENAI, delta("box", "stop"), p="abcdefghijklmnopqrstuvwxyz0123456789abc"),
    ],
    "perplexity": [
        of(
            OPENAI,
            delta("a drop") | {"message": {"role": "assistant", "content": "a drop"}},
            citations=[LINK],
            search_results=[{"title": "A title", "url": LINK, "date": "2026-01-02", "snippet": "words"}],
            type="message",
            videos=[{"title": "A video"}],
            status="PENDING",
        ),
        of(
            OPENAI,
            delta("box", "stop", reasoning_steps=[{"thought": "r"}])
            | {"message": {"role": "assistant", "content": "a dropbox"}},
            citations=[LINK],
            related_questions=["What next?"],
            usage={"total_tokens": 7, "search_context_size": "low", "cost": {"total_cost": 0.02}},
            status="COMPLETED",
            type="end_of_stream",
        ),
    ],
    "openrouter": [
        of(
            OPENAI,
            delta("a drop", reasoning="", reasoning_details=[]) | {"native_finish_reason": None, "logprobs": None},
            provider="Some",
        ),
        of(
            OPENAI,
            delta("box", "stop", annotations=[], reasoning_details=[{"type": "reasoning.text", "text": "r"}])
            | {"native_finish_reason": "STOP", "error": {"code": 502, "message": "words"}},
            provider="Some",
            error={"code": 502, "message": "words"},
        ),
    ],
    "groq": [
        of(OPENAI, delta("a drop", executed_tools=[{"output": "r"}]), x_groq={"id": "req_1", "seed": 1}),
        of(
            OPENAI,
            delta("box", "stop"),
            x_groq={"id": "req_1", "usage": {"queue_time": 0.1, "total_tokens": 3}, "error": "words"},
            usage_breakdown={"models": [{"model": "m", "note": "words", "usage": {"total_tokens": 3}}]},
            service_tier="on_demand",
        ),
    ],
    "together": [
        of(OPENAI, delta("a drop", token_id=546, tool_calls=None) | {"text": "a drop", "seed": None, "logprobs": None}),
        of(OPENAI, delta("box", "stop", token_id=7) | {"text": "box", "seed": 17}, usage={"total_tokens": 3}),
    ],
    "fireworks": [
        of(OPENAI, delta("a drop") | {"token_ids": [1, 2]}, perf_metrics=None),
        of(OPENAI, delta("box", "stop") | {"raw_output": {"completion": "a dropbox"}}, perf_metrics={"ttft": "0.1"}),
    ],
    "xai": [of(OPENAI, delta("a drop", reasoning_content="")), of(OPENAI, delta("box", "stop"), citations=[LINK])],
    "cerebras": [of(OPENAI, delta("a drop")), of(OPENAI, delta("box", "stop"), time_info={"total_time": 0.1})],
    "moonshot": [of(OPENAI, delta("a drop")), of(OPENAI, delta("box", "stop") | {"usage": {"total_tokens": 3}})],
    "qwen": [
        of(OPENAI, delta("a drop")),
        of(OPENAI, search_info={"search_results": [{"title": "A title", "url": LINK}]}),
        of(OPENAI, delta("box", "stop")),
    ],
    "glm": [of(OPENAI, delta("a drop"), web_search=[{"title": "A", "link": LINK}]), of(OPENAI, delta("box", "stop"))],
    "minimax": [
        of(OPENAI, delta("a drop"), input_sensitive=False, output_sensitive=False),
        of(OPENAI, delta("box", "stop"), base_resp={"status_code": 0, "status_msg": "success"}),
    ],
    "vllm": [
        of(OPENAI, delta("a drop") | {"stop_reason": None, "token_ids": [1]}, prompt_token_ids=[5, 6]),
        of(OPENAI, delta("box", "stop", reasoning=None) | {"stop_reason": "</s>"}, prompt_logprobs=[{"5": "q"}]),
    ],
    "gemini": [
        of(OPENAI, delta("a drop", extra_content={"google": {"thought": "words"}})),
        of(OPENAI, delta("box", "stop")),
    ],
    "sglang": [
        of(OPENAI, delta("a drop") | {"matched_stop": None}),
        of(OPENAI, delta("box", "stop", hidden_states=[0.5]) | {"matched_stop": "</s>"}),
    ],
    "llama.cpp": [
        of(OPENAI, delta("a drop"), prompt_progress={"total": 9, "processed": 9}),
        of(OPENAI, delta("box", "stop"), timings={"predicted_n": 3}),
    ],
    "tensorrt-llm": [
        of(OPENAI, delta("a drop") | {"avg_decoded_tokens_per_iter": 1.0}),
        of(OPENAI, delta("box", "stop") | {"avg_decoded_tokens_per_iter": 2.5, "stop_reason": None}),
    ],
    "sglang, more": [
        of(OPENAI, delta("a drop")),
        of(OPENAI, delta("box", "stop"), sglext={"routed_experts": "words"}),
        of(
            OPENAI,
            sglext={
                "routed_experts": "AAECAw==",
                "cached_tokens_details": {"device": 7, "host": 0, "storage_backend": "words"},
                "output_ids": [[1, 2]],
            },
        ),
        of(OPENAI, usage={"total_tokens": 3}),
    ],
    "zhipu": [
        of(OPENAI, delta("a drop", role="assistant")),
        of(OPENAI, delta("box", "stop"), content_filter=[{"role": "assistant", "level": 3, "note": "words"}]),
    ],
    "snowflake": [
        {"id": "c", "model": "m", "choices": [{"delta": snowflake("a drop")}], "usage": {}},
        {"id": "c", "model": "m", "choices": [{"delta": snowflake("box")}], "usage": {"total_tokens": 3}},
        {"id": "c", "model": "m", "choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {}},
    ],
    "bedrock": [
        of(OPENAI, delta("a drop")),
        of(
            OPENAI,
            delta("box", "stop"),
            **{
                "amazon-bedrock-guardrailAction": "INTERVENED",
                "amazon-bedrock-invocationMetrics": {"inputTokenCount": 9, "note": "words"},
                "amazon-bedrock-trace": {"guardrail": {"match": "words"}},
            },
        ),
    ],
    "litellm": [
        of(OPENAI, delta("a drop", thinking_blocks=[{"type": "thinking", "thinking": "r"}], reasoning_content="r")),
        of(OPENAI, delta("box", "stop", provider_specific_fields={"citation": {"cited_text": "a"}})),
    ],
}  # fmt: skip


Place = tuple[str | int, ...]
IN_CHOICE: Place = ("choices", 0)
IN_DELTA: Place = (*IN_CHOICE, "delta")
# Where what was found, cited or said of a request stands: of which server, in which chunk. Each place is written out,
# so that a field which is no longer read is missed.
READ: list[tuple[str, int, Place]] = [
    ("openai", 1, ("moderation", "reason")),
    ("openai search", 0, (*IN_DELTA, "annotations", 0, "url_citation", "url")),
    ("openai search", 0, (*IN_DELTA, "annotations", 0, "url_citation", "title")),
    ("azure", 1, (*IN_DELTA, "context", "citations", 0, "content")),
    ("azure", 1, (*IN_DELTA, "context", "citations", 0, "title")),
    ("azure", 1, (*IN_DELTA, "context", "intent")),
    ("azure", 1, (*IN_DELTA, "end_turn")),
    ("perplexity", 0, ("citations", 0)),
    ("perplexity", 0, ("search_results", 0, "title")),
    ("perplexity", 0, ("search_results", 0, "url")),
    ("perplexity", 0, ("search_results", 0, "date")),
    ("perplexity", 0, ("search_results", 0, "snippet")),
    ("perplexity", 0, ("videos", 0, "title")),
    ("perplexity", 1, ("citations", 0)),
    ("perplexity", 1, ("related_questions", 0)),
    ("openrouter", 1, ("error", "message")),
    ("openrouter", 1, (*IN_CHOICE, "error", "message")),
    ("groq", 1, ("x_groq", "error")),
    ("groq", 1, ("usage_breakdown", "models", 0, "note")),
    ("fireworks", 1, ("perf_metrics", "ttft")),
    ("xai", 1, ("citations", 0)),
    ("qwen", 1, ("search_info", "search_results", 0, "title")),
    ("qwen", 1, ("search_info", "search_results", 0, "url")),
    ("glm", 0, ("web_search", 0, "title")),
    ("glm", 0, ("web_search", 0, "link")),
    ("minimax", 1, ("base_resp", "status_msg")),
    ("gemini", 0, (*IN_DELTA, "extra_content", "google", "thought")),
    ("tensorrt-llm", 1, (*IN_CHOICE, "avg_decoded_tokens_per_iter")),
    ("sglang, more", 1, ("sglext", "routed_experts")),
    ("zhipu", 1, ("content_filter", 0, "level")),
    ("zhipu", 1, ("content_filter", 0, "note")),
    ("snowflake", 0, (*IN_DELTA, "type")),
    ("bedrock", 1, ("amazon-bedrock-guardrailAction",)),
    ("bedrock", 1, ("amazon-bedrock-invocationMetrics", "note")),
    ("bedrock", 1, ("amazon-bedrock-trace", "guardrail", "match")),
]
# What repeats the text, and what comes out in its place: an empty list where a list was, otherwise nothing.
LEFT_OUT: dict[str, list[tuple[int, Place, list[Any] | None]]] = {
    "openai": [(1, (*IN_CHOICE, "logprobs"), None)],
    "perplexity": [
        (0, (*IN_CHOICE, "message"), None),
        (1, (*IN_CHOICE, "message"), None),
        (1, (*IN_DELTA, "reasoning_steps"), []),
    ],
    "openrouter": [(1, (*IN_DELTA, "reasoning_details"), [])],
    "groq": [(0, (*IN_DELTA, "executed_tools"), [])],
    "together": [(0, (*IN_DELTA, "token_id"), None), (1, (*IN_DELTA, "token_id"), None)],
    "fireworks": [(0, (*IN_CHOICE, "token_ids"), []), (1, (*IN_CHOICE, "raw_output"), None)],
    "vllm": [(0, (*IN_CHOICE, "token_ids"), []), (1, ("prompt_logprobs",), [])],
    "sglang": [(1, (*IN_DELTA, "hidden_states"), [])],
    "sglang, more": [(2, ("sglext", "output_ids"), [])],
    "snowflake": [
        (0, (*IN_DELTA, "content_list"), []),
        (0, (*IN_DELTA, "text"), None),
        (1, (*IN_DELTA, "content_list"), []),
        (1, (*IN_DELTA, "text"), None),
    ],
    "litellm": [(0, (*IN_DELTA, "thinking_blocks"), []), (1, (*IN_DELTA, "provider_specific_fields"), None)],
}


def typed(chunk: dict[str, Any]) -> Any:
    # A client's own reader: it keeps what it does not know, and validates nothing.
    return openai._models.construct_type(value=chunk, type_=openai.types.chat.ChatCompletionChunk)


def wire(chunks: list[dict[str, Any]]) -> list[bytes]:
    return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


def texts(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def at(chunk: Any, place: Place, value: Any) -> None:
    """Puts a value to a place of a chunk, where one was."""
    for key in place[:-1]:
        chunk = chunk[key]
    assert chunk[place[-1]] is not None
    chunk[place[-1]] = value


def expected(name: str) -> list[dict[str, Any]]:
    """The chunks without what repeats their text."""
    chunks = copy.deepcopy(PROVIDERS[name])
    for number, place, rest in LEFT_OUT.get(name, []):
        at(chunks[number], place, rest)
    return chunks


def through(given: str, chunks: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], StopReason | None]:
    """What comes out of chunks that are given in a way, as dictionaries."""
    before = copy.deepcopy(chunks)
    if given == "events":
        stream = GUARD.stream(iter(wire(chunks)), sse=True)
        whole = b"".join(stream).decode()
        out = [json.loads(line.removeprefix("data: ")) for line in whole.split("\n\n") if line and "[DONE]" not in line]
    elif given == "objects":
        stream = GUARD.stream(iter([typed(chunk) for chunk in chunks]))
        # The client's types have no content in parts.
        out = [chunk.model_dump(exclude_unset=True, warnings=False) for chunk in stream]
    else:
        stream = GUARD.stream(iter(chunks))
        out = list(stream)
    assert chunks == before
    return out, stream.stopped


GIVEN = pytest.mark.parametrize("given", ["dictionaries", "objects", "events"])


@GIVEN
@pytest.mark.parametrize("name", PROVIDERS)
def test_what_a_server_says_beside_the_text_comes_out(given: str, name: str) -> None:
    """But for what repeats the text in another form. The text is held and released as ever."""
    chunks = PROVIDERS[name]
    out, stopped = through(given, chunks)
    assert stopped is None
    assert texts(out) == "a dropbox"
    without_text = expected(name)
    for each in (*out, *without_text):
        for choice in each["choices"]:
            choice["delta"].pop("content", None)
            choice.pop("text", None)
    assert out == without_text


@GIVEN
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_match_in_the_text_of_a_server_does_not_come_out(given: str, name: str) -> None:
    """Over two of its chunks, whatever they have beside it, and not in what the end is made like either."""
    chunks = json.loads(json.dumps(PROVIDERS[name]).replace("dropbox", "drop table").replace('"box"', '" table"'))
    out, stopped = through(given, chunks)
    assert stopped is not None
    assert stopped.rule == "drop"
    assert texts(out) == "a "
    assert out[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert "drop" not in json.dumps(out)


@GIVEN
@pytest.mark.parametrize(("name", "number", "place"), READ, ids=lambda value: str(value))
def test_what_was_found_or_cited_is_read(given: str, name: str, number: int, place: Place) -> None:
    """Each text of it by itself: a match in it is replaced, or stops the stream, and the end does not repeat it."""
    for said, action in ((f"see {SSN}.", "redact"), ("see drop table", "stop")):
        chunks = json.loads(json.dumps(PROVIDERS[name]).replace('"box"', '" table"' if action == "redact" else '"box"'))
        at(chunks[number], place, said)
        out, stopped = through(given, chunks)
        assert stopped is not None
        assert stopped.rule == "drop"
        assert SSN not in json.dumps(out)
        assert "drop table" not in json.dumps(out)
        if action == "redact":
            assert "see [redacted]." in json.dumps(out)


@pytest.mark.parametrize(
    ("chunk", "place"),
    [
        (of(OPENAI, delta("a"), p="abcdx"), "p"),
        (of(OPENAI, delta("a"), p={"text": "drop table"}), "p"),
        (of(OPENAI, delta("a"), images=[LINK]), "images"),
        (
            of(
                OPENAI,
                delta("a", images=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}}]),
            ),
            "choices[].delta.images",
        ),
        (of(OPENAI, {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}), "choices[].message"),
        (of(OPENAI, delta("a"), __verbose={"content": "a"}), "__verbose"),
        (of(OPENAI, delta("a", content_list=[{"type": "text", "text": "b"}])), "choices[].delta.content_list"),
        (of(OPENAI, delta("a", content_list=[{"text": "a"}])), "choices[].delta.content_list"),
        (of(OPENAI, delta("a", content_list={"type": "text", "text": "a"})), "choices[].delta.content_list"),
        (of(OPENAI, delta("", content_list=[{"input": "{}"}], type="tool_use")), "choices[].delta.content_list"),
        (of(OPENAI, delta("a", text="b")), "choices[].delta.text"),
        (of(OPENAI, delta("a", input="{}", type="tool_use")), "choices[].delta.input"),
    ],
)
def test_what_could_hide_a_text_is_refused(chunk: dict[str, Any], place: str) -> None:
    """Pictures, what only looks like padding or like the text once more, and a message that has no delta beside it."""
    for given in (chunk, typed(chunk)):
        assert refused("guard.unknown_chunk", lambda given=given: list(GUARD.stream([given]))).field == place  # type: ignore[misc]


# --- a whole message at the end -----------------------------------------------------------------------------------


def whole(text: str, index: int = 0) -> dict[str, Any]:
    """What MiniMax ends a choice with: all of it once more, and no delta."""
    message = {"role": "assistant", "content": text, "name": "Some AI", "reasoning_content": ""}
    return {"index": index, "message": message, "finish_reason": "stop"}


@GIVEN
@pytest.mark.parametrize("ends", [(), (delta("", "stop"),)], ids=["once", "twice"])
@pytest.mark.parametrize("text", ["a dropbox", "a drop", "quite another text"])
def test_a_whole_message_behind_deltas_is_left_out(given: str, ends: tuple[Any, ...], text: str) -> None:
    """Whatever it says; what the deltas hold comes out, and the usage beside it."""
    used = {"total_tokens": 3}
    chunks = [of(OPENAI, delta("a drop")), *(of(OPENAI, each) for each in ends), of(OPENAI, whole(text), usage=used)]
    out, stopped = through(given, chunks)
    assert stopped is None
    choices = [choice for chunk in out for choice in chunk["choices"]]
    assert "".join((each.get("delta") or {}).get("content") or "" for each in choices) == "a drop"
    assert all(each.get("message") is None for each in choices)
    assert choices[-1]["finish_reason"] == "stop"
    assert out[-1]["usage"] == used


def test_a_whole_message_with_what_no_delta_had_is_refused() -> None:
    """It would be lost."""
    ends = {"index": 0, "finish_reason": "stop"}
    said = {"content": "the answer"}
    called = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    for before, message in (
        ({"reasoning_content": "hm"}, said),
        ({"reasoning_content": "hm", "content": ""}, said),
        ({"content": "let me"}, said | called),
    ):
        chunks = [{"choices": [{"index": 0, "delta": before}]}, {"choices": [ends | {"message": message}]}]
        error = refused("guard.unknown_chunk", lambda chunks=chunks: list(GUARD.stream(chunks)))  # type: ignore[misc]
        assert error.field == "choices[].message"


@GIVEN
def test_a_match_in_a_whole_message_does_not_come_out(given: str) -> None:
    """Nor where the stream is stopped at its chunk, whose choice the end is made like."""
    text = "a drop table"
    out, stopped = through(given, [of(OPENAI, delta("a drop")), of(OPENAI, whole(text))])
    assert stopped is None
    assert "table" not in json.dumps(out)
    out, stopped = through(given, [of(OPENAI, delta("a drop")), of(OPENAI, whole(text), note=text)])
    assert stopped is not None
    assert "table" not in json.dumps(out)
    assert out[-1]["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    "before",
    [
        [],
        [of(OPENAI, delta("a drop") | {"index": 1})],
        [of(OPENAI, {"index": 0, "delta": {"role": "assistant"}, "finish_reason": None})],
    ],
    ids=["nothing", "another choice", "no text"],
)
def test_a_whole_message_that_repeats_nothing_is_refused(before: list[dict[str, Any]]) -> None:
    """It would be lost."""
    for form in (lambda chunk: chunk, typed):
        for last in (whole("a dropbox"), {**whole(""), "message": {"content": None, "tool_calls": [call("{}")]}}):
            chunks = [form(chunk) for chunk in (*before, of(OPENAI, last))]
            fault = refused("guard.unknown_chunk", lambda chunks=chunks: list(GUARD.stream(chunks)))  # type: ignore[misc]
            assert fault.field == "choices[].message"


@GIVEN
def test_a_whole_message_without_a_text_is_no_loss(given: str) -> None:
    """Nor where no delta had one."""
    out, stopped = through(given, [of(OPENAI, delta("", role="assistant")), of(OPENAI, whole(""))])
    assert stopped is None
    assert [each["choices"][0].get("message") for each in out] == [None, None]


@pytest.mark.parametrize("reason", [None, ""])
def test_a_whole_message_that_ends_no_choice_is_refused(reason: str | None) -> None:
    chunks = [of(OPENAI, delta("a drop")), of(OPENAI, whole("a drop") | {"finish_reason": reason})]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(chunks))).field == "choices[].message"


@GIVEN
def test_what_a_late_chunk_without_choices_says_is_read(given: str) -> None:
    """Behind the one that says that the choice is at its end."""
    chunks = copy.deepcopy(PROVIDERS["sglang, more"])
    chunks[2]["sglext"]["cached_tokens_details"]["storage_backend"] = "see drop table"
    out, stopped = through(given, chunks)
    assert stopped is not None
    assert (stopped.rule, stopped.channel) == ("drop", "sglext.cached_tokens_details.storage_backend")
    assert "table" not in json.dumps(out)


def test_tokens_are_left_out_where_they_are_those_of_the_text() -> None:
    """SGLang has them beside those of the prompt, and may have them in an event of its own."""
    last = of(OPENAI, sglext={"input_ids": list(range(20_000)), "output_ids": [[1]]})
    out = list(GUARD.stream([of(OPENAI, delta("a", "stop")), last]))
    assert out[-1]["sglext"] == {"input_ids": list(range(20_000)), "output_ids": []}
    wire = f"data: {json.dumps(of(OPENAI, delta('a', 'stop')))}\n\nevent: sglext_ids\ndata: {json.dumps(last)}\n\n"
    assert '"output_ids": []' in "".join(GUARD.stream([wire], sse=True)).replace('":[', '": [')


# --- several calls -------------------------------------------------------------------------------------------------


def calls_of(given: str, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out, stopped = through(given, chunks)
    assert stopped is None
    calls = [call for chunk in out for choice in chunk["choices"] for call in choice["delta"].get("tool_calls") or []]
    return [without_none(call) for call in calls]


def without_none(call: dict[str, Any]) -> dict[str, Any]:
    return {
        name: without_none(inner) if isinstance(inner, dict) else inner
        for name, inner in call.items()
        if inner is not None
    }


def call(text: str, **about: Any) -> dict[str, Any]:
    name = {"name": about.pop("name")} if "name" in about else {}
    return {**about, "function": {**name, "arguments": text}}


@GIVEN
@pytest.mark.parametrize("ends", [True, False])
def test_the_rest_of_a_call_has_the_number_of_its_call(given: str, ends: bool) -> None:
    """Of two at once, and where its last piece has no arguments."""
    chunks = [
        of(OPENAI, delta("", tool_calls=[call('{"q": "dr', index=0, id="a", type="function", name="look")])),
        of(OPENAI, delta("", tool_calls=[call('{"q": "dro', index=1, id="b", type="function", name="find")])),
        of(OPENAI, delta("", tool_calls=[{"index": 0, "id": "a"}])),
        *([of(OPENAI, delta("", "tool_calls"))] if ends else []),
    ]
    assert calls_of(given, chunks) == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": '{"q": "'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "find", "arguments": '{"q": "'}},
        {"index": 0, "id": "a"},
        {"index": 0, "function": {"arguments": "dr"}},
        {"index": 1, "function": {"arguments": "dro"}},
    ]


@GIVEN
def test_the_rest_of_a_call_without_a_number_has_its_id(given: str) -> None:
    """Two that are told apart by their ids alone: a number that is made up would put the one behind the other."""
    both = [
        call('{"q": "dr', id="a", type="function", name="look"),
        call("{} dro", id="b", type="function", name="find"),
    ]
    assert calls_of(given, [of(OPENAI, delta("", "tool_calls", tool_calls=both))]) == [
        {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"q": "'}},
        {"id": "a", "function": {"arguments": "dr"}},
        {"id": "b", "type": "function", "function": {"name": "find", "arguments": "{} "}},
        {"id": "b", "function": {"arguments": "dro"}},
    ]


def test_what_langchain_has_of_a_server_beside_the_text() -> None:
    """In `additional_kwargs`, by the same names."""

    def chunk(text: str, **about: Any) -> AIMessageChunk:
        return AIMessageChunk(content=text, additional_kwargs=about)

    found = [{"title": f"see {SSN}.", "url": LINK}]
    stream = GUARD.stream(
        [chunk("a drop", citations=[LINK], search_results=found, reasoning_steps=[{"thought": "t"}]), chunk("box")]
    )
    first, *others = list(stream)
    assert first.additional_kwargs == {
        "citations": [LINK],
        "search_results": [{"title": "see [redacted].", "url": LINK}],
        "reasoning_steps": [],
    }
    assert "".join([first.content, *(each.content for each in others)]) == "a dropbox"
    assert [each.additional_kwargs for each in others] == [{}] * len(others)
    stream = GUARD.stream([chunk("a", search_results=[{"snippet": "drop table"}]), chunk("b")])
    assert "drop" not in str(list(stream))
    assert stream.stopped is not None
    pictures = [chunk("a", images=[LINK])]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(pictures))).field == "additional_kwargs.images"


def with_content(*contents: Any) -> list[dict[str, Any]]:
    chunks = [of(OPENAI, {"index": 0, "delta": {"content": each}, "finish_reason": None}) for each in contents]
    return [*chunks, of(OPENAI, {"index": 0, "delta": {}, "finish_reason": "stop"})]


def thought(*parts: Any) -> list[Any]:
    return [{"type": "thinking", "thinking": [{"type": "text", "text": each} for each in parts]}]


def summed(text: str) -> list[Any]:
    return [{"type": "reasoning", "summary": [{"type": "summary_text", "text": text, "signature": "s"}]}]


def parts_of(out: list[Any]) -> tuple[str, str]:
    """The text and the reasoning, in whatever form they are."""
    said, thoughts = "", ""
    for chunk in out:
        content = chunk["choices"][0]["delta"].get("content") or ""
        for part in in_parts(content) if isinstance(content, str) else content:
            said += part.get("text", "")
            thoughts += "".join(each["text"] for each in (*part.get("thinking", ()), *part.get("summary", ())))
    return said, thoughts


@GIVEN
@pytest.mark.parametrize("reasoned", [thought, summed])
def test_a_content_in_parts_has_texts_in_pieces(given: str, reasoned: Any) -> None:
    """As Mistral's and Databricks' models that reason have it: parts and plain texts are one text."""
    chunks = with_content("", reasoned("a dr"), reasoned("um, dr"), in_parts("so dr"), "um. ", in_parts("dr", "op"))
    out, stopped = through(given, chunks)
    assert stopped is None
    assert parts_of(out) == ("so drum. drop", "a drum, dr")
    for said, wanted in (
        (with_content(reasoned("a dr"), reasoned("op table")), ("", "a ")),
        (with_content(in_parts("a dr"), "op ", in_parts("table")), ("a ", "")),
        (with_content(in_parts("a drop", " table")), ("a ", "")),
    ):
        out, stopped = through(given, said)
        assert parts_of(out) == wanted
        assert stopped is not None
        assert out[-1]["choices"][0]["finish_reason"] == "content_filter"
    out, _ = through(given, with_content(reasoned(f"{SSN[:5]}"), reasoned(f"{SSN[5:]}, "), in_parts(f"{SSN}.")))
    assert parts_of(out) == ("[redacted].", "[redacted], ")


def test_what_a_content_in_parts_may_not_have() -> None:
    """A part that nobody reads, or one that is numbered, which some clients put together and others do not."""
    for part, place in (
        ({"type": "image_url", "image_url": {"url": LINK}}, "choices[].delta.content[].type"),
        ({"type": "text", "text": "a", "index": 0}, "choices[].delta.content[].index"),
        ({"type": "text", "text": "a", "more": "drop"}, "choices[].delta.content[].more"),
        ({"type": "thinking", "thinking": [{"type": "audio"}]}, "choices[].delta.content[][].type"),
        ({"type": "text", "text": ["drop"]}, "text"),
        ("drop", "choices[].delta.content[].type"),
    ):
        chunks = with_content([part])
        assert refused("guard.unknown_chunk", lambda chunks=chunks: list(GUARD.stream(chunks))).field == place  # type: ignore[misc]
    cited = with_content([{"type": "reference", "reference_ids": [1, 2]}])
    assert list(GUARD.stream(cited)) == cited
    stream = GUARD.stream(with_content([{"type": "reference", "reference_ids": [1], "title": "drop table"}]))
    assert "table" not in str(list(stream))
    assert stream.stopped is not None


BESIDE: dict[str, Any] = {
    "minimax": lambda said: of(OPENAI, delta("a", name=said, audio_content="")),
    "sambanova": lambda said: of(OPENAI, delta("a", channel=said)),
    "volcengine": lambda said: of(OPENAI, delta("a") | {"moderation_hit_type": said}),
    "hunyuan": lambda said: of(OPENAI, delta("a"), note=said),
    "lm studio": lambda said: of(OPENAI, delta("a"), stats={"stop_reason": "eosFound"}, runtime={"name": said}),
    "together": lambda said: of(OPENAI, delta("a"), warnings=[{"message": said}]),
    "dynamo": lambda said: of(OPENAI, delta("a"), nvext={"worker_id": {"decode_worker_id": 7}, "x": said}),
}


@GIVEN
@pytest.mark.parametrize("server", BESIDE)
def test_what_servers_say_of_themselves_is_read(given: str, server: str) -> None:
    chunks = [BESIDE[server]("so"), BESIDE[server]("so")]
    assert through(given, chunks) == (chunks, None)
    out, stopped = through(given, [BESIDE[server]("drop table")])
    assert "drop table" not in str(out)
    assert stopped is not None


def test_what_a_server_says_anew_in_each_chunk_is_no_one_text() -> None:
    """But where it is another: the client's helper adds it up."""
    guard = Guard([Rule.regex(r"\b[a-z]{20,}\b", name="long"), Rule.literal("analysisfinal")])
    same = [of(OPENAI, delta("a ", channel="final", name="Some AI"))] * 10
    assert list(guard.stream(same)) == same
    stream = guard.stream([of(OPENAI, delta("a ", channel=each)) for each in ("analysis", "analysis", "final")])
    assert "final" not in str([chunk["choices"][0]["delta"] for chunk in stream])
    assert stream.stopped is not None


def test_a_ping_between_chunks_comes_out() -> None:
    chunks = [of(OPENAI, delta("a")), {"type": "ping"}, of(OPENAI, delta("b", "stop"))]
    assert list(GUARD.stream(chunks)) == chunks
    more: list[Any] = [chunks[0], {"type": "ping", "text": "drop"}]
    assert refused("input.wrong_type", lambda: list(GUARD.stream(more)))


def test_the_parts_of_reasoning_of_vllm_are_read() -> None:
    def event(kind: str, **about: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "item_id": "i", "output_index": 0, "content_index": 0, **about}

    def part(text: str) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": text}

    def events(*texts: str) -> list[dict[str, Any]]:
        whole = "".join(texts)
        return [
            event("reasoning_part.added", part=part("")),
            *(event("reasoning_text.delta", delta=text) for text in texts),
            event("reasoning_text.done", text=whole),
            event("reasoning_part.done", part=part(whole)),
        ]

    out = list(GUARD.stream(events("a dr", "um")))
    assert "".join(each.get("delta", "") for each in out) == "a drum"
    assert out[-1]["part"] == part("a drum")
    stream = GUARD.stream(events("a dr", "op table"))
    assert "op table" not in str(list(stream))
    assert stream.stopped is not None
    stream = GUARD.stream([event("reasoning_part.added", part=part("drop table"))])
    assert "drop" not in str(list(stream))


# What llama.cpp streams of a response: its items have no number, and its last event has timings.
TIMINGS = {"cache_n": 0, "prompt_n": 12, "prompt_ms": 86.634, "predicted_n": 3}


def of_llama(*texts: str, last: Any = None, **each: Any) -> list[dict[str, Any]]:
    def event(kind: str, **about: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", **about}

    whole = "".join(texts)
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": whole}
    item = {"type": "message", "status": "completed", "id": "m", "content": [part], "role": "assistant"}
    begun = {"type": "message", "status": "in_progress", "id": "m", "content": [], "role": "assistant"}
    response = {"id": "r", "object": "response", "status": "in_progress"}
    done = {**response, "status": "completed", "created_at": 1, "model": "m", "output": [item], "usage": {}}
    return [
        event("created", response=response),
        event("in_progress", response=response, prompt_progress={"total": 9, "cache": 0, "processed": 9}),
        event("output_item.added", item=begun),
        event("content_part.added", item_id="m", part={"type": "output_text", "text": ""}),
        *(event("output_text.delta", item_id="m", delta=text, **each) for text in texts),
        event("output_text.done", item_id="m", text=whole),
        event("content_part.done", item_id="m", part=part),
        event("output_item.done", item=item),
        event("completed", response=done, timings=last or TIMINGS),
    ]


@GIVEN
@pytest.mark.parametrize("each", [{}, {"timings": TIMINGS}], ids=["last", "each"])
def test_what_llama_cpp_says_beside_a_response_is_read(given: str, each: dict[str, Any]) -> None:
    """What is made like an event does not say it again."""

    def passed(events: list[dict[str, Any]]) -> tuple[list[Any], StopReason | None]:
        if given == "objects":
            kinds = openai.types.responses.ResponseStreamEvent
            events = [openai._models.construct_type(value=event, type_=kinds) for event in events]
            stream = GUARD.stream(iter(events))
            return [event.model_dump(exclude_unset=True, warnings=False) for event in stream], stream.stopped
        if given == "events":
            wired = GUARD.stream(iter(wire(events)[:-1]), sse=True)
            lines = "".join(piece.decode() for piece in wired).splitlines()
            return [json.loads(line[6:]) for line in lines if line.startswith("data: ")], wired.stopped
        stream = GUARD.stream(iter(events))
        return list(stream), stream.stopped

    events = of_llama("a ", "b", **each)
    assert passed(events) == (events, None)
    out, stopped = passed(of_llama("a dr", "um dr", **each))
    assert stopped is None
    assert "".join(event.get("delta") or "" for event in out) == "a drum dr"
    assert [event["timings"] for event in out if event.get("timings")] == [TIMINGS] * (1 + 2 * len(each))
    out, stopped = passed(of_llama("a dr", "op table", **each))
    assert stopped is not None
    assert "op table" not in json.dumps(out)
    assert out[-1]["type"] == "response.incomplete"
    for events in (of_llama("a ", last={"note": "drop table"}), of_llama("a ", timings={"note": "drop table"})):
        out, stopped = passed(events)
        assert stopped is not None
        assert "table" not in json.dumps(out)
        assert [event["type"] for event in out][-1:] == ["response.incomplete"]
        assert "response.completed" not in str(out)
    out, _ = passed(of_llama("a ", last={"note": f"see {SSN}."}, timings={"note": f"see {SSN}."}))
    assert [event["timings"] for event in out if event.get("timings")] == [{"note": "see [redacted]."}] * 2


# --- integrations of LangChain ---------------------------------------------------------------------------------------

BEDROCK = {
    "reasoning": lambda text: {"type": "reasoning_content", "reasoning_content": {"text": text, "type": "text"}},
    "of what it is": lambda block: block["reasoning_content"]["text"],
}
MISTRAL = {
    "reasoning": lambda text: {"type": "thinking", "thinking": [{"type": "text", "text": text, "index": 0}]},
    "of what it is": lambda block: "".join(part["text"] for part in block["thinking"]),
}


@pytest.mark.parametrize("number", [{"index": 0}, {}], ids=["numbered", "not numbered"])
@pytest.mark.parametrize("service", [BEDROCK, MISTRAL], ids=["aws", "mistralai"])
def test_the_reasoning_of_other_integrations_comes_in_pieces(service: dict[str, Any], number: dict[str, int]) -> None:
    def added(*texts: str) -> tuple[str, Any]:
        blocks = [{**service["reasoning"](text), **number} for text in texts]
        stream = GUARD.stream([AIMessageChunk(content=[block]) for block in blocks])
        content = functools.reduce(operator.add, stream).content
        assert isinstance(content, list)
        return "".join(service["of what it is"](block) for block in content), stream.stopped

    assert added("a dr", "um, dr") == ("a drum, dr", None)
    assert added(f"a {SSN[:6]}", f"{SSN[6:]} ") == ("a [redacted] ", None)
    said, stopped = added("a dr", "op table")
    assert said == "a "
    assert stopped is not None


def test_reasoning_beside_the_content_stays_there() -> None:
    chunks = [AIMessageChunk(content="", additional_kwargs={"reasoning_content": each}) for each in ("a dr", "um, dr")]
    whole = functools.reduce(operator.add, GUARD.stream(chunks))
    assert (whole.content, whole.additional_kwargs) == ("", {"reasoning_content": "a drum, dr"})


def test_what_signs_reasoning_and_calls_passes_in_its_form() -> None:
    name = "__gemini_function_call_thought_signatures__"
    for passes in (
        AIMessageChunk(content="", additional_kwargs={name: {"6c2cc884-b789": "EjQK/+_-=="}}),
        AIMessageChunk(content=[{"type": "reasoning_content", "reasoning_content": {"signature": "EjQK"}, "index": 0}]),
        AIMessageChunk(content=[{"type": "reference", "reference_ids": [1, 2], "index": 1}]),
        AIMessage(content="", additional_kwargs={name: {"6c2cc884-b789": "EjQK/+_-=="}}),
    ):
        assert list(GUARD.stream([passes])) == [passes]
    for about in ({"a": "drop table"}, {"drop table": "a"}, {"a": {"b": "c"}}, "drop"):
        chunk = AIMessageChunk(content="", additional_kwargs={name: about})
        assert refused("guard.unknown_chunk", lambda chunk=chunk: list(GUARD.stream([chunk]))).field  # type: ignore[misc]
    for inner in ({"text": "a", "more": "drop"}, {"type": "drop"}, "drop", {"signature": ["drop"]}):
        chunk = AIMessageChunk(content=[{"type": "reasoning_content", "reasoning_content": inner, "index": 0}])
        assert refused("guard.unknown_chunk", lambda chunk=chunk: list(GUARD.stream([chunk]))).field  # type: ignore[misc]
    cited = AIMessageChunk(content=[{"type": "reference", "reference_ids": [1], "title": "drop table", "index": 1}])
    assert "table" not in str(list(GUARD.stream([cited])))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "response.x_y.added", "sequence_number": 1}, 'type "response.x_y.added" of a chunk is not known'),
        ({"type": "response.drop table"}, 'type "response.…" of a chunk is not known'),
        (with_content([{"type": "audio_url"}])[0], 'choices[].delta.content[].type "audio_url" of a chunk is not'),
        (with_content([{"text": "a"}])[0], "choices[].delta.content[].type of a chunk is not known"),
        (with_content({"a": "b"})[0], "text of a chunk is an object, and no text"),
        (of(OPENAI, delta("a", reasoning=["b"])), "reasoning of a chunk is a list, and no text"),
        (AIMessageChunk(content=[{"type": "audio", "data": "x"}]), 'content[].type "audio" of a chunk is not known'),
        (
            AIMessageChunk(content="", additional_kwargs={"__a_name_that_a_library_has_and_that_is_long__": {"a": 1}}),
            "additional_kwargs.__a_name_that_a_library_has_and_that_is_long__ of a chunk",
        ),
    ],
)
def test_a_fault_says_which_kind_is_not_known(given: Any, told: str) -> None:
    assert told in str(refused("guard.unknown_chunk", lambda: list(GUARD.stream([given]))))
