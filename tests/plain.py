"""What rules let of a whole text, by a search of it with ``re`` that knows nothing of how the guard looks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from decidable import Rule

PATTERNS = [
    ("[0-9]{2,4}", False),
    ("[a-z]{3,6}", True),
    ("[A-Z][a-z]+", False),
    ("é|ü|東", False),
    ("the .{1,6}e", False),
]
"""What can be drawn from: a pattern that says the same to both, and whether it stands between boundaries of words."""


@dataclass(frozen=True)
class Sought:
    """A rule, and what it looks for."""

    name: str
    action: str
    pattern: str
    bounded: bool = False
    literal: str | None = None

    @property
    def rule(self) -> Rule:
        if self.literal is not None:
            return Rule.literal(self.literal, action=self.action, name=self.name, reads="exact")
        pattern = rf"\b(?:{self.pattern})\b" if self.bounded else self.pattern
        return Rule.regex(pattern, action=self.action, name=self.name, reads="exact")

    def ends(self, text: str, start: int) -> list[int]:
        """Where a match ends that begins there: every one, and the nearest first."""
        pattern = re.compile(self.pattern)
        if pattern.match(text, start) is None or (self.bounded and not boundary(text, start)):
            return []
        ends = range(start + 1, len(text) + 1)
        return [
            end for end in ends if pattern.fullmatch(text, start, end) and (not self.bounded or boundary(text, end))
        ]


def boundary(text: str, place: int) -> bool:
    """Whether a word begins or ends there, of ASCII."""
    sides = [re.match("[0-9A-Za-z_]", side) is not None for side in (text[place - 1 : place], text[place : place + 1])]
    return sides[0] != sides[1]


def released(sought: list[Sought], text: str) -> tuple[str, tuple[str, int, int] | None]:
    """What may come out of a text, and the rule that stops it with where its match begins and ends."""
    stops = [
        (end, start, number)
        for number, each in enumerate(sought)
        if each.action == "stop"
        for start in range(len(text))
        for end in each.ends(text, start)[:1]
    ]
    stop = min(stops, default=None)
    text, until = (text, len(text)) if stop is None else (text[: stop[0]], stop[1])
    out, place = [], 0
    while place < until:
        ends = [end for each in sought if each.action == "redact" for end in each.ends(text, place)]
        out.append("[redacted]" if ends else text[place])
        place = max(ends, default=place + 1)
    return "".join(out), None if stop is None else (sought[stop[2]].name, stop[1], stop[0])
