"""The guard: rules over what a model streams out, stopped in the middle of a word before a byte of a match leaves.

    from decidable import Guard, Rule

    guard = Guard([
        Rule.literal("DROP TABLE", ignore_case=True),
        Rule.regex(r"\\b\\d{3}-\\d{2}-\\d{4}\\b", action="redact", name="ssn"),
    ])
    stream = guard.stream(chunks)                # text, bytes, or what a client streams
    for text in stream:
        print(text, end="")
    stream.stopped                               # None, or why

What comes in comes out as soon as it can no longer be part of a match that stops or redacts, and not before: ordinary
text is not held back. docs/guard.md says what a match is.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from decidable._native import MAX_HOLD_BYTES, Automaton, Cursor, Key, Match, Pressure, Rule, StopReason
from decidable.builders import counted
from decidable.guard.arguments import Arguments
from decidable.guard.audit import AuditFrame, AuditMatch, AuditReport, verify_audit
from decidable.guard.faults import wrong_kind
from decidable.guard.files import naming, read_rules
from decidable.guard.imports import from_gitleaks, from_litellm_patterns
from decidable.guard.langchain import as_runnable
from decidable.guard.monitor import Continue, Decided, End, Monitor, Stop, Text, Token, audit_file
from decidable.guard.sets import rule_set
from decidable.guard.streams import AsyncGuardedStream, GuardedStream

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableGenerator

__all__ = [
    "AsyncGuardedStream",
    "AuditFrame",
    "AuditMatch",
    "AuditReport",
    "Continue",
    "End",
    "Guard",
    "GuardedStream",
    "Match",
    "Monitor",
    "Pressure",
    "Rule",
    "Stop",
    "StopReason",
    "Text",
    "Token",
    "from_gitleaks",
    "from_litellm_patterns",
    "rule_set",
    "verify_audit",
]

Chunk = TypeVar("Chunk", str, bytes)
Piece = TypeVar("Piece")


class Guard:
    """Rules, compiled once for any number of streams and threads.

    Args:
        rules: Their names must differ; a rule without one is called by its pattern.
        max_hold: How many bytes a stream holds back at most: where it would be more, it is stopped.

    Raises:
        InvalidInput: A rule cannot be used; the message and ``rule`` name it (docs/errors.md, ``guard.``). Or
            ``max_hold`` is none.
    """

    __slots__ = ("_automaton", "_max_hold")

    def __init__(self, rules: Iterable[Rule], *, max_hold: int = MAX_HOLD_BYTES) -> None:
        self._keep(Automaton(rules), max_hold)

    def _keep(self, automaton: Automaton, max_hold: int) -> None:
        # The first stream would refuse what is no size, and that is late.
        automaton.cursor(max_hold, False)
        self._automaton = automaton
        self._max_hold = max_hold

    @classmethod
    def from_bytes(cls, data: bytes, *, max_hold: int = MAX_HOLD_BYTES) -> Self:
        """Reads what :meth:`to_bytes` wrote, and compiles it.

        Raises:
            InvalidInput: The bytes are not exactly that: ``guard.unreadable``, with the ``offset``.
        """
        guard = cls.__new__(cls)
        guard._keep(Automaton.from_bytes(data), max_hold)
        return guard

    def __eq__(self, other: object) -> bool:
        """Whether both have the same rules in the same order, and hold back as much."""
        if type(other) is not type(self):
            return NotImplemented
        return (self.digest(), self._max_hold) == (other.digest(), other._max_hold)

    def __hash__(self) -> int:
        return hash((self.digest(), self._max_hold))

    def __reduce__(self) -> tuple[Any, ...]:
        return _guard, (type(self), self.to_bytes(), self._max_hold)

    def to_bytes(self) -> bytes:
        """The rules and their digest (docs/spec/audit.md), without what is compiled from them and ``max_hold``."""
        return self._automaton.to_bytes()

    def digest(self) -> bytes:
        """The SHA-256 of the rules in their order (docs/spec/audit.md)."""
        return self._automaton.digest()

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_hold: int = MAX_HOLD_BYTES) -> Self:
        """Reads a TOML file of ``[[rules]]``.

        Each has ``literal`` or ``regex``, and ``name``, ``action``, ``replacement``, ``severity``, ``reads``,
        ``ignore_case`` or ``check`` as :class:`Rule`; also ``matches`` and ``passes``, its examples
        (docs/guard-sets.md).

        Raises:
            InvalidInput: As of a :class:`Guard`, with the ``path``; ``guard.unreadable``.
        """
        rules = read_rules(path)
        with naming(path):
            return cls(rules, max_hold=max_hold)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in their order."""
        return self._automaton.rules

    @property
    def size(self) -> tuple[int, int]:
        """How many states the automaton's tables have, and how many bytes they take."""
        return self._automaton.size

    def cursor(self, *, json: bool = False) -> Cursor:
        """One stream, for whoever pushes himself: ``push``, ``finish``, ``stopped``, ``matches``, ``pressure``.

        Matches are kept until ``matches()`` takes them, the first ``MOST_MATCHES`` of each kind (docs/limits.md);
        ``matches_dropped`` says how many were not.

        With ``json`` it is a document in JSON, such as the arguments of a tool's call: rules see the strings as what
        they stand for (``\\u0044ROP`` is ``DROP``), and what is replaced is written with escapes. A text that
        may be none is for ``stream`` or ``check``, which also read it as it is written.
        """
        return self._automaton.cursor(self._max_hold, json)

    def monitor(
        self,
        *,
        most_entropy: tuple[float, int] | None = None,
        audit: str | os.PathLike[str] | None = None,
        model: str = "",
        decision: Decided | None = None,
        key: Key | None = None,
        salt: bytes | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> Monitor:
        """One generation, for whoever runs the model himself and asks after each event: :class:`Monitor`.

        Args:
            most_entropy: Nats and steps: stop where the entropy of so many steps in a row is above, or not known.
            audit: The file to write the generation's audit to, which must not exist yet (docs/spec/audit.md).
            model: What the model is called there.
            decision: The ticket whose decision the generation belongs to.
            key: Seals the audit.
            salt: 32 bytes, to be kept elsewhere: the audit then has a salted digest of each text that matched, for
                which the text of the generation is kept in memory until its end.
            clock: The time, in nanoseconds since 1970-01-01 UTC.

        Raises:
            InvalidInput: ``audit.exists``, ``audit.unwritable``, or an argument that cannot be used.
        """
        return Monitor(
            self._automaton, self._max_hold, most_entropy, clock, audit_file(audit, model, decision, key, salt)
        )

    def check(self, text: Chunk, *, json: bool = False) -> tuple[Chunk, StopReason | None, list[Match]]:
        """A whole text at once: what may come out of it, why it was stopped, and what was noted or replaced.

        Args:
            json: As of :meth:`stream`.
        """
        if not isinstance(json, bool):
            raise wrong_kind("a bool", json, "json")

        def cursor(*, json: bool = False) -> Cursor:
            # The text bounds how many matches there are.
            return self._automaton.cursor(self._max_hold, json, True)

        whole = Arguments(cursor) if json else cursor()
        released: Chunk = whole.push(text)
        rest: Chunk = whole.finish()
        return released + rest, whole.stopped, whole.matches()

    def stream(
        self,
        chunks: Iterable[Piece],
        *,
        raise_on_stop: bool = False,
        notice: str | Callable[[StopReason], str] | None = "",
        sse: bool | None = None,
        json: bool = False,
    ) -> GuardedStream[Piece]:
        """Guards an iterable of text, of bytes, or of the chunks of a client, and gives the same kind (docs/guard.md).

        Where a rule stops it, the iterable is closed (``close()``, if it has that) and the stream ends, typed streams
        with a chunk that says so. A chunk that is not known and an exception of the iterable end it too, and nothing
        that was held comes out.

        Args:
            raise_on_stop: Whether :class:`~decidable.errors.GuardStopped` is raised at a stop, after everything else.
            notice: What a client is told of a stop, or what makes that of the reason. It comes last, as text. With an
                empty one, or None, nothing is told.
            sse: Whether text or bytes are server-sent events, as they come over the wire. If that is not said, what
                begins like them is refused.
            json: Whether the text is a document in JSON, as where a model is told to answer in it: rules see strings as
                what they stand for, and what is replaced is written with escapes. What does not begin as one is also
                read as it is written.
        """
        return GuardedStream(self.cursor, chunks, raise_on_stop=raise_on_stop, notice=notice, sse=sse, json=json)

    def astream(
        self,
        chunks: AsyncIterable[Piece],
        *,
        raise_on_stop: bool = False,
        notice: str | Callable[[StopReason], str] | None = "",
        sse: bool | None = None,
        json: bool = False,
    ) -> AsyncGuardedStream[Piece]:
        """:meth:`stream` for an asynchronous iterable, which is closed with ``aclose()``, or a ``close()``."""
        return AsyncGuardedStream(self.cursor, chunks, raise_on_stop=raise_on_stop, notice=notice, sse=sse, json=json)

    def as_runnable(
        self, *, raise_on_stop: bool = False, notice: str | Callable[[StopReason], str] | None = "", json: bool = False
    ) -> RunnableGenerator[Any, Any]:
        """The guard as a part of a LangChain chain, ``model | guard.as_runnable()``. It needs ``langchain_core``."""
        return as_runnable(self, raise_on_stop=raise_on_stop, notice=notice, sse=False, json=json)

    def __repr__(self) -> str:
        return f"<Guard of {counted(len(self.rules), 'rule')}>"


def _guard(kind: type[Guard], data: bytes, max_hold: int) -> Guard:
    """What a pickled guard is rebuilt with: its rules are compiled again."""
    return kind.from_bytes(data, max_hold=max_hold)


def _rule(
    kind: str,
    pattern: str,
    action: str,
    name: str,
    replacement: str,
    severity: str,
    ignore_case: bool,
    reads: str,
    check: str | None,
) -> Rule:
    """What a pickled rule is rebuilt with."""
    same = {"action": action, "name": name, "replacement": replacement, "severity": severity, "reads": reads}
    if kind == "regex":
        return Rule.regex(pattern, check=check, **same)
    return Rule.literal(pattern, ignore_case=ignore_case, **same)
