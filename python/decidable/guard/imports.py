"""Rules written for others: gitleaks' file, and the patterns that LiteLLM ships. What is taken, what not, and why.

Both write patterns in syntaxes that differ from ours in places where the same characters mean something else. A pattern
is written again, so that it means what it meant, or it is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from decidable._native import Automaton, Rule
from decidable.errors import InvalidInput
from decidable.guard.files import place_of, read_text, read_toml, refuse_unknown, unparsed

__all__ = ["Imported", "LeftOut", "Refused", "from_gitleaks", "from_litellm_patterns"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A rule that was not taken."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of a rule that was taken is not: without it the rule may match more than it did, and not less."""

    rule: str
    part: str
    why: str


@dataclass(frozen=True, slots=True)
class Imported:
    """The rules of a file that are taken, those that are not, and what of the former is left out."""

    rules: tuple[Rule, ...]
    refused: tuple[Refused, ...]
    left_out: tuple[LeftOut, ...]


class _Untaken(Exception):
    """Why a rule is not taken."""


# --- gitleaks -----------------------------------------------------------------------------------------------------

_GITLEAKS_PARTS: Final = {
    "entropy": "how random a text looks is not decided by a table of states",
    "allowlist": "exceptions are not looked at",
    "allowlists": "exceptions are not looked at",
    "path": "a stream is no file",
    "secretGroup": "the whole match is what is stopped or replaced",
    "keywords": "the pattern alone decides",
}
_GITLEAKS_WORDS: Final = {"id", "description", "regex", "tags", "skipReport"}


def from_gitleaks(path: str | os.PathLike[str], *, action: str = "stop") -> Imported:
    """Reads the rules of a gitleaks file (TOML, ``[[rules]]`` with ``id`` and ``regex``).

    Entropy, allowlists, paths, keywords and groups are not taken, so a rule may match what gitleaks lets pass:
    ``left_out`` names them. A rule without a pattern, or that takes another rule to count, is refused.

    Raises:
        InvalidInput: ``guard.unreadable``: the file is none of gitleaks. ``input.wrong_type``: ``path`` is none.
            ``guard.unknown_action``.
    """
    file = place_of(path)
    refuse_unknown(action=action)
    document = read_toml(file)
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, dict) for rule in rules):
        raise _unreadable(file, "has no [[rules]]")
    if not any("id" in rule for rule in rules):
        raise _unreadable(file, "has no rule of gitleaks, which has an id")
    taken: list[Rule] = []
    refused = [Refused("extend", "rules of other files are read from those files")] if "extend" in document else []
    left_out = []
    for number, rule in enumerate(rules, 1):
        name = rule.get("id") if isinstance(rule.get("id"), str) and rule["id"] else f"rule {number}"
        try:
            if not isinstance(rule.get("regex", ""), str):
                raise _Untaken(f"its regex is no text, but {type(rule['regex']).__name__}")
            if not rule.get("regex"):
                raise _Untaken("it has no pattern, and looks at paths alone")
            unknown = sorted(rule.keys() - _GITLEAKS_PARTS.keys() - _GITLEAKS_WORDS)
            if unknown:
                raise _Untaken(f"what it means by {unknown[0]} is not taken, and without it the rule is another")
            pattern = _without_optional_beginning(rule["regex"])
            taken.append(_rule(name, _written_again(pattern, _GO), action, taken))
        except _Untaken as reason:
            refused.append(Refused(name, str(reason)))
            continue
        if pattern != rule["regex"]:
            left_out.append(LeftOut(name, "an optional beginning", "a match begins where what it needs begins"))
        left_out += [LeftOut(name, part, why) for part, why in _GITLEAKS_PARTS.items() if rule.get(part)]
    for part in ("allowlist", "allowlists"):
        if part in document:
            left_out += [LeftOut(rule.name, f"the file's {part}", _GITLEAKS_PARTS[part]) for rule in taken]
    return Imported(tuple(taken), tuple(refused), tuple(left_out))


_OPTIONAL_CLASS: Final = re.compile(r"\[\^?(?:[^\]\\]|\\.)+\]\{0,\d+\}\??")
_FLAGS: Final = re.compile(r"\(\?i\)|(?P<group>\(\?i:)")
_CLASS: Final = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]")


def _without_optional_beginning(pattern: str) -> str:
    """A pattern without the class that it may begin with: its matches end at the same places, with far fewer states."""
    place = 0
    while found := _FLAGS.match(pattern, place) or _OPTIONAL_CLASS.match(pattern, place):
        if found.re is _OPTIONAL_CLASS:
            pattern = pattern[:place] + pattern[found.end() :]
            continue
        # In a group that is repeated it would be gone from between the repetitions.
        if found["group"] and pattern[_closing(pattern, place) :][:1] in ("*", "+", "?", "{"):
            break
        place = found.end()
    return pattern


def _closing(pattern: str, place: int) -> int:
    """Where the group that opens at `place` has ended."""
    depth = 0
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            place += 2
            continue
        if character == "[" and (found := _CLASS.match(pattern, place)):
            place = found.end()
            continue
        depth += (character == "(") - (character == ")")
        place += 1
        if depth == 0:
            break
    return place


# --- LiteLLM ------------------------------------------------------------------------------------------------------

_LITELLM_FILE: Final = Path("proxy", "guardrails", "guardrail_hooks", "litellm_content_filter", "patterns.json")


def from_litellm_patterns(path: str | os.PathLike[str] | None = None, *, action: str = "stop") -> Imported:
    """Reads the prebuilt patterns of LiteLLM's content filter: a ``patterns.json``, or that of the installed package.

    They match in either case, as there. A pattern with look-around is refused, and one that counts only near a keyword.

    Raises:
        InvalidInput: ``guard.unreadable``: no file is named and litellm is not installed, or it is another file.
            ``input.wrong_type``: ``path`` is none. ``guard.unknown_action``.
    """
    file = _installed() if path is None else place_of(path)
    refuse_unknown(action=action)
    text = read_text(file)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unparsed(file, "JSON", error) from error
    patterns = document.get("patterns") if isinstance(document, dict) else None
    if not isinstance(patterns, list) or not patterns or not all(_is_pattern(pattern) for pattern in patterns):
        raise _unreadable(file, "has no patterns with name and pattern")
    taken: list[Rule] = []
    refused = []
    for pattern in patterns:
        # JSON has names that no line can show, and no rule can have.
        name = pattern["name"].encode(errors="backslashreplace").decode()
        try:
            if pattern.get("keyword_pattern"):
                raise _Untaken("it counts only near a keyword, and alone it would match any number or word of its form")
            taken.append(_rule(name, f"(?i){_written_again(pattern['pattern'], _PYTHON)}", action, taken))
        except _Untaken as reason:
            refused.append(Refused(name, str(reason)))
    return Imported(tuple(taken), tuple(refused), ())


def _is_pattern(pattern: Any) -> bool:
    return isinstance(pattern, dict) and all(isinstance(pattern.get(word), str) for word in ("name", "pattern"))


def _installed() -> Path:
    found = find_spec("litellm")
    if found is None or found.origin is None:
        raise InvalidInput("guard.unreadable", "litellm is not installed; name its patterns.json", path="litellm")
    return Path(found.origin).parent / _LITELLM_FILE


# --- both ---------------------------------------------------------------------------------------------------------


def _unreadable(file: Path, why: str) -> InvalidInput:
    return InvalidInput("guard.unreadable", f"{file} {why}", path=str(file))


def _rule(name: str, pattern: str, action: str, taken: list[Rule]) -> Rule:
    """A rule that compiles by itself."""
    if any(rule.name == name for rule in taken):
        raise _Untaken("there is another of this name")
    try:
        rule = Rule.regex(pattern, action=action, name=name)
        Automaton([rule])
    except InvalidInput as error:
        raise _Untaken(error.message.removeprefix(f'rule "{name}": ')) from error
    return rule


# --- patterns of other syntaxes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Syntax:
    """Where a syntax differs from that of Rust's crate `regex`, which is ours."""

    spaces: str
    """What `\\s` is: ours has the vertical tab too."""
    open_from: bool
    """Whether `{,5}` repeats; otherwise it is five characters of text."""
    quotes: bool
    """Whether `\\Q…\\E` quotes."""
    end: str | None
    """What `$` is, or None where no pattern of ours is the same."""
    escapes: Mapping[str, str]
    """Escapes that mean something else with us, or nothing."""


_GO: Final = _Syntax(spaces=r"\t\n\f\r ", open_from=False, quotes=True, end="$", escapes={})
_PYTHON: Final = _Syntax(spaces=r"\t-\r\x1c-\x1f ", open_from=True, quotes=False, end=None, escapes={"Z": r"\z"})

_REPETITION: Final = re.compile(r"\{(\d+)(?:,\d*)?\}")
_OPEN_REPETITION: Final = re.compile(r"\{,(\d+)\}")
_OCTAL: Final = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_VERBOSE: Final = re.compile(r"\(\?[a-zA-Z]*x")
_LOOKS: Final = ("(?=", "(?!", "(?<=", "(?<!")


def _written_again(pattern: str, syntax: _Syntax) -> str:
    """The pattern in our syntax, meaning what it means in its own."""
    return "".join(_pieces(pattern, syntax))


def _pieces(pattern: str, syntax: _Syntax) -> Iterator[str]:
    place, inside, first = 0, False, False
    repeated = False
    while place < len(pattern):
        at, character = place, pattern[place]
        place += 1
        if character == "\\":
            piece, place = _escape(pattern, at, syntax, inside)
            yield piece
        elif inside:
            if character == "]" and not first:
                inside = False
                yield character
            elif character == "[":
                named = re.compile(r"\[:\^?[a-z]+:\]").match(pattern, at)
                place = named.end() if named else place
                yield named[0] if named else r"\["
            else:
                yield _in_class(pattern, at, first)
        elif character == "[":
            inside = True
            negated = pattern.startswith("^", place)
            place += negated
            yield "[^" if negated else "["
            first = True
            continue
        elif character == "{":
            known = _REPETITION.match(pattern, at)
            opened = _OPEN_REPETITION.match(pattern, at) if syntax.open_from else None
            if known or opened:
                end = (known or opened).end()  # type: ignore[union-attr]
                yield known[0] if known else f"{{0,{opened[1]}}}"  # type: ignore[index]
                place = end
            else:
                yield r"\{"
            repeated = bool(known or opened)
            _refuse_possessive(pattern, place, repeated, syntax)
            continue
        elif character == "(" and pattern.startswith(_LOOKS, at):
            raise _Untaken(f"look-around at byte {len(pattern[:at].encode())} is not supported")
        elif character == "(" and (
            pattern.startswith(("(?>", "(?(", "(?#", "(?P="), at) or _VERBOSE.match(pattern, at)
        ):
            raise _Untaken(f"{pattern[at : at + 3]} at byte {len(pattern[:at].encode())} is not in our syntax")
        elif character == "$":
            if syntax.end is None:
                raise _Untaken("its $ is also before a last line feed, which takes looking ahead")
            yield syntax.end
        else:
            yield character
            _refuse_possessive(pattern, place, character in "*+?", syntax)
        first = False


def _refuse_possessive(pattern: str, place: int, repeated: bool, syntax: _Syntax) -> None:
    if repeated and syntax is _PYTHON and pattern.startswith("+", place):
        raise _Untaken(f"a possessive repetition at byte {len(pattern[:place].encode())} is not in our syntax")


def _in_class(pattern: str, at: int, first: bool) -> str:
    """A character of a class as text, or as the `-` of a range. With us `&&`, `--` and `~~` are operators."""
    character = pattern[at]
    if character in "&~" or (character in "]^" and first):
        return f"\\{character}"
    if character == "-":
        if pattern.startswith("-", at + 1) or (pattern[at - 1] == "-" and not first):
            raise _Untaken(f"a range from or to - at byte {len(pattern[:at].encode())} is not taken")
        if first or pattern[at - 2 : at].lower() in (r"\d", r"\s", r"\w"):
            return r"\-"
    return character


def _escape(pattern: str, at: int, syntax: _Syntax, inside: bool) -> tuple[str, int]:
    """An escape in our syntax, and where it ends."""
    letter = pattern[at + 1 : at + 2]
    place = at + 2
    if letter in ("s", "S"):
        if inside:
            return (syntax.spaces, place) if letter == "s" else (f"[^{syntax.spaces}]", place)
        return f"[{'^' if letter == 'S' else ''}{syntax.spaces}]", place
    if letter == "Q" and syntax.quotes:
        end = pattern.find("\\E", place)
        quoted = pattern[place:] if end < 0 else pattern[place:end]
        return re.escape(quoted), len(pattern) if end < 0 else end + 2
    if letter == "b" and inside:
        if syntax is _PYTHON:
            return r"\x08", place
        raise _Untaken("a word boundary in a class is not in our syntax")
    octal = _OCTAL.match(pattern, at + 1)
    if octal:
        return f"\\x{{{int(octal[0], 8):x}}}", octal.end()
    if letter in syntax.escapes:
        return syntax.escapes[letter], place
    # With us these are borders of words, there they are themselves.
    if letter in ("<", ">"):
        return letter, place
    if letter == "b" and pattern.startswith("{", place):
        return r"\b\{", place + 1
    if letter in ("x", "p", "P", "u", "N", "U"):
        whole = re.compile(r"\\(?:[xpPuNU]\{[^}]*\}|x[0-9A-Fa-f]{2}|[pP][A-Z]|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})")
        found = whole.match(pattern, at)
        if found:
            return found[0], found.end()
    if letter.isalpha() and letter.isascii() and letter not in "dDwWbBAzafnrtvpPxuU":
        raise _Untaken(f"\\{letter} at byte {len(pattern[:at].encode())} is not in our syntax")
    return f"\\{letter}", place
