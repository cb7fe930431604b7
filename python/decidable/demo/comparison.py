"""What else could have been done with the same requests, priced by the same policy.

A baseline answers every admitted request with a model chosen by price or size alone. Costs come from
``policy.cost(...)`` at the real number of tokens; whether a model meets a request's floors comes from the kernel as
well, asked with a policy that holds this one model and ranks by cost. Nothing is computed a second time here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from decidable.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from decidable._native import Model, Policy, Request

__all__ = ["BY_PROMPT_LENGTH", "Admitted", "Baseline", "always_dearest", "baselines", "best_single", "by_prompt_length"]

Admitted = tuple["Request", int]
"""A request that was answered, and the real number of tokens of its answer."""

BY_PROMPT_LENGTH: Final = ((500, "gpt-4o-mini"), (2_000, "gpt-5-mini"), (None, "gpt-5"))
"""The rule by prompt length: up to so many tokens, this model. One maker's small, medium and large model."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a baseline would have cost."""

    name: str
    """Short, for a table: ``always the dearest``."""
    detail: str
    """Which model or models it uses."""
    cost_microunits: int
    """For all the admitted requests, at the real number of tokens."""
    requests: int
    """How many requests it answers: all that were admitted."""
    meets_floors: int
    """For how many of them its model passes the gates of the policy."""


def baselines(policy: Policy, admitted: Sequence[Admitted]) -> tuple[Baseline, ...]:
    """The three baselines over the same admitted requests."""
    return always_dearest(policy, admitted), best_single(policy, admitted), by_prompt_length(policy, admitted)


def always_dearest(policy: Policy, admitted: Sequence[Admitted]) -> Baseline:
    """Every request to the model with the highest prices: by output, then by input."""
    dearest = max(
        (model for model in policy.models if model.enabled),
        key=lambda model: (
            model.output_cost_microunits_per_million_tokens,
            model.input_cost_microunits_per_million_tokens,
        ),
    )
    return _priced("always the dearest", _name(policy, dearest), policy, admitted, lambda request: dearest)


def best_single(policy: Policy, admitted: Sequence[Admitted]) -> Baseline:
    """Every request to the one model that passes the gates of the most of them; of equal ones, to the cheapest.

    No single model passes the gates of all: some requests have to stay in Europe, others in Asia.
    """
    met = {model.model_id: _meets_floors(policy, model, admitted) for model in policy.models if model.enabled}
    most = max(met.values())

    def total(model: Model) -> int:
        return sum(_costs(policy, admitted, lambda request: model))

    best = min((model for model in policy.models if met.get(model.model_id) == most), key=total)
    return _priced("the best single model", _name(policy, best), policy, admitted, lambda request: best)


def by_prompt_length(policy: Policy, admitted: Sequence[Admitted]) -> Baseline:
    """Short prompts to a small model, long prompts to a large one: :data:`BY_PROMPT_LENGTH`."""
    names = policy.names.models if policy.names is not None else {}
    by_name = {names.get(model.model_id): model for model in policy.models}
    steps = [(most, by_name[name]) for most, name in BY_PROMPT_LENGTH]

    def choose(request: Request) -> Model:
        return next(model for most, model in steps if most is None or request.input_tokens <= most)

    detail = ", ".join(
        f"{name} up to {most:,} tokens" if most is not None else f"{name} above" for most, name in BY_PROMPT_LENGTH
    )
    return _priced("a rule by prompt length", detail, policy, admitted, choose)


def _priced(
    name: str, detail: str, policy: Policy, admitted: Sequence[Admitted], choose: Callable[[Request], Model]
) -> Baseline:
    groups: dict[int, list[Admitted]] = {}
    for request, output_tokens in admitted:
        groups.setdefault(choose(request).model_id, []).append((request, output_tokens))
    models = {model.model_id: model for model in policy.models}
    return Baseline(
        name=name,
        detail=detail,
        cost_microunits=sum(_costs(policy, admitted, choose)),
        requests=len(admitted),
        meets_floors=sum(_meets_floors(policy, models[number], group) for number, group in groups.items()),
    )


def _costs(policy: Policy, admitted: Sequence[Admitted], choose: Callable[[Request], Model]) -> list[int]:
    return [
        policy.cost(model_id=choose(request).model_id, input_tokens=request.input_tokens, output_tokens=output_tokens)
        for request, output_tokens in admitted
    ]


def _meets_floors(policy: Policy, model: Model, admitted: Sequence[Admitted]) -> int:
    """How many of the requests this model alone could have answered under the same limits."""
    alone = Catalog([model]).policy(
        hard_risk_limit_bps=policy.hard_risk_limit_bps,
        minimum_confidence_bps=policy.minimum_confidence_bps,
        objective="cheapest",
    )
    return sum(alone.decide(request).selected_model_id is not None for request, _ in admitted)


def _name(policy: Policy, model: Model) -> str:
    names = policy.names.models if policy.names is not None else {}
    return names.get(model.model_id, str(model.model_id))
