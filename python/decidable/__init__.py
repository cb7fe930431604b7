"""Automated choices that can be proved afterwards.

A caller brings a catalog (models, venues, suppliers), limits and a stream of requests. The library picks under hard
gates with integers only, holds the money, writes the decision to a tamper-evident log before it answers, and lets
anyone derive every step again later.

Start with :class:`decidable.llm.Gateway` for choosing language models by name, with :class:`Policy` for a decision
alone, and with :class:`Engine` for the whole path.
"""

from __future__ import annotations

from decidable import _start as _start
from decidable._native import (
    Action,
    Balance,
    Decision,
    Decisions,
    Explanation,
    Hold,
    Key,
    Ledger,
    LedgerSnapshot,
    Lever,
    LogitBounds,
    LogitStats,
    ManualClock,
    Margin,
    Model,
    Names,
    Policy,
    Reason,
    Record,
    Request,
    Settlement,
    Verdict,
    WhatWouldWin,
    __version__,
    digest_batch,
    identity,
    logit_stats,
    logit_stats_from_top_k,
    vectors,
)
from decidable.arrays import DECISION_DTYPE, GATES, QUOTE_DTYPE, REJECTION_DTYPE, REQUEST_DTYPE
from decidable.catalog import Catalog
from decidable.domains import llm
from decidable.engine import Engine, EngineLedger, Opened, Ticket
from decidable.errors import (
    Conflict,
    DecidableError,
    GuardStopped,
    InvalidInput,
    LogUnavailable,
    Refused,
    UnknownName,
    VerificationError,
)
from decidable.guard import AuditReport, Guard, Match, Monitor, Pressure, Rule, StopReason, verify_audit
from decidable.replay import VerificationReport, verify
from decidable.wal import export, read, read_head, write_head

__all__ = [
    "DECISION_DTYPE",
    "GATES",
    "QUOTE_DTYPE",
    "REJECTION_DTYPE",
    "REQUEST_DTYPE",
    "Action",
    "AuditReport",
    "Balance",
    "Catalog",
    "Conflict",
    "DecidableError",
    "Decision",
    "Decisions",
    "Engine",
    "EngineLedger",
    "Explanation",
    "Guard",
    "GuardStopped",
    "Hold",
    "InvalidInput",
    "Key",
    "Ledger",
    "LedgerSnapshot",
    "Lever",
    "LogUnavailable",
    "LogitBounds",
    "LogitStats",
    "ManualClock",
    "Margin",
    "Match",
    "Model",
    "Monitor",
    "Names",
    "Opened",
    "Policy",
    "Pressure",
    "Reason",
    "Record",
    "Refused",
    "Request",
    "Rule",
    "Settlement",
    "StopReason",
    "Ticket",
    "UnknownName",
    "Verdict",
    "VerificationError",
    "VerificationReport",
    "WhatWouldWin",
    "__version__",
    "digest_batch",
    "export",
    "identity",
    "llm",
    "logit_stats",
    "logit_stats_from_top_k",
    "read",
    "read_head",
    "vectors",
    "verify",
    "verify_audit",
    "write_head",
]
