"""The answers of the reference implementation (tests/vectors) in the model's types."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from model.decisions import Candidate, Lever, Policy, Request, Verdict

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


def verdict(row: dict[str, Any]) -> Verdict:
    """A verdict of the vectors, where 128-bit numbers are text and a budget's numbers have names of their own."""
    values = dict(row)
    if values["verdict"] == "rejected":
        values["verdict"] = "gate"
    if "limit_microunits" in values:
        values["limit"] = values.pop("limit_microunits")
        values["measured"] = values["cost_microunits"]
    for name in ("quality_adjusted", "risk_penalty", "latency_penalty"):
        if name in values:
            values[name] = int(values[name])
    return Verdict(**values)


def levers(rows: list[dict[str, Any]]) -> list[Lever]:
    return [Lever(**{**row, "lever": LEVERS[row["lever"]]}) for row in rows]


def margin(row: dict[str, Any] | None) -> tuple[int, list[Lever]] | None:
    return None if row is None else (row["model_id"], levers(row["levers"]))
