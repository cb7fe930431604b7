"""The extension and the plain-Python model give the same answers to the same cases.

Every failure names its seed: ``DECIDABLE_SEED=<seed> pytest tests/test_differential.py`` runs that seed alone.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge
import decidable as dc
from model import decisions
from model.decisions import ALL_ONES, I64_MAX, I64_MIN, U64_MAX, Candidate, Names, Policy, Request
from model.random_cases import Cases, seeds


def differ(seed: int, number: int, policy: Policy, request: Request) -> str:
    return f"DECIDABLE_SEED={seed}, request {number}:\n{request}\n{policy}"


# --- against the model ------------------------------------------------------------------------------------------------


def test_batches_decide_as_the_model() -> None:
    """60,000 plain requests on 1,000 policies, decided in batches."""
    for seed in seeds(1_000):
        cases = Cases(seed)
        policy = cases.policy()
        requests = [cases.request(policy) for _ in range(60)]
        found = bridge.native_policy(policy).decide_batch(bridge.request_rows(requests)).tolist()
        for number, (request, row) in enumerate(zip(requests, found, strict=True)):
            assert row == decisions.decide(policy, request)[0], differ(seed, number, policy, request)


def test_single_calls_decide_and_count_as_the_model() -> None:
    """40,000 requests with objectives, names and quotes on 800 policies, what each gate turned away, and the hold."""
    for seed in seeds(800):
        cases = Cases(seed)
        policy = cases.policy(extended=True)
        native = bridge.native_policy(policy)
        for number in range(50):
            request = cases.request(policy, extended=True)
            asked = bridge.native_request(request)
            expected = decisions.decide(policy, request)
            decision, counted = native.decide_counted(asked)
            assert (bridge.as_decision(decision), counted) == expected, differ(seed, number, policy, request)
            assert native.decide(asked) == decision, differ(seed, number, policy, request)
            if number % 5 == 0:
                assert native.hold(asked) == decisions.hold(policy, request), differ(seed, number, policy, request)


def test_digests_are_the_models() -> None:
    """2,000 requests, decisions and identities, plain and extended, on 200 policies."""
    for seed in seeds(200):
        cases = Cases(seed)
        policy = cases.policy(extended=seed % 2 == 0)
        native = bridge.native_policy(policy)
        assert native.digest() == policy.digest(), f"DECIDABLE_SEED={seed}"
        assert native.shared_digest() == policy.shared_digest(), f"DECIDABLE_SEED={seed}"
        assert dc.Policy.from_bytes(native.to_bytes()).digest() == policy.digest(), f"DECIDABLE_SEED={seed}"
        if policy.names is not None:
            assert native.names.digest() == policy.names.digest(), f"DECIDABLE_SEED={seed}"
        for number in range(10):
            request = cases.request(policy, extended=seed % 3 == 0)
            expected = decisions.decide(policy, request)[0]
            asked = bridge.native_request(request)
            decision = native.decide(asked)
            assert asked.digest() == request.digest(), differ(seed, number, policy, request)
            assert asked.shared_digest() == request.shared_digest(), differ(seed, number, policy, request)
            assert decision.digest() == expected.digest(), differ(seed, number, policy, request)
            about = decisions.identity(policy, request, expected)
            assert dc.identity(native, asked, decision) == about, differ(seed, number, policy, request)


def test_explanations_are_the_models() -> None:
    """2,000 requests: every verdict, every term, and the utility of each candidate."""
    for seed in seeds(200):
        cases = Cases(seed)
        policy = cases.policy(largest=33, extended=seed % 2 == 0)
        native = bridge.native_policy(policy)
        for number in range(10):
            request = cases.request(policy, extended=seed % 2 == 0)
            asked = bridge.native_request(request)
            explained = native.explain(asked)
            expected = decisions.explain(policy, request)
            assert [bridge.as_verdict(v) for v in explained] == expected, differ(seed, number, policy, request)
            assert explained.decision == native.decide(asked)
            model_id = cases.choice(policy.models).model_id
            utility = native.utility(asked, model_id=model_id)
            assert utility == decisions.utility(policy, request, model_id), differ(seed, number, policy, request)


def test_levers_and_margins_are_the_models() -> None:
    """1,000 requests: what would win for one candidate, the disabled ones more often, and the winner's margin."""
    for seed in seeds(250):
        cases = Cases(seed)
        policy = cases.policy(largest=22, extended=seed % 2 == 0)
        native = bridge.native_policy(policy)
        disabled = [model for model in policy.models if not model.enabled]
        for number in range(4):
            request = cases.request(policy, extended=seed % 2 == 0)
            asked = bridge.native_request(request)
            model_id = cases.choice(disabled if disabled and number == 0 else policy.models).model_id
            found = bridge.as_what_would_win(native.what_would_win(asked, model_id=model_id))
            expected = decisions.what_would_win(policy, request, model_id)
            assert found == expected, f"model {model_id}, {differ(seed, number, policy, request)}"
            margin = bridge.as_margin(native.margin(asked))
            assert margin == decisions.margin(policy, request), differ(seed, number, policy, request)


def test_prices_are_the_models() -> None:
    """10,000 costs from rates, saturating ones among them."""
    for seed in seeds(500):
        cases = Cases(seed)
        policy = cases.policy(largest=10)
        native = bridge.native_policy(policy)
        for _ in range(20):
            model, tokens_in, tokens_out = cases.choice(policy.models), cases.unsigned(32), cases.unsigned(32)
            found = native.cost(model_id=model.model_id, input_tokens=tokens_in, output_tokens=tokens_out)
            expected = decisions.cost_from_rates(model, tokens_in, tokens_out)
            assert found == expected, f"DECIDABLE_SEED={seed}: {model}, {tokens_in}, {tokens_out}"


# --- against the model, with shrinking --------------------------------------------------------------------------------


def unsigned(bits: int) -> st.SearchStrategy[int]:
    edges = {0, 1, 2, 2 ** (bits - 1), 2**bits - 1}
    return st.sampled_from(sorted(edges)) | st.integers(0, 2**bits - 1)


BPS = st.sampled_from((0, 1, 5_000, 9_999, 10_000)) | st.integers(0, 10_000)
MASK = st.sampled_from((0, 1, 2, 3, ALL_ONES)) | unsigned(64)

CANDIDATES = st.builds(
    Candidate,
    model_id=st.integers(1, 6) | st.integers(1, 2**32 - 1),
    provider_id=st.integers(0, 63),
    quality_bps=BPS,
    risk_ceiling_bps=st.just(10_000) | BPS,
    enabled=st.sampled_from((1, 1, 1, 0)),
    p95_latency_ms=st.integers(0, 3) | unsigned(32),
    capabilities=MASK,
    region_mask=MASK,
    input_cost_microunits_per_million_tokens=st.integers(0, 3) | unsigned(64),
    output_cost_microunits_per_million_tokens=st.integers(0, 3) | unsigned(64),
)

POLICIES = st.builds(
    Policy,
    policy_epoch=unsigned(64),
    catalog_epoch=unsigned(64),
    hard_risk_limit_bps=st.just(10_000) | BPS,
    minimum_confidence_bps=st.just(0) | BPS,
    risk_penalty_multiplier_bps=st.just(0) | st.integers(0, 50_000),
    latency_penalty_microunits_per_ms=st.integers(0, 2) | unsigned(64),
    models=st.lists(CANDIDATES, min_size=1, max_size=6, unique_by=lambda model: model.model_id)
    .filter(lambda models: any(model.enabled for model in models))
    .map(lambda models: tuple(sorted(models, key=lambda model: model.model_id))),
    objective=st.sampled_from(tuple(decisions.ORDERS)),
    names=st.none() | st.builds(Names, models=st.dictionaries(st.integers(1, 9), st.just("m"), max_size=1)),
)

REQUESTS = st.builds(
    Request,
    request_sequence=unsigned(64),
    requested_model_id=st.integers(0, 6) | unsigned(32),
    input_tokens=unsigned(32),
    output_tokens=unsigned(32),
    business_value_microunits=st.sampled_from((I64_MIN, -1, 0, 1, I64_MAX)) | st.integers(I64_MIN, I64_MAX),
    budget_limit_microunits=st.just(U64_MAX) | unsigned(64),
    risk_bps=st.just(0) | BPS,
    confidence_bps=st.just(10_000) | BPS,
    minimum_quality_bps=st.just(0) | BPS,
    max_p95_latency_ms=st.just(0) | unsigned(32),
    required_capabilities=st.just(0) | MASK,
    allowed_provider_mask=st.just(ALL_ONES) | MASK,
    required_region_mask=st.just(0) | MASK,
    quotes=st.dictionaries(st.integers(1, 6), st.integers(0, 3) | unsigned(64), max_size=3),
)


@given(POLICIES, REQUESTS)
def test_any_policy_and_request_are_decided_as_by_the_model(policy: Policy, request: Request) -> None:
    """The smallest case that differs, if there is one: decision, counters, verdicts, digests, batch."""
    native, asked = bridge.native_policy(policy), bridge.native_request(request)
    expected, rejections = decisions.decide(policy, request)
    decision, counted = native.decide_counted(asked)
    assert bridge.as_decision(decision) == expected
    assert counted == rejections
    assert [bridge.as_verdict(verdict) for verdict in native.explain(asked)] == decisions.explain(policy, request)
    assert dc.identity(native, asked, decision) == decisions.identity(policy, request, expected)
    plain = replace(request, quotes={})
    (row,) = native.decide_batch(bridge.request_rows([plain])).tolist()
    assert row == decisions.decide(policy, plain)[0]


@given(POLICIES, REQUESTS)
def test_a_lever_at_its_boundary_selects_and_one_step_short_does_not(policy: Policy, request: Request) -> None:
    """The kernel itself shows what would win: the changed policy selects the candidate, one step less does not."""
    native, asked = bridge.native_policy(policy), bridge.native_request(request)
    for candidate in policy.models:
        found = native.what_would_win(asked, model_id=candidate.model_id)
        for lever in found.levers:
            assert selected_at(policy, request, candidate, lever, lever.boundary) == candidate.model_id
            towards = 1 if lever.boundary < lever.current else -1
            assert selected_at(policy, request, candidate, lever, lever.boundary + towards) != candidate.model_id


def selected_at(policy: Policy, request: Request, candidate: Candidate, lever: dc.Lever, value: int) -> int | None:
    """What the kernel selects with the lever of one candidate at a value."""
    if lever.lever == "enabled":
        changed = replace(candidate, enabled=value)
    else:
        kind = next(kind for kind in decisions.LEVERS if kind.name == lever.lever)
        changed, request = kind.change(candidate, request, value)
    changed_policy = decisions.with_candidate(policy, changed)
    if not any(model.enabled for model in changed_policy.models):
        return None
    return bridge.native_policy(changed_policy).decide(bridge.native_request(request)).selected_model_id


def test_the_generator_reaches_every_reason() -> None:
    """The cases serve a good part of the requests, refuse for every reason, and tie often enough to matter."""
    reasons: dict[int, int] = {}
    ties = 0
    for seed in range(300):
        cases = Cases(seed)
        policy = cases.policy(extended=seed % 2 == 0)
        for _ in range(20):
            decision = decisions.decide(policy, cases.request(policy, extended=seed % 2 == 0))[0]
            reasons[decision.reason] = reasons.get(decision.reason, 0) + 1
            second = decision.counterfactual_model_id != 0
            ties += second and decision.expected_utility_microunits == decision.counterfactual_utility_microunits
    assert reasons.keys() == {1, 2, *range(100, 111)}
    assert min(reasons.values()) >= 20
    assert ties >= 100


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 255, 256, 257, 1_000, 65_535])
def test_catalogs_of_any_size(size: int) -> None:
    """The largest catalog, sizes around the powers of two, and the last candidate as the winner."""
    models = tuple(
        Candidate(model_id, model_id % 64, 5_000, 10_000, 1, 100, 0, 0, 1_000_000, 1_000_000)
        for model_id in range(1, size + 1)
    )
    models = (*models[:-1], replace(models[-1], quality_bps=9_000))
    policy = Policy(1, 1, 10_000, 0, 0, 0, models)
    request = Request(9, size, 1_000, 1_000, 10_000_000, U64_MAX, 0, 10_000, 0, 0, 0, ALL_ONES, 0)
    decision = bridge.as_decision(bridge.native_policy(policy).decide(bridge.native_request(request)))
    assert decision == decisions.decide(policy, request)[0]
    assert decision.selected_model_index == size - 1
