"""The answers of the reference implementation, value for value and byte for byte, through the Python surface."""

from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import pytest

import bridge
import decidable as dc
from model import decisions, vectors

REQUEST_LAYOUT = (
    ("request_sequence", "<u8"),
    ("requested_model_id", "<u4"),
    ("input_tokens", "<u4"),
    ("output_tokens", "<u4"),
    ("business_value_microunits", "<i8"),
    ("budget_limit_microunits", "<u8"),
    ("risk_bps", "<u2"),
    ("confidence_bps", "<u2"),
    ("minimum_quality_bps", "<u2"),
    ("max_p95_latency_ms", "<u4"),
    ("required_capabilities", "<u8"),
    ("allowed_provider_mask", "<u8"),
    ("required_region_mask", "<u8"),
)

DECISION_LAYOUT = (
    ("request_sequence", "<u8"),
    ("action", "|u1"),
    ("reason", "<u2"),
    ("selected_model_id", "<u4"),
    ("selected_model_index", "<u2"),
    ("estimated_cost_microunits", "<u8"),
    ("expected_utility_microunits", "<i8"),
    ("counterfactual_model_id", "<u4"),
    ("counterfactual_utility_microunits", "<i8"),
    ("evaluated_models", "<u2"),
    ("eligible_models", "<u2"),
    ("policy_epoch", "<u8"),
    ("catalog_epoch", "<u8"),
)


@cache
def policies() -> list[dc.Policy]:
    return [bridge.native_policy(policy) for policy in vectors.policies()]


@cache
def decided() -> list[dict[str, Any]]:
    return vectors.lines("decisions.jsonl")


def test_the_dtypes_are_the_layouts_of_the_spec() -> None:
    """Exactly the spec's fields in the spec's order and widths, packed: 70 and 65 bytes a row, no padding."""
    assert dc.REQUEST_DTYPE.descr == list(REQUEST_LAYOUT)
    assert dc.DECISION_DTYPE.descr == list(DECISION_LAYOUT)
    assert (dc.REQUEST_DTYPE.itemsize, dc.DECISION_DTYPE.itemsize) == (70, 65)


def test_policies() -> None:
    """48 policies: digest, fields and candidates in ascending order."""
    rows = vectors.lines("policies.jsonl")
    assert len(rows) == 48
    for row, policy, expected in zip(rows, policies(), vectors.policies(), strict=True):
        assert policy.digest().hex() == row["policy_digest"]
        assert policy.shared_digest() == policy.digest()
        assert {name: getattr(policy, name) for name in vectors.POLICY_FIELDS} == {
            name: row[name] for name in vectors.POLICY_FIELDS
        }
        assert [model.model_id for model in policy.models] == [model.model_id for model in expected.models]
        reversed_catalog = bridge.catalog(reversed(policy.models))
        again = dc.Policy(reversed_catalog, **{name: row[name] for name in vectors.POLICY_FIELDS})
        assert again.digest() == policy.digest()
        assert again == policy


def test_decisions_by_single_calls() -> None:
    """1,920 decisions with rejection counts, request digests and decision digests."""
    assert len(decided()) == 1_920
    for row in decided():
        policy, request = policies()[row["policy"]], bridge.native_request(vectors.request(row))
        decision, rejections = policy.decide_counted(request)
        assert bridge.as_decision(decision)._asdict() == row["decision"]
        assert policy.decide(request) == decision
        assert rejections == row["rejections"]
        assert request.digest().hex() == row["input_digest"]
        assert decision.digest().hex() == row["decision_digest"]


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_decisions_by_batch(threads: int | None) -> None:
    """The same 1,920 in batches, each row byte for byte the layout under the digest."""
    batches: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in decided():
        batches[row["policy"]].append(row)
    for number, rows in batches.items():
        requests = np.array([tuple(row["input"].values()) for row in rows], dtype=dc.REQUEST_DTYPE)
        # Long enough that threads are worth starting.
        repeated = np.tile(requests, 1 if threads == 1 else 400)
        found = policies()[number].decide_batch(repeated, threads=threads)
        assert found.dtype == dc.DECISION_DTYPE
        assert found.shape == repeated.shape
        expected = [decisions.Decision(**row["decision"]) for row in rows]
        assert found[: len(rows)].tolist() == expected
        layout = b"".join(decision.encode() for decision in expected)
        assert found.tobytes() == layout * (len(repeated) // len(rows))


def test_explanations() -> None:
    """102 explanations, verdict for verdict."""
    rows = [row for row in decided() if "explain" in row]
    assert len(rows) == 102
    for row in rows:
        request = bridge.native_request(vectors.request(row))
        explanation = policies()[row["policy"]].explain(request)
        assert [bridge.as_verdict(v) for v in explanation] == [vectors.verdict(v) for v in row["explain"]]
        assert explanation.decision == policies()[row["policy"]].decide(request)
        for verdict in explanation:
            utility = policies()[row["policy"]].utility(request, model_id=verdict.model_id)
            assert utility == (verdict.utility if verdict.verdict == "eligible" else None)


def test_what_would_win_and_margins() -> None:
    """176 cases: the levers of one candidate and the winner's margin."""
    rows = vectors.lines("what_if.jsonl")
    assert len(rows) == 176
    for row in rows:
        policy, request = policies()[row["policy"]], bridge.native_request(vectors.request(row))
        found = policy.what_would_win(request, model_id=row["model_id"])
        assert found.model_id == row["model_id"]
        assert bridge.as_what_would_win(found) == (row["blocked_by_request"], vectors.levers(row["levers"]))
        assert bridge.as_margin(policy.margin(request)) == vectors.margin(row["margin"])


def test_identities() -> None:
    """240 identity digests."""
    rows = vectors.lines("outcomes.jsonl")
    assert len(rows) == 240
    for row in rows:
        policy, request = policies()[row["policy"]], bridge.native_request(vectors.request(row))
        assert dc.identity(policy, request, policy.decide(request)).hex() == row["identity_digest"]


# Which code and details answer each invalid policy of the vectors. The first model of the case is model 2.
INVALID = {
    "empty catalog": ("kernel.empty_catalog", {}),
    "hard risk limit out of range": ("kernel.out_of_range", {"field": "hard_risk_limit_bps", "value": 10_001}),
    "minimum confidence out of range": ("kernel.out_of_range", {"field": "minimum_confidence_bps", "value": 10_001}),
    "risk penalty multiplier out of range": (
        "kernel.out_of_range",
        {"field": "risk_penalty_multiplier_bps", "value": 50_001},
    ),
    "duplicate model id": ("kernel.duplicate_model_id", {"field": "model_id", "value": 2}),
    "model id zero": ("kernel.reserved_model_id", {"field": "model_id", "value": 0}),
    "provider id 64": ("kernel.out_of_range", {"field": "provider_id", "value": 64}),
    "quality out of range": ("kernel.out_of_range", {"field": "quality_bps", "value": 10_001}),
    "risk ceiling out of range": ("kernel.out_of_range", {"field": "risk_ceiling_bps", "value": 10_001}),
    "enabled is 2": ("input.wrong_type", {"field": "enabled", "value": 2}),
    "no enabled model": ("kernel.no_enabled_candidate", {"field": "enabled"}),
}


@pytest.mark.parametrize("case", vectors.document("invalid_policies.json"), ids=lambda case: case["case"])
def test_invalid_policies(case: dict[str, Any]) -> None:
    """11 policies that must not be built, each refused for its own reason, by the model or by the policy."""
    code, details = INVALID[case["case"]]

    def build() -> dc.Policy:
        models = [
            dc.Model(**model | {"enabled": {0: False, 1: True}.get(model["enabled"], model["enabled"])})
            for model in case["models"]
        ]
        limits = ("hard_risk_limit_bps", "minimum_confidence_bps", "risk_penalty_multiplier_bps")
        return dc.Policy(bridge.catalog(models), **{name: case[name] for name in limits})

    with pytest.raises(dc.InvalidInput) as caught:
        build()
    assert caught.value.code == code
    assert {name: caught.value.details[name] for name in details} == details
