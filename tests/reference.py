"""The model's policies, requests and answers in the types of the reference implementation, and back."""

from collections.abc import Iterable
from typing import Any

from calybris import _core as peer

import bridge
from model.decisions import Decision, Lever, Policy, Request


def reference_policy(policy: Policy) -> Any:
    models = [peer.KernelModel(*(getattr(model, name) for name in bridge.CANDIDATE_FIELDS)) for model in policy.models]
    return peer.PolicySnapshot(
        policy.policy_epoch,
        policy.catalog_epoch,
        policy.hard_risk_limit_bps,
        policy.minimum_confidence_bps,
        policy.risk_penalty_multiplier_bps,
        policy.latency_penalty_microunits_per_ms,
        models,
    )


def reference_request(request: Request) -> Any:
    return peer.KernelInput(*bridge.request_values(request))


def as_decision(decision: Any) -> Decision:
    codes = {"action": decision.action_code, "reason": decision.reason_code}
    others = {name: getattr(decision, name) for name in Decision._fields if name not in codes}
    return Decision(**codes, **others)


LEVERS = {
    "quality_bps": "quality_bps",
    "p95_latency_ms": "latency_ms",
    "price_scale_ppm": "price_ppm",
    "risk_ceiling_bps": "risk_ceiling_bps",
    "enabled": "enabled",
}


def as_levers(levers: Iterable[dict[str, Any]]) -> list[Lever]:
    return [Lever(**{**lever, "lever": LEVERS[lever["lever"]]}) for lever in levers]
