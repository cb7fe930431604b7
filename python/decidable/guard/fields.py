"""What a chunk of a client's stream is made of, whatever library it comes from: read, copied and made by its shape.

No library is imported for it: a chunk is a ``dict``, an object whose fields can be listed (pydantic, dataclass,
msgspec, plain), or both at once. What cannot be listed cannot be read whole, and is refused by those who ask.
"""

from __future__ import annotations

import copy
import functools
import struct
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any, Final

from decidable.errors import InvalidInput

__all__ = [
    "changed",
    "declared",
    "fields",
    "is_empty",
    "is_plain",
    "is_readable",
    "kept",
    "made",
    "unreadable",
    "without",
]

PLAIN: Final = (str, bytes, bool, int, float, list, tuple, dict)
EXACT: Final = frozenset({type(None), *PLAIN})
NAMES: Final = frozenset({str})
COUNTS: Final = (type(None), bool, int, float)

# How what a built-in class has is read.
READ_BY: Final = frozenset(
    {
        "__bool__", "__contains__", "__eq__", "__float__", "__format__", "__getattribute__", "__getitem__", "__index__",
        "__int__", "__iter__", "__len__", "__missing__", "__ne__", "__reversed__", "__str__", "get", "is_integer",
        "items", "keys", "values",
    }
)  # fmt: skip

ASKED: Final = frozenset({"__getattr__", "__getattribute__"})

MOST_CLASSES: Final = 4_096
"""Of how many classes it is remembered how their objects are read; a client's library has some hundreds."""

PLACE: Final = struct.calcsize("P")
"""How many bytes an object takes for one that it refers to."""

# What readers look for: an object that has it elsewhere than in its fields says it to others.
LOOKED_FOR: Final = frozenset(
    {
        "additional_kwargs", "args", "arguments", "choices", "content", "content_block", "custom", "delta", "error",
        "function", "function_call", "input", "message", "outputs", "partial_json", "reasoning", "reasoning_content",
        "refusal", "text", "thinking", "tool_call_chunks", "tool_calls",
    }
)  # fmt: skip


def fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a chunk or of a part of one by name; ``None`` where they cannot be listed.

    Of a ``dict`` that has attributes as well both are read; where they disagree it is not known what it says.
    """
    found = _found(value) if is_readable(value) else None
    if found is None or EXACT.issuperset(map(type, found.values())) or all(map(is_readable, found.values())):
        return found
    return None


def unreadable(value: Any) -> str:
    """Which field of a chunk cannot be read; nothing where its fields cannot be listed, or all can be read."""
    found = (_found(value) if is_readable(value) else None) or {}
    return next((name for name, inner in found.items() if not is_readable(inner)), "")


def _found(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, dict):
        if not NAMES.issuperset(map(type, value)):
            return None
        if type(value) is dict:
            return value
        attributes = _attributes(value)
        if not all(_alike(inner, value[name]) for name, inner in attributes.items() if name in value):
            return None
        found = {**value, **attributes}
        return None if _says_more(value, found) else found
    if isinstance(value, PLAIN):
        return None
    own = getattr(value, "__dict__", None)
    slots = [name for name in _listed(_kind(value)) if hasattr(value, name)]
    if (own is None and not slots) or not _is_listable(_kind(value)):
        return None
    # What a model did not know when it was read stands apart in pydantic, and so does what it keeps to itself and its
    # methods may tell.
    found = {**(own or {}), **(getattr(value, "__pydantic_extra__", None) or {}), **_may_have_text(_private(value))}
    for name in slots:
        found[name] = getattr(value, name)
    return None if _says_more(value, found) else found


def _private(value: Any) -> Mapping[str, Any]:
    """What an object of pydantic keeps to itself."""
    return getattr(value, "__pydantic_private__", None) or {}


def _may_have_text(private: Mapping[str, Any]) -> Mapping[str, Any]:
    """As far as it may have a text."""
    return {name: inner for name, inner in private.items() if type(inner) not in COUNTS}


def is_readable(value: Any) -> bool:
    """Whether whoever reads a value reads what others read of it.

    It is what it says that it is, has no other way to be read, and where it says that it is nothing it is nothing.
    """
    kind = type(value)
    if kind in EXACT:
        return True
    if value.__class__ is not kind:
        return False
    if issubclass(kind, PLAIN):
        # The members of an enumeration are whoever's who wrote it.
        has_more = not issubclass(kind, (dict, Enum)) and bool(getattr(value, "__dict__", None))
        return not has_more and not _reads_otherwise(kind)
    return not is_empty(value)


def is_empty(value: Any) -> bool:
    """Whether it says nothing. What cannot be asked, such as an array, says something."""
    try:
        return not value
    except Exception:
        return False


@functools.lru_cache(MOST_CLASSES)
def _reads_otherwise(kind: type) -> bool:
    """Whether a class has a way of its own to give out what a built-in one has."""
    if issubclass(kind, Enum):
        return False
    bases = [
        base for base in kind.__mro__ if base.__module__.partition(".")[0] not in ("builtins", "collections", "numpy")
    ]
    return any(not READ_BY.isdisjoint(vars(base)) for base in bases)


def declared(value: Any) -> frozenset[str]:
    """The names of fields that are of an object's class, and so of whoever wrote that."""
    return frozenset() if isinstance(value, dict) else _declared(_kind(value))


def _kind(value: Any) -> Any:
    return type(value)


@functools.lru_cache(MOST_CLASSES)
def _declared(kind: type) -> frozenset[str]:
    known = ("__pydantic_fields__", "__dataclass_fields__")
    names = (name for base in kind.__mro__ for each in known for name in vars(base).get(each) or ())
    return frozenset({*names, *_listed(kind)})


@functools.lru_cache(MOST_CLASSES)
def _is_listable(kind: type) -> bool:
    """Whether all that its objects have is in dictionaries and slots; what C made, such as an exception, has more."""
    slots = sum(len(_slots(base)) for base in kind.__mro__)
    # A dictionary and weak references take a place each.
    return kind.__basicsize__ <= object.__basicsize__ + PLACE * (slots + 2)


@functools.lru_cache(MOST_CLASSES)
def _elsewhere(kind: type) -> tuple[str, ...]:
    """What its objects may have of their class, or make when they are asked: of what is looked for, and computed."""
    bases = [base for base in kind.__mro__ if base not in (dict, object)]
    names = [name for base in bases for name, inner in vars(base).items() if name in LOOKED_FOR and not callable(inner)]
    # That of pydantic gives what is among the fields.
    if any(not base.__module__.startswith("pydantic.") and not ASKED.isdisjoint(vars(base)) for base in bases):
        names += LOOKED_FOR
    return (*dict.fromkeys(names), *(getattr(kind, "__pydantic_computed_fields__", None) or ()))


def _says_more(value: Any, found: Mapping[str, Any]) -> bool:
    """Whether it has something of what is looked for that is not among its fields."""
    for name in _elsewhere(_kind(value)):
        inner = getattr(value, name, None)
        if name in found:
            if inner is not None and not _alike(inner, found[name]):
                return True
            continue
        # The text of a message of LangChain is what its content says.
        if name == "text" and "content" in found:
            continue
        if inner is not None and not (isinstance(inner, (str, list, tuple, dict)) and not inner):
            return True
    return False


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
    slots = {name: getattr(value, name) for name in _listed(_kind(value)) if hasattr(value, name)}
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


def _slots(kind: type) -> list[str]:
    """The slots of a class, which are a name, or some of them. Those of msgspec have one for each of their fields."""
    own = vars(kind).get("__slots__", ())
    return [own] if isinstance(own, str) else list(own) if isinstance(own, (list, tuple, dict, set, frozenset)) else []


@functools.lru_cache(MOST_CLASSES)
def _listed(kind: type) -> tuple[str, ...]:
    """The fields that a class, and what it is made of, has outside of its objects' dictionaries."""
    found: list[str] = []
    for base in kind.__mro__:
        # Python writes the name of the class before one with two underscores.
        hidden = f"_{base.__name__.lstrip('_')}"
        slots = _slots(base) if "__pydantic_fields__" not in vars(base) else []
        names = [hidden + name if name.startswith("__") and not name.endswith("__") else name for name in slots]
        found += [name for name in names if not (name.startswith("__") and name.endswith("__"))]
    return tuple(found)


def changed(value: Any, changes: Mapping[str, Any]) -> Any:
    """A copy with other values in some fields; the value itself where there are none."""
    if not changes:
        return value
    if type(value) is dict:
        return {**value, **changes}
    private = _private(value)
    try:
        other = _copied(value, changes)
    except (AttributeError, TypeError):
        # It cannot have what it would say.
        other = value
    wanted = {name: inner for name, inner in {**(fields(value) or {}), **changes}.items() if name not in private}
    wanted |= _may_have_text({**private, **{name: inner for name, inner in changes.items() if name in private}})
    said = fields(other)
    is_copy = other is not value and type(other) is type(value)
    if (
        not is_copy
        or said is None
        or said.keys() != wanted.keys()
        or not all(_alike(said[name], inner) for name, inner in wanted.items())
    ):
        raise _no_copy()
    return other


def without(value: Any, names: Iterable[str]) -> Any:
    """A copy without some fields; of an object they are ``None``, and to pydantic were not given."""
    unsaid = set(names)
    if not unsaid:
        return value
    if type(value) is dict:
        return {name: inner for name, inner in value.items() if name not in unsaid}
    other = changed(value, dict.fromkeys(unsaid))
    if hasattr(type(other), "model_fields_set"):
        other.model_fields_set.difference_update(unsaid)
    return other


def kept(value: Any) -> Any:
    """A copy of what comes out later, which its source cannot change any more."""
    try:
        other = copy.deepcopy(value)
    except Exception:
        other = None
    if type(other) is not type(value) or not _alike(other, value):
        raise _no_copy()
    return other


def _no_copy() -> InvalidInput:
    return InvalidInput("guard.unknown_chunk", "a copy of a chunk does not say what it was made of", field="copy")


def _copy(value: Any) -> Any:
    other = copy.copy(value)
    if other is value:
        # What is changed would be the caller's own.
        raise TypeError
    return other


def _copied(value: Any, changes: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        other = _copy(value)
        attributes = _attributes(value)
        for name, inner in changes.items():
            # Each where it was; what was nowhere, in both.
            if name in value or name not in attributes:
                dict.__setitem__(other, name, inner)
            if name in attributes or (attributes and name not in value and hasattr(value, "__dict__")):
                object.__setattr__(other, name, inner)
        return other
    if hasattr(type(value), "model_copy"):
        private = _private(value)
        other = value.model_copy(update={name: inner for name, inner in changes.items() if name not in private})
        for name in private.keys() & changes.keys():
            setattr(other, name, changes[name])
        return other
    if hasattr(type(value), "__struct_fields__") and hasattr(type(value), "__replace__"):
        # That of msgspec takes no other way than its own.
        return value.__replace__(**changes)
    other = _copy(value)
    for name, inner in changes.items():
        # What is frozen is so for others, not for a copy that nobody has.
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
