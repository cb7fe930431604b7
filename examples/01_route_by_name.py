"""1. Route by name: which model should answer a prompt of this size, within this budget?"""

import tempfile
from pathlib import Path

from decidable import llm

MODELS = Path(__file__).with_name("models.toml")


def send(model: str, prompt: str, max_tokens: int) -> dict[str, int]:
    """Stands in for the provider's client, and returns its usage."""
    return {"prompt_tokens": 1_204, "completion_tokens": min(163, max_tokens)}


with tempfile.TemporaryDirectory() as state, llm.Gateway.open(state, catalog=MODELS, min_quality="70%") as gateway:
    gateway.open_account("acme/search", "25.00", exist_ok=True)

    # Decided, the money held, and both in the log before route() returns. Leaving the block without a settlement
    # would leave the call in doubt, with its money held.
    with gateway.route(
        "gpt-5-mini",
        input_tokens=1_200,
        expected_output_tokens=180,
        max_output_tokens=300,
        max_cost="0.02",
        account="acme/search",
        key="req-8f2",  # a retry with this key gets the same call, and holds nothing twice
    ) as call:
        print("asked for gpt-5-mini, chosen:", call.model)
        usage = send(call.model, "...", max_tokens=call.max_output_tokens)
        settlement = call.settle(usage=usage)
        print("charged:", settlement.charged_microunits, "microunits")

    gateway.outcome(call.id, succeeded=True)

    # Requirements choose another model, or none. A refusal is an answer, not an exception.
    for wishes in (
        {"min_quality": "80%"},
        {"regions": ["asia"], "capabilities": ["reasoning"]},
        {"max_latency": "2s", "capabilities": ["reasoning"]},
        {"max_cost": "0.0001"},
    ):
        call = gateway.route("gpt-5-mini", input_tokens=1_200, **wishes)
        print(wishes, "->", call.refusal or call.model)
