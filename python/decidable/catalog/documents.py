"""Files that people and programs write, read strictly: TOML and JSON with decimals, and errors that say where."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from decidable.builders import describe
from decidable.errors import DecidableError, InvalidInput

Source: TypeAlias = str | os.PathLike[str]

MAX_FILE_BYTES: Final = 64 * 2**20
"""A larger file is refused: it is no catalog and no price map."""


def read(path: Path) -> bytes:
    """The bytes of a file, or an :class:`InvalidInput` that names it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        # A name that the system cannot have is a value error: it has a NUL, or is no valid Unicode.
        reason = (error.strerror if isinstance(error, OSError) else "no file has such a name") or type(error).__name__
        raise InvalidInput(
            "catalog.unreadable", f"{path} cannot be read: {reason.lower()}", path=str(path), reason=reason
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidInput("catalog.too_large", f"{path} is larger than {MAX_FILE_BYTES:,} bytes", path=str(path))
    return raw


def parse(raw: bytes, path: Path) -> tuple[dict[str, Any], Place]:
    """A document and the means to say where in it something stands. TOML if the file is named so, else JSON."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _malformed(path, f"not UTF-8 at byte {error.start}") from error
    is_toml = path.suffix.lower() == ".toml"
    try:
        document = tomllib.loads(text, parse_float=Decimal) if is_toml else _json(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise _malformed(path, "the file is empty") from error
        raise _malformed(path, json_fault(error), line=error.lineno) from error
    except tomllib.TOMLDecodeError as error:
        raise _malformed(path, f"not TOML: {_lowered(str(error))}") from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise _malformed(path, _reason(error)) from error
    if not isinstance(document, dict):
        raise _malformed(path, "not a JSON object")
    return document, Place(path.name, text if is_toml else None)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    # Python's own words name a setting of the interpreter.
    return "an integer has more digits than any that is read" if "max_str_digits" in str(error) else str(error)


def json_fault(error: json.JSONDecodeError) -> str:
    """What is wrong with a text that is not JSON, without the place."""
    return f"not JSON ({_lowered(error.msg)})"


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _json(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {describe(twice)} is there twice")
    return table


def _malformed(path: Path, reason: str, *, line: int | None = None) -> InvalidInput:
    where = f"{path}" if line is None else f"{path}, line {line}"
    return InvalidInput("catalog.malformed", f"{where}: {reason}", path=str(path), reason=reason)


class Place:
    """A document's name and text, to say where something stands in it: file, line, table, key.

    ``toml`` is the text of a TOML document. Of any other, places are told as in JSON, and without a line.
    """

    def __init__(self, file: str, toml: str | None = None) -> None:
        self.file = file
        self._toml = toml is not None
        self._lines = (toml or "").splitlines()

    @property
    def table(self) -> str:
        """What such a document calls keys with values."""
        return "a table" if self._toml else "an object"

    @property
    def models(self) -> str:
        """How a list of models is written."""
        return "write [[models]] and name = ..." if self._toml else 'write "models": [{"name": ...}, ...]'

    @property
    def numbered(self) -> str:
        """How the name of a number is written."""
        return "a number = a name in quotes" if self._toml else "a number in quotes: a name in quotes"

    def header(self, table: str, index: int | None = None) -> str:
        """How a table, or entry ``index`` of a list of tables, is called in such a document."""
        if not self._toml:
            return table if index is None else f"entry {index + 1} of {table}"
        return f"[{table}]" if index is None else f"[[{table}]]"

    def error(
        self,
        code: str,
        message: str,
        *,
        table: str = "",
        index: int | None = None,
        name: str | None = None,
        key: str | None = None,
        value: Any = None,
        raised_as: type[DecidableError] = InvalidInput,
    ) -> DecidableError:
        """A fault at a key of a table, or of entry ``index`` of a list of tables.

        Reads ``models.toml, line 12, [[models]] 'gpt-5-mini', quality: ...``, and of JSON
        ``policy.json, entry 3 of models 'gpt-5-mini', quality: ...``.
        """
        line = self._line(table, index, key)
        header = self.header(table, index)
        where = [
            self.file,
            f"line {line}" if line else "",
            (f"{header} {describe(name)}" if name is not None else header) if table else "",
            "" if key is None or message.startswith(key) else key,
        ]
        details: Mapping[str, Any] = {"file": self.file, "line": line, "table": table, "name": name}
        prefix = ", ".join(filter(None, where))
        return raised_as(code, f"{prefix}: {message}" if prefix else message, **details, field=key, value=value)

    def _line(self, table: str, index: int | None, key: str | None) -> int | None:
        """The line of a key, else of its table's header. Found by spelling, so there may be none."""
        header = re.compile(rf"\[\[?\s*{re.escape(table)}\s*\]\]?")
        wanted = re.compile(rf"[\"']?{re.escape(key)}[\"']?\s*=") if key else None
        before = index or 0
        start = None if table else 0
        for number, line in enumerate(map(str.strip, self._lines), 1):
            if line.startswith("["):
                if start is not None:
                    break
                if header.match(line):
                    start = number if before == 0 else None
                    before -= 1
            elif start is not None and wanted is not None and wanted.match(line):
                return number
        return start or None
