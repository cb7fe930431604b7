"""Audits of generations: reading and verifying the ``.audit`` file that a monitor writes (docs/spec/audit.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

from decidable import _native
from decidable._native import Key, Rule
from decidable.builders import counted
from decidable.errors import VerificationError
from decidable.guard.faults import wrong_kind
from decidable.wal import place, read

__all__ = ["AuditFrame", "AuditMatch", "AuditReport", "verify_audit"]


@dataclass(frozen=True, slots=True)
class AuditFrame:
    """One token of a generation: its number from 1, the model's number of it, when it came, and the chain up to it."""

    step_seq: int
    token_id: int
    timestamp_ns: int
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class AuditMatch:
    """One match: the rule's place in the list, where, after which token, and a salted digest of the text, if wanted."""

    rule: int
    start: int
    end: int
    step_seq: int
    text_digest: bytes | None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """An audit that holds. It exists only if nothing disagreed.

    Attributes:
        model: What the model is called.
        rules: The digest of the rules.
        decision: The number and the identity of the decision that the generation belongs to, or ``None``.
        created_ns: When it began, nanoseconds since 1970-01-01 UTC.
        ending: ``"finished"``, or the kind of its stop; ``None`` where the audit has no end.
        ended_ns: When it ended.
        taken: Bytes of text that were taken, ``None`` where the audit has no end.
        released: Bytes of them that came out, or were replaced.
        frames: Its tokens.
        matches: Its matches, a match that stopped it last.
        sealed: Whether it is sealed.
        hash: The chain after the last frame: what to keep elsewhere.
        tail: What stands behind the last whole frame where there is no end: ``offset`` and ``bytes``.
        established: What the evidence shows, one sentence each.
        not_established: What it does not show, one sentence each.
    """

    model: str
    rules: bytes
    decision: tuple[int, bytes] | None
    created_ns: int
    ending: str | None
    ended_ns: int | None
    taken: int | None
    released: int | None
    frames: tuple[AuditFrame, ...]
    matches: tuple[AuditMatch, ...]
    sealed: bool
    hash: bytes
    tail: dict[str, int] | None
    established: tuple[str, ...]
    not_established: tuple[str, ...]

    @property
    def held(self) -> int | None:
        """Bytes that were taken and never came out."""
        return None if self.taken is None or self.released is None else self.taken - self.released


class Ruled(Protocol):
    """A guard, as far as an audit asks it."""

    @property
    def rules(self) -> tuple[Rule, ...]: ...
    def digest(self) -> bytes: ...


def verify_audit(
    path: str | os.PathLike[str],
    *,
    guard: Ruled | None = None,
    key: Key | None = None,
    log: str | os.PathLike[str] | None = None,
) -> AuditReport:
    """Verify the audit of a generation. One that was not ended holds as far as it goes; ``ending`` is then ``None``.

    Args:
        path: The audit.
        guard: The rules that were approved: an audit of others is refused.
        key: The key of a sealed audit.
        log: The log that has its decision, which is read as by :func:`decidable.read`.

    Raises:
        VerificationError: with ``offset``, and ``what`` disagreed; with ``seq`` where the log does not hold.
        LogUnavailable: if the key is another one, or the audit is not sealed.
        InvalidInput: if it cannot be read.
    """
    file = place(path)
    if guard is not None and not callable(getattr(guard, "digest", None)):
        raise wrong_kind("a Guard", guard, "guard")
    found = _native.read_audit(file, key)
    decision = found["decision"]
    if guard is not None and guard.digest() != found["rules"]:
        message = f"{file}: it was written under other rules, whose digest is {found['rules'].hex()}"
        raise VerificationError("audit.other_rules", message, path=str(file), what="audit.other_rules")
    if guard is not None and (why := _of_other_rules(found, guard.rules)) is not None:
        message = f"{file}: its matches are not those of its rules: {why}"
        raise VerificationError("audit.other_rules", message, path=str(file), what="audit.other_rules")
    named = 0 if log is None else _decided(log, found, str(file))
    end = found["end"]
    established, missing = _said(found, guard, key, log, named)
    ending, ended_ns, _, _, taken, released = end if end is not None else (None,) * 6
    return AuditReport(
        model=found["model"],
        rules=found["rules"],
        decision=decision,
        created_ns=found["created_ns"],
        ending=ending,
        ended_ns=ended_ns,
        taken=taken,
        released=released,
        frames=tuple(AuditFrame(*frame) for frame in found["frames"]),
        matches=tuple(AuditMatch(*match) for match in found["matches"]),
        sealed=found["sealed"],
        hash=found["hash"],
        tail=None if end is not None else dict(zip(("offset", "bytes"), found["tail"], strict=True)),
        established=tuple(established),
        not_established=tuple(missing),
    )


def _of_other_rules(found: dict[str, Any], rules: tuple[Rule, ...]) -> str | None:
    """Why no generation under these rules has such matches and such an end."""
    ending = None if found["end"] is None else found["end"][0]
    # Of the rules that read and act alike no two matches overlap, and they are told in their order.
    until: dict[tuple[str, str], int] = {}
    stopped = None
    for number, (index, start, end, step, _) in enumerate(found["matches"], 1):
        if index >= len(rules):
            return f"match {number} is of rule {index}, and there are {counted(len(rules), 'rule')}"
        rule = rules[index]
        if rule.action == "ignore":
            return f"match {number} is of a rule that is switched off"
        if start < until.get((rule.reads, rule.action), 0):
            return f"match {number} begins before the end of one that it would have been left out for"
        # What a code point stands for may be several letters, and so several matches.
        until[rule.reads, rule.action] = start if rule.reads == "folded" else end
        if stopped is not None:
            break
        if rule.action == "stop":
            stopped = number, step
    if stopped is not None:
        went_on = stopped != (len(found["matches"]), len(found["frames"]))
        if went_on or ending not in (None, "matched"):
            return f"match {stopped[0]} is of a rule that stops, and the generation went on"
    elif ending == "matched":
        return "it ended with a match, and none is of a rule that stops"
    return None


def _decided(log: str | os.PathLike[str], found: dict[str, Any], file: str) -> int:
    """Raises unless the log has the decision, and where it names audits of it this one; how many it names."""
    decision = found["decision"]
    if decision is None:
        message = f"{file}: it names no decision"
        raise VerificationError("audit.other_decision", message, path=file, what="audit.other_decision")
    number, identity = decision
    there, hashes = [], []
    # To the end: what only the end can show about the log is raised there.
    for each in read(log):
        if each.kind == "decision" and each.request_sequence == number:
            there.append(each.identity)
        elif each.kind == "audit" and each.request_sequence == number:
            hashes.append(each.audit_hash)
    if there != [identity]:
        why = "with another identity" if there else "not at all"
        message = f"{file}: the log has its decision, number {number}, {why}"
        raise VerificationError("audit.other_decision", message, path=file, what="audit.other_decision")
    if hashes and found["end"] is not None and found["hash"] not in hashes:
        message = (
            f"{file}: the log names {counted(len(hashes), 'audit')} of its decision, number {number}, and not this"
        )
        raise VerificationError("audit.other_audit", message, path=file, what="audit.other_audit")
    return len(hashes)


def _said(
    found: dict[str, Any], guard: Ruled | None, key: Key | None, log: str | os.PathLike[str] | None, named: int
) -> tuple[list[str], list[str]]:
    tokens, matches, end, decision = len(found["frames"]), len(found["matches"]), found["end"], found["decision"]
    established = [f"{counted(tokens, 'token')} and {counted(matches, 'match', 'matches')} form one unbroken chain."]
    missing = []
    if end is not None:
        established.append(f"The generation ended, {end[0].replace('_', ' ')}, and its totals are those of its frames.")
    else:
        missing.append("How the generation ended: the audit has no end, and more frames may have been cut off.")
    if guard is not None:
        established.append("The rules are those given.")
    else:
        missing.append("Whether the rules are the approved ones: none were given.")
    if log is not None:
        established.append(f"The log has the decision that it belongs to, number {decision[0]}, with its identity.")
    elif decision is not None:
        missing.append(f"Whether decision {decision[0]} was made: its log was not given.")
    if log is not None and named == 0:
        missing.append("Whether it is the audit that was written: the log names none of its decision.")
    elif log is not None and end is None:
        missing.append("Whether it is an audit that the log names: it has no end.")
    elif log is not None:
        established.append("The log names this audit: it is the one that was written.")
    if not found["sealed"]:
        as_written = "" if named and end is not None else ", and that it is the one that was written"
        missing.append(f"Who wrote it{as_written}: the audit is not sealed.")
    elif key is None:
        missing.append("Who wrote it: the audit is sealed, and no key was given.")
    elif end is not None:
        established.append("The end carries the seal of the key.")
    else:
        established.append("The head is that of the key.")
        missing.append("Who wrote the frames: their seal is at the end, and there is none.")
    missing.append("Whether tokens and times were reported truthfully: the audit keeps what it was told.")
    return established, missing
