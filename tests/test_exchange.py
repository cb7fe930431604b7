"""The JSON-lines log of the exchange format: the reference's own logs, ours written in it, the reference on ours."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from calybris import _core as peer

import bridge
import decidable as dc
import ground
import reference
from decidable import _native
from ground import CHEAP, request
from model import exchange as model
from model import vectors

LOGS = ["log_plain.jsonl", "log_keyed.jsonl"]


@cache
def anchored(name: str) -> dict[str, Any]:
    return vectors.document(f"{name}.anchor.json")


def key_of(name: str) -> dc.Key | None:
    text = anchored(name)["key_hex"]
    return None if text is None else dc.Key(bytes.fromhex(text))


@cache
def policy_of(name: str) -> dc.Policy:
    row = vectors.lines("policies.jsonl")[anchored(name)["policy"]]
    return bridge.native_policy(vectors.policy(row))


# --- the reference's logs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOGS)
def test_the_references_log_verifies_with_anchor_and_policy(root: Path, name: str) -> None:
    """200 entries, each decision derived again; the anchor is given as the vectors wrap it, as it is, or as a file."""
    log = root / "tests" / "vectors" / name
    wrapped = anchored(name)
    for anchor in (wrapped, wrapped["anchor"], f"{log}.anchor.json", Path(f"{log}.anchor.json")):
        report = dc.verify(log, policies=[policy_of(name)], key=key_of(name), head=anchor)
        assert (report.kind, report.records, report.decisions) == ("json-lines", 200, 200)
        assert report.head == wrapped["anchor"]
        assert (report.tail, report.erased, report.open_tickets) == (None, (), ())
        assert "The log contains the anchor that was kept at entry 200." in report.established
        assert "200 decisions follow from the policies that were given." in report.established
        assert ("Every entry was written with the key." in report.established) == (key_of(name) is not None)
        assert report.not_established[-1].startswith("When anything happened")


@pytest.mark.parametrize("first", ["utility", "cheapest"])
def test_of_policies_that_differ_in_their_objective_alone_the_formats_own_is_meant(root: Path, first: str) -> None:
    """They have one shared digest; in whatever order they are given, decisions are held to the one with `utility`."""
    ours = policy_of("log_plain.jsonl")
    limits = (
        "policy_epoch",
        "catalog_epoch",
        "hard_risk_limit_bps",
        "minimum_confidence_bps",
        "risk_penalty_multiplier_bps",
        "latency_penalty_microunits_per_ms",
    )
    same = {name: getattr(ours, name) for name in limits}
    other = dc.Policy(dc.Catalog(ours.models), objective="cheapest", **same)
    assert other.shared_digest() == ours.shared_digest()
    policies = [ours, other] if first == "utility" else [other, ours]
    report = dc.verify(root / "tests" / "vectors" / "log_plain.jsonl", policies=policies)
    assert "200 decisions follow from the policies that were given." in report.established


@pytest.mark.parametrize("name", LOGS)
def test_without_policy_anchor_or_key_the_report_says_what_is_missing(root: Path, name: str) -> None:
    """The decisions of a policy that was not given are only claimed; without the key of a keyed log nothing holds."""
    log = root / "tests" / "vectors" / name
    report = dc.verify(log, key=key_of(name))
    assert report.decisions == 0
    digest = policy_of(name).shared_digest().hex()
    assert any(digest[:16] in sentence for sentence in report.not_established)
    assert any("no anchor was given" in sentence for sentence in report.not_established)
    other = dc.Key(b"another secret of 32 bytes......")
    for wrong in (other, None) if key_of(name) else (other,):
        with pytest.raises(dc.VerificationError) as caught:
            dc.verify(log, key=wrong)
        assert (caught.value.code, caught.value.seq, caught.value.line) == ("wal.chain_broken", 1, 1)


def test_of_many_policies_that_were_not_given_eight_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    """Whoever wrote the log decides how many there are, and the report stays a page."""
    digests, lines, previous = [f"{number:064x}" for number in range(2_000)], [], "genesis"
    template = (vectors.FOLDER / LOGS[0]).read_bytes().split(b"\n")[0].split(b'"data":')[1][:-1]
    own = json.loads(template)["audit"]["policy_digest_hex"].encode()
    for number, digest in enumerate([*digests, *digests], start=1):
        lines.append(model.line(number, previous, template.replace(own, digest.encode(), 1), None))
        previous = json.loads(lines[-1])["entry_hash"]
    log = tmp_path / "many.jsonl"
    log.write_bytes(b"".join(lines))
    (sentence,) = (text for text in dc.verify(log).not_established if "policies" in text)
    named = ", ".join(digest[:16] for digest in digests[:8])
    assert sentence == (
        "Whether all decisions follow: 0 of 4,000 decisions re-derived. The format carries no policies, and these were "
        f"not given: {named}, and others of 3,984 decisions."
    )


Lines = list[bytes]


def set_member(old: bytes, new: bytes) -> Callable[[Lines], None]:
    def edit(lines: Lines) -> None:
        assert old in lines[99]
        lines[99] = lines[99].replace(old, new, 1)

    return edit


def swap(lines: Lines) -> None:
    lines[99], lines[100] = lines[100], lines[99]


EDITS: dict[str, tuple[Callable[[Lines], object], set[str], set[int]]] = {
    "a line dropped": (lambda lines: lines.pop(99), {"wal.sequence_broken", "wal.chain_broken"}, {100, 101}),
    "a line twice": (
        lambda lines: lines.insert(99, lines[99]),
        {"wal.sequence_broken", "wal.chain_broken"},
        {101, 100},
    ),
    "two lines swapped": (swap, {"wal.sequence_broken", "wal.chain_broken"}, {100, 101}),
    "the first line dropped": (lambda lines: lines.pop(0), {"wal.sequence_broken", "wal.chain_broken"}, {1, 2}),
    "an empty line": (lambda lines: lines.insert(99, b"\n"), {"wal.line_malformed"}, {100}),
    "a space": (set_member(b'"data":', b'"data": '), {"wal.line_malformed", "wal.chain_broken"}, {100}),
    "a member more": (set_member(b'"data":', b'"more":1,"data":'), {"wal.line_malformed"}, {100}),
    "a number with a zero": (set_member(b'"sequence":100', b'"sequence":0100'), {"wal.line_malformed"}, {100}),
    "another number": (set_member(b'"sequence":100', b'"sequence":101'), {"wal.sequence_broken"}, {100, 101}),
    "another token count": (set_member(b'"input_tokens":', b'"input_tokens":1'), {"wal.chain_broken"}, {100}),
    "a carriage return": (lambda lines: lines.__setitem__(99, lines[99][:-1] + b"\r\n"), {"wal.line_malformed"}, {100}),
    "bytes that are no text": (
        set_member(b"metadata", b"met\xffdata"),
        {"wal.chain_broken", "wal.line_malformed"},
        {100},
    ),
}


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("edit", EDITS)
def test_a_changed_line_is_refused_with_its_place(tmp_path: Path, root: Path, name: str, edit: str) -> None:
    """Whether or not policies and anchor are given."""
    lines = (root / "tests" / "vectors" / name).read_bytes().splitlines(keepends=True)
    change, codes, seqs = EDITS[edit]
    change(lines)
    log = tmp_path / "changed.jsonl"
    log.write_bytes(b"".join(lines))
    for given in ({}, {"policies": [policy_of(name)], "head": anchored(name)}):
        with pytest.raises(dc.VerificationError) as caught:
            dc.verify(log, key=key_of(name), **given)
        assert caught.value.code in codes, str(caught.value)
        assert caught.value.seq in seqs
        assert caught.value.offset is not None


@pytest.mark.parametrize("name", LOGS)
def test_changed_bytes_are_refused(tmp_path: Path, root: Path, name: str) -> None:
    """A sample of all bits; the last line's end may look unfinished, and then the anchor tells."""
    contents = (root / "tests" / "vectors" / name).read_bytes()
    choose, log = Random(9), tmp_path / "changed.jsonl"
    last = contents.rindex(b"\n", 0, -1) + 1
    for at in [*(choose.randrange(len(contents)) for _ in range(250)), *range(len(contents) - 12, len(contents))]:
        changed = bytearray(contents)
        changed[at] ^= 1 << choose.randrange(8)
        log.write_bytes(changed)
        with pytest.raises(dc.VerificationError):
            dc.verify(log, key=key_of(name), head=anchored(name))
        if at < last:
            with pytest.raises(dc.VerificationError) as caught:
                dc.verify(log, key=key_of(name), policies=[policy_of(name)])
            assert caught.value.offset <= at
        elif at == len(contents) - 1:
            report = dc.verify(log, key=key_of(name), policies=[policy_of(name)])
            assert (report.records, report.tail is not None) == (199, True)


@pytest.mark.parametrize("name", LOGS)
def test_a_cut_log_shows_the_whole_lines_and_an_anchor_refuses_it(tmp_path: Path, root: Path, name: str) -> None:
    """The reference cannot read a log with an unfinished line at all."""
    contents = (root / "tests" / "vectors" / name).read_bytes()
    log = tmp_path / "cut.jsonl"
    choose = Random(4)
    ends = [at + 1 for at, byte in enumerate(contents) if byte == 10]
    for length in sorted({*choose.sample(range(1, len(contents)), 60), *choose.sample(ends[:-1], 20)}):
        log.write_bytes(contents[:length])
        whole = sum(end <= length for end in ends)
        if whole == 0:
            with pytest.raises(dc.InvalidInput) as caught_empty:
                dc.verify(log, key=key_of(name))
            assert caught_empty.value.code == "exchange.empty"
            continue
        report = dc.verify(log, key=key_of(name), policies=[policy_of(name)])
        assert (report.records, report.decisions) == (whole, whole)
        begins = max(end for end in ends if end <= length)
        assert report.tail == (
            None if begins == length else {"offset": begins, "bytes": length - begins, "reason": "incomplete"}
        )
        with pytest.raises(dc.VerificationError) as caught:
            dc.verify(log, key=key_of(name), head=anchored(name))
        assert caught.value.code == "wal.shorter_than_head"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sequence": 199}, "wal.head_mismatch"),
        ({"sequence": 201}, "wal.shorter_than_head"),
        ({"last_hash": "00" * 32}, "wal.head_mismatch"),
        ({"schema_version": "calybris.wal-anchor.v2"}, "head.unknown_schema"),
        ({"last_hash": "x"}, "input.wrong_type"),
        ({"sequence": 200.0}, "input.not_an_integer"),
        ({"keyed": 1}, "input.wrong_type"),
    ],
)
def test_an_anchor_that_does_not_fit_is_refused(root: Path, change: dict[str, Any], code: str) -> None:
    """It names one hash at one place of a keyed log or of a plain one."""
    log = root / "tests" / "vectors" / LOGS[0]
    with pytest.raises(dc.DecidableError) as caught:
        dc.verify(log, head=anchored(LOGS[0])["anchor"] | change)
    assert caught.value.code == code
    for name in ("schema_version", "sequence", "last_hash", "keyed"):
        anchor = dict(anchored(LOGS[0])["anchor"])
        del anchor[name]
        with pytest.raises(dc.InvalidInput) as caught_missing:
            dc.verify(log, head=anchor)
        assert (caught_missing.value.code, caught_missing.value.field) == ("head.incomplete", name)


def test_an_anchor_of_the_other_sort_is_refused(root: Path) -> None:
    """An anchor says whether the log was keyed, and that must be so."""
    for name, other in (LOGS, LOGS[::-1]):
        anchor = anchored(name)["anchor"] | {"keyed": anchored(other)["anchor"]["keyed"]}
        with pytest.raises(dc.DecidableError):
            dc.verify(root / "tests" / "vectors" / name, key=key_of(name), head=anchor)


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not there, or not to be opened."""
    with pytest.raises(dc.UnknownName):
        dc.verify(tmp_path / "none.jsonl")
    if sys.platform != "win32":
        closed = tmp_path / "closed.jsonl"
        # Nobody opens a socket as a file, not even root.
        with socket.socket(socket.AF_UNIX) as occupant:
            monkeypatch.chdir(tmp_path)
            occupant.bind(closed.name)
        with pytest.raises(dc.InvalidInput) as caught:
            dc.verify(closed)
        assert (caught.value.code, caught.value.path) == ("log.unreadable", str(closed))


# --- ours, exported ---------------------------------------------------------------------------------------------------


def written(path: Path, policy: dc.Policy = ground.SHARED_POLICY, *, key: dc.Key | None = None) -> list[dc.Ticket]:
    """Decisions of every kind, refusals between them; returns the tickets that were decided."""
    with ground.funded(path, 10**9, policy=policy, key=key) as engine:
        tickets = [
            engine.decide(
                request(model, risk_bps=risk, requested_model_id=requested, max_output_tokens=most),
                account="acme" if number % 2 else None,
                metadata=metadata,
            )
            for number, (model, risk, requested, most, metadata) in enumerate(
                [
                    (CHEAP, 0, None, None, None),
                    (CHEAP, 100, CHEAP, 500, '{"order": 7, "tags": ["a", "ü"]}'),
                    (ground.DEAR, 9_699, 99, None, "plain words"),
                    (None, 0, None, None, '"a JSON text"'),
                    (CHEAP, 9_900, None, None, "refused by the ceiling"),
                    (ground.FREE, 0, None, 150, "two\nlines \u2028 \U0001f512 \x00"),
                ]
            )
        ]
        tickets[0].settle(cost_microunits=3)
    return [ticket for ticket in tickets if ticket.decision is not None]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_the_reference_verifies_and_replays_what_we_export(tmp_path: Path, sealed: bool, keyed: bool) -> None:
    """calybris 1.3.0 checks chain, digests and decisions of our log, plain and keyed, and agrees on its end."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    tickets = written(path, key=ground.KEY if sealed else None)
    raw = b"a key of more than thirty-two bytes"
    out_key = dc.Key(raw) if keyed else None
    summary = dc.export(path, out, key=ground.KEY if sealed else None, out_key=out_key)
    assert (summary["decisions"], summary["refusals_left_out"]) == (5, 1)
    anchor = summary["anchor"]
    assert anchor == {
        "schema_version": "calybris.wal-anchor.v1",
        "sequence": 5,
        "last_hash": anchor["last_hash"],
        "keyed": keyed,
    }
    hmac_key = raw if keyed else None
    assert peer.verify_audited_wal(str(out), hmac_key=hmac_key) == (5, anchor["last_hash"])
    (tmp_path / "anchor.json").write_text(json.dumps(anchor), encoding="utf-8")
    theirs = peer.WalAnchor.load(str(tmp_path / "anchor.json"))
    assert peer.verify_audited_wal(str(out), hmac_key=hmac_key, anchor=theirs) == (5, anchor["last_hash"])
    policy = reference.reference_policy(bridge.model_policy(ground.SHARED_POLICY))
    assert peer.replay_verify_audited_wal(str(out), policy, hmac_key=hmac_key)
    # The model and our own verification say the same.
    data = model.verify(out.read_bytes(), hmac_key, anchor)
    assert [json.loads(entry)["input"]["request_sequence"] for entry in data] == [ticket.id for ticket in tickets]
    report = dc.verify(out, policies=[ground.SHARED_POLICY], key=out_key, head=anchor)
    assert (report.records, report.decisions, report.head) == (5, 5, anchor)


@pytest.mark.parametrize(
    "metadata", ["[" * 124 + "]" * 124, "[" * 125 + "]" * 125, "[" * 130, "[" * 130 + "]" * 130, "1e999", '"\\ud800"']
)
def test_metadata_that_a_reader_cannot_follow_travel_as_text(tmp_path: Path, metadata: str) -> None:
    """A caller's metadata never make a sound log unexportable, nor its export unreadable."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    with ground.opened(path, policy=ground.SHARED_POLICY) as engine:
        engine.decide(request(), metadata=metadata)
    dc.export(path, out)
    policy = reference.reference_policy(bridge.model_policy(ground.SHARED_POLICY))
    assert peer.replay_verify_audited_wal(str(out), policy)
    assert dc.verify(out, policies=[ground.SHARED_POLICY]).decisions == 1
    (entry,) = model.verify(out.read_bytes(), None)
    own = json.loads(entry)["metadata"]["metadata"]
    assert own == (json.loads(metadata) if metadata == "[" * 124 + "]" * 124 else metadata)


def test_the_reference_refuses_what_was_changed_in_our_export(tmp_path: Path) -> None:
    """So it really looks."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    written(path)
    dc.export(path, out)
    contents = out.read_bytes()
    policy = reference.reference_policy(bridge.model_policy(ground.SHARED_POLICY))
    other = reference.reference_policy(bridge.model_policy(ground.policy(objective="utility", cheap_rate=5)))
    with pytest.raises(peer.WalError):
        peer.replay_verify_audited_wal(str(out), other)
    out.write_bytes(contents.replace(b'"input_tokens":1000', b'"input_tokens":1001', 1))
    with pytest.raises(peer.WalError):
        peer.replay_verify_audited_wal(str(out), policy)


def test_each_line_says_where_it_stands_in_our_log_and_carries_the_callers_metadata(tmp_path: Path) -> None:
    """As JSON where it is JSON on one line, else as a text; nothing where it was erased."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    tickets = written(path)
    with ground.opened(path, policy=ground.SHARED_POLICY) as engine:
        engine.erase([tickets[2].seq])
    dc.export(path, out)
    records = {record.seq: record for record in dc.read(path, kind="decision")}
    log_id = engine.close()["log_id"]
    found = [json.loads(line)["data"]["metadata"] for line in out.read_bytes().split(b"\n")[:-1]]
    assert [entry["decidable"] for entry in found] == [
        {"log_id": log_id, "seq": ticket.seq, "hash": records[ticket.seq].hash.hex()} for ticket in tickets
    ]
    assert [entry["metadata"] for entry in found] == [
        None,
        {"order": 7, "tags": ["a", "ü"]},
        None,
        "a JSON text",
        "two\nlines \u2028 \U0001f512 \x00",
    ]
    assert out.read_bytes().count(b"\n") == 5


def test_what_the_format_cannot_hold_is_refused_with_its_numbers(tmp_path: Path) -> None:
    """Another objective or quotes; and then there is no file at all."""
    cheapest, quoted, out = tmp_path / "cheapest", tmp_path / "quoted", tmp_path / "out.jsonl"
    written(cheapest, ground.POLICY)
    written(quoted)
    with ground.opened(quoted, policy=ground.SHARED_POLICY) as engine:
        number = engine.decide(request(quotes={CHEAP: 5})).id
        engine.decide(request())
        again = engine.decide(request(quotes={ground.DEAR: 5})).id
    for path, numbers, what in (
        (cheapest, "decisions 1, 2, 3, 4, 6 ", "objective cheapest"),
        (quoted, f"decisions {number}, {again} ", "quotes"),
    ):
        with pytest.raises(dc.InvalidInput) as caught:
            dc.export(path, out)
        assert caught.value.code == "engine.not_exportable"
        assert numbers in str(caught.value)
        assert what in str(caught.value)
        assert sorted(place.name for place in tmp_path.iterdir()) == ["cheapest", "quoted"]


def test_names_alone_do_not_keep_a_decision_from_being_exported(tmp_path: Path) -> None:
    """The shared digest of a policy does not have them, and the reference replays it."""
    models = [
        dc.Model(
            model_id=7,
            quality_bps=9_000,
            input_cost_microunits_per_million_tokens=1,
            output_cost_microunits_per_million_tokens=1,
        )
    ]
    named = dc.Policy(dc.Catalog(models, names=dc.Names(models={7: "seven"})))
    assert named.digest() != named.shared_digest()
    with ground.opened(tmp_path / "log", policy=named) as engine:
        engine.decide(request())
    dc.export(tmp_path / "log", tmp_path / "out.jsonl")
    assert dc.verify(tmp_path / "out.jsonl", policies=[named]).decisions == 1
    plain = reference.reference_policy(bridge.model_policy(dc.Policy(dc.Catalog(models))))
    peer.replay_verify_audited_wal(str(tmp_path / "out.jsonl"), plain)


def test_an_export_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nothing is replaced, nothing half-written stays, whatever ends it."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    with ground.funded(path, 10**9, policy=ground.SHARED_POLICY, sync="none") as engine:
        for _ in range(5_000):
            engine.decide(request())
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(dc.InvalidInput) as caught:
        dc.export(path, out)
    assert (caught.value.code, out.read_text(encoding="utf-8")) == ("export.exists", "mine")
    out.unlink()

    def stop(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dc.export(path, out, progress=stop)
    with pytest.raises(dc.LogUnavailable):
        dc.export(path, out, key=ground.KEY)
    with pytest.raises(dc.InvalidInput) as caught:
        dc.export(path, tmp_path / "none" / "out.jsonl")
    assert caught.value.code == "export.unwritable"
    damaged = tmp_path / "damaged"
    written(damaged)
    segment = ground.segment(damaged)
    contents = bytearray(segment.read_bytes())
    contents[len(contents) // 2] ^= 1
    segment.write_bytes(contents)
    with pytest.raises(dc.VerificationError):
        dc.export(damaged, out)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["damaged", "log"]
    assert dc.export(path, out)["decisions"] == 5_000
    assert peer.verify_audited_wal(str(out))[0] == 5_000


@pytest.mark.parametrize("links", [True, False])
def test_of_two_exports_to_one_file_the_first_that_is_whole_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Neither disturbs the other, and nothing is replaced, also on a file system without hard links."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    written(path)
    native, others = _native.export_log, []

    def interrupted(*given: Any, **options: Any) -> Any:
        summary = native(*given, **options)
        if not others:
            others.append(None)
            others[0] = dc.export(path, out, out_key=ground.KEY)
        return summary

    def no_link(*_: Any) -> None:
        raise OSError(errno.EPERM, "this file system has no links")

    monkeypatch.setattr(_native, "export_log", interrupted)
    if not links:
        monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(dc.InvalidInput) as caught:
        dc.export(path, out)
    assert (caught.value.code, caught.value.path) == ("export.exists", str(out))
    assert dc.verify(out, key=ground.KEY, head=others[0]["anchor"]).records == others[0]["decisions"]
    assert sorted(place.name for place in tmp_path.iterdir()) == ["log", "out.jsonl"]


def test_an_export_does_not_follow_what_lies_where_it_is_written(tmp_path: Path) -> None:
    """A file that looks like the beginning of an export is somebody's."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    written(path)
    other = tmp_path / ".out.jsonl.part"
    other.write_text("mine", encoding="utf-8")
    dc.export(path, out)
    assert other.read_text(encoding="utf-8") == "mine"


def test_an_export_of_a_log_with_an_unfinished_end_says_so(tmp_path: Path) -> None:
    """It has what is whole; that more bytes follow is in the summary, as in a report."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    tickets = written(path)
    segment = ground.segment(path)
    length = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(bytes(40))
    assert dc.export(path, out)["tail"] == {"offset": length, "bytes": 40, "reason": "zeros"}
    assert dc.verify(out).records == len(tickets)


def test_a_log_without_decisions_is_exported_as_an_empty_file(tmp_path: Path) -> None:
    """There is nothing to anchor."""
    ground.opened(tmp_path / "log").close()
    summary = dc.export(tmp_path / "log", tmp_path / "out.jsonl")
    assert summary == {"decisions": 0, "refusals_left_out": 0, "anchor": None, "tail": None}
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_an_export_streams(tmp_path: Path) -> None:
    """Whatever has `write` gets the bytes of the file, in as many pieces as it takes; what it raises is raised."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    written(path)
    summary = dc.export(path, out)

    class Reluctant(io.BytesIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            return super().write(data[:100])

    for stream in (io.BytesIO(), Reluctant()):
        assert dc.export(path, stream) == summary
        assert stream.getvalue() == out.read_bytes()

    class Full(io.BytesIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        dc.export(path, Full())
    with pytest.raises(dc.InvalidInput) as caught:
        dc.export(path, 5)  # type: ignore[arg-type]
    assert caught.value.code == "input.wrong_type"


def took(given: Any) -> Any:
    """A stream that keeps a hundred bytes of the first write, and says of the next what is given."""

    class Stream(io.BytesIO):
        def write(self, data: bytes, /) -> Any:  # type: ignore[override]
            return given if self.tell() else super().write(data[:100])

    return Stream()


@pytest.mark.skipif(not hasattr(os, "set_blocking") or sys.platform == "win32", reason="pipes of POSIX")
def test_an_export_to_a_pipe_that_does_not_block_is_whole_or_a_fault(tmp_path: Path) -> None:
    """A raw stream says of a full pipe that it took nothing, and raises nothing."""
    path, out = tmp_path / "log", tmp_path / "out.jsonl"
    with ground.funded(path, 10**9, policy=ground.SHARED_POLICY, sync="none") as engine:
        for _ in range(2_000):
            engine.decide(request())
    summary = dc.export(path, out)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with open(reading, "rb", buffering=0) as reader:  # noqa: PTH123 - a descriptor is no path
        with open(writing, "wb", buffering=0) as stream, pytest.raises(dc.InvalidInput) as caught:  # noqa: PTH123
            dc.export(path, stream)
        piped = reader.readall()
    assert caught.value.code == "export.unwritable"
    assert caught.value.offset == len(piped) > 0
    assert out.read_bytes().startswith(piped)
    # Where it blocks, or somebody waits for it, all of it comes.
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, ThreadPoolExecutor(1) as pool:  # noqa: PTH123
        whole = pool.submit(reader.read)
        with open(writing, "wb", buffering=0) as stream:  # noqa: PTH123
            assert dc.export(path, stream) == summary
        assert whole.result() == out.read_bytes()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "took nothing behind byte 100: it would block, or does not say what it took"),
        (0, "took nothing behind byte 100"),
        (-1, "took nothing behind byte 100"),
        ("100", "says of what it took behind byte 100 no number of bytes, but a str"),
        (True, "says of what it took behind byte 100 no number of bytes, but a bool"),
    ],
)
def test_a_stream_that_does_not_take_all_of_an_export_is_a_fault(tmp_path: Path, given: Any, told: str) -> None:
    """Nothing is counted as written that the stream did not say it took."""
    written(tmp_path / "log")
    with pytest.raises(dc.InvalidInput) as caught:
        dc.export(tmp_path / "log", took(given))
    assert (caught.value.code, caught.value.offset) == ("export.unwritable", 100)
    assert str(caught.value).endswith(told)
    assert caught.value.__cause__ is None


def test_a_stream_that_took_more_than_it_was_given_has_taken_all(tmp_path: Path) -> None:
    """Such as one that counts what it writes elsewhere; a number is whatever is an index."""
    written(tmp_path / "log")
    whole = io.BytesIO()
    summary = dc.export(tmp_path / "log", whole)
    kept: list[bytes] = []

    class Counting:
        def write(self, data: bytes) -> Any:
            kept.append(data)
            return np.int64(len(data) + 7)

    assert dc.export(tmp_path / "log", Counting()) == summary
    assert b"".join(kept) == whole.getvalue()
