"""The rule that completes the trace.

The trace has, for each request, when it arrived and how many tokens its prompt and its answer had. Everything else that
a decision needs is made here, by one rule, so that the demonstration is the same on every machine:

* **Draws.** A request's draws are the sixteen 16-bit words, little-endian, of SHA-256("decidable demo" ‖ seed ‖ index),
  seed and index as 64-bit little-endian integers. A draw below ``n`` is ``word * n >> 16``. No other randomness, no
  float, and no dependence of one request on another.
* **Who asks.** Three accounts: :data:`ACCOUNTS` gives each its share of the traffic, its budget, the models that it
  asks for, what its answers are worth and what it demands. ``acme/research`` asks for more than it can pay for.
* **The estimate of the answer's size** is what someone could know: the mean of earlier answers to prompts of similar
  size (a bucket for each power of two), counting an answer from one minute after its request arrived, and 200 tokens
  before there is any. The largest size, which sizes the hold, is half as much again and 32 more; ``acme/research`` does
  not state one, so its holds cover the estimate alone. Neither looks at the answer itself, so some answers are longer
  than was held for; then the settlement exceeds the hold.
* **How long the answer took** is drawn as 200 to 455 ms and 6 to 21 ms a token, whichever model answered.

All of this is made up, and so is every account's name. Nothing here describes the users of the service that was traced.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from decidable._native import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from decidable.catalog import Catalog

__all__ = ["ACCOUNTS", "SEED", "Account", "Arrival", "Estimator", "TraceRow", "arrivals", "draws"]

SEED: Final = 20_231_116
"""The seed of the demonstration: the day of the trace."""

_TAG: Final = b"decidable demo"
_WORDS: Final = struct.Struct("<16H")


class TraceRow(NamedTuple):
    """One row of the trace."""

    arrival_ns: int
    """When it arrived: nanoseconds since 1970, taking the trace's clock for UTC."""
    input_tokens: int
    output_tokens: int


class Arrival(NamedTuple):
    """One request as the demonstration sees it arrive, and what becomes known when it is answered."""

    arrival_ns: int
    """When it arrived: nanoseconds since 1970 UTC."""
    request: Request
    """What is known on arrival. Its number is its position in the trace, from 1."""
    account: str
    """Who asks."""
    requested: str
    """The name of the model that they ask for."""
    output_tokens: int
    """How long the answer was. Known afterwards."""
    latency_ms: int
    """How long the answer took. Known afterwards."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the rule assumes of an account. Tuples are drawn from evenly, so repeating an entry makes it likelier."""

    share: int
    """Its share of the requests, in 65,536ths."""
    budget_microunits: int
    requested: tuple[str, ...]
    value_microunits: int
    """What its usual answer is worth. One answer is worth between a quarter of it and eight times as much."""
    minimum_quality_bps: tuple[int, ...]
    max_p95_latency_ms: tuple[int | None, ...]
    budget_limit_microunits: tuple[int | None, ...]
    """Most that the expected answer may cost."""
    capabilities: tuple[tuple[str, ...], ...]
    regions: tuple[tuple[str, ...], ...]
    providers: tuple[tuple[str, ...], ...]
    """Who may answer; nobody named means everybody."""
    states_largest: bool
    """Whether it says how long an answer may become."""


ACCOUNTS: Final[dict[str, Account]] = {
    # Short exchanges with customers: quick and cheap, and those of European customers stay in Europe.
    "acme/support": Account(
        share=33_000,
        budget_microunits=8_000_000,
        requested=(
            "gpt-4o-mini",
            "gemini-2.5-flash-lite",
            "gemini-2.5-flash-lite",
            "mistral-small-2603",
            "gpt-4.1-mini",
        ),
        value_microunits=12_000,
        minimum_quality_bps=(5_000, 5_000, 6_000, 6_500, 7_000, 7_500),
        max_p95_latency_ms=(2_200, 2_500, 2_500, 3_500, 5_000),
        budget_limit_microunits=(20_000,),
        capabilities=((), (), (), ("function_calling",), ("function_calling", "response_schema")),
        regions=((), ("us",), ("us",), ("eu",), ("eu",), ("asia",)),
        providers=((),),
        states_largest=True,
    ),
    # Summaries of what a search found: long prompts, structured answers.
    "acme/search": Account(
        share=22_000,
        budget_microunits=10_000_000,
        requested=("gpt-5-mini", "gemini-3-flash", "gemini-3-flash", "claude-haiku-4-5", "deepseek-v3.2"),
        value_microunits=24_000,
        minimum_quality_bps=(6_000, 7_000, 7_000, 7_500, 8_000, 8_300),
        max_p95_latency_ms=(None, None, 4_000, 8_000),
        budget_limit_microunits=(30_000, 30_000, 60_000),
        capabilities=((), (), (), ("function_calling",), ("response_schema",), ("response_schema",), ("pdf_input",)),
        regions=((), (), ("us", "eu"), ("us",), ("asia",)),
        providers=(
            (),
            (),
            (),
            (),
            ("openai", "anthropic"),
            ("deepseek", "mistral", "meta-via-deepinfra", "meta-via-fireworks"),
        ),
        states_largest=True,
    ),
    # Questions that need thought, worth much, and more of them than the budget covers: it runs dry in the last ten
    # minutes, and answers longer than was held for leave it in debt.
    "acme/research": Account(
        share=10_536,
        budget_microunits=12_500_000,
        requested=("claude-opus-4-5", "gpt-5.2", "gemini-2.5-pro", "claude-sonnet-4-5", "o4-mini"),
        value_microunits=90_000,
        minimum_quality_bps=(8_000, 8_500, 8_500, 9_000),
        max_p95_latency_ms=(None, None, 8_000),
        budget_limit_microunits=(None, 60_000),
        capabilities=((), ("reasoning",), ("reasoning",), ("vision",)),
        regions=((), (), ("us", "eu")),
        providers=((), (), ("anthropic", "openai")),
        states_largest=False,
    ),
}
"""The three accounts, in the order in which they are opened."""

# One request in 512 has one of these peculiarities each, so that every gate has something to do.
_PECULIAR_SHARE: Final = 128


def draws(seed: int, index: int) -> tuple[int, ...]:
    """The sixteen 16-bit words of a request."""
    return _WORDS.unpack(hashlib.sha256(_TAG + seed.to_bytes(8, "little") + index.to_bytes(8, "little")).digest())


class Estimator:
    """Expected size of an answer: the mean of those that are known, among prompts of similar size."""

    DELAY_NS: Final = 60 * 10**9
    """An answer counts from this long after its request arrived."""
    BEFORE_ANY: Final = 200

    def __init__(self) -> None:
        self._waiting: deque[TraceRow] = deque()
        self._sums: dict[int, tuple[int, int]] = {}

    def expect(self, arrival_ns: int, input_tokens: int) -> int:
        """The estimate for a prompt of this size at this time, in tokens."""
        while self._waiting and self._waiting[0].arrival_ns + self.DELAY_NS <= arrival_ns:
            row = self._waiting.popleft()
            count, total = self._sums.get(row.input_tokens.bit_length(), (0, 0))
            self._sums[row.input_tokens.bit_length()] = (count + 1, total + row.output_tokens)
        count, total = self._sums.get(input_tokens.bit_length(), (0, 0))
        return total // count if count else self.BEFORE_ANY

    def remember(self, row: TraceRow) -> None:
        """Notes a request whose answer will be known later. Rows come in the order of their arrival."""
        self._waiting.append(row)


def arrivals(trace: Iterable[TraceRow], catalog: Catalog, seed: int = SEED) -> Iterator[Arrival]:
    """The trace, completed. The same trace, catalog and seed give the same requests on every machine."""
    estimator = Estimator()
    shares = list(ACCOUNTS.items())
    for index, row in enumerate(trace, 1):
        word = draws(seed, index)

        def below(place: int, bound: int, word: tuple[int, ...] = word) -> int:
            return word[place] * bound >> 16

        left, name, account = word[0], shares[-1][0], shares[-1][1]
        for candidate, described in shares:
            if left < described.share:
                name, account = candidate, described
                break
            left -= described.share

        # A quarter of the usual value to eight times it: a power of two, and up to twice that.
        value = (account.value_microunits << below(1, 5)) * (4_096 + below(2, 4_096)) >> 14
        # Mostly low: the square of an even draw, up to 60 %.
        risk = below(3, 7_746) ** 2 // 10_000
        confidence = 7_000 + below(4, 3_001)
        requested = account.requested[below(5, len(account.requested))]
        quality = account.minimum_quality_bps[below(6, len(account.minimum_quality_bps))]
        latency = account.max_p95_latency_ms[below(7, len(account.max_p95_latency_ms))]
        limit = account.budget_limit_microunits[below(8, len(account.budget_limit_microunits))]
        capabilities = account.capabilities[below(9, len(account.capabilities))]
        regions = account.regions[below(10, len(account.regions))]
        providers = account.providers[below(11, len(account.providers))]

        match word[12] // _PECULIAR_SHARE:
            case 0:
                quality = 9_600  # better than any model
            case 1:
                latency = 600  # quicker than any model
            case 2:
                capabilities = ("computer_use", "video_input")  # no model has both
            case 3:
                regions = ("canada",)  # nobody serves it
            case 4:
                providers, capabilities = ("deepseek",), ("vision",)
            case 5:
                limit = 5  # five millionths of a currency unit
            case 6:
                value = 500  # hardly worth an answer
            case 7:
                risk = 8_600 + below(13, 400)  # above every model's ceiling, below the limit
            case 8 | 9:
                risk = 9_000 + below(13, 700)  # above the limit of the policy
            case 10 | 11:
                confidence = 3_000 + below(13, 2_500)  # below the least confidence
            case 12 if below(13, 4) == 0:
                risk = 9_700 + below(13, 1_200)  # above the safety ceiling
            case _:
                pass

        expected = estimator.expect(row.arrival_ns, row.input_tokens)
        estimator.remember(row)
        yield Arrival(
            arrival_ns=row.arrival_ns,
            request=Request(
                request_sequence=index,
                requested_model_id=catalog.model_id(requested),
                input_tokens=row.input_tokens,
                output_tokens=expected,
                max_output_tokens=expected + expected // 2 + 32 if account.states_largest else None,
                business_value_microunits=value,
                budget_limit_microunits=limit,
                risk_bps=risk,
                confidence_bps=confidence,
                minimum_quality_bps=quality,
                max_p95_latency_ms=latency,
                required_capabilities=catalog.capability_mask(capabilities),
                allowed_provider_mask=catalog.provider_mask(providers) if providers else None,
                required_region_mask=catalog.region_mask(regions) if regions else None,
            ),
            account=name,
            requested=requested,
            output_tokens=row.output_tokens,
            latency_ms=200 + below(14, 256) + row.output_tokens * (6 + below(15, 16)),
        )
