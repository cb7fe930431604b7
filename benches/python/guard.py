"""One token of four bytes at a time under the guard's rules, from Python, beside pyahocorasick where it is installed.

python benches/python/guard.py [--rounds 31]

pyahocorasick only looks; ours also gives back what may leave. Every round runs each side once, in rotating order.
Told is the median of each side's rounds, in nanoseconds a token, and of the rounds' ratios to ours.
"""

import argparse
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from decidable import Guard, Rule
from decidable.guard import Token

try:
    import ahocorasick
except ImportError:
    ahocorasick = None

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
    rules = [*map(Rule.literal, texts), *(Rule.regex(regex) for regex in regexes)]
    found["ours"] = Guard(rules).cursor().push
    return found


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
        guard = Guard([*map(Rule.literal, texts), *map(Rule.regex, regexes)])
        built, size = time.perf_counter() - begun, guard.size
        print(f"{label}: compiled in {built * 1e3:.1f} ms, {size[0]:,} states, {size[1]:,} bytes")
        each = sides(texts, regexes)
        samples = rounds_of(each, tokens, rounds)
        for name in each:
            ratio = median(theirs / ours for theirs, ours in zip(samples[name], samples["ours"], strict=True))
            print(f"  {name:<14} {median(samples[name]):7.1f} ns a token, {ratio:5.2f} times ours")
    monitored(Guard([*map(Rule.literal, words(chosen, 12))]), tokens, rounds)


def monitored(guard: Guard, tokens: list[str], rounds: int) -> None:
    """A token as an event, without an audit and with one: making the event, and what its clock says, are counted."""
    data = [token.encode() for token in tokens]
    with tempfile.TemporaryDirectory() as folder:
        monitors = {"monitor": guard.monitor(), "and audit": guard.monitor(audit=Path(folder) / "bench.audit")}
        each = {name: lambda token, of=of: of.intervene(Token(7, token)) for name, of in monitors.items()}
        samples = rounds_of(each, data, rounds)
    print("12 texts, an event a token")
    for name in each:
        print(f"  {name:<14} {median(samples[name]):7.1f} ns a token")


if __name__ == "__main__":
    main()
