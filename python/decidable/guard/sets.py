"""The rules that ship with the package, in sets; rules held to their examples; and what a text has held back."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from decidable._native import MAX_HOLD_BYTES, Automaton, Rule
from decidable.builders import suggestion
from decidable.errors import InvalidInput
from decidable.guard.files import Written, naming, read_written, refuse_unknown

__all__ = ["EVERYDAY", "SETS", "Failed", "Held", "Measure", "failing", "held", "rule_set", "set_file"]

_FOLDER: Final = Path(__file__).with_name("sets")

SETS: Final = tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))
"""The names of the sets."""

EVERYDAY: Final = Path(__file__).with_name("everyday.txt")
"""A text with commands, code, dates, numbers and identifiers, to see what rules find where there is little to find."""

# After how many code points the matches are taken, at most: of each there may be several.
_MATCHES_TAKEN: Final = 4_096


def rule_set(*names: str, action: str | None = None, reads: str | None = None) -> list[Rule]:
    """The rules of sets that ship with the package (docs/guard-sets.md), to be compiled, alone or with others.

        Guard([*rule_set("secrets", "cards"), Rule.literal("internal only")])

    Args:
        names: ``cards``, ``email``, ``iban``, ``secrets``, ``shell``, ``sql`` or ``ssn``; one at least. One that is
            named twice counts once.
        action: What all of them do; otherwise each as its set says.
        reads: How all of them see a text, as of a :class:`Rule`; otherwise each as its set says.

    Raises:
        InvalidInput: ``guard.unknown_set``; ``guard.unknown_action``; ``guard.unknown_reading``.
    """
    if not names:
        # They would guard against nothing, without a word.
        raise InvalidInput("guard.unknown_set", f"no set is named; the sets are {_listed()}")
    said = {"action": action, "reads": reads}
    refuse_unknown(**{name: value for name, value in said.items() if value is not None})
    files = dict.fromkeys(map(set_file, names))
    return [written.rule for file in files for written in read_written(file, action, reads)]


def set_file(name: str) -> Path:
    """The file of a set."""
    if not isinstance(name, str):
        message = f"a name of a set must be a str, not {type(name).__name__}"
        raise InvalidInput("input.wrong_type", message, field="names", value=name)
    if name not in SETS:
        message = f"there is no set {name!r}{suggestion(name, SETS)}; the sets are {_listed()}"
        raise InvalidInput("guard.unknown_set", message, set=name)
    return _FOLDER / f"{name}.toml"


def _listed() -> str:
    return f"{', '.join(SETS[:-1])} and {SETS[-1]}"


@dataclass(frozen=True, slots=True)
class Failed:
    """An example that does not do what its rule's file says."""

    rule: str
    text: str
    should_match: bool


def failing(path: str | os.PathLike[str]) -> tuple[list[Failed], Counter[str]]:
    """The examples of a file that fail, and how many each rule has. Each rule is tried alone, also one that is off."""
    failed: list[Failed] = []
    often: Counter[str] = Counter()
    for written in read_written(path, action="stop"):
        with naming(path):
            automaton = Automaton([written.rule])
        often[written.rule.name] = len(written.matches) + len(written.passes)
        failed += _failing(automaton, written)
    return failed, often


def _failing(automaton: Automaton, written: Written) -> Iterable[Failed]:
    for should_match, texts in ((True, written.matches), (False, written.passes)):
        for pieces in texts:
            cursor = automaton.cursor(MAX_HOLD_BYTES, False)
            for piece in pieces:
                cursor.push(piece)
            cursor.finish()
            # One that was stopped because it held too much has found nothing.
            if (cursor.stopped is not None and cursor.stopped.kind == "matched") != should_match:
                yield Failed(written.rule.name, "".join(pieces), should_match)


@dataclass(frozen=True, slots=True)
class Held:
    """What a text has held back under rules: after each of its code points, how many."""

    positions: int
    p50: int
    p99: int
    most: int
    holding: int
    """Positions at which anything is held."""
    matches: int
    """Matches; after a stop the rest is a new stream."""


def held(rules: Sequence[Rule], text: str, *, max_hold: int = MAX_HOLD_BYTES) -> Held:
    """Streams a text code point by code point."""
    measure = Measure(rules, max_hold=max_hold)
    measure.push(text)
    return measure.finish()


class Measure:
    """What a text has held back, which comes in pieces. Of what went by, numbers alone are kept."""

    def __init__(self, rules: Sequence[Rule], *, max_hold: int = MAX_HOLD_BYTES) -> None:
        self._automaton = Automaton(list(rules))
        self._max_hold = max_hold
        self._counts: Counter[int] = Counter()
        self._matches = 0
        self._begin()

    def _begin(self) -> None:
        self._cursor = self._automaton.cursor(self._max_hold, False, True)
        # How many bytes each code point has of which any is held, and how many they are together.
        self._lengths, self._octets = deque[int](), 0

    def push(self, text: str) -> None:
        """Streams a piece code point by code point."""
        for start in range(0, len(text), _MATCHES_TAKEN):
            for point in text[start : start + _MATCHES_TAKEN]:
                self._counts[self._held_after(point)] += 1
            self._matches += len(self._cursor.matches())

    def _held_after(self, point: str) -> int:
        """The code points that are held after one more."""
        self._cursor.push(point)
        if (stopped := self._cursor.stopped) is not None:
            self._matches += (stopped.kind == "matched") + len(self._cursor.matches())
            self._begin()
            return 0
        waiting, lengths = self._cursor.held, self._lengths
        if not waiting:
            if lengths:
                lengths.clear()
                self._octets = 0
            return 0
        lengths.append(len(point.encode()))
        self._octets += lengths[-1]
        # What is out does not come back.
        while self._octets - lengths[0] >= waiting:
            self._octets -= lengths.popleft()
        return len(lengths)

    def finish(self) -> Held:
        """What was held back, at the end of the text."""
        self._cursor.finish()
        counts, positions = self._counts, self._counts.total()
        return Held(
            positions=positions,
            p50=_quantile(counts, 50),
            p99=_quantile(counts, 99),
            most=max(counts, default=0),
            holding=positions - counts[0],
            matches=self._matches + len(self._cursor.matches()) + (self._cursor.stopped is not None),
        )


def _quantile(counts: Counter[int], percent: int) -> int:
    """The least that so many of a hundred positions do not exceed."""
    total = counts.total()
    reached = 0
    for waiting in sorted(counts):
        reached += counts[waiting]
        if reached * 100 >= total * percent:
            return waiting
    return 0
