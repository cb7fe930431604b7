"""An hour of real traffic to try the library on: 19,366 requests, 28 models of six makers, three accounts.

The trace is Azure's public one of 2023 (README.md in this folder has origin and licence): arrival, prompt size, answer
size. The models are real and at real prices (``models.toml``, ``prices.json``). Everything else comes from one rule
(:mod:`decidable.demo.rule`), is made up, and is the same on every machine.

    from decidable import demo

    catalog = demo.catalog()                      # models, names, provenance
    policy = demo.policy()                        # objective "utility", limits of models.toml
    for name, initial_microunits in demo.accounts().items(): ...
    for arrival in demo.load_requests():          # in the order of arrival; a NamedTuple:
        arrival_ns, request, account, requested, output_tokens, latency_ms = arrival
        # decide on arrival_ns; settle with request.input_tokens, output_tokens and latency_ms
    demo.baselines(policy, admitted)              # admitted: [(request, output_tokens), ...] of those answered
"""

from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Final

from decidable.catalog import Catalog
from decidable.demo.comparison import Baseline, baselines
from decidable.demo.rule import ACCOUNTS, SEED, Arrival, TraceRow, arrivals
from decidable.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from decidable._native import Policy

__all__ = [
    "CREDIT",
    "SEED",
    "Arrival",
    "Baseline",
    "TraceRow",
    "accounts",
    "baselines",
    "catalog",
    "load_requests",
    "load_trace",
    "policy",
]

CREDIT: Final = (
    "Trace: Azure LLM inference trace 2023 (conversation), Azure/AzurePublicDataset, CC-BY 4.0; "
    "Patel et al., Splitwise, ISCA 2024. Prices: LiteLLM, MIT."
)
"""Whose data this is. Show it wherever the data is shown."""

TRACE_SHA256: Final = "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8"
"""Digest of the trace as it was published, uncompressed."""

_HEADER: Final = "TIMESTAMP,ContextTokens,GeneratedTokens"


def catalog() -> Catalog:
    """The 28 models. Their quality and latency are assumptions, which models.toml explains."""
    with as_file(files(__name__)) as folder:
        return Catalog.load(folder / "models.toml")


def policy() -> Policy:
    """The policy over :func:`catalog`, with the limits of its file."""
    return catalog().policy()


def accounts() -> dict[str, int]:
    """Each account's budget in microunits, in the order in which they are opened."""
    return {name: account.budget_microunits for name, account in ACCOUNTS.items()}


def load_requests(limit: int | None = None, *, seed: int = SEED) -> Iterator[Arrival]:
    """The requests in the order of their arrival, or the first ``limit`` of them."""
    return arrivals(load_trace(limit), catalog(), seed)


def load_trace(limit: int | None = None) -> Iterator[TraceRow]:
    """The trace as published, or its first ``limit`` rows. Its digest is checked before the first row."""
    raw = gzip.decompress((files(__name__) / "azure_llm_2023_conv.csv.gz").read_bytes())
    digest = hashlib.sha256(raw).hexdigest()
    if digest != TRACE_SHA256:
        raise InvalidInput("catalog.digest_mismatch", f"the trace has the digest {digest}", value=digest)
    header, *rows = raw.decode("ascii").splitlines()
    if header != _HEADER:
        raise InvalidInput("catalog.malformed", f"the trace begins with {header!r}", value=header)
    return map(_row, rows if limit is None else rows[:limit])


def _row(line: str) -> TraceRow:
    time, input_tokens, output_tokens = line.split(",")
    whole, fraction = time.split(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return TraceRow(seconds * 10**9 + int(fraction.ljust(9, "0")), int(input_tokens), int(output_tokens))
