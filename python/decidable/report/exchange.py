"""The decisions of a JSON-lines log of the exchange format, in the shape of our own log's records.

For logs that `decidable.verify` found to hold: this reads what an entry says and checks nothing about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from decidable._native import Action, Decision, Reason, Request
from decidable.arrays import DECISION_DTYPE
from decidable.builders import describe
from decidable.errors import InvalidInput

__all__ = ["Entry", "decision", "entries"]

# The names of the exchange format, by the field that they stand in; codes are read as well.
_NAMED: Final = {
    "action": {each.name: each.code for each in vars(Action).values() if isinstance(each, Action)},
    "reason": {each.name: each.code for each in vars(Reason).values() if isinstance(each, Reason)},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision of the log. The format has no time."""

    seq: int
    fields: dict[str, Any]
    kind: str = "decision"
    time_ns: int = 0


def entries(path: Path) -> Iterator[Entry]:
    """The entries in order; an unfinished last line is left out."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            entry = json.loads(line)
            data = entry["data"]
            if not isinstance(data, dict) or "decision" not in data:
                continue
            made = decision(data["decision"])
            yield Entry(
                entry["sequence"],
                {
                    "request_sequence": made.request_sequence,
                    "request": Request(**data["input"]),
                    "decision": made,
                    "policy_digest": data["audit"]["policy_digest_hex"],
                },
            )


def decision(document: dict[str, Any]) -> Decision:
    """A decision from its members in the exchange format: 0 and 65,535 stand for nothing selected."""
    names = DECISION_DTYPE.names or ()
    row = np.zeros((), dtype=DECISION_DTYPE)
    for name in document:
        if name not in names:
            raise _malformed(name, f"{describe(name)} is not a field of a decision")
    for name in names:
        if name not in document:
            raise _malformed(name, f"{name} is missing")
        value = document[name]
        if name in _NAMED and isinstance(value, str):
            value = _NAMED[name].get(value)
        if type(value) is not int:
            raise _malformed(name, f"{name} is {describe(document[name])}")
        bounds = np.iinfo(DECISION_DTYPE[name])
        if not bounds.min <= value <= bounds.max:
            raise _malformed(name, f"{name} is {value}, which does not fit")
        row[name] = value
    return Decision.from_bytes(row.tobytes())


def _malformed(field: str, message: str) -> InvalidInput:
    return InvalidInput("exchange.malformed_decision", message, field=field)
