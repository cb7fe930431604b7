"""``route``: one decision in a person's words, dry or in an engine's state."""

from __future__ import annotations

import argparse
from typing import Any, Final

from decidable import builders, demo
from decidable._native import Decision
from decidable.builders import counted
from decidable.catalog import Catalog
from decidable.cli.answer import decision_document, explanation_document, show_decision, show_explanation
from decidable.cli.exits import FINE, Usage
from decidable.cli.inputs import add_json, key_of, path, present
from decidable.cli.screen import Screen
from decidable.domains import llm
from decidable.engine import Ticket
from decidable.errors import InvalidInput
from decidable.report.quantity import money
from decidable.wal import holds_a_log

__all__ = ["add"]

_OBJECTIVES: Final = ("utility", "cheapest", "quality", "fastest")


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "route",
        help="which model for a prompt of this size",
        description="Route one call by names and quantities ('70%', '0.02', '2s'). Without --state the decision is "
        "dry: nothing is held or logged. With --state the engine there decides, holds the money of --account, and "
        "logs it.",
    )
    parser.add_argument("model", metavar="MODEL", help="the model the caller would use")
    parser.add_argument("--input-tokens", required=True, metavar="N", help="size of the prompt, such as 1200 or 4k")
    parser.add_argument("--expected-output-tokens", metavar="N", help="expected size of the answer; default 256")
    parser.add_argument("--max-output-tokens", metavar="N", help="largest size: sizes the hold; default 4 times that")
    parser.add_argument("--max-cost", metavar="MONEY", help="most that the expected answer may cost, such as 0.02")
    parser.add_argument("--value", metavar="MONEY", help="what a right answer is worth")
    parser.add_argument("--min-quality", metavar="P", help="least quality, such as 70%%")
    parser.add_argument("--max-latency", metavar="TIME", help="most p95 latency, such as 2s")
    parser.add_argument("--risk", metavar="P", help="risk of the request, such as 5%%")
    parser.add_argument("--confidence", metavar="P", help="confidence in the request's data; default 100%%")
    parser.add_argument(
        "--capability",
        action="append",
        default=[],
        metavar="NAME",
        help="what the model must be able to do (may be repeated)",
    )
    parser.add_argument("--provider", action="append", metavar="NAME", help="who may serve it (may be repeated)")
    parser.add_argument("--region", action="append", metavar="NAME", help="where it may be served (may be repeated)")
    parser.add_argument(
        "--catalog",
        type=path,
        metavar="FILE",
        help="models.toml or policy.json; default without --state: the demo's models",
    )
    parser.add_argument(
        "--objective",
        choices=_OBJECTIVES,
        help="default: the catalog's own, else cheapest; without --catalog and --value cheapest",
    )
    parser.add_argument("--why", action="store_true", help="show the verdict on every candidate")
    state = parser.add_argument_group("in an engine's state")
    state.add_argument("--state", type=path, metavar="DIR", help="decide, hold and log in this engine's state")
    state.add_argument("--account", metavar="NAME", help="whose money is held")
    state.add_argument("--key", metavar="TEXT", help="makes the call idempotent: the same key gets the same ticket")
    state.add_argument("--key-file", type=path, metavar="FILE", help="the log's key: raw bytes, at least 32")
    add_json(parser)
    parser.set_defaults(run=_route, command="route")


def _route(parsed: argparse.Namespace, screen: Screen) -> int:
    try:
        return _routed(parsed, screen)
    except InvalidInput as error:
        # What the library calls by its field was given as an option.
        field = error.details.get("field")
        if field is None or not error.message.startswith(f"{field} ") or not hasattr(parsed, field):
            raise
        message = f"--{field.replace('_', '-')}{error.message.removeprefix(field)}"
        raise Usage(error.code, message, **error.details) from None


def _routed(parsed: argparse.Namespace, screen: Screen) -> int:
    for name in ("account", "key", "key_file"):
        if parsed.state is None and getattr(parsed, name) is not None:
            raise Usage("cli.usage", f"--{name.replace('_', '-')} needs --state")
    shipped = parsed.catalog is None
    if shipped and parsed.state is not None:
        # A state keeps the policy that it is opened with: the demo's models are for trying, not for keeping.
        raise Usage("cli.usage", "--state needs --catalog: the models that it decides among")
    catalog = _catalog(parsed)
    # The shipped catalog weighs an answer's value, which a first try does not give.
    usual = "cheapest" if shipped and parsed.value is None else catalog.limits.get("objective") or "cheapest"
    policy = catalog.policy(objective=parsed.objective or usual)
    if policy.objective == "utility" and parsed.value is None:
        # Without a value nothing would be worth its price.
        whose = "--objective utility" if parsed.objective else f"the objective utility of {parsed.catalog}"
        raise Usage("cli.usage", f"{whose} weighs what an answer is worth against its cost: give --value, such as 0.05")
    wishes: dict[str, Any] = {
        "input_tokens": parsed.input_tokens,
        "max_cost": parsed.max_cost,
        "value": parsed.value,
        "min_quality": parsed.min_quality,
        "max_latency": parsed.max_latency,
        "risk": parsed.risk,
        "confidence": parsed.confidence,
        "capabilities": parsed.capability,
        "providers": parsed.provider,
        "regions": parsed.region,
    }
    ticket: Ticket | None = None
    recoveries: tuple[dict[str, Any], ...] = ()
    if parsed.state is None:
        expected, most = llm._sizes(parsed.expected_output_tokens, parsed.max_output_tokens)
        request = builders.request(
            catalog, model=parsed.model, output_tokens=expected, max_output_tokens=most, **wishes
        )
        decision: Decision | None = policy.decide(request)
    else:
        ticket, recoveries = _ticket(parsed, screen, catalog, policy.objective, wishes)
        request, decision = ticket.request, ticket.decision
    explanation = policy.explain(request) if parsed.why else None
    if screen.as_json:
        document = {} if decision is None else decision_document(policy, request, decision)
        document["ticket"] = None if ticket is None else _ticket_document(ticket)
        document["recoveries"] = list(recoveries)
        if explanation is not None:
            document["verdicts"] = explanation_document(policy, explanation)
        screen.emit(document)
        return FINE
    if decision is not None:
        show_decision(screen, policy, request, decision)
    if ticket is not None:
        _show_ticket(screen, ticket)
    if explanation is not None:
        screen.line()
        show_explanation(screen, policy, explanation)
    return FINE


def _catalog(parsed: argparse.Namespace) -> Catalog:
    if parsed.catalog is not None:
        return Catalog.load(present(parsed.catalog, "a catalog"))
    return demo.catalog()


def _ticket(
    parsed: argparse.Namespace, screen: Screen, catalog: Catalog, objective: str, wishes: dict[str, Any]
) -> tuple[Ticket, tuple[dict[str, Any], ...]]:
    """The ticket that the engine at --state gives, and the unfinished ends that were cut as it was opened.

    The ticket is in doubt from then on: whoever makes the call settles it.
    """
    if parsed.account is not None and not holds_a_log(parsed.state):
        message = f"{parsed.state} holds no state, so no account is open there: gateway.open_account opens one"
        raise Usage("cli.no_account", message, path=str(parsed.state))
    with llm.Gateway.open(parsed.state, catalog=catalog, objective=objective, key=key_of(parsed)) as gateway:
        opened = gateway.engine.opened
        if opened.created:
            screen.note(f"{parsed.state} held no state: one is begun there")
        recoveries = opened.recoveries
        for cut in recoveries:
            # Whatever comes of the call.
            screen.note(
                f"{parsed.state} ended in {counted(cut['cut_bytes'], 'unfinished byte')}, cut off and kept "
                f"in {parsed.state / cut['quarantine']}"
            )
        call = gateway.route(
            parsed.model,
            expected_output_tokens=parsed.expected_output_tokens,
            max_output_tokens=parsed.max_output_tokens,
            account=parsed.account,
            key=parsed.key,
            **wishes,
        )
        return call.ticket, recoveries


def _ticket_document(ticket: Ticket) -> dict[str, Any]:
    names = ("id", "account", "hold_microunits", "refusal", "seq", "durable_ns", "replayed")
    return {name: getattr(ticket, name) for name in names} | {"state": _state(ticket)}


def _show_ticket(screen: Screen, ticket: Ticket) -> None:
    again = ", the ticket of an earlier call with this key" if ticket.replayed else ""
    screen.pairs([("ticket", f"{ticket.id}, {_stands(ticket)}{again}"), ("record", str(ticket.seq))])


def _state(ticket: Ticket) -> str:
    """As ``verify`` would say it: the session that decided has ended, so what it left open is in doubt."""
    return "in_doubt" if ticket.state == "held" else ticket.state


def _stands(ticket: Ticket) -> str:
    """How a ticket stands, and what is held for it."""
    if ticket.refusal is not None:
        return f"refused: {ticket.refusal.replace('_', ' ')}"
    state = _state(ticket)
    if state != "in_doubt":
        return state
    hold = ticket.hold_microunits
    held = "nothing is held: no account was named" if hold is None else f"{money(hold)} held"
    return f"in doubt, {held}"
