"""What cannot be used is refused by the right exception, with a stable code, field and value, and changes nothing."""

import enum
import json
import math
import pickle
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bridge
import decidable as dc
from model import vectors

MODEL = {
    "model_id": 7,
    "quality_bps": 8_000,
    "input_cost_microunits_per_million_tokens": 1,
    "output_cost_microunits_per_million_tokens": 1,
}
REQUEST = {"input_tokens": 10, "output_tokens": 20}
U16, U32, U64 = (2**bits - 1 for bits in (16, 32, 64))
I64 = (-(2**63), 2**63 - 1)

# Every integer argument and the numbers that its type can hold.
MODEL_INTEGERS = {
    "model_id": (0, U32),
    "provider_id": (0, U16),
    "quality_bps": (0, U16),
    "risk_ceiling_bps": (0, U16),
    "p95_latency_ms": (0, U32),
    "capabilities": (0, U64),
    "region_mask": (0, U64),
    "input_cost_microunits_per_million_tokens": (0, U64),
    "output_cost_microunits_per_million_tokens": (0, U64),
}
POLICY_INTEGERS = {
    "policy_epoch": (0, U64),
    "catalog_epoch": (0, U64),
    "hard_risk_limit_bps": (0, U16),
    "minimum_confidence_bps": (0, U16),
    "risk_penalty_multiplier_bps": (0, U16),
    "latency_penalty_microunits_per_ms": (0, U64),
}
REQUEST_INTEGERS = {
    "request_sequence": (0, U64),
    "requested_model_id": (0, U32),
    "input_tokens": (0, U32),
    "output_tokens": (0, U32),
    "business_value_microunits": I64,
    "budget_limit_microunits": (0, U64),
    "risk_bps": (0, U16),
    "confidence_bps": (0, U16),
    "minimum_quality_bps": (0, U16),
    "max_p95_latency_ms": (0, U32),
    "required_capabilities": (0, U64),
    "allowed_provider_mask": (0, U64),
    "required_region_mask": (0, U64),
    "max_output_tokens": (0, U32),
}


def model(**changes: Any) -> dc.Model:
    return dc.Model(**MODEL | changes)


def policy(*models: dc.Model, **limits: Any) -> dc.Policy:
    return dc.Policy(bridge.catalog(models or [model()]), **limits)


# A row of REQUEST_DTYPE.
ROW = (1, 7, 10, 20, 50_000, 2**64 - 1, 100, 9_000, 0, 0, 0, 2**64 - 1, 0)


def request(**changes: Any) -> dc.Request:
    return dc.Request(**REQUEST | changes)


def ledger() -> dc.Ledger:
    made = dc.Ledger()
    made.open_account("acme", 1_000)
    return made


class Exactly:
    """Compares as the same object or an equal one of the same type, NaN among them."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return other is self.value or (type(other) is type(self.value) and other == self.value)

    def __repr__(self) -> str:
        return repr(self.value)


class Ten(int):
    """Looks like an int and is a type of its own."""


class Index:
    """Can be used as an index and is no int."""

    def __init__(self, number: object = 10) -> None:
        self.number = number

    def __index__(self) -> Any:
        return self.number


class Number(enum.IntEnum):
    """An int that has a name."""

    TEN = 10


# What stands for 10.
TENS = [
    Ten(10),
    Number.TEN,
    Index(),
    np.int8(10),
    np.uint16(10),
    np.int64(10),
    np.uint64(10),
    np.array(10),
    np.ma.masked_array([10])[0],
]

NOT_INTEGERS = [
    10.0,
    10.5,
    math.nan,
    math.inf,
    True,
    False,
    "10",
    b"10",
    Decimal(10),
    Fraction(10),
    complex(10),
    Index(True),
    Index(10.0),
    Index("10"),
    Index,
    int,
    np.int64,
    np.float64(10.0),
    np.bool_(True),
    np.array(True),
    np.array([10, 10]),
    np.timedelta64(10),
    np.ma.masked,
    [10],
    (10,),
    {10},
]


def refused(call: Callable[[], object], kind: type[dc.DecidableError], code: str, **details: Any) -> None:
    """The call raises exactly this; what it names is in the details, as attributes and in a message of one line."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert type(error) is kind
    assert error.code == code
    for name, value in details.items():
        assert Exactly(value) == error.details[name], error.details
        assert Exactly(value) == getattr(error, name)
    message = str(error)
    assert message
    assert "\n" not in message
    assert len(message) < 300
    if "field" in details:
        assert details["field"] in message


# --- integers ---------------------------------------------------------------------------------------------------------

BUILDERS = [
    *((model, name, bounds) for name, bounds in MODEL_INTEGERS.items()),
    *((policy, name, bounds) for name, bounds in POLICY_INTEGERS.items()),
    *((request, name, bounds) for name, bounds in REQUEST_INTEGERS.items()),
]


@pytest.mark.parametrize(
    ("build", "field", "bounds"), BUILDERS, ids=[f"{build.__name__}-{field}" for build, field, _ in BUILDERS]
)
def test_an_integer_argument_takes_exact_integers_of_its_range(
    build: Callable[..., object], field: str, bounds: tuple[int, int]
) -> None:
    """No float, bool, Decimal or text, nor what stands for one; nothing negative or too wide."""
    for value in NOT_INTEGERS:
        refused(
            lambda value=value: build(**{field: value}),
            dc.InvalidInput,
            "input.not_an_integer",
            field=field,
            value=value,
        )
    low, high = bounds
    for value in (low - 1, high + 1, -(2**64), 2**200, -(2**200), 10**5_000):
        refused(
            lambda value=value: build(**{field: value}),
            dc.InvalidInput,
            "input.out_of_range",
            field=field,
            value=value,
        )


@pytest.mark.parametrize(
    ("build", "field", "bounds"), BUILDERS, ids=[f"{build.__name__}-{field}" for build, field, _ in BUILDERS]
)
def test_what_stands_for_an_integer_is_that_integer(
    build: Callable[..., Any], field: str, bounds: tuple[int, int]
) -> None:
    """NumPy's integers and all that Python takes as an index: the same object, with the same digest and bytes."""
    others = {"max_output_tokens": 20} if field == "output_tokens" else {}
    given = 20 if field == "max_output_tokens" else 10
    plain = build(**{field: given}, **others)
    for value in TENS if given == 10 else [np.int64(20), Index(20)]:
        made = build(**{field: value}, **others)
        assert made == plain
        assert repr(made) == repr(plain)
        assert hash(made) == hash(plain)
        if build is not model:
            assert made.digest() == plain.digest()
            assert pickle.dumps(made) == pickle.dumps(plain)
    low, high = bounds
    refused(
        lambda: build(**{field: Index(high + 1)}), dc.InvalidInput, "input.out_of_range", field=field, value=high + 1
    )
    refused(
        lambda: build(**{field: np.array(low - 1, dtype=object)[()]}),
        dc.InvalidInput,
        "input.out_of_range",
        field=field,
        value=low - 1,
    )


def test_what_is_raised_in_an_index_is_no_wrong_type() -> None:
    """An interrupt, or the fault of whoever made the class, stays what it is."""

    class Alarmed:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __index__(self) -> int:
            raise self.error

    for error in (KeyboardInterrupt(), ZeroDivisionError()):
        with pytest.raises(type(error)):
            request(risk_bps=Alarmed(error))
    refused(lambda: request(risk_bps=Alarmed(TypeError())), dc.InvalidInput, "input.not_an_integer", field="risk_bps")


def test_integers_of_numpy_are_taken_wherever_an_integer_is() -> None:
    """Quotes, tuples as rows, accounts, tokens as people write them."""
    one = np.int64(1)
    assert request(quotes={np.uint32(7): one}) == request(quotes={7: 1})
    assert policy().decide(tuple(np.int64(value) if value < 2**63 else value for value in ROW)) == policy().decide(ROW)
    assert policy().utility(ORDINARY, model_id=np.uint32(7)) == policy().utility(ORDINARY, model_id=7)
    used = ledger()
    used.reserve("acme", np.int32(10)).commit(np.uint8(4))
    assert used.balance("acme").committed == 4
    assert dc.builders.tokens(np.int64(7), field="tokens") == 7
    assert dc.builders.rate_per_token(np.int64(0), field="rate") == 0
    for wrong in (np.True_, True, np.float64(7), np.array([1, 2])):
        refused(
            lambda wrong=wrong: dc.builders.tokens(wrong, field="tokens"), BAD, "builders.wrong_type", field="tokens"
        )


NO_LIMIT = {
    ("requested_model_id", 0),
    ("budget_limit_microunits", U64),
    ("max_p95_latency_ms", 0),
    ("allowed_provider_mask", U64),
    ("required_region_mask", 0),
}
"""Read as None: what the layout has where there is none."""


def test_the_ends_of_every_range_are_taken() -> None:
    """The smallest and the largest number of each type, where no rule of the contract is narrower."""
    narrower = {"model_id", "provider_id", "quality_bps", "risk_ceiling_bps"}
    for name, bounds in MODEL_INTEGERS.items():
        for value in () if name in narrower else bounds:
            assert getattr(policy(model(**{name: value})).models[0], name) == value
    for name, bounds in POLICY_INTEGERS.items():
        for value in () if name.endswith("_bps") else bounds:
            assert getattr(policy(**{name: value}), name) == value
    for name, bounds in REQUEST_INTEGERS.items():
        for value in () if name.endswith("_bps") or name == "max_output_tokens" else bounds:
            expected = None if (name, value) in NO_LIMIT else value
            assert getattr(request(**{name: value, "max_output_tokens": U32}), name) == expected, name


NONE_MEANS_NO_LIMIT = {
    "requested_model_id",
    "budget_limit_microunits",
    "max_p95_latency_ms",
    "allowed_provider_mask",
    "required_region_mask",
    "max_output_tokens",
}


@pytest.mark.parametrize(
    ("build", "field"),
    [(build, field) for build, field, _ in BUILDERS],
    ids=[f"{build.__name__}-{field}" for build, field, _ in BUILDERS],
)
def test_none_is_taken_where_it_means_something(build: Callable[..., object], field: str) -> None:
    """None is no number and no word for a default: a risk that is not known is not a risk of 0."""
    if field in NONE_MEANS_NO_LIMIT:
        assert build(**{field: None}) == build()
    else:
        refused(lambda: build(**{field: None}), dc.InvalidInput, "input.not_an_integer", field=field, value=None)


PROPORTIONS = [
    (lambda value: policy(model(quality_bps=value)), "quality_bps", 10_000),
    (lambda value: policy(model(risk_ceiling_bps=value)), "risk_ceiling_bps", 10_000),
    (lambda value: policy(model(provider_id=value)), "provider_id", 63),
    (lambda value: policy(hard_risk_limit_bps=value), "hard_risk_limit_bps", 10_000),
    (lambda value: policy(minimum_confidence_bps=value), "minimum_confidence_bps", 10_000),
    (lambda value: policy(risk_penalty_multiplier_bps=value), "risk_penalty_multiplier_bps", 50_000),
    (lambda value: request(risk_bps=value), "risk_bps", 10_000),
    (lambda value: request(confidence_bps=value), "confidence_bps", 10_000),
    (lambda value: request(minimum_quality_bps=value), "minimum_quality_bps", 10_000),
]


@pytest.mark.parametrize(("build", "field", "largest"), PROPORTIONS, ids=[field for _, field, _ in PROPORTIONS])
def test_proportions_end_where_the_contract_says(build: Callable[[int], object], field: str, largest: int) -> None:
    """The largest is taken, the next is refused by name."""
    build(largest)
    for value in (largest + 1, U16):
        refused(lambda value=value: build(value), dc.InvalidInput, "kernel.out_of_range", field=field, value=value)


# --- everything else, as a table --------------------------------------------------------------------------------------

BAD = dc.InvalidInput
NEW, OLD = model(model_id=8), model()
ORDINARY = request()
RULE = dc.Rule.literal("x")
LARGE = "x" * 257
SNAPSHOT = vectors.lines("ledgers.jsonl")[1]["snapshot"]


def snapshot(**changes: Any) -> dc.LedgerSnapshot:
    return dc.LedgerSnapshot.from_json(json.dumps(SNAPSHOT | changes))


def settled_twice() -> None:
    hold = ledger().reserve("acme", 10)
    hold.commit(10)
    hold.release()


def settled_after_denial() -> None:
    hold = ledger().reserve("acme", 1_001)
    assert not hold
    hold.commit(1)


CASES: dict[str, tuple[Callable[[], object], type[dc.DecidableError], str, dict[str, Any]]] = {
    # Models and policies.
    "enabled as 1": (lambda: model(enabled=1), BAD, "input.wrong_type", {"field": "enabled", "value": 1}),
    "enabled as 2": (lambda: model(enabled=2), BAD, "input.wrong_type", {"field": "enabled", "value": 2}),
    "enabled as text": (lambda: model(enabled="yes"), BAD, "input.wrong_type", {"field": "enabled", "value": "yes"}),
    "enabled as a NumPy bool": (lambda: model(enabled=np.True_), BAD, "input.wrong_type", {"field": "enabled"}),
    "an empty catalog": (lambda: dc.Policy(bridge.catalog([])), BAD, "kernel.empty_catalog", {}),
    "model 0": (
        lambda: policy(model(model_id=0)),
        BAD,
        "kernel.reserved_model_id",
        {"field": "model_id", "value": 0},
    ),
    "a model twice": (
        lambda: policy(OLD, NEW, OLD),
        BAD,
        "kernel.duplicate_model_id",
        {"field": "model_id", "value": 7},
    ),
    "no enabled model": (
        lambda: policy(model(enabled=False)),
        BAD,
        "kernel.no_enabled_candidate",
        {"field": "enabled"},
    ),
    "65,536 models": (
        lambda: policy(*(model(model_id=number) for number in range(1, 65_537))),
        BAD,
        "kernel.too_many_candidates",
        {"value": 65_536},
    ),
    "which of the models": (
        lambda: policy(OLD, model(model_id=9, quality_bps=10_001)),
        BAD,
        "kernel.out_of_range",
        {"field": "quality_bps", "value": 10_001, "model_id": 9},
    ),
    "a list as a catalog": (lambda: dc.Policy([OLD]), BAD, "input.wrong_type", {"field": "catalog"}),
    "None as a catalog": (lambda: dc.Policy(None), BAD, "input.wrong_type", {"field": "catalog", "value": None}),
    "no sequence of models": (
        lambda: dc.Policy(SimpleNamespace(models=5, names=None)),
        BAD,
        "input.wrong_type",
        {"field": "catalog.models", "value": 5},
    ),
    "a model as a dict": (
        lambda: dc.Policy(bridge.catalog([MODEL])),
        BAD,
        "input.wrong_type",
        {"field": "catalog.models", "value": MODEL},
    ),
    "names as a dict": (
        lambda: dc.Policy(bridge.catalog([OLD], {"models": {}})),
        BAD,
        "input.wrong_type",
        {"field": "catalog.names"},
    ),
    "an unknown objective": (
        lambda: policy(objective="cheap"),
        BAD,
        "kernel.unknown_objective",
        {"field": "objective", "value": "cheap"},
    ),
    "an objective in capitals": (
        lambda: policy(objective="Utility"),
        BAD,
        "kernel.unknown_objective",
        {"field": "objective", "value": "Utility"},
    ),
    "an objective by number": (
        lambda: policy(objective=1),
        BAD,
        "input.wrong_type",
        {"field": "objective", "value": 1},
    ),
    # Names.
    "a name twice": (lambda: dc.Names(models={1: "a", 2: "a"}), BAD, "kernel.duplicate_name", {}),
    "too many names": (
        lambda: dc.Names(models={number: f"m{number}" for number in range(1, 65_537)}),
        BAD,
        "kernel.too_many_names",
        {},
    ),
    "an empty name": (lambda: dc.Names(regions={1: ""}), BAD, "kernel.name_length", {}),
    "a long name": (lambda: dc.Names(providers={1: LARGE}), BAD, "kernel.name_length", {}),
    "a long name of few characters": (lambda: dc.Names(models={1: "ü" * 129}), BAD, "kernel.name_length", {}),
    "bit 64": (lambda: dc.Names(capabilities={64: "a"}), BAD, "kernel.out_of_range", {"value": 64}),
    "provider 64": (lambda: dc.Names(providers={64: "a"}), BAD, "kernel.out_of_range", {"value": 64}),
    "a name for model 0": (lambda: dc.Names(models={0: "a"}), BAD, "kernel.reserved_model_id", {"value": 0}),
    "a name that is a number": (lambda: dc.Names(models={1: 5}), BAD, "input.wrong_type", {"field": "models"}),
    "a name that is no Unicode": (
        lambda: dc.Names(models={1: "\ud800"}),
        BAD,
        "input.wrong_type",
        {"field": "models", "value": "\ud800"},
    ),
    "an id that is a float": (lambda: dc.Names(models={1.0: "a"}), BAD, "input.not_an_integer", {"field": "models"}),
    "an id that is a bool": (lambda: dc.Names(models={True: "a"}), BAD, "input.not_an_integer", {"value": True}),
    "names as a list": (lambda: dc.Names(models=["a"]), BAD, "input.wrong_type", {"field": "models", "value": ["a"]}),
    "enabled as None": (lambda: model(enabled=None), BAD, "input.wrong_type", {"field": "enabled", "value": None}),
    "an objective of None": (lambda: policy(objective=None), BAD, "input.wrong_type", {"field": "objective"}),
    "names of None": (lambda: dc.Names(models=None), BAD, "input.wrong_type", {"field": "models", "value": None}),
    # Requests.
    "a largest use below the expected": (
        lambda: request(max_output_tokens=19),
        BAD,
        "kernel.maximum_below_expected",
        {"field": "max_output_tokens", "value": 19},
    ),
    "quotes as a list": (lambda: request(quotes=[(7, 1)]), BAD, "input.wrong_type", {"field": "quotes"}),
    "a quote as a float": (
        lambda: request(quotes={7: 1.0}),
        BAD,
        "input.not_an_integer",
        {"field": "quotes", "value": 1.0},
    ),
    "a negative quote": (lambda: request(quotes={7: -1}), BAD, "input.out_of_range", {"field": "quotes", "value": -1}),
    "a quote for model '7'": (
        lambda: request(quotes={"7": 1}),
        BAD,
        "input.not_an_integer",
        {"field": "quotes", "value": "7"},
    ),
    "a quote for model 2^32": (
        lambda: request(quotes={2**32: 1}),
        BAD,
        "input.out_of_range",
        {"field": "quotes", "value": 2**32},
    ),
    # Catalogs and guards.
    "None as models": (lambda: dc.Catalog(None), BAD, "catalog.wrong_type", {"field": "models", "value": None}),
    "a model as models": (lambda: dc.Catalog(OLD), BAD, "catalog.wrong_type", {"field": "models", "value": OLD}),
    "numbers as models": (lambda: dc.Catalog([OLD, 7]), BAD, "catalog.wrong_type", {"field": "models", "value": 7}),
    "a dict in place of names": (
        lambda: dc.Catalog([OLD], names={7: "a"}),
        BAD,
        "catalog.wrong_type",
        {"field": "names"},
    ),
    "limits as text": (lambda: dc.Catalog([OLD], limits="x"), BAD, "catalog.wrong_type", {"field": "limits"}),
    "where from as text": (
        lambda: dc.Catalog([OLD], provenance="x"),
        BAD,
        "catalog.wrong_type",
        {"field": "provenance", "value": "x"},
    ),
    "texts as rules": (lambda: dc.Guard(["x"]), BAD, "input.wrong_type", {"field": "rules", "value": "x"}),
    "text as rules": (lambda: dc.Guard("x"), BAD, "input.wrong_type", {"field": "rules", "value": "x"}),
    "None as rules": (lambda: dc.Guard(None), BAD, "input.wrong_type", {"field": "rules", "value": None}),
    "a rule as rules": (lambda: dc.Guard(RULE), BAD, "input.wrong_type", {"field": "rules", "value": RULE}),
    # Asking.
    "deciding a float": (lambda: policy().decide(1.5), BAD, "input.wrong_type", {"field": "request", "value": 1.5}),
    "the identity of nothing": (
        lambda: dc.identity(policy(), ORDINARY, None),
        BAD,
        "input.wrong_type",
        {"field": "decision", "value": None},
    ),
    "the identity of a float": (
        lambda: dc.identity(policy(), 1.5, None),
        BAD,
        "input.wrong_type",
        {"field": "request", "value": 1.5},
    ),
    "deciding a dict": (lambda: policy().decide(REQUEST), BAD, "input.wrong_type", {"field": "request"}),
    "deciding a short row": (lambda: policy().decide((1, 7, 10, 20)), BAD, "input.wrong_type", {"field": "request"}),
    "deciding a list": (lambda: policy().decide([*ROW]), BAD, "input.wrong_type", {"field": "request"}),
    "deciding a row with a float": (
        lambda: policy().decide((*ROW[:2], 10.0, *ROW[3:])),
        BAD,
        "input.not_an_integer",
        {"field": "input_tokens", "value": 10.0},
    ),
    "deciding a row with a bool": (
        lambda: policy().decide((*ROW[:12], True)),
        BAD,
        "input.not_an_integer",
        {"field": "required_region_mask", "value": True},
    ),
    "deciding a row with a large integer": (
        lambda: policy().decide((2**64, *ROW[1:])),
        BAD,
        "input.out_of_range",
        {"field": "request_sequence", "value": 2**64},
    ),
    "deciding a row with a large risk": (
        lambda: policy().decide((*ROW[:6], 10_001, *ROW[7:])),
        BAD,
        "kernel.out_of_range",
        {"field": "risk_bps", "value": 10_001},
    ),
    "counting a dict": (lambda: policy().decide_counted(REQUEST), BAD, "input.wrong_type", {"field": "request"}),
    "explaining None": (lambda: policy().explain(None), BAD, "input.wrong_type", {"field": "request", "value": None}),
    "holding for a text": (lambda: policy().hold("r"), BAD, "input.wrong_type", {"field": "request", "value": "r"}),
    "the margin of a list": (lambda: policy().margin([]), BAD, "input.wrong_type", {"field": "request", "value": []}),
    "what would win for a model that is not there": (
        lambda: policy().what_would_win(ORDINARY, model_id=9),
        dc.UnknownName,
        "kernel.unknown_model",
        {"field": "model_id", "value": 9},
    ),
    "the cost of a model that is not there": (
        lambda: policy().cost(model_id=9, input_tokens=1, output_tokens=1),
        dc.UnknownName,
        "kernel.unknown_model",
        {"field": "model_id", "value": 9},
    ),
    "the cost of a fraction of a token": (
        lambda: policy().cost(model_id=7, input_tokens=0.5, output_tokens=1),
        BAD,
        "input.not_an_integer",
        {"field": "input_tokens", "value": 0.5},
    ),
    "the utility of model True": (
        lambda: policy().utility(ORDINARY, model_id=True),
        BAD,
        "input.not_an_integer",
        {"field": "model_id", "value": True},
    ),
    # Bytes.
    "a policy from text": (lambda: dc.Policy.from_bytes("x"), BAD, "input.wrong_type", {"field": "data"}),
    "a policy from nothing": (lambda: dc.Policy.from_bytes(b""), BAD, "kernel.unreadable", {}),
    "a policy cut short": (lambda: dc.Policy.from_bytes(policy().to_bytes()[:-1]), BAD, "kernel.unreadable", {}),
    "a policy and a byte": (lambda: dc.Policy.from_bytes(policy().to_bytes() + b"\0"), BAD, "kernel.unreadable", {}),
    # Keys.
    "a short key": (lambda: dc.Key(b"x" * 31), BAD, "key.too_short", {}),
    "a key as text": (lambda: dc.Key("x" * 32), BAD, "input.wrong_type", {"field": "raw"}),
    "a key file that is not there": (lambda: dc.Key.from_file("/no/such/file"), BAD, "key.unreadable", {}),
    # Accounts.
    "an account twice": (lambda: ledger().open_account("acme", 1), dc.Conflict, "ledger.account_exists", {}),
    "an account without a name": (lambda: ledger().open_account("", 1), BAD, "ledger.invalid_name", {}),
    "an account with a long name": (lambda: ledger().open_account(LARGE, 1), BAD, "ledger.invalid_name", {}),
    "an account named by a number": (
        lambda: ledger().open_account(5, 1),
        BAD,
        "input.wrong_type",
        {"field": "account", "value": 5},
    ),
    "an account named by no Unicode": (
        lambda: ledger().open_account("\ud800", 1),
        BAD,
        "input.wrong_type",
        {"field": "account"},
    ),
    "a negative account": (lambda: ledger().open_account("b", -1), BAD, "ledger.invalid_amount", {}),
    "an account of 2^63": (
        lambda: ledger().open_account("b", 2**63),
        BAD,
        "input.out_of_range",
        {"field": "initial", "value": 2**63},
    ),
    "a negative cap": (lambda: ledger().set_cap("acme", -1), BAD, "ledger.invalid_amount", {}),
    "a cap as a float": (
        lambda: ledger().set_cap("acme", 1.0),
        BAD,
        "input.not_an_integer",
        {"field": "cap", "value": 1.0},
    ),
    "reserving less than nothing": (lambda: ledger().reserve("acme", -5), BAD, "ledger.invalid_amount", {}),
    "reserving a float": (
        lambda: ledger().reserve("acme", 5.0),
        BAD,
        "input.not_an_integer",
        {"field": "amount", "value": 5.0},
    ),
    "reserving True": (
        lambda: ledger().reserve("acme", True),
        BAD,
        "input.not_an_integer",
        {"field": "amount", "value": True},
    ),
    "topping up with nothing": (lambda: ledger().top_up("acme", 0), BAD, "ledger.invalid_amount", {}),
    "topping up too much": (lambda: ledger().top_up("acme", 2**63 - 1), BAD, "ledger.overflow", {}),
    "an account that is not there": (lambda: ledger().reserve("b", 1), dc.UnknownName, "ledger.unknown_account", {}),
    "the balance of no account": (lambda: ledger().balance("b"), dc.UnknownName, "ledger.unknown_account", {}),
    "topping up no account": (lambda: ledger().top_up("b", 1), dc.UnknownName, "ledger.unknown_account", {}),
    "capping no account": (lambda: ledger().set_cap("b", 1), dc.UnknownName, "ledger.unknown_account", {}),
    "settling twice": (settled_twice, dc.Conflict, "ledger.unknown_hold", {}),
    "settling what was denied": (settled_after_denial, dc.Conflict, "ledger.unknown_hold", {}),
    "committing less than nothing": (
        lambda: ledger().reserve("acme", 5).commit(-1),
        BAD,
        "ledger.invalid_amount",
        {},
    ),
    "committing NaN": (
        lambda: ledger().reserve("acme", 5).commit(math.nan),
        BAD,
        "input.not_an_integer",
        {"field": "actual"},
    ),
    # Snapshots.
    "a snapshot that is no JSON": (
        lambda: dc.LedgerSnapshot.from_json("{"),
        BAD,
        "ledger.invalid_snapshot",
        {},
    ),
    "a snapshot without members": (
        lambda: dc.LedgerSnapshot.from_json("{}"),
        BAD,
        "ledger.invalid_snapshot",
        {},
    ),
    "a snapshot as a dict": (lambda: dc.LedgerSnapshot.from_json(SNAPSHOT), BAD, "input.wrong_type", {}),
    "a snapshot with a version of -1": (lambda: snapshot(version=-1), BAD, "ledger.invalid_snapshot", {}),
    "a snapshot with a float": (lambda: snapshot(active_reservations=1.0), BAD, "ledger.invalid_snapshot", {}),
    "a snapshot with a member too many": (lambda: snapshot(more=1), BAD, "ledger.invalid_snapshot", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    """Each case by its own class, code and details."""
    call, kind, code, details = CASES[name]
    refused(call, kind, code, **details)


def test_a_snapshot_that_does_not_add_up_is_certified_as_such() -> None:
    """One unit more or less anywhere is noticed: a snapshot is evidence, so it is read and the certificate says it."""
    balanced = vectors.lines("ledgers.jsonl")[4]["snapshot"]
    assert dc.LedgerSnapshot.from_json(json.dumps(balanced)).certificate()["conservation_balanced"]
    for part in ("initial", "remaining", "reserved", "committed"):
        for difference in (-1, 1):
            changed = json.loads(json.dumps(balanced))
            changed["tenants"][1][f"{part}_microcents"] += difference
            certificate = dc.LedgerSnapshot.from_json(json.dumps(changed)).certificate()
            assert not certificate["conservation_balanced"]


@pytest.mark.parametrize("build", [model, request, policy])
def test_an_argument_that_does_not_exist_is_a_type_error(build: Callable[..., object]) -> None:
    """As for any Python call."""
    with pytest.raises(TypeError):
        build(no_such_argument=1)
    with pytest.raises(TypeError):
        dc.Model(7, 8_000, 1, 1)
    with pytest.raises(TypeError):
        dc.Request(10, 20)


def test_a_refused_operation_changes_nothing() -> None:
    """After every refusal of the table a ledger is as it was."""
    used = ledger()
    hold = used.reserve("acme", 100)
    before = used.snapshot().to_json()
    for call in (
        lambda: used.open_account("acme", 5),
        lambda: used.reserve("acme", -1),
        lambda: used.reserve("acme", 2**70),
        lambda: used.top_up("acme", 0),
        lambda: used.set_cap("acme", -1),
        lambda: hold.commit(-1),
        lambda: hold.commit(1.5),
    ):
        with pytest.raises(dc.DecidableError):
            call()
        assert used.snapshot().to_json() == before
    hold.release()
    assert used.balance("acme").remaining == 1_000


# --- batches ----------------------------------------------------------------------------------------------------------


def rows(count: int) -> np.ndarray:
    made = np.zeros(count, dtype=dc.REQUEST_DTYPE)
    made["request_sequence"] = np.arange(count)
    made["confidence_bps"] = 10_000
    made["business_value_microunits"] = 1_000 + np.arange(count)
    made["budget_limit_microunits"] = U64
    made["allowed_provider_mask"] = U64
    return made


def test_a_row_of_an_array_is_a_request() -> None:
    """As it stands in an array or as a tuple; any other row is refused in words that say which will do."""
    made = rows(2)
    made["input_tokens"] = 20
    one = policy()
    assert [one.decide(row) for row in made] == [one.decide(row) for row in made.tolist()]
    assert one.explain(made[1]) == one.explain(made[1].item())
    with pytest.raises(
        dc.InvalidInput, match=r"a tuple of the 13 fields of REQUEST_DTYPE, as \.tolist\(\) gives, not of 2"
    ):
        one.decide((1, 2))
    for wrong in (np.zeros(1, dc.DECISION_DTYPE)[0], np.void(b"x"), made, [1], None):
        with pytest.raises(dc.InvalidInput, match=r"a row of REQUEST_DTYPE, or a tuple of its fields") as caught:
            one.decide(wrong)
        assert caught.value.code == "input.wrong_type"


def test_a_message_says_what_is_wrong_with_a_text() -> None:
    """Not that a str is no str."""
    with pytest.raises(dc.InvalidInput, match="account must be valid Unicode, which a str with a surrogate"):
        ledger().open_account("\ud800", 1)
    with pytest.raises(dc.InvalidInput, match="account must be a str, not int"):
        ledger().open_account(5, 1)  # type: ignore[arg-type]


def test_a_message_says_what_is_wrong_with_quotes() -> None:
    """Which part of them; and of a list, what is in it."""
    for quotes, message in (
        ({"a": 1}, "quotes: a model_id must be an int, not str"),
        ({7: "a"}, "quotes: the cost for model 7 must be an int, not str"),
        ({7: -1}, "quotes: the cost for model 7 is -1, outside 0 to 2^64 - 1"),
        ({Index(7): 1, Index(7): 2}, "two quotes for model 7"),
    ):
        with pytest.raises(dc.InvalidInput) as caught:
            request(quotes=quotes)
        assert str(caught.value) == message
        assert caught.value.field == "quotes"
    with pytest.raises(dc.InvalidInput, match=r"^rules must be a sequence of Rule, not of str$"):
        dc.Guard([RULE, "x"])  # type: ignore[list-item]


def wrong_dtypes() -> Iterator[np.dtype]:
    described = dc.REQUEST_DTYPE.descr
    yield np.dtype(np.float64)
    yield np.dtype("V70")
    yield np.dtype((np.void, 70))
    yield np.dtype("S70")
    yield np.dtype(described[:-1])
    yield np.dtype([*described, ("more", "<u4")])
    yield np.dtype(described[::-1])
    yield np.dtype([("renamed", "<u8"), *described[1:]])
    yield np.dtype([(name, kind.replace("<u8", "<i8")) for name, kind in described])
    yield np.dtype([(name, kind.replace("<u2", "<f2")) for name, kind in described])
    yield np.dtype(described, align=True)
    yield dc.REQUEST_DTYPE.newbyteorder(">")
    yield dc.DECISION_DTYPE


@pytest.mark.parametrize("dtype", list(wrong_dtypes()), ids=lambda dtype: str(dtype)[:40])
def test_an_array_of_another_dtype_is_refused(dtype: np.dtype) -> None:
    """Other fields, widths, order, padding or byte order: nothing is reinterpreted or converted."""
    refused(
        lambda: policy().decide_batch(np.zeros(3, dtype=dtype)), dc.InvalidInput, "batch.wrong_dtype", field="requests"
    )


@pytest.mark.parametrize("array", [rows(6).reshape(2, 3), rows(6).reshape(6, 1), np.array(rows(1)[0])])
def test_an_array_of_another_shape_is_refused(array: np.ndarray) -> None:
    """A batch has one dimension."""
    refused(lambda: policy().decide_batch(array), dc.InvalidInput, "batch.wrong_dtype", field="requests")


@pytest.mark.parametrize("value", [None, [], [1, 2], rows(3).tolist(), b"x" * 70, memoryview(b"x" * 70), 5, "rows"])
def test_what_is_no_array_is_refused(value: object) -> None:
    """A list of tuples is not converted silently."""
    refused(lambda: policy().decide_batch(value), dc.InvalidInput, "input.wrong_type", field="requests", value=value)
    with pytest.raises(dc.InvalidInput, match=r"a NumPy array of REQUEST_DTYPE, or a table with __arrow_c_stream__"):
        policy().decide_batch(value)


@pytest.mark.parametrize("threads", [0, -1, 65_536, 2**40])
def test_a_number_of_threads_has_a_range(threads: int) -> None:
    """One error for every number outside of it, which names it."""
    for call in (policy().decide_batch, dc.digest_batch):
        refused(
            lambda call=call: call(rows(3), threads=threads),
            BAD,
            "input.out_of_range",
            field="threads",
            value=threads,
        )
    with pytest.raises(BAD, match=f"^threads is {threads}, outside 1 to 65,535$"):
        policy().decide_batch(rows(3), threads=threads)


@pytest.mark.parametrize("threads", [1.0, True, "2"])
def test_a_number_of_threads_is_an_integer(threads: object) -> None:
    """None lets the batch choose."""
    refused(lambda: policy().decide_batch(rows(3), threads=threads), BAD, "input.not_an_integer", field="threads")
    assert len(policy().decide_batch(rows(3), threads=np.int64(2))) == 3


@pytest.mark.parametrize("field", ["risk_bps", "confidence_bps", "minimum_quality_bps"])
@pytest.mark.parametrize("row", [0, 1, 4_999, 69_999])
def test_a_row_with_a_proportion_above_the_whole_is_refused_by_number(field: str, row: int) -> None:
    """The first such row is named with its field and value, whatever the number of threads."""
    requests = rows(70_000)
    requests[field][row] = 10_001
    requests[field][min(row + 1, 69_999)] = 10_001
    for threads in (1, 3, None):
        refused(
            lambda threads=threads: policy().decide_batch(requests, threads=threads),
            dc.InvalidInput,
            "kernel.out_of_range",
            row=row,
            field=field,
            value=10_001,
        )
    requests[field] = 10_000
    assert len(policy().decide_batch(requests)) == 70_000


def test_arrays_that_are_not_contiguous_are_decided_as_their_values() -> None:
    """A step, a reversal, a field of a larger record and a read-only array hold the same requests as a copy of them."""
    whole = rows(1_000)
    expected = policy().decide_batch(whole)
    assert expected.tobytes() == policy().decide_batch(whole.copy()).tobytes()
    assert np.array_equal(policy().decide_batch(whole[::2]), expected[::2])
    assert np.array_equal(policy().decide_batch(whole[::-1]), expected[::-1])
    assert np.array_equal(policy().decide_batch(whole[10:10]), expected[10:10])
    column = np.zeros((1_000, 3), dtype=dc.REQUEST_DTYPE)
    column[:, 1] = whole
    assert np.array_equal(policy().decide_batch(column[:, 1]), expected)
    wider = np.zeros(1_000, dtype=[("before", "u1"), ("request", dc.REQUEST_DTYPE)])
    wider["request"] = whole
    assert np.array_equal(policy().decide_batch(wider["request"]), expected)
    repeated = np.broadcast_to(whole[:1], 50)
    assert np.array_equal(policy().decide_batch(repeated), np.repeat(expected[:1], 50))
    whole.flags.writeable = False
    assert np.array_equal(policy().decide_batch(whole), expected)
    assert np.array_equal(policy().decide_batch(whole.view(np.recarray)), expected)


def test_an_empty_batch_has_an_empty_answer() -> None:
    """Of the right dtype."""
    found = policy().decide_batch(rows(0))
    assert found.shape == (0,)
    assert found.dtype == dc.DECISION_DTYPE


# --- the exceptions themselves ----------------------------------------------------------------------------------------


def test_an_error_has_no_secret(tmp_path: Path) -> None:
    """A key or a salt as what it is not: an error is logged with all that it has."""
    guard = dc.Guard([dc.Rule.literal("a")])
    audit = tmp_path / "a.audit"
    for said in (b"a secret of nobody" * 2, "a secret of nobody" * 2, bytearray(b"a secret of nobody" * 2)):
        for call in (
            lambda said=said: dc.Engine.open(tmp_path / "log", policy=policy(), key=said),
            lambda said=said: dc.verify(tmp_path, key=said),
            lambda said=said: list(dc.read(tmp_path, key=said)),
            lambda said=said: guard.monitor(audit=audit, key=said),
            lambda said=said: guard.monitor(audit=audit, salt=said),
            lambda said=said: dc.verify_audit(audit, key=said),
            lambda said=said: dc.Key(said if not isinstance(said, bytes) else [said]),
        ):
            with pytest.raises(dc.InvalidInput) as caught:
                call()
            assert caught.value.code == "input.wrong_type"
            assert "secret" not in f"{caught.value} {caught.value.details!r} {pickle.dumps(caught.value)!r}"
    assert not audit.exists()


def test_the_tree_of_exceptions() -> None:
    """One root, and the builtin classes that a caller may expect."""
    assert issubclass(dc.InvalidInput, (dc.DecidableError, ValueError))
    assert issubclass(dc.UnknownName, LookupError)
    for kind in (dc.InvalidInput, dc.UnknownName, dc.Refused, dc.Conflict, dc.LogUnavailable, dc.VerificationError):
        assert issubclass(kind, dc.DecidableError)
    with pytest.raises(ValueError, match="risk_bps"):
        request(risk_bps=10_001)


def test_an_exception_survives_pickling() -> None:
    """Worker processes can hand it back with its code and details."""
    with pytest.raises(dc.InvalidInput) as caught:
        request(risk_bps=10_001)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is dc.InvalidInput
    assert (again.code, again.details, str(again)) == (caught.value.code, caught.value.details, str(caught.value))
    assert not hasattr(again, "no_such_detail")
