"""How a decision is told: in words, and as JSON in the members of the exchange format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from decidable._native import Decision, Explanation, Names, Policy, Request, Verdict, identity
from decidable.arrays import NO_INDEX
from decidable.cli.screen import Screen
from decidable.report.quantity import count, money, percent
from decidable.report.words import refusal_words

__all__ = ["decision_document", "explanation_document", "model_name", "show_decision", "show_explanation"]

# The first two things that each objective compares (docs/spec/extensions.md).
_COMPARED: Final = {
    "utility": ("utility", "cost"),
    "cheapest": ("cost", "quality"),
    "quality": ("quality", "cost"),
    "fastest": ("latency", "cost"),
}


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
            "selected_model_index": NO_INDEX
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
    explanation = policy.explain(request)
    verdicts = {each.model_id: each for each in explanation} if explanation.decision == decision else {}
    first, *_ = _COMPARED[policy.objective]
    rows = [
        ("action", decision.action.label),
        ("objective", policy.objective),
        ("reason", f"{decision.reason.label} ({decision.reason.code})"),
        ("candidates", f"{decision.eligible_models} eligible of {decision.evaluated_models}"),
    ]
    if selected is not None:
        hold = policy.hold(request)
        rows += [
            ("estimated cost", money(decision.estimated_cost_microunits)),
            ("would be held", "nothing" if hold is None else money(hold)),
        ]
        winner = verdicts.get(decision.selected_model_id or 0)
        if winner is not None and first != "cost":
            rows.append((first, _figure(first, winner)))
        rows.append(("second best", _second(policy, decision, verdicts, first)))
    screen.pairs([*rows, ("identity", identity(policy, request, decision).hex()), *beside])


def _second(policy: Policy, decision: Decision, verdicts: Mapping[int, Verdict], first: str) -> str:
    """The second best, and what it has of what the objective compares first."""
    name = model_name(policy, decision.counterfactual_model_id)
    if name is None:
        return "none"
    verdict = verdicts.get(decision.counterfactual_model_id or 0)
    return name if verdict is None else f"{name}, {first} {_figure(first, verdict)}"


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
    """One row a candidate: the first two things that the objective compares, or the gate that it failed, and why."""
    decision = explanation.decision
    if not len(explanation):
        screen.line("  No candidate was looked at: the request was refused before the catalog.")
        return
    compared = _COMPARED[explanation.objective]
    rows = []
    for each in explanation:
        chosen = each.model_id == decision.selected_model_id
        second = each.model_id == decision.counterfactual_model_id
        rows.append(
            [
                str(model_name(policy, each.model_id)),
                "chosen" if chosen else each.verdict.replace("_", " "),
                "second best" if second else _why(policy, each),
                *(_figure(what, each) for what in compared),
            ]
        )
    screen.table(["model", "verdict", "why", *(f"#{what}" for what in compared)], rows)


def _figure(what: str, verdict: Verdict) -> str:
    """What an objective compares, of one candidate; nothing where the candidate was not compared."""
    if verdict.verdict == "gate":
        return ""
    if what == "quality":
        return percent(verdict.quality_bps)
    if what == "latency":
        return f"{count(verdict.p95_latency_ms)} ms"
    amount = verdict.cost_microunits if what == "cost" else verdict.utility
    return "" if amount is None else money(amount)


def _why(policy: Policy, verdict: Verdict) -> str:
    """The gate or budget that a candidate failed and what it compared, by the names that the policy has."""
    measured, limit = verdict.measured, verdict.limit
    if measured is None or limit is None:
        return ""
    names = policy.names or Names()
    match verdict.gate:
        case "Quality":
            return f"quality {percent(measured)}, below {percent(limit)}"
        case "Latency":
            return f"latency {count(measured)} ms, above {count(limit)} ms"
        case "Capability":
            return f"lacks {_bits(limit & ~measured, names.capabilities)}"
        case "ProviderNotAllowed":
            return f"provider {names.providers.get(measured, measured)} is not allowed"
        case "Region":
            return f"in {_bits(measured, names.regions)}, not in {_bits(limit, names.regions)}"
        case "RiskCeiling":
            return f"risk {percent(measured)}, above its ceiling of {percent(limit)}"
        case None:
            return f"cost {money(measured)}, above {money(limit)}"
        case _:
            return "disabled"


def _bits(mask: int, names: Mapping[int, str]) -> str:
    """The bits of a mask by name, or by number where they have none."""
    return ", ".join(names.get(bit, f"bit {bit}") for bit in range(64) if mask >> bit & 1) or "none"
