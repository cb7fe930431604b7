"""The leak matrix of docs/guard.md: where guards of streams have been seen to leak, and what ours lets out there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from decidable import Guard, Rule
from decidable.errors import DecidableError

SECRET = "launch code 7341"
LONG = "confidential " * 30 + "end of file"
WORD = "geheimnis \N{KEY} größe"
GUARD = Guard([Rule.literal(SECRET, name="secret"), Rule.literal(LONG, name="long"), Rule.literal(WORD, name="word")])
AT_THE_END = Guard([Rule.regex(r"launch code \d+$", name="secret")])
OTHER = Guard([Rule.literal("of this nothing is said", name="other")])
BEFORE = "The "
AFTER = ". It is warm. So they talk of it."
"""Sentences end: a guard that waits for that would else hold the match and be praised for it."""


def pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def units(text: str, size: int) -> Iterator[str]:
    """Pieces of so many code units of UTF-16, as JavaScript counts them: one may end with half of a code point."""
    data = text.encode("utf-16-le")
    for start in range(0, len(data), 2 * size):
        yield data[start : start + 2 * size].decode("utf-16-le", "surrogatepass")


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def said(chunks: list[Any], channel: str = "content") -> str:
    """All text of a channel that came out."""
    deltas = [choice["delta"] for each in chunks for choice in each["choices"]]
    if channel == "arguments":
        calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
        return "".join(call["function"].get("arguments") or "" for call in calls)
    return "".join(delta.get(channel) or "" for delta in deltas)


def call(arguments: str) -> dict[str, Any]:
    return chunk(tool_calls=[{"index": 0, "function": {"arguments": arguments}}])


def long_keyword_over_chunks(size: int, guard: Guard) -> str:
    return "".join(guard.stream(pieces(BEFORE + LONG + AFTER, size)))


def exception_of_the_source(size: int, guard: Guard) -> str:
    def source() -> Iterator[str]:
        yield from pieces(BEFORE + SECRET[:-1], size)
        raise ConnectionError

    came: list[str] = []
    stream = guard.stream(source())
    with pytest.raises(ConnectionError):
        came.extend(stream)
    assert_failed(stream)
    return "".join(came)


def exception_inside(size: int, guard: Guard) -> str:
    class Faulty(dict[str, Any]):
        """A part of a chunk that cannot be read."""

        def fault(self, *_: Any) -> Any:
            raise MemoryError

        get = items = __getitem__ = __iter__ = fault

    def source() -> Iterator[dict[str, Any]]:
        for each in pieces(BEFORE + SECRET[:-1], size):
            yield chunk(content=each)
        yield {"choices": [{"index": 0, "delta": Faulty(content=SECRET[-1]), "finish_reason": None}]}
        yield chunk(content="after it")

    came: list[dict[str, Any]] = []
    stream = guard.stream(source())
    with pytest.raises(MemoryError):
        came.extend(stream)
    assert_failed(stream)
    return said(came)


def assert_failed(stream: Any) -> None:
    """It is over, and says so; nothing comes any more."""
    assert stream.stopped is not None
    assert stream.stopped.kind == "failed"
    assert list(stream) == []


def bytes_among_objects(size: int, guard: Guard) -> str:
    def source() -> Iterator[Any]:
        yield chunk(content=BEFORE)
        event = json.dumps(chunk(content=SECRET)).encode()
        yield b"data: " + event + b"\n\n"

    came: list[Any] = []
    stream = guard.stream(source())
    with pytest.raises(DecidableError):
        came.extend(stream)
    assert_failed(stream)
    return said(came)


def server_sent_bytes(size: int, guard: Guard) -> str:
    event = b"".join(
        b"data: " + json.dumps(chunk(content=each)).encode() + b"\n\n" for each in pieces(BEFORE + SECRET + AFTER, 3)
    )
    came = b"".join(guard.stream((event[at : at + size] for at in range(0, len(event), size)), sse=True))
    events = [line[6:] for line in came.decode().splitlines() if line.startswith("data: {")]
    return said([json.loads(each) for each in events])


def subclasses(size: int, guard: Guard) -> str:
    class Chunk(dict[str, Any]):
        pass

    class Mine(Guard):
        pass

    mine = Mine(list(guard.rules))
    return said(list(mine.stream(Chunk(chunk(content=each)) for each in pieces(BEFORE + SECRET + AFTER, size))))


def asynchronous_path(size: int, guard: Guard) -> str:
    async def source() -> AsyncIterator[dict[str, Any]]:
        for each in pieces(BEFORE + SECRET + AFTER, size):
            yield chunk(content=each)

    async def run() -> list[dict[str, Any]]:
        return [each async for each in guard.astream(source())]

    return said(asyncio.run(run()))


def synchronous_path(size: int, guard: Guard) -> str:
    return said(list(guard.stream(chunk(content=each) for each in pieces(BEFORE + SECRET + AFTER, size))))


def tool_arguments(size: int, guard: Guard) -> str:
    written = json.dumps({"text": BEFORE + SECRET + AFTER}).replace("code", "\\u0063ode")
    came = said(list(guard.stream(call(each) for each in pieces(written, size))), "arguments")
    return came.removeprefix('{"text": "')


def reasoning_channel(size: int, guard: Guard) -> str:
    source = (chunk(reasoning_content=each) for each in pieces(BEFORE + SECRET + AFTER, size))
    return said(list(guard.stream(source)), "reasoning_content")


def split_code_point(size: int, guard: Guard) -> str:
    """As bytes, cut at every place inside of a code point. Text that has half of one is refused there."""
    data = (BEFORE + WORD + AFTER).encode()
    inside = [place for place, byte in enumerate(data) if byte & 0xC0 == 0x80]
    came = set()
    for place in inside:
        first = place % size
        chunks = [data[:first], *(data[at : at + size] for at in range(first, len(data), size))]
        came.add(b"".join(guard.stream(each for each in chunks if each)).decode())
    (whole,) = came
    before: list[str] = []
    stream = guard.stream(units(BEFORE + WORD + AFTER, 1))
    with pytest.raises(DecidableError):
        before.extend(stream)
    assert_failed(stream)
    assert whole.startswith("".join(before))
    return whole


def invisible_characters(size: int, guard: Guard) -> str:
    return "".join(guard.stream(pieces(BEFORE + "\u200b".join(SECRET) + AFTER, size)))


def end_without_finish(size: int, guard: Guard) -> str:
    return said(list(guard.stream(chunk(content=each) for each in pieces(BEFORE + SECRET, size))))


CASES: dict[str, Callable[[int, Guard], str]] = {
    "a keyword of 400 characters over many chunks": long_keyword_over_chunks,
    "an exception of the source in the middle of a match": exception_of_the_source,
    "an exception inside, while a match is read": exception_inside,
    "bytes among objects": bytes_among_objects,
    "server-sent events as bytes": server_sent_bytes,
    "subclasses of a chunk and of the guard": subclasses,
    "the synchronous path": synchronous_path,
    "the asynchronous path": asynchronous_path,
    "arguments of a tool, with escapes": tool_arguments,
    "the reasoning of a model": reasoning_channel,
    "a code point that two chunks share": split_code_point,
    "invisible characters inside a word": invisible_characters,
    "a stream that ends without a finish": end_without_finish,
}
RULES = dict.fromkeys(CASES, GUARD) | {"a stream that ends without a finish": AT_THE_END}
REFUSED = {"bytes among objects"}
"""Where such chunks do not come out whatever they say."""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_out_is_what_stands_before_the_match(case: str, size: int) -> None:
    assert CASES[case](size, RULES[case]) == BEFORE


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_comes_out_where_no_rule_looks_for_it(case: str, size: int) -> None:
    """Or nothing of a match would come out because nothing does."""
    came = CASES[case](size, OTHER).replace("\u200b", "").replace("\\u0063", "c")
    said = ("",) if case in REFUSED else (SECRET[:-1], LONG, WORD)
    assert came.startswith(tuple(BEFORE + each for each in said))
    assert (came == BEFORE) == (case in REFUSED)


def test_the_document_has_the_matrix(root: Path) -> None:
    """Every row, twice: what comes out of ours, and beside others, where `make guard-leaks` holds the rest to them."""
    document = (root / "docs" / "guard.md").read_text(encoding="utf-8")
    section = document.split("## Where guards leak\n", 1)[1].split("\n## ", 1)[0]
    ours, beside = re.findall(r"^\| where \|.*\n\| -.*\n((?:\|.*\n)*)", section, re.MULTILINE)
    assert re.findall(r"^\| ([^|]+?) \|", ours, re.MULTILINE) == list(CASES)
    cells = re.findall(r"^\| ([^|]+?) \| (\w+) \|", beside, re.MULTILINE)
    assert cells == [(case, "refused" if case in REFUSED else "nothing") for case in CASES]
