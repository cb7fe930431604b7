"""The command ``decidable``: one file a group of commands, each with ``add(commands)`` and what it runs.

A command returns its exit code. Whatever goes wrong is one line on standard error (and an object with ``--json``),
never a traceback; the codes are in `decidable.cli.exits` and docs/cli.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from decidable._native import __version__
from decidable.builders import describe, suggestion
from decidable.cli import bench, decide, demo, digest, export, guard, report, route, verify
from decidable.cli.exits import (
    FAILED,
    INTERNAL,
    PIPE_CLOSED,
    USAGE,
    Usage,
)
from decidable.cli.inputs import placed
from decidable.cli.screen import Screen, about_output
from decidable.cli.signals import ENDED, ending, signals
from decidable.cli.standard import standard_streams
from decidable.errors import DecidableError, VerificationError

__all__ = ["main"]

_COMMAND = "COMMAND"
_GROUPS = (demo, route, decide, verify, report, export, digest, guard, bench)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes no option by half its name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._is_parsing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, more = super().parse_known_args(args, namespace)
        if not more or self._is_parsing or self._subparsers is not None:
            return parsed, more
        # With options between what is named, argparse takes what may be left out for left out.
        self._is_parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_parsing = False

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse takes help that cannot be written for help that was read.
        stream = file or sys.stderr
        if message and stream is not None:
            with about_output():
                stream.write(message)
                stream.flush()

    def error(self, message: str) -> NoReturn:
        raise Usage("cli.usage", f"{message} (see {self.prog} --help)", command=self.prog)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [] if action.choices is None else list(action.choices)
        if not choices or value in choices:
            return
        if action.metavar == _COMMAND:
            raise argparse.ArgumentError(
                None, f"there is no command {describe(value)}{suggestion(str(value), choices)}"
            )
        raise argparse.ArgumentError(action, f"{describe(value)} is none of {', '.join(choices)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with standard_streams():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> int:
    try:
        with signals():
            code = _run(arguments)
    except ENDED as error:
        code = _ended("decidable", error)
    except BrokenPipeError:
        # The reader has what it wanted.
        code = PIPE_CLOSED
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return PIPE_CLOSED
        return code or USAGE
    return code


def _run(given: Sequence[str]) -> int:
    try:
        parsed, more = _parser().parse_known_args(given)
        if more:
            command = f"decidable {parsed.command}"
            message = f"unknown arguments: {' '.join(more)} (see {command} --help)"
            raise Usage("cli.usage", message, command=command)
    except Usage as error:
        return _failed(Screen(as_json="--json" in given), error.details["command"], error, USAGE)
    except SystemExit as stop:
        # --help and --version have printed what was asked for.
        return int(stop.code or 0)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _failed(Screen(as_json=False), "decidable", _system_fault(error), USAGE)
    screen, command = Screen(as_json=parsed.json), f"decidable {parsed.command}"
    if sys.stdout is None:
        # Nobody would be told: nothing is decided, held or written for them.
        return _failed(screen, command, Usage("cli.unusable_file", "standard output is closed"), USAGE)
    try:
        code = int(parsed.run(parsed, screen))
        screen.flush()
    except ENDED as error:
        return _ended(command, error)
    except DecidableError as error:
        code = FAILED if isinstance(error, VerificationError) else USAGE
        return _failed(screen, command, _placed(error, parsed), code)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _failed(screen, command, _system_fault(error), USAGE)
    except Exception as error:  # a fault of ours: say so in one line too
        if os.environ.get("DECIDABLE_TRACEBACK"):
            raise
        message = f"internal error, {type(error).__name__}: {error} (DECIDABLE_TRACEBACK=1 shows where)"
        return _failed(screen, command, Usage("cli.internal", message), INTERNAL)
    return code


def _ended(command: str, error: BaseException) -> int:
    """Says in one line that a signal ended the command."""
    says, code = ending(error)
    Screen(as_json=False).error(command, says)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="decidable", description="Automated choices that can be proved afterwards.")
    parser.add_argument("--version", action="version", version=f"decidable {__version__}")
    commands = parser.add_subparsers(title="commands", metavar=_COMMAND, required=True, parser_class=_Parser)
    for group in _GROUPS:
        group.add(commands)
    return parser


def _system_fault(error: OSError) -> Usage:
    """What the system refused, and the name of the file."""
    name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    code = "cli.missing_file" if isinstance(error, FileNotFoundError) else "cli.unusable_file"
    return Usage(code, f"{name}{(error.strerror or str(error)).lower()}")


def _placed(error: DecidableError, parsed: argparse.Namespace) -> DecidableError:
    """The same fault, naming the log that the command was given, where it is one of the log."""
    given = [getattr(parsed, name, None) for name in ("log", "source", "state")]
    return placed(error, next((each for each in given if each is not None), None))


def _failed(screen: Screen, command: str, error: DecidableError, exit_code: int) -> int:
    screen.error(command, error.message)
    if screen.as_json:
        # Standard output may be what is wrong.
        with contextlib.suppress(OSError):
            told = {**error.details, "code": error.code, "message": error.message}
            screen.emit({"error": told, **screen.beside})
    return exit_code
