"""``report``: a log as one HTML page."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Final

from decidable.cli.exits import FAILED, FINE, UNFINISHED, Usage
from decidable.cli.inputs import add_evidence, add_json, key_of, log_at, path, placed, policies_of, present
from decidable.cli.output import STANDARD_OUTPUT, StandardOutput, may_write
from decidable.cli.screen import Screen, reached
from decidable.cli.verify import octets
from decidable.report import render
from decidable.report.quantity import size
from decidable.report.verdict import Verdict
from decidable.wal import about, place

__all__ = ["add", "write_whole"]

# How every report begins, and hardly anything else.
_BEGINNING: Final = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-"""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="one self-contained HTML page about a log",
        description="Verify a log and write a page about it: the same bytes for the same log. A log that does not hold "
        "gets a page that says so.",
    )
    parser.add_argument("log", type=path, metavar="LOG")
    parser.add_argument(
        "-o", "--output", default="report.html", metavar="FILE", help="default: report.html; -: standard output"
    )
    add_evidence(parser)
    add_json(parser)
    parser.set_defaults(run=_report, command="report")


def _report(parsed: argparse.Namespace, screen: Screen) -> int:
    log_at(parsed.log)
    if parsed.head is not None:
        present(parsed.head, "a head")
    output = None if parsed.output == STANDARD_OUTPUT else place(parsed.output)
    if output is not None:
        may_write(output, inputs=[parsed.log, parsed.head, parsed.key_file, *parsed.policy], ours=_no_report)
    elif screen.as_json:
        raise Usage("cli.usage", "--json describes a file, so it needs -o FILE (see decidable report --help)")
    policies, key = policies_of(parsed), key_of(parsed)
    with screen.progress(f"verifying and reading {parsed.log} ({size(octets(parsed.log))})") as advance:
        rendered = render(parsed.log, policies=policies, key=key, head=parsed.head, progress=reached(advance))
    verdict, page = rendered.verdict, rendered.html.encode()
    if output is None:
        StandardOutput().write(page)
        screen.note(f"{parsed.log}: {verdict.title.lower()}")
        for each in verdict.reasons:
            screen.note(f"  - {each}")
    else:
        _show(screen, output, write_whole(output, page), verdict)
    if rendered.error is not None:
        screen.error("decidable report", placed(rendered.error, parsed.log).message)
        return FAILED
    return FINE if verdict.state == "holds" else UNFINISHED


def _show(screen: Screen, output: Path, written: int, verdict: Verdict) -> None:
    """What the page concludes, and where it is."""
    if screen.as_json:
        screen.emit(
            {"output": str(output), "bytes": written, "verdict": verdict.state, "reasons": list(verdict.reasons)}
        )
        return
    screen.line(f"{output}: {verdict.title.lower()} ({size(written)})", style="bold")
    for each in verdict.reasons:
        screen.line(f"  - {each}")


def _no_report(path: Path) -> str | None:
    """Why a file is not replaced: it is no report."""
    with path.open("rb") as file:
        found = file.read(len(_BEGINNING))
    return None if found == _BEGINNING else " and is no report: name another with -o"


def write_whole(path: Path, octets: bytes) -> int:
    """Writes a file so that a reader sees the old one or the new one, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with about(path):
        try:
            beside.write_bytes(octets)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    return len(octets)
