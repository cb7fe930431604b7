"""docs/spec/records.md: what a log's records mean, followed one by one in plain Python.

A :class:`Books` is told each record's command and answers with what must have followed. It shares no code with the
library: decisions, digests, holds and balances are those of the other models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model import decisions, ledger, outcomes
from model.decisions import U64_MAX, Decision, Policy, Request, cost_from_rates

SAFETY_CEILING_BPS = 9_700


class DoesNotFollow(Exception):
    """A record that cannot come after those before it."""


@dataclass(slots=True)
class Ticket:
    request: Request
    account: int | None
    decision: Decision | None = None
    policy: int = 0
    state: str = "refused"  # open, settled, cancelled
    held: int | None = None
    hold: int | None = None
    revisions: int = 0


@dataclass(slots=True)
class Decided:
    decision: Decision
    identity: bytes
    outcome: str  # rejected, unheld, held, denied
    hold_microunits: int | None
    denial: str | None


@dataclass(slots=True)
class Books:
    policies: list[Policy] = field(default_factory=list)
    ledger: ledger.Ledger = field(default_factory=ledger.Ledger)
    tickets: dict[int, Ticket] = field(default_factory=dict)

    def balance(self, account: int) -> ledger.Account:
        return self.ledger.accounts[str(account)]

    def open_tickets(self) -> list[int]:
        return [number for number, ticket in self.tickets.items() if ticket.state == "open"]

    def decisions(self) -> int:
        """How many requests were decided: those that the safety ceiling refused are not."""
        return sum(ticket.decision is not None for ticket in self.tickets.values())

    def install(self, policy: Policy) -> int:
        self.policies.append(policy)
        return len(self.policies) - 1

    def open_account(self, initial: int) -> int:
        number = len(self.ledger.accounts)
        self.ledger.open_account(str(number), initial)
        return number

    def top_up(self, account: int, amount: int) -> None:
        self.ledger.top_up(str(account), amount)

    def set_cap(self, account: int, cap: int | None) -> None:
        self.ledger.set_cap(str(account), cap)

    def decide(self, request: Request, policy: int, account: int | None) -> Decided | None:
        """What was decided and held; ``None`` where the safety ceiling refused."""
        number = len(self.tickets) + 1
        if request.request_sequence != number:
            raise DoesNotFollow(f"request {request.request_sequence} comes {number}th")
        ticket = self.tickets[number] = Ticket(request, account, policy=policy)
        if request.risk_bps >= SAFETY_CEILING_BPS:
            return None
        rules = self.policies[policy]
        decision, _ = decisions.decide(rules, request)
        ticket.decision = decision
        identity = decisions.identity(rules, request, decision)
        if decision.selected_model_id == 0:
            return Decided(decision, identity, "rejected", None, None)
        if account is None:
            ticket.state = "open"
            return Decided(decision, identity, "unheld", None, None)
        amount = largest_cost(rules, request, decision)
        answer = self.ledger.reserve(str(account), amount) if amount <= ledger.I64_MAX else "overflow"
        if isinstance(answer, str):
            return Decided(decision, identity, "denied", amount, answer)
        ticket.state, ticket.held, ticket.hold = "open", amount, answer
        return Decided(decision, identity, "held", amount, None)

    def settle(
        self, number: int, cost: int | None, input_tokens: int | None, output_tokens: int | None
    ) -> tuple[int, int, int]:
        """What was charged, what went back and what became debt."""
        ticket = self._open(number)
        if cost is None:
            if ticket.decision is None or input_tokens is None or output_tokens is None:
                raise DoesNotFollow(f"ticket {number} is settled without a cost")
            if ticket.decision.selected_model_id in ticket.request.quotes:
                raise DoesNotFollow(f"ticket {number} was quoted and is settled without a cost")
            candidate = self.policies[ticket.policy].models[ticket.decision.selected_model_index]
            cost = cost_from_rates(candidate, input_tokens, output_tokens)
        ticket.state = "settled"
        if ticket.hold is None:
            return cost, 0, 0
        _, returned, debt = self.ledger.commit(ticket.hold, cost)
        return cost, returned, debt

    def cancel(self, number: int) -> None:
        ticket = self._open(number)
        ticket.state = "cancelled"
        if ticket.hold is not None:
            self.ledger.release(ticket.hold)

    def audit(self, number: int) -> None:
        ticket = self.tickets[number]
        if ticket.state not in {"open", "settled"}:
            raise DoesNotFollow(f"nothing was generated for ticket {number}")

    def observe(
        self,
        number: int,
        observed_at_micros: int,
        disposition: str,
        cost: int | None,
        latency_ms: int | None,
        succeeded: bool | None,
    ) -> tuple[int, bytes]:
        """The revision and the digest."""
        ticket = self.tickets[number]
        if ticket.decision is None or (disposition != "Abandoned" and ticket.state not in {"open", "settled"}):
            raise DoesNotFollow(f"ticket {number} has no such outcome")
        ticket.revisions += 1
        acted = ticket.decision.selected_model_id
        selection = outcomes.selection_digest(strategy=0, acted_model_id=acted, propensity_bps=10_000)
        identity = decisions.identity(self.policies[ticket.policy], ticket.request, ticket.decision)
        return ticket.revisions, outcomes.outcome_digest(
            identity=identity,
            observed_at_micros=observed_at_micros,
            revision=ticket.revisions,
            selection=selection,
            disposition=disposition,
            realized_cost_microunits=cost,
            realized_latency_ms=latency_ms,
            succeeded=succeeded,
        )

    def _open(self, number: int) -> Ticket:
        ticket = self.tickets.get(number)
        if ticket is None or ticket.state != "open":
            raise DoesNotFollow(f"ticket {number} is not open")
        return ticket


def largest_cost(policy: Policy, request: Request, decision: Decision) -> int:
    """The selected candidate's cost at the largest answer."""
    candidate = policy.models[decision.selected_model_index]
    most = request.output_tokens if request.max_output_tokens is None else request.max_output_tokens
    at_most = cost_from_rates(candidate, request.input_tokens, most)
    if candidate.model_id not in request.quotes:
        return at_most
    expected = cost_from_rates(candidate, request.input_tokens, request.output_tokens)
    return min(request.quotes[candidate.model_id] + at_most - expected, U64_MAX)
