"""Rules as bytes, how deep a stream is in them, monitors of generations, and their audits."""

from __future__ import annotations

import copy
import json
import operator
import os
import pickle
import re
import shutil
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, suppress
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import codes
import decidable as dc
from decidable import Guard, Pressure, Rule, StopReason, cli, verify_audit
from decidable.guard import AuditFrame, AuditMatch, Continue, End, Stop, Text, Token
from ground import KEY, opened, preloaded, python, request
from model import audit as model

VECTORS = json.loads((Path(__file__).parent / "vectors" / "guard.json").read_text(encoding="utf-8"))
SSN = Rule.regex(r"\d{3}-\d{2}-\d{4}", action="redact", name="ssn")
DROP = Rule.literal("DROP TABLE", name="drop", severity="low")
NOTE = Rule.literal("private", action="record", name="note")
GUARD = Guard([DROP, SSN, NOTE])
END_BYTES = 74 + 32
"""Of a sealed audit: the last frame, and the seal."""
STATS = dc.LogitStats(entropy=1.5, dominance=0.25, selected_probability=0.1, selected=3, top1=1, top2=0)


def refused(
    code: str, call: Callable[[], object], kind: type[dc.DecidableError] = dc.InvalidInput
) -> dc.DecidableError:
    with pytest.raises(kind) as caught:
        call()
    codes.note(caught.value.code)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return caught.value


# --- rules as bytes -----------------------------------------------------------------------------------------------


def fields(rule: Rule) -> dict[str, Any]:
    """A rule as the plain-Python model takes it."""
    kind = {"literal": rule.pattern, "ignore_case": rule.ignore_case} if rule.kind == "literal" else {}
    return (
        {"regex": rule.pattern}
        | kind
        | {name: getattr(rule, name) for name in ("name", "action", "replacement", "severity", "check", "reads")}
    )


def test_an_audit_has_every_match_whoever_takes_them(tmp_path: Path) -> None:
    """The monitor itself keeps the first of them (docs/limits.md)."""
    most = 65_536
    with Guard([Rule.literal("a", action="record")]).monitor(audit=tmp_path / "audit") as monitor:
        monitor.intervene(Text(b"a" * (most + 7)))
        monitor.intervene(End())
    assert (len(monitor.matches()), monitor.matches_dropped) == (most, 7)
    assert len(verify_audit(tmp_path / "audit").matches) == most + 7


def test_rules_are_the_bytes_of_the_vectors() -> None:
    """And of the model in plain Python, which has them from the document."""
    vector = VECTORS["rules"]
    rules = []
    for rule in vector["rules"]:
        rest = {name: value for name, value in rule.items() if name not in ("literal", "regex")}
        rules.append(Rule.literal(rule["literal"], **rest) if "literal" in rule else Rule.regex(rule["regex"], **rest))
    guard = Guard(rules)
    assert guard.to_bytes().hex() == vector["bytes"]
    assert guard.digest().hex() == vector["digest"]
    layout = model.rules(vector["rules"])
    assert layout + model.sha(layout) == guard.to_bytes()
    assert model.sha(layout) == guard.digest()


def test_rules_are_read_back_and_find_the_same() -> None:
    """With the limit on what is held that the reader chooses."""
    again = Guard.from_bytes(GUARD.to_bytes())
    assert (again.rules, again.digest(), again.to_bytes()) == (GUARD.rules, GUARD.digest(), GUARD.to_bytes())
    text = "private: 078-05-1120 DROP TABLE"
    assert again.check(text) == GUARD.check(text)
    small = Guard.from_bytes(GUARD.to_bytes(), max_hold=3)
    assert small.check("078-05")[1] == StopReason("held_too_much", None, 0, None)
    assert model.rules([fields(rule) for rule in GUARD.rules]) == GUARD.to_bytes()[:-32]
    assert Guard([]).digest() == Guard.from_bytes(Guard([]).to_bytes()).digest()


def test_damaged_rules_are_refused_with_the_place() -> None:
    """Every cut, every changed byte, and what is no bytes."""
    data = GUARD.to_bytes()
    for length in range(len(data)):
        error = refused("guard.unreadable", lambda length=length: Guard.from_bytes(data[:length]))  # type: ignore[misc]
        assert error.offset <= length
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        error = refused("guard.unreadable", lambda changed=changed: Guard.from_bytes(bytes(changed)))  # type: ignore[misc]
        assert error.offset <= len(data)
        assert f"at byte {error.offset}" in str(error)
    refused("input.wrong_type", lambda: Guard.from_bytes("text"))  # type: ignore[arg-type]


def test_a_severity_is_one_of_three(tmp_path: Path) -> None:
    """It changes nothing but the digest, and a file may say it."""
    assert [Rule.literal("a").severity, DROP.severity] == ["high", "low"]
    error = refused("guard.unknown_severity", lambda: Rule.regex("a", severity="grave"))
    assert (error.field, error.value) == ("severity", "grave")
    digests = {Guard([Rule.literal("a", severity=each)]).digest() for each in ("low", "medium", "high")}
    assert len(digests) == 3
    file = tmp_path / "rules.toml"
    file.write_text("[[rules]]\nliteral = 'a'\nseverity = 'medium'\n", encoding="utf-8")
    assert Guard.load(file).rules[0].severity == "medium"


# --- pressure -----------------------------------------------------------------------------------------------------


def test_pressure_is_how_deep_a_stream_is() -> None:
    """The nearest to a match first; nothing where nothing may match, or the stream is stopped."""
    cursor = GUARD.cursor()
    for chunk, pressed in (
        ("so: ", []),
        ("078-0", [Pressure("ssn", 5, 6), Pressure("ssn", 1, 10)]),
        ("x DROP T", [Pressure("drop", 6, 4)]),
        ("x 1 priv", [Pressure("note", 4, 3)]),
        ("x DROP TABLE", []),
    ):
        cursor.push(chunk)
        assert cursor.pressure() == pressed
    two = Guard([Rule.regex(r"\d{4}", name="four"), Rule.literal("12x", name="text")]).cursor()
    two.push("12")
    assert [(each.rule, each.remaining) for each in two.pressure()] == [("text", 1), ("four", 2), ("four", 3)]
    two.finish()
    assert two.pressure() == []


def test_whoever_looks_beside_a_long_push_does_not_stand_still() -> None:
    """He is told, or told that the stream is in use; the push goes on."""
    cursor = GUARD.cursor()
    chunk = "so on and so on " * 4_096

    def push() -> int:
        pushed = 0
        while pushed < 50:
            # On an interpreter without a lock it may meet whoever looks.
            with suppress(dc.Conflict):
                pushed += cursor.push(chunk) == chunk
        return pushed

    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(push)
        while not pushing.done():
            try:
                assert (cursor.stopped, cursor.held) == (None, 0)
            except dc.Conflict as error:
                codes.note(error.code)
        assert pushing.result(60) == 50


# --- monitors -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on files")
def test_an_audit_that_cannot_begin_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its name is free for the next."""
    path = tmp_path / "x.audit"
    program = f"""
import resource, signal
from decidable import Guard, InvalidInput, Rule
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
guard = Guard([Rule.literal("drop")])
for room in (0, 10):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        guard.monitor(audit={str(path)!r})
    except InvalidInput as error:
        print(error.code)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
guard.monitor(audit={str(path)!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["audit.unwritable"] * 2
    assert path.stat().st_size > 10


def test_a_monitor_lets_a_generation_go_on_until_a_rule_stops_it() -> None:
    """Tokens may end inside characters; once stopped it stays so."""
    monitor = GUARD.monitor()
    assert monitor.intervene(Token(1, b"\xc3")) == Continue(b"\xc3")
    assert monitor.intervene(Text("\u00e9: private 078-")) == Continue("\u00e9: private ".encode())
    assert monitor.held == 4
    assert monitor.pressure() == [Pressure("ssn", 4, 7)]
    match monitor.intervene(Token(2, b"05-1120 DROP", STATS)):
        case Continue(released):
            assert released == b"[redacted] "
        case other:
            pytest.fail(repr(other))
    match monitor.intervene(Token(3, b" TABLE users")):
        case Stop(StopReason("matched", "drop", start, end), released):
            assert (start, end, released) == (25, 35, b"")
        case other:
            pytest.fail(repr(other))
    for event in (Token(4, b"more"), Text("more"), End(), "no event"):
        stopped = monitor.intervene(event)  # type: ignore[arg-type]
        assert stopped == Stop(monitor.stopped, b"")  # type: ignore[arg-type]
    assert [match.rule for match in monitor.matches()] == ["note", "ssn"]
    assert monitor.pressure() == []
    assert monitor.audit_hash is None


@given(
    words=st.lists(st.sampled_from(["DROP", " TABLE", "078-05", "-1120", "private", " ", "\u00e9", "x"]), max_size=12),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
)
def test_a_monitor_releases_what_a_stream_would(words: list[str], cuts: list[int]) -> None:
    """However the tokens cut it, and the same matches."""
    text = "".join(words).encode()
    released, stopped, matches = GUARD.check(text)
    monitor, place, sent, found, sizes = GUARD.monitor(), 0, b"", [], cycle(cuts)
    while place < len(text) and monitor.stopped is None:
        size = next(sizes)
        sent += monitor.intervene(Token(place, text[place : place + size])).released
        found += monitor.matches()
        place += size
    sent += monitor.intervene(End()).released
    found += monitor.matches()
    assert (sent, monitor.stopped, monitor.fault) == (released, stopped, None)
    assert sorted(found, key=lambda match: match.start) == matches


class NoNumber(str):
    def __index__(self) -> str:  # type: ignore[override]
        return str(self)


@pytest.mark.parametrize(
    "event",
    [
        None, "a secret", b"a secret", 7, Text(7), Text("a secret\ud800"), Text(["a secret"]), Token, End,  # type: ignore[arg-type]
        Token("1", b"a secret"), Token(-1, b"a secret"), Token(2**32, b"x"), Token(True, b"x"),  # type: ignore[arg-type]
        Token(1, "a secret"), Token(1, None), Token(1, b"x", "stats"), Token(b"a secret", 5), Token(["a secret"], 5),  # type: ignore[arg-type]
        Token("a secret", 5), Token(NoNumber("a secret"), b"x"),  # type: ignore[arg-type]
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_event_stops(event: Any) -> None:
    """It raises nothing, and what was held never comes out."""
    monitor = GUARD.monitor()
    assert monitor.intervene(Token(0, b"so DROP")) == Continue(b"so ")
    assert monitor.intervene(event) == Stop(StopReason("failed", None, 3, None), b"")
    assert isinstance(monitor.fault, dc.InvalidInput)
    # Nothing of the text that was given: errors are logged, with those that they come of.
    told = f"{monitor.fault!r} {monitor.fault.details!r} {monitor.fault.__context__!r}"
    assert not re.search(r"secret|\\ud800", told)
    assert monitor.intervene(End()) == Stop(StopReason("failed", None, 3, None), b"")


def test_statistics_that_are_none_stop_with_a_fault_that_says_so() -> None:
    """By its code and field, as of every other part of an event."""
    monitor = GUARD.monitor()
    monitor.intervene(Token(1, b"x", 3))  # type: ignore[arg-type]
    assert isinstance(monitor.fault, dc.InvalidInput)
    assert (monitor.fault.code, monitor.fault.details["field"]) == ("input.wrong_type", "stats")
    assert str(monitor.fault) == "stats must be LogitStats or LogitBounds, and is int"


def test_a_fault_inside_stops() -> None:
    """A clock that fails, once or for ever; an interrupt stops it too, and is raised."""

    def failing(error: BaseException, after: int) -> Callable[[], int]:
        counted = count()

        def tick() -> int:
            if next(counted) >= after:
                raise error
            return 0

        return tick

    for error in (ValueError("no time"), RuntimeError()):
        monitor = GUARD.monitor(clock=failing(error, 1))
        assert monitor.intervene(Token(1, b"so DROP")) == Continue(b"so ")
        assert monitor.intervene(Token(1, b" TABLES")) == Stop(StopReason("failed", None, 3, None), b"")
        assert monitor.fault is error
    monitor = GUARD.monitor(clock=failing(KeyboardInterrupt(), 1))
    assert monitor.intervene(Token(1, b"so DROP")) == Continue(b"so ")
    with pytest.raises(KeyboardInterrupt):
        monitor.intervene(Token(1, b"x"))
    assert monitor.stopped == StopReason("failed", None, 3, None)
    monitor = GUARD.monitor(clock=lambda: "now")  # type: ignore[arg-type, return-value]
    assert monitor.intervene(Token(1, b"x")) == Stop(StopReason("failed", None, 0, None), b"")


@pytest.mark.parametrize("time", [2**63, -(2**63) - 1, 2**70, 1.5, None])
def test_a_time_that_is_none_stops_for_good(tmp_path: Path, time: Any) -> None:
    """The clock is well again at the next event, and the generation is not; its audit ends at the last time known."""
    path = tmp_path / "answer.audit"
    times = iter([1, 2, time, 4, 5])
    monitor = GUARD.monitor(clock=lambda: next(times), audit=path)
    assert monitor.intervene(Token(1, b"so DROP")) == Continue(b"so ")
    stop = Stop(StopReason("failed", None, 3, None), b"")
    assert monitor.intervene(Token(2, b" TABLE")) == stop
    assert monitor.intervene(Token(3, b" users")) == stop
    assert (monitor.stopped, isinstance(monitor.fault, dc.DecidableError)) == (stop.reason, True)
    report = verify_audit(path, guard=GUARD)
    assert (report.ending, report.ended_ns, len(report.frames)) == ("failed", 2, 1)


def test_a_generation_is_over_after_its_end() -> None:
    """What comes after it stops; leaving before it stops too."""
    monitor = GUARD.monitor()
    assert monitor.intervene(Text("DROP")) == Continue(b"")
    assert monitor.intervene(End()) == Continue(b"DROP")
    assert monitor.intervene(End()) == Continue(b"")
    assert monitor.fault is None
    assert monitor.intervene(Text("x")) == Stop(StopReason("failed", None, 4, None), b"")
    fault = monitor.fault
    assert isinstance(fault, dc.Conflict)
    assert (fault.code, str(fault)) == ("guard.ended", "the generation was at its end")
    assert monitor.intervene(Token(1, b"x")) == Stop(StopReason("failed", None, 4, None), b"")
    assert monitor.fault is fault
    with GUARD.monitor() as left:
        left.intervene(Text("DROP"))
    assert left.stopped == StopReason("failed", None, 0, None)
    assert isinstance(left.fault, dc.Conflict)
    assert left.fault.code == "guard.ended"
    with GUARD.monitor() as ended:
        ended.intervene(End())
    assert (ended.stopped, ended.fault) == (None, None)


def test_a_model_that_is_too_unsure_is_stopped() -> None:
    """Before the text of the last step leaves. What is not known counts as above."""
    unsure = dc.LogitStats(entropy=2.5, dominance=0.25, selected_probability=0.1, selected=3, top1=1, top2=0)
    bounds = dc.LogitBounds(
        entropy_lower=0.5, entropy_upper=2.5, dominance_lower=0.0, dominance_upper=0.5,
        selected_probability_lower=0.0, selected_probability_upper=0.5,
    )  # fmt: skip
    for above in (unsure, bounds, None):
        monitor = GUARD.monitor(most_entropy=(2.0, 2))
        for stats in (above, STATS, above):
            assert monitor.intervene(Token(1, b"x", stats)) == Continue(b"x")
        assert monitor.intervene(Token(1, b"x", above)) == Stop(StopReason("uncertain", None, 3, None), b"")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (5, "wrong_type"), ([1, 2], "wrong_type"), ((1,), "out_of_range"), (("a", 1), "wrong_type"),
        ((True, 1), "wrong_type"), ((float("nan"), 2), "out_of_range"), ((float("inf"), 2), "out_of_range"),
        ((10**400, 2), "out_of_range"), ((-1, 2), "out_of_range"), ((1, 0), "out_of_range"),
        ((1, 2**32), "out_of_range"), ((1, 1.5), "not_an_integer"), ((1, True), "not_an_integer"),
    ],
)  # fmt: skip
def test_a_bound_of_entropy_that_is_none_is_refused(given: Any, code: str) -> None:
    """One that nothing is above would be none without a word."""
    assert refused(f"input.{code}", lambda: GUARD.monitor(most_entropy=given)).field == "most_entropy"


def test_events_and_interventions_are_values() -> None:
    """Frozen, equal where their fields are, hashed, copied and pickled."""
    reason = StopReason("failed", None, 1, None)
    values = [
        Token(1, b"x", STATS), Text("x"), End(), Continue(b"x"), Stop(reason, b"x"),
        AuditFrame(1, 2, 3, b"x"), AuditMatch(0, 1, 2, 3, None),
    ]  # fmt: skip
    for value in values:
        assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
        assert len({value, copy.copy(value), *values}) == len(values)
        assert isinstance(type(value).__match_args__, tuple)
        for name in (*type(value).__match_args__, "other"):
            with pytest.raises((AttributeError, TypeError)):
                setattr(value, name, 1)
        with pytest.raises(TypeError):
            operator.lt(value, value)
    assert Continue.__match_args__ == ("released",)
    assert Stop.__match_args__ == ("reason", "released")


# --- audits -------------------------------------------------------------------------------------------------------


def generation(path: Path, *, tokens: int = 50, stopped: bool = False, **options: Any) -> dc.Monitor:
    """Fifty tokens and two matches; and one more of each, where it is stopped."""
    monitor = GUARD.monitor(audit=path, model="small", clock=count(1_000).__next__, **options)
    for number in range(tokens - 1):
        assert monitor.intervene(Token(number, b"so ")) == Continue(b"so ")
    assert isinstance(monitor.intervene(Token(2**32 - 1, b"private 078-05-1120 ")), Continue)
    if stopped:
        assert isinstance(monitor.intervene(Token(7, b"DROP TABLE users")), Stop)
    else:
        assert monitor.intervene(End()) == Continue(b"")
    return monitor


def test_an_audit_says_what_was_generated(tmp_path: Path) -> None:
    """Every token and match, how it ended, and nothing of the text."""
    path = tmp_path / "answer.audit"
    monitor = generation(path, stopped=True)
    report = verify_audit(path)
    assert (report.model, report.rules, report.decision, report.sealed) == ("small", GUARD.digest(), None, False)
    assert [frame.token_id for frame in report.frames] == [*range(49), 2**32 - 1, 7]
    assert [frame.step_seq for frame in report.frames] == list(range(1, 52))
    assert [frame.timestamp_ns for frame in report.frames] == list(range(1_001, 1_052))
    assert report.matches == (
        AuditMatch(2, 147, 154, 50, None), AuditMatch(1, 155, 166, 50, None), AuditMatch(0, 167, 177, 51, None),
    )  # fmt: skip
    assert (report.ending, report.created_ns, report.ended_ns) == ("matched", 1_000, 1_051)
    assert (report.taken, report.released, report.held) == (177, 167, 10)
    assert (report.hash, report.tail) == (monitor.audit_hash, None)
    assert report.hash not in {frame.chain_hash for frame in report.frames}
    data = path.read_bytes()
    assert not any(word in data for word in (b"private", b"DROP", b"078-05", b"ssn"))
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_of_a_thing_in_an_audit_is_one(tmp_path: Path) -> None:
    """What is established of an audit is counted as people count."""
    monitor = GUARD.monitor(audit=tmp_path / "one.audit", model="small")
    monitor.intervene(Token(1, b"078-05-1120 "))
    monitor.intervene(End())
    assert verify_audit(tmp_path / "one.audit").established[0] == "1 token and 1 match form one unbroken chain."


def rewritten(path: Path, key: bytes | None) -> bytes:
    """The audit again, in plain Python, from what was read of it."""
    report = verify_audit(path)
    data = path.read_bytes()
    boot = data[26:42] if data[25] else None
    head = {"id": data[9:25], "boot_id": boot, "created_ns": report.created_ns, "rules": report.rules}
    written = model.Audit(head | {"decision": report.decision, "model": report.model}, key)
    matches = list(report.matches)
    for frame in report.frames:
        written.token(frame.token_id, frame.timestamp_ns)
        while matches and matches[0].step_seq == frame.step_seq:
            found = matches.pop(0)
            written.match(found.rule, found.start, found.end, found.text_digest)
        assert frame.chain_hash in written.data
    assert report.ending is not None
    assert report.ended_ns is not None
    assert report.taken is not None
    assert report.released is not None
    written.end(report.ending, report.ended_ns, report.taken, report.released)
    assert report.hash == written.chain
    return written.data


def test_the_bytes_are_those_of_the_model(tmp_path: Path) -> None:
    """Sealed and not, with salted digests and without."""
    plain, sealed = tmp_path / "plain.audit", tmp_path / "sealed.audit"
    generation(plain, stopped=True)
    salt = bytes(range(32))
    generation(sealed, key=KEY, salt=salt)
    assert rewritten(plain, None) == plain.read_bytes()
    assert rewritten(sealed, bytes(range(32))) == sealed.read_bytes()
    digests = [match.text_digest for match in verify_audit(sealed, key=KEY).matches]
    assert digests == [model.text_digest(salt, text) for text in (b"private", b"078-05-1120")]


def test_the_audit_of_the_vectors_holds(tmp_path: Path) -> None:
    """The model writes its bytes, and they are read as they were meant."""
    vector, path = VECTORS["audit"], tmp_path / "vector.audit"
    head, key = vector["head"], bytes.fromhex(vector["key"])
    number, identity = head["decision"]
    rules = bytes.fromhex(VECTORS["rules"]["digest"])
    binary = {"id": bytes.fromhex(head["id"]), "boot_id": bytes.fromhex(head["boot_id"]), "rules": rules}
    written = model.Audit(head | binary | {"decision": (number, bytes.fromhex(identity))}, key)
    for frame in vector["frames"]:
        match frame:
            case {"kind": "token"}:
                written.token(frame["token_id"], frame["timestamp_ns"])
            case {"kind": "match"}:
                digest = model.text_digest(bytes.fromhex(vector["salt"]), frame["text"].encode())
                written.match(frame["rule"], frame["start"], frame["end"], digest)
            case _:
                written.end(frame["ending"], frame["timestamp_ns"], frame["taken"], frame["released"])
    assert written.data.hex() == vector["bytes"]
    path.write_bytes(written.data)
    report = verify_audit(path, key=dc.Key(key))
    assert (report.hash.hex(), report.decision) == (vector["hash"], (number, bytes.fromhex(identity)))
    assert (report.ending, report.held, [frame.token_id for frame in report.frames]) == ("matched", 10, [17, 2**32 - 1])


def test_every_cut_is_refused_or_reported_as_unfinished(tmp_path: Path) -> None:
    """Inside the head it is refused with its place; behind it what is whole holds."""
    path, cut = tmp_path / "answer.audit", tmp_path / "cut.audit"
    generation(path, key=KEY)
    data = path.read_bytes()
    whole = verify_audit(path)
    heads = data.index(b"small") + len("small") + 16 + 32
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        if length < heads:
            error = refused("audit.damaged", lambda: verify_audit(cut, key=KEY), dc.VerificationError)
            assert error.offset <= length
            continue
        report = verify_audit(cut, key=KEY)
        assert report.ending is None
        assert report.held is None
        assert report.frames == whole.frames[: len(report.frames)]
        assert report.tail is not None
        assert report.tail["offset"] + report.tail["bytes"] == length
        assert any("no end" in each for each in report.not_established)


def test_room_that_was_never_written_is_unfinished(tmp_path: Path) -> None:
    """A page of the file that a loss of power left as zeros begins anywhere, also in a frame or in the seal."""
    path, torn = tmp_path / "answer.audit", tmp_path / "torn.audit"
    for key in (None, KEY):
        monitor = generation(path, tokens=100, key=key)
        data = path.read_bytes()
        whole = verify_audit(path)
        assert (len(data) > 4096, whole.hash) == (True, monitor.audit_hash)
        for written in (512, 4096, len(data) - 16):
            for length in (len(data), (len(data) // 4096 + 2) * 4096):
                torn.write_bytes(data[:written].ljust(length, b"\0"))
                report = verify_audit(torn, key=key)
                assert (report.ending, report.held) == (None, None)
                assert report.tail is not None
                assert report.tail["offset"] <= written
                assert report.tail["offset"] + report.tail["bytes"] == length
                assert report.frames == whole.frames[: len(report.frames)]
                assert len(report.frames) >= (written - 500) // 53
                assert any("no end" in each for each in report.not_established)
                if written < len(data) - 16:
                    torn.write_bytes(torn.read_bytes()[:-1] + b"\1")
                    refused("audit.damaged", partial(verify_audit, torn, key=key), dc.VerificationError)
        path.unlink()


def test_a_changed_bit_of_any_byte_is_refused_with_its_place(tmp_path: Path) -> None:
    """Of a sealed audit of fifty tokens; ``rust/decidable-guard/tests/audit.rs`` changes every bit."""
    path, changed = tmp_path / "answer.audit", tmp_path / "changed.audit"
    generation(path, key=KEY)
    data = path.read_bytes()
    for byte in range(len(data)):
        damaged = bytearray(data)
        damaged[byte] ^= 1 << byte % 8
        changed.write_bytes(damaged)
        if damaged[-1] == 0 and byte >= len(data) - END_BYTES:
            # As one of which the last byte never reached the disk.
            assert verify_audit(changed, key=KEY).ending is None
            continue
        with pytest.raises(dc.VerificationError) as caught:
            verify_audit(changed, key=KEY)
        assert caught.value.code in ("audit.damaged", "audit.seal_broken"), byte
        assert 0 <= caught.value.offset < len(data)
        assert caught.value.what == caught.value.code


def written_by_hand(
    path: Path,
    key: bytes | None,
    *matches: tuple[int, int, int],
    ending: str | None,
    taken: int = 30,
    released: int = 0,
    tokens: int = 0,
    guard: Guard = GUARD,
) -> Path:
    """An audit as the model writes it, of whatever head and frames."""
    head = {
        "id": bytes(16), "boot_id": None, "created_ns": 1, "rules": guard.digest(), "decision": None, "model": "small",
    }  # fmt: skip
    audit = model.Audit(head, key)
    audit.token(1, 2)
    for match in matches:
        audit.match(*match)
    for _ in range(tokens):
        audit.token(1, 3)
    if ending is not None:
        audit.end(ending, 3, taken, taken if ending == "finished" else released)
    path.write_bytes(audit.data)
    return path


def test_a_head_that_the_key_did_not_write_is_refused(tmp_path: Path) -> None:
    """Nobody who has an audit of the key can write the beginning of one of another model."""
    path = written_by_hand(tmp_path / "answer.audit", bytes([1]) * 32, ending="finished")
    key = dc.Key(bytes([1]) * 32)
    assert verify_audit(path, guard=GUARD, key=key).ending == "finished"
    data = path.read_bytes()
    place = data.index(b"small")
    for other in (b"large", b"other"):
        body = data[:place] + other + data[place + 5 : place + 5 + 16]
        path.write_bytes(body + model.sha(body))
        refused("audit.wrong_key", lambda: verify_audit(path, key=key), dc.LogUnavailable)
        # Without the key nobody can tell, and is told so.
        assert any("no key" in each for each in verify_audit(path).not_established)
    path.write_bytes(data[: place + 5 + 16 + 32])
    report = verify_audit(path, key=key)
    assert report.ending is None
    assert "The head is that of the key." in report.established


def test_matches_that_no_generation_has_are_refused(tmp_path: Path) -> None:
    """Of rules that there are not or are switched off, behind the text, over one another, and of a rule that stops in a
    generation that went on.
    """
    path = tmp_path / "answer.audit"
    drop, ssn, note = range(3)
    for matches, ending in (
        (((ssn, 1, 12), (note, 13, 20)), "finished"),
        (((ssn, 1, 12), (drop, 20, 30)), "matched"),
        (((ssn, 1, 12), (note, 2, 9), (ssn, 12, 23)), "finished"),
        (((ssn, 1, 12), (drop, 20, 30)), None),
        ((), "failed"),
    ):
        report = verify_audit(written_by_hand(path, None, *matches, ending=ending), guard=GUARD)
        assert (report.ending, len(report.matches)) == (ending, len(matches))
    for matches, ending in (
        (((3, 1, 12),), "finished"),
        (((drop, 1, 11),), "finished"),
        (((drop, 1, 11), (ssn, 12, 30)), "matched"),
        (((drop, 1, 11), (ssn, 12, 23)), None),
        (((drop, 1, 11),), "failed"),
        (((ssn, 1, 30),), "matched"),
        (((ssn, 1, 12), (ssn, 1, 12)), "finished"),
        (((ssn, 1, 12), (ssn, 11, 22)), "finished"),
    ):
        written_by_hand(path, None, *matches, ending=ending)
        refused("audit.other_rules", lambda: verify_audit(path, guard=GUARD), dc.VerificationError)
        assert verify_audit(path).ending == ending
    written_by_hand(path, None, (drop, 1, 11), ending=None, tokens=1)
    refused("audit.other_rules", lambda: verify_audit(path, guard=GUARD), dc.VerificationError)
    off = Guard([DROP, SSN, Rule.literal("private", action="ignore", name="note")])
    written_by_hand(path, None, (note, 1, 8), ending="finished", guard=off)
    refused("audit.other_rules", lambda: verify_audit(path, guard=off), dc.VerificationError)
    # Behind the text; the text goes on behind what stopped it; and what stopped it came out.
    written_by_hand(path, None, (ssn, 20, 31), ending="finished")
    refused("audit.damaged", lambda: verify_audit(path), dc.VerificationError)
    written_by_hand(path, None, (drop, 1, 11), ending="matched")
    refused("audit.damaged", lambda: verify_audit(path), dc.VerificationError)
    written_by_hand(path, None, (drop, 20, 30), ending="matched", released=21)
    refused("audit.damaged", lambda: verify_audit(path), dc.VerificationError)
    assert verify_audit(written_by_hand(path, None, (drop, 20, 30), ending="matched", released=20)).held == 10


@pytest.mark.parametrize(
    ("rules", "pieces"),
    [
        ([Rule.literal("ba", action="redact"), Rule.literal("a")], ["ba"]),
        ([Rule.regex("ba+", action="redact"), Rule.literal("aa")], ["ba", "a"]),
        ([Rule.regex(r"\S+@\S+", action="redact"), Rule.literal("evil.com")], ["mail bob@", "evil.com", " now"]),
        ([Rule.regex(r"\.", action="record", reads="folded")], ["wait…"]),
        ([Rule.regex("[a-z]", action="redact", reads="folded"), Rule.literal("x")], ["\ufb01 \ufb00", "x"]),
    ],
)
def test_an_audit_of_matches_that_share_bytes_holds(rules: list[Rule], pieces: list[str], tmp_path: Path) -> None:
    """A redaction that reaches into what stops, and letters that one code point stands for."""
    guard, path = Guard(rules), tmp_path / "answer.audit"
    with guard.monitor(audit=path) as monitor:
        answers = [monitor.intervene(Token(1, piece.encode())) for piece in pieces] + [monitor.intervene(End())]
    report = verify_audit(path, guard=guard)
    assert report.ending == ("matched" if isinstance(answers[-1], Stop) else "finished")
    # What stopped it is no match that was noted or replaced.
    assert len(report.matches) == len(monitor.matches()) + (report.ending == "matched") > 0


def test_what_is_no_key_and_no_guard_of_an_audit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answer.audit"
    generation(path)
    for key in (b"k" * 32, "k" * 32, 7):
        error = refused("input.wrong_type", lambda key=key: verify_audit(path, key=key))
        assert error.details == {"field": "key", "value": type(key).__name__}
    for guard in ("rules.toml", [DROP], 3):
        error = refused("input.wrong_type", lambda guard=guard: verify_audit(path, guard=guard))
        assert error.details == {"field": "guard", "value": type(guard).__name__}


def test_a_key_is_the_right_one_or_refused(tmp_path: Path) -> None:
    """A wrong key is told from damage; without one everything but the seal is checked."""
    sealed, plain = tmp_path / "sealed.audit", tmp_path / "plain.audit"
    generation(sealed, key=KEY)
    generation(plain)
    other = dc.Key(bytes(32))
    refused("audit.wrong_key", lambda: verify_audit(sealed, key=other), dc.LogUnavailable)
    refused("audit.not_sealed", lambda: verify_audit(plain, key=KEY), dc.LogUnavailable)
    assert any("no key was given" in each for each in verify_audit(sealed).not_established)
    assert "The end carries the seal of the key." in verify_audit(sealed, key=KEY).established
    data = bytearray(sealed.read_bytes())
    data[-1] ^= 1 if data[-1] != 1 else 2
    sealed.write_bytes(data)
    assert verify_audit(sealed).ending == "finished"
    refused("audit.seal_broken", lambda: verify_audit(sealed, key=KEY), dc.VerificationError)


def test_the_rules_are_those_given_or_refused(tmp_path: Path) -> None:
    """Their digest is in the head."""
    path = tmp_path / "answer.audit"
    generation(path)
    assert "The rules are those given." in verify_audit(path, guard=GUARD).established
    refused("audit.other_rules", lambda: verify_audit(path, guard=Guard([DROP])), dc.VerificationError)


def test_the_log_has_the_decision_that_an_audit_belongs_to(tmp_path: Path) -> None:
    """With its number and its identity; another log has not."""
    logs = [tmp_path / "state", tmp_path / "other"]
    for log in logs:
        with opened(log) as engine:
            engine.decide(request())
            ticket = engine.decide(request(input_tokens=1_000 + (log is logs[0])))
            refusal = engine.decide(request(risk_bps=9_900))
    paths = [tmp_path / "0.audit", tmp_path / "1.audit", tmp_path / "none.audit"]
    with opened(logs[0]) as engine:
        ticket = engine.ticket(2)
        generation(paths[0], decision=ticket)
        third = engine.decide(request())
        generation(paths[1], decision=third)
    generation(paths[2])
    assert ticket.policy is not None
    assert ticket.decision is not None
    identity = dc.identity(ticket.policy, ticket.request, ticket.decision)
    report = verify_audit(paths[0], log=logs[0])
    assert report.decision == (2, identity)
    assert any("number 2, with its identity" in each for each in report.established)
    assert any("the log names none of its decision" in each for each in report.not_established)
    for path, why in ((paths[0], "with another identity"), (paths[1], "not at all"), (paths[2], "names no decision")):
        error = refused(
            "audit.other_decision", lambda path=path: verify_audit(path, log=logs[1]), dc.VerificationError  # type: ignore[misc]
        )  # fmt: skip
        assert why in str(error)
    error = refused("audit.undecided", lambda: generation(tmp_path / "refused.audit", decision=refusal))
    assert error.ticket == 3
    refused("wal.not_found", lambda: verify_audit(paths[0], log=tmp_path / "nowhere"), dc.UnknownName)


def test_the_log_names_its_audits(tmp_path: Path) -> None:
    """One that the log names is the one that was written; beside it no other passes, however well it is formed."""
    log, paths = tmp_path / "log", [tmp_path / f"{number}.audit" for number in range(3)]
    with opened(log) as engine:
        ticket = engine.decide(request())
        monitors = [generation(path, decision=ticket) for path in paths]
        for monitor in monitors[:2]:
            engine.audit(ticket.id, monitor.audit_hash)
            ticket.settle(cost_microunits=1)
    for path in paths[:2]:
        report = verify_audit(path, log=log)
        assert "The log names this audit: it is the one that was written." in report.established
        assert "Who wrote it: the audit is not sealed." in report.not_established
        unnamed = [each for each in verify_audit(path).not_established if "not sealed" in each]
        assert unnamed == ["Who wrote it, and that it is the one that was written: the audit is not sealed."]
    error = refused("audit.other_audit", lambda: verify_audit(paths[2], log=log), dc.VerificationError)
    assert "the log names 2 audits of its decision, number 1, and not this" in str(error)
    cut = tmp_path / "cut.audit"
    cut.write_bytes(paths[0].read_bytes()[:-1])
    report = verify_audit(cut, log=log)
    assert report.ending is None
    assert "Whether it is an audit that the log names: it has no end." in report.not_established


def test_an_audit_is_written_as_it_goes(tmp_path: Path) -> None:
    """In pieces; one that is left says that it failed, and one that nobody ended is unfinished and holds so far."""
    path = tmp_path / "answer.audit"
    monitor = GUARD.monitor(audit=path)
    # From the beginning on it is an audit that has not come to its end.
    begun = verify_audit(path)
    assert (begun.ending, begun.frames, begun.rules) == (None, (), GUARD.digest())
    sizes = set()
    for number in range(1_000):
        monitor.intervene(Token(number, b"so "))
        sizes.add(path.stat().st_size)
    assert len(sizes) > 10
    report = verify_audit(path)
    assert 900 < len(report.frames) < 1_000
    assert (report.ending, report.tail) == (None, {"offset": max(sizes), "bytes": 0})
    with monitor:
        pass
    report = verify_audit(path)
    assert (report.ending, len(report.frames)) == ("failed", 1_000)


def test_an_audit_that_cannot_be_begun_is_refused(tmp_path: Path) -> None:
    """Nothing is replaced, and what is of an audit is not taken where there is none."""
    path = tmp_path / "answer.audit"
    generation(path)
    before = path.read_bytes()
    error = refused("audit.exists", lambda: GUARD.monitor(audit=path))
    assert (error.path, path.read_bytes()) == (str(path), before)
    refused("audit.unwritable", lambda: GUARD.monitor(audit=tmp_path / "none" / "a.audit"))
    new = tmp_path / "new.audit"
    refused("guard.too_large", lambda: GUARD.monitor(audit=new, model="m" * 257))
    refused("input.wrong_type", lambda: GUARD.monitor(audit=new, salt=b"short"))
    refused("input.wrong_type", lambda: GUARD.monitor(audit=new, key=b"0" * 32))  # type: ignore[arg-type]
    refused("input.wrong_type", lambda: GUARD.monitor(audit=new, model=7))  # type: ignore[arg-type]
    refused("input.wrong_type", lambda: GUARD.monitor(audit=new, decision="abc"))  # type: ignore[arg-type]
    assert not new.exists()
    assert refused("input.wrong_type", lambda: GUARD.monitor(audit=5)).field == "audit"  # type: ignore[arg-type]
    assert refused("log.no_path", lambda: GUARD.monitor(audit="")).field == "audit"
    GUARD.monitor(audit=os.fsencode(new))  # type: ignore[arg-type]
    assert new.exists()
    for option in ({"model": "m"}, {"key": KEY}, {"salt": bytes(32)}):
        refused("audit.not_wanted", lambda option=option: GUARD.monitor(**option))  # type: ignore[misc]


def test_an_audit_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A folder, nothing at all, and what is no audit."""
    refused("audit.unreadable", lambda: verify_audit(tmp_path))
    refused("audit.unreadable", lambda: verify_audit(tmp_path / "none.audit"))
    other = tmp_path / "other.audit"
    for data in (b"", b"{}", b"dcdseg0\0" + bytes(120), b"dcdaud0\0\2" + bytes(120)):
        other.write_bytes(data)
        refused("audit.damaged", lambda: verify_audit(other), dc.VerificationError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_what_cannot_be_written_down_does_not_come_out(tmp_path: Path) -> None:
    """A disk that is full stops the generation at the first piece that it does not take."""
    import resource
    import signal

    path = tmp_path / "answer.audit"
    monitor = GUARD.monitor(audit=path)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        results = [monitor.intervene(Token(number, b"so ")) for number in range(300)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    stopped = next(place for place, each in enumerate(results) if isinstance(each, Stop))
    assert 70 < stopped < 160
    assert all(each == Continue(b"so ") for each in results[:stopped])
    assert {each.released for each in results[stopped:]} == {b""}
    assert isinstance(monitor.fault, dc.InvalidInput)
    assert monitor.fault.code == "audit.unwritable"
    assert verify_audit(path).ending is None


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use keeps its name there")
@pytest.mark.parametrize("moved", [True, False])
def test_an_audit_is_whole_wherever_its_folder_is_called_at_the_end(tmp_path: Path, moved: bool) -> None:
    """A daemon changes its folder, or what rotates logs its name: what came out is what the audit says."""
    folder = tmp_path / "logs"
    folder.mkdir()
    with chdir(tmp_path):
        monitor = GUARD.monitor(audit="logs/a.audit")
    monitor.intervene(Token(1, b"hello DROP"))
    if moved:
        folder = folder.rename(tmp_path / "logs.1")
    assert monitor.intervene(End()) == Continue(b"DROP")
    report = verify_audit(folder / "a.audit")
    assert (report.ending, report.released, report.hash) == ("finished", 10, monitor.audit_hash)


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is in use stays there")
@pytest.mark.parametrize("gone", ["file", "folder", "cut", "more"])
def test_an_audit_that_somebody_took_away_is_not_one_that_was_written(tmp_path: Path, gone: str) -> None:
    """What tidies up comes too early, or two write to one file: the end does not come out as if it were on the disk."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "a.audit"
    monitor = GUARD.monitor(audit=path)
    monitor.intervene(Token(1, b"hello DROP"))
    if gone == "file":
        path.unlink()
    elif gone == "folder":
        shutil.rmtree(folder)
    elif gone == "cut":
        os.truncate(path, 10)
    else:
        with path.open("ab") as other:
            other.write(bytes(10_000))
    answer = monitor.intervene(End())
    assert isinstance(answer, Stop)
    assert (answer.reason.kind, answer.released) == ("failed", b"")
    assert isinstance(monitor.fault, dc.InvalidInput)
    assert (monitor.fault.code, monitor.audit_hash) == ("audit.unwritable", None)
    assert list(tmp_path.rglob("*.audit")) == ([path] if gone in ("cut", "more") else [])


UNSYNCED = """
import sys
from decidable import Guard, Rule
from decidable.guard import End, Stop, Token

monitor = Guard([Rule.literal("DROP TABLE")]).monitor(audit=sys.argv[1])
for number in range(200):
    monitor.intervene(Token(number, b"so "))
answer = monitor.intervene(End())
print(isinstance(answer, Stop), answer.released, monitor.fault.code, monitor.audit_hash)
"""


@pytest.mark.parametrize("lost", [0, 50, 73, 130])
def test_an_end_that_the_disk_does_not_take_is_taken_back_and_no_frame_with_it(tmp_path: Path, lost: int) -> None:
    """Also where some of the end is gone by then, or more. What came out is in the audit, as far as that is there."""
    path = tmp_path / "answer.audit"
    failing = {"LD_PRELOAD": str(preloaded("lost", tmp_path)), "LOST_NAME": path.name, "LOST_BYTES": str(lost)}
    done = python(UNSYNCED, path, env=os.environ | failing)
    assert (done.stdout, done.stderr) == ("True b'' audit.unwritable None\n", "")
    report = verify_audit(path)
    # An end takes 74 bytes, and a frame 53.
    gone = max(lost - 74, 0)
    assert (report.ending, len(report.frames)) == (None, 200 - -(-gone // 53))
    assert report.tail["bytes"] == -gone % 53


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_an_audit_that_could_not_be_written_has_no_hash(tmp_path: Path) -> None:
    """The log would name one that never was. What came out is in what could be written."""
    import resource
    import signal

    path = tmp_path / "answer.audit"
    monitor = GUARD.monitor(audit=path)
    begun = monitor.audit_hash
    assert verify_audit(path).hash == begun
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 60, before[1]))
    try:
        assert monitor.intervene(Token(1, b"so ")) == Continue(b"so ")
        assert isinstance(monitor.intervene(End()), Stop)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert monitor.audit_hash is None
    report = verify_audit(path)
    assert (report.ending, len(report.frames)) == (None, 1)
    assert report.tail == {"offset": path.stat().st_size - 7, "bytes": 7}


FORKED = """
import os, sys
import decidable as dc
from decidable.guard import Continue, End, Stop, Token

path, hooked = sys.argv[1], sys.argv[2] == "hooked"
guard = dc.Guard([dc.Rule.literal("DROP TABLE")])
monitor = guard.monitor(audit=path)

def tokens(count):
    return [monitor.intervene(Token(number, b"so ")) for number in range(count)]

def child():
    results = tokens(300)
    assert {type(each) for each in results} == {Stop} and not any(each.released for each in results)
    assert isinstance(monitor.intervene(End()), Stop)
    assert monitor.fault.code == "audit.forked" and monitor.fault.details["path"] == path, monitor.fault
    assert isinstance(monitor.fault, dc.LogUnavailable) and monitor.stopped.kind == "failed"
    # It may read, and have an audit of its own.
    assert dc.verify_audit(path).ending is None
    with guard.monitor(audit=path + "-child") as own:
        own.intervene(Token(1, b"so "))
        own.intervene(End())
    assert dc.verify_audit(path + "-child").ending == "finished"

with monitor:
    assert tokens(100) == [Continue(b"so ")] * 100
    if hooked:
        started = os.fork()
    else:
        # As where nobody tells the child that it is one.
        import ctypes
        started = ctypes.PyDLL(None).fork()
    if started == 0:
        try:
            child()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        if hooked:
            # Leaves through the block as any program does.
            sys.exit(0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(started, 0)[1]) == 0
    assert tokens(100) == [Continue(b"so ")] * 100
    assert monitor.intervene(End()) == Continue(b"")
report = dc.verify_audit(path, guard=guard)
print(len(report.frames), report.ending, report.hash == monitor.audit_hash)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("how", ["hooked", "untold"])
def test_a_forked_child_cannot_go_on_with_its_parents_audit(tmp_path: Path, how: str) -> None:
    """Its generation is stopped before a byte comes out, the parent goes on, and its audit is whole."""
    done = python(FORKED, tmp_path / "answer.audit", how)
    assert (done.stdout, done.stderr) == ("200 finished True\n", "")
    codes.note("audit.forked", "LogUnavailable")


MEANWHILE = """
import os, sys, threading, time
import decidable as dc
from decidable.guard import End, Stop, Text, Token

path, stall = sys.argv[1:]
monitor = dc.Guard([dc.Rule.literal("DROP TABLE")]).monitor(audit=path)
monitor.intervene(Token(1, b"so "))
open(stall, "w").close()
ends = threading.Thread(target=monitor.intervene, args=(End(),))
ends.start()
refused = 0
deadline = time.monotonic() + 60
# The end waits for the disk with the interpreter's lock free.
try:
    while refused < 100 and time.monotonic() < deadline:
        answer = monitor.intervene(Text("so "))
        if isinstance(answer, Stop):
            assert not answer.released and answer.reason.kind == "failed", answer
            refused += getattr(monitor.fault, "code", None) == "guard.in_use"
finally:
    os.unlink(stall)
    ends.join()
print(refused)
"""


def test_a_thread_that_comes_while_another_writes_the_end_is_stopped_and_told_nothing_else(tmp_path: Path) -> None:
    """Whatever is in its way: an answer is given, and no exception."""
    stalled = tmp_path / "stalled"
    slow = {"LD_PRELOAD": str(preloaded("stall", tmp_path)), "STALL": str(stalled)}
    done = python(MEANWHILE, tmp_path / "answer.audit", stalled, env=os.environ | slow)
    assert done.stderr == ""
    assert done.stdout.split()[0] == "100"


def test_two_threads_at_one_generation_stop_it(tmp_path: Path) -> None:
    """Nobody knows in which order they came. Whoever came second is told, and the audit says that it failed."""
    path = tmp_path / "answer.audit"
    monitor = GUARD.monitor(audit=path)
    begin = threading.Barrier(4)

    def push() -> list[Any]:
        begin.wait()
        return [monitor.intervene(Token(1, b"so ")) for _ in range(3_000)]

    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(push) for _ in range(4)]:
            assert result.result(60)
    # With the interpreter's lock they may never have met.
    ended = monitor.intervene(End())
    assert ended == Continue(b"") or monitor.stopped is not None
    assert verify_audit(path).ending == ("finished" if monitor.stopped is None else "failed")


# --- the command --------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([*map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_verifies_an_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 it holds, 1 it does not, 2 it cannot be read, 3 it is unfinished."""
    path, log, key_file = tmp_path / "answer.audit", tmp_path / "state", tmp_path / "key"
    rules = tmp_path / "rules.toml"
    key_file.write_bytes(bytes(range(32)))
    rules.write_text("[[rules]]\nliteral = 'x'\n", encoding="utf-8")
    with opened(log, key=KEY) as engine:
        generation(path, decision=engine.decide(request()), key=KEY)
    code, out, _ = run(capsys, "verify", path, "--key-file", key_file, "--log", log)
    assert code == 0
    assert "every frame holds" in out
    assert "number 1, with its identity" in out
    code, out, _ = run(capsys, "verify", path, "--json")
    document = json.loads(out)
    assert (code, document["tokens"], document["ending"], document["held"]) == (0, 50, "finished", 0)
    assert document["matches"][0] == {"rule": 2, "start": 147, "end": 154, "step_seq": 50, "text_digest": None}
    code, _, error = run(capsys, "verify", path, "--rules", rules)
    assert (code, "other rules" in error) == (1, True)
    code, out, _ = run(capsys, "verify", path, "--json", "--key-file", rules)
    assert (code, json.loads(out)["error"]["code"]) == (2, "key.too_short")
    data = path.read_bytes()
    # A monitor takes any name, and so does whoever verifies.
    for name in ("answer", "answer.jsonl"):
        (tmp_path / name).write_bytes(data)
        code, out, _ = run(capsys, "verify", tmp_path / name, "--json", "--key-file", key_file, "--log", log)
        assert (code, json.loads(out)["kind"]) == (0, "audit")
    path.write_bytes(data[:-40])
    code, out, _ = run(capsys, "verify", path, "--key-file", key_file)
    assert code == 3
    assert "every complete frame holds" in out
    assert "unfinished" in out
    path.write_bytes(data[:300] + b"\1" + data[301:])
    code, out, _ = run(capsys, "verify", path, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "audit.damaged")
    path.write_bytes(struct.pack("<Q", 7))
    assert run(capsys, "verify", path)[0] == 1
    assert run(capsys, "verify", tmp_path / "none.audit")[0] == 2
    for arguments in (
        ("verify", path, "--head", rules),
        ("verify", path, "--save-head", tmp_path / "head"),
        ("verify", path, "--policy", rules),
        ("verify", log, "--rules", rules),
        ("verify", log, "--log", log),
    ):
        code, out, _ = run(capsys, *arguments, "--json")
        assert (code, json.loads(out)["error"]["code"]) == (2, "cli.usage")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("steps", range(1, 4))
@pytest.mark.parametrize("name", ["answer", "answer.audit"])
def test_the_command_says_that_an_audit_is_not_read_from_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int, name: str
) -> None:
    """It does not say that there is nothing, whatever stands in the audit, nor wait for more to come."""
    path, pipe, rules = tmp_path / "whole", tmp_path / name, tmp_path / "rules.toml"
    rules.write_text("[[rules]]\nliteral = 'x'\n", encoding="utf-8")
    monitor = Guard([Rule.literal("x")]).monitor(audit=path, model="m")
    for number in range(steps * 9):
        monitor.intervene(Token(number, b"ab"))
    monitor.intervene(End())
    os.mkfifo(pipe)
    for arguments in ([], ["--rules", rules], ["--log", tmp_path]):
        said = through(pipe, path.read_bytes(), "verify", *arguments, "--json")
        assert said.returncode == 2
        assert str(pipe) in said.stderr
        assert said.stderr.endswith("an audit is read from a file, and not from a pipe\n")
        assert len(said.stderr.splitlines()) == 1
    assert run(capsys, "verify", path)[0] == 0


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_the_command_reads_a_log_in_json_lines_from_a_pipe_once(tmp_path: Path) -> None:
    """As from a file: 3 without its policies, 1 where an entry is changed; a first line that is none is told."""
    raw = (Path(__file__).parent / "vectors" / "log_plain.jsonl").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert through(pipe, raw, "verify").returncode == 3
    cut = raw.replace(b'","entry_hash"', b'";"entry_hash"', 1)
    for damaged in (raw.replace(b'"sequence":1,', b'"sequence":2,', 1), raw + b"x\n", cut):
        assert through(pipe, damaged, "verify").returncode == 1
    for no_log in (b"", b"x", b"x\n"):
        said = through(pipe, no_log, "verify")
        assert (said.returncode, "JSON-lines log" in said.stderr) == (2, True)


def through(pipe: Path, data: bytes, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command that reads a named pipe, into which so much is written once."""
    with subprocess.Popen(
        [sys.executable, "-m", "decidable.cli", command, pipe, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        # It may be refused before it is opened: then nobody reads.
        while process.poll() is None:
            try:
                writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                time.sleep(0.01)
                continue
            os.set_blocking(writing, True)
            with open(writing, "wb", buffering=0) as file, suppress(BrokenPipeError):  # noqa: PTH123
                file.write(data)
            break
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
