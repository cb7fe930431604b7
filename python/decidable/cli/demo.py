"""``demo``: an hour of real traffic, routed, budgeted, logged, verified and reported."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Final

from decidable import demo as data
from decidable._native import Key, Policy
from decidable.builders import counted
from decidable.cli.answer import explanation_document, model_name, show_decision, show_explanation
from decidable.cli.demo_run import IN_FLIGHT, Run, run
from decidable.cli.exits import FAILED, FINE, Usage
from decidable.cli.inputs import add_json, path, positive
from decidable.cli.report import write_whole
from decidable.cli.screen import Screen, reached
from decidable.cli.verify import octets, show_verification, verification_document
from decidable.replay import verify
from decidable.report import render
from decidable.report.quantity import clock, count, duration, money, nearest_rank, share, size
from decidable.report.words import refusal_order, refusal_words
from decidable.wal import about, write_head

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["add"]

_MARK: Final = ".decidable-demo"
_WRITTEN: Final = ("state", "head.json", "wal.key", "policy.json", "report.html")
_BESIDE: Final = ".decidable-demo-"
_MODELS_SHOWN: Final = 12


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "demo",
        help="an hour of real traffic, routed, budgeted, logged, verified and reported",
        description="Route 19,366 recorded requests among 28 models under three budgets, log every decision durably "
        "before it is answered, verify the log from disk and write a report.",
    )
    parser.add_argument("--out", type=path, default=Path("demo"), metavar="DIR", help="where to; default: demo")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N requests")
    add_json(parser)
    parser.set_defaults(run=_demo, command="demo")


def _demo(parsed: argparse.Namespace, screen: Screen) -> int:
    parsed.state = parsed.out / "state"
    with _ours(parsed.out, screen) as folder:
        told = _play(parsed, screen, folder)
    if screen.as_json:
        screen.emit(told.document())
    else:
        told.show(screen)
    return FAILED if told.rendered.error is not None else FINE


def _play(parsed: argparse.Namespace, screen: Screen, folder: Path) -> _Told:
    """The whole demonstration, its files in ``folder``."""
    catalog, policy, accounts = data.catalog(), data.policy(), data.accounts()
    with screen.progress("reading the trace"):
        arrivals = list(data.load_requests(parsed.limit))
    key = _new_key(folder / "wal.key")
    provenance = json.dumps(dict(catalog.provenance), sort_keys=True, separators=(",", ":"), default=str)
    play = partial(run, policy=policy, accounts=accounts, provenance=provenance, key=key)
    with screen.progress("deciding, every record durable before its answer", 2 * len(arrivals)) as advance:
        durable = play(folder / "state", arrivals=arrivals, sync="group", advance=advance)
    head = folder / "head.json"
    write_head(head, durable.head)
    catalog.save(folder / "policy.json")
    with (
        tempfile.TemporaryDirectory(prefix=_BESIDE, dir=folder) as beside,
        screen.progress("deciding again, not waiting for the disk", 2 * len(arrivals)) as advance,
    ):
        unsynced = play(Path(beside) / "state", arrivals=arrivals, sync="none", advance=advance)
    with screen.progress("pricing the baselines"):
        baselines = data.baselines(policy, durable.admitted)
    with screen.progress("verifying the log from disk") as advance:
        verification = verify(folder / "state", policies=[policy], key=key, head=head, progress=reached(advance))
    with screen.progress("writing the report") as advance:
        rendered = render(folder / "state", policies=[policy], key=key, head=head, progress=reached(advance))
    write_whole(folder / "report.html", rendered.html.encode())
    size = octets(folder / "state")
    return _Told(parsed, policy, arrivals, accounts, durable, unsynced, baselines, verification, rendered, size)


@contextlib.contextmanager
def _ours(folder: Path, screen: Screen) -> Iterator[Path]:
    """Where to write: the folder itself, or beside an earlier demonstration there, which the new one replaces when it
    is whole. What no demonstration wrote is left alone."""
    if folder.exists() and not folder.is_dir():
        raise Usage("cli.exists", f"{folder} is not a directory", path=str(folder))
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()) and not mark.is_file():
        message = f"{folder} holds files that no demo wrote; name another place with --out"
        raise Usage("cli.not_ours", message, path=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    # Nothing is held back, which would be tried again, and fail without a name, as the file is closed.
    with mark.open("ab", buffering=0) as file:
        _hold(file, folder)
        if not file.tell():
            with about(mark):
                file.write(b"Written by `decidable demo`, which replaces what it wrote here.\n")
        for left in folder.glob(f"{_BESIDE}*"):
            shutil.rmtree(left)
        earlier = [name for name in _WRITTEN if os.path.lexists(folder / name)]
        if not earlier:
            yield folder
            return
        what = "an earlier demo" if "report.html" in earlier else "a demo that was cut off"
        screen.note(f"{folder} holds {what}, which the new one replaces when it is whole (--out names another place)")
        with tempfile.TemporaryDirectory(prefix=_BESIDE, dir=folder) as beside:
            new, old = Path(beside) / "new", Path(beside) / "old"
            new.mkdir()
            old.mkdir()
            yield new
            for name in earlier:
                (folder / name).rename(old / name)
            for name in _WRITTEN:
                (new / name).rename(folder / name)


def _hold(mark: FileIO, folder: Path) -> None:
    """Only one demonstration writes into a folder at a time, where the system has locks for files."""
    if fcntl is None:
        return
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"another demo is writing into {folder}: wait for it, or name another place with --out"
        raise Usage("cli.in_use", message, path=str(folder)) from None


def _new_key(path: Path) -> Key:
    """A key that only the user may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with about(path), os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(32))
    return Key.from_file(path)


class _Told:
    """The result, for a person and for a program."""

    def __init__(
        self,
        parsed: argparse.Namespace,
        policy: Policy,
        arrivals: list[data.Arrival],
        accounts: dict[str, int],
        durable: Run,
        unsynced: Run,
        baselines: Any,
        verification: Any,
        rendered: Any,
        log_bytes: int,
    ) -> None:
        self.folder: Path = parsed.out
        self.policy, self.arrivals, self.accounts = policy, arrivals, accounts
        self.durable, self.unsynced, self.baselines = durable, unsynced, baselines
        self.verification, self.rendered = verification, rendered
        self.facts = rendered.facts
        self.log_bytes = log_bytes
        self.example = self._example()

    def _example(self) -> data.Arrival:
        """The first request for which another model than the requested one was better, else the first."""
        substituted = (each for each in self.arrivals if self.policy.decide(each.request).action.label == "substitute")
        return next(substituted, self.arrivals[0])

    def document(self) -> dict[str, Any]:
        durable = self.durable
        times = self.facts.durable_ns if self.facts is not None else []
        return {
            "credit": data.CREDIT,
            "requests": durable.decided,
            "selected": len(durable.admitted),
            "substituted": durable.substituted,
            "chosen": {str(model_name(self.policy, number)): times for number, times in sorted(durable.chosen.items())},
            "refused": dict(sorted(durable.refusals.items())),
            "settled": durable.settled,
            "spent_microunits": durable.spent_microunits,
            "debt_microunits": durable.debt_microunits,
            "baselines": [
                {
                    "name": each.name,
                    "detail": each.detail,
                    "cost_microunits": each.cost_microunits,
                    "meets_floors": each.meets_floors,
                    "requests": each.requests,
                }
                for each in self.baselines
            ],
            "decisions_per_second": {
                "durable": int(durable.per_second()),
                "not_durable": int(self.unsynced.per_second()),
            },
            "durable_ns": {"p50": nearest_rank(times, 50), "p99": nearest_rank(times, 99)},
            "log_bytes": self.log_bytes,
            "log_bytes_per_decision": self.log_bytes // max(1, durable.decided),
            "example": explanation_document(self.policy, self.policy.explain(self.example.request)),
            "verification": verification_document(self.verification),
            "verdict": self.rendered.verdict.state,
            "files": {name: str(self.folder / name) for name in _WRITTEN},
        }

    def show(self, screen: Screen) -> None:
        first, last = self.arrivals[0].arrival_ns, self.arrivals[-1].arrival_ns
        screen.line(
            f"{counted(self.durable.decided, 'request')} of {duration(last - first)} of real traffic, "
            f"{len(self.policy.models)} models, {len(self.accounts)} accounts",
            style="bold",
        )
        screen.line(data.CREDIT)
        self._chosen(screen)
        self._refused(screen)
        self._cost(screen)
        self._budgets(screen)
        self._speed(screen)
        self._verified(screen)

    def _chosen(self, screen: Screen) -> None:
        durable = self.durable
        selected = len(durable.admitted)
        screen.heading("What was chosen")
        spent = {use.name: use for use in self.facts.models.values()} if self.facts is not None else {}
        rows = []
        ranked = sorted(durable.chosen.items(), key=lambda item: (-item[1], item[0]))
        for number, times in ranked[:_MODELS_SHOWN]:
            name = str(model_name(self.policy, number))
            use = spent.get(name)
            rows.append(
                [
                    name,
                    use.provider if use else "",
                    count(times),
                    share(times, selected),
                    money(use.spent_microunits) if use else "",
                ]
            )
        screen.table(["model", "maker", "#chosen", "#share", "#spend"], rows)
        if len(ranked) > len(rows):
            screen.line(f"  and {counted(len(ranked) - len(rows), 'other model')}")
        screen.line(f"  {count(durable.substituted)} of {count(selected)} in place of the model that was asked for")
        screen.heading("Why: one of them explained")
        show_decision(screen, self.policy, self.example.request, self.policy.decide(self.example.request))
        screen.line()
        show_explanation(screen, self.policy, self.policy.explain(self.example.request))

    def _refused(self, screen: Screen) -> None:
        durable = self.durable
        screen.heading(f"What was refused: {count(durable.refusals.total())} of {count(durable.decided)}")
        rows = []
        for label, times in sorted(durable.refusals.items(), key=lambda item: (-item[1], refusal_order(item[0]))):
            name, sentence = refusal_words(label)
            rows.append([name, count(times), share(times, durable.decided), sentence])
        screen.table(["gate", "#refused", "#share", "why"], rows)

    def _cost(self, screen: Screen) -> None:
        durable = self.durable
        screen.heading(f"What {counted(len(durable.admitted), 'answered request')} cost, and would have cost")
        rows = [["this policy", money(durable.spent_microunits), "", share(durable.settled, durable.settled), ""]]
        for each in self.baselines:
            times = f"{each.cost_microunits / durable.spent_microunits:.2f} x" if durable.spent_microunits else ""
            rows.append(
                [each.name, money(each.cost_microunits), times, share(each.meets_floors, each.requests), each.detail]
            )
        screen.table(["", "#cost", "#against ours", "#meets the floors", "with"], rows)

    def _budgets(self, screen: Screen) -> None:
        screen.heading("Budgets")
        rows = []
        for each in sorted(self.verification.balances, key=lambda balance: balance.account):
            refusals = self.durable.refused_by_account.get(each.account, Counter())
            dry = self.durable.first_denial_ns.get(each.account)
            note = "" if dry is None else f"ran dry at {clock(dry, step_ns=60 * 10**9)} UTC"
            rows.append(
                [
                    each.account,
                    money(each.initial),
                    money(each.committed),
                    money(each.remaining),
                    money(each.debt),
                    count(refusals["insufficient"]),
                    note,
                ]
            )
        screen.table(["account", "#initial", "#committed", "#remaining", "#debt", "#denied", ""], rows)

    def _speed(self, screen: Screen) -> None:
        durable, unsynced = self.durable, self.unsynced
        screen.heading("Speed and size")
        times = self.facts.durable_ns if self.facts is not None else []
        p50, p99 = nearest_rank(times, 50), nearest_rank(times, 99)
        flight = f"{count(IN_FLIGHT)} in flight at once"
        rows = [
            ("durable", f"{count(int(durable.per_second()))} decisions a second with their settlements, {flight}"),
            ("not durable", f"{count(int(unsynced.per_second()))} decisions a second, as many in flight"),
        ]
        if p50 is not None and p99 is not None:
            rows.append(("time to durable", f"p50 {duration(p50)}, p99 {duration(p99)}"))
        each = self.log_bytes // max(1, durable.decided)
        rows.append(("log", f"{size(self.log_bytes)}, {count(each)} bytes a decision with its settlement"))
        screen.pairs(rows)

    def _verified(self, screen: Screen) -> None:
        screen.heading("Verified from disk")
        show_verification(screen, self.verification, accounts=False)
        screen.heading("Written")
        screen.pairs(
            [
                ("log", str(self.folder / "state")),
                ("key", str(self.folder / "wal.key")),
                ("head", f"{self.folder / 'head.json'}: keep it elsewhere"),
                ("policy", f"{self.folder / 'policy.json'}: what was approved"),
                ("report", str(self.folder / "report.html")),
            ]
        )
        screen.line()
        folder = self.folder
        screen.line("Repeat it:", style="bold")
        command = ["decidable", "verify", folder / "state"]
        for option, name in (("--policy", "policy.json"), ("--head", "head.json"), ("--key-file", "wal.key")):
            command += [option, folder / name]
        quote = subprocess.list2cmdline if os.name == "nt" else shlex.join
        screen.line(f"  {quote(list(map(str, command)))}", whole=True)
