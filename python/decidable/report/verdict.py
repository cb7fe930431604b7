"""What a report may conclude: that the log holds, that it cannot say, or that it does not hold.

A log that agrees with itself proves nothing alone: whoever can rewrite it all can make it agree. It takes something
that was kept elsewhere, a head or a key, to say more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from decidable.builders import counted
from decidable.errors import DecidableError
from decidable.replay import VerificationReport

__all__ = ["State", "Verdict", "conclude", "refute"]

State = Literal["holds", "cannot-conclude", "does-not-hold"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, the words for it, and the reasons one by one where it cannot conclude."""

    state: State
    title: str
    sentence: str
    reasons: tuple[str, ...] = ()


def conclude(verification: VerificationReport, *, decisions: int, head: bool, key: bool) -> Verdict:
    """For a log that verified and holds so many ``decisions``; ``head`` and ``key`` say what it was held against."""
    reasons = []
    if verification.tail is not None:
        reasons.append(
            "The log ends in an unfinished tail: what was being written there was never acknowledged, or was "
            "damaged later."
        )
    if verification.records == 0:
        reasons.append("The log holds no records.")
    if verification.kind == "json-lines" and verification.decisions < decisions:
        reasons.append(
            f"{verification.decisions:,} of {counted(decisions, 'decision')} re-derived: this kind of log carries no "
            "policies, and not all were given."
        )
    if not head and not key:
        reasons.append(
            "There was nothing to verify against: without a head kept elsewhere or the log's key, a log that was "
            "replaced as a whole looks the same."
        )
    if reasons:
        return Verdict(
            "cannot-conclude",
            "Cannot conclude",
            "Every complete record agrees with every other, and the figures below follow from them. That is not "
            "enough to rely on:",
            tuple(reasons),
        )
    against = "the head and the key" if head and key else "the head" if head else "the key"
    return Verdict(
        "holds", "The log holds", f"Every record was re-derived and agrees with {against} that it was verified against."
    )


def refute(error: DecidableError) -> Verdict:
    """For a log that did not verify."""
    return Verdict("does-not-hold", "The log does not hold", error.message)
