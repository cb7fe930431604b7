"""Catalogs and requests to measure with: the same numbers on every machine, and those of the Rust benches
(benches/src/workload.rs, which a test compares).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decidable._native import Model, Policy, Request
from decidable.arrays import REQUEST_DTYPE
from decidable.catalog import Catalog

__all__ = ["REQUESTS", "WORKLOADS", "Workload", "realistic", "synthetic"]

REQUESTS: Final = 4_096
"""How many requests a workload has."""

_FIELDS: Final = REQUEST_DTYPE.names or ()
_ALL_ONES: Final = 2**64 - 1
_SEED: Final = 22
_RATES: Final = (10_000, 100_000, 1_000_000, 10_000_000, 150_000_000, 1_500_000_000)


@dataclass(frozen=True)
class Workload:
    """A policy, and requests for it as rows of ``REQUEST_DTYPE``."""

    name: str
    policy: Policy
    rows: npt.NDArray[np.void]

    def values(self) -> list[tuple[int, ...]]:
        """Each request as a tuple of its fields."""
        return list(self.rows.tolist())

    def keywords(self) -> Iterator[dict[str, Any]]:
        """Each request as the arguments of ``Request``."""
        return (dict(zip(_FIELDS, row, strict=True)) for row in self.values())

    def requests(self) -> list[Request]:
        """Each request as an object."""
        return [Request(**row) for row in self.keywords()]

    def digest(self) -> bytes:
        """SHA-256 of the policy's digest and of every request's, in order."""
        digests = (request.digest() for request in self.requests())
        return hashlib.sha256(self.policy.digest() + b"".join(digests)).digest()


def synthetic(candidates: int) -> Workload:
    """The formulas of the reference implementation's own bench, with ``model_id`` from 1 and a quality that stays in
    range: no constraint but risk, confidence and quality."""
    models = [
        Model(
            model_id=i + 1,
            provider_id=i % 6,
            quality_bps=3_000 + i % 23 * 300,
            risk_ceiling_bps=9_500,
            p95_latency_ms=100 + i * 50,
            capabilities=0,
            region_mask=_ALL_ONES,
            input_cost_microunits_per_million_tokens=10 + i * 50,
            output_cost_microunits_per_million_tokens=40 + i * 200,
        )
        for i in range(candidates)
    ]
    rows = [
        (
            sequence,
            sequence % 22,  # requested_model_id
            500 + sequence % 10_000,  # input_tokens
            200 + sequence % 5_000,  # output_tokens
            50_000,  # business_value_microunits
            10_000_000,  # budget_limit_microunits
            sequence % 8_000,  # risk_bps
            6_000 + sequence % 4_000,  # confidence_bps
            3_000 + sequence % 5_000,  # minimum_quality_bps
            0,  # max_p95_latency_ms
            0,  # required_capabilities
            _ALL_ONES,  # allowed_provider_mask
            0,  # required_region_mask
        )
        for sequence in range(1, 7 * REQUESTS, 7)
    ]
    return _workload("syn", models, rows, latency_penalty_microunits_per_ms=0)


def realistic(candidates: int) -> Workload:
    """Every gate in play: capabilities, providers, regions and latency limits in a third to a half of the requests,
    rates from 10,000 to 1,500,000,000 microunits per million tokens, some requests rejected."""
    random = _Random(_SEED)
    models = [_candidate(random, number) for number in range(1, candidates + 1)]
    rows = [_request(random, sequence, candidates) for sequence in range(REQUESTS)]
    return _workload("real", models, rows, latency_penalty_microunits_per_ms=2)


WORKLOADS: Final[dict[str, Callable[[int], Workload]]] = {"syn": synthetic, "real": realistic}
"""What makes each workload, from how many candidates its catalog has."""


def _candidate(random: _Random, model_id: int) -> Model:
    magnitude = random.below(5)
    rate = random.between(_RATES[magnitude], _RATES[magnitude + 1])
    return Model(
        model_id=model_id,
        provider_id=random.below(8),
        quality_bps=random.between(4_000, 9_900),
        risk_ceiling_bps=random.between(5_000, 10_000),
        enabled=not random.one_in(16),
        p95_latency_ms=random.between(150, 6_000),
        capabilities=random.next() | random.next(),
        region_mask=random.next() & random.next() & 0xFF | 1 << random.below(8),
        input_cost_microunits_per_million_tokens=rate,
        output_cost_microunits_per_million_tokens=rate * random.between(2, 5),
    )


def _request(random: _Random, sequence: int, candidates: int) -> tuple[int, ...]:
    return (
        sequence,
        random.between(1, candidates),  # requested_model_id
        random.between(50, 30_000),  # input_tokens
        random.between(10, 4_000),  # output_tokens
        random.between(1_000, 5_000_000),  # business_value_microunits
        random.between(10_000, 2_000_000),  # budget_limit_microunits
        random.below(9_700),  # risk_bps
        random.between(5_300, 10_000),  # confidence_bps
        random.between(0, 8_000),  # minimum_quality_bps
        random.between(500, 6_000) if random.one_in(3) else 0,  # max_p95_latency_ms
        1 << random.below(64) if random.one_in(2) else 0,  # required_capabilities
        random.next() if random.one_in(3) else _ALL_ONES,  # allowed_provider_mask
        random.between(1, 255) if random.one_in(3) else 0,  # required_region_mask
    )


def _workload(
    name: str, models: Sequence[Model], rows: Sequence[tuple[int, ...]], *, latency_penalty_microunits_per_ms: int
) -> Workload:
    policy = Policy(
        Catalog(models),
        hard_risk_limit_bps=9_600,
        minimum_confidence_bps=5_500,
        risk_penalty_multiplier_bps=3_500,
        latency_penalty_microunits_per_ms=latency_penalty_microunits_per_ms,
    )
    return Workload(name, policy, np.array(rows, dtype=REQUEST_DTYPE))


class _Random:
    """SplitMix64: a stream of numbers that a seed determines."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def next(self) -> int:
        """The next 64 bits."""
        self._state = (self._state + 0x9E37_79B9_7F4A_7C15) & _ALL_ONES
        z = self._state
        z = (z ^ z >> 30) * 0xBF58_476D_1CE4_E5B9 & _ALL_ONES
        z = (z ^ z >> 27) * 0x94D0_49BB_1331_11EB & _ALL_ONES
        return z ^ z >> 31

    def below(self, bound: int) -> int:
        """A number below ``bound``."""
        return self.next() % bound

    def between(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def one_in(self, times: int) -> bool:
        """True once in so many times."""
        return self.below(times) == 0
