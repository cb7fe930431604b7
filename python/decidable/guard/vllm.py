"""What vLLM's engine knows of each token: a logits processor that its user names, and bounds from its logprobs.

    llm = LLM(
        model,
        logits_processors=["decidable.guard.vllm:TokenStatistics"],
        worker_extension_cls="decidable.guard.vllm.StatisticsWorker",
    )
    llm.generate(prompt, SamplingParams(extra_args={"decidable_statistics": "answer-1"}))
    steps = steps_of(llm.collective_rpc("take_decidable_statistics", args=("answer-1",)))

The processor runs in the engine's own process, so its figures are kept there until they are taken. Streams of vLLM are
guarded by :meth:`Guard.stream`, which needs nothing of this.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from decidable._native import LogitBounds, logit_stats, logit_stats_from_top_k
from decidable.builders import integer
from decidable.errors import InvalidInput
from decidable.guard.faults import wrong_kind

try:
    from vllm.v1.sample.logits_processor.interface import LogitsProcessor as _OfV1
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as _OfV2
except ModuleNotFoundError as error:
    # Whoever asks an engine elsewhere needs the functions alone. A vLLM that has one of the two not is told.
    if error.name != "vllm":
        raise
    _OfV1, _OfV2 = (type(name, (), {}) for name in ("LogitsProcessor", "LogitsProcessor"))

__all__ = ["MOST_STEPS", "StatisticsWorker", "Step", "TokenStatistics", "logit_bounds", "steps_of"]

ASKED_BY: Final = "decidable_statistics"
"""The name in ``SamplingParams.extra_args``, over HTTP in ``vllm_xargs``, by which a request asks to be recorded."""
LONGEST_NAME: Final = 128
MOST_STEPS: Final = 262_144
"""How many steps an engine's worker keeps until they are taken, of all requests together."""
TOLERANCE: Final = 1e-3
"""By how much a probability may miss what it can be, as where all are held to 1: they are rounded."""


class Step(NamedTuple):
    """What was known before a token was chosen. ``entropy`` and ``dominance`` are those of :class:`LogitStats`;
    ``top1`` has the probability ``top1_probability``, and ``top2`` is None where no second token was possible.
    """

    entropy: float
    dominance: float
    top1: int
    top1_probability: float
    top2: int | None


class _Kept:
    """The steps of each request, by its name, until they are taken; of too many those go that were begun first."""

    def __init__(self) -> None:
        self._of: dict[str, dict[int, Step | None]] = {}
        self._count = 0

    def begin(self, name: str) -> None:
        """A request of this name starts: what one before it left is forgotten."""
        self._count -= len(self._of.pop(name, ()))

    def put(self, name: str, number: int, step: Step | None) -> None:
        """A step again is what counts: what was computed before was not used."""
        steps = self._of.setdefault(name, {})
        self._count += number not in steps
        steps[number] = step
        while self._count > MOST_STEPS:
            self.begin(next(iter(self._of)))

    def take(self, name: str) -> list[list[Any]]:
        """Lists, because they cross from one process to another."""
        steps = self._of.pop(name, {})
        self._count -= len(steps)
        return [[number, *(step or ())] for number, step in sorted(steps.items())]


# One for each process of the engine, as the worker of vLLM is.
_kept = _Kept()


class TokenStatistics(_OfV2, _OfV1):
    """Takes the statistics of each step of the requests that ask for it, and changes no logit.

    It is of both kinds that vLLM has, for its model runners of version 1 and 2: vLLM chooses between them by itself,
    and refuses a class of the other kind.
    """

    def __init__(self, vllm_config: Any, of_runner: Any, is_pin_memory: bool | None = None) -> None:
        if getattr(vllm_config, "speculative_config", None) is not None:
            raise ValueError("decidable.guard.vllm:TokenStatistics does not take speculative decoding")
        # Of version 2 the state of all requests, of version 1 the device.
        self._states = of_runner
        # By the number of a row's request: its name, and of version 1 the tokens that it has said so far.
        self._asked: dict[int, tuple[str, Sequence[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """A name that is none, and several answers under one, are refused before the request is taken."""
        name = _name(sampling_params)
        if name is None:
            return
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"{ASKED_BY} is a name of 1 to {LONGEST_NAME} characters")
        if sampling_params.n != 1:
            raise ValueError(f"{ASKED_BY} takes one answer (n=1): several would have one name")

    # --- version 2 --------------------------------------------------------------------------------------------------

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """A request comes into the batch, anew or again. True, because ``apply`` is not called for others."""
        states = self._states
        begins = int(states.prefill_len.np[req_idx]) == int(states.prompt_len.np[req_idx])
        return self._add(req_idx, sampling_params, (), begins=begins)

    # --- version 1 --------------------------------------------------------------------------------------------------

    def is_argmax_invariant(self) -> bool:
        """False, although it is: one of which it is true sees logits after the temperature, and none of greedy ones."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Requests leave the batch, come into it, and change their places in it."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._asked.pop(index, None)
        for index, sampling_params, _, said in batch_update.added:
            self._add(index, sampling_params, said, begins=not said)
        for a, b, how in batch_update.moved:
            one, other = self._asked.pop(a, None), self._asked.pop(b, None)
            if one is not None:
                self._asked[b] = one
            if other is not None and how.name == "SWAP":
                self._asked[a] = other

    # --- both -------------------------------------------------------------------------------------------------------

    def apply(self, logits: Any, ctx: Any = None) -> Any:
        """Before a token is chosen. Waits for the logits of the requests that asked, if there are any."""
        if not self._asked:
            return logits
        numbers = range(logits.shape[0]) if ctx is None else ctx.idx_mapping_np.tolist()
        rows, places = [], []
        for row, index in enumerate(numbers):
            name, said = self._asked.get(index, (None, ()))
            number = len(said) if ctx is None else self._number(index, int(ctx.seq_lens_upper_bound_np[row]))
            if name is not None and number is not None:
                rows.append(row)
                places.append((name, number))
        if rows:
            # No other reader of these rows: what is kept are figures.
            taken = logits[rows].detach().to("cpu").float().numpy()
            for (name, number), row in zip(places, taken, strict=True):
                _kept.put(name, number, _step(row))
        return logits

    def _number(self, index: int, length: int) -> int | None:
        """Which of the answer's tokens is chosen where so many are before it; None where the prompt is not read yet."""
        if length < int(self._states.prefill_len.np[index]):
            return None
        return length - int(self._states.prompt_len.np[index])

    def _add(self, index: int, sampling_params: Any, said: Sequence[int], *, begins: bool) -> bool:
        self._asked.pop(index, None)
        name = _name(sampling_params)
        if not isinstance(name, str):
            return False
        # It comes again elsewhere after it was put off.
        for other in [other for other, (known, _) in self._asked.items() if known == name]:
            del self._asked[other]
        self._asked[index] = (name, said)
        if begins:
            _kept.begin(name)
        return True


class StatisticsWorker:
    """What a worker of vLLM is extended by (``worker_extension_cls``), so that figures can be taken from it."""

    def take_decidable_statistics(self, name: str) -> list[list[Any]]:
        """The steps of a request, once; for :func:`steps_of`."""
        return _kept.take(name)


def steps_of(answers: Iterable[Iterable[Sequence[Any]]]) -> list[Step | None]:
    """The steps of an answer, one for each of its tokens, of what the workers said to ``collective_rpc``.

    None is a step without figures: its logits were NaN, or all masked. vLLM may have computed one more than it gave
    out tokens. Of an answer that was not recorded, or of which all was dropped, there are none.

    Raises:
        InvalidInput: ``guard.statistics_incomplete``: a step is missing, because there were too many.
            ``input.wrong_type``: it is no such answer.
    """
    found: dict[int, Step | None] = {}
    try:
        for answer in answers:
            for number, *step in answer:
                at = integer(number)
                if at is None or at < 0:
                    raise TypeError("a step has no number")
                found[at] = Step(*step) if step else None
    except (TypeError, ValueError):
        raise wrong_kind("what the workers of take_decidable_statistics answered", answers, "answers") from None
    if sorted(found) != list(range(len(found))):
        missing = next(number for number in range(max(found)) if number not in found)
        raise InvalidInput("guard.statistics_incomplete", f"step {missing} of the answer is missing", step=missing)
    return [found[number] for number in range(len(found))]


def logit_bounds(position: Mapping[int, Any], token: int, *, vocabulary_size: int) -> LogitBounds:
    """Bounds of a step's statistics from vLLM's logprobs: one element of ``CompletionOutput.logprobs``, and its token.

    vLLM tells the most probable tokens, as many as ``SamplingParams.logprobs`` says, and the one that was chosen, which
    may have been less probable than others that it does not tell. Its own probability is known all the same, and both
    bounds of it are that; the other bounds follow from the most probable tokens alone.

    Raises:
        InvalidInput: The token is not in it, or it has no other: ``logprobs`` has to be 1 at least. What is given is of
            another type. ``guard.not_a_distribution``: the chosen token is more or less probable than it can be beside
            the others; and as of :func:`logit_stats_from_top_k`.
    """
    token = _checked(position, token)
    if token not in position:
        raise InvalidInput("guard.logprobs", f"token {token} is not among its logprobs", field="token")
    chosen = position[token]
    told = {each: float(one.logprob) for each, one in position.items() if each != token}
    # The chosen token is among the most probable if as many are told as its rank says, or if it is
    # as probable as one of them, whatever its rank.
    if (chosen.rank is not None and chosen.rank <= len(position)) or chosen.logprob >= min(told.values(), default=1):
        told[token] = float(chosen.logprob)
    if not told:
        raise InvalidInput(
            "guard.logprobs", "no logprobs but of the chosen token; ask for 1 at least", field="position"
        )
    selected = list(told).index(token) if token in told else None
    bounds = logit_stats_from_top_k(
        list(told.values()), vocabulary_size=vocabulary_size, selected=selected, probabilities=False
    )
    return bounds if selected is not None else _with_the_chosen(bounds, float(chosen.logprob))


def _checked(position: Any, token: Any) -> int:
    """The token as a number, where both are what they are to be."""
    if not isinstance(position, Mapping):
        raise wrong_kind("a mapping of tokens to vLLM's Logprob", position, "position")
    number = integer(token)
    if number is None:
        message = f"token must be an integer, not {type(token).__name__}"
        raise InvalidInput("input.not_an_integer", message, field="token", value=token)
    for one in position.values():
        if not (_is_number(getattr(one, "logprob", None)) and _is_rank(getattr(one, "rank", False))):
            raise wrong_kind("a mapping to vLLM's Logprob, with logprob and rank, each", one, "position")
    return number


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(float(value))
    except OverflowError:
        return False


def _is_rank(value: object) -> bool:
    """Ranks begin with 1."""
    return value is None or (isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1)


def _with_the_chosen(bounds: LogitBounds, logprob: float) -> LogitBounds:
    """The same with the probability of a chosen token that is not among the most probable. Nothing is decided by it."""
    probability = math.exp(logprob) if logprob <= 0 else math.inf
    lower, upper = bounds.selected_probability_lower, bounds.selected_probability_upper
    if not lower - TOLERANCE <= probability <= upper + TOLERANCE:
        message = "the chosen token is more or less probable than it can be beside the others"
        raise InvalidInput("guard.not_a_distribution", message, field="position")
    return LogitBounds(
        entropy_lower=bounds.entropy_lower,
        entropy_upper=bounds.entropy_upper,
        dominance_lower=bounds.dominance_lower,
        dominance_upper=bounds.dominance_upper,
        selected_probability_lower=probability,
        selected_probability_upper=probability,
    )


def _name(sampling_params: Any) -> Any:
    return (sampling_params.extra_args or {}).get(ASKED_BY)


def _step(row: Any) -> Step | None:
    top1 = int(row.argmax())
    try:
        stats = logit_stats(row, top1)
    except InvalidInput:
        return None
    return Step(stats.entropy, stats.dominance, stats.top1, stats.selected_probability, stats.top2)
