"""From single settlements to what a chart draws: time buckets by model, and bars of a histogram, all integers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from decidable.report.quantity import bins_for, nearest_rank, nice_step

__all__ = ["OTHERS", "SHOWN", "Buckets", "Histogram", "buckets", "histogram"]

# How many models have a colour of their own; the rest are one series.
SHOWN = 6
OTHERS = "other models"

_SECOND = 10**9
_STEPS = [
    each * _SECOND
    for each in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800)
]


@dataclass(frozen=True, slots=True)
class Buckets:
    """``amounts[i][j]``: what series ``names[j]`` spent from ``start_ns + i * step_ns`` on, for ``step_ns``."""

    start_ns: int
    step_ns: int
    names: tuple[str, ...]
    amounts: tuple[tuple[int, ...], ...]

    def totals(self) -> list[int]:
        """One sum a bucket."""
        return [sum(row) for row in self.amounts]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of ``width``-wide bars from 0; ``beyond`` values lie above the last."""

    width: int
    counts: tuple[int, ...]
    beyond: int
    p50: int
    p99: int
    largest: int


def step_for(span_ns: int, most: int) -> int:
    """The smallest pleasant step that covers the span in at most ``most`` buckets."""
    for step in _STEPS:
        if span_ns < step * most:
            return step
    return (span_ns // (_STEPS[-1] * most) + 1) * _STEPS[-1]


def buckets(spend: list[tuple[int, str, int]], ranked: list[str], *, most: int) -> Buckets | None:
    """Spend by time and model; ``ranked`` are the models, dearest first. None when nothing was spent."""
    if not spend:
        return None
    # A series of its own for one model rather than "others" with one member.
    names = tuple(ranked) if len(ranked) <= SHOWN + 1 else (*ranked[:SHOWN], OTHERS)
    places = {name: min(place, SHOWN) for place, name in enumerate(ranked)}
    first, last = min(each[0] for each in spend), max(each[0] for each in spend)
    step = step_for(last - first, most)
    start = first // step * step
    amounts = [[0] * len(names) for _ in range((last - start) // step + 1)]
    for time_ns, name, amount in spend:
        amounts[(time_ns - start) // step][places[name]] += amount
    return Buckets(start, step, names, tuple(tuple(row) for row in amounts))


def histogram(ascending: list[int]) -> Histogram | None:
    """Bars up to about the 99.5th percentile, wide enough to be read; None of nothing."""
    p50, p99 = nearest_rank(ascending, 50), nearest_rank(ascending, 99)
    if p50 is None or p99 is None:
        return None
    reach = ascending[max(0, -(-len(ascending) * 995 // 1000) - 1)]
    width = nice_step(reach + 1, bins_for(len(ascending)))
    bars = reach // width + 1
    counts = Counter(min(each // width, bars) for each in ascending)
    return Histogram(width, tuple(counts[place] for place in range(bars)), counts[bars], p50, p99, ascending[-1])
