"""How a decision is told: in words, and as JSON in the members of the exchange format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from decidable._native import Decision, Explanation, Policy, Request, identity
from decidable.cli.screen import Screen
from decidable.report.quantity import money
from decidable.report.words import refusal_words

__all__ = ["decision_document", "explanation_document", "model_name", "show_decision", "show_explanation"]

_NO_INDEX: Final = 65_535


def model_name(policy: Policy, model_id: int | None) -> str | None:
    """The name that the policy has for a model, or its number as text; None of none."""
    if model_id is None:
        return None
    names = policy.names.models if policy.names is not None else {}
    return names.get(model_id, f"model {model_id}")


def decision_document(policy: Policy, request: Request, decision: Decision) -> dict[str, Any]:
    """The decision as the exchange format writes it, and what belongs to it."""
    return {
        "decision": {
            "request_sequence": decision.request_sequence,
            "action": decision.action.name,
            "reason": decision.reason.name,
            "selected_model_id": decision.selected_model_id or 0,
            "selected_model_index": _NO_INDEX
            if decision.selected_model_index is None
            else decision.selected_model_index,
            "estimated_cost_microunits": decision.estimated_cost_microunits,
            "expected_utility_microunits": decision.expected_utility_microunits,
            "counterfactual_model_id": decision.counterfactual_model_id or 0,
            "counterfactual_utility_microunits": decision.counterfactual_utility_microunits,
            "evaluated_models": decision.evaluated_models,
            "eligible_models": decision.eligible_models,
            "policy_epoch": decision.policy_epoch,
            "catalog_epoch": decision.catalog_epoch,
        },
        "digests": {
            "policy": policy.digest().hex(),
            "request": request.digest().hex(),
            "decision": decision.digest().hex(),
            "identity": identity(policy, request, decision).hex(),
        },
        "hold_microunits": policy.hold(request),
        "model": model_name(policy, decision.selected_model_id),
    }


def show_decision(
    screen: Screen, policy: Policy, request: Request, decision: Decision, beside: Sequence[tuple[str, str]] = ()
) -> None:
    """One decision in a few lines, and what else is known of it."""
    selected = model_name(policy, decision.selected_model_id)
    if selected is None:
        name, sentence = refusal_words(decision.reason.label)
        screen.line(f"request {decision.request_sequence}: refused, {name.lower()}: {sentence}", style="bold")
    else:
        instead = ""
        if request.requested_model_id and request.requested_model_id != decision.selected_model_id:
            instead = f" in place of {model_name(policy, request.requested_model_id)}"
        screen.line(f"request {decision.request_sequence}: {selected}{instead}", style="bold")
    hold = policy.hold(request)
    second = model_name(policy, decision.counterfactual_model_id)
    rows = [
        ("action", decision.action.label),
        ("reason", f"{decision.reason.label} ({decision.reason.code})"),
        ("candidates", f"{decision.eligible_models} eligible of {decision.evaluated_models}"),
    ]
    if selected is not None:
        rows += [
            ("estimated cost", money(decision.estimated_cost_microunits)),
            ("would be held", "nothing" if hold is None else money(hold)),
            ("utility", money(decision.expected_utility_microunits)),
            (
                "second best",
                "none" if second is None else f"{second}, utility {money(decision.counterfactual_utility_microunits)}",
            ),
        ]
    screen.pairs([*rows, ("identity", identity(policy, request, decision).hex()), *beside])


def explanation_document(policy: Policy, explanation: Explanation) -> list[dict[str, Any]]:
    """One object a candidate, in the order of the catalog."""
    return [
        {
            "model": model_name(policy, each.model_id),
            "model_id": each.model_id,
            "verdict": each.verdict,
            "gate": each.gate,
            "measured": each.measured,
            "limit": each.limit,
            "quality_adjusted": each.quality_adjusted,
            "risk_penalty": each.risk_penalty,
            "cost_microunits": each.cost_microunits,
            "latency_penalty": each.latency_penalty,
            "utility": each.utility,
        }
        for each in explanation
    ]


def show_explanation(screen: Screen, policy: Policy, explanation: Explanation) -> None:
    """One row a candidate: what it would cost and be worth, or the gate that it failed and the two numbers compared."""
    decision = explanation.decision
    if not len(explanation):
        screen.line("  No candidate was looked at: the request was refused before the catalog.")
        return
    rows = []
    for each in explanation:
        chosen = "chosen" if each.model_id == decision.selected_model_id else each.verdict.replace("_", " ")
        second = each.model_id == decision.counterfactual_model_id
        why = each.gate or ("second best" if second else "")
        if each.measured is not None or each.limit is not None:
            why = f"{why}: {each.measured} against {each.limit}".removeprefix(": ")
        rows.append(
            [
                str(model_name(policy, each.model_id)),
                chosen if each.verdict != "gate" else "gate",
                why,
                "" if each.cost_microunits is None else money(each.cost_microunits),
                "" if each.utility is None else money(each.utility),
            ]
        )
    screen.table(["model", "verdict", "why", "#cost", "#utility"], rows)
