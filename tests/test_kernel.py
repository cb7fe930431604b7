"""The rules of a decision, each on an example that was worked out by hand."""

from typing import Any

import pytest

import decidable as dc

MILLION = 1_000_000


def model(model_id: int, **changes: Any) -> dc.Model:
    """A candidate of quality 80 % that costs one microunit per input token and two per output token."""
    figures = {
        "quality_bps": 8_000,
        "input_cost_microunits_per_million_tokens": MILLION,
        "output_cost_microunits_per_million_tokens": 2 * MILLION,
        "p95_latency_ms": 100,
    }
    return dc.Model(model_id=model_id, **figures | changes)


def policy(*models: dc.Model, names: dc.Names | None = None, **limits: Any) -> dc.Policy:
    return dc.Policy(dc.Catalog(models or [model(1)], names=names), **limits)


def request(**changes: Any) -> dc.Request:
    """Worth 10,000, of 100 tokens in and 50 out: 200 microunits from the rates of `model`."""
    figures = {"input_tokens": 100, "output_tokens": 50, "business_value_microunits": 10_000}
    return dc.Request(**figures | changes)


def test_the_first_example() -> None:
    """value 10,000 x confidence 90 % x quality 80 % = 7,200; less risk 10,000 x 5 % x 2 = 1,000; less cost 200; less
    latency 100 ms x 3 = 300: utility 5,700."""
    decided = policy(risk_penalty_multiplier_bps=20_000, latency_penalty_microunits_per_ms=3).decide(
        request(request_sequence=7, requested_model_id=1, confidence_bps=9_000, risk_bps=500)
    )
    assert decided.action == dc.Action.EXECUTE_REQUESTED
    assert decided.reason == dc.Reason.REQUESTED_MODEL_MAXIMIZES_UTILITY
    assert (decided.selected_model_id, decided.selected_model_index) == (1, 0)
    assert decided.estimated_cost_microunits == 200
    assert decided.expected_utility_microunits == 5_700
    assert (decided.counterfactual_model_id, decided.counterfactual_utility_microunits) == (None, 0)
    assert (decided.evaluated_models, decided.eligible_models) == (1, 1)
    assert (decided.request_sequence, decided.policy_epoch, decided.catalog_epoch) == (7, 1, 1)


def test_each_side_of_a_cost_is_rounded_up() -> None:
    """One token at one microunit per million costs one microunit a side; no tokens cost nothing."""
    cheap = policy(model(1, input_cost_microunits_per_million_tokens=1, output_cost_microunits_per_million_tokens=1))
    costs = {(0, 0): 0, (1, 0): 1, (1, 1): 2, (MILLION, 0): 1, (MILLION + 1, 0): 2, (MILLION + 1, MILLION): 3}
    for (tokens_in, tokens_out), cost in costs.items():
        assert cheap.cost(model_id=1, input_tokens=tokens_in, output_tokens=tokens_out) == cost


def test_a_cost_stops_at_the_largest_number() -> None:
    """Rates that would cost more than 2^64 - 1 cost that, and a budget of that is no limit."""
    dear = policy(model(1, input_cost_microunits_per_million_tokens=2**64 - 1), objective="cheapest")
    most = 2**64 - 1
    assert dear.cost(model_id=1, input_tokens=2**32 - 1, output_tokens=2**32 - 1) == most
    decided = dear.decide(request(input_tokens=2**32 - 1, budget_limit_microunits=most))
    assert decided.estimated_cost_microunits == most
    assert decided.expected_utility_microunits == -(2**63)
    refused = dear.decide(request(input_tokens=2**32 - 1, budget_limit_microunits=most - 1))
    assert refused.reason == dc.Reason.BUDGET_CONSTRAINT


@pytest.mark.parametrize(
    ("limits", "asked", "reason"),
    [
        ({"hard_risk_limit_bps": 500}, {"risk_bps": 499}, None),
        ({"hard_risk_limit_bps": 500}, {"risk_bps": 500}, dc.Reason.RISK_HARD_LIMIT),
        ({"hard_risk_limit_bps": 0}, {"risk_bps": 0}, dc.Reason.RISK_HARD_LIMIT),
        ({"minimum_confidence_bps": 7_000}, {"confidence_bps": 7_000}, None),
        ({"minimum_confidence_bps": 7_000}, {"confidence_bps": 6_999}, dc.Reason.CONFIDENCE_HARD_LIMIT),
        (
            {"hard_risk_limit_bps": 500, "minimum_confidence_bps": 7_000},
            {"risk_bps": 500, "confidence_bps": 0},
            dc.Reason.RISK_HARD_LIMIT,
        ),
    ],
)
def test_a_request_is_refused_before_any_candidate_is_looked_at(
    limits: dict[str, int], asked: dict[str, int], reason: dc.Reason | None
) -> None:
    """Risk at the limit is refused, confidence at the floor passes, and risk is looked at first."""
    decided, rejections = policy(**limits).decide_counted(request(**asked))
    if reason is None:
        assert decided.selected_model_id == 1
    else:
        assert (decided.action, decided.reason) == (dc.Action.REJECT, reason)
        assert decided.evaluated_models == 0
        assert len(policy(**limits).explain(request(**asked))) == 0
    assert set(rejections.values()) == {0}


# A candidate, a request that it just passes, one that it fails by one, and what the failure is called.
GATES = [
    ({}, {"minimum_quality_bps": 8_000}, {"minimum_quality_bps": 8_001}, "quality", "QUALITY_CONSTRAINT"),
    ({}, {"max_p95_latency_ms": 100}, {"max_p95_latency_ms": 99}, "latency", "LATENCY_CONSTRAINT"),
    (
        {"capabilities": 0b101},
        {"required_capabilities": 0b101},
        {"required_capabilities": 0b111},
        "capability",
        "CAPABILITY_CONSTRAINT",
    ),
    (
        {"provider_id": 63},
        {"allowed_provider_mask": 1 << 63},
        {"allowed_provider_mask": (1 << 63) - 1},
        "provider",
        "PROVIDER_CONSTRAINT",
    ),
    (
        {"region_mask": 0b110},
        {"required_region_mask": 0b011},
        {"required_region_mask": 0b001},
        "region",
        "REGION_CONSTRAINT",
    ),
    ({"risk_ceiling_bps": 300}, {"risk_bps": 300}, {"risk_bps": 301}, "risk_ceiling", "RISK_CEILING_CONSTRAINT"),
    ({}, {"budget_limit_microunits": 200}, {"budget_limit_microunits": 199}, "budget", "BUDGET_CONSTRAINT"),
    (
        {},
        {"business_value_microunits": 252},  # 252 x 80 % = 201.6, rounded down to 201
        {"business_value_microunits": 251},  # 200.8, rounded down to 200
        "utility",
        "NON_POSITIVE_UTILITY",
    ),
]


@pytest.mark.parametrize(("candidate", "passed", "failed", "counter", "reason"), GATES, ids=[gate[3] for gate in GATES])
def test_a_gate_is_passed_at_its_limit(
    candidate: dict[str, int], passed: dict[str, int], failed: dict[str, int], counter: str, reason: str
) -> None:
    """At the limit the candidate is eligible; one beyond it is counted under the gate, which gives the reason."""
    one = policy(model(1, **candidate))
    assert one.decide(request(**passed)).selected_model_id == 1
    decided, rejections = one.decide_counted(request(**failed))
    assert decided.reason == getattr(dc.Reason, reason)
    assert {name for name, count in rejections.items() if count} == {counter}
    assert rejections[counter] == decided.evaluated_models == 1


def test_an_absent_limit_refuses_nobody() -> None:
    """No latency limit, any provider, any region: also for a candidate that has none."""
    lonely = policy(model(1, p95_latency_ms=2**32 - 1, provider_id=63, region_mask=0))
    assert lonely.decide(request()).selected_model_id == 1


def test_a_candidate_counts_under_the_first_gate_that_it_fails() -> None:
    """Disabled before all others; the rest in the order of the contract."""
    hopeless = {"max_p95_latency_ms": 1, "required_capabilities": 1, "minimum_quality_bps": 9_999}
    _, rejections = policy(model(1, enabled=False), model(2), model(3, quality_bps=10_000)).decide_counted(
        request(**hopeless)
    )
    assert (rejections["disabled"], rejections["quality"], rejections["latency"]) == (1, 1, 1)
    assert rejections["capability"] == 0


def test_among_equal_counters_the_later_of_the_list_gives_the_reason() -> None:
    """Capability and quality with one candidate each: quality is later in the list."""
    decided = policy(model(1, capabilities=1, quality_bps=1), model(2)).decide(
        request(required_capabilities=1, minimum_quality_bps=5_000)
    )
    assert decided.reason == dc.Reason.QUALITY_CONSTRAINT


def test_utility_decides_then_cost_then_quality_then_the_smaller_id() -> None:
    """The requested candidate has no advantage; the second best is reported."""
    half = {"input_cost_microunits_per_million_tokens": MILLION // 2}
    asked = request(requested_model_id=3)
    decided = policy(model(1, quality_bps=7_900), model(2, **half), model(3)).decide(asked)
    assert (decided.selected_model_id, decided.counterfactual_model_id) == (2, 3)
    assert decided.expected_utility_microunits - decided.counterfactual_utility_microunits == 50
    assert decided.action == dc.Action.SUBSTITUTE
    # 10,000 x 79.5 % - 150 = 10,000 x 80 % - 200: equal utility, the lower cost wins.
    assert policy(model(1), model(2, quality_bps=7_950, **half)).decide(asked).selected_model_id == 2
    # 1,000 x 80.01 % rounds down to 1,000 x 80 %, and everything is free: quality decides, then the id.
    free = {"input_cost_microunits_per_million_tokens": 0, "output_cost_microunits_per_million_tokens": 0}
    tied = policy(model(1, **free), model(2, quality_bps=8_001, **free), model(3, quality_bps=8_001, **free))
    decided = tied.decide(request(business_value_microunits=1_000))
    assert (decided.selected_model_id, decided.counterfactual_model_id) == (2, 3)


def test_objectives() -> None:
    """Each picks what is best by its own measure, also where no utility is positive."""
    models = (
        model(1, p95_latency_ms=300, quality_bps=6_000),
        model(2, p95_latency_ms=200, quality_bps=9_000, output_cost_microunits_per_million_tokens=5 * MILLION),
        model(3, p95_latency_ms=10, quality_bps=5_000, output_cost_microunits_per_million_tokens=9 * MILLION),
    )
    picks = {"utility": 2, "cheapest": 1, "quality": 2, "fastest": 3}
    for objective, picked in picks.items():
        assert policy(*models, objective=objective).decide(request()).selected_model_id == picked
    worthless = request(business_value_microunits=0)
    for objective, picked in picks.items():
        decided = policy(*models, objective=objective).decide(worthless)
        assert decided.selected_model_id == (None if objective == "utility" else picked)
    assert policy(*models, objective="cheapest").decide(worthless).expected_utility_microunits == -200


def test_a_quote_replaces_the_rates_of_its_candidate() -> None:
    """In the budget, in the utility and in the order; a quote for a model that is not there changes nothing."""
    two = policy(model(1), model(2))
    decided = two.decide(request(quotes={2: 199, 9: 0}))
    assert (decided.selected_model_id, decided.estimated_cost_microunits) == (2, 199)
    assert decided.counterfactual_model_id == 1
    assert two.decide(request(quotes={1: 10**6}, budget_limit_microunits=200)).selected_model_id == 2
    refused = two.decide(request(quotes={1: 10**6, 2: 201}, budget_limit_microunits=200))
    assert refused.reason == dc.Reason.BUDGET_CONSTRAINT


def test_the_hold_covers_the_largest_use() -> None:
    """Rates at the largest use; with a quote, the quote and what the further tokens cost from the rates."""
    one = policy()
    assert one.hold(request()) == 200
    assert one.hold(request(max_output_tokens=80)) == 260
    assert one.hold(request(max_output_tokens=80, quotes={1: 500})) == 560
    assert one.hold(request(max_output_tokens=2**32 - 1, quotes={1: 7})) == 7 + 2 * (2**32 - 1 - 50)
    assert one.hold(request(minimum_quality_bps=9_000)) is None
    assert one.decide(request(max_output_tokens=80)).estimated_cost_microunits == 200


def test_what_would_win_and_the_margin() -> None:
    """Model 2 is 100 behind: 1 % of quality, half the input price, and no risk ceiling and no latency can help."""
    two = policy(model(1), model(2, quality_bps=7_900))
    found = two.what_would_win(request(), model_id=2)
    assert found.blocked_by_request is None
    # Equal utility and cost at 8,000 bps would leave model 1 ahead by its id; 8,000.01 does not exist.
    # At 500,000 ppm cost is 100: equal utility, lower cost.
    assert [
        (lever.lever, lever.current, lever.boundary, lever.cost_at_boundary_microunits) for lever in found.levers
    ] == [
        ("quality_bps", 7_900, 8_001, None),
        ("price_ppm", MILLION, 500_000, 100),
    ]
    assert two.what_would_win(request(), model_id=1).levers == ()
    margin = two.margin(request())
    assert margin.model_id == 1
    # At 7,900 bps utility and cost are equal and the id decides for model 1. At a cost of 300 the utilities are equal
    # and the lower cost wins, so 299 is the most: ceil(100 x 1.495) + ceil(50 x 2.99) = 150 + 150 is one too much.
    assert [(lever.lever, lever.boundary) for lever in margin.levers] == [
        ("quality_bps", 7_900),
        ("price_ppm", 1_490_000),
    ]
    assert margin.levers[1].cost_at_boundary_microunits == 298
    assert two.margin(request(risk_bps=10_000)) is None


def test_a_disabled_candidate_can_only_be_enabled() -> None:
    """If that would make it win."""
    three = policy(model(1), model(2, enabled=False, quality_bps=9_000), model(3, enabled=False, quality_bps=1))
    (lever,) = three.what_would_win(request(), model_id=2).levers
    assert (lever.lever, lever.current, lever.boundary) == ("enabled", 0, 1)
    assert three.what_would_win(request(), model_id=3).levers == ()


def test_names_are_part_of_the_digest_and_of_no_decision() -> None:
    """Extensions change the extended digest only; without them there is but one digest."""
    plain, named = policy(), policy(names=dc.Names(models={1: "small"}))
    assert plain.digest() == plain.shared_digest() == named.shared_digest()
    assert named.digest() != plain.digest()
    assert policy(objective="cheapest").shared_digest() == plain.digest() != policy(objective="cheapest").digest()
    assert named.decide(request()) == plain.decide(request())
    quoted = request(quotes={1: 200})
    assert quoted.shared_digest() == request().digest() != quoted.digest()
    assert request(max_output_tokens=60).digest() == request().digest()
    assert "small" in str(named.explain(request()))
