"""The house rules that a compiler does not know: who may import whom, words, tags and error codes."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from decidable.cli.exits import Usage

ROOT = Path(__file__).resolve().parent.parent

# --- the floors of the crates (ARCHITECTURE.md) -------------------------------------------------------------------

ROOF = 5
FLOORS = {
    "decidable-canon": 1,
    "decidable-kernel": 2,
    "decidable-ledger": 2,
    "decidable-wal": 2,
    "decidable-guard": 2,
    "decidable-learn": 2,
    "decidable-evaluate": 2,
    "decidable-evidence": 2,
    "decidable-replay": 3,
    "decidable-engine": 4,
    "decidable-python": ROOF,
    "decidable-verify": ROOF,
    "decidable-benches": ROOF,
}


def test_a_crate_uses_only_crates_of_lower_floors() -> None:
    """Crates of one floor never know each other; `replay` does not know how records are stored."""
    if shutil.which("cargo") is None:
        pytest.skip("reading the crates' edges needs cargo")
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)["packages"]
    wrong = []
    for package in packages:
        name = package["name"]
        assert name in FLOORS, f"{name} needs a floor in tests/test_tidy.py and a paragraph in ARCHITECTURE.md"
        for dependency in package["dependencies"]:
            used = dependency["name"]
            if used in FLOORS and FLOORS[used] >= FLOORS[name]:
                wrong.append(f"{name} (floor {FLOORS[name]}) uses {used} (floor {FLOORS[used]})")
            if (name, used) == ("decidable-replay", "decidable-wal"):
                wrong.append("decidable-replay uses decidable-wal: it must not know how records are stored")
    assert not wrong, "\n".join(wrong)


# --- the order inside a crate -------------------------------------------------------------------------------------


def modules_of(lib: str) -> list[str]:
    """The module declarations of a `lib.rs`, in order."""
    return re.findall(r"^\s*(?:pub(?:\(crate\))? )?mod (\w+);", lib, re.MULTILINE)


def first_segments(tree: str) -> Iterator[str]:
    """The first path segments of a use tree: `{a::b, C}` gives a and C."""
    tree = tree.strip()
    if not tree.startswith("{"):
        match = re.match(r"\w+", tree)
        if match:
            yield match[0]
        return
    depth, start = 0, 1
    for position, character in enumerate(tree):
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
        if (character == "," and depth == 1) or (character == "}" and depth == 0):
            yield from first_segments(tree[start:position])
            start = position + 1


def crate_paths(source: str) -> Iterator[str]:
    """The first segment of every path that starts at `crate::`."""
    code = re.sub(r"//[^\n]*", "", source)
    for match in re.finditer(r"\bcrate::(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}|\w+)", code):
        yield from first_segments(match[1])


def homes(lib: str, modules: list[str]) -> dict[str, str]:
    """The names that a `lib.rs` re-exports, each with the module that defines it."""
    found = {}
    for module, tree in re.findall(r"^\s*pub(?:\(crate\))? use (?:crate::|self::)?(\w+)::([^;]+);", lib, re.MULTILINE):
        if module in modules:
            for name in re.findall(r"\w+", tree):
                found.setdefault(name, module)
    return found


def test_a_file_uses_only_modules_above_its_own_in_lib_rs() -> None:
    """`lib.rs` lists the modules from leaf to root, and the order is kept."""
    wrong = []
    for manifest in sorted(ROOT.glob("rust/*/Cargo.toml")):
        source = manifest.parent / "src"
        lib = (source / "lib.rs").read_text(encoding="utf-8")
        modules = modules_of(lib)
        home = homes(lib, modules)
        for file in sorted(source.rglob("*.rs")):
            here = file.relative_to(source).parts[0].removesuffix(".rs")
            if here not in modules or file.stem == "tests" or file.stem.endswith("_tests"):
                continue
            for name in crate_paths(file.read_text(encoding="utf-8")):
                used = home.get(name, name)
                if used in modules and modules.index(used) > modules.index(here):
                    wrong.append(
                        f"{file.relative_to(ROOT)} uses crate::{name} of `{used}`, which lib.rs lists after `{here}`"
                    )
    assert not wrong, "\n".join(sorted(set(wrong)))


# --- the order of the Python modules ------------------------------------------------------------------------------

PYTHON_FLOORS = [
    {"_native", "_start", "errors", "_version"},
    {"arrays", "catalog", "builders", "ledger", "guard", "learn", "evaluate", "wal"},
    {"engine", "replay"},
    {"domains", "integrations", "llm", "trading", "sourcing", "access"},
    {"bench", "cli", "report", "demo"},
    {"__init__", "__main__"},
]
PACKAGE = ROOT / "python" / "decidable"


def python_floor(module: str) -> int:
    """The floor of a top-level module of the package."""
    for floor, members in enumerate(PYTHON_FLOORS):
        if module.lstrip("_") in {member.lstrip("_") for member in members}:
            return floor
    raise AssertionError(f"decidable.{module} needs a floor in tests/test_tidy.py")


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level modules of `decidable` that a file imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "decidable":
                    yield parts[1] if len(parts) > 1 else "__init__"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports inside the package are absolute"
            parts = (node.module or "").split(".")
            if parts == ["decidable"]:
                for alias in node.names:
                    inside = (PACKAGE / alias.name).is_dir() or any(PACKAGE.glob(f"{alias.name}.py*"))
                    yield alias.name if inside else "__init__"
            elif parts[0] == "decidable":
                yield parts[1]


def test_a_python_module_imports_only_modules_of_lower_floors() -> None:
    """errors <- concepts <- engine, replay <- domains, integrations <- cli, report <- the package; no circles."""
    wrong = []
    beside: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        here = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for used in imported(ast.parse(file.read_text(encoding="utf-8"))):
            if used == here:
                continue
            if python_floor(used) > python_floor(here):
                wrong.append(f"{file.relative_to(ROOT)} imports decidable.{used}, which stands above it")
            elif python_floor(used) == python_floor(here):
                beside.setdefault(here, set()).add(used)
    assert not wrong, "\n".join(wrong)
    while beside:
        leaves = [module for module, uses in beside.items() if not uses & beside.keys()]
        assert leaves, f"modules of one floor import each other in a circle: {sorted(beside)}"
        for leaf in leaves:
            del beside[leaf]


def test_the_overview_names_the_python_modules_that_there_are() -> None:
    """ARCHITECTURE.md: every module and package of the Python tree, and none that is gone."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"^    python/decidable/\n((?:      .*\n)+)", text, re.MULTILINE)
    named = set(re.findall(r"\b\w+(?:\.pyi?|/)(?!\w)", tree))
    entries = [path.relative_to(PACKAGE) for path in tracked() if path.is_relative_to(PACKAGE)]
    there = {entry.parts[0] + ("/" if len(entry.parts) > 1 else "") for entry in entries}
    assert named == {name for name in there if name.endswith((".py", ".pyi", "/"))}


# --- words --------------------------------------------------------------------------------------------------------

CODE = {".rs", ".py", ".pyi"}
TEXT = CODE | {".md", ".toml", ".yml", ".sh", ".html", ".txt", ""}
NEVER_IN_TEXT = {
    r"/work/|/root/|/home/\w|/tmp/[tv]-": "a path of one machine",
    r"(?i)index-url|artifactory|files\.pythonhosted|static\.crates": "the address of a package registry",
    r"\b(TODO|FIXME|XXX|HACK)\b": "an unfinished place: finish it or write an issue",
    r"(?i)\b(blazing|seamless|cutting-edge|world-class|state-of-the-art|battle-tested)": "an advertisement",
}
NEVER_IN_CODE = {
    r"\btodo!|\bunimplemented!|\bdbg!|raise NotImplementedError": "a stub",
    r"\bunsafe\s*(\{|fn\b|impl\b)": "unsafe, which the house forbids",
    r"\b(fn|def) get_": "a name with get_: say what it is",
    r"assert True\b|assert!\(true\)": "a test that cannot fail",
    r"#\[ignore\]|@pytest\.mark\.skip\b": "a test that never runs, without saying why",
}
NEVER_A_FILE = {"utils", "util", "common", "helpers", "misc", "manager", "core"}
GENERATED = {"Cargo.lock", "LICENSE"}


def tracked() -> list[Path]:
    """The files of the project: what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def written() -> list[tuple[Path, str]]:
    """Every text written by hand, this file apart."""
    return [
        (path, path.read_text(encoding="utf-8"))
        for path in tracked()
        if path.suffix in TEXT and path.name not in GENERATED and path != Path(__file__).resolve()
    ]


def test_words_that_have_no_place_here() -> None:
    """No machine paths, stubs, advertisements or names that say nothing."""
    wrong = []
    for path, text in written():
        rules = NEVER_IN_TEXT | (NEVER_IN_CODE if path.suffix in CODE else {})
        for number, line in enumerate(text.splitlines(), 1):
            wrong += [
                f"{path.relative_to(ROOT)}:{number}: {why}: {line.strip()}"
                for rule, why in rules.items()
                if re.search(rule, line)
            ]
        if path.suffix in CODE and path.stem in NEVER_A_FILE:
            wrong.append(f"{path.relative_to(ROOT)}: a file is named for what it holds")
    assert not wrong, "\n".join(wrong)


def test_the_word_rules_find_what_they_are_for() -> None:
    """A rule that matches nothing protects nothing."""
    rules = NEVER_IN_TEXT | NEVER_IN_CODE
    for line in (
        "see /root/x",
        "--index-url",
        "// TODO",
        "blazing fast",
        "todo!()",
        "unsafe {",
        "fn get_x()",
        "assert True",
        "#[ignore]",
    ):
        assert any(re.search(rule, line) for rule in rules), line
    assert list(first_segments("{a::{b, c}, D, e::f}")) == ["a", "D", "e"]
    assert list(crate_paths("use crate::{a::B, C};\nlet x = crate::d::e(); // crate::no")) == ["a", "C", "d"]


def test_text_files_end_with_one_newline_and_lines_without_spaces() -> None:
    """A difference between two versions shows what changed and nothing else."""
    wrong = []
    for path, text in written():
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            wrong.append(f"{path.relative_to(ROOT)}: ends without exactly one newline")
        wrong += [
            f"{path.relative_to(ROOT)}:{number}: ends with a space"
            for number, line in enumerate(text.split("\n"), 1)
            if line != line.rstrip()
        ]
    assert not wrong, "\n".join(wrong)


# --- tags ---------------------------------------------------------------------------------------------------------


def test_every_tag_is_in_the_spec_and_every_tag_of_the_spec_is_in_the_table() -> None:
    """rust/decidable-canon/src/tag.rs and docs/spec name the same layouts."""
    table = (ROOT / "rust/decidable-canon/src/tag.rs").read_text(encoding="utf-8")
    coded = set(re.findall(r'Tag\(b"(\w+)\\0"\)', table))
    described: set[str] = set()
    for page in (ROOT / "docs" / "spec").glob("*.md"):
        described |= set(re.findall(r"`((?:caly|dcd)[a-z]{3,4}\d)(?:\\0)?`", page.read_text(encoding="utf-8")))
    assert coded == described, (
        f"only in tag.rs: {sorted(coded - described)}; only in docs/spec: {sorted(described - coded)}"
    )
    listed = re.findall(r"^    \(\"[a-z ]+\", (\w+)\),$", table, re.MULTILINE)
    assert sorted(listed) == sorted(re.findall(r"pub const (\w+): Tag", table)), "ALL does not list every tag once"


# --- error codes --------------------------------------------------------------------------------------------------


def is_test(path: Path) -> bool:
    """Whether a file is part of a test."""
    parts = path.relative_to(ROOT).parts
    return "tests" in parts or path.stem == "tests" or path.stem.endswith("_tests")


def documented_classes() -> dict[str, str]:
    """The codes of docs/errors.md, each with the exception that it is raised as: the first two cells of each row."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|([^|]*)\|", text, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "docs/errors.md has a code twice"
    return {code: cell.strip().strip("`") for code, cell in rows}


def documented_codes() -> set[str]:
    """The codes of docs/errors.md."""
    return set(documented_classes())


def produced_codes(areas: set[str]) -> dict[str, Path]:
    """Every string in the sources that looks like a code of one of the areas, with a file that has it."""
    found: dict[str, Path] = {}
    for path, text in written():
        if (
            path.suffix in {".rs", ".py"}
            and not is_test(path)
            and path.relative_to(ROOT).parts[0] in {"rust", "python"}
        ):
            for code in re.findall(r'"([a-z_]+\.[a-z_]+)"', text):
                if (
                    code.split(".")[0] in areas
                    and code not in FIELDS
                    and not code.endswith((".json", ".toml", ".log", ".py", ".html", ".key"))
                ):
                    found.setdefault(code, path)
    return found


# The areas of the codes; a code of another area is found by `test_a_code_belongs_to_a_known_area`.
AREAS = {
    *(
        "audit",
        "batch",
        "bench",
        "builders",
        "catalog",
        "cli",
        "engine",
        "exchange",
        "export",
        "guard",
        "head",
        "input",
        "kernel",
        "key",
        "ledger",
    ),
    *("llm", "log", "replay", "report", "verify", "wal"),
}
# Fields of messages that look like codes.
FIELDS = {"catalog.models", "catalog.names"}


def test_every_error_code_is_documented() -> None:
    """docs/errors.md lists the codes that the sources can produce, and no others."""
    produced = produced_codes(AREAS)
    missing = [
        f"{code} ({path.relative_to(ROOT)})"
        for code, path in sorted(produced.items())
        if code not in documented_codes()
    ]
    assert not missing, "not in docs/errors.md: " + ", ".join(missing)
    gone = sorted(documented_codes() - produced.keys())
    assert not gone, f"docs/errors.md lists what nothing produces: {gone}"


def listed_codes(title: str) -> set[str]:
    """The codes that a section of docs/errors.md names."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"`([a-z_]+\.[a-z_]+)`", section))


def test_every_error_code_is_produced_by_a_test(raised: set[tuple[str, str | None]]) -> None:
    """The codes that the tests have raised are all of docs/errors.md but those that it excepts, each raised as it says.

    `rust/decidable-engine/tests/codes.rs` produces those that only tests in Rust do. It runs last.
    """
    excepted = listed_codes("Codes that only tests in Rust produce") | listed_codes("Codes that no test can cause")
    classes, seen = documented_classes(), {code for code, _ in raised}
    assert excepted <= classes.keys()
    untested = classes.keys() - seen - excepted
    assert not untested, f"no test produces: {sorted(untested)}"
    assert not seen & excepted, f"docs/errors.md excepts what is produced: {sorted(seen & excepted)}"
    assert not seen - classes.keys(), f"not in docs/errors.md: {sorted(seen - classes.keys())}"
    otherwise = sorted((code, name) for code, name in raised if name and name != classes[code])
    assert not otherwise, f"raised as something else than docs/errors.md says: {otherwise}"
    # The command, as another process, tells codes without their class; those of its own all have one.
    assert {name for code, name in classes.items() if code.startswith("cli.")} == {Usage.__base__.__name__}
    unseen = seen - {code for code, name in raised if name}
    unseen -= {code for code in unseen if code.startswith("cli.")}
    assert not unseen, f"no test has seen as what these are raised: {sorted(unseen)}"


def test_a_code_belongs_to_a_known_area() -> None:
    """The first word of a code in Rust is one of the areas above."""
    unknown = set()
    for path, text in written():
        if path.suffix == ".rs" and path.relative_to(ROOT).parts[0] == "rust" and not is_test(path):
            for body in re.findall(r"fn code\(&?self\) -> &'static str \{(.*?)\n    \}", text, re.DOTALL):
                unknown |= {code for code in re.findall(r'"([a-z_]+)\.[a-z_]+"', body) if code not in AREAS}
    assert not unknown, f"areas that tests/test_tidy.py does not know: {sorted(unknown)}"


@pytest.mark.skipif(
    sys.platform != "linux" or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="elsewhere something may be missing",
)
def test_a_skipped_test_fails_under_ci_alone(tmp_path: Path) -> None:
    """With its reason, and so has a file that is skipped as a whole."""
    # Alone, the first is skipped: it takes the whole suite.
    whole_file = tmp_path / "test_whole_file.py"
    whole_file.write_text('import pytest\npytest.skip("not today", allow_module_level=True)\n', encoding="utf-8")

    def run(*arguments: object, **changes: str) -> tuple[int, str]:
        plain = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=ROOT, env=plain | changes, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout

    for arguments, passed, reason in (
        ([__file__, "-k", test_every_error_code_is_produced_by_a_test.__name__], 0, "takes the whole suite"),
        (["-p", "conftest", whole_file], 5, "not today"),
    ):
        assert run(*arguments, PYTHONPATH=str(ROOT / "tests"))[0] == passed
        status, told = run(*arguments, PYTHONPATH=str(ROOT / "tests"), CI="true")
        assert status in (1, 2), told
        assert re.search(f"was skipped, and under CI nothing may be missing: .*{reason}", told), told
