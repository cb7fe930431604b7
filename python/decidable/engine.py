"""The live path over one log: decide, hold, log, settle.

:class:`Engine` decides a request, holds the largest cost of the selected candidate on an account, and writes both to
the log before it answers with a :class:`Ticket`. The ticket is then settled with what was really spent. What
is on a request's way has an ``async`` twin (``adecide``, ``asettle``, ``acancel``) that waits for the disk without
blocking the event loop; accounts, erasures and closing are for start and administration, and have none. docs/asyncio.md
says what a cancelled coroutine leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, fields
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from decidable import _native
from decidable._native import SAFETY_CEILING_BPS, Balance, Decision, Key, ManualClock, Policy, Request, Settlement
from decidable.builders import truth
from decidable.errors import Conflict, DecidableError, InvalidInput, LogUnavailable, Refused, UnknownName
from decidable.wal import directory, kept

if TYPE_CHECKING:
    from decidable._native import Answer

__all__ = ["SAFETY_CEILING_BPS", "Engine", "EngineLedger", "Opened", "Ticket"]

TicketState = Literal["refused", "held", "dispatched", "settled", "cancelled", "in_doubt"]

_WAKER_PATIENCE_MS = 1_000
"""How long the thread that wakes coroutines waits in the log before it looks around."""

_WAKER_REST_SECONDS = 1.0
"""How long that thread stays when nobody waits any more."""

_LOOP_WORK = 1_024
"""An event loop decides a request itself if no more candidates and quotes are looked at: some microseconds."""


_ENTRIES_SHOWN = 3
"""So many entries of each list the text of an opening shows."""


class Ticket:
    """A decision that is in the log, and the money held for it.

    ``refusal`` is ``None`` when a candidate was selected (and its cost held, if an account was named); otherwise it is
    the label of the reason: a gate such as ``"budget_constraint"``, ``"safety_ceiling"``, or what the account said:
    ``"insufficient"``, ``"over_cap"``, ``"overflow"``.

    Entering the ticket (``with ticket:``) says that someone acts on it from now on. On a refused ticket nobody may act:
    entering it raises :class:`~decidable.errors.Refused`, and the body does not run. Leaving a ticket without a
    settlement leaves it in doubt: the hold stays until someone reconciles it (:meth:`Engine.reconcile`).
    """

    __slots__ = ("__weakref__", "_answer", "_engine")

    def __init__(self, engine: Engine, answer: Answer) -> None:
        self._engine = engine
        self._answer = answer

    @property
    def id(self) -> int:
        """The number that the engine gave the request."""
        return self._answer.number

    @property
    def seq(self) -> int:
        """The number of its record in the log."""
        return self._answer.seq

    @property
    def request(self) -> Request:
        """The request under the number it was given."""
        return self._answer.request

    @property
    def decision(self) -> Decision | None:
        """The decision; ``None`` where the safety ceiling refused before any policy was read."""
        return self._answer.decision

    @property
    def policy(self) -> Policy | None:
        """The policy that decided, which need not be the one in force; ``None`` as for the decision."""
        return self._answer.policy

    @property
    def account(self) -> str | None:
        """The account that pays."""
        return self._answer.account

    @property
    def hold_microunits(self) -> int | None:
        """What is held on the account, in microunits."""
        return self._answer.hold_microunits

    @property
    def refusal(self) -> str | None:
        """Why nothing may be acted on, or ``None``."""
        return self._answer.refusal

    @property
    def replayed(self) -> bool:
        """Whether it answered a request that was decided before, found by the caller's key."""
        return self._answer.replayed

    @property
    def durable_ns(self) -> int | None:
        """How long the record took to become durable, in nanoseconds; ``None`` where it was there before."""
        return self._answer.durable_ns

    @property
    def state(self) -> TicketState:
        """``refused``, ``held``, ``dispatched``, ``settled``, ``cancelled`` or ``in_doubt``: as it stands now.

        The engine is asked each time, so it is right whoever settled the ticket, and where waiting for it was given up.
        A settlement counts from when it was asked for, which is before it is durable.

        Raises:
            LogUnavailable: if the engine cannot be asked any more: after a fault of the log, or in a forked child.
            UnknownName: if the ticket was closed so long ago that it is forgotten (docs/limits.md).
        """
        return "refused" if self.refusal is not None else self._engine._native.state(self.id)

    @property
    def selected_model_id(self) -> int | None:
        """The number of the selected candidate."""
        return self._answer.selected_model_id if self.refusal is None else None

    @property
    def model(self) -> str:
        """The name of the selected candidate.

        Raises:
            Refused: if there is none to act on; ``reason`` says why.
        """
        self._refuse()
        return self._answer.selected_name or ""

    def _refuse(self) -> None:
        if self.refusal is not None:
            message = f"request {self.id} was refused: {self.refusal}"
            raise Refused("engine.refused", message, reason=self.refusal, ticket=self.id)

    def dispatch(self) -> None:
        """Say that someone acts on it from now on. ``with ticket:`` does it.

        Raises:
            Refused: if the ticket was refused; ``reason`` says why.
            Conflict: if it was dispatched before, is in doubt, settled or cancelled: whoever acted on it again would
                spend twice, or without a hold.
            LogUnavailable: if the log takes nothing: then the settlement could not be written either.
        """
        self._refuse()
        self._engine._native.dispatch(self.id)

    def settle(
        self,
        *,
        cost_microunits: int | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        latency_ms: int | None = None,
    ) -> Settlement:
        """Charge what was spent: a cost, or tokens that the policy prices. Durable when it returns.

        Where both are given the cost is charged, and the tokens are in the record beside it: a provider's bill is not
        always what the rates say. A candidate with a quote needs a cost.

        The same settlement again gives the same answer. What is above the hold is debited as far as the account goes;
        the rest becomes debt.

        Raises:
            Conflict: if the ticket was refused, cancelled, or settled with other values.
            InvalidInput: if neither a cost nor both token counts are given.
        """
        settlement = self._submit_settle(cost_microunits, input_tokens, output_tokens, latency_ms)
        self._engine._native.wait(settlement.seq)
        return settlement

    async def asettle(
        self,
        *,
        cost_microunits: int | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        latency_ms: int | None = None,
    ) -> Settlement:
        """As :meth:`settle`, without blocking the event loop. Who is cancelled meanwhile has settled all the same."""
        settlement = self._submit_settle(cost_microunits, input_tokens, output_tokens, latency_ms)
        await self._engine._durable(settlement.seq)
        return settlement

    def _submit_settle(
        self, cost: int | None, input_tokens: int | None, output_tokens: int | None, latency_ms: int | None
    ) -> Settlement:
        return self._engine._native.submit_settle(
            self.id,
            cost_microunits=cost,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            latency_ms=latency_ms,
            durable_ns=self.durable_ns,
        )

    def cancel(self) -> None:
        """Release the hold, if nobody has acted on the ticket, and free the caller's key. Twice changes nothing.

        The log takes it also when its queue is full.

        Raises:
            Conflict: if it was dispatched, settled or refused: what was dispatched may have been spent.
        """
        self._engine._native.wait(self._engine._native.submit_cancel(self.id))

    async def acancel(self) -> None:
        """As :meth:`cancel`, without blocking the event loop. Who is cancelled meanwhile has cancelled all the same."""
        await self._engine._durable(self._engine._native.submit_cancel(self.id))

    def _leave(self) -> None:
        # What was settled inside is closed and stays so. A log that cannot be asked any more has the ticket open in
        # its records, which is in doubt as well.
        with contextlib.suppress(LogUnavailable):
            self._engine._native.leave(self.id)

    def __enter__(self) -> Self:
        self.dispatch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        self.dispatch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Ticket belongs to its engine and cannot be pickled or deep-copied: engine.ticket(id) finds it"
        )

    def __repr__(self) -> str:
        if self.refusal is not None:
            return f"<Ticket {self.id}: refused, {self.refusal}>"
        try:
            state: str = self.state
        except DecidableError as error:
            state = error.code
        return f"<Ticket {self.id}: {self.model!r}, {state}>"


@dataclass(frozen=True, slots=True, repr=False)
class Opened:
    """What opening a log found and did (docs/spec/log.md).

    Attributes:
        created: Whether there was no log before.
        records: How many records there were before.
        writer_epoch: How often the log was opened for writing, this time included.
        closed_before: Whether the engine before closed it. If not, it was stopped: look at the open tickets.
        recoveries: The unfinished ends that were cut, each with ``offset``, ``cut_bytes``, ``digest``, ``cause``, and
            ``quarantine``, the file under the log's directory that has the bytes.
        erasures_finished: The records whose erasure had been interrupted and is done now.
        unrecorded_erasures: The records whose private parts are gone although the log recorded no erasure. If an
            account's is among them, ``recover`` was given, and its erasure is recorded now.
    """

    created: bool
    records: int
    writer_epoch: int
    closed_before: bool
    recoveries: tuple[dict[str, Any], ...]
    erasures_finished: tuple[int, ...]
    unrecorded_erasures: tuple[int, ...]

    def __repr__(self) -> str:
        shown = (f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self))
        return f"Opened({', '.join(shown)})"


def _short(value: object) -> str:
    """The value, and of a long tuple its first entries and how many there are."""
    if isinstance(value, tuple) and len(value) > _ENTRIES_SHOWN:
        first = ", ".join(map(repr, value[:_ENTRIES_SHOWN]))
        return f"({first}, … {len(value):,} in all)"
    return repr(value)


class EngineLedger:
    """The accounts of an engine. Every change is a record, durable when the call returns."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Engine) -> None:
        self._native = native

    def open_account(self, account: str, initial: int, *, exist_ok: bool = False) -> Balance:
        """Open an account with ``initial`` microunits.

        A name whose account was erased (:meth:`Engine.erase`) is free: opened anew it is another account, which has
        ``initial`` microunits whatever the old one had spent. The old one is called ``#`` and its number.

        Args:
            exist_ok: An account of that name that is open already is left as it is, also where ``initial`` is another
                amount than it was opened with: for a program that starts again. :meth:`top_up` adds to its budget.

        Raises:
            Conflict: if an account of that name is open, unless ``exist_ok``.
        """
        is_enough = truth(exist_ok, field="exist_ok")
        try:
            return self._durable(self._native.submit_account(account, initial))
        except Conflict:
            if not is_enough:
                raise
            # Someone else may have opened it just now: their record must be durable for this answer as well.
            return self._durable(self._native.opened_account(account))

    def top_up(self, account: str, amount: int) -> Balance:
        """Add ``amount`` microunits; debt is repaid first."""
        return self._durable(self._native.submit_top_up(account, amount))

    def set_cap(self, account: str, cap: int | None) -> Balance:
        """Set the most that may be held at a time, or lift it with ``None``."""
        return self._durable(self._native.submit_cap(account, cap))

    def balance(self, account: str) -> Balance:
        """The figures of one account, in microunits."""
        return self._native.balance(account)

    def accounts(self) -> list[Balance]:
        """The figures of all accounts, in the order of opening."""
        return self._native.balances()

    def __contains__(self, account: object) -> bool:
        if not isinstance(account, str):
            return False
        try:
            self._native.balance(account)
        except (UnknownName, InvalidInput):
            return False
        return True

    def _durable(self, answer: tuple[Balance, int]) -> Balance:
        balance, seq = answer
        self._native.wait(seq)
        return balance


class Engine:
    """The live path over the log in one directory. Open it with :meth:`open`; one process holds a log at a time.

    >>> import decidable as dc, tempfile
    >>> model = dc.Model(model_id=1, quality_bps=9_000, input_cost_microunits_per_million_tokens=150_000,
    ...                  output_cost_microunits_per_million_tokens=600_000)
    >>> policy = dc.Policy(dc.Catalog([model]), objective="cheapest")
    >>> with dc.Engine.open(tempfile.mkdtemp(), policy=policy) as engine:
    ...     _ = engine.ledger.open_account("acme", 1_000_000)
    ...     with engine.decide(dc.Request(input_tokens=1_000, output_tokens=200), account="acme") as ticket:
    ...         charged = ticket.settle(input_tokens=1_000, output_tokens=180).charged_microunits
    ...     charged, engine.ledger.balance("acme").remaining
    (258, 999742)
    """

    def __init__(self, native: _native.Engine) -> None:
        self._native = native
        self._waker = _Waker(native)
        self.ledger = EngineLedger(native)
        _open_engines.add(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        policy: Policy,
        key: Key | None = None,
        sync: Literal["group", "none"] = "group",
        clock: ManualClock | None = None,
        provenance: str = "",
        head: dict[str, Any] | str | os.PathLike[str] | None = None,
        recover: bool = False,
    ) -> Engine:
        """Open the log in the directory ``path``, or create it, and rebuild ledger and tickets from its records.

        Args:
            policy: What decides. It is installed if it is not the one installed last, or came from elsewhere
                (``provenance``).
            key: Seals the log beside its public chain. A log is sealed from its creation on, or never.
            sync: ``"group"`` answers when the record is durable; ``"none"`` when it is written, so that a power loss
                can lose the last answers (but not their order).
            clock: Whose times the records carry; the system's clock by default.
            provenance: Where catalog and prices came from; kept in the policy's record. An empty one says nothing, and
                does not install a policy again.
            head: A head that was kept elsewhere, or the file that holds it. A log that does not contain it is refused.
            recover: Accept what may be a power loss and may be damage, where nobody can tell: a damaged end is cut and
                kept in quarantine, and an account's name that is gone without a record is recorded as erased. For one
                opening, by someone who has looked; not for a program that starts by itself.

        An interrupt while the log is read leaves it as it was.

        Raises:
            InvalidInput: if the path is empty, none, a file, or a directory that holds other files and no log: a log
                has a directory of its own (catalog, key and head belong elsewhere).
            LogUnavailable: if the log is open elsewhere, or sealed under another key.
            VerificationError: if the log is damaged or does not follow from its own records; ``wal.end_damaged`` and
                ``engine.name_gone`` (with ``seq`` and ``account_number``) where ``recover`` would accept it.
        """
        with kept(head) as known:
            native = _native.Engine.open(
                directory(path),
                policy=policy,
                key=key,
                sync=sync,
                clock=clock,
                provenance=provenance,
                head=known,
                recover=recover,
            )
        return cls(native)

    @property
    def opened(self) -> Opened:
        """What opening the log found and did, such as ends that were cut."""
        return Opened(**self._native.opened())

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self._native.policy()

    def decide(
        self, request: Request, *, account: str | None = None, key: str | None = None, metadata: str | None = None
    ) -> Ticket:
        """Decide a request, hold its largest cost, and answer when both are in the log.

        Args:
            request: Its number is replaced by the engine's own.
            account: Who pays. Without one nothing is held.
            key: The caller's idempotency key. The same key with the same request and account gives the same ticket,
                also after the log was opened again, until 262,144 later ones were settled (docs/limits.md); once a
                ticket is cancelled its key is free. Its digest stays in the
                log, where a key that can be guessed can be recognised.
            metadata: Text kept with the record as its private part: it can be erased.

        Raises:
            UnknownName: if the account is not open.
            Conflict: if the key was used for another request.
            LogUnavailable: if the log cannot take the record: then nothing was decided. Only with the code
                ``wal.durability_lost`` the record may be in the log; opening the log again shows it, in doubt.
        """
        answer = self._native.submit(request, account=account, key=key, metadata=metadata)
        try:
            ticket = Ticket(self, answer)
            self._native.wait(answer.seq)
            answer.mark_durable()
        except BaseException:
            self._disown(answer)
            raise
        return ticket

    async def adecide(
        self, request: Request, *, account: str | None = None, key: str | None = None, metadata: str | None = None
    ) -> Ticket:
        """As :meth:`decide`, without blocking the event loop.

        With a large catalog, or many quotes, the decision itself is made in a thread of the loop's default executor.

        Who is cancelled before the answer comes has no ticket: what was held is released and the key is free, unless
        others were answered under it (docs/asyncio.md).
        """
        submit = partial(self._native.submit, request, account=account, key=key, metadata=metadata)
        small = self._native.work(request) <= _LOOP_WORK
        answer = submit() if small else await self._elsewhere(submit)
        try:
            ticket = Ticket(self, answer)
            await self._durable(answer.seq, answer.mark_durable)
        except BaseException:
            self._disown(answer)
            raise
        return ticket

    async def _elsewhere(self, submit: Callable[[], Answer]) -> Answer:
        """Submit in another thread. Who gives up meanwhile receives no answer, so the thread releases its hold."""
        submitted: Future[Answer] = Future()

        def work() -> None:
            if not submitted.set_running_or_notify_cancel():
                return
            try:
                submitted.set_result(submit())
            except BaseException as error:
                submitted.set_exception(error)

        def release(given_up: Future[Answer]) -> None:
            if not given_up.cancelled() and given_up.exception() is None:
                self._disown(given_up.result())

        try:
            asyncio.get_running_loop().run_in_executor(None, work)
        except RuntimeError as error:
            raise LogUnavailable("engine.no_thread", f"no thread can be started to decide in: {error}") from error
        try:
            return await asyncio.wrap_future(submitted)
        except BaseException:
            submitted.add_done_callback(release)
            raise

    def _disown(self, answer: Answer) -> None:
        """Release what was held for an answer that nobody received."""
        with contextlib.suppress(LogUnavailable):
            self._native.disown(answer.number)

    async def _durable(self, seq: int, when_durable: Callable[[], None] | None = None) -> None:
        await self._waker.wait(seq, when_durable)

    def outcome(
        self,
        ticket: int,
        *,
        succeeded: bool | None = None,
        cost_microunits: int | None = None,
        latency_ms: int | None = None,
        abandoned: bool = False,
    ) -> None:
        """Note what was observed of a ticket, now or much later. A later observation supersedes an earlier one.

        Args:
            abandoned: That nothing was done. It is given alone; otherwise at least one of the others is given.
        """
        seen = {"succeeded": succeeded, "cost_microunits": cost_microunits, "latency_ms": latency_ms}
        given = [name for name, value in seen.items() if value is not None]
        if truth(abandoned, field="abandoned") == bool(given):
            needs = "outcome needs succeeded, cost_microunits or latency_ms; or abandoned=True alone"
            too_many = f"outcome takes abandoned=True alone, without {' and '.join(given)}"
            raise InvalidInput("replay.bad_outcome", too_many if given else needs, ticket=ticket)
        seq = self._native.submit_outcome(
            ticket, abandoned=abandoned, cost_microunits=cost_microunits, latency_ms=latency_ms, succeeded=succeeded
        )
        self._native.wait(seq)

    def audit(self, ticket: int, audit_hash: bytes) -> None:
        """Note which audit is that of what was generated for a ticket: the log then shows that it was not replaced.

        Args:
            audit_hash: ``Monitor.audit_hash`` after the generation has ended. A ticket with several answers may have
                several audits, each noted by a call of its own.

        Raises:
            Conflict: if the ticket was refused or cancelled, so that nothing was generated.
        """
        self._native.wait(self._native.submit_audit(ticket, audit_hash))

    def ticket(self, number: int) -> Ticket:
        """The ticket of that number, as it stands.

        Raises:
            UnknownName: if there is none, or it was closed so long ago that it is forgotten (docs/limits.md). One that
                is open is there once its decision is durable.
        """
        return Ticket(self, self._native.ticket(number))

    def open_tickets(self) -> list[Ticket]:
        """The tickets that are neither settled nor cancelled and whose decisions are durable, in order.

        Those in doubt wait for :meth:`reconcile`.
        """
        return [Ticket(self, answer) for answer in self._native.open_tickets()]

    def reconcile(
        self,
        ticket: int,
        *,
        cost_microunits: int | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        nothing_spent: bool = False,
    ) -> None:
        """End the doubt about a ticket: charge what it cost, or release it where nothing was spent for certain."""
        if truth(nothing_spent, field="nothing_spent"):
            if cost_microunits is not None or input_tokens is not None or output_tokens is not None:
                message = "reconcile takes either nothing_spent or what was spent"
                raise InvalidInput("engine.contradiction", message, ticket=ticket)
            self._native.wait(self._native.submit_release(ticket))
            return
        self.ticket(ticket).settle(
            cost_microunits=cost_microunits, input_tokens=input_tokens, output_tokens=output_tokens
        )

    def erase(self, seqs: Iterable[int]) -> list[int]:
        """Erase the private parts of records for good; returns the numbers of those that had one.

        Every proof still holds: the chain covers only a salted commitment. What recovery has cut and kept in
        ``quarantine/`` is erased too, whichever records are named: nobody can say whose it is.

        Erasing the record of an account erases its name. The account, its money and its holds stay, under ``#`` and its
        number (``"#0"``); the name is free, and whoever opens it anew has another account with funds of its own. A
        program that opens its accounts when it starts (``exist_ok=True``) does that, and a budget that was spent is
        there again. To keep it limited, let the old account hold nothing more (``ledger.set_cap("#0", 0)``) and open
        the name at once with what is left (``ledger.balance("#0").remaining``); docs/threat-model.md says more.

        An interrupt while the log is read leaves everything as it was. Once the erasure is recorded it is completed,
        whatever happens: an interrupt then ends the waiting alone, and what a kill or a fault leaves over, the next
        opening of the log finishes (``Opened.erasures_finished``).
        """
        erased, _, _ = self._native.erase(seqs)
        return erased

    def head(self) -> dict[str, Any]:
        """The head of the durable part of the log. Kept elsewhere, it shows later whether the end was cut off.

        With ``sync="none"`` it is the head of what was written: until the engine is closed a power loss can leave a log
        that ends before it.
        """
        return self._native.head()

    def close(self) -> dict[str, Any]:
        """Write what is left, close the log and return its head. Closing again returns it again.

        Coroutines that wait are woken: their records are durable by then, or they are told why not. An interrupt ends
        the waiting for the disk; the engine takes nothing more, and closing again waits for the rest.

        Raises:
            LogUnavailable: if the log could not write, now or before. It is closed all the same.
        """
        try:
            return self._native.close()
        finally:
            self._waker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except LogUnavailable as fault:
            # A child that was forked inside the block leaves the log to its parent.
            if fault.code != "engine.forked":
                raise

    def __reduce__(self) -> Any:
        raise TypeError("an Engine holds a log and cannot be pickled")


class _Waker:
    """Wakes coroutines when their records are durable: one thread for all of them, which lives while any waits.

    The log's own thread never touches Python; this one sleeps in the log and hands the results to the event loops. The
    durable number and the list of who waits only change together, so no one is forgotten between the two.
    """

    def __init__(self, native: _native.Engine) -> None:
        self._native = native
        self._changed = threading.Condition()
        self._waiting: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}
        self._thread: threading.Thread | None = None
        self._durable = 0
        self._stopped = False

    async def wait(self, seq: int, when_durable: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if seq <= self._durable:
                if when_durable is not None:
                    when_durable()
                return
            if self._thread is None:
                self._start()
            self._waiting.setdefault(loop, []).append(_Waiter(seq, future, when_durable))
            self._changed.notify()
        await future

    def _start(self) -> None:
        """Start the thread. It is only known once it runs: one that did not start would wake nobody."""
        thread = threading.Thread(target=self._run, name="decidable-waker", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            message = f"the thread that wakes coroutines cannot be started: {error}"
            raise LogUnavailable("engine.no_thread", message) from error
        self._thread = thread

    def stop(self) -> None:
        """Let the thread go as soon as nobody waits. A closed log answers everyone who does."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while self._someone_waits():
            try:
                durable = self._native.wait_change(self._durable, _WAKER_PATIENCE_MS)
            except Exception as error:
                # Everything that is durable was announced before the log said so.
                self._fail(error)
            else:
                self._announce(durable)

    def _someone_waits(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped, _WAKER_REST_SECONDS)
            if not self._waiting:
                self._thread = None
            return bool(self._waiting)

    def _announce(self, durable: int) -> None:
        with self._changed:
            self._durable = durable
            for loop, waiters in list(self._waiting.items()):
                ready = [waiter for waiter in waiters if waiter.seq <= durable]
                if not ready:
                    continue
                self._waiting[loop] = [waiter for waiter in waiters if waiter.seq > durable]
                if not self._waiting[loop]:
                    del self._waiting[loop]
                for waiter in ready:
                    if waiter.when_durable is not None:
                        waiter.when_durable()
                _call(loop, ready, None)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            for loop, waiters in self._waiting.items():
                _call(loop, waiters, error)
            self._waiting.clear()


class _Waiter:
    __slots__ = ("future", "seq", "when_durable")

    def __init__(self, seq: int, future: asyncio.Future[None], when_durable: Callable[[], None] | None) -> None:
        self.seq = seq
        self.future = future
        self.when_durable = when_durable


def _call(loop: asyncio.AbstractEventLoop, waiters: list[_Waiter], error: Exception | None) -> None:
    # A loop that was closed has nobody left to wake.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_resolve, waiters, error)


def _resolve(waiters: list[_Waiter], error: Exception | None) -> None:
    for waiter in waiters:
        # Who was cancelled waits no more, and an interrupt cancels between any two steps: no look before would do.
        with contextlib.suppress(asyncio.InvalidStateError):
            if error is None:
                waiter.future.set_result(None)
            else:
                # Each gets its own: a traceback grows as an exception is raised.
                waiter.future.set_exception(copy.copy(error))


_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _abandon_after_fork() -> None:
    """A forked child must not write to its parent's logs, nor hold their locks."""
    for engine in list(_open_engines):
        engine._native.abandon()
        # The old one's lock may be held, for ever, by a thread that only the parent has.
        engine._waker = _Waker(engine._native)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_after_fork)
