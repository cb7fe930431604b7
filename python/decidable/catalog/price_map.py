"""LiteLLM's price map: what a model costs, can do and where, by the map's keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from decidable import builders
from decidable.builders import describe, suggestion
from decidable.catalog import documents
from decidable.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from decidable.catalog.documents import Source

Tier: TypeAlias = Literal["base", "highest"]

# Top-level keys that are no models.
_RESERVED: Final = frozenset({"sample_spec", "fallback_generalizations"})

_INPUT: Final = "input_cost_per_token"
_OUTPUT: Final = "output_cost_per_token"

# A price that holds from some size of the prompt on. Prices of other services (batches, priority, audio, caches) are
# not read, but a threshold among them marks the entry all the same.
_THRESHOLD = re.compile(r".*_above_\d+k?_tokens.*")
_SAME_SERVICE = re.compile(r"(input|output)_cost_per_token_above_\d+k?_tokens")


class PriceMap:
    """The entries of a price map that a catalog can be priced from, and the file's digest."""

    def __init__(self, name: str, entries: Mapping[str, Any], sha256: str | None) -> None:
        self.name = name
        self.sha256 = sha256
        self._entries = {key: entry for key, entry in entries.items() if key not in _RESERVED}

    @classmethod
    def of(cls, source: Source | Mapping[str, Any]) -> PriceMap:
        """The map in a file, or already in memory (then without a digest)."""
        if isinstance(source, Mapping):
            return cls("price map", source, None)
        path = Path(source)
        raw = documents.read(path)
        entries, _ = documents.parse(raw, path)
        return cls(path.name, entries, hashlib.sha256(raw).hexdigest())

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def entry(self, key: str) -> Mapping[str, Any]:
        """What the map says of a model."""
        entry = self._entries.get(key)
        if entry is None:
            raise UnknownName(
                "catalog.unknown_price",
                f"{self.name} has no model {describe(key)}{suggestion(key, self._entries)}",
                kind="price",
                name=key,
            )
        if not isinstance(entry, Mapping):
            raise self._refused("catalog.wrong_type", key, "is not a table", entry)
        return entry

    def rates(self, key: str, *, free: bool, tiered: Tier | None) -> tuple[int, int]:
        """Input and output price in microunits per million tokens.

        Raises:
            InvalidInput: The entry has no price for each direction (``catalog.unpriced``), one of them is zero
                and ``free`` is not set (``catalog.zero_priced``), or it depends on the prompt's size or on the kind
                of output and ``tiered`` is not set (``catalog.tiered_price``).
        """
        entry = self.entry(key)
        if tiered not in (None, "base", "highest"):
            raise self._refused("catalog.wrong_type", key, 'tiered must be "base" or "highest"', tiered)
        for name in (_INPUT, _OUTPUT):
            if entry.get(name) is None:
                raise self._refused("catalog.unpriced", key, f"has no {name}", None)
        if entry.get("input_cost_per_request"):
            raise self._refused("catalog.unpriced", key, "also charges by the request", entry["input_cost_per_request"])

        tiers = self._tiers(key, entry)
        if tiers is not None and tiered is None:
            raise self._refused(
                "catalog.tiered_price", key,
                'has prices that depend on the size of the prompt or the kind of output; choose tiered = "base" '
                '(too low for the dearer part) or "highest" (too high for the rest), or write the price by hand',
                None,
            )  # fmt: skip
        rates = []
        for name in (_INPUT, _OUTPUT):
            values = [entry[name], *(tiers[name] if tiers is not None and tiered == "highest" else ())]
            rates.append(max(builders.rate_per_token(value, field=f"{key}: {name}") for value in values))
        if 0 in rates and not free:
            raise self._refused("catalog.zero_priced", key, "has a price of zero; choose free = true to take it", 0)
        return rates[0], rates[1]

    def capabilities(self, key: str) -> list[str]:
        """The fields ``supports_*`` that are true, without that prefix, in order of the alphabet."""
        entry = self.entry(key)
        return sorted(name.removeprefix("supports_") for name, value in entry.items()
                      if name.startswith("supports_") and value is True)  # fmt: skip

    def provider(self, key: str) -> str | None:
        """Who serves the model."""
        provider = self.entry(key).get("litellm_provider")
        return provider if isinstance(provider, str) and provider else None

    def regions(self, key: str) -> list[str]:
        """Where the model is served, as far as the map says."""
        regions = self.entry(key).get("supported_regions")
        return [region for region in regions if isinstance(region, str)] if isinstance(regions, list) else []

    def _tiers(self, key: str, entry: Mapping[str, Any]) -> dict[str, list[Decimal | int]] | None:
        """Every other price of the same service, by direction; ``None`` when there is one price a direction."""
        reasoning = entry.get("output_cost_per_reasoning_token")
        steps = entry.get("tiered_pricing")
        if not (
            any(_THRESHOLD.fullmatch(name) for name in entry)
            or steps is not None
            or (reasoning is not None and reasoning != entry[_OUTPUT])
        ):
            return None
        tiers: dict[str, list[Decimal | int]] = {_INPUT: [], _OUTPUT: [] if reasoning is None else [reasoning]}
        for name, value in entry.items():
            if _SAME_SERVICE.fullmatch(name):
                tiers[_INPUT if name.startswith("input") else _OUTPUT].append(value)
        for step in steps or ():
            if not isinstance(step, Mapping):
                raise self._refused("catalog.wrong_type", key, "has a tier that is not a table", step)
            for direction in (_INPUT, _OUTPUT):
                if direction in step:
                    tiers[direction].append(step[direction])
        return tiers

    def _refused(self, code: str, key: str, what: str, value: Any) -> InvalidInput:
        return InvalidInput(code, f"{self.name}: {describe(key)} {what}", file=self.name, key=key, value=value)
