"""The same work done by the reference implementation (the package `calybris`) and by us, on the same input.

Both sides get their input in the form that they take fastest, built beforehand: `KernelInput` objects there, `Request`
objects and arrays of `REQUEST_DTYPE` here. Where building them or reading the answers is part of the work, the name
says so.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from calybris import _core as peer

import bridge
import decidable as dc
import reference
from model import decisions
from model.random_cases import Cases

CATALOGS = (4, 22, 64, 256)
SINGLE = 512
BATCH = 16_384


@dataclass(frozen=True)
class Comparison:
    """What is measured, how many things one call does, and each side's call."""

    name: str
    items: int
    peer: Callable[[], object]
    ours: Callable[[], object]


def each(function: Callable[..., object], *arguments: Sequence[object]) -> Callable[[], object]:
    """Calls the function with each argument, with as little Python in between as there can be."""
    return lambda: deque(map(function, *arguments), maxlen=0)


@dataclass(frozen=True)
class Workload:
    """A policy and requests for it."""

    name: str
    policy: decisions.Policy
    requests: list[decisions.Request]


def synthetic(size: int) -> Workload:
    """The formulas of the reference implementation's own bench: no constraint but risk, confidence and quality."""
    models = [
        decisions.Candidate(
            model_id=number + 1,
            provider_id=number % 6,
            quality_bps=3_000 + number % 23 * 300,
            risk_ceiling_bps=9_500,
            enabled=1,
            p95_latency_ms=100 + number * 50,
            capabilities=0,
            region_mask=decisions.ALL_ONES,
            input_cost_microunits_per_million_tokens=10 + number * 50,
            output_cost_microunits_per_million_tokens=40 + number * 200,
        )
        for number in range(size)
    ]
    requests = [
        decisions.Request(
            request_sequence=number,
            requested_model_id=number % 22,
            input_tokens=500 + number % 10_000,
            output_tokens=200 + number % 5_000,
            business_value_microunits=50_000,
            budget_limit_microunits=10_000_000,
            risk_bps=number % 8_000,
            confidence_bps=6_000 + number % 4_000,
            minimum_quality_bps=3_000 + number % 5_000,
            max_p95_latency_ms=0,
            required_capabilities=0,
            allowed_provider_mask=decisions.ALL_ONES,
            required_region_mask=0,
        )
        for number in range(1, 7 * BATCH, 7)
    ]
    return Workload(f"{size}/syn", policy(models, latency_penalty_microunits_per_ms=0), requests)


def realistic(size: int) -> Workload:
    """A catalog and requests of which most are served and every gate refuses some."""
    cases = Cases(size)
    models = [replace(cases.ordinary(number), enabled=1) for number in range(1, size + 1)]
    limited = policy(models, latency_penalty_microunits_per_ms=2)
    return Workload(f"{size}/real", limited, [cases.ordinary_request(limited) for _ in range(BATCH)])


def policy(models: Sequence[decisions.Candidate], *, latency_penalty_microunits_per_ms: int) -> decisions.Policy:
    return decisions.Policy(
        policy_epoch=1,
        catalog_epoch=1,
        hard_risk_limit_bps=9_600,
        minimum_confidence_bps=5_500,
        risk_penalty_multiplier_bps=3_500,
        latency_penalty_microunits_per_ms=latency_penalty_microunits_per_ms,
        models=tuple(models),
    )


def comparisons() -> Iterator[Comparison]:
    for size in CATALOGS:
        yield from decided(synthetic(size))
        yield from decided(realistic(size))
    yield from digested(realistic(22))
    yield from reserved()


def decided(work: Workload) -> Iterator[Comparison]:
    theirs, ours = reference.reference_policy(work.policy), bridge.native_policy(work.policy)
    inputs, rows = (
        [reference.reference_request(request) for request in work.requests],
        bridge.request_rows(work.requests),
    )
    few = work.requests[:SINGLE]
    asked = [bridge.native_request(request) for request in few]
    expected = [decisions.decide(work.policy, request)[0] for request in few]
    assert [bridge.as_decision(ours.decide(request)) for request in asked] == expected
    assert ours.decide_batch(rows).tolist() == [
        reference.as_decision(found) for found in theirs.prescribe_batch(inputs)
    ]

    yield Comparison(f"decide/{work.name}", SINGLE, each(theirs.prescribe, inputs[:SINGLE]), each(ours.decide, asked))
    values = [bridge.request_values(request) for request in few]
    keywords = [dict(zip(bridge.REQUEST_FIELDS, value, strict=True)) for value in values]
    yield Comparison(
        f"build the request and decide/{work.name}",
        SINGLE,
        each(lambda value: theirs.prescribe(peer.KernelInput(*value)), values),
        each(lambda value: ours.decide(dc.Request(**value)), keywords),
    )
    yield Comparison(
        f"batch, 1 thread/{work.name}",
        BATCH,
        partial(theirs.prescribe_batch, inputs),
        partial(ours.decide_batch, rows, threads=1),
    )
    yield Comparison(
        f"batch/{work.name}", BATCH, partial(theirs.prescribe_batch, inputs), partial(ours.decide_batch, rows)
    )
    yield Comparison(
        f"batch and read who was selected/{work.name}",
        BATCH,
        lambda: [decision.selected_model_id for decision in theirs.prescribe_batch(inputs)],
        lambda: ours.decide_batch(rows)["selected_model_id"].tolist(),
    )
    yield Comparison(f"explain/{work.name}", SINGLE, each(theirs.explain, inputs[:SINGLE]), each(ours.explain, asked))


def digested(work: Workload) -> Iterator[Comparison]:
    requests = work.requests[:SINGLE]
    theirs, ours = reference.reference_policy(work.policy), bridge.native_policy(work.policy)
    inputs, asked = [reference.reference_request(r) for r in requests], [bridge.native_request(r) for r in requests]
    prescribed, answers = [theirs.prescribe(request) for request in inputs], [ours.decide(r) for r in asked]

    def evidence(request: dc.Request, decision: dc.Decision) -> tuple[bool, bytes, bytes, bytes]:
        """What an audit bundle says: that the decision replays, and the three digests."""
        return ours.decide(request) == decision, ours.digest(), request.digest(), decision.digest()

    yield Comparison(
        f"replay and digests of a decision/{work.name}",
        SINGLE,
        each(theirs.audit_bundle, inputs, prescribed),
        each(evidence, asked, answers),
    )
    models = [
        peer.KernelModel(*(getattr(model, field.name) for field in fields(model))) for model in work.policy.models
    ]
    catalog = bridge.catalog(ours.models)
    yield Comparison(
        f"build a policy and its digest/{work.name}",
        1,
        lambda: peer.PolicySnapshot(1, 1, 9_600, 5_500, 3_500, 2, models).fingerprint(),
        lambda: dc.Policy(
            catalog,
            hard_risk_limit_bps=9_600,
            minimum_confidence_bps=5_500,
            risk_penalty_multiplier_bps=3_500,
            latency_penalty_microunits_per_ms=2,
        ).digest(),
    )


def reserved() -> Iterator[Comparison]:
    theirs, ours = peer.BudgetEngine(), dc.Ledger()
    theirs.ensure_tenant("acme", 2**62)
    ours.open_account("acme", 2**62)
    amounts = list(range(1, SINGLE + 1))
    yield Comparison(
        "reserve and commit",
        SINGLE,
        each(lambda amount: theirs.commit(theirs.try_reserve("acme", amount)["reservation_id"], amount), amounts),
        each(lambda amount: ours.reserve("acme", amount).commit(amount), amounts),
    )
