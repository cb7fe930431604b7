"""Ten million decisions take the memory of their answer and a bounded rest (docs/batches.md)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# What a batch may take on each thread besides the arrays that it is given and the one that it returns, and for each
# quote; for each of those whose rows are decided at a time, so much more (docs/batches.md).
MEBIBYTES_A_THREAD = 2
BYTES_A_QUOTE = 20
MORE_AT_A_TIME = 32

# What rules that are refused may have taken: their limit, and what the last table was made from.
MOST_MEBIBYTES_OF_TABLES = 64 + 64

PROGRAM = """
import resource, sys
import numpy as np
import decidable as dc

def peak():
    if sys.platform == "linux":
        # What getrusage says begins with the peak of the process that started this one; here it is its own.
        status = open("/proc/self/status").read()
        return int(status[status.index("VmHWM:"):].split()[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10

def rows_of(count):
    rows = np.zeros(count, dtype=dc.REQUEST_DTYPE)
    rows["input_tokens"] = np.arange(count) % 50_000
    rows["output_tokens"] = 300
    rows["confidence_bps"] = 10_000
    rows["business_value_microunits"] = 10_000_000
    rows["budget_limit_microunits"] = 50_000
    rows["allowed_provider_mask"] = 2**64 - 1
    return rows

models = [
    dc.Model(
        model_id=number,
        quality_bps=5_000 + 100 * number,
        input_cost_microunits_per_million_tokens=100_000 * number,
        output_cost_microunits_per_million_tokens=400_000 * number,
    )
    for number in range(1, 23)
]
policy = dc.Policy(dc.Catalog(models))
"""

STREAMED = """
rows = rows_of(100_000)
policy.decide_batch(rows[:10])
before = peak()
decided = 0
for _ in range(100):
    decided += len(policy.decide_batch(rows, threads=2))
assert decided == 10_000_000
print(peak() - before - 100_000 * 65 / 2**20)
"""

AT_ONCE = """
# One row, seen ten million times: it takes no memory of its own.
rows = np.broadcast_to(rows_of(8)[7], 10_000_000)
policy.decide_batch(rows[:10])
before = peak()
decided = policy.decide_batch(rows, threads=2)
assert len(decided) == 10_000_000 and decided["selected_model_id"][-1] == decided["selected_model_id"][0] != 0
print(peak() - before - decided.nbytes / 2**20)
"""

EVERYTHING = """
count = 1_000_000
rows = np.broadcast_to(rows_of(8)[7], count)
counts, holds = np.zeros(count, dtype=dc.REJECTION_DTYPE), np.zeros(count, dtype=np.uint64)
gates, most = np.zeros((count, 22), dtype=np.uint8), np.broadcast_to(np.uint32(400), count)
quotes = np.zeros(count // 100, dtype=dc.QUOTE_DTYPE)
quotes["row"], quotes["model_id"] = np.arange(0, count, 100), 3
answers = dict(counts=counts, gates=gates, holds=holds)
policy.decide_batch(rows[:10], **{name: array[:10] for name, array in answers.items()})
before = peak()
decided = policy.decide_batch(rows, quotes=quotes, max_output_tokens=most, threads=2, **answers)
size = sum(array.nbytes for array in (decided, *answers.values()))
assert holds.all()
print(peak() - before - size / 2**20)
"""

MANY_MODELS = """
many = [
    dc.Model(
        model_id=number,
        quality_bps=9_000,
        input_cost_microunits_per_million_tokens=number,
        output_cost_microunits_per_million_tokens=number,
    )
    for number in range(1, 65_536)
]
policy = dc.Policy(dc.Catalog(many))
rows, gates = rows_of(1_500), np.zeros((1_500, 65_535), dtype=np.uint8)
policy.decide_batch(rows[:10], gates=gates[:10])
before = peak()
decided = policy.decide_batch(rows, gates=gates, threads=2)
print(peak() - before - (decided.nbytes + gates.nbytes) / 2**20)
"""

DIGESTS = """
rows = np.broadcast_to(rows_of(8)[7], 2_000_000)
dc.digest_batch(rows[:10])
before = peak()
digests = dc.digest_batch(rows, threads=2)
print(peak() - before - digests.nbytes / 2**20)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the standard library has no peak of memory there")
@pytest.mark.parametrize("task", [STREAMED, AT_ONCE, EVERYTHING, MANY_MODELS, DIGESTS])
def test_a_batch_takes_bounded_memory_besides_its_arrays(task: str) -> None:
    """Ten million decisions in arrays one after the other, and in one; with all answers; with the largest catalog."""
    done = subprocess.run([sys.executable, "-c", PROGRAM + task], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2 * MEBIBYTES_A_THREAD


def test_documents_say_what_is_measured() -> None:
    """The bounds that the other tests hold a batch to, wherever they are told."""
    told = Path("python/decidable/_native.pyi").read_text(), Path("docs/batches.md").read_text()
    for text in told:
        plain = " ".join(text.split())
        assert set(re.findall(r"(\d+) MiB for each thread", plain)) == {str(MEBIBYTES_A_THREAD)}
        assert set(re.findall(r"(\d+) bytes for each quote", plain)) == {str(BYTES_A_QUOTE)}
        assert set(re.findall(r"(\d+) more for each of those", plain)) == {str(MORE_AT_A_TIME)}
        assert "MB for each thread" not in plain


QUOTED = """
count, of_a_row = {count}, {of_a_row}
rows = np.broadcast_to(rows_of(8)[7], count // of_a_row)
# Every quote is for a model that the catalog lacks; they are in no order, and every second place of an array is one.
quotes = np.empty(2 * count, dtype=dc.QUOTE_DTYPE)[::2]
# A few at a time, as what is made on the way would count as a peak before.
for first in range(0, count, 1_000):
    there = slice(count - first - 1_000, count - first)
    quotes["row"][there] = np.arange(first, first + 1_000)[::-1] // of_a_row
    quotes["model_id"][there] = 1_000 + np.arange(first, first + 1_000) * 7 % of_a_row
    quotes["cost_microunits"][there] = 1
policy.decide_batch(rows[:10], threads=1, quotes=quotes[-of_a_row:])
before = peak()
decided = policy.decide_batch(rows, quotes=quotes, threads=1)
assert (decided["evaluated_models"] == 22).all()
print(peak() - before - decided.nbytes / 2**20)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the standard library has no peak of memory there")
@pytest.mark.parametrize(
    ("rows", "of_a_row", "at_a_time"),
    [(100_000, 20, 4_096 * 20), (4_000, 500, 4_000 * 500)],
    ids=["many pieces", "one piece"],
)
def test_a_quote_takes_as_many_bytes_as_is_said(rows: int, of_a_row: int, at_a_time: int) -> None:
    """Two millions of them, among many pieces and all in one: a bound for each, beside some for the thread."""
    count = rows * of_a_row
    task = QUOTED.format(count=count, of_a_row=of_a_row)
    done = subprocess.run([sys.executable, "-c", PROGRAM + task], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bytes_of_quotes = count * BYTES_A_QUOTE + at_a_time * MORE_AT_A_TIME
    assert bytes_of_quotes / 2 < float(done.stdout) * 2**20 < bytes_of_quotes + 4 * 2**20


REFUSED_A_THREAD = """
import pathlib, resource
rows, out = rows_of(40_000), np.empty(40_000, dtype=dc.DECISION_DTYPE)
expected = policy.decide_batch(rows, threads=1)
size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
# Room for a copy of the rows, and not for the stack of a thread as well.
limit = size + 40_000 * 70 + 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import threading
try:
    threading.Thread(target=int).start()
except RuntimeError:
    print("refused")
assert policy.decide_batch(rows, out=out, threads=65_535) is out
assert (out == expected).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_where_the_system_refuses_a_thread_the_others_do_its_part() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + REFUSED_A_THREAD], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "refused\n")


TABLES_THAT_DO_NOT_FIT = """
import resource, sys
from decidable import Guard, InvalidInput, Rule

def peak():
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10

# Each has a table of some megabytes, and together they share nothing.
rules = [Rule.regex(f"{chr(0x4e00 + n)}(?:a|b)*a(?:a|b){{16}}c", name=f"hard {n}") for n in range(60)]
Guard(rules[:1])
before = peak()
try:
    Guard(rules)
except InvalidInput as error:
    print(error.code, error.details["rule"], peak() - before, sep="|")
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the standard library has no peak of memory there")
def test_rules_whose_tables_do_not_fit_are_refused_at_the_limit() -> None:
    """Not after all were made: the rule is named at which the limit was reached, and little more was taken."""
    done = subprocess.run([sys.executable, "-c", TABLES_THAT_DO_NOT_FIT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, message = done.stdout.splitlines()
    code, rule, taken = told.split("|")
    assert code == "guard.too_large"
    assert message == f'rule "{rule}": with its table all of them take more than 67108864 bytes'
    assert 5 < int(rule.removeprefix("hard ")) < 30
    assert float(taken) < MOST_MEBIBYTES_OF_TABLES
