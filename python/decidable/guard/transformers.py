"""A generation of Hugging Face ``transformers`` under a guard: one session, three thin objects for ``generate``.

    with Session(guard, tokenizer, write=print) as session:
        model.generate(**inputs, **session.options())
    session.stopped

``generate`` asks the stopping criterion after each token and hands the token to the streamer only then, also the one
that was stopped at: so nothing is written but what the session's monitor released. The library is not imported here.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from decidable._native import Match, StopReason, logit_stats
from decidable.builders import truth
from decidable.errors import InvalidInput
from decidable.guard import Guard
from decidable.guard.faults import wrong_kind
from decidable.guard.monitor import Continue, End, Stop, Text, Token

__all__ = ["Session"]


class Session:
    """One sequence that ``model.generate`` makes, as far as a guard lets it.

    Args:
        guard: The rules.
        tokenizer: What the model's tokens are decoded with; special tokens are no text.
        write: Is given each piece of text as it is released.
        stats: Take the statistics of each step's logits, as the model gives them: before temperature and the like.
        monitor: ``most_entropy``, ``audit``, ``model`` and what else :meth:`Guard.monitor` takes.

    Raises:
        InvalidInput: ``guard.one_sequence``, from ``generate``, where it makes several sequences at once or searches
            with beams: what a beam gives up was never said, and a stop would end all.
    """

    def __init__(
        self,
        guard: Guard,
        tokenizer: Any,
        *,
        write: Callable[[str], object] | None = None,
        stats: bool = False,
        **monitor: Any,
    ) -> None:
        if not callable(getattr(guard, "monitor", None)):
            raise wrong_kind("a Guard", guard, "guard")
        if not callable(getattr(tokenizer, "decode", None)):
            raise wrong_kind("a tokenizer, which has decode()", tokenizer, "tokenizer")
        self._monitor = guard.monitor(**monitor)
        self._text = _Text(tokenizer)
        self._write = write
        self._stats = truth(stats, field="stats") or monitor.get("most_entropy") is not None
        self._logits: Any = None
        self._seen: int | None = None
        self._pieces: list[str] = []
        self._characters = codecs.getincrementaldecoder("utf-8")()

    def options(self) -> dict[str, Any]:
        """What to give to ``generate``: ``logits_processor``, ``stopping_criteria`` and ``streamer``."""
        return {
            "logits_processor": [_Logits(self)],
            "stopping_criteria": [_Criterion(self)],
            "streamer": _Streamer(self),
        }

    @property
    def text(self) -> str:
        """What was released so far."""
        return "".join(self._pieces)

    @property
    def stopped(self) -> StopReason | None:
        """Why the generation was stopped, or ``None``."""
        return self._monitor.stopped

    @property
    def fault(self) -> BaseException | None:
        """The exception that stopped it, if one did."""
        return self._monitor.fault

    @property
    def matches_dropped(self) -> int:
        """How many matches were not kept for :meth:`matches`, because those before were not taken (docs/limits.md)."""
        return self._monitor.matches_dropped

    def matches(self) -> list[Match]:
        """What was noted or replaced since the last call."""
        return self._monitor.matches()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._monitor.__exit__(kind, error, trace)

    # --- what the three objects ask ---------------------------------------------------------------------------------

    def _step(self, input_ids: Any, scores: Any) -> Any:
        """Before a token is chosen: where the prompt ends, and the step's logits."""
        _one(input_ids)
        if self._seen is None:
            self._seen = input_ids.shape[1]
        if self._stats:
            # Whatever comes after may write into them.
            self._logits = scores[0].detach().to("cpu", copy=True).float().numpy()
        return scores

    def _chosen(self, input_ids: Any) -> bool:
        """After tokens were chosen: whether to end."""
        _one(input_ids)
        # Without a look at the prompt nothing is known to be new: all of it is read.
        new = input_ids[0, self._seen or 0 :].tolist()
        self._seen = input_ids.shape[1]
        for token in new:
            stats = None if self._logits is None else logit_stats(self._logits, token)
            self._logits = None
            if self._take(Token(token, self._text.push(token).encode(), stats)):
                return True
        return self.stopped is not None

    def _ended(self) -> None:
        """``generate`` ends in order: what is pending is decided."""
        rest = self._text.rest()
        if rest and self.stopped is None:
            # Each of its tokens was told already, and is one step.
            self._take(Text(rest))
        if self.stopped is None:
            self._take(End())

    def _take(self, event: Token | Text | End) -> bool:
        match self._monitor.intervene(event):
            case Continue(released):
                stopped = False
            case Stop(_, released):
                stopped = True
        piece = self._characters.decode(released)
        if piece:
            self._pieces.append(piece)
            if self._write is not None:
                self._write(piece)
        return stopped


class _Logits:
    """A logits processor that changes nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return self._session._step(input_ids, scores)


class _Criterion:
    """A stopping criterion."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        ended = self._session._chosen(input_ids)
        last = input_ids[:, -1]
        return last == last if ended else last != last


class _Streamer:
    """A streamer that writes nothing by itself: the session has written what may be."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, value: Any) -> None:
        """The prompt, and each token: of those the criterion was told before."""

    def end(self) -> None:
        self._session._ended()


# A character has four bytes at most, and a token one at least: what four tokens stand behind cannot become another.
BEHIND: Final = 4


class _Text:
    """Tokens as text: what each adds, once it is whole characters."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # The text up to `_read` was given; it is decoded again from `_from` on, because a token's text can depend on
        # the one before it.
        self._from = self._read = 0

    def push(self, token: int) -> str:
        self._ids.append(token)
        added = self._added()
        if not added or added.endswith("\ufffd"):
            return self._settled()
        self._from, self._read = self._read, len(self._ids)
        return added

    def _settled(self) -> str:
        """What is given of a text that may not be whole characters, so that neither it nor the work has no bound."""
        pending = len(self._ids) - self._read
        if pending <= BEHIND:
            return ""
        end = len(self._ids) - BEHIND
        before, text = self._decoded(self._ids[self._from : self._read]), self._decoded(self._ids[self._from : end])
        whole = self._decoded(self._ids[self._from :])
        if not whole.startswith(text):
            # A character goes over the border. A next token moves it, unless one goes over each.
            if pending <= 4 * BEHIND:
                return ""
            end, text = len(self._ids), whole
        if text == before and not text.endswith("\ufffd"):
            # Tokens without text, such as special ones: the next is decoded behind one that has some.
            del self._ids[self._read : end]
            return ""
        # From the middle of a broken character on it would be shown as more than it is, so not too near.
        self._from, self._read = max(self._from, end - BEHIND), end
        return text[len(before) :]

    def rest(self) -> str:
        """What was kept back as an incomplete character."""
        added = self._added() if self._read < len(self._ids) else ""
        self._from, self._read = self._read, len(self._ids)
        return added

    def _added(self) -> str:
        before = self._decoded(self._ids[self._from : self._read])
        return self._decoded(self._ids[self._from :])[len(before) :]

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def _one(input_ids: Any) -> None:
    if input_ids.shape[0] != 1:
        message = f"a session guards one sequence, and generate makes {input_ids.shape[0]} at once"
        raise InvalidInput("guard.one_sequence", message, sequences=int(input_ids.shape[0]))
