"""Every comparison as a pair of benchmarks: `pytest benches -o addopts= -o testpaths= --benchmark-only`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sides import Comparison, comparisons


@pytest.mark.parametrize("side", ["peer", "ours"])
@pytest.mark.parametrize("comparison", list(comparisons()), ids=lambda comparison: comparison.name)
def test_side(benchmark, comparison: Comparison, side: str) -> None:
    """One call of one side; `items` says how many things it does."""
    benchmark.group = f"{comparison.name}, {comparison.items} at a time"
    benchmark(getattr(comparison, side))
