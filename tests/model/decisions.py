"""docs/spec/decisions.md and docs/spec/extensions.md: who may be chosen, who wins, and what it would have taken.

Absent limits are the layout's sentinels here (0, all ones), as in the vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from model.encoding import digest, i64, option, string, u8, u16, u32, u64

U64_MAX = 2**64 - 1
I64_MIN, I64_MAX = -(2**63), 2**63 - 1
ALL_ONES = U64_MAX
MILLION = 1_000_000

EXECUTE_REQUESTED, SUBSTITUTE, REJECT = 1, 2, 3
REQUESTED_WINS, ALTERNATIVE_WINS = 1, 2
RISK_HARD_LIMIT, CONFIDENCE_HARD_LIMIT, NO_ENABLED_MODEL = 100, 101, 102
NO_INDEX = 65_535

COUNTERS = ("disabled", "quality", "risk_ceiling", "latency", "capability", "provider", "region", "budget", "utility")

# With nothing eligible the largest counter gives the reason; among equals the later in this list.
REASONS = (
    ("capability", 105),
    ("region", 107),
    ("provider", 106),
    ("quality", 103),
    ("risk_ceiling", 110),
    ("latency", 104),
    ("budget", 108),
    ("utility", 109),
    ("disabled", 102),
)


@dataclass(frozen=True, slots=True)
class Candidate:
    model_id: int
    provider_id: int
    quality_bps: int
    risk_ceiling_bps: int
    enabled: int
    p95_latency_ms: int
    capabilities: int
    region_mask: int
    input_cost_microunits_per_million_tokens: int
    output_cost_microunits_per_million_tokens: int

    def encode(self) -> bytes:
        return (
            u32(self.model_id)
            + u16(self.provider_id)
            + u16(self.quality_bps)
            + u16(self.risk_ceiling_bps)
            + u8(self.enabled)
            + u32(self.p95_latency_ms)
            + u64(self.capabilities)
            + u64(self.region_mask)
            + u64(self.input_cost_microunits_per_million_tokens)
            + u64(self.output_cost_microunits_per_million_tokens)
        )


@dataclass(frozen=True, slots=True)
class Names:
    models: dict[int, str] = field(default_factory=dict)
    providers: dict[int, str] = field(default_factory=dict)
    regions: dict[int, str] = field(default_factory=dict)
    capabilities: dict[int, str] = field(default_factory=dict)

    def digest(self) -> bytes:
        parts = []
        for group in (self.models, self.providers, self.regions, self.capabilities):
            parts.append(u32(len(group)))
            parts += [u32(number) + string(name) for number, name in sorted(group.items())]
        return digest("dcdnam1", *parts)


@dataclass(frozen=True, slots=True)
class Policy:
    policy_epoch: int
    catalog_epoch: int
    hard_risk_limit_bps: int
    minimum_confidence_bps: int
    risk_penalty_multiplier_bps: int
    latency_penalty_microunits_per_ms: int
    models: tuple[Candidate, ...]  # ascending model_id
    objective: str = "utility"
    names: Names | None = None

    def shared_digest(self) -> bytes:
        return digest(
            "calypol1",
            u64(self.policy_epoch),
            u64(self.catalog_epoch),
            u16(self.hard_risk_limit_bps),
            u16(self.minimum_confidence_bps),
            u16(self.risk_penalty_multiplier_bps),
            u64(self.latency_penalty_microunits_per_ms),
            *[candidate.encode() for candidate in self.models],
        )

    def digest(self) -> bytes:
        if self.objective == "utility" and self.names is None:
            return self.shared_digest()
        names = None if self.names is None else self.names.digest()
        return digest("dcdpol1", self.shared_digest(), u8(list(ORDERS).index(self.objective)), option(names))


@dataclass(frozen=True, slots=True)
class Request:
    request_sequence: int
    requested_model_id: int
    input_tokens: int
    output_tokens: int
    business_value_microunits: int
    budget_limit_microunits: int
    risk_bps: int
    confidence_bps: int
    minimum_quality_bps: int
    max_p95_latency_ms: int
    required_capabilities: int
    allowed_provider_mask: int
    required_region_mask: int
    quotes: dict[int, int] = field(default_factory=dict)
    max_output_tokens: int | None = None

    def encode(self) -> bytes:
        return (
            u64(self.request_sequence)
            + u32(self.requested_model_id)
            + u32(self.input_tokens)
            + u32(self.output_tokens)
            + i64(self.business_value_microunits)
            + u64(self.budget_limit_microunits)
            + u16(self.risk_bps)
            + u16(self.confidence_bps)
            + u16(self.minimum_quality_bps)
            + u32(self.max_p95_latency_ms)
            + u64(self.required_capabilities)
            + u64(self.allowed_provider_mask)
            + u64(self.required_region_mask)
        )

    def shared_digest(self) -> bytes:
        return digest("calyinp1", self.encode())

    def digest(self) -> bytes:
        if not self.quotes:
            return self.shared_digest()
        quotes = [u32(model_id) + u64(cost) for model_id, cost in sorted(self.quotes.items())]
        return digest("dcdreq1", self.shared_digest(), u32(len(quotes)), *quotes)


class Decision(NamedTuple):
    request_sequence: int
    action: int
    reason: int
    selected_model_id: int
    selected_model_index: int
    estimated_cost_microunits: int
    expected_utility_microunits: int
    counterfactual_model_id: int
    counterfactual_utility_microunits: int
    evaluated_models: int
    eligible_models: int
    policy_epoch: int
    catalog_epoch: int

    def encode(self) -> bytes:
        return (
            u64(self.request_sequence)
            + u8(self.action)
            + u16(self.reason)
            + u32(self.selected_model_id)
            + u16(self.selected_model_index)
            + u64(self.estimated_cost_microunits)
            + i64(self.expected_utility_microunits)
            + u32(self.counterfactual_model_id)
            + i64(self.counterfactual_utility_microunits)
            + u16(self.evaluated_models)
            + u16(self.eligible_models)
            + u64(self.policy_epoch)
            + u64(self.catalog_epoch)
        )

    def digest(self) -> bytes:
        return digest("calydcn1", self.encode())


def identity(policy: Policy, request: Request, decision: Decision) -> bytes:
    return digest("calyidn1", policy.digest(), request.digest(), decision.digest(), u64(request.request_sequence))


# --- price and utility ----------------------------------------------------------------------------------------------


def cost_from_rates(candidate: Candidate, input_tokens: int, output_tokens: int) -> int:
    """Each side rounded up, each side and the sum at most 2^64 - 1."""
    input_side = -(-input_tokens * candidate.input_cost_microunits_per_million_tokens // MILLION)
    output_side = -(-output_tokens * candidate.output_cost_microunits_per_million_tokens // MILLION)
    return min(min(input_side, U64_MAX) + min(output_side, U64_MAX), U64_MAX)


def cost(request: Request, candidate: Candidate) -> int:
    """What the request is expected to cost: the quote where there is one, else the rates."""
    if candidate.model_id in request.quotes:
        return request.quotes[candidate.model_id]
    return cost_from_rates(candidate, request.input_tokens, request.output_tokens)


class Terms(NamedTuple):
    quality_adjusted: int
    risk_penalty: int
    cost_microunits: int
    latency_penalty: int
    utility: int


def terms(policy: Policy, request: Request, candidate: Candidate, price: int) -> Terms:
    value = max(request.business_value_microunits, 0)
    quality = value * request.confidence_bps * candidate.quality_bps // 10**8
    risk = value * request.risk_bps * policy.risk_penalty_multiplier_bps // 10**8
    latency = candidate.p95_latency_ms * policy.latency_penalty_microunits_per_ms
    utility = quality - risk - price - latency
    return Terms(quality, risk, price, latency, min(max(utility, I64_MIN), I64_MAX))


# --- gates and order ------------------------------------------------------------------------------------------------


def refusal(policy: Policy, request: Request) -> int | None:
    """The reason to refuse the request before any candidate is looked at."""
    if request.risk_bps >= policy.hard_risk_limit_bps:
        return RISK_HARD_LIMIT
    if request.confidence_bps < policy.minimum_confidence_bps:
        return CONFIDENCE_HARD_LIMIT
    return None


class Failed(NamedTuple):
    counter: str
    gate: str
    measured: int
    limit: int


def gate(request: Request, candidate: Candidate) -> Failed | None:
    """The first of gates 1 to 7 that the candidate fails."""
    if candidate.enabled == 0:
        return Failed("disabled", "Disabled", 0, 1)
    if candidate.quality_bps < request.minimum_quality_bps:
        return Failed("quality", "Quality", candidate.quality_bps, request.minimum_quality_bps)
    if request.max_p95_latency_ms > 0 and candidate.p95_latency_ms > request.max_p95_latency_ms:
        return Failed("latency", "Latency", candidate.p95_latency_ms, request.max_p95_latency_ms)
    if candidate.capabilities & request.required_capabilities != request.required_capabilities:
        return Failed("capability", "Capability", candidate.capabilities, request.required_capabilities)
    mask = request.allowed_provider_mask
    if mask != ALL_ONES and not mask >> candidate.provider_id & 1:
        return Failed("provider", "ProviderNotAllowed", candidate.provider_id, mask)
    if request.required_region_mask != 0 and candidate.region_mask & request.required_region_mask == 0:
        return Failed("region", "Region", candidate.region_mask, request.required_region_mask)
    if request.risk_bps > candidate.risk_ceiling_bps:
        return Failed("risk_ceiling", "RiskCeiling", request.risk_bps, candidate.risk_ceiling_bps)
    return None


# For each objective what is compared, the smallest first. Every order ends in the id, so there are no ties.
ORDERS: dict[str, Callable[[Candidate, Terms], tuple[int, ...]]] = {
    "utility": lambda c, t: (-t.utility, t.cost_microunits, -c.quality_bps, c.model_id),
    "cheapest": lambda c, t: (t.cost_microunits, -c.quality_bps, c.p95_latency_ms, c.model_id),
    "quality": lambda c, t: (-c.quality_bps, t.cost_microunits, c.p95_latency_ms, c.model_id),
    "fastest": lambda c, t: (c.p95_latency_ms, t.cost_microunits, -c.quality_bps, c.model_id),
}


def decide(policy: Policy, request: Request) -> tuple[Decision, dict[str, int]]:
    """The decision, and how many candidates each gate turned away."""
    rejections = dict.fromkeys(COUNTERS, 0)
    refused = refusal(policy, request)
    if refused is not None:
        return _rejected(policy, request, refused, evaluated=0), rejections
    ranked = []
    for index, candidate in enumerate(policy.models):
        failed = gate(request, candidate)
        if failed is not None:
            rejections[failed.counter] += 1
            continue
        price = cost(request, candidate)
        if price > request.budget_limit_microunits:
            rejections["budget"] += 1
            continue
        found = terms(policy, request, candidate, price)
        if policy.objective == "utility" and found.utility <= 0:
            rejections["utility"] += 1
            continue
        ranked.append((ORDERS[policy.objective](candidate, found), index, candidate.model_id, found))
    if not ranked:
        return _rejected(policy, request, _largest(rejections), evaluated=len(policy.models)), rejections
    ranked.sort(key=lambda entry: entry[0])
    _, index, model_id, found = ranked[0]
    requested = model_id == request.requested_model_id
    return Decision(
        request_sequence=request.request_sequence,
        action=EXECUTE_REQUESTED if requested else SUBSTITUTE,
        reason=REQUESTED_WINS if requested else ALTERNATIVE_WINS,
        selected_model_id=model_id,
        selected_model_index=index,
        estimated_cost_microunits=found.cost_microunits,
        expected_utility_microunits=found.utility,
        counterfactual_model_id=ranked[1][2] if len(ranked) > 1 else 0,
        counterfactual_utility_microunits=ranked[1][3].utility if len(ranked) > 1 else 0,
        evaluated_models=len(policy.models),
        eligible_models=len(ranked),
        policy_epoch=policy.policy_epoch,
        catalog_epoch=policy.catalog_epoch,
    ), rejections


def _rejected(policy: Policy, request: Request, reason: int, *, evaluated: int) -> Decision:
    return Decision(
        request_sequence=request.request_sequence,
        action=REJECT,
        reason=reason,
        selected_model_id=0,
        selected_model_index=NO_INDEX,
        estimated_cost_microunits=0,
        expected_utility_microunits=0,
        counterfactual_model_id=0,
        counterfactual_utility_microunits=0,
        evaluated_models=evaluated,
        eligible_models=0,
        policy_epoch=policy.policy_epoch,
        catalog_epoch=policy.catalog_epoch,
    )


def _largest(rejections: dict[str, int]) -> int:
    largest = max(rejections.values())
    return [reason for counter, reason in REASONS if rejections[counter] == largest][-1]


def hold(policy: Policy, request: Request) -> int | None:
    """What to hold for the selected candidate: its cost at the largest use. None when nothing is selected."""
    chosen = decide(policy, request)[0].selected_model_id
    if chosen == 0:
        return None
    candidate = next(c for c in policy.models if c.model_id == chosen)
    largest_use = request.output_tokens if request.max_output_tokens is None else request.max_output_tokens
    at_most = cost_from_rates(candidate, request.input_tokens, largest_use)
    if chosen not in request.quotes:
        return at_most
    expected = cost_from_rates(candidate, request.input_tokens, request.output_tokens)
    return min(request.quotes[chosen] + at_most - expected, U64_MAX)


# --- why ------------------------------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    model_id: int
    verdict: str  # eligible, non_positive_utility, over_budget, gate
    gate: str | None = None
    measured: int | None = None
    limit: int | None = None
    quality_adjusted: int | None = None
    risk_penalty: int | None = None
    cost_microunits: int | None = None
    latency_penalty: int | None = None
    utility: int | None = None


def explain(policy: Policy, request: Request) -> list[Verdict]:
    if refusal(policy, request) is not None:
        return []
    return [_verdict(policy, request, candidate) for candidate in policy.models]


def _verdict(policy: Policy, request: Request, candidate: Candidate) -> Verdict:
    failed = gate(request, candidate)
    if failed is not None:
        return Verdict(candidate.model_id, "gate", failed.gate, failed.measured, failed.limit)
    price = cost(request, candidate)
    if price > request.budget_limit_microunits:
        return Verdict(
            candidate.model_id,
            "over_budget",
            measured=price,
            limit=request.budget_limit_microunits,
            cost_microunits=price,
        )
    found = terms(policy, request, candidate, price)
    eligible = policy.objective != "utility" or found.utility > 0
    return Verdict(candidate.model_id, "eligible" if eligible else "non_positive_utility", **found._asdict())


def utility(policy: Policy, request: Request, model_id: int) -> int | None:
    for verdict in explain(policy, request):
        if verdict.model_id == model_id and verdict.verdict == "eligible":
            return verdict.utility
    return None


# --- what it would have taken ---------------------------------------------------------------------------------------


class Lever(NamedTuple):
    lever: str
    current: int
    boundary: int
    cost_at_boundary_microunits: int | None = None


def scaled(price: int, ppm: int) -> int:
    return min(price * ppm // MILLION, U64_MAX)


def quality_at(candidate: Candidate, request: Request, value: int) -> tuple[Candidate, Request]:
    return replace(candidate, quality_bps=value), request


def latency_at(candidate: Candidate, request: Request, value: int) -> tuple[Candidate, Request]:
    return replace(candidate, p95_latency_ms=value), request


def price_at(candidate: Candidate, request: Request, ppm: int) -> tuple[Candidate, Request]:
    """Both rates at so many parts per million, and the quote, where there is one in their place."""
    dearer = replace(
        candidate,
        input_cost_microunits_per_million_tokens=scaled(candidate.input_cost_microunits_per_million_tokens, ppm),
        output_cost_microunits_per_million_tokens=scaled(candidate.output_cost_microunits_per_million_tokens, ppm),
    )
    quotes = {
        model_id: scaled(quote, ppm) if model_id == candidate.model_id else quote
        for model_id, quote in request.quotes.items()
    }
    return dearer, replace(request, quotes=quotes)


def risk_ceiling_at(candidate: Candidate, request: Request, value: int) -> tuple[Candidate, Request]:
    return replace(candidate, risk_ceiling_bps=value), request


class LeverKind(NamedTuple):
    name: str
    today: Callable[[Candidate], int]
    change: Callable[[Candidate, Request, int], tuple[Candidate, Request]]
    best: int
    worst: int


LEVERS = (
    LeverKind("quality_bps", lambda candidate: candidate.quality_bps, quality_at, best=10_000, worst=0),
    LeverKind("latency_ms", lambda candidate: candidate.p95_latency_ms, latency_at, best=0, worst=2**32 - 1),
    LeverKind("price_ppm", lambda _: MILLION, price_at, best=0, worst=1_000 * MILLION),
    LeverKind("risk_ceiling_bps", lambda candidate: candidate.risk_ceiling_bps, risk_ceiling_at, best=10_000, worst=0),
)


def with_candidate(policy: Policy, candidate: Candidate) -> Policy:
    models = tuple(candidate if c.model_id == candidate.model_id else c for c in policy.models)
    return replace(policy, models=models)


def selects(policy: Policy, candidate: Candidate, request: Request) -> bool:
    """Whether the candidate would be selected if it were like this."""
    return decide(with_candidate(policy, candidate), request)[0].selected_model_id == candidate.model_id


def first(start: int, end: int, holds: Callable[[int], bool]) -> int | None:
    """The first number on the way from ``start`` to ``end`` that holds.

    Bisection is exact because a lever helps or hurts all the way: no gate, no term of the utility and no comparison
    of the order turns around on it. test_model.py walks some of them step by step.
    """
    if not holds(end):
        return None
    step = 1 if end >= start else -1
    low, high = 0, abs(end - start)
    while low < high:
        middle = (low + high) // 2
        if holds(start + step * middle):
            high = middle
        else:
            low = middle + 1
    return start + step * low


def what_would_win(policy: Policy, request: Request, model_id: int) -> tuple[int | None, list[Lever]]:
    """The reason that blocks the request itself, or the levers that alone would make the candidate win."""
    blocked = refusal(policy, request)
    candidate = next(c for c in policy.models if c.model_id == model_id)
    if blocked is not None:
        return blocked, []
    if selects(policy, candidate, request):
        return None, []
    if candidate.enabled == 0:
        wins = selects(policy, replace(candidate, enabled=1), request)
        return None, [Lever("enabled", 0, 1)] if wins else []
    levers = []
    for kind in LEVERS:

        def wins_at(value: int, kind: LeverKind = kind) -> bool:
            return selects(policy, *kind.change(candidate, request, value))

        boundary = first(kind.today(candidate), kind.best, wins_at)
        if boundary is not None:
            levers.append(_lever(kind, candidate, request, boundary))
    return None, levers


def margin(policy: Policy, request: Request) -> tuple[int, list[Lever]] | None:
    """The winner and how far each lever can go against it; a lever that cannot make it lose is left out."""
    chosen = decide(policy, request)[0].selected_model_id
    if chosen == 0:
        return None
    winner = next(c for c in policy.models if c.model_id == chosen)
    levers = []
    for kind in LEVERS:

        def loses_at(value: int, kind: LeverKind = kind) -> bool:
            return not selects(policy, *kind.change(winner, request, value))

        beyond = first(kind.today(winner), kind.worst, loses_at)
        if beyond is not None:
            boundary = beyond - 1 if kind.worst > kind.today(winner) else beyond + 1
            levers.append(_lever(kind, winner, request, boundary))
    return chosen, levers


def _lever(kind: LeverKind, candidate: Candidate, request: Request, boundary: int) -> Lever:
    price = None
    if kind.name == "price_ppm":
        dearer, requoted = price_at(candidate, request, boundary)
        price = cost(requoted, dearer)
    return Lever(kind.name, kind.today(candidate), boundary, price)
