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
# Names of two words, more than one ratio, and figures in seconds and MB.
OTHERS = """\
12 texts, a token                     frame      105.8 ns      monitor       15.2 ns   monitor and frame      124.8 ns \
  frame/monitor and frame  0.85 (best  0.84) monitor/monitor and frame  0.12 (best  0.13)
The next line: 1.5 s of work, 56 patterns.
rules, compiled                     seconds      0.250 s     tables        2.5 MB
"""

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def commands() -> list[list[str]]:
    """What was run to measure, one after the other."""
    return []


@pytest.fixture
def module(root: Path) -> ModuleType:
    """benches/check.py, which is no part of a package."""
    found = importlib.util.spec_from_file_location("check", root / "benches" / "check.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def check(
    module: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Check:
    """Runs the check with bars and with what each measurement prints, one after the other."""

    def run(bars: dict[str, Any], *printed: str, parts: tuple[str, ...] = ()) -> tuple[int, str]:
        rounds = list(printed)

        def measured(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            commands.append(command)
            return subprocess.CompletedProcess(command, 0, rounds.pop(0), "")

        monkeypatch.setattr(module, "BARS", bars)
        monkeypatch.setattr(module.subprocess, "run", measured)
        monkeypatch.setattr(sys, "argv", ["check.py", *parts])
        status = module.main()
        assert not rounds, "not measured as often as it should be"
        return status, capsys.readouterr().out

    return run


def test_a_figure_reaches_its_bar_or_not(check: Check) -> None:
    """At once, or by the median of three."""
    kernel = {"decide/22/syn": {"peer/ours": 1.77}, "threads/22/syn: 1 and 2": {"one/two": 2.0}}
    assert check({"kernel": kernel}, LINES)[0] == 0
    higher = {"kernel": kernel | {"decide/22/syn": {"peer/ours": 1.78}}}
    status, told = check(higher, LINES, LINES, LINES)
    assert (status, told.count("once more"), told.splitlines()[-1]) == (1, 2, "1 bars were not reached")
    better = LINES.replace("1.77", "1.78")
    assert check(higher, LINES, better, better)[0] == 0
    assert check(higher, LINES, better, LINES)[0] == 1
    assert check(higher, LINES, parts=("threads",))[0] == 0


def test_a_figure_that_is_not_there_misses_its_bar(check: Check) -> None:
    """A label that was renamed, a comparison that is gone, vectors that there are not anywhere, and nothing chosen."""
    for label, compared in (("decide/23/syn", "peer/ours"), ("decide/22/syn", "peer/us"), ("x/avx521", "peer/ours")):
        status, told = check({"kernel": {label: {compared: 1.0}}}, LINES)
        assert (status, told.splitlines()[-1]) == (1, "1 bars were not reached"), label
    assert check({"kernel": {"batch/23/syn/plain": {"peer/ours": 1.0}}}, LINES)[0] == 1
    assert check({"kernel": {"decide/22/syn": {"peer/ours": 1.0}}}, parts=("encode",))[0] == 2


def test_a_figure_is_at_most_its_bar(check: Check) -> None:
    """In the unit that it is told in, in another it is not there; and every bar of a label counts."""
    at_the_bar = {
        "12 texts, a token": {"monitor and frame": "at most 124.8 ns", "monitor/monitor and frame": 0.12},
        "rules, compiled": {"seconds": "at most 0.25 s", "tables": "at most 2.5 MB"},
    }
    status, told = check({"python/guard": at_the_bar}, OTHERS)
    assert (status, told.count("reached")) == (0, 5)
    for bar in ({"seconds": "at most 0.249 s"}, {"tables": "at most 2.4 MB"}):
        status, told = check({"python/guard": at_the_bar | {"rules, compiled": bar}}, OTHERS, OTHERS, OTHERS)
        assert (status, told.splitlines()[-1]) == (1, "1 bars were not reached"), bar
    for bar in ({"seconds": "at most 0.25 ns"}, {"seconds": 0.25}, {"monitor": "at most 1 s"}):
        status, told = check({"python/guard": {"rules, compiled": bar}}, OTHERS)
        assert (status, "missed: nothing printed it" in told) == (1, True), bar
    for written in ("at least 3", "at most 60", "at most 60 ms", "60 ns"):
        with pytest.raises(ValueError, match="no bar"):
            check({"python/guard": {"rules, compiled": {"seconds": written}}})


def test_a_peer_that_is_not_installed_is_not_measured(
    module: ModuleType, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and counted; where the peer is installed its figure has to be there, and others always."""
    bars = {"python/guard": {"rules, compiled": {"seconds": "at most 1 s", "hyperscan/ours": 3.0}}}
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    status, told = check(bars, OTHERS)
    assert status == 0
    assert "not measured: hyperscan is not installed here (make bench-guard-peers)" in told
    assert told.splitlines()[-1] == "every bar that was measured was reached, 1 were not measured"
    other = {"python/guard": bars["python/guard"] | {"12 texts, a token": {"frames/ours": 1.0}}}
    status, told = check(other, OTHERS)
    assert (status, told.splitlines()[-1]) == (1, "1 bars were not reached, 1 were not measured")
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    assert check(bars, OTHERS)[0] == 1


def test_a_section_is_chosen_by_its_name(check: Check, commands: list[list[str]]) -> None:
    """Its own command measures it, with the labels of its bars; a part of a section's name chooses nothing."""
    bars = {
        "kernel": {"decide/22/syn": {"peer/ours": 1.0}},
        "python/guard": {"rules, compiled": {"seconds": "at most 1 s", "tables": "at most 3 MB"}},
    }
    assert check(bars, OTHERS, parts=("python/guard",))[0] == 0
    assert check(bars, LINES, OTHERS)[0] == 0
    assert check(bars, parts=("python/",))[0] == 2
    scripts = [Path(command[1]).name for command in commands if command[0] == sys.executable]
    assert (scripts, commands[0][2:]) == (["guard.py"] * 2, ["rules, compiled"])
    assert commands[1][:2] == ["cargo", "bench"]
    assert commands[1][-3:] == ["kernel", "--", "decide/22/syn"]


def test_what_needs_vectors_that_the_machine_lacks_is_not_measured(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not where it has them."""
    bars = {"kernel": {"batch/22/syn/avx2": {"peer/ours": 1.0}, "batch/22/syn/plain": {"peer/ours": 1.0}}}
    monkeypatch.setattr(dc, "vectors", lambda: ("plain", "avx2"))
    assert check(bars, LINES)[0] == 1
    monkeypatch.setattr(dc, "vectors", lambda: ("plain",))
    status, told = check(bars, LINES)
    assert (status, "not measured: this machine lacks its vectors" in told) == (0, True)


def test_a_figure_from_python_is_held_to_its_bar(check: Check) -> None:
    """By what, size and workload; one without a ratio is not there."""
    result = {"what": "single call", "candidates": 22, "workload": "syn", "ratio": 2.5}
    bars = {"python": {"single call/22/syn": {"peer/ours": 2.5}}}
    assert check(bars, json.dumps({"results": [result]}))[0] == 0
    assert check(bars, json.dumps({"results": [result | {"ratio": None}]}))[0] == 1
    assert check(bars, json.dumps({"results": []}))[0] == 1


def test_the_vectors_of_bars_are_those_of_the_library(root: Path) -> None:
    """The names by which figures are not measured are those that `decidable.vectors()` can give."""
    source = (root / "rust" / "decidable-kernel" / "src" / "vectors.rs").read_text(encoding="utf-8")
    labels = source.partition("fn label(self)")[2].partition("\n    }\n")[0]
    named = re.search(r"^VECTORS = \{(.*)\}", (root / "benches" / "check.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert named is not None
    of_the_library = set(re.findall(r'=> "([^"]+)"', labels))
    assert set(re.findall(r'"([^"]+)"', named[1])) == of_the_library >= set(dc.vectors())


def test_every_bar_can_be_read_and_names_what_its_script_prints(root: Path, module: ModuleType) -> None:
    """bars.toml itself: each bar has a form, and the label of a bar stands in the script of its section."""
    for section, labels in module.BARS.items():
        assert all(str(module.Bar(written)) for bars in labels.values() for written in bars.values())
        if section == "python/guard":
            source = (root / "benches" / f"{section}.py").read_text(encoding="utf-8")
            assert all(f'("{label}", ' in source for label in labels), section
    peers = {compared.partition("/")[0] for bars in module.BARS["python/guard"].values() for compared in bars}
    assert set(module.PEERS) == peers & set(module.PEERS)


@pytest.mark.parametrize(
    ("script", "label"), [("guard", "1,000 texts and 50 regexes, compiled"), ("logits", "entropy/1024")]
)
def test_the_lines_of_the_python_benches_are_read(root: Path, module: ModuleType, script: str, label: str) -> None:
    """Measured briefly: every figure that has a bar is there, in the unit of its bar."""
    command = [sys.executable, str(root / "benches" / "python" / f"{script}.py"), "--rounds", "3", label]
    found = module.from_lines(command)
    assert {each for each, _ in found} == {label}
    for compared, written in module.BARS[f"python/{script}"][label].items():
        if module.lacking(label, compared) is None:
            assert found[label, compared][1] == module.Bar(written).unit
            assert found[label, compared][0] > 0
