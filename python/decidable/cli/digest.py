"""``digest``: the canonical digest of what a file holds, as docs/spec/formats.md defines it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from decidable._native import LedgerSnapshot
from decidable.cli.exits import FINE, Usage
from decidable.cli.inputs import add_json, called, decision_of, documents, policy_in, request_of
from decidable.cli.screen import Screen

__all__ = ["add"]


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "digest",
        help="the digest of a policy, request, decision or ledger file",
        description="Print the SHA-256 digest of the canonical layout of what each file holds.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSON (a policy may be TOML)")
    add_json(parser)
    parser.set_defaults(run=_digest, command="digest")


def _digest(parsed: argparse.Namespace, screen: Screen) -> int:
    found = [each for name in parsed.files for each in _of_file(name)]
    if screen.as_json:
        screen.emit(found)
        return FINE
    for each in found:
        screen.line(f"{each['digest']}  {each['holds']}  {each['file']}")
    return FINE


def _of_file(name: str) -> list[dict[str, Any]]:
    if Path(name).suffix.lower() == ".toml":
        return [_policy(name)]
    listed = list(documents(name))
    if len(listed) == 1 and "models" in listed[0][1]:
        return [_policy(name)]
    return [_of_document(name, line, document) for line, document in listed]


def _of_document(name: str, line: int, document: dict[str, Any]) -> dict[str, Any]:
    where = f"{called(name)}, line {line}"
    if "input_tokens" in document:
        request = request_of(document, where)
        return _found(name, line, "request", request.digest(), request.shared_digest())
    if "action" in document:
        return _found(name, line, "decision", decision_of(document, where).digest())
    if "tenants" in document:
        return _found(name, line, "ledger", LedgerSnapshot.from_json(json.dumps(document)).digest())
    raise Usage(
        "cli.unknown_contents", f"{where}: neither a policy, a request, a decision nor a ledger", path=name, line=line
    )


def _policy(name: str) -> dict[str, Any]:
    policy = policy_in(Path(name))
    return _found(name, 1, "policy", policy.digest(), policy.shared_digest())


def _found(name: str, line: int, holds: str, digest: bytes, shared: bytes | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"file": name, "line": line, "holds": holds, "digest": digest.hex()}
    if shared is not None and shared != digest:
        found["shared_digest"] = shared.hex()
    return found
