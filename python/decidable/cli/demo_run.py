"""The demonstration itself: recorded traffic through an engine, at its own times.

Events run in the order of simulated time: a request is decided when it arrives and settled when its answer is complete.
Some hundred events are in flight at once, so that one synchronisation of the disk makes many of them durable. They are
submitted in one order, which depends on the trace alone: a settlement waits for a later window than its decision.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count as numbers
from pathlib import Path
from typing import Any, Final, Literal

from decidable._native import Key, ManualClock, Policy
from decidable.demo import Arrival
from decidable.engine import Engine, Ticket

__all__ = ["Run", "run"]

# How many events are in flight at once.
_WINDOW: Final = 256


@dataclass(slots=True)
class Run:
    """What happened, counted as it happened; the log says the same."""

    decided: int = 0
    settled: int = 0
    elapsed_ns: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    chosen: Counter[int] = field(default_factory=Counter)
    substituted: int = 0
    admitted: list[tuple[Any, int]] = field(default_factory=list)
    spent_microunits: int = 0
    debt_microunits: int = 0
    refused_by_account: dict[str, Counter[str]] = field(default_factory=dict)
    first_denial_ns: dict[str, int] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)

    def per_second(self) -> float:
        """Decisions a second, the settlements made on the way included in the time."""
        return self.decided * 10**9 / self.elapsed_ns if self.elapsed_ns else 0.0


def run(
    state: Path,
    *,
    policy: Policy,
    arrivals: list[Arrival],
    accounts: dict[str, int],
    provenance: str,
    key: Key | None,
    sync: Literal["group", "none"],
    advance: Callable[[int], None],
) -> Run:
    """Decides and settles every arrival in an engine at ``state``, and closes it; the head is the engine's own."""
    clock = ManualClock(arrivals[0].arrival_ns if arrivals else 0)
    engine = Engine.open(state, policy=policy, key=key, sync=sync, clock=clock, provenance=provenance)
    try:
        for name, initial in accounts.items():
            engine.ledger.open_account(name, initial)
        done = asyncio.run(_play(engine, clock, arrivals, advance))
    finally:
        head = engine.close()
    done.head = head
    return done


@dataclass(slots=True)
class _Settling:
    ticket: Ticket
    arrival: Arrival


async def _play(engine: Engine, clock: ManualClock, arrivals: list[Arrival], advance: Callable[[int], None]) -> Run:
    done = Run()
    due: list[tuple[int, int, _Settling]] = []
    order = numbers()
    begun = time.perf_counter_ns()
    for window in _windows(arrivals, due):
        tickets = await asyncio.gather(*(_step(engine, clock, at, event) for at, event in window))
        for (at, event), outcome in zip(window, tickets, strict=True):
            if isinstance(event, _Settling):
                done.settled += 1
                done.spent_microunits += outcome.charged_microunits
                done.debt_microunits += outcome.debt_microunits
                continue
            done.decided += 1
            decision = outcome.decision
            if outcome.refusal is not None or decision is None:
                _refused(done, event, outcome.refusal)
                continue
            done.chosen[decision.selected_model_id] += 1
            done.substituted += decision.action.label == "substitute"
            done.admitted.append((event.request, event.output_tokens))
            heapq.heappush(due, (at + event.latency_ms * 10**6, next(order), _Settling(outcome, event)))
        advance(len(window))
    done.elapsed_ns = time.perf_counter_ns() - begun
    return done


def _windows(arrivals: list[Arrival], due: list[tuple[int, int, _Settling]]) -> Iterator[list[tuple[int, Any]]]:
    """The next events by time; ``due`` grows between windows as decisions are made."""
    place = 0
    while place < len(arrivals) or due:
        window: list[tuple[int, Any]] = []
        while len(window) < _WINDOW and (place < len(arrivals) or due):
            if due and (place == len(arrivals) or due[0][0] <= arrivals[place].arrival_ns):
                at, _, settling = heapq.heappop(due)
                window.append((at, settling))
            else:
                window.append((arrivals[place].arrival_ns, arrivals[place]))
                place += 1
        yield window


async def _step(engine: Engine, clock: ManualClock, at: int, event: Any) -> Any:
    """One event. Everything up to the wait for the disk happens before the next event of the window begins."""
    clock.advance_to(max(at, clock.time_ns))
    if isinstance(event, _Settling):
        arrival = event.arrival
        return await event.ticket.asettle(
            input_tokens=arrival.request.input_tokens,
            output_tokens=arrival.output_tokens,
            latency_ms=arrival.latency_ms,
        )
    ticket = await engine.adecide(event.request, account=event.account)
    if ticket.refusal is None:
        ticket.dispatch()
    return ticket


def _refused(done: Run, event: Arrival, refusal: str) -> None:
    done.refusals[refusal] += 1
    done.refused_by_account.setdefault(event.account, Counter())[refusal] += 1
    if refusal in ("insufficient", "over_cap"):
        done.first_denial_ns.setdefault(event.account, event.arrival_ns)
