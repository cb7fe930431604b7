"""``export``: a log as JSON lines of the exchange format, or as comma-separated values for a spreadsheet."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from decidable._native import Key, Policy, Record
from decidable.builders import counted
from decidable.cli.answer import model_name
from decidable.cli.exits import FINE, UNFINISHED, Usage
from decidable.cli.inputs import add_json, key_of, log_at, path
from decidable.cli.output import STANDARD_OUTPUT, StandardOutput, may_write
from decidable.cli.screen import Screen, reached
from decidable.cli.verify import octets, unfinished
from decidable.report.escape import csv_cell
from decidable.report.quantity import size, stamp
from decidable.wal import about, appearing, export, place, read

__all__ = ["add"]

_COLUMNS: Final = (
    "seq",
    "time",
    "event",
    "request",
    "account",
    "outcome",
    "reason",
    "model",
    "input_tokens",
    "output_tokens",
    "estimated_cost_microunits",
    "hold_microunits",
    "charged_microunits",
    "debt_microunits",
)


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "export",
        help="a log as JSON lines (the exchange format) or CSV",
        description="Write a log's decisions as JSON lines that the reference implementation verifies and replays, "
        "or every decision and settlement as CSV. JSON lines refuse decisions that used extensions, and say which.",
    )
    parser.add_argument("log", type=path, metavar="LOG")
    parser.add_argument(
        "-o",
        "--output",
        default=STANDARD_OUTPUT,
        metavar="FILE",
        help="must not exist yet; default: -, standard output",
    )
    parser.add_argument("--format", choices=("json-lines", "csv"), default="json-lines")
    parser.add_argument("--key-file", type=path, metavar="FILE", help="the log's key: raw bytes, at least 32")
    add_json(parser)
    parser.set_defaults(run=_export, command="export")


def _export(parsed: argparse.Namespace, screen: Screen) -> int:
    log_at(parsed.log)
    key = key_of(parsed)
    if parsed.output == STANDARD_OUTPUT:
        return _to_standard_output(parsed, screen, key)
    output = place(parsed.output)
    may_write(output, inputs=[parsed.log, parsed.key_file], ours=lambda _: "")
    with screen.progress(_label(parsed.log)) as advance:
        if parsed.format == "csv":
            summary = _csv(parsed.log, output, key)
        else:
            summary = export(parsed.log, output, key=key, progress=reached(advance))
    if screen.as_json:
        screen.emit({"output": str(output), "format": parsed.format, **summary})
    else:
        written = counted(summary["rows"], "row") if "rows" in summary else counted(summary["decisions"], "decision")
        screen.line(f"{output}: {written} ({size(octets(output))})", style="bold")
        if summary.get("refusals_left_out"):
            screen.line(f"  {_left_out(summary)}")
    return _ended(parsed, screen, summary)


def _to_standard_output(parsed: argparse.Namespace, screen: Screen, key: Key | None) -> int:
    """As it is read; what there is to say beside it goes to standard error."""
    if screen.as_json:
        raise Usage("cli.usage", "--json describes a file, so it needs -o FILE (see decidable export --help)")
    out = StandardOutput()
    # On a terminal the lines themselves are the progress.
    with (
        contextlib.nullcontext(lambda _: None)
        if sys.stdout.isatty()
        else screen.progress(_label(parsed.log)) as advance
    ):
        if parsed.format == "csv":
            summary = _write_csv(out.write, parsed.log, key)
        else:
            summary = export(parsed.log, out, key=key, progress=reached(advance))
            if summary["refusals_left_out"]:
                screen.note(_left_out(summary))
    return _ended(parsed, screen, summary)


def _ended(parsed: argparse.Namespace, screen: Screen, summary: dict[str, Any]) -> int:
    """Says so where the log ends in an unfinished tail: what is before it was written."""
    if summary["tail"] is None:
        return FINE
    screen.note(unfinished(parsed.log, summary["tail"]))
    return UNFINISHED


def _label(log: Path) -> str:
    return f"exporting {log} ({size(octets(log))})"


def _left_out(summary: dict[str, Any]) -> str:
    left = counted(summary["refusals_left_out"], "refusal")
    return f"left out, because the format has no place for what the safety ceiling refused: {left}"


def _csv(log: Path, output: Path, key: Key | None) -> dict[str, Any]:
    """Whole or not at all."""
    with appearing(output) as part, about(output), part.open("wb") as file:
        return _write_csv(file.write, log, key)


def _write_csv(write: Callable[[bytes], object], log: Path, key: Key | None) -> dict[str, Any]:
    """Writes a heading and the rows; how many rows, and the unfinished tail."""
    rows, records = 0, read(log, key=key)
    for row in itertools.chain([_COLUMNS], _rows(records)):
        write((",".join(csv_cell(cell) for cell in row) + "\r\n").encode())
        rows += 1
    return {"rows": rows - 1, "tail": records.tail}


def _rows(records: Iterable[Record]) -> Iterator[Sequence[str]]:
    policies: dict[int, Policy] = {}
    for record in records:
        fields = record.fields
        if record.kind == "policy":
            policies[fields["policy_number"]] = fields["policy"]
        elif record.kind in ("decision", "refusal", "settlement", "cancellation"):
            cells = {name: fields.get(name) for name in _COLUMNS}
            cells |= {"seq": record.seq, "time": stamp(record.time_ns), "event": record.kind}
            cells["request"] = fields["request_sequence"]
            if record.kind == "decision":
                cells |= _decision(fields, policies[fields["policy_number"]])
            elif record.kind == "refusal":
                cells |= {"outcome": "rejected", "reason": "safety_ceiling"}
            yield ["" if cells[name] is None else str(cells[name]) for name in _COLUMNS]


def _decision(fields: dict[str, Any], policy: Policy) -> dict[str, Any]:
    decision, request = fields["decision"], fields["request"]
    chosen = decision.selected_model_id
    return {
        "reason": fields["denial"] or decision.reason.label,
        "model": model_name(policy, chosen),
        "input_tokens": request.input_tokens,
        "output_tokens": request.output_tokens,
        "estimated_cost_microunits": None if chosen is None else decision.estimated_cost_microunits,
    }
