"""The guard from Python: rules, streams of text and of bytes, stops, files of rules, and what goes wrong."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codes
import decidable as dc
import plain
from decidable import Guard, GuardStopped, Match, Rule, StopReason
from decidable.guard import files

SSN = Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", action="redact", name="ssn")
DROP = Rule.literal("DROP TABLE", ignore_case=True, name="drop")
NOTE = Rule.literal("confidential", action="record")
TEXT = "é: confidential, 078-05-1120 and 078-05-11200. drop Table users; confidential"
RELEASED = "é: confidential, [redacted] and 078-05-11200. "


def refused(
    code: str, call: Callable[[], object], kind: type[dc.DecidableError] = dc.InvalidInput
) -> dc.DecidableError:
    with pytest.raises(kind) as caught:
        call()
    codes.note(caught.value.code)
    assert caught.value.code == code
    return caught.value


def test_a_stream_releases_everything_but_matches() -> None:
    """Text and bytes alike; what was found has its place."""
    guard = Guard([DROP, SSN, NOTE])
    assert guard.rules == (DROP, SSN, NOTE)
    for whole, kind in ((TEXT, str), (TEXT.encode(), bytes)):
        pieces = [whole[place : place + 5] for place in range(0, len(whole), 5)]
        stream: Any = guard.stream(pieces)
        released = list(stream)
        assert {type(piece) for piece in released} == {kind}
        assert kind().join(released) in (RELEASED, RELEASED.encode())
        assert stream.stopped == StopReason("matched", "drop", 48, 58)
        assert stream.matches == (Match("confidential", "record", 4, 16), Match("ssn", "redact", 18, 29))
    assert guard.check(TEXT)[0] == RELEASED
    assert guard.check("nothing of it") == ("nothing of it", None, [])


def test_every_way_to_cut_a_text_gives_the_same() -> None:
    """Inside words, inside code points, in one piece and in single bytes."""
    guard = Guard([DROP, SSN, NOTE, Rule.literal("é:", action="redact", replacement="«»")])
    whole = TEXT.encode()
    expected = RELEASED.replace("é:", "«»").encode()
    for size in range(1, len(whole) + 1):
        cursor = guard.cursor()
        out = b"".join(cursor.push(whole[place : place + size]) for place in range(0, len(whole), size))
        assert out + cursor.finish() == expected, size
        assert cursor.stopped is not None
        assert cursor.stopped.rule == "drop"
        assert cursor.push(b"more") == b""


@settings(max_examples=300)
@given(
    words=st.lists(st.text("ab -", min_size=1, max_size=5), min_size=1, max_size=8, unique=True),
    text=st.text("ab -é", max_size=40),
    cuts=st.lists(st.integers(1, 7), min_size=1),
)
def test_texts_are_found_as_a_search_of_the_whole_finds_them(words: list[str], text: str, cuts: list[int]) -> None:
    """The earliest end, then the earliest begin; and nothing of it has left."""
    stream = Guard([Rule.literal(word) for word in words]).stream(_cut(text, cuts))
    ends = [(found.end(), found.start()) for word in words for found in re.finditer(f"(?={re.escape(word)})", text)]
    found = sorted((start + len(word), start) for word in words for _, start in ends if text.startswith(word, start))
    out = "".join(stream)
    if not found:
        assert (out, stream.stopped) == (text, None)
        return
    end, start = found[0]
    assert out == text[:start]
    assert stream.stopped is not None
    assert (stream.stopped.start, stream.stopped.end) == (len(text[:start].encode()), len(text[:end].encode()))


@settings(max_examples=300)
@given(
    patterns=st.permutations(["a-", "-", "ba", "a"]).flatmap(
        lambda words: st.tuples(*(st.sampled_from([word, rf"{word}\b", rf"{word}\B"]) for word in words))
    ),
    text=st.text("ab- é", max_size=12),
    cuts=st.lists(st.integers(1, 7), min_size=1),
)
def test_of_stops_that_end_at_one_byte_the_whole_text_says_which_counts(
    patterns: tuple[str, ...], text: str, cuts: list[int]
) -> None:
    """The earliest end, then the earliest begin, then the first rule, also where the next byte decides one."""
    stream = Guard([Rule.regex(pattern) for pattern in patterns]).stream(_cut(text, cuts))
    found = [
        (match.end(), match.start(), pattern)
        for pattern in patterns
        for start in range(len(text))
        if (match := re.compile(pattern, re.ASCII).match(text, start))
    ]
    out = "".join(stream)
    if not found:
        assert (out, stream.stopped) == (text, None)
        return
    end, start, pattern = min(found, key=lambda of: (of[0], of[1], patterns.index(of[2])))
    assert stream.stopped is not None
    assert (out, stream.stopped.rule) == (text[:start], pattern)
    assert (stream.stopped.start, stream.stopped.end) == (len(text[:start].encode()), len(text[:end].encode()))


@settings(max_examples=300)
@given(text=st.text("ab1 -", max_size=40), cuts=st.lists(st.integers(1, 7), min_size=1))
def test_redactions_are_those_of_a_substitution(text: str, cuts: list[int]) -> None:
    """Where the pattern's own preference is the longest match, Python's `re` replaces the same."""
    pattern = r"\ba+(?:-1+)?\b|b{2,3}1"
    stream = Guard([Rule.regex(pattern, action="redact", replacement="#")]).stream(_cut(text, cuts))
    assert "".join(stream) == re.sub(pattern, "#", text)
    assert stream.stopped is None


def _cut(text: str, cuts: list[int]) -> Iterator[str]:
    place, turn = 0, 0
    while place < len(text):
        size = cuts[turn % len(cuts)]
        yield text[place : place + size]
        place, turn = place + size, turn + 1


def test_ordinary_text_is_not_held() -> None:
    """What comes in comes out with the same call, and the same object where all of it may."""
    cursor = Guard([DROP, SSN]).cursor()
    for word in ("What ", "is ", "the ", "answer? ", "42, "):
        assert cursor.push(word) is word
        assert cursor.held == 0
    assert cursor.push("d") == ""
    assert cursor.held == 1
    assert cursor.push("ock") == "dock"


def test_a_pattern_that_ends_in_a_boundary_is_decided_by_what_comes() -> None:
    """By the next byte, or by the end."""
    guard = Guard([Rule.regex(r"\bass\b")])
    assert "".join(guard.stream(["ass", "isting"])) == "assisting"
    cut = guard.stream(["an ass", ", it"])
    assert (list(cut), cut.stopped) == (["an "], StopReason("matched", r"\bass\b", 3, 6))
    last = guard.stream(["an ass"])
    assert (list(last), last.stopped) == (["an "], StopReason("matched", r"\bass\b", 3, 6))


@pytest.mark.parametrize(("action", "out"), [("record", "ab"), ("redact", "[redacted]b")])
def test_of_very_many_matches_the_first_are_kept_and_the_others_counted(action: str, out: str) -> None:
    """docs/limits.md: nothing else changes, however a text is cut, and who takes them all the while has all."""
    most, more = 65_536, 100
    guard = Guard([Rule.literal("a", action=action)])
    text = "ab" * (most + more)
    for size in (4_096, len(text)):
        pieces = [text[place : place + size] for place in range(0, len(text), size)]
        cursor = guard.cursor()
        assert "".join(cursor.push(piece) for piece in pieces) + cursor.finish() == out * (most + more)
        assert (cursor.stopped, cursor.matches_dropped) == (None, more)
        found = cursor.matches()
        assert [match.start for match in found] == [2 * number for number in range(most)]
        assert (cursor.matches(), cursor.matches_dropped) == ([], more)

        stream = guard.stream(pieces)
        asked = [next(stream), len(stream.matches), *stream][1]
        assert asked == sum(match.start < size for match in found)
        assert (len(stream.matches), stream.matches_dropped) == (most, more)
        assert list(stream.matches) == found

        cursor = guard.cursor()
        taken = [match for piece in pieces for match in (cursor.push(piece), cursor.matches())[1]]
        assert (len(taken), cursor.matches_dropped) == ((most, more) if size == len(text) else (most + more, 0))
    assert len(guard.check(text)[2]) == most + more
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": text}}]},
        {"choices": [{"index": 1, "delta": {"content": "a"}}]},
    ]
    typed: Any = guard.stream(chunks)
    assert len(list(typed)) == 2
    assert (len(typed.matches), typed.matches_dropped) == (most, more + 1)


def test_looking_at_the_matches_changes_none_that_are_told_later() -> None:
    """Which are kept and how many are not, whether somebody looks after each piece or only at the end."""
    most = 65_536
    guard = Guard([Rule.literal("a", action="record"), Rule.literal("r", action="redact")])
    pieces = ["ar" * (most // 4), "r" * most, "a" * 100, "ra"]
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    for source in (pieces, chunks):
        unseen, seen = guard.stream(source), guard.stream(source)
        for _ in unseen:
            pass
        for _ in seen:
            assert (seen.matches, seen.matches_dropped) == (seen.matches, seen.matches_dropped)
        assert (seen.matches, seen.matches_dropped) == (unseen.matches, unseen.matches_dropped)
        assert (len(seen.matches), seen.matches_dropped) == (most, most // 2 + 102)


def test_what_is_pushed_after_the_end_is_refused() -> None:
    """It would be swallowed: nothing comes out, the stream has failed, and whoever pushed is told."""
    for chunk, nothing in (("more", ""), (b"more", b"")):
        cursor = Guard([Rule.literal("DROP")]).cursor()
        rest = cursor.push(chunk) + cursor.finish()
        assert (rest, cursor.push(nothing), cursor.finish(), cursor.stopped) == (chunk, nothing, nothing, None)
        for _ in range(2):
            refused("guard.ended", partial(cursor.push, chunk), dc.Conflict)
            assert cursor.stopped == StopReason("failed", None, 4, None)
        # Then also what is empty: it is pushed to a stream that has failed.
        refused("guard.ended", partial(cursor.push, nothing), dc.Conflict)
    # A stream that was stopped before has said so, and stays so.
    cursor = Guard([Rule.regex(r"more\b", name="more")]).cursor()
    assert (cursor.push("more"), cursor.finish()) == ("", "")
    assert (cursor.push("more"), cursor.stopped) == ("", StopReason("matched", "more", 0, 4))


class Source:
    """An iterable that says how far it was read and whether it was closed."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces, self.read, self.closed = list(pieces), 0, 0

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Any:
        if self.read == len(self.pieces):
            raise StopIteration
        self.read += 1
        piece = self.pieces[self.read - 1]
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.closed += 1


def test_a_stop_closes_the_source_before_the_last_piece() -> None:
    """And nothing after the match is read."""
    source = Source("safe ", "and dro", "p table", " never read")
    stream = Guard([DROP]).stream(source)
    assert next(stream) == "safe "
    assert (next(stream), source.closed) == ("and ", 0)
    with pytest.raises(StopIteration):
        next(stream)
    assert (source.read, source.closed) == (3, 1)
    with pytest.raises(StopIteration):
        next(stream)

    source = Source("a DROP TABLE b")
    stream = Guard([DROP]).stream(source, raise_on_stop=True)
    assert (next(stream), source.closed) == ("a ", 1)
    error = refused("guard.stopped", lambda: next(stream), GuardStopped)
    assert str(error) == "the guard stopped the stream"
    assert error.stopped == stream.stopped
    assert pickle.loads(pickle.dumps(error)).stopped == error.stopped
    assert list(stream) == []
    generator = (piece for piece in ("a", "DROP TABLE", "b"))
    assert list(Guard([DROP]).stream(generator)) == ["a"]
    assert list(generator) == []


def test_whoever_reads_on_behind_a_fault_is_told_that_it_is_not_all() -> None:
    """With ``raise_on_stop``: as where a caller waits for each piece for so long, and goes on after it."""
    stream = Guard([DROP]).stream(Source("a dro", OSError("gone"), "p"), raise_on_stop=True)
    assert next(stream) == "a "
    with pytest.raises(OSError, match="gone"):
        next(stream)
    for _ in range(2):
        assert refused("guard.stopped", lambda: next(stream), GuardStopped).stopped == stream.stopped
    # Whoever closes it knows.
    stream = Guard([DROP]).stream(Source("a ", "b "), raise_on_stop=True)
    for piece in stream:
        assert piece == "a "
        stream.close()

    async def slowly() -> AsyncIterator[str]:
        yield "a "
        await asyncio.sleep(60)

    async def run() -> None:
        waiting = Guard([DROP]).astream(slowly(), raise_on_stop=True)
        assert await anext(waiting) == "a "
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(waiting), 0.01)
        with pytest.raises(GuardStopped) as caught:
            [piece async for piece in waiting]
        assert caught.value.stopped == StopReason("failed", None, 2, None)
        left = Guard([DROP]).astream(slowly(), raise_on_stop=True)
        async for piece in left:
            assert piece == "a "
            await left.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("broken", [7, None, "\ud800", b"bytes", OSError("gone")], ids=repr)
def test_what_breaks_a_stream_stops_it(broken: object) -> None:
    """An unknown chunk, another kind and an exception of the source: what was held stays where it is."""
    source = Source("a dro", broken, "p in the ocean")
    stream = Guard([DROP]).stream(source)
    assert next(stream) == "a "
    if isinstance(broken, OSError):
        with pytest.raises(OSError, match="gone"):
            next(stream)
    else:
        error = refused("input.wrong_type", lambda: next(stream))
        # Not the chunk: errors are logged, and it was not read.
        assert error.details == {"field": "chunk", "value": type(broken).__name__}
    assert list(stream) == []
    assert stream.stopped == StopReason("failed", None, 2, None)
    assert source.closed == 1


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (["a", "\ud800"], "chunk must be valid Unicode, which a str with a surrogate that has no other half is not"),
        (["a", 7], "chunk must be a str, as before, not int"),
        (["a", b"b"], "chunk must be a str, as before, not bytes"),
        ([b"a", "b"], "chunk must be bytes, as before, not str"),
        ([b"a", "\ud800"], "chunk must be bytes, as before, not str"),
    ],
)
def test_a_message_says_what_is_wrong_with_a_chunk(chunks: list[Any], message: str) -> None:
    """Not that it must be a str and not a str."""
    assert str(refused("input.wrong_type", lambda: list(Guard([DROP]).stream(chunks)))) == message
    pushed: Any = 7
    said = str(refused("input.wrong_type", lambda: Guard([DROP]).cursor().push(pushed)))
    assert said == "chunk must be a str or bytes, not int"


def test_a_stream_that_is_left_early_releases_nothing_more() -> None:
    """Its source is closed."""
    source = Source("one ", "two ", "three")
    stream = Guard([DROP]).stream(source)
    assert next(stream) == "one "
    stream.close()
    assert (list(stream), source.closed, source.read) == ([], 1, 1)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, OSError])
def test_a_stream_that_did_not_come_to_its_end_says_so(kind: type[BaseException]) -> None:
    """Whatever broke it off: nothing that was held comes out, and it does not look like one that ended."""
    failed = StopReason("failed", None, 2, None)

    def interrupted() -> Iterator[str]:
        yield "a DRO"
        raise kind

    async def interrupted_there() -> AsyncIterator[str]:
        yield "a DRO"
        raise kind

    async def run() -> None:
        stream = Guard([DROP]).astream(interrupted_there())
        assert await anext(stream) == "a "
        with pytest.raises(kind):
            await anext(stream)
        assert (stream.stopped, stream.held) == (failed, 0)

    stream = Guard([DROP]).stream(interrupted())
    assert next(stream) == "a "
    with pytest.raises(kind):
        next(stream)
    assert (stream.stopped, stream.held, list(stream)) == (failed, 0, [])
    if kind in (GeneratorExit, OSError):
        # The others would end the loop itself.
        asyncio.run(run())


def test_what_stood_before_a_stop_has_come_out_of_a_redaction_under_way() -> None:
    """As docs/guard.md says: of the match that counts nothing leaves."""
    guard = Guard([Rule.regex("a[a-z ]*z", action="redact"), Rule.literal("bb", name="stop")])
    assert guard.check("q a xx bb z") == ("q a xx ", StopReason("matched", "stop", 7, 9), [])
    assert guard.check("q a xx b z")[0] == "q [redacted]"


def test_a_stream_that_another_is_in_is_refused() -> None:
    """Whoever is in it goes on; a fault of the source that says the same is the source's."""
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[str]:
        inside.set()
        assert go_on.wait(60)
        yield "a "

    stream = Guard([DROP]).stream(slow())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, stream)
        assert inside.wait(60)
        try:
            refused("guard.in_use", stream.close, dc.Conflict)
            refused("guard.in_use", lambda: next(stream), dc.Conflict)
        finally:
            go_on.set()
        assert first.result() == "a "
    stream.close()
    assert stream.stopped == StopReason("failed", None, 2, None)

    def busy() -> Iterator[str]:
        yield "a"
        raise ValueError("generator already executing")

    with pytest.raises(ValueError, match="already"):
        list(Guard([DROP]).stream(busy()))


def test_a_stream_that_another_task_is_in_is_refused() -> None:
    """Whoever wants to end it cancels that task."""

    async def run() -> None:
        async def slow() -> AsyncIterator[str]:
            yield "a "
            await asyncio.sleep(3600)

        stream = Guard([DROP]).astream(slow())
        assert await anext(stream) == "a "
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for again in (stream.aclose, stream.__anext__):
            with pytest.raises(dc.Conflict) as caught:
                await again()
            assert caught.value.code == "guard.in_use"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.stopped == StopReason("failed", None, 2, None)
        await stream.aclose()

    asyncio.run(run())


def test_a_stream_that_is_closed_before_its_end_says_so() -> None:
    """Also before its beginning; not where its source had ended, or a rule had stopped it."""

    async def run(pieces: tuple[str, ...], taken: int) -> StopReason | None:
        stream = Guard([DROP]).astream(Source(*pieces))
        for _ in range(taken):
            await anext(stream)
        await stream.aclose()
        return stream.stopped

    for pieces, taken, start in ((("a DRO", "P"), 0, 0), (("a DRO", "P"), 1, 2), (("a", "DRO"), 2, None)):
        stream = Guard([DROP]).stream(Source(*pieces))
        for _ in range(taken):
            next(stream)
        stream.close()
        stream.close()
        expected = None if start is None else StopReason("failed", None, start, None)
        assert stream.stopped == asyncio.run(run(pieces, taken)) == expected
    stream = Guard([DROP]).stream(["a DROP TABLE"])
    next(stream)
    stream.close()
    assert stream.stopped is not None
    assert stream.stopped.kind == "matched"


def test_streams_for_asyncio() -> None:
    """The same pieces, stops and closings."""

    async def collected(stream: AsyncIterator[Any]) -> list[Any]:
        return [piece async for piece in stream]

    async def run() -> None:
        guard = Guard([DROP, SSN])
        source = Source("SSN 078-05", "-1120. DROP", " TABLE", " never read")
        stream = guard.astream(source)
        assert await collected(stream) == ["SSN ", "[redacted]. "]
        assert stream.stopped is not None
        assert (stream.stopped.rule, source.read, source.closed) == ("drop", 3, 1)
        raising = guard.astream(Source("x DROP TABLE"), raise_on_stop=True)
        assert await anext(raising) == "x "
        with pytest.raises(GuardStopped):
            await anext(raising)
        broken = guard.astream(Source("a dro", OSError("gone")))
        assert await anext(broken) == "a "
        with pytest.raises(OSError, match="gone"):
            await anext(broken)
        assert broken.stopped == StopReason("failed", None, 2, None)
        left = Source("one ", "two ")
        early = guard.astream(left)
        assert await anext(early) == "one "
        await early.aclose()
        assert (await collected(early), left.closed) == ([], 1)

    asyncio.run(run())


def test_a_stream_holds_no_more_than_it_may() -> None:
    """It is stopped instead, and nothing of what was held comes out."""
    guard = Guard([Rule.regex('"[^"]*"', action="redact")], max_hold=16)
    stream = guard.stream(['say "', "0123456789", "0123456789", '"'])
    assert (list(stream), stream.stopped) == (["say "], StopReason("held_too_much", None, 4, None))
    assert guard.check('say "0123456789"!')[0] == "say [redacted]!"
    # However the text is cut.
    assert guard.check('say "01234567890123456789"!')[0] == "say "
    texts = Guard([Rule.literal("abcdefgh")], max_hold=4)
    for pieces in (["x abcde", "!"], ["x ab", "cde!"], list("x abcde!")):
        stream = texts.stream(pieces)
        assert "".join(stream) == "x "
        assert stream.stopped == StopReason("held_too_much", None, 2, None)
    for action, released in (("stop", 0), ("redact", 0), ("record", 1_025)):
        many = Guard([Rule.regex("a[^b]{1100}b", action=action)])
        stream = many.stream(["a" * 1_050])
        assert len("".join(stream)) <= released
        assert stream.stopped is not None
        assert stream.stopped.kind == "too_many_attempts", action


def test_a_line_begins_behind_each_end_of_one() -> None:
    """Where the pattern says that a carriage return ends one, too, however it is cut."""
    for pattern, ends in ((r"(?m)^b", ("\n",)), (r"(?mR)^b", ("\n", "\r", "\r\n"))):
        guard = Guard([Rule.regex(pattern)])
        for end in ("\n", "\r", "\r\n", " ", "a"):
            expected = "a" + end if end in ends or end == "\r\n" else "a" + end + "b"
            text = f"a{end}b"
            assert {"".join(guard.stream([text[:cut], text[cut:]])) for cut in range(len(text))} == {expected}, (
                pattern,
                end,
            )


def test_what_a_generation_holds_of_a_script_is_no_more_than_may_match() -> None:
    """Of a code point that has begun nothing waits where none that begins so is invisible."""
    cursor = Guard([Rule.literal("drop")]).cursor()
    for point in ("अ", "ก", "é", "語"):
        for byte in point.encode():
            assert cursor.push(bytes([byte])) == bytes([byte]), point


@pytest.mark.parametrize("reads", ["visible", "folded", "exact"])
def test_white_space_is_seen(reads: Any) -> None:
    """All that the syntax has it for: a form feed is one to what reads SQL, and no rule of words is blind to it."""
    for space in " \t\n\v\f\r":
        for text in (f"so DROP{space}TABLE", f"so DROP{space}\v{space}TABLE x"):
            guard = Guard([Rule.regex(r"DROP\s+TABLE", name="drop", reads=reads)])
            for pieces in ([text], list(text)):
                assert "".join(guard.stream(pieces)) == "so ", repr(space)
            document = json.dumps({"sql": text})
            assert guard.check(document, json=True)[1] is not None
    assert Guard([Rule.literal("DROP\fTABLE", reads=reads)]).check("DROP\fTABLE")[0] == ""


def test_rules_are_values() -> None:
    """Frozen, compared, hashed, pickled, copied, matched and shown."""
    card = Rule.regex(r"\d{13,19}", check="luhn", reads="folded")
    exact = Rule.literal("a\u200bb", reads="exact")
    for rule in (SSN, DROP, NOTE, card, exact, Rule.regex("a", action="ignore")):
        for other in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule), eval(repr(rule), {"Rule": Rule})):
            assert (other, hash(other)) == (rule, hash(rule))
    assert Rule.regex(SSN.pattern, name="ssn") != SSN
    assert Rule.regex(card.pattern, reads="folded") != card != Rule.regex(card.pattern, check="luhn")
    assert [(rule.reads, rule.check) for rule in (SSN, card, exact)] == [
        ("visible", None),
        ("folded", "luhn"),
        ("exact", None),
    ]
    match DROP:
        case Rule(name, action, pattern):
            assert (name, action, pattern) == ("drop", "stop", "DROP TABLE")
    assert (DROP.kind, DROP.ignore_case, SSN.kind, SSN.replacement) == ("literal", True, "regex", "[redacted]")
    found, reason = Match("ssn", "redact", 1, 2), StopReason("matched", "drop", 3, 4)
    for value in (found, reason, StopReason("failed", None, 0, None)):
        assert pickle.loads(pickle.dumps(value)) == copy.copy(value) == value
        assert hash(copy.deepcopy(value)) == hash(value)
    assert "drop" in repr(reason)
    with pytest.raises(AttributeError):
        SSN.name = "x"  # type: ignore[misc]
    refused("input.wrong_type", lambda: StopReason("tired", None, 0, None))


@pytest.mark.parametrize(
    ("rules", "code", "says"),
    [
        ([Rule.regex("(?=a)b", name="r")], "guard.unsupported", "look-around at byte 0"),
        ([Rule.regex("(?<!a)b", name="r")], "guard.unsupported", "look-around at byte 0"),
        ([Rule.regex(r"(a)\1", name="r")], "guard.unsupported", "a back-reference at byte 3"),
        ([Rule.regex("a(", name="r")], "guard.syntax", "unclosed group, at byte 1"),
        ([Rule.regex("a*", name="r")], "guard.empty", "empty text"),
        ([Rule.literal("", name="r")], "guard.empty", "empty text"),
        ([Rule.regex("[a&&b]", name="r")], "guard.empty", "never match"),
        ([Rule.regex("")], "guard.empty", "its pattern is empty"),
        ([Rule.literal("")], "guard.empty", "its pattern is empty"),
        ([Rule.literal("a", name="")], "guard.name", "needs a name"),
        ([Rule.literal("a", name="r"), Rule.literal("b", name="r")], "guard.name", "two rules have this name"),
        ([Rule.literal("a" * 16_385, name="r")], "guard.too_large", "longer than 16384"),
        ([Rule.regex("(a|b)*a(a|b){24}", name="r")], "guard.too_large", "multiply states"),
        ([Rule.literal("a\u200b", name="r")], "guard.empty", "U+200B, which is invisible to it unless"),
        ([Rule.regex(r"\x1b\[[0-9]+m", name="r")], "guard.empty", "U+001B, which is invisible to it unless"),
        ([Rule.regex("\u0440\u0430+", name="r", reads="folded")], "guard.empty", 'U+0440, which it sees as "p"'),
    ],
)
def test_rules_that_cannot_be_used_are_refused_by_name(rules: list[Rule], code: str, says: str) -> None:
    """With the construct and its place."""
    error = refused(code, lambda: Guard(rules))
    assert says in str(error)
    assert error.rule == rules[-1].name
    place = re.search(r"at byte (\d+)", says)
    assert error.offset == (None if place is None else int(place[1]))
    # A rule that is switched off is read all the same.
    if code == "guard.unsupported":
        refused(code, lambda: Guard([Rule.regex(rules[0].pattern, action="ignore", name="r")]))


def test_why_a_rule_cannot_be_used_is_told_however_long_its_pattern_is() -> None:
    """A rule without a name is called by its pattern: its beginning is told, the whole is a detail."""
    for fault, code, why in (("(", "guard.syntax", "unclosed group, at byte 8000"), ("|", "guard.empty", "empty text")):
        pattern = "é" * 4_000 + fault
        error = refused(code, lambda pattern=pattern: Guard([Rule.regex(pattern)]))  # type: ignore[misc]
        assert str(error).startswith(f'rule "{"é" * 80}"…: ')
        assert why in str(error)
        assert error.rule == pattern
    assert str(refused("guard.syntax", lambda: Guard([Rule.regex("a" * 79 + "(")]))).startswith(f'rule "{"a" * 79}(": ')


def test_arguments_that_cannot_be() -> None:
    """Typed errors, with the field."""
    refused("guard.unknown_action", lambda: Rule.literal("a", action="log"))
    assert "visible, exact, folded" in str(refused("guard.unknown_reading", lambda: Rule.literal("a", reads="raw")))
    assert "luhn, iban" in str(refused("guard.unknown_check", lambda: Rule.regex("a", check="crc")))
    assert refused("input.wrong_type", lambda: Rule.regex("a", reads=1)).field == "reads"  # type: ignore[arg-type]
    assert refused("input.wrong_type", lambda: Rule.regex("a", check=1)).field == "check"  # type: ignore[arg-type]
    assert refused("input.wrong_type", lambda: Rule.literal(b"a")).field == "text"  # type: ignore[arg-type]
    assert refused("input.wrong_type", lambda: Rule.regex("a", name=1)).field == "name"  # type: ignore[arg-type]
    assert refused("input.wrong_type", lambda: Rule.literal("a", ignore_case=1)).field == "ignore_case"  # type: ignore[arg-type]
    data = Guard([DROP]).to_bytes()
    for code, value in (("input.out_of_range", -1), ("input.not_an_integer", "x"), ("input.not_an_integer", 1.5)):
        most: Any = value
        assert refused(code, lambda most=most: Guard([DROP], max_hold=most)).field == "max_hold"  # type: ignore[misc]
        assert refused(code, lambda most=most: Guard.from_bytes(data, max_hold=most)).field == "max_hold"  # type: ignore[misc]
    assert Guard([]).check("anything") == ("anything", None, [])
    assert Guard([Rule.literal("a", action="ignore")]).check("a") == ("a", None, [])


def test_an_automaton_has_as_many_rules_as_the_document_says() -> None:
    """docs/limits.md: the number that is accepted, and one more is refused."""
    table = (Path(__file__).parent.parent / "docs" / "limits.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"([\d,]+) rules are accepted", table)
    most = int(written.replace(",", ""))
    rules = [Rule.literal("a", action="ignore", name=str(number)) for number in range(most + 1)]
    assert len(Guard(rules[:-1]).rules) == most
    assert str(refused("guard.too_large", lambda: Guard(rules))) == f"{most + 1} rules are more than {most}"


class Named(Guard):
    """A guard of one's own."""


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda guard: pickle.loads(pickle.dumps(guard))])
def test_a_guard_is_pickled_with_its_rules_and_how_much_it_holds(again: Callable[[Guard], Guard]) -> None:
    """So that a worker of another process can have it."""
    for kind in (Guard, Named):
        guard = kind(
            [DROP, SSN, NOTE, Rule.regex(r"\b\d{13}\b", check="luhn", reads="folded", severity="low")], max_hold=4
        )
        there = again(guard)
        assert type(there) is kind
        assert (there.rules, there.digest()) == (guard.rules, guard.digest())
        assert there == guard
        assert hash(there) == hash(guard)
        assert there.check("a drop t")[1] == guard.check("a drop t")[1] == StopReason("held_too_much", None, 2, None)


def test_guards_are_equal_with_the_same_rules_and_hold() -> None:
    """In the same order and of the same class; whatever a rule does differently makes another guard."""
    rule = Rule.regex(r"\d{4}", name="four", action="redact")
    guard = Guard([rule, DROP])
    others = [
        Guard([DROP, rule]),
        Guard([rule]),
        Guard([rule, DROP], max_hold=4),
        Named([rule, DROP]),
        *(
            Guard([Rule.regex(r"\d{4}", **({"name": "four", "action": "redact"} | change)), DROP])
            for change in (
                {"name": "five"},
                {"action": "stop"},
                {"replacement": "-"},
                {"severity": "low"},
                {"reads": "exact"},
                {"check": "luhn"},
            )
        ),
    ]
    assert len({guard, Guard(iter([rule, DROP])), Guard.from_bytes(guard.to_bytes()), *others}) == 1 + len(others)
    assert guard == Guard([rule, DROP])
    assert guard not in others
    assert guard != guard.digest()


def test_rules_in_a_file(tmp_path: Path) -> None:
    """Every field; and each fault names the file and the rule."""
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rules]]\nname = "key"\nregex = \'\\bAKIA[A-Z0-9]{4}\\b\'\naction = "redact"\nreplacement = "(key)"\n'
        '[[rules]]\nliteral = "Secret"\nignore_case = true\nreads = "folded"\n'
        '[[rules]]\nregex = \'\\b\\d{13,19}\\b\'\ncheck = "luhn"\naction = "redact"\n',
        encoding="utf-8",
    )
    guard = Guard.load(file)
    assert guard.check("AKIA1234, no seCRET")[0] == guard.check("AKIA1234, no \u0455e\uff23RET")[0] == "(key), no "
    assert guard.check("4111111111111111 4111111111111112")[0] == "[redacted] 4111111111111112"
    for text, says in (
        ("rules = 3", "[[rules]]"),
        ("[[rules]]\nliteral = 'a'\n[other]", "nothing else"),
        ("[[rules]]\nname = 'a'", "either literal or regex"),
        ("[[rules]]\nliteral = 'a'\nregex = 'b'", "either literal or regex"),
        ("[[rules]]\nliteral = 'a'\nactoin = 'stop'", "did you mean action"),
        ("[[rules]]\nregex = 'a'\nignore_case = true", "(?i)"),
        ("[[rules]]\nliteral = '1'\ncheck = 'luhn'", "check is for regexes"),
        ("[[rules]]\nliteral = 'a'\naction = 'log'", "rule 1: action is"),
        ("[[rules]]\nliteral = 'a'\nreads = 'raw'", "rule 1: reads is"),
        ("[[rules]]\nliteral = 3", "rule 1: literal must be a str, not int"),
        ("[[rules]]\nliteral = 'a'\nname = 'card'\nseverity = 3", 'rule 1 "card": severity must be'),
        ('[[rules]]\nname = "two\\nlines"', "rule 1: it must have"),
        ("[[rules]]\nname = ''", "rule 1: it must have"),
        (f"[[rules]]\nname = '{'a' * 60}'", f'rule 1 "{"a" * 60}": it must have'),
        (f"[[rules]]\nname = '{'a' * 61}'", "rule 1: it must have"),
        ("[[rules]]\nliteral = 'a'\nreplacement = '***'", 'rule 1: replacement is for action = "redact"'),
        ("rules = []", "has no rules"),
        ("[[rules]]\nregex = ['a']", "rule 1: regex must be a str, not list"),
        ("[[rules", "no TOML"),
        ("rules = ['a']", "must be a table"),
    ):
        file.write_text(text, encoding="utf-8")
        error = refused("guard.unreadable", lambda: Guard.load(file))
        assert says in str(error)
        assert str(file) in str(error)
    refused("guard.unreadable", lambda: Guard.load(tmp_path / "nothing.toml"))
    refused("guard.unreadable", lambda: Guard.load("a\0b"))
    file.write_bytes(b"#" * (files.MOST_FILE_BYTES + 1))
    assert str(file) in refused("guard.too_large", lambda: Guard.load(file)).message
    file.write_bytes(b"#" * (files.MOST_FILE_BYTES - 30) + b"\n[[rules]]\nliteral = 'abc'")
    assert [rule.name for rule in Guard.load(file).rules] == ["abc"]
    refused("input.wrong_type", lambda: Guard.load(5))  # type: ignore[arg-type]
    file.write_text("[[rules]]\nregex = '(?=a)'", encoding="utf-8")
    error = refused("guard.unsupported", lambda: Guard.load(file))
    assert str(error) == f'{file}: rule "(?=a)": look-around at byte 0 is not supported'
    assert (error.path, error.rule) == (str(file), "(?=a)")
    most: Any = "x"
    file.write_text("[[rules]]\nliteral = 'a'", encoding="utf-8")
    assert "path" not in refused("input.not_an_integer", lambda: Guard.load(file, max_hold=most)).details


def test_the_patterns_of_a_file_are_counted_in_bytes(tmp_path: Path) -> None:
    """With what is defined in its place: of letters beyond ASCII there are fewer than bytes."""
    file = tmp_path / "rules.toml"
    define = "\u00e9" * 4_000
    octets = len(define.encode())
    # The definition itself counts, and in its place the group that it is.
    fit = (files.MOST_FILE_BYTES - octets) // (octets + len("(?:)"))
    for rules in (fit, fit + 1):
        file.write_text(f"[define]\nd = '{define}'\n" + "[[rules]]\nregex = '(?&d)'\n" * rules, encoding="utf-8")
        if rules == fit:
            assert len(files.read_rules(file)) == fit
            continue
        error = refused("guard.unreadable", partial(files.read_rules, file))
        assert f", rule {rules}: the patterns of a file take at most {files.MOST_FILE_BYTES} bytes" in error.message


@settings(max_examples=300)
@given(
    text=st.text('ab1\\"/\n-é😀', max_size=30), ascii_only=st.booleans(), cuts=st.lists(st.integers(1, 7), min_size=1)
)
def test_a_document_in_json_is_matched_as_its_strings(text: str, ascii_only: bool, cuts: list[int]) -> None:
    """What comes out is the document of what would come out of its text."""
    rules = [Rule.regex("[ab\\\\]+1", action="redact", replacement='"\n#"'), Rule.literal("é", action="record")]
    cursor = Guard(rules).cursor(json=True)
    document = json.dumps({"text": text}, ensure_ascii=ascii_only)
    out = "".join(cursor.push(piece) for piece in _cut(document, cuts)) + cursor.finish()
    assert json.loads(out) == {"text": Guard(rules).check(text)[0]}
    assert cursor.stopped is None
    # Where a rule stops, so it does in the document.
    stops = Guard([Rule.literal("b1"), Rule.literal("\n-"), Rule.literal("😀é")])
    cursor = stops.cursor(json=True)
    out = "".join(cursor.push(piece) for piece in _cut(document, cuts)) + cursor.finish()
    released, stopped, _ = stops.check(text)
    assert (cursor.stopped is None) == (stopped is None)
    if stopped is not None:
        assert cursor.stopped is not None
        assert cursor.stopped.rule == stopped.rule
        assert json.loads(out + '"}') == {"text": released}


def test_a_redaction_that_would_break_a_document_stops_it() -> None:
    """A number, and what crosses a quote; bytes as well as text."""
    guard = Guard([Rule.regex(r"\d{4}", action="redact", name="digits")])
    for document, out in (
        (b'{"a": "1234", "b": 1234}', b'{"a": "[redacted]", "b": '),
        (b'"\\u0031234"', b'"[redacted]"'),
    ):
        cursor = guard.cursor(json=True)
        assert cursor.push(document[:7]) + cursor.push(document[7:]) + cursor.finish() == out
        assert (cursor.stopped is None) == out.endswith(b'"')
    cursor = guard.cursor(json=True)
    assert (cursor.push('["\\ud83d'), cursor.held) == ('["', 6)
    assert (cursor.push("\\ude00"), cursor.held) == ("\\ud83d\\ude00", 0)
    refused("input.wrong_type", lambda: guard.cursor(json=1))  # type: ignore[arg-type]


def test_threads_share_a_guard_and_not_a_stream() -> None:
    """Each has its own stream; whoever pushes to one that is being pushed to is told."""
    guard = Guard([DROP, SSN])
    pieces = [TEXT[place : place + 3] for place in range(0, len(TEXT), 3)]
    with ThreadPoolExecutor(8) as pool:
        for released in pool.map(lambda _: "".join(guard.stream(pieces)), range(64)):
            assert released == RELEASED
    cursor, large = guard.cursor(), "x" * 3_000_000
    told: list[str] = []

    def push() -> None:
        try:
            cursor.push(large)
        except dc.Conflict as error:
            codes.note(error.code)
            told.append(error.code)

    for _ in range(50):
        threads = [threading.Thread(target=push) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if told:
            break
    assert set(told) == {"guard.in_use"}


def test_what_is_more_than_text_comes_out_as_text() -> None:
    class Loud(str):
        def __str__(self) -> str:
            return "DROP TABLE"

    released = Guard([DROP]).cursor().push(Loud("quiet"))
    assert (released, type(released)) == ("quiet", str)


TEXTS = st.text("abe 1the2üéZ_-\n", max_size=24)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stop", "redact", "record"]),
            st.sampled_from(plain.PATTERNS) | st.text("abe 1ü", min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    TEXTS,
)
@settings(deadline=None, max_examples=500)
def test_what_comes_out_is_what_a_plain_search_lets_out(drawn: list[tuple[str, Any]], text: str) -> None:
    """The search by which `make test-transformers` judges."""
    sought = [
        plain.Sought(str(number), action, re.escape(what), literal=what)
        if isinstance(what, str)
        else plain.Sought(str(number), action, *what)
        for number, (action, what) in enumerate(drawn)
    ]
    came, stopped, _ = Guard([each.rule for each in sought]).check(text)
    expected, reason = plain.released(sought, text)
    assert came == expected
    found = None if stopped is None else (stopped.rule, stopped.start, stopped.end)
    octets = None if reason is None else (reason[0], *(len(text[:place].encode()) for place in reason[1:]))
    assert found == octets
