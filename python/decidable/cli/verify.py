"""``verify``: re-derive everything a log says, from the log alone, and say what that establishes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from decidable._native import Balance
from decidable.builders import counted
from decidable.cli.exits import FINE, UNFINISHED
from decidable.cli.inputs import add_evidence, add_json, key_of, log_at, policies_of, present
from decidable.cli.output import may_write
from decidable.cli.screen import Screen, reached
from decidable.errors import InvalidInput
from decidable.replay import VerificationReport, verify
from decidable.report.quantity import count, money, size
from decidable.wal import read_head, write_head

__all__ = ["add", "octets", "show_verification", "unfinished", "verification_document"]

# How many open tickets are listed; all are counted, and --json has all.
_TICKETS_SHOWN: Final = 10


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "verify",
        help="re-derive every decision, digest, balance and hash of a log",
        description="Verify a log of ours (a directory) or a JSON-lines log (a file). Exit codes: 0 it holds, "
        "1 it does not, 2 it cannot be read (missing file, wrong key), 3 it holds and ends in an unfinished tail.",
    )
    parser.add_argument("log", type=Path, metavar="LOG")
    add_evidence(parser)
    parser.add_argument(
        "--save-head", type=Path, metavar="FILE", help="write the head that was found, to keep elsewhere"
    )
    add_json(parser)
    parser.set_defaults(run=_verify, command="verify")


def _verify(parsed: argparse.Namespace, screen: Screen) -> int:
    log_at(parsed.log)
    if parsed.head is not None:
        present(parsed.head)
    policies, key = policies_of(parsed), key_of(parsed)
    with screen.progress(f"verifying {parsed.log} ({size(octets(parsed.log))})") as advance:
        verification = verify(parsed.log, policies=policies, key=key, head=parsed.head, progress=reached(advance))
    if parsed.save_head is not None:
        # What was kept of another log, or of a longer one, is the only witness of its end.
        inputs = [parsed.log, parsed.key_file, *parsed.policy]
        may_write(parsed.save_head, inputs=inputs, ours=partial(_no_earlier_head, head=verification.head))
        write_head(parsed.save_head, verification.head)
    if screen.as_json:
        screen.emit(verification_document(verification))
    else:
        holds = "every complete record holds" if verification.tail else "every record holds"
        if _derived_in_part(verification):
            holds += f", {_derived(verification)}"
        screen.line(f"{parsed.log}: {holds}", style="bold")
        show_verification(screen, verification)
    return FINE if verification.tail is None else UNFINISHED


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


def show_verification(screen: Screen, verification: VerificationReport, *, accounts: bool = True) -> None:
    """What was counted, what that establishes and what it does not."""
    head = verification.head
    rows = [
        ("records", count(verification.records)),
        (
            "decisions",
            f"{_derived(verification)}: --policy FILE gives a policy"
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
    screen.heading("established")
    for each in verification.established:
        screen.line(f"  + {each}", style="green")
    screen.heading("not established")
    for each in verification.not_established:
        screen.line(f"  - {each}", style="yellow")
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


def _show_open(screen: Screen, tickets: Sequence[dict[str, Any]]) -> None:
    """The first tickets that are neither settled nor cancelled, and what is held for each."""
    for each in tickets[:_TICKETS_SHOWN]:
        held = "nothing" if each["hold_microunits"] is None else money(each["hold_microunits"])
        whose = "" if each["account"] is None else f" of {each['account']}"
        state = each["state"].replace("_", " ")
        screen.line(f"    ticket {each['request_sequence']}, {state}: {held} held{whose}, record {count(each['seq'])}")
    if len(tickets) > _TICKETS_SHOWN:
        screen.line(f"    … and {count(len(tickets) - _TICKETS_SHOWN)} more")


def verification_document(verification: VerificationReport) -> dict[str, Any]:
    """Everything that a verification says."""
    return {
        "kind": verification.kind,
        "records": verification.records,
        "decisions": verification.decisions,
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
