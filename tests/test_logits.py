"""Statistics of logits: entropy, dominance and the selected token's probability, of arrays that stay where they are."""

from __future__ import annotations

import array
import math
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import decidable as dc

LANES = 16
LOG2_E, LN_2 = 1.442_695_040_888_963_4, 0.693_147_180_559_945_3
COEFFICIENTS = (
    3.760_713_988_036_265e-05,
    0.000_867_670_788_534_395_6,
    0.015_014_152_788_916_818,
    0.173_286_768_160_335_06,
)


def textbook(logits: npt.NDArray[Any], selected: int) -> tuple[float, float, float]:
    """Entropy, dominance and probability in double precision, with NumPy's exponential and logarithm."""
    weights = np.exp(logits.astype(np.float64) - np.float64(logits.max()))
    probabilities = weights / math.fsum(weights)
    possible = probabilities[probabilities > 0]
    order = np.sort(probabilities)
    dominance = order[-1] - (order[-2] if len(order) > 1 else 0)
    return -math.fsum(possible * np.log(possible)), dominance, probabilities[selected]


def power(y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """2^y as the library has it, one addition or multiplication after the other."""
    rounded = y + 6_755_399_441_055_744.0
    rest = y - (rounded - 6_755_399_441_055_744.0)
    root = np.zeros_like(rest)
    for coefficient in COEFFICIENTS:
        root = root * rest + coefficient
    root = root * rest + 1.0
    square = root * root
    moved = (square * square).view(np.uint64) + (rounded.view(np.uint64) << np.uint64(52))
    return moved.view(np.float64)


def logarithm(x: float) -> float:
    """The natural logarithm as the library has it."""
    (above,) = struct.unpack("<Q", struct.pack("<d", x))
    above -= 0x3FE6_A09E_667F_3BCD
    (mantissa,) = struct.unpack("<d", struct.pack("<Q", (above & ((1 << 52) - 1)) + 0x3FE6_A09E_667F_3BCD))
    s = (mantissa - 1.0) / (mantissa + 1.0)
    total = 0.0
    for divisor in range(21, 1, -2):
        total = (total + 1.0 / divisor) * (s * s)
    return (above >> 52) * LN_2 + 2.0 * (s + s * total)


def folded(terms: npt.NDArray[np.float64]) -> float:
    """Sixteen partial sums, then the upper half added to the lower one until one is left."""
    lanes = np.zeros(LANES)
    for row in np.pad(terms, (0, -len(terms) % LANES)).reshape(-1, LANES):
        lanes = lanes + row
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return float(lanes[0])


def defined(logits: npt.NDArray[np.float32], selected: int) -> dc.LogitStats:
    """The definition with NumPy's additions and multiplications alone: no code of the library, the same bits."""
    order = np.argsort(-logits, kind="stable")
    y = np.maximum((logits.astype(np.float64) - np.float64(logits[order[0]])) * LOG2_E, -1_000.0)
    weights = power(y)
    total, logs = folded(weights), folded(weights * y)
    logs = 0.0 if logs > -(2.0**-900) else logs
    weights[y < -900] = 0.0
    second = int(order[1]) if len(order) > 1 and logits[order[1]] > -np.inf else None
    return dc.LogitStats(
        entropy=max(0.0, logarithm(total) - LN_2 * (logs / total)),
        dominance=(1.0 - (0.0 if second is None else float(weights[second]))) / total,
        selected_probability=float(weights[selected]) / total,
        selected=selected,
        top1=int(order[0]),
        top2=second,
    )


def cases() -> Iterator[npt.NDArray[np.float32]]:
    """Logits of many sizes and spreads, some masked."""
    random = np.random.default_rng(7)
    for size in (1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 1_000, 1_023, 1_024, 1_025, 5_000):
        for spread in (0.01, 1.0, 5.0, 40.0, 1e4, 1e30):
            logits = random.normal(0, spread, size).astype(np.float32)
            yield logits
            if size > 2:
                logits = logits.copy()
                logits[random.random(size) < 0.9] = -np.inf
                logits[size // 3] = 0.5
                yield logits


def test_the_bits_are_those_of_the_definition() -> None:
    """Every case, however it is spread or masked, has the bits that NumPy's additions and multiplications give."""
    for logits in cases():
        for selected in {0, len(logits) // 2, len(logits) - 1}:
            assert dc.logit_stats(logits, selected) == defined(logits, selected)


def test_the_numbers_of_the_rust_test() -> None:
    """rust/decidable-guard/src/logits/tests.rs pins the bits of one case; they are these."""
    numbers = np.arange(5_000)
    logits = (numbers % 1_009 * 31 % 509).astype(np.float32) / np.float32(64) - np.float32(7.5)
    stats = dc.logit_stats(logits, 777)
    bits = [
        struct.unpack("<Q", struct.pack("<d", number))[0]
        for number in (stats.entropy, stats.dominance, stats.selected_probability)
    ]
    assert bits == [4_620_056_054_163_077_464, 0, 4_530_283_974_075_347_413]
    assert (stats.top1, stats.top2) == (197, 706)


@pytest.mark.parametrize("size", [1, 2, 100, 50_257, 131_072, 262_144])
def test_it_is_within_a_millionth_of_the_textbook(size: int) -> None:
    """Random logits, logits of one token against all others, and masked ones, up to 2^18."""
    random = np.random.default_rng(size)
    drawn = [random.normal(0, spread, size).astype(np.float32) for spread in (0.1, 3, 12, 100)]
    against = [np.full(size, -below, np.float32) for below in (0.0, 8.3, 11.8, 12.5, 20.1)]
    for logits in against:
        logits[-1] = 0.0
    masked = random.normal(0, 4, size).astype(np.float32)
    masked[random.random(size) < 0.99] = -np.inf
    masked[0] = 1.0
    for logits in [*drawn, *against, masked]:
        for selected in (0, size // 2, size - 1):
            stats = dc.logit_stats(logits, selected)
            entropy, dominance, probability = textbook(logits, selected)
            assert abs(stats.entropy - entropy) < 1e-6
            assert abs(stats.dominance - dominance) < 1e-6
            assert abs(stats.selected_probability - probability) < 1e-6


@pytest.mark.parametrize("size", [1_000, 128_256, 131_072])
def test_half_precision_is_within_a_millionth_of_the_textbook(size: int) -> None:
    """Random logits in float16 and in bfloat16, beside double precision of the same values."""
    random = np.random.default_rng(size)
    for spread in (0.1, 3, 12):
        single = random.normal(0, spread, size).astype(np.float32)
        upper = (single.view(np.uint32) >> 16).astype(np.uint16)
        for logits, values, options in (
            (single.astype(np.float16), single.astype(np.float16), {}),
            (upper, (upper.astype(np.uint32) << 16).view(np.float32), {"dtype": "bfloat16"}),
        ):
            for selected in (0, int(values.argmax()), size - 1):
                stats = dc.logit_stats(logits, selected, **options)
                found = (stats.entropy, stats.dominance, stats.selected_probability)
                assert np.abs(np.subtract(found, textbook(values.astype(np.float64), selected))).max() < 1e-6


def every_way(logits: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """The same logits, lying in memory in other ways."""
    yield logits
    yield np.repeat(logits, 3)[::3]
    yield logits[::-1].copy()[::-1]
    yield np.stack([logits, logits], axis=1)[:, 1]
    packed = np.zeros(len(logits), dtype=[("a", "u1"), ("logit", logits.dtype)])
    packed["logit"] = logits
    assert not packed["logit"].flags.aligned
    yield packed["logit"]
    unaligned = np.frombuffer(b"\0" + logits.tobytes(), np.uint8)[1:].view(logits.dtype)
    yield unaligned
    frozen = logits.copy()
    frozen.flags.writeable = False
    yield frozen


@pytest.mark.parametrize("size", [1, 40, 3_000, 40_000])
def test_strides_and_types_that_hold_the_same_values_give_the_same_bits(size: int) -> None:
    """float32, float16 and bfloat16, side by side, backwards, every third, unaligned, read-only: one answer."""
    numbers = np.random.default_rng(size).integers(-120, 120, size).astype(np.float32) / np.float32(8)
    if size > 1:
        numbers[size // 2] = -np.inf
        numbers[0] = 1.0
    expected = dc.logit_stats(numbers, size - 1)
    for logits in every_way(numbers):
        assert dc.logit_stats(logits, size - 1) == expected
    for logits in every_way(numbers.astype(np.float16)):
        assert dc.logit_stats(logits, size - 1) == expected
    upper = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    assert ((upper.astype(np.uint32) << 16).view(np.float32) == numbers).all()
    for logits in every_way(upper):
        assert dc.logit_stats(logits, size - 1, dtype="bfloat16") == expected


def test_half_precision_with_its_smallest_numbers() -> None:
    """Subnormal halves are the numbers that they stand for."""
    halves = np.arange(0, 0x7C00, 7, dtype=np.uint16).view(np.float16) * np.float16(-1)
    assert dc.logit_stats(halves, 5) == dc.logit_stats(halves.astype(np.float32), 5)


def test_bfloat16_of_ml_dtypes() -> None:
    """Its arrays say by the name of their type what they are."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    logits = np.linspace(-4, 4, 300).astype(ml_dtypes.bfloat16)
    assert dc.logit_stats(logits, 3) == dc.logit_stats(logits.astype(np.float32), 3)
    assert dc.logit_stats(logits[::2], 3) == dc.logit_stats(logits[::2].astype(np.float32), 3)


class Through:
    """An array that shows itself in one way only."""

    def __init__(self, logits: npt.NDArray[Any], *names: str) -> None:
        for name in names:
            setattr(type(self), name, property(lambda _, name=name: getattr(logits, name)))


def test_other_arrays_through_dlpack_the_array_interface_and_buffers() -> None:
    """What is no NumPy array is read where it lies, in any of the ways that NumPy knows."""
    logits = np.linspace(-3, 3, 1_000, dtype=np.float32)
    expected = dc.logit_stats(logits, 4)
    dlpack = type("Dlpack", (Through,), {})(logits, "__dlpack__", "__dlpack_device__")
    assert not hasattr(dlpack, "__array_interface__")
    assert dc.logit_stats(dlpack, 4) == expected
    interface = type("Interface", (Through,), {})(logits, "__array_interface__")
    assert dc.logit_stats(interface, 4) == expected
    assert dc.logit_stats(memoryview(logits), 4) == expected
    assert dc.logit_stats(memoryview(logits)[::2], 4) == dc.logit_stats(logits[::2], 4)
    assert dc.logit_stats(array.array("f", logits.tolist()), 4) == expected


def test_dlpack_that_fails_says_why() -> None:
    """A tensor of a device that NumPy cannot read is refused, with its own message."""

    class Elsewhere:
        def __dlpack__(self, **_: Any) -> None:
            raise BufferError("it lies elsewhere")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    with pytest.raises(dc.InvalidInput, match="it lies elsewhere") as raised:
        dc.logit_stats(Elsewhere(), 0)
    assert raised.value.code == "guard.wrong_dtype"
    assert isinstance(raised.value.__cause__, BufferError)


def test_nothing_is_copied() -> None:
    """A large array of any stride is read where it is: no memory of its size is asked for."""
    logits = np.zeros(2_000_000, np.float32)
    upper = np.zeros(2_000_000, np.uint16)
    tracemalloc.start()
    try:
        for shown in (logits, logits[::-2], logits.astype(np.float16)[::3]):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            dc.logit_stats(shown, 0)
            assert tracemalloc.get_traced_memory()[1] - before < 10_000
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        dc.logit_stats(upper, 0, dtype="bfloat16")
        assert tracemalloc.get_traced_memory()[1] - before < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rows", [0, 1, 3, 40])
def test_two_dimensions_give_one_answer_for_each_row(rows: int) -> None:
    """A list in the order of the rows, whatever the strides, and whatever the indices come in."""
    logits = np.random.default_rng(rows).normal(0, 3, (rows, 1_000)).astype(np.float32)
    selected = [row * 7 % 1_000 for row in range(rows)]
    expected = [dc.logit_stats(row, index) for row, index in zip(logits, selected, strict=True)]
    for given in (selected, tuple(selected), np.array(selected, np.int64), np.array(selected, np.uint16)):
        assert dc.logit_stats(logits, given) == expected
    assert dc.logit_stats(np.asfortranarray(logits), selected) == expected
    assert dc.logit_stats(logits[::-1], selected[::-1]) == expected[::-1]
    half = logits.astype(np.float16)
    assert dc.logit_stats(half, selected) == dc.logit_stats(half.astype(np.float32), selected)


def test_masked_logits_have_no_probability() -> None:
    """A masked token has probability 0 and is never second; one token that is left is certain."""
    logits = np.full(100, -np.inf, np.float32)
    logits[42] = -3.5
    certain = dc.LogitStats(entropy=0.0, dominance=1.0, selected_probability=1.0, selected=42, top1=42, top2=None)
    assert dc.logit_stats(logits, 42) == certain
    assert dc.logit_stats(logits, 7).selected_probability == 0.0
    logits[41] = -3.5
    stats = dc.logit_stats(logits, 42)
    assert (stats.top1, stats.top2, stats.dominance, stats.selected_probability) == (41, 42, 0.0, 0.5)
    assert stats.entropy == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize(
    ("value", "code"), [(np.nan, "guard.not_a_number"), (-np.nan, "guard.not_a_number"), (np.inf, "guard.infinite")]
)
@pytest.mark.parametrize("place", [0, 63, 64, 29_999])
def test_what_is_no_logit_is_refused_with_its_index(value: float, code: str, place: int) -> None:
    """NaN and +inf have no probability; the error says where the first one is, and in which row."""
    for dtype in (np.float32, np.float16):
        logits = np.zeros(30_000, dtype)
        logits[place] = value
        with pytest.raises(dc.InvalidInput) as raised:
            dc.logit_stats(logits, 0)
        assert (raised.value.code, raised.value.index, raised.value.row) == (code, place, None)
        with pytest.raises(dc.InvalidInput, match="row 1: ") as raised:
            dc.logit_stats(np.stack([np.zeros(30_000, dtype), logits]), [0, 0])
        assert (raised.value.code, raised.value.index, raised.value.row) == (code, place, 1)


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_no_logit_at_all_is_refused(size: int) -> None:
    """An empty row or one that is masked altogether has no distribution."""
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(np.full(size, -np.inf, np.float32), 0)
    assert raised.value.code == "guard.no_logit"


@pytest.mark.parametrize("selected", [3, 2**32, 2**64 - 1])
def test_a_selected_token_that_is_not_there_is_refused(selected: int) -> None:
    """An index at or beyond the end; there are no indices from the end."""
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(np.zeros(3, np.float32), selected)
    assert (raised.value.code, raised.value.index) == ("guard.selected_out_of_range", selected)


@pytest.mark.parametrize(
    ("selected", "code"),
    [
        (-1, "input.out_of_range"),
        (2**64, "input.out_of_range"),
        (True, "input.not_an_integer"),
        (1.0, "input.not_an_integer"),
        ([1], "input.not_an_integer"),
        (None, "input.not_an_integer"),
    ],
)
def test_a_selected_token_is_an_integer(selected: Any, code: str) -> None:
    """No bool or float, and no negative number."""
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(np.zeros(3, np.float32), selected)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("selected", "code"),
    [
        (0, "input.wrong_type"),
        ("01", "input.wrong_type"),
        ([0], "guard.row_count"),
        ([0, 1, 2], "guard.row_count"),
        ([0, True], "input.not_an_integer"),
        (np.array([False, True]), "input.not_an_integer"),
        (np.array([0.0, 1.0]), "input.not_an_integer"),
        (np.array([[0], [1]]), "input.not_an_integer"),
        ([0, 3], "guard.selected_out_of_range"),
        ([0, -1], "input.out_of_range"),
    ],
)
def test_rows_have_one_selected_token_each(selected: Any, code: str) -> None:
    """As many indices as rows, each as exact as a single one."""
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(np.zeros((2, 3), np.float32), selected)
    assert raised.value.code == code


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros(3),
        np.zeros(3, np.int32),
        np.zeros(3, bool),
        np.zeros(3, np.uint16),
        np.zeros(3, np.complex64),
        np.zeros(3, object),
        np.zeros(3, np.dtype(np.float32).newbyteorder()),
        np.zeros(3, np.dtype(np.float16).newbyteorder()),
        np.zeros((), np.float32),
        np.zeros((2, 3, 4), np.float32),
        array.array("d", [1.0]),
    ],
)
def test_other_types_and_shapes_are_refused(logits: Any) -> None:
    """Nothing is converted silently: float64 is none of the three types, nor are bools and integers."""
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(logits, 0)
    assert (raised.value.code, raised.value.field) == ("guard.wrong_dtype", "logits")


@pytest.mark.parametrize("logits", [[1.0, 2.0], (1.0,), "abc", b"abc", None, 1.0, object()])
def test_what_is_no_array_is_refused(logits: Any) -> None:
    """Python's numbers would have to be copied: they are an array's to hold."""
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(logits, 0)
    assert raised.value.code == "input.wrong_type"


def test_a_mask_beside_the_array_is_not_passed_over() -> None:
    """A masked array of NumPy has its mask elsewhere; filled with -inf it says the same."""
    logits = np.ma.masked_array(np.zeros(3, np.float32), [True, False, False])
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(logits, 0)
    assert raised.value.code == "input.wrong_type"
    assert dc.logit_stats(logits.filled(-np.inf), 0).selected_probability == 0.0


def test_bfloat16_is_asked_for_of_uint16_alone() -> None:
    """`dtype` says what 16 bits mean; it converts nothing."""
    for logits, dtype in [
        (np.zeros(3, np.float32), "bfloat16"),
        (np.zeros(3, np.float16), "bfloat16"),
        (np.zeros(3, np.int16), "bfloat16"),
        (np.zeros(3, np.float32), "float32"),
    ]:
        with pytest.raises(dc.InvalidInput) as raised:
            dc.logit_stats(logits, 0, dtype=dtype)  # type: ignore[call-overload]
        assert raised.value.code == "guard.wrong_dtype"
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats(np.zeros(3, np.float32), 0, dtype=np.float32)  # type: ignore[call-overload]
    assert raised.value.code == "input.wrong_type"


def test_other_threads_run_while_many_logits_are_read() -> None:
    """The interpreter lock is given back: a thread that counts goes on counting during one long call."""
    logits = np.broadcast_to(np.zeros(131_072, np.float32), (4_000, 131_072))
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        while counted == 0:
            time.sleep(0.001)
        before = counted
        dc.logit_stats(logits, [0] * 4_000)
        during = counted - before
    finally:
        done.set()
        thread.join()
    assert during > 20


def test_the_bounds_hold_what_all_logits_say() -> None:
    """Of the largest probabilities of random logits, as logarithms or themselves, in any order."""
    random = np.random.default_rng(3)
    for size in (1, 2, 5, 100, 5_000):
        for spread in (0.1, 2.0, 10.0):
            logits = random.normal(0, spread, size).astype(np.float32)
            exact = logits.astype(np.float64)
            logprobs = exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())
            for known in {1, min(2, size), min(5, size), min(20, size)}:
                best = random.permutation(np.argsort(-logits)[:known])
                selected = int(random.integers(size))
                at = best.tolist().index(selected) if selected in best else None
                stats = dc.logit_stats(logits, selected)
                for bounds in (
                    dc.logit_stats_from_top_k(logprobs[best], vocabulary_size=size, selected=at),
                    dc.logit_stats_from_top_k(logprobs[best].tolist(), vocabulary_size=size, selected=at),
                    dc.logit_stats_from_top_k(
                        np.exp(logprobs[best]), vocabulary_size=size, selected=at, probabilities=True
                    ),
                ):
                    near = 1e-6
                    assert bounds.entropy_lower - near <= stats.entropy <= bounds.entropy_upper + near
                    assert bounds.dominance_lower - near <= stats.dominance <= bounds.dominance_upper + near
                    assert (
                        bounds.selected_probability_lower - near
                        <= stats.selected_probability
                        <= bounds.selected_probability_upper + near
                    )


def test_the_bounds_are_those_of_the_extremes() -> None:
    """What is left goes to as few others as possible, or to all of them alike."""
    bounds = dc.logit_stats_from_top_k((0.4, 0.2), vocabulary_size=10, selected=None, probabilities=True)

    def entropy(*shares: float) -> float:
        return -sum(share * math.log(share) for share in shares)

    assert bounds.entropy_lower == pytest.approx(entropy(0.4, 0.2, 0.2, 0.2), abs=1e-9)
    assert bounds.entropy_upper == pytest.approx(entropy(0.4, 0.2, *[0.05] * 8), abs=1e-9)
    assert bounds.dominance_lower == bounds.dominance_upper == pytest.approx(0.2)
    assert (bounds.selected_probability_lower, bounds.selected_probability_upper) == (0.0, 0.2)
    certain = dc.logit_stats_from_top_k([0, -9_999.0], vocabulary_size=50_000, selected=0)
    assert (certain.entropy_lower, certain.dominance_lower, certain.selected_probability_lower) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "changes", "code"),
    [
        ([], {}, "guard.no_logit"),
        ([-math.inf], {}, "guard.no_logit"),
        ([-0.7, -0.7], {"vocabulary_size": 1}, "guard.vocabulary_size"),
        ([0.1], {}, "guard.not_a_probability"),
        ([-0.1], {"probabilities": True}, "guard.not_a_probability"),
        ([-0.1, -1.0], {}, "guard.not_a_distribution"),
        ([0.9, 0.01], {"probabilities": True, "vocabulary_size": 3}, "guard.not_a_distribution"),
        ([-0.1], {"selected": 1}, "guard.selected_out_of_range"),
        ([0.0], {"selected": None, "vocabulary_size": 1}, "guard.selected_out_of_range"),
        ([-0.1], {"selected": True}, "input.not_an_integer"),
        ([-0.1], {"vocabulary_size": 10.0}, "input.not_an_integer"),
        ([-0.1], {"vocabulary_size": 2**32}, "input.out_of_range"),
        ([-0.1], {"probabilities": 1}, "input.wrong_type"),
        ([math.nan], {}, "input.wrong_type"),
        ([True], {}, "input.wrong_type"),
        (["-0.1"], {}, "input.wrong_type"),
        ("-0.1", {}, "input.wrong_type"),
        (-0.1, {}, "input.wrong_type"),
        ({-0.1: 1}, {}, "input.wrong_type"),
    ],
)
def test_what_cannot_be_the_largest_probabilities_is_refused(values: Any, changes: Any, code: str) -> None:
    """Values outside their range, sums that cannot be, positions that are not there."""
    arguments: Any = {"vocabulary_size": 100, "selected": 0} | changes
    with pytest.raises(dc.InvalidInput) as raised:
        dc.logit_stats_from_top_k(values, **arguments)
    assert raised.value.code == code


def test_statistics_are_made_of_numbers() -> None:
    """Built by hand, as when they are unpickled: floats that are numbers, exact integers."""
    fields: Any = {"entropy": 1.5, "dominance": 0.2, "selected_probability": 0.1, "selected": 3, "top1": 1, "top2": 0}
    assert dc.LogitStats(**fields | {"entropy": 1}) == dc.LogitStats(**fields | {"entropy": 1.0})
    assert hash(dc.LogitStats(**fields | {"dominance": -0.0})) == hash(dc.LogitStats(**fields | {"dominance": 0.0}))
    for change in ({"entropy": math.nan}, {"entropy": "1"}, {"dominance": True}, {"top1": None}, {"selected": 0.0}):
        with pytest.raises(dc.InvalidInput):
            dc.LogitStats(**fields | change)
