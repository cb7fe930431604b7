"""Values as people write them, read exactly: ``"70%"``, ``"0.02"``, ``"15m"``.

The kernel counts in basis points, microunits and milliseconds (docs/spec/decisions.md). A person writes percent,
currency units and seconds. This module is the only place where one becomes the other, and :func:`policy` and
:func:`request` build the kernel's objects out of such values and of names.

Three rules hold everywhere:

* Nothing passes through a binary float: text is read as a decimal, a ``float`` is refused, and so is a ``bool``. Where
  an ``int`` is taken, so is what Python takes as an index, such as NumPy's integers.
* A number whose unit could be guessed two ways is refused. ``70`` as a proportion might mean 70 % or 70 basis points;
  write ``"70%"`` or ``"7000bps"``. Money is a string or a ``Decimal`` in currency units, or a string such as
  ``"20000 microunits"``; an ``int`` is refused, because elsewhere an ``int`` of money is microunits.
* What the kernel cannot represent is rounded against whoever it would favour, or refused. A budget or limit of money
  rounds down (nobody may spend what was not granted), a price or a bill rounds up (nothing is counted cheaper than it
  is), and a proportion, a duration or a number of tokens must be exact.

Each fault is an :class:`~decidable.errors.InvalidInput` with ``field`` and ``value``, and one of the codes
``builders.wrong_type``, ``builders.unreadable``, ``builders.missing_unit``, ``builders.inexact``,
``builders.out_of_range``, ``builders.empty`` and ``builders.given_twice``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from difflib import get_close_matches
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, SupportsIndex, TypeAlias

from decidable._native import Policy, Request
from decidable.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from decidable._native import Model, Names

__all__ = [
    "Friendly",
    "counted",
    "currency_units",
    "describe",
    "granted",
    "integer",
    "limits",
    "microunits",
    "milliseconds",
    "policy",
    "proportion",
    "rate",
    "rate_per_token",
    "request",
    "seconds",
    "suggestion",
    "tokens",
    "truth",
]

Friendly: TypeAlias = str | Decimal
"""What a person writes for money: text or a ``Decimal``, in currency units."""

Rounding: TypeAlias = Literal["down", "up"]

U32_MAX: Final = 2**32 - 1
U64_MAX: Final = 2**64 - 1
I64_MAX: Final = 2**63 - 1

# A decimal number, then perhaps a unit. The exponent is there because price maps write "2.5e-07".
_QUANTITY = re.compile(
    r"\s*(?P<number>[+-]?\d{1,60}(?:_\d{1,60}){0,20}(?:\.\d{1,60})?(?:[eE][+-]?\d{1,3})?)\s*(?P<unit>[A-Za-zµ%]*)\s*",
    re.ASCII,
)

_SECONDS: Final[Mapping[str, Fraction]] = {
    "ms": Fraction(1, 1_000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3_600),
}

# --- one value ----------------------------------------------------------------------------------------------------


def proportion(value: str, *, field: str, most: int = 10_000) -> int:
    """A proportion as basis points, exactly: ``"70%"`` is 7,000. ``most`` is the largest that the field allows.

    >>> proportion("70%", field="min_quality"), proportion("0.05%", field="risk"), proportion("7000bps", field="risk")
    (7000, 5, 7000)
    """
    example = '"70%" or "7000bps"'
    number, unit = _quantity(value, field, example)
    scale = {"%": 100, "percent": 100, "bps": 1}.get(unit)
    if scale is None:
        raise _missing_unit(field, value, example)
    return _ranged(_exact(number * scale, field, value, "basis points"), field, value, 0, most, "basis points")


def microunits(value: Friendly, *, field: str, rounding: Rounding, least: int = 0, most: int = I64_MAX) -> int:
    """Money as microunits (millionths of the currency unit): ``"0.02"`` is 20,000.

    ``rounding`` says where a fraction of a microunit goes: ``"down"`` for what may be spent, ``"up"`` for what is
    owed.

    >>> microunits("0.02", field="max_cost", rounding="down"), microunits("0.0000001", field="cost", rounding="up")
    (20000, 1)
    >>> microunits("20000 microunits", field="max_cost", rounding="down")
    20000
    """
    example = '"0.02" (currency units) or "20000 microunits"'
    if integer(value) is not None:
        # A document has decimals beside its texts, and there 1.0 is one.
        raise _wrong_type(field, value, f"text such as {example}, or with a decimal point, as 1.0 in a file")
    number, unit = _quantity(value, field, example)
    scale = {"": 10**6, "microunits": 1, "microunit": 1}.get(unit)
    if scale is None:
        raise _unreadable(field, value, f"an amount of money such as {example}")
    return _ranged(_rounded(number * scale, rounding), field, value, least, most, "microunits")


def granted(value: Friendly, *, field: str, least: int = 0) -> int:
    """Money that may be spent, as microunits, rounded down; what would become nothing by that is refused.

    >>> granted("0.02", field="max_cost"), granted("0", field="max_cost")
    (20000, 0)
    """
    amount = microunits(value, field=field, rounding="down", least=least)
    if amount == 0 and microunits(value, field=field, rounding="up") != 0:
        # Dropped to nothing it would pay for nothing, by a slip of the unit.
        message = f"{field} is {describe(value)}, which is less than a microunit (0.000001)"
        raise InvalidInput("builders.inexact", message, field=field, value=value)
    return amount


def currency_units(microunits: int) -> Decimal:
    """Microunits as currency units, exactly: the way back, for showing them.

    >>> str(currency_units(18_300))
    '0.018300'
    """
    return Decimal(microunits).scaleb(-6, Context(prec=40))


def milliseconds(value: str, *, field: str) -> int:
    """A duration as milliseconds, exactly: ``"900ms"``, ``"2s"``, ``"1.5s"``, ``"15m"``, ``"1h"``.

    >>> milliseconds("2s", field="max_latency"), milliseconds("15m", field="max_latency")
    (2000, 900000)
    """
    return _duration(value, field, "milliseconds", {unit: scale * 1_000 for unit, scale in _SECONDS.items()})


def seconds(value: str, *, field: str) -> int:
    """A duration as seconds, exactly: ``"15m"`` is 900; ``"1500ms"`` is refused.

    >>> seconds("15m", field="ttl"), seconds("2000ms", field="ttl")
    (900, 2)
    """
    return _duration(value, field, "seconds", _SECONDS)


def tokens(value: SupportsIndex | str, *, field: str, least: int = 0) -> int:
    """A number of tokens: an ``int``, or text such as ``"1_200"``, ``"4k"`` (4,000) or ``"1M"`` (1,000,000).

    >>> tokens(1_200, field="input_tokens"), tokens("128k", field="input_tokens")
    (1200, 128000)
    """
    example = '1200, "4k" or "1M"'
    whole = integer(value)
    if whole is not None:
        return _ranged(whole, field, whole, least, U32_MAX, "tokens")
    if not isinstance(value, str):
        raise _wrong_type(field, value, f"a number of tokens such as {example}")
    number, unit = _quantity(value, field, example)
    scale = {"": 1, "k": 1_000, "M": 10**6}.get(unit)
    if scale is None:
        raise _unreadable(field, value, f"a number of tokens such as {example}")
    return _ranged(_exact(number * scale, field, value, "tokens"), field, value, least, U32_MAX, "tokens")


def rate(value: Friendly, *, field: str) -> int:
    """A price in currency units per million tokens, as microunits per million tokens, rounded up.

    >>> rate("0.25", field="input")
    250000
    """
    return microunits(value, field=field, rounding="up", most=U64_MAX)


def rate_per_token(value: Decimal | SupportsIndex, *, field: str) -> int:
    """A price in currency units per token, as microunits per million tokens (times 10^12), rounded up.

    This is the unit of public price maps. It takes a ``Decimal``, or the ``int`` that such a file also contains.

    >>> rate_per_token(Decimal("2.5E-7"), field="input_cost_per_token")
    250000
    """
    price = value if isinstance(value, Decimal) else integer(value)
    if price is None:
        raise _wrong_type(field, value, "a Decimal: read the file with parse_float=Decimal, or give its path")
    scaled = _fraction(Decimal(price), field) * 10**12
    return _ranged(_rounded(scaled, "up"), field, value, 0, U64_MAX, "microunits per million tokens")


# --- policies and requests ----------------------------------------------------------------------------------------


class Vocabulary(Protocol):
    """What the builders ask of a catalog: its models, and numbers for names (:class:`decidable.catalog.Catalog`)."""

    @property
    def models(self) -> Sequence[Model]: ...
    @property
    def names(self) -> Names | None: ...
    @property
    def limits(self) -> Mapping[str, Any]: ...
    def model_id(self, name: str) -> int: ...
    def provider_mask(self, names: Iterable[str]) -> int: ...
    def capability_mask(self, names: Iterable[str]) -> int: ...
    def region_mask(self, names: Iterable[str]) -> int: ...


def _per_millisecond(value: Friendly, *, field: str) -> int:
    return microunits(value, field=field, rounding="up", most=U64_MAX)


def _multiplier(value: str, *, field: str) -> int:
    return proportion(value, field=field, most=50_000)


LIMITS: Final[Mapping[str, tuple[str, Callable[..., int]]]] = {
    "hard_risk_limit": ("hard_risk_limit_bps", proportion),
    "minimum_confidence": ("minimum_confidence_bps", proportion),
    "risk_penalty": ("risk_penalty_multiplier_bps", _multiplier),
    "latency_penalty": ("latency_penalty_microunits_per_ms", _per_millisecond),
}
"""A policy's limits as people name them: the specification's field, and how the value is read. ``latency_penalty`` is
money per millisecond."""

POLICY_FIELDS: Final = (
    "policy_epoch",
    "catalog_epoch",
    "hard_risk_limit_bps",
    "minimum_confidence_bps",
    "risk_penalty_multiplier_bps",
    "latency_penalty_microunits_per_ms",
    "objective",
)
"""A policy's fields as the specification names them, in its order, and the objective."""


def limits(written: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's fields, each under the specification's name, from either spelling.

    >>> limits({"hard_risk_limit": "96%", "minimum_confidence_bps": 5_500, "objective": "cheapest"})
    {'hard_risk_limit_bps': 9600, 'minimum_confidence_bps': 5500, 'objective': 'cheapest'}
    """
    fields: dict[str, Any] = {}
    for name, value in written.items():
        field, read = LIMITS.get(name, (name, None))
        if field not in POLICY_FIELDS:
            known = [*POLICY_FIELDS, *LIMITS]
            raise InvalidInput(
                "builders.unknown_field",
                f"{name} is not a limit of a policy{suggestion(name, known)}",
                field=name,
                value=value,
            )
        if field in fields:
            raise InvalidInput(
                "builders.given_twice", f"{field} is given twice, once as {name}", field=field, value=value
            )
        fields[field] = value if read is None else read(value, field=name)
    return fields


def policy(catalog: Vocabulary, **changes: Any) -> Policy:
    """The catalog's policy: the limits that its file gives, with ``changes`` in either spelling over them.

    ``policy(catalog, objective="cheapest", hard_risk_limit="96%")`` and
    ``policy(catalog, objective="cheapest", hard_risk_limit_bps=9_600)`` are the same policy.
    """
    return Policy(catalog, **{**catalog.limits, **limits(changes)})


def request(
    catalog: Vocabulary,
    *,
    input_tokens: SupportsIndex | str,
    output_tokens: SupportsIndex | str,
    max_output_tokens: SupportsIndex | str | None = None,
    model: str | None = None,
    value: Friendly | None = None,
    max_cost: Friendly | None = None,
    risk: str | None = None,
    confidence: str | None = None,
    min_quality: str | None = None,
    max_latency: str | None = None,
    capabilities: Iterable[str] = (),
    providers: Iterable[str] | None = None,
    regions: Iterable[str] | None = None,
    quotes: Mapping[str, Friendly] | None = None,
    sequence: int = 0,
) -> Request:
    """A request in a person's words: names instead of numbers and bits, and quantities with their units.

    Args:
        catalog: Where names are looked up.
        input_tokens: Size of the prompt.
        output_tokens: Expected size of the answer: ranks the candidates.
        max_output_tokens: Largest size of the answer: sizes the hold. The expected size when left out.
        model: Name of the model that the caller would use; ``None`` when any will do.
        value: What a right answer is worth; rounded down. Nothing when left out.
        max_cost: Most that the expected answer may cost; rounded down, and refused where that would make it 0. No
            limit when left out.
        risk: Risk of the request, nothing when left out.
        confidence: Confidence in the request's data, 100 % when left out.
        min_quality: Least quality of a candidate, none when left out.
        max_latency: Most p95 latency of a candidate, no limit when left out.
        capabilities: What a candidate must be able to do: all of them.
        providers: Who may serve the request: any of them. Everybody when left out.
        regions: Where the request may be served: at least one of them. Anywhere when left out.
        quotes: Cost of this request by the model's name, where it is not the rates' cost; rounded up. A name that the
            catalog lacks is refused; in ``Request(quotes=...)``, which is by number, a quote for a model that the
            catalog lacks changes nothing but the request's digest.
        sequence: Number of the request. The engine gives its own.

    Raises:
        InvalidInput: A value that cannot be read or is out of range.
        UnknownName: A name that the catalog does not have.
    """
    fields: dict[str, Any] = {
        "request_sequence": sequence,
        "input_tokens": tokens(input_tokens, field="input_tokens"),
        "output_tokens": tokens(output_tokens, field="output_tokens"),
        "required_capabilities": catalog.capability_mask(capabilities),
    }
    if max_output_tokens is not None:
        fields["max_output_tokens"] = tokens(
            max_output_tokens, field="max_output_tokens", least=fields["output_tokens"]
        )
    if model is not None:
        fields["requested_model_id"] = catalog.model_id(model)
    if value is not None:
        fields["business_value_microunits"] = microunits(value, field="value", rounding="down", least=-(2**63))
    if max_cost is not None:
        # The largest u64 means "no limit", and nobody's budget reaches it.
        fields["budget_limit_microunits"] = granted(max_cost, field="max_cost")
    if risk is not None:
        fields["risk_bps"] = proportion(risk, field="risk")
    if confidence is not None:
        fields["confidence_bps"] = proportion(confidence, field="confidence")
    if min_quality is not None:
        fields["minimum_quality_bps"] = proportion(min_quality, field="min_quality")
    if max_latency is not None:
        limit = milliseconds(max_latency, field="max_latency")
        # Zero would mean "no limit", the opposite of what it says.
        fields["max_p95_latency_ms"] = _ranged(limit, "max_latency", max_latency, 1, U32_MAX, "milliseconds")
    if providers is not None:
        fields["allowed_provider_mask"] = catalog.provider_mask(_some(providers, "providers"))
    if regions is not None:
        fields["required_region_mask"] = catalog.region_mask(_some(regions, "regions"))
    if quotes is not None:
        fields["quotes"] = {
            catalog.model_id(name): microunits(cost, field=f"quotes[{name!r}]", rounding="up", most=U64_MAX)
            for name, cost in quotes.items()
        }
    return Request(**fields)


def _some(names: Iterable[str], field: str) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    if not listed:
        raise InvalidInput(
            "builders.empty", f"{field} is empty: leave it out to allow every one", field=field, value=listed
        )
    return listed


# --- reading, scaling, refusing -----------------------------------------------------------------------------------


def describe(value: object) -> str:
    """A value as an error message shows it: escaped and not longer than a line."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):
        # Python writes no integer of more than some thousand digits, and nothing that is nested as deep.
        text = "(too large to be shown)"
    return text if len(text) <= 60 else f"{text[:57]}..."


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """How many of a thing.

    >>> counted(1, "decision"), counted(2_000, "entry", "entries")
    ('1 decision', '2,000 entries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the known ones that look like it."""
    close = get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(ascii(match)[1:-1] for match in close)}?" if close else ""


def integer(value: object) -> int | None:
    """The integer that a value is, as in the builders of the kernel: one that Python takes as an index, and no bool.

    >>> integer(7), integer(True), integer("7")
    (7, None, None)
    """
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:
        # NumPy's bools and arrays have the method, and are none.
        return None


def _quantity(value: object, field: str, example: str) -> tuple[Fraction, str]:
    """The number, exactly, and the unit of ``"900 ms"``. A ``Decimal`` has no unit."""
    if isinstance(value, Decimal):
        return _fraction(value, field), ""
    if not isinstance(value, str):
        raise _wrong_type(field, value, f"text such as {example}")
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise _unreadable(field, value, f"a quantity such as {example}")
    return Fraction(Decimal(match["number"].replace("_", ""))), match["unit"]


def _fraction(number: Decimal, field: str) -> Fraction:
    """A decimal as a fraction: arithmetic of decimals would round to its context's precision."""
    if not number.is_finite():
        raise _unreadable(field, number, "a finite number")
    if number and not -400 < number.adjusted() < 400:
        raise _out_of_range(field, number, "it must have fewer than 400 digits")
    return Fraction(number)


def _duration(value: object, field: str, grain: str, units: Mapping[str, Fraction]) -> int:
    example = '"900ms", "2s", "15m" or "1h"'
    number, unit = _quantity(value, field, example)
    if unit not in units:
        raise _missing_unit(field, value, example)
    return _ranged(_exact(number * units[unit], field, value, grain), field, value, 0, U32_MAX, grain)


def _exact(number: Fraction, field: str, value: object, grain: str) -> int:
    if number.denominator != 1:
        raise InvalidInput(
            "builders.inexact",
            f"{field} is {describe(value)}, which is not a whole number of {grain}",
            field=field,
            value=value,
        )
    return number.numerator


def _rounded(number: Fraction, rounding: Rounding) -> int:
    return number.__ceil__() if rounding == "up" else number.__floor__()


def _ranged(number: int, field: str, value: object, least: int, most: int, unit: str) -> int:
    if least <= number <= most:
        return number
    if number > most:
        raise _out_of_range(field, value, f"it must be at most {_bound(most, unit)}")
    must = f"be at least {_bound(least, unit)}" if least else "not be negative"
    raise _out_of_range(field, value, f"it must {must}")


def _bound(number: int, unit: str) -> str:
    """A bound in the unit that it is written in, where that is shorter."""
    if unit == "basis points" and number % 100 == 0:
        return f"{number // 100}%"
    if unit == "milliseconds":
        return f"{number:,}ms"
    return f"{number:,} {unit.removesuffix('s') if number == 1 else unit}"


def truth(value: object, *, field: str) -> bool:
    """A bool; nothing else is one, whatever Python takes for true."""
    if isinstance(value, bool):
        return value
    message = f"{field} must be a bool, not {type(value).__name__}"
    raise InvalidInput("input.wrong_type", message, field=field, value=value)


def _out_of_range(field: str, value: object, must: str) -> InvalidInput:
    return InvalidInput("builders.out_of_range", f"{field} is {describe(value)}; {must}", field=field, value=value)


def _wrong_type(field: str, value: object, wanted: str) -> InvalidInput:
    return InvalidInput(
        "builders.wrong_type",
        f"{field} is {describe(value)} of type {type(value).__name__}; it must be {wanted}",
        field=field,
        value=value,
    )


def _unreadable(field: str, value: object, wanted: str) -> InvalidInput:
    return InvalidInput(
        "builders.unreadable", f"{field} is {describe(value)}; it must be {wanted}", field=field, value=value
    )


def _missing_unit(field: str, value: object, example: str) -> InvalidInput:
    return InvalidInput(
        "builders.missing_unit",
        f"{field} is {describe(value)}, without a unit that it can have; write {example}",
        field=field,
        value=value,
    )
