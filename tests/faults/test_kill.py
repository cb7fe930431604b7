"""A real writer, killed at a random moment: what it was told to be durable is in the log, and the whole log follows.

The kernel keeps what it took, so a kill alone leaves whole batches: where unfinished ends are wanted, the writer is
killed inside a write, of which half was done (`kill.c`). What a loss of power leaves is tried in
rust/decidable-wal/tests/crashes.rs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import decidable as dc
import ground
from faults import writer
from model import replay

LOGS = 10
PLAN = ("opening", "work", "work", "opening", "work")
"""Ten logs, each killed five times: a log that has survived a kill is gone on with and killed again."""

WRITER = Path(__file__).with_name("writer.py")
PATIENCE = 120

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")

Told = list[dict[str, Any]]


@dataclass
class Killed:
    """A run of the writer that ended in a kill."""

    told: Told
    """The steps that it told, in the order in which it did."""
    ready: bool
    """Whether the log was open by then."""
    complaint: str


def started(directory: Path, seed: str, keyed: bool, **environment: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, str(WRITER), str(directory), seed, "keyed" if keyed else "plain"]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path} | environment
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def ended(process: subprocess.Popen[bytes], lines: list[bytes], seed: str) -> Killed:
    """What a writer told before it was killed; a line that is not whole was not told."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines = lines + process.stdout.readlines()
    complaint = process.stderr.read().decode()
    assert process.wait() == -9, f"{seed}: {complaint}"
    told = [json.loads(line) for line in lines if line.endswith(b"\n")]
    operations = [step["op"] for step in told]
    assert operations[:1] in ([], ["opening"]), f"{seed}: {complaint}"
    return Killed(
        [step for step in told if step["op"] not in ("opening", "ready")], "ready" in operations, complaint.strip()
    )


def killed_after(moment: str, seconds: float, directory: Path, seed: str, keyed: bool, **environment: str) -> Killed:
    """Runs the writer and kills it so long after it began to open the log, or after it told its first step."""
    with started(directory, seed, keyed, **environment) as process:
        assert process.stdout is not None
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if json.loads(line)["op"] == ("opening" if moment == "opening" else "decide"):
                break
        killer = threading.Timer(seconds, process.kill)
        killer.start()
        run = ended(process, lines, seed)
        killer.join()
        watch.cancel()
    return run


def killed_at(library: Path, operation: str, number: int, directory: Path, seed: str, keyed: bool) -> Killed:
    """Runs the writer until so many operations on the log's files, and kills it in this one."""
    preloaded = {
        "LD_PRELOAD": str(library), "KILL_BELOW": str(directory), "KILL_OPERATION": operation, "KILL_AT": str(number),
    }  # fmt: skip
    with started(directory, seed, keyed, **preloaded) as process:
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        run = ended(process, [], seed)
        watch.cancel()
    assert run.complaint.startswith(f"killed at {operation}"), f"{seed}: {run.complaint}"
    return run


def begun(directory: Path) -> bool:
    """Whether the log is there at all: a new one is, from the moment its segment has its name."""
    return any(directory.glob("*.seg"))


def check(directory: Path, key: dc.Key | None, told: Told) -> replay.Books:
    """What was told is in the log, by number and contents, and the model agrees with every record."""
    records = list(dc.read(directory, key=key)) if begun(directory) else []
    books = ground.follow(records)
    by_seq = {record.seq: record for record in records}
    cancelled = {record.request_sequence for record in records if record.kind == "cancellation"}
    # Every top-up makes `initial` larger, so the figures after it name its record.
    topped_up = {
        (record.account, ground.figures(record.balance)): record.amount_microunits
        for record in records
        if record.kind == "top_up"
    }
    accounts = {record.account: record.initial_microunits for record in records if record.kind == "account"}
    for step in told:
        match step["op"]:
            case "account":
                assert accounts[step["account"]] == step["initial"]
            case "decide":
                record = by_seq[step["seq"]]
                assert record.request_sequence == step["number"]
                assert (record.account, record.private) == (step["asked"]["account"], step["asked"]["metadata"])
                if step["refusal"] == "safety_ceiling":
                    assert record.kind == "refusal"
                    continue
                assert record.kind == "decision"
                if step["refusal"] is None:
                    assert record.decision.selected_model_id == step["selected"]
                    assert (record.hold_microunits if record.outcome == "held" else None) == step["hold"]
                else:
                    refusal = record.denial if record.outcome == "denied" else record.decision.reason.label
                    assert refusal == step["refusal"]
            case "settle":
                record = by_seq[step["seq"]]
                assert (record.kind, record.request_sequence) == ("settlement", step["number"])
                assert record.charged_microunits == step["charged"]
            case "cancel":
                assert step["number"] in cancelled
            case "top_up":
                assert topped_up[step["account"], tuple(step["figures"])] == step["amount"]
            case unknown:
                raise AssertionError(unknown)
    return books


def carry_on(directory: Path, key: dc.Key | None, told: Told, seed: str) -> None:
    """Opens the log again: balances, tickets in doubt, keys; reconciles some tickets and writes on."""
    choose = random.Random(seed)
    books = check(directory, key, told)
    if begun(directory):
        report = dc.verify(directory, key=key, policies=[ground.POLICY])
        ground.assert_same(books, report.balances)
        assert [ticket["request_sequence"] for ticket in report.open_tickets] == books.open_tickets()
        assert report.decisions == books.decisions()
    with ground.opened(directory, key=key) as engine:
        ground.assert_same(books, engine.ledger.accounts())
        tickets = engine.open_tickets()
        assert [ticket.id for ticket in tickets] == books.open_tickets()
        assert all(ticket.state == "in_doubt" for ticket in tickets)
        for ticket in tickets[:1]:
            with pytest.raises(dc.Conflict):
                ticket.cancel()
        for ticket in choose.sample(tickets, len(tickets) // 2):
            if choose.random() < 0.5:
                engine.reconcile(ticket.id, nothing_spent=True)
            else:
                engine.reconcile(ticket.id, cost_microunits=choose.choice((0, 1_000, 3_000)))
        keyed = [step for step in told if step["op"] == "decide" and step["asked"]["key"]]
        for step in choose.sample(keyed, min(5, len(keyed))):
            state = engine.ticket(step["number"]).state
            again = engine.decide(**writer.arguments(step["asked"]))
            if state == "cancelled":
                # The key was free, and whoever took it since has a later ticket.
                assert again.id > step["number"]
            else:
                assert (again.id, again.seq, again.replayed) == (step["number"], step["seq"], True)
        if "acme" not in engine.ledger:
            engine.ledger.open_account("acme", writer.INITIAL)
        ticket = engine.decide(ground.request(ground.FREE), account="acme", key=f"{seed}-after")
        if ticket.refusal is None:
            with ticket:
                ticket.settle(cost_microunits=0)
        number = ticket.id
    report = dc.verify(directory, key=key, policies=[ground.POLICY], head=engine.close())
    assert report.tail is None
    assert report.decisions > books.decisions()
    with ground.opened(directory, key=key, head=report.head) as engine:
        again = engine.decide(ground.request(ground.FREE), account="acme", key=f"{seed}-after")
        assert (again.id, again.replayed) == (number, True)
    cut_ends_are_kept(directory, key)


def cut_ends_are_kept(directory: Path, key: dc.Key | None) -> None:
    """Every end that was cut is in quarantine, and a record says so."""
    recorded = {
        (record.offset, record.cut_bytes, record.digest) for record in dc.read(directory, key=key, kind="recovered")
    }
    kept = set()
    for file in (directory / "quarantine").glob("*"):
        contents = file.read_bytes()
        offset, _, digest = file.stem.partition("-")
        assert hashlib.sha256(contents).hexdigest() == digest
        kept.add((int(offset), len(contents), digest))
    assert kept == recorded


def of_campaign(name: str) -> str:
    """The seed of a campaign, printed, so that a failing one can be repeated as far as a machine repeats itself."""
    seed = os.environ.get("DECIDABLE_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"{name}: DECIDABLE_SEED={seed}")
    return seed


def kill_and_check(directory: Path, keyed: bool, seed: str, stall: Path | None = None) -> int:
    """Kills a log by PLAN; gives how many kills came before it was open: with ``stall``, where no sync of an opening
    returns, all that were meant to."""
    choose = random.Random(seed)
    key = ground.KEY if keyed else None
    told: Told = []
    early = 0
    for number, moment in enumerate(PLAN):
        # An opening takes some milliseconds, and how many is the machine's affair: the small ones more often.
        seconds = choose.random() ** 3 / 100 if moment == "opening" else choose.uniform(0, 0.15)
        # The disk stands still while the file named by STALL is there, and that one stays.
        stalled = {} if stall is None or moment != "opening" else {"LD_PRELOAD": str(stall), "STALL": str(stall)}
        run = killed_after(moment, seconds, directory, f"{seed}-{number}", keyed, **stalled)
        # Whoever was killed at work had told a step: the kill waits for it.
        assert run.ready or moment == "opening", f"{seed}-{number}: {run.complaint}"
        assert not (stalled and run.ready), f"{seed}-{number}: the log was open, and nothing of it durable"
        assert moment == "opening" or [step for step in run.told if step["op"] == "decide"]
        early += not run.ready
        told += run.told
        carry_on(directory, key, told, f"{seed}-{number}")
    return early


def test_fifty_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Killed at work and while they open a log: everything acknowledged is there; balances are the model's."""
    seed = of_campaign("clock")
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(kill_and_check, tmp_path / str(log), log % 2 == 1, f"{seed}-{log}") for log in range(LOGS)]
        early = sum(run.result() for run in runs)
    print(f"{early} of {LOGS * PLAN.count('opening')} killed before the log was open")


@pytest.fixture(scope="module")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.preloaded("stall", tmp_path_factory.mktemp("stall"))


def test_writers_killed_before_their_log_is_open_lose_nothing_that_was_acknowledged(
    stall: Path, tmp_path: Path
) -> None:
    """As above, on a disk that stands still as long as a log is opened: every such kill comes before it is open."""
    seed = of_campaign("stall")
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(kill_and_check, tmp_path / str(log), log % 2 == 1, f"{seed}-{log}", stall) for log in range(4)
        ]
        assert sum(run.result() for run in runs) == 4 * PLAN.count("opening")


# --- killed inside an operation ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.preloaded("kill", tmp_path_factory.mktemp("kill"))


def tear_and_check(library: Path, directory: Path, keyed: bool, seed: str) -> None:
    """Three times: killed inside a write, then again at some operation of the recovery, then carried on."""
    choose = random.Random(seed)
    key = ground.KEY if keyed else None
    told: Told = []
    for number in range(3):
        # Nine wait for their answers, so one of thirty batches was answered and told.
        run = killed_at(library, "pwrite", choose.randint(40, 120), directory, f"{seed}-{number}", keyed)
        assert run.ready
        assert [step for step in run.told if step["op"] == "decide"]
        told += run.told
        assert dc.verify(directory, key=key, policies=[ground.POLICY]).tail is not None
        check(directory, key, told)
        run = killed_at(library, "", choose.randint(1, 20), directory, f"{seed}-{number}-again", keyed)
        told += run.told
        carry_on(directory, key, told, f"{seed}-{number}")
    assert list((directory / "quarantine").iterdir())


def test_writers_killed_inside_a_write_lose_nothing_that_was_acknowledged(library: Path, tmp_path: Path) -> None:
    """Each leaves an unfinished end, which is cut and kept, also when its recovery is killed."""
    seed = of_campaign("write")
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(tear_and_check, library, tmp_path / str(log), log % 2 == 1, f"{seed}-{log}") for log in range(4)
        ]
        for run in runs:
            run.result()


@pytest.mark.parametrize(
    ("log", "operations"),
    [
        ("new", "mkdir open ftruncate write pwrite fdatasync rename fsync"),
        ("torn", "fsync mkdir open pwrite fdatasync rename ftruncate"),
    ],
    ids=["new", "torn"],
)
def test_an_opening_killed_at_any_operation_is_done_again(
    library: Path, tmp_path: Path, log: str, operations: str
) -> None:
    """At every one until the log is open and has its accounts: the next opening finds everything and ends the work."""
    seed = of_campaign(log)
    before: Told = []
    origin = tmp_path / "origin"
    if log != "new":
        before = killed_at(library, "pwrite", 40, origin, f"{seed}-origin", True).told
        assert dc.verify(origin, key=ground.KEY).tail is not None

    def at(number: int) -> Killed:
        directory = tmp_path / str(number)
        if origin.exists():
            shutil.copytree(origin, directory)
        run = killed_at(library, "", number, directory, f"{seed}-{number}", True)
        carry_on(directory, ground.KEY, before + run.told, f"{seed}-{number}")
        assert not list(directory.rglob("*.tmp")), "something begun was left"
        assert list(directory.glob("quarantine/*")) or log == "new"
        return run

    killed: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        for first in itertools.count(1, 2):
            runs = list(pool.map(at, (first, first + 1)))
            killed += [run.complaint.removeprefix("killed at ") for run in runs if not run.ready]
            if any(run.ready for run in runs):
                break
    assert set(killed) >= set(operations.split())
