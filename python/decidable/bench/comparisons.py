"""The same work done by us and by the reference implementation, on the same input.

Both sides get their input in the form that they take fastest, built beforehand: its `KernelInput` objects there, our
`Request` objects and arrays here. Where building them is part of the work, the name says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decidable._native import Decision, Ledger, Policy, Request
from decidable.arrays import DECISION_DTYPE, NO_INDEX, REQUEST_DTYPE
from decidable.bench.reference import Peer
from decidable.bench.rounds import Comparison, Side
from decidable.bench.workload import REQUESTS, Workload
from decidable.builders import counted
from decidable.catalog import Catalog
from decidable.errors import VerificationError

__all__ = ["agree", "booked", "decided", "each"]

_LARGE: Final = 16
"""How many times the workload's requests a batch on many threads has."""

_FEW: Final = 512
"""How many things a side does at once where one takes long."""


def each(function: Callable[..., object], *arguments: Iterable[Any]) -> Callable[[], object]:
    """Calls the function with each argument, with as little Python in between as there can be."""
    return lambda: deque(map(function, *arguments), maxlen=0)


def agree(work: Workload, peer: Peer | None) -> int:
    """Compares every decision of a workload before it is measured: batch and single calls, and with the peer, whose
    digests of policy, requests and decisions are compared too. Returns how many there were.

    Raises:
        VerificationError: at the first that differs.
    """
    ours, requests = work.policy, work.requests()
    found, singles = ours.decide_batch(work.rows, threads=1), [ours.decide(request) for request in requests]
    _same("single calls", work, found, _rows(singles))
    _same("a batch on all cores", work, found, ours.decide_batch(work.rows))
    if peer is None:
        return len(requests)
    theirs, inputs = peer.policy(ours), [peer.request(*values) for values in work.values()]
    prescribed = theirs.prescribe_batch(inputs)
    _same("the peer", work, found, peer.rows(prescribed))
    for number, (request, decision) in enumerate(zip(requests, singles, strict=True)):
        bundle = theirs.audit_bundle(inputs[number], prescribed[number])
        told = tuple(bundle[f"{name}_digest_hex"] for name in ("policy", "input", "decision"))
        if told != (ours.digest().hex(), request.digest().hex(), decision.digest().hex()):
            raise _differs("the digests of the peer", work, number)
    return len(requests)


def decided(work: Workload, peer: Peer | None, *, threads: int | None = None) -> list[Comparison]:
    """Deciding a workload, and what belongs to a decision: its digests, its replay, its policy."""
    ours, rows = work.policy, work.rows
    requests, keywords, large = work.requests(), list(work.keywords()), np.tile(rows, _LARGE)
    decisions = [ours.decide(request) for request in requests]
    columns = {name: np.ascontiguousarray(rows[name]) for name in REQUEST_DTYPE.names or ()}
    catalog = Catalog(ours.models)

    def from_columns() -> object:
        built = np.empty(len(rows), REQUEST_DTYPE)
        for name, column in columns.items():
            built[name] = column
        return ours.decide_batch(built, threads=1)

    def evidence(request: Request, decision: Decision) -> tuple[bool, bytes, bytes, bytes]:
        """What an audit bundle says: that the decision replays, and the three digests."""
        return ours.decide(request) == decision, ours.digest(), request.digest(), decision.digest()

    def digests(request: Request, decision: Decision) -> tuple[bytes, bytes]:
        return request.digest(), decision.digest()

    theirs = {} if peer is None else _prescribed(work, peer, list(columns.values()))
    all_cores = "batch, all cores" if threads is None else f"batch, threads={threads}"
    batch = Side(REQUESTS, partial(ours.decide_batch, rows, threads=1))
    single = Side(REQUESTS, each(ours.decide, requests))
    built = Side(REQUESTS, each(lambda values: ours.decide(Request(**values)), keywords))
    row = Side(REQUESTS, each(ours.decide, work.values()))
    threaded = Side(len(large), partial(ours.decide_batch, large, threads=threads))
    replayed = Side(_FEW, each(evidence, requests[:_FEW], decisions[:_FEW]))
    policy = Side(1, lambda: _rebuilt(ours, catalog).digest())
    return [
        Comparison("single call", single, theirs.get("single")),
        Comparison("build request, decide", built, theirs.get("built")),
        *([Comparison("build, peer by keywords", built, theirs["built by keywords"])] if theirs else []),
        Comparison("decide a row", row, theirs.get("built")),
        Comparison("batch, 1 thread", batch, theirs.get("batch")),
        *([Comparison("batch, peer one by one", batch, theirs["list of singles"])] if theirs else []),
        Comparison("batch from columns", Side(REQUESTS, from_columns), theirs.get("batch from columns")),
        Comparison(all_cores, threaded, theirs.get("batch")),
        Comparison("digests", Side(REQUESTS, each(digests, requests, decisions)), None),
        Comparison("replay and digests", replayed, theirs.get("replayed")),
        Comparison("build a policy, digest", policy, theirs.get("policy")),
    ]


def _prescribed(work: Workload, peer: Peer, columns: Sequence[npt.NDArray[Any]]) -> dict[str, Side]:
    """The peer's ways to do the same."""
    policy, request, models, values = peer.policy(work.policy), peer.request, peer.models(work.policy), work.values()
    prescribe, prescribe_batch = policy.prescribe, policy.prescribe_batch
    inputs = [request(*value) for value in values]
    few = inputs[:_FEW]
    return {
        "single": Side(REQUESTS, each(prescribe, inputs)),
        "built": Side(REQUESTS, each(lambda value: prescribe(request(*value)), values)),
        "built by keywords": Side(REQUESTS, each(lambda value: prescribe(request(**value)), list(work.keywords()))),
        "batch": Side(REQUESTS, partial(prescribe_batch, inputs)),
        "list of singles": Side(REQUESTS, lambda: list(map(prescribe, inputs))),
        "batch from columns": Side(
            REQUESTS, lambda: prescribe_batch(list(map(request, *(column.tolist() for column in columns))))
        ),
        "replayed": Side(_FEW, each(policy.audit_bundle, few, prescribe_batch(few))),
        "policy": Side(1, lambda: peer.policy(work.policy, models).fingerprint()),
    }


def booked(peer: Peer | None) -> list[Comparison]:
    """Money: reserve and commit on one account."""
    ours, amounts = Ledger(), range(1, _FEW + 1)
    ours.open_account("acme", 2**62)
    theirs: Side | None = None
    if peer is not None:
        engine = peer.package.BudgetEngine()
        engine.ensure_tenant("acme", 2**62)
        theirs = Side(
            _FEW,
            each(lambda amount: engine.commit(engine.try_reserve("acme", amount)["reservation_id"], amount), amounts),
        )
    pairs = Side(_FEW, each(lambda amount: ours.reserve("acme", amount).commit(amount), amounts))
    return [Comparison("reserve and commit", pairs, theirs)]


def _rebuilt(policy: Policy, catalog: Catalog) -> Policy:
    return Policy(
        catalog,
        hard_risk_limit_bps=policy.hard_risk_limit_bps,
        minimum_confidence_bps=policy.minimum_confidence_bps,
        risk_penalty_multiplier_bps=policy.risk_penalty_multiplier_bps,
        latency_penalty_microunits_per_ms=policy.latency_penalty_microunits_per_ms,
    )


def _rows(decisions: Iterable[Decision]) -> npt.NDArray[np.void]:
    """Decisions of single calls as the rows that a batch gives."""
    return np.array([_row(decision) for decision in decisions], dtype=DECISION_DTYPE)


def _row(decision: Decision) -> tuple[int, ...]:
    index = decision.selected_model_index
    return (
        decision.request_sequence,
        decision.action.code,
        decision.reason.code,
        decision.selected_model_id or 0,
        NO_INDEX if index is None else index,
        decision.estimated_cost_microunits,
        decision.expected_utility_microunits,
        decision.counterfactual_model_id or 0,
        decision.counterfactual_utility_microunits,
        decision.evaluated_models,
        decision.eligible_models,
        decision.policy_epoch,
        decision.catalog_epoch,
    )


def _same(who: str, work: Workload, ours: npt.NDArray[np.void], others: npt.NDArray[np.void]) -> None:
    differing = np.flatnonzero(ours != others)
    if len(differing):
        raise _differs(who, work, int(differing[0]))


def _differs(who: str, work: Workload, number: int) -> VerificationError:
    where = f"request {number} of the workload {work.name} with {counted(len(work.policy.models), 'candidate')}"
    return VerificationError("bench.differs", f"{where}: a batch and {who} disagree", workload=work.name, row=number)
