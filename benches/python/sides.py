"""What `decidable bench` leaves out: reading what a batch selected, explaining, logs; beside the package `calybris`.

Workloads, the peer's types and the comparisons of the command come from `decidable.bench`.
"""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import decidable as dc
from decidable import bench
from decidable.bench import Comparison, Side, Workload, each

CATALOGS = (4, 22, 64, 256)
FEW = 512
LOGGED = 10_000
METADATA = '{"tenant":"acme/search","trace":"8f14e45f-ceea-467f-a0e2-7d3f2c1b9a55"}'


def installed() -> bench.Peer:
    """The reference implementation, which the benches cannot do without."""
    found = bench.peer()
    assert found is not None, f"pip install {bench.PEER}=={bench.PEER_VERSION}"
    return found


PEER = installed()


def groups() -> Iterator[tuple[str, list[Comparison]]]:
    """What takes turns with each other, under one name."""
    for size in CATALOGS:
        for build in bench.WORKLOADS.values():
            work = build(size)
            bench.agree(work, PEER)
            yield f"{size}/{work.name}", asked(work)
    yield "log/22/real", logged(bench.realistic(22))


def every_group() -> Iterator[tuple[str, list[Comparison]]]:
    """Those of `decidable bench` as well."""
    for size in CATALOGS:
        for build in bench.WORKLOADS.values():
            work = build(size)
            yield f"{size}/{work.name}", bench.decided(work, PEER)
    yield "ledger", bench.booked(PEER)
    yield from groups()


def asked(work: Workload) -> list[Comparison]:
    """What is asked of decisions afterwards."""
    theirs, ours = PEER.policy(work.policy), work.policy
    inputs, requests = [PEER.request(*values) for values in work.values()], work.requests()
    return [
        Comparison(
            "batch and read who was selected",
            Side(len(inputs), lambda: ours.decide_batch(work.rows)["selected_model_id"].tolist()),
            Side(len(inputs), lambda: [decision.selected_model_id for decision in theirs.prescribe_batch(inputs)]),
        ),
        Comparison(
            "explain",
            Side(FEW, each(ours.explain, requests[:FEW])),
            Side(FEW, each(theirs.explain, inputs[:FEW])),
        ),
    ]


def logged(work: Workload) -> list[Comparison]:
    """Appending to a log and verifying one, from Python, on real files and without a sync on either side.

    `decide and append`: every answer is in the file when it is given; ours keeps a ticket open as well, the peer's log
    checks that the decision replays. `verify everything`: of ours the log with its tickets, of the peer's its JSON
    lines. `verify JSON lines`: both the same file; of the chain alone, ours compares the digests of requests and
    decisions too.
    """
    folder = Path(tempfile.mkdtemp(prefix="decidable-bench-"))
    atexit.register(shutil.rmtree, folder)
    theirs, ours = PEER.policy(work.policy), work.policy
    inputs, requests = [PEER.request(*values) for values in work.values()], work.requests()
    # Not the class that the package exports, which checks and encodes the metadata in Python first.
    their_log, wal = PEER.package._core.AuditedWal, PEER.package

    def fill(engine: dc.Engine, count: int) -> None:
        for number in range(count):
            engine.decide(requests[number % len(requests)], metadata=METADATA)

    def fill_theirs(log: Any, count: int) -> None:
        for number in range(count):
            value = inputs[number % len(inputs)]
            log.append_verified(theirs, value, theirs.prescribe(value), METADATA)

    engine = dc.Engine.open(folder / "ours-append", policy=ours, sync="none")
    log = their_log(str(folder / "theirs-append.jsonl"))
    atexit.register(engine.close)
    with dc.Engine.open(folder / "ours", policy=ours, sync="none") as filled:
        fill(filled, LOGGED)
    lines = folder / "theirs.jsonl"
    written = their_log(str(lines))
    fill_theirs(written, LOGGED)
    written.close(sync=False)
    replayed = Side(LOGGED, partial(wal.replay_verify_audited_wal, str(lines), theirs))
    return [
        Comparison(
            "decide and append", Side(FEW, partial(fill, engine, FEW)), Side(FEW, partial(fill_theirs, log, FEW))
        ),
        Comparison("verify everything", Side(LOGGED, partial(dc.verify, folder / "ours", policies=[ours])), replayed),
        Comparison(
            "verify JSON lines, the chain",
            Side(LOGGED, partial(dc.verify, lines)),
            Side(LOGGED, partial(wal.verify_audited_wal, str(lines))),
        ),
        Comparison("verify JSON lines, everything", Side(LOGGED, partial(dc.verify, lines, policies=[ours])), replayed),
    ]
