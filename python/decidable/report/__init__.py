"""A report of a log as one HTML page that needs nothing else.

    from decidable import report
    rendered = report.render("state/", head="head.json")
    Path("report.html").write_text(rendered.html, encoding="utf-8")

The page is the same, byte for byte, for the same log verified against the same things.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from decidable.errors import VerificationError
from decidable.report.facts import Facts, gather
from decidable.report.page import failure_page, page
from decidable.report.verdict import Verdict, conclude, refute

__all__ = ["Rendered", "Verdict", "render"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The page and what it concludes; ``error`` is what disagreed, if anything did."""

    html: str
    verdict: Verdict
    verification: Any | None = None
    facts: Facts | None = None
    error: VerificationError | None = None


def render(path: Any, *, policies: Sequence[Any] = (), key: Any | None = None, head: Any | None = None) -> Rendered:
    """Verify the log at ``path``, then gather and draw. A log that does not hold gets a page that says so.

    Raises:
        InvalidInput, LogUnavailable: The log, key or head cannot be read at all.
    """
    from decidable import read, verify

    try:
        verification = verify(path, policies=policies, key=key, head=head)
        facts = gather(_until(read(path, key=key), verification.head["sequence"]))
    except VerificationError as error:
        verdict = refute(error)
        return Rendered(failure_page(verdict, error), verdict, error=error)
    verdict = conclude(verification, head=head is not None, key=key is not None)
    return Rendered(page(verdict, verification, facts), verdict, verification, facts)


def _until(records: Iterable[Any], last: int) -> Iterator[Any]:
    """A live log may have grown since it was verified: only what was verified is shown."""
    for record in records:
        if record.seq > last:
            return
        yield record
