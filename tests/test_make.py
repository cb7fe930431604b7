"""The Makefile's promise to a newcomer: whatever was cut off, the next `make` sets right."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_package_that_is_there_by_half_is_installed_again(root: Path, tmp_path: Path) -> None:
    """pip writes INSTALLER after a package's files; a package without it is forgotten before anything is installed."""
    site = tmp_path / "lib" / "python3" / "site-packages"
    for name, files in (("whole", ["METADATA", "RECORD", "INSTALLER"]), ("half", ["METADATA", "RECORD"])):
        (site / f"{name}-1.0.dist-info").mkdir(parents=True)
        for file in files:
            (site / f"{name}-1.0.dist-info" / file).touch()
    subprocess.run(
        ["make", "--silent", "--eval", "halves:\n\t$(FORGET_HALVES)", "halves", f"VENV={tmp_path}"],
        cwd=root, check=True, timeout=60,
    )  # fmt: skip
    assert [each.name for each in site.iterdir()] == ["whole-1.0.dist-info"]


def test_every_installation_forgets_halves_first(root: Path) -> None:
    """Whichever step was cut off."""
    lines = (root / "Makefile").read_text(encoding="utf-8").splitlines()
    steps = [
        place for place, line in enumerate(lines) if "pip install --quiet --group" in line or "maturin develop" in line
    ]
    assert len(steps) == 5
    assert all(lines[place - 1] == "\t@$(FORGET_HALVES)" for place in steps)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_what_is_measured_beside_other_guards_is_judged_there(root: Path) -> None:
    """`bench-guard-peers` ends by holding its section to its bars, in the environment of the peers."""
    told = subprocess.run(
        ["make", "--dry-run", "--silent", "bench-guard-peers"],
        cwd=root, check=True, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout.splitlines()[-1] == "PYTHONPATH=python .venv/peers/bin/python benches/check.py python/guard"
