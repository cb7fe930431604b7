"""Holds this machine's figures to the bars of bars.toml: ``python benches/check.py [SECTION or PART …]``.

A section's name chooses its bars, a part of a label those that have it. Other work on a machine moves a figure, mostly
for the worse, so what falls short is measured twice more, and then the median of the three has to reach its bar; every
figure is printed. It ends with 1 where a bar was not reached, and a figure that is not there does not reach its bar:
only one that needs vectors which this machine lacks, or a peer that is not installed, is not measured. How many those
were is the last word.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import decidable

HERE = Path(__file__).parent
TURNS = 3
# As the last part of a label; which of them a machine has is `decidable.vectors()`.
VECTORS = {"plain", "sse4.2", "neon", "avx2", "avx512"}
# The module of each peer that `make bench-guard-peers` installs.
PEERS = {"pyahocorasick": "ahocorasick", "hyperscan": "hyperscan", "litellm": "litellm"}
# By section, label and what is compared, or the name of a figure.
BARS: dict[str, dict[str, dict[str, float | str]]] = tomllib.loads((HERE / "bars.toml").read_text("utf-8"))
# A figure with its unit, or a ratio: `ours  64.0 ns   peer/ours  1.77 (best  1.80)`.
FIGURE = re.compile(r"(?<!\S)(\S+(?: \S+)*?)\s+([\d.]+)(?: (ns|s|MB)\b| \(best\s+[\d.]+\))")

Figures = dict[tuple[str, str], tuple[float, str]]


class Bar:
    """The least ratio, or the most of a figure, whose unit is not empty."""

    def __init__(self, written: float | str) -> None:
        bound = re.fullmatch(r"at most ([\d.]+) (ns|s|MB)", written) if isinstance(written, str) else None
        if bound is None and isinstance(written, str):
            raise ValueError(f"no bar: {written!r} (a number, or 'at most 60 ns', s or MB)")
        self.bound, self.unit = (float(bound[1]), bound[2]) if bound else (float(written), "")

    def __str__(self) -> str:
        return f"at most {self.bound:g} {self.unit}" if self.unit else f"at least {self.bound:g}"

    def is_reached(self, figure: float) -> bool:
        return figure <= self.bound if self.unit else figure >= self.bound


def from_lines(command: list[str]) -> Figures:
    """The figures that a bench prints, a label a line: ratios, and what they are of."""
    found = {}
    for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        label, _, rest = line.partition("  ")
        for name, figure, unit in FIGURE.findall(rest):
            found[label.strip(), name] = float(figure), unit
    return found


def from_command(labels: list[str]) -> Figures:
    """The ratios of ``decidable bench``, by what, size and workload."""
    sizes = sorted({label.split("/")[1] for label in labels})
    command = [sys.executable, "-m", "decidable", "bench", "--json", "--sizes", *sizes]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {
        (f"{result['what']}/{result['candidates']}/{result['workload']}", "peer/ours"): (result["ratio"], "")
        for result in answer["results"]
        if result["ratio"] is not None
    }


def figures(section: str, labels: list[str]) -> Figures:
    """What the command of a section measures."""
    if section == "python":
        return from_command(labels)
    if "/" in section:
        return from_lines([sys.executable, str(HERE / f"{section}.py"), *labels])
    cargo = ["cargo", "bench", "--quiet", "--locked", "-p", "decidable-benches"]
    return from_lines([*cargo, "--bench", section, "--", *labels])


def lacking(label: str, compared: str) -> str | None:
    """What a figure needs and this machine has not."""
    if label.rpartition("/")[2] in VECTORS - set(decidable.vectors()):
        return "this machine lacks its vectors"
    if compared == "growth" and sys.platform != "linux":
        return "a process tells its peak on Linux alone"
    peer = compared.partition("/")[0]
    if peer in PEERS and find_spec(PEERS[peer]) is None:
        return f"{peer} is not installed here (make bench-guard-peers)"
    return None


def main() -> int:
    parts = sys.argv[1:]
    chosen = {
        section: {
            (label, compared): Bar(written)
            for label, bars in labels.items()
            if not parts or section in parts or any(part in label for part in parts)
            for compared, written in bars.items()
        }
        for section, labels in BARS.items()
    }
    if not any(chosen.values()):
        print(f"no section is, and no label has in it, {' or '.join(parts)}")
        return 2
    missed = unmeasured = 0
    for section, open_bars in chosen.items():
        measured: dict[tuple[str, str], list[float]] = {}
        for turn in range(1, TURNS + 1):
            if not open_bars:
                break
            found = figures(section, list(dict.fromkeys(label for label, _ in open_bars)))
            for (label, compared), bar in list(open_bars.items()):
                figure, unit = found.get((label, compared), (None, ""))
                if figure is None or unit != bar.unit:
                    why = lacking(label, compared)
                    shown, verdict = "none", f"not measured: {why}" if why else "missed: nothing printed it"
                    missed += why is None
                    unmeasured += why is not None
                    del open_bars[label, compared]
                else:
                    turns = measured.setdefault((label, compared), [])
                    turns.append(figure)
                    shown, verdict = f"{figure:.2f}", "once more"
                    if bar.is_reached(figure) if turn == 1 else turn == TURNS and bar.is_reached(median(turns)):
                        verdict = "reached"
                        del open_bars[label, compared]
                    elif turn == TURNS:
                        verdict = f"missed: {median(turns):.2f} of three"
                print(f"{label:<38}{compared:>20}{shown:>10}  {bar!s:<16} {verdict}", flush=True)
        missed += len(open_bars)
    every = "every bar that was measured was reached" if unmeasured else "every bar was reached"
    told = f"{missed} bars were not reached" if missed else every
    print(f"{told}, {unmeasured} were not measured" if unmeasured else told)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
