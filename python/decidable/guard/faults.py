"""The faults of what a guard is given: they say where, and repeat nothing that a model could have said."""

from __future__ import annotations

import re
from typing import Final

from decidable.errors import InvalidInput

__all__ = ["NAMES_A_MATCH", "no_text", "of_a_helper", "shown", "unknown_chunk", "unknown_kind", "wrong_kind"]

NAMES_A_MATCH: Final = "has a field in whose name something is found"
"""Why what is about a text is refused, and not only stopped in: nothing of it can come out otherwise."""


def unknown_chunk(place: str, why: str = "is not known, so it cannot be read") -> InvalidInput:
    """The fault of a chunk that could carry text nobody looks at. It does not repeat what the chunk says."""
    # Names are the chunk's, too, and a model may have chosen them.
    place = re.sub(r"[^.\[\]]+", lambda name: shown(name[0]), place)
    return InvalidInput("guard.unknown_chunk", f"{place} of a chunk {why}", field=place)


def unknown_kind(place: str, kind: str) -> InvalidInput:
    """The fault of a kind of chunk or part that nobody reads here; which one, as far as a service could have it."""
    if not kind:
        return unknown_chunk(place)
    told = ".".join(shown(name) for name in kind.split("."))
    return InvalidInput(
        "guard.unknown_chunk", f'{place} "{told}" of a chunk is not known, so it cannot be read', field=place
    )


def no_text(place: str, given: object) -> InvalidInput:
    """The fault of a text that is of another kind."""
    kinds = {dict: "an object", list: "a list", tuple: "a list", bool: "true or false", int: "a number"}
    kind = kinds.get(type(given))
    return unknown_chunk(place, f"is {kind}, and no text" if kind else "is no text")


def shown(name: str) -> str:
    """A name as far as it is one that a service could have: letters, digits and ``_``, long ones in one case, or words
    with hyphens.
    """
    return name if re.fullmatch(r"[A-Za-z0-9_]{1,40}|[a-z_]{1,64}|([A-Za-z]{1,24}-){1,3}[A-Za-z]{1,24}", name) else "…"


def of_a_helper(place: str, instead: str) -> InvalidInput:
    """The fault of what a client's helper makes of a stream: it tells each text several times over, and parsed."""
    why = f"is of a client's helper, which repeats what was before; guard what {instead} gives"
    return unknown_chunk(place, why)


def wrong_kind(wanted: str, given: object, field: str = "chunk") -> InvalidInput:
    """The fault of a chunk of another kind than those before, or of an argument."""
    kind = type(given).__name__
    return InvalidInput("input.wrong_type", f"{field} must be {wanted}, and is {kind}", field=field, value=kind)
