"""The model's policies, requests and answers in the types of ``decidable`` and of NumPy, and back."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np

import decidable as dc
from model.decisions import (
    ALL_ONES,
    NO_INDEX,
    U64_MAX,
    Candidate,
    Decision,
    Lever,
    Names,
    Policy,
    Request,
    Verdict,
)

CANDIDATE_FIELDS = tuple(field.name for field in fields(Candidate))
REQUEST_FIELDS = tuple(field.name for field in fields(Request))[:13]

# --- to decidable -----------------------------------------------------------------------------------------------------


def native_model(candidate: Candidate) -> dc.Model:
    values = {name: getattr(candidate, name) for name in CANDIDATE_FIELDS}
    return dc.Model(**values | {"enabled": bool(candidate.enabled)})


def native_names(names: Names | None) -> dc.Names | None:
    if names is None:
        return None
    return dc.Names(
        models=names.models, providers=names.providers, regions=names.regions, capabilities=names.capabilities
    )


def catalog(models: Iterable[dc.Model], names: dc.Names | None = None) -> Any:
    """The least that a policy takes as a catalog."""
    return SimpleNamespace(models=list(models), names=names)


def native_policy(policy: Policy) -> dc.Policy:
    return dc.Policy(
        catalog(map(native_model, policy.models), native_names(policy.names)),
        policy_epoch=policy.policy_epoch,
        catalog_epoch=policy.catalog_epoch,
        hard_risk_limit_bps=policy.hard_risk_limit_bps,
        minimum_confidence_bps=policy.minimum_confidence_bps,
        risk_penalty_multiplier_bps=policy.risk_penalty_multiplier_bps,
        latency_penalty_microunits_per_ms=policy.latency_penalty_microunits_per_ms,
        objective=policy.objective,
    )


def request_values(request: Request) -> tuple[int, ...]:
    return tuple(getattr(request, name) for name in REQUEST_FIELDS)


def native_request(request: Request) -> dc.Request:
    return dc.Request(
        **dict(zip(REQUEST_FIELDS, request_values(request), strict=True)),
        max_output_tokens=request.max_output_tokens,
        quotes=request.quotes or None,
    )


def request_rows(requests: Sequence[Request]) -> np.ndarray:
    return np.array([request_values(request) for request in requests], dtype=dc.REQUEST_DTYPE)


# --- from decidable ---------------------------------------------------------------------------------------------------


def model_policy(policy: dc.Policy) -> Policy:
    names = policy.names and Names(
        models=policy.names.models,
        providers=policy.names.providers,
        regions=policy.names.regions,
        capabilities=policy.names.capabilities,
    )
    return Policy(
        policy_epoch=policy.policy_epoch,
        catalog_epoch=policy.catalog_epoch,
        hard_risk_limit_bps=policy.hard_risk_limit_bps,
        minimum_confidence_bps=policy.minimum_confidence_bps,
        risk_penalty_multiplier_bps=policy.risk_penalty_multiplier_bps,
        latency_penalty_microunits_per_ms=policy.latency_penalty_microunits_per_ms,
        models=tuple(
            Candidate(**{name: int(getattr(model, name)) for name in CANDIDATE_FIELDS}) for model in policy.models
        ),
        objective=policy.objective,
        names=names,
    )


def model_request(request: dc.Request) -> Request:
    """A request with the layout's numbers."""
    absent = {
        "requested_model_id": 0,
        "budget_limit_microunits": U64_MAX,
        "max_p95_latency_ms": 0,
        "allowed_provider_mask": ALL_ONES,
        "required_region_mask": 0,
    }
    values = {name: getattr(request, name) for name in REQUEST_FIELDS}
    return Request(
        **{name: absent[name] if value is None else value for name, value in values.items()},
        quotes=request.quotes or {},
        max_output_tokens=request.max_output_tokens,
    )


def as_decision(decision: dc.Decision) -> Decision:
    """A decision with the layout's numbers."""
    index = decision.selected_model_index
    return Decision(
        request_sequence=decision.request_sequence,
        action=decision.action.code,
        reason=decision.reason.code,
        selected_model_id=decision.selected_model_id or 0,
        selected_model_index=NO_INDEX if index is None else index,
        estimated_cost_microunits=decision.estimated_cost_microunits,
        expected_utility_microunits=decision.expected_utility_microunits,
        counterfactual_model_id=decision.counterfactual_model_id or 0,
        counterfactual_utility_microunits=decision.counterfactual_utility_microunits,
        evaluated_models=decision.evaluated_models,
        eligible_models=decision.eligible_models,
        policy_epoch=decision.policy_epoch,
        catalog_epoch=decision.catalog_epoch,
    )


def as_verdict(verdict: dc.Verdict) -> Verdict:
    return Verdict(*(getattr(verdict, name) for name in Verdict._fields))


def as_levers(levers: Iterable[dc.Lever]) -> list[Lever]:
    return [Lever(*(getattr(lever, name) for name in Lever._fields)) for lever in levers]


def as_what_would_win(found: dc.WhatWouldWin) -> tuple[int | None, list[Lever]]:
    blocked = found.blocked_by_request
    return None if blocked is None else blocked.code, as_levers(found.levers)


def as_margin(found: dc.Margin | None) -> tuple[int, list[Lever]] | None:
    return None if found is None else (found.model_id, as_levers(found.levers))
