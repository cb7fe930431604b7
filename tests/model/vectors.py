"""The answers of the reference implementation (tests/vectors) in the model's types."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from model.decisions import Candidate, Policy, Request

FOLDER = Path(__file__).parent.parent / "vectors"

POLICY_FIELDS = (
    "policy_epoch",
    "catalog_epoch",
    "hard_risk_limit_bps",
    "minimum_confidence_bps",
    "risk_penalty_multiplier_bps",
    "latency_penalty_microunits_per_ms",
)

# The exchange format's words for the levers.
LEVERS = {
    "QualityBps": "quality_bps",
    "P95LatencyMs": "latency_ms",
    "PriceScalePpm": "price_ppm",
    "RiskCeilingBps": "risk_ceiling_bps",
    "Enabled": "enabled",
}


def lines(name: str) -> list[dict[str, Any]]:
    with (FOLDER / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def document(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def policy(row: dict[str, Any]) -> Policy:
    models = tuple(sorted((Candidate(**model) for model in row["models"]), key=lambda model: model.model_id))
    return Policy(**{name: row[name] for name in POLICY_FIELDS}, models=models)


@cache
def policies() -> tuple[Policy, ...]:
    return tuple(policy(row) for row in lines("policies.jsonl"))


def request(row: dict[str, Any]) -> Request:
    return Request(**row["input"])
