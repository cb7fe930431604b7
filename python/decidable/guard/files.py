"""Files of rules: TOML to :class:`~decidable.guard.Rule`, with the place of whatever cannot be read."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

from decidable._native import Rule
from decidable.builders import suggestion
from decidable.errors import InvalidInput

__all__ = ["read_rules"]

_FIELDS: Final = {"name", "literal", "regex", "action", "replacement", "ignore_case", "reads", "check"}


def read_rules(path: str | os.PathLike[str]) -> list[Rule]:
    """The rules of a TOML file that consists of ``[[rules]]`` and nothing else.

    Raises:
        InvalidInput: ``guard.unreadable``, with the file and the number of the rule.
    """
    file = Path(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput("guard.unreadable", f"{file} cannot be read: {error.strerror}", path=str(file)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput("guard.unreadable", f"{file} is no TOML: {error}", path=str(file)) from error
    rules = document.pop("rules", None)
    if document or not isinstance(rules, list):
        raise InvalidInput("guard.unreadable", f"{file} must consist of [[rules]] and nothing else", path=str(file))
    return [_read(file, number, rule) for number, rule in enumerate(rules, 1)]


def _read(file: Path, number: int, rule: Any) -> Rule:
    """A rule of a file."""

    def fault(why: str) -> InvalidInput:
        return InvalidInput("guard.unreadable", f"{file}, rule {number}: {why}", path=str(file), rule=number)

    if not isinstance(rule, dict):
        raise fault("it must be a table")
    unknown = sorted(rule.keys() - _FIELDS)
    if unknown:
        raise fault(f"{unknown[0]} is not a field of a rule{suggestion(unknown[0], _FIELDS)}")
    if ("literal" in rule) == ("regex" in rule):
        raise fault("it must have either literal or regex")
    rest = {name: value for name, value in rule.items() if name not in ("literal", "regex")}
    if "regex" in rule and "ignore_case" in rest:
        raise fault("ignore_case is for literals; a regex says (?i)")
    if "literal" in rule and "check" in rest:
        raise fault("check is for regexes; a literal is one number that passes or does not")
    try:
        return Rule.literal(rule["literal"], **rest) if "literal" in rule else Rule.regex(rule["regex"], **rest)
    except InvalidInput as error:
        raise fault(error.message) from error
