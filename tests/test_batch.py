"""What a batch can say beside its decisions, and what can stand beside its rows: the answers of single calls."""

import _thread
import operator
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import bridge
import decidable as dc
from decidable.bench.workload import synthetic
from model.random_cases import Cases, seeds


def cases(count: int, requests: int) -> Iterator[tuple[int, dc.Policy, list[dc.Request]]]:
    for seed in seeds(count):
        drawn = Cases(seed)
        policy = drawn.policy(extended=True)
        yield (
            seed,
            bridge.native_policy(policy),
            [bridge.native_request(drawn.request(policy, extended=True)) for _ in range(requests)],
        )


def rows_of(requests: list[dc.Request]) -> np.ndarray:
    return bridge.request_rows([bridge.model_request(request) for request in requests])


def quotes_of(requests: list[dc.Request]) -> np.ndarray:
    each = [
        (row, model_id, cost)
        for row, request in enumerate(requests)
        for model_id, cost in (request.quotes or {}).items()
    ]
    return np.array(each[::-1], dtype=dc.QUOTE_DTYPE)


def gates_of(policy: dc.Policy, request: dc.Request, candidates: int) -> list[int]:
    return [dc.GATES.index(verdict.gate or verdict.verdict) for verdict in policy.explain(request)] or [
        255
    ] * candidates


def filled(shape: Any, dtype: Any) -> np.ndarray:
    """Room that holds something else before it is written."""
    return np.frombuffer(bytes([0xAA]) * (np.dtype(dtype).itemsize * int(np.prod(shape))), dtype).reshape(shape).copy()


def test_an_interrupt_ends_a_batch_between_its_pieces() -> None:
    """However many rows follow; what was decided before is in the room that was given."""
    models = [
        dc.Model(
            model_id=number,
            quality_bps=9_000,
            input_cost_microunits_per_million_tokens=number,
            output_cost_microunits_per_million_tokens=number,
        )
        for number in range(1, 60_001)
    ]
    policy = dc.Policy(dc.Catalog(models), objective="cheapest")
    row = np.zeros(1, dtype=dc.REQUEST_DTYPE)
    row["confidence_bps"], row["budget_limit_microunits"], row["allowed_provider_mask"] = 10_000, 2**63, 2**64 - 1
    # One row, seen again and again: it would take half a minute.
    rows = np.broadcast_to(row, 1_000_000)
    out = np.zeros(len(rows), dtype=dc.DECISION_DTYPE)
    for threads in (1, 2):
        out[:] = 0
        timer = threading.Timer(0.5, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            policy.decide_batch(rows, out=out, threads=threads)
        timer.join()
        assert out["evaluated_models"][0] == 60_000
        assert out["evaluated_models"][-1] == 0
    # Nothing here but the digests hears it before the last call.
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        list(map(operator.call, [_thread.interrupt_main, partial(dc.digest_batch, rows), partial(done.append, 1)]))
    assert done == []


def many(count: int) -> dc.Policy:
    """A policy of so many models."""
    model = dc.Model(
        model_id=1, quality_bps=9_000, input_cost_microunits_per_million_tokens=10,
        output_cost_microunits_per_million_tokens=20,
    )  # fmt: skip
    return dc.Policy(dc.Catalog([model.replace(model_id=number) for number in range(1, count + 1)]))


def test_an_interrupt_is_heard_between_the_steps_of_a_piece() -> None:
    """What comes while rows are decided ends the batch before all is answered that was asked beside."""
    rows = simple()[1][:500]
    room = {
        "out": np.zeros(500, dc.DECISION_DTYPE),
        "counts": filled(500, dc.REJECTION_DTYPE),
        "gates": filled((500, 65_535), np.uint8),
        "holds": filled(500, np.uint64),
    }

    def interrupt() -> None:
        while not room["out"]["evaluated_models"][0]:
            time.sleep(0)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        many(65_535).decide_batch(rows, threads=1, vectors="plain", **room)
    thread.join()
    assert (room["out"]["evaluated_models"] == 65_535).all()
    assert set(room["holds"].tobytes()) == {0xAA}


def runs_meanwhile(call: Callable[[], object], times: int) -> bool:
    """Whether another thread gets the interpreter while one calls so often, of itself no thread giving it up."""
    waits, ran = threading.Lock(), []
    waits.acquire()

    def run() -> None:
        with waits:
            ran.append(True)

    thread, interval = threading.Thread(target=run), sys.getswitchinterval()
    thread.start()
    sys.setswitchinterval(1_000)
    try:
        waits.release()
        for _ in range(times):
            call()
            if ran:
                return True
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    return False


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="without the interpreter lock all run together"
)
def test_the_interpreter_lock_is_free_in_long_calls() -> None:
    """Where many candidates are looked at, quotes are sorted, and many decisions copied, compared and hashed."""
    policy, rows = many(65_535), simple()[1]
    request = dc.Request(input_tokens=1_000, output_tokens=1_000)
    explained, few = policy.explain(request), many(1)
    quotes = np.zeros(400_000, dc.QUOTE_DTYPE)
    quotes["row"] = np.random.default_rng(1).permutation(400_000) + 1
    # A quote without a row is refused before anything is decided.
    sort = partial(code_of, partial(few.decide_batch, rows[:1], quotes=quotes))
    decided = few.decide_batch(np.tile(rows, 40))
    decisions, again = dc.Decisions(decided), dc.Decisions(decided)
    # A hash is kept.
    hashed = iter([dc.Decisions(decided[:20_000]) for _ in range(50)])
    for name, call in {
        "decide": partial(policy.decide, request),
        "decide_counted": partial(policy.decide_counted, request),
        "explain": partial(policy.explain, request),
        "str": partial(str, explained),
        "hold": partial(policy.hold, request),
        "quotes": sort,
        "to_numpy": decisions.to_numpy,
        "eq": partial(operator.eq, decisions, again),
        "hash": lambda: hash(next(hashed)),
    }.items():
        # On a busy machine the other waits for a core, too.
        assert runs_meanwhile(call, 50 if name == "hash" else 10_000), name
    # It can tell: a call that keeps the lock does not let the other run.
    assert not runs_meanwhile(partial(few.decide, request), 10_000)


@pytest.mark.parametrize("vectors", dc.vectors())
def test_decisions_counts_gates_and_holds_are_those_of_single_calls(vectors: str) -> None:
    """Objectives, quotes and largest uses on 150 policies, with every width of vectors that the machine has."""
    quoted = 0
    for seed, policy, requests in cases(150, 40):
        candidates = len(policy.models)
        counts = filled(40, dc.REJECTION_DTYPE)
        gates = filled((40, candidates), np.uint8)
        out = filled(40, dc.DECISION_DTYPE)
        holds = filled(40, np.uint64)
        quotes = quotes_of(requests)
        quoted += len(quotes)
        found = policy.decide_batch(
            rows_of(requests),
            quotes=quotes,
            max_output_tokens=np.array([request.max_output_tokens for request in requests], np.uint32),
            vectors=vectors,
            out=out,
            counts=counts,
            gates=gates,
            holds=holds,
        )
        assert found is out
        for number, request in enumerate(requests):
            decision, counted = policy.decide_counted(request)
            where = f"DECIDABLE_SEED={seed}, request {number}, {vectors}"
            assert found[number].tobytes() == decision_row(decision), where
            assert dict(zip(counts.dtype.names, counts[number].tolist(), strict=True)) == counted, where
            assert gates[number].tolist() == gates_of(policy, request, candidates), where
            assert holds[number] == (policy.hold(request) or 0), where
    assert quoted > 1_000


def decision_row(decision: dc.Decision) -> bytes:
    row = np.zeros(1, dc.DECISION_DTYPE)
    absent = {"selected_model_id": 0, "selected_model_index": 65_535, "counterfactual_model_id": 0}
    for name in dc.DECISION_DTYPE.names:
        value = getattr(decision, name)
        row[name] = absent[name] if value is None else getattr(value, "code", value)
    return row.tobytes()


def test_digests_in_batch_are_those_of_single_values() -> None:
    """Of requests, with and without quotes, and of decisions, alone and on several threads."""
    _, policy, requests = next(cases(1, 40))
    plain = [request.replace(quotes=None) for request in requests]
    rows = np.tile(rows_of(plain), 500)
    decisions = policy.decide_batch(rows)
    for threads in (1, 2, None):
        found = dc.digest_batch(rows, threads=threads)
        assert (found.shape, found.dtype) == ((20_000, 32), np.uint8)
        assert found[:40].tobytes() == b"".join(request.digest() for request in plain)
        assert np.array_equal(found, np.tile(found[:40], (500, 1)))
        found = dc.digest_batch(decisions, threads=threads)
        assert found[:40].tobytes() == b"".join(policy.decide(request).digest() for request in plain)
    assert dc.digest_batch(rows[:0]).shape == (0, 32)
    for seed, _, requests in cases(60, 20):
        found = dc.digest_batch(rows_of(requests), quotes=quotes_of(requests))
        assert [row.tobytes() for row in found] == [request.digest() for request in requests], f"DECIDABLE_SEED={seed}"


def test_what_has_no_digest_is_refused() -> None:
    """A row that is no request, a quote without a row, and quotes of decisions; whatever piece they are in."""
    policy, rows = simple()
    quotes = np.array([(10_000, 1, 1)], dtype=dc.QUOTE_DTYPE)
    assert code_of(lambda: dc.digest_batch(rows, quotes=quotes)) == "batch.no_such_row"
    assert code_of(lambda: dc.digest_batch(policy.decide_batch(rows), quotes=quotes)) == "input.wrong_type"
    quotes["row"], quotes["model_id"] = 9_999, 0
    with pytest.raises(dc.InvalidInput) as caught:
        dc.digest_batch(rows, quotes=quotes)
    assert (caught.value.code, caught.value.row) == ("kernel.reserved_model_id", 9_999)
    rows["risk_bps"][9_998] = 10_001
    with pytest.raises(dc.InvalidInput) as caught:
        dc.digest_batch(rows)
    assert (caught.value.code, caught.value.row) == ("kernel.out_of_range", 9_998)


def test_the_largest_uses_are_there_for_each_row_and_reach_the_expected_ones() -> None:
    """Or nothing is decided, and room is left as it was."""
    policy, rows = simple()
    holds = filled(10_000, np.uint64)
    rows["output_tokens"] = 10
    most = np.full(20_000, 10, np.uint32)
    for wrong in (most[:9_999], most, most[:10_000].astype(np.int64), most.reshape(2, -1)):
        asked = {"max_output_tokens": wrong, "holds": holds}
        assert code_of(lambda asked=asked: policy.decide_batch(rows, **asked)) == "batch.wrong_dtype"
    for wrong in (np.empty(9_999, np.uint64), np.empty(10_000, np.int64)):
        assert code_of(lambda wrong=wrong: policy.decide_batch(rows, holds=wrong)) == "batch.wrong_dtype"
    most[9_999 * 2] = 9
    with pytest.raises(dc.InvalidInput) as caught:
        policy.decide_batch(rows, max_output_tokens=most[::2], holds=holds)
    assert (caught.value.code, caught.value.row) == ("kernel.maximum_below_expected", 9_999)
    assert set(holds.tobytes()) == {0xAA}
    most[:] = 1_000_000
    policy.decide_batch(rows, max_output_tokens=most[::2], holds=holds)
    assert set(holds.tolist()) == {20}


def simple() -> tuple[dc.Policy, np.ndarray]:
    model = dc.Model(
        model_id=1, quality_bps=9_000, input_cost_microunits_per_million_tokens=10,
        output_cost_microunits_per_million_tokens=20,
    )  # fmt: skip
    rows = np.zeros(10_000, dc.REQUEST_DTYPE)
    rows["confidence_bps"] = 10_000
    rows["business_value_microunits"] = 1_000
    rows["budget_limit_microunits"], rows["allowed_provider_mask"] = 10_000, 2**64 - 1
    return dc.Policy(dc.Catalog([model])), rows


def code_of(call: Any) -> str:
    with pytest.raises(dc.InvalidInput) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("count", [3, 9_000])
def test_a_digest_is_of_decisions_that_there_can_be(count: int) -> None:
    """A row that is none is refused by its number, as `Decisions` does."""
    policy, rows = simple()
    decisions = policy.decide_batch(np.resize(rows, count))
    wrong = decisions.copy()
    wrong["action"][-1] = 9
    garbage = np.frombuffer(b"\xff" * 65 * count, dc.DECISION_DTYPE)
    for bad, row in ((wrong, count - 1), (garbage, 0), (wrong[::-1], 0)):
        told = []
        for call in (dc.digest_batch, dc.Decisions):
            with pytest.raises(dc.InvalidInput) as caught:
                call(bad)
            told.append((caught.value.code, caught.value.message, caught.value.details))
        assert told[0] == told[1]
        assert (told[0][0], told[0][2]["row"]) == ("kernel.unreadable", row)
    assert dc.digest_batch(decisions).shape == (count, 32)


def test_room_that_was_given_is_left_as_it_was_where_something_is_refused() -> None:
    """A bad row far behind, a bad quote, a wrong type: nothing is half written."""
    policy, rows = simple()
    room = {
        "out": filled(10_000, dc.DECISION_DTYPE),
        "counts": filled(10_000, dc.REJECTION_DTYPE),
        "gates": filled((10_000, 1), np.uint8),
    }
    rows["risk_bps"][9_999] = 10_001
    with pytest.raises(dc.InvalidInput, match="row 9999: risk_bps must be at most 10000, not 10001") as caught:
        policy.decide_batch(rows, **room)
    assert (caught.value.row, caught.value.field) == (9_999, "risk_bps")
    rows["risk_bps"] = 0
    for quotes, code in (
        ([(9_999, 0, 1)], "kernel.reserved_model_id"),
        ([(9_998, 1, 1), (9_998, 1, 2)], "kernel.quotes_not_ascending"),
        ([(10_000, 1, 1)], "batch.no_such_row"),
    ):
        given = np.array(quotes, dc.QUOTE_DTYPE)
        assert code_of(lambda given=given: policy.decide_batch(rows, quotes=given, **room)) == code
    with pytest.raises(dc.InvalidInput, match=r"^row 9998: two quotes for model 1$"):
        policy.decide_batch(rows, quotes=np.array([(9_998, 1, 2), (3, 1, 1), (9_998, 1, 1)], dc.QUOTE_DTYPE))
    for name, wrong in (
        ("out", np.empty(9_999, dc.DECISION_DTYPE)),
        ("out", rows),
        ("counts", np.empty(10_000, np.uint32)),
        ("gates", np.empty((1, 10_000), np.uint8)),
        ("gates", np.empty((10_000, 1), np.int8)),
        ("quotes", rows),
    ):
        assert code_of(lambda name=name, wrong=wrong: policy.decide_batch(rows, **(room | {name: wrong}))) == (
            "batch.wrong_dtype"
        )
    fixed = room["counts"].copy()
    fixed.flags.writeable = False
    stepped = np.empty(20_000, dc.DECISION_DTYPE)[::2]
    assert code_of(lambda: policy.decide_batch(rows, **(room | {"counts": fixed}))) == "batch.not_contiguous"
    assert code_of(lambda: policy.decide_batch(rows, **(room | {"out": stepped}))) == "batch.not_contiguous"
    assert all(set(array.tobytes()) == {0xAA} for array in room.values())
    assert policy.decide_batch(rows, **room) is room["out"]
    assert (room["gates"] == 0).all()


def with_field(name: str, kind: str, dtype: np.dtype = dc.REQUEST_DTYPE) -> np.dtype:
    """The type of records with another type in one field."""
    return np.dtype([(each, kind if each == name else dtype[each]) for each in dtype.names])


def test_an_array_of_another_type_is_told_how_it_differs() -> None:
    """By the field, and what makes it one where only types differ: `astype` does not look at the names of fields."""
    policy, rows = simple()
    names = dc.REQUEST_DTYPE.names
    as_rows = "; where every number fits, requests.astype(decidable.REQUEST_DTYPE) is one"
    for wrong, why in (
        (rows.astype(with_field("risk_bps", "<i8")), f"its field risk_bps is int64 and not uint16{as_rows}"),
        (rows.astype(with_field("risk_bps", ">u2")), f"its field risk_bps is >u2 and not uint16{as_rows}"),
        (
            rows.astype(np.dtype([(name, dc.REQUEST_DTYPE[name]) for name in names], align=True)),
            f"it has other bytes between its fields{as_rows}",
        ),
        (rows[[name for name in names if name != "risk_bps"]], "it has no field risk_bps"),
        (
            np.zeros(3, [*((name, dc.REQUEST_DTYPE[name]) for name in names), ("risk", "u1")]),
            'its field "risk" is none of these',
        ),
        (
            np.zeros(3, [(name, dc.REQUEST_DTYPE[name]) for name in names[::-1]]),
            "its field required_region_mask stands where request_sequence does",
        ),
        (np.zeros(3), "it is an array of float64"),
        (rows.reshape(2, -1), "it has 2 dimensions"),
    ):
        with pytest.raises(dc.InvalidInput) as caught:
            policy.decide_batch(wrong)
        assert (caught.value.code, caught.value.field) == ("batch.wrong_dtype", "requests")
        assert caught.value.message == (
            "requests must be a 1-dimensional array of REQUEST_DTYPE, or a table with __arrow_c_stream__ or "
            f"__arrow_c_array__: {why}"
        )
        if why.endswith(as_rows):
            assert len(policy.decide_batch(wrong.astype(dc.REQUEST_DTYPE))) == len(rows)
    numbers = with_field("row", "<i8", dc.QUOTE_DTYPE)
    actions = with_field("action", "<i8", dc.DECISION_DTYPE)
    as_quotes = "; where every number fits, quotes.astype(decidable.QUOTE_DTYPE) is one"
    for name, wrong, must_be, why in (
        (
            "quotes",
            np.zeros(1, numbers),
            "a 1-dimensional array of QUOTE_DTYPE",
            f"its field row is int64 and not uint64{as_quotes}",
        ),
        (
            "out",
            np.zeros(10_000, actions),
            "an array of DECISION_DTYPE of shape [10000]",
            "its field action is int64 and not uint8",
        ),
        ("holds", np.zeros(3, np.uint64), "an array of uint64 of shape [10000]", "it has the shape [3]"),
    ):
        with pytest.raises(dc.InvalidInput) as caught:
            policy.decide_batch(rows, **{name: wrong})
        assert caught.value.message == f"{name} must be {must_be}: {why}"


@pytest.mark.parametrize(("name", "kind"), [("counts", "REJECTION_DTYPE"), ("gates", "uint8"), ("holds", "uint64")])
def test_true_is_no_room_for_what_stands_beside_an_array(name: str, kind: str) -> None:
    """It asks for a column beside a table."""
    policy, rows = simple()
    with pytest.raises(dc.InvalidInput) as caught:
        policy.decide_batch(rows, **{name: True})
    assert (caught.value.code, caught.value.field) == ("input.wrong_type", name)
    assert caught.value.message == (
        f"{name} must be a NumPy array of {kind} to write to: True is for a table, and requests is an array"
    )


class Meddled(np.ndarray):
    """An array whose rows someone changes just before they are copied for the `moment`th time."""

    copied, moment = 0, 0
    sizes: ClassVar[list[int]] = []
    threads: ClassVar[set[int]] = set()

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            Meddled.copied += 1
            Meddled.sizes.append(len(range(*place.indices(len(self)))))
            Meddled.threads.add(threading.get_ident())
            if Meddled.copied == Meddled.moment:
                self["risk_bps"][place.start + 7] = 10_001
        return super().__getitem__(place)


def test_rows_that_are_changed_meanwhile_are_decided_as_copied_or_refused_by_their_number() -> None:
    """What is decided is what was copied; where a row is made impossible later, the pieces before it have answers."""
    policy, rows = simple()
    expected = policy.decide_batch(rows)
    for count, moment, row, written in (
        (4_096, 1, 7, 0),  # One piece, which is copied once.
        (4_096, 2, None, 4_096),
        (10_000, 3, 8_199, 0),  # Three pieces, looked at and then decided: while they are looked at nothing is written.
        (10_000, 4, 7, 0),
        (10_000, 5, 4_103, 4_096),
        (10_000, 7, None, 10_000),
    ):
        meddled = np.zeros(2 * count, dc.REQUEST_DTYPE)[::2].view(Meddled)
        meddled[...] = rows[:count]
        Meddled.copied, Meddled.moment = 0, moment
        room = {"out": filled(count, dc.DECISION_DTYPE), "gates": filled((count, 1), np.uint8)}
        if row is None:
            policy.decide_batch(meddled, threads=1, **room)
        else:
            with pytest.raises(dc.InvalidInput, match=f"^row {row}: risk_bps must be at most 10000, not 10001"):
                policy.decide_batch(meddled, threads=1, **room)
        assert room["out"][:written].tobytes() == expected[:written].tobytes()
        assert (room["gates"][:written] == 0).all()
        assert set(room["out"][written:].tobytes()) | set(room["gates"][written:].tobytes()) <= {0xAA}


def test_rows_of_a_large_catalog_are_fewer_at_a_time() -> None:
    """Between two pieces an interrupt is heard, and what a piece takes does not grow with the catalog."""
    _, rows = simple()
    for count, pieces in ((1, 1), (65_535, 5)):
        catalog = dc.Catalog(
            [
                dc.Model(
                    model_id=number,
                    quality_bps=9_000,
                    input_cost_microunits_per_million_tokens=10,
                    output_cost_microunits_per_million_tokens=20,
                )
                for number in range(1, count + 1)
            ]
        )
        counted = np.zeros(2 * 2_300, dc.REQUEST_DTYPE)[::2].view(Meddled)
        counted[...] = rows[:2_300]
        Meddled.copied, Meddled.moment = 0, 0
        dc.Policy(catalog).decide_batch(counted, threads=1)
        assert Meddled.copied == pieces


def test_arrays_that_lie_in_one_another_are_refused() -> None:
    """Room that is written where rows are read, and where largest uses are."""
    policy, rows = simple()
    memory = np.zeros(10_000 * 135, np.uint8)
    requests = memory[: 70 * 10_000].view(dc.REQUEST_DTYPE)
    requests[:] = rows[:10_000]
    before = memory.copy()
    decisions = memory[65 * 100 : 65 * 10_100].view(dc.DECISION_DTYPE)
    assert code_of(lambda: policy.decide_batch(requests, out=decisions)) == "batch.not_contiguous"
    most = memory[: 4 * 10_000].view(np.uint32)
    assert code_of(lambda: policy.decide_batch(rows, out=decisions, max_output_tokens=most)) == "batch.not_contiguous"
    assert (memory == before).all()


def test_a_fault_of_a_row_names_it_once_and_counts_from_the_first_of_all() -> None:
    """Also in a later piece of a batch."""
    policy, rows = simple()
    wrong = np.array([(9_000, 0, 5)], dc.QUOTE_DTYPE)
    with pytest.raises(dc.InvalidInput, match=r"^row 9000: [^r]") as caught:
        policy.decide_batch(rows, quotes=wrong)
    assert caught.value.row == 9_000


def test_vectors_are_those_of_the_machine() -> None:
    """Each of them decides; another is refused by name."""
    random = np.random.default_rng(7)
    models = [
        dc.Model(
            model_id=3 * number, provider_id=number % 3, quality_bps=1_000 * (number % 10) + 500, enabled=number != 5,
            risk_ceiling_bps=10_000 - 900 * (number % 4), p95_latency_ms=150 * (number % 7), capabilities=number % 4,
            region_mask=1 << number % 3, input_cost_microunits_per_million_tokens=400_000 * number,
            output_cost_microunits_per_million_tokens=900_000 * (23 - number),
        )
        for number in range(1, 23)
    ]  # fmt: skip
    policy = dc.Policy(dc.Catalog(models), hard_risk_limit_bps=9_000, minimum_confidence_bps=500)
    count = 10_000
    rows = np.zeros(count, dc.REQUEST_DTYPE)
    rows["request_sequence"] = np.arange(count)
    for name, low, high in (
        ("input_tokens", 0, 5_000), ("output_tokens", 0, 5_000), ("business_value_microunits", 0, 400_000),
        ("budget_limit_microunits", 0, 200_000), ("risk_bps", 0, 9_100), ("confidence_bps", 400, 10_001),
        ("max_p95_latency_ms", 0, 1_500), ("required_capabilities", 0, 4), ("allowed_provider_mask", 1, 8),
        ("required_region_mask", 0, 8), ("minimum_quality_bps", 0, 6_000),
    ):  # fmt: skip
        rows[name] = random.integers(low, high, count)
    rows["requested_model_id"] = 3 * random.integers(1, 23, count)
    gates, counts = np.empty((count, 22), np.uint8), np.empty(count, dc.REJECTION_DTYPE)
    expected = policy.decide_batch(rows, vectors="plain", gates=gates, counts=counts)
    # Every gate refuses somebody, and each action, many reasons and many models are there.
    assert set(gates.ravel()) == {*range(len(dc.GATES)), 255}
    assert set(expected["action"]) == {1, 2, 3}
    assert len(set(expected["selected_model_id"])) > 10
    assert len(set(expected["reason"])) > 6
    for row in range(0, count, 97):
        request = dc.Request(**{name: int(rows[row][name]) for name in dc.REQUEST_DTYPE.names})
        assert expected[row]["selected_model_id"] == (policy.decide(request).selected_model_id or 0)
    assert dc.vectors()[0] == "plain"
    asked = os.environ.get("DECIDABLE_VECTORS", "")
    assert {width.strip() for width in asked.split(",") if width.strip()} <= set(dc.vectors())
    for vectors in dc.vectors():
        for few in (1, 7, 33, count):
            found = np.empty(few, dc.REJECTION_DTYPE)
            decided = policy.decide_batch(rows[:few], vectors=vectors, counts=found)
            assert decided.tobytes() == expected[:few].tobytes(), (vectors, few)
            assert found.tobytes() == counts[:few].tobytes(), (vectors, few)
    with pytest.raises(dc.InvalidInput, match="it has plain") as caught:
        policy.decide_batch(rows, vectors="abacus")
    assert (caught.value.code, caught.value.field, caught.value.value) == ("batch.no_vectors", "vectors", "abacus")


def cores() -> int:
    """As many as this process may use: those that it is bound to, and no more than its group has time of."""
    most = len(os.sched_getaffinity(0))
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    own = Path("/sys/fs/cgroup", *(line[len("0::/") :] for line in groups if line.startswith("0::/")))
    shares = [each / "cpu.max" for each in (own, *own.parents)]
    told = [share.read_text().split() for share in shares if share.exists()]
    older = [Path("/sys/fs/cgroup/cpu", f"cpu.cfs_{part}_us") for part in ("quota", "period")]
    if all(each.exists() for each in older):
        told.append([each.read_text().strip() for each in older])
    whole = [int(quota) // int(period) for quota, period in told if quota not in ("max", "-1")]
    return min([most, *(max(1, each) for each in whole)])


@pytest.mark.skipif(sys.platform != "linux", reason="counts cores as Linux has them")
def test_each_thread_copies_what_it_works_on() -> None:
    """On one thread for little work where nobody asks, and on as many as asked for where it is worth waking them."""
    policy, few = simple()
    rows = np.zeros(1 << 19, dc.REQUEST_DTYPE)[::2].view(Meddled)
    rows[...] = few[0]
    # A row counts as 24 candidates beside its own, a digest as 512: 2 ** 20 are worth a thread, 2 ** 18 one asked for.
    for work, threads, number, most in (
        (policy.decide_batch, 1, len(rows), 1),
        (policy.decide_batch, 2, len(rows), 2),
        (policy.decide_batch, 65_535, len(rows), cores()),
        (policy.decide_batch, None, 80_000, 1),
        (policy.decide_batch, None, 120_000, 2),
        (policy.decide_batch, 2, 20_000, 1),
        (dc.digest_batch, 1, len(rows), 1),
        (dc.digest_batch, 2, 1_000, 1),
        (dc.digest_batch, 2, 40_000, 2),
    ):
        expected = min(most, cores())
        # The caller may have done all of it before another wakes.
        for _ in range(200):
            part = rows[:number]
            Meddled.copied = Meddled.moment = 0
            Meddled.sizes, Meddled.threads = [], set()
            work(part, threads=threads)
            assert sum(Meddled.sizes) == number
            assert max(Meddled.sizes) <= 4_096
            assert len(Meddled.threads) <= expected, (threads, number)
            if len(Meddled.threads) == expected:
                break
        assert len(Meddled.threads) == expected, (threads, number)


def test_of_rows_refused_on_several_threads_the_first_is_told_of() -> None:
    """Whoever finds one first, and room of the caller's is left as it is."""
    policy, few = simple()
    rows = np.resize(few, 200_000)
    rows["risk_bps"][[150_001, 90_000, 90_001, 199_999]] = 10_001
    room = {"out": filled(len(rows), dc.DECISION_DTYPE), "holds": filled(len(rows), np.uint64)}
    for _ in range(20):
        for work in (partial(policy.decide_batch, **room), policy.decide_batch, dc.digest_batch):
            with pytest.raises(dc.InvalidInput, match=r"^row 90000: risk_bps must be at most 10000") as caught:
                work(rows, threads=2)
            assert caught.value.row == 90_000
    assert set(room["out"].tobytes()) | set(room["holds"].tobytes()) == {0xAA}


def test_what_goes_with_rows_stays_with_them_on_several_threads() -> None:
    """Quotes and largest uses, and every room, as on one."""
    work = synthetic(22)
    rows = np.resize(work.rows, 60_001)
    rows["request_sequence"] = np.arange(len(rows))
    quotes = np.zeros(20_000, dc.QUOTE_DTYPE)
    quotes["row"], quotes["model_id"] = np.arange(20_000) * 3, np.arange(20_000) % 22 + 1
    quotes["cost_microunits"] = np.arange(20_000) % 997
    most = rows["output_tokens"] + np.arange(len(rows), dtype=np.uint32) % 11

    def answers(threads: int) -> list[bytes]:
        room = {
            "out": filled(len(rows), dc.DECISION_DTYPE),
            "counts": filled(len(rows), dc.REJECTION_DTYPE),
            "gates": filled((len(rows), 22), np.uint8),
            "holds": filled(len(rows), np.uint64),
        }
        work.policy.decide_batch(rows, quotes=quotes, max_output_tokens=most, threads=threads, **room)
        digests = dc.digest_batch(rows, quotes=quotes, threads=threads)
        return [each.tobytes() for each in (*room.values(), digests)]

    expected = answers(1)
    for _ in range(5):
        assert answers(2) == expected


THREADS = """
import os, sys, threading, time
import numpy as np
import decidable as dc

model = dc.Model(
    model_id=1, quality_bps=9_000, input_cost_microunits_per_million_tokens=10,
    output_cost_microunits_per_million_tokens=20,
)
policy = dc.Policy(dc.Catalog([model.replace(model_id=number) for number in range(1, 100)]))
rows = np.zeros(500_000, dc.REQUEST_DTYPE)
rows["confidence_bps"] = 10_000
rows["business_value_microunits"] = 1_000
rows["budget_limit_microunits"], rows["allowed_provider_mask"] = 10_000, 2**64 - 1

others = len(os.listdir("/proc/self/task")) + 1

def more_threads(work):
    most, over = 0, False

    def look():
        nonlocal most
        while not over:
            most = max(most, len(os.listdir("/proc/self/task")) - others)
            time.sleep(0.0005)

    watcher = threading.Thread(target=look)
    watcher.start()
    work()
    over = True
    watcher.join()
    # The system has it for a moment more.
    while os.path.exists(f"/proc/self/task/{watcher.native_id}"):
        time.sleep(0.0005)
    return most

print(
    more_threads(lambda: policy.decide_batch(rows, threads=1)),
    more_threads(lambda: dc.digest_batch(rows, threads=1)),
    more_threads(lambda: policy.decide_batch(rows, threads=2)),
    more_threads(lambda: dc.digest_batch(rows, threads=2)),
    more_threads(lambda: policy.decide_batch(rows, threads=65_535)),
    more_threads(lambda: policy.decide_batch(rows)),
    more_threads(lambda: None),
)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sees a process' threads as Linux has them")
def test_threads_are_started_as_asked_for_and_no_more_than_cores() -> None:
    """As the system sees them while half a million rows are decided and hashed; the caller's own takes part.

    They stay for the next batch."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    several = min(2, cores()) - 1
    alone, digests_alone, two, digests_of_two, all_of_them, unsaid, left = map(int, done.stdout.split())
    assert (alone, digests_alone) == (0, 0)
    assert (two, digests_of_two) == (several, several)
    assert several <= min(all_of_them, unsaid, left)
    assert max(all_of_them, unsaid, left) < cores()


FORKED = """
import os, signal, sys, threading, time
import numpy as np
from decidable.bench import workload

work = workload.synthetic(22)
policy, rows = work.policy, np.tile(work.rows, 8)
expected = policy.decide_batch(rows, threads=1).tobytes()

def decide():
    assert policy.decide_batch(rows, threads=2).tobytes() == expected

def in_a_child(deep=1):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            decide()
            if deep:
                in_a_child(deep - 1)
            decide()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

in_a_child()
decide()
in_a_child()
over = False

def keep_deciding():
    while not over:
        decide()

others = [threading.Thread(target=keep_deciding) for _ in range(2)]
for other in others:
    other.start()
try:
    for _ in range(20):
        in_a_child()
    # What CPython does first in a child hangs where it inherits a lock.
    for number in range(int(os.environ.get("DECIDABLE_FORKS", "0"))):
        child = os.fork()
        if child == 0:
            os._exit(0)
        end = time.monotonic() + 60
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                raise TimeoutError(f"child {number} hangs")
            time.sleep(0.0005)
finally:
    over = True
for other in others:
    other.join()
decide()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_decides_on_threads_of_its_own() -> None:
    """Before its parent has any, after, while another thread of the parent uses them, and a child of the child."""
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", FORKED], capture_output=True, text=True, check=False,
        timeout=300 + int(os.environ.get("DECIDABLE_FORKS", "0")) // 10,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


FORKED_BEFORE = """
# It has hooks of its own, which say so where they begin in the middle.
import logging, os, sys
if sys.argv[1] == "in the middle":
    # Whoever asks to be told of forks in the middle of one is told of its end alone.
    os.register_at_fork(before=lambda: __import__("decidable"))
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
import numpy as np
import decidable as dc
from decidable.bench import workload
policy = workload.synthetic(64).policy
rows = np.zeros(100_000, dc.REQUEST_DTYPE)
before = len(os.listdir("/proc/self/task"))
for _ in range(3):
    policy.decide_batch(rows, threads=2)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sees a process' threads as Linux has them")
@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_a_process_that_was_forked_before_has_threads(when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", FORKED_BEFORE, when],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.stdout, done.stderr) == (f"{min(2, cores()) - 1}\n", "")


AT_THE_END = """
import builtins, os, sys
import numpy as np
import decidable as dc
from decidable.bench import workload

policy = workload.synthetic(64).policy
rows = np.zeros(200_000, dc.REQUEST_DTYPE)
rows["confidence_bps"] = 10_000
expected = policy.decide_batch(rows, threads=1).tobytes()
digests = dc.digest_batch(rows, threads=1).tobytes()
if sys.argv[1] == "threads":
    policy.decide_batch(rows, threads=2)

class Last:
    given = dc, os.write, policy, rows, expected, digests

    def __del__(self):
        dc, write, policy, rows, expected, digests = self.given
        decided = policy.decide_batch(rows, threads=2).tobytes()
        write(1, b"%d%d" % (decided == expected, dc.digest_batch(rows, threads=2).tobytes() == digests))

builtins.last = Last()
"""


@pytest.mark.parametrize("there", ["threads", "none"])
def test_a_batch_at_the_end_of_the_interpreter_is_decided(there: str) -> None:
    """By what is left: no other thread gets the interpreter any more."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, there], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "11", "")


FORKED_MEANWHILE = """
import os, threading, time
import numpy as np
import decidable as dc
from decidable.bench import workload

policy = workload.synthetic(1_024).policy
rows = np.zeros(200_000, dc.REQUEST_DTYPE)
rows["confidence_bps"] = 10_000
out = np.zeros(len(rows), dc.DECISION_DTYPE)
batch = threading.Thread(target=lambda: policy.decide_batch(rows, out=out, threads=1, vectors="plain"))
batch.start()
while not out["evaluated_models"][0]:
    time.sleep(0)
child = os.fork()
if child == 0:
    try:
        policy.decide_batch(rows[:5], out=out[:5])
    except dc.InvalidInput as error:
        told = error.code == "batch.not_contiguous" and "or was when this process was forked" in error.message
        other = policy.decide_batch(rows[:5], out=np.zeros(5, dc.DECISION_DTYPE))
        os._exit(0 if told and (other == policy.decide_batch(rows[:5])).all() else 1)
    os._exit(2)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
batch.join()
policy.decide_batch(rows[:5], out=out[:5])
raise SystemExit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_room_that_was_written_when_a_process_forked_is_refused_in_the_child() -> None:
    """And told so; other room is filled, and the parent's is its own again."""
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", FORKED_MEANWHILE], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")


class Strange(np.ndarray[Any, Any]):
    """An array whose own views are of something else."""

    def reshape(self, *_: object, **__: object) -> Any:
        return np.zeros(3, np.uint8)

    def view(self, *_: object, **__: object) -> Any:
        return np.zeros(3, np.uint8)


def test_an_array_is_taken_as_it_is_whatever_its_class_makes_of_it() -> None:
    """Rows that are there are decided and room that is there is written, not memory that nobody wrote."""
    _, policy, requests = next(cases(1, 50))
    rows = rows_of(requests)
    expected = policy.decide_batch(rows)
    strange = np.ndarray.view(rows, Strange)
    assert policy.decide_batch(strange).tobytes() == expected.tobytes()
    assert policy.decide_batch(strange[::2]).tobytes() == expected[::2].tobytes()
    out, counts = np.zeros_like(expected), np.zeros(len(rows), dc.REJECTION_DTYPE)
    policy.decide_batch(rows, out=np.ndarray.view(out, Strange), counts=np.ndarray.view(counts, Strange))
    assert out.tobytes() == expected.tobytes()
    again = np.zeros_like(counts)
    policy.decide_batch(rows, counts=again)
    assert counts.tobytes() == again.tobytes()


@pytest.mark.parametrize("name", ["requests", "out", "holds"])
def test_a_mask_is_refused(name: str) -> None:
    """What it hides would be taken for what is there."""
    _, policy, requests = next(cases(1, 3))
    rows = rows_of(requests)
    rooms = {"requests": rows, "out": policy.decide_batch(rows), "holds": np.zeros(3, np.uint64)}
    rooms[name] = np.ma.masked_array(rooms[name])
    with pytest.raises(dc.InvalidInput) as caught:
        policy.decide_batch(rooms.pop("requests"), **rooms)
    assert (caught.value.code, name in caught.value.message) == ("input.wrong_type", True)


def test_room_that_shares_memory_is_refused() -> None:
    """Views of one array, and arrays that were made of one buffer; what touches is no overlap."""
    policy, rows = simple()
    rows = rows[:3]
    memory = bytearray(3 * 65 + 3 * 8)
    expected = policy.decide_batch(rows)
    out = np.frombuffer(memory, dc.DECISION_DTYPE, 3)
    with pytest.raises(dc.InvalidInput, match="holds shares memory with out") as caught:
        policy.decide_batch(rows, out=out, holds=np.frombuffer(memory, np.uint64, 3))
    assert caught.value.code == "batch.not_contiguous"
    assert not any(memory)
    policy.decide_batch(rows, out=out, holds=np.frombuffer(memory, np.uint64, 3, offset=3 * 65))
    assert out.tobytes() == expected.tobytes()
    with pytest.raises(dc.InvalidInput, match="cannot be used in place"):
        policy.decide_batch(rows, out=out, counts=np.zeros(3, dc.REJECTION_DTYPE), holds=out["request_sequence"])


@pytest.mark.parametrize("step", [1, -1, 2], ids=["contiguous", "reversed", "every second"])
@pytest.mark.parametrize("count", [3, 9_000])
def test_room_that_shares_memory_with_what_is_read_is_refused(step: int, count: int) -> None:
    """Before anything is written, however the rows lie in memory, and with the names of both arrays."""
    policy, rows = simple()
    memory = np.zeros(count * 2 * 70, np.uint8)
    requests = memory[: count * abs(step) * 70].view(dc.REQUEST_DTYPE)[::step]
    requests[:] = np.resize(rows, count)
    out, before = memory[: count * 65].view(dc.DECISION_DTYPE), memory.copy()

    def refused(told: str, *args: object, **keywords: object) -> None:
        with pytest.raises(dc.InvalidInput) as caught:
            policy.decide_batch(*args, **keywords)  # type: ignore[arg-type]
        assert caught.value.code == "batch.not_contiguous"
        assert caught.value.message == f"the array cannot be used in place: {told}"

    refused("out shares memory with requests", requests, out=out)
    refused("out shares memory with requests", requests.view(Strange), out=out)
    refused("gates shares memory with requests", requests, gates=memory[:count].reshape(count, 1))
    assert memory.tobytes() == before.tobytes()
    holds = np.zeros(count, np.uint64)
    most = holds.view(np.uint32)[: count * abs(step)][::step]
    most[:] = requests["output_tokens"]
    before_holds = holds.copy()
    refused("holds shares memory with max_output_tokens", requests, max_output_tokens=most, holds=holds)
    assert (holds == before_holds).all()
    # Quotes are copied before.
    room = np.zeros(3 * 65, np.uint8)
    quotes = room[:20].view(dc.QUOTE_DTYPE)
    quotes[:] = (1, 1, 5)
    expected = policy.decide_batch(requests[:3], quotes=quotes.copy())
    assert (
        policy.decide_batch(requests[:3], quotes=quotes, out=room.view(dc.DECISION_DTYPE)).tobytes()
        == expected.tobytes()
    )
    # What touches is no overlap.
    half = np.zeros(135 * count, np.uint8)
    apart = half[: 70 * count].view(dc.REQUEST_DTYPE)[:: -1 if step == -1 else 1]
    apart[:] = requests
    expected = policy.decide_batch(apart)
    beside = half[70 * count :].view(dc.DECISION_DTYPE)
    assert policy.decide_batch(apart, out=beside) is beside
    assert beside.tobytes() == expected.tobytes()


UNTOLD = """
import ctypes, os
import numpy as np
from decidable.bench import workload

work = workload.synthetic(22)
rows = np.tile(work.rows, 8)
expected = work.policy.decide_batch(rows, threads=1).tobytes()
assert os.getpid() == 1
assert work.policy.decide_batch(rows, threads=2).tobytes() == expected
# From here on children are numbered from 1, as this one is.
assert ctypes.CDLL(None).unshare(0x20000000) == 0
child = os.fork()
if child == 0:
    same = work.policy.decide_batch(rows, threads=2).tobytes() == expected
    os._exit(0 if same and os.getpid() == 1 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="has processes of the same number")
def test_a_child_with_its_parents_number_decides_on_threads_of_its_own() -> None:
    """As the first process of a container that begins another."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare")
    done = subprocess.run(
        [unshare, "-rpf", "--kill-child", sys.executable, "-Wignore", "-c", UNTOLD],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.stderr.startswith("unshare:"):
        pytest.skip(f"a process may not have a namespace of its own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
