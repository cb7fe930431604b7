"""3. Explain: why this model, why not that one, and what would have to change."""

from decidable import builders, demo

# The demonstration's catalog: 28 models of six makers at real prices.
catalog, policy = demo.catalog(), demo.policy()

request = builders.request(
    catalog,
    model="gpt-5",
    input_tokens=1_200,
    output_tokens=250,
    value="0.02",
    max_cost="0.01",
    min_quality="80%",
    max_latency="5s",
    risk="8%",
    regions=["eu"],
)
decision = policy.decide(request)
assert decision.selected_model_id is not None
print("chosen:", catalog.model_name(decision.selected_model_id))

# One verdict on each model: the gate it failed with the two numbers compared, or the terms of its utility.
print(policy.explain(request))
print("Cost, quality, risk, latency and utility are in microunits: what each adds to the utility or takes from it.")

# The figures that can be moved, in words and with their units.
LEVERS = {
    "quality_bps": ("quality", "basis points"),
    "latency_ms": ("p95 latency", "milliseconds"),
    "price_ppm": ("price", "millionths of today's"),
    "risk_ceiling_bps": ("risk ceiling", "basis points"),
    "enabled": ("enabled", "(0 no, 1 yes)"),
}

# What would make the requested model win? Each lever alone, everything else unchanged.
answer = policy.what_would_win(request, model_id=catalog.model_id("gpt-5"))
print("gpt-5 would win with:")
for lever in answer.levers:
    what, unit = LEVERS[lever.lever]
    print(f"  {what} of {lever.boundary:,} {unit} instead of {lever.current:,}")
if not answer.levers:
    print("  no single change")

# And how far could the winner's own figures move before it loses?
margin = policy.margin(request)
assert margin is not None
print(catalog.model_name(margin.model_id), "stays the winner with:")
for lever in margin.levers:
    what, unit = LEVERS[lever.lever]
    # Some figures may only fall so far, others only rise.
    bound = "down to" if lever.boundary < lever.current else "up to"
    print(f"  {what} {bound} {lever.boundary:,} {unit} (now {lever.current:,})")
