"""benches/check.py holds figures to their bars: with made-up figures, and bars that are made up for them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import decidable as dc

LINES = """\
decide/22/syn                          peer      113.1 ns       ours       64.0 ns   peer/ours  1.77 (best  1.80)
batch/22/syn/plain                     peer       90.0 ns       ours       60.0 ns   peer/ours  1.50 (best  1.60)
threads/22/syn: 1 and 2                 one        2.000 ns        two        1.000 ns   one/two  2.00 (best  2.10)
"""

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the check with bars and with what each measurement prints, one after the other."""
    found = importlib.util.spec_from_file_location("check", root / "benches" / "check.py")
    assert found is not None
    assert found.loader is not None
    module: ModuleType = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)

    def run(bars: dict[str, Any], *printed: str, parts: tuple[str, ...] = ()) -> tuple[int, str]:
        rounds = list(printed)

        def measured(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess(command, 0, rounds.pop(0), "")

        monkeypatch.setattr(module, "BARS", bars)
        monkeypatch.setattr(module.subprocess, "run", measured)
        monkeypatch.setattr(sys, "argv", ["check.py", *parts])
        status = module.main()
        assert not rounds, "not measured as often as it should be"
        return status, capsys.readouterr().out

    return run


def test_a_figure_reaches_its_bar_or_not(check: Check) -> None:
    """Once out of three is enough."""
    kernel = {"decide/22/syn": ["peer/ours", 1.77], "threads/22/syn: 1 and 2": ["one/two", 2.0]}
    assert check({"kernel": kernel}, LINES)[0] == 0
    higher = {"kernel": kernel | {"decide/22/syn": ["peer/ours", 1.78]}}
    status, told = check(higher, LINES, LINES, LINES)
    assert (status, told.count("once more"), told.splitlines()[-1]) == (1, 2, "1 bars were not reached")
    assert check(higher, LINES, LINES.replace("1.77", "1.78"))[0] == 0
    assert check(higher, LINES, parts=("threads",))[0] == 0


def test_a_figure_that_is_not_there_misses_its_bar(check: Check) -> None:
    """A label that was renamed, a comparison that is gone, vectors that there are not anywhere, and nothing chosen."""
    for label, compared in (("decide/23/syn", "peer/ours"), ("decide/22/syn", "peer/us"), ("x/avx521", "peer/ours")):
        status, told = check({"kernel": {label: [compared, 1.0]}}, LINES)
        assert (status, told.splitlines()[-1]) == (1, "1 bars were not reached"), label
    assert check({"kernel": {"batch/23/syn/plain": ["peer/ours", 1.0]}}, LINES)[0] == 1
    assert check({"kernel": {"decide/22/syn": ["peer/ours", 1.0]}}, parts=("encode",))[0] == 2


def test_what_needs_vectors_that_the_machine_lacks_is_excused(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not where it has them."""
    bars = {"kernel": {"batch/22/syn/avx2": ["peer/ours", 1.0], "batch/22/syn/plain": ["peer/ours", 1.0]}}
    monkeypatch.setattr(dc, "vectors", lambda: ("plain", "avx2"))
    assert check(bars, LINES)[0] == 1
    monkeypatch.setattr(dc, "vectors", lambda: ("plain",))
    status, told = check(bars, LINES)
    assert (status, "excused" in told) == (0, True)


def test_a_figure_from_python_is_held_to_its_bar(check: Check) -> None:
    """By what, size and workload; one without a ratio is not there."""
    result = {"what": "single call", "candidates": 22, "workload": "syn", "ratio": 2.5}
    bars = {"python": {"single call/22/syn": ["peer/ours", 2.5]}}
    assert check(bars, json.dumps({"results": [result]}))[0] == 0
    assert check(bars, json.dumps({"results": [result | {"ratio": None}]}))[0] == 1
    assert check(bars, json.dumps({"results": []}))[0] == 1


def test_the_vectors_of_bars_are_those_of_the_library(root: Path) -> None:
    """The names by which figures are excused are those that `decidable.vectors()` can give."""
    source = (root / "rust" / "decidable-kernel" / "src" / "vectors.rs").read_text(encoding="utf-8")
    labels = source.partition("fn label(self)")[2].partition("\n    }\n")[0]
    named = re.search(r"^VECTORS = \{(.*)\}", (root / "benches" / "check.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert named is not None
    of_the_library = set(re.findall(r'=> "([^"]+)"', labels))
    assert set(re.findall(r'"([^"]+)"', named[1])) == of_the_library >= set(dc.vectors())
