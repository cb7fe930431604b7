"""The record types of batches: exactly the fields of docs/spec/decisions.md, in their order, packed.

Absence is the layout's sentinel here: 0 for "none requested" and "no limit", all ones for "any provider",
65,535 for "no index" (docs/spec/decisions.md).
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np

from decidable import _native

__all__ = ["DECISION_DTYPE", "GATES", "QUOTE_DTYPE", "REJECTION_DTYPE", "REQUEST_DTYPE"]

NO_INDEX: Final = 65_535
"""The index of a decision that selected nothing."""

REQUEST_DTYPE = np.dtype(
    [
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
    ]
)
"""One request a row, 70 bytes."""

DECISION_DTYPE = np.dtype(
    [
        ("request_sequence", "<u8"),
        ("action", "u1"),
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
    ]
)
"""One decision a row, 65 bytes."""

REJECTION_DTYPE = np.dtype(
    [
        ("disabled", "<u4"),
        ("quality", "<u4"),
        ("risk_ceiling", "<u4"),
        ("latency", "<u4"),
        ("capability", "<u4"),
        ("provider", "<u4"),
        ("region", "<u4"),
        ("budget", "<u4"),
        ("utility", "<u4"),
    ]
)
"""For one decision a row, 36 bytes: how many candidates failed each gate first."""

QUOTE_DTYPE = np.dtype([("row", "<u8"), ("model_id", "<u4"), ("cost_microunits", "<u8")])
"""A cost that replaces the one from rates, for one candidate and the request of that row; 20 bytes."""

GATES: tuple[str, ...] = (
    "eligible",
    "Disabled",
    "Quality",
    "Latency",
    "Capability",
    "ProviderNotAllowed",
    "Region",
    "RiskCeiling",
    "over_budget",
    "non_positive_utility",
)
"""What the numbers of ``decide_batch(gates=...)`` mean: 0 for a model that passed, then the gates by their numbers in
docs/spec/decisions.md, each spelled as ``Verdict.gate``, or as ``Verdict.verdict`` where that is None. 255 is no place
here: the model was not looked at."""

if hasattr(os, "register_at_fork"):
    # The threads of batches are the parent's, and none is half started in a child.
    os.register_at_fork(before=_native.before_fork, after_in_parent=_native.after_fork, after_in_child=_native.forked)
