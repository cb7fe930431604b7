"""Policies and requests from a seed: ordinary ones, ones made of extremes, ones full of ties, and ones on the edge.

The same seed gives the same cases. A failing test names the seed; ``DECIDABLE_SEED=<seed>`` runs that one alone. The
seeds of a run are those from ``DECIDABLE_FIRST_SEED`` on; without it the same ones under CI, else new ones each time.
"""

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from model.decisions import (
    ALL_ONES,
    I64_MAX,
    I64_MIN,
    MILLION,
    ORDERS,
    U64_MAX,
    Candidate,
    Names,
    Policy,
    Request,
    cost,
)

SIZES = (1, 1, 2, 3, 4, 4, 5, 7, 8, 9, 15, 16, 17, 22, 22, 31, 32, 33)
LARGE_SIZES = (63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 300)


ALONE = os.environ.get("DECIDABLE_SEED")
ASKED = os.environ.get("DECIDABLE_FIRST_SEED")
FIRST_SEED = int(ASKED) if ASKED else 0 if os.environ.get("CI") else random.SystemRandom().randrange(10**12)


def seeds(count: int) -> Iterator[int]:
    """The seeds of one run, or the one that was asked for alone."""
    return iter((int(ALONE),) if ALONE else range(FIRST_SEED, FIRST_SEED + count))


class Cases(random.Random):
    """A source of policies and requests."""

    def unsigned(self, bits: int) -> int:
        """Any number of so many bits, the small, the large and the round ones more often."""
        kind = self.random()
        if kind < 0.15:
            return self.choice((0, 1, 2**bits - 1, 2**bits - 2, 2 ** (bits - 1), 2 ** (bits - 1) - 1))
        return self.getrandbits(self.randint(1, bits))

    def bps(self) -> int:
        return self.choice((0, 1, 9_999, 10_000)) if self.random() < 0.2 else self.randint(0, 10_000)

    # --- policies ---------------------------------------------------------------------------------------------------

    def policy(self, *, largest: int = 300, extended: bool = False) -> Policy:
        size = self.choice(LARGE_SIZES if self.random() < 0.04 else SIZES)
        size = min(size, largest)
        candidate = self.choice((self.ordinary, self.ordinary, self.extreme, self.tied))
        ids = sorted(self.sample(range(1, 4 * size + 1), size))
        if self.random() < 0.2:
            ids[-1] = 2**32 - 1
        models = [candidate(model_id) for model_id in ids]
        if not any(model.enabled for model in models):
            models[0] = replace(models[0], enabled=1)
        policy = Policy(
            policy_epoch=self.unsigned(64),
            catalog_epoch=self.unsigned(64),
            hard_risk_limit_bps=self.choice((10_000, 10_000, 9_600, 9_000, self.randint(0, 10_000))),
            minimum_confidence_bps=self.choice((0, 0, 5_500, 5_500, self.randint(0, 10_000))),
            risk_penalty_multiplier_bps=self.choice((0, 0, 3_500, 50_000, self.randint(0, 50_000))),
            latency_penalty_microunits_per_ms=self.choice((0, 1, 2, 2, self.unsigned(64))),
            models=tuple(models),
        )
        if not extended:
            return policy
        names = self.choice((None, None, self.names(ids)))
        return replace(policy, objective=self.choice(tuple(ORDERS)), names=names)

    def ordinary(self, model_id: int) -> Candidate:
        return Candidate(
            model_id=model_id,
            provider_id=self.randint(0, 7),
            quality_bps=self.randint(5_000, 9_900),
            risk_ceiling_bps=self.choice((10_000, 9_000, self.randint(0, 10_000))),
            enabled=int(self.random() < 0.9),
            p95_latency_ms=self.randint(50, 8_000),
            capabilities=self.getrandbits(4) | self.getrandbits(4),
            region_mask=self.choice((ALL_ONES, self.getrandbits(4))),
            input_cost_microunits_per_million_tokens=self.randint(10_000, 30_000_000),
            output_cost_microunits_per_million_tokens=self.randint(10_000, 120_000_000),
        )

    def extreme(self, model_id: int) -> Candidate:
        return Candidate(
            model_id=model_id,
            provider_id=self.choice((0, 1, 62, 63, self.randint(0, 63))),
            quality_bps=self.bps(),
            risk_ceiling_bps=self.bps(),
            enabled=int(self.random() < 0.9),
            p95_latency_ms=self.unsigned(32),
            capabilities=self.unsigned(64),
            region_mask=self.unsigned(64),
            input_cost_microunits_per_million_tokens=self.unsigned(64),
            output_cost_microunits_per_million_tokens=self.unsigned(64),
        )

    def tied(self, model_id: int) -> Candidate:
        return Candidate(
            model_id=model_id,
            provider_id=self.randint(0, 1),
            quality_bps=self.choice((8_000, 8_000, 8_001)),
            risk_ceiling_bps=self.choice((10_000, 10_000, 500)),
            enabled=int(self.random() < 0.95),
            p95_latency_ms=self.choice((100, 100, 101)),
            capabilities=3,
            region_mask=self.choice((1, 3)),
            input_cost_microunits_per_million_tokens=self.choice((1_000_000, 1_000_000, 1_000_001)),
            output_cost_microunits_per_million_tokens=self.choice((2_000_000, 2_000_000, 0)),
        )

    def names(self, ids: Sequence[int]) -> Names:
        def some(numbers: Sequence[int]) -> dict[int, str]:
            chosen = self.sample(list(numbers), self.randint(0, len(numbers)))
            return {number: self.choice(("m", "Å/ü-", "模型 ", "a.b_")) + str(number) for number in chosen}

        return Names(some(ids), some(range(64)), some(range(64)), some(range(64)))

    # --- requests ---------------------------------------------------------------------------------------------------

    def request(self, policy: Policy, *, extended: bool = False) -> Request:
        made = self.choice(
            (self.ordinary_request, self.ordinary_request, self.extreme_request, self.edge_request, self.edge_request)
        )(policy)
        if not extended:
            return made
        if self.random() < 0.6:
            chosen = self.sample(policy.models, min(len(policy.models), self.randint(1, 4)))
            quotes = {model.model_id: self._quote(made, model) for model in chosen}
            if self.random() < 0.2:
                quotes[self.randint(1, 2**32 - 1)] = self.unsigned(64)
            made = replace(made, quotes=quotes)
        if self.random() < 0.5:
            largest = self.choice((made.output_tokens, 2**32 - 1, self.randint(made.output_tokens, 2**32 - 1)))
            made = replace(made, max_output_tokens=largest)
        return made

    def sometimes(self, value: int, else_: int) -> int:
        """One request in five has a limit of a kind, so that most meet one or two and many are served."""
        return value if self.random() < 0.2 else else_

    def ordinary_request(self, policy: Policy) -> Request:
        return Request(
            request_sequence=self.getrandbits(40),
            requested_model_id=self.choice(policy.models).model_id,
            input_tokens=self.randint(0, 200_000),
            output_tokens=self.randint(0, 15_000),
            business_value_microunits=self.randint(0, 100_000_000),
            budget_limit_microunits=self.sometimes(self.randint(0, 10_000_000), U64_MAX),
            risk_bps=self.sometimes(self.randint(0, 10_000), self.randint(0, 500)),
            confidence_bps=self.sometimes(self.randint(0, 10_000), self.randint(8_000, 10_000)),
            minimum_quality_bps=self.sometimes(self.randint(0, 9_900), 0),
            max_p95_latency_ms=self.sometimes(self.randint(1, 9_000), 0),
            required_capabilities=self.sometimes(self.choice((1, 2, 4, 3)), 0),
            allowed_provider_mask=self.sometimes(self.getrandbits(64), ALL_ONES),
            required_region_mask=self.sometimes(self.choice((1, 4, 12)), 0),
        )

    def extreme_request(self, policy: Policy) -> Request:
        value = self.choice((I64_MIN, -1, 0, 1, I64_MAX, I64_MAX, self.unsigned(63), self.unsigned(63)))
        return Request(
            request_sequence=self.unsigned(64),
            requested_model_id=self.choice((self.choice(policy.models).model_id, self.unsigned(32))),
            input_tokens=self.unsigned(32),
            output_tokens=self.unsigned(32),
            business_value_microunits=value,
            budget_limit_microunits=self.choice((U64_MAX, U64_MAX, U64_MAX - 1, self.unsigned(64))),
            risk_bps=self.sometimes(self.bps(), 0),
            confidence_bps=self.sometimes(self.bps(), 10_000),
            minimum_quality_bps=self.sometimes(self.bps(), 0),
            max_p95_latency_ms=self.sometimes(self.unsigned(32), 0),
            required_capabilities=self.sometimes(self.choice((1 << self.randint(0, 63), self.unsigned(64))), 0),
            allowed_provider_mask=self.sometimes(self.choice((ALL_ONES ^ 1, 0, self.unsigned(64))), ALL_ONES),
            required_region_mask=self.sometimes(self.choice((1 << self.randint(0, 63), self.unsigned(64))), 0),
        )

    def edge_request(self, policy: Policy) -> Request:
        """Limits that one candidate just meets, just misses, or meets with one to spare."""
        model = self.choice(policy.models)

        def near(value: int, largest: int) -> int:
            return min(max(value + self.choice((-1, 0, 0, 0, 1)), 0), largest)

        limits = {
            "confidence_bps": near(policy.minimum_confidence_bps, 10_000),
            "risk_bps": near(self.choice((model.risk_ceiling_bps, policy.hard_risk_limit_bps)), 10_000),
            "minimum_quality_bps": near(model.quality_bps, 10_000),
            "max_p95_latency_ms": near(model.p95_latency_ms, 2**32 - 1),
            "required_capabilities": self.choice((model.capabilities, model.capabilities | 1 << self.randint(0, 63))),
            "allowed_provider_mask": self.choice((1 << model.provider_id, ALL_ONES ^ 1 << model.provider_id)),
            "required_region_mask": self.choice((1 << self.randint(0, 63), model.region_mask, ALL_ONES)),
        }
        chosen = self.sample(sorted(limits), self.choice((0, 1, 1, 2, 3)))
        request = replace(self.ordinary_request(policy), **{name: limits[name] for name in chosen})
        price = cost(request, model)
        request = replace(request, budget_limit_microunits=self.choice((U64_MAX, near(price, U64_MAX))))
        # The value at which this candidate's utility is about nothing.
        gain = request.confidence_bps * model.quality_bps - request.risk_bps * policy.risk_penalty_multiplier_bps
        if gain <= 0 or self.random() < 0.5:
            return request
        break_even = (price + model.p95_latency_ms * policy.latency_penalty_microunits_per_ms) * 10**8 // gain
        value = break_even + self.choice((-1, 0, 1, 2, 3, break_even // 3))
        return replace(request, business_value_microunits=min(max(value, -1), I64_MAX))

    def _quote(self, request: Request, model: Candidate) -> int:
        listed = cost(request, model)
        near_budget = request.budget_limit_microunits + self.choice((-1, 0, 1))
        quote = self.choice((listed, listed // 2, 2 * listed, near_budget, self.randint(0, MILLION), self.unsigned(64)))
        return min(max(quote, 0), U64_MAX)
