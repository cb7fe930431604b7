"""8. asyncio: many calls at once, one that takes too long, and how its money is found again."""

import asyncio
import tempfile
from pathlib import Path

from decidable import llm

MODELS = Path(__file__).with_name("models.toml")


async def send(model: str, seconds: float) -> dict[str, int]:
    """Stands in for the provider's asynchronous client, and returns its usage."""
    await asyncio.sleep(seconds)
    return {"prompt_tokens": 1_000, "completion_tokens": 163}


async def ask(gateway: llm.Gateway, key: str, seconds: float = 0) -> int:
    """One call, made and settled; what it cost in microunits."""
    async with await gateway.aroute("gpt-5-mini", input_tokens=1_000, account="acme", key=key) as call:
        usage = await send(call.model, seconds)
        return (await call.asettle(usage=usage)).charged_microunits


async def main(gateway: llm.Gateway) -> None:
    # The event loop goes on while the decisions become durable, many at a time.
    costs = await asyncio.gather(*(ask(gateway, f"question {number}") for number in range(200)))
    print(f"{len(costs)} calls cost {sum(costs)} microunits")

    # Given up before there is a call: nothing stays held, and the key is free.
    task = asyncio.create_task(ask(gateway, "given up"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print("held for what was given up:", gateway.balance("acme").reserved)

    # Cut off while the model works: it may cost something, so its money stays held until someone says what.
    try:
        await asyncio.wait_for(ask(gateway, "slow", seconds=3_600), timeout=0.5)
    except TimeoutError:
        print("cut off, calls that are open:", gateway.open_calls())

    # The key finds the call again, and its state says that it must not be made a second time.
    call = await gateway.aroute("gpt-5-mini", input_tokens=1_000, account="acme", key="slow")
    print("found by its key:", call.state)
    await asyncio.to_thread(gateway.reconcile, call.id, cost="0.0003")
    print("reconciled with the bill:", call.state, "and held:", gateway.balance("acme").reserved)


with tempfile.TemporaryDirectory() as state, llm.Gateway.open(state, catalog=MODELS) as gateway:
    gateway.open_account("acme", "25.00")
    asyncio.run(main(gateway))
