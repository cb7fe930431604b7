"""Every comparison as a pair of benchmarks: `pytest benches -o addopts= -o testpaths= --benchmark-only`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sides import every_group

from decidable.bench import Side

SIDES = [
    pytest.param(f"{each.what}/{group}", side, id=f"{each.what}/{group}-{name}")
    for group, comparisons in every_group()
    for each in comparisons
    for name, side in (("peer", each.peer), ("ours", each.ours))
    if side is not None
]


@pytest.mark.parametrize(("what", "side"), SIDES)
def test_side(benchmark, what: str, side: Side) -> None:
    """One call of one side; `items` says how many things it does."""
    benchmark.group = f"{what}, {side.items} at a time"
    benchmark(side.call)
