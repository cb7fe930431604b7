"""Choosing language models by name, with budgets: :class:`Gateway`.

    from decidable import llm

    with llm.Gateway.open("state/", catalog="models.toml", min_quality="70%") as gateway:
        gateway.open_account("acme/search", "25.00", exist_ok=True)
        with gateway.route("gpt-5-mini", input_tokens=1_200, max_cost="0.02", account="acme/search") as call:
            answer = send(call.model, prompt, max_tokens=call.max_output_tokens)
            call.settle(usage=answer.usage)
        gateway.outcome(call.id, succeeded=True)
        head = gateway.head()                      # keep it elsewhere: it shows whether the log's end was cut off

Each call is decided, its money held, and both are in the log before :meth:`Gateway.route` returns. Which model is
chosen depends on the catalog, the objective and the limits alone; :meth:`Call.explain` shows each one's verdict.

A decision needs a model's name, a budget and a prompt's size. What is left out has these defaults:

=========================  ===========================================================================================
``objective``              what the catalog's file says, else ``"cheapest"``: the least cost among the models that pass
                           every limit. ``"utility"`` weighs it against ``value``, which is then needed.
``expected_output_tokens`` 256, or ``max_output_tokens`` if that is less
``max_output_tokens``      four times the expected size. The hold covers this size, so pass ``call.max_output_tokens``
                           to the provider as its limit
``max_cost``               no limit on the cost of the expected answer; the account's budget is a limit of its own
``account``                none: nothing is held, and no budget limits the call
``min_quality``            what :meth:`Gateway.open` was given, else none
``risk``, ``confidence``   no risk, full confidence
everything else            no requirement
=========================  ===========================================================================================

Money is given in currency units as text or ``Decimal``, proportions and durations as text with their unit
(:mod:`decidable.builders`). Results are in microunits, as everywhere in the library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Required, TypedDict, Unpack

from decidable import builders
from decidable.catalog import Catalog
from decidable.engine import Engine
from decidable.errors import InvalidInput
from decidable.replay import VerificationReport, verify

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from decidable._native import Balance, Decision, Explanation, Key, ManualClock, Policy, Request, Settlement
    from decidable.builders import Friendly
    from decidable.engine import Ticket

__all__ = ["EXPECTED_OUTPUT_TOKENS", "MAX_TO_EXPECTED", "Call", "Gateway", "Wishes"]

EXPECTED_OUTPUT_TOKENS: Final = 256
"""Expected size of an answer when the caller says nothing."""

MAX_TO_EXPECTED: Final = 4
"""Largest size of an answer, in expected sizes, when the caller says nothing."""


class Wishes(TypedDict, total=False):
    """What a caller may say of a call, by keyword. Names are the catalog's."""

    input_tokens: Required[int | str]
    """Size of the prompt."""
    expected_output_tokens: int | str | None
    """Expected size of the answer: ranks the models by cost."""
    max_output_tokens: int | str | None
    """Largest size of the answer: sizes the hold."""
    max_cost: Friendly | None
    """Most that the expected answer may cost."""
    account: str | None
    """Whose money is held."""
    key: str | None
    """The caller's own name for this call: the same key gives the same call again, not a second one."""
    min_quality: str | None
    """Least quality of the model."""
    max_latency: str | None
    """Most p95 latency of the model."""
    capabilities: Iterable[str]
    """What the model must be able to do: all of them."""
    providers: Iterable[str] | None
    """Who may serve it: any of them."""
    regions: Iterable[str] | None
    """Where it may be served: any of them."""
    value: Friendly | None
    """What a right answer is worth; needed for the objective ``"utility"``."""
    risk: str | None
    """Risk of the request. The policy's limit and each model's ceiling apply."""
    confidence: str | None
    """Confidence in the request's data. The policy's floor applies."""
    metadata: Mapping[str, Any] | str | None
    """Kept beside the record, where it can be erased without harm to the log."""


class Gateway:
    """Routes calls to the models of a catalog, holds their money, and keeps the log of both.

    Open one with :meth:`open` and keep it for the life of the process; it may be used from many threads. A directory
    has one gateway at a time. Opening it again later continues with its accounts, calls and log; if the catalog, the
    objective or a limit has changed, the new policy is installed and recorded first.

    Attributes:
        catalog: The models, their names, and where their figures come from.
        policy: The policy in force.
        engine: The engine below, for what this class does not cover.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        *,
        path: str | os.PathLike[str],
        key: Key | None = None,
        min_quality: str | None = None,
    ) -> None:
        self.engine = engine
        self.catalog = catalog
        self.policy = engine.policy
        self._path = path
        self._key = key
        self._min_quality = min_quality

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        catalog: Catalog | str | os.PathLike[str],
        objective: str | None = None,
        min_quality: str | None = None,
        key: Key | None = None,
        sync: Literal["group", "none"] = "group",
        clock: ManualClock | None = None,
        head: dict[str, Any] | str | os.PathLike[str] | None = None,
        recover: bool = False,
        **limits: Any,
    ) -> Gateway:
        """Opens the state in a directory, which is made if need be.

        Args:
            path: The directory of the log, of its own: the catalog's file, for example, belongs elsewhere.
            catalog: A catalog, or the file of one (docs/catalog.md).
            objective: ``"cheapest"``, ``"quality"``, ``"fastest"`` or ``"utility"``.
            min_quality: Least quality of a model, for calls that do not give their own.
            key: Seals the log.
            sync: ``"group"`` answers when the decision is on the disk; ``"none"`` does not wait for the disk.
            clock: Replaces the system's clock, to replay recorded traffic.
            head: A head that was kept elsewhere (:meth:`head`), or the file that holds it. A log that does not contain
                it is refused.
            recover: As of :meth:`Engine.open <decidable.Engine.open>`: for one opening, after a power loss.
            limits: Limits of the policy over those of the file, such as ``hard_risk_limit="96%"``.

        Raises:
            InvalidInput: A limit or the catalog cannot be used, or the directory holds other files and no log.
            LogUnavailable: The directory is in use, or sealed with another key.
            VerificationError: The log is damaged, or does not contain the head.
        """
        if isinstance(catalog, Catalog):
            models = catalog
        elif isinstance(catalog, (str, os.PathLike)):
            models = Catalog.load(catalog)
        else:
            message = f"catalog must be a Catalog or the path of its file, not {type(catalog).__name__}"
            raise InvalidInput("input.wrong_type", message, field="catalog", value=catalog)
        if min_quality is not None:
            builders.proportion(min_quality, field="min_quality")
        chosen = (models.limits.get("objective") or "cheapest") if objective is None else objective
        policy = models.policy(objective=chosen, **limits)
        provenance = (
            json.dumps(dict(models.provenance), sort_keys=True, ensure_ascii=False) if models.provenance else ""
        )
        engine = Engine.open(
            path,
            policy=policy,
            key=key,
            sync=sync,
            clock=clock,
            provenance=provenance,
            head=head,
            recover=recover,
        )
        return cls(engine, models, path=path, key=key, min_quality=min_quality)

    # --- calls ----------------------------------------------------------------------------------------------------

    def route(self, model: str | None, **wishes: Unpack[Wishes]) -> Call:
        """Chooses a model for one call, holds its money, logs both, and then answers.

        Args:
            model: Name of the model that the caller would use, or ``None``. It competes with the others;
                ``call.decision.action`` says whether it was taken.
            wishes: See :class:`Wishes`. Only ``input_tokens`` is needed.

        Returns:
            The call. If nothing was selected or the money could not be held, ``call.refusal`` says why, and entering it
            raises ``Refused``.

        Raises:
            UnknownName: A name that the catalog or the ledger does not have; for one of the catalog, others are
                suggested.
            InvalidInput: A value that cannot be read.
            Conflict: The key was used before for a different call.
            LogUnavailable: The decision could not be logged. Nothing is decided or held.
            TypeError: A wish that does not exist, as with any keyword argument; the message names the nearest.
        """
        request, circumstances = self._prepared(model, wishes)
        return Call(self, self.engine.decide(request, **circumstances))

    async def aroute(self, model: str | None, **wishes: Unpack[Wishes]) -> Call:
        """:meth:`route` for asyncio: waits for the disk without blocking the event loop.

        Use it as ``async with await gateway.aroute(...) as call:`` and settle with :meth:`Call.asettle`.
        docs/asyncio.md says what a cancelled coroutine leaves, and how its call is found again.
        """
        request, circumstances = self._prepared(model, wishes)
        return Call(self, await self.engine.adecide(request, **circumstances))

    def _prepared(self, model: str | None, wishes: Wishes) -> tuple[Request, dict[str, str | None]]:
        """The kernel's request, and what the engine is told beside it."""
        rest: dict[str, Any] = dict(wishes)
        for name in rest:
            if name not in Wishes.__annotations__:
                near = builders.suggestion(name, Wishes.__annotations__)
                raise TypeError(f"route() got an unexpected keyword argument {name!r}{near}")
        if "input_tokens" not in rest:
            raise TypeError("route() is missing the keyword argument 'input_tokens'")
        circumstances = {
            "account": rest.pop("account", None),
            "key": rest.pop("key", None),
            "metadata": _text(rest.pop("metadata", None)),
        }
        if rest.get("value") is None and self.policy.objective == "utility":
            raise InvalidInput(
                "llm.missing_value",
                'the objective "utility" weighs what an answer is worth against its cost: give value="0.05", or open '
                'the gateway with objective="cheapest"',
                field="value",
                value=None,
            )
        if rest.get("min_quality") is None:
            rest["min_quality"] = self._min_quality
        expected, most = _sizes(rest.pop("expected_output_tokens", None), rest.pop("max_output_tokens", None))
        request = builders.request(self.catalog, model=model, output_tokens=expected, max_output_tokens=most, **rest)
        return request, circumstances

    def outcome(
        self,
        call_id: int,
        *,
        succeeded: bool | None = None,
        cost: Friendly | None = None,
        latency: str | None = None,
    ) -> None:
        """Records how a call turned out, which is known later than what it cost. At least one of the three is given."""
        if succeeded is None and cost is None and latency is None:
            raise InvalidInput("replay.bad_outcome", "outcome needs succeeded, cost or latency", ticket=call_id)
        self.engine.outcome(
            call_id,
            succeeded=succeeded,
            cost_microunits=_bill(cost),
            latency_ms=None if latency is None else builders.milliseconds(latency, field="latency"),
        )

    def audit(self, call_id: int, audit_hash: bytes) -> None:
        """Records which audit is that of what was generated in a call (:meth:`decidable.Engine.audit`)."""
        self.engine.audit(call_id, audit_hash)

    def open_calls(self) -> list[Call]:
        """Calls that are not settled, those in doubt among them: left without a settlement, or cut off by a crash."""
        return [Call(self, ticket) for ticket in self.engine.open_tickets()]

    def reconcile(self, call_id: int, *, cost: Friendly) -> None:
        """Settles a call that is in doubt at what its provider's bill says: ``"0"`` where it was never made."""
        self.engine.reconcile(call_id, cost_microunits=_bill(cost))

    # --- accounts -------------------------------------------------------------------------------------------------

    def open_account(self, account: str, initial: Friendly, *, exist_ok: bool = False) -> Balance:
        """Opens an account with a budget, such as ``"25.00"``; a fraction of a microunit is dropped.

        With ``exist_ok`` an account that is open already is left as it is and keeps its budget, whatever ``initial``
        says: for a program that starts again. :meth:`top_up` adds to it. A name that was erased is free, and opened
        anew it is another account with the whole budget (:meth:`Engine.erase <decidable.Engine.erase>`).

        Raises:
            InvalidInput: The amount is negative, cannot be read, or is less than a microunit and not ``"0"``.
            Conflict: An account of that name is open, unless ``exist_ok``.
        """
        return self.engine.ledger.open_account(account, builders.granted(initial, field="initial"), exist_ok=exist_ok)

    def top_up(self, account: str, amount: Friendly) -> Balance:
        """Adds to an account's budget. A debt is repaid first."""
        return self.engine.ledger.top_up(account, builders.granted(amount, field="amount", least=1))

    def balance(self, account: str) -> Balance:
        """What an account has left, what is held of it, and what was spent, in microunits."""
        return self.engine.ledger.balance(account)

    # --- evidence -------------------------------------------------------------------------------------------------

    def explain(self, call: Call) -> Explanation:
        """The verdict on every model for a call, by the policy that decided it. Prints as a table.

        Where the risk was so high that none was asked, it is the policy in force.
        """
        return (call.ticket.policy or self.policy).explain(call.request)

    def head(self) -> dict[str, Any]:
        """The head of the durable part of the log. Kept elsewhere, it shows later whether the end was cut off."""
        return self.engine.head()

    def verify(
        self,
        *,
        policies: Iterable[Policy] | None = None,
        head: dict[str, Any] | str | os.PathLike[str] | None = None,
    ) -> VerificationReport:
        """Derives every decision, balance and hash of the log again, from the disk, under the gateway's key.

        Args:
            policies: Those that were approved: any other that the log installed is refused. An empty list is refused.
            head: A head that was kept elsewhere, or the file that holds it.

        Raises:
            VerificationError: Something disagrees; the error says which record and what.
        """
        return verify(self._path, policies=policies, key=self._key, head=head)

    def close(self) -> dict[str, Any]:
        """Writes what is still under way, gives the directory free and returns the log's head."""
        return self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.__exit__(kind, error, trace)


class Call:
    """One routed call: the decision, the money held for it, and its settlement.

    As a context manager it marks the call as made on entry; entering a refused call raises
    :class:`~decidable.errors.Refused`, and nothing is called. Leaving without :meth:`settle` leaves it in doubt: the
    money stays held until :meth:`Gateway.reconcile`.
    """

    __slots__ = ("_gateway", "_ticket")

    def __init__(self, gateway: Gateway, ticket: Ticket) -> None:
        self._gateway = gateway
        self._ticket = ticket

    @property
    def id(self) -> int:
        """The call's number in the log, for :meth:`Gateway.outcome`."""
        return self._ticket.id

    @property
    def model(self) -> str:
        """The selected model's name. Raises :class:`~decidable.errors.Refused` when the call was refused."""
        return self._ticket.model

    @property
    def refusal(self) -> str | None:
        """Why nothing may be called, such as ``"budget_constraint"`` or ``"insufficient"``; else ``None``."""
        return self._ticket.refusal

    @property
    def replayed(self) -> bool:
        """Whether this is an earlier call, found by its key. ``state`` says what has become of it: only one that is
        still ``"held"`` may be made; entering any other raises ``Conflict``, so that no call is made twice."""
        return self._ticket.replayed

    @property
    def state(self) -> str:
        """``refused``, ``held``, ``dispatched``, ``settled``, ``cancelled`` or ``in_doubt``."""
        return self._ticket.state

    @property
    def decision(self) -> Decision | None:
        """The kernel's decision: the model's number, the estimated cost, the second best. ``None`` where the risk is
        so high that no policy was asked."""
        return self._ticket.decision

    @property
    def request(self) -> Request:
        """The kernel's request, as numbered by the engine."""
        return self._ticket.request

    @property
    def max_output_tokens(self) -> int:
        """The size of answer that the hold covers: the limit to give to the provider."""
        return self._ticket.request.max_output_tokens

    @property
    def ticket(self) -> Ticket:
        """The engine's ticket below."""
        return self._ticket

    def explain(self) -> Explanation:
        """The verdict on every model. Prints as a table."""
        return self._gateway.explain(self)

    def settle(self, *, usage: object = None, cost: Friendly | None = None, latency: str | None = None) -> Settlement:
        """Settles the call at what it used or what it cost. What was held above that is given back.

        Args:
            usage: The provider's usage, as an object or a mapping: ``prompt_tokens`` and ``completion_tokens``, or
                ``input_tokens`` (and beside it ``cache_read_input_tokens`` and ``cache_creation_input_tokens``) and
                ``output_tokens``, or ``prompt_token_count`` and ``candidates_token_count`` (and beside it
                ``thoughts_token_count``). Counts are integers, not text, and where several of these are there they
                must agree. It is priced at the catalog's rates. Tokens read from or written to a prompt cache are
                counted as input at the full rate, which is not what a provider bills: give ``cost`` where it matters.
            cost: What the provider billed, rounded up to a microunit. With a usage beside it the cost is charged, and
                the tokens are in the record.
            latency: How long the answer took.

        Raises:
            Conflict: It was settled before, at another amount.
            InvalidInput: The usage has none of these pairs, or several that differ; or a count is no whole number.
        """
        return self._ticket.settle(**_use(usage, cost, latency))

    async def asettle(
        self, *, usage: object = None, cost: Friendly | None = None, latency: str | None = None
    ) -> Settlement:
        """:meth:`settle` for asyncio."""
        return await self._ticket.asettle(**_use(usage, cost, latency))

    def cancel(self) -> None:
        """Gives the held money back, because the call will not be made. Only before the call is marked as made."""
        self._ticket.cancel()

    async def acancel(self) -> None:
        """:meth:`cancel` for asyncio."""
        await self._ticket.acancel()

    def __enter__(self) -> Self:
        self._ticket.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticket.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        await self._ticket.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._ticket.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        standing = f"refused: {self.refusal}" if self.refusal else repr(self.model)
        return f"<Call {self.id}: {standing}>"


# --- reading what callers give ------------------------------------------------------------------------------------


def _sizes(expected: int | str | None, most: int | str | None) -> tuple[int, int]:
    """Expected and largest size of the answer, with the defaults for what is left out."""
    largest = None if most is None else builders.tokens(most, field="max_output_tokens")
    if expected is None:
        usual = EXPECTED_OUTPUT_TOKENS if largest is None else min(EXPECTED_OUTPUT_TOKENS, largest)
    else:
        usual = builders.tokens(expected, field="expected_output_tokens")
    return usual, min(usual * MAX_TO_EXPECTED, builders.U32_MAX) if largest is None else largest


def _bill(cost: Friendly | None) -> int | None:
    return None if cost is None else builders.microunits(cost, field="cost", rounding="up")


def _text(metadata: Mapping[str, Any] | str | None) -> str | None:
    if metadata is None or isinstance(metadata, str):
        return metadata
    try:
        return json.dumps(metadata, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidInput(
            "llm.metadata", f"metadata cannot be written as JSON: {why}", field="metadata", value=metadata
        ) from error


def _use(usage: object, cost: Friendly | None, latency: str | None) -> dict[str, int | None]:
    """What the engine is told of a settlement."""
    if usage is None and cost is None:
        raise InvalidInput(
            "llm.missing_usage", "a call is settled with usage=... or cost=...", field="usage", value=None
        )
    use: dict[str, int | None] = {
        "latency_ms": None if latency is None else builders.milliseconds(latency, field="latency")
    }
    if usage is not None:
        use["input_tokens"], use["output_tokens"] = _tokens_used(usage)
    if cost is not None:
        use["cost_microunits"] = _bill(cost)
    return use


# What providers call input and output, and what else each counts beside them rather than within.
_USAGES: Final = (
    (("prompt_tokens",), ("completion_tokens",)),
    (("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), ("output_tokens",)),
    (("prompt_token_count",), ("candidates_token_count", "thoughts_token_count")),
)


def _reported(number: Any, name: str) -> int:
    """A count as a client reports it: no text, which people write."""
    if isinstance(number, str):
        message = f"{name} is {builders.describe(number)} of type str; a usage has whole numbers of tokens"
        raise InvalidInput("builders.wrong_type", message, field=name, value=number)
    return builders.tokens(number, field=name)


def _tokens_used(usage: object) -> tuple[int, int]:
    """Input and output tokens of a provider's usage, whichever names it uses."""

    def count(name: str) -> Any:
        return usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)

    def used(names: tuple[str, ...]) -> int:
        counts = [(name, count(name)) for name in names]
        return sum(_reported(n, name) for name, n in counts if n is not None)

    found = {
        (inputs[0], outputs[0]): (used(inputs), used(outputs))
        for inputs, outputs in _USAGES
        if count(inputs[0]) is not None and count(outputs[0]) is not None
    }
    if len(set(found.values())) > 1:
        said = "; ".join(
            f"{sent:,} and {received:,} by {' and '.join(names)}" for names, (sent, received) in found.items()
        )
        message = f"usage contradicts itself: {said}; give the counts that were billed, or cost"
        raise InvalidInput("llm.contradiction", message, field="usage", value=usage)
    for tokens in found.values():
        return tokens
    raise InvalidInput(
        "llm.unknown_usage",
        f"usage {builders.describe(usage)} has neither prompt_tokens and completion_tokens, nor input_tokens and "
        "output_tokens, nor prompt_token_count and candidates_token_count",
        field="usage",
        value=usage,
    )
