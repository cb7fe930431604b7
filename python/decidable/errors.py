"""The exception tree: a fault is an exception with a stable code, a refusal is a value.

Every exception carries ``code``, a stable string such as ``"kernel.out_of_range"`` (listed in docs/errors.md), a
message of one readable line, and what the code needs as attributes (``details``): the field and value, the row, the
number of the record (``seq``), the byte offset.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "Conflict",
    "DecidableError",
    "GuardStopped",
    "InvalidInput",
    "LogUnavailable",
    "Refused",
    "UnknownName",
    "VerificationError",
]

MESSAGE_CHARS_MAX: Final = 2_000
"""Of a longer message the beginning is told: it holds a name or a value from outside, which can be of any length."""

# Control characters and what else ends a line, by their numbers.
_CONTROLS: Final = {number: f"\\x{number:02x}" for number in [*range(0x20), *range(0x7F, 0xA0)]} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class DecidableError(Exception):
    """Root of the tree.

    Attributes:
        code: Stable identifier of the fault, ``area.what``.
        details: What the message names, as values: ``field``, ``value``, ``row``, ``seq``, ``offset``, ``path``.

    Each detail is an attribute as well:

    >>> error = InvalidInput("kernel.out_of_range", "risk_bps is 10001", field="risk_bps", value=10001)
    >>> error.code, error.field
    ('kernel.out_of_range', 'risk_bps')
    """

    def __init__(self, code: str, message: str, **details: Any) -> None:
        # A name from outside, such as a path, may hold what would break the line.
        line = message if message.isprintable() else message.translate(_CONTROLS)
        if len(line) > MESSAGE_CHARS_MAX:
            line = f"{line[:MESSAGE_CHARS_MAX]}… ({len(line):,} characters)"
        super().__init__(code, line)
        self.code = code
        self.message = line
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["details"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.message, self.details)


def _rebuild(kind: type[DecidableError], code: str, message: str, details: dict[str, Any]) -> DecidableError:
    return kind(code, message, **details)


class InvalidInput(DecidableError, ValueError):
    """A value that cannot be used: wrong type, out of range, unreadable file. Nothing was changed."""


class UnknownName(DecidableError, LookupError):
    """A name or number that nothing answers to: a model, an account, a ticket, a hold."""


class Refused(DecidableError):
    """A refused ticket was entered, or its model asked for. ``reason`` says which gate or budget refused."""


class GuardStopped(DecidableError):
    """A guarded stream was stopped, and its reader asked for an exception. ``stopped`` says why."""


class Conflict(DecidableError):
    """A key or ticket was used before with other contents, or a ticket is already settled."""


class LogUnavailable(DecidableError):
    """The log cannot take the record: locked, closed, full queue, disk fault, wrong key, used after a fork."""


class VerificationError(DecidableError):
    """Evidence does not hold. ``seq`` and ``offset`` name the place, ``what`` the thing that disagreed."""
