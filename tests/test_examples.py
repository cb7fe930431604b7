"""Every example runs as it stands, from another folder, and prints what it is about."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("[0-9][0-9]_*.py"))

# Something that each prints, so that an example that stops early is noticed.
PRINTS = {
    "01_route_by_name": ["chosen: mistral-small-2603", "'min_quality': '80%'} -> gpt-5-mini", "budget_constraint"],
    "02_decide": ["execute_requested, model 2", "substitute, model 1", "risk_hard_limit", "decision"],
    "03_explain": ["chosen:", "gpt-5 would win with:", "stays the winner up to:"],
    "04_budget": ["refused: insufficient", "in doubt", "topped up"],
    "05_log_and_replay": ["request 1:", "unbroken chain", "acme/support spent", "one bit changed:"],
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    """In a folder of its own, where it leaves nothing, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for text in PRINTS[example.stem]:
        assert text in done.stdout, done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_examples_are_numbered_without_gaps() -> None:
    """And each says in its first line which one it is."""
    assert [path.name[:2] for path in EXAMPLES] == [f"{number:02d}" for number in range(1, len(EXAMPLES) + 1)]
    for number, path in enumerate(EXAMPLES, 1):
        assert path.read_text(encoding="utf-8").startswith(f'"""{number}. ')
    assert {path.stem for path in EXAMPLES} == PRINTS.keys()
