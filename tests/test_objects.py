"""The objects of the public surface are values: frozen, comparable, hashable, picklable, printed with all fields."""

import copy
import json
import operator
import pickle
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bridge
import decidable as dc
from decidable import _native
from decidable.report.escape import visible
from model import decisions
from model.random_cases import Cases

MODEL = {
    "model_id": 7,
    "provider_id": 3,
    "quality_bps": 8_100,
    "risk_ceiling_bps": 9_000,
    "enabled": True,
    "p95_latency_ms": 900,
    "capabilities": 5,
    "region_mask": 6,
    "input_cost_microunits_per_million_tokens": 1_500_000,
    "output_cost_microunits_per_million_tokens": 6_000_000,
}
LIMITS = {
    "policy_epoch": 11,
    "catalog_epoch": 12,
    "hard_risk_limit_bps": 9_600,
    "minimum_confidence_bps": 5_500,
    "risk_penalty_multiplier_bps": 3_500,
    "latency_penalty_microunits_per_ms": 2,
    "objective": "utility",
}
REQUEST = {
    "request_sequence": 21,
    "requested_model_id": 7,
    "input_tokens": 1_200,
    "output_tokens": 300,
    "business_value_microunits": 50_000,
    "budget_limit_microunits": 20_000,
    "risk_bps": 800,
    "confidence_bps": 9_000,
    "minimum_quality_bps": 5_000,
    "max_p95_latency_ms": 2_000,
    "required_capabilities": 1,
    "allowed_provider_mask": 8,
    "required_region_mask": 2,
    "max_output_tokens": 600,
    "quotes": {9: 4_000},
}
NAMES = {
    "models": {7: "small"},
    "providers": {3: "acme"},
    "regions": {1: "eu"},
    "capabilities": {0: "text", 2: "image"},
}


def policy(**changes: Any) -> dc.Policy:
    other = {**MODEL, "model_id": 9, "quality_bps": 9_000, "input_cost_microunits_per_million_tokens": 9_000_000}
    catalog = bridge.catalog([dc.Model(**MODEL), dc.Model(**other)], dc.Names(**NAMES))
    return dc.Policy(catalog, **LIMITS | changes)


def decision() -> dc.Decision:
    return policy().decide(dc.Request(**REQUEST))


def account() -> dc.Ledger:
    ledger = dc.Ledger()
    ledger.open_account("acme", 1_000)
    ledger.set_cap("acme", 900)
    ledger.reserve("acme", 40)
    return ledger


def snapshot(initial: int = 1_000) -> dc.LedgerSnapshot:
    ledger = dc.Ledger()
    ledger.open_account("acme", initial)
    return ledger.snapshot()


STATS = {"entropy": 1.5, "dominance": 0.25, "selected_probability": 0.1, "selected": 3, "top1": 1, "top2": 0}
BOUNDS = {
    "entropy_lower": 0.5,
    "entropy_upper": 1.5,
    "dominance_lower": 0.25,
    "dominance_upper": 0.25,
    "selected_probability_lower": 0.0,
    "selected_probability_upper": 0.125,
}
SETTLEMENT = {"ticket": 3, "charged_microunits": 40, "returned_microunits": 60, "debt_microunits": 0, "seq": 9}

# Each kind of value with a way to make it, a different one of its kind, and its fields.
VALUES = {
    "Model": (lambda: dc.Model(**MODEL), lambda: dc.Model(**MODEL | {"quality_bps": 1}), tuple(MODEL)),
    "Names": (lambda: dc.Names(**NAMES), lambda: dc.Names(), tuple(NAMES)),
    "Policy": (policy, lambda: policy(policy_epoch=1), (*LIMITS, "models", "names")),
    "Request": (lambda: dc.Request(**REQUEST), lambda: dc.Request(**REQUEST | {"quotes": None}), tuple(REQUEST)),
    "Decision": (
        decision,
        lambda: policy().decide(dc.Request(**REQUEST | {"risk_bps": 9_999})),
        decisions.Decision._fields,
    ),
    "Rule": (
        lambda: dc.Rule.literal("a", name="n", action="redact", replacement="r", ignore_case=True),
        lambda: dc.Rule.regex("a", name="n", action="redact", replacement="r", severity="low"),
        ("name", "action", "replacement", "severity", "ignore_case"),
    ),
    "Pressure": (
        lambda: dc.Pressure("n", 1, 2),
        lambda: dc.Pressure("n", 1, 3),
        ("rule", "matched", "remaining"),
    ),
    "Match": (
        lambda: dc.Match("n", "redact", 1, 2),
        lambda: dc.Match("n", "redact", 1, 3),
        ("rule", "action", "start", "end", "choice", "channel"),
    ),
    "StopReason": (
        lambda: dc.StopReason("matched", "n", 1, 2),
        lambda: dc.StopReason("failed", None, 1, None),
        ("kind", "rule", "start", "end", "choice", "channel"),
    ),
    "Explanation": (
        lambda: policy().explain(dc.Request(**REQUEST)),
        lambda: policy().explain(dc.Request(**REQUEST | {"risk_bps": 801})),
        ("decision", "objective"),
    ),
    "Verdict": (
        lambda: policy().explain(dc.Request(**REQUEST))[0],
        lambda: policy().explain(dc.Request(**REQUEST))[1],
        (*decisions.Verdict._fields, "quality_bps", "p95_latency_ms"),
    ),
    "WhatWouldWin": (
        lambda: policy().what_would_win(dc.Request(**REQUEST), model_id=9),
        lambda: policy().what_would_win(dc.Request(**REQUEST), model_id=7),
        ("model_id", "blocked_by_request", "levers"),
    ),
    "Margin": (
        lambda: policy().margin(dc.Request(**REQUEST)),
        lambda: policy().margin(dc.Request(**REQUEST | {"business_value_microunits": 49_000})),
        ("model_id", "levers"),
    ),
    "Lever": (
        lambda: policy().margin(dc.Request(**REQUEST)).levers[0],
        lambda: policy().margin(dc.Request(**REQUEST)).levers[1],
        decisions.Lever._fields,
    ),
    "Balance": (
        lambda: account().balance("acme"),
        lambda: account().top_up("acme", 1),
        ("account", "initial", "remaining", "reserved", "committed", "debt", "cap"),
    ),
    "LedgerSnapshot": (snapshot, lambda: snapshot(2_000), ()),
    "Settlement": (
        lambda: dc.Settlement(**SETTLEMENT),
        lambda: dc.Settlement(**SETTLEMENT | {"debt_microunits": 1}),
        tuple(SETTLEMENT),
    ),
    "LogitStats": (
        lambda: dc.LogitStats(**STATS),
        lambda: dc.LogitStats(**STATS | {"top2": None}),
        tuple(STATS),
    ),
    "LogitBounds": (
        lambda: dc.LogitBounds(**BOUNDS),
        lambda: dc.LogitBounds(**BOUNDS | {"entropy_lower": 0.25}),
        tuple(BOUNDS),
    ),
    "Catalog": (
        lambda: dc.Catalog([dc.Model(**MODEL)], names=dc.Names(**NAMES), limits={"policy_epoch": 2}),
        lambda: dc.Catalog([dc.Model(**MODEL)]),
        ("models", "names", "limits", "provenance"),
    ),
    "Action": (lambda: dc.Action.REJECT, lambda: dc.Action.SUBSTITUTE, ("code", "name", "label")),
    "Reason": (lambda: dc.Reason.RISK_HARD_LIMIT, lambda: dc.Reason.NO_ENABLED_MODEL, ("code", "name", "label")),
}
KINDS = pytest.mark.parametrize("kind", VALUES)


@KINDS
def test_a_value_equals_what_has_the_same_fields(kind: str) -> None:
    """Equal and hashed alike when made twice, different from another and from things of other types."""
    make, other, _ = VALUES[kind]
    assert make() == make()
    assert hash(make()) == hash(make())
    assert len({make(), make(), other()}) == 2
    assert make() != other()
    assert not make() == other()  # noqa: SIM201 - both operators are meant
    assert make() != "something else"
    assert make() != None  # noqa: E711 - the operator is meant
    with pytest.raises(TypeError):
        operator.lt(make(), make())


@KINDS
def test_a_value_is_frozen(kind: str) -> None:
    """No attribute can be changed, added or removed."""
    make, _, names = VALUES[kind]
    value = make()
    for name in (*names, "something_new"):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
    for name in names:
        with pytest.raises(AttributeError):
            delattr(value, name)


@KINDS
def test_a_value_can_be_pickled(kind: str) -> None:
    """A round trip through every pickle protocol from 2 on is equal to it, and has its fields and its texts."""
    make, other, names = VALUES[kind]
    for value in (make(), other()):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(value, protocol))
            assert again == value
            assert [getattr(again, name) for name in names] == [getattr(value, name) for name in names]
            if kind != "LedgerSnapshot":
                assert (str(again), repr(again)) == (str(value), repr(value))


@KINDS
def test_a_value_can_be_copied(kind: str) -> None:
    """A copy and a deep copy are equal to it; of what is native and cannot change, they are the thing itself."""
    value = VALUES[kind][0]()
    assert copy.copy(value) == value
    assert copy.deepcopy([value]) == [value]
    if kind != "Catalog":
        assert copy.deepcopy([copy.copy(value)])[0] is value


@pytest.mark.parametrize("kind", VALUES.keys() - {"LedgerSnapshot", "Catalog"})
def test_a_value_can_be_matched_by_position(kind: str) -> None:
    """The names are attributes, each once, and a pattern of that many takes their values."""
    value, names = VALUES[kind][0](), getattr(dc, kind).__match_args__
    assert type(names) is tuple
    assert len(names) == len(set(names)) > 0
    taken = {"dc": dc, "value": value}
    pattern = ", ".join(f"taken_{number}" for number in range(len(names)))
    exec(f"match value:\n    case dc.{kind}({pattern}):\n        matched = True", taken)
    assert taken["matched"]
    assert [taken[f"taken_{number}"] for number in range(len(names))] == [getattr(value, name) for name in names]


def test_every_public_class_is_a_value_or_said_not_to_be() -> None:
    """A new class is added to the table of values, or here."""
    no_values = {
        # They do something: they hold an account, a log, a secret, the time, or what streams go through.
        *("Ledger", "Hold", "Engine", "EngineLedger", "Ticket", "Key", "ManualClock", "Guard", "Monitor"),
        # What was read of a log, with dicts inside: equal where their fields are, but no keys of a dict.
        *("Opened", "VerificationReport", "AuditReport", "Record"),
        # A table: equal, hashed and pickled as values are (tests/test_arrow.py), but it has no fields.
        "Decisions",
    }
    classes = {
        name
        for name in dc.__all__
        if isinstance(getattr(dc, name), type) and not issubclass(getattr(dc, name), BaseException)
    }
    assert classes == VALUES.keys() | no_values
    assert not VALUES.keys() & no_values


@pytest.mark.parametrize("kind", VALUES.keys() - {"Policy", "Catalog", "LedgerSnapshot"})
def test_the_repr_names_the_type_and_every_field(kind: str) -> None:
    """What is printed in a failing assertion says all there is."""
    make, other, names = VALUES[kind]
    shown = repr(make())
    assert shown.startswith((f"{kind}(", f"{kind}."))
    if kind not in {"Action", "Reason"}:
        missing = [name for name in names if f"{name}=" not in shown and getattr(make(), name) is not None]
        assert not missing, shown
    assert shown == repr(make())
    assert shown != repr(other())


def test_the_repr_of_a_policy_is_short_and_has_its_digest() -> None:
    """A catalog may have thousands of models; the digest says which policy it is."""
    shown = repr(policy())
    assert policy().digest().hex() in shown
    assert len(shown) < 300


@pytest.mark.parametrize("kind", VALUES.keys() - {"Policy", "Catalog", "LedgerSnapshot", "Decision", "Explanation"})
def test_the_repr_of_what_can_be_built_evaluates(kind: str) -> None:
    """Pasted back, it makes an equal value."""
    value = VALUES[kind][0]()
    assert eval(repr(value), vars(dc)) == value


@pytest.mark.parametrize(("build", "values"), [(dc.Model, MODEL), (dc.Request, REQUEST), (dc.Names, NAMES)])
def test_arguments_are_attributes(build: Any, values: dict[str, Any]) -> None:
    """What went in can be read under the same name."""
    made = build(**values)
    assert {name: getattr(made, name) for name in values} == values


def test_policy_arguments_are_attributes() -> None:
    """The limits read as they were given, the models in ascending order, the names as an equal value."""
    made = policy()
    assert {name: getattr(made, name) for name in LIMITS} == LIMITS
    assert [model.model_id for model in made.models] == [7, 9]
    assert made.names == dc.Names(**NAMES)
    assert dc.Policy.from_bytes(made.to_bytes()) == made


def test_defaults() -> None:
    """What is not said is not limited."""
    model = dc.Model(
        model_id=1,
        quality_bps=1,
        input_cost_microunits_per_million_tokens=1,
        output_cost_microunits_per_million_tokens=1,
    )
    assert (model.provider_id, model.risk_ceiling_bps, model.enabled) == (0, 10_000, True)
    assert (model.p95_latency_ms, model.capabilities, model.region_mask) == (0, 0, 2**64 - 1)
    made = dc.Policy(bridge.catalog([model]))
    assert (made.policy_epoch, made.catalog_epoch, made.objective, made.names) == (1, 1, "utility", None)
    assert (made.hard_risk_limit_bps, made.minimum_confidence_bps) == (10_000, 0)
    assert (made.risk_penalty_multiplier_bps, made.latency_penalty_microunits_per_ms) == (0, 0)
    request = dc.Request(input_tokens=1, output_tokens=2)
    assert (request.request_sequence, request.business_value_microunits, request.risk_bps) == (0, 0, 0)
    assert (request.confidence_bps, request.minimum_quality_bps, request.required_capabilities) == (10_000, 0, 0)
    for name in ("budget_limit_microunits", "max_p95_latency_ms", "allowed_provider_mask", "required_region_mask"):
        assert getattr(request, name) is None


def test_sentinels_and_none_mean_the_same() -> None:
    """0, all ones and the largest budget are the layout's words for no limit, and read as None."""
    sentinels = {
        "budget_limit_microunits": 2**64 - 1,
        "max_p95_latency_ms": 0,
        "allowed_provider_mask": 2**64 - 1,
        "required_region_mask": 0,
        "quotes": {},
    }
    absent = dc.Request(**REQUEST | dict.fromkeys(sentinels))
    given = dc.Request(**REQUEST | sentinels)
    assert given == absent
    assert given.digest() == absent.digest()
    for name in ("budget_limit_microunits", "max_p95_latency_ms", "allowed_provider_mask", "required_region_mask"):
        assert getattr(given, name) is None


def test_replace_changes_what_is_named_and_checks_it() -> None:
    """A changed copy; the original stays; a wrong change is refused as in the constructor."""
    model, request = dc.Model(**MODEL), dc.Request(**REQUEST)
    assert model.replace(quality_bps=1, enabled=False) == dc.Model(**MODEL | {"quality_bps": 1, "enabled": False})
    assert model.replace() == model == dc.Model(**MODEL)
    for name, value in (
        ("risk_bps", 1),
        ("quotes", None),
        ("budget_limit_microunits", None),
        ("max_output_tokens", 300),
    ):
        assert request.replace(**{name: value}) == dc.Request(**REQUEST | {name: value})
    assert request == dc.Request(**REQUEST)
    for value in (model, request):
        with pytest.raises(TypeError):
            value.replace(no_such_field=1)
    with pytest.raises(dc.InvalidInput):
        model.replace(quality_bps=-1)
    with pytest.raises(dc.InvalidInput):
        request.replace(risk_bps=10_001)


def test_replace_moves_the_largest_use_only_where_it_was_said() -> None:
    """A request that never named a largest use follows its expected one."""
    request = dc.Request(input_tokens=1, output_tokens=10)
    assert request.replace(output_tokens=20) == dc.Request(input_tokens=1, output_tokens=20)


def test_replacing_a_field_is_making_a_request_with_it() -> None:
    """For every field, from a request that says nothing else and from one that says everything."""
    optional = {
        name for name in REQUEST if name.startswith(("requested_", "budget_", "max_", "allowed_", "required_r"))
    }
    for before in ({"input_tokens": 1, "output_tokens": 2}, REQUEST):
        for name, given in REQUEST.items():
            for value in ({}, None, given) if name == "quotes" else (0, 1, given, *[None] * (name in optional)):
                made = outcome(dc.Request, **before | {name: value})
                replaced = outcome(dc.Request(**before).replace, **{name: value})
                assert replaced == made, (name, value)


def outcome(call: Callable[..., object], **arguments: object) -> object:
    """What it returns, or the code that it raises."""
    try:
        return call(**arguments)
    except dc.InvalidInput as error:
        return error.code


def test_a_row_is_decided_as_the_request_with_its_fields() -> None:
    """The tuples of `tolist()`, by every method of a policy that takes a request."""
    cases = Cases(11)
    plain = cases.policy(largest=9)
    asked = bridge.native_policy(plain)
    requests = [cases.request(plain, extended=False) for _ in range(200)]
    rows = bridge.request_rows(requests)
    model_id = plain.models[0].model_id
    for request, row in zip(map(bridge.native_request, requests), rows.tolist(), strict=True):
        request = request.replace(max_output_tokens=None, quotes=None)
        assert asked.decide(row) == asked.decide(request)
        assert asked.decide_counted(row) == asked.decide_counted(request)
        assert asked.explain(row) == asked.explain(request)
        assert asked.hold(row) == asked.hold(request)
        assert asked.utility(row, model_id=model_id) == asked.utility(request, model_id=model_id)
        assert asked.what_would_win(row, model_id=model_id) == asked.what_would_win(request, model_id=model_id)
        assert asked.margin(row) == asked.margin(request)


def test_a_value_that_the_kernel_never_gives_cannot_be_made() -> None:
    """A verdict has the fields of its kind, all of them and no others; a lever is one of five."""
    explanation = policy().explain(
        dc.Request(**REQUEST | {"required_capabilities": 0, "budget_limit_microunits": 5_000})
    )
    kinds = {verdict.verdict: dict(verdict.__getnewargs_ex__()[1]) for verdict in explanation}
    kinds["gate"] = policy().explain(dc.Request(**REQUEST | {"minimum_quality_bps": 9_500}))[0].__getnewargs_ex__()[1]
    assert kinds.keys() >= {"gate", "eligible"}
    optional = ("gate", "measured", "limit", "quality_adjusted", "risk_penalty", "latency_penalty", "utility")
    for fields in kinds.values():
        assert dc.Verdict(**fields)
        for name in optional:
            changed = fields | {name: None if fields[name] is not None else "Quality" if name == "gate" else 1}
            with pytest.raises(dc.InvalidInput) as raised:
                dc.Verdict(**changed)
            assert raised.value.code == "input.impossible"
    for call in (
        lambda: dc.Verdict(**kinds["gate"] | {"gate": "Beauty"}),
        lambda: dc.Verdict(**kinds["gate"] | {"verdict": "maybe"}),
        lambda: dc.Lever(lever="luck", current=1, boundary=2),
    ):
        with pytest.raises(dc.InvalidInput) as raised:
            call()
        assert raised.value.code == "input.impossible"


def test_dicts_handed_out_are_copies() -> None:
    """Changing what an attribute gave changes nothing inside."""
    request, names = dc.Request(**REQUEST), dc.Names(**NAMES)
    request.quotes.clear()
    names.models[7] = "other"
    assert request == dc.Request(**REQUEST)
    assert names == dc.Names(**NAMES)


def test_a_decision_can_be_matched() -> None:
    """By position what is looked at most: action, reason, model, cost, utility; the rest by name."""
    match decision():
        case dc.Decision(dc.Action.SUBSTITUTE, _, 9, cost, utility, request_sequence=21):
            assert (cost, utility) == (decision().estimated_cost_microunits, decision().expected_utility_microunits)
        case other:
            pytest.fail(repr(other))
    match policy().decide(dc.Request(**REQUEST | {"risk_bps": 9_999})):
        case dc.Decision(dc.Action.REJECT, dc.Reason.RISK_HARD_LIMIT, None, counterfactual_model_id=None):
            pass
        case other:
            pytest.fail(repr(other))


def test_actions_and_reasons() -> None:
    """Three actions and thirteen reasons with the spec's codes and both kinds of names."""
    actions = [dc.Action.EXECUTE_REQUESTED, dc.Action.SUBSTITUTE, dc.Action.REJECT]
    assert [int(action) for action in actions] == [action.code for action in actions] == [1, 2, 3]
    reasons = [getattr(dc.Reason, name) for name in dir(dc.Reason) if name.isupper()]
    assert sorted(int(reason) for reason in reasons) == [1, 2, *range(100, 111)]
    for value in (*actions, *reasons):
        words = "".join(word.capitalize() for word in value.label.split("_"))
        assert value.name == words
        assert getattr(type(value), value.label.upper()) is value
    assert dc.Reason.RISK_HARD_LIMIT.name == "RiskHardLimit"


def test_an_action_is_one_object_however_it_is_reached() -> None:
    """`is`, sets, dicts, `match`, pickles, copies and text do what a reader expects; a reason and a gate likewise."""
    made, refused = decision(), policy().decide(dc.Request(**REQUEST | {"risk_bps": 9_999}))
    again = dc.Decision.from_bytes(made.to_bytes())
    blocked = policy().what_would_win(dc.Request(**REQUEST | {"risk_bps": 9_999}), model_id=7).blocked_by_request
    for found, constant in (
        (made.action, dc.Action.SUBSTITUTE),
        (again.action, dc.Action.SUBSTITUTE),
        (refused.action, dc.Action.REJECT),
        (made.reason, dc.Reason.ALTERNATIVE_MAXIMIZES_UTILITY),
        (refused.reason, dc.Reason.RISK_HARD_LIMIT),
        (blocked, dc.Reason.RISK_HARD_LIMIT),
    ):
        assert found is constant
        assert found in {constant}
        assert {constant: 1}[found] == 1
        assert pickle.loads(pickle.dumps(found)) is constant
        assert copy.copy(found) is copy.deepcopy(found) is constant
        assert json.dumps([found.label, found.code]) == f'["{found}", {int(found)}]'
        assert found != found.label
    match refused.action:
        case dc.Action.EXECUTE_REQUESTED | dc.Action.SUBSTITUTE:
            pytest.fail("it was refused")
        case dc.Action.REJECT:
            pass
    with pytest.raises(TypeError):
        json.dumps(refused.action)
    gate = policy().explain(dc.Request(**REQUEST | {"minimum_quality_bps": 9_500}))[0].gate
    assert type(gate) is str
    assert gate == "Quality"


def test_an_explanation_is_a_sequence_and_prints_as_a_table() -> None:
    """Verdicts by index, iteration and search; one line a candidate, with the names."""
    explanation = policy().explain(dc.Request(**REQUEST))
    assert len(explanation) == 2
    assert list(explanation) == [explanation[0], explanation[1]] == [explanation[-2], explanation[-1]]
    assert list(reversed(explanation)) == [explanation[1], explanation[0]]
    assert explanation[0] in explanation
    match explanation:
        case [first, second]:
            assert (first, second) == tuple(explanation)
        case other:
            pytest.fail(repr(other))
    with pytest.raises(IndexError):
        explanation[2]
    table = str(explanation)
    assert "small" in table
    assert len(table.splitlines()) >= 3
    assert len(policy().explain(dc.Request(**REQUEST | {"risk_bps": 9_999}))) == 0


def test_a_printed_explanation_shows_names_as_a_terminal_may_get_them() -> None:
    """By the rule of report and command: a name from outside cannot move the cursor or reorder what is read."""
    hostile = "a\x1b[2J\u202e\u200b\u2066\ufeff\xadb"
    table = str(
        dc.Policy(dc.Catalog([dc.Model(**MODEL)], names=dc.Names(models={7: hostile}))).explain(dc.Request(**REQUEST))
    )
    assert visible(hostile) == r"a\x1b[2J\u202e\u200b\u2066\ufeff\xadb"
    assert f"7 {visible(hostile)}" in table
    assert visible(table.replace("\n", " ")) == table.replace("\n", " ")


def test_what_shows_itself_is_what_unicode_says() -> None:
    """Every character. Which ones are unassigned depends on the version of Unicode; what ever was assigned stays so."""
    hidden = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        shown = visible(character)
        if unicodedata.category(character) in hidden or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            assert shown == character.encode("unicode_escape").decode() or code in b"\t\n\r", hex(code)
            assert shown.startswith("\\"), hex(code)
        elif unicodedata.ucd_3_2_0.category(character) != "Cn":
            assert shown == character, hex(code)
    assert visible("\t\n\r") == r"\x09\x0a\x0d"


@pytest.mark.parametrize(
    "name", ["Model", "Names", "Policy", "Request", "Decision", "Ledger", "Balance", "Explanation"]
)
def test_native_classes_are_final_and_say_where_they_are_from(name: str) -> None:
    """They cannot be subclassed, and their module is the package, so that they pickle by their public name."""
    kind = getattr(dc, name)
    assert kind.__module__.split(".")[0] == "decidable"
    assert kind.__doc__
    with pytest.raises(TypeError):
        type("Sub", (kind,), {})


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_share_a_policy() -> None:
    """Eight threads on one policy, by single calls and batches, get the answers that one thread gets."""
    cases = Cases(5)
    plain = cases.policy(largest=33)
    shared = bridge.native_policy(plain)
    requests = [cases.request(plain) for _ in range(2_000)]
    asked, rows = [bridge.native_request(request) for request in requests], bridge.request_rows(requests)
    expected = [decisions.decide(plain, request)[0] for request in requests]

    def work(number: int) -> bool:
        if number % 2:
            return all(bridge.as_decision(shared.decide(a)) == e for a, e in zip(asked, expected, strict=True))
        return all(shared.decide_batch(rows, threads=2).tolist() == expected for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_batch_sees_each_row_whole_while_another_thread_writes_it() -> None:
    """A row that changes during a batch is decided as it was or as it is, never as a mixture, and never unchecked."""
    cases = Cases(9)
    plain = cases.policy(largest=9)
    shared = bridge.native_policy(plain)
    first, second = cases.request(plain), cases.request(plain)
    while decisions.decide(plain, second)[0] == decisions.decide(plain, first)[0]:
        second = cases.request(plain)
    before, after = bridge.request_rows([first]), bridge.request_rows([second])
    possible = {decisions.decide(plain, request)[0] for request in (first, second)}
    rows = np.repeat(before, 5_000)
    seen: set[Any] = set()
    with written_meanwhile(rows, (before[0], after[0])):
        for _ in range(60):
            seen |= set(shared.decide_batch(rows, threads=2).tolist())
    assert seen == possible
    # A row that is never valid as a whole: 65,535 is no proportion.
    refused = after.copy()
    refused["risk_bps"] = 65_535
    rows = np.repeat(before, 2)
    taken = denied = 0
    with written_meanwhile(rows, (before[0], refused[0])):
        for _ in range(500_000):
            try:
                found = set(shared.decide_batch(rows, threads=2).tolist())
            except dc.InvalidInput:
                denied += 1
            else:
                taken += 1
                assert found == {decisions.decide(plain, first)[0]}
            if min(taken, denied) >= 200:
                break
    assert min(taken, denied) >= 200


@contextmanager
def written_meanwhile(rows: np.ndarray, values: Sequence[np.void]) -> Iterator[None]:
    """Another thread writes the values into the rows, over and over."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for value in values:
                for position in range(len(rows)):
                    rows[position] = value

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield
        finally:
            stop.set()
        writing.result()


def test_a_batch_lets_other_threads_run() -> None:
    """While a long batch is decided, this thread keeps running: its longest pause is a part of the batch's time."""
    models = [decisions.Candidate(number, 0, 9_000, 10_000, 1, 1, 0, 0, 1, number) for number in range(1, 301)]
    shared = bridge.native_policy(decisions.Policy(1, 1, 10_000, 0, 0, 0, tuple(models)))
    request = decisions.Request(1, 1, 1_000, 1_000, 10**9, 2**64 - 1, 0, 10_000, 0, 0, 0, 2**64 - 1, 0)
    rows = np.repeat(bridge.request_rows([request]), 40_000)
    started, done = threading.Event(), threading.Event()
    took = 0.0

    def work() -> None:
        nonlocal took
        started.set()
        begin = time.perf_counter()
        shared.decide_batch(rows, threads=1)
        took = time.perf_counter() - begin
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    started.wait()
    longest, last = 0.0, time.perf_counter()
    while not done.is_set():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    worker.join()
    assert longest < took / 2, f"no progress for {longest:.3f} s of {took:.3f} s"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers as POSIX has them")
def test_an_interrupt_while_something_is_shown_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never swallowed, whichever moment it comes at."""
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    request = dc.Request(request_sequence=1, input_tokens=1, output_tokens=1, business_value_microunits=1)

    def show_until_interrupted(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            repr(request)
            with suppress(dc.InvalidInput):
                dc.Request(request_sequence=-1, input_tokens=1, output_tokens=1, business_value_microunits=1)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for turn in range(300):
            with pytest.raises(KeyboardInterrupt):
                show_until_interrupted(2e-5 + turn * 1e-7)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not lost


class Interrupted:
    """What a caller may hand over, interrupted in every way in which it is asked."""

    def ask(self, *_: object) -> Any:
        raise KeyboardInterrupt

    __iter__ = __index__ = __getitem__ = __eq__ = __str__ = ask
    __hash__ = object.__hash__
    models = names = property(ask)


class Alarmed(Interrupted):
    """As interrupted, by the handler of a signal that raises an ordinary exception."""

    def ask(self, *_: object) -> Any:
        raise TimeoutError

    __iter__ = __index__ = __getitem__ = ask
    models = names = property(ask)


class InterruptedStream:
    """It says how much it took by a value that is interrupted."""

    def write(self, data: bytes) -> Any:
        return Interrupted()


class InterruptedTable:
    """It is interrupted as its stream is read."""

    dtype = Interrupted()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        raise KeyboardInterrupt


def test_an_interrupt_while_a_value_is_asked_is_no_error_of_the_value(tmp_path: Path) -> None:
    """It is raised as it is, not as an input that cannot be read."""
    with dc.Engine.open(tmp_path / "log", policy=dc.Policy(dc.Catalog([dc.Model(**MODEL)]))) as engine:
        engine.decide(dc.Request(input_tokens=1, output_tokens=1, business_value_microunits=10**9))
    dc.export(tmp_path / "log", tmp_path / "exported.jsonl")
    given: Any = Interrupted()
    models: Any = SimpleNamespace(models=given, names=None)
    halves: list[Any] = [type("", (), {"models": (), "names": Kind.names}) for Kind in (Interrupted, Alarmed)]
    asks: list[Callable[[], object]] = [
        lambda: dc.Policy(given),
        lambda: dc.Policy(models),
        lambda: dc.Policy(halves[0]()),
        lambda: dc.verify(tmp_path / "log", policies=given),
        lambda: _native.verify_exchange(tmp_path / "exported.jsonl", anchor=given),
        lambda: dc.export(tmp_path / "log", InterruptedStream()),
        lambda: dc.digest_batch(InterruptedTable()),  # type: ignore[arg-type]
        lambda: dc.WhatWouldWin(levers=given, model_id=1, blocked_by_request=None),  # type: ignore[call-arg]
    ]
    for number, ask in enumerate(asks):
        try:
            with pytest.raises(KeyboardInterrupt):
                ask()
        except dc.DecidableError as error:
            raise AssertionError(f"ask {number}: {error}") from error
    alarmed: Any = Alarmed()
    calls: list[Callable[[], object]] = [
        lambda: dc.Policy(alarmed),
        lambda: dc.Policy(SimpleNamespace(models=alarmed, names=None)),  # type: ignore[arg-type]
        lambda: dc.Policy(halves[1]()),
        lambda: dc.verify(tmp_path / "log", policies=alarmed),
        lambda: _native.verify_exchange(tmp_path / "exported.jsonl", anchor=alarmed),
        lambda: dc.WhatWouldWin(levers=alarmed, model_id=1, blocked_by_request=None),  # type: ignore[call-arg]
    ]
    for call in calls:
        with pytest.raises(TimeoutError):
            call()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers as POSIX has them")
@pytest.mark.parametrize("raised", [KeyboardInterrupt, TimeoutError])
def test_an_interrupt_while_a_policy_is_built_is_raised(raised: type[BaseException]) -> None:
    """It is never told as a catalog that is none, whichever moment it comes at."""
    catalog = dc.Catalog([dc.Model(**MODEL)])

    def stop(*_: object) -> None:
        raise raised

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for turn in range(300):
            with pytest.raises(raised):
                build_until_stopped(catalog, 2e-5 + turn * 1e-7)
    finally:
        signal.signal(signal.SIGALRM, before)


def build_until_stopped(catalog: dc.Catalog, seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        dc.Policy(catalog)


def test_keys_of_the_same_bytes_are_equal() -> None:
    """They hash alike, and a hash says nothing of the bytes to another process."""
    raw = bytes(range(32))
    key, same, other = dc.Key(raw), dc.Key(raw), dc.Key(raw[::-1])
    assert key == same
    assert hash(key) == hash(same)
    assert key != other
    assert key != raw
    assert len({key, same, other}) == 2
    asked = "import decidable as dc; print(hash(dc.Key(bytes(range(32)))))"
    elsewhere = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert int(elsewhere.stdout) != hash(key)


UNEXPECTED: dict[str, Callable[[], object]] = {
    "Model.__new__() got an unexpected keyword argument 'quality'; did you mean quality_bps?": lambda: dc.Model(
        **MODEL, quality=5
    ),
    "Model.replace() got an unexpected keyword argument 'latency_ms'; did you mean p95_latency_ms?": lambda: dc.Model(
        **MODEL
    ).replace(latency_ms=5),
    "'ouput_tokens'; did you mean output_tokens or input_tokens or max_output_tokens?": lambda: dc.Request(
        input_tokens=1, ouput_tokens=1
    ),
    "'risk'; did you mean risk_bps?": lambda: dc.Request(input_tokens=1, output_tokens=1).replace(risk=1),
    "'hard_risk_limit'; did you mean hard_risk_limit_bps?": lambda: dc.Policy(
        dc.Catalog([dc.Model(**MODEL)]), hard_risk_limit=1
    ),
    "Names.__new__() got an unexpected keyword argument 'model'; did you mean models?": lambda: dc.Names(model={}),
    "Request.__new__() got an unexpected keyword argument 'zzz'": lambda: dc.Request(
        input_tokens=1, output_tokens=1, zzz=1
    ),
    "Request.__new__() missing 1 required keyword argument: 'input_tokens'": lambda: dc.Request(output_tokens=1),
    "missing 2 required keyword arguments: 'input_tokens' and 'output_tokens'": lambda: dc.Request(),
    "missing 3 required keyword arguments: 'quality_bps', 'input_cost_microunits_per_million_tokens', and "
    "'output_cost_microunits_per_million_tokens'": lambda: dc.Model(model_id=1),
}


@pytest.mark.parametrize("says", UNEXPECTED)
def test_a_keyword_that_is_wrong_is_told_with_what_looks_like_it(says: str) -> None:
    """And one that is missing by its name."""
    with pytest.raises(TypeError) as raised:
        UNEXPECTED[says]()
    assert str(raised.value).endswith(says)


def test_one_of_a_thing_is_printed_as_one() -> None:
    """A policy of one model, and the decisions on one request."""
    policy = dc.Policy(dc.Catalog([dc.Model(**MODEL)]))
    assert repr(policy).startswith("<Policy of 1 model, ")
    two = dc.Policy(dc.Catalog([dc.Model(**MODEL), dc.Model(**MODEL | {"model_id": 8})]))
    assert repr(two).startswith("<Policy of 2 models, ")
    requests = np.zeros(1, dc.REQUEST_DTYPE)
    quotes = np.zeros(1, dc.QUOTE_DTYPE)
    quotes["row"] = 1
    with pytest.raises(dc.InvalidInput, match=r"row 1 is none of 1 request$"):
        policy.decide_batch(requests, quotes=quotes)
