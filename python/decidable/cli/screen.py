"""What a command shows: lines, tables and progress for a person, one JSON document for a program.

Everything that reaches a terminal passes through `visible` here, so a name from outside can neither move the cursor nor
reorder what is read. rich, where it is installed (the extra ``cli``), adds colour, ruled tables and a progress bar; the
words are the same without it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

from decidable.report.escape import visible
from decidable.report.quantity import count

__all__ = ["Screen", "about_output", "reached", "to_json"]

# What stands between two columns of a table at most, and the least that a column of words is given.
_GAP: Final = 3
_NARROWEST: Final = 12

# How often a progress line is written again, in seconds.
_TICK = 0.1


@contextmanager
def about_output() -> Iterator[None]:
    """A fault of the system while standard output is written is one of standard output."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = "standard output", None
        raise


class Screen:
    """Standard output for results, standard error for progress and errors."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self.beside: dict[str, Any] = {}
        """What the document of an error has besides it: what is known where a command ends by one."""
        self._out = sys.stdout if out is None else out
        self._err = sys.stderr if err is None else err
        self._console = None if as_json else _console(self._out)
        # Only a terminal has a width; what goes elsewhere is never broken.
        on_terminal = self._out is not None and self._out.isatty()
        self._columns = shutil.get_terminal_size().columns if on_terminal else None

    # --- results -------------------------------------------------------------------------------------------------

    def emit(self, document: Any) -> None:
        """The whole answer as one JSON document."""
        self._write(to_json(document))

    def emit_line(self, document: Any) -> None:
        """One of many answers, as one line of JSON."""
        self._write(json.dumps(document, sort_keys=True, default=_plain))

    def line(self, text: str = "", *, style: str | None = None, whole: bool = False) -> None:
        """One line, or on a terminal that is too narrow several, broken between words unless it is to stay ``whole``.

        ``style`` is a rich style and may be ignored.
        """
        shown = self._shown(text)
        indent = len(shown) - len(shown.lstrip(" ")) + 2
        for each in [shown] if whole else self._broken(shown, indent):
            self._styled(each, style)

    def heading(self, text: str) -> None:
        """A line that starts a part, set apart from what came before."""
        self.line()
        self.line(text, style="bold")

    def pairs(self, rows: Sequence[tuple[str, str]], *, indent: int = 2) -> None:
        """Names and values, the values aligned; on a narrow terminal a long value stands below its name."""
        width = max((_width(name) for name, _ in rows), default=0)
        for name, value in rows:
            shown = self._shown(value)
            room = None if self._columns is None else self._columns - indent - width - 2
            if room is not None and max(map(_width, shown.split(" "))) > room:
                self.line(" " * indent + name)
                self.line(" " * (indent + 2) + value)
                continue
            head = f"{' ' * indent}{self._shown(name)}{' ' * (width - _width(name))}  "
            for each in self._broken(head + shown, indent + width + 2):
                self._styled(each, None)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under headings; a column named with a leading ``#`` is numeric and stands to the right.

        On a terminal that is too narrow, long words are broken into lines within their column; where that is not
        enough, each row is told as names and values.
        """
        names = [name.removeprefix("#") for name in columns]
        right = [name.startswith("#") for name in columns]
        shown = [[self._shown(cell) for cell in row] for row in rows]
        widths = [max(_width(row[place]) for row in [names, *shown]) for place in range(len(names))]
        least = [
            max(_NARROWEST, *(_width(word) for row in [names, *shown] for word in row[place].split(" ")))
            for place in range(len(names))
        ]
        if not self._fit(
            widths, [width if end else most for width, end, most in zip(widths, right, least, strict=True)]
        ):
            for row in shown:
                self.line(f"  {row[0]}", style="bold")
                self.pairs([pair for pair in zip(names[1:], row[1:], strict=True) if pair[1]], indent=4)
        elif self._console is not None:
            self._ruled(names, right, [_folded(row, widths) for row in shown])
        else:
            for row in [names, ["-" * width for width in widths], *shown]:
                self._row(_folded(row, widths), widths, right)

    def _fit(self, widths: list[int], least: list[int]) -> bool:
        """Takes from the widest columns what is too much; whether the table fits then."""
        while self._columns is not None and sum(widths) + _GAP * len(widths) > self._columns:
            place = max(range(len(widths)), key=lambda place: widths[place] - least[place])
            if widths[place] <= least[place]:
                return False
            widths[place] -= 1
        return True

    def _row(self, cells: list[str], widths: list[int], right: list[bool]) -> None:
        """One row, whose cells may have several lines."""
        for parts in itertools.zip_longest(*(cell.split("\n") for cell in cells), fillvalue=""):
            padded = [_padded(part, width, end) for part, width, end in zip(parts, widths, right, strict=True)]
            self._write(("  " + "  ".join(padded)).rstrip())

    def _broken(self, text: str, indent: int) -> list[str]:
        return [text] if self._columns is None else _lines(text, self._columns, indent)

    def _shown(self, text: str) -> str:
        """As it will stand there, so that it can be measured: what the encoding lacks by its number."""
        safe, encoding = visible(text), getattr(self._out, "encoding", None) or "utf-8"
        if safe.isascii() or encoding.lower().startswith("utf"):
            return safe
        return safe.replace("µs", "us").encode(encoding, "backslashreplace").decode(encoding)

    def _styled(self, text: str, style: str | None) -> None:
        if self._console is not None and style is not None:
            from rich.text import Text

            with about_output():
                self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            self._write(text)

    def _ruled(self, names: list[str], right: list[bool], rows: list[list[str]]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for name, end in zip(names, right, strict=True):
            table.add_column(Text(name), justify="right" if end else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        assert self._console is not None
        with about_output():
            self._console.print(table)

    def flush(self) -> None:
        """Hands on what was printed: where that fails, it fails here."""
        if self._out is not None:
            with about_output():
                self._out.flush()

    # --- progress and errors -------------------------------------------------------------------------------------

    def error(self, command: str, message: str) -> None:
        """One readable line."""
        # Where it cannot be said, the exit code still says it.
        with suppress(OSError):
            self._say(f"{command}: {message}")

    def begin_line(self, *, behind: bytes) -> None:
        """Ends a line that a stream has left open, where what is said next goes to the terminal as the stream does."""
        out, err = self._out, self._err
        if out is None or err is None or behind.endswith(b"\n") or not (out.isatty() and err.isatty()):
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(out.fileno()), os.fstat(err.fileno())):
                print(file=err, flush=True)

    def note(self, text: str) -> None:
        """A remark beside the result, for a person only."""
        if not self.as_json:
            # The exit code does not depend on whether it can be said.
            with suppress(OSError):
                self._say(text)

    def _say(self, text: str) -> None:
        # Where standard error is closed, nothing is said: `print` would say it on standard output.
        if self._err is not None:
            print(visible(text), file=self._err, flush=True)

    @contextmanager
    def progress(self, label: str, total: int | None = None, *, alone: bool = False) -> Iterator[Callable[[int], None]]:
        """A line that moves while something long runs; the caller says how much more is done.

        It is shown on a terminal only, and never beside JSON. ``alone``: no thread runs beside the caller, and the line
        moves when the caller says how much more is done.
        """
        if self.as_json or not _moves(self._err):
            yield lambda _: None
        elif _console(self._err) is not None:
            with _bar(self._err, label, total, alone) as advance:
                yield advance
        else:
            with _counter(self._err, label, total, alone) as advance:
                yield advance

    def _write(self, text: str) -> None:
        with about_output():
            print(text, file=self._out)


def reached(advance: Callable[[int], None]) -> Callable[[int], None]:
    """From "so much more" to "as far as this", which is how a log tells its progress."""
    last = 0

    def callback(seq: int) -> None:
        nonlocal last
        advance(seq - last)
        last = seq

    return callback


def to_json(document: Any) -> str:
    """JSON with sorted names and every character beyond ASCII as its number: the same text for the same answer."""
    return json.dumps(document, indent=2, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def _moves(stream: TextIO) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") != "dumb"


def _console(stream: TextIO) -> Any:
    """rich's console, where there is a terminal, rich, and no wish for plain text (https://no-color.org).

    Its rules and bars take Unicode; a terminal without it gets ours.
    """
    if not _moves(stream) or os.environ.get("NO_COLOR") or not (stream.encoding or "").lower().startswith("utf"):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, markup=False, highlight=False, emoji=False)


@contextmanager
def _bar(stream: TextIO, label: str, total: int | None, alone: bool) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns.insert(3, MofNCompleteColumn())
    with Progress(*columns, console=_console(stream), transient=True, auto_refresh=not alone) as progress:
        task = progress.add_task(visible(label), total=total)

        def advance(more: int) -> None:
            progress.advance(task, more)
            if alone:
                progress.refresh()

        yield advance


@contextmanager
def _counter(stream: TextIO, label: str, total: int | None, alone: bool) -> Iterator[Callable[[int], None]]:
    """A line rewritten in place, by a thread of its own where there is nothing to count."""
    done, begun, stop = 0, time.monotonic(), threading.Event()
    columns = shutil.get_terminal_size().columns - 1

    def show() -> None:
        waited = f"{time.monotonic() - begun:.0f} s"
        far = (
            f"{count(done)} of {count(total)}" if total is not None else f"{count(done)}, {waited}" if done else waited
        )
        # A line that is longer than the terminal could not be written over.
        shown = visible(label)[: max(0, columns - len(far) - 2)]
        print(f"\r{shown}  {far}", end="", file=stream, flush=True)

    def tick() -> None:
        while not stop.wait(_TICK):
            show()

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if alone:
            show()

    ticking = threading.Thread(target=tick, name="progress", daemon=True)
    show()
    if not alone:
        ticking.start()
    try:
        yield advance
    finally:
        stop.set()
        if not alone:
            ticking.join()
        print(f"\r{' ' * columns}\r", end="", file=stream, flush=True)


def _folded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Cells, broken into lines that their columns hold."""
    return ["\n".join(_lines(cell, width, 0)) for cell, width in zip(row, widths, strict=True)]


def _lines(text: str, columns: int, indent: int) -> list[str]:
    """Text in lines of so many columns, broken at spaces and indented from the second on; a longer word stays whole."""
    if _width(text) <= columns:
        return [text]
    lines, line, fresh = [], "", True
    for word in re.findall(r" *[^ ]+", text):
        if not fresh and _width(line + word) > columns:
            lines.append(line)
            line, word = " " * indent, word.lstrip(" ")
        line, fresh = line + word, False
    return [*lines, line]


def _padded(cell: str, width: int, end: bool) -> str:
    blank = " " * (width - _width(cell))
    return blank + cell if end else cell + blank


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
