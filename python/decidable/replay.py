"""Verification: what can be said of a log from its records alone.

:func:`verify` derives every decision, digest, balance and hash again and raises at the first thing that disagrees. What
it returns says what was established, and what was not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from decidable import _native
from decidable._native import Balance, Key, Policy
from decidable.builders import counted
from decidable.errors import InvalidInput, UnknownName, VerificationError
from decidable.wal import is_there, kept, place

__all__ = ["NO_PIPE", "VerificationReport", "verify"]

# How every entry of the exchange format begins (docs/spec/exchange.md).
_ENTRY: Final = b'{"sequence":'
# What is said of a line that does not.
_NO_BEGINNING: Final = "does not begin as an entry"
# Whoever gives one may take it for a log, and its bytes are gone when they are seen to be of something else.
NO_PIPE: Final = "an audit is read from a file, and not from a pipe"


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """A log that holds. It exists only if nothing disagreed.

    Attributes:
        kind: ``"log"`` for ours, ``"json-lines"`` for the exchange format.
        records: How many records or entries there are.
        decisions: How many decisions were derived again.
        settlements: How many tickets were settled.
        head: Where the log ends: what to keep elsewhere.
        established: What the evidence shows, one sentence each.
        not_established: What it does not show, one sentence each.
        erased: The records whose private parts were erased.
        tail: Bytes after the last whole batch, which are no records: ``offset``, ``bytes``, ``reason``; or ``None``.
        balances: The accounts at the end.
        open_tickets: The tickets that are neither settled nor cancelled. ``state`` of each is ``"in_doubt"`` where the
            session that decided it has ended, else ``"open"``: its engine may still hold it, or was killed.
        details: Every figure, as a mapping.
    """

    kind: Literal["log", "json-lines"]
    records: int
    decisions: int
    settlements: int
    head: dict[str, Any]
    established: tuple[str, ...]
    not_established: tuple[str, ...]
    erased: tuple[int, ...] = ()
    tail: dict[str, Any] | None = None
    balances: tuple[Balance, ...] = ()
    open_tickets: tuple[dict[str, Any], ...] = ()
    details: dict[str, Any] | None = None


def verify(
    path: str | os.PathLike[str],
    *,
    policies: Iterable[Policy] | None = None,
    key: Key | None = None,
    head: dict[str, Any] | str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> VerificationReport:
    """Verify a log: ours (a directory), or a JSON-lines log of the exchange format (a file).

    Args:
        path: The log.
        policies: For ours, the policies that were approved: any other that the log installed is refused. For a
            JSON-lines log, the policies to derive its decisions with. ``None`` where there are none; an empty list is
            refused, because it would read as if what the log installed were approved.
        key: The key of a sealed or keyed log.
        head: A head that was kept elsewhere, or the file that holds it: without one, a cut-off end goes unnoticed.
        progress: Called after every 4,096 records or entries with the number of the one that was reached, so never for
            a shorter log. What it raises ends the verification and comes out.

    Raises:
        InvalidInput: if no policies were given in ``policies`` (``input.empty``), or something else than policies.
        VerificationError: with ``seq``, ``offset`` and ``what`` disagreed.
        UnknownName: if there is no log.
        LogUnavailable: if the key is another one.
    """
    log = place(path)
    with kept(head) as known:
        return _verified(log, policies, key, known, progress)


def _verified(
    log: Path,
    policies: Iterable[Policy] | None,
    key: Key | None,
    head: dict[str, Any] | None,
    progress: Callable[[int], None] | None,
) -> VerificationReport:
    if not is_there(log):
        raise UnknownName("wal.not_found", f"there is no log at {log}", path=str(log))
    if log.is_dir():
        return _verify_log(log, policies, key, head, progress)
    return _verify_exchange(log, policies, key, head, progress)


def _verify_log(
    path: Path,
    policies: Iterable[Policy] | None,
    key: Key | None,
    head: dict[str, Any] | None,
    progress: Callable[[int], None] | None,
) -> VerificationReport:
    found = _native.verify_log(path, policies=policies, key=key, head=head, progress=progress)
    established = [
        _chain(found["records"], "record", "records"),
        _follow(
            found["decisions"],
            "its policy and request, with its digests",
            "their policies and requests, with their digests",
        ),
        (
            f"Every balance follows: {counted(len(found['balances']), 'account')}, "
            f"{counted(found['settlements'], 'settlement')}, remaining + reserved + committed = initial after each."
        ),
    ]
    missing = []
    if policies is not None:
        established.append("The log installed no policy other than those given.")
    else:
        missing.append("Whether the policies that the log installed are the approved ones: none were given.")
    if head is not None:
        established.append(f"The log contains the head that was kept at record {head['seq']}.")
    else:
        missing.append("Whether the end was cut off or the whole rewritten: no head was given.")
    if found["sealed"]:
        established.append("Every batch carries the seal of the key.")
    elif found["keyed"]:
        missing.append("Who wrote it: the log is sealed, and no key was given.")
    else:
        missing.append("Who wrote it: the log is not sealed.")
    unfinished = set(found["unfinished_erasures"])
    gone = [seq for seq in found["erased"] if seq not in unfinished]
    if gone:
        established.append(f"The private parts of {counted(len(gone), 'record')} were erased, as the log records.")
    if unfinished:
        missing.append(
            f"Whether the private parts of {counted(len(unfinished), 'record')} are gone: their erasure is recorded, "
            "and their bytes are still there until the log is opened for writing again."
        )
    if found["unrecorded_erasures"]:
        missing.append(
            f"What became of the private parts of {counted(len(found['unrecorded_erasures']), 'record')}: "
            "they are gone, and no erasure is recorded."
        )
    if found["tail"] is not None:
        missing.append(_unread(found["tail"]))
    missing.append("Whether requests, usage and times were reported truthfully: the log keeps what it was told.")
    return VerificationReport(
        kind="log",
        records=found["records"],
        decisions=found["decisions"],
        settlements=found["settlements"],
        head=found["head"],
        established=tuple(established),
        not_established=tuple(missing),
        erased=tuple(gone),
        tail=found["tail"],
        balances=tuple(found["balances"]),
        open_tickets=_stated(found),
        details=found,
    )


def _stated(found: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The open tickets with their states: whether the session of each has ended."""
    for each in found["open_tickets"]:
        # A session that ended without closing the log is known to have ended by the next one's opening.
        each["state"] = "in_doubt" if found["closed"] or each["seq"] < found["opened_seq"] else "open"
    return tuple(found["open_tickets"])


def _chain(number: int, noun: str, plural: str) -> str:
    return f"{counted(number, noun, plural)} {'forms' if number == 1 else 'form'} one unbroken chain."


def _follow(number: int, one: str, several: str) -> str:
    """That so many decisions follow, and from what."""
    return f"{counted(number, 'decision')} {f'follows from {one}' if number == 1 else f'follow from {several}'}."


def _unread(tail: dict[str, Any]) -> str:
    """What stands behind the last whole batch, and what opening the log will make of it."""
    said = f"What stands after the last whole batch: {counted(tail['bytes'], 'byte')} that are no records."
    if tail["reason"] == "incomplete":
        return f"{said} Opening the log cuts them and keeps a copy."
    return (
        f"{said} Opening the log refuses them, unless the machine is known to have started anew since: then they are "
        "taken for what a power loss left. docs/errors.md says what to do."
    )


def _verify_exchange(
    path: Path,
    policies: Iterable[Policy] | None,
    key: Key | None,
    anchor: dict[str, Any] | None,
    progress: Callable[[int], None] | None,
) -> VerificationReport:
    # The vectors of the reference wrap the anchor in an object that also names policy and key.
    if anchor is not None and isinstance(anchor.get("anchor"), dict):
        anchor = anchor["anchor"]
    try:
        found = _native.verify_exchange(path, policies=policies, key=key, anchor=anchor, progress=progress)
    except VerificationError as error:
        if error.details.get("offset") != 0:
            raise
        why = "is no log: no line of it begins as an entry of a JSON-lines log does"
        if _has_entries(path) if path.is_file() else _NO_BEGINNING not in error.message:
            raise
        if not path.is_file():
            # What came from it is gone: whether another line is an entry cannot be seen.
            why = f"begins with no entry of a JSON-lines log; {NO_PIPE}"
        raise InvalidInput("exchange.no_log", f"{path} {why}", path=str(path)) from None
    if found["records"] == 0:
        more = "" if path.is_file() else f" of a JSON-lines log; {NO_PIPE}"
        raise InvalidInput("exchange.empty", f"{path} holds no entry{more}", path=str(path))
    established = [
        _chain(found["records"], "entry", "entries"),
        "The digests of every request and decision are those of their contents.",
    ]
    missing = []
    if found["rederived"]:
        established.append(_follow(found["rederived"], "the policies that were given", "the policies that were given"))
    if found["missing_policies"]:
        digests = ", ".join(digest[:16] for digest in found["missing_policies"])
        more = f", and others of {counted(found['unnamed'], 'decision')}" if found["unnamed"] else ""
        derived = f"{found['rederived']:,} of {counted(found['records'], 'decision')} re-derived"
        missing.append(
            f"Whether all decisions follow: {derived}. The format carries no policies, and these were not given: "
            f"{digests}{more}."
        )
    if anchor is not None:
        established.append(f"The log contains the anchor that was kept at entry {anchor['sequence']}.")
    else:
        missing.append("Whether the end was cut off or the whole rewritten: no anchor was given.")
    if key is not None:
        established.append("Every entry was written with the key.")
    else:
        missing.append("Who wrote it: no key was used.")
    if found["tail"] is not None:
        missing.append(f"What stands at the end: {counted(found['tail']['bytes'], 'byte')} of an unfinished line.")
    missing.append("What was held, spent or owed: the format has no accounts.")
    missing.append("When anything happened, and that the log is this log: the format binds neither time nor identity.")
    return VerificationReport(
        kind="json-lines",
        records=found["records"],
        decisions=found["rederived"],
        settlements=0,
        head=found["head"],
        established=tuple(established),
        not_established=tuple(missing),
        tail=found["tail"],
        details=found,
    )


def _has_entries(path: Path) -> bool:
    """Whether any line begins as an entry does: a damaged first line does not make a log something else."""
    before = b"\n"
    with path.open("rb") as file:
        while read := file.read(1 << 20):
            if b"\n" + _ENTRY in before + read:
                return True
            before = read[-len(_ENTRY) :]
    return False
