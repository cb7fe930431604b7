"""``verify``: re-derive everything a log says, from the log alone, and say what that establishes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from decidable._native import Balance
from decidable.builders import counted
from decidable.cli.exits import FINE, UNFINISHED, Usage
from decidable.cli.inputs import add_evidence, add_json, key_of, log_at, path, policies_of, present
from decidable.cli.output import STANDARD_OUTPUT, may_write
from decidable.cli.screen import Screen, reached
from decidable.errors import InvalidInput
from decidable.guard import AuditReport, Guard, verify_audit
from decidable.replay import NO_PIPE, VerificationReport, verify
from decidable.report.quantity import count, money, size
from decidable.wal import read_head, write_head

__all__ = ["add", "octets", "show_verification", "unfinished", "verification_document"]

# How the file of an audit is called, unless its writer called it otherwise, and what it begins with.
_AUDIT: Final = ".audit"
_TAG: Final = b"dcdaud0\0"
# How many open tickets are listed; all are counted, and --json has all.
_TICKETS_SHOWN: Final = 10


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "verify",
        help="re-derive every decision, digest, balance and hash of a log",
        description="Verify a log of ours (a directory), a JSON-lines log (a file) or the audit of a generation (a "
        "file). Exit codes: 0 it holds, 1 it does not, 2 it cannot be read (missing file, wrong "
        "key), 3 it holds as far as it goes: its end is unfinished, or not every decision was derived again.",
    )
    parser.add_argument("log", type=path, metavar="LOG")
    add_evidence(parser)
    parser.add_argument("--rules", type=path, metavar="FILE", help="of an audit: the rules that were approved")
    parser.add_argument("--log", type=path, metavar="LOG", dest="decided", help="of an audit: the log of its decision")
    parser.add_argument(
        "--save-head", type=path, metavar="FILE", help="write the head that was found, to keep elsewhere"
    )
    add_json(parser)
    parser.set_defaults(run=_verify, command="verify")


def _verify(parsed: argparse.Namespace, screen: Screen) -> int:
    log_at(parsed.log)
    of_audits = {"--rules": parsed.rules, "--log": parsed.decided}
    of_logs = {"--policy": parsed.policy, "--head": parsed.head, "--save-head": parsed.save_head}
    audit = _is_audit(parsed.log)
    is_said_to_be = audit or any(of_audits.values())
    if is_said_to_be and not (parsed.log.is_file() or parsed.log.is_dir()):
        raise Usage("cli.unusable_file", f"{parsed.log}: {NO_PIPE}", path=str(parsed.log))
    for option, given in (of_logs if audit else of_audits).items():
        if given:
            whose = "a log" if audit else "an audit"
            raise Usage("cli.usage", f"{option} is of {whose}, which {parsed.log} is not", option=option)
    return _verify_audit(parsed, screen) if audit else _verify_log(parsed, screen)


def _is_audit(path: Path) -> bool:
    """Whether a file is an audit, whatever its name; one whose beginning is damaged is by its name."""
    if path.suffix == _AUDIT:
        return not path.is_dir()
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_TAG)) == _TAG
    except OSError:
        # Whoever reads it says why it cannot be read.
        return False


def _verify_audit(parsed: argparse.Namespace, screen: Screen) -> int:
    guard = None if parsed.rules is None else Guard.load(present(parsed.rules))
    log = None if parsed.decided is None else log_at(parsed.decided)
    report = verify_audit(parsed.log, guard=guard, key=key_of(parsed), log=log)
    if screen.as_json:
        screen.emit(_audit_document(report))
    else:
        how = "every frame holds" if report.ending is not None else "every complete frame holds"
        screen.line(f"{parsed.log}: {how}", style="bold")
        screen.pairs(_audit_pairs(report))
        _show_evidence(screen, report)
    return UNFINISHED if report.ending is None else FINE


def _audit_pairs(report: AuditReport) -> list[tuple[str, str]]:
    rows = [
        ("model", report.model),
        ("tokens", count(len(report.frames))),
        ("matches", count(len(report.matches))),
        ("rules", report.rules.hex()),
        ("hash", report.hash.hex()),
    ]
    if report.decision is not None:
        rows.append(("decision", f"{count(report.decision[0])}, {report.decision[1].hex()}"))
    if report.ending is not None and report.taken is not None and report.held is not None:
        rows.append(("ending", report.ending.replace("_", " ")))
        rows.append(("text", f"{count(report.taken)} bytes, {count(report.held)} of them never out"))
    if report.tail is not None:
        rows.append(
            ("unfinished", f"{count(report.tail['bytes'])} bytes from byte {count(report.tail['offset'])}: no frame")
        )
    return rows


def _audit_document(report: AuditReport) -> dict[str, Any]:
    decision = report.decision
    return {
        "kind": "audit",
        "model": report.model,
        "rules": report.rules.hex(),
        "decision": None if decision is None else {"number": decision[0], "identity": decision[1].hex()},
        "created_ns": report.created_ns,
        "ending": report.ending,
        "ended_ns": report.ended_ns,
        "tokens": len(report.frames),
        "matches": [
            {
                "rule": each.rule,
                "start": each.start,
                "end": each.end,
                "step_seq": each.step_seq,
                "text_digest": None if each.text_digest is None else each.text_digest.hex(),
            }
            for each in report.matches
        ],
        "taken": report.taken,
        "released": report.released,
        "held": report.held,
        "sealed": report.sealed,
        "hash": report.hash.hex(),
        "tail": report.tail,
        "established": list(report.established),
        "not_established": list(report.not_established),
    }


def _verify_log(parsed: argparse.Namespace, screen: Screen) -> int:
    if parsed.head is not None:
        present(parsed.head)
    if parsed.save_head is not None and str(parsed.save_head) == STANDARD_OUTPUT:
        raise Usage("cli.usage", "--save-head names a file: --json prints the head (see decidable verify --help)")
    policies, key = policies_of(parsed), key_of(parsed)
    with screen.progress(f"verifying {parsed.log} ({size(octets(parsed.log))})") as advance:
        verification = verify(
            parsed.log, policies=policies or None, key=key, head=parsed.head, progress=reached(advance)
        )
    if parsed.save_head is not None:
        # What was kept of another log, or of a longer one, is the only witness of its end.
        inputs = [parsed.log, parsed.key_file, *parsed.policy]
        may_write(parsed.save_head, inputs=inputs, ours=partial(_no_earlier_head, head=verification.head))
        if present_head := _kept_beside(parsed.save_head, verification.head):
            # Of a log that was written anew it is the only witness.
            verify(parsed.log, policies=policies or None, key=key, head=present_head)
        write_head(parsed.save_head, verification.head)
    if screen.as_json:
        screen.emit(verification_document(verification))
    else:
        holds = "every complete record holds" if verification.tail else "every record holds"
        if _derived_in_part(verification):
            holds += f", {_derived(verification)}"
        screen.line(f"{parsed.log}: {holds}", style="bold")
        show_verification(screen, verification, policies=len(policies))
    part = _derived_in_part(verification)
    if policies and part:
        screen.note(f"{parsed.log}: {_unfitting(verification, len(policies))}")
    return UNFINISHED if part or verification.tail is not None else FINE


def _no_earlier_head(path: Path, *, head: dict[str, Any]) -> str | None:
    """Why a file is not replaced: it holds no earlier head of the log, or the same."""
    try:
        kept = read_head(path)
    except InvalidInput:
        return " and is no head"
    names = ("schema_version", "log_id", "keyed")
    number = "seq" if "seq" in head else "sequence"
    same = all(kept.get(name) == head.get(name) for name in names) and isinstance(kept.get(number), int)
    if same and "log_id" in head and kept[number] <= head[number]:
        return None
    return None if kept == head else " and holds another head"


def _kept_beside(path: Path, head: dict[str, Any]) -> dict[str, Any] | None:
    """The head that a file holds already, unless it is the same: the log must contain it before it is replaced."""
    if not path.exists():
        return None
    kept = read_head(path)
    return None if kept == head else kept


def show_verification(
    screen: Screen, verification: VerificationReport, *, accounts: bool = True, policies: int = 0
) -> None:
    """What was counted, what that establishes and what it does not; ``policies`` is how many were given."""
    head = verification.head
    rows = [
        ("records", count(verification.records)),
        (
            "decisions",
            f"{_derived(verification)}: {'others are needed' if policies else '--policy FILE gives a policy'}"
            if _derived_in_part(verification)
            else count(verification.decisions),
        ),
        ("settlements", count(verification.settlements)),
        ("head", f"record {count(verification.records)}, {head.get('hash') or head.get('last_hash')}"),
    ]
    if verification.erased:
        rows.append(("erased", f"private parts of {counted(len(verification.erased), 'record')}"))
    if verification.open_tickets:
        rows.append(("open tickets", count(len(verification.open_tickets))))
    if verification.tail is not None:
        tail = verification.tail
        rows.append(
            ("unfinished tail", f"{counted(tail['bytes'], 'byte')} from byte {count(tail['offset'])}: {tail['reason']}")
        )
    screen.pairs(rows)
    _show_open(screen, verification.open_tickets)
    _show_evidence(screen, verification)
    if accounts and verification.balances:
        screen.heading("accounts")
        screen.table(
            ["account", "#committed", "#reserved", "#remaining", "#initial", "#debt"],
            [
                [
                    each.account,
                    *(
                        money(value)
                        for value in (each.committed, each.reserved, each.remaining, each.initial, each.debt)
                    ),
                ]
                for each in sorted(verification.balances, key=lambda balance: balance.account)
            ],
        )


def _derived_in_part(verification: VerificationReport) -> bool:
    """Whether decisions are left that were not derived again. A log of ours carries its policies; every entry of a
    JSON-lines log is a decision, and its policy must be given."""
    return verification.kind == "json-lines" and verification.decisions < verification.records


def _derived(verification: VerificationReport) -> str:
    return f"{count(verification.decisions)} of {counted(verification.records, 'decision')} re-derived"


def _unfitting(verification: VerificationReport, policies: int) -> str:
    """What is said where policies were given, and decisions were made under others."""
    left = "the others were" if verification.decisions else "they were" if verification.records > 1 else "it was"
    others = "another policy than the one given" if policies == 1 else "none of the policies given"
    return f"{_derived(verification)}: {left} made under {others}"


def _show_open(screen: Screen, tickets: Sequence[dict[str, Any]]) -> None:
    """The first tickets that are neither settled nor cancelled, and what is held for each."""
    for each in tickets[:_TICKETS_SHOWN]:
        held = "nothing" if each["hold_microunits"] is None else money(each["hold_microunits"])
        whose = "" if each["account"] is None else f" of {each['account']}"
        state = each["state"].replace("_", " ")
        screen.line(f"    ticket {each['request_sequence']}, {state}: {held} held{whose}, record {count(each['seq'])}")
    if len(tickets) > _TICKETS_SHOWN:
        screen.line(f"    … and {count(len(tickets) - _TICKETS_SHOWN)} more")


def _show_evidence(screen: Screen, verified: VerificationReport | AuditReport) -> None:
    screen.heading("established")
    for each in verified.established:
        screen.line(f"  + {each}", style="green")
    screen.heading("not established")
    for each in verified.not_established:
        screen.line(f"  - {each}", style="yellow")


def verification_document(verification: VerificationReport) -> dict[str, Any]:
    """Everything that a verification says."""
    return {
        "kind": verification.kind,
        "records": verification.records,
        "decisions": verification.records if verification.kind == "json-lines" else verification.decisions,
        "rederived": verification.decisions,
        "missing_policies": [*(verification.details or {}).get("missing_policies", ())],
        "settlements": verification.settlements,
        "head": verification.head,
        "established": list(verification.established),
        "not_established": list(verification.not_established),
        "erased": list(verification.erased),
        "tail": verification.tail,
        "balances": [
            balance_document(each) for each in sorted(verification.balances, key=lambda balance: balance.account)
        ],
        "open_tickets": list(verification.open_tickets),
    }


def balance_document(balance: Balance) -> dict[str, Any]:
    """One account's money."""
    names = ("account", "initial", "remaining", "reserved", "committed", "debt", "cap")
    return {name: getattr(balance, name) for name in names}


def unfinished(log: Path, tail: dict[str, Any]) -> str:
    """What is said of a log that ends in an unfinished tail."""
    return f"{log} ends in {counted(tail['bytes'], 'unfinished byte')}: what is before them holds"


def octets(log: Path) -> int:
    """The size of a log on disk."""
    if log.is_dir():
        return sum(each.stat().st_size for each in log.rglob("*") if each.is_file())
    return log.stat().st_size
