"""Automated choices that can be proved afterwards.

A caller brings a catalog (models, venues, suppliers), limits and a stream of requests. The library picks under hard
gates with integers only, holds the money, writes the decision to a tamper-evident log before it answers, and lets
anyone derive every step again later.

Start with :class:`decidable.llm.Gateway` for choosing language models by name, with :class:`Policy` for a decision
alone, and with :class:`Engine` for the whole path.
"""

from __future__ import annotations

from decidable._native import (
    Action,
    Balance,
    Decision,
    Explanation,
    Hold,
    Ledger,
    LedgerSnapshot,
    Lever,
    Margin,
    Model,
    Names,
    Policy,
    Reason,
    Request,
    Verdict,
    WhatWouldWin,
    __version__,
    identity,
)
from decidable.arrays import DECISION_DTYPE, REQUEST_DTYPE
from decidable.errors import (
    Conflict,
    DecidableError,
    InvalidInput,
    LogUnavailable,
    Refused,
    UnknownName,
    VerificationError,
)

__all__ = [
    "DECISION_DTYPE",
    "REQUEST_DTYPE",
    "Action",
    "Balance",
    "Conflict",
    "DecidableError",
    "Decision",
    "Explanation",
    "Hold",
    "InvalidInput",
    "Ledger",
    "LedgerSnapshot",
    "Lever",
    "LogUnavailable",
    "Margin",
    "Model",
    "Names",
    "Policy",
    "Reason",
    "Refused",
    "Request",
    "UnknownName",
    "Verdict",
    "VerificationError",
    "WhatWouldWin",
    "__version__",
    "identity",
]
