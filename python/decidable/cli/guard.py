"""``guard``: a stream under rules, from standard input or a file to standard output; what rules cost and hold back."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from decidable._native import StopReason
from decidable.builders import counted
from decidable.cli.exits import FAILED, FINE, Usage
from decidable.cli.inputs import add_json, named, present
from decidable.cli.output import refuse_own_output
from decidable.cli.screen import Screen, about_output
from decidable.cli.signals import ENDED
from decidable.cli.standard import pieces_of_standard_input
from decidable.errors import InvalidInput
from decidable.guard import Guard
from decidable.guard.files import naming, read_rules
from decidable.guard.sets import EVERYDAY, SETS, Failed, Held, Measure, failing, held, set_file
from decidable.guard.sse import Prelude
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
    parser.add_argument(
        "rules",
        nargs="?",
        type=named,
        metavar="RULES",
        help="a TOML file of [[rules]] (docs/guard.md); not beside --set",
    )
    parser.add_argument("input", nargs="?", type=named, metavar="FILE", help="default: -, standard input")
    parser.add_argument(
        "--set", action="append", default=[], dest="sets", metavar="NAME",
        help=f"rules that ship with decidable: {', '.join(SETS)}; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--sse", action=argparse.BooleanOptionalAction,
        help="read a body of server-sent events, or with --no-sse a text; without either a text that begins like such "
        "events is refused",
    )  # fmt: skip
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--costs", action="store_true", help="show what each rule costs, and read nothing")
    instead.add_argument(
        "--test", action="store_true", help="hold each rule to its examples; exit code 1 where one fails"
    )
    instead.add_argument(
        "--held", action="store_true",
        help="show how much of FILE the rules hold back, and how often they match; without FILE of Python's help "
        "and of an everyday text, without RULES every set",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=_guard, command="guard")


def _guard(parsed: argparse.Namespace, screen: Screen) -> int:
    sources, name = _sources(parsed)
    if name is not None and (parsed.costs or parsed.test):
        option = "--costs" if parsed.costs else "--test"
        raise Usage("cli.usage", f"{option} reads no FILE (see decidable guard --help)")
    if parsed.sse is not None and (parsed.costs or parsed.test or parsed.held):
        option = "--sse" if parsed.sse else "--no-sse"
        raise Usage("cli.usage", f"{option} says what a stream is, and none is guarded (see decidable guard --help)")
    if parsed.test:
        return _test(sources, screen)
    if parsed.held:
        return _held(sources, name, screen)
    with naming(", ".join(map(str, sources.values()))):
        guard = Guard([rule for path in sources.values() for rule in read_rules(path)])
    if parsed.costs:
        return _costs(guard, screen)
    pieces = _pieces(name or "-", copied=not screen.as_json)
    if parsed.sse is None:
        pieces = _of_a_text(pieces)
    guarded = _Events(guard, pieces) if parsed.sse else _Text(guard, pieces)
    released, last = 0, b"\n"
    try:
        for piece in guarded.released():
            released += len(piece)
            if piece and not screen.as_json:
                last = piece[-1:]
                _write(piece)
    except BrokenPipeError:
        # Whoever reads has what was wanted.
        raise
    except (Exception, *ENDED) as error:
        screen.beside = _found(guarded, released)
        # Behind a signal there is no document.
        with contextlib.suppress(OSError):
            screen.begin_line(behind=last)
            _show_found(guarded, Screen(as_json=False) if isinstance(error, ENDED) else screen)
        raise
    reason = guarded.stopped
    if reason is not None or guarded.found or guarded.dropped:
        screen.begin_line(behind=last)
    if screen.as_json:
        screen.emit(_document(guarded, released))
    else:
        _show_found(guarded, screen)
    if reason is None:
        return FINE
    what = f"rule {reason.rule!r} stopped it" if reason.rule is not None else reason.kind.replace("_", " ")
    where = "" if reason.channel is None else f" of the channel {reason.channel!r}"
    whose = "" if reason.choice is None else f" of choice {reason.choice}"
    screen.error("decidable guard", f"{what}, at byte {count(reason.start)}{where}{whose}")
    return FAILED


def _show_found(guarded: _Text | _Events, screen: Screen) -> None:
    """What was found, for a person."""
    for (rule, action), times in sorted(guarded.found.items()):
        often = "once" if times == 1 else f"{count(times)} times"
        screen.note(f"decidable guard: {rule!r} {_DONE[action]} {often}")
    if guarded.dropped:
        screen.note(f"decidable guard: {counted(guarded.dropped, 'match', 'matches')} more")


class _Text:
    """One text. What was found is taken all the while: however many matches there are, each is counted."""

    dropped: Final = 0

    def __init__(self, guard: Guard, pieces: Iterator[bytes]) -> None:
        self._cursor = guard.cursor()
        self._pieces = pieces
        self._taken: Counter[tuple[str, str]] = Counter()

    @property
    def stopped(self) -> StopReason | None:
        return self._cursor.stopped

    @property
    def found(self) -> Counter[tuple[str, str]]:
        # A signal may have come between a piece and its matches.
        self._take()
        return self._taken

    def released(self) -> Iterator[bytes]:
        for piece in self._pieces:
            released = self._cursor.push(piece)
            self._take()
            yield released
            if self.stopped is not None:
                return
        yield self._cursor.finish()

    def _take(self) -> None:
        self._taken.update((match.rule, match.action) for match in self._cursor.matches())


class _Events:
    """A body of server-sent events. Of what was found so much is kept as a stream keeps."""

    def __init__(self, guard: Guard, pieces: Iterator[bytes]) -> None:
        self._stream = guard.stream(pieces, sse=True)

    @property
    def stopped(self) -> StopReason | None:
        return self._stream.stopped

    @property
    def found(self) -> Counter[tuple[str, str]]:
        return Counter((match.rule, match.action) for match in self._stream.matches)

    @property
    def dropped(self) -> int:
        return self._stream.matches_dropped

    def released(self) -> Iterator[bytes]:
        return self._stream


def _of_a_text(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, unless they begin as server-sent events do, in which a match would be cut: then none of them.

    They are kept until the first line tells. Where there are only comments they are let go at some length: those are
    whole, and the first line of an event is still refused.
    """
    prelude, kept, length = Prelude(), list[bytes](), 0
    for piece in pieces:
        if prelude.is_of_events(piece):
            told = "what is read begins like server-sent events: say --sse, or --no-sse where it is a text"
            raise InvalidInput("guard.unknown_chunk", told, field="sse")
        kept.append(piece)
        length += len(piece)
        if prelude.is_over or length > _READ_BYTES:
            yield from kept
            kept = []
        if prelude.is_over:
            break
    yield from kept
    yield from pieces


def _sources(parsed: argparse.Namespace) -> tuple[dict[str, Path], str | None]:
    """The files of rules by what they are called, and what is read. Beside --set the only path is what is read."""
    sources, name = {each: _set(each) for each in parsed.sets}, parsed.input
    if sources and name is None:
        name = parsed.rules
        if name is not None and Path(name).suffix.lower() == ".toml":
            # Most likely rules: they would come out as if they were the input, and what was to be guarded would not.
            message = (
                "rules come from a file or from --set, not both; "
                f"if {name} is what is to be guarded, give it as standard input"
            )
            raise Usage("cli.usage", message, option="--set")
    elif sources:
        raise Usage("cli.usage", "beside --set only what is read is named (see decidable guard --help)")
    elif parsed.rules is not None:
        file = present(Path(parsed.rules), "a file of rules")
        if file.is_dir():
            raise _unreadable(parsed.rules, "is a directory")
        sources = {parsed.rules: file}
    elif parsed.held:
        sources = {each: set_file(each) for each in SETS}
    else:
        raise Usage("cli.usage", "name a file of rules, or --set NAME (see decidable guard --help)")
    return sources, name


def _set(name: str) -> Path:
    """The file of a set, of which each has an option of its own."""
    try:
        return set_file(name)
    except InvalidInput as error:
        if "," not in name:
            raise
        message = f"{error.message}; --set NAME is repeated, once for each set"
        raise InvalidInput(error.code, message, **error.details) from None


_DONE: Final = {"redact": "replaced", "record": "noted"}


def _document(guarded: _Text | _Events, released: int) -> dict[str, Any]:
    reason = guarded.stopped
    stopped: dict[str, Any] | None = None
    if reason is not None:
        stopped = {"kind": reason.kind, "rule": reason.rule, "start": reason.start, "end": reason.end}
        if isinstance(guarded, _Events):
            stopped |= {"choice": reason.choice, "channel": reason.channel}
    return _found(guarded, released) | {"stopped": stopped}


def _found(guarded: _Text | _Events, released: int) -> dict[str, Any]:
    """What came out and what was found, whether the stream came to its end or not."""
    document = {
        "released_bytes": released,
        "matches": [
            {"rule": rule, "action": action, "times": times} for (rule, action), times in sorted(guarded.found.items())
        ],
    }
    if isinstance(guarded, _Events):
        document["matches_dropped"] = guarded.dropped
    return document


def _pieces(name: str, *, copied: bool = False) -> Iterator[bytes]:
    """What there is to read, as it comes; ``copied``: to standard output, all the while."""
    if name == "-":
        if sys.stdin is None:
            raise Usage("cli.unusable_file", "standard input is closed", path=name)
        if copied:
            refuse_own_output(sys.stdin, name)
        yield from pieces_of_standard_input(_READ_BYTES)
        return
    try:
        with present(Path(name)).open("rb", buffering=0) as file:
            if copied:
                refuse_own_output(file, name)
            while piece := file.read(_READ_BYTES):
                yield piece
    except OSError as error:
        raise _unreadable(name, (error.strerror or str(error)).lower()) from None


def _unreadable(name: str, why: str) -> Usage:
    return Usage("cli.unusable_file", f"{name} cannot be read: {why}", path=name)


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


def _test(sources: dict[str, Path], screen: Screen) -> int:
    """The examples of each rule."""
    failed: list[Failed] = []
    often = Counter[str]()
    for path in sources.values():
        found, tried = failing(path)
        failed += found
        # Not by adding: that would drop those that have none.
        often.update(tried)
    without = [rule for rule, tried in often.items() if not tried]
    if len(without) == len(often):
        message = f"there is nothing to test: none of {counted(len(often), 'rule')} has examples (matches, passes)"
        raise Usage("cli.no_examples", message)
    if screen.as_json:
        screen.emit({
            "examples": often.total(),
            "without_examples": without,
            "failed": [
                {"rule": each.rule, "text": each.text, "should_match": each.should_match} for each in failed
            ],
        })  # fmt: skip
    else:
        for each in failed:
            screen.line(f"{each.rule}: {'does not match' if each.should_match else 'matches'} {each.text!r}")
        for rule in without:
            screen.line(f"{rule}: has no examples")
        kept = "" if failed else ", all kept"
        of_rules = counted(len(often) - len(without), "rule")
        screen.line(f"{counted(often.total(), 'example')} of {of_rules}{kept}")
    return FAILED if failed else FINE


def _held(sources: dict[str, Path], name: str | None, screen: Screen) -> int:
    """What the rules of each source hold back of a text."""
    measures = {}
    for source, path in sources.items():
        with naming(path):
            rules = read_rules(path)
            measures[source] = Measure(rules), rules
    code_points = 0
    for text in [_help_of_python()] if name is None else _decoded(_pieces(name)):
        code_points += len(text)
        for measure, _ in measures.values():
            measure.push(text)
    found = {source: measure.finish() for source, (measure, _) in measures.items()}
    # Beside Python's help, which has few commands, dates and numbers, a text that has them.
    everyday = EVERYDAY.read_text(encoding="utf-8") if name is None else None
    in_everyday = {} if everyday is None else {source: held(rules, everyday) for source, (_, rules) in measures.items()}
    if screen.as_json:
        document = {"code_points": code_points, "sets": {source: asdict(each) for source, each in found.items()}}
        if everyday is not None:
            of_sets = {source: asdict(each) for source, each in in_everyday.items()}
            document["everyday"] = {"code_points": len(everyday), "sets": of_sets}
        screen.emit(document)
        return FINE
    screen.line(f"{count(code_points)} code points; held after each of them, in code points")
    if everyday is not None:
        screen.line(
            f"everyday: matches in a text of {count(len(everyday))} code points with commands, dates and numbers"
        )
    columns = ["rules", "#p50", "#p99", "#most", "#share of positions", "#matches"]
    rows = [
        [source, *map(count, (each.p50, each.p99, each.most)), _share(each), count(each.matches)]
        for source, each in found.items()
    ]
    if everyday is not None:
        columns.append("#everyday")
        for row in rows:
            row.append(count(in_everyday[row[0]].matches))
    screen.table(columns, rows)
    return FINE


def _decoded(pieces: Iterator[bytes]) -> Iterator[str]:
    """Text, wherever its code points are cut; what is no UTF-8 stands there as U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _share(found: Held) -> str:
    """The positions at which something is held, in percent with one decimal, rounded down."""
    tenths = found.holding * 1000 // found.positions if found.positions else 0
    return f"{tenths // 10}.{tenths % 10}%"


def _help_of_python() -> str:
    """What `help()` says of Python itself: half a million characters of prose and code that are everywhere."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise Usage(
            "cli.missing_file", "this Python comes without the text of its help; name a FILE", path=""
        ) from None
    return "\n".join(topics[name] for name in sorted(topics))
