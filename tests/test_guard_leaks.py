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

        @property
        def content(self) -> Any:
            raise MemoryError

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


# --- beside others: tests/leaks_of_peers.py gives them the same --------------------------------------------------

SIZES = [1, 3]
WORDS = [SECRET, LONG, WORD]
BROKEN = "the check itself is broken"

Event = tuple[str, Any]
"""``content``, ``reasoning_content`` or ``arguments`` with a text, ``bytes``, ``finish``, or a ``fault``."""


def spoken(size: int, text: str, channel: str = "content", *, finish: bool = True) -> list[Event]:
    return [*((channel, each) for each in pieces(text, size)), *([("finish", None)] if finish else [])]


def wire(text: str) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def octets(size: int, data: bytes) -> list[Event]:
    return [("bytes", data[at : at + size]) for at in range(0, len(data), size)]


def rows(
    size: int, secret: str = SECRET, long: str = LONG, word: str = WORD
) -> dict[str, tuple[str, list[Event], str]]:
    """Of each row of the matrix: what is looked for, what the source gives, and how it is asked."""
    said = BEFORE + secret + AFTER
    plain = spoken(size, said)
    broken_off = [*spoken(size, BEFORE + secret[:-1], finish=False), ("fault", None)]
    escaped = json.dumps({"text": said}).replace("code", "\\u0063ode")
    over_the_wire = b"".join(map(wire, pieces(said, size)))
    halves = [("content", each) for each in units(BEFORE + word + AFTER, size)]
    invisible = BEFORE + "\u200b".join(secret) + AFTER
    return {
        "a keyword of 400 characters over many chunks": (long, spoken(size, BEFORE + long + AFTER), ""),
        "an exception of the source in the middle of a match": (secret, broken_off, ""),
        "an exception inside, while a match is read": (secret, plain, "broken"),
        "bytes among objects": (secret, [("content", BEFORE), ("bytes", wire(secret))], ""),
        "server-sent events as bytes": (secret, octets(size, over_the_wire), ""),
        "subclasses of a chunk and of the guard": (secret, plain, "subclass"),
        "the synchronous path": (secret, plain, "synchronous"),
        "the asynchronous path": (secret, plain, "asynchronous"),
        "arguments of a tool, with escapes": (secret, spoken(size, escaped, "arguments"), ""),
        "the reasoning of a model": (secret, spoken(size, said, "reasoning_content"), ""),
        "a code point that two chunks share": (word, [*halves, ("finish", None)], ""),
        "invisible characters inside a word": (secret, spoken(size, invisible), ""),
        "a stream that ends without a finish": (secret, spoken(size, BEFORE + secret, finish=False), ""),
    }


HARMLESS = ("lunch order 7341", "comfortable! " * 30 + "end of file", "gefallen \N{CAT} größer")
"""Of the lengths of what is looked for, and none of it."""
FAULTS = {"an exception of the source in the middle of a match", "an exception inside, while a match is read"}
"""Where something fails nothing need come out, whatever the text."""


OutOf = Callable[[list[Event], str], str | None]
"""All that can be read of what a guard lets out of what a source gives; ``None`` where it has no way for it."""


class Fault(Exception):
    """The source's connection is lost."""


def as_read(texts: list[str | None], data: list[bytes]) -> str:
    """Texts, and bytes that may be events with more of them, whichever way they came."""
    octets = b"".join(data).decode(errors="replace")
    events = [json.loads(line) for line in re.findall(r"^data: (\{.*\})$", octets, re.MULTILINE)]
    texts = texts + ([event["choices"][0]["delta"].get("content") for event in events] if events else [octets])
    text = "".join(each for each in texts if each).replace("\\u0063", "c").replace("\u200b", "")
    # Two halves that stand beside each other are read as the code point.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class BrokenCheck:
    """A cursor that cannot look at a text."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def push(self, _: Any) -> Any:
        raise RuntimeError(BROKEN)


class BrokenGuard(Guard):
    def cursor(self, *, json: bool = False) -> Any:
        return BrokenCheck(super().cursor(json=json))


class Subclass(Guard):
    pass


class ChunkSubclass(dict[str, Any]):
    pass


def out_of_ours(events: list[Event], how: str) -> str | None:
    """With rules for the same texts."""
    kind = {"broken": BrokenGuard, "subclass": Subclass}.get(how, Guard)
    guard = kind([Rule.literal(word) for word in WORDS])

    def given(event: Event) -> Any:
        name, value = event
        if name == "bytes":
            return value
        made = call(value) if name == "arguments" else chunk("stop") if name == "finish" else chunk(**{name: value})
        return ChunkSubclass(made) if how == "subclass" else made

    def source() -> Iterator[Any]:
        for event in events:
            if event[0] == "fault":
                raise Fault
            yield given(event)

    async def asynchronous() -> AsyncIterator[Any]:
        for each in source():
            yield each

    # Bytes and nothing else are events as they come over the wire, which is said to a guard.
    sse = all(name == "bytes" for name, _ in events)
    came: list[Any] = []
    broke = False

    async def run() -> None:
        async for each in guard.astream(asynchronous(), sse=sse):
            came.append(each)  # noqa: PERF401 (what came before an exception counts)

    try:
        if how == "asynchronous":
            asyncio.run(run())
        else:
            came.extend(guard.stream(source(), sse=sse))
    except (Fault, DecidableError):
        pass
    except RuntimeError as error:
        assert str(error) == BROKEN  # noqa: PT017 (any other goes on)
        broke = True
    assert broke == (how == "broken")
    chunks = [each for each in came if not isinstance(each, bytes)]
    texts: list[str | None] = [said(chunks, channel) for channel in ("content", "reasoning_content", "arguments")]
    return as_read(texts, [each for each in came if isinstance(each, bytes)])


def leaked(came: str | None, match: str) -> int | None:
    """How long a beginning of a match came out. Two letters of it may stand in any text."""
    if came is None:
        return None
    longest = max(length for length in range(len(match) + 1) if match[:length] in came)
    return longest if longest > 2 else 0


def told(lengths: list[int | None], match: str) -> str:
    """The worst of them."""
    longest = max((length for length in lengths if length is not None), default=None)
    if longest is None:
        return "-"
    return "all" if longest == len(match) else f"{longest} of {len(match)}" if longest else "nothing"


def refuses(out_of: OutOf, row: str) -> bool:
    """Whether a guard lets out nothing of chunks of this kind though they say nothing that is looked for."""
    if row in FAULTS:
        return False
    tried = [rows(size, *HARMLESS)[row] for size in SIZES]
    return any(leaked(out_of(events, how), text) != len(text) for text, events, how in tried)


def cell(out_of: OutOf, row: str, match: str) -> str:
    lengths = [leaked(out_of(*rows(size)[row][1:]), match) for size in SIZES]
    shown = told(lengths, match)
    return "refused" if shown == "nothing" and refuses(out_of, row) else shown


def test_the_document_has_the_matrix(root: Path) -> None:
    """Every row, twice: what comes out of ours, and of the same chunks as others. `make guard-leaks` tries theirs."""
    document = (root / "docs" / "guard.md").read_text(encoding="utf-8")
    section = document.split("## Where guards leak\n", 1)[1].split("\n## ", 1)[0]
    ours, beside = re.findall(r"^\| where \|.*\n\| -.*\n((?:\|.*\n)*)", section, re.MULTILINE)
    assert re.findall(r"^\| ([^|]+?) \|", ours, re.MULTILINE) == list(CASES)
    cells = re.findall(r"^\| ([^|]+?) \| (\w+) \|", beside, re.MULTILINE)
    assert list(rows(1)) == list(CASES)
    assert cells == [(name, cell(out_of_ours, name, match)) for name, (match, *_) in rows(1).items()]
    refused = REFUSED | {"a code point that two chunks share"}
    assert cells == [(name, "refused" if name in refused else "nothing") for name in CASES]
