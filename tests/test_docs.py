"""What the documents say is true: their examples run, their links lead somewhere, their tables agree with the code.

In a document, Python blocks and lines of console blocks that begin with `$ decidable` run in the order in which they
stand, in one namespace and one empty folder per document; of the README each block has a namespace of its own, because
each can be pasted. A block after `<!-- file: NAME -->` is written to NAME there
first. Blocks inside an HTML comment run and are not seen. Where a command of a console block is followed by lines that
are not commands, they are its output; `…` alone on a line stands for any lines, and within a line for any characters.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import decidable

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "benches" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    language: str
    text: str
    line: int
    file: str | None


def blocks(document: str) -> Iterator[Block]:
    """The fenced blocks, in order."""
    pattern = re.compile(
        r"^(?:<!-- file: (?P<file>\S+) -->\n+)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
    )
    for match in pattern.finditer(document):
        line = document.count("\n", 0, match.start("text"))
        yield Block(match["language"], match["text"], line, match["file"])


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the output lines that follow it."""
    command, output = None, []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            if command is not None:
                yield command, output
            command, output = line[2:], []
            while command.endswith("\\"):
                command = command[:-1] + next(lines).lstrip("> ")
        elif command is not None:
            output.append(line.rstrip())
    if command is not None:
        yield command, output


def agrees(shown: list[str], printed: list[str]) -> bool:
    """Whether the shown lines are the printed ones, `…` standing for any lines or characters."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == "…" else re.escape(line).replace("…", r"[^\n]*") + r"\n" for line in shown
    )
    return re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in printed)) is not None


def run_command(command: str, shown: list[str], where: str) -> None:
    """Runs one `decidable …` of a document and compares what it prints."""
    words = shlex.split(command)
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [Path(sys.executable).with_name("decidable"), *words[1:]],
        capture_output=True, text=True, encoding="utf-8", env=environment, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{where}: $ {command}\n{done.stdout}{done.stderr}"
    assert not shown or agrees(shown, done.stdout.splitlines()), f"{where}: $ {command}\nprints\n{done.stdout}"


def run_python(block: Block, namespace: dict[str, object], where: str) -> None:
    """Runs one Python block, as a session where it has prompts."""
    if block.text.lstrip().startswith(">>>"):
        example = doctest.DocTestParser().get_doctest(block.text, namespace, where, where, block.line)
        report = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(example, out=report.write, clear_globs=False)
        assert runner.summarize(verbose=False).failed == 0, report.getvalue()
        namespace.update(example.globs)
        return
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile("\n" * block.line + block.text, where, "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_document_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies works as it stands."""
    monkeypatch.chdir(tmp_path)
    fresh: dict[str, object] = {"__name__": "__document__"}
    namespace = dict(fresh)
    document = path.read_text(encoding="utf-8")
    if re.search("^import pyarrow", document, re.MULTILINE):
        pytest.importorskip("pyarrow", reason="pyarrow has no build for every interpreter")
    for block in blocks(document):
        where = f"{path.relative_to(ROOT)}:{block.line}"
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language in {"python", "py"}:
            run_python(block, dict(fresh) if path == ROOT / "README.md" else namespace, where)
        elif block.language in {"console", "sh", "bash", "shell"}:
            for command, shown in commands(block.text):
                if shlex.split(command)[0] == "decidable":
                    run_command(command, shown, where)


def test_the_examples_of_the_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `>>>` in the package gives what it says."""
    monkeypatch.chdir(tmp_path)
    failed = []
    for module in [
        decidable.__name__,
        *(found.name for found in pkgutil.walk_packages(decidable.__path__, "decidable.")),
    ]:
        if module.endswith("__main__") or ".integrations." in module:
            continue
        report = io.StringIO()
        with contextlib.redirect_stdout(report):
            result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
        if result.failed:
            failed.append(report.getvalue())
    assert not failed, "\n".join(failed)


def anchors(document: str) -> set[str]:
    """The anchors of the headings."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", document, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    """Files and headings that a document points to exist."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            dead.append(target)
    assert not dead, f"{path.relative_to(ROOT)} points to {dead}"


def rows(document: str, first: str) -> list[list[str]]:
    """The rows of every table of a document whose first heading is `first`."""
    found: list[list[str]] = []
    inside = False
    for line in document.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if cells[0] == first:
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            found.append(cells)
    return found


def refuse_what_is_no_test(of: str, tests: str) -> None:
    """A cell that names tests: there is one, and each is there."""
    named = re.findall(r"`([^`]+)`", tests)
    assert named, f"{of} names no test"
    for name in named:
        file, _, function = name.partition("::")
        assert (ROOT / file).is_file(), f"{of}: {file} does not exist"
        source = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith(".py"):
            assert re.search(rf"^(?:async )?def {function}\(", source, re.MULTILINE), f"{of}: no {function} in {file}"
        else:
            defined = re.search(
                rf"(#\[test\]\s+|proptest! \{{.*?)(?:#\[[^\n]*\]\s+)*fn {function}\(", source, re.DOTALL
            )
            assert defined, f"{of}: no test {function} in {file}"


def test_every_invariant_names_a_test_that_exists() -> None:
    """docs/invariants.md: numbered without gaps, each with at least one test, and the tests are there."""
    table = rows((ROOT / "docs" / "invariants.md").read_text(encoding="utf-8"), "#")
    assert [row[0] for row in table] == [f"I{number}" for number in range(1, len(table) + 1)]
    for number, _, tests in table:
        refuse_what_is_no_test(number, tests)


def test_what_a_guard_withstands_names_tests_that_exist() -> None:
    """docs/threat-model.md, of the guard: each row with at least one test."""
    table = rows((ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8"), "what is tried")
    assert len(table) > 5
    for tried, _, tests, _ in table:
        refuse_what_is_no_test(tried, tests)


def rust_value(crate: str, name: str) -> int:
    """The value of an integer constant of a crate, its expression worked out."""
    for path in sorted((ROOT / "rust" / crate / "src").rglob("*.rs")):
        match = re.search(rf"\bconst {name}: \w+ = ([^;]+);", path.read_text(encoding="utf-8"))
        if match:
            expression = re.sub(r"(?<=\d)_(?=\d)", "", match[1])
            expression = re.sub(r"\b(\d+)(?:u|i)(?:8|16|32|64|128|size)\b", r"\1", expression)
            expression = re.sub(
                r"\b([ui])(\d+)::MAX\b", lambda m: str(2 ** (int(m[2]) - (m[1] == "i")) - 1), expression
            )
            expression = re.sub(r"\b[A-Z][A-Z_]+\b", lambda m: str(rust_value(crate, m[0])), expression)
            assert re.fullmatch(r"[\d\s+*/()<-]+", expression), (
                f"{crate}::{name} = {match[1]} cannot be worked out here"
            )
            return int(eval(expression.replace("/", "//")))
    raise AssertionError(f"{crate} has no constant {name}")


def test_the_limits_are_those_of_the_code() -> None:
    """docs/limits.md: each row names its constant, and the value is the constant's."""
    table = rows((ROOT / "docs" / "limits.md").read_text(encoding="utf-8"), "limit")
    assert table
    for limit, value, constant in table:
        crate, _, name = constant.strip("`").rpartition("::")
        number = int(re.match(r"[\d,]+", value)[0].replace(",", ""))  # type: ignore[index]
        scale = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        for unit, factor in scale.items():
            if re.match(rf"[\d,]+ {unit}\b", value):
                number *= factor
        if crate.startswith("decidable."):
            assert number == getattr(importlib.import_module(crate), name), f"{limit}: {constant}"
        else:
            assert number == rust_value(crate.replace("_", "-"), name), f"{limit}: {constant}"


# Constants that are named like limits and bound nothing that anyone gives, each with what it is.
NO_LIMITS = {
    "BATCH_BYTES_READ_MAX": "a batch of the largest size and its seal",
    "FIGURE_MAX": "the largest amount, which docs/limits.md gives in words",
    "JOINED_BYTES_MAX": "up to where parts are copied together before they are hashed",
    "LOCK_TEXT_BYTES_MAX": "how much of a lock's text a message shows",
    "MAX_TO_EXPECTED": "a default",
    "MESSAGE_CHARS_MAX": "how much of a message is told",
    "RECENT_MAX": "RETAINED_TICKETS",
}


def test_every_constant_that_is_a_limit_is_listed() -> None:
    """Names that end in `_MAX`, or begin with a word for the largest or least, in the sources: none is left out.

    `ALONE_BYTES` bounds the tables of one pattern, beside those of several.
    """
    pattern = r"_?(?:(?:MOST|LONGEST|HIGHEST|DEEPEST|MINIMUM|MAX)_[A-Z0-9_]+|[A-Z0-9_]+_(?:MAX|MOST)|ALONE_BYTES)"
    found: set[str] = set()
    for path in sorted(ROOT.glob("rust/*/src/**/*.rs")):
        crate = path.relative_to(ROOT).parts[1].replace("-", "_")
        names = re.findall(rf"\bconst ({pattern}): \w+ =", path.read_text(encoding="utf-8"))
        found |= {f"{crate}::{name}" for name in names}
    for path in sorted(ROOT.glob("python/decidable/**/*.py")):
        module = ".".join(path.relative_to(ROOT / "python").with_suffix("").parts)
        names = re.findall(rf"^({pattern})(?:: [^=]+)? = ", path.read_text(encoding="utf-8"), re.MULTILINE)
        found |= {f"{module}::{name}" for name in names}
    assert len(found) > 25
    table = rows((ROOT / "docs" / "limits.md").read_text(encoding="utf-8"), "limit")
    listed = {constant.strip("`") for _, _, constant in table}
    named = {constant: constant.partition("::")[2] for constant in found - listed}
    missing = [constant for constant, name in named.items() if not re.fullmatch(r"[IU]\d+_MAX", name)]
    assert sorted(named[constant] for constant in missing) == sorted(NO_LIMITS), "not in docs/limits.md"


def test_every_dependency_has_a_reason() -> None:
    """docs/design.md says why for each crate and Python package that is built upon, and for no other."""
    table = rows((ROOT / "docs" / "design.md").read_text(encoding="utf-8"), "dependency")
    explained = {name for row in table for name in re.findall(r"`([\w-]+)`", row[0])}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]}
    for manifest in [*ROOT.glob("rust/*/Cargo.toml"), *ROOT.glob("benches/Cargo.toml")]:
        parsed = tomllib.loads(manifest.read_text(encoding="utf-8"))
        for tables in (parsed, *parsed.get("target", {}).values()):
            used |= {*tables.get("dependencies", {}), *tables.get("dev-dependencies", {})}
    assert explained == {name for name in used if not name.startswith("decidable-")}


def test_the_overview_fits_in_a_sitting() -> None:
    """ARCHITECTURE.md has at most 150 lines and names every crate."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for crate in sorted(path.parent.name for path in ROOT.glob("rust/*/Cargo.toml")):
        assert f"`{crate}`" in text, crate


def test_the_first_screen_of_the_readme_has_the_two_commands() -> None:
    """A newcomer sees what to type without scrolling."""
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_the_comparison_of_outputs_can_fail() -> None:
    """`…` stands for any lines, or any characters of one line, and for nothing else."""
    assert agrees(["a", "…", "d"], ["a", "b", "c", "d"])
    assert agrees(["…"], [])
    assert agrees(["took … s"], ["took 1.2 s"])
    assert not agrees(["a", "d"], ["a", "b", "d"])
    assert list(commands("$ decidable x \\\n>   y\nout\n$ ls\n")) == [("decidable x y", ["out"]), ("ls", [])]
