"""A writer that is made to be killed: threads and coroutines decide, settle and cancel, and tell what is durable.

    python writer.py DIRECTORY SEED KEYED

Every line on standard output is one JSON object, written whole, about one step that the engine has answered for.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
import threading
from typing import Any

import decidable as dc
import ground

THREADS = 3
TASKS = 6
ACCOUNTS = ("acme", "beta")
INITIAL = 200_000


def tell(**step: Any) -> None:
    # Shorter than the pipe's atomic size: a line is there whole, or the kill came first.
    os.write(1, json.dumps(step).encode() + b"\n")


def asked(choose: random.Random, who: str, step: int) -> dict[str, Any]:
    """What one decision is asked with, so that the same can be asked again."""
    return {
        "model": choose.choice((ground.FREE, ground.CHEAP, ground.CHEAP, ground.DEAR, None)),
        "risk": 9_800 if choose.random() < 0.05 else 100,
        "most": choose.choice((None, 150, 400)),
        "account": choose.choice((*ACCOUNTS, None)),
        "key": f"{who}-{step}" if choose.random() < 0.5 else None,
        "metadata": f"{who} {step}" if choose.random() < 0.5 else None,
    }


def arguments(asked: dict[str, Any]) -> dict[str, Any]:
    """The arguments of :meth:`decidable.Engine.decide`."""
    request = ground.request(asked["model"], risk_bps=asked["risk"], max_output_tokens=asked["most"])
    return {"request": request} | {name: asked[name] for name in ("account", "key", "metadata")}


def told(ticket: dc.Ticket, asked: dict[str, Any]) -> None:
    tell(
        op="decide",
        number=ticket.id,
        seq=ticket.seq,
        selected=ticket.selected_model_id,
        hold=ticket.hold_microunits,
        refusal=ticket.refusal,
        asked=asked,
    )


def used(choose: random.Random) -> dict[str, int]:
    if choose.random() < 0.5:
        return {"cost_microunits": choose.choice((0, 10, 1_400, 5_000))}
    return {"input_tokens": 1_000, "output_tokens": choose.randrange(500)}


def work(engine: dc.Engine, who: str, seed: str) -> None:
    choose = random.Random(seed)
    for step in itertools.count():
        asking = asked(choose, who, step)
        ticket = engine.decide(**arguments(asking))
        told(ticket, asking)
        if ticket.refusal is not None:
            continue
        end = choose.random()
        if end < 0.2:
            ticket.cancel()
            tell(op="cancel", number=ticket.id)
        elif end < 0.8:
            with ticket:
                settlement = ticket.settle(**used(choose))
            tell(op="settle", number=ticket.id, seq=settlement.seq, charged=settlement.charged_microunits)
        elif choose.random() < 0.5:
            amount = choose.randrange(1, 40_000)
            balance = engine.ledger.top_up(choose.choice(ACCOUNTS), amount)
            tell(op="top_up", account=balance.account, amount=amount, figures=ground.figures(balance))


async def work_async(engine: dc.Engine, who: str, seed: str) -> None:
    choose = random.Random(seed)
    for step in itertools.count():
        asking = asked(choose, who, step)
        ticket = await engine.adecide(**arguments(asking))
        told(ticket, asking)
        if ticket.refusal is not None:
            continue
        end = choose.random()
        if end < 0.2:
            await ticket.acancel()
            tell(op="cancel", number=ticket.id)
        elif end < 0.8:
            async with ticket:
                settlement = await ticket.asettle(**used(choose))
            tell(op="settle", number=ticket.id, seq=settlement.seq, charged=settlement.charged_microunits)


async def many(engine: dc.Engine, seed: str) -> None:
    await asyncio.gather(*(work_async(engine, f"{seed}-task-{task}", f"{seed}-task-{task}") for task in range(TASKS)))


def main() -> None:
    directory, seed, keyed = sys.argv[1:]
    tell(op="opening")
    engine = ground.opened(directory, key=ground.KEY if keyed == "keyed" else None)
    for account in ACCOUNTS:
        if account not in engine.ledger:
            engine.ledger.open_account(account, INITIAL)
            tell(op="account", account=account, initial=INITIAL)
    tell(op="ready")
    for number in range(THREADS):
        who = f"{seed}-thread-{number}"
        threading.Thread(target=work, args=(engine, who, who), daemon=True).start()
    asyncio.run(many(engine, seed))


if __name__ == "__main__":
    main()
