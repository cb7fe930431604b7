"""4. Budget: money is held before a call, settled after it, and never spent twice."""

import tempfile
from pathlib import Path

from decidable import builders, llm

MODELS = Path(__file__).with_name("models.toml")


def show(what: str, gateway: llm.Gateway) -> None:
    """The account as it stands."""
    balance = gateway.balance("acme")
    left, held, spent = map(builders.currency_units, (balance.remaining, balance.reserved, balance.committed))
    print(f"{what:<34} left {left}, held {held}, spent {spent}, debt {builders.currency_units(balance.debt)}")
    assert balance.remaining + balance.reserved + balance.committed == balance.initial


with tempfile.TemporaryDirectory() as state, llm.Gateway.open(state, catalog=MODELS) as gateway:
    gateway.open_account("acme", "0.0020")
    show("opened", gateway)

    # The hold covers the largest answer; what was not used comes back.
    with gateway.route("gpt-5-mini", input_tokens=1_000, max_output_tokens=500, account="acme") as call:
        show(f"held for {call.model}", gateway)
        call.settle(usage={"prompt_tokens": 1_000, "completion_tokens": 200})
    show("settled at what was used", gateway)

    # A call that is not made gives its money back.
    gateway.route("gpt-5-mini", input_tokens=1_000, account="acme").cancel()
    show("cancelled", gateway)

    # What is not there cannot be held.
    call = gateway.route("gpt-5-mini", input_tokens=100_000, account="acme")
    show(f"refused: {call.refusal}", gateway)

    # A call that nobody settled may have been made. Its money stays held until someone says what it cost.
    try:
        with gateway.route("gpt-5-mini", input_tokens=1_000, account="acme") as call:
            raise TimeoutError
    except TimeoutError:
        show(f"call {call.id} in doubt", gateway)
    for doubtful in gateway.open_calls():
        gateway.reconcile(doubtful.id, cost="0.0003")
    show("reconciled with the bill", gateway)

    # A bill above the hold is paid as far as the account goes. The rest is a debt, because the money is spent.
    with gateway.route("gpt-5-mini", input_tokens=1_000, max_output_tokens=100, account="acme") as call:
        call.settle(cost="0.0025")
    show("a bill above the account", gateway)
    gateway.top_up("acme", "1.00")
    show("topped up, the debt repaid first", gateway)
