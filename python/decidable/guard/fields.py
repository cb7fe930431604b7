"""What a chunk of a client's stream is made of, whatever library it comes from: read, copied and made by its shape.

No library is imported for it: a chunk is a ``dict`` or an object whose fields can be listed (pydantic, dataclass,
msgspec, plain). What cannot be listed cannot be read whole, and is refused by those who ask.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

__all__ = ["changed", "fields", "made"]


def fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a chunk or of a part of one by name; ``None`` where they cannot be listed."""
    if isinstance(value, dict):
        return value if all(isinstance(name, str) for name in value) else None
    if isinstance(value, (str, bytes, int, float, list, tuple, type)) or value is None:
        return None
    kind = type(value)
    listed = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", None)
    own = getattr(value, "__dict__", None)
    if own is None and listed is None:
        return None
    # What a model did not know when it was read stands apart in pydantic; what begins with "_" is the library's own.
    found = dict.fromkeys(listed or ()) | (own or {}) | (getattr(value, "__pydantic_extra__", None) or {})
    for name in listed or ():
        found[name] = getattr(value, name)
    return {name: inner for name, inner in found.items() if not name.startswith("_")}


def changed(value: Any, changes: Mapping[str, Any]) -> Any:
    """A copy with other values in some fields; the value itself where there are none."""
    if not changes:
        return value
    if isinstance(value, dict):
        other = copy.copy(value)
        other.update(changes)
        return other
    if hasattr(type(value), "model_copy"):
        return value.model_copy(update=dict(changes))
    other = copy.copy(value)
    for name, inner in changes.items():
        object.__setattr__(other, name, inner)
    return other


def made(like: Any, name: str, contents: dict[str, Any]) -> Any:
    """A new chunk: of the class of this name from the library that another chunk comes from, or a ``dict`` beside one.

    Beside an object of no library it is a plain object with these fields.
    """
    if isinstance(like, dict):
        return contents
    for base in type(like).__mro__:
        names = [f"Beta{name}", name] if base.__name__.startswith("Beta") else [name]
        place = base.__module__.split(".")
        for length in range(len(place), 0, -1):
            # The library is there, because the other chunk is.
            module = sys.modules.get(".".join(place[:length]))
            for each in names:
                kind: Any = vars(module).get(each) if module is not None else None
                if hasattr(kind, "model_construct"):
                    return kind.model_construct(**contents)
    return _plain(contents)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _plain(inner) for name, inner in value.items()})
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
