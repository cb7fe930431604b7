"""What the tests of engine and log stand on: a policy, requests, accounts, and logs followed record by record."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import bridge
import decidable as dc
from model import ledger, replay

FREE, CHEAP, DEAR = 1, 2, 3
FLOORS = {FREE: 0, CHEAP: 5_000, DEAR: 9_000, None: 10_000}
CHEAP_COST = 1_400
"""What :func:`request` costs with the cheap candidate: 1,000 tokens in at 1 microunit and 100 out at 4."""

KEY = dc.Key(bytes(range(32)))


def policy(*, objective: str = "cheapest", policy_epoch: int = 1, cheap_rate: int = 1_000_000) -> dc.Policy:
    """A free, a cheap and a dear candidate; the better one costs more."""
    rates = {FREE: (2_000, 0), CHEAP: (6_000, cheap_rate), DEAR: (9_000, 50_000_000)}
    models = [
        dc.Model(
            model_id=model_id,
            quality_bps=quality,
            p95_latency_ms=100,
            input_cost_microunits_per_million_tokens=rate,
            output_cost_microunits_per_million_tokens=4 * rate,
        )
        for model_id, (quality, rate) in rates.items()
    ]
    names = dc.Names(models={FREE: "free", CHEAP: "cheap", DEAR: "dear"}) if objective != "utility" else None
    return dc.Policy(dc.Catalog(models, names=names), objective=objective, policy_epoch=policy_epoch)


POLICY = policy()
SHARED_POLICY = policy(objective="utility")
"""Without names and objective: the exchange format can hold its decisions."""


def request(model: int | None = CHEAP, **others: Any) -> dc.Request:
    """A request that the model wins; ``None`` for one that nobody wins."""
    values = {
        "input_tokens": 1_000,
        "output_tokens": 100,
        "business_value_microunits": 1_000_000,
        "minimum_quality_bps": FLOORS[model],
    }
    return dc.Request(**values | others)


def opened(path: str | os.PathLike[str], **options: Any) -> dc.Engine:
    return dc.Engine.open(path, **{"policy": POLICY} | options)


def funded(path: str | os.PathLike[str], initial: int = 1_000_000, **options: Any) -> dc.Engine:
    """An engine with an account ``acme``."""
    engine = opened(path, **options)
    engine.ledger.open_account("acme", initial)
    return engine


def segment(path: str | os.PathLike[str]) -> Path:
    """The file that has the records."""
    (found,) = Path(path).glob("*.seg")
    return found


def figures(balance: dc.Balance | ledger.Account) -> tuple[int | None, ...]:
    return tuple(getattr(balance, part) for part in ("initial", "remaining", "reserved", "committed", "debt", "cap"))


def conserved(balance: dc.Balance) -> bool:
    return (
        balance.remaining + balance.reserved + balance.committed == balance.initial
        and min(balance.remaining, balance.reserved, balance.committed, balance.debt) >= 0
        and (balance.debt == 0 or balance.remaining == 0)
    )


# --- a log followed by the model --------------------------------------------------------------------------------------


def follow(records: Iterable[dc.Record]) -> replay.Books:
    """Performs what the records say on the model's books, and holds every answer in them against the model's."""
    books = replay.Books()
    for record in records:
        _follow(books, record)
    return books


def _follow(books: replay.Books, record: dc.Record) -> None:
    match record.kind:
        case "policy":
            assert record.policy_number == books.install(bridge.model_policy(record.policy))
            assert bytes.fromhex(record.digest) == books.policies[-1].digest()
        case "account":
            assert record.account_number == books.open_account(record.initial_microunits)
            assert figures(record.balance) == figures(books.balance(record.account_number))
        case "top_up":
            books.top_up(record.account_number, record.amount_microunits)
            assert figures(record.balance) == figures(books.balance(record.account_number))
        case "cap":
            books.set_cap(record.account_number, record.cap_microunits)
            assert figures(record.balance) == figures(books.balance(record.account_number))
        case "decision":
            request = bridge.model_request(record.request)
            decided = books.decide(request, record.policy_number, record.account_number)
            assert decided is not None, f"record {record.seq}: the safety ceiling refuses this"
            assert bridge.as_decision(record.decision) == decided.decision
            assert record.identity == decided.identity
            assert (record.outcome, record.hold_microunits, record.denial) == (
                decided.outcome,
                decided.hold_microunits,
                decided.denial,
            )
            if record.balance is not None:
                assert figures(record.balance) == figures(books.balance(record.account_number))
        case "refusal":
            request = bridge.model_request(record.request)
            decided = books.decide(request, 0, record.account_number)
            assert decided is None, f"record {record.seq}: no ceiling refuses this"
        case "settlement":
            number = record.request_sequence
            answer = books.settle(number, record.cost_microunits, record.input_tokens, record.output_tokens)
            assert answer == (record.charged_microunits, record.returned_microunits, record.debt_microunits)
            _balance_after(books, record)
        case "cancellation":
            books.cancel(record.request_sequence)
            _balance_after(books, record)
        case "outcome":
            answer = books.observe(
                record.request_sequence,
                record.observed_at_micros,
                "".join(part.title() for part in record.disposition.split("_")),
                record.realized_cost_microunits,
                record.realized_latency_ms,
                record.succeeded,
            )
            assert answer == (record.revision, bytes.fromhex(record.digest))
        case "audit":
            books.audit(record.request_sequence)
            assert len(record.audit_hash) == 32
        case "opened" | "recovered" | "erased" | "closed":
            pass
        case unknown:
            raise AssertionError(f"record {record.seq} is of kind {unknown}")


def _balance_after(books: replay.Books, record: dc.Record) -> None:
    ticket = books.tickets[record.request_sequence]
    assert (record.balance is None) == (ticket.hold is None)
    if record.balance is not None:
        assert ticket.account is not None
        assert figures(record.balance) == figures(books.balance(ticket.account))


def assert_same(books: replay.Books, balances: Iterable[dc.Balance]) -> None:
    """The library's balances are the model's."""
    found = [figures(balance) for balance in balances]
    assert found == [figures(account) for account in books.ledger.accounts.values()]


# --- threads and other processes --------------------------------------------------------------------------------------


def run_threads(count: int, work: Callable[[int], object], together: threading.Barrier | None = None) -> None:
    """Runs the work in so many threads that begin at once and take turns as often as they can; what fails in one fails
    the test. ``together`` is where they meet: it is broken when one of them fails, so that the others do not wait."""
    start, interval = threading.Barrier(count), sys.getswitchinterval()

    def started(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException:
            if together is not None:
                together.abort()
            raise

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(count) as pool:
            running = [pool.submit(started, number) for number in range(count)]
    finally:
        sys.setswitchinterval(interval)
    failures = [failure for failure in (done.exception() for done in running) if failure is not None]
    # A broken barrier only says that another thread failed.
    for failure in sorted(failures, key=lambda failure: isinstance(failure, threading.BrokenBarrierError)):
        raise failure


def python(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a script in another interpreter that sees the same packages."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**(options.pop("env", None) or os.environ), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **{"capture_output": True, "text": True, "timeout": 120} | options,
    )


def preloaded(name: str, folder: Path) -> Path:
    """A library of tests/faults, made in the folder; the test is skipped, visibly, where it cannot be."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library, source = folder / f"{name}.so", Path(__file__).parent / "faults" / f"{name}.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library
