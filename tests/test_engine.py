"""The live path: what is held, charged and refused, what keys and tickets promise, what threads and processes see."""

from __future__ import annotations

import _thread
import copy
import gc
import multiprocessing
import operator
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import codes
import decidable as dc
import ground
from decidable import _native
from decidable.engine import SAFETY_CEILING_BPS, EngineLedger
from ground import CHEAP, CHEAP_COST, DEAR, FREE, figures, request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def engine(path: Path) -> Iterator[dc.Engine]:
    """An engine with an account of 100,000 microunits; whatever the test did, the model follows its log."""
    with ground.funded(path, 100_000) as engine:
        yield engine
    report = dc.verify(path, policies=[ground.POLICY])
    books = ground.follow(dc.read(path))
    ground.assert_same(books, report.balances)
    assert [ticket["request_sequence"] for ticket in report.open_tickets] == books.open_tickets()


def conflicts(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(dc.Conflict) as caught:
        call()
    assert caught.value.code == code


# --- decide and settle ------------------------------------------------------------------------------------------------


def test_the_largest_answer_is_held_and_the_rest_returned(engine: dc.Engine) -> None:
    """1,000 tokens in and at most 400 out are held; what the policy prices of the tokens used is charged."""
    with engine.decide(request(max_output_tokens=400), account="acme") as ticket:
        assert (ticket.id, ticket.state, ticket.refusal, ticket.account) == (1, "dispatched", None, "acme")
        assert (ticket.selected_model_id, ticket.model, ticket.hold_microunits) == (CHEAP, "cheap", 2_600)
        assert ticket.request.request_sequence == 1
        assert ticket.decision is not None
        assert ticket.decision == ground.POLICY.decide(ticket.request)
        assert figures(engine.ledger.balance("acme")) == (100_000, 97_400, 2_600, 0, 0, None)
        settlement = ticket.settle(input_tokens=900, output_tokens=150, latency_ms=412)
    assert (settlement.ticket, settlement.charged_microunits, settlement.returned_microunits) == (1, 1_500, 1_100)
    assert (settlement.debt_microunits, settlement.seq > ticket.seq, ticket.state) == (0, True, "settled")
    assert figures(engine.ledger.balance("acme")) == (100_000, 98_500, 0, 1_500, 0, None)
    assert ticket.durable_ns is not None
    assert ticket.durable_ns > 0


def test_the_engine_numbers_requests(engine: dc.Engine) -> None:
    """Whatever number the caller's request has; refusals take numbers too."""
    asked = [request(request_sequence=77), request(None), request(risk_bps=9_900), request(DEAR, request_sequence=2)]
    assert [engine.decide(one).id for one in asked] == [1, 2, 3, 4]
    assert [engine.ticket(number).request.request_sequence for number in (1, 2, 3, 4)] == [1, 2, 3, 4]
    with pytest.raises(dc.UnknownName) as caught:
        engine.ticket(5)
    assert caught.value.code == "replay.unknown_ticket"


def test_settling_twice_gives_the_same_answer_or_a_conflict(engine: dc.Engine, path: Path) -> None:
    """The same values again are the same settlement, also after the log was opened again; others contradict it."""
    ticket = engine.decide(request(), account="acme")
    first = ticket.settle(cost_microunits=900, latency_ms=3)
    assert ticket.settle(cost_microunits=900, latency_ms=3) == first
    assert engine.ticket(1).settle(cost_microunits=900, latency_ms=3) == first
    for others in (
        {"cost_microunits": 901, "latency_ms": 3},
        {"cost_microunits": 900},
        {"input_tokens": 1, "output_tokens": 1},
    ):
        conflicts("engine.settled_otherwise", lambda others=others: ticket.settle(**others))
    conflicts("replay.already_closed", ticket.cancel)
    conflicts("replay.already_closed", ticket.dispatch)
    engine.close()
    with ground.opened(path) as again:
        assert again.ticket(1).settle(cost_microunits=900, latency_ms=3) == first
        assert again.ticket(1).state == "settled"
        assert figures(again.ledger.balance("acme")) == (100_000, 99_100, 0, 900, 0, None)


def test_a_ticket_is_cancelled_before_anyone_acts(engine: dc.Engine) -> None:
    """Then its hold is free; cancelling again changes nothing, and nothing else can be done with it."""
    ticket = engine.decide(request(), account="acme")
    ticket.cancel()
    ticket.cancel()
    assert engine.ticket(ticket.id).state == ticket.state == "cancelled"
    assert figures(engine.ledger.balance("acme")) == (100_000, 100_000, 0, 0, 0, None)
    conflicts("replay.already_closed", lambda: ticket.settle(cost_microunits=5))
    conflicts("replay.already_closed", lambda: ticket.__enter__())
    conflicts("replay.nothing_selected", lambda: engine.outcome(ticket.id, succeeded=True))


def test_what_was_dispatched_cannot_be_cancelled(engine: dc.Engine) -> None:
    """It may have been spent."""
    with engine.decide(request(), account="acme") as ticket:
        conflicts("engine.dispatched", ticket.cancel)
        assert ticket.state == "dispatched"
        ticket.settle(cost_microunits=1)


def test_a_ticket_that_is_left_unsettled_is_in_doubt_until_reconciled(engine: dc.Engine, path: Path) -> None:
    """The hold stays, it is listed, also after opening again, and someone who knows ends the doubt."""
    with engine.decide(request(), account="acme") as spent:
        pass
    with pytest.raises(ZeroDivisionError), engine.decide(request(), account="acme") as unspent:
        raise ZeroDivisionError
    held = engine.decide(request(), account="acme")
    assert (spent.state, unspent.state, held.state) == ("in_doubt", "in_doubt", "held")
    conflicts("engine.dispatched", spent.cancel)
    assert [(ticket.id, ticket.state) for ticket in engine.open_tickets()] == [
        (1, "in_doubt"),
        (2, "in_doubt"),
        (3, "held"),
    ]
    engine.close()
    with ground.opened(path) as again:
        assert [(ticket.id, ticket.state) for ticket in again.open_tickets()] == [(n, "in_doubt") for n in (1, 2, 3)]
        conflicts("engine.in_doubt", lambda: again.ticket(1).__enter__())
        assert again.ledger.balance("acme").reserved == 3 * CHEAP_COST
        again.reconcile(1, cost_microunits=1_000)
        again.reconcile(2, nothing_spent=True)
        again.reconcile(3, input_tokens=1_000, output_tokens=0)
        assert again.open_tickets() == []
        assert figures(again.ledger.balance("acme")) == (100_000, 98_000, 0, 2_000, 0, None)
        # The same again changes nothing; something else contradicts.
        again.reconcile(1, cost_microunits=1_000)
        again.reconcile(2, nothing_spent=True)
        conflicts("engine.settled_otherwise", lambda: again.reconcile(1, cost_microunits=2))
        conflicts("replay.already_closed", lambda: again.reconcile(2, cost_microunits=2))
        with pytest.raises(dc.InvalidInput) as caught:
            again.reconcile(3, nothing_spent=True, cost_microunits=0)
        assert caught.value.code == "engine.contradiction"
        with pytest.raises(dc.InvalidInput) as caught:
            again.reconcile(4 if again.decide(request(), account="acme").id == 4 else 0)
        assert caught.value.code == "replay.no_cost"


def test_a_settlement_above_the_hold_debits_and_then_owes(engine: dc.Engine) -> None:
    """An account in debt holds nothing, not even nothing, until a top-up has repaid it."""
    ticket = engine.decide(request(), account="acme")
    settlement = ticket.settle(cost_microunits=130_000)
    assert (settlement.charged_microunits, settlement.debt_microunits) == (130_000, 30_000)
    assert figures(engine.ledger.balance("acme")) == (100_000, 0, 0, 100_000, 30_000, None)
    for model in (CHEAP, FREE):
        assert engine.decide(request(model), account="acme").refusal == "insufficient"
    assert figures(engine.ledger.top_up("acme", 29_999)) == (129_999, 0, 0, 129_999, 1, None)
    assert engine.decide(request(FREE), account="acme").refusal == "insufficient"
    assert figures(engine.ledger.top_up("acme", 5_001)) == (135_000, 5_000, 0, 130_000, 0, None)
    assert engine.decide(request(), account="acme").refusal is None


def test_a_free_candidate_is_held_and_can_be_charged(engine: dc.Engine) -> None:
    """Nothing is held for it, and whoever pays something after all is charged."""
    with engine.decide(request(FREE), account="acme") as ticket:
        assert (ticket.model, ticket.hold_microunits, ticket.refusal) == ("free", 0, None)
        assert ticket.settle(cost_microunits=40).charged_microunits == 40
    with engine.decide(request(FREE), account="acme") as ticket:
        assert ticket.settle(input_tokens=5, output_tokens=9).charged_microunits == 0
    assert engine.ledger.balance("acme").committed == 40


def test_a_cap_limits_what_is_held_at_a_time(engine: dc.Engine) -> None:
    """It is part of the balance, set and lifted at any time; open holds stay."""
    assert engine.ledger.set_cap("acme", 2 * CHEAP_COST).cap == 2 * CHEAP_COST
    first, second, third = (engine.decide(request(), account="acme") for _ in range(3))
    assert (first.refusal, second.refusal, third.refusal) == (None, None, "over_cap")
    engine.ledger.set_cap("acme", 0)
    assert engine.decide(request(), account="acme").refusal == "over_cap"
    first.settle(cost_microunits=10)
    engine.ledger.set_cap("acme", None)
    assert engine.decide(request(), account="acme").refusal is None
    assert second.state == "held"


def test_a_quoted_candidate_needs_its_cost_at_settlement(engine: dc.Engine) -> None:
    """The quote replaces the rates, so the rates cannot price what was used."""
    ticket = engine.decide(request(max_output_tokens=300, quotes={CHEAP: 77}), account="acme")
    assert ticket.decision is not None
    assert (ticket.decision.estimated_cost_microunits, ticket.hold_microunits) == (77, 77 + 800)
    with pytest.raises(dc.InvalidInput) as caught:
        ticket.settle(input_tokens=1_000, output_tokens=100)
    assert caught.value.code == "replay.no_cost"
    assert ticket.settle(cost_microunits=80).charged_microunits == 80
    # A quote for someone else changes nothing.
    other = engine.decide(request(quotes={DEAR: 60_000}), account="acme")
    assert other.settle(input_tokens=1_000, output_tokens=100).charged_microunits == CHEAP_COST


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({}, "replay.no_cost"),
        ({"input_tokens": 5}, "replay.no_cost"),
        ({"output_tokens": 5}, "replay.no_cost"),
        ({"cost_microunits": 2**63}, "replay.amount_out_of_range"),
        ({"cost_microunits": -1}, "input.out_of_range"),
        ({"cost_microunits": 1.0}, "input.not_an_integer"),
        ({"cost_microunits": True}, "input.not_an_integer"),
        ({"cost_microunits": "5"}, "input.not_an_integer"),
        ({"input_tokens": 2**32, "output_tokens": 1}, "input.out_of_range"),
        ({"cost_microunits": 5, "latency_ms": 1.5}, "input.not_an_integer"),
    ],
)
def test_a_settlement_that_cannot_be_is_refused_and_the_ticket_stays(
    engine: dc.Engine, values: dict[str, Any], code: str
) -> None:
    """Nothing is charged, and the right values still settle it."""
    ticket = engine.decide(request(), account="acme")
    before = engine.head()
    with pytest.raises(dc.InvalidInput) as caught:
        ticket.settle(**values)
    assert caught.value.code == code
    assert (ticket.state, engine.head()) == ("held", before)
    ticket.settle(cost_microunits=5)


def test_of_a_cost_and_tokens_the_cost_is_charged_and_the_tokens_are_kept(engine: dc.Engine, path: Path) -> None:
    """A bill need not be what the rates say; the record has both, and another use beside it is another settlement."""
    ticket = engine.decide(request(), account="acme")
    settlement = ticket.settle(cost_microunits=77, input_tokens=1_000, output_tokens=100)
    assert settlement.charged_microunits == 77 != CHEAP_COST
    (record,) = dc.read(path, kind="settlement")
    kept = {name: record.fields[name] for name in ("cost_microunits", "input_tokens", "output_tokens")}
    assert kept == {"cost_microunits": 77, "input_tokens": 1_000, "output_tokens": 100}
    assert ticket.settle(cost_microunits=77, input_tokens=1_000, output_tokens=100) == settlement
    with pytest.raises(dc.Conflict):
        ticket.settle(cost_microunits=77)


@pytest.mark.parametrize("seqs", [None, 5, 1.5, ["a"], [1.0], [True]])
def test_what_is_no_sequence_of_numbers_is_not_erased(engine: dc.Engine, seqs: Any) -> None:
    """Nothing is erased, and the error names the argument; NumPy's integers are numbers."""
    seq = engine.decide(request(), metadata="m").seq
    with pytest.raises(dc.InvalidInput, match="seqs must be") as caught:
        engine.erase(seqs)
    assert caught.value.field == "seqs"
    assert engine.erase(np.array([seq])) == [seq]  # type: ignore[arg-type]


def test_the_text_of_an_opening_fits_a_screen() -> None:
    """However many erasures it finished; the values are all there."""
    many = tuple(range(1, 40_001))
    opened = dc.Opened(
        created=False,
        records=80_000,
        writer_epoch=2,
        closed_before=False,
        recoveries=(),
        erasures_finished=many,
        unrecorded_erasures=(7, 8, 9),
    )
    assert repr(opened) == (
        "Opened(created=False, records=80000, writer_epoch=2, closed_before=False, recoveries=(), "
        "erasures_finished=(1, 2, 3, … 40,000 in all), unrecorded_erasures=(7, 8, 9))"
    )
    assert opened.erasures_finished == many
    assert pickle.loads(pickle.dumps(opened)) == opened


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals_are_values_with_a_reason_and_are_logged(engine: dc.Engine, path: Path) -> None:
    """A gate, the ceiling, or the account: the ticket says which, `model` and entering raise it, the log keeps it."""
    gate = engine.decide(request(None), account="acme")
    ceiling = engine.decide(request(risk_bps=9_700), account="acme", metadata="why")
    poor = engine.decide(request(DEAR, max_output_tokens=900_000), account="acme")
    endless = engine.decide(request(DEAR, quotes={DEAR: 2**64 - 1}), account="acme")
    for ticket, reason in (
        (gate, "quality_constraint"),
        (ceiling, "safety_ceiling"),
        (poor, "insufficient"),
        (endless, "overflow"),
    ):
        assert (ticket.refusal, ticket.state, ticket.selected_model_id) == (reason, "refused", None)
        with pytest.raises(dc.Refused) as caught:
            _ = ticket.model
        assert (caught.value.code, caught.value.reason) == ("engine.refused", reason)
        conflicts("replay.nothing_selected", lambda ticket=ticket: ticket.settle(cost_microunits=1))
        conflicts("replay.nothing_selected", ticket.cancel)
        with pytest.raises(dc.Refused) as entered, ticket:
            raise AssertionError("the body of a refused ticket ran")
        assert (entered.value.code, entered.value.reason) == ("engine.refused", reason)
        with pytest.raises(dc.Refused):
            ticket.dispatch()
        with pytest.raises(dc.Refused):
            engine.ticket(ticket.id).dispatch()
        assert ticket.state == "refused"
        assert reason in repr(ticket)
    assert gate.decision is not None
    assert ceiling.decision is None
    assert [record.kind for record in dc.read(path)][3:] == ["decision", "refusal", "decision", "decision"]
    (refusal,) = dc.read(path, kind="refusal")
    assert (refusal.request_sequence, refusal.risk_bps, refusal.account, refusal.private) == (2, 9_700, "acme", "why")
    assert engine.ledger.balance("acme").reserved == 0


def test_the_ceiling_is_at_9700_and_no_policy_can_raise_it(engine: dc.Engine) -> None:
    """9,699 is decided, 9,700 is not."""
    assert SAFETY_CEILING_BPS == 9_700
    assert ground.POLICY.hard_risk_limit_bps == 10_000
    assert engine.decide(request(risk_bps=9_699)).decision is not None
    assert engine.decide(request(risk_bps=9_700)).decision is None


def test_without_an_account_nothing_is_held(engine: dc.Engine) -> None:
    """The decision is logged all the same, and settled."""
    ticket = engine.decide(request(DEAR))
    assert (ticket.account, ticket.hold_microunits, ticket.refusal) == (None, None, None)
    assert ticket.settle(cost_microunits=7) == engine.ticket(1).settle(cost_microunits=7)
    assert engine.ledger.balance("acme").committed == 0


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_accounts_are_opened_once_and_named_as_people_write(engine: dc.Engine) -> None:
    """An unknown account, a taken name and a name that is none: typed, and nothing is written."""
    before = engine.head()
    with pytest.raises(dc.UnknownName) as caught:
        engine.decide(request(), account="nobody")
    assert caught.value.code == "engine.unknown_account"
    for call in (
        lambda: engine.ledger.balance("nobody"),
        lambda: engine.ledger.top_up("nobody", 1),
        lambda: engine.ledger.set_cap("nobody", 1),
    ):
        with pytest.raises(dc.UnknownName):
            call()
    conflicts("engine.account_exists", lambda: engine.ledger.open_account("acme", 5))
    for name in ("", "x" * 257, "a\nb", "\x7f", "#0", "#acme"):
        with pytest.raises(dc.InvalidInput) as caught_name:
            engine.ledger.open_account(name, 5)
        assert caught_name.value.code == "engine.bad_name"
    for value, code in ((-1, "ledger.invalid_amount"), (2**63, "input.out_of_range"), (1.0, "input.not_an_integer")):
        with pytest.raises(dc.InvalidInput) as caught_amount:
            engine.ledger.open_account("beta", value)
        assert caught_amount.value.code == code
    refusals: list[tuple[Callable[[], object], str, str]] = [
        (lambda: engine.ledger.top_up("acme", 0), "ledger.invalid_amount", "must be positive, and is 0"),
        (lambda: engine.ledger.set_cap("acme", -1), "ledger.invalid_amount", "cap must not be negative, and is -1"),
        (lambda: engine.ledger.top_up("acme", 2**63 - 1), "ledger.overflow", "initial does not fit"),
    ]
    for call, code, says in refusals:
        with pytest.raises(dc.InvalidInput, match=f'^account "acme": .*{says}') as refused:
            call()
        assert (refused.value.code, refused.value.account) == (code, "acme")
    assert engine.head() == before
    assert engine.ledger.open_account("ü/бета 🔒", 5).remaining == 5
    assert "ü/бета 🔒" in engine.ledger
    assert "beta" not in engine.ledger
    assert [balance.account for balance in engine.ledger.accounts()] == ["acme", "ü/бета 🔒"]


def test_whether_an_account_is_open_is_one_look(engine: dc.Engine) -> None:
    """The balances of the others are not made for it; what is no name is no account."""
    engine.ledger.open_account("beta", 1)
    looked_at: list[str] = []

    class One:
        def balance(self, account: str) -> dc.Balance:
            looked_at.append(account)
            return engine._native.balance(account)

    ledger = EngineLedger(One())  # type: ignore[arg-type]
    assert [name in ledger for name in ("beta", "nobody", "", "\ud800", 5, None)] == [True] + [False] * 5
    assert looked_at == ["beta", "nobody", "", "\ud800"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"account": 5}, "input.wrong_type"),
        ({"account": "\ud800"}, "input.wrong_type"),
        ({"key": b"k"}, "input.wrong_type"),
        ({"key": ""}, "engine.bad_key"),
        ({"key": "k" * 257}, "engine.bad_key"),
        ({"key": "a\x00"}, "engine.bad_key"),
        ({"metadata": {"a": 1}}, "input.wrong_type"),
        ({"metadata": "x" * (2**20 + 1)}, "engine.too_large"),
        ({"request": "request"}, "input.wrong_type"),
        ({"request": None}, "input.wrong_type"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_written(
    engine: dc.Engine, arguments: dict[str, Any], code: str
) -> None:
    """A typed error; the engine goes on."""
    before = engine.head()
    with pytest.raises(dc.InvalidInput) as caught:
        engine.decide(**{"request": request(), "account": "acme"} | arguments)
    assert caught.value.code == code
    assert engine.head() == before
    assert engine.decide(request(), account="acme", metadata="x" * 2**20).id == 1


@pytest.mark.parametrize("number", [-1, 2**64, 1.0, True, "1", None])
def test_tickets_and_records_are_named_by_integers(engine: dc.Engine, number: Any) -> None:
    """Everything else is an error with a code, not a TypeError."""
    for call in (
        lambda: engine.ticket(number),
        lambda: engine.outcome(number, succeeded=True),
        lambda: engine.reconcile(number, nothing_spent=True),
        lambda: engine.erase([number]),
    ):
        with pytest.raises(dc.InvalidInput) as caught:
            call()
        assert caught.value.code in {"input.not_an_integer", "input.out_of_range"}


# --- keys -------------------------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_ticket_also_after_opening_again(engine: dc.Engine, path: Path) -> None:
    """With another request or account it is a conflict; keys are not shown in the log."""
    engine.ledger.open_account("beta", 10_000)
    first = engine.decide(request(), account="acme", key="order 7")
    refused = engine.decide(request(None), account="acme", key="order 8")

    def check(engine: dc.Engine, state: str) -> None:
        head = engine.head()
        again = engine.decide(request(request_sequence=5), account="acme", key="order 7", metadata="not looked at")
        assert (again.id, again.seq, again.replayed, again.state) == (first.id, first.seq, True, state)
        assert (again.hold_microunits, again.decision, again.durable_ns) == (CHEAP_COST, first.decision, None)
        assert engine.decide(request(None), account="acme", key="order 8").id == refused.id
        for others in ({"request": request(DEAR)}, {"account": "beta"}, {"account": None}):
            asked = {"request": request(), "account": "acme", "key": "order 7"} | others
            conflicts("engine.key_conflict", lambda asked=asked: engine.decide(**asked))
        assert engine.head() == head

    assert not first.replayed
    check(engine, "held")
    engine.close()
    with ground.opened(path) as again:
        check(again, "in_doubt")
        again.decide(request(), account="acme", key="order 7").settle(cost_microunits=5)
        check(again, "settled")
    with ground.opened(path) as third:
        check(third, "settled")
    assert b"order 7" not in ground.segment(path).read_bytes()


def test_a_ticket_that_was_asked_for_by_its_number_is_not_replayed(engine: dc.Engine) -> None:
    """Only the answer to a repeated key is: looking at a ticket repeats nothing."""
    ticket = engine.decide(request(), account="acme", key="k")
    for looked_at in (engine.ticket(ticket.id), *engine.open_tickets()):
        assert (looked_at.id, looked_at.account) == (ticket.id, "acme")
        assert (looked_at.replayed, looked_at.durable_ns) == (False, None)
    assert engine.decide(request(), account="acme", key="k").replayed


def test_the_ticket_of_a_settled_key_cannot_be_acted_on_again(engine: dc.Engine) -> None:
    """Whoever repeats a whole call must not spend twice: entering it is a conflict."""
    with engine.decide(request(), account="acme", key="k") as ticket:
        ticket.settle(cost_microunits=5)
    repeated = engine.decide(request(), account="acme", key="k")
    conflicts("replay.already_closed", lambda: repeated.__enter__())
    assert engine.ledger.balance("acme").committed == 5


def test_a_cancellation_frees_the_key(engine: dc.Engine) -> None:
    """Nothing was done under it, so trying again decides anew."""
    ticket = engine.decide(request(), account="acme", key="k")
    ticket.cancel()
    again = engine.decide(request(), account="acme", key="k")
    assert (again.id, again.replayed) == (2, False)
    again.settle(cost_microunits=5)
    assert engine.decide(request(), account="acme", key="k").id == 2


# --- policies ---------------------------------------------------------------------------------------------------------


def test_another_policy_is_installed_under_the_next_number_and_old_tickets_keep_theirs(path: Path) -> None:
    """Prices and names of a ticket are those of the policy that decided; the same policy is not installed again."""
    with ground.funded(path, provenance="prices of May") as engine:
        engine.decide(request(), account="acme")
        engine.decide(request(), account="acme")
    for same in ("prices of May", ""):
        with ground.opened(path, provenance=same) as engine:
            assert engine.policy == ground.POLICY
    other = dc.Policy(
        dc.Catalog(
            [
                dc.Model(
                    model_id=CHEAP,
                    quality_bps=9_900,
                    input_cost_microunits_per_million_tokens=7_000_000,
                    output_cost_microunits_per_million_tokens=7_000_000,
                )
            ],
            names=dc.Names(models={CHEAP: "renamed"}),
        ),
        policy_epoch=2,
    )
    with ground.opened(path, policy=other, provenance="prices of June") as engine:
        assert engine.policy == other
        old, new = engine.ticket(1), engine.decide(request(), account="acme")
        assert (old.model, new.model, engine.open_tickets()[0].model) == ("cheap", "renamed", "cheap")
        assert old.settle(input_tokens=1_000, output_tokens=100).charged_microunits == CHEAP_COST
        assert new.settle(input_tokens=1_000, output_tokens=100).charged_microunits == 7_700
    installed = list(dc.read(path, kind="policy"))
    assert [(record.policy_number, record.provenance) for record in installed] == [
        (0, "prices of May"),
        (1, "prices of June"),
    ]
    assert [record.policy for record in installed] == [ground.POLICY, other]
    assert [record.policy_number for record in dc.read(path, kind="decision")] == [0, 0, 1]
    ground.follow(dc.read(path))
    dc.verify(path, policies=[ground.POLICY, other])
    with pytest.raises(dc.VerificationError) as caught:
        dc.verify(path, policies=[ground.POLICY])
    assert (caught.value.code, caught.value.seq) == ("engine.policy_not_given", installed[1].seq)


def test_a_policy_that_came_from_elsewhere_is_installed_again(path: Path) -> None:
    """The provenance that is given is the one recorded last; none says nothing; decisions name the latest number."""
    given = ["", "May", "", "May", "June", "May"]
    for provenance in given:
        with ground.opened(path, provenance=provenance) as engine:
            engine.decide(request())
            assert engine.policy == ground.POLICY
    installed = [(record.policy_number, record.provenance) for record in dc.read(path, kind="policy")]
    assert installed == [(0, ""), (1, "May"), (2, "June"), (3, "May")]
    assert [record.policy_number for record in dc.read(path, kind="decision")] == [0, 1, 1, 1, 2, 3]
    ground.follow(dc.read(path))
    dc.verify(path, policies=[ground.POLICY])


# --- audits -----------------------------------------------------------------------------------------------------------


def test_audits_are_noted_of_what_was_acted_on(engine: dc.Engine, path: Path) -> None:
    """Any number of a ticket that is open or settled; nothing of it changes."""
    ticket = engine.decide(request(), account="acme")
    engine.audit(ticket.id, bytes(32))
    ticket.settle(cost_microunits=5)
    engine.audit(ticket.id, bytes(range(32)))
    cancelled, refused = engine.decide(request(), account="acme"), engine.decide(request(risk_bps=10_000))
    cancelled.cancel()
    for each in (cancelled, refused):
        conflicts("replay.nothing_selected", lambda each=each: engine.audit(each.id, bytes(32)))  # type: ignore[misc]
    for wrong in (b"", bytes(31), bytes(33), "00" * 32, None):
        with pytest.raises(dc.InvalidInput) as caught:
            engine.audit(ticket.id, wrong)  # type: ignore[arg-type]
        assert (caught.value.code, caught.value.field) == ("input.wrong_type", "audit_hash")
    with pytest.raises(dc.InvalidInput, match=r"^audit_hash must be 32 bytes, not 31$"):
        engine.audit(ticket.id, bytes(31))
    with pytest.raises(dc.UnknownName):
        engine.audit(99, bytes(32))
    found = [(record.request_sequence, record.account, record.audit_hash) for record in dc.read(path, kind="audit")]
    assert found == [(1, "acme", bytes(32)), (1, "acme", bytes(range(32)))]
    ground.follow(dc.read(path))
    assert engine.ledger.balance("acme").committed == 5
    dc.verify(path)


def test_a_ticket_is_its_engines(engine: dc.Engine) -> None:
    """It is not pickled, nor copied deeply; a shallow copy is the ticket."""
    ticket = engine.decide(request(), account="acme")
    assert copy.copy(ticket) is ticket
    for attempt in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"^a Ticket belongs to its engine and cannot be pickled or deep-copied"):
            attempt(ticket)


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_outcomes_are_revised_and_keep_to_what_can_have_happened(engine: dc.Engine, path: Path) -> None:
    """Each observation is a record with the next revision; contradictions are refused."""
    ticket = engine.decide(request(), account="acme")
    ticket.settle(cost_microunits=5)
    refused = engine.decide(request(None), account="acme")
    ceiling = engine.decide(request(risk_bps=10_000), account="acme")
    engine.outcome(ticket.id, succeeded=True)
    engine.outcome(ticket.id, succeeded=False, cost_microunits=6, latency_ms=90)
    engine.outcome(ticket.id, abandoned=True)
    engine.outcome(refused.id, abandoned=True)
    conflicts("replay.nothing_selected", lambda: engine.outcome(refused.id, succeeded=True))
    conflicts("replay.nothing_selected", lambda: engine.outcome(ceiling.id, abandoned=True))
    for contradiction, says in (
        ({}, "outcome needs succeeded, cost_microunits or latency_ms; or abandoned=True alone"),
        ({"abandoned": True, "succeeded": False}, "outcome takes abandoned=True alone, without succeeded"),
        (
            {"abandoned": True, "cost_microunits": 0, "latency_ms": 1},
            "outcome takes abandoned=True alone, without cost_microunits and latency_ms",
        ),
    ):
        with pytest.raises(dc.InvalidInput, match=f"^{says}$") as caught:
            engine.outcome(ticket.id, **contradiction)
        assert caught.value.code == "replay.bad_outcome"
    for wrong in ({"succeeded": 1}, {"abandoned": "yes"}, {"latency_ms": -1}, {"cost_microunits": 0.5}):
        with pytest.raises(dc.InvalidInput) as caught:
            engine.outcome(ticket.id, **wrong)
        assert caught.value.code.startswith("input.")
    found = [
        (record.request_sequence, record.revision, record.disposition, record.succeeded, record.realized_latency_ms)
        for record in dc.read(path, kind="outcome")
    ]
    assert found == [
        (1, 1, "applied", True, None),
        (1, 2, "applied", False, 90),
        (1, 3, "abandoned", None, None),
        (2, 1, "abandoned", None, None),
    ]


# --- closing ----------------------------------------------------------------------------------------------------------


def test_a_closed_engine_refuses_steps_and_can_be_closed_again(path: Path) -> None:
    """It still answers for its books and its tickets."""
    engine = ground.funded(path)
    ticket = engine.decide(request(), account="acme")
    head = engine.close()
    assert engine.close() == head
    for step in (
        lambda: engine.decide(request(), account="acme"),
        lambda: ticket.settle(cost_microunits=1),
        ticket.cancel,
        ticket.dispatch,
        lambda: engine.ledger.top_up("acme", 1),
        lambda: engine.outcome(1, succeeded=True),
        lambda: engine.reconcile(1, nothing_spent=True),
    ):
        with pytest.raises(dc.LogUnavailable) as caught:
            step()
        assert caught.value.code == "wal.closed"
    assert engine.ledger.balance("acme").reserved == CHEAP_COST
    assert engine.ticket(1).state == "held"
    dc.verify(path, head=head)


def test_an_engine_that_is_dropped_writes_what_it_has_and_frees_the_log(path: Path) -> None:
    """Without a record of a closing; tickets are in doubt."""
    engine = ground.funded(path)
    engine.decide(request(), account="acme")
    del engine
    gc.collect()
    assert [record.kind for record in dc.read(path)][-1] == "decision"
    with ground.opened(path) as engine:
        assert engine.ticket(1).state == "in_doubt"


def test_an_error_inside_the_block_closes_the_log_and_is_raised(path: Path) -> None:
    """As any context manager."""
    with pytest.raises(ZeroDivisionError), ground.funded(path):
        raise ZeroDivisionError
    assert [record.kind for record in dc.read(path)][-1] == "closed"


@pytest.mark.parametrize("seqs", [b"abc", bytearray(b"abc"), "abc", 5, [1.0], [True]])
def test_only_numbers_of_records_are_erased(engine: dc.Engine, path: Path, seqs: Any) -> None:
    """Bytes are numbers, too, and were never meant as such."""
    before = ground.segment(path).read_bytes()
    with pytest.raises(dc.InvalidInput) as caught:
        engine.erase(seqs)
    assert (caught.value.code, caught.value.field) in {
        ("input.wrong_type", "seqs"),
        ("input.not_an_integer", "seqs"),
    }
    assert ground.segment(path).read_bytes() == before


def test_a_message_is_not_as_long_as_a_name(engine: dc.Engine) -> None:
    """It goes into somebody's log; the whole value is among the details."""
    with pytest.raises(dc.DecidableError) as caught:
        engine.decide(request(), account="a" * 10**6)
    assert len(str(caught.value)) < 3_000


@pytest.mark.parametrize("value", ["no", 1, 0, None, np.True_])
def test_only_a_bool_says_that_nothing_was_spent(engine: dc.Engine, value: Any) -> None:
    """What Python takes for true releases no money, and opens no account that is open already."""
    ticket = engine.decide(request(), account="acme")
    with pytest.raises(dc.InvalidInput) as caught:
        engine.reconcile(ticket.id, nothing_spent=value)
    assert (caught.value.code, caught.value.field) == ("input.wrong_type", "nothing_spent")
    with pytest.raises(dc.InvalidInput) as caught:
        engine.ledger.open_account("acme", 1, exist_ok=value)
    assert (caught.value.code, caught.value.field) == ("input.wrong_type", "exist_ok")
    assert ticket.state == "held"
    assert engine.ledger.balance("acme").reserved > 0


def test_an_engine_is_not_pickled(engine: dc.Engine) -> None:
    """It holds a log; another process opens its own."""
    with pytest.raises(TypeError):
        pickle.dumps(engine)


def test_an_interrupt_while_a_log_is_opened_leaves_it_as_it_was(path: Path) -> None:
    """KeyboardInterrupt; not a byte is written, and the log can be opened at once."""
    with ground.funded(path, 10**9) as engine:
        for _ in range(20):
            engine.decide(request(), account="acme")
    before = ground.segment(path).read_bytes()
    # `map` calls one after the other without a look at signals between them: the interrupt comes inside.
    calls = [_thread.interrupt_main, partial(_native.Engine.open, path, policy=ground.POLICY)]
    with pytest.raises(KeyboardInterrupt):
        list(map(operator.call, calls))
    assert ground.segment(path).read_bytes() == before
    with ground.opened(path) as engine:
        assert len(engine.open_tickets()) == 20


def test_an_interrupt_while_an_erasure_reads_leaves_the_log_as_it_was(path: Path) -> None:
    """KeyboardInterrupt before anything is recorded; not a byte is written, and the engine goes on."""
    with ground.funded(path) as engine:
        (account,) = dc.read(path, kind="account")
        before = ground.segment(path).read_bytes()
        calls = [_thread.interrupt_main, partial(engine._native.erase, [account.seq])]
        with pytest.raises(KeyboardInterrupt):
            list(map(operator.call, calls))
        assert ground.segment(path).read_bytes() == before
        assert engine.ledger.balance("acme").initial == 1_000_000
        assert engine.erase([account.seq]) == [account.seq]
        assert engine.ledger.balance("#0").initial == 1_000_000
    assert dc.verify(path).erased == (account.seq,)


# --- threads ----------------------------------------------------------------------------------------------------------


def test_sixteen_threads_on_one_account_near_its_limit(path: Path) -> None:
    """16 threads x 10,000 decisions on funds for 12 holds: as many held as fit, conserved at every look, replayed."""
    room = 12
    funds = room * CHEAP_COST
    spent, held = [0] * 16, [False] * 16
    together = threading.Barrier(16)
    with ground.funded(path, funds, sync="none") as engine:

        def step(thread: int, choose: Random, *, meet: bool) -> None:
            ticket = engine.decide(request(), account="acme")
            assert ground.conserved(engine.ledger.balance("acme"))
            assert ticket.refusal in (None, "insufficient")
            if meet:
                # Every thread has its answer and none has settled: exactly as many hold as there are funds for.
                held[thread] = ticket.refusal is None
                together.wait()
                assert sum(held) == room
                assert engine.ledger.balance("acme").remaining == 0
                together.wait()
            if ticket.refusal is not None:
                return
            if choose.random() < 0.5:
                ticket.cancel()
                return
            cost = choose.choice((0, 1, 700, CHEAP_COST))
            ticket.settle(cost_microunits=cost)
            spent[thread] += cost
            if cost:
                engine.ledger.top_up("acme", cost)

        def work(thread: int) -> None:
            choose = Random(thread)
            for number in range(10_000):
                step(thread, choose, meet=number % 500 == 0)

        ground.run_threads(16, work, together)
        total = sum(spent)
        assert total > 0
        assert figures(engine.ledger.balance("acme")) == (funds + total, funds, 0, total, 0, None)
        assert engine.open_tickets() == []
    report = dc.verify(path, policies=[ground.POLICY])
    assert report.decisions == 160_000
    assert figures(report.balances[0]) == (funds + total, funds, 0, total, 0, None)


def test_one_key_from_many_threads_is_one_ticket(engine: dc.Engine) -> None:
    """Exactly one of them decides; all have the same answer, durable."""
    start = threading.Barrier(8)

    def ask(_: int) -> dc.Ticket:
        start.wait()
        return engine.decide(request(), account="acme", key="k")

    for decided in (1, 0, 0):
        with ThreadPoolExecutor(8) as pool:
            tickets = list(pool.map(ask, range(8)))
        assert {ticket.id for ticket in tickets} == {1}
        assert sum(not ticket.replayed for ticket in tickets) == decided
    assert engine.ledger.balance("acme").reserved == CHEAP_COST


# --- processes --------------------------------------------------------------------------------------------------------

FORKED = """
import asyncio, os, sys
import decidable as dc, ground
from decidable import engine as module

path, hooked = sys.argv[1], sys.argv[2] == "hooked"
with ground.funded(path) as engine:
    ticket = engine.decide(ground.request(), account="acme")
    other = engine.decide(ground.request(), account="acme")
    if not hooked:
        # As where the library is used from Rust: nobody tells the child that it is one.
        module._open_engines.clear()
    child = os.fork()
    if child == 0:
        native = engine._native
        uses = [
            lambda: engine.decide(ground.request(), account="acme"),
            lambda: asyncio.run(engine.adecide(ground.request(), account="acme")),
            lambda: ticket.settle(cost_microunits=5),
            lambda: asyncio.run(ticket.asettle(cost_microunits=5)),
            lambda: other.cancel(),
            lambda: asyncio.run(other.acancel()),
            lambda: ticket.dispatch(),
            lambda: ticket.__enter__(),
            lambda: ticket.state,
            lambda: engine.ledger.open_account("child", 5),
            lambda: engine.ledger.open_account("acme", 5, exist_ok=True),
            lambda: engine.ledger.top_up("acme", 5),
            lambda: engine.ledger.set_cap("acme", 5),
            lambda: engine.ledger.balance("acme"),
            lambda: engine.ledger.accounts(),
            lambda: "acme" in engine.ledger,
            lambda: engine.outcome(1, abandoned=True),
            lambda: engine.reconcile(1, cost_microunits=5),
            lambda: engine.reconcile(1, nothing_spent=True),
            lambda: engine.open_tickets(),
            lambda: engine.ticket(1),
            lambda: engine.policy,
            lambda: engine.head(),
            lambda: engine.erase([3]),
            lambda: engine.close(),
            # One by one, before anything waits for the disk.
            lambda: native.submit(ground.request(), account="acme"),
            lambda: native.submit_settle(1, cost_microunits=5),
            lambda: native.submit_cancel(2),
            lambda: native.submit_release(2),
            lambda: native.submit_outcome(1, abandoned=True),
            lambda: native.submit_account("child", 5),
            lambda: native.submit_top_up("acme", 5),
            lambda: native.submit_cap("acme", None),
            lambda: native.opened_account("acme"),
            lambda: native.disown(1),
            lambda: native.leave(1),
            lambda: native.wait(1),
            lambda: native.wait_change(0, 1),
        ]
        codes = set()
        for number, use in enumerate(uses):
            try:
                use()
            except dc.LogUnavailable as error:
                codes.add(error.code)
            else:
                codes.add(f"{number} went on")
        try:
            ground.opened(path)
        except dc.LogUnavailable as error:
            codes.add(error.code)
        # The child may read, and have a log of its own.
        assert repr(ticket) == "<Ticket 1: 'cheap', engine.forked>"
        dc.verify(path)
        with ground.funded(path + "-child") as own:
            own.decide(ground.request(), account="acme").settle(cost_microunits=3)
        print(*sorted(codes), flush=True)
        # Leaves through the block as any program does.
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ticket.settle(cost_microunits=9)
    assert engine.decide(ground.request(), account="acme").id == 3
print(dc.verify(path, head=engine.close()).settlements)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("how", ["hooked", "untold"])
def test_a_forked_child_cannot_use_its_parents_engine(path: Path, how: str) -> None:
    """Every use raises, the parent goes on, its log holds, and the lock stays with the parent."""
    done = ground.python(FORKED, path, how)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["engine.forked", "wal.locked", "1"], done.stderr
    codes.note("engine.forked", "LogUnavailable")
    assert done.stderr == ""
    dc.verify(f"{path}-child")


FORKED_UNDER_LOAD = """
import os, sys, threading
import decidable as dc, ground
from decidable import engine as module

path, hooked = sys.argv[1], sys.argv[2] == "hooked"
engine = ground.funded(path, 10**9)
if not hooked:
    module._open_engines.clear()
over = threading.Event()

def work():
    while not over.is_set():
        engine.decide(ground.request(), account="acme").settle(cost_microunits=1)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        try:
            engine.decide(ground.request(), account="acme")
        except dc.LogUnavailable as error:
            os._exit(0 if error.code == "engine.forked" else 3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
over.set()
for thread in threads:
    thread.join()
print(dc.verify(path, head=engine.close()).decisions)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("how", ["hooked", "untold"])
def test_forking_while_threads_write_neither_hangs_nor_harms(path: Path, how: str) -> None:
    """A child inherits locks that nobody will release; it must not wait for them."""
    done = ground.python(FORKED_UNDER_LOAD, path, how)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20


def in_another_process(path: str, number: int) -> tuple[str, int]:
    """What a spawned process can do: not open the log, but read it and have its own."""
    try:
        ground.opened(path)
    except dc.LogUnavailable as error:
        code = error.code
    with ground.funded(f"{path}-{number}") as engine:
        engine.decide(request(), account="acme").settle(cost_microunits=2)
    return code, dc.verify(path).records


def test_spawned_processes_have_their_own(engine: dc.Engine, path: Path) -> None:
    """multiprocessing's spawn imports anew and inherits nothing."""
    engine.decide(request(), account="acme")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        answers = pool.starmap(in_another_process, [(str(path), number) for number in range(3)])
    assert answers == [("wal.locked", 4)] * 3


EXITS = """
import sys, threading
import decidable as dc, ground

path, how = sys.argv[1:]
engine = ground.funded(path, 10**9, sync="none" if how == "unsynced" else "group")
ticket = engine.decide(ground.request(), account="acme", key="k")
print(ticket.seq, flush=True)
if how == "daemons":
    def work():
        while True:
            engine.decide(ground.request(), account="acme").settle(cost_microunits=1)
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    import time
    time.sleep(0.2)
elif how == "cycle":
    engine.me = engine
elif how == "raises":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["plain", "daemons", "cycle", "raises", "unsynced"])
def test_an_interpreter_exits_with_an_open_engine(path: Path, how: str) -> None:
    """Soon, with its own exit code, silently, and what was acknowledged is there."""
    done = ground.python(EXITS, path, how, timeout=60)
    assert (done.returncode, done.stderr) == (3 if how == "raises" else 0, "")
    seq = int(done.stdout)
    assert {record.seq for record in dc.read(path, kind="decision")} >= {seq}
    dc.verify(path)
    with ground.opened(path) as engine:
        assert engine.decide(request(), account="acme", key="k").replayed


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_many_open_engines_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each has its log and its thread."""
    engines = [ground.funded(tmp_path / str(number)) for number in range(20)]
    for number, engine in enumerate(engines):
        for _ in range(number % 3 + 1):
            engine.decide(request(), account="acme")
    for number, engine in enumerate(engines):
        engine.close()
        assert dc.verify(tmp_path / str(number)).decisions == number % 3 + 1
