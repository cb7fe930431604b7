"""Where a command may write: never into a log, never over what it reads, and over a file only where that is its own."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from decidable.cli.exits import Usage
from decidable.cli.inputs import called
from decidable.cli.screen import about_output
from decidable.wal import holds_a_log

__all__ = ["STANDARD_OUTPUT", "StandardOutput", "may_write", "refuse_own_output"]

STANDARD_OUTPUT: Final = "-"
"""How standard output is called where a file's name is taken."""


class StandardOutput:
    """The bytes of standard output."""

    def write(self, data: bytes) -> int:
        with about_output():
            return sys.stdout.buffer.write(data)


def may_write(target: Path, *, inputs: Iterable[Path | None], ours: Callable[[Path], str | None]) -> None:
    """Refuses a target that the command may not write.

    Args:
        inputs: What the command reads, the log among it; those that were not given are ``None``.
        ours: Asked of a regular file that is there already: why it may not be replaced, or ``None`` where it may.

    Raises:
        Usage: nothing was written, and what is there stays as it is.
    """
    folder = target.parent.resolve()
    for each in inputs:
        if each is not None and each.exists() and _within(target, folder, each):
            raise _refused("cli.protected", target, f"the command reads {each}, and does not write there")
    for each in (folder, *folder.parents):
        if holds_a_log(each):
            raise _refused("cli.protected", target, "it lies in the directory of a log, where nothing else is written")
    try:
        found = target.lstat()
    except OSError:
        # Nothing is there, or nothing can be: writing says which.
        return
    if stat.S_ISDIR(found.st_mode):
        raise _refused("cli.unusable_file", target, "is a directory")
    if not stat.S_ISREG(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        raise _refused("cli.unusable_file", target, f"is {kind}, which is not replaced")
    why = ours(target)
    if why is not None:
        raise _refused("cli.exists", target, f"exists already{why}")


def refuse_own_output(file: Any, name: str) -> None:
    """Refuses to copy a file to standard output where that is the same file: what is written would be read again.

    Raises:
        Usage: nothing was read or written.
    """
    try:
        reads, writes = (os.fstat(each.fileno()) for each in (file, sys.stdout))
    except (AttributeError, OSError):
        # One of them is no file of the system.
        return
    if stat.S_ISREG(reads.st_mode) and os.path.samestat(reads, writes):
        raise Usage("cli.protected", f"{called(name)} is the file that standard output goes to", path=name)


def _within(target: Path, folder: Path, read: Path) -> bool:
    """Whether the target is what is read, or lies in it."""
    with_links = read.resolve()
    if with_links == folder or with_links in folder.parents:
        return True
    return target.exists() and target.samefile(read)


def _refused(code: str, target: Path, why: str) -> Usage:
    between = " " if why.startswith("exists ") else ": "
    return Usage(code, f"{target}{between}{why}", path=str(target))
