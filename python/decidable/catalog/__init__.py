"""Catalogs: the candidates of a policy, the names by which people know them, and where each figure comes from.

A :class:`Catalog` is what a policy is built over. It comes from objects (``Catalog([Model(...), ...])``), from a file
that a person writes (``Catalog.load("models.toml")``), from a policy's JSON, from LiteLLM's price map
(:meth:`Catalog.from_price_map`) or from an Arrow table (:meth:`Catalog.from_arrow`). The file format is described in
docs/catalog.md.

**Numbers for names.** The kernel knows models by number, and providers, regions and capabilities by bit. A number
written in the file is kept. Every other name gets the smallest number that is still free, models from 1 and bits from
0, in the order in which the names first appear. So appending to a file changes no number, and :meth:`Catalog.save`
writes them all down.

**What is not known fails closed.** A model whose quality is not given has quality 0, one whose latency is not given is
slower than every limit, one without regions passes no region requirement, one without capabilities none of them, one
without a provider belongs to the provider named ``unknown``. Such a model still competes where nobody asks.
``Catalog.provenance`` says which figures those are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from decidable import builders
from decidable._native import Model, Names
from decidable.builders import describe, suggestion
from decidable.catalog import documents, reader
from decidable.catalog.price_map import PriceMap
from decidable.catalog.reader import MODEL_FIELDS, NAME_GROUPS, UNKNOWN_LATENCY_MS
from decidable.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from decidable._native import Policy
    from decidable.catalog.documents import Source
    from decidable.catalog.price_map import Tier

__all__ = ["MODEL_FIELDS", "UNKNOWN_LATENCY_MS", "Catalog"]


class Catalog:
    """Models, names for them, limits if its file gave any, and where everything comes from. Immutable.

    Attributes:
        models: The candidates, ascending by ``model_id``.
        names: Names of models, providers, regions and capabilities, or ``None``.
        limits: The policy's fields that the file gave, under the specification's names.
        provenance: Where the catalog comes from: files with their SHA-256 digests, and for each model where its
            prices come from and what was assumed. JSON values only; the log keeps it beside the policy.

    >>> from decidable import Model, Names
    >>> model = Model(model_id=7, quality_bps=7_100, input_cost_microunits_per_million_tokens=250_000,
    ...               output_cost_microunits_per_million_tokens=2_000_000)
    >>> catalog = Catalog([model], names=Names(models={7: "gpt-5-mini"}))
    >>> catalog.model_id("gpt-5-mini")
    7
    """

    __slots__ = ("_bits", "_ids", "_limits", "_models", "_names", "_provenance")

    def __init__(
        self,
        models: Iterable[Model],
        *,
        names: Names | None = None,
        limits: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(models, Iterable):
            raise _wrong_type("models", models, "a sequence of Model")
        listed = list(models)
        for model in listed:
            if not isinstance(model, Model):
                raise _wrong_type("models", model, "a sequence of Model", "not of")
        if not listed:
            raise InvalidInput("catalog.empty", "a catalog needs at least one model", field="models", value=[])
        listed.sort(key=lambda model: model.model_id)
        for before, after in pairwise(listed):
            if before.model_id == after.model_id:
                raise InvalidInput(
                    "catalog.duplicate_id",
                    f"model_id {after.model_id} is given to two models",
                    field="model_id",
                    value=after.model_id,
                )
        if names is not None and not isinstance(names, Names):
            raise _wrong_type("names", names, "Names or None")
        for field, mapping in (("limits", limits), ("provenance", provenance)):
            if mapping is not None and not isinstance(mapping, Mapping):
                raise _wrong_type(field, mapping, "a mapping or None")
        self._models = tuple(listed)
        self._names = names
        self._limits = MappingProxyType(builders.limits(limits or {}))
        self._provenance = MappingProxyType(dict(provenance or {}))
        self._ids = {name: number for number, name in names.models.items()} if names else {}
        self._bits = {
            "provider": {name: bit for bit, name in names.providers.items()} if names else {},
            "region": {name: bit for bit, name in names.regions.items()} if names else {},
            "capability": {name: bit for bit, name in names.capabilities.items()} if names else {},
        }

    # --- where catalogs come from ---------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Source) -> Catalog:
        """The catalog in a file: TOML as a person writes it, or JSON as :meth:`save` and other programs write it.

        The two differ in syntax only; docs/catalog.md describes the tables. Both spellings of every field are read in
        both: ``quality = "71%"`` and ``quality_bps = 7100``.

        Raises:
            InvalidInput: The file cannot be read or understood. The message names the file, the table, the key, the
                value, and the line where it is known.
            UnknownName: A price is taken from a key that the price map does not have.
        """
        file = Path(path)
        raw = documents.read(file)
        document, place = documents.parse(raw, file)
        contents = reader.contents(document, place, file.parent)
        return cls._of(contents, {"file": file.name, "sha256": hashlib.sha256(raw).hexdigest()})

    @classmethod
    def from_price_map(
        cls,
        source: Source | Mapping[str, Any],
        *,
        models: Iterable[str] | Mapping[str, str | Mapping[str, Any]],
        free: bool = False,
        tiered: Tier | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> Catalog:
        """The chosen models of LiteLLM's price map, at its prices.

        Prices are dollars per token in the file; they are read as decimals and become microunits per million tokens,
        rounded up. Capabilities are the fields ``supports_*`` that are true, without that prefix; the provider is
        ``litellm_provider``; regions are ``supported_regions``. The map knows no quality and no latency, so those
        fail closed (see the module) unless given here.

        Args:
            source: Path of the file, or its contents as ``json.load(file, parse_float=Decimal)`` gives them.
            models: Which models: the map's keys; or names, each with its key or with a table as in ``models.toml``
                (``{"mini": {"price": "gpt-5-mini", "quality": "71%", "p95": "2.1s"}}``).
            free: Take entries whose input or output price is zero.
            tiered: Take entries whose price depends on the prompt's size: at the ``"base"`` price, which is too low
                above the first threshold, or at the ``"highest"``, which is too high below it.
            limits: Limits of the policy, in either spelling.

        Raises:
            InvalidInput: An entry without a price, or one that needs ``free`` or ``tiered``.
            UnknownName: A key that the map does not have; the message suggests others.
        """
        keys = [models] if isinstance(models, str) else models
        wanted = keys if isinstance(keys, Mapping) else {key: key for key in keys}
        prices = PriceMap.of(source)
        common = {"free": free} | ({} if tiered is None else {"tiered": tiered})
        entries = [
            {"name": name, "price": name, **common, **({"price": choice} if isinstance(choice, str) else choice)}
            for name, choice in wanted.items()
        ]
        return cls._of(_rows_read(entries, "", limits, prices), {})

    @classmethod
    def from_arrow(cls, table: Any, *, limits: Mapping[str, Any] | None = None) -> Catalog:
        """The catalog in a table with a row a model and columns named like the keys of a model in ``models.toml``.

        Takes whatever can list its rows: ``pyarrow.Table`` and ``RecordBatch`` (``to_pylist``), ``polars.DataFrame``
        (``to_dicts``), or, where pyarrow is installed, every object with the Arrow PyCapsule interface
        (``__arrow_c_stream__``). An empty cell is a key that is left out.
        """
        rows = [{key: value for key, value in row.items() if value is not None} for row in _rows(table)]
        return cls._of(_rows_read(rows, type(table).__name__, limits), {})

    @classmethod
    def _of(cls, contents: reader.Contents, provenance: Mapping[str, Any]) -> Catalog:
        return cls(
            contents.models,
            names=contents.names,
            limits=contents.limits,
            provenance={**provenance, **contents.provenance},
        )

    # --- what it holds --------------------------------------------------------------------------------------------

    @property
    def models(self) -> tuple[Model, ...]:
        """The candidates, ascending by ``model_id``."""
        return self._models

    @property
    def names(self) -> Names | None:
        """Names of models, providers, regions and capabilities."""
        return self._names

    @property
    def limits(self) -> Mapping[str, Any]:
        """The policy's fields that the file gave, under the specification's names."""
        return self._limits

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Files with their digests, and for each model where its prices come from and what was assumed."""
        return self._provenance

    def policy(self, **changes: Any) -> Policy:
        """The policy over this catalog: the limits of its file, with ``changes`` in either spelling over them."""
        try:
            return builders.policy(self, **changes)
        except InvalidInput as error:
            file = self._provenance.get("file")
            if file is None or error.code != "kernel.no_enabled_candidate":
                raise
            raise InvalidInput(error.code, f"{file}: {error.message}", **error.details) from None

    def model_id(self, name: str) -> int:
        """The number of a model by its name. Raises :class:`UnknownName`, suggesting close matches."""
        return _lookup(self._ids, "model", name)

    def model(self, name: str) -> Model:
        """A model by its name. Raises :class:`UnknownName`, suggesting close matches."""
        number = self.model_id(name)
        return next(model for model in self._models if model.model_id == number)

    def model_name(self, model_id: int) -> str:
        """The name of a model, or its number as text where it has none."""
        named = self._names.models.get(model_id) if self._names else None
        return str(model_id) if named is None else named

    def provider_mask(self, names: Iterable[str]) -> int:
        """The mask that allows these providers."""
        return self._mask("provider", names)

    def capability_mask(self, names: Iterable[str]) -> int:
        """The mask that requires these capabilities."""
        return self._mask("capability", names)

    def region_mask(self, names: Iterable[str]) -> int:
        """The mask that requires one of these regions."""
        return self._mask("region", names)

    def _mask(self, kind: str, names: Iterable[str]) -> int:
        mask = 0
        for name in [names] if isinstance(names, str) else names:
            mask |= 1 << _lookup(self._bits[kind], kind, name)
        return mask

    # --- writing --------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The catalog as JSON: the policy's limits, ``models`` as in docs/spec/decisions.md, names and provenance."""
        names = self._names
        document: dict[str, Any] = {
            **self._limits,
            "models": [_fields(model) for model in self._models],
        }
        if names is not None:
            document["names"] = {
                group: {str(number): name for number, name in sorted(getattr(names, group).items())}
                for group in NAME_GROUPS
            }
        if self._provenance:
            document["provenance"] = dict(self._provenance)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def save(self, path: Source) -> None:
        """Writes :meth:`to_json` to a file, with every number written down. Loading it gives an equal catalog."""
        file = Path(path)
        if file.suffix.lower() != ".json":
            raise InvalidInput(
                "catalog.wrong_suffix",
                f"a catalog is saved as JSON: name the file {file.stem}.json rather than {file.name}",
                field="path",
                value=str(file),
            )
        try:
            file.write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InvalidInput(
                "catalog.unwritable", f"{file} cannot be written: {reason.lower()}", path=str(file), reason=reason
            ) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Catalog):
            return NotImplemented
        return self._models == other._models and _names_of(self._names) == _names_of(other._names)

    def __hash__(self) -> int:
        return hash(self._models)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._models, self._names, dict(self._limits), dict(self._provenance))

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        shown = ", ".join(self.model_name(model.model_id) for model in self._models[:3])
        more = f" and {len(self._models) - 3} more" if len(self._models) > 3 else ""
        return f"<Catalog of {len(self._models)}: {shown}{more}>"


def _rebuilt(
    models: Iterable[Model], names: Names | None, limits: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Catalog:
    return Catalog(models, names=names, limits=limits, provenance=provenance)


def _fields(model: Model) -> dict[str, int]:
    """A model's fields as the exchange format has them, where ``enabled`` is 0 or 1."""
    return {field: int(getattr(model, field)) for field in MODEL_FIELDS}


def _names_of(names: Names | None) -> dict[str, dict[int, str]]:
    return {group: getattr(names, group) for group in NAME_GROUPS} if names else {}


def _wrong_type(field: str, value: object, wanted: str, but: str = "not") -> InvalidInput:
    message = f"{field} must be {wanted}, {but} {type(value).__name__}: {describe(value)}"
    return InvalidInput("catalog.wrong_type", message, field=field, value=value)


def _lookup(numbers: Mapping[str, int], kind: str, name: str) -> int:
    if not isinstance(name, str):
        raise InvalidInput(
            "catalog.wrong_type",
            f"a {kind} is known by its name, not by {describe(name)} of type {type(name).__name__}",
            field=kind,
            value=name,
        )
    number = numbers.get(name)
    if number is None:
        near = suggestion(name, numbers) if numbers else ": the catalog names none"
        raise UnknownName(
            "catalog.unknown_name",
            f"no {kind} is named {describe(name)}{near}",
            kind=kind,
            name=name,
        )
    return number


def _rows_read(
    rows: list[dict[str, Any]], origin: str, limits: Mapping[str, Any] | None, prices: PriceMap | None = None
) -> reader.Contents:
    document = {"policy": dict(limits or {}), "models": rows}
    return reader.contents(document, documents.Place(origin), Path(), prices)


def _rows(table: Any) -> list[dict[str, Any]]:
    """A table's rows, from whichever method it has for that."""
    for method in ("to_pylist", "to_dicts"):
        if hasattr(table, method):
            rows: list[dict[str, Any]] = getattr(table, method)()
            return rows
    if not hasattr(table, "__arrow_c_stream__"):
        raise InvalidInput(
            "catalog.wrong_type",
            f"a table must have to_pylist, to_dicts or __arrow_c_stream__, and {describe(table)} of type "
            f"{type(table).__name__} has none",
            field="table",
            value=table,
        )
    try:
        pyarrow = import_module("pyarrow")
    except ImportError as error:
        raise InvalidInput(
            "catalog.no_arrow",
            f"reading a {type(table).__name__} through its Arrow stream needs the package pyarrow",
            field="table",
            value=table,
        ) from error
    imported: list[dict[str, Any]] = pyarrow.table(table).to_pylist()
    return imported
