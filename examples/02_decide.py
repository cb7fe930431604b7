"""2. Decide: the kernel alone. Integers in, one decision out, no file and no clock."""

import decidable as dc

# Money in microunits (millionths of a currency unit), proportions in basis points, latency in milliseconds.
SMALL = dc.Model(
    model_id=1,
    quality_bps=7_000,
    p95_latency_ms=900,
    input_cost_microunits_per_million_tokens=150_000,
    output_cost_microunits_per_million_tokens=600_000,
)
LARGE = dc.Model(
    model_id=2,
    quality_bps=9_200,
    p95_latency_ms=4_800,
    input_cost_microunits_per_million_tokens=3_000_000,
    output_cost_microunits_per_million_tokens=15_000_000,
)

policy = dc.Policy(
    dc.Catalog([SMALL, LARGE]),
    hard_risk_limit_bps=9_600,
    minimum_confidence_bps=5_500,
    risk_penalty_multiplier_bps=3_500,
    latency_penalty_microunits_per_ms=1,
)

# The same question about answers of different worth: the model that is worth its price wins.
request = dc.Request(requested_model_id=2, input_tokens=1_200, output_tokens=300, risk_bps=800, confidence_bps=9_000)
for value in (1_000, 10_000, 100_000):
    decision = policy.decide(request.replace(business_value_microunits=value))
    print(f"worth {value:>7,}: {decision.action.label}, model {decision.selected_model_id}", end="")
    print(f", cost {decision.estimated_cost_microunits:,}, utility {decision.expected_utility_microunits:,}")

# Above a limit no model is asked, whatever the answer is worth.
refused = policy.decide(request.replace(business_value_microunits=10**9, risk_bps=9_600))
print("at the risk limit:", refused.action.label, "because of", refused.reason.label)

# Policy, request and decision have digests, so that anyone can check later that these gave that.
worth_it = request.replace(business_value_microunits=100_000)
print("policy  ", policy.digest().hex())
print("request ", worth_it.digest().hex())
print("decision", policy.decide(worth_it).digest().hex())
assert policy.decide(worth_it) == policy.decide(worth_it)
