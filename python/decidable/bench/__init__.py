"""What ``decidable bench`` measures: two workloads, the same work done by us and by the reference implementation, and
rounds in which the two take turns.

    from decidable import bench

    work, peer = bench.WORKLOADS["real"](22), bench.peer()    # the peer is None where it is not installed
    bench.agree(work, peer)                                   # raises where the two decide differently
    comparisons = bench.decided(work, peer)
    samples = list(bench.measure(comparisons, rounds=21, seconds=0.002))
    for comparison in comparisons:
        print(comparison.what, bench.figures(comparison, samples))
"""

from __future__ import annotations

from decidable.bench.comparisons import agree, booked, decided, each
from decidable.bench.machine import this_machine
from decidable.bench.reference import PEER, PEER_VERSION, Peer, peer
from decidable.bench.rounds import Comparison, Figures, Side, figures, measure
from decidable.bench.workload import WORKLOADS, Workload, realistic, synthetic

__all__ = [
    "PEER",
    "PEER_VERSION",
    "WORKLOADS",
    "Comparison",
    "Figures",
    "Peer",
    "Side",
    "Workload",
    "agree",
    "booked",
    "decided",
    "each",
    "figures",
    "measure",
    "peer",
    "realistic",
    "synthetic",
    "this_machine",
]
