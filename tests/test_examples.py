"""Every example runs as it stands, from another folder, and prints what it is about."""

from pathlib import Path

import pytest

from installed import EXAMPLES, PRINTS, run_example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    """In a folder of its own, where it leaves nothing, with warnings as errors."""
    run_example(example, tmp_path)


def test_the_examples_are_numbered_without_gaps() -> None:
    """And each says in its first line which one it is."""
    assert [path.name[:2] for path in EXAMPLES] == [f"{number:02d}" for number in range(1, len(EXAMPLES) + 1)]
    for number, path in enumerate(EXAMPLES, 1):
        assert path.read_text(encoding="utf-8").startswith(f'"""{number}. ')
    assert {path.stem for path in EXAMPLES} == PRINTS.keys()
