"""A session for ``generate`` of transformers, in a loop that asks as ``generate`` does; arrays stand for tensors.

``tests/runtimes/leaks_of_transformers.py`` has the library itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import decidable as dc
from decidable import Guard, Rule
from decidable.guard.transformers import Session

PROMPT = [7, 7]


class Bytes:
    """A tokenizer whose tokens are bytes; 0 is special."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return bytes(each for each in ids if each).decode(errors="replace")


def generate(says: bytes, options: dict[str, Any], *, rows: int = 1) -> None:
    """What ``generate`` asks, in its order, of a model that says these bytes."""
    ids = PROMPT
    options["streamer"].put(np.array([ids] * rows))
    for token in says:
        scores = object()
        for processor in options["logits_processor"]:
            assert processor(np.array([ids] * rows), scores) is scores
        ids = [*ids, token]
        ended = [criterion(np.array([ids] * rows), None) for criterion in options["stopping_criteria"]]
        options["streamer"].put(np.array([token] * rows))
        if all(each.all() for each in ended):
            break
    options["streamer"].end()


RULES = [
    Rule.literal("DROP TABLE", name="drop"),
    Rule.regex(r"\b\d{3}-\d{2}\b", action="redact", name="number"),
    Rule.literal("café", action="record", name="place"),
]


@pytest.mark.parametrize(
    "says",
    [
        "at the café: 123-45 and DROP TABLE users",
        "nothing of it, ends in DROP TABL",
        "ends in 123-45",
        "東京 café ü",
    ],
)
def test_what_is_written_is_what_the_guard_lets_of_the_text(says: str) -> None:
    guard = Guard(RULES)
    written: list[str] = []
    with Session(guard, Bytes(), write=written.append) as session:
        generate(says.encode() + b"\0", session.options())
    released, stopped, matches = guard.check(says)
    assert "".join(written) == session.text == released
    assert session.stopped == stopped
    assert [(each.rule, each.start) for each in session.matches()] == [(each.rule, each.start) for each in matches]
    assert session.fault is None


def test_half_a_character_at_the_end_comes_out_as_the_tokenizer_shows_it() -> None:
    with Session(Guard(RULES), Bytes()) as session:
        generate("café".encode()[:-1], session.options())
    assert (session.text, session.stopped) == ("caf\ufffd", None)


def test_several_sequences_are_refused_and_nothing_comes_out() -> None:
    with Session(Guard(RULES), Bytes()) as session, pytest.raises(dc.InvalidInput) as caught:
        generate(b"text", session.options(), rows=2)
    assert (caught.value.code, session.text) == ("guard.one_sequence", "")
    assert session.stopped is not None
    assert session.stopped.kind == "failed"


def test_a_generation_that_breaks_off_releases_nothing_that_was_held() -> None:
    session = Session(Guard(RULES), Bytes())
    options = session.options()

    def fail(*_: Any) -> Any:
        if session._seen == len(PROMPT) + 12:
            raise MemoryError
        return _[1]

    options["logits_processor"].append(fail)
    with pytest.raises(MemoryError), session:
        generate(b"of DROP TABLE", options)
    assert session.text == "of "
    assert session.stopped is not None
    assert session.stopped.kind == "failed"
