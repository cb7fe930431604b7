"""What services send beside texts, and events that nobody can read: each ends as the docs say, with a code."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from anthropic.types.beta import BetaRawContentBlockDeltaEvent

from decidable import Guard, InvalidInput, Rule
from decidable.guard import sse
from test_guard import refused

GUARD = Guard([Rule.literal("DROP TABLE", name="drop")])


def part(kind: Any) -> dict[str, Any]:
    return {"type": kind, "text": "a", "annotations": []}


def of_a_response(name: str, **about: Any) -> dict[str, Any]:
    return {
        "type": f"response.{name}",
        "sequence_number": 1,
        "output_index": 0,
        "content_index": 0,
        "item_id": "i",
        **about,
    }


def test_a_sign_of_life_of_a_response_passes() -> None:
    """OpenAI sends it on long runs; its client's types do not have it."""
    alive = {"type": "keepalive", "sequence_number": 3}
    said = of_a_response("output_text.delta", delta="hi", logprobs=[])
    for given in ([alive, said], [said, alive], [alive]):
        stream = GUARD.stream(given)
        assert alive in list(stream)
        assert stream.stopped is None
    more = alive | {"text": "DROP TABLE"}
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([more]))).field == "keepalive"


def test_how_many_tokens_a_thought_has_passes() -> None:
    """Anthropic estimates it; a text in its place is refused."""
    delta = {"type": "thinking_delta", "thinking": "hm", "estimated_tokens": 12}
    event = {"type": "content_block_delta", "index": 0, "delta": delta}
    made = BetaRawContentBlockDeltaEvent.model_validate(event)
    for each in (event, made):
        assert next(iter(GUARD.stream([each]))) == each
    said = event | {"delta": delta | {"estimated_tokens": "DROP TABLE"}}
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream([said]))).field == "delta.estimated_tokens"


@pytest.mark.parametrize("kind", [["object", "null"], {"a": "b"}])
def test_what_a_schema_calls_a_type_is_none_of_an_event(kind: Any) -> None:
    schema = {"type": kind, "description": "a b"}
    tools = [{"name": "f", "input_schema": schema, "description": "c"}]
    listed = {"type": "mcp_list_tools", "id": "i", "server_label": "s", "tools": tools}
    given = of_a_response("output_item.done", item=listed)
    assert list(GUARD.stream([given])) == [given]
    schema["description"] = "a DROP TABLE"
    assert "TABLE" not in str(list(GUARD.stream([given])))


def test_what_a_service_keeps_of_a_compaction_passes() -> None:
    """It is sealed, and has to come back as it is."""
    delta = {"type": "compaction_delta", "content": "so", "encrypted_content": "DROP TABLE"}
    event = {"type": "content_block_delta", "index": 0, "delta": delta}
    made = BetaRawContentBlockDeltaEvent.model_validate(event)
    for each in (event, made):
        assert next(iter(GUARD.stream([each]))) == each


@pytest.mark.parametrize("kind", [["text"], {"a": 1}, 3, [[]]])
@pytest.mark.parametrize(
    "made",
    [
        lambda kind: {"type": "content_block_start", "index": 0, "content_block": part(kind)},
        lambda kind: {"type": "content_block_delta", "index": 0, "delta": part(kind)},
        lambda kind: of_a_response("content_part.added", part=part(kind)),
        lambda kind: of_a_response("output_item.added", item=part(kind)),
        lambda kind: of_a_response("output_text.annotation.added", annotation=part(kind), annotation_index=0),
    ],
)
def test_a_kind_that_is_no_text_is_refused(made: Any, kind: Any) -> None:
    for options in ({}, {"sse": True}):
        event = made(kind)
        given = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"] if options else [event]
        refused("guard.unknown_chunk", lambda given=given, options=options: list(GUARD.stream(given, **options)))  # type: ignore[misc]


@pytest.mark.parametrize("number", ["1e400", "-1e999", "NaN", "Infinity"])
def test_a_number_that_json_could_not_write_again_is_refused(number: str) -> None:
    body = f'data: {{"choices":[],"created":{number}}}\n\n'
    refused("guard.unknown_chunk", lambda: list(GUARD.stream([body], sse=True)))


# --- over the wire -----------------------------------------------------------------------------------------------


def wire(*events: tuple[str, Any]) -> str:
    return "".join(f"{before}data: {json.dumps(data)}\n\n" for before, data in events)


def of_chat(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


@pytest.mark.parametrize("text", ["so ", "so DR"])
def test_every_event_comes_out_under_its_name(text: str) -> None:
    """A listener for that name hears all of the text, also what waited for the end of it."""
    named = "event: piece\n"
    body = "".join(GUARD.stream([wire((named, of_chat(text)), (named, of_chat(None, "stop")))], sse=True))
    told = [each.splitlines() for each in body.split("\n\n") if each]
    assert {lines[0] for lines in told} == {"event: piece"}
    assert "".join(json.loads(lines[1][6:])["choices"][0]["delta"].get("content") or "" for lines in told) == text


def test_every_event_keeps_its_id() -> None:
    """A client goes on behind the last that it has, so none may be gone, also where the event itself waits."""
    messages = [
        {"type": "message_start", "message": {"content": [], "usage": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "so DR"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    chat = [of_chat("so DR"), of_chat(None, "stop"), of_chat("", None)]
    for events in (messages, chat):
        body = "".join(GUARD.stream([wire(*((f"id: {at}\n", each) for at, each in enumerate(events)))], sse=True))
        assert [line[4:] for line in body.splitlines() if line.startswith("id: ")] == list(map(str, range(len(events))))


@pytest.mark.parametrize(
    "shape",
    [
        lambda text: {"request_id": "r", "finished": False, "outputs": [{"index": 0, "text": text, "token_ids": [1]}]},
        lambda text: {"content": text, "additional_kwargs": {}, "tool_call_chunks": [], "type": "AIMessageChunk"},
    ],
    ids=["vllm", "langchain"],
)
def test_what_servers_of_runtimes_send_is_read(shape: Any) -> None:
    """The same chunks as JSON."""
    body = "".join(GUARD.stream([wire(("", shape("so DROP")), ("", shape(" it")))], sse=True))
    assert "".join(re.findall(r'"(?:text|content)":"([^"]*)"', body)) == "so DROP it"
    stream = GUARD.stream([wire(("", shape("so DROP")), ("", shape(" TABLE")))], sse=True)
    assert "DROP" not in "".join(stream)
    assert stream.stopped is not None


def test_events_before_one_that_is_refused_come_out_however_the_body_is_cut() -> None:
    body = wire(("", of_chat("hello ")), ("", of_chat("world"))) + 'data: {"odd": 1}\n\n'
    for pieces in ([body], list(body), body.splitlines(keepends=True)):
        stream = GUARD.stream(pieces, sse=True)
        out: list[str] = []
        assert refused("input.wrong_type", lambda out=out, stream=stream: out.extend(stream)).field == "chunk"  # type: ignore[misc]
        assert "hello " in "".join(out)
        assert "world" in "".join(out)


def test_events_without_numbers_get_none() -> None:
    """As llama.cpp's have: what is put in is like them."""
    said = {"type": "response.output_text.delta", "delta": "a DR", "timings": {"n": 1}}
    given = [said, {"type": "response.output_text.done", "text": "a DR"}]
    out = list(GUARD.stream(given))
    assert [each.get("delta") for each in out] == ["a ", "DR", None]
    assert not any("sequence_number" in each for each in out)
    assert ["timings" in each for each in out] == [True, False, False]


def drained(stream: Any, kind: type) -> tuple[Any, Any]:
    out, error = [], None
    try:
        out.extend(stream)
    except InvalidInput as fault:
        error = fault
    return kind().join(out), error and str(error)


CUT_OFF = "the body broke off in the middle of an event"


def test_a_body_that_breaks_off_in_its_first_event_says_so() -> None:
    """It may also be a line of a source of lines, which is said behind it where there is no end of a line."""
    begun = wire(("", of_chat("hi DROP")))[:-15]
    hint = "lines that came without their ends need them back: (line + '\\n' for line in lines)"
    for body, said in (
        (begun, f"{CUT_OFF}; or, {hint}"),
        (f": hi\n\n{begun}", CUT_OFF),
        (f"event: piece\n{begun}", CUT_OFF),
    ):
        for size in (1, len(body)):
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            assert drained(GUARD.stream(pieces, sse=True), str)[1] == said


PASSED = wire(("", of_chat("so "))).encode()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (b"\xff", "bytes of a chunk are no UTF-8"),
        (b'data: {"a\xc3(', "bytes of a chunk are no UTF-8"),
        (b"\xe2\x82", "bytes of a chunk are no UTF-8"),
        (b"data: " + b"a" * 100, "an event is longer than 90 characters"),
        (b"data: a\n" * 40, "an event is longer than 90 characters"),
        (b"data: a\n" * 40 + b"\n", "an event is longer than 90 characters"),
        (b'data: {"odd": 1}\n\n\xff', "chunk must be a chunk of a chat completion, as before, and is dict"),
    ],
)
def test_what_stands_before_a_fault_comes_out_however_the_body_is_cut(
    fault: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a piece of its own, in one with it, byte by byte; also what is no UTF-8, and what is too long."""
    monkeypatch.setattr(sse, "MOST_EVENT_CHARACTERS", 90)
    body = PASSED + fault
    out = b"".join(GUARD.stream([PASSED], sse=True))
    for pieces in ([body], [PASSED, fault], [PASSED[:9], body[9:]], [bytes([each]) for each in body]):
        for behind in ([], [PASSED]):
            assert drained(GUARD.stream([*pieces, *behind], sse=True), bytes) == (out, said)


def test_a_stop_before_a_fault_in_one_piece_is_a_stop() -> None:
    """As where the fault is in a piece of its own, which nobody asks for."""
    stop = wire(("", of_chat("a DROP TABLE"))).encode()
    outs = [drained(GUARD.stream(pieces, sse=True), bytes) for pieces in ([stop, b"\xff"], [stop + b"\xff"])]
    assert outs[0] == outs[1]
    assert outs[0][1] is None


PING = {"type": "ping"}
MESSAGE = [
    {"type": "message_start", "message": {"content": [], "usage": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi DROP TABLE"}},
]


@pytest.mark.parametrize("name", ["", "event: ping\n", "event: message\n", "id: 7\n"])
@pytest.mark.parametrize("events", [[of_chat("hi DROP TABLE")], MESSAGE], ids=["chat", "messages"])
@pytest.mark.parametrize("often", [1, 2])
def test_a_ping_before_anything_else_chooses_no_shape(events: list[Any], name: str, often: int) -> None:
    """It comes out as it is, and what comes next says what is streamed, and how it ends."""
    plain = [*GUARD.stream(events)]
    assert list(GUARD.stream([PING] * often + events)) == [PING] * often + plain
    body, alone = wire(*[(name, PING)] * often), wire(*(("", each) for each in events))
    out = "".join(GUARD.stream([body + alone], sse=True))
    named = "" if "message" in name else name
    assert out == f'{named}data: {{"type":"ping"}}\n\n' * often + "".join(GUARD.stream([alone], sse=True))
    # Pings alone are no fault, and what has more is none.
    assert list(GUARD.stream([PING])) == [PING]
    assert "".join(GUARD.stream([body], sse=True)).count("ping") == often * (1 + ("ping" in name))
    refused("guard.unknown_chunk", lambda: list(GUARD.stream([PING | {"text": "a"}, *events])))


@pytest.mark.parametrize("name", ["", "event: ping\n"])
def test_a_ping_between_chunks_of_chat_changes_nothing_of_them(name: str) -> None:
    """Its own name is none of an event of the stream, so that a stop ends it as ever."""
    body = wire(("", of_chat("so ")), (name, PING), ("", of_chat("DROP TABLE")))
    out = "".join(GUARD.stream([body], sse=True))
    assert f'\n\n{name}data: {{"type":"ping"}}\n\n' in out
    assert out.endswith("data: [DONE]\n\n")
