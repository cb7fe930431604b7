"""The demonstration's data are what they say they are, and its rule gives a plausible hour, the same everywhere."""

import gzip
import hashlib
import heapq
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import decidable as dc
from decidable import demo
from decidable.demo import comparison, rule
from decidable.engine import SAFETY_CEILING_BPS

PACKAGE = Path(demo.__file__).parent
MAKERS = {
    "OpenAI": ("gpt-", "o4-"),
    "Anthropic": ("claude-",),
    "Google": ("gemini-",),
    "DeepSeek": ("deepseek-",),
    "Meta": ("llama-",),
    "Mistral": ("mistral-", "ministral-"),
}


@cache
def arrivals() -> Sequence[demo.Arrival]:
    """All of them, made once."""
    return tuple(demo.load_requests())


@dataclass
class Hour:
    """What became of the requests."""

    refusals: Counter[str] = field(default_factory=Counter)
    chosen: Counter[str] = field(default_factory=Counter)
    admitted: list[tuple[dc.Request, int]] = field(default_factory=list)
    longer_than_held_for: int = 0
    ledger: dc.Ledger = field(default_factory=dc.Ledger)


@cache
def hour() -> Hour:
    """The hour in a few lines: decided and held on arrival, settled when the answer is complete."""
    policy, done = demo.policy(), Hour()
    assert policy.names is not None
    for name, budget in demo.accounts().items():
        done.ledger.open_account(name, budget)
    answers: list[tuple[int, int, dc.Hold, int]] = []
    for arrival in arrivals():
        while answers and answers[0][0] <= arrival.arrival_ns:
            _, _, hold, cost = heapq.heappop(answers)
            hold.commit(cost)
        request = arrival.request
        decision = policy.decide(request)
        if request.risk_bps >= SAFETY_CEILING_BPS or decision.selected_model_id is None:
            ceiling = request.risk_bps >= SAFETY_CEILING_BPS
            done.refusals["safety_ceiling" if ceiling else decision.reason.label] += 1
            continue
        largest = policy.hold(request)
        assert largest is not None
        hold = done.ledger.reserve(arrival.account, largest)
        if hold.denied is not None:
            done.refusals[hold.denied] += 1
            continue
        cost = policy.cost(
            model_id=decision.selected_model_id, input_tokens=request.input_tokens, output_tokens=arrival.output_tokens
        )
        answered = arrival.arrival_ns + arrival.latency_ms * 10**6
        heapq.heappush(answers, (answered, request.request_sequence, hold, cost))
        done.chosen[policy.names.models[decision.selected_model_id]] += 1
        done.admitted.append((request, arrival.output_tokens))
        done.longer_than_held_for += arrival.output_tokens > request.max_output_tokens
    for _, _, hold, cost in sorted(answers):
        hold.commit(cost)
    return done


# --- the data -----------------------------------------------------------------------------------------------------


def test_the_trace_is_the_published_one() -> None:
    """Byte for byte, and its credit and digests are in the README beside it."""
    raw = gzip.decompress((PACKAGE / "azure_llm_2023_conv.csv.gz").read_bytes())
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    prices = (PACKAGE / "prices.json").read_bytes()
    for digest in (hashlib.sha256(raw).hexdigest(), hashlib.sha256(prices).hexdigest()):
        assert digest in readme
    for credit in ("Azure/AzurePublicDataset", "CC-BY 4.0", "Splitwise", "ISCA 2024", "Berri AI", "MIT License"):
        assert credit in readme
    assert "CC-BY" in demo.CREDIT


def test_the_trace_is_read_whole_and_exactly() -> None:
    """19,366 rows in the order of arrival, over 59 minutes, to the nanosecond."""
    trace = list(demo.load_trace())
    assert len(trace) == 19_366
    assert trace[0] == (1_700_158_546_680_590_000, 374, 44)
    assert trace[-1] == (1_700_162_048_402_527_000, 197, 183)
    assert all(before.arrival_ns <= after.arrival_ns for before, after in pairwise(trace))
    assert list(demo.load_trace(3)) == trace[:3]


def test_another_trace_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file would make another hour."""
    monkeypatch.setattr(demo, "TRACE_SHA256", "0" * 64)
    with pytest.raises(dc.InvalidInput) as caught:
        demo.load_trace()
    assert caught.value.code == "catalog.digest_mismatch"


def test_there_are_28_models_of_six_makers() -> None:
    """Each with a price of the map, and a reason for its quality."""
    catalog = demo.catalog()
    assert catalog.names is not None
    names = set(catalog.names.models.values())
    assert len(names) == len(catalog) == 28
    for starts in MAKERS.values():
        assert len([name for name in names if name.startswith(starts)]) >= 2
    assert sum(name.startswith(sum(MAKERS.values(), ())) for name in names) == 28
    for origin in catalog.provenance["models"].values():
        assert "price_map" in origin["prices"]
        assert origin["quality"]
        assert "unknown" not in origin


def test_whoever_hosts_metas_models_is_named() -> None:
    """The price is the host's, and so is the provider's name."""
    catalog = demo.catalog()
    assert catalog.names is not None
    for model in catalog.models:
        meta = catalog.model_name(model.model_id).startswith("llama-")
        assert catalog.names.providers[model.provider_id].startswith("meta-via-") == meta


def test_prices_are_those_of_the_map() -> None:
    """Dollars per token times 10^12, here without a remainder, and no entry is free."""
    entries = json.loads((PACKAGE / "prices.json").read_text(encoding="utf-8"), parse_float=Decimal)
    catalog = demo.catalog()
    assert len(entries) == 28
    for name, origin in catalog.provenance["models"].items():
        entry, model = entries[origin["prices"]["price_map"]], catalog.model(name)
        assert model.input_cost_microunits_per_million_tokens == entry["input_cost_per_token"] * 10**12 > 0
        assert model.output_cost_microunits_per_million_tokens == entry["output_cost_per_token"] * 10**12 > 0
    tiered = [name for name, origin in catalog.provenance["models"].items() if "tiered" in origin["prices"]]
    assert tiered == ["gemini-2.5-pro"]
    assert max(arrival.request.input_tokens for arrival in arrivals()) < 200_000
    assert catalog.provenance["price_map"]["source_sha256"]


# --- the rule -----------------------------------------------------------------------------------------------------


def test_the_rule_is_the_same_everywhere() -> None:
    """The whole hour has this digest; whoever changes the rule changes it."""
    digest = hashlib.sha256()
    for arrival in arrivals():
        digest.update(arrival.request.digest())
        digest.update(f"{arrival.arrival_ns} {arrival.account} {arrival.requested}".encode())
        digest.update(f" {arrival.output_tokens} {arrival.latency_ms}".encode())
    assert digest.hexdigest() == "fd2a91cedf57a7baf89d0245b0c903f22e2e1815098a17d1bd192fce57eab248"


def test_draws_are_words_of_a_digest() -> None:
    """As the module says, so that anyone can make them again."""
    raw = hashlib.sha256(b"decidable demo" + (7).to_bytes(8, "little") + (9).to_bytes(8, "little")).digest()
    assert rule.draws(7, 9) == tuple(raw[i] + 256 * raw[i + 1] for i in range(0, 32, 2))
    assert len(set(rule.draws(7, 9)) | set(rule.draws(7, 10)) | set(rule.draws(8, 9))) > 40


def test_another_seed_is_another_hour() -> None:
    """Of the same prompts."""
    some, others = list(demo.load_requests(200)), list(demo.load_requests(200, seed=1))
    assert [a.request.input_tokens for a in some] == [a.request.input_tokens for a in others]
    assert sum(a.account != b.account for a, b in zip(some, others, strict=True)) > 50


def test_the_estimate_never_looks_at_the_answer() -> None:
    """Answers that differ from some request on change no estimate until a minute later."""
    trace = list(demo.load_trace(3_000))
    turn = 1_500
    changed = trace[:turn] + [row._replace(output_tokens=row.output_tokens + 500) for row in trace[turn:]]
    catalog = demo.catalog()
    later = trace[turn].arrival_ns + rule.Estimator.DELAY_NS
    pairs = list(zip(rule.arrivals(trace, catalog), rule.arrivals(changed, catalog), strict=True))
    for some, other in pairs:
        if some.arrival_ns < later:
            assert some.request == other.request
    assert pairs[-1][0].request != pairs[-1][1].request


def test_the_estimate_is_the_mean_of_similar_prompts() -> None:
    """Known a minute after they arrived, by powers of two."""
    minute = rule.Estimator.DELAY_NS
    estimator = rule.Estimator()
    assert estimator.expect(0, 100) == rule.Estimator.BEFORE_ANY
    estimator.remember(rule.TraceRow(0, 100, 10))
    estimator.remember(rule.TraceRow(0, 127, 21))
    estimator.remember(rule.TraceRow(0, 128, 1_000))
    assert estimator.expect(minute - 1, 100) == rule.Estimator.BEFORE_ANY
    assert estimator.expect(minute, 64) == 15
    assert estimator.expect(minute, 255) == 1_000


def test_every_quantity_is_an_integer_in_its_range() -> None:
    """No float comes near a request."""
    for arrival in arrivals():
        assert all(type(number) is int for number in (arrival.arrival_ns, arrival.output_tokens, arrival.latency_ms))
        assert arrival.request.max_output_tokens >= arrival.request.output_tokens
        assert 200 <= arrival.latency_ms <= 200 + 255 + 21 * arrival.output_tokens
    assert [arrival.request.request_sequence for arrival in arrivals()] == list(range(1, 19_367))


def test_three_accounts_share_the_traffic() -> None:
    """By the shares that the rule names."""
    assert sum(account.share for account in rule.ACCOUNTS.values()) == 65_536
    counts = Counter(arrival.account for arrival in arrivals())
    assert counts.keys() == demo.accounts().keys()
    assert len(counts) == 3
    for name, count in counts.items():
        assert abs(count - 19_366 * rule.ACCOUNTS[name].share // 65_536) < 250


# --- the hour -----------------------------------------------------------------------------------------------------


def test_many_models_are_chosen() -> None:
    """None of them for more than a third of the requests, and some of every maker."""
    done = hour()
    assert len(done.chosen) >= 20
    assert all(count < len(done.admitted) // 3 for count in done.chosen.values())
    for starts in MAKERS.values():
        assert any(name.startswith(starts) for name in done.chosen)


def test_every_gate_refuses_something() -> None:
    """A few per cent in all."""
    done = hour()
    assert done.refusals.keys() == {
        "safety_ceiling", "risk_hard_limit", "confidence_hard_limit", "quality_constraint", "latency_constraint",
        "capability_constraint", "provider_constraint", "region_constraint", "risk_ceiling_constraint",
        "budget_constraint", "non_positive_utility", "insufficient",
    }  # fmt: skip
    assert done.refusals["safety_ceiling"] >= 3
    assert done.refusals.total() + len(done.admitted) == 19_366
    assert 19_366 // 50 < done.refusals.total() < 19_366 // 10


def test_one_account_runs_dry_and_owes() -> None:
    """Answers longer than their holds leave a debt; the others come out with money left."""
    research = hour().ledger.balance("acme/research")
    assert research.remaining == 0
    assert research.debt > 0
    for name in ("acme/support", "acme/search"):
        balance = hour().ledger.balance(name)
        assert balance.debt == 0
        assert balance.remaining > balance.initial // 20


def test_some_answers_are_longer_than_was_held_for() -> None:
    """The estimate is an estimate."""
    assert len(hour().admitted) // 20 < hour().longer_than_held_for < len(hour().admitted) // 5


def test_the_command_has_this_hour_and_its_log_verifies(tmp_path: Path) -> None:
    """`decidable demo` on every request: told, logged and verified are the same hour as the few lines above."""
    done = subprocess.run(
        [sys.executable, "-m", "decidable", "demo", "--json"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    told, expected = json.loads(done.stdout), hour()
    balances = [expected.ledger.balance(name) for name in demo.accounts()]
    assert told["requests"] == 19_366
    assert told["chosen"] == expected.chosen
    assert told["refused"] == expected.refusals
    assert told["selected"] == told["settled"] == len(expected.admitted)
    assert told["spent_microunits"] == sum(balance.committed + balance.debt for balance in balances)

    state, policy = tmp_path / "demo" / "state", demo.policy()
    key = dc.Key.from_file(tmp_path / "demo" / "wal.key")
    report = dc.verify(state, policies=[policy], key=key, head=tmp_path / "demo" / "head.json")
    assert list(report.balances) == balances
    assert (report.tail, list(report.open_tickets)) == (None, [])
    assert policy.names is not None
    chosen: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for record in dc.read(state, key=key):
        if record.kind == "refusal":
            refused["safety_ceiling"] += 1
        elif record.kind == "decision" and record.outcome == "held":
            chosen[policy.names.models[record.decision.selected_model_id]] += 1
        elif record.kind == "decision":
            refused[record.denial or record.decision.reason.label] += 1
    assert (chosen, refused) == (expected.chosen, expected.refusals)


# --- the baselines ------------------------------------------------------------------------------------------------


def test_the_baselines_are_priced_over_the_same_requests() -> None:
    """The dearest costs most; no single model and no rule of length meets every floor."""
    admitted = hour().admitted
    balances = [hour().ledger.balance(name) for name in demo.accounts()]
    spent = sum(balance.committed + balance.debt for balance in balances)
    dearest, single, length = demo.baselines(demo.policy(), admitted)
    assert (dearest.detail, single.detail) == ("claude-opus-4-5", "claude-haiku-4-5")
    assert dearest.cost_microunits > single.cost_microunits > spent
    for baseline in (dearest, single, length):
        assert baseline.requests == len(admitted)
        assert 0 < baseline.meets_floors < len(admitted)
    assert single.meets_floors >= max(dearest.meets_floors, length.meets_floors)


def test_a_baselines_cost_is_the_policys() -> None:
    """Token for token, at the real size of the answer."""
    policy, catalog = demo.policy(), demo.catalog()
    admitted = [(arrival.request, arrival.output_tokens) for arrival in arrivals()[:50]]
    opus = catalog.model_id("claude-opus-4-5")
    assert comparison.always_dearest(policy, admitted).cost_microunits == sum(
        policy.cost(model_id=opus, input_tokens=request.input_tokens, output_tokens=output)
        for request, output in admitted
    )
    sizes = [most for most, _ in comparison.BY_PROMPT_LENGTH]
    assert sizes == [*sorted(size for size in sizes if size is not None), None]
    names = [name for _, name in comparison.BY_PROMPT_LENGTH]
    assert comparison.by_prompt_length(policy, admitted).cost_microunits == sum(
        policy.cost(
            model_id=catalog.model_id(
                names[0] if request.input_tokens <= 500 else names[1 + (request.input_tokens > 2_000)]
            ),
            input_tokens=request.input_tokens,
            output_tokens=output,
        )
        for request, output in admitted
    )


def test_the_readme_counts_what_there_is() -> None:
    """Its figures are the data's."""
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert re.search(r"19,366 requests", readme)
    assert re.search(r"28 entries", readme)
