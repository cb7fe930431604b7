"""A real writer, killed at a random moment: what it was told to be durable is in the log, and the whole log follows."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import decidable as dc
import ground
from faults import writer
from model import replay

LOGS, KILLS = 10, 5
"""Ten logs, each killed five times: a log that has survived a kill is gone on with and killed again."""

WRITER = Path(__file__).with_name("writer.py")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")


def killed(directory: Path, seed: str, keyed: bool, seconds: float) -> list[dict[str, Any]]:
    """Runs the writer, kills it so long after it is ready, and returns what it told."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [sys.executable, str(WRITER), str(directory), seed, "keyed" if keyed else "plain"]
    lines: list[bytes] = []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        lines.append(writer.stdout.readline())
        reader = threading.Thread(target=lines.extend, args=(writer.stdout,))
        reader.start()
        time.sleep(seconds)
        writer.kill()
        reader.join()
        complaint = writer.stderr.read().decode()
    assert writer.returncode == -9, f"{seed}: {complaint}"
    told = [json.loads(line) for line in lines if line.endswith(b"\n")]
    assert told[:1] == [{"op": "ready"}], f"{seed}: {complaint}"
    return told[1:]


def check(directory: Path, key: dc.Key | None, told: list[dict[str, Any]]) -> replay.Books:
    """What was told is in the log, by number and contents, and the model agrees with every record."""
    records = list(dc.read(directory, key=key))
    books = ground.follow(records)
    by_seq = {record.seq: record for record in records}
    cancelled = {record.request_sequence for record in records if record.kind == "cancellation"}
    for step in told:
        match step["op"]:
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
    return books


def carry_on(directory: Path, key: dc.Key | None, told: list[dict[str, Any]], seed: str) -> None:
    """Opens the log again: balances, tickets in doubt, keys; reconciles some tickets and writes on."""
    choose = random.Random(seed)
    report = dc.verify(directory, key=key, policies=[ground.POLICY])
    books = check(directory, key, told)
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
        with engine.decide(ground.request(ground.FREE), account="acme", key=f"{seed}-after") as ticket:
            if ticket.refusal is None:
                ticket.settle(cost_microunits=0)
        number = ticket.id
    report = dc.verify(directory, key=key, policies=[ground.POLICY], head=engine.close())
    assert report.tail is None
    assert report.decisions > books.decisions()
    with ground.opened(directory, key=key, head=report.head) as engine:
        again = engine.decide(ground.request(ground.FREE), account="acme", key=f"{seed}-after")
        assert (again.id, again.replayed) == (number, True)


def kill_and_check(directory: Path, keyed: bool, seed: str) -> tuple[int, int]:
    choose = random.Random(seed)
    key = ground.KEY if keyed else None
    told: list[dict[str, Any]] = []
    recovered = 0
    for kill in range(KILLS):
        told += killed(directory, f"{seed}-{kill}", keyed, choose.uniform(0, 0.15))
        recovered += dc.verify(directory, key=key).tail is not None
        carry_on(directory, key, told, f"{seed}-{kill}")
    return len(told), recovered


def test_fifty_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Every acknowledged decision and settlement is there by number and content; balances are the model's."""
    seed = os.environ.get("DECIDABLE_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"DECIDABLE_SEED={seed}")
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(kill_and_check, tmp_path / str(log), log % 2 == 1, f"{seed}-{log}") for log in range(LOGS)]
        answers = [run.result() for run in runs]
    assert sum(told for told, _ in answers) > LOGS * KILLS, "the writers were killed before they did anything"
    print(f"{sum(told for told, _ in answers)} steps told, {sum(cut for _, cut in answers)} unfinished ends cut")
