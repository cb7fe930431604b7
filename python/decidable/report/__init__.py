"""A report of a log as one HTML page that needs nothing else.

    from decidable import report
    rendered = report.render("state/", head="head.json")
    Path("report.html").write_text(rendered.html, encoding="utf-8")

The page is the same, byte for byte, for the same log verified against the same things.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decidable._native import Key, Policy
from decidable.errors import VerificationError
from decidable.replay import VerificationReport, verify
from decidable.report.exchange import entries
from decidable.report.facts import Facts, gather
from decidable.report.page import failure_page, log_page
from decidable.report.verdict import Verdict, conclude, refute
from decidable.wal import read

__all__ = ["Rendered", "Verdict", "render"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The page and what it concludes; ``error`` is what disagreed, if anything did."""

    html: str
    verdict: Verdict
    verification: VerificationReport | None = None
    facts: Facts | None = None
    error: VerificationError | None = None


def render(
    path: str | os.PathLike[str],
    *,
    policies: Sequence[Policy] = (),
    key: Key | None = None,
    head: dict[str, Any] | str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rendered:
    """Verify the log at ``path``, then gather and draw. A log that does not hold gets a page that says so.

    Raises:
        DecidableError: The log, key or head cannot be read at all.
    """
    place = Path(path)
    try:
        verification = verify(place, policies=policies or None, key=key, head=head, progress=progress)
        records = read(place, key=key) if verification.kind == "log" else entries(place)
        facts = gather(_until(records, verification.records))
    except VerificationError as error:
        verdict = refute(error)
        return Rendered(failure_page(verdict, error), verdict, error=error)
    verdict = conclude(verification, decisions=facts.decisions, head=head is not None, key=key is not None)
    return Rendered(log_page(verdict, verification, facts, policies=bool(policies)), verdict, verification, facts)


def _until(records: Iterable[Any], last: int) -> Iterator[Any]:
    """A live log may have grown since it was verified: only what was verified is shown."""
    for record in records:
        if record.seq > last:
            return
        yield record
