"""What `decidable bench` stands on: the workloads, the check before measuring, the rounds and their figures."""

from __future__ import annotations

import gc
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from decidable import bench
from decidable.bench import Comparison, Side
from decidable.errors import VerificationError


def test_the_workloads_are_those_of_the_rust_benches(root: Path) -> None:
    """Both compare their policies and requests with benches/workloads.json."""
    expected = json.loads((root / "benches" / "workloads.json").read_text(encoding="utf-8"))
    sizes = {int(name.partition("/")[2]) for name in expected}
    found = {f"{name}/{size}": make(size) for name, make in bench.WORKLOADS.items() for size in sizes}
    assert {name: work.digest().hex() for name, work in found.items()} == expected
    assert {len(work.rows) for work in found.values()} == {4_096}


def test_the_realistic_workload_has_every_gate_in_play() -> None:
    """Most requests are served, some by another model, and each gate refuses candidates."""
    work = bench.realistic(22)
    actions, counters = Counter[str](), Counter[str]()
    for request in work.requests()[:1_000]:
        decision, counted = work.policy.decide_counted(request)
        actions[decision.action.label] += 1
        counters.update(counted)
    assert actions["reject"] < 500
    assert actions["substitute"] > 100
    assert all(counters.values()), counters


def test_both_sides_agree_before_they_are_measured() -> None:
    """Batches, single calls and the peer, on every workload."""
    for make in bench.WORKLOADS.values():
        assert bench.agree(make(5), bench.peer()) == 4_096


def test_a_peer_that_decides_differently_is_found() -> None:
    """By the first request that differs, in one field of one decision or in a digest."""
    peer = bench.peer()
    if peer is None:
        pytest.skip("the reference implementation is not installed here")

    class Other(bench.Peer):
        def rows(self, decisions: Any) -> npt.NDArray[np.void]:
            rows = super().rows(decisions)
            rows["eligible_models"][[7, 9]] += 1
            return rows

    class Mute:
        def __init__(self, policy: Any) -> None:
            self.policy = policy
            self.prescribe_batch = policy.prescribe_batch

        def audit_bundle(self, request: Any, decision: Any) -> dict[str, Any]:
            return self.policy.audit_bundle(request, decision) | {"input_digest_hex": ""}

    class Undigested(bench.Peer):
        def policy(self, *given: Any) -> Any:
            return Mute(super().policy(*given))

    work = bench.realistic(4)
    for other, row in ((Other(peer.package), 7), (Undigested(peer.package), 0)):
        with pytest.raises(VerificationError) as caught:
            bench.agree(work, other)
        assert (caught.value.code, caught.value.row) == ("bench.differs", row)


def test_every_round_runs_every_side_once_in_rotating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A side of several comparisons runs once; nothing is collected meanwhile; a figure is for one thing."""
    monkeypatch.setattr("time.perf_counter_ns", itertools.count(0, 5_000).__next__)
    order: list[str] = []
    collecting: set[bool] = set()

    def side(name: str) -> Side:
        def call() -> None:
            order.append(name)
            collecting.add(gc.isenabled())

        return Side(1_000, call)

    ours, peer, alone = side("ours"), side("peer"), side("alone")
    comparisons = [Comparison("one", ours, peer), Comparison("other", ours, None), Comparison("third", alone, None)]
    rounds = bench.measure(comparisons, rounds=3, seconds=0)
    first = next(rounds)
    del order[:-3]
    collecting.clear()
    samples = [first, *rounds]
    assert order == ["ours", "peer", "alone", "peer", "alone", "ours", "alone", "ours", "peer"]
    assert collecting == {False}
    assert gc.isenabled()
    assert samples == [{ours: 5.0, peer: 5.0, alone: 5.0}] * 3


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """Not the ratio of the medians: a round in which the machine was slow was slow for both."""
    ours, peer = Side(1, int), Side(1, int)
    samples = [{ours: 10.0, peer: 20.0}, {ours: 40.0, peer: 120.0}, {ours: 20.0, peer: 200.0}]
    found = bench.figures(Comparison("one", ours, peer), samples)
    assert (found.ours_ns, found.peer_ns, found.ratio) == (20.0, 120.0, 3.0)
    even = bench.figures(Comparison("one", ours, peer), samples[:2])
    assert (even.ours_ns, even.peer_ns, even.ratio) == (25.0, 70.0, 2.5)
    alone = bench.figures(Comparison("one", ours, None), samples)
    assert (alone.ours_ns, alone.peer_ns, alone.ratio) == (20.0, None, None)
