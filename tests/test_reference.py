"""The extension and the installed reference implementation give the same answers to the same cases.

Every failure names its seed: ``DECIDABLE_SEED=<seed> pytest tests/test_reference.py`` runs that seed alone.
"""

from calybris import _core as peer

import bridge
import decidable as dc
import reference
from model.decisions import Policy, Request
from model.random_cases import ALONE, Cases, seeds


def differ(seed: int, number: int, policy: Policy, request: Request) -> str:
    return f"DECIDABLE_SEED={seed}, request {number}:\n{request}\n{policy}"


def test_batches_decide_as_the_reference() -> None:
    """100,000 requests on 1,600 policies: decisions; for some of them single calls, counters and digests."""
    decided = 0
    for seed in seeds(1_600):
        cases = Cases(seed)
        policy = cases.policy()
        native, other = bridge.native_policy(policy), reference.reference_policy(policy)
        assert native.digest().hex() == other.fingerprint(), f"DECIDABLE_SEED={seed}"
        requests = [cases.request(policy) for _ in range(63)]
        decided += len(requests)
        asked = [reference.reference_request(request) for request in requests]
        expected = [reference.as_decision(decision) for decision in other.prescribe_batch(asked)]
        found = native.decide_batch(bridge.request_rows(requests)).tolist()
        for number, (request, row) in enumerate(zip(requests, found, strict=True)):
            assert row == expected[number], differ(seed, number, policy, request)
        for number in range(5):
            decision, counted = native.decide_counted(bridge.native_request(requests[number]))
            prescribed, trace = other.prescribe_with_trace(asked[number])
            assert bridge.as_decision(decision) == expected[number], differ(seed, number, policy, requests[number])
            assert counted.items() <= trace.items(), differ(seed, number, policy, requests[number])
            bundle = other.audit_bundle(asked[number], prescribed)
            assert bundle["decision_digest_hex"] == decision.digest().hex()
            assert bundle["input_digest_hex"] == bridge.native_request(requests[number]).digest().hex()
    assert decided >= 100_000 or decided == 63


def test_levers_and_margins_are_the_references() -> None:
    """What would win and margins on 300 policies; the lever `enabled`, which the vectors lack, must occur."""
    seen = set()
    for seed in seeds(300):
        cases = Cases(seed)
        policy = cases.policy(largest=22)
        native, other = bridge.native_policy(policy), reference.reference_policy(policy)
        disabled = [model for model in policy.models if not model.enabled]
        for number in range(4):
            request = cases.request(policy)
            asked, theirs = bridge.native_request(request), reference.reference_request(request)
            model_id = cases.choice(disabled if disabled and number < 2 else policy.models).model_id
            blocked, levers = bridge.as_what_would_win(native.what_would_win(asked, model_id=model_id))
            expected = other.what_would_win(theirs, model_id)
            words = {None: None, "risk_hard_limit": 100, "confidence_hard_limit": 101}
            assert blocked == words[expected["blocked_by_request"]], differ(seed, number, policy, request)
            assert levers == reference.as_levers(expected["levers"]), differ(seed, number, policy, request)
            seen |= {lever.lever for lever in levers}
            margin, widest = bridge.as_margin(native.margin(asked)), other.decision_margin(theirs)
            if widest is not None:
                widest = (widest["model_id"], reference.as_levers(widest["levers"]))
            assert margin == widest, differ(seed, number, policy, request)
            assert native.utility(asked, model_id=model_id) == other.utility_for_model(theirs, model_id)
    if not ALONE:
        assert "enabled" in seen


BALANCE = ("initial", "remaining", "reserved", "committed")


def balance_of(ledger: dc.Ledger) -> tuple[int, ...]:
    balance = ledger.balance("a")
    return tuple(getattr(balance, part) for part in BALANCE)


def peer_balance(engine: peer.BudgetEngine) -> tuple[int, ...]:
    return tuple(getattr(engine, f"{part}_microcents")("a") for part in BALANCE)


def test_ledgers_agree_with_the_reference_until_an_account_cannot_pay() -> None:
    """Reserves, commits above and below the hold, releases and top-ups, 30,000 in all.

    Where a commit is more than hold and account can pay, the reference keeps the hold and refuses (`overrun`). Ours
    takes what is there and records the rest as debt, because the money has been spent; the run ends there.
    """
    overruns = 0
    for seed in seeds(300):
        cases = Cases(seed)
        start = cases.choice((100, 10_000, 2**40))
        ledger, other = dc.Ledger(), peer.BudgetEngine()
        ledger.open_account("a", start)
        other.ensure_tenant("a", start)
        held: list[tuple[dc.Hold, int, int]] = []
        for _ in range(100):
            where = f"DECIDABLE_SEED={seed}"
            kind = cases.random()
            if kind < 0.5 or not held:
                amount = cases.randint(1, max(start // 4, 1))
                hold, theirs = ledger.reserve("a", amount), other.try_reserve("a", amount)
                assert bool(hold) == (theirs["status"] == "reserved"), where
                if hold:
                    held.append((hold, theirs["reservation_id"], amount))
            elif kind < 0.6:
                amount = cases.randint(1, start)
                ledger.top_up("a", amount)
                assert other.top_up_tenant("a", amount)["status"] == "topped_up", where
            elif kind < 0.8:
                hold, number, _ = held.pop(cases.randrange(len(held)))
                hold.release()
                assert other.release(number)["status"] == "released", where
            else:
                hold, number, amount = held.pop(cases.randrange(len(held)))
                actual = cases.choice((0, 1, amount, cases.randint(0, amount), amount + cases.randint(0, start // 4)))
                before = ledger.balance("a")
                after, result = hold.commit(actual), other.commit(number, actual)
                if result["status"] == "overrun":
                    overruns += 1
                    excess = actual - amount
                    assert excess > before.remaining, where
                    assert after.debt == excess - before.remaining, where
                    assert after.remaining == 0, where
                    assert after.committed == before.committed + amount + before.remaining, where
                    assert after.reserved == before.reserved - amount, where
                    break
                assert result["status"] == "committed", where
                assert after.debt == 0, where
            assert balance_of(ledger) == peer_balance(other), where
    if not ALONE:
        assert overruns > 10
