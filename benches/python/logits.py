"""How many times as long NumPy takes for what `decidable.logit_stats` finds in the logits of one step.

python benches/python/logits.py [--rounds 101] [--milliseconds 5] [part of a label ...]

`everything`: entropy, the two largest, the selected probability, on both sides. `entropy`: of NumPy the entropy alone,
in single precision. `scalar`: the same in plain Python, on few logits; `libfse`: its own entropy, where there is one.
Every side reads the same array, which was read just before: hot, as after a model's last layer.
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from lines import compared, wanted

import decidable as dc
from decidable.bench import Comparison, Side, measure

try:
    import libfse
except ImportError:
    libfse = None

SIZES = (1_024, 32_000, 131_072, 262_144)
STEPS = 64


def entropy(logits: Any) -> float:
    """The entropy alone, in as few passes as NumPy has for it."""
    below = logits - logits.max()
    weights = np.exp(below)
    total = weights.sum()
    return float(np.log(total) - (weights * below).sum() / total)


def everything(logits: Any, selected: int) -> tuple[float, float, float, int, int]:
    """Entropy, dominance, the selected probability, and who is first and second."""
    below = logits - logits.max()
    weights = np.exp(below)
    total = weights.sum()
    second, first = np.argpartition(logits, -2)[-2:].tolist()
    dominance = (weights[first] - weights[second]) / total
    information = np.log(total) - (weights * below).sum() / total
    return float(information), float(dominance), float(weights[selected] / total), first, second


def scalar(logits: list[float]) -> float:
    """The entropy, one logit after the other."""
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    total = sum(weights)
    return -sum(weight / total * math.log(weight / total) for weight in weights if weight > 0)


def comparisons() -> Iterator[tuple[str, list[Comparison]]]:
    """What takes turns with each other, under one name."""
    for size in SIZES:
        logits = np.random.default_rng(size).normal(0, 4, size).astype(np.float32)
        half = logits.astype(np.float16)
        upper = (logits.view(np.uint32) >> 16).astype(np.uint16)
        ours = Side(1, lambda logits=logits: dc.logit_stats(logits, 7))
        found = [
            Comparison("entropy", ours, Side(1, lambda logits=logits: entropy(logits))),
            Comparison("everything", ours, Side(1, lambda logits=logits: everything(logits, 7))),
            Comparison(
                "entropy of every second",
                Side(1, lambda logits=logits: dc.logit_stats(logits[::2], 7)),
                Side(1, lambda logits=logits: entropy(logits[::2])),
            ),
            Comparison(
                "entropy of float16",
                Side(1, lambda half=half: dc.logit_stats(half, 7)),
                Side(1, lambda half=half: entropy(half.astype(np.float32))),
            ),
            Comparison(
                "entropy of bfloat16",
                Side(1, lambda upper=upper: dc.logit_stats(upper, 7, dtype="bfloat16")),
                Side(1, lambda upper=upper: entropy((upper.astype(np.uint32) << 16).view(np.float32))),
            ),
        ]
        if libfse is not None:
            found.append(
                Comparison("libfse", ours, Side(1, lambda logits=logits: libfse.shannon_entropy_from_logits(logits)))
            )
        agree(logits)
        yield f"{size}", found
    few = np.random.default_rng(1).normal(0, 4, 1_024).astype(np.float32)
    listed = few.tolist()
    yield (
        "1024",
        [Comparison("scalar", Side(1, lambda: dc.logit_stats(few, 7)), Side(1, lambda: scalar(listed)))],
    )
    steps = np.random.default_rng(2).normal(0, 4, (STEPS, 32_000)).astype(np.float32)
    selected = [7] * STEPS
    yield (
        f"{STEPS}x32000",
        [
            Comparison(
                "rows",
                Side(STEPS, lambda: dc.logit_stats(steps, selected)),
                Side(STEPS, lambda: [everything(row, 7) for row in steps]),
            )
        ],
    )


def agree(logits: Any) -> None:
    """Both sides find the same, but for what single precision loses."""
    stats, found = dc.logit_stats(logits, 7), everything(logits, 7)
    assert (stats.top1, stats.top2) == found[3:]
    ours = (stats.entropy, stats.dominance, stats.selected_probability)
    assert np.allclose(ours, found[:3], rtol=1e-3, atol=1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only lines whose label has one of these in it")
    parser.add_argument("--rounds", type=int, default=101, help="how often each side runs (101)")
    parser.add_argument("--milliseconds", type=float, default=5, help="about how long a side works a round (5)")
    asked = parser.parse_args()
    for group, all_of_it in comparisons():
        labelled = [(f"{each.what}/{group}", each) for each in all_of_it]
        chosen = [(label, each) for label, each in labelled if wanted(label, asked.names)]
        if not chosen:
            continue
        sides = [each for _, each in chosen]
        samples = list(measure(sides, rounds=asked.rounds, seconds=asked.milliseconds / 1_000))
        for label, each in chosen:
            of = {"peer": each.peer, "ours": each.ours}
            print(
                compared(label, {name: [sample[side] for sample in samples] for name, side in of.items()}), flush=True
            )


if __name__ == "__main__":
    main()
