"""What a chunk of a client's stream is made of, whatever library it comes from: read, copied and made by its shape.

No library is imported for it: a chunk is a ``dict``, an object whose fields can be listed (pydantic, dataclass,
msgspec, plain), or both at once. What cannot be listed cannot be read whole, and is refused by those who ask.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

__all__ = ["changed", "fields", "is_plain", "made"]


def fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a chunk or of a part of one by name; ``None`` where they cannot be listed.

    Of a ``dict`` that has attributes as well both are read; where they disagree it is not known what it says.
    """
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            return None
        attributes = _attributes(value)
        if not attributes:
            return value
        if not all(_alike(inner, value[name]) for name, inner in attributes.items() if name in value):
            return None
        return {**value, **attributes}
    if isinstance(value, (str, bytes, int, float, list, tuple, type)) or value is None:
        return None
    own = getattr(value, "__dict__", None)
    slots = [name for base in type(value).__mro__ for name in _listed(base) if hasattr(value, name)]
    if own is None and not slots:
        return None
    # What a model did not know when it was read stands apart in pydantic.
    found = {**(own or {}), **(getattr(value, "__pydantic_extra__", None) or {})}
    for name in slots:
        found[name] = getattr(value, name)
    return found


def is_plain(value: Any) -> bool:
    """Whether it is a ``dict`` and nothing besides."""
    return isinstance(value, dict) and not _attributes(value)


def _attributes(value: dict[Any, Any]) -> Mapping[str, Any]:
    """What a ``dict`` has beside its items."""
    if type(value) is dict:
        return {}
    own = getattr(value, "__dict__", None)
    if own is value:
        return {}
    slots = {
        name: getattr(value, name) for base in type(value).__mro__ for name in _listed(base) if hasattr(value, name)
    }
    return {**(own or {}), **slots}


def _alike(a: Any, b: Any) -> bool:
    """Whether two values say the same to whoever reads chunks."""
    if a is b:
        return True
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_alike, a, b))
    one, other = fields(a), fields(b)
    if one is None or other is None:
        return type(a) is type(b) and one is other and bool(a == b)
    return one.keys() == other.keys() and all(_alike(inner, other[name]) for name, inner in one.items())


def _listed(kind: type) -> list[str]:
    """The fields that a class has outside of its objects' dictionaries."""
    if "__pydantic_fields__" in vars(kind):
        return []
    slots = vars(kind).get("__slots__", ())
    names = [*((slots,) if isinstance(slots, str) else slots), *vars(kind).get("__struct_fields__", ())]
    return [name for name in names if not (name.startswith("__") and name.endswith("__"))]


def changed(value: Any, changes: Mapping[str, Any]) -> Any:
    """A copy with other values in some fields; the value itself where there are none."""
    if not changes:
        return value
    if isinstance(value, dict):
        other = copy.copy(value)
        attributes = _attributes(value)
        for name, inner in changes.items():
            # Each where it was; what was nowhere, in both.
            if name in value or name not in attributes:
                dict.__setitem__(other, name, inner)
            if name in attributes or (attributes and name not in value and hasattr(value, "__dict__")):
                object.__setattr__(other, name, inner)
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
