"""How many times as long the reference implementation takes for what `decidable bench` leaves out.

python benches/python/ratios.py [--rounds 31] [--milliseconds 20] [part of a name ...]
"""

import argparse
from collections.abc import Iterator

from sides import groups

from decidable.bench import figures, measure


def lines(wanted: list[str], rounds: int, seconds: float) -> Iterator[str]:
    yield f"{'ratio':>8}  {'peer':>12}  {'ours':>12}"
    for group, comparisons in groups():
        named = [(f"{each.what}/{group}", each) for each in comparisons]
        chosen = [(name, each) for name, each in named if not wanted or any(part in name for part in wanted)]
        samples = list(measure([each for _, each in chosen], rounds=rounds, seconds=seconds))
        for name, comparison in chosen:
            found = figures(comparison, samples)
            yield f"{found.ratio:7.2f}x  {found.peer_ns:9.0f} ns  {found.ours_ns:9.0f} ns  {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only comparisons whose name has one of these in it")
    parser.add_argument("--rounds", type=int, default=31, help="how often each side runs (31)")
    parser.add_argument("--milliseconds", type=float, default=20, help="about how long a side works a round (20)")
    asked = parser.parse_args()
    for line in lines(asked.names, asked.rounds, asked.milliseconds / 1_000):
        print(line, flush=True)


if __name__ == "__main__":
    main()
