//! The rules of records one by one: what is held, charged and refused, every error code, and the bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod steps;

use std::sync::Arc;

use decidable_canon::{Canonical as _, Digest, Sink as _};
use decidable_kernel::{Decision, Reason, Request, RequestFields, identity};
use decidable_ledger::{Balance, Denial};
use decidable_replay::{
    Command, DecisionRecord, Derived, Disposition, Error, ErrorKind, Holding, Kind, Outcome, OutcomeRecord, Record,
    SAFETY_CEILING_BPS, Selection, SettlementRecord, State, Status, Strategy, Ticket, Use, caller_key,
};
use steps::{CHEAP, DEAR, FREE, Written, cheapest, decide, keyed, request_for, seen, utility};

const NEW: Balance = Balance {
    initial: 0,
    remaining: 0,
    reserved: 0,
    committed: 0,
    debt: 0,
    cap: None,
};

fn decision(record: Record) -> Arc<DecisionRecord> {
    match record {
        Record::Decision(record) => record,
        other => panic!("{other:?} is no decision"),
    }
}

fn settlement(record: Record) -> SettlementRecord {
    match record {
        Record::Settlement(record) => record,
        other => panic!("{other:?} is no settlement"),
    }
}

fn cost(cost_microunits: u64) -> Use {
    Use {
        cost_microunits: Some(cost_microunits),
        ..Use::default()
    }
}

fn tokens(input_tokens: u32, output_tokens: u32) -> Use {
    Use {
        input_tokens: Some(input_tokens),
        output_tokens: Some(output_tokens),
        ..Use::default()
    }
}

fn observe(ticket: u64, disposition: Disposition, succeeded: Option<bool>) -> Command {
    Command::Observe {
        ticket,
        observed_at_micros: 5,
        disposition,
        realized_cost_microunits: None,
        realized_latency_ms: None,
        succeeded,
    }
}

/// What is refused changes nothing.
fn refused(written: &mut Written, command: Command) -> Error {
    let before = seen(&written.state);
    let error = written.perform(command).unwrap_err();
    assert_eq!(seen(&written.state), before);
    let whose = match error.kind() {
        ErrorKind::Ledger(_) => "ledger.",
        _ => "replay.",
    };
    assert!(error.code().starts_with(whose) && !error.to_string().contains('\n'));
    error
}

#[test]
fn the_hold_covers_the_largest_answer_and_the_settlement_returns_the_rest() {
    let mut written = Written::with_account(10_000);
    let request = request_for(CHEAP).with_max_output_tokens(400).unwrap();
    let record = decision(written.perform(decide(Some(0), request)).unwrap());
    // 1,000 tokens in at 1 microunit each; 100 expected and 400 at most out at 4.
    assert_eq!(record.decision.estimated_cost_microunits, 1_400);
    let balance = Balance {
        initial: 10_000,
        remaining: 7_400,
        reserved: 2_600,
        ..NEW
    };
    assert_eq!(record.holding, Holding::Held { amount: 2_600, balance });

    let settled = settlement(
        written
            .perform(Command::Settle {
                ticket: 1,
                used: tokens(900, 150),
            })
            .unwrap(),
    );
    let balance = Balance {
        initial: 10_000,
        remaining: 8_500,
        committed: 1_500,
        ..NEW
    };
    assert_eq!(
        (settled.charged, settled.returned, settled.debt, settled.balance),
        (1_500, 1_100, 0, Some(balance))
    );
}

#[test]
fn a_quote_is_held_with_the_difference_of_the_rates_and_needs_a_cost_at_settlement() {
    let mut written = Written::with_account(10_000);
    let request = request_for(CHEAP)
        .with_max_output_tokens(400)
        .unwrap()
        .with_quotes(vec![(CHEAP, 50)])
        .unwrap();
    let record = decision(written.perform(decide(Some(0), request)).unwrap());
    assert_eq!(record.decision.estimated_cost_microunits, 50);
    assert!(matches!(record.holding, Holding::Held { amount: 1_250, .. }));
    let error = refused(
        &mut written,
        Command::Settle {
            ticket: 1,
            used: tokens(900, 150),
        },
    );
    assert_eq!((error.kind(), error.code()), (ErrorKind::NoCost, "replay.no_cost"));
    assert!(error.to_string().contains("model 2 was quoted"));
    assert_eq!(
        settlement(
            written
                .perform(Command::Settle {
                    ticket: 1,
                    used: cost(60)
                })
                .unwrap()
        )
        .charged,
        60
    );
}

#[test]
fn a_free_candidate_is_held_with_nothing_and_charged_what_it_cost_after_all() {
    let mut written = Written::with_account(100);
    let record = decision(written.perform(decide(Some(0), request_for(FREE))).unwrap());
    assert_eq!(record.decision.selected_model_id, Some(FREE));
    let balance = Balance {
        initial: 100,
        remaining: 100,
        ..NEW
    };
    assert_eq!(record.holding, Holding::Held { amount: 0, balance });
    let settled = settlement(
        written
            .perform(Command::Settle {
                ticket: 1,
                used: cost(130),
            })
            .unwrap(),
    );
    assert_eq!((settled.charged, settled.debt), (130, 30));
    let denied = decision(written.perform(decide(Some(0), request_for(FREE))).unwrap());
    assert!(matches!(
        denied.holding,
        Holding::Denied {
            amount: 0,
            denial: Denial::Insufficient,
            ..
        }
    ));
    written.perform(Command::TopUp { account: 0, amount: 30 }).unwrap();
    let held = decision(written.perform(decide(Some(0), request_for(FREE))).unwrap());
    assert!(matches!(held.holding, Holding::Held { amount: 0, .. }));
}

#[test]
fn what_an_account_cannot_hold_is_denied_with_the_reason_and_closed() {
    let mut written = Written::with_account(5_000);
    let denied =
        |written: &mut Written, model| match decision(written.perform(decide(Some(0), request_for(model))).unwrap())
            .holding
        {
            Holding::Denied {
                amount,
                denial,
                balance,
            } => (amount, denial, balance),
            other => panic!("{other:?}"),
        };
    let full = Balance {
        initial: 5_000,
        remaining: 5_000,
        ..NEW
    };
    assert_eq!(denied(&mut written, DEAR), (70_000, Denial::Insufficient, full));
    written
        .perform(Command::SetCap {
            account: 0,
            cap: Some(1_399),
        })
        .unwrap();
    let capped = Balance {
        cap: Some(1_399),
        ..full
    };
    assert_eq!(denied(&mut written, CHEAP), (1_400, Denial::OverCap, capped));
    let huge = RequestFields {
        output_tokens: u32::MAX,
        ..*request_for(DEAR).fields()
    };
    let huge = Request::new(huge).unwrap().with_quotes(vec![(DEAR, u64::MAX)]).unwrap();
    match decision(written.perform(decide(Some(0), huge)).unwrap()).holding {
        Holding::Denied {
            amount: u64::MAX,
            denial: Denial::Overflow,
            balance,
        } => assert_eq!(balance, capped),
        other => panic!("{other:?}"),
    }
    for ticket in 1..=3 {
        let error = refused(&mut written, Command::Settle { ticket, used: cost(1) });
        assert_eq!(error.kind(), ErrorKind::NothingSelected);
        assert_eq!(
            refused(&mut written, Command::Cancel { ticket }).kind(),
            ErrorKind::NothingSelected
        );
    }
    assert_eq!(written.state.open_tickets().count(), 0);
}

#[test]
fn without_an_account_nothing_is_held_and_the_settlement_only_notes_the_cost() {
    let mut written = Written::with_account(5);
    let record = decision(written.perform(decide(None, request_for(DEAR))).unwrap());
    assert_eq!(record.holding, Holding::Unheld);
    assert!(written.state.ticket(1).unwrap().held().is_none());
    let settled = settlement(
        written
            .perform(Command::Settle {
                ticket: 1,
                used: cost(10),
            })
            .unwrap(),
    );
    assert_eq!(
        (settled.charged, settled.returned, settled.debt, settled.balance),
        (10, 0, 0, None)
    );
    written.perform(decide(None, request_for(DEAR))).unwrap();
    let cancelled = written.perform(Command::Cancel { ticket: 2 }).unwrap();
    assert_eq!(
        cancelled,
        Record::Cancellation {
            ticket: 2,
            balance: None
        }
    );
}

#[test]
fn the_safety_ceiling_refuses_before_any_policy_and_takes_a_number() {
    assert_eq!(SAFETY_CEILING_BPS, 9_700);
    // No policy is installed, and none is asked.
    let mut written = Written::new();
    let risky = |risk_bps| {
        Request::new(RequestFields {
            risk_bps,
            ..*request_for(FREE).fields()
        })
        .unwrap()
    };
    for risk_bps in [9_700, 10_000] {
        match written.perform(decide(None, risky(risk_bps))).unwrap() {
            Record::Refusal(record) => assert_eq!(record.request.fields().risk_bps, risk_bps),
            other => panic!("{other:?}"),
        }
    }
    written
        .perform(Command::InstallPolicy {
            policy: utility(),
            provenance: String::new(),
        })
        .unwrap();
    let record = decision(written.perform(decide(None, risky(9_699))).unwrap());
    assert_eq!(record.request.fields().request_sequence, 3);
    assert!(matches!(written.state.ticket(1), Some(Ticket::Refused { .. })));
    assert_eq!(
        refused(
            &mut written,
            Command::Settle {
                ticket: 1,
                used: cost(1)
            }
        )
        .kind(),
        ErrorKind::NothingSelected
    );
    let seen = refused(&mut written, observe(2, Disposition::Abandoned, None));
    assert_eq!(seen.kind(), ErrorKind::NothingSelected);
}

#[test]
fn a_decision_that_does_not_follow_is_refused_and_changes_nothing() {
    let mut written = Written::with_account(1_000_000);
    let policy = cheapest(1);
    let numbered = request_for(CHEAP).numbered(1);
    let honest = policy.decide(&numbered);
    let lies = [
        Decision {
            selected_model_id: Some(DEAR),
            ..honest
        },
        Decision {
            estimated_cost_microunits: 1,
            ..honest
        },
        Decision {
            expected_utility_microunits: honest.expected_utility_microunits + 1,
            ..honest
        },
        Decision {
            eligible_models: 1,
            ..honest
        },
        Decision {
            request_sequence: 2,
            ..honest
        },
        Decision {
            reason: Reason::BudgetConstraint,
            ..honest
        },
        Decision {
            policy_epoch: 2,
            ..honest
        },
    ];
    let propose = |proposed| Command::Decide {
        policy: 0,
        account: Some(0),
        request: numbered.clone(),
        caller_key: None,
        proposed: Some(proposed),
    };
    for lie in lies {
        let error = refused(&mut written, propose(lie));
        assert_eq!((error.kind(), error.code()), (ErrorKind::Disagrees, "replay.disagrees"));
    }
    assert_eq!(decision(written.perform(propose(honest)).unwrap()).decision, honest);
}

#[test]
fn what_was_derived_before_gives_the_record_that_a_command_gives() {
    let (mut commanded, mut derived_before) = (State::new(), State::new());
    for state in [&mut commanded, &mut derived_before] {
        for (seq, policy) in [(1, cheapest(1)), (2, cheapest(2))] {
            let provenance = String::new();
            state
                .perform(seq, Command::InstallPolicy { policy, provenance })
                .unwrap();
        }
        state.perform(3, Command::OpenAccount { initial: 5_000 }).unwrap();
    }
    let quoted = request_for(CHEAP).with_quotes(vec![(CHEAP, 70), (DEAR, 60)]).unwrap();
    let refused = Request::new(RequestFields {
        risk_bps: SAFETY_CEILING_BPS,
        ..*request_for(FREE).fields()
    });
    let requests = [
        request_for(CHEAP),
        request_for(99),
        quoted,
        refused.unwrap(),
        request_for(DEAR),
    ];
    let mut seq = 3;
    // Also with what was derived under a policy that is not the one in force: then it is derived again.
    for (asked, other) in [(1, 1), (1, 0), (1, 2)] {
        for request in &requests {
            seq += 1;
            let command = Command::Decide {
                policy: asked,
                account: Some(0),
                request: request.clone(),
                caller_key: None,
                proposed: None,
            };
            let derived = Derived::new(&cheapest(other + 1), &request.numbered(77));
            let expected = commanded.perform(seq, command).unwrap();
            let record = derived_before.decide(seq, asked, Some(0), &derived, None).unwrap();
            assert_eq!(format!("{record:?}"), format!("{expected:?}"));
        }
    }
    assert_eq!(seen(&commanded), seen(&derived_before));
}

#[test]
fn a_policy_that_was_superseded_decides_nothing() {
    let mut written = Written::with_account(5_000);
    let again = Command::InstallPolicy {
        policy: cheapest(2),
        provenance: String::new(),
    };
    written.perform(again).unwrap();
    let error = written.perform(decide(Some(0), request_for(CHEAP))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disagrees);
    assert_eq!(
        error.to_string(),
        "the policy's number is written as 0 but follows as 1"
    );
}

#[test]
fn a_settlement_above_the_hold_takes_what_remains_and_leaves_debt() {
    let mut written = Written::with_account(3_000);
    written.perform(decide(Some(0), request_for(CHEAP))).unwrap();
    let settled = settlement(
        written
            .perform(Command::Settle {
                ticket: 1,
                used: cost(3_500),
            })
            .unwrap(),
    );
    let balance = Balance {
        initial: 3_000,
        committed: 3_000,
        debt: 500,
        ..NEW
    };
    assert_eq!((settled.charged, settled.returned, settled.debt), (3_500, 0, 500));
    assert_eq!(settled.balance, Some(balance));
    match written
        .perform(Command::TopUp {
            account: 0,
            amount: 600,
        })
        .unwrap()
    {
        Record::TopUp { balance, .. } => {
            assert_eq!(
                balance,
                Balance {
                    initial: 3_600,
                    remaining: 100,
                    committed: 3_500,
                    ..NEW
                }
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ticket_is_settled_at_the_prices_of_the_policy_that_decided() {
    let mut written = Written::with_account(1_000_000);
    written.perform(decide(Some(0), request_for(CHEAP))).unwrap();
    let dearer = {
        let old = cheapest(1);
        let candidates = old.candidates().iter().map(|candidate| decidable_kernel::Candidate {
            input_cost_microunits_per_million_tokens: 90_000_000,
            ..*candidate
        });
        decidable_kernel::Policy::new(*old.limits(), candidates.collect(), None).unwrap()
    };
    written
        .perform(Command::InstallPolicy {
            policy: Arc::new(dearer),
            provenance: String::new(),
        })
        .unwrap();
    let settled = settlement(
        written
            .perform(Command::Settle {
                ticket: 1,
                used: tokens(1_000, 100),
            })
            .unwrap(),
    );
    assert_eq!(settled.charged, 1_400);
}

#[test]
fn a_cancellation_frees_the_callers_key_and_a_settlement_does_not() {
    let mut written = Written::with_account(1_000_000);
    written.perform(keyed(Some(0), request_for(CHEAP), 1)).unwrap();
    let error = refused(&mut written, keyed(Some(0), request_for(CHEAP), 1));
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::KeyConflict, "replay.key_conflict")
    );
    written.perform(Command::Cancel { ticket: 1 }).unwrap();
    assert_eq!(written.state.balance(0).unwrap().reserved, 0);
    written.perform(keyed(Some(0), request_for(CHEAP), 1)).unwrap();
    let number = |written: &Written| {
        written
            .state
            .ticket_of_key(&Digest::from_bytes([1; 32]))
            .unwrap()
            .request()
            .fields()
            .request_sequence
    };
    assert_eq!(number(&written), 2);
    written
        .perform(Command::Settle {
            ticket: 2,
            used: cost(1),
        })
        .unwrap();
    assert_eq!(number(&written), 2);
    assert_eq!(
        refused(&mut written, keyed(Some(0), request_for(DEAR), 1)).kind(),
        ErrorKind::KeyConflict
    );
    // Keys of refusals and rejections stand too.
    written.perform(keyed(None, request_for(99), 2)).unwrap();
    assert_eq!(
        refused(&mut written, keyed(None, request_for(99), 2)).kind(),
        ErrorKind::KeyConflict
    );
}

#[test]
fn outcomes_count_revisions_and_keep_to_what_can_have_happened() {
    let mut written = Written::with_account(1_000_000);
    written.perform(decide(Some(0), request_for(CHEAP))).unwrap(); // 1: open, then settled
    written.perform(decide(Some(0), request_for(CHEAP))).unwrap(); // 2: cancelled
    written.perform(decide(Some(0), request_for(99))).unwrap(); // 3: rejected
    written
        .perform(decide(
            Some(0),
            Request::new(RequestFields {
                output_tokens: 1_000_000,
                ..steps::fields(9_000)
            })
            .unwrap(),
        ))
        .unwrap(); // 4: denied
    written.perform(Command::Cancel { ticket: 2 }).unwrap();
    let revision = |written: &mut Written, command| match written.perform(command).unwrap() {
        Record::Outcome(OutcomeRecord { revision, .. }) => revision,
        other => panic!("{other:?}"),
    };
    assert_eq!(revision(&mut written, observe(1, Disposition::InFlight, None)), 1);
    written
        .perform(Command::Settle {
            ticket: 1,
            used: cost(1),
        })
        .unwrap();
    assert_eq!(revision(&mut written, observe(1, Disposition::Applied, Some(true))), 2);
    assert_eq!(revision(&mut written, observe(1, Disposition::Applied, Some(false))), 3);
    for ticket in 2..=4 {
        let hash = Digest::from_bytes([9; 32]);
        let error = refused(&mut written, Command::Audit { ticket, hash });
        assert_eq!(error.code(), "replay.nothing_selected");
        let error = refused(&mut written, observe(ticket, Disposition::Applied, Some(true)));
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::NothingSelected, "replay.nothing_selected")
        );
        assert_eq!(
            refused(&mut written, observe(ticket, Disposition::InFlight, None)).kind(),
            ErrorKind::NothingSelected
        );
        assert_eq!(revision(&mut written, observe(ticket, Disposition::Abandoned, None)), 1);
    }
    for contradiction in [
        observe(1, Disposition::Applied, None),
        observe(1, Disposition::Abandoned, Some(true)),
        observe(1, Disposition::InFlight, Some(false)),
    ] {
        let error = refused(&mut written, contradiction);
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::BadOutcome, "replay.bad_outcome")
        );
    }
}

#[test]
fn every_command_that_cannot_be_is_refused_with_its_code() {
    let mut written = Written::with_account(1_000_000);
    written.perform(decide(Some(0), request_for(CHEAP))).unwrap();
    written.perform(decide(Some(0), request_for(CHEAP))).unwrap();
    written.perform(Command::Cancel { ticket: 2 }).unwrap();
    let other_policy = Command::Decide {
        policy: 1,
        account: None,
        request: request_for(FREE),
        caller_key: None,
        proposed: None,
    };
    let settle = |ticket, used| Command::Settle { ticket, used };
    let cases = [
        ("replay.unknown_policy", other_policy),
        ("replay.unknown_account", decide(Some(1), request_for(FREE))),
        ("replay.unknown_account", Command::TopUp { account: 1, amount: 5 }),
        ("replay.unknown_account", Command::SetCap { account: 1, cap: None }),
        ("replay.unknown_ticket", settle(3, cost(1))),
        ("replay.unknown_ticket", settle(0, cost(1))),
        ("replay.unknown_ticket", Command::Cancel { ticket: u64::MAX }),
        ("replay.unknown_ticket", observe(3, Disposition::Abandoned, None)),
        ("replay.already_closed", settle(2, cost(1))),
        ("replay.already_closed", Command::Cancel { ticket: 2 }),
        ("replay.no_cost", settle(1, Use::default())),
        (
            "replay.no_cost",
            settle(
                1,
                Use {
                    input_tokens: Some(1),
                    ..Use::default()
                },
            ),
        ),
        ("replay.amount_out_of_range", settle(1, cost(1 << 63))),
        ("ledger.invalid_amount", Command::TopUp { account: 0, amount: 0 }),
        (
            "ledger.overflow",
            Command::TopUp {
                account: 0,
                amount: i64::MAX,
            },
        ),
        (
            "ledger.invalid_amount",
            Command::SetCap {
                account: 0,
                cap: Some(-1),
            },
        ),
        ("ledger.invalid_amount", Command::OpenAccount { initial: -1 }),
    ];
    for (code, command) in cases {
        assert_eq!(refused(&mut written, command).code(), code);
    }
    assert!(matches!(
        written.state.ticket(1),
        Some(Ticket::Decided {
            status: Status::Open(Some(_)),
            ..
        })
    ));
}

#[test]
fn audits_belong_to_what_was_acted_on_and_change_nothing() {
    let mut written = Written::with_account(1_000_000);
    written.perform(decide(Some(0), request_for(CHEAP))).unwrap();
    let (first, second) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
    let audit = |hash| Command::Audit { ticket: 1, hash };
    let before = written.state.ticket(1).cloned().unwrap();
    for hash in [first, first, second] {
        assert_eq!(written.perform(audit(hash)).unwrap(), Record::Audit { ticket: 1, hash });
    }
    assert_eq!(format!("{:?}", written.state.ticket(1).unwrap()), format!("{before:?}"));
    written
        .perform(Command::Settle {
            ticket: 1,
            used: cost(1),
        })
        .unwrap();
    written.perform(audit(second)).unwrap();
    let unknown = Command::Audit { ticket: 9, hash: first };
    assert_eq!(refused(&mut written, unknown).code(), "replay.unknown_ticket");
    let (seq, kind, payload) = written.records.last().unwrap();
    assert_eq!((*kind, payload.len()), (Kind::Audit, 8 + 32));
    for changed in [&payload[..39], &[payload.as_slice(), &[0]].concat()] {
        let error = written.state.replay(*seq, *kind, changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreadable);
    }
}

#[test]
fn a_record_that_does_not_follow_is_refused_and_says_what() {
    let mut written = Written::with_account(1_000_000);
    written.perform(keyed(Some(0), request_for(CHEAP), 4)).unwrap();
    written
        .perform(Command::Settle {
            ticket: 1,
            used: cost(5),
        })
        .unwrap();
    written.perform(observe(1, Disposition::Applied, Some(true))).unwrap();
    written.perform(Command::TopUp { account: 0, amount: 5 }).unwrap();
    written
        .perform(Command::SetCap {
            account: 0,
            cap: Some(9),
        })
        .unwrap();
    type Change = (usize, &'static str, fn(Record) -> Record);
    let changes: [Change; 9] = [
        (0, "a policy's number", |record| match record {
            Record::Policy { policy, provenance, .. } => Record::Policy {
                number: 1,
                policy,
                provenance,
            },
            other => other,
        }),
        (1, "an account's number", |record| match record {
            Record::Account { balance, .. } => Record::Account { account: 1, balance },
            other => other,
        }),
        (2, "the number of a request", |record| {
            let record = decision(record);
            let request = record.request.numbered(2);
            let decision = Decision {
                request_sequence: 2,
                ..record.decision
            };
            Record::Decision(Arc::new(DecisionRecord {
                request,
                decision,
                ..(*record).clone()
            }))
        }),
        (2, "a decision's identity", |record| {
            let record = decision(record);
            Record::Decision(Arc::new(DecisionRecord {
                identity: Digest::from_bytes([0; 32]),
                ..(*record).clone()
            }))
        }),
        (2, "a decision's holding", |record| {
            let record = decision(record);
            Record::Decision(Arc::new(DecisionRecord {
                holding: Holding::Unheld,
                ..(*record).clone()
            }))
        }),
        (3, "a settlement's charged is written as 4 but follows as 5", |record| {
            Record::Settlement(SettlementRecord {
                charged: 4,
                ..settlement(record)
            })
        }),
        (4, "an outcome's digest", |record| match record {
            Record::Outcome(record) => Record::Outcome(OutcomeRecord {
                digest: Digest::from_bytes([7; 32]),
                ..record
            }),
            other => other,
        }),
        (5, "an account's balance", |record| match record {
            Record::TopUp { account, balance, .. } => Record::TopUp {
                account,
                amount: 6,
                balance,
            },
            other => other,
        }),
        (6, "an account's balance", |record| match record {
            Record::Cap { account, balance } => Record::Cap {
                account,
                balance: Balance {
                    remaining: 0,
                    ..balance
                },
            },
            other => other,
        }),
    ];
    for (at, what, change) in changes {
        let mut state = State::new();
        for (seq, kind, payload) in &written.records[..at] {
            state.replay(*seq, *kind, payload).unwrap();
        }
        let (seq, kind, payload) = &written.records[at];
        let mut changed = Vec::new();
        change(Record::decode(*kind, payload).unwrap()).encode(&mut changed);
        assert_ne!(&changed, payload);
        let error = state.replay(*seq, *kind, &changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disagrees, "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
}

#[test]
fn a_decision_is_no_refusal_and_a_refusal_no_decision() {
    let mut written = Written::with_account(10_000);
    written.perform(decide(None, request_for(CHEAP))).unwrap();
    let (_, _, payload) = written.records.last().unwrap();
    let record = decision(Record::decode(Kind::Decision, payload).unwrap());
    // The same request written as if the ceiling had refused it.
    let mut refusal = Vec::new();
    Record::Refusal(Arc::new(decidable_replay::RefusalRecord {
        account: None,
        request: record.request.clone(),
        caller_key: None,
    }))
    .encode(&mut refusal);
    let mut fresh = Written::with_account(10_000);
    let error = fresh.state.replay(9, Kind::Refusal, &refusal).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disagrees);
    // A risky request written as if a policy had decided it.
    let risky = Request::new(RequestFields {
        risk_bps: 9_900,
        ..*record.request.fields()
    })
    .unwrap();
    let made_up = cheapest(1).decide(&risky);
    let mut bold = Vec::new();
    let identity = identity(&cheapest(1), &risky, &made_up);
    Record::Decision(Arc::new(DecisionRecord {
        request: risky,
        decision: made_up,
        identity,
        ..(*record).clone()
    }))
    .encode(&mut bold);
    let error = fresh_state().replay(9, Kind::Decision, &bold).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disagrees);
}

fn fresh_state() -> State {
    Written::with_account(10_000).state
}

#[test]
fn bytes_that_are_no_record_are_unreadable() {
    let mut written = Written::with_account(10_000);
    written.perform(keyed(Some(0), request_for(CHEAP), 1)).unwrap();
    for (_, kind, payload) in &written.records {
        for length in 0..payload.len() {
            let error = Record::decode(*kind, &payload[..length]).unwrap_err();
            assert_eq!(
                (error.kind(), error.code()),
                (ErrorKind::Unreadable, "replay.unreadable")
            );
            assert!(error.to_string().contains(kind.label()));
        }
        let longer = [payload.as_slice(), &[0]].concat();
        assert_eq!(
            Record::decode(*kind, &longer).unwrap_err().kind(),
            ErrorKind::Unreadable
        );
    }
    assert_eq!(Kind::from_code(15), None);
    assert_eq!(Kind::from_code(26), None);
    assert_eq!(Kind::ALL.map(Kind::code), [16, 17, 18, 19, 20, 21, 22, 23, 24, 25]);
}

#[test]
fn a_policy_that_is_not_the_one_of_its_digest_is_refused() {
    let written = Written::with_account(10_000);
    let (seq, kind, payload) = &written.records[0];
    let mut changed = payload.clone();
    changed[4] ^= 1;
    let error = State::new().replay(*seq, *kind, &changed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disagrees);
    assert!(error.to_string().contains("the digest of a policy"));
}

/// The layouts of docs/spec/records.md, written by hand.
#[test]
fn records_have_the_bytes_of_the_specification() {
    let mut written = Written::with_account(10_000);
    let request = request_for(CHEAP)
        .with_max_output_tokens(400)
        .unwrap()
        .with_quotes(vec![(DEAR, 900_000), (9, 8)])
        .unwrap();
    let record = decision(written.perform(keyed(Some(0), request.clone(), 6)).unwrap());
    let used = Use {
        latency_ms: Some(3),
        durable_ns: Some(4),
        ..cost(8_000)
    };
    written.perform(Command::Settle { ticket: 1, used }).unwrap();
    written.perform(observe(1, Disposition::Applied, Some(true))).unwrap();
    written.perform(decide(None, request_for(FREE))).unwrap();
    written.perform(Command::Cancel { ticket: 2 }).unwrap();
    let risky = Request::new(RequestFields {
        risk_bps: 10_000,
        ..RequestFields::default()
    })
    .unwrap();
    written.perform(keyed(Some(0), risky.clone(), 5)).unwrap();
    written.perform(Command::TopUp { account: 0, amount: 11 }).unwrap();
    written
        .perform(Command::SetCap {
            account: 0,
            cap: Some(12),
        })
        .unwrap();
    written.perform(decide(Some(0), request_for(DEAR))).unwrap();

    let balance = |figures: [i64; 5], cap: Option<i64>| {
        let mut out = Vec::new();
        figures.iter().for_each(|figure| out.i64(*figure));
        out.option(cap, Vec::i64);
        out
    };
    let plain_request = |fields: &RequestFields, most: u32, quotes: &[(u32, u64)]| {
        let mut out = Vec::new();
        out.u64(fields.request_sequence);
        out.u32(fields.requested_model_id);
        out.u32(fields.input_tokens);
        out.u32(fields.output_tokens);
        out.i64(fields.business_value_microunits);
        out.u64(fields.budget_limit_microunits);
        out.u16(fields.risk_bps);
        out.u16(fields.confidence_bps);
        out.u16(fields.minimum_quality_bps);
        out.u32(fields.max_p95_latency_ms);
        out.u64(fields.required_capabilities);
        out.u64(fields.allowed_provider_mask);
        out.u64(fields.required_region_mask);
        out.u32(most);
        out.u32(u32::try_from(quotes.len()).unwrap());
        for (model, cost) in quotes {
            out.u32(*model);
            out.u64(*cost);
        }
        out
    };
    let mut expected: Vec<Vec<u8>> = Vec::new();

    let policy = cheapest(1);
    let mut out = Vec::new();
    out.u32(0);
    out.put(policy.digest().bytes());
    out.u32(7);
    out.put(b"by hand");
    policy.encode(&mut out);
    expected.push(out);

    expected.push([0_u32.to_le_bytes().to_vec(), balance([10_000, 10_000, 0, 0, 0], None)].concat());

    let mut out = Vec::new();
    out.u32(0);
    out.put(&[1, 0, 0, 0, 0]);
    out.put(&plain_request(
        request.numbered(1).fields(),
        400,
        &[(DEAR, 900_000), (9, 8)],
    ));
    let mut layout = Vec::new();
    record.decision.encode(&mut layout);
    out.put(&layout);
    // An extended request has an extended identity; the kernel's own tests hold it to the specification.
    out.put(identity(&policy, &request.numbered(1), &record.decision).bytes());
    out.put(&[2]);
    match record.holding {
        Holding::Held { amount, .. } => {
            out.i64(amount);
            out.put(&balance([10_000, 10_000 - amount, amount, 0, 0], None));
        }
        other => panic!("{other:?}"),
    }
    out.put(&[1]);
    out.put(&[6; 32]);
    expected.push(out);

    let mut out = Vec::new();
    out.u64(1);
    out.put(&[1]);
    out.u64(8_000);
    out.put(&[0, 0, 1, 3, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0]);
    out.i64(8_000);
    out.i64(0);
    out.i64(0);
    out.put(&[1]);
    out.put(&balance([10_000, 2_000, 0, 8_000, 0], None));
    expected.push(out);

    let mut out = Vec::new();
    out.u64(1);
    out.u64(5);
    out.u32(1);
    out.put(&[0, 0, 0, 1, 1]);
    let selection = Selection {
        strategy: Strategy::MaximizeUtility,
        acted_model_id: record.decision.selected_model_id,
        propensity_bps: Some(10_000),
    };
    let outcome = Outcome {
        identity: record.identity,
        observed_at_micros: 5,
        revision: 1,
        selection: selection.digest(),
        disposition: Disposition::Applied,
        realized_cost_microunits: None,
        realized_latency_ms: None,
        succeeded: Some(true),
    };
    out.put(outcome.digest().bytes());
    expected.push(out);

    let unheld = &written.records[5].2;
    assert_eq!(unheld[unheld.len() - 2..], [1, 0]);
    expected.push(unheld.clone());

    expected.push(vec![2, 0, 0, 0, 0, 0, 0, 0, 0]);

    let mut out = vec![1, 0, 0, 0, 0];
    out.put(&plain_request(risky.numbered(3).fields(), 0, &[]));
    out.put(&[1]);
    out.put(&[5; 32]);
    expected.push(out);

    let mut out = vec![0, 0, 0, 0];
    out.i64(11);
    out.put(&balance([10_011, 2_011, 0, 8_000, 0], None));
    expected.push(out);

    expected.push([vec![0, 0, 0, 0], balance([10_011, 2_011, 0, 8_000, 0], Some(12))].concat());

    let denied = &written.records[10].2;
    let mut end = vec![3];
    end.u64(70_000);
    end.put(&[1]);
    end.put(&balance([10_011, 2_011, 0, 8_000, 0], Some(12)));
    end.put(&[0]);
    assert_eq!(denied[denied.len() - end.len()..], end);
    expected.push(denied.clone());

    for (at, ((_, kind, payload), expected)) in written.records.iter().zip(&expected).enumerate() {
        assert_eq!(payload, expected, "record {at} of kind {}", kind.label());
    }
    assert_eq!(written.records.len(), expected.len());
    assert_eq!(seen(&written.replay_on(State::new())), seen(&written.state));
}

#[test]
fn a_callers_key_is_the_digest_of_tag_log_and_key() {
    let mut bytes = b"dcdidk0\0".to_vec();
    bytes.put(&[7; 16]);
    bytes.str("req-8f2");
    assert_eq!(caller_key(&[7; 16], "req-8f2"), Digest::of(&bytes));
    assert_ne!(caller_key(&[8; 16], "req-8f2"), Digest::of(&bytes));
}
