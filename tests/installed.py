"""What an installed decidable does, run with its interpreter outside the source tree: the examples, and a log.

    python installed.py

It needs nothing but the package: the wheel is tested with it before it is published, in an environment of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))

# Something that each prints, so that an example that stops early is noticed.
PRINTS = {
    "01_route_by_name": ["chosen: mistral-small-2603", "'min_quality': '80%'} -> gpt-5-mini", "budget_constraint"],
    "02_decide": ["execute_requested, model 2", "substitute, model 1", "risk_hard_limit", "decision"],
    "03_explain": ["chosen:", "gpt-5 would win with:", "stays the winner with:", "quality down to", "milliseconds"],
    "04_budget": ["refused: insufficient", "in doubt", "topped up"],
    "05_log_and_replay": ["request 1:", "unbroken chain", "acme/support spent", "one bit changed:"],
    "06_guard": [
        "Hers is [redacted]. To tidy up: ",
        "stopped by rule sql at byte 33",
        "GuardStopped: the guard stopped the stream - matched",
    ],
    "07_client_streams": [
        "'content': '[redacted]. Tidying up'",
        """'arguments': '{"sql": "'""",
        "{} content_filter",
        "stopped by sql in tool_arguments[0] of choice 0",
        "replaced: [('ssn', 'text')]",
        "That cannot be done here.",
        "data: [DONE]",
    ],
    "08_asyncio": [
        "200 calls cost ",
        "held for what was given up: 0",
        "cut off, calls that are open: [<Call ",
        "found by its key: in_doubt",
        "reconciled with the bill: settled and held: 0",
    ],
}


def python(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """This interpreter in a folder, without settings of its own, with warnings as errors."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False,
        env=plain | {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def run_example(example: Path, folder: Path) -> None:
    """Runs it in a folder, where it leaves nothing, and looks at what it prints."""
    done = python(folder, example)
    assert done.returncode == 0, done.stderr
    for text in PRINTS[example.stem]:
        assert text in done.stdout, done.stdout
    assert list(folder.iterdir()) == []


def make_and_verify_a_log(folder: Path) -> None:
    """The command leaves a log that it verifies with head and key, and refuses with one byte changed."""
    done = python(folder, "-m", "decidable", "demo", "--limit", "300", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["requests"] == 300
    evidence = ("--head", "demo/head.json", "--key-file", "demo/wal.key", "--json")
    done = python(folder, "-m", "decidable", "verify", "demo/state", *evidence)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["head"] == json.loads((folder / "demo" / "head.json").read_text(encoding="utf-8"))
    shutil.copytree(folder / "demo" / "state", folder / "changed")
    (segment,) = (folder / "changed").glob("*.seg")
    contents = bytearray(segment.read_bytes())
    contents[len(contents) // 2] ^= 1
    segment.write_bytes(contents)
    done = python(folder, "-m", "decidable", "verify", "changed", *evidence)
    assert done.returncode == 1, done.stdout


def keep_the_examples_of_a_set(folder: Path) -> None:
    """The sets of rules are there."""
    done = python(folder, "-m", "decidable", "guard", "--set", "secrets", "--test")
    assert (done.returncode, done.stderr) == (0, "")


def measure(folder: Path) -> None:
    """The command measures with numpy alone, and says what is not here."""
    done = python(folder, "-m", "decidable", "bench", "--sizes", "4", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["whole"]
    assert len(told["results"]) > 10
    assert all(each["ours_ns"] > 0 for each in told["results"])


def main() -> None:
    """Everything above; the log is left in the current folder."""
    here = Path.cwd()
    place = Path(python(here, "-c", "import decidable; print(decidable.__file__)").stdout.strip())
    assert place.is_file(), place
    assert not place.is_relative_to(ROOT), f"{place} is the source tree"
    assert {example.stem for example in EXAMPLES} == PRINTS.keys()
    with tempfile.TemporaryDirectory() as copied:
        shutil.copytree(ROOT / "examples", copied, dirs_exist_ok=True)
        for example in EXAMPLES:
            with tempfile.TemporaryDirectory() as folder:
                run_example(Path(copied, example.name), Path(folder))
            print(example.stem)
    make_and_verify_a_log(here)
    print("demo/state")
    keep_the_examples_of_a_set(here)
    print("guard")
    measure(here)
    print("bench")


if __name__ == "__main__":
    main()
