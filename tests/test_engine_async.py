"""Coroutines over one log: many at once, cancelled, in several loops; and a disk that makes everyone wait.

What must not depend on the disk is tried on one that stands still: in another process, where a preloaded library holds
every sync back until a file is removed. Nothing there is a matter of speed; a test that hangs has failed.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pytest

import decidable as dc
import ground
from decidable.engine import _resolve, _Waiter
from ground import CHEAP_COST, figures, request

PATIENCE = 60
"""Seconds after which something hangs: far beyond what anything here takes."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def engine(path: Path) -> Iterator[dc.Engine]:
    """An engine with a rich account; whatever the test did, the model follows its log."""
    with ground.funded(path, 10**12) as engine:
        yield engine
    report = dc.verify(path, policies=[ground.POLICY])
    books = ground.follow(dc.read(path))
    ground.assert_same(books, report.balances)


async def patiently(awaitable: asyncio.Future[None] | object) -> object:
    return await asyncio.wait_for(awaitable, PATIENCE)  # type: ignore[arg-type]


# --- many at once -----------------------------------------------------------------------------------------------------


def test_two_thousand_decide_and_settle_at_once(engine: dc.Engine, path: Path) -> None:
    """Each has its own ticket, in the order of asking; everything is durable and exact."""

    async def main() -> list[dc.Ticket]:
        tickets = await asyncio.gather(*(engine.adecide(request(), account="acme") for _ in range(2_000)))
        assert engine.ledger.balance("acme").reserved == 2_000 * CHEAP_COST
        await asyncio.gather(*(ticket.asettle(cost_microunits=ticket.id) for ticket in tickets))
        return tickets

    tickets = asyncio.run(main())
    assert [ticket.id for ticket in tickets] == list(range(1, 2_001))
    assert all(ticket.durable_ns for ticket in tickets)
    assert engine.ledger.balance("acme").committed == sum(range(2_001))
    assert engine.head()["seq"] == 3 + 4_000
    assert len({record.seq for record in dc.read(path, kind="settlement")}) == 2_000


def test_a_coroutine_uses_the_same_tickets(engine: dc.Engine) -> None:
    """`async with` dispatches; leaving without a settlement leaves it in doubt; keys and refusals are as elsewhere."""

    async def main() -> None:
        async with await engine.adecide(request(), account="acme", key="k", metadata="m") as ticket:
            assert ticket.state == "dispatched"
        assert ticket.state == "in_doubt"
        again = await engine.adecide(request(), account="acme", key="k")
        assert (again.id, again.replayed, again.durable_ns) == (ticket.id, True, None)
        settlement = await again.asettle(cost_microunits=5)
        assert await again.asettle(cost_microunits=5) == settlement
        refused = await engine.adecide(request(None), account="acme")
        assert refused.refusal == "quality_constraint"
        with pytest.raises(dc.Refused, match="quality_constraint"):
            async with refused:
                raise AssertionError("the body of a refused ticket ran")
        assert refused.state == "refused"
        held = await engine.adecide(request(), account="acme")
        await held.acancel()
        await held.acancel()
        with pytest.raises(dc.UnknownName):
            await engine.adecide(request(), account="nobody")
        with pytest.raises(dc.Conflict):
            await engine.adecide(request(ground.DEAR), account="acme", key="k")

    asyncio.run(main())
    assert figures(engine.ledger.balance("acme")) == (10**12, 10**12 - 5, 0, 5, 0, None)


def test_a_loop_after_another_on_one_engine(engine: dc.Engine) -> None:
    """asyncio.run again and again: nothing of a closed loop stays behind."""

    async def step() -> int:
        ticket = await engine.adecide(request(), account="acme")
        await ticket.asettle(cost_microunits=1)
        return ticket.id

    assert [asyncio.run(step()) for _ in range(50)] == list(range(1, 51))
    assert not engine._waker._waiting


def test_two_loops_in_two_threads_and_threads_beside_them(engine: dc.Engine) -> None:
    """Each waiter is woken in its own loop."""

    async def many(count: int) -> None:
        for _ in range(10):
            tickets = await asyncio.gather(*(engine.adecide(request(), account="acme") for _ in range(count)))
            await asyncio.gather(*(ticket.asettle(cost_microunits=1) for ticket in tickets))

    def plain() -> None:
        for _ in range(50):
            engine.decide(request(), account="acme").settle(cost_microunits=1)

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(asyncio.run, many(20)), pool.submit(asyncio.run, many(30))]
        work += [pool.submit(plain), pool.submit(plain)]
        for done in work:
            done.result(PATIENCE)
    assert engine.ledger.balance("acme").committed == 10 * 50 + 100


def test_waiters_that_are_cancelled_at_random_leave_no_money_behind(engine: dc.Engine, path: Path) -> None:
    """Whoever was cancelled while waiting holds nothing; whoever got a ticket holds what it says."""
    choose = Random(5)

    async def main() -> int:
        held = 0
        for _ in range(20):
            tasks = [asyncio.create_task(engine.adecide(request(), account="acme")) for _ in range(50)]
            await asyncio.sleep(choose.choice((0, 0, 0.0005, 0.002)))
            for task in choose.sample(tasks, 25):
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            tickets = [answer for answer in answers if isinstance(answer, dc.Ticket)]
            assert all(isinstance(answer, dc.Ticket | asyncio.CancelledError) for answer in answers)
            assert all(ticket.state == "held" for ticket in tickets)
            held += len(tickets)
            assert engine.ledger.balance("acme").reserved == held * CHEAP_COST
        return held

    held = asyncio.run(main())
    assert 0 < held < 1_000
    engine.close()
    assert len(dc.verify(path).open_tickets) == held


def test_a_decision_that_was_given_up_frees_its_key(engine: dc.Engine) -> None:
    """Whoever tries again with the same key after a time-out is decided anew, or gets the ticket that is there."""

    async def main() -> None:
        for attempt in range(30):
            task = asyncio.create_task(engine.adecide(request(), account="acme", key=f"k-{attempt}"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            ticket = await engine.adecide(request(), account="acme", key=f"k-{attempt}")
            assert ticket.state == "held"
            async with ticket:
                await ticket.asettle(cost_microunits=1)

    asyncio.run(main())
    assert figures(engine.ledger.balance("acme")) == (10**12, 10**12 - 30, 0, 30, 0, None)


def test_whoever_is_cancelled_beside_others_with_the_same_key_takes_nothing_from_them(engine: dc.Engine) -> None:
    """Of several with one key any may be cancelled: the ticket stays as long as one of them has it, and no longer."""
    choose = Random(7)

    async def main() -> int:
        held = 0
        for attempt in range(60):
            key = f"k-{attempt}"
            tasks = [asyncio.create_task(engine.adecide(request(), account="acme", key=key)) for _ in range(8)]
            given_up = choose.sample(tasks, choose.choice((1, 4, 7, 8)))
            for task in given_up:
                # Some before their first step, some while they wait, some when they have ended.
                await asyncio.sleep(choose.choice((0, 0, 0, 0.001)))
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            tickets = [answer for answer in answers if isinstance(answer, dc.Ticket)]
            assert len(tickets) >= len(tasks) - len(given_up)
            assert len({ticket.id for ticket in tickets}) <= 1
            assert {ticket.state for ticket in tickets} <= {"held"}
            held += bool(tickets)
            assert engine.ledger.balance("acme").reserved == held * CHEAP_COST
            again = await engine.adecide(request(), account="acme", key=key)
            assert again.replayed is bool(tickets)
            held += not tickets
        return held

    assert asyncio.run(main()) == len(engine.open_tickets()) == 60


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a timer")
def test_an_interrupt_that_comes_while_it_is_decided_releases_the_hold(engine: dc.Engine) -> None:
    """The answer is lost before Python has it, so nobody but the extension can give it back."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # No step of the interpreter lies between these calls, so that the signal is heard by the last of them alone.
    calls = [
        functools.partial(signal.setitimer, signal.ITIMER_REAL, 1e-6),
        functools.partial(sum, range(1_000_000)),
        functools.partial(engine._native.submit, request(), account="acme", key="k"),
    ]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(map(operator.call, calls))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert engine.ticket(1).state == "cancelled"
    assert engine.ledger.balance("acme").reserved == 0
    assert not engine.decide(request(), account="acme", key="k").replayed


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), MemoryError(), dc.LogUnavailable("wal.closed", "closed")])
def test_what_ends_a_giving_up_is_told_unless_the_log_takes_nothing(engine: dc.Engine, fault: BaseException) -> None:
    """An interrupt that comes as a hold is released is not lost; a log that takes nothing is no news to who gave up."""

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(native, name)

        def disown(self, number: int) -> None:
            native.disown(number)
            raise fault

    async def main() -> BaseException | None:
        asking = asyncio.ensure_future(engine.adecide(request(), account="acme"))
        await asyncio.sleep(0)
        # Not by `cancel`: an interrupt that comes out of a task ends its loop.
        waiting = next(iter(engine._waker._waiting.values()))[0].future
        waiting.set_exception(EOFError())
        return (await asyncio.gather(asking, return_exceptions=True))[0]

    native = engine._native
    engine._native = Failing()  # type: ignore[assignment]
    told: BaseException | None
    try:
        told = asyncio.run(main())
    except KeyboardInterrupt as interrupt:
        told = interrupt
    engine._native = native
    assert type(told) is (EOFError if isinstance(fault, dc.LogUnavailable) else type(fault))


def test_what_was_asked_of_a_ticket_stands_whoever_is_cancelled(engine: dc.Engine) -> None:
    """A settlement or cancellation before its first step is none; after it, it is as if it had been waited for."""
    choose = Random(8)

    async def main() -> int:
        charged = 0
        for attempt in range(200):
            ticket = await engine.adecide(request(), account="acme")
            settles, begun = choose.random() < 0.5, choose.random() < 0.8
            asking = asyncio.create_task(ticket.asettle(cost_microunits=3) if settles else ticket.acancel())
            if begun:
                await asyncio.sleep(choose.choice((0, 0, 0.001)))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            expected = ("settled" if settles else "cancelled") if begun else "held"
            assert ticket.state == expected, attempt
            if not begun:
                await ticket.acancel()
            charged += 3 * (expected == "settled")
        return charged

    assert asyncio.run(main()) == engine.ledger.balance("acme").committed
    assert engine.ledger.balance("acme").reserved == 0
    assert engine.open_tickets() == []


def test_where_no_thread_can_be_started_the_next_coroutine_tries_again(
    engine: dc.Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needed it is told and holds nothing; a settlement stays; nobody after them hangs."""
    start, failures = threading.Thread.start, [2]

    def fragile(thread: threading.Thread) -> None:
        if failures[0] and thread.name == "decidable-waker":
            failures[0] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main() -> None:
        held = engine.decide(request(), account="acme")
        monkeypatch.setattr(threading.Thread, "start", fragile)
        with pytest.raises(dc.LogUnavailable) as caught:
            await patiently(engine.adecide(request(), account="acme", key="k"))
        assert caught.value.code == "engine.no_thread"
        assert engine.ledger.balance("acme").reserved == CHEAP_COST
        with pytest.raises(dc.LogUnavailable):
            await patiently(held.asettle(cost_microunits=3))
        assert held.state == "settled"
        await patiently(held.asettle(cost_microunits=3))
        ticket = await asyncio.wait_for(engine.adecide(request(), account="acme", key="k"), PATIENCE)
        assert not ticket.replayed
        await patiently(ticket.asettle(cost_microunits=4))

    asyncio.run(main())
    assert failures == [0]
    assert figures(engine.ledger.balance("acme")) == (10**12, 10**12 - 7, 0, 7, 0, None)


# --- a large catalog --------------------------------------------------------------------------------------------------


class Watched:
    """The native engine, with a look at who submits."""

    def __init__(self, engine: dc.Engine, submitting: Callable[[], None]) -> None:
        self._native, self._submitting = engine._native, submitting

    def submit(self, *arguments: Any, **options: Any) -> Any:
        self._submitting()
        return self._native.submit(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)


def large(candidates: int) -> dc.Policy:
    """Equal candidates at a microunit a token."""
    models = [
        dc.Model(
            model_id=number,
            quality_bps=5_000,
            input_cost_microunits_per_million_tokens=1_000_000,
            output_cost_microunits_per_million_tokens=1_000_000,
        )
        for number in range(1, candidates + 1)
    ]
    return dc.Policy(dc.Catalog(models), objective="cheapest")


@pytest.fixture(scope="module")
def largest() -> dc.Policy:
    return large(65_535)


def test_the_event_loop_goes_on_while_a_large_catalog_decides(path: Path, largest: dc.Policy) -> None:
    """The decision is made in another thread: it ends only after the loop has run something else meanwhile."""
    went_on, threads = threading.Event(), []

    def submitting() -> None:
        threads.append(threading.get_ident())
        assert went_on.wait(PATIENCE)

    asked = dc.Request(input_tokens=0, output_tokens=1, business_value_microunits=9)

    async def main(engine: dc.Engine) -> None:
        asking = asyncio.create_task(engine.adecide(asked, account="acme", key="k"))
        asking.get_loop().call_later(0.01, went_on.set)
        ticket = await patiently(asking)
        assert isinstance(ticket, dc.Ticket)
        assert ticket.decision == largest.decide(ticket.request)
        assert (await engine.adecide(asked, account="acme", key="k")).replayed
        with pytest.raises(dc.UnknownName):
            await engine.adecide(asked, account="nobody")

    with ground.opened(path, policy=largest) as engine:
        engine.ledger.open_account("acme", 10)
        engine._native = Watched(engine, submitting)  # type: ignore[assignment]
        asyncio.run(main(engine))
    assert len(threads) == 3
    assert threading.get_ident() not in threads
    dc.verify(path)


def test_a_small_catalog_is_decided_by_the_loop_itself(engine: dc.Engine) -> None:
    """A change of threads would take longer than the decision; many quotes take as long as many candidates."""
    threads: list[int] = []
    native = engine._native
    engine._native = Watched(engine, lambda: threads.append(threading.get_ident()))  # type: ignore[assignment]

    async def main() -> None:
        await engine.adecide(request(), account="acme")
        await engine.adecide(request(quotes=dict.fromkeys(range(10, 2000), 1)), account="acme")

    asyncio.run(main())
    engine._native = native
    assert (threads[0] == threading.get_ident(), threads[1] == threading.get_ident()) == (True, False)


@pytest.mark.parametrize("moment", ["before", "meanwhile", "after"])
def test_a_large_decision_that_was_given_up_holds_nothing(path: Path, moment: str) -> None:
    """Cancelled before its thread began, while it decides, or when it had decided: hold and key are free."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def submitting() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    async def main(engine: dc.Engine) -> None:
        loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(1)
        loop.set_default_executor(pool)
        asked = dc.Request(input_tokens=0, output_tokens=1, business_value_microunits=9)
        busy = threading.Event()
        if moment == "before":
            pool.submit(busy.wait, PATIENCE)
        asking = asyncio.create_task(engine.adecide(asked, account="acme", key="k"))
        await asyncio.sleep(0)
        if moment != "before":
            while not begun.is_set():
                await asyncio.sleep(0.001)
        if moment == "after":
            go_on.set()
            pool.submit(ended.set)
            # The loop is kept from hearing of it.
            assert ended.wait(PATIENCE)
            assert engine.ledger.balance("acme").reserved > 0
        asking.cancel()
        go_on.set()
        busy.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await loop.run_in_executor(None, int)
        assert engine.open_tickets() == []
        assert engine.ledger.balance("acme").reserved == 0
        ticket = await engine.adecide(asked, account="acme", key="k")
        assert (ticket.replayed, ticket.state) == (False, "held")

    with ground.opened(path, policy=large(2_000)) as engine:
        engine.ledger.open_account("acme", 10)
        native = engine._native
        engine._native = Watched(engine, submitting)  # type: ignore[assignment]
        asyncio.run(main(engine))
        engine._native = native
    dc.verify(path)


# --- closing ----------------------------------------------------------------------------------------------------------


def test_an_engine_that_nobody_closed_is_freed_after_its_waiters(path: Path) -> None:
    """The thread that wakes coroutines does not keep an engine alive that its owner has dropped."""
    engine = ground.funded(path)
    asyncio.run(engine.adecide(request(), account="acme"))
    thread = engine._waker._thread
    del engine
    gc.collect()
    if thread is not None:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    gc.collect()
    ground.opened(path).close()


def test_closing_answers_everyone_who_waits(path: Path) -> None:
    """From another thread, at any moment: whoever waits gets a durable ticket or a typed error, and nobody hangs."""
    codes: list[str] = []
    for attempt, wanted in enumerate((0, 1, 2, 20, 70, 150) * 3):
        engine = ground.funded(path / str(attempt))
        answered: list[int] = []

        async def main(
            engine: dc.Engine = engine, wanted: int = wanted, answered: list[int] = answered
        ) -> list[str | None]:
            closing = threading.Thread(target=engine.close)

            async def some() -> str | None:
                for _ in range(10):
                    try:
                        ticket = await engine.adecide(request(), account="acme")
                        await ticket.asettle(cost_microunits=1)
                    except dc.LogUnavailable as error:
                        return error.code
                    answered.append(ticket.id)
                    if len(answered) == wanted:
                        closing.start()
                return None

            if wanted == 0:
                closing.start()
            ends = await asyncio.wait_for(asyncio.gather(*(some() for _ in range(20))), PATIENCE)
            await asyncio.to_thread(closing.join)
            with pytest.raises(dc.LogUnavailable):
                await engine.adecide(request(), account="acme")
            return ends

        codes += [end for end in asyncio.run(main()) if end is not None]
        assert len(answered) >= wanted
        records = list(dc.read(path / str(attempt)))
        ground.follow(records)
        settled = {record.request_sequence for record in records if record.kind == "settlement"}
        assert settled >= set(answered)
    assert set(codes) == {"wal.closed"}


def test_a_waiter_on_a_closed_engine_is_told(path: Path) -> None:
    """Also one that asks for what was never durable, and also the second time."""
    engine = ground.funded(path)
    ticket = engine.decide(request(), account="acme")
    engine.close()

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(dc.LogUnavailable):
                await patiently(engine._durable(10**9))
            await patiently(engine._durable(ticket.seq))

    asyncio.run(main())


# --- a disk that stands still -----------------------------------------------------------------------------------------


class Stalling(Protocol):
    def __call__(self, script: str, *, expect: int = 0) -> str: ...


@pytest.fixture(scope="session")
def stalling_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.preloaded("stall", tmp_path_factory.mktemp("stall"))


PRELUDE = """
import asyncio, os, signal, sys, threading, time
from pathlib import Path
import decidable as dc, ground
from ground import request

PATIENCE = 60
path, stall = Path(sys.argv[1]), Path(os.environ["STALL"])
engine = ground.funded(path, 10**12)

def hold():
    stall.touch()

def let_go():
    stall.unlink()

async def patiently(awaitable):
    return await asyncio.wait_for(awaitable, PATIENCE)

hold()
"""


@pytest.fixture
def stalling(stalling_library: Path, path: Path, tmp_path: Path) -> Stalling:
    """Runs a script whose disk stands still until it says `let_go()`; returns what it printed."""

    def run(script: str, *, expect: int = 0) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "LD_PRELOAD": str(stalling_library),
            "STALL": str(tmp_path / "stall"),
        }
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + script, str(path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        (tmp_path / "stall").unlink(missing_ok=True)
        assert done.returncode == expect, done.stderr
        assert expect != 0 or done.stderr == "", done.stderr
        ground.follow(dc.read(path))
        return done.stdout

    return run


def test_the_event_loop_goes_on_while_the_disk_stands_still(stalling: Stalling) -> None:
    """2,000 decisions wait; a heartbeat beats 200 times meanwhile. Then all are answered."""
    out = stalling(
        """
async def main():
    waiting = [asyncio.create_task(engine.adecide(request(), account="acme")) for _ in range(2_000)]
    beats = 0
    while beats < 200:
        await asyncio.sleep(0.005)
        beats += 1
    assert not any(task.done() for task in waiting)
    # Whoever asks for books, or for a decision that nobody waits for, is answered at once.
    assert engine.ledger.balance("acme").reserved == 2_000 * ground.CHEAP_COST
    # There is nothing to act on yet.
    assert engine.open_tickets() == []
    let_go()
    tickets = await patiently(asyncio.gather(*waiting))
    assert len(engine.open_tickets()) == 2_000
    print(len(tickets), beats)

asyncio.run(main())
engine.close()
"""
    )
    assert out.split() == ["2000", "200"]


def test_giving_up_a_waiting_decision_releases_its_hold(stalling: Stalling) -> None:
    """By cancellation or by a time-out; and a repeated key is decided anew."""
    out = stalling(
        """
async def main():
    first = asyncio.create_task(engine.adecide(request(), account="acme", key="k"))
    await asyncio.sleep(0.01)
    first.cancel()
    try:
        await first
    except asyncio.CancelledError:
        print("cancelled", engine.ledger.balance("acme").reserved)
    try:
        await asyncio.wait_for(engine.adecide(request(), account="acme"), 0.01)
    except TimeoutError:
        print("timed out", engine.ledger.balance("acme").reserved)
    second = asyncio.create_task(engine.adecide(request(), account="acme", key="k"))
    repeated = asyncio.create_task(engine.adecide(request(), account="acme", key="k"))
    await asyncio.sleep(0.01)
    assert not second.done() and not repeated.done()
    let_go()
    tickets = await patiently(asyncio.gather(second, repeated))
    print([(ticket.id, ticket.replayed) for ticket in tickets])

asyncio.run(main())
engine.close()
print([ticket["request_sequence"] for ticket in dc.verify(path).open_tickets])
"""
    )
    assert out.splitlines() == ["cancelled 0", "timed out 0", "[(3, False), (3, True)]", "[3]"]


def test_giving_up_releases_every_hold_also_when_the_logs_queue_is_full(stalling: Stalling) -> None:
    """Filled to the last byte the queue still takes the cancellations, each with its record."""
    out = stalling(
        """
async def main():
    tasks = []
    for metadata in ["x" * (1 << 20), None]:
        while not (tasks and tasks[-1].done()):
            asked = engine.adecide(request(), account="acme", key=f"k{len(tasks)}", metadata=metadata)
            tasks.append(asyncio.create_task(asked))
            await asyncio.sleep(0)
        print(tasks.pop().exception().code)
    assert len(tasks) > 60 and engine.ledger.balance("acme").reserved == len(tasks) * ground.CHEAP_COST
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    print(engine.ledger.balance("acme").reserved, len(engine.open_tickets()))
    let_go()
    while True:
        try:
            ticket = await patiently(engine.adecide(request(), account="acme", key="k0"))
            break
        except dc.LogUnavailable as error:
            assert error.code == "wal.overloaded"
            await asyncio.sleep(0.01)
    print(ticket.id == len(tasks) + 1, ticket.replayed)

asyncio.run(main())
engine.close()
print(len(dc.verify(path).open_tickets))
"""
    )
    assert out.splitlines() == ["wal.overloaded", "wal.overloaded", "0 0", "True False", "1"]


def test_a_settlement_that_nobody_waits_for_any_more_is_written(stalling: Stalling) -> None:
    """The money is spent: giving up the waiting does not undo it."""
    out = stalling(
        """
async def main():
    let_go()
    ticket = await engine.adecide(request(), account="acme")
    hold()
    async with ticket:
        settling = asyncio.create_task(ticket.asettle(cost_microunits=7))
        await asyncio.sleep(0.01)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
    print(engine.ticket(ticket.id).state)
    let_go()

asyncio.run(main())
engine.close()
"""
    )
    assert out.split() == ["settled"]


def test_a_tickets_state_is_the_engines_whatever_became_of_the_waiting(stalling: Stalling, path: Path) -> None:
    """Cancelled or interrupted in the middle: ticket, engine and the log when it is opened again say the same."""
    out = stalling(
        """
def interrupt_when(reached):
    def run():
        while not reached(engine.ledger.balance("acme")):
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)
    threading.Thread(target=run).start()

async def given_up(waiting):
    task = asyncio.create_task(waiting)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

tickets = []
async def cancelled():
    let_go()
    for _ in range(3):
        tickets.append(await engine.adecide(request(), account="acme"))
    hold()
    settled, released, left = tickets
    async with settled:
        await given_up(settled.asettle(cost_microunits=7))
    await given_up(released.acancel())
    async with left:
        pass
asyncio.run(cancelled())

let_go()
ticket = engine.decide(request(), account="acme")
tickets.append(ticket)
hold()
interrupt_when(lambda balance: balance.committed >= 12)
try:
    with ticket:
        ticket.settle(cost_microunits=5)
except KeyboardInterrupt:
    print("interrupted")
for ticket in tickets:
    assert ticket.state == engine.ticket(ticket.id).state, ticket
    assert ticket.state in repr(ticket)
    print(ticket.state)
let_go()
engine.close()
"""
    )
    states = ["settled", "cancelled", "in_doubt", "settled"]
    assert out.split() == ["interrupted", *states]
    with ground.opened(path) as again:
        assert [again.ticket(number).state for number in (1, 2, 3, 4)] == states


def test_threads_run_while_others_wait_for_the_disk(stalling: Stalling) -> None:
    """The GIL is free during a wait: another thread counts on, decides, and looks into the books."""
    stalling(
        """
started = threading.Event()
def wait():
    started.set()
    engine.decide(request(), account="acme")
waiters = [threading.Thread(target=wait) for _ in range(8)]
for waiter in waiters:
    waiter.start()
started.wait(PATIENCE)
count = 0
while engine.ledger.balance("acme").reserved < 8 * ground.CHEAP_COST or count < 10_000:
    count += 1
assert all(waiter.is_alive() for waiter in waiters)
let_go()
for waiter in waiters:
    waiter.join(PATIENCE)
engine.close()
"""
    )


def test_threads_run_while_an_engine_is_closed(stalling: Stalling) -> None:
    """Whoever asks the engine anything meanwhile waits for the disk with the closing; the others run on."""
    stalling(
        """
native = engine._native
number = native.submit(request(), account="acme").number
closing = threading.Thread(target=engine.close)
closing.start()
time.sleep(0.2)
asks = [
    lambda: engine.policy, engine.head, engine.open_tickets, engine.ledger.accounts, lambda: engine.ticket(number),
    lambda: native.dispatch(number), lambda: native.leave(number), lambda: native.disown(number),
]
def ask(question):
    try:
        question()
    except dc.DecidableError:
        pass
asking = [threading.Thread(target=ask, args=[question]) for question in asks]
for thread in asking:
    thread.start()
time.sleep(0.2)
let_go()
for thread in [closing, *asking]:
    thread.join(PATIENCE)
    assert not thread.is_alive()
"""
    )


def test_threads_run_while_an_engine_that_nobody_closed_goes(stalling: Stalling) -> None:
    """Its last records wait for the disk, and only the thread that let go of it waits with them."""
    out = stalling(
        """
engine._native.submit(request(), account="acme")
def drop():
    global engine
    del engine
dropping = threading.Thread(target=drop)
dropping.start()
time.sleep(0.2)
print(dropping.is_alive())
let_go()
dropping.join(PATIENCE)
with ground.opened(path) as engine:
    print([ticket.id for ticket in engine.open_tickets()])
"""
    )
    assert out.splitlines() == ["True", "[1]"]


def test_an_account_that_another_is_opening_is_there_when_its_record_is_durable(stalling: Stalling) -> None:
    """With `exist_ok` nobody is told of an account that a crash could still take away."""
    out = stalling(
        """
def open_account():
    engine.ledger.open_account("beta", 500, exist_ok=True)
first = threading.Thread(target=open_account)
first.start()
while "beta" not in engine.ledger:
    time.sleep(0.001)
second = threading.Thread(target=open_account)
second.start()
second.join(0.2)
print(second.is_alive())
let_go()
for thread in (first, second):
    thread.join(PATIENCE)
print(engine.ledger.balance("beta").remaining)
engine.close()
"""
    )
    assert out.split() == ["True", "500"]


def test_an_interpreter_that_ends_waits_for_what_was_asked(stalling: Stalling, path: Path) -> None:
    """Also with an engine that nobody closed, on a disk that stands still, and with threads that wait for it."""
    stalling(
        """
import subprocess
threading.Thread(target=engine.decide, args=[request()], kwargs={"account": "acme"}, daemon=True).start()
while not engine.ledger.balance("acme").reserved:
    time.sleep(0.001)
subprocess.Popen(["sh", "-c", 'sleep 0.3; rm "$1"', "sh", stall], env={})
"""
    )
    assert [record.request_sequence for record in dc.read(path, kind="decision")] == [1]


def test_an_interrupt_ends_a_wait_and_releases_the_hold(stalling: Stalling) -> None:
    """Control-C while the disk stands still: KeyboardInterrupt, and nobody holds money for an answer not received."""
    out = stalling(
        """
def interrupt_when(reached):
    def run():
        while not reached(engine.ledger.balance("acme")):
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)
    threading.Thread(target=run).start()

interrupt_when(lambda balance: balance.reserved > 0)
try:
    engine.decide(request(), account="acme", key="k")
except KeyboardInterrupt:
    print("interrupted", engine.ledger.balance("acme").reserved, stall.exists())
let_go()
ticket = engine.decide(request(), account="acme", key="k")
print(ticket.id, ticket.replayed)
hold()
interrupt_when(lambda balance: balance.committed > 0)
try:
    ticket.settle(cost_microunits=5)
except KeyboardInterrupt:
    print("interrupted", engine.ticket(ticket.id).state)
let_go()
engine.close()
"""
    )
    assert out.splitlines() == ["interrupted 0 True", "2 False", "interrupted settled"]


def test_an_interrupt_ends_the_waiting_of_an_erasure_which_goes_on(stalling: Stalling, path: Path) -> None:
    """The name is free once its bytes are gone from the disk, although nobody waits for that any more."""
    out = stalling(
        """
(account,) = dc.read(path, kind="account")
size = ground.segment(path).stat().st_size
def interrupt():
    # What says that it goes is written, and waits for the disk.
    while ground.segment(path).stat().st_size == size:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    engine.erase([account.seq])
except KeyboardInterrupt:
    print("interrupted", [balance.account for balance in engine._native.balances()])
try:
    engine.ledger.open_account("acme", 1)
except dc.Conflict as error:
    print(error.code)
let_go()
while engine._native.balances()[0].account != "#0":
    time.sleep(0.001)
engine.ledger.open_account("acme", 5)
engine.close()
"""
    )
    assert out.splitlines() == ["interrupted ['acme']", "engine.account_exists"]
    verified = dc.verify(path)
    assert [(balance.account, balance.initial) for balance in verified.balances] == [("#0", 10**12), ("acme", 5)]
    assert [record.erased for record in dc.read(path, kind="account")] == [True, False]


def test_an_interrupt_ends_the_waiting_of_a_closing(stalling: Stalling, path: Path) -> None:
    """The engine takes nothing more, and closing again waits for what is left."""
    out = stalling(
        """
engine._native.submit(request(), account="acme")
def interrupt():
    try:
        while True:
            engine._native.submit(request(None))
            time.sleep(0.001)
    except dc.LogUnavailable as error:
        print(error.code)
    time.sleep(0.1)
    signal.raise_signal(signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    engine.close()
except KeyboardInterrupt:
    print("interrupted", stall.exists())
let_go()
head = engine.close()
assert dc.verify(path, head=head).records == head["seq"]
print(list(dc.read(path))[-1].kind)
"""
    )
    assert out.splitlines() == ["wal.closed", "interrupted True", "closed"]


def test_an_engine_without_syncs_does_not_wait_for_the_disk(stalling: Stalling) -> None:
    """`sync="none"` answers when the record is written."""
    out = stalling(
        """
let_go()
engine.close()
engine = ground.opened(path, sync="none")
hold()
for _ in range(100):
    engine.decide(request(), account="acme").settle(cost_microunits=1)
async def main():
    ticket = await patiently(engine.adecide(request(), account="acme"))
    await patiently(ticket.asettle(cost_microunits=1))
asyncio.run(main())
print(stall.exists())
let_go()
engine.close()
"""
    )
    assert out.split() == ["True"]


def test_closing_waits_for_the_disk_and_wakes_the_waiters(stalling: Stalling) -> None:
    """What was asked before is durable when the engine is closed, and its askers know."""
    out = stalling(
        """
async def main():
    waiting = [asyncio.create_task(engine.adecide(request(), account="acme")) for _ in range(20)]
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    await asyncio.sleep(0.05)
    assert not closing.done()
    let_go()
    await patiently(closing)
    print(len(await patiently(asyncio.gather(*waiting))))

asyncio.run(main())
"""
    )
    assert out.split() == ["20"]


def test_a_process_is_left_at_once_while_coroutines_wait(stalling: Stalling, path: Path) -> None:
    """os._exit is the end whatever waits; what was acknowledged before is in the log."""
    stalling(
        """
let_go()
engine.decide(request(), account="acme", key="before")
hold()
async def main():
    waiting = [asyncio.create_task(engine.adecide(request(), account="acme")) for _ in range(20)]
    await asyncio.sleep(0.05)
    os._exit(7)
asyncio.run(main())
""",
        expect=7,
    )
    with ground.opened(path) as engine:
        assert engine.decide(request(), account="acme", key="before").replayed


EXITS = """
import asyncio, sys, threading
import decidable as dc, ground

path, how = sys.argv[1:]
engine = ground.funded(path, 10**9)
print(engine.decide(ground.request(), account="acme").seq, flush=True)

async def forever():
    while True:
        ticket = await engine.adecide(ground.request(), account="acme")
        await ticket.asettle(cost_microunits=1)

async def pending():
    tasks = [asyncio.create_task(forever()) for _ in range(20)]
    await asyncio.sleep(0.1)
    return tasks

if how == "pending":
    asyncio.run(pending())
elif how == "daemon loop":
    threading.Thread(target=lambda: asyncio.run(forever()), daemon=True).start()
    asyncio.run(pending())
elif how == "loop left open":
    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(pending())
    import os
    for task in tasks:
        task._log_destroy_pending = False
"""


@pytest.mark.parametrize("how", ["pending", "daemon loop", "loop left open"])
def test_an_interpreter_exits_while_coroutines_wait(path: Path, how: str) -> None:
    """Soon, with exit code 0, and what was acknowledged is there."""
    started = time.monotonic()
    done = ground.python(EXITS, path, how, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr
    assert time.monotonic() - started < PATIENCE / 2
    assert int(done.stdout) in {record.seq for record in dc.read(path, kind="decision")}
    ground.follow(dc.read(path))
    ground.opened(path).close()


FORKED = """
import asyncio, os, signal, sys, threading
import decidable as dc, ground

engine = ground.funded(sys.argv[1])

async def use():
    try:
        await asyncio.wait_for(engine.adecide(ground.request(), account="acme"), 60)
    except dc.LogUnavailable as error:
        return error.code
    return "went on"

assert asyncio.run(use()) == "went on"
child = os.fork()
if child == 0:
    print(asyncio.run(use()), flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(asyncio.run(use()))

# A thread of the parent holds the waker's lock as the child is forked, and nobody lets go of it there.
held, forked = threading.Event(), threading.Event()
def hold():
    with engine._waker._changed:
        held.set()
        forked.wait()
holding = threading.Thread(target=hold)
holding.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    try:
        engine.close()
    except dc.LogUnavailable as error:
        print(error.code, flush=True)
    os._exit(0)
forked.set()
holding.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
engine.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_childs_coroutines_are_told(path: Path) -> None:
    """The parent's waker does not exist in the child, and nobody waits for it, or for a lock of it."""
    done = ground.python(FORKED, path)
    assert done.stdout.split() == ["engine.forked", "went", "on", "engine.forked"], done.stderr
    dc.verify(path)


class CancelledMeanwhile(asyncio.Future[None]):
    """A future that an interrupt cancels just before it is told."""

    def done(self) -> bool:
        found = super().done()
        self.cancel()
        return found

    def set_result(self, result: None) -> None:
        self.cancel()
        super().set_result(result)


def test_who_is_cancelled_while_the_news_is_told_keeps_nobody_from_it() -> None:
    """The others that wait for the same batch are told all the same."""

    async def told() -> bool:
        loop = asyncio.get_running_loop()
        futures = [CancelledMeanwhile(loop=loop), loop.create_future()]
        _resolve([_Waiter(1, future, None) for future in futures], None)
        assert futures[0].cancelled()
        return futures[1].done()

    assert asyncio.run(told())


def test_each_waiter_is_told_with_an_error_of_its_own() -> None:
    """Raised in one coroutine, the traceback of one that they share would grow in all of them."""
    error = dc.LogUnavailable("wal.closed", "the log is closed", path="log")

    async def told() -> list[BaseException | None]:
        futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
        _resolve([_Waiter(1, future, None) for future in futures], error)
        return [future.exception() for future in futures]

    errors = asyncio.run(told())
    assert len({id(each) for each in [error, *errors]}) == 4
    for each in errors:
        assert isinstance(each, dc.LogUnavailable)
        assert (each.code, each.message, each.details) == (error.code, error.message, error.details)
