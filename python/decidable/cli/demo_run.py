"""The demonstration itself: recorded traffic through an engine, at its own times.

Events run in the order of simulated time: a request is decided when it arrives and settled when its answer is complete.
Some hundred events are in flight at once, so that one synchronisation of the disk makes many of them durable. They are
submitted in one order, which depends on the trace alone: a settlement waits for a later window than its decision.
"""

from __future__ import annotations

import asyncio
import heapq
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count as numbers
from pathlib import Path
from typing import Any, Final, Literal

from decidable._native import Key, ManualClock, Policy, Settlement
from decidable.cli.signals import Terminated
from decidable.demo import Arrival
from decidable.engine import Engine, Ticket

__all__ = ["IN_FLIGHT", "Run", "run"]

IN_FLIGHT: Final = 256
"""How many events are in flight at once, durable or not: else the two would not be comparable."""


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
    tape = _Tape(arrivals)
    try:
        for name, initial in accounts.items():
            engine.ledger.open_account(name, initial)
        asyncio.run(_terminable(_play(engine, clock, tape, advance)))
    finally:
        head = engine.close()
    tape.done.head = head
    return tape.done


@dataclass(slots=True)
class _Settling:
    ticket: Ticket
    arrival: Arrival


async def _terminable(work: Coroutine[Any, Any, None]) -> None:
    """Being terminated cancels the work, as being interrupted does under ``asyncio.run``.

    An exception from the middle of the event loop would leave tasks behind that nobody ends.
    """
    loop, task, terminated = asyncio.get_running_loop(), asyncio.current_task(), False
    # Elsewhere than in the main thread, and on Windows, an event loop has no signals.
    hears = sys.platform != "win32" and threading.current_thread() is threading.main_thread()

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        if task is not None:
            task.cancel()

    chosen = signal.getsignal(signal.SIGTERM)
    if hears:
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        await work
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
    finally:
        if hears and loop.remove_signal_handler(signal.SIGTERM):
            signal.signal(signal.SIGTERM, chosen)


async def _play(engine: Engine, clock: ManualClock, tape: _Tape, advance: Callable[[int], None]) -> None:
    """Some hundred events at a time."""
    begun = time.perf_counter_ns()
    while window := tape.window(IN_FLIGHT):
        answers = await asyncio.gather(*(_step(engine, clock, at, event) for at, event in window))
        for (at, event), answer in zip(window, answers, strict=True):
            tape.note(at, event, answer)
        advance(len(window))
    tape.done.elapsed_ns = time.perf_counter_ns() - begun


class _Tape:
    """What comes next by simulated time, and what has happened so far."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self.done = Run()
        self._arrivals = arrivals
        self._place = 0
        self._due: list[tuple[int, int, _Settling]] = []
        self._order = numbers()

    def window(self, most: int) -> list[tuple[int, Arrival | _Settling]]:
        """The next events; a settlement whose decision is in this window comes in a later one."""
        window: list[tuple[int, Arrival | _Settling]] = []
        arrivals, due = self._arrivals, self._due
        while len(window) < most and (self._place < len(arrivals) or due):
            if due and (self._place == len(arrivals) or due[0][0] <= arrivals[self._place].arrival_ns):
                at, _, settling = heapq.heappop(due)
                window.append((at, settling))
            else:
                window.append((arrivals[self._place].arrival_ns, arrivals[self._place]))
                self._place += 1
        return window

    def note(self, at: int, event: Arrival | _Settling, answer: Ticket | Settlement) -> None:
        """Counts an event, and puts the settlement of a decision where it is due."""
        done = self.done
        if isinstance(answer, Settlement):
            done.settled += 1
            done.spent_microunits += answer.charged_microunits
            done.debt_microunits += answer.debt_microunits
            return
        assert not isinstance(event, _Settling)
        done.decided += 1
        decision = answer.decision
        if answer.refusal is not None:
            _refused(done, event, answer.refusal)
        elif decision is not None and decision.selected_model_id is not None:
            done.chosen[decision.selected_model_id] += 1
            done.substituted += decision.action.label == "substitute"
            done.admitted.append((event.request, event.output_tokens))
            heapq.heappush(self._due, (at + event.latency_ms * 10**6, next(self._order), _Settling(answer, event)))


async def _step(engine: Engine, clock: ManualClock, at: int, event: Arrival | _Settling) -> Ticket | Settlement:
    """One event. Everything up to the wait for the disk happens before the next event of the window begins."""
    clock.advance_to(max(at, clock.time_ns))
    if isinstance(event, _Settling):
        return await event.ticket.asettle(**_usage(event.arrival))
    ticket = await engine.adecide(event.request, account=event.account)
    if ticket.refusal is None:
        ticket.dispatch()
    return ticket


def _usage(arrival: Arrival) -> dict[str, int]:
    return {
        "input_tokens": arrival.request.input_tokens,
        "output_tokens": arrival.output_tokens,
        "latency_ms": arrival.latency_ms,
    }


def _refused(done: Run, event: Arrival, refusal: str) -> None:
    done.refusals[refusal] += 1
    done.refused_by_account.setdefault(event.account, Counter())[refusal] += 1
    if refusal in ("insufficient", "over_cap"):
        done.first_denial_ns.setdefault(event.account, event.arrival_ns)
