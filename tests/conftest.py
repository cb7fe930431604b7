"""What every Python test shares: the settings of the property tests, and where things are."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sys
import sysconfig
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import codes
from model import random_cases

ROOT = Path(__file__).resolve().parent.parent

codes.watch()

# A script's job in the background has its interrupts ignored, and what it starts inherits that. Tests that send signals
# mean a process of which nobody has asked so.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

# A property test is judged by what it finds, not by how fast the machine is. Under CI the cases are the same each time,
# unless they are asked for from another seed on. (Hypothesis itself takes that from CI, so both are said.)
SAME = bool(os.environ.get("CI")) and not random_cases.ASKED
settings.register_profile(
    "decidable",
    derandomize=SAME,
    database=None if SAME else settings.get_profile("default").database,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("decidable")

# The reference implementation has no build for the free-threaded interpreter, and the libraries of tables and the
# clients not all; what needs one that is absent is left out there.
COMPARED = ("anthropic", "calybris", "langchain_core", "openai", "pandas", "polars", "pyarrow")
ABSENT = [name for name in COMPARED if importlib.util.find_spec(name) is None]
collect_ignore = [
    path.name
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if any(
        re.search(rf"^(from|import) {name}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        for name in (*ABSENT, *(["reference"] if "calybris" in ABSENT else []))
    )
]

# Where nothing may be missing, so that a test which is skipped or left out has failed.
COMPLETE = bool(os.environ.get("CI")) and sys.platform == "linux" and not sysconfig.get_config_var("Py_GIL_DISABLED")


def pytest_report_header() -> list[str]:
    """Says what is left out, and how to have the same random cases again."""
    left_out = f"absent: {', '.join(ABSENT)}; left out: {', '.join(collect_ignore)}" if ABSENT else "all present"
    alone = random_cases.ALONE
    seed = f"DECIDABLE_SEED={alone}" if alone else f"DECIDABLE_FIRST_SEED={random_cases.FIRST_SEED}"
    return [f"what is compared with: {left_out}", f"random cases: {seed}"]


LAST = "test_every_error_code_is_produced_by_a_test"
"""It looks at what all others have raised."""

WHOLE = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Notes whether all tests run, in this process. Under CI on Linux nothing that they compare with may be missing."""
    if COMPLETE and ABSENT:
        raise pytest.UsageError(f"under CI nothing may be missing, and there is no {', no '.join(ABSENT)}")
    given = {Path(argument).resolve() for argument in config.args}
    config.stash[WHOLE] = given <= {ROOT, ROOT / "tests"} and not collect_ignore and not hasattr(config, "workerinput")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the test that looks at the others behind them."""
    items.sort(key=lambda item: item.name == LAST)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """`-k`, `-m`, `--deselect`, `--lf`: then not all of them run."""
    for item in items:
        item.config.stash[WHOLE] = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI on Linux everything is there: a test that is skipped has failed. Elsewhere it is skipped, visibly."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skips(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same of a file that is skipped as a whole."""
    report = yield
    _refuse_skips(report)
    return report


def _refuse_skips(report: pytest.TestReport | pytest.CollectReport) -> None:
    if COMPLETE and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and under CI nothing may be missing: {reason}"


@pytest.fixture
def raised(request: pytest.FixtureRequest) -> set[tuple[str, str | None]]:
    """What the others have raised, by code and class; the test is skipped, visibly, where not all of them have run."""
    if not request.config.stash[WHOLE] or request.session.testsfailed:
        pytest.skip("takes the whole suite, passed, in one process")
    return codes.RAISED


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Where the reference implementation's answers are."""
    return ROOT / "tests" / "vectors"


@pytest.fixture(scope="session")
def browser() -> str:
    """A headless Chromium; the test is skipped, visibly, where there is none (`make setup-browser` installs it)."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium on this machine")
