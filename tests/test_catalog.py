"""Catalogs from objects, files, the price map and tables: exact prices, stable numbers, and errors that say where."""

import contextlib
import hashlib
import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import decidable as dc
from decidable import demo
from decidable.catalog import MODEL_FIELDS, UNKNOWN_LATENCY_MS, Catalog, documents, reader
from model import vectors

PRICES = {
    "sample_spec": {"input_cost_per_token": 0.0},
    "fallback_generalizations": {"rules": []},
    "mini": {
        "input_cost_per_token": 2.5e-07,
        "output_cost_per_token": 0.000002,
        "litellm_provider": "openai",
        "supports_vision": True,
        "supports_function_calling": True,
        "supports_audio_input": False,
    },
    "odd": {"input_cost_per_token": 1.0000000001e-12, "output_cost_per_token": 1e-13, "litellm_provider": "groq"},
    "regional": {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
        "litellm_provider": "vertex_ai",
        "supported_regions": ["us-central1", "global"],
    },
    "unpriced": {"litellm_provider": "nobody"},
    "half": {"input_cost_per_token": 1e-06},
    "by request": {"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06, "input_cost_per_request": 0.005},
    "free": {"input_cost_per_token": 0.0, "output_cost_per_token": 0},
    "half free": {"input_cost_per_token": 1e-06, "output_cost_per_token": 0},
    "long": {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 4e-06,
        "input_cost_per_token_above_200k_tokens": 2e-06,
        "output_cost_per_token_above_200k_tokens": 6e-06,
        "input_cost_per_token_above_200k_tokens_priority": 9e-06,
    },
    "odd step": {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06, "tiered_pricing": [5]},
    "nobody's": {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06, "litellm_provider": ""},
    "cached long": {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 4e-06,
        "cache_read_input_token_cost_above_200k_tokens": 2e-06,
    },
    "cached for an hour": {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 4e-06,
        "cache_creation_input_token_cost_above_1hr": 2e-06,
    },
    "stepped": {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 4e-06,
        "tiered_pricing": [{"input_cost_per_token": 3e-06, "output_cost_per_token": 4e-06, "range": [0, 256000.0]}],
    },
    "thinking": {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 4e-06,
        "output_cost_per_reasoning_token": 8e-06,
    },
    "not a table": 5,
}


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A small price map in a file."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES), encoding="utf-8")
    return path


def rates(catalog: Catalog, name: str) -> tuple[int, int]:
    """The two prices of a model."""
    model = catalog.model(name)
    return model.input_cost_microunits_per_million_tokens, model.output_cost_microunits_per_million_tokens


# --- from objects -------------------------------------------------------------------------------------------------

ONE = dc.Model(
    model_id=7,
    quality_bps=7_100,
    input_cost_microunits_per_million_tokens=250_000,
    output_cost_microunits_per_million_tokens=2_000_000,
)


def test_models_are_kept_in_the_order_of_their_numbers() -> None:
    """Whatever order they come in."""
    catalog = Catalog([ONE, ONE.replace(model_id=3)])
    assert [model.model_id for model in catalog.models] == [3, 7]
    assert len(catalog) == 2
    assert catalog.names is None
    assert catalog.model_name(3) == "3"
    assert repr(catalog) == "<Catalog of 2: 3, 7>"


@pytest.mark.parametrize(
    ("models", "code"),
    [
        ([], "catalog.empty"),
        ([ONE, ONE], "catalog.duplicate_id"),
        ([5], "catalog.wrong_type"),
        (["gpt-5-mini"], "catalog.wrong_type"),
    ],
)
def test_what_is_no_catalog_is_refused(models: list[Any], code: str) -> None:
    """None at all, two of a number, or something else."""
    with pytest.raises(dc.InvalidInput) as caught:
        Catalog(models)
    assert caught.value.code == code


def test_a_catalog_cannot_be_changed() -> None:
    """It is evidence of what was decided over."""
    catalog = Catalog([ONE], limits={"objective": "cheapest"}, provenance={"file": "x"})
    with pytest.raises(AttributeError):
        catalog.models = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        catalog.limits["objective"] = "fastest"  # type: ignore[index]
    with pytest.raises(TypeError):
        catalog.provenance["file"] = "y"  # type: ignore[index]


def test_names_have_numbers_and_bits() -> None:
    """Lookups go both ways, and an unknown name says what it may have meant."""
    catalog = demo.catalog()
    assert catalog.model_name(catalog.model_id("gpt-5-mini")) == "gpt-5-mini"
    assert catalog.model("gpt-5-mini").model_id == catalog.model_id("gpt-5-mini")
    assert catalog.region_mask(["us", "asia"]) == 0b101
    assert catalog.provider_mask([]) == 0
    with pytest.raises(dc.UnknownName, match="did you mean gpt-5-mini") as caught:
        catalog.model_id("gpt5-mini")
    assert caught.value.code == "catalog.unknown_name"
    assert (caught.value.kind, caught.value.name) == ("model", "gpt5-mini")
    with pytest.raises(dc.UnknownName, match="no region is named 'moon'"):
        catalog.region_mask(["moon"])


# --- the price map ------------------------------------------------------------------------------------------------


def test_prices_of_the_map_are_exact(prices: Path) -> None:
    """Dollars per token become microunits per million tokens, and what does not fit is rounded up."""
    catalog = Catalog.from_price_map(prices, models=["mini", "odd"])
    assert rates(catalog, "mini") == (250_000, 2_000_000)
    assert rates(catalog, "odd") == (2, 1)


def test_capabilities_provider_and_regions_come_from_the_map(prices: Path) -> None:
    """What is true there has a bit here; what is false has none."""
    catalog = Catalog.from_price_map(prices, models=["mini", "regional"])
    assert catalog.names is not None
    assert catalog.names.capabilities == {0: "function_calling", 1: "vision"}
    assert catalog.model("mini").capabilities == catalog.capability_mask(["vision", "function_calling"])
    assert catalog.names.providers == {0: "openai", 1: "vertex_ai"}
    assert catalog.model("regional").region_mask == catalog.region_mask(["us-central1", "global"])


def test_a_provider_without_a_name_is_none(prices: Path) -> None:
    """As one that is left out: it is unknown."""
    catalog = Catalog.from_price_map(prices, models=["mini", "nobody's"])
    assert catalog.names is not None
    assert sorted(catalog.names.providers.values()) == ["openai", "unknown"]


def test_what_the_map_does_not_know_fails_closed(prices: Path) -> None:
    """No quality, no region, and slower than every limit; and provenance says so."""
    catalog = Catalog.from_price_map(prices, models=["mini"])
    model = catalog.model("mini")
    assert (model.quality_bps, model.p95_latency_ms, model.region_mask) == (0, UNKNOWN_LATENCY_MS, 0)
    assert catalog.provenance["models"]["mini"]["unknown"] == ["quality", "p95"]
    policy = catalog.policy(objective="cheapest")
    open_request = dc.Request(input_tokens=10, output_tokens=10)
    assert policy.decide(open_request).selected_model_id == model.model_id
    for demand in ({"minimum_quality_bps": 1}, {"max_p95_latency_ms": 2**32 - 2}, {"required_region_mask": 2**64 - 1}):
        assert policy.decide(open_request.replace(**demand)).selected_model_id is None


def test_the_map_is_named_by_its_digest(prices: Path) -> None:
    """Whoever reads the log later knows which prices were meant."""
    catalog = Catalog.from_price_map(prices, models=["mini"])
    assert catalog.provenance["price_map"] == {
        "file": "prices.json",
        "sha256": hashlib.sha256(prices.read_bytes()).hexdigest(),
    }
    assert catalog.provenance["models"]["mini"]["prices"] == {"price_map": "mini"}


REFUSED_PRICES = {
    "unpriced": "catalog.unpriced",
    "half": "catalog.unpriced",
    "by request": "catalog.unpriced",
    "free": "catalog.zero_priced",
    "half free": "catalog.zero_priced",
    "long": "catalog.tiered_price",
    "cached long": "catalog.tiered_price",
    "stepped": "catalog.tiered_price",
    "thinking": "catalog.tiered_price",
    "not a table": "catalog.wrong_type",
    "sample_spec": "catalog.unknown_price",
    "fallback_generalizations": "catalog.unknown_price",
    "nothing": "catalog.unknown_price",
}


@pytest.mark.parametrize("key", REFUSED_PRICES)
def test_a_price_that_would_mislead_is_refused(key: str, prices: Path) -> None:
    """Nothing is routed to a model because its price is missing, zero, or only the first of several."""
    with pytest.raises(dc.DecidableError) as caught:
        Catalog.from_price_map(prices, models=[key])
    assert caught.value.code == REFUSED_PRICES[key]
    assert key in str(caught.value)


def test_a_price_that_would_mislead_can_be_chosen(prices: Path) -> None:
    """Free models by saying so, tiered ones at the tier that is named."""
    assert rates(Catalog.from_price_map(prices, models=["free"], free=True), "free") == (0, 0)
    base = Catalog.from_price_map(prices, models=["long", "stepped", "thinking"], tiered="base")
    assert [rates(base, name) for name in ("long", "stepped", "thinking")] == [(1_000_000, 4_000_000)] * 3
    highest = Catalog.from_price_map(prices, models=["long", "stepped", "thinking"], tiered="highest")
    assert rates(highest, "long") == (2_000_000, 6_000_000)
    assert rates(highest, "stepped") == (3_000_000, 4_000_000)
    assert rates(highest, "thinking") == (1_000_000, 8_000_000)
    assert highest.provenance["models"]["long"]["prices"] == {"price_map": "long", "tiered": "highest"}
    assert len(Catalog.from_price_map(prices, models="mini")) == 1
    with pytest.raises(dc.InvalidInput, match=r"odd step.* has a tier that is not a table") as caught:
        Catalog.from_price_map(prices, models=["odd step"], tiered="highest")
    assert caught.value.code == "catalog.wrong_type"
    with pytest.raises(dc.InvalidInput, match="tiered must be"):
        Catalog.from_price_map(prices, models=["long"], tiered="lowest")  # type: ignore[arg-type]


def test_a_longer_life_of_the_cache_is_no_tier(prices: Path) -> None:
    """Only a threshold in tokens makes the price of a token depend on the prompt."""
    catalog = Catalog.from_price_map(prices, models=["cached for an hour"])
    assert rates(catalog, "cached for an hour") == (1_000_000, 4_000_000)


def test_models_of_the_map_can_be_named_and_described(prices: Path) -> None:
    """With a key of the map, or with a table as in models.toml."""
    catalog = Catalog.from_price_map(
        prices,
        models={"small": "mini", "other": {"price": "odd", "quality": "71%", "p95": "2.1s", "provider": "us"}},
        limits={"hard_risk_limit": "96%"},
    )
    assert rates(catalog, "small") == (250_000, 2_000_000)
    assert (catalog.model("other").quality_bps, catalog.model("other").p95_latency_ms) == (7_100, 2_100)
    assert catalog.provider_mask(["us"]) == 1 << catalog.model("other").provider_id
    assert catalog.policy().hard_risk_limit_bps == 9_600


def test_a_map_in_memory_must_hold_decimals() -> None:
    """A map that was read through floats has lost its last digits already."""
    exact = {"mini": {"input_cost_per_token": Decimal("2.5e-07"), "output_cost_per_token": Decimal("0.000002")}}
    assert rates(Catalog.from_price_map(exact, models=["mini"]), "mini") == (250_000, 2_000_000)
    with pytest.raises(dc.InvalidInput, match="parse_float=Decimal") as caught:
        Catalog.from_price_map(PRICES, models=["mini"])
    assert caught.value.code == "builders.wrong_type"


# --- files --------------------------------------------------------------------------------------------------------


def load(folder: Path, text: str, name: str = "models.toml") -> Catalog:
    """The catalog that a text describes."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return Catalog.load(path)


def test_a_file_that_a_person_writes(tmp_path: Path, prices: Path) -> None:
    """Limits, prices from the map and by hand, defaults, what is assumed and why."""
    catalog = load(
        tmp_path,
        f"""
        [policy]
        objective = "utility"
        hard_risk_limit = "96%"
        latency_penalty = "0.000002"

        [prices]
        map = "prices.json"
        sha256 = "{hashlib.sha256(prices.read_bytes()).hexdigest()}"
        source = "made for a test"

        [defaults]
        regions = ["us", "eu"]
        quality = "50%"
        why = "not measured"

        [[models]]
        name = "mini"
        quality = "71%"
        why = "our own questions, March"
        p95 = "2.1s"

        [[models]]
        name = "own"
        input = "0.10"
        output = 0.4
        provider = "ourselves"
        capabilities = ["vision"]
        regions = ["eu"]
        risk_ceiling = "60%"
        enabled = false
        """,
    )
    mini, own = catalog.model("mini"), catalog.model("own")
    assert (mini.model_id, own.model_id) == (1, 2)
    assert catalog.limits == {
        "objective": "utility", "hard_risk_limit_bps": 9_600, "latency_penalty_microunits_per_ms": 2
    }  # fmt: skip
    assert (mini.quality_bps, mini.p95_latency_ms, mini.region_mask) == (7_100, 2_100, 0b11)
    assert (own.quality_bps, own.region_mask, own.risk_ceiling_bps, own.enabled) == (5_000, 0b10, 6_000, False)
    assert rates(catalog, "own") == (100_000, 400_000)
    assert own.capabilities == catalog.capability_mask(["vision"])
    origins = catalog.provenance["models"]
    assert origins["mini"] == {"prices": {"price_map": "mini"}, "quality": "our own questions, March"}
    assert origins["own"] == {"prices": "written", "quality": "not measured", "unknown": ["p95"]}
    assert catalog.provenance["price_map"]["source"] == "made for a test"
    assert catalog.provenance["file"] == "models.toml"
    assert catalog.provenance["sha256"] == hashlib.sha256((tmp_path / "models.toml").read_bytes()).hexdigest()


MODEL = 'input = "1"\noutput = "2"\n'


def test_a_default_is_for_what_a_model_leaves_out_in_either_spelling(tmp_path: Path) -> None:
    """And the reason of a default goes with it."""
    defaults = '[defaults]\nquality = "50%"\np95 = "1s"\nwhy = "not measured"\n'
    first = f'[[models]]\nname = "a"\nquality_bps = 7000\np95_latency_ms = 5\n{MODEL}'
    catalog = load(tmp_path, defaults + first + f'[[models]]\nname = "b"\n{MODEL}')
    a, b = catalog.model("a"), catalog.model("b")
    assert (a.quality_bps, a.p95_latency_ms) == (7_000, 5)
    assert (b.quality_bps, b.p95_latency_ms) == (5_000, 1_000)
    origins = catalog.provenance["models"]
    assert (origins["a"].get("quality"), origins["b"]["quality"]) == (None, "not measured")


def test_a_model_may_have_a_number_and_no_name(tmp_path: Path) -> None:
    """As `id` or as `model_id`."""
    catalog = load(tmp_path, f"[[models]]\nid = 7\n{MODEL}[[models]]\nmodel_id = 5\n{MODEL}")
    assert [model.model_id for model in catalog.models] == [5, 7]


def test_written_numbers_are_kept_and_the_others_are_the_smallest_free(tmp_path: Path) -> None:
    """Models from 1, bits from 0, in the order of appearance; appending changes no number."""
    text = f"""
    [[models]]
    name = "a"
    provider = "p"
    {MODEL}
    [[models]]
    name = "b"
    id = 1
    provider = "q"
    {MODEL}
    [[models]]
    name = "c"
    provider = "r"
    {MODEL}
    [names.providers]
    0 = "r"
    """
    catalog = load(tmp_path, text)
    assert {name: catalog.model_id(name) for name in "abc"} == {"a": 2, "b": 1, "c": 3}
    assert {name: catalog.model(name).provider_id for name in "abc"} == {"a": 1, "b": 2, "c": 0}
    longer = load(tmp_path, text + f'[[models]]\nname = "d"\nprovider = "s"\n{MODEL}')
    assert longer.models[:3] == catalog.models


def test_a_saved_catalog_is_the_same_catalog(tmp_path: Path) -> None:
    """With every number written down, the limits, and where it came from."""
    catalog = demo.catalog()
    catalog.save(tmp_path / "catalog.json")
    loaded = Catalog.load(tmp_path / "catalog.json")
    assert loaded == catalog
    assert hash(loaded) == hash(catalog)
    assert loaded != Catalog(catalog.models)
    assert loaded.policy().digest() == catalog.policy().digest()
    assert loaded.provenance["saved"] == catalog.provenance
    with pytest.raises(dc.InvalidInput, match=r"catalog\.json") as caught:
        catalog.save(tmp_path / "catalog.toml")
    assert caught.value.code == "catalog.wrong_suffix"
    with pytest.raises(dc.InvalidInput) as caught:
        catalog.save(tmp_path / "nowhere" / "catalog.json")
    assert caught.value.code == "catalog.unwritable"


def test_a_policy_in_json_is_a_catalog_with_limits(tmp_path: Path) -> None:
    """The reference's 48 policies, named as in docs/spec/decisions.md, have their digests."""
    for row in vectors.lines("policies.jsonl"):
        digest = row.pop("policy_digest")
        catalog = load(tmp_path, json.dumps(row), "policy.json")
        assert catalog.names is None
        assert catalog.policy().digest().hex() == digest
        assert json.loads(catalog.to_json())["models"] == row["models"]
        assert list(row["models"][0]) == list(MODEL_FIELDS)


def test_prices_without_a_key_are_those_of_the_models_name(tmp_path: Path, prices: Path) -> None:
    """A name of the map needs no second mention, and a name that it does not have is an error."""
    assert rates(load(tmp_path, '[prices]\nmap = "prices.json"\n[[models]]\nname = "mini"\n'), "mini") == (
        250_000,
        2 * 10**6,
    )
    with pytest.raises(dc.UnknownName, match=r"models.toml, line 3, .*minni.*did you mean mini") as caught:
        load(tmp_path, '[prices]\nmap = "prices.json"\n[[models]]\nname = "minni"\n')
    assert caught.value.code == "catalog.unknown_price"


# A text, the code, and what the message says of the place.
WRONG_FILES: dict[str, tuple[str, str, str]] = {
    "no table at all": ("", "catalog.empty", "models.toml, models:"),
    "enabled by a number that is neither": (
        f'[[models]]\nname = "a"\nenabled = 2\n{MODEL}',
        "input.wrong_type",
        "line 3, .*enabled",
    ),
    "a number for a name": (
        "[names.regions]\n0 = 5\n",
        "catalog.wrong_type",
        r"line 2, \[names.regions\], 0: must be a number = a name",
    ),
    "an unclosed bracket": ("[[models", "catalog.malformed", "models.toml: "),
    "an unknown table": ("[modells]\n", "catalog.unknown_key", "models.toml, modells: .* did you mean models"),
    "models by name": ("[models.a]\nx = 1\n", "catalog.wrong_type", r"models: must be a list: write \[\[models\]\]"),
    "a model that is no table": ("models = [5]\n", "catalog.wrong_type", r"\[\[models\]\]: must be a table"),
    "a nameless model": (f"[[models]]\n{MODEL}", "catalog.missing_key", r"line 1, \[\[models\]\], name:"),
    "an empty name": (f'[[models]]\nname = ""\n{MODEL}', "catalog.wrong_type", r"line 2, \[\[models\]\], name:"),
    "two of a name": (f'[[models]]\nname = "a"\n{MODEL}' * 2, "catalog.duplicate_name", r"line 6, .* 'a', name:"),
    "two of a number": (
        f'[[models]]\nname = "a"\nid = 1\n{MODEL}[[models]]\nname = "b"\nid = 1\n{MODEL}',
        "catalog.duplicate_id",
        "line 8, .*'b', id: another model has the number 1",
    ),
    "a number that is none": (f'[[models]]\nname = "a"\nid = "1"\n{MODEL}', "catalog.wrong_type", r"line 3, .* id:"),
    "a number of its own and another": (
        f'[names.models]\n2 = "a"\n[[models]]\nname = "a"\nid = 1\n{MODEL}',
        "catalog.duplicate_name",
        "line 5, .* id:",
    ),
    "a misspelt key": (f'[[models]]\nname = "a"\nqualty = "7%"\n{MODEL}', "catalog.unknown_key", "line 3, .*quality"),
    "a proportion without its unit": (
        f'[[models]]\nname = "a"\nquality = 70\n{MODEL}',
        "builders.wrong_type",
        r"line 3, .*'a': quality is 70",
    ),
    "a price without its unit": (
        '[[models]]\nname = "a"\ninput = 3\noutput = "2"\n',
        "builders.wrong_type",
        "line 3, .*: input is 3",
    ),
    "half a price": ('[[models]]\nname = "a"\ninput = "3"\n', "catalog.unpriced", "both input and output"),
    "no price": ('[[models]]\nname = "a"\n', "catalog.unpriced", "write input and output, or price"),
    "a price from no map": ('[[models]]\nname = "a"\nprice = "b"\n', "catalog.unpriced", r"line 3, .*no price map"),
    "a price from the map and by hand": (
        f'[prices]\nmap = "prices.json"\n[[models]]\nname = "a"\nprice = "mini"\n{MODEL}',
        "builders.given_twice",
        "line 5",
    ),
    "a price by number": (
        '[prices]\nmap = "prices.json"\n[[models]]\nname = "a"\nprice = 5\n',
        "catalog.wrong_type",
        "line 5, .*price",
    ),
    "free as a word": (
        '[prices]\nmap = "prices.json"\n[[models]]\nname = "free"\nfree = "yes"\n',
        "catalog.wrong_type",
        "line 5, .*free",
    ),
    "one thing in two spellings": (
        f'[[models]]\nname = "a"\nquality = "7%"\nquality_bps = 700\n{MODEL}',
        "builders.given_twice",
        "line 4, .*quality",
    ),
    "a provider as a list": (
        f'[[models]]\nname = "a"\nprovider = ["x"]\n{MODEL}',
        "catalog.wrong_type",
        "line 3, .*provider",
    ),
    "regions as a word": (
        f'[[models]]\nname = "a"\nregions = "eu"\n{MODEL}',
        "catalog.wrong_type",
        "line 3, .*regions",
    ),
    "capabilities of nothing": (
        f'[[models]]\nname = "a"\ncapabilities = [""]\n{MODEL}',
        "catalog.wrong_type",
        "line 3, .*capabilities",
    ),
    "a reason that is no text": (f'[[models]]\nname = "a"\nwhy = 3\n{MODEL}', "catalog.wrong_type", "line 3, .*why"),
    "a provider beyond the mask": (
        f'[[models]]\nname = "a"\nprovider_id = 70\n{MODEL}',
        "kernel.out_of_range",
        "line 3, .*provider_id",
    ),
    "more than all the quality": (
        f'[[models]]\nname = "a"\nquality_bps = 10001\n{MODEL}',
        "kernel.out_of_range",
        "line 3, .*quality_bps",
    ),
    "the number of nothing": (
        f'[[models]]\nname = "a"\nid = 0\n{MODEL}',
        "kernel.reserved_model_id",
        "line 3, .*id",
    ),
    "a provider below nothing": (
        f'[[models]]\nname = "a"\nprovider_id = -1\n{MODEL}',
        "input.out_of_range",
        "line 3, .*provider_id",
    ),
    "too many regions": (
        f'[[models]]\nname = "a"\nregions = {[str(n) for n in range(65)]}\n{MODEL}',
        "catalog.too_many_names",
        "64 regions",
    ),
    "an unknown limit": (
        '[policy]\nhard_risk = "9%"\n',
        "catalog.unknown_key",
        r"line 2, \[policy\], hard_risk: .*limit",
    ),
    "a limit without its unit": (
        "[policy]\nhard_risk_limit = 9600\n",
        "builders.wrong_type",
        r"line 2, \[policy\]: hard_risk_limit is 9600",
    ),
    "a limit twice": (
        'hard_risk_limit = "9%"\n[policy]\nhard_risk_limit_bps = 900\n',
        "builders.given_twice",
        r"line 3, \[policy\]",
    ),
    "a policy that is no table": ("policy = 5\n", "catalog.wrong_type", "line 1, policy"),
    "a map without a name": ('[prices]\nsource = "x"\n', "catalog.missing_key", r"\[prices\], map"),
    "a map that is no text": ("[prices]\nmap = 5\n", "catalog.wrong_type", r"line 2, \[prices\], map"),
    "a map that is not there": (
        '[prices]\nmap = "none.json"\n',
        "catalog.unreadable",
        r"line 2, \[prices\], map: .*none\.json cannot be read",
    ),
    "an objective that there is not": (
        '[policy]\nobjective = "best"\n',
        "kernel.unknown_objective",
        r'line 2, \[policy\]: objective is "best", which is none of',
    ),
    "a limit that is too high": (
        "[policy]\nhard_risk_limit_bps = 10001\n",
        "kernel.out_of_range",
        r"line 2, \[policy\]: hard_risk_limit_bps",
    ),
    "a price without a decimal point": (
        '[[models]]\nname = "a"\ninput = 1\noutput = 1.0\n',
        "builders.wrong_type",
        "line 3, .*it must be text such as .* or with a decimal point, as 1.0 in a file",
    ),
    "another map": (
        '[prices]\nmap = "prices.json"\nsha256 = "00"\n',
        "catalog.digest_mismatch",
        r"line 3, \[prices\], sha256",
    ),
    "names of no group": ("[names]\ncolours = {}\n", "catalog.unknown_key", r"line 2, \[names\], colours"),
    "names that are no table": ("[names]\nregions = 5\n", "catalog.wrong_type", r"line 2, \[names\], regions"),
    "names for names": ('[names.regions]\nus = "0"\n', "catalog.wrong_type", r"line 2, \[names.regions\], us"),
    "one name for two bits": (
        '[names.regions]\n0 = "us"\n1 = "us"\n',
        "catalog.duplicate_name",
        r"line 3, \[names.regions\], 1",
    ),
}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"models": [{"name": "a", "qualty": "7%"}]}, "entry 1 of models 'a', qualty: not a key"),
        ({"models": [{"name": "a", "input": "1", "output": "1"}, 5]}, "entry 2 of models: must be an object"),
        ({"models": {"a": {}}}, 'models: must be a list: write "models": [{"name": ...}, ...]'),
        ({"models": [{"name": "a", "price": "b"}]}, "price: no price map is named in prices"),
        ({"policy": 5}, "policy: must be an object"),
        ({"policy": {"hard_risk": "9%"}}, "policy, hard_risk: "),
        (
            {"names": {"regions": {"us": "0"}}, "models": [{"name": "a"}]},
            "names.regions, us: must be a number in quotes: a name in quotes",
        ),
    ],
)
def test_a_place_in_a_json_document_is_told_as_json_has_it(document: object, place: str, tmp_path: Path) -> None:
    """No `[[models]]`: whoever wrote JSON has not seen it."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(dc.InvalidInput) as raised:
        Catalog.load(path)
    assert re.fullmatch(rf"(.*/)?policy\.json, (entry 1 of models 'a', )?{re.escape(place)}.*", raised.value.message)
    assert "[[" not in raised.value.message
    assert "table" not in raised.value.message


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_file_that_cannot_be_used_says_where(case: str, tmp_path: Path, prices: Path) -> None:
    """The message has the file, the line, the table, the key and what is wrong, on one line."""
    assert prices.parent == tmp_path
    text, code, place = WRONG_FILES[case]
    if text and "models" not in text:
        text += f'[[models]]\nname = "a"\n{MODEL}'
    with pytest.raises(dc.DecidableError, match=place) as caught:
        load(tmp_path, text)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.decimals(), st.floats(), st.text(max_size=5),
    st.sampled_from(["70%", "2s", "0.25", "mini", "base", "cheapest", [], {}, ["eu"], {"0": "us"}]),
)  # fmt: skip
KEYS = ["name", "id", "price", "quality", "p95", "input", "output", "free", "tiered", "why", "regions", *MODEL_FIELDS]
TABLES = ["policy", "prices", "defaults", "models", "names", "provenance", "objective", "hard_risk_limit", "elsewhere"]


@given(
    st.dictionaries(st.sampled_from(TABLES), st.one_of(JUNK, st.dictionaries(st.sampled_from(KEYS), JUNK)), max_size=4),
    st.lists(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=8), max_size=3),
)
def test_no_document_causes_anything_but_a_catalog_or_a_typed_error(document: Any, models: Any) -> None:
    """Whatever stands under whatever key."""
    with contextlib.suppress(dc.DecidableError):
        contents = reader.contents({"models": models, **document}, documents.Place("x"), Path("nowhere"))
        Catalog(contents.models, names=contents.names, limits=contents.limits, provenance=contents.provenance)


WRONG_BYTES = {
    "not UTF-8": ("models.toml", b"\xff", "catalog.malformed"),
    "not JSON": ("policy.json", b"{", "catalog.malformed"),
    "a list": ("policy.json", b"[]", "catalog.malformed"),
    "a key twice": ("policy.json", b'{"models": [], "models": []}', "catalog.malformed"),
    "not a number": ("policy.json", b'{"models": [NaN]}', "catalog.malformed"),
    "a bottomless file": ("policy.json", b"[" * 100_000, "catalog.malformed"),
    "an endless number": ("policy.json", b'{"models": ' + b"9" * 10_000 + b"}", "catalog.malformed"),
    "an endless number in TOML": ("models.toml", b"models = " + b"9" * 10_000, "catalog.malformed"),
}


@pytest.mark.parametrize("case", WRONG_BYTES)
def test_bytes_that_are_no_document_are_refused(case: str, tmp_path: Path) -> None:
    """Whatever a file holds, the answer is one typed error."""
    name, raw, code = WRONG_BYTES[case]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(dc.InvalidInput, match=name) as caught:
        Catalog.load(tmp_path / name)
    assert caught.value.code == code


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything of it is believed."""
    with pytest.raises(dc.InvalidInput, match=r"nowhere\.toml") as caught:
        Catalog.load(tmp_path / "nowhere.toml")
    assert caught.value.code == "catalog.unreadable"
    monkeypatch.setattr(documents, "MAX_FILE_BYTES", 10)
    with pytest.raises(dc.InvalidInput) as caught:
        load(tmp_path, "# a comment of more than ten bytes\n")
    assert caught.value.code == "catalog.too_large"


# --- tables -------------------------------------------------------------------------------------------------------

ROWS = [
    {"name": "a", "quality": "71%", "input": Decimal("0.25"), "output": "2", "p95": None},
    {"name": "b", "quality_bps": 7_200, "input": "1", "output": "2", "capabilities": ["vision"]},
]


@pytest.mark.parametrize("method", ["to_pylist", "to_dicts"])
def test_a_table_gives_a_model_a_row(method: str) -> None:
    """pyarrow's tables and polars' frames list their rows; an empty cell is a key that is left out."""
    table = type("Table", (), {method: lambda self: ROWS})()
    catalog = Catalog.from_arrow(table, limits={"objective": "cheapest"})
    assert [model.quality_bps for model in catalog.models] == [7_100, 7_200]
    assert rates(catalog, "a") == (250_000, 2_000_000)
    assert catalog.limits == {"objective": "cheapest"}


def test_a_stream_of_arrow_is_read_where_pyarrow_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where it is not, the error says what is missing."""
    stream = type("Stream", (), {"__arrow_c_stream__": lambda self, schema=None: None})()
    pyarrow = type(sys)("pyarrow")
    pyarrow.table = lambda data: type("Table", (), {"to_pylist": lambda self: ROWS})()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", pyarrow)
    assert len(Catalog.from_arrow(stream)) == 2
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(dc.InvalidInput, match="pyarrow") as caught:
        Catalog.from_arrow(stream)
    assert caught.value.code == "catalog.no_arrow"


def test_what_is_no_table_is_refused() -> None:
    """With what a table would need."""
    with pytest.raises(dc.InvalidInput, match="__arrow_c_stream__") as caught:
        Catalog.from_arrow([{"name": "a"}])
    assert caught.value.code == "catalog.wrong_type"
    floats = type("Table", (), {"to_pylist": lambda self: [{**ROWS[0], "input": 0.25}]})()
    with pytest.raises(dc.InvalidInput, match="float") as caught:
        Catalog.from_arrow(floats)
    assert caught.value.code == "builders.wrong_type"


def test_an_integer_that_python_does_not_read_is_told_in_words_of_the_file(tmp_path: Path) -> None:
    """Not with the name of a setting of the interpreter."""
    path = tmp_path / "catalog.json"
    path.write_text('{"models": ' + "9" * 5_001 + "}")
    with pytest.raises(dc.InvalidInput, match=r"catalog\.json: an integer has more digits than any that is read$"):
        dc.Catalog.load(path)
