"""Accounts from Python: exact under sixteen threads, as the vectors say, and as the model says when money runs out."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

import decidable as dc
import ground
from model import ledger as model
from model import vectors
from model.random_cases import Cases, seeds

PARTS = ("initial", "remaining", "reserved", "committed", "debt", "cap")


def parts(balance: dc.Balance | model.Account) -> dict[str, Any]:
    return {part: getattr(balance, part) for part in PARTS}


def conserved(balance: dc.Balance) -> bool:
    return (
        balance.remaining + balance.reserved + balance.committed == balance.initial
        and min(balance.remaining, balance.reserved, balance.committed, balance.debt) >= 0
        and (balance.debt == 0 or balance.remaining == 0)
    )


# --- the vectors ------------------------------------------------------------------------------------------------------

# An account of ours has a name; the reference's need not.
NAMELESS = "(no name)"
DENIED = {"Overflow": "overflow", "ExposureLimitExceeded": "over_cap", "Insufficient": "insufficient"}
FAULTS = {
    "MissingTenant": (dc.UnknownName, "ledger.unknown_account"),
    "MissingReservation": (dc.Conflict, "ledger.unknown_hold"),
    "InvalidAmount": (dc.InvalidInput, "ledger.invalid_amount"),
    "Overflow": (dc.InvalidInput, "ledger.overflow"),
}


def fails(expected: tuple[type[dc.DecidableError], str], call: Callable[[], object]) -> None:
    kind, code = expected
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code


@pytest.mark.parametrize("number", range(12))
def test_operations_and_balances_are_the_references(number: int) -> None:
    """Every operation of a vector has the reference's result, and the balances at the end are the reference's."""
    row = vectors.lines("ledgers.jsonl")[number]
    ledger = dc.Ledger()
    holds: dict[int, dc.Hold] = {}
    for operation in row["operations"]:
        apply(ledger, holds, operation)
    for tenant in row["snapshot"]["tenants"]:
        balance = ledger.balance(tenant["tenant_id"] or NAMELESS)
        assert conserved(balance)
        for part in ("initial", "remaining", "reserved", "committed"):
            assert getattr(balance, part) == tenant[f"{part}_microcents"]
    found = json.loads(ledger.snapshot().to_json())
    assert found["active_reservations"] == row["snapshot"]["active_reservations"]
    if all(tenant["tenant_id"] for tenant in row["snapshot"]["tenants"]):
        assert found["tenants"] == row["snapshot"]["tenants"]
    assert ledger.snapshot().digest() == model.snapshot_digest(found)


def apply(ledger: dc.Ledger, holds: dict[int, dc.Hold], operation: dict[str, Any]) -> None:
    name = operation.get("tenant", "?") or NAMELESS
    result = operation.get("result", {}).get("kind")
    if operation["op"] in {"reserve", "top_up"} and not is_open(ledger, name):
        # Whatever the amount; the reference looks at that first.
        assert result in {"MissingTenant", "Insufficient", "InvalidAmount"}
        fails(FAULTS["MissingTenant"], lambda: getattr(ledger, operation["op"])(name, operation["amount"]))
        return
    match operation["op"]:
        case "ensure_tenant":
            assert ledger.open_account(name, operation["amount"]).remaining == operation["amount"]
        case "set_exposure_cap":
            assert ledger.set_cap(name, operation["amount"]).cap == operation["amount"]
        case "reserve" if operation["amount"] < 0:
            # The reference calls it insufficient; it is not an amount.
            fails(FAULTS["InvalidAmount"], lambda: ledger.reserve(name, operation["amount"]))
        case "reserve" if operation["amount"] == 0:
            # The reference calls it insufficient; here it is a hold of nothing, which changes no figure.
            assert result == "Insufficient"
            before = ledger.balance(name)
            hold = ledger.reserve(name, 0)
            assert ledger.balance(name) == before
            if hold:
                hold.release()
        case "reserve":
            hold = ledger.reserve(name, operation["amount"])
            assert bool(hold) == (result == "Reserved")
            assert hold.denied == DENIED.get(result)
            assert (hold.account, hold.amount) == (name, operation["amount"])
            if hold:
                holds[operation["reservation"]] = hold
        case "commit" | "release" if operation["reservation"] not in holds:
            # A number that was never given: there is no object to settle.
            assert result in {"MissingReservation", "InvalidAmount"}
        case "commit" if result == "Committed":
            balance = holds[operation["reservation"]].commit(operation["actual"])
            assert balance.remaining == operation["result"]["remaining_microcents"]
        case "commit":
            fails(FAULTS[result], lambda: holds[operation["reservation"]].commit(operation["actual"]))
        case "release" if result == "Released":
            balance = holds[operation["reservation"]].release()
            assert balance.remaining == operation["result"]["remaining_microcents"]
        case "release":
            fails(FAULTS[result], holds[operation["reservation"]].release)
        case "top_up" if result == "ToppedUp":
            balance = ledger.top_up(name, operation["amount"])
            assert balance.remaining == operation["result"]["remaining_microcents"]
        case "top_up":
            fails(FAULTS[result], lambda: ledger.top_up(name, operation["amount"]))
        case unknown:
            raise AssertionError(unknown)


def is_open(ledger: dc.Ledger, name: str) -> bool:
    try:
        ledger.balance(name)
    except dc.UnknownName:
        return False
    return True


def test_the_shared_digest_sees_neither_debts_nor_caps() -> None:
    """As docs/spec/formats.md says: who must know what is owed asks the log."""
    ledger = dc.Ledger()
    ledger.open_account("acme", 100)
    ledger.reserve("acme", 50).commit(160)
    owing = ledger.snapshot()
    assert ledger.balance("acme").debt == 60
    document = json.loads(owing.to_json())
    assert document["tenants"][0].pop("debt_microcents") == 60
    owing_nothing = dc.LedgerSnapshot.from_json(json.dumps(document))
    assert owing != owing_nothing
    assert owing.digest() == owing_nothing.digest()
    assert owing.certificate()["conservation_balanced"] is owing_nothing.certificate()["conservation_balanced"] is True
    ledger.set_cap("acme", 7)
    capped = json.loads(ledger.snapshot().to_json())
    assert capped | {"version": 0} == json.loads(owing.to_json()) | {"version": 0}


@pytest.mark.parametrize("number", range(12))
def test_snapshots_and_certificates_are_the_references(number: int) -> None:
    """A snapshot of the exchange format is read, written, digested and certified as the reference does it."""
    row = vectors.lines("ledgers.jsonl")[number]
    snapshot = dc.LedgerSnapshot.from_json(json.dumps(row["snapshot"]))
    assert snapshot.digest().hex() == row["ledger_digest"]
    assert json.loads(snapshot.to_json()) == row["snapshot"]
    # The reference certifies a snapshot of its own, taken later.
    later = {**row["snapshot"], "version": row["certificate"]["snapshot_version"]}
    assert dc.LedgerSnapshot.from_json(json.dumps(later)).certificate() == row["certificate"]


def test_a_watermark_is_part_of_the_digest() -> None:
    """The vectors have no watermark; the layout has, and the model says how."""
    snapshot = {**vectors.lines("ledgers.jsonl")[1]["snapshot"], "wal_high_watermark": 77}
    assert dc.LedgerSnapshot.from_json(json.dumps(snapshot)).digest() == model.snapshot_digest(snapshot)


# --- the model --------------------------------------------------------------------------------------------------------


def test_random_operations_leave_the_models_balances() -> None:
    """300 ledgers of three accounts, 100 operations each, with caps, debts, top-ups and double settlements."""
    for seed in seeds(300):
        cases = Cases(seed)
        ledger, expected = dc.Ledger(), model.Ledger()
        limit = cases.choice((50, 10_000, 2**63 - 1))
        for name in ("a", "b", "ü"):
            initial = cases.choice((0, 1, limit, cases.randint(0, limit)))
            ledger.open_account(name, initial)
            expected.open_account(name, initial)
        holds: list[tuple[dc.Hold, int]] = []
        for step in range(100):
            one_operation(cases, limit, ledger, expected, holds)
            for name, account in expected.accounts.items():
                assert parts(ledger.balance(name)) == parts(account), f"DECIDABLE_SEED={seed}, step {step}"
        assert json.loads(ledger.snapshot().to_json())["active_reservations"] == len(expected.holds)


def one_operation(
    cases: Cases, limit: int, ledger: dc.Ledger, expected: model.Ledger, holds: list[tuple[dc.Hold, int]]
) -> None:
    name = cases.choice(("a", "b", "ü"))
    kind = cases.choice(("reserve", "reserve", "reserve", "commit", "commit", "release", "top_up", "cap"))
    amount = cases.choice((1, limit, cases.randint(1, limit), cases.randint(1, max(limit // 10, 1))))
    if kind == "reserve":
        amount = cases.choice((0, amount, amount, amount))
        hold, held = ledger.reserve(name, amount), expected.reserve(name, amount)
        assert hold.denied == (held if isinstance(held, str) else None)
        if hold:
            holds.append((hold, held))
    elif kind == "cap":
        cap = cases.choice((None, 0, amount))
        ledger.set_cap(name, cap)
        expected.set_cap(name, cap)
    elif kind == "top_up":
        both(lambda: ledger.top_up(name, amount), lambda: expected.top_up(name, amount))
    elif holds:
        hold, held = cases.choice(holds)  # settled ones among them
        if kind == "commit":
            actual = cases.choice((0, hold.amount, amount))
            both(lambda: hold.commit(actual), lambda: expected.commit(held, actual))
        else:
            both(hold.release, lambda: expected.release(held))


def both(ours: Callable[[], object], models: Callable[[], object]) -> None:
    """Both succeed or both refuse."""
    try:
        models()
    except model.LedgerError:
        with pytest.raises(dc.DecidableError):
            ours()
    else:
        ours()


def test_what_an_account_cannot_pay_becomes_debt_and_is_repaid_first() -> None:
    """A commit above the hold takes what remains, owes the rest, and the next credits repay it before they remain."""
    ledger = dc.Ledger()
    ledger.open_account("a", 100)
    first, second = ledger.reserve("a", 60), ledger.reserve("a", 30)
    balance = first.commit(95)
    assert parts(balance) == {"initial": 100, "remaining": 0, "reserved": 30, "committed": 70, "debt": 25, "cap": None}
    assert ledger.reserve("a", 1).denied == "insufficient"
    balance = second.release()
    assert parts(balance) == {"initial": 100, "remaining": 5, "reserved": 0, "committed": 95, "debt": 0, "cap": None}
    third = ledger.reserve("a", 5)
    third.commit(15)
    balance = ledger.top_up("a", 50)
    assert parts(balance) == {"initial": 150, "remaining": 40, "reserved": 0, "committed": 110, "debt": 0, "cap": None}


@pytest.mark.parametrize("settle", ["commit", "release"])
def test_a_hold_is_settled_once(settle: str) -> None:
    """A second commit or release is refused and changes nothing, also from sixteen threads at once."""
    ledger = dc.Ledger()
    ledger.open_account("a", 1_000)
    for _ in range(200):
        hold = ledger.reserve("a", 1)
        start = threading.Barrier(16)

        def once(hold: dc.Hold = hold, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                hold.commit(1) if settle == "commit" else hold.release()
            except dc.Conflict:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(lambda _: once(), range(16))) == 1
    committed = 200 if settle == "commit" else 0
    assert parts(ledger.balance("a")) == {
        "initial": 1_000,
        "remaining": 1_000 - committed,
        "reserved": 0,
        "committed": committed,
        "debt": 0,
        "cap": None,
    }


# --- threads ----------------------------------------------------------------------------------------------------------

# With the global interpreter lock a call into the ledger ends before another begins: these tests then order whole
# operations at random, with the holds of many threads open at once. Inside an operation threads meet on a
# free-threaded build, in rust/decidable-ledger/tests/threads.rs, and behind an engine (test_engine.py).


def test_sixteen_threads_on_one_account_conserve_every_unit() -> None:
    """16 threads x 10,000 reserves, commits and releases near the limit: conserved at any moment, exact at the end."""
    ledger = dc.Ledger()
    ledger.open_account("a", 16_000)
    committed, denied, over = [0] * 16, [0] * 16, threading.Event()

    def work(number: int) -> None:
        random = Random(number)
        for _ in range(10_000):
            hold = ledger.reserve("a", random.randint(1, 2_000))
            if not hold:
                denied[number] += 1
                continue
            time.sleep(0)  # another thread's turn
            if random.random() < 0.04:
                actual = random.randint(0, min(hold.amount, 3))
                hold.commit(actual)
                committed[number] += actual
            else:
                hold.release()

    def watch() -> None:
        while not over.wait(0):
            assert conserved(ledger.balance("a"))

    with ThreadPoolExecutor(1) as watcher:
        watching = watcher.submit(watch)
        try:
            ground.run_threads(16, work)
        finally:
            over.set()
        watching.result()
    spent = sum(committed)
    assert 0 < spent <= 16_000
    assert sum(denied) > 0, "the account was never near its limit"
    assert parts(ledger.balance("a")) == {
        "initial": 16_000,
        "remaining": 16_000 - spent,
        "reserved": 0,
        "committed": spent,
        "debt": 0,
        "cap": None,
    }
    certificate = ledger.snapshot().certificate()
    assert certificate["conservation_balanced"]
    assert certificate["active_reservations"] == 0


@pytest.mark.parametrize("cap", [None, 1_600])
def test_a_legal_reserve_is_never_refused(cap: int | None) -> None:
    """16 threads x 10,000 that never have more than their sixteenth, held or spent and not topped up: all is held."""
    ledger = dc.Ledger()
    ledger.open_account("a", 1_600)
    ledger.set_cap("a", cap)
    spent, together = [0] * 16, threading.Barrier(16)

    def settle(hold: dc.Hold, number: int, random: Random) -> None:
        actual = random.choice((0, hold.amount, random.randint(0, hold.amount)))
        if actual == 0 and random.random() < 0.5:
            hold.release()
            return
        balance = hold.commit(actual)
        assert conserved(balance)
        assert balance.debt == 0
        if actual:
            ledger.top_up("a", actual)
            spent[number] += actual

    def work(number: int) -> None:
        random = Random(number)
        for step in range(10_000):
            whole = step % 300 == 0
            hold = ledger.reserve("a", 100 if whole else random.randint(1, 100))
            assert hold, hold.denied
            if whole:
                # All of them hold their whole share: the account is at its limit, and one more is too many.
                together.wait()
                balance = ledger.balance("a")
                assert (balance.remaining, balance.reserved) == (0, 1_600)
                assert ledger.reserve("a", 1).denied == ("over_cap" if cap else "insufficient")
                together.wait()
            time.sleep(0)  # another thread's turn
            settle(hold, number, random)

    ground.run_threads(16, work, together)
    total = sum(spent)
    assert total > 0
    assert parts(ledger.balance("a")) == {
        "initial": 1_600 + total,
        "remaining": 1_600,
        "reserved": 0,
        "committed": total,
        "debt": 0,
        "cap": cap,
    }


def test_threads_that_overspend_leave_exact_debt() -> None:
    """What all of them spent is what is committed and owed together, and what they gave is in the account."""
    ledger = dc.Ledger()
    ledger.open_account("a", 5_000)
    spent, given, owed = [0] * 16, [0] * 16, [0] * 16

    def work(number: int) -> None:
        random = Random(number)
        for _ in range(1_000):
            hold = ledger.reserve("a", 1)
            if hold:
                time.sleep(0)  # another thread's turn
                actual = random.randint(0, 5)
                balance = hold.commit(actual)
                spent[number] += actual
                owed[number] += balance.debt > 0
            elif random.random() < 0.1:
                amount = random.randint(1, 30)
                balance = ledger.top_up("a", amount)
                given[number] += amount
            else:
                balance = ledger.balance("a")
            assert conserved(balance)

    ground.run_threads(16, work)
    assert sum(owed) > 0, "no thread overspent"
    balance = ledger.balance("a")
    assert conserved(balance)
    assert balance.initial == 5_000 + sum(given)
    assert balance.committed + balance.debt == sum(spent)
    assert balance.reserved == 0
