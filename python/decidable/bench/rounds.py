"""Interleaved measurement: every round runs every side once, in rotating order, so that whatever slows the machine down
meets all of them. What is told is medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Comparison", "Figures", "Side", "figures", "measure"]


@dataclass(frozen=True, eq=False)
class Side:
    """One way to do the work: a call, and how many things it does at once."""

    items: int
    call: Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """What is measured, our way, and the peer's where there is one."""

    what: str
    ours: Side
    peer: Side | None


@dataclass(frozen=True)
class Figures:
    """Nanoseconds a thing, and how many times as long the peer takes."""

    ours_ns: float
    peer_ns: float | None
    ratio: float | None


def measure(comparisons: Sequence[Comparison], *, rounds: int, seconds: float) -> Iterator[Mapping[Side, float]]:
    """The rounds one by one: nanoseconds a thing of every side. A side works for about ``seconds`` in each."""
    sides = list(dict.fromkeys(side for each in comparisons for side in (each.ours, each.peer) if side is not None))
    repetitions = [_repetitions(side.call, seconds) for side in sides]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            taken = {}
            for turn in range(len(sides)):
                who = (number + turn) % len(sides)
                side, times = sides[who], repetitions[who]
                taken[side] = _timed(side.call, times) / times / side.items
            yield taken
    finally:
        if collecting:
            gc.enable()


def figures(comparison: Comparison, samples: Sequence[Mapping[Side, float]]) -> Figures:
    """What the rounds say of one comparison."""
    ours, peer = comparison.ours, comparison.peer
    ours_ns = _median(sample[ours] for sample in samples)
    if peer is None:
        return Figures(ours_ns, None, None)
    ratio = _median(sample[peer] / sample[ours] for sample in samples)
    return Figures(ours_ns, _median(sample[peer] for sample in samples), ratio)


def _median(values: Iterable[float]) -> float:
    ascending = sorted(values)
    half = len(ascending) // 2
    return ascending[half] if len(ascending) % 2 else (ascending[half - 1] + ascending[half]) / 2


def _timed(call: Callable[[], object], times: int) -> int:
    begun = time.perf_counter_ns()
    for _ in range(times):
        call()
    return time.perf_counter_ns() - begun


def _repetitions(call: Callable[[], object], seconds: float) -> int:
    """How often to call to work for about so long; the first call, which may prepare things, does not count."""
    call()
    return max(1, round(seconds * 1e9 / max(1, _timed(call, 1))))
