"""5. Log and replay: everything is in the log, and anyone can derive it again."""

import shutil
import tempfile
from pathlib import Path

import decidable as dc
from decidable import builders, demo

with tempfile.TemporaryDirectory() as folder:
    state, copy = Path(folder, "state"), Path(folder, "copy")
    key = dc.Key(bytes(range(32)))  # from a file that is kept apart, in earnest: dc.Key.from_file("wal.key")
    catalog, policy = demo.catalog(), demo.policy()

    # Forty requests of the recorded hour, decided, held, logged and settled.
    with dc.Engine.open(state, policy=policy, key=key, provenance="example 5") as engine:
        for name, initial in demo.accounts().items():
            engine.ledger.open_account(name, initial)
        for arrival in demo.load_requests(40):
            ticket = engine.decide(arrival.request, account=arrival.account, metadata="a prompt's label")
            if ticket.refusal is not None:  # entering a refused ticket would raise
                continue
            with ticket:
                ticket.settle(
                    input_tokens=arrival.request.input_tokens,
                    output_tokens=arrival.output_tokens,
                    latency_ms=arrival.latency_ms,
                )
        head = engine.head()  # kept elsewhere, it shows later whether the end of the log was cut off

    # Read it: each record is verified on the way.
    for record in list(dc.read(state, kind="decision", key=key))[:5]:
        decision = record.decision
        chosen = "nothing" if decision.selected_model_id is None else catalog.model_name(decision.selected_model_id)
        print(f"request {record.request_sequence}: {decision.reason.label}, {chosen}")

    # Derive it again: every decision, digest, balance and hash, from the log alone.
    report = dc.verify(state, policies=[policy], key=key, head=head)
    print(*(f"+ {sentence}" for sentence in report.established), sep="\n")
    print(*(f"- {sentence}" for sentence in report.not_established), sep="\n")
    for balance in report.balances:
        print(balance.account, "spent", builders.currency_units(balance.committed))

    # Change one byte in the middle of a copy, and it no longer holds.
    shutil.copytree(state, copy)
    segment = max((path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)
    try:
        dc.verify(copy, key=key, head=head)
    except dc.DecidableError as error:
        print("one bit changed:", error.code)
    else:
        raise SystemExit("a changed log was accepted")
