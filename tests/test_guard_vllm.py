"""Statistics of vLLM's steps, in loops that call as its two model runners do; stand-ins for its classes and tensors.

``make test-runtimes`` has its own interfaces and types.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import decidable as dc
from decidable.guard import vllm

VOCABULARY = 50


class MoveDirectionality(enum.Enum):
    UNIDIRECTIONAL = enum.auto()
    SWAP = enum.auto()


class Tensor(np.ndarray[Any, Any]):
    """An array that moves like a tensor."""

    def detach(self) -> Tensor:
        return self

    def to(self, where: str) -> Tensor:
        assert where == "cpu"
        return self

    def float(self) -> Tensor:
        return self.astype(np.float32)

    def numpy(self) -> np.ndarray[Any, Any]:
        return np.asarray(self)


def params(name: Any = None, *, n: int = 1) -> Any:
    return SimpleNamespace(extra_args=None if name is None else {"decidable_statistics": name}, n=n)


def logits_of(rows: int, seed: int) -> Any:
    return (np.random.default_rng(seed).normal(size=(rows, VOCABULARY)) * 3).astype(np.float32).view(Tensor)


def expected(row: Any) -> Any:
    stats = dc.logit_stats(np.asarray(row), int(row.argmax()))
    return vllm.Step(stats.entropy, stats.dominance, stats.top1, stats.selected_probability, stats.top2)


def taken(name: str) -> Any:
    return vllm.steps_of([vllm.StatisticsWorker().take_decidable_statistics(name)])


def of_version_1() -> Any:
    return vllm.TokenStatistics(SimpleNamespace(speculative_config=None), "cuda:0", True)


def update(*, removed: Any = (), added: Any = (), moved: Any = ()) -> Any:
    return SimpleNamespace(batch_size=0, removed=removed, added=added, moved=moved)


class OfVersion2:
    """The runner of version 2: slots, whose numbers are used again."""

    def __init__(self, slots: int = 4) -> None:
        self.prompt = np.zeros(slots, dtype=np.int32)
        self.prefill = np.zeros(slots, dtype=np.int32)
        states = SimpleNamespace(
            prompt_len=SimpleNamespace(np=self.prompt), prefill_len=SimpleNamespace(np=self.prefill)
        )
        self.processor = vllm.TokenStatistics(SimpleNamespace(speculative_config=None), states)

    def add(self, slot: int, name: str | None, *, prompt: int, said: int = 0) -> bool:
        self.prompt[slot], self.prefill[slot] = prompt, prompt + said
        taken: bool = self.processor.add_request(slot, params(name))
        return taken

    def step(self, logits: Any, lengths: dict[int, int]) -> None:
        """``lengths`` has, for each row's slot, how many tokens are before the one that is chosen."""
        context = SimpleNamespace(
            idx_mapping_np=np.array(list(lengths), dtype=np.int32),
            seq_lens_upper_bound_np=np.array(list(lengths.values()), dtype=np.int32),
        )
        before = logits.copy()
        assert self.processor.apply(logits, context) is logits
        assert np.array_equal(logits, before, equal_nan=True)


def test_version_1_records_who_asked_wherever_they_are_in_the_batch() -> None:
    processor = of_version_1()
    assert processor.is_argmax_invariant() is False
    said_a: list[int] = []
    said_b: list[int] = []
    processor.update_state(
        update(added=[(0, params("a"), [1], said_a), (1, params(), [1], []), (2, params("b"), [1], said_b)])
    )
    first = logits_of(3, 1)
    assert processor.apply(first) is first
    # A prompt that is read in pieces has a row for each; the last is the one of which a token comes.
    again = logits_of(3, 2)
    processor.apply(again)
    said_a.append(5)
    said_b.append(-1)
    # The one that did not ask leaves, `b` takes its place, then `a` and `b` change theirs.
    moved = [(2, 1, MoveDirectionality.UNIDIRECTIONAL), (0, 1, MoveDirectionality.SWAP)]
    processor.update_state(update(removed=[1], moved=moved))
    last = logits_of(2, 3)
    processor.apply(last)
    processor.update_state(None)
    assert taken("a") == [expected(again[0]), expected(last[1])]
    assert taken("b") == [expected(again[2]), expected(last[0])]
    assert taken("a") == []


def test_version_1_goes_on_with_a_request_that_was_put_off() -> None:
    processor = of_version_1()
    said: list[int] = []
    rows = [logits_of(1, seed) for seed in range(2)]
    processor.update_state(update(added=[(0, params("a"), [1], said)]))
    processor.apply(rows[0])
    processor.update_state(update(removed=[0]))
    processor.apply(logits_of(1, 9))
    processor.update_state(update(added=[(0, params("a"), [1], [7])]))
    processor.apply(rows[1])
    assert taken("a") == [expected(row[0]) for row in rows]


def test_version_2_records_by_slots_and_leaves_out_prompts_that_are_not_read() -> None:
    runner = OfVersion2()
    assert runner.add(2, "a", prompt=10)
    assert not runner.add(0, None, prompt=3)
    runner.step(logits_of(2, 1), {0: 3, 2: 6})
    second, third = logits_of(2, 2), logits_of(1, 3)
    runner.step(second, {2: 10, 0: 4})
    runner.step(third, {2: 11})
    # It is put off, comes again in another slot with what it has said, and its old one goes to another.
    assert runner.add(1, "a", prompt=10, said=2)
    assert runner.add(2, "b", prompt=1)
    fourth = logits_of(2, 4)
    runner.step(fourth, {1: 12, 2: 1})
    assert taken("a") == [expected(row) for row in (second[0], third[0], fourth[0])]
    assert taken("b") == [expected(fourth[1])]


def test_a_name_that_comes_again_begins_anew() -> None:
    runner = OfVersion2()
    runner.add(0, "a", prompt=1)
    runner.step(logits_of(1, 1), {0: 1})
    runner.step(logits_of(1, 2), {0: 2})
    runner.add(1, "a", prompt=1)
    later = logits_of(2, 3)
    runner.step(later, {0: 3, 1: 1})
    assert taken("a") == [expected(later[1])]


def test_logits_without_figures_and_steps_that_are_missing_are_told() -> None:
    runner = OfVersion2()
    runner.add(0, "a", prompt=1)
    broken = logits_of(1, 1)
    broken[0, 3] = np.nan
    runner.step(broken, {0: 1})
    good = logits_of(1, 2)
    runner.step(good, {0: 2})
    assert taken("a") == [None, expected(good[0])]
    with pytest.raises(dc.InvalidInput) as caught:
        vllm.steps_of([[[0]], [[2]]])
    assert (caught.value.code, caught.value.step) == ("guard.statistics_incomplete", 1)
    # Several workers have a part of the steps each, or all have the same.
    assert vllm.steps_of([[[1], [0]], [[0]], []]) == [None, None]


def test_of_too_many_steps_those_of_the_first_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "MOST_STEPS", 5)
    runner = OfVersion2()
    runner.add(0, "a", prompt=1)
    runner.add(1, "b", prompt=1)
    for length in range(1, 4):
        runner.step(logits_of(2, length), {0: length, 1: length})
    assert len(taken("b")) == 3
    assert taken("a") == []
    runner.add(2, "c", prompt=1)
    for length in range(1, 6):
        runner.step(logits_of(1, length), {2: length})
    assert len(taken("c")) == 5


@pytest.mark.parametrize("name", ["", "x" * 129, 7, ["a"]])
def test_names_that_are_none_are_refused_at_admission(name: Any) -> None:
    with pytest.raises(ValueError, match="decidable_statistics is a name"):
        vllm.TokenStatistics.validate_params(params(name))
    with pytest.raises(ValueError, match="one answer"):
        vllm.TokenStatistics.validate_params(params("a", n=2))
    vllm.TokenStatistics.validate_params(params("a"))
    vllm.TokenStatistics.validate_params(params(n=2))


def test_speculative_decoding_is_refused_when_the_engine_starts() -> None:
    with pytest.raises(ValueError, match="speculative"):
        vllm.TokenStatistics(SimpleNamespace(speculative_config=object()), "cuda:0", False)


def logprobs(row: Any, most: int, chosen: int) -> dict[int, Any]:
    """One position as vLLM tells it: the most probable tokens, and the chosen one with its rank."""
    values = np.asarray(row, dtype=np.float64)
    values = values - np.log(np.exp(values).sum())
    order = np.argsort(-values)
    rank = {int(token): place + 1 for place, token in enumerate(order)}
    tokens = [chosen, *(int(token) for token in order[:most])]
    return {token: SimpleNamespace(logprob=float(values[token]), rank=rank[token]) for token in tokens}


def test_bounds_from_logprobs_hold_whatever_token_was_chosen() -> None:
    for seed in range(20):
        row = logits_of(1, seed)[0]
        for chosen in range(VOCABULARY):
            stats = dc.logit_stats(np.asarray(row), chosen)
            bounds = vllm.logit_bounds(logprobs(row, 5, chosen), chosen, vocabulary_size=VOCABULARY)
            assert bounds.entropy_lower - 1e-6 <= stats.entropy <= bounds.entropy_upper + 1e-6
            assert bounds.dominance_lower - 1e-6 <= stats.dominance <= bounds.dominance_upper + 1e-6
            low, high = bounds.selected_probability_lower, bounds.selected_probability_upper
            assert low - 1e-6 <= stats.selected_probability <= high + 1e-6


def test_the_probability_of_the_chosen_token_is_known_wherever_it_ranks() -> None:
    """vLLM tells it also where the token is none of the most probable."""
    position = {17: SimpleNamespace(logprob=-3.0, rank=3), 4: SimpleNamespace(logprob=-0.2, rank=1)}
    bounds = vllm.logit_bounds(position, 17, vocabulary_size=32_000)
    assert bounds.selected_probability_lower == bounds.selected_probability_upper == pytest.approx(np.exp(-3.0))
    outside = dc.logit_stats_from_top_k([-0.2], vocabulary_size=32_000, selected=None)
    assert (bounds.entropy_lower, bounds.entropy_upper) == (outside.entropy_lower, outside.entropy_upper)
    assert (bounds.dominance_lower, bounds.dominance_upper) == (outside.dominance_lower, outside.dominance_upper)
    for logprob in (-9_999.0, -float("inf"), -1e-300, -1.708, -700.0):
        position[17] = SimpleNamespace(logprob=logprob, rank=20)
        if logprob == -1e-300:
            with pytest.raises(dc.InvalidInput) as caught:
                vllm.logit_bounds(position, 17, vocabulary_size=32_000)
            assert caught.value.code == "guard.not_a_distribution"
        else:
            bounds = vllm.logit_bounds(position, 17, vocabulary_size=32_000)
            assert bounds.selected_probability_upper == pytest.approx(np.exp(logprob), abs=0)
            assert bounds.selected_probability_lower == bounds.selected_probability_upper


def test_a_chosen_token_without_a_rank_is_among_the_most_probable_by_its_logprob() -> None:
    """Otherwise the others would be taken for the most probable."""
    position = {17: SimpleNamespace(logprob=-0.2, rank=None), 4: SimpleNamespace(logprob=-2.5, rank=None)}
    bounds = vllm.logit_bounds(position, 17, vocabulary_size=32_000)
    assert bounds == dc.logit_stats_from_top_k([-0.2, -2.5], vocabulary_size=32_000, selected=0)


def test_numbers_of_numpy_are_numbers() -> None:
    bounds = [
        vllm.logit_bounds({4: SimpleNamespace(logprob=logprob, rank=rank)}, token, vocabulary_size=32_000)
        for logprob, rank, token in [(-0.25, 1, 4), (np.float32(-0.25), np.int64(1), np.int64(4))]
    ]
    assert bounds[0] == bounds[1]


@pytest.mark.parametrize(
    "answers",
    [
        None,
        7,
        [b"x"],
        [7],
        [[7]],
        [[[[], 1, 2, 3]]],
        "so",
        [[[0]], [[0, 1, 2, 3, 4, 5, 6, 7, 8]]],
        [[(-1,)]],
        [[(-1,), (0,)]],
        [[()]],
        [[""]],
        [[{}]],
        [[(True,)]],
    ],
    ids=repr,
)
def test_what_no_worker_answers_is_refused(answers: Any) -> None:
    with pytest.raises(dc.InvalidInput) as caught:
        vllm.steps_of(answers)
    assert (caught.value.code, caught.value.details["field"]) == ("input.wrong_type", "answers")


@pytest.mark.parametrize(
    ("position", "token", "code", "field"),
    [
        (None, 5, "input.wrong_type", "position"),
        ([-0.1], 0, "input.wrong_type", "position"),
        ({4: -0.1}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob="-0.1", rank=1)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=float("nan"), rank=1)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=-0.1, rank="1")}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=-0.1)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=-(10**400), rank=1)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=b"-3.0", rank=1)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=-0.1, rank=np.array([1, 2]))}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=True, rank=1)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=Decimal("-0.1"), rank=1)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=-0.1, rank=0)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=-0.1, rank=True)}, 4, "input.wrong_type", "position"),
        ({4: SimpleNamespace(logprob=-0.1, rank=1)}, "4", "input.not_an_integer", "token"),
        ({4: SimpleNamespace(logprob=-0.1, rank=1)}, [], "input.not_an_integer", "token"),
        ({1: SimpleNamespace(logprob=-0.1, rank=1)}, True, "input.not_an_integer", "token"),
    ],
    ids=repr,
)
def test_what_is_no_position_of_logprobs_is_refused(position: Any, token: Any, code: str, field: str) -> None:
    with pytest.raises(dc.InvalidInput) as caught:
        vllm.logit_bounds(position, token, vocabulary_size=VOCABULARY)
    assert (caught.value.code, caught.value.details["field"]) == (code, field)


def test_logprobs_that_say_nothing_of_a_step_are_refused() -> None:
    row = logits_of(1, 1)[0]
    least = int(row.argmin())
    for position, token in [(logprobs(row, 0, least), least), (logprobs(row, 3, least), VOCABULARY)]:
        with pytest.raises(dc.InvalidInput) as caught:
            vllm.logit_bounds(position, token, vocabulary_size=VOCABULARY)
        assert caught.value.code == "guard.logprobs"
