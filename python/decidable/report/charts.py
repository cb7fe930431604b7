"""Inline SVG by hand: no script, no style attribute (the page's policy forbids both), colours by class.

Every picture is drawn twice, wide and narrow, so that its text keeps a readable size; the style sheet shows one. Both
carry a title and a description, and stand beside a table with the same numbers.
"""

from __future__ import annotations

from decidable.report.escape import html_text
from decidable.report.quantity import clock, count, duration, money, nice_step
from decidable.report.series import Buckets, Histogram

__all__ = ["bar", "durable_chart", "legend", "spend_chart", "stacked_bar"]


class _Frame:
    """A drawing area with a left axis from 0 and a bottom axis."""

    def __init__(self, name: str, variant: str, title: str, description: str, *, width: int, height: int) -> None:
        self.left, self.right, self.top, self.bottom = 58, width - 10, 30, height - 30
        label = f"{name}-{variant}"
        labels = f'role="img" aria-labelledby="{label}-title {label}-desc"'
        self.parts = [
            f'<svg class="chart {variant}" viewBox="0 0 {width} {height}" {labels}>',
            f'<title id="{label}-title">{html_text(title)}</title>',
            f'<desc id="{label}-desc">{html_text(description)}</desc>',
        ]

    def y(self, value: int, top_value: int) -> str:
        return _n(self.bottom - (self.bottom - self.top) * value / top_value)

    def grid(self, top_value: int, step: int, label: str, show: dict[int, str]) -> None:
        self.text(self.left - 8, 14, label, "unit", "start", nudge=-48)
        for value in range(0, top_value + 1, step):
            y = self.y(value, top_value)
            kind = "base" if value == 0 else "grid"
            self.parts.append(f'<line class="{kind}" x1="{self.left}" x2="{self.right}" y1="{y}" y2="{y}"/>')
            number = html_text(show[value])
            self.parts.append(
                f'<text class="tick" x="{self.left - 8}" y="{y}" dy="4" text-anchor="end">{number}</text>'
            )

    def text(self, x: float, y: float, text: str, kind: str, anchor: str, *, nudge: int = 0) -> None:
        self.parts.append(
            f'<text class="{kind}" x="{_n(x + nudge)}" y="{_n(y)}" text-anchor="{anchor}">{html_text(text)}</text>'
        )

    def rect(self, x: float, y: float, width: float, height: float, kind: str, hint: str) -> None:
        self.parts.append(
            f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}">'
            f"<title>{html_text(hint)}</title></rect>"
        )

    def end(self) -> str:
        return "".join([*self.parts, "</svg>"])


def spend_chart(spend: Buckets, *, variant: str, width: int, height: int) -> str:
    """Stacked bars, one a bucket of time; the dearest model lies at the bottom."""
    totals = spend.totals()
    step = nice_step(max([*totals, 1]), 5)
    top_value = -(-max([*totals, 1]) // step) * step
    places = _places(step)
    first, last = spend.start_ns, spend.start_ns + len(totals) * spend.step_ns
    frame = _Frame(
        "spend",
        variant,
        "Spend over time by model",
        f"Stacked bars of {duration(spend.step_ns)} each from {clock(first, step_ns=spend.step_ns)} to "
        f"{clock(last, step_ns=spend.step_ns)} UTC, at most {money(max(totals))} in one bar. "
        "The table below has every number.",
        width=width,
        height=height,
    )
    every = _label_every(spend, width)
    frame.grid(
        top_value,
        step,
        f"currency units per {_step_words(spend.step_ns)}",
        {value: money(value, places=places) for value in range(0, top_value + 1, step)},
    )
    slot = (frame.right - frame.left) / len(totals)
    thick = slot * 0.82 if slot > 4 else slot
    for place, row in enumerate(spend.amounts):
        x = frame.left + slot * place + (slot - thick) / 2
        begun = spend.start_ns + place * spend.step_ns
        below = 0
        for kind, (name, amount) in enumerate(zip(spend.names, row, strict=True)):
            if amount <= 0:
                continue
            low = frame.bottom - (frame.bottom - frame.top) * below / top_value
            tall = (frame.bottom - frame.top) * amount / top_value
            at = clock(begun, step_ns=min(spend.step_ns, 60 * 10**9))
            frame.rect(x, low - tall, thick, tall, f"s{kind}", f"{at} {name}: {money(amount)}")
            below += amount
        if begun % (every * spend.step_ns) == 0:
            at = _n(x + thick / 2)
            frame.parts.append(f'<line class="base" x1="{at}" x2="{at}" y1="{frame.bottom}" y2="{frame.bottom + 4}"/>')
            frame.text(x + thick / 2, frame.bottom + 18, clock(begun, step_ns=spend.step_ns), "tick", "middle")
    return frame.end()


def legend(names: tuple[str, ...], kinds: tuple[str, ...] | None = None) -> str:
    """The colours of the series, in the order of the stack."""
    kinds = kinds or tuple(f"s{place}" for place in range(len(names)))
    items = "".join(
        '<li><svg class="key" viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect class="{kind}" width="10" height="10" rx="2"/></svg>{html_text(name)}</li>'
        for kind, name in zip(kinds, names, strict=True)
    )
    return f'<ul class="legend">{items}</ul>'


def durable_chart(durable: Histogram, *, variant: str, width: int, height: int) -> str:
    """A histogram with the median and the 99th percentile marked."""
    highest = max([*durable.counts, durable.beyond])
    step = nice_step(highest, 4)
    top_value = -(-highest // step) * step
    frame = _Frame(
        "durable",
        variant,
        "Time until a decision was durable",
        f"Histogram with bars of {duration(durable.width)}. Half of the decisions were durable within "
        f"{duration(durable.p50)}, 99 of 100 within {duration(durable.p99)}. The table below has every number.",
        width=width,
        height=height,
    )
    frame.top += 16
    frame.grid(top_value, step, "settled decisions", {value: count(value) for value in range(0, top_value + 1, step)})
    bars = [*durable.counts, durable.beyond] if durable.beyond else [*durable.counts]
    slot = (frame.right - frame.left) / len(bars)
    for place, amount in enumerate(bars):
        tall = (frame.bottom - frame.top) * amount / top_value
        over = place == len(durable.counts)
        low = duration(place * durable.width)
        hint = (
            f"{low} or more: {count(amount)}"
            if over
            else f"{low} to {duration((place + 1) * durable.width)}: {count(amount)}"
        )
        x = frame.left + slot * place
        frame.rect(x + slot * 0.06, frame.bottom - tall, slot * 0.88, tall, "over" if over else "plain", hint)
    labels = nice_step(len(durable.counts), 8 if width > 600 else 5)
    for place in range(0, len(durable.counts) + 1, labels):
        if not durable.beyond or place + labels // 2 < len(durable.counts):
            anchor = "start" if place == 0 else "end" if place == len(bars) else "middle"
            frame.text(frame.left + slot * place, frame.bottom + 18, duration(place * durable.width), "tick", anchor)
    if durable.beyond:
        frame.text(frame.right, frame.bottom + 18, "more", "tick", "end")
    for name, value, row in (("p50", durable.p50, 0), ("p99", durable.p99, 1)):
        x = frame.left + slot * min(value / durable.width, len(bars))
        y = 16 + 14 * row
        frame.parts.append(f'<line class="mark" x1="{_n(x)}" x2="{_n(x)}" y1="{_n(y - 4)}" y2="{frame.bottom}"/>')
        end = x > (frame.left + frame.right) / 2
        frame.text(x, y + 4, f"{name} {duration(value)}", "note", "end" if end else "start", nudge=-5 if end else 5)
    return frame.end()


def bar(part: int, whole: int, kind: str = "plain") -> str:
    """One horizontal bar inside a table row; the number stands in the next cell."""
    return stacked_bar([(part, kind)], whole)


def stacked_bar(parts: list[tuple[int, str]], whole: int) -> str:
    """Several parts of one whole, end to end."""
    drawn, x = [], 0.0
    for part, kind in parts:
        width = 100 * max(0, part) / whole if whole > 0 else 0
        if width > 0:
            drawn.append(f'<rect class="{kind}" x="{_n(x)}" width="{_n(max(width, 0.4))}" height="8"/>')
        x += width
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/>{"".join(drawn)}</svg>'
    )


def _label_every(spend: Buckets, width: int) -> int:
    """A label at every so many buckets, such that it falls on round times and labels keep apart."""
    fitting = max(2, width // 90)
    for every in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60):
        if len(spend.amounts) <= every * fitting:
            return every
    return -(-len(spend.amounts) // fitting)


def _places(step: int) -> int:
    """Decimals that a label at a multiple of ``step`` microunits needs."""
    places = 6
    while places > 0 and step % 10 ** (7 - places) == 0:
        places -= 1
    return places


def _step_words(step_ns: int) -> str:
    seconds = step_ns // 10**9
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0:
            number = seconds // size
            return name if number == 1 else f"{number} {name}s"
    return duration(step_ns)


def _n(value: float) -> str:
    """A coordinate with at most two decimals, always written the same way."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
