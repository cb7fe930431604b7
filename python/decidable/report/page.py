"""The page: one self-contained HTML document, the same bytes for the same log.

No script, no request, no clock, no randomness. The content security policy in the page allows nothing but its own
style sheet, by digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import resources

from decidable.builders import counted
from decidable.errors import DecidableError
from decidable.replay import VerificationReport
from decidable.report import charts
from decidable.report.escape import html_text
from decidable.report.facts import Facts, ModelUse
from decidable.report.quantity import count, duration, money, nearest_rank, share, stamp
from decidable.report.series import Buckets, buckets, histogram
from decidable.report.verdict import Verdict
from decidable.report.words import kind_words, refusal_order, refusal_words

__all__ = ["failure_page", "log_page"]

# How many open tickets are listed; all are counted.
_TICKETS_SHOWN = 100
_ERASED_SHOWN = 50

_GLYPHS = {
    "holds": '<circle cx="12" cy="12" r="9.5"/><path d="M7.5 12.5l3 3 6-6.5"/>',
    "cannot-conclude": '<path d="M12 3.2 22 20.5H2z"/><path d="M12 10v4.6M12 17.6v.1"/>',
    "does-not-hold": '<circle cx="12" cy="12" r="9.5"/><path d="M8.5 8.5l7 7M15.5 8.5l-7 7"/>',
}


def log_page(verdict: Verdict, verification: VerificationReport, facts: Facts, *, policies: bool) -> str:
    """The report of a log that verified, whatever may still be open about it; ``policies``: whether any were given."""
    sections = [
        _evidence(verification, facts),
        _spend(facts),
        _models(facts),
        _refusals(facts),
        _durable(facts),
        _balances(verification, facts),
        _open_tickets(verification),
    ]
    lead = _period(facts)
    return _document(
        header=f"<h1>Decision report</h1>{lead}{_banner(verdict)}{_figures(verification, facts)}",
        main="".join(sections),
        again=_again(verification, policies),
    )


def failure_page(verdict: Verdict, error: DecidableError) -> str:
    """The report of a log that does not hold: what disagreed and where, and no figure taken from it."""
    rows = [("What", html_text(error.message)), ("Code", f"<code>{html_text(error.code)}</code>")]
    for name, label in (("seq", "Record"), ("offset", "Byte"), ("what", "Disagrees")):
        value = error.details.get(name)
        if value is not None:
            rows.append((label, html_text(count(value) if isinstance(value, int) else str(value))))
    body = (
        '<section aria-labelledby="where"><h2 id="where">What disagreed</h2>'
        '<p class="quiet">No figures are shown: a log that does not hold is no source of figures.</p>'
        f"{_facts(rows)}</section>"
    )
    return _document(header=f"<h1>Decision report</h1>{_banner(verdict)}", main=body, again="")


# --- the frame ---------------------------------------------------------------------------------------------------


@cache
def _style() -> tuple[str, str]:
    """The style sheet and its digest for the content security policy."""
    text = resources.files("decidable.report").joinpath("style.css").read_text("utf-8").strip()
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _document(*, header: str, main: str, again: str) -> str:
    style, digest = _style()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>Decision report</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header>{header}</header>\n<main>{main}</main>\n{_footer(again)}\n</body>\n</html>\n"
    )


def _again(verification: VerificationReport, policies: bool) -> str:
    """How to repeat the verification, with the files that it takes."""
    details = verification.details or {}
    # A JSON-lines log carries no policies, so its decisions are derived again only with them.
    given = [("--policy", "policy.json", policies or verification.kind == "json-lines")]
    given += [("--head", "head.json", True), ("--key-file", "wal.key", bool(details.get("keyed")))]
    command = " ".join(["decidable verify LOG", *(f"{option} {file}" for option, file, wanted in given if wanted)])
    key = " A sealed log needs its key as well." if details.get("keyed") else ""
    return (
        "<p>Anyone who has the log can repeat this. Keep the head elsewhere: it shows a later reader that nothing "
        f"was cut off or rewritten.{key}</p><pre><code>{command}</code></pre>"
    )


def _footer(again: str) -> str:
    return (
        f"<footer><div>{again}<p>Money is in units of the caller's currency; a microunit is 1/1,000,000 of it, and "
        "every amount is exact unless it is marked as rounded. Times are UTC, as the writer of the log recorded them. "
        "This page contains no script and loads nothing.</p></div></footer>"
    )


def _banner(verdict: Verdict) -> str:
    reasons = "".join(f"<li>{html_text(each)}</li>" for each in verdict.reasons)
    return (
        f'<div class="verdict {verdict.state}" role="status">'
        f'<svg viewBox="0 0 24 24" aria-hidden="true" class="glyph">{_GLYPHS[verdict.state]}</svg>'
        f"<div><strong>{html_text(verdict.title)}</strong><p>{html_text(verdict.sentence)}</p>"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div></div>"
    )


def _section(name: str, title: str, lead: str, body: str) -> str:
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{html_text(title)}</h2>'
        f'<p class="quiet">{html_text(lead)}</p>{body}</section>'
    )


def _empty(text: str) -> str:
    return f'<p class="empty">{html_text(text)}</p>'


def _pretty(text: str) -> str:
    """Text as it is, or JSON on lines of its own; each line escaped."""
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False)
    return "\n".join(html_text(line) for line in text.split("\n"))


def _numbers(table: str) -> str:
    """A chart's table, folded on a screen and open on paper."""
    return f"<details><summary>The numbers of this chart</summary>{table}</details>"


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    return (
        '<dl class="facts">' + "".join(f"<dt>{html_text(name)}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>"
    )


def _table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None
) -> str:
    """Cells are HTML. A column named with a leading ``#`` is numeric, one with a leading ``|`` holds bars."""
    kinds = [{"#": ' class="number"', "|": ' class="bars"'}.get(name[:1], "") for name in columns]
    heads = "".join(
        f'<th scope="col"{kind}>{html_text(name.lstrip("#|"))}</th>' for name, kind in zip(columns, kinds, strict=True)
    )

    def line(cells: Sequence[str]) -> str:
        first, *rest = cells
        return (
            f'<tr><th scope="row">{first}</th>'
            + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
            + "</tr>"
        )

    barred = ' class="barred"' if any(name.startswith("|") for name in columns) else ""
    foot = f"<tfoot>{line(total)}</tfoot>" if total is not None else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html_text(caption)}">'
        f"<table{barred}><caption>{html_text(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(line(each) for each in rows)}</tbody>{foot}</table></div>"
    )


# --- the top -----------------------------------------------------------------------------------------------------


def _period(facts: Facts) -> str:
    if facts.first_ns is None or facts.last_ns is None:
        return '<p class="quiet">This log carries no times.</p>'
    return f'<p class="quiet">{stamp(facts.first_ns)} to {stamp(facts.last_ns)}</p>'


def _figures(verification: VerificationReport, facts: Facts) -> str:
    refused = facts.decisions - facts.selected
    figures = [
        ("Decisions", count(facts.decisions), counted(verification.records, "record")),
        ("Selected", count(facts.selected), share(facts.selected, facts.decisions)),
        ("Refused", count(refused), share(refused, facts.decisions)),
    ]
    if facts.settlements:
        figures.append(
            ("Spend", money(facts.spent_microunits, places=2), f"{counted(facts.settlements, 'settlement')}, rounded")
        )
    else:
        figures.append(("Estimated cost", money(facts.estimated_microunits, places=2), "nothing settled, rounded"))
    p50, p99 = nearest_rank(facts.durable_ns, 50), nearest_rank(facts.durable_ns, 99)
    if p50 is not None and p99 is not None:
        figures.append(("Durable within", duration(p99), f"99 of 100; half in {duration(p50)}"))
    figures.append(("Open tickets", count(len(verification.open_tickets)), "not yet settled"))
    cells = "".join(
        f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}<small>{html_text(note)}</small></dd></div>"
        for name, value, note in figures
    )
    return f'<dl class="figures">{cells}</dl>'


# --- sections ----------------------------------------------------------------------------------------------------


def _evidence(verification: VerificationReport, facts: Facts) -> str:
    established = "".join(f"<li>{html_text(each)}</li>" for each in verification.established)
    missing = "".join(f"<li>{html_text(each)}</li>" for each in verification.not_established)
    head = verification.head
    rows = []
    if "log_id" in head:
        rows.append(("Log", f'<span class="hash">{html_text(head["log_id"])}</span>'))
    rows.append(("Head", f"record {count(verification.records)}"))
    rows.append(
        ("Hash of the head", f'<span class="hash">{html_text(head.get("hash") or head.get("last_hash") or "")}</span>')
    )
    kinds = ", ".join(f"{count(number)} {kind_words(kind, number)}" for kind, number in sorted(facts.kinds.items()))
    rows.append(("Records", html_text(f"{count(verification.records)}: {kinds}")))
    for number, digest, objective, provenance in facts.policies:
        label = f'{html_text(objective)} <span class="hash">{html_text(digest)}</span>'
        if provenance:
            label += f"<details><summary>where it came from</summary><pre>{_pretty(provenance)}</pre></details>"
        rows.append((f"Policy {number}", label))
    if facts.recoveries:
        rows.append(("Recoveries", f"{counted(facts.recoveries, 'unfinished end')}, cut off and recorded"))
    if verification.erased:
        shown = ", ".join(map(str, verification.erased[:_ERASED_SHOWN]))
        more = "" if len(verification.erased) <= _ERASED_SHOWN else ", …"
        which = "record" if len(verification.erased) == 1 else "records"
        rows.append(
            (
                "Erased private parts",
                f"{count(len(verification.erased))}: {which} {shown}{more}",
            )
        )
    if verification.tail is not None:
        tail = verification.tail
        rows.append(
            (
                "Unfinished tail",
                html_text(f"{counted(tail['bytes'], 'byte')} from byte {count(tail['offset'])}: {tail['reason']}"),
            )
        )
    nothing = "<li>nothing that this log could answer</li>"
    lists = (
        f'<div class="two"><div><h3>Established</h3><ul class="list yes">{established}</ul></div>'
        f'<div><h3>Not established</h3><ul class="list no">{missing or nothing}</ul></div></div>'
    )
    return _section(
        "evidence",
        "What was verified",
        "Re-derived from the log alone, from its first byte to its last.",
        lists + _facts(rows),
    )


def _spend(facts: Facts) -> str:
    lead = "What settled calls cost, by the time of settlement. The dearest model lies at the bottom of each bar."
    ranked = [use.name for use in facts.models_by_spend()]
    wide, narrow = (buckets(facts.spend, ranked, most=most) for most in (75, 30))
    if wide is None or narrow is None or not any(wide.totals()):
        return _section("spend", "Spend over time by model", lead, _empty("No settlement in this log cost anything."))
    body = (
        charts.legend(wide.names)
        + charts.spend_chart(wide, variant="wide", width=960, height=360)
        + charts.spend_chart(narrow, variant="narrow", width=440, height=320)
        + _numbers(_spend_table(wide))
    )
    return _section("spend", "Spend over time by model", lead, f"<figure>{body}</figure>")


def _spend_table(spend: Buckets) -> str:
    rows = [
        [
            f'<span class="time">{stamp(spend.start_ns + place * spend.step_ns).removesuffix(" UTC")}</span>',
            *(money(each) for each in row),
            money(sum(row)),
        ]
        for place, row in enumerate(spend.amounts)
    ]
    sums = [sum(column) for column in zip(*spend.amounts, strict=True)]
    return _table(
        f"Spend in currency units; each row covers {duration(spend.step_ns)} from its time (UTC)",
        ["From", *(f"#{name}" for name in spend.names), "#all"],
        rows,
        ["All", *(money(each) for each in sums), money(sum(sums))],
    )


def _models(facts: Facts) -> str:
    lead = "Which models were chosen, and what their settled calls used and cost."
    uses = facts.models_by_spend()
    if not uses:
        return _section("models", "Models", lead, _empty("No model was selected in this log."))
    settled = facts.settlements > 0
    most = max(use.chosen for use in uses)
    columns = ["Model", "|Share of choices", "#Chosen", "#Share", "#Substituted"]
    columns += ["#Input tokens", "#Output tokens", "#Spend"] if settled else ["#Estimated cost"]
    rows = []
    for use in [*uses, _sum(uses)]:
        name = html_text(use.name) + (f"<small>{html_text(use.provider)}</small>" if use.provider else "")
        chosen = [count(use.chosen), share(use.chosen, facts.selected), count(use.substituted)]
        used = [count(use.input_tokens), count(use.output_tokens), money(use.spent_microunits)]
        cost = used if settled else [money(use.estimated_microunits)]
        rows.append([name, charts.bar(use.chosen, most), *chosen, *cost])
    *rows, total = rows
    total[1] = ""
    caption = "Models by spend, in currency units" if settled else "Models by estimated cost, in currency units"
    return _section("models", "Models", lead, _table(caption, columns, rows, total))


def _sum(uses: Sequence[ModelUse]) -> ModelUse:
    total = ModelUse("All", "")
    for use in uses:
        for name in (
            "chosen",
            "substituted",
            "input_tokens",
            "output_tokens",
            "spent_microunits",
            "estimated_microunits",
        ):
            setattr(total, name, getattr(total, name) + getattr(use, name))
    return total


def _refusals(facts: Facts) -> str:
    lead = "Requests for which nothing was selected or no money could be held, by the gate that refused them."
    if not facts.refusals:
        return _section("refusals", "Refusals by gate", lead, _empty("Nothing was refused."))
    ordered = sorted(facts.refusals.items(), key=lambda item: (-item[1], refusal_order(item[0])))
    most = max(facts.refusals.values())
    rows = []
    for label, number in ordered:
        name, sentence = refusal_words(label)
        rows.append(
            [
                html_text(name) + (f"<small>{html_text(sentence)}</small>" if sentence else ""),
                charts.bar(number, most),
                count(number),
                share(number, facts.decisions),
            ]
        )
    refused = facts.refusals.total()
    total = ["All", "", count(refused), share(refused, facts.decisions)]
    return _section(
        "refusals",
        "Refusals by gate",
        lead,
        _table("Refusals, most frequent first", ["Gate", "|Refused", "#Count", "#Of all decisions"], rows, total),
    )


def _durable(facts: Facts) -> str:
    lead = "How long a decision's record took to become durable before its ticket was returned, as its settlement says."
    durable = histogram(facts.durable_ns)
    if durable is None:
        return _section("durable", "Time to durable", lead, _empty("No settlement in this log carries this time."))
    rows = [
        [f"{duration(place * durable.width)} to {duration((place + 1) * durable.width)}", count(number)]
        for place, number in enumerate(durable.counts)
    ]
    if durable.beyond:
        rows.append([f"{duration(len(durable.counts) * durable.width)} or more", count(durable.beyond)])
    few = [
        ("Half within (p50)", duration(durable.p50)),
        ("99 of 100 within (p99)", duration(durable.p99)),
        ("Longest", duration(durable.largest)),
        ("Settled decisions", count(len(facts.durable_ns))),
    ]
    body = (
        charts.durable_chart(durable, variant="wide", width=960, height=300)
        + charts.durable_chart(durable, variant="narrow", width=440, height=280)
        + _facts([(name, html_text(value)) for name, value in few])
        + _numbers(_table("Settled decisions by time to durable", ["Time", "#Decisions"], rows))
    )
    return _section("durable", "Time to durable", lead, f"<figure>{body}</figure>")


def _balances(verification: VerificationReport, facts: Facts) -> str:
    lead = "At the head of the log: remaining + reserved + committed = initial, for every account."
    balances = sorted(verification.balances, key=lambda each: each.account)
    if not balances:
        return _section("accounts", "Accounts", lead, _empty("This log keeps no accounts."))
    requests = {account.name: account for account in facts.accounts.values()}
    rows = []
    for each in balances:
        account = requests.get(each.account)
        parts = [(each.committed, "s0"), (each.reserved, "s1"), (each.remaining, "s4")]
        rows.append(
            [
                html_text(each.account),
                charts.stacked_bar(parts, each.initial),
                *(money(value) for value in (each.committed, each.reserved, each.remaining, each.initial, each.debt)),
                "none" if each.cap is None else money(each.cap),
                count(account.decisions) if account else "-",
                count(account.denied) if account else "-",
            ]
        )
    columns = [
        "Account",
        "|Of its money",
        "#Committed",
        "#Reserved",
        "#Remaining",
        "#Initial",
        "#Debt",
        "#Cap",
        "#Decisions",
        "#Denied",
    ]
    body = charts.legend(("committed", "reserved", "remaining"), ("s0", "s1", "s4")) + _table(
        "Balances in currency units", columns, rows
    )
    return _section("accounts", "Accounts", lead, body)


def _open_tickets(verification: VerificationReport) -> str:
    lead = (
        "Decisions whose money is held or in doubt: the estimate stays charged until someone settles or cancels them."
    )
    tickets = sorted(verification.open_tickets, key=lambda each: each["request_sequence"])
    if not tickets:
        return _section(
            "tickets", "Open tickets", lead, _empty("None: every selected decision was settled or cancelled.")
        )
    rows = [
        [
            count(each["request_sequence"]),
            html_text(each["state"].replace("_", " ")),
            html_text("-" if each["account"] is None else each["account"]),
            count(each["seq"]),
            "-" if each["hold_microunits"] is None else money(each["hold_microunits"]),
        ]
        for each in tickets[:_TICKETS_SHOWN]
    ]
    left = len(tickets) - len(rows)
    note = f'<p class="quiet">{count(left)} more not listed here.</p>' if left else ""
    columns = ["Ticket", "State", "Account", "#Record", "#Held"]
    return _section("tickets", "Open tickets", lead, _table("Open tickets by number", columns, rows) + note)
