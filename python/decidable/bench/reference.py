"""The reference implementation, where it is installed: its policies, requests and answers from ours and back."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decidable._native import Policy
from decidable.arrays import DECISION_DTYPE

__all__ = ["PEER", "PEER_VERSION", "Peer", "peer"]

PEER: Final = "calybris"
PEER_VERSION: Final = "1.3.0"
"""The version whose decisions ours are (docs/spec/decisions.md); another one is no measure."""

_MODEL: Final = (
    "model_id",
    "provider_id",
    "quality_bps",
    "risk_ceiling_bps",
    "enabled",
    "p95_latency_ms",
    "capabilities",
    "region_mask",
    "input_cost_microunits_per_million_tokens",
    "output_cost_microunits_per_million_tokens",
)
_CODES: Final = {"action": "action_code", "reason": "reason_code"}


def peer() -> Peer | None:
    """The reference implementation, or None where it is not installed or is another version."""
    from importlib.metadata import PackageNotFoundError, version  # takes long to import, and no other command needs it

    try:
        if version(PEER) != PEER_VERSION:
            return None
        return Peer(importlib.import_module(PEER))
    except (ImportError, PackageNotFoundError):
        return None


class Peer:
    """The package ``calybris``. Its classes are used as they are: what is measured is theirs alone."""

    def __init__(self, package: Any) -> None:
        self.package = package
        self.request: Callable[..., Any] = package.KernelInput

    def models(self, policy: Policy) -> list[Any]:
        """Our candidates as its own."""
        return [self.package.KernelModel(*(int(getattr(each, name)) for name in _MODEL)) for each in policy.models]

    def policy(self, policy: Policy, models: Sequence[Any] | None = None) -> Any:
        """Our policy as its own, of candidates that were made beforehand where they are given."""
        return self.package.PolicySnapshot(
            policy.policy_epoch,
            policy.catalog_epoch,
            policy.hard_risk_limit_bps,
            policy.minimum_confidence_bps,
            policy.risk_penalty_multiplier_bps,
            policy.latency_penalty_microunits_per_ms,
            self.models(policy) if models is None else models,
        )

    def rows(self, decisions: Iterable[Any]) -> npt.NDArray[np.void]:
        """Its decisions as rows of ours."""
        names = [_CODES.get(name, name) for name in DECISION_DTYPE.names or ()]
        return np.array([tuple(getattr(each, name) for name in names) for each in decisions], dtype=DECISION_DTYPE)
