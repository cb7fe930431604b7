"""``decide`` and ``explain``: what a policy answers to a request, and why."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from decidable import builders
from decidable._native import Key, Policy, Record, Request
from decidable.cli.answer import decision_document, explanation_document, show_decision, show_explanation
from decidable.cli.exits import FAILED, FINE, UNFINISHED, Usage
from decidable.cli.inputs import (
    add_json,
    called,
    documents,
    key_of,
    log_at,
    path,
    policies_of,
    policy_in,
    present,
    request_of,
)
from decidable.cli.screen import Screen, reached
from decidable.cli.verify import octets, unfinished
from decidable.replay import verify
from decidable.report.exchange import Entry, entries
from decidable.report.quantity import size, stamp
from decidable.wal import read

__all__ = ["add"]

# How the file of a policy is called; a JSON-lines log is called otherwise.
_POLICIES: Final = (".json", ".toml")

# A request's number has at most 64 bits.
_DIGITS: Final = 20


def add(commands: Any) -> None:
    """Adds both commands."""
    parser = commands.add_parser(
        "decide",
        help="what a policy answers to one request or many",
        description="Decide without holding or logging anything. With --json, one line a request.",
    )
    parser.add_argument("policy", type=path, metavar="POLICY", help="policy.json or models.toml")
    parser.add_argument("request", metavar="REQUEST", help="request.json, JSON lines, or - for standard input")
    add_json(parser)
    parser.set_defaults(run=_decide, command="decide")

    parser = commands.add_parser(
        "explain",
        help="why: one verdict a candidate",
        description="Explain a policy's decision on a request (explain POLICY REQUEST), or one that a log holds "
        "(explain LOG NUMBER).",
    )
    parser.add_argument("source", type=path, metavar="POLICY|LOG", help="policy.json or models.toml, or a log")
    parser.add_argument("what", metavar="REQUEST|NUMBER", help="request.json or -, or a request's number in the log")
    parser.add_argument(
        "--policy", action="append", default=[], type=path, metavar="FILE", help="the policy, for a JSON-lines log"
    )
    parser.add_argument("--key-file", type=path, metavar="FILE", help="the log's key: raw bytes, at least 32")
    add_json(parser)
    parser.set_defaults(run=_explain, command="explain")


def _decide(parsed: argparse.Namespace, screen: Screen) -> int:
    policy = policy_in(parsed.policy)
    for place, (line, document) in enumerate(documents(parsed.request)):
        request = request_of(document, f"{called(parsed.request)}, line {line}")
        decision = policy.decide(request)
        if screen.as_json:
            screen.emit_line(decision_document(policy, request, decision))
            continue
        if place:
            screen.line()
        show_decision(screen, policy, request, decision)
    return FINE


def _explain(parsed: argparse.Namespace, screen: Screen) -> int:
    present(parsed.source, "a policy or a log")
    is_policy = parsed.source.suffix.lower() in _POLICIES or parsed.what == "-"
    if parsed.source.is_dir() or not (is_policy or Path(parsed.what).exists()):
        return _explain_logged(parsed, screen, _number(parsed.what))
    policy = policy_in(parsed.source)
    for place, (line, document) in enumerate(documents(parsed.what)):
        request = request_of(document, f"{parsed.what}, line {line}")
        if place and not screen.as_json:
            screen.line()
        _show(screen, policy, request, {})
    return FINE


def _number(text: str) -> int:
    """The number of a request in a log."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise Usage("cli.usage", f"not a request number: {builders.describe(text)} (explain LOG NUMBER)")
    return int(text)


def _explain_logged(parsed: argparse.Namespace, screen: Screen, number: int) -> int:
    """The decision as it was logged, and the policy's explanation of it, which must be the same decision."""
    log_at(parsed.source)
    policies, key = policies_of(parsed), key_of(parsed)
    with screen.progress(f"verifying {parsed.source} ({size(octets(parsed.source))})") as advance:
        verification = verify(parsed.source, policies=policies or None, key=key, progress=reached(advance))
    record, policy = _logged(parsed.source, number, policies, key)
    request, logged = record.fields["request"], record.fields["decision"]
    beside = {
        "seq": record.seq,
        "time_ns": record.time_ns,
        "outcome": record.fields.get("outcome"),
        "denial": record.fields.get("denial"),
    }
    _show(screen, policy, request, beside)
    if policy.decide(request) != logged:
        screen.error(
            "decidable explain", f"the log's record {record.seq} holds another decision than this policy makes"
        )
        return FAILED
    if verification.tail is not None:
        screen.note(unfinished(parsed.source, verification.tail))
        return UNFINISHED
    return FINE


def _logged(log: Path, number: int, given: list[Policy], key: Key | None) -> tuple[Record | Entry, Policy]:
    """The record of a request's decision in a log that was verified, and the policy that made it."""
    policies: dict[int | str, Policy] = {policy.shared_digest().hex(): policy for policy in given}
    records: Iterator[Record | Entry] = read(log, key=key) if log.is_dir() else entries(log)
    for record in records:
        fields = record.fields
        if record.kind == "policy":
            policies[fields["policy_number"]] = fields["policy"]
        elif fields.get("request_sequence") != number:
            continue
        elif record.kind == "refusal":
            message = f"request {number} was refused by the safety ceiling before any policy was read"
            raise Usage("cli.nothing_to_explain", message, number=number)
        elif record.kind == "decision":
            policy = policies.get(fields["policy_number"] if "policy_number" in fields else fields["policy_digest"])
            if policy is None:
                message = f"{log} does not carry the policy of request {number}: name it with --policy"
                raise Usage("cli.missing_policy", message, number=number)
            return record, policy
    raise Usage("cli.unknown_request", f"{log} holds no request {number}", number=number)


def _show(screen: Screen, policy: Policy, request: Request, beside: dict[str, Any]) -> None:
    explanation = policy.explain(request)
    if screen.as_json:
        document = decision_document(policy, request, explanation.decision)
        verdicts = explanation_document(policy, explanation)
        screen.emit_line({**document, "verdicts": verdicts, **({"log": beside} if beside else {})})
        return
    rows = []
    if beside:
        denied = f", {beside['denial'].replace('_', ' ')}" if beside["denial"] else ""
        when = f", {stamp(beside['time_ns'])}" if beside["time_ns"] else ""
        outcome = f", {beside['outcome']}" if beside["outcome"] else ""
        rows.append(("in the log", f"record {beside['seq']}{when}{outcome}{denied}"))
    show_decision(screen, policy, request, explanation.decision, rows)
    screen.line()
    show_explanation(screen, policy, explanation)
