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


def workload(size: int, requests: int) -> tuple[decisions.Policy, list[decisions.Request]]:
    """A catalog and requests of which most are served and every gate refuses some."""
    cases = Cases(size)
    policy = decisions.Policy(
        policy_epoch=1,
        catalog_epoch=1,
        hard_risk_limit_bps=9_600,
        minimum_confidence_bps=5_500,
        risk_penalty_multiplier_bps=3_500,
        latency_penalty_microunits_per_ms=2,
        models=tuple(replace(cases.ordinary(number), enabled=1) for number in range(1, size + 1)),
    )
    return policy, [cases.ordinary_request(policy) for _ in range(requests)]


def comparisons() -> Iterator[Comparison]:
    for size in CATALOGS:
        yield from decided(size)
    yield from digested(22)
    yield from reserved()


def decided(size: int) -> Iterator[Comparison]:
    plain, requests = workload(size, BATCH)
    theirs, ours = bridge.peer_policy(plain), bridge.native_policy(plain)
    inputs, rows = [bridge.peer_request(request) for request in requests], bridge.request_rows(requests)
    few = requests[:SINGLE]
    asked = [bridge.native_request(request) for request in few]
    expected = [decisions.decide(plain, request)[0] for request in few]
    assert [bridge.as_decision(ours.decide(request)) for request in asked] == expected
    assert [bridge.from_peer(theirs.prescribe(request)) for request in inputs[:SINGLE]] == expected
    assert ours.decide_batch(rows).tolist() == [bridge.from_peer(found) for found in theirs.prescribe_batch(inputs)]

    yield Comparison(f"decide/{size}", SINGLE, each(theirs.prescribe, inputs[:SINGLE]), each(ours.decide, asked))
    values = [bridge.request_values(request) for request in few]
    keywords = [dict(zip(bridge.REQUEST_FIELDS, value, strict=True)) for value in values]
    yield Comparison(
        f"build the request and decide/{size}",
        SINGLE,
        each(lambda value: theirs.prescribe(peer.KernelInput(*value)), values),
        each(lambda value: ours.decide(dc.Request(**value)), keywords),
    )
    yield Comparison(
        f"batch, 1 thread/{size}",
        BATCH,
        partial(theirs.prescribe_batch, inputs),
        partial(ours.decide_batch, rows, threads=1),
    )
    yield Comparison(f"batch/{size}", BATCH, partial(theirs.prescribe_batch, inputs), partial(ours.decide_batch, rows))
    yield Comparison(
        f"batch and read who was selected/{size}",
        BATCH,
        lambda: [decision.selected_model_id for decision in theirs.prescribe_batch(inputs)],
        lambda: ours.decide_batch(rows)["selected_model_id"].tolist(),
    )
    yield Comparison(f"explain/{size}", SINGLE, each(theirs.explain, inputs[:SINGLE]), each(ours.explain, asked))


def digested(size: int) -> Iterator[Comparison]:
    plain, requests = workload(size, SINGLE)
    theirs, ours = bridge.peer_policy(plain), bridge.native_policy(plain)
    inputs, asked = [bridge.peer_request(r) for r in requests], [bridge.native_request(r) for r in requests]
    prescribed, answers = [theirs.prescribe(request) for request in inputs], [ours.decide(r) for r in asked]

    def evidence(request: dc.Request, decision: dc.Decision) -> tuple[bool, bytes, bytes, bytes]:
        """What an audit bundle says: that the decision replays, and the three digests."""
        return ours.decide(request) == decision, ours.digest(), request.digest(), decision.digest()

    yield Comparison(
        f"replay and digests of a decision/{size}",
        SINGLE,
        each(theirs.audit_bundle, inputs, prescribed),
        each(evidence, asked, answers),
    )
    models = [peer.KernelModel(*(getattr(model, field.name) for field in fields(model))) for model in plain.models]
    catalog = bridge.catalog(ours.models)
    yield Comparison(
        f"build a policy and its digest/{size}",
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
