"""The command line as a user meets it: each command in a process of its own, by exit code, output and error line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import codes
import decidable as dc
from decidable import bench, cli, demo
from decidable.cli import inputs
from decidable.cli.standard import standard_streams
from decidable.domains import llm
from decidable.errors import VerificationError
from model import random_cases

# An account's name may hold no control characters, other names anything.
HOSTILE_ACCOUNT = "=cmd\u202eevil<script>"
HOSTILE = f"{HOSTILE_ACCOUNT}\x1b[31m\x07"
SCRIPT = Path(sys.executable).with_name("decidable")

POLICY = {
    "policy_epoch": 1, "catalog_epoch": 1, "hard_risk_limit_bps": 9_600, "minimum_confidence_bps": 5_500,
    "risk_penalty_multiplier_bps": 3_500, "latency_penalty_microunits_per_ms": 2,
    "models": [
        {"model_id": 7, "quality_bps": 8_400, "p95_latency_ms": 3_200,
         "input_cost_microunits_per_million_tokens": 250_000, "output_cost_microunits_per_million_tokens": 2_000_000},
        {"model_id": 9, "quality_bps": 7_100, "p95_latency_ms": 1_200,
         "input_cost_microunits_per_million_tokens": 50_000, "output_cost_microunits_per_million_tokens": 400_000},
    ],
}  # fmt: skip
REQUEST = {
    "request_sequence": 1, "requested_model_id": 9, "input_tokens": 1_200, "output_tokens": 300,
    "business_value_microunits": 50_000, "budget_limit_microunits": 20_000, "risk_bps": 800, "confidence_bps": 9_000,
}  # fmt: skip


def environment(**changes: str) -> dict[str, str]:
    """A plain one: no colour wishes, no terminal, UTF-8."""
    plain = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "DECIDABLE_TRACEBACK")
    }
    return plain | {"PYTHONIOENCODING": "utf-8"} | changes


def run(*arguments: object, cwd: Path, given: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    """One command line, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "decidable.cli", *map(str, arguments)],
        cwd=cwd, input=given, capture_output=True, text=True, encoding="utf-8", env=environment(**changes), check=False,
        timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def appears(folder: Path, pattern: str, pause: float = 0.01) -> None:
    """Waits until a process that was started has made such a file."""
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(pause)


def errors_of(process: subprocess.Popen[str]) -> str:
    """What it says until its end; one that does not end is ended, and the test with it."""
    try:
        return process.communicate(timeout=60)[1]
    finally:
        process.kill()


def limited_to(octets: int) -> Callable[[], None]:
    """For a process that is begun: no file that it writes may be larger."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (octets, octets))


def code_of(done: subprocess.CompletedProcess[str]) -> str:
    """The code of the error that a command with --json ended with."""
    code = str(json.loads(done.stdout)["error"]["code"])
    codes.note(code)
    return code


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `run`, inside this process: for the many ways in which a command can be wrong."""

    def inside(*arguments: object, given: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8"))
        status = cli.main([*map(str, arguments)])
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, printed.out, printed.err)

    return inside


Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a policy and a request."""
    (tmp_path / "policy.json").write_text(json.dumps(POLICY), encoding="utf-8")
    (tmp_path / "request.json").write_text(json.dumps(REQUEST), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small demo has run; nobody changes it."""
    folder = tmp_path_factory.mktemp("shown")
    done = run("demo", "--limit", 400, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "demo.stdout").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture
def log(shown: Path, tmp_path: Path) -> Path:
    """A copy of the demo's folder that a test may damage."""
    return Path(shutil.copytree(shown / "demo", tmp_path / "demo"))


def segment(folder: Path) -> Path:
    """The one segment of a demo's log."""
    (found,) = (folder / "state").glob("*.seg")
    return found


# --- the command itself -------------------------------------------------------------------------------------------


def test_the_command_is_a_script_and_two_modules(tmp_path: Path) -> None:
    """`decidable`, `python -m decidable` and `python -m decidable.cli` are one command."""
    if not SCRIPT.exists():
        pytest.skip("the package is not installed with its script")
    commands = [[SCRIPT], [sys.executable, "-m", "decidable"], [sys.executable, "-m", "decidable.cli"]]
    for arguments in (["--version"], ["--help"], ["verify", "--help"]):
        answers = {
            (done.returncode, done.stdout)
            for done in (
                subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment(), check=False)
                for command in commands
            )
        }
        assert len(answers) == 1
        assert answers.pop()[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["verify"],
        ["verify", "--frob", "x"],
        ["route", "gpt-5", "--input", "1"],
        ["demo", "--limit", "0"],
        ["bench", "--sizes"],
        ["bench", "--sizes", "65536"],
        ["bench", "--rounds", "0"],
        ["bench", "--threads", "many"],
        ["bench", "--workloads", "none"],
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(arguments: list[str], call: Call) -> None:
    """Usage faults say where help is."""
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "--help" in done.stderr
    if arguments:
        assert code_of(call(*arguments, "--json")) == "cli.usage"


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor before the program starts")
def test_a_closed_standard_input_is_one_line_and_2(tmp_path: Path) -> None:
    """Not a fault of the program."""
    (tmp_path / "policy.json").write_text(
        '{"models": [{"model_id": 1, "quality_bps": 9000, "input": "1", "output": "2"}]}'
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m decidable.cli decide policy.json - <&-"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "decidable decide: standard input is closed\n")


def test_a_fault_of_the_program_is_one_line_and_70(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is shown a traceback who did not ask for it."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.chdir(here)
    monkeypatch.delenv("DECIDABLE_TRACEBACK", raising=False)
    monkeypatch.setattr("decidable.cli.decide.policy_in", broken)
    assert cli.main(["decide", "policy.json", "request.json", "--json"]) == 70
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["code"] == "cli.internal"
    assert "boom" in printed.err
    assert len(printed.err.splitlines()) == 1
    monkeypatch.setenv("DECIDABLE_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        cli.main(["decide", "policy.json", "request.json"])


# --- decide, explain, digest --------------------------------------------------------------------------------------


def test_decide_tells_what_the_policy_answers(here: Path) -> None:
    """In words and as JSON, the same decision as the library's."""
    done = run("decide", "policy.json", "request.json", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert "request 1: model 7 in place of model 9" in done.stdout
    policy = dc.Catalog.load(here / "policy.json").policy()
    expected = policy.decide(dc.Request(**REQUEST))
    answer = json.loads(run("decide", "policy.json", "request.json", "--json", cwd=here).stdout)
    assert answer["decision"]["selected_model_id"] == expected.selected_model_id
    assert answer["decision"]["reason"] == expected.reason.name
    assert answer["digests"]["decision"] == expected.digest().hex()
    assert answer["digests"]["policy"] == policy.digest().hex()


def test_a_refusal_is_a_normal_answer(here: Path) -> None:
    """Exit code 0, and the reason in words."""
    given = json.dumps(REQUEST | {"budget_limit_microunits": 1})
    done = run("decide", "policy.json", "-", cwd=here, given=given)
    assert done.returncode == 0
    assert "refused, budget" in done.stdout


def test_decide_reads_many_requests(here: Path) -> None:
    """JSON lines, pretty-printed objects one after the other, and a list."""
    one = json.dumps(REQUEST)
    for given in (f"{one}\n{one}\n{one}", f"[{one},{one},{one}]", "\n".join([json.dumps(REQUEST, indent=2)] * 3)):
        lines = run("decide", "policy.json", "-", "--json", cwd=here, given=given).stdout.splitlines()
        assert len(lines) == 3
        assert len(set(lines)) == 1


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ('{"input_tokens": 1.5, "output_tokens": 1}', "cli.malformed", "1.5 is not an integer"),
        ('{"input_tokens": NaN, "output_tokens": 1}', "cli.malformed", "NaN"),
        ('{"input_tokens": 1, "input_tokens": 2}', "cli.malformed", "twice"),
        ('\n\n{"input_tokens": 1,', "cli.malformed", "line 3"),
        ("[1]", "cli.malformed", "not a JSON object"),
        ("", "cli.malformed", "no JSON object"),
        ("[" * 100_000, "cli.malformed", "deeply"),
        ('{"input_tokens": 1}', "cli.missing_field", "output_tokens is missing"),
        ('{"input_token": 1, "output_tokens": 1}', "cli.unknown_field", "did you mean input_tokens"),
        ('{"input_tokens": 1, "output_tokens": 1, "quotes": [1]}', "cli.malformed", "quotes"),
        ('{"input_tokens": true, "output_tokens": 1}', None, "line 1: input_tokens"),
        ('{"input_tokens": -1, "output_tokens": 1}', None, "line 1: input_tokens"),
        ('{"input_tokens": 1, "output_tokens": 1, "risk_bps": 10001}', None, "line 1: risk_bps"),
    ],
)
def test_a_request_that_cannot_be_read_is_2(here: Path, call: Call, given: str, code: str | None, says: str) -> None:
    """The error names the file, the line and what is wrong."""
    done = call("decide", "policy.json", "-", "--json", given=given)
    assert done.returncode == 2
    assert says in done.stderr
    assert code is None or code_of(done) == code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["vrify", "state"], "decidable: there is no command 'vrify'; did you mean verify? (see decidable --help)"),
        (["nosuch", "state"], "decidable: there is no command 'nosuch' (see decidable --help)"),
        (["verify", "a", "b"], "decidable verify: unknown arguments: b (see decidable verify --help)"),
        (["export", "a", "--format", "xml"], "argument --format: 'xml' is none of json-lines, csv (see"),
        (["bench", "--sizes", "x"], "argument --sizes: 'x' is not a whole number (see"),
        (["demo", "--limit", "9" * 5_000], "argument --limit: '99999"),
        (["decide", "request.json", "policy.json"], "request.json holds a request where a policy is wanted"),
        (
            ["route", "x", "--input-tokens", "1", "--catalog", "policy.json"],
            "no model is named 'x': the catalog names none",
        ),
        (["decide", "empty", "request.json"], "decidable decide: empty: the file is empty"),
        (["decide", "text", "request.json"], "decidable decide: text, line 1: not JSON (expecting value)"),
        (["decide", "policy.json", "text"], "decidable decide: text, line 1: not JSON (expecting value)"),
        (["decide", "text.toml", "request.json"], "decidable decide: text.toml: not TOML: expected '=' after a key in"),
        (["decide", "policy.json", "-"], "decidable decide: standard input holds no JSON object"),
        (["decide", "-", "-"], "decidable decide: -: a policy is not read from standard input, and no file has"),
        (["verify", "-"], "decidable verify: -: a log is not read from standard input, and no file has this name"),
        (["decide", "off.json", "request.json"], "decidable decide: off.json: the only candidate is not enabled"),
        (
            ["route", "x", "--input-tokens", "1", "--catalog", "best.toml"],
            'decidable route: best.toml, line 2, [policy]: objective is "best", which is none of utility,',
        ),
        (["verify", "begun"], "decidable verify: begun: there is no log here"),
        (["export", "begun"], "decidable export: begun: there is no log here"),
        (["decide", "folder", "request.json"], "decidable decide: folder cannot be read: is a directory"),
        (["guard", "folder"], "decidable guard: folder cannot be read: is a directory"),
        (["guard", "--set", "sql", "folder"], "decidable guard: folder cannot be read: is a directory"),
        (["guard", "--set", "sql", "folder", "--sse"], "decidable guard: folder cannot be read: is a directory"),
        (["guard", "--set", "sql", "folder", "--held"], "decidable guard: folder cannot be read: is a directory"),
        (["guard", ""], "decidable guard: argument RULES: is empty (see decidable guard --help)"),
        (["guard", "policy.json", ""], "decidable guard: argument FILE: is empty (see decidable guard --help)"),
        (["guard", "", "--set", "sql"], "decidable guard: argument RULES: is empty (see decidable guard --help)"),
        (["verify", "folder"], "decidable verify: there is no log in folder"),
        (["verify", "around"], "decidable verify: there is no log in around; there is one in around/log"),
        (["verify", "around/log/00000000000000000001.seg"], "is a part of a log: name its directory, around/log"),
        (["explain", "around/log", "abc"], "decidable explain: not a request number: 'abc'"),
        (["explain", "around/log", "-1"], "decidable explain: not a request number: '-1'"),
        (["explain", "around/log", "9" * 5_000], "decidable explain: not a request number: '999"),
        (["explain", "text", "abc"], "decidable explain: not a request number: 'abc'"),
        (["explain", "policy.json", "3"], "decidable explain: 3: no such file or directory"),
        (
            ["verify", "around/log", "--key-file", "text"],
            "the key file text holds no key: a key needs at least 32 bytes",
        ),
        (["verify", "around/log", "--key-file", "folder"], "the key file folder cannot be read: is a directory"),
        (["verify", "around/log", "--head", "empty"], "the head file empty cannot be read: it is empty"),
        (["verify", "around/log", "--head", "text"], "the head file text cannot be read: it is not JSON at line 1"),
        (
            ["verify", "around/log", "--head", "binary"],
            "the head file binary cannot be read: it is not UTF-8 at byte 0",
        ),
        (["verify", "around/log", "--head", "folder"], "the head file folder cannot be read: is a directory"),
        (["verify", "around/log", "--head", "policy.json"], 'the head file policy.json: a head needs "schema_version"'),
        (
            ["verify", "around/log", "--save-head", "no/head"],
            "decidable verify: the head file no/head cannot be written: no such file or directory",
        ),
        (["report", "around/log", "-o", "no/page"], "decidable report: no/page: no such file or directory"),
        (["report", "around/log", "-o", "folder"], "decidable report: folder: is a directory"),
        (
            ["export", "around/log", "-o", "no/log"],
            "decidable export: no/log cannot be created: no such file or directory",
        ),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="paths and words as POSIX has them")
def test_a_usual_mistake_is_told_in_its_own_words(here: Path, call: Call, arguments: list[str], says: str) -> None:
    """One short line that names what was given and what is wrong with it, and nothing of the program's inside."""
    (here / "empty").touch()
    for name in ("text", "text.toml"):
        (here / name).write_text("hello\n", encoding="utf-8")
    (here / "binary").write_bytes(b"\xff\xfe\x00")
    (here / "folder").mkdir()
    # As a disk leaves it that was full at the beginning of the log.
    (here / "begun").mkdir()
    (here / "begun" / "LOCK").touch()
    off = POLICY | {"models": [{**POLICY["models"][0], "enabled": False}]}  # type: ignore[index]
    (here / "off.json").write_text(json.dumps(off), encoding="utf-8")
    (here / "best.toml").write_text(
        '[policy]\nobjective = "best"\n[[models]]\nname = "x"\ninput = "1"\noutput = "1"\n', encoding="utf-8"
    )
    dc.Engine.open(here / "around" / "log", policy=dc.Catalog.load(here / "policy.json").policy()).close()
    before = sorted(here.rglob("*"))
    done = call(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    (line,) = done.stderr.splitlines()
    assert len(line) < 160
    assert not re.search(r"Errno|os error|codec|line 1 column|char 0|invalid choice|_bounded|\.new\b|<", line)
    assert sorted(here.rglob("*")) == before


def test_a_file_that_is_too_large_is_refused(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it is parsed."""
    monkeypatch.setattr(inputs, "_MOST_BYTES", 10)
    assert code_of(call("decide", "policy.json", "request.json", "--json")) == "cli.too_large"


def test_missing_and_unusable_files_are_2(here: Path, call: Call) -> None:
    """Every command that reads a file says which."""
    (here / "binary").write_bytes(b"\xff\xfe\x00")
    for arguments in (
        ["decide", "nothing.json", "request.json"],
        ["decide", "policy.json", "nothing.json"],
        ["explain", "nothing.json", "request.json"],
        ["digest", "nothing.json"],
        ["verify", "nothing.json"],
        ["verify", "policy.json", "--head", "nothing.json"],
        ["verify", "policy.json", "--key-file", "nothing.json"],
        ["report", "nothing.json"],
        ["export", "nothing.json", "-o", "out"],
        ["route", "gpt-5", "--input-tokens", "1", "--catalog", "nothing.json"],
        ["route", "gpt-5", "--input-tokens", "1", "--state", "state", "--catalog", "nothing.json"],
    ):
        done = call(*arguments, "--json")
        assert done.returncode == 2, arguments
        assert code_of(done) == "cli.missing_file", arguments
        assert "nothing.json" in done.stderr
    assert code_of(call("digest", ".", "--json")) == "cli.unusable_file"
    assert "not UTF-8 at byte 0" in call("digest", "binary").stderr


def test_explain_shows_every_candidate(here: Path) -> None:
    """The table in words, and the numbers as JSON."""
    done = run("explain", "policy.json", "request.json", cwd=here)
    assert done.returncode == 0
    assert re.search(r"model 7 +chosen", done.stdout)
    assert re.search(r"model 9 +eligible +second best", done.stdout)
    answer = json.loads(run("explain", "policy.json", "request.json", "--json", cwd=here).stdout)
    assert [each["model_id"] for each in answer["verdicts"]] == [7, 9]
    refused = json.dumps(REQUEST | {"risk_bps": 9_600})
    assert "No candidate was looked at" in run("explain", "policy.json", "-", cwd=here, given=refused).stdout


@pytest.mark.parametrize(
    ("objective", "second", "columns"),
    [
        ("utility", "gpt-5-mini, utility 0.036988", "utility +cost"),
        ("cheapest", "mistral-small-2603, cost 0.000334", "cost +quality"),
        ("quality", "mistral-large-2512, quality 83%", "quality +cost"),
        ("fastest", "gpt-4.1-mini, latency 1,700 ms", "latency +cost"),
    ],
)
def test_what_ranks_is_what_is_shown(tmp_path: Path, objective: str, second: str, columns: str) -> None:
    """The objective is named, and the second best and the table show what it compares; a gate shows names."""
    wishes = [
        "--value=0.05", "--min-quality=70%", "--max-latency=5s", "--max-cost=0.002", "--region=eu",
        "--capability=vision", "--provider=openai", "--provider=mistral", "--why",
    ]  # fmt: skip
    done = run("route", "gpt-5", "--input-tokens", 1200, *wishes, "--objective", objective, cwd=tmp_path)
    assert re.search(rf"^  objective +{objective}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^  second best +{re.escape(second)}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^  model +verdict +why +{columns}$", done.stdout, re.MULTILINE)
    assert ("utility  " in done.stdout) == (objective == "utility")
    for model, why in (
        ("gpt-5", "latency 8,000 ms, above 5,000 ms"),
        ("gpt-4o-mini", "quality 68%, below 70%"),
        ("gpt-4.1", "cost 0.004448, above 0.002000"),
        ("claude-haiku-4-5", "provider anthropic is not allowed"),
        ("llama-4-scout", "lacks vision"),
    ):
        assert re.search(
            rf"^  {re.escape(model)} +(gate|over budget) +{re.escape(why)}( |$)", done.stdout, re.MULTILINE
        )


def test_a_gate_shows_bits_where_there_are_no_names(here: Path) -> None:
    """A mask is never shown as a number."""
    for wanted, why in (
        ({"required_capabilities": 0b101}, "lacks bit 0, bit 2"),
        ({"allowed_provider_mask": 0b10}, "provider 3 is not allowed"),
        ({"required_region_mask": 0b110}, "in none, not in bit 1, bit 2"),
        ({"risk_bps": 850}, "risk 8.5%, above its ceiling of 8%"),
    ):
        models = [{**each, "provider_id": 3, "region_mask": 0, "risk_ceiling_bps": 800} for each in POLICY["models"]]
        (here / "masks.json").write_text(json.dumps(POLICY | {"models": models}), encoding="utf-8")
        done = run("explain", "masks.json", "-", cwd=here, given=json.dumps(REQUEST | wanted))
        assert len(re.findall(rf"gate +{re.escape(why)}$", done.stdout, re.MULTILINE)) == 2, done.stdout


def test_digests_are_those_of_the_vectors(vectors: Path, tmp_path: Path) -> None:
    """A policy, a request, a decision by codes and by names, and a ledger."""
    case = json.loads((vectors / "decisions.jsonl").read_text(encoding="utf-8").splitlines()[0])
    policy = json.loads((vectors / "policies.jsonl").read_text(encoding="utf-8").splitlines()[case["policy"]])
    ledger = json.loads((vectors / "ledgers.jsonl").read_text(encoding="utf-8").splitlines()[0])
    digest = policy.pop("policy_digest")
    files = {"policy": policy, "request": case["input"], "decision": case["decision"], "ledger": ledger["snapshot"]}
    for name, contents in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(contents), encoding="utf-8")
    done = run("digest", *(f"{name}.json" for name in files), "--json", cwd=tmp_path)
    found = {each["holds"]: each["digest"] for each in json.loads(done.stdout)}
    assert found == {
        "policy": digest,
        "request": case["input_digest"],
        "decision": case["decision_digest"],
        "ledger": ledger["ledger_digest"],
    }
    answer = json.loads(run("decide", "policy.json", "request.json", "--json", cwd=tmp_path).stdout)
    (tmp_path / "named.json").write_text(json.dumps(answer["decision"]), encoding="utf-8")
    assert run("digest", "named.json", cwd=tmp_path).stdout == f"{case['decision_digest']}  decision  named.json\n"
    given = run("digest", "-", cwd=tmp_path, given=json.dumps(ledger["snapshot"]))
    assert given.stdout == f"{ledger['ledger_digest']}  ledger  -\n", given.stderr


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ('{"what": 1}', "cli.unknown_contents"),
        ('{"action": "Reject"}', "exchange.malformed_decision"),
        ('{"input_tokens": 1, "output_tokens": 1, "x": 1}', "cli.unknown_field"),
    ],
)
def test_digest_refuses_what_it_does_not_know(call: Call, given: str, code: str) -> None:
    """A digest of something else than it seems would be worse than none."""
    assert code_of(call("digest", "-", "--json", given=given)) == code


def test_a_decision_that_does_not_fit_its_layout_is_refused(vectors: Path, call: Call) -> None:
    """Too large, of another type, an unknown name, or a member too many."""
    good = json.loads((vectors / "decisions.jsonl").read_text(encoding="utf-8").splitlines()[0])["decision"]
    for change in ({"action": "Maybe"}, {"action": []}, {"policy_epoch": 2**64}, {"policy_epoch": True}, {"more": 1}):
        done = call("digest", "-", "--json", given=json.dumps(good | change))
        assert done.returncode == 2
        assert code_of(done) == "exchange.malformed_decision"


# --- what is never written over -----------------------------------------------------------------------------------


def test_nothing_is_written_over_but_what_is_the_commands_own(shown: Path, tmp_path: Path) -> None:
    """Not the log, its key, its policy, another head, a link or a pipe; a report and an earlier head are replaced."""
    shutil.copytree(shown / "demo", tmp_path / "demo")
    (tmp_path / "other.json").write_text('{"schema_version": "decidable.head.v0", "log_id": "0", "seq": 1}')
    (tmp_path / "notes.html").write_text("<!DOCTYPE html>\n<p>mine", encoding="utf-8")
    (tmp_path / "link").symlink_to("notes.html")
    (segment,) = (tmp_path / "demo" / "state").glob("*.seg")
    evidence = ["--key-file", "demo/wal.key", "--policy", "demo/policy.json"]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for target, code in (
        (segment.relative_to(tmp_path), "cli.protected"),
        ("demo/state/new", "cli.protected"),
        ("demo/wal.key", "cli.protected"),
        ("demo/policy.json", "cli.protected"),
        ("other.json", "cli.exists"),
        ("notes.html", "cli.exists"),
        ("link", "cli.unusable_file"),
        ("demo", "cli.unusable_file"),
    ):
        for command in (["report", "demo/state", "-o"], ["verify", "demo/state", "--save-head"]):
            done = run(*command, target, *evidence, "--json", cwd=tmp_path)
            assert (done.returncode, code_of(done)) == (2, code), (command, target)
            assert str(target) in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for _ in range(2):
        assert run("report", "demo/state", "-o", "demo/report.html", *evidence, cwd=tmp_path).returncode == 0
        assert run("verify", "demo/state", "--save-head", "demo/head.json", *evidence, cwd=tmp_path).returncode == 0
    later = json.loads((tmp_path / "demo" / "head.json").read_text())
    (tmp_path / "later.json").write_text(json.dumps(later | {"seq": later["seq"] + 1}))
    assert (
        code_of(run("verify", "demo/state", "--save-head", "later.json", *evidence, "--json", cwd=tmp_path))
        == "cli.exists"
    )


def test_a_head_is_replaced_only_by_one_of_the_log_that_has_it(tmp_path: Path) -> None:
    """What was kept is the only witness that a log was written anew: with as many other records, or with more."""
    demo.catalog().save(tmp_path / "models.json")

    def route(state: str, tokens: int) -> None:
        arguments = ["gpt-5-mini", "--input-tokens", tokens, "--state", state, "--catalog", "models.json"]
        done = run("route", *arguments, "--objective", "cheapest", cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    route("state", 100)
    for more in ([300], [300, 400]):
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        shutil.copytree(tmp_path / "state", tmp_path / "other")
        route("state", 200)
        for tokens in more:
            route("other", tokens)
        (tmp_path / "head.json").unlink(missing_ok=True)
        assert run("verify", "state", "--save-head", "head.json", cwd=tmp_path).returncode == 0
        kept = (tmp_path / "head.json").read_bytes()
        done = run("verify", "other", "--save-head", "head.json", cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert "head" in done.stderr
        assert (tmp_path / "head.json").read_bytes() == kept
    route("state", 500)
    assert run("verify", "state", "--save-head", "head.json", cwd=tmp_path).returncode == 0
    assert (tmp_path / "head.json").read_bytes() != kept


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes a descriptor")
@pytest.mark.parametrize(
    "command",
    [
        "decide policy.json request.json",
        "verify state",
        "digest policy.json",
        "report state",
        "route gpt-5 --input-tokens 1",
    ],
)
@pytest.mark.parametrize("options", ["", " --json"])
def test_with_standard_output_closed_nothing_is_done(here: Path, command: str, options: str) -> None:
    """Nobody would be told of the answer."""
    with dc.Engine.open(here / "state", policy=dc.Catalog.load(here / "policy.json").policy()):
        pass
    shell = f"exec {shlex.quote(sys.executable)} -m decidable.cli {command}{options} >&-"
    done = subprocess.run(
        ["/bin/sh", "-c", shell], cwd=here, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"decidable {command.split()[0]}: standard output is closed\n"
    assert not (here / "report.html").exists()


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes a descriptor")
def test_with_standard_error_closed_nothing_is_said_elsewhere(tmp_path: Path) -> None:
    """Standard output has the result or nothing."""
    command = f"exec {shlex.quote(sys.executable)} -m decidable.cli verify nothing 2>&-"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


# --- guard --------------------------------------------------------------------------------------------------------

RULES = """
[[rules]]
name = "ssn"
regex = '\\b\\d{3}-\\d{2}-\\d{4}\\b'
action = "redact"
[[rules]]
literal = "DROP TABLE"
[[rules]]
literal = "note"
action = "record"
"""


def test_guard_copies_what_the_rules_let_through(tmp_path: Path) -> None:
    """Byte for byte, with a word about what was found; 1 where it was stopped; with --json the document instead."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    (tmp_path / "text").write_bytes("é note 078-05-1120\r\n\x1b[1m".encode())
    done = subprocess.run(
        [sys.executable, "-m", "decidable.cli", "guard", "rules.toml", "text"],
        cwd=tmp_path, env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "é note [redacted]\r\n\x1b[1m".encode())
    assert done.stderr.decode().splitlines() == [
        "decidable guard: 'note' noted once",
        "decidable guard: 'ssn' replaced once",
    ]
    stopped = run("guard", "rules.toml", cwd=tmp_path, given="a note, then DROP TABLE users")
    assert (stopped.returncode, stopped.stdout) == (1, "a note, then ")
    assert stopped.stderr.splitlines()[-1] == "decidable guard: rule 'DROP TABLE' stopped it, at byte 13"
    told = json.loads(run("guard", "rules.toml", "--json", cwd=tmp_path, given="a note, then DROP TABLE").stdout)
    assert told == {
        "released_bytes": 13,
        "stopped": {"kind": "matched", "rule": "DROP TABLE", "start": 13, "end": 23},
        "matches": [{"rule": "note", "action": "record", "times": 1}],
    }
    assert run("guard", "rules.toml", cwd=tmp_path, given="").stdout == ""
    costs = json.loads(run("guard", "rules.toml", "--costs", "--json", cwd=tmp_path).stdout)
    assert [each["rule"] for each in costs["rules"]] == ["ssn", "DROP TABLE", "note"]
    assert costs["together"]["states"] > max(each["states"] for each in costs["rules"])
    assert "together" in run("guard", "rules.toml", "--costs", cwd=tmp_path).stdout
    assert code_of(run("guard", "nothing.toml", "--json", cwd=tmp_path)) == "cli.missing_file"
    assert code_of(run("guard", "rules.toml", "nothing", "--json", cwd=tmp_path)) == "cli.missing_file"
    assert code_of(run("guard", "text", "--json", cwd=tmp_path)) == "guard.unreadable"


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_guard_gives_on_what_it_has_while_its_input_goes_on(tmp_path: Path) -> None:
    """Nothing waits for the end, and what follows a stop is never read."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "guard", "rules.toml"],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for given, expected in ((b"first ", b"first "), (b"second DROP ", b"second "), (b"in ", b"DROP in ")):
            process.stdin.write(given)
            process.stdin.flush()
            assert os.read(process.stdout.fileno(), 100) == expected
        process.stdin.write(b"then DROP TABLE")
        process.stdin.flush()
        assert process.stdout.read() == b"then "
        assert process.wait(timeout=60) == 1


def event(content: str, **more: Any) -> str:
    """An event of a chat completion."""
    chunk = {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None} | more]}
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"


DONE = "data: [DONE]\n\n"


def contents(body: str) -> str:
    """The text that a client puts together of a body."""
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line and "[DONE]" not in line]
    return "".join(json.loads(each)["choices"][0]["delta"].get("content", "") for each in data)


def test_guard_reads_a_body_of_events(tmp_path: Path) -> None:
    """What stands in several of them is found, what comes out is a body, and a stop ends it as it ends a stream."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    body = event("a note: 078-0") + ": alive\n\n" + event("5-1120", finish_reason="stop") + DONE
    done = run("guard", "rules.toml", "--sse", cwd=tmp_path, given=body)
    assert (done.returncode, contents(done.stdout.replace(":\n", ""))) == (0, "a note: [redacted]")
    assert done.stdout.endswith(DONE)
    assert done.stderr.splitlines() == ["decidable guard: 'note' noted once", "decidable guard: 'ssn' replaced once"]
    body = event("then DR") + event("OP TABLE users")
    (tmp_path / "body").write_text(body, encoding="utf-8")
    stopped = run("guard", "rules.toml", "body", "--sse", cwd=tmp_path)
    stream = dc.Guard.load(tmp_path / "rules.toml").stream([body.encode()], sse=True)
    assert (stopped.returncode, stopped.stdout.encode()) == (1, b"".join(stream))
    assert contents(stopped.stdout) == "then "
    says = "decidable guard: rule 'DROP TABLE' stopped it, at byte 5 of the channel 'text' of choice 0"
    assert stopped.stderr.splitlines() == [says]
    told = json.loads(run("guard", "rules.toml", "body", "--sse", "--json", cwd=tmp_path).stdout)
    assert told == {
        "released_bytes": len(stopped.stdout),
        "stopped": {"kind": "matched", "rule": "DROP TABLE", "start": 5, "end": 15, "choice": 0, "channel": "text"},
        "matches": [],
        "matches_dropped": 0,
    }
    many = "".join(event("note " * 10_000) for _ in range(7)) + DONE
    noted = run("guard", "rules.toml", "--sse", cwd=tmp_path, given=many)
    assert (noted.returncode, noted.stdout) == (0, many)
    assert noted.stderr.splitlines() == [
        "decidable guard: 'note' noted 65,536 times",
        "decidable guard: 4,464 matches more",
    ]


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_guard_gives_on_each_event_as_soon_as_it_may(tmp_path: Path) -> None:
    """The body goes on as it comes, and what follows a stop is never read."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "guard", "rules.toml", "--sse"],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for given, expected in (("first ", "first "), ("second DROP ", "second "), ("in ", "DROP in ")):
            process.stdin.write(event(given).encode())
            process.stdin.flush()
            assert contents(os.read(process.stdout.fileno(), 1_000).decode()) == expected
        process.stdin.write(event("then DROP TABLE").encode())
        process.stdin.flush()
        rest = process.stdout.read().decode()
        assert process.wait(timeout=60) == 1
    assert contents(rest) == "then "
    assert rest.endswith(DONE)


@pytest.mark.parametrize("before", ["", "\ufeff", ": a comment\n\n", "\r\n\r\n", "id: 1\nretry: 10\n", "event: x\n"])
def test_guard_refuses_events_that_nobody_says_they_are(tmp_path: Path, before: str) -> None:
    """Cut into events a match would not be found, so nothing comes out until somebody says what it is."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    body = before + event("DROP") + event(" TABLE")
    (tmp_path / "body").write_bytes(body.encode())
    for given in ([], ["body"]):
        done = run("guard", "rules.toml", *given, cwd=tmp_path, given=body)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "decidable guard: what is read begins like server-sent events: say --sse, or --no-sse where it is a text\n"
        )
    assert code_of(run("guard", "rules.toml", "--json", "body", cwd=tmp_path)) == "guard.unknown_chunk"
    done = subprocess.run(
        [sys.executable, "-m", "decidable.cli", "guard", "rules.toml", "body", "--no-sse"],
        cwd=tmp_path, env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, body.encode(), b"")
    assert run("guard", "rules.toml", "body", "--sse", cwd=tmp_path).returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_guard_refuses_events_wherever_they_are_cut(tmp_path: Path) -> None:
    """Also the first piece of a word that says so has not come out; what cannot become one comes out at once."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    for pieces, code, out in (
        ([b": ok\n", b"\nda", b'ta: {"a": 1}\n\n'], 2, b""),
        ([b"ev", b"en so"], 0, b"even so"),
        ([b": ok\n", b"id: 1", b"\nbut text"], 0, b": ok\nid: 1\nbut text"),
        ([b": ok\n", b"da"], 0, b": ok\nda"),
        ([b"DROP TA", b"BLE"], 1, b""),
    ):
        with subprocess.Popen(
            [sys.executable, "-m", "decidable.cli", "guard", "rules.toml"],
            cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            for piece in pieces:
                process.stdin.write(piece)
                process.stdin.flush()
                time.sleep(0.05)
            released, _ = process.communicate(timeout=60)
        assert (process.returncode, released) == (code, out)


def test_guard_refuses_a_long_beginning_of_comments_and_then_an_event(tmp_path: Path) -> None:
    """However long nothing tells what it is, no event is ever taken for a text."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    comments = ": processing\n\n" * 20_000
    done = run("guard", "rules.toml", cwd=tmp_path, given=comments + event("DROP"))
    assert done.returncode == 2
    assert comments.startswith(done.stdout)
    whole = run("guard", "rules.toml", cwd=tmp_path, given=comments + "and a text")
    assert (whole.returncode, whole.stdout) == (0, comments + "and a text")


def test_guard_says_what_is_no_body_of_events(tmp_path: Path) -> None:
    """A page, a body that breaks off, and an option where nothing is guarded."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    page = run("guard", "rules.toml", "--sse", "--json", cwd=tmp_path, given="<html>\nan error\n</html>\n")
    assert (page.returncode, code_of(page)) == (2, "guard.unknown_chunk")
    broken = run("guard", "rules.toml", "--sse", cwd=tmp_path, given=event("first") + event("second")[:-9])
    assert (broken.returncode, contents(broken.stdout)) == (2, "first")
    assert broken.stderr == "decidable guard: the body broke off in the middle of an event\n"
    for option, instead in (("--sse", "--costs"), ("--no-sse", "--held"), ("--sse", "--test")):
        assert code_of(run("guard", "rules.toml", option, instead, "--json", cwd=tmp_path)) == "cli.usage"


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
@pytest.mark.parametrize("given", [["text"], ["linked"], []])
def test_guard_does_not_read_the_file_that_it_writes(tmp_path: Path, given: list[str]) -> None:
    """It would read on what it has written, without an end; nothing is written, under whatever name it is read."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    (tmp_path / "text").write_text("a note\n", encoding="utf-8")
    (tmp_path / "linked").symlink_to("text")
    with (tmp_path / "text").open("rb") as reading, (tmp_path / "text").open("ab") as writing:
        done = subprocess.run(
            [sys.executable, "-m", "decidable.cli", "guard", "rules.toml", *given],
            cwd=tmp_path, stdin=reading, stdout=writing, stderr=subprocess.PIPE, env=environment(), text=True,
            check=False, timeout=60, preexec_fn=limited_to(1 << 20),
        )  # fmt: skip
    name = given[0] if given else "standard input"
    assert (done.returncode, done.stderr) == (2, f"decidable guard: {name} is the file that standard output goes to\n")
    assert (tmp_path / "text").read_text(encoding="utf-8") == "a note\n"


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
def test_guard_reads_and_writes_one_device(tmp_path: Path) -> None:
    """What is no regular file does not grow by what is written to it."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    with Path("/dev/null").open("r+b", buffering=0) as null:
        for given in ([], ["/dev/null"]):
            done = subprocess.run(
                [sys.executable, "-m", "decidable.cli", "guard", "rules.toml", *given],
                cwd=tmp_path, stdin=null, stdout=null, stderr=subprocess.PIPE, env=environment(), check=False,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, b"")


TALLY = ["decidable guard: 'note' noted once", "decidable guard: 'ssn' replaced 2 times"]
FOUND = [
    {"rule": "note", "action": "record", "times": 1},
    {"rule": "ssn", "action": "redact", "times": 2},
]


def test_guard_tells_what_was_found_before_an_error(tmp_path: Path) -> None:
    """Of a body that is none from some event on; with --json in the document of the error."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    body = event("a note, 078-05-1120 and 078-05-1121 ") + "data: oops\n\n"
    done = run("guard", "rules.toml", "--sse", cwd=tmp_path, given=body)
    assert (done.returncode, contents(done.stdout)) == (2, "a note, [redacted] and [redacted] ")
    *found, error = done.stderr.splitlines()
    assert found == TALLY
    told = json.loads(run("guard", "rules.toml", "--sse", "--json", cwd=tmp_path, given=body).stdout)
    assert told.pop("error")["message"] == error.removeprefix("decidable guard: ")
    assert told == {"matches": FOUND, "matches_dropped": 0, "released_bytes": len(done.stdout)}


@pytest.mark.skipif(sys.platform != "linux", reason="a device that is always full")
def test_guard_tells_what_was_found_where_nothing_can_be_written(tmp_path: Path) -> None:
    """What could not be written was found all the same; whoever went away is told nothing."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    text = "a note, 078-05-1120 and 078-05-1121.\n"
    command = [sys.executable, "-m", "decidable.cli", "guard", "rules.toml"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            command, cwd=tmp_path, input=text, stdout=full, stderr=subprocess.PIPE, env=environment(), text=True,
            check=False,
        )  # fmt: skip
    told = [*TALLY, "decidable guard: standard output: no space left on device"]
    assert (done.returncode, done.stderr.splitlines()) == (2, told)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, cwd=tmp_path, input=text, stdout=writing, stderr=subprocess.PIPE, env=environment(), text=True,
        check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("options", [[], ["--json"], ["--sse"]])
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_guard_tells_what_was_found_before_a_signal(
    tmp_path: Path, options: list[str], number: int, code: int, says: str
) -> None:
    """On standard error, with --json too: there is no document then."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    text = "a note, 078-05-1120 and 078-05-1121. " + "x" * 100
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "guard", "rules.toml", *options],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(event(text) if options == ["--sse"] else text)
        process.stdin.flush()
        if options == ["--json"]:
            # More than a pipe holds: the first piece has been read, and others after it.
            process.stdin.write("x" * 300_000)
            process.stdin.flush()
        else:
            os.read(process.stdout.fileno(), 10_000)
            time.sleep(0.2)
        process.send_signal(number)
        errors = errors_of(process)
    assert (process.returncode, errors.splitlines()) == (code, [*TALLY, f"decidable guard: {says}"])


# --- route --------------------------------------------------------------------------------------------------------


def test_route_decides_by_names(tmp_path: Path) -> None:
    """Dry: the decision of the library, and nothing left behind."""
    assert "%%" not in run("route", "--help", cwd=tmp_path).stdout
    arguments = [
        "route",
        "gpt-5-mini",
        "--input-tokens",
        "1200",
        "--expected-output-tokens",
        "180",
        "--max-cost",
        "0.02",
    ]
    done = run(*arguments, "--min-quality", "70%", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("request 0: gpt-5-nano in place of gpt-5-mini\n")
    answer = json.loads(run(*arguments, "--min-quality", "70%", "--why", "--json", cwd=tmp_path).stdout)
    assert answer["model"] == "gpt-5-nano"
    assert answer["ticket"] is None
    assert len(answer["verdicts"]) == len(demo.catalog().models)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gpt-5-min", "--input-tokens", "1"], "did you mean gpt-5-mini"),
        (["gpt-5", "--input-tokens", "x"], "--input-tokens is 'x'; it must be a quantity such as 1200"),
        (["gpt-5", "--input-tokens", "-1"], "--input-tokens is '-1'; it must not be negative\n"),
        (["gpt-5", "--input-tokens", "5G"], "--input-tokens is '5G'; it must be a number of tokens such as"),
        (["gpt-5", "--input-tokens", "1", "--max-cost", "-0.5"], "--max-cost is '-0.5'; it must not be negative\n"),
        (
            ["gpt-5", "--input-tokens", "1", "--min-quality", "170%"],
            "--min-quality is '170%'; it must be at most 100%\n",
        ),
        (["gpt-5", "--input-tokens", "1", "--max-latency", "0s"], "--max-latency is '0s'; it must be at least 1ms\n"),
        (
            ["gpt-5", "--input-tokens", "1", "--expected-output-tokens", "9", "--max-output-tokens", "5"],
            "--max-output-tokens is 5; it must be at least 9 tokens\n",
        ),
        (["gpt-5", "--input-tokens", "1", "--min-quality", "70"], "unit"),
        (
            ["gpt-5", "--input-tokens", "1", "--max-cost", "0.00000001"],
            "--max-cost is '0.00000001', which is less than",
        ),
        (["gpt-5", "--input-tokens", "1", "--account", "a"], "--account needs --state"),
        (["gpt-5", "--input-tokens", "1", "--state", "state"], "--state needs --catalog"),
        (["gpt-5", "--input-tokens", "1", "--objective", "utility"], "give --value"),
        (["gpt-5", "--input-tokens", "1", "--region", "mars"], "mars"),
    ],
)
def test_route_says_what_it_cannot_read(call: Call, arguments: list[str], says: str) -> None:
    """One line, exit code 2."""
    done = call("route", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_route_holds_and_logs_in_a_state(tmp_path: Path) -> None:
    """The same key gets the same ticket, a refusal is an answer, and a stranger's account is a fault."""
    demo.catalog().save(tmp_path / "models.json")
    with llm.Gateway.open(tmp_path / "state", catalog=demo.catalog(), objective="cheapest") as gateway:
        gateway.open_account("acme", "1.00")
        gateway.open_account("poor", "0.00")
    arguments = ["route", "gpt-5", "--input-tokens", "1200", "--state", "state"]
    arguments += ["--catalog", "models.json", "--objective", "cheapest", "--json"]
    first = json.loads(run(*arguments, "--account", "acme", "--key", "k", cwd=tmp_path).stdout)["ticket"]
    again = json.loads(run(*arguments, "--account", "acme", "--key", "k", cwd=tmp_path).stdout)["ticket"]
    assert first["hold_microunits"] > 0
    assert not first["replayed"]
    assert first["state"] == again["state"] == "in_doubt"
    assert again["replayed"]
    assert first["id"] == again["id"]
    done = run(*arguments[:-1], "--account", "poor", cwd=tmp_path)
    assert done.returncode == 0
    assert "refused: insufficient" in done.stdout
    stranger = run(*arguments, "--account", "nobody", cwd=tmp_path)
    assert stranger.returncode == 2
    assert "nobody" in stranger.stderr
    reckless = run(*arguments, "--account", "acme", "--risk", "98%", "--why", cwd=tmp_path)
    assert json.loads(reckless.stdout)["ticket"]["refusal"] == "safety_ceiling"
    verified = json.loads(run("verify", "state", "--json", cwd=tmp_path).stdout)
    stands = [(each["request_sequence"], each["state"]) for each in verified["open_tickets"]]
    assert stands == [(first["id"], "in_doubt")]


def test_route_begins_a_state_and_says_so(tmp_path: Path) -> None:
    """As opening a gateway does, folders above it included: a mistyped name is not taken for an old state."""
    demo.catalog().save(tmp_path / "models.json")
    arguments = ["route", "gpt-5", "--input-tokens", "1", "--state", "new/state", "--catalog", "models.json"]
    arguments += ["--objective", "cheapest"]
    strange = run(*arguments, "--account", "acme", "--json", cwd=tmp_path)
    assert (strange.returncode, code_of(strange)) == (2, "cli.no_account")
    assert not (tmp_path / "new").exists()
    done = run(*arguments, "--key", "k", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "new/state held no state: one is begun there\n")
    assert "1, in doubt, nothing is held: no account was named" in done.stdout
    again = run(*arguments, "--key", "k", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert "1, in doubt, nothing is held: no account was named, the ticket of an earlier call" in again.stdout
    with llm.Gateway.open(tmp_path / "new/state", catalog=demo.catalog(), objective="cheapest") as gateway:
        gateway.engine.open_tickets()[0].settle(cost_microunits=0)
    assert "1, settled, the ticket of an earlier call" in run(*arguments, "--key", "k", cwd=tmp_path).stdout


def test_a_state_that_is_open_elsewhere_is_2(tmp_path: Path) -> None:
    """One process holds a log at a time, and the other is told."""
    demo.catalog().save(tmp_path / "models.json")
    arguments = ["route", "gpt-5", "--input-tokens", "1", "--state", "state", "--catalog", "models.json"]
    with llm.Gateway.open(tmp_path / "state", catalog=demo.catalog(), objective="cheapest"):
        done = run(*arguments, "--objective", "cheapest", cwd=tmp_path)
    assert done.returncode == 2
    assert "open for writing elsewhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_state_with_an_unfinished_end_says_that_it_was_cut(tmp_path: Path) -> None:
    """The decision is made, what was cut is said and kept; before that, explaining and verifying say 3."""
    demo.catalog().save(tmp_path / "models.json")
    arguments = ["route", "gpt-5", "--input-tokens", "1", "--state", "state", "--catalog", "models.json"]
    arguments += ["--objective", "cheapest"]
    with llm.Gateway.open(tmp_path / "state", catalog=demo.catalog(), objective="cheapest") as gateway:
        number = gateway.route("gpt-5", input_tokens=1).id
    (segment,) = (tmp_path / "state").glob("*.seg")
    segment.write_bytes(segment.read_bytes()[:-5])
    explained = run("explain", "state", number, cwd=tmp_path)
    assert (explained.returncode, run("verify", "state", cwd=tmp_path).returncode) == (3, 3)
    assert "unfinished bytes" in explained.stderr
    told = run(*arguments, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "unfinished bytes, cut off and kept in state/quarantine/" in told.stderr
    assert (tmp_path / told.stderr.split(" kept in ")[1].strip()).stat().st_size > 0
    segment.write_bytes(segment.read_bytes()[:-5])
    refused = run(*arguments, "--account", "nobody", cwd=tmp_path)
    assert refused.returncode == 2
    assert "unfinished bytes, cut off" in refused.stderr
    assert json.loads(run(*arguments, "--json", cwd=tmp_path).stdout)["recoveries"] == []
    assert run("explain", "state", number, cwd=tmp_path).returncode == 0


# --- demo ---------------------------------------------------------------------------------------------------------


def test_the_demo_tells_and_leaves_what_it_promises(shown: Path) -> None:
    """Every part of its answer, and the files beside it."""
    told = json.loads((shown / "demo.stdout").read_text(encoding="utf-8"))
    assert told["requests"] == 400
    assert told["selected"] + sum(told["refused"].values()) == 400
    assert told["settled"] == told["selected"] == sum(told["chosen"].values())
    assert told["verdict"] == "holds"
    assert told["verification"]["tail"] is None
    assert told["verification"]["open_tickets"] == []
    assert [each["name"] for each in told["baselines"]] == [each.name for each in demo.baselines(demo.policy(), [])]
    balances = told["verification"]["balances"]
    assert sum(each["committed"] + each["debt"] for each in balances) == told["spent_microunits"]
    assert {each.name for each in (shown / "demo").iterdir()} == {
        ".decidable-demo", "head.json", "policy.json", "report.html", "state", "wal.key",
    }  # fmt: skip
    if os.name == "posix":
        assert (shown / "demo" / "wal.key").stat().st_mode & 0o077 == 0


def test_the_demo_decides_the_same_each_time_and_replaces_only_its_own(tmp_path: Path) -> None:
    """Twice into one folder; and a folder of somebody else is left alone."""
    first = json.loads(run("demo", "--limit", 60, "--out", "x", "--json", cwd=tmp_path).stdout)
    (tmp_path / "x" / "notes.txt").write_text("mine", encoding="utf-8")
    second = json.loads(run("demo", "--limit", 60, "--out", "x", "--json", cwd=tmp_path).stdout)
    for name in ("chosen", "refused", "spent_microunits", "baselines", "example"):
        assert first[name] == second[name]
    assert first["verification"]["head"]["log_id"] != second["verification"]["head"]["log_id"]
    assert (tmp_path / "x" / "notes.txt").read_text(encoding="utf-8") == "mine"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "report.html").write_text("mine", encoding="utf-8")
    done = run("demo", "--limit", 60, "--out", "theirs", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert code_of(done) == "cli.not_ours"
    assert (tmp_path / "theirs" / "report.html").read_text(encoding="utf-8") == "mine"
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert code_of(run("demo", "--limit", 60, "--out", "file", "--json", cwd=tmp_path)) == "cli.exists"


@pytest.mark.skipif(os.name != "posix", reason="signals and locks as POSIX has them")
def test_a_second_demo_replaces_the_first_whole_or_not_at_all(tmp_path: Path) -> None:
    """It says what is there; cut off, it leaves the first as it was; and two do not write at once."""

    def contents() -> dict[str, bytes]:
        return {str(each): each.read_bytes() for each in sorted((tmp_path / "demo").rglob("*")) if each.is_file()}

    assert run("demo", "--limit", 60, cwd=tmp_path).returncode == 0
    first = contents()
    process = subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "demo"],
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    appears(tmp_path / "demo", ".decidable-demo-*/new/state/*.seg")
    busy = run("demo", "--limit", 60, "--json", cwd=tmp_path)
    assert (busy.returncode, code_of(busy)) == (2, "cli.in_use")
    process.send_signal(signal.SIGINT)
    errors = errors_of(process)
    assert (process.returncode, errors.splitlines()[1:]) == (130, ["decidable demo: interrupted"])
    assert errors.startswith("demo holds an earlier demo, which the new one replaces when it is whole")
    assert contents() == first
    (tmp_path / "demo" / ".decidable-demo-killed").mkdir()
    assert run("demo", "--limit", 61, cwd=tmp_path).returncode == 0
    second = contents()
    assert second.keys() == first.keys()
    assert not [
        name
        for name in first
        if second[name] == first[name] and not name.endswith((".decidable-demo", "LOCK", "policy.json"))
    ]
    (tmp_path / "demo" / "report.html").unlink()
    assert "demo holds a demo that was cut off" in run("demo", "--limit", 60, cwd=tmp_path).stderr


def test_the_demo_in_words(tmp_path: Path) -> None:
    """Each part has its heading; what it says in the end can be pasted into a shell, and approves the policy."""
    done = run("demo", "--limit", 60, "--out", "here and there", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for heading in ("What was chosen", "Why", "What was refused", "Budgets", "Speed and size", "Verified from disk"):
        assert f"\n{heading}" in done.stdout
    assert "CC-BY" in done.stdout
    command = done.stdout.splitlines()[-1].strip()
    assert command.startswith("decidable verify ")
    if os.name == "posix":
        again = subprocess.run(
            ["/bin/sh", "-c", command.replace("decidable", f"{shlex.quote(sys.executable)} -m decidable", 1)],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert again.returncode == 0, again.stderr
        assert "approved" not in again.stdout.partition("not established")[2]


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("moment", [0.0, 0.1, 0.25, 0.5])
def test_a_signal_ends_the_demo_without_a_traceback(
    tmp_path: Path, number: int, code: int, says: str, moment: float
) -> None:
    """Its exit code, one line, and a log that verifies up to where it came, whenever it comes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "demo"],
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    appears(tmp_path / "demo" / "state", "*.seg")
    time.sleep(moment)
    process.send_signal(number)
    errors = errors_of(process)
    assert process.returncode == code, errors
    assert errors == f"decidable demo: {says}\n"
    verified = run("verify", "demo/state", "--key-file", "demo/wal.key", cwd=tmp_path)
    assert verified.returncode in (0, 3), verified.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_an_interrupt_at_any_moment_ends_the_demo(tmp_path: Path) -> None:
    """It is never lost while anything is still to be told. DECIDABLE_INTERRUPTS says how often it is tried."""
    short, ends = ["--limit", "2000"], {130: ("decidable demo: interrupted\n", "decidable: interrupted\n"), 0: ("",)}

    def begun(folder: Path, limit: list[str]) -> subprocess.Popen[str]:
        folder.mkdir()
        with (folder / "told").open("wb") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "decidable.cli", "demo", *limit],
                cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, stdout=told,
            )  # fmt: skip
        appears(folder, "demo", 0.001)
        return process

    # A short demo is interrupted until a little after its end, however fast the machine is, and a long one before it.
    process, start = begun(tmp_path / "whole", short), time.monotonic()
    assert (errors_of(process), process.returncode) == ("", 0)
    length = time.monotonic() - start
    counted = {130: 0, 0: 0}
    for seed in random_cases.seeds(int(os.environ.get("DECIDABLE_INTERRUPTS", "6"))):
        print(f"DECIDABLE_SEED={seed}")
        moment, folder = random.Random(seed), tmp_path / str(seed)
        limit, longest = moment.choice((([], 3 * length), (short, 1.2 * length)))
        process = begun(folder, limit)
        time.sleep(moment.uniform(0, longest))
        whole = b"decidable verify" in (folder / "told").read_bytes()
        process.send_signal(signal.SIGINT)
        errors = errors_of(process)
        assert process.returncode == 130 or (whole and process.returncode == 0), f"DECIDABLE_SEED={seed}: {errors}"
        assert errors in ends[process.returncode], f"DECIDABLE_SEED={seed}"
        counted[process.returncode] += 1
        shutil.rmtree(folder)
    assert counted[130] or counted[0] < 6, "every interrupt came too late to show anything"


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize(
    "command", [[SCRIPT], [sys.executable, "-m", "decidable"], [sys.executable, "-m", "decidable.cli"]]
)
def test_a_signal_while_the_command_is_imported_is_one_line(
    tmp_path: Path, command: list[str | Path], number: int, code: int, says: str
) -> None:
    """Whichever way it was started; nothing of ours could catch an exception yet."""
    (tmp_path / "numpy.py").write_text(
        "import time\nopen('importing', 'w').close()\ntime.sleep(60)\n", encoding="utf-8"
    )
    process = subprocess.Popen(
        [*command, "--help"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    appears(tmp_path, "importing")
    process.send_signal(number)
    errors = errors_of(process)
    assert (process.returncode, errors) == (code, f"decidable: {says}\n")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("unheard", ["closed", "nobody reads", "full"])
def test_a_signal_ends_the_command_also_where_nobody_hears_of_it(
    tmp_path: Path, unheard: str, number: int, code: int
) -> None:
    """With standard error closed, its reader gone, or a pipe that nobody empties."""
    (tmp_path / "numpy.py").write_text(
        "import time\nopen('importing', 'w').close()\ntime.sleep(60)\n", encoding="utf-8"
    )
    reader, writer = os.pipe()
    if unheard == "full":
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4_096)
        os.set_blocking(writer, True)
    else:
        os.close(reader)
    closing = "exec 2>&-; " if unheard == "closed" else ""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'{closing}exec "$@"', "sh", SCRIPT, "--help"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)), stderr=writer,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "importing").exists():
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=30) == code
    os.close(writer)
    if unheard == "full":
        os.close(reader)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_in_a_callback_is_not_lost(
    call: Call, monkeypatch: pytest.MonkeyPatch, number: int, code: int, says: str
) -> None:
    """Where the interpreter would show an exception as ignored, with a traceback, and go on."""
    called = []

    def callback(reference: object) -> None:
        called.append(reference)
        signal.raise_signal(number)

    def measure(*_: Any, **__: Any) -> Iterator[Any]:
        held = type("Held", (), {})()
        reference = weakref.ref(held, callback)
        del held
        assert called == [reference]
        time.sleep(60)
        yield

    monkeypatch.setattr(bench, "measure", measure)
    done = call(*SHORT)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"decidable bench: {says}\n")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_before_the_arguments_are_read_is_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, number: int, code: int, says: str
) -> None:
    """From the first handler on, there is a line."""
    monkeypatch.setattr(cli, "_parser", lambda: signal.raise_signal(number))
    done = call(*SHORT)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"decidable: {says}\n")


def test_a_program_that_imports_the_library_is_interrupted_as_it_chose(tmp_path: Path) -> None:
    """Importing changes no handler, and neither does running a command line in the program."""
    program = tmp_path / "program.py"
    program.write_text(
        "import signal\nfrom decidable import cli\n"
        "def handlers(): return [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
        "assert handlers() == [signal.default_int_handler, signal.SIG_DFL]\n"
        "assert cli.main(['verify', 'nothing']) == 2\n"
        "assert handlers() == [signal.default_int_handler, signal.SIG_DFL]\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, env=environment(), check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


# A shell whose commands ignore both signals, as `nohup` and a job of a script in the background have them ignored.
IGNORING = ["/bin/sh", "-c", 'trap "" INT TERM; exec "$@"', "sh"]


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    "command", [[SCRIPT], [sys.executable, "-m", "decidable"], [sys.executable, "-m", "decidable.cli"]]
)
def test_a_signal_that_is_ignored_does_not_end_the_import(tmp_path: Path, command: list[str | Path]) -> None:
    """Whoever started the command has chosen so."""
    (tmp_path / "numpy.py").write_text(
        "import pathlib, sys, time\nopen('importing', 'w').close()\n"
        "while not pathlib.Path('signalled').exists(): time.sleep(0.01)\nsys.exit(7)\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [*IGNORING, *command, "--help"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    appears(tmp_path, "importing")
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    (tmp_path / "signalled").touch()
    errors = errors_of(process)
    assert (process.returncode, errors) == (7, "")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_signal_that_is_ignored_does_not_end_the_command(tmp_path: Path) -> None:
    """It goes on to its end, with its exit code."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    with subprocess.Popen(
        [*IGNORING, sys.executable, "-m", "decidable.cli", "guard", "rules.toml"],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"first ")
        process.stdin.flush()
        assert os.read(process.stdout.fileno(), 100) == b"first "
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        rest, errors = process.communicate(b"second", timeout=60)
    assert (process.returncode, rest, errors) == (0, b"second", b"")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["verify", "nothing"], 2)])
def test_a_signal_while_the_interpreter_comes_down_changes_no_exit_code(
    tmp_path: Path, number: int, arguments: list[str], code: int
) -> None:
    """What the command did is done, and what it said is said."""
    # What is registered before anything of ours is imported runs when everything of ours has come down.
    (tmp_path / "sitecustomize.py").write_text(
        f"import atexit, os\natexit.register(lambda: (os.kill(os.getpid(), {int(number)}), print('last')))\n",
        encoding="utf-8",
    )
    done = run(*arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, "last")
    assert "interrupted" not in done.stderr
    assert "terminated" not in done.stderr


NEVER_AWAITED = """
import signal, sys
from decidable import bench, cli

held = []

async def something():
    pass

def measure(*_, **__):
    held.append(something())
    signal.raise_signal(NUMBER)
    yield

bench.measure = measure
code = cli.main(sys.argv[1:])
held.clear()
sys.exit(code)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_between_making_a_coroutine_and_awaiting_it_is_one_line(
    tmp_path: Path, number: int, code: int, says: str
) -> None:
    """Nobody is told that it was never awaited."""
    done = subprocess.run(
        [sys.executable, "-c", NEVER_AWAITED.replace("NUMBER", str(int(number))), *SHORT],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"decidable bench: {says}\n")


# --- bench --------------------------------------------------------------------------------------------------------

SHORT = ["bench", "--sizes", "4", "--workloads", "real", "--rounds", "3", "--milliseconds", "1"]


@pytest.fixture
def no_peer(tmp_path: Path) -> dict[str, str]:
    """An environment in which the reference implementation is not installed."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "calybris.py").write_text('raise ImportError("calybris is not installed")\n', encoding="utf-8")
    return {"PYTHONPATH": str(hidden)}


@pytest.mark.skipif(bench.peer() is None, reason="the reference implementation is not installed here")
def test_bench_tells_both_sides_and_their_ratio(tmp_path: Path) -> None:
    """Times of both, the ratio beside them, the machine, the versions, and that both decided alike."""
    done = run(*SHORT, "--threads", 2, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told.keys() == {
        "agreed_decisions", "date", "machine", "milliseconds", "results", "rounds", "threads", "versions", "whole",
    }  # fmt: skip
    assert told["versions"] == {"decidable": dc.__version__, "calybris": "1.3.0"}
    assert told["machine"].keys() == {"processor", "cores", "vectors", "system", "python"}
    assert told["machine"]["vectors"] in {"plain", "sse4.2", "neon", "avx2", "avx512"}
    assert (told["agreed_decisions"], told["threads"], told["whole"]) == (4_096, 2, True)
    for each in told["results"]:
        assert each.keys() == {"candidates", "workload", "what", "ours_ns", "peer_ns", "ratio", "rounds"}
        assert each["ours_ns"] > 0
        assert each["rounds"] == 3
        assert (each["peer_ns"] is None) == (each["ratio"] is None)
    assert [(each["candidates"], each["workload"]) for each in told["results"]] == [(4, "real")] * 11 + [(None, None)]
    assert [each["what"] for each in told["results"] if each["peer_ns"] is None] == ["digests"]
    assert "batch, threads=2" in [each["what"] for each in told["results"]]


@pytest.mark.skipif(bench.peer() is None, reason="the reference implementation is not installed here")
def test_bench_in_words(tmp_path: Path) -> None:
    """A heading and one table, a row for each comparison."""
    done = run(*SHORT, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4,096 decisions are the same on both sides, digests too, bit for bit" in done.stdout
    (header,) = [line for line in done.stdout.splitlines() if line.lstrip().startswith("what ")]
    assert header.split() == ["what", "ours", "ns", "peer", "ns", "ratio"]
    assert re.search(r"^  4 candidates, real$", done.stdout, re.MULTILINE)
    assert re.search(r"^    single call +[\d,.]+ +[\d,.]+ +\d+\.\d\d x$", done.stdout, re.MULTILINE)
    assert re.search(r"^    reserve and commit +[\d,.]+ +[\d,.]+ +\d+\.\d\d x$", done.stdout, re.MULTILINE)


def test_bench_without_the_peer_says_how_to_install_it(tmp_path: Path, no_peer: dict[str, str]) -> None:
    """Our figures stand alone."""
    done = run(*SHORT, cwd=tmp_path, **no_peer)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install calybris==1.3.0" in done.stdout
    assert "4,096 decisions are the same in batches and one by one" in done.stdout
    assert re.search(r"^    single call +[\d,.]+$", done.stdout, re.MULTILINE)
    assert "ratio" not in done.stdout
    told = json.loads(run(*SHORT, "--json", cwd=tmp_path, **no_peer).stdout)
    assert told["versions"]["calybris"] is None
    assert {(each["peer_ns"], each["ratio"]) for each in told["results"]} == {(None, None)}


def test_another_version_of_the_peer_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are those of one version."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.4.0")
    assert bench.peer() is None


def test_bench_measures_nothing_where_the_sides_decide_differently(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code of evidence that does not hold, and the request."""

    def differ(work: bench.Workload, peer: bench.Peer | None) -> int:
        raise VerificationError("bench.differs", "request 7: a batch and the peer disagree", workload=work.name, row=7)

    monkeypatch.setattr(bench, "agree", differ)
    done = call(*SHORT, "--json")
    assert (done.returncode, code_of(done)) == (1, "bench.differs")
    assert done.stderr == "decidable bench: request 7: a batch and the peer disagree\n"


def test_bench_that_is_interrupted_shows_what_is_done(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rounds of the part that was under way as well; before the first there is nothing to show."""
    measure, calls = bench.measure, []

    def interrupted(comparisons: Sequence[bench.Comparison], **plan: Any) -> Iterator[Mapping[bench.Side, float]]:
        calls.append(comparisons)
        for number, taken in enumerate(measure(comparisons, **plan)):
            if len(calls) > parts and number == 1:
                raise KeyboardInterrupt
            yield taken

    monkeypatch.setattr(bench, "measure", interrupted)
    parts = 1
    done = call(*SHORT)
    assert (done.returncode, done.stderr) == (130, "decidable bench: interrupted\n")
    assert "single call" in done.stdout
    assert "reserve and commit" in done.stdout
    assert done.stdout.endswith("interrupted: only what was measured until then\n")
    calls.clear()
    told = json.loads(call(*SHORT, "--json").stdout)
    assert not told["whole"]
    assert {(each["what"] == "reserve and commit", each["rounds"]) for each in told["results"]} == {
        (False, 3),
        (True, 1),
    }
    monkeypatch.setattr(bench, "measure", lambda *_, **__: iter(lambda: signal.raise_signal(signal.SIGINT), 0))
    done = call(*SHORT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "decidable bench: interrupted\n")


# --- verify, report, export ---------------------------------------------------------------------------------------


def test_verify_says_what_is_established_and_what_is_not(shown: Path) -> None:
    """With everything that was kept, and with nothing."""
    kept = run("verify", "demo/state", "--head", "demo/head.json", "--key-file", "demo/wal.key", cwd=shown)
    assert (kept.returncode, kept.stderr) == (0, "")
    assert "contains the head" in kept.stdout
    assert "seal of the key" in kept.stdout
    bare = json.loads(run("verify", "demo/state", "--json", cwd=shown).stdout)
    assert any("no head was given" in each for each in bare["not_established"])
    assert any("no key was given" in each for each in bare["not_established"])
    assert bare["records"] == bare["head"]["seq"]


@pytest.mark.parametrize("ended", ["closed", "killed", "opened again"])
def test_verify_lists_open_tickets_with_their_states(here: Path, ended: str) -> None:
    """In doubt where the session has ended; open where the log does not say so. Ten are listed, and JSON has all."""
    policy = dc.Catalog.load(here / "policy.json").policy()
    engine = dc.Engine.open(here / "state", policy=policy, sync="none")
    engine.ledger.open_account("acme", 10**6)
    for _ in range(12):
        engine.decide(dc.Request(**REQUEST), account="acme")
    log = here / "state"
    if ended == "closed":
        engine.close()
    else:
        # As after a kill: what was written is there, and nothing says that the session ended.
        log = Path(shutil.copytree(here / "state", here / "killed", ignore=shutil.ignore_patterns("lock*")))
        engine.close()
    if ended == "opened again":
        with dc.Engine.open(log, policy=policy) as again:
            again.decide(dc.Request(**REQUEST), account="acme")
            shutil.copytree(log, here / "again", ignore=shutil.ignore_patterns("lock*"))
        log = here / "again"
    told = json.loads(run("verify", log, "--json", cwd=here).stdout)["open_tickets"]
    states = ["open"] * 12 if ended == "killed" else ["in_doubt"] * 12
    if ended == "opened again":
        states.append("open")
    assert [each["state"] for each in told] == states
    printed = run("verify", log, cwd=here).stdout.splitlines()
    shown = [line.strip() for line in printed if line.startswith("    ")]
    hold = f"{told[0]['hold_microunits'] / 10**6:.6f}"
    assert shown[0] == f"ticket 1, {states[0].replace('_', ' ')}: {hold} held of acme, record {told[0]['seq']}"
    assert shown[10:] == [f"… and {len(states) - 10} more"]


def test_verify_says_that_decisions_without_a_policy_were_not_re_derived(vectors: Path, tmp_path: Path) -> None:
    """Plainly, and what to give: `every record holds` alone would be taken for more."""
    done = run("verify", vectors / "log_plain.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    first, *rest = done.stdout.splitlines()
    entries = len((vectors / "log_plain.jsonl").read_text(encoding="utf-8").splitlines())
    assert first.endswith(f"log_plain.jsonl: every record holds, 0 of {entries} decisions re-derived")
    assert any("re-derived: --policy FILE gives a policy" in line for line in rest)
    reported = run("report", vectors / "log_plain.jsonl", "--json", cwd=tmp_path)
    assert reported.returncode == 3
    assert f"0 of {entries} decisions re-derived" in " ".join(json.loads(reported.stdout)["reasons"])


def test_policies_that_do_not_fit_are_3(vectors: Path, tmp_path: Path, here: Path) -> None:
    """Whoever gives policies asks for decisions to be derived; where none or not all were, that is said."""
    policies = (vectors / "policies.jsonl").read_text(encoding="utf-8").splitlines()
    fitting, other = (json.loads(policies[number]) for number in (11, 12))
    for name, each in (("fitting.json", fitting), ("other.json", other)):
        each.pop("policy_digest")
        (tmp_path / name).write_text(json.dumps(each), encoding="utf-8")
    log = vectors / "log_plain.jsonl"
    for given, says in (
        (["other.json"], "they were made under another policy than the one given"),
        (["other.json", "policy.json"], "they were made under none of the policies given"),
    ):
        options = [part for name in given for part in ("--policy", name)]
        done = run("verify", log, *options, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (3, f"{log}: 0 of 200 decisions re-derived: {says}\n")
        told = json.loads(run("verify", log, *options, "--json", cwd=tmp_path).stdout)
        assert (told["rederived"], told["decisions"]) == (0, 200)
        assert told["missing_policies"] == [dc.Catalog.load(tmp_path / "fitting.json").policy().shared_digest().hex()]
        assert run("report", log, *options, "--json", cwd=tmp_path).returncode == 3
    done = run("verify", log, "--policy", "other.json", "--policy", "fitting.json", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["rederived"], told["decisions"], told["missing_policies"]) == (200, 200, [])


@pytest.mark.parametrize(
    "contents",
    [b"\n", b"\x00\xff\n", b"a = 1\n", b"<html>\n", b"import os\n", b'{"a":1}\n', b'{\n "a": 1\n}\n', b"[1]\n"],
)
def test_a_file_that_is_no_log_is_2_and_a_damaged_one_1(
    vectors: Path, tmp_path: Path, call: Call, contents: bytes
) -> None:
    """1 accuses whoever kept the log; a mistaken name does not deserve it, and damage does."""
    (tmp_path / "file").write_bytes(contents)
    for command in ("verify", "report"):
        done = call(command, "file", "--json")
        assert (done.returncode, code_of(done)) == (2, "exchange.no_log"), done.stderr
    entries = (vectors / "log_plain.jsonl").read_bytes().splitlines(keepends=True)
    # Behind more than one part of what is read at once, too.
    for damaged in (contents + b"".join(entries[1:]), contents[:1] * (1 << 20) + b"\n" + entries[1]):
        (tmp_path / "file").write_bytes(damaged)
        assert call("verify", "file").returncode == 1


def test_an_empty_name_is_no_file(call: Call) -> None:
    """It is often a variable that was never set, and never means the current directory."""
    for arguments in (
        ["verify", ""],
        ["report", ""],
        ["report", "log", "-o", ""],
        ["export", "log", "-o", ""],
        ["route", "gpt-5", "--input-tokens", "1", "--state", "", "--catalog", "policy.json"],
        ["decide", "", "request.json"],
        ["demo", "--out", ""],
        ["verify", "log", "--save-head", ""],
    ):
        done = call(*arguments)
        assert done.returncode == 2, arguments
        assert len(done.stderr.splitlines()) == 1


def test_a_report_goes_to_standard_output_too(shown: Path, tmp_path: Path) -> None:
    """The same page, and what it concludes on standard error."""
    state, kept = shown / "demo" / "state", ["--head", shown / "demo" / "head.json"]
    assert run("report", state, *kept, "-o", "kept.html", cwd=tmp_path).returncode == 0
    done = run("report", state, *kept, "-o", "-", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, f"{state}: the log holds\n")
    assert done.stdout == (tmp_path / "kept.html").read_text(encoding="utf-8")
    bare = run("report", state, "-o", "-", cwd=tmp_path)
    assert (bare.returncode, bare.stderr.splitlines()[0]) == (3, f"{state}: cannot conclude")
    assert "nothing to verify against" in bare.stderr
    assert run("report", state, "-o", "-", "--json", cwd=tmp_path).returncode == 2
    assert [each.name for each in tmp_path.iterdir()] == ["kept.html"]


def test_a_report_that_cannot_conclude_is_3(shown: Path, tmp_path: Path) -> None:
    """The page is written; only one that holds is 0."""
    state, kept = shown / "demo" / "state", ["--head", shown / "demo" / "head.json"]
    assert run("report", state, *kept, "-o", "kept.html", cwd=tmp_path).returncode == 0
    bare = run("report", state, "-o", "bare.html", "--json", cwd=tmp_path)
    assert (bare.returncode, json.loads(bare.stdout)["verdict"]) == (3, "cannot-conclude")
    assert (tmp_path / "bare.html").exists()


def test_one_of_a_thing_is_one(here: Path) -> None:
    """No `1 decisions`, wherever a log of one of each is told."""
    policy = dc.Catalog.load(here / "policy.json").policy()
    with dc.Engine.open(here / "state", policy=policy) as engine:
        engine.ledger.open_account("acme", 10**6)
        with engine.decide(dc.Request(**REQUEST), account="acme") as ticket:
            ticket.settle(cost_microunits=1)
        engine.decide(dc.Request(**REQUEST | {"risk_bps": 9_800}))
    told = [
        run(*command, cwd=here).stdout
        for command in (
            ["verify", "state"],
            ["export", "state", "-o", "out.jsonl"],
            ["verify", "out.jsonl", "--policy", "policy.json"],
            ["verify", "out.jsonl"],
            ["explain", "state", 1],
            ["report", "state"],
            ["report", "out.jsonl", "-o", "lines.html"],
        )
    ] + [re.sub(r"<[^>]*>", " ", (here / name).read_text("utf-8")) for name in ("report.html", "lines.html")]
    for text in told:
        assert not re.findall(
            r"(?<![\d.,/])1 (?:decisions|accounts|settlements|records|entries|refusals|bytes|rows)", text
        )
    assert "1 decision follows from its policy and request" in told[0]
    assert "1 account, 1 settlement," in told[0]
    assert "1 decision (" in told[1]
    assert "1 entry forms one unbroken chain" in told[2]
    assert "0 of 1 decision re-derived" in told[3]


def test_verify_saves_the_head(shown: Path, tmp_path: Path) -> None:
    """It is the one that the engine had when it closed."""
    done = run("verify", shown / "demo" / "state", "--save-head", "head.json", cwd=tmp_path)
    assert done.returncode == 0
    saved = json.loads((tmp_path / "head.json").read_text(encoding="utf-8"))
    assert saved == json.loads((shown / "demo" / "head.json").read_text(encoding="utf-8"))


def test_a_changed_byte_is_1(log: Path, tmp_path: Path) -> None:
    """verify, report and explain all say so, with the place."""
    whole = bytearray(segment(log).read_bytes())
    whole[len(whole) // 2] ^= 0x04
    segment(log).write_bytes(whole)
    done = run("verify", "demo/state", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert {"code", "message", "offset"} <= json.loads(done.stdout)["error"].keys()
    assert len(done.stderr.splitlines()) == 1
    for number in (1, 400):
        explained = run("explain", "demo/state", number, cwd=tmp_path)
        assert (explained.returncode, explained.stdout) == (1, "")
        assert re.search(r"\(.*byte \d+", explained.stderr)
    assert run("export", "demo/state", "-o", "out.csv", "--format", "csv", cwd=tmp_path).returncode == 1
    assert not (tmp_path / "out.csv").exists()
    done = run("report", "demo/state", "-o", "report.html", cwd=tmp_path)
    assert done.returncode == 1
    assert "does not hold" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_unfinished_tail_is_3_and_a_cut_head_is_1(log: Path, tmp_path: Path) -> None:
    """The last batch without its last bytes; the head that was kept shows that something is missing."""
    size = segment(log).stat().st_size
    os.truncate(segment(log), size - 7)
    done = run("verify", "demo/state", "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["tail"]["bytes"] > 0
    words = run("verify", "demo/state", cwd=tmp_path)
    assert words.returncode == 3
    assert "unfinished tail" in words.stdout
    assert run("report", "demo/state", cwd=tmp_path).returncode == 3
    for form, empty in (("json-lines", 0), ("csv", 1)):
        whole = run("export", "demo/state", "--format", form, cwd=tmp_path)
        assert whole.returncode == 3
        assert "unfinished bytes: what is before them holds" in whole.stderr
        assert len(whole.stdout.splitlines()) > empty
        written = run("export", "demo/state", "--format", form, "-o", form, "--json", cwd=tmp_path)
        assert (written.returncode, json.loads(written.stdout)["tail"]["bytes"] > 0) == (3, True)
        assert (tmp_path / form).read_text(encoding="utf-8").splitlines() == whole.stdout.splitlines()
    assert run("verify", "demo/state", "--head", "demo/head.json", cwd=tmp_path).returncode == 1


def test_a_wrong_key_is_2(log: Path, tmp_path: Path) -> None:
    """Another key, and one that is too short."""
    (tmp_path / "other.key").write_bytes(bytes(range(32)))
    (tmp_path / "short.key").write_bytes(b"short")
    for name in ("other.key", "short.key"):
        for command in (["verify", "demo/state"], ["report", "demo/state"], ["explain", "demo/state", "1"]):
            done = run(*command, "--key-file", name, cwd=tmp_path)
            assert done.returncode == 2, (command, name)
            assert "key" in done.stderr


def test_json_lines_logs_verify_alike(vectors: Path, tmp_path: Path) -> None:
    """Plain and keyed, with policy and anchor; one changed digit is 1, a torn last line 3."""
    anchored = json.loads((vectors / "log_keyed.jsonl.anchor.json").read_text(encoding="utf-8"))
    policy = json.loads((vectors / "policies.jsonl").read_text(encoding="utf-8").splitlines()[anchored["policy"]])
    policy.pop("policy_digest")
    (tmp_path / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    (tmp_path / "key").write_bytes(bytes.fromhex(anchored["key_hex"]))
    for name, key in (("log_plain.jsonl", []), ("log_keyed.jsonl", ["--key-file", "key"])):
        given = ["--policy", "policy.json", "--head", vectors / f"{name}.anchor.json", *key]
        done = run("verify", vectors / name, *given, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["decisions"] == 200
        assert "What was held, spent or owed: the format has no accounts." in json.loads(done.stdout)["not_established"]
        report = run("report", vectors / name, *given, "-o", f"{name}.html", "--json", cwd=tmp_path)
        assert json.loads(report.stdout)["verdict"] == "holds"
    whole = (vectors / "log_plain.jsonl").read_text(encoding="utf-8")
    (tmp_path / "torn.jsonl").write_text(whole[:-9], encoding="utf-8")
    assert run("verify", "torn.jsonl", cwd=tmp_path).returncode == 3
    changed = whole.replace('"input_tokens":7', '"input_tokens":8', 1)
    (tmp_path / "changed.jsonl").write_text(changed, encoding="utf-8")
    assert run("verify", "changed.jsonl", cwd=tmp_path).returncode == 1


def test_explain_finds_a_request_in_a_log(shown: Path, vectors: Path, tmp_path: Path) -> None:
    """By the policy that our log carries, or the one that is given for a JSON-lines log."""
    done = run("explain", shown / "demo" / "state", "7", "--json", cwd=tmp_path)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    (record,) = (
        record for record in dc.read(shown / "demo" / "state", kind="decision") if record.request_sequence == 7
    )
    assert answer["log"]["seq"] == record.seq
    assert answer["digests"]["decision"] == record.decision.digest().hex()
    assert "in the log" in run("explain", shown / "demo" / "state", "7", cwd=tmp_path).stdout
    assert code_of(run("explain", shown / "demo" / "state", "401", "--json", cwd=tmp_path)) == "cli.unknown_request"
    bare = run("explain", vectors / "log_plain.jsonl", "3", "--json", cwd=tmp_path)
    assert code_of(bare) == "cli.missing_policy"
    policy = json.loads((vectors / "policies.jsonl").read_text(encoding="utf-8").splitlines()[11])
    policy.pop("policy_digest")
    (tmp_path / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    given = run("explain", vectors / "log_plain.jsonl", "3", "--policy", "policy.json", cwd=tmp_path)
    assert given.returncode == 0
    assert "in place of model 61" in given.stdout


def test_a_request_above_the_safety_ceiling_has_no_explanation(tmp_path: Path) -> None:
    """No policy was read, so no policy can explain it."""
    with dc.Engine.open(tmp_path / "state", policy=demo.policy()) as engine:
        engine.decide(dc.Request(input_tokens=1, output_tokens=1, risk_bps=9_900))
    done = run("explain", "state", "1", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert code_of(done) == "cli.nothing_to_explain"


@pytest.mark.parametrize(
    "command", ["verify state", "report state", "export state", "export state --format csv", "explain state 1"]
)
def test_a_log_whose_segment_is_gone_does_not_hold(shown: Path, tmp_path: Path, call: Call, command: str) -> None:
    """It is no mistyped name: a log was there."""
    shutil.copytree(shown / "demo" / "state", tmp_path / "state")
    for segment in (tmp_path / "state").glob("*.seg"):
        segment.unlink()
    done = call(*command.split())
    assert done.returncode == 1, done.stderr
    assert "a log was here" in done.stderr


def test_damage_is_told_with_the_name_of_the_log(shown: Path, tmp_path: Path, call: Call) -> None:
    """In a loop over many logs, too."""
    shutil.copytree(shown / "demo" / "state", tmp_path / "state")
    (segment,) = (tmp_path / "state").glob("*.seg")
    whole = segment.read_bytes()
    segment.write_bytes(whole[:5_000] + bytes([whole[5_000] ^ 1]) + whole[5_001:])
    done = call("verify", "state", "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("decidable verify: state: ")
    assert json.loads(done.stdout)["error"]["path"] == "state"
    done = call("report", "state")
    assert (done.returncode, done.stderr.startswith("decidable report: state: ")) == (1, True)


@pytest.mark.parametrize("said", [True, 0, -1, 99])
def test_a_stream_that_says_of_a_write_what_cannot_be_is_a_fault(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what is written is taken for written, and nobody waits for ever."""

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> Any:
            return said

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Raw()), encoding="utf-8"))
    with standard_streams():
        sys.stdout.write("told")
        with pytest.raises(OSError, match="a write of 4 bytes says that it took"):
            sys.stdout.flush()


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("options", [["verify", "pipe"], ["verify", "log", "--key-file", "pipe"], ["report", "pipe"]])
@pytest.mark.parametrize("is_open", [False, True])
def test_whoever_waits_for_a_pipe_can_be_interrupted(
    vectors: Path, tmp_path: Path, options: list[str], number: int, code: int, says: str, is_open: bool
) -> None:
    """Before somebody writes, and while nobody does: a key may come of a login that waits."""
    os.mkfifo(tmp_path / "pipe")
    shutil.copy(vectors / "log_keyed.jsonl", tmp_path / "log")
    process = subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", *options],
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    if is_open:
        # It opens when the command does.
        writer = os.open(tmp_path / "pipe", os.O_WRONLY)
    else:
        time.sleep(1)
    time.sleep(0.2)
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, errors) in {
        (code, f"decidable {options[0]}: {says}\n"),
        (code, f"decidable: {says}\n"),
    }
    if is_open:
        os.close(writer)


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_a_log_and_a_key_may_come_through_pipes(vectors: Path, tmp_path: Path) -> None:
    """In pieces, with the answer of the files themselves."""
    anchored = json.loads((vectors / "log_keyed.jsonl.anchor.json").read_text(encoding="utf-8"))
    log, key = vectors / "log_keyed.jsonl", tmp_path / "key"
    key.write_bytes(bytes.fromhex(anchored["key_hex"]))
    plain = run("verify", log, "--key-file", key, "--json", cwd=tmp_path)
    for source, arguments in ((log, ["/dev/stdin", "--key-file", key]), (key, [log, "--key-file", "/dev/stdin"])):
        command = shlex.join(map(str, [sys.executable, "-m", "decidable.cli", "verify", *arguments, "--json"]))
        piped = subprocess.run(
            ["/bin/sh", "-c", f"cat {shlex.quote(str(source))} | {command}"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (piped.returncode, piped.stdout) == (plain.returncode, plain.stdout), piped.stderr


def test_an_export_is_not_written_into_a_log(shown: Path, tmp_path: Path, call: Call) -> None:
    """A file there could be taken for a part of the log, and the log be refused."""
    log = tmp_path / "state"
    shutil.copytree(shown / "demo" / "state", log)
    for options in ([], ["--format", "csv"]):
        done = call("export", log, "-o", log / "00000000000000000002.seg", *options, "--json")
        assert (done.returncode, code_of(done)) == (2, "cli.protected")
    with pytest.raises(dc.InvalidInput) as caught:
        dc.export(log, log / "quarantine" / "log.jsonl")
    assert caught.value.code == "export.in_a_log"
    assert run("verify", log, cwd=tmp_path).returncode == 0


def test_a_plain_log_exports_to_json_lines(here: Path) -> None:
    """Ours in, the exchange format out, and it verifies under the same policy; nothing is overwritten."""
    policy = dc.Catalog.load(here / "policy.json").policy()
    with dc.Engine.open(here / "state", policy=policy) as engine:
        for _ in range(5):
            engine.decide(dc.Request(**REQUEST))
    done = run("export", "state", "-o", "log.jsonl", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["decisions"] == 5
    (here / "anchor.json").write_text(json.dumps(summary["anchor"]), encoding="utf-8")
    verified = run("verify", "log.jsonl", "--policy", "policy.json", "--head", "anchor.json", "--json", cwd=here)
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["decisions"] == 5
    assert code_of(run("export", "state", "-o", "log.jsonl", "--json", cwd=here)) == "cli.exists"


def test_csv_has_every_decision_and_settlement(shown: Path, tmp_path: Path) -> None:
    """One row each, with names, and as many as the log holds."""
    done = run("export", shown / "demo" / "state", "-o", "log.csv", "--format", "csv", cwd=tmp_path)
    assert done.returncode == 0
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = json.loads((shown / "demo.stdout").read_text(encoding="utf-8"))
    assert sum(row["event"] in ("decision", "refusal") for row in rows) == told["requests"]
    settled = [row for row in rows if row["event"] == "settlement"]
    assert sum(int(row["charged_microunits"]) for row in settled) == told["spent_microunits"]
    assert {row["account"] for row in settled} <= set(demo.accounts())


# --- what every command keeps to ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json-lines", "csv"])
def test_an_export_goes_to_standard_output_as_to_a_file(here: Path, shown: Path, form: str) -> None:
    """The same bytes, nothing else on standard output, and nothing on standard error."""
    log, *key = (shown / "demo" / "state", "--key-file", shown / "demo" / "wal.key")
    assert run("export", log, *key, "--format", form, "-o", "file", cwd=here).returncode == 0
    for output in ([], ["-o", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", "decidable.cli", "export", log, *key, "--format", form, *output],
            cwd=here, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == (here / "file").read_bytes()
    described = run("export", log, *key, "--format", form, "--json", cwd=here)
    assert (described.returncode, code_of(described)) == (2, "cli.usage")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("form", ["json-lines", "csv"])
def test_an_export_to_a_reader_that_goes_away_is_no_error(here: Path, shown: Path, form: str) -> None:
    """As `decidable export … | head -1`: the first line is there, and nothing is said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "export", shown / "demo" / "state", "--format", form],
        cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b"{" if form == "json-lines" else b"seq,time,")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_an_export_of_a_damaged_log_says_so_beside_the_lines(log: Path, tmp_path: Path) -> None:
    """Standard output has the lines that were verified before the damage; the error is one line elsewhere, and 1."""
    whole = run("export", log / "state", cwd=tmp_path).stdout
    file = segment(log)
    octets = bytearray(file.read_bytes())
    octets[len(octets) // 2] ^= 1
    file.write_bytes(octets)
    done = run("export", log / "state", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert whole.startswith(done.stdout)
    assert len(done.stdout) < len(whole)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a log and a policy full of names that try something."""
    model = dc.Model(
        model_id=1, quality_bps=9_000, input_cost_microunits_per_million_tokens=1,
        output_cost_microunits_per_million_tokens=1,
    )  # fmt: skip
    catalog = dc.Catalog([model], names=dc.Names(models={1: f"model {HOSTILE}"}))
    with dc.Engine.open(tmp_path / "state", policy=catalog.policy(objective="cheapest")) as engine:
        engine.ledger.open_account(HOSTILE_ACCOUNT, 10**9)
        with engine.decide(dc.Request(input_tokens=9, output_tokens=9), account=HOSTILE_ACCOUNT) as ticket:
            ticket.settle(input_tokens=9, output_tokens=9)
        engine.decide(dc.Request(input_tokens=9, output_tokens=9), account=HOSTILE_ACCOUNT)
    return tmp_path


def test_names_from_outside_are_escaped_everywhere(hostile: Path) -> None:
    """No control character, escape sequence or bidirectional control reaches a terminal, JSON, HTML or CSV."""
    run("report", "state", "-o", "report.html", cwd=hostile)
    run("export", "state", "-o", "log.csv", "--format", "csv", cwd=hostile)
    printed = [
        run("verify", "state", cwd=hostile).stdout,
        run("verify", "state", "--json", cwd=hostile).stdout,
        run("explain", "state", "1", cwd=hostile).stdout,
        run("verify", HOSTILE, cwd=hostile).stderr,
        run(HOSTILE, cwd=hostile).stderr,
        run("digest", "-", cwd=hostile, given=json.dumps({HOSTILE: 1})).stderr,
        run("decide", "-", "-", HOSTILE, cwd=hostile).stderr,
        run("route", HOSTILE, "--input-tokens", "1", cwd=hostile).stderr,
        (hostile / "report.html").read_text(encoding="utf-8"),
        (hostile / "log.csv").read_text(encoding="utf-8"),
    ]
    for text in printed:
        assert text
        assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "<script" not in printed[-2]
    with (hostile / "log.csv").open(encoding="utf-8", newline="") as file:
        accounts = {row["account"] for row in csv.DictReader(file)}
    assert accounts == {"'=cmd\\u202eevil<script>"}


def test_json_is_stable_and_ascii(shown: Path, here: Path) -> None:
    """The same command prints the same bytes, sorted."""
    for cwd, arguments in (
        (shown, ["verify", "demo/state"]),
        (here, ["decide", "policy.json", "request.json"]),
        (here, ["explain", "policy.json", "request.json"]),
        (here, ["digest", "policy.json", "request.json"]),
        (here, ["route", "gpt-5", "--input-tokens", "9"]),
    ):
        first, second = (run(*arguments, "--json", cwd=cwd) for _ in range(2))
        assert first.stdout == second.stdout
        assert first.stdout.isascii()
        assert first.stderr == ""
        document = json.loads(first.stdout)
        assert json.loads(json.dumps(document, sort_keys=True)) == document


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_reader_that_goes_away_is_no_error(here: Path) -> None:
    """As `| head -1`: the command stops, says nothing, and ends with 141."""
    (here / "many.jsonl").write_text((json.dumps(REQUEST) + "\n") * 20_000, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "decide", "policy.json", "many.jsonl", "--json"],
        cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_2(here: Path) -> None:
    """One line where that can be written, and never a traceback."""
    for arguments in (["decide", "policy.json", "request.json"], ["decide", "policy.json", "request.json", "--json"]):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            done = subprocess.run(
                [sys.executable, "-m", "decidable.cli", *arguments],
                cwd=here, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 2
            assert done.stderr == "decidable decide: standard output: no space left on device\n"
            silent = subprocess.run(
                [sys.executable, "-m", "decidable.cli", *arguments[:2], "nothing"],
                cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=full, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert (silent.returncode, silent.stdout) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"], ["--version"]])
def test_help_that_cannot_be_written_is_2(tmp_path: Path, arguments: list[str], unbuffered: str) -> None:
    """As any other output, whether Python holds it back first or not."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "decidable.cli", *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE,
            env=environment(PYTHONUNBUFFERED=unbuffered), text=True, check=False, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "decidable: standard output: no space left on device\n")


LINES = "".join(f"line {number} of what goes through the guard\n" for number in range(60_000))


@pytest.fixture
def much(here: Path, shown: Path) -> Path:
    """A folder with inputs whose outputs are larger than any pipe."""
    (here / "rules.toml").write_text(RULES, encoding="utf-8")
    (here / "lines").write_text(LINES, encoding="utf-8")
    (here / "requests.json").write_text((json.dumps(REQUEST) + "\n") * 1_000, encoding="utf-8")
    shutil.copytree(shown / "demo" / "state", here / "state")
    shutil.copy(shown / "demo" / "wal.key", here)
    return here


# Bytes, text, and bytes that are made elsewhere.
MUCH = [
    ["guard", "rules.toml", "lines"],
    ["decide", "policy.json", "requests.json", "--json"],
    ["export", "state", "--key-file", "wal.key"],
    ["report", "state", "--key-file", "wal.key", "-o", "-"],
]


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", MUCH)
def test_standard_output_that_does_not_block_gets_all(much: Path, arguments: list[str], unbuffered: str) -> None:
    """Whoever reads slowly is waited for, whatever the other end of the pipe was set to."""
    whole = subprocess.run(
        [sys.executable, "-m", "decidable.cli", *arguments], cwd=much, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, check=False, timeout=60,
    )  # fmt: skip
    assert len(whole.stdout) > 20_000
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", *arguments], cwd=much, stdout=writing, stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED=unbuffered), text=True,
    ) as process:  # fmt: skip
        os.close(writing)
        with open(reading, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor is no path
            got = file.read(1)
            time.sleep(0.3)
            while piece := file.read(4_096):
                got += piece
        errors = errors_of(process)
    assert (process.returncode, got == whole.stdout) == (whole.returncode, True), errors


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("arguments", MUCH[:2])
def test_a_signal_ends_a_command_whose_output_nobody_reads(much: Path, arguments: list[str], blocks: bool) -> None:
    """It waits for its reader no longer, and not once more for what is left."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocks)
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", *arguments],
        cwd=much, stdout=writing, stderr=subprocess.PIPE, env=environment(), text=True,
    ) as process:  # fmt: skip
        os.close(writing)
        # The first is there; the others fill the pipe at once.
        os.read(reading, 1)
        time.sleep(0.5)
        assert process.poll() is None
        process.terminate()
        errors = errors_of(process)
        os.close(reading)
    assert (process.returncode, errors) == (143, f"decidable {arguments[0]}: terminated\n")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of a file")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", MUCH)
def test_standard_output_that_takes_a_part_is_2(much: Path, arguments: list[str], unbuffered: str) -> None:
    """A disk that takes no more, were it of the last bytes, is told whether Python buffers or not."""
    import resource

    whole = subprocess.run(
        [sys.executable, "-m", "decidable.cli", *arguments], cwd=much, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, check=True, timeout=60,
    ).stdout  # fmt: skip
    most = len(whole) - 10
    with (much / "taken").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "decidable.cli", *arguments], cwd=much, stdout=file, stderr=subprocess.PIPE,
            env=environment(PYTHONUNBUFFERED=unbuffered), text=True, check=False, timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )  # fmt: skip
    says = f"decidable {arguments[0]}: standard output: file too large"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, says)
    assert (much / "taken").read_bytes() == whole[:most]


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
@pytest.mark.parametrize("arguments", [["guard", "rules.toml"], ["decide", "policy.json", "-", "--json"]])
def test_standard_input_that_does_not_block_is_read_to_its_end(much: Path, arguments: list[str]) -> None:
    """What has nothing yet is neither a fault nor the end."""
    text = json.dumps(REQUEST, indent=1).encode()
    whole = run(*arguments, cwd=much, given=text.decode())
    assert whole.returncode == 0
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", *arguments], cwd=much, env=environment(), stdin=reading,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        os.close(reading)
        with open(writing, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor is no path
            for piece in (text[:20], text[20:]):
                file.write(piece)
                time.sleep(1)
        got, errors = process.communicate(timeout=60)
    assert (process.returncode, got, errors) == (0, whole.stdout, "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of a file")
@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["export", "state", "-o", "out.jsonl"], "out.jsonl cannot be written: file too large"),
        (["export", "state", "-o", "out.csv", "--format", "csv"], "out.csv: file too large"),
        (["report", "state", "-o", "out.html"], "out.html: file too large"),
        (["verify", "state", "--save-head", "out.head"], "the head file out.head cannot be written: file too large"),
        (["demo", "--out", "out", "--limit", "9"], "out/wal.key: file too large"),
    ],
)
def test_a_disk_that_takes_no_more_is_told_with_the_name_of_the_file(
    here: Path, command: list[str], named: str
) -> None:
    """What is written is named as it was given, not as the part beside it."""
    import resource

    with dc.Engine.open(here / "state", policy=dc.Catalog.load(here / "policy.json").policy()) as engine:
        for _ in range(20):
            engine.decide(dc.Request(**REQUEST))
    done = subprocess.run(
        [sys.executable, "-m", "decidable.cli", *command], cwd=here, capture_output=True, text=True, check=False,
        env=environment(), timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"decidable {command[0]}: {named}\n"
    assert not list(here.glob("out.*")), "a half-written file was left"


def on_a_terminal(arguments: list[str], cwd: Path, *, errors: bool = False, code: int = 0, **changes: str) -> str:
    """What a command writes to a terminal of 200 columns, with its standard error or without."""
    pty = pytest.importorskip("pty")
    terminal, inside = pty.openpty()
    wide = environment(**{"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"} | changes)
    process = subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", *arguments],
        cwd=cwd,
        env=wide,
        stdin=subprocess.DEVNULL,
        stdout=inside,
        stderr=inside if errors else subprocess.DEVNULL,
    )
    os.close(inside)
    shown = b""
    while True:
        try:
            more = os.read(terminal, 65_536)
        except OSError:
            break
        if not more:
            break
        shown += more
    os.close(terminal)
    assert process.wait(timeout=120) == code
    return shown.decode()


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}])
def test_guard_says_what_it_found_on_a_line_of_its_own(tmp_path: Path, more: dict[str, str]) -> None:
    """Where the text before it stands on the same terminal and ends without one; and nothing more is said."""
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    noted, stopped = "decidable guard: 'note' noted once", "decidable guard: rule 'DROP TABLE' stopped it, at byte"
    broke_off = "the body broke off in the middle of an event"
    for text, code, shown in (
        ("a note", 0, f"a note\r\n{noted}\r\n"),
        ("a note\n", 0, f"a note\r\n{noted}\r\n"),
        ("abDROP TABLE", 1, f"ab\r\n{stopped} 2\r\n"),
        ("a\nb note\nDROP TABLE", 1, f"a\r\nb note\r\n{noted}\r\n{stopped} 9\r\n"),
        ("DROP TABLE", 1, f"{stopped} 0\r\n"),
        ("nothing", 0, "nothing"),
        # A body that breaks off.
        (event("a") + event("b")[:-9], 2, event("a").replace("\n", "\r\n") + f"decidable guard: {broke_off}\r\n"),
    ):
        (tmp_path / "text").write_text(text, encoding="utf-8")
        command = ["guard", "rules.toml", "text", *(["--sse"] if code == 2 else [])]
        assert on_a_terminal(command, tmp_path, errors=True, code=code, **more) == shown
    (tmp_path / "text").write_text("abDROP TABLE", encoding="utf-8")
    assert on_a_terminal(["guard", "rules.toml", "text"], tmp_path, code=1, **more) == "ab"
    assert run("guard", "rules.toml", "text", cwd=tmp_path).stderr == f"{stopped} 2\n"


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
def test_guard_says_how_it_ended_on_a_line_of_its_own(tmp_path: Path) -> None:
    """Also behind a signal."""
    pty = pytest.importorskip("pty")
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", "guard", "rules.toml"],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=inside, stderr=inside,
    ) as process:  # fmt: skip
        os.close(inside)
        assert process.stdin is not None
        process.stdin.write(b"some text")
        process.stdin.flush()
        shown = b""
        while len(shown) < 9:
            shown += os.read(terminal, 100)
        process.terminate()
        assert process.wait(timeout=60) == 143
        shown += os.read(terminal, 100)
    os.close(terminal)
    assert shown == b"some text\r\ndecidable guard: terminated\r\n"


def words(text: str) -> list[str]:
    """What a person reads: without escape sequences, rules and the spaces between."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return re.sub(r"[─━╸╺│-]+(?=\s|$)", " ", plain).split()


@pytest.fixture
def no_rich(tmp_path: Path) -> dict[str, str]:
    """An environment in which rich is not installed."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "rich.py").write_text('raise ImportError("rich is not installed")\n', encoding="utf-8")
    return {"PYTHONPATH": str(hidden)}


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
@pytest.mark.parametrize("command", [["verify", "demo/state"], ["explain", "demo/state", "7"]])
def test_rich_adds_colour_and_no_words(shown: Path, no_rich: dict[str, str], command: list[str]) -> None:
    """With it there are escape sequences, without it none; the words are the same, and NO_COLOR is respected."""
    pytest.importorskip("rich", reason="rich is not installed here")
    with_rich, without = on_a_terminal(command, shown), on_a_terminal(command, shown, **no_rich)
    plain = on_a_terminal(command, shown, NO_COLOR="1")
    assert "\x1b[" in with_rich
    assert "\x1b" not in without
    assert "\x1b" not in plain
    piped = run(*command, cwd=shown).stdout
    assert words(with_rich) == words(without) == words(plain) == words(piped)


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize(
    "command",
    [
        ["verify", "demo/state"],
        ["explain", "demo/state", "7"],
        ["demo", "--limit", "50"],
        ["bench", "--sizes", "4", "--workloads", "syn", "--rounds", "1"],
    ],
)
def test_a_narrow_terminal_breaks_lines_between_words(
    shown: Path, tmp_path: Path, no_rich: dict[str, str], command: list[str], columns: int
) -> None:
    """Only a word that is longer than the terminal goes beyond its edge; with rich, without, and in ASCII."""
    cwd = shown if command[0] != "demo" else tmp_path
    wide = run(*command, cwd=cwd).stdout
    for changes in ({}, no_rich, {"NO_COLOR": "1"}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}):
        told = on_a_terminal(command, cwd, **{"COLUMNS": str(columns)} | changes)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told)
        lines = [line.rstrip() for line in plain.replace("\r\n", "\n").split("\n")]
        beyond = [
            line for line in lines if len(line) > columns and len(line.split()) > 1 and "decidable verify" not in line
        ]
        assert not beyond
        assert told.isascii() or changes.get("PYTHONIOENCODING") != "ascii"
        if command[0] not in ("demo", "bench"):
            assert set(words(wide)) <= set(words(told)) | {"model", "account"}, set(words(wide)) - set(words(told))
    assert run(*command, cwd=cwd, COLUMNS="40").stdout.splitlines()[1:4] == wide.splitlines()[1:4]


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
def test_progress_is_for_terminals_only(tmp_path: Path, no_rich: dict[str, str]) -> None:
    """It moves on a terminal, with rich and without, and is silent with --json and TERM=dumb."""
    label = "deciding, every record durable before its answer"
    command = ["demo", "--limit", "4000"]
    plain = on_a_terminal(command, tmp_path, errors=True, **no_rich)
    assert label in plain
    assert "\x1b" not in plain
    assert label in on_a_terminal(command, tmp_path, errors=True)
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "40"}
    assert "of 8,000" in (narrow := on_a_terminal(command, tmp_path, errors=True, **ascii_only))
    assert "\\u" not in narrow
    assert max(map(len, re.findall(r"\r([^\r\n]*)", narrow))) < 40
    assert label not in on_a_terminal([*command, "--json"], tmp_path, errors=True)
    assert "measuring" in on_a_terminal(SHORT, tmp_path, errors=True)
    assert "measuring  6 of 6" in on_a_terminal(SHORT, tmp_path, errors=True, **no_rich)
    assert label not in on_a_terminal(command, tmp_path, errors=True, **(no_rich | {"TERM": "dumb"}))


def test_output_survives_a_terminal_without_unicode(hostile: Path) -> None:
    """What the encoding cannot show is shown by its number."""
    done = run("verify", "state", cwd=hostile, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    (hostile / "snow☃.json").write_text("[]", encoding="utf-8")
    done = run("digest", "snow☃.json", cwd=hostile, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "\\u2603" in done.stderr
