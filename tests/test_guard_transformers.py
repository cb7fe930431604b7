"""A session for ``generate`` of transformers, in a loop that asks as ``generate`` does; arrays stand for tensors.

``tests/runtimes/leaks_of_transformers.py`` has the library itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import decidable as dc
from decidable import Guard, Rule, verify_audit
from decidable.guard.transformers import Session

PROMPT = [7, 7]


class Scores(np.ndarray):
    """Logits with what a session asks of a tensor."""

    @staticmethod
    def of(token: int) -> Scores:
        """One row of a model that is sure of a token."""
        scores = np.full((1, 256), -20, np.float32)
        scores[0, token] = 20
        return scores.view(Scores)

    def detach(self) -> Scores:
        return self

    def to(self, device: str, *, copy: bool) -> Scores:
        assert (device, copy) == ("cpu", True)
        return self.copy()

    def float(self) -> Scores:
        return self

    def numpy(self) -> Any:
        return np.asarray(self)


class Bytes:
    """A tokenizer whose tokens are bytes; 0 is special."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return self.all_of(bytes(ids))

    @staticmethod
    def all_of(said: bytes) -> str:
        return said.replace(b"\0", b"").decode(errors="replace")


def generate(says: bytes, options: dict[str, Any], *, rows: int = 1) -> None:
    """What ``generate`` asks, in its order, of a model that says these bytes."""
    ids = PROMPT
    options["streamer"].put(np.array([ids] * rows))
    for token in says:
        scores = Scores.of(token)
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


@pytest.mark.parametrize("says", ["at the café".encode(), "café".encode()[:-1], b"a\xe6\x9d", b"\xf0\x9f\x92" * 7])
def test_an_audit_has_one_frame_a_token(tmp_path: Path, says: bytes) -> None:
    """Also where the last of them are no whole character: what is shown of these is text that is of no token."""
    with Session(Guard(RULES), Bytes(), audit=tmp_path / "audit", model="m") as session:
        generate(says, session.options())
    report = verify_audit(tmp_path / "audit")
    assert ([frame.token_id for frame in report.frames], report.ending) == (list(says), "finished")
    assert report.taken == report.released == len(session.text.encode())


def test_a_model_that_is_sure_of_each_token_is_not_stopped_as_uncertain_at_its_end() -> None:
    """The rest of a character has no statistics, and is no step."""
    with Session(Guard(RULES), Bytes(), most_entropy=(0.5, 1)) as session:
        generate("café".encode()[:-1], session.options())
    assert (session.text, session.stopped) == ("caf\ufffd", None)


def test_a_match_that_the_rest_of_a_character_completes_does_not_come_out() -> None:
    guard = Guard([Rule.literal("key\ufffd", name="key")])
    with Session(guard, Bytes()) as session:
        generate(b"a key\xc3", session.options())
    assert session.text == "a "
    assert session.stopped is not None
    assert session.stopped.rule == "key"


@pytest.mark.parametrize(
    "says",
    [
        b"\xff" * 40,
        b"\xe6\x9d" * 20,
        b"\xf0\x9f\x92" * 13 + b"\xf0\x9f\x92\xa9",
        b"\xf0\x9f\x92\xa9\xc3\xa9\xf0\x9f\x80\xff\xf0\x9f\x92\xa9\xe0\x80\x80",
        b"\xff" * 9 + "東京 💩 café DROP TABLE".encode(),
        b"\x80" * 6 + b"\xe6" + "東".encode() * 4 + b"\xf0\x9f" + "é".encode(),
        b"a" + b"\0" * 30 + "é123-45 ".encode() + b"\xc3\0\0\0",
    ],
)
def test_what_is_no_text_is_given_on_once_four_tokens_stand_behind_it(says: bytes) -> None:
    """As the tokenizer shows all of it, and no character is torn; so what the guard does not see has a bound."""
    written: list[str] = []
    session = Session(Guard(RULES), Bytes(), write=written.append)
    options = session.options()
    behind = []

    def watch(_: Any, scores: Any) -> Any:
        behind.append(len(session._text._ids) - session._text._read)
        return scores

    options["logits_processor"].append(watch)
    with session:
        generate(says, options)
    assert max(behind) <= 16
    assert "".join(written) == session.text == Guard(RULES).check(Bytes.all_of(says))[0]


class Counting(Bytes):
    """Says how many tokens it has decoded, all times together."""

    decoded = 0

    def decode(self, ids: list[int], **options: Any) -> str:
        self.decoded += len(ids)
        return super().decode(ids, **options)


@pytest.mark.parametrize("token", [b"\xff", b"\0"])
def test_the_work_on_a_token_does_not_grow_with_those_that_are_no_text(token: bytes) -> None:
    tokenizer = Counting()
    with Session(Guard(RULES), tokenizer) as session:
        generate(token * 500, session.options())
    assert tokenizer.decoded <= 500 * 40
    assert session.text == "\ufffd" * (500 if token == b"\xff" else 0)


def test_a_tokenizer_that_shows_another_text_each_time_has_a_bound_too() -> None:
    class Changing(Bytes):
        def decode(self, ids: list[int], **options: Any) -> str:
            return str(len(ids)) + "\ufffd"

    session = Session(Guard(RULES), Changing())
    with session:
        generate(b"x" * 100, session.options())
    assert session.text
    assert len(session._text._ids) - session._text._read <= 16


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
