"""``guard``: a stream under rules, from standard input or a file to standard output; and what the rules cost."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from decidable.cli.exits import FAILED, FINE, Usage
from decidable.cli.inputs import add_json, present
from decidable.cli.screen import Screen, about_output
from decidable.guard import Guard, GuardedStream
from decidable.report.quantity import count

__all__ = ["add"]

# What is read at a time, at most: a pipe gives what it has.
_READ_BYTES: Final = 65_536


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "guard",
        help="a stream of text under rules",
        description="Copy a stream to standard output as far as rules let it: what stops ends it, what is redacted is "
        "replaced, nothing of either leaves. Exit code 1 where a rule stopped it.",
    )
    parser.add_argument("rules", type=Path, metavar="RULES", help="a TOML file of [[rules]] (docs/guard.md)")
    parser.add_argument("input", nargs="?", default="-", metavar="FILE", help="default: -, standard input")
    parser.add_argument("--costs", action="store_true", help="show what each rule costs, and read nothing")
    add_json(parser)
    parser.set_defaults(run=_guard, command="guard")


def _guard(parsed: argparse.Namespace, screen: Screen) -> int:
    guard = Guard.load(present(parsed.rules))
    if parsed.costs:
        return _costs(guard, screen)
    stream = guard.stream(_pieces(parsed.input))
    released = 0
    for piece in stream:
        released += len(piece)
        if not screen.as_json:
            _write(piece)
    found = Counter((match.rule, match.action) for match in stream.matches)
    if screen.as_json:
        screen.emit(_document(stream, released, found))
    else:
        for (rule, action), times in sorted(found.items()):
            often = "once" if times == 1 else f"{count(times)} times"
            screen.note(f"decidable guard: {rule!r} {_DONE[action]} {often}")
    reason = stream.stopped
    if reason is None:
        return FINE
    what = f"rule {reason.rule!r} stopped it" if reason.rule is not None else reason.kind.replace("_", " ")
    screen.error("decidable guard", f"{what}, at byte {count(reason.start)}")
    return FAILED


_DONE: Final = {"redact": "replaced", "record": "noted"}


def _document(stream: GuardedStream[bytes], released: int, found: Counter[tuple[str, str]]) -> dict[str, Any]:
    reason = stream.stopped
    return {
        "released_bytes": released,
        "stopped": None
        if reason is None
        else {"kind": reason.kind, "rule": reason.rule, "start": reason.start, "end": reason.end},
        "matches": [
            {"rule": rule, "action": action, "times": times} for (rule, action), times in sorted(found.items())
        ],
    }


def _pieces(name: str) -> Iterator[bytes]:
    """What there is to read, as it comes."""
    if name == "-":
        if sys.stdin is None:
            raise Usage("cli.unusable_file", "standard input is closed", path=name)
        while piece := os.read(sys.stdin.fileno(), _READ_BYTES):
            yield piece
        return
    with present(Path(name)).open("rb", buffering=0) as file:
        while piece := file.read(_READ_BYTES):
            yield piece


def _write(piece: bytes) -> None:
    """Whole, and at once: whoever reads is not kept waiting."""
    if sys.stdout is None:
        raise Usage("cli.unusable_file", "standard output is closed", path="-")
    with about_output():
        sys.stdout.flush()
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _costs(guard: Guard, screen: Screen) -> int:
    """The automaton of each rule alone, and that of all."""
    alone = [(rule, Guard([rule]).size) for rule in guard.rules]
    states, octets = guard.size
    if screen.as_json:
        each = [
            {"rule": rule.name, "action": rule.action, "states": size[0], "table_bytes": size[1]}
            for rule, size in alone
        ]
        screen.emit({"rules": each, "together": {"states": states, "table_bytes": octets}})
        return FINE
    rows = [[rule.name, rule.action, count(size[0]), count(size[1])] for rule, size in alone]
    screen.table(["rule", "action", "#states", "#bytes"], [*rows, ["together", "", count(states), count(octets)]])
    return FINE
