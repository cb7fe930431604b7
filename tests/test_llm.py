"""Routing by name: a useful decision from a model's name, a budget and a prompt's size."""

import asyncio
import inspect
import json
import re
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import decidable as dc
from decidable import demo, llm
from decidable.catalog import Catalog

MODELS = """
[[models]]
name = "mini"
input = "0.25"
output = "2.00"
quality = "71%"
p95 = "2.1s"
provider = "openai"
capabilities = ["vision"]
regions = ["us", "eu"]

[[models]]
name = "large"
input = "1.25"
output = "10.00"
quality = "91%"
p95 = "6s"
provider = "anthropic"
capabilities = ["vision", "reasoning"]
regions = ["us"]
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A catalog of two models in a file."""
    path = tmp_path / "models.toml"
    path.write_text(MODELS, encoding="utf-8")
    return path


@pytest.fixture
def gateway(tmp_path: Path, models: Path) -> Iterator[llm.Gateway]:
    """A gateway with one account of one currency unit."""
    with llm.Gateway.open(tmp_path / "state", catalog=models) as gateway:
        gateway.open_account("acme", "1.00")
        yield gateway


@pytest.mark.parametrize("objective", [0, False, [], b"", ""])
def test_an_objective_is_a_word(tmp_path: Path, objective: Any) -> None:
    """What Python takes for false is not the usual one."""
    with pytest.raises(dc.InvalidInput):
        llm.Gateway.open(tmp_path / "state", catalog=demo.catalog(), objective=objective)
    assert not (tmp_path / "state").exists()


def test_a_gateway_whose_state_is_in_use_names_it(gateway: llm.Gateway, tmp_path: Path, models: Path) -> None:
    """As an engine does: the directory of the log that is locked."""
    with pytest.raises(dc.LogUnavailable, match=r"^.*state.*: ") as caught:
        llm.Gateway.open(tmp_path / "state", catalog=models)
    assert caught.value.code == "wal.locked"
    assert Path(caught.value.path).is_relative_to(tmp_path / "state")


def test_a_name_a_budget_and_a_size_are_enough(gateway: llm.Gateway) -> None:
    """The cheapest model answers, its money is held, and the defaults are the documented ones."""
    call = gateway.route("mini", input_tokens=1_200, max_cost="0.02", account="acme")
    assert call.model == "mini"
    assert call.refusal is None
    assert call.request.output_tokens == llm.EXPECTED_OUTPUT_TOKENS == 256
    assert call.max_output_tokens == llm.MAX_TO_EXPECTED * 256 == 1_024
    # 1,200 tokens at 0.25 and 1,024 at 2.00 per million.
    assert gateway.balance("acme").reserved == 300 + 2_048
    assert call.decision is not None
    assert call.decision.action == dc.Action.EXECUTE_REQUESTED


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, (256, 1_024)),
        ({"expected_output_tokens": 100}, (100, 400)),
        ({"max_output_tokens": 100}, (100, 100)),
        ({"max_output_tokens": "2k"}, (256, 2_000)),
        ({"expected_output_tokens": 100, "max_output_tokens": 150}, (100, 150)),
        ({"expected_output_tokens": 0}, (0, 0)),
        ({"expected_output_tokens": 2**32 - 1}, (2**32 - 1, 2**32 - 1)),
    ],
)
def test_sizes_of_the_answer(gateway: llm.Gateway, given: dict[str, Any], sizes: tuple[int, int]) -> None:
    """What is left out follows from what is given."""
    request = gateway.route("mini", input_tokens=1, **given).request
    assert (request.output_tokens, request.max_output_tokens) == sizes


def test_a_call_is_settled_at_its_usage(gateway: llm.Gateway) -> None:
    """The catalog prices what the provider counted, and the rest of the hold comes back."""
    with gateway.route("mini", input_tokens=1_200, account="acme") as call:
        settlement = call.settle(usage={"prompt_tokens": 1_204, "completion_tokens": 180}, latency="412ms")
    assert settlement.charged_microunits == 301 + 360
    assert settlement.returned_microunits == 2_348 - 661
    balance = gateway.balance("acme")
    assert (balance.remaining, balance.reserved, balance.committed) == (1_000_000 - 661, 0, 661)


USAGES: dict[str, tuple[Any, tuple[int, int]]] = {
    "chat completions": ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, (10, 5)),
    "an object": (SimpleNamespace(prompt_tokens=10, completion_tokens=5), (10, 5)),
    "responses": ({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}, (10, 5)),
    "messages with a cache": (
        {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": None},
        (110, 5),
    ),
    "both, of which the first counts the cache already": (
        {"prompt_tokens": 110, "completion_tokens": 5, "input_tokens": 10, "output_tokens": 5,
         "cache_read_input_tokens": 100},
        (110, 5),
    ),
    "thoughts beside the answer": (
        SimpleNamespace(prompt_token_count=10, candidates_token_count=5, thoughts_token_count=7),
        (10, 12),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", USAGES)
def test_usage_is_read_as_each_provider_writes_it(case: str, gateway: llm.Gateway) -> None:
    """Every token that was used is counted once."""
    usage, (inputs, outputs) = USAGES[case]
    with gateway.route("mini", input_tokens=1_200, account="acme") as call:
        charged = call.settle(usage=usage).charged_microunits
    assert charged == gateway.policy.cost(model_id=1, input_tokens=inputs, output_tokens=outputs)


def test_a_call_is_settled_at_its_bill(gateway: llm.Gateway) -> None:
    """A fraction of a microunit is rounded up, because it was spent."""
    with gateway.route("mini", input_tokens=1_200, account="acme") as call:
        assert call.settle(cost="0.0012345").charged_microunits == 1_235


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "llm.missing_usage"),
        ({"usage": {"tokens": 5}}, "llm.unknown_usage"),
        ({"usage": {"prompt_tokens": 5}}, "llm.unknown_usage"),
        ({"usage": {"completion_tokens": 5}}, "llm.unknown_usage"),
        ({"usage": {"output_tokens": 5, "cache_read_input_tokens": 9}}, "llm.unknown_usage"),
        ({"usage": 5}, "llm.unknown_usage"),
        ({"usage": {"prompt_tokens": 5.0, "completion_tokens": 1}}, "builders.wrong_type"),
        ({"usage": {"prompt_tokens": "1", "completion_tokens": 1}}, "builders.wrong_type"),
        (
            {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "input_tokens": 500, "output_tokens": 600}},
            "llm.contradiction",
        ),
        (
            {"usage": {"prompt_tokens": 500, "completion_tokens": 2, "input_tokens": 500, "output_tokens": 600}},
            "llm.contradiction",
        ),
        ({"usage": {"prompt_tokens": -5, "completion_tokens": 1}}, "builders.out_of_range"),
        ({"cost": 0.01}, "builders.wrong_type"),
        ({"cost": "-1"}, "builders.out_of_range"),
        ({"cost": "1", "latency": 412}, "builders.wrong_type"),
    ],
)
def test_a_settlement_that_cannot_be_read_settles_nothing(
    gateway: llm.Gateway, arguments: dict[str, Any], code: str
) -> None:
    """The call stays as it was, and can be settled after."""
    with gateway.route("mini", input_tokens=1_200, account="acme") as call:
        with pytest.raises(dc.InvalidInput) as caught:
            call.settle(**arguments)
        assert caught.value.code == code
        assert gateway.balance("acme").committed == 0
        call.settle(cost="0")


def test_a_refused_call_has_no_model(gateway: llm.Gateway) -> None:
    """The refusal is an answer; asking for the model anyway, or entering the call, is an error."""
    call = gateway.route("mini", input_tokens=1_000_000, max_cost="0.0001", account="acme")
    assert call.refusal == "budget_constraint"
    with pytest.raises(dc.Refused, match="budget_constraint") as caught:
        call.model  # noqa: B018
    assert caught.value.reason == "budget_constraint"
    with pytest.raises(dc.Refused, match="budget_constraint"), call:
        raise AssertionError("the body of a refused call ran")

    async def enter() -> None:
        async with await gateway.aroute("mini", input_tokens=1_000_000, max_cost="0.0001", account="acme"):
            raise AssertionError("the body of a refused call ran")

    with pytest.raises(dc.Refused, match="budget_constraint"):
        asyncio.run(enter())
    assert repr(call) == "<Call 1: refused: budget_constraint>"
    assert gateway.balance("acme").reserved == 0
    assert repr(gateway.route("mini", input_tokens=1, account="acme")) == "<Call 3: 'mini'>"


def test_an_account_without_money_refuses(gateway: llm.Gateway) -> None:
    """Until it is topped up."""
    gateway.open_account("poor", "0.0001")
    assert gateway.route("mini", input_tokens=1_200, account="poor").refusal == "insufficient"
    before = gateway.balance("poor").remaining
    assert gateway.top_up("poor", "0.000001").remaining == before + 1
    gateway.top_up("poor", "1")
    assert gateway.route("mini", input_tokens=1_200, account="poor").model == "mini"


@pytest.mark.parametrize("amount", ["0.0000001", Decimal("0.0000001"), "0.9 microunits"])
def test_a_budget_is_not_rounded_down_to_nothing(gateway: llm.Gateway, amount: str | Decimal) -> None:
    """What is less than a microunit is refused; nothing at all is a budget, and above it a fraction is dropped."""
    with pytest.raises(dc.InvalidInput, match="less than a microunit") as caught:
        gateway.open_account("slip", amount)
    assert (caught.value.code, caught.value.field, caught.value.value) == ("builders.inexact", "initial", amount)
    assert "slip" not in gateway.engine.ledger
    assert gateway.open_account("none", "0").initial == 0
    assert gateway.open_account("dropped", "0.0000019").initial == 1
    with pytest.raises(dc.InvalidInput, match=r"^max_cost is .* less than a microunit") as caught:
        gateway.route("mini", input_tokens=1, max_cost=amount)
    assert (caught.value.code, caught.value.field, caught.value.value) == ("builders.inexact", "max_cost", amount)
    assert gateway.route("mini", input_tokens=1, max_cost="0").refusal == "budget_constraint"
    with pytest.raises(dc.InvalidInput, match=r"it must be at least 1 microunit$"):
        gateway.top_up("none", "0")


def test_an_outcome_says_something(gateway: llm.Gateway) -> None:
    """What is missing is told by the names that the gateway has."""
    with pytest.raises(dc.InvalidInput, match=r"^outcome needs succeeded, cost or latency$") as caught:
        gateway.outcome(1)
    assert caught.value.code == "replay.bad_outcome"


def test_what_is_wrong_with_a_key_or_a_catalog_is_told_of_it(gateway: llm.Gateway, tmp_path: Path) -> None:
    """A key is no name, and a catalog no mapping."""
    with pytest.raises(dc.InvalidInput, match="key has 1 to 256 bytes") as caught:
        gateway.route("mini", input_tokens=1, key="")
    assert caught.value.code == "engine.bad_key"
    with pytest.raises(dc.InvalidInput, match="catalog must be a Catalog or the path of its file, not dict") as caught:
        llm.Gateway.open(tmp_path / "other", catalog={})  # type: ignore[arg-type]
    assert caught.value.field == "catalog"
    assert not (tmp_path / "other").exists()


def test_an_account_that_exists_keeps_its_budget(gateway: llm.Gateway) -> None:
    """Whatever amount is given with `exist_ok`; `top_up` adds."""
    gateway.open_account("kept", "1")
    assert gateway.open_account("kept", "5", exist_ok=True).initial == 10**6
    assert gateway.top_up("kept", "4").initial == 5 * 10**6


def test_the_highest_risk_is_refused_before_any_policy(gateway: llm.Gateway) -> None:
    """No limit of a file can allow it."""
    call = gateway.route("mini", input_tokens=1, risk="97%")
    assert call.refusal == "safety_ceiling"
    assert call.decision is None


FLOORS: dict[str, tuple[dict[str, Any], str]] = {
    "quality": ({"min_quality": "80%"}, "large"),
    "capability": ({"capabilities": ["reasoning"]}, "large"),
    "provider": ({"providers": ["anthropic"]}, "large"),
    "region": ({"regions": ["eu"]}, "mini"),
    "latency": ({"max_latency": "3s"}, "mini"),
}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_requirement_chooses_the_model(floor: str, gateway: llm.Gateway) -> None:
    """By name or quantity, whatever model was asked for."""
    wishes, model = FLOORS[floor]
    other = {"mini": "large", "large": "mini"}[model]
    call = gateway.route(other, input_tokens=1_200, **wishes)
    assert call.model == model
    assert call.decision is not None
    assert call.decision.action == dc.Action.SUBSTITUTE


def test_a_requirement_that_nobody_meets_is_refused(gateway: llm.Gateway) -> None:
    """Reasoning is not to be had in Europe here."""
    refusal = gateway.route("mini", input_tokens=1, capabilities=["reasoning"], regions=["eu"]).refusal
    assert refusal in {"capability_constraint", "region_constraint"}


def test_the_floor_of_the_gateway_holds_for_calls_without_their_own(tmp_path: Path, models: Path) -> None:
    """A call may ask for more or less."""
    with llm.Gateway.open(tmp_path / "state", catalog=models, min_quality="80%") as gateway:
        assert gateway.route("mini", input_tokens=1).model == "large"
        assert gateway.route("mini", input_tokens=1, min_quality=None).model == "large"
        assert gateway.route("mini", input_tokens=1, min_quality="50%").model == "mini"


def test_the_same_key_is_the_same_call(gateway: llm.Gateway) -> None:
    """A retry holds no second sum; another call under that key is a conflict."""
    first = gateway.route("mini", input_tokens=1_200, account="acme", key="req-1")
    again = gateway.route("mini", input_tokens=1_200, account="acme", key="req-1")
    assert again.id == first.id
    assert again.ticket.replayed
    assert gateway.balance("acme").reserved == 2_348
    with pytest.raises(dc.Conflict):
        gateway.route("mini", input_tokens=1_300, account="acme", key="req-1")


def test_a_retry_of_a_whole_request_gets_its_answer_and_settles_it_once(tmp_path: Path, models: Path) -> None:
    """Also after a restart: the same settlement again is the first one, and what is refused says what to do."""
    wishes: llm.Wishes = {"input_tokens": 1_200, "account": "acme", "key": "req-1"}
    used = {"prompt_tokens": 1_204, "completion_tokens": 163}
    with llm.Gateway.open(tmp_path / "state", catalog=models) as gateway:
        gateway.open_account("acme", "1.00")
        with gateway.route("mini", **wishes) as call:
            first = call.settle(usage=used)
    for _ in range(2):
        with llm.Gateway.open(tmp_path / "state", catalog=models) as gateway:
            again = gateway.route("mini", **wishes)
            assert (again.id, again.model, again.state, again.replayed) == (call.id, call.model, "settled", True)
            assert again.settle(usage=used) == first
            with pytest.raises(dc.Conflict, match="other values, which stand; the same values again are no error"):
                again.settle(cost="0.5")
            with (
                pytest.raises(dc.Conflict, match="settled already: whoever acts on a ticket looks at its state"),
                again,
            ):
                raise AssertionError("a second call would be made")
            balance = gateway.balance("acme")
            assert (balance.committed, balance.reserved) == (first.charged_microunits, 0)


def test_a_call_that_is_not_made_gives_its_money_back(gateway: llm.Gateway) -> None:
    """Before it is made; after that nobody knows."""
    call = gateway.route("mini", input_tokens=1_200, account="acme")
    call.cancel()
    assert gateway.balance("acme").remaining == 1_000_000
    with gateway.route("mini", input_tokens=1_200, account="acme") as call, pytest.raises(dc.Conflict):
        call.cancel()


def test_a_call_left_without_settlement_is_in_doubt(gateway: llm.Gateway) -> None:
    """Its money stays held until someone says what it cost."""
    with pytest.raises(TimeoutError), gateway.route("mini", input_tokens=1_200, account="acme"):
        raise TimeoutError
    (doubtful,) = gateway.open_calls()
    assert doubtful.ticket.state == "in_doubt"
    assert gateway.balance("acme").reserved == 2_348
    gateway.reconcile(doubtful.id, cost="0.0005")
    assert gateway.open_calls() == []
    assert gateway.balance("acme").committed == 500


def test_unknown_names_come_with_suggestions(gateway: llm.Gateway) -> None:
    """A misspelt model is an error, not a request that matches nothing."""
    with pytest.raises(dc.UnknownName, match="did you mean mini"):
        gateway.route("minni", input_tokens=1)
    with pytest.raises(dc.UnknownName):
        gateway.route("mini", input_tokens=1, account="nobody")
    assert gateway.route(None, input_tokens=1).model == "mini"


def test_a_wish_that_nobody_knows_is_an_error(gateway: llm.Gateway) -> None:
    """As with any Python call, in one line that names the nearest, and nothing is logged."""
    for wishes, says in (
        ({"input_tokens": 1, "max_costs": "1"}, "'max_costs'; did you mean max_cost"),
        ({"input_tokens": 1, "max_tokens": 1}, "'max_tokens'; did you mean max_output_tokens"),
        ({"input_token": 1}, "'input_token'; did you mean input_tokens"),
        ({"input_tokens": 1, "\x1b": 1}, "unexpected keyword argument '\\x1b'"),
        ({}, "missing the keyword argument 'input_tokens'"),
    ):
        with pytest.raises(TypeError, match=re.escape(says)) as caught:
            gateway.route("mini", **wishes)  # type: ignore[typeddict-item]
        assert str(caught.value).startswith("route() ")
    with pytest.raises(TypeError, match="did you mean max_cost"):
        asyncio.run(gateway.aroute("mini", input_tokens=1, max_costs="1"))  # type: ignore[call-arg]
    assert gateway.verify().decisions == 0


def test_utility_needs_a_value(tmp_path: Path) -> None:
    """An answer worth nothing is worth no model; the error says what to do."""
    with llm.Gateway.open(tmp_path / "state", catalog=demo.catalog()) as gateway:
        assert gateway.policy.objective == "utility"
        with pytest.raises(dc.InvalidInput, match="objective") as caught:
            gateway.route("gpt-5-mini", input_tokens=1_200)
        assert caught.value.code == "llm.missing_value"
        cheap = gateway.route("gpt-5-mini", input_tokens=1_200, value="0.003").model
        dear = gateway.route("gpt-5-mini", input_tokens=1_200, value="1.00").model
        assert gateway.catalog.model(cheap).quality_bps < gateway.catalog.model(dear).quality_bps


@pytest.mark.parametrize(("objective", "model"), [("cheapest", "mini"), ("quality", "large"), ("fastest", "mini")])
def test_the_objective_chooses(objective: str, model: str, tmp_path: Path, models: Path) -> None:
    """Among the models that pass every limit."""
    with llm.Gateway.open(tmp_path / "state", catalog=Catalog.load(models), objective=objective) as gateway:
        assert gateway.route(None, input_tokens=100).model == model


def test_limits_can_be_given_at_opening(tmp_path: Path, models: Path) -> None:
    """In a person's words, over those of the file; a floor that cannot be read opens nothing."""
    with llm.Gateway.open(tmp_path / "state", catalog=models, hard_risk_limit="50%") as gateway:
        assert gateway.route("mini", input_tokens=1, risk="50%").refusal == "risk_hard_limit"
    with pytest.raises(dc.InvalidInput):
        llm.Gateway.open(tmp_path / "other", catalog=models, min_quality="70")
    assert not (tmp_path / "other").exists()


def test_metadata_is_kept_beside_the_record(gateway: llm.Gateway, tmp_path: Path) -> None:
    """As JSON, or as the text that it is."""
    gateway.route("mini", input_tokens=1, metadata={"user": "ü", "n": 1})
    gateway.route("mini", input_tokens=1, metadata="as is")
    kept = [record.private for record in dc.read(tmp_path / "state", kind="decision")]
    assert kept == ['{"n": 1, "user": "ü"}', "as is"]
    for unusable in ({"x": {1}}, {"x": float("nan")}):
        with pytest.raises(dc.InvalidInput) as caught:
            gateway.route("mini", input_tokens=1, metadata=unusable)
        assert caught.value.code == "llm.metadata"


def test_the_explanation_names_every_model(gateway: llm.Gateway) -> None:
    """With the verdict on each."""
    call = gateway.route("mini", input_tokens=1_200, min_quality="80%")
    table = str(call.explain())
    assert "mini" in table
    assert "large" in table
    assert [verdict.gate for verdict in call.explain()] == ["Quality", None]


def test_an_earlier_call_is_explained_by_the_policy_that_decided_it(tmp_path: Path, models: Path) -> None:
    """What a model is worth today says nothing of why it was not taken then."""
    with llm.Gateway.open(tmp_path / "state", catalog=models) as gateway:
        gateway.open_account("acme", "1.00")
        call = gateway.route("mini", input_tokens=1_200, min_quality="80%", account="acme", key="k")
        told = list(call.explain())
        policy = gateway.policy
    models.write_text(MODELS.replace('quality = "71%"', 'quality = "95%"'), encoding="utf-8")
    with llm.Gateway.open(tmp_path / "state", catalog=models) as gateway:
        (earlier,) = gateway.open_calls()
        again = gateway.route("mini", input_tokens=1_200, min_quality="80%", account="acme", key="k")
        for found in (earlier, again):
            assert (list(found.explain()), found.ticket.policy) == (told, policy)
        today = gateway.route("mini", input_tokens=1_200, min_quality="80%", account="acme")
        assert [verdict.gate for verdict in today.explain()] == [None, None]
        refused = gateway.route("mini", input_tokens=1_200, risk="98%")
        assert (refused.ticket.policy, refused.explain().decision.request_sequence) == (None, refused.id)


def test_reopening_continues_and_installs_what_changed(tmp_path: Path, models: Path) -> None:
    """Accounts and open calls are there, and the new prices hold from then on."""
    with llm.Gateway.open(tmp_path / "state", catalog=models) as gateway:
        gateway.open_account("acme", "1.00")
        gateway.route("mini", input_tokens=1_200, account="acme")
    models.write_text(MODELS.replace('input = "0.25"', 'input = "0.50"'), encoding="utf-8")
    with llm.Gateway.open(tmp_path / "state", catalog=models) as gateway:
        assert gateway.balance("acme").reserved == 2_348
        (call,) = gateway.open_calls()
        gateway.reconcile(call.id, cost="0")
        with gateway.route("mini", input_tokens=1_000_000, account="acme") as call:
            assert call.settle(usage={"prompt_tokens": 10**6, "completion_tokens": 0}).charged_microunits == 500_000
        assert gateway.verify().decisions == 2
    policies = list(dc.read(tmp_path / "state", kind="policy"))
    assert [json.loads(record.provenance)["file"] for record in policies] == ["models.toml"] * 2
    digests = [json.loads(record.provenance)["sha256"] for record in policies]
    assert digests[0] != digests[1]


def test_the_evidence_can_be_kept_elsewhere(tmp_path: Path, models: Path) -> None:
    """The head of a gateway is the log's: with it a cut-off end is noticed, when verifying and when opening."""
    key = dc.Key(bytes(range(32)))
    with llm.Gateway.open(tmp_path / "state", catalog=models, key=key) as gateway:
        shutil.copytree(tmp_path / "state", tmp_path / "earlier")
        gateway.open_account("acme", "1.00")
        with gateway.route("mini", input_tokens=1_200, account="acme") as call:
            call.settle(cost="0.01")
        head, policy = gateway.head(), gateway.policy
        dc.write_head(tmp_path / "head.json", head)
        for given in (head, tmp_path / "head.json"):
            report = gateway.verify(policies=[policy], head=given)
            assert "no policy other than those given" in " ".join(report.established)
            assert "contains the head" in " ".join(report.established)
            assert "seal" in " ".join(report.established)
        with pytest.raises(dc.VerificationError):
            gateway.verify(policies=[demo.policy()])
        closed = gateway.close()
    assert closed["seq"] > head["seq"]
    assert dc.verify(tmp_path / "state", policies=[policy], key=key, head=closed).decisions == 1
    llm.Gateway.open(tmp_path / "state", catalog=models, key=key, head=head).close()
    with pytest.raises(dc.VerificationError) as caught:
        llm.Gateway.open(tmp_path / "earlier", catalog=models, key=key, head=head)
    assert caught.value.code == "wal.shorter_than_head"


def test_an_outcome_is_recorded(gateway: llm.Gateway, tmp_path: Path) -> None:
    """What is known only later belongs to the call by its number."""
    with gateway.route("mini", input_tokens=1_200, account="acme") as call:
        call.settle(cost="0.001")
    gateway.outcome(call.id, succeeded=True, cost="0.001", latency="412ms")
    (outcome,) = dc.read(tmp_path / "state", kind="outcome")
    assert (outcome.request_sequence, outcome.succeeded, outcome.realized_latency_ms) == (call.id, True, 412)
    gateway.outcome(call.id, succeeded=False)
    *_, outcome = dc.read(tmp_path / "state", kind="outcome")
    assert (outcome.succeeded, outcome.realized_latency_ms, outcome.realized_cost_microunits) == (False, None, None)


def test_a_gateway_is_opened_as_an_engine_is() -> None:
    """What both take has the same defaults: nothing is cut off that nobody asked for."""
    options = inspect.signature(dc.Engine.open).parameters
    same = {
        name: taken.default
        for name, taken in inspect.signature(llm.Gateway.open).parameters.items()
        if name in options and taken.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert same == {name: options[name].default for name in same}
    assert {"key", "sync", "clock", "head", "recover"} <= same.keys()


def test_asynchronous_calls(gateway: llm.Gateway) -> None:
    """A hundred at once, each decided, held and settled."""

    async def one(number: int) -> int:
        async with await gateway.aroute("mini", input_tokens=100, account="acme", key=f"req-{number}") as call:
            settlement = await call.asettle(usage={"input_tokens": 100, "output_tokens": 10})
        return settlement.charged_microunits

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(100)))

    assert asyncio.run(all_of_them()) == [25 + 20] * 100
    assert gateway.balance("acme").committed == 4_500
    assert gateway.verify().settlements == 100
