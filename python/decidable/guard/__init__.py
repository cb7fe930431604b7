"""The guard: rules over what a model streams out, stopped in the middle of a word before a byte of a match leaves.

    from decidable import Guard, Rule

    guard = Guard([
        Rule.literal("DROP TABLE", ignore_case=True),
        Rule.regex(r"\\b\\d{3}-\\d{2}-\\d{4}\\b", action="redact", name="ssn"),
    ])
    stream = guard.stream(chunks)                # chunks of text or of bytes
    for text in stream:
        print(text, end="")
    stream.stopped                               # None, or why

What comes in comes out as soon as it can no longer be part of a match that stops or redacts, and not before: ordinary
text is not held back. docs/guard.md says what a match is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Self, TypeVar

from decidable._native import MAX_HOLD_BYTES, Automaton, Cursor, Match, Rule, StopReason
from decidable.guard.files import read_rules
from decidable.guard.imports import from_gitleaks, from_litellm_patterns
from decidable.guard.sets import rule_set
from decidable.guard.streams import AsyncGuardedStream, GuardedStream

__all__ = ["AsyncGuardedStream", "Guard", "GuardedStream", "Match", "Rule", "StopReason"]
__all__ += ["from_gitleaks", "from_litellm_patterns", "rule_set"]

Chunk = TypeVar("Chunk", str, bytes)


class Guard:
    """Rules, compiled once for any number of streams and threads.

    Args:
        rules: Their names must differ; a rule without one is called by its pattern.
        max_hold: How many bytes a stream holds back at most: where it would be more, it is stopped.

    Raises:
        InvalidInput: A rule cannot be used; the message and ``rule`` name it (docs/errors.md, ``guard.``).
    """

    __slots__ = ("_automaton", "_max_hold")

    def __init__(self, rules: Sequence[Rule], *, max_hold: int = MAX_HOLD_BYTES) -> None:
        self._automaton = Automaton(list(rules))
        self._max_hold = max_hold

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_hold: int = MAX_HOLD_BYTES) -> Self:
        """Reads a TOML file of ``[[rules]]``.

        Each has ``literal`` or ``regex``, and ``name``, ``action``, ``replacement``, ``reads``, ``ignore_case`` or
        ``check`` as :class:`Rule`; also ``matches`` and ``passes``, its examples (docs/guard-sets.md).
        """
        return cls(read_rules(path), max_hold=max_hold)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in their order."""
        return self._automaton.rules

    @property
    def size(self) -> tuple[int, int]:
        """How many states the automaton's tables have, and how many bytes they take."""
        return self._automaton.size

    def cursor(self, *, json: bool = False) -> Cursor:
        """One stream, for whoever pushes chunks himself: ``push``, ``finish``, ``stopped``, ``matches``.

        With ``json`` it is a document in JSON, such as the arguments of a tool's call: rules see the strings as what
        they stand for (``\\u0044ROP`` is ``DROP``), and what is replaced is written with escapes.
        """
        return self._automaton.cursor(self._max_hold, json)

    def check(self, text: Chunk) -> tuple[Chunk, StopReason | None, list[Match]]:
        """A whole text at once: what may come out of it, why it was stopped, and what was noted or replaced."""
        cursor = self.cursor()
        released: Chunk = cursor.push(text)
        rest: Chunk = cursor.finish()
        return released + rest, cursor.stopped, cursor.matches()

    def stream(self, chunks: Iterable[Chunk], *, raise_on_stop: bool = False) -> GuardedStream[Chunk]:
        """Guards an iterable of text or of bytes. Chunks that would be empty are left out.

        Where a rule stops it, the iterable is closed (``close()``, if it has that) and the stream ends; with
        ``raise_on_stop`` it raises :class:`~decidable.errors.GuardStopped` after everything before the match has come
        out. A chunk of another kind and an exception of the iterable end it too, and nothing that was held comes out.
        """
        return GuardedStream(self.cursor(), chunks, raise_on_stop)

    def astream(self, chunks: AsyncIterable[Chunk], *, raise_on_stop: bool = False) -> AsyncGuardedStream[Chunk]:
        """:meth:`stream` for an asynchronous iterable, which is closed with ``aclose()``."""
        return AsyncGuardedStream(self.cursor(), chunks, raise_on_stop)

    def __repr__(self) -> str:
        return f"<Guard of {len(self.rules)} rules>"


def _rule(
    kind: str,
    pattern: str,
    action: str,
    name: str,
    replacement: str,
    ignore_case: bool,
    reads: str = "visible",
    check: str | None = None,
) -> Rule:
    """What a pickled rule is rebuilt with."""
    if kind == "regex":
        return Rule.regex(pattern, action=action, name=name, replacement=replacement, reads=reads, check=check)
    return Rule.literal(
        pattern, action=action, name=name, replacement=replacement, ignore_case=ignore_case, reads=reads
    )
