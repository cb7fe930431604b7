"""Tokens of four bytes under the guard's rules, from Python, beside pyahocorasick, hyperscan and LiteLLM if installed.

python benches/python/guard.py [--rounds 31]
make bench-guard-peers installs them into an environment of their own, and runs this there.

pyahocorasick and hyperscan only look; ours also gives back what may leave, as LiteLLM's content filter does. Every
round runs each side once, in rotating order. Told is the median of each side's rounds, the best of them, in
nanoseconds a token, and the median of the rounds' ratios to the last side, which is ours.
"""

import argparse
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from decidable import Guard, Rule
from decidable.guard import Token, from_litellm_patterns

try:
    import ahocorasick
except ImportError:
    ahocorasick = None
try:
    import hyperscan
except ImportError:
    hyperscan = None
# It would look for prices on the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
try:
    from litellm.proxy.guardrails.guardrail_hooks.litellm_content_filter import content_filter
except ImportError:
    content_filter = None

OPEN = ExitStack()
SYLLABLES = ("an", "ber", "co", "da", "en", "fi", "ga", "ho", "in", "ja", "ke", "lo")
SYLLABLES += ("men", "no", "or", "pa", "re", "sa", "ti", "un", "ver", "wa", "yo", "za")
REGEXES = [rf"\b[a-z]{{{n % 5 + 2}}}-\d{{{n % 4 + 3}}}x{n}\b" for n in range(50)]

Push = Callable[[Any], object]


def words(chosen: random.Random, count: int) -> list[str]:
    """Texts that end in a letter which the stream does not have."""
    found: set[str] = set()
    while len(found) < count:
        found.add("".join(chosen.choices(SYLLABLES, k=chosen.randint(2, 5))) + "x")
    return sorted(found)


def sides(texts: list[str], regexes: list[str]) -> dict[str, Push]:
    found: dict[str, Push] = {}
    if ahocorasick is not None and not regexes:
        automaton = ahocorasick.Automaton()
        for text in texts:
            automaton.add_word(text, text)
        automaton.make_automaton()
        iterator: Any = automaton.iter("")

        def look(token: str) -> None:
            iterator.set(token)
            for _ in iterator:
                pass

        found["pyahocorasick"] = look
    if hyperscan is not None:
        found["hyperscan"] = opened(texts, regexes)
    found["ours"] = guarded(texts, regexes).cursor().push
    return found


def guarded(texts: list[str], regexes: list[str]) -> Guard:
    return Guard([*map(Rule.literal, texts), *map(Rule.regex, regexes)])


def opened(texts: list[str], regexes: list[str]) -> Push:
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
    scan = stream.scan

    def look(token: str | bytes) -> None:
        scan(token.encode() if isinstance(token, str) else token)

    return look


def measured(push: Push, tokens: Sequence[object]) -> float:
    begun = time.perf_counter_ns()
    deque(map(push, tokens), maxlen=0)
    return (time.perf_counter_ns() - begun) / len(tokens)


def rounds_of(each: dict[str, Push], tokens: Sequence[object], rounds: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in each}
    names = list(each)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(measured(each[name], tokens))
    return samples


def told(samples: dict[str, list[float]]) -> None:
    last = list(samples)[-1]
    for name, each in samples.items():
        ratio = median(theirs / ours for theirs, ours in zip(each, samples[last], strict=True))
        print(f"  {name:<16} {median(each):9.1f} ns a token, {min(each):9.1f} at best, {ratio:8.2f} times {last}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    chosen = random.Random(7)
    text = " ".join("".join(chosen.choices(SYLLABLES, k=chosen.randint(1, 4))) for _ in range(20_000))
    tokens = [text[place : place + 4] for place in range(0, len(text), 4)]
    for label, texts, regexes in (
        ("12 texts", words(chosen, 12), []),
        ("1,000 texts", words(chosen, 1_000), []),
        ("1,000 texts and 50 regexes", words(chosen, 1_000), REGEXES),
    ):
        begun = time.perf_counter()
        guard = guarded(texts, regexes)
        built, size = time.perf_counter() - begun, guard.size
        print(f"{label}: compiled in {built * 1e3:.1f} ms, {size[0]:,} states, {size[1]:,} bytes")
        told(rounds_of(sides(texts, regexes), tokens, rounds))
    monitored(Guard([*map(Rule.literal, words(chosen, 12))]), tokens, rounds)
    large(12, rounds)
    large(1_000, rounds)
    if content_filter is not None:
        beside_litellm(rounds)


def large(count: int, rounds: int) -> None:
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
    each: dict[str, Push] = {}
    if hyperscan is not None:
        each["hyperscan"] = opened(sorted(found), [])
    each["ours"] = guarded(sorted(found), []).cursor().push
    print(f"{count:,} words of the documents, chunks of 65,536 bytes")
    for name, samples in rounds_of(each, chunks, rounds).items():
        print(f"  {name:<16} {median(samples) / 65_536:9.3f} ns a byte, {min(samples) / 65_536:9.3f} at best")


def beside_litellm(rounds: int) -> None:
    """Both with LiteLLM's patterns that the guard takes. At each chunk LiteLLM reads all of the reply that came."""
    imported = from_litellm_patterns()
    names = [rule.name for rule in imported.rules]
    patterns = [
        content_filter.ContentFilterPattern(pattern_type="prebuilt", pattern_name=name, action="BLOCK")
        for name in names
    ]
    theirs = content_filter.ContentFilterGuardrail(guardrail_name="bench", patterns=patterns)
    guard = Guard(imported.rules)
    reply = "The quick brown fox jumps over the lazy dog, and so on. " * 18
    tokens = [reply[place : place + 4] for place in range(0, len(reply), 4)]
    seen: list[str] = []
    cursors = [guard.cursor()]

    def filtered(token: str) -> None:
        seen.append(token)
        theirs._filter_single_text("".join(seen), detections=[])
        if len(seen) == len(tokens):
            seen.clear()

    def pushed(token: str) -> None:
        cursors[0].push(token)

    print(f"{len(names)} patterns of LiteLLM, a reply of {len(reply):,} bytes")
    told(rounds_of({"litellm": filtered, "ours": pushed}, tokens, max(3, rounds // 10)))


def monitored(guard: Guard, tokens: list[str], rounds: int) -> None:
    """A token as an event, without an audit and with one: making the event, and what its clock says, are counted."""
    data = [token.encode() for token in tokens]
    with tempfile.TemporaryDirectory() as folder:
        monitors = {"monitor": guard.monitor(), "and audit": guard.monitor(audit=Path(folder) / "bench.audit")}
        each = {name: lambda token, of=of: of.intervene(Token(7, token)) for name, of in monitors.items()}
        samples = rounds_of(each, data, rounds)
    print("12 texts, an event a token")
    told(samples)


if __name__ == "__main__":
    main()
