"""How guarded streams begin and end: what is no stream, what looks like another, who is told, and what is left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import decidable as dc
from decidable import Guard, Rule
from decidable.guard import arguments, rule_set
from test_guard import refused

SAID = "DROP TABLE"
GUARD = Guard([Rule.literal(SAID, name="drop"), *rule_set("cards")])
SSN = Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", action="redact", name="ssn")


def chunk(content: str | None = None, finish: str | None = None, **about: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **about}


def event(data: Any) -> str:
    return f"data: {json.dumps(data)}\n\n"


# --- what begins like something else ------------------------------------------------------------------------------


PRELUDES = ["", "        ", "\ufeff", "\n\n", ": OPENROUTER PROCESSING\n\n", "id: 1\n", "retry: 3\r\n", ":\n:\r\rid:\n"]


@pytest.mark.parametrize("before", PRELUDES)
@pytest.mark.parametrize("field", ["data: ", "event: x\ndata: "])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_what_begins_like_events_is_refused_wherever_it_is_cut(before: str, field: str, as_bytes: bool) -> None:
    """Comments and the like stand before the first event; of a text in pieces each is looked at."""
    body: Any = before + field + json.dumps(chunk("DROP")) + "\n\n" + event(chunk(" TABLE"))
    body = body.encode() if as_bytes else body
    end = len((before + field).encode() if as_bytes else before + field)
    for cut in range(end + 2):
        pieces = [body[:cut], body[cut:]]
        assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(pieces))).field == "sse"  # noqa: B023
    single = [body[place : place + 1] for place in range(len(body))]
    assert refused("guard.unknown_chunk", lambda: list(GUARD.stream(single))).field == "sse"


def test_words_of_an_error_do_not_become_a_chunk() -> None:
    """What stood before a brace is redacted, and what comes behind it was read as words."""
    guard = Guard([Rule.literal("x", action="redact", replacement=""), Rule.literal("DROP")])
    hidden = json.dumps(chunk("DROP TABLE")).replace("DROP", "\\u0044ROP")
    refused("guard.unknown_chunk", lambda: list(guard.stream([f"event: error\ndata: x{hidden}\n\n"], sse=True)))
    (out,) = guard.stream(["event: error\ndata: x too busy\n\n"], sse=True)
    assert out == "event: error\ndata:  too busy\n\n"


@pytest.mark.parametrize(
    "text", ["id: 3\nname: data: 5", ": a\nb\ndata: c", "retry: x\nd\ndata:", "a\ndata: b", "idata: "]
)
def test_a_text_that_has_such_lines_later_is_none(text: str) -> None:
    assert "".join(GUARD.stream([text])) == text
    assert "".join(GUARD.stream(list(text))) == text


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_body_is_read_wherever_it_is_cut(end: str, as_bytes: bool) -> None:
    """Also before the end of its first line."""
    for before in ("", f": comment{end}{end}", f"id: 1{end}"):
        text = before + (event(chunk("data: event: ")) + event(chunk("DROP")) + event(chunk(" TABLE"))).replace(
            "\n", end
        )
        whole: Any = text.encode() if as_bytes else text
        want = b"".join(GUARD.stream([whole], sse=True)) if as_bytes else "".join(GUARD.stream([whole], sse=True))
        assert "content_filter" in str(want)
        for cut in range(len(whole) + 1):
            stream = GUARD.stream([whole[:cut], whole[cut:]], sse=True)
            assert whole[:0].join(stream) == want, cut


@pytest.mark.parametrize("begin", ["data:", "event: ", "\ufeffdata: ", "\n\ndata: "])
def test_what_begins_like_events_is_none_of_text_unless_it_is_said(begin: str) -> None:
    """One forgotten word would switch the guard off: events hide a match between their pieces."""
    body = [begin + json.dumps(chunk("DROP")) + "\n\n", event(chunk(" TABLE"))]
    for given in (body, [each.encode() for each in body]):
        assert refused("guard.unknown_chunk", lambda given=given: list(GUARD.stream(given))).field == "sse"  # type: ignore[misc]
        assert list(GUARD.stream(given, sse=False)) == given
    for piece in ("data", "datum: a", "an event: b", "the data: c", b"\xffdata:"):
        stream = GUARD.stream([piece, "DROP TABLE" if isinstance(piece, str) else b"DROP TABLE"])
        assert list(stream) == [piece]
        assert stream.stopped is not None
    wrong: Any = "yes"
    refused("input.wrong_type", lambda: GUARD.stream([], sse=wrong))


def test_the_mark_of_the_byte_order_may_come_by_itself() -> None:
    given = ["\ufeff", event(chunk("a"))]
    out = "".join(GUARD.stream(given, sse=True))
    assert json.loads(out.removeprefix("data: ")) == chunk("a")


def test_lines_without_their_ends_are_refused_with_the_second() -> None:
    """They would all wait for the end of the body."""
    came = []

    def lines() -> Iterator[str]:
        for number in range(10):
            came.append(number)
            yield "data: " + json.dumps(chunk("a"))

    error = refused("guard.unknown_chunk", lambda: list(GUARD.stream(lines(), sse=True)))
    assert (error.field, came) == ("body", [0, 1])
    assert "line + '\\n'" in error.message


def test_what_is_no_stream_is_refused_and_not_read_by_its_names() -> None:
    whole = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}],
    }  # fmt: skip
    for given in (whole, ChatCompletion.model_validate(whole)):
        for guarded in (GUARD.stream, GUARD.astream):
            error = refused("input.wrong_type", lambda guarded=guarded, given=given: guarded(given))  # type: ignore[misc]
            assert "check()" in error.message
        error = refused("guard.unknown_chunk", lambda given=given: list(GUARD.stream([given])))  # type: ignore[misc]
        assert "check()" in error.message


class AsyncOnly:
    """As a client's asynchronous stream: no iterable, and closed by a coroutine."""

    async def close(self) -> None: ...

    def __aiter__(self) -> AsyncIterator[str]:
        raise AssertionError


def test_an_asynchronous_source_is_no_iterable_and_leaves_no_coroutine() -> None:
    given: Any = AsyncOnly()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = refused("input.wrong_type", lambda: GUARD.stream(given))
        assert "astream" in error.message
        gc.collect()


# --- a document as the text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_a_text_in_json_is_matched_as_what_its_strings_say(size: int) -> None:
    text = '{"note": "Card: 4111\\u00201111 1111 1111", "sql": "D\\u0052OP TABLE users"}'
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    before = '{"note": "Card: [redacted]", "sql": "'
    for given, read in (
        (pieces, "".join),
        (
            [chunk(piece) for piece in pieces],
            lambda out: "".join(each["choices"][0]["delta"].get("content") or "" for each in out),
        ),
    ):
        stream = GUARD.stream(given, json=True)
        assert read(list(stream)) == before
        assert stream.stopped is not None
        assert stream.stopped.rule == "drop"
        assert GUARD.stream(given).stopped is None
    octets = [piece.encode() for piece in pieces]
    assert b"".join(GUARD.stream(octets, json=True)).decode() == before
    body = [event(chunk(piece)) for piece in pieces]
    assert "TABLE" not in "".join(GUARD.stream(body, sse=True, json=True))
    wrong: Any = 1
    refused("input.wrong_type", lambda: GUARD.stream([], json=wrong))
    refused("input.wrong_type", lambda: GUARD.check("", json=wrong))


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_a_text_that_is_no_document_is_read_as_it_is_written_too(size: int) -> None:
    """A backslash in it may be one. Whole, in pieces, as bytes, and as a client streams it."""
    guard = Guard([Rule.literal("path\\new", name="path"), SSN])
    for begin in ("see ", " \n", ""):
        text = begin + "path\\new file"
        pieces = [text[place : place + size] for place in range(0, len(text), size)]
        given: Any
        for given in (pieces, [piece.encode() for piece in pieces], [chunk(piece) for piece in pieces]):
            stream = guard.stream(given, json=True)
            out = list(stream)
            assert (stream.stopped and stream.stopped.rule) == "path"
            assert "new" not in str(out)
        assert guard.check(text, json=True)[:2] == (begin, guard.check(text)[1])
        assert guard.check(text.encode(), json=True)[0] == begin.encode()


@hypothesis.settings(max_examples=300)
@hypothesis.given(
    text=st.text(alphabet='\\{"nCu04 abD\u00a0\u3000', max_size=24),
    cuts=st.sets(st.integers(1, 23)),
    most=st.sampled_from([4, 65_536]),
)
@hypothesis.example(text="\\bb", cuts=set(), most=65_536)
@hypothesis.example(text="\\bb\\bb", cuts={1, 4}, most=4)
def test_how_a_text_in_json_is_cut_changes_nothing(text: str, cuts: set[int], most: int) -> None:
    """What comes out, which rule stops it and where, and what was noted before: as text and as bytes."""
    rules = [Rule.literal("a\\n"), Rule.literal("Db"), Rule.literal("b", action="record", name="noted")]
    guard = Guard([*rules, Rule.regex("Ca[^D]*D", action="redact", name="far")], max_hold=most)

    def told(pieces: list[Any]) -> Any:
        stream = guard.stream(pieces, json=True)
        out = b"".join(each.encode() if isinstance(each, str) else each for each in stream)
        return out, stream.stopped, stream.matches

    whole = told([text])
    places = [0, *sorted(place for place in cuts if place < len(text)), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert told(pieces) == told(list(text)) == whole
    octets = text.encode()
    assert told([octets]) == told([octets[place : place + 1] for place in range(len(octets))])
    assert told([octets])[0] == whole[0]
    released, stopped, _ = guard.check(text, json=True)
    assert (released.encode(), stopped) == whole[:2]


def test_of_two_readings_that_stop_at_once_the_one_with_the_earlier_match_says_why() -> None:
    rules = [Rule.literal("a\\n", name="written"), Rule.literal("a\nDROQ"), Rule.literal("DROP")]
    released, stopped, _ = Guard(rules).check("a\\nDROP", json=True)
    assert released == ""
    assert stopped is not None
    assert (stopped.rule, stopped.start) == ("written", 0)


def test_a_match_of_two_readings_is_counted_once() -> None:
    """Also where nobody keeps it, as text and in the arguments of a call."""
    guard = Guard([Rule.literal("ab", action="record")])
    most = 65_536
    text = "x" + "ab" * (most + 10)
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": text}}
    of_a_call = chunk()
    of_a_call["choices"][0]["delta"] = {"tool_calls": [call]}
    for given_ in ([text], [text[:70_001], text[70_001:]], [of_a_call]):
        stream = guard.stream(given_, json=True)
        for _ in stream:
            pass
        assert (len(stream.matches), stream.matches_dropped) == (most, 10)
    rules = [Rule.literal("b", action="record"), Rule.literal("bc", reads="exact", action="record")]
    found = Guard(rules).check("\\bbc", json=True)[2]
    assert [(match.start, match.end) for match in found] == [(1, 2), (2, 3), (2, 4)]


@pytest.mark.parametrize(("sought", "text"), [("D", '"\\u0044"'), ("\\u", '"\\u0044"')])
def test_matches_of_one_reading_that_nobody_keeps_are_counted(sought: str, text: str) -> None:
    """Those that only a document has, and those that only stand as they are written."""
    most, more = 65_536, 7
    whole = "x" + text * (most + more)
    stream = Guard([Rule.literal(sought, action="record")]).stream([whole], json=True)
    assert "".join(stream) == whole
    assert (len(stream.matches), stream.matches_dropped) == (most, more)


def test_what_both_readings_hold_back_is_what_is_not_out() -> None:
    """The end of a text may be in a match as a document has it, and what stands before it in one as it is written."""
    text = 'x "1\\tDRY 1\\tDR'
    held: list[tuple[int, int]] = []
    out: list[str] = []

    def source() -> Iterator[str]:
        for taken, piece in enumerate(text, 1):
            yield piece
            held.append((stream.held, taken - len("".join(out))))

    stream = Guard([Rule.literal("1\\t2"), Rule.literal("DROP")]).stream(source(), json=True)
    for piece in stream:
        out.append(piece)  # noqa: PERF402 (each counts at once)
    assert "".join(out) == text
    assert all(told == kept for told, kept in held)
    # A document has a tab there, and it may be a backslash.
    assert [told for told, _ in held[-3:]] == [3, 4, 5]


def test_what_one_of_two_readings_found_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other may find it later, and then it is told once: also behind very many that it never found."""
    monkeypatch.setattr(arguments, "MOST_MATCHES", 100)
    guard = Guard([Rule.literal("DROP", action="record"), Rule.literal("DROP TABLE")])
    cursor = arguments.Arguments(guard.cursor)
    found = []
    for _ in range(300):
        cursor.push('x "\\u0044ROP" ')
        found += cursor.matches()
    assert len(found) == 300
    assert len(cursor._told) == 100
    # What is held of a document is not yet read as it is written.
    cursor.push("DROP")
    assert [match.start for match in cursor.matches()] == [300 * len('x "\\u0044ROP" ')]
    cursor.push(" so ")
    assert cursor.matches() == []
    assert len(cursor._told) == 100 - 1


def test_white_space_that_json_does_not_have_is_a_text() -> None:
    guard = Guard([Rule.literal("C:\\new", name="path")])
    for space in ("\u00a0", "\u3000", "\x1c", "\x0b"):
        text = f"{space}[C:\\new]"
        assert guard.check(text, json=True)[1] == guard.check(text.encode(), json=True)[1] == guard.check(text)[1]
    for space in (" ", "\t", "\r\n"):
        assert guard.check(f'{space}["C:\\new"]', json=True)[1] is None


def test_a_whole_text_in_json_is_checked_as_what_its_strings_say() -> None:
    guard = Guard([SSN])
    text = '{"note": "078\\u002d05-1120"}'
    assert guard.check(text)[0] == text
    released, stopped, matches = guard.check(text, json=True)
    assert (released, stopped) == ('{"note": "[redacted]"}', None)
    assert [(match.rule, match.start, match.end) for match in matches] == [("ssn", 10, 26)]
    assert guard.check(text.encode(), json=True)[0] == b'{"note": "[redacted]"}'
    # What both ways to read find is told once.
    noted = Guard([Rule.literal("secret", action="record")])
    assert [match.start for match in noted.check("a secret", json=True)[2]] == [2]


def test_only_the_answer_is_a_document() -> None:
    """What a model thinks before it is none."""
    guard = Guard([Rule.literal("078-05-1120", action="redact", replacement='"-"')])
    delta = {"reasoning_content": "It is 078-05-1120.", "content": '"078-05-1120"'}
    (out,) = guard.stream([{"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}], json=True)
    assert out["choices"][0]["delta"] == {"reasoning_content": 'It is "-".', "content": '"\\"-\\""'}
    said = {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 1}
    (told,) = guard.stream([said | {"delta": '"078-05-1120"', "logprobs": [], "sequence_number": 1}], json=True)
    assert told["delta"] == '"\\"-\\""'


# --- the last chunk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        [],
        [chunk("hi"), chunk(finish="stop")],
        [chunk("hi")],
        [{"choices": [{"index": 1, "delta": {"content": "hi"}, "finish_reason": "stop"}]}],
        [{"choices": [{"index": 0, "finish_reason": None}]}],
    ],
    ids=[
        "nothing before",
        "behind the end",
        "a choice that goes on",
        "another choice at its end",
        "a choice without a delta",
    ],
)
@pytest.mark.parametrize("about", [{"citations": [SAID]}, {"error": {"message": f"x {SAID}"}}])
@pytest.mark.parametrize("shape", ["dict", "object", "sse"])
def test_a_stop_outside_of_a_choice_is_told_too(before: list[Any], about: Any, shape: str) -> None:
    """Whatever came before: a last chunk says that a filter stopped it, with the notice."""
    made = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    given: list[Any] = [made | each for each in before] + [made | {"choices": []} | about]
    if shape == "object":
        given = [ChatCompletionChunk.construct(**each) for each in given]
    stream = GUARD.stream(
        [event(each) for each in given] if shape == "sse" else given, sse=shape == "sse", notice="ended"
    )
    out = list(stream)
    assert stream.stopped is not None
    if shape == "sse":
        events = [line.removeprefix("data: ") for line in "".join(out).splitlines() if line.startswith("data: ")]
        out = [json.loads(each) for each in events if each != "[DONE]"]
        if "choices" not in out[-1]:
            # No choice was there, and the event of an error knows none.
            assert out[-1]["error"] == {"type": "content_filter", "message": "ended"}
            return
    last = out[-1] if isinstance(out[-1], dict) else out[-1].model_dump()
    assert [each["finish_reason"] for each in last["choices"]] == ["content_filter"]
    assert last["choices"][0]["delta"]["content"] == "ended"
    assert SAID not in str(out)


@pytest.mark.parametrize("stopped", [0, 1])
def test_of_choices_that_go_on_the_stopped_one_has_the_notice(stopped: int) -> None:
    choices = [{"index": index, "delta": {"content": "a"}, "finish_reason": None} for index in (0, 1)]
    choices[stopped] = choices[stopped] | {"delta": {"content": SAID}}
    last = list(GUARD.stream([{"choices": choices}, {"choices": choices}], notice="ended"))[-1]
    told = {each["index"]: each["delta"].get("content") for each in last["choices"]}
    assert [index for index, said in told.items() if said == "ended"] == [stopped]


@pytest.mark.parametrize("notice", ["ended", ""])
def test_of_choices_that_are_all_at_their_end_the_last_is_ended_again(notice: str) -> None:
    """As the client knows it; where there was none it is made, and says nothing that was not to be said."""
    error: dict[str, Any] = {"choices": [], "error": {"message": SAID}}
    finished = {"choices": [{"index": index, "text": "a", "finish_reason": "stop"} for index in (0, 2)]}
    last = list(GUARD.stream([finished, error], notice=notice))[-1]
    assert last["choices"] == [{"index": 2, "text": notice, "finish_reason": "content_filter"}]
    last = list(GUARD.stream([error], notice=notice))[-1]
    assert last["choices"][0]["delta"] == {"content": notice or None}


@pytest.mark.parametrize("raised", [False, True])
def test_a_whole_message_has_the_notice_and_no_call(raised: bool) -> None:
    """What is left of the arguments of a call is another call."""
    calls = [
        {"name": "sh", "args": {"cmd": f"rm -rf / {SAID} x", "cwd": "/home"}, "id": "1"},
        {"name": "other", "args": {}, "id": "2"},
    ]
    kwargs = {
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "sh", "arguments": "{}"}}],
        "function_call": {"name": "sh", "arguments": "{}"},
        "x_groq": {},
    }
    blocks = [{"type": "text", "text": "a "}, {"type": "tool_use", "id": "1", "name": "sh", "input": {"cmd": SAID}}]
    says = ["a ", *({"type": kind, kind: "b"} for kind in ("thinking", "reasoning", "refusal"))]
    function = {"function_call": {"name": "sh", "arguments": SAID}}
    for given, content in (
        (AIMessage(content="", additional_kwargs=function), "ended"),
        (AIMessage(content=[*says, blocks[1]]), [*says, {"type": "text", "text": "ended"}]),
        (AIMessage(content="", tool_calls=calls, additional_kwargs=kwargs, response_metadata={"id": "r"}), "ended"),
        (AIMessage(content=f"a {SAID}", tool_calls=calls), "a ended"),
        (AIMessage(content="", invalid_tool_calls=[{**calls[1], "args": SAID, "error": None}]), "ended"),
        (AIMessage(content=blocks), [{"type": "text", "text": "a "}, {"type": "text", "text": "ended"}]),  # type: ignore[arg-type]
    ):
        out: list[Any] = []
        stream = GUARD.stream([given], notice="ended", raise_on_stop=raised)
        try:
            out.extend(iter(stream))
        except dc.GuardStopped:
            assert raised
        (message,) = out
        assert message.content == content
        assert message.tool_calls == message.invalid_tool_calls == []
        assert not {"tool_calls", "function_call"} & message.additional_kwargs.keys()
        assert message.response_metadata == given.response_metadata | {"finish_reason": "content_filter"}


def test_a_message_chunk_that_was_the_last_is_not_where_it_is_stopped() -> None:
    """What a client is told comes behind it."""
    given = AIMessageChunk(content=f"a {SAID}", chunk_position="last")
    out = list(GUARD.stream([given], notice="ended"))
    assert [(each.content, each.chunk_position) for each in out] == [("a ", None), ("ended", "last")]


@pytest.mark.parametrize("stopped", [0, 1])
def test_of_outputs_the_stopped_one_has_the_notice(stopped: int) -> None:
    def output(*pieces: tuple[int, str, str | None]) -> Any:
        outputs = [{"index": index, "text": text, "finish_reason": why} for index, text, why in pieces]
        return {"request_id": "r", "outputs": outputs, "finished": False}

    given = [output((0, "a", None), (1, "b", None)), output((stopped, SAID, None))]
    last = list(GUARD.stream(given, notice="ended"))[-1]
    assert [each["text"] for each in last["outputs"]] == [["ended", ""], ["", "ended"]][stopped]
    # One that was at its end and goes on is ended again.
    given = [output((0, "", "length"), (1, "", "length")), output((1, SAID, None))]
    last = list(GUARD.stream(given, notice="ended"))[-1]
    assert [(each["index"], each["text"], each["finish_reason"]) for each in last["outputs"]] == [(1, "ended", "abort")]


# --- what is left -------------------------------------------------------------------------------------------------


def refusals() -> Iterator[tuple[Any, dict[str, Any]]]:
    secret = "4111111111111111"
    yield [chunk(secret, unknown={"a": secret})], {}
    yield [chunk(secret) | {"choices": [{"index": 0, "delta": {"content": secret, "unknown": secret}}]}], {}
    yield ["data: {" + secret + "}\n\n"], {"sse": True}
    yield [b"data: \xff" + secret.encode() + b"\n\n"], {"sse": True}
    yield [{"type": "content_block_delta", "index": 0, "delta": {"type": "unknown", "text": secret}}], {}
    yield [{"type": "response.unknown", "text": secret}], {}


@pytest.mark.parametrize(("given", "options"), list(refusals()))
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_has_nothing_of_what_did_not_come_out(given: Any, options: Any, asynchronous: bool) -> None:
    """Neither in what it says, nor in the frames and the errors behind it, which are sent to who knows where."""

    async def source() -> AsyncIterator[Any]:
        for each in given:
            yield each

    async def last() -> None:
        async for _ in GUARD.astream(source(), **options):
            pass

    with pytest.raises(dc.InvalidInput) as caught:
        asyncio.run(last()) if asynchronous else list(GUARD.stream(iter(given), **options))
    error = caught.value
    assert error.__context__ is error.__cause__ is None
    here = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in here.stack if "decidable/guard" in frame.filename]
    assert frames
    assert not any("4111" in str(each) for frame in frames for each in (frame.locals or {}).values())
    assert "4111" not in str(error)


def failing_notice(_: object) -> str:
    raise KeyError("notice")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("text", "options", "kind"),
    [
        ("a drop table 4111", {"raise_on_stop": True}, dc.GuardStopped),
        ("a drop table 4111", {"notice": failing_notice}, KeyError),
        ("a 4111 drop tab", {}, OSError),
    ],
)
def test_no_error_has_a_chunk_in_its_frames(
    text: str, options: dict[str, Any], kind: type[Exception], asynchronous: bool
) -> None:
    """Not where the caller asked for it, nor where his own code or the source raised it."""
    guard = dc.Guard([dc.Rule.literal("drop table"), dc.Rule.literal("4111")])
    chunks = [text, {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}]

    def source(chunk: Any) -> Iterator[Any]:
        yield chunk
        raise OSError("gone")

    async def asynchronously(chunk: Any) -> AsyncIterator[Any]:
        yield chunk
        raise OSError("gone")

    async def last(chunk: Any) -> None:
        async for _ in guard.astream(asynchronously(chunk), **options):
            pass

    for chunk in chunks:
        if kind is OSError:
            guard = dc.Guard([dc.Rule.literal("4111 drop table")])
        with pytest.raises(kind) as caught:
            asyncio.run(last(chunk)) if asynchronous else list(guard.stream(source(chunk), **options))
        here = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        frames = [frame for frame in here.stack if "decidable/guard" in frame.filename]
        assert frames
        assert not [each for frame in frames for each in (frame.locals or {}).values() if "4111" in each]


def test_an_error_of_the_source_keeps_where_it_was_raised() -> None:
    def source() -> Iterator[str]:
        yield "a"
        raise dc.InvalidInput("input.wrong_type", "of the source")

    with pytest.raises(dc.InvalidInput) as caught:
        list(GUARD.stream(source()))
    assert "source" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_a_stream_that_is_left_needs_no_collector() -> None:
    """Nothing of it refers to itself, so that it and its source go in the order in which they were made."""
    closed = []

    def source() -> Iterator[str]:
        try:
            yield from "abc"
        finally:
            closed.append(True)

    gc.disable()
    try:
        for _ in GUARD.stream(source()):
            break
        assert closed == [True]
    finally:
        gc.enable()


def test_leaving_an_asynchronous_stream_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The event loop closes the stream and its source at once; neither is a fault."""
    closed = []

    async def source() -> AsyncIterator[str]:
        try:
            for each in "abc":
                await asyncio.sleep(0)
                yield each
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    told: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

        async def handler() -> str | None:
            async for each in GUARD.astream(source()):
                return each
            return None

        assert await handler() == "a"
        gc.collect()
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert (closed, told, capfd.readouterr().err) == ([True], [], "")


def test_the_places_of_two_readings_are_those_of_what_was_given() -> None:
    """Also behind what the first of them replaced, and each match is told once: as where there is no escape to read."""
    rules = [
        Rule.literal("LONG", action="redact", replacement="-+-+-+-"),
        Rule.literal("SO", action="redact", replacement=""),
        Rule.literal("a", action="record"),
        Rule.literal("\N{LATIN SMALL LETTER E WITH ACUTE}", action="record", name="e"),
        Rule.literal("zz", name="zz"),
    ]
    guard = Guard(rules)
    pieces = [
        "x ",
        '"',
        "LONG",
        "SO",
        "a",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        " ",
        "b",
        "z",
        "LON",
        '"a"',
        "b" * 2_000,
    ]
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw, passed, stopped = random.Random(seed), 0, 0
    for _ in range(1_500):
        text = "x" + "".join(draw.choice(pieces) for _ in range(draw.randint(1, 14)))
        released, why, matches = guard.check(text, json=True)
        if why is None:
            passed += 1
            plain = guard.check(text)
            assert released == plain[0]
            assert sorted(map(repr, matches)) == sorted(map(repr, plain[2]))
        elif why.rule == "zz":
            stopped += 1
            own = text.encode()[why.start : why.end].decode()
            assert own.replace("SO", "").replace("LONG", "") == "zz"
    assert passed > 300
    assert stopped > 10


@pytest.mark.parametrize("action", ["stop", "redact", "record"])
def test_white_space_before_a_document_is_read_as_the_document_is(action: str) -> None:
    """However it is cut: what ends there is no end of the text."""
    guard = Guard([Rule.regex(r"\s$", action=action, name="end")])
    text = ' \n{"a": 1}'
    for pieces in ([text], [" ", text[1:]], [" ", "\n", text[2:]], list(text)):
        stream = guard.stream(pieces, json=True)
        assert "".join(stream) == text
        assert (stream.stopped, stream.matches) == (None, ())


def test_a_match_beside_an_empty_replacement_has_its_own_place() -> None:
    rules = [Rule.literal("ab-E", action="redact", replacement=""), Rule.literal("xx", action="record")]
    (match,) = [each for each in Guard(rules).check("q xxab-D", json=True)[2] if each.rule == "xx"]
    assert (match.start, match.end) == (2, 4)
    rules = [Rule.literal("ab", action="redact", replacement=""), Rule.literal("xx", action="record")]
    found = Guard(rules).check('q "xxab" ab"xx"', json=True)[2]
    assert [(each.start, each.end) for each in found if each.rule == "xx"] == [(3, 5)]
