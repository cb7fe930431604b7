"""Verification: what a report says and does not say, what a reader sees, and what erasure leaves."""

from __future__ import annotations

import io
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

import bridge
import decidable as dc
import ground
from ground import CHEAP, CHEAP_COST, DEAR, FREE, request
from model.random_cases import ALONE, Cases, seeds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def written(path: Path, *, key: dc.Key | None = None, sync: str = "group") -> dict[str, object]:
    """One of everything; returns the head."""
    with ground.funded(path, 100_000, key=key, sync=sync, provenance="by hand") as engine:
        engine.ledger.open_account("beta", 50)
        with engine.decide(request(), account="acme", key="k-1", metadata='{"who": "me"}') as ticket:
            ticket.settle(input_tokens=900, output_tokens=10, latency_ms=5)
        engine.decide(request(), account="acme").cancel()
        engine.decide(request(DEAR), account="beta", metadata="denied")
        engine.decide(request(None))
        engine.decide(request(risk_bps=9_900), account="beta", key="k-2")
        engine.decide(request(FREE, quotes={FREE: 3}, max_output_tokens=500), account="beta")
        engine.outcome(ticket.id, succeeded=True, latency_ms=7)
        engine.ledger.top_up("beta", 5)
        engine.ledger.set_cap("beta", 40)
    return engine.close()


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_report_says_what_was_established_and_what_was_not(path: Path) -> None:
    """With everything that can be given, little is left; what nobody can know from a log stays."""
    head = written(path, key=ground.KEY)
    full = dc.verify(path, policies=[ground.POLICY], key=ground.KEY, head=head)
    assert (full.kind, full.records, full.decisions, full.settlements) == ("log", 16, 5, 1)
    assert full.head == head
    assert full.established == (
        "16 records form one unbroken chain.",
        "5 decisions follow from their policies and requests, with their digests.",
        "Every balance follows: 2 accounts, 1 settlement, remaining + reserved + committed = initial after each.",
        "The log installed no policy other than those given.",
        f"The log contains the head that was kept at record {head['seq']}.",
        "Every batch carries the seal of the key.",
    )
    assert full.not_established == (
        "Whether requests, usage and times were reported truthfully: the log keeps what it was told.",
    )
    bare = dc.verify(path)
    assert [sentence.split(":")[0] for sentence in bare.not_established] == [
        "Whether the policies that the log installed are the approved ones",
        "Whether the end was cut off or the whole rewritten",
        "Who wrote it",
        "Whether requests, usage and times were reported truthfully",
    ]
    assert [(balance.account, balance.reserved) for balance in bare.balances] == [("acme", 0), ("beta", 3)]
    ticket = {"request_sequence": 6, "seq": 12, "account": "beta", "hold_microunits": 3, "state": "in_doubt"}
    assert bare.open_tickets == (ticket,)
    assert bare.details is not None
    counts = {
        "refusals": 1,
        "outcomes": 1,
        "policies": 1,
        "sessions": 1,
        "opened_seq": 1,
        "recoveries": 0,
        "closed": True,
        "keyed": True,
    }
    assert {name: bare.details[name] for name in counts} == counts
    assert (bare.erased, bare.tail) == ((), None)


def test_no_policies_are_left_out_and_not_given_as_an_empty_list(path: Path, tmp_path: Path) -> None:
    """An empty list, an iterator that ends at once, an empty array: a slip that would read as if all were approved."""
    written(path, key=ground.KEY)
    exported = tmp_path / "exported.jsonl"
    report = dc.verify(path, policies=None)
    assert not any("no policy other than those given" in each for each in report.established)
    assert any("none were given" in each for each in report.not_established)
    given = dc.verify(path, policies=iter([ground.POLICY]))
    assert any("no policy other than those given" in each for each in given.established)
    exported.write_text("")
    for log in (path, exported):
        for none in ([], (), iter([]), {}, np.array([])):
            with pytest.raises(dc.InvalidInput, match="policies is empty") as caught:
                dc.verify(log, policies=none)  # type: ignore[arg-type]
            assert (caught.value.code, caught.value.field) == ("input.empty", "policies")
        for wrong in (5, ground.POLICY, np.array(5), "policy", [5]):
            with pytest.raises(dc.InvalidInput, match="policies must be a sequence of Policy, not") as caught:
                dc.verify(log, policies=wrong)  # type: ignore[arg-type]
            assert caught.value.code == "input.wrong_type"


def test_a_log_that_is_being_written_can_be_verified_and_read(path: Path) -> None:
    """Up to what is durable; the reader takes no lock and sees no half of a batch."""
    with ground.funded(path, 10**9) as engine:
        over = threading.Event()

        def write() -> None:
            while not over.is_set():
                engine.decide(request(), account="acme", metadata="x" * 300).settle(cost_microunits=1)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            decisions = 0
            for _ in range(30):
                report = dc.verify(path)
                assert report.decisions >= decisions
                decisions = report.decisions
                books = ground.follow(dc.read(path))
                assert books.decisions() >= decisions
        finally:
            over.set()
            writer.join()
    assert dc.verify(path, head=engine.close()).decisions >= decisions


def _decision(engine: dc.Engine) -> None:
    engine.decide(request(), account="acme")


def _top_up(engine: dc.Engine) -> None:
    engine.ledger.top_up("acme", 1)


def _refusal(engine: dc.Engine) -> None:
    engine.decide(dc.Request(input_tokens=1, output_tokens=1, risk_bps=10_000))


@pytest.mark.parametrize("step", [_decision, _top_up, _refusal])
def test_progress_is_told_and_can_stop_a_verification(path: Path, step: Callable[[dc.Engine], None]) -> None:
    """Every so many records, whatever they are; what the callback raises ends it, also an export."""
    with ground.funded(path, 10**9, sync="none", policy=ground.SHARED_POLICY) as engine:
        for _ in range(5_000):
            step(engine)
    seen: list[int] = []
    dc.verify(path, progress=seen.append)
    assert seen == [4_096], "docs of `verify` say how often"
    exported: list[int] = []
    dc.export(path, io.BytesIO(), progress=exported.append)
    assert exported == [4_096]

    def stop(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dc.verify(path, progress=stop)
    with pytest.raises(ZeroDivisionError):
        dc.export(path, io.BytesIO(), progress=stop)
    assert sum(1 for _ in dc.read(path)) == 5_000 + 4


def test_a_log_is_verified_in_one_reading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where open tickets are told apart by their sessions: the log may be another one by then."""
    killed = path.with_name("killed")
    with ground.funded(path, 10**9) as engine:
        engine.decide(request(), account="acme")
    with dc.Engine.open(path, policy=ground.POLICY) as engine:
        engine.decide(request(), account="acme")
        shutil.copytree(path, killed)

    def read_again(*_: object, **__: object) -> None:
        raise AssertionError("the log is read a second time")

    monkeypatch.setattr(dc._native, "Reader", read_again)
    report = dc.verify(killed)
    assert report.details is not None
    assert report.details["sessions"] == 2
    assert not report.details["closed"]
    assert [each["state"] for each in report.open_tickets] == ["in_doubt", "open"]
    assert [each["seq"] > report.details["opened_seq"] for each in report.open_tickets] == [False, True]
    assert {each["state"] for each in dc.verify(path).open_tickets} == {"in_doubt"}


# --- the model on random logs -----------------------------------------------------------------------------------------


def test_random_logs_are_followed_by_the_model(tmp_path: Path) -> None:
    """Random policies of all objectives, random requests, tight accounts: the model agrees with every record."""
    kinds: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for seed in seeds(12):
        print(f"DECIDABLE_SEED={seed}")
        cases, path = Cases(seed), tmp_path / str(seed)
        first, second = (cases.policy(largest=12, extended=True) for _ in range(2))
        for policy in (first, second):
            random_session(cases, path, bridge.native_policy(policy))
        records = list(dc.read(path))
        books = ground.follow(records)
        report = dc.verify(path, policies=[bridge.native_policy(first), bridge.native_policy(second)])
        ground.assert_same(books, report.balances)
        assert [ticket["request_sequence"] for ticket in report.open_tickets] == books.open_tickets()
        kinds.update(record.kind for record in records)
        outcomes.update(record.outcome for record in records if record.kind == "decision")
    if ALONE:
        return  # one log need not have everything
    assert min(kinds[kind] for kind in ("decision", "refusal", "settlement", "cancellation", "outcome", "top_up")) > 10
    assert min(outcomes[outcome] for outcome in ("held", "unheld", "rejected", "denied")) > 10


def random_session(cases: Cases, path: Path, policy: dc.Policy) -> None:
    with ground.opened(path, policy=policy, sync="none") as engine:
        for account in ("a", "b"):
            if account not in engine.ledger:
                engine.ledger.open_account(account, cases.choice((0, 1_000, 10**6, 10**12)))
        for step in range(60):
            asked = cases.request(bridge.model_policy(policy), extended=True)
            ticket = engine.decide(bridge.native_request(asked), account=cases.choice(("a", "b", None)))
            match cases.choice(("settle", "settle", "cancel", "leave")):
                case "settle" if ticket.refusal is None:
                    ticket.settle(
                        cost_microunits=cases.choice((0, 1, 500, ticket.hold_microunits or 7)), latency_ms=step
                    )
                case "cancel" if ticket.refusal is None:
                    ticket.cancel()
            if ticket.state in {"held", "settled"} and cases.random() < 0.3:
                engine.outcome(ticket.id, succeeded=cases.random() < 0.5)
                engine.audit(ticket.id, cases.randbytes(32))
            if cases.random() < 0.1:
                engine.ledger.top_up(cases.choice(("a", "b")), cases.randint(1, 10**6))
            if cases.random() < 0.05:
                engine.ledger.set_cap(cases.choice(("a", "b")), cases.choice((None, 0, 10**5)))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_reader_gives_every_field_of_every_kind(path: Path) -> None:
    """Attributes and `fields` say the same; what a kind does not have is no attribute."""
    written(path)
    records = list(dc.read(path))
    assert [record.seq for record in records] == list(range(1, 17))
    assert [record.kind for record in records] == [
        *("opened", "policy", "account", "account", "decision", "settlement", "decision", "cancellation"),
        *("decision", "decision", "refusal", "decision", "outcome", "top_up", "cap", "closed"),
    ]
    for record in records:
        assert len(record.hash) == 32
        assert not record.erased
        for name, value in record.fields.items():
            assert getattr(record, name) == value
        with pytest.raises(AttributeError):
            _ = record.nothing_of_the_kind
        assert record.kind in repr(record)
    opened, policy, account, _, decision, settlement, _, cancellation, denied, rejected, refusal, quoted, *rest = (
        records
    )
    assert (opened.writer_epoch, opened.sync) == (1, "group")
    assert (policy.policy, policy.policy_number, policy.provenance) == (ground.POLICY, 0, "by hand")
    assert policy.digest == ground.POLICY.digest().hex()
    assert (account.account, account.account_number, account.initial_microunits) == ("acme", 0, 100_000)
    assert (decision.request_sequence, decision.account, decision.outcome) == (1, "acme", "held")
    assert (decision.private, len(decision.caller_key)) == ('{"who": "me"}', 64)
    assert decision.decision == ground.POLICY.decide(decision.request)
    assert decision.identity == dc.identity(ground.POLICY, decision.request, decision.decision)
    assert (settlement.input_tokens, settlement.output_tokens, settlement.latency_ms) == (900, 10, 5)
    assert (settlement.charged_microunits, settlement.cost_microunits, settlement.account) == (940, None, "acme")
    assert settlement.durable_ns > 0
    assert (cancellation.request_sequence, cancellation.account) == (2, "acme")
    assert (denied.outcome, denied.denial, denied.hold_microunits) == ("denied", "insufficient", 70_000)
    assert (rejected.outcome, rejected.account, rejected.balance) == ("rejected", None, None)
    assert (refusal.risk_bps, refusal.account) == (9_900, "beta")
    assert (quoted.request.quotes, quoted.request.max_output_tokens) == ({FREE: 3}, 500)
    outcome, top_up, cap, _ = rest
    assert (outcome.disposition, outcome.revision, outcome.realized_latency_ms) == ("applied", 1, 7)
    assert (top_up.amount_microunits, top_up.balance.initial, cap.cap_microunits) == (5, 55, 40)


@pytest.mark.parametrize("kind", ["opened", "policy", "account", "decision", "settlement", "refusal", "closed"])
def test_a_reader_of_one_kind_still_verifies_all(path: Path, kind: str) -> None:
    """Damage elsewhere is raised although nobody asked for those records."""
    written(path)
    expected = [record.seq for record in dc.read(path) if record.kind == kind]
    assert [record.seq for record in dc.read(path, kind=kind)] == expected
    segment = ground.segment(path)
    contents = bytearray(segment.read_bytes())
    contents[len(contents) // 2] ^= 1
    segment.write_bytes(contents)
    with pytest.raises(dc.VerificationError) as caught:
        list(dc.read(path, kind=kind))
    assert caught.value.seq is not None
    assert caught.value.offset is not None


def test_a_changed_private_part_is_refused_also_by_a_reader(path: Path) -> None:
    """It is not in the chain, but the commitment to it is."""
    written(path)
    segment = ground.segment(path)
    contents = segment.read_bytes()
    assert contents.count(b'{"who": "me"}') == 1
    segment.write_bytes(contents.replace(b'{"who": "me"}', b'{"who": "he"}'))
    for use in (lambda: dc.verify(path), lambda: list(dc.read(path)), lambda: list(dc.read(path, kind="opened"))):
        with pytest.raises(dc.VerificationError) as caught:
            use()
        assert (caught.value.code, caught.value.seq) == ("wal.private_damaged", 5)
    with pytest.raises(dc.VerificationError):
        ground.opened(path)


def test_two_threads_can_share_a_reader(path: Path) -> None:
    """Each record comes once."""
    with ground.funded(path, 10**9, sync="none") as engine:
        for _ in range(2_000):
            engine.decide(request(), account="acme")
    reader = dc.read(path)
    seen: list[list[int]] = [[], []]

    def take(place: int) -> None:
        seen[place].extend(record.seq for record in reader)

    threads = [threading.Thread(target=take, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen[0] + seen[1]) == list(range(1, 2_005))


# --- private parts and erasure ----------------------------------------------------------------------------------------


def secret(number: int) -> str:
    return f"secret-{number:05}-words"


def test_a_hundred_of_a_thousand_private_parts_are_erased_for_good(path: Path) -> None:
    """Every proof holds, the report lists them, their bytes are nowhere in the directory, and names become numbers."""
    choose = Random(3)
    with ground.opened(path, key=ground.KEY, sync="none") as engine:
        for number in range(40):
            engine.ledger.open_account(secret(number), 10**6)
        tickets = []
        for number in range(40, 1_000):
            account = secret(choose.randrange(40))
            ticket = engine.decide(request(), account=account, metadata=secret(number), key=f"k-{number}")
            if number % 3:
                ticket.settle(cost_microunits=number % 7)
            tickets.append(ticket)
    head = engine.close()
    secrets = {record.seq: record.private for record in dc.read(path, key=ground.KEY) if record.private is not None}
    assert len(secrets) == 1_000
    assert all(text.encode() in ground.segment(path).read_bytes() for text in secrets.values())

    of_accounts = [record.seq for record in dc.read(path, kind="account")][::8]
    of_decisions = choose.sample([record.seq for record in dc.read(path, kind="decision")], 95)
    chosen = sorted(of_accounts + of_decisions)
    assert len(chosen) == 100
    with ground.opened(path, key=ground.KEY, head=head) as engine:
        assert engine.erase([*chosen, 2]) == chosen
        # Again there is nothing to do, and what has no private part is nothing to erase.
        assert engine.erase(chosen) == []
        names = [balance.account for balance in engine.ledger.accounts()]
        assert names == [f"#{number}" if number % 8 == 0 else secret(number) for number in range(40)]
        with pytest.raises(dc.UnknownName):
            engine.decide(request(), account=secret(0))
        engine.decide(request(), account="#0").settle(cost_microunits=1)
        engine.decide(request(), account=secret(1)).settle(cost_microunits=1)
        with pytest.raises(dc.UnknownName) as caught:
            engine.erase([10**9])
        assert caught.value.code == "wal.unknown_seq"

    everything = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    for seq, text in secrets.items():
        assert (text.encode() in everything) == (seq not in chosen)
    report = dc.verify(path, policies=[ground.POLICY], key=ground.KEY, head=head)
    assert report.erased == tuple(chosen)
    assert "The private parts of 100 records were erased, as the log records." in report.established
    assert [balance.account for balance in report.balances] == names
    records = list(dc.read(path, key=ground.KEY))
    ground.assert_same(ground.follow(records), report.balances)
    for record in records:
        assert record.erased == (record.seq in chosen)
        if record.seq in secrets:
            assert record.private == (None if record.erased else secrets[record.seq])
    (erasure,) = dc.read(path, kind="erased")
    assert erasure.seqs == chosen
    # It goes on from here: old tickets, old keys, new steps.
    with ground.opened(path, key=ground.KEY, head=engine.close()) as engine:
        kept = next(number for number, ticket in enumerate(tickets, start=40) if ticket.account in names)
        assert engine.decide(request(), account=tickets[kept - 40].account, key=f"k-{kept}").replayed
        open_tickets = engine.open_tickets()
        assert len(open_tickets) == 320
        for ticket in open_tickets:
            engine.reconcile(ticket.id, cost_microunits=2)
    ground.follow(dc.read(path))
    dc.verify(path, key=ground.KEY, head=engine.close())


def test_an_erasure_takes_what_recovery_cut_and_kept_with_it(path: Path) -> None:
    """A decision that was cut off before it was whole is no record, and what it said is erased all the same."""
    with ground.funded(path) as engine:
        ticket = engine.decide(request(), account="acme", metadata="first words")
        whole = ground.segment(path).stat().st_size
        engine.decide(request(), account="acme", metadata="unfinished words and others", key="k")
        size = ground.segment(path).stat().st_size
    # The last byte of the decision is lost, and all that followed.
    with ground.segment(path).open("r+b") as file:
        file.truncate(size - 1)
    with ground.opened(path) as engine:
        (kept,) = (path / "quarantine").iterdir()
        assert b"unfinished words" in kept.read_bytes()
        assert kept.stat().st_size == size - 1 - whole
        assert engine.erase([ticket.seq]) == [ticket.seq]
        assert kept.read_bytes() == bytes(size - 1 - whole)
    everything = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"words" not in everything
    dc.verify(path, policies=[ground.POLICY], head=engine.head())


def test_an_erased_account_and_its_name_go_separate_ways(path: Path) -> None:
    """The name can be taken by another account; the old one is reached by its number; keys and money stay apart."""
    with ground.funded(path, 1_000_000) as engine:
        engine.decide(request(), account="acme", key="k")
        assert engine.erase([3]) == [3]
        engine.ledger.open_account("acme", 5)
        assert [(balance.account, balance.initial) for balance in engine.ledger.accounts()] == [
            ("#0", 1_000_000),
            ("acme", 5),
        ]
        assert engine.decide(request(), account="#0", key="k").replayed
        with pytest.raises(dc.Conflict):
            engine.decide(request(), account="acme", key="k")
        assert engine.ticket(1).account == "#0"
    with ground.opened(path) as engine:
        assert [balance.account for balance in engine.ledger.accounts()] == ["#0", "acme"]
        assert engine.decide(request(), account="#0").refusal is None
        assert engine.decide(request(), account="acme").refusal == "insufficient"


def test_private_words_are_in_the_private_part_alone(path: Path) -> None:
    """Account names, metadata and keys are nowhere in what the chain covers."""
    with ground.opened(path) as engine:
        engine.ledger.open_account("name-of-account", 10**6)
        engine.decide(request(), account="name-of-account", metadata="words-of-caller", key="key-of-caller").settle(
            cost_microunits=1
        )
        engine.ledger.top_up("name-of-account", 5)
        engine.ledger.set_cap("name-of-account", 10**6)
        engine.decide(request(risk_bps=10_000), account="name-of-account", metadata="words-of-caller")
    contents = ground.segment(path).read_bytes()
    assert (contents.count(b"name-of-account"), contents.count(b"words-of-caller")) == (1, 2)
    assert b"key-of-caller" not in contents
    seqs = [record.seq for record in dc.read(path) if record.private is not None]
    with ground.opened(path) as engine:
        assert engine.erase(seqs) == seqs
    contents = ground.segment(path).read_bytes()
    assert b"name-of-account" not in contents
    assert b"words-of-caller" not in contents
    dc.verify(path)


def test_the_same_words_twice_cannot_be_told_from_the_commitments(path: Path) -> None:
    """Each has a salt of its own: once erased, two equal parts look as different as any."""
    with ground.funded(path) as engine:
        for _ in range(2):
            engine.decide(request(), account="acme", metadata="the same words")
    before = ground.segment(path).read_bytes()
    first = before.index(b"the same words")
    second = before.index(b"the same words", first + 1)
    # Commitment and salt stand before the words.
    assert before[first - 64 : first] != before[second - 64 : second]


def test_copies_keep_what_was_erased_and_the_log_says_so(path: Path, tmp_path: Path) -> None:
    """A copy from before an erasure still verifies, as another past of the same log."""
    with ground.funded(path) as engine:
        engine.decide(request(), account="acme", metadata="words")
    shutil.copytree(path, tmp_path / "copy")
    with ground.opened(path) as engine:
        engine.erase([4])
    assert dc.verify(path).erased == (4,)
    assert dc.verify(tmp_path / "copy").erased == ()
    # Zeroing by hand is told from a recorded erasure.
    segment = ground.segment(tmp_path / "copy")
    contents = segment.read_bytes()
    at = contents.index(b"words")
    segment.write_bytes(contents[: at - 32] + bytes(32 + 5) + contents[at + 5 :])
    report = dc.verify(tmp_path / "copy")
    assert report.erased == ()
    assert any("no erasure is recorded" in sentence for sentence in report.not_established)
    assert next(dc.read(tmp_path / "copy", kind="decision")).erased


def blanked(path: Path, words: bytes) -> None:
    """Zeros over a private part and its salt, as whoever can write the directory can put there."""
    contents = ground.segment(path).read_bytes()
    at = contents.index(words)
    ground.segment(path).write_bytes(contents[: at - 32] + bytes(32 + len(words)) + contents[at + len(words) :])


def test_a_budget_that_was_spent_is_not_made_new_by_blanking_its_accounts_name(path: Path, tmp_path: Path) -> None:
    """Names say who pays: without one, verification fails and no engine opens, with the place and the account."""
    with ground.opened(path, key=ground.KEY) as engine:
        engine.ledger.open_account("acme", 2_000, exist_ok=True)
        with engine.decide(request(), account="acme") as ticket:
            ticket.settle(cost_microunits=2_000)
        assert engine.decide(request(), account="acme").refusal == "insufficient"
    head = engine.close()
    blanked(path, b"acme")
    contents = ground.segment(path).read_bytes()
    for use in (
        lambda: dc.verify(path, key=ground.KEY, head=head, policies=[ground.POLICY]),
        lambda: list(dc.read(path, key=ground.KEY)),
        lambda: dc.export(path, tmp_path / "out", key=ground.KEY),
        lambda: ground.opened(path, key=ground.KEY),
        lambda: ground.opened(path, key=ground.KEY, head=head, recover=False),
    ):
        with pytest.raises(dc.VerificationError, match="account 0") as caught:
            use()
        assert (caught.value.code, caught.value.seq, caught.value.account_number) == ("engine.name_gone", 3, 0)
    assert ground.segment(path).read_bytes() == contents
    assert not (tmp_path / "out").exists()
    # Someone looks, and says that it is so: the erasure is on record, and what was spent with it.
    with ground.opened(path, key=ground.KEY, head=head, recover=True) as engine:
        assert engine.opened.unrecorded_erasures == (3,)
        assert [(balance.account, balance.remaining) for balance in engine.ledger.accounts()] == [("#0", 0)]
    assert dc.verify(path, key=ground.KEY, head=engine.close(), policies=[ground.POLICY]).erased == (3,)
    ground.opened(path, key=ground.KEY).close()


def test_what_an_erased_account_had_left_goes_on_under_its_name_only_if_it_is_put_there(path: Path) -> None:
    """As docs/threat-model.md says: open the name at once with what was left, and let the old one hold nothing more."""
    with ground.funded(path, 10_000) as engine:
        with engine.decide(request(), account="acme") as ticket:
            ticket.settle(cost_microunits=9_000)
        assert engine.erase([3]) == [3]
        engine.ledger.set_cap("#0", 0)
        left = engine.ledger.balance("#0").remaining
        engine.ledger.open_account("acme", left)
    with ground.opened(path) as engine:
        engine.ledger.open_account("acme", 10_000, exist_ok=True)
        assert (engine.ledger.balance("acme").remaining, left) == (1_000, 1_000)
        assert engine.decide(request(), account="#0").refusal == "over_cap"


def test_verification_beside_an_engine_that_erases_names_accuses_nobody(path: Path) -> None:
    """Names go and come again while others verify; each report is of some moment of it."""
    with ground.funded(path) as engine:
        finished = threading.Event()

        def work(thread: int) -> None:
            if thread > 0:
                while not finished.is_set():
                    dc.verify(path)
                return
            try:
                for _ in range(40):
                    last = max(record.seq for record in dc.read(path, kind="account"))
                    assert engine.erase([last]) == [last]
                    engine.ledger.open_account("acme", 7)
            finally:
                finished.set()

        ground.run_threads(3, work)
        assert [balance.account for balance in engine.ledger.accounts()] == [*(f"#{n}" for n in range(40)), "acme"]


# --- across sessions --------------------------------------------------------------------------------------------------


def test_many_sessions_are_one_log(path: Path) -> None:
    """Every opening is a record; numbers, balances and tickets go on; each head stays valid."""
    heads = []
    for session in range(10):
        with ground.opened(path, head=heads[-1] if heads else None) as engine:
            if session == 0:
                engine.ledger.open_account("acme", 10**6)
            assert engine.decide(request(), account="acme").id == session + 1
            assert len(engine.open_tickets()) == session + 1
        heads.append(engine.close())
    report = dc.verify(path)
    assert report.details is not None
    assert report.details["sessions"] == 10
    for head in heads:
        dc.verify(path, head=head)
    assert report.balances[0].reserved == 10 * CHEAP_COST
    assert [record.writer_epoch for record in dc.read(path, kind="opened")] == list(range(1, 11))
    assert CHEAP in {record.decision.selected_model_id for record in dc.read(path, kind="decision")}
