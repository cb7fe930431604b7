"""Holds this machine's figures to the bars of bars.toml: ``python benches/check.py [PART …]``.

A part of a label chooses. Other work on a machine makes a figure worse and never better, so what falls short is
measured up to three times and has to reach its bar once; every figure is printed. It ends with 1 where a bar was not
reached, and a figure that is not there does not reach its bar: only one that needs vectors which this machine lacks is
excused.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import decidable

TURNS = 3
# As the last part of a label; which of them a machine has is `decidable.vectors()`.
VECTORS = {"plain", "sse4.2", "neon", "avx2", "avx512"}
BARS: dict[str, dict[str, tuple[str, float]]] = tomllib.loads(Path(__file__).with_name("bars.toml").read_text("utf-8"))


def from_rust(bench: str, labels: list[str]) -> dict[tuple[str, str], float]:
    """The ratios that a Rust bench prints, by label and by what is compared."""
    command = ["cargo", "bench", "--quiet", "--locked", "-p", "decidable-benches", "--bench", bench, "--", *labels]
    found = {}
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        label, _, rest = line.partition("  ")
        for compared, ratio in re.findall(r"(\S+/\S+)\s+([\d.]+) \(best", rest):
            found[label.strip(), compared] = float(ratio)
    return found


def from_python(labels: list[str]) -> dict[tuple[str, str], float]:
    """The ratios of ``decidable bench``, by what, size and workload."""
    sizes = sorted({label.split("/")[1] for label in labels})
    command = [sys.executable, "-m", "decidable", "bench", "--json", "--sizes", *sizes]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        (f"{result['what']}/{result['candidates']}/{result['workload']}", "peer/ours"): result["ratio"]
        for result in answer["results"]
        if result["ratio"] is not None
    }


def excused(label: str) -> bool:
    """Whether a figure needs vectors that this machine lacks."""
    return label.rpartition("/")[2] in VECTORS - set(decidable.vectors())


def main() -> int:
    parts = sys.argv[1:]
    chosen = {
        bench: {label: bar for label, bar in bars.items() if not parts or any(part in label for part in parts)}
        for bench, bars in BARS.items()
    }
    if not any(chosen.values()):
        print(f"no label has {' or '.join(parts)} in it")
        return 2
    missed = 0
    for bench, open_bars in chosen.items():
        for turn in range(1, TURNS + 1):
            if not open_bars:
                break
            labels = list(open_bars)
            found = from_python(labels) if bench == "python" else from_rust(bench, labels)
            for label, (compared, least) in list(open_bars.items()):
                ratio = found.get((label, compared))
                if ratio is None:
                    verdict = (
                        "excused: this machine lacks its vectors" if excused(label) else "missed: nothing printed it"
                    )
                    print(f"{label:<34}{compared:>12}     none  of {least:<5} {verdict}", flush=True)
                    missed += not excused(label)
                    del open_bars[label]
                    continue
                reached = ratio >= least
                verdict = "reached" if reached else "missed" if turn == TURNS else "once more"
                print(f"{label:<34}{compared:>12}{ratio:>9.2f}  of {least:<5} {verdict}", flush=True)
                if reached:
                    del open_bars[label]
        missed += len(open_bars)
    print(f"{missed} bars were not reached" if missed else "every bar was reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
