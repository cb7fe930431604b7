"""What a report says, gathered from the records of one verified log in one pass.

Memory grows with what the report shows (models, minutes, refusals, open tickets), plus one number a settlement for the
percentiles. Nothing here decides or checks: `decidable.verify` did that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Account", "Facts", "ModelUse", "gather"]


@dataclass(slots=True)
class ModelUse:
    """How often one model was chosen, and what its settled calls used and cost."""

    name: str
    provider: str
    chosen: int = 0
    substituted: int = 0
    settled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_microunits: int = 0
    spent_microunits: int = 0


@dataclass(slots=True)
class Account:
    """One account, and what its requests came to."""

    number: int
    name: str
    decisions: int = 0
    refused: int = 0
    denied: int = 0


@dataclass(slots=True)
class Facts:
    """Everything the page shows that comes from records."""

    first_ns: int | None = None
    last_ns: int | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    decisions: int = 0
    selected: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    models: dict[str, ModelUse] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    spend: list[tuple[int, str, int]] = field(default_factory=list)
    durable_ns: list[int] = field(default_factory=list)
    spent_microunits: int = 0
    debt_microunits: int = 0
    estimated_microunits: int = 0
    settlements: int = 0
    cancellations: int = 0
    sessions: int = 0
    recoveries: int = 0
    policies: list[tuple[int, str, str, str]] = field(default_factory=list)

    def models_by_spend(self) -> list[ModelUse]:
        """Dearest first, by the estimates where nothing was settled; ties by how often chosen, then by name."""
        return sorted(
            self.models.values(),
            key=lambda use: (-use.spent_microunits, -use.estimated_microunits, -use.chosen, use.name),
        )


def gather(records: Iterable[Any]) -> Facts:
    """One pass over the records of a log, in order."""
    facts = Facts()
    policies: dict[int, Any] = {}
    open_models: dict[int, ModelUse] = {}
    for record in records:
        kind, fields = record.kind, record.fields
        facts.kinds[kind] += 1
        if record.time_ns:
            facts.first_ns = record.time_ns if facts.first_ns is None else min(facts.first_ns, record.time_ns)
            facts.last_ns = record.time_ns if facts.last_ns is None else max(facts.last_ns, record.time_ns)
        if kind == "decision":
            _decision(facts, fields, policies, open_models)
        elif kind == "settlement":
            _settlement(facts, fields, record.time_ns, open_models)
        elif kind == "cancellation":
            facts.cancellations += 1
            open_models.pop(fields["request_sequence"], None)
        elif kind == "refusal":
            facts.decisions += 1
            facts.refusals["safety_ceiling"] += 1
            _asked(facts, fields, refused=True, denied=False)
        elif kind == "policy":
            policy = fields["policy"]
            policies[fields["policy_number"]] = policy
            facts.policies.append(
                (fields["policy_number"], fields["digest"], policy.objective, fields.get("provenance") or "")
            )
        elif kind == "account":
            number = fields["account_number"]
            facts.accounts[number] = Account(number, fields["account"])
        elif kind == "opened":
            facts.sessions += 1
        elif kind == "recovered":
            facts.recoveries += 1
    facts.durable_ns.sort()
    return facts


def _decision(facts: Facts, fields: dict[str, Any], policies: dict[int, Any], open_models: dict[int, ModelUse]) -> None:
    facts.decisions += 1
    decision = fields["decision"]
    outcome = fields.get("outcome") or ("unheld" if decision.selected_model_id is not None else "rejected")
    refused, denied = outcome in ("rejected", "denied"), outcome == "denied"
    _asked(facts, fields, refused=refused, denied=denied)
    if refused:
        facts.refusals[fields["denial"] if denied else decision.reason.label] += 1
        return
    facts.selected += 1
    facts.estimated_microunits += decision.estimated_cost_microunits
    use = _use(facts, policies.get(fields.get("policy_number")), decision.selected_model_id)  # type: ignore[arg-type]
    use.chosen += 1
    use.substituted += decision.action.label == "substitute"
    use.estimated_microunits += decision.estimated_cost_microunits
    open_models[decision.request_sequence] = use


def _asked(facts: Facts, fields: dict[str, Any], *, refused: bool, denied: bool) -> None:
    account = facts.accounts.get(fields.get("account_number", -1))
    if account is not None:
        account.decisions += 1
        account.refused += refused
        account.denied += denied


def _settlement(facts: Facts, fields: dict[str, Any], time_ns: int, open_models: dict[int, ModelUse]) -> None:
    facts.settlements += 1
    # The charge includes what an account could not pay: that was spent all the same.
    cost = fields["charged_microunits"]
    facts.spent_microunits += cost
    facts.debt_microunits += fields.get("debt_microunits") or 0
    if fields.get("durable_ns") is not None:
        facts.durable_ns.append(fields["durable_ns"])
    use = open_models.pop(fields["request_sequence"], None)
    if use is None:
        return
    use.settled += 1
    use.spent_microunits += cost
    use.input_tokens += fields.get("input_tokens") or 0
    use.output_tokens += fields.get("output_tokens") or 0
    facts.spend.append((time_ns, use.name, cost))


def _use(facts: Facts, policy: Any, model_id: int) -> ModelUse:
    name, provider = f"model {model_id}", ""
    if policy is not None and policy.names is not None:
        name = policy.names.models.get(model_id, name)
        provider = next(_providers(policy, model_id), "")
    return facts.models.setdefault(name, ModelUse(name, provider))


def _providers(policy: Any, model_id: int) -> Iterator[str]:
    for model in policy.models:
        if model.model_id == model_id:
            yield policy.names.providers.get(model.provider_id, f"provider {model.provider_id}")
