"""Files of rules: TOML to :class:`~decidable.guard.Rule`, with the place of whatever cannot be read."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from decidable._native import LONGEST_PATTERN_BYTES, Automaton, Rule
from decidable.builders import suggestion
from decidable.errors import InvalidInput
from decidable.guard.faults import wrong_kind

__all__ = [
    "MOST_FILE_BYTES",
    "MOST_KEY_PARTS",
    "Written",
    "naming",
    "place_of",
    "read_rules",
    "read_text",
    "read_toml",
    "read_written",
    "refuse_unknown",
    "unparsed",
]

MOST_FILE_BYTES: Final = 16 << 20
"""How long a file of rules may be: as many rules as a guard can have, of 256 bytes each. So long are its patterns
together, too, with what is defined in its place."""
MOST_KEY_PARTS: Final = 32
"""How many parts a key in TOML may have: `tomllib` takes time with the square of them."""

_FIELDS: Final = {"name", "literal", "regex", "action", "replacement", "severity", "ignore_case", "reads", "check"}
_EXAMPLES: Final = ("matches", "passes")
_PARTS: Final = re.compile(
    r"\\.|\(\?&(?P<name>\w*)\)|\[\^?\]?|\((?:(?=\?(?P<flags>[A-Za-z]+)[A-Za-z-]*[:)])|\?P?<[^=!>][^>]*>)?|\)",
    re.ASCII,
)
"""What a pattern has of definitions, of escapes, of groups and classes. In the name of a group a bracket is none."""
_IN_CLASS: Final = re.compile(r"\\.|\(\?&(?P<name>\w*)\)|\[\^?\]?|\]", re.ASCII)
"""The same within a class, where a bracket that opens begins another."""
_TOML: Final = re.compile(
    r'''"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}|'{3}(?:[^']++|'{1,2}(?!'))*+'{3,5}'''
    r"""|"(?:[^"\\\n]++|\\[^\n])*+"|'[^'\n]*+'|\#[^\n]*+|(?P<dot>\.)|(?P<open>["'])|(?P<end>[\n=,\[\]{}])""",
    re.DOTALL,
)
"""What a file in TOML has of strings, comments, dots, quotes of strings without an end, and what ends a key."""
_ALONE: Final = "x|y(?:"
"""Behind what a definition is compiled by itself: it may match the empty text, and stands at no end of a pattern."""


class Written(NamedTuple):
    """A rule as it stands in a file, with its examples: each a text in the pieces in which a stream gives it."""

    rule: Rule
    matches: tuple[tuple[str, ...], ...]
    passes: tuple[tuple[str, ...], ...]


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Where the rules of a file are compiled: a fault of theirs names the file."""
    try:
        yield
    except InvalidInput as error:
        if not error.code.startswith("guard.") or error.details.get("path") is not None:
            raise
        file = os.fspath(path)
        raise InvalidInput(error.code, f"{file}: {error.message}", **error.details | {"path": file}) from error


def read_rules(path: str | os.PathLike[str]) -> list[Rule]:
    """The rules of a TOML file, without their examples."""
    return [written.rule for written in read_written(path)]


def refuse_unknown(**said: Any) -> None:
    """Refuses what no rule can have: it is the caller's fault, and none of the rules in a file."""
    Rule.literal("any", **said)


def place_of(path: object) -> Path:
    """Where a file is.

    Raises:
        InvalidInput: ``input.wrong_type``: it is no path.
    """
    try:
        if isinstance(path, (str, os.PathLike)):
            return Path(path)
    except TypeError:
        # One of bytes is none here, as bytes are none.
        pass
    raise wrong_kind("a path", path, "path")


def unparsed(file: Path, language: str, error: Exception) -> InvalidInput:
    """The fault of a text that is none of its language, or has what Python does not read."""
    # Python's own words name settings of the interpreter.
    if isinstance(error, RecursionError):
        why = "is nested too deeply"
    elif "max_str_digits" in str(error):
        why = "cannot be read: an integer has more digits than any that is read"
    else:
        why = f"is no {language}: {error}"
    return InvalidInput("guard.unreadable", f"{file} {why}", path=str(file))


def read_text(file: Path) -> str:
    """The text of a file, no more of it than one of rules may have.

    Raises:
        InvalidInput: ``guard.unreadable``, with the file; ``guard.too_large``.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        # A name that the system cannot have is a value error.
        why = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise InvalidInput("guard.unreadable", f"{file} cannot be read: {why}", path=str(file)) from error
    if len(raw) > MOST_FILE_BYTES:
        raise InvalidInput("guard.too_large", f"{file} is longer than {MOST_FILE_BYTES} bytes", path=str(file))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput("guard.unreadable", f"{file} is no text: {error}", path=str(file)) from error


def read_toml(file: Path) -> dict[str, Any]:
    """A file in TOML.

    Raises:
        InvalidInput: ``guard.unreadable``, with the file; ``guard.too_large``.
    """
    text = read_text(file)
    dots = 0
    for found in _TOML.finditer(text):
        if found["dot"]:
            dots += 1
            if dots >= MOST_KEY_PARTS:
                line = text.count("\n", 0, found.start()) + 1
                message = f"{file}, line {line}: a key has at most {MOST_KEY_PARTS} parts"
                raise InvalidInput("guard.unreadable", message, path=str(file))
        elif found["end"]:
            dots = 0
        elif found["open"]:
            # Whoever reads the file comes no further.
            break
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise unparsed(file, "TOML", error) from error


def read_written(path: str | os.PathLike[str], action: str | None = None, reads: str | None = None) -> list[Written]:
    """A TOML file of ``[[rules]]`` and of what they ``[define]``; ``action`` and ``reads``, if given, are those of all.

    Raises:
        InvalidInput: ``guard.unreadable``, with the file and the number of the rule; ``path`` is none.
    """
    file = place_of(path)
    document = read_toml(file)
    rules, define = document.pop("rules", None), document.pop("define", {})
    if not document and not rules:
        # It would guard against nothing, without a word.
        raise InvalidInput("guard.unreadable", f"{file} has no rules", path=str(file))
    if document or not isinstance(rules, list):
        other = next(iter(document), None)
        why = f"; {other} is something else{suggestion(other, ['rules', 'define'])}" if other is not None else ""
        message = f"{file} must consist of [[rules]], a [define] for them, and nothing else{why}"
        raise InvalidInput("guard.unreadable", message, path=str(file))
    room = _Room(MOST_FILE_BYTES)
    defined = _definitions(file, define, room)
    of_all = {name: value for name, value in (("action", action), ("reads", reads)) if value is not None}
    return [_read(file, number, rule, of_all, defined, room) for number, rule in enumerate(rules, 1)]


@dataclass(slots=True)
class _Room:
    """How many bytes the patterns of a file may still take, with what is defined in its place."""

    left: int


def _definitions(file: Path, define: Any, room: _Room) -> Mapping[str, str]:
    """The pieces of patterns that have a name. Each may have those above it, so that none has itself."""
    defined: dict[str, str] = {}
    for name, pattern in define.items() if isinstance(define, dict) else [("define", None)]:

        def fault(why: str, name: str = name) -> InvalidInput:
            return InvalidInput("guard.unreadable", f"{file}, {ascii(name)[1:-1]}: {why}", path=str(file))

        if not isinstance(pattern, str):
            raise fault("what is defined must be a table of patterns")
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise fault("a name in [define] consists of letters, digits and _")
        if _has_comments(pattern):
            raise fault(
                "a definition has no flag x, because a comment may have a bracket of its own, or hide one of others"
            )
        defined[name] = _expanded(pattern, defined, room, fault)
        # As it is written: what it has by name was looked at where that is defined.
        if not _is_group(pattern):
            raise fault("a definition must have its brackets in pairs")
        if group := _named_group(pattern):
            why = "names a group, of which a pattern that has the definition twice would have two"
            raise fault(f"{group} {why}; leave the name of the group out")
        _compiled(name, pattern, fault)
    return defined


def _compiled(name: str, pattern: str, fault: Callable[[str], InvalidInput]) -> None:
    """A definition by itself, also one that no rule has: what is wrong with it is told with its name."""
    # What it has by name was compiled where that is defined: a group as long stands in its place.
    pattern = re.sub(r"(?<!\\)((?:\\\\)*)\(\?&(\w*)\)", lambda found: f"{found[1]}(?:{'x' * len(found[2])})", pattern)
    try:
        Automaton([Rule.regex(f"{_ALONE}{pattern})", name=name, reads="exact")])
    except InvalidInput as error:
        # How large it is, and whether it can match, depends on where it stands.
        if error.code in ("guard.syntax", "guard.unsupported"):
            why = error.message.removeprefix(f'rule "{name}": ')
            why = re.sub(r"(?<=at byte )\d+", lambda place: str(int(place[0]) - len(_ALONE)), why)
            raise fault(why) from error


def _has_comments(pattern: str) -> bool:
    """Whether a pattern may have comments, in which a bracket is none: the flag `x`, in whatever spelling."""
    return any(not classes and "x" in (found["flags"] or "") for found, classes in _parts(pattern))


def _named_group(pattern: str) -> str | None:
    """How the first group begins that a pattern has with a name, if one has."""
    begun = (found[0] for found, classes in _parts(pattern) if not classes)
    return next((part for part in begun if part.startswith(("(?P<", "(?<"))), None)


def _expanded(pattern: str, defined: Mapping[str, str], room: _Room, fault: Callable[[str], InvalidInput]) -> str:
    """A pattern with what it has by name, as a group each."""

    def group(found: re.Match[str], classes: int) -> str:
        name = found["name"]
        if classes:
            raise fault(f"(?&{name}) stands in a class, where it is a list of characters")
        if name not in defined:
            raise fault(f"(?&{name}) is not defined{suggestion(name, defined)}")
        return f"(?:{defined[name]})"

    if _has_comments(pattern) and any(found["name"] is not None for found, _ in _parts(pattern)):
        raise fault("what has a flag x has no definitions, because a comment may hide them, or a bracket of theirs")
    # Each is so long at most, and all of a file together as long as it may be.
    if len(pattern.encode()) <= LONGEST_PATTERN_BYTES:
        pieces, done = [], 0
        for found, classes in _parts(pattern):
            if found["name"] is not None:
                pieces += [pattern[done : found.start()], group(found, classes)]
                done = found.end()
        pattern = "".join([*pieces, pattern[done:]])
    if len(pattern.encode()) > LONGEST_PATTERN_BYTES:
        raise fault(f"a pattern takes at most {LONGEST_PATTERN_BYTES} bytes, with what is defined in its place")
    room.left -= len(pattern.encode())
    if room.left < 0:
        raise fault(f"the patterns of a file take at most {MOST_FILE_BYTES} bytes, with what is defined in its place")
    return pattern


def _parts(pattern: str) -> Iterator[tuple[re.Match[str], int]]:
    """The parts of a pattern, each with in how many classes it stands."""
    classes = at = 0
    while found := (_IN_CLASS if classes else _PARTS).search(pattern, at):
        yield found, classes
        at = found.end()
        classes += found[0].startswith("[") - (found[0] == "]")


def _is_group(pattern: str) -> bool:
    """Whether a pattern may stand in brackets: those that it has are pairs."""
    classes = groups = 0
    for found, within in _parts(pattern):
        classes = within + found[0].startswith("[") - (found[0] == "]")
        groups += (found[0].startswith("(") and found["name"] is None) - (found[0] == ")") if not within else 0
        if groups < 0:
            return False
    return not groups and not classes


def _read(
    file: Path, number: int, rule: Any, of_all: Mapping[str, str], defined: Mapping[str, str], room: _Room
) -> Written:
    """A rule of a file, with what is so of all."""

    called = rule.get("name") if isinstance(rule, dict) else None
    # As far as it is one that a line can show.
    named = f' "{called}"' if isinstance(called, str) and called.isprintable() and 0 < len(called) <= 60 else ""

    def fault(why: str) -> InvalidInput:
        return InvalidInput("guard.unreadable", f"{file}, rule {number}{named}: {why}", path=str(file), rule=number)

    if not isinstance(rule, dict):
        raise fault("it must be a table")
    known = _FIELDS | {*_EXAMPLES}
    unknown = sorted(rule.keys() - known)
    if unknown:
        raise fault(f"{unknown[0]} is not a field of a rule{suggestion(unknown[0], known)}")
    texts = {name: _texts(rule.pop(name, [])) for name in _EXAMPLES}
    for name, each in texts.items():
        if each is None:
            raise fault(f"{name} must be a list of texts, or of lists of the pieces of one")
    if "replacement" in rule and rule.get("action", "stop") == "stop":
        raise fault('replacement is for action = "redact"; without an action a rule stops')
    rule |= of_all
    if ("literal" in rule) == ("regex" in rule):
        raise fault("it must have either literal or regex")
    for name in ("literal", "regex"):
        if not isinstance(rule.get(name, ""), str):
            raise fault(f"{name} must be a str, not {type(rule[name]).__name__}")
    rest = {name: value for name, value in rule.items() if name not in ("literal", "regex")}
    if "regex" in rule and "ignore_case" in rest:
        raise fault("ignore_case is for literals; a regex says (?i)")
    if "literal" in rule and "check" in rest:
        raise fault("check is for regexes; a literal is one number that passes or does not")
    pattern = _expanded(rule["regex"], defined, room, fault) if "regex" in rule else ""
    try:
        made = Rule.regex(pattern, **rest) if "regex" in rule else Rule.literal(rule["literal"], **rest)
    except InvalidInput as error:
        raise fault(error.message) from error
    return Written(made, texts["matches"] or (), texts["passes"] or ())


def _texts(listed: Any) -> tuple[tuple[str, ...], ...] | None:
    """Examples in their pieces, or None where they are something else."""
    if not isinstance(listed, list):
        return None
    texts = [[each] if isinstance(each, str) else each for each in listed]
    if not all(isinstance(each, list) and all(isinstance(piece, str) for piece in each) for each in texts):
        return None
    return tuple(tuple(each) for each in texts)
