"""Log files: keys and heads kept beside a log, reading records, exporting.

A log is a directory (docs/spec/log.md). A head is the place where it ended at some time; kept elsewhere, it shows
later whether the end was cut off or the past rewritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from decidable import _native
from decidable._native import Key, Reader
from decidable.builders import describe, integer
from decidable.errors import InvalidInput, UnknownName

__all__ = ["HEAD_FILE_BYTES_MAX", "export", "read", "read_head", "write_head"]

HEAD_FILE_BYTES_MAX = 65_536
"""A head takes some hundred bytes; a file that is larger is something else."""

SEGMENT: Final = ".seg"
"""How the files of a log end that hold its records (docs/spec/log.md)."""

LOCK: Final = "LOCK"
"""The file that a log has from its beginning on, beside them."""


@runtime_checkable
class Writable(Protocol):
    """A stream of bytes, such as ``sys.stdout.buffer``: it says how many it took."""

    def write(self, data: bytes, /) -> int | None: ...


class _Whole:
    """A caller's stream, which is given the rest again until it has taken all of it.

    ``None`` is what a raw stream of Python says where it would block: it took nothing then.
    """

    def __init__(self, stream: Writable) -> None:
        self._stream = stream
        self._taken = 0

    def write(self, data: bytes) -> int:
        rest = data
        while rest:
            taken = self._count(self._stream.write(rest))
            self._taken += min(taken, len(rest))
            rest = rest[taken:]
        return len(data)

    def _count(self, said: object) -> int:
        if said is None:
            raise self._fault("took nothing", ": it would block, or does not say what it took")
        # True would be one byte to Python, and is what a stream says that means all of it.
        taken = integer(said)
        if taken is None:
            raise self._fault("says of what it took", f" no number of bytes, but a {type(said).__name__}")
        if taken <= 0:
            raise self._fault("took nothing")
        return taken

    def _fault(self, what: str, why: str = "") -> InvalidInput:
        message = f"the stream to export to {what} behind byte {self._taken}{why}"
        return InvalidInput("export.unwritable", message, offset=self._taken)


def place(path: str | os.PathLike[str]) -> Path:
    """A path, which is not empty: nobody means the current directory by saying nothing."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        message = f"path must be a path, not {type(path).__name__}"
        raise InvalidInput("input.wrong_type", message, field="path", value=path) from None
    if not text:
        raise InvalidInput("log.no_path", "the path is empty", field="path", value=text)
    if "\0" in text:
        message = f"the path {describe(text)} has a NUL character, which no path has"
        raise InvalidInput("log.no_path", message, field="path", value=text)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        message = f"the path {describe(text)} is no valid Unicode, and not of the system either"
        raise InvalidInput("log.no_path", message, field="path", value=text) from None
    return Path(text)


def is_there(path: Path) -> bool:
    """Whether anything is at a place, which is not known where the system does not let one look.

    Raises:
        InvalidInput: if it cannot be known.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InvalidInput("log.unreadable", f"{path} cannot be read: {_reason(error)}", path=str(path)) from None
    return True


def existing(path: str | os.PathLike[str]) -> Path:
    """The directory of a log that is there."""
    found = place(path)
    if not is_there(found):
        raise UnknownName("wal.not_found", f"there is no log at {found}", path=str(found))
    return directory(found)


def directory(path: str | os.PathLike[str]) -> Path:
    """Where a log is or can be: anything but a file."""
    found = place(path)
    if is_there(found) and not found.is_dir():
        message = f"{found} is not a directory, and a log is one"
        raise InvalidInput("log.not_a_directory", message, path=str(found))
    return found


def holds_a_log(path: Path) -> bool:
    """Whether a directory is that of a log of ours."""
    return any(path.glob(f"*{SEGMENT}"))


def read(path: str | os.PathLike[str], *, kind: str | None = None, key: Key | None = None) -> Reader:
    """The records of a log in order, each verified, and derived again from those before it, as it is read.

    Args:
        path: The log's directory.
        kind: Only records of this kind (docs/spec/log.md lists them); all by default.
        key: Checks the seals of a sealed log as well.

    Returns:
        An iterator. Once it has come to its end, its ``tail`` says what stands behind the last whole batch and is no
        record, as in a report; ``None`` where there is nothing.

    Raises:
        UnknownName: if there is no log.
        VerificationError: at the first record that does not hold, with ``seq`` and ``offset``. What only the end
            can show, such as a private part that was changed, is raised there.
    """
    return _native.Reader(existing(path), kind=kind, key=key)


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | Writable,
    *,
    key: Key | None = None,
    out_key: Key | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write the decisions of a log as a JSON-lines log of the exchange format.

    Args:
        out: A file, which appears whole or not at all; or a stream of bytes that is open for writing, whose ``write``
            returns how many it took and is given the rest again. What a stream was given before an error is the part
            of the log that was read and verified before it.
        key: The key of the log, if it is sealed.
        out_key: Makes the written log a keyed one.
        progress: As of :func:`verify <decidable.verify>`.

    Returns:
        ``decisions`` (how many were written), ``refusals_left_out`` (requests that the safety ceiling refused, for
        which the format has no place), ``anchor``, the head of the written log, and ``tail``: bytes after the last
        whole batch, which are no records, as in a report.

    Raises:
        InvalidInput: if ``out`` exists or cannot be written, a stream does not say that it took any of what it is given
            (as one that would block), with how many bytes it took as ``offset``, or decisions used extensions that the
            format cannot hold; the message says which.
    """
    source = existing(path)
    if isinstance(out, Writable):
        return _native.export_log(source, _Whole(out), key=key, out_key=out_key, progress=progress)
    target = place(out)
    if is_there(target):
        raise InvalidInput("export.exists", f"{target} exists already", path=str(target))
    folder = target.parent.resolve()
    if any(holds_a_log(each) for each in (folder, *folder.parents)):
        message = f"{target} lies in the directory of a log, where nothing else is written"
        raise InvalidInput("export.in_a_log", message, path=str(target))
    with appearing(target) as part:
        try:
            return _native.export_log(source, part, key=key, out_key=out_key, progress=progress)
        except InvalidInput as error:
            if error.code != "export.unwritable":
                raise
            message = error.message.replace(str(part), str(target))
            raise InvalidInput(error.code, message, path=str(target)) from None


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Where to write a new file: it gets the name ``target`` when it is whole, unless that is taken by then.

    Raises:
        InvalidInput: if the name is taken, or nothing can be created there.
    """
    try:
        # A folder of our own: its name cannot be known beforehand, nor taken by another export to the same target.
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        message = f"{target} cannot be created: {_reason(error)}"
        raise InvalidInput("export.unwritable", message, path=str(target)) from None
    part = folder / target.name
    try:
        yield part
        with about(target):
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            _appear(part, target)
            _sync_directory(target.parent)
    finally:
        part.unlink(missing_ok=True)
        folder.rmdir()


def _appear(part: Path, target: Path) -> None:
    """Give a whole file its name, and never replace what has that name already."""
    try:
        try:
            os.link(part, target)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: the name is taken first, and only what has it by then is replaced.
            target.open("xb").close()
            try:
                part.replace(target)
            except OSError:
                target.unlink()
                raise
    except FileExistsError:
        raise InvalidInput("export.exists", f"{target} exists already", path=str(target)) from None
    except OSError as error:
        message = f"{target} cannot be created: {_reason(error)}"
        raise InvalidInput("export.unwritable", message, path=str(target)) from None


def write_head(path: str | os.PathLike[str], head: dict[str, Any]) -> None:
    """Write a head file: durable, and whole or not at all. What is there is replaced.

    Raises:
        InvalidInput: if it cannot be written there, or what is given is no head. What is there stays as it is.
    """
    target = place(path)
    try:
        text = json.dumps(head, indent=2)
    except (TypeError, ValueError, RecursionError):
        text = ""
    if not isinstance(head, dict) or not text:
        message = "head must be a dict of what JSON has, as Engine.head gives it"
        raise InvalidInput("input.wrong_type", message, field="head", value=head)
    _native.check_head(head)
    try:
        _replace(target, text + "\n")
    except OSError as error:
        message = f"the head file {target} cannot be written: {_reason(error)}"
        raise InvalidInput("head.unwritable", message, path=str(target)) from None


def _replace(target: Path, text: str) -> None:
    # A name that nobody can have laid a link at.
    descriptor, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor is no path
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


@contextlib.contextmanager
def about(target: Path) -> Iterator[None]:
    """A fault of the system while a file is written beside its name is one of that name."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(target), None
        raise


def _reason(error: OSError) -> str:
    """Why the system refused, in lower case."""
    return (error.strerror or str(error)).lower()


def _no_head(path: str | os.PathLike[str], why: str) -> InvalidInput:
    return InvalidInput("head.unreadable", f"the head file {path} cannot be read: {why}", path=str(path))


def _sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_head(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a head file, ours or an anchor of the exchange format.

    Raises:
        InvalidInput: if there is none or it is not JSON.
    """
    source = place(path)
    try:
        with source.open("rb") as file:
            text = file.read(HEAD_FILE_BYTES_MAX + 1)
        if len(text) > HEAD_FILE_BYTES_MAX:
            raise ValueError(f"it has more than {HEAD_FILE_BYTES_MAX} bytes")
        head = json.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise _no_head(path, _reason(error)) from None
    except UnicodeDecodeError as error:
        raise _no_head(path, f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _no_head(path, f"it is not JSON at line {error.lineno}" if text.strip() else "it is empty") from None
    except (ValueError, RecursionError) as error:
        raise _no_head(path, "it is nested too deeply" if isinstance(error, RecursionError) else str(error)) from None
    if not isinstance(head, dict):
        raise InvalidInput("head.unreadable", f"the head file {path} is not a JSON object", path=str(path))
    return head


@contextlib.contextmanager
def kept(head: dict[str, Any] | str | os.PathLike[str] | None) -> Iterator[dict[str, Any] | None]:
    """A head that was kept, or what is in its file; what is wrong with it is then told with the file's name."""
    if head is None or isinstance(head, dict):
        yield head
        return
    if not isinstance(head, (str, os.PathLike)):
        message = f"head must be a dict or a path, not {type(head).__name__}"
        raise InvalidInput("input.wrong_type", message, field="head", value=head)
    found = read_head(head)
    try:
        yield found
    except InvalidInput as error:
        if not error.code.startswith("head."):
            raise
        raise InvalidInput(error.code, f"the head file {os.fspath(head)}: {error}", **error.details) from None
