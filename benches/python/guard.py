"""Tokens of four bytes under the guard's rules, from Python, beside pyahocorasick, hyperscan and LiteLLM if installed.

python benches/python/guard.py [--rounds 31] [part of a label ...]
make bench-guard-peers installs them into an environment of their own, and runs this there.

pyahocorasick and hyperscan only look; ours also gives back what may leave, as LiteLLM's content filter does. Each side
has the quickest loop that it can have. hyperscan takes bytes, so that its tokens of text are encoded; tokens of bytes
are measured as well, but not for pyahocorasick, which takes text. Every round runs each side once, in rotating order.
A line tells the median of each side's rounds, in nanoseconds a token (a byte, where chunks are long), and how many
times as long as the last side, which is ours, each of the others takes.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from lines import compared, line, wanted

from decidable import Guard, Rule
from decidable.guard import Token, from_litellm_patterns, rule_set

try:
    import ahocorasick
except ImportError:
    ahocorasick = None
try:
    import hyperscan
except ImportError:
    hyperscan = None
try:
    from openai.types.chat import ChatCompletionChunk
except ImportError:
    ChatCompletionChunk = None
# It would look for prices on the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
try:
    from litellm.proxy.guardrails.guardrail_hooks.litellm_content_filter import content_filter
except ImportError:
    content_filter = None

OPEN = ExitStack()
SETS = ("cards", "email", "iban", "secrets", "shell", "sql", "ssn")
SYLLABLES = ("an", "ber", "co", "da", "en", "fi", "ga", "ho", "in", "ja", "ke", "lo")
SYLLABLES += ("men", "no", "or", "pa", "re", "sa", "ti", "un", "ver", "wa", "yo", "za")
REPLY = "The quick brown fox jumps over the lazy dog, and so on. " * 18
REGEXES = [rf"\b[a-z]{{{n % 5 + 2}}}-\d{{{n % 4 + 3}}}x{n}\b" for n in range(50)]

# Works through tokens.
Side = Callable[[Sequence[Any]], object]


def words(chosen: random.Random, count: int) -> list[str]:
    """Texts that end in a letter which the stream does not have."""
    found: set[str] = set()
    while len(found) < count:
        found.add("".join(chosen.choices(SYLLABLES, k=chosen.randint(2, 5))) + "x")
    return sorted(found)


def each(function: Callable[[Any], object]) -> Side:
    return lambda tokens: deque(map(function, tokens), maxlen=0)


def sides(texts: list[str], regexes: list[str], *, of_bytes: bool = False) -> dict[str, Side]:
    found: dict[str, Side] = {}
    if ahocorasick is not None and not regexes and not of_bytes:
        automaton = ahocorasick.Automaton()
        for text in texts:
            automaton.add_word(text, text)
        automaton.make_automaton()
        iterator: Any = automaton.iter("")
        go_on = iterator.set

        def look(tokens: Sequence[str]) -> None:
            for token in tokens:
                go_on(token)
                for _ in iterator:
                    pass

        found["pyahocorasick"] = look
    if hyperscan is not None:
        scan = opened(texts, regexes)
        found["hyperscan"] = each(scan) if of_bytes else lambda tokens: each(scan)(map(str.encode, tokens))
    found["ours"] = each(guarded(texts, regexes).cursor().push)
    return found


def guarded(texts: list[str], regexes: list[str]) -> Guard:
    return Guard([*map(Rule.literal, texts), *map(Rule.regex, regexes)])


def opened(texts: list[str], regexes: list[str]) -> Callable[[Any], object]:
    """A stream of hyperscan's, which takes bytes. It has to be entered, or a scan says ``error code -1``."""
    database = hyperscan.Database(mode=hyperscan.HS_MODE_STREAM)
    expressions = [text.encode() for text in texts + regexes]
    count = len(expressions)
    database.compile(expressions=expressions, ids=list(range(count)), elements=count, flags=[0] * count)

    def matched(*_: object) -> None:
        raise AssertionError("the stream has none of the texts")

    stream = OPEN.enter_context(database.stream(match_event_handler=matched))
    # The stream does not keep its database.
    OPEN.callback(lambda: database)
    scan: Callable[[Any], object] = stream.scan
    return scan


def measured(side: Side, tokens: Sequence[object]) -> float:
    begun = time.perf_counter_ns()
    side(tokens)
    return (time.perf_counter_ns() - begun) / len(tokens)


def rounds_of(sides: dict[str, Side], tokens: Sequence[object], rounds: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(measured(sides[name], tokens))
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only lines whose label has one of these in it")
    parser.add_argument("--rounds", type=int, default=31, help="how often each side runs (31)")
    asked = parser.parse_args()
    rounds = asked.rounds
    chosen = random.Random(7)
    text = " ".join("".join(chosen.choices(SYLLABLES, k=chosen.randint(1, 4))) for _ in range(20_000))
    tokens = [text[place : place + 4] for place in range(0, len(text), 4)]
    few, many, others = words(chosen, 12), words(chosen, 1_000), words(chosen, 1_000)

    def beside(label: str, texts: list[str], regexes: list[str]) -> None:
        print(compared(label, rounds_of(sides(texts, regexes), tokens, rounds)), flush=True)

    def beside_of_bytes(label: str, texts: list[str], regexes: list[str]) -> None:
        data = [token.encode() for token in tokens]
        print(compared(label, rounds_of(sides(texts, regexes, of_bytes=True), data, rounds)), flush=True)

    for label, measure in (
        # First, while little memory was used and given back.
        ("1,000 texts and 50 regexes, compiled", lambda label: compiled(label, others, REGEXES, rounds)),
        # What a call costs that finds nothing: no rules make it cheaper.
        ("a text that never begins, a token", lambda label: beside(label, ["@@@@"], [])),
        ("12 texts, a token", lambda label: beside(label, few, [])),
        ("1,000 texts, a token", lambda label: beside(label, many, [])),
        ("1,000 texts and 50 regexes, a token", lambda label: beside(label, others, REGEXES)),
        ("12 texts, a token of bytes", lambda label: beside_of_bytes(label, few, [])),
        ("1,000 texts, a token of bytes", lambda label: beside_of_bytes(label, many, [])),
        ("1,000 texts and 50 regexes, a token of bytes", lambda label: beside_of_bytes(label, others, REGEXES)),
        ("12 texts, an event a token", lambda label: monitored(label, guarded(few, []), tokens, rounds)),
        ("12 texts, a chunk of chat", lambda label: streamed(label, guarded(few, []), tokens, rounds)),
        ("12 words of the documents, a byte", lambda label: large(label, 12, rounds)),
        ("1,000 words of the documents, a byte", lambda label: large(label, 1_000, rounds)),
        ("LiteLLM's 56 patterns, 1,008 bytes, a token", lambda label: beside_litellm(label, rounds)),
        ("901 matches under way, a byte of each", lambda label: under_way(label, rounds)),
        ("200 rules with a check, a byte", lambda label: checked(label, text, rounds)),
        *((f"the set {name}, a byte", partial(of_sets, [name], rounds)) for name in SETS),
        ("all sets, a byte", partial(of_sets, SETS, rounds)),
    ):
        if wanted(label, asked.names):
            measure(label)


def compiled(label: str, texts: list[str], regexes: list[str], rounds: int) -> None:
    """How long it takes, what the tables take, and by how much the process grew meanwhile at most."""
    taken, grown = [], []
    for _ in range(max(3, rounds // 6)):
        before = peak(forget=True)
        begun = time.perf_counter()
        guard = guarded(texts, regexes)
        taken.append(time.perf_counter() - begun)
        after = peak()
        size = guard.size[1]
        del guard
        if before is not None and after is not None:
            grown.append(after - before)
    figures = [("seconds", median(taken), "s"), ("tables", size / 1e6, "MB")]
    print(line(label, [*figures, *([("growth", max(grown) / 1e6, "MB")] if grown else [])]), flush=True)


def peak(*, forget: bool = False) -> int | None:
    """The most bytes that the process had in memory, since it was told to forget: on Linux alone."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    if forget:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    found = dict(each.split(":", 1) for each in status.read_text(encoding="ascii").splitlines())
    return int(found["VmHWM"].split()[0]) * 1_024


def large(label: str, count: int, rounds: int) -> None:
    """Chunks of 64 kB of the project's documents, under words of them whose last letter was changed, per byte."""
    documents = sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))
    text = "".join(document.read_text(encoding="utf-8") for document in documents).encode("ascii", "ignore").decode()
    chosen = random.Random(7)
    found: set[str] = set()
    written = sorted({word for word in text.split() if 4 <= len(word) <= 24 and word.isalnum()})
    while len(found) < count:
        changed = chosen.choice(written)[:-1] + chosen.choice("abcdefghijklmnopqrstuvwxyz")
        if changed not in text + text[:100]:
            found.add(changed)
    chunks = [text[place : place + 65_536].encode() for place in range(0, len(text) - 65_536, 65_536)]
    samples = rounds_of(sides(sorted(found), [], of_bytes=True), chunks, rounds)
    print(compared(label, {name: [sample / 65_536 for sample in found] for name, found in samples.items()}), flush=True)


def under_way(label: str, rounds: int) -> None:
    """A text in which a match begins at each byte and none comes to its end: what a byte costs, for each of them."""
    cursor = Guard([Rule.regex("a[ab]{900}c")]).cursor()
    cursor.push("a" * 1_000)
    count = len(cursor.pressure())
    assert f"{count} matches" in label, f"{count} are under way, and the label says another"
    pieces = ["a" * 256] * 4
    samples = rounds_of({"ours": each(cursor.push)}, pieces, rounds)
    print(
        compared(label, {name: [taken / 256 / count for taken in found] for name, found in samples.items()}), flush=True
    )


def checked(label: str, text: str, rounds: int) -> None:
    """Rules that cannot share a table, in a text that has the beginnings of some and no match."""
    rules = [Rule.regex(rf"\b[a-z]{{{n % 5 + 2}}}{n}-\d{{12,19}}\b", check="luhn") for n in range(200)]
    assert f"{len(rules)} rules" in label
    pieces = [text[place : place + 4_096] for place in range(0, 16_384, 4_096)]
    samples = rounds_of({"ours": each(Guard(rules).cursor().push)}, pieces, rounds)
    print(compared(label, {name: [taken / 4_096 for taken in found] for name, found in samples.items()}), flush=True)


def of_sets(names: Sequence[str], rounds: int, label: str) -> None:
    """Shipped sets, all of which redact, in chunks of 4,096 characters of the project's documents."""
    documents = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    # The head of a key would be held until its end.
    text = "".join(document.read_text(encoding="utf-8") for document in documents).replace("-----BEGIN", "")[:131_072]
    pieces = [text[place : place + 4_096] for place in range(0, len(text), 4_096)]
    cursor = Guard(rule_set(*names, action="redact")).cursor()

    def pushed(piece: str) -> None:
        cursor.push(piece)
        cursor.matches()

    samples = rounds_of({"ours": each(pushed)}, pieces, max(3, rounds // 4))
    assert cursor.stopped is None
    print(compared(label, {name: [taken / 4_096 for taken in found] for name, found in samples.items()}), flush=True)


def beside_litellm(label: str, rounds: int) -> None:
    """Both with LiteLLM's patterns that the guard takes. At each chunk LiteLLM reads all of the reply that came."""
    if content_filter is None:
        return
    imported = from_litellm_patterns()
    names = [rule.name for rule in imported.rules]
    size = f"{len(names)} patterns, {len(REPLY):,} bytes"
    assert size in label, f"it is measured over {size}, and the label says another"
    patterns = [
        content_filter.ContentFilterPattern(pattern_type="prebuilt", pattern_name=name, action="BLOCK")
        for name in names
    ]
    theirs = content_filter.ContentFilterGuardrail(guardrail_name="bench", patterns=patterns)
    guard = Guard(imported.rules)
    tokens = [REPLY[place : place + 4] for place in range(0, len(REPLY), 4)]
    seen: list[str] = []
    cursors = [guard.cursor()]

    def filtered(token: str) -> None:
        seen.append(token)
        theirs._filter_single_text("".join(seen), detections=[])
        if len(seen) == len(tokens):
            seen.clear()

    def pushed(token: str) -> None:
        cursors[0].push(token)

    both = {"litellm": each(filtered), "ours": each(pushed)}
    print(compared(label, rounds_of(both, tokens, max(3, rounds // 10))), flush=True)


def monitored(label: str, guard: Guard, tokens: list[str], rounds: int) -> None:
    """A token as an event, without an audit and with one: making the event, and what its clock says, are counted."""
    data = [token.encode() for token in tokens]
    with tempfile.TemporaryDirectory() as folder:
        monitors = {"monitor": guard.monitor(), "audited": guard.monitor(audit=Path(folder) / "bench.audit")}
        events = {name: each(lambda token, of=of: of.intervene(Token(7, token))) for name, of in monitors.items()}
        samples = rounds_of(events, data, rounds)
    print(compared(label, samples), flush=True)


def streamed(label: str, guard: Guard, tokens: list[str], rounds: int) -> None:
    """A token in a chunk of chat, through a stream: as an event, as an object of OpenAI's if installed, as a dict."""
    about = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "f"}
    end = {"logprobs": None, "finish_reason": None}
    chunks = [about | {"choices": [{"index": 0, "delta": {"content": token}, **end}]} for token in tokens[:2_000]]

    def through(given: list[Any], **options: Any) -> Side:
        return lambda _: deque(guard.stream(given, **options), maxlen=0)

    sides = {"event": through([f"data: {json.dumps(chunk)}\n\n" for chunk in chunks], sse=True)}
    if ChatCompletionChunk is not None:
        sides["object"] = through([ChatCompletionChunk.model_validate(chunk) for chunk in chunks])
    sides["dict"] = through(chunks)
    print(compared(label, rounds_of(sides, chunks, max(3, rounds // 4))), flush=True)


if __name__ == "__main__":
    main()
