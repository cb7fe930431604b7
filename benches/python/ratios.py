"""How many times faster we are than the reference implementation: interleaved rounds, medians, the ratio first.

    python benches/python/ratios.py [--rounds 31] [--milliseconds 20] [part of a name ...]

Every round runs both sides, in turns first and second, so that whatever slows the machine down meets both.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from statistics import median

from sides import Comparison, comparisons


def timed(call: Callable[[], object], repetitions: int) -> float:
    begin = time.perf_counter()
    for _ in range(repetitions):
        call()
    return time.perf_counter() - begin


def repetitions(call: Callable[[], object], seconds: float) -> int:
    """How often to call to work for about so long."""
    call()
    return max(1, round(seconds / timed(call, 1)))


def measure(comparison: Comparison, rounds: int, seconds: float) -> tuple[float, float, float]:
    """The ratio and both medians, in seconds an item."""
    sides = (comparison.peer, comparison.ours)
    counts = [repetitions(call, seconds) for call in sides]
    samples: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for turn in (0, 1):
            who = (number + turn) % 2
            samples[who].append(timed(sides[who], counts[who]) / counts[who] / comparison.items)
    theirs, ours = map(median, samples)
    return theirs / ours, theirs, ours


def lines(wanted: list[str], rounds: int, seconds: float) -> Iterator[str]:
    yield f"{'ratio':>8}  {'peer':>12}  {'ours':>12}"
    for comparison in comparisons():
        if not wanted or any(part in comparison.name for part in wanted):
            ratio, theirs, ours = measure(comparison, rounds, seconds)
            yield f"{ratio:7.2f}x  {theirs * 1e9:9.0f} ns  {ours * 1e9:9.0f} ns  {comparison.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only comparisons whose name has one of these in it")
    parser.add_argument("--rounds", type=int, default=31, help="how often each side runs (31)")
    parser.add_argument("--milliseconds", type=float, default=20, help="about how long a side works a round (20)")
    asked = parser.parse_args()
    gc.disable()
    for line in lines(asked.names, asked.rounds, asked.milliseconds / 1_000):
        print(line, flush=True)


if __name__ == "__main__":
    main()
