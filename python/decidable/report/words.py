"""The words for labels: refusals by the gate that caused them, in the order asked, and kinds of records."""

from __future__ import annotations

__all__ = ["REFUSALS", "kind_words", "refusal_order", "refusal_words"]

REFUSALS: dict[str, tuple[str, str]] = {
    "safety_ceiling": ("Safety ceiling", "risk at or above the compiled ceiling, refused before any policy is read"),
    "risk_hard_limit": ("Risk limit", "risk at or above the policy's hard limit"),
    "confidence_hard_limit": ("Confidence floor", "confidence below the policy's floor"),
    "no_enabled_model": ("No enabled model", "every model is disabled"),
    "quality_constraint": ("Quality", "no model of the wanted quality is left"),
    "latency_constraint": ("Latency", "no model answers within the wanted time"),
    "capability_constraint": ("Capability", "no model can do what is required"),
    "provider_constraint": ("Provider", "no model of an allowed provider is left"),
    "region_constraint": ("Region", "no model in a required region is left"),
    "risk_ceiling_constraint": ("Risk ceiling", "the request's risk is above every model's ceiling"),
    "budget_constraint": ("Budget", "every model costs more than the request may"),
    "non_positive_utility": ("Not worth it", "no model's value exceeds its cost"),
    "insufficient": ("Account empty", "the account's remaining money does not cover the hold"),
    "over_cap": ("Account cap", "the hold would take the account above its exposure cap"),
    "overflow": ("Account overflow", "the account cannot count that high"),
}
_ORDER = {label: place for place, label in enumerate(REFUSALS)}


def refusal_words(label: str) -> tuple[str, str]:
    """A short name and a sentence; an unknown label speaks for itself."""
    return REFUSALS.get(label, (label.replace("_", " "), ""))


def refusal_order(label: str) -> tuple[int, str]:
    """Sorts labels as the gates are asked."""
    return _ORDER.get(label, len(_ORDER)), label


def kind_words(kind: str, number: int) -> str:
    """
    >>> kind_words("policy", 2), kind_words("decision", 1), kind_words("opened", 3)
    ('policies', 'decision', 'openings')
    """
    word = {"opened": "opening", "closed": "closing", "recovered": "recovery", "erased": "erasure"}.get(kind, kind)
    word = word.replace("_", " ")
    if number == 1:
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
