"""``bench``: how fast this machine decides, beside the reference implementation where that is installed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from decidable import bench
from decidable._native import __version__
from decidable.bench import Comparison, Peer, Side
from decidable.builders import counted
from decidable.cli.exits import FINE
from decidable.cli.inputs import add_json, positive
from decidable.cli.screen import Screen
from decidable.cli.signals import ENDED
from decidable.report.quantity import count

__all__ = ["add"]

_SIZES: Final = (22, 64, 256, 1_024)
_MOST: Final = 65_535
_ROUNDS: Final = 31
_MILLISECONDS: Final = 2


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "bench",
        help="how fast this machine decides, beside the reference implementation",
        description="Measure deciding, digests and the ledger on two workloads, in turn in many short rounds, and "
        "print nanoseconds and ratios. The reference implementation takes part where it is installed "
        f"(pip install {bench.PEER}=={bench.PEER_VERSION}); before anything is measured, both must decide alike.",
    )
    parser.add_argument(
        "--sizes", nargs="+", type=_bounded, default=_SIZES, metavar="N",
        help=f"candidates in the catalog; default: {' '.join(map(str, _SIZES))}",
    )  # fmt: skip
    parser.add_argument(
        "--workloads", nargs="+", choices=bench.WORKLOADS, default=tuple(bench.WORKLOADS), metavar="NAME",
        help="syn (few limits), real (every gate in play); default: both",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=positive, default=_ROUNDS, metavar="N", help=f"how often each side runs; default: {_ROUNDS}"
    )
    parser.add_argument(
        "--milliseconds", type=positive, default=_MILLISECONDS, metavar="N",
        help=f"about how long a side works in a round; default: {_MILLISECONDS}",
    )  # fmt: skip
    parser.add_argument("--threads", type=_bounded, metavar="N", help="for the large batch; default: one for each core")
    add_json(parser)
    parser.set_defaults(run=_bench, command="bench")


def _bounded(text: str) -> int:
    """As many as a catalog may have candidates, and a batch threads."""
    number = positive(text)
    if number > _MOST:
        raise argparse.ArgumentTypeError(f"must be at most {_MOST:,}")
    return number


def _bench(parsed: argparse.Namespace, screen: Screen) -> int:
    told = _Told(parsed, bench.peer())
    try:
        with screen.progress("measuring", told.rounds(), alone=True) as advance:
            for part in told.begin():
                for taken in bench.measure(part.comparisons, rounds=parsed.rounds, seconds=parsed.milliseconds / 1_000):
                    part.samples.append(taken)
                    advance(1)
    except ENDED:
        told.whole = False
        told.tell(screen)
        screen.flush()
        raise
    told.tell(screen)
    return FINE


@dataclass
class _Part:
    """Comparisons that take turns with each other, and what each round took."""

    candidates: int | None
    workload: str | None
    comparisons: Sequence[Comparison]
    samples: list[Mapping[Side, float]] = field(default_factory=list)

    def title(self) -> str:
        return "ledger" if self.candidates is None else f"{counted(self.candidates, 'candidate')}, {self.workload}"


class _Told:
    """What is measured and found, for a person and for a program."""

    def __init__(self, parsed: argparse.Namespace, peer: Peer | None) -> None:
        self._parsed, self._peer = parsed, peer
        self._sizes, self._names = dict.fromkeys(parsed.sizes), dict.fromkeys(parsed.workloads)
        self._machine, self._date = bench.this_machine(), f"{datetime.now(UTC):%Y-%m-%d}"
        self._parts: list[_Part] = []
        self._agreed = 0
        self.whole = True

    def rounds(self) -> int:
        """How many there are in all."""
        return int(self._parsed.rounds) * (len(self._sizes) * len(self._names) + 1)

    def begin(self) -> Iterator[_Part]:
        """Each part, when both sides were seen to agree on it."""
        for size in self._sizes:
            for name in self._names:
                work = bench.WORKLOADS[name](size)
                self._agreed += bench.agree(work, self._peer)
                yield self._kept(size, name, bench.decided(work, self._peer, threads=self._parsed.threads))
        yield self._kept(None, None, bench.booked(self._peer))

    def _kept(self, size: int | None, name: str | None, comparisons: Sequence[Comparison]) -> _Part:
        self._parts.append(_Part(size, name, comparisons))
        return self._parts[-1]

    def tell(self, screen: Screen) -> None:
        """Everything that at least one round was measured of."""
        self._parts = [part for part in self._parts if part.samples]
        if screen.as_json:
            screen.emit(self._document())
        elif self._parts:
            self._show(screen)

    def _document(self) -> dict[str, Any]:
        return {
            "machine": self._machine,
            "date": self._date,
            "versions": {"decidable": __version__, bench.PEER: bench.PEER_VERSION if self._peer else None},
            "rounds": self._parsed.rounds,
            "milliseconds": self._parsed.milliseconds,
            "threads": self._parsed.threads,
            "agreed_decisions": self._agreed,
            "whole": self.whole,
            "results": [_result(part, comparison) for part in self._parts for comparison in part.comparisons],
        }

    def _show(self, screen: Screen) -> None:
        machine = self._machine
        screen.line("decidable beside the reference implementation" if self._peer else "decidable", style="bold")
        missing = f"not here: pip install {bench.PEER}=={bench.PEER_VERSION} sets it beside ours"
        alike = "on both sides, digests too" if self._peer else "in batches and one by one"
        rows = [
            ("machine", f"{machine['processor']}, {counted(int(machine['cores']), 'core')}, {machine['system']}"),
            ("vectors", str(machine["vectors"])),
            ("decidable", __version__),
            (bench.PEER, bench.PEER_VERSION if self._peer else missing),
            ("python", str(machine["python"])),
            ("date", self._date),
            ("checked", f"{count(self._agreed)} decisions are the same {alike}, bit for bit"),
            ("measured", f"{counted(self._parsed.rounds, 'round')}, in each every side in turn; medians"),
        ]
        screen.pairs(rows)
        screen.line()
        columns = ["what", "#ours ns", "#peer ns", "#ratio"] if self._peer else ["what", "#ours ns"]
        table = []
        for part in self._parts:
            table.append([part.title(), "", "", ""])
            for comparison in part.comparisons:
                found = bench.figures(comparison, part.samples)
                ratio = "" if found.ratio is None else f"{found.ratio:.2f} x"
                table.append([f"  {comparison.what}", _time(found.ours_ns), _time(found.peer_ns), ratio])
        screen.table(columns, [row[: len(columns)] for row in table])
        if self._peer:
            screen.line("ratio: how many times as long the peer takes, the median of the rounds' ratios")
        if not self.whole:
            screen.line("interrupted: only what was measured until then", style="yellow")


def _result(part: _Part, comparison: Comparison) -> dict[str, Any]:
    found = bench.figures(comparison, part.samples)
    return {
        "candidates": part.candidates,
        "workload": part.workload,
        "what": comparison.what,
        "ours_ns": round(found.ours_ns, 2),
        "peer_ns": None if found.peer_ns is None else round(found.peer_ns, 2),
        "ratio": None if found.ratio is None else round(found.ratio, 3),
        "rounds": len(part.samples),
    }


def _time(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return ""
    return f"{nanoseconds:,.1f}" if nanoseconds < 100 else f"{nanoseconds:,.0f}"
