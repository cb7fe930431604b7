"""What docs/catalog.md describes: models, names, limits and provenance out of a document's tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from decidable import builders
from decidable._native import Model, Names, Policy
from decidable.builders import describe, suggestion
from decidable.catalog.documents import Place
from decidable.catalog.price_map import PriceMap
from decidable.errors import DecidableError, InvalidInput, UnknownName

MODEL_FIELDS: Final = (
    "model_id",
    "provider_id",
    "quality_bps",
    "risk_ceiling_bps",
    "enabled",
    "p95_latency_ms",
    "capabilities",
    "region_mask",
    "input_cost_microunits_per_million_tokens",
    "output_cost_microunits_per_million_tokens",
)
"""A candidate's fields as the specification names them, in its order."""

NAME_GROUPS: Final = ("models", "providers", "regions", "capabilities")

UNKNOWN_LATENCY_MS: Final = builders.U32_MAX
"""The p95 latency of a model whose latency is not known: above every limit, so that silence passes none."""

UNKNOWN_PROVIDER: Final = "unknown"
"""The provider of a model that names none."""

MAX_BITS: Final = 64
"""Providers, regions and capabilities are bits of a 64-bit mask."""

# Quantities: the friendly key, the specification's field, and how the friendly value is read.
_QUANTITIES: Final[tuple[tuple[str, str, Callable[..., int]], ...]] = (
    ("quality", "quality_bps", builders.proportion),
    ("p95", "p95_latency_ms", builders.milliseconds),
    ("risk_ceiling", "risk_ceiling_bps", builders.proportion),
    ("input", "input_cost_microunits_per_million_tokens", builders.rate),
    ("output", "output_cost_microunits_per_million_tokens", builders.rate),
)
_INPUT_RATE: Final = "input_cost_microunits_per_million_tokens"
_OUTPUT_RATE: Final = "output_cost_microunits_per_million_tokens"

# Two spellings of one thing: at most one of them may be written.
_SPELLINGS: Final = {"id": "model_id", "provider": "provider_id", "regions": "region_mask"} | {
    friendly: field for friendly, field, _ in _QUANTITIES
}
_DEFAULT_KEYS: Final = (
    "provider",
    "free",
    "tiered",
    "quality",
    "why",
    "p95",
    "risk_ceiling",
    "capabilities",
    "regions",
)
_MODEL_KEYS: Final = ("name", "id", "price", "input", "output", "enabled", *_DEFAULT_KEYS, *MODEL_FIELDS)
_TABLES: Final = ("policy", "prices", "defaults", "models", "names", "provenance")
_PRICES_KEYS: Final = ("map", "sha256", "source", "source_sha256")
_LIMIT_KEYS: Final = (*builders.POLICY_FIELDS, *builders.LIMITS)


@dataclass(frozen=True)
class Contents:
    """What a document says."""

    models: list[Model]
    names: Names | None
    limits: dict[str, Any]
    provenance: dict[str, Any]


def contents(document: Mapping[str, Any], place: Place, folder: Path, prices: PriceMap | None = None) -> Contents:
    """Reads a whole document. ``folder`` is where the path of a price map starts; ``prices`` is one that is open."""
    _known_keys(document, (*_TABLES, *_LIMIT_KEYS), place)
    limits = _limits(document, place)
    opened = _prices(_table(document, "prices", place, _PRICES_KEYS), place, folder)
    defaults = _table(document, "defaults", place, _DEFAULT_KEYS)
    entries = _entries(document, place, defaults)
    written = _written_names(document, place)
    for entry in entries:
        entry.find_name(written["models"])
    numbers = {
        "models": _Numbers("models", _written_ids(entries, written["models"]), 1, 2**32),
        **{group: _Numbers(group, written[group], 0, MAX_BITS) for group in NAME_GROUPS[1:]},
    }

    read = _ModelReader(numbers, prices if prices is not None else opened)
    models: list[Model] = []
    taken: set[int] = set()
    for entry in entries:
        model = read.model(entry)
        if model.model_id in taken:
            key = "id" if "id" in entry.values else "model_id"
            raise entry.error("catalog.duplicate_id", f"another model has the number {model.model_id}", key)
        taken.add(model.model_id)
        models.append(model)
    groups = {group: numbers[group].by_number() for group in NAME_GROUPS}
    try:
        names = Names(**groups) if any(groups.values()) else None
    except InvalidInput as error:
        raise place.error(error.code, error.message) from error

    origins = {entry.name or str(model.model_id): entry.origin for entry, model in zip(entries, models, strict=True)}
    provenance: dict[str, Any] = {}
    if read.prices is not None:
        provenance["price_map"] = {"file": read.prices.name}
        if read.prices.sha256 is not None:
            provenance["price_map"]["sha256"] = read.prices.sha256
        source = {key: value for key, value in document.get("prices", {}).items() if key.startswith("source")}
        provenance["price_map"].update(source)
    provenance["models"] = origins
    if "provenance" in document:
        provenance["saved"] = document["provenance"]
    return Contents(models, names, limits, provenance)


# A catalog that any limits go with.
_SOME_MODEL: Final = Contents(
    [
        Model(
            model_id=1,
            quality_bps=0,
            input_cost_microunits_per_million_tokens=0,
            output_cost_microunits_per_million_tokens=0,
        )
    ],
    None,
    {},
    {},
)


# --- the tables beside the models ---------------------------------------------------------------------------------


def _known_keys(keys: Mapping[str, Any], known: Iterable[str], place: Place, **where: Any) -> None:
    for key, value in keys.items():
        if key not in known:
            message = f"not a key that is known here{suggestion(key, known)}"
            raise place.error("catalog.unknown_key", message, **where, key=key, value=value)


def _table(document: Mapping[str, Any], name: str, place: Place, known: Iterable[str]) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, Mapping):
        raise place.error("catalog.wrong_type", f"must be {place.table}", key=name, value=table)
    _known_keys(table, known, place, table=name)
    return table


def _limits(document: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The policy's limits, which may stand at the top, as in a policy's JSON, or in ``[policy]``."""
    limits: dict[str, Any] = {}
    top = {key: value for key, value in document.items() if key not in _TABLES}
    for table, written in (("", top), ("policy", _table(document, "policy", place, _LIMIT_KEYS))):
        for key, value in written.items():
            try:
                read = builders.limits({key: value})
                # The kernel's own ranges, found out here, where the line is known.
                Policy(_SOME_MODEL, **read)
            except InvalidInput as error:
                raise place.error(error.code, error.message, table=table, key=key, value=value) from error
            if limits.keys() & read.keys():
                raise place.error("builders.given_twice", "given twice", table=table, key=key, value=value)
            limits |= read
    return limits


def _prices(table: Mapping[str, Any], place: Place, folder: Path) -> PriceMap | None:
    if not table:
        return None
    for key, value in table.items():
        if not isinstance(value, str):
            raise place.error("catalog.wrong_type", "must be text in quotes", table="prices", key=key, value=value)
    if "map" not in table:
        raise place.error("catalog.missing_key", "the price map's file must be named", table="prices", key="map")
    try:
        prices = PriceMap.of(folder / table["map"])
    except InvalidInput as error:
        located = place.error(error.code, error.message, table="prices", key="map", value=table["map"])
        located.details.update(error.details)
        raise located from error
    if table.get("sha256", prices.sha256) != prices.sha256:
        raise place.error(
            "catalog.digest_mismatch", f"{prices.name} has the digest {prices.sha256}",
            table="prices", key="sha256", value=table["sha256"],
        )  # fmt: skip
    return prices


def _written_names(document: Mapping[str, Any], place: Place) -> dict[str, dict[str, int]]:
    """The numbers that the document fixes: ``[names.providers]`` and its like, number to name."""
    written: dict[str, dict[str, int]] = {group: {} for group in NAME_GROUPS}
    for group, names in _table(document, "names", place, NAME_GROUPS).items():
        if not isinstance(names, Mapping):
            raise place.error("catalog.wrong_type", f"must be {place.table}", table="names", key=group, value=names)
        for number, name in names.items():
            where = {"table": f"names.{group}", "key": number, "value": name}
            if re.fullmatch(r"0|[1-9][0-9]{0,9}", number) is None or not isinstance(name, str):
                raise place.error("catalog.wrong_type", f"must be {place.numbered}", **where)
            if name in written[group]:
                raise place.error("catalog.duplicate_name", f"{describe(name)} has two numbers", **where)
            written[group][name] = int(number)
    return written


# --- numbers for names --------------------------------------------------------------------------------------------


class _Numbers:
    """Numbers for the names of one kind: the written ones are kept, the others get the smallest free ones."""

    def __init__(self, kind: str, written: Mapping[str, int], first: int, end: int) -> None:
        self._kind = kind
        self._numbers = dict(written)
        self._taken = set(written.values())
        self._next = first
        self._end = end

    def of(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is not None:
            return number
        while self._next in self._taken:
            self._next += 1
        if self._next >= self._end:
            message = f"there is room for {self._end} {self._kind}, and {describe(name)} is one more"
            raise InvalidInput("catalog.too_many_names", message, field=self._kind, value=name)
        self._taken.add(self._next)
        self._numbers[name] = self._next
        return self._next

    def by_number(self) -> dict[int, str]:
        return {number: name for name, number in sorted(self._numbers.items(), key=lambda item: item[1])}


def _written_ids(entries: Iterable[_Entry], named: Mapping[str, int]) -> dict[str, int]:
    """The models' numbers that the document fixes, so that no other model gets one of them."""
    ids = dict(named)
    for entry in entries:
        key = "id" if "id" in entry.values else "model_id"
        number = entry.values.get(key)
        if number is None or entry.name is None:
            continue
        if type(number) is not int or number < 0:
            raise entry.error("catalog.wrong_type", "must be a whole number", key)
        if ids.setdefault(entry.name, number) != number:
            raise entry.error("catalog.duplicate_name", f"{describe(entry.name)} has two numbers", key)
    return ids


# --- the models ---------------------------------------------------------------------------------------------------


class _Entry:
    """One model's table: its keys, with the defaults for what it leaves out, and what becomes known of its origin."""

    def __init__(self, written: Mapping[str, Any], defaults: Mapping[str, Any], place: Place, index: int) -> None:
        self.place = place
        self._index = index
        self.name: str | None = None
        self.origin: dict[str, Any] = {}
        name = written.get("name")
        if name is not None and not (isinstance(name, str) and name):
            self.values = written
            raise self.error("catalog.wrong_type", "must be text in quotes", "name")
        self.name = name
        self.values = written
        for friendly, field in _SPELLINGS.items():
            if friendly in written and field in written:
                raise self.error("builders.given_twice", f"given twice, also as {friendly}", field)
        missing = {
            key: value
            for key, value in defaults.items()
            if key not in written and _SPELLINGS.get(key, key) not in written
        }
        if "quality" not in missing:
            missing.pop("why", None)
        self.values = {**written, **missing}

    def find_name(self, written: Mapping[str, int]) -> None:
        """A model without a name has the one that the document gives its number, if it gives one."""
        if self.name is None:
            number = self.values.get("model_id", self.values.get("id"))
            if type(number) is not int:
                raise self.error("catalog.missing_key", "a model needs a name or a model_id", "name")
            self.name = next((name for name, other in written.items() if other == number), None)

    def error(
        self, code: str, message: str, key: str | None, raised_as: type[DecidableError] = InvalidInput
    ) -> DecidableError:
        value = self.values.get(key) if key else None
        return self.place.error(
            code, message, table="models", index=self._index, name=self.name, key=key, value=value, raised_as=raised_as
        )

    def located(self, error: DecidableError, key: str | None) -> DecidableError:
        """The same fault, saying where."""
        if not isinstance(error, UnknownName):
            return self.error(error.code, error.message, key)
        located = self.error(error.code, error.message, key, raised_as=UnknownName)
        located.details.update(error.details)
        return located

    def read(self, key: str, how: Callable[..., int]) -> int:
        try:
            return how(self.values[key], field=key)
        except InvalidInput as error:
            raise self.located(error, key) from error

    def texts(self, key: str) -> list[str]:
        value = self.values[key]
        if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
            raise self.error("catalog.wrong_type", "must be a list of names in quotes", key)
        return value


def _entries(document: Mapping[str, Any], place: Place, defaults: Mapping[str, Any]) -> list[_Entry]:
    models = document.get("models")
    if isinstance(models, Mapping):
        raise place.error("catalog.wrong_type", f"must be a list: {place.models}", key="models")
    if not isinstance(models, list) or not models:
        raise place.error("catalog.empty", "a catalog needs at least one model", key="models", value=models)
    entries: list[_Entry] = []
    names: set[str] = set()
    for index, written in enumerate(models):
        if not isinstance(written, Mapping):
            raise place.error(
                "catalog.wrong_type", f"must be {place.table}", table="models", index=index, value=written
            )
        entry = _Entry(written, defaults, place, index)
        _known_keys(written, _MODEL_KEYS, place, table="models", index=index, name=entry.name)
        if entry.name in names:
            raise entry.error("catalog.duplicate_name", "another model has this name", "name")
        if entry.name is not None:
            names.add(entry.name)
        entries.append(entry)
    return entries


class _ModelReader:
    """Makes a :class:`Model` of an entry, and notes in its origin what was assumed."""

    def __init__(self, numbers: Mapping[str, _Numbers], prices: PriceMap | None) -> None:
        self._numbers = numbers
        self.prices = prices

    def model(self, entry: _Entry) -> Model:
        values = entry.values
        fields = {field: values[field] for field in MODEL_FIELDS if field in values}
        if "enabled" in fields and type(fields["enabled"]) is int and fields["enabled"] in (0, 1):
            fields["enabled"] = fields["enabled"] == 1
        for friendly, field, how in _QUANTITIES:
            if friendly in values:
                fields[field] = entry.read(friendly, how)
        try:
            key = self._price(entry, fields)
            self._named(entry, fields, key)
        except DecidableError as error:
            if "line" in error.details:
                raise
            raise entry.located(error, None) from error

        entry.origin["prices"] = "written" if key is None else {"price_map": key, **self._choices(entry)}
        if not isinstance(values.get("why", ""), str):
            raise entry.error("catalog.wrong_type", "must be text in quotes", "why")
        if "quality_bps" in fields and "why" in values:
            entry.origin["quality"] = values["why"]
        absent = {"quality": ("quality_bps", 0), "p95": ("p95_latency_ms", UNKNOWN_LATENCY_MS)}
        unknown = [name for name, (field, _) in absent.items() if field not in fields]
        if unknown:
            entry.origin["unknown"] = unknown
        for field, value in absent.values():
            fields.setdefault(field, value)
        if entry.name is not None:
            fields["model_id"] = self._numbers["models"].of(entry.name)
        elif "id" in values:
            fields["model_id"] = values["id"]
        try:
            model = Model(**fields)
            # The kernel's own ranges, found out here, where the line is known.
            Policy(Contents([model.replace(enabled=True)], None, {}, {}))
            return model
        except InvalidInput as error:
            named = error.details.get("field")
            written = next((key for key, name in _SPELLINGS.items() if name == named and key in values), named)
            raise entry.located(error, written) from error

    def _price(self, entry: _Entry, fields: dict[str, Any]) -> str | None:
        """Fills in the two rates from the price map where they are not written; the map's key, if it was used."""
        values = entry.values
        written = [field for field in (_INPUT_RATE, _OUTPUT_RATE) if field in fields]
        key = values.get("price")
        if key is not None and not isinstance(key, str):
            raise entry.error("catalog.wrong_type", "must be a key of the price map, in quotes", "price")
        if key is not None and written:
            raise entry.error("builders.given_twice", "the price is also written by hand", "price")
        if len(written) == 2:
            return None
        if written:
            raise entry.error("catalog.unpriced", "both input and output need a price", None)
        if self.prices is None:
            what = (
                f"no price map is named in {entry.place.header('prices')}"
                if key is not None
                else "write input and output, or price"
            )
            raise entry.error("catalog.unpriced", what, "price" if key is not None else None)
        if key is None:
            key = entry.name or ""
        free = values.get("free", False)
        if not isinstance(free, bool):
            raise entry.error("catalog.wrong_type", "must be true or false", "free")
        rates = self.prices.rates(key, free=free, tiered=values.get("tiered"))
        fields[_INPUT_RATE], fields[_OUTPUT_RATE] = rates
        return key

    def _choices(self, entry: _Entry) -> dict[str, Any]:
        return {key: entry.values[key] for key in ("free", "tiered") if entry.values.get(key)}

    def _named(self, entry: _Entry, fields: dict[str, Any], key: str | None) -> None:
        """Provider, regions and capabilities: as written, else as the price map says, else unknown."""
        values, prices = entry.values, self.prices if key is not None else None
        if "provider_id" not in fields:
            provider = values.get("provider")
            if provider is not None and not (isinstance(provider, str) and provider):
                raise entry.error("catalog.wrong_type", "must be a name in quotes", "provider")
            if provider is None and prices is not None and key is not None:
                provider = prices.provider(key)
            fields["provider_id"] = self._numbers["providers"].of(provider or UNKNOWN_PROVIDER)
        if "region_mask" not in fields:
            mapped = prices.regions(key) if prices is not None and key is not None else []
            fields["region_mask"] = self._mask("regions", entry.texts("regions") if "regions" in values else mapped)
        if "capabilities" not in fields:
            mapped = prices.capabilities(key) if prices is not None and key is not None else []
            fields["capabilities"] = self._mask("capabilities", mapped)
        elif type(fields["capabilities"]) is not int:
            fields["capabilities"] = self._mask("capabilities", entry.texts("capabilities"))

    def _mask(self, group: str, names: Iterable[str]) -> int:
        mask = 0
        for name in names:
            mask |= 1 << self._numbers[group].of(name)
        return mask
