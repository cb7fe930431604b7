"""Values as people write them are read exactly, or refused with a code, the field and the value."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import decidable as dc
from decidable import builders
from decidable.catalog import Catalog

U32, U64 = 2**32 - 1, 2**64 - 1
I64 = 2**63 - 1

READ: dict[str, tuple[Callable[..., int], Any, int]] = {
    "percent": (builders.proportion, "70%", 7_000),
    "percent with a fraction": (builders.proportion, "0.05 %", 5),
    "percent in words": (builders.proportion, "12.5 percent", 1_250),
    "basis points": (builders.proportion, "7000bps", 7_000),
    "nothing at all": (builders.proportion, "0%", 0),
    "everything": (builders.proportion, "100%", 10_000),
    "milliseconds": (builders.milliseconds, "900ms", 900),
    "seconds": (builders.milliseconds, "2s", 2_000),
    "a fraction of a second": (builders.milliseconds, "1.5 s", 1_500),
    "minutes": (builders.milliseconds, "15m", 900_000),
    "hours": (builders.milliseconds, "1h", 3_600_000),
    "whole seconds": (builders.seconds, "15m", 900),
    "seconds from milliseconds": (builders.seconds, "2000ms", 2),
    "a number of tokens": (builders.tokens, 1_200, 1_200),
    "tokens as text": (builders.tokens, "1_200", 1_200),
    "thousands of tokens": (builders.tokens, "4k", 4_000),
    "a fraction of thousands": (builders.tokens, "1.5k", 1_500),
    "millions of tokens": (builders.tokens, "1M", 1_000_000),
    "the most tokens": (builders.tokens, U32, U32),
    "a price by the million": (builders.rate, "0.25", 250_000),
    "a price as a decimal": (builders.rate, Decimal("0.25"), 250_000),
    "a price by the token": (builders.rate_per_token, Decimal("2.5E-7"), 250_000),
    "a price that needs rounding": (builders.rate_per_token, Decimal("1E-13"), 1),
    "a price of noise": (builders.rate_per_token, Decimal("0.0000029999900000000002"), 2_999_991),
    "a price of nothing": (builders.rate_per_token, 0, 0),
}


@pytest.mark.parametrize("case", READ)
def test_a_value_is_read(case: str) -> None:
    """Units and decimals become the kernel's integers."""
    read, written, expected = READ[case]
    assert read(written, field="f") == expected


MONEY = {
    ("0.02", "down"): 20_000,
    ("0.0000019", "down"): 1,
    ("0.0000019", "up"): 2,
    ("-0.0000019", "down"): -2,
    ("-0.0000019", "up"): -1,
    ("1e-7", "down"): 0,
    ("1e-7", "up"): 1,
    ("25.00", "down"): 25_000_000,
    ("20000 microunits", "down"): 20_000,
    ("1 microunit", "up"): 1,
    ("0.5 microunits", "up"): 1,
    (Decimal("9223372036854.775807"), "down"): I64,
}


@pytest.mark.parametrize(("written", "rounding"), MONEY)
def test_money_rounds_against_whoever_it_would_favour(written: Any, rounding: Any) -> None:
    """What may be spent rounds down, what is owed rounds up."""
    read = builders.microunits(written, field="f", rounding=rounding, least=-(2**63))
    assert read == MONEY[written, rounding]


REFUSED: dict[str, tuple[Callable[..., int], Any, str]] = {
    "a proportion of unknown unit": (builders.proportion, "70", "builders.missing_unit"),
    "a proportion as a number": (builders.proportion, 70, "builders.wrong_type"),
    "a proportion as a float": (builders.proportion, 0.7, "builders.wrong_type"),
    "a proportion as a decimal": (builders.proportion, Decimal("0.7"), "builders.missing_unit"),
    "a proportion as a truth": (builders.proportion, True, "builders.wrong_type"),
    "half a basis point": (builders.proportion, "0.005%", "builders.inexact"),
    "more than everything": (builders.proportion, "100.01%", "builders.out_of_range"),
    "less than nothing": (builders.proportion, "-1%", "builders.out_of_range"),
    "a proportion in words": (builders.proportion, "most", "builders.unreadable"),
    "no proportion": (builders.proportion, None, "builders.wrong_type"),
    "a duration of unknown unit": (builders.milliseconds, "900", "builders.missing_unit"),
    "a duration in days": (builders.milliseconds, "1d", "builders.missing_unit"),
    "a duration as a number": (builders.milliseconds, 900, "builders.wrong_type"),
    "half a millisecond": (builders.milliseconds, "0.5ms", "builders.inexact"),
    "half a second": (builders.seconds, "500ms", "builders.inexact"),
    "a duration of years": (builders.milliseconds, "9000h", "builders.out_of_range"),
    "half a token": (builders.tokens, "0.5", "builders.inexact"),
    "fewer than no tokens": (builders.tokens, -1, "builders.out_of_range"),
    "too many tokens": (builders.tokens, U32 + 1, "builders.out_of_range"),
    "tokens as a float": (builders.tokens, 1200.0, "builders.wrong_type"),
    "tokens as a truth": (builders.tokens, True, "builders.wrong_type"),
    "tokens as a decimal": (builders.tokens, Decimal(1), "builders.wrong_type"),
    "tokens in dozens": (builders.tokens, "3dz", "builders.unreadable"),
    "a price as a float": (builders.rate, 0.25, "builders.wrong_type"),
    "a price as a number": (builders.rate, 3, "builders.wrong_type"),
    "a price in dollars": (builders.rate, "$3", "builders.unreadable"),
    "a price in euros": (builders.rate, "3 eur", "builders.unreadable"),
    "a price that is no number": (builders.rate, Decimal("NaN"), "builders.unreadable"),
    "an infinite price": (builders.rate, Decimal("Infinity"), "builders.unreadable"),
    "a price beyond everything": (builders.rate, Decimal("1E+999999"), "builders.out_of_range"),
    "a price next to nothing": (builders.rate, Decimal("1E-999999"), "builders.out_of_range"),
    "a price below nothing": (builders.rate_per_token, Decimal(-1), "builders.out_of_range"),
    "a price by the token as a float": (builders.rate_per_token, 2.5e-7, "builders.wrong_type"),
    "a price by the token as text": (builders.rate_per_token, "2.5e-7", "builders.wrong_type"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused(case: str) -> None:
    """The error has a code, the field and the value, and its message names both."""
    read, written, code = REFUSED[case]
    with pytest.raises(dc.InvalidInput) as caught:
        read(written, field="some_field")
    assert caught.value.code == code
    assert caught.value.field == "some_field"
    assert caught.value.value is written
    assert "some_field" in str(caught.value)
    assert ascii(written)[:20] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hostile_text_is_shown_escaped_and_short() -> None:
    """What stands in an error message cannot move the cursor of a terminal or fill its screen."""
    with pytest.raises(dc.InvalidInput) as caught:
        builders.proportion("\x1b[2J" + "9" * 10_000, field="risk")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_money_is_refused_out_of_its_range_only() -> None:
    """The largest amounts are read, and the next one is not."""
    assert builders.microunits(Decimal(I64).scaleb(-6), field="f", rounding="down") == I64
    for over in ("9223372036854.775808", "-0.000001", "1" + "0" * 59):
        with pytest.raises(dc.InvalidInput) as caught:
            builders.microunits(over, field="f", rounding="up")
        assert caught.value.code == "builders.out_of_range"


@given(st.integers(-(10**30), 10**30), st.integers(-25, 5), st.sampled_from(["down", "up"]))
def test_money_is_read_exactly(digits: int, exponent: int, rounding: Any) -> None:
    """No digit is lost, at any scale, and the remainder goes where it is said to go."""
    amount = Fraction(digits) * Fraction(10) ** (exponent + 6)
    expected = -((-amount) // 1) if rounding == "up" else amount // 1
    read = builders.microunits(
        Decimal((0 if digits >= 0 else 1, tuple(map(int, str(abs(digits)))), exponent)),
        field="f", rounding=rounding, least=-(10**50), most=10**50,
    )  # fmt: skip
    assert read == expected


@given(st.integers(0, 10_000))
def test_every_proportion_can_be_written_in_percent(bps: int) -> None:
    """Percent with two decimals reach every basis point."""
    assert builders.proportion(f"{bps // 100}.{bps % 100:02d}%", field="f") == bps
    assert builders.proportion(f"{bps}bps", field="f") == bps


@given(st.integers(-(2**63), 2**63 - 1))
def test_currency_units_are_the_way_back(amount: int) -> None:
    """What is shown is what was read."""
    shown = builders.currency_units(amount)
    assert builders.microunits(shown, field="f", rounding="down", least=-(2**63)) == amount
    assert builders.microunits(str(shown), field="f", rounding="up", least=-(2**63)) == amount


# --- limits, policies and requests --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """Two models of two providers, in two regions."""
    prices = {
        "input_cost_microunits_per_million_tokens": 250_000,
        "output_cost_microunits_per_million_tokens": 2_000_000,
    }
    return Catalog(
        [
            dc.Model(model_id=1, provider_id=0, quality_bps=7_100, p95_latency_ms=2_100, capabilities=1, **prices),
            dc.Model(model_id=2, provider_id=1, quality_bps=9_100, p95_latency_ms=6_000, capabilities=3, **prices),
        ],
        names=dc.Names(
            models={1: "mini", 2: "large"},
            providers={0: "openai", 1: "anthropic"},
            regions={0: "us", 5: "eu"},
            capabilities={0: "vision", 1: "reasoning"},
        ),
        limits={"hard_risk_limit": "96%"},
    )


def test_limits_are_read_in_either_spelling() -> None:
    """People's names and the specification's give the same fields."""
    friendly = {
        "hard_risk_limit": "96%",
        "minimum_confidence": "55%",
        "risk_penalty": "350%",
        "latency_penalty": "0.000002",
    }
    exact = {
        "hard_risk_limit_bps": 9_600,
        "minimum_confidence_bps": 5_500,
        "risk_penalty_multiplier_bps": 35_000,
        "latency_penalty_microunits_per_ms": 2,
    }
    assert builders.limits(friendly) == builders.limits(exact) == exact


def test_a_limit_that_nobody_knows_is_refused_with_a_suggestion() -> None:
    """A misspelt limit must not be no limit."""
    with pytest.raises(dc.InvalidInput, match="did you mean hard_risk_limit") as caught:
        builders.limits({"hard_risk_limt": "96%"})
    assert caught.value.code == "builders.unknown_field"


def test_a_limit_in_both_spellings_is_refused() -> None:
    """Nobody has to guess which of the two holds."""
    with pytest.raises(dc.InvalidInput) as caught:
        builders.limits({"hard_risk_limit": "96%", "hard_risk_limit_bps": 9_000})
    assert caught.value.code == "builders.given_twice"


def test_a_policy_has_the_limits_of_its_file_and_the_changes_over_them(catalog: Catalog) -> None:
    """Changes win, whichever spelling they have."""
    assert catalog.policy().hard_risk_limit_bps == 9_600
    assert catalog.policy(hard_risk_limit_bps=9_000).hard_risk_limit_bps == 9_000
    assert builders.policy(catalog, hard_risk_limit="91%", objective="fastest").hard_risk_limit_bps == 9_100


def test_a_request_is_built_of_words(catalog: Catalog) -> None:
    """Names become numbers and bits, quantities become integers, and nothing else changes."""
    built = builders.request(
        catalog,
        model="large",
        input_tokens="1.2k",
        output_tokens=180,
        max_output_tokens=300,
        value="0.05",
        max_cost="0.02",
        risk="8%",
        confidence="90%",
        min_quality="70%",
        max_latency="2s",
        capabilities=["vision", "reasoning"],
        providers=["anthropic"],
        regions=["us", "eu"],
        quotes={"mini": "0.0000001"},
        sequence=3,
    )
    assert built == dc.Request(
        request_sequence=3,
        requested_model_id=2,
        input_tokens=1_200,
        output_tokens=180,
        max_output_tokens=300,
        business_value_microunits=50_000,
        budget_limit_microunits=20_000,
        risk_bps=800,
        confidence_bps=9_000,
        minimum_quality_bps=7_000,
        max_p95_latency_ms=2_000,
        required_capabilities=0b11,
        allowed_provider_mask=0b10,
        required_region_mask=0b10_0001,
        quotes={1: 1},
    )


def test_what_is_left_out_of_a_request_is_no_requirement(catalog: Catalog) -> None:
    """The defaults are the kernel's."""
    assert builders.request(catalog, input_tokens=10, output_tokens=20) == dc.Request(input_tokens=10, output_tokens=20)


def test_a_single_name_may_stand_without_a_list(catalog: Catalog) -> None:
    """``providers="openai"`` is not six providers of one letter."""
    built = builders.request(catalog, input_tokens=1, output_tokens=1, providers="openai", capabilities="vision")
    assert built.allowed_provider_mask == 0b01
    assert built.required_capabilities == 0b01


def test_the_least_latency_is_a_limit(catalog: Catalog) -> None:
    """Of one millisecond."""
    built = builders.request(catalog, input_tokens=1, output_tokens=1, max_latency="1ms")
    assert built.max_p95_latency_ms == 1


WRONG_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "nobody may serve it": ({"providers": []}, "builders.empty"),
    "it may be served nowhere": ({"regions": ()}, "builders.empty"),
    "a latency limit of nothing": ({"max_latency": "0ms"}, "builders.out_of_range"),
    "a budget below nothing": ({"max_cost": "-1"}, "builders.out_of_range"),
    "a largest size below the expected": ({"max_output_tokens": 10}, "builders.out_of_range"),
    "an unknown model": ({"model": "minni"}, "catalog.unknown_name"),
    "an unknown provider": ({"providers": ["opnai"]}, "catalog.unknown_name"),
    "an unknown region": ({"regions": ["uk"]}, "catalog.unknown_name"),
    "an unknown capability": ({"capabilities": ["vsion"]}, "catalog.unknown_name"),
    "an unknown quoted model": ({"quotes": {"minni": "1"}}, "catalog.unknown_name"),
    "a model by number": ({"model": 1}, "catalog.wrong_type"),
}


@pytest.mark.parametrize("case", WRONG_REQUESTS)
def test_a_request_that_says_the_opposite_of_what_is_meant_is_refused(case: str, catalog: Catalog) -> None:
    """An empty list would allow everything, a limit of zero would be none, a misspelt name would match nothing."""
    arguments, code = WRONG_REQUESTS[case]
    with pytest.raises(dc.DecidableError) as caught:
        builders.request(catalog, **{"input_tokens": 100, "output_tokens": 20, **arguments})
    assert caught.value.code == code


def test_an_unknown_name_comes_with_suggestions(catalog: Catalog) -> None:
    """The message shows what was probably meant."""
    with pytest.raises(dc.UnknownName, match="no model is named 'minni'; did you mean mini"):
        builders.request(catalog, model="minni", input_tokens=1, output_tokens=1)


def test_any_vocabulary_will_do() -> None:
    """The builders ask for methods, not for a class."""
    words = SimpleNamespace(
        model_id={"a": 4}.__getitem__, capability_mask=lambda names: 0, provider_mask=sum, region_mask=sum, limits={}
    )
    assert builders.request(words, model="a", input_tokens=1, output_tokens=2).requested_model_id == 4
