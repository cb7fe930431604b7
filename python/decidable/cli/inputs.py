"""Files that commands are given, read strictly: every fault names the file and, where there is one, the line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from decidable import builders
from decidable._native import Decision, Key, Policy, Request
from decidable.catalog import Catalog
from decidable.catalog.documents import json_fault
from decidable.cli.exits import Usage
from decidable.errors import DecidableError, InvalidInput, UnknownName, VerificationError
from decidable.report import exchange
from decidable.wal import LOCK, SEGMENT, holds_a_log

__all__ = [
    "add_evidence",
    "add_json",
    "called",
    "decision_of",
    "documents",
    "key_of",
    "log_at",
    "named",
    "path",
    "placed",
    "policies_of",
    "policy_in",
    "positive",
    "request_of",
]

# A larger file of policies, requests or snapshots is refused rather than read into memory.
_MOST_BYTES: Final = 1 << 28


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``, which every command has."""
    parser.add_argument("--json", action="store_true", help="print one JSON document, and no progress")


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """What a log is verified against."""
    parser.add_argument(
        "--policy", action="append", default=[], type=path, metavar="FILE",
        help="a policy that decisions were made under (may be repeated); JSON-lines logs do not carry theirs",
    )  # fmt: skip
    parser.add_argument("--key-file", type=path, metavar="FILE", help="the log's key: raw bytes, at least 32")
    parser.add_argument("--head", type=path, metavar="FILE", help="a head of the log that was kept elsewhere")


def path(text: str) -> Path:
    """An argument that names a file or directory. Nobody means the current one by saying nothing."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text)


def named(text: str) -> str:
    """As `path`, of an argument that may name standard input, and that is told as it was given."""
    path(text)
    return text


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{builders.describe(text)} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def policy_in(path: Path) -> Policy:
    """The policy of a file: TOML or JSON, the policy's fields and its models."""
    present(path, "a policy")
    try:
        return Catalog.load(path).policy()
    except InvalidInput as error:
        if error.details.get("field") in _REQUEST_FIELDS and not error.details.get("table"):
            message = f"{path} holds a request where a policy is wanted"
            raise Usage(error.code, message, **error.details) from None
        raise


def policies_of(parsed: argparse.Namespace) -> list[Policy]:
    """Every ``--policy``."""
    return [policy_in(path) for path in parsed.policy]


def key_of(parsed: argparse.Namespace) -> Key | None:
    """The key of ``--key-file``, if one is given."""
    if parsed.key_file is None:
        return None
    present(parsed.key_file, "a key")
    return Key.from_file(parsed.key_file)


def present(path: Path, what: str = "this") -> Path:
    """The path, or the fault that nothing is there; ``what`` is what is looked for."""
    if not path.exists():
        if str(path) == "-":
            message = f"{path}: {what} is not read from standard input, and no file has this name"
            raise Usage("cli.missing_file", message, path=str(path))
        raise Usage("cli.missing_file", f"{path}: no such file or directory", path=str(path))
    return path


def log_at(path: Path) -> Path:
    """The log, or the fault that none is there, with the place where one is."""
    present(path, "a log")
    # Where one was and its segment is gone, that is what is to be told.
    if path.is_dir() and not holds_a_log(path) and not (path / LOCK).exists():
        near = [each for each in sorted(path.iterdir()) if each.is_dir() and holds_a_log(each)]
        there = f"; there is one in {near[0]}" if near else ""
        raise UnknownName("wal.not_found", f"there is no log in {path}{there}", path=str(path))
    if path.is_file() and path.suffix == SEGMENT:
        message = f"{path} is a part of a log: name its directory, {path.parent}"
        raise Usage("cli.unusable_file", message, path=str(path))
    return path


def placed(error: DecidableError, log: Path | None) -> DecidableError:
    """The same fault, naming the log that does not hold, or that the system refused to read or write."""
    is_of_log = error.details.get("os_code") is not None or isinstance(error, VerificationError)
    if log is None or not is_of_log or error.details.get("path") is not None:
        return error
    return type(error)(error.code, f"{log}: {error.message}", **error.details | {"path": str(log)})


def called(name: str) -> str:
    """How a message calls an input."""
    return "standard input" if name == "-" else name


def _text_of(name: str) -> str:
    """The text of a file, or of standard input for ``-``."""
    if name == "-":
        if sys.stdin is None:
            raise Usage("cli.unusable_file", "standard input is closed", path=name)
        raw = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with Path(name).open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise Usage("cli.too_large", f"{called(name)} is larger than {_MOST_BYTES:,} bytes", path=name)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Usage(
            "cli.malformed", f"{called(name)} is not UTF-8 at byte {error.start}", path=name, offset=error.start
        ) from None


def documents(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with the line that each begins on: one object, JSON lines, or one list of objects."""
    text = _text_of(name)
    decoder = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse, object_pairs_hook=_once)
    at, found, line, counted = 0, 0, 1, 0
    while (at := _next(text, at)) < len(text):
        line += text.count("\n", counted, at)
        counted = at
        try:
            document, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise Usage(
                "cli.malformed",
                f"{called(name)}, line {error.lineno}: {json_fault(error)}",
                path=name,
                line=error.lineno,
            ) from None
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise Usage("cli.malformed", f"{called(name)}, line {line}: {reason}", path=name, line=line) from None
        for each in document if isinstance(document, list) else [document]:
            if not isinstance(each, dict):
                raise Usage("cli.malformed", f"{called(name)}, line {line}: not a JSON object", path=name, line=line)
            found += 1
            yield line, each
    if not found:
        raise Usage("cli.malformed", f"{called(name)} holds no JSON object", path=name)


_REQUEST_FIELDS: Final = (
    "request_sequence",
    "requested_model_id",
    "input_tokens",
    "output_tokens",
    "business_value_microunits",
    "budget_limit_microunits",
    "risk_bps",
    "confidence_bps",
    "minimum_quality_bps",
    "max_p95_latency_ms",
    "required_capabilities",
    "allowed_provider_mask",
    "required_region_mask",
    "max_output_tokens",
    "quotes",
)


def request_of(document: dict[str, Any], where: str) -> Request:
    """A request from its JSON object: the fields of docs/spec/decisions.md, and quotes by model id."""
    for name in document:
        if name not in _REQUEST_FIELDS:
            near = builders.suggestion(name, _REQUEST_FIELDS)
            message = f"{where}: {builders.describe(name)} is not a field of a request{near}"
            raise Usage("cli.unknown_field", message, field=name)
    for name in ("input_tokens", "output_tokens"):
        if name not in document:
            raise Usage("cli.missing_field", f"{where}: {name} is missing", field=name)
    fields = dict(document)
    if fields.get("quotes") is not None:
        fields["quotes"] = _quotes(fields["quotes"], where)
    try:
        return Request(**fields)
    except DecidableError as error:
        raise Usage(error.code, f"{where}: {error.message}", **error.details) from None


def decision_of(document: dict[str, Any], where: str) -> Decision:
    """A decision from its JSON object, in the members of the exchange format."""
    try:
        return exchange.decision(document)
    except DecidableError as error:
        raise Usage(error.code, f"{where}: {error.message}", **error.details) from None


def _quotes(written: Any, where: str) -> dict[int, Any]:
    if not isinstance(written, dict) or not all(
        each.isascii() and each.isdigit() and len(each) < 11 for each in written
    ):
        raise Usage("cli.malformed", f"{where}: quotes must be an object from model ids to costs", field="quotes")
    return {int(number): cost for number, cost in written.items()}


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _refuse(written: str) -> Any:
    raise ValueError(f"{written[:40]} is not an integer")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{builders.describe(twice)} is there twice")
    return document
