"""Logs on a real disk: cut, changed, locked, full, sealed under other keys, or not logs at all."""

from __future__ import annotations

import _thread
import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import codes
import decidable as dc
import ground

SEGMENT_HEAD_BYTES = 128


class Made(NamedTuple):
    """A finished log of fifty records, and what is known of it."""

    path: Path
    key: dc.Key | None
    bytes: bytes
    head: dict[str, Any]
    records: list[tuple[int, bytes]]
    """Number and hash of each."""
    ends: list[tuple[int, int]]
    """Where each batch ends in the file, and how many records there are up to it."""

    def whole(self, length: int) -> list[tuple[int, bytes]]:
        """The records of the batches that are whole in so many bytes."""
        return self.records[: max((count for end, count in self.ends if end <= length), default=0)]

    @property
    def last_batch(self) -> int:
        """Where the last batch begins."""
        return self.ends[-2][0]


def listed(path: Path, key: dc.Key | None = None) -> list[tuple[int, bytes]]:
    return [(record.seq, record.hash) for record in dc.read(path, key=key)]


def made(path: Path, key: dc.Key | None) -> Made:
    """Fifty records, each in a batch of its own, with one of every kind."""
    ends = []

    def ended() -> None:
        ends.append((ground.segment(path).stat().st_size, len(listed(path))))

    engine = ground.opened(path, key=key)
    # Two batches: the log's record of its opening, and the policy.
    shutil.copytree(path, path.with_name("cut"))
    with ground.segment(path.with_name("cut")).open("r+b") as file:
        file.truncate(ground.segment(path).stat().st_size - 1)
    opening = dc.verify(path.with_name("cut"))
    assert opening.details is not None
    ends.append((opening.details["bytes"], opening.records))
    ended()
    assert ends[0][1] == 1
    engine.ledger.open_account("acme", 100_000)
    ended()
    for number in range(1, 100):
        ticket = engine.decide(
            ground.request((ground.CHEAP, ground.FREE, None)[number % 3], risk_bps=9_800 if number == 20 else 0),
            account="acme",
            key=f"k-{number}" if number % 2 else None,
            metadata=f"words {number}" if number % 4 == 1 else None,
        )
        ended()
        if ticket.refusal is None and number % 5 == 0:
            ticket.cancel()
            ended()
        elif ticket.refusal is None and number % 5 != 1:
            ticket.settle(cost_microunits=900, latency_ms=3)
            ended()
        if ends[-1][1] >= 46:
            break
    engine.outcome(3, succeeded=True)
    ended()
    engine.ledger.top_up("acme", 77)
    ended()
    engine.ledger.set_cap("acme", 90_000)
    ended()
    while ends[-1][1] < 49:
        engine.ledger.top_up("acme", 1)
        ended()
    head = engine.close()
    ended()
    records = listed(path)
    assert len(records) == 50 == head["seq"]
    return Made(path, key, ground.segment(path).read_bytes(), head, records, ends)


@pytest.fixture(scope="module", params=["plain", "keyed"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    key = ground.KEY if request.param == "keyed" else None
    return made(tmp_path_factory.mktemp("logs") / request.param, key)


@pytest.fixture
def copy(log: Made, tmp_path: Path) -> Callable[[bytes], Path]:
    """The log with other bytes in its segment."""
    path = tmp_path / "copy"
    shutil.copytree(log.path, path)

    def written(contents: bytes) -> Path:
        # Whatever an opening left there goes first.
        shutil.rmtree(path / "quarantine", ignore_errors=True)
        ground.segment(path).write_bytes(contents)
        return path

    return written


def place(error: dc.DecidableError) -> tuple[int | None, int | None]:
    return error.details.get("seq"), error.details.get("offset")


# --- cuts and changes -------------------------------------------------------------------------------------------------


def test_every_cut_shows_the_whole_batches_before_it_and_a_head_refuses_it(
    log: Made, copy: Callable[[bytes], Path]
) -> None:
    """Whoever only reads sees the right beginning and is told of the rest; with a head nothing shorter passes."""
    boundaries = {end for end, _ in log.ends} | {SEGMENT_HEAD_BYTES}
    path = copy(log.bytes)
    # Sealed or not, a cut is a cut: of the sealed log a fifth will do.
    step = 1 if log.key is None else 5
    for length in range(len(log.bytes) - 1, -1, -1):
        if length % step and length not in boundaries:
            continue
        os.truncate(ground.segment(path), length)
        if length < SEGMENT_HEAD_BYTES:
            with pytest.raises(dc.VerificationError) as caught:
                dc.verify(path, key=log.key)
            assert (caught.value.code, caught.value.offset) == ("wal.header_damaged", 0)
            continue
        report = dc.verify(path, key=log.key)
        expected = log.whole(length)
        assert report.records == len(expected)
        if expected:
            assert (report.head["seq"], report.head["hash"]) == (expected[-1][0], expected[-1][1].hex())
        if length in boundaries:
            assert report.tail is None
        else:
            assert report.tail is not None
            assert report.tail["offset"] + report.tail["bytes"] == length
            assert report.tail["reason"] == "incomplete"
            assert any("are no records" in sentence for sentence in report.not_established)
        if length in boundaries or length % 5 == 0:
            with pytest.raises(dc.VerificationError) as caught:
                dc.verify(path, key=log.key, head=log.head)
            assert (caught.value.code, caught.value.seq) == ("wal.shorter_than_head", 50)


def test_a_cut_log_is_opened_with_the_right_beginning_and_written_on(log: Made, copy: Callable[[bytes], Path]) -> None:
    """A sample of cuts, each batch's edges among them: the engine goes on, and what it cut is recorded and kept."""
    edges = [SEGMENT_HEAD_BYTES, *(end for end, _ in log.ends[:-1])]
    for number, length in enumerate(edge + by for edge in edges for by in (0, 1, 79)):
        if log.key is not None and number % 3:
            continue
        path = copy(log.bytes[:length])
        expected = log.whole(length)
        with pytest.raises(dc.VerificationError) as caught:
            ground.opened(path, key=log.key, head=log.head)
        assert caught.value.code == "wal.shorter_than_head"
        assert ground.segment(path).read_bytes() == log.bytes[:length]
        with ground.opened(path, key=log.key) as engine:
            if "acme" not in engine.ledger:
                engine.ledger.open_account("acme", 10_000)
            ticket = engine.decide(ground.request(ground.FREE), account="acme")
        records = list(dc.read(path, key=log.key))
        assert [(record.seq, record.hash) for record in records[: len(expected)]] == expected
        assert records[-2].request_sequence == ticket.id
        tail = length - max((end for end, _ in log.ends if end <= length), default=SEGMENT_HEAD_BYTES)
        recovered = [record for record in records if record.kind == "recovered"]
        assert [record.cut_bytes for record in recovered] == ([tail] if tail else [])
        kept = list((path / "quarantine").glob("*")) if tail else []
        assert [file.read_bytes() for file in kept] == ([log.bytes[length - tail : length]] if tail else [])
        ground.follow(records)
        dc.verify(path, key=log.key, policies=[ground.POLICY], head=engine.close())


def test_changed_bits_are_refused_with_their_place_or_cut_off_and_a_head_refuses_them_all(
    log: Made, copy: Callable[[bytes], Path]
) -> None:
    """A sample of all bits, as the log's own tests flip every one: no change is taken for what was written."""
    choose = random.Random(7)
    everywhere = [(at, bit) for at in range(len(log.bytes)) for bit in range(8)]
    of_last = [(at, bit) for at, bit in everywhere if at >= log.last_batch]
    cut = 0
    for at, bit in choose.sample(everywhere, 500) + choose.sample(of_last, 60):
        changed = bytearray(log.bytes)
        changed[at] ^= 1 << bit
        path = copy(bytes(changed))
        what = f"byte {at}, bit {bit}"
        try:
            report = dc.verify(path, key=log.key)
        except dc.DecidableError as error:
            refused(error, at, what)
        else:
            # Only of the last batch nobody knows whether it was ever written whole.
            cut += 1
            assert at >= log.last_batch, what
            assert report.tail is not None, what
            assert report.tail["offset"] == log.last_batch, what
            assert report.records == 49, what
        with pytest.raises(dc.DecidableError) as caught:
            dc.verify(path, key=log.key, head=log.head)
        assert isinstance(caught.value, dc.VerificationError) or at < SEGMENT_HEAD_BYTES, what
        if choose.random() < 0.2:
            # The machine has not started anew, so the engine knows that no crash has left this.
            with pytest.raises(dc.DecidableError) as caught:
                ground.opened(path, key=log.key)
            refused(caught.value, at, what)
            assert ground.segment(path).read_bytes() == bytes(changed), what
    assert 30 < cut < 100, "both answers are among the samples"


def refused(error: dc.DecidableError, at: int, what: str) -> None:
    seq, offset = place(error)
    if at < SEGMENT_HEAD_BYTES:
        assert error.code in {"wal.unknown_format", "wal.header_damaged", "wal.wrong_key"}, f"{what}: {error}"
        return
    assert isinstance(error, dc.VerificationError), f"{what}: {error!r}"
    assert seq is not None, what
    assert offset is not None, what
    assert offset <= at, f"{what}: {error}"


ON_A_MACHINE_WITHOUT_BOOT_ID = """
import sys
import decidable as dc, ground
path = sys.argv[1]
with ground.funded(path) as engine:
    pass
engine = ground.opened(path)
engine.decide(ground.request(), account="acme")
engine._native.abandon()
(opened, *_) = dc.read(path)
assert opened.boot_id is None
segment = ground.segment(path)
whole = segment.read_bytes()

# Something in the last batch, which was acknowledged, is not what was written.
changed = bytearray(whole)
changed[-40] ^= 1
segment.write_bytes(changed)
for options in ({}, {"recover": False}):
    try:
        ground.opened(path, **options)
    except dc.VerificationError as error:
        assert "recover" in str(error), error
        assert segment.read_bytes() == changed
        print(error.code, error.seq, error.offset)
with ground.opened(path, recover=True) as engine:
    (recovery,) = engine.opened.recoveries
    assert engine.ledger.balance("acme").reserved == 0
    print(recovery["offset"], recovery["cut_bytes"], recovery["cause"])
dc.verify(path)
"""


def test_a_damaged_end_is_cut_only_if_asked_where_no_boot_id_tells_of_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged is not thrown away because the machine might have lost power."""
    path = tmp_path / "log"
    monkeypatch.setenv("LD_PRELOAD", str(ground.preloaded("boot", tmp_path)))
    done = ground.python(ON_A_MACHINE_WITHOUT_BOOT_ID, path)
    assert done.returncode == 0, done.stderr
    *refusals, cut = [line.split() for line in done.stdout.splitlines()]
    ((code, seq, offset),) = set(map(tuple, refusals))
    assert (len(refusals), code, int(seq)) == (2, "wal.end_damaged", 6)
    assert (cut[0], cut[2]) == (offset, "power-loss")
    (kept,) = (path / "quarantine").iterdir()
    assert kept.stat().st_size == int(cut[1])
    codes.note(code, "VerificationError")


@pytest.mark.parametrize("edit", ["a record twice", "a record dropped", "two records swapped", "a stretch of zeros"])
def test_moved_and_missing_records_are_refused(log: Made, copy: Callable[[bytes], Path], edit: str) -> None:
    """Batches are whole and each in itself as it was written; what is wrong is their order."""
    edges = [SEGMENT_HEAD_BYTES, *(end for end, _ in log.ends)]
    parts = [log.bytes[start:end] for start, end in itertools.pairwise(edges)]
    match edit:
        case "a record twice":
            parts.insert(11, parts[10])
        case "a record dropped":
            del parts[10]
        case "two records swapped":
            parts[10], parts[11] = parts[11], parts[10]
        case "a stretch of zeros":
            parts[10] = bytes(len(parts[10]))
    path = copy(log.bytes[:SEGMENT_HEAD_BYTES] + b"".join(parts))
    with pytest.raises(dc.VerificationError) as caught:
        dc.verify(path, key=log.key)
    assert caught.value.code in {"wal.frame_damaged", "wal.chain_broken"}
    assert caught.value.seq in {log.ends[10][1], log.ends[10][1] + 1, log.ends[9][1] + 1}


def test_a_head_of_another_log_or_another_past_is_refused(log: Made, tmp_path: Path) -> None:
    """A head holds one log at one place to one hash."""
    for changed in (
        {"hash": "00" * 32},
        {"log_id": "00" * 16},
        {"seq": 49},
        {"seq": 51},
        {"seq": 2**64 - 1},
    ):
        with pytest.raises(dc.VerificationError) as caught:
            dc.verify(log.path, key=log.key, head=log.head | changed)
        assert caught.value.code in {"wal.head_mismatch", "wal.shorter_than_head"}
    for earlier, (seq, value) in enumerate(log.records):
        head = log.head | {"seq": seq, "hash": value.hex()}
        if earlier % 7 == 0:
            assert any(
                f"head that was kept at record {seq}" in sentence
                for sentence in dc.verify(log.path, key=log.key, head=head).established
            )
    kept = tmp_path / "head.json"
    dc.write_head(kept, log.head)
    assert dc.read_head(kept) == log.head
    dc.verify(log.path, key=log.key, head=kept)
    for head in (kept, str(kept)):
        ground.opened(shutil.copytree(log.path, tmp_path / "copy"), key=log.key, head=head).close()
        shutil.rmtree(tmp_path / "copy")
    dc.write_head(kept, log.head | {"seq": 49})
    with pytest.raises(dc.VerificationError, match="head"):
        ground.opened(log.path, key=log.key, head=kept)
    before = kept.read_bytes()
    no_heads: list[tuple[dict[str, Any], str]] = [
        ({}, "head.incomplete"),
        ({"schema_version": "x"}, "head.unknown_schema"),
        (log.head | {"seq": -1}, "input.out_of_range"),
        ({"schema_version": "calybris.wal-anchor.v1", "last_hash": "00"}, "head.incomplete"),
    ]
    for no_head, code in no_heads:
        with pytest.raises(dc.InvalidInput) as caught_no_head:
            dc.write_head(kept, no_head)
        assert (caught_no_head.value.code, kept.read_bytes()) == (code, before)
    kept.write_text("{}")
    with pytest.raises(dc.InvalidInput, match=r"the head file .*head\.json: a head needs"):
        ground.opened(log.path, key=log.key, head=kept)
    with pytest.raises(dc.UnknownName) as caught_missing:
        ground.opened(tmp_path / "gone", key=log.key, head=log.head)
    assert caught_missing.value.code == "wal.not_found"
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ({}, "head.incomplete"),
        ({"schema_version": "decidable.head.v0", "log_id": "00" * 16}, "head.incomplete"),
        ({"schema_version": "decidable.head.v1"}, "head.unknown_schema"),
        ([], "input.wrong_type"),
        (5, "input.wrong_type"),
    ],
)
def test_what_is_no_head_is_refused(log: Made, head: Any, code: str) -> None:
    """Not a missing member, another schema or another type passes for a head."""
    for use in (lambda: dc.verify(log.path, head=head), lambda: ground.opened(log.path, key=log.key, head=head)):
        with pytest.raises(dc.InvalidInput) as caught:
            use()
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("zz", "hash must be 64 lowercase hex digits, and 'z' is none"),
        ("ab" * 31 + "aB", "hash must be 64 lowercase hex digits, and 'B' is none"),
        ("ab", "hash must be 64 lowercase hex digits, not 2"),
        ("", "hash must be 64 lowercase hex digits, not 0"),
    ],
)
def test_a_hash_that_is_none_says_what_is_wrong_with_it(log: Made, written: str, says: str) -> None:
    """Its length, or the first character that does not belong."""
    with pytest.raises(dc.InvalidInput, match=f"^{says}$"):
        dc.verify(log.path, key=log.key, head=log.head | {"hash": written})


@pytest.mark.parametrize("member", ["log_id", "hash", "seq"])
def test_a_heads_members_have_their_types(log: Made, member: str) -> None:
    """Hex digits of the right number, and an integer."""
    for value in ("", "0" * 63, "G" * 64, "A" * 64, 1.0, True, None, -1):
        with pytest.raises(dc.InvalidInput) as caught:
            dc.verify(log.path, head=log.head | {member: value})
        assert caught.value.code in {"input.wrong_type", "input.not_an_integer", "input.out_of_range"}


def test_a_head_file_is_json_and_an_object(tmp_path: Path) -> None:
    """Anything else is named with its path."""
    for name, text in {"none.json": None, "cut.json": "{", "list.json": "[]", "binary.json": "\udcff"}.items():
        path = tmp_path / name
        if text is not None:
            path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(dc.InvalidInput) as caught:
            dc.read_head(path)
        assert (caught.value.code, caught.value.path) == ("head.unreadable", str(path))


# --- keys -------------------------------------------------------------------------------------------------------------

OTHER_KEY = dc.Key(b"another secret of 32 bytes......")


def test_a_sealed_log_is_opened_only_with_its_key_and_read_by_anyone(tmp_path: Path) -> None:
    """Without the key everything but the seals can be checked; another key is told from damage."""
    path = tmp_path / "log"
    with ground.funded(path, key=ground.KEY) as engine:
        engine.decide(ground.request(), account="acme")
    before = ground.segment(path).read_bytes()
    for key, code in ((None, "wal.key_missing"), (OTHER_KEY, "wal.wrong_key")):
        with pytest.raises(dc.LogUnavailable) as caught:
            ground.opened(path, key=key)
        assert caught.value.code == code
    for use in (lambda: dc.verify(path, key=OTHER_KEY), lambda: list(dc.read(path, key=OTHER_KEY))):
        with pytest.raises(dc.LogUnavailable) as caught:
            use()
        assert caught.value.code == "wal.wrong_key"
    assert any("no key was given" in sentence for sentence in dc.verify(path).not_established)
    assert "Every batch carries the seal of the key." in dc.verify(path, key=ground.KEY).established
    assert ground.segment(path).read_bytes() == before
    # A refused opening leaves no lock behind.
    ground.opened(path, key=ground.KEY).close()


def test_a_log_without_key_refuses_one(tmp_path: Path) -> None:
    """Whether a log is sealed is settled when it is created."""
    path = tmp_path / "log"
    ground.funded(path).close()
    for use in (lambda: ground.opened(path, key=ground.KEY), lambda: dc.verify(path, key=ground.KEY)):
        with pytest.raises(dc.LogUnavailable) as caught:
            use()
        assert caught.value.code == "wal.not_keyed"


def test_a_resealed_forgery_needs_the_key(tmp_path: Path) -> None:
    """A log written anew without the key, under the same id, is no substitute: its batches carry no seal."""
    real, forged = tmp_path / "real", tmp_path / "forged"
    with ground.funded(real, key=ground.KEY):
        pass
    with ground.funded(forged, key=OTHER_KEY):
        pass
    shutil.copy(ground.segment(forged), ground.segment(real))
    with pytest.raises(dc.LogUnavailable) as caught:
        dc.verify(real, key=ground.KEY)
    assert caught.value.code == "wal.wrong_key"


def crc32c(octets: bytes) -> int:
    """Bit by bit, as its definition has it."""
    rest = 0xFFFFFFFF
    for octet in octets:
        rest ^= octet
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
    return rest ^ 0xFFFFFFFF


@pytest.mark.parametrize(("kind", "payload"), [(5, b""), (15, b""), (1, b""), (2, b"short"), (4, b"x")])
def test_a_record_of_the_log_about_itself_is_one_that_is_known(tmp_path: Path, kind: int, payload: bytes) -> None:
    """Of another kind, or with another payload, it is refused by its number, though checksum and hash are right."""
    path = tmp_path / "log"
    ground.opened(path).close()
    head = ground.segment(path).read_bytes()[:SEGMENT_HEAD_BYTES]
    header = b"DCF0" + struct.pack("<IQQIHHqI", len(payload), 1, 1, 1, kind, 0, 1_000, 0)
    checked = crc32c(header) ^ int.from_bytes(head[104:108], "little")
    linked = hashlib.sha256(b"dcdrec0\0" + header + payload + hashlib.sha256(head).digest()).digest()
    frame = header + checked.to_bytes(4, "little") + payload.ljust(-(-len(payload) // 8) * 8, b"\0") + linked
    ground.segment(path).write_bytes(head + frame)
    for use in (lambda: dc.verify(path), lambda: list(dc.read(path)), lambda: ground.opened(path)):
        with pytest.raises(dc.VerificationError) as caught:
            use()
        assert (caught.value.code, caught.value.seq) == ("wal.note_malformed", 1)


def test_keys_are_raw_bytes_of_32_or_more_and_never_shown(tmp_path: Path) -> None:
    """A key file is read as it is, without stripping anything."""
    file = tmp_path / "wal.key"
    file.write_bytes(bytes(range(32)))
    path = tmp_path / "log"
    ground.funded(path, key=dc.Key.from_file(file)).close()
    dc.verify(path, key=ground.KEY)
    assert repr(ground.KEY) == "Key(…)"
    file.write_bytes(bytes(range(32)) + b"\n")
    with pytest.raises(dc.LogUnavailable) as caught:
        dc.verify(path, key=dc.Key.from_file(file))
    assert caught.value.code == "wal.wrong_key"
    file.write_bytes(b"short")
    with pytest.raises(dc.InvalidInput) as caught_short:
        dc.Key.from_file(file)
    assert caught_short.value.code == "key.too_short"
    with pytest.raises(dc.InvalidInput) as caught_none:
        dc.Key.from_file(tmp_path / "none.key")
    assert (caught_none.value.code, caught_none.value.path) == ("key.unreadable", str(tmp_path / "none.key"))
    with pytest.raises(dc.InvalidInput) as caught_type:
        ground.opened(path, key="secret")
    assert caught_type.value.code == "input.wrong_type"


# --- who holds it -----------------------------------------------------------------------------------------------------

OPEN_AND_WAIT = """
import sys
import ground
engine = ground.opened(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_WAIT, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_log_is_open_once_in_this_process(tmp_path: Path) -> None:
    """The second opening is refused and changes nothing; closing frees it."""
    first = ground.funded(tmp_path / "log")
    with pytest.raises(dc.LogUnavailable) as caught:
        ground.opened(tmp_path / "log")
    assert caught.value.code == "wal.locked"
    assert f"open for writing by this process, pid {os.getpid()}, or" in str(caught.value)
    assert "boot" not in str(caught.value)
    assert (caught.value.path, str(caught.value).startswith(f"{tmp_path / 'log'}: ")) == (str(tmp_path / "log"), True)
    # Reading needs no lock.
    assert dc.verify(tmp_path / "log").records == 3
    assert first.decide(ground.request(), account="acme").id == 1
    first.close()
    with pytest.raises(dc.LogUnavailable, match=re.escape(f"{tmp_path / 'log'}: ")) as caught:
        first.decide(ground.request(), account="acme")
    assert (caught.value.code, caught.value.path) == ("wal.closed", str(tmp_path / "log"))
    # What is wrong with an argument is not the log's affair.
    with ground.opened(tmp_path / "log") as again, pytest.raises(dc.UnknownName) as unknown:
        again.decide(ground.request(), account="nobody")
    assert "path" not in unknown.value.details


def test_a_log_is_open_in_one_process(tmp_path: Path) -> None:
    """Another process keeps it, and its death frees it."""
    path = tmp_path / "log"
    with another_process(path) as other:
        with pytest.raises(dc.LogUnavailable) as caught:
            ground.opened(path)
        assert caught.value.code == "wal.locked"
        assert str(caught.value) == f"{path}: the log is open for writing elsewhere: pid {other.pid}"
        assert dc.verify(path).records == 2
    ground.opened(path).close()


A_HEAD = {"schema_version": "decidable.head.v0", "log_id": "0" * 32, "seq": 1, "hash": "0" * 64}

# --- what is no log ---------------------------------------------------------------------------------------------------

LOST = (dc.VerificationError, "wal.segment_missing")
NO_LOG: dict[str, tuple[Callable[[Path], object], type[dc.DecidableError], str]] = {
    "verifying none": (lambda path: dc.verify(path / "none"), dc.UnknownName, "wal.not_found"),
    "reading none": (lambda path: dc.read(path / "none"), dc.UnknownName, "wal.not_found"),
    "exporting none": (lambda path: dc.export(path / "none", path / "out"), dc.UnknownName, "wal.not_found"),
    "verifying an empty directory": (lambda path: dc.verify(path / "empty"), dc.UnknownName, "wal.not_found"),
    "reading an empty directory": (lambda path: dc.read(path / "empty"), dc.UnknownName, "wal.not_found"),
    "opening a file": (lambda path: ground.opened(path / "file"), dc.InvalidInput, "log.not_a_directory"),
    "reading a file": (lambda path: dc.read(path / "file"), dc.InvalidInput, "log.not_a_directory"),
    "exporting a file": (lambda path: dc.export(path / "file", path / "out"), dc.InvalidInput, "log.not_a_directory"),
    "verifying a file of no log": (lambda path: dc.verify(path / "file"), dc.InvalidInput, "exchange.no_log"),
    "verifying an empty file": (lambda path: dc.verify(path / "nothing"), dc.InvalidInput, "exchange.empty"),
    "opening within a file": (lambda path: ground.opened(path / "file" / "log"), dc.LogUnavailable, "wal.io"),
    "opening a folder of others": (lambda path: ground.opened(path), dc.InvalidInput, "wal.not_a_log"),
    "opening a log without its segment": (lambda path: ground.opened(path / "lost"), *LOST),
    "recovering a log without its segment": (lambda path: ground.opened(path / "lost", recover=True), *LOST),
    "verifying a log without its segment": (lambda path: dc.verify(path / "lost"), *LOST),
    "reading a log without its segment": (lambda path: dc.read(path / "lost"), *LOST),
    "verifying a folder of others": (lambda path: dc.verify(path), dc.UnknownName, "wal.not_found"),
    "opening no path": (lambda _: ground.opened(""), dc.InvalidInput, "log.no_path"),
    "verifying no path": (lambda _: dc.verify(""), dc.InvalidInput, "log.no_path"),
    "reading a number": (lambda _: dc.read(5), dc.InvalidInput, "input.wrong_type"),  # type: ignore[arg-type]
    "opening a number": (lambda _: ground.opened(5), dc.InvalidInput, "input.wrong_type"),  # type: ignore[arg-type]
    "opening a NUL": (lambda path: ground.opened(f"{path}/a\0b"), dc.InvalidInput, "log.no_path"),
    "verifying a NUL": (lambda path: dc.verify(f"{path}/a\0b"), dc.InvalidInput, "log.no_path"),
    "verifying with a number for a head": (
        lambda path: dc.verify(path / "empty", head=5),  # type: ignore[arg-type]
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "opening with a number for a head": (
        lambda path: ground.opened(path / "x", head=5),
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "opening with no policy": (
        lambda path: ground.opened(path / "x", policy=None),
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "opening with another sync": (
        lambda path: ground.opened(path / "x", sync="all"),
        dc.InvalidInput,
        "engine.unknown_sync",
    ),
    "opening with sync None": (lambda path: ground.opened(path / "x", sync=None), dc.InvalidInput, "input.wrong_type"),
    "opening with recover as a word": (
        lambda path: ground.opened(path / "x", recover="yes"),
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "opening with a clock of no kind": (
        lambda path: ground.opened(path / "x", clock=1),
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "opening with a provenance in bytes": (
        lambda path: ground.opened(path / "x", provenance=b"x"),
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "reading an unknown kind": (lambda path: dc.read(path / "empty", kind="x"), dc.InvalidInput, "log.unknown_kind"),
    "approving one policy": (
        lambda path: dc.verify(path / "empty", policies=ground.POLICY),  # type: ignore[arg-type]
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "verifying with a number for a callback": (
        lambda path: dc.verify(path / "empty", progress=5),  # type: ignore[arg-type]
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "exporting with a number for a callback": (
        lambda path: dc.export(path / "empty", path / "out", progress=5),  # type: ignore[arg-type]
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "verifying a name that is too long": (
        lambda path: dc.verify(path / ("a" * 300)),
        dc.InvalidInput,
        "log.unreadable",
    ),
    "opening a name that is too long": (
        lambda path: ground.opened(path / ("a" * 300)),
        dc.InvalidInput,
        "log.unreadable",
    ),
    "verifying half of a character": (lambda _: dc.verify("\ud800"), dc.InvalidInput, "log.no_path"),
    "opening half of a character": (lambda _: ground.opened("\ud800"), dc.InvalidInput, "log.no_path"),
    "loading half of a character": (lambda _: dc.Catalog.load("\ud800"), dc.InvalidInput, "catalog.unreadable"),
    "loading a NUL": (lambda _: dc.Catalog.load("a\0b"), dc.InvalidInput, "catalog.unreadable"),
    "keeping a head where nothing can be": (
        lambda path: dc.write_head(path / "none" / "head", A_HEAD),
        dc.InvalidInput,
        "head.unwritable",
    ),
    "keeping a head at no path": (lambda _: dc.write_head("", {}), dc.InvalidInput, "log.no_path"),
    "keeping a head at a NUL": (lambda path: dc.write_head(f"{path}/a\0b", {}), dc.InvalidInput, "log.no_path"),
    "keeping what is no head": (
        lambda path: dc.write_head(path / "head", {"seq": {1, 2}}),
        dc.InvalidInput,
        "input.wrong_type",
    ),
    "keeping nothing": (lambda path: dc.write_head(path / "head", None), dc.InvalidInput, "input.wrong_type"),  # type: ignore[arg-type]
    "reading a head at no path": (lambda _: dc.read_head(""), dc.InvalidInput, "log.no_path"),
    "reading a number as a head": (lambda _: dc.read_head(5), dc.InvalidInput, "input.wrong_type"),  # type: ignore[arg-type]
    "reading a number as a key": (lambda _: dc.Key.from_file(5), dc.InvalidInput, "input.wrong_type"),  # type: ignore[arg-type]
    "approving a name": (
        lambda path: dc.verify(path / "empty", policies=["p"]),  # type: ignore[list-item]
        dc.InvalidInput,
        "input.wrong_type",
    ),
}


@pytest.mark.parametrize("case", NO_LOG)
def test_what_is_no_log_is_refused_and_left_alone(case: str, tmp_path: Path) -> None:
    """A typed error with a code, one line, and nothing that was not there before."""
    (tmp_path / "empty").mkdir()
    ground.funded(tmp_path / "lost").close()
    ground.segment(tmp_path / "lost").unlink()
    (tmp_path / "file").write_text("some text\n", encoding="utf-8")
    (tmp_path / "nothing").touch()
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    use, kind, code = NO_LOG[case]
    with pytest.raises(kind) as caught:
        use(tmp_path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


CLOSED = """
import os, sys
import decidable as dc, ground
path = sys.argv[1]
with ground.funded(path) as engine:
    for _ in range(3):
        with engine.decide(ground.request(), account="acme") as ticket:
            ticket.settle(cost_microunits=5)
        for descriptor in (0, 1, 2):
            try:
                os.write(descriptor, b"what some library says" * 40)
            except OSError:
                pass
monitor = dc.Guard([dc.Rule.literal("x")]).monitor(audit=path + ".audit")
try:
    os.write(2, b"what some library says")
except OSError:
    pass
monitor.intervene(dc.guard.End())
"""


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
@pytest.mark.parametrize("closed", ["0", "2", "1 2", "0 1 2"])
def test_no_file_of_ours_stands_for_a_standard_one(tmp_path: Path, closed: str) -> None:
    """Where those are closed, what a library writes to standard error would be written over the log."""
    path = tmp_path / "log"
    closing = " ".join(f"{number}>&-" for number in closed.split())
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c", CLOSED, path],
        env=os.environ | {"PYTHONPATH": str(Path(ground.__file__).parent)}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert dc.verify(path).settlements == 3
    assert dc.verify_audit(tmp_path / "log.audit").ending == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_directory_of_any_name_is_told_in_one_line(tmp_path: Path) -> None:
    """Its control characters by their numbers; the detail is the name as it was given."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\nb\x1b\xff"))
    ground.funded(path).close()
    segment = ground.segment(path)
    whole = segment.read_bytes()
    segment.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(dc.VerificationError):
        dc.verify(path)
    segment.write_bytes(whole)
    with ground.opened(path), pytest.raises(dc.LogUnavailable) as caught:
        ground.opened(path)
    assert caught.value.message.isprintable() or "\udcff" in caught.value.message
    assert "a\\x0ab\\x1b" in caught.value.message
    assert caught.value.path == str(path)


def test_a_log_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    """A second segment, or another format in the first, is refused before anything is written."""
    path = tmp_path / "log"
    ground.funded(path).close()
    later = path / "00000000000000000009.seg"
    later.write_bytes(b"x")
    for use in (lambda: ground.opened(path), lambda: dc.verify(path)):
        with pytest.raises(dc.LogUnavailable) as caught:
            use()
        assert caught.value.code == "wal.unknown_format"
    assert later.read_bytes() == b"x"


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_links_and_pipes_are_no_segments(tmp_path: Path) -> None:
    """A link could lead the log out of its directory; a pipe would never end."""
    path = tmp_path / "log"
    ground.funded(path).close()
    segment = ground.segment(path)
    elsewhere = tmp_path / "elsewhere"
    segment.rename(elsewhere)
    segment.symlink_to(elsewhere)
    with pytest.raises(dc.LogUnavailable) as caught:
        dc.verify(path)
    assert caught.value.code == "wal.io"
    segment.unlink()
    os.mkfifo(segment)
    with pytest.raises(dc.LogUnavailable) as caught:
        ground.opened(path)
    assert caught.value.code == "wal.io"


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_log_is_its_owners_alone(tmp_path: Path) -> None:
    """Directory 0700, files 0600, whatever the mask."""
    mask = os.umask(0)
    try:
        ground.funded(tmp_path / "a" / "log").close()
    finally:
        os.umask(mask)
    assert (tmp_path / "a" / "log").stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "a" / "log").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


READ_ONLY = """
import os, sys
import decidable as dc, ground
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        ground.opened(path)
    except dc.LogUnavailable as error:
        print(error.code, error.os_code, str(error).count("\\n"))
print(dc.verify(sys.argv[1]).records)
"""


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_directory_that_cannot_be_written_is_refused_and_can_still_be_verified(tmp_path_factory: Any) -> None:
    """Typed, with the system's number; a reader needs no write permission."""
    import tempfile

    # Not below pytest's own directory, which is closed to others: the test drops its rights.
    place = Path(tempfile.mkdtemp(prefix="decidable-"))
    try:
        place.chmod(0o755)
        ground.funded(place / "log").close()
        for path in (place / "log", *(place / "log").iterdir()):
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = ground.python(READ_ONLY, place / "log", place / "new")
        if "Permission denied" in done.stderr and "import" in done.stderr:
            pytest.skip("the interpreter cannot be run by another user here")
        assert done.stdout.splitlines() == ["wal.io 13 0", "wal.io 13 0", "4"], done.stderr
    finally:
        (place / "log").chmod(0o755)
        shutil.rmtree(place)


# --- full disks -------------------------------------------------------------------------------------------------------

FILL = """
import json, os, sys
import decidable as dc, ground

def told_why(error):
    return error.message.startswith(f"{error.path}: ") and os.strerror(error.os_code) in error.message

def fill(engine, told):
    while True:
        ticket = engine.decide(ground.request(), account="acme", metadata="x" * 2_000)
        told.append(("decision", ticket.id, ticket.seq))
        with ticket:
            settlement = ticket.settle(cost_microunits=7)
        told.append(("settlement", ticket.id, settlement.seq))

def refused(engine):
    codes = set()
    for use in (
        lambda: engine.decide(ground.request(), account="acme"),
        lambda: engine.ledger.open_account("beta", 1),
        lambda: engine.ledger.top_up("acme", 1),
        lambda: engine.ticket(1).cancel(),
        lambda: engine.outcome(1, succeeded=True),
        lambda: engine.erase([4]),
        lambda: engine.ledger.balance("acme"),
        lambda: engine.open_tickets(),
        lambda: engine.close(),
    ):
        try:
            use()
        except dc.LogUnavailable as error:
            codes.add(error.code)
        except dc.Conflict:
            codes.add("conflict")
        else:
            codes.add("taken")
    return sorted(codes)
"""

FILL_LIMITED = (
    FILL
    + """
import resource
engine = ground.funded(sys.argv[1])
told = []
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (60_001, hard))
try:
    fill(engine, told)
except dc.LogUnavailable as error:
    first = [error.code, error.os_code, told_why(error)]
codes = refused(engine)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
again = refused(engine)
with ground.opened(sys.argv[1]) as engine:
    doubts = [ticket.id for ticket in engine.open_tickets()]
    for number in doubts:
        engine.reconcile(number, nothing_spent=True)
    after = engine.decide(ground.request(), account="acme").id
print(json.dumps([first, codes, again, told, doubts, after]))
"""
)

FILL_DISK = (
    FILL
    + """
import pathlib
disk = pathlib.Path(sys.argv[1])
ballast = disk / "ballast"
ballast.write_bytes(b"x" * 300_000)
engine = ground.funded(disk / "log")
told = []
try:
    fill(engine, told)
except dc.LogUnavailable as error:
    first = [error.code, error.os_code, told_why(error)]
codes = refused(engine)
try:
    ground.opened(disk / "log2")
except dc.LogUnavailable as error:
    first.append(error.code)
again = refused(engine)
ballast.unlink()
with ground.opened(disk / "log") as engine:
    doubts = [ticket.id for ticket in engine.open_tickets()]
    for number in doubts:
        engine.reconcile(number, nothing_spent=True)
    after = engine.decide(ground.request(), account="acme").id
ground.opened(disk / "log2").close()
dc.verify(disk / "log2")
found = [[record.kind, record.request_sequence, record.seq] for record in dc.read(disk / "log")
         if record.kind in ("decision", "settlement")]
assert all(list(step) in found for step in told)
ground.follow(dc.read(disk / "log"))
dc.verify(disk / "log", head=engine.close())
print(json.dumps([first, codes, again, told, doubts, after]))
"""
)

FULL = ["conflict", "wal.durability_lost", "wal.poisoned"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_file_that_may_not_grow_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The writer is refused, and everything after; with room again the log is opened, followed and gone on with."""
    path = tmp_path / "log"
    done = ground.python(FILL_LIMITED, path)
    assert done.returncode == 0, done.stderr
    first, later, again, told, doubts, after = json.loads(done.stdout)
    assert first[0] in {"wal.durability_lost", "wal.poisoned"}
    assert first[1:] == [errno.EFBIG, True]
    for code in set(later) & {"wal.durability_lost", "wal.poisoned"}:
        codes.note(code, "LogUnavailable")
    assert {"wal.poisoned"} <= set(later) <= set(FULL)
    assert again == later
    assert len(told) > 10
    records = list(dc.read(path))
    found = {
        (record.kind, record.request_sequence, record.seq) for record in records if hasattr(record, "request_sequence")
    }
    assert all(tuple(step) in found for step in told)
    assert len(doubts) <= 1
    assert after == max(number for _, number, _ in told) + 1 + (max(doubts, default=0) > max(n for _, n, _ in told))
    ground.follow(records)
    dc.verify(path)


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A real file system without room, where one can be mounted: as above, and no new log begins on it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "fill.py"
    script.write_text(FILL_DISK, encoding="utf-8")
    mount = f'mount -t tmpfs -o size=400k none "{disk}" || exit 77; exec "{sys.executable}" "{script}" "{disk}"'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", mount], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    first, later, again, told, _, _ = json.loads(done.stdout)
    assert first[0] in {"wal.durability_lost", "wal.poisoned"}
    assert first[1:] == [errno.ENOSPC, True, "wal.io"]
    assert {"wal.poisoned"} <= set(later) <= set(FULL)
    assert again == later
    assert len(told) > 2


# --- what opening found -----------------------------------------------------------------------------------------------


def test_an_engine_says_what_opening_its_log_found_and_did(tmp_path: Path) -> None:
    """A new log, one that was closed, one that was not and has an unfinished end, one with zeros in a private part."""
    path = tmp_path / "log"
    with ground.funded(path) as engine:
        assert engine.opened == dc.Opened(True, 0, 1, False, (), (), ())
        kept = engine.decide(ground.request(), account="acme", metadata="what only the caller knows")
    records = len(listed(path))
    engine = ground.opened(path)
    assert engine.opened == dc.Opened(False, records, 2, True, (), (), ())
    before = ground.segment(path).stat().st_size
    engine.decide(ground.request(), account="acme")
    del engine
    whole = ground.segment(path).read_bytes()
    ground.segment(path).write_bytes(whole[:-10])
    with ground.opened(path) as engine:
        found = engine.opened
        assert (found.created, found.writer_epoch, found.closed_before) == (False, 3, False)
        (recovery,) = found.recoveries
        assert (recovery["offset"], recovery["cut_bytes"]) == (before, len(whole) - 10 - before)
        assert (path / recovery["quarantine"]).read_bytes() == whole[before:-10]
        (record,) = dc.read(path, kind="recovered")
        assert record.fields == {name: recovery[name] for name in ("offset", "cut_bytes", "digest", "cause")}
        with pytest.raises(AttributeError):
            found.records = 0  # type: ignore[misc]
    zeroed = bytearray(ground.segment(path).read_bytes())
    place = zeroed.index(b"what only the caller knows")
    zeroed[place - 32 : place + 26] = bytes(58)
    ground.segment(path).write_bytes(zeroed)
    with ground.opened(path) as engine:
        assert engine.opened.unrecorded_erasures == (kept.seq,)


@pytest.mark.parametrize("damage", ["zeros", "damaged", "incomplete"])
def test_verify_says_what_opening_will_do_about_an_end(tmp_path: Path, damage: str) -> None:
    """An end that is short is cut; one that is damaged is refused where the machine has not started anew."""
    path = tmp_path / "log"
    ground.funded(path).close()
    with ground.segment(path).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if damage == "incomplete":
            file.truncate(size - 8)
        elif damage == "zeros":
            file.write(bytes(64))
        else:
            file.seek(size - 8)
            file.write(b"changed!")
    report = dc.verify(path)
    assert report.tail is not None
    assert report.tail["reason"] == damage
    (sentence,) = [each for each in report.not_established if "after the last whole batch" in each]
    if damage == "incomplete":
        assert "Opening the log cuts them" in sentence
        ground.opened(path).close()
        assert dc.verify(path).tail is None
    else:
        assert "Opening the log refuses them" in sentence
        assert "docs/errors.md" in sentence
        with pytest.raises(dc.VerificationError):
            ground.opened(path)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", ["group", "none"])
def test_a_log_says_how_it_was_synced(tmp_path: Path, sync: str) -> None:
    """Both settings write the same records; the opening says which was in force."""
    with (
        ground.funded(tmp_path / "log", sync=sync) as engine,
        engine.decide(ground.request(), account="acme") as ticket,
    ):
        ticket.settle(cost_microunits=5)
    opened = next(dc.read(tmp_path / "log"))
    assert (opened.kind, opened.sync) == ("opened", sync)
    books = ground.follow(dc.read(tmp_path / "log"))
    ground.assert_same(books, dc.verify(tmp_path / "log").balances)


def test_records_carry_the_times_of_the_clock_that_was_given(tmp_path: Path) -> None:
    """Nanoseconds, never going back; an outcome's own time is the clock's too."""
    clock = dc.ManualClock(1_000)
    with ground.funded(tmp_path / "log", clock=clock) as engine:
        ticket = engine.decide(ground.request(), account="acme")
        clock.advance_to(7_000_000)
        ticket.settle(cost_microunits=5)
        clock.advance_to(10)
        engine.outcome(ticket.id, succeeded=True)
    times = {record.kind: record.time_ns for record in dc.read(tmp_path / "log")}
    assert (times["account"], times["decision"]) == (1_000, 1_000)
    assert (times["settlement"], times["outcome"], times["closed"]) == (7_000_000,) * 3
    (outcome,) = dc.read(tmp_path / "log", kind="outcome")
    assert outcome.observed_at_micros == 7_000


def test_an_interrupt_ends_the_search_for_a_record_of_a_kind(tmp_path: Path) -> None:
    """Control-C is heard before the next match is found, and the reader goes on from there."""
    with ground.funded(tmp_path) as engine:
        for _ in range(50):
            ticket = engine.decide(ground.request(), account="acme")
        ticket.settle(cost_microunits=1)
        engine.outcome(ticket.id, succeeded=True)
    reader = dc.read(tmp_path, kind="outcome")
    # The interrupt is pending when the reader is asked: nothing between the two runs Python.
    interrupted = zip(map(_thread.interrupt_main, [signal.SIGINT]), reader, strict=False)
    with pytest.raises(KeyboardInterrupt):
        next(interrupted)
    assert [record.kind for record in reader] == ["outcome"]
