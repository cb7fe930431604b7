"""Batches of tables: what pyarrow, polars and pandas hand over, and what they take back."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bridge
import decidable as dc
from model.random_cases import Cases, seeds

FIELDS = dc.REQUEST_DTYPE.names or ()
ABSENT = {
    "requested_model_id": 0,
    "budget_limit_microunits": 2**64 - 1,
    "max_p95_latency_ms": 0,
    "allowed_provider_mask": 2**64 - 1,
    "required_region_mask": 0,
}
"""The fields that may be absent, with what their column of an array holds then."""


def policy() -> dc.Policy:
    """Two candidates, neither of which is always the better one."""
    models = [
        dc.Model(
            model_id=number,
            provider_id=number,
            quality_bps=6_000 + 1_000 * number,
            risk_ceiling_bps=10_000,
            p95_latency_ms=100 * number,
            region_mask=number,
            input_cost_microunits_per_million_tokens=100_000 * number,
            output_cost_microunits_per_million_tokens=400_000 * number,
        )
        for number in (1, 2)
    ]
    return dc.Policy(bridge.catalog(models))


def random_rows(count: int, seed: int = 1) -> np.ndarray:
    """Rows of every kind, some of which have what is absent and some of which nothing serves."""
    chance = np.random.default_rng(seed)
    rows = np.zeros(count, dtype=dc.REQUEST_DTYPE)
    rows["request_sequence"] = chance.integers(0, 2**64, count, dtype="u8")
    rows["requested_model_id"] = chance.integers(0, 4, count)
    rows["input_tokens"] = chance.integers(0, 5_000, count)
    rows["output_tokens"] = chance.integers(0, 5_000, count)
    rows["business_value_microunits"] = chance.integers(-1_000, 10**6, count)
    rows["budget_limit_microunits"] = chance.integers(0, 4_000, count)
    for name in ("risk_bps", "confidence_bps", "minimum_quality_bps"):
        rows[name] = chance.integers(0, 10_001, count)
    rows["max_p95_latency_ms"] = chance.integers(0, 300, count)
    rows["allowed_provider_mask"] = chance.integers(0, 8, count)
    rows["required_region_mask"] = chance.integers(0, 4, count)
    for name, value in ABSENT.items():
        rows[name][chance.integers(0, 4, count) == 0] = value
    return rows


def columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The rows as columns."""
    return {name: np.ascontiguousarray(rows[name]) for name in FIELDS}


def whole(name: str, values: Any) -> dict[str, Any]:
    """A column, and those that every request has."""
    return {"input_tokens": [1_000] * len(values), "output_tokens": [1_000] * len(values)} | {name: values}


class OnlyAnArray:
    """Has the method for one array and not the one for a stream."""

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.exporter.__arrow_c_array__(requested_schema)


TABLES: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "pyarrow.Table": pa.table,
    "pyarrow.RecordBatch": pa.record_batch,
    "pyarrow.RecordBatchReader": lambda given: pa.table(given).to_reader(max_chunksize=7),
    "pyarrow.StructArray": lambda given: pa.StructArray.from_arrays(list(map(pa.array, given.values())), list(given)),
    "an array alone": lambda given: OnlyAnArray(pa.record_batch(given)),
    "polars.DataFrame": pl.DataFrame,
    "polars.Series": lambda given: pl.DataFrame(given).to_struct("requests"),
    "pandas.DataFrame": pd.DataFrame,
    "pandas.DataFrame, nullable": lambda given: pd.DataFrame(given).convert_dtypes(),
}


def refused(call: Callable[[], object], code: str, **details: Any) -> str:
    """The call is refused by exactly this code, and what it names; gives the message, which has one line."""
    with pytest.raises(dc.InvalidInput) as caught:
        call()
    assert caught.value.code == code, caught.value
    assert {name: caught.value.details[name] for name in details} == details
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


# --- what goes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_decided_as_its_rows(kind: str) -> None:
    """Random policies and requests with every extreme, from each library."""
    for seed in seeds(40):
        cases = Cases(seed)
        model_policy = cases.policy()
        rows = bridge.request_rows([cases.request(model_policy) for _ in range(60)])
        native = bridge.native_policy(model_policy)
        found = native.decide_batch(TABLES[kind](columns(rows)))
        assert isinstance(found, dc.Decisions)
        assert len(found) == 60
        assert found.to_numpy().tobytes() == native.decide_batch(rows).tobytes(), f"DECIDABLE_SEED={seed}"


@pytest.mark.parametrize("kind", TABLES)
def test_an_empty_table_has_no_decisions(kind: str) -> None:
    """Its columns are looked at all the same."""
    found = policy().decide_batch(TABLES[kind](columns(random_rows(0))))
    assert len(found) == 0
    assert found.to_numpy().dtype == dc.DECISION_DTYPE
    assert pa.table(found).num_rows == 0
    assert pa.table(found).column_names == list(dc.DECISION_DTYPE.names or ())
    unknown = columns(random_rows(0)) | {"risk": np.zeros(0, "u2")}
    refused(lambda: policy().decide_batch(TABLES[kind](unknown)), "batch.unknown_column")


def test_chunks_and_slices_change_nothing() -> None:
    """However a table is cut, its rows are those of the whole."""
    rows = random_rows(1_000)
    expected = policy().decide_batch(rows)
    table = pa.table(columns(rows))
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(3, 0), table.slice(3, 500), table.slice(503)])
    assert np.array_equal(policy().decide_batch(pieces).to_numpy(), expected)
    for start, count in ((0, 1), (1, 1), (3, 13), (13, 900), (999, 1), (1_000, 0)):
        cut = expected[start : start + count]
        assert np.array_equal(policy().decide_batch(table.slice(start, count)).to_numpy(), cut)
        assert np.array_equal(policy().decide_batch(pieces.slice(start, count)).to_numpy(), cut)
        batch = pa.record_batch(columns(rows)).slice(start, count)
        assert np.array_equal(policy().decide_batch(batch).to_numpy(), cut)
        assert np.array_equal(policy().decide_batch(OnlyAnArray(batch)).to_numpy(), cut)
        assert np.array_equal(policy().decide_batch(pl.from_arrow(table)[start : start + count]).to_numpy(), cut)
        assert np.array_equal(policy().decide_batch(table.to_pandas()[start : start + count]).to_numpy(), cut)


def test_a_null_is_an_absence() -> None:
    """Where a field may be absent, a null stands for what the array's sentinel stands for."""
    rows = random_rows(5_000)
    nullable = {name: pa.array(rows[name], mask=rows[name] == ABSENT[name]) for name in ABSENT}
    assert all(array.null_count > 500 for array in nullable.values())
    table = pa.table(columns(rows) | nullable)
    expected = policy().decide_batch(rows)
    assert np.array_equal(policy().decide_batch(table).to_numpy(), expected)
    assert np.array_equal(policy().decide_batch(table.slice(13, 4_000)).to_numpy(), expected[13:4_013])
    assert np.array_equal(policy().decide_batch(pl.from_arrow(table)).to_numpy(), expected)
    frame = table.to_pandas(types_mapper={pa.uint64(): pd.UInt64Dtype(), pa.uint32(): pd.UInt32Dtype()}.get)
    assert np.array_equal(policy().decide_batch(frame).to_numpy(), expected)
    for name, value in ABSENT.items():
        absent = rows.copy()
        absent[name] = value
        nothing = table.set_column(FIELDS.index(name), name, pa.nulls(len(rows)))
        assert np.array_equal(policy().decide_batch(nothing).to_numpy(), policy().decide_batch(absent)), name


def test_what_lies_under_a_null_is_no_value() -> None:
    """A null's place may hold anything, also what would not fit."""
    under = pa.array(np.array([-5, 2**40, 1]), mask=np.array([True, True, False]))
    found = policy().decide_batch(pa.table(whole("requested_model_id", under)))
    rows = np.array([of_tokens(requested_model_id=n) for n in (0, 0, 1)], dtype=dc.REQUEST_DTYPE)
    assert np.array_equal(found.to_numpy(), policy().decide_batch(rows))


def of_tokens(**changes: int) -> tuple[int, ...]:
    """The row of a request of 1,000 tokens each way."""
    request = dc.Request(input_tokens=1_000, output_tokens=1_000, **changes)
    values = {name: getattr(request, name) for name in FIELDS}
    return tuple(ABSENT[name] if value is None else value for name, value in values.items())


@pytest.mark.parametrize("name", [name for name in FIELDS if not name.endswith("_tokens")])
def test_a_column_that_is_missing_has_the_default_of_a_request(name: str) -> None:
    """As a field that is left out of `dc.Request`."""
    rows = random_rows(500)
    given = columns(rows)
    del given[name]
    rows[name] = of_tokens()[FIELDS.index(name)]
    assert np.array_equal(policy().decide_batch(pa.table(given)).to_numpy(), policy().decide_batch(rows))


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_every_type_of_integer_is_taken_for_every_field(kind: str) -> None:
    """Whatever fits the field, up to its extremes; the first value that does not is refused by its row."""
    holds = np.iinfo(kind)
    for name in FIELDS:
        bounds = np.iinfo(dc.REQUEST_DTYPE[name])
        lowest, highest = max(bounds.min, holds.min), min(bounds.max, holds.max)
        if name.endswith("_bps"):
            highest = min(highest, 10_000)
        rows = random_rows(40)
        rows[name] = np.array([lowest, highest, lowest + 1, highest - 1] * 10, dtype=kind)
        table = pa.table(columns(rows) | {name: rows[name].astype(kind)})
        assert table.schema.field(name).type.bit_width == holds.bits
        assert np.array_equal(policy().decide_batch(table).to_numpy(), policy().decide_batch(rows)), name
        for beyond in (holds.min, holds.max):
            if not bounds.min <= beyond <= bounds.max:
                values = rows[name].astype(kind)
                values[33] = beyond
                message = refused(
                    lambda values=values, name=name: policy().decide_batch(pa.table(whole(name, values))),
                    "input.out_of_range",
                    row=33,
                    field=name,
                    value=int(beyond),
                )
                assert message.startswith(f"row 33: {name} is {beyond}, outside ")


def test_a_pandas_index_is_no_column() -> None:
    """A data frame that was filtered has an index that pandas hands over; one with a field's name is the field."""
    rows = random_rows(300)
    frame = pd.DataFrame(columns(rows))
    chosen = rows["risk_bps"] > 5_000
    expected = policy().decide_batch(rows)
    assert np.array_equal(policy().decide_batch(frame[chosen]).to_numpy(), expected[chosen])
    named = frame.set_index("request_sequence")
    assert np.array_equal(policy().decide_batch(named).to_numpy(), expected)
    frame.index = pd.Index([f"user {n}" for n in range(300)], name="user")
    assert np.array_equal(policy().decide_batch(frame).to_numpy(), expected)


@pytest.mark.parametrize("name", ["request_sequence", "minimum_quality_bps", "quotes", "max_output_tokens"])
def test_a_pandas_index_that_is_a_range_is_refused_where_it_is_a_field(name: str) -> None:
    """It is no column of what is handed over, and a limit would be passed over."""
    frame = pd.DataFrame(whole(name, [7_000, 8_000, 9_000])).set_index(name)
    frame.index = pd.RangeIndex(7_000, 10_000, 1_000, name=name)
    for table in (frame, pa.table(frame)):
        message = refused(lambda table=table: policy().decide_batch(table), "batch.missing_column", field=name)
        assert message.startswith(name)
        assert ".reset_index()" in message
    if name != "quotes":
        rows = policy().decide_batch(frame.reset_index()).to_numpy()
        assert rows.tolist() == policy().decide_batch(pa.table(whole(name, [7_000, 8_000, 9_000]))).to_numpy().tolist()
    # Where there is such a column as well, that is the field, as it is beside an index that is no range.
    both = frame.reset_index()
    both.index = frame.index
    if name != "quotes":
        assert policy().decide_batch(both).to_numpy().tolist() == rows.tolist()
    frame.index.name = "user"
    assert len(policy().decide_batch(frame)) == 3


def test_an_index_of_evenly_spaced_numbers_is_the_field_or_refused() -> None:
    """pandas keeps it as a column or as a range, as it likes; in neither way is it passed over."""
    frame = pd.DataFrame(whole("request_sequence", [7, 8, 9])).set_index("request_sequence")
    if isinstance(frame.index, pd.RangeIndex):
        refused(lambda: policy().decide_batch(frame), "batch.missing_column", field="request_sequence")
    else:
        assert policy().decide_batch(frame).to_numpy()["request_sequence"].tolist() == [7, 8, 9]


def test_threads_and_vectors_are_those_of_an_array() -> None:
    """The same answer on any number, and the same refusal."""
    rows = random_rows(70_000)
    table = pa.table(columns(rows))
    expected = policy().decide_batch(rows)
    for threads in (1, 2, 7, None):
        assert np.array_equal(policy().decide_batch(table, threads=threads).to_numpy(), expected)
    for vectors in dc.vectors():
        assert np.array_equal(policy().decide_batch(table, vectors=vectors).to_numpy(), expected)
    refused(lambda: policy().decide_batch(table, threads=0), "input.out_of_range", field="threads")
    refused(lambda: policy().decide_batch(table, vectors="none"), "batch.no_vectors", field="vectors")


@pytest.mark.parametrize("name", ["quotes", "max_output_tokens", "out", "counts", "gates", "holds"])
def test_what_goes_with_rows_is_refused_with_a_table(name: str) -> None:
    """It would have to be as long as the table, which a stream does not tell; nothing is read."""
    reader = pa.table(columns(random_rows(3))).to_reader()
    refused(lambda: policy().decide_batch(reader, **{name: np.zeros(3)}), "batch.only_for_arrays", field=name)
    assert len(policy().decide_batch(reader)) == 3


def test_a_large_table_is_decided_as_its_rows() -> None:
    """A million rows in one chunk and in many."""
    rows = random_rows(1_000_000)
    expected = policy().decide_batch(rows)
    table = pa.table(columns(rows))
    assert np.array_equal(policy().decide_batch(table).to_numpy(), expected)
    found = pa.table(policy().decide_batch(table.to_reader(max_chunksize=10_007)))
    assert np.array_equal(found["request_sequence"].to_numpy(), rows["request_sequence"])
    assert np.array_equal(found["expected_utility_microunits"].to_numpy(), expected["expected_utility_microunits"])


QUOTE = pa.struct([("model_id", pa.uint32()), ("cost_microunits", pa.uint64())])


def with_quotes(lists: list[Any], kind: Any = None) -> pa.Table:
    """A table of requests with a column of quotes: for each row None, or pairs of a model and a cost, or a null."""
    values = [
        quotes and [q and dict(zip(("model_id", "cost_microunits"), q, strict=True)) for q in quotes]
        for quotes in lists
    ]
    kind = kind or pa.list_(QUOTE)
    return pa.table(
        {
            "input_tokens": pa.array([1_000] * len(lists)),
            "output_tokens": pa.array([1_000] * len(lists)),
            "quotes": pa.array(values, type=kind),
        }
    )


@pytest.mark.parametrize("kind", ["pyarrow", "polars", "pandas", "large lists", "chunks"])
def test_quotes_are_a_column_of_lists(kind: str) -> None:
    """In any order within a row, none where the list is null or empty: the decisions of single calls."""
    makers: dict[str, Callable[[pa.Table], Any]] = {
        "pyarrow": lambda table: table,
        "polars": pl.from_arrow,
        "pandas": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
        "large lists": lambda table: table.set_column(13, "quotes", table["quotes"].cast(pa.large_list(QUOTE))),
        "chunks": lambda table: pa.concat_tables([table.slice(row, 7) for row in range(0, 40, 7)]),
    }
    quoted = 0
    for seed in seeds(40):
        cases = Cases(seed)
        model_policy = cases.policy(extended=True)
        requests = [cases.request(model_policy, extended=True) for _ in range(40)]
        quotes = [list(request.quotes.items())[::-1] or cases.choice((None, [])) for request in requests]
        quoted += sum(map(bool, quotes))
        table = pa.table(columns(bridge.request_rows(requests)))
        table = table.append_column("quotes", with_quotes(quotes)["quotes"])
        native = bridge.native_policy(model_policy)
        found = native.decide_batch(makers[kind](table)).to_numpy().tolist()
        expected = [bridge.as_decision(native.decide(bridge.native_request(request))) for request in requests]
        assert found == expected, f"DECIDABLE_SEED={seed}"
    assert quoted > 100


# --- what is asked beside the decisions -------------------------------------------------------------------------------

ASKED = ("counts", "gates", "holds")


def beside(native: dc.Policy, rows: np.ndarray, **given: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What a batch of an array answers, and what it puts into the room for everything beside."""
    room = {
        "counts": np.zeros(len(rows), dc.REJECTION_DTYPE),
        "gates": np.zeros((len(rows), len(native.models)), np.uint8),
        "holds": np.zeros(len(rows), np.uint64),
    }
    return native.decide_batch(rows, **given, **room), room


def as_columns(decisions: np.ndarray, room: dict[str, np.ndarray]) -> dict[str, list[Any]]:
    """The columns of a table with all that is in the room."""
    return expected_columns(decisions) | {
        "counts": [dict(zip(dc.REJECTION_DTYPE.names or (), row, strict=True)) for row in room["counts"].tolist()],
        "gates": room["gates"].tolist(),
        "holds": room["holds"].tolist(),
    }


LIBRARIES: dict[str, tuple[Callable[[pa.Table], Any], Callable[[Any], dict[str, list[Any]]]]] = {
    "pyarrow": (lambda table: table, lambda found: pa.table(found).to_pydict()),
    "polars": (pl.from_arrow, lambda found: pl.DataFrame(found).to_dict(as_series=False)),
    "pandas": (
        lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
        lambda found: pa.Table.from_pandas(pd.DataFrame.from_arrow(found)).to_pydict(),
    ),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_counts_gates_and_holds_are_columns(library: str) -> None:
    """With quotes and largest uses, what a batch of an array says, and what single calls say."""
    hand_over, read = LIBRARIES[library]
    held = 0
    for seed in seeds(25):
        cases = Cases(seed)
        model_policy = cases.policy(extended=True)
        drawn = [cases.request(model_policy, extended=True) for _ in range(30)]
        requests = [bridge.native_request(request) for request in drawn]
        rows, native = bridge.request_rows(drawn), bridge.native_policy(model_policy)
        most = [request.max_output_tokens for request in requests]
        quotes = with_quotes([list((request.quotes or {}).items()) for request in requests])["quotes"]
        table = pa.table(columns(rows)).append_column("quotes", quotes)
        table = table.append_column("max_output_tokens", pa.array(most, pa.uint32()))
        found = read(native.decide_batch(hand_over(table), counts=True, gates=True, holds=True))

        each = [(n, *quote) for n, request in enumerate(requests) for quote in (request.quotes or {}).items()]
        expected = as_columns(
            *beside(
                native,
                rows,
                quotes=np.array(each, dtype=dc.QUOTE_DTYPE),
                max_output_tokens=np.array(most, dtype=np.uint32),
            )
        )
        assert list(found) == list(expected)
        for name, values in expected.items():
            assert found[name] == values, (name, f"DECIDABLE_SEED={seed}")
        assert found["counts"] == [native.decide_counted(request)[1] for request in requests]
        singles = [native.hold(request) for request in requests]
        assert found["holds"] == [hold or 0 for hold in singles]
        assert found["gates"] == [
            [dc.GATES.index(verdict.gate or verdict.verdict) for verdict in native.explain(request)]
            or [255] * len(native.models)
            for request in requests
        ]
        held += sum(hold is not None for hold in singles)
    assert held > 100


def test_only_what_is_asked_for_is_a_column() -> None:
    """In its type, whether there are rows or none; each alone is as with the others."""
    rows = random_rows(70_000)
    table, native = pa.table(columns(rows)), policy()
    decisions, room = beside(native, rows)
    expected = as_columns(decisions, room)
    types = {
        "counts": pa.struct([pa.field(name, pa.uint32(), nullable=False) for name in dc.REJECTION_DTYPE.names or ()]),
        "gates": pa.list_(pa.field("item", pa.uint8(), nullable=False), 2),
        "holds": pa.uint64(),
    }
    for asked in ((), ("counts",), ("gates",), ("holds",), ASKED):
        given = {name: name in asked for name in ASKED}
        for threads in (1, 2):
            found = native.decide_batch(table, threads=threads, **given)
            assert found.to_numpy().tobytes() == decisions.tobytes()
            read = pa.table(found)
            read.validate(full=True)
            assert read.column_names == [*(dc.DECISION_DTYPE.names or ()), *asked]
            assert {name: read.schema.field(name).type for name in asked} == {name: types[name] for name in asked}
            for name in asked:
                assert read[name].to_pylist() == expected[name]
        none = native.decide_batch(table.slice(0, 0), **given)
        assert pa.schema(none) == pa.table(none).schema == read.schema
    assert [field.name for field in read.schema if field.nullable] == [
        *("selected_model_id", "selected_model_index", "counterfactual_model_id")
    ]


def test_largest_uses_are_a_column() -> None:
    """A null, and a column of nulls, is the expected use; one below it is refused by its row."""
    rows = random_rows(3_000)
    native, most = policy(), rows["output_tokens"] + 1_000
    some = np.arange(3_000) % 3 == 0
    _, expected = beside(native, rows, max_output_tokens=most)
    _, usual = beside(native, rows)
    assert not np.array_equal(expected["holds"], usual["holds"])
    for kind in ("u4", "i8", "u8"):
        table = pa.table(columns(rows) | {"max_output_tokens": pa.array(most.astype(kind), mask=some)})
        for cut in (table, pa.concat_tables([table.slice(0, 7), table.slice(7)])):
            held = pa.table(native.decide_batch(cut, holds=True))["holds"].to_pylist()
            assert held == np.where(some, usual["holds"], expected["holds"]).tolist()
    nothing = pa.table(columns(rows) | {"max_output_tokens": pa.nulls(3_000)})
    held = pa.table(native.decide_batch(nothing, holds=True))["holds"].to_pylist()
    assert held == usual["holds"].tolist()

    def call(values: Any) -> Callable[[], object]:
        return lambda: native.decide_batch(pa.table(whole("max_output_tokens", values)))

    refused(call([1_000, 1_000, 999]), "kernel.maximum_below_expected", row=2)
    refused(call([1_000, 2**32]), "input.out_of_range", row=1, field="max_output_tokens", value=2**32)
    refused(call([1_000.0]), "batch.column_type", field="max_output_tokens")
    twice = pa.Table.from_arrays([pa.array([1])] * 4, [*whole("a", [1])][:2] + ["max_output_tokens"] * 2)
    refused(lambda: native.decide_batch(twice), "batch.duplicate_column", field="max_output_tokens")
    message = refused(lambda: native.decide_batch(pa.table({"max_output_token": [1]})), "batch.unknown_column")
    assert "did you mean max_output_tokens?" in message


def test_rows_of_a_large_catalog_are_fewer_at_a_time() -> None:
    """As of an array: between two pieces an interrupt is heard."""
    rows = random_rows(2_300)
    for count, pieces in ((2, 1), (65_535, 5)):
        models = [model.replace(model_id=number) for number in range(1, count + 1) for model in policy().models[:1]]
        found = pa.table(dc.Policy(bridge.catalog(models)).decide_batch(pa.table(columns(rows)), threads=1))
        assert found.num_rows == 2_300
        assert len(found.to_batches()) == pieces


def test_quotes_of_rows_outside_a_slice_do_not_count() -> None:
    """The values of a sliced column are still there, before it and behind it, and under a null."""
    table = with_quotes([[(1, 9)], [(2, 0)], None, [(1, 0)], [(2, 9)]])
    whole = policy().decide_batch(table).to_numpy()
    for start in range(5):
        for end in range(start, 6):
            found = policy().decide_batch(table.slice(start, end - start)).to_numpy()
            assert np.array_equal(found, whole[start:end])
    lists = table["quotes"].combine_chunks()
    hidden = pa.ListArray.from_arrays(lists.offsets, lists.values, mask=pa.array([True] * 5))
    found = policy().decide_batch(table.set_column(2, "quotes", hidden)).to_numpy()
    assert np.array_equal(found, policy().decide_batch(table.drop_columns("quotes")).to_numpy())


def test_quotes_that_cannot_be_are_refused_by_their_row() -> None:
    """Nulls inside, numbers that do not fit, one model twice, the model 0, and columns of anything else."""

    def call(lists: list[Any], kind: Any = None) -> Callable[[], object]:
        table = pa.concat_tables([with_quotes([None] * 3, kind), with_quotes(lists, kind)])
        return lambda: policy().decide_batch(table)

    for bad, part in ((None, ""), ((None, 1), ".model_id"), ((1, None), ".cost_microunits")):
        message = refused(call([[(1, 1)], [(2, 1), bad]]), "batch.null", row=4, field="quotes")
        assert message == f"row 4: quotes[1]{part} is null, and a quote has no absence"
    signed = pa.list_(pa.struct([("model_id", pa.int64()), ("cost_microunits", pa.int64())]))
    for bad, value, outside in (
        ((-1, 1), -1, "model_id is -1, outside 0 to 2^32 - 1"),
        ((2**32, 1), 2**32, "model_id is 4294967296, outside 0 to 2^32 - 1"),
        ((1, -5), -5, "cost_microunits is -5, outside 0 to 2^64 - 1"),
    ):
        given = call([[(1, 1)], [(1, 1), (2, 1), bad]], signed)
        message = refused(given, "input.out_of_range", row=4, field="quotes", value=value)
        assert message == f"row 4: quotes[2].{outside}"
    refused(call([[(1, 1)], [(1, 1), (1, 2)]]), "kernel.quotes_not_ascending", row=4)
    with pytest.raises(dc.InvalidInput, match=r"^row 4: two quotes for model 1$"):
        call([[(1, 1)], [(1, 1), (2, 1), (1, 2)]])()
    refused(call([[(1, 1)], [(0, 1)]]), "kernel.reserved_model_id", row=4)
    for other in (
        pa.array([1, 2]),
        pa.array([[1], [2]]),
        pa.array([None, None], type=pa.list_(pa.struct([("model_id", pa.int64()), ("cost", pa.int64())]))),
        pa.array([None, None], type=pa.list_(pa.struct([("model_id", pa.int64()), ("cost_microunits", pa.float64())]))),
        pa.array([None, None], type=pa.map_(pa.int64(), pa.int64())),
    ):
        table = pa.table({"input_tokens": [1, 1], "output_tokens": [1, 1], "quotes": other})
        refused(lambda table=table: policy().decide_batch(table), "batch.column_type", field="quotes")
    none = pa.table({"input_tokens": [1, 1], "output_tokens": [1, 1], "quotes": pa.nulls(2)})
    assert len(policy().decide_batch(none)) == 2
    twice = pa.Table.from_arrays(
        [pa.array([1]), pa.array([1]), pa.nulls(1), pa.nulls(1)], [*none.schema.names, "quotes"]
    )
    refused(lambda: policy().decide_batch(twice), "batch.duplicate_column", field="quotes")


def test_lists_that_are_all_empty_are_no_quotes() -> None:
    """Nothing says of what they would be: pyarrow and pandas make lists of the type null of them."""
    rest = {"input_tokens": [1] * 3, "output_tokens": [1] * 3}
    expected = policy().decide_batch(pa.table(rest))
    for kind in (pa.list_(pa.null()), pa.large_list(pa.null())):
        for lists in ([[], [], []], [[], None, []]):
            table = pa.table(rest | {"quotes": pa.array(lists, kind)})
            assert policy().decide_batch(table) == expected
        # A null in a list is a quote that is null.
        table = pa.table(rest | {"quotes": pa.array([[], [], [None]], kind)})
        message = refused(lambda table=table: policy().decide_batch(table), "batch.null", row=2, field="quotes")
        assert message == "row 2: quotes[0] is null, and a quote has no absence"
        assert policy().decide_batch(table.slice(0, 2)) == policy().decide_batch(pa.table(rest).slice(0, 2))
    assert policy().decide_batch(pd.DataFrame(rest | {"quotes": [[], [], []]})) == expected
    frame = pl.DataFrame(rest | {"quotes": [[], [], []]})
    message = refused(lambda: policy().decide_batch(frame), "batch.column_type", field="quotes")
    assert message.startswith("quotes is a column of nothing but nulls")
    assert "leave it out" in message


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_column_that_is_no_field_is_refused() -> None:
    """A misspelt limit must not be a limit that nobody set."""
    given = columns(random_rows(3))
    given["budget_limit"] = given.pop("budget_limit_microunits")
    message = refused(lambda: policy().decide_batch(pa.table(given)), "batch.unknown_column", field="budget_limit")
    assert "did you mean budget_limit_microunits?" in message
    for name in ("", "user\nid", "x" * 1_000, "ü"):
        table = pl.DataFrame({name: [1]})
        refused(lambda table=table: policy().decide_batch(table), "batch.unknown_column", field=name)


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens"])
def test_a_table_without_sizes_is_refused(name: str) -> None:
    """`dc.Request` has no default for them either."""
    given = whole("risk_bps", [1])
    del given[name]
    for table in (pa.table(given), pa.table(given).slice(1)):
        refused(lambda table=table: policy().decide_batch(table), "batch.missing_column", field=name)


def test_a_column_that_is_there_twice_is_refused() -> None:
    """Neither is the right one."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["risk_bps", "risk_bps"])
    refused(lambda: policy().decide_batch(table), "batch.duplicate_column", field="risk_bps")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1.0]), "Float64"),
        (pa.array([1.0], pa.float32()), "Float32"),
        (pa.array([True]), "Boolean"),
        (pa.array(["1"]), "Utf8"),
        (pa.array(["1"], pa.string_view()), "Utf8View"),
        (pa.array([b"1"]), "Binary"),
        (pa.array([1], pa.decimal128(5, 0)), "Decimal128(5, 0)"),
        (pa.array([1], pa.timestamp("us")), "Timestamp(µs)"),
        (pa.array([1], pa.duration("s")), "Duration(s)"),
        (pa.array([1], pa.date32()), "Date32"),
        (pa.array([1]).dictionary_encode(), "Dictionary(Int32, Int64)"),
        (pa.array([[1]]), None),
        (pa.array([{"a" * 100: 1}]), None),
    ],
    ids=str,
)
def test_a_column_of_anything_but_integers_is_refused(values: pa.Array, kind: str | None) -> None:
    """By its name and its type, also where the table is empty."""
    for table in (pa.table({"input_tokens": values}), pa.table({"input_tokens": values[:0]})):
        message = refused(lambda table=table: policy().decide_batch(table), "batch.column_type", field="input_tokens")
        assert message.startswith("input_tokens must be a column of integers, not of ")
        assert kind is None or message.endswith(kind)


def test_a_pandas_column_with_nan_is_one_of_floats() -> None:
    """pandas makes floats of integers with gaps, unless asked for its nullable ones."""
    frame = pd.DataFrame(whole("max_p95_latency_ms", [1, None]))
    refused(lambda: policy().decide_batch(frame), "batch.column_type", field="max_p95_latency_ms", type="Float64")
    assert len(policy().decide_batch(frame.astype("Int64"))) == 2


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ABSENT])
def test_a_null_where_nothing_can_be_absent_is_refused(name: str) -> None:
    """By row, counted over all chunks, and column."""
    table = pa.table(whole(name, pa.chunked_array([[1, 2], [], [3, None, None]])))
    message = refused(lambda: policy().decide_batch(table), "batch.null", row=3, field=name)
    assert message.startswith(f"row 3: {name} is null")
    refused(lambda: policy().decide_batch(table.slice(2)), "batch.null", row=1, field=name)
    refused(lambda: policy().decide_batch(pa.table(whole(name, pa.nulls(2)))), "batch.null", row=0, field=name)


def test_a_row_that_is_null_is_refused() -> None:
    """What its columns hold is not the row's."""
    sizes = {"input_tokens": 1, "output_tokens": 1}
    rows = [sizes, None, sizes]
    for requests in (pa.array(rows), pa.chunked_array([rows])):
        refused(lambda requests=requests: policy().decide_batch(requests), "batch.null", row=1, field="requests")


def test_a_proportion_above_the_whole_is_refused_by_its_row() -> None:
    """As in an array; rows are counted over all chunks."""
    rows = random_rows(100_000)
    rows["risk_bps"][99_000] = 10_001
    for table in (pa.table(columns(rows)), pa.table(columns(rows)).to_reader(max_chunksize=999)):
        refused(
            lambda table=table: policy().decide_batch(table),
            "kernel.out_of_range",
            row=99_000,
            field="risk_bps",
            value=10_001,
        )


@pytest.mark.parametrize("values", [pa.array([1]), pa.chunked_array([[1]]), pl.Series([1]), pl.Series(["x"])], ids=repr)
def test_an_array_without_columns_is_refused(values: Any) -> None:
    """Its values have no names."""
    refused(lambda: policy().decide_batch(values), "batch.not_a_table", field="requests")


def test_what_is_no_table_is_refused() -> None:
    """A class has the methods and holds nothing."""
    for value in (pa.Table, {"risk_bps": [1]}, [pa.table({})]):
        refused(lambda value=value: policy().decide_batch(value), "input.wrong_type", field="requests")


class Exports:
    """Gives what it was made with."""

    def __init__(self, capsule: object) -> None:
        self.capsule = capsule

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        if isinstance(self.capsule, BaseException):
            raise self.capsule
        return self.capsule


def test_a_stream_that_cannot_be_read_is_refused() -> None:
    """One that fails half-way, one that was read before, and what is no stream."""

    first = pa.record_batch(whole("risk_bps", [1]))

    def failing() -> Iterator[pa.RecordBatch]:
        yield first
        raise RuntimeError("the network is gone")

    reader = pa.RecordBatchReader.from_batches(first.schema, failing())
    message = refused(lambda: policy().decide_batch(reader), "batch.unreadable", field="requests")
    assert "the network is gone" in message
    used = Exports(first.__arrow_c_stream__())
    assert len(policy().decide_batch(used)) == 1
    refused(lambda: policy().decide_batch(used), "batch.unreadable")
    schema = Exports(pa.schema([]).__arrow_c_schema__())
    for exported in (Exports(None), Exports(3), schema):
        refused(lambda exported=exported: policy().decide_batch(exported), "batch.unreadable", field="requests")


def raising(error: BaseException, cause: BaseException | None = None) -> pa.RecordBatchReader:
    """A reader that reads from Python, which raises."""
    first = pa.record_batch(whole("risk_bps", [1]))

    def chunks() -> Iterator[pa.RecordBatch]:
        yield first
        raise error from cause

    return pa.RecordBatchReader.from_batches(first.schema, chunks())


def test_an_error_of_the_python_that_a_reader_reads_from_is_told_with_its_own_line() -> None:
    """Whatever was raised before it, and however many lines it has."""
    for error in (
        RuntimeError("the network is gone\nand so is\nthis"),
        RuntimeError("the network is gone\n\nTraceback of another\n"),
    ):
        for cause in (None, KeyError("first")):
            message = refused(lambda e=error, c=cause: policy().decide_batch(raising(e, c)), "batch.unreadable")
            assert message.endswith("as a table: RuntimeError: the network is gone")
    message = refused(lambda: policy().decide_batch(raising(StopIteration(3))), "batch.unreadable")
    assert message.endswith("RuntimeError: generator raised StopIteration")
    message = refused(lambda: policy().decide_batch(raising(ValueError("KeyboardInterrupt"))), "batch.unreadable")
    assert message.endswith("ValueError: KeyboardInterrupt")
    message = refused(lambda: policy().decide_batch(raising(ValueError("x" * 500))), "batch.unreadable")
    assert message.endswith("x…")


HEADER = "Traceback (most recent call last):\n"
FRAME = '  File "worker.py", line 3, in work\n    work()\n'
CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n"
WHILE = "\n\nDuring handling of the above exception, another exception occurred:\n\n"


@pytest.mark.parametrize(
    "kind", ["SystemExit", "SystemExit: 3", "KeyboardInterrupt", "KeyboardInterrupt: why", "MemoryError"]
)
@pytest.mark.parametrize("error", [ValueError, RuntimeError], ids=lambda error: error.__name__)
def test_what_the_message_of_an_error_tells_of_another_is_not_raised(kind: str, error: type[Exception]) -> None:
    """As of a worker whose traceback is in it, in whatever form."""
    texts = (
        f"worker said:\n{HEADER}{FRAME}{kind}",
        f"worker said: \n{FRAME}{kind}",
        f"{HEADER}{FRAME}{kind}\n",
        f"worker said{CAUSE}{HEADER}{FRAME}{kind}",
        f"worker said{WHILE}{HEADER}{FRAME}{kind}",
        f"worker said{CAUSE}{kind}",
        f"\n{FRAME}{kind}",
        f"why. Detail: Python exception: {HEADER}{FRAME}{kind}",
        f"Unknown error: . Detail: Python exception: {HEADER}{FRAME}{kind}",
        f"Unknown error: why. Detail: Python exception: {HEADER}{FRAME}{kind}",
    )
    for text in texts:
        for cause in (None, KeyError("first"), RuntimeError(text), KeyboardInterrupt(), SystemExit(3)):
            message = refused(
                lambda text=text, cause=cause: policy().decide_batch(raising(error(text), cause)), "batch.unreadable"
            )
            if "Detail" not in text:
                assert message.rstrip().endswith(f"as a table: {error.__name__}: {text}".splitlines()[0].rstrip()), text
    notes = f"{FRAME}{kind}", f"{HEADER}{FRAME}{kind}", f"{HEADER}{FRAME}KeyError: 1{WHILE}{HEADER}{FRAME}{kind}"
    for note in notes:
        for noted in (error("the network is gone"), error(), error(kind.partition(": ")[2])):
            noted.add_note(note)
            refused(lambda noted=noted: policy().decide_batch(raising(noted)), "batch.unreadable")


def test_an_interrupt_of_the_python_that_a_reader_reads_from_stays_one() -> None:
    """The error of the reader is a text, and its kind is in that."""
    for cause in (None, KeyError("first")):
        with pytest.raises(KeyboardInterrupt):
            policy().decide_batch(raising(KeyboardInterrupt(), cause))
    with pytest.raises(KeyboardInterrupt, match="why"):
        policy().decide_batch(raising(KeyboardInterrupt("why")))
    with pytest.raises(MemoryError, match="why"):
        policy().decide_batch(raising(MemoryError("why")))
    handled = KeyboardInterrupt("why")
    handled.__context__ = ValueError("one line")
    with pytest.raises(KeyboardInterrupt, match="why"):
        policy().decide_batch(raising(handled))


def test_an_exit_of_the_python_that_a_reader_reads_from_is_an_error() -> None:
    """A text does not end the program."""
    for error, told in (
        (SystemExit(3), "SystemExit: 3"),
        (SystemExit("why"), "SystemExit: why"),
        (SystemExit(), "SystemExit"),
    ):
        message = refused(lambda error=error: policy().decide_batch(raising(error)), "batch.unreadable")
        assert message.endswith(f"as a table: {told}")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_in_the_python_that_a_reader_reads_from_is_heard() -> None:
    """While the generator runs, the handler of the interpreter raises in it."""
    chunk = pa.record_batch(whole("risk_bps", [1]))
    after = threading.Event()

    def chunks() -> Iterator[pa.RecordBatch]:
        yield chunk
        signal.raise_signal(signal.SIGINT)
        after.wait(10)
        yield chunk

    with pytest.raises(KeyboardInterrupt):
        policy().decide_batch(pa.RecordBatchReader.from_batches(chunk.schema, chunks()))


def test_chunks_of_other_columns_than_the_schema_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """pyarrow hands them over. Nothing is printed where they are read, and what is right is read after them."""
    one, two = pa.record_batch({"x": [1]}), pa.record_batch({"input_tokens": [1], "output_tokens": [1]})

    class Mixed:
        def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
            return two.__arrow_c_array__()[0], one.__arrow_c_array__()[1]

    def late() -> Iterator[pa.RecordBatch]:
        yield two
        # A table that is read while another one is.
        refused(lambda: policy().decide_batch(Mixed()), "batch.unreadable")
        yield one

    for given in (
        Mixed(),
        pa.RecordBatchReader.from_batches(two.schema, iter([one])),
        pa.RecordBatchReader.from_batches(two.schema, late()),
    ):
        message = refused(lambda given=given: policy().decide_batch(given), "batch.unreadable", field="requests")
        assert message.endswith("a chunk has another number of columns, or of parts of one, than the schema says")
    assert len(policy().decide_batch(two)) == 1
    assert capfd.readouterr() == ("", "")


def test_what_a_table_raises_as_it_is_handed_over_comes_through() -> None:
    """As docs/batches.md says: it is no error of what is read."""

    class NoMethod:
        __arrow_c_stream__ = 3

    whole_numbers = {"input_tokens": [1, 1], "output_tokens": [1, 1]}
    twice = pd.DataFrame([[1, 1, 1]], columns=["input_tokens", "output_tokens", "output_tokens"])
    for given, kind in (
        (pd.DataFrame(whole_numbers | {"risk_bps": [1, "a"]}), pa.ArrowException),
        (pd.DataFrame(whole_numbers | {"budget_limit_microunits": [1, 2**70]}), OverflowError),
        (twice, ValueError),
        (NoMethod(), TypeError),
    ):
        with pytest.raises(kind) as caught:
            policy().decide_batch(given)
        assert not isinstance(caught.value, dc.DecidableError)


def test_a_polars_column_that_is_not_understood_is_named() -> None:
    """polars hands over a column of the type null with a buffer, and integers of 128 bits as a type of its own."""
    for name in ("requested_model_id", "max_output_tokens", "quotes"):
        message = refused(
            lambda name=name: policy().decide_batch(pl.DataFrame(whole(name, [None, None]))),
            "batch.column_type",
            field=name,
            type="Null",
        )
        assert message.startswith(f"{name} is a column of nothing but nulls")
        assert (".cast(pl.UInt32)" in message) == (name != "quotes")
        nulls = pa.table(whole(name, pa.nulls(2)))
        assert len(policy().decide_batch(nulls)) == 2
    for part in ("model_id", "cost_microunits"):
        quote = {"model_id": 1, "cost_microunits": 1} | {part: None}
        frame = pl.DataFrame(whole("quotes", [[quote], []]))
        message = refused(
            lambda frame=frame: policy().decide_batch(frame), "batch.column_type", field="quotes", type="Null"
        )
        assert message.startswith(f"quotes.{part} is a column of nothing but nulls")
    cast = pl.DataFrame(whole("requested_model_id", [None, None])).with_columns(
        pl.col("requested_model_id").cast(pl.UInt32)
    )
    assert len(policy().decide_batch(cast)) == 2
    for name in ("risk_bps", "max_output_tokens"):
        frame = pl.DataFrame(whole(name, [1, 2]), schema_overrides={name: pl.Int128})
        message = refused(lambda frame=frame: policy().decide_batch(frame), "batch.column_type", field=name)
        assert message.startswith(f"{name} must be a column of integers of 8 to 64 bits, not of _")
    other = pl.DataFrame(whole("something", [1, 2]), schema_overrides={"something": pl.Int128})
    refused(lambda: policy().decide_batch(other), "batch.unreadable", field="requests")


def test_what_a_reader_has_given_is_not_given_again() -> None:
    """After an error the rest is left of it, as docs/batches.md says."""
    reader = pa.table(whole("risk_bps", [1, 10_001, 2, 3])).to_reader(max_chunksize=1)
    refused(lambda: policy().decide_batch(reader), "kernel.out_of_range", row=1)
    assert len(policy().decide_batch(reader)) == 2


def test_an_exception_of_the_one_who_hands_over_is_its_own() -> None:
    """As of pandas, which says that it needs pyarrow."""
    with pytest.raises(ImportError, match="needs pyarrow"):
        policy().decide_batch(Exports(ImportError("needs pyarrow")))


# --- who owns what ----------------------------------------------------------------------------------------------------


class Stream(ctypes.Structure):
    """`struct ArrowArrayStream` of the Arrow C stream interface."""


GET_SCHEMA = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.c_void_p)
GET_NEXT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.c_void_p)
LAST_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(Stream))
RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(Stream))
Stream._fields_ = [
    ("get_schema", GET_SCHEMA),
    ("get_next", GET_NEXT),
    ("get_last_error", LAST_ERROR),
    ("release", RELEASE),
    ("private_data", ctypes.c_void_p),
]

CAPSULE = ctypes.pythonapi.PyCapsule_New
CAPSULE.restype = ctypes.py_object
CAPSULE.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
NAME = b"arrow_array_stream"


class Counted:
    """A stream of a pyarrow table that counts how often it is read and released; one chunk of it may fail, silently."""

    def __init__(self, table: pa.Table, *, chunk: int, fails_at: int | None = None) -> None:
        self.inner = Stream()
        table.to_reader(max_chunksize=chunk)._export_to_c(ctypes.addressof(self.inner))
        self.read = self.released = 0

        def schema(_stream: Any, out: int) -> int:
            return self.inner.get_schema(self.inner, out)

        def following(_stream: Any, out: int) -> int:
            self.read += 1
            return 5 if self.read == fails_at else self.inner.get_next(self.inner, out)

        def release(stream: Any) -> None:
            self.released += 1
            self.inner.release(self.inner)
            stream.contents.release = RELEASE()

        self.stream = Stream(
            GET_SCHEMA(schema), GET_NEXT(following), LAST_ERROR(lambda _stream: None), RELEASE(release), None
        )
        self.capsule = CAPSULE(ctypes.addressof(self.stream), NAME, None)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.capsule


def test_a_stream_is_read_to_its_end_and_released_once() -> None:
    """The one who took it over lets go of it, and of every chunk: what pyarrow had allocated is free again."""
    gc.collect()
    before = pa.total_allocated_bytes()
    rows = random_rows(1_000)
    copied = pa.table({name: pa.array(values.tolist(), values.dtype.name) for name, values in columns(rows).items()})
    assert pa.total_allocated_bytes() > before
    counted = Counted(copied, chunk=100)
    del copied
    found = policy().decide_batch(counted)
    assert (counted.read, counted.released) == (11, 1)
    gc.collect()
    # Less where something of another test is let go of only now.
    assert pa.total_allocated_bytes() <= before
    assert np.array_equal(found.to_numpy(), policy().decide_batch(rows))
    assert counted.released == 1


@pytest.mark.parametrize("values", [[1, 2, None], [1, 2, -1], [1, 2, 10_001], [1.0, 2.0, 3.0]])
def test_a_stream_that_is_refused_is_released_once(values: list[Any]) -> None:
    """Whether its schema is refused or a later chunk."""
    gc.collect()
    before = pa.total_allocated_bytes()
    counted = Counted(pa.table(whole("risk_bps", values)), chunk=1)
    with pytest.raises(dc.InvalidInput):
        policy().decide_batch(counted)
    assert counted.released == 1
    gc.collect()
    assert pa.total_allocated_bytes() <= before


def test_a_stream_that_fails_silently_is_refused_and_released_once() -> None:
    """The interface lets it fail without a word."""
    counted = Counted(pa.table(whole("risk_bps", [1, 2, 3])), chunk=1, fails_at=2)
    refused(lambda: policy().decide_batch(counted), "batch.unreadable", field="requests")
    assert (counted.read, counted.released) == (2, 1)


def test_chunks_are_let_go_of_as_they_are_decided() -> None:
    """Reading a long stream takes the memory of a chunk, not of the stream."""
    most, ones = 0, [1] * 10_000
    schema = pa.schema({"input_tokens": pa.int64(), "output_tokens": pa.int64()})

    def chunks() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for _ in range(100):
            chunk = pa.record_batch({name: pa.array(ones) for name in schema.names})
            most = max(most, pa.total_allocated_bytes() - before)
            yield chunk

    gc.collect()
    before = pa.total_allocated_bytes()
    reader = pa.RecordBatchReader.from_batches(schema, chunks())
    assert len(policy().decide_batch(reader)) == 1_000_000
    assert 160_000 <= most < 5 * 160_000


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_long_stream_is_interrupted_between_two_chunks() -> None:
    """Though no Python runs while it is read; what was not read is still there."""
    chunks = 400_000
    chunk = pa.record_batch({name: pa.array([1]) for name in ("input_tokens", "output_tokens")})
    reader = pa.Table.from_batches([chunk] * chunks).to_reader()
    interrupt = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        policy().decide_batch(reader)
    interrupt.join()
    assert 0 < sum(1 for _ in reader) < chunks


# --- what comes out ---------------------------------------------------------------------------------------------------


def expected_columns(rows: np.ndarray) -> dict[str, list[int | None]]:
    """The columns of decisions, absence as None, as `dc.Decision` has them."""
    none = {"selected_model_id": 0, "selected_model_index": 65_535, "counterfactual_model_id": 0}
    return {
        name: [None if value == none.get(name) else value for value in rows[name].tolist()]
        for name in dc.DECISION_DTYPE.names or ()
    }


def test_decisions_are_a_table_for_each_library() -> None:
    """The fields of `DECISION_DTYPE` in their types and order, what is absent as null."""
    rows = random_rows(3_000)
    found = policy().decide_batch(pa.table(columns(rows)))
    expected = expected_columns(policy().decide_batch(rows))
    assert None in expected["selected_model_id"]
    assert None in expected["counterfactual_model_id"]
    table = pa.table(found)
    table.validate(full=True)
    assert table.to_pydict() == expected
    types = {name: np.dtype(table.schema.field(name).type.to_pandas_dtype()) for name in table.column_names}
    assert types == {name: dc.DECISION_DTYPE[name] for name in dc.DECISION_DTYPE.names or ()}
    assert pa.RecordBatchReader.from_stream(found).read_all().to_pydict() == expected
    assert pa.schema(found) == table.schema
    assert pl.DataFrame(found).to_dict(as_series=False) == expected
    assert pl.from_arrow(pa.table(found)).to_dict(as_series=False) == expected
    frame = pd.DataFrame.from_arrow(found)
    assert list(frame.columns) == list(expected)
    assert frame["expected_utility_microunits"].tolist() == expected["expected_utility_microunits"]
    assert frame["selected_model_id"].isna().tolist() == [value is None for value in expected["selected_model_id"]]


def test_small_chunks_are_joined_in_the_answer() -> None:
    """As many rows to a chunk as those of a large one have; none is cut."""
    rows = random_rows(150_000)
    expected = policy().decide_batch(rows)
    given = dict.fromkeys(ASKED, True)
    table = pa.table(columns(rows))
    whole_answer = policy().decide_batch(table, **given)
    for size in (1_000, 40_000):
        found = policy().decide_batch(table.to_reader(max_chunksize=size), **given)
        assert found == whole_answer
        assert np.array_equal(found.to_numpy(), expected)
        lengths = [len(chunk) for chunk in pa.RecordBatchReader.from_stream(found)]
        each = 65_536 // size * size
        assert lengths == [each] * (150_000 // each) + ([150_000 % each] if 150_000 % each else [])
        assert pa.table(found).to_pydict() == pa.table(whole_answer).to_pydict()
    made = dc.Decisions(expected)
    assert [len(chunk) for chunk in pa.RecordBatchReader.from_stream(made)] == [65_536, 65_536, 18_928]
    assert pa.table(made).to_pydict() == pa.table(policy().decide_batch(table)).to_pydict()


def test_numpy_makes_an_array_of_decisions() -> None:
    """The one of `to_numpy`; always a copy, so that none cannot be had."""
    found = policy().decide_batch(pa.table(columns(random_rows(100))))
    array = np.asarray(found)
    assert (array.dtype, array.shape) == (dc.DECISION_DTYPE, (100,))
    assert array.tobytes() == np.array(found).tobytes() == found.to_numpy().tobytes()
    array["action"] = 0
    assert np.asarray(found)["action"].min() > 0
    assert np.asarray(found, dtype=object).tolist() == found.to_numpy().tolist()
    assert found.__array__(dc.DECISION_DTYPE, copy=True).tobytes() == found.to_numpy().tobytes()
    with pytest.raises(dc.InvalidInput) as caught:
        found.__array__(copy=False)
    assert caught.value.code == "batch.copied"


WITHOUT_MEMORY = """
import pathlib, resource
import numpy as np
import pyarrow as pa
import decidable as dc

model = dc.Model(
    model_id=1,
    quality_bps=9_000,
    input_cost_microunits_per_million_tokens=1,
    output_cost_microunits_per_million_tokens=1,
)
policy = dc.Policy(dc.Catalog([model]))
chunk = pa.record_batch({name: pa.array(np.ones(65_536, np.uint32)) for name in ("input_tokens", "output_tokens")})
quotes = np.zeros(6_000_000, dc.QUOTE_DTYPE)
ones = pa.array(np.ones(len(quotes), np.uint32))
lists = pa.ListArray.from_arrays(
    pa.array([0, len(quotes)], pa.int32()), pa.StructArray.from_arrays([ones, ones], ["model_id", "cost_microunits"])
)
quoted = pa.table({"input_tokens": [1], "output_tokens": [1], "quotes": lists})
rows = np.zeros(1, dc.REQUEST_DTYPE)
many = np.tile(policy.decide_batch(rows), 2_000_000)
reader = lambda chunks: pa.RecordBatchReader.from_batches(chunk.schema, (chunk for _ in range(chunks)))
large = policy.decide_batch(reader(40), threads=1, counts=True, gates=True, holds=True)
pa.table(policy.decide_batch(reader(1), threads=1))
size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = size + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for call in (
    lambda: policy.decide_batch(reader(60), threads=1),
    lambda: policy.decide_batch(reader(60), threads=1, counts=True, gates=True, holds=True),
    lambda: large.to_numpy(),
    lambda: np.asarray(large),
    lambda: dc.Decisions(many),
    lambda: policy.decide_batch(quoted),
    lambda: policy.decide_batch(rows, quotes=quotes),
    lambda: policy.decide_batch(rows, quotes=quotes[:4_000_000]),
    lambda: pa.table(large),
):
    try:
        call()
    except MemoryError:
        print("MemoryError")
assert len(policy.decide_batch(reader(2), threads=1)) == 131_072
assert len(large) == 40 * 65_536
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_an_answer_that_does_not_fit_in_memory_is_an_error() -> None:
    """And not the end of the process; what fits is answered afterwards. Quotes and decisions that come in, too."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "MemoryError\n" * 9)


def test_a_null_of_a_decision_is_the_absence_of_a_single_one() -> None:
    """What `dc.Decision` says is None."""
    rows = random_rows(200)
    found = pa.table(policy().decide_batch(pa.table(columns(rows)))).to_pylist()
    for row, decision in zip(rows.tolist(), found, strict=True):
        single = policy().decide(row)
        assert decision == {
            name: getattr(value, "code", value) for name, value in ((name, getattr(single, name)) for name in decision)
        }


def test_decisions_are_read_as_often_as_wanted() -> None:
    """Every stream is whole; reading one changes nothing, and no schema that is asked for changes the types."""
    found = policy().decide_batch(pa.table(columns(random_rows(100))))
    first = pa.table(found)
    assert first == pa.table(found)
    assert pa.RecordBatchReader.from_stream(found).schema == first.schema
    wanted = pa.schema({"action": pa.int64()}).__arrow_c_schema__()
    capsule = found.__arrow_c_stream__(wanted)
    assert pa.table(Exports(capsule)) == first
    array = found.to_numpy()
    array["action"] = 0
    assert found.to_numpy()["action"].min() > 0
    assert repr(found) == "<Decisions on 100 requests>"


def test_decisions_are_values() -> None:
    """Equal and hashed alike where the tables are, whatever their chunks; frozen, pickled and copied."""
    rows = random_rows(1_000)
    table, native = pa.table(columns(rows)), policy()
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(3, 0), table.slice(3, 500), table.slice(503)])
    for given in ({}, {"counts": True}, {"gates": True}, {"holds": True}, dict.fromkeys(ASKED, True)):
        found = native.decide_batch(table, **given)
        cut = native.decide_batch(pieces, **given)
        assert found == cut
        assert not found != cut  # noqa: SIM202 - both operators are meant
        assert len({found, cut, native.decide_batch(table.slice(1), **given)}) == 2
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(cut, protocol))
            assert again == found
            assert hash(again) == hash(found) == hash(found)
            assert pa.table(again).to_pydict() == pa.table(found).to_pydict()
        assert copy.copy(found) is copy.deepcopy([found])[0] is found
    with pytest.raises(AttributeError):
        found.something_new = 1  # type: ignore[attr-defined]
    assert found != native.decide_batch(table)
    assert found != "something else"
    decisions, room = beside(native, rows)
    assert dc.Decisions(decisions, **room) == found
    assert dc.Decisions(decisions[::-1], **{name: array[::-1] for name, array in room.items()}) != found
    for name, array in room.items():
        other = array.copy()
        other.reshape(-1).view(np.uint8)[-1] ^= 1
        assert dc.Decisions(decisions, **(room | {name: other})) != found, name
    none = native.decide_batch(table.slice(0, 0), **given)
    assert pickle.loads(pickle.dumps(none)) == none == native.decide_batch(pieces.slice(0, 0), **given)


def test_what_are_no_decisions_is_refused() -> None:
    """Rows that no batch gives, and arrays of another type or length."""
    decisions, room = beside(policy(), random_rows(100))
    wrong = decisions.copy()
    wrong["action"][7] = 9
    message = refused(lambda: dc.Decisions(wrong), "kernel.unreadable", row=7)
    assert message.startswith("row 7: ")
    for name, array in (
        ("counts", room["counts"][1:]),
        ("counts", room["gates"]),
        ("gates", room["gates"][1:]),
        ("gates", room["gates"].reshape(-1)),
        ("gates", np.zeros((100, 65_536), np.uint8)),
        ("gates", np.zeros((100, 0), np.uint8)),
        ("holds", room["holds"].astype(np.int64)),
    ):
        given = {name: array}
        refused(lambda given=given: dc.Decisions(decisions, **given), "batch.wrong_dtype", field=name)
    refused(lambda: dc.Decisions(room["counts"]), "batch.wrong_dtype", field="decisions")
    refused(lambda: dc.Decisions(None), "input.wrong_type", field="decisions")  # type: ignore[arg-type]
    refused(lambda: dc.Decisions(decisions, gates=[[1]]), "input.wrong_type", field="gates")  # type: ignore[arg-type]


def test_a_byte_that_is_no_gate_is_refused_by_its_row() -> None:
    """0 for none, the gates by their numbers, and 255 where no model was looked at."""
    decisions = policy().decide_batch(random_rows(30))
    gates = np.zeros((30, 2), np.uint8)
    for byte in range(256):
        gates[17, 1] = byte
        if byte in {*range(len(dc.GATES)), 255}:
            found = dc.Decisions(decisions, gates=gates)
            assert pa.table(found)["gates"].to_pylist() == gates.tolist()
            continue
        message = refused(
            lambda: dc.Decisions(decisions, gates=gates), "input.out_of_range", row=17, field="gates", value=byte
        )
        assert message == f"row 17: gates is {byte}, outside 0 to 9 and 255"


def test_decisions_outlive_what_they_came_from() -> None:
    """A stream needs neither the object nor the table of requests; one that nobody reads is let go of."""
    rows = random_rows(100_000)
    expected = policy().decide_batch(rows)
    found = policy().decide_batch(pa.table(columns(rows)))
    reader = pa.RecordBatchReader.from_stream(found)
    unread = [found.__arrow_c_stream__() for _ in range(3)]
    first = reader.read_next_batch()
    del found, rows, unread
    gc.collect()
    told: list[pa.Table] = []
    thread = threading.Thread(target=lambda source: told.append(source.read_all()), args=(reader,))
    thread.start()
    thread.join()
    del reader, thread
    gc.collect()
    read = pa.concat_tables([pa.Table.from_batches([first]), *told])
    assert np.array_equal(read["estimated_cost_microunits"].to_numpy(), expected["estimated_cost_microunits"])


def test_threads_share_a_policy_a_table_and_its_decisions() -> None:
    """Nothing of it is changed by being read."""
    rows = random_rows(20_000)
    table, shared = pl.DataFrame(columns(rows)), policy()
    decisions = shared.decide_batch(table)
    expected = pa.table(decisions)
    same: list[bool] = []

    def work() -> None:
        same.extend(
            pa.table(shared.decide_batch(table, threads=2)) == expected and pa.table(decisions) == expected
            for _ in range(5)
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 20
