"""Control of a generation: whoever runs a model tells each event, and is told whether it may go on.

    with guard.monitor(audit="answer.audit", model="small") as monitor:
        for token_id, data in tokens:
            match monitor.intervene(Token(token_id, data)):
                case Continue(released): send(released)
                case Stop(reason, released): ...

Once it is stopped it stays so. Whatever goes wrong inside stops it, and so does what is no event.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from decidable import _native
from decidable._native import (
    Automaton,
    Decision,
    Key,
    LogitBounds,
    LogitStats,
    Match,
    Policy,
    Pressure,
    Request,
    StopReason,
)
from decidable.builders import integer
from decidable.errors import Conflict, InvalidInput
from decidable.guard.faults import wrong_kind
from decidable.wal import place

__all__ = ["Continue", "Decided", "End", "Monitor", "Stop", "Text", "Token"]


@dataclass(frozen=True, slots=True)
class Token:
    """The model chose a token: its number, the bytes that it adds to the text, and the step's statistics, if known."""

    id: int
    data: bytes
    stats: LogitStats | LogitBounds | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is of no token, such as what a template adds."""

    data: bytes | str


@dataclass(frozen=True, slots=True)
class End:
    """The generation is over: what is pending is decided."""


@dataclass(frozen=True, slots=True)
class Continue:
    """The generation may go on. ``released`` may leave now: bytes, since a token may end inside a character."""

    released: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """The generation is stopped, and why. ``released`` is what may leave still."""

    reason: StopReason
    released: bytes


class Decided(Protocol):
    """A ticket, as far as an audit asks it."""

    @property
    def id(self) -> int: ...
    @property
    def policy(self) -> Policy | None: ...
    @property
    def request(self) -> Request: ...
    @property
    def decision(self) -> Decision | None: ...


class Monitor:
    """One generation under the rules of a guard; made with :meth:`decidable.Guard.monitor`.

    Leaving it (``with``) before its end stops it, so that its audit says that it was not finished.
    """

    __slots__ = ("_clock", "_fault", "_native", "_over")

    def __init__(
        self,
        automaton: Automaton,
        max_hold: int,
        most_entropy: tuple[float, int] | None,
        clock: Callable[[], int],
        audit: dict[str, Any] | None,
    ) -> None:
        most_entropy = _bound(most_entropy)
        self._clock = clock
        if audit is not None:
            audit = audit | {"time_ns": clock()}
        self._native = _native.Monitor(automaton, max_hold, most_entropy, audit)
        self._fault: BaseException | None = None
        self._over = False

    def intervene(self, event: Token | Text | End) -> Continue | Stop:
        """Whether the generation may go on after an event, and what may leave.

        It raises nothing but what interrupts a program (``KeyboardInterrupt`` and the like, which stop it too): a fault
        is a :class:`Stop` whose reason is ``"failed"``, and ``fault`` has what was raised.
        """
        if self._fault is not None:
            return Stop(self._why_failed(), b"")
        try:
            released = self._taken(event)
            stopped = self._native.stopped
            if stopped is not None and stopped.kind == "failed":
                # What comes after the end stops without raising anything.
                self._fault = Conflict("guard.ended", "the generation was at its end")
        except BaseException as error:
            stopped, released = self._failed(error), b""
            if not isinstance(error, Exception):
                raise
        return Continue(released) if stopped is None else Stop(stopped, released)

    def _taken(self, event: object) -> bytes:
        # Not by `match`: that alone takes longer than all the rest.
        if isinstance(event, Token):
            entropy = None if event.stats is None else _entropy(event.stats)
            return self._native.token(event.id, event.data, entropy, self._clock())
        if isinstance(event, Text):
            return self._native.text(event.data, self._clock())
        if isinstance(event, End):
            self._over = True
            return self._native.finish(self._clock())
        message = f"an event must be a Token, a Text or an End, not {type(event).__name__}"
        # Not the event, which may have text.
        raise InvalidInput("input.wrong_type", message, field="event", value=type(event).__name__)

    def _failed(self, error: BaseException) -> StopReason:
        self._fault = self._fault or error
        with contextlib.suppress(Exception):
            self._native.fail()
        return self._why_failed()

    def _why_failed(self) -> StopReason:
        """Also where another thread has it, and it cannot be told so or asked."""
        failed = StopReason("failed", None, 0, None)
        with contextlib.suppress(Exception):
            return self._native.stopped or failed
        return failed

    @property
    def stopped(self) -> StopReason | None:
        """Why it was stopped, or ``None``."""
        return self._native.stopped if self._fault is None else self._why_failed()

    @property
    def fault(self) -> BaseException | None:
        """The first exception that stopped it, or ``None``."""
        return self._fault

    @property
    def held(self) -> int:
        """How many bytes are held back."""
        return self._native.held

    @property
    def audit_hash(self) -> bytes | None:
        """The hash of the audit up to here, which covers all before it; ``None`` without one that can be written."""
        return self._native.hash

    def pressure(self) -> list[Pressure]:
        """How deep the text is in which rules, the nearest to a match first."""
        return self._native.pressure()

    @property
    def matches_dropped(self) -> int:
        """How many matches were not kept for :meth:`matches`, because those before were not taken (docs/limits.md)."""
        return self._native.matches_dropped

    def matches(self) -> list[Match]:
        """What was noted or replaced since the last call, by where it begins. An audit has all, whoever takes them."""
        return self._native.matches()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over and self.stopped is None:
            self._failed(error or Conflict("guard.ended", "the generation was left before its end"))


def _entropy(stats: LogitStats | LogitBounds) -> float:
    """The entropy of a step; of bounds the upper one."""
    if isinstance(stats, LogitStats):
        return stats.entropy
    if isinstance(stats, LogitBounds):
        return stats.entropy_upper
    raise wrong_kind("LogitStats or LogitBounds", stats, "stats")


def _file(path: str | os.PathLike[str]) -> Path:
    """The path of an audit that is to be."""
    try:
        return place(path)
    except InvalidInput as error:
        message = f"audit: {error.message}"
        raise InvalidInput(error.code, message, **error.details | {"field": "audit"}) from None


def _bound(most_entropy: object) -> tuple[float, int] | None:
    """Nats and steps that can be: of a bound that is not a number a model would never be above it."""
    if most_entropy is None:
        return None
    wanted = "a tuple of nats and steps"
    if not isinstance(most_entropy, tuple):
        raise wrong_kind(wanted, most_entropy, "most_entropy")
    if len(most_entropy) != 2:
        message = f"most_entropy must be {wanted}, and has {len(most_entropy)}"
        raise InvalidInput("input.out_of_range", message, field="most_entropy", value=most_entropy)
    given, steps = most_entropy
    try:
        nats = None if isinstance(given, (bool, str)) else float(given)
    except (TypeError, ValueError):
        nats = None
    except OverflowError:
        nats = math.inf
    if nats is None:
        raise wrong_kind(f"{wanted}, the nats a number", given, "most_entropy")
    count = integer(steps)
    if count is None:
        message = f"most_entropy must be {wanted}, the steps an integer, not {type(steps).__name__}"
        raise InvalidInput("input.not_an_integer", message, field="most_entropy", value=steps)
    if not (0 <= nats < math.inf and 1 <= count < 2**32):
        message = f"most_entropy must be nats from 0 up that are no infinity, and 1 to {2**32 - 1} steps"
        raise InvalidInput("input.out_of_range", message, field="most_entropy", value=most_entropy)
    return nats, count


def audit_file(
    path: str | os.PathLike[str] | None, model: str, decision: Decided | None, key: Key | None, salt: bytes | None
) -> dict[str, Any] | None:
    """What the audit of a generation begins with, under a new number."""
    if path is None:
        given = {"model": model or None, "decision": decision, "key": key, "salt": salt}
        useless = [name for name, value in given.items() if value is not None]
        if useless:
            message = f"{useless[0]} is of an audit, and there is none"
            raise InvalidInput("audit.not_wanted", message, field=useless[0])
        return None
    decided = None
    if decision is not None:
        try:
            policy, choice, request = decision.policy, decision.decision, decision.request
        except AttributeError:
            raise wrong_kind("a ticket", decision, "decision") from None
        if policy is None or choice is None:
            message = f"request {decision.id} was refused before any policy: no generation belongs to it"
            raise InvalidInput("audit.undecided", message, ticket=decision.id)
        decided = (decision.id, _native.identity(policy, request, choice))
    return {
        "path": os.fspath(_file(path)),
        "id": secrets.token_bytes(16),
        "model": model,
        "decision": decided,
        "key": key,
        "salt": salt,
    }
