"""Types of the compiled extension. Private: import the public names from ``decidable``."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, final

import numpy as np
import numpy.typing as npt

__version__: str
SAFETY_CEILING_BPS: int

# --- kernel ---------------------------------------------------------------------------------------------------------

@final
class Action:
    """What a decision does. Compares and hashes as its code."""
    EXECUTE_REQUESTED: Action
    SUBSTITUTE: Action
    REJECT: Action
    code: int                       # 1, 2, 3
    name: str                       # "ExecuteRequested": as in the exchange format
    label: str                      # "execute_requested"
    def __int__(self) -> int: ...

@final
class Reason:
    """Why. Codes as in docs/spec/decisions.md (1, 2, 100..110). All thirteen are class attributes in UPPER_CASE."""
    REQUESTED_MODEL_MAXIMIZES_UTILITY: Reason
    ALTERNATIVE_MAXIMIZES_UTILITY: Reason
    RISK_HARD_LIMIT: Reason
    CONFIDENCE_HARD_LIMIT: Reason
    NO_ENABLED_MODEL: Reason
    QUALITY_CONSTRAINT: Reason
    LATENCY_CONSTRAINT: Reason
    CAPABILITY_CONSTRAINT: Reason
    PROVIDER_CONSTRAINT: Reason
    REGION_CONSTRAINT: Reason
    BUDGET_CONSTRAINT: Reason
    NON_POSITIVE_UTILITY: Reason
    RISK_CEILING_CONSTRAINT: Reason
    code: int
    name: str
    label: str
    def __int__(self) -> int: ...

@final
class Model:
    """One candidate. Frozen, comparable, hashable, picklable. Integers only; bool is refused but for ``enabled``."""
    def __new__(cls, *, model_id: int, quality_bps: int, input_cost_microunits_per_million_tokens: int,
                output_cost_microunits_per_million_tokens: int, provider_id: int = 0, risk_ceiling_bps: int = 10_000,
                enabled: bool = True, p95_latency_ms: int = 0, capabilities: int = 0,
                region_mask: int = 0xFFFF_FFFF_FFFF_FFFF) -> Self: ...
    # each argument is a read-only attribute of the same name
    def replace(self, **changes: Any) -> Model: ...

@final
class Names:
    """Names of models (id -> name), providers (id -> name), regions and capabilities (bit -> name)."""
    def __new__(cls, *, models: dict[int, str] = {}, providers: dict[int, str] = {}, regions: dict[int, str] = {},
                capabilities: dict[int, str] = {}) -> Self: ...
    models: dict[int, str]          # fresh dicts
    providers: dict[int, str]
    regions: dict[int, str]
    capabilities: dict[int, str]
    def digest(self) -> bytes: ...

@final
class Policy:
    """``catalog`` is anything with ``.models`` (sequence of Model) and ``.names`` (Names or None): a Catalog."""
    def __new__(cls, catalog: Any, *, policy_epoch: int = 1, catalog_epoch: int = 1, hard_risk_limit_bps: int = 10_000,
                minimum_confidence_bps: int = 0, risk_penalty_multiplier_bps: int = 0,
                latency_penalty_microunits_per_ms: int = 0, objective: str = "utility") -> Self: ...
    # each keyword is a read-only attribute of the same name
    models: tuple[Model, ...]       # ascending model_id
    names: Names | None
    def decide(self, request: Request) -> Decision: ...
    def decide_counted(self, request: Request) -> tuple[Decision, dict[str, int]]: ...   # rejections: disabled quality risk_ceiling latency capability provider region budget utility
    def decide_batch(self, requests: npt.NDArray[np.void], *, threads: int | None = None) -> npt.NDArray[np.void]: ...
    def explain(self, request: Request) -> Explanation: ...
    def utility(self, request: Request, *, model_id: int) -> int | None: ...
    def cost(self, *, model_id: int, input_tokens: int, output_tokens: int) -> int: ...  # UnknownName for a model that is not in the catalog
    def hold(self, request: Request) -> int | None: ...      # what the engine would hold: cost at max_output_tokens; None if nothing is selected
    def what_would_win(self, request: Request, *, model_id: int) -> WhatWouldWin: ...
    def margin(self, request: Request) -> Margin | None: ...
    def digest(self) -> bytes: ...
    def shared_digest(self) -> bytes: ...                     # the digest of the shared contract, whatever extensions are used
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes) -> Policy: ...

@final
class Request:
    def __new__(cls, *, request_sequence: int = 0, requested_model_id: int = 0, input_tokens: int, output_tokens: int,
                business_value_microunits: int = 0, budget_limit_microunits: int | None = None, risk_bps: int = 0,
                confidence_bps: int = 10_000, minimum_quality_bps: int = 0, max_p95_latency_ms: int | None = None,
                required_capabilities: int = 0, allowed_provider_mask: int | None = None,
                required_region_mask: int | None = None, max_output_tokens: int | None = None,
                quotes: dict[int, int] | None = None) -> Self: ...
    # each is a read-only attribute; absent limits read as None (the sentinels 0 / all ones / 2**64-1 for the budget are accepted and mean the same)
    def replace(self, **changes: Any) -> Request: ...
    def digest(self) -> bytes: ...
    def shared_digest(self) -> bytes: ...

@final
class Decision:
    request_sequence: int
    action: Action
    reason: Reason
    selected_model_id: int | None
    selected_model_index: int | None
    estimated_cost_microunits: int
    expected_utility_microunits: int
    counterfactual_model_id: int | None
    counterfactual_utility_microunits: int
    evaluated_models: int
    eligible_models: int
    policy_epoch: int
    catalog_epoch: int
    def digest(self) -> bytes: ...
    # frozen, ==, hash, pickle, __match_args__

@final
class Verdict:
    model_id: int
    verdict: str        # "eligible", "non_positive_utility", "over_budget", or "gate"
    gate: str | None    # "Disabled", "Quality", ... as in docs/spec/decisions.md
    measured: int | None
    limit: int | None
    quality_adjusted: int | None
    risk_penalty: int | None
    cost_microunits: int | None
    latency_penalty: int | None
    utility: int | None

@final
class Explanation(Sequence[Verdict]):
    decision: Decision
    # str() is a table

@final
class Lever:
    lever: str          # "quality_bps", "latency_ms", "price_ppm", "risk_ceiling_bps", "enabled"
    current: int
    boundary: int
    cost_at_boundary_microunits: int | None

@final
class WhatWouldWin:
    model_id: int
    blocked_by_request: Reason | None
    levers: tuple[Lever, ...]

@final
class Margin:
    model_id: int
    levers: tuple[Lever, ...]

def identity(policy: Policy, request: Request, decision: Decision) -> bytes: ...
def request_digests(requests: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]: ...    # not in this version

# --- ledger ---------------------------------------------------------------------------------------------------------

@final
class Balance:
    def __new__(cls, *, account: str, initial: int, remaining: int, reserved: int, committed: int, debt: int,
                cap: int | None) -> Self: ...
    account: str
    initial: int
    remaining: int
    reserved: int
    committed: int
    debt: int
    cap: int | None

@final
class Hold:
    """A reservation of a stand-alone Ledger. Settled once."""
    account: str
    amount: int
    denied: str | None                       # None when held, else "insufficient", "over_cap", "overflow"
    def __bool__(self) -> bool: ...          # held
    def commit(self, actual: int) -> Balance: ...
    def release(self) -> Balance: ...

@final
class Ledger:
    def __new__(cls) -> Self: ...
    def open_account(self, account: str, initial: int) -> Balance: ...
    def top_up(self, account: str, amount: int) -> Balance: ...
    def set_cap(self, account: str, cap: int | None) -> Balance: ...
    def reserve(self, account: str, amount: int) -> Hold: ...
    def balance(self, account: str) -> Balance: ...
    def balances(self) -> list[Balance]: ...
    def snapshot(self) -> LedgerSnapshot: ...

@final
class LedgerSnapshot:
    @staticmethod
    def from_json(text: str) -> LedgerSnapshot: ...
    def to_json(self) -> str: ...
    def digest(self) -> bytes: ...
    def certificate(self) -> dict[str, Any]: ...

# --- engine ---------------------------------------------------------------------------------------------------------

@final
class Key:
    """A secret of at least 32 bytes. Never shown, never pickled."""
    def __new__(cls, raw: bytes) -> Self: ...
    @staticmethod
    def from_file(path: Any) -> Key: ...

@final
class ManualClock:
    """A clock that a caller moves: for replaying recorded traffic at its own times. Nanoseconds since 1970 UTC."""
    def __new__(cls, time_ns: int) -> Self: ...
    def advance_to(self, time_ns: int) -> None: ...      # never backwards
    time_ns: int

@final
class Ticket:
    """A decision that is in the log. Held -> dispatched -> settled, or released, or in doubt."""
    id: int                                   # its request_sequence, the number the engine gave it
    decision: Decision
    request: Request                          # as numbered
    account: str | None
    hold_microunits: int | None
    refusal: str | None                       # None when selected (and held, if an account was named), else the reason's label: "budget_constraint", "safety_ceiling", "insufficient", "over_cap", ...
    state: Literal["refused", "held", "dispatched", "settled", "cancelled", "in_doubt"]
    seq: int                                  # number of its record in the log
    durable_ns: int | None                    # how long the record took to become durable
    replayed: bool                            # True if the caller's key had been used before: this is the earlier ticket
    selected_model_id: int | None
    model: str                                # the selected model's name (or its id as text); raises Refused
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    async def __aenter__(self) -> Self: ...
    def dispatch(self) -> None: ...
    def settle(self, *, cost_microunits: int | None = None, input_tokens: int | None = None,
               output_tokens: int | None = None, latency_ms: int | None = None) -> Settlement: ...     # cost, or usage priced by the policy's rates
    def cancel(self) -> None: ...             # Conflict after dispatch

@final
class Settlement:
    ticket: int
    charged_microunits: int
    returned_microunits: int
    debt_microunits: int                      # what the account could not pay of this settlement
    seq: int

@final
class Engine:
    """The live path. python/decidable/engine.py adds the async twins and the fork guard."""
    @staticmethod
    def open(path: Any, *, policy: Policy, key: Key | None = None, sync: str = "group", clock: ManualClock | None = None,
             provenance: str = "", head: dict[str, Any] | None = None) -> Engine: ...
    def decide(self, request: Request, *, account: str | None = None, key: str | None = None, metadata: str | None = None) -> Ticket: ...
    # ... lead's business; see engine.py for the public class

# --- reading --------------------------------------------------------------------------------------------------------

@final
class Record:
    """One logical record of a log, verified as it was read. Attributes depend on the kind; ``fields`` has them all.

    kinds and fields:
      opened        boot_id, writer_epoch, version
      recovered     cut_bytes, digest, cause
      erased        sequences
      closed
      policy        policy_number, policy (Policy), digest, provenance
      account       account_number, initial_microunits               private: the account's name
      top_up        account_number, amount_microunits, balance
      cap           account_number, cap_microunits
      decision      request_sequence, policy_number, request (Request), decision (Decision), identity, outcome ("held", "unheld", "rejected", "denied"),
                    account_number, hold_microunits, denial, balance, caller_key    private: metadata
      refusal       request_sequence, risk_bps, request (Request)      (the safety ceiling)
      settlement    request_sequence, charged_microunits, returned_microunits, debt_microunits, input_tokens, output_tokens, latency_ms, durable_ns, balance
      cancellation  request_sequence, balance
      outcome       request_sequence, observed_at_micros, revision, acted_model_id, disposition, succeeded, realized_cost_microunits, realized_latency_ms, digest
    """
    kind: str
    seq: int
    time_ns: int
    hash: bytes
    private: str | None
    erased: bool
    fields: dict[str, Any]
    def __getattr__(self, name: str) -> Any: ...

def read(path: Any, *, kind: str | None = None, key: Key | None = None) -> Iterator[Record]: ...
def verify(path: Any, *, policies: Sequence[Policy] = (), key: Key | None = None, head: dict[str, Any] | None = None) -> dict[str, Any]: ...
